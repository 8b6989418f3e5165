"""How results and progress look at a terminal."""

import shutil
import sys
import time

from benchmarks import summary

QUIET_SECONDS = 10.0  # between two lines of progress where nobody watches


class Progress:
    """One line on standard error, written over; where nobody watches, a new one now and then."""

    def __init__(self) -> None:
        self.watched = sys.stderr.isatty()
        self.last = -QUIET_SECONDS

    def show(self, text: str) -> None:
        """Replace what was shown."""
        if self.watched:
            width = shutil.get_terminal_size().columns - 1
            print(f"\r\x1b[K{text[:width]}", end="", file=sys.stderr, flush=True)
        elif time.monotonic() - self.last >= QUIET_SECONDS:
            self.last = time.monotonic()
            print(text, file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Make room for other output."""
        if self.watched:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def format_table(table: summary.Table) -> str:
    """A table in plain text: the first column to the left, the others to the right."""
    rows = [table.headers, *table.rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "   ".join(
            f"{text:<{width}}" if index == 0 else f"{text:>{width}}"
            for index, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    rule = "-" * (sum(widths) + 3 * (len(widths) - 1))
    return "\n".join([table.title, rule, lines[0], rule, *lines[1:], *table.notes])


def format_experiment(result: dict, experiment: str) -> str:
    """The tables of an experiment, and the line that says what they show."""
    heading = summary.title(experiment)
    tables = summary.tables(result, experiment)
    if not tables:
        return f"\n{heading}: nothing to measure."
    parts = [f"\n{heading}\n{'=' * len(heading)}"]
    parts += [format_table(table) for table in tables]
    parts.append(f"-> {summary.conclusion(result, experiment)}")
    return "\n\n".join(parts)


def format_troubles(result: dict) -> list[str]:
    """A line for each server that failed, each kind of bad trial and each refused point."""
    lines = [
        f"{check['server']} FAILED the conformance check and was not measured: {check['reason']}"
        for check in result["conformance"]
        if not check["passed"]
    ]
    seen: dict[tuple, list[str]] = {}
    for trial in result["trials"]:
        if trial["status"] != "ok":
            reason = trial["reason"] if trial["status"] != "client-limited" else None
            key = (trial["status"], trial["experiment"], trial["server"], reason)
            where = seen.setdefault(key, [])
            where.append(_words(trial["point"]))
    for (status, experiment, server, reason), where in seen.items():
        trials = f"{len(where)} trial{'s' if len(where) > 1 else ''}"
        at = "; ".join(dict.fromkeys(where))
        said = f": {reason}" if reason else ""
        lines.append(f"{status}: {server}, {experiment} ({at}), {trials}{said}")
    for refusal in result["refusals"]:
        held = f" after {refusal['held']:,} clients" if refusal["held"] is not None else ""
        where = f"{refusal['experiment']} {_words(refusal['point'])}, {refusal['server']}"
        lines.append(f"refused: {where}: {refusal['reason']}{held}")
    if busy := summary.disturbed(result):
        lines.append(busy)
    return lines


def format_noise(floors: dict) -> str:
    """The noise floor of each experiment's metrics: the usual one and the largest of its points."""
    rows = []
    groups: dict[tuple[str, str], list[float]] = {}
    for entry in floors["floors"]:
        groups.setdefault((entry["experiment"], entry["metric"]), []).append(entry["floor"])
    for (experiment, metric), values in groups.items():
        about = summary.summarize(values)
        rows.append(
            [
                experiment,
                summary.METRICS[metric].label,
                f"{about.median:.1%}",
                f"{about.maximum:.1%}",
                str(about.count),
            ]
        )
    headers = ["experiment", "number", "median", "largest", "points"]
    title = f"Noise floor: {floors['server']} against itself, {floors['trials']} trials each"
    return format_table(summary.Table(title, headers, rows, []))


def _words(point: dict) -> str:
    return " ".join(f"{key}={value}" for key, value in point.items())
