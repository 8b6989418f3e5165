"""Ways to take something from a server without being root.

Those that a new process takes itself, before it becomes the server, are for `preexec_fn`. A
PREPARATION is lines of Python that are run in front of a server that is written in Python: they
change what the library does, and then run the server as if nothing was.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator

try:
    import resource
except ImportError:  # Windows
    resource = None

from harness.launcher import RunningServer
from tests.limits.claims import NotTried

# As if Python had been given the server's file: it imports modules from the folder of that.
RUN_THE_SERVER = """
del sys.argv[:2]
sys.path[0] = os.path.dirname(os.path.abspath(sys.argv[0]))
runpy.run_path(sys.argv[0], run_name="__main__")
"""

# What CPython does when the system refuses another thread, for as long as there is such a file.
NO_MORE_THREADS_PREPARATION = f"""
import os, runpy, sys, threading
start, flag = threading.Thread.start, sys.argv[1]
def start_unless_refused(thread):
    if os.path.exists(flag):
        raise RuntimeError("can't start new thread")
    start(thread)
threading.Thread.start = start_unless_refused
{RUN_THE_SERVER}"""

# A listener hands the sizes of its buffers on to each connection that it accepts. Whatever size the
# server asks for, it gets this one.
SMALL_BUFFERS_PREPARATION = f"""
import _socket, os, runpy, socket, sys
size = int(sys.argv[1])
SIZES = (socket.SO_SNDBUF, socket.SO_RCVBUF)
def set_option_but_no_size(sock, level, option, *value):
    if (level, option) in [(socket.SOL_SOCKET, name) for name in SIZES]:
        value = [size]
    _socket.socket.setsockopt(sock, level, option, *value)
def listen_with_small_buffers(sock, *backlog):
    for name in SIZES:
        sock.setsockopt(socket.SOL_SOCKET, name, size)
    _socket.socket.listen(sock, *backlog)
socket.socket.setsockopt = set_option_but_no_size
socket.socket.listen = listen_with_small_buffers
{RUN_THE_SERVER}"""

# Ends with status 0 if it is refused a thread.
TRY_A_THREAD = """
import resource, sys, threading
hard = resource.getrlimit(resource.RLIMIT_NPROC)[1]
resource.setrlimit(resource.RLIMIT_NPROC, (1, hard))
try:
    threading.Thread(target=int).start()
except RuntimeError:
    sys.exit(0)
sys.exit(1)
"""


@contextlib.contextmanager
def room_for_descriptors(number: int) -> Iterator[None]:
    """Let this process, and those it starts, have so many. Raises NotTried."""
    if resource is None:
        raise NotTried("this system has no RLIMIT_NOFILE")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < number:
        raise NotTried(f"{number} descriptors are needed; `ulimit -Hn` allows {hard}")
    if soft == resource.RLIM_INFINITY or soft >= number:
        yield
        return
    resource.setrlimit(resource.RLIMIT_NOFILE, (number, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def at_most_descriptors(number: int) -> Callable[[], None]:
    """For `preexec_fn`: so many descriptors and no more. Raises NotTried."""
    if resource is None:
        raise NotTried("this system has no RLIMIT_NOFILE")
    return lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (number, number))


def processes_are_bound() -> bool:
    """Whether a limit of a running process on threads can be changed here, and binds us.

    Found out by trying: root is not bound, nor is whoever has certain rights of root's, and on some
    systems threads are not counted.
    """
    if not hasattr(resource, "prlimit"):
        return False
    return subprocess.run([sys.executable, "-c", TRY_A_THREAD], timeout=20).returncode == 0


@contextlib.contextmanager
def no_more_threads_by_the_system(server: RunningServer) -> Iterator[None]:
    """In the block the system refuses this server any further thread (Linux)."""
    pid = server.process.pid
    before = resource.prlimit(pid, resource.RLIMIT_NPROC)
    # One is less than there are already: the limit counts all threads of this user.
    resource.prlimit(pid, resource.RLIMIT_NPROC, (1, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NPROC, before)


def standard_error_is(path: str, flags: int) -> Callable[[], None]:
    """For `preexec_fn`: the log goes to this file, opened with `flags` (see os.open)."""

    def in_the_new_process() -> None:
        descriptor = os.open(path, os.O_WRONLY | flags)
        os.dup2(descriptor, 2)
        os.close(descriptor)

    return in_the_new_process


def files_of_at_most(size: int) -> None:
    """For `preexec_fn`: no file may become longer than `size` bytes.

    A program that does not expect it is killed by SIGXFSZ. A full disk kills nobody, so that signal
    is ignored, and write() fails with EFBIG.
    """
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def connect_with_small_buffers(
    address: tuple[str, int],
    size: int,
    which: Iterable[int] = (socket.SO_RCVBUF, socket.SO_SNDBUF),
) -> socket.socket:
    """A connected socket for which the kernel keeps about `size` bytes (Linux: twice that).

    It has to be told before the handshake of TCP, which tells the other side.
    """
    family, kind, protocol, _, resolved = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)[0]
    connection = socket.socket(family, kind, protocol)
    for option in which:
        connection.setsockopt(socket.SOL_SOCKET, option, size)
    connection.settimeout(10)
    connection.connect(resolved)
    return connection
