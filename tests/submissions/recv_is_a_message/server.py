"""A submission with the commonest bug: what one recv() returns is taken for one line.

Most of the rest is right, as long as each line arrives alone.
"""

import argparse
import re
import selectors
import signal
import socket
import sys
import time

parser = argparse.ArgumentParser()
parser.add_argument("--port", type=int)
port = parser.parse_known_args()[0].port
listener = socket.create_server(("127.0.0.1", port))
port = listener.getsockname()[1]
selector = selectors.DefaultSelector()
selector.register(listener, selectors.EVENT_READ)
names: dict[socket.socket, str] = {}
signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))


def choose_name(wanted: str) -> str:
    taken = {name.casefold() for name in names.values()}
    if not wanted:
        number = 1
        while f"guest{number}" in taken:
            number += 1
        return f"guest{number}"
    if not re.fullmatch(r"[\w-]{1,20}", wanted):
        raise ValueError("invalid name (1-20 letters, digits, _ or -)")
    if wanted.casefold() in taken:
        raise ValueError(f"name {wanted} is taken")
    return wanted


def answer(client: socket.socket, text: str) -> str:
    name = names[client]
    command, _, argument = text.partition(" ")
    if not name:
        names[client] = choose_name(text)
        return f"* hello {names[client]}"
    if command == "/help":
        return "* commands: /help /list /ping /work /quit"
    if command == "/list":
        there = sorted(filter(None, names.values()), key=str.casefold)
        return f"* {len(there)} online: {', '.join(there)}"
    if command == "/ping":
        return f"* pong {argument}".rstrip()
    if command == "/quit":
        return f"* bye {name}"
    if command == "/work":
        if not re.fullmatch("[0-9]{1,4}", argument) or not 1 <= int(argument) <= 1000:
            raise ValueError("usage: /work MS (1-1000)")
        end = time.thread_time() + int(argument) / 1000
        while time.thread_time() < end:
            pass
        return f"* worked {argument} ms"
    if command.startswith("/"):
        raise ValueError(f"unknown command: {command} (try /help)")
    return f"{name}: {text}"


def leave(client: socket.socket) -> None:
    selector.unregister(client)
    names.pop(client)
    client.close()


def serve(client: socket.socket) -> None:
    # Here is the bug: a line may come in two pieces, and a piece may hold two lines.
    data = client.recv(4096)
    if not data:
        leave(client)
        return
    try:
        reply = answer(client, data.decode().strip())
    except UnicodeDecodeError:
        reply = "! not valid UTF-8"
    except ValueError as refusal:
        reply = f"! {refusal}"
    client.sendall(reply.encode() + b"\n")
    if reply.startswith("* bye "):
        leave(client)


print(f"recv_is_a_message listening on 127.0.0.1:{port}", flush=True)
while True:
    for key, _ in selector.select():
        if key.fileobj is listener:
            newcomer, _ = listener.accept()
            newcomer.sendall(b"* recv_is_a_message: enter your name\n")
            names[newcomer] = ""
            selector.register(newcomer, selectors.EVENT_READ)
            continue
        try:
            serve(key.fileobj)
        except OSError:
            leave(key.fileobj)
