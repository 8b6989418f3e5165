"""The file that holds a result; benchmarks/README.md describes it."""

import contextlib
import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import UnionType

from benchmarks.result.status import Status
from benchmarks.result.view import KINDS
from harness.command_line import printable

SCHEMA = "concurrency-study-benchmark/2"
EARLIER = "concurrency-study-benchmark/1"
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
LARGEST = 1e15  # nothing measured comes near it; neither infinity nor NaN is below it

TEXT, NUMBER = str | None, int | float
PLACE = {"experiment": str, "point": dict, "server": str}
MACHINE = {"system": str, "kernel": str, "cpu": str, "cores": int | None, "pinned_apart": bool}
CORES = {"server_cores": [int], "client_cores": [int], "descriptors": int | None}
QUIET = {"fastest_ms": NUMBER, "spread": NUMBER, "is_quiet": bool, "waited_s": NUMBER}
SERVER = {"id": str, "label": str, "profile": str, "kind": KINDS, "model": str}
PYTHON = {"command": str | list, "version": TEXT, "python": TEXT, "python_build": TEXT, "gil": TEXT}
HOW = {"round": int, "seed": int, "repeats": int, "took_s": NUMBER, "finished": str}
OUTCOME = {"status": tuple(Status), "reason": TEXT, "metrics": {"*": NUMBER}}
SERIES = {"series?": {"*": [NUMBER | None]}}
LIMITS = {"rounds": int, "wait_limit": NUMBER, "repeats_limit": int}
# What a file holds: a dictionary has these entries (`*` stands for any name, one with `?` may be
# missing), a list any number of its one, a tuple lists the values there may be.
SHAPE = {
    "kind": ("run", "aa"),
    "size": ("smoke", "quick", "full"),
    "started": str,
    "finished": TEXT,
    "interrupted": bool,
    "command": [str],
    "commit": TEXT,
    "dirty": bool | None,
    "seed": int,
    "machine": MACHINE | CORES | {"calibration?": QUIET},
    "parameters": LIMITS | {"experiments": {"*": dict}},
    "servers": [SERVER | PYTHON],
    "missing": [str],
    "conformance": [{"server": str, "passed": bool, "reason": TEXT}],
    "trials": [PLACE | HOW | OUTCOME | SERIES],
    "refusals": [PLACE | {"held": int | None, "reason": str}],
}


class ResultError(Exception):
    """A file is not a result of ours, or cannot be written; one line."""


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
    for damage in _damages(result, SHAPE, ""):
        raise ResultError(f"{path} is no complete result: {printable(damage.lstrip('.'))}")
    return result


def _damages(value: object, shape: object, where: str) -> Iterator[str]:
    """What is missing in a value, or is not what it should be."""
    if isinstance(shape, dict) and isinstance(value, dict):
        for name, inner in shape.items():
            for present in value if name == "*" else [name.rstrip("?")]:
                if present in value:
                    yield from _damages(value[present], inner, f"{where}.{present}")
                elif present == name:
                    yield f"{where}.{name} is missing"
    elif isinstance(shape, list) and isinstance(value, list):
        for index, item in enumerate(value):
            yield from _damages(item, shape[0], f"{where}[{index}]")
    elif not _fits(value, shape):
        yield f"{where} is {ascii(value)[:40]}"


def _fits(value: object, shape: object) -> bool:
    """Whether a single value is one of those there may be, or of the right type."""
    if isinstance(value, str) and not value.isprintable():
        return False
    if isinstance(value, int | float) and not -LARGEST < value < LARGEST:
        return False
    if isinstance(shape, tuple):
        return value in shape
    return isinstance(shape, type | UnionType) and isinstance(value, shape)


def write_result(result: dict, path: Path) -> None:
    """Write a result file, a line for each trial, whole or not at all. Raises ResultError."""
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
        # Removing the unfinished file may fail for the same reason as writing it.
        with contextlib.suppress(OSError):
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
    """The name under which an older result is kept. Raises ResultError if it is no result."""
    with contextlib.suppress(OSError, ValueError, RecursionError, TypeError, LookupError):
        result = json.loads(path.read_text(encoding="utf-8"))
        if result["schema"] in (SCHEMA, EARLIER) and TIME.fullmatch(result["started"]):
            started = result["started"].replace(":", "")
            return path.with_name(f"{path.stem}-{started}.json")
    raise ResultError(f"will not overwrite {path}: it is no result of this benchmark")
