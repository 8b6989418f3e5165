"""What the documents tell a newcomer to type is run here, as it stands, and prints what they show.

document_commands.py says how a ```console block is written. Servers are started as they stand, too,
so the default ports must be free. A command whose program is not installed is left out, and the
test says so. pytest only collects the tests. Commands that take minutes or write into the
repository have tests of their own, which TESTED_ELSEWHERE names.
"""

import itertools
import os
import re
import socket
import subprocess
from collections.abc import Callable, Iterator

import pytest

from harness.launcher import REPOSITORY, VERSIONS, free_port
from harness.waiting import wait_until
from tests.documents import document_commands
from tests.documents.all_documents import DOCUMENTS, for_each, text_of
from tests.documents.document_commands import CannotTry, Rehearsal, Unlike

WITH_COMMANDS = [document for document in DOCUMENTS if "```console" in text_of(document)]


@pytest.fixture(scope="module")
def posix_shell() -> None:
    """Skips the test where there is no shell to run the documents' commands."""
    if os.name != "posix":
        pytest.skip("the documents' commands are those of a POSIX shell")


@pytest.fixture(scope="module")
def rehearsal(request, tmp_path_factory, posix_shell) -> Iterator[Rehearsal]:
    """The commands of all documents that are tested in this run, under way."""
    documents = [
        item.callspec.params["document"]
        for item in request.session.items
        if getattr(item, "function", None) is test_commands_print_what_the_document_shows
    ]
    with Rehearsal(documents, tmp_path_factory.mktemp("documents")) as rehearsal:
        yield rehearsal


@for_each(WITH_COMMANDS)
def test_commands_print_what_the_document_shows(rehearsal, document):
    try:
        not_run = rehearsal.outcome(document)
    except Unlike as error:
        raise pytest.fail.Exception(str(error), pytrace=False) from None
    except CannotTry as error:
        pytest.skip(str(error))
    if not_run:
        pytest.skip(f"all was run but {'; '.join(not_run)}")


def test_the_readme_has_the_steps_as_commands():
    steps = document_commands.steps_in(text_of(REPOSITORY / "README.md"))
    commands = [step.command for step in steps]
    for before, after in itertools.pairwise(VERSIONS):
        assert f"diff -u {before}/server.py {after}/server.py" in commands


# ---- The rehearsal itself ----


@pytest.fixture
def rehearse(tmp_path, posix_shell) -> Callable[[str], list[str]]:
    """Run the commands of a document with this text; returns what was not run."""

    def outcome(text: str) -> list[str]:
        path = tmp_path / "document.md"
        path.write_text(text, encoding="utf-8")
        (tmp_path / "work").mkdir()
        with Rehearsal([path], tmp_path / "work") as rehearsal:
            return rehearsal.outcome(path)

    return outcome


def console(*lines: str) -> str:
    return "\n".join(["```console", *lines, "```", ""])


PORT = free_port()
START_V2 = (
    f"$ python3 v2_select/server.py --port {PORT}",
    f"v2_select listening on 127.0.0.1:{PORT}",
)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (("$ echo one", "two"), "'two' is shown"),
        (("$ printf '1\\n2\\n'", "1"), "more came"),
        (("$ printf '1\\n2\\n'", "1", "…", "3"), "'3' is shown"),
        (("$ echo took 5 ms", "took … s"), "'took … s' is shown"),
        (("$ false",), "ended with 1"),
        (("$ no-such-tool",), "not found"),
        (("$ diff PROTOCOL.md PROTOCOL.md", "…"), "ended with 0"),
        (("one",), "must begin with"),
    ],
)
def test_what_a_document_shows_wrongly_is_named(rehearse, lines, message):
    with pytest.raises(Unlike, match=re.escape(message)):
        rehearse(console(*lines))


def test_what_differs_from_run_to_run_is_left_open(rehearse):
    text = console("$ printf 'a\\nb\\nd 17 ms\\n'", "a", "…", "d … ms")
    assert rehearse(text + console("$ printf 'a\\n'", "…", "a", "…")) == []


def test_a_command_without_its_program_is_left_out_and_named(rehearse, monkeypatch):
    monkeypatch.setattr(document_commands.shutil, "which", lambda program: None)
    assert rehearse(console("$ echo hi | ss -t", "its output", "$ echo hi", "hi")) == [
        "ss is not installed: echo hi | ss -t"
    ]


def test_a_server_serves_all_the_commands_below_it(rehearse):
    client = f"python3 client.py 127.0.0.1:{PORT} --name"
    alice = (f"$ printf '/ping hi\\n' | {client} alice", "…", "* hello alice", "* pong hi")
    text = console(*START_V2) + console(*alice)
    text += console(*START_V2) + console("$ kill -0 PID", f"$ {client} bob")
    assert rehearse(text) == []


def test_nothing_stays_in_the_background(rehearse, tmp_path):
    rehearse(console(f"$ sleep 60 & echo $! > {tmp_path}/pid"))
    pid = int((tmp_path / "pid").read_text())
    wait_until(lambda: not is_running(pid), "the end of what was left behind", 5)


def is_running(pid: int) -> bool:
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True)
    return state.stdout.strip()[:1] not in ("", "Z")


def test_a_servers_log_is_compared_when_it_has_ended(rehearse):
    with pytest.raises(Unlike, match="zoe joined' is shown, and not in its log"):
        rehearse(console(*START_V2, "INFO:root:zoe joined"))


def test_a_server_that_does_not_start_is_named(rehearse):
    with pytest.raises(Unlike, match="and came as ''"):
        rehearse(console("$ python3 v2_select/server.py --port x", "v2_select listening on …"))


def test_a_taken_port_is_no_failure(rehearse):
    with socket.create_server(("127.0.0.1", PORT)), pytest.raises(CannotTry, match="taken"):
        rehearse(console(*START_V2))


@pytest.mark.parametrize(
    ("command", "elsewhere"),
    [
        ("python3 -m benchmarks --quick", "tests/benchmarks/test_commands.py"),
        ("python3 -m benchmarks report A.json", "tests/benchmarks/test_commands.py"),
        ("python3 -m benchmarks demo", None),
        ("python3 -m benchmarks --only idle --smoke", None),
        ("python3 -m tests.zoo run eof-ignored", None),
        ("python3 -m tests.zoo matrix", "tests/tools/test_zoo.py"),
        ("python3 -m tests.limits --only disk", None),
        ("python3 -m tests.limits", "tests/suite/test_limits_lab.py"),
    ],
)
def test_what_takes_minutes_is_tested_elsewhere(command, elsewhere):
    assert document_commands.tested_elsewhere(command) == elsewhere


def test_pytest_collects_only_and_smoke_runs_write_elsewhere(tmp_path):
    command = ".venv/bin/python -m pytest tests/suite/test_turns.py"
    assert document_commands.how_to_run(command, tmp_path).endswith("--collect-only -q")
    command = "python3 -m benchmarks --smoke --only idle"
    assert document_commands.how_to_run(command, tmp_path).endswith(f"--out {tmp_path}")
