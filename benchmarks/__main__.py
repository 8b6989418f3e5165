"""Command line of the study's demo and benchmarks; see `python3 -m benchmarks --help`."""

import argparse
import dataclasses
import os
import signal
import sys
import tempfile
import textwrap
from pathlib import Path

from benchmarks import demo
from benchmarks.arithmetic import answer, compare
from benchmarks.arithmetic.results import (
    ResultError,
    View,
    kept_name,
    load_result,
    try_folder,
)
from benchmarks.experiments import EXPERIMENTS
from benchmarks.measuring import machine
from benchmarks.measuring.runner import Plan, Run, duration, resumable
from benchmarks.servers import contestants
from benchmarks.servers.contestants import Contestant, ContestantError
from benchmarks.showing import page, pictures, readme, tables
from harness import launcher

DEFAULT_OUT = Path("results")
ROUNDS = {"smoke": 1, "quick": 3, "full": 5}
OVERVIEW = """\
commands (without one, everything is measured):
  demo                    all four servers play one conversation, side by side
  aa                      measure one version against itself: is the method right?
  compare A.json B.json   before and after, number by number
  report RESULT.json      pictures and page again, without measuring
Each has its own --help.
"""


class UsageError(Exception):
    """Something asked for cannot be: one line that says what to do."""


def main(arguments: list[str]) -> int:
    """Run one command and return the exit status. Whatever a user can cause is one line."""
    signal.signal(signal.SIGTERM, _as_interrupt)
    commands = {"demo": _demo, "aa": _aa, "compare": _compare, "report": _report, "run": _run}
    try:
        if arguments and arguments[0] in commands:
            return commands[arguments[0]](arguments[1:])
        return _run(arguments)
    except (
        UsageError,
        ContestantError,
        launcher.LaunchError,
        demo.DemoError,
        ResultError,
        page.ReportError,
    ) as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("benchmarks: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output (`| head`) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # a full or unwritable /tmp, no more processes, ...
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1


def _as_interrupt(signal_number: int, frame: object) -> None:
    """SIGTERM takes the way of Ctrl-C, on which every process we started is ended."""
    raise KeyboardInterrupt


def _tell(*sentences: str) -> None:
    """Print each, in lines that fit."""
    for sentence in sentences:
        print(textwrap.fill(sentence, tables.WIDTH, subsequent_indent="  "), flush=True)


def _parser(command: str, description: str, epilog: str = "") -> argparse.ArgumentParser:
    return argparse.ArgumentParser(
        prog=f"python3 -m benchmarks {command}".strip(),
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _demo(arguments: list[str]) -> int:
    parser = _parser("demo", "Play one conversation to all four servers and print what was seen.")
    parser.parse_args(arguments)
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
    options = parser.parse_args(arguments)
    result = load_result(options.result)
    if result["finished"] is None:
        print(f"{options.result}: the run did not end; it has {len(result['trials'])} trials")
    _write_report(options.result, options.out or options.result.parent)
    if options.readme:
        changed = readme.rewrite_readme(options.readme, options.result)
        print("\n".join(f"{path}: renewed" for path in changed) or f"{options.readme}: unchanged")
    return 0


def _write_report(result: Path, out: Path) -> None:
    for path in page.write_report(result, out):
        print(path)
    if problem := pictures.pictures_available():
        _tell(problem)


def _measuring_parser(command: str, description: str, epilog: str = "") -> argparse.ArgumentParser:
    parser = _parser(command, description, epilog)
    size = parser.add_mutually_exclusive_group()
    size.add_argument(
        "--quick",
        action="store_const",
        const="quick",
        dest="size",
        help="fewer and shorter trials, under 4 minutes for everything",
    )
    size.add_argument(
        "--smoke",
        action="store_const",
        const="smoke",
        dest="size",
        help="tiny: shows that everything runs; its numbers mean nothing",
    )
    parser.set_defaults(size="full")
    parser.add_argument("--only", metavar="LIST", help=f"some of {','.join(EXPERIMENTS)}")
    parser.add_argument(
        "--trials",
        type=int,
        metavar="N",
        help="of each server at each point, in as many rounds (full: 5, quick: 3)",
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
        help="a server of your own beside them; {port} in CMD stands for its port",
    )
    parser.add_argument(
        "--profile", choices=("echo", "chat"), default="chat", help="of --server (default: chat)"
    )
    options = parser.parse_args(arguments)
    _check(options)
    pythons = options.python or [sys.executable]
    among = contestants.ours(_versions(options.versions), pythons)
    missing = []
    with tempfile.TemporaryDirectory(prefix="chat-floors-") as folder:
        if not options.no_floors:
            floors, why_not = contestants.floors(Path(folder))
            among += [*floors, contestants.tutorial(pythons[0])]
            missing += [why_not] if why_not else []
        for text in options.server:
            among.append(contestants.theirs(text, options.profile, among))
        path = options.out / "result.json"
        run = _measure(among, options, "run", path, missing)
    view = View(run.result)
    answered = answer.answer(view)
    if answered.rows:  # with --only it may be that nothing was asked that it answers
        print(f"\n{tables.terminal(answered)}")
    _tell(*answer.sentences(view), *tables.format_troubles(view))
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
    options = parser.parse_args(arguments)
    _check(options)
    versions = _versions(options.versions)
    if len(versions) != 1:
        raise UsageError(f"aa: one version at a time, not {options.versions}")
    (one,) = contestants.ours(versions, [options.python or sys.executable])
    twins = [dataclasses.replace(one, id=f"{one.id} {letter}") for letter in "AB"]
    path = options.out / ("aa.json" if options.size == "full" else f"aa-{options.size}.json")
    run = _measure(twins, options, "aa", path, [])
    view = View(run.result)
    _tell(*tables.format_troubles(view))
    print(f"\n{tables.terminal(compare.against_itself(view))}\n\n{path}")
    return _ended(run)


def _ended(run: Run) -> int:
    if run.result["interrupted"]:
        print(
            f"benchmarks: interrupted; {len(run.result['trials'])} trials kept, --resume goes on",
            file=sys.stderr,
        )
        return 130
    return 0


def _measure(
    among: list[Contestant],
    options: argparse.Namespace,
    kind: str,
    path: Path,
    missing: list[str],
) -> Run:
    """Make the plan, say what is coming, and measure."""
    rounds = ROUNDS[options.size] if options.trials is None else options.trials
    try_folder(options.out)
    machine.raise_descriptor_limit()
    experiments = _experiments(options.only)
    plan = Plan(among, experiments, options.size, rounds, options.server_cores)
    progress = tables.Progress()
    run = Run(plan, kind, path, progress.show, missing)
    if options.resume:
        run.go_on_with(resumable(path))
    elif path.exists():
        path.replace(kept_name(path))
    _tell(*_announcement(run))

    def on_experiment(experiment: str) -> None:
        progress.clear()
        if kind == "run":
            print(tables.format_experiment(View(run.result), experiment), flush=True)

    try:
        run.everything(on_experiment)
    finally:
        progress.clear()
    if run.result["interrupted"] and run.result["trials"]:  # what was under way
        on_experiment(run.result["trials"][-1]["experiment"])
    return run


def _announcement(run: Run) -> list[str]:
    """What will be done, how long it takes, and what this machine is short of."""
    plan, described = run.plan, run.result["machine"]
    names = ", ".join(contestant.id for contestant in plan.contestants)
    lines = [
        f"{names}: {run.trials_planned()} trials, about {duration(run.seconds_planned())}."
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
    needed, limit = plan.descriptors(), described["descriptors"]
    if limit is not None and needed > limit:
        lines.append(
            f"Too few descriptors: {limit:,} are allowed, the largest points need {needed:,} and"
            f" are left out. To have them: ulimit -n {needed}"
        )
    return lines


def _check(options: argparse.Namespace) -> None:
    """Raise UsageError for what can be told to be wrong before anything is started or compiled."""
    if options.trials is not None and options.trials < 1:
        raise UsageError("--trials: at least 1")
    if options.server_cores < 1:
        raise UsageError("--server-cores: at least 1")
    _experiments(options.only)


def _experiments(text: str | None) -> list[str]:
    if text is None:
        return list(EXPERIMENTS)
    asked = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in asked if name not in EXPERIMENTS]
    if unknown or not asked:
        raise UsageError(
            f"--only: no experiment {', '.join(unknown) or 'named'};"
            f" there are {', '.join(EXPERIMENTS)}"
        )
    return [name for name in EXPERIMENTS if name in asked]


def _versions(text: str | None) -> list[str]:
    """Full names for `v2,v4`; without them all four."""
    if text is None:
        return list(launcher.VERSIONS)
    try:
        return contestants.versions_named(text)
    except ContestantError as error:
        raise UsageError(f"--versions: {error}") from None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
