"""No program prints a warning at its end, not even in Python's development mode (`python -X dev`).

There Python complains of a socket, a file or a process that was not closed. To turn warnings into
errors would not do: when a program ends, nobody sees such an error.
"""

import shlex
import signal
import subprocess
import sys
from dataclasses import dataclass

import pytest

from harness.launcher import REPOSITORY
from harness.waiting import wait_until
from tests.processes import Marked

V2, V4 = (
    shlex.join([sys.executable, str(REPOSITORY / version / "server.py")])
    + " --port {port} {options}"
    for version in ("v2_select", "v4_asyncio")
)
# It ends as soon as it is started.
NO_SERVER = f"{shlex.quote(sys.executable)} no_such_file.py {{file}} {{port}}"


@dataclass(frozen=True)
class Program:
    """The words behind `python -X dev`, and with which status it ends; `FOLDER` is one to write to.

    With a `signal` it is ended by that, once it has started another process.
    """

    words: tuple[str, ...]
    status: int = 0
    signal: int | None = None


def module(*words: str, **ending: int) -> Program:
    """One of our tools."""
    return Program(("-m", *words), **ending)


LIMITS = ("tests.limits", "--versions", "v2", "--only")
GRADE = ("tests.grade", "--profile", "echo", "--only", "F1")
GRADE_EACH = (*GRADE, "--each", "v2_select/server.py", "--out", "FOLDER")
BENCHMARKS = ("benchmarks", "--smoke", "--only", "rush", "--no-floors", "--versions", "v2")
BENCHMARKS = (*BENCHMARKS, "--server", f"mine={V4}", "--out", "FOLDER")

PROGRAMS = {
    "limits": module(*LIMITS, "reset"),
    "zoo": module("tests.zoo", "run", "missing-lock"),
    "small": module("tests.small", "show", "F4"),
    "grade": module(*GRADE, "--server", V2),
    "grade --each": module(*GRADE_EACH, "--server", NO_SERVER),
    "demo": module("benchmarks", "demo"),
    "benchmarks": module(*BENCHMARKS),
    "limits, Ctrl-C": module(*LIMITS, "buffers", status=130, signal=signal.SIGINT),
    "grade --each, Ctrl-C": module(*GRADE_EACH, status=130, signal=signal.SIGINT),
    "benchmarks, SIGTERM": module(*BENCHMARKS, status=130, signal=signal.SIGTERM),
}


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_a_program_ends_without_a_warning(program, tmp_path):
    """Whether it comes to its end, or is ended."""
    marked = Marked()
    with subprocess.Popen(
        [
            sys.executable,
            "-X",
            "dev",
            *(word.replace("FOLDER", str(tmp_path)) for word in program.words),
        ],
        cwd=REPOSITORY,
        env=marked.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            if program.signal is not None:
                wait_until(
                    lambda: len(marked.left_behind()) > 1, "another process to be started", 60
                )
                process.send_signal(program.signal)
            _, errors = process.communicate(timeout=120)
        finally:
            process.kill()
    assert process.returncode == program.status, errors
    assert "Warning" not in errors
