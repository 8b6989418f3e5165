#!/usr/bin/env python3
"""mine: a thread for each client. It starts, greets and stops. What is missing is yours to write.

The launch contract of PROTOCOL.md (options, the address, signals) is kept already: see Start-up.

Run it: python3 mine/server.py. Ask what is missing, from the root of the repository:
python3 -m tests.grade --server 'python3 mine/server.py --port {port} {options}' --profile echo
"""

import argparse
import contextlib
import io
import logging
import math
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from typing import NoReturn, TextIO

VERSION = "mine"
DEFAULT_PORT = 8010
MAX_CLIENTS = 1000

HIGH_WATER = 256 * 1024  # bytes of unsent output above which lines have to wait (L3)


class Server:
    """What the threads share. Each client's thread runs serve_client()."""

    def __init__(self, listener: socket.socket, options: argparse.Namespace) -> None:
        self.listener = listener
        # idle_timeout and stall_timeout are in seconds. L1 to L3 say what they and max_clients do.
        self.options = options

    def accept_clients(self) -> None:
        """Start a thread for each client. This runs in its own: the main one waits for signals."""
        while not stop_signals:
            try:
                connection, _ = self.listener.accept()
            # Either the server stops, and has shut the listener down. Or there is no descriptor
            # left (EMFILE): L2 says what to do then.
            except OSError as error:
                if not stop_signals:
                    logging.error("cannot accept: %s", error)
                return
            threading.Thread(target=self.serve_client, args=[connection], daemon=True).start()

    def serve_client(self, connection: socket.socket) -> None:
        """Serve one client from its greeting to its end: this is what its thread does."""
        with connection:
            try:
                connection.sendall(f"* {VERSION}: enter your name\n".encode())
                # This may bring a part of the client's first line, or all of it, or more (F5). What
                # to do with it is yours to write (H2, H3). Until then, say so.
                connection.recv(1024)
                connection.sendall(b"! the handshake is not written yet\n")
            # A reset, mostly. It ends this connection and no other (L6).
            except OSError as error:
                logging.info("lost a client: %s", error)


def serve(listener: socket.socket, wakeup: socket.socket, options: argparse.Namespace) -> None:
    """Serve until a signal asks to stop."""
    server = Server(listener, options)
    threading.Thread(target=server.accept_clients, daemon=True).start()
    # Python runs its signal handlers in the main thread, so this one does nothing but wait.
    wakeup.recv(1)
    # This wakes the thread in accept(), which close() would not. (macOS refuses it, because the
    # listener is not connected.)
    with contextlib.suppress(OSError):
        listener.shutdown(socket.SHUT_RDWR)
    listener.close()


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
