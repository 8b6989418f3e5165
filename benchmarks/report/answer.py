"""The answer to "threads, select or asyncio?": a table, and what each step costs.

All of it is made from the numbers of a result, and changes when they do.
"""

import itertools
from dataclasses import dataclass

from benchmarks.experiments.catalogue import EXPERIMENTS
from benchmarks.experiments.questions import (
    EXPLAINING,
    QUESTIONS,
    TWO_CORES,
    Question,
    asked,
    unsettled,
)
from benchmarks.result.metrics import number
from benchmarks.result.status import Refusal, Status
from benchmarks.result.table import MARKS, Table, cell_text, compared, note_on_errors, notes_on
from benchmarks.result.view import COMPARED, Cell, View
from harness.launcher import VERSIONS

TITLE = "Threads, select or asyncio?"
LOSSES_TITLE = "Where the newer model loses"
MOST_CLIENTS = "Most clients"
BEST = (
    "Bold (`*` in a terminal): the best of its row, and all that the measurements cannot tell from"
    " it. Below each of the others: its number divided by the best one, with the 95 % interval."
)
BESIDE = {
    "floor": "C: the cheapest of three small servers in C. It shows what is left without Python.",
    "tutorial": (
        "Tutorial server: asyncio as most tutorials write it, where each broadcast waits for the"
        " `drain()` of every client."
    ),
}
UNSETTLED = "Not settled (an interval is still wider than ±10 %)"
ECHO = (
    "v1 and v2 have no room: they answer each client alone. So a client that stops reading cannot"
    " hold up the others there."
)
CONFIGURED = (
    "Configured timeout: a room waits for a client that does not read, until that time is over and"
    " the client is dropped."
)
STEP = (
    "Bold (`*` in a terminal): the better one, where a difference is shown. Last column: the"
    " newer one's number divided by the older one's, with the 95 % interval. It comes from"
    " comparing the two round by round, so it is not exactly the ratio of the two medians. No"
    " difference shown: the interval includes 1."
)
WAKE_UPS = "A wake-up: the server slept and runs again. A server that never sleeps has none."


def answer(view: View) -> Table:
    """A row for each question, a column for each version, and one to compare them with."""
    entries = [entry for entry in view.entries if entry["kind"] in COMPARED]
    headers = ["", *(entry["label"] for entry in entries), "For comparison"]
    table = Table(TITLE, headers, [])
    statuses: dict[Status, None] = {}
    beside: set[str] = set()
    timed_out = False
    for question, point in asked(view):
        row = [question.label_at(point)]
        if note := note_on_errors(point, question.metric, question.label):
            table.notes.append(note)
        for entry in entries:
            cell = point.cells.get(entry["id"])
            text, is_best = compared(point, cell, question.metric, COMPARED, in_words=True)
            if is_best:
                table.marks.add((len(table.rows), len(row)))
            elif cell and cell.ranks(question.metric) and (timeout := _timeout(cell, question)):
                text = f"{text.splitlines()[0]}\n{timeout}"
                timed_out = True
            elif cell and not cell.ranks(question.metric):
                statuses[cell.status] = None
            row.append(text)
        # What the model costs without the rest: the best floor in C, where floors take part.
        kind = "floor" if "floor" in EXPERIMENTS[question.experiment].kinds else "tutorial"
        best = point.ranking(question.metric, (kind,))[:1]
        beside |= {cell.entry["kind"] for cell in best}
        texts = [f"{number(c.number(question.metric))}\n{c.entry['label']}" for c in best]
        table.rows.append([*row, *(texts or [""])])
    capacities = most_clients(view)
    if capacities and table.rows:
        known = [capacities.get(entry["id"]) for entry in entries]
        if len({*known} - {None}) > 1:
            most = max(capacities.values())
            columns = enumerate(known, start=1)
            table.marks.update((len(table.rows), at) for at, held in columns if held == most)
        table.rows.append([MOST_CLIENTS, *(str(capacity or "") for capacity in known), ""])
    if table.marks:
        table.notes.insert(0, BEST)
    if {"v1_threads", "v2_select"} & {entry["version"] for entry in entries}:
        table.notes.append(ECHO)
    table.notes.extend([CONFIGURED] if timed_out else [])
    table.notes.extend(note for kind, note in BESIDE.items() if kind in beside)
    table.notes.extend(
        f"{status.capitalize()}: {MARKS[status].meaning}." for status in statuses if status in MARKS
    )
    if still := unsettled(view):
        listed = "; ".join(question.phrase for question, _ in still)
        table.notes.append(f"{UNSETTLED}: {listed}.")
    return table


@dataclass(frozen=True, order=True)
class Capacity:
    """How many clients a server held, and whether it would have taken more."""

    count: int
    more: bool

    def __str__(self) -> str:
        return f"at least {self.count:,}" if self.more else f"{self.count:,}"


def most_clients(view: View) -> dict[str, Capacity]:
    """How many clients each server held."""
    capacities: dict[str, Capacity] = {}
    for row in view.result["refusals"]:
        if Refusal.of_row(row) is Refusal.SERVER_FULL:
            held = Capacity(row["held"], False)
            capacities[row["server"]] = min(held, capacities.get(row["server"], held))
    for trial in view.result["trials"]:
        count = EXPERIMENTS[trial["experiment"]].clients_needed(trial["point"])
        known = capacities.get(trial["server"], Capacity(0, True))
        if Status(trial["status"]).has_numbers and known.more:
            capacities[trial["server"]] = max(known, Capacity(count, True))
    return capacities


def _timeout(cell: Cell, question: Question) -> str | None:
    """`the configured 1 s`, where a number is a timeout that ran out."""
    dropped, value = cell.median("dropped_after_s"), cell.median(question.metric)
    if not question.about.configured or dropped is None or value is None:
        return None
    near = abs(value / 1000 - dropped) <= 0.25 * dropped
    return "configured timeout" if near else None


# What each step costs


def losses(view: View) -> Table:
    """What is worse after each step that was measured, a row for each number.

    A configured timeout is no loss against another one.
    """
    servers = {entry["version"]: entry["id"] for entry in reversed(view.entries)}
    table = Table("", ["from … to …", "what is worse", "before", "after", "times"], [])
    for pair in itertools.pairwise(VERSIONS):
        if not servers.keys() >= set(pair):
            continue
        older, newer = (servers[version] for version in pair)
        rows = _lost(view, older, newer) or [["nothing was shown to be", "", "", ""]]
        table.rows.extend([f"{older} to {newer}", *row] for row in rows)
    return table


def _lost(view: View, older: str, newer: str) -> list[list[str]]:
    rows = []
    for question, point in asked(view):
        before, after = point.cells.get(older), point.cells.get(newer)
        if not (before and after):
            continue
        ratio = after.ratio_to(before, question.metric)
        timeout = _timeout(after, question)
        if not ratio.shown or question.is_better(ratio) or (timeout and _timeout(before, question)):
            continue
        numbers = [question.number_of(cell) for cell in (before, after)]
        rows.append([question.phrase, *numbers, timeout or ratio.text])
    held = most_clients(view)
    if older in held and newer in held and not held[newer].more and held[newer] < held[older]:
        rows.append(["most clients", *(str(held[server]) for server in (older, newer)), ""])
    return rows


def step(view: View, newer: str, older: str | None) -> Table:
    """What two servers cost, each row with how many times the older one's number the newer's is.

    Without `older` there is one column. What neither of them was asked is left out.
    """
    servers = [older, newer] if older else [newer]
    labels = [view.entry_of[server]["label"] for server in servers]
    table = Table("", ["", *labels], [])
    statuses: list[Status] = []
    explained = False
    for question, point in asked(view, (*QUESTIONS, TWO_CORES, *EXPLAINING)):
        cells = [point.cells.get(server) for server in servers]
        if not any(cell and question.metric in cell.values for cell in cells):
            continue
        statuses += [cell.status for cell in cells if cell]
        row = [question.label_at(point), *(_alone_text(cell, question) for cell in cells)]
        if question in EXPLAINING:
            explained = True
            row += [""] if older else []
        elif older:
            ranked = [cell for cell in cells if cell and cell.ranks(question.metric)]
            ratio = ranked[-1].ratio_to(ranked[0], question.metric) if len(ranked) == 2 else None
            row.append(ratio.text if ratio else "not compared")
            if ratio and ratio.shown:
                table.marks.add((len(table.rows), 2 if question.is_better(ratio) else 1))
        table.rows.append(row)
    capacities = most_clients(view)
    if any(server in capacities for server in servers):
        texts = [str(capacities.get(server, "")) for server in servers]
        table.rows.append([MOST_CLIENTS, *texts, *([""] if older else [])])
    if older:
        table.headers.append(f"{labels[1]} / {labels[0]}")
        table.notes.append(STEP)
    table.notes.extend(notes_on(statuses))
    if explained:
        table.notes.append(WAKE_UPS)
    if len({entry["profile"] for entry in view.entries if entry["id"] in servers}) > 1:
        table.notes.append(ECHO)
    return table


def _alone_text(cell: Cell | None, question: Question) -> str:
    """A number, with its mark where it does not rank, or the timeout that it is."""
    text = cell_text(cell, question.metric)
    timeout = cell and _timeout(cell, question)
    return f"{text}\n{timeout}" if timeout else text
