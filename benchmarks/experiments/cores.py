"""Question: do threads win when there is more than one core?

Method: one to four clients send `/work 20` in a closed loop to a server that has two cores; works
done per second. The load generator has next to nothing to do and shares the last core.

Expect: the interpreter's lock (GIL) lets one thread of Python compute at a time, so a second core
brings nothing to any of the four: the lines are flat at what one core can do. v1 and v4, which
compute in threads, double it where there is no such lock (`--python` with a free-threaded build);
v2 and v3, which compute in their only thread, do not.
"""

from benchmarks.experiments.experiment import Experiment, Parameters, Point, sizes
from benchmarks.load.connections import Load, monotonic_ns
from benchmarks.load.workers import Workers
from benchmarks.result.figure import Panel, Picture, lines_by
from benchmarks.result.metrics import label
from benchmarks.result.status import Outcome
from benchmarks.result.table import Table, pivot
from benchmarks.result.view import View

WORK_MS = 20


def drive(load: Load, point: Point, parameters: Parameters, seed: int) -> Outcome:
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
    return Outcome(metrics=load.metrics | {"works_per_s": workers.per_second(opens, closes)})


def tables(view: View) -> list[Table]:
    counts = {str(point["workers"]): point for point in view.points("cores")}
    title = f"{label('works_per_s')}, of {WORK_MS} ms each, with two cores"
    return [pivot(view, counts, "works_per_s", title, "clients")]


def picture(view: View) -> Picture:
    level = (1000 / WORK_MS, "what one core can do")
    lines = lines_by(view, view.points("cores"), "workers", "works_per_s")
    panel = Panel("clients that ask for work", label("works_per_s"), lines, level=level)
    return Picture("cores", "Work with two cores", [panel])


EXPERIMENT = Experiment(
    name="cores",
    title="Cores: does a second core help?",
    question="How much more work gets done with two cores, when more than one client asks for it?",
    kinds=("ours", "theirs"),
    sizes=sizes(seconds=(0.1, 0.4, 1.0), warmup=(0.02, 0.1, 0.2), workers=([2], [4], [1, 2, 3, 4])),
    points=lambda parameters: [
        {"workers": workers, "work_ms": WORK_MS} for workers in parameters["workers"]
    ],
    clients_needed=lambda point: point["workers"],
    drive=drive,
    tables=tables,
    picture=picture,
    server_cores=2,
)
