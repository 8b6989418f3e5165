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

from benchmarks.load.connections import Load
from benchmarks.load.paced import Paced
from benchmarks.load.saturated import closed_loop, numbered_pings

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
