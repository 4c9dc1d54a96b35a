#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""A line between LISTEN and SERVER (Unix sockets): what the server sends goes out in the order in
which it came, at BYTES-PER-SECOND for all connections together, and arrives SECONDS later.

usage: line.py LISTEN SERVER BYTES-PER-SECOND SECONDS
"""
import asyncio
import sys

listen, server, rate, delay = sys.argv[1], sys.argv[2], float(sys.argv[3]), float(sys.argv[4])
free = 0.0  # when the line has sent what it has


async def pass_on(reader, writer, slow):
    global free
    loop = asyncio.get_running_loop()
    while data := await reader.read(16384):
        if slow:
            free = max(free, loop.time()) + len(data) / rate
            # Bytes on the line keep their order; the reader may put more there.
            loop.call_at(free + delay, writer.write, data)
            await asyncio.sleep(max(0, free - loop.time() - 0.001))
        else:
            writer.write(data)
    writer.close()


async def connection(reader, writer):
    there, back = await asyncio.open_unix_connection(server)
    # An end that is closed in the middle of something is nothing to speak of.
    await asyncio.gather(pass_on(reader, back, False), pass_on(there, writer, True),
                         return_exceptions=True)


async def main():
    async with await asyncio.start_unix_server(connection, listen) as line:
        await line.serve_forever()


asyncio.run(main())
