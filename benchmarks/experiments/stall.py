"""Question: one client stops reading. What do the others see, and what does it cost the server?

Method: chat: one client talks at a fixed rate to ten readers and one more, which stops reading
after a while (its receive buffer was made small, so that the effect shows within the measurement).
Echo: ten clients talk to themselves at the same rate together, and the eleventh, which stops
reading, goes on writing, or nothing would ever wait for it. Delay of each line from its due time to
the last reader, deliveries and server memory, all in steps of a tenth of a second.

Expect: in v1 and v2 the others to notice nothing. In v3 and v4 the room to stand still once, for no
longer than the stall timeout (1 s), until the server drops the client; then it catches up, and
nothing is lost. The server's memory to grow by little more than one client's outbox (256 KiB).
"""

import contextlib

from benchmarks import summary
from benchmarks.load import Load, Schedule

TITLE = "Stall: one client stops reading"
QUESTION = "What do the others see when one client stops reading?"
PROFILES = ("echo", "chat")
OTHERS = 10
BIN_SECONDS = 0.1
SIZES = {
    "smoke": {"before": 0.1, "after": 0.2, "rate": 100, "line_bytes": 1000},
    "quick": {"before": 0.3, "after": 2.5, "rate": 5000, "line_bytes": 1000},
    "full": {"before": 1.0, "after": 4.0, "rate": 5000, "line_bytes": 1000},
}


def points(parameters: dict) -> list[dict]:
    """One point."""
    return [{"others": OTHERS, "rate": parameters["rate"]}]


def drive(load: Load, point: dict, parameters: dict) -> dict:
    """One trial, in the load generator's process."""
    chat = load.profile == "chat"
    before = parameters["before"]
    (staller,) = load.connect(1, receive_bytes=4096)
    others = load.connect(point["others"])
    talkers = load.connect(1) if chat else others
    everybody = [staller, *others, *(talkers if chat else [])]
    names = load.join(everybody)
    line = b"x" * (parameters["line_bytes"] - len(names[0]) - 3) + b"\n"
    resident: list[tuple[float, float]] = []
    reading = connected = True
    dropped_at = 0.0

    def on_tick(seconds: float) -> None:
        nonlocal reading, connected, dropped_at
        resident.append((seconds, load.probe.rss_bytes() / 2**20))
        if reading and seconds >= before:
            load.poller.unregister(staller)
            reading = False
        if not reading and not chat and connected:
            try:
                with contextlib.suppress(BlockingIOError):  # full: that is what we wanted
                    while True:
                        load.sockets[staller].send(line * 50)
            except OSError:  # the server has dropped us
                connected, dropped_at = False, seconds

    schedule = Schedule(
        load,
        talkers,
        others,
        [line] * len(talkers),
        rate=point["rate"],
        warmup=before,
        seconds=parameters["after"],
        broadcast=chat,
        notice=b"*",
        bin_seconds=BIN_SECONDS,
        on_tick=on_tick,
    )
    aside = {fd: load.receive for fd in (staller, *(talkers if chat else ()))}
    metrics = schedule.run(aside=aside)
    load.sockets[staller].close()
    if chat:
        dropped_at = schedule.noticed_at
    if dropped_at:
        metrics["dropped_after_s"] = dropped_at - before
    calm = [memory for seconds, memory in resident if seconds < before]
    metrics["rss_growth_mib"] = max(memory for _, memory in resident) - max(calm)
    metrics["worst_delay_ms"] = schedule.delays_ms()[-1]
    return {"metrics": metrics, "series": series(schedule, resident, before)}


def series(
    schedule: Schedule, resident: list[tuple[float, float]], before: float
) -> dict[str, list[float]]:
    """What happened in each tenth of a second; a line's delay stands where it was due."""
    bins = len(schedule.bins) - 1  # the last one only catches what came after the schedule's end
    worst = [0.0] * bins
    for message in range(schedule.total):
        index = int(message / schedule.rate / BIN_SECONDS)
        delay = (schedule.last_at[message] - schedule.due(message)) / 1e6
        worst[min(index, bins - 1)] = max(worst[min(index, bins - 1)], delay)
    memory, latest = [], iter(resident)
    at, value = next(latest)
    for index in range(bins):
        while at is not None and at < (index + 1) * BIN_SECONDS:
            current = value
            at, value = next(latest, (None, value))
        memory.append(round(current, 2))
    return {
        "t_s": [round(index * BIN_SECONDS - before, 3) for index in range(bins)],
        "deliveries_per_s": [round(count / BIN_SECONDS) for count in schedule.bins[:bins]],
        "worst_delay_ms": [round(delay, 3) for delay in worst],
        "rss_mib": memory,
    }


def tables(result: dict) -> list[summary.Table]:
    """The longest delay, the drop and the memory."""

    def label(point: dict) -> str:
        return f"{point['others']}, {point['rate']}/s"

    metrics = ("worst_delay_ms", "dropped_after_s", "rss_growth_mib")
    return [summary.pivot(result, "stall", metric, "others", label) for metric in metrics]


def conclusion(result: dict) -> str:
    """How long the others waited at worst, and what the server kept."""
    shared = summary.last_shared(result, "stall", summary.points(result, "stall"), "worst_delay_ms")
    if not shared:
        return ""
    delay = summary.chain(result, "stall", shared, "worst_delay_ms")
    memory = summary.chain(result, "stall", shared, "rss_growth_mib")
    return f"Longest delay that the others saw: {delay}. The server's memory grew by {memory}."
