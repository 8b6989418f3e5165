"""Processes seen from outside: who descends from whom, and who bears a mark (Linux: proc(5))."""

import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

# Everything here reads /proc. Elsewhere nothing can be seen, and callers say so.
CAN_SEE = sys.platform == "linux" and os.path.isdir("/proc/self/task")
PAGE = os.sysconf("SC_PAGE_SIZE") if CAN_SEE else 4096


@dataclass(frozen=True)
class Process:
    """One process: its parent's pid, its state (a letter), threads, resident memory in bytes."""

    pid: int
    parent: int
    state: str
    threads: int
    memory: int


def all_processes() -> dict[int, Process]:
    """Every process that there is, by pid."""
    found = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            text = Path("/proc", entry, "stat").read_text(errors="replace")
        # It ended while we looked.
        except OSError:
            continue
        fields = text.rpartition(")")[2].split()
        pid = int(entry)
        found[pid] = Process(
            pid, int(fields[1]), fields[0], int(fields[17]), int(fields[21]) * PAGE
        )
    return found


def descendants(ancestor: int, among: dict[int, Process] | None = None) -> list[Process]:
    """All that descend from a process, the zombies included, parents first."""
    among = all_processes() if among is None else among
    children: dict[int, list[Process]] = {}
    for process in among.values():
        children.setdefault(process.parent, []).append(process)
    found: list[Process] = []
    to_visit = [ancestor]
    while to_visit:
        born = children.get(to_visit.pop(), [])
        found += born
        to_visit += [process.pid for process in born]
    return found


def marked(mark: str, pids: Iterable[int]) -> set[int]:
    """Those of the processes that have `mark`, as NAME=VALUE, in their first environment."""
    wanted = mark.encode()
    found = set()
    for pid in pids:
        try:
            environment = Path("/proc", str(pid), "environ").read_bytes()
        # It ended while we looked, or is somebody else's.
        except OSError:
            continue
        if wanted in environment.split(b"\0"):
            found.add(pid)
    return found


def command_line(pid: int) -> str:
    """What a process was started with; empty for one that has ended."""
    try:
        data = Path("/proc", str(pid), "cmdline").read_bytes()
    except OSError:
        return ""
    return data.rstrip(b"\0").replace(b"\0", b" ").decode(errors="replace")


def tasks_below(ancestor: int) -> list[tuple[int, int]]:
    """(pid, tid) of each thread of all processes that descend from a process, without its own."""
    found = []
    for process in (each.pid for each in descendants(ancestor) if each.state != "Z"):
        try:
            found += [(process, int(task)) for task in os.listdir(f"/proc/{process}/task")]
        # It ended while we looked.
        except OSError:
            continue
    return found
