"""Question: what does a connection cost that says nothing?

Method: one client, or ten, send `/ping` at random moments of one fixed rate while up to 10,000
others are connected and silent. Server CPU time per message against their number, and by how much
each of them makes memory grow: the server's own (RSS), the kernel's stacks of its threads, and the
kernel's sockets (half of their growth, because both ends are on this machine). The idle ones give
no name: in a chat room 10,000 names would first be announced to 10,000 others.

Expect: the cost of select() rises with the number of connections it is handed on every call, most
where a call serves one message only, and the others stay flat (the picture of libev's benchmark). A
thread takes by far the most memory. v2 and v3 say `! server full` near FD_SETSIZE (1024).
"""

import math

from benchmarks.experiments.experiment import Experiment, Parameters, Point, sizes
from benchmarks.load.connections import Load, Lost, shown
from benchmarks.load.paced import Paced, Schedule, Traffic
from benchmarks.load.probe import ServerProbe, kernel_stack_kib, socket_memory_kib
from benchmarks.result.figure import Panel, Picture, bars_of, lines_by
from benchmarks.result.metrics import label
from benchmarks.result.status import Outcome
from benchmarks.result.table import Table, by_server, pivot
from benchmarks.result.view import MeasuredPoint, View

RATE = 1000  # of all active clients together
MANY = 900  # nearly as many connections as select() takes
PARTS = {
    "rss_kib": "server's own (RSS)",
    "stack_kib": "kernel stacks of threads",
    "socket_kib": "kernel's sockets",
}


def drive(load: Load, point: Point, parameters: Parameters, seed: int) -> Outcome:
    active = load.connect(point["active"])
    load.join(active)
    # The server has to have everything that these need before its memory is read.
    for _ in range(5):
        load.settle(active)
    before = memory(load.probe)
    idle = load.connect(point["idle"])
    load.settle(active)
    after = memory(load.probe)
    schedule = Schedule(point["rate"], parameters["warmup"], parameters["seconds"], seed)

    def on_readable(fd: int) -> None:
        surplus = load.view[: load.receive(fd)]
        raise Lost(f"{shown(surplus)} came to a client that says nothing")

    outcome = Paced(load, Traffic.pings(active), schedule).run(dict.fromkeys(idle, on_readable))
    if idle:
        parts = {name: max(0, after[name] - before[name]) / len(idle) for name in before}
        outcome.metrics.update(parts, memory_kib=sum(parts.values()))
    return outcome


def memory(probe: ServerProbe) -> dict[str, float]:
    """How much is in use now, in KiB. Half of the sockets' memory belongs to our own ends."""
    return {
        "rss_kib": probe.rss_bytes() / 1024,
        "stack_kib": probe.threads() * kernel_stack_kib(),
        "socket_kib": socket_memory_kib() / 2,
    }


def memory_point(view: View) -> MeasuredPoint | None:
    """The point whose memory is shown for all servers: the largest that select() can hold."""
    points = [point for point in view.points("idle", active=1) if 0 < point["idle"] <= MANY]
    return max(points, key=lambda point: point["idle"], default=None)


def tables(view: View) -> list[Table]:
    tables = []
    for active, clients in ((1, "one active client"), (10, "ten active clients")):
        counts = {f"{point['idle']:,}": point for point in view.points("idle", active=active)}
        title = f"{label('server_cpu_us')}, {clients}, {RATE:,}/s"
        tables.append(pivot(view, counts, "server_cpu_us", title, "idle"))
    counts = {f"{p['idle']:,}": p for p in view.points("idle", active=1) if p["idle"]}
    tables.append(pivot(view, counts, "memory_kib", label("memory_kib"), "idle"))
    if point := memory_point(view):
        metrics = ["memory_kib", *PARTS]
        tables += by_server([point], metrics, "Memory per idle connection, at {idle:,}")
    return tables


def picture(view: View) -> Picture:
    panels = []
    for active, least, most in ((1, 0, MANY), (10, 0, MANY), (1, MANY, math.inf)):
        points = [p for p in view.points("idle", active=active) if least <= p["idle"] <= most]
        lines = lines_by(view, points, "idle", "server_cpu_us")
        x_label = f"idle connections beside {'one active' if active == 1 else 'ten active'}"
        lines = [line for line in lines if len(line.points) > 1]
        cost = label("server_cpu_us")
        panels.append(Panel(x_label, cost, lines, x_scale="log" if least else "linear"))
    if point := memory_point(view):
        x_label = f"KiB per idle connection, at {point['idle']:,}"
        panels.append(Panel(x_label, bars=bars_of(point, PARTS)))
    return Picture("idle", "The cost of connections that say nothing", panels, columns=2)


EXPERIMENT = Experiment(
    name="idle",
    title="Idle: the cost of connections that say nothing",
    question="What does a silent connection cost, in CPU time per message of others and in memory?",
    kinds=("ours", "floor", "small", "theirs"),
    sizes=sizes(
        seconds=(0.1, 0.4, 0.8),
        warmup=(0.02, 0.1, 0.2),
        one_active=([0, 20], [0, MANY], [0, 100, 300, MANY, 10_000]),
        ten_active=([], [MANY], [0, MANY]),
    ),
    points=lambda parameters: [
        {"idle": idle, "active": active, "rate": RATE}
        for active, counts in ((1, parameters["one_active"]), (10, parameters["ten_active"]))
        for idle in counts
    ],
    clients_needed=lambda point: point["idle"] + point["active"],
    drive=drive,
    tables=tables,
    picture=picture,
    # The floors in C are there for what many idle clients cost one that is active.
    takes=lambda kind, point: kind != "floor" or (point["idle"] > 0 and point["active"] == 1),
)
