"""The launch contract: options, the first line, the log, and errors an operator can cause."""

import os
import shlex
import socket
import subprocess
import threading

import pytest

from benchmarks.servers.launcher import VERSIONS


@pytest.fixture
def refused(target):
    """`refused(*options)`: start the server, which must not start; returns its one line."""
    if not target.keeps_launch_contract:
        pytest.skip("this test starts the server with options: --server has no {options}")

    def run(*options):
        command = target.command(*options)
        if isinstance(command, str):
            command = shlex.split(command.replace("{port}", "0"))
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
        assert done.returncode in (1, 2), done
        assert done.stdout == ""
        assert "Traceback" not in done.stderr
        (line,) = done.stderr.splitlines()
        assert line.strip()
        return line

    return run


@pytest.mark.parametrize(
    "options",
    [
        ("--port", "70000"),
        ("--port", "-1"),
        ("--port", "x"),
        ("--idle-timeout", "-1"),
        ("--idle-timeout", "nan"),
        ("--stall-timeout", "-1"),
        ("--max-clients", "0"),
        ("--max-clients", "1.5"),
        ("--no-such-option",),
        ("stray",),
    ],
    ids=" ".join,
)
def test_bad_options(refused, options):
    """Launch contract: one line that tells what was wrong, status 1 or 2, no traceback."""
    word = options[0].removeprefix("--").rpartition("-")[2]  # a "timeout" may be either
    assert word in refused(*options)


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid", "not a host"])
def test_bad_host(refused, host):
    """Launch contract: a host that is not ours, or is none at all (RFC 5737, RFC 6761)."""
    assert host in refused("--host", host)


def test_port_taken(refused):
    """Launch contract: one line that names the port."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        assert port in refused("--port", port)


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


@pytest.mark.versions(*VERSIONS)
def test_first_line(target):
    """Launch contract: `NAME listening on HOST:PORT`, on stdout, at once though it is a pipe."""
    # With this set, as it is in many a container, Python would flush for the server.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with subprocess.Popen(
        target.command(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
    ) as process:
        try:
            silent = threading.Timer(10, process.kill)  # or a line that never comes holds us up
            silent.start()
            line = process.stdout.readline().decode()
            silent.cancel()
            port = int(line.rpartition(":")[2])
            assert line == f"{target.name} listening on 127.0.0.1:{port}\n"
            socket.create_connection(("127.0.0.1", port), timeout=10).close()
        finally:
            process.terminate()
        assert process.stdout.read() == b""
        assert process.wait(timeout=10) == 0


def test_ipv6(launch_server, join):
    """F1, launch contract: `--host ::1` works, and is announced in brackets."""
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
    """Launch contract: who came and who left, at INFO, and not a word of what they said."""
    server = launch_server()
    alice = join(server, "alice")
    alice.ask("a secret")
    log = quit_and_stop(server, alice)
    about_alice = [line for line in log if "alice" in line]
    assert len(about_alice) == 2, log
    assert all("INFO" in line for line in about_alice)
    assert not any("secret" in line for line in log)


def test_verbose_log(launch_server, join):
    """Launch contract: each message only with `--verbose`."""
    server = launch_server("--verbose")
    alice = join(server, "alice")
    alice.ask("no secret")
    assert [line for line in quit_and_stop(server, alice) if "no secret" in line]


@pytest.mark.versions(*VERSIONS)
def test_default_ports_differ(target):
    """Launch contract: 8001 to 8004, so that all four can run side by side."""
    command = [*target.command()[:2], "--help"]
    help_text = subprocess.run(command, capture_output=True, text=True, timeout=20)
    assert help_text.returncode == 0
    assert f"800{target.name[1]}" in help_text.stdout
    for option in ("host", "port", "idle-timeout", "stall-timeout", "max-clients", "verbose"):
        assert f"--{option}" in help_text.stdout
