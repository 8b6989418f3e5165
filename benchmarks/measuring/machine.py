"""What is read from outside: a server's CPU time and memory, and the machine's description.

CPU time comes from the scheduler's own accounting in nanoseconds: the CPU clock of the server's
process, clock_getcpuclockid(3). It sums all threads, those that have ended included, which a walk
over /proc/PID/task would miss. Where that clock is not to be had, `ps` is asked (10 ms steps).
"""

import contextlib
import functools
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks import launcher

try:
    import resource
except ImportError:  # Windows: no descriptor limit to raise, no fault counts
    resource = None

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096
SYSCTLS = (
    "net/core/somaxconn",
    "net/ipv4/ip_local_port_range",
    "net/ipv4/tcp_rmem",
    "net/ipv4/tcp_wmem",
    "net/ipv4/tcp_tw_reuse",
    "vm/max_map_count",
    "kernel/threads-max",
)


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
    or ends after the probe was made is not counted.
    """

    def __init__(self, pid: int) -> None:
        self.pids = _group(pid)

    def cpu_ns(self) -> int:
        """CPU time of all threads so far, user and system, in nanoseconds."""
        if has_process_clock():
            return sum(time.clock_gettime_ns(process_clock_id(pid)) for pid in self.pids)
        return sum(_clock_text_ns(_ps("cputime", pid)) for pid in self.pids)

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


def waiting_ns() -> int:
    """How long this (single-threaded) process was ready to run and another had its core."""
    try:
        return int(Path("/proc/self/schedstat").read_text().split()[1])
    except (OSError, IndexError):  # not Linux, or a kernel without these statistics
        return 0


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


def kernel_stack_kib() -> float:
    """Kernel memory for the stack of one thread, in KiB: the kernel's own sum, divided."""
    try:
        total = _meminfo("KernelStack")
        tasks = int(Path("/proc/loadavg").read_text().split()[3].split("/")[1])
    except (OSError, ValueError):  # not Linux
        return 0.0
    return float(round(total / tasks / 4) * 4)  # stacks are whole pages


def _meminfo(field: str) -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1])
    return 0


def choose_cores(server_cores: int = 1) -> tuple[list[int], list[int]]:
    """(cores for the server, cores for the load generator); ([], []) where none can be chosen.

    The generator gets the last core. The server gets the first `server_cores` ones that do not
    share a physical core with it, or, failing that, any others. With one core both are on it.
    """
    if not hasattr(os, "sched_setaffinity"):
        return [], []
    *others, client = sorted(os.sched_getaffinity(0))
    if not others:
        return [client], [client]
    apart = [core for core in others if _physical_core(core) != _physical_core(client)]
    return (apart or others)[:server_cores], [client]


def _physical_core(core: int) -> tuple[str, ...]:
    topology = Path(f"/sys/devices/system/cpu/cpu{core}/topology")
    try:
        return tuple((topology / name).read_text() for name in ("physical_package_id", "core_id"))
    except OSError:  # no topology published: take each core for one of its own
        return (str(core),)


@contextlib.contextmanager
def pinned(cores: list[int]) -> Iterator[None]:
    """Pin this thread, and so the processes that it starts meanwhile, to `cores` (none: as is)."""
    if not cores:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def raise_descriptor_limit() -> int:
    """Raise this process's limit on open files as far as allowed; return it. Children inherit."""
    if resource is None:
        return 1 << 16
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = hard if hard != resource.RLIM_INFINITY else max(soft, 1 << 16)
    with contextlib.suppress(ValueError, OSError):  # macOS caps it below its "hard" limit
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def load_average() -> list[float]:
    """The 1, 5 and 15 minute load averages, or an empty list."""
    return [round(value, 2) for value in os.getloadavg()] if hasattr(os, "getloadavg") else []


def describe_machine(server_cores: list[int], client_cores: list[int]) -> dict[str, object]:
    """Everything about this machine that a reader of the numbers may want to know."""
    sysctls = {}
    for name in SYSCTLS:
        with contextlib.suppress(OSError):  # this kernel does not have it
            sysctls[name.replace("/", ".")] = " ".join(Path("/proc/sys", name).read_text().split())
    return {
        "system": platform.system(),
        "kernel": platform.release(),
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "memory_gib": _memory_gib(),
        "server_cores": server_cores,
        "client_cores": client_cores,
        "pinned_apart": bool(server_cores) and not set(server_cores) & set(client_cores),
        "cpu_time_source": cpu_source(),
        "generator_python": describe_build(),
        "descriptors": resource.getrlimit(resource.RLIMIT_NOFILE)[0] if resource else None,
        "malloc_environment": {
            name: value
            for name, value in os.environ.items()
            if name.startswith(("MALLOC_", "PYTHONMALLOC", "GLIBC_TUNABLES", "LD_PRELOAD"))
        },
        **sysctls,
        "load_before": load_average(),
    }


def describe_build() -> str:
    """This interpreter's implementation, version and compiler."""
    return (
        f"{platform.python_implementation()} {platform.python_version()}"
        f" ({platform.python_compiler()})"
    )


def _cpu_name() -> str:
    with contextlib.suppress(OSError):  # not Linux
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _memory_gib() -> float | None:
    if not hasattr(os, "sysconf"):
        return None
    return round(PAGE_BYTES * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)


def describe_commit() -> tuple[str | None, bool | None]:
    """(commit, whether files differ from it); (None, None) where git cannot say."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(launcher.REPOSITORY), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD"), bool(git("status", "--porcelain"))
    except (OSError, subprocess.CalledProcessError):  # no git, or an unpacked archive
        return None, None
