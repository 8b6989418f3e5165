"""Where the numbers of a report are from, and what has to be known before they are read."""

from pathlib import Path

from benchmarks.experiments.catalogue import EXPERIMENTS
from benchmarks.result.file import ResultError, load_result
from benchmarks.result.status import Status
from benchmarks.result.view import View

LEAD = (
    "Four chat servers, one protocol: what each model costs, at the load that people have and"
    " beyond it. Less is better in every row but the number of clients."
)


class ReportError(Exception):
    """A page or a document cannot be written: one line with what and where."""


def open_view(path: Path) -> View:
    """The view of a result file. Raises ResultError, also for points that nobody planned."""
    result = load_result(path)
    try:
        view = View(result)
    except KeyError as server:
        raise ResultError(f"{path} is no complete result: there is no server {server}") from None
    if view.result["kind"] == "aa" and len(view.entries) != 2:
        raise ResultError(f"{path} is no complete result: it has not two servers")
    for name in view.experiments():
        try:
            planned = EXPERIMENTS[name].points(view.result["parameters"]["experiments"][name])
        except (KeyError, TypeError):
            raise ResultError(
                f"{path} is no complete result: there is no experiment {name!a},"
                " or these are not its parameters"
            ) from None
        for point in view.points(name):
            if point not in planned:
                raise ResultError(f"{path} is no complete result: {name} has no point {point!a}")
    return view


def machine_line(result: dict) -> str:
    """The machine, the interpreters and the day in one line, to stand beside every number."""
    machine = result["machine"]
    parts = [machine["cpu"], f"{machine['cores'] or '?'} cores"]
    parts.append(f"{machine['system']} {machine['kernel']}")
    for server in result["servers"]:
        if server["python_build"]:
            parts.append(server["python_build"] + (", no GIL" if server["gil"] == "off" else ""))
    size = "" if result["size"] == "full" else f"; a run of the {result['size']} size"
    return f"{', '.join(dict.fromkeys(parts))}; {result['started'][:10]}{size}."


def flags(result: dict, missing: str | None = None) -> list[str]:
    """What somebody should know before reading any number: a line each."""
    lines = []
    if result["kind"] == "aa":
        lines.append("One version against itself: what differs here is chance.")
    if result["interrupted"] or result["finished"] is None:
        lines.append("This run did not end: what is here was measured, the rest is missing.")
    if result["size"] != "full":
        lines.append(f"A run of the {result['size']} size: fewer, shorter trials than a full one.")
    lines += [
        f"{check['server']} failed the conformance check and was not measured: {check['reason']}"
        for check in result["conformance"]
        if not check["passed"]
    ]
    if not was_quiet(result):
        spread = result["machine"]["calibration"]["spread"]
        lines.append(
            "The machine was not quiet before this run: of a fixed piece of work, one in ten took"
            f" over {spread:.0%} longer than the fastest."
        )
    return [*lines, *result["missing"], *([missing] if missing else [])]


def was_quiet(result: dict) -> bool:
    """Whether the machine was quiet before the run, or nobody has looked."""
    calibration = result["machine"].get("calibration")
    return calibration is None or calibration["is_quiet"]


def disturbed(result: dict) -> str:
    """How many trials other programs disturbed, in a sentence."""
    count = sum(trial["status"] == Status.DISTURBED for trial in result["trials"])
    total = len(result["trials"])
    slowed = ", or slowed it down" if result["parameters"].get("slow_limit") else ""
    return (
        f"{count:,} of {total:,} trials ({count / max(total, 1):.1%}) stayed disturbed: something"
        " else had the server's or the generator's core for over"
        f" {result['parameters']['wait_limit']:.0%} of the time{slowed}. They do not rank."
    )
