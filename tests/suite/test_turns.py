"""Bounded turns, F7: however much one client glues together, the others get theirs in between.

What counts is how far the greedy clients have come when the patient one has its answer: with
bounded turns that is a small part, without them it is everything.
"""

import itertools
import socket

import pytest

from harness.proc import halted
from tests.suite.marks import NEEDS_SIGSTOP
from tests.suite.pace import at_a_steady_pace

# This is the input of at least eight turns.
GLUED = 8 * 16 * 1024  # bytes


def pump_through(room, member, line, seconds=20.0):
    """Let one member send a line, and pump until it has its answer, `* pong ...`."""
    member.incoming.clear()
    member.outgoing += line
    member.awaited = b"* pong "
    room.pump(lambda: not member.awaited, f"{member.name}'s pong", seconds)


def answered(member, marker):
    return member.incoming.count(marker)


def test_long_answers_to_many_short_questions(launch_server, crowd, bounded_memory):
    """F7, L3: ten clients glue `/list` among two hundred members; a ping comes through.

    Each read brings 2730 questions, whose answers are hundreds of times as long.
    """
    room = crowd(server := launch_server("--stall-timeout", "60"))
    room.join(f"somebody-quite-{number}" for number in range(200))
    quiet, *bombers = room.join(["quiet", *(f"bomber-{number}" for number in range(10))])
    questions = 5000
    for bomber in bombers:
        bomber.outgoing += b"/list\n" * questions
    # Each bomber has asked for many MB; the server may hold an outbox and a read for it.
    with bounded_memory(server, 16):
        for _ in range(5):
            pump_through(room, quiet, b"/ping x\n")
            done = sum(answered(bomber, b" online: ") for bomber in bombers)
            assert done < 5 * questions, (
                f"{done} of {10 * questions} lists came before five pings; at most {5 * questions}"
            )


@pytest.mark.profile("chat")
def test_private_messages_in_one_piece(launch_server, crowd, bounded_memory):
    """C7, F7: each concerns one member, so it costs no more in a room of three hundred."""
    room = crowd(server := launch_server())
    room.join(f"somebody-{number}" for number in range(300))
    sender, recipient = room.join(["sender", "recipient"])
    messages = 4000
    sender.outgoing += b"/pm recipient x\n" * messages
    with bounded_memory(server, 16):
        room.pump(lambda: recipient.incoming.count(b"\n") == messages, "all private messages")


@at_a_steady_pace
def test_many_works_in_one_piece(launch_server, crowd):
    """F7, C6: between two works of one client, another client is answered."""
    room = crowd(launch_server())
    worker, quiet = room.join(["worker", "quiet"])
    works = 25
    worker.outgoing += b"/work 20\n" * works
    room.pump(lambda: answered(worker, b"* worked ") >= 1, "the first work")
    for _ in range(3):
        pump_through(room, quiet, b"/ping x\n")
        pump_through(room, quiet, b"/ping x\n")
    assert answered(worker, b"* worked ") < works, "all works were done before six pings"
    room.pump(lambda: answered(worker, b"* worked ") == works, "all works")


@pytest.mark.profile("chat")
def test_lines_behind_a_work_find_the_room_full(launch_server, crowd):
    """F7, L3: lines that are glued to a `/work` wait as well while somebody's outbox is too full.

    Twenty clients have 7000 lines each ready when their work is done, which waits for a longer work
    before it: 10 MB for everybody. A witness who reads shows how much of it has been said: no more
    than the kernels hold for the deaf client (some megabytes at most), and one outbox.
    """
    room = crowd(launch_server("--stall-timeout", "60"))
    letter = "\N{MATHEMATICAL BOLD ITALIC SMALL A}"
    names = [f"{number:02d}{letter * 18}" for number in range(20)]
    deaf, witness, *workers = room.join(["deaf", "witness", *names])
    deaf.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    deaf.reading = False
    witness.outgoing += b"/work 200\n"
    room.pump(lambda: not witness.outgoing, "the longer work to be sent")
    for worker in workers:
        worker.outgoing += b"/work 1\n" + b"x\n" * 7000
    room.pump(lambda: witness.incoming, "the end of the longer work")
    room.pump_until_quiet(0.5)
    heard = len(witness.incoming)
    assert heard > 0, "nobody's lines were heard"
    assert heard < 6 << 20, f"{heard >> 20} MiB were said while somebody holds the room; at most 6"


@pytest.mark.parametrize("quiet_comes", ["first", "last"])
@at_a_steady_pace
def test_a_quiet_client_among_twenty_flooders(launch_server, crowd, quiet_comes):
    """F7: whether it comes first or last, its questions are answered while the others go on."""
    room = crowd(launch_server())
    names = [f"flooder-{number:02d}" for number in range(20)]
    names.insert(0 if quiet_comes == "first" else 20, "quiet")
    by_name = {member.name: member for member in room.join(names)}
    quiet = by_name.pop("quiet")
    flooders = list(by_name.values())
    # Lines that go to many others take the server longer.
    glued = GLUED * (8 if room.profile == "echo" else 2)
    for flooder in flooders:
        flooder.outgoing += b"so much to say\n" * (glued // 15) + b"/ping done\n"
    half = glued // 2
    room.pump(lambda: any(len(flooder.outgoing) < half for flooder in flooders), "a flood", 60)
    for number in range(3):
        pump_through(room, quiet, b"/ping x\n", 60)
        done = [flooder.name for flooder in flooders if b"* pong done\n" in flooder.incoming]
        assert not done, f"{done} had their whole flood answered before {number + 1} pings"


@pytest.mark.profile("chat")
def test_flooders_take_turns(launch_server, crowd):
    """F7: while all of twenty have input, no two turns of one client follow each other.

    A listener does not read, so all have to wait, with more input than one turn takes. When it
    reads again, it hears in which order they have their turns.
    """
    room = crowd(launch_server("--stall-timeout", "60"))
    listener, *flooders = room.join(["listener", *(f"flooder-{n:02d}" for n in range(20))])
    listener.reading = False
    line = b"so much to say\n"
    for flooder in flooders:
        flooder.outgoing += line * (GLUED // len(line))
    room.pump_until_quiet()
    listener.reading = True
    room.barrier(flooders)
    room.barrier([listener])
    speakers = [line.partition(":")[0] for line in listener.lines()[:-1]]
    # Before the last one begins, and after the first one ends, not everybody has input.
    start = max(speakers.index(flooder.name) for flooder in flooders)
    end = min(len(speakers) - speakers[::-1].index(flooder.name) for flooder in flooders)
    assert start < end, "one client's whole flood was processed before another had its first turn"
    turns = [len(list(said)) for _, said in itertools.groupby(speakers[start:end])]
    longest = max(turns) * len(line)
    assert longest <= 24 * 1024, f"{longest >> 10} KiB of one, while 19 others waited; at most 16"


def flood_on(flooders, line):
    """Give them more to send, and throw away what has arrived; returns how much for the first."""
    for flooder in flooders:
        if len(flooder.outgoing) < 100_000:
            flooder.outgoing += line * (100_000 // len(line))
    arrived = len(flooders[0].incoming)
    for flooder in flooders:
        flooder.incoming.clear()
    return arrived


def test_two_hundred_newcomers_beside_ten_flooders(launch_server, crowd):
    """F7, H1: they are greeted while the flood goes on."""
    room = crowd(launch_server())
    flooders = room.join(f"flooder-{number}" for number in range(10))
    room.pump(lambda: flood_on(flooders, b"and so on\n") > 0, "the flood")
    newcomers = room.connect(f"newcomer-{number}" for number in range(200))

    def all_are_greeted():
        flood_on(flooders, b"and so on\n")
        return all(b"enter your name" in newcomer.incoming for newcomer in newcomers)

    room.pump(all_are_greeted, "200 greetings", 40)


@NEEDS_SIGSTOP
@pytest.mark.profile("echo")
@at_a_steady_pace
def test_everyone_gets_a_turn_among_three_hundred_flooders(launch_server, crowd):
    """F7: while the luckiest flooder gets the answers of four turns, every other gets some.

    We count from when everyone has an answer. When all begin to flood at once, the first threads
    that wake up have many turns before the last one is awake and stands in line. While we look, the
    server is halted, so all that it has sent is counted, however slow we are.
    """
    room = crowd(server := launch_server())
    flooders = room.join(f"flooder-{number:03d}" for number in range(300))
    line = b"a line of medium length: ".ljust(90, b"x") + b"\n"
    answers_in_a_turn = 16 * 1024 // len(line)
    four_turns = 4 * answers_in_a_turn * len(b"flooder-000: " + line)
    arrived = dict.fromkeys(flooders, 0)

    def flood_and_count():
        for flooder in flooders:
            arrived[flooder] += len(flooder.incoming)
        flood_on(flooders, line)

    def everyone_has_an_answer():
        flood_and_count()
        return all(arrived.values())

    def the_luckiest_has_four_turns():
        flood_and_count()
        return max(arrived.values()) >= four_turns

    room.pump(everyone_has_an_answer, "an answer for each of 300 flooders", 60)
    for is_counted in (False, True, True):
        if is_counted:
            room.pump(the_luckiest_has_four_turns, "four turns of one flooder", 60)
        with halted(server.process):
            room.pump_until_quiet()
            flood_and_count()
        starved = sum(not size for size in arrived.values())
        assert not starved, f"{starved} of 300 had no answer while one had those of four turns"
        arrived.update(dict.fromkeys(flooders, 0))


@pytest.mark.versions("v2_select", "v3_broadcast", "v4_asyncio")
def test_newcomers_are_greeted_in_a_few_turns(launch_server, crowd):
    """F7, H1: clients that wait at the listener are all accepted at once, not one in each round.

    What arrived for one of the flooders tells how many turns there were.
    """
    room = crowd(launch_server())
    flooders = room.join(f"flooder-{number}" for number in range(10))
    line = b"and so on\n"
    # A flooder gets its own lines back (echo), or those of the nine others (chat).
    senders = 1 if room.profile == "echo" else 9
    bytes_in_a_turn = 16 * 1024 // len(line) * len(b"flooder-0: and so on\n") * senders
    room.pump(lambda: flood_on(flooders, line) > 0, "the flood")
    newcomers = room.connect(f"newcomer-{number}" for number in range(200))
    arrived = 0

    def all_are_greeted():
        nonlocal arrived
        arrived += flood_on(flooders, line)
        return all(b"enter your name" in newcomer.incoming for newcomer in newcomers)

    room.pump(all_are_greeted, "200 greetings", 40)
    turns = arrived / bytes_in_a_turn
    assert turns < 50, f"each flooder had {turns:.0f} turns until 200 newcomers were greeted"


def test_lines_keep_their_order_when_a_turn_is_cut_short(launch_server, crowd):
    """F5, F7: questions and works in one piece are answered in the order they were sent."""
    room = crowd(launch_server())
    room.join(f"somebody-quite-{number}" for number in range(100))
    (asker,) = room.join(["asker"])
    expected = []
    for number in range(400):
        asker.outgoing += b"/ping %d\n/list\n" % number
        expected += [f"* pong {number}", "/list"]
        if number % 100 == 50:
            asker.outgoing += b"/work 1\n"
            expected.append("* worked 1 ms")
    room.pump(lambda: b"* pong 399\n" in asker.incoming, "the last answer")
    room.barrier([asker])
    answers = ["/list" if " online: " in line else line for line in asker.lines()[:-1]]
    assert answers == expected
