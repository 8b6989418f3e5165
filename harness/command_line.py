"""What the command lines of several tools do alike."""

import contextlib
import os
import signal
import sys
from collections.abc import Callable


def run(tool: str, command: Callable[[], int], expected: tuple[type[Exception], ...]) -> int:
    """Run a tool's command; returns the exit status. Whatever a user can cause is one line.

    `expected` are the exceptions whose text is that line.
    """
    # What a server says is shown in its characters, and never fails for those of a terminal.
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")
    # In a thread no handler can be set. Then whoever runs us sees to signals.
    with contextlib.suppress(ValueError):
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        status = command()
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        # Nobody reads the output, as in `... | head -1`. Nor would it be read at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except expected as error:
        print(f"{tool}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{tool}: interrupted", file=sys.stderr)
        return 130
