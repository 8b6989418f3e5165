"""`python3 -m tests.limits`: what it prints, its exit statuses, and the servers it takes."""

import os
import re
import shlex
import signal
import subprocess
import sys

import pytest

from harness.launcher import REPOSITORY
from harness.server_under_test import ServerUnderTest
from harness.waiting import wait_until
from tests.limits.catalogue import LIMITS
from tests.limits.claims import SOMEBODYS, Verdict, examine
from tests.limits.table import WIDTH
from tests.processes import Marked, run_module

# Ends, with last words, when somebody has given a name.
ENDS_AT_THE_FIRST_NAME = """
import socket, sys
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print("mine listening on 127.0.0.1:%s" % sys.argv[1], flush=True)
connection, _ = listener.accept()
connection.sendall(b"* mine: enter your name\\n")
connection.recv(100)
sys.exit("no such thing as a name")
"""


@pytest.fixture
def short_lived(tmp_path):
    """The command line of a server that does not survive its first client."""
    path = tmp_path / "mine.py"
    path.write_text(ENDS_AT_THE_FIRST_NAME)
    return f"{sys.executable} {path} {{port}} {{options}}"


def test_a_run_that_holds():
    """The status is 0, versions that do the same share a row, and a terminal has 80 columns."""
    arguments = ("--only", "reset", "--versions", "v2,v3_broadcast")
    status, output, errors = run_module("tests.limits", *arguments)
    assert (status, errors) == (0, ""), output
    lines = output.splitlines()
    row = "v2 v3       half a line is nobody's line    bob heard 0 lines of theirs      yes"
    assert row in lines
    assert "predictions held." in lines[-1]
    assert [line for line in lines if len(line) > WIDTH] == []


def test_an_own_server_that_does_not_keep_the_protocol(short_lived):
    """One line says so, before anything is tried."""
    arguments = ("--server", short_lived, "--profile", "echo")
    status, output, errors = run_module("tests.limits", *arguments)
    assert (status, output) == (1, "")
    assert re.fullmatch(r"tests\.limits: [^\n]+\n", errors)


def test_a_server_that_does_not_survive(short_lived):
    """What was predicted did not come, and the table tells how the server ended."""
    rows = examine(LIMITS["reset"], ServerUnderTest(SOMEBODYS, "echo", short_lived))
    assert {row.verdict for row in rows} == {Verdict.BROKEN}
    assert "the server ended with status 1: no such thing as a name" in rows[0].did


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--only", "nothing"], "no limit 'nothing'; there are descriptors, select,"),
        (["--versions", "v9"], "no version 'v9'; there are v1_threads,"),
        (["--server", "x {port} {options}"], "--server needs --profile"),
        (["--server", "x {port}", "--profile", "echo"], "needs {options} in it"),
        (["--server", "'x {port} {options}", "--profile", "echo"], "No closing quotation"),
        (["--profile", "echo"], "--profile goes with --server"),
    ],
    ids=["limit", "version", "no-profile", "no-options", "quotes", "no-server"],
)
def test_a_mistake_in_the_options(arguments, words):
    """One line that says what to do, and status 2."""
    status, output, errors = run_module("tests.limits", *arguments)
    assert (status, output) == (2, "")
    assert words in errors and len(errors.splitlines()) == 1, errors


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for one process")
def test_an_interrupt():
    """Ctrl-C in the middle is one line, and leaves no server behind."""
    marked = Marked()
    with subprocess.Popen(
        [sys.executable, "-m", "tests.limits", "--only", "select,buffers"],
        cwd=REPOSITORY,
        env=marked.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            process.stdout.readline()
            wait_until(lambda: len(marked.left_behind()) > 1, "a server to be started")
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=20)
        finally:
            process.kill()
    assert (process.returncode, errors) == (130, "tests.limits: interrupted\n")
    assert marked.left_behind() == []


def test_a_preparation_goes_between_a_wrapper_and_the_server():
    """The limits of the grader stand in front of a server; the server itself is prepared."""
    in_python, in_javascript = (
        ServerUnderTest(SOMEBODYS, "echo", f"python3 wrap.py -- {program} {{port}} {{options}}")
        for program in ("python3 my.py", "node my.js")
    )
    assert in_python.takes_a_preparation and not in_javascript.takes_a_preparation
    command = shlex.split(in_python.command_with(["--verbose"], ["import this"]))
    prepared = ["python3", "-c", "import this", "my.py", "{port}", "--verbose"]
    assert command == ["python3", "wrap.py", "--", *prepared]
