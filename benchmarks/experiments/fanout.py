"""Question: how many deliveries a second, and how large a room, does each chat server manage?

Method, with every delivery counted: (a) flood: one client writes as fast as the server takes it, N
read; (b) talk: N clients do both; (c) paced: one client says a line at a fixed rate to N readers;
latency from the due time to the last reader, and the largest N whose p95 stays under a limit. For
(a) and (b) a bounded number of lines is under way (see `load.flood`).

Expect: no server to beat its own system calls, so (a) grows with N only as far as a server gathers
lines; v3, which sends each client one piece per turn, and v4, whose writer tasks do so too, to be
within reach of each other.
"""

from benchmarks import summary
from benchmarks.load import Load, Schedule, flood

TITLE = "Fan-out: one line to many"
QUESTION = "How many deliveries per second, and how large a room?"
PROFILES = ("chat",)
SIZES = {
    "smoke": {
        "seconds": 0.05,
        "warmup": 0.02,
        "paced_seconds": 0.1,
        "readers": [3],
        "talkers": [3],
        "paced_readers": [3],
        "rate": 50,
        "limit_ms": 20,
        "line_bytes": 64,
        "in_flight": 256,
        "batch": 16,
    },
    "quick": {
        "seconds": 0.4,
        "warmup": 0.2,
        "paced_seconds": 0.8,
        "readers": [100],
        "talkers": [50],
        "paced_readers": [100, 400],
        "rate": 50,
        "limit_ms": 20,
        "line_bytes": 64,
        "in_flight": 4096,
        "batch": 16,
    },
    "full": {
        "seconds": 1.0,
        "warmup": 0.4,
        "paced_seconds": 2.5,
        "readers": [10, 30, 100, 300],
        "talkers": [10, 50],
        "paced_readers": [100, 200, 400, 800, 1600],
        "rate": 50,
        "limit_ms": 20,
        "line_bytes": 64,
        "in_flight": 4096,
        "batch": 16,
    },
}


def points(parameters: dict) -> list[dict]:
    """Readers of one flooding sender, talkers, readers of a paced sender."""
    return (
        [{"mode": "flood", "readers": readers} for readers in parameters["readers"]]
        + [{"mode": "talk", "clients": clients} for clients in parameters["talkers"]]
        + [
            {"mode": "paced", "readers": readers, "rate": parameters["rate"]}
            for readers in parameters["paced_readers"]
        ]
    )


def drive(load: Load, point: dict, parameters: dict) -> dict:
    """One trial, in the load generator's process."""
    if point["mode"] == "talk":
        senders = receivers = load.connect(point["clients"])
        names = load.join(senders)
    else:
        *receivers, sender = load.connect(point["readers"] + 1)
        names = load.join([*receivers, sender])
        senders = [sender]
    # All names are of one length, and so are all lines as they are delivered: `NAME: TEXT` LF.
    line = b"x" * (parameters["line_bytes"] - len(names[0]) - 3) + b"\n"
    if point["mode"] == "paced":
        return {"metrics": paced(load, senders, receivers, line, point, parameters)}
    return {
        "metrics": flood(
            load,
            senders,
            receivers,
            line,
            batch=parameters["batch"],
            in_flight=parameters["in_flight"],
            warmup=parameters["warmup"],
            seconds=parameters["seconds"],
        )
    }


def paced(
    load: Load,
    senders: list[int],
    receivers: list[int],
    line: bytes,
    point: dict,
    parameters: dict,
) -> dict[str, float]:
    """One line at a time, due at a fixed rate, until the last reader has it."""
    schedule = Schedule(
        load,
        senders,
        receivers,
        [line],
        rate=point["rate"],
        warmup=parameters["warmup"],
        seconds=parameters["paced_seconds"],
        broadcast=True,
    )
    metrics = schedule.run()
    delays = schedule.delays_ms()
    return metrics | {
        "p50_ms": summary.percentile(delays, 0.50),
        "p95_ms": summary.percentile(delays, 0.95),
        "max_ms": delays[-1],
    }


def tables(result: dict) -> list[summary.Table]:
    """Deliveries and cost under flood, then delay to the last reader."""

    def flooded(point: dict) -> bool:
        return point["mode"] != "paced"

    def is_paced(point: dict) -> bool:
        return point["mode"] == "paced"

    def label(point: dict) -> str:
        if point["mode"] == "talk":
            return f"{point['clients']} talk"
        return f"1 to {point['readers']}"

    cost = "Server CPU time per delivery"
    delay = f"Delay p95 to the last reader at {parameters_of(result)['rate']} lines per second"
    return [
        summary.pivot(result, "fanout", "deliveries_per_s", "who", label, flooded),
        summary.pivot(result, "fanout", "server_cpu_us", "who", label, flooded, cost),
        summary.pivot(result, "fanout", "p95_ms", "who", label, is_paced, delay),
    ]


def parameters_of(result: dict) -> dict:
    """The parameters this experiment ran with."""
    return result["parameters"]["experiments"]["fanout"]


def conclusion(result: dict) -> str:
    """Who delivers most, and the largest room within the limit."""
    sentences = []
    for mode, who in (
        ("flood", "From one sender to {readers}"),
        ("talk", "With {clients} talking"),
    ):
        candidates = [p for p in summary.points(result, "fanout") if p["mode"] == mode]
        shared = summary.last_shared(result, "fanout", candidates, "deliveries_per_s")
        if shared:
            chain = summary.chain(result, "fanout", shared, "deliveries_per_s")
            sentences.append(f"{who.format(**shared)}: {chain}.")
    limit = parameters_of(result)["limit_ms"]
    paced_points = [p for p in summary.points(result, "fanout") if p["mode"] == "paced"]
    rooms = []
    for entry in summary.servers(result, "fanout"):
        held, broke, why = summary.reach(
            result, "fanout", paced_points, entry["id"], "p95_ms", limit
        )
        beyond = "the largest tried"
        if broke:
            beyond = f"{'not' if why == 'over' else f'{why} at'} {broke['readers']:,}"
        size = f"{held['readers']:,} readers" if held else "none"
        rooms.append(f"{entry['id']} {size} ({beyond})")
    if paced_points and rooms:
        sentences.append(f"Largest room with p95 within {limit:g} ms: {', '.join(rooms)}.")
    return " ".join(sentences)
