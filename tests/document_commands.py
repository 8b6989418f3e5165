"""The commands of a document: found in it, run as they stand, and compared with what it shows.

    ```console
    $ printf 'alice\\n/quit\\n' | nc -N 127.0.0.1 8001
    * v1_threads: enter your name
    …
    ```

A line of output that is `…` stands for any lines or none, a `…` in a line for any text. A command
without output below it only has to succeed. A server is started where it is first named, on its own
port, and serves all the commands below it, until the document starts another one on that port.
In a command the word PID stands for the process of the server that was started last.
"""

import contextlib
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
from dataclasses import dataclass
from pathlib import Path

from harness.launcher import REPOSITORY

SECONDS = 60  # after which a command hangs
BLOCK = re.compile(r"^( *)```console\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
SERVER = re.compile(r"(?P<before>[^|&]*?)python3( -X \w+)* v(?P<number>\d)_\w+/server\.py[^|&;]*")
# Commands that take minutes, or write into the repository, and the tests that run them.
TESTED_ELSEWHERE = {
    r"python3 -m benchmarks\b(?!.* --smoke| demo)": "tests/test_benchmarks_commands.py",
    r"python3 -m tests\.grade\b": "tests/test_grade.py",
    r"python3 -m tests\.zoo matrix\b": "tests/test_zoo.py",
    r"python3 -m tests\.limits\b(?!.*--only)": "tests/test_limits_lab.py",
}
# What is for a person at a keyboard: it gets the lines of one who leaves at once.
INTERACTIVE = re.compile(r"python3 client\.py [^|&;<>]*|nc (?!.*-\w*l)[^|&;<>]*")
# What needs nothing of the commands before it.
INDEPENDENT = re.compile(
    r"diff |make |python3 -m |\.venv/bin/python -m |python3 (v\d_\w+/experiments|what_comes_next)/"
)
# Words of a shell, and commands that run the command behind them.
SHELL_WORDS = frozenset(
    (
        *(
            "cd",
            "echo",
            "printf",
            "read",
            "ulimit",
            "wait",
            "kill",
            "exit",
            "export",
            "set",
            "trap",
        ),
        *("true", "false", "test", "[", ":", "for", "in", "case", "esac", "done", "fi", "}"),
    )
)
PREFIXES = frozenset(
    ("do", "then", "else", "{", "!", "while", "until", "if", "time", "env", "exec", "nohup")
)
PYTEST = re.compile(r"(\.venv/bin/python|python3) -m pytest\b")
DRY = ("make test", "make compare")


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
    found: list[Step] = []
    for _, block in BLOCK.findall(text):
        lines = textwrap.dedent(block).splitlines()
        if not lines or not lines[0].startswith("$ "):
            raise Unlike(f"a ```console block must begin with `$ `: {lines[:1]}")
        for line in lines:
            if line.startswith("$ "):
                found.append(Step(line[2:], ()))
            else:
                found[-1] = Step(found[-1].command, (*found[-1].shown, line))
    return found


def is_server(command: str) -> bool:
    """Whether a command is one of the four servers, to be left running."""
    return SERVER.fullmatch(command) is not None


def tested_elsewhere(command: str) -> str | None:
    """The test file that has a command which is not run here."""
    for pattern, where in TESTED_ELSEWHERE.items():
        if re.match(pattern, command):
            return where
    return None


def how_to_run(command: str, folder: Path) -> str:
    """What to run for a command: the same, but for what would take long, or wait for a person.

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


def programs_in(command: str) -> list[str]:
    """The first word of each command of a command line, but for the shell's own."""
    words = shlex.shlex(command, posix=True, punctuation_chars="();<>|&\n")
    words.whitespace_split = True
    found, at_the_start, skip = [], True, False
    for word in words:
        if set(word) <= set("();<>|&\n"):
            at_the_start = not set(word) <= set("<>")
        elif skip:
            skip = False
        elif at_the_start and word == "timeout":
            found.append(word)
            skip = True
        elif at_the_start and word not in PREFIXES and not re.match(r"\w+=", word):
            at_the_start = False
            if word not in SHELL_WORDS:
                found.append(word)
    return found


def missing_program(command: str) -> str | None:
    """The first program of a command that is not there."""
    for program in programs_in(command):
        if program in ("python3", ".venv/bin/python"):
            continue
        if shutil.which(program) is None and not (REPOSITORY / program).is_file():
            return program
    return "nc -N" if "nc -N" in command and not _nc_ends_with_its_input() else None


def _nc_ends_with_its_input() -> bool:
    """Whether this nc knows -N; that of Debian does, that of BusyBox does not."""
    told = subprocess.run(["nc", "-h"], stdin=subprocess.DEVNULL, capture_output=True, timeout=10)
    return re.search(rb"^\s*-N\b|\[-[^]]*N", told.stdout + told.stderr, re.MULTILINE) is not None


def assert_output(step: Step, output: str) -> None:
    """Raises Unlike where the output is not what is shown, from the first line that differs."""
    if not step.shown:
        return
    came = "".join(f"{line.rstrip()}\n" for line in output.splitlines())
    pattern = ""
    for shown in step.shown:
        pattern += r"(?:.*\n)*?" if shown.strip() == "…" else f"{_pattern_of(shown)}\n"
        if not re.match(pattern, came):
            raise Unlike(f"{step.command}: {shown!r} is shown, and did not come:\n{came}")
    if not re.fullmatch(pattern, came):
        raise Unlike(f"{step.command}: more came than is shown:\n{came}")


def _pattern_of(shown: str) -> str:
    return re.escape(shown.rstrip()).replace("…", ".*")


class Servers:
    """The servers that a document has started, by port; each is stopped with one Ctrl-C."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.last: subprocess.Popen | None = None
        self._running: dict[int, tuple[Step, subprocess.Popen, Path]] = {}

    def __enter__(self) -> "Servers":
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        try:
            with contextlib.ExitStack() as stack:
                for port in list(self._running):
                    stack.callback(self._stop, port)
        except Unlike:
            # What has gone wrong first is what a person has to know.
            if error is None:
                raise

    def start(self, step: Step) -> None:
        """Start a server, or go on with it when it is running as it is asked for."""
        port = port_of(step.command)
        if port in self._running and self._running[port][0] == step:
            self.last = self._running[port][1]
            return
        if port in self._running:
            self._stop(port)
        _assert_free(port)
        log = self.folder / f"{port}.log"
        # The shell becomes the server, so that the process we know is that which gets Ctrl-C.
        line = re.sub(
            r"((?:\w+=\S+ )*)python3\b",
            lambda found: f"exec env {found[1]}{shlex.quote(sys.executable)}",
            step.command,
            count=1,
        )
        with log.open("w") as log_file:
            process = subprocess.Popen(
                line,
                shell=True,
                cwd=REPOSITORY,
                stdout=subprocess.PIPE,
                stderr=log_file,
                text=True,
            )
        self._running[port] = step, process, log
        self.last = process
        first = process.stdout.readline().rstrip("\n")
        if step.shown and not re.fullmatch(_pattern_of(step.shown[0]), first):
            raise Unlike(f"{step.command}: {step.shown[0]!r} is shown, and came as {first!r}")

    def _stop(self, port: int) -> None:
        step, process, log = self._running.pop(port)
        with process.stdout:
            process.send_signal(signal.SIGINT)
            try:
                status = process.wait(SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                status = process.wait()
        if status != 0:
            raise Unlike(f"{step.command}: it ended with {status} at Ctrl-C, not with 0")
        logged = log.read_text()
        for line in step.shown[1:]:
            if not re.search(f"^{_pattern_of(line)}$", logged, re.MULTILINE):
                raise Unlike(f"{step.command}: {line!r} is shown, and not in its log:\n{logged}")


def port_of(command: str) -> int:
    """The port of a server's command."""
    asked = re.search(r"--port[ =](\d+)", command)
    return int(asked[1]) if asked else 8000 + int(SERVER.fullmatch(command)["number"])


def _assert_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            text = f"port {port} is taken: stop what listens there to have this tested"
            raise CannotTry(text) from None


def run(step: Step, folder: Path, pid: int | None = None) -> str | None:
    """Run one command. Returns None, or why it was not run. Raises Unlike.

    Commands are those of a POSIX shell.
    """
    program = missing_program(step.command)
    if program is not None:
        return f"{program} is not installed"
    line = how_to_run(step.command, folder)
    if pid is not None:
        line = re.sub(r"\bPID\b", str(pid), line)
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
            status = process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            raise Unlike(f"{step.command}: did not end within {SECONDS} seconds") from None
        finally:
            # Nothing that it has left in the background stays, either.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        output.seek(0)
        text = output.read()
    if "strace" in line and "Operation not permitted" in text:
        return "strace may not watch other processes"
    if status not in _good_ends(step.command):
        raise Unlike(f"{step.command}: ended with {status}: {text[-2000:]}")
    if not (
        step.command in DRY or PYTEST.match(step.command) or INTERACTIVE.fullmatch(step.command)
    ):
        assert_output(step, text)
    return None


def _good_ends(command: str) -> tuple[int, ...]:
    """The exit statuses that are no failure: diff has found a difference, timeout was the end."""
    if re.match(r"diff\b[^|]*$", command):
        return (1,)
    return (0, 124) if "timeout" in programs_in(command) else (0,)


class Rehearsal:
    """Runs the commands of several documents at the same time, each document's in its order.

    Commands that need nothing that came before them are run when there is time for them, once for
    all documents. Documents that start servers on the same port wait for each other.
    """

    def __init__(self, documents: list[Path], folder: Path, workers: int = 4) -> None:
        self.folder = folder
        self._ports: dict[int, threading.Lock] = defaultdict(threading.Lock)
        self._pool = ThreadPoolExecutor(workers)
        self._futures: dict[Path, list[Future]] = {}
        of_its_own: dict[Step, Future] = {}
        steps = {document: steps_to_run(document) for document in documents}
        for document in documents:
            ordered = [step for step in steps[document] if not INDEPENDENT.match(step.command)]
            self._futures[document] = [self._pool.submit(self._play, ordered)]
        for document in documents:
            for step in steps[document]:
                if INDEPENDENT.match(step.command):
                    if step not in of_its_own:
                        of_its_own[step] = self._pool.submit(self._run, step)
                    self._futures[document].append(of_its_own[step])

    def __enter__(self) -> "Rehearsal":
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def outcome(self, document: Path) -> list[str]:
        """What was not run, and why: a line each. Raises Unlike or CannotTry."""
        return [line for future in self._futures[document] for line in future.result()]

    def _run(self, step: Step, pid: int | None = None) -> list[str]:
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            why_not = run(step, Path(folder), pid)
        return [f"{why_not}: {step.command}"] if why_not else []

    def _play(self, steps: list[Step]) -> list[str]:
        ports = {port_of(step.command) for step in steps if is_server(step.command)}
        with contextlib.ExitStack() as stack:
            for port in sorted(ports):
                stack.enter_context(self._ports[port])
            folder = stack.enter_context(tempfile.TemporaryDirectory(dir=self.folder))
            servers = stack.enter_context(Servers(Path(folder)))
            not_run = []
            for step in steps:
                if is_server(step.command):
                    servers.start(step)
                else:
                    not_run += self._run(step, servers.last and servers.last.pid)
            return not_run


def steps_to_run(document: Path) -> list[Step]:
    """The commands of a document but for those that another test has. Raises Unlike."""
    steps = []
    for step in steps_in(document.read_text(encoding="utf-8")):
        where = tested_elsewhere(step.command)
        if where is None:
            steps.append(step)
        elif not (REPOSITORY / where).is_file():
            raise Unlike(f"{step.command}: is tested in {where}, and that is not there")
    return steps
