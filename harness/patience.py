"""How long to wait for a server that has already let us wait in vain.

A server that misses one answer misses many, and ten seconds for each of them would be an hour. So
the waits get shorter with each that was in vain. A server that answers never notices.
"""


class Patience:
    """Bounds waits, in seconds: whole at first, then less and less."""

    def __init__(self) -> None:
        self.lost = 0

    def lose(self) -> None:
        """A wait has been in vain."""
        self.lost += 1

    def restore(self) -> None:
        """Another server: nothing is known against it."""
        self.lost = 0

    def at_most(self, seconds: float) -> float:
        """`seconds`, or what is left of our patience."""
        if self.lost == 0:
            return seconds
        return min(seconds, 4.0 if self.lost == 1 else 1.0)


patience = Patience()
