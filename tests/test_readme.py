"""What the documents tell a newcomer to type is run here, as it stands, and prints what they show.

A ```console block holds commands (`$ …`) and their output. A line `…` stands for output that is not
shown. Servers are started as they stand, too, so the default ports must be free.
"""

import contextlib
import itertools
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
DOCUMENTS = [*sorted(REPOSITORY.glob("**/README.md")), REPOSITORY / "PROTOCOL.md"]
DOCUMENTS = [path for path in DOCUMENTS if ".venv" not in str(path.relative_to(REPOSITORY))]
LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)[^)]*\)")
SECONDS = 60


def commands_in(document: Path) -> list[tuple[str, list[str]]]:
    """Return (command, lines of output shown) for each command of the ```console blocks."""
    found: list[tuple[str, list[str]]] = []
    for block in re.findall(r"```console\n(.*?)```", document.read_text(), flags=re.DOTALL):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append((line[2:], []))
            else:
                found[-1][1].append(line)
    return found


def is_server(command: str) -> bool:
    return re.fullmatch(r"python3 v\d_\w+/server\.py.*", command) is not None


def how_to_run(command: str, tmp_path: Path) -> str | None:
    """Return what to run for a command, or None: it takes minutes, so that make or CI runs it."""
    if command in ("make test", "make compare"):
        return f"make -n {command.split()[1]}"
    if command.startswith("python3 -m benchmarks") and not command.endswith("demo"):
        return None
    if command.startswith(".venv/bin/python -m pytest"):
        return None
    if re.fullmatch(r"python3 client\.py \S+ --name \w+", command):
        return f"printf '/quit\\n' | {command}"
    return command


@pytest.fixture
def servers() -> Iterator[list[subprocess.Popen]]:
    """Servers that a document has started; each is stopped with one Ctrl-C, as it says."""
    running: list[subprocess.Popen] = []
    yield running
    for process in running:
        process.send_signal(signal.SIGINT)
    for process in running:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(SECONDS)
        process.kill()
        process.stdout.close()
        assert process.wait() == 0


def start(command: str) -> subprocess.Popen:
    port = 8000 + int(re.search(r"v(\d)_", command)[1])
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            pytest.skip(f"port {port} is taken: stop what listens there to have this tested")
    return subprocess.Popen(
        command.replace("python3", sys.executable, 1).split(),
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_commands_print_what_the_document_shows(document, servers, tmp_path):
    without_nc: list[str] = []
    for command, shown in commands_in(document):
        if is_server(command):
            servers.append(start(command))
            assert [servers[-1].stdout.readline().rstrip("\n")] == shown
            continue
        line = how_to_run(command, tmp_path)
        if line is None:
            continue
        if "nc -N" in line and shutil.which("nc") is None:
            without_nc.append(command)
            continue
        finished = subprocess.run(
            line.replace("python3", sys.executable),
            shell=True,
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SECONDS,
        )
        assert finished.returncode == (1 if line.startswith("diff -u") else 0), (line, finished)
        if shown and "…" not in shown:
            assert finished.stdout.splitlines() == shown, line
    if without_nc:
        pytest.skip(f"nc is not installed, so all was run but {without_nc}")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_links_lead_somewhere(document):
    for target in LINK.findall(document.read_text()):
        assert (document.parent / target).exists(), target


def test_the_readme_has_the_steps_as_commands():
    commands = [command for command, _ in commands_in(REPOSITORY / "README.md")]
    versions = ["v1_threads", "v2_select", "v3_broadcast", "v4_asyncio"]
    for before, after in itertools.pairwise(versions):
        assert f"diff -u {before}/server.py {after}/server.py" in commands
