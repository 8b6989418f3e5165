"""The script of a conversation: who does what, and when.

    # a comment
    0    alice  joins
    30   alice  says hi
    50   bob    says /work 80
    160  dave   stops reading
    160  dave   floods 600
    225  dave   reads
    250  dave   leaves

Each line has a time in milliseconds, a client, and what it does. `joins` connects and gives the
name, once for each name. `says` sends the rest of the line. `floods N` sends N pings of 1,000 bytes
in one go. `leaves` sends /quit and reads to the end. Times must not run backwards.
"""

import math
import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

NAME = re.compile(r"[\w-]{1,20}")
MOST_CLIENTS = 8  # more have no colours of their own
LONGEST_S = 60.0
MOST_IN_A_FLOOD = 10_000


class ScriptError(Exception):
    """A script cannot be played: one line with the number of its line, and what was expected."""


class Action(StrEnum):
    """What a client may do."""

    JOINS = "joins"
    SAYS = "says"
    FLOODS = "floods"
    STOPS_READING = "stops reading"
    READS = "reads"
    LEAVES = "leaves"


@dataclass(frozen=True)
class Step:
    """Something that a client does, so many milliseconds after the beginning."""

    at_ms: float
    client: str
    action: Action
    text: str = ""
    count: int = 0


def read_script(path: Path) -> tuple[str, list[Step]]:
    """The text of a file, and its steps. Raises ScriptError."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ScriptError(f"--script {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ScriptError(f"--script {path}: is no text in UTF-8") from None
    return text, parse_script(text, str(path))


def parse_script(text: str, name: str) -> list[Step]:
    """The steps of a script, whose `name` stands in its errors. Raises ScriptError."""
    steps: list[Step] = []
    joined: set[str] = set()
    present: set[str] = set()
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        where = f"{name}, line {number}"
        step = _step(line, where)
        if steps and step.at_ms < steps[-1].at_ms:
            raise ScriptError(f"{where}: {step.at_ms:g} ms is before the line above it")
        if step.action is Action.JOINS and step.client in joined:
            raise ScriptError(f"{where}: {step.client} has joined already, and joins once")
        if step.action is not Action.JOINS and step.client not in present:
            what = "has left" if step.client in joined else "has to join first"
            raise ScriptError(f"{where}: {step.client} {what}")
        if step.action is Action.JOINS:
            joined.add(step.client)
            present.add(step.client)
        if step.action is Action.LEAVES:
            present.discard(step.client)
        steps.append(step)
    if not steps:
        raise ScriptError(f"{name}: has no step; a line is such as `0 alice joins`")
    if len({step.client for step in steps}) > MOST_CLIENTS:
        raise ScriptError(f"{name}: more than {MOST_CLIENTS} clients")
    return steps


def _step(text: str, where: str) -> Step:
    parts = text.split(maxsplit=2)
    if len(parts) < 3:
        raise ScriptError(f"{where}: TIME CLIENT ACTION is expected, such as `30 alice says hi`")
    time, client, action = parts
    try:
        at_ms = float(time)
    except ValueError:
        at_ms = math.nan
    if not 0 <= at_ms <= 1000 * LONGEST_S:
        raise ScriptError(
            f"{where}: a time in ms from 0 to {1000 * LONGEST_S:g} is expected, not {time!a}"
        )
    if not NAME.fullmatch(client):
        raise ScriptError(
            f"{where}: a name of 1 to 20 letters, digits, _ or - is expected, not {client!a}"
        )
    action = action.strip()
    verb, _, rest = action.partition(" ")
    line = rest.strip()
    if verb == Action.SAYS and line and line.isprintable():
        is_end = line.split()[0] == "/quit"
        return Step(at_ms, client, Action.LEAVES if is_end else Action.SAYS, line)
    if verb == Action.FLOODS and rest.isdecimal() and 0 < int(rest) <= MOST_IN_A_FLOOD:
        return Step(at_ms, client, Action.FLOODS, count=int(rest))
    if action in (Action.JOINS, Action.STOPS_READING, Action.READS, Action.LEAVES):
        return Step(at_ms, client, Action(action), "/quit" if action == Action.LEAVES else "")
    raise ScriptError(
        f"{where}: joins, says LINE, floods NUMBER, stops reading, reads or leaves is expected,"
        f" not {action!a}"
    )
