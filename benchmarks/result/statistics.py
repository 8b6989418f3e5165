"""Percentiles, medians, and how many times one thing is another: with an interval, or not at all.

What slows a machine down does so by a factor. So differences are taken between logarithms, their
mean gets an interval, and both are turned back. Servers that were measured in the same rounds are a
randomised block design, see Blocks. Two files have no rounds in common; they get the interval for
two independent groups (Welch's).
"""

import itertools
import math
import operator
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

median = statistics.median
FEWEST = 3  # rounds for an interval: two values of anything say next to nothing
FEWEST_FOR_AN_ERROR = 5  # rounds: fewer say next to nothing of the error of a single server
UNLIKE = 4.0  # times the others' standard deviation: that server does not share their error
NOT_SHOWN = "no difference shown"
TOO_FEW = "too few rounds to tell"
# Quantiles of Tukey's studentised range for 95 %, divided by the root of 2, by the number of
# servers that are compared, for each of these degrees of freedom. Between two of them the lower one
# is used, and beyond the table its last one: an interval is never too short. For two servers they
# are those of Student's t.
TUKEY_FREEDOM = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16, 18, 20, 24, 30, 40, 60, 120)
TUKEY_95 = {
    2: (
        *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
        *(2.179, 2.145, 2.120, 2.101, 2.086, 2.064, 2.042, 2.021, 2.000, 1.980),
    ),
    3: (
        *(19.075, 5.891, 4.179, 3.564, 3.254, 3.069, 2.946, 2.858, 2.793, 2.742),
        *(2.668, 2.618, 2.581, 2.553, 2.530, 2.498, 2.466, 2.434, 2.404, 2.374),
    ),
    4: (
        *(23.207, 6.929, 4.826, 4.071, 3.690, 3.462, 3.311, 3.203, 3.122, 3.060),
        *(2.969, 2.907, 2.862, 2.827, 2.799, 2.759, 2.720, 2.681, 2.643, 2.606),
    ),
    5: (
        *(26.221, 7.695, 5.305, 4.446, 4.012, 3.752, 3.579, 3.455, 3.363, 3.292),
        *(3.188, 3.116, 3.064, 3.024, 2.993, 2.947, 2.901, 2.857, 2.813, 2.770),
    ),
    6: (
        *(28.573, 8.298, 5.684, 4.743, 4.266, 3.980, 3.790, 3.654, 3.553, 3.474),
        *(3.359, 3.280, 3.223, 3.179, 3.144, 3.092, 3.042, 2.993, 2.944, 2.897),
    ),
    7: (
        *(30.490, 8.793, 5.996, 4.987, 4.476, 4.169, 3.964, 3.818, 3.709, 3.624),
        *(3.500, 3.415, 3.353, 3.305, 3.267, 3.212, 3.157, 3.104, 3.051, 2.999),
    ),
    8: (
        *(32.101, 9.212, 6.260, 5.195, 4.655, 4.330, 4.113, 3.958, 3.841, 3.751),
        *(3.620, 3.529, 3.463, 3.412, 3.372, 3.312, 3.254, 3.197, 3.141, 3.086),
    ),
    9: (
        *(33.487, 9.574, 6.489, 5.376, 4.810, 4.469, 4.241, 4.079, 3.957, 3.862),
        *(3.724, 3.628, 3.558, 3.504, 3.462, 3.399, 3.338, 3.278, 3.218, 3.160),
    ),
    10: (
        *(34.699, 9.892, 6.691, 5.535, 4.946, 4.592, 4.355, 4.185, 4.058, 3.959),
        *(3.815, 3.715, 3.642, 3.586, 3.542, 3.476, 3.412, 3.348, 3.286, 3.225),
    ),
}


def percentile(ordered: Sequence[float], fraction: float) -> float:
    """The nearest-rank percentile of an ascending, non-empty sequence: always a real sample."""
    return ordered[max(1, math.ceil(fraction * len(ordered))) - 1]


@dataclass(frozen=True)
class Ratio:
    """How many times one thing is another; `low` and `high` are None where no interval is known.

    `value` is None where not even that can be said (something was 0).
    """

    value: float | None
    low: float | None = None
    high: float | None = None

    @property
    def shown(self) -> bool:
        """Whether there is a difference: an interval that does not hold 1."""
        return self.low is not None and self.high is not None and not self.low <= 1 <= self.high

    @property
    def reach(self) -> float | None:
        """How far its interval reaches on either side, as a logarithm; None without an interval."""
        if self.low is None or self.high is None or self.low <= 0:
            return None
        return math.log(self.high / self.low) / 2

    @property
    def is_less(self) -> bool:
        """Whether the first thing is less than the other."""
        return self.value is not None and self.value < 1

    @property
    def text(self) -> str:
        """`1.8 × (1.6 to 2.0)`, with as many digits as it takes to tell each from 1."""
        if self.low is None:
            return TOO_FEW
        if not self.shown:
            return NOT_SHOWN
        numbers = [number for number in (self.value, self.low, self.high) if number is not None]
        for digits in (2, 3, 4):
            texts = [_figures(number, digits) for number in numbers]
            if all(float(text.replace(",", "")) != 1 for text in texts):
                break
        value, low, high = texts
        return f"{value} × ({low} to {high})"


def _figures(value: float, digits: int) -> str:
    """So many significant digits, without an exponent."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    value = float(f"{value:.{digits}g}")
    return f"{value:,.{max(0, digits - 1 - math.floor(math.log10(abs(value))))}f}"


class Blocks:
    """Servers that were measured side by side in rounds: log(value) = server + round + error.

    What changed from round to round has hit all servers of the round, and is no error. All servers
    of a row tell how large the error is. So there are more degrees of freedom than in the rounds of
    two servers alone, and the intervals are shorter. All pairs are compared, so the intervals are
    Tukey's: in 95 of 100 rows of equal servers, no difference is shown. (Holm's correction would do
    as well, but it has no intervals.) See Montgomery, Design and Analysis of Experiments.
    """

    def __init__(self, values: Mapping[str, Mapping[int, float]]) -> None:
        """`values`: by server, then by round; not all servers have to be in all rounds.

        A 0 has no logarithm, so a server that has one is left out.
        """
        self.logs = {
            server: {number: math.log(value) for number, value in rounds.items()}
            for server, rounds in values.items()
            if rounds and min(rounds.values()) > 0
        }
        numbers = {number for rounds in self.logs.values() for number in rounds}
        # A round with one server says nothing about a difference.
        self.rounds = {
            number: servers
            for number in sorted(numbers)
            if len(servers := [name for name in self.logs if number in self.logs[name]]) > 1
        }
        self.servers = list(dict.fromkeys(name for names in self.rounds.values() for name in names))
        self.inverse = _inverse(self._normal_equations())
        self.effects = self._effects()

    def ratio(self, first: str, second: str) -> Ratio | None:
        """How many times the second the first is; None where this design cannot say."""
        if self.inverse is None or not {first, second} <= self.effects.keys():
            return None
        apart = self.effects[first] - self.effects[second]
        # The others' rounds tell of the error, so these two need not be in all of them.
        fewest = min(
            sum(name in servers for servers in self.rounds.values()) for name in (first, second)
        )
        reach = tukey_quantile(len(self.servers), self.freedom)
        if len(self.rounds) < FEWEST or fewest < 2 or reach is None:
            return Ratio(math.exp(apart))
        return _interval_of(
            apart, reach * math.sqrt(self.error_variance * self._variance(first, second))
        )

    @property
    def freedom(self) -> int:
        """The degrees of freedom of the error."""
        measured = sum(map(len, self.rounds.values()))
        return measured - len(self.rounds) - len(self.servers) + 1

    @cached_property
    def error_variance(self) -> float:
        """The variance of the error, from all servers of the row. It needs a degree of freedom."""
        squares = sum(value**2 for values in self.residuals().values() for value in values)
        return squares / self.freedom

    def residuals(self) -> dict[str, list[float]]:
        """By server, what neither server nor round explains."""
        left: dict[str, list[float]] = {server: [] for server in self.servers}
        for number, servers in self.rounds.items():
            apart = {name: self.logs[name][number] - self.effects[name] for name in servers}
            of_the_round = statistics.mean(apart.values())
            for name, value in apart.items():
                left[name].append(value - of_the_round)
        return left

    def unlike(self) -> tuple[str, float] | None:
        """The server whose error is UNLIKE times that of the others or more, and how many times."""
        if len(self.servers) < 3:
            return None
        # A difference of two servers has the errors of both.
        variances = {
            pair: statistics.variance(apart)
            for pair in itertools.combinations(self.servers, 2)
            if len(apart := self._apart(*pair)) >= FEWEST_FOR_AN_ERROR
        }
        times = {}
        for server in self.servers:
            with_it = [value for pair, value in variances.items() if server in pair]
            others = [value / 2 for pair, value in variances.items() if server not in pair]
            if with_it and others and (error := statistics.mean(others)) > 0:
                of_its_own = max(0.0, statistics.mean(with_it) - error)
                times[server] = math.sqrt(of_its_own / error)
        worst = max(times, key=times.__getitem__, default=None)
        return (worst, times[worst]) if worst is not None and times[worst] >= UNLIKE else None

    def _apart(self, first: str, second: str) -> list[float]:
        """How far apart two servers were in each round that has both."""
        common = sorted(self.logs[first].keys() & self.logs[second].keys())
        return [self.logs[first][number] - self.logs[second][number] for number in common]

    def _normal_equations(self) -> list[list[float]]:
        """The matrix for the servers' effects without the rounds'. That of the last one is 0."""
        matrix = [[0.0] * len(self.servers) for _ in self.servers]
        for servers in self.rounds.values():
            places = [self.servers.index(name) for name in servers]
            for row in places:
                matrix[row][row] += 1
                for column in places:
                    matrix[row][column] -= 1 / len(servers)
        return [row[:-1] for row in matrix[:-1]]

    def _effects(self) -> dict[str, float]:
        if self.inverse is None:
            return {}
        adjusted = dict.fromkeys(self.servers, 0.0)
        for number, servers in self.rounds.items():
            of_the_round = statistics.mean(self.logs[name][number] for name in servers)
            for name in servers:
                adjusted[name] += self.logs[name][number] - of_the_round
        right = [adjusted[name] for name in self.servers[:-1]]
        effects = [sum(map(operator.mul, row, right)) for row in self.inverse]
        return dict(zip(self.servers, [*effects, 0.0], strict=True))

    def _variance(self, first: str, second: str) -> float:
        """The variance of the difference of two effects, in units of the error's."""
        last = len(self.servers) - 1
        inverse = self.inverse or []
        here, there = self.servers.index(first), self.servers.index(second)

        def entry(row: int, column: int) -> float:
            return inverse[row][column] if last not in (row, column) else 0.0

        return entry(here, here) + entry(there, there) - 2 * entry(here, there)


def _inverse(matrix: list[list[float]]) -> list[list[float]] | None:
    """The inverse of a small matrix (Gauss and Jordan); None if it has none, or is empty."""
    size = len(matrix)
    rows = [[*row, *(float(k == n) for k in range(size))] for n, row in enumerate(matrix)]
    for place in range(size):
        pivot = max(range(place, size), key=lambda number: abs(rows[number][place]))
        if abs(rows[pivot][place]) < 1e-9:
            return None
        rows[place], rows[pivot] = rows[pivot], rows[place]
        rows[place] = [value / rows[place][place] for value in rows[place]]
        for number in range(size):
            factor = rows[number][place]
            if number != place and factor:
                rows[number] = [
                    value - factor * other
                    for value, other in zip(rows[number], rows[place], strict=True)
                ]
    return [row[size:] for row in rows] or None


def unpaired_ratio(first: Sequence[float], second: Sequence[float]) -> Ratio:
    """How many times the second the first is, for two groups that were measured independently."""
    if not first or not second or min(*first, *second) <= 0:
        return _of_medians(first, second)
    groups = [[math.log(value) for value in values] for values in (first, second)]
    apart = statistics.mean(groups[0]) - statistics.mean(groups[1])
    if min(map(len, groups)) < FEWEST:
        return Ratio(math.exp(apart))
    # Welch: the two may differ in how much they vary, and in how often they were measured.
    parts = [statistics.variance(logs) / len(logs) for logs in groups]
    total = sum(parts)
    weights = sum(part**2 / (len(logs) - 1) for part, logs in zip(parts, groups, strict=True))
    freedom = total**2 / weights if weights else min(map(len, groups)) - 1
    reach = tukey_quantile(2, freedom)
    return (
        Ratio(math.exp(apart)) if reach is None else _interval_of(apart, reach * math.sqrt(total))
    )


def _interval_of(mean: float, reach: float) -> Ratio:
    return Ratio(math.exp(mean), math.exp(mean - reach), math.exp(mean + reach))


def share_interval(hits: int, tried: int) -> tuple[float, float]:
    """The 95 % interval of a share, by Wilson's score (JASA 22, 1927)."""
    z = statistics.NormalDist().inv_cdf(0.975)
    middle = (hits + z * z / 2) / (tried + z * z)
    reach = z / (tried + z * z) * math.sqrt(hits * (tried - hits) / tried + z * z / 4)
    return max(0.0, middle - reach), min(1.0, middle + reach)


def tukey_quantile(servers: int, freedom: float) -> float | None:
    """What a standard error is multiplied by for all pairs; None beyond the table."""
    # Welch's 4 degrees of freedom may come out as a little less.
    place = sum(known <= freedom + 1e-9 for known in TUKEY_FREEDOM) - 1
    if servers not in TUKEY_95 or place < 0:
        return None
    return TUKEY_95[servers][place]


def _of_medians(first: Sequence[float], second: Sequence[float]) -> Ratio:
    """What can be said of values that have no logarithm."""
    known = first and second and median(second) > 0
    return Ratio(median(first) / median(second) if known else None)
