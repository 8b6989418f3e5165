"""A result of full size in which nothing was measured: for tests of what is made from results.

Its numbers are of the right sizes: select pays for idle connections, asyncio for each message, C
for next to nothing, and threads for their memory. A few of its cells are odd, one of each kind.
"""

import random

from benchmarks.experiments.catalogue import EXPERIMENTS
from benchmarks.result.file import SCHEMA
from benchmarks.result.view import key

ROUNDS = 5
# Of a trial around its cell's number.
SPREAD = 0.03
# By id: kind, profile, model, µs for a message that comes alone, µs at saturation.
SERVERS = {
    "v1_threads": ("ours", "echo", "threads", 25, 16),
    "v2_select": ("ours", "echo", "select", 36, 9),
    "v3_broadcast": ("ours", "chat", "broadcast", 38, 10),
    "v4_asyncio": ("ours", "chat", "asyncio", 35, 20),
    "c_threads": ("floor", "echo", "threads", 14, 6),
    "c_select": ("floor", "echo", "select", 20, 3),
    "c_epoll": ("floor", "echo", "epoll", 23, 2.5),
    "tutorial": ("tutorial", "chat", "asyncio", 33, 17),
}
SELECTING = ("v2_select", "v3_broadcast", "c_select")
MOST_BY_SELECT = 1000
# So many times the median.
LATENCIES = {"p50_ms": 1, "p90_ms": 1.7, "p99_ms": 5, "max_ms": 20}
# How long the others wait, in ms, for one that stops reading.
HELD = {"v3_broadcast": 1010, "v4_asyncio": 1020, "tutorial": 4000}
# Of this server, at the points that have this value: a status, in so many trials.
ODD = {
    ("ping", "v3_broadcast", ("rate", 40_000)): ("server-limited", ROUNDS),
    ("ping", "v4_asyncio", ("rate", 40_000)): ("client-limited", ROUNDS),
    ("ping", "c_threads", ("rate", 10_000)): ("disturbed", ROUNDS),
    ("ping", "c_select", ("rate", 2000)): ("disturbed", 1),
    ("fanout", "v4_asyncio", ("mode", "talk")): ("failed", 1),
    ("rush", "c_select", ("clients", 900)): ("error", 2),
}


def server(
    name: str,
    kind: str = "theirs",
    profile: str = "chat",
    model: str = "",
    version: str | None = None,
) -> dict:
    """An entry of `servers`."""
    is_python = kind in ("ours", "tutorial")
    return {
        "id": name,
        "label": f"C {model}" if kind == "floor" else name,
        "profile": profile,
        "kind": kind,
        "model": model,
        "version": version,
        "command": ["python3", "server.py"] if is_python else [f"/tmp/{name}", "0"],
        "python": "/usr/bin/python3" if is_python else None,
        "python_build": "CPython 3.11.7 (GCC 12.2.0)" if is_python else None,
        "gil": "on" if is_python else None,
    }


def make_result(size: str = "full") -> dict:
    """The same result whenever it is asked for."""
    dice = random.Random(7)
    entries = [
        server(name, kind, profile, model, name if kind == "ours" else None)
        for name, (kind, profile, model, *_) in SERVERS.items()
    ]
    trials, refusals = [], []
    for name, about in EXPERIMENTS.items():
        for point in about.points(about.sizes[size]):
            for entry in entries:
                if not about.measures(entry["profile"], entry["kind"], point):
                    continue
                place = {"experiment": name, "point": point, "server": entry["id"]}
                if entry["id"] in SELECTING and about.clients_needed(point) > MOST_BY_SELECT:
                    reason = "! server full"
                    refusals.append(place | {"held": MOST_BY_SELECT, "reason": reason})
                else:
                    trials += _trials(place, dice)
    return {
        "schema": SCHEMA,
        "kind": "run",
        "size": size,
        "started": "2026-01-31T12:00:00Z",
        "finished": "2026-01-31T13:30:00Z",
        "interrupted": False,
        "command": ["python3", "-m", "benchmarks"],
        "commit": "0123abc",
        "dirty": False,
        "seed": 7,
        "machine": {
            "system": "Linux",
            "kernel": "6.1",
            "cpu": "Made-up CPU",
            "cores": 2,
            "server_cores": [0],
            "client_cores": [1],
            "pinned_apart": True,
            "descriptors": 20_000,
            "load_before": [0.1, 0.1, 0.1],
        },
        "parameters": {
            "rounds": ROUNDS,
            "wait_limit": 0.05,
            "repeats_limit": 3,
            "experiments": {name: about.sizes[size] for name, about in EXPERIMENTS.items()},
        },
        "servers": entries,
        "missing": [],
        "conformance": [
            {"server": entry["id"], "passed": True, "reason": None} for entry in entries
        ],
        "trials": trials,
        "refusals": refusals,
    }


def _trials(place: dict, dice: random.Random) -> list[dict]:
    odd_status, odd_trials = "ok", 0
    for (odd_experiment, name, (wanted, value)), odd in ODD.items():
        here = (place["experiment"], place["server"], place["point"].get(wanted))
        if here == (odd_experiment, name, value):
            odd_status, odd_trials = odd
    usual = _metrics(place["server"], place["experiment"], place["point"])
    trials = []
    for number in range(ROUNDS):
        metrics = {name: value * dice.lognormvariate(0, SPREAD) for name, value in usual.items()}
        status = odd_status if number < odd_trials else "ok"
        trial = place | {
            "round": number,
            "status": status,
            "reason": None if status == "ok" else f"a made-up reason to be {status}",
            "seed": number,
            "repeats": 0,
            "took_s": 1.5,
            "finished": "2026-01-31T12:30:00Z",
            "metrics": {} if status in ("failed", "error") else metrics,
        }
        if place["experiment"] == "stall":
            trial["series"] = _stall_series(metrics)
        trials.append(trial)
    return trials


def _metrics(name: str, tested: str, point: dict) -> dict[str, float]:
    """What this server's trials would be around: what all experiments have, and its own."""
    kind, _, model, alone, together = SERVERS[name]
    saturated = point.get("mode") == "saturated"
    load = 1.0 if saturated else min(1.0, point.get("rate", 5000) * together / 1e6)
    queue_ms = 0.0025 * alone / max(0.02, 1 - load)
    # For /work: threads take turns every 5 ms, a loop stands still.
    standing_ms = (5 if model == "threads" else 50) * min(1, point.get("workers", 0))
    waits = {metric: factor * queue_ms + standing_ms for metric, factor in LATENCIES.items()}
    delivery = (6 if name == "v3_broadcast" else 10) / point.get("lines_per_send", 1) ** 0.5
    scanned = point.get("idle", 0) / (1 if point.get("active") == 1 else 4)
    memory = {
        "rss_kib": 20 if name == "v1_threads" else 9 if "asyncio" in model else 2.0,
        "stack_kib": 16.0 if model == "threads" else 0.0,
        "socket_kib": 3.5,
    }
    usual = {
        "server_cpu_us": alone + (together - alone) * load,
        "wakeups_per_message": max(0.05, 1 - load),
        **waits,
    }
    own = {
        "ping": {"replies_per_s": 1e6 / together},
        "fanout": {"server_cpu_us": delivery, "deliveries_per_s": 1e6 / delivery},
        "idle": {
            "server_cpu_us": alone + 0.12 * scanned * (name in SELECTING),
            "memory_kib": sum(memory.values()),
            **memory,
        },
        "churn": {"server_cpu_us": 10 * alone, "sessions_per_s": 1e5 / alone},
        "stall": {
            "worst_delay_ms": HELD.get(name, 3.0),
            "stood_still_s": HELD.get(name, 3.0) / 1000,
            "rss_growth_mib": 0.5 if kind == "ours" else 20.0,
            **({} if name == "tutorial" else {"dropped_after_s": 1.2}),
        },
        "work": {"works_per_s": 20.0},
        "rush": {"last_greeting_ms": 12.0 * alone, "median_greeting_ms": 6.0 * alone},
        "fairness": {"lines_per_s": 1e6 / together},
        "cores": {"works_per_s": 19.0},
    }
    return usual | own[tested]


def _stall_series(metrics: dict) -> dict[str, list[float | None]]:
    """A second before the stall, three seconds after it; everything stands still meanwhile."""
    times = [round(-1 + 0.1 * step, 1) for step in range(40)]
    still = [0 <= t < metrics["stood_still_s"] for t in times]
    return {
        "t_s": times,
        "deliveries_per_s": [0.0 if stands else 20_000.0 for stands in still],
        "worst_delay_ms": [None if stands else metrics["worst_delay_ms"] for stands in still],
        "rss_mib": [14.0 + metrics["rss_growth_mib"] * max(0.0, min(t, 1.0)) for t in times],
    }


def cell_of(result: dict, name: str, point: dict, server_id: str) -> list[dict]:
    """The trials of a server at a point of an experiment, to be changed."""
    return [
        trial
        for trial in result["trials"]
        if (trial["experiment"], trial["server"]) == (name, server_id)
        and key(trial["point"]) == key(point)
    ]
