"""What each measured number is called, in what it is counted, and which way it is better."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.result.statistics import percentile

PERCENTILES = {"p50_ms": 0.50, "p90_ms": 0.90, "p99_ms": 0.99}
SAMPLES_BEYOND = 10  # of a percentile that is to be known: p99 needs 1,000 samples, p90 needs 100


@dataclass(frozen=True)
class Metric:
    """How to name a number, and with what it may be compared.

    In `label`, {per} stands for what an experiment counts: a message, a session. A number
    `at_kept_rate` compares only where the offered rate was kept. One that is `configured` is mostly
    a timeout that somebody chose. One that stands `aside` explains others, and is no result.
    """

    label: str
    unit: str
    lower_is_better: bool = True
    at_kept_rate: bool = False
    configured: bool = False
    aside: bool = False


METRICS = {
    "server_cpu_us": Metric("Server CPU time per {per}", "µs", at_kept_rate=True),
    "wakeups_per_message": Metric("Wake-ups per {per}", "", at_kept_rate=True, aside=True),
    "replies_per_s": Metric("Replies per second", "/s", lower_is_better=False),
    "deliveries_per_s": Metric("Deliveries per second", "/s", lower_is_better=False),
    "sessions_per_s": Metric("Sessions per second", "/s", lower_is_better=False),
    "works_per_s": Metric("/work requests done per second", "/s", lower_is_better=False),
    "lines_per_s": Metric("Lines per second of the flooders", "/s", lower_is_better=False),
    "p50_ms": Metric("Latency p50", "ms"),
    "p90_ms": Metric("Latency p90", "ms"),
    "p99_ms": Metric("Latency p99", "ms"),
    "max_ms": Metric("Latency max", "ms"),
    "median_greeting_ms": Metric("Half of them greeted after", "ms"),
    "last_greeting_ms": Metric("Last one greeted after", "ms"),
    "worst_delay_ms": Metric("Longest delay of the others", "ms", configured=True),
    "stood_still_s": Metric("The others stood still for", "s", configured=True),
    "dropped_after_s": Metric("Client dropped after", "s", configured=True),
    "rss_growth_mib": Metric("Growth of server memory", "MiB"),
    "memory_kib": Metric("Memory per idle connection", "KiB"),
    "rss_kib": Metric("of it the server's own", "KiB"),
    "stack_kib": Metric("of it kernel stacks", "KiB"),
    "socket_kib": Metric("of it the kernel's sockets", "KiB"),
}


def label(metric: str, per: str = "message") -> str:
    """`Server CPU time per session, µs`. Rates have their unit in their name."""
    about = METRICS[metric]
    name = about.label.format(per=per)
    return f"{name}, {about.unit}" if about.unit not in ("", "/s") else name


def percentiles(ordered: Sequence[float]) -> dict[str, float]:
    """By metric, those percentiles of ascending milliseconds for which there are enough of them.

    With fewer it would be the longest of them by another name.
    """
    return {
        name: percentile(ordered, share)
        for name, share in PERCENTILES.items()
        if round(len(ordered) * (1 - share), 6) >= SAMPLES_BEYOND
    }


def with_unit(metric: str, value: float) -> str:
    """`25.1 µs`, `12.3k/s`."""
    unit = METRICS[metric].unit
    return f"{number(value)}{unit}" if unit in ("", "/s") else f"{number(value)} {unit}"


def number(value: float) -> str:
    """Three figures, with k and M for thousands and millions; whole numbers as they are."""
    for limit, divisor, suffix in ((999_500, 1e6, "M"), (9_995, 1e3, "k")):
        if abs(value) >= limit:
            if value == int(value) and value % (divisor / 10) == 0:
                return f"{value / divisor:g}{suffix}"
            return f"{_three_figures(value / divisor)}{suffix}"
    return f"{value:g}" if isinstance(value, int) or value == 0 else _three_figures(value)


def _three_figures(value: float) -> str:
    if abs(value) < 0.001:
        return "0.00"
    if abs(value) < 0.0995:
        return f"{value:#.2g}"
    # Round first: 9.996 becomes 10.0, which has one digit less after the point than 9.99.
    value = float(f"{value:.3g}")
    digits = 2 - math.floor(math.log10(abs(value)))
    return f"{value:.{max(0, min(3, digits))}f}"
