"""The suite, run against one server in a process of its own, and what it has found out."""

import json
import os
import shlex
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from harness.launcher import REPOSITORY, end_process, start_process
from tests.suite.rule_report import CutShort, Outcome, Result, outcomes_in

AT_ONCE = 2
# Seconds for one run. Then it ends with its results so far.
RUN_LIMIT = 300

Value = TypeVar("Value")


class NoTestWasRun(Exception):
    """The suite has found out nothing: one line with its last words."""


@dataclass(frozen=True)
class SuiteReport:
    """What the suite has found out about one server; `begin_with` is the rule to mend first."""

    outcomes: list[Outcome]
    cut_short: CutShort | None
    begin_with: str | None

    def failed(self) -> dict[str, list[str]]:
        """The tests that failed, by the rule that each is about."""
        tests: dict[str, list[str]] = {}
        for outcome in self.outcomes:
            if outcome.result is Result.FAILED:
                tests.setdefault(outcome.rules[0], []).append(outcome.test)
        return tests


class SuiteRunner:
    """Runs the suite, a few times at once. Leaving the block ends all that is still under way."""

    def __init__(self, at_once: int = AT_ONCE) -> None:
        self._threads = ThreadPoolExecutor(at_once)
        self._is_over = threading.Event()

    def __enter__(self) -> "SuiteRunner":
        return self

    def __exit__(self, *exception: object) -> None:
        self._is_over.set()
        self._threads.shutdown(cancel_futures=True)

    def submit(self, job: Callable[..., Value], *arguments: object) -> Future[Value]:
        """Do a job, which may call `run`, beside a few others."""
        return self._threads.submit(job, *arguments)

    def run(
        self, server: str, profile: str, *options: str, run_limit: int = RUN_LIMIT
    ) -> SuiteReport:
        """Run the tests that the options name against the server of this command line.

        Raises NoTestWasRun.
        """
        with tempfile.TemporaryDirectory(prefix="suite-", ignore_cleanup_errors=True) as folder:
            report, output = Path(folder, "report.json"), Path(folder, "output")
            limit = ("--run-limit", str(run_limit))
            with output.open("wb") as file:
                process = start_process(
                    suite_command(server, profile, report, *limit, *options),
                    cwd=REPOSITORY,
                    # Without plugins, which are slow to load. What a run leaves in its temporary
                    # folder when it is ended goes with ours.
                    env=os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "TMPDIR": folder},
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                )
            deadline = time.monotonic() + 2 * run_limit
            try:
                while process.poll() is None and time.monotonic() < deadline:
                    if self._is_over.wait(0.1):
                        break
            finally:
                end_process(process)
            if self._is_over.is_set():
                raise NoTestWasRun("the suite was ended")
            return read_report(report, output)


def python_server(program: Path) -> str:
    """The command line that starts a program with the options of our servers."""
    return f"{shlex.join([sys.executable, str(program)])} --port {{port}} {{options}}"


def suite_command(server: str, profile: str, report: Path, *options: str) -> list[str]:
    """The command that runs the suite against a server, even if that fails its short check."""
    command = [sys.executable, "-m", "pytest", "-q", "--tb=no", "-p", "no:cacheprovider"]
    command += ["--keep-going", "--server", server, "--profile", profile]
    return [*command, "--rule-report", str(report), *options]


def read_report(report: Path, output: Path) -> SuiteReport:
    """What a run of the suite has written. Raises NoTestWasRun."""
    # Where it has run no test, the file may be missing, or not be there to its end.
    try:
        contents = json.loads(report.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        contents = {"rules": {}}
    outcomes = outcomes_in(contents)
    if all(outcome.result is Result.NOT_RUN for outcome in outcomes):
        words = output.read_text(encoding="utf-8", errors="replace").strip()
        last_line = words.rpartition("\n")[2] or "nothing"
        raise NoTestWasRun(f"the suite has run no test, and said: {last_line}")
    cut_short = CutShort(**contents["cut_short_by"]) if contents["cut_short_by"] else None
    return SuiteReport(outcomes, cut_short, contents["begin_with"])
