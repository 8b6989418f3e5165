"""Step 5: a room."""

import asyncio

members = {}


async def serve_client(reader, writer):
    writer.write(b"* enter your name\n")
    name = (await reader.readline()).decode().strip()
    members[name] = writer
    broadcast(name, f"* {name} joined")
    while line := await reader.readline():
        broadcast(name, f"{name}: {line.decode().strip()}")
    del members[name]
    broadcast(name, f"* {name} left")
    writer.close()


def broadcast(sender, line):
    for name, writer in members.items():
        if name != sender:
            writer.write(line.encode() + b"\n")


async def main():
    server = await asyncio.start_server(serve_client, "127.0.0.1", 8004)
    print("listening on 127.0.0.1:8004", flush=True)
    async with server:
        await server.serve_forever()


asyncio.run(main())
