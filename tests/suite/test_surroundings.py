"""Where our servers are started: not only in a terminal, and not only on Linux.

The rest of such a place is simulated by lines of Python that run before the server.
"""

import os
import textwrap

import pytest

from harness.launcher import VERSIONS
from tests.limits.ways import RUN_THE_SERVER
from tests.suite.leaving import quit_politely
from tests.suite.marks import OURS
from tests.suite.test_launch import assert_refused, run_to_its_end

# A stream of IDLE shows what is written in a window. It is no file, so fileno() raises.
STREAMS_ARE_WINDOWS = """
import io, sys
class Window(io.TextIOBase):
    encoding, errors = "utf-8", "strict"
    def __init__(self, shown_by):
        self.shown_by = shown_by
    def write(self, text):
        self.shown_by.write(text)
        self.shown_by.flush()
        return len(text)
sys.stdin, sys.stdout, sys.stderr = io.StringIO(), Window(sys.stdout), Window(sys.stderr)
"""

# These streams can do what print() needs, and nothing else.
STREAMS_CAN_WRITE = """
import sys
class Stream:
    def __init__(self, shown_by):
        self.write, self.flush = shown_by.write, shown_by.flush
sys.stdin, sys.stdout, sys.stderr = None, Stream(sys.stdout), Stream(sys.stderr)
"""

# A cell of Jupyter runs while an event loop does.
A_LOOP_IS_RUNNING = f"""
import asyncio
async def run_cell():
{textwrap.indent(RUN_THE_SERVER, "    ")}
asyncio.run(run_cell())
"""

# On Windows asyncio's usual loop takes the wakeup descriptor for itself, and has no readers.
LOOP_OF_WINDOWS = """
import asyncio, signal
class ProactorEventLoop(asyncio.SelectorEventLoop):
    def __init__(self):
        super().__init__()
        signal.set_wakeup_fd(self._csock.fileno())
    def refuse(self, *_):
        raise NotImplementedError
    add_reader = remove_reader = add_writer = remove_writer = refuse
asyncio.new_event_loop = asyncio.events.new_event_loop = ProactorEventLoop
"""


@OURS
@pytest.mark.parametrize("streams", [STREAMS_ARE_WINDOWS, STREAMS_CAN_WRITE])
def test_streams_that_are_no_files(target, join, streams):
    """Launch contract: a server runs where its streams are windows, as in IDLE, and logs there."""
    with target.start("--verbose", preparation=[streams + RUN_THE_SERVER]) as server:
        alice = join(server, "alice")
        alice.ask("hello")
        quit_politely(alice)
        alice.close()
        assert server.stop() == 0
        log = server.log()
    for text in ("alice joined", "alice: hello", "alice left"):
        assert text in log, f"{text!r} is not in the log:\n{log}"
    assert "Traceback" not in log


@OURS
@pytest.mark.parametrize("streams", [STREAMS_ARE_WINDOWS, STREAMS_CAN_WRITE])
def test_a_bad_option_where_streams_are_no_files(target, streams):
    """Launch contract: it is one clear line there, too."""
    command = target.command_with(["--idle-timeout", "soon"], [streams + RUN_THE_SERVER])
    assert_refused(run_to_its_end(command))


@pytest.mark.versions("v4_asyncio")
def test_v4_inside_a_running_loop(target):
    """Launch contract: asyncio cannot run two loops in one thread. One clear line says so."""
    assert_refused(run_to_its_end(target.command_with([], [A_LOOP_IS_RUNNING])))


@pytest.mark.versions(*(version for version in VERSIONS if version != "v4_asyncio"))
def test_the_others_inside_a_running_loop(target, join):
    """Launch contract, L4: the servers without asyncio do not mind a loop that waits for them."""
    with target.start(preparation=[A_LOOP_IS_RUNNING]) as server:
        assert join(server, "alice").ping() == []
        assert server.stop() == 0


@pytest.mark.versions("v4_asyncio")
def test_v4_on_windows(target, join):
    """L4: it stops at the first signal, though the usual loop there would not notice any."""
    with target.start(preparation=[LOOP_OF_WINDOWS + RUN_THE_SERVER]) as server:
        assert join(server, "alice").ping() == []
        assert server.stop() == 0


@OURS
@pytest.mark.parametrize("somebody_is_there", [False, True], ids=["nobody", "somebody"])
def test_a_stop_leaves_nothing_open(launch_server, crowd, somebody_is_there):
    """L4: Python's development mode warns of each socket that was not closed, and finds none.

    At the stop one client is in, one is not yet, one stays after `/quit`, and one does not read.
    All are still there when the server ends.
    """
    server = launch_server(env={**os.environ, "PYTHONDEVMODE": "1"})
    room = crowd(server)
    if somebody_is_there:
        _, leaving, deaf = room.join(["alice", "leaving", "deaf"])
        room.connect(["stranger"])
        leaving.outgoing += b"/quit\n"
        room.pump(lambda: b"* bye leaving\n" in leaving.incoming, "good-bye")
        leaving.reading = deaf.reading = False
        deaf.outgoing += b"/help\n" * 2000
        room.pump(lambda: not deaf.outgoing, "much to be asked")
    assert server.stop() == 0
    log = server.log()
    assert "Warning" not in log, log
