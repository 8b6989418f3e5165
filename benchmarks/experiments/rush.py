"""Question: everybody comes at once. How long does it take, and what do those feel who are in?

Method: ten members send `/ping` at random moments of a fixed rate. Then 900 others connect, as
fast as the generator can and without waiting for each other. Time until half of them and until the
last one has its greeting, server CPU time per newcomer, and the members' latency meanwhile.

Expect: loops accept many in a turn and are done soon, a thread per client costs more. With a short
backlog (asyncio's default is 100, and tutorials leave it at that) some attempts to connect are
lost, and made again a second later. Worse: where Linux answers them with SYN cookies, some clients
believe they are connected and wait for a greeting, and the server has never heard of them.
"""

import re
from dataclasses import replace

from benchmarks.experiments.experiment import Experiment, Parameters, Point, sizes
from benchmarks.load.connections import Load, Lost, Refused, monotonic_ns, shown
from benchmarks.load.paced import Paced, Schedule, Traffic
from benchmarks.result.figure import Panel, Picture, bars_of
from benchmarks.result.metrics import PERCENTILES
from benchmarks.result.statistics import percentile
from benchmarks.result.status import Outcome
from benchmarks.result.table import Table, by_server
from benchmarks.result.view import View

CPU_PER = "newcomer"
RATE = 500  # of the members' requests
AT_A_TIME = 20  # connections that are opened before the members are looked after again
TICK_SECONDS = 0.0005
SILENCE_SECONDS = 2.2  # attempts to connect are repeated after 1 s, then after 2 s at most
LATE_NS = 5_000_000  # the generator is busy with the newcomers, too
GREETING = re.compile(rb"\* \S+: enter your name\n")
FULL = b"! server full\n"


class Rush:
    """The newcomers, and when each was greeted."""

    def __init__(self, load: Load, clients: int, begins_at: float) -> None:
        self.load = load
        self.begins_at = begins_at
        self.to_come = clients
        self.began = 0
        # What each newcomer has received of its greeting.
        self.waiting: dict[int, bytes] = {}
        self.greeted_at: list[int] = []
        self.full = False

    def on_tick(self, seconds: float) -> None:
        if seconds < self.begins_at:
            return
        self.began = self.began or monotonic_ns()
        for _ in range(min(AT_A_TIME, self.to_come)):
            fd = self.load.open(wait=False)
            self.waiting[fd] = b""
            self.load.aside[fd] = self.on_greeting
            self.to_come -= 1

    def on_greeting(self, fd: int) -> None:
        """Check what came to a newcomer: one greeting, and nothing else."""
        beginning = self.waiting.pop(fd, None)
        received = bytes(self.load.view[: self.load.receive(fd)])
        if beginning is None:
            raise Lost(f"{shown(received)} came to a newcomer that had been greeted")
        received = beginning + received
        if received.startswith(FULL):
            self.full = True
            self.load.close(fd)
        elif GREETING.fullmatch(received):
            self.greeted_at.append(monotonic_ns())
            self.load.greeted += 1
        elif b"\n" in received:
            raise Lost(f"a newcomer was greeted with {shown(received)}")
        else:
            self.waiting[fd] = received

    def finish(self, members: list[int]) -> None:
        """Wait until all have been greeted, and see that nothing comes after it."""
        while self.to_come:
            self.on_tick(self.begins_at)
        while self.waiting:
            ready = self.load.poller.poll(SILENCE_SECONDS)
            if not ready:
                never = len(self.waiting)
                self.load.give_up(members[0], f"{never} of the newcomers were never greeted")
            for fd, _ in ready:
                self.on_greeting(fd)
        if self.full:
            raise Refused(self.load.greeted)
        self.load.settle(members)

    def greeting_ms(self, share: float) -> float:
        """How long it took until that share of them had been greeted."""
        return (percentile(self.greeted_at, share) - self.began) / 1e6


def drive(load: Load, point: Point, parameters: Parameters, seed: int) -> Outcome:
    members = load.connect(point["members"])
    load.join(members)
    rush = Rush(load, point["clients"], parameters["warmup"])
    paced = Paced(
        load,
        Traffic.pings(members),
        Schedule(RATE, parameters["warmup"], parameters["seconds"], seed),
        on_tick=rush.on_tick,
        tick_seconds=TICK_SECONDS,
        keeps=False,
        late_ns=LATE_NS,
    )
    outcome = paced.run()
    rush.finish(members)
    # The window is closed once more, now that all are in.
    load.close_window()
    meanwhile = [
        paced.delay_ms(message)
        for message in range(paced.first, paced.total)
        if rush.began <= paced.start + paced.due[message] <= rush.greeted_at[-1]
    ]
    metrics = outcome.metrics | load.metrics
    # These are of the whole window. While the newcomers come there are too few requests for them.
    for name in PERCENTILES:
        metrics.pop(name, None)
    delays = sorted(meanwhile) or [metrics["max_ms"]]
    metrics |= {
        "last_greeting_ms": rush.greeting_ms(1.0),
        "median_greeting_ms": rush.greeting_ms(0.5),
        "max_ms": delays[-1],
        "server_cpu_us": load.server_ns / 1e3 / point["clients"],
    }
    return replace(outcome, metrics=metrics)


def tables(view: View) -> list[Table]:
    metrics = ["last_greeting_ms", "median_greeting_ms", "server_cpu_us", "max_ms"]
    title = "{clients} come at once; latency is that of {members} members"
    return by_server(view.points("rush"), metrics, title, CPU_PER)


def picture(view: View) -> Picture:
    panels = []
    for point in view.points("rush"):
        for metric, x_label in (
            ("last_greeting_ms", f"ms until the last of {point['clients']} is greeted"),
            ("max_ms", "longest wait of a member meanwhile, ms"),
        ):
            panels.append(Panel(x_label, bars=bars_of(point, {metric: ""})))
    return Picture("rush", "Everybody comes at once", panels, columns=2)


EXPERIMENT = Experiment(
    name="rush",
    title="Rush: everybody comes at once",
    question="How long does it take to let 900 in, and what do those feel who are in already?",
    sizes=sizes(
        seconds=(0.1, 0.3, 0.6),
        warmup=(0.02, 0.1, 0.2),
        clients=([50], [900], [900]),
        members=(2, 10, 10),
    ),
    points=lambda parameters: [
        {"clients": clients, "members": parameters["members"]} for clients in parameters["clients"]
    ],
    clients_needed=lambda point: point["clients"] + point["members"],
    drive=drive,
    tables=tables,
    picture=picture,
    # small.py and the tutorial server have a short backlog: the kernel turns some of the newcomers
    # away, and they try again seconds later.
    kinds=("ours", "floor", "theirs"),
    cpu_per=CPU_PER,
)
