"""The launcher: it starts and stops any program that listens, and says why another one fails."""

import contextlib
import os
import re
import shlex
import signal
import socket
import subprocess
import sys

import pytest

from benchmarks.load.probe import ServerProbe
from harness import launcher
from harness.launcher import LaunchError, launch
from harness.proc import ProcessView
from harness.session import Session
from harness.waiting import wait_until

POSIX = pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM to obey or ignore")
ANNOUNCING = """
import socket, sys, time
listener = socket.create_server(("127.0.0.1", 0))
print("thing listening on 127.0.0.1:%d" % listener.getsockname()[1], flush=True)
"""
ANNOUNCING_AND_STAYING = ANNOUNCING + "time.sleep(60)"
BINDS = "import socket, sys; socket.create_server(('127.0.0.1', int(sys.argv[1])))"

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has the parent-death signal")
RUNNER = """
import subprocess, sys, threading, time
from harness import launcher
launch = launcher.launch
"""


def python(code):
    return [sys.executable, "-c", code]


def run_to_the_end(code):
    """Run a program that uses the launcher; returns what it and its children print."""
    command = python(RUNNER + code)
    options = {"cwd": launcher.REPOSITORY, "text": True, "timeout": 20}
    return subprocess.run(command, stdout=subprocess.PIPE, **options).stdout


def accepts(address):
    try:
        socket.create_connection(address, timeout=5).close()
    except ConnectionError:
        # It was refused, or reset by the end of the process.
        return False
    return True


def wait_until_gone(address):
    wait_until(lambda: not accepts(address), "the server to be gone")


@pytest.mark.parametrize("version", launcher.VERSIONS)
def test_each_version_is_started_and_stopped(version):
    command = launcher.server_command(version)
    with launch(version, command, profile=launcher.PROFILES[version]) as server:
        assert server.name == version
        assert accepts(server.address)
        assert server.stop() == 0
        assert not accepts(server.address)
        assert server.log_path.exists()
    assert not server.log_path.exists()


def test_address_of_ipv6_is_read_without_its_brackets():
    code = "import time; print('thing listening on [::1]:8003', flush=True); time.sleep(60)"
    with launch("thing", python(code), profile="echo") as server:
        assert server.address == ("::1", 8003)


def test_a_command_that_announces_nothing_is_found_at_its_port():
    code = """
import socket, sys
print("Server ready!", flush=True)
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    listener.accept()[0].close()
"""
    with launch("theirs", f"{shlex.join(python(code))} {{port}}", profile="chat") as server:
        assert server.host == "127.0.0.1"
        assert accepts(server.address)


# A server of somebody who does not look at the port that it is told; the last of its arguments is a
# file that it makes when it has printed everything.
DEAF_TO_ITS_PORT = """
import logging, signal, sys, time
logging.basicConfig(level=logging.INFO)
sys.stdout.reconfigure(encoding="latin-1")
logging.info("waiting")
print("Chat server 1.0")
{then}
open(sys.argv[-1], "w").close()
time.sleep(60)
"""
IS_NO_TEXT = 'print("caf\\xe9\\x1b is open at 5000")'
DEAF_TO_CTRL_C = "; sys.stdout.flush(); signal.signal(signal.SIGINT, signal.SIG_IGN)"
ON_BOTH_STREAMS = "Chat server 1.0 / caf\ufffd? is open at 5000 / INFO:root:waiting"
OF_A_FLOOD = "x" * 200 + "... / INFO:root:waiting"


class UntilThere(Session):
    """A session in which a server has had all the time it needs once there is a certain file."""

    def __init__(self, path):
        super().__init__()
        self.path = path

    def wait_for_a_start(self, seconds):
        wait_until(self.path.exists, "the server to print", 30)
        return 0.1


@pytest.mark.parametrize(
    ("then", "said", "patience"),
    [
        pytest.param(IS_NO_TEXT, ON_BOTH_STREAMS, 30, marks=POSIX, id="held back"),
        pytest.param(IS_NO_TEXT + DEAF_TO_CTRL_C, ON_BOTH_STREAMS, 1, id="flushed"),
        pytest.param('print("x" * 9_000_000, flush=True)', OF_A_FLOOD, 30, id="a flood"),
    ],
)
def test_a_server_that_listens_elsewhere_is_quoted(then, said, patience, monkeypatch, tmp_path):
    """What it printed last says where, though it is no text, or Python has held it back."""
    monkeypatch.setattr(launcher, "LAST_WORDS_SECONDS", patience)
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    there = tmp_path / "there"
    words = [*python(DEAF_TO_ITS_PORT.format(then=then)), "PORT", str(there)]
    command = shlex.join(words).replace("PORT", "{port}")
    with pytest.raises(LaunchError) as caught:
        launch("mine", command, profile="echo", session=UntilThere(there))
    assert str(caught.value) == f"mine was not listening on its {{port}} after 0.1 s: {said}"


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (
            python(
                "import sys; print('first', file=sys.stderr); sys.exit('no such host: nowhere')"
            ),
            "mine ended with status 1 before it was listening: no such host: nowhere",
        ),
        (
            f"{shlex.join(python('print(7, flush=True); exit(1)'))} {{port}}",
            "mine ended with status 1 before it was listening: 7",
        ),
        (
            python("import time; print('hello', flush=True); time.sleep(60)"),
            "mine said 'hello' where 'NAME listening on HOST:PORT' was expected",
        ),
        (["/no/such/program"], "mine: cannot run /no/such/program: .+"),
        ("my-server", r"mine: the command needs a \{port\} to be told: my-server"),
    ],
)
def test_a_server_that_does_not_start_says_why_in_one_line(command, message):
    with pytest.raises(LaunchError) as caught:
        launch("mine", command, profile="echo")
    assert re.fullmatch(message, str(caught.value))


def test_a_server_that_says_nothing_is_given_up_and_ended(tmp_path):
    pid_file = tmp_path / "pid"
    code = f"import os, time; open({str(pid_file)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    with pytest.raises(LaunchError, match=r"mine was not listening after 0\.5 s"):
        launch("mine", python(code), profile="echo", startup_seconds=0.5)
    if os.name != "nt":
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid_file.read_text()), 0)


def test_a_command_is_not_taken_for_another_server_at_its_port(monkeypatch):
    """Another server listens there: ours cannot, says so, and must not pass for it."""
    command = f"{shlex.join(python(BINDS))} {{port}}"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = contextlib.nullcontext(taken.getsockname()[1])
        monkeypatch.setattr(launcher, "reserved_port", lambda: port)
        with pytest.raises(LaunchError, match="ended with status 1 before it was listening"):
            launch("late", command, profile="echo")


@pytest.mark.skipif(sys.platform != "linux", reason="which ports a client gets is read from /proc")
def test_a_port_for_a_command_is_none_that_clients_are_given():
    """Otherwise one of thousands of clients would now and then have it before the server."""
    with socket.create_server(("127.0.0.1", 0)) as somebody:
        assert launcher.free_port() < somebody.getsockname()[1]


def test_a_port_is_given_to_nobody_else_until_its_server_listens(monkeypatch):
    """Other runs beside this one start servers at the same time."""
    with launcher.reserved_port() as port:
        # For 0 the system chooses one, which may be taken: so there are some.
        monkeypatch.setattr(launcher.random, "sample", lambda *_: [port] + [0] * 30)
        assert launcher.free_port() != port


def test_a_chatty_server_is_never_blocked_by_its_output():
    # This is more than any pipe holds.
    code = f"""{ANNOUNCING}
print("x" * 1_000_000, flush=True)
print("y" * 1_000_000, file=sys.stderr, flush=True)
listener.accept()[0].sendall(b"still here")
"""
    with (
        launch("loud", python(code), profile="echo") as server,
        socket.create_connection(server.address, timeout=10) as connection,
    ):
        assert connection.recv(100) == b"still here"


@LINUX
def test_a_process_whose_name_is_no_text_is_seen():
    """It may choose its name, which the kernel puts among the numbers of /proc/PID/status."""
    renames_itself = "import ctypes; PR_SET_NAME = 15; ctypes.CDLL(None).prctl(PR_SET_NAME, name)"
    code = f"name = b'caf\\xe9'\n{renames_itself}{ANNOUNCING_AND_STAYING}"
    with launch("renamed", python(code), profile="echo") as server:
        assert ProcessView(server.pid).peak_memory() > 0
        assert ServerProbe(server.pid).wakeups() >= 0


@POSIX
def test_a_server_that_ignores_sigterm_is_killed(monkeypatch):
    monkeypatch.setattr(launcher, "STOP_SECONDS", 0.2)
    code = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)" + ANNOUNCING_AND_STAYING
    with launch("stubborn", python(code), profile="echo") as server:
        assert server.stop() == -9


@POSIX
def test_what_a_wrapper_started_does_not_outlive_it(tmp_path):
    script = tmp_path / "server.py"
    script.write_text(ANNOUNCING_AND_STAYING)
    shell = f'"{sys.executable}" {script} & wait'
    with launch("wrapped", ["/bin/sh", "-c", shell], profile="echo") as server:
        assert accepts(server.address)
    wait_until_gone(server.address)


@POSIX
def test_ctrl_c_during_the_start_does_not_lose_the_process(monkeypatch):
    started = []

    def interrupted_popen(*arguments, **options):
        started.append(real_popen(*arguments, **options))
        # It comes before the launcher knows of the process.
        signal.raise_signal(signal.SIGINT)
        return started[0]

    real_popen = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", interrupted_popen)
    with pytest.raises(KeyboardInterrupt):
        launch("early", python(ANNOUNCING_AND_STAYING), profile="echo")
    # This happens at exit.
    launcher._end_leftovers()
    assert started[0].poll() is not None


# ---- the runner is killed ----


# A system other than Linux has no such signal.
WITHOUT_THE_SIGNAL = "launcher._prctl = None\n"
IN_A_THREAD = "thread = threading.Thread(target=start)\nthread.start()\nthread.join()\n"


@POSIX
@pytest.mark.parametrize(
    ("before", "start", "command"),
    [
        pytest.param("", "start()\n", [sys.executable], marks=LINUX, id="by the kernel"),
        pytest.param(WITHOUT_THE_SIGNAL, "start()\n", [sys.executable], id="by a shell"),
        pytest.param("", IN_A_THREAD, [sys.executable], id="from a thread that ends"),
        pytest.param(
            WITHOUT_THE_SIGNAL,
            "start()\n",
            ["/bin/sh", "-c", '"$@" & wait', "wrapper", sys.executable],
            id="wrapped, by a shell",
        ),
    ],
)
def test_no_server_outlives_a_runner_that_was_killed(before, start, command):
    server = [*command, "-c", ANNOUNCING_AND_STAYING]
    code = f"""
def start():
    print(launch("orphan", {server!r}, profile="echo").port, flush=True)
{before}{start}time.sleep(60)
"""
    with subprocess.Popen(
        python(RUNNER + code), cwd=launcher.REPOSITORY, stdout=subprocess.PIPE, text=True
    ) as runner:
        try:
            address = ("127.0.0.1", int(runner.stdout.readline()))
            # The server lives on for as long as its runner does.
            with pytest.raises(subprocess.TimeoutExpired):
                runner.wait(0.3)
            assert accepts(address)
        finally:
            runner.kill()
    wait_until_gone(address)


@LINUX
def test_a_runner_killed_during_a_start_leaves_nothing():
    """Between fork() and the child's request the kernel sends no signal, so the child looks."""
    code = """
import os, signal
def lose_the_runner():
    runner = os.getppid()
    os.kill(runner, signal.SIGKILL)
    while os.getppid() == runner:
        time.sleep(0.001)
launcher.start_process([sys.executable, "-c", "print('alive')"], preexec_fn=lose_the_runner)
"""
    assert run_to_the_end(code) == ""


@LINUX
def test_what_the_caller_prepares_in_the_child_is_done_beside_it():
    child = (
        "import ctypes, os, resource\n"
        "number = ctypes.c_int()\n"
        "PR_GET_PDEATHSIG = 2\n"
        "ctypes.CDLL(None).prctl(PR_GET_PDEATHSIG, ctypes.byref(number))\n"
        "limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]\n"
        "print(number.value, limit, os.getsid(0) == os.getpid())\n"
    )
    code = f"""
import resource
few = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
launcher.start_process([sys.executable, "-c", {child!r}], preexec_fn=few).wait()
"""
    assert run_to_the_end(code) == f"{signal.SIGKILL:d} 40 True\n"


@POSIX
def test_the_shell_that_waits_for_our_end_goes_with_the_server(monkeypatch):
    monkeypatch.setattr(launcher, "_prctl", None)
    with launch("mine", python(ANNOUNCING_AND_STAYING), profile="echo") as server:
        guard = launcher._alive[server.process]
        assert guard.poll() is None
    assert guard.poll() is not None
    assert server.process not in launcher._alive
