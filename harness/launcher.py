"""Start any chat server as a subprocess, learn its address, and stop it for certain."""

import atexit
import contextlib
import io
import os
import queue
import random
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import cast

from harness.command_line import printable
from harness.session import Session

try:
    import ctypes
except ImportError:
    # This Python was built without libffi.
    ctypes = None  # type: ignore[assignment]

REPOSITORY = Path(__file__).resolve().parents[1]
PROFILES = {"v1_threads": "echo", "v2_select": "echo", "v3_broadcast": "chat", "v4_asyncio": "chat"}
VERSIONS = tuple(PROFILES)

ANNOUNCEMENT = re.compile(
    r"\S+ listening on (?:\[(?P<v6>[^\]]+)\]|(?P<host>[^:\s]+)):(?P<port>\d+)\s*"
)
# Somebody else's command may print nothing for so long before we try its port.
SILENCE_SECONDS = 2.0
# A broken connection is seen a moment before the process that broke it is gone.
GONE_SECONDS = 0.3
# A server may take so long to obey SIGTERM.
STOP_SECONDS = 5.0
# A server that does not start may take so long to say its last words.
LAST_WORDS_SECONDS = 2.0
# So many lines of each of its streams are its last words then, from so many bytes.
LINES_KEPT = 3
BYTES_KEPT = 4096
# A server under test gets no port below this one.
FIRST_PORT = 15000
# The number comes from <linux/prctl.h>.
PR_SET_PDEATHSIG = 1

# It is looked up now, because a new process should do as little as possible before its program
# starts: another thread of ours may have been in the middle of anything.
_prctl = ctypes.CDLL(None).prctl if ctypes and sys.platform == "linux" else None
# Processes that were started and not yet ended, each with its guard if it needs one: see _guard().
_alive: dict[subprocess.Popen, subprocess.Popen | None] = {}


class LaunchError(Exception):
    """A server could not be started: one line that names it and says what happened."""


@dataclass(frozen=True)
class Ending:
    """How a server has ended: its exit status, negative for a signal, and its last words."""

    status: int
    last_words: tuple[str, ...]

    def in_short(self) -> str:
        """`the server ended with status 1: no such device`."""
        last = "".join(f": {line}" for line in self.last_words[-1:])
        return f"the server {how_it_ended(self.status)}{last}"

    def at_length(self, before: str = " ", between: str = " / ") -> str:
        """`the server ended with status 1; its last words: no such device / good-bye`."""
        words = between.join(self.last_words)
        last = f"; its last words:{before}{words}" if words else ""
        return f"the server {how_it_ended(self.status)}{last}"


@dataclass
class RunningServer:
    """A server that accepts connections. As a context manager, it is stopped at the end.

    A server that runs elsewhere has an address only, no `process` and no log.
    """

    name: str
    profile: str
    host: str
    port: int
    process: subprocess.Popen | None = None
    # Its standard error goes to a file, because a pipe that nobody reads could block it.
    log_path: Path | None = None
    asked_to_stop: bool = False
    session: Session = field(default_factory=Session)

    @property
    def address(self) -> tuple[str, int]:
        """(host, port), as `socket.create_connection` wants it."""
        return (self.host, self.port)

    @property
    def pid(self) -> int:
        """The number of its process. Raises ValueError for one that runs elsewhere."""
        if self.process is None:
            raise ValueError(f"the process of {self.name} is not known, only its address")
        return self.process.pid

    def ending(self, seconds: float = GONE_SECONDS, lines: int = 1) -> Ending | None:
        """How it ended, with so many last lines of its log; None if it runs on for `seconds`."""
        if self.process is None or self.log_path is None:
            return None
        try:
            status = self.process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            return None
        return Ending(status, tuple(self.last_words(lines)))

    def last_words(self, lines: int = 1) -> list[str]:
        """The last lines of its log. Of a long log only the end is read."""
        if self.log_path is None or not self.log_path.exists():
            return []
        with self.log_path.open("rb") as log:
            log.seek(max(0, self.log_path.stat().st_size - BYTES_KEPT * lines))
            return _last_lines(log.read(), lines)

    def log(self) -> str:
        """What it has written to its standard error so far, or the beginning of a flood."""
        if self.log_path is None:
            return ""
        with self.log_path.open("rb") as log:
            return log.read(1 << 20).decode(errors="replace")

    def stop(self) -> int | None:
        """Ask the server to stop, kill it after 5 s; returns its exit status (None: not ours).

        The log file stays until the `with` block ends, so that a test may read it after the stop.
        """
        if self.process is None:
            return None
        self.asked_to_stop |= self.process.poll() is None
        return end_process(self.process, self.session)

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
    session: Session | None = None,
    **popen_options,
) -> RunningServer:
    """Start a server and wait until it listens.

    A list is run as it is. A string is somebody's command line: its `{port}` is replaced by a free
    port. If the program does not announce its address as our servers do, that port on 127.0.0.1 is
    used as soon as it accepts. Further options go to `subprocess.Popen`. Raises LaunchError.
    """
    session = session or Session()
    with contextlib.ExitStack() as until_it_listens:
        promised_port = None
        if isinstance(command, str):
            if "{port}" not in command:
                raise LaunchError(f"{name}: the command needs a {{port}} to be told: {command}")
            promised_port = until_it_listens.enter_context(reserved_port())
            with_port = command.replace("{port}", str(promised_port))
            try:
                command = shlex.split(with_port, posix=os.name != "nt")
            except ValueError as error:
                raise LaunchError(f"{name}: {str(error).lower()} in {command}") from None
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE}
        log_path = _new_log(name)
        try:
            with log_path.open("wb") as log:
                process = start_process(command, stderr=log, **streams, **popen_options)
        except OSError as error:
            raise LaunchError(f"{name}: cannot run {command[0]}: {error.strerror}") from None
        server = RunningServer(name, profile, "127.0.0.1", 0, process, log_path, session=session)
        try:
            _find_address(server, _Output(process), promised_port, startup_seconds)
        # Neither a failed start nor Ctrl-C may leave a process behind.
        except BaseException:
            server.stop()
            raise
        return server


class _Output:
    """A server's standard output, read for as long as it lives, so that it never blocks."""

    def __init__(self, process: subprocess.Popen) -> None:
        # An empty string there means that the output ended without a line.
        self.first_line: queue.Queue[str] = queue.Queue()
        self._stream = cast(io.BufferedReader, process.stdout)
        self._end = b""
        self._reader = threading.Thread(target=self._read, name="server-output", daemon=True)
        self._reader.start()

    def _read(self) -> None:
        with self._stream:
            self._end = self._stream.readline(BYTES_KEPT)
            self.first_line.put(self._end.decode(errors="replace"))
            while data := self._stream.read1(65536):
                self._end = (self._end + data)[-BYTES_KEPT:]

    def last_lines(self, number: int) -> list[str]:
        """Its last lines: to its end, if that comes soon, or up to now."""
        self._reader.join(LAST_WORDS_SECONDS)
        return _last_lines(self._end, number)


def _find_address(
    server: RunningServer, output: _Output, promised_port: int | None, startup_seconds: float
) -> None:
    startup_seconds = server.session.wait_for_a_start(startup_seconds)
    deadline = time.monotonic() + startup_seconds
    silence = startup_seconds if promised_port is None else min(SILENCE_SECONDS, startup_seconds)
    try:
        line = output.first_line.get(timeout=silence)
    except queue.Empty:
        line = None
    if line and (match := ANNOUNCEMENT.fullmatch(line)):
        server.host, server.port = match["v6"] or match["host"], int(match["port"])
        return
    # A program that has closed its output may be about to end, and another may have its port.
    if line == "":
        server.ending(0.5)
    # A trial connection is a phantom client to a server that counts its clients, so it is made only
    # for a command that did not announce itself.
    while promised_port is not None and not server.ending(0) and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", promised_port), timeout=1).close()
            server.port = promised_port
            return
        # It does not listen yet, so try again.
        except OSError:
            time.sleep(0.02)
    # The log is complete once the process has ended. If it does not end, the message says so.
    if ending := server.ending(max(0.1, deadline - time.monotonic()) if line == "" else 0):
        what = f"{how_it_ended(ending.status)} before it was listening"
        words = list(ending.last_words) or output.last_lines(1)
    elif line and promised_port is None:
        what = f"said {line.strip()!r} where 'NAME listening on HOST:PORT' was expected"
        words = server.last_words()
    else:
        server.session.hung += 1
        where = "" if promised_port is None else " on its {port}"
        what = f"was not listening{where} after {startup_seconds:g} s"
        in_the_log = server.last_words(LINES_KEPT)
        _interrupt(server)
        words = output.last_lines(LINES_KEPT) + in_the_log
    said = f": {' / '.join(printable(line.strip()) for line in words)}" if words else ""
    raise LaunchError(f"{server.name} {what}{said}")


def _interrupt(server: RunningServer) -> None:
    """Press Ctrl-C, because Python then prints what it has held back so far."""
    if hasattr(os, "killpg") and server.process is not None:
        # It may have ended meanwhile.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(server.process.pid, signal.SIGINT)


def start_process(command: Sequence[str], **popen_options) -> subprocess.Popen:
    """Start a process that is certain to be ended: by `end_process`, or when we end.

    It gets a session of its own: Ctrl-C at the terminal reaches us alone, and we end it in order.
    If we are killed, it is killed too: on Linux by the kernel's parent-death signal, elsewhere by a
    shell that waits for our end. A process that a wrapper such as `sh -c` or `go run` has started
    does not inherit the signal, and is left behind. On Windows every process is.
    """
    # The kernel sends that signal when the thread that made the process ends. Only the main thread
    # is certain to live as long as we do.
    bind = _prctl if threading.current_thread() is threading.main_thread() else None
    if os.name == "nt":
        group = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
        popen_options.setdefault("creationflags", group)
    else:
        popen_options.setdefault("start_new_session", True)
    if bind is not None:
        popen_options["preexec_fn"] = _bind_to_us(bind, popen_options.get("preexec_fn"))
    # An interrupt between the start and our note of it would let the process escape us.
    with _interrupts_held():
        process = subprocess.Popen(command, **popen_options)
        _alive[process] = None
        if bind is None and os.name != "nt":
            _alive[process] = _guard(process)
    return process


def _bind_to_us(
    bind: Callable[[int, int], int], preparation: Callable[[], None] | None
) -> Callable[[], None]:
    """What a new process does before it becomes its program; `bind` is prctl(2)."""
    runner = os.getpid()

    def in_the_new_process() -> None:
        if preparation:
            preparation()
        # The kernel remembers this across exec().
        bind(PR_SET_PDEATHSIG, signal.SIGKILL)
        # We may have ended before it could ask.
        if os.getppid() != runner:
            os.kill(os.getpid(), signal.SIGKILL)

    return in_the_new_process


def _guard(process: subprocess.Popen) -> subprocess.Popen:
    """Start a shell that waits for the end of its input, which is our end, and kills the group."""
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
    """Put off Ctrl-C and SIGTERM until the end of the block.

    Their handlers are exchanged for that, not the signal mask, which a child would inherit.
    """
    # Python handles signals in the main thread only.
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    arrived: list[int] = []

    def note(number: int, frame: object) -> None:
        arrived.append(number)

    handlers = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    for signal_number in arrived:
        signal.raise_signal(signal_number)


@atexit.register
def _end_leftovers() -> None:
    # Ctrl-C may come between a start and the `with` that would end it.
    for process in list(_alive):
        end_process(process)


def end_process(process: subprocess.Popen, session: Session | None = None) -> int:
    """End a process and whatever it started: SIGTERM, wait, SIGKILL; returns its exit status."""
    session = session or Session()
    begin = time.monotonic()
    try:
        process.terminate()
        try:
            process.wait(timeout=session.wait_for_a_stop(STOP_SECONDS))
            session.note_stop(time.monotonic() - begin)
        except subprocess.TimeoutExpired:
            session.killed += 1
            process.kill()
    # A second Ctrl-C ends the wait, but no orphan may stay.
    except BaseException:
        process.kill()
        raise
    finally:
        if hasattr(os, "killpg"):
            # Without this, `sh -c` or `go run` would leave the real server behind. Its session has
            # a group with the pid of the process that we started, or with nobody left in it.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
    if guard := _alive.pop(process, None):
        guard.kill()
        guard.communicate()
    return process.wait()


def free_port() -> int:
    """A port that is free, and that no outgoing connection will be given meanwhile."""
    with reserved_port() as port:
        return port


@contextlib.contextmanager
def reserved_port() -> Iterator[int]:
    """A free port that no other run of the launcher on this machine gives away during the block.

    The system gives ports to outgoing connections from a range of its own. If the port were in it,
    one of thousands of clients beside us would now and then have it before the server binds it.
    """
    below = _first_port_given_out()
    enough = below > FIRST_PORT + 1000
    for port in random.sample(range(FIRST_PORT, below), 50) if enough else [0] * 50:
        if (sign := _sign_of_reservation(port)) is not None:
            with sign:
                yield sign.getsockname()[1]
            return
    raise LaunchError("no free port was found: fifty have been tried")


def _sign_of_reservation(port: int) -> socket.socket | None:
    """A UDP socket with the number of a TCP port that is free; None if it is taken or reserved."""
    sign = socket.socket(type=socket.SOCK_DGRAM)
    try:
        sign.bind(("127.0.0.1", port))
        with socket.socket() as probe:
            probe.bind(sign.getsockname())
    except OSError:
        sign.close()
        return None
    return sign


@cache
def _first_port_given_out() -> int:
    try:
        return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    # Systems other than Linux begin at 49152.
    except OSError:
        return 49152


@cache
def _log_directory() -> str:
    """The directory is removed when we exit."""
    directory = tempfile.mkdtemp(prefix="chat-server-logs-")
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return directory


def _new_log(name: str) -> Path:
    readable = re.sub(r"[^\w.-]+", "_", name)
    descriptor, path = tempfile.mkstemp(f"-{readable}.log", dir=_log_directory())
    os.close(descriptor)
    return Path(path)


def how_it_ended(status: int) -> str:
    """An exit status in words: "ended with status 3", or "was killed by SIGTERM"."""
    if status >= 0:
        return f"ended with status {status}"
    try:
        return f"was killed by {signal.Signals(-status).name}"
    # This Python has no name for the signal.
    except ValueError:
        return f"was killed by signal {-status}"


def _last_lines(output: bytes, number: int) -> list[str]:
    return output.decode(errors="replace").strip().splitlines()[-number:]
