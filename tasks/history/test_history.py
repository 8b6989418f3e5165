"""History: the given tests of task 4. S1 and so on are the rules in README.md beside this file."""

import re
import subprocess

import pytest

pytestmark = pytest.mark.profile("chat")


@pytest.fixture
def server(launch_server):
    """It remembers ten lines."""
    return launch_server("--history", "10")


def lines_on_arrival(join, server, name):
    """What a newcomer gets between her H3 and the answer to a `/ping`."""
    newcomer = join(server, name)
    lines = newcomer.ping()
    leave(newcomer)
    return lines


def leave(client):
    """Quit, and wait for the end."""
    client.send_line("/quit")
    client.read_to_end()


def past(*lines):
    """Lines as history has them."""
    return [f"~ {line}" for line in lines]


# ---- S1: the last lines ----


def test_a_newcomer_is_told(server, join):
    """S1: what was said, the oldest first."""
    alice, bob = join(server, "alice", "bob")
    alice.ask("shall we meet at noon")
    bob.ask("noon is fine")
    expected = past("alice: shall we meet at noon", "bob: noon is fine")
    assert lines_on_arrival(join, server, "dave") == expected


def test_history_comes_before_anything_else(server, join, connect):
    """S1: right after `* hello NAME`, before the answers to lines that were glued to the name."""
    join(server, "alice").ask("one")
    dave = connect(server)
    dave.read_line()
    dave.send_bytes(b"dave\n/ping 1\n/list\n")
    assert [dave.read_line() for _ in range(3)] == ["* hello dave", "~ alice: one", "* pong 1"]


def test_every_newcomer_is_told(server, join):
    """S1: no line is used up, and clients that are in get none of them again."""
    alice = join(server, "alice")
    alice.ask("one")
    for name in ("dave", "erin"):
        assert lines_on_arrival(join, server, name) == past("alice: one")
    notices = ["* dave joined", "* dave left", "* erin joined", "* erin left"]
    assert alice.ping() == notices


def test_lines_in_any_script(server, join):
    """S1: they come as they were said."""
    join(server, "zoë").ask("ça va, 世界? ~ * ! @")
    assert lines_on_arrival(join, server, "dave") == past("zoë: ça va, 世界? ~ * ! @")


# ---- S2: what belongs to it ----


def test_only_what_everybody_heard(server, join):
    """S2: no command, no answer, no private message, no refused line, no notice."""
    alice, _ = join(server, "alice", "bob")
    for line in ("/ping hello", "/list", "/dance", "/work 1", "x" * 2000, "bell \a", " "):
        alice.ask(line)
    alice.ask("and this")
    assert lines_on_arrival(join, server, "dave") == past("alice: and this")


def test_no_private_message(server, join):
    """S2: it was for one, and is for nobody else ever."""
    alice, _ = join(server, "alice", "bob")
    alice.ask("/pm bob psst")
    alice.ask("and this")
    assert lines_on_arrival(join, server, "dave") == past("alice: and this")


# ---- S3: no gap, nothing twice ----


def test_what_is_said_while_she_gives_her_name(server, join, connect):
    """S3: she has connected and is not in yet, so it is history to her, not news."""
    alice = join(server, "alice")
    alice.ask("before she came")
    dave = connect(server)
    dave.read_line()
    alice.ask("while she chose a name")
    dave.send_line("dave")
    assert dave.read_line() == "* hello dave"
    assert dave.ping() == past("alice: before she came", "alice: while she chose a name")
    alice.ask("when she was in")
    assert dave.ping() == ["alice: when she was in"]


def test_what_she_says_herself(server, join, connect):
    """S3: her first line, glued to her name, is history to the next one, but not to her."""
    dave = connect(server)
    dave.read_line()
    dave.send_bytes(b"dave\nhere I am\n")
    assert dave.read_line() == "* hello dave"
    assert dave.ping() == []
    assert lines_on_arrival(join, server, "erin") == past("dave: here I am")


def test_no_hole_in_a_flood(launch_server, join, connect):
    """S3: eight come in while two say 400 lines each; each gets a series without a hole."""
    server = launch_server("--history", "100")
    speakers = join(server, "alice", "bob")
    newcomers = [connect(server) for _ in range(8)]
    for number, newcomer in enumerate(newcomers):
        for speaker in speakers:
            fifty = range(50 * number, 50 * number + 50)
            speaker.send_bytes(b"".join(b"%d\n" % each for each in fifty))
        newcomer.read_line()
        newcomer.send_line(f"n-{number}")
    for speaker in speakers:
        speaker.ping()
    for newcomer in newcomers:
        heard = newcomer.ping()
        for speaker in speakers:
            said = re.compile(rf"(?:~ )?{speaker.name}: (\d+)")
            numbers = [int(match[1]) for line in heard if (match := said.fullmatch(line))]
            assert numbers == list(range(400 - len(numbers), 400))


def test_history_ends_where_news_begins(launch_server, join, connect):
    """S3: once she has heard news, no more lines of history come."""
    server = launch_server("--history", "100")
    alice = join(server, "alice")
    dave = connect(server)
    dave.read_line()
    alice.send_bytes(b"".join(b"%d\n" % number for number in range(100)))
    dave.send_line("dave")
    alice.send_bytes(b"".join(b"%d\n" % number for number in range(100, 200)))
    alice.ping()
    heard = [line for line in dave.ping() if "alice: " in line]
    assert heard
    old = [line.startswith("~ ") for line in heard]
    assert old == sorted(old, reverse=True)


# ---- S4: how many ----


@pytest.mark.parametrize("number", [1, 3, 100])
def test_no_more_than_so_many(launch_server, join, number):
    """S4: the last N of 250 lines."""
    server = launch_server("--history", str(number))
    alice = join(server, "alice")
    alice.send_bytes(b"".join(b"%d\n" % each for each in range(250)))
    alice.ping()
    expected = past(*(f"alice: {each}" for each in range(250 - number, 250)))
    assert lines_on_arrival(join, server, "dave") == expected


@pytest.mark.parametrize("options", [[], ["--history", "0"]], ids=["without", "0"])
def test_no_history(launch_server, join, options):
    """S4: without the option, or with 0, a newcomer is told nothing."""
    server = launch_server(*options)
    join(server, "alice").ask("one")
    assert lines_on_arrival(join, server, "dave") == []


@pytest.mark.parametrize("number", ["-1", "101", "some"])
def test_a_number_that_cannot_be(command_with, number):
    """S4, launch contract: one line on stderr, and status 1 or 2."""
    command = command_with("--history", number)
    done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    assert done.returncode in (1, 2)
    assert len(done.stderr.splitlines()) == 1, done.stderr


# ---- S5: whose it is ----


def test_the_lines_of_one_who_has_left(server, join):
    """S5: they stay, even when nobody is in any more."""
    alice = join(server, "alice")
    alice.ask("I must go")
    leave(alice)
    assert lines_on_arrival(join, server, "dave") == past("alice: I must go")


def test_a_client_that_comes_again_gets_her_own_lines(server, join):
    """S5: the history is the same for all."""
    alice = join(server, "alice")
    alice.ask("one")
    leave(alice)
    assert lines_on_arrival(join, server, "alice") == past("alice: one")
