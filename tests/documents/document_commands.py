"""The commands of a document, run as they stand and compared with the output that it shows.

    ```console
    $ printf 'alice\\n/quit\\n' | nc -N 127.0.0.1 8001
    * v1_threads: enter your name
    …
    ```

A line of output that is `…` stands for any lines or none, a `…` in a line for any text. A command
without output below it only has to succeed. A server is started where it is first named, on its own
port, and serves all the commands below it, until the document starts another one on that port. So
is a small.py, and a step of a chapter (grow/). What a reader writes into mine/v1.py ends as
v1_threads/small.py, so that one runs in its place. In a command the word PID stands for the process
of the server that was started last.
"""

import contextlib
import functools
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading
from collections import defaultdict
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from harness.launcher import REPOSITORY, VERSIONS

# A command that runs for longer than these seconds hangs.
TIME_LIMIT = 60
BLOCK = re.compile(r"^( *)```console\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
SERVER = re.compile(
    r"[^|&]*?python3( -X \w+)* v(?P<number>\d)_\w+/(?P<file>server|small|grow/\w+)\.py[^|&;]*"
)
# What a reader has written by the end of a chapter's first part.
MINE = re.compile(r"\bmine/(?P<version>v\d)\.py\b")
# Commands that take minutes, or write into the repository, and the tests that run them.
TESTED_ELSEWHERE = {
    r"python3 -m benchmarks\b(?!.* --smoke| demo)": "tests/benchmarks/test_commands.py",
    r"python3 -m tests\.grade\b": "tests/tools/test_grade.py",
    r"python3 -m tests\.zoo (matrix|copy|check)\b": "tests/tools/test_zoo.py",
    r"\.venv/bin/python -m tests\.small check\b": "tests/tools/test_small.py",
    r"python3 -m tests\.limits\b(?!.*--only)": "tests/suite/test_limits_lab.py",
}
# These wait for a person at a keyboard. They get the lines of one who leaves at once.
INTERACTIVE = re.compile(r"python3 client\.py [^|&;<>]*|nc (?!.*-\w*l)[^|&;<>]*")
# These need nothing of the commands before them.
INDEPENDENT = re.compile(
    r"diff |make |python3 -m |\.venv/bin/python -m |python3 (v\d_\w+/experiments|what_comes_next)/"
)
PYTEST = re.compile(r"(\.venv/bin/python|python3) -m pytest\b")
# These are only asked what they would do.
DRY = ("make test", "make compare", "make timeline")
# Programs that a system may lack.
PROGRAM = re.compile(r"\b(?:diff|grep|make|nc|ps|ss|strace|timeout)\b(?! *=)")


class Unlike(AssertionError):
    """A command did not do what the document shows: which one, and what it did."""


class CannotTry(Exception):
    """The document's commands cannot be tried here: one line that says why."""


@dataclass(frozen=True)
class Step:
    """A command, and the lines that are shown below it."""

    command: str
    shown: tuple[str, ...]


def steps_in(text: str) -> list[Step]:
    """The commands of all ```console blocks of a document. Raises Unlike: a block begins oddly."""
    steps = []
    for _, block in BLOCK.findall(text):
        begin, *parts = re.split(r"^\$ ", textwrap.dedent(block), flags=re.MULTILINE)
        if begin or not parts:
            raise Unlike(f"a ```console block must begin with `$ `: {begin}")
        for part in parts:
            command, *shown = part.splitlines()
            steps.append(Step(command, tuple(shown)))
    return steps


def steps_to_run(document: Path) -> list[Step]:
    """The commands of a document, except those that another test runs. Raises Unlike."""
    steps = []
    for step in steps_in(document.read_text(encoding="utf-8")):
        path = tested_elsewhere(step.command)
        if path is None:
            steps.append(replace(step, command=with_small_for_mine(step.command)))
        elif not (REPOSITORY / path).is_file():
            raise Unlike(f"{step.command}: is tested in {path}, and that is not there")
    return steps


def tested_elsewhere(command: str) -> str | None:
    paths = (path for pattern, path in TESTED_ELSEWHERE.items() if re.match(pattern, command))
    return next(paths, None)


def how_to_run(command: str, folder: Path) -> str:
    """The command itself, or what stands for one that would take long or wait for a person.

    `folder` takes what would be written into the repository.
    """
    if command in DRY:
        return f"make -n {command.split()[1]}"
    if INTERACTIVE.fullmatch(command):
        name = "" if " --name " in command else "somebody\\n"
        command = f"printf '{name}/quit\\n' | {command}"
    if "python3 -m benchmarks" in command and "--smoke" in command:
        command += f" --out {shlex.quote(str(folder))}"
    if PYTEST.match(command):
        command += " --collect-only -q"
    python = shlex.quote(sys.executable)
    return re.sub(r"(?<![\w/.])(\.venv/bin/python|python3)(?![\w.])", lambda _: python, command)


def with_small_for_mine(command: str) -> str:
    """A command in which the small.py of its version stands for what a reader has written."""

    def small(mine: re.Match[str]) -> str:
        (version,) = (name for name in VERSIONS if name.startswith(mine["version"]))
        return f"{version}/small.py"

    return MINE.sub(small, command)


def missing_program(command: str) -> str | None:
    for program in PROGRAM.findall(command):
        if shutil.which(program) is None:
            return program
    return "nc -N" if "nc -N" in command and not _nc_ends_with_its_input() else None


def _nc_ends_with_its_input() -> bool:
    """Whether this nc knows -N; Debian's does, and BusyBox's does not."""
    usage = subprocess.run(["nc", "-h"], stdin=subprocess.DEVNULL, capture_output=True, timeout=10)
    text = usage.stdout + usage.stderr
    return re.search(rb"^\s*-N\b|\[-[^]]*N", text, re.MULTILINE) is not None


def assert_output(step: Step, output: str) -> None:
    """Raises Unlike where the output is not what is shown, from the first line that differs."""
    if not step.shown:
        return
    printed = "".join(f"{line.rstrip()}\n" for line in output.splitlines())
    pattern = ""
    for line in step.shown:
        pattern += r"(?:.*\n)*?" if line.strip() == "…" else f"{_pattern_of(line)}\n"
        if not re.match(pattern, printed):
            raise Unlike(f"{step.command}: {line!r} is shown, and did not come:\n{printed}")
    if not re.fullmatch(pattern, printed):
        raise Unlike(f"{step.command}: more came than is shown:\n{printed}")


def _pattern_of(line: str) -> str:
    return re.escape(line.rstrip()).replace("…", ".*")


def run(step: Step, folder: Path, server_pid: int | None = None) -> str | None:
    """Run one command. Returns None, or the reason why it was not run. Raises Unlike."""
    if program := missing_program(step.command):
        return f"{program} is not installed"
    line = re.sub(r"\bPID\b", str(server_pid), how_to_run(step.command, folder))
    status, output = _run_in_a_shell(line, step.command)
    if "strace" in line and "Operation not permitted" in output:
        return "strace may not watch other processes"
    # diff finds a difference, and timeout ends a command.
    good_ends = (1,) if re.match(r"diff\b[^|]*$", step.command) else (0,)
    if status not in good_ends and not ("timeout " in step.command and status == 124):
        raise Unlike(f"{step.command}: ended with {status}: {output[-2000:]}")
    is_replaced = step.command in DRY or PYTEST.match(step.command)
    if not is_replaced and not INTERACTIVE.fullmatch(step.command):
        assert_output(step, output)
    return None


def _run_in_a_shell(line: str, command: str) -> tuple[int, str]:
    """The exit status of a command line, and what it printed. Raises Unlike: `command` hangs."""
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output:
        process = subprocess.Popen(
            line,
            shell=True,
            cwd=REPOSITORY,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            status = process.wait(TIME_LIMIT)
        except subprocess.TimeoutExpired:
            raise Unlike(f"{command}: did not end within {TIME_LIMIT} seconds") from None
        finally:
            # End what it has left in the background, too.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        output.seek(0)
        return status, output.read()


class Server:
    """A server that a document has started. Raises Unlike if it does not begin as is shown."""

    def __init__(self, step: Step, log: Path) -> None:
        self.step = step
        self.log = log
        # The shell becomes the server, so the process that gets Ctrl-C is the one we know.
        line = re.sub(
            r"((?:\w+=\S+ )*)python3\b",
            lambda start: f"exec env {start[1]}{shlex.quote(sys.executable)}",
            step.command,
            count=1,
        )
        with log.open("w") as log_file:
            self.process = subprocess.Popen(
                line,
                shell=True,
                cwd=REPOSITORY,
                stdout=subprocess.PIPE,
                stderr=log_file,
                text=True,
            )
        first = self.process.stdout.readline().rstrip("\n")
        if step.shown and not re.fullmatch(_pattern_of(step.shown[0]), first):
            self.__exit__()
            raise Unlike(f"{step.command}: {step.shown[0]!r} is shown, and came as {first!r}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self.process:
            self.process.kill()

    def stop(self) -> None:
        """Stop it with one Ctrl-C, and compare its log. Raises Unlike."""
        self.process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(TIME_LIMIT)
        # Neither a small.py nor a step on the way to it has an orderly end.
        is_whole = SERVER.fullmatch(self.step.command)["file"] == "server"
        if (status := self.process.poll()) != 0 and is_whole:
            raise Unlike(f"{self.step.command}: it ended with {status} at Ctrl-C, not with 0")
        log = self.log.read_text()
        for line in self.step.shown[1:]:
            if not re.search(f"^{_pattern_of(line)}$", log, re.MULTILINE):
                raise Unlike(f"{self.step.command}: {line!r} is shown, and not in its log:\n{log}")


def port_of(command: str) -> int | None:
    """The port of a command that starts a server, which is to be left running."""
    server = SERVER.fullmatch(command)
    option = re.search(r"--port[ =](\d+)", command)
    return server and int(option[1] if option else 8000 + int(server["number"]))


def _assert_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            text = f"port {port} is taken: stop what listens there to have this tested"
            raise CannotTry(text) from None


class Rehearsal:
    """Runs the commands of several documents at the same time, each document's in its order.

    Commands that need nothing of the commands before them run when there is time for them, once
    for all documents. Documents that start servers on the same port wait for each other.
    """

    def __init__(self, documents: list[Path], folder: Path) -> None:
        self.folder = folder
        self._ports: dict[int, threading.Lock] = defaultdict(threading.Lock)
        self._pool = ThreadPoolExecutor(4)
        steps = {document: steps_to_run(document) for document in documents}
        self._futures: dict[Path, list[Future]] = {}
        for document in documents:
            ordered = [step for step in steps[document] if not INDEPENDENT.match(step.command)]
            self._futures[document] = [self._pool.submit(self._play, ordered)]
        run_once = functools.cache(lambda step: self._pool.submit(self._run, step))
        for document in documents:
            independent = [step for step in steps[document] if INDEPENDENT.match(step.command)]
            self._futures[document] += map(run_once, independent)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def outcome(self, document: Path) -> list[str]:
        """What was not run, and why: a line each. Raises Unlike or CannotTry."""
        return [line for future in self._futures[document] for line in future.result()]

    def _run(self, step: Step, server_pid: int | None = None) -> list[str]:
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            reason = run(step, Path(folder), server_pid)
        return [f"{reason}: {step.command}"] if reason else []

    def _play(self, steps: list[Step]) -> list[str]:
        not_run = []
        servers: dict[int, Server] = {}
        last_pid = None
        with contextlib.ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=self.folder)))
            for port in sorted({port_of(step.command) for step in steps} - {None}):
                stack.enter_context(self._ports[port])
            for step in steps:
                port = port_of(step.command)
                if port is None:
                    not_run += self._run(step, last_pid)
                    continue
                if port in servers and servers[port].step != step:
                    servers.pop(port).stop()
                if port not in servers:
                    _assert_free(port)
                    servers[port] = stack.enter_context(Server(step, folder / f"{port}.log"))
                last_pid = servers[port].process.pid
            for server in servers.values():
                server.stop()
        return not_run
