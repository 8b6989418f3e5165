#!/usr/bin/env python3
"""v4_asyncio, the model alone: each client has a coroutine, and all of them share one thread.

diff -u small.py server.py shows what a server needs beyond the model.
"""

import argparse
import asyncio
import socket

VERSION = "v4_asyncio"
DEFAULT_PORT = 8004


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.name = ""
        self.leaving = False


class Server:
    def __init__(self) -> None:
        # Other coroutines run only while one waits at an await, so this needs no lock.
        self.members: dict[str, Client] = {}

    async def serve_client(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        client = Client(reader, writer)
        try:
            self.send(client, f"* {VERSION}: enter your name")
            while not client.leaving:
                await self.take_turn(client)
        except OSError:
            # A reset ends this coroutine, and no other.
            pass
        finally:
            self.drop(client)

    async def take_turn(self, client: Client) -> None:
        line = await client.reader.readline()
        # No line is the end of the client's input.
        if line:
            self.on_line(client, line)
        else:
            client.leaving = True

    def on_line(self, client: Client, line: bytes) -> None:
        text = line.decode(errors="replace").strip()
        command, _, argument = text.partition(" ")
        if not client.name:
            if text and text.casefold() not in self.members:
                client.name = text
                self.members[text.casefold()] = client
                self.broadcast(client, f"* {text} joined")
            self.send(client, f"* hello {text}" if client.name else f"! name {text} is taken")
        elif command == "/quit":
            self.send(client, f"* bye {client.name}")
            client.leaving = True
        elif command == "/list":
            names = [self.members[key].name for key in sorted(self.members)]
            self.send(client, f"* {len(names)} online: {', '.join(names)}")
        elif command == "/ping":
            self.send(client, f"* pong {argument.strip()}".rstrip())
        elif text:
            self.broadcast(client, f"{client.name}: {text}")

    def broadcast(self, sender: Client, line: str) -> None:
        for client in self.members.values():
            if client is not sender:
                self.send(client, line)

    def send(self, client: Client, line: str) -> None:
        # This does not wait: what the kernel does not take, the stream keeps.
        client.writer.write(line.encode() + b"\n")

    def drop(self, client: Client) -> None:
        if self.members.pop(client.name.casefold(), None):
            self.broadcast(client, f"* {client.name} left")
        client.writer.close()


async def serve(listener: socket.socket) -> None:
    server = await asyncio.start_server(Server().serve_client, sock=listener)
    async with server:
        await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=DEFAULT_PORT)
    listener = socket.create_server(("127.0.0.1", parser.parse_args().port))
    print(f"{VERSION} listening on 127.0.0.1:{listener.getsockname()[1]}", flush=True)
    asyncio.run(serve(listener))


if __name__ == "__main__":
    main()
