"""uvicorn is told to end while a request is under way: it answers, then closes."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Awaitable, Callable

import uvicorn
from network import served


async def app(
    _scope: object, _receive: object, send: Callable[[dict[str, object]], Awaitable[None]]
) -> None:
    os.write(1, b"asked\n")
    await asyncio.sleep(0.2)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})


if len(sys.argv) > 1:
    uvicorn.run(app, port=8000, log_level="error", lifespan="off")
    sys.exit()

server = served([sys.executable, __file__, "serve"], 8000, stdout=subprocess.PIPE)
answers: list[bytes] = []


def ask() -> None:
    with urllib.request.urlopen("http://127.0.0.1:8000/") as answer:
        answers.append(answer.read())


thread = threading.Thread(target=ask)
thread.start()
assert server.stdout is not None
assert server.stdout.readline() == b"asked\n"
server.send_signal(signal.SIGTERM)
thread.join()
server.wait()
assert answers == [b"ok"], answers
