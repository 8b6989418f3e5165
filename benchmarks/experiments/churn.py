"""Question: what does it cost to come and go?

Method: a session connects, sends a name and `/quit`, reads to the end of input, and is checked:
greeting, hello and bye, once each. Name and `/quit` go out together, so that a session is one
exchange. Paced: sessions begin at random moments of a fixed rate; server CPU time per session,
duration from the due time. Saturated: ten slots, each of which begins again at once; capacity.

Expect: a thread that has to be started and ended for every session, and a task with its transport
that has to be made and taken apart, to cost more than an entry in the tables of a select() loop.
"""

import re

from benchmarks.arithmetic.metrics import label
from benchmarks.arithmetic.results import View
from benchmarks.arithmetic.statistics import percentile
from benchmarks.arithmetic.wording import best_and_worst
from benchmarks.load import paced, saturated
from benchmarks.load.connections import Broken, Load, Lost, monotonic_ns, shown
from benchmarks.showing.pictures import Panel, Picture, bars_of
from benchmarks.showing.tables import Table, by_server

TITLE = "Churn: clients that come and go"
QUESTION = "What does a whole session cost, from connect to close?"
PROFILES = ("echo", "chat")
KINDS = ("ours", "floor", "theirs")
CPU_PER = "session"
GREETING = re.compile(rb"\* \S+: enter your name")
OF_OTHERS = re.compile(rb"\* n\d{7} (joined|left)")
SIZES = {
    "smoke": {"seconds": 0.06, "warmup": 0.01, "rates": [500], "concurrent": [2]},
    "quick": {"seconds": 0.4, "warmup": 0.1, "rates": [500], "concurrent": []},
    "full": {"seconds": 1.0, "warmup": 0.2, "rates": [500], "concurrent": [10]},
}


def points(parameters: dict) -> list[dict]:
    """Sessions per second, then sessions under way at a time."""
    return [
        *({"mode": "paced", "rate": rate} for rate in parameters["rates"]),
        *({"mode": "saturated", "concurrent": count} for count in parameters["concurrent"]),
    ]


def clients_needed(point: dict) -> int:
    """How many connections a point has open at a time, about."""
    return point.get("concurrent", 10)


def seconds(point: dict, parameters: dict) -> float:
    """How long the load of one trial takes."""
    return parameters["warmup"] + parameters["seconds"]


class Sessions:
    """The sessions under way, and how long those took that have ended."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.wait = paced.wait_function(load.poller)
        self.started = 0
        self.names: dict[int, bytes] = {}
        self.began: dict[int, int] = {}
        self.received: dict[int, bytes] = {}
        self.ended: list[tuple[int, int]] = []  # when each began or was due, and ended

    def begin(self, due: int = 0) -> None:
        """One more."""
        self.started += 1
        name = b"n%07d" % self.started
        began = due or monotonic_ns()
        fd = self.load.open()
        self.names[fd], self.began[fd], self.received[fd] = name, began, b""
        self.load.send(fd, name + b"\n/quit\n")

    def turn(self, until: int) -> int:
        """Read what has come, or wait for it until then; returns how many sessions ended."""
        before = len(self.ended)
        ready = self.load.poller.poll(0)
        if not ready:
            self.wait(max(0, until - monotonic_ns()) / 1e9)
        for fd, _ in ready:
            count = self.load.sockets[fd].recv_into(self.load.buffer)
            self.received[fd] += self.load.view[:count]
            if count == 0:
                self.ended.append((self.began.pop(fd), monotonic_ns()))
                self.load.close(fd)
                check(self.names.pop(fd), self.received.pop(fd))
        return len(self.ended) - before

    def finish(self) -> None:
        """Wait for the end of those under way."""
        until = monotonic_ns() + int(self.load.patience * 1e9)
        while self.names and monotonic_ns() < until:
            self.turn(until)
        if self.names:
            name, received = next(iter(self.names.values())), next(iter(self.received.values()))
            raise Lost(
                f"{len(self.names)} sessions never came to an end;"
                f" that of {name.decode()} got {shown(received)}"
            )


def check(name: bytes, received: bytes) -> None:
    """Raise Lost if a session was not what it has to be, apart from what is said of others."""
    own = [line for line in received.split(b"\n") if name in line or not OF_OTHERS.fullmatch(line)]
    expected = [b"* hello " + name, b"* bye " + name, b""]
    if not GREETING.fullmatch(own[0]) or own[1:] != expected:
        raise Lost(f"the session of {name.decode()} got {shown(received)}")


def drive(load: Load, point: dict, parameters: dict, seed: int) -> dict:
    """One trial, in the load generator's process."""
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
    return {"metrics": metrics, **saturated.limit(metrics)}


def drive_paced(sessions: Sessions, rate: float, parameters: dict, seed: int) -> dict:
    """Sessions that begin at random moments."""
    load, warmup = sessions.load, parameters["warmup"]
    due = paced.arrivals(rate, warmup + parameters["seconds"], seed)
    start = monotonic_ns()
    opens, closes = (start + int(s * 1e9) for s in (warmup, warmup + parameters["seconds"]))
    late = following = 0
    is_open = False
    while (now := monotonic_ns()) < closes:
        if not is_open and now >= opens:
            load.open_window()
            is_open = True
            late = 0
        while following < len(due) and start + due[following] <= now:
            at = start + due[following]
            late += now - at > paced.LATE_NS
            sessions.begin(at)
            following += 1
        next_due = start + due[following] if following < len(due) else closes
        sessions.turn(min(next_due, closes, closes if is_open else opens))
    load.note_client_share()
    sessions.finish()
    load.close_window()
    measured = [(began, ended) for began, ended in sessions.ended if began >= opens]
    owing = sum(ended > closes + paced.GRACE_NS for _, ended in measured)
    metrics = metrics_of(load, measured)
    metrics["on_time_share"] = 1 - late / len(measured)
    metrics["kept_share"] = 1 - owing / len(measured)
    return {"metrics": metrics, **paced.limit(metrics)}


def metrics_of(load: Load, measured: list[tuple[int, int]]) -> dict:
    """What the sessions of the window took."""
    if not measured:
        raise Broken("no session came to its end while it was measured")
    durations = sorted((ended - began) / 1e6 for began, ended in measured)
    return load.metrics | {
        "messages": len(measured),
        "server_cpu_us": load.server_ns / 1e3 / len(measured),
        "p50_ms": percentile(durations, 0.50),
        "p99_ms": percentile(durations, 0.99),
    }


def tables(view: View) -> list[Table]:
    """CPU time and duration of sessions that come at a rate, then capacity."""
    found = []
    for point in view.points("churn", mode="paced"):
        title = f"Sessions at {point['rate']:,} per second"
        metrics = ["server_cpu_us", "p50_ms", "p99_ms"]
        found.append(by_server(view, "churn", point, metrics, title=title, per=CPU_PER))
    for point in view.points("churn", mode="saturated"):
        title = f"Saturated: {point['concurrent']} sessions at a time, each followed by another"
        metrics = ["server_cpu_us", "sessions_per_s"]
        found.append(by_server(view, "churn", point, metrics, title=title, per=CPU_PER))
    return found


def picture(view: View) -> Picture:
    """What a session costs."""
    panels = []
    for point in view.points("churn"):
        paced_at = f"at {point['rate']:,} per second" if "rate" in point else "at saturation"
        bars = bars_of(view, "churn", point, {"server_cpu_us": ""})
        panels.append(Panel(f"{label('server_cpu_us', CPU_PER)}, {paced_at}", bars=bars))
    return Picture("churn", "What it costs to come and go", panels, columns=2)


def sentence(view: View) -> str:
    """Whose sessions cost least, and most."""
    for point in view.points("churn", mode="paced"):
        if costs := best_and_worst(view, "churn", point, "server_cpu_us"):
            return f"CPU time of a session, from connect to close: {costs}."
    return ""
