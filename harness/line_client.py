"""A blocking client that speaks in lines, for the suite and its tools.

`/ping` is the barrier: its answer proves that all that the client sent before has been processed
(F5, D4). A line that has not arrived before the recipient's own pong was never sent.
"""

import collections
import itertools
import re
import socket
import struct
import time
from collections.abc import Iterable
from typing import Self

from harness.session import Session

# A line is at most a name and 1024 bytes (F2), so a longer one will never end.
LONGEST_UNFINISHED = 1 << 20  # bytes
# A client that keeps getting bytes waits longer than one that gets none, but not for ever.
WHOLE_WAIT = 6  # times the timeout

# So much of each conversation is kept for the report of a failure.
EVENTS_KEPT = 12
BYTES_KEPT = 160

BARRIER = b"/ping barrier-"

# The probe that looks whether a server is empty belongs to no test, but the first client of the
# next test may still hear of it.
PROBE_NOTICE = re.compile(r"\* settle-\d+ (joined|left)")

numbers = itertools.count(1)


class Unanswered(Exception):
    """A wait for a line came to nothing.

    `received` holds the lines that came meanwhile, `expected` says what would have ended the wait
    (None: any line).
    """

    def __init__(
        self, message: str, received: Iterable[str] = (), expected: str | None = None
    ) -> None:
        super().__init__(message)
        self.received = list(received)
        self.expected = expected


class NoAnswer(Unanswered, TimeoutError):
    """The time is up."""


class Closed(Unanswered, EOFError):
    """The server has closed where a line was expected."""


class LineClient:
    """A client that reads and writes whole lines; each wait ends after `timeout` seconds.

    Lines are str without their ending; bytes that are not UTF-8 appear as `\\xff`. A wait that
    ends raises NoAnswer, and the end of the connection raises Closed. `session` bounds the waits,
    and remembers the client.
    """

    def __init__(
        self, address: tuple[str, int], timeout: float = 10.0, session: Session | None = None
    ) -> None:
        self.session = session or Session()
        self.timeout = timeout
        self.port = address[1]
        self.name: str | None = None
        self.socket = open_socket(address, timeout)
        # What it has sent and received lately, in order: ("sent" or "came", bytes).
        self.transcript = collections.deque[tuple[str, bytes]](maxlen=EVENTS_KEPT)
        # When it last sent anything but a barrier, on the clock of time.monotonic().
        self.spoke_at = 0.0
        self._received = bytearray()
        self.session.clients.append(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def send_line(self, line: str) -> None:
        """Send one line and its LF."""
        self.send_bytes(line.encode() + b"\n")

    def send_bytes(self, data: bytes) -> None:
        """Send bytes as they are."""
        self._note("sent", data)
        if not data.startswith(BARRIER):
            self.spoke_at = time.monotonic()
        self.socket.settimeout(self.timeout)
        self.socket.sendall(data)

    def read_line(self) -> str:
        """The next line. Raises Closed at the end of the connection, a reset included."""
        while True:
            while (end := self._received.find(b"\n")) < 0:
                if len(self._received) > LONGEST_UNFINISHED:
                    beginning = bytes(self._received[:BYTES_KEPT])
                    raise NoAnswer(
                        f"{self._who()}: {len(self._received)} bytes without LF: {beginning!r}"
                    )
                if not self._receive(self.timeout):
                    rest = bytes(self._received)
                    raise Closed(f"{self._who()}: the server closed; rest: {rest!r}")
            line = self._received[:end].decode(errors="backslashreplace")
            del self._received[: end + 1]
            if line.startswith("* hello "):
                self.session.note_let_in(self.port, line.removeprefix("* hello "))
            if not PROBE_NOTICE.fullmatch(line):
                return line

    def read_until(self, wanted: str) -> list[str]:
        """Read up to and including the line `wanted`; returns the lines that came before it."""
        lines: list[str] = []
        deadline = time.monotonic() + WHOLE_WAIT * self.timeout
        try:
            while (line := self.read_line()) != wanted:
                lines.append(line)
                self._check(deadline, len(lines))
        except (Closed, NoAnswer) as error:
            message = f"{error}; awaited {wanted!r} after {lines[-20:]!r}"
            raise type(error)(message, lines[-20:], wanted) from None
        return lines

    def read_to_end(self) -> list[str]:
        """Read until the server has closed, with a reset perhaps; returns all lines."""
        lines = []
        deadline = time.monotonic() + WHOLE_WAIT * self.timeout
        while True:
            try:
                lines.append(self.read_line())
                self._check(deadline, len(lines))
            except Closed:
                if self._received:
                    raise AssertionError(f"the last line has no LF: {self._received!r}") from None
                return lines
            except NoAnswer as error:
                raise NoAnswer(f"{error}; the end was awaited", lines[-20:], "the end") from None

    def join(self, name: str | None = None) -> str:
        """Go through the handshake; None asks for a guest's name. Returns the name."""
        greeting = self.read_line()
        if not re.fullmatch(r"\* .+: enter your name", greeting):
            raise AssertionError(f"{self._who()} was not greeted but got {greeting!r}")
        self.send_line(name or "")
        answer = self.read_line()
        if not answer.startswith("* hello "):
            who = repr(name) if name else "one who asked for a name"
            raise AssertionError(f"{who} was not let in but got {answer!r}")
        self.name = answer.removeprefix("* hello ")
        return self.name

    def ping(self) -> list[str]:
        """The barrier: returns the lines that came before the answer."""
        token = f"barrier-{next(numbers)}"
        self.send_line(f"/ping {token}")
        return self.read_until(f"* pong {token}")

    def ask(self, command: str) -> list[str]:
        """Send a line and a `/ping`; returns all that came before the pong."""
        self.send_line(command)
        return self.ping()

    def wait_for_data(self, seconds: float) -> bool:
        """Wait at most `seconds` until there is something to read, the end included."""
        if self._received:
            return True
        self.socket.settimeout(seconds)
        try:
            self.socket.recv(1, socket.MSG_PEEK)
        # Nothing came. If `seconds` is 0, that is a BlockingIOError.
        except (TimeoutError, BlockingIOError):
            return False
        # A reset is an end, and an end is something to read.
        except ConnectionError:
            return True
        return True

    def peek(self) -> bytes:
        """What has arrived and has not been read yet, for use in a message."""
        self.socket.settimeout(0)
        try:
            return bytes(self._received) + self.socket.recv(200, socket.MSG_PEEK)
        except OSError:
            return bytes(self._received)

    def half_close(self) -> None:
        """End our direction only: the server sees the end of input and can still answer."""
        self.socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Close with a reset (RST) instead of an orderly end (FIN)."""
        reset(self.socket)

    def close(self) -> None:
        """Close the connection."""
        self.socket.close()

    def _receive(self, seconds: float) -> bool:
        seconds = self.session.at_most(seconds)
        self.socket.settimeout(seconds)
        try:
            data = self.socket.recv(65536)
        except TimeoutError:
            self.session.lose_patience()
            rest = f"; an unfinished one: {bytes(self._received)!r}" if self._received else ""
            raise NoAnswer(f"{self._who()}: no line within {seconds:g} s{rest}") from None
        # A reset is an end as well, so callers get Closed.
        except ConnectionError:
            data = b""
        self._note("came", data)
        self._received += data
        return bool(data)

    def _check(self, deadline: float, lines: int) -> None:
        if time.monotonic() > deadline:
            self.session.lose_patience()
            raise NoAnswer(f"{self._who()}: {lines} lines, and no end of them")

    def _note(self, direction: str, data: bytes) -> None:
        self.transcript.append((direction, bytes(data[:BYTES_KEPT])))

    def _who(self) -> str:
        return self.name or "a client without a name"


def open_socket(address: tuple[str, int], timeout: float) -> socket.socket:
    """A connected TCP socket; each send leaves as a segment of its own (TCP_NODELAY)."""
    sock = socket.create_connection(address, timeout)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def reset(sock: socket.socket) -> None:
    """Close with a reset: SO_LINGER on, for zero seconds (Stevens, UNP ch. 7.5)."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()
