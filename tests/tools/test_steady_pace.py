"""A failed test says nothing if its clients were late because a core stood still."""

import math
import sys

import pytest

from tests.suite import pace
from tests.suite.pace import Watch, at_a_steady_pace


@pytest.fixture
def each_pause_counts(monkeypatch):
    """However short, so that nothing has to stand still."""
    monkeypatch.setattr(pace, "LONGEST_PAUSE", -1.0)


def failing(times, attempts, failure=pytest.fail.Exception):
    """A test that fails so many times; `attempts` gets the fixture of each call."""

    @at_a_steady_pace
    def test(room):
        attempts.append(room)
        if len(attempts) <= times:
            raise failure("a client was late")

    return test


@pytest.mark.usefixtures("each_pause_counts")
@pytest.mark.parametrize("failure", [pytest.fail.Exception, AssertionError, EOFError])
def test_it_is_repeated(failure):
    """With the same fixtures, until it has not failed."""
    attempts = []
    with pytest.warns(UserWarning, match="repeated, because a core stood still"):
        failing(1, attempts, failure)(room="a room")
    assert attempts == ["a room"] * 2


@pytest.mark.usefixtures("each_pause_counts")
def test_the_third_attempt_counts():
    """A server that is wrong each time is not excused by a slow machine."""
    attempts = []
    with pytest.warns(UserWarning), pytest.raises(pytest.fail.Exception, match="late"):
        failing(math.inf, attempts)(room="a room")
    assert len(attempts) == 3


def test_without_a_pause_the_first_attempt_counts(monkeypatch):
    """On a machine that runs, a failure is a failure."""
    monkeypatch.setattr(pace, "LONGEST_PAUSE", math.inf)
    attempts = []
    with pytest.raises(pytest.fail.Exception, match="late"):
        failing(1, attempts)(room="a room")
    assert len(attempts) == 1


@pytest.mark.usefixtures("each_pause_counts")
@pytest.mark.parametrize("end", [pytest.exit.Exception, pytest.skip.Exception, KeyboardInterrupt])
def test_what_is_no_failure_is_not_repeated(end):
    """The end of the run, by its time limit, say, and a test that is skipped."""
    attempts = []
    with pytest.raises(end):
        failing(1, attempts, end)(room="a room")
    assert len(attempts) == 1


@pytest.mark.skipif(
    not getattr(sys, "_is_gil_enabled", lambda: True)(), reason="nothing holds up other threads"
)
def test_a_pause_is_seen():
    """A single call into C holds the interpreter's lock, so that no other thread runs."""
    watch = Watch()
    with watch.watching():
        sum(range(40_000_000))
    assert max(watch.pauses) > 0.05
