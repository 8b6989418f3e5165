"""The three figures, each with its script, the part of it that is drawn, and what stands beside."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.timeline.schedule import Schedule, Way
from benchmarks.timeline.script import Action
from benchmarks.timeline.svg import Figure, Window, in_short

SCRIPTS = Path(__file__).with_name("scripts")
LATE_NS = 2_000_000  # beyond it a recording shows the machine more than the servers


@dataclass(frozen=True)
class Lesson:
    """A figure: its title, the unit of its axis, its windows, and what is said of a schedule."""

    name: str
    title: str
    unit: str
    windows: Callable[[Sequence[Schedule]], list[Window]]
    said: Callable[[Schedule], str]

    @property
    def script(self) -> Path:
        """The file of its script."""
        return SCRIPTS / f"{self.name}.txt"


def figure_of(lesson: Lesson, schedules: Sequence[Schedule], further: Sequence[str] = ()) -> Figure:
    """What is drawn of these schedules, with how late the player was, and `further` notes."""
    late = max((schedule.lateness for schedule in schedules), default=0)
    notes = [f"The lines of the script were sent at most {in_short(late)} late."]
    if late > LATE_NS:
        notes.append("That is much: the machine was busy, and the times here say little.")
    notes += further
    said = [lesson.said(schedule) for schedule in schedules]
    windows = lesson.windows(schedules)
    return Figure(lesson.title, schedules, windows, lesson.unit, said, notes)


def everything(schedules: Sequence[Schedule]) -> list[Window]:
    """The whole play, as long as the longest one."""
    end = max((schedule.end for schedule in schedules), default=1)
    return [Window(0, round(end * 1.01)) for _ in schedules]


def waits_for_pongs(schedule: Schedule) -> str:
    """The longest waits, by what happened meanwhile."""
    waits = pong_waits(schedule)
    parts = [f"{in_short(wait)} {when}" for when, wait in waits.items() if wait is not None]
    return f"a /ping took up to {', '.join(parts)}" if parts else ""


def pong_waits(schedule: Schedule) -> dict[str, int | None]:
    """The longest wait for a pong (ns), by when its question was sent; None where none was."""
    works = [
        (way.at, way.answered or schedule.end)
        for way in schedule.ways
        if way.message.command == "/work"
    ]
    deaf = [(start, end) for _, start, end in schedule.deaf]
    names = dict.fromkeys(name for name, _, _ in schedule.deaf)
    return {
        "beside /work": _longest(schedule, works),
        f"while {' and '.join(names)} is deaf": _longest(schedule, deaf),
    }


def _longest(schedule: Schedule, spans: Sequence[tuple[int, int]]) -> int | None:
    waits = [
        (way.answered or schedule.end) - way.at
        for way in schedule.ways
        if way.message.command == "/ping" and any(start <= way.at < end for start, end in spans)
    ]
    return max(waits, default=None)


def median_line(schedule: Schedule) -> Way | None:
    """Of the lines that were said again and again, the one that took the median time."""
    said = [
        way
        for way in schedule.ways
        if way.message.action is Action.SAYS and not way.message.command and way.answered
    ]
    if not said:
        return None
    times = {id(way): (way.answered or 0) - way.at for way in said}
    middle = statistics.median_low(times.values())
    return next(way for way in said if times[id(way)] == middle)


def around_the_median_line(schedules: Sequence[Schedule]) -> list[Window]:
    """From a little before it was sent to a little after it had arrived."""
    ways = [median_line(schedule) for schedule in schedules]
    long = max(((way.answered or way.at) - way.at for way in ways if way), default=1_000_000)
    windows = []
    for way in ways:
        at = way.at if way else 0
        windows.append(Window(at - long // 10, at + round(long * 1.15), at))
    return windows


def how_long_the_line_took(schedule: Schedule) -> str:
    """Of the line that is drawn."""
    way = median_line(schedule)
    if way is None or way.answered is None:
        return ""
    return f"there after {in_short(way.answered - way.at)}, the median of the lines that were said"


BEFORE_NS, AFTER_NS = 500_000, 3_500_000


def around_the_ping(schedules: Sequence[Schedule]) -> list[Window]:
    """Some milliseconds around the ping beside the work."""
    windows = []
    for schedule in schedules:
        pings = [way.at for way in schedule.ways if way.message.command == "/ping"]
        at = pings[0] if pings else 0
        windows.append(Window(at - BEFORE_NS, at + AFTER_NS, at))
    return windows


LESSONS = (
    Lesson(
        "conversation",
        "One conversation of four people, played to four servers: who runs, who waits",
        "ms",
        everything,
        waits_for_pongs,
    ),
    Lesson(
        "one-line",
        "One line, from the client that says it to the one that hears it",
        "µs",
        around_the_median_line,
        how_long_the_line_took,
    ),
    Lesson(
        "beside-work",
        "One ping beside somebody's /work",
        "ms",
        around_the_ping,
        waits_for_pongs,
    ),
)
