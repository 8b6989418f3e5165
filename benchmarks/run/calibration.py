"""Whether the machine is quiet: a fixed piece of work, timed many times on each core of a run.

On a quiet machine each piece takes about as long as the fastest one. Where others compute on that
core, or on the hardware below a virtual one, some take longer. A run checks that before it measures
anything, and again after each trial.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from benchmarks.result.statistics import percentile
from benchmarks.run.machine import pinned

PIECES = 40  # on each core
# Between two pieces, because a busy neighbour comes and goes within a second. A look at a stretch
# would find it away sooner or later.
SPACE = 0.05  # seconds
ROUNDS_OF_A_PIECE = 400_000  # some milliseconds of Python
# On a quiet machine, nine pieces of ten take at most this much longer than the fastest one.
QUIET = 0.10
PATIENCE = {"smoke": 0.0, "quick": 10.0, "full": 300.0}  # seconds of pauses and further looks
PAUSE = 2.0  # seconds between two looks
LATELY = 20.0  # seconds: what lasts longer is no passing neighbour


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
            f"The machine is not quiet after {self.waited_s:.0f} s of waiting: {found};"
            f" the limit is {QUIET:.0%}. The numbers will say less."
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
        began = time.monotonic()
        fastest, spread = look(cores)
        took = time.monotonic() - began
        is_quiet = spread <= QUIET
        if is_quiet or waited >= PATIENCE[size]:
            return Calibration(round(fastest, 3), round(spread, 3), is_quiet, waited)
        report(
            f"waiting for a quiet machine: nine pieces of ten took up to {spread:.1%} longer than"
            f" the fastest; the limit is {QUIET:.0%}"
        )
        sleep(PAUSE)
        waited = round(waited + PAUSE + took, 1)


def look_at(cores: Sequence[int]) -> tuple[float, float]:
    """(milliseconds of the fastest piece, the spread of the worst core)."""
    pins = _pins(cores)
    times: list[list[float]] = [[] for _ in pins]
    for _ in range(PIECES):
        for pin, of_core in zip(pins, times, strict=True):
            of_core += time_pieces(pin, 1)
        time.sleep(SPACE)
    fastest = min(map(min, times))
    spreads = [percentile(sorted(of_core), 0.9) / min(of_core) - 1 for of_core in times]
    return fastest * 1000, max(spreads)


class Pace:
    """Whether cores are as fast as they have lately been.

    Others slow a core down without taking it: whoever computes on its other hardware thread halves
    its speed. No clock of the system shows that. A machine that gets slower for good (it is hot,
    say) does so for all servers alike: soon that is its pace.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        # When each look was, and how long a piece took.
        self.looks: list[tuple[float, float]] = []

    def slowdown(self, cores: Sequence[int]) -> float:
        """How many times as long as lately at its fastest a piece takes, on the slowest core."""
        # One of the pieces may be interrupted by something short.
        took = max(min(time_pieces(pin, 2)) for pin in _pins(cores))
        now = self.clock()
        self.looks = [look for look in self.looks if look[0] > now - LATELY] + [(now, took)]
        return took / min(took for _, took in self.looks)


def _pins(cores: Sequence[int]) -> list[list[int]]:
    """Each core for itself. Where none can be chosen it is whichever there is."""
    return [[core] for core in cores] or [[]]


def time_pieces(pin: list[int], count: int) -> list[float]:
    """Do the piece of work so often on a core; returns the seconds of each by the wall clock."""
    with pinned(pin):
        # A core that has slept is slower at first, by a quarter here. That is no neighbour.
        time_a_piece()
        return [time_a_piece() for _ in range(count)]


def time_a_piece() -> float:
    begin = time.perf_counter()
    for _ in range(ROUNDS_OF_A_PIECE):
        pass
    return time.perf_counter() - begin
