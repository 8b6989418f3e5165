"""What is read of a server from outside: CPU time, memory, wake-ups, and who else had its cores.

CPU time is the CPU clock of the server's process, clock_getcpuclockid(3). It sums all threads,
including those that have ended, which a walk over /proc/PID/task would miss. Seen from outside it
moves in steps of a tick (4 ms at 250 Hz). Where there is no such clock, `ps` is asked.

The kernel's account of waiting (/proc/PID/schedstat) cannot tell whether the server had to wait for
its core, because the threads of a server wait for one another, too. So we look at who else had the
cores: the time that passed, less the time they were idle or served interrupts, less the CPU time of
the server. (Most interrupts are the kernel's work for the server's own connections.)
"""

import contextlib
import functools
import os
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path

from harness import proc
from harness.proc import CAN_SEE, PAGE_BYTES, TICKS_PER_SECOND

MEMINFO = Path("/proc/meminfo")
TICK_NS = 10**9 // TICKS_PER_SECOND
# What the kernel keeps for one end of a TCP connection: the socket, its inode, its file, its name.
SOCKET_SLABS = frozenset(("TCP", "TCPv6", "sock_inode_cache", "filp", "dentry", "eventpoll_epi"))


def process_clock_id(pid: int) -> int:
    """What clock_getcpuclockid(3) computes, which Python does not have: the pid, and a kind."""
    return (~pid << 3) | 2


@functools.cache
def has_process_clock() -> bool:
    """Whether the kernel knows that clock; tried on this very process."""
    if not CAN_SEE:
        return False
    try:
        before = time.process_time_ns()
        return before <= time.clock_gettime_ns(process_clock_id(os.getpid()))
    # There is no such clock: that is the answer.
    except OSError:
        return False


def cpu_source() -> str:
    """Where server CPU time comes from on this machine, for the result file."""
    if has_process_clock():
        return "CPU clock of the process, in ns (clock_getcpuclockid)"
    return "ps, in steps of 10 ms" if os.name != "nt" else "none"


class ServerProbe:
    """Reads the counters of one server: a process, and what is in its process group already.

    A reading is 0 where the platform has no such counter. `cores` are the server's.
    """

    def __init__(self, pid: int, cores: Iterable[int] = ()) -> None:
        others = proc.all_processes().values() if CAN_SEE else ()
        self.pids = sorted({pid} | {other.pid for other in others if other.group == pid})
        self.cores = frozenset(cores)

    def cpu_ns(self) -> int:
        """CPU time of all threads so far, user and system, in nanoseconds."""
        if has_process_clock():
            return sum(time.clock_gettime_ns(process_clock_id(pid)) for pid in self.pids)
        return sum(_clock_text_ns(_ps("cputime", pid)) for pid in self.pids)

    def nobodys_ns(self) -> int:
        """How long the server's cores have been idle or served interrupts so far, added up."""
        if not self.cores or not CAN_SEE:
            return 0
        names = {f"cpu{core}" for core in self.cores}
        counted = (line.split() for line in Path("/proc/stat").read_text().splitlines())
        # From the fourth number on: idle, idle while something waits for a disk, interrupts, and
        # the part of their work that is put off for a moment (proc_stat(5): irq, softirq).
        return sum(sum(map(int, fields[4:8])) * TICK_NS for fields in counted if fields[0] in names)

    def rss_bytes(self) -> int:
        if CAN_SEE:
            return sum(process.memory for process in self._look())
        return sum(int(_ps("rss", pid) or 0) * 1024 for pid in self.pids)

    def threads(self) -> int:
        return sum(process.threads for process in self._look())

    def minor_faults(self) -> int:
        """Page faults that needed no disk: what mapping and unmapping memory shows up as."""
        return sum(process.minor_faults for process in self._look())

    def wakeups(self) -> int:
        """How often the threads alive now have gone to sleep of their own accord, so far.

        It reads a file for each thread, which takes too long in the middle of a measurement.
        """
        wakeups = 0
        for pid in self.pids:
            for thread in proc.threads_of(pid):
                # The thread may have ended since.
                with contextlib.suppress(OSError):
                    status = Path(f"/proc/{pid}/task/{thread}/status")
                    wakeups += _number_in(status, "voluntary_ctxt_switches")
        return wakeups

    def _look(self) -> list[proc.Process]:
        return [proc.look_at(pid) for pid in self.pids] if CAN_SEE else []


def waiting_ns() -> int:
    """How long this (single-threaded) process was ready to run and another had its core."""
    try:
        return proc.waiting_ns(os.getpid(), os.getpid())
    # Another system than Linux, or a kernel without these statistics.
    except (OSError, IndexError):
        return 0


@functools.cache
def kernel_stack_kib() -> float:
    """Kernel memory for the stack of one thread, in KiB: the kernel's own sum, divided."""
    try:
        total = _number_in(MEMINFO, "KernelStack")
        tasks = int(Path("/proc/loadavg").read_text().split()[3].split("/")[1])
    # Only Linux tells.
    except (OSError, ValueError):
        return 0.0
    # Stacks are whole pages.
    return float(round(total / tasks / 4) * 4)


def socket_memory_kib() -> float:
    """What the kernel keeps for all the sockets of this machine, as far as it tells.

    The objects that a connection is made of (/proc/slabinfo, for root only; for others all of the
    kernel's small objects), and the pages of the queues (/proc/net/sockstat).
    """
    try:
        sockstat = Path("/proc/net/sockstat").read_text().split()
        queues = int(sockstat[sockstat.index("mem") + 1]) * PAGE_BYTES / 1024
    # Only Linux tells.
    except (OSError, ValueError):
        return 0.0
    try:
        rows = [line.split() for line in Path("/proc/slabinfo").read_text().splitlines()]
    except PermissionError:
        return queues + _number_in(MEMINFO, "Slab")
    # A row is: name, objects in use, objects, bytes of one, ...
    return queues + sum(int(row[1]) * int(row[3]) / 1024 for row in rows if row[0] in SOCKET_SLABS)


def _number_in(path: Path, field: str) -> int:
    """The number behind `field:` in a file of /proc; 0 where there is no such line."""
    # A thread chooses its own name, and the name is in there.
    lines = path.read_text(errors="replace").splitlines()
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{field}:")), 0)


def _ps(column: str, pid: int) -> str:
    if os.name == "nt":
        return ""
    command = ["ps", "-o", f"{column}=", "-p", str(pid)]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def _clock_text_ns(text: str) -> int:
    """Nanoseconds of the `[[DD-]HH:]MM:SS[.cc]` that ps prints."""
    seconds = 0.0
    for part in text.replace("-", ":").split(":"):
        seconds = seconds * 60 + float(part or 0)
    return int(seconds * 1e9)
