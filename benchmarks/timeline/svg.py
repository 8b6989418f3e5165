"""Draws schedules under one time axis: an SVG for README, in light and in dark mode."""

import html
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from benchmarks.timeline.recorder import Call
from benchmarks.timeline.schedule import Block, Kind, Lane, Role, Schedule, Way
from benchmarks.timeline.script import Action

# All in pixels: the width of a picture, and of one for phones; the margins of the time axis; the
# heights of lanes and of the other parts; the sizes of text.
WIDTH, NARROW = 900, 420
LEFT, RIGHT = 96, 12
LANE, LOOP_LANE, CLIENT_LANE, GAP = 13, 20, 17, 2
HEADING, BETWEEN, TOP, AXIS, LEGEND = 26, 12, 24, 26, 26
SMALL, NORMAL, LARGE = 11, 12, 15
CHARACTER = 0.56  # of its size: the width of a character, on the average
LEAST_WIDTH = 0.8  # of a block
WIDE_ENOUGH = 8  # pixels beside the text of a block
TICKS = (1, 2, 5, 10, 20, 25, 50, 100, 200, 250, 500, 1000, 2000, 5000)
CLIENT_COLOURS = (
    ("#1765cc", "#6ea8ff"),
    ("#c4391d", "#ff8a70"),
    ("#14803c", "#56c97f"),
    ("#8239bf", "#c48cff"),
    ("#8a6a00", "#d9b84a"),
    ("#0f7b8a", "#58c4d4"),
    ("#a8326f", "#f08fbf"),
    ("#5f6b1f", "#b3c35a"),
)
COLOURS = {
    "ink": ("#1f2328", "#e6edf3"),
    "quiet": ("#59636e", "#9aa4ae"),
    "line": ("#d0d7de", "#3d444d"),
    "asleep": ("#e4e8ee", "#2a313a"),
    "ready": ("#f2b200", "#e0a800"),
    "itself": ("#98a2ad", "#767f89"),
    "band": ("#f3f4f6", "#161b22"),
}
HEADINGS = {
    "v1_threads": "a thread per client",
    "v2_select": "one select() loop",
    "v3_broadcast": "one select() loop, a room",
    "v4_asyncio": "coroutines, a room",
}


def heading_of(schedule: Schedule) -> str:
    """The name of a server, and its model where that is known."""
    about = HEADINGS.get(schedule.name)
    return f"{schedule.name}: {about}" if about else schedule.name


@dataclass(frozen=True)
class Window:
    """The part of a schedule that is drawn, in ns since the beginning; 0 on the axis is `zero`."""

    start: int
    end: int
    zero: int = 0


@dataclass(frozen=True)
class Figure:
    """What is drawn: schedules with their windows, of one length. `unit_ns` is that of the axis."""

    title: str
    schedules: Sequence[Schedule]
    windows: Sequence[Window]
    unit: str
    # What stands at the right of each heading.
    said: Sequence[str]
    notes: Sequence[str]

    @property
    def unit_ns(self) -> int:
        return 1000 if self.unit == "µs" else 1_000_000


@dataclass
class Canvas:
    """The elements of a picture, from back to front."""

    width: int
    parts: list[str] = field(default_factory=list)

    @property
    def axis_width(self) -> int:
        """Of the time axis, in pixels."""
        return self.width - LEFT - RIGHT

    def rect(self, x: float, y: float, width: float, height: float, name: str) -> None:
        self.parts.append(
            f'<rect class="{name}" x="{_n(x)}" y="{_n(y)}" width="{_n(width)}"'
            f' height="{_n(height)}"/>'
        )

    def line(self, x1: float, y1: float, x2: float, y2: float, name: str) -> None:
        self.parts.append(
            f'<line class="{name}" x1="{_n(x1)}" y1="{_n(y1)}" x2="{_n(x2)}" y2="{_n(y2)}"/>'
        )

    def text(self, x: float, y: float, text: str, name: str, anchor: str = "start") -> None:
        """A text that is moved as far as it takes to lie inside the picture."""
        wide = text_width(text, name)
        before = {"start": 0.0, "middle": wide / 2, "end": wide}[anchor]
        x = min(max(x, before + 2), self.width - 2 - (wide - before))
        self.parts.append(
            f'<text class="{name}" x="{_n(x)}" y="{_n(y)}" text-anchor="{anchor}">'
            f"{html.escape(text)}</text>"
        )


def text_width(text: str, name: str) -> float:
    """About how wide a text is, in pixels."""
    size = LARGE if "heading" in name else NORMAL if "name" in name else SMALL
    return len(text) * size * CHARACTER * (1.06 if "heading" in name else 1)


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def draw(figure: Figure, width: int = WIDTH) -> str:
    """The whole file, so many pixels wide."""
    canvas = Canvas(width)
    bottom: float = TOP
    for number, schedule in enumerate(figure.schedules):
        panel = Panel(schedule, figure.windows[number], canvas)
        if not number:
            panel.announce()
        bottom = panel.draw(bottom, figure.said[number]) + BETWEEN
    lanes_end = bottom - BETWEEN
    bottom = _axis(figure, canvas, lanes_end + 4)
    bottom = _legend(canvas, bottom)
    for note in figure.notes:
        canvas.text(2, bottom, note, "small quiet")
        bottom += 15
    bands = Canvas(width)
    if figure.schedules:
        _bands(figure, bands, lanes_end)
    body = "\n".join([*bands.parts, *canvas.parts])
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {_n(bottom)}"'
        f' width="{width}" height="{_n(bottom)}" role="img"'
        f' aria-label="{html.escape(figure.title)}">\n<title>{html.escape(figure.title)}</title>\n'
        f"<style>{style()}</style>\n{MARKERS}\n{body}\n</svg>\n"
    )


def style() -> str:
    """The style sheet: colours for light and for dark, by what an element shows."""
    rules = [
        "text{font:11px system-ui,-apple-system,'Segoe UI',sans-serif}",
        f".heading{{font-size:{LARGE}px;font-weight:600}}.name{{font-size:{NORMAL}px}}",
        "line{stroke-width:1}.arrow{stroke-width:1.2}.bar{opacity:.55}.call{opacity:.6}",
        ".inside{fill:#fff}.waiting{fill:url(#lock)}.deaf{fill:url(#hatch)}",
    ]
    for place in (0, 1):
        sheet = [f".{name}{{fill:{pair[place]}}}" for name, pair in COLOURS.items()]
        sheet.append(f".rule{{stroke:{COLOURS['line'][place]}}}")
        sheet.append(f".hatch{{stroke:{COLOURS['ink'][place]}}}")
        for number, pair in enumerate(CLIENT_COLOURS):
            sheet.append(f".c{number}{{fill:{pair[place]}}}.s{number}{{stroke:{pair[place]}}}")
        # In dark mode the blocks are light, and so the text on them is dark.
        sheet += [".inside{fill:#0d1117}"] if place else []
        joined = "".join(sheet)
        rules.append(f"@media(prefers-color-scheme:dark){{{joined}}}" if place else joined)
    return "".join(rules)


MARKERS = (
    '<defs><pattern id="hatch" width="5" height="5" patternUnits="userSpaceOnUse"'
    ' patternTransform="rotate(45)"><line class="hatch" y2="5"/></pattern>'
    '<pattern id="lock" width="4" height="4" patternUnits="userSpaceOnUse">'
    '<rect class="ink" width="2" height="4"/></pattern></defs>'
)


class Panel:
    """One server: its lanes, and those of the clients."""

    def __init__(self, schedule: Schedule, window: Window, canvas: Canvas) -> None:
        self.schedule = schedule
        self.window = window
        self.canvas = canvas
        self.clients = {name: number for number, name in enumerate(schedule.clients)}

    def x(self, at: int) -> float:
        """Where a time is, kept within the axis."""
        share = (at - self.window.start) / (self.window.end - self.window.start)
        return LEFT + min(1.0, max(0.0, share)) * self.canvas.axis_width

    def is_seen(self, start: int, end: int) -> bool:
        return end > self.window.start and start < self.window.end

    def announce(self) -> None:
        """Above all: who says what, where there is room for it; first what the bands stand for."""
        taken: list[tuple[float, float]] = []
        for at, text in [*self.bands(), *self.lines()]:
            half = text_width(text, "small") / 2
            x = min(max(self.x(at), half + 2), self.canvas.width - half - 2)
            if all(x + half < start or end < x - half for start, end in taken):
                self.canvas.text(x, 14, text, "small quiet", "middle")
                taken.append((x - half, x + half))

    def bands(self) -> Iterator[tuple[int, str]]:
        """The middle of each band, and its name."""
        for text, start, end in bands_of(self.schedule):
            if self.is_seen(start, end):
                yield (max(start, self.window.start) + min(end, self.window.end)) // 2, text

    def lines(self) -> Iterator[tuple[int, str]]:
        """When each line was sent, and the line. Pings go without saying."""
        joins = [way for way in self.schedule.ways if way.message.action is Action.JOINS]
        if len(joins) > 1 and self.is_seen(joins[0].at, joins[-1].at + 1):
            yield joins[0].at, "all join"
        for way in self.schedule.ways:
            is_seen = self.window.start <= way.at <= self.window.end
            if is_seen and way not in joins and way.message.command != "/ping":
                yield way.at, f"{way.message.client}: {way.message.text}"

    def draw(self, top: float, said: str) -> float:
        """Everything below this y; returns where it ends."""
        self.canvas.text(2, top + 17, heading_of(self.schedule), "heading ink")
        y = top + HEADING
        if self.canvas.width < WIDTH:
            self.canvas.text(2, top + 32, said, "small quiet")
            y += 14 if said else 0
        else:
            self.canvas.text(WIDTH - RIGHT, top + 17, said, "small quiet", "end")
        for lane in self.schedule.lanes:
            if any(self.is_seen(block.start, block.end) for block in lane.blocks):
                y = self.lane(lane, y)
        y += 4
        rows = {}
        for client in self.schedule.clients:
            rows[client] = y + CLIENT_LANE / 2
            self.client(client, rows[client])
            y += CLIENT_LANE
        for way in self.schedule.ways:
            if self.is_seen(way.at, way.answered or way.at):
                self.way(way, rows)
        if self.schedule.cut:
            x = self.x(self.schedule.end)
            self.canvas.line(x, top + HEADING, x, y, "hatch")
            self.canvas.text(
                x - 4, y - 4, f"it ended here: {self.schedule.cut}", "small ink", "end"
            )
        return y

    def lane(self, lane: Lane, y: float) -> float:
        height = LOOP_LANE if lane.role is Role.LOOP else LANE
        first, last = lane.blocks[0], lane.blocks[-1]
        self.canvas.text(LEFT - 6, y + height / 2 + 4, lane.name, "small quiet", "end")
        x = self.x(first.start)
        self.canvas.rect(x, y, self.x(last.end) - x, height, "asleep")
        for x, width, name in self.merged(lane.blocks):
            self.canvas.rect(x, y, width, height, name)
        for block in lane.blocks:
            self.label(block, y + height / 2 + 4)
        asleep = [b for b in lane.blocks if b.kind is Kind.ASLEEP and self.is_seen(b.start, b.end)]
        if asleep:
            longest = max(asleep, key=lambda b: self.x(b.end) - self.x(b.start))
            self.label(longest, y + height / 2 + 4, True)
        return y + height + GAP

    def merged(self, blocks: Sequence[Block]) -> Iterator[tuple[float, float, str]]:
        """Blocks as (x, width, class). Neighbours that look alike and touch become one."""
        drawn = []
        for block in blocks:
            if block.kind is not Kind.ASLEEP and self.is_seen(block.start, block.end):
                x, end = self.x(block.start), self.x(block.end)
                drawn.append((x, max(end, x + LEAST_WIDTH), self.look(block)))
        for name, group in itertools.groupby(drawn, key=lambda one: one[2]):
            spans = [(x, until) for x, until, _ in group]
            x, end = spans[0]
            for start, until in spans[1:]:
                if start > end + 0.3:
                    yield x, end - x, name
                    x = start
                end = max(end, until)
            yield x, end - x, name

    def look(self, block: Block) -> str:
        """The class of a block: whose colour it has, and how strong."""
        if block.kind is Kind.READY:
            return "ready"
        if block.kind is Kind.LOCK:
            return "waiting"
        number = self.clients.get(block.client)
        colour = "itself" if number is None else f"c{number}"
        return f"{colour} call" if block.kind is Kind.CALL else colour

    def label(self, block: Block, y: float, is_longest: bool = False) -> None:
        """What a block does, where there is room for it. Of the sleeps only the longest says it."""
        texts, name = [], "small inside"
        if block.kind is Kind.PYTHON and block.client:
            texts = [f"{block.detail or 'Python'} for {block.client}", block.client]
        elif block.kind is Kind.ASLEEP and block.call is Call.SEND and not is_longest:
            texts, name = [f"asleep in {block.detail}"], "small ink"
        elif is_longest and block.call is not Call.SEND:
            texts = [f"asleep in {block.detail}" if block.detail else "asleep"]
            name = "small quiet"
        start, end = self.x(block.start), self.x(block.end)
        for text in texts:
            if end - start > text_width(text, name) + WIDE_ENOUGH:
                self.canvas.text((start + end) / 2, y, text, name, "middle")
                return

    def client(self, client: str, y: float) -> None:
        number = self.clients[client]
        self.canvas.text(LEFT - 6, y + 4, client, f"name c{number}", "end")
        self.canvas.line(LEFT, y, LEFT + self.canvas.axis_width, y, "rule")
        for name, start, end in self.schedule.deaf:
            if name == client and self.is_seen(start, end):
                x = self.x(start)
                self.canvas.rect(x, y - 5, self.x(end) - x, 10, "deaf")

    def way(self, way: Way, rows: dict[str, float]) -> None:
        """A dot, a bar until the sender's answer is there, and arrows to the others."""
        client = way.message.client
        number, y, x = self.clients[client], rows[client], self.x(way.at)
        for name, at in way.deliveries:
            until = self.x(at)
            if name == client:
                self.canvas.rect(x, y - 2.5, max(until - x, LEAST_WIDTH), 5, f"c{number} bar")
            else:
                self.arrow(x, y, until, rows[name] + (4 if rows[name] < y else -4), number)
        if way.at >= self.window.start:
            self.canvas.parts.append(f'<circle class="c{number}" cx="{_n(x)}" cy="{_n(y)}" r="3"/>')

    def arrow(self, x1: float, y1: float, x2: float, y2: float, number: int) -> None:
        self.canvas.line(x1, y1, x2, y2, f"arrow s{number}")
        long = ((x2 - x1) ** 2 + (y2 - y1) ** 2) ** 0.5 or 1.0
        dx, dy = (x2 - x1) / long * 6, (y2 - y1) / long * 6
        points = (
            f"{_n(x2)},{_n(y2)} {_n(x2 - dx - dy / 2.4)},{_n(y2 - dy + dx / 2.4)}"
            f" {_n(x2 - dx + dy / 2.4)},{_n(y2 - dy - dx / 2.4)}"
        )
        self.canvas.parts.append(f'<polygon class="c{number}" points="{points}"/>')


def in_short(nanoseconds: int) -> str:
    """`6.4 ms`, `71 ms`, `240 µs`."""
    if nanoseconds < 1_000_000:
        return f"{nanoseconds / 1000:.0f} µs"
    milliseconds = nanoseconds / 1e6
    return f"{milliseconds:.1f} ms" if milliseconds < 10 else f"{milliseconds:.0f} ms"


def _axis(figure: Figure, canvas: Canvas, y: float) -> float:
    """The time axis, below all panels."""
    window = figure.windows[0]
    span = (window.end - window.start) / figure.unit_ns
    most = canvas.axis_width // 60
    step = next((tick for tick in TICKS if span / tick <= most), TICKS[-1])
    first = -int((window.zero - window.start) / figure.unit_ns / step)
    pixels = canvas.axis_width / (window.end - window.start)
    canvas.text(LEFT - 40, y + 15, figure.unit, "small quiet", "end")
    for number in range(first, int(span / step) + 1):
        at = window.zero + number * step * figure.unit_ns
        if window.start <= at <= window.end:
            x = LEFT + (at - window.start) * pixels
            canvas.line(x, y, x, y + 4, "rule")
            canvas.text(x, y + 15, str(number * step), "small quiet", "middle")
    return y + AXIS


# What the looks of blocks mean.
LEGEND_ENTRIES = (
    ("c0 bar", "a line on its way: from dot to answer (arrows: to others)"),
    ("asleep", "asleep in a call"),
    ("ready", "could run, does not yet (scheduler or interpreter's lock)"),
    ("c0", "runs Python for the client of that colour"),
    ("c0 call", "in a system call for that client"),
    ("itself", "the server itself"),
    ("waiting", "waits for a lock of the server"),
    ("deaf", "does not read"),
)


def _legend(canvas: Canvas, y: float) -> float:
    """What the colours mean, in as many rows as it takes."""
    x: float = 2
    for name, text in LEGEND_ENTRIES:
        wide = 18 + text_width(text, "small") + 14
        if x + wide > canvas.width:
            x, y = 2, y + 16
        canvas.rect(x, y, 14, 10, name)
        canvas.text(x + 18, y + 9, text, "small quiet")
        x += wide
    return y + LEGEND


def _bands(figure: Figure, canvas: Canvas, bottom: float) -> None:
    """Behind all panels: while somebody's /work is under way by the script, and one is deaf."""
    panel = Panel(figure.schedules[0], figure.windows[0], canvas)
    for _, start, end in bands_of(figure.schedules[0]):
        if panel.is_seen(start, end):
            x = panel.x(start)
            canvas.rect(x, TOP, panel.x(end) - x, bottom - TOP, "band")


def bands_of(schedule: Schedule) -> Iterator[tuple[str, int, int]]:
    """What goes on behind all panels: work, for as long as was asked for, and deafness."""
    for way in schedule.ways:
        message = way.message
        if message.command == "/work" and message.argument.isdecimal():
            text = f"{message.client}: {message.text}"
            yield text, way.at, way.at + int(message.argument) * 1_000_000
    for name, start, end in schedule.deaf:
        yield f"{name} does not read", start, end
