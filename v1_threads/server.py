#!/usr/bin/env python3
"""v1_threads: a thread per client, blocking sockets.

Each client has a thread of its own that does one thing after another: wait for input, answer,
wait again. While it waits it costs no CPU and stops nobody; what it was doing is simply where
it stands in the code. Limits: a thread costs some 40 KiB and a switch; what threads share needs
a lock; Python runs one at a time, so those that compute take turns. Try: python3 client.py v1
"""

import argparse
import contextlib
import itertools
import logging
import math
import os
import re
import signal
import socket
import struct
import threading
import time

VERSION, DEFAULT_PORT = "v1_threads", 8001
MAX_CLIENTS = 8000
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


def set_timeout(connection: socket.socket, option: int, seconds: float) -> None:
    """Set SO_RCVTIMEO or SO_SNDTIMEO: cheaper than settimeout(), which is a poll() per call."""
    seconds = 0 if seconds == math.inf else max(seconds, 0.001)  # 0 is never
    value = struct.pack("ll", int(seconds), int(seconds % 1 * 1e6))  # struct timeval: socket(7)
    value = value if os.name == "posix" else int(seconds * 1000)
    connection.setsockopt(socket.SOL_SOCKET, option, value)


class Client:
    """One connection. All but its name is the business of its own thread."""

    def __init__(self, connection: socket.socket, deadline: float) -> None:
        self.connection = connection
        self.name = ""  # until the handshake is done
        self.rest, self.skipping = b"", False  # of its input: see split_lines()
        self.outbox, self.leaving = bytearray(), False  # leaving, it goes when that is empty
        self.deadline, self.hurried = deadline, False  # hurried: SO_RCVTIMEO is what is left (L1)


class Server:
    """The clients, and what their threads do."""

    def __init__(self, listener: socket.socket, options: argparse.Namespace) -> None:
        self.listener, self.options = listener, options
        # What threads share takes a lock: a switch may come between any two steps, and then two
        # could both find a name free, or one list the members while another changes them.
        self.registry = threading.Lock()
        self.one_left = threading.Condition(self.registry)
        self.clients: set[Client] = set()  # every connection
        self.members: dict[str, Client] = {}  # those who are in, by casefolded name

    def accept_clients(self) -> None:
        """Start a thread for each client. This is a thread itself, for accept() blocks."""
        while not stop_signals:
            try:
                connection, _ = self.listener.accept()
            except OSError as error:  # EMFILE; without a pause accept() would fail again at once
                if not stop_signals:
                    logging.warning("cannot accept: %s", error)
                    time.sleep(PATIENCE)
                continue
            client = Client(connection, time.monotonic() + (self.options.idle_timeout or math.inf))
            with self.registry, contextlib.suppress(RuntimeError):  # no thread left for it (L2)
                if sum(not each.leaving for each in self.clients) < self.options.max_clients:
                    threading.Thread(target=self.on_connected, args=[client], daemon=True).start()
                    self.clients.add(client)
                    continue
            with connection, contextlib.suppress(OSError):  # it may be gone by now
                connection.send(b"! server full\n")

    def on_connected(self, client: Client) -> None:
        """Serve one client from beginning to end. Each client's thread is one call of this."""
        set_timeout(client.connection, socket.SO_RCVTIMEO, self.options.idle_timeout or math.inf)
        set_timeout(client.connection, socket.SO_SNDTIMEO, self.options.stall_timeout)
        self.send(client, f"* {VERSION}: enter your name")
        with contextlib.suppress(OSError):  # a reset, mostly: it ends this connection only (L6)
            self.flush(client)
            while not client.leaving and not stop_signals:
                self.on_readable(client)
            if stop_signals:
                self.send(client, "* server shutting down")
            self.leave(client)
            self.flush(client)
            client.connection.shutdown(socket.SHUT_WR)
            end = time.monotonic() + PATIENCE  # to close on input unread would be a reset
            set_timeout(client.connection, socket.SO_RCVTIMEO, PATIENCE)
            while time.monotonic() < end and client.connection.recv(READ_SIZE):
                pass
        self.leave(client)
        client.connection.close()
        with self.registry:
            self.clients.discard(client)
            self.one_left.notify()

    def on_readable(self, client: Client) -> None:
        """Wait for input, but no longer than the client may be idle, and answer it."""
        try:
            lines = split_lines(client, data := client.connection.recv(READ_SIZE))
            if data and not lines and time.monotonic() > client.deadline:
                raise BlockingIOError("bytes, but no line")
        except BlockingIOError:  # or SO_RCVTIMEO is over
            self.send(client, "! idle timeout")
            self.leave(client)
            return
        for line in lines:
            if not client.leaving:
                self.on_line(client, line)
            if len(client.outbox) > HIGH_WATER:
                self.flush(client)
        self.flush(client)
        if lines:  # the time it took to send is not idle time: we were not listening (L1)
            client.deadline = time.monotonic() + (self.options.idle_timeout or math.inf)
        if not data:  # it has said all, and has its answers (L5)
            self.leave(client)
        elif client.hurried or not lines:  # bytes alone do not put its deadline off
            client.hurried = not lines
            set_timeout(client.connection, socket.SO_RCVTIMEO, client.deadline - time.monotonic())

    def on_line(self, client: Client, line: bytes) -> None:
        try:
            text = decode_line(line)
            command, _, argument = text.partition(" ")
            if not client.name:
                with self.registry:  # to look and to take must be one step
                    client.name = choose_name(text, self.members)
                    self.members[client.name.casefold()] = client
                logging.info("%s joined", client.name)
                self.send(client, f"* hello {client.name}")
            elif command == "/work":  # in its own thread, so the others get their turns (GIL)
                self.send(client, burn_cpu(argument.strip()))
            elif command == "/quit":
                self.send(client, f"* bye {client.name}")
                self.leave(client)
            elif command.startswith("/"):
                with self.registry:
                    self.send(client, answer_command(command, argument.strip(), self.members))
            elif text:
                logging.debug("%s: %s", client.name, text)
                self.send(client, f"{client.name}: {text}")
        except ValueError as refusal:
            self.send(client, f"! {refusal}")

    def send(self, client: Client, line: str) -> None:
        """Put a line in the outbox: all that one read is answered with goes in one call."""
        client.outbox += line.encode() + b"\n"

    def flush(self, client: Client) -> None:
        """Block until the kernel has taken all, or nothing for SO_SNDTIMEO (an OSError, L3)."""
        while client.outbox:
            del client.outbox[: client.connection.send(client.outbox)]

    def leave(self, client: Client) -> None:
        """Free its name; on_connected() closes it once its outbox is empty."""
        with self.registry:
            member = self.members.pop(client.name.casefold(), None)
        if member:
            logging.info("%s left", client.name)
        client.name, client.leaving = "", True


def serve(signals: socket.socket, listener: socket.socket, options: argparse.Namespace) -> None:
    """Serve until a signal asks to stop; then say so to all, and have PATIENCE with them."""
    threading.stack_size(256 * 1024)  # enough for us; the usual 8 MiB times 8000 may be refused
    server = Server(listener, options)
    threading.Thread(target=server.accept_clients, daemon=True).start()
    signals.recv(1)  # Python handles signals in the main thread: so that one only waits for them
    with contextlib.suppress(OSError):  # macOS: it is not connected
        listener.shutdown(socket.SHUT_RDWR)  # or accept() would take one more
    listener.close()
    with server.registry:  # those who talk see the signal by themselves; who waits, does not
        server.one_left.wait_for(lambda: not server.clients, 0.1)
        for client in [each for each in server.clients if not (each.leaving or each.outbox)]:
            with contextlib.suppress(OSError):  # it has just left
                client.connection.shutdown(socket.SHUT_RD)  # to its thread, the end of input
        server.one_left.wait_for(lambda: not server.clients, 2 * PATIENCE)  # the rest: daemons


def main() -> None:
    options = parse_options()
    serve(catch_stop_signals(), open_listener(options.host, options.port), options)


if __name__ == "__main__":
    main()
