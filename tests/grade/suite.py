"""Run suite, short check and look at the model, each in a process of its own; read its report."""

import ast
import contextlib
import functools
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.launcher import REPOSITORY, end_process, how_it_ended, start_process
from tests import rules as rule_texts
from tests.grade.containment import Containment

GRACE_SECONDS = 5.0  # for a run to come to its end after its own limit
COLLECT_SECONDS = 10.0
LAST_WORDS = 2000  # bytes of a broken run's output that are kept


def is_pytest_there() -> bool:
    """Whether the suite can be run at all."""
    return importlib.util.find_spec("pytest") is not None


def run_short_check(containment: Containment, command: str, profile: str, seconds: float) -> dict:
    """{"preflight": ...} as in the suite's report: None, a fault, or {"error": one line}."""
    found, run = _run_module(containment, "short_check", command, profile, seconds)
    if found is None:
        found = {"preflight": {"error": f"the short check failed: {run.last_words()}"}}
    return found


def run_suite(
    containment: Containment,
    command: str,
    profile: str,
    seconds: float,
    rules: Iterable[str] = (),
    task: str | None = None,
) -> dict:
    """The rule report of the suite, or of a task's given tests, about a server.

    `preflight` has an error if there is no report.
    """
    folder = REPOSITORY / "tests" if task is None else rule_texts.TASKS_FOLDER / task
    selection = [
        *("-m", "pytest", "-q", "--tb=no", "--no-header", "-p", "no:cacheprovider"),
        *("--server", containment.command(command), "--profile", profile),
        *(word for rule in rules for word in ("--rule", rule)),
        str(folder),
    ]
    limit = ["--run-limit", f"{max(1, round(seconds))}", "--keep-going"]
    report, run = run_and_read(
        containment, [*selection, *limit], "--rule-report", seconds + GRACE_SECONDS
    )
    if report is None:
        report = {
            "preflight": {"error": f"the suite came to no end: {run.last_words()}"},
            "cut_short": "the suite came to no end",
            "rules": {},
        }
    elif report["cut_short"]:
        collected = run_python(
            containment, [*selection, "--collect-only"], COLLECT_SECONDS, keep=1_000_000
        )
        add_what_was_not_reached(report, collected.output, folder)
    return report


def add_what_was_not_reached(
    report: dict, collected: str, folder: Path = REPOSITORY / "tests"
) -> None:
    """Put the tests into a report that the run did not come to, as "not run".

    `collected` is what pytest prints for --collect-only, a test in each line, in files of `folder`.
    Without this a rule would get full points for the first of its tests.
    """
    prefix = f"{folder.relative_to(REPOSITORY).as_posix()}/"
    reached = {test["test"]: test for about in report["rules"].values() for test in about["tests"]}
    for test in reached.values():
        # The run ended in the middle of it.
        if test["outcome"] == "not run" and not test["message"]:
            test["message"] = report["cut_short"]
    for line in collected.splitlines():
        test = line.strip().removeprefix(prefix)
        function = test.partition("[")[0]
        if "::" not in function or test in reached:
            continue
        file, _, name = function.partition("::")
        named = _rules_by_function(folder / file).get(name)
        if named:
            about = report["rules"].setdefault(named[0], {"tests": []})
            case = {"test": test, "function": function, "rules": named, "outcome": "not run"}
            about["tests"].append({**case, "message": report["cut_short"]})


@functools.cache
def _rules_by_function(path: Path) -> dict[str, list[str]]:
    tree = ast.parse(path.read_bytes())
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    return {each.name: rule_texts.named_in(ast.get_docstring(each)) for each in functions}


def run_model(containment: Containment, command: str, profile: str, seconds: float) -> dict:
    """What tests.grade.model has seen: {"evidence": [...]}, or {"error": one line}."""
    seen, run = _run_module(containment, "model", command, profile, seconds)
    if seen is None:
        why = f"the look at the model came to no end: {run.last_words()}"
        return {"error": why, "evidence": []}
    return seen


@dataclass(frozen=True)
class Run:
    """What a Python of ours has said, and its exit status; None: it was ended after `seconds`."""

    output: str
    status: int | None
    seconds: float

    def last_words(self) -> str:
        """The last line that names an error, or how it ended."""
        if lines := [line.strip() for line in self.output.splitlines() if "rror" in line]:
            return lines[-1]
        if self.status is None:
            return f"it was ended after {self.seconds:.0f} s"
        return f"it {how_it_ended(self.status)}"


def _run_module(
    containment: Containment, name: str, command: str, profile: str, seconds: float
) -> tuple[dict | None, Run]:
    arguments = [
        *("-m", f"tests.grade.{name}", "--server", containment.command(command)),
        *("--profile", profile),
    ]
    return run_and_read(containment, arguments, "--json", seconds)


def run_and_read(
    containment: Containment, arguments: Sequence[str], option: str, seconds: float
) -> tuple[dict | None, Run]:
    """Run this Python; returns the JSON that it wrote to the file of `option`, None if it did not.

    A submission could write there as well. So the file has no name where that can be, and what is
    left of the submission is ended before it is read.
    """
    with tempfile.TemporaryDirectory(prefix="grade-") as folder:
        path = Path(folder, "report.json")
        with path.open("w+", encoding="utf-8") as file:
            shared: dict = {}
            if os.name != "nt":
                path.unlink()
                path = Path(f"/dev/fd/{file.fileno()}")
                shared["pass_fds"] = [file.fileno()]
            run = run_python(containment, [*arguments, f"{option}={path}"], seconds, **shared)
            containment.sweep()
            file.seek(0)
            # It was not written, or not to its end.
            try:
                return json.load(file), run
            except ValueError:
                return None, run


def run_python(
    containment: Containment,
    arguments: Sequence[str],
    seconds: float,
    keep: int = LAST_WORDS,
    **popen_options,
) -> Run:
    """Run this Python, for `seconds` at most; keeps the last `keep` bytes that it said."""
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONHASHSEED": "0"}
    environment.pop("PYTEST_ADDOPTS", None)
    with tempfile.TemporaryFile() as output:
        worker = start_process(
            [sys.executable, *arguments],
            cwd=REPOSITORY,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            **popen_options,
        )
        containment.workers.add(worker.pid)
        status = None
        try:
            # Past its time it is ended, and what it has written by then is taken.
            with contextlib.suppress(subprocess.TimeoutExpired):
                status = worker.wait(timeout=seconds)
        finally:
            end_process(worker)
            containment.workers.discard(worker.pid)
        output.seek(max(0, output.seek(0, os.SEEK_END) - keep))
        return Run(output.read().decode(errors="replace"), status, seconds)
