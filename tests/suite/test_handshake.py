"""Handshake, H1 to H6: how a client gets its name, and when a name is free again."""

import pytest

from harness.answers import (
    CONTROL_CHARACTERS,
    INVALID_NAME,
    NOT_A_WEB_SERVER,
    NOT_UTF8,
    TOO_LONG,
)
from harness.line_client import LineClient
from harness.waiting import wait_until_left
from tests.suite.leaving import quit_politely, read_to_an_orderly_end


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
        # These letters of Devanagari have no marks.
        "नमक",
        # A Roman numeral and a superscript are of category N.
        "\u2167\u00b2",
        # A method of HTTP is no request.
        "GET",
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
        # The combining accent behind the e is not a word character, nor are the vowel signs below.
        "e\u0301",
        "हिन्दी",
        "ไทย์",
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
    """H3, F5, H4: lines behind the name in the same segment come from a client that is in."""
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


BROWSER_GET = b"""\
GET /chat?a=b HTTP/1.1\r
Host: localhost:8003\r
User-Agent: Mozilla/5.0\r
Accept: text/html\r
\r
"""
BROWSER_POST = b"""\
POST / HTTP/1.1\r
Host: localhost:8003\r
Content-Type: text/plain\r
Content-Length: 33\r
\r
\r
hello from a page\r
/pm alice hello\r
"""
HTTP_REQUESTS = {
    "a GET": BROWSER_GET,
    "a POST with a text": BROWSER_POST,
    "two requests": BROWSER_GET + BROWSER_POST,
    "a large upload": BROWSER_POST + b"and another line\n" * 20_000,
    "LF alone": b"OPTIONS * HTTP/1.0\n\nhello\n",
    "a line that the client waits behind": b"GET / HTTP/1.1\r\n",
    # A page chooses the path of its request, so its first line may be too long to be read (F2).
    "a path that is too long": BROWSER_POST.replace(b"/", b"/" + b"a" * 1100, 1),
}


@pytest.mark.parametrize("case", HTTP_REQUESTS)
def test_an_http_request_is_refused(server, connect, join, case):
    """H6: a browser gets one line and an orderly end; nobody hears of it, or of what follows."""
    alice = join(server, "alice")
    browser = connect(server)
    browser.send_bytes(HTTP_REQUESTS[case])
    browser.read_line()
    told = browser.read_line()
    if case == "a path that is too long" and told == TOO_LONG:
        told = browser.read_line()
    assert told == NOT_A_WEB_SERVER, "what a browser was told after the greeting"
    more = browser.peek()
    more_lines = read_to_an_orderly_end(server, browser.socket, "the browser")
    assert not (more or more_lines), f"then it was told {more} {more_lines[:3]}"
    assert alice.ask("/list") == ["* 1 online: alice"], "alice heard of a browser"


def test_a_request_line_that_is_said(conversation):
    """H6, D1, D2: from a client that is in, it is a text like any other."""
    conversation.alice.send_line("GET / HTTP/1.1")
    assert conversation.outcome() == ([], ["GET / HTTP/1.1"])
