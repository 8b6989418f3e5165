"""Life cycle, C4, L5 and L7: orderly ends, the end of input, and what remains of those who left."""

import contextlib
import shutil
import socket
import subprocess
import sys

import pytest

from harness.answers import IDLE_TIMEOUT, SHUTTING_DOWN
from harness.launcher import REPOSITORY
from harness.line_client import open_socket
from harness.proc import halted
from harness.waiting import wait_until_left
from tests.suite.leaving import (
    end_input,
    half_close,
    quit_politely,
    read_to_an_orderly_end,
    reset_in_mid_line,
    wait_until_as_small_as,
)
from tests.suite.marks import OURS
from tests.suite.pace import at_a_steady_pace

CLIENT = REPOSITORY / "client.py"
# The rule says 2 seconds (L4). The rest is for a busy machine.
SECONDS_TO_STOP = 5

# This is more than a server reads in one turn (F7).
MORE_THAN_A_TURN = b"and another thing\n" * 20_000


def send_all(connection, data, who):
    try:
        connection.sendall(data)
    except ConnectionError as error:
        pytest.fail(f"{who} was still sending, and found the connection gone: {error}")


def assert_still_heard(connection, witness, who):
    """The server has ended its output but still reads: what is sent to it brings no reset.

    The witness gives a server that has closed time to answer with one.
    """
    for _ in range(3):
        witness.ping()
        send_all(connection, b"and another thing\n", who)


def test_orderly_end_after_quit(server, join):
    """C4: a client that sends much more after `/quit` gets a good-bye and an end, not a reset."""
    bob = join(server, "bob")
    with open_socket(server.address, 10) as alice:
        send_all(alice, b"alice\n/quit\n" + MORE_THAN_A_TURN, "alice")
        lines = read_to_an_orderly_end(server, alice, "alice")
        assert lines[1:] == ["* hello alice", "* bye alice"], f"alice was told {lines[:5]}"
        assert_still_heard(alice, bob, "alice")


@OURS
@at_a_steady_pace
def test_orderly_end_after_an_idle_timeout(launch_server, connect):
    """L1: our servers wait for the end of a client that still sends, as after `/quit`."""
    server = launch_server("--idle-timeout", "0.2")
    alice = connect(server)
    alice.send_bytes(b"half a na")
    lines = alice.read_to_end()[1:]
    assert lines == [IDLE_TIMEOUT], f"who sent half a name was told {lines}"
    bob = connect(server)
    bob.join("bob")
    assert_still_heard(alice.socket, bob, "alice")


def test_orderly_end_of_a_stop_while_much_is_unread(launch_server):
    """L4: no reset destroys the notice, although far more was sent than was read."""
    server = launch_server()
    with open_socket(server.address, 10) as alice:
        greeting = alice.recv(100)
        send_all(alice, b"alice\n/work 1000\n" + MORE_THAN_A_TURN, "alice")
        server.process.terminate()
        lines = read_to_an_orderly_end(server, alice, "alice")
    farewells = lines.count(SHUTTING_DOWN)
    assert greeting.endswith(b": enter your name\n"), f"alice was not greeted but got {greeting}"
    assert farewells == 1, f"alice was told of the stop {farewells} times; last: {lines[-3:]}"
    status = server.process.wait(timeout=SECONDS_TO_STOP)
    assert status == 0, f"exit status {status} after the signal; 0 is success"


def test_a_piped_line_is_answered_by_every_server(server, connect):
    """L5: `printf 'hi\\n' | python3 client.py HOST:PORT --name alice`, as the README shows it."""
    bob = connect(server)
    bob.join("bob")
    host = f"[{server.host}]" if ":" in server.host else server.host
    done = subprocess.run(
        [sys.executable, str(CLIENT), f"{host}:{server.port}", "--name", "alice"],
        input="hi\n/ping\n",
        capture_output=True,
        encoding="utf-8",
        errors="backslashreplace",
        timeout=20,
    )
    assert (done.returncode, done.stderr) == (0, "")
    greeting, hello, *lines, last = done.stdout.splitlines()
    assert greeting.endswith(": enter your name")
    assert (hello, last) == ("* hello alice", "* pong")
    assert ("alice: hi" in bob.ping()) == (server.profile == "chat")
    assert ("alice: hi" in lines) == (server.profile == "echo")


def test_half_close(server, connect, join):
    """L5, F3: all complete lines are processed and answered before the server closes."""
    bob = join(server, "bob")
    alice = connect(server)
    with contextlib.nullcontext() if server.process is None else halted(server.process):
        # The server finds the lines and the end at the same time.
        alice.send_bytes(b"alice\nhello\n/ping 1\n/list\nrest")
        alice.half_close()
    greeting, *lines = alice.read_to_end()
    echo = ["alice: hello"] if server.profile == "echo" else []
    assert greeting.endswith(": enter your name")
    assert lines == ["* hello alice", *echo, "* pong 1", "* 2 online: alice, bob"]
    if server.profile == "chat":
        notices = ["* alice joined", "alice: hello"]
        assert bob.read_until("* alice left") == notices


@pytest.mark.skipif(not shutil.which("nc"), reason="nc is not installed")
def test_half_close_by_netcat(server):
    """L5: `printf 'alice\\nhello\\n' | nc -N HOST PORT`, the example of the rule."""
    command = ["nc", "-N", *map(str, server.address)]
    run = subprocess.run(command, input=b"alice\nhello\n", capture_output=True, timeout=20)
    if b"invalid option" in run.stderr or b"usage" in run.stderr.lower():
        pytest.skip("this nc has no -N")
    lines = run.stdout.decode(errors="backslashreplace").splitlines()
    echo = ["alice: hello"] if server.profile == "echo" else []
    assert lines[1:] == ["* hello alice", *echo]


def test_half_close_with_many_answers_to_come(server, connect):
    """L5, L3: nothing is cut off, although far more is to be sent than fits into one call."""
    alice = connect(server)
    alice.join("alice")
    alice.send_bytes(b"".join(b"/ping %d %s\n" % (n, b"x" * 500) for n in range(2000)))
    alice.half_close()
    assert alice.read_to_end() == [f"* pong {n} {'x' * 500}" for n in range(2000)]


def test_half_close_in_the_handshake(server, connect):
    """L5, H4, H5: names are checked and answered; a client without one gets no good-bye."""
    for data, answers in (
        (b"", []),
        (b"two words\n", ["! invalid name (1-20 letters, digits, _ or -)"]),
        (b"\n", ["* hello guest1"]),
    ):
        client = connect(server)
        client.send_bytes(data)
        client.half_close()
        assert client.read_to_end()[1:] == answers
        client.close()


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"alice\n" + b"/ping x\n" * 10_000, ["* hello alice", *["* pong x"] * 10_000]),
        (b"alice\n/quit\n/ping x\n", ["* hello alice", "* bye alice"]),
        (b"alice\n\n \r\n", ["* hello alice"]),
        (b"alice\n/ping x\r", ["* hello alice"]),
    ],
    ids=["more-than-a-turn", "after-quit", "blank-lines", "without-LF"],
)
def test_half_close_of_a_client_that_has_sent_all_at_once(server, data, expected):
    """L5, F3, C4: it gets its answers, no others, and then an orderly end."""
    with open_socket(server.address, 10) as alice:
        send_all(alice, data, "alice")
        alice.shutdown(socket.SHUT_WR)
        lines = read_to_an_orderly_end(server, alice, "alice")[1:]
    assert len(lines) == len(expected), f"not {len(expected)} lines, but {len(lines)}: {lines[-3:]}"
    assert lines == expected


@pytest.mark.parametrize("then", ["reads", "is-gone"])
def test_half_close_while_answers_wait(launch_server, join, connect, then):
    """L5, L6: the end of input comes while the server still has answers that it cannot send.

    If alice reads, nothing is cut off. If she is gone, reading cannot tell the server any more.
    """
    server = launch_server("--stall-timeout", "60")
    alice, bob = connect(server), join(server, "bob")
    # Her kernel does not take all of her answers, so the server has to keep some.
    alice.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32_768)
    alice.join("alice")
    alice.send_bytes(b"".join(b"/ping %d %s\n" % (number, b"x" * 500) for number in range(450)))
    alice.half_close()
    # Her input takes less than fifteen turns, and she has one between any two of bob's (F7).
    for _ in range(20):
        bob.ping()
    if then == "reads":
        answers = read_to_an_orderly_end(server, alice.socket, "alice")
        assert len(answers) == 450, f"{len(answers)} of 450 answers after the end of input"
        assert answers == [f"* pong {number} {'x' * 500}" for number in range(450)]
    else:
        alice.reset()
    wait_until_left(bob, "alice")


def test_half_close_with_work_running(server, join):
    """L5, C6: work that was asked for before the end of input is done and answered."""
    alice = join(server, "alice")
    alice.send_bytes(b"/work 50\n/ping after\n")
    alice.half_close()
    assert alice.read_to_end() == ["* worked 50 ms", "* pong after"]


WAYS_TO_LEAVE = [quit_politely, end_input, reset_in_mid_line, half_close]


@pytest.mark.parametrize("leave", WAYS_TO_LEAVE, ids=lambda leave: leave.__name__)
def test_those_who_left_cost_no_cpu(server, connect, join, inspect, leave):
    """L7: however others have left, in the handshake too, a server with idle clients rests."""
    witness, *leaving = join(server, "witness", "alice", "bob", "carol")
    process = inspect(server)
    for client in leaving:
        leave(client)
    for _ in range(3):
        stranger = connect(server)
        stranger.read_line()
        if leave is not quit_politely:
            leave(stranger)
    for client in leaving:
        wait_until_left(witness, client.name)
    witness.ping()
    before = process.cpu_seconds()
    assert not witness.wait_for_data(0.15), f"the witness was told {witness.read_line()!r}"
    used = process.cpu_seconds() - before
    assert used < 0.06, f"{used:.2f} s of CPU in 0.15 s in which nothing happened"


def test_five_hundred_come_and_go(launch_server, connect, join, inspect):
    """L7: afterwards the server has as many threads and descriptors as at first."""
    server = launch_server()
    process = inspect(server)

    def visit(number):
        client = connect(server)
        # Every fifth client gets no further than the greeting.
        if number % 5:
            client.join(f"visitor-{number}")
            client.send_line("hello")
        else:
            client.read_line()
        leave = WAYS_TO_LEAVE[number % 4] if number % 5 else end_input
        leave(client)
        client.close()

    witness = join(server, "witness")
    # What a server creates once, at its first visitor, is not a leak.
    visit(502)
    wait_until_left(witness, "visitor-502")
    # A thread of this visitor may still be about to end, so later there may be one less.
    threads, descriptors = process.threads(), process.descriptors()
    for number in range(1, 501):
        visit(number)
    wait_until_as_small_as(server, process, threads, descriptors)
    assert witness.ask("/list")[-1] == "* 1 online: witness"
