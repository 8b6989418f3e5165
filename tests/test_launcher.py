"""The launcher: any program that listens can be started, told from one that fails, stopped."""

import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness import launcher
from harness.launcher import LaunchError, launch

POSIX = pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM to obey or ignore")
ANNOUNCING = """
import socket, sys, time
listener = socket.create_server(("127.0.0.1", 0))
print("thing listening on 127.0.0.1:%d" % listener.getsockname()[1], flush=True)
"""
BINDS = "import socket, sys; socket.create_server(('127.0.0.1', int(sys.argv[1])))"


LINUX = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has the parent-death signal")
RUNNER = """
import subprocess, sys, threading, time
from harness import launcher
launch = launcher.launch
"""


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def run_to_the_end(code: str) -> str:
    """Run a program that uses the launcher; what it and its children print until all have ended."""
    command = python(RUNNER + code)
    done = subprocess.run(
        command, cwd=launcher.REPOSITORY, stdout=subprocess.PIPE, text=True, timeout=20
    )
    return done.stdout


def accepts(address: tuple[str, int]) -> bool:
    try:
        socket.create_connection(address, timeout=5).close()
    except ConnectionError:  # refused, or reset by the end of the process
        return False
    return True


def wait_until_gone(address: tuple[str, int]) -> None:
    """For a server whose end is not ours to wait for, as it is not our child."""
    deadline = time.monotonic() + 10
    while accepts(address):
        assert time.monotonic() < deadline, "the server is still there after 10 s"
        time.sleep(0.02)  # it accepts nobody, and its queue is short


@pytest.mark.parametrize("version", launcher.VERSIONS)
def test_each_version_is_started_and_stopped(version: str) -> None:
    command = launcher.server_command(version)
    with launch(version, command, profile=launcher.PROFILES[version]) as server:
        assert server.name == version
        assert accepts(server.address)
        assert server.stop() == 0
        assert not accepts(server.address)
        assert server.log_path.exists()
    assert not server.log_path.exists()


def test_address_of_ipv6_is_read_without_its_brackets() -> None:
    code = "print('thing listening on [::1]:8003', flush=True); input()"
    with launch("thing", python(f"import time; {code[:-9]}; time.sleep(60)"), profile="echo") as it:
        assert it.address == ("::1", 8003)


def test_a_command_that_announces_nothing_is_found_at_its_port() -> None:
    code = """
import socket, sys
print("Server ready!", flush=True)
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    listener.accept()[0].close()
"""
    command = f'"{sys.executable}" -c "{code.replace(chr(34), chr(39))}" {{port}}'
    with launch("theirs", command, profile="chat") as server:
        assert server.host == "127.0.0.1"
        assert accepts(server.address)


def test_a_server_that_dies_says_why_in_one_line() -> None:
    code = "import sys; print('first', file=sys.stderr); sys.exit('no such host: nowhere')"
    with pytest.raises(LaunchError) as caught:
        launch("mine", python(code), profile="echo")
    expected = "mine ended with status 1 before it was listening: no such host: nowhere"
    assert str(caught.value) == expected


def test_a_server_that_says_nothing_is_given_up_and_ended(tmp_path: Path) -> None:
    told = tmp_path / "pid"
    code = f"import os, time; open({str(told)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    with pytest.raises(LaunchError, match=r"mine was not listening after 0\.5 s"):
        launch("mine", python(code), profile="echo", startup_seconds=0.5)
    if os.name != "nt":
        with pytest.raises(ProcessLookupError):
            os.kill(int(told.read_text()), 0)


def test_a_server_that_says_something_else_is_told_what_was_expected() -> None:
    code = "import time; print('hello', flush=True); time.sleep(60)"
    with pytest.raises(LaunchError, match="said 'hello' where 'NAME listening on HOST:PORT'"):
        launch("mine", python(code), profile="echo")


def test_a_missing_program_is_one_line() -> None:
    with pytest.raises(LaunchError, match="mine: cannot run /no/such/program"):
        launch("mine", ["/no/such/program"], profile="echo")


def test_a_command_line_has_to_take_a_port() -> None:
    with pytest.raises(LaunchError, match=r"needs a \{port\}"):
        launch("mine", "my-server", profile="echo")


def test_a_command_is_not_taken_for_another_server_at_its_port() -> None:
    """Somebody else listens there: ours cannot, and says so, and must not be found alive."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(launcher, "_free_port", lambda: port)
            command = f"{shlex.quote(sys.executable)} -c {shlex.quote(BINDS)} {{port}}"
            with pytest.raises(LaunchError, match="ended with status 1 before it was listening"):
                launch("late", command, profile="echo")


@pytest.mark.skipif(sys.platform != "linux", reason="which ports a client gets is read from /proc")
def test_a_port_for_a_command_is_none_that_clients_are_given() -> None:
    """Else one of thousands of clients would now and then have it before the server binds it."""
    with socket.create_server(("127.0.0.1", 0)) as somebody:
        assert launcher._free_port() < somebody.getsockname()[1]


def test_a_chatty_server_is_never_blocked_by_its_output() -> None:
    code = (
        ANNOUNCING
        + """
print("x" * 1_000_000, flush=True)  # more than any pipe holds
print("y" * 1_000_000, file=sys.stderr, flush=True)
listener.accept()[0].sendall(b"still here")
"""
    )
    with (
        launch("loud", python(code), profile="echo") as server,
        socket.create_connection(server.address, timeout=10) as connection,
    ):
        assert connection.recv(100) == b"still here"


@POSIX
def test_a_server_that_ignores_sigterm_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher, "STOP_SECONDS", 0.2)
    code = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)" + ANNOUNCING
    with launch("stubborn", python(code + "time.sleep(60)"), profile="echo") as server:
        assert server.stop() == -9


@POSIX
def test_what_a_wrapper_started_does_not_outlive_it(tmp_path: Path) -> None:
    script = tmp_path / "server.py"
    script.write_text(ANNOUNCING + "time.sleep(60)")
    shell = f'"{sys.executable}" {script} & wait'
    with launch("wrapped", ["/bin/sh", "-c", shell], profile="echo") as server:
        assert accepts(server.address)
    wait_until_gone(server.address)


def test_a_server_that_runs_elsewhere_is_left_alone() -> None:
    with launcher.RunningServer("far", "chat", "127.0.0.1", 1) as server:
        assert server.stop() is None


@POSIX
def test_ctrl_c_during_the_start_does_not_lose_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    started = []

    def interrupted_popen(*arguments, **options) -> subprocess.Popen:
        started.append(real_popen(*arguments, **options))
        signal.raise_signal(signal.SIGINT)  # before anybody has been told of the process
        return started[0]

    real_popen = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", interrupted_popen)
    with pytest.raises(KeyboardInterrupt):
        launch("early", python(ANNOUNCING + "time.sleep(60)"), profile="echo")
    launcher._end_leftovers()  # what happens at exit
    assert started[0].poll() is not None


# The runner is killed


WITHOUT_THE_SIGNAL = "launcher._prctl = None\n"  # as on a system that is not Linux
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
def test_no_server_outlives_a_runner_that_was_killed(
    before: str, start: str, command: list[str]
) -> None:
    server = [*command, "-c", ANNOUNCING + "time.sleep(60)"]
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
            # It lives on for as long as its runner does.
            with pytest.raises(subprocess.TimeoutExpired):
                runner.wait(0.3)
            assert accepts(address)
        finally:
            runner.kill()
    wait_until_gone(address)


@LINUX
def test_a_runner_killed_during_a_start_leaves_nothing() -> None:
    """Between fork() and the child's request there is no signal: it looks whether we live."""
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
def test_what_the_caller_prepares_in_the_child_is_done_beside_it() -> None:
    child = (
        "import ctypes, os, resource\n"
        "number = ctypes.c_int()\n"
        "ctypes.CDLL(None).prctl(2, ctypes.byref(number))  # PR_GET_PDEATHSIG\n"
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
def test_the_shell_that_waits_for_our_end_goes_with_the_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(launcher, "_prctl", None)
    with launch("mine", python(ANNOUNCING + "time.sleep(60)"), profile="echo") as server:
        guard = launcher._alive[server.process]
        assert guard.poll() is None
    assert guard.poll() is not None
    assert server.process not in launcher._alive
