#!/usr/bin/env python3
"""v1_threads: a thread per client, blocking sockets.

Each client has a thread of its own that does one thing after another: wait for input, answer,
wait again. While it waits it costs no CPU and stops nobody; what it was doing is simply where
it stands in the code. Its limits are those of threads: each costs some 40 KiB and a switch; what
they share needs a lock; Python runs one at a time, so those that compute take turns.

Run it: python3 v1_threads/server.py. Talk to it: python3 client.py v1
"""

import argparse
import contextlib
import io
import itertools
import logging
import math
import re
import signal
import socket
import sys
import threading
import time
from collections import deque
from typing import NoReturn

VERSION = "v1_threads"
DEFAULT_PORT = 8001
MAX_CLIENTS = 8000
COMMANDS = "/help /list /ping [TEXT] /work MS /quit"

MAX_LINE = 1024  # bytes in a line, its ending not counted (F2)
READ_SIZE = 16 * 1024  # bytes of input that one turn of a client takes in at most (F7)
HIGH_WATER = 256 * 1024  # bytes of unsent output above which a client's lines have to wait (L3)
LINGER = 3.0  # seconds in which a client that has been told good-bye may go on sending (C4)
STOP_TIME = 1.0  # seconds in which clients may take their last words when the server stops (L4)
TICK = 0.1  # seconds between two attempts at what no event tells of: accept(), the stop
ACCEPTORS = 4  # threads that wait for clients, see serve()
SLOTS = 4  # threads with much to do that may run at once, see Server.slots


class Client:
    """One connection: its own thread's business. Others read its name; stop() looks if it waits."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        # Empty until the handshake is done, and again when the client leaves.
        self.name = ""
        # The bytes of a line whose end has not come yet, and whether that line is too long.
        self.rest = b""
        self.skipping = False
        # What has not been sent yet. All that one turn puts here is sent in one call, if it fits.
        self.outbox = bytearray()
        # How many milliseconds of work it has asked for; 0 when there is nothing to do.
        self.work = 0
        # It gets its last words, and whatever it says is ignored.
        self.leaving = False
        # When it has been silent for too long (L1), or has to close (C4), on the clock of
        # time.monotonic().
        self.deadline = math.inf
        # Its thread is in recv(), and would not notice by itself that the server stops.
        self.waiting = False


class Slots:
    """Lets a few threads go on at a time, in the order in which they came (`with slots: ...`).

    A threading.Semaphore is not fair: who gives a slot back may take it again at once, and of 300
    clients that flood a third would get none for seconds (F7).
    """

    def __init__(self, free: int) -> None:
        self.free = free
        self.lock = threading.Lock()
        # Each thread that waits does so at a lock of its own.
        self.waiting: deque[threading.Lock] = deque()

    def __enter__(self) -> None:
        with self.lock:
            if self.free:
                self.free -= 1
                return
            turn = threading.Lock()
            turn.acquire()
            self.waiting.append(turn)
        turn.acquire()

    def __exit__(self, *_: object) -> None:
        with self.lock:
            # A slot is handed over, so that nobody can come in between.
            if self.waiting:
                self.waiting.popleft().release()
            else:
                self.free += 1


class Server:
    """The clients. Each of their threads runs serve_client(), a few more accept_clients()."""

    def __init__(self, listener: socket.socket, options: argparse.Namespace) -> None:
        self.listener = listener
        self.options = options
        # What threads share takes a lock: a switch may come between any two steps, and then two
        # could both find a name free, or one list the members while another changes them.
        self.registry = threading.Lock()
        # Every connection that has a place.
        self.clients: set[Client] = set()
        # When the server stops, it waits for them to go.
        self.client_gone = threading.Condition(self.registry)
        # Those who are in, by casefolded name.
        self.members: dict[str, Client] = {}
        # Only so many of the threads that have much to do run at once. Python lets one run at a
        # time anyway, and in a crowd that waits for the interpreter's lock everybody waits long:
        # with 250 threads at work a signal was noticed after 4 s.
        self.slots = Slots(SLOTS)
        # Work takes far longer than the longest turn, so it has a queue of its own.
        self.work_slots = Slots(SLOTS)
        # The last attempt to let somebody in has failed, and that has been logged.
        self.failing = False

    def serve_client(self, client: Client) -> None:
        """Serve one client from its greeting to its end: this is what its thread does."""
        try:
            # A call that sends may wait for so long at most.
            client.connection.settimeout(self.options.stall_timeout)
            self.set_deadline(client, self.options.idle_timeout)
            self.send(client, f"* {VERSION}: enter your name")
            self.flush(client)
            while not client.leaving and not stop_signals:
                self.take_turn(client)
            if not client.leaving:
                self.send(client, "* server shutting down")
                # Now, for in finish() thousands may queue for the registry's lock.
                self.flush(client)
            self.finish(client)
        # A reset, mostly, or a client that takes nothing or does not close (TimeoutError, which is
        # an OSError, too): it ends this connection and no other (L2, L3, L6).
        except OSError as error:
            logging.debug("%s: %s", client.name, error)
        # Whatever has ended the thread, even a lack of memory: name and descriptor are freed.
        finally:
            self.drop(client)

    def accept_clients(self) -> None:
        """Start a thread for each client. This runs in threads itself, for accept() blocks."""
        while not stop_signals:
            try:
                connection, _ = self.listener.accept()
            except (OSError, MemoryError) as error:
                # Out of descriptors, mostly (EMFILE). At once accept() would fail again, so wait
                # until somebody may have left.
                self.on_failure(f"cannot accept: {error}")
                time.sleep(TICK)
                continue
            client = Client(connection)
            with self.registry:
                full = len(self.clients) >= self.options.max_clients
                if not full:
                    self.clients.add(client)
            if full:
                refuse(connection)
                continue
            try:
                threading.Thread(target=self.serve_client, args=[client], daemon=True).start()
                self.failing = False
            # No thread is left for it, or no memory for a thread.
            except (RuntimeError, MemoryError) as error:
                self.on_failure(f"cannot serve a client: {error}")
                try:
                    refuse(connection)
                finally:
                    self.drop(client)

    def on_failure(self, reason: str) -> None:
        """Nobody can be let in. Each acceptor logs it once, not for each who tries (L2)."""
        if not self.failing and not stop_signals:
            logging.warning(reason)
        self.failing = True

    def receive(self, client: Client) -> bytes:
        """Wait for input, up to the client's deadline (TimeoutError); b"" is its end.

        recv() takes the timeout that is set for flush(): most clients say something before it is
        over. To set one timeout to read and another to write would be two system calls more for
        each message, six in place of four. So only the silent ones get a timeout of their own.
        """
        client.waiting = True
        data = None
        if client.deadline - time.monotonic() > self.options.stall_timeout:
            with contextlib.suppress(TimeoutError):
                data = client.connection.recv(READ_SIZE)
        if data is None:
            data = self.receive_late(client)
        client.waiting = False
        return data

    def receive_late(self, client: Client) -> bytes:
        """Wait for the input of a client that is silent for long, or has not much time left."""
        seconds = client.deadline - time.monotonic()
        if seconds <= 0:
            raise TimeoutError("no input before the deadline")
        client.connection.settimeout(None if seconds == math.inf else seconds)
        try:
            return client.connection.recv(READ_SIZE)
        finally:
            client.connection.settimeout(self.options.stall_timeout)

    def take_turn(self, client: Client) -> None:
        """Wait for input, process the lines that it brought, and send the answers.

        The others wait little meanwhile: after 5 ms the interpreter lets another thread run.
        """
        try:
            data = self.receive(client)
        except TimeoutError:
            self.on_idle(client)
            return
        lines = deque(split_lines(client, data))
        # Little input is processed immediately. Who has sent much queues up for a slot.
        slot = self.slots if len(data) == READ_SIZE else contextlib.nullcontext()
        while lines:
            with slot:
                self.process_lines(client, lines)
            if client.work:
                self.do_work(client)
            # With so much unsent, the thread waits until the client has taken it (L3).
            if len(client.outbox) > HIGH_WATER:
                self.flush(client)
            if client.leaving or stop_signals:
                return
        self.flush(client)
        # Only from now on it is idle. Bytes alone do not put the deadline off, the end of a line
        # does, even of one that is refused (L1).
        if b"\n" in data:
            self.set_deadline(client, self.options.idle_timeout)
        # No data is the end of its input, and it has got its answers (L5). When the server stops,
        # that end may be feigned: see stop().
        if not data and not stop_signals:
            client.leaving = True

    def process_lines(self, client: Client, lines: deque[bytes]) -> None:
        """Process lines: all there are, or up to where something else has to be done first."""
        while lines and not (client.work or client.leaving or stop_signals):
            self.on_line(client, lines.popleft())
            if len(client.outbox) > HIGH_WATER:
                break

    def on_line(self, client: Client, line: bytes) -> None:
        """Process one line: a name, a command or a text."""
        try:
            text = decode_line(line)
            command, _, argument = text.partition(" ")
            if not client.name:
                # To find a name free and to take it must be one step.
                with self.registry:
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
                with self.registry:
                    self.send(client, answer_command(command, argument.strip(), self.members))
            elif text:
                logging.debug("%s: %s", client.name, text)
                self.send(client, f"{client.name}: {text}")
        except ValueError as refusal:
            self.send(client, f"! {refusal}")

    def do_work(self, client: Client) -> None:
        """Compute what the client has asked for: in its own thread, so the others get turns."""
        with self.work_slots:
            self.send(client, burn_cpu(client.work))
        client.work = 0
        self.flush(client)

    def send(self, client: Client, line: str) -> None:
        """Put a line in the outbox."""
        client.outbox += line.encode() + b"\n"

    def flush(self, client: Client) -> None:
        """Wait until the kernel has taken the outbox. TimeoutError: it takes nothing (L2, L3).

        send() may take a part only, a byte if need be; what it took is a sign of life.
        """
        while client.outbox:
            sent = client.connection.send(client.outbox)
            del client.outbox[:sent]

    def set_deadline(self, client: Client, seconds: float) -> None:
        client.deadline = time.monotonic() + seconds

    def on_idle(self, client: Client) -> None:
        """It has sent no line for too long (L1)."""
        self.send(client, "! idle timeout")
        client.leaving = True

    def leave(self, client: Client) -> None:
        """Free its name (H5)."""
        client.leaving = True
        with self.registry:
            left = self.members.pop(client.name.casefold(), None)
        if left:
            logging.info("%s left", client.name)
        client.name = ""

    def finish(self, client: Client) -> None:
        """Let it go in good order: its last words, the end of our output, then its own end.

        To close while input is unread would be a reset, and the client could lose our last words
        (RFC 2525, section 2.17). So what it still sends is read and thrown away.
        """
        self.leave(client)
        self.flush(client)
        client.connection.shutdown(socket.SHUT_WR)
        self.set_deadline(client, LINGER)
        while self.receive(client):
            pass

    def drop(self, client: Client) -> None:
        """Close at once; what was not sent yet is lost."""
        self.leave(client)
        client.connection.close()
        with self.registry:
            self.clients.discard(client)
            self.client_gone.notify()

    def stop(self) -> None:
        """Give the clients time to take their last words (L4).

        Threads that have something to do see the signal by themselves. Those that wait do not: to
        them we feign the end of their input. Threads that are left over are daemons: they end with
        the program.
        """
        with self.registry:
            self.client_gone.wait_for(lambda: not self.clients, TICK)
            end = time.monotonic() + STOP_TIME
            while self.clients and time.monotonic() < end:
                for client in self.clients:
                    # It may have gone a moment ago.
                    if client.waiting and not client.leaving:
                        with contextlib.suppress(OSError):
                            client.connection.shutdown(socket.SHUT_RD)
                self.client_gone.wait_for(lambda: not self.clients, TICK)


def serve(listener: socket.socket, signals: socket.socket, options: argparse.Namespace) -> None:
    """Serve until a signal asks to stop; then say so to all."""
    # Enough for us. The usual 8 MiB are only reserved, but 8000 times that may be refused.
    threading.stack_size(256 * 1024)
    server = Server(listener, options)
    # One thread could accept all. But Thread.start() returns only after the new thread has had a
    # turn, and beside busy threads that is a long wait in the queue for the interpreter's lock:
    # with one acceptor 200 newcomers beside 10 flooders are greeted in 6 s, with four in 2 s.
    # Nobody gets in before all of them are there.
    try:
        with server.registry:
            for _ in range(ACCEPTORS):
                threading.Thread(target=server.accept_clients, daemon=True).start()
    except (RuntimeError, MemoryError) as error:
        raise SystemExit(f"{VERSION}: cannot start a thread: {error}") from None
    # Python runs its signal handlers in the main thread, so this one does nothing but wait.
    signals.recv(1)
    # This wakes those who wait in accept(), which close() would not. (macOS refuses: it is not
    # connected.)
    with contextlib.suppress(OSError):
        listener.shutdown(socket.SHUT_RDWR)
    listener.close()
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
