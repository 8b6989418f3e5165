"""One suite for all servers: the four versions here, or anybody's server with `--server`.

Every test that takes `server` or `launch_server` runs once per server, with the version's folder
name as its id. What a test is about is said with a mark, and a combination that makes no sense is
deselected, never skipped in silence:

    @pytest.mark.profile("chat")           a rule of one profile
    @pytest.mark.versions("v2_select")     a fact about the model of our own versions
"""

import contextlib
import dataclasses
import os
import re
import shlex
import signal
from collections.abc import Callable, Iterator

import pytest

try:
    import resource
except ImportError:  # Windows
    resource = None

from harness.answers import IDLE_TIMEOUT
from harness.launcher import PROFILES, VERSIONS, RunningServer, launch, server_command
from harness.line_client import LineClient
from harness.process_view import ProcessView
from harness.waiting import wait_until, wait_until_empty
from tests.conversation import Conversation
from tests.crowd import Crowd

ADDRESS = re.compile(r"\[?(?P<host>[^\s\[\]{}]+?)\]?:(?P<port>\d{1,5})")


@dataclasses.dataclass(frozen=True)
class Target:
    """A server under test: one of our versions, a command of somebody's, or an address."""

    name: str
    profile: str
    template: str | None = None
    address: tuple[str, int] | None = None

    @property
    def is_ours(self) -> bool:
        """Whether this is one of the four versions in this repository."""
        return self.name in VERSIONS

    @property
    def keeps_launch_contract(self) -> bool:
        """Whether it takes our options, and the process we start is the server itself."""
        return self.is_ours or (self.template is not None and "{options}" in self.template)

    def command(self, *options: str) -> list[str] | str:
        """What `launch` is to run."""
        if self.template is None:
            return server_command(self.name, *options)
        return self.template.replace("{options}", shlex.join(options))

    def start(self, *options: str, **popen_options) -> RunningServer:
        """A new server process, or the address of the one that runs elsewhere."""
        if self.address is not None:
            return RunningServer(self.name, self.profile, *self.address)
        return launch(self.name, self.command(*options), profile=self.profile, **popen_options)


def pytest_addoption(parser: pytest.Parser) -> None:
    """--server and --profile: test a server that is not one of our four."""
    group = parser.getgroup("server under test")
    group.addoption(
        "--server",
        metavar="CMD|HOST:PORT",
        help="test this server instead of the four versions: a command with {port} in it, which "
        "must then listen on 127.0.0.1 at that port, or the HOST:PORT of a running server nobody "
        "else uses. With {options} in it the command also promises our launch contract "
        "(--idle-timeout S and so on, the address line on stdout, signals), and that the process "
        "started is the server itself; without, tests that need this are skipped and say so. "
        "Example: --server 'python3 mine.py --port {port} {options}'",
    )
    group.addoption(
        "--profile",
        choices=sorted(set(PROFILES.values())),
        help="which delivery rules the server given with --server keeps",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the marks; refuse options that make no sense in one line."""
    config.addinivalue_line("markers", "profile(name): a rule of the echo or of the chat profile")
    config.addinivalue_line("markers", "versions(*names): a fact about these of our versions only")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # So does a shell that starts us in the background, and all that we start would inherit it.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.stash[TARGETS] = _targets(config)
    config.stash[SERVERS] = {}


TARGETS = pytest.StashKey[list[Target]]()
SERVERS = pytest.StashKey[dict[str, RunningServer]]()
PASSED = pytest.StashKey[bool]()


def _targets(config: pytest.Config) -> list[Target]:
    given, profile = config.getoption("--server"), config.getoption("--profile")
    if given is None:
        if profile is not None:
            raise pytest.UsageError("--profile goes with --server; our versions have their own")
        return [Target(name, PROFILES[name]) for name in VERSIONS]
    if profile is None:
        raise pytest.UsageError("--server needs --profile echo or --profile chat beside it")
    if "{port}" in given:
        return [Target("server", profile, template=given)]
    if match := ADDRESS.fullmatch(given):
        return [Target("server", profile, address=(match["host"], int(match["port"])))]
    raise pytest.UsageError(f"--server needs HOST:PORT or a command with {{port}}, got {given!r}")


def _belongs(target: Target, definition: pytest.Item) -> bool:
    """Whether a test's marks let it run against this target."""
    for mark in definition.iter_markers("profile"):
        if target.profile not in mark.args:
            return False
    return all(target.name in mark.args for mark in definition.iter_markers("versions"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give every test that needs a server one run per server it is about."""
    if "target" in metafunc.fixturenames:
        targets = metafunc.config.stash[TARGETS]
        # None that fits: generated all the same, so that it is counted among the deselected.
        chosen = [target for target in targets if _belongs(target, metafunc.definition)] or targets
        metafunc.parametrize("target", chosen, ids=[target.name for target in chosen])


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect what is not about the server given with --server."""
    if config.getoption("--server") is None:
        return
    kept, dropped = [], []
    for item in items:
        target = item.callspec.params.get("target") if hasattr(item, "callspec") else None
        (kept if target and _belongs(target, item) else dropped).append(item)
    config.hook.pytest_deselected(items=dropped)
    items[:] = kept


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo) -> Iterator[None]:
    """Remember whether the test passed: a server that has seen a failure is not used again."""
    report = yield
    if report.when == "call":
        item.stash[PASSED] = report.passed
    return report


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop the servers that were kept from test to test."""
    for running in config.stash.get(SERVERS, {}).values():
        running.__exit__()


@pytest.fixture
def server(target: Target, request: pytest.FixtureRequest) -> Iterator[RunningServer]:
    """A running server, empty when the test begins.

    Starting one per test would take most of the suite's time, so it is kept from test to test;
    each test must leave it empty and without a traceback in its log, or fails.
    """
    servers = request.config.stash[SERVERS]
    running = servers.pop(target.name, None)
    if running is None or (running.process and running.process.poll() is not None):
        running = target.start()
    log_size = running.log_path.stat().st_size if running.log_path else 0
    yield running
    if not request.node.stash.get(PASSED, False):
        running.__exit__()
        return
    try:
        if running.process is not None and running.process.poll() is not None:
            raise AssertionError(f"the server ended, status {running.process.returncode}")
        wait_until_empty(running.address)
        _check_log(running, target, log_size)
    except BaseException:
        running.__exit__()
        raise
    servers[target.name] = running


@pytest.fixture
def launch_server(target: Target, request: pytest.FixtureRequest) -> Iterator[Callable]:
    """Start a server of the test's own: `launch_server("--idle-timeout", "0.5", **popen_options)`.

    Whatever the test did to it, its log must be free of tracebacks in the end.
    """
    if not target.keeps_launch_contract:
        pytest.skip("this test starts the server with options: --server has no {options}")
    with contextlib.ExitStack() as stack:

        def start(*options: str, **popen_options) -> RunningServer:
            running = stack.enter_context(target.start(*options, **popen_options))
            started.append(running)
            return running

        started: list[RunningServer] = []
        yield start
        for running in started:
            running.stop()
            _check_log(running, target)


def _check_log(running: RunningServer, target: Target, start: int = 0) -> None:
    """No traceback, and no word of one, for anything a client or an operator can cause."""
    if target.keeps_launch_contract and running.log_path:
        with running.log_path.open("rb") as log:
            log.seek(start)
            text = log.read().decode(errors="replace")
        if re.search("traceback|exception", text, re.IGNORECASE):
            raise AssertionError(f"an exception in the server's log:\n{text[-3000:]}")


@pytest.fixture
def connect() -> Iterator[Callable[..., LineClient]]:
    """`connect(server)`: a client that has neither read nor sent anything; closed in the end."""
    with contextlib.ExitStack() as stack:
        yield lambda running: stack.enter_context(LineClient(running.address))


@pytest.fixture
def join(connect: Callable[..., LineClient]) -> Callable:
    """`join(server, "alice")` is a client who is in; of several names a list, nothing unread."""

    def let_in(running: RunningServer, *names: str):
        clients = []
        for name in names:
            clients.append(connect(running))
            clients[-1].join(name)
        for _ in range(2 if len(names) > 1 else 0):  # all are in; each has heard of the others
            for client in clients:
                client.ping()
        return clients if len(names) > 1 else clients[0]

    return let_in


@pytest.fixture
def conversation(server: RunningServer, join: Callable) -> Conversation:
    """alice and bob, ready to find out what becomes of alice's bytes."""
    return Conversation(server.profile, *join(server, "alice", "bob"))


@pytest.fixture
def crowd() -> Iterator[Callable[[RunningServer], Crowd]]:
    """`crowd(server)`: many connections driven from one loop; all closed in the end."""
    with contextlib.ExitStack() as stack:
        yield lambda running: stack.enter_context(Crowd(running.address, running.profile))


@pytest.fixture
def inspect(target: Target) -> Callable[[RunningServer], ProcessView]:
    """`inspect(server)`: threads, descriptors, CPU time and memory of its process."""
    if not target.keeps_launch_contract:
        pytest.skip("this test looks into the server's process: --server has no {options}")
    if not os.path.isdir("/proc/self/task"):
        pytest.skip("this test reads /proc, which this system does not have")
    return lambda running: ProcessView(running.process.pid)


@pytest.fixture
def join_eventually(connect: Callable[..., LineClient]) -> Callable:
    """Like `join` of one name, for a server that may still have to notice that others have left."""

    def let_in(running: RunningServer, name: str) -> LineClient:
        client = None

        def was_greeted() -> bool:
            nonlocal client
            client = connect(running)
            try:
                if client.read_line().endswith(": enter your name"):
                    return True
            except EOFError:  # turned away without a word: as good as `! server full`
                pass
            client.close()
            return False

        wait_until(was_greeted, "a newcomer to be greeted")
        client.send_line(name)
        client.read_until(f"* hello {name}")
        return client

    return let_in


@pytest.fixture
def clock(launch_server: Callable, connect: Callable[..., LineClient]) -> Callable:
    """`wait = clock("0.5")`: `wait()` returns once a silent client would have been timed out.

    It is the client of a second server, so the one under test can be at odds with its own clock.
    """

    def start(seconds: str) -> Callable[[], None]:
        server = launch_server("--idle-timeout", seconds)

        def wait() -> None:
            with connect(server) as silent:
                if silent.read_to_end()[1:] != [IDLE_TIMEOUT]:
                    raise AssertionError("the second server did not time its client out")

        return wait

    return start


@pytest.fixture
def limit_descriptors() -> Iterator[Callable[[int], Callable[[], None]]]:
    """`launch_server(preexec_fn=limit_descriptors(40))`: at most that many in the new process.

    More than this process may have is fine too, up to the hard limit: it gets as many.
    """
    if resource is None:
        pytest.skip("this system has no RLIMIT_NOFILE")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    def limit(number: int) -> Callable[[], None]:
        if hard != resource.RLIM_INFINITY and hard < number:
            pytest.skip(f"{number} descriptors are needed, and the hard limit is {hard}")
        if soft < number:
            resource.setrlimit(resource.RLIMIT_NOFILE, (number, hard))
        return lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (number, number))

    yield limit
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
