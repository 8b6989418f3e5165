"""Clients with a pace: some go on sending, some read slowly. The kernel holds little for them."""

import contextlib
import functools
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping

import pytest

from harness.crowd import Crowd, Member
from harness.server_under_test import ServerUnderTest
from tests.limits.ways import connect_with_small_buffers
from tests.suite.rule_report import SkippedFor
from tests.suite.suite_run import Skipped

# The kernel is asked to hold so much for a slow reader; it doubles that.
SMALL_BUFFER = 16 * 1024  # bytes
# A client whose own process has not run for so long has not read steadily.
LONGEST_PAUSE = 0.2  # seconds


def pump_at_a_pace(
    room: Crowd,
    done: Callable[[], bool],
    what: str,
    seconds: float,
    sends: Mapping[Member, bytes] | None = None,
    reads: Mapping[Member, int] | None = None,
) -> float:
    """Pump until `done()`; returns the longest pause that we made against our will, in seconds.

    Twenty times a second each member of `sends` sends these bytes. Each of `reads` reads so many
    bytes a second.
    """
    begin = time.monotonic()
    next_round = last_turn = begin
    longest_pause = 0.0

    def paced_and_done() -> bool:
        nonlocal next_round, last_turn, longest_pause
        now = time.monotonic()
        longest_pause = max(longest_pause, now - last_turn)
        last_turn = now
        for member, rate in (reads or {}).items():
            member.reading = len(member.incoming) < rate * (now - begin)
        if now >= next_round:
            next_round = now + 0.05
            for member, data in (sends or {}).items():
                member.outgoing += data
        return done()

    room.pump(paced_and_done, what, seconds)
    return longest_pause


def need_a_steady_pace(longest_pause: float) -> None:
    """Skip the test if a slow machine kept our client from reading steadily."""
    if longest_pause > LONGEST_PAUSE:
        reason = f"this machine is too busy: our client did not run for {longest_pause:.1f} s"
        raise Skipped(reason, SkippedFor.SYSTEM)


class Watch:
    """Sees whether a core has stood still: on each of ours, a thread wakes up again and again."""

    def __init__(self) -> None:
        self.longest_pause = 0.0
        self._is_over = threading.Event()

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Watch during the block. Afterwards `longest_pause` is how long one was late, in s."""
        can_choose = hasattr(os, "sched_setaffinity")
        pins = [{core} for core in os.sched_getaffinity(0)] if can_choose else [set[int]()]
        threads = [threading.Thread(target=self._look_at, args=(pin,)) for pin in pins]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._is_over.set()
            for thread in threads:
                thread.join()

    def _look_at(self, pin: set[int]) -> None:
        if pin:
            os.sched_setaffinity(0, pin)
        while not self._is_over.is_set():
            due = time.monotonic() + 0.02
            self._is_over.wait(0.02)
            self.longest_pause = max(self.longest_pause, time.monotonic() - due)


def at_a_steady_pace(test: Callable[..., None]) -> Callable[..., None]:
    """Make a test of clients that must not be late: if it fails and a core stood still, it repeats.

    The client may then have done less than the rule asks of it, so the failure says nothing. The
    third attempt counts in any case.
    """

    @functools.wraps(test)
    def repeated(**fixtures: object) -> None:
        for _ in range(2):
            watch = Watch()
            try:
                with watch.watching():
                    test(**fixtures)
            # Whatever has made it fail: a client that was late meets many kinds of errors.
            except (Exception, pytest.fail.Exception):
                if watch.longest_pause <= LONGEST_PAUSE:
                    raise
            else:
                return
        test(**fixtures)

    return repeated


def connect_slow_reader(room: Crowd, name: str) -> Member:
    """A member for which the kernel holds little, so that the server has to wait for it."""
    connection = connect_with_small_buffers(room.address, SMALL_BUFFER, [socket.SO_RCVBUF])
    return room.adopt(connection, name)


def join_slow_reader(room: Crowd, name: str) -> Member:
    """Like `room.join` with one name, with such a connection."""
    member = connect_slow_reader(room, name)
    room.let_in([member])
    return member


def need_small_buffers(target: ServerUnderTest) -> None:
    """Skip the test if nothing limits what the kernel holds for this server's connections."""
    if not target.takes_a_preparation:
        reason = "the kernel's buffers can be made small only for a server that Python runs"
        raise Skipped(reason, SkippedFor.SYSTEM)
