"""Which servers take part: the four versions, floors in C, the tutorial server, small.py, yours."""

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.launcher import PROFILES, REPOSITORY, VERSIONS, server_command
from harness.server_under_test import PORT, CommandError, ServerUnderTest

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


@dataclass(frozen=True)
class Interpreter:
    """A Python that servers are run by, as it describes itself. `gil` is "on" or "off"."""

    path: str
    version: str
    build: str
    gil: str


@dataclass(frozen=True, kw_only=True)
class Contestant(ServerUnderTest):
    """A server to be measured, and what a result file says about it.

    `kind` is one of KINDS in benchmarks/result/view.py; `model` "threads", "select", "broadcast",
    "asyncio", "epoll" or, where it is unknown, "".
    """

    label: str
    kind: str
    model: str = ""
    interpreter: Interpreter | None = None

    @property
    def entry(self) -> dict:
        """This server in the result file."""
        return {
            "id": self.name,
            "label": self.label,
            "profile": self.profile,
            "kind": self.kind,
            "command": self.command if isinstance(self.command, str) else list(self.command),
            "model": self.model,
            "version": self.version,
            "python": self.interpreter and self.interpreter.path,
            "python_build": self.interpreter and self.interpreter.build,
            "gil": self.interpreter and self.interpreter.gil,
        }


def versions_named(text: str | None) -> list[str]:
    """Full names for `v2,v4` or `v2_select`; without them all four. Raises CommandError."""
    if text is None:
        return list(VERSIONS)
    names = [part.strip() for part in text.split(",") if part.strip()]
    chosen = set()
    for name in names or [text]:
        meant = {version for version in VERSIONS if name in (version, version.split("_")[0])}
        if not meant:
            raise CommandError(f"--versions: no version {name!r}; there are {', '.join(VERSIONS)}")
        chosen |= meant
    return [version for version in VERSIONS if version in chosen]


def ours(versions: Sequence[str], pythons: Sequence[str]) -> list[Contestant]:
    """Each version under each interpreter. With several of these, their version is in the name."""
    interpreters = [_interpreter(path) for path in pythons]
    contestants = []
    for version in versions:
        for index, interpreter in enumerate(interpreters):
            name = version
            if len(pythons) > 1:
                same = [one.version for one in interpreters[:index]].count(interpreter.version)
                name += f"@{interpreter.version}" + (f"#{same + 1}" if same else "")
            one = Contestant(
                name,
                PROFILES[version],
                tuple(server_command(version, python=interpreter.path)),
                version=version,
                label=name,
                kind="ours",
                model=version.split("_")[1],
                interpreter=interpreter,
            )
            contestants.append(one)
    return contestants


def _interpreter(path: str) -> Interpreter:
    try:
        command = [path, "-c", PROBE]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
        answer = json.loads(done.stdout)
        usable, version = answer["ok"], answer["version"]
    except OSError as error:
        raise CommandError(
            f"--python {path}: cannot be run ({error.strerror}); give the path of a Python 3.11+"
        ) from None
    except (subprocess.SubprocessError, ValueError, TypeError, KeyError):
        raise CommandError(f"--python {path}: is no Python that works") from None
    if not usable:
        raise CommandError(f"--python {path}: is {version}, 3.11 or newer is needed")
    return Interpreter(path, version, answer["build"], answer["gil"])


def floors(folder: Path) -> tuple[list[Contestant], str | None]:
    """The floors, compiled into `folder`, and one line on what is missing of them, and why."""
    available = [model for model in FLOORS if model != "epoll" or sys.platform == "linux"]
    contestants = []
    for model in available:
        program = folder / f"floor_{model}"
        if complaint := _compile(HERE / f"floor_{model}.c", program):
            return [], f"no floors in C: {complaint}"
        name, label, command = f"c_{model}", f"C {model}", (str(program), "0")
        floor = Contestant(name, "echo", command, label=label, kind="floor", model=model)
        contestants.append(floor)
    missing = len(available) < len(FLOORS)
    return contestants, "no floor for epoll: only Linux has that" if missing else None


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
    lines = done.stderr.strip().splitlines() or ["no reason given"]
    # The compiler's first line may say where it is, not what is wrong there.
    errors = [line for line in lines if re.search(r":\d+:.*\berror: ", line)]
    return f"cc cannot compile {source.name}: {(errors or lines)[0].strip()}"


def tutorial(python: str = sys.executable) -> Contestant:
    return Contestant(
        "tutorial",
        "chat",
        (python, str(HERE / "tutorial_server.py"), "--port", "0"),
        label="tutorial server",
        kind="tutorial",
        model="asyncio",
        interpreter=_interpreter(python),
    )


def small_on_loops(python: str) -> tuple[list[Contestant], str | None]:
    """v4's small.py on asyncio's own loop and on uvloop's, and a line on what is missing, if so."""
    program = str(REPOSITORY / "v4_asyncio" / "small.py")
    interpreter = _interpreter(python)
    contestants = [
        Contestant(
            f"small_{loop}",
            "chat",
            (python, *starter, program, "--port", "0"),
            label=f"small.py, {loop}",
            kind="small",
            model="asyncio",
            interpreter=interpreter,
        )
        for loop, starter in (("asyncio", ()), ("uvloop", (str(HERE / "on_uvloop.py"),)))
    ]
    found = subprocess.run([python, "-c", "import uvloop"], capture_output=True, timeout=20)
    if found.returncode == 0:
        return contestants, None
    advice = f"{python} has none ({python} -m pip install uvloop, in a virtual environment)"
    return contestants[:1], f"small.py on uvloop was left out: {advice}"


def theirs(text: str, profile: str, others: Sequence[Contestant]) -> Contestant:
    """Somebody's own server, from NAME=CMD. Raises CommandError."""
    name, equals, command = (part.strip() for part in text.partition("="))
    if not (name and equals and PORT in command):
        raise CommandError(f'--server {text}: NAME="COMMAND with {PORT}" is needed')
    if name in [other.name for other in others]:
        raise CommandError(f"--server {name}: there is a server of that name already")
    contestant = Contestant(name, profile, command, label=name, kind="theirs")
    try:
        contestant.require(PORT)
    except CommandError as error:
        raise CommandError(f"--server {name}: {str(error).lower()} in {command}") from None
    return contestant
