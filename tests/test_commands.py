"""Commands, C1 to C7: what a line that starts with `/` does."""

import os
import signal
import time

import pytest

from harness.answers import PM_USAGE, WORK_USAGE
from harness.launcher import VERSIONS
from harness.waiting import wait_until

# A processor that is busy with other things may take several times as long for a `/work 1000`.
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
    """C6: the shortest and the longest; answered when done, and before the next line."""
    conversation.alice.timeout = PATIENCE
    conversation.alice.send_bytes(f"/work {milliseconds}\n/ping after\n".encode())
    assert conversation.outcome() == ([f"* worked {milliseconds} ms", "* pong after"], [])


ours = pytest.mark.versions(*VERSIONS)


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
        # Whole numbers in a way; that ours take plain digits alone is a choice of theirs.
        pytest.param(" +5", marks=ours),
        pytest.param(" 007", marks=ours),
        pytest.param(" \u0661\u0662", marks=ours),
    ],
)
def test_work_usage(conversation, arguments):
    """C6: anything but a whole number from 1 to 1000 gets the usage."""
    conversation.alice.send_line(f"/work{arguments}")
    assert conversation.outcome() == ([WORK_USAGE], [])


def test_work_is_measured_in_cpu_time(launch_server, join, inspect):
    """C6: 300 ms of CPU time each, for two at once, and though the server is halted meanwhile.

    A clock on the wall goes on when the server is halted, and when the two take turns.
    """
    server = launch_server()
    workers = join(server, "worker-1", "worker-2")
    process = inspect(server)
    before = process.cpu_seconds()
    for worker in workers:
        worker.timeout = PATIENCE
        worker.send_line("/work 300")
    wait_until(lambda: process.cpu_seconds() - before > 0.04, "the work to begin", PATIENCE)
    # The whole group, as it may have processes of its own that compute.
    os.killpg(server.process.pid, signal.SIGSTOP)
    try:
        workers[0].wait_for_data(0.4)
    finally:
        os.killpg(server.process.pid, signal.SIGCONT)
    for worker in workers:
        assert worker.ping() == ["* worked 300 ms"]
    used = process.cpu_seconds() - before
    assert used > 0.54, f"for 600 ms of work {1000 * used:.0f} ms of CPU time were used"


def test_work_that_is_cut_short_is_not_claimed(launch_server, join):
    """C6, L4: who is stopped in the middle of a second's work does not say it was done.

    A server may do it to the end, if it can; but nobody does it in less than a second.
    """
    server = launch_server()
    workers = join(server, "worker-1", "worker-2")
    start = time.monotonic()
    for worker in workers:
        worker.send_line("/work 1000")
    # By then it has begun, most likely. If not, there is nothing to claim either.
    workers[0].wait_for_data(0.2)
    server.process.terminate()
    for worker in workers:
        claims = [line for line in worker.read_to_end() if line.startswith("* worked")]
        seconds = time.monotonic() - start
        assert claims == [] or seconds > 1, f"{claims} after {seconds:.2f} s"


@pytest.mark.versions("v1_threads", "v4_asyncio")
def test_work_leaves_the_others_alone(server, join):
    """C6, D4: with threads the others are served, and hear the worker, while it goes on."""
    worker, other = join(server, "worker", "other")
    worker.timeout = PATIENCE
    worker.send_bytes(b"here I go\n/work 1000\n")
    heard = [line for _ in range(5) for line in other.ping()]
    assert not worker.wait_for_data(0), "the work was over before another client was served"
    *told, answer = worker.ping()
    assert answer == "* worked 1000 ms"
    hearer, what_was_heard = ("other", heard) if server.profile == "chat" else ("worker", told)
    assert what_was_heard == ["worker: here I go"], f"what {hearer} heard"
    assert heard + told == what_was_heard, "somebody else heard it, too"


@pytest.mark.versions("v2_select", "v3_broadcast")
def test_work_makes_the_others_wait(server, join):
    """C6: in a loop with one thread everybody stands still until the work is done."""
    worker, other = join(server, "worker", "other")
    worker.timeout = other.timeout = PATIENCE
    worker.send_line("/work 300")
    # The first ping may be answered in the turn that begins the work. The second was sent after
    # that turn had seen the work, and so its answer has to come after the worker's.
    other.ping()
    other.ping()
    assert worker.wait_for_data(0.1), "another client was served while the work went on"
    assert worker.ping() == ["* worked 300 ms"]


@pytest.mark.profile("chat")
def test_private_message(server, join):
    """C7: the recipient alone gets it; the sender gets nothing."""
    alice, bob, carol = join(server, "alice", "bob", "carol")
    assert alice.ask("/pm bob it's a secret") == []
    assert bob.ping() == ["@alice: it's a secret"]
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
    ],
)
def test_private_message_errors(conversation, line, answer):
    """C7: one of two errors, and nobody else hears of it."""
    conversation.alice.send_line(line)
    assert conversation.outcome() == ([answer], [])


@pytest.mark.profile("chat")
def test_no_private_message_into_the_handshake(server, connect, join):
    """C7, H3: only those who are in can be written to, and no longer than they are."""
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
    """C7, C5: there `/pm` is as unknown as any other."""
    conversation.alice.send_line("/pm bob hi")
    assert conversation.outcome() == (["! unknown command: /pm (try /help)"], [])


def test_commands_are_no_messages(conversation):
    """C1, C2, C3, C5, D1, D2: nothing that starts with `/` is delivered to anybody."""
    for line in ("/help", "/list", "/ping x", "/unknown", "/work 0"):
        conversation.alice.send_line(line)
    told, delivered = conversation.outcome()
    assert len(told) == 5, f"five commands, five answers; these came: {told}"
    assert delivered == [], "this was said to others"
