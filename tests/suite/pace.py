"""Clients with a pace: some go on sending, some read slowly."""

import socket
import time
from collections.abc import Callable, Mapping

from harness.crowd import Crowd, Member
from tests.limits.ways import connect_with_small_buffers

# The kernel is asked to hold so much for a slow reader; it doubles that.
SMALL_BUFFER = 16 * 1024  # bytes


def pump_at_a_pace(
    room: Crowd,
    done: Callable[[], bool],
    what: str,
    seconds: float,
    sends: Mapping[Member, bytes] | None = None,
    reads: Mapping[Member, int] | None = None,
) -> None:
    """Pump until `done()`.

    Twenty times a second each member of `sends` sends these bytes. Each of `reads` reads so many
    bytes a second.
    """
    begin = time.monotonic()
    next_round = begin

    def paced_and_done() -> bool:
        nonlocal next_round
        now = time.monotonic()
        for member, rate in (reads or {}).items():
            member.reading = len(member.incoming) < rate * (now - begin)
        if now >= next_round:
            next_round = now + 0.05
            for member, data in (sends or {}).items():
                member.outgoing += data
        return done()

    room.pump(paced_and_done, what, seconds)


def connect_slow_reader(room: Crowd, name: str) -> Member:
    """A member for which the kernel holds little, so that the server has to wait for it."""
    connection = connect_with_small_buffers(room.address, SMALL_BUFFER, [socket.SO_RCVBUF])
    return room.adopt(connection, name)


def join_slow_reader(room: Crowd, name: str) -> Member:
    """Like `room.join` with one name, with such a connection."""
    member = connect_slow_reader(room, name)
    room.let_in([member])
    return member
