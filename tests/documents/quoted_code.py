"""Code in Markdown that says from which file it is: does it still stand there?

    <!-- from v2_select/server.py -->
    ```python
    def on_readable(self, client: Client) -> None:
    ...
        return True
    ```

The quoted lines stand in the file one below the other. All of them may be indented by another
amount than there. A line `...` stands for lines that are left out: what comes after it stands
further down in the file.
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
    """A quotation does not stand in its file: where it differs."""


@dataclass(frozen=True)
class Quotation:
    """A block of a document: its number among those quoted there, its file, its code."""

    number: int
    source: str
    code: str

    @property
    def first_line(self) -> str:
        """The first line that is not empty, for people to find it by."""
        return next((line.strip() for line in self.code.splitlines() if line.strip()), "")


def quotations(text: str) -> list[Quotation]:
    """The blocks of a document that name their file. Raises NotThere: a marker has no block."""
    blocks = [block for block in FENCE.finditer(text) if block["source"]]
    if len(blocks) != len(MARKER.findall(text)):
        raise NotThere("a line `<!-- from FILE -->` must stand directly above a ``` block")
    return [
        Quotation(number, block["source"], block["code"])
        for number, block in enumerate(blocks, start=1)
    ]


def unmarked(text: str, files: list[Path]) -> Iterator[str]:
    """The first lines of Python blocks without a marker whose every line is in these files."""
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
    """The parts between the gaps, each dedented and without empty lines around it."""
    for part in re.split(rf"^ *{re.escape(GAP)} *$", code, flags=re.MULTILINE):
        region = textwrap.dedent(part).strip("\n").splitlines()
        if region:
            yield [line.rstrip() for line in region]


def _place_of(region: list[str], lines: list[str], start: int, source: str) -> int:
    """The index of a region's first line, from `start` on. Raises NotThere."""
    most_in_common, nearest = 0, start
    for index in range(start, len(lines)):
        in_common = _lines_in_common(region, lines[index:])
        if in_common == len(region):
            return index
        if in_common > most_in_common:
            most_in_common, nearest = in_common, index
    if most_in_common == 0:
        after = f" below line {start}" if start else ""
        raise NotThere(f"this line is not in {source}{after}:\n    quoted   {region[0]}")
    differs = nearest + most_in_common
    there = lines[differs] if differs < len(lines) else "(the file ends)"
    raise NotThere(
        f"from line {differs + 1} of {source} on it is another:\n"
        f"    quoted   {region[most_in_common].strip()}\n    there    {there.strip()}"
    )


def _lines_in_common(region: list[str], lines: list[str]) -> int:
    """How many lines from the first on are the same, all of them indented by the same amount."""
    if lines[0].strip() != region[0].strip():
        return 0
    # The first line of a region may itself stand further in than those below it.
    margin = lines[0].rstrip().removesuffix(region[0])
    if margin.strip():
        return 0
    for index, line in enumerate(region):
        expected = margin + line if line else ""
        if index >= len(lines) or lines[index].rstrip() != expected:
            return index
    return len(region)
