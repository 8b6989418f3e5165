"""Question: some send as much as they can. What is left for one who seldom asks?

Method: twenty flooders keep more `/ping` lines under way than a server reads in a turn, and read
every answer. One quiet client asks at random moments of a low rate; its latency from the due time
(the generator, which serves the flooders, too, may be a millisecond late), and how many lines the
flooders get through. The server is saturated, so the limits of a closed loop are what counts.

Expect: where a turn of each client is bounded (F7) the quiet one waits for one turn of each
flooder. In a loop that is twenty times what a turn takes; with threads it is as long as it takes to
get the interpreter's lock, behind twenty others that want it, too.
"""

from benchmarks.arithmetic.results import View
from benchmarks.arithmetic.wording import best_and_worst
from benchmarks.load.connections import WRITABLE, Load, Lost, monotonic_ns
from benchmarks.load.paced import Paced
from benchmarks.load.saturated import limit, numbered_pings, unlike
from benchmarks.showing.pictures import Panel, Picture, bars_of
from benchmarks.showing.tables import Table, by_server

TITLE = "Fairness: twenty flooders and one quiet client"
QUESTION = "How long does a quiet client wait beside twenty that send as much as they can?"
PROFILES = ("echo", "chat")
KINDS = ("ours", "tutorial", "theirs")
RATE = 200  # of the quiet client
LINES = 1024  # in a send of a flooder: some 24 KiB, where a server reads 16 KiB in a turn
SIZES = {
    "smoke": {"seconds": 0.2, "warmup": 0.05, "flooders": [3]},
    "quick": {"seconds": 0.5, "warmup": 0.1, "flooders": [20]},
    "full": {"seconds": 3.0, "warmup": 0.5, "flooders": [20]},
}


def points(parameters: dict) -> list[dict]:
    """How many flood."""
    return [{"flooders": flooders, "rate": RATE} for flooders in parameters["flooders"]]


def clients_needed(point: dict) -> int:
    """How many connections a point opens."""
    return point["flooders"] + 1


def seconds(point: dict, parameters: dict) -> float:
    """How long the load of one trial takes."""
    return parameters["warmup"] + parameters["seconds"]


class Flooders:
    """Clients that always have another send under way, and check every answer."""

    def __init__(self, load: Load, clients: list[int], seed: int) -> None:
        self.load = load
        pairs = numbered_pings(seed)[:LINES]
        self.requests = b"".join(request for request, _ in pairs)
        self.line_bytes = len(pairs[0][1])
        self.period = self.line_bytes * LINES
        # What each gets again and again; two sends are under way, so a comparison may begin
        # anywhere in the first and reach to the end of the third.
        self.expected = b"".join(answer for _, answer in pairs) * 3
        self.asked = dict.fromkeys(clients, 0)  # bytes of answers to what was sent
        self.seen = dict.fromkeys(clients, 0)
        self.flooding = True
        self.aside = {fd: self.on_readable for fd in clients}

    def begin(self) -> None:
        """Everybody sends twice."""
        for fd in [*self.asked, *self.asked]:
            self.send(fd)

    def send(self, fd: int) -> None:
        self.asked[fd] += self.period
        self.load.send(fd, self.requests)

    def on_readable(self, fd: int) -> None:
        """Check what came, and send again when a whole send has been answered."""
        count, at = self.load.receive(fd), self.seen[fd]
        came = self.load.view[:count]
        if at + count > self.asked[fd] or not self.expected.startswith(came, at % self.period):
            start = (at - at % self.line_bytes) % self.period
            came = self.expected[start : start + at % self.line_bytes] + came
            raise Lost(unlike(came, self.expected[start:], self.line_bytes))
        self.seen[fd] = at + count
        if self.flooding and self.asked[fd] - self.seen[fd] <= self.period:
            self.send(fd)

    def finish(self) -> None:
        """Wait for all that is owed."""
        self.flooding = False
        while any(self.seen[fd] < asked for fd, asked in self.asked.items()):
            for fd, events in self.load.wait():
                if events & WRITABLE:
                    self.load.on_writable(fd)
                if events & ~WRITABLE:
                    self.on_readable(fd)
        self.load.expect_nothing_more(self.asked)

    def answered(self) -> int:
        """Lines so far."""
        return sum(self.seen.values()) // self.line_bytes


def drive(load: Load, point: dict, parameters: dict, seed: int) -> dict:
    """One trial, in the load generator's process."""
    quiet, *clients = load.connect(1 + point["flooders"])
    load.join([quiet, *clients])
    flooders = Flooders(load, clients, seed)
    ends = parameters["warmup"] + parameters["seconds"]
    marks: list[tuple[int, int]] = []  # when the window began and ended, and lines by then

    def on_tick(seconds: float) -> None:
        if seconds >= (parameters["warmup"], ends, float("inf"))[len(marks)]:
            marks.append((monotonic_ns(), flooders.answered()))
        flooders.flooding = seconds < ends

    paced = Paced(
        load,
        [quiet],
        rate=point["rate"],
        warmup=parameters["warmup"],
        seconds=parameters["seconds"],
        seed=seed,
        on_tick=on_tick,
        tick_seconds=0.01,
        keeps=False,
    )
    flooders.begin()
    outcome = paced.run(aside=flooders.aside)
    marks.append((monotonic_ns(), flooders.answered()))  # unless the last answer came so late
    load.aside = {}
    flooders.finish()
    (opened, before), (closed, after) = marks[:2]
    metrics = outcome["metrics"] | {"lines_per_s": (after - before) / (closed - opened) * 1e9}
    return {"metrics": metrics, **limit(metrics)}


def tables(view: View) -> list[Table]:
    """What the quiet one waits, and what the others get through."""
    found = []
    for point in view.points("fairness"):
        metrics = ["p50_ms", "p90_ms", "p99_ms", "max_ms", "lines_per_s"]
        title = f"One quiet client ({point['rate']}/s) beside {point['flooders']} flooders"
        found.append(by_server(view, "fairness", point, metrics, title=title))
    return found


def picture(view: View) -> Picture:
    """The quiet one's median and p99."""
    panels = [
        Panel(
            f"latency {name} of the quiet client, ms", bars=bars_of(view, "fairness", point, bars)
        )
        for point in view.points("fairness")
        for name, bars in (("p50", {"p50_ms": ""}), ("p99", {"p99_ms": ""}))
    ]
    return Picture("fairness", "One quiet client beside twenty flooders", panels, columns=2)


def sentence(view: View) -> str:
    """Whose quiet client waits least, and whose most."""
    for point in view.points("fairness"):
        if waits := best_and_worst(view, "fairness", point, "p50_ms"):
            return (
                f"Beside {point['flooders']} flooders a quiet client waits, at the median, {waits}."
            )
    return ""
