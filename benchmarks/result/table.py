"""Tables as plain text in rows: what experiments build, and several kinds of report show."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.result import metrics
from benchmarks.result.status import Status
from benchmarks.result.view import COMPARED, Cell, MeasuredPoint, View

BEST = (
    "Marked, in bold or with *: the best of its {side}, and what is not told apart from it."
    " 1.8 × (1.6 to 2.0): so many times the best, and the 95 % interval of that."
)


@dataclass(frozen=True)
class Mark:
    """The sign of a number that does not rank, and why it does not."""

    sign: str
    meaning: str


MARKS = {
    Status.CLIENT_LIMITED: Mark("†", "the load generator was at its limit: compares nothing"),
    Status.SERVER_LIMITED: Mark("‡", "the server did not keep the offered rate"),
    Status.DISTURBED: Mark(
        "~", "something else had the cores for over 5 % of the time, or slowed them: does not rank"
    ),
    Status.FAILED: Mark("✗", "something was lost, doubled or wrong: does not rank"),
    Status.ERROR: Mark("!", "could not be measured: does not rank"),
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
    view: View, points: Mapping[str, MeasuredPoint], metric: str, title: str, corner: str
) -> Table:
    """One metric: a row for each point, by its name, and a column for each server.

    A cell has the median, and its ratio to the best. `corner` heads the first column.
    """
    entries = [
        entry
        for entry in view.entries
        if any(_worth_showing(point.cells.get(entry["id"]), metric) for point in points.values())
    ]
    rows = [
        (name, [(point, point.cells.get(entry["id"]), metric) for entry in entries])
        for name, point in points.items()
    ]
    return _table(title, [corner, *(entry["label"] for entry in entries)], rows, "row")


def by_server(
    points: Iterable[MeasuredPoint], names: Sequence[str], title: str, per: str = "message"
) -> list[Table]:
    """A table for each point: a row for each server, and a column for each metric.

    In `title`, {clients} stands for the clients of the point. `per` is what the experiment counts.
    """
    headers = ["", *(metrics.label(name, per) for name in names)]
    tables = []
    for point in points:
        rows = [
            (cell.entry["label"], [(point, cell, name) for name in names])
            for cell in point.cells.values()
        ]
        tables.append(_table(title.format(**point), headers, rows, "column"))
    return tables


# Where a number of a table comes from: a point, what there is of a server there, and a metric.
Place = tuple[MeasuredPoint, Cell | None, str]


def _table(
    title: str, headers: list[str], wanted: Sequence[tuple[str, Sequence[Place]]], side: str
) -> Table:
    """The rows that have anything in them; numbers compare along a `side`, row or column."""
    table = Table(title, headers, [])
    statuses: list[Status] = []
    unlike: dict[str, None] = {}
    for label, places in wanted:
        row = [label]
        for (point, cell, metric), header in zip(places, headers[1:], strict=True):
            if note := note_on_errors(point, metric, label if side == "row" else header):
                unlike[note] = None
            text, is_best = compared(point, cell, metric, COMPARED)
            if is_best:
                table.marks.add((len(table.rows), len(row)))
            if cell and not (cell.entry["kind"] in COMPARED and cell.ranks(metric)):
                statuses.append(cell.status)
            row.append(text)
        if any(row[1:]):
            table.rows.append(row)
    if table.marks:
        table.notes.append(BEST.format(side=side))
    table.notes.extend((*unlike, *notes_on(statuses)))
    return table


def note_on_errors(point: MeasuredPoint, metric: str, name: str) -> str | None:
    """A warning where one server's rounds differ far more than those of the others, if they do."""
    # Those of a timeout hardly differ, and so the others' would seem to differ enormously.
    unlike = None if metrics.METRICS[metric].configured else point.blocks(metric).unlike()
    if unlike is None:
        return None
    server, times = unlike
    return (
        f"{name}: the rounds of {point.cells[server].entry['label']} differ {times:.0f} times as"
        " much as those of the others. So its intervals are too short, and theirs too long."
    )


def notes_on(statuses: Iterable[Status]) -> list[str]:
    """What the marks mean that a table has because of these."""
    marks = [MARKS[status] for status in dict.fromkeys(statuses) if status in MARKS]
    return [f"{mark.sign} {mark.meaning}" for mark in marks]


def compared(
    point: MeasuredPoint,
    cell: Cell | None,
    metric: str,
    kinds: tuple[str, ...],
    in_words: bool = False,
) -> tuple[str, bool]:
    """A cell's text, with its ratio to the best of these kinds; and whether it is one of those."""
    text = cell_text(cell, metric, in_words=in_words)
    best = point.best(metric, kinds)
    if cell in best:
        return text, True
    if best and cell and cell.entry["kind"] in kinds:
        ratio = cell.ratio_to(best[0], metric)
        if ratio.value is not None:
            text += f"\n{ratio.text}"
    return text, False


def _worth_showing(cell: Cell | None, metric: str) -> bool:
    shown_without = (Status.FAILED, Status.REFUSED)
    return cell is not None and (metric in cell.values or cell.status in shown_without)


def cell_text(cell: Cell | None, metric: str, *, in_words: bool = False) -> str:
    """The median, or what there is instead of a number.

    What does not rank has a mark beside it, or its status below it `in_words`.
    """
    if cell is None:
        return ""
    if cell.refusal:
        return cell.refusal.value
    if not cell.status.has_numbers:
        return cell.status if in_words else f"{cell.status} {MARKS[cell.status].sign}"
    value = cell.median(metric)
    if value is None:
        return "-"
    text = metrics.number(value)
    if cell.ranks(metric):
        return text
    return f"{text}\n{cell.status}" if in_words else f"{text} {MARKS[cell.status].sign}"
