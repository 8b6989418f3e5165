#!/usr/bin/env python3
"""v2_select: one thread, select(), non-blocking sockets.

One thread serves all, as it waits for none: select() tells which sockets can be read or
written now. Half a line, half an answer, what a thread of v1 had on its stack, is kept by
hand; in return nothing needs a lock. Limits: each turn tells select() of every client, so
idle ones cost; no descriptor from 1024 up; what computes stops all. Try: python3 client.py v2
"""

import argparse
import contextlib
import itertools
import logging
import math
import os
import re
import select
import signal
import socket
import time

VERSION, DEFAULT_PORT = "v2_select", 8002
MAX_CLIENTS, FD_SETSIZE = (1000, 1024) if os.name == "posix" else (500, math.inf)  # see select(2)
COMMANDS = "/help /list /ping [TEXT] /work MS /quit"
# ==== The shared protocol section: the same bytes in all four servers ====
MAX_LINE = 1024  # bytes in a line, its ending not counted (F2)
HIGH_WATER = 256 * 1024  # bytes of unsent output above which a server stops reading (L3)
READ_SIZE = 16 * 1024  # bytes to read at once; what they are answered with is one batch (L3)
PATIENCE = 0.75  # seconds: until accept() is tried again, and for a client to take its last words
CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f]")  # category Cc without the tab (F4)
stop_signals: list[int] = []  # once a SIGINT or SIGTERM is in it, the server stops (L4)


def split_lines(client: "Client", data: bytes) -> list[bytes]:
    """Return the lines that `data` ends, however it came split or glued (F2, F3, F5)."""
    if client.skipping:  # the rest of a line that was refused
        _, ending, data = data.partition(b"\n")
        client.skipping = not ending
    *lines, client.rest = (client.rest + data).split(b"\n")
    if len(client.rest) > MAX_LINE + 1:  # too long even if a CR is its last byte: refuse it now
        lines.append(client.rest)  # and forget the rest, or an endless line would fill the memory
        client.rest, client.skipping = b"", True
    return lines


def decode_line(line: bytes) -> str:
    """Return the text of a line; a ValueError holds what follows `! ` (F1, F2, F4, F6)."""
    if len(line := line.removesuffix(b"\r")) > MAX_LINE:
        raise ValueError(f"line too long (limit {MAX_LINE} bytes)")
    try:
        text = line.decode()  # only now that it is whole: a read may end inside a character
    except UnicodeDecodeError:
        raise ValueError("not valid UTF-8") from None
    if CONTROL.search(text):
        raise ValueError("control characters are not allowed")
    return text.strip()


def choose_name(wanted: str, members: dict) -> str:
    """Return the name that a handshake line asks for (H2, H5), or raise ValueError (H4)."""
    if not wanted:
        return next(name for n in itertools.count(1) if (name := f"guest{n}") not in members)
    if not re.fullmatch(r"[\w-]{1,20}", wanted):
        raise ValueError("invalid name (1-20 letters, digits, _ or -)")
    if wanted.casefold() in members:
        raise ValueError(f"name {wanted} is taken")
    return wanted


def answer_command(command: str, argument: str, members: dict) -> str:
    """Return the answer to a command that concerns its sender alone (C1-C3, C5)."""
    if command == "/ping":
        return f"* pong {argument}".rstrip()
    if command == "/list":
        return f"* {len(members)} online: {', '.join(members[key].name for key in sorted(members))}"
    if command == "/help":
        return f"* commands: {COMMANDS}"
    raise ValueError(f"unknown command: {command} (try /help)")


def burn_cpu(argument: str) -> str:
    """Compute for `/work MS` (C6), by the thread's own clock: two at once take twice as long."""
    if not re.fullmatch("[1-9][0-9]{0,2}|1000", argument):
        raise ValueError("usage: /work MS (1-1000)")
    end = time.thread_time() + int(argument) / 1000
    while time.thread_time() < end and not stop_signals:  # a stop cuts it short
        pass
    return f"* worked {argument} ms"


def catch_stop_signals() -> socket.socket:
    """Return a socket that SIGINT or SIGTERM makes readable: a flag alone would wake nobody."""
    receiver, sender = socket.socketpair()
    sender.setblocking(False)
    signal.set_wakeup_fd(sender.detach())  # the self-pipe trick: each signal writes a byte to it
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _, keep=receiver: stop_signals.append(number))
    return receiver


def open_listener(host: str, port: int) -> socket.socket:
    """Listen, and say where on stdout; if that fails, end the program with one line."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((host, port), family=family, backlog=socket.SOMAXCONN)
    except (OSError, OverflowError, UnicodeError) as error:
        raise SystemExit(f"{VERSION}: cannot listen on {host} port {port}: {error}") from None
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # accept() hands it on
    host, port = listener.getsockname()[:2]
    print(f"{VERSION} listening on {f'[{host}]' if ':' in host else host}:{port}", flush=True)
    return listener


def parse_options() -> argparse.Namespace:
    """Read the command line; a mistake ends the program with one line and status 2."""
    parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.error = lambda message: parser.exit(2, f"{VERSION}: {message} (try --help)\n")
    parser.add_argument("--host", default="127.0.0.1", help="name or address to listen on")
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, help="0 takes a free one")
    parser.add_argument("--idle-timeout", type=float, default=300, help="seconds; 0 is never")
    parser.add_argument("--stall-timeout", type=float, default=1, help="seconds")
    parser.add_argument("--max-clients", type=int, default=MAX_CLIENTS, help="more are refused")
    parser.add_argument("--verbose", action="store_true", help="log every message")
    options = parser.parse_args()
    for name, lowest in (("idle_timeout", 0), ("stall_timeout", 0.001), ("max_clients", 1)):
        if not lowest <= getattr(options, name) <= 1_000_000:  # false for nan, too
            parser.error(f"--{name.replace('_', '-')} must be from {lowest} to 1000000")
    logging.basicConfig(level=logging.DEBUG if options.verbose else logging.INFO)
    return options


# ==== End of the shared protocol section ====


class Client:
    """One connection: what the loop has to remember of it from turn to turn."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection, self.fd = connection, connection.fileno()
        self.name = ""  # until the handshake is done
        self.rest, self.skipping, self.outbox = b"", False, bytearray()  # see split_lines(), send()
        self.deadline, self.leaving = math.inf, False  # for a line (L1) or, held back, reading (L3)


class Server:
    """The clients, and the loop's view of them: whom to read, whom to write, until when."""

    def __init__(self, signals: socket.socket, listener: socket.socket, options) -> None:
        self.signals, self.listener, self.options = signals, listener, options
        self.clients: dict[int, Client] = {}  # every connection, by descriptor
        self.members: dict[str, Client] = {}  # those who are in, by casefolded name
        self.readers, self.writers = {listener.fileno(), signals.fileno()}, set()  # descriptors
        listener.setblocking(False)  # who made select() report it may be gone at accept()
        self.now, self.next_deadline = time.monotonic(), math.inf  # no client's is earlier

    def turn(self) -> None:
        """Wait until something can be done, do it, and send what it produced."""
        wait = min(max(0, self.next_deadline - self.now), 3600)
        readable, _, _ = select.select(self.readers, self.writers, (), wait)
        self.now = time.monotonic()
        for fd in readable:
            if fd in self.clients:
                self.attempt(self.on_readable, self.clients[fd])
        for fd in list(self.writers):  # to try costs less than to ask select() first
            self.attempt(self.on_writable, self.clients[fd])
        if self.listener.fileno() in readable:
            self.on_acceptable()
        if self.now >= self.next_deadline:
            self.on_deadline()

    def attempt(self, action, client: Client) -> None:
        try:
            action(client)
        except BlockingIOError:  # not now, then; select() may be wrong, too: select(2), BUGS
            pass
        except OSError:  # a reset, mostly: it ends this connection and no other (L6)
            self.leave(client, at_once=True)

    def on_acceptable(self) -> None:
        try:
            connection, _ = self.listener.accept()
        except OSError as error:  # EMFILE; without a pause select() would call again at once
            logging.warning("cannot accept: %s", error)
            self.readers.discard(self.listener.fileno())
            self.next_deadline = min(self.next_deadline, self.now + PATIENCE)
            return
        connection.setblocking(False)
        count = sum(not client.leaving for client in self.clients.values())
        if count >= self.options.max_clients or connection.fileno() >= FD_SETSIZE:
            with connection, contextlib.suppress(OSError):  # it may be gone by now
                connection.send(b"! server full\n")
            return
        client = self.clients[connection.fileno()] = Client(connection)
        self.readers.add(client.fd)
        self.set_deadline(client, self.options.idle_timeout)
        self.send(client, f"* {VERSION}: enter your name")

    def on_readable(self, client: Client) -> None:
        for line in split_lines(client, data := client.connection.recv(READ_SIZE)):
            if not client.leaving:
                self.on_line(client, line)
        if not data:  # it has said all, yet may still listen: close when it has its answers (L5)
            self.leave(client)
            self.readers.discard(client.fd)

    def on_line(self, client: Client, line: bytes) -> None:
        self.set_deadline(client, self.options.idle_timeout)
        try:
            text = decode_line(line)
            command, _, argument = text.partition(" ")
            if not client.name:
                client.name = choose_name(text, self.members)
                self.members[client.name.casefold()] = client
                logging.info("%s joined", client.name)
                self.send(client, f"* hello {client.name}")
            elif command == "/work":  # there is nowhere to put it: until it is done all wait
                self.send(client, burn_cpu(argument.strip()))
            elif command == "/quit":
                self.send(client, f"* bye {client.name}")
                self.leave(client)
            elif command.startswith("/"):
                self.send(client, answer_command(command, argument.strip(), self.members))
            elif text:
                logging.debug("%s: %s", client.name, text)
                self.send(client, f"{client.name}: {text}")
        except ValueError as refusal:
            self.send(client, f"! {refusal}")

    def send(self, client: Client, line: str) -> None:
        """Put a line in the outbox: all that one turn puts there goes in one call."""
        client.outbox += line.encode() + b"\n"
        self.writers.add(client.fd)
        if len(client.outbox) > HIGH_WATER:  # read no more from it until it reads, too (L3)
            self.readers.discard(client.fd)
            self.set_deadline(client, self.options.stall_timeout)

    def on_writable(self, client: Client) -> None:
        if client.outbox:
            del client.outbox[: client.connection.send(client.outbox)]
        if not client.outbox:
            self.writers.discard(client.fd)
            if client.leaving and client.fd in self.readers:  # it has not said all: to close now
                client.connection.shutdown(socket.SHUT_WR)  # would be a reset (RFC 2525, 2.17)
                self.set_deadline(client, min(PATIENCE, client.deadline - self.now))
            elif client.leaving:
                del self.clients[client.fd]
                client.connection.close()
        if len(client.outbox) <= HIGH_WATER and not (client.leaving or client.fd in self.readers):
            self.readers.add(client.fd)
            self.set_deadline(client, self.options.idle_timeout)

    def set_deadline(self, client: Client, seconds: float) -> None:
        client.deadline = time.monotonic() + (seconds or math.inf)
        self.next_deadline = min(self.next_deadline, client.deadline)

    def on_deadline(self) -> None:
        self.readers |= set() if stop_signals else {self.listener.fileno()}  # accept() may work now
        for client in [c for c in self.clients.values() if c.deadline <= self.now]:
            if client.leaving or len(client.outbox) > HIGH_WATER:
                self.leave(client, at_once=True)
            else:
                self.send(client, "! idle timeout")
                self.set_deadline(client, self.options.stall_timeout)
                self.leave(client)
        self.next_deadline = min((c.deadline for c in self.clients.values()), default=math.inf)

    def leave(self, client: Client, at_once: bool = False) -> None:
        """Free its name; on_writable() closes it once its outbox is empty, or as it is."""
        if self.members.pop(client.name.casefold(), None):
            logging.info("%s left", client.name)
        client.name, client.leaving = "", True
        self.writers.add(client.fd)
        self.readers.add(client.fd)  # to know when it has said all
        if at_once:
            client.outbox.clear()
            self.readers.discard(client.fd)


def serve(signals: socket.socket, listener: socket.socket, options: argparse.Namespace) -> None:
    """Serve until a signal asks to stop; then say so to all, and have PATIENCE with them."""
    server = Server(signals, listener, options)
    while not stop_signals:
        server.turn()
    server.readers -= {signals.fileno(), listener.fileno()}
    listener.close()
    for client in server.clients.values():
        server.send(client, "* server shutting down")
        server.leave(client)
        server.set_deadline(client, PATIENCE)
    while server.clients:
        server.turn()


def main() -> None:
    options = parse_options()
    serve(catch_stop_signals(), open_listener(options.host, options.port), options)


if __name__ == "__main__":
    main()
