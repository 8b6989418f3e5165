"""The clients that tests are given: one or several, a crowd, a pair that looks at bytes."""

import contextlib
from collections.abc import Callable, Iterator

import pytest

from harness.answers import IDLE_TIMEOUT
from harness.crowd import Crowd
from harness.launcher import RunningServer
from harness.line_client import LineClient
from harness.waiting import wait_until
from tests.suite.conversation import Conversation
from tests.suite.suite_run import SuiteRun


@pytest.fixture
def connect(run: SuiteRun) -> Iterator[Callable[..., LineClient]]:
    """`connect(server)`: a client that has neither read nor sent anything; closed at the end."""
    with contextlib.ExitStack() as stack:
        yield lambda running: stack.enter_context(LineClient(running.address, session=run.session))


@pytest.fixture
def join(connect: Callable[..., LineClient]) -> Callable:
    """`join(server, "alice")`: a client who is in; a list for several names. Nothing is unread."""

    def let_in(running: RunningServer, *names: str) -> LineClient | list[LineClient]:
        clients = []
        for name in names:
            clients.append(connect(running))
            clients[-1].join(name)
        # After the first round all are in; after the second each has heard of the others.
        for _ in range(2 if len(names) > 1 else 0):
            for client in clients:
                client.ping()
        return clients if len(names) > 1 else clients[0]

    return let_in


@pytest.fixture
def join_eventually(connect: Callable[..., LineClient], run: SuiteRun) -> Callable:
    """Like `join` with one name, for a server that may not have noticed yet that others left."""

    def let_in(running: RunningServer, name: str) -> LineClient:
        client = None

        def was_greeted() -> bool:
            nonlocal client
            client = connect(running)
            # A close without a word counts as `! server full`.
            with contextlib.suppress(EOFError):
                if client.read_line().endswith(": enter your name"):
                    return True
            client.close()
            return False

        wait_until(was_greeted, "a newcomer to be greeted", session=run.session)
        client.send_line(name)
        client.read_until(f"* hello {name}")
        return client

    return let_in


@pytest.fixture
def conversation(server: RunningServer, join: Callable) -> Conversation:
    """alice and bob, ready to find out what becomes of alice's bytes."""
    return Conversation(server.profile, *join(server, "alice", "bob"))


@pytest.fixture
def crowd(run: SuiteRun) -> Iterator[Callable[[RunningServer], Crowd]]:
    """`crowd(server)`: many connections driven by one loop; all closed at the end."""
    with contextlib.ExitStack() as stack:
        yield lambda running: stack.enter_context(
            Crowd(running.address, running.profile, run.session)
        )


@pytest.fixture
def clock(launch_server: Callable, connect: Callable[..., LineClient]) -> Callable:
    """`wait = clock("0.5")`: `wait()` returns once a silent client would have been timed out.

    That client is connected to a second server, so the one under test may be wrong about time.
    """

    def start(seconds: str) -> Callable[[], None]:
        server = launch_server("--idle-timeout", seconds)

        def wait() -> None:
            with connect(server) as silent:
                if silent.read_to_end()[1:] != [IDLE_TIMEOUT]:
                    raise AssertionError("the second server did not time its client out")

        return wait

    return start
