"""What the threads of v1 share, H2, H5, C2 and L2: however they take turns, it stays whole.

Left alone, the interpreter switches threads every 5 ms, and a server without a lock may pass for
years. So here some code runs before the server and makes each thread pause before each step.
"""

import re

import pytest

from harness.answers import SERVER_FULL
from harness.proc import halted
from harness.waiting import wait_until, wait_until_nobody_else_is_in
from tests.limits.ways import RUN_THE_SERVER
from tests.suite.leaving import quit_politely

# A step is one instruction of the interpreter, which may be less than an operator. Only the code in
# the server's own file is slowed down. The pause lets any of the other threads run.
A_PAUSE_BEFORE_EACH_STEP = f"""
import sys, threading, time
def trace(frame, event, argument):
    if frame.f_code.co_filename != sys.argv[0]:
        return None
    frame.f_trace_opcodes = True
    time.sleep(0.00001)
    return trace
threading.settrace(trace)
sys.setswitchinterval(1e-6)
{RUN_THE_SERVER}"""

pytestmark = pytest.mark.versions("v1_threads")


@pytest.fixture
def launch_with_pauses(launch_server):
    """`launch_with_pauses(*options)`: a server whose threads take turns all the time."""
    return lambda *options: launch_server(*options, preparation=[A_PAUSE_BEFORE_EACH_STEP])


def answers_to_all_at_once(room, members, line):
    """Let all send the same line; returns the first line that each gets, sorted."""
    for member in members:
        member.incoming.clear()
        member.outgoing += line
    room.pump(lambda: all(b"\n" in member.incoming for member in members), "an answer to each")
    return sorted(member.lines()[0] for member in members)


def connect_eight(room):
    members = room.connect(f"client-{index}" for index in range(8))
    room.pump(lambda: all(b"\n" in member.incoming for member in members), "greetings")
    return members


def test_one_name_for_one_client(launch_with_pauses, crowd):
    """H2, H4: if eight want the same name at the same time, one gets it."""
    room = crowd(launch_with_pauses())
    members = connect_eight(room)
    for name in ("alice", "bob"):
        answers = answers_to_all_at_once(room, members, name.encode() + b"\n")
        winners = answers.count(f"* hello {name}")
        assert winners == 1, f"{winners} of {len(members)} clients are called {name}"
        assert answers.count(f"! name {name} is taken") == len(members) - 1, answers
        members = [member for member in members if b"* hello" not in member.incoming]


def test_one_number_for_one_guest(launch_with_pauses, crowd):
    """H5: eight guests at the same time get the eight lowest numbers."""
    room = crowd(launch_with_pauses())
    answers = answers_to_all_at_once(room, connect_eight(room), b"\n")
    assert answers == [f"* hello guest{number}" for number in range(1, 9)], "the guests' names"


def test_a_list_that_is_whole(launch_with_pauses, join, crowd):
    """C2: while others come and go, each list has as many names as it says, and in order."""
    room = crowd(server := launch_with_pauses())
    alice, zoe = join(server, "alice", "zoe")
    for _ in range(4):
        passers_by = room.connect(f"client-{index}" for index in range(8))
        for member in passers_by:
            member.outgoing += b"\n/quit\n"
        room.pump(lambda people=passers_by: not any(one.outgoing for one in people), "a crowd")

        def all_have_gone(people=passers_by):
            alice.send_bytes(b"/list\n" * 5)
            answers = alice.ping()
            assert len(answers) == 5, f"five questions were answered with {answers}"
            for answer in answers:
                assert_whole(answer)
            room.pump_until_quiet(0.001)
            return all(member.closed for member in people)

        wait_until(all_have_gone, "a crowd to go", session=server.session)
    quit_politely(zoe)
    wait_until_nobody_else_is_in(alice)


def assert_whole(answer):
    """The list names alice, zoe and guests only, in order, and as many as it says."""
    number, _, names = answer.removeprefix("* ").partition(" online: ")
    names = names.split(", ")
    assert int(number) == len(names), f"the number is not that of the names: {answer}"
    assert names == sorted(names), f"not in order: {answer}"
    assert {"alice", "zoe"} <= set(names), f"somebody is missing: {answer}"
    guests = set(names) - {"alice", "zoe"}
    assert all(re.fullmatch(r"guest\d", guest) for guest in guests), f"not names: {answer}"


@pytest.mark.parametrize("attempt", range(3))
def test_no_more_places_than_there_are(launch_with_pauses, crowd, attempt):
    """L2: if twelve come at the same time, one gets the one place.

    It takes three attempts to be sure that a server without the lock is caught.
    """
    room = crowd(server := launch_with_pauses("--max-clients", "1"))
    # The server is halted meanwhile, so it finds all of them at its listener.
    with halted(server.process):
        members = room.connect(f"client-{index}" for index in range(12))
    room.pump(lambda: all(b"\n" in member.incoming for member in members), "first lines")
    refused = [member for member in members if member.lines() == [SERVER_FULL]]
    assert len(refused) == 11, f"{12 - len(refused)} of 12 clients got the one place"
