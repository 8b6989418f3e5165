"""Question: do threads win when there is more than one core?

Method: one to four clients send `/work 20` in a closed loop to a server that has two cores; works
done per second. The load generator has next to nothing to do and shares the last core.

Expect: the interpreter's lock (GIL) lets one thread of Python compute at a time, so a second core
brings nothing to any of the four: the lines are flat at what one core can do, 50 a second. v1 and
v4, which compute in threads, double it where there is no such lock (`--python` with a free-threaded
build); v2 and v3, which compute in their only thread, do not.
"""

from benchmarks.arithmetic.metrics import label, with_unit
from benchmarks.arithmetic.results import View
from benchmarks.load.connections import Load, monotonic_ns
from benchmarks.load.workers import Workers
from benchmarks.showing.pictures import Panel, Picture, lines_by
from benchmarks.showing.tables import Table, pivot

TITLE = "Cores: does a second core help?"
QUESTION = "How much more work gets done with two cores, when more than one client asks for it?"
PROFILES = ("echo", "chat")
KINDS = ("ours", "theirs")
SERVER_CORES = 2
WORK_MS = 20
SIZES = {
    "smoke": {"seconds": 0.1, "warmup": 0.02, "workers": [2]},
    "quick": {"seconds": 0.4, "warmup": 0.1, "workers": [4]},
    "full": {"seconds": 1.0, "warmup": 0.2, "workers": [1, 2, 3, 4]},
}


def points(parameters: dict) -> list[dict]:
    """How many ask at a time."""
    return [{"workers": workers, "work_ms": WORK_MS} for workers in parameters["workers"]]


def clients_needed(point: dict) -> int:
    """How many connections a point opens."""
    return point["workers"]


def seconds(point: dict, parameters: dict) -> float:
    """How long the load of one trial takes."""
    return parameters["warmup"] + parameters["seconds"]


def drive(load: Load, point: dict, parameters: dict, seed: int) -> dict:
    """One trial, in the load generator's process."""
    clients = load.connect(point["workers"])
    load.join(clients)
    workers = Workers(load, clients, point["work_ms"])
    workers.begin()
    workers.play(parameters["warmup"])
    load.open_window()
    opens = monotonic_ns()
    workers.play(parameters["seconds"])
    closes = monotonic_ns()
    load.close_window()
    workers.finish()
    return {"metrics": load.metrics | {"works_per_s": workers.per_second(opens, closes)}}


def tables(view: View) -> list[Table]:
    """Works per second by clients that ask."""

    def workers(point: dict) -> str:
        return f"{point['workers']}"

    title = f"{label('works_per_s')}, of {WORK_MS} ms each, with two cores"
    points_of = view.points("cores")
    return [pivot(view, "cores", "works_per_s", points_of, "clients", workers, title=title)]


def picture(view: View) -> Picture:
    """Works per second by clients that ask, and what one core can do."""
    level = (1000 / WORK_MS, "what one core can do")
    lines = lines_by(view, "cores", "workers", "works_per_s")
    panel = Panel("clients that ask for work", label("works_per_s"), lines, level=level)
    return Picture("cores", "Work with two cores", [panel])


def sentence(view: View) -> str:
    """What most clients together get done, beside what one core can do."""
    point = max(view.points("cores"), key=lambda point: point["workers"], default=None)
    cells = view.cells("cores", point) if point else []
    labels = {entry["id"]: entry["label"] for entry in view.servers("cores")}
    parts = [
        f"{labels[cell.server]} {with_unit('works_per_s', cell.median('works_per_s'))}"
        for cell in cells
        if cell.ranks("works_per_s")
    ]
    if not parts:
        return ""
    return (
        f"With two cores, {point['workers']} clients that ask for {WORK_MS} ms of work each get"
        f" this much done: {', '.join(parts)}. One core can do {1000 // WORK_MS}/s."
    )
