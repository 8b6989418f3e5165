"""Do two threads compute twice as much? `python3 -m v1_threads.experiments.two_at_work`

One client asks v1 for half a second of work, then two ask for as much at the same moment. With
`--python PATH` the server runs under another Python, a free-threaded one perhaps.
"""

import argparse
import subprocess
import sys
import time

from harness.joining import joined
from harness.launcher import LaunchError
from harness.line_client import LineClient
from harness.server_under_test import ServerUnderTest

WORK_MS = 500
ASK_FOR_THE_LOCK = "import sys; print(getattr(sys, '_is_gil_enabled', lambda: True)())"


def seconds_of_work(clients: list[LineClient]) -> float:
    """Let all of them ask at once; returns the seconds until the last one has its answer."""
    start = time.perf_counter()
    for client in clients:
        client.send_line(f"/work {WORK_MS}")
    for client in clients:
        client.read_until(f"* worked {WORK_MS} ms")
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description="Do two threads compute twice as much?")
    parser.add_argument("--python", default=sys.executable, help="what the server runs under")
    python = parser.parse_args().python
    try:
        with (
            ServerUnderTest.ours("v1_threads", python).start() as running,
            joined(running, "alice", "bob") as clients,
        ):
            one = seconds_of_work(clients[:1])
            two = seconds_of_work(clients)
    except LaunchError as error:
        sys.exit(f"two_at_work: {error}")
    answer = subprocess.run([python, "-c", ASK_FOR_THE_LOCK], capture_output=True, text=True)
    lock = "one thread at a time" if answer.stdout.strip() == "True" else "threads run side by side"
    print(f"one client with /work {WORK_MS}: {one:.2f} s")
    print(f"two at the same time:      {two:.2f} s")
    print(f"in this Python {lock} (the interpreter's lock)")


if __name__ == "__main__":
    main()
