"""How many descriptors the system lets a process have, and how to change that."""

import contextlib
from collections.abc import Callable, Iterator

try:
    import resource
except ImportError:
    # Windows has no such limits.
    resource = None  # type: ignore[assignment]

NO_LIMIT = "this system has no limit on descriptors (RLIMIT_NOFILE)"
WITHOUT_A_LIMIT = 1 << 16


class Unavailable(Exception):
    """This system cannot give what was asked for: one line that says why."""


def descriptor_limit() -> int | None:
    """How many descriptors this process may have (getrlimit(2)); None where there is no limit."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0] if resource else None


def allow_descriptors(number: int) -> None:
    """Let this process, and those that it starts, have so many descriptors. Raises Unavailable."""
    if resource is None:
        raise Unavailable(NO_LIMIT)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < number:
        raise Unavailable(f"{number} descriptors are needed; `ulimit -Hn` allows {hard}")
    if soft != resource.RLIM_INFINITY and soft < number:
        resource.setrlimit(resource.RLIMIT_NOFILE, (number, hard))


@contextlib.contextmanager
def kept_descriptor_limit() -> Iterator[None]:
    """Restore the limit at the end of the block, whatever the block does to it."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE) if resource else None
    try:
        yield
    finally:
        if before is not None:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)


@contextlib.contextmanager
def room_for_descriptors(number: int) -> Iterator[None]:
    """Within the block, this process may have so many descriptors. Raises Unavailable."""
    with kept_descriptor_limit():
        allow_descriptors(number)
        yield


def at_most_descriptors(number: int) -> Callable[[], None]:
    """For `preexec_fn`: the new process may have so many and no more. Raises Unavailable."""
    if resource is None:
        raise Unavailable(NO_LIMIT)
    return lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (number, number))


def raise_descriptor_limit() -> int:
    """Raise this process's limit as far as allowed; returns it. New processes inherit it."""
    if resource is None:
        return WITHOUT_A_LIMIT
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = hard if hard != resource.RLIM_INFINITY else max(soft, WITHOUT_A_LIMIT)
    # macOS allows less than what it calls the hard limit.
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
