"""Many connections driven by one loop, so that no client waits for another."""

import selectors
import socket
import time
from collections.abc import Callable, Iterable
from typing import Self

from harness.line_client import numbers, open_socket, reset
from harness.session import Session

# A timeout tells of so many members, and so many of the bytes that each has sent or got last.
MEMBERS_TOLD = 10
BYTES_TOLD = 60


class CrowdTimeout(TimeoutError):
    """What a crowd has waited for did not come. `members` tells in a line each how they stand."""

    def __init__(self, message: str, members: list[str]) -> None:
        super().__init__("\n".join([message, *members]))
        self.members = members


class Member:
    """One connection of a Crowd: what it still has to send, and all that it has received."""

    def __init__(self, sock: socket.socket, name: str) -> None:
        self.socket = sock
        self.name = name
        self.outgoing = bytearray()
        self.incoming = bytearray()
        self.reading = True
        self.closed = False
        self.was_reset = False
        self.awaited: bytes | None = None
        # How many bytes have gone either way, and the last of them.
        self.sent = self.received = 0
        self.last_sent = self.last_received = b""
        # When it has sent something (time.monotonic()).
        self.spoke_at = 0.0
        # The events that the selector watches it for.
        self.events = 0

    def lines(self) -> list[str]:
        """All complete lines received since `incoming` was last cleared.

        Bytes that are not UTF-8 appear as `\\xff`.
        """
        return self.incoming.decode(errors="backslashreplace").split("\n")[:-1]

    def in_short(self) -> str:
        """What it has sent and got, and whether it is closed, in one line."""
        if self.closed:
            state = "reset" if self.was_reset else "closed"
        else:
            state = "open" if self.reading else "open, does not read"
        unsent = f", {len(self.outgoing)} wait" if self.outgoing else ""
        return (
            f"{self.name}: sent {_amount(self.sent, self.last_sent)}{unsent}; "
            f"got {_amount(self.received, self.last_received)}; {state}"
        )


def _amount(number: int, last: bytes) -> str:
    return f"{number} bytes, at last {last!r}" if number else "nothing"


class Crowd:
    """Many connections driven by one selector.

    Queue bytes in `member.outgoing`, then `pump` until a condition holds. A member whose `reading`
    is False never reads. A lost connection is a state (`closed`), not an exception.
    """

    def __init__(
        self, address: tuple[str, int], profile: str, session: Session | None = None
    ) -> None:
        self.profile = profile
        self.session = session or Session()
        self.members: list[Member] = []
        self.address = address
        self._selector = selectors.DefaultSelector()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        for member in self.members:
            member.socket.close()
        self._selector.close()

    def connect(self, names: Iterable[str]) -> list[Member]:
        """Open one connection per name; nothing is sent or read yet."""
        return [self.adopt(open_socket(self.address, 10.0), name) for name in names]

    def adopt(self, connection: socket.socket, name: str) -> Member:
        """Take over a connection that the caller has opened."""
        connection.setblocking(False)
        member = Member(connection, name)
        self.members.append(member)
        return member

    def join(self, names: Iterable[str]) -> list[Member]:
        """Connect and go through the handshake; on return all are in, with nothing unread."""
        newcomers = self.connect(names)
        self.let_in(newcomers)
        return newcomers

    def let_in(self, newcomers: list[Member]) -> None:
        """Take members that have only connected through the handshake, as `join` does."""
        for member in newcomers:
            member.outgoing += member.name.encode() + b"\n"
            member.awaited = f"* hello {member.name}\n".encode()
        self._pump_until_answered(newcomers, "hello")
        for member in newcomers:
            self.session.note_let_in(self.address[1], member.name)
        # The first barrier proves that all are in, the second takes in the notices.
        for _ in range(2):
            self.barrier(member for member in self.members if member.reading)
        for member in self.members:
            member.incoming.clear()

    def reset(self, member: Member) -> None:
        """End a member's connection with a reset, if it has not ended, and forget the member."""
        self.members.remove(member)
        if not member.closed:
            self._watch(member, 0)
            reset(member.socket)

    def barrier(self, members: Iterable[Member], seconds: float = 30.0) -> None:
        """Let each of the members send a `/ping`, and pump until each has got its pong."""
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
        lost = [member for member in members if member.awaited]
        if lost:
            raise AssertionError(f"closed before {what}: {'; '.join(map(Member.in_short, lost))}")

    def pump(self, done: Callable[[], bool], what: str, seconds: float = 30.0) -> None:
        """Send and receive until `done()`; raises CrowdTimeout naming `what` after `seconds`."""
        seconds = self.session.at_most(seconds)
        deadline = time.monotonic() + seconds
        while not done():
            if time.monotonic() > deadline:
                self.session.lose_patience()
                raise CrowdTimeout(f"not within {seconds:g} s: {what}", self._how_all_stand())
            self._turn(0.05)

    def _how_all_stand(self) -> list[str]:
        """A line for each member, those first that an answer or an end is most likely missing to.

        These are the ones with an answer that is awaited, then those that cannot send, then those
        that are closed, and then those that have sent something last.
        """

        def how_well(member: Member) -> tuple[bool, bool, bool, float]:
            is_answered = member.awaited is None
            return is_answered, not member.outgoing, not member.closed, -member.spoke_at

        members = sorted(self.members, key=how_well)
        lines = [member.in_short() for member in members[:MEMBERS_TOLD]]
        more = len(members) - len(lines)
        return [*lines, f"and {more} more"] if more else lines

    def pump_until_quiet(self, quiet_seconds: float = 0.15, seconds: float = 20.0) -> None:
        """Send and receive until nothing has moved for a while, so all that can flow has flowed."""
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
        # It was ready a moment ago and is not now; the next turn tries again.
        except BlockingIOError:
            return 0
        # The server has closed; what it had sent before can still be read.
        except ConnectionError:
            member.outgoing.clear()
            member.was_reset = True
            if not member.reading:
                self._close(member)
            return 0
        member.sent += sent
        member.spoke_at = time.monotonic()
        member.last_sent = bytes(member.outgoing[max(0, sent - BYTES_TOLD) : sent])
        del member.outgoing[:sent]
        return sent

    def _read(self, member: Member) -> int:
        try:
            data = member.socket.recv(1 << 18)
        except BlockingIOError:
            return 0
        # A reset is an end as well.
        except ConnectionError:
            member.was_reset = True
            data = b""
        if not data:
            self._close(member)
            return 0
        length_before = len(member.incoming)
        member.incoming += data
        member.received += len(data)
        member.last_received = data[-BYTES_TOLD:]
        if member.awaited:
            start = max(0, length_before - len(member.awaited))
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
