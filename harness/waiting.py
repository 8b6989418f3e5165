"""Waits for what no `/ping` can tell of; each has an end."""

import re
import time
from collections.abc import Callable

from harness.line_client import LineClient, let_in, numbers
from harness.patience import patience


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 10.0) -> None:
    """Poll a condition no barrier can tell of; raises TimeoutError naming `what`."""
    seconds = patience.at_most(seconds)
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            patience.lose()
            raise TimeoutError(f"not within {seconds:g} s: {what}")
        time.sleep(0.01)  # only the pause between two looks


def wait_until_left(witness: LineClient, name: str) -> list[str]:
    """Let another client ask `/list` until `name` is gone; returns what else it read meanwhile.

    Who has not come yet is not listed either, so `name` must have been told `* hello NAME` before
    (H3), and one of our clients must have read it. For others: `wait_until_nobody_else_is_in`.
    """
    if (witness.port, name) not in let_in:
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
        probe.join(f"settle-{next(numbers)}")
        _wait_until_alone(probe, seconds)
        probe.send_line("/quit")
        probe.read_to_end()
    let_in.clear()


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
    online = next((line for line in reversed(lines) if re.match(r"\* \d+ online: ", line)), None)
    if online is None:
        raise AssertionError(f"/list was answered with {lines!r}")
    lines.remove(online)
    return lines, online.partition(": ")[2].split(", ")
