"""Processes seen from outside, as the kernel shows them in /proc: see proc(5) of Linux.

Elsewhere nothing can be seen: `CAN_SEE` is False, and callers say so.
"""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

CAN_SEE = sys.platform == "linux" and os.path.isdir("/proc/self/task")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


@dataclass(frozen=True)
class Process:
    """One process at the moment of a look.

    `state` is a letter; Z is a process that has ended and whose status nobody has collected yet.
    `cpu_ticks` counts user and system time, with that of the children it has waited for. `memory`
    is the resident part in bytes.
    """

    pid: int
    state: str
    parent: int
    group: int
    minor_faults: int
    cpu_ticks: int
    threads: int
    memory: int


def look_at(pid: int) -> Process:
    """Look at one process. Raises OSError if there is none with that pid."""
    text = Path("/proc", str(pid), "stat").read_text(errors="replace")
    # The second field is the name in parentheses, and may itself hold blanks and parentheses.
    fields = text.rpartition(")")[2].split()
    return Process(
        pid=pid,
        state=fields[0],
        parent=int(fields[1]),
        group=int(fields[2]),
        minor_faults=int(fields[7]),
        cpu_ticks=sum(map(int, fields[11:15])),
        threads=int(fields[17]),
        memory=int(fields[21]) * PAGE_BYTES,
    )


def all_pids() -> list[int]:
    """The pids of all processes."""
    return [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]


def all_processes() -> dict[int, Process]:
    """All processes, by pid."""
    processes = {}
    for pid in all_pids():
        # A process may end while we look.
        with contextlib.suppress(OSError):
            processes[pid] = look_at(pid)
    return processes


def descendants(ancestor: int, among: dict[int, Process] | None = None) -> list[Process]:
    """All descendants of a process, zombies too, parents before their children."""
    among = all_processes() if among is None else among
    children: dict[int, list[Process]] = {}
    for process in among.values():
        children.setdefault(process.parent, []).append(process)
    family: list[Process] = []
    to_visit = [ancestor]
    while to_visit:
        born = children.get(to_visit.pop(), [])
        family += born
        to_visit += [process.pid for process in born]
    return family


def marked(mark: str, pids: Iterable[int]) -> set[int]:
    """Those of the processes that were started with `mark`, NAME=VALUE, in their environment."""
    wanted = mark.encode()
    bearers = set()
    for pid in pids:
        # A process may end while we look, or belong to another user.
        with contextlib.suppress(OSError):
            if wanted in Path("/proc", str(pid), "environ").read_bytes().split(b"\0"):
                bearers.add(pid)
    return bearers


def command_line(pid: int) -> str:
    """The command line of a process; empty if it has ended."""
    try:
        data = Path("/proc", str(pid), "cmdline").read_bytes()
    except OSError:
        return ""
    return data.rstrip(b"\0").replace(b"\0", b" ").decode(errors="replace")


def threads_of(pid: int) -> list[int]:
    """The numbers of a process's threads; none if it has ended."""
    try:
        return [int(thread) for thread in os.listdir(f"/proc/{pid}/task")]
    except OSError:
        return []


def waiting_ns(pid: int, thread: int) -> int:
    """How long a thread has been ready to run and another had its core, so far.

    Raises OSError if there is no such thread; that or IndexError where the kernel does not tell.
    """
    counts = Path(f"/proc/{pid}/task/{thread}/schedstat").read_text().split()
    # The first is its CPU time.
    return int(counts[1])


def tasks_below(ancestor: int) -> list[tuple[int, int]]:
    """(pid, tid) of each thread of a process's descendants, without its own threads."""
    return [
        (process.pid, thread)
        for process in descendants(ancestor)
        if process.state != "Z"
        for thread in threads_of(process.pid)
    ]


class ProcessView:
    """What the kernel tells about one running process."""

    def __init__(self, pid: int) -> None:
        self._pid = pid

    def threads(self) -> int:
        """Number of threads."""
        return look_at(self._pid).threads

    def descriptors(self) -> int:
        """Number of open file descriptors."""
        return len(os.listdir(f"/proc/{self._pid}/fd"))

    def cpu_seconds(self) -> float:
        """CPU time, user and system, that it and the processes it has started have used so far.

        A server chooses where it computes (C6). The launcher makes it the leader of a group, and a
        process that it starts is in that group, or has ended and is counted with its parent.
        """
        ticks = sum(
            process.cpu_ticks
            for process in all_processes().values()
            if self._pid in (process.pid, process.group)
        )
        return ticks / TICKS_PER_SECOND

    def cpu_and_waiting_in(self, seconds: float) -> tuple[float, float]:
        """(CPU time, how long its threads wait for a core) in the next so many seconds, in seconds.

        On a machine with much to do, a server that spins gets little CPU time. Then it waits.
        """
        cpu, waiting = self.cpu_seconds(), self._waiting_ns()
        time.sleep(seconds)
        later = self._waiting_ns()
        # A thread that has begun or ended meanwhile is left out.
        waited = sum(later[thread] - waiting[thread] for thread in waiting.keys() & later.keys())
        return self.cpu_seconds() - cpu, waited / 1e9

    def _waiting_ns(self) -> dict[int, int]:
        """How long each of its threads has waited for a core so far."""
        waiting = {}
        for thread in threads_of(self._pid):
            # The thread may have ended since. A kernel may be built without these statistics.
            with contextlib.suppress(OSError, IndexError):
                waiting[thread] = waiting_ns(self._pid, thread)
        return waiting

    def peak_memory(self) -> int:
        """The most resident memory the process has ever had, in bytes."""
        # A process chooses its own name, and the name is in there.
        status = Path("/proc", str(self._pid), "status").read_text(errors="replace")
        (kibibytes,) = re.findall(r"VmHWM:\s+(\d+) kB", status)
        return int(kibibytes) * 1024


@contextlib.contextmanager
def halted(process: subprocess.Popen) -> Iterator[None]:
    """Keep a child halted during the block: from its beginning, all its threads have stopped."""
    process.send_signal(signal.SIGSTOP)
    os.waitpid(process.pid, os.WUNTRACED)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)
