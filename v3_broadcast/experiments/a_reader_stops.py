"""What does a reader who stops do to a room? `python3 -m v3_broadcast.experiments.a_reader_stops`

In each of three rooms alice says 2000 lines of 1000 bytes, as fast as the server takes them. bob
reads all the time. carol never reads, and closes after 1.5 seconds if the server has not done so
before. The rooms are v3_broadcast, the same with a shorter timeout, and the chat server that most
tutorials write. They run at the same time.
"""

import asyncio
import contextlib
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from benchmarks.contestants import tutorial_server
from harness.joining import joined
from harness.launcher import REPOSITORY, RunningServer, launch, server_command
from v3_broadcast import server

LINES = 2000
LINE = "x" * 1000
CAROL_CLOSES_AFTER_SECONDS = 1.5
ROOMS = {
    "v3_broadcast": server_command("v3_broadcast"),
    "... --stall-timeout 0.3": server_command("v3_broadcast", "--stall-timeout", "0.3"),
    "the tutorials' server": [sys.executable, "-m", __spec__.name, "--port", "0"],
}
real_start_server = asyncio.start_server


async def start_server(*arguments) -> asyncio.Server:
    """Give the tutorials' server the same buffer in the kernel as v3 has."""
    listening = await real_start_server(*arguments)
    for listener in listening.sockets:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, server.HIGH_WATER // 2)
    return listening


def play(room: RunningServer) -> str:
    """Play the scene in one room; returns its figures."""
    with joined(room, "alice", "bob", "carol") as (alice, bob, carol):
        # The less carol's kernel takes for her, the sooner the server has to.
        carol.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        start = last = time.monotonic()
        closing = threading.Timer(CAROL_CLOSES_AFTER_SECONDS, carol.close)
        closing.start()
        speaking = threading.Thread(target=alice.send_bytes, args=[f"{LINE}\n".encode() * LINES])
        speaking.start()
        heard = 0
        longest_silence = left_after = 0.0
        while heard < LINES or not left_after:
            line = bob.read_line()
            now = time.monotonic()
            longest_silence = max(longest_silence, now - last)
            last = now
            if line == f"alice: {LINE}":
                heard += 1
            elif line == "* carol left":
                left_after = now - start
        closing.cancel()
        speaking.join()
    return f"{longest_silence:8.1f} s {heard:12} of {LINES} {left_after:12.1f} s"


def main() -> None:
    if len(sys.argv) > 1:
        asyncio.start_server = start_server
        asyncio.run(tutorial_server.main())
        return
    with contextlib.ExitStack() as stack, ThreadPoolExecutor() as pool:
        running = [
            stack.enter_context(launch(name, command, profile="chat", cwd=REPOSITORY))
            for name, command in ROOMS.items()
        ]
        print("                         bob's longest   of alice's lines   carol was gone")
        print("                         silence         he has heard       after")
        for name, figures in zip(ROOMS, pool.map(play, running), strict=True):
            print(f"{name:24} {figures}")


if __name__ == "__main__":
    main()
