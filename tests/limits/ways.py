"""Ways to take something from a server without being root.

The functions for `preexec_fn` are run by the new process before it becomes the server. A
PREPARATION is lines of Python that are run in front of a server that is written in Python: they
change what the library does, and then run the server as if nothing had happened. An argument of
theirs stands in front of the server's file, and they take it away.
"""

import contextlib
import functools
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator

try:
    import resource
except ImportError:
    # Windows has no such limits.
    resource = None

from harness.launcher import RunningServer

# As if Python had been given the server's file: it imports modules from that file's folder.
RUN_THE_SERVER = """
import os, runpy, sys
del sys.argv[0]
sys.path[0] = os.path.dirname(os.path.abspath(sys.argv[0]))
runpy.run_path(sys.argv[0], run_name="__main__")
"""

# For as long as there is a certain file: what CPython does when the system refuses a thread.
NO_MORE_THREADS_PREPARATION = f"""
import os, sys, threading
start, flag = threading.Thread.start, sys.argv.pop(1)
def start_unless_refused(thread):
    if os.path.exists(flag):
        raise RuntimeError("can't start new thread")
    start(thread)
threading.Thread.start = start_unless_refused
{RUN_THE_SERVER}"""

# A listener hands the sizes of its buffers on to each connection that it accepts. Whatever size the
# server asks for, it gets this one.
SMALL_BUFFERS_PREPARATION = f"""
import _socket, socket, sys
size = int(sys.argv.pop(1))
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


@functools.cache
def processes_are_bound() -> bool:
    """Whether a running process's limit on threads can be changed here, and binds us.

    This has to be tried: root is not bound, nor is a user with certain rights of root, and some
    systems do not count threads.
    """
    if not hasattr(resource, "prlimit"):
        return False
    return subprocess.run([sys.executable, "-c", TRY_A_THREAD], timeout=20).returncode == 0


@contextlib.contextmanager
def no_more_threads_by_the_system(server: RunningServer) -> Iterator[None]:
    """In the block the system refuses this server any further thread (Linux)."""
    pid = server.pid
    before = resource.prlimit(pid, resource.RLIMIT_NPROC)
    # There are more than one already, because the limit counts all threads of this user.
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

    The size has to be set before TCP's handshake, which tells it to the other side.
    """
    family, kind, protocol, _, resolved = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)[0]
    connection = socket.socket(family, kind, protocol)
    for option in which:
        connection.setsockopt(socket.SOL_SOCKET, option, size)
    connection.settimeout(10)
    connection.connect(resolved)
    return connection
