"""Slow readers, L3: a client that does not read never hurts another.

How much the kernel takes in on behalf of such a client is not ours to say: some megabytes on
Linux. So each test sends more than that.
"""

import socket

import pytest
from harness import IDLE_TIMEOUT, wait_until, wait_until_left

LINES = 10_000  # of 1000 bytes
# Five clients' 256 KiB, and as much again for copies under way. What the flood would fill without
# a bound is more: its 10 MB less what the kernel takes.
GROWTH_LIMIT = 4 << 20  # bytes


def numbered_lines(prefix=""):
    return [f"{prefix}{number:06d}{'x' * 993}" for number in range(LINES)]


def flood(member):
    member.outgoing += "\n".join([*numbered_lines(), ""]).encode()


def deaf_client(room, profile):
    """Bring about a client that does not read what it ought to get; returns (it, the sender).

    In the echo profile these are its own lines, in chat another client's. On return nothing
    flows any more: the server holds back reading.
    """
    names = ["deaf"] if profile == "echo" else ["deaf", "sender"]
    deaf, *others = room.join(names)
    sender = others[0] if others else deaf
    deaf.reading = False
    flood(sender)
    room.pump_until_quiet()
    return deaf, sender


@pytest.mark.profile("chat")
def test_readers_that_never_read(launch_server, join, crowd, inspect):
    """L3, D3, D4: each is dropped, once; the others lose nothing, and the memory stays bounded."""
    server = launch_server("--stall-timeout", "0.4")
    room = crowd(server)
    alice, bob, *deaf = room.join(["alice", "bob", "deaf1", "deaf2", "deaf3"])
    process = inspect(server)
    before = process.peak_memory()
    for member in deaf:
        member.reading = False
        member.outgoing += b"/ping can you hear me?\n" * 10
    flood(alice)
    room.barrier([alice])
    room.barrier([bob])
    lines = bob.lines()[:-1]
    left = [line for line in lines if line.endswith(" left")]
    assert sorted(left) == [f"* {member.name} left" for member in deaf]
    assert [line for line in lines if line not in left] == numbered_lines("alice: ")
    assert process.peak_memory() - before < GROWTH_LIMIT
    assert join(server, "deaf1").ask("/list") == ["* 3 online: alice, bob, deaf1"]


@pytest.mark.profile("echo")
def test_a_client_that_never_reads_its_echoes(launch_server, join, crowd, inspect):
    """L3: it is dropped, the others are served all the time, and the memory stays bounded."""
    server = launch_server("--stall-timeout", "0.3")
    bob = join(server, "bob")
    room = crowd(server)
    process = inspect(server)
    before = process.peak_memory()
    deaf, _ = deaf_client(room, server.profile)
    assert wait_until_left(bob, "deaf") == []
    deaf.reading = True
    deaf.incoming.clear()
    room.pump(lambda: deaf.closed, "the connection of the dropped client to end")
    assert process.peak_memory() - before < GROWTH_LIMIT


@pytest.mark.profile("chat")
def test_a_deaf_client_delays_the_room_once(launch_server, crowd):
    """L3: who has to wait for it waits until it is gone, not again and again.

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
    assert b"* deaf left\n" in alice.incoming


@pytest.mark.profile("chat")
def test_a_flooder_does_not_starve_the_others(launch_server, crowd):
    """L3: while everybody reads and one floods, another still gets its turn before the end."""
    room = crowd(launch_server())
    alice, flooder = room.join(["alice", "flooder-with-long-nm"])
    flooder.outgoing += b"a\n" * 300_000 + b"/ping end\n"
    room.pump(lambda: len(alice.incoming) > 100_000, "the flood")
    room.barrier([alice])
    assert b"* pong end\n" not in flooder.incoming


def test_what_is_held_back_is_not_lost(launch_server, join, crowd, inspect, clock):
    """L3, L1: above HIGH_WATER a server waits instead of storing, and that is nobody's idle time.

    When reading resumes, all flows. In the echo profile only the deaf client's own lines have to
    wait, in chat everybody's; there it has still not said anything when the sender is done.
    """
    server = launch_server("--idle-timeout", "0.7", "--stall-timeout", "60")
    wait = clock("0.7")
    room = crowd(server)
    process = inspect(server)
    before = process.peak_memory()
    deaf, sender = deaf_client(room, server.profile)
    if server.profile == "echo":
        assert join(server, "bob").ask("/list") == ["* 2 online: bob, deaf"]
    wait()
    assert process.peak_memory() - before < GROWTH_LIMIT
    deaf.reading = True
    room.barrier([sender])
    room.barrier([deaf])
    texts = [line for line in deaf.lines() if line[0] not in "*!"]
    assert texts == numbered_lines(f"{sender.name}: ")
    for member in (deaf, sender):
        assert IDLE_TIMEOUT not in member.lines()


def test_half_close_with_output_waiting(launch_server, crowd):
    """L5, L3: the end of input comes while the server cannot send; nothing is cut off.

    How many answers the kernel takes off its hands is not known. So there are several clients,
    240 kB apart, less than HIGH_WATER: for one of them the server still holds the last answers.
    """
    room = crowd(launch_server("--stall-timeout", "60"))
    numbers = range(2600, 5000, 240)  # of questions, and of kB
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
        assert lines == answers[:number]


def test_answers_are_output_as_well(launch_server, crowd, inspect):
    """L3: a client that asks and asks but never reads is dropped, however short its questions."""
    room = crowd(server := launch_server("--stall-timeout", "0.2"))
    bob, deaf = room.join(["bob", "deaf"])
    process = inspect(server)
    before = process.peak_memory()
    deaf.reading = False
    deaf.outgoing += b"/help\n" * 200_000

    def dropped():
        bob.outgoing += b"/list\n"
        room.barrier([bob])
        return b"* 1 online: bob\n" in bob.incoming

    wait_until(dropped, "the deaf client to be dropped")
    assert process.peak_memory() - before < GROWTH_LIMIT


@pytest.mark.profile("chat")
def test_private_messages_are_output_as_well(launch_server, crowd, inspect):
    """L3, C7: a flood of them drops its deaf recipient; from then on there is no such user."""
    room = crowd(server := launch_server("--stall-timeout", "0.2"))
    alice, deaf = room.join(["alice", "deaf"])
    process = inspect(server)
    before = process.peak_memory()
    deaf.reading = False
    alice.outgoing += (b"/pm deaf " + b"x" * 990 + b"\n") * LINES
    room.barrier([alice])
    lines = alice.lines()
    assert lines[0] == "* deaf left"
    assert set(lines[1:-1]) == {"! no such user: deaf"}
    assert process.peak_memory() - before < GROWTH_LIMIT


def test_a_deaf_client_in_the_handshake(launch_server, join, crowd, inspect):
    """L3, H4: refused names are answers too, and who does not read them is dropped."""
    room = crowd(server := launch_server("--stall-timeout", "0.2"))
    process = inspect(server)
    before = process.peak_memory()
    (stranger,) = room.connect(["stranger"])
    stranger.reading = False
    stranger.outgoing += b"two words\n" * 900_000
    room.pump(lambda: stranger.closed, "the client to be dropped")
    assert join(server, "bob").ask("/list") == ["* 1 online: bob"]
    assert process.peak_memory() - before < GROWTH_LIMIT


def test_a_deaf_client_that_goes_away(launch_server, join, crowd):
    """L3, L6: it is missed at once, not when its time is up, and nobody waits any longer."""
    room = crowd(server := launch_server("--stall-timeout", "60"))
    deaf, sender = deaf_client(room, server.profile)
    room.reset(deaf)
    if sender is not deaf:
        room.barrier([sender])
    wait_until_left(join(server, "bob"), "deaf")
