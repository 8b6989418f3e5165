"""Percentiles, medians, and how many times one thing is another: with an interval, or not at all.

What slows a machine down does so by a factor. So differences are taken between logarithms, their
mean gets a t interval, and both are turned back. Of two servers that were measured in the same
rounds, the differences within each round count: what changed from round to round has hit both. Two
files have no rounds in common; they get the interval for two independent groups (Welch's).
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

median = statistics.median
FEWEST = 3  # rounds for an interval: two values of anything say next to nothing
NOT_SHOWN = "no difference shown"
# Quantiles of Student's t for an interval of 95 %, by degrees of freedom from 1. Beyond the table
# its last one is used, and between two of them the lower one: an interval is never too short.
T_95 = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)


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
    def is_less(self) -> bool:
        """Whether the first thing is less than the other."""
        return self.value is not None and self.value < 1

    @property
    def text(self) -> str:
        """`1.8 × (1.6 to 2.0)`, with as many digits as it takes to tell each from 1."""
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


def paired_ratio(first: Mapping[int, float], second: Mapping[int, float]) -> Ratio:
    """How many times the second the first is, from the rounds that have both."""
    rounds = sorted(first.keys() & second.keys())
    pairs = [(first[number], second[number]) for number in rounds]
    if not pairs or min(min(pair) for pair in pairs) <= 0:
        return _of_medians([a for a, _ in pairs], [b for _, b in pairs])
    logs = [math.log(a / b) for a, b in pairs]
    if len(logs) < FEWEST:
        return Ratio(math.exp(statistics.mean(logs)))
    error = statistics.stdev(logs) / math.sqrt(len(logs))
    return _interval(statistics.mean(logs), error, len(logs) - 1)


def unpaired_ratio(first: Sequence[float], second: Sequence[float]) -> Ratio:
    """The same for two groups that were measured independently of each other."""
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
    return _interval(apart, math.sqrt(total), freedom)


def _interval(mean: float, error: float, freedom: float) -> Ratio:
    reach = t_quantile(freedom) * error
    return Ratio(math.exp(mean), math.exp(mean - reach), math.exp(mean + reach))


def t_quantile(freedom: float) -> float:
    """Student's t for a two-sided interval of 95 %, from one degree of freedom on."""
    return T_95[min(int(freedom + 1e-9), len(T_95)) - 1]


def _of_medians(first: Sequence[float], second: Sequence[float]) -> Ratio:
    """What can be said of values that have no logarithm."""
    known = first and second and median(second) > 0
    return Ratio(median(first) / median(second) if known else None)
