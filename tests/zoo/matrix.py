"""`matrix`: the whole suite against each bug, and which rules' tests turned red."""

import importlib.util
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.launcher import REPOSITORY, end_process, start_process
from tests.rules import LAUNCH, RULES
from tests.zoo.catalogue import Bug, ZooError

RUN_LIMIT = 120  # seconds for one bug; then the run ends with its results so far
AT_ONCE = 2  # runs side by side
FORMAT = 1
RED, RED_AND_NAMED, NAMED_AND_NOT_RED = "x", "X", "."


@dataclass(frozen=True)
class Catch:
    """What the suite has found out about one bug."""

    bug: Bug
    # The tests that turned red, by the rule that each is about.
    red: dict[str, list[str]]
    cut_short: str | None

    @property
    def by_its_rule(self) -> bool:
        """Whether a test of the rule that the bug names is among them."""
        return self.bug.rule in self.red


def suite_command(program: Path, profile: str, report: Path, *options: str) -> list[str]:
    """The command that runs the suite against `program`, which may not pass its short check."""
    server = f"{shlex.join([sys.executable, str(program)])} --port {{port}} {{options}}"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--keep-going"]
    command += ["--server", server, "--profile", profile, "--rule-report", str(report)]
    return [*command, *options]


def suite_environment() -> dict[str, str]:
    """Without plugins, which are slow to load."""
    return {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}


def read_report(bug: Bug, report: Path) -> Catch:
    """What the suite has written. Raises OSError, ValueError or KeyError where it has not run."""
    contents = json.loads(report.read_text(encoding="utf-8"))
    red = {}
    ran = False
    for rule, about in contents["rules"].items():
        outcomes = {test["test"]: test["outcome"] for test in about["tests"]}
        ran = ran or any(outcome != "not run" for outcome in outcomes.values())
        if failed := [test for test, outcome in outcomes.items() if outcome == "failed"]:
            red[rule] = failed
    if not ran:
        raise ValueError("no test was run")
    return Catch(bug, red, contents["cut_short"])


def run_matrix(bugs: Sequence[Bug], json_file: Path | None) -> bool:
    """Print bug × rule; returns whether each is caught by the rule it names. Raises ZooError."""
    if importlib.util.find_spec("pytest") is None:
        raise ZooError(
            "matrix needs pytest: `make test` once, then .venv/bin/python -m tests.zoo …"
        )
    catches = {}
    with tempfile.TemporaryDirectory(prefix="zoo-") as folder:
        for catch, seconds in _run_all(bugs, Path(folder)):
            catches[catch.bug.name] = catch
            tests = sum(map(len, catch.red.values()))
            verdict = "caught" if catch.by_its_rule else f"not caught by {catch.bug.rule}"
            progress = f"{len(catches):2} of {len(bugs)}  {catch.bug.name}: {verdict}"
            print(f"{progress}, {tests} red ({seconds:.0f} s)", file=sys.stderr, flush=True)
    in_order = [catches[bug.name] for bug in bugs]
    print("\n".join(table(in_order)))
    if json_file is not None:
        _write_json(in_order, json_file)
    return all(catch.by_its_rule for catch in in_order)


def table(catches: Sequence[Catch]) -> list[str]:
    """The lines of the table; a rule's number stands below its letter, and each takes 2 columns."""
    hit = {rule for catch in catches for rule in (*catch.red, catch.bug.rule)}
    columns = [rule for rule in RULES if rule in hit]
    heads = ["".join(f" {rule[index]}" for rule in columns) for index in (0, 1)]
    lines = [f"{'':17}{head}" for head in heads]
    for catch in catches:
        cells = "".join(f" {_cell(catch, rule)}" for rule in columns)
        lines.append(f"{catch.bug.name:17}{cells}".rstrip())
    caught = sum(catch.by_its_rule for catch in catches)
    missed = [".: none of the rule that the bug names turned red."] if caught < len(catches) else []
    launch = ["la: the launch contract, which has no number."] if LAUNCH in columns else []
    lines += [
        "",
        "x: a test of this rule turned red. X: so did one of the rule that the bug names.",
        *missed,
        *launch,
        *(f"{c.bug.name}: {c.cut_short.partition(' during ')[0]}" for c in catches if c.cut_short),
        f"{caught} of {len(catches)} caught by the rule they name",
    ]
    return lines


def _cell(catch: Catch, rule: str) -> str:
    if rule == catch.bug.rule:
        return RED_AND_NAMED if rule in catch.red else NAMED_AND_NOT_RED
    return RED if rule in catch.red else " "


@dataclass
class _Run:
    """One run of the suite that is under way."""

    bug: Bug
    folder: Path
    process: subprocess.Popen
    begin: float
    # What an earlier run had found before it was cut short.
    earlier: Catch | None = None

    def result(self) -> Catch:
        """What it has found, together with the earlier one. Raises ZooError."""
        catch = _result(self.bug, self.folder)
        if self.earlier is None:
            return catch
        return Catch(self.bug, self.earlier.red | catch.red, self.earlier.cut_short)


def _run_all(bugs: Sequence[Bug], folder: Path) -> Iterator[tuple[Catch, float]]:
    """Run the suite against each, a few at once; yields what was caught, as it comes in.

    A run may be cut short before it comes to the rule that the bug names. Then the tests of that
    rule are run by themselves.
    """
    waiting = list(bugs)
    running: list[_Run] = []
    try:
        while waiting or running:
            while waiting and len(running) < AT_ONCE:
                running.append(_start(waiting.pop(0), folder))
            for run in [run for run in running if run.process.poll() is not None]:
                running.remove(run)
                end_process(run.process)
                catch = run.result()
                if catch.cut_short and not catch.by_its_rule and run.earlier is None:
                    running.append(_start(run.bug, folder, catch, run.begin))
                else:
                    yield catch, time.monotonic() - run.begin
            time.sleep(0.1)
    finally:
        for run in running:
            end_process(run.process)


def _start(
    bug: Bug, folder: Path, earlier: Catch | None = None, begin: float | None = None
) -> _Run:
    """Start the whole suite, or after an earlier run the tests of the rule that the bug names."""
    folder = folder / (f"{bug.name}-again" if earlier else bug.name)
    program = bug.write_copy(folder, broken=True)
    options = ["--run-limit", str(RUN_LIMIT), "--tb=no", "tests"]
    if earlier:
        options += ["--rule", bug.rule]
    with (folder / "output").open("wb") as output:
        process = start_process(
            suite_command(program, bug.profile, folder / "report.json", *options),
            cwd=REPOSITORY,
            env=suite_environment(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    return _Run(bug, folder, process, begin or time.monotonic(), earlier)


def _result(bug: Bug, folder: Path) -> Catch:
    try:
        return read_report(bug, folder / "report.json")
    except (OSError, ValueError, KeyError):
        output = (folder / "output").read_text(encoding="utf-8", errors="replace").strip()
        last_line = output.rpartition("\n")[2] or "nothing"
        raise ZooError(f"{bug.name}: the suite has run no test, and said: {last_line}") from None


def _write_json(catches: Sequence[Catch], path: Path) -> None:
    contents = {
        "format": FORMAT,
        "bugs": {
            catch.bug.name: {
                "version": catch.bug.version,
                "rule": catch.bug.rule,
                "caught": catch.by_its_rule,
                "red": catch.red,
                "cut_short": catch.cut_short,
            }
            for catch in catches
        },
    }
    try:
        path.write_text(json.dumps(contents, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise ZooError(f"cannot write {path}: {error.strerror}") from None
