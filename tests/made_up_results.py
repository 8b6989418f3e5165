"""A result of full size in which nothing was measured: for tests of what is made from results.

Its numbers are of the right sizes: select pays for idle connections, asyncio for each message, C
for next to nothing, and threads for their memory. A few of its cells are odd, one of each kind.
"""

import random

from benchmarks.arithmetic.results import SCHEMA, key
from benchmarks.experiments import EXPERIMENTS, module

ROUNDS = 5
SPREAD = 0.03  # of a trial around its cell's number
SERVERS = {  # id: kind, profile, model, µs for a message that comes alone, µs at saturation
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
ODD = {  # of this server, at the first point that has these values: a status, in so many trials
    ("ping", "v3_broadcast", ("rate", 40_000)): ("server-limited", ROUNDS),
    ("ping", "v4_asyncio", ("rate", 40_000)): ("client-limited", ROUNDS),
    ("ping", "c_threads", ("rate", 10_000)): ("disturbed", ROUNDS),
    ("ping", "c_select", ("rate", 2000)): ("disturbed", 1),
    ("fanout", "v4_asyncio", ("mode", "talk")): ("failed", 1),
    ("churn", "tutorial", ("concurrent", 10)): ("error", 2),
}


def server(name: str, kind="theirs", profile="chat", model="", version=None) -> dict:
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
    for experiment in EXPERIMENTS:
        about = module(experiment)
        for point in about.points(about.SIZES[size]):
            for entry in entries:
                if entry["kind"] not in about.KINDS or entry["profile"] not in about.PROFILES:
                    continue
                if not getattr(about, "takes", lambda *_: True)(entry, point):
                    continue
                place = {"experiment": experiment, "point": point, "server": entry["id"]}
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
            "memory_gib": 4.0,
            "server_cores": [0],
            "client_cores": [1],
            "pinned_apart": True,
            "descriptors": 20_000,
            "net.core.somaxconn": "4096",
            "load_before": [0.1, 0.1, 0.1],
        },
        "parameters": {
            "rounds": ROUNDS,
            "wait_limit": 0.05,
            "repeats_limit": 3,
            "experiments": {name: module(name).SIZES[size] for name in EXPERIMENTS},
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
    status, times = "ok", 0
    for (experiment, name, (wanted, value)), odd in ODD.items():
        here = (place["experiment"], place["server"], place["point"].get(wanted))
        if here == (experiment, name, value):
            status, times = odd
    usual = _metrics(place["server"], place["experiment"], place["point"])
    made = []
    for number in range(ROUNDS):
        metrics = {name: value * dice.lognormvariate(0, SPREAD) for name, value in usual.items()}
        now = status if number < times else "ok"
        trial = place | {
            "round": number,
            "status": now,
            "reason": None if now == "ok" else f"a made-up reason to be {now}",
            "seed": number,
            "repeats": 0,
            "took_s": 1.5,
            "finished": "2026-01-31T12:30:00Z",
            "metrics": {} if now in ("failed", "error") else metrics,
        }
        if place["experiment"] == "stall" and trial["metrics"]:
            trial["series"] = _stall_series(metrics, module("stall").SERIES)
        made.append(trial)
    return made


def _metrics(name: str, experiment: str, point: dict) -> dict[str, float]:
    """What this server's trials would be around."""
    kind, _, model, alone, together = SERVERS[name]
    by_select = name in SELECTING
    common = {
        "window_s": 1.0,
        "server_cpu_share": 0.5,
        "client_cpu_share": 0.3,
        "client_wait_share": 0.01,
        "server_wait_share": 0.01,
        "minor_faults": 3.0,
    }
    load = min(1.0, point.get("rate", 5000) * together / 1e6)
    cost = alone + (together - alone) * load
    queue = 0.05 * alone / 20 / max(0.02, 1 - load)
    latency = {
        "p50_ms": queue,
        "p90_ms": 1.7 * queue,
        "p95_ms": 2.5 * queue,
        "p99_ms": 5 * queue,
        "p999_ms": 11 * queue,
        "max_ms": 20 * queue,
    }
    wakeups = {"wakeups_per_message": max(0.05, 1 - load)}
    if experiment == "ping" and point["mode"] == "paced":
        kept = {"kept_share": 1.0, "offered_per_s": point["rate"], "messages": point["rate"]}
        return common | latency | wakeups | kept | {"server_cpu_us": cost}
    if experiment == "ping":
        full = {"server_cpu_us": together, "replies_per_s": 1e6 / together}
        return common | full | {"wakeups_per_message": 0.05}
    if experiment == "fanout" and point["mode"] == "flood":
        each = (3 if name != "v4_asyncio" else 4) + 12 / point["lines_per_send"]
        return common | {"server_cpu_us": each, "deliveries_per_s": 1e6 / each}
    if experiment == "fanout":
        wait = {metric: value * 20 for metric, value in latency.items()}
        return common | wakeups | wait | {"server_cpu_us": 6.0 if name == "v3_broadcast" else 10.0}
    if experiment == "idle":
        scan = 0.12 * point["idle"] / (1 if point["active"] == 1 else 4) if by_select else 0
        memory = {
            "rss_kib": 20 if name == "v1_threads" else 9 if "asyncio" in model else 2.0,
            "stack_kib": 16.0 if model == "threads" else 0.0,
            "socket_kib": 3.5,
        }
        memory |= {"memory_kib": sum(memory.values())}
        return common | latency | wakeups | {"server_cpu_us": alone + scan} | memory
    if experiment == "churn":
        return common | {
            "server_cpu_us": 10 * alone,
            "sessions_per_s": 1e5 / alone,
            "p50_ms": 0.1 * alone,
            "p99_ms": 0.4 * alone,
        }
    if experiment == "stall":
        held = {"v3_broadcast": 1010, "v4_asyncio": 1020, "tutorial": 4000}.get(name, 3.0)
        dropped = {} if name == "tutorial" else {"dropped_after_s": 1.2}
        still = {"stood_still_s": held / 1000, "rss_growth_mib": 0.5 if kind == "ours" else 20.0}
        return common | {"worst_delay_ms": float(held)} | still | dropped
    if experiment == "work":
        worse = {"select": 50, "broadcast": 50, "asyncio": 50}.get(model, 5)
        slow = point["workers"] and worse * (1 if worse == 5 else point["workers"] ** 0.5)
        slowed = {metric: value + slow for metric, value in latency.items()}
        return common | slowed | {"works_per_s": 20.0 if point["workers"] else 0.0}
    if experiment == "rush":
        return common | {
            "last_greeting_ms": 12.0 * alone,
            "median_greeting_ms": 6.0 * alone,
            "p50_ms": 2.0 * alone,
            "p99_ms": 8.0 * alone,
            "server_cpu_us": 9.0 * alone,
        }
    if experiment == "fairness":
        return common | latency | {"lines_per_s": 1e6 / together}
    if experiment == "cores":
        grown = 1.0
        return common | {"works_per_s": 19.0 * grown, "speedup": grown}
    return common | {"server_cpu_us": cost} | latency


def _stall_series(metrics: dict, names: tuple[str, ...]) -> dict[str, list[float | None]]:
    """A second before the stall, three seconds after it; everything stands still meanwhile."""
    times = [round(-1 + 0.1 * step, 1) for step in range(40)]
    still = metrics["stood_still_s"]
    within = [0 <= t < min(2.9, still) for t in times]
    held = [metrics["rss_growth_mib"] * max(0.0, min(t, 1.0)) for t in times]
    known = {
        "t_s": times,
        "deliveries_per_s": [0.0 if stands else 20_000.0 for stands in within],
        "worst_delay_ms": [
            None if t < 0.1 and stands else metrics["worst_delay_ms"] if stands else 2.0
            for t, stands in zip(times, within, strict=True)
        ],
        "rss_mib": [14.0 + grown for grown in held],
    }
    return {name: known[name] for name in names}


def cell_of(result: dict, experiment: str, point: dict, name: str) -> list[dict]:
    """The trials of a server at a point, to be changed."""
    return [
        trial
        for trial in result["trials"]
        if (trial["experiment"], trial["server"]) == (experiment, name)
        and key(trial["point"]) == key(point)
    ]
