"""The load generator's process: one of its own for each trial, pinned, single-threaded.

The runner starts `python -m benchmarks.load.process`, writes one JSON order to its standard input
and reads one JSON outcome from its standard output. An order holds "experiment", "point",
"parameters", "seed", "address", "profile" and "pid" of the server, "server_cores", "cores" (our
own), "patience".
"""

import contextlib
import gc
import importlib
import json
import os
import sys
from pathlib import Path

from benchmarks.load.connections import Broken, Load, Lost, Refused


def perform(order: dict) -> dict:
    """Run one trial's load as ordered; returns "status", "metrics", and "reason", "series"."""
    experiment = importlib.import_module(f"benchmarks.experiments.{order['experiment']}")
    try:
        load = Load(
            tuple(order["address"]),
            order["profile"],
            order["pid"],
            order["patience"],
            order["server_cores"],
        )
        outcome = experiment.drive(load, order["point"], order["parameters"], order["seed"])
        return {"status": "ok", **outcome}
    except Refused as refused:
        return {"status": "refused", "held": refused.args[0], "reason": "! server full"}
    except Lost as lost:
        return {"status": "failed", "reason": str(lost)}
    except Broken as broken:
        return {"status": "error", "reason": str(broken)}
    except OSError as error:  # connection refused or reset, out of descriptors or ports
        return {"status": "error", "reason": f"{error.strerror or error}"}


def main() -> None:
    """Read the order, keep to the given cores, perform it, write the outcome."""
    order = json.load(sys.stdin)
    if order["cores"]:
        os.sched_setaffinity(0, order["cores"])
    with contextlib.suppress(OSError):  # not Linux: waits are then as coarse as they are
        Path("/proc/self/timerslack_ns").write_text("1")
    gc.disable()
    json.dump(perform(order), sys.stdout)


if __name__ == "__main__":
    main()
