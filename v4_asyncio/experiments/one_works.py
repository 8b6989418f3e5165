"""What do the others notice while one is busy? `python3 -m v4_asyncio.experiments.one_works`

alice says `/work 100`, and bob sends one /ping after the other until she has her answer. v3 and v4
do this as they are. Then v4 does it with three other bodies of do_work(): the work is done in the
coroutine itself; the coroutine sleeps with time.sleep(); it sleeps with asyncio.sleep().
"""

import asyncio
import sys
import time
from collections.abc import Callable

from harness.joining import joined
from harness.launcher import REPOSITORY, launch, server_command
from v4_asyncio import server

MILLISECONDS = 100


async def work_in_the_coroutine(self: server.Server, client: server.Client) -> None:
    self.send(client, server.burn_cpu(client.work))
    client.work = 0


async def time_sleep(self: server.Server, client: server.Client) -> None:
    time.sleep(client.work / 1000)
    self.send(client, "* slept")
    client.work = 0


async def asyncio_sleep(self: server.Server, client: server.Client) -> None:
    await asyncio.sleep(client.work / 1000)
    self.send(client, "* slept")
    client.work = 0


BODIES: dict[str, Callable] = {
    "burn_cpu() in the coroutine": work_in_the_coroutine,
    "time.sleep()": time_sleep,
    "await asyncio.sleep()": asyncio_sleep,
}


def measure(words: str, command: list[str]) -> None:
    """Print a row: the longest that bob waits for a pong, and when alice has her answer."""
    with (
        launch("server", command, profile="chat", cwd=REPOSITORY) as running,
        joined(running, "alice", "bob") as (alice, bob),
    ):
        start = now = time.perf_counter()
        alice.send_line(f"/work {MILLISECONDS}")
        longest = 0.0
        pings = 0
        while not alice.wait_for_data(0):
            before = now
            bob.ping()
            now = time.perf_counter()
            longest = max(longest, now - before)
            pings += 1
        answered = time.perf_counter() - start
    print(f"{words:36} {answered * 1000:8.0f} ms {pings:9} {longest * 1000:13.1f} ms")


def main() -> None:
    if len(sys.argv) > 1:
        server.Server.do_work = BODIES[sys.argv.pop(1)]
        server.main()
        return
    print("                                     alice gets    bob's     the longest")
    print("                                     her answer    pongs     that he waits")
    measure("v3: in the loop", server_command("v3_broadcast"))
    measure("v4: in a thread", server_command("v4_asyncio"))
    for body in BODIES:
        command = [sys.executable, "-m", __spec__.name, body, "--port", "0"]
        measure(f"v4, but {body}", command)


if __name__ == "__main__":
    main()
