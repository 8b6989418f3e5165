"""For tests of commands that start servers: did they leave a process behind?"""

import os
import subprocess
import sys
import uuid

import pytest

from harness import proc
from harness.launcher import REPOSITORY

MARK = "CHAT_STUDY_TEST_RUN"
BENCHMARKS = [sys.executable, "-m", "benchmarks"]


class Marked:
    """An environment that marks a command and, as it is inherited, all that the command starts."""

    def __init__(self) -> None:
        self.mark = f"{MARK}={uuid.uuid4().hex}"
        name, _, value = self.mark.partition("=")
        self.environment = {**os.environ, name: value, "PYTHONUNBUFFERED": "1"}
        self.environment.pop("NO_COLOR", None)

    def left_behind(self) -> list[str]:
        """The command lines of marked processes that are alive."""
        if not proc.CAN_SEE:
            pytest.skip("finding processes by their environment needs /proc")
        return [proc.command_line(pid) for pid in proc.marked(self.mark, proc.all_pids())]


def benchmarks(*arguments: object, **options) -> tuple[int, str, str]:
    """Run a command of the benchmarks; see `run_module`."""
    return run_module("benchmarks", *arguments, **options)


def run_module(module: str, *arguments: object, **options) -> tuple[int, str, str]:
    """Run `python -m MODULE ARGUMENT...` to its end; returns (exit status, output, errors).

    Nothing that it started may be left, and nothing may be a traceback.
    """
    marked = Marked()
    environment = marked.environment | options.pop("environment", {})
    done = subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        **options,
    )
    assert "Traceback" not in done.stdout + done.stderr
    if proc.CAN_SEE:
        assert marked.left_behind() == []
    return done.returncode, done.stdout, done.stderr
