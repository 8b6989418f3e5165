"""Run suite, short check and look at the model, each in a process of its own; read its report."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.launcher import REPOSITORY, end_process, how_it_ended, start_process
from harness.server_under_test import ServerUnderTest
from tests.grade.containment import Containment
from tests.grade.judgement import Evidence
from tests.grade.reading import Preflight, RuleReport
from tests.suite import rules as rule_texts

# For a run to come to its end after its own limit.
GRACE_SECONDS = 5.0
# Everything about a model is seen by clients that are in.
NO_EVIDENCE = "the model could not be seen before H3"
# Bytes of a broken run's output that are kept.
LAST_WORDS = 2000


def run_short_check(containment: Containment, server: ServerUnderTest, seconds: float) -> Preflight:
    """What the short check alone finds."""
    written, run = _run_worker(containment, "short_check", server, seconds)
    if written is None:
        return Preflight(error=f"the short check failed: {run.last_words()}")
    return Preflight.from_json(written["preflight"])


def run_suite(
    containment: Containment,
    server: ServerUnderTest,
    seconds: float,
    rules: Iterable[str] = (),
    task: str | None = None,
) -> RuleReport:
    """What the suite, or a task's given tests, finds out about a server, rule by rule."""
    folder = rule_texts.SUITE_FOLDER if task is None else rule_texts.TASKS_FOLDER / task
    arguments = [
        *("-m", "pytest", "-q", "--tb=no", "--no-header", "-p", "no:cacheprovider"),
        *_about(containment, server),
        *(word for rule in rules for word in ("--rule", rule)),
        *("--run-limit", f"{max(1, round(seconds))}"),
        # All of it is graded, whatever is broken.
        "--keep-going",
        str(folder),
    ]
    written, run = run_and_read(containment, arguments, "--rule-report", seconds + GRACE_SECONDS)
    if written is None:
        no_end = "the suite came to no end"
        return RuleReport([], Preflight(error=f"{no_end}: {run.last_words()}"), no_end)
    return RuleReport.from_json(written)


def run_model(
    containment: Containment, server: ServerUnderTest, seconds: float
) -> tuple[list[Evidence], str | None]:
    """What there is to see of a server's model; and an error, if it came to no end."""
    written, run = _run_worker(containment, "model", server, seconds)
    if written is None:
        return [], f"the look at the model came to no end: {run.last_words()}"
    evidence = [Evidence.from_json(each) for each in written["evidence"]]
    return evidence, None if evidence else NO_EVIDENCE


@dataclass(frozen=True)
class Run:
    """What a Python of ours has said, and its exit status; None: it was ended after `seconds`."""

    output: str
    status: int | None
    seconds: float

    def last_words(self) -> str:
        """Why it has failed: what it said last, or how it was ended."""
        if self.status is None:
            return f"it was ended after {self.seconds:.0f} s"
        lines = self.output.strip().splitlines()
        if self.status > 0 and lines:
            return lines[-1].strip()
        return f"it {how_it_ended(self.status)}"


def _run_worker(
    containment: Containment, name: str, server: ServerUnderTest, seconds: float
) -> tuple[dict | None, Run]:
    arguments = ["-m", "tests.grade.worker", name, *_about(containment, server)]
    return run_and_read(containment, arguments, "--json", seconds)


def _about(containment: Containment, server: ServerUnderTest) -> list[str]:
    assert isinstance(server.command, str)
    return ["--server", containment.command(server.command), "--profile", server.profile]


def run_and_read(
    containment: Containment, arguments: Sequence[str], option: str, seconds: float
) -> tuple[dict | None, Run]:
    """Run this Python; returns the JSON that it wrote to the file of `option`, None if it did not.

    A submission could write to that file as well. So it has no name where the system allows that,
    and what is left of the submission is ended before the file is read.
    """
    with tempfile.TemporaryDirectory(prefix="grade-", ignore_cleanup_errors=True) as folder:
        path = Path(folder, "report.json")
        with path.open("w+", encoding="utf-8") as file:
            shared: dict = {}
            if os.name != "nt":
                path.unlink()
                path = Path(f"/dev/fd/{file.fileno()}")
                shared["pass_fds"] = [file.fileno()]
            arguments = [*arguments, f"{option}={path}"]
            run = _run_python(containment, arguments, seconds, folder, **shared)
            containment.sweep()
            file.seek(0)
            try:
                return json.load(file), run
            # It was not written, or not to its end.
            except ValueError:
                return None, run


def _run_python(
    containment: Containment,
    arguments: Sequence[str],
    seconds: float,
    temporary: str,
    **popen_options,
) -> Run:
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONHASHSEED": "0"}
    # Whatever a run leaves there when it is ended goes with the folder.
    environment["TMPDIR"] = temporary
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
            # A run that takes longer is ended, and what it has written by then is taken.
            with contextlib.suppress(subprocess.TimeoutExpired):
                status = worker.wait(timeout=seconds)
        finally:
            end_process(worker)
            containment.workers.discard(worker.pid)
        output.seek(max(0, output.seek(0, os.SEEK_END) - LAST_WORDS))
        return Run(output.read().decode(errors="replace"), status, seconds)
