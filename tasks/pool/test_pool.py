"""A pool of threads: the given tests of task 2a. The rules are in README.md beside this file."""

import pytest

from harness.answers import IDLE_TIMEOUT, SERVER_FULL, SHUTTING_DOWN

pytestmark = pytest.mark.profile("echo")

# What a server may have beside its pool: the main thread, some that accept, a clock.
OTHER_THREADS = 6


def expect_silence(waiting, served):
    """A client that waits has been sent nothing, though the server has had time for it."""
    for _ in range(20):
        served.ping()
    if waiting.wait_for_data(0.05):
        answer = waiting.peek() or "the end"
        raise AssertionError(f"a client that waits for a thread was sent {answer!r}")


def expect_greeting(client):
    """Wait for it: a thread is free now."""
    line = client.read_line()
    if not line.endswith(": enter your name"):
        raise AssertionError(f"a thread is free, and the client that waited for it got {line!r}")


def quit_and_close(client):
    """Free its thread."""
    client.send_line("/quit")
    client.read_to_end()
    client.close()


# ---- P1: the number of threads ----


@pytest.mark.parametrize("pool", [1, 12])
def test_threads_are_bounded(launch_server, inspect, join, connect, pool):
    """P1: so many and a few more, with clients that are served and 60 that wait."""
    server = launch_server("--threads", str(pool))
    served = [join(server, f"c-{number}") for number in range(pool)]
    for _ in range(60):
        connect(server)
    threads = 0
    for _ in range(20):
        served[0].ping()
        threads = max(threads, inspect(server).threads())
    assert threads <= pool + OTHER_THREADS, f"{threads} threads with --threads {pool}"


@pytest.mark.parametrize("pool", [1, 5])
def test_so_many_are_served_at_once(launch_server, join, pool):
    """P1: --threads N serves N clients at the same time, and none of them waits for another."""
    server = launch_server("--threads", str(pool))
    for client in [join(server, f"c-{number}") for number in range(pool)]:
        assert client.ask("hello") == [f"{client.name}: hello"]


def test_threads_serve_one_after_the_other(launch_server, inspect, join_eventually):
    """P1: a thread that has served a client serves the next: 100 clients need no more than 2."""
    server = launch_server("--threads", "2")
    for number in range(100):
        client = join_eventually(server, f"c-{number}")
        client.close()
    assert inspect(server).threads() <= 2 + OTHER_THREADS


# ---- P2: clients that wait ----


def test_a_client_that_waits_is_greeted_later(launch_server, join, connect):
    """P2: not before a thread is free; what she has sent meanwhile is answered then."""
    server = launch_server("--threads", "2")
    alice, bob = join(server, "alice", "bob")
    carol = connect(server)
    carol.send_bytes(b"carol\nhello\n/ping 1\n")
    expect_silence(carol, alice)
    quit_and_close(bob)
    expect_greeting(carol)
    assert [carol.read_line() for _ in range(3)] == ["* hello carol", "carol: hello", "* pong 1"]


def test_a_client_that_waits_has_a_place(launch_server, join, connect):
    """P2, L2: she counts for --max-clients; beyond that a newcomer is refused at once."""
    server = launch_server("--threads", "1", "--max-clients", "3")
    alice = join(server, "alice")
    waiting = [connect(server) for _ in range(2)]
    assert connect(server).read_to_end() == [SERVER_FULL]
    expect_silence(waiting[0], alice)


def test_a_client_that_waits_has_no_name(launch_server, join, connect):
    """P2: she is not in: `/list` does not name her, and the name that she wants is still free."""
    server = launch_server("--threads", "2")
    alice, _ = join(server, "alice", "bob")
    carol = connect(server)
    carol.send_line("alice")
    assert alice.ask("/list") == ["* 2 online: alice, bob"]
    quit_and_close(alice)
    expect_greeting(carol)
    assert carol.read_line() == "* hello alice"


# ---- P3: in which order ----


def test_first_come_first_served(launch_server, join, connect):
    """P3: the client that has waited longest is next, each time a thread is free."""
    server = launch_server("--threads", "1")
    served = join(server, "alice")
    waiting = [connect(server) for _ in range(4)]
    while waiting:
        quit_and_close(served)
        following = waiting.pop(0)
        expect_greeting(following)
        following.send_line("next")
        following.read_line()
        for other in waiting:
            expect_silence(other, following)
        served = following


# ---- P4: clients that give up ----


@pytest.mark.parametrize("way", ["close", "reset"])
def test_a_client_that_gives_up_keeps_no_thread(launch_server, join, connect, way):
    """P4: clients that have gone while they waited are passed over; the next one is greeted."""
    server = launch_server("--threads", "1")
    alice = join(server, "alice")
    gone = [connect(server) for _ in range(10)]
    bob = connect(server)
    for client in gone:
        getattr(client, way)()
    quit_and_close(alice)
    expect_greeting(bob)
    bob.send_line("bob")
    bob.read_line()
    assert bob.ask("/list") == ["* 1 online: bob"]


def test_a_client_that_gives_up_frees_her_place(launch_server, join, connect, join_eventually):
    """P4, L2: a newcomer gets it, at the latest when it would have been the turn of the other."""
    server = launch_server("--threads", "1", "--max-clients", "2")
    alice = join(server, "alice")
    connect(server).reset()
    quit_and_close(alice)
    join_eventually(server, "bob")


# ---- P5: time ----


def test_a_silent_client_frees_its_thread(launch_server, join, connect):
    """P5, L1: after --idle-timeout; the time of a client that waits begins with her greeting."""
    server = launch_server("--threads", "1", "--idle-timeout", "0.7")
    alice = join(server, "alice")
    bob = connect(server)
    assert alice.read_to_end() == [IDLE_TIMEOUT]
    alice.close()
    bob.join("bob")
    assert bob.ping() == []


# ---- P6: the stop ----


def test_a_stop_while_clients_wait(launch_server, join, connect):
    """P6, L4: the client that is served gets the last words, the others just the end; status 0."""
    server = launch_server("--threads", "1")
    alice = join(server, "alice")
    waiting = [connect(server) for _ in range(3)]
    expect_silence(waiting[-1], alice)
    assert server.stop() == 0
    assert alice.read_to_end() == [SHUTTING_DOWN]
    assert [client.read_to_end() for client in waiting] == [[], [], []]
