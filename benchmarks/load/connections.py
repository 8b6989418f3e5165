"""The load generator's connections to one server, and the window in which everything is counted.

It is built to be cheaper than any server it drives: one epoll loop, `recv_into` one buffer,
payloads built beforehand, no garbage collection. It still reports what share of its core it used,
so that nobody has to take that on trust.
"""

import contextlib
import os
import re
import select
import selectors
import socket
import time
from collections.abc import Callable, Iterable
from typing import NoReturn

from benchmarks.load.probe import ServerProbe, waiting_ns

READABLE = 1  # EPOLLIN
WRITABLE = 4  # EPOLLOUT
# The same by what selectors says: EVENT_READ is 1, EVENT_WRITE 2.
OF_SELECTORS = (0, READABLE, WRITABLE, READABLE | WRITABLE)
BATCH = 50  # connections that are opened at a time: fewer than any listen backlog holds
BUFFER_BYTES = 1 << 18
LAST_PING, LAST_PONG = b"/ping nothing more\n", b"* pong nothing more\n"

monotonic_ns = time.monotonic_ns


class Refused(Exception):
    """The server said `! server full`; `held` is how many clients were in by then."""

    def __init__(self, held: int) -> None:
        super().__init__("! server full")
        self.held = held


class Broken(Exception):
    """The server hung or closed a connection: the trial has no result."""


class Lost(Exception):
    """An answer or a delivery was lost, doubled, wrong or early: the trial is failed."""


class SelectorPoll:
    """epoll's interface on the best selector of other systems (kqueue on macOS and BSD)."""

    def __init__(self) -> None:
        self.selector = selectors.DefaultSelector()
        self.unregister = self.selector.unregister

    def register(self, fd: int, events: int) -> None:
        self.selector.register(fd, OF_SELECTORS.index(events))

    def modify(self, fd: int, events: int) -> None:
        self.selector.modify(fd, OF_SELECTORS.index(events))

    def poll(self, timeout: float, maximum: int = -1) -> list[tuple[int, int]]:
        """The descriptors that are ready, and for what. `maximum` is epoll's, and not kept."""
        return [(key.fd, OF_SELECTORS[events]) for key, events in self.selector.select(timeout)]


class Load:
    """Connections to one server, and the window in which everything is counted.

    Clients are known by their file descriptors. `patience` is for how many seconds a server that
    owes us something may stay silent before the trial is given up.
    """

    def __init__(
        self,
        address: tuple[str, int],
        profile: str,
        pid: int,
        patience: float,
        server_cores: Iterable[int] = (),
    ) -> None:
        self.address = address
        self.profile = profile
        self.patience = patience
        self.sockets: dict[int, socket.socket] = {}
        # How many clients the server has let in.
        self.greeted = 0
        # What the kernel has not taken yet, by client.
        self.pending: dict[int, bytearray] = {}
        # What is to be done with clients that are readable while others are waited for.
        self.aside: dict[int, Callable[[int], object]] = {}
        self.buffer = bytearray(BUFFER_BYTES)
        self.view = memoryview(self.buffer)
        # Made before any connection, it has a descriptor below the 1024 that select() can take.
        self.poller = select.epoll() if hasattr(select, "epoll") else SelectorPoll()
        self.probe = ServerProbe(pid, server_cores)
        # What both sides had used when the window was opened.
        self._opened: dict[str, int] = {}
        self._client_share = 0.0
        self.server_ns = 0
        self.seconds = 0.0
        self.metrics: dict[str, float] = {}

    # Connections

    def connect(self, count: int, receive_bytes: int = 0) -> list[int]:
        """Open `count` connections, each greeted; raises Refused."""
        clients: list[int] = []
        for start in range(0, count, BATCH):
            batch = [self.open(receive_bytes) for _ in range(min(BATCH, count - start))]
            greetings = self.collect(batch, lambda text: text.endswith(b"\n"))
            for fd in batch:
                if greetings[fd].startswith(b"! server full"):
                    raise Refused(self.greeted)
                if not greetings[fd].startswith(b"* "):
                    raise Lost(f"greeted with {greetings[fd][:60]!r}")
                clients.append(fd)
                self.greeted += 1
        return clients

    def open(self, receive_bytes: int = 0, wait: bool = True) -> int:
        """Open one connection and return its descriptor; the greeting is still to come.

        Without `wait` the connection itself may still be to come, too.
        """
        family = socket.AF_INET6 if ":" in self.address[0] else socket.AF_INET
        connection = socket.socket(family, socket.SOCK_STREAM)
        # The other side is told the size of the buffer when the connection is made.
        if receive_bytes:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        connection.settimeout(self.patience if wait else 0)
        # Without `wait` it is under way, as asked for.
        with contextlib.suppress(BlockingIOError):
            connection.connect(self.address)
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        fd = connection.fileno()
        self.sockets[fd] = connection
        self.poller.register(fd, READABLE)
        return fd

    def join(self, clients: list[int]) -> list[str]:
        """Give each client a name (all of one length), and leave nothing of it unread."""
        names = [f"c{number:05d}" for number in range(len(clients))]
        for fd, name in zip(clients, names, strict=True):
            self.send(fd, f"{name}\n".encode())
        answers = self.collect(clients, lambda text: b"* hello " in text and text[-1:] == b"\n")
        for fd, name in zip(clients, names, strict=True):
            if f"* hello {name}\n".encode() not in answers[fd]:
                raise Lost(f"{name} was answered {answers[fd][:60]!r}")
        self.settle(clients)
        return names

    def settle(self, clients: list[int]) -> None:
        """Read each client's leftovers up to the answer of a `/ping`: a barrier (rule D4).

        Twice: when all have had the first answer, all that the others caused has been queued.
        """
        for _ in range(2):
            for fd in clients:
                self.send(fd, b"/ping settled\n")
            self.collect(clients, lambda text: b"* pong settled\n" in text)

    def collect(self, clients: Iterable[int], done: Callable[[bytes], bool]) -> dict[int, bytes]:
        """Read each of `clients` until `done(what it received)`; what others get is dropped."""
        received = {fd: b"" for fd in clients}
        waiting = set(received)
        while waiting:
            for fd, events in self.wait():
                if events & WRITABLE:
                    self.on_writable(fd)
                if events & ~WRITABLE and fd in self.aside and fd not in received:
                    self.aside[fd](fd)
                elif events & ~WRITABLE:
                    count = self.sockets[fd].recv_into(self.buffer)
                    if count == 0 and (fd in waiting or fd not in received):
                        raise Broken("the server closed a connection")
                    # The server has said what it had to, such as `! server full`.
                    if count == 0:
                        self.poller.unregister(fd)
                    elif fd in waiting:
                        received[fd] += self.buffer[:count]
                        if done(received[fd]):
                            waiting.discard(fd)
        return received

    def expect_nothing_more(
        self, clients: Iterable[int], ignored: re.Pattern[bytes] | None = None
    ) -> None:
        """Raise Lost if these clients get more than lines to be ignored and one last answer."""
        for fd in clients:
            self.send(fd, LAST_PING)
        for answer in self.collect(clients, lambda text: text.endswith(LAST_PONG)).values():
            surplus = answer.removesuffix(LAST_PONG)
            if ignored:
                surplus = ignored.sub(b"", surplus)
            if surplus:
                raise Lost(f"{shown(surplus)} came where nothing more was expected")

    def give_up(self, client: int, missing: str) -> NoReturn:
        """Something did not come: raise Lost if the server still answers, Broken if not."""
        self.send(client, b"/ping alive\n")
        self.collect([client], lambda text: b"* pong alive\n" in text)
        raise Lost(missing)

    def wait(self) -> list[tuple[int, int]]:
        """Ready clients; raises Broken when there is none for `patience` seconds."""
        ready = self.poller.poll(self.patience)
        if not ready:
            raise Broken(f"the server said nothing for {self.patience:g} s while it owed answers")
        return ready

    def receive(self, fd: int) -> int:
        """Bytes read into the buffer; raises Broken at end of input."""
        count = self.sockets[fd].recv_into(self.buffer)
        if count == 0:
            raise Broken("the server closed a connection")
        return count

    def send(self, fd: int, data: bytes) -> None:
        """Send, and keep for later what the kernel does not take."""
        if fd in self.pending:
            self.pending[fd] += data
            return
        try:
            sent = self.sockets[fd].send(data)
        except BlockingIOError:
            sent = 0
        if sent < len(data):
            # A bytearray, because a server may keep us waiting with megabytes.
            self.pending[fd] = bytearray(data[sent:])
            self.poller.modify(fd, READABLE | WRITABLE)

    def on_writable(self, fd: int) -> None:
        kept = self.pending[fd]
        # It may not be writable after all.
        with contextlib.suppress(BlockingIOError):
            del kept[: self.sockets[fd].send(kept)]
        if not kept:
            del self.pending[fd]
            self.poller.modify(fd, READABLE)

    def close(self, fd: int) -> None:
        self.poller.unregister(fd)
        self.pending.pop(fd, None)
        self.sockets.pop(fd).close()

    # The measured window

    def open_window(self) -> None:
        """Warm-up is over: from here on everything counts."""
        self._opened = self._used()

    def close_window(self) -> None:
        """Stop counting; `seconds` and `metrics` tell what the window cost both sides."""
        used = {name: value - self._opened[name] for name, value in self._used().items()}
        wall, self.server_ns, cores = used["wall_ns"], used["server_ns"], self.probe.cores
        self.seconds = wall / 1e9
        # Our core may be one of the server's.
        ours = used["client_ns"] if cores and cores & os.sched_getaffinity(0) else 0
        taken_by_others = len(cores) * wall - used["nobodys_ns"] - self.server_ns - ours
        self.metrics = {
            "server_cpu_share": self.server_ns / wall,
            "server_wait_share": max(0, taken_by_others) / wall if cores else 0.0,
            "client_cpu_share": self._client_share or used["client_ns"] / wall,
            "client_wait_share": used["waited_ns"] / wall,
            "minor_faults": used["minor_faults"],
            "window_s": self.seconds,
        }

    def note_client_share(self) -> None:
        """Our own CPU share is the one up to now: what follows is only waiting for the server."""
        client_ns = time.process_time_ns() - self._opened["client_ns"]
        self._client_share = client_ns / (monotonic_ns() - self._opened["wall_ns"])

    def _used(self) -> dict[str, int]:
        return {
            "wall_ns": monotonic_ns(),
            "server_ns": self.probe.cpu_ns(),
            "nobodys_ns": self.probe.nobodys_ns(),
            "client_ns": time.process_time_ns(),
            "waited_ns": waiting_ns(),
            "minor_faults": self.probe.minor_faults(),
        }


def shown(received: bytes) -> str:
    """Bytes for a message to people; only the beginning of many."""
    return repr(bytes(received[:80])) + ("..." if len(received) > 80 else "")
