"""What the recorder costs a server: CPU time for a message, without it and with it.

The least of several rounds counts. Whatever else goes on can only add to it, and on a busy machine
it adds more than the recorder does.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.load.probe import ServerProbe
from benchmarks.run import machine
from benchmarks.timeline.record import preparation
from harness.line_client import LineClient
from harness.server_under_test import ServerUnderTest

ROUNDS = 8
PINGS = 600
ANSWER_SECONDS = 5.0


@dataclass(frozen=True)
class Overhead:
    """µs of CPU time for a message, in the cheapest round."""

    name: str
    without: float
    recorded: float

    @property
    def text(self) -> str:
        """What it says, in a line."""
        return (
            f"{self.name}: the recorder adds {self.recorded - self.without:.1f} µs of CPU time to"
            f" a message ({self.without:.1f} µs without it, {self.recorded:.1f} µs with it)"
        )


def overhead_of(server: ServerUnderTest) -> Overhead:
    """Measure it side by side: one client pings, in turn without the recorder and with it."""
    costs: tuple[list[float], list[float]] = ([], [])
    for _ in range(ROUNDS):
        costs[0].append(_cost(server, ()))
        with tempfile.TemporaryDirectory(prefix="timeline-") as folder:
            costs[1].append(_cost(server, preparation(Path(folder, "recording"))))
    return Overhead(server.name, min(costs[0]), min(costs[1]))


def _cost(server: ServerUnderTest, prepared: Sequence[str]) -> float:
    server_cores, client_cores = machine.choose_cores()
    with machine.pinned(server_cores):
        running = server.start(preparation=prepared)
    with (
        running,
        machine.pinned(client_cores),
        LineClient(running.address, ANSWER_SECONDS) as client,
    ):
        client.send_line("alice")
        client.read_until("* hello alice")
        probe = ServerProbe(running.pid)
        before = probe.cpu_ns()
        for _ in range(PINGS):
            client.send_line("/ping")
            client.read_line()
        return (probe.cpu_ns() - before) / 1000 / PINGS
