"""What one user of the harness has learnt about the servers that it talks to.

A server that misses one answer misses many, and to wait ten seconds for each would take an hour. So
the waits get shorter with each one that was in vain. A server that answers never notices.
"""

import collections
import copy
from typing import Protocol

# In seconds: the first wait for somebody's server, and those after one and after two in vain. A
# quick test does not wait so long the first time, so that a first failure is there within 10 s.
FIRST_WAIT = 8.0
FIRST_QUICK_WAIT = 5.0
SECOND_WAIT = 4.0
FURTHER_WAITS = 1.0
# Where a rule lets a server take seconds, we wait at least for FOR_SECONDS, until VERY_MANY waits
# were in vain.
FOR_SECONDS = 4.0
VERY_MANY = 12
WAITS_AFTER_VERY_MANY = 0.5
# Once so many of somebody's servers had to be killed, we hardly wait any more for one to stop.
KILLED = 2
# A server that takes longer to stop is slow, on a busy machine as well: L4 says 2 seconds.
SLOW_STOP = 3.0
FOR_THE_DEAF = 0.3
AFTER_A_HUNG_START = 3.0
# So many conversations are kept for the report of a failure.
CLIENTS_KEPT = 4


class Talker(Protocol):
    """A client whose conversation can be shown: its name, when it last spoke, what was said."""

    name: str | None
    spoke_at: float
    transcript: collections.deque[tuple[str, bytes]]


class Session:
    """The memory of a run. A new one waits as long as its callers ask for: see `begin_test`."""

    def __init__(self) -> None:
        # Waits in vain since the test began.
        self.in_vain = 0
        # Servers that did not stop when they were asked to, since the run began.
        self.killed = 0
        # Servers that stopped, but took long, since the run began.
        self.slow_stops = 0
        # Servers that never listened, since the run began.
        self.hung = 0
        # The clients that have been told `* hello NAME`, as (port of the server, name).
        self.let_in: set[tuple[int, str]] = set()
        # Whether there has been any, since the run began.
        self.anybody_was_in = False
        # The clients that were created last.
        self.clients: collections.deque[Talker] = collections.deque(maxlen=CLIENTS_KEPT)
        self._is_ours = True
        self._limit: float | None = None

    def for_work_beside(self) -> "Session":
        """As patient as this one, for work that is done beside the current test, in a thread."""
        beside = copy.copy(self)
        beside.in_vain = 0
        beside.clients = collections.deque(maxlen=CLIENTS_KEPT)
        return beside

    def note_let_in(self, port: int, name: str) -> None:
        """Remember that a client has been told `* hello NAME`."""
        self.let_in.add((port, name))
        self.anybody_was_in = True

    def begin_test(
        self, in_vain: int, is_ours: bool, for_seconds: bool, is_quick: bool = False
    ) -> None:
        """Set the patience for a test.

        `in_vain`: how many waits came to nothing in earlier tests that failed.
        `is_ours`: the server is known to answer, and its long waits are long by design.
        `for_seconds`: the test is about a rule that lets a server take seconds.
        `is_quick`: each answer that it waits for is one that a server gives at once.
        """
        self.clients.clear()
        self.in_vain = 0
        self._is_ours = is_ours
        if in_vain == 0:
            first_wait = FIRST_QUICK_WAIT if is_quick else FIRST_WAIT * (2 if for_seconds else 1)
            self._limit = None if is_ours else first_wait
        elif in_vain == 1:
            self._limit = FIRST_WAIT if for_seconds else SECOND_WAIT
        elif in_vain < VERY_MANY:
            self._limit = FOR_SECONDS if for_seconds else FURTHER_WAITS
        else:
            self._limit = WAITS_AFTER_VERY_MANY

    def wait_for_a_stop(self, seconds: float) -> float:
        """`seconds`, or less if servers have shown that they do not stop."""
        known_deaf = not self._is_ours and self.killed >= KILLED
        return min(seconds, FOR_THE_DEAF) if known_deaf else seconds

    def note_stop(self, seconds: float) -> None:
        """Remember how long a server took to stop."""
        self.slow_stops += seconds > SLOW_STOP

    def wait_for_a_start(self, seconds: float) -> float:
        """`seconds`, or less if a server has never listened before."""
        hung_before = not self._is_ours and self.hung
        return min(seconds, AFTER_A_HUNG_START) if hung_before else seconds

    def lose_patience(self) -> None:
        """Count a wait in vain."""
        self.in_vain += 1

    def at_most(self, seconds: float) -> float:
        """`seconds`, or less if that is all our patience."""
        return seconds if self._limit is None else min(seconds, self._limit)
