"""Question: what do the others feel when clients ask for 50 ms of CPU time, again and again?

Method: ten clients send `/ping` at random moments of a fixed rate together (so not in step with
the interpreter's switch interval), first alone, then beside one and beside four clients that send
`/work 50` in a closed loop. Latency from the due time, as a curve from p50 to p99. A trial has more
than a thousand requests, so that ten of them are beyond p99.

Expect: the single loops of v2 and v3 stand still for as long as somebody's work takes, and four
times as long with four of them. Here threads win: v1 and v4 (whose work runs in a thread, too) let
others in whenever the interpreter's lock changes hands, every 5 ms (sys.getswitchinterval), or at
once where there is no such lock.
"""

from benchmarks.experiments.experiment import Experiment, Parameters, Point, sizes
from benchmarks.load.connections import Load
from benchmarks.load.paced import Paced, Schedule, Traffic
from benchmarks.load.workers import Workers
from benchmarks.result.figure import Panel, Picture, percentile_lines
from benchmarks.result.status import Outcome
from benchmarks.result.table import Table, by_server
from benchmarks.result.view import View

OTHERS = 10
WORK_MS = 50


def drive(load: Load, point: Point, parameters: Parameters, seed: int) -> Outcome:
    clients = load.connect(point["workers"] + point["others"])
    load.join(clients)
    busy, others = clients[: point["workers"]], clients[point["workers"] :]
    workers = Workers(load, busy, point["work_ms"])
    warmup, window = parameters["warmup"], parameters["seconds"]

    def on_tick(seconds: float) -> None:
        workers.asking = seconds < warmup + window

    schedule = Schedule(point["rate"], warmup, window, seed)
    paced = Paced(load, Traffic.pings(others), schedule, on_tick=on_tick, keeps=False)
    workers.begin()
    outcome = paced.run(aside=dict.fromkeys(busy, workers.on_readable))
    workers.finish()
    opens, closes = paced.start + paced.opens, paced.start + paced.ends
    outcome.metrics["works_per_s"] = workers.per_second(opens, closes)
    return outcome


def beside(point: Point) -> str:
    """What the others are beside."""
    if not point["workers"]:
        return "Beside nobody"
    who = "one client" if point["workers"] == 1 else f"{point['workers']} clients"
    return f"Beside {who} with /work {point['work_ms']}"


def tables(view: View) -> list[Table]:
    tables = []
    for point in view.points("work"):
        metrics = ["p50_ms", "p90_ms", "p99_ms", "max_ms"]
        metrics += ["works_per_s"] if point["workers"] else []
        title = f"{beside(point)}: latency of {{others}} others, {{rate}}/s"
        tables += by_server([point], metrics, title)
    return tables


def picture(view: View) -> Picture:
    panels = [
        Panel(
            "percentile of the others' requests",
            "latency, ms",
            percentile_lines(view, point),
            title=beside(point),
            x_scale="percentile",
            y_scale="log",
        )
        for point in view.points("work")
    ]
    return Picture("work", "The neighbours of a CPU-bound client", panels, columns=2)


EXPERIMENT = Experiment(
    name="work",
    title="Work: the neighbours of a CPU-bound client",
    question="What do ten others feel while one client, or four, keep the CPU busy?",
    kinds=("ours", "tutorial", "theirs"),
    sizes=sizes(
        seconds=(0.2, 3.7, 4.0),
        warmup=(0.02, 0.1, 0.3),
        workers=([1], [1], [0, 1, 4]),
        rate=(100, 300, 300),
    ),
    points=lambda parameters: [
        {"workers": workers, "work_ms": WORK_MS, "others": OTHERS, "rate": parameters["rate"]}
        for workers in parameters["workers"]
    ],
    clients_needed=lambda point: point["workers"] + point["others"],
    drive=drive,
    tables=tables,
    picture=picture,
)
