"""The line of progress."""

import shutil
import sys
import time

QUIET_SECONDS = 10.0  # between two lines of progress where nobody watches


class Progress:
    """One line on standard error, written over; where nobody watches, a new one now and then."""

    def __init__(self) -> None:
        self.watched = sys.stderr.isatty()
        self.last = -QUIET_SECONDS

    def show(self, text: str) -> None:
        if self.watched:
            width = shutil.get_terminal_size().columns - 1
            print(f"\r\x1b[K{text[:width]}", end="", file=sys.stderr, flush=True)
        elif time.monotonic() - self.last >= QUIET_SECONDS:
            self.last = time.monotonic()
            print(text, file=sys.stderr, flush=True)

    def clear(self) -> None:
        if self.watched:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
