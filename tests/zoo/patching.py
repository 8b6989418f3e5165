"""Apply a unified diff to a text: strictly, and without `patch`, which not every system has."""

import re

HUNK = re.compile(r"@@ -\d+(?:,(\d+))? \+\d+(?:,(\d+))? @@.*")


class DiffError(Exception):
    """A diff does not fit: one line that says where."""


def apply_diff(diff: str, text: str) -> str:
    """Return `text` with the diff of one file applied. Raises DiffError.

    Each hunk's lines have to stand in the text to the letter, exactly once, in the order of the
    hunks. Line numbers are not looked at: they change with every line that is written above.
    """
    for old, new in _hunks(diff):
        found = text.count(old)
        if found != 1:
            first_line = old.splitlines()[0].strip()
            raise DiffError(f"the lines from {first_line!r} on stand there {found} times, not once")
        text = text.replace(old, new)
    return text


def target(diff: str) -> str:
    """The file that a diff is for, as a path from the root of the repository."""
    match = re.search(r"^\+\+\+ b/(\S+)$", diff, re.MULTILINE)
    if match is None:
        raise DiffError("no line '+++ b/FILE'")
    return match[1]


def _hunks(diff: str) -> list[tuple[str, str]]:
    """(lines before, lines after) of each hunk; the lines must be as many as its head says."""
    hunks = []
    lines = iter(diff.splitlines(keepends=True))
    for line in lines:
        if line.startswith(("--- ", "+++ ")):
            continue
        head = HUNK.fullmatch(line.rstrip("\n"))
        if head is None:
            raise DiffError(f"neither a hunk nor the head of one: {line.rstrip()!r}")
        old_count, new_count = (int(count or 1) for count in head.groups())
        old, new = [], []
        while len(old) < old_count or len(new) < new_count:
            line = next(lines, "")
            if line[:1] not in (" ", "-", "+"):
                raise DiffError(f"a hunk ends early, at {line.rstrip()!r}")
            if line[0] != "+":
                old.append(line[1:])
            if line[0] != "-":
                new.append(line[1:])
        hunks.append(("".join(old), "".join(new)))
    return hunks
