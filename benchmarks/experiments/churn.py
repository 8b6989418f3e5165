"""Question: what does it cost to come and go?

Method: a session connects, sends a name and `/quit` together, reads to the end of input, and is
checked: greeting, hello and bye, once each. Paced: sessions begin at random moments of a fixed
rate; server CPU time per session, duration from the due time. Saturated: ten sessions at a time,
each followed by another at once; capacity.

Expect: a thread that has to be started and ended for every session, and a task with its transport
that has to be made and taken apart, cost more than an entry in the tables of a select() loop.
"""

import re
from dataclasses import dataclass

from benchmarks.experiments.experiment import Experiment, Parameters, Point, sizes
from benchmarks.load import paced, saturated
from benchmarks.load.connections import Broken, Load, Lost, monotonic_ns, shown
from benchmarks.result.figure import Panel, Picture, bars_of
from benchmarks.result.metrics import label, percentiles
from benchmarks.result.status import Outcome
from benchmarks.result.table import Table, by_server
from benchmarks.result.view import View

CPU_PER = "session"
NEVER = 1 << 63  # ns
GREETING = re.compile(rb"\* \S+: enter your name")
OF_OTHERS = re.compile(rb"\* n\d{7} (joined|left)")


@dataclass
class Session:
    """One client from connect to close."""

    name: bytes
    began: int
    received: bytes = b""

    def check(self) -> None:
        """Raise Lost if it was not what it has to be, apart from what is said of others."""
        lines = self.received.split(b"\n")
        own = [line for line in lines if self.name in line or not OF_OTHERS.fullmatch(line)]
        expected = [b"* hello " + self.name, b"* bye " + self.name, b""]
        if not GREETING.fullmatch(own[0]) or own[1:] != expected:
            raise Lost(f"the session of {self.name.decode()} got {shown(self.received)}")


class Sessions:
    """The sessions under way, and how long the finished ones took."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.wait = paced.wait_function(load.poller)
        self.started = 0
        self.under_way: dict[int, Session] = {}
        # When each began, or was due, and when it ended.
        self.ended: list[tuple[int, int]] = []

    def begin(self, due: int = 0) -> None:
        self.started += 1
        session = Session(b"n%07d" % self.started, due or monotonic_ns())
        fd = self.load.open()
        self.under_way[fd] = session
        self.load.send(fd, session.name + b"\n/quit\n")

    def turn(self, until: int) -> int:
        """Read what is there, or wait for it until then; returns how many sessions ended."""
        before = len(self.ended)
        ready = self.load.poller.poll(0)
        if not ready:
            self.wait(max(0, until - monotonic_ns()) / 1e9)
        for fd, _ in ready:
            count = self.load.sockets[fd].recv_into(self.load.buffer)
            session = self.under_way[fd]
            session.received += self.load.view[:count]
            if count == 0:
                self.ended.append((session.began, monotonic_ns()))
                self.load.close(fd)
                self.under_way.pop(fd).check()
        return len(self.ended) - before

    def finish(self) -> None:
        until = monotonic_ns() + int(self.load.patience * 1e9)
        while self.under_way and monotonic_ns() < until:
            self.turn(until)
        for session in self.under_way.values():
            raise Lost(
                f"{len(self.under_way)} sessions never came to an end;"
                f" that of {session.name.decode()} got {shown(session.received)}"
            )


def drive(load: Load, point: Point, parameters: Parameters, seed: int) -> Outcome:
    sessions = Sessions(load)
    if point["mode"] == "paced":
        return drive_paced(sessions, point["rate"], parameters, seed)
    for _ in range(point["concurrent"]):
        sessions.begin()
    for phase_seconds in (parameters["warmup"], parameters["seconds"]):
        load.open_window()
        before = len(sessions.ended)
        until = monotonic_ns() + int(phase_seconds * 1e9)
        while monotonic_ns() < until:
            for _ in range(sessions.turn(until)):
                sessions.begin()
    load.close_window()
    measured = sessions.ended[before:]
    sessions.finish()
    metrics = metrics_of(load, measured) | {"sessions_per_s": len(measured) / load.seconds}
    return saturated.judged(metrics)


def drive_paced(sessions: Sessions, rate: float, parameters: Parameters, seed: int) -> Outcome:
    """Sessions that begin at random moments."""
    load, warmup = sessions.load, parameters["warmup"]
    arrivals = paced.arrivals(rate, warmup + parameters["seconds"], seed)
    start = monotonic_ns()
    opens = start + int(warmup * 1e9)
    closes = start + int((warmup + parameters["seconds"]) * 1e9)
    due = [*(start + at for at in arrivals), NEVER]
    late = following = 0
    is_open = False
    # Sessions that were due while we stood still are begun late, not left out.
    while (now := monotonic_ns()) < closes or following < len(arrivals):
        if not is_open and now >= opens:
            load.open_window()
            is_open = True
            late = 0
        while due[following] <= now:
            late += now - due[following] > paced.LATE_NS
            sessions.begin(due[following])
            following += 1
        sessions.turn(min(due[following], closes if is_open else opens))
    load.note_client_share()
    sessions.finish()
    load.close_window()
    measured = [(began, ended) for began, ended in sessions.ended if began >= opens]
    owing = sum(ended > closes + paced.GRACE_NS for _, ended in measured)
    metrics = metrics_of(load, measured)
    metrics["on_time_share"] = 1 - late / len(measured)
    metrics["kept_share"] = 1 - owing / len(measured)
    return paced.judged(metrics)


def metrics_of(load: Load, measured: list[tuple[int, int]]) -> dict[str, float]:
    """What the sessions of the window took."""
    if not measured:
        raise Broken("no session came to its end while it was measured")
    durations = sorted((ended - began) / 1e6 for began, ended in measured)
    return load.metrics | {
        "messages": len(measured),
        "server_cpu_us": load.server_ns / 1e3 / len(measured),
        **percentiles(durations),
    }


def tables(view: View) -> list[Table]:
    paced, saturated = view.points("churn", mode="paced"), view.points("churn", mode="saturated")
    latency, rate = ["server_cpu_us", "p50_ms", "p90_ms"], ["server_cpu_us", "sessions_per_s"]
    title = "Saturated: {concurrent} sessions at a time, each followed by another"
    return [
        *by_server(paced, latency, "Sessions at {rate:,} per second", CPU_PER),
        *by_server(saturated, rate, title, CPU_PER),
    ]


def picture(view: View) -> Picture:
    panels = []
    for point in view.points("churn"):
        load = f"at {point['rate']:,} per second" if "rate" in point else "at saturation"
        bars = bars_of(point, {"server_cpu_us": ""})
        panels.append(Panel(f"{label('server_cpu_us', CPU_PER)}, {load}", bars=bars))
    return Picture("churn", "What it costs to come and go", panels, columns=2)


EXPERIMENT = Experiment(
    name="churn",
    title="Churn: clients that come and go",
    question="What does a whole session cost, from connect to close?",
    kinds=("ours", "floor", "small", "theirs"),
    sizes=sizes(
        seconds=(0.06, 0.4, 1.0),
        warmup=(0.01, 0.1, 0.2),
        rates=([500], [500], [500]),
        concurrent=([2], [], [10]),
    ),
    points=lambda parameters: [
        *({"mode": "paced", "rate": rate} for rate in parameters["rates"]),
        *({"mode": "saturated", "concurrent": count} for count in parameters["concurrent"]),
    ],
    clients_needed=lambda point: point.get("concurrent", 10),
    drive=drive,
    tables=tables,
    picture=picture,
    cpu_per=CPU_PER,
)
