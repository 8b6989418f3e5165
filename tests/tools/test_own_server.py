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

import pytest

from harness.launcher import REPOSITORY, launch, server_command
from harness.waiting import wait_until
from tests.processes import Marked
from tests.suite.rule_report import Findings, Outcome, Result
from tests.suite.rules import SUITE_FOLDER

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
        timeout=60,
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


def test_a_server_that_dies_in_the_middle(broken_v2):
    """The failure and the closing summary tell how it ended, and its last words."""
    dying = """    if command == "/foo":
        import os
        import signal

        print("one bug too many", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
"""
    server = started_by(broken_v2(dying + ANSWER_COMMAND, ANSWER_COMMAND))
    tests = ["test_commands.py", "-k", "test_unknown_commands"]
    run = run_suite(server, "--profile=echo", tests=tests)
    ending = (
        r"the server was killed by SIGKILL; its last words:\n(?:.* joined\n){2} *one bug too many"
    )
    assert len(re.findall(ending, run.stdout)) == 2, run.stdout
    assert "server: C5 is broken; begin with C5." in run.stdout
    assert "The server ended once while it was being tested." in run.stdout
    assert "b'/foo" in run.stdout.partition("the end of the conversation")[2]
    # The other cases of the test are not run, because they would say the same.
    assert summary(run).startswith("1 failed, 6 skipped, ")


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
    (about,) = re.findall(r"^F2  A line holds at most 1024 .*\n(?: {4}.*\n)+", run.stdout, re.M)
    labels = [line.split()[0] for line in about.splitlines()]
    assert labels == ["F2", "test", "sent", "came", "expected"], about
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
        (outcomes("D3", "failed", "passed", "passed"), "server: D3 is broken; begin with D3."),
    ],
)
def test_where_to_begin(seen, said):
    """The summary begins with the rule without which the others cannot be kept."""
    assert Findings("server", seen).summary()[0] == said


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
    command += ["--run-limit=3"] if way == "--run-limit" else []
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
