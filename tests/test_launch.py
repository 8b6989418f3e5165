"""The launch contract: options, the first line, the log, and errors an operator can cause."""

import contextlib
import os
import re
import shlex
import socket
import subprocess
import sys
import threading

import pytest

from harness.launcher import VERSIONS, end_process, start_process
from harness.line_client import LineClient
from harness.waiting import wait_until

# With this set, as it is in many a container, Python would flush for the server.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}

ours = pytest.mark.versions(*VERSIONS)


@pytest.fixture
def command_line(target):
    """`command_line(*options)`: the command that starts the server, as a list."""
    if not target.keeps_launch_contract:
        pytest.skip("this test starts the server with options: --server has no {options}")

    def build(*options):
        command = target.command(*options)
        if isinstance(command, str):
            command = shlex.split(command.replace("{port}", "0"))
        return command

    return build


def run_to_its_end(command, **popen_options):
    """Run what is to end by itself; returns the CompletedProcess."""
    popen_options = {"stdout": subprocess.PIPE, "env": ENVIRONMENT, **popen_options}
    try:
        return subprocess.run(
            command, stderr=subprocess.PIPE, text=True, timeout=30, **popen_options
        )
    except subprocess.TimeoutExpired:
        pytest.fail("still running after 30 s, where it should have ended at once")


def assert_no_traceback(errors):
    assert not re.search("traceback|exception", errors, re.IGNORECASE), f"a traceback:\n{errors}"


def assert_refused(done):
    """One line on standard error, nothing on standard output, exit status 1 or 2."""
    assert_no_traceback(done.stderr)
    lines = done.stderr.splitlines()
    assert len(lines) == 1, f"instead of one line on standard error there are these: {lines}"
    assert lines[0].strip(), "the one line on standard error is empty"
    assert done.returncode in (1, 2), f"exit status {done.returncode}; it should be 1 or 2"
    assert not done.stdout, f"on standard output there is {done.stdout!r}"


@pytest.fixture
def refused(command_line):
    """`refused(*options)`: start the server, which must refuse to."""
    return lambda *options: assert_refused(run_to_its_end(command_line(*options)))


@pytest.mark.parametrize(
    "options",
    [
        ("--port", "70000"),
        ("--port", "-1"),
        ("--port", "x"),
        ("--idle-timeout", "-1"),
        ("--idle-timeout", "nan"),
        ("--stall-timeout", "-1"),
        ("--max-clients", "-1"),
        ("--max-clients", "1.5"),
        # That none is not many is a choice of ours.
        pytest.param(("--max-clients", "0"), marks=ours),
        ("--no-such-option",),
        ("stray",),
    ],
    ids=" ".join,
)
def test_bad_options(refused, options):
    """Launch contract: one clear line, status 1 or 2, no traceback."""
    refused(*options)


BAD_HOSTS = {
    "not ours": "192.0.2.1",  # RFC 5737
    "unknown": "no-such-host.invalid",  # RFC 6761
    "no name at all": "not a host",
    # The rest cannot be encoded, as the name system wants it (RFC 1035, 2.3.4; RFC 3490) or at all.
    "a label of 70 letters": "x" * 70,
    "an empty label": "a..b",
    "bytes that are no text": os.fsdecode(b"\xff"),
}


@pytest.mark.parametrize("host", BAD_HOSTS)
def test_bad_host(refused, host):
    """Launch contract: one clear line for a host that is not ours, or cannot be one."""
    refused("--host", BAD_HOSTS[host])


def test_port_taken(refused):
    """Launch contract: one clear line."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        refused("--port", str(other.getsockname()[1]))


@contextlib.contextmanager
def nobody_reads():
    """A pipe whose reader has gone, as in `server | true`."""
    reader, writer = os.pipe()
    os.close(reader)
    yield {"stdout": writer}
    os.close(writer)


@contextlib.contextmanager
def full():
    """A device that has no room, ever."""
    if not os.path.exists("/dev/full"):
        pytest.skip("this system has no /dev/full")
    with open("/dev/full", "wb") as device:
        yield {"stdout": device}


@contextlib.contextmanager
def closed():
    """None at all, as in `server >&-`."""
    if os.name != "posix":
        pytest.skip("this system has no descriptor 1 to close")
    yield {"stdout": None, "preexec_fn": lambda: os.close(1)}


EACH_USELESS_OUTPUT = pytest.mark.parametrize("output", [nobody_reads, full, closed])


@EACH_USELESS_OUTPUT
def test_standard_output_takes_nothing(target, command_line, output, tmp_path):
    """Launch contract, L4: it costs one clear line or none, never a traceback.

    A server may end, or serve those who know its address all the same.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log_path = tmp_path / "log"

    def ended_or_serves():
        if process.poll() is not None:
            return True
        # It may listen first and end then, so it serves when it greets.
        with contextlib.suppress(OSError, EOFError), LineClient(("127.0.0.1", port)) as client:
            client.read_line()
            return True
        return False

    with output() as popen_options, log_path.open("wb") as log:
        process = start_process(
            command_line("--port", str(port)), stderr=log, env=ENVIRONMENT, **popen_options
        )
        try:
            wait_until(ended_or_serves, "an end, or a greeting", 30)
            has_ended = process.poll() is not None
        finally:
            status = end_process(process)
    errors = log_path.read_text()
    assert_no_traceback(errors)
    if has_ended:
        assert len(errors.splitlines()) <= 1, f"more than one line:\n{errors}"
        assert status in (1, 2) or not target.is_ours, f"exit status {status}"
    else:
        assert status == 0, f"it served, and ended with status {status} when it was asked to"


@ours
@EACH_USELESS_OUTPUT
def test_help_on_a_standard_output_that_takes_nothing(target, output):
    """Launch contract: `--help` is no exception."""
    with output() as popen_options:
        done = run_to_its_end(target.command("--help"), **popen_options)
    assert_no_traceback(done.stderr)
    assert len(done.stderr.splitlines()) <= 1, f"more than one line:\n{done.stderr}"
    # Without any standard output Python's print() does nothing, and all is well.
    wanted = [0] if output is closed else [1, 2]
    assert done.returncode in wanted, f"exit status {done.returncode}, and not one of {wanted}"


# Run in front of a server: what CPython does when the system refuses a thread.
NO_THREADS = """
import runpy, sys, threading
def start(thread):
    raise RuntimeError("can't start new thread")
threading.Thread.start = start
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.versions("v4_asyncio")
def test_no_thread_for_work(target):
    """C6, launch contract: its one thread for work is made at the start, or it does not start.

    RLIMIT_NPROC does not bind root, so the failure is brought about where Python reports it.
    """
    _, *server_and_options = target.command()
    assert_refused(run_to_its_end([sys.executable, "-c", NO_THREADS, *server_and_options]))


def test_port_of_a_server_that_has_just_stopped(launch_server, connect, join):
    """Launch contract: a port with connections in TIME_WAIT is free to be used again."""
    server = launch_server()
    alice = join(server, "alice")
    server.process.terminate()
    alice.read_to_end()
    alice.close()
    server.process.wait(timeout=10)
    again = launch_server("--port", str(server.port))
    assert again.port == server.port
    assert join(again, "alice").ping() == []


@ours
def test_first_line(target):
    """Launch contract: `NAME listening on HOST:PORT`, on stdout, at once though it is a pipe."""
    with subprocess.Popen(
        target.command(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=ENVIRONMENT
    ) as process:
        try:
            silent = threading.Timer(10, process.kill)  # or a line that never comes holds us up
            silent.start()
            line = process.stdout.readline().decode()
            silent.cancel()
            assert line, "no line on standard output within 10 s"
            address = re.fullmatch(rf"{target.name} listening on 127\.0\.0\.1:(\d+)\n", line)
            assert address, f"the first line is {line!r}"
            socket.create_connection(("127.0.0.1", int(address[1])), timeout=10).close()
        finally:
            process.terminate()
        assert process.stdout.read() == b"", "the first line was not the only one"
        status = process.wait(timeout=10)
        assert status == 0, f"exit status {status} after the signal; 0 is success"


def test_ipv6(launch_server, join):
    """Launch contract, F1: `--host ::1` works, and is announced in brackets."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError as error:
        pytest.skip(f"no IPv6 on this machine: {error}")
    server = launch_server("--host", "::1")
    assert server.host == "::1"  # the launcher has taken the brackets off
    assert join(server, "alice").ping() == []


def test_host_by_name(launch_server, join):
    """Launch contract: a host may be a name."""
    assert join(launch_server("--host", "localhost"), "alice").ping() == []


def quit_and_stop(server, alice):
    """Let alice go, stop the server, and return its whole log."""
    alice.send_line("/quit")
    alice.read_to_end()
    alice.close()
    server.stop()
    return server.log_path.read_text().splitlines()


def test_log(launch_server, join):
    """Launch contract: who came and who left, and not a word of what they said."""
    server = launch_server()
    alice = join(server, "alice")
    alice.ask("a secret")
    log = quit_and_stop(server, alice)
    about_alice = [line for line in log if "alice" in line]
    assert len(about_alice) >= 2, f"alice came and left; the log says {log}"
    assert not any("secret" in line for line in log), f"a message in the log: {log}"


def test_verbose_log(launch_server, join):
    """Launch contract: each message only with `--verbose`."""
    server = launch_server("--verbose")
    alice = join(server, "alice")
    alice.ask("no secret")
    log = quit_and_stop(server, alice)
    assert any("no secret" in line for line in log), f"the message is not in the log: {log}"


def takes_port(sock, port):
    """Whether this socket could be made to listen there."""
    try:
        sock.bind(("127.0.0.1", port))
    except OSError:
        return False
    sock.listen()
    return True


@ours
def test_default_port(target):
    """Launch contract: 8001 to 8004, so that all four can run side by side.

    It is taken, by us: a server that wants another one would start.
    """
    port = 8000 + VERSIONS.index(target.name) + 1
    with socket.socket() as other:
        try:
            # Another run of this suite may have it for a moment.
            wait_until(lambda: takes_port(other, port), f"port {port} to be free")
        except TimeoutError:
            pytest.skip(f"port {port} is taken: stop what listens there to have this tested")
        command = target.command()
        at = command.index("--port")
        del command[at : at + 2]
        assert_refused(run_to_its_end(command))


DEFAULTS = {
    "--host": "127.0.0.1",
    "--idle-timeout": "300",
    "--stall-timeout": "1",
    "--max-clients": None,  # each model has its own
    "--verbose": None,
}


@ours
def test_options_and_their_defaults(target):
    """Launch contract, L1, L3: as `--help` tells them, for nobody would wait for 300 s here."""
    done = run_to_its_end(target.command("--help"))
    assert done.returncode == 0, f"exit status {done.returncode}; 0 is success"
    _, _, descriptions = done.stdout.partition("\noptions:\n")
    described = dict(re.findall(r"^  (--[\w-]+)(.*(?:\n {5,}.*)*)", descriptions, re.MULTILINE))
    for option, default in DEFAULTS.items():
        assert option in described, f"--help does not tell of {option}:\n{done.stdout}"
        if default:
            told = described[option]
            assert f"(default: {default})" in " ".join(told.split()), f"{option}: {told}"
