"""Framing, F1 to F6: what a line is, however its bytes arrive."""

import itertools

import pytest

from harness.answers import CONTROL_CHARACTERS, LINE_LIMIT, NOT_UTF8, TOO_LONG


def send_line_by_line(conversation, data):
    for line in data.splitlines(keepends=True):
        conversation.alice.send_bytes(line)
        conversation.let_the_server_read()


def send_byte_by_byte(conversation, data):
    for index in range(len(data)):
        conversation.alice.send_bytes(data[index : index + 1])
        conversation.let_the_server_read()


def send_glued(conversation, data):
    conversation.alice.send_bytes(b"/ping before\n" + data + b"/ping after\n")


def send_cut_at(cut, conversation, data):
    conversation.alice.send_bytes(data[:cut])
    conversation.let_the_server_read()
    conversation.alice.send_bytes(data[cut:])


def send_cut_in_halves(conversation, data):
    send_cut_at(len(data) // 2, conversation, data)


SENDERS = [send_line_by_line, send_byte_by_byte, send_glued, send_cut_in_halves]
EACH_SENDER = pytest.mark.parametrize(
    "send", SENDERS, ids=lambda send: send.__name__.removeprefix("send_")
)

# Each case is (bytes, what the sender is told, what is delivered as text).
CASES = {
    "one line": (b"hello\n", [], ["hello"]),
    "CR before LF": (b"hello\r\n", [], ["hello"]),
    "several lines": (b"one\ntwo\r\nthree\n", [], ["one", "two", "three"]),
    "UTF-8": ("naïve 日本 🎉\n".encode(), [], ["naïve 日本 🎉"]),
    "space around": (b"  hello  there \t\n", [], ["hello  there"]),
    "Unicode space around": ("\u00a0\u3000hello\u2003\n".encode(), [], ["hello"]),
    "tab inside": (b"a\tb\n", [], ["a\tb"]),
    "U+2028 is no line ending": ("a\u2028b\n".encode(), [], ["a\u2028b"]),
    "empty lines": (b"\n\r\n   \n\t\n", [], []),
    "space before a command": (b" \t /ping x \r\n", ["* pong x"], []),
    "commands and texts": (b"/ping 1\nhi\n/ping 2\n", ["* pong 1", "* pong 2"], ["hi"]),
}

REFUSED_CASES = {
    "not UTF-8": (b"hi\xff\xfethere\n", [NOT_UTF8], []),
    "after an invalid line": (b"\xff\nhello\n", [NOT_UTF8], ["hello"]),
    "NUL": (b"he\x00llo\n", [CONTROL_CHARACTERS], []),
    "escape sequence": (b"\x1b[2Jhello\n", [CONTROL_CHARACTERS], []),
    "errors in order": (
        b"\xff\n/ping 1\n\x07\n/ping 2\n",
        [NOT_UTF8, "* pong 1", CONTROL_CHARACTERS, "* pong 2"],
        [],
    ),
}


@EACH_SENDER
@pytest.mark.parametrize("case", CASES)
def test_the_same_bytes_give_the_same_result(conversation, case, send):
    """F5, F1, F6: whole, byte by byte, glued or cut, a line is what ends with LF."""
    assert_outcome(conversation, send, *CASES[case])


@EACH_SENDER
@pytest.mark.parametrize("case", REFUSED_CASES)
def test_a_refused_line_is_refused_however_it_comes(conversation, case, send):
    """F4, F5: whole, byte by byte, glued or cut, only the bad line is refused, in its place."""
    assert_outcome(conversation, send, *REFUSED_CASES[case])


def assert_outcome(conversation, send, data, answers, texts):
    send(conversation, data)
    replies, delivered = conversation.outcome()
    replies = [line for line in replies if line not in ("* pong before", "* pong after")]
    assert replies == answers, f"the sender of {data!r} was told something else"
    assert delivered == texts, f"{data!r} was delivered as something else"


LENGTHS = {
    "1024 bytes": (b"x" * 1024 + b"\n", [], 1),
    "1024 bytes and CR": (b"x" * 1024 + b"\r\n", [], 1),
    "1024 bytes of UTF-8": ("é".encode() * 512 + b"\n", [], 1),
    "1025 bytes": (b"x" * 1025 + b"\n", [TOO_LONG], 0),
    "1025 bytes and CR": (b"x" * 1025 + b"\r\n", [TOO_LONG], 0),
    "1024 bytes and two CR": (b"x" * 1024 + b"\r\r\n", [TOO_LONG], 0),
    "1026 bytes of UTF-8": ("é".encode() * 513 + b"\n", [TOO_LONG], 0),
    "1025 bytes of space": (b" " * 1025 + b"\n", [TOO_LONG], 0),
    "1100 invalid bytes": (b"\xff" * 1100 + b"\n", [TOO_LONG], 0),
    "5000 bytes": (b"x" * 5000 + b"\n", [TOO_LONG], 0),
}


@pytest.mark.parametrize("case", LENGTHS)
def test_a_line_holds_1024_bytes_without_its_ending(conversation, case):
    """F2: up to the limit it is a line, beyond it one error, whole or split at critical bytes."""
    data, answers, number_of_texts = LENGTHS[case]
    for cuts in ([], [1], [1023], [1024], [1025], [1024, 1025, 1026], [len(data) - 1]):
        edges = [0, *(cut for cut in cuts if cut < len(data)), len(data)]
        for start, end in itertools.pairwise(edges):
            conversation.alice.send_bytes(data[start:end])
            conversation.let_the_server_read()
        replies, delivered = conversation.outcome()
        assert replies == answers, f"cut at {cuts}"
        lengths = [len(text.encode()) for text in delivered]
        assert lengths == [LINE_LIMIT] * number_of_texts, f"cut at {cuts}"


def test_overlong_lines_do_not_swallow_their_neighbours(conversation):
    """F2, F5: glued between others, each overlong line is refused alone, and in order."""
    long_line = b"x" * 3000 + b"\n"
    conversation.alice.send_bytes(
        b"/ping 1\n" + long_line + b"/ping 2\n" + long_line + long_line + b"/ping 3\nhello\n"
    )
    replies, delivered = conversation.outcome()
    assert replies == ["* pong 1", TOO_LONG, "* pong 2", TOO_LONG, TOO_LONG, "* pong 3"]
    assert delivered == ["hello"]


def test_every_split_of_a_utf8_line(conversation):
    """F5: a split inside a character, and anywhere else, changes nothing."""
    text = "añ日🎉z"
    data = text.encode() + b"\r\n"
    for cut in range(1, len(data)):
        send_cut_at(cut, conversation, data)
        assert conversation.outcome() == ([], [text]), f"cut at {cut}"


NO_UTF8 = {
    "stray continuation": b"\x80",
    "never a byte of UTF-8": b"\xff",
    "cut two-byte character": b"\xc3",
    "cut three-byte character": b"\xe6\x97",
    "cut four-byte character": b"\xf0\x9f\x8e",
    "overlong slash": b"\xc0\xaf",
    "surrogate": b"\xed\xa0\x80",
    "beyond U+10FFFF": b"\xf4\x90\x80\x80",
    "Latin-1": "né".encode("latin-1"),
}


@pytest.mark.parametrize("case", NO_UTF8)
def test_invalid_utf8_at_every_split(conversation, case):
    """F4, F5: the line is refused once, wherever it was split, and the connection goes on."""
    data = b"ab" + NO_UTF8[case] + b"cd\n"
    for cut in range(1, len(data)):
        send_cut_at(cut, conversation, data)
        assert conversation.outcome() == ([NOT_UTF8], []), f"cut at {cut}"
    conversation.alice.send_bytes(b"hello\n")
    assert conversation.outcome() == ([], ["hello"])


def test_a_character_cut_by_the_end_of_its_line(conversation):
    """F4: a character does not continue in the next line; both halves are refused."""
    conversation.alice.send_bytes("日".encode()[:2] + b"\n" + "日".encode()[2:] + b"\n")
    assert conversation.outcome() == ([NOT_UTF8, NOT_UTF8], [])


def test_every_control_character_but_tab(conversation):
    """F4: category Cc is 0x00-0x1F, DEL and 0x80-0x9F, also where strip() would remove it."""
    characters = [chr(code) for code in (*range(0x20), *range(0x7F, 0xA0))]
    refused = [character for character in characters if character not in "\t\n"]
    for character in refused:
        for line in (f"a{character}b", f"{character}a", f"a{character}"):
            # One CR before the LF is part of the ending (F1), a second one is not.
            conversation.alice.send_line("a\r\r" if line == "a\r" else line)
            assert conversation.outcome() == ([CONTROL_CHARACTERS], []), repr(line)


def test_other_characters_are_nobodys_business(conversation):
    """F4: format characters, unassigned and private ones are not control characters (Cc)."""
    text = "a\u200bb\u200dc\ufeffd\u2029e\ue000f\U0010fffdg\u0378h\u00adi"
    conversation.alice.send_line(text)
    assert conversation.outcome() == ([], [text])


@pytest.mark.parametrize("rest", [b"world", b"world\r", b"/ping late", b"\xff", b"x" * 900])
def test_bytes_after_the_last_lf_are_discarded(server, join, rest):
    """F3: a line exists once its ending has arrived; at the end of input the rest is none."""
    alice, bob = join(server, "alice", "bob")
    alice.send_bytes(b"/ping 1\nhello\n" + rest)
    alice.half_close()
    expected = ["* pong 1"] + (["alice: hello"] if server.profile == "echo" else [])
    assert alice.read_to_end() == expected
    if server.profile == "chat":
        assert bob.read_until("* alice left") == ["alice: hello"]
    heard_later = [line for line in bob.ping() if not line.startswith("*")]
    assert heard_later == [], "what was no line is told to the others"


def test_a_name_without_lf_is_no_name(server, connect, join):
    """F3, H2: a client whose input ends in the middle of its name is not let in."""
    bob = join(server, "bob")
    with connect(server) as alice:
        alice.send_bytes(b"alice")
        alice.half_close()
        assert [line.rpartition(": ")[2] for line in alice.read_to_end()] == ["enter your name"]
    assert bob.ask("/list") == ["* 1 online: bob"]


def test_the_server_ends_lines_with_lf_alone(server, join):
    """F1: an answer ends with LF and no CR, also for a client that sends CR LF."""
    alice = join(server, "alice")
    alice.send_bytes(b"/ping x\r\n")
    wanted = b"* pong x\n"
    received = b""
    while len(received) < len(wanted) and alice.wait_for_data(alice.timeout):
        received += alice.socket.recv(100)
    assert received == wanted, "an answer ends with one LF, and no CR"


def test_many_lines_in_one_segment(conversation):
    """F5: a thousand glued lines are answered one by one, in order."""
    conversation.alice.send_bytes(b"".join(b"/ping %d\nline %d\n" % (n, n) for n in range(1000)))
    replies, delivered = conversation.outcome()
    assert replies == [f"* pong {n}" for n in range(1000)]
    assert delivered == [f"line {n}" for n in range(1000)]


@pytest.mark.parametrize("blank", [b"\n", b" \t \n", b"\r\n", "\u00a0\u2003\n".encode()])
def test_an_empty_line_is_ignored(conversation, blank):
    """F6: it is neither text nor command, and nobody hears of it."""
    conversation.alice.send_bytes(blank + b"/ping x\n" + blank)
    assert conversation.outcome() == (["* pong x"], [])


def test_white_space_around_a_line_is_stripped(conversation):
    """F6: all that Unicode calls white space goes, around a text or a command but not inside it."""
    conversation.alice.send_bytes("\t two  words\u00a0\r\n \u2003/ping x \n".encode())
    assert conversation.outcome() == (["* pong x"], ["two  words"])
