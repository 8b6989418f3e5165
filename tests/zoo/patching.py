"""Apply a unified diff to a text: strictly, and without `patch`, which not every system has."""

import io
import re
from collections.abc import Iterator

HEAD_OF_A_HUNK = re.compile(r"@@ -\d+(?:,(\d+))? \+\d+(?:,(\d+))? @@.*")


class DiffError(Exception):
    """A diff does not fit: one line that says where."""


def apply_diff(diff: str, text: str) -> str:
    """Return `text` with the diff of one file applied. Raises DiffError.

    The old lines of each hunk have to stand in the text exactly once, as whole lines, and below
    those of the hunk before. Line numbers are not looked at: they change with every line that is
    written above.
    """
    lines = io.StringIO(text).readlines()
    result: list[str] = []
    # So many lines of the text are in the result already.
    done = 0
    for old, new in _hunks(diff):
        size = len(old)
        starts = [at for at in range(len(lines) - size + 1) if lines[at : at + size] == old]
        named = f"the lines from {''.join(old[:1]).strip()!r} on"
        if len(starts) != 1:
            raise DiffError(f"{named} stand there {len(starts)} times, not once")
        (start,) = starts
        if start < done:
            raise DiffError(f"{named} stand above those of an earlier hunk")
        result += [*lines[done:start], *new]
        done = start + size
    return "".join([*result, *lines[done:]])


def target(diff: str) -> str:
    """The file that a diff is for, as a path from the root of the repository."""
    match = re.search(r"^\+\+\+ b/(\S+)$", diff, re.MULTILINE)
    if match is None:
        raise DiffError("no line '+++ b/FILE'")
    return match[1]


def _hunks(diff: str) -> Iterator[tuple[list[str], list[str]]]:
    """(lines before, lines after) of each hunk; they must be as many as its head says."""
    lines = io.StringIO(diff)
    for line in lines:
        if line.startswith(("--- ", "+++ ")):
            continue
        head = HEAD_OF_A_HUNK.fullmatch(line.rstrip("\n"))
        if head is None:
            raise DiffError(f"neither a hunk nor the head of one: {line.rstrip()!r}")
        old_count, new_count = (int(count or 1) for count in head.groups())
        old: list[str] = []
        new: list[str] = []
        while len(old) < old_count or len(new) < new_count:
            line = next(lines, "")
            if line[:1] not in (" ", "-", "+"):
                raise DiffError(f"a hunk ends early, at {line.rstrip()!r}")
            if line[0] != "+":
                old.append(line[1:])
            if line[0] != "-":
                new.append(line[1:])
        yield old, new
