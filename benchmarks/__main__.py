"""Command line of the study's demo and benchmarks; see `python3 -m benchmarks --help`."""

import argparse
import dataclasses
import sys
import tempfile
import textwrap
from collections.abc import Sequence
from pathlib import Path

from benchmarks import demo
from benchmarks.contestants import lineup
from benchmarks.contestants.lineup import Contestant
from benchmarks.experiments.catalogue import EXPERIMENTS
from benchmarks.report import answer, compare, page, pictures, readme, tables, verdict
from benchmarks.report.progress import Progress
from benchmarks.report.source import ReportError, open_view
from benchmarks.result.file import ResultError, kept_name, load_result, try_folder
from benchmarks.result.view import View
from benchmarks.run.calibration import wait_until_quiet
from benchmarks.run.plan import EFFORTS, Effort, Plan, descriptors_needed
from benchmarks.run.run import Run, duration
from benchmarks.timeline import command as timeline
from harness import command_line, launcher, system
from harness.server_under_test import CommandError

DEFAULT_OUT = Path("results")
ANSWER = "answer"  # for --only: the rows of the answer
ROUNDS_OF_TWINS = {"smoke": 1, "quick": 15, "full": 15}
OVERVIEW = """\
commands (without one, everything is measured):
  demo                    all four servers play one conversation, side by side
  aa                      measure one version against itself: is the method right?
  compare A.json B.json   before and after, number by number
  report RESULT.json      pictures and page again, without measuring
  timeline                one conversation, recorded on each server, drawn under one time axis
Each has its own --help.
"""


def main(arguments: list[str]) -> int:
    """Run one command and return the exit status. Whatever a user can cause is one line."""
    commands = {
        "demo": _demo,
        "aa": _aa,
        "compare": _compare,
        "report": _report,
        "timeline": _timeline,
        "run": _run,
    }
    command, options = _run, arguments
    if arguments and arguments[0] in commands:
        command, options = commands[arguments[0]], arguments[1:]
    expected = (
        CommandError,
        launcher.LaunchError,
        demo.DemoError,
        ResultError,
        ReportError,
        *timeline.MISTAKES,
    )
    return command_line.run("benchmarks", lambda: command(options), expected)


def _print_wrapped(*sentences: str) -> None:
    for sentence in sentences:
        print(textwrap.fill(sentence, tables.WIDTH, subsequent_indent="  "), flush=True)


def _parser(command: str, description: str, epilog: str = "") -> argparse.ArgumentParser:
    return command_line.OptionParser(
        "benchmarks",
        prog=f"python3 -m benchmarks {command}".strip(),
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _demo(arguments: list[str]) -> int:
    about = "Play one conversation to all four servers and print what was seen."
    _parser("demo", about).parse_args(arguments)
    demo.run()
    return 0


def _compare(arguments: list[str]) -> int:
    parser = _parser("compare", "Two result files, number by number: what differs, and how much.")
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    options = parser.parse_args(arguments)
    print(compare.compare_files(options.before, options.after))
    return 0


def _report(arguments: list[str]) -> int:
    parser = _parser("report", "Draw the pictures and write report.html of a result file again.")
    parser.add_argument("result", type=Path)
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: beside the result file")
    parser.add_argument(
        "--readme",
        type=Path,
        metavar="FILE",
        help="also renew this README and the chapters beside it",
    )
    parser.add_argument(
        "--although-busy",
        action="store_true",
        help="also from a run whose machine was not quiet; the documents then say so",
    )
    options = parser.parse_args(arguments)
    result = load_result(options.result)
    if result["finished"] is None:
        print(f"{options.result}: the run did not end; it has {len(result['trials'])} trials")
    _write_report(options.result, options.out or options.result.parent)
    if options.readme:
        changed = readme.rewrite_readme(options.readme, options.result, options.although_busy)
        print("\n".join(f"{path}: renewed" for path in changed) or f"{options.readme}: unchanged")
    return 0


def _write_report(result: Path, out: Path) -> None:
    for path in page.write_report(result, out):
        print(path)
    if problem := pictures.pictures_available():
        _print_wrapped(problem)


def _timeline(arguments: list[str]) -> int:
    parser = _parser("timeline", timeline.ABOUT, timeline.SCRIPT_FORMAT)
    timeline.add_options(parser)
    progress = Progress()
    try:
        lines = timeline.run(parser.parse_args(arguments), progress.show)
    finally:
        progress.clear()
    _print_wrapped(*lines)
    return 0


def _measuring_parser(command: str, description: str, epilog: str = "") -> argparse.ArgumentParser:
    parser = _parser(command, description, epilog)
    group = parser.add_mutually_exclusive_group()
    for size, meaning in (
        (
            "quick",
            "fewer and shorter trials: the answer, then the rest as far as 4 minutes go",
        ),
        ("smoke", "tiny: shows that everything runs; its numbers mean nothing"),
    ):
        group.add_argument(
            f"--{size}", action="store_const", const=size, dest="size", default="full", help=meaning
        )
    parser.add_argument(
        "--only",
        metavar="LIST",
        help=f"some of {','.join(EXPERIMENTS)}; {ANSWER} stands for the rows of the answer alone",
    )
    parser.add_argument(
        "--trials",
        type=int,
        metavar="N",
        help="of each server at each point, in as many rounds (without: the rows of the answer are"
        " measured until they are settled)",
    )
    parser.add_argument(
        "--out", type=Path, default=DEFAULT_OUT, metavar="DIR", help=f"default: {DEFAULT_OUT}/"
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on with the interrupted or killed run in --out, given the same options; trials"
        " that other programs disturbed are measured again",
    )
    parser.add_argument(
        "--server-cores", type=int, default=1, metavar="N", help="cores for the server (default: 1)"
    )
    return parser


def _run(arguments: list[str]) -> int:
    parser = _measuring_parser(
        "", "Compare the servers under one load: tables, a result file, report.html.", OVERVIEW
    )
    parser.add_argument("--versions", metavar="LIST", help="such as v2,v4 (default: all four)")
    parser.add_argument(
        "--no-floors",
        action="store_true",
        help="without the floors in C and the server that most tutorials write, which take part"
        " beside whatever --versions names",
    )
    parser.add_argument(
        "--uvloop",
        action="store_true",
        help="beside them, v4_asyncio/small.py on asyncio's own loop and on uvloop's",
    )
    parser.add_argument(
        "--python",
        action="append",
        metavar="PATH",
        help="run the servers under this interpreter; several may be given and are compared",
    )
    parser.add_argument(
        "--server",
        action="append",
        default=[],
        metavar="NAME=CMD",
        help="a server of your own beside them; {port} in CMD stands for its port, and {options}"
        " for the options of the launch contract, of which it is given none here",
    )
    parser.add_argument(
        "--profile", choices=("echo", "chat"), default="chat", help="of --server (default: chat)"
    )
    options = _checked(parser.parse_args(arguments))
    pythons = options.python or [sys.executable]
    contestants = lineup.ours(lineup.versions_named(options.versions), pythons)
    missing = []
    with tempfile.TemporaryDirectory(prefix="chat-floors-") as folder:
        if not options.no_floors:
            floors, why_not = lineup.floors(Path(folder))
            contestants += [*floors, lineup.tutorial(pythons[0])]
            missing += [why_not] if why_not else []
        if options.uvloop:
            small, why_not = lineup.small_on_loops(pythons[0])
            contestants += small
            missing += [why_not] if why_not else []
        for text in options.server:
            contestants.append(lineup.theirs(text, options.profile, contestants))
        path = options.out / "result.json"
        run = _measure(contestants, options, "run", path, missing)
    view = View(run.result)
    for name in view.experiments():
        print(tables.format_experiment(view, name), flush=True)
    _print_answer(view)
    _print_wrapped(*tables.format_troubles(view))
    print(f"\n{path}")
    _write_report(path, options.out)
    return _ended(run)


def _aa(arguments: list[str]) -> int:
    parser = _measuring_parser(
        "aa",
        "Measure one version against itself, as if it were two: about 5 % of the differences are"
        " shown although there are none. More would say that the method is wrong.",
    )
    parser.add_argument("--versions", default="v4", metavar="ONE", help="which (default: v4)")
    parser.add_argument("--python", metavar="PATH", help="run it under this interpreter")
    options = _checked(parser.parse_args(arguments))
    versions = lineup.versions_named(options.versions)
    if len(versions) != 1:
        raise CommandError(f"aa: one version at a time, not {options.versions}")
    (one,) = lineup.ours(versions, [options.python or sys.executable])
    twins = [dataclasses.replace(one, name=f"{one.name} {letter}") for letter in "AB"]
    path = options.out / ("aa.json" if options.size == "full" else f"aa-{options.size}.json")
    run = _measure(twins, options, "aa", path)
    view = View(run.result)
    _print_wrapped(*tables.format_troubles(view))
    print(f"\n{tables.terminal(compare.against_itself(view))}\n\n{path}")
    return _ended(run)


def _ended(run: Run) -> int:
    if not run.result["interrupted"]:
        return 0
    kept = f"{len(run.result['trials'])} trials kept, --resume goes on"
    print(f"benchmarks: interrupted; {kept}", file=sys.stderr)
    return 130


def _measure(
    contestants: list[Contestant],
    options: argparse.Namespace,
    kind: str,
    path: Path,
    missing: Sequence[str] = (),
) -> Run:
    """Make the plan, see who may be measured, say what is coming, and measure."""
    effort = EFFORTS[options.size]
    if kind == "aa" or options.trials is not None:
        effort = Effort.fixed(options.trials or ROUNDS_OF_TWINS[options.size])
    try_folder(options.out)
    system.raise_descriptor_limit()
    experiments = [EXPERIMENTS[name] for name in options.experiments]
    plan = Plan(
        contestants,
        experiments,
        options.size,
        effort,
        options.server_cores,
        beside_the_answer=options.beside_the_answer,
    )
    progress = Progress()
    run = Run(plan, kind, path, progress.show, missing)
    if options.resume and not path.exists():
        raise ResultError(f"there is no {path} to go on with")
    older = open_view(path).result if options.resume else None
    kept = kept_name(path) if path.exists() and not options.resume else None
    try:
        run.check_conformance()
        described = run.result["machine"]
        cores = {*described["server_cores"], *described["client_cores"]}
        calibration = wait_until_quiet(sorted(cores), plan.size, progress.show)
    finally:
        progress.clear()
    if older:
        run.resume(older)
    elif kept:
        path.replace(kept)
    run.note_calibration(calibration)
    _print_wrapped(*_announcement(run), calibration.text)

    def on_answer() -> None:
        progress.clear()
        if kind == "run":
            _print_answer(View(run.result))

    try:
        run.everything(on_answer)
    finally:
        progress.clear()
    return run


def _print_answer(view: View) -> None:
    """The table of the answer, and what it says of the verdict; nothing if there is no row."""
    table = answer.answer(view)
    if table.rows:
        print(f"\n{tables.terminal(table)}\n")
        judged = [f"  {finding}: {one.text}" for one, finding in verdict.findings(view)]
        _print_wrapped(*([verdict.VERDICT_TITLE, *judged] if judged else []))


def _announcement(run: Run) -> list[str]:
    """What will be done, how long it takes, and what this machine lacks."""
    plan, described = run.plan, run.result["machine"]
    names = ", ".join(contestant.name for contestant in plan.contestants)
    lines = [
        f"{names}: {run.trials_planned()} trials and more where a row needs them, in"
        f" {duration(run.seconds_planned())} at most."
        " Every trial is kept: Ctrl-C, then --resume, goes on later.",
        *run.result["missing"],
    ]
    if not described["server_cores"]:
        lines.append("This system cannot pin processes to cores: expect more noise.")
    elif not described["pinned_apart"]:
        lines.append(
            "One core only: server and load generator share it, so rates and latencies say little."
            " Compare the server's CPU time, or use a machine with two cores."
        )
    limit = described["descriptors"]
    needs = (descriptors_needed(group.experiment, group.point) for group in plan.groups())
    if limit is not None and (needed := max(needs, default=0)) > limit:
        lines.append(
            f"Too few descriptors: {limit:,} are allowed, the largest points need {needed:,} and"
            f" are left out. To have them: ulimit -n {needed}"
        )
    return lines


def _checked(options: argparse.Namespace) -> argparse.Namespace:
    """The options, and the `experiments` that they name. Raises CommandError for mistakes."""
    if options.trials is not None and options.trials < 1:
        raise CommandError("--trials: at least 1")
    if options.server_cores < 1:
        raise CommandError("--server-cores: at least 1")
    names = [name.strip() for name in (options.only or "").split(",") if name.strip()]
    unknown = [name for name in names if name not in (*EXPERIMENTS, ANSWER)]
    if options.only is not None and (unknown or not names):
        raise CommandError(
            f"--only: no experiment {', '.join(unknown) or 'named'};"
            f" there are {', '.join(EXPERIMENTS)}, and {ANSWER}"
        )
    everything = options.only is None or ANSWER in names
    options.experiments = [name for name in EXPERIMENTS if name in names or everything]
    options.beside_the_answer = names if ANSWER in names else None
    return options


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
