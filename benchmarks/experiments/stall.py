"""Question: one client stops reading. What do the others see, and what does it cost the server?

Method: chat: one client says lines at random moments of a fixed rate to ten readers and one more,
which stops reading after a while (its receive buffer was made small, so that the effect shows
within the measurement). Echo: ten clients talk to themselves at the same rate together, and the
eleventh, which stops reading, goes on writing, or nothing would ever wait for it. Delay of each
line from its due time to the last reader, and server memory. At the end of the window the stuck
client is closed, so that a server that waits for it goes on then.

Expect: in v1 and v2 the others to notice nothing. In v3 and v4 the room to stand still once, for no
longer than the stall timeout (1 s), until the server drops the client; then it catches up, and
nothing is lost. The server's memory to grow by little more than one client's outbox (256 KiB). The
tutorials' server to stand still until the stuck client is gone.
"""

import contextlib
import itertools
import re
from dataclasses import replace

from benchmarks.arithmetic.metrics import label, with_unit
from benchmarks.arithmetic.results import View
from benchmarks.load.connections import Load, Lost
from benchmarks.load.paced import Paced
from benchmarks.showing.pictures import Panel, Picture, series_lines
from benchmarks.showing.tables import Table, by_server

TITLE = "Stall: one client stops reading"
QUESTION = "What do the others see when one client stops reading?"
PROFILES = ("echo", "chat")
KINDS = ("ours", "tutorial", "theirs")
SERIES = ("t_s", "deliveries_per_s", "worst_delay_ms", "rss_mib")
OTHERS = 10
LINE_BYTES = 1000
BIN_SECONDS = 0.1
TICK_SECONDS = 0.02
SHORT_MS = 200  # a delay below this is none that a stuck client has caused
SIZES = {
    "smoke": {"before": 0.1, "after": 0.2, "rate": 100},
    "quick": {"before": 0.2, "after": 1.4, "rate": 4000},
    "full": {"before": 0.5, "after": 2.5, "rate": 4000},
}


def points(parameters: dict) -> list[dict]:
    """One point."""
    return [{"others": OTHERS, "rate": parameters["rate"]}]


def clients_needed(point: dict) -> int:
    """How many connections a point opens: the one that stops reading and the talker, too."""
    return point["others"] + 2


def seconds(point: dict, parameters: dict) -> float:
    """How long the load of one trial takes."""
    return parameters["before"] + parameters["after"]


class Staller:
    """The client that stops reading, and what is seen of the server from then on."""

    def __init__(self, load: Load, client: int, stops_at: float, leaves_at: float) -> None:
        self.load = load
        self.client = client
        self.connection = load.sockets[client]
        self.stops_at, self.leaves_at = stops_at, leaves_at
        self.stopped_at = self.left_at = 0.0
        self.dropped_at = 0.0  # in the echo profile: when it could not write any more
        self.resident: list[tuple[float, float]] = []

    def on_tick(self, seconds: float) -> None:
        """Look at the memory; stop reading, write on, and leave, each at its time."""
        self.resident.append((seconds, self.load.probe.rss_bytes() / 2**20))
        if not self.stopped_at and seconds >= self.stops_at:
            self.load.poller.unregister(self.client)
            self.stopped_at = seconds
        if self.stopped_at and self.load.profile == "echo" and not self.over:
            self.write_on(seconds)
        if not self.left_at and seconds >= self.leaves_at:
            self.left_at = seconds
            self.connection.close()

    @property
    def over(self) -> bool:
        """Whether its connection has come to its end, by the server or by itself."""
        return bool(self.dropped_at or self.left_at)

    def write_on(self, seconds: float) -> None:
        """Write what the server takes, and find out whether it has been dropped."""
        try:
            with contextlib.suppress(BlockingIOError):  # full: that is what we wanted
                while True:
                    self.connection.send((b"x" * (LINE_BYTES - 1) + b"\n") * 50)
        except OSError:
            self.dropped_at = seconds

    def growth_mib(self) -> float:
        """By how much the server's memory grew at most."""
        calm = [memory for seconds, memory in self.resident if seconds < self.stops_at]
        return max(memory for _, memory in self.resident) - max(calm)


def drive(load: Load, point: dict, parameters: dict, seed: int) -> dict:
    """One trial, in the load generator's process."""
    chat = load.profile == "chat"
    before, after = parameters["before"], parameters["after"]
    (stuck,) = load.connect(1, receive_bytes=4096)
    others = load.connect(point["others"])
    talkers = load.connect(1) if chat else others
    clients = [stuck, *others, *(talkers if chat else [])]
    names = dict(zip(clients, load.join(clients), strict=True))
    staller = Staller(load, stuck, before, before + after)
    paced = Paced(
        load,
        talkers,
        names=[names[fd] for fd in talkers],
        receivers=others if chat else None,
        line_bytes=LINE_BYTES,
        rate=point["rate"],
        warmup=before,
        seconds=after,
        seed=seed,
        notice=re.compile(rb"\* %s left\n" % names[stuck].encode()),
        on_tick=staller.on_tick,
        tick_seconds=TICK_SECONDS,
        keeps=False,
    )
    outcome = paced.run(aside={fd: load.receive for fd in (stuck, *(talkers if chat else ()))})
    if paced.notices > len(others):
        raise Lost(f"{len(others)} readers were told {paced.notices} times that one had left")
    metrics = outcome["metrics"]
    dropped_at = paced.noticed_at if chat else staller.dropped_at
    if dropped_at and not 0 < staller.left_at <= dropped_at:
        metrics["dropped_after_s"] = dropped_at - staller.stopped_at
    metrics["rss_growth_mib"] = staller.growth_mib()
    metrics["worst_delay_ms"] = metrics["max_ms"]
    arrivals = itertools.pairwise(sorted(paced.last_at))
    metrics["stood_still_s"] = max(later - earlier for earlier, later in arrivals) / 1e9
    return outcome | {"series": series(paced, staller.resident, before, after)}


def series(
    paced: Paced, resident: list[tuple[float, float]], before: float, after: float
) -> dict[str, list[float | None]]:
    """What happened in each tenth of a second; a line's delay stands where it was due."""
    bins = round((before + after) / BIN_SECONDS)
    delivered = [0] * bins
    worst: list[float | None] = [None] * bins
    memory: list[float | None] = [None] * bins
    for message, due in enumerate(paced.due):
        arrived_in = int((paced.last_at[message] - paced.start) / 1e9 / BIN_SECONDS)
        due_in = min(bins - 1, int(due / 1e9 / BIN_SECONDS))
        if arrived_in < bins:  # the others came after the schedule's end
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


def tables(view: View) -> list[Table]:
    """The longest delay, the drop and the memory."""
    found = []
    for point in view.points("stall"):
        metrics = ["worst_delay_ms", "stood_still_s", "dropped_after_s", "rss_growth_mib"]
        title = f"{point['others']} others, {point['rate']:,} lines per second"
        table = by_server(view, "stall", point, metrics, title=title)
        for row, entry in zip(table.rows, view.servers("stall"), strict=True):
            if reason := why_so_long(view, point, entry["id"]):
                row[1] = f"{row[1].splitlines()[0]}\n{reason}"
            # These explain the first number; they are nobody's merit.
            row[2:4] = [text.partition("\n")[0] for text in row[2:4]]
        marks = {(row, column) for row, column in table.marks if column not in (2, 3)}
        found.append(replace(table, marks=marks))
    return found


def why_so_long(view: View, point: dict, server: str) -> str:
    """What ended a delay that the stuck client has caused; nothing if it has caused none."""
    cell = view.cell("stall", point, server)
    if not (cell and cell.ranks("worst_delay_ms") and cell.median("worst_delay_ms") > SHORT_MS):
        return ""
    return "the stall timeout" if cell.median("dropped_after_s") else "until it left"


def picture(view: View) -> Picture:
    """Delay, deliveries and growth of memory through time."""
    panels = []
    for point in view.points("stall"):
        since = "seconds since one client stopped reading"
        for name, y_label, growth in (
            ("worst_delay_ms", label("worst_delay_ms"), False),
            ("deliveries_per_s", label("deliveries_per_s"), False),
            ("rss_mib", label("rss_growth_mib"), True),
        ):
            lines = series_lines(view, "stall", point, name, growth=growth)
            panels.append(Panel(since, y_label, lines))
    return Picture("stall", "One client stops reading", panels)


def sentence(view: View) -> str:
    """How long the others waited: not at all, for the timeout, or until it left."""
    found: dict[str, list[str]] = {}
    for point in view.points("stall"):
        for entry in view.servers("stall"):
            cell = view.cell("stall", point, entry["id"])
            if cell and cell.ranks("worst_delay_ms"):
                reason = why_so_long(view, point, entry["id"])
                delay = with_unit("worst_delay_ms", cell.median("worst_delay_ms"))
                found.setdefault(reason, []).append(f"{entry['label']} ({delay})")
    phrases = {
        "": "notice nothing with",
        "the stall timeout": "wait for the configured timeout of 1 s, once, with",
        "until it left": "wait until it leaves with",
    }
    parts = [
        f"{phrases[reason]} {' and '.join(found[reason])}" for reason in phrases if reason in found
    ]
    return f"When one client stops reading, the others {'; they '.join(parts)}." if parts else ""
