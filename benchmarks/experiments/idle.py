"""Question: what does a connection cost that says nothing?

Method: one client, or ten, send `/ping` at random moments of one fixed rate while up to 10,000
others are connected and silent; server CPU time per message against their number, and by how much
each of them makes the server's memory grow: its own (RSS), the kernel's stacks of its threads, and
the kernel's sockets as far as it tells (half of their growth, as both ends are on this machine).
The idle ones are greeted but give no name: in a chat room 10,000 names would first be announced to
10,000 others.

Expect: the cost of select() to rise with the number of connections it is handed on every call,
most where a call serves one message only, and the others to stay flat (the picture of libev's
benchmark); a thread to take by far the most memory; v2 and v3 to say `! server full` about where
FD_SETSIZE (1024) ends select().
"""

from dataclasses import replace

from benchmarks.arithmetic.metrics import label
from benchmarks.arithmetic.results import View
from benchmarks.arithmetic.wording import best_and_worst
from benchmarks.load.connections import Load, Lost, shown
from benchmarks.load.paced import Paced
from benchmarks.load.probe import ServerProbe, kernel_stack_kib, socket_memory_kib
from benchmarks.showing.pictures import Line, Panel, Picture, bars_of, lines_by
from benchmarks.showing.tables import Table, by_server, pivot

TITLE = "Idle: the cost of connections that say nothing"
QUESTION = "What does a silent connection cost, in CPU time per message of others and in memory?"
PROFILES = ("echo", "chat")
KINDS = ("ours", "floor", "theirs")
RATE = 1000  # of all active clients together
MANY = 900  # nearly as many as select() takes
PARTS = {
    "rss_kib": "server's own (RSS)",
    "stack_kib": "kernel stacks of threads",
    "socket_kib": "kernel's sockets",
}
SIZES = {
    "smoke": {"seconds": 0.1, "warmup": 0.02, "one_active": [0, 20], "ten_active": []},
    "quick": {"seconds": 0.4, "warmup": 0.1, "one_active": [0, MANY], "ten_active": [MANY]},
    "full": {
        "seconds": 0.8,
        "warmup": 0.2,
        "one_active": [0, 100, 300, MANY, 10_000],
        "ten_active": [0, MANY],
    },
}


def points(parameters: dict) -> list[dict]:
    """Numbers of idle connections, beside one active one and beside ten."""
    return [
        {"idle": idle, "active": active, "rate": RATE}
        for active, counts in ((1, parameters["one_active"]), (10, parameters["ten_active"]))
        for idle in counts
    ]


def takes(contestant: dict, point: dict) -> bool:
    """Those in C are there for what the many cost one active client."""
    return contestant["kind"] != "floor" or (point["idle"] > 0 and point["active"] == 1)


def clients_needed(point: dict) -> int:
    """How many connections a point opens."""
    return point["idle"] + point["active"]


def seconds(point: dict, parameters: dict) -> float:
    """How long the load of one trial takes."""
    return parameters["warmup"] + parameters["seconds"]


def drive(load: Load, point: dict, parameters: dict, seed: int) -> dict:
    """One trial, in the load generator's process."""
    active = load.connect(point["active"])
    load.join(active)
    for _ in range(5):  # so that what the active ones need is there before memory is read
        load.settle(active)
    before = memory(load.probe)
    idle = load.connect(point["idle"])
    load.settle(active)
    after = memory(load.probe)
    times = {"warmup": parameters["warmup"], "seconds": parameters["seconds"]}
    paced = Paced(load, active, rate=point["rate"], seed=seed, **times)

    def on_readable(fd: int) -> None:
        came = load.view[: load.receive(fd)]
        raise Lost(f"{shown(came)} came to a client that says nothing")

    outcome = paced.run(aside=dict.fromkeys(idle, on_readable))
    if idle:
        parts = {name: max(0, after[name] - before[name]) / len(idle) for name in before}
        outcome["metrics"] |= parts | {"memory_kib": sum(parts.values())}
    return outcome


def memory(probe: ServerProbe) -> dict[str, float]:
    """What is taken now, in KiB. Of the sockets' memory half is taken by our own ends."""
    return {
        "rss_kib": probe.rss_bytes() / 1024,
        "stack_kib": probe.threads() * kernel_stack_kib(),
        "socket_kib": socket_memory_kib() / 2,
    }


def memory_point(view: View) -> dict | None:
    """Where the memory of all servers is told: at the largest number that select() can hold."""
    found = [point for point in view.points("idle", active=1) if 0 < point["idle"] <= MANY]
    return max(found, key=lambda point: point["idle"], default=None)


def tables(view: View) -> list[Table]:
    """CPU time per message by idle connections, and what memory each of them takes."""

    def idle(point: dict) -> str:
        return f"{point['idle']:,}"

    found = []
    for active, who in ((1, "one active client"), (10, "ten active clients")):
        points_of = view.points("idle", active=active)
        title = f"{label('server_cpu_us')}, {who}, {RATE:,}/s"
        found.append(pivot(view, "idle", "server_cpu_us", points_of, "idle", idle, title=title))
    counts = [point for point in view.points("idle", active=1) if point["idle"]]
    found.append(pivot(view, "idle", "memory_kib", counts, "idle", idle))
    if point := memory_point(view):
        title = f"Memory per idle connection, at {idle(point)}"
        found.append(by_server(view, "idle", point, ["memory_kib", *PARTS], title=title))
    return found


def picture(view: View) -> Picture:
    """What a message costs by idle connections, few and many, and the memory of each."""

    def panel(active: int, least: int, most: float) -> Panel:
        lines = lines_by(view, "idle", "idle", "server_cpu_us", active=active)
        return Panel(
            f"idle connections beside {'one active' if active == 1 else 'ten active'}",
            label("server_cpu_us"),
            [part for line in lines if len((part := within(line, least, most)).points) > 1],
            x_scale="log" if least else "linear",
        )

    panels = [panel(1, 0, MANY), panel(10, 0, MANY), panel(1, MANY, float("inf"))]
    if point := memory_point(view):
        bars = bars_of(view, "idle", point, PARTS)
        panels.append(Panel(f"KiB per idle connection, at {point['idle']:,}", bars=bars))
    return Picture("idle", "The cost of connections that say nothing", panels, columns=2)


def within(line: Line, least: float, most: float) -> Line:
    """The part of a line that lies between two numbers of connections."""
    return replace(
        line,
        points=[place for place in line.points if least <= place[0] <= most],
        dots=[dot for dot in line.dots if least <= dot[0] <= most],
    )


def sentence(view: View) -> str:
    """Who pays for the silent ones, and with what."""
    parts = []
    for active, who in ((1, "one client"), (10, "ten clients")):
        for point in view.points("idle", active=active, idle=MANY):
            if costs := best_and_worst(view, "idle", point, "server_cpu_us"):
                parts.append(f"CPU time for a message of {who}: {costs}")
    point = memory_point(view)
    if point and (costs := best_and_worst(view, "idle", point, "memory_kib")):
        parts.append(f"memory of each silent one: {costs}")
    return f"Beside {MANY} silent clients, {'; '.join(parts)}." if parts else ""
