"""Ways in which a client can leave, and that nothing is left of it.

A client that quits or half-closes still has to be closed.
"""

from harness.launcher import RunningServer
from harness.line_client import LineClient
from harness.proc import ProcessView
from harness.waiting import wait_until


def quit_politely(client: LineClient) -> None:
    client.send_line("/quit")
    client.read_to_end()


def end_input(client: LineClient) -> None:
    client.close()


def reset_in_mid_line(client: LineClient) -> None:
    client.send_bytes(b"hel")
    client.reset()


def half_close(client: LineClient) -> None:
    client.half_close()
    client.read_to_end()


def wait_until_as_small_as(
    server: RunningServer, process: ProcessView, threads: int, descriptors: int
) -> None:
    """Return when the server has at most so many threads and descriptors."""
    wait_until(
        lambda: process.threads() <= threads and process.descriptors() <= descriptors,
        f"at most {threads} threads and {descriptors} descriptors, as before",
        session=server.session,
    )
