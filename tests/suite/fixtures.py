"""Fixtures: the server that a test is about, and a look into its process."""

import contextlib
import re
import threading
from collections.abc import Callable, Iterator

import pytest

from harness import proc, system
from harness.crowd import Crowd
from harness.launcher import LaunchError, RunningServer
from harness.proc import ProcessView
from harness.server_under_test import ServerUnderTest, extra_descriptors
from harness.session import Session
from harness.waiting import UnknownAnswer, wait_until_empty
from tests.suite import rules
from tests.suite.outcomes import how_it_ended
from tests.suite.rule_report import RuleBroken, SkippedFor
from tests.suite.suite_run import (
    LOOKS_IN_VAIN,
    USED_SERVERS,
    Skipped,
    SuiteRun,
    Wait,
    has_passed,
    suite_run,
    target_of,
)

# What warms a server up: short lines and long ones, some megabytes in all.
WARM_UP_ROUNDS = 5
WARM_UP_LINES = b"and so on\n" * 5000 + (b"x" * 1000 + b"\n") * 1000

# ---- servers ----


@pytest.fixture
def run(request: pytest.FixtureRequest) -> SuiteRun:
    """The state of this run of the suite."""
    return suite_run(request.config)


@pytest.fixture
def server(
    target: ServerUnderTest, run: SuiteRun, request: pytest.FixtureRequest
) -> Iterator[RunningServer]:
    """A running server, empty when the test begins.

    Starting one per test would take most of the suite's time, so it is kept from test to test. A
    test that leaves a client in it, or a traceback in its log, fails.
    """
    running = run.kept.pop(target.name, None)
    if running is None or running.ending(0):
        running = target.start(session=run.session)
    request.node.stash.setdefault(USED_SERVERS, []).append(running)
    log_size = running.log_path.stat().st_size if running.log_path else 0
    with contextlib.ExitStack() as stack:
        stack.enter_context(running)
        yield running
        if has_passed(request.node):
            if ending := how_it_ended(running, 0):
                raise RuleBroken("L6", ending)
            _check_that_all_have_left(run, target, running)
            if not run.core:
                check_log(running, target, log_size)
            if run.looks_in_vain < LOOKS_IN_VAIN:
                run.kept[target.name] = running
                stack.pop_all()


def _check_that_all_have_left(
    run: SuiteRun, target: ServerUnderTest, running: RunningServer
) -> None:
    """A client's name is gone from `/list` as soon as the client is gone (H5)."""
    if run.looks_in_vain >= LOOKS_IN_VAIN:
        return
    try:
        wait_until_empty(running.address, session=run.session)
    except (AssertionError, OSError, EOFError) as error:
        if not target.is_ours:
            run.looks_in_vain += 1
        # An answer in another form does not tell who is in.
        rule = "C2" if isinstance(error, UnknownAnswer) else "H5"
        raise RuleBroken(rule, f"after the test had ended: {error}") from None


def check_log(running: RunningServer, target: ServerUnderTest, start: int = 0) -> None:
    """Nothing that a client or an operator can cause puts an exception into the log."""
    if target.keeps_launch_contract and running.log_path:
        with running.log_path.open("rb") as log:
            log.seek(start)
            text = log.read().decode(errors="replace")
        if re.search("traceback|exception", text, re.IGNORECASE):
            raise RuleBroken(rules.LAUNCH, f"an exception in the server's log:\n{text[-3000:]}")


def need_launch_contract(target: ServerUnderTest, why: str, remedy: str) -> None:
    """Skip the test if the server does not take our options."""
    if not target.keeps_launch_contract:
        raise Skipped(
            f"this test {why}, and --server has no {{options}}: {remedy}, and write --server "
            "'CMD --port {port} {options}'",
            SkippedFor.OPTIONS,
        )


def need_options(target: ServerUnderTest) -> None:
    """Skip a test that starts the server with options, if the server takes none."""
    need_launch_contract(target, "starts the server with options", "let your server take them")


@pytest.fixture
def launch_server(
    target: ServerUnderTest, run: SuiteRun, request: pytest.FixtureRequest
) -> Iterator[Callable]:
    """Start a server for this test: `launch_server("--idle-timeout", "0.5", **popen_options)`.

    Whatever the test does to it, its log must be free of tracebacks at the end. `running` takes
    over a server that has been started already.
    """
    need_options(target)
    started: list[RunningServer] = []
    with contextlib.ExitStack() as stack:

        def start(
            *options: str, running: RunningServer | None = None, **popen_options
        ) -> RunningServer:
            if run.core and options:
                raise Skipped("--core tests no options", SkippedFor.OPTIONS)
            running = running or target.start(*options, session=run.session, **popen_options)
            started.append(stack.enter_context(running))
            request.node.stash.setdefault(USED_SERVERS, []).append(running)
            if "bounded_memory" in request.fixturenames and not target.is_ours:
                warm_up(running)
            return running

        yield start
        for running in started:
            running.stop()
            if not run.core:
                check_log(running, target)


@pytest.fixture
def wait_is_over(
    target: ServerUnderTest, launch_server: Callable, run: SuiteRun, request: pytest.FixtureRequest
) -> Callable[[], None]:
    """`wait_is_over()`: returns when the work of the test's mark is done, or raises what it raises.

    `@pytest.mark.waits(*options, work=...)` is for rules that make a test wait for seconds. The
    first of some tests does the work of them all at the same time, each `work(server)` with a
    server that is started with the options: for all versions that of one function, for a single
    server that of all functions. More at once would not leave each its share of a processor.
    """

    def result() -> None:
        if request.node not in run.waits:
            marked = [item for item in request.session.items if item.get_closest_marker("waits")]
            if len(run.targets) > 1:
                marked = [item for item in marked if item.function is request.function]
            waits = {item: _started(item, run.session) for item in marked}
            run.waits |= waits
            threads = [_begin(item, wait) for item, wait in waits.items() if wait.running]
            for thread in threads:
                thread.join()
        wait = run.waits.pop(request.node)
        if wait.running is not None:
            run.session.in_vain += wait.running.session.in_vain
            run.session.anybody_was_in |= wait.running.session.anybody_was_in
            wait.running.session = run.session
            launch_server(running=wait.running)
        if wait.error is not None:
            raise wait.error

    return result


def _started(item: pytest.Item, session: Session) -> Wait:
    """Start a server for the work of a test."""
    try:
        running = target_of(item).start(*item.get_closest_marker("waits").args, session=session)
    except LaunchError as error:
        return Wait(error=error)
    # What it waits for in vain counts for its own test, which may not be the current one.
    running.session = session.for_work_beside()
    return Wait(running)


def _begin(item: pytest.Item, wait: Wait) -> threading.Thread:
    """Start a thread that does the work of a test with the server that was started for it."""

    def do() -> None:
        try:
            item.get_closest_marker("waits").kwargs["work"](wait.running)
        # pytest.fail() raises a BaseException. Whatever it is, the test raises it again.
        except BaseException as error:
            wait.error = error

    thread = threading.Thread(target=do, daemon=True)
    thread.start()
    return thread


# ---- what the system shows and allows ----


@pytest.fixture
def inspect(target: ServerUnderTest) -> Callable[[RunningServer], ProcessView]:
    """`inspect(server)`: threads, descriptors, CPU time and memory of its process."""
    need_launch_contract(
        target, "looks into the server's process", "let the command be the server itself"
    )
    if not proc.CAN_SEE:
        pytest.skip("this test reads /proc, which this system does not have")
    return lambda running: ProcessView(running.pid)


@pytest.fixture
def bounded_memory(inspect: Callable[[RunningServer], ProcessView]) -> Callable:
    """`with bounded_memory(server, 4)`: in the block its peak memory grows by less than 4 MiB.

    No rule says how much the language of somebody's server needs for itself. So `launch_server`
    gives such a server some work first, in which the runtime grows to its size.
    """

    @contextlib.contextmanager
    def watch(running: RunningServer, most: int) -> Iterator[None]:
        process = inspect(running)
        before = process.peak_memory()
        yield
        grown = (process.peak_memory() - before) / 2**20
        assert grown < most, (
            f"the peak of the process's resident memory grew by {grown:.1f} MiB; at most {most}"
        )

    return watch


def warm_up(running: RunningServer) -> None:
    """Let a client send a flood to a server, and read all that comes of it."""
    with Crowd(running.address, running.profile, running.session) as room:
        first, second = room.join(["warm-1", "warm-2"])
        for _ in range(WARM_UP_ROUNDS):
            first.outgoing += WARM_UP_LINES
            room.barrier([first, second])
            first.incoming.clear()
            second.incoming.clear()
        for member in (first, second):
            member.outgoing += b"/quit\n"
        room.pump(lambda: first.closed and second.closed, "two to go")


@pytest.fixture
def limit_descriptors(
    request: pytest.FixtureRequest,
) -> Iterator[Callable[[int], Callable[[], None]]]:
    """`launch_server(preexec_fn=limit_descriptors(40))`: at most so many in the new process.

    Somebody's server may have some more, if it needs more for itself. The number may exceed this
    process's own limit, which is raised then, up to the hard limit.
    """

    target = target_of(request.node)

    def limit(number: int) -> Callable[[], None]:
        if target is not None:
            number += extra_descriptors(target)
        try:
            system.allow_descriptors(number)
            return system.at_most_descriptors(number)
        except system.Unavailable as reason:
            pytest.skip(str(reason))

    with system.kept_descriptor_limit():
        yield limit
