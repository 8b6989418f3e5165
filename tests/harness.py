"""What the tests talk with: one client, a crowd of clients, and a look at the server's process.

Every wait has an end, and nothing sleeps until "it should have arrived by now": `/ping` is the
barrier. Its answer proves that all the client sent before has been processed (F5, D4); and what
had not arrived before the recipient's own pong was never sent. Standard library only.
"""

import itertools
import os
import re
import selectors
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path

LINE_LIMIT = 1024
TOO_LONG = "! line too long (limit 1024 bytes)"
NOT_UTF8 = "! not valid UTF-8"
CONTROL_CHARACTERS = "! control characters are not allowed"
INVALID_NAME = "! invalid name (1-20 letters, digits, _ or -)"
WORK_USAGE = "! usage: /work MS (1-1000)"
PM_USAGE = "! usage: /pm NAME TEXT"
IDLE_TIMEOUT = "! idle timeout"
SERVER_FULL = "! server full"
SHUTTING_DOWN = "* server shutting down"

# The probe that looks whether a server is empty (see `wait_until_empty`) is no part of any test,
# but its coming and going may be announced to the first client of the next one.
PROBE_NOTICE = re.compile(r"\* settle-\d+ (joined|left)")

_numbers = itertools.count(1)

# Who has been told `* hello NAME`, as (port of the server, name): see `wait_until_left`.
_let_in: set[tuple[int, str]] = set()


class LineClient:
    """A blocking client that reads and writes whole lines; each wait ends after `timeout` seconds.

    Lines are str without their ending. A wait that ends raises TimeoutError, the end of the
    connection EOFError; both say what had been awaited and what had come instead.
    """

    def __init__(self, address: tuple[str, int], timeout: float = 10.0) -> None:
        self.timeout = timeout
        self.port = address[1]
        self.name: str | None = None
        self.socket = open_socket(address, timeout)
        self._received = bytearray()

    def __enter__(self) -> "LineClient":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def send_line(self, line: str) -> None:
        """Send one line and its LF."""
        self.send_bytes(line.encode() + b"\n")

    def send_bytes(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.socket.settimeout(self.timeout)
        self.socket.sendall(data)

    def read_line(self) -> str:
        """The next line. Raises EOFError at the end of the connection, a reset included."""
        while True:
            while (end := self._received.find(b"\n")) < 0:
                if not self._receive(self.timeout):
                    raise EOFError(f"{self._who()}: the server closed; rest: {self._received!r}")
            line = self._received[:end].decode()
            del self._received[: end + 1]
            if line.startswith("* hello "):
                _let_in.add((self.port, line.removeprefix("* hello ")))
            if not PROBE_NOTICE.fullmatch(line):
                return line

    def read_until(self, wanted: str) -> list[str]:
        """Read up to and including the line `wanted`; returns the lines that came before it."""
        lines: list[str] = []
        try:
            while (line := self.read_line()) != wanted:
                lines.append(line)
        except (EOFError, TimeoutError) as error:
            raise type(error)(f"{error}; awaited {wanted!r} after {lines[-20:]!r}") from None
        return lines

    def read_to_end(self) -> list[str]:
        """Read until the server has closed; returns all lines.

        A server that closes while our bytes are still on their way ends the connection with a
        reset: that is TCP's way, and an end like any other.
        """
        lines = []
        while True:
            try:
                lines.append(self.read_line())
            except EOFError:
                if self._received:
                    raise AssertionError(f"the last line has no LF: {self._received!r}") from None
                return lines

    def join(self, name: str | None = None) -> str:
        """Go through the handshake; None asks for a guest's name. Returns the name."""
        greeting = self.read_line()
        if not re.fullmatch(r"\* .+: enter your name", greeting):
            raise AssertionError(f"{self._who()} was not greeted but got {greeting!r}")
        self.send_line(name or "")
        answer = self.read_line()
        if not answer.startswith("* hello "):
            raise AssertionError(f"{name!r} was not let in but got {answer!r}")
        self.name = answer.removeprefix("* hello ")
        return self.name

    def ping(self) -> list[str]:
        """The barrier: returns the lines that came before the answer."""
        token = f"barrier-{next(_numbers)}"
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
        except (TimeoutError, BlockingIOError):  # nothing came; the latter where seconds is 0
            return False
        except ConnectionError:  # a reset is an end, and an end is something to read
            return True
        return True

    def peek(self) -> bytes:
        """What has arrived and not been read yet, for a message; at the end there is no more."""
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
        self.socket.settimeout(seconds)
        try:
            data = self.socket.recv(65536)
        except TimeoutError:
            raise TimeoutError(f"{self._who()}: no line within {seconds:g} s") from None
        except ConnectionError:  # a reset is an end as well; callers see EOFError
            return False
        self._received += data
        return bool(data)

    def _who(self) -> str:
        return self.name or "a client without a name"


class Conversation:
    """alice, whose bytes are under test, and bob, who hears her where the profile is chat.

    What she is told (`answers`) and what became of her text lines (`texts`) is collected
    wherever the profile delivers it, so that one test serves both profiles.
    """

    def __init__(self, profile: str, alice: LineClient, bob: LineClient) -> None:
        self.alice = alice
        self._bob = bob
        self._profile = profile
        self._heard_by_bob: list[str] = []

    def let_the_server_read(self) -> None:
        """Return when the server has most likely taken in what alice has sent so far.

        Another client's barrier: for a single-threaded server it is a proof, for the others a
        fair chance. The result must be the same either way (F5).
        """
        self._heard_by_bob += self._bob.ping()

    def outcome(self) -> tuple[list[str], list[str]]:
        """(answers, texts) since the last call, each in the order of arrival."""
        heard_by_alice = self.alice.ping()
        heard_by_bob = self._heard_by_bob + self._bob.ping()
        self._heard_by_bob = []
        prefix = f"{self.alice.name}: "
        answers = [line for line in heard_by_alice if not line.startswith(prefix)]
        echoed = [line for line in heard_by_alice if line.startswith(prefix)]
        silent, texts = (
            (heard_by_bob, echoed) if self._profile == "echo" else (echoed, heard_by_bob)
        )
        if silent:
            raise AssertionError(f"in profile {self._profile} this went astray: {silent}")
        return answers, [text.removeprefix(prefix) for text in texts]


class Member:
    """One connection of a Crowd: what it has still to send and all it has received."""

    def __init__(self, sock: socket.socket, name: str) -> None:
        self.socket = sock
        self.name = name
        self.outgoing = bytearray()
        self.incoming = bytearray()
        self.reading = True
        self.closed = False
        self.awaited: bytes | None = None
        self.events = 0  # what the selector watches it for

    def lines(self) -> list[str]:
        """All complete lines received since `incoming` was last cleared."""
        return self.incoming.decode().split("\n")[:-1]


class Crowd:
    """Many connections driven by one selector: fast, and nobody waits for anybody.

    Queue bytes in `member.outgoing`, then `pump` until something has come true. A member whose
    `reading` is False never reads. A lost connection is a state (`closed`), not an exception.
    """

    def __init__(self, address: tuple[str, int], profile: str) -> None:
        self.profile = profile
        self.members: list[Member] = []
        self._address = address
        self._selector = selectors.DefaultSelector()

    def __enter__(self) -> "Crowd":
        return self

    def __exit__(self, *exception: object) -> None:
        for member in self.members:
            member.socket.close()
        self._selector.close()

    def connect(self, names: Iterable[str]) -> list[Member]:
        """Open one connection per name; nothing is sent or read yet."""
        newcomers = []
        for name in names:
            member = Member(open_socket(self._address, 10.0), name)
            member.socket.setblocking(False)
            self.members.append(member)
            newcomers.append(member)
        return newcomers

    def join(self, names: Iterable[str]) -> list[Member]:
        """Connect and go through the handshake; all are in, with nothing unread, on return."""
        newcomers = self.connect(names)
        for member in newcomers:
            member.outgoing += member.name.encode() + b"\n"
            member.awaited = f"* hello {member.name}\n".encode()
        self._pump_until_answered(newcomers, "hello")
        _let_in.update((self._address[1], member.name) for member in newcomers)
        for _ in range(2):  # the first proves that all are in, the second takes in the notices
            self.barrier(member for member in self.members if member.reading)
        for member in self.members:
            member.incoming.clear()
        return newcomers

    def reset(self, member: Member) -> None:
        """End a member's connection with a reset, and forget the member."""
        self.members.remove(member)
        self._watch(member, 0)
        reset(member.socket)

    def barrier(self, members: Iterable[Member], seconds: float = 30.0) -> None:
        """Let each of the members send a `/ping`, and read until each has got its pong."""
        token = f"barrier-{next(_numbers)}"
        members = list(members)
        for member in members:
            member.outgoing += f"/ping {token}\n".encode()
            member.awaited = f"* pong {token}\n".encode()
        self._pump_until_answered(members, f"pong {token}", seconds)

    def _pump_until_answered(self, members: list[Member], what: str, seconds: float = 30.0) -> None:
        self.pump(
            lambda: not any(member.awaited and not member.closed for member in members),
            f"{len(members)} times {what}",
            seconds,
        )
        lost = [member.name for member in members if member.awaited]
        if lost:
            raise AssertionError(f"closed before {what}: {lost}")

    def pump(self, done: Callable[[], bool], what: str, seconds: float = 30.0) -> None:
        """Send and receive until `done()`; raises TimeoutError naming `what` after `seconds`."""
        deadline = time.monotonic() + seconds
        while not done():
            if time.monotonic() > deadline:
                raise TimeoutError(f"not within {seconds:g} s: {what}")
            self._turn(0.05)

    def pump_until_quiet(self, quiet_seconds: float = 0.15, seconds: float = 20.0) -> None:
        """Send and receive until nothing has moved for a while: all that could flow has flowed."""
        deadline = time.monotonic() + seconds
        quiet_since = time.monotonic()
        while time.monotonic() < min(deadline, quiet_since + quiet_seconds):
            if self._turn(0.05):
                quiet_since = time.monotonic()

    def _turn(self, seconds: float) -> int:
        """One turn of the loop; returns the number of bytes moved."""
        for member in self.members:
            events = selectors.EVENT_READ if member.reading else 0
            if member.outgoing:
                events |= selectors.EVENT_WRITE
            if events != member.events and not member.closed:
                self._watch(member, events)
        moved = 0
        for key, ready in self._selector.select(seconds):
            if ready & selectors.EVENT_WRITE:
                moved += self._write(key.data)
            if ready & selectors.EVENT_READ:
                moved += self._read(key.data)
        return moved

    def _write(self, member: Member) -> int:
        try:
            sent = member.socket.send(member.outgoing[:65536])
        except BlockingIOError:  # ready a moment ago, not now: the next turn sees
            return 0
        except ConnectionError:  # the server has closed; what it had sent before can still be read
            member.outgoing.clear()
            if not member.reading:
                self._close(member)
            return 0
        del member.outgoing[:sent]
        return sent

    def _read(self, member: Member) -> int:
        try:
            data = member.socket.recv(1 << 18)
        except BlockingIOError:
            return 0
        except ConnectionError:  # a reset is an end as well
            data = b""
        if not data:
            self._close(member)
            return 0
        seen = len(member.incoming)
        member.incoming += data
        if member.awaited:
            start = max(0, seen - len(member.awaited))
            if member.incoming.find(member.awaited, start) >= 0:
                member.awaited = None
        return len(data)

    def _watch(self, member: Member, events: int) -> None:
        if not events:
            if member.events:
                self._selector.unregister(member.socket)
        elif not member.events:
            self._selector.register(member.socket, events, member)
        else:
            self._selector.modify(member.socket, events, member)
        member.events = events

    def _close(self, member: Member) -> None:
        self._watch(member, 0)
        member.closed = True
        member.socket.close()


class ProcessView:
    """What the kernel tells about a running process (Linux: proc(5))."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._directory = Path("/proc", str(pid))

    def threads(self) -> int:
        """Number of threads."""
        return len(list((self._directory / "task").iterdir()))

    def descriptors(self) -> int:
        """Number of open file descriptors."""
        return len(list((self._directory / "fd").iterdir()))

    def cpu_seconds(self) -> float:
        """CPU time used so far, user and system, by all threads, and by processes it has started.

        For where a server computes is its own choice (C6). The launcher makes it the leader of a
        group, and whatever it starts is in that group, or has ended and is counted with it.
        """
        ticks = 0
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rpartition(")")[2].split()
            # It ended while we looked.
            except OSError:
                continue
            if int(stat.parent.name) == self._pid or int(fields[2]) == self._pid:
                ticks += sum(map(int, fields[11:15]))
        return ticks / os.sysconf("SC_CLK_TCK")

    def peak_memory(self) -> int:
        """The most resident memory the process has ever had, in bytes."""
        status = (self._directory / "status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024


def halt(process: subprocess.Popen) -> None:
    """Stop a child with SIGSTOP, and return once all its threads have stopped; SIGCONT goes on."""
    process.send_signal(signal.SIGSTOP)
    os.waitpid(process.pid, os.WUNTRACED)


def open_socket(address: tuple[str, int], timeout: float) -> socket.socket:
    """A connected TCP socket; each send leaves as a segment of its own (TCP_NODELAY)."""
    sock = socket.create_connection(address, timeout)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def reset(sock: socket.socket) -> None:
    """Close with a reset: SO_LINGER on, for zero seconds (Stevens, UNP ch. 7.5)."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 10.0) -> None:
    """Poll a condition no barrier can tell of; raises TimeoutError naming `what`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds:g} s: {what}")
        time.sleep(0.01)  # only the pause between two looks


def wait_until_left(witness: LineClient, name: str) -> list[str]:
    """Let another client ask `/list` until `name` is gone; returns what else it read meanwhile.

    Who has not come yet is not listed either, so `name` must have been told `* hello NAME` before
    (H3), and one of our clients must have read it. For others: `wait_until_nobody_else_is_in`.
    """
    if (witness.port, name) not in _let_in:
        raise AssertionError(f"the test does not know that {name} has ever come")
    seen = []

    def look() -> bool:
        others, names = _ask_who_is_in(witness)
        seen.extend(others)
        return name not in names

    wait_until(look, f"{name} to leave")
    return seen


def wait_until_nobody_else_is_in(witness: LineClient, seconds: float = 10.0) -> None:
    """Return when all who connected before have come, if they ever do, and left again.

    A newcomer is greeted, so those who connected before it can be heard by now.
    """
    with LineClient(witness.socket.getpeername()[:2], witness.timeout) as newcomer:
        newcomer.read_line()
    _wait_until_alone(witness, seconds)


def wait_until_empty(address: tuple[str, int], seconds: float = 10.0) -> None:
    """Return when nobody but our probe is in: all that earlier clients left behind is gone."""
    with LineClient(address) as probe:
        probe.join(f"settle-{next(_numbers)}")
        _wait_until_alone(probe, seconds)
        probe.send_line("/quit")
        probe.read_to_end()
    _let_in.clear()


def _wait_until_alone(witness: LineClient, seconds: float) -> None:
    names = []

    def look() -> bool:
        nonlocal names
        _, names = _ask_who_is_in(witness)
        return names == [witness.name]

    # Between two answers to one client all who have sent something have had a turn (F7): then
    # who wanted to come has come, though it may have gone already.
    witness.ping()
    witness.ping()
    try:
        wait_until(look, "all others to leave", seconds)
    except TimeoutError:
        raise AssertionError(f"others than {witness.name} stayed in: {names}") from None


def _ask_who_is_in(witness: LineClient) -> tuple[list[str], list[str]]:
    """Ask `/list`; returns what came before the answer, and the names in it."""
    lines = witness.ask("/list")
    online = next(line for line in reversed(lines) if re.match(r"\* \d+ online: ", line))
    lines.remove(online)
    return lines, online.partition(": ")[2].split(", ")
