"""What a picture shows, as plain descriptions: panels of lines or bars, built from a view.

Every trial is a dot, and a line joins the medians; hollow is what does not rank.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from benchmarks.result.metrics import PERCENTILES
from benchmarks.result.statistics import median
from benchmarks.result.view import MeasuredPoint, View


@dataclass(frozen=True)
class Line:
    """One server in one panel: medians (x, median, least, greatest), and a dot for each trial.

    `hollow` holds every x whose value does not rank.
    """

    server_id: str
    label: str
    points: list[tuple[float, float, float, float]]
    dots: list[tuple[float, float]] = field(default_factory=list)
    hollow: frozenset[float] = frozenset()


@dataclass(frozen=True)
class Bar:
    """One server in a panel of bars: parts end to end, and a dot for each trial's sum."""

    server_id: str
    label: str
    parts: list[tuple[str, float]]
    dots: list[float] = field(default_factory=list)
    hollow: bool = False


@dataclass(frozen=True)
class Panel:
    """One pair of axes with lines, or with bars, which lie: their numbers are along x.

    On a percentile scale, x is 0.5, 0.9, 0.99. `level` is a y to compare with, and its name.
    """

    x_label: str
    y_label: str = ""
    lines: list[Line] = field(default_factory=list)
    bars: list[Bar] = field(default_factory=list)
    title: str = ""
    x_scale: Literal["linear", "log", "percentile"] = "linear"
    y_scale: Literal["linear", "log"] = "linear"
    level: tuple[float, str] | None = None

    @property
    def has_hollow(self) -> bool:
        return any(line.hollow for line in self.lines) or any(bar.hollow for bar in self.bars)

    def tick(self, x: float) -> str:
        """What stands at an x."""
        return f"p{x * 100:g}" if self.x_scale == "percentile" else as_tick(x)


def as_tick(value: float, position: float | None = None) -> str:
    """A number for an axis, where room is scarce: 12k or 35 or 0.25."""
    return f"{value / 1000:g}k" if abs(value) >= 1000 else f"{value:g}"


@dataclass(frozen=True)
class Picture:
    """A title, and panels in rows; `name` is that of its files, without suffix."""

    name: str
    title: str
    panels: list[Panel]
    columns: int = 1

    @property
    def drawn_panels(self) -> list[Panel]:
        return [panel for panel in self.panels if panel.lines or panel.bars]


def lines_by(view: View, points: Sequence[MeasuredPoint], x_key: str, metric: str) -> list[Line]:
    """A line for each server: `metric` by the `x_key` of these points."""
    places = [(point[x_key], point, metric) for point in points]
    return _lines(view, sorted(places, key=lambda place: place[0]))


def percentile_lines(view: View, point: MeasuredPoint) -> list[Line]:
    """A line for each server: its latency at one point from p50 to p99 (x_scale "percentile")."""
    return _lines(view, [(x, point, metric) for metric, x in PERCENTILES.items()])


def _lines(view: View, places: list[tuple[float, MeasuredPoint, str]]) -> list[Line]:
    """A line for each server through places: x, and the point and the metric to be found there."""
    lines = []
    for entry in view.entries:
        values: dict[float, list[float]] = {}
        hollow = set()
        for x, point, metric in places:
            cell = point.cells.get(entry["id"])
            if cell and cell.status.has_numbers and metric in cell.values:
                values[x] = list(cell.values[metric].values())
                if not cell.ranks(metric):
                    hollow.add(x)
        lines += _line(entry, values, frozenset(hollow))
    return lines


def series_lines(point: MeasuredPoint, name: str, *, growth: bool = False) -> list[Line]:
    """A line for each server: the median of its trials' series `name`, or of its `growth`."""
    lines = []
    for cell in point.cells.values():
        values: dict[float, list[float]] = {}
        for trial in cell.trials if cell.status.has_numbers else ():
            series = trial.get("series", {})
            pairs = zip(series.get("t_s", ()), series.get(name, ()), strict=False)
            known = [(t, value) for t, value in pairs if value is not None]
            start = known[0][1] if growth and known else 0
            for t, value in known:
                values.setdefault(t, []).append(value - start)
        lines += _line(cell.entry, {t: values[t] for t in sorted(values)})
    return lines


def _line(
    entry: dict, values: dict[float, list[float]], hollow: frozenset[float] = frozenset()
) -> list[Line]:
    """A server's line through the values at each x; none without values."""
    if not values:
        return []
    points = [(x, median(ys), min(ys), max(ys)) for x, ys in values.items()]
    dots = [(x, y) for x, ys in values.items() for y in ys]
    return [Line(entry["id"], entry["label"], points, dots, hollow)]


def bars_of(point: MeasuredPoint, parts: Mapping[str, str]) -> list[Bar]:
    """A bar for each server at one point: the metrics of `parts` (metric: its name), end to end."""
    bars = []
    for cell in point.cells.values():
        known = [metric for metric in parts if metric in cell.values]
        if not (cell.status.has_numbers and known):
            continue
        named = [(parts[metric], cell.number(metric)) for metric in known]
        trials = zip(*(cell.values[metric].values() for metric in known), strict=False)
        sums = [sum(trial) for trial in trials]
        hollow = not all(cell.ranks(metric) for metric in known)
        bars.append(Bar(cell.server, cell.entry["label"], named, sums, hollow))
    return bars
