"""Command line: see a rule that small.py breaks, or judge all four anew. See --help."""

import argparse
import concurrent.futures
import sys
import tempfile
from pathlib import Path
from typing import NoReturn

from harness import command_line
from harness.launcher import PROFILES, REPOSITORY, VERSIONS
from tests.small import table
from tests.small.lessons import TITLES, mends
from tests.small.scripts import SCRIPTS
from tests.small.suite import (
    SmallError,
    Verdict,
    Verdicts,
    broken_by,
    failed_by_waiting,
    judge,
    load_verdicts,
    rules_for,
    run_suite,
    save_verdicts,
    small_path,
)
from tests.zoo.catalogue import ZooError
from tests.zoo.play import play_beside

AT_ONCE = 2  # runs of the suite


class OptionParser(argparse.ArgumentParser):
    """Says in one line what is wrong with the command line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"small: {message} (try --help)\n")


def main(arguments: list[str]) -> int:
    """Run one command; returns the exit status."""

    def command() -> int:
        options = _parse(arguments)
        return options.command(options)

    return command_line.run("small", command, (SmallError, ZooError))


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = OptionParser(
        prog="python3 -m tests.small",
        description="Which rules each small.py keeps, and what it takes to keep all.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    show = commands.add_parser("show", help="see a rule that small.py breaks, beside server.py")
    show.set_defaults(command=_show)
    show.add_argument("rule", metavar="RULE", choices=sorted(SCRIPTS), help=", ".join(SCRIPTS))
    show.add_argument("--version", metavar="vN", help="of v1 to v4 (default: the first that fits)")
    anew = commands.add_parser("judge", help="run the suite on all four small.py (needs pytest)")
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
        PROFILES[version],
        {
            "small.py (wrong: <-)": small_path(version),
            "server.py": REPOSITORY / version / "server.py",
        },
    )
    names = ", ".join(f"{name}()" for name in mends(options.rule, version))
    print(f"\nWhat keeps the rule in {version}/server.py: {names}")
    return 0 if seen else 1


def _judge(options: argparse.Namespace) -> int:
    verdicts = _judge_all()
    for line in table.table(verdicts):
        print(line)
    if options.write:
        save_verdicts(verdicts)
        text = table.README.read_text(encoding="utf-8")
        table.README.write_text(table.renewed(text, verdicts), encoding="utf-8")
    return 0


def _judge_all() -> Verdicts:
    """Run the whole suite on the four, two at a time. Raises SmallError."""
    with (
        tempfile.TemporaryDirectory(prefix="small-") as folder,
        concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool,
    ):
        found = pool.map(lambda version: _judge_one(version, Path(folder)), VERSIONS)
        return dict(zip(VERSIONS, found, strict=True))


def _judge_one(version: str, folder: Path) -> dict[str, Verdict]:
    """Run the suite on one small.py, and what failed by waiting once more. Raises SmallError."""
    outcomes = run_suite(version, folder / f"{version}.json", "tests")
    for test in failed_by_waiting(outcomes):
        outcomes |= run_suite(version, folder / f"{version}-again.json", test)
    found = judge(outcomes)
    if missing := [rule for rule in rules_for(version) if rule not in found]:
        raise SmallError(f"no test says whether {version} keeps {', '.join(missing)}")
    return {rule: found[rule] for rule in rules_for(version)}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
