"""Question: what do the others feel when clients ask for 50 ms of CPU time, again and again?

Method: ten clients send `/ping` at random moments of a fixed rate together (so not in step with
the interpreter's switch interval), first alone, then beside one and beside four clients that send
`/work 50` in a closed loop. Latency from the due time, as a curve from p50 to p99.9.

Expect: the single loops of v2 and v3 to stand still for as long as somebody's work takes, and for
four times as long with four of them. Here threads win: v1 and v4 (whose work runs in a thread,
too) let others in whenever the interpreter's lock changes hands, every 5 ms
(sys.getswitchinterval), or at once where there is no such lock.

v1's median still depends on the rate, but has no jumps: who finds nobody else waiting waits for the
whole 5 ms (50 to 200 requests per second: 5.3 ms), who comes while others wait for the rest of
theirs (400/s: 4.1 ms, 1600/s: 3.4 ms). Its p99 stays at about 10 ms.
"""

from benchmarks.arithmetic.results import View
from benchmarks.arithmetic.wording import best_and_worst
from benchmarks.load.connections import Load
from benchmarks.load.paced import Paced
from benchmarks.load.workers import Workers
from benchmarks.showing.pictures import Panel, Picture, percentile_lines
from benchmarks.showing.tables import Table, by_server

TITLE = "Work: the neighbours of a CPU-bound client"
QUESTION = "What do ten others feel while one client, or four, keep the CPU busy?"
PROFILES = ("echo", "chat")
KINDS = ("ours", "tutorial", "theirs")
OTHERS = 10
WORK_MS = 50
SIZES = {
    "smoke": {"seconds": 0.2, "warmup": 0.02, "workers": [1], "rate": 100},
    "quick": {"seconds": 0.6, "warmup": 0.1, "workers": [1], "rate": 300},
    "full": {"seconds": 4.0, "warmup": 0.3, "workers": [0, 1, 4], "rate": 300},
}


def points(parameters: dict) -> list[dict]:
    """Without work, and with so many who ask for it."""
    return [
        {"workers": workers, "work_ms": WORK_MS, "others": OTHERS, "rate": parameters["rate"]}
        for workers in parameters["workers"]
    ]


def clients_needed(point: dict) -> int:
    """How many connections a point opens."""
    return point["workers"] + point["others"]


def seconds(point: dict, parameters: dict) -> float:
    """How long the load of one trial takes."""
    return parameters["warmup"] + parameters["seconds"]


def drive(load: Load, point: dict, parameters: dict, seed: int) -> dict:
    """One trial, in the load generator's process."""
    clients = load.connect(point["workers"] + point["others"])
    load.join(clients)
    workers = Workers(load, clients[: point["workers"]], point["work_ms"])
    until = parameters["warmup"] + parameters["seconds"]

    def on_tick(seconds: float) -> None:
        workers.asking = seconds < until

    paced = Paced(
        load,
        clients[point["workers"] :],
        rate=point["rate"],
        warmup=parameters["warmup"],
        seconds=parameters["seconds"],
        seed=seed,
        on_tick=on_tick,
        keeps=False,
    )
    workers.begin()
    outcome = paced.run(aside=workers.aside)
    workers.finish()
    opens, closes = (paced.start + at for at in (paced.opens, paced.ends))
    outcome["metrics"]["works_per_s"] = workers.per_second(opens, closes)
    return outcome


def beside(point: dict) -> str:
    """What the others are beside."""
    if not point["workers"]:
        return "Beside nobody"
    who = "one client" if point["workers"] == 1 else f"{point['workers']} clients"
    return f"Beside {who} with /work {point['work_ms']}"


def tables(view: View) -> list[Table]:
    """Latency of the others, and how much work got done."""
    found = []
    for point in view.points("work"):
        metrics = ["p50_ms", "p90_ms", "p99_ms", "p999_ms", "max_ms"]
        metrics += ["works_per_s"] if point["workers"] else []
        title = f"{beside(point)}: latency of {point['others']} others, {point['rate']}/s"
        found.append(by_server(view, "work", point, metrics, title=title))
    return found


def picture(view: View) -> Picture:
    """The percentiles, each number of workers a panel."""
    panels = [
        Panel(
            "percentile of the others' requests",
            "latency, ms",
            percentile_lines(view, "work", point),
            title=beside(point),
            x_scale="percentile",
            y_scale="log",
        )
        for point in view.points("work")
    ]
    return Picture("work", "The neighbours of a CPU-bound client", panels, columns=2)


def sentence(view: View) -> str:
    """Whose clients wait least beside busy ones, and whose most."""
    parts = []
    for point in view.points("work"):
        if point["workers"] and (waits := best_and_worst(view, "work", point, "p99_ms")):
            parts.append(f"{beside(point).lower()}, {waits}")
    return f"What the others wait at p99: {'; '.join(parts)}." if parts else ""
