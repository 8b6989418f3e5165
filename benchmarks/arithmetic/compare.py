"""Before and after: two result files, point by point, against the noise floor."""

from collections.abc import Iterator
from pathlib import Path

from benchmarks import summary
from benchmarks.pictures import describe

# What differs between any two runs and says nothing about the machine.
PASSING = ("load_before", "load_after")
# Numbers that explain others; a change of theirs is no result.
ASIDE = ("server_cpu_share", "client_cpu_share", "uncorrected_p99_ms")
HEADERS = ("point", "server", "measured", "before", "after", "noise", "change")
AT_RIGHT = ("before", "after", "noise")


def compare_files(before: Path, after: Path) -> str:
    """The text of `python3 -m benchmarks compare BEFORE AFTER`.

    Raises `summary.ResultError`, one line, for a file that is no result of ours.
    """
    first, second = summary.load_result(before), summary.load_result(after)
    lines = [f"before: {_origin(before, first)}", f"after:  {_origin(after, second)}"]
    lines += _warnings(first, second)
    shown = total = 0
    for experiment in summary.EXPERIMENTS:
        rows = []
        for row, is_shown in _rows(first, second, experiment):
            rows.append(row)
            total += 1
            shown += is_shown
        if rows:
            lines += ["", summary.title(experiment), *_columns([HEADERS, *rows])]
    lines += ["", *_left_out(first, second)]
    if total:
        lines.append(
            f"{shown} of {total} numbers differ by more than the noise floor and the trials'"
            " spread; a change is that of the median."
        )
    else:
        lines.append("The two files have no point in common: there is nothing to compare.")
    return "\n".join(lines)


def _origin(path: Path, result: dict) -> str:
    """Where a result comes from, in one line."""
    parts = [str(path), result["started"]]
    if result["commit"]:
        parts.append(f"commit {result['commit']}{' with changes' if result['dirty'] else ''}")
    parts.append(f"{result['size']} size")
    if result["interrupted"]:
        parts.append("interrupted")
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
    if first["noise_floor"] is None and second["noise_floor"] is None:
        lines.append(
            "No noise floor in either file (`python3 -m benchmarks aa` measures it): a difference"
            " counts where the trials' ranges do not overlap."
        )
    return lines


def _steady(machine: dict) -> dict:
    return {name: value for name, value in machine.items() if name not in PASSING}


def _builds(first: dict, second: dict) -> list[dict[str, str]]:
    """The interpreter of each server that both files have, in either file."""
    found = [
        {
            server["id"]: f"{server.get('python_build')}, GIL {server.get('gil')}"
            for server in result["servers"]
        }
        for result in (first, second)
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


def _rows(first: dict, second: dict, experiment: str) -> Iterator[tuple[tuple[str, ...], bool]]:
    """Every number that both files have, and whether its difference is shown."""
    others = _by_place(second, experiment)
    for place, old in _by_place(first, experiment).items():
        new = others.get(place)
        if new is None:
            continue
        where = (describe(old.point), old.server)
        lost = [
            f"{cell.status} {when}"
            for cell, when in ((old, "before"), (new, "after"))
            if cell.status not in ("ok", "client-limited")
        ]
        if lost:
            yield (*where, "", "", "", "", ", ".join(lost)), False
            continue
        limited = "client-limited" in (old.status, new.status)
        for name, metric in summary.METRICS.items():
            if name in ASIDE or name not in old.values or name not in new.values:
                continue
            sizes = tuple(
                summary.number(summary.summarize(cell.values[name]).median) for cell in (old, new)
            )
            measured = f"{metric.label}, {metric.unit}" if metric.unit else metric.label
            floor = _floor(first, second, experiment, old.point, name)
            row = (*where, measured, *sizes, "?" if floor is None else f"{floor:.1%}")
            if limited and metric.by_client:
                yield (*row, "client-limited: no result"), False
                continue
            difference = summary.difference(old.values[name], new.values[name], floor)
            yield (*row, difference.text), difference.shown


def _by_place(result: dict, experiment: str) -> dict[tuple, summary.Cell]:
    return {
        (cell.server, *sorted(cell.point.items())): cell
        for cell in summary.cells(result, experiment)
    }


def _floor(first: dict, second: dict, experiment: str, point: dict, name: str) -> float | None:
    """The larger noise floor of the two files: a difference has to pass both."""
    floors = [summary.floor(result, experiment, point, name) for result in (first, second)]
    return max((floor for floor in floors if floor is not None), default=None)


def _columns(rows: list[tuple[str, ...]]) -> list[str]:
    """Rows as lines of aligned text; the sizes stand at the right of their columns."""
    widths = [max(len(row[index]) for row in rows) for index in range(len(HEADERS))]
    return [
        "  "
        + "  ".join(
            cell.rjust(width) if HEADERS[index] in AT_RIGHT else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _left_out(first: dict, second: dict) -> list[str]:
    """What only one file has: one line for each."""
    lines = []
    for here, there, when in ((first, second, "before"), (second, first, "after")):
        alone: dict[str, int] = {}
        for experiment in summary.EXPERIMENTS:
            known = _by_place(there, experiment)
            for place, cell in _by_place(here, experiment).items():
                if place not in known:
                    name = f"{experiment} of {cell.server}"
                    alone[name] = alone.get(name, 0) + 1
        if alone:
            told = ", ".join(f"{name} ({count})" for name, count in alone.items())
            lines.append(f"Points measured only {when}: {told}.")
    return lines
