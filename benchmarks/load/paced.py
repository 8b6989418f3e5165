"""Open loop: requests are due at random moments, whether the server keeps up or not.

Arrivals are Poisson, like the moments at which people who know nothing of each other write. Every
request carries a number, and every answer is checked as it comes, content and order. The check is
one comparison with what was prepared beforehand, and is cheap enough to be always on.
"""

import collections
import itertools
import random
import re
import select
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.load import connections
from benchmarks.load.connections import WRITABLE, Broken, Load, Lost, monotonic_ns, shown
from benchmarks.result.metrics import percentiles
from benchmarks.result.status import Outcome, Status

GRID_NS = 100_000
LATE_NS = 1_000_000
GRACE_NS = 20_000_000
KEPT_LIMIT = 0.98
ON_TIME_LIMIT = 0.99
CLIENT_CPU_LIMIT = 0.80
EVENTS_AT_A_TIME = 64  # before we look whether a message is due
LONGEST_LINE = 2048


def arrivals(rate: float, seconds: float, seed: int) -> array:
    """When messages are due: a Poisson process of so many a second, in ns from the start.

    The moments lie on a grid: a finer one would cost the generator more than the requests do.
    """
    source = random.Random(seed)
    due = array("q")
    at = source.expovariate(rate)
    while at < seconds:
        due.append(int(at * 1e9) // GRID_NS * GRID_NS)
        at += source.expovariate(rate)
    return due


@dataclass(frozen=True)
class Schedule:
    """When messages are due, and with `seed` who sends them. Those of the warm-up do not count."""

    rate: float
    warmup: float
    seconds: float
    seed: int


@dataclass(frozen=True)
class Traffic:
    """What is sent, and who has to get it.

    A message is `command` and a numbered text. It arrives as what its sender's messages begin with
    and that text. `hears` has, for each client, the senders it hears, as places in `senders`.
    """

    senders: list[int]
    beginnings: list[bytes]
    hears: dict[int, list[int]]
    filling: bytes
    command: bytes = b""

    @classmethod
    def pings(cls, clients: list[int]) -> "Traffic":
        """Each sends `/ping`, and is answered."""
        beginnings = [b"* pong "] * len(clients)
        return cls(clients, beginnings, themselves(clients), b"abcdefgh\n", b"/ping ")

    @classmethod
    def lines(
        cls, senders: list[int], names: list[str], hears: dict[int, list[int]], line_bytes: int
    ) -> "Traffic":
        """Each says lines, which arrive as `NAME: TEXT` with so many bytes."""
        beginnings = [f"{name}: ".encode() for name in names]
        filling = b"x" * (line_bytes - len(beginnings[0]) - len("00000000\n")) + b"\n"
        return cls(senders, beginnings, hears, filling)

    @property
    def copies(self) -> int:
        """How many clients get a message."""
        return max(collections.Counter(itertools.chain(*self.hears.values())).values())


def themselves(clients: list[int]) -> dict[int, list[int]]:
    """Each client hears itself alone (echo)."""
    return {fd: [index] for index, fd in enumerate(clients)}


def everybody_else(senders: list[int], receivers: list[int]) -> dict[int, list[int]]:
    """The receivers hear all senders but themselves (chat). The other senders hear nobody."""
    hears: dict[int, list[int]] = {fd: [] for fd in senders}
    for fd in receivers:
        hears[fd] = [index for index, sender in enumerate(senders) if sender != fd]
    return hears


@dataclass(slots=True, eq=False)
class Sender:
    """A client that sends, and how many bytes each of its receivers is owed for that by now."""

    fd: int
    owed: int = 0


@dataclass(slots=True, eq=False)
class Stream:
    """What one receiver has to get because of one sender: the bytes, and each line's number."""

    sender: Sender
    expected: bytes
    messages: Sequence[int]
    seen: int = 0


NOBODY = Stream(Sender(-1), b"", ())


class Receiver:
    """A client that gets answers or lines: `streams` of them, by the beginning of their lines."""

    __slots__ = ("only", "receive", "rest", "streams")

    def __init__(self, receive: Callable[[bytearray], int], streams: dict[bytes, Stream]) -> None:
        self.receive = receive
        self.streams = streams
        self.only = next(iter(streams.values())) if len(streams) == 1 else NOBODY
        # A line whose end has not arrived yet.
        self.rest = b""


class Paced:
    """A schedule of messages, to be run once.

    Latency counts from the due time, not from the moment of sending: a generator that is held up
    must not make the server look better (wrk2's correction). Where several get a message, it
    arrives when the last one has it.

    Lines that match `notice` may come in between; they are counted. `on_tick(seconds since the
    start)` is called about every `tick_seconds`. `keeps` says that the server is asked to keep the
    rate; experiments that give it other things to do ask for delays alone. A message that is sent
    more than `late_ns` after its due time is late.
    """

    def __init__(
        self,
        load: Load,
        traffic: Traffic,
        schedule: Schedule,
        *,
        notice: re.Pattern[bytes] | None = None,
        on_tick: Callable[[float], None] | None = None,
        tick_seconds: float = 0.05,
        keeps: bool = True,
        late_ns: int = LATE_NS,
    ) -> None:
        self.load = load
        self.seconds = schedule.seconds
        self.opens = int(schedule.warmup * 1e9)
        self.ends = int((schedule.warmup + schedule.seconds) * 1e9)
        self.notice = notice
        self.notices = 0
        # Seconds from the start to the first such line.
        self.noticed_at = 0.0
        self.on_tick = on_tick
        self.tick_ns = int(tick_seconds * 1e9)
        self.keeps = keeps
        self.late_ns = late_ns
        self.due = arrivals(schedule.rate, schedule.warmup + schedule.seconds, schedule.seed)
        # However short the window is, it has one message at least.
        if not self.due or self.due[-1] < self.opens:
            self.due.append(self.opens)
        self.total = len(self.due)
        # The first message that is measured.
        self.first = bisect_left(self.due, self.opens)
        self.copies = traffic.copies
        self.start = 0
        # Measured messages that were sent too late.
        self.late = 0
        # When the last receiver so far got each message.
        self.last_at = array("q", [0]) * self.total
        self._prepare(traffic, random.Random(f"who {schedule.seed}"))

    def _prepare(self, traffic: Traffic, source: random.Random) -> None:
        """Who sends which message, every request, and all that each client has to get."""
        senders, beginnings = [Sender(fd) for fd in traffic.senders], traffic.beginnings
        who = source.choices(range(len(senders)), k=self.total)
        self.sender_of = [senders[index] for index in who]
        texts = [b"%08d%b" % (number, traffic.filling) for number in range(self.total)]
        self.requests = [traffic.command + text for text in texts]
        messages: list[list[int]] = [[] for _ in senders]
        for number, index in enumerate(who):
            messages[index].append(number)
        expected = [
            b"".join([beginning + texts[number] for number in numbers])
            for beginning, numbers in zip(beginnings, messages, strict=True)
        ]
        # The bytes in which a message arrives.
        self.size = len(beginnings[0]) + len(texts[0])
        self.receivers = {}
        for fd, heard in traffic.hears.items():
            streams = {beginnings[i]: Stream(senders[i], expected[i], messages[i]) for i in heard}
            self.receivers[fd] = Receiver(self.load.sockets[fd].recv_into, streams)

    def run(self, aside: Mapping[int, Callable[[int], object]] | None = None) -> Outcome:
        """Send everything, and wait for all of it. `aside` serves clients that are no receivers."""
        load, total, due, receivers = self.load, self.total, self.due, self.receivers
        poll, wait_until = load.poller.poll, wait_function(load.poller)
        send, sender_of, requests, size = load.send, self.sender_of, self.requests, self.size
        on_readable, late_ns = self.on_readable, self.late_ns
        aside = load.aside = dict(aside or {})
        wakeups = load.probe.wakeups()
        owed = total * self.copies
        arrived = message = late = 0
        window_open = all_sent = False
        self.start = start = monotonic_ns() + 1_000_000
        last_progress = next_tick = start
        opens = start + self.opens
        next_due = start + due[0]
        while arrived < owed:
            now = monotonic_ns()
            if not window_open and now >= opens:
                load.open_window()
                window_open = True
                late = 0
            while next_due <= now and not all_sent:
                if now - next_due > late_ns:
                    late += 1
                sender = sender_of[message]
                sender.owed += size
                send(sender.fd, requests[message])
                message += 1
                if message == total:
                    all_sent = True
                    load.note_client_share()
                else:
                    next_due = start + due[message]
            if self.on_tick and now >= next_tick:
                self.on_tick((now - start) / 1e9)
                next_tick = now + self.tick_ns
            ready = poll(0, EVENTS_AT_A_TIME)
            if not ready:
                if now - last_progress > load.patience * 1e9 and arrived < message * self.copies:
                    self.give_up(owed - arrived)
                until = now + 50_000_000 if all_sent else min(next_due, now + 50_000_000)
                until = min(until, next_tick) if self.on_tick else until
                if until > now:
                    wait_until((until - now) / 1e9)
                continue
            for fd, events in ready:
                if events & WRITABLE:
                    load.on_writable(fd)
                if not events & ~WRITABLE:
                    continue
                if fd in aside:
                    aside[fd](fd)
                    continue
                lines = on_readable(receivers[fd])
                if lines:
                    arrived += lines
                    last_progress = now
        load.close_window()
        self.late = late
        load.expect_nothing_more(receivers, self.notice)
        return self.outcome((load.probe.wakeups() - wakeups) / total)

    def on_readable(self, receiver: Receiver) -> int:
        """Check what one client received, note when its lines arrived; returns their number."""
        load = self.load
        count = receiver.receive(load.buffer)
        now = monotonic_ns()
        stream, size = receiver.only, self.size
        seen = stream.seen
        after = seen + count
        if (
            after % size
            or after > stream.sender.owed
            or receiver.rest
            or not stream.expected.startswith(load.view[:count], seen)
            or not count
        ):
            return self.line_by_line(receiver, bytes(load.view[:count]), now)
        stream.seen = after
        if count == size:
            self.last_at[stream.messages[seen // size]] = now
            return 1
        arrived = stream.messages[seen // size : after // size]
        for message in arrived:
            self.last_at[message] = now
        return len(arrived)

    def line_by_line(self, receiver: Receiver, data: bytes, now: int) -> int:
        """The same where a chunk is not simply what one sender's stream owes next."""
        if not data:
            raise Broken("the server closed a connection")
        *lines, receiver.rest = (receiver.rest + data).split(b"\n")
        if len(receiver.rest) > LONGEST_LINE:
            raise Lost(f"a line without an end came: {shown(receiver.rest)}")
        arrived = 0
        for line in lines:
            line += b"\n"
            stream = receiver.only
            if stream is NOBODY:
                beginning, blank, _ = line.partition(b" ")
                stream = receiver.streams.get(beginning + blank, NOBODY)
            after = stream.seen + self.size
            if after <= stream.sender.owed and line == stream.expected[stream.seen : after]:
                self.last_at[stream.messages[stream.seen // self.size]] = now
                stream.seen = after
                arrived += 1
            elif self.notice and self.notice.fullmatch(line):
                self.notices += 1
                self.noticed_at = self.noticed_at or (now - self.start) / 1e9
            else:
                raise Lost(complaint(line, stream, self.size))
        return arrived

    def give_up(self, missing: int) -> None:
        """Nothing has come for too long: end the trial if anybody is owed something by now."""
        for fd, receiver in self.receivers.items():
            for stream in receiver.streams.values():
                if stream.seen < stream.sender.owed:
                    line = stream.expected[stream.seen : stream.seen + self.size]
                    what = f"{missing} expected lines never came, the first of one client:"
                    self.load.give_up(fd, f"{what} {shown(line)}")

    def outcome(self, wakeups_per_message: float) -> Outcome:
        """The metrics, and whether the server or we ourselves limited them."""
        load, measured = self.load, self.total - self.first
        in_time_until = self.start + self.ends + GRACE_NS
        owing = sum(at > in_time_until for at in self.last_at[self.first :])
        delays = sorted(self.delay_ms(message) for message in range(self.first, self.total))
        metrics = load.metrics | {
            "messages": measured,
            "offered_per_s": measured / self.seconds,
            "on_time_share": 1 - self.late / measured,
            "max_ms": delays[-1],
        }
        if self.keeps:
            deliveries = measured * self.copies
            metrics |= {
                "deliveries": deliveries,
                "kept_share": 1 - owing / measured,
                "server_cpu_us": load.server_ns / 1e3 / deliveries,
                "wakeups_per_message": wakeups_per_message,
            }
        metrics |= percentiles(delays)
        return judged(metrics)

    def delay_ms(self, message: int) -> float:
        """From the due time of one message to its last recipient."""
        return (self.last_at[message] - self.start - self.due[message]) / 1e6


def judged(metrics: dict[str, float]) -> Outcome:
    """The outcome of a paced trial, whose rate may not have been kept by us or by the server."""
    measured, busy = metrics["messages"], metrics["client_cpu_share"]
    late = round((1 - metrics["on_time_share"]) * measured)
    owing = round((1 - metrics.get("kept_share", 1)) * measured)
    if busy > CLIENT_CPU_LIMIT:
        reason = f"the load generator used {busy:.0%} of its core"
        return Outcome(Status.CLIENT_LIMITED, reason, metrics)
    if late > max(1, (1 - ON_TIME_LIMIT) * measured):
        reason = f"{late} of {measured} requests were sent too late"
        return Outcome(Status.CLIENT_LIMITED, reason, metrics)
    if owing > max(1, (1 - KEPT_LIMIT) * measured):
        reason = f"{owing} of {measured} answers were still to come when the window ended"
        return Outcome(Status.SERVER_LIMITED, reason, metrics)
    return Outcome(metrics=metrics)


def complaint(line: bytes, stream: Stream, size: int) -> str:
    """What is wrong with a line that is not the one that is owed next."""
    owed = stream.expected[stream.seen : min(stream.seen + size, stream.sender.owed)]
    at = stream.expected.find(line) if len(line) == size else -1
    if at >= stream.sender.owed:
        what = "before its question"
    elif 0 <= at < stream.seen:
        what = "a second time"
    elif at >= 0:
        what = "out of order, or one before it was lost"
    else:
        what = "which is no answer to what this client is owed"
    expected = f"{shown(owed)} was expected" if owed else "nothing was expected yet"
    return f"{shown(line)} came, {what}; {expected}"


def wait_function(poller: select.epoll | connections.SelectorPoll) -> Callable[[float], object]:
    """How to wait for a client, or for less than a millisecond, whichever ends first.

    epoll_wait counts in milliseconds; select() on the epoll descriptor itself counts finer.
    """
    if isinstance(poller, connections.SelectorPoll):
        return poller.selector.select
    descriptor: Iterable[int] = [poller.fileno()]
    return lambda seconds: select.select(descriptor, (), (), seconds)
