"""Limits, L1 to L3: idle clients, too many clients, clients that do not go, a system at its end.

What each version does without descriptors, threads or room for its log: test_limits_lab.py.
"""

import contextlib
import os
import signal
import socket
import time

import pytest

from harness.answers import IDLE_TIMEOUT, SERVER_FULL, SHUTTING_DOWN
from harness.launcher import launch
from harness.process_view import halt, halted
from harness.waiting import wait_until, wait_until_left
from tests.crowd import Crowd

# A question of three bytes, and its answer, eleven times as long.
QUESTION = b"/a\n"
ANSWER = b"! unknown command: /a (try /help)\n"


# ---- L1: who is idle, and who is not ----


def test_who_is_timed_out_and_who_is_not(launch_server, connect, join):
    """L1: a complete line is a sign of life, and nothing else is; in the handshake as after it."""
    server = launch_server("--idle-timeout", "0.6")
    strangers = [connect(server), connect(server)]
    for stranger in strangers:
        stranger.read_line()
    alice, silent, trickling, endless = join(server, "alice", "silent", "trickling", "endless")
    bytes_without_end = {strangers[0]: b"x", trickling: b"x", endless: b"x" * 500}
    to_be_timed_out = [*strangers, silent, trickling, endless]
    heard_by_alice = []

    def all_are_timed_out():
        heard_by_alice.extend(alice.ping())
        for client in list(to_be_timed_out):
            with contextlib.suppress(ConnectionError):  # it may have been closed a moment ago
                client.send_bytes(bytes_without_end.get(client, b""))
            if client.wait_for_data(0.02):
                assert_timed_out_in_the_end(client, to_be_timed_out)
        return not to_be_timed_out

    wait_until(all_are_timed_out, "silence, or bytes without LF, to be timed out", 5)
    heard_by_alice += alice.ping()
    assert IDLE_TIMEOUT not in heard_by_alice, "a client that asks all the time was timed out"
    assert join(server, "silent").ask("/list") == ["* 2 online: alice, silent"]


def assert_timed_out_in_the_end(client, waiting):
    """Take a client from those who wait if it has been timed out; it may get other lines first."""
    try:
        line = client.read_line()
    except EOFError:
        pytest.fail(f"{client.name or 'a stranger'} was closed without {IDLE_TIMEOUT!r}")
    if line == IDLE_TIMEOUT:
        waiting.remove(client)


def test_the_end_of_any_line_is_a_sign_of_life(launch_server, crowd):
    """L1, F2, F4, F6: of a blank line, too, and of a refused one; in the handshake as well."""
    room = crowd(launch_server("--idle-timeout", "1"))
    signs = {
        "blank": b"\n",
        "too-long": b"x" * 1100 + b"\n",
        "not-utf8": b"\xff\n",
        "control": b"\x07\n",
        "unknown": QUESTION,
    }
    talkers = dict(zip(room.join(signs), signs.values(), strict=True))
    refused_names = (b"two words\n", b"\xff\n", b"x" * 1100 + b"\n")
    for line in refused_names:
        (stranger,) = room.connect(["a stranger"])
        talkers[stranger] = line
    # It comes last, so all the others would have to be timed out before.
    (silent,) = room.connect(["silent"])
    next_round = 0.0

    def silent_is_timed_out():
        nonlocal next_round
        if time.monotonic() >= next_round:
            next_round = time.monotonic() + 0.05
            for talker, line in talkers.items():
                talker.outgoing += line
        return silent.closed

    room.pump(silent_is_timed_out, "a silent client to be timed out", 5)
    room.pump_until_quiet()
    assert IDLE_TIMEOUT in silent.lines(), f"the silent one was told {silent.lines()}"
    for talker, line in talkers.items():
        assert IDLE_TIMEOUT not in talker.lines() and not talker.closed, (
            f"{talker.name}, who sent {line[:12]!r} all the time, was timed out"
        )


def test_zero_means_never(launch_server, connect, join, clock):
    """L1: `--idle-timeout 0` outlives what another server calls idle, after half a line as well."""
    server = launch_server("--idle-timeout", "0")
    wait = clock("0.3")
    stranger, half_a_name = connect(server), connect(server)
    for client in (stranger, half_a_name):
        client.read_line()
    alice, bob = join(server, "alice", "bob")
    half_a_name.send_bytes(b"hal")
    bob.send_bytes(b"/ping and so")
    wait()
    assert alice.ask("/list") == ["* 2 online: alice, bob"]
    bob.send_line(" on")
    assert bob.read_line() == "* pong and so on", "the second half of a line came too late"
    for client, rest, name in ((stranger, "stranger", "stranger"), (half_a_name, "f", "half")):
        client.send_line(rest)
        assert client.read_line() == f"* hello {name}", "a name came too late"


def test_who_has_work_done_is_not_idle(launch_server, crowd):
    """L1, C6: neither while it is done nor while the line waits for what others have asked for."""
    room = crowd(launch_server("--idle-timeout", "0.5"))
    workers = room.join(["alice", "bob", "carol"])
    milliseconds = [600, 150, 100]
    for worker, duration in zip(workers, milliseconds, strict=True):
        worker.outgoing += b"/work %d\n" % duration

    def all_done():
        return all(b"* worked " in worker.incoming or worker.closed for worker in workers)

    room.pump(all_done, "three works to be done")
    for worker, duration in zip(workers, milliseconds, strict=True):
        lines = [line for line in worker.lines() if not line.endswith(" left")]
        assert lines[:1] == [f"* worked {duration} ms"], (
            f"{worker.name} asked for {duration} ms of work with an idle timeout of 500 ms, "
            f"and got {lines}"
        )


def test_who_asks_while_others_have_work_done_is_not_idle(launch_server, crowd):
    """L1, C6: a line that came in time is a sign of life, though the server was busy just then."""
    room = crowd(launch_server("--idle-timeout", "0.6"))
    worker, quiet = room.join(["worker", "quiet"])
    worker.outgoing += b"/work 800\n"
    sent = time.monotonic()
    room.pump(lambda: time.monotonic() > sent + 0.1, "the work to be under way")
    quiet.outgoing += b"/ping x\n"
    room.pump(lambda: quiet.incoming or quiet.closed, "an answer")
    assert quiet.lines()[0] == "* pong x", f"a question during others' work got {quiet.lines()}"


def read_slowly(clients, bytes_per_second):
    """Read from all of them to their ends, each at that pace; returns what each has got."""
    received = {client: bytearray() for client in clients}
    waiting = list(clients)
    start = time.monotonic()
    while waiting:
        time.sleep(0.05)  # The pace is what it is about.
        allowed = int((time.monotonic() - start) * bytes_per_second)
        for client in list(waiting):
            client.socket.setblocking(False)
            try:
                data = client.socket.recv(max(1, allowed - len(received[client])))
            except BlockingIOError:
                continue
            except ConnectionError:
                data = b""
            received[client] += data
            if not data:
                waiting.remove(client)
    return list(received.values())


def set_receive_buffer(client, size):
    """With a small one the kernel takes little for the client, and much waits in the server."""
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)


def test_who_takes_its_answers_slowly_is_not_idle(launch_server, connect):
    """L1, L5: neither while lines of it wait, nor once it has ended its input."""
    server = launch_server("--idle-timeout", "0.4", "--stall-timeout", "5")
    questions = 20_000
    clients = []
    for name in (b"half-closed", b"other"):
        client = connect(server)
        clients.append(client)
        set_receive_buffer(client, 32768)
        client.send_bytes(name + b"\n" + QUESTION * questions)
    half_closed, _ = clients
    half_closed.half_close()
    from_half_closed, from_other = read_slowly(clients, 350_000)
    for received, whose in ((from_half_closed, "half-closed"), (from_other, "other")):
        answers = received.count(ANSWER)
        assert answers == questions, f"the {whose} client got {answers} of {questions} answers"
    assert IDLE_TIMEOUT.encode() not in from_half_closed, "called idle after the end of its input"


# ---- L2: too many clients ----


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
    bob.close()
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


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="this system has no SIGSTOP")
@pytest.mark.parametrize(("number", "descriptors"), [(10, 1024), (60, 64)])
def test_who_has_talked_before_it_is_refused(
    launch_server, connect, join, limit_descriptors, number, descriptors
):
    """L2: what it has sent is read before the close, for a reset could overtake `! server full`.

    The server is stopped while they connect and talk, so it finds all that when it accepts. To
    refuse many at once takes no descriptor for each of them.
    """
    server = launch_server("--max-clients", "1", preexec_fn=limit_descriptors(descriptors))
    join(server, "alice")
    halt(server.process)
    try:
        refused = [connect(server) for _ in range(number)]
        for client in refused:
            client.send_bytes(b"bob\n" + b"hello\n" * 500)
    finally:
        server.process.send_signal(signal.SIGCONT)
    for client in refused:
        told = client.read_to_end()
        assert told == [SERVER_FULL], f"in place of a refusal: {told}"
    for client in refused:
        # A reset that comes after the end of input is seen nowhere but here.
        error = client.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        assert error == 0, f"the refusal ended in a reset: {os.strerror(error)}"


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="this system has no SIGSTOP")
@pytest.mark.profile("chat")
def test_who_asked_in_a_hold_is_not_idle(launch_server, crowd, clock):
    """L1, L3: its line came in time, but is read only when the room is no longer held."""
    server = launch_server("--idle-timeout", "0.7", "--stall-timeout", "60")
    room = crowd(server)
    wait = clock("0.8")
    asker, deaf, sender = room.join(["asker", "deaf", "sender"])
    deaf.reading = False
    sender.outgoing += b"so much to say\n" * 700_000
    room.pump_until_quiet()
    asker.outgoing += b"/ping mine\n"
    room.pump(lambda: not asker.outgoing, "the question to be sent")
    wait()
    # When the server goes on, it is late: it finds room for the deaf one, and looks at the clock.
    with halted(server.process):
        deaf.reading = True
        room.pump_until_quiet()
    room.pump(lambda: asker.closed or b"* pong mine\n" in asker.incoming, "the answer")
    assert b"! idle timeout" not in asker.incoming, "a client whose line waited was told it is idle"


# ---- L2, C4: who is leaving ----

# Their answers, 371 kB, are more than the kernel takes (330 kB, for a client with a small buffer).
# What remains is less than HIGH_WATER, so what comes in the same turn is still processed. And they
# are two turns: in the third a thread of v1 would not come to `/quit`, as it waits in the second.
QUESTIONS_OF_A_DEAF_CLIENT = 10_900


def deaf_client(connect, server, name, last_words):
    """A client that has asked much, and then for the end, and reads none of the answers."""
    client = connect(server)
    set_receive_buffer(client, 32768)
    client.join(name)
    client.send_bytes(QUESTION * QUESTIONS_OF_A_DEAF_CLIENT + last_words)
    return client


@pytest.mark.versions("v1_threads", "v2_select", "v3_broadcast", "v4_asyncio")
def test_who_is_leaving_keeps_its_place(launch_server, connect, join, join_eventually):
    """L2, C4, L5: until it is closed; and it may take its time to read all that is for it.

    (How much has to be waiting for that is a fact about our servers and their send buffers.)
    """
    server = launch_server("--max-clients", "3", "--stall-timeout", "60")
    witness = join(server, "witness")
    ending = deaf_client(connect, server, "ending", b"")
    ending.half_close()
    quitting = deaf_client(connect, server, "quitting", b"/quit\n")
    wait_until_left(witness, "quitting")
    for _ in range(3):
        told = connect(server).read_to_end()
        assert told == [SERVER_FULL], f"two are leaving, one is in, and a fourth was told {told}"
    for client, bye in ((quitting, ["* bye quitting"]), (ending, [])):
        lines = [line for line in client.read_to_end() if not line.endswith((" joined", " left"))]
        answers = [ANSWER.decode().rstrip()] * QUESTIONS_OF_A_DEAF_CLIENT
        assert lines == answers + bye, f"{len(lines)} lines for {client.name}, {lines[-2:]}"
        client.close()
    for name in ("newcomer-1", "newcomer-2"):
        join_eventually(server, name)


def test_who_is_leaving_and_takes_nothing(launch_server, connect, join, join_eventually):
    """L2: it is closed after the stall timeout, though there is no idle timeout; its place is free.

    Output waits for each of them; they neither read it nor go.
    """
    server = launch_server("--max-clients", "5", "--idle-timeout", "0", "--stall-timeout", "0.4")
    witness = join(server, "witness")
    at_once = [deaf_client(connect, server, f"at-once-{n}", b"/quit\n" * n) for n in range(2)]
    later = [deaf_client(connect, server, f"later-{n}", b"") for n in range(2)]
    at_once[0].half_close()
    # In a chat room they may hold the others (L3), but not for longer than the stall timeout.
    witness.ping()
    with contextlib.suppress(OSError):  # where its thread is stuck (v1), it is closed by now
        later[0].half_close()
        later[1].send_line("/quit")
    for number in range(4):
        join_eventually(server, f"newcomer-{number}")
    online = witness.ask("/list")[-1]
    assert online.startswith("* 5 online: newcomer-0,"), f"those who have gone are in: {online}"


def test_nobody_lingers_for_ever(at_the_same_time, inspect):
    """L2, C4: 3 seconds after the last word the connection is closed, whatever the client does.

    One neither reads nor sends nor closes; one goes on sending lines, one bytes without an end.
    """

    def quit_and_stay(server):
        with Crowd(server.address, server.profile) as room:
            watch_three_who_quit_and_stay(room, inspect(server))

    at_the_same_time(quit_and_stay, "--idle-timeout", "60")


def watch_three_who_quit_and_stay(room, process):
    """Return once the server has closed all three."""
    room.join(["witness"])
    first = process.descriptors()
    leaving = room.join(["silent", "lines", "bytes"])
    sent_for_ever = dict(zip(leaving, (b"", b"and then\n" * 20, b"and then" * 20), strict=True))
    for member in leaving:
        member.outgoing += b"/quit\n"

    def all_have_got_their_last_word():
        for member in leaving:
            # From here on it does not read, and so it does not see the end and does not close.
            member.reading = b"* bye " not in member.incoming
        return not any(member.reading for member in leaving)

    room.pump(all_have_got_their_last_word, "good-bye")
    next_round = 0.0

    def all_are_closed():
        nonlocal next_round
        if time.monotonic() >= next_round:
            next_round = time.monotonic() + 0.05
            for member, data in sent_for_ever.items():
                member.outgoing += data
        return process.descriptors() == first

    room.pump(all_are_closed, "the server to close those who have quit and do not go", 10)


# ---- L3: who is stuck ----


def test_a_stuck_client_that_goes_on_talking(launch_server, crowd):
    """L3: neither blank lines nor bytes count as taking output: it is dropped all the same."""
    room = crowd(launch_server("--stall-timeout", "0.4"))
    bob, blank, half = room.join(["bob", "blank", "half"])
    said_for_ever = {blank: b"\n", half: b"x"}
    for deaf in said_for_ever:
        deaf.reading = False
        # Answers of 6 MB, which is more than the kernel and the server take together.
        deaf.outgoing += QUESTION * 180_000
    room.pump_until_quiet()
    next_round = 0.0

    def both_are_dropped():
        nonlocal next_round
        if time.monotonic() >= next_round:
            next_round = time.monotonic() + 0.05
            bob.outgoing += b"/list\n"
            for deaf, data in said_for_ever.items():
                deaf.outgoing += data
        return b"* 1 online: bob\n" in bob.incoming

    room.pump(both_are_dropped, "those who do not read, but talk on, to be dropped", 8)


# ---- L2: a system that has no more to give ----


def use_up_descriptors(room):
    """Let sixty clients come to a server that has descriptors for fewer; returns all of them."""
    waiting = room.connect(f"client-{number}" for number in range(60))
    room.pump_until_quiet()
    return waiting


def test_a_stop_out_of_descriptors(launch_server, join, crowd, limit_descriptors):
    """L2, L4: a clean stop needs no descriptor that is not there, not even while work is done."""
    server = launch_server(preexec_fn=limit_descriptors(40))
    alice, worker = join(server, "alice", "worker")
    use_up_descriptors(crowd(server))
    alice.ping()
    worker.send_line("/work 1000")
    start = time.monotonic()
    status = server.stop()
    seconds = time.monotonic() - start
    assert status == 0, f"exit status {status} after {seconds:.1f} s"
    assert SHUTTING_DOWN in alice.read_to_end(), "a client was not told of the stop"


# Run in front of a server: no memory is left for whoever asks to be called so, or for so much work.
NO_MORE_MEMORY = """
import re, runpy, sys
fullmatch = re.fullmatch
def match_unless_out_of_memory(pattern, text):
    if text == "no-memory":
        raise MemoryError
    return fullmatch(pattern, text)
re.fullmatch = match_unless_out_of_memory
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def launch_behind(program, target, *options):
    """Start a server that a few lines of Python have prepared something for."""
    python, *server_and_options = target.command(*options)
    return launch(target.name, [python, "-c", program, *server_and_options], profile=target.profile)


@pytest.mark.versions("v1_threads")
def test_whatever_ends_a_thread(target, join, connect, inspect):
    """L2, H5: name, place and descriptor are free again when memory runs out for one client.

    More clients end that way than there are places.
    """
    with launch_behind(NO_MORE_MEMORY, target, "--max-clients", "4") as server:
        bob = join(server, "bob")
        process = inspect(server)
        first = process.descriptors()
        for _ in range(3):
            alice = join(server, "alice")
            alice.send_line("/work no-memory")
            assert alice.read_to_end() == [], "a client without memory was answered"
            wait_until(lambda: process.descriptors() == first, "a descriptor to be given back")
            stranger = connect(server)
            stranger.read_line()
            stranger.send_line("no-memory")
            assert stranger.read_to_end() == [], "a stranger without memory was answered"
            wait_until(lambda: process.descriptors() == first, "a descriptor to be given back")
        assert bob.ask("/list") == ["* 1 online: bob"]
        assert server.stop() == 0
