"""A selector: the given tests of task 2b. The rules are in README.md beside this file."""

import time

import pytest

from harness.answers import SERVER_FULL
from harness.waiting import wait_until, wait_until_empty

pytestmark = pytest.mark.profile("echo")

# More clients than select() can watch.
MANY = 1100
DESCRIPTORS = 2048
CROWD = 50
IDLE_SECONDS = 0.5
# Of a core; a server that waits takes a hundredth of that.
IDLE_SHARE = 0.10


def names(number, prefix="c"):
    """So many of them."""
    return [f"{prefix}-{each}" for each in range(number)]


@pytest.fixture
def large_server(launch_server, limit_descriptors):
    """`large_server(max_clients)`: one that may have more than 1024 descriptors."""
    return lambda max_clients: launch_server(
        "--max-clients", str(max_clients), preexec_fn=limit_descriptors(DESCRIPTORS)
    )


# ---- E1: no descriptor is too high ----


def test_1100_clients_get_in(large_server, crowd):
    """E1: each is greeted and told `* hello NAME`."""
    members = crowd(large_server(2000)).join(names(MANY))
    assert not any(member.closed for member in members)


def test_1100_clients_are_answered(large_server, crowd):
    """E1, D1: what each says comes back to it, and to nobody else."""
    everybody = crowd(large_server(2000))
    members = everybody.join(names(MANY))
    for member in members:
        member.outgoing += f"from {member.name}\n".encode()
    everybody.barrier(members)
    wrong = [
        member.name
        for member in members
        if member.lines()[0] != f"{member.name}: from {member.name}" or len(member.lines()) != 2
    ]
    assert wrong == []


def test_the_last_of_many_is_served_like_the_first(large_server, crowd, join):
    """E1: she comes while 1100 are in, gets long answers, and goes; the others stay."""
    server = large_server(2000)
    members = crowd(server).join(names(MANY))
    last = join(server, "last")
    last.send_bytes(b"".join(b"%d\n" % number for number in range(2000)))
    assert last.ping() == [f"last: {number}" for number in range(2000)]
    last.send_line("/quit")
    assert last.read_to_end() == ["* bye last"]
    assert not any(member.closed for member in members)


# ---- E2: --max-clients is the limit ----


@pytest.mark.parametrize("limit", [1, 1050])
def test_max_clients(large_server, crowd, connect, join_eventually, limit):
    """E2, L2: the next one is refused in words, and gets in once somebody has left."""
    server = large_server(limit)
    everybody = crowd(server)
    members = everybody.join(names(limit))
    assert connect(server).read_to_end() == [SERVER_FULL]
    everybody.reset(members[-1])
    join_eventually(server, "newcomer")


# ---- E3: one loop ----


def test_clients_bring_no_threads(server, inspect, crowd):
    """E3: as many threads with 50 clients as with one that has come and gone."""
    wait_until_empty(server.address, session=server.session)
    before = inspect(server).threads()
    crowd(server).join(names(CROWD))
    assert inspect(server).threads() == before


def test_silent_clients_cost_no_cpu(server, inspect, crowd):
    """E3, L7: under a tenth of a core with 50 of them, in the better of two looks."""
    crowd(server).join(names(CROWD))
    view = inspect(server)
    shares = []
    for _ in range(2):
        begin, before = time.monotonic(), view.cpu_seconds()
        # The time is what is measured: so long nobody says a word.
        time.sleep(IDLE_SECONDS)
        shares.append((view.cpu_seconds() - before) / (time.monotonic() - begin))
    assert min(shares) < IDLE_SHARE, f"{min(shares):.0%} of a core for {CROWD} silent clients"


# ---- E4: clients that have gone are forgotten ----


@pytest.mark.parametrize("way", ["close", "reset", "quit"])
def test_a_number_that_is_used_again(server, join, join_eventually, way):
    """E4: twenty times the next newcomer gets the descriptor of the one before, and is answered."""
    witness = join(server, "witness")
    for number in range(20):
        visitor = join_eventually(server, f"v-{number}")
        assert visitor.ask("hello") == [f"v-{number}: hello"]
        if way == "quit":
            visitor.send_line("/quit")
            visitor.read_to_end()
        if way == "reset":
            visitor.reset()
        visitor.close()
    assert witness.ping() == []


def test_many_go_and_many_come_at_once(server, crowd):
    """E4: 200 go, and 200 newcomers are in line before the server can have noticed."""
    first, second = crowd(server), crowd(server)
    gone = first.join(names(200))
    newcomers = second.connect(names(200, "n"))
    for member in gone:
        first.reset(member)
    second.let_in(newcomers)
    third = second.join(names(200, "t"))
    assert not any(member.closed for member in [*newcomers, *third])


def test_descriptors_are_closed(server, inspect, crowd):
    """E4, L7: as many are open after 200 clients as before."""
    wait_until_empty(server.address, session=server.session)
    before = inspect(server).descriptors()
    visitors = crowd(server)
    for member in visitors.join(names(200)):
        visitors.reset(member)
    wait_until_empty(server.address, session=server.session)
    wait_until(
        lambda: inspect(server).descriptors() <= before,
        f"no more than {before} descriptors to be open",
        seconds=5,
        session=server.session,
    )
