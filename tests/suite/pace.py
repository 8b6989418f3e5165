"""Clients with a pace: some go on sending, some read slowly. The kernel holds little for them."""

import contextlib
import functools
import os
import socket
import threading
import time
import warnings
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
MOST_CORES = 8  # that are watched


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


def need_a_steady_pace(longest_pause: float, allowed: float = LONGEST_PAUSE) -> None:
    """Skip the test if a slow machine kept our client from going on for longer than is allowed."""
    if longest_pause > allowed:
        reason = f"this machine is too busy: our client did not run for {longest_pause:.1f} s"
        raise Skipped(reason, SkippedFor.SYSTEM)


class Watch:
    """Sees whether a core has stood still: on each of ours, a thread wakes up again and again."""

    def __init__(self) -> None:
        # How late a thread woke up, each time, in seconds.
        self.pauses = [0.0]
        self._is_over = threading.Event()

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Watch during the block."""
        can_choose = hasattr(os, "sched_setaffinity")
        pins = sorted(os.sched_getaffinity(0))[:MOST_CORES] if can_choose else [None]
        threads = [threading.Thread(target=self._look_at, args=(pin,), daemon=True) for pin in pins]
        with contextlib.ExitStack() as started:
            started.callback(self._is_over.set)
            for thread in threads:
                thread.start()
            yield
        for thread in threads:
            thread.join()

    def _look_at(self, pin: int | None) -> None:
        if pin is not None:
            os.sched_setaffinity(0, [pin])
        while not self._is_over.is_set():
            due = time.monotonic() + 0.05
            self._is_over.wait(0.05)
            self.pauses.append(time.monotonic() - due)


def at_a_steady_pace(test: Callable[..., None]) -> Callable[..., None]:
    """For a test whose clients must not be late: if it fails while a core stood still, it repeats.

    The clients may then have done less than the rule asks of them, so the failure says nothing. The
    third attempt counts in any case. Each has to start a server of its own.
    """

    @functools.wraps(test)
    def repeated(**fixtures: object) -> None:
        for _ in range(2):
            watch = Watch()
            try:
                with watch.watching():
                    test(**fixtures)
            # The run is to end.
            except pytest.exit.Exception:
                raise
            # Whatever has made it fail: a client that was late meets many kinds of errors.
            except (Exception, pytest.fail.Exception):
                pause = max(watch.pauses)
                if pause <= LONGEST_PAUSE:
                    raise
                warnings.warn(
                    f"repeated, because a core stood still for {pause:.1f} s", stacklevel=1
                )
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
