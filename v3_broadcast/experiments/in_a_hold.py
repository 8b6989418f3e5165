"""Who waits in a hold? `python3 -m v3_broadcast.experiments.in_a_hold`

carol does not read, and what alice says fills her outbox: carol holds the room. Meanwhile some
others want something from the server, and each of them waits for 0.1 seconds. Once carol is gone,
those that went without an answer wait once more.
"""

import socket
import threading

from harness.joining import joined
from harness.line_client import LineClient
from harness.server_under_test import ServerUnderTest
from harness.waiting import wait_until

LINE = "x" * 1000
LINES = 2000
PATIENCE_SECONDS = 0.1
# When no line has come for so long, we know that the hold has begun.
QUIET_SECONDS = 0.25


def comes(client: LineClient, wanted: str, seconds: float = PATIENCE_SECONDS) -> bool:
    """Whether a line comes before the client's patience ends."""
    while client.wait_for_data(seconds):
        if client.read_line() == wanted:
            return True
    return False


def main() -> None:
    with (
        ServerUnderTest.ours("v3_broadcast").start("--stall-timeout", "1.5") as room,
        joined(room, "alice", "bob", "carol", "erin") as (alice, bob, carol, erin),
        LineClient(room.address) as dave,
    ):
        carol.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        dave.read_line()
        flood = threading.Thread(target=alice.send_bytes, args=[f"{LINE}\n".encode() * LINES])
        flood.start()
        # The hold has begun when nothing more comes.
        while comes(bob, f"alice: {LINE}", QUIET_SECONDS):
            pass
        with LineClient(room.address) as newcomer:
            wanted = {
                "a newcomer is greeted": (newcomer, "* v3_broadcast: enter your name"),
                "dave's name is accepted": (dave, "* hello dave"),
                "bob's /ping is answered": (bob, "* pong"),
                "erin's /quit is obeyed": (erin, "* bye erin"),
            }
            dave.send_line("dave")
            bob.send_line("/ping")
            erin.send_line("/quit")
            in_the_hold = {what: comes(*pair) for what, pair in wanted.items()}
            wait_until(lambda: "carol left" in room.log(), "carol is dropped")
            print("                          in the hold   afterwards")
            for what, pair in wanted.items():
                before = in_the_hold[what]
                after = before or comes(*pair)
                print(f"{what:25} {'yes' if before else 'no':13} {'yes' if after else 'no'}")
            flood.join()


if __name__ == "__main__":
    main()
