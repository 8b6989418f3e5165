"""Question: what does one request cost in each model, from light load to saturation?

Method: `/ping` round trips. Paced is the main result: requests of 50 clients are due at random
moments of a fixed rate. Server CPU time and wake-ups per message, latency from the due time to the
answer (wrk2's correction). The number of clients is a second axis, at one rate. Saturated: each
client asks again as soon as it is answered; capacity and CPU time per message.

Expect: at a chat's rate most messages come alone, and every model wakes up for each of them. The
models are close, and a blocked thread is the cheapest thing to wake. At saturation one turn of a
loop serves many clients, and select and asyncio pay once for all of them. Threads still change
hands for each message.
"""

from benchmarks.experiments.experiment import Experiment, Parameters, Point, sizes
from benchmarks.load.connections import Load
from benchmarks.load.paced import Paced, Schedule, Traffic
from benchmarks.load.saturated import ClosedLoop
from benchmarks.result.figure import Panel, Picture, lines_by
from benchmarks.result.metrics import label
from benchmarks.result.status import Outcome
from benchmarks.result.table import Table, pivot
from benchmarks.result.view import View

CHAT_CLIENTS, CHAT_RATE = 50, 5000
# The points at which the rate differs, and those at which the number of clients does.
BY_RATE = {"mode": "paced", "clients": CHAT_CLIENTS}
BY_CLIENTS = {"mode": "paced", "rate": CHAT_RATE}


def points(parameters: Parameters) -> list[Point]:
    rates, counts, saturated = (parameters[name] for name in ("rates", "clients", "saturated"))
    return [
        *(BY_RATE | {"rate": rate} for rate in rates),
        *({"mode": "paced", "clients": clients, "rate": CHAT_RATE} for clients in counts),
        *({"mode": "saturated", "clients": clients} for clients in saturated),
    ]


def drive(load: Load, point: Point, parameters: Parameters, seed: int) -> Outcome:
    clients = load.connect(point["clients"])
    load.join(clients)
    warmup, seconds = parameters["warmup"], parameters["seconds"]
    if point["mode"] == "saturated":
        return ClosedLoop(load, clients, seed).run(warmup, seconds)
    schedule = Schedule(point["rate"], warmup, seconds, seed)
    return Paced(load, Traffic.pings(clients), schedule).run()


def tables(view: View) -> list[Table]:
    by_rate = {f"{point['rate']:,}": point for point in view.points("ping", **BY_RATE)}
    tables = []
    for metric in ("server_cpu_us", "wakeups_per_message", "p50_ms", "p99_ms"):
        title = f"{label(metric)}, by messages per second over {CHAT_CLIENTS} clients"
        tables.append(pivot(view, by_rate, metric, title, "offered per s"))
    by_clients = view.points("ping", **BY_CLIENTS)
    if len(by_clients) > 1:
        by_clients.sort(key=lambda point: point["clients"])
        counts = {f"{point['clients']:,}": point for point in by_clients}
        title = f"{label('server_cpu_us')}, by clients that send {CHAT_RATE:,}/s together"
        tables.append(pivot(view, counts, "server_cpu_us", title, "clients"))
    saturated = {f"{point['clients']:,}": point for point in view.points("ping", mode="saturated")}
    for metric in ("server_cpu_us", "replies_per_s"):
        title = f"{label(metric)}, at saturation: each client asks again at once"
        tables.append(pivot(view, saturated, metric, title, "clients"))
    return tables


def picture(view: View) -> Picture:
    panels = [
        Panel(
            f"messages per second over {CHAT_CLIENTS} clients",
            label(metric),
            lines_by(view, view.points("ping", **BY_RATE), "rate", metric),
            x_scale="log",
            y_scale="log" if metric == "p99_ms" else "linear",
        )
        for metric in ("server_cpu_us", "wakeups_per_message", "p99_ms")
    ]
    by_clients = view.points("ping", **BY_CLIENTS)
    if len(by_clients) > 1:
        lines = lines_by(view, by_clients, "clients", "server_cpu_us")
        x_label = f"clients that send {CHAT_RATE:,} messages per second together"
        panels.append(Panel(x_label, label("server_cpu_us"), lines, x_scale="log"))
    return Picture("ping", "What one request costs", panels, columns=2)


EXPERIMENT = Experiment(
    name="ping",
    title="Ping: what one request costs",
    question="What does a request cost, from light load to saturation, and how long does it take?",
    sizes=sizes(
        seconds=(0.1, 0.4, 1.0),
        warmup=(0.02, 0.1, 0.3),
        rates=([500], [1000, CHAT_RATE], [500, 2000, CHAT_RATE, 10_000, 20_000, 40_000]),
        clients=([], [], [1, 10, 500]),
        saturated=([5], [100], [100, 1000]),
    ),
    points=points,
    clients_needed=lambda point: point["clients"],
    drive=drive,
    tables=tables,
    picture=picture,
)
