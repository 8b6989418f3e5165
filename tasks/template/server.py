#!/usr/bin/env python3
"""mine: a thread per client. It starts, greets and stops; what is missing is yours to write.

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
from typing import NoReturn

VERSION = "mine"
DEFAULT_PORT = 8010
MAX_CLIENTS = 1000

HIGH_WATER = 256 * 1024  # bytes of unsent output above which a client's lines have to wait (L3)


class Server:
    """What the threads share. Each client's thread runs serve_client()."""

    def __init__(self, listener: socket.socket, options: argparse.Namespace) -> None:
        self.listener = listener
        # idle_timeout and stall_timeout in seconds, max_clients: L1 to L3 say what they are for.
        self.options = options

    def accept_clients(self) -> None:
        """Start a thread for each client. This runs in a thread itself, for accept() blocks."""
        while not stop_signals:
            try:
                connection, _ = self.listener.accept()
            # The server stops, and the listener has been shut down. Or there is no descriptor left
            # (EMFILE), and what to do then is said in L2.
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
                # Some bytes of its first line, or all of it, or more than that: see F5. What they
                # ask for comes next: H2, H3. Until that is written, the client is told so.
                connection.recv(1024)
                connection.sendall(b"! the handshake is not written yet\n")
            # A reset, mostly: it ends this connection and no other (L6).
            except OSError as error:
                logging.info("a connection has ended: %s", error)


def serve(listener: socket.socket, signals: socket.socket, options: argparse.Namespace) -> None:
    """Serve until a signal asks to stop."""
    server = Server(listener, options)
    threading.Thread(target=server.accept_clients, daemon=True).start()
    # Python runs its signal handlers in the main thread, so this one does nothing but wait.
    signals.recv(1)
    # This wakes accept(), which close() would not. (macOS refuses: it is not connected.)
    with contextlib.suppress(OSError):
        listener.shutdown(socket.SHUT_RDWR)
    listener.close()


# ==== Start-up ====
# Options, signals, the address: the launch contract of PROTOCOL.md is kept here already.

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
