"""A blocking client for the demo and the conformance check: one line at a time, bounded waits."""

import socket
from collections.abc import Iterator

ANSWER_SECONDS = 5.0  # a server that says nothing for so long has failed


class LineClient:
    """One connection to a chat server. Every read ends after ANSWER_SECONDS (TimeoutError)."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.connection = socket.create_connection(address, timeout=ANSWER_SECONDS)
        self.unread = b""

    def send(self, line: str) -> None:
        """Send one line."""
        self.send_bytes(line.encode() + b"\n")

    def send_bytes(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.connection.sendall(data)

    def lines(self) -> Iterator[str]:
        """Received lines, until the server closes."""
        while True:
            while b"\n" not in self.unread:
                chunk = self.connection.recv(65536)
                if not chunk:
                    return
                self.unread += chunk
            line, self.unread = self.unread.split(b"\n", 1)
            yield line.decode(errors="replace")

    def until(self, last: str) -> list[str]:
        """The lines up to and including `last`. Raises EOFError when the server closes first."""
        received = []
        for line in self.lines():
            received.append(line)
            if line == last:
                return received
        raise EOFError(f"closed the connection where {last!r} was expected")

    def barrier(self) -> list[str]:
        """Everything the server had for us before it answered our `/ping`."""
        self.send("/ping barrier")
        return self.until("* pong barrier")[:-1]

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()
