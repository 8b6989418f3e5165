"""Command line of the study's demo and benchmarks; see `python3 -m benchmarks --help`."""

import argparse
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from benchmarks import compare, demo, launcher, measure, report, summary, terminal
from benchmarks.runner import Contestant, Plan, Run, descriptors_needed, duration, noise_floors

DEFAULT_OUT = Path("results")
TRIALS = {"smoke": 1, "quick": 3, "full": 5}
OVERVIEW = """\
commands (without one, everything is measured):
  demo                    all four servers play one conversation, side by side
  aa                      measure one version against itself: the noise floor
  compare A.json B.json   before and after, point by point
  report RESULT.json      pictures and page again, without measuring
Each has its own --help.
"""
PROBE = """\
import json, platform, sys
free = not getattr(sys, "_is_gil_enabled", lambda: True)()
print(json.dumps({"version": platform.python_version() + ("t" if "t" in getattr(sys, "abiflags", "")
 else ""), "ok": sys.version_info >= (3, 11), "gil": "off" if free else "on",
 "build": platform.python_implementation() + " " + platform.python_version()
 + " (" + platform.python_compiler() + ")"}))
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
        launcher.LaunchError,
        demo.DemoError,
        summary.ResultError,
        report.ReportError,
    ) as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("benchmarks: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output (`| head`) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _as_interrupt(signal_number: int, frame: object) -> None:
    """SIGTERM takes the way of Ctrl-C, on which every process we started is ended."""
    raise KeyboardInterrupt


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
    parser = _parser("compare", "Two result files, point by point, with the noise floor.")
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
        "--readme", type=Path, metavar="FILE", help="also renew the results section of this README"
    )
    options = parser.parse_args(arguments)
    _write_report(options.result, options.out or options.result.parent)
    if options.readme:
        changed = report.rewrite_readme(options.readme, options.result)
        print(f"{options.readme}: {'results section renewed' if changed else 'unchanged'}")
    return 0


def _write_report(result: Path, out: Path) -> None:
    for path in report.write_report(result, out):
        print(path)
    if problem := report.pictures.pictures_available():
        print(problem)


def _measuring_parser(command: str, description: str, epilog: str = "") -> argparse.ArgumentParser:
    parser = _parser(command, description, epilog)
    size = parser.add_mutually_exclusive_group()
    size.add_argument(
        "--quick",
        action="store_const",
        const="quick",
        dest="size",
        help="fewer and shorter trials, under 3 minutes for everything",
    )
    size.add_argument(
        "--smoke",
        action="store_const",
        const="smoke",
        dest="size",
        help="tiny: shows that everything runs; its numbers mean nothing",
    )
    parser.set_defaults(size="full")
    parser.add_argument(
        "--only", metavar="LIST", help=f"some of {','.join(summary.EXPERIMENTS)}, with commas"
    )
    parser.add_argument("--trials", type=int, help="per point (full: 5, quick: 3)")
    parser.add_argument(
        "--out", type=Path, default=DEFAULT_OUT, metavar="DIR", help=f"default: {DEFAULT_OUT}/"
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
    versions = _versions(options.versions) if options.versions else list(launcher.VERSIONS)
    contestants = _ours(versions, options.python or [sys.executable])
    for text in options.server:
        contestants.append(_theirs(text, options.profile, contestants))
    run = _measure(contestants, options, "run")
    result_path = options.out / "result.json"
    _keep_older(result_path)
    summary.write_result(run.result, result_path)
    for line in terminal.format_troubles(run.result):
        print(line)
    if run.result["noise_floor"] is None:
        size = "" if options.size == "full" else f" --{options.size}"
        print(
            "No A/A run of this size is known for this machine: differences were judged by the"
            f" trials' spread alone. To have one: python3 -m benchmarks aa{size}"
        )
    print(result_path)
    _write_report(result_path, options.out)
    return _ended(run)


def _aa(arguments: list[str]) -> int:
    parser = _measuring_parser(
        "aa", "Measure one version against itself: differences this large are noise."
    )
    parser.add_argument("--versions", default="v4", metavar="ONE", help="which (default: v4)")
    parser.add_argument("--python", metavar="PATH", help="run it under this interpreter")
    options = parser.parse_args(arguments)
    versions = _versions(options.versions)
    if len(versions) != 1:
        raise UsageError(f"aa: one version at a time, not {options.versions}")
    (one,) = _ours(versions, [options.python or sys.executable])
    twins = [Contestant(**{**vars(one), "id": f"{one.id} {letter}"}) for letter in "AB"]
    run = _measure(twins, options, "aa")
    run.result["noise_floor"] = noise_floors(run.result)
    path = options.out / ("aa.json" if options.size == "full" else f"aa-{options.size}.json")
    summary.write_result(run.result, path)
    for line in terminal.format_troubles(run.result):
        print(line)
    print(f"\n{terminal.format_noise(run.result['noise_floor'])}\n\n{path}")
    return _ended(run)


def _ended(run: Run) -> int:
    if run.result["interrupted"]:
        print(f"benchmarks: interrupted; {len(run.result['trials'])} trials kept", file=sys.stderr)
        return 130
    return 0


def _measure(contestants: list[Contestant], options: argparse.Namespace, kind: str) -> Run:
    """Make the plan, say what is coming, and measure."""
    trials = TRIALS[options.size] if options.trials is None else options.trials
    if trials < 1:
        raise UsageError("--trials: at least 1")
    if options.server_cores < 1:
        raise UsageError("--server-cores: at least 1")
    experiments = _experiments(options.only)
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--out {options.out}: {error.strerror}") from None
    measure.raise_descriptor_limit()
    server_cores, client_cores = measure.choose_cores(options.server_cores)
    plan = Plan(contestants, experiments, options.size, trials, server_cores, client_cores)
    progress = terminal.Progress()
    run = Run(plan, kind, progress.show)
    if kind == "run":
        run.result["noise_floor"] = _known_noise(options.out, run.result)
    for line in _announcement(run):
        print(line, flush=True)

    def on_experiment(experiment: str) -> None:
        progress.clear()
        if kind == "run":
            print(terminal.format_experiment(run.result, experiment), flush=True)

    try:
        run.everything(on_experiment)
    finally:
        progress.clear()
    if run.result["interrupted"] and kind == "run":  # what was under way when it was stopped
        printed = [trial["experiment"] for trial in run.result["trials"]][-1:]
        for experiment in printed:
            print(terminal.format_experiment(run.result, experiment))
    return run


def _announcement(run: Run) -> list[str]:
    """What will be done, how long it takes, and what this machine is short of."""
    plan, machine = run.plan, run.result["machine"]
    number = sum(1 for name in plan.experiments for _ in plan.trial_list(name))
    names = ", ".join(contestant.id for contestant in plan.contestants)
    lines = [
        f"{names}: {number} trials, about {duration(plan.total_seconds())}."
        " Ctrl-C keeps what is done."
    ]
    if not machine["server_cores"]:
        lines.append("This system cannot pin processes to cores: expect more noise.")
    elif not machine["pinned_apart"]:
        lines.append(
            "One core only: server and load generator share it, so rates and latencies say little."
            " Compare the server's CPU time, or use a machine with two cores."
        )
    needed = max(
        descriptors_needed(point)
        for name in plan.experiments
        for point in summary.module(name).points(plan.parameters(name))
    )
    limit = machine["descriptors"]
    if limit is not None and needed > limit:
        lines.append(
            f"Too few descriptors: {limit:,} are allowed, the largest points need {needed:,} and"
            f" are left out. To have them: ulimit -n {needed}"
        )
    return lines


def _experiments(text: str | None) -> list[str]:
    if text is None:
        return list(summary.EXPERIMENTS)
    asked = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in asked if name not in summary.EXPERIMENTS]
    if unknown or not asked:
        raise UsageError(
            f"--only: no experiment {', '.join(unknown) or 'named'};"
            f" there are {', '.join(summary.EXPERIMENTS)}"
        )
    return [name for name in summary.EXPERIMENTS if name in asked]


def _versions(text: str) -> list[str]:
    """Full names for `v2,v4` or `v2_select`."""
    chosen = []
    for asked in filter(None, (part.strip() for part in text.split(","))):
        found = [name for name in launcher.VERSIONS if asked in (name, name.split("_")[0])]
        if not found:
            known = ", ".join(launcher.VERSIONS)
            raise UsageError(f"--versions: no version {asked}; there are {known}")
        chosen += found
    return [name for name in launcher.VERSIONS if name in chosen]


def _ours(versions: list[str], pythons: list[str]) -> list[Contestant]:
    """Each version under each interpreter. With several of these, their version is in the id."""
    builds = [_interpreter(path) for path in pythons]
    made = []
    for version in versions:
        for index, (path, build) in enumerate(zip(pythons, builds, strict=True)):
            name = version
            if len(pythons) > 1:
                same = [b["version"] for b in builds[:index]].count(build["version"])
                name += f"@{build['version']}" + (f"#{same + 1}" if same else "")
            made.append(
                Contestant(
                    name,
                    launcher.PROFILES[version],
                    launcher.server_command(version, python=path),
                    version,
                    path,
                    build["build"],
                    build["gil"],
                )
            )
    return made


def _interpreter(path: str) -> dict:
    """What an interpreter says of itself."""
    try:
        command = [path, "-c", PROBE]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
        build = json.loads(done.stdout)
    except OSError as error:
        raise UsageError(
            f"--python {path}: cannot be run ({error.strerror}); give the path of a Python 3.11+"
        ) from None
    except (subprocess.SubprocessError, ValueError):
        raise UsageError(f"--python {path}: is no Python that works") from None
    if not build["ok"]:
        raise UsageError(f"--python {path}: is {build['version']}, 3.11 or newer is needed")
    return build


def _theirs(text: str, profile: str, others: list[Contestant]) -> Contestant:
    """Somebody's own server, from NAME=CMD."""
    name, equals, command = text.partition("=")
    if not (name and equals and "{port}" in command):
        raise UsageError(f'--server {text}: NAME="COMMAND with {{port}}" is needed')
    if name in [other.id for other in others]:
        raise UsageError(f"--server {name}: there is a server of that name already")
    return Contestant(name, profile, command)


def _known_noise(out: Path, result: dict) -> dict | None:
    """The noise floor of an A/A run of this size on this machine, the newest there is."""
    same = ("system", "kernel", "cpu", "cores", "server_cores", "client_cores")
    found = []
    for folder in (out, DEFAULT_OUT, launcher.REPOSITORY / "benchmarks" / "results"):
        for path in folder.glob("aa*.json"):
            try:
                known = summary.load_result(path)
            except summary.ResultError as error:
                print(f"noise floor not used: {error}", file=sys.stderr)
                continue
            alike = all(known["machine"].get(k) == result["machine"].get(k) for k in same)
            if alike and known["size"] == result["size"] and known["noise_floor"]:
                found.append(known["noise_floor"])
    return max(found, key=lambda floors: floors["started"], default=None)


def _keep_older(path: Path) -> None:
    """Measurements are not thrown away: an older result keeps its start time as its name."""
    if path.exists():
        try:
            started = summary.load_result(path)["started"].replace(":", "")
        except summary.ResultError as error:
            raise UsageError(f"will not overwrite {error}") from None
        path.replace(path.with_name(f"result-{started}.json"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
