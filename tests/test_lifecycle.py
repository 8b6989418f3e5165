"""Life cycle, L4, L5 and L7: stopping, the end of input, and what remains of those who left."""

import shutil
import signal
import subprocess

import pytest
from harness import SHUTTING_DOWN, wait_until, wait_until_left

# The rule says 2 seconds (L4). The rest is for a machine that has other things to do; a server
# that waits for a client, or for work to end, takes longer than this all the same.
SECONDS_TO_STOP = 5

BOTH_SIGNALS = pytest.mark.parametrize(
    "stop_signal", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"]
)


def assert_stopped(server):
    """Exit status 0 in time, and no traceback (the latter is checked again by the fixture)."""
    try:
        status = server.process.wait(timeout=SECONDS_TO_STOP)
    except subprocess.TimeoutExpired:
        pytest.fail(f"still running {SECONDS_TO_STOP} s after the signal")
    assert status == 0
    assert "Traceback" not in server.log_path.read_text()


def assert_told(lines):
    """The notice came once, and after it nothing but others leaving."""
    assert lines.count(SHUTTING_DOWN) == 1, lines[-3:]
    after = lines[lines.index(SHUTTING_DOWN) + 1 :]
    assert all(line.endswith(" left") for line in after), after[:3]


def pump_to_the_end(room, members):
    room.pump(lambda: all(member.closed for member in members), "all connections to end", 10)


@BOTH_SIGNALS
def test_stop_with_nobody_there(launch_server, stop_signal):
    """L4: one signal right after the first line is enough."""
    for _ in range(2):  # the moment between the first line and the first wait is short
        server = launch_server()
        server.process.send_signal(stop_signal)
        assert_stopped(server)


@BOTH_SIGNALS
def test_stop_with_idle_clients(launch_server, connect, join, stop_signal):
    """L4: the notice goes to all, the handshake included; then no one can connect any more."""
    server = launch_server()
    stranger = connect(server)
    stranger.read_line()
    alice, bob = join(server, "alice", "bob")
    server.process.send_signal(stop_signal)
    for client in (stranger, alice, bob):
        assert_told(client.read_to_end())
        client.close()
    assert_stopped(server)
    with pytest.raises(ConnectionRefusedError):
        connect(server)


def test_stop_with_a_hundred_clients(launch_server, crowd):
    """L4: each of them gets the notice."""
    server = launch_server()
    room = crowd(server)
    members = room.join(f"client-{number}" for number in range(100))
    server.process.terminate()
    pump_to_the_end(room, members)
    for member in members:
        assert_told(member.lines())
    assert_stopped(server)


def test_stop_under_load(launch_server, crowd):
    """L4: with everybody talking, and more to read than the server will ever get to."""
    server = launch_server()
    room = crowd(server)
    members = room.join(f"client-{number}" for number in range(20))

    def talk_on():
        for member in members:
            if len(member.outgoing) < 10_000:
                member.outgoing += b"and another thing\n" * 1000

    def under_load():
        talk_on()
        return all(len(member.incoming) > 50_000 for member in members)

    def ended():
        talk_on()
        return all(member.closed for member in members)

    room.pump(under_load, "the load")
    server.process.terminate()
    room.pump(ended, "all connections to end", 10)
    assert_stopped(server)
    for member in members:  # an answer that was under way may come after it
        assert member.lines().count(SHUTTING_DOWN) == 1, member.name


def test_stop_with_a_client_that_never_reads(launch_server, crowd, limit_descriptors):
    """L4, L2: its output cannot be flushed; that costs neither the others nor the exit status.

    To make it harder the server has run out of descriptors, and wants to accept again some time.
    """
    server = launch_server("--stall-timeout", "60", preexec_fn=limit_descriptors(20))
    room = crowd(server)
    alice, deaf, sender = room.join(["alice", "deaf", "sender"])
    room.connect(f"waiting-{number}" for number in range(30))
    deaf.reading = False
    for member in (deaf, sender):  # what comes of its own lines (echo) or of the other's (chat)
        member.outgoing += (b"x" * 1000 + b"\n") * 10_000
    room.pump_until_quiet()
    server.process.terminate()
    pump_to_the_end(room, [alice])
    assert_told(alice.lines())
    assert_stopped(server)


def test_stop_with_work_running(launch_server, join):
    """L4, C6: twenty-four seconds' worth of it, begun or waiting, do not keep a server running."""
    server = launch_server()
    clients = join(server, *(f"worker-{number}" for number in range(8)))
    for client in clients:
        client.send_bytes(b"/work 1000\n" * 3)
    server.process.send_signal(signal.SIGINT)
    for client in clients:
        assert client.read_to_end().count(SHUTTING_DOWN) == 1
        client.close()
    assert_stopped(server)


def test_half_close(server, connect, join):
    """L5, F3: all complete lines are processed and answered before the server closes."""
    bob = join(server, "bob")
    alice = connect(server)
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
    done = subprocess.run(command, input=b"alice\nhello\n", capture_output=True, timeout=20)
    if b"invalid option" in done.stderr or b"usage" in done.stderr.lower():
        pytest.skip("this nc has no -N")
    lines = done.stdout.decode().splitlines()
    echo = ["alice: hello"] if server.profile == "echo" else []
    assert lines[1:] == ["* hello alice", *echo]


def test_half_close_with_many_answers_to_come(server, connect):
    """L5, L3: nothing is cut off, though far more is to be sent than fits into one call."""
    alice = connect(server)
    alice.join("alice")
    alice.send_bytes(b"".join(b"/ping %d %s\n" % (n, b"x" * 500) for n in range(2000)))
    alice.half_close()
    assert alice.read_to_end() == [f"* pong {n} {'x' * 500}" for n in range(2000)]


def test_half_close_in_the_handshake(server, connect):
    """L5, H4, H5: names are judged and answered; without one there is nobody to say good-bye to."""
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


def test_half_close_with_work_running(server, join):
    """L5, C6: work that was asked for before the end of input is done and answered."""
    alice = join(server, "alice")
    alice.send_bytes(b"/work 50\n/ping after\n")
    alice.half_close()
    assert alice.read_to_end() == ["* worked 50 ms", "* pong after"]


def quit_politely(client):
    client.send_line("/quit")
    client.read_to_end()


def end_input(client):
    client.close()


def reset_in_mid_line(client):
    client.send_bytes(b"hel")
    client.reset()


def half_close(client):
    client.half_close()
    client.read_to_end()


@pytest.mark.parametrize(
    "leave",
    [quit_politely, end_input, reset_in_mid_line, half_close],
    ids=lambda leave: leave.__name__,
)
def test_those_who_left_cost_no_cpu(server, connect, join, inspect, leave):
    """L7: whichever way others have left, in the handshake too, a server with idle clients rests.

    A server that looks again and again at a connection that has ended uses a whole core.
    """
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
    assert not witness.wait_for_data(0.15)
    assert process.cpu_seconds() - before < 0.06


def test_five_hundred_come_and_go(launch_server, connect, join, inspect):
    """L7: afterwards the server has as many threads and descriptors as at first."""
    server = launch_server()
    process = inspect(server)

    def footprint():
        return process.threads(), process.descriptors()

    def visit(number):
        client = connect(server)
        if number % 5:  # the others never get further than the greeting
            client.join(f"visitor-{number}")
            client.send_line("hello")
        else:
            client.read_line()
        leave = (quit_politely, end_input, reset_in_mid_line, half_close)[number % 4]
        (leave if number % 5 else end_input)(client)
        client.close()

    witness = join(server, "witness")
    visit(502)  # what is made once, at first need, is no leak
    wait_until_left(witness, "visitor-502")
    first = footprint()
    for number in range(1, 501):
        visit(number)
    wait_until(lambda: footprint() == first, f"as few threads and descriptors as {first}")
    assert witness.ask("/list")[-1] == "* 1 online: witness"
