"""Bugs of the zoo (tests/zoo) that no other test of their rule catches in just anybody's server."""

import os
import signal

import pytest

from harness.process_view import halt
from harness.waiting import wait_until, wait_until_left
from tests.crowd import Crowd

# Python imports a module of this name at its start; other languages do not notice. It makes each
# thread pause before each line that stands in the program's own folder: a turn for all the others.
SITECUSTOMIZE = """
import os, sys, threading, time

def pause_before_each_line(frame, event, argument):
    program = getattr(sys.modules["__main__"], "__file__", "")
    if os.path.dirname(frame.f_code.co_filename) != os.path.dirname(program):
        return None
    time.sleep(0.0001)
    return pause_before_each_line

threading.settrace(pause_before_each_line)
"""


@pytest.fixture
def slow_threads(tmp_path):
    """An environment for a server: in Python, its threads take turns before each line."""
    (tmp_path / "sitecustomize.py").write_text(SITECUSTOMIZE)
    return {**os.environ, "PYTHONPATH": str(tmp_path)}


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="this system has no SIGSTOP")
def test_one_name_asked_for_by_many_at_once(launch_server, crowd, slow_threads):
    """H2: of all who ask for a name at the same moment one gets it.

    The server is halted while they ask, so that it finds all their questions when it goes on. One
    that looks whether a name is free, and takes it a step later, lets two in.
    """
    server = launch_server(env=slow_threads)
    room = crowd(server)
    askers = room.connect(f"asker-{number}" for number in range(10))
    room.pump(lambda: all(asker.incoming for asker in askers), "ten greetings")
    for name in ("alice", "bob"):
        halt(server.process)
        try:
            ask_for(room, askers, name)
        finally:
            server.process.send_signal(signal.SIGCONT)
        room.pump(lambda: all(b"\n" in asker.incoming for asker in askers), f"answers to {name}")
        winners = [asker for asker in askers if f"* hello {name}" in asker.lines()]
        assert len(winners) == 1, f"{len(winners)} clients are called {name}"
        askers.remove(winners[0])
        room.reset(winners[0])


def ask_for(room: Crowd, askers: list, name: str) -> None:
    """Let all of them send the same name; returns when it has been sent, not when it is read."""
    for asker in askers:
        asker.incoming.clear()
        asker.outgoing += f"{name}\n".encode()
    room.pump(lambda: not any(asker.outgoing for asker in askers), "the name to be sent")


def test_the_number_of_a_guest_who_was_reset(server, connect, join):
    """H5: a name is free again also when its client went without a good-bye."""
    bob = join(server, "bob")
    guest = connect(server)
    assert guest.join() == "guest1"
    guest.reset()
    wait_until(lambda: bob.ask("/list")[-1] == "* 1 online: bob", "guest1 to be gone", 3)
    assert connect(server).join() == "guest1"


def test_gone_after_the_end_of_its_input(server, connect, join):
    """L6: a client ends its input, and is killed before it has read what it had asked for.

    A reset that comes after the end of input is a broken pipe (EPIPE), not ECONNRESET.
    """
    bob = join(server, "bob")
    for number in range(3):
        alice = connect(server)
        alice.join(f"alice-{number}")
        # Answers of 510 kB: the kernels do not take all of that for a client that does not read.
        alice.send_bytes(b"/a\n" * 15_000)
        alice.half_close()
        # The questions are three turns, and between two of his she has one (F7).
        for _ in range(5):
            bob.ping()
        alice.reset()
        wait_until_left(bob, f"alice-{number}")
    assert bob.ask("/list")[-1] == "* 1 online: bob"
