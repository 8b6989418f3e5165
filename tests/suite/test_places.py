"""Places, L2: each is free again when its client has gone, whichever way it went."""

import pytest

from harness.answers import SERVER_FULL
from harness.waiting import wait_until
from tests.suite.leaving import end_input, half_close, quit_politely, reset_in_mid_line

# The clients that leave close at once, so they do not need the three seconds of C4.
SECONDS_TO_GO = 5


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
    """L2: however its client has gone; a server that loses places is full one day, with nobody in.

    Three visitors take all places but the witness's, and leave them to three others.
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
        visitor.close()
    greeted = 0

    def all_are_greeted():
        nonlocal greeted
        newcomer = connect(server)
        if newcomer.read_line() == SERVER_FULL:
            newcomer.close()
        else:
            greeted += 1
        return greeted == len(visitors)

    awaited = "as many newcomers to be greeted as have gone"
    wait_until(all_are_greeted, awaited, SECONDS_TO_GO, server.session)
    assert witness.ask("/list")[-1] == "* 1 online: witness"
