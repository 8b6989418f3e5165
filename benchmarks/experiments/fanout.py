"""Question: what does it cost to pass a line on to many?

Method: every line is numbered, every delivery checked. Paced is the main result: one client says
lines at random moments of a fixed rate to N readers; CPU time per delivery, delay from the due
time to the last reader. Talk: 50 clients do so among themselves. Flood: one says lines as fast as
the server takes them, so many in each send: what can be glued together, and what that saves.

Expect: paced, a delivery to cost little more than its system call, and the loop that makes it at
once to win; what has to wake a task for each reader pays for that. Flooded, the more lines come
with one send, the more a server gathers into one call, and the cheaper each of them gets.
"""

from benchmarks.load.connections import Load
from benchmarks.load.paced import Paced
from benchmarks.load.saturated import flood

TITLE = "Fan-out: one line to many"
QUESTION = "What does it cost to pass a line on to many, and how long does the last one wait?"
PROFILES = ("chat",)
KINDS = ("ours", "tutorial", "theirs")
LINE_BYTES = 64
SIZES = {
    "smoke": {
        "seconds": 0.1,
        "warmup": 0.02,
        "paced_seconds": 0.1,
        "rooms": [5],
        "rate": 50,
        "talkers": [5],
        "talk_rate": 100,
        "flooded_readers": 5,
        "lines_per_send": [4],
    },
    "quick": {
        "seconds": 0.4,
        "warmup": 0.1,
        "paced_seconds": 0.6,
        "rooms": [100],
        "rate": 50,
        "talkers": [],
        "talk_rate": 200,
        "flooded_readers": 100,
        "lines_per_send": [16],
    },
    "full": {
        "seconds": 1.0,
        "warmup": 0.3,
        "paced_seconds": 2.0,
        "rooms": [100, 300, 900],
        "rate": 50,
        "talkers": [50],
        "talk_rate": 200,
        "flooded_readers": 100,
        "lines_per_send": [1, 16, 64],
    },
}


def points(parameters: dict) -> list[dict]:
    """Readers of a paced sender, talkers, lines in each send of a flooding one."""
    rooms, talkers, batches = (parameters[key] for key in ("rooms", "talkers", "lines_per_send"))
    flooded = parameters["flooded_readers"]
    return [
        *({"mode": "paced", "readers": room, "rate": parameters["rate"]} for room in rooms),
        *(
            {"mode": "talk", "clients": clients, "rate": parameters["talk_rate"]}
            for clients in talkers
        ),
        *({"mode": "flood", "readers": flooded, "lines_per_send": lines} for lines in batches),
    ]


def clients_needed(point: dict) -> int:
    """How many connections a point opens."""
    return point["clients"] if point["mode"] == "talk" else point["readers"] + 1


def seconds(point: dict, parameters: dict) -> float:
    """How long the load of one trial takes."""
    window = "seconds" if point["mode"] == "flood" else "paced_seconds"
    return parameters["warmup"] + parameters[window]


def drive(load: Load, point: dict, parameters: dict, seed: int) -> dict:
    """One trial, in the load generator's process."""
    clients = load.connect(clients_needed(point))
    names = load.join(clients)
    if point["mode"] == "flood":
        return flood(
            load,
            clients[0],
            clients[1:],
            names[0],
            line_bytes=LINE_BYTES,
            lines_per_send=point["lines_per_send"],
            warmup=parameters["warmup"],
            seconds=parameters["seconds"],
        )
    talk = point["mode"] == "talk"
    return Paced(
        load,
        clients if talk else clients[:1],
        names=names if talk else names[:1],
        receivers=clients if talk else clients[1:],
        line_bytes=LINE_BYTES,
        rate=point["rate"],
        warmup=parameters["warmup"],
        seconds=parameters["paced_seconds"],
        seed=seed,
    ).run()
