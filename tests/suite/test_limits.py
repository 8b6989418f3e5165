"""Limits, L1 to L3: idle clients, too many clients, clients that do not go, a system at its end."""

import contextlib
import os
import socket
import time

import pytest

from harness.answers import IDLE_TIMEOUT, SERVER_FULL, SHUTTING_DOWN
from harness.crowd import Crowd
from harness.proc import ProcessView, halted
from harness.waiting import wait_until, wait_until_left
from tests.limits.ways import RUN_THE_SERVER
from tests.suite.leaving import ANSWER, QUESTION, QUESTIONS_OF_A_DEAF_CLIENT, deaf_client
from tests.suite.marks import NEEDS_SIGSTOP, OURS
from tests.suite.pace import (
    at_a_steady_pace,
    connect_slow_reader,
    need_a_steady_pace,
    pump_at_a_pace,
)

# One that is silent for so long is timed out, where others talk beside it.
IDLE_SECONDS = 1.5


# ---- L1: who is idle, and who is not ----


@at_a_steady_pace
def test_who_is_timed_out_and_who_is_not(launch_server, connect, join):
    """L1: only a complete line is a sign of life, in the handshake as well as after it."""
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
            # The server may have closed it a moment ago.
            with contextlib.suppress(ConnectionError):
                client.send_bytes(bytes_without_end.get(client, b""))
            if client.wait_for_data(0.02):
                assert_timed_out_in_the_end(client, to_be_timed_out)
        return not to_be_timed_out

    awaited = "silence, or bytes without LF, to be timed out"
    wait_until(all_are_timed_out, awaited, 5, server.session)
    heard_by_alice += alice.ping()
    assert IDLE_TIMEOUT not in heard_by_alice, "a client that asks all the time was timed out"
    assert join(server, "silent").ask("/list") == ["* 2 online: alice, silent"]


def assert_timed_out_in_the_end(client, waiting):
    """Remove a client from `waiting` if it has been timed out; other lines may come first."""
    try:
        line = client.read_line()
    except EOFError:
        pytest.fail(f"{client.name or 'a stranger'} was closed without {IDLE_TIMEOUT!r}")
    if line == IDLE_TIMEOUT:
        waiting.remove(client)


def talk_until_a_silent_one_is_timed_out(server):
    """Only the silent client is timed out, although what the others say is refused or blank.

    Two have sent a line that is refused before its LF comes. Later they send the LF, and for a
    while no more. It is the end of a line, although the line is forgotten by then.
    """
    signs = {
        "blank": b"\n",
        "too-long": b"x" * 1100 + b"\n",
        "not-utf8": b"\xff\n",
        "control": b"\x07\n",
        "unknown": QUESTION,
    }
    refused_names = (b"two words\n", b"\xff\n", b"x" * 1100 + b"\n")
    with Crowd(server.address, server.profile, server.session) as room:
        talkers = dict(zip(room.join(signs), signs.values(), strict=True))
        late = [*room.join(["late-with-its-LF"]), *room.connect(["a stranger late with its LF"])]
        for line in refused_names:
            (stranger,) = room.connect(["a stranger"])
            talkers[stranger] = line
        for member in late:
            member.outgoing += b"x" * 1100
        witness = next(iter(talkers))
        for _ in range(2):
            room.barrier([witness])
        # It connects last, so all the others would have to be timed out before it.
        (silent,) = room.connect(["silent"])
        begin = time.monotonic()
        without_lf = list(late)

        def silent_is_closed():
            silence = (time.monotonic() - begin) / IDLE_SECONDS
            if silence > 0.6:
                while without_lf:
                    without_lf.pop().outgoing += b"\n"
            # Without the LF they would have been timed out by now.
            if silence > 1.2:
                talkers.update(dict.fromkeys(late, b"\n"))
            return silent.closed

        awaited = "a silent client to be timed out"
        pause = pump_at_a_pace(room, silent_is_closed, awaited, 5, sends=talkers)
        room.pump_until_quiet()
        assert IDLE_TIMEOUT in silent.lines(), f"the silent one was told {silent.lines()}"
        for talker, line in (talkers | dict.fromkeys(late, b"\n")).items():
            if talker.closed:
                need_a_steady_pace(pause, 0.4 * IDLE_SECONDS)
            assert IDLE_TIMEOUT not in talker.lines() and not talker.closed, (
                f"{talker.name}, who sent {line[:12]!r} in time, was timed out"
            )


@pytest.mark.waits("--idle-timeout", str(IDLE_SECONDS), work=talk_until_a_silent_one_is_timed_out)
def test_the_end_of_any_line_is_a_sign_of_life(wait_is_over):
    """L1, F2, F4, F6: so is that of a blank or refused line, in the handshake as well."""
    wait_is_over()


def test_zero_means_never(launch_server, connect, join, clock):
    """L1: with `--idle-timeout 0`, no silence is too long, not even after half a line."""
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
    """L1, C6: neither while it is done nor while its line waits for the work of others."""
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
        answer = f"* worked {duration} ms"
        assert lines[:1] == [answer], f"{lines} in place of {answer!r}; idle timeout: 500 ms"


@at_a_steady_pace
def test_who_asks_while_others_have_work_done_is_not_idle(launch_server, crowd):
    """L1, C6: a line that came in time is a sign of life, although the server was busy then."""
    room = crowd(launch_server("--idle-timeout", "0.6"))
    worker, quiet = room.join(["worker", "quiet"])
    worker.outgoing += b"/work 800\n"
    sent = time.monotonic()
    room.pump(lambda: time.monotonic() > sent + 0.1, "the work to be under way")
    quiet.outgoing += b"/ping x\n"
    room.pump(lambda: quiet.incoming or quiet.closed, "an answer")
    assert quiet.lines()[0] == "* pong x", f"a question during others' work got {quiet.lines()}"


def ask_much_and_read_slowly(server):
    """Two clients ask, and one ends its input; neither is called idle before all is answered."""
    questions = 20_000
    with Crowd(server.address, server.profile, server.session) as room:
        half_closed, other = (connect_slow_reader(room, name) for name in ("half-closed", "other"))
        for member in (half_closed, other):
            member.reading = False
            member.outgoing += member.name.encode() + b"\n" + QUESTION * questions
        room.pump(lambda: not half_closed.outgoing, "all questions to be sent")
        half_closed.socket.shutdown(socket.SHUT_WR)
        rates = {half_closed: 350_000, other: 350_000}

        def both_are_closed():
            return half_closed.closed and other.closed

        pump_at_a_pace(room, both_are_closed, "the end of both", 20, reads=rates)
    for member in (half_closed, other):
        missing = questions - member.incoming.count(ANSWER)
        # Answers that are lost for another reason are for the tests of L5.
        was_told = IDLE_TIMEOUT in member.lines()
        assert not (missing and was_told), f"{member.name} is idle, with {missing} answers to come"
    assert IDLE_TIMEOUT not in half_closed.lines(), "called idle after the end of its input"


@pytest.mark.waits("--idle-timeout", "0.4", "--stall-timeout", "5", work=ask_much_and_read_slowly)
def test_who_takes_its_answers_slowly_is_not_idle(wait_is_over):
    """L1, L5: neither while lines of its own wait, nor once it has ended its input."""
    wait_is_over()


# ---- L2: too many clients ----


def test_one_client_too_many(launch_server, connect, join, join_eventually):
    """L2: it is refused in place of the greeting, and closed; the others stay; a place frees up.

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
    """L2: a client that speaks at once, as one behind a pipe does, can still read why."""
    server = launch_server("--max-clients", "1")
    alice = join(server, "alice")
    for _ in range(20):
        refused = connect(server)
        # The server may have closed it already.
        with contextlib.suppress(OSError):
            refused.send_bytes(b"bob\nhello\n")
            refused.half_close()
        assert refused.read_to_end() == [SERVER_FULL]
    assert alice.ping() == []


@NEEDS_SIGSTOP
@pytest.mark.parametrize(("number", "descriptors"), [(10, 1024), (60, 64)])
def test_who_has_talked_before_it_is_refused(
    launch_server, connect, join, limit_descriptors, number, descriptors
):
    """L2: its input is read before the close, because a reset could overtake `! server full`.

    The server finds all that when it accepts. Refusing many at once must not take a descriptor for
    each of them.
    """
    server = launch_server("--max-clients", "1", preexec_fn=limit_descriptors(descriptors))
    join(server, "alice")
    with halted(server.process):
        refused = [connect(server) for _ in range(number)]
        for client in refused:
            client.send_bytes(b"bob\n" + b"hello\n" * 500)
    for client in refused:
        lines = client.read_to_end()
        told = f"with {descriptors} descriptors, {number} are refused at once; one got {lines}"
        assert lines == [SERVER_FULL], told
    for client in refused:
        # A reset that comes after the end of output shows only here.
        error = client.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        assert error == 0, f"the refusal ended in a reset: {os.strerror(error)}"


@NEEDS_SIGSTOP
@pytest.mark.profile("chat")
@at_a_steady_pace
def test_who_asked_in_a_hold_is_not_idle(launch_server, crowd):
    """L1, L3: its line came in time, but is read only when the room is no longer held."""
    room = crowd(server := launch_server("--idle-timeout", "1.2", "--stall-timeout", "60"))
    asker, deaf, sender = room.join(["asker", "deaf", "sender"])
    deaf.reading = False
    sender.outgoing += b"so much to say\n" * 700_000

    def question_has_waited():
        """For longer than the idle timeout. Before the room is held, questions are answered."""
        if asker.awaited is None:
            asker.awaited = b"* pong mine\n"
            asker.outgoing += b"/ping mine\n"
        is_sent = not asker.outgoing
        return asker.closed or (is_sent and time.monotonic() > asker.spoke_at + 1.5)

    room.pump(question_has_waited, "a question that waits, because a client reads nothing")
    # When the server resumes it is late: it finds room for the deaf one, and looks at its clock.
    with halted(server.process):
        deaf.reading = True
        room.pump_until_quiet()
    room.pump(lambda: asker.closed or not asker.awaited, "the answer")
    assert IDLE_TIMEOUT not in asker.lines(), "a client whose line waited was told it is idle"


def ping_through_a_hold(server):
    """A client asks all the time while another one holds the room, and until that one is dropped.

    It is not read in the hold, which takes longer than the idle timeout.
    """
    with Crowd(server.address, server.profile, server.session) as room:
        asker, deaf, sender = room.join(["asker", "deaf", "sender"])
        deaf.reading = False
        sender.outgoing += b"so much to say\n" * 700_000

        # A server that drops nobody is not the matter of this rule.
        end = time.monotonic() + 5

        def hold_is_over():
            return asker.closed or not asker.awaited or time.monotonic() > end

        def is_answered():
            return asker.closed or not asker.awaited

        questions = {asker: b"/ping mine\n"}
        asker.awaited = b"* deaf left\n"
        pump_at_a_pace(room, hold_is_over, "the end of the hold", 10, sends=questions)
        asker.awaited = b"* pong mine\n"
        pump_at_a_pace(room, is_answered, "an answer after the hold", 10, sends=questions)
        assert IDLE_TIMEOUT not in asker.lines(), "one that asked all the time was told it is idle"
        assert not asker.closed, "one that asked all the time was closed"


@pytest.mark.profile("chat")
@pytest.mark.waits("--idle-timeout", "1.5", "--stall-timeout", "2", work=ping_through_a_hold)
def test_who_asks_through_a_hold_is_not_idle(wait_is_over):
    """L1, L3: it is not told so when the hold ends, although none of its lines was read in it."""
    wait_is_over()


# ---- L2, C4: clients that are leaving ----


# How much has to wait for it to be seen is a fact about our servers and their send buffers.
@OURS
def test_who_is_leaving_keeps_its_place(launch_server, connect, join, join_eventually):
    """L2, C4, L5: it has it until it is closed, and may take its time to read what is for it."""
    server = launch_server("--max-clients", "3", "--stall-timeout", "60")
    witness = join(server, "witness")
    ending = deaf_client(connect, server, "ending", b"")
    ending.half_close()
    quitting = deaf_client(connect, server, "quitting", b"/quit\n")
    wait_until_left(witness, "quitting")
    for _ in range(3):
        lines = connect(server).read_to_end()
        assert lines == [SERVER_FULL], f"two are leaving, one is in, and a fourth was told {lines}"
    for client, bye in ((quitting, ["* bye quitting"]), (ending, [])):
        lines = [line for line in client.read_to_end() if not line.endswith((" joined", " left"))]
        answers = [ANSWER.decode().rstrip()] * QUESTIONS_OF_A_DEAF_CLIENT
        assert lines == answers + bye, f"{len(lines)} lines for {client.name}, {lines[-2:]}"
        client.close()
    for name in ("newcomer-1", "newcomer-2"):
        join_eventually(server, name)


def test_who_is_leaving_and_takes_nothing(launch_server, connect, join, join_eventually):
    """L2: it is closed after the stall timeout, even without an idle timeout; its place is free."""
    server = launch_server("--max-clients", "5", "--idle-timeout", "0", "--stall-timeout", "0.4")
    witness = join(server, "witness")
    at_once = [deaf_client(connect, server, f"at-once-{n}", b"/quit\n" * n) for n in range(2)]
    later = [deaf_client(connect, server, f"later-{n}", b"") for n in range(2)]
    at_once[0].half_close()
    # In the chat profile they may hold the room (L3), but no longer than the stall timeout.
    witness.ping()
    # Where its thread was stuck (v1), it is closed by now.
    with contextlib.suppress(OSError):
        later[0].half_close()
        later[1].send_line("/quit")
    for number in range(4):
        join_eventually(server, f"newcomer-{number}")
    online = witness.ask("/list")[-1]
    assert online.startswith("* 5 online: newcomer-0,"), f"those who have gone are in: {online}"


def quit_and_stay(server):
    """Three clients quit, and neither read nor close; return once the server has closed them."""
    with Crowd(server.address, server.profile, server.session) as room:
        room.join(["witness"])
        process = ProcessView(server.pid)
        first = process.descriptors()
        leaving = room.join(["silent", "lines", "bytes"])
        sent_for_ever = dict(zip(leaving, (b"", b"and then\n" * 20, b"and then" * 20), strict=True))
        for member in leaving:
            member.outgoing += b"/quit\n"

        def all_have_got_their_last_word():
            for member in leaving:
                # From here on it does not read, so it neither sees the end nor closes.
                member.reading = b"* bye " not in member.incoming
            return not any(member.reading for member in leaving)

        room.pump(all_have_got_their_last_word, "good-bye")

        def all_are_closed():
            return process.descriptors() == first

        awaited = "the server to close those who have quit and do not go"
        pump_at_a_pace(room, all_are_closed, awaited, 10, sends=sent_for_ever)


@pytest.mark.waits("--idle-timeout", "60", work=quit_and_stay)
def test_nobody_lingers_for_ever(inspect, wait_is_over):
    """L2, C4: 3 seconds after its last word the server closes the connection, whatever comes.

    One client neither reads nor sends nor closes; one keeps sending lines, one bytes without LF.
    """
    wait_is_over()


# ---- L3: stuck clients ----


def test_a_stuck_client_that_goes_on_talking(launch_server, crowd):
    """L3: neither blank lines nor bytes count as taking output; it is dropped all the same."""
    room = crowd(launch_server("--stall-timeout", "0.4"))
    bob, blank, half = room.join(["bob", "blank", "half"])
    for deaf in (blank, half):
        deaf.reading = False
        # The answers are 6 MB, more than the kernel and the server hold together.
        deaf.outgoing += QUESTION * 180_000
    room.pump_until_quiet()

    def both_are_dropped():
        return b"* 1 online: bob\n" in bob.incoming

    awaited = "those who do not read, but talk on, to be dropped"
    sent_for_ever = {bob: b"/list\n", blank: b"\n", half: b"x"}
    pump_at_a_pace(room, both_are_dropped, awaited, 8, sends=sent_for_ever)


# ---- L2: a system that has no more to give ----


def test_a_stop_out_of_descriptors(launch_server, join, crowd, limit_descriptors):
    """L4, L2: a clean stop needs no further descriptor, not even while work is going on."""
    server = launch_server(preexec_fn=limit_descriptors(40))
    alice, worker = join(server, "alice", "worker")
    room = crowd(server)
    # These are more clients than the server has descriptors for.
    room.connect(f"client-{number}" for number in range(60))
    room.pump_until_quiet()
    alice.ping()
    worker.send_line("/work 1000")
    start = time.monotonic()
    status = server.stop()
    seconds = time.monotonic() - start
    assert status == 0, f"exit status {status} after {seconds:.1f} s"
    assert SHUTTING_DOWN in alice.read_to_end(), "a client was not told of the stop"


# This code runs before a server. Memory runs out for a client that gives this name or asks for this
# much work.
NO_MORE_MEMORY = f"""
import re
fullmatch = re.fullmatch
def match_unless_out_of_memory(pattern, text):
    if text == "no-memory":
        raise MemoryError
    return fullmatch(pattern, text)
re.fullmatch = match_unless_out_of_memory
{RUN_THE_SERVER}"""


@pytest.mark.versions("v1_threads")
def test_whatever_ends_a_thread(target, join, connect, inspect):
    """L2, H5: name, place and descriptor are free again when memory runs out for one client."""
    with target.start("--max-clients", "4", preparation=[NO_MORE_MEMORY]) as server:
        bob = join(server, "bob")
        process = inspect(server)
        first = process.descriptors()
        given_back = "a descriptor to be given back"
        for _ in range(3):
            alice = join(server, "alice")
            alice.send_line("/work no-memory")
            assert alice.read_to_end() == [], "a client without memory was answered"
            wait_until(lambda: process.descriptors() == first, given_back, session=server.session)
            stranger = connect(server)
            stranger.read_line()
            stranger.send_line("no-memory")
            assert stranger.read_to_end() == [], "a stranger without memory was answered"
            wait_until(lambda: process.descriptors() == first, given_back, session=server.session)
        assert bob.ask("/list") == ["* 1 online: bob"]
