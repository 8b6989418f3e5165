"""Places, L2: each is free again when its client has gone, whichever way that was."""

import pytest

from harness.answers import SERVER_FULL
from harness.waiting import wait_until

# Those who leave close at once, and do not make use of the three seconds of C4.
SECONDS_TO_GO = 5


def quit_politely(client):
    client.send_line("/quit")
    client.read_to_end()
    client.close()


def end_input(client):
    client.close()


def reset_in_mid_line(client):
    client.send_bytes(b"hel")
    client.reset()


def half_close(client):
    client.half_close()
    client.read_to_end()
    client.close()


@pytest.mark.parametrize(
    ("leave", "stage"),
    [
        (quit_politely, "in"),
        (end_input, "in"),
        (end_input, "greeted"),
        (reset_in_mid_line, "in"),
        (reset_in_mid_line, "greeted"),
        (half_close, "in"),
        (half_close, "greeted"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_a_place_is_free_again(launch_server, connect, join, leave, stage):
    """L2: however its client has gone; a server that forgets some is full one day, with nobody in.

    Three take all the places that there are beside the witness's, and leave them to three others.
    """
    server = launch_server("--max-clients", "4")
    witness = join(server, "witness")
    visitors = [connect(server) for _ in range(3)]
    for number, visitor in enumerate(visitors):
        visitor.read_line()
        if stage == "in":
            visitor.send_line(f"visitor-{number}")
            visitor.read_until(f"* hello visitor-{number}")
    for visitor in visitors:
        leave(visitor)
    greeted = 0

    def all_are_greeted():
        nonlocal greeted
        newcomer = connect(server)
        if newcomer.read_line() == SERVER_FULL:
            newcomer.close()
        else:
            greeted += 1
        return greeted == len(visitors)

    wait_until(all_are_greeted, "as many newcomers to be greeted as have gone", SECONDS_TO_GO)
    assert witness.ask("/list")[-1] == "* 1 online: witness"
