"""What can be seen of a server's process from outside."""

import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path


class ProcessView:
    """What the kernel tells about a running process (Linux: proc(5))."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._directory = Path("/proc", str(pid))

    def threads(self) -> int:
        """Number of threads."""
        return len(list((self._directory / "task").iterdir()))

    def descriptors(self) -> int:
        """Number of open file descriptors."""
        return len(list((self._directory / "fd").iterdir()))

    def cpu_seconds(self) -> float:
        """CPU time used so far, user and system, by all threads, and by processes it has started.

        For where a server computes is its own choice (C6). The launcher makes it the leader of a
        group, and whatever it starts is in that group, or has ended and is counted with it.
        """
        ticks = 0
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rpartition(")")[2].split()
            # It ended while we looked.
            except OSError:
                continue
            if int(stat.parent.name) == self._pid or int(fields[2]) == self._pid:
                ticks += sum(map(int, fields[11:15]))
        return ticks / os.sysconf("SC_CLK_TCK")

    def peak_memory(self) -> int:
        """The most resident memory the process has ever had, in bytes."""
        status = (self._directory / "status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024


def halt(process: subprocess.Popen) -> None:
    """Stop a child with SIGSTOP, and return once all its threads have stopped; SIGCONT goes on."""
    process.send_signal(signal.SIGSTOP)
    os.waitpid(process.pid, os.WUNTRACED)


@contextlib.contextmanager
def halted(process: subprocess.Popen) -> Iterator[None]:
    """Keep a child halted during the block."""
    halt(process)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)
