"""The six pictures: which lines, dots and words each of them has.

This needs the standard library alone, so that the texts of a picture exist without matplotlib;
`drawing` then puts them on paper. Every trial is a dot and the line joins the medians; a hollow dot
is client-limited; what failed is not drawn but named below. Each version keeps its colour, marker
and dash in all pictures. The colours are those of Okabe and Ito, told apart with any common colour
blindness (https://jfly.uni-koeln.de/color/).
"""

import textwrap
from dataclasses import replace
from pathlib import Path

from benchmarks import drawing, summary
from benchmarks.drawing import Dot, Line, Panel, Picture, Style, as_number

STYLES = {
    "v1_threads": Style("#d55e00", "o", (0, (1, 1))),
    "v2_select": Style("#0072b2", "s", "-"),
    "v3_broadcast": Style("#cc79a7", "D", (0, (5, 2))),
    "v4_asyncio": Style("#009e73", "^", (0, (6, 1.5, 1, 1.5))),
}
BY_SELECT = ("v2_select", "v3_broadcast")
FD_SETSIZE = 1024  # descriptors that select() can watch, as Linux and macOS are built
# The rows of the stall picture: a series, its name on the axis, its scale.
STALL_ROWS = (
    ("worst_delay_ms", "slowest delivery to the others, ms", "log"),
    ("rss_mib", "server memory (RSS), MiB", "linear"),
)
WORK_METRICS = ("p50_ms", "p90_ms", "p99_ms", "max_ms")
# For students' servers and other interpreters. Lengths without a common divisor, so that a long
# row of servers passes before a look comes back.
FURTHER_COLOURS = ("#e69f00", "#56b4e9", "#7f7f7f")
FURTHER_MARKERS = ("v", "P", "X", "p")
FURTHER_DASHES = ("-", (0, (3, 1)), (0, (3, 1, 1, 1, 1, 1)), (0, (8, 2)), (0, (2, 2)))
SHADES = (0.0, -0.3, 0.3)  # of the first, second and third interpreter of a version


class NoMatplotlib(Exception):
    """Pictures were asked for and matplotlib is not there: one line with what to do."""


def pictures_available() -> str | None:
    """None when pictures can be drawn, otherwise one line that says what to do."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        return f"no pictures: {error} (python3 -m pip install matplotlib, in a virtual environment)"
    return None


def draw_pictures(result: dict, out_dir: Path) -> list[Path]:
    """Draw every picture that this result has numbers for; returns the files written.

    Raises NoMatplotlib, or OSError when the folder cannot be written.
    """
    if problem := pictures_available():
        raise NoMatplotlib(problem)
    return [path for picture in pictures_of(result) for path in drawing.draw(picture, out_dir)]


def pictures_of(result: dict) -> list[Picture]:
    """What there is to draw, in the order of the page. Needs no matplotlib."""
    makers = (_rate_latency, _fan_out, _idle_cost, _memory, _stall, _work)
    source = _Source(result)
    made = [picture for maker in makers if (picture := maker(source)) is not None]
    return [replace(picture, alt=" ".join(picture.alt.split())) for picture in made]


def machine_line(result: dict) -> str:
    """The machine and the interpreters in one line, to stand beside every number."""
    machine = result["machine"]
    parts = [str(machine.get("cpu", "unknown CPU")), f"{machine.get('cores', '?')} cores"]
    parts.append(f"{machine.get('system', '')} {machine.get('kernel', '')}".strip())
    for server in result["servers"]:
        build = server.get("python_build")
        if build:
            parts.append(f"{build}, GIL {server.get('gil', 'unknown')}")
    return ", ".join(dict.fromkeys(part for part in parts if part))


def looks(servers: list[dict]) -> dict[str, Style]:
    """A look for each server id.

    A version under another interpreter gets a shade of its colour, with a marker and a dash of its
    own; a student's server gets a further colour.
    """
    found: dict[str, Style] = {}
    further = 0
    for server in servers:
        style = STYLES.get(server["version"])
        before = sum(entry["version"] == server["version"] for entry in servers[: len(found)])
        if style is None or before:
            colour = FURTHER_COLOURS[further % len(FURTHER_COLOURS)]
            style = Style(
                shade(style.colour, SHADES[before % len(SHADES)]) if style else colour,
                FURTHER_MARKERS[further % len(FURTHER_MARKERS)],
                FURTHER_DASHES[further % len(FURTHER_DASHES)],
            )
            further += 1
        found[server["id"]] = style
    return found


def shade(colour: str, towards_white: float) -> str:
    """A colour mixed with white, or with black where the share is negative."""
    end = 255 if towards_white > 0 else 0
    mixed = (
        round(int(colour[at : at + 2], 16) * (1 - abs(towards_white)) + end * abs(towards_white))
        for at in (1, 3, 5)
    )
    return "#" + "".join(f"{part:02x}" for part in mixed)


def describe(point: dict) -> str:
    """A point in words: `flood, 100 readers` or `50 clients, 20,000/s`."""
    words = []
    for name, value in point.items():
        if name == "rate":
            words.append(f"{value:,}/s")
        elif name == "work_ms":
            words.append(f"/work {value}" if value else "no /work")
        elif isinstance(value, str):
            words.append(value)
        else:
            words.append(f"{value:,} {name.removesuffix('s') if value == 1 else name}")
    return ", ".join(words)


class _Source:
    """A result, read for drawing: lines, and what the notes must say about what is not drawn."""

    def __init__(self, result: dict):
        self.result = result
        self.looks = looks(result["servers"])
        self.trials: dict[tuple, list[dict]] = {}
        for trial in result["trials"]:
            if trial["status"] in ("ok", "client-limited"):
                key = _key_of(trial["experiment"], trial["point"], trial["server"])
                self.trials.setdefault(key, []).append(trial)
        self.cells = {name: summary.cells(result, name) for name in summary.EXPERIMENTS}
        for experiment, cells in self.cells.items():
            for cell in cells:
                if cell.status not in ("ok", "client-limited"):
                    self.trials.pop(_key_of(experiment, cell.point, cell.server), None)

    def points(self, experiment: str, **wanted) -> list[dict]:
        """The points of an experiment that have these values."""
        return [
            point
            for point in summary.points(self.result, experiment)
            if all(point.get(name) == value for name, value in wanted.items())
        ]

    def usable(self, experiment: str, point: dict, server: str) -> list[dict]:
        """The trials to draw at one point: none where one of them failed."""
        return self.trials.get(_key_of(experiment, point, server), [])

    def lines(
        self, experiment: str, places: list[tuple[float, dict, str]], scale: float = 1.0
    ) -> tuple[Line, ...]:
        """One line per server through `places`, each an x with the point and metric found there."""
        made = []
        for server in summary.servers(self.result, experiment):
            dots, medians = [], []
            for x, point, metric in sorted(places, key=lambda place: place[0]):
                trials = [
                    trial
                    for trial in self.usable(experiment, point, server["id"])
                    if metric in trial["metrics"]
                ]
                if not trials:
                    continue
                limited = [trial["status"] == "client-limited" for trial in trials]
                values = [trial["metrics"][metric] * scale for trial in trials]
                dots += [Dot(x, y, flag) for y, flag in zip(values, limited, strict=True)]
                worthless = any(limited) and summary.METRICS[metric].by_client
                medians.append((x, summary.summarize(values).median, not worthless))
            if dots:
                made.append(self.line(server, dots, medians))
        return tuple(made)

    def line(self, server: dict, dots: list[Dot], medians: list[tuple[float, float, bool]]) -> Line:
        look = self.looks[server["id"]]
        return Line(server["id"], _readable(server["label"]), look, tuple(dots), tuple(medians))

    def notes(
        self, experiment: str, points: list[dict], *, still_compares: bool
    ) -> tuple[str, ...]:
        """What a reader must know: dots and lines, hollow ones, what is not drawn, the machine."""
        trials = self.result["parameters"].get("trials")
        notes = [f"Each dot is one trial; the line joins the medians of {trials} trials."]
        cells = [cell for cell in self.cells[experiment] if cell.point in points]
        if any(cell.status == "client-limited" for cell in cells):
            notes[0] += (
                " Hollow: client-limited, the load generator was at its limit; CPU time per message"
                " still compares."
                if still_compares
                else " Hollow, thin line: client-limited, no result: the load generator was at its"
                " limit, not the server."
            )
        missing = [
            f"{self.label(check['server'])} (failed the conformance check)"
            for check in self.result["conformance"]
            if not check["passed"]
        ]
        missing += [
            f"{self.label(cell.server)} at {describe(cell.point)} ({cell.status}: {cell.reason})"
            for cell in cells
            if cell.status in ("failed", "error")
        ]
        if missing:
            more = f"; and {len(missing) - 3} more, see the tables" if len(missing) > 3 else ""
            notes.append("Not drawn: " + "; ".join(missing[:3]) + more + ".")
        if stopped := self.stopped(experiment, points):
            told = ", ".join(f"{self.label(name)} {held:,}" for name, held in stopped.items())
            notes.append(f"Clients held when the server said “! server full”: {told}.")
        return (*notes, self.origin())

    def origin(self) -> str:
        """The machine, and whether the run was a small one: the last note of every picture."""
        size = self.result["size"]
        small = "" if size == "full" else f" A run of the {size} size, with short trials."
        busy = " Other programs disturbed this run." if summary.disturbed(self.result) else ""
        return f"{machine_line(self.result)}.{small}{busy}"

    def stopped(self, experiment: str, points: list[dict]) -> dict[str, int]:
        """How many clients each server held that was full before one of these points."""
        return {
            refusal["server"]: refusal["held"]
            for refusal in self.result["refusals"]
            if refusal["experiment"] == experiment
            and refusal["point"] in points
            and refusal["held"] is not None
        }

    def together(self, server_ids: list[str]) -> tuple[str, str]:
        """`a and b` with `say`, or `a` with `says`."""
        names = " and ".join(self.label(server_id) for server_id in server_ids)
        return names, "say" if len(server_ids) > 1 else "says"

    def label(self, server_id: str) -> str:
        """The readable name of a server, on one line."""
        for server in self.result["servers"]:
            if server["id"] == server_id:
                return _printable(server["label"])
        return server_id


def _rate_latency(source: _Source) -> Picture | None:
    points = source.points("ping", mode="open")
    panels = []
    for clients in dict.fromkeys(point["clients"] for point in points):
        places = [(p["rate"], p, "p99_ms") for p in points if p["clients"] == clients]
        lines = source.lines("ping", places)
        if lines:
            y = f"p99 of the round trip, from due time, ms ({as_number(clients)} clients)"
            x = "offered rate, requests per second"
            panels.append(Panel(x, y, lines, x_scale="log", y_scale="log"))
    if not panels:
        return None
    title = "Offered rate against p99 latency: where each version's knee is"
    notes = source.notes("ping", points, still_compares=False)
    return Picture("rate-latency", title, _alt(title, panels), tuple(panels), notes)


def _fan_out(source: _Source) -> Picture | None:
    panels = []
    for mode, count, x in (
        ("flood", "readers", "readers, one sender floods"),
        ("talk", "clients", "clients, everybody talks"),
    ):
        places = [
            (point[count], point, "deliveries_per_s")
            for point in source.points("fanout", mode=mode)
        ]
        lines = source.lines("fanout", places, scale=1 / 1000)
        if lines:
            y = "thousand deliveries per second"
            panels.append(Panel(x, y, lines, x_scale="log"))
    if not panels:
        return None
    title = "Fan-out: deliveries per second, every one counted"
    points = source.points("fanout", mode="flood") + source.points("fanout", mode="talk")
    notes = source.notes("fanout", points, still_compares=False)
    columns = len(panels)
    return Picture("fan-out", title, _alt(title, panels), tuple(panels), notes, columns)


def _idle_cost(source: _Source) -> Picture | None:
    points = source.points("idle")
    lines = source.lines("idle", [(point["idle"], point, "server_cpu_us") for point in points])
    if not lines:
        return None
    active = points[0]["active"]
    wall, wall_text = _select_wall(source, lines, active)
    panel = Panel(
        "idle connections",
        "server CPU per message, µs",
        lines,
        wall=wall,
        wall_text=wall_text,
    )
    title = f"Idle cost: {active} active clients among more and more idle ones"
    notes = source.notes("idle", points, still_compares=True)
    alt = _alt(title, [panel]) + (f" {wall_text}" if wall_text else "")
    return Picture("idle-cost", title, alt, (panel,), notes)


def _select_wall(source: _Source, lines: tuple[Line, ...], active: int) -> tuple[float | None, str]:
    """Where select() ends, in idle connections, and what happens there; None if out of sight."""
    stopped = source.stopped("idle", source.points("idle"))
    names = [line.server for line in lines if stopped.get(line.server, FD_SETSIZE) < FD_SETSIZE]
    if names:
        held = min(stopped[name] for name in names)
        who, say = source.together(names)
        text = f"FD_SETSIZE ({FD_SETSIZE}): {who} {say} “! server full” to client {held + 1:,}."
        return held - active, text
    farthest = max(dot.x for line in lines for dot in line.dots)
    versions = {server["id"]: server["version"] for server in source.result["servers"]}
    users = [line.server for line in lines if versions[line.server] in BY_SELECT]
    if users and farthest >= FD_SETSIZE / 2:
        who, say = source.together(users)
        text = f"FD_SETSIZE ({FD_SETSIZE}): select() can watch no more; about here {who} {say}"
        return FD_SETSIZE - active, f"{text} “! server full” (not tried in this run)."
    return None, ""


def _memory(source: _Source) -> Picture | None:
    """Stacked bars at the largest number of idle connections that every server has held."""
    servers = summary.servers(source.result, "idle")
    names = ("rss_kib", "kernel_stack_kib")

    def measured(point: dict) -> list[dict]:
        return [
            server
            for server in servers
            if any(
                names[0] in trial["metrics"] for trial in source.usable("idle", point, server["id"])
            )
        ]

    points = [point for point in source.points("idle") if measured(point)]
    if not points:
        return None
    most = max(len(measured(point)) for point in points)
    point = max((p for p in points if len(measured(p)) == most), key=lambda p: p["idle"])
    lines, parts = [], []
    for server in measured(point):
        trials = [t["metrics"] for t in source.usable("idle", point, server["id"])]
        dots = [Dot(sum(metrics.get(name, 0.0) for name in names), 0.0) for metrics in trials]
        medians = [
            summary.summarize([metrics.get(name, 0.0) for metrics in trials]).median
            for name in names
        ]
        lines.append(source.line(server, dots, []))
        parts.append(
            (("server memory (RSS)", medians[0]), ("kernel stacks of threads", medians[1]))
        )
    panel = Panel("KiB per idle connection", "", tuple(lines), parts=tuple(parts))
    title = f"Memory per connection, {as_number(point['idle'])} idle ones"
    told = "; ".join(
        f"{line.label} {as_number(own)} KiB in the server and {as_number(stack)} KiB of stacks"
        for line, ((_, own), (_, stack)) in zip(lines, parts, strict=True)
    )
    notes = (
        "Each mark is one trial's total; the bar's parts are medians. The kernel's socket buffers,"
        " the same for all, are not counted.",
        source.origin(),
    )
    height = 0.45 * len(lines) + 0.2
    return Picture("memory", title, f"{title}: {told}.", (panel,), notes, panel_height=height)


def _stall(source: _Source) -> Picture | None:
    columns = []
    points = source.points("stall")
    for server in summary.servers(source.result, "stall"):
        trials = [t for point in points for t in source.usable("stall", point, server["id"])]
        trials = [trial for trial in trials if trial.get("series")]
        if not trials:
            continue
        gone = [
            t["metrics"]["dropped_after_s"] for t in trials if "dropped_after_s" in t["metrics"]
        ]
        end = max(max(trial["series"]["t_s"]) for trial in trials)
        band = (0.0, summary.summarize(gone).median if gone else end)
        pair = []
        for name, label, scale in STALL_ROWS:
            dots = [
                Dot(t, value, trial["status"] == "client-limited")
                for trial in trials
                for t, value in zip(trial["series"]["t_s"], trial["series"][name], strict=True)
                if value is not None and (value > 0 or scale == "linear")
            ]
            at: dict[float, list[float]] = {}
            for dot in dots:
                at.setdefault(dot.x, []).append(dot.y)
            medians = [(t, summary.summarize(at[t]).median, True) for t in sorted(at)]
            line = source.line(server, dots, medians)
            pair.append(
                Panel(
                    "seconds",
                    label,
                    (line,),
                    y_scale=scale,
                    band=band,
                )
            )
        columns.append(pair)
    if not columns:
        return None
    across = min(len(columns), 4)
    panels: list[Panel | None] = []
    for first in range(0, len(columns), across):
        chunk = columns[first : first + across]
        for row in range(len(STALL_ROWS)):
            panels += [pair[row] for pair in chunk] + [None] * (across - len(chunk))
    title = "One client stops reading: what the others see, and the server's memory"
    notes = source.notes("stall", points, still_compares=False)
    grey = "Grey: from the moment it stops reading until the server drops it, or to the end."
    told = []
    for delay, memory in columns:
        (worst,) = {max(y for _, y, _ in line.medians) for line in delay.lines}
        rise = max(y for _, y, _ in memory.lines[0].medians) - memory.lines[0].medians[0][1]
        told.append(
            f"{delay.lines[0].label}: slowest delivery {as_number(worst)} ms, memory up by"
            f" {as_number(rise)} MiB"
        )
    return Picture(
        "stall",
        title,
        f"{title}. {'; '.join(told)}.",
        tuple(panels),
        (grey, *notes),
        columns=across,
        panel_height=1.5,
        multiples=True,
    )


def _work(source: _Source) -> Picture | None:
    points = source.points("work")
    panels = []
    for point in sorted(points, key=lambda point: point["work_ms"]):
        places = [(index, point, metric) for index, metric in enumerate(WORK_METRICS)]
        lines = source.lines("work", places)
        if not lines:
            continue
        burn = point["work_ms"]
        x = f"another one sends /work {burn} all the time" if burn else "nobody sends /work"
        y = f"round trip of {point['others']} others, ms"
        names = tuple(metric.removesuffix("_ms") for metric in WORK_METRICS)
        panels.append(Panel(x, y, lines, y_scale="log", x_names=names, level=burn or None))
    if not panels:
        return None
    title = "Beside /work: the round trips of the other clients"
    notes = source.notes("work", points, still_compares=False)
    if any(panel.level for panel in panels):
        notes = ("Dashed: the time that one /work takes.", *notes)
    columns = len(panels)
    return Picture("work", title, _alt(title, panels), tuple(panels), notes, columns)


def _alt(title: str, panels: list[Panel]) -> str:
    """The picture in words: for every line the medians at its ends."""
    told = []
    for panel in panels:
        lines = []
        for line in panel.lines:
            ends = dict.fromkeys((line.medians[0], line.medians[-1]))
            lines.append(
                f"{line.label} "
                + " and ".join(
                    f"{as_number(y)} at {panel.x_names[int(x)] if panel.x_names else as_number(x)}"
                    for x, y, _ in ends
                )
            )
        what = panel.y_label[0].upper() + panel.y_label[1:]
        told.append(f"{what}, by {panel.x_label}: {'; '.join(lines)}")
    return f"{title}. {'. '.join(told)}."


def _key_of(experiment: str, point: dict, server: str) -> tuple:
    return (experiment, server, *sorted(point.items()))


def _printable(text: str) -> str:
    """Somebody's name for a server, without what an SVG may not hold."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _readable(label: str) -> str:
    """The label in at most two short lines."""
    lines = textwrap.wrap(_printable(label), 18) or ["?"]
    return "\n".join(
        lines
        if len(lines) <= 2
        else [lines[0], textwrap.shorten(lines[1] + " " + lines[2], 18, placeholder="…")]
    )
