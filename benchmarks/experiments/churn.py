"""Question: what does it cost to come and go?

Method: ten slots, each of which connects, sends a name and `/quit`, reads to the end of input,
checks greeting, hello and bye, closes, and starts again. Sessions per second, and server CPU time
per session. Name and `/quit` go out together, so that a session is one exchange.

Expect: a thread per client to cost most, as one has to be started and ended for every session.
"""

import time

from benchmarks import summary
from benchmarks.load import Load, Lost

TITLE = "Churn: clients that come and go"
QUESTION = "What does a whole session cost, from connect to close?"
PROFILES = ("echo", "chat")
SIZES = {
    "smoke": {"seconds": 0.05, "warmup": 0.02, "concurrent": [2]},
    "quick": {"seconds": 0.5, "warmup": 0.1, "concurrent": [10]},
    "full": {"seconds": 2.0, "warmup": 0.3, "concurrent": [10]},
}


def points(parameters: dict) -> list[dict]:
    """Sessions under way at a time."""
    return [{"concurrent": concurrent} for concurrent in parameters["concurrent"]]


def drive(load: Load, point: dict, parameters: dict) -> dict:
    """One trial, in the load generator's process."""
    names: dict[int, str] = {}
    began: dict[int, int] = {}
    received: dict[int, bytes] = {}
    durations: list[float] = []
    started = 0

    def begin() -> None:
        nonlocal started
        started += 1
        now = time.monotonic_ns()
        fd = load.open()
        names[fd], began[fd], received[fd] = f"n{started:07d}", now, b""
        load.send(fd, f"{names[fd]}\n/quit\n".encode())

    def end(fd: int) -> None:
        name, text = names.pop(fd), received.pop(fd)
        load.close(fd)
        if f"* hello {name}\n".encode() not in text or f"* bye {name}\n".encode() not in text:
            raise Lost(f"the session of {name} got {text[:80]!r}")
        durations.append((time.monotonic_ns() - began.pop(fd)) / 1e6)

    def play(seconds: float, again: bool) -> None:
        until = time.monotonic() + seconds
        while names and time.monotonic() < until:
            for fd, _ in load.wait():
                count = load.sockets[fd].recv_into(load.buffer)
                received[fd] += load.buffer[:count]
                if count == 0:
                    end(fd)
                    if again:
                        begin()

    for _ in range(point["concurrent"]):
        begin()
    play(parameters["warmup"], again=True)
    load.open_window()
    durations.clear()
    play(parameters["seconds"], again=True)
    load.close_window()
    sessions = sorted(durations)
    play(load.patience, again=False)
    if names:
        raise Lost(f"{len(names)} sessions never came to an end")
    if not sessions:
        raise Lost("no session came to its end while it was measured")
    return {
        "metrics": load.metrics
        | {
            "sessions": len(sessions),
            "sessions_per_s": len(sessions) / load.seconds,
            "server_cpu_ms": load.server_ns / 1e6 / len(sessions),
            "p50_ms": summary.percentile(sessions, 0.50),
            "p99_ms": summary.percentile(sessions, 0.99),
        }
    }


def tables(result: dict) -> list[summary.Table]:
    """Rate, CPU time and duration of sessions."""

    def label(point: dict) -> str:
        return f"{point['concurrent']}"

    titles = {"sessions_per_s": "", "server_cpu_ms": "", "p50_ms": "Duration of a session, p50"}
    return [
        summary.pivot(result, "churn", metric, "at a time", label, title=title)
        for metric, title in titles.items()
    ]


def conclusion(result: dict) -> str:
    """Whose sessions cost least."""
    shared = summary.last_shared(result, "churn", summary.points(result, "churn"), "server_cpu_ms")
    if not shared:
        return ""
    return f"A session costs {summary.chain(result, 'churn', shared, 'server_cpu_ms')} of CPU time."
