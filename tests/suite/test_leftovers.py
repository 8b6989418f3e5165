"""What remains of clients that have gone, L7: no memory, no thread, no descriptor, no CPU time."""

import socket
import time

import pytest

from harness.answers import IDLE_TIMEOUT
from harness.waiting import wait_until
from tests.suite.leaving import QUESTION, wait_until_as_small_as
from tests.suite.marks import OURS


def visits(room, number):
    """Let so many clients come, say half a line, and go: every second one quits, the others end.

    The half line makes a client heavy, so that a server that keeps it grows.
    """
    members = room.connect(f"visitor-{index}" for index in range(number))
    half_a_line = b"x" * 1000
    for index, member in enumerate(members):
        parting = b"/quit\n" if index % 2 else b""
        member.outgoing += member.name.encode() + b"\n" + parting + half_a_line

    talking = members[::2]

    def all_have_gone():
        for member in list(talking):
            if not member.outgoing:
                talking.remove(member)
                member.socket.shutdown(socket.SHUT_WR)
        return all(member.closed for member in members)

    room.pump(all_have_gone, f"{number} clients to come and go")
    room.members.clear()


def test_thousands_come_and_go(launch_server, crowd, inspect):
    """L7: the server forgets them: memory, threads and descriptors are as before.

    A runtime may still grow for a while, so the best of six times counts. A server that keeps its
    clients grows each time.
    """
    server = launch_server()
    process = inspect(server)
    room = crowd(server)
    # The first visitors fill what a server keeps for later use.
    for _ in range(20):
        visits(room, 50)
    threads, descriptors = process.threads(), process.descriptors()
    growth = []
    while not growth or (min(growth) >= 2 and len(growth) < 6):
        before = process.peak_memory()
        for _ in range(36):
            visits(room, 50)
        growth.append((process.peak_memory() - before) / 2**20)
    assert min(growth) < 2, f"with each 1800 visitors the memory grew: by {growth} MiB; at most 2"
    wait_until_as_small_as(server, process, threads, descriptors)


@OURS
def test_a_stop_waits_for_nobody_who_has_gone(launch_server, crowd):
    """L7, L4: with nobody there a stop is prompt, whoever was there before and however they left.

    A server that has not forgotten a client waits for it for a second. The best of three stops
    counts, because a busy machine may delay one of them.
    """
    seconds = []
    for _ in range(3):
        room = crowd(server := launch_server())
        visits(room, 50)
        for member in room.join(f"resetting-{number}" for number in range(10)):
            room.reset(member)
        for member in room.join(f"closing-{number}" for number in range(10)):
            room.members.remove(member)
            member.socket.close()
        start = time.monotonic()
        server.process.terminate()
        server.process.wait(timeout=10)
        seconds.append(time.monotonic() - start)
        if seconds[-1] < 0.9:
            return
    pytest.fail(f"a stop with nobody there took {min(seconds):.1f} s at best")


def unrest_of(process):
    """How much it computes for a while, or waits for a core, in words; "" if next to nothing."""
    cpu, waited = process.cpu_and_waiting_in(0.4)
    if cpu < 0.04 and waited < 0.2:
        return ""
    return f"{cpu:.2f} s of CPU, and {waited:.2f} s of waiting for a core, in 0.4 s"


def test_idle_clients_cost_next_to_no_cpu(launch_server, crowd, inspect, limit_descriptors):
    """L7: nearly a thousand clients are silent; ten times the CPU of the rule would be too much."""
    server = launch_server("--max-clients", "1000", preexec_fn=limit_descriptors(3000))
    room = crowd(server)
    strangers = room.connect(f"idle-{number}" for number in range(950))
    room.pump(lambda: all(stranger.incoming for stranger in strangers), "950 greetings")
    room.pump_until_quiet()
    unrest = unrest_of(inspect(server))
    assert not unrest, f"{unrest}, for 950 idle clients"
    assert not any(stranger.closed for stranger in strangers), "idle clients were closed"


def test_timeouts_leave_nothing_behind(launch_server, crowd, inspect, limit_descriptors):
    """L7, L1: after them the server is as idle and as small as before."""
    server = launch_server("--idle-timeout", "0.5", preexec_fn=limit_descriptors(3000))
    process = inspect(server)
    room = crowd(server)
    visits(room, 2)
    threads, descriptors = process.threads(), process.descriptors()
    members = room.connect(f"silent-{number}" for number in range(950))
    room.pump(lambda: all(member.closed for member in members), "950 clients to be timed out")
    timed_out = sum(IDLE_TIMEOUT in member.lines() for member in members)
    assert timed_out == 950, f"{timed_out} of 950 clients were told {IDLE_TIMEOUT!r}"
    wait_until_as_small_as(server, process, threads, descriptors)
    unrest = unrest_of(process)
    assert not unrest, f"{unrest}, after 950 clients were timed out"


def test_the_end_of_input_is_read_once(launch_server, crowd, inspect):
    """L7, L5, C4: clients that have ended their input and do not read cost no CPU.

    Two of them have quit before. Output waits for some of them: their amounts differ by less than
    what a server may hold (L3).
    """
    room = crowd(server := launch_server("--stall-timeout", "60"))
    quitting = room.join(f"quitting-{number}" for number in range(2))
    ending = room.join(f"ending-{number}" for number in range(4))
    for members, last_words in ((quitting, b"/quit\n"), (ending, b"")):
        for number, member in enumerate(members):
            member.reading = False
            member.outgoing += QUESTION * (9000 + 4000 * number) + last_words
        # Those who quit have to do so before the others hold the room.
        room.pump_until_quiet()
    for member in (*quitting, *ending):
        member.socket.shutdown(socket.SHUT_WR)
    process = inspect(server)
    # The server may still be working on what they have said.
    wait_until(
        lambda: not unrest_of(process),
        "a server to use next to no CPU for clients that have said all, and do not read",
        seconds=4,
        session=server.session,
    )
