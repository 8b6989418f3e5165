"""Several clients of one server that are all in."""

import contextlib
from collections.abc import Iterator

from harness.launcher import RunningServer
from harness.line_client import LineClient


@contextlib.contextmanager
def joined(server: RunningServer, *names: str | None) -> Iterator[list[LineClient]]:
    """Clients of these names (None: a guest), all in, with nothing unread; closed at the end."""
    with contextlib.ExitStack() as stack:
        clients = []
        for name in names:
            client = stack.enter_context(LineClient(server.address, session=server.session))
            client.join(name)
            clients.append(client)
        # In a room they have been told of those who came after them.
        for client in clients:
            client.ping()
        yield clients
