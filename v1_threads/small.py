#!/usr/bin/env python3
"""v1_threads, the model alone: each client has a thread, and the thread waits in recv().

diff -u small.py server.py shows what a server needs beyond the model.
"""

import argparse
import socket
import threading

VERSION = "v1_threads"
DEFAULT_PORT = 8001
READ_SIZE = 16 * 1024


class Client:
    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.name = ""
        self.rest = b""
        self.leaving = False


class Server:
    def __init__(self, listener: socket.socket) -> None:
        self.listener = listener
        # Python may switch threads between any two steps. The lock makes several steps one.
        self.registry = threading.Lock()
        self.members: dict[str, Client] = {}

    def accept_clients(self) -> None:
        while True:
            client = Client(self.listener.accept()[0])
            threading.Thread(target=self.serve_client, args=[client], daemon=True).start()

    def serve_client(self, client: Client) -> None:
        try:
            self.send(client, f"* {VERSION}: enter your name")
            while not client.leaving:
                self.take_turn(client)
        except OSError:
            # A reset ends this thread, and no other.
            pass
        finally:
            self.drop(client)

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
            with self.registry:
                if text and text.casefold() not in self.members:
                    client.name = text
                    self.members[text.casefold()] = client
            self.send(client, f"* hello {text}" if client.name else f"! name {text} is taken")
        elif command == "/quit":
            self.send(client, f"* bye {client.name}")
            client.leaving = True
        elif command == "/list":
            with self.registry:
                names = [self.members[key].name for key in sorted(self.members)]
            self.send(client, f"* {len(names)} online: {', '.join(names)}")
        elif command == "/ping":
            self.send(client, f"* pong {argument.strip()}".rstrip())
        elif text:
            self.send(client, f"{client.name}: {text}")

    def send(self, client: Client, line: str) -> None:
        client.connection.sendall(line.encode() + b"\n")

    def drop(self, client: Client) -> None:
        with self.registry:
            self.members.pop(client.name.casefold(), None)
        client.connection.close()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=DEFAULT_PORT)
    listener = socket.create_server(("127.0.0.1", parser.parse_args().port))
    print(f"{VERSION} listening on 127.0.0.1:{listener.getsockname()[1]}", flush=True)
    Server(listener).accept_clients()


if __name__ == "__main__":
    main()
