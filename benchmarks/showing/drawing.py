"""Draw a picture that is already worked out: dots, medians, bars, labels, on axes with units.

The only module that needs matplotlib, and it imports it only to draw. The same picture gives the
same bytes with the same matplotlib.
"""

import html
import io
import itertools
import math
import re
import textwrap
import warnings
from dataclasses import dataclass
from pathlib import Path

INK, MUTED, GRID, BAND, PAPER = "#1f2328", "#59636e", "#d8dee4", "#f1f3f5", "#ffffff"
WIDTH = 8.0  # inches: 768 CSS pixels as SVG, about what a README gives a picture
MARGIN = 0.14  # inches
DENSE = 20  # places on x; with more, dots are small and no place has its own number
LABEL_POINTS = 13  # the height of one row of a label
NO_LABELS = 0.15  # inches at the right of a panel that has none
PNG_DPI = 200
NOTE_WIDTH = 138  # characters of an 8 point note on one line
LOOK = {
    "font.family": "sans-serif",
    # An SVG holds text, not outlines: it can be searched and read aloud. Verdana has the widths
    # of DejaVu Sans, with which the layout is made; the others are narrower, so nothing collides.
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Geneva", "Arial"],
    "font.size": 9.5,
    "text.color": INK,
    "text.parse_math": False,  # a server may be named $x$
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.8,
    "svg.fonttype": "none",
}


@dataclass(frozen=True)
class Style:
    """How one server looks in every picture."""

    colour: str
    marker: str
    dash: object  # a matplotlib line style


@dataclass(frozen=True)
class Dot:
    """One trial."""

    x: float
    y: float
    limited: bool = False  # the load generator was the limit, not the server


@dataclass(frozen=True)
class Line:
    """One server in one panel: a dot per trial, and the medians (x, y, to be trusted)."""

    server: str
    label: str
    style: Style
    dots: tuple[Dot, ...]
    medians: tuple[tuple[float, float, bool], ...]


@dataclass(frozen=True)
class Panel:
    """One pair of axes."""

    x_label: str
    y_label: str
    lines: tuple[Line, ...]
    x_scale: str = "linear"  # or "log"
    y_scale: str = "linear"  # or "log"
    x_names: tuple[str, ...] = ()  # for positions 0, 1, 2, ... instead of numbers
    wall: float | None = None  # an x that some servers cannot pass
    wall_text: str = ""
    band: tuple[float, float] | None = None  # a stretch of x in grey
    level: float | None = None  # a y to compare with, dashed
    # A stacked bar per line instead: (name, median) for each part, in the lines' order.
    parts: tuple[tuple[tuple[str, float], ...], ...] = ()

    @property
    def farthest(self) -> float:
        """The largest x of all dots."""
        return max(dot.x for line in self.lines for dot in line.dots)

    @property
    def bends(self) -> bool:
        """Whether the x axis goes on beyond the wall, on another scale."""
        return self.wall is not None and self.farthest > self.wall


@dataclass(frozen=True)
class Picture:
    """One file: a title, panels in rows, notes, and the same in words for who cannot see it."""

    name: str
    title: str
    alt: str
    panels: tuple[Panel | None, ...]  # row by row; None leaves its place empty
    notes: tuple[str, ...] = ()
    columns: int = 1
    panel_height: float = 3.1  # inches
    multiples: bool = False  # one server per column, named above it, instead of labels at the lines


def draw(picture: Picture, out_dir: Path) -> list[Path]:
    """Draw one picture as NAME.svg and NAME.png (1600 pixels wide) and return both paths.

    The same picture gives the same bytes with the same matplotlib: no date, no random ids, no
    configuration of the user's. OSError when the folder cannot be written.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    paths = [Path(out_dir) / f"{picture.name}.{suffix}" for suffix in ("svg", "png")]
    with matplotlib.rc_context(), warnings.catch_warnings():
        # A student's server may have a name that our font has no letters for: it shows as boxes.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({**LOOK, "svg.hashsalt": picture.name})
        figure = _lay_out(picture)
        FigureCanvasAgg(figure)
        raw = io.StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(raw, format="svg", metadata=nothing)
        paths[0].write_text(_tidy(raw.getvalue(), picture.alt), encoding="utf-8", newline="\n")
        figure.savefig(paths[1], metadata={"Software": None}, dpi=PNG_DPI)
    return paths


def _tidy(svg: str, alt: str) -> str:
    """The same picture in a third of the bytes, and with its text for screen readers."""
    # A hundredth of a point is enough, and leaves no noise of the last digit to differ by.
    svg = re.sub(r"<[^>]+>", lambda tag: re.sub(r"-?\d+\.\d{3,}", _rounded, tag[0]), svg)
    # Each dot repeats its style; the dots of one line share it, so their group can hold it.
    svg = re.sub(r"(<g\b[^>]*)>((?:\s*<use [^>]*/>)+\s*</g>)", _share_style, svg)
    label = html.escape(alt)
    return svg.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)


def _rounded(number: re.Match) -> str:
    return f"{float(number[0]):.2f}".rstrip("0").rstrip(".")


def _share_style(group: re.Match) -> str:
    styles = set(re.findall(r' style="[^"]*"', group[2]))
    if len(styles) != 1:
        return group[0]
    (style,) = styles
    return f"{group[1]}{style}>{group[2].replace(style, '')}"


def _lay_out(picture: Picture):
    """The figure: title, a grid of panels, notes below. All lengths here are inches."""
    from matplotlib.figure import Figure

    notes = [line for note in picture.notes for line in textwrap.wrap(note, NOTE_WIDTH)]
    columns = picture.columns
    rows = math.ceil(len(picture.panels) / columns)
    panels = [panel for panel in picture.panels if panel is not None]
    left, right = _margins(picture, panels)
    panel_width = (WIDTH - sum(left) - sum(right)) / columns
    panel_height = max(picture.panel_height, _label_room(panels) if not picture.multiples else 0)
    head = 0.14 * max(_rows(line) for panel in panels for line in panel.lines)
    top, between = (0.92 + head, 0.76 + head) if picture.multiples else (0.82, 0.74)
    bottom = 0.62 + 0.165 * len(notes)
    height = top + rows * panel_height + (rows - 1) * between + bottom
    figure = Figure(figsize=(WIDTH, height), facecolor=PAPER)
    figure.text(MARGIN / WIDTH, 1 - 0.3 / height, picture.title, size=12, weight="bold")
    for index, line in enumerate(reversed(notes)):
        y = (MARGIN * 0.7 + 0.165 * index) / height
        figure.text(MARGIN / WIDTH, y, line, size=8, color=MUTED)
    for index, panel in enumerate(picture.panels):
        if panel is None:
            continue
        row, column = divmod(index, columns)
        x = sum(left[: column + 1]) + sum(right[:column]) + column * panel_width
        y = height - top - panel_height - row * (panel_height + between)
        box = (x / WIDTH, y / height, panel_width / WIDTH, panel_height / height)
        axes = figure.add_axes(box)
        if panel.parts:
            _draw_bars(axes, panel)
            continue
        same = [other for other in panels if other.y_label == panel.y_label]
        _draw_lines(axes, panel, same, small=picture.multiples)
        if picture.multiples:
            _head(axes, panel, first=column == 0)
        elif right[column] > NO_LABELS:
            _label_ends(axes, panel)
    return figure


def _rows(line: Line) -> int:
    """How many rows of text a line's label has."""
    return 1 + line.label.count("\n")


def _label_room(panels: list[Panel]) -> float:
    """Inches of height that the labels beside a panel need."""
    most = max(sum(LABEL_POINTS * _rows(line) for line in panel.lines) for panel in panels)
    return most / 72


def _margins(picture: Picture, panels: list[Panel]) -> tuple[list[float], list[float]]:
    """What each column needs at its left and right, inches."""
    names = [line.label for panel in panels for line in panel.lines]
    widest = 0.08 * max(len(part) for name in names for part in name.split("\n"))
    columns = picture.columns
    if any(panel.parts for panel in panels):  # the names stand at the left, a number at the right
        return [0.3 + widest] * columns, [0.6] * columns
    if picture.multiples:
        return [0.62] + [0.14] * (columns - 1), [NO_LABELS] * columns
    # Panels of the same servers are labelled once, at the right of the last.
    shown = [{line.server for line in panel.lines} for panel in panels]
    once = all(servers <= shown[-1] for servers in shown)
    right = [NO_LABELS if once else 0.52 + widest] * (columns - 1) + [0.52 + widest]
    return [0.62] * columns, right


def _draw_lines(axes, panel: Panel, same: list[Panel], *, small: bool) -> None:
    """Dots, medians and axes. Panels with the same y label (`same`) share its scale."""
    for position, line in enumerate(panel.lines):
        shift = _dodge(panel, position)
        dense = len(line.medians) > DENSE
        for medians, width in _strokes(line):
            axes.plot(
                [x + shift for x, _, _ in medians],
                [y for _, y, _ in medians],
                color=line.style.colour,
                linestyle="-" if dense else line.style.dash,
                linewidth=width,
                zorder=5 if dense else 3,
            )
        for limited in (False, True):
            dots = [dot for dot in line.dots if dot.limited == limited]
            axes.plot(
                [dot.x + shift for dot in dots],
                [dot.y for dot in dots],
                linestyle="none",
                marker=line.style.marker,
                markersize=2.4 if dense else 4.0 if small else 4.8,
                markeredgewidth=0.5 if dense else 0.9,
                markeredgecolor=line.style.colour,
                markerfacecolor=PAPER if limited else line.style.colour,
                alpha=1 if limited else 0.35 if dense else 0.6,
                zorder=4,
            )
    axes.grid(axis="y")
    axes.set_xlabel(panel.x_label)
    axes.set_title(panel.y_label, loc="left", size=9.5, pad=8)
    _scale_y(axes, panel, [dot.y for other in same for line in other.lines for dot in line.dots])
    _scale_x(axes, panel)
    if panel.level is not None:
        axes.axhline(panel.level, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
    if panel.band:
        axes.axvspan(*panel.band, color=BAND, linewidth=0, zorder=0)
    if panel.wall:
        _draw_wall(axes, panel)


def _scale_y(axes, panel: Panel, values: list[float]) -> None:
    from matplotlib.ticker import FuncFormatter, NullFormatter

    if panel.y_scale == "log" and min(values) > 0:
        axes.set_yscale("log")
        low, high = math.log10(min(values)), math.log10(max(values))
        decade = math.floor(low - 0.05)
        axes.set_ylim(10**decade, 10 ** max(decade + 1, high + 0.1 * max(1, high - low)))
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_ylim(0, max(values) * (1.35 if panel.wall else 1.15) or 1)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: as_number(value)))


def _scale_x(axes, panel: Panel) -> None:
    from matplotlib.ticker import FuncFormatter, NullLocator

    if panel.x_names:
        axes.set_xticks(range(len(panel.x_names)), panel.x_names)
        axes.set_xlim(-0.5, len(panel.x_names) - 0.5)
        axes.tick_params(axis="x", length=0)
        return
    values = sorted({dot.x for line in panel.lines for dot in line.dots})
    low, high = values[0], values[-1]
    if panel.x_scale == "log" and low > 0:
        axes.set_xscale("log")
        axes.set_xlim(low / 1.2, high * 1.2)
    elif panel.bends:
        _bend(axes, panel.wall, high)
    else:
        span = max(high, panel.wall or 0) - low or 1
        axes.set_xlim(low - 0.02 * span, low + 1.02 * span)
    if len(values) <= DENSE:
        axes.set_xticks(_readable_ticks(axes, values))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: as_number(value)))
    axes.xaxis.set_minor_locator(NullLocator())


def _draw_wall(axes, panel: Panel) -> None:
    """The line that some servers cannot pass, and in words why; it has the top to itself."""
    across = axes.get_xaxis_transform()
    axes.axvline(panel.wall, color=INK, linewidth=1.1, zorder=2)
    if panel.bends:
        text = panel.wall_text + " From here the x axis has another scale."
        offset, side = 5, "left"
    else:
        text, offset, side = panel.wall_text, -5, "right"
    axes.annotate(
        "\n".join(textwrap.wrap(text, 40)),
        (panel.wall, 0.99),
        xycoords=across,
        xytext=(offset, 0),
        textcoords="offset points",
        size=8,
        ha=side,
        va="top",
    )


def _strokes(line: Line) -> list[tuple[list[tuple[float, float, bool]], float]]:
    """What to draw of the median line, with its width: all of it thin, the trusted runs bold."""
    strokes = [(list(line.medians), 0.7)]
    for trusted, run in itertools.groupby(line.medians, key=lambda median: median[2]):
        if trusted:
            strokes.append((list(run), 1.8))
    return strokes


def _bend(axes, wall: float, end: float) -> None:
    """Give the stretch up to the wall most of the width, and all beyond it the rest."""
    import numpy

    share = 0.62

    def forward(x):
        beyond = share + (x - wall) / (end - wall) * (1 - share)
        return numpy.where(x <= wall, x / wall * share, beyond)

    def inverse(y):
        beyond = wall + (y - share) / (1 - share) * (end - wall)
        return numpy.where(y <= share, y / share * wall, beyond)

    axes.set_xscale("function", functions=(forward, inverse))
    axes.set_xlim(-0.02 * wall, end + 0.02 * (end - wall))


def _readable_ticks(axes, values: list[float]) -> list[float]:
    """Those measured values that have room for their number; the last one always."""
    apart = 38 * axes.figure.dpi / 72
    kept: list[float] = []
    at = {value: axes.transData.transform((value, 1))[0] for value in values}
    for value in values:
        if not kept or at[value] - at[kept[-1]] >= apart:
            kept.append(value)
    if kept and kept[-1] != values[-1]:
        kept[-1] = values[-1]
    return kept


def _dodge(panel: Panel, position: int) -> float:
    """Servers stand beside one another where x is a name, not a number."""
    if not panel.x_names:
        return 0.0
    count = len(panel.lines)
    return (position - (count - 1) / 2) * min(0.11, 0.6 / count)


def _label_ends(axes, panel: Panel) -> None:
    """Name each line where it ends: a sample of its look and its label, none over another."""
    box = axes.get_window_extent()
    point = axes.figure.dpi / 72
    outside, inside = [], []
    for position, line in enumerate(panel.lines):
        x, y, _ = line.medians[-1]
        end = axes.transData.transform((x + _dodge(panel, position), y))
        held_back = panel.bends and x <= panel.wall and len(panel.lines) <= 6
        (inside if held_back else outside).append((end[0], end[1], line))
    for ends, is_outside in ((outside, True), (inside, False)):
        ends.sort(key=lambda end: end[1])
        room = [LABEL_POINTS * _rows(line) * point for _, _, line in ends]
        heights = spread([y for _, y, _ in ends], room, box.y0, box.y1)
        for (x, y, line), height in zip(ends, heights, strict=True):
            start = box.x1 if is_outside else axes.transData.transform((panel.wall, y))[0]
            _key(axes, line, (x + 3 * point, y), (start + 12 * point, height))


def _key(axes, line: Line, end: tuple[float, float], start: tuple[float, float]) -> None:
    """A thin leader from a line's end to its sample and label; both places in pixels."""
    box = axes.get_window_extent()
    point = axes.figure.dpi / 72
    (x0, y0), (x1, y1) = axes.transAxes.inverted().transform([end, start])
    sample = 20 * point / box.width
    place = {"transform": axes.transAxes, "clip_on": False, "zorder": 6}
    look = {"color": line.style.colour, **place}
    axes.plot([x0, x1], [y0, y1], color=GRID, linewidth=0.8, **place)
    axes.plot([x1, x1 + sample], [y1, y1], linestyle=line.style.dash, **look)
    axes.plot([x1 + sample / 2], [y1], marker=line.style.marker, markersize=5, **look)
    axes.text(x1 + sample * 1.25, y1, line.label, size=9, va="center", **place)


def spread(wanted: list[float], room: list[float], low: float, high: float) -> list[float]:
    """Move heights (ascending) as little as it takes for each to have its room within low..high.

    Those that would overlap become one group, centred on the mean of what its members wanted.
    """
    groups: list[tuple[float, float, int]] = []  # (centre, room, members)

    def within(centre: float, size: float) -> float:
        return max(low + size / 2, min(high - size / 2, centre))

    for height, size in zip(wanted, room, strict=True):
        group = (within(height, size), size, 1)
        while groups and groups[-1][0] + groups[-1][1] / 2 > group[0] - group[1] / 2:
            before = groups.pop()
            members = before[2] + group[2]
            centre = (before[0] * before[2] + group[0] * group[2]) / members
            group = (within(centre, before[1] + group[1]), before[1] + group[1], members)
        groups.append(group)
    placed = []
    for centre, size, members in groups:
        edge = centre - size / 2
        for index in range(len(placed), len(placed) + members):
            placed.append(edge + room[index] / 2)
            edge += room[index]
    return placed


def _head(axes, panel: Panel, first: bool) -> None:
    """Name the one server of a small panel above it; only the first column has numbers at its y."""
    (line,) = panel.lines
    height = 5 + 6 * _rows(line)  # points from the axes to the middle of the name
    axes.set_title(panel.y_label if first else "", loc="left", size=9.5, pad=2 * height + 1)
    place = {"transform": axes.transAxes, "clip_on": False}
    look = {"color": line.style.colour, **place}
    sample = 20 / 72 * axes.figure.dpi / axes.get_window_extent().width
    height = 1 + height / 72 * axes.figure.dpi / axes.get_window_extent().height
    axes.plot([0, sample], [height, height], linestyle=line.style.dash, **look)
    axes.plot([sample / 2], [height], marker=line.style.marker, markersize=5, **look)
    axes.text(sample * 1.25, height, line.label, size=9, va="center", **place)
    if not first:
        axes.tick_params(axis="y", labelleft=False)


def _draw_bars(axes, panel: Panel) -> None:
    """One bar per server, its parts end to end: the first full, the others paler and hatched."""
    from matplotlib.patches import Patch

    faces = ({"alpha": 0.85}, {"alpha": 0.5, "hatch": "/////"})
    for row, (line, parts) in enumerate(zip(panel.lines, panel.parts, strict=True)):
        begin = 0.0
        for (_, value), face in zip(parts, faces, strict=True):
            look = {"facecolor": line.style.colour, "edgecolor": PAPER, "linewidth": 0, **face}
            axes.barh(row, value, left=begin, height=0.5, **look)
            begin += value
        trials = [dot.x for dot in line.dots]
        axes.plot(
            trials,
            [row] * len(trials),
            linestyle="none",
            marker=line.style.marker,
            markersize=4.8,
            markerfacecolor=PAPER,
            markeredgecolor=INK,
            zorder=4,
        )
        axes.annotate(
            f"{begin:,.1f}",
            (max([begin, *trials]), row),
            xytext=(9, 0),
            textcoords="offset points",
            va="center",
        )
    names = dict.fromkeys(name for parts in panel.parts for name, _ in parts)
    grey = {"facecolor": MUTED, "edgecolor": PAPER, "linewidth": 0}
    axes.legend(
        handles=[
            Patch(label=name, **grey, **face) for name, face in zip(names, faces, strict=True)
        ],
        loc="lower right",
        bbox_to_anchor=(1.0, 1.0),
        ncols=len(names),
        frameon=False,
        borderaxespad=0,
        fontsize=9,
    )
    axes.set_yticks(range(len(panel.lines)), [line.label for line in panel.lines])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(panel.lines) - 0.5, -0.5)
    axes.set_xlim(0, None)
    axes.grid(axis="x")
    axes.set_xlabel(panel.x_label)
    axes.set_title(panel.y_label, loc="left", size=9.5, pad=8)


def as_number(value: float) -> str:
    """A number for an axis or a sentence: 12,000 or 35 or 0.25."""
    if value == int(value) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
