"""What do others feel while one computes? `python3 -m v1_threads.experiments.beside_work`

alice asks for half a second of work (`/work 500`). bob sends a `/ping` now and then, first alone,
then beside her, and notes how long each answer takes. His pauses are of random length, so that he
is in step with nothing. Other versions may be named: `... beside_work v1 v2`.
"""

import argparse
import random
import statistics
import time

from harness.joining import joined
from harness.launcher import VERSIONS
from harness.line_client import LineClient
from harness.server_under_test import ServerUnderTest

WORK_MS = 500
PINGS_ALONE = 50
LONGEST_PAUSE_SECONDS = 0.01


def wait_of(bob: LineClient) -> float:
    """Pause, send a `/ping`, and return the milliseconds until its answer."""
    time.sleep(random.uniform(0, LONGEST_PAUSE_SECONDS))
    start = time.perf_counter()
    bob.ping()
    return (time.perf_counter() - start) * 1000


def show(situation: str, waits: list[float]) -> None:
    middle = statistics.median(waits)
    print(f"  {situation:16} {len(waits):5} answers, {middle:7.1f} {max(waits):8.1f}")


def measure(version: str) -> None:
    """Start one version, let bob wait alone and beside alice, and print how long he waited."""
    with (
        ServerUnderTest.ours(version).start() as server,
        joined(server, "alice", "bob") as (alice, bob),
    ):
        alone = [wait_of(bob) for _ in range(PINGS_ALONE)]
        start = time.perf_counter()
        alice.send_line(f"/work {WORK_MS}")
        beside = [wait_of(bob)]
        while not alice.wait_for_data(0):
            beside.append(wait_of(bob))
        seconds = time.perf_counter() - start
    print(f"{version}: what bob waits, in ms         middle  longest")
    show("alone", alone)
    show("beside her work", beside)
    print(f"  alice has her `* worked {WORK_MS} ms` after {seconds * 1000:.0f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description="What bob waits while alice computes.")
    short_names = {version[:2]: version for version in VERSIONS}
    parser.add_argument("versions", nargs="*", metavar="VERSION", help="v1 to v4 (default: v1)")
    versions = parser.parse_args().versions or ["v1"]
    for name in versions:
        if name not in short_names:
            parser.error(f"{name} is none of {', '.join(short_names)}")
    for name in versions:
        measure(short_names[name])


if __name__ == "__main__":
    main()
