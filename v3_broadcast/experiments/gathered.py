"""What does a line cost per reader? `python3 -m v3_broadcast.experiments.gathered`

100 readers are in, and alice says 250 lines. First she says one at a time, each when the answer to
a /ping has told her that the one before is through. Then she says ten at a time, then all in one
piece. v3 runs as it is, except for two things: the calls of flush() that send something are
counted, and a command `/spent` tells that count and the CPU time of the process.
"""

import selectors
import sys
import threading
import time

from harness.joining import joined
from harness.launcher import REPOSITORY, launch
from harness.line_client import LineClient
from v3_broadcast import server

READERS = 100
LINES = 250
LINE = "x" * 56 + "\n"
HEARD_BYTES = len(f"alice: {LINE}") * LINES


def serve() -> None:
    """Run v3 with a counter around flush()."""
    sends = 0
    real_flush = server.Server.flush
    real_answer = server.answer_command

    def counting_flush(self: server.Server, client: server.Client) -> None:
        nonlocal sends
        sends += bool(client.outbox)
        real_flush(self, client)

    def answer_or_tell(command: str, argument: str, members: dict) -> str:
        if command == "/spent":
            return f"* {sends} {time.process_time()}"
        return real_answer(command, argument, members)

    server.Server.flush = counting_flush
    server.answer_command = answer_or_tell
    server.main()


def spent_so_far(client: LineClient) -> tuple[int, float]:
    """Return the number of sends, and the seconds of CPU time."""
    client.send_line("/spent")
    sends, seconds = client.read_line().removeprefix("* ").split()
    return int(sends), float(seconds)


def hear_all(readers: list[LineClient]) -> None:
    """Read until each of the readers has every line."""
    missing = {reader.socket: HEARD_BYTES for reader in readers}
    with selectors.DefaultSelector() as selector:
        for connection in missing:
            selector.register(connection, selectors.EVENT_READ)
        while selector.get_map():
            for key, _ in selector.select():
                missing[key.fileobj] -= len(key.fileobj.recv(65536))
                if not missing[key.fileobj]:
                    selector.unregister(key.fileobj)


def main() -> None:
    if sys.argv[1:2] == ["serve"]:
        del sys.argv[1]
        serve()
        return
    command = [sys.executable, "-m", __spec__.name, "serve", "--port", "0"]
    with (
        launch("v3", command, profile="chat", cwd=REPOSITORY) as running,
        joined(running, *[None] * READERS, "alice") as (*readers, alice),
    ):
        print("lines at a time   deliveries   sends   deliveries a send   CPU time a delivery")
        for at_once in (1, 10, LINES):
            sends, seconds = spent_so_far(alice)
            hearing = threading.Thread(target=hear_all, args=[readers])
            hearing.start()
            for _ in range(LINES // at_once):
                alice.send_bytes(LINE.encode() * at_once)
                alice.ping()
            hearing.join()
            sends_now, seconds_now = spent_so_far(alice)
            deliveries = LINES * READERS
            # Do not count the sends to alice herself: one for each /ping, and one for /spent.
            sends = sends_now - sends - LINES // at_once - 1
            cost = (seconds_now - seconds) / deliveries * 1_000_000
            print(
                f"{at_once:15} {deliveries:12} {sends:7} {deliveries / sends:19.1f} {cost:18.1f} µs"
            )


if __name__ == "__main__":
    main()
