"""History: the given tests of task 4. S1 and so on are the rules in README.md beside this file."""

import re
import shlex
import subprocess

import pytest

pytestmark = pytest.mark.profile("chat")


def told_on_arrival(join, server, name):
    """What a newcomer gets between her H3 and the answer to a `/ping`."""
    newcomer = join(server, name)
    told = newcomer.ping()
    newcomer.send_line("/quit")
    newcomer.read_to_end()
    return told


def past(*lines):
    """Lines as history has them."""
    return [f"~ {line}" for line in lines]


# ---- S1: the last lines ----


def test_a_newcomer_is_told(launch_server, join):
    """S1: what was said, the oldest first."""
    server = launch_server("--history", "10")
    alice, bob = join(server, "alice", "bob")
    alice.ask("shall we meet at noon")
    bob.ask("noon is fine")
    expected = past("alice: shall we meet at noon", "bob: noon is fine")
    assert told_on_arrival(join, server, "dave") == expected


def test_history_comes_before_anything_else(launch_server, join, connect):
    """S1: right after `* hello NAME`, before the answers to lines that were glued to the name."""
    server = launch_server("--history", "10")
    join(server, "alice").ask("one")
    dave = connect(server)
    dave.read_line()
    dave.send_bytes(b"dave\n/ping 1\n/list\n")
    assert [dave.read_line() for _ in range(3)] == ["* hello dave", "~ alice: one", "* pong 1"]


def test_every_newcomer_is_told(launch_server, join):
    """S1: nothing is used up, and those who are in get nothing again."""
    server = launch_server("--history", "10")
    alice = join(server, "alice")
    alice.ask("one")
    for name in ("dave", "erin"):
        assert told_on_arrival(join, server, name) == past("alice: one")
    told = ["* dave joined", "* dave left", "* erin joined", "* erin left"]
    assert alice.ping() == told


def test_lines_in_any_script(launch_server, join):
    """S1: they come as they were said."""
    server = launch_server("--history", "10")
    join(server, "zoë").ask("ça va, 世界? ~ * ! @")
    assert told_on_arrival(join, server, "dave") == past("zoë: ça va, 世界? ~ * ! @")


# ---- S2: what belongs to it ----


def test_only_what_everybody_heard(launch_server, join):
    """S2: no command, no answer, no private message, no refused line, no notice."""
    server = launch_server("--history", "10")
    alice, _ = join(server, "alice", "bob")
    for line in ("/ping hello", "/list", "/dance", "/work 1", "x" * 2000, "bell \a", " "):
        alice.ask(line)
    alice.ask("and this")
    assert told_on_arrival(join, server, "dave") == past("alice: and this")


def test_no_private_message(launch_server, join):
    """S2: it was for one, and is for nobody else ever."""
    server = launch_server("--history", "10")
    alice, _ = join(server, "alice", "bob")
    alice.ask("/pm bob psst")
    alice.ask("and this")
    assert told_on_arrival(join, server, "dave") == past("alice: and this")


# ---- S3: no gap, nothing twice ----


def test_what_is_said_while_she_gives_her_name(launch_server, join, connect):
    """S3: she has connected and is not in yet: it is history, and no news."""
    server = launch_server("--history", "10")
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


def test_what_she_says_herself(launch_server, join, connect):
    """S3: her first line, glued to her name, is no history to her, and is to the next one."""
    server = launch_server("--history", "10")
    dave = connect(server)
    dave.read_line()
    dave.send_bytes(b"dave\nhere I am\n")
    assert dave.read_line() == "* hello dave"
    assert dave.ping() == []
    assert told_on_arrival(join, server, "erin") == past("dave: here I am")


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


def test_history_ends_where_news_begin(launch_server, join, connect):
    """S3: once she has heard news, no line of history comes any more."""
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
    assert told_on_arrival(join, server, "dave") == expected


@pytest.mark.parametrize("options", [[], ["--history", "0"]], ids=["without", "0"])
def test_no_history(launch_server, join, options):
    """S4: without the option, or with 0, a newcomer is told nothing."""
    server = launch_server(*options)
    join(server, "alice").ask("one")
    assert told_on_arrival(join, server, "dave") == []


@pytest.mark.parametrize("number", ["-1", "101", "some"])
def test_a_number_that_cannot_be(target, launch_server, number):
    """S4, launch contract: one line on stderr, and status 1 or 2."""
    command = shlex.split(target.command("--history", number).replace("{port}", "0"))
    done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    assert done.returncode in (1, 2)
    assert len(done.stderr.splitlines()) == 1, done.stderr


# ---- S5: whose it is ----


def test_the_lines_of_one_who_has_left(launch_server, join):
    """S5: they stay, also when nobody is in any more."""
    server = launch_server("--history", "10")
    alice = join(server, "alice")
    alice.ask("I must go")
    alice.send_line("/quit")
    alice.read_to_end()
    assert told_on_arrival(join, server, "dave") == past("alice: I must go")


def test_who_comes_again_gets_her_own_lines(launch_server, join):
    """S5: the history is the same for all."""
    server = launch_server("--history", "10")
    alice = join(server, "alice")
    alice.ask("one")
    alice.send_line("/quit")
    alice.read_to_end()
    assert told_on_arrival(join, server, "alice") == past("alice: one")
