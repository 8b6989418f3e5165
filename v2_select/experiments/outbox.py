"""What becomes of bytes that the kernel does not take? `python3 -m v2_select.experiments.outbox`

alice asks for 1500 answers of 1 kB, and reads nothing for a while. The kernel has room for only
some of them. Then she reads. Meanwhile bob sends one `/ping` after the other. v1 and v2 do this as
they are. Then v2 does it with two other answers to the question: wait for alice, or forget the
bytes.
"""

import contextlib
import sys
import threading
import time
from collections.abc import Callable

from harness.joining import joined
from harness.launcher import REPOSITORY, launch, server_command
from harness.line_client import LineClient
from v2_select import server

ANSWERS = 1500
TEXT = "x" * 1000
DEAF_SECONDS = 0.4


def flush_and_wait(self: server.Server, client: server.Client) -> None:
    """Do not return before the kernel has taken everything, as in v1."""
    client.connection.setblocking(True)
    client.connection.sendall(client.outbox)
    client.connection.setblocking(False)
    client.outbox.clear()
    real_flush(self, client)


def flush_and_forget(self: server.Server, client: server.Client) -> None:
    """Send what the kernel takes now, and throw the rest away."""
    with contextlib.suppress(BlockingIOError):
        client.connection.send(client.outbox)
    client.outbox.clear()
    real_flush(self, client)


real_flush = server.Server.flush
WAYS: dict[str, tuple[str, Callable]] = {
    "wait": ("v2, but it waits for room", flush_and_wait),
    "forget": ("v2, but it forgets the rest", flush_and_forget),
}


def talk_and_listen(alice: LineClient, whole: list[str]) -> None:
    """Ask for everything and read nothing; then read. `whole` gets the whole answers."""
    asking = threading.Thread(target=alice.send_bytes, args=[f"/ping {TEXT}\n".encode() * ANSWERS])
    asking.start()
    time.sleep(DEAF_SECONDS)
    received = bytearray()
    alice.socket.settimeout(DEAF_SECONDS)
    # When nothing more comes she has all that there is.
    with contextlib.suppress(TimeoutError):
        while received.count(b"\n") < ANSWERS and (data := alice.socket.recv(65536)):
            received += data
    whole += [line for line in received.decode().split("\n") if line == f"* pong {TEXT}"]
    asking.join()


def measure(words: str, command: list[str]) -> None:
    """Print a row: how long bob waits at most, and how many answers alice gets."""
    options = ["--port", "0", "--stall-timeout", "5"]
    with (
        launch("server", [*command, *options], profile="echo", cwd=REPOSITORY) as running,
        joined(running, "alice", "bob") as (alice, bob),
    ):
        whole: list[str] = []
        talking = threading.Thread(target=talk_and_listen, args=[alice, whole])
        talking.start()
        longest = 0.0
        while talking.is_alive():
            start = time.perf_counter()
            bob.ping()
            longest = max(longest, time.perf_counter() - start)
    print(f"{words:30} {longest * 1000:12.0f} ms {len(whole):14} of {ANSWERS}")


def main() -> None:
    if len(sys.argv) > 1:
        server.Server.flush = WAYS[sys.argv.pop(1)][1]
        server.main()
        return
    print("                               bob waits at most    alice gets, whole")
    measure("v1, a thread waits for room", server_command("v1_threads"))
    measure("v2, the rest in the outbox", server_command("v2_select"))
    for way, (words, _) in WAYS.items():
        measure(words, [sys.executable, "-m", __spec__.name, way])


if __name__ == "__main__":
    main()
