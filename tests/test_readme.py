"""What the documents tell a newcomer to type is run here, as it stands, and prints what they show.

document_commands.py says how a ```console block is written. Servers are started as they stand, too,
so the default ports must be free. A command whose program is not installed is left out, and said.
pytest is asked to collect the tests only; what takes minutes, or writes into the repository, has
tests of its own, which TESTED_ELSEWHERE names.
"""

import itertools
import os
import re
import socket
import subprocess
from collections.abc import Iterator

import pytest

from harness.launcher import REPOSITORY, VERSIONS
from harness.waiting import wait_until
from tests import document_commands
from tests.document_commands import CannotTry, Rehearsal, Unlike

DOCUMENTS = [
    *sorted(REPOSITORY.glob("**/README.md")),
    *sorted(REPOSITORY.glob("*.md")),
]
DOCUMENTS = [
    path
    for path in dict.fromkeys(DOCUMENTS)
    if not any(part.startswith(".") for part in path.relative_to(REPOSITORY).parts)
]
LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)[^)]*\)")

each_document = pytest.mark.parametrize(
    "document", DOCUMENTS, ids=lambda path: str(path.relative_to(REPOSITORY))
)


@pytest.fixture(scope="module")
def a_shell() -> None:
    """Skips where there is none to run the documents' commands."""
    if os.name != "posix":
        pytest.skip("the documents' commands are those of a POSIX shell")


@pytest.fixture(scope="module")
def rehearsal(request, tmp_path_factory, a_shell) -> Iterator[Rehearsal]:
    """The commands of all documents that are tested in this run, under way."""
    documents = [
        item.callspec.params["document"]
        for item in request.session.items
        if getattr(item, "originalname", "") == "test_commands_print_what_the_document_shows"
    ]
    with Rehearsal(documents, tmp_path_factory.mktemp("documents")) as under_way:
        yield under_way


@each_document
def test_commands_print_what_the_document_shows(rehearsal, document):
    try:
        not_run = rehearsal.outcome(document)
    except Unlike as error:
        pytest.fail(str(error), pytrace=False)
    except CannotTry as error:
        pytest.skip(str(error))
    if not_run:
        pytest.skip(f"all was run but {'; '.join(not_run)}")


@each_document
def test_links_lead_somewhere(document):
    for target in LINK.findall(document.read_text()):
        assert (document.parent / target).exists(), target


def test_the_readme_has_the_steps_as_commands():
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    commands = [step.command for step in document_commands.steps_in(text)]
    for before, after in itertools.pairwise(VERSIONS):
        assert f"diff -u {before}/server.py {after}/server.py" in commands


# The rehearsal itself


@pytest.fixture
def rehearse(tmp_path, a_shell):
    """Run the commands of a document with this text; returns what was not run."""

    def outcome(text: str) -> list[str]:
        path = tmp_path / "document.md"
        path.write_text(text, encoding="utf-8")
        (tmp_path / "work").mkdir()
        with Rehearsal([path], tmp_path / "work") as under_way:
            return under_way.outcome(path)

    return outcome


def console(*lines: str) -> str:
    return "\n".join(["```console", *lines, "```", ""])


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (("$ echo one", "two"), "'two' is shown"),
        (("$ printf '1\\n2\\n'", "1"), "more came"),
        (("$ printf '1\\n2\\n'", "1", "…", "3"), "'3' is shown"),
        (("$ echo took 5 ms", "took … s"), "'took … s' is shown"),
        (("$ false",), "ended with 1"),
        (("$ diff PROTOCOL.md PROTOCOL.md", "…"), "ended with 0"),
        (("one",), "must begin with"),
    ],
)
def test_what_a_document_shows_wrongly_is_said(rehearse, lines, said):
    with pytest.raises(Unlike, match=re.escape(said)):
        rehearse(console(*lines))


def test_what_differs_from_run_to_run_is_left_open(rehearse):
    text = console("$ printf 'a\\nb\\nc 17 ms\\n'", "a", "…", "c … ms")
    assert rehearse(text + console("$ printf 'a\\n'", "…", "a", "…")) == []


@pytest.mark.parametrize(
    ("command", "missing"),
    [
        ("no-such-tool -x", "no-such-tool"),
        ("echo 'a | b' | no-such-tool", "no-such-tool"),
        ("timeout 2 no-such-tool -p 5; true", "no-such-tool"),
        ("X=1 no-such-tool > file", "no-such-tool"),
        ("for x in 1 2; do no-such-tool $x; done", "no-such-tool"),
        ("(sleep 0.1; echo hi) | cat > file", None),
        ("python3 -c 'print(1)'", None),
    ],
)
def test_a_program_that_is_not_there_is_found(command, missing):
    assert document_commands.missing_program(command) == missing


def test_a_command_without_its_program_is_left_out_and_said(rehearse):
    assert rehearse(console("$ no-such-tool", "its output", "$ echo hi", "hi")) == [
        "no-such-tool is not installed: no-such-tool"
    ]


def test_a_server_serves_all_the_commands_below_it(rehearse, unused_port):
    server = f"$ python3 v2_select/server.py --port {unused_port}"
    first = f"v2_select listening on 127.0.0.1:{unused_port}"
    client = f"$ printf '/ping hi\\n' | python3 client.py 127.0.0.1:{unused_port} --name"
    text = console(server, first)
    text += console(f"{client} alice", "…", "* hello alice", "* pong hi")
    text += console(server, first)
    text += console("$ kill -0 PID")
    text += console(f"$ python3 client.py 127.0.0.1:{unused_port} --name bob")
    assert rehearse(text) == []


def test_nothing_stays_in_the_background(rehearse, tmp_path):
    rehearse(console(f"$ sleep 60 & echo $! > {tmp_path}/pid"))
    pid = int((tmp_path / "pid").read_text())
    wait_until(lambda: not is_running(pid), "the end of what was left behind", 5)


def is_running(pid: int) -> bool:
    """Whether a process exists, and has not ended already."""
    told = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True)
    return told.stdout.strip()[:1] not in ("", "Z")


def test_a_servers_log_is_compared_when_it_has_ended(rehearse, unused_port):
    server = f"$ python3 v2_select/server.py --port {unused_port}"
    first = f"v2_select listening on 127.0.0.1:{unused_port}"
    with pytest.raises(Unlike, match="zoe joined' is shown, and not in its log"):
        rehearse(console(server, first, "INFO:root:zoe joined"))


def test_a_server_that_does_not_start_is_said(rehearse):
    with pytest.raises(Unlike, match="and came as ''"):
        rehearse(console("$ python3 v2_select/server.py --port x", "v2_select listening on …"))


def test_a_taken_port_is_no_failure(rehearse, unused_port):
    with socket.create_server(("127.0.0.1", unused_port)), pytest.raises(CannotTry, match="taken"):
        rehearse(console(f"$ python3 v2_select/server.py --port {unused_port}"))


@pytest.fixture
def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_what_takes_minutes_is_tested_elsewhere():
    for command in ("python3 -m benchmarks --quick", "python3 -m benchmarks report A.json"):
        assert document_commands.tested_elsewhere(command) == "tests/test_benchmarks_commands.py"
    for command in ("python3 -m benchmarks demo", "python3 -m benchmarks --only idle --smoke"):
        assert document_commands.tested_elsewhere(command) is None
    assert document_commands.tested_elsewhere("python3 -m tests.zoo run eof-ignored") is None
    assert document_commands.tested_elsewhere("python3 -m tests.zoo matrix") is not None
    assert document_commands.tested_elsewhere("python3 -m tests.limits --only disk") is None
    assert document_commands.tested_elsewhere("python3 -m tests.limits") is not None


def test_pytest_collects_only_and_smoke_runs_write_elsewhere(tmp_path):
    command = ".venv/bin/python -m pytest tests/test_turns.py"
    assert document_commands.how_to_run(command, tmp_path).endswith("--collect-only -q")
    command = "python3 -m benchmarks --smoke --only idle"
    assert document_commands.how_to_run(command, tmp_path).endswith(f"--out {tmp_path}")
