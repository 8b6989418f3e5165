"""Many connections driven from one loop: fast, and nobody waits for anybody."""

import selectors
import socket
import time
from collections.abc import Callable, Iterable

from harness.line_client import let_in, numbers, open_socket, reset
from harness.patience import patience


class Member:
    """One connection of a Crowd: what it has still to send and all it has received."""

    def __init__(self, sock: socket.socket, name: str) -> None:
        self.socket = sock
        self.name = name
        self.outgoing = bytearray()
        self.incoming = bytearray()
        self.reading = True
        self.closed = False
        # Whether its connection has ended with a reset.
        self.was_reset = False
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
        return [self.adopt(open_socket(self._address, 10.0), name) for name in names]

    def adopt(self, connection: socket.socket, name: str) -> Member:
        """Take in a connection that somebody else has opened; nothing is sent or read yet."""
        connection.setblocking(False)
        member = Member(connection, name)
        self.members.append(member)
        return member

    def join(self, names: Iterable[str]) -> list[Member]:
        """Connect and go through the handshake; all are in, with nothing unread, on return."""
        newcomers = self.connect(names)
        self.let_in(newcomers)
        return newcomers

    def let_in(self, newcomers: list[Member]) -> None:
        """Go through the handshake with those who have only connected; as `join` otherwise."""
        for member in newcomers:
            member.outgoing += member.name.encode() + b"\n"
            member.awaited = f"* hello {member.name}\n".encode()
        self._pump_until_answered(newcomers, "hello")
        let_in.update((self._address[1], member.name) for member in newcomers)
        for _ in range(2):  # the first proves that all are in, the second takes in the notices
            self.barrier(member for member in self.members if member.reading)
        for member in self.members:
            member.incoming.clear()

    def reset(self, member: Member) -> None:
        """End a member's connection with a reset, and forget the member."""
        self.members.remove(member)
        self._watch(member, 0)
        reset(member.socket)

    def barrier(self, members: Iterable[Member], seconds: float = 30.0) -> None:
        """Let each of the members send a `/ping`, and read until each has got its pong."""
        token = f"barrier-{next(numbers)}"
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
        seconds = patience.at_most(seconds)
        deadline = time.monotonic() + seconds
        while not done():
            if time.monotonic() > deadline:
                patience.lose()
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
            member.was_reset = True
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
            member.was_reset = True
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
