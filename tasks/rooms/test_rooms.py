"""Rooms: the given tests of task 3. R1 and so on are the rules in README.md beside this file."""

import pytest

pytestmark = pytest.mark.profile("chat")

USAGE = "! usage: /join ROOM"


def move(client, room):
    """Let a client join a room; it must be told nothing but the answer."""
    assert client.ask(f"/join {room}") == [f"* joined {room}"]


def hear(*clients):
    """What each of them has been told since it was last asked."""
    return [client.ping() for client in clients]


# ---- R1: the lobby ----


def test_all_begin_in_the_lobby(server, join):
    """R1: clients hear each other in the lobby, without any `/join`."""
    alice, bob = join(server, "alice", "bob")
    assert alice.ask("hello") == []
    assert bob.ping() == ["alice: hello"]


def test_the_lobby_has_a_name(server, join):
    """R1: `/join lobby` of a client that is there changes nothing, and nobody is told."""
    alice, bob = join(server, "alice", "bob")
    move(alice, "lobby")
    alice.ask("still here")
    assert bob.ping() == ["alice: still here"]


def test_without_join_there_are_no_rooms(server, join):
    """R1: coming, speaking and leaving are told as PROTOCOL.md says."""
    alice = join(server, "alice")
    bob = join(server, "bob")
    bob.ping()
    bob.send_line("bye")
    bob.send_line("/quit")
    bob.read_to_end()
    assert alice.read_until("* bob left") == ["* bob joined", "bob: bye"]


# ---- R2: /join ----


@pytest.mark.parametrize("room", ["kitchen", "küche", "b_1-2", "x" * 20])
def test_join_is_answered(server, join, room):
    """R2: `* joined ROOM`, for each name that is a valid one."""
    move(join(server, "alice"), room)


def test_capitals_make_no_other_room(server, join):
    """R2: the room is called by its name in small letters, and it is one room."""
    alice, bob = join(server, "alice", "bob")
    move(bob, "kitchen")
    assert "* joined kitchen" in alice.ask("/join KITCHEN")
    alice.ask("hello")
    assert bob.ping()[-1:] == ["alice: hello"]


def test_a_room_that_everybody_has_left(server, join):
    """R2: a client that comes back finds it again: a room is neither founded nor closed."""
    alice = join(server, "alice")
    for room in ("kitchen", "lobby", "kitchen"):
        move(alice, room)


# ---- R3: what is said ----


def test_a_line_stays_in_its_room(server, join):
    """R3: everyone else in the room gets it, and nobody elsewhere."""
    alice, bob, carol, dave = join(server, "alice", "bob", "carol", "dave")
    for cook in (carol, dave):
        cook.ask("/join kitchen")
    hear(alice, bob, carol, dave)
    alice.ask("in the lobby")
    carol.ask("in the kitchen")
    assert hear(alice, bob, carol, dave) == [
        [],
        ["alice: in the lobby"],
        [],
        ["carol: in the kitchen"],
    ]


def test_a_client_that_comes_back_hears_the_lobby_again(server, join):
    """R3: what was said there meanwhile was not for her, and does not come later either."""
    alice, bob = join(server, "alice", "bob")
    move(alice, "kitchen")
    bob.ask("while she is away")
    move(alice, "lobby")
    bob.ask("when she is back")
    assert alice.ping() == ["bob: when she is back"]


def test_alone_in_a_room(server, join):
    """R3: a line that nobody else is there to hear is no mistake, and comes back to nobody."""
    alice, bob = join(server, "alice", "bob")
    move(alice, "attic")
    bob.ping()
    assert alice.ask("anybody here") == []
    assert bob.ping() == []


# ---- R4: who is told of a move ----


def test_a_move_is_told_in_both_rooms(server, join):
    """R4: `* alice left` where she was, `* alice joined` where she goes; each once."""
    alice, bob, carol = join(server, "alice", "bob", "carol")
    move(carol, "kitchen")
    hear(alice, bob)
    move(alice, "kitchen")
    assert hear(bob, carol) == [["* alice left"], ["* alice joined"]]


def test_a_move_to_where_one_is(server, join):
    """R4: it is answered, and nobody else is told."""
    alice, bob = join(server, "alice", "bob")
    for client in (alice, bob):
        client.ask("/join kitchen")
    hear(alice, bob)
    move(alice, "kitchen")
    assert bob.ping() == []


def test_newcomers_are_told_in_the_lobby_only(server, join):
    """R4: in the other rooms nobody hears of a newcomer."""
    alice, bob = join(server, "alice", "bob")
    move(alice, "kitchen")
    bob.ping()
    join(server, "carol")
    assert bob.read_line() == "* carol joined"
    assert alice.ping() == []


@pytest.mark.parametrize("way", ["quit", "reset"])
def test_a_client_that_goes_is_missed_in_her_room_only(server, join, way):
    """R4: `* alice left` goes to the room where she was, however she goes."""
    alice, bob, carol = join(server, "alice", "bob", "carol")
    for cook in (alice, carol):
        cook.ask("/join kitchen")
    hear(alice, bob, carol)
    if way == "quit":
        alice.send_line("/quit")
    else:
        alice.reset()
    assert carol.read_line() == "* alice left"
    assert hear(bob, carol) == [[], []]


# ---- R5: refusals ----


@pytest.mark.parametrize("argument", ["", " two words", " a.b", " " + "x" * 21, " !"])
def test_a_room_that_cannot_be(server, join, argument):
    """R5: a usage line for her, nothing for others, and she stays where she is."""
    alice, bob = join(server, "alice", "bob")
    assert alice.ask(f"/join{argument}") == [USAGE]
    alice.ask("still here")
    assert bob.ping() == ["alice: still here"]


# ---- R6: what is of the whole server ----


def test_list_names_all_rooms(server, join):
    """R6: `/list` names everyone who is in, whatever their room."""
    alice, _ = join(server, "alice", "bob")
    move(alice, "kitchen")
    assert alice.ask("/list") == ["* 2 online: alice, bob"]


def test_private_messages_reach_any_room(server, join):
    """R6: `/pm` finds a name in any room."""
    alice, bob = join(server, "alice", "bob")
    move(alice, "kitchen")
    alice.ask("/pm bob dinner is ready")
    assert bob.ping()[-1:] == ["@alice: dinner is ready"]


def test_a_name_is_taken_in_all_rooms(server, join, connect):
    """R6: names are unique on the server, not only in a room."""
    alice = join(server, "alice")
    move(alice, "kitchen")
    other = connect(server)
    other.read_line()
    other.send_line("ALICE")
    assert other.read_line() == "! name ALICE is taken"


# ---- R7: order ----


def test_a_move_among_glued_lines(server, join):
    """R7: what she says before the move is heard where she was, and the rest where she is."""
    alice, bob, carol = join(server, "alice", "bob", "carol")
    move(carol, "kitchen")
    hear(alice, bob)
    alice.send_bytes(b"one\n/join kitchen\ntwo\n/join lobby\nthree\n")
    assert alice.ping() == ["* joined kitchen", "* joined lobby"]
    assert hear(bob, carol) == [
        ["alice: one", "* alice left", "* alice joined", "alice: three"],
        ["* alice joined", "alice: two", "* alice left"],
    ]


def test_many_moves_look_the_same_to_all(server, join):
    """R7, D4: two in a room hear the same in the same order, and nothing from elsewhere."""
    movers = join(server, "alice", "bob")
    witnesses = join(server, "carol", "dave")
    for witness in witnesses:
        witness.ask("/join kitchen")
    for mover in movers:
        mover.send_bytes(b"/join kitchen\nhello\n/join lobby\nhello\n" * 20)
    hear(*movers)
    first, second = hear(*witnesses)
    # carol, who came first, has heard dave come.
    first = [line for line in first if "dave" not in line]
    assert first == second
    for name in ("alice", "bob"):
        heard = [line for line in first if name in line]
        assert heard == [f"* {name} joined", f"{name}: hello", f"* {name} left"] * 20
