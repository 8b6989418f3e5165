"""Do all see the same conversation? `python3 -m v3_broadcast.experiments.same_order`

ann and ben each say 600 numbered lines, as fast as the server takes them. first and last only
read. slow, who joined between them, does not read for half a second, and then reads, too. In the
end the lines that first and last have heard are compared: in v3_broadcast, and in the tutorials'
server.
"""

import contextlib
import socket
import time
from concurrent.futures import ThreadPoolExecutor

from harness.joining import joined
from harness.launcher import REPOSITORY, RunningServer, launch
from harness.line_client import LineClient
from v3_broadcast.experiments.a_reader_stops import ROOMS

# Each of the two says so many.
LINES = 600
PADDING = "x" * 900
PAUSE_SECONDS = 0.5
SPEAKERS = ("ann", "ben")


def speak(client: LineClient) -> None:
    lines = (f"{number} {PADDING}\n" for number in range(1, LINES + 1))
    client.send_bytes("".join(lines).encode())


def hear(client: LineClient, pause: float) -> list[str]:
    """After a pause, read what the two say; returns "ann: 1", "ben: 1" and so on.

    The speakers read what the other one says, too. If they did not, each would be a slow reader.
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
    with (
        joined(room, *SPEAKERS, "first", "slow", "last") as clients,
        ThreadPoolExecutor(7) as pool,
    ):
        ann, ben, _, slow, _ = clients
        slow.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32 * 1024)
        hearing = [
            pool.submit(hear, client, PAUSE_SECONDS if client is slow else 0) for client in clients
        ]
        for speaker in (ann, ben):
            pool.submit(speak, speaker)
        _, _, first, _, last = (heard.result() for heard in hearing)
    pairs = enumerate(zip(first, last, strict=True), start=1)
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
