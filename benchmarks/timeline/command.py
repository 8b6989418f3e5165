"""`python3 -m benchmarks timeline`: record a conversation on each server, and draw it."""

import argparse
import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.contestants.lineup import versions_named
from benchmarks.load.probe import has_process_clock
from benchmarks.result.file import try_folder
from benchmarks.timeline import page, svg
from benchmarks.timeline.figures import (
    LATE_NS,
    LESSONS,
    Lesson,
    everything,
    figure_of,
    waits_for_pongs,
)
from benchmarks.timeline.overhead import overhead_of
from benchmarks.timeline.player import PlayError
from benchmarks.timeline.record import Recorded, RecordingError, load, record, save
from benchmarks.timeline.script import ScriptError, read_script
from benchmarks.timeline.svg import in_short
from harness.command_line import printable
from harness.server_under_test import FAILURES, PORT, CommandError, ServerUnderTest

TRIES = 5
OWN = "timeline"  # the name of the figure of a script of the reader's own
ABOUT = (
    "Play one conversation to each server, record what the server did, and draw it under one time"
    " axis. Measure alone: on a busy machine a recording shows the machine."
)
# What is the user's to mend, each one line.
MISTAKES = (ScriptError, PlayError, RecordingError)
SCRIPT_FORMAT = """\
a script has a line for each step, TIME in milliseconds:
  0    alice joins           connects, and gives the name
  30   alice says hi         sends a line, or a command such as /work 80
  160  dave  stops reading   … reads
  160  dave  floods 600      sends 600 pings of 1,000 bytes in one go
  250  dave  leaves          sends /quit
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    names = [lesson.name for lesson in LESSONS]
    parser.add_argument("--figure", choices=names, action="append", help="only this one")
    parser.add_argument("--script", type=Path, metavar="FILE", help="a conversation of your own")
    parser.add_argument("--versions", metavar="LIST", help="such as v1,v4 (default: all four)")
    parser.add_argument(
        "--server",
        metavar="CMD",
        help="a Python server of your own in place of them; {port} in it stands for its port",
    )
    parser.add_argument(
        "--profile", choices=("echo", "chat"), default="chat", help="of --server (default: chat)"
    )
    parser.add_argument(
        "--zoo", metavar="BUG", help="a bug of the zoo, beside the server that has it not"
    )
    parser.add_argument(
        "--tries",
        type=int,
        default=TRIES,
        metavar="N",
        help=f"keep the one of N in which the player was least late (default: {TRIES})",
    )
    parser.add_argument(
        "--draw", type=Path, metavar="RECORDING", help="draw a recording again, without playing"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("results"), metavar="DIR", help="default: results/"
    )


def run(options: argparse.Namespace, report: Callable[[str], None]) -> list[str]:
    """Do what the options say; returns what is to be printed. Raises one line for each mistake."""
    _refuse_what_does_not_fit(options)
    if options.draw:
        head, recorded = load(options.draw)
        return draw(_lesson(head["lesson"]), recorded, options.out)
    lines = []
    with ExitStack() as until_done:
        servers = _servers(options, until_done)
        for lesson in _lessons(options):
            text, steps = read_script(options.script or lesson.script)
            try_folder(options.out)
            recorded = [record(server, steps, options.tries, report) for server in servers]
            save(options.out / f"{lesson.name}.json", lesson.name, text, options.tries, recorded)
            lines += draw(lesson, recorded, options.out)
        for server in servers:
            report(f"{server.name}: what the recorder costs")
            lines.append(_cost_of(server))
    return lines


def _refuse_what_does_not_fit(options: argparse.Namespace) -> None:
    """Raise CommandError for options that contradict each other, or this system."""
    if os.name == "nt":
        raise CommandError("timeline: a server can be recorded on Linux and macOS only")
    if options.tries < 1:
        raise CommandError("--tries: at least 1")
    for names in (("server", "zoo", "versions", "draw"), ("figure", "script", "draw")):
        given = [f"--{name}" for name in names if getattr(options, name)]
        if len(given) > 1:
            raise CommandError(f"{' and '.join(given)} do not go together")


def _cost_of(server: ServerUnderTest) -> str:
    """What the recorder costs a server, or why that is not known."""
    if not has_process_clock():
        return f"{server.name}: this system has no clock that tells what the recorder costs"
    try:
        return overhead_of(server).text
    # It was recorded all the same.
    except FAILURES as error:
        reason = printable(f"{error or type(error).__name__}")
        return f"{server.name}: what the recorder costs could not be measured: {reason}"


def _lessons(options: argparse.Namespace) -> list[Lesson]:
    if options.script:
        return [_lesson(OWN)]
    return [one for one in LESSONS if not options.figure or one.name in options.figure]


def _lesson(name: str) -> Lesson:
    """The lesson of that name, or one that draws everything."""
    known = {lesson.name: lesson for lesson in LESSONS}
    title = "One conversation on several servers: who runs, who waits"
    return known.get(name) or Lesson(OWN, title, "ms", everything, waits_for_pongs)


def _servers(options: argparse.Namespace, until_done: ExitStack) -> list[ServerUnderTest]:
    """Those that are recorded. Raises CommandError."""
    if options.server:
        server = ServerUnderTest("your server", options.profile, options.server)
        server.require(PORT)
        if not server.takes_a_preparation:
            raise CommandError(
                "--server: only a Python program can be recorded, its file right behind the"
                f" interpreter: 'python3 my_server.py --port {PORT}'"
            )
        return [server]
    if options.zoo:
        folder = until_done.enter_context(TemporaryDirectory(prefix="timeline-zoo-"))
        return _with_and_without_bug(options.zoo, Path(folder))
    return [ServerUnderTest.ours(version) for version in versions_named(options.versions)]


def _with_and_without_bug(name: str, folder: Path) -> list[ServerUnderTest]:
    """The server with a bug of the zoo, and the one without. Raises CommandError."""
    # The zoo is one of the tests' tools, and the benchmarks run without the tests.
    from tests.zoo.catalogue import ZooError, find_bug
    from tests.zoo.stage import program_under_test

    try:
        bug = find_bug(name)
        broken = bug.write_copy(folder / bug.name, broken=True)
    except ZooError as error:
        raise CommandError(f"--zoo: {error}") from None
    return [program_under_test(broken, bug.profile), ServerUnderTest.ours(bug.version)]


def draw(lesson: Lesson, recorded: Sequence[Recorded], out: Path) -> list[str]:
    """Write the pictures and the page; returns what is to be said, and their names."""
    schedules = [one.schedule for one in recorded]
    never = [
        f"{one.name}: {len(one.play.missing)} lines never came, the first to {client}: {line}"
        for one in recorded
        for client, line in one.play.missing[:1]
    ]
    figure = figure_of(lesson, schedules, never)
    paths = {
        out / f"{lesson.name}.svg": svg.draw(figure),
        out / f"{lesson.name}-narrow.svg": svg.draw(figure, svg.NARROW),
        out / f"{lesson.name}.html": page.page_of(figure),
    }
    lines = []
    try:
        out.mkdir(parents=True, exist_ok=True)
        for path, text in paths.items():
            path.write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise RecordingError(f"cannot write into {out}: {error.strerror}") from None
    for schedule in schedules:
        late = f"{schedule.name}: sent at most {in_short(schedule.lateness)} late"
        if schedule.lateness > LATE_NS:
            late += ": the machine is busy, and this recording says little"
        lines.append(late + (f"; it ended early: {schedule.cut}" if schedule.cut else ""))
    return [*lines, *never, *map(str, paths)]
