"""`--server`: the suite itself, run by pytest against somebody else's server.

The somebody else is one of our servers in disguise, started by a command line or found at an
address; and once under a false flag, for a suite that never goes red proves nothing.
"""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from harness.launcher import REPOSITORY, launch, server_command

SERVER = REPOSITORY / "v4_asyncio" / "server.py"
A_FEW_TESTS = ["test_delivery.py", "-k", "test_echo or test_chat or test_left_once_after_an_idle"]


def run_suite(*options, tests=A_FEW_TESTS):
    """Run some of the suite in a process of its own; returns the CompletedProcess."""
    here = Path(__file__).parent
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "-rfs", *options]
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # plugins are slow to load
    return subprocess.run(
        [*command, *tests], cwd=here, env=environment, capture_output=True, text=True, timeout=60
    )


def summary(done):
    """The last line of pytest's output without its time: '1 passed, 2 deselected'."""
    return done.stdout.strip().splitlines()[-1].partition(" in ")[0].strip("= ")


def command_line(*command):
    return shlex.join([sys.executable, *command])


def test_a_command():
    """The tests of the other profile are deselected; what needs our options says why it cannot."""
    done = run_suite("--server", f"{command_line(str(SERVER))} --port {{port}}", "--profile=chat")
    assert summary(done).startswith("1 passed, 1 skipped, ")
    assert "--server has no {options}" in done.stdout


def test_a_command_that_takes_our_options():
    """With {options} nothing has to be skipped."""
    command = f"{command_line(str(SERVER))} --port {{port}} {{options}}"
    done = run_suite("--server", command, "--profile=chat")
    assert summary(done).startswith("2 passed, ")
    assert "skipped" not in summary(done)


def test_an_address():
    """A server that is already running, by HOST:PORT."""
    with launch("v2_select", server_command("v2_select"), profile="echo") as server:
        done = run_suite("--server", f"127.0.0.1:{server.port}", "--profile=echo")
        assert server.process.poll() is None
    assert summary(done).startswith("1 passed, ")


def test_a_server_of_the_other_profile():
    """A chat room that is said to be an echo server is found out, by the short check and by a test.

    That ends the run, unless one wants to know more.
    """
    server = f"{command_line(str(SERVER))} --port {{port}}"
    done = run_suite("--server", server, "--profile=echo")
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    assert "server does not keep rule D1: (echo) A line of text from alice comes" in done.stdout
    assert "FAILED" not in done.stdout
    done = run_suite("--server", server, "--profile=echo", "--keep-going")
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    assert "FAILED test_delivery.py::test_echo[server]" in done.stdout
    assert "server: D1 is broken; begin with D1." in done.stdout


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--server", "127.0.0.1:8001"], "--profile"),
        (["--profile", "chat"], "--server"),
        (["--server", "python3 mine.py", "--profile", "chat"], "{port}"),
    ],
)
def test_options_that_make_no_sense(options, said):
    """One line on standard error, and pytest's status for a usage error."""
    done = run_suite(*options)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    (line,) = [line for line in done.stderr.splitlines() if line.strip()]
    assert said in line
