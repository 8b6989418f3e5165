"""`matrix`: the whole suite against each bug, and which rules' tests turned red."""

import concurrent.futures
import importlib.util
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.suite.rule_report import CutShort
from tests.suite.rules import LAUNCH, RULES
from tests.zoo.catalogue import Bug, ZooError
from tests.zoo.suite_runner import NoTestWasRun, SuiteReport, SuiteRunner, python_server

# Seconds for one bug. Then the run ends with its results so far.
RUN_LIMIT = 120
FORMAT = 1


@dataclass(frozen=True)
class Catch:
    """What the suite has found out about one bug, and how many seconds it took."""

    bug: Bug
    # The tests that turned red, by the rule that each is about.
    red: dict[str, list[str]]
    cut_short: CutShort | None = None
    seconds: float = 0.0

    @property
    def by_its_rule(self) -> bool:
        """Whether a test of the rule that the bug names is among them."""
        return self.bug.rule in self.red


def run_matrix(bugs: Sequence[Bug], json_file: Path | None) -> bool:
    """Print bug × rule; returns whether each is caught by the rule it names. Raises ZooError."""
    if importlib.util.find_spec("pytest") is None:
        raise ZooError(
            "matrix needs pytest: `make test` once, then .venv/bin/python -m tests.zoo …"
        )
    catches = {}
    with tempfile.TemporaryDirectory(prefix="zoo-") as folder, SuiteRunner() as runner:
        jobs = [runner.submit(_catch, bug, Path(folder), runner) for bug in bugs]
        for job in concurrent.futures.as_completed(jobs):
            catch = job.result()
            catches[catch.bug.name] = catch
            tests = sum(map(len, catch.red.values()))
            verdict = "caught" if catch.by_its_rule else f"not caught by {catch.bug.rule}"
            progress = f"{len(catches):2} of {len(bugs)}  {catch.bug.name}: {verdict}"
            print(f"{progress}, {tests} red ({catch.seconds:.0f} s)", file=sys.stderr, flush=True)
    in_order = [catches[bug.name] for bug in bugs]
    print("\n".join(table(in_order)))
    if json_file is not None:
        _write_json(in_order, json_file)
    return all(catch.by_its_rule for catch in in_order)


def _catch(bug: Bug, folder: Path, runner: SuiteRunner) -> Catch:
    """Run the suite against a bug. Raises ZooError.

    A run may be cut short before it comes to the rule that the bug names. Then the tests of that
    rule are run by themselves.
    """
    begin = time.monotonic()
    server = python_server(bug.write_copy(folder / bug.name, broken=True))

    def run(*options: str) -> SuiteReport:
        return runner.run(server, bug.profile, "tests/suite", *options, run_limit=RUN_LIMIT)

    try:
        report = run()
        red = report.failed()
        if report.cut_short and bug.rule not in red:
            red |= run("--rule", bug.rule).failed()
    except NoTestWasRun as error:
        raise ZooError(f"{bug.name}: {error}") from None
    return Catch(bug, red, report.cut_short, time.monotonic() - begin)


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
        *(f"{catch.bug.name}: {catch.cut_short.reason}" for catch in catches if catch.cut_short),
        f"{caught} of {len(catches)} caught by the rule they name",
    ]
    return lines


def _cell(catch: Catch, rule: str) -> str:
    if rule == catch.bug.rule:
        return "X" if rule in catch.red else "."
    return "x" if rule in catch.red else " "


def _write_json(catches: Sequence[Catch], path: Path) -> None:
    contents = {
        "format": FORMAT,
        "bugs": {
            catch.bug.name: {
                "version": catch.bug.version,
                "rule": catch.bug.rule,
                "caught": catch.by_its_rule,
                "red": catch.red,
                "cut_short": catch.cut_short and str(catch.cut_short),
            }
            for catch in catches
        },
    }
    try:
        path.write_text(json.dumps(contents, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise ZooError(f"cannot write {path}: {error.strerror}") from None
