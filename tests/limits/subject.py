"""The server that is brought to a limit: one of our four, or somebody's own."""

import contextlib
import dataclasses
import os
import re
import shlex
import subprocess
from collections.abc import Iterator, Sequence

from harness.launcher import (
    PROFILES,
    VERSIONS,
    LaunchError,
    RunningServer,
    how_it_ended,
    last_words,
    launch,
    server_command,
)

# A server that is not ours goes by this name.
SOMEBODYS = "server"

# How a server that does something else than was predicted shows itself to the clients that wait for
# it, and to whoever starts it.
FAILURES = (LaunchError, EOFError, OSError, AssertionError, UnicodeDecodeError)

LONGEST_LOG = 1 << 20  # bytes

PYTHON = re.compile(r"(.*[/\\])?python[\d.]*t?(\.exe)?")


@dataclasses.dataclass(frozen=True)
class Subject:
    """A server that can be started: a version, or `template`, a command with {port} {options}."""

    name: str
    profile: str
    template: str | None = None

    def __post_init__(self) -> None:
        """Raise ValueError for a command that cannot be one, with one line that says why."""
        if self.template is None:
            return
        for place in ("{port}", "{options}"):
            if place not in self.template:
                raise ValueError(f"the command needs {place} in it: {self.template}")
        # An open quote is a ValueError, too.
        shlex.split(self.template)

    @classmethod
    def version(cls, name: str) -> "Subject":
        """One of our four."""
        return cls(name, PROFILES[name])

    @property
    def is_ours(self) -> bool:
        """Whether the predictions for the models hold for it, or the protocol's alone."""
        return self.name in VERSIONS

    @property
    def takes_a_preparation(self) -> bool:
        """Whether lines of Python can be run in front of it: it is a Python program itself."""
        if self.template is None:
            return True
        _, (program, *arguments) = _behind_a_wrapper(shlex.split(self.template))
        is_python = PYTHON.fullmatch(program) and arguments and not arguments[0].startswith("-")
        return bool(is_python) and os.name == "posix"

    def command(self, options: Sequence[str], preparation: Sequence[str]) -> list[str] | str:
        """What `launch` is to run. `preparation`: lines of Python, and their arguments."""
        if self.template is None:
            python, *rest = server_command(self.name, *options)
            return [python, "-c", *preparation, *rest] if preparation else [python, *rest]
        command = self.template.replace("{options}", shlex.join(options))
        if not preparation:
            return command
        wrapper, (python, *rest) = _behind_a_wrapper(shlex.split(command))
        return shlex.join([*wrapper, python, "-c", *preparation, *rest])

    @contextlib.contextmanager
    def run(
        self, *options: str, preparation: Sequence[str] = (), **popen_options
    ) -> Iterator[RunningServer]:
        """Start it, and stop it in the end.

        One of FAILURES in the block becomes an AssertionError that also tells how the server ended,
        if it did. Raises LaunchError.
        """
        command = self.command(options, preparation)
        with launch(self.name, command, profile=self.profile, **popen_options) as server:
            try:
                yield server
            except FAILURES as error:
                raise AssertionError(f"{error}{_end_of(server)}") from None


def _behind_a_wrapper(words: list[str]) -> tuple[list[str], list[str]]:
    """The program that becomes the server, up to `--`, such as the grader's; and the server."""
    begin = words.index("--") + 1 if "--" in words[:-1] else 0
    return words[:begin], words[begin:]


def _end_of(server: RunningServer) -> str:
    """How a server has ended, and the last line of its log; nothing if it lives.

    Its connections end a moment before it does itself.
    """
    try:
        status = server.process.wait(timeout=0.5)
    except subprocess.TimeoutExpired:
        return ""
    words = "".join(f": {line}" for line in last_words(server.log_path))
    return f"; the server {how_it_ended(status)}{words}"


def log_of(server: RunningServer) -> str:
    """What it has written to its standard error so far; of a flood the beginning."""
    with server.log_path.open("rb") as log:
        return log.read(LONGEST_LOG).decode(errors="replace")
