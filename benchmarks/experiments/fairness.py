"""Question: some send as much as they can. What is left for a client that seldom asks?

Method: twenty flooders keep more `/ping` lines under way than a server reads in a turn, and read
every answer. One quiet client asks at random moments of a low rate. Its latency from the due time,
and how many lines the flooders get through. The server is saturated, so the limits of a closed loop
count.

Expect: where a turn of each client is bounded (F7) the quiet one waits for one turn of each
flooder. In a loop that is twenty times what a turn takes; with threads it is as long as it takes to
get the interpreter's lock, behind twenty others that want it, too.
"""

from benchmarks.experiments.experiment import Experiment, Parameters, Point, sizes
from benchmarks.load.connections import WRITABLE, Load, Lost, monotonic_ns
from benchmarks.load.paced import Paced, Schedule, Traffic
from benchmarks.load.saturated import difference, judged, numbered_pings
from benchmarks.result.figure import Panel, Picture, bars_of
from benchmarks.result.status import Outcome
from benchmarks.result.table import Table, by_server
from benchmarks.result.view import View

RATE = 200  # of the quiet client
LINES = 1024  # in each send of a flooder: some 24 KiB, where a server reads 16 KiB in a turn


class Flooders:
    """Clients that always have another send under way, and check every answer."""

    def __init__(self, load: Load, clients: list[int], seed: int) -> None:
        self.load = load
        pairs = numbered_pings(seed)[:LINES]
        self.requests = b"".join(request for request, _ in pairs)
        self.line_bytes = len(pairs[0][1])
        self.period = self.line_bytes * LINES
        # What each gets again and again: of two sends under way, a comparison may reach a third.
        self.expected = b"".join(answer for _, answer in pairs) * 3
        # Bytes of answers: to what each has sent, and those that have come.
        self.owed = dict.fromkeys(clients, 0)
        self.seen = dict.fromkeys(clients, 0)
        self.flooding = True

    def begin(self) -> None:
        for fd in [*self.owed, *self.owed]:
            self.send(fd)

    def send(self, fd: int) -> None:
        self.owed[fd] += self.period
        self.load.send(fd, self.requests)

    def on_readable(self, fd: int) -> None:
        """Check what came, and send again when a whole send has been answered."""
        count, at = self.load.receive(fd), self.seen[fd]
        answers = self.load.view[:count]
        if at + count > self.owed[fd] or not self.expected.startswith(answers, at % self.period):
            raise Lost(difference(answers, self.expected, at % self.period, self.line_bytes))
        self.seen[fd] = at + count
        if self.flooding and self.owed[fd] - self.seen[fd] <= self.period:
            self.send(fd)

    def finish(self) -> None:
        self.flooding = False
        while self.seen != self.owed:
            for fd, events in self.load.wait():
                if events & WRITABLE:
                    self.load.on_writable(fd)
                if events & ~WRITABLE:
                    self.on_readable(fd)
        self.load.expect_nothing_more(self.owed)

    def answered(self) -> int:
        return sum(self.seen.values()) // self.line_bytes


def drive(load: Load, point: Point, parameters: Parameters, seed: int) -> Outcome:
    quiet, *clients = load.connect(1 + point["flooders"])
    load.join([quiet, *clients])
    flooders = Flooders(load, clients, seed)
    warmup, window = parameters["warmup"], parameters["seconds"]
    # When the window began and ended, and the lines that had been answered by then.
    marks: list[tuple[int, int]] = []

    def on_tick(seconds: float) -> None:
        if seconds >= (warmup, warmup + window, float("inf"))[len(marks)]:
            marks.append((monotonic_ns(), flooders.answered()))
        flooders.flooding = seconds < warmup + window

    paced = Paced(
        load,
        Traffic.pings([quiet]),
        Schedule(point["rate"], warmup, window, seed),
        on_tick=on_tick,
        tick_seconds=0.01,
        keeps=False,
    )
    flooders.begin()
    outcome = paced.run(aside=dict.fromkeys(clients, flooders.on_readable))
    # It is the end of the window if the last answer came before a tick could mark it.
    marks.append((monotonic_ns(), flooders.answered()))
    load.aside = {}
    flooders.finish()
    (opened, before), (closed, after) = marks[:2]
    lines_per_s = (after - before) / (closed - opened) * 1e9
    return judged(outcome.metrics | {"lines_per_s": lines_per_s})


def tables(view: View) -> list[Table]:
    metrics = ["p50_ms", "p90_ms", "max_ms", "lines_per_s"]
    title = "One quiet client ({rate}/s) beside {flooders} flooders"
    return by_server(view.points("fairness"), metrics, title)


def picture(view: View) -> Picture:
    panels = [
        Panel(f"latency {share} of the quiet client, ms", bars=bars_of(point, {f"{share}_ms": ""}))
        for point in view.points("fairness")
        for share in ("p50", "p90")
    ]
    return Picture("fairness", "One quiet client beside twenty flooders", panels, columns=2)


EXPERIMENT = Experiment(
    name="fairness",
    title="Fairness: twenty flooders and one quiet client",
    question="How long does a quiet client wait beside twenty that send as much as they can?",
    kinds=("ours", "tutorial", "theirs"),
    sizes=sizes(seconds=(0.2, 0.7, 3.0), warmup=(0.05, 0.1, 0.5), flooders=([3], [20], [20])),
    points=lambda parameters: [
        {"flooders": flooders, "rate": RATE} for flooders in parameters["flooders"]
    ],
    clients_needed=lambda point: point["flooders"] + 1,
    drive=drive,
    tables=tables,
    picture=picture,
)
