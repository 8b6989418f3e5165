"""Who takes part in the benchmarks: the floors in C, ours and yours."""

import shutil
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.contestants import lineup
from harness import conformance
from harness.launcher import RunningServer, launch
from harness.line_client import reset
from harness.server_under_test import CommandError

NEEDS_CC = pytest.mark.skipif(shutil.which("cc") is None, reason="there is no cc")
NEEDS_EPOLL = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has epoll")
MODELS = ["threads", "select", pytest.param("epoll", marks=NEEDS_EPOLL)]


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, lineup.Contestant]:
    """The floors, compiled once, by model."""
    floors, why_not = lineup.floors(tmp_path_factory.mktemp("floors"))
    assert (why_not is None) == (sys.platform == "linux"), why_not
    return {floor.model: floor for floor in floors}


@pytest.fixture
def start_floor(programs: dict, request: pytest.FixtureRequest) -> Callable[..., RunningServer]:
    """`start_floor("select", **popen_options)`; stopped in the end."""

    def start(model: str, **popen_options) -> RunningServer:
        server = programs[model].start(**popen_options)
        request.addfinalizer(lambda: server.__exit__())
        return server

    return start


# The floors


@NEEDS_CC
@pytest.mark.parametrize("model", MODELS)
def test_a_client_that_does_not_read_loses_nothing_and_hurts_nobody(
    model, start_floor, crowd
) -> None:
    others = crowd(start_floor(model))
    deaf, alice = others.join(["deaf", "alice"])
    deaf.reading = False
    texts = [b"%d %s\n" % (number, b"x" * 1000) for number in range(25_000)]
    deaf.outgoing += b"".join(b"/ping " + text for text in texts)
    unsent = None
    # The server stops reading from it at some point.
    while unsent != len(deaf.outgoing):
        unsent = len(deaf.outgoing)
        for _ in range(20):
            others.barrier([alice])
    assert unsent > 0, "the server takes in more than it can get rid of"
    deaf.reading = True
    answers = b"".join(b"* pong " + text for text in texts)
    others.pump(lambda: len(deaf.incoming) >= len(answers), "answers to all that it said")
    # pytest would explain a difference of 25 MB.
    right = deaf.incoming == answers
    assert right


@NEEDS_CC
@pytest.mark.parametrize("model", MODELS)
def test_the_longest_answers_fit(model, start_floor, crowd) -> None:
    people = crowd(start_floor(model))
    (wordy,) = people.join(["n" * 20])
    number = 100_000
    wordy.outgoing += b"x\n\n" * number
    answers = (b"n" * 20 + b": x\n") * number
    people.pump(lambda: len(wordy.incoming) >= len(answers), "an answer to each letter")
    right = wordy.incoming == answers
    assert right


@NEEDS_CC
@pytest.mark.parametrize("model", MODELS)
def test_an_error_ends_its_own_client_only(model, start_floor, join, connect) -> None:
    server = start_floor(model)
    alice, torn, endless, gone = join(server, "alice", "torn", "endless", "gone")
    torn.send_line("/ping unread")
    reset(torn.socket)
    endless.send_bytes(b"z" * 5000)
    assert endless.read_to_end() == []
    # Its line is read, but to answer it is an error that comes with SIGPIPE.
    server.process.send_signal(signal.SIGSTOP)
    gone.send_line("/ping")
    gone.socket.shutdown(socket.SHUT_WR)
    reset(gone.socket)
    connect(server).close()
    server.process.send_signal(signal.SIGCONT)
    for _ in range(20):
        assert alice.ping() == []
    assert server.stop() == 0


@NEEDS_CC
@pytest.mark.parametrize(
    ("model", "clients"),
    [("threads", 1100), ("select", 900), pytest.param("epoll", 10_000, marks=NEEDS_EPOLL)],
)
def test_a_floor_holds_as_many_as_are_measured(
    model, clients, start_floor, limit_descriptors, crowd
) -> None:
    people = crowd(start_floor(model, preexec_fn=limit_descriptors(clients + 100)))
    for start in range(0, clients, 100):
        people.connect([f"c{number}" for number in range(start, start + 100)])
    for member in people.members:
        member.outgoing += member.name.encode() + b"\n"
    people.barrier(people.members, 60)
    greeted = b"* c_%s: enter your name\n* hello " % model.encode()
    assert all(member.incoming.startswith(greeted) for member in people.members)


@NEEDS_CC
def test_the_floor_of_select_turns_away_what_select_cannot_watch(
    start_floor, limit_descriptors, crowd
) -> None:
    people = crowd(start_floor("select", preexec_fn=limit_descriptors(3000)))
    people.connect(f"c{number}" for number in range(1100))
    people.pump(lambda: all(m.incoming for m in people.members), "a greeting or a refusal", 60)
    refused = [member for member in people.members if member.incoming == b"! server full\n"]
    assert 1100 - 1024 < len(refused) < 1100 - 1000
    people.pump(lambda: all(member.closed for member in refused), "the refused to be closed")
    people.reset(people.members[0])
    for member in people.members[:10]:
        member.outgoing += member.name.encode() + b"\n"
    people.barrier(people.members[:10])


@NEEDS_CC
@pytest.mark.parametrize(
    ("right", "wrong", "rule"),
    [
        ("'\\r'", "'\\n'", "F5"),
        ("#define MAX_LINE 1024", "#define MAX_LINE 1000", "F2"),
        (
            "shutdown(client->fd, SHUT_WR);",
            "sleep(1000);",
            "C4: got ['* bye heidi', 'and no more in 1 s']",
        ),
        ("line = line_end + 1;", 'line = line_end + (memcmp(line, "77\\n", 3) ? 1 : 4);', "D1"),
    ],
)
def test_the_short_check_finds_what_a_floor_does_wrong(
    right, wrong, rule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.conformance.ANSWER_SECONDS", 1.0)
    source = (lineup.HERE / "floor_threads.c").read_text()
    assert source.count(right) >= 1
    broken = tmp_path / "broken.c"
    broken.write_text(source.replace(right, wrong))
    assert lineup._compile(broken, tmp_path / "broken") is None
    with launch("broken", [str(tmp_path / "broken"), "0"], profile="echo") as server:
        assert conformance.check(server, "floor").startswith(rule)


def fake_cc(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """A search path with no other compiler than this shell script."""
    monkeypatch.setenv("PATH", str(folder))
    (folder / "cc").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "cc").chmod(0o755)


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("printf 'In function main:\\nx.c:1: error: none\\n' >&2", "x.c:1: error: none"),
        ("true", "no reason given"),
    ],
)
def test_without_a_compiler_that_works_there_is_one_line_and_no_floor(
    script, reason, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_cc(tmp_path, monkeypatch, f"{script}; exit 1")
    complaint = f"no floors in C: cc cannot compile floor_threads.c: {reason}"
    assert lineup.floors(tmp_path) == ([], complaint)


def test_a_system_without_epoll_has_the_other_two(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_cc(tmp_path, monkeypatch, "exit 0")
    monkeypatch.setattr(sys, "platform", "darwin")
    floors, why_not = lineup.floors(tmp_path)
    assert [floor.name for floor in floors] == ["c_threads", "c_select"]
    assert why_not == "no floor for epoll: only Linux has that"


# Ours, and yours


def test_versions_are_named_short_or_long_and_come_in_their_order() -> None:
    assert lineup.versions_named("v4,v1_threads, v1") == ["v1_threads", "v4_asyncio"]


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (None, "cannot be run (No such file or directory)"),
        ("exit 1", "is no Python that works"),
        ("echo hello", "is no Python that works"),
        ("echo 3", "is no Python that works"),
        ('echo \'{"ok": false, "version": "3.9.2"}\'', "is 3.9.2, 3.11 or newer is needed"),
    ],
)
def test_an_interpreter_of_no_use_is_one_line(script, reason, tmp_path: Path) -> None:
    path = tmp_path / "python"
    if script is not None:
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
    with pytest.raises(CommandError) as caught:
        lineup.ours(["v2_select"], [str(path)])
    assert str(caught.value).startswith(f"--python {path}: {reason}")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("mine", '--server mine: NAME="COMMAND with {port}" is needed'),
        ("=run {port}", '--server =run {port}: NAME="COMMAND with {port}" is needed'),
        ("mine=run", '--server mine=run: NAME="COMMAND with {port}" is needed'),
        ("mine=run 'it {port}", "--server mine: no closing quotation in run 'it {port}"),
    ],
)
def test_a_server_of_yours_that_cannot_be_is_one_line(text: str, complaint: str) -> None:
    with pytest.raises(CommandError) as caught:
        lineup.theirs(text, "echo", [])
    assert str(caught.value) == complaint
