"""Delivery, D1 to D4: who gets what, and in which order."""

import pytest

from harness.line_client import LineClient
from harness.waiting import wait_until, wait_until_left
from tests.suite.conversation import assert_one_order
from tests.suite.leaving import quit_politely, reset_in_mid_line
from tests.suite.pace import at_a_steady_pace


@pytest.mark.profile("echo")
def test_echo(server, join):
    """D1: a text comes back to its sender alone."""
    alice, bob = join(server, "alice", "bob")
    assert alice.ask("hello") == ["alice: hello"]
    assert bob.ping() == []


@pytest.mark.profile("chat")
def test_chat(server, join):
    """D2: everyone else who is in gets the text; its sender does not."""
    alice, bob, carol = join(server, "alice", "bob", "carol")
    assert alice.ask("hello") == []
    assert bob.ping() == ["alice: hello"]
    assert carol.ping() == ["alice: hello"]


@pytest.mark.profile("chat")
def test_the_one_and_only(server, join):
    """D2: with nobody else in, a text reaches nobody, and that is no error."""
    assert join(server, "alice").ask("anybody here?") == []


@pytest.mark.parametrize("text", ["* not a notice", "! not an error", "@alice: no pm", "a: b", "é"])
def test_a_text_stays_a_text(conversation, text):
    """D1, D2: the sender's name goes in front, so no text can pass for anything else."""
    conversation.alice.send_line(text)
    assert conversation.outcome() == ([], [text])


@pytest.mark.profile("echo")
def test_nobody_hears_of_others_in_the_echo_profile(server, join):
    """D1, D3: nobody is told that others come and go, whichever way."""
    alice = join(server, "alice")
    for leave in (quit_politely, LineClient.close, LineClient.reset):
        leave(join(server, "bob"))
        assert wait_until_left(alice, "bob") == [], f"alice heard of bob's {leave.__name__}"


@pytest.mark.profile("chat")
def test_joined(server, connect, join):
    """D3, H3: it is announced once to everyone else who is in, and to nobody in the handshake."""
    alice = join(server, "alice")
    outsider = connect(server)
    outsider.read_line()
    bob = connect(server)
    bob.join("bob")
    assert bob.ping() == []
    assert alice.ping() == ["* bob joined"]
    outsider.send_line("outsider")
    assert outsider.read_line() == "* hello outsider"
    assert outsider.ping() == []


@pytest.mark.profile("chat")
def test_who_never_came_in_never_leaves(server, connect, join):
    """D3: a client that goes away during the handshake is not announced at all."""
    alice = join(server, "alice")
    for way in ("close", "reset", "half_close"):
        stranger = connect(server)
        stranger.read_line()
        stranger.send_line("alice")
        stranger.read_line()
        getattr(stranger, way)()
    bob = join(server, "bob")
    bob.ping()
    assert alice.ping() == ["* bob joined"]


def quit_and_reset(client):
    client.send_bytes(b"/quit\n/quit\n")
    client.reset()


WAYS_TO_LEAVE = {
    "quit": lambda client: client.send_line("/quit"),
    "end_of_input": LineClient.close,
    "half_close": LineClient.half_close,
    "reset": LineClient.reset,
    "reset_in_mid_line": reset_in_mid_line,
    "quit_and_reset": quit_and_reset,
}


@pytest.mark.profile("chat")
@pytest.mark.parametrize("leave", WAYS_TO_LEAVE.values(), ids=WAYS_TO_LEAVE)
def test_left_exactly_once(server, join, leave):
    """D3, L6: everyone else who is in is told, however she left, and her name is free again."""
    alice, bob, carol = join(server, "alice", "bob", "carol")
    leave(alice)
    for witness in (bob, carol):
        assert witness.read_line() == "* alice left"
    second_alice = join(server, "alice")
    second_alice.send_line("/quit")
    second_alice.read_to_end()
    for witness in (bob, carol):
        assert witness.read_until("* alice left") == ["* alice joined"]
        assert witness.ping() == []


@pytest.mark.profile("chat")
@at_a_steady_pace
def test_left_once_after_an_idle_timeout(launch_server, join):
    """L1, D3: a client that is timed out leaves like any other."""
    server = launch_server("--idle-timeout", "0.6")
    alice, bob = join(server, "alice", "bob")
    notices = []

    def has_left():
        notices.extend(bob.ping())
        return "* alice left" in notices

    wait_until(has_left, "alice to be timed out", session=bob.session)
    assert alice.read_to_end() == ["! idle timeout"]
    join(server, "alice").ping()
    assert notices + bob.ping() == ["* alice left", "* alice joined"]


@pytest.mark.profile("chat")
def test_a_pong_means_queued_for_everyone(server, join):
    """D4: once the sender has her pong, each recipient gets her lines before its own pong."""
    alice, *others = join(server, "alice", "bob", "carol", "dave")
    lines = [f"alice: {number}" for number in range(500)]
    alice.send_bytes(b"".join(b"%d\n" % number for number in range(500)))
    assert alice.ping() == []
    for recipient in others:
        assert recipient.ping() == lines


@pytest.mark.profile("chat")
def test_private_and_public_lines_keep_their_order(server, join):
    """D4, C7, F5: one client's lines reach another in the order they were sent, private or not."""
    alice, bob = join(server, "alice", "bob")
    alice.send_bytes(b"1\n/pm bob 2\n3\n/pm bob 4\n/pm bob 5\n6\n")
    alice.ping()
    heard = ["alice: 1", "@alice: 2", "alice: 3", "@alice: 4", "@alice: 5", "alice: 6"]
    assert bob.ping() == heard


@pytest.mark.profile("chat")
def test_any_two_see_the_same_order(server, crowd):
    """D4: eight senders talk at once and hear each other; all agree on what came first."""
    room = crowd(server)
    senders = room.join([f"sender-{number}" for number in range(8)])
    readers = room.join(["reader-1", "reader-2"])
    for turn in range(40):
        for sender in senders:
            sender.outgoing += b"".join(b"%d\n" % (turn * 5 + step) for step in range(5))
        room.pump(lambda: not any(sender.outgoing for sender in senders), "all to be sent")
    room.barrier(senders)
    room.barrier(room.members)
    assert_one_order(senders, readers, 200)


@pytest.mark.profile("chat")
def test_coming_and_going_take_part_in_the_order(server, join):
    """D3, D4: for everyone, joined comes before the first line, and left after the last one."""
    alice, bob, carol = join(server, "alice", "bob", "carol")
    alice.send_bytes(b"first\n/ping 1\nlast\n/quit\n")
    assert alice.read_to_end() == ["* pong 1", "* bye alice"]
    second = join(server, "alice")
    second.ask("again")
    expected = ["alice: first", "alice: last", "* alice left", "* alice joined", "alice: again"]
    for witness in (bob, carol):
        assert witness.read_until(expected[-1]) == expected[:-1]
        assert witness.ping() == []
