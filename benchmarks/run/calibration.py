"""Whether the machine is quiet: a fixed piece of work, timed many times on each core of a run.

On a quiet machine each piece takes about as long as the fastest one. Where others compute on that
core, or the system slows it down, some take longer. A run checks that before it measures anything.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from benchmarks.result.statistics import percentile
from benchmarks.run.machine import pinned

PIECES = 40  # on each core
ROUNDS_OF_A_PIECE = 400_000  # some milliseconds of Python
# On a quiet machine, nine pieces of ten take at most this much longer than the fastest one.
QUIET = 0.10
PATIENCE = {"smoke": 0.0, "quick": 30.0, "full": 300.0}  # seconds of pauses
PAUSE = 2.0  # seconds between two looks


@dataclass(frozen=True)
class Calibration:
    """How long a piece took at its fastest, how much longer nine of ten took, and the wait.

    `spread` is a share: 0.05 is 5 % longer. It is that of the worst core.
    """

    fastest_ms: float
    spread: float
    is_quiet: bool
    waited_s: float

    def as_json(self) -> dict[str, float | bool]:
        """What stands in the file."""
        return asdict(self)

    @property
    def text(self) -> str:
        """What it says, in a sentence."""
        found = (
            f"a piece of work took {self.fastest_ms:.1f} ms at its fastest, and nine of ten took up"
            f" to {self.spread:.1%} longer"
        )
        if self.is_quiet:
            return f"The machine is quiet: {found}."
        return (
            f"The machine is not quiet after {self.waited_s:.0f} s of waiting: {found}, and"
            f" {QUIET:.0%} would be quiet. The numbers will say less."
        )


def wait_until_quiet(
    cores: Sequence[int],
    size: str,
    report: Callable[[str], None],
    look: Callable[[Sequence[int]], tuple[float, float]] | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Calibration:
    """Look at these cores until they are quiet, or the patience of this size of run is over."""
    look = look or look_at
    waited = 0.0
    while True:
        fastest, spread = look(cores)
        is_quiet = spread <= QUIET
        if is_quiet or waited >= PATIENCE[size]:
            return Calibration(round(fastest, 3), round(spread, 3), is_quiet, waited)
        report(
            f"waiting for a quiet machine: nine pieces of ten took up to {spread:.1%} longer than"
            f" the fastest, and {QUIET:.0%} would be quiet"
        )
        sleep(PAUSE)
        waited += PAUSE


def look_at(cores: Sequence[int]) -> tuple[float, float]:
    """(milliseconds of the fastest piece, the spread of the worst core)."""
    fastest, spread = math.inf, 0.0
    # Where no core can be chosen, look once.
    for pin in [[core] for core in cores] or [[]]:
        with pinned(pin):
            times = sorted(time_a_piece() for _ in range(PIECES))
        fastest = min(fastest, times[0])
        spread = max(spread, percentile(times, 0.9) / times[0] - 1)
    return fastest * 1000, spread


def time_a_piece() -> float:
    """Do the piece of work; returns its seconds by the wall clock."""
    begin = time.perf_counter()
    for _ in range(ROUNDS_OF_A_PIECE):
        pass
    return time.perf_counter() - begin
