"""A Redis for the given tests: started on a free port of this machine, keeping nothing on disk."""

import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from harness.launcher import end_process, start_process
from harness.waiting import wait_until

PROGRAMS = ("redis-server", "valkey-server")
NOT_THERE = "redis-server is not installed: on Debian, apt-get install -y redis-server"
CHANNEL = "chat"


class Redis:
    """A Redis that runs in a folder until the `with` block ends; a skip where none is installed."""

    def __init__(self, folder: Path) -> None:
        program = next(filter(None, map(shutil.which, PROGRAMS)), None)
        if program is None:
            pytest.skip(NOT_THERE)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        on_disk = ["--save", "", "--appendonly", "no", "--dir", str(folder)]
        self.process = start_process(
            [program, "--bind", "127.0.0.1", "--port", str(self.port), *on_disk],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            wait_until(self.answers, "redis-server to answer")
        except BaseException:
            self.end()
            raise

    @property
    def address(self) -> str:
        """HOST:PORT, as `--broker` wants it."""
        return f"127.0.0.1:{self.port}"

    def answers(self) -> bool:
        """Whether it is ready."""
        try:
            return self.ask("PING") == ["+PONG"]
        # It does not listen yet.
        except OSError:
            return False

    def ask(self, command: str) -> list[str]:
        """The lines of the answer to one command."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
            connection.sendall(f"{command}\r\nQUIT\r\n".encode())
            with connection.makefile(encoding="utf-8", newline="\r\n") as answer:
                lines = [line.rstrip("\r\n") for line in answer]
        # The last one is the answer to QUIT.
        return lines[:-1]

    def subscribers(self) -> int:
        """How many clients listen to the channel."""
        return int(self.ask(f"PUBSUB NUMSUB {CHANNEL}")[-1].removeprefix(":"))

    def end(self) -> None:
        """End it at once, without a word to the clients that are connected."""
        self.process.kill()
        end_process(self.process)

    def __enter__(self) -> "Redis":
        return self

    def __exit__(self, *exception: object) -> None:
        self.end()
