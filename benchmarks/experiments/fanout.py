"""Question: what does it cost to pass a line on to many?

Method: paced is the main result: one client says lines at random moments of a fixed rate to N
readers. CPU time per delivery, delay from the due time to the last reader. Talk: 50 clients do so
among themselves. Flood: one says lines as fast as the server takes them, so many in each send.

Expect: paced, a delivery costs little more than its system call, and the loop that makes it at once
wins; a server that has to wake a task for each reader pays for that. Flooded, the more lines come
with one send, the more a server gathers into one call, and the cheaper each of them gets.
"""

from benchmarks.experiments.experiment import Experiment, Parameters, Point, sizes
from benchmarks.load.connections import Load
from benchmarks.load.paced import Paced, Schedule, Traffic, everybody_else
from benchmarks.load.saturated import Flood
from benchmarks.result.figure import Panel, Picture, lines_by
from benchmarks.result.metrics import label
from benchmarks.result.status import Outcome
from benchmarks.result.table import Table, pivot
from benchmarks.result.view import View

CPU_PER = "delivery"
LINE_BYTES = 64


def points(parameters: Parameters) -> list[Point]:
    rooms, talkers, batches = (parameters[key] for key in ("rooms", "talkers", "lines_per_send"))
    flooded = parameters["flooded_readers"]
    rate, talk_rate = parameters["rate"], parameters["talk_rate"]
    return [
        *({"mode": "paced", "readers": room, "rate": rate} for room in rooms),
        *({"mode": "talk", "clients": clients, "rate": talk_rate} for clients in talkers),
        *({"mode": "flood", "readers": flooded, "lines_per_send": lines} for lines in batches),
    ]


def clients_needed(point: Point) -> int:
    return point["clients"] if point["mode"] == "talk" else point["readers"] + 1


def seconds(point: Point, parameters: Parameters) -> float:
    window = "seconds" if point["mode"] == "flood" else "paced_seconds"
    return parameters["warmup"] + parameters[window]


def drive(load: Load, point: Point, parameters: Parameters, seed: int) -> Outcome:
    clients = load.connect(clients_needed(point))
    names = load.join(clients)
    warmup = parameters["warmup"]
    if point["mode"] == "flood":
        flood = Flood(load, clients, names[0], LINE_BYTES, point["lines_per_send"])
        return flood.run(warmup, parameters["seconds"])
    talk = point["mode"] == "talk"
    senders, receivers = (clients, clients) if talk else (clients[:1], clients[1:])
    hears = everybody_else(senders, receivers)
    traffic = Traffic.lines(senders, names[: len(senders)], hears, LINE_BYTES)
    schedule = Schedule(point["rate"], warmup, parameters["paced_seconds"], seed)
    return Paced(load, traffic, schedule).run()


def tables(view: View) -> list[Table]:
    paced, talks = view.points("fanout", mode="paced"), view.points("fanout", mode="talk")
    rooms = {f"1 to {point['readers']}, {point['rate']}/s": point for point in paced}
    rooms |= {f"{point['clients']} talk, {point['rate']}/s": point for point in talks}
    titles = {
        "server_cpu_us": label("server_cpu_us", CPU_PER),
        "wakeups_per_message": label("wakeups_per_message", "line said"),
        "p50_ms": "Delay p50 to the last reader, ms",
        "p90_ms": "Delay p90 to the last reader, ms",
    }
    tables = [pivot(view, rooms, metric, title, "who") for metric, title in titles.items()]
    floods = {str(p["lines_per_send"]): p for p in view.points("fanout", mode="flood")}
    for metric in ("server_cpu_us", "deliveries_per_s"):
        title = f"{label(metric, CPU_PER)}, flooded: one says what the server takes"
        tables.append(pivot(view, floods, metric, title, "lines per send"))
    return tables


def picture(view: View) -> Picture | None:
    points = view.points("fanout", mode="paced")
    if not points:
        return None
    readers = f"readers of one who says {points[0]['rate']} lines per second"
    cost = label("server_cpu_us", CPU_PER)
    costs = lines_by(view, points, "readers", "server_cpu_us")
    delays = lines_by(view, points, "readers", "p90_ms")
    panels = [
        Panel(readers, cost, costs, x_scale="log"),
        Panel(readers, "delay p90 to the last reader, ms", delays, x_scale="log", y_scale="log"),
    ]
    floods = view.points("fanout", mode="flood")
    if lines := lines_by(view, floods, "lines_per_send", "server_cpu_us"):
        glued = "lines in each send, as fast as the server takes them"
        panels.append(Panel(glued, cost, lines, x_scale="log", y_scale="log"))
    return Picture("fan-out", "One line to many", panels, columns=2)


EXPERIMENT = Experiment(
    name="fanout",
    title="Fan-out: one line to many",
    question="What does it cost to pass a line on to many, and how long does the last one wait?",
    profiles=("chat",),
    kinds=("ours", "tutorial", "small", "theirs"),
    sizes=sizes(
        seconds=(0.1, 0.4, 1.0),
        warmup=(0.02, 0.1, 0.3),
        paced_seconds=(0.1, 0.6, 2.6),
        rooms=([5], [100], [100, 300, 900]),
        rate=(200, 50, 50),
        talkers=([5], [], [50]),
        talk_rate=(100, 200, 200),
        flooded_readers=(5, 100, 100),
        lines_per_send=([4], [16], [1, 16, 64]),
    ),
    points=points,
    clients_needed=clients_needed,
    drive=drive,
    tables=tables,
    picture=picture,
    seconds=seconds,
    cpu_per=CPU_PER,
)
