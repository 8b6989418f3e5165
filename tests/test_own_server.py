"""`--server`: the suite itself, run by pytest against somebody else's server.

The somebody else is one of our servers in disguise, started by a command line or found at an
address; and once under a false flag, for a suite that never goes red proves nothing.
"""

import json
import os
import re
import shlex
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from harness.launcher import REPOSITORY, launch, server_command
from harness.waiting import wait_until
from tests.processes import Marked
from tests.rule_report import Findings, Outcome

SERVER = REPOSITORY / "v4_asyncio" / "server.py"
A_FEW_TESTS = ["test_delivery.py", "-k", "test_echo or test_chat or test_left_once_after_an_idle"]


def run_suite(*options, tests=A_FEW_TESTS):
    """Run some of the suite in a process of its own; returns the CompletedProcess."""
    here = Path(__file__).parent
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "-rfs", *options]
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # plugins are slow to load
    return subprocess.run(
        [*command, *tests], cwd=here, env=environment, capture_output=True, text=True, timeout=60
    )


def summary(done):
    """The last line of pytest's output without its time: '1 passed, 2 deselected'."""
    return done.stdout.strip().splitlines()[-1].partition(" in ")[0].strip("= ")


def command_line(*command):
    return shlex.join([sys.executable, *command])


def test_a_command():
    """The tests of the other profile are deselected; what needs our options says why it cannot."""
    done = run_suite("--server", f"{command_line(str(SERVER))} --port {{port}}", "--profile=chat")
    assert summary(done).startswith("1 passed, 1 skipped, ")
    assert "--server has no {options}" in done.stdout


def test_a_command_that_takes_our_options():
    """With {options} nothing has to be skipped."""
    command = f"{command_line(str(SERVER))} --port {{port}} {{options}}"
    done = run_suite("--server", command, "--profile=chat")
    assert summary(done).startswith("2 passed, ")
    assert "skipped" not in summary(done)


def test_an_address():
    """A server that is already running, by HOST:PORT."""
    with launch("v2_select", server_command("v2_select"), profile="echo") as server:
        done = run_suite("--server", f"127.0.0.1:{server.port}", "--profile=echo")
        assert server.process.poll() is None
    assert summary(done).startswith("1 passed, ")


def test_a_server_of_the_other_profile():
    """A chat room that is said to be an echo server is found out, by the short check and by a test.

    That ends the run, unless one wants to know more.
    """
    server = f"{command_line(str(SERVER))} --port {{port}}"
    done = run_suite("--server", server, "--profile=echo")
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    assert "server does not keep rule D1: (echo) A line of text from alice comes" in done.stdout
    assert "FAILED" not in done.stdout
    done = run_suite("--server", server, "--profile=echo", "--keep-going")
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    assert "FAILED test_delivery.py::test_echo[server]" in done.stdout
    assert "server: D1 is broken; begin with D1." in done.stdout


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--server", "127.0.0.1:8001"], "--profile"),
        (["--profile", "chat"], "--server"),
        (["--server", "python3 mine.py", "--profile", "chat"], "{port}"),
        (["--run-limit", "nan"], "--run-limit must be from 0 to 1000000"),
    ],
)
def test_options_that_make_no_sense(options, said):
    """One line on standard error, and pytest's status for a usage error."""
    done = run_suite(*options)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    (line,) = [line for line in done.stderr.splitlines() if line.strip()]
    assert said in line


# What a run against a server that is wrong says, and how soon


def run_against(
    tmp_path,
    source,
    *options,
    tests=("test_handshake.py",),
    command="{python} {file} {port} {options}",
):
    """Run the suite against a server of the echo profile with that source."""
    path = tmp_path / "server.py"
    path.write_text(source)
    command = command.replace("{python}", shlex.quote(sys.executable))
    command = command.replace("{file}", shlex.quote(str(path)))
    return run_suite("--server", command, "--profile=echo", *options, tests=tests)


# One line is sent to who connects, and each line that comes is answered with it.
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
def test_a_server_of_no_use_is_one_message(tmp_path, source, said):
    """Not one for each of two hundred tests, of which none is run."""
    done = run_against(tmp_path, source)
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    for line in said:
        assert done.stdout.count(line) == 1, done.stdout
    assert re.search(r"! \d+ tests not run: it (does not start|breaks H1) ", done.stdout)
    assert "Traceback" not in done.stdout
    assert summary(done) == "no tests ran"


def test_an_address_where_nobody_is():
    """One line that says so."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{nobody.getsockname()[1]}"
        done = run_suite("--server", address, "--profile=echo")
    assert f"no server at {address}: Connection refused" in done.stdout
    assert "not run: it is not there" in done.stdout


def broken_v2(wrong, right):
    """v2_select's source with one place changed; it is started as `server.py --port {port}`."""
    source = (REPOSITORY / "v2_select" / "server.py").read_text()
    assert source.count(right) == 1
    return source.replace(right, wrong)


AS_OURS = "{python} {file} --port {port} {options}"
ANSWER_COMMAND = '    if command == "/ping":\n'


def test_a_server_that_dies_in_the_middle(tmp_path):
    """How it ended and its last words stand in the failure, and in the closing summary."""
    dying = """    if command == "/foo":
        import os
        import signal

        print("one bug too many", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
"""
    done = run_against(
        tmp_path,
        broken_v2(dying + ANSWER_COMMAND, ANSWER_COMMAND),
        tests=["test_commands.py", "-k", "test_unknown_commands"],
        command=AS_OURS,
    )
    said = (
        r"the server was killed by SIGKILL; its last words:\n(?:.* joined\n){2} *one bug too many"
    )
    assert len(re.findall(said, done.stdout)) == 2, done.stdout
    assert "server: C5 is broken; begin with C5." in done.stdout
    assert "The server ended once while it was being tested." in done.stdout
    assert "b'/foo" in done.stdout.partition("the end of the conversation")[2]
    # The other cases of the test would say the same.
    assert summary(done).startswith("1 failed, 6 skipped, ")


def test_what_is_broken_is_put_together_by_rule(tmp_path):
    """In the closing summary, and in the file for --rule-report."""
    report = tmp_path / "report.json"
    done = run_against(
        tmp_path,
        broken_v2("MAX_LINE = 1000", "MAX_LINE = 1024"),
        "--keep-going",
        f"--rule-report={report}",
        tests=["test_framing.py", "test_delivery.py", "-k", "1024_bytes or test_echo"],
        command=AS_OURS,
    )
    assert "server: F2 is broken; begin with F2." in done.stdout
    (about,) = re.findall(r"^F2  A line holds at most 1024 .*\n(?: {4}.*\n)+", done.stdout, re.M)
    said = [line.split()[0] for line in about.splitlines()]
    assert said == ["F2", "test", "sent", "came", "expected"], about
    assert "! line too long" in about.partition("came")[2].partition("expected")[0]
    found = json.loads(report.read_text())
    assert found["begin_with"] == found["preflight"]["rule"] == "F2"
    assert found["cut_short"] is None
    assert next(iter(found["rules"])) == "H1"
    assert "D2" not in found["rules"]
    assert found["rules"]["F2"]["text"].startswith("A line holds at most 1024 bytes")
    outcomes = [test["outcome"] for test in found["rules"]["F2"]["tests"]]
    assert outcomes.count("failed") == 1
    assert set(outcomes[outcomes.index("failed") + 1 :]) == {"not run"}
    assert {test["outcome"] for test in found["rules"]["D1"]["tests"]} == {"passed"}


def outcomes(rule, *of_functions):
    """Made-up outcomes of the tests of a rule, one for each function."""
    return [
        Outcome(f"test_{rule}.py::test_{number}", [rule], outcome, "server")
        for number, outcome in enumerate(of_functions)
    ]


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        (
            [*outcomes("D2", "failed"), *outcomes("F5", "failed"), *outcomes("H3", "failed")],
            "server: H3 is broken; F5, D2 fail because of it perhaps; begin with H3.",
        ),
        # Half of its own tests are the mark of a broken rule.
        (
            [*outcomes("F5", "failed", *["passed"] * 3), *outcomes("L6", "failed", "passed")],
            "server: L6 is broken; F5 fails because of it perhaps; begin with L6.",
        ),
        ([*outcomes("D3", "failed", "passed", "passed")], "server: D3 is broken; begin with D3."),
    ],
)
def test_where_to_begin(seen, said):
    """With the rule without which the others cannot be kept."""
    assert Findings("server", seen).summary()[0] == said


def test_rules_are_marks():
    """`--rule H4` and `-m H4` select the tests that name the rule, and no others."""
    server = ["--server", f"{command_line(str(SERVER))} --port {{port}}", "--profile=chat"]
    tests = ["test_handshake.py", "test_framing.py"]
    by_option = run_suite(*server, "--rule=H4", "--collect-only", tests=tests)
    by_mark = run_suite(*server, "-m", "H4", "--collect-only", tests=tests)
    chosen = [line for line in by_option.stdout.splitlines() if "::" in line]
    assert chosen == [line for line in by_mark.stdout.splitlines() if "::" in line]
    assert any("test_names_are_unique_without_regard_to_case" in line for line in chosen)
    assert not any("test_greeting" in line for line in chosen)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM that could be handled")
@pytest.mark.parametrize("way", ["SIGTERM", "--run-limit"])
def test_a_run_that_is_cut_short(tmp_path, way):
    """It ends with its results so far, and leaves no server behind."""
    # Whoever sends /foo waits for ever, and so does the test that has sent it.
    asked = tmp_path / "asked"
    hanging = f"""    if command == "/foo":
        open({str(asked)!r}, "w").close()
        signal.pause()
"""
    source = broken_v2(hanging + ANSWER_COMMAND, ANSWER_COMMAND)
    (tmp_path / "server.py").write_text(source)
    marked = Marked()
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-v"]
    command += ["--server", f"{command_line(str(tmp_path / 'server.py'))} --port {{port}}"]
    command += ["--profile=echo", "-k", "test_unknown_commands"]
    command += ["--run-limit=3"] if way == "--run-limit" else []
    with subprocess.Popen(
        [*command, "test_commands.py"],
        cwd=Path(__file__).parent,
        env={**marked.environment, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        stdout=subprocess.PIPE,
        text=True,
    ) as run:
        try:
            wait_until(asked.exists, "the test to wait for its answer", seconds=20)
            if way == "SIGTERM":
                run.terminate()
            output = run.communicate(timeout=20)[0]
        finally:
            run.kill()
    assert run.returncode == pytest.ExitCode.INTERRUPTED, output
    assert f"ended by {way}" in output
    assert "test_commands.py::test_unknown_commands[server-/foo-/foo] (call)" in output
    assert marked.left_behind() == []


def test_a_rule_that_there_is_not():
    """One line, with those that there are."""
    done = run_suite("--rule", "H9")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    (line,) = [line for line in done.stderr.splitlines() if line.strip()]
    assert line.startswith("ERROR: --rule H9: there are H1, H2, ")


def test_what_was_not_reached_is_in_the_report(tmp_path):
    """As not run; a run that -x has ended does not look as if it had been whole."""
    report = tmp_path / "report.json"
    run_against(
        tmp_path,
        broken_v2("MAX_LINE = 1000", "MAX_LINE = 1024"),
        "--keep-going",
        "-x",
        f"--rule-report={report}",
        tests=["test_framing.py", "-k", "1024_bytes or white_space"],
        command=AS_OURS,
    )
    found = json.loads(report.read_text())
    assert "stopping after 1 failures" in found["cut_short"]
    assert [test["outcome"] for test in found["rules"]["F6"]["tests"]] == ["not run"]


def test_a_list_of_another_form_is_the_fault_of_the_list(tmp_path):
    """Each test looks with `/list` whether all have left; that one cannot look says so once."""
    done = run_against(
        tmp_path,
        broken_v2("members online: ", " online: "),
        "--keep-going",
        tests=["test_framing.py", "-k", "1024_bytes"],
        command=AS_OURS,
    )
    assert "server: C2 is broken; begin with C2." in done.stdout
    assert "passed" in summary(done)
    assert "StopIteration" not in done.stdout
