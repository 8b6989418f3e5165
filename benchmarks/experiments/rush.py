"""Question: everybody comes at once. How long does it take, and what do those feel who are in?

Method: ten members send `/ping` at random moments of a fixed rate. Then 900 others connect, as
fast as the generator can (it needs some 40 ms for that) and without waiting for each other. Time
until half of them and until the last one has its greeting, server CPU time per newcomer, and the
members' latency while that lasts.

Expect: loops to accept many in a turn and to be done soon, a thread per client to cost more. With a
short backlog (asyncio's default is 100, and tutorials leave it at that) some attempts to connect
are lost. They are made again a second later. Worse: where Linux answers them with SYN cookies, some
clients believe to be connected, wait for the greeting, and the server has never heard of them.
"""

import re

from benchmarks.arithmetic.results import View
from benchmarks.arithmetic.statistics import percentile
from benchmarks.arithmetic.wording import best_and_worst
from benchmarks.load.connections import Load, Lost, Refused, monotonic_ns, shown
from benchmarks.load.paced import Paced
from benchmarks.showing.pictures import Panel, Picture, bars_of
from benchmarks.showing.tables import Table, by_server

TITLE = "Rush: everybody comes at once"
QUESTION = "How long does it take to let 900 in, and what do those feel who are in already?"
PROFILES = ("echo", "chat")
KINDS = ("ours", "floor", "tutorial", "theirs")
CPU_PER = "newcomer"
RATE = 500  # of the members' requests
AT_A_TIME = 20  # connections that are opened before the members are looked after again
TICK_SECONDS = 0.0005
SILENCE_SECONDS = 2.2  # attempts to connect are repeated after 1 s, then after 2 s at most
LATE_NS = 5_000_000  # the generator is busy with the newcomers, too
GREETING = re.compile(rb"\* \S+: enter your name\n")
FULL = b"! server full\n"
SIZES = {
    "smoke": {"seconds": 0.1, "warmup": 0.02, "clients": [50], "members": 2},
    "quick": {"seconds": 0.3, "warmup": 0.1, "clients": [900], "members": 10},
    "full": {"seconds": 0.6, "warmup": 0.2, "clients": [900], "members": 10},
}


def points(parameters: dict) -> list[dict]:
    """How many come."""
    members = parameters["members"]
    return [{"clients": clients, "members": members} for clients in parameters["clients"]]


def clients_needed(point: dict) -> int:
    """How many connections a point opens."""
    return point["clients"] + point["members"]


def seconds(point: dict, parameters: dict) -> float:
    """How long the load of one trial takes."""
    return parameters["warmup"] + parameters["seconds"]


class Rush:
    """The newcomers, and when each was greeted."""

    def __init__(self, load: Load, clients: int, begins_at: float) -> None:
        self.load = load
        self.begins_at = begins_at
        self.to_come = clients
        self.began = 0
        self.waiting: dict[int, bytes] = {}  # what each has received of its greeting
        self.greeted_at: list[int] = []
        self.full = False

    def on_tick(self, seconds: float) -> None:
        """Open the next few connections."""
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
        received = self.waiting.pop(fd, None)
        came = self.load.view[: self.load.receive(fd)]
        if received is None:
            raise Lost(f"{shown(came)} came to a newcomer that had been greeted")
        received += came
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


def drive(load: Load, point: dict, parameters: dict, seed: int) -> dict:
    """One trial, in the load generator's process."""
    members = load.connect(point["members"])
    load.join(members)
    rush = Rush(load, point["clients"], parameters["warmup"])
    paced = Paced(
        load,
        members,
        rate=RATE,
        warmup=parameters["warmup"],
        seconds=parameters["seconds"],
        seed=seed,
        on_tick=rush.on_tick,
        tick_seconds=TICK_SECONDS,
        keeps=False,
        late_ns=LATE_NS,
    )
    outcome = paced.run()
    rush.finish(members)
    load.close_window()  # again: now all are in
    meanwhile = [
        paced.delay_ms(message)
        for message in range(paced.first, paced.total)
        if rush.began <= paced.start + paced.due[message] <= rush.greeted_at[-1]
    ]
    metrics = outcome["metrics"] | load.metrics
    for name in ("p90_ms", "p95_ms", "p999_ms"):  # of the whole window: not what is asked here
        metrics.pop(name, None)
    delays = sorted(meanwhile) or [metrics["max_ms"]]
    metrics |= {
        "last_greeting_ms": rush.greeting_ms(1.0),
        "median_greeting_ms": rush.greeting_ms(0.5),
        "p50_ms": percentile(delays, 0.50),
        "p99_ms": percentile(delays, 0.99),
        "max_ms": delays[-1],
        "server_cpu_us": load.server_ns / 1e3 / point["clients"],
    }
    return outcome | {"metrics": metrics}


def tables(view: View) -> list[Table]:
    """How long it took, what it cost, and what the members felt."""
    found = []
    for point in view.points("rush"):
        metrics = ["last_greeting_ms", "median_greeting_ms", "server_cpu_us", "p50_ms", "p99_ms"]
        title = f"{point['clients']} come at once; latency is that of {point['members']} members"
        found.append(by_server(view, "rush", point, metrics, title=title, per=CPU_PER))
    return found


def picture(view: View) -> Picture:
    """The last greeting, and what the members felt."""
    panels = []
    for point in view.points("rush"):
        last = bars_of(view, "rush", point, {"last_greeting_ms": ""})
        felt = bars_of(view, "rush", point, {"p99_ms": ""})
        panels.append(Panel(f"ms until the last of {point['clients']} is greeted", bars=last))
        panels.append(Panel("latency p99 of those who are in, ms", bars=felt))
    return Picture("rush", "Everybody comes at once", panels, columns=2)


def sentence(view: View) -> str:
    """Who greets the last one first, and last; whose members wait."""
    parts = []
    for point in view.points("rush"):
        if times := best_and_worst(view, "rush", point, "last_greeting_ms"):
            parts.append(
                f"Of {point['clients']} who come at once the last is greeted after {times}"
            )
        if times := best_and_worst(view, "rush", point, "p99_ms"):
            parts.append(f"those who are in wait meanwhile, at p99, {times}")
    return f"{'; '.join(parts)}." if parts else ""
