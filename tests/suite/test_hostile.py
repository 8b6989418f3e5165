"""Hostile and unlucky clients: none of them may cost anybody else anything (L3, L6)."""

import pytest

from harness.answers import NOT_UTF8, TOO_LONG
from harness.waiting import wait_until_left, wait_until_nobody_else_is_in
from tests.suite.conversation import assert_one_order


def say_an_endless_line(alice, bob, megabytes):
    """Send so many MB without LF, and then an LF; the answer is one error."""
    for _ in range(megabytes):
        alice.send_bytes(b"x" * (1 << 20))
    bob.ping()
    alice.send_bytes(b"\n")
    assert alice.ping() == [TOO_LONG]
    assert bob.ping() == []


def test_endless_line(target, launch_server, join, bounded_memory):
    """F2: 16 MB without LF get one error and cost no memory; after LF the connection goes on."""
    server = launch_server()
    alice, bob = join(server, "alice", "bob")
    # Where garbage is collected only now and then (Node, Java), what was thrown away takes memory
    # for a while. So three lines fill what the collector allows itself, and a longer one follows.
    for _ in range(0 if target.is_ours else 3):
        say_an_endless_line(alice, bob, 16)
    megabytes, most = (16, 4) if target.is_ours else (64, 24)
    with bounded_memory(server, most):
        say_an_endless_line(alice, bob, megabytes)


def test_endless_name(server, connect, join):
    """F2, H2: the handshake is no way around the limit."""
    bob = join(server, "bob")
    stranger = connect(server)
    stranger.read_line()
    for _ in range(4):
        stranger.send_bytes(b"x" * (1 << 20))
    stranger.send_bytes(b"\nalice\n")
    assert stranger.read_line() == TOO_LONG
    assert stranger.read_line() == "* hello alice"
    bob.ping()


def test_telnet_negotiation(server, connect):
    """F4: the first bytes of a telnet client are not UTF-8; its user tries again (RFC 854)."""
    will_and_do = bytes([255, 251, 31, 255, 253, 3])
    person = connect(server)
    person.read_line()
    person.send_bytes(will_and_do + b"alice\r\n" + b"alice\r\n")
    assert person.read_line() == NOT_UTF8
    assert person.read_line() == "* hello alice"
    # At Ctrl-C telnet sends IAC IP IAC DO TIMING-MARK.
    interrupt = bytes([255, 244, 255, 253, 6])
    assert person.ask("") == []
    person.send_bytes(interrupt + b"\r\n")
    assert person.ping() == [NOT_UTF8]


def test_telnet_urgent_data(server, join):
    """L6: an urgent byte (telnet's Synch) is not a line, and does not end the connection."""
    alice = join(server, "alice")
    alice.send_bytes(b"/ping be")
    # The flag is MSG_OOB, the same number everywhere.
    alice.socket.send(b"\xf2", 0x1)
    alice.send_bytes(b"fore\n")
    alice.ping()
    assert alice.ask("/list") == ["* 1 online: alice"]


def test_binary_noise(conversation):
    """F4, F5: no byte beside a NUL makes a text, and every such line is refused."""
    for value in range(256):
        if value == 0x0A:
            continue
        conversation.alice.send_bytes(bytes([0, value, 0]) + b"\n" + bytes([value, 0]) + b"\n")
    replies, delivered = conversation.outcome()
    assert len(replies) == 2 * 255, f"{len(replies)} refusals of {2 * 255} lines of noise"
    assert delivered == [], f"noise was taken for text, and passed on: {delivered[:3]}"


@pytest.mark.parametrize("data", [b"", b"al", b"alice\n", b"alice\nhel", b"alice\nhello\n"])
def test_resets(server, connect, join, data):
    """L6: fifty resets at each stage of a connection end those connections only."""
    bob = join(server, "bob")
    for number in range(50):
        client = connect(server)
        client.send_bytes(data.replace(b"alice", b"alice-%d" % number))
        client.reset()
    wait_until_nobody_else_is_in(bob)


def test_resets_with_answers_on_their_way(server, connect, join):
    """L6: the server meets the reset while it writes, not while it reads."""
    bob = join(server, "bob")
    for number in range(20):
        client = connect(server)
        client.join(f"alice-{number}")
        client.send_bytes(b"/help\n" * 2000)
        client.reset()
    for number in range(20):
        wait_until_left(bob, f"alice-{number}")


def test_reset_while_work_is_running(server, join):
    """L6, C6: a client that is gone before its work is done harms nobody else."""
    alice, bob = join(server, "alice", "bob")
    alice.send_line("/work 50")
    alice.reset()
    wait_until_left(bob, "alice")
    assert bob.ping() == []


def test_reset_while_much_work_waits(server, join):
    """L6, H5, C6: the reset is noticed after one piece of work, not after all twelve seconds."""
    alice, bob = join(server, "alice", "bob")
    alice.send_bytes(b"/work 300\n" * 40)
    alice.reset()
    wait_until_left(bob, "alice")


@pytest.mark.profile("chat")
def test_reset_while_a_broadcast_goes_out(server, connect, join):
    """L6, D2: the clients that stay get every line, although others vanish all the time."""
    alice, bob = join(server, "alice", "bob")
    expected = []
    for turn in range(30):
        passer_by = connect(server)
        passer_by.join(f"passer-{turn}")
        alice.send_bytes(b"".join(b"%d\n" % (turn * 20 + step) for step in range(20)))
        expected += [f"alice: {turn * 20 + step}" for step in range(20)]
        passer_by.reset()
    alice.ping()
    assert [line for line in bob.ping() if not line.startswith("*")] == expected


def test_two_hundred_that_never_speak(server, crowd, join):
    """L6, H1: they are greeted, and cost the others nothing, neither then nor afterwards."""
    alice = join(server, "alice")
    silent = crowd(server).connect(f"silent-{number}" for number in range(200))
    bob = join(server, "bob")
    bob.ping()
    assert alice.ask("/list")[-1] == "* 2 online: alice, bob"
    for member in silent:
        member.socket.close()
    assert bob.ask("/list") == ["* 2 online: alice, bob"]


@pytest.mark.profile("chat")
def test_fifty_flooders_and_fifty_readers(server, crowd):
    """D2, D4, L3: every line reaches everyone, once, and in one order for all."""
    lines_each = 100
    room = crowd(server)
    flooders = room.join(f"flooder-{number:02d}" for number in range(50))
    readers = room.join(f"reader-{number:02d}" for number in range(50))
    for flooder in flooders:
        flooder.outgoing += b"".join(b"%d\n" % number for number in range(lines_each))
    room.barrier(flooders)
    room.barrier(room.members)
    assert_one_order(flooders, readers, lines_each)


@pytest.mark.profile("echo")
def test_fifty_flooders(server, crowd):
    """D1, L3: every line comes back to its sender alone, once and in order."""
    room = crowd(server)
    flooders = room.join(f"flooder-{number:02d}" for number in range(50))
    for flooder in flooders:
        flooder.outgoing += b"".join(b"%d\n" % number for number in range(400))
    room.barrier(flooders)
    for flooder in flooders:
        echoes = [f"{flooder.name}: {number}" for number in range(400)]
        assert flooder.lines()[:-1] == echoes, f"{flooder.name}'s 400 lines are not what came back"


def test_a_flood_of_commands(server, crowd):
    """F5, C5: ten clients send unknown commands as fast as they can; each one is answered."""
    room = crowd(server)
    members = room.join(f"client-{number}" for number in range(10))
    for member in members:
        member.outgoing += b"/no such command\n" * 1000
    room.barrier(members)
    for member in members:
        refused = member.lines().count("! unknown command: /no (try /help)")
        assert refused == 1000, f"{refused} answers to {member.name}'s 1000 unknown commands"
        assert len(member.lines()) == 1001, f"{member.name} was told more than answers"
