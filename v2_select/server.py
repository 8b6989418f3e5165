#!/usr/bin/env python3
"""v2_select: one thread, select(), non-blocking sockets.

One thread can serve all as long as it waits for no single one: select() tells which sockets can be
read or written now. Half a line, half an answer, whose turn it is: what each thread of v1 had on
its stack, the loop has to remember. In return nothing needs a lock. Its limits: each turn tells
select() of every client, so idle ones cost; no descriptor above 1023; and one that computes makes
all wait.

Run it: python3 v2_select/server.py. Talk to it: python3 client.py v2
"""

import argparse
import contextlib
import io
import itertools
import logging
import math
import os
import re
import select
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import NoReturn

VERSION = "v2_select"
DEFAULT_PORT = 8002
# select() knows no descriptor above 1023; on Windows it knows 512 sockets, whatever their numbers.
MAX_CLIENTS = 1000 if os.name == "posix" else 500
FD_SETSIZE = 1024 if os.name == "posix" else math.inf
COMMANDS = "/help /list /ping [TEXT] /work MS /quit"

MAX_LINE = 1024  # bytes in a line, its ending not counted (F2)
READ_SIZE = 16 * 1024  # bytes of input that one turn of a client takes in at most (F7)
HIGH_WATER = 256 * 1024  # bytes of unsent output above which a client's lines have to wait (L3)
LINGER = 3.0  # seconds in which a client that has been told good-bye may go on sending (C4)
STOP_TIME = 1.0  # seconds in which clients may take their last words when the server stops (L4)
TICK = 0.1  # seconds between two looks at the clock, and at a listener that failed


class Client:
    """One connection: what the loop has to remember of it from turn to turn."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        # By this number select() knows it.
        self.fd = connection.fileno()
        # Empty until the handshake is done, and again when the client leaves.
        self.name = ""
        # The bytes of a line whose end has not come yet, and whether that line is too long.
        self.rest = b""
        self.skipping = False
        # Lines that have been read and wait for the client's turn. While there are any, no more
        # are read.
        self.lines: deque[bytes] = deque()
        # What has not been sent yet. All that one turn puts here is sent in one call, if it fits.
        self.outbox = bytearray()
        # How many milliseconds of work it has asked for; 0 when there is nothing to do.
        self.work = 0
        # Its outbox has been above HIGH_WATER, and is not down to half of that yet.
        self.congested = False
        # The end of its input has come.
        self.ended = False
        # It gets its last words, and whatever it says is ignored.
        self.leaving = False
        # The one time limit there is, on the clock of time.monotonic(). What it is for depends on
        # the state: to send a line (L1), to take output (congested, or leaving: L2, L3), or to
        # close after our last words (C4).
        self.deadline = math.inf


class Server:
    """The clients, and the loop's view of them: whom to read, whom to write, whose turn it is."""

    def __init__(self, listener: socket.socket, options: argparse.Namespace) -> None:
        self.listener = listener
        self.options = options
        # Every connection that has a place, by descriptor.
        self.clients: dict[int, Client] = {}
        # Those who are in, by casefolded name.
        self.members: dict[str, Client] = {}
        # Clients with lines to process, the one whose turn is next in front. A client that has had
        # its turn, and has lines left, goes to the end.
        self.ready: deque[Client] = deque()
        # The descriptors whose input is wanted, and those with output that waits.
        self.readers = {listener.fileno()}
        self.writers: set[int] = set()
        # accept() has failed: the listener is left alone up to the next tick.
        self.failing = False
        self.next_tick = time.monotonic() + TICK
        # The client that made select() report the listener may have given up before accept()
        # (see accept(2), ECONNABORTED). A blocking accept() would then wait for the next one.
        listener.setblocking(False)

    def turn(self) -> None:
        """Wait until something can be done, and do it: one turn of the loop."""
        seconds = TICK if self.clients or self.failing else None
        if self.ready:
            seconds = 0
        readable, _, _ = select.select(self.readers, self.writers, (), seconds)
        for fd in readable:
            if fd in self.clients:
                self.attempt(self.receive, self.clients[fd])
        if self.listener.fileno() in readable:
            self.accept_clients()
        # Only now it is known who has sent or read something while the last turn lasted long.
        if time.monotonic() >= self.next_tick:
            self.on_tick()
        # One turn each for those who are ready now. When that takes long (/work does), the rest of
        # them wait for the next turn of the loop, or meanwhile nobody would look at select().
        for _ in range(len(self.ready)):
            self.take_turn(self.ready.popleft())
            if time.monotonic() >= self.next_tick:
                break
        # Not only those that select() has reported: what was put in an outbox in this turn goes at
        # once, as most sockets have room.
        for fd in list(self.writers):
            self.attempt(self.flush, self.clients[fd])

    def attempt(self, action: Callable[[Client], None], client: Client) -> None:
        """Do what may fail with one client without any harm to the others."""
        try:
            action(client)
        # Not now, then. Even what select() has reported may not be so (select(2), BUGS).
        except BlockingIOError:
            pass
        # A reset, mostly: it ends this connection and no other (L6).
        except OSError as error:
            logging.debug("%s: %s", client.name, error)
            self.drop(client)

    def accept_clients(self) -> None:
        """Take in all who wait at the listener, at most as many as select() can watch."""
        for _ in range(MAX_CLIENTS):
            try:
                connection, _ = self.listener.accept()
            # That was the last one.
            except BlockingIOError:
                self.failing = False
                return
            except OSError as error:
                # Out of descriptors, mostly (EMFILE). select() would report the listener again at
                # once, so leave it alone for a tick; log it once, not ten times a second (L2).
                if not self.failing:
                    logging.warning("cannot accept: %s", error)
                self.failing = True
                self.readers.discard(self.listener.fileno())
                return
            if len(self.clients) >= self.options.max_clients or connection.fileno() >= FD_SETSIZE:
                refuse(connection)
                continue
            connection.setblocking(False)
            client = Client(connection)
            self.clients[client.fd] = client
            self.await_turn(client)
            self.send(client, f"* {VERSION}: enter your name")
            # One that knows what it wants has sent its name already.
            self.attempt(self.receive, client)

    def receive(self, client: Client) -> None:
        """Take in what has come, READ_SIZE bytes at most; its lines wait for the client's turn."""
        data = client.connection.recv(READ_SIZE)
        # The client has said all, yet it may still listen (L5). That input has ended is reported
        # for ever, so do not ask again.
        if not data:
            client.ended = True
            self.readers.discard(client.fd)
        if client.leaving:
            if client.ended and not client.outbox:
                self.drop(client)
            return
        client.lines.extend(split_lines(client, data))
        # Half a line is nothing to take a turn for. While whole ones wait, no more is read.
        if client.lines or client.ended or b"\n" in data:
            self.readers.discard(client.fd)
            self.ready.append(client)

    def take_turn(self, client: Client) -> None:
        """Process lines: all that one read brought, or as many as there is room to answer.

        So no client keeps the others waiting for longer than READ_SIZE bytes take, or one /work,
        and no outbox grows beyond HIGH_WATER by more than one answer (F7, L3). Work is left for
        the next turn: what has been answered before goes out first.
        """
        if client.work:
            self.do_work(client)
        while client.lines and not (client.work or client.leaving or stop_signals):
            self.on_line(client, client.lines.popleft())
            if len(client.outbox) > HIGH_WATER:
                break
        if client.leaving:
            self.finish(client)
        elif len(client.outbox) > HIGH_WATER:
            client.congested = True
            self.set_deadline(client, self.options.stall_timeout)
        else:
            self.await_turn(client)

    def await_turn(self, client: Client) -> None:
        """See to what is next for a client that may speak: its lines, its end, or its input."""
        if client.lines or client.work:
            self.ready.append(client)
        elif client.ended:
            self.finish(client)
        else:
            self.readers.add(client.fd)
            # From now on it is idle: no line of its own waits, or is being worked on (L1).
            self.set_deadline(client, self.options.idle_timeout)

    def on_line(self, client: Client, line: bytes) -> None:
        """Process one line: a name, a command or a text."""
        try:
            text = decode_line(line)
            command, _, argument = text.partition(" ")
            if not client.name:
                client.name = choose_name(text, self.members)
                self.members[client.name.casefold()] = client
                logging.info("%s joined", client.name)
                self.send(client, f"* hello {client.name}")
            elif command == "/work":
                client.work = parse_work(argument.strip())
            elif command == "/quit":
                self.send(client, f"* bye {client.name}")
                client.leaving = True
            elif command.startswith("/"):
                self.send(client, answer_command(command, argument.strip(), self.members))
            elif text:
                logging.debug("%s: %s", client.name, text)
                self.send(client, f"{client.name}: {text}")
        except ValueError as refusal:
            self.send(client, f"! {refusal}")

    def do_work(self, client: Client) -> None:
        """Compute what the client has asked for: there is no other place, so all wait."""
        self.send(client, burn_cpu(client.work))
        client.work = 0

    def send(self, client: Client, line: str) -> None:
        """Put a line in the outbox; this turn of the loop will try to send it."""
        client.outbox += line.encode() + b"\n"
        self.writers.add(client.fd)

    def flush(self, client: Client) -> None:
        """Send what the kernel takes of the outbox; the rest waits there for the next turn."""
        if client.outbox:
            sent = client.connection.send(client.outbox)
            del client.outbox[:sent]
            # It has taken something, so it is not stuck.
            if client.congested or client.leaving:
                self.set_deadline(client, self.options.stall_timeout)
        # Half, for near the mark each line would be a reason to stop again.
        if client.congested and len(client.outbox) <= HIGH_WATER // 2:
            client.congested = False
            self.await_turn(client)
        if not client.outbox:
            self.writers.discard(client.fd)
            if client.leaving:
                self.end_output(client)

    def set_deadline(self, client: Client, seconds: float) -> None:
        client.deadline = time.monotonic() + seconds

    def on_tick(self) -> None:
        """Look at the clock for everybody: a tenth of a second is precise enough for people.

        To look at 1000 clients costs less than one per cent of a processor.
        """
        now = time.monotonic()
        self.next_tick = now + TICK
        # Out of descriptors a moment ago, accept() may work by now.
        if not stop_signals:
            self.readers.add(self.listener.fileno())
        for client in list(self.clients.values()):
            if client.deadline > now:
                continue
            if client.leaving or client.congested:
                self.on_stalled(client)
            # Only who is listened to can be idle: who waits for its turn, or for work, is not.
            elif client.fd in self.readers:
                self.on_idle(client)

    def on_stalled(self, client: Client) -> None:
        """It has taken none of its output for too long, or does not close (L2, L3, C4)."""
        self.drop(client)

    def on_idle(self, client: Client) -> None:
        """It has sent no line for too long (L1)."""
        self.send(client, "! idle timeout")
        self.finish(client)

    def leave(self, client: Client) -> None:
        """Free its name (H5)."""
        client.leaving = True
        client.congested = False
        client.lines.clear()
        if client in self.ready:
            self.ready.remove(client)
        if self.members.pop(client.name.casefold(), None):
            logging.info("%s left", client.name)
        client.name = ""

    def finish(self, client: Client) -> None:
        """Let it go in good order: its last words, the end of our output, then its own end.

        To close while input is unread would be a reset, and the client could lose our last words
        (RFC 2525, section 2.17). So what it still sends is read and thrown away.
        """
        self.leave(client)
        self.set_deadline(client, self.options.stall_timeout)
        # flush() will see that it is leaving, even if there is nothing to send.
        self.writers.add(client.fd)
        if not client.ended:
            self.readers.add(client.fd)

    def end_output(self, client: Client) -> None:
        """It has been sent its last words: say that there are no more."""
        if client.ended:
            self.drop(client)
        else:
            client.connection.shutdown(socket.SHUT_WR)
            self.set_deadline(client, LINGER)

    def drop(self, client: Client) -> None:
        """Close at once; what was not sent yet is lost."""
        self.leave(client)
        self.readers.discard(client.fd)
        self.writers.discard(client.fd)
        del self.clients[client.fd]
        client.connection.close()

    def stop(self) -> None:
        """Give the clients time to take their last words (L4)."""
        end = time.monotonic() + STOP_TIME
        self.readers.discard(self.listener.fileno())
        self.listener.close()
        for client in list(self.clients.values()):
            if not client.leaving:
                self.send(client, "* server shutting down")
                self.finish(client)
        while self.clients and time.monotonic() < end:
            self.turn()


def serve(listener: socket.socket, signals: socket.socket, options: argparse.Namespace) -> None:
    """Serve until a signal asks to stop; then say so to all."""
    server = Server(listener, options)
    # Nobody reads from it: that select() returns is all that is wanted of a signal.
    server.readers.add(signals.fileno())
    while not stop_signals:
        server.turn()
    server.readers.discard(signals.fileno())
    server.stop()


# ==== The protocol ====
# From here to the next headline every byte is the same in all four servers. F2, C6 and so on are
# the numbers of the rules in PROTOCOL.md.

# Unicode category Cc, but for the tab: what could move the cursor of a terminal, or worse.
CONTROL_CHARACTER = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f]")


def split_lines(client: "Client", data: bytes) -> list[bytes]:
    """Return the lines whose end is in `data`, however they came split or glued (F2, F3, F5).

    TCP carries bytes, not messages: one read may bring half a line, or twenty and a half.
    """
    if client.skipping:
        _, line_end, data = data.partition(b"\n")
        client.skipping = not line_end
    *lines, client.rest = (client.rest + data).split(b"\n")
    # This can become no line any more, even if its last byte is the CR of an ending. It is refused
    # now, and its remainder forgotten as it arrives: an endless line would fill the memory.
    if len(client.rest) > MAX_LINE + 1:
        lines.append(client.rest)
        client.rest = b""
        client.skipping = True
    return lines


def decode_line(line: bytes) -> str:
    """Return the text of a line (F1, F6). Raises ValueError with the refusal (F2, F4)."""
    line = line.removesuffix(b"\r")
    if len(line) > MAX_LINE:
        raise ValueError(f"line too long (limit {MAX_LINE} bytes)")
    # Only a whole line can be decoded: a read may end in the middle of a character.
    try:
        text = line.decode()
    except UnicodeDecodeError:
        raise ValueError("not valid UTF-8") from None
    if CONTROL_CHARACTER.search(text):
        raise ValueError("control characters are not allowed")
    return text.strip()


def choose_name(wanted: str, members: dict) -> str:
    """Return the name that a handshake line asks for (H2, H5). Raises ValueError (H4)."""
    if not wanted:
        guests = (f"guest{number}" for number in itertools.count(1))
        return next(guest for guest in guests if guest not in members)
    if not re.fullmatch(r"[\w-]{1,20}", wanted):
        raise ValueError("invalid name (1-20 letters, digits, _ or -)")
    if wanted.casefold() in members:
        raise ValueError(f"name {wanted} is taken")
    return wanted


def answer_command(command: str, argument: str, members: dict) -> str:
    """Return the answer to a command that concerns its sender alone (C1, C2, C3).

    Raises ValueError for a command that does not exist (C5).
    """
    if command == "/ping":
        return f"* pong {argument}".rstrip()
    if command == "/list":
        names = ", ".join(members[key].name for key in sorted(members))
        return f"* {len(members)} online: {names}"
    if command == "/help":
        return f"* commands: {COMMANDS}"
    raise ValueError(f"unknown command: {command} (try /help)")


def parse_work(argument: str) -> int:
    """Return the milliseconds that `/work` asks for (C6). Raises ValueError with its usage."""
    if not re.fullmatch("[1-9][0-9]{0,2}|1000", argument):
        raise ValueError("usage: /work MS (1-1000)")
    return int(argument)


def burn_cpu(milliseconds: int) -> str:
    """Compute for so long (C6), and return the answer.

    The time is CPU time of this thread. Beside another busy one that takes twice as long.
    """
    end = time.thread_time() + milliseconds / 1000
    while time.thread_time() < end:
        if stop_signals:
            return "! the work was cut short"
    return f"* worked {milliseconds} ms"


def refuse(connection: socket.socket) -> None:
    """Say that the server is full, and close, without waiting for anything (L2)."""
    # The client may have gone already, or have sent nothing yet.
    with connection, contextlib.suppress(OSError):
        connection.setblocking(False)
        connection.send(b"! server full\n")
        connection.shutdown(socket.SHUT_WR)
        # To close while input is unread would be a reset, and a reset can overtake our line.
        connection.recv(HIGH_WATER)


# ==== Start-up ====
# This section, too, is the same in all four servers.

# Holds a signal's number once a SIGINT or SIGTERM has come: then the server stops (L4).
stop_signals: list[int] = []


def catch_stop_signals() -> socket.socket:
    """Return a socket that SIGINT or SIGTERM makes readable.

    A list alone would wake nobody who waits in a system call. So Python writes a byte into a
    pair of sockets whenever a signal comes: the self-pipe trick (Stevens, UNP; Bernstein).
    """
    receiver, sender = socket.socketpair()
    sender.setblocking(False)
    # The descriptor is Python's from now on; it stays open for as long as signals may come. When
    # many have come it is full, and has long woken whom it should wake.
    signal.set_wakeup_fd(sender.detach(), warn_on_full_buffer=False)

    def on_stop_signal(number: int, _) -> None:
        stop_signals.append(number)

    signal.signal(signal.SIGINT, on_stop_signal)
    signal.signal(signal.SIGTERM, on_stop_signal)
    return receiver


def ignore_stop_signals() -> None:
    """Let no further signal have an effect: at its end Python drops handlers, but not this."""
    # Python reports one that comes in the middle of this, with a traceback, as ignored: so it is.
    sys.unraisablehook = lambda _: None
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def open_listener(host: str, port: int) -> socket.socket:
    """Listen, and say where on standard output; a failure ends the program with one line."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((host, port), family=family, backlog=socket.SOMAXCONN)
    except UnicodeError:
        raise SystemExit(f"{VERSION}: {host!r} cannot be the name of a host") from None
    except (OSError, OverflowError) as error:
        raise SystemExit(f"{VERSION}: cannot listen on {host} port {port}: {error}") from None
    # Accepted connections inherit both options. TCP_NODELAY: an answer does not wait for the
    # client's acknowledgement of the one before (Nagle). SO_SNDBUF: left alone, Linux lets the
    # send buffer grow to megabytes, and for seconds nobody could see whether a slow client reads.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, HIGH_WATER // 2)
    host, port = listener.getsockname()[:2]
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    announce(f"{VERSION} listening on {address}")
    return listener


def announce(line: str) -> None:
    """Print a line at once, though standard output may be a pipe."""
    try:
        print(line, flush=True)
    except OSError as error:
        # It is full, or nobody reads it. Closed, it is not tried again when Python ends.
        with contextlib.suppress(OSError):
            sys.stdout.close()
        raise SystemExit(f"{VERSION}: cannot write to standard output: {error}") from None


class OptionParser(argparse.ArgumentParser):
    """Says in one line what is wrong with the options."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{VERSION}: {message} (try --help)\n")

    def print_help(self, file=None) -> None:
        announce(self.format_help())


def parse_options() -> argparse.Namespace:
    """Read the command line; a mistake ends the program with one line and status 2."""
    parser = OptionParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--host", default="127.0.0.1", help="name or address to listen on")
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, help="0 takes a free one")
    parser.add_argument("--idle-timeout", type=float, default=300, help="seconds; 0 is never")
    parser.add_argument("--stall-timeout", type=float, default=1, help="seconds")
    parser.add_argument("--max-clients", type=int, default=MAX_CLIENTS, help="more are refused")
    parser.add_argument("--verbose", action="store_true", help="log every message")
    options = parser.parse_args()
    for name, lowest in (("idle_timeout", 0), ("stall_timeout", 0.001), ("max_clients", 1)):
        # Written this way round, the comparison is false for "nan", too.
        if not lowest <= getattr(options, name) <= 1_000_000:
            parser.error(f"--{name.replace('_', '-')} must be from {lowest} to 1000000")
    options.idle_timeout = options.idle_timeout or math.inf
    log_to_stderr(logging.DEBUG if options.verbose else logging.INFO)
    return options


def log_to_stderr(level: int) -> None:
    """Write each line of the log at once. What a full disk refuses is lost, and hurts nobody."""
    logging.raiseExceptions = False
    # A program that is started without a standard error has none.
    if sys.stderr is None:
        return
    # A buffer would keep what was refused, and Python would try again at its end, and fail.
    unbuffered = open(sys.stderr.fileno(), "wb", buffering=0, closefd=False)  # noqa: SIM115
    log = io.TextIOWrapper(unbuffered, sys.stderr.encoding, "backslashreplace", write_through=True)
    logging.basicConfig(stream=log, level=level)


def main() -> None:
    options = parse_options()
    signals = catch_stop_signals()
    listener = open_listener(options.host, options.port)
    serve(listener, signals, options)
    ignore_stop_signals()


if __name__ == "__main__":
    main()
