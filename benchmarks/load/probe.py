"""What is read of a server from outside: CPU time, memory, wake-ups, and who else had its cores.

CPU time is the CPU clock of the server's process, clock_getcpuclockid(3). It sums all threads,
those that have ended included, which a walk over /proc/PID/task would miss. Seen from outside,
the share of a thread that is running moves in steps of a tick (4 ms at 250 Hz): a window of 2 ms
may read 0, and one of 0.4 s is right to one per cent. Where there is no such clock, `ps` is asked
(10 ms steps).

Whether the server had to wait for its core is not asked of the server. This kernel's accounts of
waiting (/proc/PID/schedstat) are kept for each thread, and the threads of a thread-per-client
server wait for one another. What is asked is who else had the cores: the time that passed, less
the time they were idle, less the CPU time of the server. Idle time is precise where the kernel
has no tick in idle time (NO_HZ), and is told in steps of 10 ms.
"""

import contextlib
import functools
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096
TICK_NS = 10**9 // os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 10_000_000
# What the kernel keeps for one end of a TCP connection: the socket, its inode, its file, its name.
SOCKET_SLABS = frozenset(("TCP", "TCPv6", "sock_inode_cache", "filp", "dentry", "eventpoll_epi"))


def process_clock_id(pid: int) -> int:
    """The kernel's clock id for the CPU time of process `pid`, all its threads.

    This is what clock_getcpuclockid(3) computes: the inverted pid, then the clock's kind (2 is
    the scheduler's own). Python wraps that call for threads only.
    """
    return (~pid << 3) | 2


@functools.cache
def has_process_clock() -> bool:
    """Whether the kernel knows that clock; tried on this very process."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        before = time.process_time_ns()
        return before <= time.clock_gettime_ns(process_clock_id(os.getpid()))
    except OSError:  # no such clock: the answer to the question
        return False


def cpu_source() -> str:
    """Where server CPU time comes from on this machine, for the result file."""
    if has_process_clock():
        return "CPU clock of the process, in ns (clock_getcpuclockid)"
    return "ps, in steps of 10 ms" if os.name != "nt" else "none"


class ServerProbe:
    """Reads the counters of one server: a process and whatever else is in its process group.

    Each reading is 0 where the platform has no such counter. A process of the group that starts
    or ends after the probe was made is not counted. `cores` are those that the server may use.
    """

    def __init__(self, pid: int, cores: Iterable[int] = ()) -> None:
        self.pids = _group(pid)
        self.cores = frozenset(cores)

    def cpu_ns(self) -> int:
        """CPU time of all threads so far, user and system, in nanoseconds."""
        if has_process_clock():
            return sum(time.clock_gettime_ns(process_clock_id(pid)) for pid in self.pids)
        return sum(_clock_text_ns(_ps("cputime", pid)) for pid in self.pids)

    def idle_ns(self) -> int:
        """How long the server's cores have been idle since the machine started, added up."""
        if not self.cores or not sys.platform.startswith("linux"):
            return 0
        names = {f"cpu{core}" for core in self.cores}
        counted = (line.split() for line in Path("/proc/stat").read_text().splitlines())
        # The fourth and the fifth number: idle, and idle while something waits for a disk.
        return sum(
            (int(fields[4]) + int(fields[5])) * TICK_NS for fields in counted if fields[0] in names
        )

    def rss_bytes(self) -> int:
        """Resident memory, in bytes."""
        if sys.platform.startswith("linux"):
            pages = (Path(f"/proc/{pid}/statm").read_text().split()[1] for pid in self.pids)
            return sum(int(number) * PAGE_BYTES for number in pages)
        return sum(int(_ps("rss", pid) or 0) * 1024 for pid in self.pids)

    def threads(self) -> int:
        """Threads alive now."""
        return sum(int(_stat(pid)[17]) for pid in self.pids)

    def minor_faults(self) -> int:
        """Page faults that needed no disk: what mapping and unmapping memory shows up as."""
        return sum(int(_stat(pid)[7]) for pid in self.pids)

    def wakeups(self) -> int:
        """How often the threads alive now have gone to sleep of their own accord, so far.

        This reads a file for each thread, some 30 ms for a thousand: not in the middle of a
        measurement.
        """
        return sum(_voluntary_switches(task) for pid in self.pids for task in _tasks(pid))


def waiting_ns() -> int:
    """How long this (single-threaded) process was ready to run and another had its core."""
    try:
        return int(Path("/proc/self/schedstat").read_text().split()[1])
    except (OSError, IndexError):  # not Linux, or a kernel without these statistics
        return 0


def kernel_stack_kib() -> float:
    """Kernel memory for the stack of one thread, in KiB: the kernel's own sum, divided."""
    try:
        total = _meminfo_kib("KernelStack")
        tasks = int(Path("/proc/loadavg").read_text().split()[3].split("/")[1])
    except (OSError, ValueError):  # not Linux
        return 0.0
    return float(round(total / tasks / 4) * 4)  # stacks are whole pages


def socket_memory_kib() -> float:
    """What the kernel keeps for all the sockets of this machine, as far as it tells.

    The objects that a connection is made of (/proc/slabinfo, for root only; for others all of the
    kernel's small objects), and the pages of the queues (/proc/net/sockstat). With both ends of a
    connection on this machine, half of the growth is the server's.
    """
    try:
        sockstat = Path("/proc/net/sockstat").read_text().split()
        queues = int(sockstat[sockstat.index("mem") + 1]) * PAGE_BYTES / 1024
    except (OSError, ValueError):  # not Linux
        return 0.0
    try:
        rows = [line.split() for line in Path("/proc/slabinfo").read_text().splitlines()]
    except PermissionError:
        return queues + _meminfo_kib("Slab")
    # A row is: name, objects in use, objects, bytes of one, ...
    return queues + sum(int(row[1]) * int(row[3]) / 1024 for row in rows if row[0] in SOCKET_SLABS)


def _group(pid: int) -> list[int]:
    if not sys.platform.startswith("linux"):
        return [pid]
    members = {pid}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):  # it ended while we were reading
                if int(_stat(int(entry))[2]) == pid:
                    members.add(int(entry))
    return sorted(members)


def _stat(pid: int) -> list[str]:
    """/proc/PID/stat from its third field on (the second may hold blanks); zeros elsewhere."""
    if not sys.platform.startswith("linux"):
        return ["0"] * 50
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _tasks(pid: int) -> Iterator[str]:
    """The folders of a process's threads in /proc."""
    if sys.platform.startswith("linux"):
        for thread in os.listdir(f"/proc/{pid}/task"):
            yield f"/proc/{pid}/task/{thread}"


def _voluntary_switches(task: str) -> int:
    with contextlib.suppress(OSError), open(f"{task}/status") as status:  # it may have ended
        for line in status:
            if line.startswith("voluntary_ctxt_switches:"):
                return int(line.split()[1])
    return 0


def _meminfo_kib(field: str) -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1])
    return 0


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
