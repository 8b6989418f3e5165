"""Pictures: what each of them holds, and how it gets on paper.

An experiment builds a Picture out of panels of lines or bars, which needs the standard library
alone; `draw_pictures` needs matplotlib, whose layout and legends are used as they are. Every trial
is a dot and the line joins the medians; hollow and dashed is what does not rank. Each server looks
the same in all pictures. The colours are those of Okabe and Ito, told apart with any common colour
blindness (https://jfly.uni-koeln.de/color/).
"""

import html
import io
import itertools
import math
import re
import statistics
import textwrap
import warnings
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.arithmetic.metrics import number
from benchmarks.experiments import module

INK, MUTED, GRID, PAPER = "#1f2328", "#59636e", "#d8dee4", "#ffffff"
STYLES = {  # a colour and a marker
    "v1_threads": ("#d55e00", "o"),
    "v2_select": ("#0072b2", "s"),
    "v3_broadcast": ("#cc79a7", "D"),
    "v4_asyncio": ("#009e73", "^"),
    "tutorial": ("#e69f00", "v"),
    "c_threads": ("#656d76", "<"),
    "c_select": ("#868e96", ">"),
    "c_epoll": ("#a3abb3", "P"),
}
# For students' servers and other interpreters, whose version's colour gets paler.
FURTHER_COLOURS = ("#56b4e9", "#b5a300", "#8e6bbf")
FURTHER_MARKERS = ("X", "p", "*", "h", "d")
DOT = {"linestyle": "none", "markersize": 4, "markeredgewidth": 0.8, "zorder": 4}
WIDE, NARROW = 8.4, 3.9  # inches; for phones the panels are below each other
FOR_PHONES = "-narrow"  # in the name of that file
PANEL_HEIGHT, BAR_HEIGHT = 2.5, 0.27  # inches
LETTER = 0.07  # inches of a letter of a legend, about
DENSE = 20  # places on x; with more there is no tick for each
PNG_DPI = 200
LOOK = {
    "font.family": "sans-serif",
    # An SVG holds text, not outlines: it can be searched and read aloud. Verdana has the widths
    # of DejaVu Sans, with which the layout is made; the others are narrower, so nothing collides.
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Geneva", "Arial"],
    "font.size": 9,
    "text.parse_math": False,  # a server may be named $x$
    **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.labelcolor", "ytick.labelcolor"), INK),
    **dict.fromkeys(("axes.edgecolor", "xtick.color", "ytick.color"), MUTED),
    **dict.fromkeys(("axes.spines.top", "axes.spines.right", "legend.frameon"), False),
    "axes.axisbelow": True,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "svg.fonttype": "none",
}
PERCENTILES = {0.5: "p50_ms", 0.9: "p90_ms", 0.99: "p99_ms", 0.999: "p999_ms"}


@dataclass(frozen=True)
class Line:
    """One server in one panel: medians (x, median, least, greatest), and a dot for each trial."""

    server_id: str
    label: str
    points: list[tuple[float, float, float, float]]
    dots: list[tuple[float, float]] = field(default_factory=list)
    hollow: frozenset[float] = frozenset()  # every x whose value does not rank


@dataclass(frozen=True)
class Bar:
    """One server in a panel of bars: its parts end to end, and a dot for each trial's sum."""

    server_id: str
    label: str
    parts: list[tuple[str, float]]
    dots: list[float] = field(default_factory=list)
    hollow: bool = False  # does not rank


@dataclass(frozen=True)
class Panel:
    """One pair of axes with lines, or with bars, which lie: their numbers are along x."""

    x_label: str
    y_label: str = ""
    lines: list[Line] = field(default_factory=list)
    bars: list[Bar] = field(default_factory=list)
    title: str = ""
    x_scale: str = "linear"  # or "log" or "percentile" (x is 0.5, 0.9, 0.99, 0.999)
    y_scale: str = "linear"  # or "log"
    x_ticks: list[tuple[float, str]] | None = None  # None: a tick at every x of the data
    level: tuple[float, str] | None = None  # a y to compare with, dashed, and what it is


@dataclass(frozen=True)
class Picture:
    """One file: a title, panels in rows, notes, and the same in words for who cannot see it."""

    name: str  # of the file, without suffix
    title: str
    panels: list[Panel]
    alt: str = ""  # empty: made of the panels' numbers
    notes: list[str] = field(default_factory=list)
    columns: int = 1


def lines_by(view, experiment: str, x_key: str, metric: str, **wanted) -> list[Line]:
    """A line for each server: `metric` by the `x_key` of the points that have what is `wanted`."""
    points = [p for p in view.points(experiment, **wanted) if x_key in p]
    return _lines(view, experiment, [(p[x_key], p, metric) for p in points])


def percentile_lines(view, experiment: str, point: dict) -> list[Line]:
    """A line for each server: its latency at one point from p50 to p99.9 (x_scale "percentile")."""
    return _lines(view, experiment, [(x, point, metric) for x, metric in PERCENTILES.items()])


def series_lines(view, experiment: str, point: dict, name: str, *, growth=False) -> list[Line]:
    """A line for each server: the median of its trials' series `name` at each of their `t_s`.

    With `growth`, every trial counts from its own first value.
    """
    made = []
    for server in view.servers(experiment):
        cell = _drawn(view.cell(experiment, point, server["id"]))
        at: dict[float, list[float]] = {}
        for trial in cell.trials if cell else ():
            series = trial.get("series", {})
            pairs = zip(series.get("t_s", ()), series.get(name, ()), strict=False)
            known = [(t, value) for t, value in pairs if value is not None]
            start = known[0][1] if growth and known else 0
            for t, value in known:
                at.setdefault(t, []).append(value - start)
        if at:
            made.append(_line(server, {t: at[t] for t in sorted(at)}, frozenset()))
    return made


def bars_of(view, experiment: str, point: dict, parts: dict[str, str]) -> list[Bar]:
    """A bar for each server at one point: the metrics of `parts` (metric: its name), end to end."""
    made = []
    for server in view.servers(experiment):
        cell = _drawn(view.cell(experiment, point, server["id"]))
        known = [metric for metric in parts if cell and metric in cell.values]
        if known:
            named = [(parts[metric], cell.median(metric)) for metric in known]
            trials = zip(*(cell.values[metric].values() for metric in known), strict=False)
            ranks = all(cell.ranks(metric) for metric in known)
            sums = list(map(sum, trials))
            made.append(Bar(server["id"], server["label"], named, sums, hollow=not ranks))
    return made


def _lines(view, experiment: str, places: list[tuple[float, dict, str]]) -> list[Line]:
    """A line for each server through places: x, and the point and the metric found there."""
    made = []
    for server in view.servers(experiment):
        at: dict[float, list[float]] = {}
        hollow = set()
        for x, point, metric in sorted(places, key=lambda place: place[0]):
            cell = _drawn(view.cell(experiment, point, server["id"]))
            if cell and metric in cell.values:
                at[x] = list(cell.values[metric].values())
                if not cell.ranks(metric):
                    hollow.add(x)
        if at:
            made.append(_line(server, at, frozenset(hollow)))
    return made


def _line(server: dict, at: dict[float, list[float]], hollow: frozenset[float]) -> Line:
    points = [(x, statistics.median(ys), min(ys), max(ys)) for x, ys in at.items()]
    dots = [(x, y) for x, ys in at.items() for y in ys]
    return Line(server["id"], server["label"], points, dots, hollow)


def _drawn(cell):
    """A cell whose numbers are drawn: not one in which something was lost or wrong."""
    return None if cell is None or cell.status in ("failed", "error") else cell


def pictures_available() -> str | None:
    """None when pictures can be drawn, otherwise one line that says what to do."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        return f"no pictures: {error} (python3 -m pip install matplotlib, in a virtual environment)"
    return None


def pictures_of(view, experiment: str) -> list[Picture]:
    """The pictures of an experiment that have something in them."""
    made = module(experiment).picture(view)
    made = made if isinstance(made, list) else [made]
    return [p for p in made if p and any(panel.lines or panel.bars for panel in p.panels)]


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


def text_of(picture: Picture) -> str:
    """The picture in words: what its maker wrote, or for every line the medians at its ends."""
    told = []
    for panel in picture.panels:
        parts = [
            f"{bar.label} {number(sum(value for _, value in bar.parts))}" for bar in panel.bars
        ]
        for line in panel.lines:
            ends = dict.fromkeys((line.points[0][:2], line.points[-1][:2]))
            said = " and ".join(f"{number(y)} at {_tick(panel, x)}" for x, y in ends)
            parts.append(f"{line.label} {said}")
        what = filter(None, [panel.title, panel.y_label, panel.x_label])
        told.append(f"{', '.join(what)}: {'; '.join(parts)}")
    return _printable(" ".join((picture.alt or f"{picture.title}. {'. '.join(told)}.").split()))


def looks(servers: list[dict]) -> dict[str, tuple[str, str]]:
    """A colour and a marker for each server id, the same whoever else takes part.

    A version under another interpreter has a paler colour and a marker of its own.
    """
    found: dict[str, tuple[str, str]] = {}
    versions: list[str] = []
    further = 0
    for server in servers:
        name = server["version"] or server["id"]
        known = server["kind"] != "theirs" and name in STYLES
        again = versions.count(name)
        versions.append(name)
        if known and not again:
            found[server["id"]] = STYLES[name]
            continue
        colour = FURTHER_COLOURS[further % len(FURTHER_COLOURS)]
        if known:
            parts = (int(STYLES[name][0][at : at + 2], 16) for at in (1, 3, 5))
            colour = "#" + "".join(f"{255 - round((255 - p) * 0.6**again):02x}" for p in parts)
        found[server["id"]] = (colour, FURTHER_MARKERS[further % len(FURTHER_MARKERS)])
        further += 1
    return found


def draw_pictures(view, pictures: list[Picture], out_dir: Path) -> list[Path]:
    """Draw each as NAME.svg, NAME-narrow.svg and NAME.png; returns the files.

    The same picture gives the same bytes with the same matplotlib: no date, no random ids, no
    configuration of the user's. Needs matplotlib; OSError when the folder cannot be written.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    made = []
    styles = looks(view.result["servers"])
    with matplotlib.rc_context(), warnings.catch_warnings():
        # A student's server may have a name that our font has no letters for: it shows as boxes.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(LOOK)
        for picture in pictures:
            panels = [panel for panel in picture.panels if panel.lines or panel.bars]
            for suffix, width in (("", WIDE), (FOR_PHONES, NARROW)):
                name = f"{picture.name}{suffix}"
                matplotlib.rcParams["svg.hashsalt"] = name
                columns = min(picture.columns, len(panels)) if width == WIDE else 1
                figure = _figure(picture, panels, columns, width, styles, machine_line(view.result))
                FigureCanvasAgg(figure)
                _thin_out_ticks(figure)
                raw = io.StringIO()
                nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
                figure.savefig(raw, format="svg", metadata=nothing)
                made.append(Path(out_dir) / f"{name}.svg")
                text = _tidy(raw.getvalue(), text_of(picture))
                made[-1].write_text(text, encoding="utf-8", newline="\n")
                if width == WIDE:
                    made.append(Path(out_dir) / f"{name}.png")
                    figure.savefig(made[-1], metadata={"Software": None}, dpi=PNG_DPI)
    return made


def _figure(
    picture: Picture, panels: list[Panel], columns: int, width: float, styles: dict, machine: str
):
    """Title and legend above, a grid of panels, notes below; laid out by matplotlib."""
    from matplotlib.figure import Figure

    notes = [*picture.notes, "A dot is a trial, a line or a bar shows the medians."]
    if any(mark.hollow for panel in panels for mark in (*panel.lines, *panel.bars)):
        notes[-1] += " Hollow, dashed: does not rank (see the table)."
    notes = [line for note in [*notes, machine] for line in textwrap.wrap(note, int(width / 0.065))]
    title = textwrap.wrap(picture.title, int(width / 0.1))
    handles = _handles(panels, styles)
    across = width / (0.55 + LETTER * max(len(handle.get_label()) for handle in handles))
    legend_columns = max(1, min(len(handles), int(across)))
    legend_rows = len(title) + math.ceil(len(handles) / legend_columns)
    grid = [panels[first : first + columns] for first in range(0, len(panels), columns)]
    tall = {True: 0.75 + BAR_HEIGHT * max(len(p.bars) for p in panels), False: PANEL_HEIGHT}
    heights = [max(tall[bool(panel.bars)] for panel in row) for row in grid]
    height = sum(heights) + 0.2 + 0.2 * legend_rows + 0.14 * len(notes)
    figure = Figure(figsize=(width, height), facecolor=PAPER, layout="constrained")
    places = figure.subplots(len(grid), columns, squeeze=False, height_ratios=heights).flat
    for axes, panel in itertools.zip_longest(places, panels):
        if panel is None:
            axes.set_axis_off()
            continue
        (_draw_bars if panel.bars else _draw_lines)(axes, panel, panels, styles)
        room = int((width / columns - (1.4 if panel.bars else 0.6)) / 0.075)
        axes.set_xlabel(textwrap.fill(panel.x_label, room))
        heading = [textwrap.fill(text, room) for text in (panel.title, panel.y_label) if text]
        axes.set_title("\n".join(heading))
    figure.legend(
        handles=handles,
        loc="outside upper left",
        ncols=legend_columns,
        title="\n".join(title),
        title_fontproperties={"size": 11, "weight": "bold"},
        alignment="left",
        fontsize=8.5,
    )
    figure.supxlabel("\n".join(notes), x=0.01, ha="left", size=7.5, color=MUTED)
    return figure


def _handles(panels: list[Panel], styles: dict) -> list:
    """The legend: each server once, what stacked bars are made of, what dashed levels are."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    made = {}
    for panel in panels:
        for line in panel.lines:
            colour, marker = styles[line.server_id]
            label = _readable(line.label)
            made[line.server_id] = Line2D([], [], color=colour, marker=marker, label=label)
        if panel.level:
            name = panel.level[1]
            made[name] = Line2D([], [], color=MUTED, linestyle="--", linewidth=1, label=name)
        for name, face in _faces(panel).items():
            if name:
                made[name] = Patch(label=name, facecolor=MUTED, edgecolor=PAPER, **face)
    return list(made.values()) or [Line2D([], [], linestyle="none", label="")]


def _faces(panel: Panel) -> dict[str, dict]:
    """How each part of a panel's bars looks."""
    faces = ({"alpha": 0.9}, {"alpha": 0.55, "hatch": "////"}, {"alpha": 0.3})
    names = dict.fromkeys(name for bar in panel.bars for name, _ in bar.parts)
    return dict(zip(names, itertools.cycle(faces), strict=False))


def _draw_lines(axes, panel: Panel, panels: list[Panel], styles: dict) -> None:
    """Dots, medians and axes. Panels of the same y label and scale go equally far along y."""
    xs = sorted({x for line in panel.lines for x, *_ in line.points})
    for line in panel.lines:
        colour, marker = styles[line.server_id]
        places = [(_place(panel, x), y, x in line.hollow) for x, y, *_ in line.points]
        for one, two in itertools.pairwise(places):
            look = {"linestyle": "--", "linewidth": 0.8} if one[2] or two[2] else {"linewidth": 1.7}
            axes.plot([one[0], two[0]], [one[1], two[1]], color=colour, zorder=3, **look)
        if len(xs) > DENSE:
            _, _, lows, highs = zip(*line.points, strict=True)
            axes.fill_between([x for x, *_ in places], lows, highs, color=colour, alpha=0.15, lw=0)
            continue
        for hollow in (False, True):
            dots = [(_place(panel, x), y) for x, y in line.dots if (x in line.hollow) == hollow]
            look = {"markerfacecolor": PAPER} if hollow else {"alpha": 0.65}
            x_and_y = [x for x, _ in dots], [y for _, y in dots]
            axes.plot(*x_and_y, marker, color=colour, **DOT, **look)
    if panel.level:
        axes.axhline(panel.level[0], color=MUTED, linewidth=1, linestyle="--", zorder=1)
    axes.grid(axis="y")
    _scale_x(axes, panel, xs)
    alike = [p for p in panels if (p.y_label, p.y_scale) == (panel.y_label, panel.y_scale)]
    values = [y for other in alike for line in other.lines for _, y in line.dots]
    _scale_y(axes, panel.y_scale, values)


def _place(panel: Panel, x: float) -> float:
    """Where an x is drawn: of percentiles, each nine takes as much room as the one before."""
    return -math.log10(1 - x) if panel.x_scale == "percentile" else x


def _tick(panel: Panel, x: float) -> str:
    """What stands at an x."""
    if panel.x_scale == "percentile":
        return f"p{x * 100:g}"
    return dict(panel.x_ticks or ()).get(x, as_tick(x))


def _scale_x(axes, panel: Panel, xs: list[float]) -> None:
    from matplotlib.ticker import NullLocator

    if panel.x_scale == "log" and xs[0] > 0:
        axes.set_xscale("log")
        axes.xaxis.set_minor_locator(NullLocator())
    if panel.x_ticks or len(xs) <= DENSE:
        ticks = [x for x, _ in panel.x_ticks] if panel.x_ticks else xs
        axes.set_xticks([_place(panel, x) for x in ticks], [_tick(panel, x) for x in ticks])
    else:
        axes.xaxis.set_major_formatter(as_tick)


def _scale_y(axes, scale: str, values: list[float]) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    low, high = min(values), max(values)
    if scale == "log" and 0 < 4 * low < high:  # with less between them, a log axis has no numbers
        axes.set_yscale("log")
        axes.set_ylim(low / 1.3, high * 1.3)
        decades = math.log10(high / low)
        subs = (1, 2, 5) if decades < 2 else (1, 3) if decades < 3 else (1,)
        axes.yaxis.set_major_locator(LogLocator(subs=subs))
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_ylim(min(0, low), high * 1.08 or 1)
    axes.yaxis.set_major_formatter(as_tick)


def _draw_bars(axes, panel: Panel, panels: list[Panel], styles: dict) -> None:
    """One bar per server, its parts end to end, its sum beside it."""
    for row, bar in enumerate(panel.bars):
        colour, _ = styles[bar.server_id]
        begin = 0.0
        for name, value in bar.parts:
            look = {"facecolor": colour, "edgecolor": PAPER, "linewidth": 0, **_faces(panel)[name]}
            if bar.hollow:
                look |= {"facecolor": PAPER, "edgecolor": colour, "linewidth": 1, "linestyle": "--"}
            axes.barh(row, value, left=begin, height=0.62, **look)
            begin += value
        rows = [row] * len(bar.dots)
        axes.plot(bar.dots, rows, "o", **DOT | {"markersize": 3}, color=INK, markerfacecolor=PAPER)
        end = max([begin, *bar.dots])
        axes.annotate(
            number(begin), (end, row), (6, 0), textcoords="offset points", va="center", size=8.5
        )
    axes.set_yticks(range(len(panel.bars)), [_readable(bar.label) for bar in panel.bars])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(panel.bars) - 0.5, -0.5)
    axes.set_xlim(0, axes.get_xlim()[1] * 1.12)  # with room for the numbers
    axes.grid(axis="x")
    axes.xaxis.set_major_formatter(as_tick)


def _thin_out_ticks(figure) -> None:
    """Once all has its place: take the label from a tick where it would touch another one.

    The first and the last keep theirs, then as many as have room, from the right.
    """
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # all has its place, once and for all
    for axes in figure.axes:
        labels = [label for label in axes.get_xticklabels() if label.get_text()]
        labels.sort(key=lambda label: sum(label.get_window_extent().intervalx))
        kept = []
        for label in [*labels[:1], *labels[:0:-1]]:
            box = label.get_window_extent().padded(2)
            if any(box.overlaps(other) for other in kept):
                label.set_visible(False)
            else:
                kept.append(box)


def as_tick(value: float, position: int | None = None) -> str:
    """A number for an axis, where room is scarce: 12k or 35 or 0.25."""
    return f"{value / 1000:g}k" if abs(value) >= 1000 else f"{value:g}"


def _readable(label: str) -> str:
    """Somebody's name for a server, not too long."""
    return _printable(label if len(label) <= 22 else f"{label[:21]}…")


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _tidy(svg: str, alt: str) -> str:
    """The same picture in a third of the bytes, and with its text for screen readers."""
    # A hundredth of a point is enough, and leaves no noise of the last digit.
    svg = re.sub(r"(?<=[\s\"(,-])(\d+\.\d\d)\d+(?=[^<>]*>)", r"\1", svg)
    # Each dot repeats its style; the dots of one line share it, so their group can hold it.
    svg = re.sub(r"(<g\b[^>]*)>((?:\s*<use [^>]*/>)+\s*</g>)", _share_style, svg)
    label = html.escape(alt)
    return svg.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)


def _share_style(group: re.Match) -> str:
    styles = set(re.findall(r' style="[^"]*"', group[2]))
    if len(styles) != 1:
        return group[0]
    (style,) = styles
    return f"{group[1]}{style}>{group[2].replace(style, '')}"
