"""`--server`: the suite itself, run by pytest against somebody else's server.

That server is one of ours in disguise, started by a command line or found at an address. Some are
broken or misnamed on purpose, because a suite that never goes red proves nothing.
"""

import json
import os
import re
import shlex
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness.crowd import Crowd, CrowdTimeout
from harness.launcher import PROFILES, REPOSITORY, VERSIONS, launch, server_command
from harness.server_under_test import ServerUnderTest
from harness.waiting import wait_until
from tests.processes import Marked
from tests.small.suite import NOT_COUNTED, load_verdicts, protocol_tests, small_path
from tests.suite import core
from tests.suite.outcomes import summary_of
from tests.suite.rule_report import Findings, Outcome, Result
from tests.suite.rules import MILESTONES, RULES, SUITE_FOLDER, stage_of
from tests.suite.suite_run import SuiteRun

SUITE = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"]
# Plugins are slow to load.
WITHOUT_PLUGINS = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
A_FEW_TESTS = ["test_delivery.py", "-k", "test_echo or test_chat or test_left_once_after_an_idle"]


def run_suite(*options, tests=A_FEW_TESTS):
    """Run some of the suite in a process of its own; returns the CompletedProcess."""
    return subprocess.run(
        [*SUITE, "-q", "-rfs", *options, *tests],
        cwd=SUITE_FOLDER,
        env={**os.environ, **WITHOUT_PLUGINS},
        capture_output=True,
        text=True,
        timeout=180,
    )


def summary(run):
    """The last line of pytest's output without its time: '1 passed, 2 deselected'."""
    return run.stdout.strip().splitlines()[-1].partition(" in ")[0].strip("= ")


def started_by(path, places="--port {port} {options}"):
    """The option that lets the suite start the server in this file."""
    return f"--server={shlex.join([sys.executable, str(path)])} {places}"


V4 = REPOSITORY / "v4_asyncio" / "server.py"
V4_WITHOUT_OPTIONS = started_by(V4, "--port {port}")


def test_a_command():
    """Tests of the other profile are deselected; one that needs our options says so."""
    run = run_suite(V4_WITHOUT_OPTIONS, "--profile=chat")
    assert summary(run).startswith("1 passed, 1 skipped, ")
    assert "--server has no {options}" in run.stdout


def test_an_address():
    """A server that is already running, by HOST:PORT."""
    with launch("v2_select", server_command("v2_select"), profile="echo") as server:
        run = run_suite("--server", f"127.0.0.1:{server.port}", "--profile=echo")
        assert server.process.poll() is None
    assert summary(run).startswith("1 passed, ")


def test_a_server_of_the_other_profile():
    """A chat server that is said to be an echo server is caught, by the short check and by a test.

    The short check ends the run, unless --keep-going is given.
    """
    run = run_suite(V4_WITHOUT_OPTIONS, "--profile=echo")
    assert run.returncode == pytest.ExitCode.TESTS_FAILED
    assert "server does not keep rule D1: (echo) A line of text from alice comes" in run.stdout
    # A close often follows the line before the one that was not answered.
    assert "    before    b'erin\\n' got ['* hello erin']\n    sent      b'0\\n1\\n" in run.stdout
    assert "\ndelivery: next: D1\n" in run.stdout
    assert "FAILED" not in run.stdout
    run = run_suite(V4_WITHOUT_OPTIONS, "--profile=echo", "--keep-going")
    assert run.returncode == pytest.ExitCode.TESTS_FAILED
    assert "FAILED test_delivery.py::test_echo[server]" in run.stdout
    assert "server: D1 is broken; begin with D1." in run.stdout


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--server", "127.0.0.1:8001"], "--profile"),
        (["--profile", "chat"], "--server"),
        (["--server", "python3 mine.py", "--profile", "chat"], "{port}"),
        (["--run-limit", "nan"], "--run-limit must be from 0 to 1000000"),
        (["--rule", "H9"], "ERROR: --rule H9: there are H1, H2, "),
        (["--core"], "--core goes with --server"),
    ],
)
def test_options_that_make_no_sense(options, said):
    """One line on standard error, and pytest's status for a usage error."""
    run = run_suite(*options)
    assert run.returncode == pytest.ExitCode.USAGE_ERROR
    (line,) = [line for line in run.stderr.splitlines() if line.strip()]
    assert said in line


def test_rules_are_marks():
    """`--rule H4` and `-m H4` select the tests that name the rule, and no others."""
    tests = ["--profile=chat", "--collect-only", "test_handshake.py", "test_framing.py"]
    by_option = run_suite(V4_WITHOUT_OPTIONS, "--rule=H4", tests=tests)
    by_mark = run_suite(V4_WITHOUT_OPTIONS, "-m", "H4", tests=tests)
    chosen = [line for line in by_option.stdout.splitlines() if "::" in line]
    assert chosen == [line for line in by_mark.stdout.splitlines() if "::" in line]
    assert any("test_names_are_unique_without_regard_to_case" in line for line in chosen)
    assert not any("test_greeting" in line for line in chosen)


def test_the_stages_come_in_teaching_order():
    """All the tests of a stage come before those of the next, and those that wait come last."""
    run = run_suite(V4_WITHOUT_OPTIONS, "--profile=chat", "--collect-only", tests=[])
    named = protocol_tests()
    lines = [line for line in run.stdout.splitlines() if "::" in line]
    tests = [line.removeprefix("tests/suite/").partition("[")[0] for line in lines]
    stages = [stage_of(named[test][0]) for test in tests]
    assert list(dict.fromkeys(stages)) == [*MILESTONES]
    assert stages == sorted(stages, key=[*MILESTONES].index)
    waits, is_quick = (
        "test_every_byte_of_many_answers",
        "test_white_space_around_a_line_is_stripped",
    )
    # Both are of the stage framing, and the rule of the first is the more fundamental one.
    assert tests.index(f"test_slow_readers.py::{waits}") > tests.index(
        f"test_framing.py::{is_quick}"
    )


def test_the_core_is_what_every_small_py_keeps():
    """`--core` takes a server without any options, and asks for no rule that is not core.

    v2's is given all of it. The others are given what is core of rules that are core in part: the
    rest are tests of which test_small.py holds that they pass.
    """
    of_parts = ["--rule=C4", "--rule=H2"]

    def run(version):
        server = started_by(small_path(version), "--port {port}")
        rules = [] if version == "v2_select" else of_parts
        return run_suite(server, f"--profile={PROFILES[version]}", "--core", *rules, tests=[])

    with ThreadPoolExecutor(2) as threads:
        results = dict(zip(VERSIONS, threads.map(run, VERSIONS), strict=True))
    for result in results.values():
        assert result.returncode == pytest.ExitCode.OK, result.stdout
    whole = results["v2_select"].stdout
    assert "\nall stages of the core are done; not tested: L7\n" in whole
    judged = load_verdicts()
    for test, named in protocol_tests().items():
        if core.belongs(test, named) and test not in core.TESTS_OF_PARTS:
            assert test not in NOT_COUNTED
            for version in VERSIONS:
                assert judged[version].get(named[0]) is None, f"{version}: {test}"


# ---- what a run against a broken server says, and how soon ----


@pytest.fixture
def server_with(tmp_path):
    """`server_with(source)`: write that server into a file; returns the file."""

    def write(source):
        path = tmp_path / "server.py"
        path.write_text(source)
        return path

    return write


@pytest.fixture
def broken_v2(server_with):
    """`broken_v2(wrong, right)`: v2_select with one place changed; returns the file."""

    def write(wrong, right):
        source = (REPOSITORY / "v2_select" / "server.py").read_text()
        assert source.count(right) == 1
        return server_with(source.replace(right, wrong))

    return write


# It sends one line to a client that connects, and answers each line with another.
ANOTHER_PROTOCOL = """
import socketserver, sys

class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        self.wfile.write(b"220 mail.example\\r\\n")
        for line in self.rfile:
            self.wfile.write(b"500 what?\\r\\n")

socketserver.ThreadingTCPServer.daemon_threads = True
socketserver.ThreadingTCPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (
            "import sys; sys.exit('no such device')",
            ["server ended with status 1 before it was listening: no such device"],
        ),
        ("import os; os.abort()", ["server was killed by SIGABRT before it was listening"]),
        (
            ANOTHER_PROTOCOL,
            [
                "server does not keep rule H1: On connect the server sends `* VERSION: enter",
                "    sent      nothing",
                r"    came      b'220 mail.example\r\n'",
                "    expected  '* VERSION: enter your name'",
            ],
        ),
    ],
    ids=["it-exits", "it-is-killed", "another-protocol"],
)
def test_a_server_of_no_use_is_one_message(server_with, source, said):
    """It is not one message for each of two hundred tests, none of which is run."""
    server = started_by(server_with(source), "{port} {options}")
    run = run_suite(server, "--profile=echo", tests=["test_handshake.py"])
    assert run.returncode == pytest.ExitCode.TESTS_FAILED
    for line in said:
        assert run.stdout.count(line) == 1, run.stdout
    assert re.search(r"! \d+ tests not run: it (does not start|breaks H1) ", run.stdout)
    assert "Traceback" not in run.stdout
    assert summary(run) == "no tests ran"


def test_an_address_where_nobody_is():
    """The run ends with one line that says so."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{nobody.getsockname()[1]}"
        run = run_suite("--server", address, "--profile=echo")
    assert f"no server at {address}: Connection refused" in run.stdout
    assert "not run: it is not there" in run.stdout


ANSWER_COMMAND = '    if command == "/ping":\n'


def test_a_server_that_dies_in_the_middle(broken_v2, tmp_path):
    """The failure tells at once how it ended, and its last words; so does the closing summary.

    The run ends with the stage.
    """
    dying = """    if command == "/foo":
        import os
        import signal

        print("one bug too many", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
"""
    server = started_by(broken_v2(dying + ANSWER_COMMAND, ANSWER_COMMAND))
    report = tmp_path / "report.json"
    tests = ["test_delivery.py", "test_commands.py", "-k", "test_unknown_commands or test_echo"]
    run = run_suite(server, "--profile=echo", f"--rule-report={report}", tests=tests)
    ending = (
        r"the server was killed by SIGKILL; its last words:\n(?:.* joined\n){2} *one bug too many"
    )
    assert len(re.findall(ending, run.stdout)) == 3, run.stdout
    assert run.stdout.index("The first failure:\nC5  ") < run.stdout.index("= FAILURES =")
    assert "server: C5 is broken; begin with C5." in run.stdout
    assert "The server ended once while it was being tested." in run.stdout
    assert "b'/foo" in run.stdout.partition("the end of the conversation")[2]
    # The other cases of the test are not run, because they would say the same.
    assert summary(run).startswith("1 failed, 6 skipped, ")
    assert "\ncommands: 0 of 1 rules; next: C5\n" in run.stdout
    assert "! 1 tests not run: commands has broken rules (--keep-going: test on) " in run.stdout
    contents = json.loads(report.read_text())
    assert contents["cut_short_by"]["after_stage"] == "commands"
    assert [test["outcome"] for test in contents["rules"]["D1"]["tests"]] == ["not run"]


def test_a_server_that_lets_nobody_in(broken_v2, tmp_path):
    """What is seen by clients that are in is one line, not a block for each rule.

    And nothing is said of its model.
    """
    program = broken_v2('f"* hi {', 'f"* hello {')
    tests = ["test_framing.py", "test_delivery.py", "test_handshake.py"]
    tests += ["-k", "white_space or test_echo or test_handshake_and_first"]
    run = run_suite(started_by(program), "--profile=echo", "--keep-going", tests=tests)
    by_rule = run.stdout.partition("= by rule =")[2]
    assert "server: H3 is broken; begin with H3.\n" in by_rule
    assert re.findall(r"^([A-Z]\d)  ", by_rule, re.MULTILINE) == ["H3"]
    assert "\nNobody got in (H3). So nothing is known of F6, D1.\n" in by_rule
    assert "\nhandshake: 0 of 1 rules; next: H3\n" in by_rule
    evidence = tmp_path / "evidence.json"
    look = [
        sys.executable,
        "-m",
        "tests.grade.worker",
        "model",
        started_by(program, "--port {port}"),
    ]
    subprocess.run([*look, "--profile=echo", f"--json={evidence}"], cwd=REPOSITORY, timeout=60)
    assert json.loads(evidence.read_text()) == {"evidence": []}


@pytest.fixture
def report_of_a_short_limit(broken_v2, tmp_path):
    """Test a server that breaks F2; returns the CompletedProcess and the file by rule."""

    def run(*options, tests):
        server = started_by(broken_v2("MAX_LINE = 1000", "MAX_LINE = 1024"))
        report = tmp_path / "report.json"
        options = ["--profile=echo", "--keep-going", f"--rule-report={report}", *options]
        return run_suite(server, *options, tests=tests), json.loads(report.read_text())

    return run


def test_what_is_broken_is_put_together_by_rule(report_of_a_short_limit):
    """The closing summary does so, and the file for --rule-report."""
    run, report = report_of_a_short_limit(
        tests=["test_framing.py", "test_delivery.py", "-k", "1024_bytes or test_echo"]
    )
    assert "server: F2 is broken; begin with F2." in run.stdout
    by_rule = run.stdout.partition("= by rule =")[2]
    (about,) = re.findall(r"^F2  A line holds at most 1024 .*\n(?: {4}.*\n)+", by_rule, re.M)
    labels = re.findall(r"^ {4}(\S+) {2,}", about, re.MULTILINE)
    assert labels == ["test", "says", "others", "sent", "came", "expected"], about
    # The rule to begin with has its whole text.
    assert "The connection goes on." in " ".join(about.partition("    test  ")[0].split())
    assert "! line too long" in about.partition("came")[2].partition("expected")[0]
    assert report["begin_with"] == report["preflight"]["rule"] == "F2"
    assert report["cut_short"] is None
    assert next(iter(report["rules"])) == "H1"
    assert "D2" not in report["rules"]
    assert report["rules"]["F2"]["text"].startswith("A line holds at most 1024 bytes")
    outcomes = [test["outcome"] for test in report["rules"]["F2"]["tests"]]
    assert outcomes.count("failed") == 1
    assert set(outcomes[outcomes.index("failed") + 1 :]) == {"not run"}
    assert {test["outcome"] for test in report["rules"]["D1"]["tests"]} == {"passed"}


def test_what_was_not_reached_is_in_the_report(report_of_a_short_limit):
    """It is there as not run, so a run that -x has ended does not look complete."""
    tests = ["test_framing.py", "-k", "1024_bytes or white_space"]
    _, report = report_of_a_short_limit("-x", tests=tests)
    assert "stopping after 1 failures" in report["cut_short"]
    assert [test["outcome"] for test in report["rules"]["F6"]["tests"]] == ["not run"]


def test_a_list_of_another_form_is_the_fault_of_the_list(broken_v2):
    """Each test looks with `/list` whether all have left; an unreadable answer is reported once."""
    server = started_by(broken_v2("members online: ", " online: "))
    tests = ["test_framing.py", "-k", "1024_bytes"]
    run = run_suite(server, "--profile=echo", "--keep-going", tests=tests)
    assert "server: C2 is broken; begin with C2." in run.stdout
    assert "passed" in summary(run)
    assert "StopIteration" not in run.stdout


def outcomes(rule, *of_functions):
    """Made-up outcomes of the tests of a rule, one for each function."""
    return [
        Outcome(f"test_{rule}.py::test_{number}", [rule], Result(result), "server")
        for number, result in enumerate(of_functions)
    ]


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        (
            [*outcomes("D2", "failed"), *outcomes("F5", "failed"), *outcomes("H3", "failed")],
            "server: H3 is broken; F5, D2 fail because of it perhaps; begin with H3.",
        ),
        # A broken rule fails half of its own tests or more.
        (
            [*outcomes("F5", "failed", *["passed"] * 3), *outcomes("L6", "failed", "passed")],
            "server: L6 is broken; F5 fails because of it perhaps; begin with L6.",
        ),
        # Where no rule is broken by that measure, the most fundamental one comes first.
        (
            [
                *outcomes("D2", "failed", "passed", "passed"),
                *outcomes("F5", "failed", *["passed"] * 3),
            ],
            "server: F5 is broken; D2 fails because of it perhaps; begin with F5.",
        ),
    ],
)
def test_where_to_begin(seen, said):
    """The summary begins with the rule without which the others cannot be kept."""
    assert Findings("server", seen).summary()[0] == said


def test_the_closing_line_of_a_server_that_passes():
    """All stages are done. Stops that failed no test are told as well, and what was not tested."""
    target = ServerUnderTest("server", "echo", "mine {port}")
    run = SuiteRun([target])
    in_echo = [rule for rule in RULES if rule not in ("D2", "D3", "D4")]
    findings = run.findings_about(target)
    findings.outcomes = [test for rule in in_echo for test in outcomes(rule, "passed")]
    assert summary_of(run, target, with_stage=True) == ["all stages are done"]
    assert summary_of(run, target, with_stage=False) == []
    for outcome in findings.outcomes:
        if outcome.rules == ["L1"]:
            outcome.result = Result.SKIPPED
    run.session.killed = 1
    run.session.note_stop(2.5)
    run.session.note_stop(4)
    assert summary_of(run, target, with_stage=True) == [
        "A server did not stop when it was asked to, once (L4).",
        "A server took more than 3 s to stop, once (L4: 2 s).",
        "",
        "all stages are done; not tested: L1",
    ]
    # Some rules alone do not make a stage.
    findings.outcomes.pop()
    assert summary_of(run, target, with_stage=True)[-1].endswith("(L4: 2 s).")


def test_a_timeout_in_a_crowd_tells_how_all_stand():
    """It tells what each has sent and got, and whether it is closed. Bytes may be no text."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        Crowd(listener.getsockname(), "chat") as room,
    ):
        quiet, closed = room.connect(["quiet", "closed"])
        connections = [listener.accept()[0] for _ in range(2)]
        connections[0].sendall(b"caf\xe9\n")
        connections[1].close()
        quiet.outgoing += b"/ping x\n"
        room.pump(lambda: quiet.incoming and closed.closed and not quiet.outgoing, "their parts")
        room.connect(f"other-{number}" for number in range(11))
        with pytest.raises(CrowdTimeout, match=r"^not within 0\.1 s: a pong\n") as info:
            room.pump(lambda: False, "a pong", 0.1)
        assert quiet.lines() == ["caf\\xe9"]
        connections[0].close()
    first_line, second_line, *_, last_line = info.value.members
    assert first_line == "closed: sent nothing; got nothing; closed"
    assert second_line == (
        r"quiet: sent 8 bytes, at last b'/ping x\n'; got 5 bytes, at last b'caf\xe9\n'; open"
    )
    assert (len(info.value.members), last_line) == (11, "and 3 more")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM that could be handled")
@pytest.mark.parametrize("way", ["SIGTERM", "--run-limit"])
def test_a_run_that_is_cut_short(broken_v2, tmp_path, way):
    """It ends with its results so far, and leaves no server behind."""
    # A client that sends /foo waits for ever, and so does the test that has sent it.
    foo_was_read = tmp_path / "foo_was_read"
    hanging = f"""    if command == "/foo":
        open({str(foo_was_read)!r}, "w").close()
        signal.pause()
"""
    server = started_by(broken_v2(hanging + ANSWER_COMMAND, ANSWER_COMMAND), "--port {port}")
    command = [*SUITE, "-v", server, "--profile=echo", "-k", "test_unknown_commands"]
    command += ["--run-limit=4"] if way == "--run-limit" else []
    marked = Marked()
    with subprocess.Popen(
        [*command, "test_commands.py"],
        cwd=SUITE_FOLDER,
        env={**marked.environment, **WITHOUT_PLUGINS},
        stdout=subprocess.PIPE,
        text=True,
    ) as run:
        try:
            wait_until(foo_was_read.exists, "the test to wait for its answer", seconds=20)
            if way == "SIGTERM":
                run.terminate()
            output = run.communicate(timeout=20)[0]
        finally:
            run.kill()
    assert run.returncode == pytest.ExitCode.INTERRUPTED, output
    assert f"ended by {way}" in output
    assert "test_commands.py::test_unknown_commands[server-/foo-/foo] (call)" in output
    assert marked.left_behind() == []
