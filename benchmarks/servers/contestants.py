"""Who takes part: the four versions, the floors in C, the tutorials' server, servers of yours."""

import json
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from harness.launcher import PROFILES, VERSIONS, server_command

FLOORS = ("threads", "select", "epoll")
HERE = Path(__file__).resolve().parent
PROBE = """\
import json, platform, sys
free = not getattr(sys, "_is_gil_enabled", lambda: True)()
print(json.dumps({"version": platform.python_version() + ("t" if "t" in getattr(sys, "abiflags", "")
 else ""), "ok": sys.version_info >= (3, 11), "gil": "off" if free else "on",
 "build": platform.python_implementation() + " " + platform.python_version()
 + " (" + platform.python_compiler() + ")"}))
"""


class ContestantError(Exception):
    """A server that was asked for cannot take part: one line that says what to do."""


@dataclass(frozen=True)
class Contestant:
    """One server to be measured."""

    id: str
    label: str
    profile: str  # "echo" or "chat"
    kind: str  # "ours", "floor", "tutorial" or "theirs"
    command: list[str] | str  # as `launcher.launch` takes it
    model: str = ""  # "threads", "select", "broadcast", "asyncio", "epoll" or, unknown, ""
    version: str | None = None  # one of our four
    python: str | None = None
    python_build: str | None = None
    gil: str | None = None  # "on", "off", or None for what is no Python

    @property
    def entry(self) -> dict:
        """This server in the result file."""
        return asdict(self)


def versions_named(text: str) -> list[str]:
    """Full names for `v2,v4` or `v2_select`."""
    asked = [part.strip() for part in text.split(",") if part.strip()]
    chosen = set()
    for name in asked or [text]:
        found = {version for version in VERSIONS if name in (version, version.split("_")[0])}
        if not found:
            raise ContestantError(f"no version {name!r}; there are {', '.join(VERSIONS)}")
        chosen |= found
    return [version for version in VERSIONS if version in chosen]


def ours(versions: Sequence[str], pythons: Sequence[str]) -> list[Contestant]:
    """Each version under each interpreter. With several of these, their version is in the id."""
    builds = [_interpreter(path) for path in pythons]
    made = []
    for version in versions:
        for index, (path, build) in enumerate(zip(pythons, builds, strict=True)):
            name = version
            if len(pythons) > 1:
                same = [b["version"] for b in builds[:index]].count(build["version"])
                name += f"@{build['version']}" + (f"#{same + 1}" if same else "")
            made.append(
                Contestant(
                    id=name,
                    label=name,
                    profile=PROFILES[version],
                    kind="ours",
                    command=server_command(version, python=path),
                    model=version.split("_")[1],
                    version=version,
                    python=path,
                    python_build=build["build"],
                    gil=build["gil"],
                )
            )
    return made


def _interpreter(path: str) -> dict:
    """What an interpreter says of itself."""
    try:
        command = [path, "-c", PROBE]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
        build = json.loads(done.stdout)
        usable, version = build["ok"], build["version"]
    except OSError as error:
        raise ContestantError(
            f"--python {path}: cannot be run ({error.strerror}); give the path of a Python 3.11+"
        ) from None
    except (subprocess.SubprocessError, ValueError, TypeError, KeyError):
        raise ContestantError(f"--python {path}: is no Python that works") from None
    if not usable:
        raise ContestantError(f"--python {path}: is {version}, 3.11 or newer is needed")
    return build


def floors(folder: Path) -> tuple[list[Contestant], str | None]:
    """The floors, compiled into `folder`, and one line on what is missing of them, and why."""
    here = [model for model in FLOORS if model != "epoll" or sys.platform == "linux"]
    made = []
    for model in here:
        program = folder / f"floor_{model}"
        if complaint := _compile(HERE / f"floor_{model}.c", program):
            return [], f"no floors in C: {complaint}"
        made.append(
            Contestant(
                id=f"c_{model}",
                label=f"C {model}",
                profile="echo",
                kind="floor",
                command=[str(program), "0"],
                model=model,
            )
        )
    return made, None if len(here) == len(FLOORS) else "no floor for epoll: only Linux has that"


def _compile(source: Path, program: Path) -> str | None:
    """Compile one file; why that could not be done, in one line, or None."""
    command = ["cc", "-O2", "-pthread", "-o", str(program), str(source)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=60)
    except OSError as error:
        return f"cc cannot be run ({error.strerror})"
    except subprocess.TimeoutExpired:
        return f"cc had not compiled {source.name} after 60 s"
    if done.returncode == 0:
        return None
    said = done.stderr.strip().splitlines() or ["no reason given"]
    errors = [line for line in said if "error" in line]
    return f"cc cannot compile {source.name}: {(errors or said)[0].strip()}"


def tutorial(python: str = sys.executable) -> Contestant:
    """The server that most tutorials write."""
    build = _interpreter(python)
    return Contestant(
        id="tutorial",
        label="tutorial",
        profile="chat",
        kind="tutorial",
        command=[python, str(HERE / "tutorial_server.py"), "--port", "0"],
        model="asyncio",
        python=python,
        python_build=build["build"],
        gil=build["gil"],
    )


def theirs(text: str, profile: str, others: Sequence[Contestant]) -> Contestant:
    """Somebody's own server, from NAME=CMD."""
    name, equals, command = (part.strip() for part in text.partition("="))
    if not (name and equals and "{port}" in command):
        raise ContestantError(f'--server {text}: NAME="COMMAND with {{port}}" is needed')
    if name in [other.id for other in others]:
        raise ContestantError(f"--server {name}: there is a server of that name already")
    try:
        shlex.split(command)
    except ValueError as error:
        raise ContestantError(f"--server {name}: {str(error).lower()} in {command}") from None
    return Contestant(id=name, label=name, profile=profile, kind="theirs", command=command)
