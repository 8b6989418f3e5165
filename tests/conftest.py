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
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest

try:
    import resource
except ImportError:  # Windows
    resource = None

from harness import conformance
from harness.answers import IDLE_TIMEOUT
from harness.launcher import (
    PROFILES,
    VERSIONS,
    LaunchError,
    RunningServer,
    how_it_ended,
    last_words,
    launch,
    server_command,
)
from harness.line_client import LineClient, made_lately
from harness.patience import patience
from harness.process_view import ProcessView
from harness.waiting import wait_until, wait_until_empty
from tests import rules
from tests.conversation import Conversation
from tests.crowd import Crowd
from tests.rule_report import Findings, Outcome, RuleBroken, explain, transcript_of
from tests.rule_report import write as write_report

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
    """--server and --profile: test a server that is not one of our four; and by which rules."""
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
    group.addoption(
        "--rule",
        action="append",
        default=[],
        metavar="RULE",
        help="only the tests that name this rule of PROTOCOL.md, such as H4; may be repeated. "
        "'launch' is the launch contract. Each rule is a mark, too: -m 'H4 or F5'",
    )
    group.addoption(
        "--keep-going",
        action="store_true",
        help="run the suite although the short check of a server given with --server has failed",
    )
    group.addoption(
        "--every-case",
        action="store_true",
        help="with --server: run the other cases of a test, too, when one of them has failed",
    )
    group.addoption(
        "--run-limit",
        type=float,
        metavar="SECONDS",
        help="end the run after so long, with its results so far (300 with --server)",
    )
    group.addoption(
        "--rule-report",
        type=Path,
        metavar="FILE",
        help="with --server: write what became of each test, by rule, as JSON",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the marks; refuse options that make no sense in one line."""
    config.addinivalue_line("markers", "profile(name): a rule of the echo or of the chat profile")
    config.addinivalue_line("markers", "versions(*names): a fact about these of our versions only")
    for rule in rules.ALL_RULES:
        config.addinivalue_line("markers", f"{rule}: names this rule of PROTOCOL.md or a task")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # So does a shell that starts us in the background, and all that we start would inherit it.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.stash[TARGETS] = _targets(config)
    config.stash[SERVERS] = {}
    config.stash[FINDINGS] = {}
    config.stash[FAILED_FUNCTIONS] = set()
    config.stash[CUT_SHORT] = []
    if not config.option.collectonly:
        _end_in_order(config)


TARGETS = pytest.StashKey[list[Target]]()
SERVERS = pytest.StashKey[dict[str, RunningServer]]()
FINDINGS = pytest.StashKey[dict[str, Findings]]()
FAILED_FUNCTIONS = pytest.StashKey[set[tuple[str, str]]]()
CUT_SHORT = pytest.StashKey[list[str]]()
OUTCOME = pytest.StashKey[Outcome]()
USED_SERVERS = pytest.StashKey[list[RunningServer]]()
BEGUN = pytest.StashKey[dict[tuple[Callable, str], tuple[RunningServer | None, Future]]]()
COMPARED = pytest.StashKey[tuple[object, object] | None]()

# Failures at the look whether a test has left the server empty. After so many a server gets no
# more such looks, each of which would be a wait in vain: every test has a server of its own then.
NOT_EMPTY = pytest.StashKey[list[str]]()
LOOKS_IN_VAIN = 2

RULELESS = [rules.LAUNCH]
DEAR_TO_FAIL = {"L1", "L3", "F7"}

# A server that makes us wait for these may take seconds by right.
RULES_ABOUT_TIME = {"C4", "C6", "F7", "L1", "L2", "L3", "L4", "L5", rules.LAUNCH}


def _targets(config: pytest.Config) -> list[Target]:
    given, profile = config.getoption("--server"), config.getoption("--profile")
    for rule in config.getoption("--rule"):
        if rule not in rules.ALL_RULES:
            raise pytest.UsageError(f"--rule {rule}: there are {', '.join(rules.ALL_RULES)}")
    if given is None:
        if profile is not None:
            raise pytest.UsageError("--profile goes with --server; our versions have their own")
        if config.getoption("--rule-report") is not None:
            raise pytest.UsageError("--rule-report goes with --server")
        return [Target(name, PROFILES[name]) for name in VERSIONS]
    if profile is None:
        raise pytest.UsageError("--server needs --profile echo or --profile chat beside it")
    if "{port}" in given:
        return [Target("server", profile, template=given)]
    if match := ADDRESS.fullmatch(given):
        return [Target("server", profile, address=(match["host"], int(match["port"])))]
    raise pytest.UsageError(f"--server needs HOST:PORT or a command with {{port}}, got {given!r}")


def _end_in_order(config: pytest.Config) -> None:
    """SIGTERM, and the end of --run-limit, end the run with its results and without a server."""

    def end(why: str) -> None:
        if not config.stash[CUT_SHORT]:
            # pytest says in the environment what it is doing.
            if during := os.environ.get("PYTEST_CURRENT_TEST"):
                why = f"{why} during {during}"
            config.stash[CUT_SHORT].append(why)
            pytest.exit(f"{why}: the results so far", returncode=pytest.ExitCode.INTERRUPTED)

    if threading.current_thread() is not threading.main_thread():
        return
    signal.signal(signal.SIGTERM, lambda number, frame: end("ended by SIGTERM"))
    seconds = _run_limit(config)
    if seconds is not None and hasattr(signal, "setitimer"):
        why = f"ended by --run-limit {seconds:g}"
        signal.signal(signal.SIGALRM, lambda number, frame: end(why))
        signal.setitimer(signal.ITIMER_REAL, seconds)


def _run_limit(config: pytest.Config) -> float | None:
    seconds = config.getoption("--run-limit")
    if seconds is not None:
        # Written this way round, the comparison is false for "nan", too.
        if not 0 < seconds <= 1_000_000:
            raise pytest.UsageError(f"--run-limit must be from 0 to 1000000, not {seconds:g}")
        return seconds
    return None if config.getoption("--server") is None else 300.0


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


def pytest_itemcollected(item: pytest.Item) -> None:
    """Each rule that a test's docstring names is a mark of it."""
    for rule in _rules_of(item):
        item.add_marker(rule)


def _rules_of(item: pytest.Item) -> list[str]:
    """The rules that a test is about; none for a test of anything but a server."""
    if "target" not in item.fixturenames:
        return []
    return rules.named_in(item.function.__doc__)


def _target_of(item: pytest.Item) -> Target | None:
    return item.callspec.params.get("target") if hasattr(item, "callspec") else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect what is not about the server given with --server, or not about these rules."""
    chosen_rules = set(config.getoption("--rule"))
    kept, dropped = [], []
    for item in items:
        target = _target_of(item)
        belongs = config.getoption("--server") is None or (target and _belongs(target, item))
        if chosen_rules and chosen_rules.isdisjoint(_rules_of(item)):
            belongs = False
        (kept if belongs else dropped).append(item)
    if dropped:
        config.hook.pytest_deselected(items=dropped)
    if config.getoption("--server") is not None:
        kept.sort(key=_place_in_the_run)
    items[:] = kept


def _place_in_the_run(item: pytest.Item) -> tuple[bool, int]:
    """The fundamental rules first, and last those whose failures take long.

    So a run that is cut short has tested what matters most.
    """
    rule = (_rules_of(item) or RULELESS)[0]
    return rule in DEAR_TO_FAIL, rules.FUNDAMENTAL_FIRST.index(rule)


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> None:
    """Before the first test: does somebody's server start, and speak this protocol at all?"""
    config = session.config
    if config.getoption("--server") is None or config.option.collectonly or not session.items:
        return
    (target,) = config.stash[TARGETS]
    findings = _findings(config, target)
    try:
        running = target.start()
    except LaunchError as error:
        findings.preflight = str(error)
        raise _no_use(session, "it does not start") from None
    if target.address is not None and (reason := _why_unreachable(target.address)):
        findings.preflight = f"no server at {config.getoption('--server')}: {reason}"
        raise _no_use(session, "it is not there")
    findings.preflight = conformance.first_fault(running)
    ended = _how_it_ended(running)
    running.__exit__()
    if findings.preflight is not None:
        if ended:
            came = f"{findings.preflight.came}; {ended}"
            findings.preflight = dataclasses.replace(findings.preflight, came=came)
        chosen = config.getoption("--rule") or config.getoption("markexpr")
        if not (config.getoption("--keep-going") or chosen):
            raise _no_use(session, f"it breaks {findings.preflight.rule} (--keep-going: test on)")


def _no_use(session: pytest.Session, why: str) -> Exception:
    session.config.stash[CUT_SHORT].append(f"the short check of the server failed: {why}")
    session.shouldfail = f"{len(session.items)} tests not run: {why}"
    return session.Failed(session.shouldfail)


def _why_unreachable(address: tuple[str, int]) -> str | None:
    try:
        socket.create_connection(address, timeout=5).close()
    # The latter for a name that cannot be a host's.
    except (OSError, UnicodeError) as error:
        return getattr(error, "strerror", None) or str(error)
    return None


def _findings(config: pytest.Config, target: Target) -> Findings:
    return config.stash[FINDINGS].setdefault(target.name, Findings(target.name))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Begin with full patience if the server has earned it; one failed case stands for all."""
    made_lately.clear()
    item.config.stash[COMPARED] = None
    target, named = _target_of(item), _rules_of(item)
    if target is None or not named:
        patience.begin(in_vain=0, is_ours=True, for_seconds=False)
        return
    outcome = Outcome(_short_id(item), named, "not run", target.name)
    item.stash[OUTCOME] = outcome
    item.stash[USED_SERVERS] = []
    _findings(item.config, target).outcomes.append(outcome)
    in_vain = sum(earlier.waits_in_vain for earlier in _findings(item.config, target).outcomes)
    patience.begin(in_vain, target.is_ours, for_seconds=named[0] in RULES_ABOUT_TIME)
    one_is_enough = item.config.getoption("--server") and not item.config.getoption("--every-case")
    if one_is_enough and (target.name, outcome.function) in item.config.stash[FAILED_FUNCTIONS]:
        pytest.skip("not run: another case of this test has failed (--every-case runs all)")


def _short_id(item: pytest.Item) -> str:
    """FILE::TEST[PARAMETERS], without folders and without the target."""
    return f"{item.path.name}::{item.name}"


def pytest_assertrepr_compare(
    config: pytest.Config, op: str, left: object, right: object
) -> list[str] | None:
    """Remember what came and what was expected; pytest words the message."""
    if op == "==":
        config.stash[COMPARED] = (left, right)
    return None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo) -> Iterator[None]:
    """Remember what became of the test, and why: a server that has seen a failure is not reused."""
    report = yield
    outcome = item.stash.get(OUTCOME, None)
    if outcome is None:
        return report
    if report.failed:
        _note_failure(item, call, report, outcome)
    elif report.skipped:
        outcome.message = str(call.excinfo.value)
        outcome.outcome = "not run" if outcome.message.startswith("not run") else "skipped"
    elif report.when == "call":
        outcome.outcome = "passed"
    return report


def _note_failure(
    item: pytest.Item, call: pytest.CallInfo, report: pytest.TestReport, outcome: Outcome
) -> None:
    error = call.excinfo.value
    if isinstance(error, RuleBroken):
        # Each test looks for this, and is not to blame for it.
        function = outcome.test.partition("::")[0] + f"::(after each test) {error.rule}"
        outcome = Outcome(function, [error.rule], "failed", outcome.target)
        _findings(item.config, _target_of(item)).outcomes.append(outcome)
    elif outcome.outcome == "failed":
        return
    if isinstance(error, LaunchError):
        # Not the rule is broken that would have been tested.
        outcome.rules = [rules.LAUNCH, *outcome.rules]
    outcome.outcome = "failed"
    outcome.waits_in_vain = patience.in_vain
    explain(outcome, error, item.config.stash[COMPARED])
    item.config.stash[FAILED_FUNCTIONS].add((outcome.target, outcome.function))
    # A test of the stop has asked for an end with status 0.
    may_end = "L4" in item.stash[OUTCOME].rules
    ended = [
        text
        for running in item.stash[USED_SERVERS]
        if (text := _how_it_ended(running)) and not (may_end and running.process.returncode == 0)
    ]
    if ended:
        outcome.server = ended[-1]
        report.sections.append(("the server under test", ended[-1]))
    talk = "\n".join(filter(None, map(transcript_of, made_lately)))
    if talk:
        report.sections.append(("the end of the conversation (> sent, < came)", talk))


def _how_it_ended(running: RunningServer) -> str | None:
    """The exit status and the last words of a server that was not asked to end; else None."""
    process = running.process
    if process is None or running.asked_to_stop:
        return None
    # A connection that breaks is seen a moment before the process is gone that broke it.
    try:
        status = process.wait(timeout=0.2)
    except subprocess.TimeoutExpired:
        return None
    words = "\n".join(last_words(running.log_path, 8)) if running.log_path.exists() else ""
    return f"the server {how_it_ended(status)}" + (f"; its last words:\n{words}" if words else "")


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """The failures by rule, the fundamental rules first; and where to begin."""
    for findings in config.stash.get(FINDINGS, {}).values():
        lines = findings.summary()
        if lines:
            terminalreporter.section("by rule", yellow=True)
        for line in lines:
            terminalreporter.line(line)
        if lines and patience.killed:
            times = "once" if patience.killed == 1 else f"{patience.killed} times"
            terminalreporter.line(f"A server did not stop when it was asked to, {times} (L4).")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Count what was not reached, and say why: --maxfail and Ctrl-C cut a run short, too."""
    config = session.config
    if config.getoption("--server") is None or config.option.collectonly:
        return
    (target,) = config.stash[TARGETS]
    for item in session.items:
        if OUTCOME not in item.stash and _rules_of(item):
            item.stash[OUTCOME] = Outcome(_short_id(item), _rules_of(item), "not run", target.name)
            _findings(config, target).outcomes.append(item.stash[OUTCOME])
            if not config.stash[CUT_SHORT]:
                why = session.shouldstop or session.shouldfail or "interrupted"
                config.stash[CUT_SHORT].append(str(why))


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop the servers that were kept from test to test, and write the report by rule."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, 0)
    for running in config.stash.get(SERVERS, {}).values():
        running.__exit__()
    path = config.getoption("--rule-report")
    if path is not None and config.stash.get(TARGETS, None) and not config.option.collectonly:
        (target,) = config.stash[TARGETS]
        cut_short = "; ".join(config.stash[CUT_SHORT]) or None
        write_report(
            path,
            _findings(config, target),
            config.getoption("--server"),
            target.profile,
            cut_short,
        )


@pytest.fixture(scope="session", autouse=True)
def compiled_once(request: pytest.FixtureRequest) -> Iterator[None]:
    """Where no __pycache__ is wanted, the bytecode of the processes we start is kept for this run.

    Each of some hundred would compile all that it imports again, in half of its time.
    """
    if request.config.getoption("--server") is not None or not sys.dont_write_bytecode:
        yield
        return
    with (
        tempfile.TemporaryDirectory(prefix="chat-suite-bytecode-") as folder,
        pytest.MonkeyPatch.context() as environment,
    ):
        environment.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
        environment.setenv("PYTHONPYCACHEPREFIX", folder)
        yield


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
    request.node.stash.setdefault(USED_SERVERS, []).append(running)
    log_size = running.log_path.stat().st_size if running.log_path else 0
    yield running
    outcome = request.node.stash.get(OUTCOME, None)
    if outcome is None or outcome.outcome != "passed":
        running.__exit__()
        return
    try:
        if ended := _how_it_ended_by_now(running):
            raise RuleBroken("L6", ended)
        _check_that_all_have_left(request.config, target, running)
        _check_log(running, target, log_size)
    except BaseException:
        running.__exit__()
        raise
    if len(request.config.stash.get(NOT_EMPTY, [])) < LOOKS_IN_VAIN:
        servers[target.name] = running
    else:
        running.__exit__()


def _how_it_ended_by_now(running: RunningServer) -> str | None:
    if running.process is None or running.process.poll() is None:
        return None
    return _how_it_ended(running)


def _check_that_all_have_left(
    config: pytest.Config, target: Target, running: RunningServer
) -> None:
    """A name is free again, and `/list` without it, as soon as its client is gone (H5)."""
    not_empty = config.stash.setdefault(NOT_EMPTY, [])
    if len(not_empty) >= LOOKS_IN_VAIN:
        return
    try:
        wait_until_empty(running.address)
    except (AssertionError, OSError, EOFError) as error:
        # An answer of another form says nothing of who is in.
        rule = "C2" if str(error).startswith("/list was answered with") else "H5"
        if not target.is_ours:
            not_empty.append(str(error))
        raise RuleBroken(rule, f"after the test had ended: {error}") from None


@pytest.fixture
def launch_server(target: Target, request: pytest.FixtureRequest) -> Iterator[Callable]:
    """Start a server of the test's own: `launch_server("--idle-timeout", "0.5", **popen_options)`.

    Whatever the test did to it, its log must be free of tracebacks in the end. With `running` one
    that has been started already is taken over.
    """
    if not target.keeps_launch_contract:
        pytest.skip(
            "this test starts the server with options, and --server has no {options}: let your "
            "server take them, and write --server 'CMD --port {port} {options}'"
        )
    with contextlib.ExitStack() as stack:

        def start(
            *options: str, running: RunningServer | None = None, **popen_options
        ) -> RunningServer:
            running = running or target.start(*options, **popen_options)
            stack.enter_context(running)
            started.append(running)
            request.node.stash.setdefault(USED_SERVERS, []).append(running)
            return running

        started: list[RunningServer] = []
        yield start
        for running in started:
            running.stop()
            _check_log(running, target)


@pytest.fixture
def at_the_same_time(
    target: Target, launch_server: Callable, request: pytest.FixtureRequest
) -> Callable:
    """`at_the_same_time(work, *options)`: what `work(server)` returns or raises, for this target.

    For rules that make a test wait for seconds: the first case of a test begins the work for the
    targets of all its cases, each with a server and a thread of its own.
    """

    def run(work: Callable[[RunningServer], object], *options: str) -> object:
        begun = request.config.stash.setdefault(BEGUN, {})
        key = (request.function, target.name)
        if key not in begun:
            cases = [item for item in request.session.items if item.function is request.function]
            for case in map(_target_of, cases):
                begun[request.function, case.name] = _begin(case, work, *options)
        running, outcome = begun.pop(key)
        if running is not None:
            launch_server(running=running)
        return outcome.result()

    return run


def _begin(
    target: Target, work: Callable[[RunningServer], object], *options: str
) -> tuple[RunningServer | None, Future]:
    """Start a server and a thread that does the work with it; (None, what happened) without one."""
    outcome: Future = Future()
    try:
        running = target.start(*options)
    except LaunchError as error:
        outcome.set_exception(error)
        return None, outcome

    def do() -> None:
        try:
            outcome.set_result(work(running))
        # pytest.fail() raises no mere Exception; whatever it is, the test raises it again.
        except BaseException as error:
            outcome.set_exception(error)

    threading.Thread(target=do, daemon=True).start()
    return running, outcome


def _check_log(running: RunningServer, target: Target, start: int = 0) -> None:
    """No traceback, and no word of one, for anything a client or an operator can cause."""
    if target.keeps_launch_contract and running.log_path:
        with running.log_path.open("rb") as log:
            log.seek(start)
            text = log.read().decode(errors="replace")
        if re.search("traceback|exception", text, re.IGNORECASE):
            raise RuleBroken(rules.LAUNCH, f"an exception in the server's log:\n{text[-3000:]}")


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
        pytest.skip(
            "this test looks into the server's process, and --server has no {options}: let the "
            "command be the server itself, and write --server 'CMD --port {port} {options}'"
        )
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
