"""A server in another language: the right one passes, and each planted mistake is found out."""

import pytest

from harness.conformance import first_fault
from harness.launcher import launch
from tests.other_language import BUGS, chat_server_command, why_it_cannot_run
from tests.suite.rule_report import Result, SkippedFor
from tests.suite.rules import ONE_PROFILE, RULES, SUITE_FOLDER
from tests.zoo.suite_runner import SuiteRunner

pytestmark = pytest.mark.skipif(bool(why_it_cannot_run()), reason=str(why_it_cannot_run()))

# The runs mostly wait, so a few at once cost no more time.
AT_ONCE = 3
# For each mistake a test that is about the rule that it breaks, and finds it soon.
FOUND_BY = {
    "work-is-skipped": "test_commands.py::test_work_that_is_cut_short_is_not_claimed",
    "echo-to-sender": "test_delivery.py::test_chat",
    "left-twice": "test_delivery.py::test_left_exactly_once",
    "no-idle-timeout": "test_limits.py::test_who_is_timed_out_and_who_is_not",
    "half-close-closes": "test_lifecycle.py::test_half_close_with_work_running",
}


@pytest.fixture(scope="module")
def runs():
    """{mistake: the runs of the suite that have to find it, to come}; None: the right server.

    The right server is given the whole suite, divided among a few runs.
    """
    files = sorted(path.name for path in SUITE_FOLDER.glob("test_*.py"))
    with SuiteRunner(AT_ONCE) as runner:

        def begin(bug, tests):
            paths = [f"tests/suite/{test}" for test in tests]
            return runner.submit(runner.run, chat_server_command("chat", bug), "chat", *paths)

        whole_suite = [begin(None, files[share::AT_ONCE]) for share in range(AT_ONCE)]
        yield {None: whole_suite} | {bug: [begin(bug, [FOUND_BY[bug]])] for bug in BUGS}


@pytest.mark.parametrize("profile", ["echo", "chat"])
def test_the_short_check_finds_nothing(profile):
    """PROTOCOL.md is enough to write a server from that passes."""
    command = chat_server_command(profile).replace("{options}", "")
    with launch("other_language", command, profile=profile) as server:
        assert first_fault(server) is None


@pytest.mark.parametrize(("bug", "rule"), BUGS.items())
def test_a_planted_mistake_is_found(runs, bug, rule):
    """The report leads to its rule, and a test that is about it has failed."""
    (run,) = runs[bug]
    report = run.result()
    assert report.begin_with == rule
    assert rule in report.failed()


def test_without_a_mistake_the_whole_suite_passes(runs):
    """So it was the mistake that turned a test red. Each rule has a test that passes."""
    reports = [run.result() for run in runs[None]]
    outcomes = [outcome for report in reports for outcome in report.outcomes]
    passed = {outcome.rules[0] for outcome in outcomes if outcome.result is Result.PASSED}
    others = [
        outcome
        for outcome in outcomes
        if outcome.result is not Result.PASSED and outcome.skipped_for is not SkippedFor.SYSTEM
    ]
    assert not others
    assert not [report.cut_short for report in reports if report.cut_short]
    assert passed >= {rule for rule in RULES if ONE_PROFILE.get(rule, "chat") == "chat"}
