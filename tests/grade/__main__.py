"""`python3 -m tests.grade`: grade one server, or a folder of submissions."""

import argparse
import csv
import glob
import io
import json
import os
import re
import shlex
import sys
import time
from collections import Counter
from pathlib import Path

from tests import rules
from tests.grade import gradescope, points, suite
from tests.grade.apart import grade_apart
from tests.grade.containment import NOT_PROTECTED, Limits, signals_as_interrupts
from tests.grade.grading import Grade, Order, Submission, grade
from tests.grade.model import MODELS
from tests.grade.report import report, table

SHORTEST_TIME, LONGEST_TIME = 20.0, 86_400.0
DEFAULT_COMMAND = f"{shlex.quote(sys.executable)} {{file}} --port {{port}} {{options}}"
MEBIBYTE = 1 << 20


class Refusal(Exception):
    """What was asked for cannot be done: one line that says why."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python3 -m tests.grade",
        description="Grade a chat server against PROTOCOL.md: points per rule, and its model.",
        epilog=NOT_PROTECTED,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--server",
        metavar="CMD",
        help="the command that starts the server, with {port} in it, and {options} for our launch "
        "contract; beside --each with {file} in it, and by default it is this Python's: "
        "'PYTHON {file} --port {port} {options}'",
    )
    parser.add_argument(
        "--each",
        metavar="GLOB",
        help="grade every file that matches, such as 'submissions/*/server.py' (in quotes)",
    )
    parser.add_argument(
        "--folder", metavar="DIR", help="beside --server: run it in a copy of this folder"
    )
    parser.add_argument("--profile", choices=("echo", "chat"), required=True)
    parser.add_argument(
        "--task",
        choices=tuple(rules.TASKS),
        help="grade the rules of this task (tasks/TASK/README.md) and not those of PROTOCOL.md",
    )
    parser.add_argument(
        "--model", choices=(*MODELS, "any"), help="grade the concurrency model as well: 20 of 100"
    )
    parser.add_argument("--json", metavar="FILE", help="write Gradescope's results.json there")
    parser.add_argument(
        "--out", metavar="DIR", default="grades", help="beside --each: for the files (grades)"
    )
    parser.add_argument(
        "--only", metavar="NAME", nargs="+", action="extend", help="milestones or rules, or model"
    )
    parser.add_argument(
        "--hidden",
        metavar="NAME",
        action="append",
        default=[],
        help="a milestone, a rule or model that students see after grades are published "
        "(repeatable; its points count)",
    )
    parser.add_argument(
        "--time-limit", metavar="S", type=float, default=120.0, help="for each server (120 s)"
    )
    parser.add_argument(
        "--memory", metavar="MIB", type=int, default=1024, help="for each process (1024)"
    )
    parser.add_argument(
        "--processes", metavar="N", type=int, default=1500, help="at once, for a server (1500)"
    )
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Grade; returns the exit status.

    0: it was done; 1: a result could not be written; 2: a wrong option; 130: Ctrl-C.
    """
    options = parser().parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):
        # A terminal may not have all the letters that a rule or a server is made of.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        order = _order(options)
        submissions = _submissions(options)
        if not suite.is_pytest_there():
            raise Refusal("grade needs pytest: python3 -m pip install pytest")
        _try_to_write(options)
    except Refusal as refusal:
        print(f"grade: {refusal}", file=sys.stderr)
        return 2
    with signals_as_interrupts():
        try:
            return _grade_all(options, order, submissions)
        except OSError as error:
            what = error.filename or "the report"
            print(f"grade: cannot write {what}: {error.strerror}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("grade: interrupted; everything that was started is ended", file=sys.stderr)
            return 130


def _order(options: argparse.Namespace) -> Order:
    # Written this way round, the comparison is false for "nan", too.
    if not SHORTEST_TIME <= options.time_limit <= LONGEST_TIME:
        span = f"from {SHORTEST_TIME:g} to {LONGEST_TIME:g} s"
        raise Refusal(f"--time-limit: {span}, got {options.time_limit:g}")
    if options.memory < 1 or options.processes < 1:
        raise Refusal("--memory and --processes: whole numbers from 1")
    try:
        chosen, model_chosen = points.selection(options.only or [], options.profile, options.task)
    except ValueError as error:
        raise Refusal(f"--only: {error}") from None
    try:
        points.selection(options.hidden, options.profile, options.task)
    except ValueError as error:
        raise Refusal(f"--hidden: {error}") from None
    model = options.model or ("any" if model_chosen else None)
    limits = Limits(
        cpu_seconds=max(1, round(options.time_limit)),
        memory=options.memory * MEBIBYTE,
        processes=options.processes,
    )
    return Order(
        options.profile,
        model,
        options.task,
        tuple(chosen),
        model_alone=model_chosen and not chosen,
        time_limit=options.time_limit,
        limits=limits,
    )


def _submissions(options: argparse.Namespace) -> list[Submission]:
    if options.each is None:
        return [_single(options)]
    if options.json:
        raise Refusal("--json goes with one --server; --each writes a file each, see --out")
    if options.folder:
        raise Refusal("--folder goes with one --server; --each copies the folder of each file")
    template = options.server or DEFAULT_COMMAND
    if "{file}" not in template or "{port}" not in template:
        raise Refusal(f"--server beside --each needs {{file}} and {{port}} in it, got {template!r}")
    files = sorted(Path(path) for path in glob.glob(options.each, recursive=True))
    files = [path for path in files if path.is_file()]
    if not files:
        raise Refusal(f"--each: no file matches {options.each!r}")
    return name_submissions(files, template)


def name_submissions(files: list[Path], template: str) -> list[Submission]:
    """A submission for each file, named by what its path has of its own.

    A file that is alone in its folder brings the folder; of several in one, each comes alone.
    """
    together = Counter(path.absolute().parent for path in files)
    base = os.path.commonpath([path.absolute().parent for path in files])
    found = []
    for path in files:
        whole = path.absolute()
        alone = together[whole.parent] == 1
        own = whole.parent if alone else whole.with_suffix("")
        inside = os.path.relpath(own, base)
        name = re.sub(r"[^\w.-]+", "_", own.name if inside == "." else inside)
        # Two paths may differ only in what a name leaves out.
        if any(name == other.name for other in found):
            name = f"{name}-{len(found) + 1}"
        command = template.replace("{file}", shlex.quote(whole.name))
        found.append(Submission(name, command, whole.parent if alone else whole))
    return found


def _single(options: argparse.Namespace) -> Submission:
    if options.server is None:
        raise Refusal("nothing to grade: give --server 'CMD with {port} {options}', or --each GLOB")
    if "{port}" not in options.server:
        raise Refusal(f"--server needs a command with {{port}} in it, got {options.server!r}")
    try:
        words = shlex.split(options.server, posix=os.name != "nt")
    except ValueError as error:
        raise Refusal(f"--server: {str(error).lower()}: {options.server!r}") from None
    if options.folder is None:
        return Submission("server", _with_whole_paths(words))
    folder = Path(options.folder)
    if not folder.is_dir():
        raise Refusal(f"--folder: {options.folder} is no folder")
    return Submission(folder.resolve().name, options.server, folder.resolve())


def _with_whole_paths(words: list[str]) -> str:
    """The command with its relative paths made whole: it will run in an empty folder."""
    whole = []
    for position, word in enumerate(words):
        is_path = os.sep in word or position > 0
        if is_path and not os.path.isabs(word) and os.path.exists(word):
            word = os.path.abspath(word)
        whole.append(word if word in ("{port}", "{options}") else _quote(word))
    return " ".join(whole)


def _quote(word: str) -> str:
    """Quoted for shlex, unless that would hide a placeholder's place: `--port={port}`."""
    return word if re.fullmatch(r"[\w@%+=:,./{}-]+", word) else shlex.quote(word)


def _try_to_write(options: argparse.Namespace) -> None:
    """Find out before a minute of grading that the result could not be written."""
    path = options.json and Path(options.json)
    try:
        if options.each:
            Path(options.out).mkdir(parents=True, exist_ok=True)
            path = _path_of_all(options)
        if path:
            was_there = path.exists()
            with path.open("a", encoding="utf-8"):
                pass
            if not was_there:
                path.unlink()
    except OSError as error:
        raise Refusal(f"cannot write {error.filename}: {error.strerror}") from None


def _path_of_all(options: argparse.Namespace) -> Path:
    return Path(options.out) / "grades.csv"


def _grade_all(options: argparse.Namespace, order: Order, submissions: list[Submission]) -> int:
    hidden = frozenset(
        name if name in rules.milestones(options.task) or name == "model" else _spelled(name)
        for name in options.hidden
    )
    if options.each is None:
        result = grade(submissions[0], order)
        if options.json:
            _write_json(Path(options.json), gradescope.results(result, hidden))
        sys.stdout.write(report(result))
        return 0
    grades: list[Grade] = []
    try:
        for number, submission in enumerate(submissions, 1):
            begin = time.monotonic()
            result = grade_apart(submission, order)
            grades.append(result)
            out = Path(options.out)
            (out / f"{submission.name}.txt").write_text(report(result), encoding="utf-8")
            _write_json(out / f"{submission.name}.json", gradescope.results(result, hidden))
            # After each: whatever becomes of the next, this is kept.
            _write_csv(_path_of_all(options), grades)
            print(
                f"{number}/{len(submissions)} {submission.name}: {result.earned:.1f} points "
                f"in {time.monotonic() - begin:.0f} s",
                file=sys.stderr,
            )
    finally:
        if grades:
            sys.stdout.write(table(grades))
    return 0


def _spelled(name: str) -> str:
    """A rule as PROTOCOL.md spells it."""
    return name if name == "launch" else name.upper()


def _write_json(path: Path, contents: dict) -> None:
    path.write_text(json.dumps(contents, indent=1) + "\n", encoding="utf-8")


def _write_csv(path: Path, grades: list[Grade]) -> None:
    """For a spreadsheet: a line for each submission."""
    text = io.StringIO()
    writer = csv.writer(text)
    milestones = rules.milestones(grades[0].order.task)
    writer.writerow(["submission", "points", "of", "not graded", *milestones, "model"])
    for each in grades:
        sums = [
            round(sum(member.earned for member in each.of_milestone(milestone)), 1)
            for milestone in milestones
        ]
        model = each.verdict.earned if each.verdict else ""
        writer.writerow([each.name, each.earned, each.worth, each.not_graded, *sums, model])
    path.write_text(text.getvalue(), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
