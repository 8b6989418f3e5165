"""What each measured number is called, in what it is counted, and which way it is better."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """How to name a number, and with what it may be compared."""

    label: str  # {per} stands for what an experiment counts: a message, a session, ...
    unit: str
    better: str  # "lower" or "higher"
    at_kept_rate: bool = False  # compares only where the offered rate was kept
    configured: bool = False  # mostly a timeout that somebody chose: shown, and nobody's loss
    aside: bool = False  # explains other numbers, and is no result


METRICS = {
    "server_cpu_us": Metric("Server CPU time per {per}", "µs", "lower", at_kept_rate=True),
    "wakeups_per_message": Metric("Wake-ups per {per}", "", "lower", at_kept_rate=True, aside=True),
    "replies_per_s": Metric("Replies per second", "/s", "higher"),
    "deliveries_per_s": Metric("Deliveries per second", "/s", "higher"),
    "sessions_per_s": Metric("Sessions per second", "/s", "higher"),
    "works_per_s": Metric("/work requests done per second", "/s", "higher"),
    "lines_per_s": Metric("Lines per second of the flooders", "/s", "higher"),
    "p50_ms": Metric("Latency p50", "ms", "lower"),
    "p90_ms": Metric("Latency p90", "ms", "lower"),
    "p95_ms": Metric("Latency p95", "ms", "lower"),
    "p99_ms": Metric("Latency p99", "ms", "lower"),
    "p999_ms": Metric("Latency p99.9", "ms", "lower"),
    "max_ms": Metric("Latency max", "ms", "lower"),
    "median_greeting_ms": Metric("Half of them greeted after", "ms", "lower"),
    "last_greeting_ms": Metric("Last one greeted after", "ms", "lower"),
    "worst_delay_ms": Metric("Longest delay of the others", "ms", "lower", configured=True),
    "stood_still_s": Metric("The others stood still for", "s", "lower", configured=True),
    "dropped_after_s": Metric("Client dropped after", "s", "lower", configured=True),
    "rss_growth_mib": Metric("Growth of server memory", "MiB", "lower"),
    "memory_kib": Metric("Memory per idle connection", "KiB", "lower"),
    "rss_kib": Metric("of it the server's own", "KiB", "lower"),
    "stack_kib": Metric("of it kernel stacks", "KiB", "lower"),
    "socket_kib": Metric("of it the kernel's sockets", "KiB", "lower"),
    "kept_share": Metric("Share of the offered rate that was kept", "", "higher", aside=True),
    "server_cpu_share": Metric("Server's share of its cores", "", "lower", aside=True),
    "client_cpu_share": Metric("Load generator's share of its core", "", "lower", aside=True),
}


def label(metric: str, per: str = "message") -> str:
    """`Server CPU time per session, µs`. Rates have their unit in their name."""
    about = METRICS[metric]
    name = about.label.format(per=per)
    return f"{name}, {about.unit}" if about.unit not in ("", "/s") else name


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
    value = float(f"{value:.3g}")  # first, as 9.996 has one digit less behind the point than 9.99
    digits = 2 - math.floor(math.log10(abs(value)))
    return f"{value:.{max(0, min(3, digits))}f}"
