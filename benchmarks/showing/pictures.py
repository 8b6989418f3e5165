"""Pictures: what each of them holds, and how it gets on paper.

An experiment builds a Picture out of panels of lines or bars, which needs the standard library
alone; `draw_pictures` needs matplotlib, whose layout and legends are used as they are. Every trial
is a dot and the line joins the medians; hollow and dashed is what does not rank. Each server looks
the same in all pictures. The colours are those of Okabe and Ito, told apart with any common colour
blindness (https://jfly.uni-koeln.de/color/).
"""

import statistics
from dataclasses import dataclass, field

PERCENTILES = {0.5: "p50_ms", 0.9: "p90_ms", 0.99: "p99_ms", 0.999: "p999_ms"}


@dataclass(frozen=True)
class Line:
    """One server in one panel: medians (x, median, least, greatest), and a dot for each trial."""

    server_id: str
    label: str
    points: list[tuple[float, float, float, float]]
    dots: list[tuple[float, float]] = field(default_factory=list)
    hollow: frozenset[float] = frozenset()  # every x whose value does not rank


@dataclass(frozen=True)
class Bar:
    """One server in a panel of bars: its parts end to end, and a dot for each trial's sum."""

    server_id: str
    label: str
    parts: list[tuple[str, float]]
    dots: list[float] = field(default_factory=list)
    hollow: bool = False  # does not rank


@dataclass(frozen=True)
class Panel:
    """One pair of axes with lines, or with bars, which lie: their numbers are along x."""

    x_label: str
    y_label: str = ""
    lines: list[Line] = field(default_factory=list)
    bars: list[Bar] = field(default_factory=list)
    title: str = ""
    x_scale: str = "linear"  # or "log" or "percentile" (x is 0.5, 0.9, 0.99, 0.999)
    y_scale: str = "linear"  # or "log"
    x_ticks: list[tuple[float, str]] | None = None  # None: a tick at every x of the data
    level: tuple[float, str] | None = None  # a y to compare with, dashed, and what it is


@dataclass(frozen=True)
class Picture:
    """One file: a title, panels in rows, notes, and the same in words for who cannot see it."""

    name: str  # of the file, without suffix
    title: str
    panels: list[Panel]
    alt: str = ""  # empty: made of the panels' numbers
    notes: list[str] = field(default_factory=list)
    columns: int = 1


def lines_by(
    view, experiment: str, x_key: str, metric: str, *, scale: float = 1.0, **wanted
) -> list[Line]:
    """A line for each server: `metric` (times `scale`) by the `x_key` of the points `wanted`."""
    points = [p for p in view.points(experiment, **wanted) if x_key in p]
    return _lines(view, experiment, [(p[x_key], p, metric) for p in points], scale)


def percentile_lines(view, experiment: str, point: dict) -> list[Line]:
    """A line for each server: its latency at one point from p50 to p99.9 (x_scale "percentile")."""
    return _lines(view, experiment, [(x, point, metric) for x, metric in PERCENTILES.items()])


def series_lines(view, experiment: str, point: dict, name: str, *, growth=False) -> list[Line]:
    """A line for each server: the median of its trials' series `name` at each of their `t_s`.

    With `growth`, every trial counts from its own first value.
    """
    made = []
    for server in view.servers(experiment):
        cell = view.cell(experiment, point, server["id"])
        at: dict[float, list[float]] = {}
        for trial in _drawn(cell):
            series = trial.get("series") or {}
            pairs = zip(series.get("t_s", ()), series.get(name, ()), strict=True)
            known = [(t, value) for t, value in pairs if value is not None]
            start = known[0][1] if growth and known else 0
            for t, value in known:
                at.setdefault(t, []).append(value - start)
        if at:
            made.append(_line(server, {t: at[t] for t in sorted(at)}, frozenset()))
    return made


def bars_of(view, experiment: str, point: dict, parts: dict[str, str]) -> list[Bar]:
    """A bar for each server at one point: the metrics of `parts` (metric: its name), end to end."""
    made = []
    for server in view.servers(experiment):
        cell = view.cell(experiment, point, server["id"])
        trials = [trial["metrics"] for trial in _drawn(cell)]
        known = [metric for metric in parts if any(metric in metrics for metrics in trials)]
        if known:
            sums = [sum(metrics.get(metric, 0.0) for metric in known) for metrics in trials]
            named = [(parts[metric], cell.median(metric)) for metric in known]
            ranks = all(cell.ranks(metric) for metric in known)
            made.append(Bar(server["id"], server["label"], named, sums, hollow=not ranks))
    return made


def _lines(view, experiment: str, places: list[tuple[float, dict, str]], scale=1.0) -> list[Line]:
    """A line for each server through places: x, and the point and the metric found there."""
    made = []
    for server in view.servers(experiment):
        at: dict[float, list[float]] = {}
        hollow = set()
        for x, point, metric in sorted(places, key=lambda place: place[0]):
            cell = view.cell(experiment, point, server["id"])
            trials = [trial["metrics"] for trial in _drawn(cell)]
            values = [metrics[metric] * scale for metrics in trials if metric in metrics]
            if values:
                at[x] = values
                if not cell.ranks(metric):
                    hollow.add(x)
        if at:
            made.append(_line(server, at, frozenset(hollow)))
    return made


def _line(server: dict, at: dict[float, list[float]], hollow: frozenset[float]) -> Line:
    points = [(x, statistics.median(ys), min(ys), max(ys)) for x, ys in at.items()]
    dots = [(x, y) for x, ys in at.items() for y in ys]
    return Line(server["id"], server["label"], points, dots, hollow)


def _drawn(cell) -> list[dict]:
    """The trials of a cell that have numbers to draw: none where one of them failed."""
    return [] if cell is None or cell.status in ("failed", "error") else cell.trials
