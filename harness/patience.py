"""How long to wait for a server that has already let us wait in vain.

A server that misses one answer misses many, and ten seconds for each of them would be an hour. So
the waits get shorter with each that was in vain. A server that answers never notices.
"""

# Seconds: the first wait for somebody's server, the second, and those after two in vain.
FIRST_WAIT = 10.0
SECOND_WAIT = 4.0
FURTHER_WAITS = 1.0
# The least where a rule lets the server take seconds, and once very many waits were in vain.
FOR_SECONDS = 4.0
VERY_MANY = 12
WAITS_AFTER_VERY_MANY = 0.5
# Somebody's servers that had to be killed until we hardly wait any more for one to stop.
KILLED = 2
FOR_THE_DEAF = 0.3
AFTER_A_HUNG_START = 3.0


class Patience:
    """Bounds waits, in seconds: whole at first, then less and less."""

    def __init__(self) -> None:
        self.in_vain = 0  # waits since the test began
        self.killed = 0  # servers that did not stop when they were asked to, since the run began
        self.hung = 0  # starts that came to nothing, since the run began
        self._is_ours = True
        self._limit: float | None = None

    def begin(self, in_vain: int, is_ours: bool, for_seconds: bool) -> None:
        """A test begins. So many waits were in vain in those before that have failed.

        `is_ours`: the server is known to answer; what is long is long by design.
        `for_seconds`: the test is about a rule that lets a server take seconds.
        """
        self.in_vain = 0
        self._is_ours = is_ours
        if in_vain == 0:
            self._limit = None if is_ours else FIRST_WAIT * (2 if for_seconds else 1)
        elif in_vain == 1:
            self._limit = FIRST_WAIT if for_seconds else SECOND_WAIT
        elif in_vain < VERY_MANY:
            self._limit = FOR_SECONDS if for_seconds else FURTHER_WAITS
        else:
            self._limit = WAITS_AFTER_VERY_MANY

    def for_a_stop(self, seconds: float) -> float:
        """`seconds`, or less if servers have shown that they do not stop."""
        known_deaf = not self._is_ours and self.killed >= KILLED
        return min(seconds, FOR_THE_DEAF) if known_deaf else seconds

    def for_a_start(self, seconds: float) -> float:
        """`seconds`, or less if a start has come to nothing before."""
        hung_before = not self._is_ours and self.hung
        return min(seconds, AFTER_A_HUNG_START) if hung_before else seconds

    def lose(self) -> None:
        """A wait was in vain."""
        self.in_vain += 1

    def at_most(self, seconds: float) -> float:
        """`seconds`, or what is left of our patience."""
        return seconds if self._limit is None else min(seconds, self._limit)


patience = Patience()
