"""What a script of the zoo plays on: one server, its clients, and what is to be seen of both."""

import contextlib
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from harness import proc
from harness.crowd import Crowd, Member
from harness.launcher import RunningServer
from harness.line_client import Closed, LineClient, NoAnswer
from harness.proc import ProcessView
from harness.server_under_test import ServerUnderTest

# A client waits so long for an answer, and then goes without.
CLIENT_SECONDS = 3.0
NO_PROC = "not seen: this system has no /proc"


@dataclass(frozen=True)
class Row:
    """One step of a script: what is done or looked at, what is seen, and whether that is wrong."""

    step: str
    seen: str = ""
    wrong: bool = False


Script = Callable[["Stage"], Iterator[Row]]


def program_under_test(program: Path, profile: str) -> ServerUnderTest:
    """A Python program that takes the options of our servers; it goes by the name of its folder."""
    command = (sys.executable, str(program), "--port", "0")
    return ServerUnderTest(program.parent.name, profile, command)


class Stage:
    """One server, with or without the bug. Leaving it as a context manager ends everything."""

    server: RunningServer

    def __init__(self, server_under_test: ServerUnderTest) -> None:
        self._server_under_test = server_under_test
        self._everything = contextlib.ExitStack()

    def __enter__(self) -> "Stage":
        return self

    def __exit__(self, *exception: object) -> None:
        self._everything.close()

    @property
    def profile(self) -> str:
        """That of the server: "echo" or "chat"."""
        return self._server_under_test.profile

    def start(self, *options: str, **start_options) -> None:
        """Start the server; see `ServerUnderTest.start` for what else may be said."""
        server = self._server_under_test.start(*options, **start_options)
        self.server = self._everything.enter_context(server)
        # Nothing here is worth a good-bye, and a server that does not stop would take 5 s.
        if server.process:
            self._everything.callback(server.process.kill)

    def connect(self) -> LineClient:
        """A client that has been greeted."""
        client = self._everything.enter_context(LineClient(self.server.address, CLIENT_SECONDS))
        client.read_line()
        return client

    def join(self, name: str, buffer: int | None = None) -> LineClient:
        """A client that is in; for one that does not read, its system takes `buffer` bytes."""
        client = self.connect()
        if buffer is not None:
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        client.send_line(name)
        client.read_until(f"* hello {name}")
        client.name = name
        return client

    def join_crowd(self, *names: str) -> tuple[Crowd, list[Member]]:
        """Clients that are all in, and the loop that drives them."""
        crowd = self._everything.enter_context(Crowd(self.server.address, self.server.profile))
        return crowd, crowd.join(names)

    def process(self) -> ProcessView | None:
        """A look into the server's process, where there is a /proc to look into."""
        return ProcessView(self.server.pid) if proc.CAN_SEE else None

    def cpu_time(self, step: str) -> Row:
        """How much of the next half second the server computes; next to nothing is right."""
        process = self.process()
        if process is None:
            return Row(step, NO_PROC)
        used, waited = process.cpu_and_waiting_in(0.5)
        # On a busy machine, a server that spins may get little CPU time, but waits for more.
        return Row(step, f"{used:.2f} s", wrong=used > 0.05 or waited > 0.25)

    def status(self, seconds: float) -> int | None:
        """The server's exit status; None if it still runs after so many seconds."""
        ending = self.server.ending(seconds)
        return ending.status if ending else None

    def the_server_runs(self, seconds: float = 1.0) -> Row:
        """Whether it still does; a server that ends may take so many seconds for it."""
        status = self.status(seconds)
        return Row("the server", in_words(status), wrong=status is not None)

    def log_lines(self) -> int:
        """How many lines the server's log has."""
        return self.server.log_path.read_bytes().count(b"\n") if self.server.log_path else 0

    def last_of_the_log(self, step: str = "the last line of its log") -> Row:
        """The last line of the server's log."""
        return Row(step, "".join(self.server.last_words()))


def in_words(status: int | None) -> str:
    """An exit status, or that the server runs."""
    return "runs" if status is None else f"ended with status {status}"


def heard(client: LineClient, seconds: float = 0.3) -> list[str]:
    """The lines that reach a client, until none has come for so many seconds, or to the end."""
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


def ping_is_answered(name: str, got: str) -> Row:
    """What a client got for its `/ping`."""
    return Row(f"{name}'s /ping is answered", got, wrong=got != "* pong")


def who_is_in(client: LineClient) -> str:
    """The names that `/list` tells, once all that was sent before has been processed."""
    client.ping()
    client.ping()
    return client.ask("/list")[-1].partition(": ")[2]
