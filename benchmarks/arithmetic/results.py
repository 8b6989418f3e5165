"""The arithmetic of the results: what tables, the page and the README must all say alike.

Nothing here measures or prints. A result is the dictionary of a result file (see README.md).
"""

import importlib
import itertools
import json
import math
import os
import statistics
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import ModuleType

SCHEMA = "concurrency-study-benchmark/1"
EXPERIMENTS = ("ping", "fanout", "idle", "churn", "stall", "work")
BUSY_LIMIT = 0.05  # share of the time that the generator may wait for a core others are using
CLIENT_CPU_LIMIT = 0.80  # share of its core beyond which the load generator is what we measure
SHORTFALL_LIMIT = 0.01  # share of the offered requests that it may fail to send on time


class ResultError(Exception):
    """A file is not a result of ours; one line."""


@dataclass(frozen=True)
class Metric:
    """How to name a number, and which way it is better."""

    label: str
    unit: str
    better: str  # "lower" or "higher"
    by_client: bool = False  # worthless where the load generator was the limit


METRICS = {
    "replies_per_s": Metric("Replies per second", "/s", "higher", True),
    "deliveries_per_s": Metric("Deliveries per second", "/s", "higher", True),
    "sessions_per_s": Metric("Sessions per second", "/s", "higher", True),
    "works_per_s": Metric("/work requests done per second", "/s", "higher", True),
    "server_cpu_us": Metric("Server CPU time per message", "µs", "lower"),
    "server_cpu_ms": Metric("Server CPU time per session", "ms", "lower"),
    "server_cpu_share": Metric("Server's share of a core", "", "lower"),
    "client_cpu_share": Metric("Load generator's share of its core", "", "lower"),
    "p50_ms": Metric("Latency p50", "ms", "lower", True),
    "p90_ms": Metric("Latency p90", "ms", "lower", True),
    "p95_ms": Metric("Latency p95", "ms", "lower", True),
    "p99_ms": Metric("Latency p99", "ms", "lower", True),
    "max_ms": Metric("Latency max", "ms", "lower", True),
    "uncorrected_p99_ms": Metric("Latency p99 from sending", "ms", "lower", True),
    "worst_delay_ms": Metric("Longest delay of the others", "ms", "lower", True),
    "dropped_after_s": Metric("Client dropped after", "s", "lower", True),
    "rss_growth_mib": Metric("Growth of server memory", "MiB", "lower"),
    "rss_kib": Metric("Server memory per idle connection", "KiB", "lower"),
    "kernel_stack_kib": Metric("Kernel stacks per idle connection", "KiB", "lower"),
}


# Numbers


def percentile(ordered: Sequence[float], fraction: float) -> float:
    """The nearest-rank percentile of an ascending, non-empty sequence: always a real sample."""
    return ordered[max(1, math.ceil(fraction * len(ordered))) - 1]


@dataclass(frozen=True)
class Summary:
    """What is shown of the values of several trials."""

    median: float
    minimum: float
    maximum: float
    count: int


def summarize(values: Sequence[float]) -> Summary:
    """Median, extremes and number of one or more values."""
    return Summary(statistics.median(values), min(values), max(values), len(values))


def client_limit(metrics: dict[str, float]) -> str | None:
    """Why a trial says more about the load generator than about the server, or None."""
    share = metrics.get("client_cpu_share", 0.0)
    if share > CLIENT_CPU_LIMIT:
        return f"the load generator used {share:.0%} of its core"
    offered = metrics.get("offered_per_s")
    if offered and metrics["sent_per_s"] < offered * (1 - SHORTFALL_LIMIT):
        return f"only {metrics['sent_per_s'] / offered:.1%} of the offered requests left on time"
    return None


def chance_difference(values: Sequence[float]) -> float:
    """How far apart two medians come out by chance, as a ratio, when nothing differs.

    `values` are 2n trials of one and the same thing. They are dealt into two halves in every way
    there is; 95 % of the halves' medians are no further apart than the value returned.
    """
    if len(values) < 2:
        return 0.0
    half = len(values) // 2
    apart = []
    for chosen in itertools.combinations(range(len(values)), half):
        first = statistics.median(values[i] for i in chosen)
        second = statistics.median(v for i, v in enumerate(values) if i not in chosen)
        low, high = sorted((first, second))
        apart.append(high / low - 1 if low > 0 else (math.inf if high > 0 else 0.0))
    return percentile(sorted(apart), 0.95)


def disturbed(result: dict) -> str | None:
    """One line if other programs kept the load generator from its core, or None."""
    waits = [trial["metrics"].get("client_wait_share", 0.0) for trial in result["trials"]]
    hit = sum(wait > BUSY_LIMIT for wait in waits)
    if not hit:
        return None
    return (
        f"busy machine: in {hit} of {len(waits)} trials the load generator waited over"
        f" {BUSY_LIMIT:.0%} of the time for its core ({max(waits):.0%} at worst); measure again"
        " when nothing else runs"
    )


@dataclass(frozen=True)
class Difference:
    """A second median against a first: `ratio` 0.1 is 10 % more."""

    ratio: float
    shown: bool
    text: str


def difference(first: Sequence[float], second: Sequence[float], floor: float | None) -> Difference:
    """Compare the trials of two things, and claim no more than they show.

    A difference is shown if it is larger than the noise floor and the ranges of the two groups of
    trials do not overlap. Where no A/A run is known (`floor` is None), fewer than three trials on
    either side show nothing.
    """
    before, after = statistics.median(first), statistics.median(second)
    ratio = after / before - 1 if before else (math.inf if after else 0.0)
    overlap = min(first) <= max(second) and min(second) <= max(first)
    apart = max(before, after) / min(before, after) - 1 if min(before, after) > 0 else math.inf
    known = floor is not None or min(len(first), len(second)) >= 3
    shown = known and not overlap and apart > (floor or 0.0)
    if not shown:
        text = "no difference shown"
    elif math.isinf(ratio):
        text = f"0 before, {number(after)} now"
    elif ratio >= 1:
        text = f"{number(ratio + 1)} times as much"
    else:
        text = f"{ratio:+.0%}" if abs(ratio) >= 0.1 else f"{ratio:+.1%}"
    return Difference(ratio, shown, text)


def number(value: float) -> str:
    """Three figures, with k and M for thousands and millions; whole numbers as they are."""
    for limit, divisor, suffix in ((999_500, 1e6, "M"), (9_995, 1e3, "k")):
        if abs(value) >= limit:
            if value == int(value) and value % (divisor / 10) == 0:
                return f"{value / divisor:g}{suffix}"
            return f"{_three_figures(value / divisor)}{suffix}"
    return f"{value:g}" if isinstance(value, int) or value == 0 else _three_figures(value)


def _three_figures(value: float) -> str:
    if abs(value) < 0.001:
        return "0.00"
    if abs(value) < 0.0995:
        return f"{value:#.2g}"
    value = float(f"{value:.3g}")  # first, as 9.996 has one digit less behind the point than 9.99
    digits = 2 - math.floor(math.log10(abs(value)))
    return f"{value:.{max(0, min(3, digits))}f}"


# Looking things up in a result


@dataclass
class Cell:
    """One server at one point: its trials, and what became of them."""

    point: dict
    server: str
    status: str  # "ok", "client-limited", "failed", "error" or "refused"
    reason: str | None
    values: dict[str, list[float]] = field(default_factory=dict)  # of the usable trials

    @property
    def summaries(self) -> dict[str, Summary]:
        """Per metric; metrics that no usable trial has are absent."""
        return {name: summarize(values) for name, values in self.values.items()}


def cells(result: dict, experiment: str) -> list[Cell]:
    """Every point, and at each every server that was tried there."""
    found: dict[tuple[str, str], Cell] = {}
    rank = {"ok": 0, "client-limited": 1, "error": 2, "failed": 3}
    for trial in result["trials"]:
        if trial["experiment"] != experiment:
            continue
        key = (_key(trial["point"]), trial["server"])
        cell = found.setdefault(key, Cell(trial["point"], trial["server"], "ok", None))
        if rank[trial["status"]] > rank[cell.status]:
            cell.status, cell.reason = trial["status"], trial["reason"]
        for name, value in trial["metrics"].items():
            cell.values.setdefault(name, []).append(value)
    for refusal in result["refusals"]:
        if refusal["experiment"] == experiment:
            key = (_key(refusal["point"]), refusal["server"])
            found[key] = Cell(refusal["point"], refusal["server"], "refused", refusal["reason"])
    order = [_key(point) for point in points(result, experiment)]
    ids = [entry["id"] for entry in result["servers"]]
    return sorted(found.values(), key=lambda c: (order.index(_key(c.point)), ids.index(c.server)))


def points(result: dict, experiment: str) -> list[dict]:
    """The points of an experiment, in the order in which they were first tried."""
    seen: dict[str, dict] = {}
    planned = result["parameters"]["experiments"].get(experiment)
    rows = [*result["trials"], *result["refusals"]]
    tried = [row["point"] for row in rows if row["experiment"] == experiment]
    if planned and tried:
        for point in module(experiment).points(planned):
            seen.setdefault(_key(point), point)
    for point in tried:
        seen.setdefault(_key(point), point)
    known = {_key(point) for point in tried}
    return [point for key, point in seen.items() if key in known]


def cell(result: dict, experiment: str, point: dict, server: str) -> Cell | None:
    """One cell, if that server was tried at that point."""
    wanted = (_key(point), server)
    return next((c for c in cells(result, experiment) if (_key(c.point), c.server) == wanted), None)


def servers(result: dict, experiment: str) -> list[dict]:
    """The entries of result["servers"] that have something to show in an experiment."""
    rows = [*result["trials"], *result["refusals"]]
    tried = {row["server"] for row in rows if row["experiment"] == experiment}
    return [entry for entry in result["servers"] if entry["id"] in tried]


def floor(result: dict, experiment: str, point: dict, metric: str) -> float | None:
    """The noise floor for a number: that of its own point, else the experiment's largest."""
    known = [
        entry
        for entry in (result.get("noise_floor") or {}).get("floors", [])
        if entry["experiment"] == experiment and entry["metric"] == metric
    ]
    for entry in known:
        if _key(entry["point"]) == _key(point):
            return entry["floor"]
    return max((entry["floor"] for entry in known), default=None)


def first_refusals(result: dict, experiment: str) -> dict[str, int]:
    """For each server that ever said `! server full`: how many clients it held then."""
    found: dict[str, int] = {}
    for refusal in result["refusals"]:
        if refusal["experiment"] == experiment and refusal["held"] is not None:
            found.setdefault(refusal["server"], refusal["held"])
    return found


def last_shared(
    result: dict, experiment: str, candidates: Iterable[dict], metric: str
) -> dict | None:
    """The last of the points at which most servers have a usable number."""
    best, most = None, 0
    for point in candidates:
        usable = len(_ranked(result, experiment, point, metric))
        if usable and usable >= most:
            best, most = point, usable
    return best


def reach(
    result: dict,
    experiment: str,
    candidates: Iterable[dict],
    server: str,
    metric: str,
    limit: float,
) -> tuple[dict | None, dict | None, str]:
    """How far a server gets along some points before the median exceeds a limit.

    Returns (the last point within the limit, the first one not, why not: "over", or its status).
    Either point is None if there is none.
    """
    held = None
    for point in candidates:
        found = cell(result, experiment, point, server)
        if found is None:
            continue
        if found.status != "ok":
            return held, point, _why_not(found)
        if found.summaries[metric].median > limit:
            return held, point, "over"
        held = point
    return held, None, ""


def winners(result: dict, experiment: str, point: dict, metric: str) -> list[str]:
    """The best server, and those of which no difference to it is shown."""
    ranked = _ranked(result, experiment, point, metric)
    limit = floor(result, experiment, point, metric)
    return [
        found.server
        for found in ranked
        if found is ranked[0]
        or not difference(ranked[0].values[metric], found.values[metric], limit).shown
    ]


def _ranked(result: dict, experiment: str, point: dict, metric: str) -> list[Cell]:
    """The cells whose value may be compared, best first."""
    usable = [
        c
        for c in cells(result, experiment)
        if _key(c.point) == _key(point)
        and metric in c.values
        and (c.status == "ok" or (c.status == "client-limited" and not METRICS[metric].by_client))
    ]
    sign = 1 if METRICS[metric].better == "lower" else -1
    return sorted(usable, key=lambda c: sign * c.summaries[metric].median)


def chain(result: dict, experiment: str, point: dict, metric: str) -> str:
    """The servers from best to worst: `a 9.1 µs, b 9.3 µs (no difference shown), c 17 µs`.

    Each is compared with the one before. Those that may not be ranked are named at the end.
    """
    parts = []
    previous = None
    unit = METRICS[metric].unit
    for current in _ranked(result, experiment, point, metric):
        text = f"{current.server} {number(current.summaries[metric].median)}"
        text += unit if unit == "/s" else f" {unit}"
        if previous is not None:
            limit = floor(result, experiment, point, metric)
            compared = difference(previous.values[metric], current.values[metric], limit)
            if not compared.shown:
                text += f" (no difference shown to {previous.server})"
        parts.append(text)
        previous = current
    ranked = {c.server for c in _ranked(result, experiment, point, metric)}
    for other in cells(result, experiment):
        if _key(other.point) == _key(point) and other.server not in ranked:
            parts.append(f"{other.server} not ranked ({_why_not(other)})")
    return ", ".join(parts)


def _why_not(cell: Cell) -> str:
    return "server full" if cell.status == "refused" and "full" in cell.reason else cell.status


def _key(point: dict) -> str:
    return json.dumps(point, sort_keys=True)


# Tables and conclusions


@dataclass
class Table:
    """Plain strings, ready for a terminal, HTML or Markdown."""

    title: str
    headers: list[str]
    rows: list[list[str]]
    notes: list[str]


MARKS = {
    "client-limited": (
        "†",
        "client-limited: the load generator used over 80 % of its core or fell over 1 % short of"
        " the offered rate; the server may do better",
    ),
    "failed": ("✗", "failed in at least one trial: something was lost or wrong; not ranked"),
    "error": ("!", "at least one trial could not be measured; not ranked"),
}


def pivot(
    result: dict,
    experiment: str,
    metric: str,
    corner: str,
    label: Callable[[dict], str],
    wanted: Callable[[dict], bool] = lambda point: True,
    title: str = "",
) -> Table:
    """One metric: a row per point, a column per server; median (min to max) in each cell.

    `corner` heads the first column, whose entries `label` makes of the points that are `wanted`.
    """
    about = METRICS[metric]
    entries = servers(result, experiment)
    known = {(_key(found.point), found.server): found for found in cells(result, experiment)}
    headers = [corner, *(entry["label"] for entry in entries)]
    rows, notes = [], {}
    for point in points(result, experiment):
        if not wanted(point):
            continue
        row = [label(point)]
        for entry in entries:
            found = known.get((_key(point), entry["id"]))
            row.append(_cell_text(found, metric))
            if found and found.status in MARKS:
                mark, meaning = MARKS[found.status]
                if mark in row[-1]:
                    notes[mark] = f"{mark} {meaning}"
        if set(row[1:]) != {""}:
            rows.append(row)
    unit = f", {about.unit}" if about.unit not in ("", "/s") else ""
    return Table((title or about.label) + unit, headers, rows, list(notes.values()))


def _cell_text(found: Cell | None, metric: str) -> str:
    if found is None:
        return ""
    if found.status == "refused":
        return "server full" if "full" in found.reason else "not tried"
    summary = found.summaries.get(metric)
    if summary is None:
        return MARKS[found.status][0] + found.status if found.status in ("failed", "error") else "-"
    text = number(summary.median)
    if summary.minimum < summary.maximum:
        text += f" ({number(summary.minimum)} to {number(summary.maximum)})"
    if found.status in ("failed", "error") or (
        found.status == "client-limited" and METRICS[metric].by_client
    ):
        text += f" {MARKS[found.status][0]}"
    return text


@cache
def module(experiment: str) -> ModuleType:
    """The module of an experiment. Imported late: it imports this one."""
    return importlib.import_module(f"benchmarks.{experiment}")


def title(experiment: str) -> str:
    """The heading of an experiment."""
    return module(experiment).TITLE


def question(experiment: str) -> str:
    """What an experiment asks, in one line."""
    return module(experiment).QUESTION


def tables(result: dict, experiment: str) -> list[Table]:
    """The tables of an experiment; those without a row are left out."""
    return [table for table in module(experiment).tables(result) if table.rows]


def conclusion(result: dict, experiment: str) -> str:
    """What the numbers of this very result show, in one line."""
    return module(experiment).conclusion(result) or "Nothing that may be ranked was measured."


# Files


def load_result(path: Path) -> dict:
    """Read a result file. Raises ResultError."""
    try:
        result = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ResultError(f"cannot read {path}: {error.strerror}") from None
    except ValueError:
        raise ResultError(f"{path} is not a JSON file") from None
    schema = result.get("schema") if isinstance(result, dict) else None
    if schema != SCHEMA:
        raise ResultError(f"{path} is no result of this benchmark (schema {SCHEMA} expected)")
    return result


def write_result(result: dict, path: Path) -> None:
    """Write a result file so that an interruption leaves the old one or the new one, never half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, suffix=".json")
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(result, file, indent=1, ensure_ascii=False)
        file.write("\n")
    os.chmod(temporary, 0o644)  # mkstemp made it private
    os.replace(temporary, path)
