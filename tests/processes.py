"""For tests of commands that start servers: did they leave a process behind?"""

import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from harness.launcher import REPOSITORY

MARK = "CHAT_STUDY_TEST_RUN"
BENCHMARKS = [sys.executable, "-m", "benchmarks"]


class Marked:
    """An environment that marks a command and, as it is inherited, all that the command starts."""

    def __init__(self) -> None:
        self.value = uuid.uuid4().hex
        self.environment = {**os.environ, MARK: self.value, "PYTHONUNBUFFERED": "1"}
        self.environment.pop("NO_COLOR", None)

    def left_behind(self) -> list[str]:
        """The command lines of marked processes that are alive."""
        if not Path("/proc/self/environ").exists():
            pytest.skip("finding processes by their environment needs /proc")
        wanted = f"{MARK}={self.value}".encode()
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                if wanted in (entry / "environ").read_bytes().split(b"\0"):
                    found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode())
            except OSError:  # it ended while we looked, or is somebody else's
                continue
        return found


def benchmarks(*arguments: object, **options) -> tuple[int, str, str]:
    """Run a command of the benchmarks; returns (exit status, output, errors).

    Nothing that it started may be left, and nothing may be a traceback.
    """
    marked = Marked()
    environment = marked.environment | options.pop("environment", {})
    done = subprocess.run(
        [*BENCHMARKS, *map(str, arguments)],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        **options,
    )
    assert "Traceback" not in done.stdout + done.stderr
    assert marked.left_behind() == []
    return done.returncode, done.stdout, done.stderr
