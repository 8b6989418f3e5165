"""Do all see the same conversation? `python3 -m v3_broadcast.experiments.same_order`

ann and ben each say 600 numbered lines, as fast as the server takes them. first and last only
read; slow, who joined between them, does not read for half a second, then goes on. Then the lines
that first and last have heard are compared: in v3_broadcast, and in the tutorials' server.
"""

import contextlib
import socket
import time
from concurrent.futures import ThreadPoolExecutor

from harness.launcher import REPOSITORY, RunningServer, launch
from harness.line_client import LineClient
from v3_broadcast.experiments.a_reader_stops import ROOMS

LINES = 600  # of each of the two
PADDING = "x" * 900
PAUSE = 0.5  # seconds
SPEAKERS = ("ann", "ben")


def speak(client: LineClient) -> None:
    lines = (f"{number} {PADDING}\n" for number in range(1, LINES + 1))
    client.send_bytes("".join(lines).encode())


def hear(client: LineClient, pause: float) -> list[str]:
    """After a pause, read what the two say; returns "ann: 1", "ben: 1" and so on.

    They read, too, each what the other says: a speaker who does not would be one more slow reader.
    """
    time.sleep(pause)
    heard: list[str] = []
    while len(heard) < (LINES if client.name in SPEAKERS else 2 * LINES):
        line = client.read_line()
        if line.startswith(tuple(f"{name}: " for name in SPEAKERS)):
            heard.append(line.removesuffix(PADDING).strip())
    return heard


def play(room: RunningServer) -> str:
    """Play the scene in one room; returns what came out."""
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(7) as pool:
        clients = {}
        for name in (*SPEAKERS, "first", "slow", "last"):
            clients[name] = stack.enter_context(LineClient(room.address))
            clients[name].join(name)
        clients["slow"].socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32 * 1024)
        hearing = {
            name: pool.submit(hear, client, PAUSE if name == "slow" else 0)
            for name, client in clients.items()
        }
        for name in SPEAKERS:
            pool.submit(speak, clients[name])
        heard = {name: future.result() for name, future in hearing.items()}
    pairs = enumerate(zip(heard["first"], heard["last"], strict=True), start=1)
    different = [(number, pair) for number, pair in pairs if pair[0] != pair[1]]
    if not different:
        return f"first and last have heard the same {2 * LINES} lines, in the same order"
    number, (one, other) = different[0]
    return f"line {number} is {one!r} for first, {other!r} for last; {len(different)} differ"


def main() -> None:
    names = ("v3_broadcast", "the tutorials' server")
    with contextlib.ExitStack() as stack, ThreadPoolExecutor() as pool:
        rooms = [
            stack.enter_context(launch(name, ROOMS[name], profile="chat", cwd=REPOSITORY))
            for name in names
        ]
        for name, sentence in zip(names, pool.map(play, rooms), strict=True):
            print(f"{name}: {sentence}")


if __name__ == "__main__":
    main()
