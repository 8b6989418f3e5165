"""Stopping, L4: whatever goes on, all are told, and the server ends in time, with status 0."""

import contextlib
import math
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness.answers import SHUTTING_DOWN
from harness.line_client import open_socket
from harness.waiting import wait_until_left
from tests.suite.leaving import (
    ANSWER,
    QUESTIONS_OF_A_DEAF_CLIENT,
    deaf_client,
    read_to_an_orderly_end,
)
from tests.suite.marks import OURS
from tests.suite.pace import at_a_steady_pace

# The rule says 2 seconds (L4). The rest is for a busy machine; a server that waits for a client, or
# for work to end, takes longer than this all the same.
SECONDS_TO_STOP = 5
# A server that always gives its clients the whole time that is meant for stuck ones takes more.
SECONDS_TO_STOP_WHEN_NOBODY_IS_STUCK = 0.7

BOTH_SIGNALS = pytest.mark.parametrize(
    "stop_signal", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"]
)


def assert_stopped(server):
    ending = server.ending(SECONDS_TO_STOP)
    assert ending, f"still running {SECONDS_TO_STOP} s after the signal"
    assert ending.status == 0, f"exit status {ending.status} after the signal; 0 is success"
    log = server.log()
    assert "Traceback" not in log, f"a traceback in the log of a stop:\n{log[-2000:]}"


def assert_told_once(lines, who):
    farewells = lines.count(SHUTTING_DOWN)
    assert farewells == 1, f"{who} was told of the stop {farewells} times; last: {lines[-3:]}"


def assert_told_last(lines, who):
    """The notice came once, and after it nothing but others leaving."""
    assert_told_once(lines, who)
    after = lines[lines.index(SHUTTING_DOWN) + 1 :]
    others = [line for line in after if not line.endswith(" left")]
    assert not others, f"{who} was told that the server stops, and then {others[:3]}"


def assert_all_told_last(members):
    for member in members:
        assert_told_last(member.lines(), member.name)


def pump_to_the_end(room, members):
    room.pump(lambda: all(member.closed for member in members), "all connections to end", 10)


def beside_each_other(work, cases):
    """Do the work for all cases at the same time; raises the first error of any."""
    with ThreadPoolExecutor() as threads:
        for _ in threads.map(work, cases):
            pass


@BOTH_SIGNALS
def test_stop_with_nobody_there(launch_server, stop_signal):
    """L4: one signal is enough, right after the first line as well as at rest."""

    def start_and_stop(seconds_of_rest):
        server = launch_server()
        time.sleep(seconds_of_rest)
        server.process.send_signal(stop_signal)
        assert_stopped(server)

    # The moment between the first line and the first wait is short, so it is tried twice. No
    # barrier can prove that the server is at rest, because that needs a client.
    beside_each_other(start_and_stop, (0, 0, 0.2))


@BOTH_SIGNALS
def test_stop_with_idle_clients(launch_server, connect, join, stop_signal):
    """L4: the notice goes to all, the handshake included; then no one can connect any more."""
    server = launch_server()
    stranger, hesitant = connect(server), connect(server)
    for client in (stranger, hesitant):
        client.read_line()
    alice, bob = join(server, "alice", "bob")
    hesitant.send_bytes(b"half a na")
    alice.ping()
    server.process.send_signal(stop_signal)
    for client in (stranger, hesitant, alice, bob):
        assert_told_last(client.read_to_end(), client.name or "a client in the handshake")
        client.close()
    assert_stopped(server)
    with pytest.raises(ConnectionRefusedError):
        connect(server)


def test_stop_with_a_hundred_clients(launch_server, crowd):
    """L4: each of them gets the notice."""
    room = crowd(server := launch_server())
    members = room.join(f"client-{number}" for number in range(100))
    server.process.terminate()
    pump_to_the_end(room, members)
    assert_all_told_last(members)
    assert_stopped(server)


@at_a_steady_pace
def test_stop_resets_nobody_who_is_late_with_reading(launch_server, crowd):
    """L4: clients that go on sending, and only then read the notice, get it and an orderly end."""
    room = crowd(server := launch_server())
    witness, *talkers = room.join(["witness", *(f"talker-{number}" for number in range(60))])
    for talker in talkers:
        talker.reading = False
    server.process.terminate()
    # Once the witness has seen its end, the server has sent its last words to the others, too.
    pump_to_the_end(room, [witness])
    # A closed connection answers the first line with a reset, and the second one fails.
    for _ in range(2):
        for talker in talkers:
            talker.outgoing += b"is anybody there?\n"
        room.pump(lambda: not any(talker.outgoing for talker in talkers), "a line of each")
    for talker in talkers:
        talker.reading = True
    pump_to_the_end(room, talkers)
    reset = [talker.name for talker in talkers if talker.was_reset]
    assert not reset, f"{len(reset)} of {len(talkers)} clients were reset at the stop"
    for talker in talkers:
        assert_told_once(talker.lines(), talker.name)
    assert_stopped(server)


@pytest.mark.versions("v3_broadcast", "v4_asyncio")
def test_nobody_is_told_who_else_leaves_at_the_stop(launch_server, crowd):
    """L4, D3: all leave at once, and our servers do not tell each one about all the others."""
    room = crowd(server := launch_server())
    members = room.join(f"client-{number}" for number in range(20))
    server.process.terminate()
    pump_to_the_end(room, members)
    for member in members:
        heard = member.lines()
        assert heard == [SHUTTING_DOWN], f"{member.name} heard more than the notice: {heard[:3]}"
    assert_stopped(server)


@OURS
def test_a_prompt_stop_when_nobody_is_stuck(launch_server, crowd):
    """L4: a stop takes time only for clients that need it. The best of three stops counts."""
    seconds = []
    for _ in range(3):
        room = crowd(server := launch_server())
        leaving, *members = room.join(f"client-{number}" for number in range(20))
        room.reset(leaving)
        start = time.monotonic()
        server.process.terminate()
        pump_to_the_end(room, members)
        assert_stopped(server)
        seconds.append(time.monotonic() - start)
        if seconds[-1] < SECONDS_TO_STOP_WHEN_NOBODY_IS_STUCK:
            return
    pytest.fail(f"with nobody stuck, three stops took at least {min(seconds):.2f} s")


@pytest.mark.parametrize(
    "line", [b"a\n", b"/\n", b"/list\n"], ids=["talk", "refusals", "long-answers"]
)
@at_a_steady_pace
def test_stop_under_load(launch_server, crowd, line):
    """L4: three hundred clients read, and say more than the server will ever get to.

    The signal comes when all have sent much, and only some have been answered.
    """
    room = crowd(server := launch_server())
    members = room.join(f"somebody-quite-{number}" for number in range(300))
    load = line * (32_000 // len(line))
    for member in members:
        member.outgoing += load

    def some_are_answered():
        return sum(len(member.incoming) > 2000 for member in members) > 30

    def ended():
        for member in members:
            if len(member.outgoing) < len(load):
                member.outgoing += load
        return all(member.closed for member in members)

    room.pump(lambda: not any(member.outgoing for member in members), "all to be sent")
    room.pump(some_are_answered, "the first answers")
    server.process.terminate()
    start = time.monotonic()
    room.pump(ended, "all connections to end", 20)
    seconds = time.monotonic() - start
    assert seconds < SECONDS_TO_STOP, f"the last one had its end after {seconds:.1f} s"
    assert_stopped(server)
    # An answer that was under way may come after the notice.
    for member in members:
        assert_told_once(member.lines(), member.name)


def test_stop_with_work_running(launch_server, crowd):
    """L4, C6: hours of it, begun or waiting, neither delay the stop nor are claimed to be done."""
    room = crowd(server := launch_server())
    workers = room.join(f"worker-{number}" for number in range(250))
    for worker in workers:
        worker.outgoing += b"/work 1000\n" * 50
    start = time.monotonic()
    room.pump(lambda: not any(worker.outgoing for worker in workers), "all to be sent")
    signal_sent = time.monotonic()
    server.process.send_signal(signal.SIGINT)
    room.pump(lambda: all(worker.closed for worker in workers), "all connections to end", 30)
    seconds = time.monotonic() - signal_sent
    assert seconds < SECONDS_TO_STOP, f"the last one had its end after {seconds:.1f} s"
    assert_stopped(server)
    for worker in workers:
        assert_told_once(worker.lines(), worker.name)
    claimed = sum(worker.lines().count("* worked 1000 ms") for worker in workers)
    # Each claim is a second of one processor.
    possible = math.floor((time.monotonic() - start) * os.cpu_count())
    assert claimed <= possible, f"{claimed} s of work claimed, but only {possible} s can be true"


def test_stop_with_a_client_that_never_reads(launch_server, crowd, limit_descriptors):
    """L4, L2: its output cannot be flushed; that harms neither the others nor the exit status.

    To make it harder, the server has run out of descriptors, and means to accept again later.
    """
    server = launch_server("--stall-timeout", "60", preexec_fn=limit_descriptors(20))
    room = crowd(server)
    alice, deaf, sender = room.join(["alice", "deaf", "sender"])
    room.connect(f"waiting-{number}" for number in range(30))
    deaf.reading = False
    # Its output comes from its own lines (echo) or from the other's (chat).
    for member in (deaf, sender):
        member.outgoing += (b"x" * 1000 + b"\n") * 10_000
    room.pump_until_quiet()
    server.process.terminate()
    pump_to_the_end(room, [alice])
    assert_told_last(alice.lines(), "alice")
    assert_stopped(server)


def test_stop_with_clients_that_linger(launch_server, connect, join):
    """L4, C4: the stop does not wait for clients that have their good-bye and go on sending."""
    server = launch_server()
    alice, *lingering = join(server, "alice", *(f"lingering-{number}" for number in range(10)))
    for client in lingering:
        client.send_line("/quit")
        client.read_until(f"* bye {client.name}")
    last_lines = []
    end = time.monotonic() + SECONDS_TO_STOP
    server.process.terminate()
    while server.process.poll() is None and time.monotonic() < end:
        for client in lingering:
            # The server may have closed it meanwhile.
            with contextlib.suppress(ConnectionError):
                client.send_bytes(b"and another thing\n")
        if not last_lines and alice.wait_for_data(0):
            last_lines = alice.read_to_end()
            alice.close()
        time.sleep(0.01)
    assert_stopped(server)
    assert_told_last(last_lines or alice.read_to_end(), "alice")
    for client in lingering:
        lines = client.read_to_end()
        assert SHUTTING_DOWN not in lines, f"{client.name} had its good-bye, and then the notice"


# How much has to wait for it to be seen is a fact about our servers and their send buffers.
@OURS
@at_a_steady_pace
def test_stop_with_clients_that_have_not_read_their_good_bye(launch_server, connect, join):
    """L4, C4: all that still waits for them is sent, and they get no other notice.

    They begin to read when the server has begun to stop.
    """
    server = launch_server("--stall-timeout", "60")
    witness = join(server, "witness")
    names = ["quitting-1", "quitting-2"]
    quitting = [deaf_client(connect, server, name, b"/quit\n") for name in names]
    for name in names:
        wait_until_left(witness, name)
    server.process.terminate()
    assert_told_last(witness.read_to_end(), "the witness")
    witness.close()
    assert not server.ending(0.2), "the server has ended, and output waited for those who read"
    for client in quitting:
        lines = read_to_an_orderly_end(server, client.socket, client.name)
        client.close()
        words = [line for line in lines if not line.endswith((" joined", " left"))]
        answers = words.count(ANSWER.decode().rstrip())
        assert answers == QUESTIONS_OF_A_DEAF_CLIENT, f"{client.name} got {answers} answers"
        assert words[answers:] == [f"* bye {client.name}"], f"{client.name}'s last words"
    assert_stopped(server)


@pytest.mark.parametrize("connects_before", [10, 60, 150])
def test_greeted_as_the_signal_comes(launch_server, crowd, connects_before):
    """L4: hundreds connect at that moment; each one that was greeted is told, too, and once."""
    room = crowd(server := launch_server())
    room.join(f"client-{number}" for number in range(5))
    newcomers = []
    with contextlib.ExitStack() as stack:
        # At some moment the server stops listening.
        with contextlib.suppress(OSError):
            for number in range(400):
                if number == connects_before:
                    server.process.terminate()
                newcomers.append(stack.enter_context(open_socket(server.address, 10)))
        pump_to_the_end(room, room.members)
        heard = [read_what_there_is(newcomer) for newcomer in newcomers]
    assert_stopped(server)
    assert_all_told_last(room.members)
    for number, lines in enumerate(heard):
        if lines:
            assert lines[1:] == [SHUTTING_DOWN], f"newcomer {number} was told {lines}"


def read_what_there_is(connection):
    """Read all lines and close, whatever the end is: nobody may have accepted this connection."""
    received = bytearray()
    connection.settimeout(3)
    deadline = time.monotonic() + 10
    with contextlib.suppress(ConnectionError, TimeoutError):
        while time.monotonic() < deadline and (data := connection.recv(65536)):
            received += data
    connection.close()
    return received.decode(errors="backslashreplace").splitlines()


@contextlib.contextmanager
def signals_without_end(process, first):
    """Send both signals in pairs, again and again, until the process ends."""
    other = signal.SIGINT if first == signal.SIGTERM else signal.SIGTERM
    end = time.monotonic() + SECONDS_TO_STOP

    def send():
        while process.poll() is None and time.monotonic() < end:
            process.send_signal(first)
            process.send_signal(other)
            time.sleep(0.0005)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        yield
    finally:
        sender.join()


@pytest.mark.parametrize(
    ("first", "somebody_is_stuck"),
    [(signal.SIGTERM, False), (signal.SIGINT, False), (signal.SIGINT, True)],
    ids=["SIGTERM", "SIGINT", "SIGINT-somebody-stuck"],
)
def test_more_signals(launch_server, crowd, first, somebody_is_stuck):
    """L4: further signals change nothing, at whatever moment they come until the server ends.

    A stuck client makes that a long time.
    """
    room = crowd(server := launch_server("--stall-timeout", "60"))
    deaf, *members = room.join(["deaf", *(f"client-{number}" for number in range(10))])
    if somebody_is_stuck:
        deaf.reading = False
        deaf.outgoing += b"/help\n" * 200_000
        room.pump_until_quiet()
    else:
        members.append(deaf)
    with signals_without_end(server.process, first):
        pump_to_the_end(room, members)
        assert_stopped(server)
    assert_all_told_last(members)


def test_more_signals_with_nobody_there(launch_server):
    """L4: further signals change nothing, even if the server has not yet begun to wait."""

    def start_and_stop(delay):
        server = launch_server()
        time.sleep(delay)
        with signals_without_end(server.process, signal.SIGINT):
            assert_stopped(server)

    # The signals begin at another moment for each.
    beside_each_other(start_and_stop, (0, 0.001, 0.003, 0.01))
