"""A server that is tested, graded, brought to its limits or measured, and how it is started."""

import contextlib
import dataclasses
import functools
import os
import re
import shlex
import sys
from collections.abc import Iterator, Sequence

from harness import proc
from harness.launcher import PROFILES, LaunchError, RunningServer, launch, server_command
from harness.session import Session

PORT, OPTIONS = "{port}", "{options}"

# What a client of a server that misbehaves may run into, and the code that starts it.
FAILURES = (LaunchError, EOFError, OSError, AssertionError, UnicodeDecodeError)

# So many descriptors one of our servers needs for itself, at most.
OWN_DESCRIPTORS = 10

PYTHON = re.compile(r"(.*[/\\])?python[\d.]*t?(\.exe)?")


class CommandError(Exception):
    """A command that cannot start a server: one line that says why."""


@dataclasses.dataclass(frozen=True)
class ServerUnderTest:
    """A command that starts a server, or the address of one that runs elsewhere.

    `command` is a tuple that is run as it is, for a program that announces its address (our four).
    Or it is a command line with {port} in it, and with {options} if it keeps our launch contract.
    It is empty where there is only an `address`. `version` names one of our four.
    """

    name: str
    profile: str
    command: tuple[str, ...] | str = ""
    address: tuple[str, int] | None = None
    version: str | None = None

    @classmethod
    def ours(cls, version: str, python: str = sys.executable) -> "ServerUnderTest":
        """One of the four versions in this repository."""
        command = tuple(server_command(version, python=python))
        return cls(version, PROFILES[version], command, version=version)

    @property
    def is_ours(self) -> bool:
        """Whether it is one of the four, so that what their models predict holds for it."""
        return self.version is not None

    @property
    def keeps_launch_contract(self) -> bool:
        """Whether it takes our options, and the process we start is the server itself."""
        return self.is_ours or (isinstance(self.command, str) and OPTIONS in self.command)

    @property
    def takes_a_preparation(self) -> bool:
        """Whether lines of Python can be run before it, because it is a Python program itself."""
        if self.is_ours:
            return True
        if not isinstance(self.command, str) or not self.command:
            return False
        _, (program, *arguments) = _behind_a_wrapper(shlex.split(self.command))
        is_python = PYTHON.fullmatch(program) and arguments and not arguments[0].startswith("-")
        return bool(is_python) and os.name == "posix"

    def require(self, *places: str) -> None:
        """Raise CommandError if the command lacks one of `places`, or has an open quote."""
        command_line = str(self.command)
        for place in places:
            if place not in command_line:
                raise CommandError(f"the command needs {place} in it: {command_line}")
        try:
            shlex.split(command_line)
        except ValueError as error:
            raise CommandError(str(error)) from None

    def command_with(
        self, options: Sequence[str], preparation: Sequence[str] = ()
    ) -> list[str] | str:
        """The command for `launch`. `preparation`: lines of Python to run first, and arguments."""
        if not isinstance(self.command, str):
            python, *rest = [*self.command, *options]
            return [python, "-c", *preparation, *rest] if preparation else [python, *rest]
        command = self.command.replace(OPTIONS, shlex.join(options))
        if not preparation:
            return command
        wrapper, (python, *rest) = _behind_a_wrapper(shlex.split(command))
        return shlex.join([*wrapper, python, "-c", *preparation, *rest])

    def start(
        self,
        *options: str,
        preparation: Sequence[str] = (),
        session: Session | None = None,
        **popen_options,
    ) -> RunningServer:
        """Start a process, or take the one that runs elsewhere. Raises LaunchError."""
        if self.address is not None:
            host, port = self.address
            return RunningServer(self.name, self.profile, host, port, session=session or Session())
        command = self.command_with(options, preparation)
        return launch(self.name, command, profile=self.profile, session=session, **popen_options)

    @contextlib.contextmanager
    def running(
        self, *options: str, preparation: Sequence[str] = (), **popen_options
    ) -> Iterator[RunningServer]:
        """Start it, and stop it at the end of the block. Raises LaunchError.

        One of FAILURES in the block becomes an AssertionError that also tells how the server ended,
        if it did.
        """
        with self.start(*options, preparation=preparation, **popen_options) as server:
            try:
                yield server
            except FAILURES as error:
                # A server's connections end a moment before its process does.
                ending = server.ending(0.5)
                end = f"; {ending.in_short()}" if ending else ""
                raise AssertionError(f"{error}{end}") from None


@functools.cache
def extra_descriptors(server: ServerUnderTest) -> int:
    """How many more descriptors a server needs for itself than ours do. Raises LaunchError.

    A test that leaves a server few descriptors means few for its clients.
    """
    if server.is_ours or not server.keeps_launch_contract or not proc.CAN_SEE:
        return 0
    with server.start() as running:
        return max(0, proc.ProcessView(running.pid).descriptors() - OWN_DESCRIPTORS)


def _behind_a_wrapper(words: list[str]) -> tuple[list[str], list[str]]:
    """Split off a wrapper that ends with `--`, such as the grader's, from the server's command."""
    begin = words.index("--") + 1 if "--" in words[:-1] else 0
    return words[:begin], words[begin:]
