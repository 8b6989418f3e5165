"""Commands, C1 to C7: what a line that starts with `/` does."""

import os
import signal
import time

import pytest

from harness.answers import PM_USAGE, WORK_USAGE
from harness.line_client import NoAnswer
from harness.waiting import wait_until
from tests.suite.marks import OURS

# On a busy machine a `/work 1000` may take several times as long.
PATIENCE = 40.0

COMMANDS = {"echo": ["/help", "/list", "/ping", "/quit", "/work"]}
COMMANDS["chat"] = [*COMMANDS["echo"], "/pm"]


def test_help(server, join):
    """C1: one line that names every command of the profile."""
    (line,) = join(server, "alice").ask("/help")
    assert line.startswith("* commands: "), f"/help was answered with {line!r}"
    missing = [command for command in COMMANDS[server.profile] if command not in line]
    assert missing == [], f"/help does not name {missing}: {line!r}"
    assert server.profile == "chat" or "/pm" not in line, f"there is no /pm in echo: {line!r}"


def test_list(server, join):
    """C2: how many are in and who, sorted without regard to case."""
    assert join(server, "carol").ask("/list") == ["* 1 online: carol"]
    *_, zoe = join(server, "Bob", "alice", "42", "Zoë")
    assert zoe.ask("/list") == ["* 5 online: 42, alice, Bob, carol, Zoë"]


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("/ping", "* pong"),
        ("/ping x", "* pong x"),
        ("/ping two words", "* pong two words"),
        ("/ping ünï 🎉", "* pong ünï 🎉"),
        ("/ping /quit", "* pong /quit"),
        ("  /ping x  ", "* pong x"),
    ],
)
def test_ping(conversation, line, answer):
    """C3: the answer carries the text, and nobody else hears of it."""
    conversation.alice.send_line(line)
    assert conversation.outcome() == ([answer], [])


def test_quit(server, join):
    """C4: a farewell, then the server closes; what came after `/quit` is not processed."""
    alice, bob = join(server, "alice", "bob")
    alice.send_bytes(b"/ping 1\n/quit\n/ping 2\nhello\n")
    assert alice.read_to_end() == ["* pong 1", "* bye alice"]
    if server.profile == "chat":
        assert bob.read_line() == "* alice left"
    assert bob.ping() == []


def test_quit_says_the_name_as_it_was_given(server, join):
    """C4, H3: the name keeps its case."""
    zoe = join(server, "Zoë")
    zoe.send_line("/quit")
    assert zoe.read_to_end() == ["* bye Zoë"]


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("/foo", "/foo"),
        ("/foo bar baz", "/foo"),
        ("/", "/"),
        ("//", "//"),
        ("/pingx", "/pingx"),
        ("/quit!", "/quit!"),
        ("/ünknown", "/ünknown"),
    ],
)
def test_unknown_commands(conversation, line, named):
    """C5: the answer names the command without its arguments; nobody else hears of it."""
    conversation.alice.send_line(line)
    assert conversation.outcome() == ([f"! unknown command: {named} (try /help)"], [])


@pytest.mark.parametrize("milliseconds", ["1", "1000"])
def test_work(conversation, milliseconds):
    """C6: the shortest and the longest work are answered when done, before the next line."""
    conversation.alice.timeout = PATIENCE
    conversation.alice.send_bytes(f"/work {milliseconds}\n/ping after\n".encode())
    assert conversation.outcome() == ([f"* worked {milliseconds} ms", "* pong after"], [])


@pytest.mark.parametrize(
    "arguments",
    [
        "",
        " 0",
        " 1001",
        " -1",
        " 1.5",
        " abc",
        " 1_0",
        " 1 2",
        " 9" * 30,
        " " + "9" * 30,
        # These may pass for whole numbers. Our servers have chosen to take plain digits only.
        pytest.param(" +5", marks=OURS),
        pytest.param(" 007", marks=OURS),
        pytest.param(" \u0661\u0662", marks=OURS),
    ],
)
def test_work_usage(conversation, arguments):
    """C6: anything but a whole number from 1 to 1000 gets the usage."""
    conversation.alice.send_line(f"/work{arguments}")
    assert conversation.outcome() == ([WORK_USAGE], [])


def test_work_is_measured_in_cpu_time(launch_server, join, inspect):
    """C6: 200 ms of CPU time for each of two at once, although the server is halted meanwhile.

    A wall clock goes on while the server is halted, and while the two take turns.
    """
    server = launch_server()
    workers = join(server, "worker-1", "worker-2")
    process = inspect(server)
    before = process.cpu_seconds()
    for worker in workers:
        worker.timeout = PATIENCE
        worker.send_line("/work 200")
    begun = "the work to begin"
    wait_until(lambda: process.cpu_seconds() - before > 0.04, begun, PATIENCE, server.session)
    # Halt the whole group, because the server may compute in processes of its own.
    os.killpg(server.pid, signal.SIGSTOP)
    try:
        workers[0].wait_for_data(0.3)
    finally:
        os.killpg(server.pid, signal.SIGCONT)
    for worker in workers:
        assert worker.ping() == ["* worked 200 ms"]
    used = process.cpu_seconds() - before
    assert used > 0.36, f"for 400 ms of work {1000 * used:.0f} ms of CPU time were used"


def test_work_that_is_cut_short_is_not_claimed(launch_server, join):
    """C6, L4: a server that is stopped in the middle of a second's work does not claim it was done.

    A server may finish the work, but none can do it in less than a second.
    """
    server = launch_server()
    workers = join(server, "worker-1", "worker-2")
    start = time.monotonic()
    for worker in workers:
        worker.send_line("/work 1000")
    # Most likely the work has begun by then. If not, there is nothing to claim either.
    workers[0].wait_for_data(0.2)
    server.process.terminate()
    for worker in workers:
        try:
            lines = worker.read_to_end()
        # The server does not stop, which is for the tests of L4.
        except NoAnswer as error:
            lines = error.received
        claims = [line for line in lines if line.startswith("* worked")]
        seconds = time.monotonic() - start
        assert claims == [] or seconds > 1, f"{claims} after {seconds:.2f} s"


@pytest.mark.versions("v1_threads", "v4_asyncio")
def test_work_leaves_the_others_alone(server, join):
    """C6, D4: with threads, the others are served and hear the worker while the work goes on."""
    worker, other = join(server, "worker", "other")
    worker.timeout = PATIENCE
    worker.send_bytes(b"here I go\n/work 1000\n")
    heard = [line for _ in range(5) for line in other.ping()]
    assert not worker.wait_for_data(0), "the work was over before another client was served"
    *before, answer = worker.ping()
    assert answer == "* worked 1000 ms"
    hearer, what_was_heard = ("other", heard) if server.profile == "chat" else ("worker", before)
    assert what_was_heard == ["worker: here I go"], f"what {hearer} heard"
    assert heard + before == what_was_heard, "somebody else heard it, too"


@pytest.mark.versions("v2_select", "v3_broadcast")
def test_work_makes_the_others_wait(server, join):
    """C6: in a loop with one thread, everyone waits until the work is done."""
    worker, other = join(server, "worker", "other")
    worker.timeout = other.timeout = PATIENCE
    worker.send_line("/work 300")
    # The first ping may be answered in the round of the loop that begins the work. The second is
    # sent after that round has seen the work, so its answer has to come after the worker's.
    other.ping()
    other.ping()
    assert worker.wait_for_data(0.1), "another client was served while the work went on"
    assert worker.ping() == ["* worked 300 ms"]


@pytest.mark.profile("chat")
def test_private_message(server, join):
    """C7: the recipient alone gets it, without white space around it; the sender gets nothing."""
    alice, bob, carol = join(server, "alice", "bob", "carol")
    assert alice.ask("/pm bob \t it's a  secret ") == []
    assert bob.ping() == ["@alice: it's a  secret"]
    assert carol.ping() == []


@pytest.mark.profile("chat")
@pytest.mark.parametrize(("name", "typed"), [("Bob", "bOB"), ("straße", "STRASSE"), ("Zoë", "zoË")])
def test_private_message_without_regard_to_case(server, join, name, typed):
    """C7: the name is matched without regard to case."""
    alice, recipient = join(server, "alice", name)
    assert alice.ask(f"/pm {typed} hi") == []
    assert recipient.ping() == ["@alice: hi"]


@pytest.mark.profile("chat")
@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("/pm", PM_USAGE),
        ("/pm bob", PM_USAGE),
        ("/pm bob  ", PM_USAGE),
        ("/pm nobody", PM_USAGE),
        ("/pm nobody hi", "! no such user: nobody"),
        ("/pm Nobody two words", "! no such user: Nobody"),
        # Only a space ends a name.
        ("/pm bob\u00a0and two words", "! no such user: bob\u00a0and"),
        ("/pm bob\thi", PM_USAGE),
    ],
)
def test_private_message_errors(conversation, line, answer):
    """C7: one of two errors, and nobody else hears of it."""
    conversation.alice.send_line(line)
    assert conversation.outcome() == ([answer], [])


@pytest.mark.profile("chat")
def test_no_private_message_into_the_handshake(server, connect, join):
    """C7, H3: a client can be written to only while it is in."""
    outsider = connect(server)
    outsider.read_line()
    outsider.send_line("not a name")
    outsider.read_line()
    alice, bob = join(server, "alice", "bob")
    assert alice.ask("/pm not hi") == ["! no such user: not"]
    bob.send_line("/quit")
    assert alice.read_line() == "* bob left"
    assert alice.ask("/pm bob hi") == ["! no such user: bob"]
    outsider.send_line("outsider")
    assert outsider.read_line() == "* hello outsider"


@pytest.mark.profile("echo")
def test_no_private_messages_in_the_echo_profile(conversation):
    """C7, C5: in this profile `/pm` is an unknown command."""
    conversation.alice.send_line("/pm bob hi")
    assert conversation.outcome() == (["! unknown command: /pm (try /help)"], [])


def test_commands_are_no_messages(conversation):
    """C1, C2, C3, C5, D1, D2: nothing that starts with `/` is delivered to anybody."""
    for line in ("/help", "/list", "/ping x", "/unknown", "/work 0"):
        conversation.alice.send_line(line)
    replies, delivered = conversation.outcome()
    assert len(replies) == 5, f"five commands, five answers; these came: {replies}"
    assert delivered == [], "this was said to others"
