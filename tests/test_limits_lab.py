"""L2, L3, L6 and the log at the end of what a system has: what `python3 -m tests.limits` predicts.

Each test is one limit for one server; what is taken from the server and how, what is predicted and
why stands in tests/limits/.
"""

import os
import shlex
import signal
import subprocess
import sys

import pytest

from harness.launcher import REPOSITORY
from harness.waiting import wait_until
from tests.limits import LIMITS
from tests.limits.claims import BROKEN, UNSEEN, examine
from tests.limits.subject import Subject
from tests.limits.table import WIDTH
from tests.processes import Marked

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


def check(target, name):
    """Bring the server to that limit; all that is predicted for it has to come."""
    if not target.keeps_launch_contract:
        pytest.skip(
            "this test starts the server with options, and --server has no {options}: let your "
            "server take them, and write --server 'CMD --port {port} {options}'"
        )
    rows = examine(LIMITS[name], Subject(target.name, target.profile, target.template))
    broken = [row for row in rows if row.verdict == BROKEN]
    if broken:
        all_of_them = "\n".join(f"predicted: {row.predicted}; did: {row.did}" for row in broken)
        assert broken[0].did == broken[0].predicted, f"{LIMITS[name].title}; {all_of_them}"
    if all(row.verdict == UNSEEN for row in rows):
        pytest.skip(rows[0].did)


def test_out_of_descriptors(target):
    """L2, C6: no death, no spinning, no flood in the log; those in are served; places come back."""
    check(target, "descriptors")


def test_descriptors_beyond_fd_setsize(target):
    """L2: select() cannot watch them, so v2 and v3 refuse them; v1 and v4 serve them."""
    check(target, "select")


def test_out_of_threads(target):
    """L2, C6: v1 turns newcomers away and loses no place; the others do not notice; all work."""
    check(target, "threads")


def test_resets_in_mid_line(target):
    """L6, L7, F3, D3, H5: each ends its own connection, is told of once, and leaves nothing."""
    check(target, "reset")


def test_small_socket_buffers(target):
    """L3, F5: of a stuck reader little is taken; who reads on gets all, who does not is dropped."""
    check(target, "buffers")


def test_no_room_for_the_log(target):
    """Launch contract, C6: the log is lost, nothing else; it goes on when there is room again."""
    check(target, "disk")


# ---- the command itself ----


def run_command(*arguments, **popen_options):
    """`python3 -m tests.limits ...`, to its end; returns (exit status, output, errors)."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.limits", *arguments],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
        **popen_options,
    )
    return done.returncode, done.stdout, done.stderr


def own_server(tmp_path, program):
    """The options for a server of somebody's own."""
    path = tmp_path / "mine.py"
    path.write_text(program)
    return "--server", f"{sys.executable} {path} {{port}} {{options}}", "--profile", "echo"


def test_a_run_that_holds():
    """The status is 0, versions that do the same share a row, and a terminal has 80 columns."""
    status, output, errors = run_command("--only", "reset", "--versions", "v2,v3_broadcast")
    assert (status, errors) == (0, ""), f"status {status}, {errors!r}, {output}"
    lines = output.splitlines()
    assert (
        "v2 v3       half a line is nobody's line    bob heard 0 lines of theirs      yes" in lines
    )
    assert "predictions held." in lines[-1]
    too_long = [line for line in lines if len(line) > WIDTH]
    assert not too_long, f"lines of more than {WIDTH} columns: {too_long}"


def test_an_own_server_that_does_not_keep_the_protocol(tmp_path):
    """It is told so in one line, before anything is tried."""
    status, output, errors = run_command(*own_server(tmp_path, ENDS_AT_THE_FIRST_NAME))
    assert (status, output) == (1, "")
    assert len(errors.splitlines()) == 1, errors
    assert errors.startswith("tests.limits: "), errors


def test_a_server_that_does_not_survive(tmp_path):
    """What was predicted did not come, and the table tells how the server ended."""
    path = tmp_path / "mine.py"
    path.write_text(ENDS_AT_THE_FIRST_NAME)
    subject = Subject("server", "echo", f"{sys.executable} {path} {{port}} {{options}}")
    rows = examine(LIMITS["reset"], subject)
    assert {row.verdict for row in rows} == {BROKEN}
    assert "the server ended with status 1: no such thing as a name" in rows[0].did


@pytest.mark.parametrize(
    ("arguments", "said"),
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
def test_a_mistake_in_the_options(arguments, said):
    """One line that says what to do, and status 2."""
    status, output, errors = run_command(*arguments)
    assert (status, output) == (2, "")
    assert said in errors and len(errors.splitlines()) == 1, errors


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
    subject = Subject("server", "echo", "python3 wrap.py -- python3 my.py {port} {options}")
    assert subject.takes_a_preparation
    command = shlex.split(subject.command(["--verbose"], ["import this"]))
    server = ["python3", "-c", "import this", "my.py", "{port}", "--verbose"]
    assert command == ["python3", "wrap.py", "--", *server]
    assert not Subject("server", "echo", "wrap -- node my.js {port} {options}").takes_a_preparation
