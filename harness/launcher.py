"""Start a chat server as a subprocess, learn its address, and stop it for certain.

The demo, the benchmarks and the test suite all start servers this way. Any program can be
started, not only the four versions: the launch contract is one line on standard output,
`NAME listening on HOST:PORT` (an IPv6 host stands in brackets).
"""

import atexit
import contextlib
import os
import queue
import random
import re
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from harness.patience import patience

try:
    import ctypes
except ImportError:  # a Python that was built without libffi
    ctypes = None

REPOSITORY = Path(__file__).resolve().parents[1]
PROFILES = {"v1_threads": "echo", "v2_select": "echo", "v3_broadcast": "chat", "v4_asyncio": "chat"}
VERSIONS = tuple(PROFILES)

ANNOUNCEMENT = re.compile(
    r"\S+ listening on (?:\[(?P<v6>[^\]]+)\]|(?P<host>[^:\s]+)):(?P<port>\d+)\s*"
)
SILENCE_SECONDS = 2.0  # how long somebody else's command may print nothing before we try its port
STOP_SECONDS = 5.0  # how long a server may take to obey SIGTERM
PR_SET_PDEATHSIG = 1  # of <linux/prctl.h>
FIRST_PORT = 15000  # of those that a server under test is given

# Looked up now: the function that a new process runs before its program should do as little as
# can be, for other threads of ours may have been in the middle of anything.
_prctl = ctypes.CDLL(None).prctl if ctypes and sys.platform == "linux" else None
# What was started and not yet ended, and who watches it if the system does not (see _guard()).
_alive: dict[subprocess.Popen, subprocess.Popen | None] = {}


class LaunchError(Exception):
    """A server could not be started: one line that names it and says what happened."""


@dataclass
class RunningServer:
    """A server that accepts connections. Leaving it as a context manager stops it."""

    name: str
    profile: str  # "echo" or "chat"
    host: str
    port: int
    process: subprocess.Popen | None = None  # None: it runs elsewhere, we only know its address
    log_path: Path | None = None  # its standard error, a file: an unread pipe could block it
    asked_to_stop: bool = False  # by stop()

    @property
    def address(self) -> tuple[str, int]:
        """(host, port), as `socket.create_connection` wants it."""
        return (self.host, self.port)

    def stop(self) -> int | None:
        """Ask the server to stop, insist after 5 s, and return its exit status (None: not ours).

        A negative status is the number of the signal that ended it. The log file stays until the
        `with` block or this process ends, so that a test may read it after the stop.
        """
        if self.process is None:
            return None
        if self.process.poll() is None:
            self.asked_to_stop = True
        return end_process(self.process)

    def __enter__(self) -> "RunningServer":
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()
        if self.process is not None and self.log_path is not None:
            self.log_path.unlink(missing_ok=True)


def server_command(version: str, *options: str, python: str = sys.executable) -> list[str]:
    """The command that runs one of the four versions on a free port."""
    return [python, str(REPOSITORY / version / "server.py"), "--port", "0", *options]


def launch(
    name: str,
    command: Sequence[str] | str,
    *,
    profile: str,
    startup_seconds: float = 10.0,
    **popen_options,
) -> RunningServer:
    """Start a server and wait until it listens.

    A list is run as it is. A string is somebody's command line: its `{port}` is replaced by a
    free port, and if the program does not announce its address the way our servers do (another
    language, another habit), that port on 127.0.0.1 is used as soon as it accepts. Further
    options go to `subprocess.Popen`. Raises LaunchError.
    """
    promised_port = None
    if isinstance(command, str):
        if "{port}" not in command:
            raise LaunchError(f"{name}: the command needs a {{port}} to be told: {command}")
        promised_port = _free_port()
        try:
            command = shlex.split(
                command.replace("{port}", str(promised_port)), posix=os.name != "nt"
            )
        except ValueError as error:
            raise LaunchError(f"{name}: {str(error).lower()} in {command}") from None
    log_path = _new_log(name)
    try:
        with log_path.open("wb") as log:
            process = start_process(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                **popen_options,
            )
    except OSError as error:
        raise LaunchError(f"{name}: cannot run {command[0]}: {error.strerror}") from None
    try:
        first_line = _drain(process)
        host, port = _wait_until_listening(
            name, process, first_line, promised_port, startup_seconds, log_path
        )
    except BaseException:  # a failed start and Ctrl-C alike must leave no process behind
        end_process(process)
        raise
    return RunningServer(name, profile, host, port, process, log_path)


def _wait_until_listening(
    name: str,
    process: subprocess.Popen,
    first_line: "queue.Queue[str]",
    promised_port: int | None,
    startup_seconds: float,
    log_path: Path,
) -> tuple[str, int]:
    startup_seconds = patience.for_a_start(startup_seconds)
    deadline = time.monotonic() + startup_seconds
    silence = startup_seconds if promised_port is None else min(SILENCE_SECONDS, startup_seconds)
    try:
        line = first_line.get(timeout=silence)
    except queue.Empty:
        line = None
    if line and (match := ANNOUNCEMENT.fullmatch(line)):
        return match["v6"] or match["host"], int(match["port"])
    if line == "":  # end of its output: somebody else may have its port, so see first if it goes
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=0.5)
    # Connecting just to see would be one phantom client for a server that counts them, so it is
    # done only for a command that did not announce itself.
    while promised_port is not None and process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", promised_port), timeout=1).close()
            return "127.0.0.1", promised_port
        except OSError:  # not yet listening: that is what the loop waits for
            time.sleep(0.02)
    if line == "":  # end of its output: it is going, and its log is complete once it has gone
        with contextlib.suppress(subprocess.TimeoutExpired):  # still alive: the message says so
            process.wait(timeout=max(0.1, deadline - time.monotonic()))
    if process.poll() is not None:
        what = f"{how_it_ended(process.returncode)} before it was listening"
    elif line:
        what = f"said {line.strip()!r} where 'NAME listening on HOST:PORT' was expected"
    else:
        patience.hung += 1
        what = f"was not listening after {startup_seconds:g} s"
    words = "".join(f": {line.strip()}" for line in last_words(log_path))
    raise LaunchError(f"{name} {what}{words}")


def _drain(process: subprocess.Popen) -> "queue.Queue[str]":
    """Read the server's output for as long as it lives; its first line goes into the queue.

    An empty string there means that the output ended without a line.
    """
    first_line: queue.Queue[str] = queue.Queue()

    def read_to_end() -> None:
        with process.stdout as output:
            first_line.put(output.readline(4096).decode(errors="replace"))
            while output.read1(65536):
                pass

    threading.Thread(target=read_to_end, name="server-output", daemon=True).start()
    return first_line


def start_process(command: Sequence[str], **popen_options) -> subprocess.Popen:
    """Popen for a process that is certain to be ended: by `end_process`, or when we end.

    It gets a session of its own: Ctrl-C at the terminal reaches us alone, and we end it in order.
    Should we be killed (SIGKILL, out of memory) and can end nothing any more, it is killed, too: on
    Linux by the kernel's parent-death signal, elsewhere by a shell that waits for that, see
    _guard(). What a wrapper such as `sh -c` or `go run` has started does not inherit the signal,
    and is left behind then. On Windows all are.
    """
    # The kernel sends that signal when the thread ends that made the process. Only the main thread
    # is certain to live as long as we do.
    by_kernel = _prctl is not None and threading.current_thread() is threading.main_thread()
    if os.name == "nt":
        popen_options.setdefault("creationflags", subprocess.CREATE_NEW_PROCESS_GROUP)
    else:
        popen_options.setdefault("start_new_session", True)
    if by_kernel:
        popen_options["preexec_fn"] = _bind_to_us(popen_options.get("preexec_fn"))
    with _interrupts_held():  # between its start and our knowing its pid it could escape us
        process = subprocess.Popen(command, **popen_options)
        _alive[process] = None
        if not by_kernel and os.name != "nt":
            _alive[process] = _guard(process)
    return process


def _bind_to_us(preparation: Callable[[], None] | None) -> Callable[[], None]:
    """What a new process does before it becomes its program: `preparation`, then this.

    It asks the kernel to be killed when we end, and the kernel remembers that beyond exec().
    """
    runner = os.getpid()

    def in_the_new_process() -> None:
        if preparation:
            preparation()
        _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != runner:  # we have ended before it could ask
            os.kill(os.getpid(), signal.SIGKILL)

    return in_the_new_process


def _guard(process: subprocess.Popen) -> subprocess.Popen:
    """A shell that waits for our end, which is the end of its input, and then kills `process`.

    It kills the whole group, what a wrapper has started included.
    """
    script = 'read -r nothing; kill -s KILL -- "-$0"'
    return subprocess.Popen(
        ["/bin/sh", "-c", script, str(process.pid)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """Act on Ctrl-C and SIGTERM at the end of the block.

    Their handlers are exchanged for that, not their mask: a child would inherit the mask.
    """
    if threading.current_thread() is not threading.main_thread():  # signals are not for us then
        yield
        return
    arrived: list[int] = []
    handlers = {
        number: signal.signal(number, lambda number, frame: arrived.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    for number in arrived:
        signal.raise_signal(number)


@atexit.register
def _end_leftovers() -> None:
    """Ctrl-C may come between any two steps, such as a start and the `with` that would end it."""
    for process in list(_alive):
        end_process(process)


def end_process(process: subprocess.Popen) -> int:
    """End a process and whatever it started: SIGTERM, wait, SIGKILL as the last resort.

    Returns its exit status.
    """
    try:
        process.terminate()
        try:
            process.wait(timeout=patience.for_a_stop(STOP_SECONDS))
        except subprocess.TimeoutExpired:
            patience.killed += 1
            process.kill()
    except BaseException:  # a second Ctrl-C while we wait: no more patience, but no orphan either
        process.kill()
        raise
    finally:
        if hasattr(os, "killpg"):
            # `sh -c` or `go run` would leave the real server behind. The group bears the pid of
            # the process we started as a session of its own. Nobody left in it: nothing to end.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
    if guard := _alive.pop(process, None):
        guard.kill()
        guard.communicate()
    return process.wait()


def _free_port() -> int:
    """A port that nobody has now, and that no outgoing connection will be given meanwhile.

    Were it one of those that the system gives out by itself, one of thousands of clients beside us
    would now and then have it before the server binds it.
    """
    below = _first_port_given_out()
    for port in random.sample(range(FIRST_PORT, below), 50) if below > FIRST_PORT + 1000 else ():
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@cache
def _first_port_given_out() -> int:
    """The lowest port that the system gives to those who do not ask for a certain one."""
    try:
        return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    # No Linux: the others begin at 49152.
    except OSError:
        return 49152


@cache
def _log_directory() -> tempfile.TemporaryDirectory:
    return tempfile.TemporaryDirectory(prefix="chat-server-logs-")  # removed at exit


def _new_log(name: str) -> Path:
    readable = re.sub(r"[^\w.-]+", "_", name)
    descriptor, path = tempfile.mkstemp(f"-{readable}.log", dir=_log_directory().name)
    os.close(descriptor)
    return Path(path)


def how_it_ended(status: int) -> str:
    """An exit status in words: "ended with status 3", or "was killed by SIGTERM"."""
    if status >= 0:
        return f"ended with status {status}"
    try:
        return f"was killed by {signal.Signals(-status).name}"
    except ValueError:  # a signal that this Python has no name for
        return f"was killed by signal {-status}"


def last_words(log_path: Path, lines: int = 1) -> list[str]:
    """The last lines that a server has written to its standard error; bounded, however much."""
    with log_path.open("rb") as log:
        log.seek(max(0, log_path.stat().st_size - 4096 * lines))
        return log.read().decode(errors="replace").strip().splitlines()[-lines:]
