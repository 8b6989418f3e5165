"""Limits, L1 and L2: idle clients, too many clients, and a system that has no more to give."""

import contextlib

import pytest
from harness import IDLE_TIMEOUT, SERVER_FULL, wait_until

from benchmarks.servers.launcher import launch


def test_who_is_timed_out_and_who_is_not(launch_server, connect, join):
    """L1: a complete line is a sign of life, and nothing else is; in the handshake as after it."""
    server = launch_server("--idle-timeout", "0.6")
    strangers = [connect(server), connect(server)]
    for stranger in strangers:
        stranger.read_line()
    alice, silent, trickling = join(server, "alice", "silent", "trickling")
    to_be_timed_out = [*strangers, silent, trickling]
    heard_by_alice = []

    def all_are_timed_out():
        heard_by_alice.extend(alice.ping())
        for client in list(to_be_timed_out):
            if client in (strangers[0], trickling):
                client.send_bytes(b"x")
            if client.wait_for_data(0.02) and IDLE_TIMEOUT in client.read_to_end():
                to_be_timed_out.remove(client)
        return not to_be_timed_out

    wait_until(all_are_timed_out, "silence, or bytes without LF, to be timed out", 5)
    assert IDLE_TIMEOUT not in heard_by_alice + alice.ping()
    assert join(server, "silent").ask("/list") == ["* 2 online: alice, silent"]


def test_zero_means_never(launch_server, connect, join, clock):
    """L1: `--idle-timeout 0` outlives what another server calls idle."""
    server = launch_server("--idle-timeout", "0")
    wait = clock("0.3")
    stranger = connect(server)
    stranger.read_line()
    alice = join(server, "alice")
    wait()
    assert alice.ask("/list") == ["* 1 online: alice"]
    stranger.send_line("stranger")
    assert stranger.read_line() == "* hello stranger"


def test_one_client_too_many(launch_server, connect, join, join_eventually):
    """L2: refused in place of the greeting and closed; the others stay; a place can be had again.

    A client in the handshake takes a place as well.
    """
    server = launch_server("--max-clients", "3")
    alice, bob = join(server, "alice", "bob")
    in_the_handshake = connect(server)
    in_the_handshake.read_line()
    for _ in range(5):
        assert connect(server).read_to_end() == [SERVER_FULL]
    assert alice.ask("/list") == ["* 2 online: alice, bob"]
    in_the_handshake.close()
    carol = join_eventually(server, "carol")
    bob.send_line("/quit")
    assert bob.read_until("* bye bob") == (["* carol joined"] if server.profile == "chat" else [])
    join_eventually(server, "dave")
    assert carol.ask("/list")[-1] == "* 3 online: alice, carol, dave"


def test_who_is_refused_may_talk_all_the_same(launch_server, connect, join):
    """L2: a client that speaks at once, as one behind a pipe does, still gets to read why."""
    server = launch_server("--max-clients", "1")
    alice = join(server, "alice")
    for _ in range(20):
        refused = connect(server)
        with contextlib.suppress(OSError):  # it may have been closed already
            refused.send_bytes(b"bob\nhello\n")
            refused.half_close()
        assert refused.read_to_end() == [SERVER_FULL]
    assert alice.ping() == []


def connect_in_batches(room, number):
    """Connect that many, fifty at a time; wait until each has been told something."""
    members = []
    for start in range(0, number, 50):
        batch = room.connect(f"client-{index}" for index in range(start, start + 50))
        room.pump(lambda batch=batch: all(m.incoming or m.closed for m in batch), "50 first lines")
        members += batch
    return members


@pytest.mark.versions("v2_select", "v3_broadcast")
def test_descriptors_beyond_fd_setsize_are_refused(
    launch_server, join, crowd, limit_descriptors, join_eventually
):
    """L2: select() cannot watch them; the server says so, and serves all the others."""
    server = launch_server("--max-clients", "2000", preexec_fn=limit_descriptors(3000))
    alice, bob = join(server, "alice", "bob")
    room = crowd(server)
    members = connect_in_batches(room, 1100)
    refused = [member for member in members if member.lines() == [SERVER_FULL]]
    greeted = [member for member in members if member.lines()[0].endswith(": enter your name")]
    assert len(refused) + len(greeted) == 1100
    assert 950 < len(greeted) < 1024
    room.pump(lambda: all(member.closed for member in refused), "the refused to be closed")
    assert not any(member.closed for member in greeted)
    assert alice.ask("/list") == ["* 2 online: alice, bob"]
    last = greeted[-1]
    last.incoming.clear()
    last.outgoing += b"the-last\n/ping x\n"
    room.pump(lambda: b"* pong x\n" in last.incoming, "the last one greeted to be served")
    assert last.lines() == ["* hello the-last", "* pong x"]
    bob.close()
    join_eventually(server, "carol")
    assert alice.ask("/list")[-1] == "* 3 online: alice, carol, the-last"


@pytest.mark.versions("v1_threads", "v4_asyncio")
def test_descriptors_beyond_fd_setsize_are_served(launch_server, join, crowd, limit_descriptors):
    """L2: threads and epoll have no such ceiling."""
    server = launch_server("--max-clients", "2000", preexec_fn=limit_descriptors(3000))
    alice = join(server, "alice")
    room = crowd(server)
    members = connect_in_batches(room, 1100)
    assert all(member.lines()[0].endswith(": enter your name") for member in members)
    last = members[-1]
    last.outgoing += b"the-last\n/ping x\n"
    room.pump(lambda: b"* pong x\n" in last.incoming, "the last one to be served")
    assert alice.ask("/list")[-1] == "* 2 online: alice, the-last"


def test_out_of_descriptors(
    launch_server, join, crowd, inspect, limit_descriptors, join_eventually
):
    """L2: no death, no spinning, no flood of log lines; those in are served; places come back."""
    server = launch_server(preexec_fn=limit_descriptors(40))
    alice, bob = join(server, "alice", "bob")
    room = crowd(server)
    waiting = room.connect(f"client-{number}" for number in range(60))
    room.pump_until_quiet()
    greeted = [member for member in waiting if b"enter your name" in member.incoming]
    assert 10 < len(greeted) < 40
    assert not any(member.closed for member in greeted)

    assert_idle(inspect(server), alice)
    assert len(server.log_path.read_text().splitlines()) < 30 + len(greeted)
    alice.send_line("hello")
    assert alice.ask("/list")[-1] == "* 2 online: alice, bob"
    assert ("alice: hello" in bob.ping()) == (server.profile == "chat")

    for member in waiting:
        member.socket.close()
    carol = join_eventually(server, "carol")
    assert carol.ask("/list") == ["* 3 online: alice, bob, carol"]


def assert_idle(process, client):
    """For a fifth of a second the server must use less than half a core, and be silent."""
    before = process.cpu_seconds()
    assert not client.wait_for_data(0.2)
    assert process.cpu_seconds() - before < 0.1


# Run in front of a server: what CPython does when the system refuses another thread.
NO_MORE_THREADS = """
import runpy, sys, threading
start = threading.Thread.start
def start_one_of_a_few(thread):
    if threading.active_count() > 12:
        raise RuntimeError("can't start new thread")
    start(thread)
threading.Thread.start = start_one_of_a_few
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.versions("v1_threads")
def test_out_of_threads(target, join, crowd, inspect, join_eventually):
    """L2: when no thread can be started, those in are served and places come back.

    RLIMIT_NPROC does not bind root, so the failure is brought about where Python reports it.
    """
    python, *server_and_options = target.command()
    command = [python, "-c", NO_MORE_THREADS, *server_and_options]
    with launch(target.name, command, profile=target.profile) as server:
        alice = join(server, "alice")
        room = crowd(server)
        waiting = room.connect(f"client-{number}" for number in range(30))
        room.pump_until_quiet()
        greeted = [member for member in waiting if b"enter your name" in member.incoming]
        assert 0 < len(greeted) < 15
        assert_idle(inspect(server), alice)
        assert alice.ask("hello") == ["alice: hello"]
        for member in waiting:
            member.socket.close()
        bob = join_eventually(server, "bob")
        assert bob.ask("/list") == ["* 2 online: alice, bob"]
        assert server.stop() == 0
        log = server.log_path.read_text()
    assert "Traceback" not in log
    assert len(log.splitlines()) < 80
