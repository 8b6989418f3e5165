"""Who waits in a hold? `python3 -m v3_broadcast.experiments.in_a_hold`

carol does not read, and what alice says fills her outbox: carol holds the room. Meanwhile some
others want something of the server, and each of them waits for 0.1 seconds. Once carol is gone,
it is looked at again.
"""

import contextlib
import socket
import threading

from harness.launcher import launch, server_command
from harness.line_client import LineClient
from harness.waiting import wait_until

LINE = "x" * 1000
LINES = 2000
PATIENCE = 0.1  # seconds
QUIET = 0.25  # seconds without a line, by which we know that the hold has begun


def comes(client: LineClient, wanted: str, seconds: float = PATIENCE) -> bool:
    """Whether a line comes before the client's patience ends."""
    while client.wait_for_data(seconds):
        if client.read_line() == wanted:
            return True
    return False


def main() -> None:
    command = server_command("v3_broadcast", "--stall-timeout", "1.5")
    with contextlib.ExitStack() as stack:
        room = stack.enter_context(launch("v3", command, profile="chat"))
        alice, bob, carol, erin, dave = (
            stack.enter_context(LineClient(room.address)) for _ in range(5)
        )
        carol.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        for client, name in ((alice, "alice"), (bob, "bob"), (carol, "carol"), (erin, "erin")):
            client.join(name)
        dave.read_line()
        flood = threading.Thread(target=alice.send_bytes, args=[f"{LINE}\n".encode() * LINES])
        flood.start()
        # The hold has begun when nothing more comes.
        while comes(bob, f"alice: {LINE}", QUIET):
            pass
        newcomer = stack.enter_context(LineClient(room.address))
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
        wait_until(lambda: "carol left" in room.log_path.read_text(), "carol is dropped")
        print("                          in the hold   afterwards")
        for what, pair in wanted.items():
            before = in_the_hold[what]
            after = before or comes(*pair)
            print(f"{what:25} {'yes' if before else 'no':13} {'yes' if after else 'no'}")
        flood.join()


if __name__ == "__main__":
    main()
