"""Question: what do the others feel when one client asks for 50 ms of CPU time, again and again?

Method: ten clients send `/ping` at a fixed rate together (open loop, latency from the due time),
first alone, then beside one client that sends `/work 50` in a closed loop.

Expect: the single loops of v2 and v3 to stand still for up to 50 ms at a time. Here threads win:
v1 and v4 (whose work runs in a thread too) let others in whenever the interpreter's lock changes
hands, every 5 ms (sys.getswitchinterval), or at once where there is no such lock.
"""

from benchmarks import summary
from benchmarks.load import Load, Schedule

TITLE = "Work: the neighbours of a CPU-bound client"
QUESTION = "What do ten others feel while one client keeps the CPU busy?"
PROFILES = ("echo", "chat")
OTHERS = 10
SIZES = {
    "smoke": {"seconds": 0.15, "warmup": 0.02, "work_ms": [10], "rate": 100},
    "quick": {"seconds": 0.7, "warmup": 0.1, "work_ms": [0, 50], "rate": 200},
    "full": {"seconds": 3.0, "warmup": 0.3, "work_ms": [0, 50], "rate": 400},
}


def points(parameters: dict) -> list[dict]:
    """Without work, and with it."""
    return [
        {"work_ms": work, "others": OTHERS, "rate": parameters["rate"]}
        for work in parameters["work_ms"]
    ]


def drive(load: Load, point: dict, parameters: dict) -> dict:
    """One trial, in the load generator's process."""
    worker, *others = load.connect(1 + point["others"])
    load.join([worker, *others])
    order, answer = f"/work {point['work_ms']}\n".encode(), f"* worked {point['work_ms']} ms\n"
    finished = 0
    partial = b""

    def on_worked(fd: int) -> None:
        nonlocal finished, partial
        partial += load.buffer[: load.receive(fd)]
        if partial == answer.encode():
            finished += 1
            partial = b""
            load.send(fd, order)

    if point["work_ms"]:
        load.send(worker, order)
    payloads = [b"/ping x\n"] * len(others)
    schedule = Schedule(
        load,
        others,
        others,
        payloads,
        rate=point["rate"],
        warmup=parameters["warmup"],
        seconds=parameters["seconds"],
    )
    metrics = schedule.run(aside={worker: on_worked})
    delays = schedule.delays_ms()
    return {
        "metrics": metrics
        | {
            "p50_ms": summary.percentile(delays, 0.50),
            "p90_ms": summary.percentile(delays, 0.90),
            "p99_ms": summary.percentile(delays, 0.99),
            "max_ms": delays[-1],
            "works_per_s": finished / (parameters["warmup"] + parameters["seconds"]),
        }
    }


def tables(result: dict) -> list[summary.Table]:
    """Latency of the others, and how much work got done."""

    def label(point: dict) -> str:
        return f"/work {point['work_ms']}" if point["work_ms"] else "no /work"

    def busy(point: dict) -> bool:
        return point["work_ms"] > 0

    latencies = ("p50_ms", "p90_ms", "p99_ms", "max_ms")
    found = [summary.pivot(result, "work", metric, "beside", label) for metric in latencies]
    return [*found, summary.pivot(result, "work", "works_per_s", "beside", label, busy)]


def conclusion(result: dict) -> str:
    """Whose clients wait least beside a busy one."""
    busy = [point for point in summary.points(result, "work") if point["work_ms"]]
    shared = summary.last_shared(result, "work", busy, "p50_ms")
    if not shared:
        return ""
    p50 = summary.chain(result, "work", shared, "p50_ms")
    p99 = summary.chain(result, "work", shared, "p99_ms")
    best = summary.winners(result, "work", shared, "p50_ms")
    apart = len(best) < len(summary.servers(result, "work"))
    least = f"least at {' and '.join(best)}" if apart else "without a difference shown"
    return f"Beside /work {shared['work_ms']} the others wait {least}: median {p50}; p99 {p99}."
