"""How a picture gets on paper. This module needs matplotlib, the one optional package."""

import html
import io
import itertools
import math
import re
import textwrap
import warnings
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, NullFormatter, NullLocator

from benchmarks.report.pictures import FOR_PHONES, GRID, INK, MUTED, PAPER, looks
from benchmarks.report.source import machine_line
from benchmarks.result.figure import Panel, Picture, as_tick
from benchmarks.result.metrics import number
from benchmarks.result.view import View
from harness.command_line import printable

# A colour and a marker by server.
Styles = dict[str, tuple[str, str]]

DOT: dict[str, Any] = {"linestyle": "none", "markersize": 4, "markeredgewidth": 0.8, "zorder": 4}
# Inches: the widths of a picture, the heights of a panel and of a bar in it, and, about, the width
# of a letter of a legend.
WIDE, NARROW = 8.4, 3.9
PANEL_HEIGHT, BAR_HEIGHT = 2.5, 0.27
LETTER = 0.07
DENSE = 20  # with more places on x there is no tick for each
LOOK: dict[Any, Any] = {
    "font.family": "sans-serif",
    # An SVG holds text, not outlines: it can be searched and read aloud. Verdana has the widths
    # of DejaVu Sans, with which the layout is made; the others are narrower, so nothing collides.
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Geneva", "Arial"],
    "font.size": 9,
    # A server may be named $x$.
    "text.parse_math": False,
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


def draw_pictures(view: View, pictures: list[Picture], out_dir: Path) -> list[Path]:
    """Draw each as NAME.svg and NAME-narrow.svg; returns the files. May raise OSError.

    The same picture gives the same bytes with the same matplotlib: no date, no random ids, no
    configuration of the user's.
    """
    paths = []
    styles = looks(view.result["servers"])
    with matplotlib.rc_context(), warnings.catch_warnings():
        # A student's server may have a name that our font has no letters for: it shows as boxes.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(LOOK)
        for picture in pictures:
            panels = picture.drawn_panels
            for suffix, width in (("", WIDE), (FOR_PHONES, NARROW)):
                name = f"{picture.name}{suffix}"
                matplotlib.rcParams["svg.hashsalt"] = name
                columns = min(picture.columns, len(panels)) if width == WIDE else 1
                figure = _figure(picture, panels, columns, width, styles, machine_line(view.result))
                FigureCanvasAgg(figure)
                _thin_out_ticks(figure)
                raw = io.StringIO()
                left_out = dict.fromkeys(("Date", "Creator", "Format", "Type"))
                figure.savefig(raw, format="svg", metadata=left_out)
                path = Path(out_dir) / f"{name}.svg"
                text = _tidy(raw.getvalue(), picture.title)
                path.write_text(text, encoding="utf-8", newline="\n")
                paths.append(path)
    return paths


def _figure(
    picture: Picture, panels: list[Panel], columns: int, width: float, styles: Styles, machine: str
) -> Figure:
    """Title and legend above, a grid of panels, notes below; laid out by matplotlib."""
    legend_note = "A dot is a trial, a line or a bar shows the medians."
    if any(panel.has_hollow for panel in panels):
        legend_note += " Hollow, dashed: does not rank (see the table)."
    letters = int(width / 0.065)
    notes = [*textwrap.wrap(legend_note, letters), *textwrap.wrap(machine, letters)]
    title = textwrap.wrap(picture.title, int(width / 0.1))
    handles = _handles(panels, styles)
    longest = max(len(str(handle.get_label())) for handle in handles)
    across = width / (0.55 + LETTER * longest)
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


def _handles(panels: list[Panel], styles: Styles) -> list[Artist]:
    """The legend: each server once, what stacked bars are made of, what dashed levels are."""
    handles: dict[str, Artist] = {}
    for panel in panels:
        for line in panel.lines:
            colour, marker = styles[line.server_id]
            label = _readable(line.label)
            handles[line.server_id] = Line2D([], [], color=colour, marker=marker, label=label)
        if panel.level:
            name = panel.level[1]
            handles[name] = Line2D([], [], color=MUTED, linestyle="--", linewidth=1, label=name)
        for name, face in _faces(panel).items():
            if name:
                handles[name] = Patch(label=name, facecolor=MUTED, edgecolor=PAPER, **face)
    return list(handles.values()) or [Line2D([], [], linestyle="none", label="")]


def _faces(panel: Panel) -> dict[str, dict]:
    """How each part of a panel's bars looks."""
    faces = ({"alpha": 0.9}, {"alpha": 0.55, "hatch": "////"}, {"alpha": 0.3})
    names = dict.fromkeys(name for bar in panel.bars for name, _ in bar.parts)
    return dict(zip(names, itertools.cycle(faces), strict=False))


def _draw_lines(axes: Axes, panel: Panel, panels: list[Panel], styles: Styles) -> None:
    """Dots, medians and axes. Panels of the same y label and scale go equally far along y."""
    xs = sorted({x for line in panel.lines for x, *_ in line.points})
    for line in panel.lines:
        colour, marker = styles[line.server_id]
        places = [(_place(panel, x), y, x in line.hollow) for x, y, *_ in line.points]
        for one, two in itertools.pairwise(places):
            dashes, width = ("--", 0.8) if one[2] or two[2] else ("-", 1.7)
            axes.plot([one[0], two[0]], [one[1], two[1]], dashes, c=colour, lw=width, zorder=3)
        if len(xs) > DENSE:
            _, _, lows, highs = zip(*line.points, strict=True)
            axes.fill_between([x for x, *_ in places], lows, highs, color=colour, alpha=0.15, lw=0)
            continue
        for hollow in (False, True):
            dots = [(_place(panel, x), y) for x, y in line.dots if (x in line.hollow) == hollow]
            look: dict[str, Any] = {"markerfacecolor": PAPER} if hollow else {"alpha": 0.65}
            x_and_y = [x for x, _ in dots], [y for _, y in dots]
            axes.plot(*x_and_y, marker, color=colour, **DOT, **look)
    if panel.level:
        axes.axhline(panel.level[0], color=MUTED, linewidth=1, linestyle="--", zorder=1)
    axes.grid(axis="y")
    _scale_x(axes, panel, xs)
    alike = [p for p in panels if (p.y_label, p.y_scale) == (panel.y_label, panel.y_scale)]
    values = [y for one in alike for line in one.lines for _, y in line.dots]
    _scale_y(axes, panel.y_scale, values)


def _place(panel: Panel, x: float) -> float:
    """Where an x is drawn: of percentiles, each nine takes as much room as the one before."""
    return -math.log10(1 - x) if panel.x_scale == "percentile" else x


def _scale_x(axes: Axes, panel: Panel, xs: list[float]) -> None:
    if panel.x_scale == "log" and xs[0] > 0:
        axes.set_xscale("log")
        axes.xaxis.set_minor_locator(NullLocator())
    if len(xs) <= DENSE:
        axes.set_xticks([_place(panel, x) for x in xs], [panel.tick(x) for x in xs])
    else:
        axes.xaxis.set_major_formatter(as_tick)


def _scale_y(axes: Axes, scale: str, values: list[float]) -> None:
    low, high = min(values), max(values)
    # With less between them, a log axis has no numbers.
    if scale == "log" and 0 < 4 * low < high:
        axes.set_yscale("log")
        axes.set_ylim(low / 1.3, high * 1.3)
        decades = math.log10(high / low)
        subs = (1, 2, 5) if decades < 2 else (1, 3) if decades < 3 else (1,)
        axes.yaxis.set_major_locator(LogLocator(subs=subs))
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_ylim(min(0, low), high * 1.08 or 1)
    axes.yaxis.set_major_formatter(as_tick)


def _draw_bars(axes: Axes, panel: Panel, panels: list[Panel], styles: Styles) -> None:
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
    # The numbers need room.
    axes.set_xlim(0, axes.get_xlim()[1] * 1.12)
    axes.grid(axis="x")
    axes.xaxis.set_major_formatter(as_tick)


def _thin_out_ticks(figure: Figure) -> None:
    """Hide labels of ticks that would touch: the first and the last stay, then from the right."""
    figure.draw_without_rendering()
    # Everything has its place now, and keeps it.
    figure.set_layout_engine("none")
    for axes in figure.axes:
        labels = [label for label in axes.get_xticklabels() if label.get_text()]
        labels.sort(key=lambda label: sum(label.get_window_extent().intervalx))
        kept: list[Any] = []
        for label in [*labels[:1], *labels[:0:-1]]:
            box = label.get_window_extent().padded(2)
            if any(box.overlaps(other) for other in kept):
                label.set_visible(False)
            else:
                kept.append(box)


def _readable(label: str) -> str:
    """Somebody's name for a server, not too long."""
    return printable(label if len(label) <= 22 else f"{label[:21]}…")


def _tidy(svg: str, alt: str) -> str:
    """The same picture in a third of the bytes, and with its text for screen readers."""
    # A hundredth of a point is enough, and leaves no noise of the last digit.
    svg = re.sub(r"(?<=[\s\"(,-])(\d+\.\d\d)\d+(?=[^<>]*>)", r"\1", svg)
    # Each dot repeats its style; the dots of one line share it, so their group can hold it.
    svg = re.sub(r"(<g\b[^>]*)>((?:\s*<use [^>]*/>)+\s*</g>)", _share_style, svg)
    return svg.replace("<svg ", f'<svg role="img" aria-label="{html.escape(alt)}" ', 1)


def _share_style(group: re.Match) -> str:
    styles = set(re.findall(r' style="[^"]*"', group[2]))
    if len(styles) != 1:
        return group[0]
    (style,) = styles
    return f"{group[1]}{style}>{group[2].replace(style, '')}"
