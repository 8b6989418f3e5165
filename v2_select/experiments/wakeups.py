"""How many calls of select() does a message cost? `python3 -m v2_select.experiments.wakeups`

Fifty clients are in. The first column says how many of them have a question under way at any
moment: from one (a quiet evening) to all fifty (as much as the server can do). v2 runs as it is,
except for two things: calls of select() are counted, and a command `/calls` tells the count.
"""

import select
import selectors
import sys
from collections import deque

from harness.joining import joined
from harness.launcher import REPOSITORY, launch
from harness.line_client import LineClient
from v2_select import server

CLIENTS = 50
MESSAGES = 2000
UNDER_WAY = (1, 5, 20, 50)


def serve() -> None:
    """Run v2 with a counter around select()."""
    calls = 0
    real_select = select.select
    real_answer = server.answer_command

    def counting_select(*arguments) -> tuple:
        nonlocal calls
        calls += 1
        return real_select(*arguments)

    def answer_or_tell(command: str, argument: str, members: dict) -> str:
        return f"* {calls}" if command == "/calls" else real_answer(command, argument, members)

    select.select = counting_select
    server.answer_command = answer_or_tell
    server.main()


def calls_so_far(client: LineClient) -> int:
    client.send_line("/calls")
    return int(client.read_line().removeprefix("* "))


def ask(clients: list[LineClient], under_way: int) -> None:
    """Ask MESSAGES times: whenever one is answered, the client that waited longest asks next."""
    turns = deque(clients)
    with selectors.DefaultSelector() as answers:
        for client in clients:
            answers.register(client.socket, selectors.EVENT_READ, client)
        sent = received = 0
        while received < MESSAGES:
            while sent - received < under_way and sent < MESSAGES:
                turns.popleft().socket.sendall(b"/ping\n")
                sent += 1
            for key, _ in answers.select():
                key.data.socket.recv(100)
                turns.append(key.data)
                received += 1


def main() -> None:
    if sys.argv[1:2] == ["serve"]:
        del sys.argv[1]
        serve()
        return
    command = [sys.executable, "-m", __spec__.name, "serve", "--port", "0"]
    with (
        launch("v2", command, profile="echo", cwd=REPOSITORY) as running,
        joined(running, *[None] * CLIENTS) as clients,
    ):
        print("under way   messages   calls of select()   calls a message")
        for under_way in UNDER_WAY:
            before = calls_so_far(clients[0])
            ask(clients, under_way)
            calls = calls_so_far(clients[0]) - before
            print(f"{under_way:9} {MESSAGES:10} {calls:19} {calls / MESSAGES:17.2f}")


if __name__ == "__main__":
    main()
