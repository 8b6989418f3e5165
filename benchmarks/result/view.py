"""The view of a result: the points and cells that tables, pictures and sentences look up."""

import json
from dataclasses import dataclass, field
from typing import Any

from benchmarks.result.metrics import METRICS
from benchmarks.result.statistics import Blocks, Ratio, median, unpaired_ratio
from benchmarks.result.status import Refusal, Status

KINDS = ("ours", "floor", "tutorial", "small", "theirs")  # in the order in which they are shown
# These are ranked. The floors in C and the tutorial server are there to be seen, not to win. They
# take part in the first rounds only, and the floors are steadier than Python, so their rounds say
# little of the others' error.
COMPARED = ("ours", "small", "theirs")


@dataclass(eq=False)
class Cell:
    """One server at one point: its `entry` in the file, its trials, and what became of them.

    `values` holds the numbers by metric, then by round.
    """

    entry: dict
    trials: list[dict] = field(default_factory=list)
    refusal: Refusal | None = None
    status: Status = Status.OK
    values: dict[str, dict[int, float]] = field(default_factory=dict)
    # The point where it was measured, beside others.
    point: "MeasuredPoint | None" = None

    @property
    def server(self) -> str:
        return self.entry["id"]

    def settle(self) -> None:
        """Work out the status and the numbers, once all trials are known.

        A disturbed trial says nothing about the server. It is left out if there are others. So is
        one in which the load generator was at its limit, unless that is so in most trials.
        """
        self.trials.sort(key=lambda trial: trial["round"])
        calm = [trial for trial in self.trials if trial["status"] != Status.DISTURBED]
        calm = calm or self.trials
        kept = [trial for trial in calm if trial["status"] != Status.CLIENT_LIMITED]
        for trial in kept if 2 * len(kept) > len(calm) else calm:
            self.status = max(self.status, Status(trial["status"]), key=list(Status).index)
            for metric, value in trial["metrics"].items():
                self.values.setdefault(metric, {})[trial["round"]] = value
        if self.refusal:
            self.status = Status.REFUSED

    def median(self, metric: str) -> float | None:
        return self.number(metric) if metric in self.values else None

    def number(self, metric: str) -> float:
        """The median of a number that was measured, as every number that ranks was."""
        return median(self.values[metric].values())

    def ranks(self, metric: str) -> bool:
        """Whether this number may be compared with that of another server."""
        enough = {Status.OK}
        if not METRICS[metric].at_kept_rate:
            enough.add(Status.SERVER_LIMITED)
        return self.status in enough and metric in self.values

    def ratio_to(self, other: "Cell", metric: str) -> Ratio:
        """How many times the other's number this one's is, if both rank: else nothing is known."""
        if not (self.ranks(metric) and other.ranks(metric)):
            return Ratio(None)
        if self.point is not None:
            ratio = self.point.blocks(metric).ratio(self.server, other.server)
            if ratio is not None:
                return ratio
        # One is a floor, or a value is 0.
        mine, others = (list(cell.values[metric].values()) for cell in (self, other))
        return unpaired_ratio(mine, others)


class MeasuredPoint(dict[str, Any]):
    """A point of an experiment, and by server the cells of those that were tried there."""

    def __init__(self, point: dict) -> None:
        super().__init__(point)
        self.cells: dict[str, Cell] = {}
        self._blocks: dict[str, Blocks] = {}

    def settle(self, order: list[str]) -> None:
        """Put the cells in this order of their servers, and work out what is in them."""
        self.cells = {server: self.cells[server] for server in order if server in self.cells}
        for cell in self.cells.values():
            cell.point = self
            cell.settle()

    def blocks(self, metric: str) -> Blocks:
        """The servers that are compared by this number, with what their rounds say of its error."""
        if metric not in self._blocks:
            self._blocks[metric] = Blocks(
                {
                    cell.server: cell.values[metric]
                    for cell in self.cells.values()
                    if cell.entry["kind"] in COMPARED and cell.ranks(metric)
                }
            )
        return self._blocks[metric]

    def ranking(self, metric: str, kinds: tuple[str, ...] = KINDS) -> list[Cell]:
        """The cells of these kinds whose number may be compared, by their medians, best first."""
        competing = (cell for cell in self.cells.values() if cell.entry["kind"] in kinds)
        ranked = [cell for cell in competing if cell.ranks(metric)]
        sign = 1 if METRICS[metric].lower_is_better else -1
        return sorted(ranked, key=lambda cell: sign * cell.number(metric))

    def best(self, metric: str, kinds: tuple[str, ...] = KINDS) -> list[Cell]:
        """The best cell, and those that cannot be told from it; none where nothing can be told.

        That is so of one server alone, and of fewer rounds than an interval takes.
        """
        ranked = self.ranking(metric, kinds)
        known = [
            (cell, ratio)
            for cell in ranked[1:]
            if (ratio := cell.ratio_to(ranked[0], metric)).low is not None
        ]
        alike = [cell for cell, ratio in known if not ratio.shown]
        return [ranked[0], *alike] if known else []


class View:
    """Looks things up in a result."""

    def __init__(self, result: dict) -> None:
        self.result = result
        self.entries = sorted(result["servers"], key=lambda entry: KINDS.index(entry["kind"]))
        self.entry_of: dict[str, dict] = {entry["id"]: entry for entry in self.entries}
        self._points: dict[str, dict[str, MeasuredPoint]] = {}
        for trial in result["trials"]:
            self._cell_of(trial).trials.append(trial)
        for row in result["refusals"]:
            self._cell_of(row).refusal = Refusal.of_row(row)
        for points in self._points.values():
            for point in points.values():
                point.settle(list(self.entry_of))

    def _cell_of(self, row: dict) -> Cell:
        points = self._points.setdefault(row["experiment"], {})
        point = points.setdefault(key(row["point"]), MeasuredPoint(row["point"]))
        return point.cells.setdefault(row["server"], Cell(self.entry_of[row["server"]]))

    def experiments(self) -> list[str]:
        """Those that were tried, in the order of the trials."""
        return list(self._points)

    def points(self, experiment: str, **wanted: object) -> list[MeasuredPoint]:
        """The points that were tried and have these values, in the order of the trials."""
        return [
            point
            for point in self._points.get(experiment, {}).values()
            if all(point.get(name) == value for name, value in wanted.items())
        ]

    def cell(self, experiment: str, point: dict, server: str) -> Cell | None:
        """One server at one point, if it was tried there."""
        measured = self._points.get(experiment, {}).get(key(point))
        return measured.cells.get(server) if measured else None


def key(point: dict) -> str:
    """A point as something that can be looked up."""
    return json.dumps(point, sort_keys=True)


def describe(point: dict) -> str:
    """A point in words: `paced, clients 50, rate 5,000`."""
    parts = []
    for name, value in point.items():
        text = f"{value:,}" if isinstance(value, int) else f"{value}"
        parts.append(text if isinstance(value, str) else f"{name.replace('_', ' ')} {text}")
    return ", ".join(parts)
