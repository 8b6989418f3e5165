"""Question: one client stops reading. What do the others see, and what does it cost the server?

Method: chat: one client says lines at random moments of a fixed rate to ten readers and one more,
which stops reading after a while (with a small receive buffer, so that the effect shows soon).
Echo: ten clients talk to themselves, and the eleventh, which stops reading, goes on writing, or
nothing would ever wait for it. Delay of each line from its due time to the last reader, and server
memory. At the end the stuck client is closed, so that a server that waits for it goes on.

Expect: in v1 and v2 the others notice nothing. In v3 and v4 the room stands still once, for the
stall timeout (1 s) at most, until the server drops the client; then it catches up, and nothing is
lost. The server's memory grows by little more than one client's outbox (256 KiB). The tutorials'
server stands still until the stuck client is gone.
"""

import contextlib
import itertools
import re
from dataclasses import replace
from enum import Enum

from benchmarks.experiments.experiment import Experiment, Parameters, Point, sizes
from benchmarks.load.connections import Load, Lost
from benchmarks.load.paced import Paced, Schedule, Traffic, everybody_else, themselves
from benchmarks.result.figure import Panel, Picture, series_lines
from benchmarks.result.metrics import label
from benchmarks.result.status import Outcome
from benchmarks.result.table import Table, by_server
from benchmarks.result.view import Cell, View

OTHERS = 10
LINE_BYTES = 1000
BIN_SECONDS = 0.1
TICK_SECONDS = 0.02
SHORT_MS = 200  # a shorter delay is not one that a stuck client has caused


class Staller:
    """The client that stops reading, and what is seen of the server from then on."""

    def __init__(self, load: Load, client: int, stops_at: float, leaves_at: float) -> None:
        self.load = load
        self.client = client
        self.connection = load.sockets[client]
        self.stops_at = stops_at
        self.leaves_at = leaves_at
        self.stopped_at = 0.0
        self.left_at = 0.0
        # When it could not write any more, in the echo profile.
        self.dropped_at = 0.0
        self.resident: list[tuple[float, float]] = []

    def on_tick(self, seconds: float) -> None:
        """Look at the memory; stop reading, write on, and leave, each at its time."""
        self.resident.append((seconds, self.load.probe.rss_bytes() / 2**20))
        if not self.stopped_at and seconds >= self.stops_at:
            self.load.poller.unregister(self.client)
            self.stopped_at = seconds
        is_over = self.dropped_at or self.left_at
        if self.stopped_at and self.load.profile == "echo" and not is_over:
            self.write_on(seconds)
        if not self.left_at and seconds >= self.leaves_at:
            self.left_at = seconds
            self.connection.close()

    def write_on(self, seconds: float) -> None:
        """Write what the server takes, and find out whether it has been dropped."""
        try:
            # A full buffer is what we want.
            with contextlib.suppress(BlockingIOError):
                while True:
                    self.connection.send((b"x" * (LINE_BYTES - 1) + b"\n") * 50)
        except OSError:
            self.dropped_at = seconds

    def growth_mib(self) -> float:
        calm = [memory for seconds, memory in self.resident if seconds < self.stops_at]
        return max(memory for _, memory in self.resident) - max(calm)


def drive(load: Load, point: Point, parameters: Parameters, seed: int) -> Outcome:
    before, after = parameters["before"], parameters["after"]
    (stuck,) = load.connect(1, receive_bytes=4096)
    others = load.connect(point["others"])
    chat = load.profile == "chat"
    talkers = load.connect(1) if chat else []
    clients = [stuck, *others, *talkers]
    names = load.join(clients)
    if chat:
        traffic = Traffic.lines(talkers, names[-1:], everybody_else(talkers, others), LINE_BYTES)
    else:
        traffic = Traffic.lines(others, names[1:], themselves(others), LINE_BYTES)
    staller = Staller(load, stuck, before, before + after)
    paced = Paced(
        load,
        traffic,
        Schedule(point["rate"], before, after, seed),
        notice=re.compile(rb"\* %s left\n" % names[0].encode()),
        on_tick=staller.on_tick,
        tick_seconds=TICK_SECONDS,
        keeps=False,
    )
    outcome = paced.run(aside=dict.fromkeys([stuck, *talkers], load.receive))
    if paced.notices > len(others):
        raise Lost(f"{len(others)} readers were told {paced.notices} times that one had left")
    metrics = outcome.metrics
    dropped_at = paced.noticed_at if chat else staller.dropped_at
    if dropped_at and not 0 < staller.left_at <= dropped_at:
        metrics["dropped_after_s"] = dropped_at - staller.stopped_at
    metrics["rss_growth_mib"] = staller.growth_mib()
    metrics["worst_delay_ms"] = metrics["max_ms"]
    arrivals = itertools.pairwise(sorted(paced.last_at))
    metrics["stood_still_s"] = max(later - earlier for earlier, later in arrivals) / 1e9
    return replace(outcome, series=series(paced, staller.resident, before, after))


def series(
    paced: Paced, resident: list[tuple[float, float]], before: float, after: float
) -> dict[str, list[float | None]]:
    """What happened in each tenth of a second; a line's delay is shown where it was due."""
    bins = round((before + after) / BIN_SECONDS)
    delivered = [0] * bins
    worst: list[float | None] = [None] * bins
    memory: list[float | None] = [None] * bins
    for message, due in enumerate(paced.due):
        arrived_in = int((paced.last_at[message] - paced.start) / 1e9 / BIN_SECONDS)
        due_in = min(bins - 1, int(due / 1e9 / BIN_SECONDS))
        # Some arrive after the end of the schedule.
        if arrived_in < bins:
            delivered[arrived_in] += paced.copies
        worst[due_in] = max(worst[due_in] or 0.0, round(paced.delay_ms(message), 3))
    for second, mebibytes in resident:
        if second < before + after:
            memory[min(bins - 1, int(second / BIN_SECONDS))] = round(mebibytes, 2)
    return {
        "t_s": [round(index * BIN_SECONDS - before, 3) for index in range(bins)],
        "deliveries_per_s": [round(count / BIN_SECONDS) for count in delivered],
        "worst_delay_ms": worst,
        "rss_mib": memory,
    }


class End(Enum):
    """What ended the delay that the stuck client has caused, as a table says it."""

    NO_DELAY = ""
    STALL_TIMEOUT = "the stall timeout"
    IT_LEFT = "until it left"


def end_of_delay(cell: Cell) -> End:
    if not (cell.ranks("worst_delay_ms") and cell.number("worst_delay_ms") > SHORT_MS):
        return End.NO_DELAY
    return End.STALL_TIMEOUT if cell.median("dropped_after_s") else End.IT_LEFT


def tables(view: View) -> list[Table]:
    points = view.points("stall")
    metrics = ["worst_delay_ms", "stood_still_s", "dropped_after_s", "rss_growth_mib"]
    tables = by_server(points, metrics, "{others} others, {rate:,} lines per second")
    for point, table in zip(points, tables, strict=True):
        for row, cell in zip(table.rows, point.cells.values(), strict=True):
            end = end_of_delay(cell)
            if end is not End.NO_DELAY:
                row[1] = f"{row[1].splitlines()[0]}\n{end.value}"
            # These explain the first number; nobody is better for them.
            row[2:4] = [text.partition("\n")[0] for text in row[2:4]]
        table.marks.difference_update([mark for mark in table.marks if mark[1] in (2, 3)])
    return tables


def picture(view: View) -> Picture:
    panels = []
    for point in view.points("stall"):
        for series, metric in (
            ("worst_delay_ms", "worst_delay_ms"),
            ("deliveries_per_s", "deliveries_per_s"),
            ("rss_mib", "rss_growth_mib"),
        ):
            lines = series_lines(point, series, growth=series == "rss_mib")
            since = "seconds since one client stopped reading"
            panels.append(Panel(since, label(metric), lines))
    return Picture("stall", "One client stops reading", panels)


EXPERIMENT = Experiment(
    name="stall",
    title="Stall: one client stops reading",
    question="What do the others see when one client stops reading?",
    kinds=("ours", "tutorial", "theirs"),
    sizes=sizes(before=(0.1, 0.2, 0.5), after=(0.2, 1.4, 2.5), rate=(100, 4000, 4000)),
    points=lambda parameters: [{"others": OTHERS, "rate": parameters["rate"]}],
    # The one that stops reading and the talker are connected, too.
    clients_needed=lambda point: point["others"] + 2,
    drive=drive,
    tables=tables,
    picture=picture,
    seconds=lambda point, parameters: parameters["before"] + parameters["after"],
)
