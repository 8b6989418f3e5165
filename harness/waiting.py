"""Waits for conditions that no `/ping` can prove. Each has an end."""

import re
import time
from collections.abc import Callable

from harness.line_client import LineClient, numbers
from harness.session import Session


class UnknownAnswer(AssertionError):
    """A server has answered `/list` in a form that C2 does not know."""


def wait_until(
    condition: Callable[[], bool],
    what: str,
    seconds: float = 10.0,
    session: Session | None = None,
) -> None:
    """Poll a condition that no barrier can prove; raises TimeoutError naming `what`."""
    session = session or Session()
    seconds = session.at_most(seconds)
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            session.lose_patience()
            raise TimeoutError(f"not within {seconds:g} s: {what}")
        time.sleep(0.01)


def wait_until_left(witness: LineClient, name: str) -> list[str]:
    """Let another client ask `/list` until `name` is gone; returns what else it read meanwhile.

    A client that has not joined yet is not listed either. So one of ours must have read
    `* hello NAME` before (H3). For others there is `wait_until_nobody_else_is_in`.
    """
    if (witness.port, name) not in witness.session.let_in:
        raise AssertionError(f"the test does not know that {name} has ever come")
    other_lines: list[str] = []

    def has_left() -> bool:
        others, names = _ask_who_is_in(witness)
        other_lines.extend(others)
        return name not in names

    wait_until(has_left, f"{name} to leave", session=witness.session)
    return other_lines


def wait_until_nobody_else_is_in(witness: LineClient, seconds: float = 10.0) -> None:
    """Return when all clients that connected before have joined, if they ever do, and left again.

    A newcomer is greeted first, so the server has accepted all that connected before it.
    """
    address = witness.socket.getpeername()[:2]
    with LineClient(address, witness.timeout, witness.session) as newcomer:
        newcomer.read_line()
    _wait_until_alone(witness, seconds)


def wait_until_empty(
    address: tuple[str, int], seconds: float = 10.0, session: Session | None = None
) -> None:
    """Return when nobody but our probe is in: all earlier clients are gone."""
    with LineClient(address, session=session) as probe:
        probe.join(f"settle-{next(numbers)}")
        _wait_until_alone(probe, seconds)
        probe.send_line("/quit")
        probe.read_to_end()
        probe.session.let_in.clear()


def _wait_until_alone(witness: LineClient, seconds: float) -> None:
    names: list[str] = []

    def is_alone() -> bool:
        nonlocal names
        _, names = _ask_who_is_in(witness)
        return names == [witness.name]

    # Between two answers to one client, every client that has sent something has had a turn (F7).
    # So every client that wanted to join has joined, though it may have left already.
    witness.ping()
    witness.ping()
    try:
        wait_until(is_alone, "all others to leave", seconds, witness.session)
    except TimeoutError:
        raise AssertionError(f"others than {witness.name} stayed in: {names}") from None


def _ask_who_is_in(witness: LineClient) -> tuple[list[str], list[str]]:
    """Ask `/list`; returns what came before the answer, and the names in it."""
    lines = witness.ask("/list")
    online = next((line for line in reversed(lines) if re.match(r"\* \d+ online: ", line)), None)
    if online is None:
        raise UnknownAnswer(f"/list was answered with {lines!r}")
    lines.remove(online)
    return lines, online.partition(": ")[2].split(", ")
