#!/usr/bin/env python3
"""Two processes of v3 listen on one port: who gets into which room, and who hears whom?

SO_REUSEPORT lets several sockets listen on one port. The kernel gives each newcomer to one of
them. Needs Linux: elsewhere one of the two may get everybody, and Windows has no such option.
"""

import contextlib
import functools
import socket
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from harness.line_client import LineClient
from harness.server_under_test import ServerUnderTest

CLIENTS = 20
# The server as it is, except that its listener shares its port.
SHARING_ITS_PORT = """
import functools, runpy, socket, sys
socket.create_server = functools.partial(socket.create_server, reuse_port=True)
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def main() -> None:
    if not hasattr(socket, "SO_REUSEPORT"):
        sys.exit("two_rooms_on_one_port: this system has no SO_REUSEPORT; try it on Linux")
    v3 = ServerUnderTest.ours("v3_broadcast")
    start = functools.partial(v3.start, preparation=[SHARING_ITS_PORT])
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(start())
        stack.enter_context(start("--port", str(first.port)))
        clients = []
        for number in range(CLIENTS):
            client = stack.enter_context(LineClient(first.address))
            client.join(f"client-{number}")
            clients.append(client)
        rooms = {client.ask("/list")[-1] for client in clients}
        for room in sorted(rooms):
            print(f"a room of {room.split()[1]}")
        speaker, *others = clients
        speaker.send_line("hi")
        speaker.ping()
        heard = sum("client-0: hi" in other.ping() for other in others)
        print(f"client-0 says hi: {heard} of {len(others)} others hear it")


if __name__ == "__main__":
    main()
