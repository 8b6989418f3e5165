"""The numbers in the chapters, v?_*/README.md: each version against the one before it."""

import re
from pathlib import Path

from benchmarks.arithmetic.answer import step
from benchmarks.arithmetic.results import View
from benchmarks.showing.page import ReportError
from benchmarks.showing.tables import markdown

CHAPTERS = "v?_*/README.md"
END = "<!-- /numbers -->"
# `<!-- numbers: v2_select against v1_threads -->`, or `<!-- numbers: v1_threads alone -->`.
PART = re.compile(rf"(<!-- numbers:(.*)-->\n)((?:(?!<!-- numbers:).)*?)({END})", re.DOTALL)
WHAT = re.compile(r"(\w+) (?:against (\w+)|alone)")
ORIGIN = (
    "From the [reference run](../benchmarks/results/reference.json);"
    " [how the numbers are made](../benchmarks/README.md)."
)


def chapters_beside(readme: Path) -> list[Path]:
    """The chapters in the folders beside a README, in their order."""
    return sorted(readme.parent.glob(CHAPTERS))


def with_numbers(text: str, view: View, where: object) -> str:
    """A chapter with the table of each of its `numbers` parts made anew.

    Raises ReportError, one line, where a part has no end, or asks for what the result lacks.
    """
    parts = PART.findall(text)
    if not text.count("<!-- numbers:") == len(parts) == text.count(END):
        raise ReportError(f"{where}: each <!-- numbers: … --> needs one {END} below it")
    return PART.sub(lambda part: part[1] + _table(part[2].strip(), view, where) + part[4], text)


def _table(what: str, view: View, where: object) -> str:
    asked = WHAT.fullmatch(what)
    if not asked:
        raise ReportError(
            f"{where}: numbers: `{what}` is not understood; write `A against B` or `A alone`"
        )
    newer, older = asked.groups()
    known = [entry["id"] for entry in view.entries]
    for server in (newer, older or newer):
        if server not in known:
            raise ReportError(
                f"{where}: numbers: the result has no {server}; it has {', '.join(known)}"
            )
    return f"\n{markdown(step(view, newer, older))}\n\n{ORIGIN}\n\n"
