"""Two results against each other: before and after; and a version against itself."""

import itertools
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from textwrap import TextWrapper

from benchmarks.experiments.catalogue import EXPERIMENTS
from benchmarks.report.source import open_view
from benchmarks.report.tables import WIDTH
from benchmarks.result.file import ResultError
from benchmarks.result.metrics import METRICS, label, number
from benchmarks.result.statistics import (
    TOO_FEW,
    Blocks,
    median,
    share_interval,
    unpaired_ratio,
)
from benchmarks.result.table import Table
from benchmarks.result.view import Cell, MeasuredPoint, View, describe

ROUNDS_OF_A_RUN = 5
# These say nothing about the machine.
PASSING = ("load_before", "load_after", "calibration")
COMPARED = [name for name, metric in METRICS.items() if not metric.aside]


def compare_files(before: Path, after: Path) -> str:
    """The text of `python3 -m benchmarks compare BEFORE AFTER`. Raises ResultError."""
    views = open_view(before), open_view(after)
    first, second = (view.result for view in views)
    lines = [f"before: {_origin(before, first)}", f"after:  {_origin(after, second)}"]
    lines += _warnings(first, second)
    judged: list[bool] = []
    for name in views[0].experiments():
        rows = []
        for point in views[0].points(name):
            differences = [
                difference
                for old in point.cells.values()
                if (new := views[1].cell(name, point, old.server))
                for difference in _differences(old, new, EXPERIMENTS[name].cpu_per)
            ]
            if differences:
                rows += [f"  {describe(point)}", *(line for line, _ in differences)]
                judged += [shown for _, shown in differences if shown is not None]
        if rows:
            lines += ["", EXPERIMENTS[name].title, *rows]
    lines += ["", *_left_out(*views)]
    if judged:
        lines.append(
            f"{sum(judged)} of {len(judged)} numbers differ: the 95 % interval of their ratio"
            " (after to before, trials taken as independent) does not hold 1."
        )
    else:
        lines.append("The two files have no point in common: there is nothing to compare.")
    folding = TextWrapper(
        WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )
    return "\n".join(folding.fill(line) for line in lines)


def _differences(old: Cell, new: Cell, per: str) -> Iterator[tuple[str, bool | None]]:
    """A line for each number that both have; whether a difference is shown, if it may compare."""
    lost = [
        f"{cell.status} {when}"
        for cell, when in ((old, "before"), (new, "after"))
        if not cell.status.has_numbers
    ]
    if lost:
        yield _line(old.server, "", "", "", ", ".join(lost)), None
        return
    for metric in COMPARED:
        if not (metric in old.values and metric in new.values):
            continue
        before, after = (list(cell.values[metric].values()) for cell in (old, new))
        shown = None
        if not (old.ranks(metric) and new.ranks(metric)):
            change = f"{new.status if old.ranks(metric) else old.status}: no result"
        else:
            ratio = unpaired_ratio(after, before)
            shown = ratio.shown
            change = ratio.text
        numbers = number(median(before)), number(median(after))
        yield _line(old.server, label(metric, per), *numbers, change), shown


def _line(server: str, measured: str, before: str, after: str, change: str) -> str:
    return f"    {server:<18.18} {measured:<32.32} {before:>7} {after:>7}  {change}".rstrip()


def _origin(path: Path, result: dict) -> str:
    """Where a result comes from, in one line."""
    parts = [str(path), result["started"]]
    if result["commit"]:
        parts.append(f"commit {result['commit'][:12]}{' with changes' if result['dirty'] else ''}")
    parts.append(f"{result['size']} size")
    if result["interrupted"]:
        parts.append("interrupted")
    elif result["finished"] is None:
        parts.append("never finished")
    return ", ".join(parts)


def _warnings(first: dict, second: dict) -> list[str]:
    """One line for each reason why a difference may not be the servers' doing."""
    lines = []
    before, after = _conditions(first, second), _conditions(second, first)
    for what, old in before.items():
        new = after[what]
        differences = "; ".join(
            f"{name}: {old.get(name, 'none')} before, {new.get(name, 'none')} after"
            for name in dict.fromkeys([*old, *new])
            if old.get(name) != new.get(name)
        )
        if differences:
            lines.append(f"Different {what}: {differences}.")
    return lines


def _conditions(result: dict, other: dict) -> dict[str, dict[str, object]]:
    """How it was measured: of servers and experiments, those that the other file has, too."""
    ids = [server["id"] for server in other["servers"]]
    parameters = dict(result["parameters"])
    for name, values in parameters.pop("experiments").items():
        if name in other["parameters"]["experiments"]:
            parameters |= {f"{name} {parameter}": value for parameter, value in values.items()}
    return {
        "machines": {k: value for k, value in result["machine"].items() if k not in PASSING},
        "interpreters": {
            server["id"]: f"{server['python_build']}, GIL {server['gil']}"
            for server in result["servers"]
            if server["id"] in ids
        },
        "parameters": parameters,
    }


def _left_out(before: View, after: View) -> list[str]:
    """What only one file has: one line for each."""
    lines = []
    for here, there, when in ((before, after, "before"), (after, before, "after")):
        alone = Counter(
            f"{name} of {server}"
            for name in here.experiments()
            for point in here.points(name)
            for server in point.cells
            if there.cell(name, point, server) is None
        )
        if alone:
            listed = ", ".join(f"{name} ({count})" for name, count in alone.items())
            lines.append(f"Points measured only {when}: {listed}.")
    return lines


def against_itself(view: View) -> Table:
    """How many differences an A/A result would have shown, where there are none.

    It has more rounds than a run, so it is taken as several runs of `ROUNDS_OF_A_RUN` each.
    """
    rows = []
    in_all: list[bool] = []
    for name in view.experiments():
        judged = [shown for point in view.points(name) for shown in _judged(point)]
        rows.append(_share_row(name, judged))
        in_all += judged
    rows.append(_share_row("in all", in_all))
    title = f"{view.entries[0]['label']} against itself: differences shown that are none"
    notes = [
        f"Every {ROUNDS_OF_A_RUN} rounds are taken as a run of their own. A 95 % interval is wrong"
        " once in twenty times, so 5 % is right. In brackets: the 95 % interval of the share"
        " (Wilson's). Some of the numbers come from the same trials, so it should be wider."
    ]
    if not in_all:
        notes = [f"There were {TOO_FEW}."]
    return Table(title, ["experiment", "compared", "shown", "share"], rows, notes)


def _judged(point: MeasuredPoint) -> Iterator[bool]:
    """Whether a difference is shown, for each number that the twins have, in each of the runs."""
    for metric in COMPARED:
        ranked = [cell for cell in point.cells.values() if cell.ranks(metric)]
        rounds = sorted({number for cell in ranked for number in cell.values[metric]})
        runs = [rounds[at : at + ROUNDS_OF_A_RUN] for at in range(0, len(rounds), ROUNDS_OF_A_RUN)]
        whole = [run for run in runs if len(run) == ROUNDS_OF_A_RUN]
        for run in whole or runs:
            values = {
                cell.server: {
                    number: cell.values[metric][number]
                    for number in run
                    if number in cell.values[metric]
                }
                for cell in ranked
            }
            for pair in itertools.combinations(values, 2):
                ratio = Blocks(values).ratio(*pair)
                if ratio and ratio.low is not None:
                    yield ratio.shown


def _share_row(name: str, judged: list[bool]) -> list[str]:
    share = "-"
    if judged:
        low, high = share_interval(sum(judged), len(judged))
        share = f"{sum(judged) / len(judged):.1%} ({low:.1%} to {high:.1%})"
    return [name, str(len(judged)), str(sum(judged)), share]


def twins_beside(result_path: Path) -> Table | None:
    """What the A/A result beside a result file says of the method, if there is one."""
    try:
        twins = open_view(Path(result_path).with_name("aa.json"))
    except ResultError:
        return None
    return against_itself(twins) if twins.result["kind"] == "aa" else None
