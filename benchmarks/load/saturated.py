"""Closed loop and flood: what a server does when there is always something to do.

No latency is reported: a client that waits for an answer before it asks again asks less often just
when the server is slow. Everything is numbered and checked here, too. The numbers come from a pool
that is used again and again, and is far larger than what can be under way at a time.

How much a server gathers into one turn depends on how fast it is asked again, so a load generator
that is too slow makes a busy server look expensive. A point is client-limited, and compares
nothing, when the generator used nearly all of its core, and also when the server had time to idle.
"""

import itertools
import random
from typing import NoReturn

from benchmarks.load.connections import WRITABLE, Broken, Load, Lost, monotonic_ns, shown
from benchmarks.result.status import Outcome, Status

POOL = 8192
SERVER_IDLE = 0.10
CLIENT_BUSY = 0.95


def judged(metrics: dict[str, float]) -> Outcome:
    """The outcome of a saturated trial: client-limited where the generator was what limited it."""
    client = metrics["client_cpu_share"]
    idle = 1 - metrics["server_cpu_share"] - metrics["server_wait_share"]
    if client > CLIENT_BUSY:
        reason = f"the load generator used {client:.0%} of its core"
    elif idle > SERVER_IDLE:
        reason = f"the server's core was idle for {idle:.0%} of the time"
    else:
        return Outcome(metrics=metrics)
    return Outcome(Status.CLIENT_LIMITED, reason, metrics)


def numbered_pings(seed: int) -> list[tuple[bytes, bytes]]:
    """Pairs of request and answer, in an order that a server cannot foresee."""
    numbers = list(range(POOL))
    random.Random(seed).shuffle(numbers)
    texts = [f"{number:08d}abcdefgh\n".encode() for number in numbers]
    return [(b"/ping " + text, b"* pong " + text) for text in texts]


class ClosedLoop:
    """Clients that ask, and ask again as soon as the answer is there."""

    def __init__(self, load: Load, clients: list[int], seed: int) -> None:
        self.load = load
        self.clients = clients
        pairs = numbered_pings(seed)
        # All answers are of one length.
        self.size = len(pairs[0][1])
        self.following = itertools.cycle(pairs).__next__
        self.owed: dict[int, bytes] = {}
        # What has come of an answer that is not there in full.
        self.partial: dict[int, bytes] = {}
        self.answers = 0

    def run(self, warmup: float, seconds: float) -> Outcome:
        """Ask for so long, and check every answer to the last one."""
        load = self.load
        wakeups = load.probe.wakeups()
        for fd in self.clients:
            request, self.owed[fd] = self.following()
            load.sockets[fd].send(request)
        measured = self._measure(warmup, seconds)
        # Each is still owed one answer.
        while self.owed:
            for fd, _ in load.poller.poll(load.patience) or self._give_up():
                count = load.sockets[fd].recv_into(load.buffer)
                received = self.partial[fd] = self.partial.get(fd, b"") + load.buffer[:count]
                if whole(received, self.owed.get(fd, b""), count):
                    del self.owed[fd]
        load.expect_nothing_more(self.clients)
        wakeups = load.probe.wakeups() - wakeups
        metrics = load.metrics | {
            "messages": measured,
            "replies_per_s": measured / load.seconds,
            "server_cpu_us": load.server_ns / 1e3 / max(1, measured),
            "wakeups_per_message": wakeups / (self.answers + len(self.clients)),
        }
        return judged(metrics)

    def _measure(self, warmup: float, seconds: float) -> int:
        """The loop itself; returns how many answers came in the window."""
        load, size, following = self.load, self.size, self.following
        owed, partial = self.owed, self.partial
        buffer, poll, patience = load.buffer, load.poller.poll, load.patience
        receive = {fd: load.sockets[fd].recv_into for fd in self.clients}
        send = {fd: load.sockets[fd].send for fd in self.clients}
        answers = before = 0
        opens, closes = monotonic_ns() + int(warmup * 1e9), 0
        while True:
            for fd, _ in poll(patience) or self._give_up():
                count = receive[fd](buffer)
                if count != size or not buffer.startswith(owed[fd]):
                    partial[fd] = partial.get(fd, b"") + buffer[:count]
                    if not whole(partial[fd], owed[fd], count):
                        continue
                    del partial[fd]
                answers += 1
                request, owed[fd] = following()
                send[fd](request)
            now = monotonic_ns()
            if closes:
                if now >= closes:
                    break
            elif now >= opens:
                load.open_window()
                before = answers
                closes = monotonic_ns() + int(seconds * 1e9)
        load.close_window()
        self.answers = answers
        return answers - before

    def _give_up(self) -> NoReturn:
        fd, answer = next(iter(self.owed.items()))
        count = len(self.owed)
        self.load.give_up(fd, f"{count} answers never came, one was to be {shown(answer)}")


def whole(received: bytes, owed: bytes, count: int) -> bool:
    """Whether an answer has come in full; raises Lost if it is another one."""
    if count == 0:
        raise Broken("the server closed a connection")
    if not owed.startswith(received):
        expected = f"{shown(owed)} was expected" if owed else "nothing more was expected"
        raise Lost(f"{shown(received)} came where {expected}")
    return received == owed


class Flood:
    """Chat: the first client says lines as fast as the server takes them, the others check them.

    Each send holds `lines_per_send` lines (a power of two) and a `/ping`, whose answer says that
    the lines have been queued for everybody, and lets the next send go. So a server can glue no
    more lines together than these, and no megabytes wait in socket buffers.
    """

    def __init__(
        self, load: Load, clients: list[int], name: str, line_bytes: int, lines_per_send: int
    ) -> None:
        self.load = load
        self.sender, *readers = clients
        self.line_bytes = line_bytes
        self.send_bytes = lines_per_send * line_bytes
        filling = "x" * (line_bytes - len(name) - len(": 00000000\n")) + "\n"
        texts = [f"{number:08d}{filling}".encode() for number in range(POOL)]
        firsts = range(0, POOL, lines_per_send)
        self.sends = [b"".join(texts[first : first + lines_per_send]) for first in firsts]
        # What every reader gets again and again, twice: a comparison may begin anywhere in it.
        self.expected = b"".join(f"{name}: ".encode() + text for text in texts) * 2
        self.period = len(self.expected) // 2
        self.receive = {fd: load.sockets[fd].recv_into for fd in readers}
        # The rest counts bytes: what each reader has got, what was said, what was delivered.
        self.seen = dict.fromkeys(readers, 0)
        self.said = 0
        self.delivered = 0
        self.sent = 0
        # What is still to come of the answer to the last send.
        self.pong = b""
        self.sending = True

    def run(self, warmup: float, seconds: float) -> Outcome:
        """Send for so long, and wait for every delivery."""
        load = self.load
        wakeups = load.probe.wakeups()
        self._say()
        for phase_seconds in (warmup, seconds):
            load.open_window()
            before = self.delivered
            until = monotonic_ns() + int(phase_seconds * 1e9)
            while monotonic_ns() < until:
                self._turn()
        load.close_window()
        measured = (self.delivered - before) // self.line_bytes
        self.sending = False
        while self.pong or self.delivered < self.said * len(self.seen):
            self._turn()
        load.expect_nothing_more([self.sender, *self.seen])
        wakeups = load.probe.wakeups() - wakeups
        metrics = load.metrics | {
            "deliveries": measured,
            "deliveries_per_s": measured / load.seconds,
            "server_cpu_us": load.server_ns / 1e3 / max(1, measured),
            "wakeups_per_message": wakeups * self.line_bytes / self.said,
        }
        return judged(metrics)

    def _say(self) -> None:
        lines = self.sends[self.sent % len(self.sends)]
        self.load.send(self.sender, lines + b"/ping %08d\n" % self.sent)
        self.pong = b"* pong %08d\n" % self.sent
        self.sent += 1
        self.said += self.send_bytes

    def _turn(self) -> None:
        """Wait for the server, and check what it has delivered."""
        load, sender, receive, seen = self.load, self.sender, self.receive, self.seen
        buffer, view, expected, period = load.buffer, load.view, self.expected, self.period
        for fd, events in load.poller.poll(load.patience) or self._give_up():
            if events & WRITABLE:
                load.on_writable(fd)
            if not events & ~WRITABLE:
                continue
            if fd == sender:
                self._on_pong()
                continue
            count = receive[fd](buffer)
            at = seen[fd]
            if at + count > self.said or not expected.startswith(view[:count], at % period):
                raise Lost(difference(view[:count], expected, at % period, self.line_bytes))
            if count == 0:
                raise Broken("the server closed a connection")
            seen[fd] = at + count
            self.delivered += count

    def _on_pong(self) -> None:
        received = self.load.view[: self.load.receive(self.sender)]
        if not self.pong.startswith(received):
            what = f"{shown(received)} came to the sender where {shown(self.pong)} was expected"
            raise Lost(what)
        self.pong = self.pong[len(received) :]
        if self.sending and not self.pong:
            self._say()

    def _give_up(self) -> NoReturn:
        short = [self.said - seen for seen in self.seen.values() if seen < self.said]
        missing = sum(short) // self.line_bytes
        what = f"{missing} deliveries never came, to {len(short)} of the readers"
        self.load.give_up(self.sender, what)


def difference(received: bytes, expected: bytes, at: int, line_bytes: int) -> str:
    """The first line that a reader did not expect; `at` bytes had been received before."""
    start = at - at % line_bytes
    lines = expected[start:at] + received
    for at in range(0, len(lines), line_bytes):
        line, owed = lines[at : at + line_bytes], expected[start + at : start + at + line_bytes]
        if line != owed[: len(line)]:
            return f"{shown(line)} came to a reader where {shown(owed)} was expected"
    return f"{shown(lines)} came to a reader before it was said"
