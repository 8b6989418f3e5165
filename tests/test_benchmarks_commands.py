"""Every command of the benchmarks at a tiny size, and its refusals proved on bad servers.

No timing is asserted. Misbehaving servers are our own v3 and v4, run by BROKEN below.
"""

import json
import os
import pty
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from processes import Marked

from benchmarks import fanout, launcher, ping, summary, terminal
from benchmarks.servers.launcher import REPOSITORY, VERSIONS
from benchmarks.runner import Contestant, Plan, Run

COMMAND = [sys.executable, "-m", "benchmarks"]
SMALL = ["--smoke", "--only", "churn"]
# Runs a server.py with a socket that misbehaves once it has sent some of the benchmark's own
# lines. The conformance check has no such lines, and finds nothing.
BROKEN = """
import os, runpy, socket, sys, time
how, script, port = sys.argv[1:4]
sys.argv = [script, "--port", port]
real, sent = socket.socket, 0
class Misbehaving(real):
    def send(self, data, *flags):
        global sent
        payload = bytes(data)
        if b"xxxx" in payload or b"0123456789abcdef" in payload:
            sent += 1
            if sent > 20:
                if how == "dies":
                    print("MemoryError: made up", file=sys.stderr, flush=True)
                    os._exit(3)
                if how == "hangs":
                    time.sleep(600)
                if how == "loses" and payload.count(b"\\n"):
                    first, newline, rest = payload.partition(b"\\n")
                    if rest:
                        super().send(rest, *flags)
                    sent = 0
                    return len(data)
        return super().send(data, *flags)
socket.socket = Misbehaving
runpy.run_path(script, run_name="__main__")
"""


@pytest.fixture
def broken(tmp_path: Path):
    """Returns the command line of a version that misbehaves in the given way."""
    script = tmp_path / "broken.py"
    script.write_text(BROKEN)

    def command(how: str, version: str = "v3_broadcast") -> str:
        server = REPOSITORY / version / "server.py"
        return f"{shlex.join([sys.executable, str(script), how, str(server)])} {{port}}"

    return command


def benchmarks(*arguments: object, **options) -> tuple[int, str, str]:
    """Run a command; nothing it started may be left, and nothing may be a traceback."""
    marked = Marked()
    command = [*COMMAND, *map(str, arguments)]
    done = subprocess.run(
        command,
        cwd=REPOSITORY,
        env=marked.environment,
        capture_output=True,
        text=True,
        timeout=60,
        **options,
    )
    assert "Traceback" not in done.stdout + done.stderr
    assert marked.left_behind() == []
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """All experiments, all versions, once, tiny: (folder, what was printed)."""
    folder = tmp_path_factory.mktemp("everything")
    status, output, _ = benchmarks("--smoke", "--out", folder)
    assert status == 0
    return folder, output


def statuses(result: dict) -> set[tuple[str, str]]:
    """Return (server, status); whether the generator was at its limit is the machine's affair."""
    measured = {"client-limited": "ok"}
    return {
        (trial["server"], measured.get(trial["status"], trial["status"]))
        for trial in result["trials"]
    }


# The run


def test_everything_is_measured_for_all_four(everything: tuple[Path, str]) -> None:
    folder, output = everything
    result = summary.load_result(folder / "result.json")
    tried = {(trial["experiment"], trial["server"]) for trial in result["trials"]}
    assert tried == {
        (experiment, version)
        for experiment in summary.EXPERIMENTS
        for version in VERSIONS
        if experiment != "fanout" or version in VERSIONS[2:]
    }
    assert all(check["passed"] for check in result["conformance"])
    bad = [trial for trial in result["trials"] if trial["status"] not in ("ok", "client-limited")]
    assert bad == []
    for experiment in summary.EXPERIMENTS:
        assert summary.title(experiment) in output
        assert summary.conclusion(result, experiment) in output
    assert (folder / "report.html").exists()


def test_the_file_says_where_and_how(everything: tuple[Path, str]) -> None:
    result = summary.load_result(everything[0] / "result.json")
    assert result["schema"] == "concurrency-study-benchmark/1"
    assert (result["kind"], result["size"], result["interrupted"]) == ("run", "smoke", False)
    assert result["started"] <= result["finished"]
    assert result["command"][:3] == ["python3", "-m", "benchmarks"]
    machine = result["machine"]
    for field in ("kernel", "cpu", "cores", "descriptors", "load_before", "load_after"):
        assert field in machine
    for entry in result["servers"]:
        assert entry["python_build"].startswith(sys.implementation.name.replace("cp", "CP", 1)[:2])
        assert entry["gil"] in ("on", "off")
    assert set(result["parameters"]["experiments"]) == set(summary.EXPERIMENTS)


def test_the_stall_is_told_step_by_step(everything: tuple[Path, str]) -> None:
    result = summary.load_result(everything[0] / "result.json")
    stalls = [trial for trial in result["trials"] if trial["experiment"] == "stall"]
    for trial in stalls:
        series = trial["series"]
        assert set(series) == {"t_s", "deliveries_per_s", "worst_delay_ms", "rss_mib"}
        assert len({len(values) for values in series.values()}) == 1
        assert series["t_s"][0] < 0 < series["t_s"][-1]
        delivered = sum(series["deliveries_per_s"]) * 0.1
        assert delivered > 0


def test_only_some_versions_more_trials_and_an_older_result_kept(tmp_path: Path) -> None:
    out = tmp_path / "new" / "folder"
    arguments = [*SMALL, "--versions", "v2,v4_asyncio", "--trials", 2, "--out", out]
    assert benchmarks(*arguments)[0] == 0
    first = summary.load_result(out / "result.json")
    assert [trial["trial"] for trial in first["trials"]] == [0, 0, 1, 1]
    assert {trial["server"] for trial in first["trials"]} == {"v2_select", "v4_asyncio"}
    assert benchmarks(*SMALL, "--versions", "v2", "--out", out)[0] == 0
    kept = [path for path in out.glob("result-*.json") if summary.load_result(path) == first]
    assert len(kept) == 1


def test_several_interpreters_are_compared(tmp_path: Path) -> None:
    twice = ["--python", sys.executable, "--python", sys.executable]
    assert benchmarks(*SMALL, "--versions", "v2", *twice, "--out", tmp_path)[0] == 0
    version = sys.version.split()[0]
    first, second = summary.load_result(tmp_path / "result.json")["servers"]
    assert (first["id"], second["id"]) == (f"v2_select@{version}", f"v2_select@{version}#2")
    assert first["version"] == second["version"] == "v2_select"


def test_somebodys_own_server_stands_beside_the_four(tmp_path: Path) -> None:
    theirs = shlex.join([sys.executable, str(REPOSITORY / "v4_asyncio" / "server.py")])
    own = f"mine={theirs} --port {{port}}"
    arguments = [*SMALL, "--versions", "v3", "--server", own, "--profile", "chat"]
    status, output, _ = benchmarks(*arguments, "--out", tmp_path)
    assert status == 0
    result = summary.load_result(tmp_path / "result.json")
    assert statuses(result) == {("v3_broadcast", "ok"), ("mine", "ok")}
    assert result["servers"][1]["version"] is None
    assert "mine" in output


# The other commands


def test_aa_gives_the_noise_floor_that_a_run_then_uses(tmp_path: Path) -> None:
    status, output, _ = benchmarks("aa", *SMALL, "--trials", 2, "--out", tmp_path)
    assert status == 0
    assert "Noise floor: v4_asyncio against itself, 2 trials each" in output
    twins = summary.load_result(tmp_path / "aa-smoke.json")
    assert [entry["id"] for entry in twins["servers"]] == ["v4_asyncio A", "v4_asyncio B"]
    floors = {(entry["experiment"], entry["metric"]) for entry in twins["noise_floor"]["floors"]}
    assert ("churn", "server_cpu_ms") in floors
    _, output, _ = benchmarks(*SMALL, "--versions", "v2", "--out", tmp_path)
    assert summary.load_result(tmp_path / "result.json")["noise_floor"] == twins["noise_floor"]
    assert "No A/A run" not in output


def test_compare_and_report_of_a_file(everything: tuple[Path, str], tmp_path: Path) -> None:
    path = everything[0] / "result.json"
    status, output, _ = benchmarks("compare", path, path)
    assert status == 0
    assert "no difference shown" in output
    status, output, _ = benchmarks("report", path, "--out", tmp_path)
    assert status == 0
    assert (tmp_path / "report.html").exists()


def test_help_names_every_command() -> None:
    status, output, _ = benchmarks("--help")
    assert status == 0
    for word in ("demo", "aa", "compare", "report", "--only", "--server", "--python", "--quick"):
        assert word in output


# Refusals


def test_a_server_that_breaks_the_protocol_is_not_measured(tmp_path: Path) -> None:
    echo = shlex.join([sys.executable, str(REPOSITORY / "v2_select" / "server.py")])
    own = f"echoing={echo} --port {{port}}"
    arguments = [*SMALL, "--versions", "v3", "--server", own, "--profile", "chat"]
    status, output, _ = benchmarks(*arguments, "--out", tmp_path)
    assert status == 0
    result = summary.load_result(tmp_path / "result.json")
    assert statuses(result) == {("v3_broadcast", "ok")}
    assert "echoing FAILED the conformance check and was not measured: D2: " in output


def test_a_server_that_dies_is_an_error_row_and_the_rest_goes_on(broken, tmp_path: Path) -> None:
    own = f"mortal={broken('dies')}"
    arguments = ["--smoke", "--only", "ping,churn", "--versions", "v3", "--server", own]
    status, output, _ = benchmarks(*arguments, "--out", tmp_path)
    assert status == 0
    result = summary.load_result(tmp_path / "result.json")
    pings = {
        (trial["server"], trial["status"])
        for trial in result["trials"]
        if trial["experiment"] == "ping"
    }
    assert pings == {("v3_broadcast", "ok"), ("mortal", "error")}
    assert ("mortal", "ok") in statuses(result)  # at churn
    assert "the server ended with status 3: MemoryError: made up" in output


def run_here(contestants: list[Contestant], experiment: str, **options) -> dict:
    plan = Plan(contestants, [experiment], "smoke", trials=1, **options)
    run = Run(plan, "run", report=lambda text: None)
    run.everything(on_experiment=lambda name: None)
    return run.result


def ours(version: str) -> Contestant:
    command = launcher.server_command(version)
    return Contestant(version, launcher.PROFILES[version], command, version)


def test_a_lossy_server_is_failed_and_not_ranked(broken, monkeypatch: pytest.MonkeyPatch) -> None:
    """It passes the conformance check; that every delivery is counted gives it away."""
    one_point = {**fanout.SIZES["smoke"], "talkers": [], "paced_readers": []}
    monkeypatch.setitem(fanout.SIZES, "smoke", one_point)
    lossy = Contestant("lossy", "chat", broken("loses"))
    result = run_here([lossy, ours("v3_broadcast")], "fanout", patience=1.0)
    assert all(check["passed"] for check in result["conformance"])
    assert statuses(result) == {("v3_broadcast", "ok"), ("lossy", "failed")}
    assert "lossy not ranked (failed)" in summary.conclusion(result, "fanout")
    (trouble,) = [line for line in terminal.format_troubles(result) if line.startswith("failed")]
    assert "lossy, fanout (mode=flood readers=3), 1 trial: " in trouble
    assert "deliveries lost; clients affected: " in trouble


def test_a_server_that_hangs_is_an_error_row(broken, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher, "STOP_SECONDS", 0.2)
    monkeypatch.setitem(ping.SIZES, "smoke", {**ping.SIZES["smoke"], "clients": [1]})
    hanging = Contestant("hanging", "chat", broken("hangs"))
    result = run_here([hanging, ours("v3_broadcast")], "ping", patience=0.5)
    assert statuses(result) == {("hanging", "error"), ("v3_broadcast", "ok")}
    reasons = {trial["reason"] for trial in result["trials"] if trial["server"] == "hanging"}
    assert any("said nothing for 0.5 s" in reason for reason in reasons)


def test_a_starved_generator_is_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two million requests per second are more than any generator in Python can send."""
    starving = {**ping.SIZES["smoke"], "clients": [], "rates": [2_000_000], "seconds": 0.02}
    monkeypatch.setitem(ping.SIZES, "smoke", starving)
    result = run_here([ours("v2_select")], "ping")
    (trial,) = result["trials"]
    assert trial["status"] == "client-limited"
    assert trial["metrics"]["sent_per_s"] < 0.99 * trial["metrics"]["offered_per_s"]
    latency = summary.module("ping").tables(result)[2]
    assert latency.rows[0][1].endswith("†")
    assert "client-limited" in latency.notes[0]


def test_a_full_server_is_a_refusal_and_no_error() -> None:
    command = launcher.server_command("v2_select", "--max-clients", "15")
    result = run_here([Contestant("small", "echo", command, "v2_select")], "idle")
    (refusal,) = result["refusals"]
    assert refusal["point"] == {"idle": 20, "active": 10}
    assert (refusal["server"], refusal["held"]) == ("small", 15)
    assert "Server full: small at 15 clients." in summary.conclusion(result, "idle")


# What a user can get wrong


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--python", "/no/such/python"], "--python /no/such/python: cannot be run"),
        (["--python", "/bin/true"], "--python /bin/true: is no Python that works"),
        (["--only", "nonsense"], "--only: no experiment nonsense; there are ping, fanout"),
        (["--versions", "v9"], "--versions: no version v9; there are v1_threads"),
        (["--server", "nameless"], 'NAME="COMMAND with {port}" is needed'),
        (["--server", "v1_threads=x {port}"], "there is a server of that name already"),
        (["--trials", "0"], "--trials: at least 1"),
        (["--out", "/dev/null/x"], "--out /dev/null/x: "),
        (["report", "/no/such.json"], "cannot read /no/such.json"),
        (["compare", "LICENSE", "LICENSE"], "LICENSE is not a JSON file"),
        (["aa", "--versions", "v1,v2"], "one version at a time"),
    ],
)
def test_a_mistake_is_one_clear_line(arguments: list[str], said: str) -> None:
    status, output, errors = benchmarks(*arguments)
    assert (status, output) == (1, "")
    assert len(errors.splitlines()) == 1
    assert said in errors


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such limit")
def test_too_few_descriptors_is_said_and_the_rest_goes_on(tmp_path: Path) -> None:
    import resource

    def lower() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (80, 80))

    arguments = ["--smoke", "--only", "idle", "--versions", "v2", "--out", tmp_path]
    status, output, _ = benchmarks(*arguments, preexec_fn=lower)
    assert status == 0
    assert "Too few descriptors: 80 are allowed, the largest points need 94" in output
    assert "ulimit -n 94" in output
    result = summary.load_result(tmp_path / "result.json")
    assert [trial["point"]["idle"] for trial in result["trials"]] == [0]
    assert [refusal["point"]["idle"] for refusal in result["refusals"]] == [20]


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cores cannot be chosen here")
def test_one_core_is_said_and_recorded(tmp_path: Path) -> None:
    core = min(os.sched_getaffinity(0))
    arguments = [*SMALL, "--versions", "v2", "--out", tmp_path]
    status, output, _ = benchmarks(*arguments, preexec_fn=lambda: os.sched_setaffinity(0, {core}))
    assert status == 0
    assert "One core only" in output
    machine = summary.load_result(tmp_path / "result.json")["machine"]
    assert machine["server_cores"] == machine["client_cores"] == [core]
    assert machine["pinned_apart"] is False


def test_without_matplotlib_the_page_is_written_and_said_to_have_no_pictures(
    everything: tuple[Path, str], tmp_path: Path
) -> None:
    """`-S` hides whatever is installed."""
    path = everything[0] / "result.json"
    command = [sys.executable, "-S", "-m", "benchmarks", "report", path, "--out", tmp_path]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["report.html"]
    assert "matplotlib" in done.stdout.splitlines()[-1]


# Ctrl-C


@pytest.mark.skipif(os.name == "nt", reason="Windows sends no SIGINT to a child")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_keeps_the_trials_and_leaves_no_process(how: signal.Signals, tmp_path: Path) -> None:
    marked = Marked()
    screen, other_end = pty.openpty()  # so that progress is shown as it is made
    command = [*COMMAND, *SMALL, "--trials", "100", "--versions", "v2", "--out", str(tmp_path)]
    with subprocess.Popen(
        command,
        cwd=REPOSITORY,
        env={**marked.environment, "COLUMNS": "200"},
        stdout=subprocess.PIPE,
        stderr=other_end,
        text=True,
    ) as process:
        os.close(other_end)
        shown, deadline = b"", time.monotonic() + 30
        while b"trial 3 of 100" not in shown:
            assert time.monotonic() < deadline
            shown += os.read(screen, 4096)
        process.send_signal(how)
        output = process.stdout.read()
        assert process.wait(timeout=10) == 130
    os.close(screen)
    assert "Traceback" not in output
    assert marked.left_behind() == []
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["interrupted"] is True
    assert 2 <= len(result["trials"]) < 100
    assert "A session costs v2_select" in output
    assert (tmp_path / "report.html").exists()
