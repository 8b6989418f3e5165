"""One suite for all servers: the four versions here, or anybody's server with `--server`.

Every test that takes `server` or `launch_server` runs once per server, with the version's folder
name as its id. A mark says what a test is about, and a combination that makes no sense is
deselected, never skipped in silence:

    @pytest.mark.profile("chat")           a rule of one profile
    @pytest.mark.versions("v2_select")     a fact about the model of our own versions

This plugin has the options and chooses the tests. `outcomes.py` notes what becomes of them, and
`fixtures.py` and `clients.py` give them their servers and clients.
"""

import os
import re
import signal
import threading
from pathlib import Path

import pytest

from harness.launcher import PROFILES, VERSIONS
from harness.server_under_test import PORT, ServerUnderTest
from tests.suite import core, rules
from tests.suite.rule_report import CutShort
from tests.suite.rules import SUITE_FOLDER
from tests.suite.suite_run import (
    RUN,
    SuiteRun,
    is_selection,
    rules_of,
    short_id,
    stage_of,
    suite_run,
    takes_long,
    target_of,
)

pytest_plugins = ["tests.suite.outcomes", "tests.suite.fixtures", "tests.suite.clients"]
# So that a failure there tells what came and what was expected, as one in a test does.
pytest.register_assert_rewrite("tests.suite.conversation")

ADDRESS = re.compile(r"\[?(?P<host>[^\s\[\]{}]+?)\]?:(?P<port>\d{1,5})")
# This is the name of a server that is not ours.
SOMEBODYS = "server"
LONGEST_RUN = 1_000_000
RUN_LIMIT_OF_SOMEBODYS = 300.0

RULELESS = [rules.LAUNCH]
# A test of these rules takes long to fail.
SLOW_TO_FAIL = {"L1", "L3", "F7"}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options: a server that is not one of our four, the rules to test, and the report."""
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
        help="with --server: test on although the short check has failed, and in the stages after "
        "one that has broken rules",
    )
    group.addoption(
        "--core",
        action="store_true",
        help="with --server: only the rules that PROTOCOL.md marks as core, as small.py keeps them",
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
    """Register the marks, and refuse in one line options that make no sense."""
    config.addinivalue_line("markers", "profile(name): a rule of the echo or of the chat profile")
    config.addinivalue_line("markers", "versions(*names): a fact about these of our versions only")
    config.addinivalue_line("markers", "waits(*options, work): see the fixture wait_is_over")
    for rule in rules.ALL_RULES:
        config.addinivalue_line("markers", f"{rule}: names this rule of PROTOCOL.md or a task")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A shell that starts us in the background ignores Ctrl-C, and we and all that we start
        # inherit that.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    is_own = config.getoption("--server") is not None
    # With everything tested, hundreds of tests may fail. The summary by rule has what came of them.
    if config.getoption("--keep-going") and config.option.tbstyle == "auto":
        config.option.tbstyle = "line"
    config.stash[RUN] = SuiteRun(
        _targets(config),
        core=config.getoption("--core"),
        by_stages=is_own and not (config.getoption("--keep-going") or is_selection(config)),
    )
    if not config.option.collectonly:
        _end_in_order(config)


def _targets(config: pytest.Config) -> list[ServerUnderTest]:
    """The servers that the options name. Raises UsageError."""
    given, profile = config.getoption("--server"), config.getoption("--profile")
    for rule in config.getoption("--rule"):
        if rule not in rules.ALL_RULES:
            raise pytest.UsageError(f"--rule {rule}: there are {', '.join(rules.ALL_RULES)}")
    if given is None:
        if profile is not None:
            raise pytest.UsageError("--profile goes with --server; our versions have their own")
        if config.getoption("--rule-report") is not None:
            raise pytest.UsageError("--rule-report goes with --server")
        if config.getoption("--core"):
            raise pytest.UsageError("--core goes with --server")
        return [ServerUnderTest.ours(version) for version in VERSIONS]
    if profile is None:
        raise pytest.UsageError("--server needs --profile echo or --profile chat beside it")
    if PORT in given:
        return [ServerUnderTest(SOMEBODYS, profile, given)]
    if match := ADDRESS.fullmatch(given):
        address = (match["host"], int(match["port"]))
        return [ServerUnderTest(SOMEBODYS, profile, address=address)]
    raise pytest.UsageError(f"--server needs HOST:PORT or a command with {{port}}, got {given!r}")


def _end_in_order(config: pytest.Config) -> None:
    """Let SIGTERM and --run-limit end the run with its results so far, and without a server."""
    run = suite_run(config)

    def end(reason: str) -> None:
        if run.cut_short is None:
            # pytest names the current test in the environment.
            run.cut_short = CutShort(reason, os.environ.get("PYTEST_CURRENT_TEST"))
            status = pytest.ExitCode.INTERRUPTED
            pytest.exit(f"{run.cut_short}: the results so far", returncode=status)

    if threading.current_thread() is not threading.main_thread():
        return
    signal.signal(signal.SIGTERM, lambda number, frame: end("ended by SIGTERM"))
    seconds = _run_limit(config)
    if seconds is not None and hasattr(signal, "setitimer"):
        reason = f"ended by --run-limit {seconds:g}"
        signal.signal(signal.SIGALRM, lambda number, frame: end(reason))
        signal.setitimer(signal.ITIMER_REAL, seconds)


def _run_limit(config: pytest.Config) -> float | None:
    """The limit in seconds, or None if there is none. Raises UsageError."""
    seconds = config.getoption("--run-limit")
    if seconds is None:
        return None if config.getoption("--server") is None else RUN_LIMIT_OF_SOMEBODYS
    # Written this way round, the comparison is false for "nan", too.
    if not 0 < seconds <= LONGEST_RUN:
        raise pytest.UsageError(f"--run-limit must be from 0 to {LONGEST_RUN}, not {seconds:g}")
    return seconds


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop the servers that were kept from test to test."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, 0)
    # Wrong options end pytest before there is a run.
    if RUN in config.stash:
        suite_run(config).stop_servers()


# ---- which tests are run ----


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With --server only the protocol is of use, or a task: other tests are not even imported."""
    is_room_of_tests = collection_path.parent == SUITE_FOLDER.parent and collection_path.is_dir()
    of_no_use = is_room_of_tests and collection_path != SUITE_FOLDER
    return True if of_no_use and config.getoption("--server") is not None else None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run every test that needs a server once for each server that it is about."""
    if "target" in metafunc.fixturenames:
        targets = suite_run(metafunc.config).targets
        # A test that fits none is generated all the same, so that it is counted as deselected.
        chosen = [target for target in targets if _belongs(target, metafunc.definition)] or targets
        metafunc.parametrize("target", chosen, ids=[target.name for target in chosen])


def _belongs(target: ServerUnderTest, definition: pytest.Item) -> bool:
    """Whether a test's marks let it run against this target."""
    for mark in definition.iter_markers("profile"):
        if target.profile not in mark.args:
            return False
    return all(target.name in mark.args for mark in definition.iter_markers("versions"))


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark each test with the rules that its docstring begins with."""
    for rule in rules_of(item):
        item.add_marker(rule)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect tests that do not fit the server given with --server, or the rules given."""
    chosen_rules = set(config.getoption("--rule"))
    run = suite_run(config)
    kept, dropped = [], []
    for item in items:
        target = target_of(item)
        belongs = config.getoption("--server") is None or (target and _belongs(target, item))
        if chosen_rules and chosen_rules.isdisjoint(rules_of(item)):
            belongs = False
        if run.core and not core.belongs(short_id(item), rules_of(item)):
            belongs = False
        (kept if belongs else dropped).append(item)
    if dropped:
        config.hook.pytest_deselected(items=dropped)
    if config.getoption("--server") is not None:
        kept.sort(key=_place_in_a_stage if run.by_stages else _place_in_the_run)
    items[:] = kept


def _place_in_a_stage(item: pytest.Item) -> tuple[int, bool, int]:
    """Put the stages in their order, and in each the tests that wait last."""
    rule = (rules_of(item) or RULELESS)[0]
    stage = [*rules.STAGES].index(stage_of(item))
    return stage, takes_long(item), rules.FUNDAMENTAL_FIRST.index(rule)


def _place_in_the_run(item: pytest.Item) -> tuple[bool, int]:
    """Put the fundamental rules first, and those whose failures take long last.

    So a run that goes on to its end, or to its limit, has tested by then what matters most.
    """
    rule = (rules_of(item) or RULELESS)[0]
    return rule in SLOW_TO_FAIL, rules.FUNDAMENTAL_FIRST.index(rule)
