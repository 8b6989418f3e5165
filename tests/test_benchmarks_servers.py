"""Who takes part in the benchmarks: the floors in C, the tutorials' server, ours and yours."""

import shutil
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.servers import contestants
from benchmarks.servers.contestants import ContestantError
from harness import conformance
from harness.launcher import PROFILES, VERSIONS, RunningServer, launch
from harness.line_client import LineClient, reset

NEEDS_CC = pytest.mark.skipif(shutil.which("cc") is None, reason="there is no cc")
NEEDS_EPOLL = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has epoll")
MODELS = ["threads", "select", pytest.param("epoll", marks=NEEDS_EPOLL)]


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, contestants.Contestant]:
    """The floors, compiled once, by model."""
    made, why_not = contestants.floors(tmp_path_factory.mktemp("floors"))
    assert (why_not is None) == (sys.platform == "linux"), why_not
    return {floor.model: floor for floor in made}


@pytest.fixture
def start_floor(programs: dict, request: pytest.FixtureRequest) -> Callable[..., RunningServer]:
    """`start_floor("select", **popen_options)`; stopped in the end, and its status is 0."""

    def start(model: str, **popen_options) -> RunningServer:
        floor = programs[model]
        server = launch(floor.id, floor.command, profile=floor.profile, **popen_options)
        request.addfinalizer(lambda: server.__exit__())
        return server

    return start


# The floors


@NEEDS_CC
@pytest.mark.parametrize("model", MODELS)
def test_a_floor_speaks_what_it_promises_and_ends_with_status_0(model, start_floor) -> None:
    server = start_floor(model)
    assert conformance.check(server, "floor") is None
    assert server.stop() == 0


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
    while unsent != len(deaf.outgoing):  # up to when the server hears it no more
        unsent = len(deaf.outgoing)
        for _ in range(20):
            others.barrier([alice])
    assert unsent > 0, "the server takes in more than it can get rid of"
    deaf.reading = True
    answers = b"".join(b"* pong " + text for text in texts)
    others.pump(lambda: len(deaf.incoming) >= len(answers), "answers to all that it said")
    right = deaf.incoming == answers  # pytest would explain the difference of 25 MB
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
        ("client->leaving ? 0 : end - line", "0", "F5"),
        ("'\\r'", "'\\n'", "F5"),
        ("#define MAX_LINE 1024", "#define MAX_LINE 1000", "F2"),
        ('"* bye %s', '"bye %s', "C4"),
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
    source = (contestants.HERE / "floor_threads.c").read_text()
    assert source.count(right) >= 1
    broken = tmp_path / "broken.c"
    broken.write_text(source.replace(right, wrong))
    assert contestants._compile(broken, tmp_path / "broken") is None
    with launch("broken", [str(tmp_path / "broken"), "0"], profile="echo") as server:
        assert conformance.check(server, "floor").startswith(rule)


def fake_cc(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str | None) -> None:
    """A search path with no other compiler than this shell script, or with none."""
    monkeypatch.setenv("PATH", str(folder))
    if script is not None:
        (folder / "cc").write_text(f"#!/bin/sh\n{script}\n")
        (folder / "cc").chmod(0o755)


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (None, "cc cannot be run (No such file or directory)"),
        (
            "echo 'In function main:' >&2; echo 'x.c:1: error: no headers' >&2; exit 1",
            "cc cannot compile floor_threads.c: x.c:1: error: no headers",
        ),
        ("exit 1", "cc cannot compile floor_threads.c: no reason given"),
    ],
)
def test_without_a_compiler_that_works_there_is_one_line_and_no_floor(
    script, reason, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_cc(tmp_path, monkeypatch, script)
    assert contestants.floors(tmp_path) == ([], f"no floors in C: {reason}")


def test_a_system_without_epoll_has_the_other_two(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_cc(tmp_path, monkeypatch, "exit 0")
    monkeypatch.setattr(sys, "platform", "darwin")
    made, why_not = contestants.floors(tmp_path)
    assert [floor.id for floor in made] == ["c_threads", "c_select"]
    assert why_not == "no floor for epoll: only Linux has that"


# The tutorials' server


def test_the_tutorials_server_keeps_the_protocol() -> None:
    it = contestants.tutorial()
    with launch(it.id, it.command, profile=it.profile) as server:
        assert conformance.check(server, it.kind) is None


def test_in_the_tutorials_server_one_who_does_not_read_stops_who_speaks() -> None:
    """That is what it is here for; ours drop the stuck one after --stall-timeout."""
    it = contestants.tutorial()
    with (
        launch(it.id, it.command, profile=it.profile) as server,
        LineClient(server.address) as stuck,
        LineClient(server.address) as alice,
    ):
        stuck.join("stuck")
        alice.join("alice")
        alice.timeout = 1.0
        with pytest.raises(TimeoutError):
            for _ in range(100):
                alice.send_bytes((b"x" * 1000 + b"\n") * 1000)
        alice.timeout = 10.0
        reset(stuck.socket)
        alice.send_line("the end of a line that was cut off")
        alice.ping()


# Ours, and yours


@pytest.mark.parametrize("version", VERSIONS)
def test_ours_pass_the_short_check(version: str) -> None:
    (one,) = contestants.ours([version], [sys.executable])
    assert (one.id, one.kind, one.profile) == (version, "ours", PROFILES[version])
    with launch(one.id, one.command, profile=one.profile) as server:
        assert conformance.check(server, one.kind) is None


def test_versions_are_named_short_or_long_and_come_in_their_order() -> None:
    assert contestants.versions_named("v4,v1_threads, v1") == ["v1_threads", "v4_asyncio"]


@pytest.mark.parametrize("text", ["v5", "v2,v", ",", "", "select"])
def test_a_version_that_there_is_not_is_one_line(text: str) -> None:
    with pytest.raises(ContestantError, match=r"^no version '.*'; there are v1_threads, [^\n]+$"):
        contestants.versions_named(text)


def test_several_interpreters_are_told_apart() -> None:
    made = contestants.ours(["v2_select", "v4_asyncio"], [sys.executable, sys.executable])
    version = made[0].id.partition("@")[2]
    assert version.startswith(sys.version.split()[0])
    assert [one.id for one in made] == [
        f"v2_select@{version}",
        f"v2_select@{version}#2",
        f"v4_asyncio@{version}",
        f"v4_asyncio@{version}#2",
    ]
    assert made[0].gil in ("on", "off")
    assert made[0].entry["model"] == "select"


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
    with pytest.raises(ContestantError) as caught:
        contestants.ours(["v2_select"], [str(path)])
    assert str(caught.value).startswith(f"--python {path}: {reason}")


def test_a_server_of_yours_takes_part() -> None:
    one = contestants.theirs("mine=go run . -port {port}", "echo", [contestants.tutorial()])
    assert (one.id, one.kind, one.profile, one.model) == ("mine", "theirs", "echo", "")
    assert one.command == "go run . -port {port}"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("mine", '--server mine: NAME="COMMAND with {port}" is needed'),
        ("=run {port}", '--server =run {port}: NAME="COMMAND with {port}" is needed'),
        ("mine=run", '--server mine=run: NAME="COMMAND with {port}" is needed'),
        ("mine=run 'it {port}", "--server mine: no closing quotation in run 'it {port}"),
        ("tutorial=run {port}", "--server tutorial: there is a server of that name already"),
    ],
)
def test_a_server_of_yours_that_cannot_be_is_one_line(text: str, complaint: str) -> None:
    with pytest.raises(ContestantError) as caught:
        contestants.theirs(text, "echo", [contestants.tutorial()])
    assert str(caught.value) == complaint
