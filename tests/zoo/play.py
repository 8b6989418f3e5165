"""`run NAME`: play a bug's script to the broken server and to the right one, row by row."""

import contextlib
import itertools
import tempfile
import textwrap
from collections.abc import Generator
from pathlib import Path

from harness.server_under_test import FAILURES, ServerUnderTest
from harness.system import Unavailable
from tests.zoo.catalogue import Bug, ZooError
from tests.zoo.scripts import script_of
from tests.zoo.stage import Row, Script, Stage, program_under_test

STEP_WIDTH = 28
SEEN_WIDTH = 24
WRONG = " <-"


def play(bug: Bug) -> bool:
    """Print what is seen of both servers; returns whether the bug has shown. Raises ZooError."""
    print(f"{bug.name}: {bug.headline}\n({bug.version}; it breaks rule {bug.rule})\n")
    with tempfile.TemporaryDirectory(prefix="zoo-") as folder:
        broken = bug.write_copy(Path(folder, "broken"), broken=True)
        right = bug.write_copy(Path(folder, "right"), broken=False)
        seen = play_beside(
            script_of(bug.name),
            {
                "with the bug (wrong: <-)": program_under_test(broken, bug.profile),
                "without the bug": program_under_test(right, bug.profile),
            },
        )
    print()
    if seen is None:
        print("Not seen: this time the two do not differ as they should.")
        return False
    wrong, other = seen
    difference = f"{_quoted(wrong)} with the bug, {_quoted(other)} without it."
    print(textwrap.fill(f"Seen: {wrong.step}: {difference}", 80))
    print(f"Why, and the diff: python3 -m tests.zoo show {bug.name}")
    return True


def play_to(program: Path, bug: Bug) -> bool:
    """Print what is seen of a reader's server beside the right one; returns if the bug is gone.

    Raises ZooError, also where the right server did not do as it should.
    """
    print(f"{bug.name}: {bug.headline}\n", flush=True)
    with tempfile.TemporaryDirectory(prefix="zoo-") as folder:
        right = bug.write_copy(Path(folder, "right"), broken=False)
        rows = _play_rows(
            script_of(bug.name),
            {
                "yours (wrong: <-)": program_under_test(program.resolve(), bug.profile),
                "the right one": program_under_test(right, bug.profile),
            },
        )
    print()
    if any(right.wrong for _, right in rows):
        raise ZooError("the right server did not do as it should, so this says nothing; try again")
    for yours, _ in rows:
        if yours.wrong:
            print(textwrap.fill(f"It is still there: {yours.step}: {_quoted(yours)}", 80))
            return False
    print(f"It is gone. Now compare: python3 -m tests.zoo show {bug.name}")
    return True


def play_beside(script: Script, servers: dict[str, ServerUnderTest]) -> tuple[Row, Row] | None:
    """Play a script to two servers, {heading: server}, the one that is wrong first; print rows.

    Returns the first two rows that differ as they should: something is wrong with the first server,
    and nothing with the second. Raises ZooError where this platform cannot show it, or a server
    does not play along.
    """
    rows = _play_rows(script, servers)
    if any(right.wrong for _, right in rows):
        return None
    return next(((broken, right) for broken, right in rows if broken.wrong), None)


def _play_rows(script: Script, servers: dict[str, ServerUnderTest]) -> list[tuple[Row, Row]]:
    """Play a script to two servers, and print each two rows as they are seen. Raises ZooError."""
    _print_columns("", *servers)
    seen = []
    # Close the generator at once, whatever happens, because that is what ends the servers.
    with contextlib.closing(_rows(script, [*servers.values()])) as rows:
        for one, other in rows:
            _print_rows(one, other)
            seen.append((one, other))
    return seen


def _rows(script: Script, servers: list[ServerUnderTest]) -> Generator[tuple[Row, Row], None, None]:
    """What is seen of the two servers, as it is seen. Raises ZooError."""
    with contextlib.ExitStack() as stages:
        broken, right = (stages.enter_context(Stage(server)) for server in servers)
        try:
            yield from zip(script(broken), script(right), strict=True)
        except Unavailable as error:
            raise ZooError(f"it cannot be shown here: {error}") from None
        # A server does neither what it should nor what the bug would make it do.
        except FAILURES as error:
            raise ZooError(f"it could not be played to its end: {error}") from None


def _quoted(row: Row) -> str:
    return row.seen or "nothing"


def _print_rows(with_bug: Row, without: Row) -> None:
    if not with_bug.seen and not without.seen and with_bug.step == without.step:
        for line in textwrap.wrap(with_bug.step, 78, subsequent_indent="  "):
            print(line)
        return
    _print_columns(with_bug.step, _quoted(with_bug), _quoted(without), with_bug.wrong)


def _print_columns(step: str, left: str, right: str, wrong: bool = False) -> None:
    cells = [
        textwrap.wrap(step, STEP_WIDTH, subsequent_indent="  "),
        textwrap.wrap(left + (WRONG if wrong else ""), SEEN_WIDTH),
        textwrap.wrap(right, SEEN_WIDTH),
    ]
    for one, two, three in itertools.zip_longest(*cells, fillvalue=""):
        print(f"{one:{STEP_WIDTH}}  {two:{SEEN_WIDTH}}  {three}".rstrip(), flush=True)
