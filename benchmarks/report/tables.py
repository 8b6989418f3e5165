"""Tables, for a terminal, for Markdown and for HTML."""

import html
import itertools
import re
import textwrap
from dataclasses import replace

from benchmarks.experiments.catalogue import EXPERIMENTS
from benchmarks.result.status import Status
from benchmarks.result.table import Table
from benchmarks.result.view import View, describe

# The columns of a terminal, and what separates two columns of a table there.
WIDTH = 100
GAP = "  "
# How narrow the first column, and any other, may become where the table is too wide.
FIRST_COLUMN, OTHER_COLUMN = 28, 24
NUMBER = re.compile(r"[-+]?\d")  # how a cell of a column of numbers begins
# The spaces at which a ratio with its interval must not be broken.
TOGETHER = re.compile(r" (?=×)|(?<=\d) (?=to \d)|(?<=to) (?=\d)")


def tables_of(view: View, name: str) -> list[Table]:
    """The tables of an experiment that have a row; what several of them note, the last one says."""
    tables: list[Table] = []
    noted: set[str] = set()
    for table in reversed(EXPERIMENTS[name].tables(view)):
        if table.rows:
            notes = [note for note in table.notes if note not in noted]
            tables.insert(0, replace(table, notes=notes))
            noted.update(notes)
    return tables


def format_experiment(view: View, name: str) -> str:
    """For a terminal: the question and the tables of an experiment."""
    about = EXPERIMENTS[name]
    parts = [f"\n{about.title}\n{'=' * len(about.title)}", textwrap.fill(about.question, WIDTH)]
    return "\n\n".join([*parts, *(terminal(table) for table in tables_of(view, name))])


def format_troubles(view: View) -> list[str]:
    """A line for each server that failed, each failure, other bad trials, and refused points."""
    result = view.result
    lines = [
        f"{check['server']} FAILED the conformance check and was not measured: {check['reason']}"
        for check in result["conformance"]
        if not check["passed"]
    ]
    # Trials without numbers are told by their server and reason, others by their status alone.
    troubles: dict[tuple[Status, str, str, str], list[dict]] = {}
    for trial in result["trials"]:
        status = Status(trial["status"])
        whose = ("", "") if status.has_numbers else (trial["server"], trial["reason"])
        if status is not Status.OK:
            troubles.setdefault((status, trial["experiment"], *whose), []).append(trial)
    for (status, name, server, reason), trials in troubles.items():
        count = f"{len(trials)} trial{'s' if len(trials) > 1 else ''}"
        if status.has_numbers:
            servers = ", ".join(dict.fromkeys(trial["server"] for trial in trials))
            lines.append(f"{status}: {name}, {count} of {servers}")
        else:
            points = "; ".join(dict.fromkeys(describe(trial["point"]) for trial in trials))
            lines.append(f"{status}: {server}, {name} ({points}), {count}: {reason}")
    for refusal in result["refusals"]:
        held = f" after {refusal['held']:,} clients" if refusal["held"] is not None else ""
        where = f"{refusal['experiment']} ({describe(refusal['point'])}), {refusal['server']}"
        lines.append(f"refused: {where}: {refusal['reason']}{held}")
    return lines


def terminal(table: Table) -> str:
    """A table for a terminal: never too wide for it, in several parts if need be."""
    notes = [line for note in table.notes for line in textwrap.wrap(note, WIDTH)]
    parts = _parts(table, list(range(1, len(table.headers))))
    return "\n".join([*textwrap.wrap(table.title, WIDTH), *parts, *notes])


def _parts(table: Table, columns: list[int]) -> list[str]:
    """The first column beside these: in one piece if they fit, else in two."""
    texts = []
    for index, row in enumerate([table.headers, *table.rows]):
        cells = [_starred(row[c], (index - 1, c) in table.marks) for c in (0, *columns)]
        texts.append([TOGETHER.sub("\xa0", cell) for cell in cells])
    room = WIDTH - len(GAP) * len(columns)
    by_column = list(zip(*texts, strict=True))
    widths = [max(map(_longest_line, column)) for column in by_column]
    least = [min(OTHER_COLUMN, max(map(_longest_word, column))) for column in by_column]
    least[0] = min(FIRST_COLUMN, widths[0])
    while sum(widths) > room and widths != least:
        spare = [have - need for have, need in zip(widths, least, strict=True)]
        widest = max(range(len(widths)), key=lambda c: (spare[c] > 0, widths[c]))
        widths[widest] -= 1
    if sum(widths) > room and len(columns) > 1:
        half = (len(columns) + 1) // 2
        return [*_parts(table, columns[:half]), "", *_parts(table, columns[half:])]
    rule = "-" * (sum(widths) + len(GAP) * len(columns))
    head, *body = (_rows_of(row, widths) for row in texts)
    return [rule, *head, rule, *(line for rows in body for line in rows)]


def _rows_of(cells: list[str], widths: list[int]) -> list[str]:
    """A row of cells as lines: the first column to the left, the others to the right."""
    wrapped = [
        [part for line in cell.split("\n") for part in textwrap.wrap(line, width) or [""]]
        for cell, width in zip(cells, widths, strict=True)
    ]
    lines = []
    for first, *others in itertools.zip_longest(*wrapped, fillvalue=""):
        texts = [f"{text:>{width}}" for text, width in zip(others, widths[1:], strict=True)]
        line = GAP.join([f"{first:<{widths[0]}}", *texts])
        lines.append(line.rstrip().replace("\xa0", " "))
    return lines


def _starred(cell: str, marked: bool) -> str:
    first, *more = cell.split("\n")
    return "\n".join([f"{first} *" if marked else first, *more])


def _longest_line(cell: str) -> int:
    return max(map(len, cell.split("\n")))


def _longest_word(cell: str) -> int:
    return max(map(len, re.split(r"[ \n]", cell)))


def markdown(table: Table) -> str:
    """A table for README, with its title above and its notes below."""
    lines = [f"**{markdown_text(table.title)}**", ""] if table.title else []
    lines.append("| " + " | ".join(map(markdown_text, table.headers)) + " |")
    lines.append("| --- " + "| ---: " * (len(table.headers) - 1) + "|")
    for index, row in enumerate(table.rows):
        cells = []
        for column, cell in enumerate(row):
            first, *more = map(markdown_text, cell.split("\n"))
            if (index, column) in table.marks:
                first = f"**{first}**"
            cells.append("<br>".join([first, *(f"<sub>{line}</sub>" for line in more)]))
        lines.append("| " + " | ".join(cells) + " |")
    for note in table.notes:
        lines += ["", markdown_text(note)]
    return "\n".join(lines)


def markdown_text(text: str) -> str:
    """Text as it is, on one line, where Markdown or HTML would read signs of its own."""
    line = " ".join(text.split())
    # Every other part is in backticks, and so literal already.
    outside = re.split(r"(`[^`]*`)", line)
    return "".join(
        part if index % 2 else re.sub(r"([\\*\[\]<>|$~]|(?<!\w)_|_(?!\w))", r"\\\1", part)
        for index, part in enumerate(outside)
    )


def in_html(table: Table, kind: str = "scroll") -> str:
    """A table for the page. On a phone it scrolls by itself, or its rows become `cards`."""
    sides = []
    for _, *cells in zip(table.headers, *table.rows, strict=True):
        numbers = sum(bool(NUMBER.match(cell)) for cell in cells)
        sides.append(' class="number"' if numbers * 2 > len(table.rows) else "")
    sides[0] = ""
    head = "".join(
        f'<th scope="col"{side}>{html_text(header)}</th>'
        for header, side in zip(table.headers, sides, strict=True)
    )
    body = []
    for index, (name, *cells) in enumerate(table.rows):
        row = f'<tr><th scope="row">{_html_cell(name, (index, 0) in table.marks)}</th>'
        for column, cell in enumerate(cells, start=1):
            label = html_text(table.headers[column])
            content = _html_cell(cell, (index, column) in table.marks)
            row += f'<td{sides[column]} data-label="{label}">{content}</td>'
        body.append(row + "</tr>")
    title = html_text(table.title)
    notes = "".join(f'<p class="quiet">{html_text(note)}</p>' for note in table.notes)
    return (
        f'<p class="title">{title}</p>'
        f'<div class="{kind}" role="region" tabindex="0" aria-label="{title}">'
        f"<table><thead><tr>{head}</tr></thead>"
        f"<tbody>{''.join(body)}</tbody></table></div>{notes}"
    )


def _html_cell(cell: str, marked: bool) -> str:
    first, *more = map(html_text, cell.split("\n"))
    first = f"<strong>{first}</strong>" if marked else first
    return first + "".join(f"<small>{line}</small>" for line in more)


def html_text(text: object) -> str:
    """Escaped text in which `backticks` become code."""
    return re.sub(r"`([^`]*)`", r"<code>\1</code>", html.escape(str(text)))
