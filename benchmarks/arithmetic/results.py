"""A result: the file that holds it, and the cells that tables, pictures and sentences look up.

Nothing here measures or prints. README.md describes the file.
"""

import contextlib
import json
import re
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.arithmetic.metrics import METRICS
from benchmarks.arithmetic.statistics import Ratio, median, paired_ratio
from benchmarks.experiments import EXPERIMENTS, module

SCHEMA = "concurrency-study-benchmark/2"
EARLIER = "concurrency-study-benchmark/1"
KINDS = ("ours", "floor", "tutorial", "theirs")  # of servers, in the order in which they are shown
# From best to worst: what a cell is, is the worst that one of its trials was.
STATUSES = ("ok", "server-limited", "disturbed", "client-limited", "error", "failed")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
LARGEST = 1e15  # nothing that is measured here comes near it


class ResultError(Exception):
    """A file is not a result of ours, or cannot be written; one line."""


# What is shown of a result


@dataclass
class Cell:
    """One server at one point: its trials, and what became of them."""

    experiment: str
    point: dict
    server: str
    status: str = "ok"
    reason: str | None = None
    trials: list[dict] = field(default_factory=list)
    values: dict[str, dict[int, float]] = field(default_factory=dict)  # by metric, by round
    refused: tuple[int | None, str] | None = None  # how many clients it held, and why

    def median(self, metric: str) -> float | None:
        """The middle one of the trials, or None: there is no such number."""
        values = self.values.get(metric)
        return median(values.values()) if values else None

    def spread(self, metric: str) -> tuple[float, float] | None:
        """The least and the greatest of the trials."""
        values = self.values.get(metric)
        return (min(values.values()), max(values.values())) if values else None

    def ranks(self, metric: str) -> bool:
        """Whether this number may be compared with that of another server."""
        kept = self.status == "ok"
        if not METRICS[metric].at_kept_rate:
            kept = self.status in ("ok", "server-limited")
        return kept and self.refused is None and metric in self.values


class View:
    """Looks things up in a result."""

    def __init__(self, result: dict) -> None:
        self.result = result
        self.entries = sorted(result["servers"], key=lambda entry: KINDS.index(entry["kind"]))
        self._points: dict[str, dict[str, dict]] = {}
        self._cells: dict[tuple[str, str, str], Cell] = {}
        for row in result["trials"]:
            self._cell_of(row).trials.append(row)
        for row in result["refusals"]:
            self._cell_of(row).refused = (row["held"], row["reason"])
        for cell in self._cells.values():
            _settle(cell)

    def _cell_of(self, row: dict) -> Cell:
        experiment, point, server = row["experiment"], row["point"], row["server"]
        self._points.setdefault(experiment, {}).setdefault(key(point), point)
        made = Cell(experiment, point, server)
        return self._cells.setdefault((experiment, key(point), server), made)

    def experiments(self) -> list[str]:
        """Those of which there is something to show."""
        return [name for name in EXPERIMENTS if name in self._points]

    def servers(self, experiment: str) -> list[dict]:
        """The servers that were tried there: ours, floors, the tutorials', those of others."""
        tried = {cell.server for cell in self._cells.values() if cell.experiment == experiment}
        return [entry for entry in self.entries if entry["id"] in tried]

    def points(self, experiment: str, **wanted: object) -> list[dict]:
        """The points that were tried and have these values, in the order of the trials."""
        return [
            point
            for point in self._points.get(experiment, {}).values()
            if all(point.get(name) == value for name, value in wanted.items())
        ]

    def cell(self, experiment: str, point: dict, server: str) -> Cell | None:
        """One server at one point, if it was tried there."""
        return self._cells.get((experiment, key(point), server))

    def cells(self, experiment: str, point: dict) -> list[Cell]:
        """All that were tried at a point, in the order of `servers`."""
        found = [self.cell(experiment, point, entry["id"]) for entry in self.entries]
        return [cell for cell in found if cell]

    def ratio(
        self, experiment: str, point: dict, metric: str, first: str, second: str
    ) -> Ratio | None:
        """How many times the second one's number the first one's is; None: not to be compared."""
        cells = [self.cell(experiment, point, server) for server in (first, second)]
        if not all(cell and cell.ranks(metric) for cell in cells):
            return None
        return paired_ratio(cells[0].values[metric], cells[1].values[metric])

    def ranking(
        self, experiment: str, point: dict, metric: str, kinds: tuple[str, ...] = KINDS
    ) -> list[Cell]:
        """The cells whose number may be compared, by their medians, best first."""
        among = {entry["id"] for entry in self.entries if entry["kind"] in kinds}
        usable = [
            cell
            for cell in self.cells(experiment, point)
            if cell.server in among and cell.ranks(metric)
        ]
        sign = 1 if METRICS[metric].better == "lower" else -1
        return sorted(usable, key=lambda cell: sign * cell.median(metric))

    def best(
        self, experiment: str, point: dict, metric: str, kinds: tuple[str, ...] = KINDS
    ) -> list[str]:
        """The best server, and those that are not told apart from it."""
        ranked = self.ranking(experiment, point, metric, kinds)
        return [
            cell.server
            for cell in ranked
            if cell is ranked[0]
            or not self.ratio(experiment, point, metric, cell.server, ranked[0].server).shown
        ]


def _settle(cell: Cell) -> None:
    """What a cell is, and its numbers, once it has all its trials.

    A disturbed trial says nothing about the server. It is left out as long as there are others.
    """
    calm = [trial for trial in cell.trials if trial["status"] != "disturbed"]
    cell.trials.sort(key=lambda trial: trial["round"])
    for trial in calm or cell.trials:
        if STATUSES.index(trial["status"]) > STATUSES.index(cell.status):
            cell.status, cell.reason = trial["status"], trial["reason"]
        for metric, value in trial["metrics"].items():
            cell.values.setdefault(metric, {})[trial["round"]] = value
    if cell.refused:
        cell.status, cell.reason = "refused", cell.refused[1]


def key(point: dict) -> str:
    """A point as something that can be looked up."""
    return json.dumps(point, sort_keys=True)


def describe(point: dict) -> str:
    """A point in words: `paced, clients 50, rate 5,000`."""
    return ", ".join(
        value
        if isinstance(value, str)
        else f"{name.replace('_', ' ')} {value:,}"
        if isinstance(value, int)
        else f"{name.replace('_', ' ')} {value}"
        for name, value in point.items()
    )


# Files


def load_result(path: Path) -> dict:
    """Read a result file. Raises ResultError: whatever is wrong with it is one line."""
    try:
        result = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ResultError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise ResultError(f"{path} is not a JSON file") from None
    schema = result.get("schema") if isinstance(result, dict) else None
    if schema == EARLIER:
        raise ResultError(f"{path} is of the first edition of the benchmarks: measure again")
    if schema != SCHEMA:
        raise ResultError(f"{path} is no result of this benchmark (schema {SCHEMA} expected)")
    try:
        _check(result, SHAPE, "")
        _check_references(result)
    except _Odd as odd:
        raise ResultError(f"{path} is no complete result: {odd}") from None
    return result


def write_result(result: dict, path: Path) -> None:
    """Write a result file so that whatever happens leaves the old one or the new one, never half.

    Raises ResultError. Each trial is a line: that is quick to write, and easy to look through.
    """
    lines = []
    for name, value in result.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            rows = ",\n  ".join(json.dumps(row, ensure_ascii=False) for row in value)
            lines.append(f' "{name}": [\n  {rows}\n ]')
        else:
            lines.append(f' "{name}": {json.dumps(value, ensure_ascii=False)}')
    text = "{\n" + ",\n".join(lines) + "\n}\n"
    unfinished = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):  # it may be just that which cannot be done
            unfinished.unlink(missing_ok=True)
        raise ResultError(f"cannot write {path}: {error.strerror}") from None


def try_folder(folder: Path) -> None:
    """Find out before anything is measured whether results can be kept there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, suffix=".json") as file:
            file.write(bytes(4096))
            file.flush()
    except OSError as error:
        raise ResultError(f"--out {folder}: {error.strerror}; nothing was measured") from None


def kept_name(path: Path) -> Path:
    """Measurements are not thrown away: an older result is to get its start time as its name."""
    with contextlib.suppress(OSError, ValueError, RecursionError, TypeError, LookupError):
        result = json.loads(path.read_text(encoding="utf-8"))
        if result["schema"] in (SCHEMA, EARLIER) and TIME.fullmatch(result["started"]):
            started = result["started"].replace(":", "")
            return path.with_name(f"{path.stem}-{started}.json")
    raise ResultError(f"will not overwrite {path}: it is no result of this benchmark")


# Whether a file is what it says


class _Odd(Exception):
    """What is odd in a file, and where."""


def _text(value: object) -> bool:
    return isinstance(value, str) and value.isprintable()


def _count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < LARGEST


def _number(value: object) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and -LARGEST < value < LARGEST


def _flag(value: object) -> bool:
    return isinstance(value, bool)


def _time(value: object) -> bool:
    return isinstance(value, str) and bool(TIME.fullmatch(value))


def _anything(value: object) -> bool:
    return True


def _one_of(*values: str) -> Callable[[object], bool]:
    def one_of(value: object) -> bool:
        return isinstance(value, str) and value in values

    return one_of


def _or_null(test: Callable[[object], bool]) -> Callable[[object], bool]:
    def or_null(value: object) -> bool:
        return value is None or test(value)

    return or_null


def _plain(value: object) -> bool:
    return _text(value) or _number(value)


def _command(value: object) -> bool:
    return _text(value) or (isinstance(value, list) and all(map(_text, value)))


# A dictionary has these entries (a name with `?` may be missing, `*` is any name), a list any
# number of its one, and everything else is a test.
WHERE = {"experiment": _one_of(*EXPERIMENTS), "point": {"*": _plain}, "server": _text}
SHAPE = {
    "kind": _one_of("run", "aa"),
    "size": _one_of("smoke", "quick", "full"),
    "started": _time,
    "finished": _or_null(_time),
    "interrupted": _flag,
    "command": [_text],
    "commit": _or_null(_text),
    "dirty": _or_null(_flag),
    "seed": _count,
    "machine": {
        **dict.fromkeys(("system", "kernel", "cpu"), _text),
        "server_cores": [_count],
        "client_cores": [_count],
        "cores": _or_null(_count),
        "descriptors": _or_null(_count),
        "memory_gib": _or_null(_number),
        "pinned_apart": _flag,
        "*": _anything,
    },
    "parameters": {
        "rounds": _count,
        "wait_limit": _number,
        "repeats_limit": _count,
        "experiments": {"*": {"*": _anything}},
    },
    "servers": [
        {
            "id": _text,
            "label": _text,
            "profile": _one_of("echo", "chat"),
            "kind": _one_of(*KINDS),
            "model": _text,
            "command": _command,
            **dict.fromkeys(("version", "python", "python_build", "gil"), _or_null(_text)),
        }
    ],
    "missing": [_text],
    "conformance": [{"server": _text, "passed": _flag, "reason": _or_null(_text)}],
    "trials": [
        {
            **WHERE,
            "round": _count,
            "status": _one_of(*STATUSES),
            "reason": _or_null(_text),
            "seed": _count,
            "repeats": _count,
            "took_s": _number,
            "finished": _time,
            "metrics": {"*": _number},
            "series?": {"*": [_or_null(_number)]},
        }
    ],
    "refusals": [{**WHERE, "held": _or_null(_count), "reason": _text}],
}


def _check(value: object, shape: object, where: str) -> None:
    """Raise _Odd where a value is not of the shape that it should be."""
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            raise _Odd(f"{where or 'the file'} is no object")
        for name, inner in shape.items():
            required = name.removesuffix("?")
            if required in value:
                _check(value[required], inner, f"{where}.{required}".lstrip("."))
            elif required == name != "*":
                raise _Odd(f"{where}.{name} is missing".lstrip("."))
        if "*" in shape:
            for name in value.keys() - shape.keys():
                if not name.isprintable():
                    raise _Odd(f"{where} has an odd name in it")
                _check(value[name], shape["*"], f"{where}.{name}")
    elif isinstance(shape, list):
        if not isinstance(value, list):
            raise _Odd(f"{where} is no list")
        for index, item in enumerate(value):
            _check(item, shape[0], f"{where}[{index}]")
    elif not shape(value):
        raise _Odd(f"{where} is {_short(value)}")


def _short(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= 40 else f"{text[:40]}..."


def _check_references(result: dict) -> None:
    """Raise _Odd where a file names what it does not have, or has something twice."""
    ids = [entry["id"] for entry in result["servers"]]
    for twice in {name for name in ids if ids.count(name) > 1}:
        raise _Odd(f"there are two servers {_short(twice)}")
    planned = {name: _planned(result, name) for name in result["parameters"]["experiments"]}
    seen = set()
    for where, row in _rows(result):
        if row["server"] not in ids:
            raise _Odd(f"{where}.server is {_short(row['server'])}, which is not among the servers")
        if "experiment" not in row:
            continue
        if key(row["point"]) not in planned.get(row["experiment"], ()):
            raise _Odd(f"{where}.point is {_short(row['point'])}, which was never planned")
        place = (row["experiment"], key(row["point"]), row["server"], row.get("round"))
        if place in seen:
            raise _Odd(f"{where} is there twice")
        seen.add(place)
        if row.get("round", 0) >= max(1, result["parameters"]["rounds"]):
            raise _Odd(f"{where}.round is {row['round']}")
        if row.get("status") in STATUSES[:4]:
            for name in getattr(module(row["experiment"]), "SERIES", ()):
                if name not in row.get("series", {}):
                    raise _Odd(f"{where}.series.{name} is missing")


def _planned(result: dict, experiment: str) -> set[str]:
    """The points that the parameters in the file stand for."""
    if experiment not in EXPERIMENTS:
        raise _Odd(f"there is no experiment {_short(experiment)}")
    try:
        points = module(experiment).points(result["parameters"]["experiments"][experiment])
        return {key(point) for point in points}
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        raise _Odd(f"parameters.experiments.{experiment} are not its parameters") from None


def _rows(result: dict) -> Iterator[tuple[str, dict]]:
    for name in ("conformance", "trials", "refusals"):
        for index, row in enumerate(result[name]):
            yield f"{name}[{index}]", row
