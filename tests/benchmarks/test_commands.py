"""Every command of the benchmarks at a tiny size; bad servers, bad files, and how a run may end.

No timing is asserted.
"""

import contextlib
import json
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.contestants import lineup
from benchmarks.contestants.lineup import Contestant
from benchmarks.experiments.catalogue import EXPERIMENTS
from benchmarks.result.file import EARLIER, kept_name, load_result, write_result
from benchmarks.result.view import View
from benchmarks.run import machine
from benchmarks.run.plan import Effort, Plan, descriptors_needed
from benchmarks.run.run import REPEATS_LIMITS, Run
from benchmarks.run.trial import Trial
from harness import launcher
from harness.launcher import REPOSITORY
from harness.system import kept_descriptor_limit
from tests.benchmarks.made_up_results import make_result
from tests.processes import BENCHMARKS, Marked, benchmarks

# The experiment with one point that takes least, and one with several points.
SMALL = ["--smoke", "--only", "rush", "--no-floors"]
SEVERAL = ["--smoke", "--only", "churn", "--no-floors"]
CHURN, IDLE, PING = (EXPERIMENTS[name] for name in ("churn", "idle", "ping"))
POINTS = len(CHURN.points(CHURN.sizes["smoke"]))
DYING = r'print("MemoryError: made \x1b[2J up", file=sys.stderr, flush=True) or os._exit(3)'
HANGING = "time.sleep(600)"
PONG = 'f"* pong {argument}".rstrip()'


@pytest.fixture
def broken(tmp_path: Path) -> Callable[[str], str]:
    """`broken(HANGING)`: the command of a v3 that does so at a ping of the load generator.

    The conformance check has no such pings, and finds nothing.
    """

    def command(trouble: str) -> str:
        source = (REPOSITORY / "v3_broadcast" / "server.py").read_text()
        assert source.count(PONG) == 1
        script = tmp_path / "broken.py"
        script.write_text(source.replace(PONG, f'{trouble} if "abcdefgh" in argument else {PONG}'))
        return f"{shlex.join([sys.executable, str(script)])} --port {{port}}"

    return command


def statuses(result: dict) -> set[tuple[str, str]]:
    """(server, status) of all trials. It is not a server's fault that the machine is too busy."""
    return {
        (trial["server"], trial["status"] if trial["status"] in ("failed", "error") else "ok")
        for trial in result["trials"]
    }


# The run


def test_only_some_versions_more_trials_and_an_older_result_kept(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    older = {"schema": EARLIER, "started": "2026-01-02T03:04:05Z"}
    path.write_text(json.dumps(older))
    arguments = [*SEVERAL, "--versions", "v2,v4_asyncio", "--trials", 2, "--out", tmp_path]
    assert benchmarks(*arguments)[0] == 0
    assert json.loads((tmp_path / "result-2026-01-02T030405Z.json").read_text()) == older
    result = load_result(path)
    assert kept_name(path).name == f"result-{result['started'].replace(':', '')}.json"
    order = [(trial["round"], trial["server"]) for trial in result["trials"]]
    assert len(order) == 4 * POINTS > 4
    order = [place for number, place in enumerate(order) if number // 2 % POINTS == 0]
    two, four = "v2_select", "v4_asyncio"
    assert order == [(0, two), (0, four), (1, four), (1, two)]


def server_option(name: str, version: str, options: str = "") -> list[str]:
    """The option that lets one of ours take part as a server of somebody's."""
    command = shlex.join([sys.executable, str(REPOSITORY / version / "server.py")])
    return ["--server", f"{name}={command} --port {{port}} {options}"]


def test_several_interpreters_and_somebodys_own_servers_stand_beside_ours(tmp_path: Path) -> None:
    """A command that the suite takes, with {options}, is one that we take."""
    out = tmp_path / "new" / "folder"
    arguments = [*SMALL, "--versions", "v3", *["--python", sys.executable] * 2, "--out", out]
    arguments += server_option("plain", "v3_broadcast")
    arguments += server_option("mine", "v4_asyncio", "{options}")
    status, output, _ = benchmarks(*arguments, "--profile", "chat")
    assert status == 0
    result = load_result(out / "result.json")
    first = f"v3_broadcast@{sys.version.split()[0]}"
    names = [first, f"{first}#2", "plain", "mine"]
    assert [entry["id"] for entry in result["servers"]] == names
    assert [entry["version"] for entry in result["servers"]] == ["v3_broadcast"] * 2 + [None] * 2
    assert result["servers"][2]["kind"] == "theirs"
    assert statuses(result) == {(name, "ok") for name in names}
    assert "mine" in output


UVLOOP = {"there": "def install(): pass", "missing": "raise ImportError('not here')"}


@pytest.mark.parametrize("which", UVLOOP)
def test_small_py_runs_on_both_loops_where_uvloop_is_installed(
    which: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A module of that name stands for uvloop: it is found, asked to install itself, or missing."""
    modules = tmp_path / "modules"
    modules.mkdir()
    (modules / "uvloop.py").write_text(UVLOOP[which])
    monkeypatch.setenv("PYTHONPATH", str(modules))
    arguments = ["--smoke", "--only", "churn", "--no-floors", "--versions", "v4", "--uvloop"]
    status, output, _ = benchmarks(*arguments, "--out", tmp_path)
    assert status == 0
    result = load_result(tmp_path / "result.json")
    expected = ["v4_asyncio", "small_asyncio", *(["small_uvloop"] if which == "there" else [])]
    assert [entry["id"] for entry in result["servers"]] == expected
    assert statuses(result) == {(name, "ok") for name in expected}
    assert ("small.py on uvloop was left out" in output) == (which == "missing")
    assert len(result["missing"]) == (which == "missing")


@pytest.mark.parametrize(
    ("server", "said"),
    [
        (server_option("mine", "v2_select", "{options}"), "D2: got "),
        (server_option("mine", "v9", "{options}"), "mine ended with status 2 before it was listen"),
        (server_option("mine", "v3_broadcast", "--what {options}"), "mine ended with status 2 bef"),
    ],
    ids=["another protocol", "no such file", "an unknown option"],
)
def test_a_server_that_fails_the_short_check_is_refused(server, said, tmp_path: Path) -> None:
    """One line says so before anything is measured, and an older result stays where it is."""
    older = tmp_path / "result.json"
    older.write_text(json.dumps({"schema": EARLIER, "started": "2026-01-02T03:04:05Z"}))
    before = older.read_bytes()
    arguments = [*SMALL, "--versions", "v2", *server, "--out", tmp_path]
    status, output, errors = benchmarks(*arguments)
    assert (status, output) == (1, "")
    progress, complaint = errors.splitlines()
    assert progress == "conformance check: v2_select"
    assert complaint.startswith(f"benchmarks: --server mine cannot be measured: {said}")
    assert older.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]


def test_only_somebodys_own_server_is_refused(tmp_path: Path, monkeypatch) -> None:
    """One of ours that fails the check is not measured, and the rest goes on."""
    monkeypatch.setattr(Run, "conformance_of", lambda run, one: "broken" if one is ours else None)
    ours, other = lineup.ours(["v1_threads", "v2_select"], [sys.executable])
    run = Run(
        Plan([ours, other], [PING], "smoke", Effort.fixed(1)),
        "run",
        tmp_path / "x",
        lambda text: None,
    )
    run.check_conformance()
    assert [check["passed"] for check in run.result["conformance"]] == [False, True]
    assert {one.name for group in run.groups_to_do() for one in run.wanted(group)} == {other.name}


def test_without_a_compiler_and_with_few_descriptors_the_rest_goes_on(
    tmp_path: Path, limit_descriptors
) -> None:
    """A line says what is missing."""
    needs = [descriptors_needed(IDLE, point) for point in IDLE.points(IDLE.sizes["smoke"])]
    limit = max(needs) - 1
    status, output, _ = benchmarks(
        *["--smoke", "--only", "idle", "--versions", "v2", "--out", tmp_path],
        environment={"PATH": str(tmp_path)},
        preexec_fn=limit_descriptors(limit),
    )
    assert status == 0
    result = load_result(tmp_path / "result.json")
    assert result["missing"] == ["no floors in C: cc cannot be run (No such file or directory)"]
    said = " ".join(output.split())
    assert result["missing"][0] in said
    assert f"Too few descriptors: {limit} are allowed, the largest points need {limit + 1}" in said
    assert f"ulimit -n {limit + 1}" in said
    assert [entry["id"] for entry in result["servers"]] == ["v2_select", "tutorial"]
    assert len(result["trials"]) == sum(need <= limit for need in needs)
    assert len(result["refusals"]) == sum(need > limit for need in needs)
    assert {refusal["held"] for refusal in result["refusals"]} == {None}


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cores cannot be chosen here")
def test_one_core_is_said_and_recorded_and_what_needs_two_is_left_out(tmp_path: Path) -> None:
    core = min(os.sched_getaffinity(0))
    arguments = ["--smoke", "--only", "rush,cores", "--versions", "v2", "--no-floors"]
    status, output, _ = benchmarks(
        *arguments, "--out", tmp_path, preexec_fn=lambda: os.sched_setaffinity(0, {core})
    )
    assert status == 0
    assert "One core only" in output
    assert "cores was left out: it needs 2 cores" in output
    result = load_result(tmp_path / "result.json")
    assert list(result["parameters"]["experiments"]) == ["rush"]
    assert {trial["experiment"] for trial in result["trials"]} == {"rush"}
    described = result["machine"]
    assert described["server_cores"] == described["client_cores"] == [core]
    assert described["pinned_apart"] is False


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
    (row,) = [line for line in output.splitlines() if line.startswith("in all")]
    share = r"[\d.]+%"
    assert re.search(rf" -$| {share} \({share} to {share}\)$", row)


def test_help_names_every_command_and_option() -> None:
    status, output, _ = benchmarks("--help")
    assert status == 0
    commands = ("demo", "aa", "compare", "report")
    options = ("only", "server", "python", "quick", "resume", "no-floors", "server-cores", "trials")
    for word in (*commands, *(f"--{option}" for option in options)):
        assert word in output


# Bad servers


def test_a_server_that_dies_is_an_error_row_and_the_rest_goes_on(broken, tmp_path: Path) -> None:
    own = f"mortal={broken(DYING)}"
    arguments = ["--smoke", "--only", "ping,churn", "--versions", "v3", "--no-floors"]
    status, output, _ = benchmarks(*arguments, "--server", own, "--out", tmp_path)
    assert status == 0
    result = load_result(tmp_path / "result.json")
    pings = {**result, "trials": [t for t in result["trials"] if t["experiment"] == "ping"]}
    assert statuses(pings) == {("v3_broadcast", "ok"), ("mortal", "error")}
    # At churn it is never asked.
    assert ("mortal", "ok") in statuses(result)
    reasons = {trial["reason"] for trial in result["trials"] if trial["status"] == "error"}
    said = "the server ended with status 3: MemoryError: made ?[2J up"
    assert any(reason.endswith(said) for reason in reasons)
    assert "\x1b" not in output


def run_here(one: Contestant, folder: Path, **options) -> dict:
    """The result of `ping`."""
    run = Run(
        Plan([one], [PING], "smoke", Effort.fixed(1), **options),
        "run",
        folder / "result.json",
        report=lambda text: None,
    )
    run.everything(lambda: None)
    return load_result(run.path)


def v2() -> Contestant:
    (one,) = lineup.ours(["v2_select"], [sys.executable])
    return one


def test_a_server_that_hangs_is_an_error_row(
    broken, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launcher, "STOP_SECONDS", 0.2)
    hanging = Contestant("hanging", "chat", broken(HANGING), label="hanging", kind="theirs")
    result = run_here(hanging, tmp_path, patience=0.5)
    assert statuses(result) == {("hanging", "error")}
    assert any("said nothing for 0.5 s" in trial["reason"] for trial in result["trials"])


def test_a_starved_generator_compares_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two million requests per second are more than any generator in Python can send."""
    starving = {**PING.sizes["smoke"], "rates": [2_000_000], "saturated": []}
    monkeypatch.setitem(PING.sizes, "smoke", starving | {"seconds": 0.02})
    monkeypatch.setattr(Trial, "disturbance", lambda *_: None)
    result = run_here(v2(), tmp_path)
    (trial,) = result["trials"]
    assert trial["status"] == "client-limited"
    (point,) = View(result).points("ping")
    for metric in ("server_cpu_us", "p50_ms"):
        assert point.best(metric) == []


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
        result = run_here(v2(), tmp_path)
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
        (["--only", "nonsense"], "--only: no experiment nonsense; there are ping, fanout"),
        (["--only", ","], "--only: no experiment named; there are ping, fanout"),
        (["--versions", "v2,v9"], "--versions: no version 'v9'; there are v1_threads"),
        (["--versions", ","], "--versions: no version ','; there are v1_threads"),
        (["--server", "v1_threads=x {port}"], "there is a server of that name already"),
        (["--trials", "0"], "--trials: at least 1"),
        (["--server-cores", "0"], "--server-cores: at least 1"),
        (["--out", "/dev/null/x"], "--out /dev/null/x: "),
        (["--out", "."], "will not overwrite result.json"),
        (["--resume"], "there is no results/result.json to go on with"),
        (["report", "/no/such.json"], "cannot read /no/such.json"),
        (["compare", "result.json", "result.json"], "result.json is not a JSON file"),
        (["aa", "--versions", "v1,v2"], "one version at a time"),
    ],
)
def test_a_mistake_is_one_clear_line(arguments, said, tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    notes = tmp_path / "result.json"
    notes.write_text("my own notes")
    is_a_run = arguments[0].startswith("--")
    with kept_descriptor_limit():
        assert main([*arguments, "--no-floors"] if is_a_run else arguments) == 1
    output, errors = capsys.readouterr()
    assert (output, len(errors.splitlines())) == ("", 1)
    assert said in errors
    assert notes.read_text() == "my own notes"


# How a run ends, and how it goes on


@contextlib.contextmanager
def running(marked: Marked, *arguments: object) -> Iterator[subprocess.Popen]:
    """A run, to be ended by a test once it has done some trials."""
    # On a terminal every step of the progress is shown.
    screen, other_end = pty.openpty()
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
            while b"round 3:" not in shown:
                assert time.monotonic() < deadline
                shown += os.read(screen, 4096)
            yield process
        finally:
            process.kill()
            os.close(screen)


@pytest.mark.skipif(os.name == "nt", reason="Windows sends no SIGINT to a child")
@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (9, -9)], ids=["Ctrl-C", "kill -9"]
)
def test_an_ended_run_keeps_its_trials_leaves_no_server_and_goes_on(
    number: int, status: int, tmp_path: Path
) -> None:
    marked = Marked()
    arguments = [*SMALL, "--trials", 6, "--versions", "v2", "--out", tmp_path]
    with running(marked, *arguments) as process:
        process.send_signal(number)
        output = process.stdout.read()
        assert process.wait(timeout=10) == status
    deadline = time.monotonic() + 10
    # A run that is killed cannot wait for the end of its servers.
    while marked.left_behind() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert marked.left_behind() == []
    first = load_result(tmp_path / "result.json")
    assert 2 <= len(first["trials"]) < 6
    is_interrupted = number == signal.SIGINT
    assert first["interrupted"] == is_interrupted
    assert (first["finished"] is not None) == is_interrupted
    assert (EXPERIMENTS["rush"].title in output) == is_interrupted
    assert (tmp_path / "report.html").exists() == is_interrupted
    assert benchmarks(*arguments, "--resume")[0] == 0
    result = load_result(tmp_path / "result.json")
    assert (result["interrupted"], result["seed"]) == (False, first["seed"])
    assert result["finished"] is not None
    assert sorted(trial["round"] for trial in result["trials"]) == list(range(6))
    calm = [trial for trial in first["trials"] if trial["status"] != "disturbed"]
    assert all(trial in result["trials"] for trial in calm)


def test_a_file_of_a_run_that_never_ended_is_said_to_be_one(tmp_path: Path, capsys) -> None:
    result = make_result("smoke") | {"finished": None}
    path = tmp_path / "result.json"
    write_result(result, path)
    assert main(["report", str(path)]) == main(["compare", str(path), str(path)]) == 0
    output, _ = capsys.readouterr()
    assert f"the run did not end; it has {len(result['trials'])} trials" in output
    assert "never finished" in output


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such limit")
@pytest.mark.parametrize("room", [1000, 5000])
def test_a_full_disk_is_one_line_and_keeps_what_was_measured(room: int, tmp_path: Path) -> None:
    """A limit on the size of a file fails in the same place as a full disk, and needs no root."""
    import resource

    def lower() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))

    arguments = [*SMALL, "--trials", 30, "--versions", "v2", "--out", tmp_path]
    # Half a file of bytecode would be read as a whole one.
    environment = {"PYTHONDONTWRITEBYTECODE": "1"}
    status, _, errors = benchmarks(*arguments, preexec_fn=lower, environment=environment)
    (line,) = [line for line in errors.splitlines() if line.startswith("benchmarks: ")]
    assert status == 1
    left = [entry.name for entry in tmp_path.iterdir()]
    if room == 1000:
        assert line.endswith(f"--out {tmp_path}: File too large; nothing was measured")
        assert left == []
        return
    kept = load_result(tmp_path / "result.json")
    assert len(kept["trials"]) > 0
    assert f"it keeps the {len(kept['trials'])} trials before this, and --resume goes on" in line
    assert left == ["result.json"]
