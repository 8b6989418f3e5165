"""Run suite, short check and look at the model, each in a process of its own; read its report."""

import contextlib
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
    arguments = [
        *("-m", "pytest", "-q", "--tb=no", "--no-header", "-p", "no:cacheprovider"),
        *("--server", containment.command(command), "--profile", profile),
        *(word for rule in rules for word in ("--rule", rule)),
        *("--run-limit", f"{max(1, round(seconds))}", "--keep-going"),
        str(folder),
    ]
    report, run = run_and_read(containment, arguments, "--rule-report", seconds + GRACE_SECONDS)
    if report is None:
        report = {
            "preflight": {"error": f"the suite came to no end: {run.last_words()}"},
            "cut_short": "the suite came to no end",
            "rules": {},
        }
    for about in report["rules"].values():
        for test in about["tests"]:
            # The run has ended before it, or in the middle of it.
            if test["outcome"] == "not run" and not test["message"]:
                test["message"] = report["cut_short"]
    return report


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
    containment: Containment, arguments: Sequence[str], seconds: float, **popen_options
) -> Run:
    """Run this Python, for `seconds` at most."""
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
        output.seek(max(0, output.seek(0, os.SEEK_END) - LAST_WORDS))
        return Run(output.read().decode(errors="replace"), status, seconds)
