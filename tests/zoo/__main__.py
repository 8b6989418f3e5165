"""Command line of the bug zoo; see `python3 -m tests.zoo --help`."""

import argparse
import sys
import textwrap
from pathlib import Path

from harness import command_line
from harness.command_line import OptionParser
from tests.zoo.catalogue import NAMES, ZooError, all_bugs, find_bug
from tests.zoo.matrix import run_matrix
from tests.zoo.play import play, play_to

TOOL = "zoo"


def main(arguments: list[str]) -> int:
    """Run one command; returns the exit status."""

    def command() -> int:
        options = _parse(arguments)
        return options.command(options)

    return command_line.run(TOOL, command, (ZooError,))


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = OptionParser(
        TOOL,
        prog="python3 -m tests.zoo",
        description="Fifteen classic bugs of chat servers, each a small diff against one of ours.",
        epilog=textwrap.fill(f"The bugs: {', '.join(NAMES)}.", 78, break_on_hyphens=False),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, command, summary in (
        ("list", _list, "name, version, rule and one line of each bug"),
        ("show", _show, "what there is to say about a bug, and its diff"),
        ("run", _run, "see a bug: the broken server beside the right one"),
        ("copy", _copy, "write the server with a bug into a new file, for you to mend"),
        ("check", _check, "see whether the bug is gone from a file"),
        ("matrix", _matrix, "run the whole suite against each bug (needs pytest)"),
    ):
        subparser = commands.add_parser(name, tool=TOOL, help=summary, description=summary)
        subparser.set_defaults(command=command)
        if name in ("show", "run", "copy", "check"):
            subparser.add_argument("name", metavar="NAME")
        if name in ("copy", "check"):
            subparser.add_argument("file", metavar="FILE", type=Path)
        if name == "matrix":
            subparser.add_argument("names", metavar="NAME", nargs="*", help="only these bugs")
            subparser.add_argument(
                "--json", type=Path, metavar="FILE", help="write the results, too"
            )
    return parser.parse_args(arguments)


def _list(options: argparse.Namespace) -> int:
    for bug in all_bugs():
        print(f"{bug.name:17}  {bug.version:12}  {bug.rule}  {bug.headline}")
    return 0


def _show(options: argparse.Namespace) -> int:
    bug = find_bug(options.name)
    print(f"{bug.name}: {bug.headline}\n\n{bug.text}\n{bug.diff}", end="")
    return 0


def _run(options: argparse.Namespace) -> int:
    return 0 if play(find_bug(options.name)) else 1


def _copy(options: argparse.Namespace) -> int:
    bug = find_bug(options.name)
    try:
        options.file.parent.mkdir(exist_ok=True)
        with options.file.open("x", encoding="utf-8") as file:
            file.write(bug.broken_source())
    except OSError as error:
        raise ZooError(f"cannot write {options.file}: {error.strerror}") from None
    print(f"{options.file}: {bug.version}/server.py, with a bug in it: {bug.headline}")
    print(f"Have you mended it? python3 -m tests.zoo check {bug.name} {options.file}")
    return 0


def _check(options: argparse.Namespace) -> int:
    if not options.file.is_file():
        raise ZooError(f"there is no file {options.file}; `copy` writes it")
    return 0 if play_to(options.file, find_bug(options.name)) else 1


def _matrix(options: argparse.Namespace) -> int:
    bugs = [find_bug(name) for name in dict.fromkeys(options.names)] or all_bugs()
    return 0 if run_matrix(bugs, options.json) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
