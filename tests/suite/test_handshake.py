"""Handshake, H1 to H5: how a client gets its name, and when a name is free again."""

import pytest

from harness.answers import CONTROL_CHARACTERS, INVALID_NAME, NOT_UTF8, TOO_LONG
from harness.line_client import LineClient
from harness.waiting import wait_until_left
from tests.suite.leaving import quit_politely


@pytest.fixture
def newcomer(server, connect):
    """A client that has read the greeting."""
    client = connect(server)
    client.read_line()
    return client


def test_greeting(target, server, connect):
    """H1: the server speaks first; our own versions name their folder."""
    greeting = connect(server).read_line()
    assert greeting.startswith("* ")
    assert greeting.endswith(": enter your name")
    if target.is_ours:
        assert greeting == f"* {target.name}: enter your name"


@pytest.mark.parametrize(
    "name",
    [
        "a",
        "alice",
        "-",
        "_",
        "42",
        "a-b_c",
        "x" * 20,
        "Zoë",
        "名前",
        # Arabic digits are word characters as well.
        "\u0663\u0664",
        # These twenty characters are forty bytes.
        "é" * 20,
    ],
)
def test_valid_names(newcomer, name):
    """H2, H3: 1 to 20 word characters or `-`, in any script, counted in characters."""
    newcomer.send_line(name)
    assert newcomer.read_line() == f"* hello {name}"
    assert newcomer.ask("/list") == [f"* 1 online: {name}"]


@pytest.mark.parametrize(
    "name",
    [
        "x" * 21,
        "é" * 21,
        "two words",
        "a:b",
        "*star",
        "!bang",
        "@at",
        "a.b",
        "tab\tname",
        # The combining accent behind the e is not a word character.
        "e\u0301",
        "🎉",
        "/quit",
        "/list",
        "a\u2028b",
    ],
)
def test_invalid_names(newcomer, name):
    """H2, H4: refused with the reason, commands as well; the client may try again."""
    newcomer.send_line(name)
    assert newcomer.read_line() == INVALID_NAME
    newcomer.send_line("alice")
    assert newcomer.read_line() == "* hello alice"


def test_a_name_is_stripped(newcomer):
    """H2, F6, F1: white space around the name and CR before LF are not part of it."""
    newcomer.send_bytes("\t alice\u00a0 \r\n".encode())
    assert newcomer.read_line() == "* hello alice"


def test_framing_errors_in_the_handshake(newcomer):
    """H4, F2, F4: a bad line is answered as usual, and the client may still give its name."""
    newcomer.send_bytes(b"\xff\n" + b"x" * 2000 + b"\n" + b"al\x00ice\n" + b"alice\n")
    answers = [NOT_UTF8, TOO_LONG, CONTROL_CHARACTERS, "* hello alice"]
    assert [newcomer.read_line() for _ in range(4)] == answers


def test_handshake_and_first_lines_glued(server, connect):
    """H3, F5: lines behind the name in the same segment come from a client that is in."""
    alice = connect(server)
    alice.send_bytes(b"two words\nalice\n/ping 1\n/list\n")
    answers = [INVALID_NAME, "* hello alice", "* pong 1", "* 1 online: alice"]
    assert [alice.read_line() for _ in range(5)][1:] == answers


@pytest.mark.parametrize(
    ("taken", "wanted"),
    [
        ("alice", "alice"),
        ("Alice", "aLICE"),
        ("Zoë", "ZOË"),
        # These are equal only when case is folded, not when it is lowered.
        ("straße", "STRASSE"),
        ("ΣΊΣΥΦΟΣ", "σίσυφος"),
    ],
)
def test_names_are_unique_without_regard_to_case(server, connect, join, taken, wanted):
    """H2, H4: the refusal quotes a taken name as it was typed, and another one is accepted."""
    holder = join(server, taken)
    newcomer = connect(server)
    newcomer.read_line()
    newcomer.send_line(wanted)
    assert newcomer.read_line() == f"! name {wanted} is taken"
    newcomer.send_line("another")
    assert newcomer.read_line() == "* hello another"
    names = sorted([taken, "another"], key=str.casefold)
    assert newcomer.ask("/list")[-1] == f"* 2 online: {', '.join(names)}"
    holder.ping()


def test_who_is_not_in_has_no_name_and_hears_nothing(server, connect, join):
    """H3, C2, D2, D3: a client in the handshake is neither listed nor spoken to."""
    outsider = connect(server)
    outsider.read_line()
    alice, bob = join(server, "alice", "bob")
    alice.send_line("hello")
    assert alice.ask("/list")[-1] == "* 2 online: alice, bob"
    bob.send_line("/quit")
    bob.read_to_end()
    outsider.send_line("bob")
    assert outsider.read_line() == "* hello bob"


@pytest.mark.parametrize("line", [b"\n", b"\r\n", b"   \n", "\u3000\n".encode()])
def test_an_empty_first_line_makes_a_guest(newcomer, line):
    """H5, F6: a line of white space is empty, too."""
    newcomer.send_bytes(line)
    assert newcomer.read_line() == "* hello guest1"


def test_the_lowest_free_guest(server, connect, join):
    """H5: guest numbers count up from 1, skip taken ones and fill gaps."""
    # This client is no guest, but it takes a guest's name.
    join(server, "Guest2")
    first, second, third = (connect(server) for _ in range(3))
    assert [first.join(), second.join(), third.join()] == ["guest1", "guest3", "guest4"]
    second.send_line("/quit")
    wait_until_left(first, "guest3")
    assert connect(server).join() == "guest3"
    assert connect(server).join() == "guest5"


@pytest.mark.parametrize(
    "leave",
    [quit_politely, LineClient.close, LineClient.reset],
    ids=["quit", "end of input", "reset"],
)
def test_a_name_is_free_again(server, connect, join, leave):
    """H5: it is free as soon as its client is gone, whichever way it went."""
    alice, bob = join(server, "Alice", "bob")
    leave(alice)
    wait_until_left(bob, "Alice")
    assert connect(server).join("alice") == "alice"
