"""Question: what does one request cost in each model, from light load to saturation?

Method: `/ping` round trips. Paced is the main result: 50 clients, requests due at random moments
of a fixed rate; server CPU time and wake-ups per message, latency from the due time to the answer
(wrk2's correction), percentiles from all raw samples. The number of clients is a second axis, at
one rate. Saturated: each client asks again as soon as it is answered; capacity and CPU time per
message.

Expect: at a chat's rate most messages come alone, and every model wakes up for each: the models
are close, and a blocked thread is the cheapest thing to wake. At saturation one turn of a loop
serves many, and select and asyncio pay their price once for all of them; threads still change
hands for each message.
"""

from benchmarks.arithmetic.metrics import label
from benchmarks.arithmetic.results import View
from benchmarks.arithmetic.wording import best_and_worst
from benchmarks.load.connections import Load
from benchmarks.load.paced import Paced
from benchmarks.load.saturated import closed_loop, numbered_pings
from benchmarks.showing.pictures import Panel, Picture, lines_by
from benchmarks.showing.tables import Table, pivot

TITLE = "Ping: what one request costs"
QUESTION = "What does a request cost, from light load to saturation, and how long does it take?"
PROFILES = ("echo", "chat")
KINDS = ("ours", "floor", "tutorial", "theirs")
CHAT_CLIENTS, CHAT_RATE = 50, 5000
SIZES = {
    "smoke": {"seconds": 0.1, "warmup": 0.02, "rates": [500], "clients": [], "saturated": [5]},
    "quick": {
        "seconds": 0.4,
        "warmup": 0.1,
        "rates": [1000, CHAT_RATE],
        "clients": [],
        "saturated": [100],
    },
    "full": {
        "seconds": 1.0,
        "warmup": 0.3,
        "rates": [500, 2000, CHAT_RATE, 10_000, 20_000, 40_000],
        "clients": [1, 10, 500],
        "saturated": [100, 1000],
    },
}


def points(parameters: dict) -> list[dict]:
    """Rates for 50 clients, clients at one rate, clients that always ask."""
    return [
        *({"mode": "paced", "clients": CHAT_CLIENTS, "rate": rate} for rate in parameters["rates"]),
        *(
            {"mode": "paced", "clients": clients, "rate": CHAT_RATE}
            for clients in parameters["clients"]
        ),
        *({"mode": "saturated", "clients": clients} for clients in parameters["saturated"]),
    ]


def clients_needed(point: dict) -> int:
    """How many connections a point opens."""
    return point["clients"]


def seconds(point: dict, parameters: dict) -> float:
    """How long the load of one trial takes."""
    return parameters["warmup"] + parameters["seconds"]


def drive(load: Load, point: dict, parameters: dict, seed: int) -> dict:
    """One trial, in the load generator's process."""
    clients = load.connect(point["clients"])
    load.join(clients)
    times = {"warmup": parameters["warmup"], "seconds": parameters["seconds"]}
    if point["mode"] == "saturated":
        return closed_loop(load, clients, numbered_pings(seed), **times)
    return Paced(load, clients, rate=point["rate"], seed=seed, **times).run()


def tables(view: View) -> list[Table]:
    """Cost, wake-ups and latency by rate, cost by clients, then saturation."""
    by_rate = view.points("ping", mode="paced", clients=CHAT_CLIENTS)
    by_clients = view.points("ping", mode="paced", rate=CHAT_RATE)
    saturated = view.points("ping", mode="saturated")

    def rate(point: dict) -> str:
        return f"{point['rate']:,}"

    def clients(point: dict) -> str:
        return f"{point['clients']:,}"

    def paced(metric: str) -> Table:
        title = f"{label(metric)}, by messages per second over {CHAT_CLIENTS} clients"
        return pivot(view, "ping", metric, by_rate, "offered per s", rate, title=title)

    found = [paced(metric) for metric in ("server_cpu_us", "wakeups_per_message")]
    found += [paced(metric) for metric in ("p50_ms", "p99_ms", "p999_ms")]
    if len(by_clients) > 1:
        by_clients.sort(key=lambda point: point["clients"])
        title = f"{label('server_cpu_us')}, by clients that send {CHAT_RATE:,}/s together"
        found.append(
            pivot(view, "ping", "server_cpu_us", by_clients, "clients", clients, title=title)
        )
    for metric in ("server_cpu_us", "replies_per_s"):
        title = f"{label(metric)}, at saturation: each client asks again at once"
        found.append(pivot(view, "ping", metric, saturated, "clients", clients, title=title))
    return [table for table in found if table.rows]


def picture(view: View) -> Picture | None:
    """What a message costs by rate and by clients, how often it wakes, how long it takes."""
    over = {"mode": "paced", "clients": CHAT_CLIENTS}
    if not view.points("ping", **over):
        return None
    offered = f"messages per second over {CHAT_CLIENTS} clients"

    def panel(metric: str, y_scale: str = "linear") -> Panel:
        lines = lines_by(view, "ping", "rate", metric, **over)
        return Panel(offered, label(metric), lines, x_scale="log", y_scale=y_scale)

    panels = [panel("server_cpu_us"), panel("wakeups_per_message"), panel("p99_ms", "log")]
    if len(view.points("ping", mode="paced", rate=CHAT_RATE)) > 1:
        lines = lines_by(view, "ping", "clients", "server_cpu_us", mode="paced", rate=CHAT_RATE)
        x_label = f"clients that send {CHAT_RATE:,} messages per second together"
        panels.append(Panel(x_label, label("server_cpu_us"), lines, x_scale="log"))
    return Picture("ping", "What one request costs", panels, columns=2)


def sentence(view: View) -> str:
    """Who is cheap at a chat's load, and who at saturation."""
    parts = []
    for point in view.points("ping", mode="paced", clients=CHAT_CLIENTS, rate=CHAT_RATE):
        if costs := best_and_worst(view, "ping", point, "server_cpu_us"):
            parts.append(
                f"at {CHAT_RATE:,} messages per second over {CHAT_CLIENTS} clients a message costs"
                f" {costs}"
            )
    for point in view.points("ping", mode="saturated")[:1]:
        if costs := best_and_worst(view, "ping", point, "server_cpu_us"):
            parts.append(f"with {point['clients']} clients that always ask, {costs}")
    return f"CPU time: {'; '.join(parts)}." if parts else ""
