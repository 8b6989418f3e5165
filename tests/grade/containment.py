"""Keep a submission within bounds, and leave nothing of it behind.

Each server that is started for a submission runs behind limited.py, in a folder of its own. This
process makes itself the one to which orphans go (a child subreaper, Linux), so that even who has
called setsid() and lost its parent is still a descendant; a mark in the environment finds the
rest. It is no sandbox: see NOT_PROTECTED.
"""

import contextlib
import os
import shlex
import shutil
import signal
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from tests.grade import process_tree

try:
    import ctypes
except ImportError:  # a Python that was built without libffi
    ctypes = None

PR_SET_CHILD_SUBREAPER = 36  # of <linux/prctl.h>
MARK = "CHAT_GRADE_SUBMISSION"
MEBIBYTE = 1 << 20
LOOK_SECONDS = 0.3  # between two looks at what the submission uses
SWEEP_SECONDS = 10.0
LARGEST_SUBMISSION = 200 * MEBIBYTE
NO_PART_OF_IT = (".git", ".venv", "__pycache__")

NOT_PROTECTED = """\
This is no sandbox. A submission runs as the user who grades, so it can read what
that user can read, write outside its folder, use the network, and send signals
to that user's other processes, the grader included. Memory is limited for each
process (and looked at three times a second), not for all together; files are
limited in size, not in number. RLIMIT_NPROC does not bind root. Without /proc
(macOS), what has left its session is not found in the end, and neither memory
nor the number of processes is watched; on Windows there are no limits at all.
The reference servers lie beside the grader: who looks for them can start one.
Grade strangers' code in a container or a virtual machine without network.
"""


@dataclass(frozen=True)
class Limits:
    """What one process of a submission, or all of them where it says so, may use."""

    cpu_seconds: int = 120
    memory: int = 1024 * MEBIBYTE  # resident, looked at; a thread per client takes address space
    address_space: int = 64 * 1024 * MEBIBYTE
    file_size: int = 16 * MEBIBYTE  # its standard error is a file as well
    files: int = 4096
    processes: int = 1500  # all together: a process for each of 1100 clients is a model, too


@dataclass
class Containment:
    """The folder, the mark and the watch over one submission. Leaving it ends what is left.

    Whatever descends from this process meanwhile is taken for the submission's, so a process that
    grades must have no other children.

    `notes` are lines about what was stopped, `left_behind` command lines of processes that the
    submission had not ended itself. `most_processes` and `most_memory` (bytes, of one process)
    are what was seen.
    """

    limits: Limits
    source: Path | None = None  # a folder to copy, or a file; None: an empty folder
    notes: list[str] = field(default_factory=list)
    left_behind: list[str] = field(default_factory=list)
    most_processes: int = 0
    most_memory: int = 0

    def __post_init__(self) -> None:
        self.mark = f"{MARK}={uuid.uuid4().hex}"
        self.workers: set[int] = set()
        self._ended = threading.Event()
        self._watch = threading.Thread(target=self._look_again_and_again, daemon=True)

    def __enter__(self) -> "Containment":
        self.folder = Path(tempfile.mkdtemp(prefix="graded-submission-")).resolve()
        try:
            self._copy()
        except BaseException:
            self._remove_folder()
            raise
        if process_tree.CAN_SEE:
            adopt_orphans()
            self._watch.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ended.set()
        try:
            if process_tree.CAN_SEE:
                self._watch.join()
                self.sweep()
        finally:
            self._remove_folder()

    def command(self, template: str) -> str:
        """The command line that runs `template` within the limits."""
        if os.name == "nt":
            return template
        prefix = [
            *(sys.executable, "-I", "-S", str(Path(__file__).with_name("limited.py"))),
            *("--folder", str(self.folder), "--mark", self.mark),
            *("--cpu", str(self.limits.cpu_seconds)),
            *("--address-space", str(self.limits.address_space)),
            *("--file-size", str(self.limits.file_size)),
            *("--files", str(self.limits.files)),
            *("--tasks", str(self._tasks_allowed())),
            "--",
        ]
        return f"{shlex.join(prefix)} {template}"

    def sweep(self) -> None:
        """End every process of the submission, also who ignores signals or has a session alone."""
        deadline = time.monotonic() + SWEEP_SECONDS
        counted: set[int] = set()
        while left := self._of_the_submission():
            alive = [pid for pid, process in left.items() if process.state not in "ZX"]
            for pid in alive:
                # None may start another while we end them one by one.
                _send(pid, signal.SIGSTOP)
                if pid not in counted:
                    self.left_behind.append(process_tree.command_line(pid))
            counted.update(alive)
            for pid in alive:
                _send(pid, signal.SIGKILL)
            for pid in left:
                _reap(pid)
            if time.monotonic() > deadline:
                self.notes.append(f"{len(left)} of its processes could not be ended")
                return
            if alive:
                time.sleep(0.01)

    def _copy(self) -> None:
        if self.source is None:
            return
        if self.source.is_file():
            shutil.copy2(self.source, self.folder / self.source.name)
            return
        size = size_of(self.source)
        if size > LARGEST_SUBMISSION:
            raise ValueError(f"{self.source} holds {size // MEBIBYTE} MiB, which is too much")
        shutil.copytree(self.source, self.folder, dirs_exist_ok=True, ignore=_special_files)

    def _remove_folder(self) -> None:
        # A submission may have taken its own right to look into a folder of it.
        for path, _, _ in os.walk(self.folder):
            with contextlib.suppress(OSError):
                os.chmod(path, 0o700)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _tasks_allowed(self) -> int:
        """RLIMIT_NPROC counts all threads of a user; 0 where it would not bind."""
        if not process_tree.CAN_SEE or os.geteuid() == 0:
            return 0
        uid = os.geteuid()
        used = 0
        for pid, process in process_tree.all_processes().items():
            with contextlib.suppress(OSError):
                if os.stat(f"/proc/{pid}").st_uid == uid:
                    used += process.threads
        return used + 2 * self.limits.processes

    def _of_the_submission(self) -> dict[int, process_tree.Process]:
        there = process_tree.all_processes()
        found = {process.pid: process for process in process_tree.descendants(os.getpid(), there)}
        for pid in process_tree.marked(self.mark, there):
            found[pid] = there[pid]
        found.pop(os.getpid(), None)
        return found

    def _look_again_and_again(self) -> None:
        while not self._ended.wait(LOOK_SECONDS):
            self._look()

    def _look(self) -> None:
        """End what uses too much, and bury the orphans that have ended."""
        alive = self._alive()
        self.most_processes = max(self.most_processes, len(alive))
        for process in alive:
            self.most_memory = max(self.most_memory, process.memory)
            if process.memory > self.limits.memory:
                _send(process.pid, signal.SIGKILL)
                self._note(
                    f"ended for its memory: a process held {process.memory // MEBIBYTE} MiB, "
                    f"and {self.limits.memory // MEBIBYTE} MiB is the limit"
                )
        if len(alive) > self.limits.processes:
            self._note(f"ended: over {self.limits.processes} processes at once")
            # Who forks meanwhile is stopped first; its latest children are found by another look.
            while alive and not self._ended.is_set():
                for number in (signal.SIGSTOP, signal.SIGKILL):
                    for process in alive:
                        _send(process.pid, number)
                alive = self._alive()

    def _alive(self) -> list[process_tree.Process]:
        """The submission's processes; orphans among them that have ended are buried."""
        here = os.getpid()
        alive = []
        for process in process_tree.descendants(here):
            if process.pid in self.workers:
                continue
            if process.state != "Z":
                alive.append(process)
            elif process.parent == here:
                _reap(process.pid)
        return alive

    def _note(self, line: str) -> None:
        if not any(line.partition(":")[0] == note.partition(":")[0] for note in self.notes):
            self.notes.append(line)


def adopt_orphans() -> bool:
    """Become the parent of descendants that lose theirs; False where the system cannot do it."""
    if ctypes is None or sys.platform != "linux":
        return False
    return ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0


@contextlib.contextmanager
def signals_as_interrupts() -> Iterator[None]:
    """SIGTERM is as good as Ctrl-C: what was started is ended in order."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def size_of(folder: Path) -> int:
    """Bytes in all files of a submission, without what is no part of it."""
    return sum(
        path.stat().st_size
        for path in folder.rglob("*")
        if path.is_file() and not set(NO_PART_OF_IT) & set(path.relative_to(folder).parts)
    )


def _special_files(folder: str, names: list[str]) -> list[str]:
    """What cannot be copied, a FIFO or a link to a folder, and what is no part of a submission."""
    skipped = []
    for name in names:
        path = Path(folder, name)
        links_to_a_folder = path.is_symlink() and path.is_dir()
        is_plain = path.is_file() or path.is_dir()
        if name in NO_PART_OF_IT or links_to_a_folder or not is_plain:
            skipped.append(name)
    return skipped


def _send(pid: int, number: int) -> None:
    # It has ended meanwhile, or has become another user's.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def _reap(pid: int) -> None:
    # It is no child of ours yet, or not any more.
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
