"""What a script of the zoo plays on: one server, its clients, and what is to be seen of both."""

import contextlib
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

try:
    import resource
except ImportError:  # Windows
    resource = None

from harness.launcher import RunningServer, launch
from harness.line_client import Closed, LineClient, NoAnswer
from harness.process_view import ProcessView
from tests.crowd import Crowd, Member

CLIENT_SECONDS = 3.0  # a client waits so long for an answer, and then goes without
NO_PROC = "not seen: this system has no /proc"


class NotHere(Exception):
    """This platform cannot show it: one line that says why."""


@dataclass(frozen=True)
class Row:
    """One step of a script: what is done or looked at, what is seen, and whether that is wrong."""

    step: str
    seen: str = ""
    wrong: bool = False


Script = Callable[["Stage"], Iterator[Row]]


class Stage:
    """One server, with or without the bug. Leaving it as a context manager ends everything."""

    def __init__(self, program: Path, profile: str) -> None:
        self._program = program
        self._profile = profile
        self._everything = contextlib.ExitStack()
        self.server: RunningServer | None = None

    def __enter__(self) -> "Stage":
        return self

    def __exit__(self, *exception: object) -> None:
        # Nothing here is worth a good-bye, and a server that does not stop would take 5 s.
        if self.server is not None:
            self.server.process.kill()
        self._everything.close()

    def start(self, *options: str, behind: Path | None = None, **popen_options) -> None:
        """Start the server; `behind` is a Python program that starts it in its own way."""
        command = [sys.executable, *([str(behind)] if behind else []), str(self._program)]
        command += ["--port", "0", *options]
        server = launch(self._program.parent.name, command, profile=self._profile, **popen_options)
        self.server = self._everything.enter_context(server)

    def connect(self) -> LineClient:
        """A client that has been greeted."""
        client = self._everything.enter_context(LineClient(self.server.address, CLIENT_SECONDS))
        client.read_line()
        return client

    def join(self, name: str, buffer: int | None = None) -> LineClient:
        """A client that is in; for one that does not read its system takes `buffer` bytes."""
        client = self.connect()
        if buffer is not None:
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        client.send_line(name)
        client.read_until(f"* hello {name}")
        client.name = name
        return client

    def join_crowd(self, *names: str) -> tuple[Crowd, list[Member]]:
        """Clients that are all in, and the loop that drives them."""
        crowd = self._everything.enter_context(Crowd(self.server.address, self._profile))
        return crowd, crowd.join(names)

    def process(self) -> ProcessView | None:
        """A look into the server's process, where there is a /proc to look into."""
        return ProcessView(self.server.process.pid) if os.path.isdir("/proc/self/task") else None

    def cpu_time(self, step: str) -> Row:
        """How much of the next half second the server computes; next to nothing is right."""
        process = self.process()
        if process is None:
            return Row(step, NO_PROC)
        before = process.cpu_seconds()
        time.sleep(0.5)
        used = process.cpu_seconds() - before
        # Who spins gets at least a tenth of a core, however much else the machine has to do.
        return Row(step, f"{used:.2f} s", wrong=used > 0.05)

    def state(self, seconds: float = 0.0) -> str:
        """Whether the server runs; it is given so many seconds to end."""
        end = time.monotonic() + seconds
        while self.server.process.poll() is None and time.monotonic() < end:
            time.sleep(0.01)
        status = self.server.process.poll()
        return "runs" if status is None else f"ended with status {status}"

    def log_lines(self) -> int:
        """How many lines the server's log has."""
        return self.server.log_path.read_bytes().count(b"\n")

    def last_words(self) -> str:
        """The last line of the server's log."""
        log = self.server.log_path.read_text(encoding="utf-8", errors="replace")
        return log.strip().rpartition("\n")[2]


def heard(client: LineClient, seconds: float = 0.3) -> list[str]:
    """The lines that come to a client, until for so long none has come, or the end."""
    lines = []
    with contextlib.suppress(Closed, NoAnswer):
        while client.wait_for_data(seconds):
            lines.append(client.read_line())
    return lines


def answer(client: LineClient, line: str) -> str:
    """The first line that a client gets for one it sends, or why there is none."""
    try:
        client.send_line(line)
        return client.read_line()
    except (Closed, ConnectionError):
        return "nothing: closed"
    except NoAnswer:
        return "nothing"


def pump(crowd: Crowd, done: Callable[[], bool], seconds: float) -> None:
    """Let a crowd send and receive until `done()`, but no longer than so many seconds."""
    with contextlib.suppress(TimeoutError):
        crowd.pump(done, "what should be seen", seconds)


def pong(crowd: Crowd, member: Member) -> str:
    """What a member of a crowd gets for a `/ping`."""
    member.outgoing += b"/ping\n"
    pump(crowd, lambda: member.closed or b"* pong\n" in member.incoming, 3)
    if b"* pong\n" in member.incoming:
        return "* pong"
    return "nothing: closed" if member.closed else "nothing"


def who_is_in(client: LineClient) -> str:
    """The names that `/list` tells, once all that was sent before has been processed."""
    client.ping()
    client.ping()
    return client.ask("/list")[-1].partition(": ")[2]


def allow_descriptors(number: int) -> None:
    """Let this process, and what it starts, have so many. Raises NotHere where that cannot be."""
    if resource is None:
        raise NotHere("this system has no limit on descriptors (RLIMIT_NOFILE)")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < number:
        raise NotHere(f"{number} descriptors are needed, and the hard limit is {hard}")
    if soft < number:
        resource.setrlimit(resource.RLIMIT_NOFILE, (number, hard))


def limited_to(number: int) -> Callable[[], None]:
    """For `start(preexec_fn=...)`: a server with so many descriptors. Raises NotHere."""
    if resource is None:
        raise NotHere("this system has no limit on descriptors (RLIMIT_NOFILE)")
    return lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (number, number))
