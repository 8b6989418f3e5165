"""Reads what recorder.py has written: the calls of a server, in the order in which they began."""

from dataclasses import dataclass
from pathlib import Path

from benchmarks.timeline.recorder import NAMES_SUFFIX, RECORD, Call

KNOWN = frozenset(Call)
MOST_HOLES = 2000  # records; behind so many there is nothing more


@dataclass(frozen=True)
class Event:
    """One call: times in ns of the monotonic clock, `end` None if the server never got so far.

    `port` is that of the client at the other side, or of the one that a coroutine serves; 0 where
    there is none. `count` is how many bytes it moved, -1 if it failed.
    """

    call: Call
    thread: int
    port: int
    count: int
    start: int
    end: int | None
    coroutine: str = ""


def read_recording(path: Path) -> list[Event]:
    """All that was recorded, up to the end or to where the server was killed."""
    names = [""]
    names_path = path.with_name(path.name + NAMES_SUFFIX)
    if names_path.exists():
        names += names_path.read_text(encoding="utf-8").splitlines()
    events = []
    holes = 0
    with path.open("rb") as file:
        while len(chunk := file.read(RECORD.size)) == RECORD.size:
            start, end, thread, port, count, call, name = RECORD.unpack(chunk)
            if not start or call not in KNOWN:
                # A thread was stopped between taking its place and writing there.
                holes += 1
                if holes > MOST_HOLES:
                    break
                continue
            coroutine = names[name] if name < len(names) else ""
            events.append(Event(Call(call), thread, port, count, start, end or None, coroutine))
    return sorted(events, key=lambda event: event.start)
