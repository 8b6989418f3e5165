"""Two processes, one room: the given tests of task 5. The rules are in README.md beside this file.

Another process may hear of a line later than the sender's own (B5). So no test looks whether a line
has come "by now": it waits for one that was said after it.
"""

import re
import select
import socket
import subprocess

import pytest

from harness.answers import SHUTTING_DOWN
from harness.launcher import end_process, start_process
from harness.proc import halted
from harness.waiting import wait_until_empty
from tasks.broker.redis_server import Redis
from tests.suite.fixtures import need_launch_contract
from tests.suite.suite_run import has_passed

pytestmark = pytest.mark.profile("chat")


@pytest.fixture(scope="module")
def shared_redis(tmp_path_factory):
    """One Redis for all tests but those that end it."""
    with Redis(tmp_path_factory.mktemp("redis")) as redis:
        yield redis


@pytest.fixture
def own_redis(tmp_path):
    """A Redis that a test may end."""
    with Redis(tmp_path) as redis:
        yield redis


@pytest.fixture(scope="module")
def kept_servers():
    """Two processes that are kept from test to test; at first there are none."""
    kept = []
    yield kept
    end_all(kept)


@pytest.fixture
def two_servers(target, shared_redis, kept_servers, run, request):
    """Two processes, both with the same broker, empty; new ones after a test that has failed."""
    need_launch_contract(target, "starts servers with --broker", "let your server take it")
    while len(kept_servers) < 2:
        kept_servers.append(target.start("--broker", shared_redis.address, session=run.session))
    yield list(kept_servers)
    if not has_passed(request.node):
        end_all(kept_servers)
    for server in kept_servers:
        wait_until_empty(server.address, session=server.session)


def end_all(servers):
    """Stop them, and forget them."""
    while servers:
        servers.pop().__exit__()


def join_all(join, servers, *names):
    """Clients that are in, in turn at the first and at the second process, with nothing unread."""
    clients = [join(servers[number % 2], name) for number, name in enumerate(names)]
    for speaker in clients:
        speaker.send_line("all are in")
        for listener in clients:
            if listener is not speaker:
                # Everything that was said before, and every notice, has come by then (B4).
                listener.read_until(f"{speaker.name}: all are in")
    return clients


def said_by(lines, *names):
    """Those of the lines that the clients of these names have said."""
    return [line for line in lines if line.partition(": ")[0] in names]


# ---- B1: the broker ----


def test_subscribed_when_it_says_that_it_listens(launch_server, own_redis):
    """B1: a client that connects at once misses nothing that is said elsewhere."""
    for number in (1, 2):
        launch_server("--broker", own_redis.address)
        assert own_redis.subscribers() == number


def test_no_address_before_the_subscription(command_with, own_redis):
    """B1: while the broker does not move it has confirmed nothing, so the server waits."""
    command = command_with("--broker", own_redis.address)
    with halted(own_redis.process):
        process = start_process(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        try:
            too_early, _, _ = select.select([process.stdout], [], [], 0.8)
        finally:
            end_process(process)
            process.stdout.close()
    assert not too_early, "it said that it listens, and the broker had confirmed no subscription"


def test_no_broker_there(command_with):
    """B1, launch contract: one line on stderr, and status 1 or 2."""
    with socket.socket() as nobody_listens:
        nobody_listens.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{nobody_listens.getsockname()[1]}"
        command = command_with("--broker", address)
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    assert done.returncode in (1, 2)
    assert len(done.stderr.splitlines()) == 1, done.stderr


# ---- B2: lines ----


def test_a_line_reaches_the_other_process(two_servers, join):
    """B2: and does not come back to its sender."""
    alice, bob = join_all(join, two_servers, "alice", "bob")
    alice.send_line("hello over there")
    assert bob.read_line() == "alice: hello over there"
    bob.send_line("hello back")
    assert alice.read_line() == "bob: hello back"


def test_everyone_gets_each_line_once(two_servers, join):
    """B2: 300 lines, at the sender's own process and at the other."""
    alice, bob, carol = join_all(join, two_servers, "alice", "bob", "carol")
    lines = [str(number) for number in range(300)]
    alice.send_bytes("".join(f"{line}\n" for line in lines).encode())
    alice.send_line("end")
    for listener in (bob, carol):
        assert listener.read_until("alice: end") == [f"alice: {line}" for line in lines]
    bob.send_line("end")
    assert alice.read_until("bob: end") == []


def test_any_text_passes(two_servers, join):
    """B2: whatever the broker's own protocol makes of such characters."""
    alice, bob = join_all(join, two_servers, "alice", "bob")
    for text in ("ça va, 世界?", "$5 *3 +OK", "'\"{}[]\\", "x" * 1024):
        alice.send_line(text)
        assert bob.read_line() == f"alice: {text}"


# ---- B3: notices ----


def test_coming_and_going_is_told_at_both(two_servers, join):
    """B3: each once; not to herself."""
    alice, bob = join_all(join, two_servers, "alice", "bob")
    dave = join(two_servers[1], "dave")
    dave.send_line("hello")
    dave.send_line("/quit")
    assert dave.read_to_end() == ["* bye dave"]
    for witness in (alice, bob):
        assert witness.read_until("* dave left") == ["* dave joined", "dave: hello"]


def test_a_reset_is_told_at_the_other(two_servers, join):
    """B3: however a client goes."""
    alice, bob = join_all(join, two_servers, "alice", "bob")
    bob.reset()
    assert alice.read_line() == "* bob left"


# ---- B4: one order ----


def test_one_order_at_both_processes(two_servers, join):
    """B4: two flood, one at each process; two listeners, one at each, hear the same."""
    alice, bob, carol, dave = join_all(join, two_servers, "alice", "bob", "carol", "dave")
    for _ in range(4):
        for speaker in (alice, bob):
            speaker.send_bytes(b"".join(b"%d\n" % number for number in range(100)))
    # Each says it once the other's are through, so that it is the last line.
    alice.send_line("end")
    bob.read_until("alice: end")
    bob.send_line("end")
    heard = [listener.read_until("bob: end") for listener in (carol, dave)]
    assert len(heard[0]) == 801
    assert heard[0] == heard[1]


def test_one_order_though_the_broker_is_slow(two_servers, shared_redis, join):
    """B4: three times two speak at once, one at each process, before the broker has moved."""
    alice, bob, carol, dave = join_all(join, two_servers, "alice", "bob", "carol", "dave")
    for _ in range(3):
        with halted(shared_redis.process):
            alice.send_line("at one")
            bob.send_line("at the other")
            # A server that does not wait for the broker delivers to its own clients now.
            carol.wait_for_data(0.2)
            dave.wait_for_data(0.2)
    heard = [[listener.read_line() for _ in range(6)] for listener in (carol, dave)]
    assert heard[0] == heard[1]


def test_speakers_hear_that_order_too(two_servers, join):
    """B4: what alice hears of bob, and both of erin, has the order in which a listener hears it."""
    alice, bob, erin, carol = join_all(join, two_servers, "alice", "bob", "erin", "carol")
    for _ in range(4):
        for speaker in (alice, bob, erin):
            speaker.send_bytes(b"".join(b"%d\n" % number for number in range(50)))
    alice.send_line("end")
    bob.read_until("alice: end")
    bob.send_line("end")
    heard = carol.read_until("bob: end")
    assert said_by(alice.read_until("bob: end"), "bob", "erin") == said_by(heard, "bob", "erin")


# ---- B5: /ping ----


def test_ping_is_a_barrier_at_ones_own_process(two_servers, join):
    """B5: fifty times the line before it has been queued for a listener there."""
    alice, _, carol = join_all(join, two_servers, "alice", "bob", "carol")
    for number in range(50):
        alice.send_line(f"line {number}")
        alice.ping()
        assert carol.ping() == [f"alice: line {number}"]


def test_ping_though_the_broker_is_slow(two_servers, shared_redis, join):
    """B5: if there is an answer before the broker has moved, the line is there before it, too."""
    alice, _, carol = join_all(join, two_servers, "alice", "bob", "carol")
    with halted(shared_redis.process):
        alice.send_bytes(b"hello\n/ping 1\n")
        if alice.wait_for_data(0.3) and not carol.wait_for_data(0.3):
            raise AssertionError("alice got an answer, and carol had not got what she said before")
    assert alice.read_line() == "* pong 1"
    assert carol.read_line() == "alice: hello"


def test_ping_glued_to_a_line(two_servers, join):
    """B5, F5: in one segment, too; and answers come in the order of the questions."""
    alice, _, carol = join_all(join, two_servers, "alice", "bob", "carol")
    alice.send_bytes(b"".join(b"%d\n/ping %d\n" % (number, number) for number in range(30)))
    for number in range(30):
        assert alice.read_line() == f"* pong {number}"
    assert carol.ping() == [f"alice: {number}" for number in range(30)]


# ---- B6: what stays local ----


def test_list_and_private_messages_are_local(two_servers, join):
    """B6: they know the clients of their own process."""
    alice, bob, carol = join_all(join, two_servers, "alice", "bob", "carol")
    assert alice.ask("/list") == ["* 2 online: alice, carol"]
    assert bob.ask("/list") == ["* 1 online: bob"]
    assert alice.ask("/pm bob psst") == ["! no such user: bob"]
    alice.ask("/pm carol psst")
    assert carol.ping() == ["@alice: psst"]


def test_a_name_at_both(two_servers, join):
    """B6: it is unique in its process only, and both clients hear each other."""
    one, other = join(two_servers[0], "alice"), join(two_servers[1], "alice")
    one.read_until("* alice joined")
    one.send_line("who is there")
    other.read_until("alice: who is there")
    other.send_line("I am")
    assert one.read_line() == "alice: I am"


# ---- B7: the end of the broker ----


def test_the_broker_goes(launch_server, own_redis, join):
    """B7: both say good-bye, and end with status 1."""
    servers = [launch_server("--broker", own_redis.address) for _ in range(2)]
    clients = join_all(join, servers, "alice", "bob")
    own_redis.end()
    for server, client in zip(servers, clients, strict=True):
        assert client.read_to_end() == [SHUTTING_DOWN]
        assert server.process.wait(timeout=5) == 1
        log = server.log_path.read_text(encoding="utf-8", errors="replace")
        assert re.search("broker", log, re.IGNORECASE), log


def test_one_process_goes(launch_server, shared_redis, join):
    """B7: the room does not end: the other process goes on, and a third takes its place."""
    servers = [launch_server("--broker", shared_redis.address) for _ in range(2)]
    alice, bob = join_all(join, servers, "alice", "bob")
    assert servers[1].stop() == 0
    assert bob.read_to_end() == [SHUTTING_DOWN]
    carol = join(launch_server("--broker", shared_redis.address), "carol")
    alice.read_until("* carol joined")
    alice.send_line("welcome")
    assert carol.read_line() == "alice: welcome"
