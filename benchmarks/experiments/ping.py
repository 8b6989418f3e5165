"""Question: what does one request cost in each model, and when does the queue start to grow?

Method: `/ping` round trips. (a) Closed loop: 1 to 1000 clients, each with one request under way;
replies per second, and server CPU time per message. (b) Open loop: 50 clients, requests due at a
fixed rate; latency from the due time to the answer (wrk2's correction), percentiles from all raw
samples.

Expect: the loops of v2 and v3 to be the cheapest; threads to pay for handing the interpreter's lock
around, asyncio for its layers. Latency stays flat up to a knee, and behind it only the length of
the measurement limits it.
"""

from benchmarks import summary
from benchmarks.load import Load, Schedule, ask_in_turn

TITLE = "Ping: capacity and latency of one request"
QUESTION = "What does a request cost, and at which rate does the queue start to grow?"
PROFILES = ("echo", "chat")
TEXT = "0123456789abcdef"
KNEE_MS = 10.0  # the p99 up to which a version keeps up with a rate
SIZES = {
    "smoke": {"seconds": 0.05, "warmup": 0.02, "clients": [5], "open_clients": 5, "rates": [500]},
    "quick": {
        "seconds": 0.3,
        "warmup": 0.15,
        "clients": [1, 100],
        "open_clients": 50,
        "rates": [10_000, 40_000, 80_000],
    },
    "full": {
        "seconds": 1.0,
        "warmup": 0.3,
        "clients": [1, 10, 100, 500, 1000],
        "open_clients": 50,
        "rates": [10_000, 20_000, 40_000, 60_000, 80_000, 100_000],
    },
}


def points(parameters: dict) -> list[dict]:
    """Numbers of clients for (a), offered rates for (b)."""
    closed = [{"mode": "closed", "clients": clients} for clients in parameters["clients"]]
    clients = parameters["open_clients"]
    return closed + [
        {"mode": "open", "clients": clients, "rate": rate} for rate in parameters["rates"]
    ]


def drive(load: Load, point: dict, parameters: dict) -> dict:
    """One trial, in the load generator's process."""
    clients = load.connect(point["clients"])
    load.join(clients)
    warmup, seconds = parameters["warmup"], parameters["seconds"]
    if point["mode"] == "closed":
        return {"metrics": ask_in_turn(load, clients, TEXT, warmup, seconds)}
    payloads = [f"/ping {TEXT}\n".encode()] * len(clients)
    schedule = Schedule(
        load, clients, clients, payloads, rate=point["rate"], warmup=warmup, seconds=seconds
    )
    metrics = schedule.run()
    delays = schedule.delays_ms()
    return {
        "metrics": metrics
        | {
            "p50_ms": summary.percentile(delays, 0.50),
            "p90_ms": summary.percentile(delays, 0.90),
            "p99_ms": summary.percentile(delays, 0.99),
            "max_ms": delays[-1],
            "uncorrected_p99_ms": summary.percentile(schedule.uncorrected_ms(), 0.99),
        }
    }


def tables(result: dict) -> list[summary.Table]:
    """Capacity and cost by clients, latency by offered rate."""

    def closed(point: dict) -> bool:
        return point["mode"] == "closed"

    def open_loop(point: dict) -> bool:
        return point["mode"] == "open"

    def clients(point: dict) -> str:
        return str(point["clients"])

    def rate(point: dict) -> str:
        return summary.number(point["rate"])

    return [
        summary.pivot(result, "ping", "replies_per_s", "clients", clients, closed),
        summary.pivot(result, "ping", "server_cpu_us", "clients", clients, closed),
        summary.pivot(result, "ping", "p50_ms", "offered per s", rate, open_loop),
        summary.pivot(result, "ping", "p99_ms", "offered per s", rate, open_loop),
        summary.pivot(result, "ping", "max_ms", "offered per s", rate, open_loop),
    ]


def conclusion(result: dict) -> str:
    """Who pays least per message, and who keeps up with which rate."""
    sentences = []
    closed = [p for p in summary.points(result, "ping") if p["mode"] == "closed"]
    shared = summary.last_shared(result, "ping", closed, "server_cpu_us")
    if shared:
        chain = summary.chain(result, "ping", shared, "server_cpu_us")
        sentences.append(f"With {shared['clients']} clients a message costs {chain}.")
    offered = [p for p in summary.points(result, "ping") if p["mode"] == "open"]
    kept = []
    for entry in summary.servers(result, "ping"):
        held, broke, why = summary.reach(result, "ping", offered, entry["id"], "p99_ms", KNEE_MS)
        if held:
            beyond = "the highest rate tried"
            if broke:
                said = "not" if why == "over" else f"{why} at"
                beyond = f"{said} {summary.number(broke['rate'])}/s"
            kept.append(f"{entry['id']} up to {summary.number(held['rate'])}/s ({beyond})")
    if kept:
        sentences.append(f"p99 stays within {KNEE_MS:g} ms for {', '.join(kept)}.")
    return " ".join(sentences)
