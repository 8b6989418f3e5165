"""A server in another language: the right one passes, and each planted mistake is found out."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from harness.conformance import first_fault
from harness.launcher import launch
from tests.other_language import BUGS, chat_server_command, why_it_cannot_run

pytestmark = pytest.mark.skipif(bool(why_it_cannot_run()), reason=str(why_it_cannot_run()))

# For each mistake a test that is about the rule that it breaks, and finds it soon.
FOUND_BY = {
    "names-with-case": "test_handshake.py::test_names_are_unique_without_regard_to_case",
    "name-stays-taken": "test_handshake.py::test_the_lowest_free_guest",
    "one-read-is-one-line": "test_framing.py::test_every_split_of_a_utf8_line",
    "split-utf8": "test_framing.py::test_every_split_of_a_utf8_line",
    "short-send": "test_slow_readers.py::test_every_byte_of_many_answers",
    "rest-is-a-line": "test_framing.py::test_bytes_after_the_last_lf_are_discarded",
    "endless-line": "test_hostile.py::test_endless_line",
    "work-is-skipped": "test_commands.py::test_work_that_is_cut_short_is_not_claimed",
    "echo-to-sender": "test_delivery.py::test_chat",
    "left-twice": "test_delivery.py::test_left_exactly_once",
    "dies-on-reset": "test_hostile.py::test_resets",
    "no-stall-limit": "test_limits.py::test_a_stuck_client_that_goes_on_talking",
    "no-turns": "test_turns.py::test_flooders_take_turns",
    "no-idle-timeout": "test_limits.py::test_who_is_timed_out_and_who_is_not",
    "places-leak": "test_places.py::test_a_place_is_free_again",
    "half-close-closes": "test_lifecycle.py::test_half_close_with_work_running",
    "quit-resets": "test_lifecycle.py::test_orderly_end_after_quit",
    "spin-at-end": "test_leftovers.py::test_the_end_of_input_is_read_once",
    "no-sigterm": "test_stop.py::test_stop_with_nobody_there",
}


def run_suite(report, tests, bug=None):
    """Run some tests against the server in Perl; returns what `--rule-report` says of it."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    command += ["--server", chat_server_command("chat", bug), "--profile=chat"]
    command += ["--run-limit=60", f"--rule-report={report}"]
    done = subprocess.run(
        [*command, *tests],
        cwd=Path(__file__).parent,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert report.exists(), done.stdout + done.stderr
    return json.loads(report.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def runs(request, tmp_path_factory):
    """{mistake: the run that has to find it, as a Future}; None stands for the right server.

    Some at a time: many a run waits in vain for most of its time. Only for the tests chosen.
    """
    folder = tmp_path_factory.mktemp("reports")
    chosen = [
        item.callspec.params["bug"]
        for item in request.session.items
        if getattr(item, "originalname", "") == "test_a_planted_mistake_is_found"
    ]
    all_tests = sorted(set(FOUND_BY.values()))
    with ThreadPoolExecutor(max_workers=3) as pool:
        futures = {None: pool.submit(run_suite, folder / "right.json", all_tests)}
        for bug in chosen:
            report = folder / f"{bug}.json"
            futures[bug] = pool.submit(run_suite, report, [FOUND_BY[bug]], bug)
        yield futures
        for future in futures.values():
            future.cancel()


def outcomes(report):
    """{rule: what became of the tests that are about it}, of those rules that had tests."""
    return {
        rule: {test["outcome"] for test in found["tests"]}
        for rule, found in report["rules"].items()
        if found["tests"]
    }


@pytest.mark.parametrize("profile", ["echo", "chat"])
def test_the_short_check_finds_nothing(profile):
    """PROTOCOL.md is enough to write a server from that passes."""
    command = chat_server_command(profile).replace("{options}", "")
    with launch("other_language", command, profile=profile) as server:
        assert first_fault(server) is None


@pytest.mark.parametrize(("bug", "rule"), BUGS.items())
def test_a_planted_mistake_is_found(runs, bug, rule):
    """The report leads to its rule: by the short check, or else by a test that is about it."""
    report = runs[bug].result()
    assert report["begin_with"] == rule
    if report["preflight"] is None:
        assert "failed" in outcomes(report)[rule]


def test_without_a_mistake_the_same_tests_pass(runs):
    """So it was the mistake that turned them red."""
    report = runs[None].result()
    assert report["preflight"] is None
    assert outcomes(report) == {rule: {"passed"} for rule in BUGS.values()}
