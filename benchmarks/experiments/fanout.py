"""Question: what does it cost to pass a line on to many?

Method: every line is numbered, every delivery checked. Paced is the main result: one client says
lines at random moments of a fixed rate to N readers; CPU time per delivery, delay from the due
time to the last reader. Talk: 50 clients do so among themselves. Flood: one says lines as fast as
the server takes them, so many in each send: what can be glued together, and what that saves.

Expect: paced, a delivery to cost little more than its system call, and the loop that makes it at
once to win; what has to wake a task for each reader pays for that. Flooded, the more lines come
with one send, the more a server gathers into one call, and the cheaper each of them gets.
"""

from benchmarks.arithmetic.metrics import label
from benchmarks.arithmetic.results import View
from benchmarks.arithmetic.wording import best_and_worst
from benchmarks.load.connections import Load
from benchmarks.load.paced import Paced
from benchmarks.load.saturated import flood
from benchmarks.showing.pictures import Panel, Picture, lines_by
from benchmarks.showing.tables import Table, pivot

TITLE = "Fan-out: one line to many"
QUESTION = "What does it cost to pass a line on to many, and how long does the last one wait?"
PROFILES = ("chat",)
KINDS = ("ours", "tutorial", "theirs")
CPU_PER = "delivery"
LINE_BYTES = 64
SIZES = {
    "smoke": {
        "seconds": 0.1,
        "warmup": 0.02,
        "paced_seconds": 0.1,
        "rooms": [5],
        "rate": 200,
        "talkers": [5],
        "talk_rate": 100,
        "flooded_readers": 5,
        "lines_per_send": [4],
    },
    "quick": {
        "seconds": 0.4,
        "warmup": 0.1,
        "paced_seconds": 0.6,
        "rooms": [100],
        "rate": 50,
        "talkers": [],
        "talk_rate": 200,
        "flooded_readers": 100,
        "lines_per_send": [16],
    },
    "full": {
        "seconds": 1.0,
        "warmup": 0.3,
        "paced_seconds": 2.0,
        "rooms": [100, 300, 900],
        "rate": 50,
        "talkers": [50],
        "talk_rate": 200,
        "flooded_readers": 100,
        "lines_per_send": [1, 16, 64],
    },
}


def points(parameters: dict) -> list[dict]:
    """Readers of a paced sender, talkers, lines in each send of a flooding one."""
    rooms, talkers, batches = (parameters[key] for key in ("rooms", "talkers", "lines_per_send"))
    flooded = parameters["flooded_readers"]
    return [
        *({"mode": "paced", "readers": room, "rate": parameters["rate"]} for room in rooms),
        *(
            {"mode": "talk", "clients": clients, "rate": parameters["talk_rate"]}
            for clients in talkers
        ),
        *({"mode": "flood", "readers": flooded, "lines_per_send": lines} for lines in batches),
    ]


def clients_needed(point: dict) -> int:
    """How many connections a point opens."""
    return point["clients"] if point["mode"] == "talk" else point["readers"] + 1


def seconds(point: dict, parameters: dict) -> float:
    """How long the load of one trial takes."""
    window = "seconds" if point["mode"] == "flood" else "paced_seconds"
    return parameters["warmup"] + parameters[window]


def drive(load: Load, point: dict, parameters: dict, seed: int) -> dict:
    """One trial, in the load generator's process."""
    clients = load.connect(clients_needed(point))
    names = load.join(clients)
    if point["mode"] == "flood":
        return flood(
            load,
            clients[0],
            clients[1:],
            names[0],
            line_bytes=LINE_BYTES,
            lines_per_send=point["lines_per_send"],
            warmup=parameters["warmup"],
            seconds=parameters["seconds"],
        )
    talk = point["mode"] == "talk"
    return Paced(
        load,
        clients if talk else clients[:1],
        names=names if talk else names[:1],
        receivers=clients if talk else clients[1:],
        line_bytes=LINE_BYTES,
        rate=point["rate"],
        warmup=parameters["warmup"],
        seconds=parameters["paced_seconds"],
        seed=seed,
    ).run()


def tables(view: View) -> list[Table]:
    """Cost and delay by room, the same where all talk, then the flood by lines per send."""
    rooms = view.points("fanout", mode="paced")
    talks = view.points("fanout", mode="talk")
    floods = view.points("fanout", mode="flood")

    def room(point: dict) -> str:
        if point["mode"] == "talk":
            return f"{point['clients']} talk, {point['rate']}/s"
        return f"1 to {point['readers']}, {point['rate']}/s"

    def lines(point: dict) -> str:
        return f"{point['lines_per_send']}"

    found = []
    for metric, per in (("server_cpu_us", CPU_PER), ("wakeups_per_message", "line said")):
        title = label(metric, per)
        found.append(pivot(view, "fanout", metric, [*rooms, *talks], "who", room, title=title))
    for metric, share in (("p50_ms", "p50"), ("p95_ms", "p95"), ("p99_ms", "p99")):
        title = f"Delay {share} to the last reader, ms"
        found.append(pivot(view, "fanout", metric, [*rooms, *talks], "who", room, title=title))
    for metric in ("server_cpu_us", "deliveries_per_s"):
        title = f"{label(metric, 'delivery')}, flooded: one says what the server takes"
        found.append(pivot(view, "fanout", metric, floods, "lines per send", lines, title=title))
    return [table for table in found if table.rows]


def picture(view: View) -> Picture | None:
    """What a delivery costs by the size of the room, and by what comes glued together."""
    rooms = lines_by(view, "fanout", "readers", "server_cpu_us", mode="paced")
    delays = lines_by(view, "fanout", "readers", "p95_ms", mode="paced")
    floods = lines_by(view, "fanout", "lines_per_send", "server_cpu_us", mode="flood")
    if not rooms:
        return None
    (rate,) = {point["rate"] for point in view.points("fanout", mode="paced")}
    readers = f"readers of one who says {rate} lines per second"
    cost = label("server_cpu_us", CPU_PER)
    panels = [
        Panel(readers, cost, rooms, x_scale="log"),
        Panel(readers, "delay p95 to the last reader, ms", delays, x_scale="log", y_scale="log"),
    ]
    if floods:
        glued = "lines in each send, as fast as the server takes them"
        panels.append(Panel(glued, cost, floods, x_scale="log", y_scale="log"))
    return Picture("fan-out", "One line to many", panels, columns=2)


def sentence(view: View) -> str:
    """Who delivers at least cost, line by line and flooded."""
    kinds = ("ours", "tutorial")
    parts = []
    for point in view.points("fanout", mode="paced")[:1]:
        if costs := best_and_worst(view, "fanout", point, "server_cpu_us", kinds):
            parts.append(f"{point['rate']} lines per second to {point['readers']} readers: {costs}")
    for point in view.points("fanout", mode="flood")[-1:]:
        if costs := best_and_worst(view, "fanout", point, "server_cpu_us", kinds):
            parts.append(f"flooded, with {point['lines_per_send']} lines in each send: {costs}")
    return f"CPU time of a delivery, {'; '.join(parts)}." if parts else ""
