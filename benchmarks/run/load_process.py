"""The load generator's process: one of its own for each trial, pinned, single-threaded.

The runner starts `python -m benchmarks.run.load_process`, writes one TrialOrder to its standard
input and reads one Outcome from its standard output, both pickled.
"""

import contextlib
import gc
import os
import pickle
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.experiments.catalogue import EXPERIMENTS
from benchmarks.experiments.experiment import Parameters, Point
from benchmarks.load.connections import Broken, Load, Lost, Refused
from benchmarks.result.status import Outcome, Status


@dataclass(frozen=True)
class TrialOrder:
    """What the generator is to do to a server. `cores` are its own."""

    experiment: str
    point: Point
    parameters: Parameters
    seed: int
    address: tuple[str, int]
    profile: str
    pid: int
    server_cores: list[int]
    cores: list[int]
    patience: float


def perform(order: TrialOrder) -> Outcome:
    """Run one trial's load as ordered. Whatever the server does is an outcome."""
    try:
        load = Load(order.address, order.profile, order.pid, order.patience, order.server_cores)
        drive = EXPERIMENTS[order.experiment].drive
        return drive(load, order.point, order.parameters, order.seed)
    except Refused as refused:
        return Outcome(Status.REFUSED, str(refused), held=refused.held)
    except Lost as lost:
        return Outcome(Status.FAILED, str(lost))
    except Broken as broken:
        return Outcome(Status.ERROR, str(broken))
    # A connection was refused or reset, or there are no more descriptors or ports.
    except OSError as error:
        return Outcome(Status.ERROR, f"{error.strerror or error}")


def main() -> None:
    order: TrialOrder = pickle.load(sys.stdin.buffer)
    if order.cores:
        os.sched_setaffinity(0, order.cores)
    # Only Linux has it; elsewhere waits are as coarse as they are.
    with contextlib.suppress(OSError):
        Path("/proc/self/timerslack_ns").write_text("1")
    gc.disable()
    pickle.dump(perform(order), sys.stdout.buffer)


if __name__ == "__main__":
    main()
