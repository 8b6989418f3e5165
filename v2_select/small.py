#!/usr/bin/env python3
"""v2_select, the model alone: one thread for all clients, and select() is where it waits.

diff -u small.py server.py shows what a server needs beyond the model.
"""

import argparse
import select
import socket
from collections.abc import Callable

VERSION = "v2_select"
DEFAULT_PORT = 8002
READ_SIZE = 16 * 1024


class Client:
    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.name = ""
        self.rest = b""
        # Output that the kernel has not taken yet, because send() may take only a part.
        self.outbox = bytearray()
        self.leaving = False


class Server:
    def __init__(self, listener: socket.socket) -> None:
        self.listener = listener
        self.clients: dict[int, Client] = {}
        self.members: dict[str, Client] = {}

    def run_round(self) -> None:
        readers = [fd for fd, client in self.clients.items() if not client.leaving]
        writers = [fd for fd, client in self.clients.items() if client.outbox or client.leaving]
        readable, writable, _ = select.select([self.listener.fileno(), *readers], writers, [])
        for fd in readable:
            if fd == self.listener.fileno():
                self.accept_clients()
            else:
                self.attempt(self.take_turn, self.clients[fd])
        for fd in writable:
            if fd in self.clients:
                self.attempt(self.flush, self.clients[fd])

    def attempt(self, action: Callable[[Client], None], client: Client) -> None:
        try:
            action(client)
        # A reset ends this client. Uncaught it would end the loop, and with it everyone.
        except OSError:
            self.drop(client)

    def accept_clients(self) -> None:
        connection, _ = self.listener.accept()
        connection.setblocking(False)
        client = Client(connection)
        self.clients[connection.fileno()] = client
        self.send(client, f"* {VERSION}: enter your name")

    def take_turn(self, client: Client) -> None:
        data = client.connection.recv(READ_SIZE)
        # One recv() may bring half a line, or many lines. The last piece has no end yet.
        *lines, client.rest = (client.rest + data).split(b"\n")
        while lines and not client.leaving:
            self.on_line(client, lines.pop(0))
        # No data is the end of the client's input.
        if not data:
            client.leaving = True

    def on_line(self, client: Client, line: bytes) -> None:
        text = line.decode(errors="replace").strip()
        command, _, argument = text.partition(" ")
        if not client.name:
            if text and text.casefold() not in self.members:
                client.name = text
                self.members[text.casefold()] = client
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
            self.send(client, f"{client.name}: {text}")

    def send(self, client: Client, line: str) -> None:
        client.outbox += line.encode() + b"\n"

    def flush(self, client: Client) -> None:
        sent = client.connection.send(client.outbox)
        del client.outbox[:sent]
        if client.leaving and not client.outbox:
            self.drop(client)

    def drop(self, client: Client) -> None:
        self.members.pop(client.name.casefold(), None)
        del self.clients[client.connection.fileno()]
        client.connection.close()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=DEFAULT_PORT)
    listener = socket.create_server(("127.0.0.1", parser.parse_args().port))
    print(f"{VERSION} listening on 127.0.0.1:{listener.getsockname()[1]}", flush=True)
    server = Server(listener)
    while True:
        server.run_round()


if __name__ == "__main__":
    main()
