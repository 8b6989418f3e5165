#!/usr/bin/env python3
"""v1_threads: a thread for each client, blocking calls.

Each client has a thread of its own that does one thing after another: wait for input, answer, wait
again. A waiting thread costs no CPU and stops nobody, and its position in the code records what it
was doing. The limits are those of threads: each one costs memory and switches; what they
share needs a lock; and Python runs one at a time, so threads that compute take turns.

Run it: python3 v1_threads/server.py. Talk to it: python3 client.py v1

How to read it: start at main(), go on with serve(), then follow the way of a line: Server from
accept_clients() down to flush(). On a first reading skip what is left of Server, below the headline
"When something goes wrong, and the end". F2, L3 and the like are rules of PROTOCOL.md.
small.py has the model alone; diff -u small.py server.py shows what the rules add to it.
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
from collections.abc import Iterator
from typing import NoReturn, TextIO

VERSION = "v1_threads"
DEFAULT_PORT = 8001
MAX_CLIENTS = 8000
COMMANDS = "/help /list /ping [TEXT] /work MS /quit"

MAX_LINE = 1024  # bytes in a line without its ending (F2)
READ_SIZE = 16 * 1024  # bytes of input that a client's turn reads at most (F7)
HIGH_WATER = 256 * 1024  # bytes of unsent output above which lines have to wait (L3)
LINGER = 3.0  # seconds for which a client may go on sending after our last words (C4)
STOP_TIME = 1.0  # seconds in which clients may read our last words when the server stops (L4)
STOP_RETRY = 0.1  # seconds between two looks at the clients that are left (L4)
ACCEPT_RETRY = 0.1  # seconds between two attempts at accept() while it fails (L2)
SWITCH_INTERVAL = 0.001  # seconds after which a thread that computes lets another one run
SLOTS = 4  # threads with much to do that may run at once, see Server.slots


class Client:
    """One connection. It belongs to its own thread, but /list reads its name, see also stop()."""

    def __init__(self, connection: socket.socket, address: tuple) -> None:
        self.connection = connection
        self.address = address
        # Empty until the handshake is done.
        self.name = ""
        # The bytes of a line whose end has not come yet, and whether that line is too long.
        self.rest = b""
        self.skipping = False
        # Output that the kernel has not taken yet. The answers of one turn go out in one call.
        self.outbox = bytearray()
        # How many milliseconds of work the client has asked for, 0 if none.
        self.work = 0
        # The client still gets our last words, but what it says is ignored.
        self.leaving = False
        # Its name is free again, and the log says that it has left.
        self.has_left = False
        # The time (time.monotonic()) from which on the client is idle (L1).
        self.idle_deadline = math.inf
        # The thread is in recv(), where it cannot notice that the server stops. See stop().
        self.waiting = False

    def __str__(self) -> str:
        """Return how the log names the client."""
        return f"{in_writing(self.address)} {self.name or '(nobody yet)'}"


class Server:
    """All clients. Each has a thread in serve_client(). One more thread runs accept_clients()."""

    def __init__(self, listener: socket.socket, options: argparse.Namespace) -> None:
        self.listener = listener
        self.options = options
        # Threads may be switched between any two steps. Without this lock two of them could both
        # find a name free, or one could list the members while another changes them.
        self.registry = threading.Lock()
        # Every connection that has a place.
        self.clients: set[Client] = set()
        # Told whenever a client has gone. At the stop the server waits for that.
        self.client_gone = threading.Condition(self.registry)
        # The clients that have a name, by casefolded name.
        self.members: dict[str, Client] = {}
        # Only this many threads with much to do run at once. Python runs one at a time anyway, and
        # where hundreds wait for the interpreter's lock, everyone waits long, signals included.
        self.slots = Slots(SLOTS)
        # Work takes far longer than the longest turn, so it queues separately.
        self.work_slots = Slots(SLOTS)
        # The last attempt to let a client in has failed, and that has been logged.
        self.accept_failing = False

    def accept_clients(self) -> None:
        """Start a thread for each client. This runs in its own: the main one waits for signals."""
        while not stop_signals:
            try:
                connection, address = self.listener.accept()
            except (OSError, MemoryError) as error:
                self.on_accept_failed(error)
                # accept() would fail again at once, so wait: a client may leave meanwhile.
                time.sleep(ACCEPT_RETRY)
                continue
            client = Client(connection, address)
            with self.registry:
                full = len(self.clients) >= self.options.max_clients
                if not full:
                    self.clients.add(client)
            if full:
                refuse(connection)
                continue
            try:
                threading.Thread(target=self.serve_client, args=[client], daemon=True).start()
                self.accept_failing = False
            # The system has no thread left, or no memory for one.
            except (RuntimeError, MemoryError) as error:
                self.on_accept_failed(error)
                refuse(connection)
                with self.registry:
                    self.clients.discard(client)

    def serve_client(self, client: Client) -> None:
        """Serve one client from its greeting to its end: this is what its thread does."""
        try:
            self.send(client, f"* {VERSION}: enter your name")
            self.flush(client)
            self.restart_idle_clock(client)
            while not client.leaving and not stop_signals:
                self.take_turn(client)
            # A client that is leaving has been told why already.
            self.say_last_words(client, "* server shutting down")
            self.finish(client)
        # A reset, mostly, or a client that takes no output or does not close (TimeoutError, which
        # is an OSError, too). It ends this connection and no other (L2, L3, L6).
        except OSError as error:
            logging.debug("%s lost: %s", client, error)
        # Whatever has ended the thread, the name and the descriptor are free again.
        finally:
            self.drop(client)

    def receive(self, client: Client, deadline: float) -> bytes:
        """Wait for input. b"" is its end, or ours. TimeoutError: none came before the deadline."""
        seconds = deadline - time.monotonic()
        if seconds <= 0:
            raise TimeoutError("no input before the deadline")
        client.connection.settimeout(None if seconds == math.inf else seconds)
        client.waiting = True
        try:
            return client.connection.recv(READ_SIZE)
        # At this very moment stop() has taken the connection over, and has set another timeout. The
        # caller sees that the server stops.
        except BlockingIOError:
            return b""
        finally:
            client.waiting = False

    def take_turn(self, client: Client) -> None:
        """Wait for input, process the lines that it brought, and send the answers."""
        try:
            data = self.receive(client, client.idle_deadline)
        except TimeoutError:
            self.on_idle(client)
            return
        if stop_signals:
            return
        lines = deque(split_lines(client, data))
        # A client that has sent much waits for a slot. A little input is processed immediately.
        slot = self.slots if len(data) == READ_SIZE else contextlib.nullcontext()
        while lines:
            with slot:
                self.process_lines(client, lines)
            if client.work:
                self.do_work(client)
            # With so much unsent, the thread waits until the kernel has taken it (L3).
            if len(client.outbox) > HIGH_WATER:
                self.flush(client)
            if client.leaving or stop_signals:
                return
        self.flush(client)
        # The end of a line restarts the idle clock, even of a refused line. Bytes alone do not
        # (L1).
        if b"\n" in data:
            self.restart_idle_clock(client)
        # No data is the end of input, and by now everything is answered (L5).
        if not data:
            client.leaving = True

    def process_lines(self, client: Client, lines: deque[bytes]) -> None:
        """Process lines: all there are, or up to where something else has to be done first."""
        while lines and not (client.work or client.leaving or stop_signals):
            if len(client.outbox) > HIGH_WATER:
                break
            self.on_line(client, lines.popleft())

    def on_line(self, client: Client, line: bytes) -> None:
        """Process one line: a name, a command or a text."""
        try:
            text = decode_line(line)
            command, _, argument = text.partition(" ")
            if not client.name and HTTP_REQUEST.fullmatch(text):
                self.send(client, "! this is not a web server")
                client.leaving = True
            elif not client.name:
                # Finding a name free and taking it must be one step.
                with self.registry:
                    client.name = choose_name(text, self.members)
                    self.members[client.name.casefold()] = client
                logging.info("%s joined", client)
                self.send(client, f"* hello {client.name}")
            elif command == "/quit":
                self.send(client, f"* bye {client.name}")
                client.leaving = True
            elif command == "/work":
                client.work = parse_work(argument.strip())
            elif command.startswith("/"):
                with self.registry:
                    self.send(client, answer_command(command, argument.strip(), self.members))
            elif text:
                logging.debug("%s: %s", client, text)
                self.send(client, f"{client.name}: {text}")
        except ValueError as refusal:
            self.send(client, f"! {refusal}")

    def do_work(self, client: Client) -> None:
        """Compute what the client has asked for, in the client's thread. The others get turns."""
        with self.work_slots:
            self.send(client, burn_cpu(client.work))
        client.work = 0
        self.flush(client)

    def send(self, client: Client, line: str) -> None:
        """Put a line in the outbox."""
        client.outbox += line.encode() + b"\n"

    def flush(self, client: Client) -> None:
        """Wait until the kernel has taken the outbox. TimeoutError: it takes nothing (L2, L3).

        send() may take only a part, even a single byte. That is a sign of life, so the time begins
        anew. sendall() would want everything to be taken in that time.
        """
        if client.outbox:
            client.connection.settimeout(self.options.stall_timeout)
        while client.outbox:
            sent = client.connection.send(client.outbox)
            del client.outbox[:sent]

    def restart_idle_clock(self, client: Client) -> None:
        """From now on the client has --idle-timeout for its next line (L1)."""
        client.idle_deadline = time.monotonic() + self.options.idle_timeout

    # ---- When something goes wrong, and the end ----

    def on_accept_failed(self, error: Exception) -> None:
        """No client can be let in (EMFILE, mostly). Log it once, not at each attempt (L2)."""
        if not self.accept_failing and not stop_signals:
            logging.warning("cannot accept: %s", error)
        self.accept_failing = True

    def on_idle(self, client: Client) -> None:
        """Tell a client that has sent no line for too long that it has to go (L1)."""
        self.say_last_words(client, "! idle timeout")

    def say_last_words(self, client: Client, words: str) -> None:
        """Say why the client has to go, unless somebody has: this thread, or stop() in its place.

        stop() speaks while it has the registry, and only for a thread that is waiting in recv().
        So once this thread has had the registry, stop() does not touch the connection any more.
        """
        with self.registry:
            if client.leaving:
                return
            client.leaving = True
        self.send(client, words)

    def leave(self, client: Client) -> None:
        """Free the client's name (H5), once."""
        with self.registry:
            if client.has_left:
                return
            client.has_left = True
            client.leaving = True
            self.members.pop(client.name.casefold(), None)
            # At the stop the program may end as soon as the main thread gets the registry.
            logging.info("%s left", client)

    def finish(self, client: Client) -> None:
        """Close in good order: our last words, the end of our output, then the client's end.

        Closing with unread input would be a reset, and the client could lose our last words
        (RFC 2525, section 2.17). So what it still sends is read and thrown away.
        """
        self.leave(client)
        self.flush(client)
        client.connection.shutdown(socket.SHUT_WR)
        deadline = time.monotonic() + LINGER
        while self.receive(client, deadline):
            pass

    def drop(self, client: Client) -> None:
        """Close at once. Output that was not sent yet is lost."""
        self.leave(client)
        client.connection.close()
        with self.registry:
            self.clients.discard(client)
            self.client_gone.notify()

    def stop(self) -> None:
        """Give the clients time to read our last words (L4).

        A busy thread sees the signal by itself, and speaks to its client. A thread that is blocked
        in recv() does not, and no call wakes it without harm: after shutdown(SHUT_RD) it could no
        longer see its client close, and finish() has to wait for that. So the main thread speaks in
        its place, then the client closes, and that wakes the thread. Clients that are left over are
        dropped. Their threads are daemons: they end with the program.
        """
        end = time.monotonic() + STOP_TIME
        with self.registry:
            while self.clients and time.monotonic() < end:
                for client in self.clients:
                    if client.waiting:
                        self.speak_in_place_of_thread(client)
                # This lets go of the registry while it waits.
                self.client_gone.wait_for(lambda: not self.clients, STOP_RETRY)
            left_over = list(self.clients)
        for client in left_over:
            self.drop(client)

    def speak_in_place_of_thread(self, client: Client) -> None:
        """Say that the server stops, without waiting for anything; stop() holds the registry.

        If the kernel does not take it, because the client does not read, stop() tries again later.
        """
        if not client.leaving:
            client.leaving = True
            self.send(client, "* server shutting down")
        if not client.outbox:
            return
        # Either the kernel has no room for it now, or the connection is broken, which the client's
        # own thread is about to see.
        with contextlib.suppress(OSError):
            client.connection.settimeout(0)
            sent = client.connection.send(client.outbox)
            del client.outbox[:sent]
            if not client.outbox:
                client.connection.shutdown(socket.SHUT_WR)


class Slots:
    """Lets a few threads go on at a time, in the order in which they came: `with slots: ...`.

    A threading.Semaphore is not fair. A thread that gives a slot back may take it again at once,
    and of 300 clients that flood most would get no answer for seconds (F7; the test is
    test_turns.py::test_everyone_gets_a_turn_among_three_hundred_flooders).
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
            # Hand the slot over, so that no other thread can come in between.
            if self.waiting:
                self.waiting.popleft().release()
            else:
                self.free += 1


def serve(listener: socket.socket, wakeup: socket.socket, options: argparse.Namespace) -> None:
    """Serve until a signal asks to stop. Then say so to all clients."""
    # This is enough for us. The usual 8 MiB are only reserved, but 8000 times that may be refused.
    threading.stack_size(256 * 1024)
    # A thread that has something to do waits for the interpreter's lock. A busy thread offers it
    # after this time (the usual 5 ms are long for newcomers and quiet clients).
    sys.setswitchinterval(SWITCH_INTERVAL)
    server = Server(listener, options)
    try:
        threading.Thread(target=server.accept_clients, daemon=True).start()
    except (RuntimeError, MemoryError) as error:
        raise SystemExit(f"{VERSION}: cannot start a thread: {error}") from None
    # Python runs its signal handlers in the main thread, so this one does nothing but wait.
    wakeup.recv(1)
    # This wakes the thread in accept(), which close() would not. (macOS refuses it, because the
    # listener is not connected.)
    with contextlib.suppress(OSError):
        listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    server.stop()


# ==== The protocol ====
# From here to main() every byte is the same in all four servers. F2, C6 and so on are the numbers
# of the rules in PROTOCOL.md.

# Unicode category Cc without the tab: these could move the cursor of a terminal, or do worse.
CONTROL_CHARACTER = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f]")

# The beginning of an HTTP request (RFC 9112, sections 3 and 3.2), which any web page can make a
# browser send here. Its first line may be too long, so the second one counts as well (H6).
HTTP_REQUEST = re.compile(r"[A-Z]+ .* HTTP/[0-9.]+|[Hh]ost:.*")


def split_lines(client: "Client", data: bytes) -> list[bytes]:
    """Return the lines that end in `data`, whether they come split or glued (F2, F3, F5).

    TCP carries a stream of bytes, not messages. One read may bring half a line, or twenty lines
    and a half.
    """
    if client.skipping:
        _, line_end, data = data.partition(b"\n")
        client.skipping = not line_end
    *lines, client.rest = (client.rest + data).split(b"\n")
    # This is too long already, even if its last byte is the CR of an ending. Refuse it now and
    # throw the remainder away as it arrives, because an endless line would fill the memory.
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
    # Decode whole lines only: a read may end in the middle of a character.
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
    """Return the answer to a command that concerns nobody but its sender (C1, C2, C3).

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
    """Compute for that long (C6), and return the answer.

    This counts the CPU time of the calling thread. Where two threads compute, as in v1, it takes
    twice as long.
    """
    end = time.thread_time() + milliseconds / 1000
    while time.thread_time() < end:
        if stop_signals:
            return "! the work was cut short"
    return f"* worked {milliseconds} ms"


def refuse(connection: socket.socket) -> None:
    """Say that the server is full, and close without waiting for anything (L2)."""
    # The client may be gone already, or may not have sent anything yet. If memory is short, recv()
    # may fail, too.
    with connection, contextlib.suppress(OSError, MemoryError):
        connection.setblocking(False)
        connection.send(b"! server full\n")
        connection.shutdown(socket.SHUT_WR)
        # Closing with unread input would be a reset, and a reset can overtake our line.
        connection.recv(HIGH_WATER)


# ==== Start-up ====

# Holds a signal's number once SIGINT or SIGTERM has come. From then on the server stops (L4).
stop_signals: list[int] = []


@contextlib.contextmanager
def catch_stop_signals() -> Iterator[socket.socket]:
    """Yield a socket that becomes readable when SIGINT or SIGTERM comes. In the end ignore both.

    A list alone would wake nobody who is blocked in a system call. So Python writes a byte into a
    pair of sockets at each signal: the self-pipe trick (Stevens, UNP; Bernstein).
    """

    def on_stop_signal(number: int, _) -> None:
        stop_signals.append(number)

    receiver, sender = socket.socketpair()
    with receiver, sender:
        sender.setblocking(False)
        # After very many signals the pair is full, but then its reader has long been woken.
        signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGINT, on_stop_signal)
        signal.signal(signal.SIGTERM, on_stop_signal)
        try:
            yield receiver
        finally:
            ignore_stop_signals()


def ignore_stop_signals() -> None:
    """Ignore further signals. When Python ends it removes handlers, but keeps SIG_IGN."""
    # When a signal's handler is removed before Python has called it, Python reports, with a
    # traceback, that it ignores the signal. Ignoring it is right; only the report is suppressed.
    sys.unraisablehook = lambda _: None
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.set_wakeup_fd(-1)


def open_listener(host: str, port: int) -> socket.socket:
    """Listen, and say where on standard output. A failure ends the program with one line."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((host, port), family=family, backlog=socket.SOMAXCONN)
    except UnicodeError:
        raise SystemExit(f"{VERSION}: {host!r} cannot be the name of a host") from None
    except (OSError, OverflowError) as error:
        raise SystemExit(f"{VERSION}: cannot listen on {host} port {port}: {error}") from None
    # Accepted connections inherit both options. With TCP_NODELAY an answer does not wait until the
    # client has acknowledged the one before (Nagle). Without SO_SNDBUF Linux lets the send buffer
    # grow to megabytes, which would hide for seconds that a client has stopped reading.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, HIGH_WATER // 2)
    announce(f"{VERSION} listening on {in_writing(listener.getsockname())}")
    return listener


def in_writing(address: tuple) -> str:
    """Return an address as people write it: 127.0.0.1:8001, or [::1]:8001."""
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def announce(line: str) -> None:
    """Print a line at once, even if standard output is a pipe."""
    try:
        print(line, flush=True)
    except OSError as error:
        # Standard output is full, or its reader is gone. Once closed, Python does not try to
        # flush it again at its end.
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
    """Read the command line. A mistake ends the program with one line and status 2."""
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
    # A program may be started without a standard error.
    if sys.stderr is None:
        return
    # A buffer would keep what the disk refused. Python would try again at its end, and fail.
    try:
        unbuffered = open(sys.stderr.fileno(), "wb", buffering=0, closefd=False)  # noqa: SIM115
        encoding = sys.stderr.encoding
        log: TextIO = io.TextIOWrapper(unbuffered, encoding, "backslashreplace", write_through=True)
    # Standard error is no file, but a window, as in IDLE.
    except (AttributeError, OSError):
        log = sys.stderr
    line = "%(asctime)s %(levelname)s %(message)s"
    logging.basicConfig(stream=log, level=level, format=line, datefmt="%Y-%m-%d %H:%M:%S")


def main() -> None:
    options = parse_options()
    with catch_stop_signals() as wakeup, open_listener(options.host, options.port) as listener:
        serve(listener, wakeup, options)


if __name__ == "__main__":
    main()
