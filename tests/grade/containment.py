"""Keep a submission within bounds, and leave nothing of it behind.

Each server that is started for a submission runs behind limited.py, in a folder of its own. This
process becomes the parent of orphans (a child subreaper, Linux), so that a process that has called
setsid() and lost its parent is still a descendant; a mark in the environment finds the rest. This
is no sandbox: see NOT_PROTECTED.
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
from dataclasses import dataclass, field
from pathlib import Path

from harness import proc

try:
    import ctypes
except ImportError:
    # A Python that was built without libffi.
    ctypes = None  # type: ignore[assignment]

# From <linux/prctl.h>.
PR_SET_CHILD_SUBREAPER = 36
MARK = "CHAT_GRADE_SUBMISSION"
MEBIBYTE = 1 << 20
# Between two looks at what the submission uses.
LOOK_SECONDS = 0.3
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
The reference servers lie beside the grader, and a submission can start one.
Grade strangers' code in a container or a virtual machine without network.
"""


@dataclass(frozen=True)
class Limits:
    """What one process of a submission may use, and how many `processes` there may be.

    `memory` is the resident part, which is looked at: a thread per client takes address space. A
    server's standard error is a file as well. A process for each of 1100 clients is a model, too.
    """

    cpu_seconds: int = 120
    memory: int = 1024 * MEBIBYTE
    address_space: int = 64 * 1024 * MEBIBYTE
    file_size: int = 16 * MEBIBYTE
    files: int = 4096
    processes: int = 1500


@dataclass
class Containment:
    """The folder, the mark and the watch over one submission. Leaving it ends what is left.

    Whatever descends from this process meanwhile is taken for the submission's, so a process that
    grades must have no other children.

    `source` is a folder or a file to copy; None leaves the folder empty. `notes` has a line for
    each kind of thing that was stopped, `left_behind` the command lines of processes that the
    submission had not ended itself. `most_processes` and `most_memory` (bytes, of one process) are
    what was seen.
    """

    limits: Limits
    source: Path | None = None
    notes: dict[str, str] = field(default_factory=dict)
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
        if proc.CAN_SEE:
            adopt_orphans()
            self._watch.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ended.set()
        try:
            if proc.CAN_SEE:
                self._watch.join()
                self.sweep()
        finally:
            self._remove_folder()

    def command(self, template: str) -> str:
        """The command line that runs `template` within the limits."""
        if os.name == "nt":
            return template
        limits = {
            "RLIMIT_CPU": self.limits.cpu_seconds,
            "RLIMIT_AS": self.limits.address_space,
            "RLIMIT_FSIZE": self.limits.file_size,
            "RLIMIT_NOFILE": self.limits.files,
            "RLIMIT_CORE": 0,
        }
        if tasks := self._tasks_allowed():
            limits["RLIMIT_NPROC"] = tasks
        prefix = [
            *(sys.executable, "-I", "-S", str(Path(__file__).with_name("limited.py"))),
            *("--folder", str(self.folder), "--mark", self.mark),
            *(f"--limit={name}={number}" for name, number in limits.items()),
            "--",
        ]
        return f"{shlex.join(prefix)} {template}"

    def sweep(self) -> None:
        """End every process of the submission, even one with a session and deaf to signals."""
        deadline = time.monotonic() + SWEEP_SECONDS
        counted: set[int] = set()
        while left := self._of_the_submission():
            alive = [pid for pid, process in left.items() if process.state not in "ZX"]
            for pid in alive:
                # No process may start another while we end them one by one.
                _send(pid, signal.SIGSTOP)
                if pid not in counted:
                    self.left_behind.append(proc.command_line(pid))
            counted.update(alive)
            for pid in alive:
                _send(pid, signal.SIGKILL)
            for pid in left:
                _reap(pid)
            if time.monotonic() > deadline:
                self.notes["end"] = f"{len(left)} of its processes could not be ended"
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
        """RLIMIT_NPROC counts all threads of a user; 0 where it does not bind."""
        if not proc.CAN_SEE or os.geteuid() == 0:
            return 0
        uid = os.geteuid()
        used = 0
        for pid, process in proc.all_processes().items():
            with contextlib.suppress(OSError):
                if os.stat(f"/proc/{pid}").st_uid == uid:
                    used += process.threads
        return used + 2 * self.limits.processes

    def _of_the_submission(self) -> dict[int, proc.Process]:
        everything = proc.all_processes()
        pids = {process.pid for process in proc.descendants(os.getpid(), everything)}
        pids |= proc.marked(self.mark, everything)
        return {pid: everything[pid] for pid in pids - {os.getpid()}}

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
                self.notes.setdefault(
                    "memory",
                    f"ended for its memory: a process held {process.memory // MEBIBYTE} MiB, "
                    f"and {self.limits.memory // MEBIBYTE} MiB is the limit",
                )
        if len(alive) > self.limits.processes:
            excess = f"ended: over {self.limits.processes} processes at once"
            self.notes.setdefault("processes", excess)
            # Stop them first, so that none forks meanwhile; another look finds the latest children.
            while alive and not self._ended.is_set():
                for number in (signal.SIGSTOP, signal.SIGKILL):
                    for process in alive:
                        _send(process.pid, number)
                alive = self._alive()

    def _alive(self) -> list[proc.Process]:
        """The submission's processes; orphans among them that have ended are buried."""
        here = os.getpid()
        alive = []
        for process in proc.descendants(here):
            if process.pid in self.workers:
                continue
            if process.state != "Z":
                alive.append(process)
            elif process.parent == here:
                _reap(process.pid)
        return alive


def adopt_orphans() -> None:
    """Become the parent of descendants that lose theirs, where the system can do that."""
    if ctypes is not None and sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def size_of(folder: Path) -> int:
    """Bytes in all files that belong to a submission."""
    return sum(
        path.stat().st_size
        for path in folder.rglob("*")
        if path.is_file() and not set(NO_PART_OF_IT) & set(path.relative_to(folder).parts)
    )


def _special_files(folder: str, names: list[str]) -> list[str]:
    """What cannot be copied, a FIFO or a link to a folder; and what does not belong to it."""

    def can_be_copied(path: Path) -> bool:
        return path.is_file() or (path.is_dir() and not path.is_symlink())

    return [
        name for name in names if name in NO_PART_OF_IT or not can_be_copied(Path(folder, name))
    ]


def _send(pid: int, number: int) -> None:
    # It has ended meanwhile, or belongs to another user by now.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def _reap(pid: int) -> None:
    # It is not our child yet, or not any more.
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
