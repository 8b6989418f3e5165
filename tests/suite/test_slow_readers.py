"""Slow readers, L3: a client that does not read never hurts another.

The kernel decides how much it holds for such a client: some megabytes on Linux. So each test sends
more than that.
"""

import functools
import socket
import time

import pytest

from harness.answers import IDLE_TIMEOUT
from harness.crowd import Crowd
from harness.proc import halted
from harness.waiting import wait_until, wait_until_left
from tests.limits.ways import SMALL_BUFFERS_PREPARATION
from tests.suite.marks import NEEDS_SIGSTOP
from tests.suite.pace import (
    SMALL_BUFFER,
    at_a_steady_pace,
    connect_slow_reader,
    join_slow_reader,
    need_a_steady_pace,
    need_small_buffers,
    pump_at_a_pace,
)

# A flood has so many lines, of 1000 bytes each.
LINES = 10_000
# It holds five clients' 256 KiB, and as much again for copies under way.
GROWTH_LIMIT = 4  # MiB
# A client that reads at this rate is promised to lose nothing.
RATE = 400_000  # bytes per second
# It reads at that rate for two and a half times the default --stall-timeout.
SLOW_SECONDS = 2.5
# The outbox of one who reads slowly is above 256 KiB, and the kernels hold some 60 KB more for it.
# When it has read so much, its outbox is above half of the mark, or below.
LESS_THAN_HALF = 90_000  # bytes
MORE_THAN_HALF = 220_000  # bytes
FOUR_BYTE_LETTER = "\N{MATHEMATICAL BOLD ITALIC SMALL A}"


@pytest.fixture
def launch_with_small_buffers(target, launch_server):
    """Like `launch_server`, with buffers so small that the kernel holds next to nothing."""
    need_small_buffers(target)
    preparation = [SMALL_BUFFERS_PREPARATION, str(SMALL_BUFFER)]
    return functools.partial(launch_server, preparation=preparation)


def numbered_lines(prefix=""):
    return [f"{prefix}{number:06d}{'x' * 993}" for number in range(LINES)]


def flood(member):
    member.outgoing += "\n".join([*numbered_lines(), ""]).encode()


def deaf_client(room):
    """Let a client not read the lines that are for it; returns (that client, the sender).

    On return nothing flows any more: the server has stopped reading.
    """
    clients = room.join(["deaf"] if room.profile == "echo" else ["deaf", "sender"])
    deaf, sender = clients[0], clients[-1]
    deaf.reading = False
    flood(sender)
    room.pump_until_quiet()
    return deaf, sender


def check_lines(received, expected):
    """The lines that arrived are those expected; if not, say where the difference begins."""
    if received == expected:
        return
    pairs = enumerate(zip(received, expected, strict=False))
    shortest = min(len(received), len(expected))
    place = next((index for index, (line, wanted) in pairs if line != wanted), shortest)
    raise AssertionError(
        f"{len(received)} lines came, {len(expected)} were sent; after {place} of them came "
        f"{[line[:60] for line in received[place : place + 3]]} instead of "
        f"{[line[:60] for line in expected[place : place + 3]]}"
    )


@pytest.mark.profile("chat")
@at_a_steady_pace
def test_readers_that_never_read(launch_server, join, crowd, bounded_memory):
    """L3, D3, D4: each is dropped, once; the others lose nothing, and the memory stays bounded."""
    room = crowd(server := launch_server("--stall-timeout", "0.4"))
    alice, bob, *deaf = room.join(["alice", "bob", "deaf1", "deaf2", "deaf3"])
    with bounded_memory(server, GROWTH_LIMIT):
        for member in deaf:
            member.reading = False
            member.outgoing += b"/ping can you hear me?\n" * 10
        flood(alice)
        room.barrier([alice])
        room.barrier([bob])
        lines = bob.lines()[:-1]
        left = [line for line in lines if line.endswith(" left")]
        assert sorted(left) == [f"* {member.name} left" for member in deaf]
        check_lines([line for line in lines if line not in left], numbered_lines("alice: "))
    assert join(server, "deaf1").ask("/list") == ["* 3 online: alice, bob, deaf1"]


@pytest.mark.profile("echo")
def test_a_client_that_never_reads_its_echoes(launch_server, join, crowd, bounded_memory):
    """L3: it is dropped, the others are served all the time, and the memory stays bounded."""
    server = launch_server("--stall-timeout", "0.3")
    bob = join(server, "bob")
    room = crowd(server)
    with bounded_memory(server, GROWTH_LIMIT):
        deaf, _ = deaf_client(room)
        assert wait_until_left(bob, "deaf") == [], "bob got what is not his"
        deaf.reading = True
        deaf.incoming.clear()
        room.pump(lambda: deaf.closed, "the connection of the dropped client to end")


@pytest.mark.profile("echo")
def test_much_to_say_beside_deaf_clients(launch_server, crowd):
    """L3, F7: six clients that never read take nothing from one who sends much and reads.

    Their names are long and their lines short, so each read brings more answers than there is room
    for. A server may let a few clients that send much go on at a time. These must not be the deaf.
    """
    room = crowd(launch_server("--stall-timeout", "60"))
    *deaf, talker = room.join(f"{number}{FOUR_BYTE_LETTER * 19}" for number in range(7))
    for member in deaf:
        member.reading = False
    for member in room.members:
        member.outgoing += b"a\n" * 50_000
    room.pump_until_quiet()
    room.barrier([talker])


@pytest.mark.profile("chat")
@at_a_steady_pace
def test_a_deaf_client_delays_the_room_once(launch_server, crowd):
    """L3: the others wait for it until it is gone, not again and again.

    A few pongs may come before that: the kernel sometimes finds room for yet another batch.
    """
    room = crowd(launch_server("--stall-timeout", "0.5"))
    alice, deaf, sender = room.join(["alice", "deaf", "sender"])
    deaf.reading = False
    flood(sender)
    for _ in range(4):
        room.pump_until_quiet()
        room.barrier([alice])
        if b"* deaf left\n" in alice.incoming:
            break
    assert b"* deaf left\n" in alice.incoming, "one who does not read was never dropped"


@pytest.mark.versions("v3_broadcast", "v4_asyncio")
@at_a_steady_pace
def test_twenty_deaf_clients_delay_the_room_at_the_same_time(launch_server, crowd):
    """L3: all their outboxes are too full, and each has the same --stall-timeout, not one more.

    One after another they would take ten seconds.
    """
    room = crowd(launch_server("--stall-timeout", "0.5"))
    alice, sender, *deaf = room.join(["alice", "sender", *(f"deaf-{n:02d}" for n in range(20))])
    for member in deaf:
        member.reading = False
    flood(sender)
    room.pump(lambda: alice.incoming.count(b" left\n") == 20, "twenty to be dropped", 5)


@pytest.mark.versions("v3_broadcast", "v4_asyncio")
def test_the_room_is_held_until_half_is_read(launch_with_small_buffers, crowd):
    """L3: a hold ends when the outbox is down to half of the mark, neither before nor much later.

    What the kernels hold for the slow one is known, because their buffers are small. It reads less
    than half of its outbox, and nothing more is said. It reads more than half, and the room goes
    on.
    """
    room = crowd(launch_with_small_buffers("--stall-timeout", "60"))
    slow = join_slow_reader(room, "slow")
    witness, sender = room.join(["witness", "sender"])
    slow.reading = False
    flood(sender)

    def heard_when_slow_has_read(size):
        def has_read():
            slow.reading = len(slow.incoming) < size
            return not slow.reading

        room.pump(has_read, f"{size} bytes for one who reads slowly")
        room.pump_until_quiet(0.3)
        return len(witness.incoming)

    before = heard_when_slow_has_read(0)
    after_less = heard_when_slow_has_read(LESS_THAN_HALF)
    assert after_less == before, f"{after_less - before} bytes were said before half was read"
    heard_when_slow_has_read(MORE_THAN_HALF)
    room.pump(lambda: len(witness.incoming) > before, "the room to go on beyond the half")


@pytest.mark.profile("chat")
@at_a_steady_pace
def test_a_flooder_does_not_starve_the_others(launch_server, crowd):
    """L3: while everybody reads and one floods, another gets its turn before the flood's end."""
    room = crowd(launch_server())
    alice, flooder = room.join(["alice", "flooder-with-long-nm"])
    flooder.outgoing += b"a\n" * 300_000 + b"/ping end\n"
    room.pump(lambda: len(alice.incoming) > 100_000, "the flood")
    room.barrier([alice])
    assert b"* pong end\n" not in flooder.incoming, "alice had to wait for the flood's end"


@at_a_steady_pace
def test_what_is_held_back_is_not_lost(launch_server, join, crowd, bounded_memory, clock):
    """L3, L1: above HIGH_WATER a server waits instead of storing; nobody whose line waits is idle.

    When the client reads again, everything flows.
    """
    server = launch_server("--idle-timeout", "1", "--stall-timeout", "60")
    wait = clock("1")
    room = crowd(server)
    with bounded_memory(server, GROWTH_LIMIT):
        deaf, sender = deaf_client(room)
        if server.profile == "echo":
            assert join(server, "bob").ask("/list") == ["* 2 online: bob, deaf"]
        wait()
    deaf.reading = True
    sender.outgoing += b"/ping last\n"
    # Both speak all the time, because a hold need not count as a line of theirs (L1).
    sends = {deaf: b"/ping here\n", sender: b"/ping here\n"}

    def is_answered():
        return sender.closed or b"* pong last\n" in sender.incoming

    awaited = "an answer to the last of the sender's lines"
    pump_at_a_pace(room, is_answered, awaited, 30, sends=sends)
    room.barrier([deaf])
    texts = [line for line in deaf.lines() if line[0] not in "*!"]
    check_lines(texts, numbered_lines(f"{sender.name}: "))
    for member in (deaf, sender):
        assert IDLE_TIMEOUT not in member.lines(), f"{member.name} was told that it was idle"


def test_half_close_with_output_waiting(launch_server, crowd):
    """L5, L3: the end of input comes while the server cannot send; nothing is cut off.

    How many answers the kernel takes is not known. So there are several clients, 240 kB apart,
    which is less than HIGH_WATER: for one of them the server still holds the last answers.
    """
    room = crowd(launch_server("--stall-timeout", "60"))
    # They are numbers of questions, and of kB, because an answer is 1 kB.
    numbers = range(240, 5000, 240)
    members = room.join(f"asker-{number}" for number in numbers)
    questions = [f"/ping {line}" for line in numbered_lines()]
    for member, number in zip(members, numbers, strict=True):
        member.reading = False
        member.outgoing += "\n".join([*questions[:number], ""]).encode()
    room.pump_until_quiet()
    talking = [member for member in members if member.outgoing]
    for member in members:
        if member not in talking:
            member.socket.shutdown(socket.SHUT_WR)
    room.pump_until_quiet()
    for member in members:
        member.reading = True
    room.pump(lambda: not any(member.outgoing for member in talking), "all questions to be sent")
    for member in talking:
        member.socket.shutdown(socket.SHUT_WR)
    room.pump(lambda: all(member.closed for member in members), "the server to close")
    answers = numbered_lines("* pong ")
    for member, number in zip(members, numbers, strict=True):
        lines = [line for line in member.lines() if line.startswith("* pong ")]
        check_lines(lines, answers[:number])


@pytest.mark.profile("chat")
def test_half_close_behind_a_full_outbox(launch_server, crowd):
    """L5: at the end of input a client's outbox is not empty; all of it is sent.

    It asks until its outbox is so full that nobody is answered (L3), and reads until somebody is.
    From then on there is room for all that it has asked, and half of its outbox is still unsent.
    """
    room = crowd(launch_server("--stall-timeout", "60"))
    (alice,) = room.join(["alice"])
    asker = join_slow_reader(room, "asker")
    asker.reading = False
    questions = numbered_lines("/ping ")
    asked = 0
    while asked < LINES and not alice.awaited:
        asker.outgoing += "\n".join([*questions[asked : asked + 40], ""]).encode()
        asked += 40
        alice.outgoing += b"/ping am I held?\n"
        alice.awaited = b"* pong am I held?\n"
        end = time.monotonic() + 0.3
        room.pump(lambda end=end: not alice.awaited or time.monotonic() > end, "a moment")
    # What it has not sent yet could not be sent after the end of its output.
    pump_at_a_pace(
        room,
        lambda: not (alice.awaited or asker.outgoing),
        "alice's pong, and all questions to be sent",
        20,
        reads={asker: RATE},
    )
    asker.reading = False
    asker.socket.shutdown(socket.SHUT_WR)
    room.pump_until_quiet()
    asker.reading = True
    room.pump(lambda: asker.closed, "the server to close")
    assert not asker.was_reset, f"it was reset when it had read {len(asker.incoming)} bytes"
    check_lines(asker.lines(), numbered_lines("* pong ")[:asked])


def test_answers_are_output_as_well(launch_server, crowd, bounded_memory):
    """L3: a client that asks and asks but never reads is dropped, however short its questions."""
    room = crowd(server := launch_server("--stall-timeout", "0.2"))
    bob, deaf = room.join(["bob", "deaf"])
    with bounded_memory(server, GROWTH_LIMIT):
        deaf.reading = False
        deaf.outgoing += b"/help\n" * 200_000

        def dropped():
            bob.outgoing += b"/list\n"
            room.barrier([bob])
            return b"* 1 online: bob\n" in bob.incoming

        wait_until(dropped, "the deaf client to be dropped", session=room.session)


def test_long_answers_to_short_questions(launch_server, crowd, bounded_memory):
    """F7, L3: what one read brings is answered only as far as there is room for the answers.

    One read brings 2730 questions for lists of 5 kB.
    """
    room = crowd(server := launch_server("--stall-timeout", "60"))
    deaf, *_ = room.join(["deaf", *(f"{n:02d}{FOUR_BYTE_LETTER * 18}" for n in range(60))])
    with bounded_memory(server, GROWTH_LIMIT):
        deaf.reading = False
        deaf.outgoing += b"/list\n" * 5000
        room.pump_until_quiet()


@pytest.mark.profile("chat")
def test_private_messages_are_output_as_well(launch_server, crowd, bounded_memory):
    """L3, C7: their deaf recipient is dropped; from then on there is no such user."""
    room = crowd(server := launch_server("--stall-timeout", "0.2"))
    alice, deaf = room.join(["alice", "deaf"])
    with bounded_memory(server, GROWTH_LIMIT):
        deaf.reading = False
        alice.outgoing += (b"/pm deaf " + b"x" * 990 + b"\n") * LINES
        room.barrier([alice])
        lines = alice.lines()
        assert lines[0] == "* deaf left", "one who does not read was not dropped"
        assert set(lines[1:-1]) == {"! no such user: deaf"}


def test_a_deaf_client_in_the_handshake(launch_server, join, crowd, bounded_memory):
    """L3, H4: refusals of names are output too, and a client that does not read them is dropped."""
    room = crowd(server := launch_server("--stall-timeout", "0.2"))
    with bounded_memory(server, GROWTH_LIMIT):
        (stranger,) = room.connect(["stranger"])
        stranger.reading = False
        stranger.outgoing += b"two words\n" * 900_000
        room.pump(lambda: stranger.closed, "the client to be dropped")
        assert join(server, "bob").ask("/list") == ["* 1 online: bob"]


def test_a_deaf_client_that_goes_away(launch_server, join, crowd):
    """L3, L6: the server notices at once, not when its time is up, and nobody waits any longer."""
    room = crowd(server := launch_server("--stall-timeout", "60"))
    deaf, sender = deaf_client(room)
    room.reset(deaf)
    if sender is not deaf:
        room.barrier([sender])
    wait_until_left(join(server, "bob"), "deaf")


def test_every_byte_of_many_answers(launch_server, crowd):
    """F5, L3: after a partial write the rest follows, byte for byte."""
    room = crowd(launch_server("--stall-timeout", "60"))
    asker = join_slow_reader(room, "asker")
    asker.outgoing += b"/help\n/ping end\n"
    room.pump(lambda: asker.incoming.endswith(b"* pong end\n"), "the first answer")
    answer = bytes(asker.incoming).removesuffix(b"* pong end\n")
    asker.incoming.clear()
    expected = b""
    for number in range(400):
        asker.outgoing += b"/help\n" * 50 + b"/ping %d\n" % number
        expected += answer * 50 + b"* pong %d\n" % number
    asker.reading = False
    room.pump_until_quiet()
    asker.reading = True
    room.pump(lambda: asker.closed or asker.incoming.endswith(b"* pong 399\n"), "the last answer")
    check_lines(asker.incoming.split(b"\n"), expected.split(b"\n"))


@pytest.mark.profile("chat")
def test_every_byte_of_a_broadcast(launch_server, crowd):
    """D2, L3: after a partial write the rest of what others say follows, byte for byte."""
    room = crowd(launch_server("--stall-timeout", "60"))
    listener = join_slow_reader(room, "listener")
    (sender,) = room.join([FOUR_BYTE_LETTER * 20])
    lines = [f"{number}" for number in range(25_000)]
    expected = "".join(f"{sender.name}: {line}\n" for line in lines).encode()
    listener.reading = False
    sender.outgoing += "\n".join([*lines, ""]).encode()
    room.pump_until_quiet()
    listener.reading = True
    room.pump(lambda: listener.closed or listener.incoming.endswith(b": 24999\n"), "the last line")
    check_lines(listener.incoming.split(b"\n"), expected.split(b"\n"))


def read_on_and_be_silent(server):
    """Two stop reading, and read on. Then one goes on talking for longer than the time limit."""
    with Crowd(server.address, server.profile, server.session) as room:
        talker, silent, *others = room.join(["talker", "silent", "sender"])
        deaf = [talker, silent]
        for member in deaf:
            member.reading = False
        for sender in deaf if room.profile == "echo" else others:
            flood(sender)
        room.pump_until_quiet()
        for member in deaf:
            member.reading = True
        room.barrier(room.members)
        end = time.monotonic() + 2.3
        while time.monotonic() < end:
            room.barrier([talker])
        room.barrier([silent])
        for member in deaf:
            assert IDLE_TIMEOUT not in member.lines(), f"{member.name} was told that it was idle"


@pytest.mark.waits("--stall-timeout", "2", work=read_on_and_be_silent)
def test_who_reads_on_is_forgiven(wait_is_over):
    """L3: the time limit of a client that did not read ends as soon as it reads again."""
    wait_is_over()


@pytest.mark.versions("v2_select", "v3_broadcast")
@NEEDS_SIGSTOP
@at_a_steady_pace
def test_a_long_round_is_not_held_against_a_reader(launch_server, crowd, clock):
    """L3: a client that has read during a long round of the loop is not dropped.

    The loop tries to send before it looks at the deadlines, which have passed meanwhile.
    """
    room = crowd(server := launch_server("--stall-timeout", "1"))
    wait = clock("1.2")
    deaf, _ = deaf_client(room)
    with halted(server.process):
        deaf.reading = True
        room.pump_until_quiet()
        wait()
    room.barrier([deaf])


def read_steadily_in_a_flood(server, number_of_flooders, text, size):
    """Read RATE bytes a second at first, and then as fast as possible; all have to come."""
    with Crowd(server.address, server.profile, server.session) as room:
        reader = join_slow_reader(room, FOUR_BYTE_LETTER * 20)
        names = [f"{number}{FOUR_BYTE_LETTER * 19}" for number in range(number_of_flooders)]
        flooders = [reader] if room.profile == "echo" else room.join(names)
        expected = {}
        for flooder in flooders:
            prefix = f"{flooder.name}: "
            count = size // len(flooders) // len(f"{prefix}{text}0\n".encode())
            lines = [f"{text}{number % 10}" for number in range(count)]
            expected[prefix] = [prefix + line for line in lines]
            flooder.outgoing += "\n".join([*lines, ""]).encode()
        end = time.monotonic() + SLOW_SECONDS

        def is_over():
            return reader.closed or time.monotonic() > end

        what = "the end of the slow reading"
        pause = pump_at_a_pace(room, is_over, what, 30, reads={reader: RATE})
        if reader.closed:
            need_a_steady_pace(pause)
        came = len(reader.incoming)
        assert not reader.closed, f"one who read 400 KB/s was dropped when it had read {came} bytes"
        reader.reading = True
        room.barrier(flooders)
        room.barrier([reader])
        for prefix, lines in expected.items():
            check_lines([line for line in reader.lines() if line.startswith(prefix)], lines)


@pytest.mark.waits(
    work=functools.partial(read_steadily_in_a_flood, number_of_flooders=1, text="", size=3_000_000)
)
def test_400_kilobytes_per_second_of_short_lines(wait_is_over):
    """L3: who reads them is never dropped, at the default stall timeout, and loses nothing.

    The lines of one flooder have one letter each, and its name is as long as possible.
    """
    wait_is_over()


@pytest.mark.waits(
    work=functools.partial(
        read_steadily_in_a_flood, number_of_flooders=3, text="x" * 1000, size=6_000_000
    )
)
def test_400_kilobytes_per_second_of_long_lines(wait_is_over):
    """L3: who reads them is never dropped, at the default stall timeout, and loses nothing."""
    wait_is_over()


def ask_and_quit_and_read(server):
    """Read all answers at that pace and go on sending; fails if one is missing.

    Another client has its `* bye` early, and goes on sending for two seconds of the three.
    """
    questions = [f"/ping {number:06d}{'x' * 900}" for number in range(1300)]
    answers = [f"* pong{question.removeprefix('/ping')}" for question in questions]
    with Crowd(server.address, server.profile, server.session) as room:
        (talker,) = room.join(["talker"])
        talker.outgoing += b"/quit\n"
        room.pump(lambda: b"* bye talker\n" in talker.incoming, "the other one's good-bye")
        # To see the end would be the end of its connection.
        talker.reading = False
        asker = connect_slow_reader(room, "asker")
        asker.outgoing += "\n".join(["asker", *questions, "/quit", ""]).encode()
        sends = {asker: b"and another thing\n", talker: b"and another thing\n"}
        end = time.monotonic() + 2

        def is_over():
            if time.monotonic() > end:
                sends.pop(talker, None)
            return asker.closed and talker not in sends

        pause = pump_at_a_pace(room, is_over, "the end", 20, sends, reads={asker: RATE})
    if talker.was_reset or asker.was_reset:
        need_a_steady_pace(pause)
    assert not talker.was_reset, "one who went on sending for 2 s after its `* bye` was reset"
    assert not asker.was_reset, (
        f"a client that read 400 KB/s to the end got {len(asker.incoming)} bytes of about "
        f"{sum(map(len, answers))}, and then a reset"
    )
    check_lines(asker.lines()[1:], ["* hello asker", *answers, "* bye asker"])


@pytest.mark.waits(work=ask_and_quit_and_read)
def test_answers_before_a_quit(wait_is_over):
    """C4: all of them come to a client that reads 400 KB/s and goes on sending.

    It reads to the orderly end, because a reset could destroy what is still on its way.
    """
    wait_is_over()


def test_a_steady_reader_is_not_stuck(launch_with_small_buffers, crowd):
    """L3, L2: one that takes some of its answers all the time gets them all, and its `* bye`.

    All of them take longer than --stall-timeout, in which a stuck client would take none. In the
    chat profile they are fewer than would hold the room.
    """
    room = crowd(launch_with_small_buffers("--stall-timeout", "0.4"))
    asker = join_slow_reader(room, FOUR_BYTE_LETTER * 20)
    questions = 4200 if room.profile == "echo" else 2500
    asker.outgoing += b"/list\n" * questions + b"/quit\n"
    pause = pump_at_a_pace(room, lambda: asker.closed, "the end", 20, reads={asker: 150_000})
    came = len(asker.incoming)
    if f"* bye {asker.name}" not in asker.lines():
        need_a_steady_pace(pause)
    assert not asker.was_reset, f"one who read 150 KB/s was reset when it had read {came} bytes"
    answers = [f"* 1 online: {asker.name}"] * questions
    check_lines(asker.lines(), [*answers, f"* bye {asker.name}"])


@pytest.mark.profile("chat")
def test_many_short_lines_for_deaf_clients(launch_server, crowd, inspect):
    """L3: what waits for a client is counted in bytes, and costs only a few times as many."""
    room = crowd(server := launch_server("--stall-timeout", "60"))
    (talker,) = room.join(["talker"])
    deaf = [join_slow_reader(room, f"deaf-{number}") for number in range(10)]
    for member in deaf:
        member.reading = False
    # After this the kernel's buffers for them are full, and nobody's outbox is.
    for _ in range(180):
        talker.outgoing += b"x" * 1000 + b"\n"
        room.barrier([talker])
    process = inspect(server)
    before = process.peak_memory()
    lines = 5000
    for _ in range(lines):
        talker.outgoing += b"x\n"
        room.barrier([talker])
    grown = (process.peak_memory() - before) / 1024 / len(deaf)
    said = lines * len("talker: x\n") / 1024
    assert grown < 100, f"{said:.0f} KiB that wait for a deaf client took {grown:.0f} KiB"


@pytest.mark.profile("chat")
def test_a_deaf_client_that_asks_one_thing_at_a_time(launch_server, crowd):
    """L3: it has --stall-timeout, whatever has filled its outbox, also without an idle timeout."""
    room = crowd(launch_server("--idle-timeout", "0", "--stall-timeout", "0.4"))
    (alice,) = room.join(["alice"])
    deaf = join_slow_reader(room, "deaf")
    deaf.reading = False
    # A server may let the kernel decide how much that holds for a connection: some MB.
    for _ in range(8000):
        deaf.outgoing += b"/ping " + b"x" * 990 + b"\n"
        room.barrier([alice], 10)
        if b"* deaf left\n" in alice.incoming:
            break
    assert b"* deaf left\n" in alice.incoming, "it could ask for 8 MB, and was not dropped"
