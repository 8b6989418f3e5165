"""What does a timeout cost? `python3 -m v1_threads.experiments.timeouts`

v1 runs with its timeouts set in three ways: before each call (as it is), once for each connection,
and once as options of the socket, so that the kernel counts the time (SO_RCVTIMEO, SO_SNDTIMEO).
One client sends `/ping` and waits for the answer, again and again. The CPU time of a message is
that of the best of many rounds, because another program can only add to it. If strace works here,
a second run counts system calls.
"""

import contextlib
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from harness.joining import joined
from harness.launcher import REPOSITORY, RunningServer, launch
from harness.line_client import LineClient
from v1_threads import server

ROUNDS = 20
MESSAGES = 200
CALLS = ("poll", "recvfrom", "sendto", "ioctl")
# ioctl(FIONBIO) sets a timeout. All other calls of ioctl() belong to Python's start.
CALL = re.compile(r"\b(poll|recvfrom|sendto)\(|\b(ioctl)\(\d+, FIONBIO")
WAYS = {
    "each": "settimeout() each time, as v1",
    "once": "settimeout() once",
    "option": "SO_RCVTIMEO, SO_SNDTIMEO once",
}


def set_options(connection: socket.socket, seconds: float) -> None:
    """Let the kernel count the time: a recv() or send() that takes longer fails with EAGAIN."""
    timeval = struct.pack("ll", int(seconds), int(seconds % 1 * 1_000_000))
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeval)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeval)


def set_once(set_timeout: Callable[[socket.socket, float], None]) -> None:
    """Let v1 set one timeout when a connection begins, and none later."""
    real_serve_client = server.Server.serve_client

    def serve_client(self: server.Server, client: server.Client) -> None:
        set_timeout(client.connection, self.options.idle_timeout)
        real_serve_client(self, client)

    server.Server.serve_client = serve_client
    socket.socket.settimeout = lambda *_: None


def serve(way: str) -> None:
    """Run v1 in one of the ways, with a command `/cpu` that tells its CPU time in seconds."""
    if way == "once":
        set_once(socket.socket.settimeout)
    if way == "option":
        set_once(set_options)
    real_answer = server.answer_command

    def answer_or_tell(command: str, argument: str, members: dict) -> str:
        if command == "/cpu":
            return f"* {time.process_time()}"
        return real_answer(command, argument, members)

    server.answer_command = answer_or_tell
    server.main()


def start(way: str, *tracer: str) -> RunningServer:
    command = [*tracer, sys.executable, "-m", __spec__.name, way, "--port", "0"]
    return launch("v1", command, profile="echo", cwd=REPOSITORY)


def exchange(client: LineClient) -> None:
    """Send MESSAGES lines, each after the answer to the one before."""
    for _ in range(MESSAGES):
        client.socket.sendall(b"/ping\n")
        client.socket.recv(100)


def cpu_time(client: LineClient) -> float:
    client.send_line("/cpu")
    return float(client.read_line().removeprefix("* "))


def measure() -> dict[str, float]:
    """Return the microseconds of CPU time that a message takes, for each way."""
    with contextlib.ExitStack() as stack:
        clients: dict[str, LineClient] = {}
        for way in WAYS:
            running = stack.enter_context(start(way))
            (clients[way],) = stack.enter_context(joined(running, "alice"))
        best = dict.fromkeys(WAYS, float("inf"))
        for _ in range(ROUNDS):
            for way, client in clients.items():
                before = cpu_time(client)
                exchange(client)
                best[way] = min(best[way], cpu_time(client) - before)
    return {way: seconds / MESSAGES * 1_000_000 for way, seconds in best.items()}


def count_calls(way: str) -> str:
    """Say how many system calls a message takes; or that they cannot be counted here."""
    strace = shutil.which("strace")
    if strace is None or subprocess.run([strace, "-qq", "true"], capture_output=True).returncode:
        return "not counted: no strace that works here"
    with tempfile.TemporaryDirectory() as directory:
        trace = Path(directory, "trace")
        # With -D the server is our own child, and the tracer is a process beside it.
        tracer = [strace, "-D", "-f", "-qq", "-e", ",".join(CALLS), "-o", str(trace)]
        with start(way, *tracer) as running, joined(running, "alice") as (client,):
            before = Counter(CALL.findall(trace.read_text()))
            exchange(client)
            after = Counter(CALL.findall(trace.read_text()))
    calls = (after - before).items()
    counts = {"".join(names): number / MESSAGES for names, number in calls}
    words = (f"{name} {counts[name]:.0f}" for name in CALLS if name in counts)
    return f"{sum(counts.values()):.0f}: {', '.join(words)}"


def main() -> None:
    if len(sys.argv) > 1:
        serve(sys.argv.pop(1))
        return
    if os.name != "posix":
        sys.exit("timeouts: the option is made as on Linux and macOS; this is another system")
    print("                               CPU time of a message   its system calls")
    for way, microseconds in measure().items():
        print(f"{WAYS[way]:30} {microseconds:19.1f} µs   {count_calls(way)}")


if __name__ == "__main__":
    main()
