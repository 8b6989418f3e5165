"""Code in Markdown that says from which file it is: is it still there?

    <!-- from v2_select/server.py -->
    ```python
    def on_readable(self, client: Client) -> None:
    ...
        return True
    ```

The lines stand in the file one below the other, indented as a whole as far as one likes. A line
`...` stands for lines that are left out. What comes after it stands further down in the file.
"""

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FENCE = re.compile(
    r"^(?:<!-- from (?P<source>\S+) -->\n\s*)?^```(?P<language>\w*)\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
MARKER = re.compile(r"^<!-- from ", re.MULTILINE)
GAP = "..."


class NotThere(AssertionError):
    """A quotation does not stand in its file: which, and where it goes another way."""


@dataclass(frozen=True)
class Quotation:
    """A block of a document: the number among those quoted there, its file, its code."""

    number: int
    source: str
    code: str

    @property
    def first_line(self) -> str:
        """The first line that is not empty, for people to find it by."""
        return next((line.strip() for line in self.code.splitlines() if line.strip()), "")


def quotations(text: str) -> list[Quotation]:
    """The blocks of a document that say from where they are. Raises NotThere: a marker has none."""
    found = [block for block in FENCE.finditer(text) if block["source"]]
    if len(found) != len(MARKER.findall(text)):
        raise NotThere("a line `<!-- from FILE -->` must stand directly above a ``` block")
    return [
        Quotation(number, block["source"], block["code"])
        for number, block in enumerate(found, start=1)
    ]


def unmarked(text: str, files: list[Path]) -> Iterator[str]:
    """The first lines of Python blocks that say nothing, though all they have is in the files."""
    known = {
        line.strip() for path in files for line in path.read_text(encoding="utf-8").splitlines()
    }
    for block in FENCE.finditer(text):
        lines = [line.strip() for line in block["code"].splitlines() if line.strip()]
        if block["language"] == "python" and not block["source"] and lines and known >= {*lines}:
            yield lines[0]


def assert_stands(quotation: Quotation, root: Path) -> None:
    """Raises NotThere, with the first line that differs, unless all of it is in its file."""
    path = root / quotation.source
    if not path.is_file():
        raise NotThere(f"there is no {quotation.source}")
    lines = path.read_text(encoding="utf-8").splitlines()
    regions = list(_regions(quotation.code))
    if not regions:
        raise NotThere("it has no line")
    start = 0
    for region in regions:
        start = _place_of(region, lines, start, quotation.source) + len(region)


def _regions(code: str) -> Iterator[list[str]]:
    """The parts between the gaps, each without empty lines around it, and dedented."""
    region: list[str] = []
    for line in [*code.splitlines(), GAP]:
        if line.strip() != GAP:
            region.append(line.rstrip())
            continue
        text = "\n".join(region).strip("\n")
        if text.strip():
            yield textwrap.dedent(text).splitlines()
        region = []


def _place_of(region: list[str], lines: list[str], start: int, source: str) -> int:
    """The index of a region's first line, from `start` on. Raises NotThere."""
    best, where = -1, start
    for at in range(start, len(lines)):
        same = _lines_in_common(region, lines[at:])
        if same == len(region):
            return at
        if same > best:
            best, where = same, at
    quoted = region[best] if best > 0 else region[0]
    if best <= 0:
        after = f" below line {start}" if start else ""
        raise NotThere(f"this line is not in {source}{after}:\n    quoted   {quoted}")
    at = where + best
    there = lines[at] if at < len(lines) else "(the file ends)"
    raise NotThere(
        f"from line {at + 1} of {source} on it is another:\n"
        f"    quoted   {quoted.strip()}\n    there    {there.strip()}"
    )


def _lines_in_common(region: list[str], lines: list[str]) -> int:
    """How many lines from the first on are the same, all of them indented by the same amount."""
    if not lines or lines[0].strip() != region[0].strip():
        return 0
    margin = lines[0][: len(lines[0]) - len(lines[0].lstrip())]
    own = region[0][: len(region[0]) - len(region[0].lstrip())]
    # The first line of a region may itself stand further in than those below it.
    if not margin.endswith(own):
        return 0
    margin = margin[: len(margin) - len(own)]
    for index, line in enumerate(region):
        expected = margin + line if line else ""
        if index >= len(lines) or lines[index].rstrip() != expected:
            return index
    return len(region)
