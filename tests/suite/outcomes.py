"""What becomes of each test: noted by rule, summed up at the end, and written to a file."""

import dataclasses
import json
import socket
from collections.abc import Iterator

import pytest

from harness import conformance
from harness.launcher import LaunchError, RunningServer
from harness.server_under_test import ServerUnderTest
from harness.session import SLOW_STOP
from tests.suite import rules
from tests.suite.rule_report import (
    CutShort,
    Outcome,
    Result,
    RuleBroken,
    SkippedFor,
    about,
    explain,
    transcript_of,
)
from tests.suite.suite_run import (
    OUTCOME,
    RUN,
    USED_SERVERS,
    Skipped,
    SuiteRun,
    is_quick,
    is_selection,
    rules_of,
    short_id,
    stage_of,
    suite_run,
    target_of,
    what_it_says,
)

# These rules allow a server to take seconds.
RULES_ABOUT_TIME = {"C4", "C6", "F7", "L1", "L2", "L3", "L4", "L5", rules.LAUNCH}
# A server is asked to stop by the tests of this rule.
STOP = "L4"
LAST_WORDS = 8  # lines


# ---- before the first test ----


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> None:
    """Check before the first test that somebody's server starts and speaks this protocol at all."""
    config = session.config
    if config.getoption("--server") is None or config.option.collectonly or not session.items:
        return
    run = suite_run(config)
    (target,) = run.targets
    findings = run.findings_about(target)
    try:
        running = target.start(session=run.session)
    except LaunchError as error:
        findings.why_no_server = str(error)
        raise _give_up(session, "it does not start") from None
    if target.address is not None and (reason := _why_unreachable(target.address)):
        findings.why_no_server = f"no server at {config.getoption('--server')}: {reason}"
        raise _give_up(session, "it is not there")
    with running:
        fault = conformance.first_fault(running, "core" if run.core else "ours")
        if fault is not None and (ending := how_it_ended(running)):
            fault = dataclasses.replace(fault, came=f"{fault.came}; {ending}")
    findings.fault = fault
    # The short check lets somebody in first of all.
    run.session.anybody_was_in = fault is None
    if fault is not None and not (config.getoption("--keep-going") or is_selection(config)):
        raise _give_up(session, f"it breaks {fault.rule} (--keep-going: test on)")


def _give_up(session: pytest.Session, reason: str) -> Exception:
    """Note why the run ends before any test; returns the exception that ends it."""
    why = f"the short check of the server failed: {reason}"
    suite_run(session.config).cut_short = CutShort(why)
    session.shouldfail = f"{len(session.items)} tests not run: {reason}"
    return session.Failed(session.shouldfail)


def _why_unreachable(address: tuple[str, int]) -> str | None:
    try:
        socket.create_connection(address, timeout=5).close()
    # A UnicodeError means that this cannot be the name of a host.
    except (OSError, UnicodeError) as error:
        return getattr(error, "strerror", None) or str(error)
    return None


# ---- each test ----


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Begin with the patience that the server has earned; one failed case stands for all."""
    run = suite_run(item.config)
    run.compared = None
    target, named = target_of(item), rules_of(item)
    if target is None or not named:
        run.session.begin_test(in_vain=0, is_ours=True, for_seconds=False)
        return
    findings = run.findings_about(target)
    outcome = Outcome(short_id(item), named, Result.NOT_RUN, target.name)
    item.stash[OUTCOME] = outcome
    item.stash[USED_SERVERS] = []
    findings.outcomes.append(outcome)
    # A server that does not stop may answer all the same, and the other way round.
    about_a_stop = named[0] == STOP
    in_vain = sum(
        earlier.waits_in_vain
        for earlier in findings.outcomes
        if (earlier.rules[0] == STOP) == about_a_stop
    )
    for_seconds = named[0] in RULES_ABOUT_TIME
    run.session.begin_test(in_vain, target.is_ours, for_seconds, is_quick(item))
    one_is_enough = item.config.getoption("--server") and not item.config.getoption("--every-case")
    if one_is_enough and (target.name, outcome.function) in run.failed_functions:
        raise Skipped(
            "not run: another case of this test has failed (--every-case runs all)",
            SkippedFor.ANOTHER_CASE,
        )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    """End the run after the last test of a stage that has broken rules."""
    handled = yield
    run = suite_run(item.config)
    if run.by_stages and nextitem is not None and stage_of(item) != stage_of(nextitem):
        stage = stage_of(item)
        if any(findings.failed() for findings in run.findings.values()):
            reason = f"{stage} has broken rules"
            run.cut_short = CutShort(reason, after_stage=stage)
            waiting = sum(OUTCOME not in other.stash for other in item.session.items)
            item.session.shouldfail = f"{waiting} tests not run: {reason} (--keep-going: test on)"
    return handled


def pytest_assertrepr_compare(
    config: pytest.Config, op: str, left: object, right: object
) -> list[str] | None:
    """Remember what came and what was expected; pytest words the message."""
    if op == "==":
        suite_run(config).compared = (left, right)
    return None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo) -> Iterator[None]:
    """Note what became of the test, and why."""
    report = yield
    outcome = item.stash.get(OUTCOME, None)
    if outcome is None:
        return report
    if report.failed:
        _note_failure(item, call.excinfo.value, report, outcome)
    elif report.skipped:
        skip = call.excinfo.value
        skipped_for = skip.skipped_for if isinstance(skip, Skipped) else SkippedFor.SYSTEM
        outcome.note_skip(str(skip), skipped_for)
    elif report.when == "call":
        outcome.result = Result.PASSED
    return report


def _note_failure(
    item: pytest.Item, error: BaseException, report: pytest.TestReport, outcome: Outcome
) -> None:
    run = suite_run(item.config)
    findings = run.findings_about(target_of(item))
    is_first = not findings.failed()
    if isinstance(error, RuleBroken):
        # A check after each test has found this, so the test itself is not to blame.
        function = outcome.test.partition("::")[0] + f"::(after each test) {error.rule}"
        outcome = Outcome(
            function, [error.rule], Result.FAILED, outcome.target, after_each_test=True
        )
        findings.outcomes.append(outcome)
    elif outcome.result == Result.FAILED:
        return
    if isinstance(error, LaunchError):
        # The rule under test was not reached, because the server did not start.
        outcome.rules = [rules.LAUNCH, *outcome.rules]
    outcome.result = Result.FAILED
    outcome.waits_in_vain = run.session.in_vain
    # What the check found has nothing to do with what the test has compared.
    compared = None if isinstance(error, RuleBroken) else run.compared
    explain(outcome, error, compared, run.session.clients)
    if not outcome.after_each_test:
        outcome.says = what_it_says(item)
    run.failed_functions.add((outcome.target, outcome.function))
    # A test of L4 asks the server to end, with status 0.
    may_end = STOP in item.stash[OUTCOME].rules
    endings = [
        text
        for running in item.stash[USED_SERVERS]
        if (text := how_it_ended(running)) and not (may_end and running.process.returncode == 0)
    ]
    if endings:
        outcome.server = endings[-1]
        report.sections.append(("the server under test", endings[-1]))
    talk = "\n".join(filter(None, map(transcript_of, run.session.clients)))
    if talk:
        report.sections.append(("the end of the conversation (> sent, < came)", talk))
    if is_first and item.config.getoption("--server") is not None:
        _tell_at_once(item.config, outcome)


def _tell_at_once(config: pytest.Config, outcome: Outcome) -> None:
    """Print the first failure at once, because the run may go on for a while."""
    terminal = config.pluginmanager.get_plugin("terminalreporter")
    terminal.ensure_newline()
    for line in ["", "The first failure:", *about(outcome.rules[0], [outcome]), ""]:
        terminal.line(line)


def how_it_ended(running: RunningServer, seconds: float = 0.2) -> str | None:
    """The exit status and last words of a server that ended without being asked; else None."""
    ending = None if running.asked_to_stop else running.ending(seconds, LAST_WORDS)
    return ending and ending.at_length(before="\n", between="\n")


# ---- after the last test ----


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> Iterator[None]:
    """Print last of all the failures by rule, where to begin, and the stage that was reached."""
    yield
    run = suite_run(config)
    with_stage = config.getoption("--server") is not None and not is_selection(config)
    for target in run.targets:
        lines = summary_of(run, target, with_stage)
        if lines:
            terminalreporter.section("by rule", yellow=True)
        for line in lines:
            terminalreporter.line(line)


def summary_of(run: SuiteRun, target: ServerUnderTest, with_stage: bool) -> list[str]:
    """All that is said of a server at the end, also of one that has passed every test."""
    findings = run.findings_about(target)
    lines = findings.summary()
    # How many stops failed is known of all servers together.
    if target is run.targets[-1]:
        lines += _about_stops(run)
    if with_stage:
        ended_after = run.cut_short.after_stage if run.cut_short else None
        closing = findings.stage_line(target.profile, run.core, ended_after)
        lines += ["", closing] if lines and closing else filter(None, [closing])
    return lines


def _about_stops(run: SuiteRun) -> list[str]:
    """That servers did not stop, or only slowly, even if no test has failed because of it."""
    lines = []
    if run.session.killed:
        how_often = _times(run.session.killed)
        lines.append(f"A server did not stop when it was asked to, {how_often} (L4).")
    if run.session.slow_stops:
        how_often = _times(run.session.slow_stops)
        lines.append(f"A server took more than {SLOW_STOP:g} s to stop, {how_often} (L4: 2 s).")
    return lines


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Count the tests that were not reached, and say why: --maxfail and Ctrl-C end a run early."""
    config = session.config
    if config.getoption("--server") is None or config.option.collectonly:
        return
    run = suite_run(config)
    (target,) = run.targets
    run.findings_about(target).anybody_was_in = run.session.anybody_was_in
    for item in session.items:
        if OUTCOME not in item.stash and rules_of(item):
            outcome = Outcome(short_id(item), rules_of(item), Result.NOT_RUN, target.name)
            item.stash[OUTCOME] = outcome
            run.findings_about(target).outcomes.append(outcome)
            if run.cut_short is None:
                reason = session.shouldstop or session.shouldfail or "interrupted"
                run.cut_short = CutShort(str(reason))


def pytest_unconfigure(config: pytest.Config) -> None:
    """Write the report by rule."""
    path = config.getoption("--rule-report")
    if path is None or RUN not in config.stash or config.option.collectonly:
        return
    run = suite_run(config)
    (target,) = run.targets
    findings = run.findings_about(target)
    report = findings.as_json(config.getoption("--server"), target.profile, run.cut_short)
    path.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
