"""The machine: which cores to use, what it allows, and its description for the result file."""

import contextlib
import os
import platform
import subprocess
from collections.abc import Iterator
from pathlib import Path

from benchmarks.load.probe import cpu_source
from harness import system
from harness.launcher import REPOSITORY
from harness.proc import PAGE_BYTES

SYSCTLS = (
    "net/core/somaxconn",
    "net/ipv4/ip_local_port_range",
    "net/ipv4/tcp_rmem",
    "net/ipv4/tcp_wmem",
    "net/ipv4/tcp_tw_reuse",
    "vm/max_map_count",
    "kernel/threads-max",
)


def choose_cores(server_cores: int = 1, at_any_cost: bool = False) -> tuple[list[int], list[int]]:
    """(cores for the server, cores for the load generator); ([], []) where none can be chosen.

    The generator gets the last core, the server the first ones, preferably none that shares a
    physical core with the generator. `at_any_cost` it also gets the generator's own.
    """
    if not hasattr(os, "sched_setaffinity"):
        return [], []
    *others, client = sorted(os.sched_getaffinity(0))
    if not others:
        return [client], [client]
    others.sort(key=lambda core: _physical_core(core) == _physical_core(client))
    if at_any_cost:
        others.append(client)
    return sorted(others[:server_cores]), [client]


def _physical_core(core: int) -> tuple[str, ...]:
    topology = Path(f"/sys/devices/system/cpu/cpu{core}/topology")
    try:
        return tuple((topology / name).read_text() for name in ("physical_package_id", "core_id"))
    # No topology is published: take each core for one of its own.
    except OSError:
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


def load_average() -> list[float]:
    """The 1, 5 and 15 minute load averages, or an empty list."""
    return [round(value, 2) for value in os.getloadavg()] if hasattr(os, "getloadavg") else []


def describe_machine(server_cores: list[int], client_cores: list[int]) -> dict[str, object]:
    """Everything about this machine that a reader of the numbers may want to know."""
    implementation, compiler = platform.python_implementation(), platform.python_compiler()
    sysctls = {}
    for name in SYSCTLS:
        # This kernel may not have it.
        with contextlib.suppress(OSError):
            sysctls[name.replace("/", ".")] = " ".join(Path("/proc/sys", name).read_text().split())
    return {
        "system": platform.system(),
        "kernel": platform.release(),
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "memory_gib": round(PAGE_BYTES * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
        if hasattr(os, "sysconf")
        else None,
        "server_cores": server_cores,
        "client_cores": client_cores,
        "pinned_apart": bool(server_cores) and not set(server_cores) & set(client_cores),
        "cpu_time_source": cpu_source(),
        "generator_python": f"{implementation} {platform.python_version()} ({compiler})",
        "descriptors": system.descriptor_limit(),
        "malloc_environment": {
            name: value
            for name, value in os.environ.items()
            if name.startswith(("MALLOC_", "PYTHONMALLOC", "GLIBC_TUNABLES", "LD_PRELOAD"))
        },
        **sysctls,
        "load_before": load_average(),
    }


def _cpu_name() -> str:
    # Only Linux has this file.
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def describe_commit() -> tuple[str | None, bool | None]:
    """(commit, whether files differ from it); (None, None) where git cannot say."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(REPOSITORY), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD"), bool(git("status", "--porcelain"))
    # There is no git, or this is an unpacked archive.
    except (OSError, subprocess.CalledProcessError):
        return None, None
