"""Step 4: an echo server."""

import asyncio


async def serve_client(reader, writer):
    writer.write(b"* hello\n")
    while line := await reader.readline():
        writer.write(b"you: " + line)
        await writer.drain()
    writer.close()


async def main():
    server = await asyncio.start_server(serve_client, "127.0.0.1", 8004)
    print("listening on 127.0.0.1:8004", flush=True)
    async with server:
        await server.serve_forever()


asyncio.run(main())
