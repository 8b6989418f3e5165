"""Tables, for a terminal, for Markdown and for HTML; and the line of progress."""

import html
import itertools
import re
import shutil
import sys
import textwrap
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from benchmarks.arithmetic import metrics
from benchmarks.arithmetic.results import describe
from benchmarks.experiments import module

WIDTH = 100  # columns of a terminal
GAP = "  "  # between two columns there
NUMBER = re.compile(r"[-+]?\d")  # how a cell of a column of numbers begins
TOGETHER = re.compile(r" (?=×)|(?<=\d) (?=to \d)|(?<=to) (?=\d)")  # spaces not to break at
QUIET_SECONDS = 10.0  # between two lines of progress where nobody watches
COMPARED = ("ours", "tutorial", "theirs")  # a floor in C is there to be seen, not to win
BEST = (
    "Marked, in bold or with *: the best of its {side}, and what is not told apart from it."
    " 1.8 × (1.6 to 2.0): so many times the best, and the 95 % interval of that."
)
MARKS = {
    "client-limited": ("†", "the load generator was at its limit: compares nothing"),
    "server-limited": ("‡", "the server did not keep the offered rate"),
    "disturbed": ("~", "something else had the cores for over 5 % of the time: does not rank"),
    "failed": ("✗", "something was lost, doubled or wrong: does not rank"),
    "error": ("!", "could not be measured: does not rank"),
}


@dataclass(frozen=True)
class Table:
    """Plain text in rows; `marks` are the (row, column) of the cells to emphasise.

    A cell may have a second line, which says how its number compares.
    """

    title: str
    headers: list[str]
    rows: list[list[str]]
    notes: list[str] = field(default_factory=list)
    marks: set[tuple[int, int]] = field(default_factory=set)


def pivot(
    view,
    experiment: str,
    metric: str,
    points: list[dict],
    corner: str,
    label: Callable[[dict], str],
    *,
    title: str = "",
    per: str = "message",
) -> Table:
    """One metric: a row for each point, named by `label`, and a column for each server.

    A cell has the median, and its ratio to the best of those who may be compared. `per` is what
    the experiment counts, `corner` heads the first column.
    """
    entries = [
        entry
        for entry in view.servers(experiment)
        if any(_worth_showing(view.cell(experiment, p, entry["id"]), metric) for p in points)
    ]
    rows, marks, statuses = [], set(), {}
    for point in points:
        cells = [_compared(view, experiment, point, metric, entry, statuses) for entry in entries]
        if any(text for text, _ in cells):
            marks |= {(len(rows), at) for at, (_, best) in enumerate(cells, start=1) if best}
            rows.append([label(point), *(text for text, _ in cells)])
    headers = [corner, *(entry["label"] for entry in entries)]
    title = title or metrics.label(metric, per)
    return Table(title, headers, rows, _notes("row", marks, statuses), marks)


def by_server(
    view, experiment: str, point: dict, names: list[str], *, title: str, per: str = "message"
) -> Table:
    """Several metrics at one point: a row for each server, and a column for each metric."""
    rows, marks, statuses = [], set(), {}
    for entry in view.servers(experiment):
        if view.cell(experiment, point, entry["id"]):
            cells = [_compared(view, experiment, point, name, entry, statuses) for name in names]
            marks |= {(len(rows), at) for at, (_, best) in enumerate(cells, start=1) if best}
            rows.append([entry["label"], *(text for text, _ in cells)])
    headers = ["", *(metrics.label(name, per) for name in names)]
    return Table(title, headers, rows, _notes("column", marks, statuses), marks)


def _compared(
    view, experiment: str, point: dict, metric: str, entry: dict, statuses: dict[str, bool]
) -> tuple[str, bool]:
    """A cell's text, with its ratio to the best, and whether it is among the best.

    `statuses` gets what has to be explained below the table.
    """
    cell = view.cell(experiment, point, entry["id"])
    text = cell_text(cell, metric)
    best = view.best(experiment, point, metric, COMPARED)
    if entry["kind"] in COMPARED and best and cell and cell.ranks(metric):
        if entry["id"] in best:
            return text, True
        ratio = view.ratio(experiment, point, metric, entry["id"], best[0])
        if ratio.value is not None:
            text += f"\n{ratio.text}"
    elif cell and cell.status in MARKS:
        statuses[cell.status] = True
    return text, False


def _notes(side: str, marks: set[tuple[int, int]], statuses: dict[str, bool]) -> list[str]:
    """What the marks and signs of a table mean."""
    notes = [" ".join(MARKS[status]) for status in statuses]
    return [BEST.format(side=side), *notes] if marks else notes


def _worth_showing(cell, metric: str) -> bool:
    return cell is not None and (metric in cell.values or cell.status in ("failed", "refused"))


def cell_text(cell, metric: str) -> str:
    """The median with its mark, if it has one, or what there is instead of a number."""
    if cell is None:
        return ""
    if cell.refused:
        return "server full" if "full" in cell.refused[1] else "not tried"
    if cell.status in ("failed", "error"):
        return f"{cell.status} {MARKS[cell.status][0]}"
    value = cell.median(metric)
    if value is None:
        return "-"
    mark = "" if cell.ranks(metric) else f" {MARKS[cell.status][0]}"
    return metrics.number(value) + mark


def tables_of(view, experiment: str) -> list[Table]:
    """The tables of an experiment that have a row; what several of them note, the last one says."""
    made: list[Table] = []
    said: set[str] = set()
    for table in reversed([table for table in module(experiment).tables(view) if table.rows]):
        made.insert(0, replace(table, notes=[note for note in table.notes if note not in said]))
        said.update(table.notes)
    return made


def sentence_of(view, experiment: str) -> str:
    """What the numbers of an experiment say, in one sentence."""
    return module(experiment).sentence(view) or "Nothing was measured here that may be ranked."


def format_experiment(view, experiment: str) -> str:
    """For a terminal: the tables of an experiment, and what they say."""
    heading = module(experiment).TITLE
    parts = [f"\n{heading}\n{'=' * len(heading)}"]
    parts += [terminal(table) for table in tables_of(view, experiment)]
    parts.append("\n".join(textwrap.wrap(f"-> {sentence_of(view, experiment)}", WIDTH)))
    return "\n\n".join(parts)


def format_troubles(view) -> list[str]:
    """A line for each server that failed, each failure, other bad trials, and refused points."""
    result = view.result
    lines = [
        f"{check['server']} FAILED the conformance check and was not measured: {check['reason']}"
        for check in result["conformance"]
        if not check["passed"]
    ]
    seen: dict[tuple, list[dict]] = {}
    for trial in result["trials"]:
        if trial["status"] in ("failed", "error"):
            key = (trial["status"], trial["experiment"], trial["server"], trial["reason"])
            seen.setdefault(key, []).append(trial)
        elif trial["status"] != "ok":
            seen.setdefault((trial["status"], trial["experiment"]), []).append(trial)
    for (status, experiment, *whose), trials in seen.items():
        count = f"{len(trials)} trial{'s' if len(trials) > 1 else ''}"
        if whose:
            server, reason = whose
            at = "; ".join(dict.fromkeys(describe(trial["point"]) for trial in trials))
            lines.append(f"{status}: {server}, {experiment} ({at}), {count}: {reason}")
        else:
            servers = ", ".join(dict.fromkeys(trial["server"] for trial in trials))
            lines.append(f"{status}: {experiment}, {count} of {servers}")
    for refusal in result["refusals"]:
        held = f" after {refusal['held']:,} clients" if refusal["held"] is not None else ""
        where = f"{refusal['experiment']} ({describe(refusal['point'])}), {refusal['server']}"
        lines.append(f"refused: {where}: {refusal['reason']}{held}")
    return lines


def terminal(table: Table, width: int = WIDTH) -> str:
    """A table for a terminal: never wider than that, in several parts if need be."""
    notes = [line for note in table.notes for line in textwrap.wrap(note, width)]
    parts = _parts(table, list(range(1, len(table.headers))), width)
    return "\n".join([*textwrap.wrap(table.title, width), *parts, *notes])


def _parts(table: Table, columns: list[int], width: int) -> list[str]:
    """The first column beside these: in one piece if they fit, else in two."""
    texts = []
    for index, row in enumerate([table.headers, *table.rows]):
        marked = [column for at, column in table.marks if at == index - 1]
        cells = [_starred(row[c], c in marked) for c in (0, *columns)]
        texts.append([TOGETHER.sub("\xa0", cell) for cell in cells])
    room = width - len(GAP) * len(columns)
    widths = [max(map(_longest_line, column)) for column in zip(*texts, strict=True)]
    least = [min(24, max(map(_longest_word, column))) for column in zip(*texts, strict=True)]
    least[0] = min(28, widths[0])
    while sum(widths) > room and widths != least:
        spare = [have - need for have, need in zip(widths, least, strict=True)]
        widest = max(range(len(widths)), key=lambda c: (spare[c] > 0, widths[c]))
        widths[widest] -= 1
    if sum(widths) > room and len(columns) > 1:
        half = (len(columns) + 1) // 2
        return [*_parts(table, columns[:half], width), "", *_parts(table, columns[half:], width)]
    rule = "-" * (sum(widths) + len(GAP) * len(columns))
    head, *body = (_rows_of(row, widths) for row in texts)
    return [rule, *head, rule, *(line for rows in body for line in rows)]


def _rows_of(cells: list[str], widths: list[int]) -> list[str]:
    """A row of cells as lines: the first column to the left, the others to the right."""
    wrapped = [
        [part for line in cell.split("\n") for part in textwrap.wrap(line, width) or [""]]
        for cell, width in zip(cells, widths, strict=True)
    ]
    return [
        GAP.join(
            f"{text:<{width}}" if index == 0 else f"{text:>{width}}"
            for index, (text, width) in enumerate(zip(line, widths, strict=True))
        )
        .rstrip()
        .replace("\xa0", " ")
        for line in itertools.zip_longest(*wrapped, fillvalue="")
    ]


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
    outside = re.split(r"(`[^`]*`)", line)  # what is in backticks is literal already
    return "".join(
        part if index % 2 else re.sub(r"([\\*\[\]<>|$~]|(?<!\w)_|_(?!\w))", r"\\\1", part)
        for index, part in enumerate(outside)
    )


def in_html(table: Table, kind: str = "scroll") -> str:
    """A table for the page. On a phone it scrolls by itself, or its rows become `cards`."""
    sides = []
    for column in zip(table.headers, *table.rows, strict=True):
        numbers = sum(bool(NUMBER.match(cell)) for cell in column[1:])
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


class Progress:
    """One line on standard error, written over; where nobody watches, a new one now and then."""

    def __init__(self) -> None:
        self.watched = sys.stderr.isatty()
        self.last = -QUIET_SECONDS

    def show(self, text: str) -> None:
        """Replace what was shown."""
        if self.watched:
            width = shutil.get_terminal_size().columns - 1
            print(f"\r\x1b[K{text[:width]}", end="", file=sys.stderr, flush=True)
        elif time.monotonic() - self.last >= QUIET_SECONDS:
            self.last = time.monotonic()
            print(text, file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Make room for other output."""
        if self.watched:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
