"""Every command of the benchmarks at a tiny size; bad servers, bad files, and how a run may end.

No timing is asserted. Misbehaving servers are our own v3, run by BROKEN below.
"""

import contextlib
import json
import os
import pty
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.arithmetic.results import View, load_result, write_result
from benchmarks.experiments import module
from benchmarks.measuring import machine
from benchmarks.measuring.runner import REPEATS_LIMITS, Plan, Run
from benchmarks.servers.contestants import Contestant
from harness import launcher
from harness.launcher import REPOSITORY
from tests.made_up_results import make_result
from tests.processes import BENCHMARKS, Marked, benchmarks

# The experiment with one point that takes least, and one with several points.
SMALL = ["--smoke", "--only", "rush", "--no-floors"]
SEVERAL = ["--smoke", "--only", "churn", "--no-floors"]
POINTS = len(module("churn").points(module("churn").SIZES["smoke"]))
# Runs a server.py that misbehaves once it has answered some of the load generator's own pings. The
# conformance check has no such pings, and finds nothing.
BROKEN = """
import os, runpy, socket, sys, time
how, script, port = sys.argv[1:4]
sys.argv = [script, "--port", port]
real, sent = socket.socket, 0
class Misbehaving(real):
    def send(self, data, *flags):
        global sent
        if b"abcdefgh" in bytes(data):
            sent += 1
            if sent > 20 and how == "dies":
                print("MemoryError: made \\x1b[2J up", file=sys.stderr, flush=True)
                os._exit(3)
            if sent > 20 and how == "hangs":
                time.sleep(600)
        return super().send(data, *flags)
socket.socket = Misbehaving
runpy.run_path(script, run_name="__main__")
"""


@pytest.fixture
def broken(tmp_path: Path):
    """Returns the command line of a server that misbehaves in the given way."""
    script = tmp_path / "broken.py"
    script.write_text(BROKEN)

    def command(how: str) -> str:
        server = REPOSITORY / "v3_broadcast" / "server.py"
        return f"{shlex.join([sys.executable, str(script), how, str(server)])} {{port}}"

    return command


# What is the machine's affair, and not the servers'.
MACHINES_AFFAIR = {"client-limited": "ok", "server-limited": "ok", "disturbed": "ok"}


def statuses(result: dict) -> set[tuple[str, str]]:
    """(server, status) of all trials."""
    return {
        (trial["server"], MACHINES_AFFAIR.get(trial["status"], trial["status"]))
        for trial in result["trials"]
    }


# The run


def test_only_some_versions_more_trials_and_an_older_result_kept(tmp_path: Path) -> None:
    out = tmp_path / "new" / "folder"
    arguments = [*SEVERAL, "--versions", "v2,v4_asyncio", "--trials", 2, "--out", out]
    assert benchmarks(*arguments)[0] == 0
    first = load_result(out / "result.json")
    order = [(trial["round"], trial["server"]) for trial in first["trials"]]
    assert len(order) == 4 * POINTS > 4
    order = [place for number, place in enumerate(order) if number // 2 % POINTS == 0]
    two, four = "v2_select", "v4_asyncio"
    assert order == [(0, two), (0, four), (1, four), (1, two)]
    assert benchmarks(*SMALL, "--versions", "v2", "--out", out)[0] == 0
    kept = [path for path in out.glob("result-*.json") if load_result(path) == first]
    assert len(kept) == 1


def test_a_result_of_the_first_edition_is_kept_too_and_nothing_else_is_overwritten(
    tmp_path: Path,
) -> None:
    path = tmp_path / "result.json"
    older = {"schema": "concurrency-study-benchmark/1", "started": "2026-01-02T03:04:05Z"}
    path.write_text(json.dumps(older))
    assert benchmarks(*SMALL, "--versions", "v2", "--out", tmp_path)[0] == 0
    assert json.loads((tmp_path / "result-2026-01-02T030405Z.json").read_text()) == older
    path.write_text("my own notes")
    status, output, errors = benchmarks(*SMALL, "--versions", "v2", "--out", tmp_path)
    assert (status, output, len(errors.splitlines())) == (1, "", 1)
    assert "will not overwrite" in errors
    assert path.read_text() == "my own notes"


def test_without_a_compiler_one_line_says_that_the_floors_are_missing(tmp_path: Path) -> None:
    arguments = ["--smoke", "--only", "churn", "--versions", "v2", "--out", tmp_path]
    status, output, _ = benchmarks(*arguments, environment={"PATH": str(tmp_path)})
    assert status == 0
    (line,) = [line for line in output.splitlines() if "floors" in line]
    assert line.startswith("no floors in C: cc cannot be run")
    result = load_result(tmp_path / "result.json")
    assert result["missing"] == [line]
    assert [entry["id"] for entry in result["servers"]] == ["v2_select", "tutorial"]


def test_several_interpreters_are_compared(tmp_path: Path) -> None:
    twice = ["--python", sys.executable, "--python", sys.executable]
    assert benchmarks(*SMALL, "--versions", "v2", *twice, "--out", tmp_path)[0] == 0
    version = sys.version.split()[0]
    first, second = load_result(tmp_path / "result.json")["servers"]
    assert (first["id"], second["id"]) == (f"v2_select@{version}", f"v2_select@{version}#2")
    assert first["version"] == second["version"] == "v2_select"


def test_somebodys_own_server_stands_beside_the_four(tmp_path: Path) -> None:
    theirs = shlex.join([sys.executable, str(REPOSITORY / "v4_asyncio" / "server.py")])
    own = f"mine={theirs} --port {{port}}"
    arguments = [*SMALL, "--versions", "v3", "--server", own, "--profile", "chat"]
    status, output, _ = benchmarks(*arguments, "--out", tmp_path)
    assert status == 0
    result = load_result(tmp_path / "result.json")
    assert statuses(result) == {("v3_broadcast", "ok"), ("mine", "ok")}
    assert (result["servers"][1]["kind"], result["servers"][1]["version"]) == ("theirs", None)
    assert "mine" in output


# The other commands


def test_aa_counts_the_differences_that_are_none(tmp_path: Path) -> None:
    arguments = ["--smoke", "--only", "rush", "--trials", 3, "--out", tmp_path]
    status, output, _ = benchmarks("aa", *arguments, "--versions", "v2")
    assert status == 0
    assert "v2_select against itself: differences shown that are none" in output
    twins = load_result(tmp_path / "aa-smoke.json")
    assert twins["kind"] == "aa"
    assert [entry["id"] for entry in twins["servers"]] == ["v2_select A", "v2_select B"]
    seeds = {(trial["round"], trial["seed"]) for trial in twins["trials"]}
    assert (len(twins["trials"]), len(seeds)) == (6, 3)
    (row,) = [line.split() for line in output.splitlines() if line.startswith("in all")]
    assert row[-1] == "-" or row[-1].endswith("%")


def test_help_names_every_command_and_option() -> None:
    status, output, _ = benchmarks("--help")
    assert status == 0
    commands = ("demo", "aa", "compare", "report")
    options = ("only", "server", "python", "quick", "resume", "no-floors", "server-cores", "trials")
    for word in (*commands, *(f"--{option}" for option in options)):
        assert word in output


# Bad servers


def test_a_server_that_breaks_the_protocol_is_not_measured(tmp_path: Path) -> None:
    echo = shlex.join([sys.executable, str(REPOSITORY / "v2_select" / "server.py")])
    own = f"echoing={echo} --port {{port}}"
    arguments = [*SMALL, "--versions", "v3", "--server", own, "--profile", "chat"]
    status, output, _ = benchmarks(*arguments, "--out", tmp_path)
    assert status == 0
    assert statuses(load_result(tmp_path / "result.json")) == {("v3_broadcast", "ok")}
    assert "echoing FAILED the conformance check and was not measured: D2: " in output


def test_a_server_that_dies_is_an_error_row_and_the_rest_goes_on(broken, tmp_path: Path) -> None:
    own = f"mortal={broken('dies')}"
    arguments = ["--smoke", "--only", "ping,churn", "--versions", "v3", "--no-floors"]
    status, output, _ = benchmarks(*arguments, "--server", own, "--out", tmp_path)
    assert status == 0
    result = load_result(tmp_path / "result.json")
    pings = {**result, "trials": [t for t in result["trials"] if t["experiment"] == "ping"]}
    assert statuses(pings) == {("v3_broadcast", "ok"), ("mortal", "error")}
    assert ("mortal", "ok") in statuses(result)  # at churn
    reasons = {trial["reason"] for trial in result["trials"] if trial["status"] == "error"}
    said = "the server ended with status 3: MemoryError: made ?[2J up"
    assert any(reason.endswith(said) for reason in reasons)
    assert "\x1b" not in output


def run_here(among: list[Contestant], experiment: str, folder: Path, **options) -> dict:
    plan = Plan(among, [experiment], "smoke", rounds=1, **options)
    run = Run(plan, "run", folder / "result.json", report=lambda text: None)
    run.everything(on_experiment=lambda name: None)
    return load_result(run.path)


def ours(version: str, *options: str, name: str = "") -> Contestant:
    command = launcher.server_command(version, *options)
    profile = launcher.PROFILES[version]
    return Contestant(name or version, name or version, profile, "ours", command, version=version)


def test_a_server_that_hangs_is_an_error_row(
    broken, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launcher, "STOP_SECONDS", 0.2)
    hanging = Contestant("hanging", "hanging", "chat", "theirs", broken("hangs"))
    result = run_here([hanging, ours("v3_broadcast")], "ping", tmp_path, patience=1.0)
    assert statuses(result) == {("hanging", "error"), ("v3_broadcast", "ok")}
    reasons = {trial["reason"] for trial in result["trials"] if trial["server"] == "hanging"}
    assert any("said nothing for 1 s" in reason for reason in reasons)


def test_a_starved_generator_compares_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two million requests per second are more than any generator in Python can send."""
    starving = {**module("ping").SIZES["smoke"], "rates": [2_000_000], "saturated": []}
    monkeypatch.setitem(module("ping").SIZES, "smoke", starving | {"seconds": 0.02})
    monkeypatch.setattr(Run, "disturbance", lambda *_: None)
    result = run_here([ours("v2_select")], "ping", tmp_path)
    (trial,) = result["trials"]
    assert trial["status"] == "client-limited"
    (point,) = View(result).points("ping")
    for metric in ("server_cpu_us", "p50_ms"):
        assert View(result).best("ping", point, metric) == []


def test_a_full_server_is_a_refusal_and_no_error(tmp_path: Path) -> None:
    small = ours("v2_select", "--max-clients", "15", name="small")
    result = run_here([small], "idle", tmp_path)
    assert result["refusals"]
    for refusal in result["refusals"]:
        assert module("idle").clients_needed(refusal["point"]) > 15
        assert (refusal["held"], refusal["reason"]) == (15, "! server full")
    assert statuses(result) <= {("small", "ok")}


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cores cannot be chosen here")
def test_a_busy_core_of_the_server_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody else computes there: trials are repeated, and then said to be disturbed."""
    monkeypatch.setitem(REPEATS_LIMITS, "smoke", 1)
    server_cores, client_cores = machine.choose_cores()
    if server_cores == client_cores:
        pytest.skip("needs two cores")
    burner = subprocess.Popen(
        [sys.executable, "-c", "print('on', flush=True)\nwhile True: pass"],
        stdout=subprocess.PIPE,
        preexec_fn=lambda: os.sched_setaffinity(0, server_cores),
    )
    try:
        burner.stdout.readline()
        result = run_here([ours("v2_select")], "ping", tmp_path)
    finally:
        burner.kill()
        burner.communicate()
    paced = [trial for trial in result["trials"] if trial["point"]["mode"] == "paced"]
    assert paced
    for trial in paced:
        assert (trial["status"], trial["repeats"]) == ("disturbed", 1)
        assert "% of the time" in trial["reason"]
        assert trial["metrics"]["server_wait_share"] > 0.3


# What a user can get wrong


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--python", "/no/such/python"], "--python /no/such/python: cannot be run"),
        (["--python", "/bin/true"], "--python /bin/true: is no Python that works"),
        (["--only", "nonsense"], "--only: no experiment nonsense; there are ping, fanout"),
        (["--only", ","], "--only: no experiment named; there are ping, fanout"),
        (["--versions", "v9"], "--versions: no version 'v9'; there are v1_threads"),
        (["--versions", ","], "--versions: no version ','; there are v1_threads"),
        (["--versions", ""], "--versions: no version ''; there are v1_threads"),
        (["--server", "nameless"], 'NAME="COMMAND with {port}" is needed'),
        (["--server", "v1_threads=x {port}"], "there is a server of that name already"),
        (["--trials", "0"], "--trials: at least 1"),
        (["--server-cores", "0"], "--server-cores: at least 1"),
        (["--no-floors", "--out", "/dev/null/x"], "--out /dev/null/x: "),
        (
            ["--no-floors", "--resume", "--out", "/tmp"],
            "there is no /tmp/result.json to go on with",
        ),
        (["report", "/no/such.json"], "cannot read /no/such.json"),
        (["compare", "LICENSE", "LICENSE"], "LICENSE is not a JSON file"),
        (["aa", "--versions", "v1,v2"], "one version at a time"),
        (["aa", "--versions", ","], "--versions: no version ','"),
    ],
)
def test_a_mistake_is_one_clear_line(arguments: list[str], said: str) -> None:
    status, output, errors = benchmarks(*arguments)
    assert (status, output) == (1, "")
    assert len(errors.splitlines()) == 1
    assert said in errors


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ({"trials": None}, "is no complete result: trials is no list"),
        ({"schema": "concurrency-study-benchmark/1"}, "is of the first edition of the benchmarks"),
        ({"schema": "else"}, "is no result of this benchmark"),
        (
            {"parameters": {"experiments": []}},
            "is no complete result: parameters.rounds is missing",
        ),
    ],
)
def test_an_odd_file_is_one_clear_line(damage: dict, said: str, tmp_path: Path) -> None:
    """More of them are in test_benchmarks_arithmetic.py."""
    path = tmp_path / "odd.json"
    write_result(make_result() | damage, path)
    for arguments in (["report", path], ["compare", path, path]):
        status, output, errors = benchmarks(*arguments)
        assert (status, output, len(errors.splitlines())) == (1, "", 1)
        assert said in errors


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such limit")
def test_too_few_descriptors_is_said_and_the_rest_goes_on(tmp_path: Path) -> None:
    import resource

    needs = [
        64 + module("idle").clients_needed(point)
        for point in module("idle").points(module("idle").SIZES["smoke"])
    ]
    limit = max(needs) - 1

    def lower() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))

    arguments = ["--smoke", "--only", "idle", "--versions", "v2", "--no-floors", "--out", tmp_path]
    status, output, _ = benchmarks(*arguments, preexec_fn=lower)
    assert status == 0
    told = " ".join(output.split())
    assert f"Too few descriptors: {limit} are allowed, the largest points need {limit + 1}" in told
    assert f"ulimit -n {limit + 1}" in told
    result = load_result(tmp_path / "result.json")
    assert len(result["trials"]) == sum(need <= limit for need in needs)
    assert len(result["refusals"]) == sum(need > limit for need in needs)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cores cannot be chosen here")
def test_one_core_is_said_and_recorded(tmp_path: Path) -> None:
    core = min(os.sched_getaffinity(0))
    arguments = [*SMALL, "--versions", "v2", "--out", tmp_path]
    status, output, _ = benchmarks(*arguments, preexec_fn=lambda: os.sched_setaffinity(0, {core}))
    assert status == 0
    assert "One core only" in output
    described = load_result(tmp_path / "result.json")["machine"]
    assert described["server_cores"] == described["client_cores"] == [core]
    assert described["pinned_apart"] is False


# How a run ends, and how it goes on


@contextlib.contextmanager
def running(marked: Marked, *arguments: object) -> Iterator[subprocess.Popen]:
    """A run, to be ended by a test once it has done some trials."""
    screen, other_end = pty.openpty()  # so that progress is shown as it is made
    with subprocess.Popen(
        [*BENCHMARKS, *map(str, arguments)],
        cwd=REPOSITORY,
        env={**marked.environment, "COLUMNS": "200"},
        stdout=subprocess.PIPE,
        stderr=other_end,
        text=True,
    ) as process:
        os.close(other_end)
        try:
            shown, deadline = b"", time.monotonic() + 60
            while b"round 3 of" not in shown:
                assert time.monotonic() < deadline
                shown += os.read(screen, 4096)
            yield process
        finally:
            process.kill()
            os.close(screen)


@pytest.mark.skipif(os.name == "nt", reason="Windows sends no SIGINT to a child")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_keeps_its_trials_and_goes_on(
    how: signal.Signals, tmp_path: Path
) -> None:
    marked = Marked()
    arguments = [*SMALL, "--trials", 6, "--versions", "v2", "--out", tmp_path]
    with running(marked, *arguments) as process:
        process.send_signal(how)
        output = process.stdout.read()
        assert process.wait(timeout=10) == 130
    assert "Traceback" not in output
    assert marked.left_behind() == []
    first = load_result(tmp_path / "result.json")
    assert first["interrupted"] is True
    assert 2 <= len(first["trials"]) < 6
    assert module("rush").TITLE in output
    assert (tmp_path / "report.html").exists()
    assert benchmarks(*arguments, "--resume")[0] == 0
    result = load_result(tmp_path / "result.json")
    assert (result["interrupted"], result["seed"]) == (False, first["seed"])
    rounds = [trial["round"] for trial in result["trials"]]
    assert sorted(rounds) == list(range(6))
    calm = [trial for trial in first["trials"] if trial["status"] != "disturbed"]
    assert all(trial in result["trials"] for trial in calm)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_a_killed_run_leaves_a_whole_file_and_no_server_and_goes_on(tmp_path: Path) -> None:
    marked = Marked()
    path = tmp_path / "result.json"
    arguments = [*SMALL, "--trials", 6, "--versions", "v2", "--out", tmp_path]
    with running(marked, *arguments) as process:
        process.kill()
        process.wait()
    deadline = time.monotonic() + 10
    while marked.left_behind() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert marked.left_behind() == []
    first = load_result(path)
    assert (first["finished"], first["interrupted"]) == (None, False)
    assert 2 <= len(first["trials"]) < 6
    status, output, _ = benchmarks("report", path)
    assert status == 0
    assert f"the run did not end; it has {len(first['trials'])} trials" in output
    status, output, _ = benchmarks("compare", path, path)
    assert status == 0
    assert "never finished" in output
    other = [*arguments, "--resume", "--trials", 7]
    status, output, errors = benchmarks(*other)
    assert (status, output, len(errors.splitlines())) == (1, "", 1)
    assert "it has other parameters; it was measured by: python3 -m benchmarks --smoke" in errors
    assert benchmarks(*arguments, "--resume")[0] == 0
    result = load_result(path)
    assert result["finished"] is not None
    rounds = [trial["round"] for trial in result["trials"]]
    assert sorted(rounds) == list(range(6))


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such limit")
@pytest.mark.parametrize(("room", "trials"), [(1000, False), (5000, True)])
def test_a_full_disk_is_one_line_and_keeps_what_was_measured(
    room: int, trials: bool, tmp_path: Path
) -> None:
    """A limit on the size of a file fails in the same place as a full disk, and needs no root."""
    import resource

    def lower() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))

    arguments = [*SMALL, "--trials", 30, "--versions", "v2", "--out", tmp_path]
    status, _, errors = benchmarks(*arguments, preexec_fn=lower)
    (line,) = [line for line in errors.splitlines() if line.startswith("benchmarks: ")]
    assert status == 1
    left = [entry.name for entry in tmp_path.iterdir()]
    if not trials:
        assert line.endswith(f"--out {tmp_path}: File too large; nothing was measured")
        assert left == []
        return
    kept = load_result(tmp_path / "result.json")
    assert len(kept["trials"]) > 0
    assert f"it keeps the {len(kept['trials'])} trials before this, and --resume goes on" in line
    assert left == ["result.json"]
