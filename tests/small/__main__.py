"""Command line: see a rule that small.py breaks, or judge all four anew. See --help."""

import argparse
import sys
from pathlib import Path

from harness import command_line
from harness.command_line import OptionParser
from harness.launcher import PROFILES, VERSIONS
from harness.server_under_test import ServerUnderTest
from tests.small import table
from tests.small.lessons import TITLES, mends
from tests.small.scripts import SCRIPTS
from tests.small.suite import (
    SmallError,
    Verdicts,
    all_about,
    broken_by,
    judge,
    load_verdicts,
    rules_for,
    run_patiently,
    run_suite,
    save_verdicts,
    small_path,
)
from tests.suite.rule_report import Result
from tests.zoo.catalogue import ZooError
from tests.zoo.play import play_beside
from tests.zoo.stage import program_under_test
from tests.zoo.suite_runner import SuiteRunner

TOOL = "small"


def main(arguments: list[str]) -> int:
    """Run one command; returns the exit status."""

    def command() -> int:
        options = _parse(arguments)
        return options.command(options)

    return command_line.run(TOOL, command, (SmallError, ZooError))


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = OptionParser(
        TOOL,
        prog="python3 -m tests.small",
        description="Which rules each small.py keeps, and what it takes to keep all.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    show = commands.add_parser(
        "show", tool=TOOL, help="see a rule that small.py breaks, beside server.py"
    )
    show.set_defaults(command=_show)
    show.add_argument("rule", metavar="RULE", choices=sorted(SCRIPTS), help=", ".join(SCRIPTS))
    show.add_argument("--version", metavar="vN", help="of v1 to v4 (default: the first that fits)")
    check = commands.add_parser(
        "check", tool=TOOL, help="see whether a program of yours keeps a rule (needs pytest)"
    )
    check.set_defaults(command=_check)
    check.add_argument("rule", metavar="RULE", choices=sorted(TITLES), help="F2, say")
    check.add_argument("program", metavar="FILE", type=Path)
    check.add_argument("--version", metavar="vN", required=True, help="what it grew from: v1 to v4")
    anew = commands.add_parser(
        "judge", tool=TOOL, help="run the suite on all four small.py (needs pytest)"
    )
    anew.set_defaults(command=_judge)
    anew.add_argument(
        "--write", action="store_true", help="renew tests/small/README.md and verdicts.json"
    )
    return parser.parse_args(arguments)


def _show(options: argparse.Namespace) -> int:
    broken_in = broken_by(load_verdicts(), options.rule)
    fitting = [version for version in broken_in if version.startswith(options.version or "")]
    if not fitting:
        names = ", ".join(broken_in)
        raise SmallError(f"{options.rule} is broken by small.py of {names}, not {options.version}")
    version = fitting[0]
    print(f"{options.rule}, {TITLES[options.rule]}, in {version}\n", flush=True)
    seen = play_beside(
        SCRIPTS[options.rule],
        {
            "small.py (wrong: <-)": program_under_test(small_path(version), PROFILES[version]),
            "server.py": ServerUnderTest.ours(version),
        },
    )
    names = ", ".join(f"{name}()" for name in mends(options.rule, version))
    print(f"\nWhat keeps the rule in {version}/server.py: {names}")
    return 0 if seen else 1


def _check(options: argparse.Namespace) -> int:
    if not options.program.is_file():
        raise SmallError(f"there is no file {options.program}")
    version = next((name for name in VERSIONS if name.startswith(options.version)), None)
    if version is None or not (tests := all_about([options.rule])):
        raise SmallError(f"nothing tests {options.rule} in {options.version}")
    with SuiteRunner() as runner:
        program = options.program.resolve()
        outcomes = run_suite(runner, version, *tests, program=program).values()
    # A test that needs an option cannot start a small server, so it says nothing.
    about = [each for each in outcomes if each.rules[0] == options.rule]
    failed = [each for each in about if each.result is Result.FAILED]
    passed = [each for each in about if each.result is Result.PASSED]
    if not (passed or failed):
        raise SmallError(f"no test of {options.rule} could be run on {options.program}")
    counts = f"{len(passed)} of {len(passed) + len(failed)} tests pass"
    if others := len(outcomes) - len(passed) - len(failed):
        counts += f", {others} did not run (they need options, or a case of theirs has failed)"
    print(f"{options.rule}, {TITLES[options.rule]}: {counts}")
    for outcome in failed[:1]:
        print(f"\n  the first that does not: {outcome.test}: {outcome.says}")
        for label in ("sent", "came", "expected", "message"):
            if value := getattr(outcome, label):
                print(f"  {label:<10}{value}")
    return 1 if failed else 0


def _judge(options: argparse.Namespace) -> int:
    with SuiteRunner() as runner:
        jobs = {version: runner.submit(_judge_one, version, runner) for version in VERSIONS}
        verdicts = {version: job.result() for version, job in jobs.items()}
    for line in table.table(verdicts):
        print(line)
    if options.write:
        save_verdicts(verdicts)
        text = table.README.read_text(encoding="utf-8")
        table.README.write_text(table.renewed(text, verdicts), encoding="utf-8")
    return 0


def _judge_one(version: str, runner: SuiteRunner) -> Verdicts:
    """Run the suite on one small.py, and what failed by waiting once more. Raises SmallError."""
    verdicts = judge(run_patiently(runner, version, "tests/suite").values())
    if missing := [rule for rule in rules_for(version) if rule not in verdicts]:
        raise SmallError(f"no test says whether {version} keeps {', '.join(missing)}")
    return {rule: verdicts[rule] for rule in rules_for(version)}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
