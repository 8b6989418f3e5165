"""The generated parts of the documents: of README, RESULTS.md and the chapters.

README has the answer at its top. What each experiment shows stands in README, too, or in
benchmarks/RESULTS.md. A chapter, v?_*/README.md, compares its version with the one before it.
"""

import html
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.experiments.catalogue import EXPERIMENTS
from benchmarks.report.answer import LOSSES_TITLE, answer, losses, step
from benchmarks.report.compare import twins_beside
from benchmarks.report.pictures import FOR_PHONES, picture_of
from benchmarks.report.source import (
    LEAD,
    ReportError,
    disturbed,
    flags,
    machine_line,
    open_view,
    was_quiet,
)
from benchmarks.report.tables import markdown, markdown_text, tables_of
from benchmarks.report.verdict import VERDICT
from benchmarks.result.table import Table
from benchmarks.result.view import View

PARTS = ("answer", "results")
# How README names what RESULTS.md has beside it, and where that is from README's folder.
IN_README = "benchmarks/"
RESULTS = Path("benchmarks", "RESULTS.md")
METHOD = Path("benchmarks", "README.md")
CHAPTERS = "v?_*/README.md"
END_OF_NUMBERS = "<!-- /numbers -->"
# `<!-- numbers: v2_select against v1_threads -->`, or `<!-- numbers: v1_threads alone -->`; behind
# either, `, in another.json` names a file beside the reference. `the answer, in another.json`
# is that file's table of the answer, `v4_asyncio against itself` the A/A result beside them.
# `; first: A ROW; ANOTHER` at the end shows the rows that begin so, and folds the others.
NUMBERS = re.compile(
    rf"(<!-- numbers:([^\n]*?)-->\n)((?:(?!<!-- numbers:).)*?)({END_OF_NUMBERS})", re.DOTALL
)
WANTED = re.compile(
    r"(?:the answer|([\w@.]+) (?:against ([\w@.]+)|alone))(?:, in (\w[\w.-]*))?(?:; first: (.+))?"
)
REFERENCE = "reference.json"
ITSELF = "itself"


def markers(part: str) -> tuple[str, str]:
    """The lines before and after a generated part."""
    origin = "generated from benchmarks/results/reference.json"
    return f"<!-- {part}: {origin} -->", f"<!-- end of {part} -->"


def rewrite_readme(readme_path: Path, result_path: Path, although_busy: bool = False) -> list[Path]:
    """Put this result's numbers into README and the documents beside it; returns what has changed.

    Raises ResultError or ReportError, each one line. When one of the parts cannot be made, all
    files are left as they were.
    """
    changed = []
    try:
        for path, text in renewed(readme_path, result_path, although_busy).items():
            if text != path.read_text(encoding="utf-8"):
                path.write_text(text, encoding="utf-8", newline="\n")
                changed.append(path)
    except OSError as error:
        where = error.filename or readme_path
        raise ReportError(f"cannot renew {where}: {error.strerror}") from None
    return changed


def renewed(readme_path: Path, result_path: Path, although_busy: bool = False) -> dict[Path, str]:
    """The text that README, and each document beside it, has to have with this result."""
    view, twins = open_reference(result_path, although_busy), twins_beside(result_path)
    results = readme_path.parent / RESULTS
    chapters = sorted(readme_path.parent.glob(CHAPTERS))
    beside = (results, readme_path.parent / METHOD)
    documents = [path for path in beside if path.is_file()]
    paths = [readme_path, *documents, *chapters]
    texts = {path: path.read_text(encoding="utf-8") for path in paths}
    for part in PARTS:
        home = results if markers(part)[0] in texts.get(results, "") else readme_path
        parts = generated(view, twins, IN_README if home == readme_path else "")
        texts[home] = with_part(texts[home], part, parts[part], home)
    for path in (*documents, *chapters):
        texts[path] = with_numbers(texts[path], view, path, result_path.parent)
    return texts


def open_reference(path: Path, although_busy: bool = False) -> View:
    """The view of a result that README may stand on. Raises ReportError or ResultError.

    That of a machine that was not quiet is taken only `although_busy`, and README says so.
    """
    view = open_view(path)
    if not (was_quiet(view.result) or although_busy):
        raise ReportError(
            f"{path} is no reference: its machine was not quiet (with --although-busy it is taken"
            " all the same, and the documents say so)"
        )
    if view.result["interrupted"] or view.result["finished"] is None:
        raise ReportError(f"{path} is no reference: the run did not end")
    return view


def with_part(text: str, part: str, renewed_part: str, where: Path) -> str:
    """A document with one of its parts anew. ReportError when its markers are not there once."""
    for marker in markers(part):
        if text.count(marker) != 1:
            raise ReportError(f"{where} must hold this line exactly once: {marker}")
    begin, end = markers(part)
    before, after = text.split(begin)[0], text.split(end)[1]
    if end in before:
        raise ReportError(f"{where} has the markers of its {part} in the wrong order")
    return before + renewed_part + after


def generated(view: View, twins: Table | None, prefix: str = IN_README) -> dict[str, str]:
    """Each part in Markdown, from marker to marker; `prefix` leads to the benchmarks' folder."""
    blocks = {"answer": _answer(view), "results": _results(view, twins, prefix)}
    return {
        part: "\n\n".join([markers(part)[0], *blocks[part], markers(part)[1]]) for part in PARTS
    }


def _answer(view: View) -> list[str]:
    verdict = "\n".join(f"- {markdown_text(sentence.text)}" for sentence in VERDICT)
    # README has the title of this table already.
    table = markdown(replace(answer(view), title=""))
    lines = [machine_line(view.result), *flags(view.result)]
    return [markdown_text(LEAD), verdict, table, *map(markdown_text, lines)]


def _results(view: View, twins: Table | None, prefix: str) -> list[str]:
    of_twins = ""
    if twins:
        _, compared, shown, share = twins.rows[-1]
        of_twins = (
            f"One version against itself showed {shown} of {compared} differences ({share}). "
        )
    origin = (
        f"Measured on {markdown_text(machine_line(view.result))}"
        f" {markdown_text(disturbed(view.result))} {of_twins}"
        f"Every trial is in [the result file]({prefix}results/reference.json);"
        f" [benchmarks/README.md]({prefix}README.md) says how each number is made."
    )
    blocks = [origin, *map(markdown_text, flags(view.result))]
    for name in view.experiments():
        blocks.append(f"### {markdown_text(EXPERIMENTS[name].title)}")
        if picture := picture_of(view, name):
            path = f"{prefix}results/{picture.name}"
            alt = html.escape(f"{picture.title}: the numbers are in the tables below.")
            phone = f'<source media="(max-width: 600px)" srcset="{path}{FOR_PHONES}.svg">'
            blocks.append(f'<picture>{phone}<img src="{path}.svg" alt="{alt}"></picture>')
        blocks.append(markdown_text(EXPERIMENTS[name].question))
        tables = [markdown(table) for table in tables_of(view, name)]
        blocks += ["<details><summary>All numbers</summary>", *tables, "</details>"]
    return [*blocks, f"### {LOSSES_TITLE}", markdown(losses(view))]


def with_numbers(text: str, view: View, where: Path, results: Path) -> str:
    """A document with its tables of numbers made anew, from this view or from another result.

    `results` is the folder of other results. Raises ReportError or ResultError.
    """
    parts = NUMBERS.findall(text)
    if not text.count("<!-- numbers:") == len(parts) == text.count(END_OF_NUMBERS):
        raise ReportError(f"{where}: each <!-- numbers: … --> needs one {END_OF_NUMBERS} below it")
    return NUMBERS.sub(
        lambda part: part[1] + _numbers(part[2].strip(), view, where, results) + part[4], text
    )


def _numbers(wanted: str, view: View, where: Path, results: Path) -> str:
    servers = WANTED.fullmatch(wanted)
    if not servers:
        raise ReportError(
            f"{where}: numbers: `{wanted}` is not understood; write `A against B` or `A alone`"
        )
    newer, older, another, first = servers.groups()
    if older == ITSELF:
        twins = twins_beside(results / REFERENCE)
        if twins is None:
            raise ReportError(f"{where}: numbers: there is no A/A result in {results}")
        return f"\n{markdown(twins)}\n\n"
    if another:
        view = open_view(results / another)
    for server in filter(None, (newer, older)):
        if server not in view.entry_of:
            raise ReportError(
                f"{where}: numbers: the result has no {server}; it has {', '.join(view.entry_of)}"
            )
    prefix = "" if where.parent.name == RESULTS.parent.name else "../benchmarks/"
    name = another or REFERENCE
    origin = (
        f"Measured on {markdown_text(machine_line(view.result))}"
        f" [Every trial]({prefix}results/{name});"
        f" [how the numbers are made]({prefix}README.md)."
    )
    table = step(view, newer, older) if newer else replace(answer(view), title="")
    # The reference says so of itself in one place.
    warnings = map(markdown_text, flags(view.result) if another else [])
    tables = _folded(table, first.split("; "), where) if first else [markdown(table)]
    return "\n" + "\n\n".join([*tables, *warnings, origin]) + "\n\n"


def _folded(table: Table, first: Sequence[str], where: Path) -> list[str]:
    """A table in two: the rows that begin with these words, and the others behind a fold."""
    shown = [at for at, row in enumerate(table.rows) if row[0].startswith(tuple(first))]
    if len(shown) != len(first):
        raise ReportError(f"{where}: numbers: {len(shown)} rows begin as one of {'; '.join(first)}")
    others = [at for at in range(len(table.rows)) if at not in shown]
    return [
        markdown(replace(_with_rows(table, shown), notes=[])),
        "<details><summary>The other rows</summary>",
        markdown(_with_rows(table, others)),
        "</details>",
    ]


def _with_rows(table: Table, rows: Sequence[int]) -> Table:
    marks = {(rows.index(row), column) for row, column in table.marks if row in rows}
    return replace(table, rows=[table.rows[row] for row in rows], marks=marks)
