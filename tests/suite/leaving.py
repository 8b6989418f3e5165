"""Ways in which a client can leave, and that nothing is left of it.

A client that quits or half-closes still has to be closed.
"""

import os
import socket
import time
from collections.abc import Callable

import pytest

from harness.launcher import RunningServer
from harness.line_client import WHOLE_WAIT, LineClient
from harness.proc import ProcessView
from harness.waiting import wait_until

# The answer is eleven times as long as the question.
QUESTION = b"/a\n"
ANSWER = b"! unknown command: /a (try /help)\n"

# The answers, 371 kB, are more than the kernel takes (330 kB, for a client with a small buffer).
# The rest is less than HIGH_WATER, so the last words are still processed. The questions take two
# turns: if there were more, a thread of v1 would wait in the second, and never get to `/quit`.
QUESTIONS_OF_A_DEAF_CLIENT = 10_900


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


def deaf_client(
    connect: Callable[[RunningServer], LineClient],
    server: RunningServer,
    name: str,
    last_words: bytes,
) -> LineClient:
    """A client that has asked much, then sent its last words, and reads none of the answers."""
    client = connect(server)
    # With this the kernel holds little for it, and much waits in the server.
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32768)
    client.join(name)
    client.send_bytes(QUESTION * QUESTIONS_OF_A_DEAF_CLIENT + last_words)
    return client


def read_to_an_orderly_end(server: RunningServer, connection: socket.socket, who: str) -> list[str]:
    """Read all lines up to the end of output. A reset is no such end: it can destroy last words."""
    received = bytearray()
    seconds = server.session.at_most(10)
    connection.settimeout(seconds)
    deadline = time.monotonic() + WHOLE_WAIT * seconds
    try:
        while data := connection.recv(65536):
            received += data
            if time.monotonic() > deadline:
                raise TimeoutError
    except ConnectionError:
        pytest.fail(f"{who} got a reset in place of an orderly end, after {bytes(received[-60:])}")
    except TimeoutError:
        server.session.lose_patience()
        pytest.fail(f"{who} saw no end within {seconds:g} s, after {bytes(received[-60:])}")
    # recv() does not report a reset that comes after the end of output.
    if error := connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
        pytest.fail(f"{who} got a reset after the end of output: {os.strerror(error)}")
    return received.decode(errors="backslashreplace").splitlines()


def wait_until_as_small_as(
    server: RunningServer, process: ProcessView, threads: int, descriptors: int
) -> None:
    """Return when the server has at most so many threads and descriptors."""
    wait_until(
        lambda: process.threads() <= threads and process.descriptors() <= descriptors,
        f"at most {threads} threads and {descriptors} descriptors, as before",
        session=server.session,
    )
