"""In which system call a thread is blocked, and for how many descriptors (Linux: proc(5))."""

import platform
from dataclasses import dataclass
from pathlib import Path

# Descriptors that a set of select() has room for.
FD_SETSIZE = 1024

SELECT = {"select", "pselect6"}
POLL = {"poll", "ppoll"}
EPOLL = {"epoll_wait", "epoll_pwait", "epoll_pwait2"}
READINESS = SELECT | POLL | EPOLL
RECEIVING = {"read", "recvfrom", "recvmsg"}

# By machine (`uname -m`); some calls exist only on one of them.
NUMBERS = {
    "read": {"x86_64": 0, "aarch64": 63},
    "poll": {"x86_64": 7},
    "select": {"x86_64": 23},
    "nanosleep": {"x86_64": 35, "aarch64": 101},
    "accept": {"x86_64": 43, "aarch64": 202},
    "recvfrom": {"x86_64": 45, "aarch64": 207},
    "recvmsg": {"x86_64": 47, "aarch64": 212},
    "wait4": {"x86_64": 61, "aarch64": 260},
    "futex": {"x86_64": 202, "aarch64": 98},
    "clock_nanosleep": {"x86_64": 230, "aarch64": 115},
    "epoll_wait": {"x86_64": 232},
    "pselect6": {"x86_64": 270, "aarch64": 72},
    "ppoll": {"x86_64": 271, "aarch64": 73},
    "epoll_pwait": {"x86_64": 281, "aarch64": 22},
    "accept4": {"x86_64": 288, "aarch64": 242},
    "io_uring_enter": {"x86_64": 426, "aarch64": 426},
    "epoll_pwait2": {"x86_64": 441, "aarch64": 441},
}
MACHINE = platform.machine()
# The names of this machine's calls by their numbers; none where they are not known.
NAMES = {numbers[MACHINE]: name for name, numbers in NUMBERS.items() if MACHINE in numbers}


@dataclass(frozen=True)
class SystemCall:
    """What a thread is blocked in, and the number of descriptors that it watches there."""

    name: str
    watched: int = 0

    @property
    def waits_for_one(self) -> bool:
        """Whether it waits for one connection; beside it, for a second to be woken by."""
        return self.name in RECEIVING or (self.name in READINESS and self.watched <= 2)


def system_call(pid: int, task: int) -> SystemCall | None:
    """The call that a thread is blocked in; None where that is not shown."""
    try:
        words = Path(f"/proc/{pid}/task/{task}/syscall").read_text().split()
    # It ended while we looked, or may not be looked into.
    except OSError:
        return None
    if words[0] in ("running", "-1"):
        return SystemCall("running")
    number, *arguments = (int(word, 0) for word in words)
    name = NAMES.get(number, f"call {number}")
    if name in POLL:
        return SystemCall(name, arguments[1])
    if name in SELECT:
        return SystemCall(name, _members_of_set(pid, arguments[1], arguments[0]))
    if name in EPOLL:
        return SystemCall(name, _watched_by_epoll(pid, arguments[0]))
    return SystemCall(name)


def _members_of_set(pid: int, address: int, size: int) -> int:
    """How many descriptors a select() waits to read from: the bits in the set it was given."""
    if not address:
        return 0
    try:
        with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
            memory.seek(address)
            read_set = memory.read((min(size, FD_SETSIZE) + 7) // 8)
    # The memory may not be read. Then the highest descriptor is all that is known.
    except OSError:
        return size
    return sum(byte.bit_count() for byte in read_set)


def _watched_by_epoll(pid: int, descriptor: int) -> int:
    try:
        return Path(f"/proc/{pid}/fdinfo/{descriptor}").read_text().count("tfd:")
    # It is closed, or may not be looked into.
    except OSError:
        return 0
