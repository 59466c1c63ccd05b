"""asyncio streams: closed without wait_closed(), or forgotten by a handler after the EOF."""

import asyncio
import os
import sys

from network import CLOSE_WAIT, states, until

how = sys.argv[1]
told = asyncio.Event()


async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(await reader.readline())
    assert await reader.read() == b""
    told.set()
    if how == "forgotten":
        await asyncio.Event().wait()
    writer.close()


async def main() -> None:
    server = await asyncio.start_server(handle, "127.0.0.1", 8080)
    reader, writer = await asyncio.open_connection("127.0.0.1", 8080)
    writer.write(b"hello\n")
    assert await reader.readline() == b"hello\n"
    writer.close()
    if how == "forgotten":
        await told.wait()
        os._exit(0)
    await reader.read()
    server.close()


asyncio.run(main())
until(lambda: CLOSE_WAIT not in states(8080))
