"""`python3 -m tests.grade`: grade one server, or a folder of submissions."""

import argparse
import csv
import glob
import importlib.util
import itertools
import json
import os
import re
import shlex
import sys
import time
import unicodedata
from collections import Counter
from pathlib import Path

from harness.command_line import OptionParser, run
from harness.server_under_test import OPTIONS, PORT
from tests.grade import gradescope, points
from tests.grade.apart import grade_apart
from tests.grade.containment import MEBIBYTE, NOT_PROTECTED, Limits
from tests.grade.grading import Grade, Order, Submission, grade
from tests.grade.judgement import MODELS
from tests.grade.report import readable, report, table
from tests.suite import rules

TOOL = "grade"
SHORTEST_TIME, LONGEST_TIME = 20.0, 86_400.0
FILE = "{file}"
SPREADSHEET = "grades.csv"
# Bytes. Most systems allow 255, a number and a suffix included.
LONGEST_FILE_NAME = 200
DEFAULT_COMMAND = f"{shlex.quote(sys.executable)} {FILE} --port {PORT} {OPTIONS}"


class Refusal(Exception):
    """What was asked for cannot be done: one line that says why."""


def main(arguments: list[str] | None = None) -> int:
    """Grade; returns the exit status.

    0: it was done; 1: a result could not be written; 2: a wrong option; 130: Ctrl-C.
    """
    options = parse_options(arguments)
    return run(TOOL, lambda: _grade_what_was_asked(options))


def parse_options(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line. A mistake ends the program with one line and status 2."""
    parser = OptionParser(
        TOOL,
        prog="python3 -m tests.grade",
        description="Grade a chat server against PROTOCOL.md: points per rule, and its model.",
        epilog=NOT_PROTECTED,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    option = parser.add_argument
    option(
        "--server",
        metavar="CMD",
        help="the command that starts the server, with {port} in it, and {options} for our launch "
        "contract; beside --each with {file} in it, and by default it is this Python's: "
        "'PYTHON {file} --port {port} {options}'",
    )
    option(
        "--each",
        metavar="GLOB",
        help="grade every file that matches, such as 'submissions/*/server.py' (in quotes)",
    )
    option("--folder", metavar="DIR", help="beside --server: run it in a copy of this folder")
    option("--profile", choices=("echo", "chat"), required=True)
    option(
        "--task",
        choices=tuple(rules.TASKS),
        help="grade the rules of this task (tasks/TASK/README.md) and not those of PROTOCOL.md",
    )
    option(
        "--model", choices=(*MODELS, "any"), help="grade the concurrency model as well: 20 of 100"
    )
    option("--json", metavar="FILE", type=Path, help="write Gradescope's results.json there")
    option(
        "--out",
        metavar="DIR",
        type=Path,
        default=Path("grades"),
        help="beside --each: for the files (grades)",
    )
    option(
        "--only", metavar="NAME", nargs="+", action="extend", help="milestones or rules, or model"
    )
    option(
        "--hidden",
        metavar="NAME",
        action="append",
        default=[],
        help="a milestone, a rule or model that students see after grades are published "
        "(repeatable; its points count)",
    )
    option("--time-limit", metavar="S", type=float, default=120.0, help="for each server (120 s)")
    option("--memory", metavar="MIB", type=int, default=1024, help="for each process (1024)")
    option("--processes", metavar="N", type=int, default=1500, help="at once, for a server (1500)")
    return parser.parse_args(arguments)


def _grade_what_was_asked(options: argparse.Namespace) -> int:
    try:
        order = _order(options)
        submissions = _submissions(options)
        if importlib.util.find_spec("pytest") is None:
            raise Refusal(
                "pytest is missing: python3 -m pip install pytest (in a virtual environment)"
            )
        _try_to_write(options)
    except Refusal as refusal:
        print(f"{TOOL}: {refusal}", file=sys.stderr)
        return 2
    try:
        if options.each is None:
            _grade_one(options, submissions[0], order)
        else:
            _grade_each(options, submissions, order)
        sys.stdout.flush()
    # Nobody reads the report, as in `... | head -1`.
    except BrokenPipeError:
        raise
    except OSError as error:
        what = error.filename or "the report"
        raise OSError(f"cannot write {what}: {error.strerror}") from None
    return 0


def _order(options: argparse.Namespace) -> Order:
    # Written this way round, the comparison is false for "nan", too.
    if not SHORTEST_TIME <= options.time_limit <= LONGEST_TIME:
        span = f"from {SHORTEST_TIME:g} to {LONGEST_TIME:g} s"
        raise Refusal(f"--time-limit: {span}, got {options.time_limit:g}")
    if options.memory < 1 or options.processes < 1:
        raise Refusal("--memory and --processes: whole numbers from 1")
    _select("--hidden", options.hidden, options)
    chosen, model_chosen = _select("--only", options.only or [], options)
    limits = Limits(
        cpu_seconds=max(1, round(options.time_limit)),
        memory=options.memory * MEBIBYTE,
        processes=options.processes,
    )
    return Order(
        options.profile,
        options.model or ("any" if model_chosen else None),
        options.task,
        tuple(chosen),
        model_alone=model_chosen and not chosen,
        time_limit=options.time_limit,
        limits=limits,
    )


def _select(option: str, names: list[str], options: argparse.Namespace) -> tuple[list[str], bool]:
    try:
        return points.selection(names, options.profile, options.task)
    except ValueError as error:
        raise Refusal(f"{option}: {error}") from None


def _submissions(options: argparse.Namespace) -> list[Submission]:
    if options.each is None:
        return [_single(options)]
    if options.json:
        raise Refusal("--json goes with one --server; --each writes a file each, see --out")
    if options.folder:
        raise Refusal("--folder goes with one --server; --each copies the folder of each file")
    template = options.server or DEFAULT_COMMAND
    if FILE not in template or PORT not in template:
        raise Refusal(f"--server beside --each needs {{file}} and {{port}} in it, got {template!r}")
    matches = glob.glob(options.each, recursive=True)
    files = sorted((path for path in matches if os.path.isfile(path)), key=Path)
    if not files:
        raise Refusal(f"--each: no file matches {options.each!r}")
    return name_submissions(files, template, options.profile)


def name_submissions(files: list[str], template: str, profile: str) -> list[Submission]:
    """A submission for each file, named by the part of its path that the others do not share.

    A file that is alone in its folder brings the folder; of several in one, each comes alone.
    """
    paths = [Path(file).absolute() for file in files]
    together = Counter(path.parent for path in paths)
    sources = [path.parent if together[path.parent] == 1 else path for path in paths]
    base = Path(os.path.commonpath([path.parent for path in paths]))
    names = [_own_name(source, base) for source in sources]
    # Two may differ only in what a name leaves out, and the root of all folders has none.
    if len(set(filter(None, names))) < len(names):
        names = [path.relative_to(base).as_posix() for path in paths]
    return [
        Submission(
            name,
            profile,
            template.replace(FILE, shlex.quote(path.name)),
            source=source,
            given=file,
        )
        for name, path, source, file in zip(names, paths, sources, files, strict=True)
    ]


def _own_name(source: Path, base: Path) -> str:
    """The path from `base` to a folder, or to a file but for its suffix; for `base` its name."""
    if source == base:
        return source.name
    inside = source.relative_to(base)
    return (inside.with_suffix("") if source.is_file() else inside).as_posix()


def file_names(names: list[str]) -> dict[str, str]:
    """What the files of each submission are called: as itself, as far as a file can be.

    No two are alike, not even where a system ignores case, or how a letter is composed.
    """
    chosen = {}
    taken: set[str] = set()
    # A name that can stay as it is comes before one that becomes like it.
    for name in sorted(names, key=lambda name: name != _possible(name)):
        own = _possible(name)
        numbered = (f"{own}-{number}" for number in itertools.count(2))
        free = next(each for each in itertools.chain([own], numbered) if _folded(each) not in taken)
        taken.add(_folded(free))
        chosen[name] = free
    return chosen


def _possible(name: str) -> str:
    letters = (each if each.isprintable() and each not in r"\/" else "_" for each in name)
    return "".join(letters).encode()[:LONGEST_FILE_NAME].decode(errors="ignore")


def _folded(name: str) -> str:
    return unicodedata.normalize("NFKD", name).casefold()


def _single(options: argparse.Namespace) -> Submission:
    if options.server is None:
        raise Refusal("nothing to grade: give --server 'CMD with {port} {options}', or --each GLOB")
    if PORT not in options.server:
        raise Refusal(f"--server needs a command with {{port}} in it, got {options.server!r}")
    try:
        words = shlex.split(options.server, posix=os.name != "nt")
    except ValueError as error:
        raise Refusal(f"--server: {str(error).lower()}: {options.server!r}") from None
    if options.folder is None:
        command = _with_whole_paths(words)
        return Submission("server", options.profile, command, given=options.server)
    folder = Path(options.folder)
    if not folder.is_dir():
        raise Refusal(f"--folder: {options.folder} is no folder")
    return Submission(
        folder.absolute().name,
        options.profile,
        options.server,
        source=folder.resolve(),
        given=options.folder,
    )


def _with_whole_paths(words: list[str]) -> str:
    """The command with its relative paths made whole: it will run in an empty folder."""
    whole = []
    for position, word in enumerate(words):
        is_path = os.sep in word or position > 0
        if is_path and not os.path.isabs(word) and os.path.exists(word):
            word = os.path.abspath(word)
        whole.append(_quote(word))
    return " ".join(whole)


def _quote(word: str) -> str:
    """Quoted for shlex, unless that would hide a placeholder's place: `--port={port}`."""
    return word if re.fullmatch(r"[\w@%+=:,./{}-]+", word) else shlex.quote(word)


def _try_to_write(options: argparse.Namespace) -> None:
    """Find out before a minute of grading that the result could not be written."""
    path = options.json
    try:
        if options.each:
            options.out.mkdir(parents=True, exist_ok=True)
            path = options.out / SPREADSHEET
        if path:
            was_there = path.exists()
            with path.open("a", encoding="utf-8"):
                pass
            if not was_there:
                path.unlink()
    except OSError as error:
        raise Refusal(f"cannot write {error.filename}: {error.strerror}") from None


def _grade_one(options: argparse.Namespace, submission: Submission, order: Order) -> None:
    result = grade(submission, order)
    if options.json:
        _write_json(options.json, gradescope.results(result, _hidden(options)))
    sys.stdout.write(report(result))


def _grade_each(options: argparse.Namespace, submissions: list[Submission], order: Order) -> None:
    grades: list[Grade] = []
    called = file_names([submission.name for submission in submissions])
    try:
        for number, submission in enumerate(submissions, 1):
            file = called[submission.name]
            begin = time.monotonic()
            result = grade_apart(submission, order)
            grades.append(result)
            text = report(result)
            (options.out / f"{file}.txt").write_text(text, encoding="utf-8")
            contents = gradescope.results(result, _hidden(options))
            _write_json(options.out / f"{file}.json", contents)
            # After each: whatever becomes of the next, this is kept.
            _write_csv(options.out / SPREADSHEET, grades)
            seconds = time.monotonic() - begin
            done = f"{number}/{len(submissions)} {readable(submission.name)}"
            print(f"{done}: {result.earned:.1f} points in {seconds:.0f} s", file=sys.stderr)
    finally:
        if grades:
            sys.stdout.write(table(grades))


def _hidden(options: argparse.Namespace) -> frozenset[str]:
    """The names that --hidden gives, rules as PROTOCOL.md spells them."""
    as_they_are = {*rules.milestones(options.task), "model", rules.LAUNCH}
    return frozenset(name if name in as_they_are else name.upper() for name in options.hidden)


def _write_json(path: Path, contents: dict) -> None:
    path.write_text(json.dumps(contents, indent=1) + "\n", encoding="utf-8")


def _write_csv(path: Path, grades: list[Grade]) -> None:
    milestones = rules.milestones(grades[0].order.task)
    # A name that is no UTF-8 is written as the system has it.
    with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(
            ["submission", "given as", "points", "of", "not graded", *milestones, "model"]
        )
        for each in grades:
            sums = [points.total(each.of_milestone(name), "earned") for name in milestones]
            model = each.verdict.earned if each.verdict else ""
            whose = [each.name, each.given]
            writer.writerow([*whose, each.earned, each.worth, each.not_graded, *sums, model])


if __name__ == "__main__":
    sys.exit(main())
