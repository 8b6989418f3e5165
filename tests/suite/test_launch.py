"""The launch contract: options, the first line, the log, and errors an operator can cause."""

import contextlib
import os
import re
import shlex
import socket
import subprocess
import threading

import pytest

from harness.launcher import VERSIONS, end_process, free_port, start_process
from harness.line_client import LineClient
from harness.waiting import wait_until, wait_until_left
from tests.limits.ways import RUN_THE_SERVER
from tests.suite.fixtures import need_options
from tests.suite.leaving import quit_politely, reset_in_mid_line
from tests.suite.marks import OURS

# With this variable, which many containers set, Python would flush for the server.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}


@pytest.fixture
def command_line(target):
    """`command_line(*options)`: the command that starts the server, as a list."""
    need_options(target)

    def build(*options):
        command = target.command_with(options)
        if isinstance(command, str):
            command = shlex.split(command.replace("{port}", "0"))
        return command

    return build


def run_to_its_end(command, **popen_options):
    """Run a command that has to end by itself; returns the CompletedProcess."""
    pipe = subprocess.PIPE
    # A server may quote the bytes that it was given, which need not be text.
    text = {"encoding": "utf-8", "errors": "backslashreplace"}
    popen_options = {"stdout": pipe, "env": ENVIRONMENT, **text, **popen_options}
    try:
        return subprocess.run(command, stderr=pipe, timeout=30, **popen_options)
    except subprocess.TimeoutExpired:
        pytest.fail("still running after 30 s, where it should have ended at once")


def lines_without_a_traceback(errors):
    assert not re.search("traceback|exception", errors, re.IGNORECASE), f"a traceback:\n{errors}"
    return errors.splitlines()


def assert_refused(run):
    """One line on standard error, nothing on standard output, exit status 1 or 2."""
    lines = lines_without_a_traceback(run.stderr)
    assert len(lines) == 1, f"instead of one line on standard error there are these: {lines}"
    assert lines[0].strip(), "the one line on standard error is empty"
    assert run.returncode in (1, 2), f"exit status {run.returncode}; it should be 1 or 2"
    assert not run.stdout, f"on standard output there is {run.stdout!r}"


@pytest.fixture
def refused(command_line):
    """`refused(*options)`: start the server with options that it must refuse."""
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
        # Our servers have chosen to refuse zero.
        pytest.param(("--max-clients", "0"), marks=OURS),
        ("--no-such-option",),
        ("stray",),
    ],
    ids=" ".join,
)
def test_bad_options(refused, options):
    """Launch contract: one clear line, status 1 or 2, no traceback."""
    refused(*options)


BAD_HOSTS = {
    # RFC 5737 keeps this address for documentation, so no machine has it.
    "not ours": "192.0.2.1",
    # RFC 6761 keeps `.invalid` free of names.
    "unknown": "no-such-host.invalid",
    "no name at all": "not a host",
    # The rest cannot be encoded for the name system (RFC 1035, 2.3.4; RFC 3490), or not at all.
    "a label of 70 letters": "x" * 70,
    "an empty label": "a..b",
    "bytes that are no text": os.fsdecode(b"\xff"),
}


@pytest.mark.parametrize("host", BAD_HOSTS)
def test_bad_host(refused, host):
    """Launch contract: one clear line for a host that is not ours, or cannot be one."""
    refused("--host", BAD_HOSTS[host])


def test_port_taken(refused):
    """Launch contract: one clear line for a port that is taken."""
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
    """A device that is always full."""
    if not os.path.exists("/dev/full"):
        pytest.skip("this system has no /dev/full")
    with open("/dev/full", "wb") as device:
        yield {"stdout": device}


@contextlib.contextmanager
def closed():
    """No standard output at all, as in `server >&-`."""
    if os.name != "posix":
        pytest.skip("this system has no descriptor 1 to close")
    yield {"stdout": None, "preexec_fn": lambda: os.close(1)}


EACH_USELESS_OUTPUT = pytest.mark.parametrize("output", [nobody_reads, full, closed])


@EACH_USELESS_OUTPUT
def test_standard_output_takes_nothing(target, command_line, output, tmp_path):
    """Launch contract: it costs one clear line or none, never a traceback.

    A server may end, or serve the clients that know its address all the same.
    """
    port = free_port()
    log_path = tmp_path / "log"

    def ended_or_serves():
        if process.poll() is not None:
            return True
        # A server may listen and end after all, so only a greeting shows that it serves.
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
    text = log_path.read_text(encoding="utf-8", errors="backslashreplace")
    errors = lines_without_a_traceback(text)
    if has_ended:
        assert len(errors) <= 1, f"more than one line: {errors}"
        assert status in (1, 2) or not target.is_ours, f"exit status {status}"


@OURS
@EACH_USELESS_OUTPUT
def test_help_on_a_standard_output_that_takes_nothing(target, output):
    """Launch contract: `--help` is no exception."""
    with output() as popen_options:
        run = run_to_its_end(target.command_with(["--help"]), **popen_options)
    assert len(lines_without_a_traceback(run.stderr)) <= 1, f"more than one line:\n{run.stderr}"
    # Without any standard output Python's print() does nothing, and all is well.
    wanted = [0] if output is closed else [1, 2]
    assert run.returncode in wanted, f"exit status {run.returncode}, and not one of {wanted}"


# This code runs before a server, and does what CPython does when the system refuses a thread.
NO_THREADS = f"""
import threading
def start(thread):
    raise RuntimeError("can't start new thread")
threading.Thread.start = start
{RUN_THE_SERVER}"""


@pytest.mark.versions("v4_asyncio")
def test_no_thread_for_work(target):
    """C6, launch contract: its one thread for work is made at the start, or it does not start.

    RLIMIT_NPROC does not bind root, so the test fails the call where Python reports it.
    """
    assert_refused(run_to_its_end(target.command_with([], [NO_THREADS])))


def test_port_of_a_server_that_has_just_stopped(launch_server, connect, join):
    """Launch contract: a port with connections in TIME_WAIT can be used again."""
    server = launch_server()
    alice = join(server, "alice")
    server.process.terminate()
    alice.read_to_end()
    alice.close()
    server.process.wait(timeout=10)
    again = launch_server("--port", str(server.port))
    assert again.port == server.port
    assert join(again, "alice").ping() == []


@OURS
def test_first_line(target):
    """Launch contract: `NAME listening on HOST:PORT`, on stdout, at once even if it is a pipe."""
    with subprocess.Popen(
        target.command_with([]), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=ENVIRONMENT
    ) as process:
        try:
            # Without the timer, a line or an end that never comes would hold us up.
            silent = threading.Timer(20, process.kill)
            silent.daemon = True
            silent.start()
            line = process.stdout.readline().decode(errors="backslashreplace")
            assert line, "no line on standard output within 20 s"
            address = re.fullmatch(rf"{target.name} listening on 127\.0\.0\.1:(\d+)\n", line)
            assert address, f"the first line is {line!r}"
            socket.create_connection(("127.0.0.1", int(address[1])), timeout=10).close()
        finally:
            process.terminate()
        assert process.stdout.read() == b"", "the first line was not the only one"
        silent.cancel()


def test_ipv6(launch_server, join):
    """Launch contract, F1: `--host ::1` works, and is announced in brackets."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError as error:
        pytest.skip(f"no IPv6 on this machine: {error}")
    server = launch_server("--host", "::1")
    # The launcher has removed the brackets.
    assert server.host == "::1"
    assert join(server, "alice").ping() == []


def test_host_by_name(launch_server, join):
    """Launch contract: a host may be a name."""
    assert join(launch_server("--host", "localhost"), "alice").ping() == []


def leave_at_the_stop_and_before(server):
    """One client quits, one sees the stop and closes, and one does not even close then."""
    with contextlib.ExitStack() as stack:

        def let_in(name):
            client = stack.enter_context(LineClient(server.address, session=server.session))
            client.join(name)
            client.ask("a secret")
            return client

        alice, bob, _ = map(let_in, ("alice", "bob", "carol"))
        quit_politely(alice)
        alice.close()
        server.asked_to_stop = True
        server.process.terminate()
        bob.read_to_end()
        bob.close()
        status = server.stop()
    log = server.log().splitlines()
    # Whether it stops in good order is the matter of L4.
    for name in ("alice", "bob", "carol") if status == 0 else ("alice",):
        about = [line for line in log if name in line]
        assert len(about) >= 2, f"{name} came and left; the log says {log}"
    assert not any("secret" in line for line in log), f"a message in the log: {log}"


@pytest.mark.waits(work=leave_at_the_stop_and_before)
def test_log(wait_is_over):
    """Launch contract: it says who came and left, at the stop as well, but not what they said."""
    wait_is_over()


def test_verbose_log(launch_server, join):
    """Launch contract: with `--verbose` each message is logged, too."""
    server = launch_server("--verbose")
    join(server, "alice").ask("a secret")
    server.stop()
    log = server.log()
    assert "a secret" in log, f"the message is not in the log: {log}"


@OURS
def test_each_line_of_the_log(launch_server, connect, join):
    """Launch contract: it has the time, the level, and the client's address and name."""
    server = launch_server("--verbose")
    alice, bob = join(server, "alice", "bob")
    stranger = connect(server)
    stranger.read_line()
    clients = (alice, bob, stranger)
    at = {client: f"127.0.0.1:{client.socket.getsockname()[1]}" for client in clients}
    alice.ask("a secret")
    reset_in_mid_line(bob)
    wait_until_left(alice, "bob")
    stranger.close()
    quit_politely(alice)
    alice.close()
    server.stop()
    log = server.log().splitlines()
    dated = [re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ([A-Z]+ .+)", line) for line in log]
    assert all(dated), f"not every line begins with the time and a level: {log}"
    for event in (
        f"INFO {at[alice]} alice joined",
        f"DEBUG {at[alice]} alice: a secret",
        f"INFO {at[alice]} alice left",
        f"INFO {at[bob]} bob joined",
        f"DEBUG {at[bob]} bob lost: ",
        f"INFO {at[bob]} bob left",
        f"INFO {at[stranger]} (nobody yet) left",
    ):
        found = [line[1] for line in dated if line[1].startswith(event)]
        assert len(found) == 1, f"the log should say {event!r} once: {log}"


def takes_port(sock, port):
    """Let the socket listen on that port; returns whether it could."""
    try:
        sock.bind(("127.0.0.1", port))
    except OSError:
        return False
    sock.listen()
    return True


@OURS
def test_default_port(target):
    """Launch contract: 8001 to 8004, so that all four can run side by side.

    We have taken that port, so a server with another default would start.
    """
    port = 8000 + VERSIONS.index(target.name) + 1
    with socket.socket() as other:
        try:
            # Another run of this suite may hold the port for a moment.
            wait_until(lambda: takes_port(other, port), f"port {port} to be free")
        except TimeoutError:
            pytest.skip(f"port {port} is taken: stop what listens there to have this tested")
        command = target.command_with([])
        at = command.index("--port")
        del command[at : at + 2]
        assert_refused(run_to_its_end(command))


DEFAULTS = {
    "--host": "127.0.0.1",
    "--idle-timeout": "300",
    "--stall-timeout": "1",
    # Each model has its own default.
    "--max-clients": None,
    "--verbose": None,
}


@OURS
def test_options_and_their_defaults(target):
    """Launch contract, L1, L3: as `--help` tells them, because no test waits for 300 s."""
    run = run_to_its_end(target.command_with(["--help"]))
    assert run.returncode == 0, f"exit status {run.returncode}; 0 is success"
    _, _, descriptions = run.stdout.partition("\noptions:\n")
    described = dict(re.findall(r"^  (--[\w-]+)(.*(?:\n {5,}.*)*)", descriptions, re.MULTILINE))
    for option, default in DEFAULTS.items():
        assert option in described, f"--help does not tell of {option}:\n{run.stdout}"
        if default:
            description = described[option]
            assert f"(default: {default})" in " ".join(description.split()), description
