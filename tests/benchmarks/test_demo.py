"""`python3 -m benchmarks demo`: side by side, the same on every run, and nothing left behind."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks import demo
from harness.launcher import REPOSITORY, VERSIONS
from tests.processes import Marked

COMMAND = [sys.executable, "-m", "benchmarks", "demo"]


def run_demo(marked: Marked, folder: Path = REPOSITORY, **variables: str) -> tuple[int, str, str]:
    environment = {**marked.environment, "COLUMNS": "110", "PYTHONUTF8": "1", **variables}
    done = subprocess.run(
        COMMAND, cwd=folder, env=environment, capture_output=True, timeout=30, encoding="utf-8"
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def played() -> str:
    """What the demo prints, 110 columns wide."""
    marked = Marked()
    status, output, errors = run_demo(marked)
    assert (status, errors) == (0, "")
    assert marked.left_behind() == []
    return output


def test_four_columns_that_are_the_same_on_every_run(played: str) -> None:
    assert played.splitlines()[0].split() == " │ ".join(VERSIONS).split()
    assert max(map(len, played.splitlines())) <= 110
    assert "\x1b" not in played
    assert run_demo(Marked())[1] == played


def test_what_differs_is_said_and_seen(played: str) -> None:
    lines = played.splitlines()
    (heading,) = [n for n, line in enumerate(lines) if 'alice sends "hello everyone"' in line]
    assert lines[heading].endswith("differs")
    echoing, _, chatting, _ = lines[heading + 1].split(" │ ")
    assert echoing.startswith("alice ◂ alice: hello")
    assert chatting.startswith("bob   ◂ alice: hello")
    (listed,) = [line for line in lines if 'sends "/list"' in line]
    assert listed.endswith("same for all")
    assert "Steps 4, 5, 10 - v1_threads and v2_select: only who acts receives" in played


def test_nothing_is_lost_where_little_fits() -> None:
    transcripts = {version: demo_transcript(version) for version in VERSIONS}
    received = [text for seen in transcripts["v3_broadcast"] for _, text in seen]
    abreast = {40: 1, 60: 2, 80: 2, 100: 4, 249: 4}
    for columns in range(30, 250):
        lines = demo.render(transcripts, columns, colour=False, plain=True).splitlines()
        assert max(map(len, lines)) <= min(columns, demo.MAX_WIDTH)
        if columns in abreast:
            titles = next(line for line in lines if line.startswith("v1_threads"))
            assert titles.split() == " | ".join(VERSIONS[: abreast[columns]]).split()
        # A version that stands alone can be read off whole, wrapped words put together.
        alone = demo.render({"v3_broadcast": transcripts["v3_broadcast"]}, columns, False, True)
        letters = "".join(alone.split())
        assert [text for text in received if "".join(text.split()) not in letters] == []


def demo_transcript(version: str) -> list[demo.Seen]:
    """What such a version might have answered: in each step one long line and a short one."""
    long_line = f"* {version}: enter your name, please, and do take your time"
    return [(("alice", long_line), ("carol", "* bye")) for _ in demo.SCRIPT]


def test_a_narrow_terminal_without_unicode_gets_ascii() -> None:
    variables = {"COLUMNS": "60", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    status, output, _ = run_demo(Marked(), **variables)
    assert status == 0
    assert output.isascii()
    assert "alice < * hello alice" in output
    assert max(map(len, output.splitlines())) <= 60


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A folder with all that the demo consists of, but without servers."""
    for package in ("benchmarks", "harness"):
        shutil.copytree(REPOSITORY / package, tmp_path / package)
    return tmp_path


def test_a_server_that_is_not_there_is_one_line(copied: Path) -> None:
    marked = Marked()
    for version in VERSIONS[:2]:
        shutil.copytree(REPOSITORY / version, copied / version)
    status, output, errors = run_demo(marked, copied)
    assert (status, output) == (1, "")
    assert errors.startswith("benchmarks: v3_broadcast ended with status 2 before it was listening")
    assert len(errors.splitlines()) == 1
    assert marked.left_behind() == []


@pytest.mark.skipif(os.name == "nt", reason="Windows sends no SIGINT to a child")
@pytest.mark.parametrize(
    ("number", "status", "complaint"),
    [
        (signal.SIGINT, 130, "benchmarks: interrupted\n"),
        (signal.SIGTERM, 130, "benchmarks: interrupted\n"),
        (9, -9, ""),
    ],
    ids=["Ctrl-C", "SIGTERM", "kill -9"],
)
def test_ctrl_c_or_worse_leaves_no_process_and_no_traceback(
    number: int, status: int, complaint: str, copied: Path
) -> None:
    marked = Marked()
    ready = copied / "ready"
    for version in VERSIONS:
        (copied / version).mkdir()
        # A server that lets us know when it runs, and that never answers.
        (copied / version / "server.py").write_text(
            "import socket, time\n"
            "listener = socket.create_server(('127.0.0.1', 0))\n"
            "port = listener.getsockname()[1]\n"
            f"print(f'{version} listening on 127.0.0.1:{{port}}', flush=True)\n"
            f"client = listener.accept(); open({str(ready)!r}, 'w').close()\n"
            "time.sleep(60)\n"
        )
    with subprocess.Popen(
        COMMAND, cwd=copied, env=marked.environment, stderr=subprocess.PIPE, text=True
    ) as process:
        deadline = time.monotonic() + 20
        # Once this file exists, the demo is connected and waits for the greeting.
        while not ready.exists():
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(number)
        assert process.wait(timeout=10) == status
        assert process.stderr.read() == complaint
    deadline = time.monotonic() + 10
    # A demo that is killed cannot wait for the end of its servers.
    while marked.left_behind():
        assert time.monotonic() < deadline, marked.left_behind()
        time.sleep(0.01)
