"""Two results against each other: before and after; and a version against itself."""

from collections.abc import Iterator
from pathlib import Path

from benchmarks.arithmetic.metrics import METRICS, label, number
from benchmarks.arithmetic.results import Cell, View, describe, load_result
from benchmarks.arithmetic.statistics import FEWEST, NOT_SHOWN, unpaired_ratio
from benchmarks.experiments import module
from benchmarks.showing.tables import Table

WIDTH = 100
# What differs between any two runs and says nothing about the machine.
PASSING = ("load_before", "load_after")


def compare_files(before: Path, after: Path) -> str:
    """The text of `python3 -m benchmarks compare BEFORE AFTER`.

    Raises `results.ResultError`, one line, for a file that is no result of ours.
    """
    views = View(load_result(before)), View(load_result(after))
    first, second = (view.result for view in views)
    lines = [f"before: {_origin(before, first)}", f"after:  {_origin(after, second)}"]
    lines += _warnings(first, second)
    shown = total = 0
    for experiment in views[0].experiments():
        rows = []
        for point in views[0].points(experiment):
            found = list(_numbers(*views, experiment, point))
            if found:
                rows += [f"  {describe(point)}", *(line for line, _ in found)]
            judged = [is_shown for _, is_shown in found if is_shown is not None]
            total += len(judged)
            shown += sum(judged)
        if rows:
            lines += ["", module(experiment).TITLE, *rows]
    lines += ["", *_left_out(*views)]
    if total:
        lines.append(
            f"{shown} of {total} numbers differ: the 95 % interval of their ratio (after to before,"
            " trials taken as independent) does not hold 1."
        )
    else:
        lines.append("The two files have no point in common: there is nothing to compare.")
    return "\n".join(part for line in lines for part in _folded(line))


def _numbers(
    before: View, after: View, experiment: str, point: dict
) -> Iterator[tuple[str, bool | None]]:
    """A line for every number that both files have, and whether a difference is shown.

    None stands for a number that may not be compared.
    """
    per = getattr(module(experiment), "CPU_PER", "message")
    for old in before.cells(experiment, point):
        new = after.cell(experiment, point, old.server)
        if new is None:
            continue
        if lost := [
            f"{c.status} {when}" for c, when in ((old, "before"), (new, "after")) if _lost(c)
        ]:
            yield _line(old.server, "", "", "", ", ".join(lost)), None
            continue
        for name, metric in METRICS.items():
            if metric.aside or name not in old.values or name not in new.values:
                continue
            sizes = [number(cell.median(name)) for cell in (old, new)]
            if not (old.ranks(name) and new.ranks(name)):
                status = new.status if old.ranks(name) else old.status
                yield _line(old.server, label(name, per), *sizes, f"{status}: no result"), None
                continue
            values = [list(cell.values[name].values()) for cell in (old, new)]
            ratio = unpaired_ratio(values[1], values[0])
            few = min(map(len, values)) < FEWEST
            text = "too few trials" if few else ratio.text
            yield _line(old.server, label(name, per), *sizes, text), ratio.shown


def _lost(cell: Cell) -> bool:
    return cell.status in ("failed", "error", "refused")


def _line(server: str, measured: str, before: str, after: str, change: str) -> str:
    return f"    {server:<18.18} {measured:<32.32} {before:>7} {after:>7}  {change}".rstrip()


def _folded(line: str) -> Iterator[str]:
    """A line of text in lines that fit; a row of numbers does already."""
    while len(line) > WIDTH and " " in line[1:WIDTH]:
        cut = line.rindex(" ", 1, WIDTH)
        yield line[:cut]
        line = f"  {line[cut + 1 :]}"
        if not line.strip() or cut < 3:
            break
    yield line


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
    pairs = (
        ("machines", _steady(first["machine"]), _steady(second["machine"])),
        ("interpreters", *_builds(first, second)),
        ("parameters", *_parameters(first, second)),
    )
    for what, old, new in pairs:
        names = [name for name in dict.fromkeys([*old, *new]) if old.get(name) != new.get(name)]
        if names:
            told = "; ".join(
                f"{name}: {old.get(name, 'none')} before, {new.get(name, 'none')} after"
                for name in names
            )
            lines.append(f"Different {what}: {told}.")
    return lines


def _steady(machine: dict) -> dict:
    return {name: value for name, value in machine.items() if name not in PASSING}


def _builds(first: dict, second: dict) -> list[dict[str, str]]:
    """The interpreter of each server that both files have, in either file."""
    found = [
        {
            server["id"]: f"{server['python_build']}, GIL {server['gil']}"
            for server in side["servers"]
        }
        for side in (first, second)
    ]
    both = found[0].keys() & found[1].keys()
    return [{name: build for name, build in side.items() if name in both} for side in found]


def _parameters(first: dict, second: dict) -> list[dict[str, object]]:
    """{"ping seconds": 1.0, ...} of both files; of the experiments, those that both have."""
    experiments = [result["parameters"]["experiments"] for result in (first, second)]
    both = experiments[0].keys() & experiments[1].keys()
    found = []
    for result, sizes in zip((first, second), experiments, strict=True):
        flat = {name: value for name, value in result["parameters"].items() if value is not sizes}
        for experiment in (name for name in sizes if name in both):
            for name, value in sizes[experiment].items():
                flat[f"{experiment} {name}"] = value
        found.append(flat)
    return found


def _left_out(before: View, after: View) -> list[str]:
    """What only one file has: one line for each."""
    lines = []
    for here, there, when in ((before, after, "before"), (after, before, "after")):
        alone: dict[str, int] = {}
        for experiment in here.experiments():
            for point in here.points(experiment):
                for cell in here.cells(experiment, point):
                    if there.cell(experiment, point, cell.server) is None:
                        name = f"{experiment} of {cell.server}"
                        alone[name] = alone.get(name, 0) + 1
        if alone:
            told = ", ".join(f"{name} ({count})" for name, count in alone.items())
            lines.append(f"Points measured only {when}: {told}.")
    return lines


def against_itself(view: View) -> Table:
    """How many differences an A/A result would have shown, where there are none."""
    twins = [entry["id"] for entry in view.entries]
    rows = []
    counts = [0, 0]
    for experiment in view.experiments():
        ratios = [
            ratio
            for point in view.points(experiment)
            for name, metric in METRICS.items()
            if not metric.aside and (ratio := view.ratio(experiment, point, name, *twins))
        ]
        judged = [ratio for ratio in ratios if ratio.low is not None]
        shown = sum(ratio.shown for ratio in judged)
        rows.append([experiment, str(len(judged)), str(shown), _share(shown, len(judged))])
        counts = [counts[0] + len(judged), counts[1] + shown]
    rows.append(["in all", *map(str, counts), _share(counts[1], counts[0])])
    title = f"{view.entries[0]['label']} against itself: differences shown that are none"
    notes = ["About 5 % is right: that is how often a 95 % interval is wrong."]
    if not counts[0]:
        notes = [f"Fewer than {FEWEST} rounds: there are no intervals, and so {NOT_SHOWN}."]
    return Table(title, ["experiment", "compared", "shown", "share"], rows, notes)


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "-"
