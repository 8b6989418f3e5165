"""What the command lines of all our tools have in common."""

import argparse
import contextlib
import io
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import NoReturn

LONGEST_SHOWN = 200


class OptionParser(argparse.ArgumentParser):
    """An ArgumentParser that says in one line what is wrong with the options."""

    def __init__(self, tool: str, **options) -> None:
        super().__init__(**options)
        self.tool = tool

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.tool}: {message} (try --help)\n")


def run(tool: str, command: Callable[[], int], expected: tuple[type[Exception], ...] = ()) -> int:
    """Run a tool's command; returns its exit status. An error that a user can cause is one line.

    `expected` lists the exceptions whose text is that line. SIGTERM acts like Ctrl-C: every process
    that was started is ended.
    """
    # A terminal that lacks a character of a server's output gets an escape instead of a failure.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        with signals_as_interrupts():
            status = command()
            sys.stdout.flush()
            return status
    except BrokenPipeError:
        # Nobody reads the output, as in `... | head -1`.
        _give_up_output()
        return 1
    except expected as error:
        print(f"{tool}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{tool}: interrupted", file=sys.stderr)
        return 130
    except OSError as error:
        # The disk may be full, a folder unwritable, or the number of processes at its limit.
        _give_up_output()
        print(f"{tool}: {error}", file=sys.stderr)
        return 1


@contextlib.contextmanager
def signals_as_interrupts() -> Iterator[None]:
    """Within the block, SIGTERM raises KeyboardInterrupt, and so does Ctrl-C.

    A shell that starts us in the background makes us ignore Ctrl-C, and every process that we start
    would inherit that.
    """
    before = {}
    # Only the main thread can set a handler. In any other, our caller takes care of signals.
    with contextlib.suppress(ValueError):
        for number in (signal.SIGTERM, signal.SIGINT):
            before[number] = signal.signal(number, _interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(number: int, frame: object) -> NoReturn:
    # It may come between the birth of a socket and our first note of it. Such a socket is closed by
    # our end, and a warning that it was not closed before would help nobody (python -X dev).
    warnings.simplefilter("ignore", ResourceWarning)
    raise KeyboardInterrupt


def _give_up_output() -> None:
    """Flush the output, or redirect it to nowhere, so that Python's own flush at exit succeeds."""
    try:
        sys.stdout.flush()
    except OSError:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())


def printable(text: str, longest: int | None = LONGEST_SHOWN) -> str:
    """`text` with a `?` for each character that a terminal might obey, and cut to `longest`."""
    shown = "".join(character if character.isprintable() else "?" for character in text)
    return shown if longest is None or len(shown) <= longest else f"{shown[:longest]}..."
