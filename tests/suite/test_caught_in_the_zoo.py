"""Bugs of the zoo (tests/zoo) that the other tests of their rule miss in somebody's server."""

import os

import pytest

from harness.crowd import Crowd
from harness.proc import halted
from harness.waiting import wait_until, wait_until_left
from tests.suite.marks import NEEDS_SIGSTOP

# Python imports a module called sitecustomize at its start; other languages do not notice it. This
# one makes each thread pause before each line of a file in the program's own folder, so that all
# the other threads get to run.
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
    """An environment in which the threads of a Python server take turns before each line."""
    (tmp_path / "sitecustomize.py").write_text(SITECUSTOMIZE)
    return {**os.environ, "PYTHONPATH": str(tmp_path)}


@NEEDS_SIGSTOP
def test_one_name_asked_for_by_many_at_once(launch_server, crowd, slow_threads):
    """H2: if many ask for a name at the same moment, one gets it.

    The server is halted while they ask, so that it finds all their lines when it resumes. A server
    that looks whether a name is free, and takes it a step later, lets two in.
    """
    room = crowd(server := launch_server(env=slow_threads))
    askers = room.connect(f"asker-{number}" for number in range(10))
    room.pump(lambda: all(asker.incoming for asker in askers), "ten greetings")
    for name in ("alice", "bob"):
        with halted(server.process):
            ask_for(room, askers, name)
        room.pump(lambda: all(b"\n" in asker.incoming for asker in askers), f"answers to {name}")
        winners = [asker for asker in askers if f"* hello {name}" in asker.lines()]
        assert len(winners) == 1, f"{len(winners)} clients are called {name}"
        askers.remove(winners[0])
        room.reset(winners[0])


def ask_for(room: Crowd, askers: list, name: str) -> None:
    """Let all of them send the same name; returns when it has been sent, though not yet read."""
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
    wait_until(
        lambda: bob.ask("/list")[-1] == "* 1 online: bob", "guest1 to be gone", 3, bob.session
    )
    assert connect(server).join() == "guest1"


def test_gone_after_the_end_of_its_input(server, connect, join):
    """L6: a client ends its input, and is killed before it has read the answers.

    A reset after the end of input shows as a broken pipe (EPIPE), not as ECONNRESET.
    """
    bob = join(server, "bob")
    for number in range(3):
        alice = connect(server)
        alice.join(f"alice-{number}")
        # The answers, 510 kB, are more than the kernels hold for a client that does not read.
        alice.send_bytes(b"/a\n" * 15_000)
        alice.half_close()
        # Her questions take three turns, and she has one between any two of bob's (F7).
        for _ in range(5):
            bob.ping()
        alice.reset()
        wait_until_left(bob, f"alice-{number}")
    assert bob.ask("/list")[-1] == "* 1 online: bob"
