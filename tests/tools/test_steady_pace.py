"""A failed test says nothing if its clients were late because a core stood still."""

import math

import pytest

from tests.suite import pace
from tests.suite.pace import at_a_steady_pace


def failing(times, attempts, stand_still):
    """A test that fails so many times; `attempts` gets the fixture of each call."""

    @at_a_steady_pace
    def test(room):
        attempts.append(room)
        if stand_still:
            # A single call into C: no other thread of this process runs meanwhile.
            sum(range(40_000_000))
        if len(attempts) <= times:
            pytest.fail("a client was late")

    return test


def test_it_is_repeated():
    """With the same fixtures, until it has not failed."""
    attempts = []
    failing(1, attempts, stand_still=True)(room="a room")
    assert attempts == ["a room"] * 2


def test_the_third_attempt_counts():
    """A server that is wrong each time is not excused by a slow machine."""
    attempts = []
    with pytest.raises(pytest.fail.Exception, match="late"):
        failing(math.inf, attempts, stand_still=True)(room="a room")
    assert len(attempts) == 3


def test_without_a_pause_the_first_attempt_counts(monkeypatch):
    """On a machine that runs, a failure is a failure."""
    monkeypatch.setattr(pace, "LONGEST_PAUSE", math.inf)
    attempts = []
    with pytest.raises(pytest.fail.Exception, match="late"):
        failing(1, attempts, stand_still=False)(room="a room")
    assert len(attempts) == 1
