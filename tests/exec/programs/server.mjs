// A server of Node: it ends its sockets, or keeps them half open for good.
import net from "node:net";

const how = process.argv[2];
const server = net.createServer({ allowHalfOpen: how === "kept" }, (socket) => {
  socket.resume();
  socket.on("end", () => {
    if (how === "kept") process.reallyExit(0); // as a crash: nothing is closed
    server.close();
  });
});
server.listen(8080, "127.0.0.1", () => net.connect(8080, "127.0.0.1").end("hello"));
