"""Open loop: requests are due at random moments, whether the server keeps up or not.

Arrivals are Poisson: so are the moments at which many people, who know nothing of each other,
write. Every request carries a number, every answer is checked as it comes, content and order: an
answer before its question, a wrong, a lost or a doubled one raises Lost. The check is one
comparison of what came with what is owed next, prepared beforehand, and is cheap enough to be
always on.
"""

import random
import re
import select
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence

from benchmarks.arithmetic.statistics import percentile
from benchmarks.load.connections import (
    WRITABLE,
    Broken,
    Load,
    Lost,
    SelectorPoll,
    monotonic_ns,
    shown,
)

GRID_NS = 100_000
LATE_NS = 1_000_000
GRACE_NS = 20_000_000
KEPT_LIMIT = 0.98
ON_TIME_LIMIT = 0.99
CLIENT_CPU_LIMIT = 0.80
EVENTS_AT_A_TIME = 64  # after so many it is looked whether a message is due
LONGEST_LINE = 2048
PERCENTILES = {"p50_ms": 0.50, "p90_ms": 0.90, "p95_ms": 0.95, "p99_ms": 0.99, "p999_ms": 0.999}


def arrivals(rate: float, seconds: float, seed: int) -> array:
    """When messages are due: a Poisson process of so many a second, in ns from the start.

    The moments lie on a grid of a tenth of a millisecond. What is due at the same moment is sent
    together: a schedule finer than that would cost the generator more than the requests do.
    """
    source = random.Random(seed)
    due = array("q")
    at = source.expovariate(rate)
    while at < seconds:
        due.append(int(at * 1e9) // GRID_NS * GRID_NS)
        at += source.expovariate(rate)
    return due


class Sender:
    """Who sends: what it may be answered by now."""

    __slots__ = ("asked", "fd")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.asked = 0  # bytes of answers to the questions that have been sent


class Stream:
    """What one receiver has to get because of one sender."""

    __slots__ = ("expected", "messages", "seen", "sender")

    def __init__(self, sender: Sender, expected: bytes, messages: Sequence[int]) -> None:
        self.sender = sender
        self.expected = expected
        self.messages = messages  # the number of each of its lines
        self.seen = 0  # bytes that have come and were right


class Receiver:
    """Who gets answers or lines: of one sender mostly, of each other one where all talk."""

    __slots__ = ("only", "receive", "rest", "streams")

    def __init__(self, receive: Callable[[bytearray], int], streams: dict[bytes, Stream]) -> None:
        self.receive = receive
        self.streams = streams  # by the beginning of the lines
        self.only = next(iter(streams.values())) if len(streams) == 1 else NOBODY
        self.rest = b""  # of a line whose end has not come yet


NOBODY = Stream(Sender(-1), b"", ())


class Paced:
    """A schedule of messages, to be run once.

    Without `names` the senders send `/ping`. With them they say lines of `line_bytes` bytes as
    they are delivered (`NAME: TEXT`, LF): each gets its own back (echo) or, where `receivers` are
    given, these get those of everybody else (chat). Lines that match `notice` may come in between;
    they are counted. `on_tick(seconds since the start)` is called about every `tick_seconds`, until
    the last answer has come.

    Latency counts from the due time, not from the moment of sending: a generator that is held up
    must not make the server look better (wrk2's correction). Where several get a message, it
    arrives when the last one has it.

    `keeps` says that the server is asked to keep the rate: where it does not, the outcome is
    server-limited. Experiments that give the server other things to do ask for delays alone.
    `late_ns` is from when on a message counts as sent too late.
    """

    def __init__(
        self,
        load: Load,
        senders: list[int],
        *,
        rate: float,
        warmup: float,
        seconds: float,
        seed: int,
        names: list[str] | None = None,
        line_bytes: int = 0,
        receivers: list[int] | None = None,
        notice: re.Pattern[bytes] | None = None,
        on_tick: Callable[[float], None] | None = None,
        tick_seconds: float = 0.05,
        keeps: bool = True,
        late_ns: int = LATE_NS,
    ) -> None:
        self.load = load
        self.seconds = seconds
        self.opens, self.ends = int(warmup * 1e9), int((warmup + seconds) * 1e9)
        self.notice, self.notices = notice, 0
        self.noticed_at = 0.0  # seconds since the start, of the first such line
        self.on_tick, self.tick_ns = on_tick, int(tick_seconds * 1e9)
        self.keeps = keeps
        self.late_ns = late_ns
        self.due = arrivals(rate, warmup + seconds, seed)
        if not self.due or self.due[-1] < self.opens:
            self.due.append(self.opens)  # a very short window: there is one message at least
        self.total = len(self.due)
        self.first = bisect_left(self.due, self.opens)  # the first message that is measured
        self.copies = 1
        self.start = 0
        self.late = 0  # how many measured messages were sent too late
        self.last_at = array("q", [0]) * self.total  # when the last recipient so far got it
        self._prepare(senders, names, line_bytes, receivers, random.Random(f"who {seed}"))

    def _prepare(
        self,
        senders: list[int],
        names: list[str] | None,
        line_bytes: int,
        receivers: list[int] | None,
        source: random.Random,
    ) -> None:
        """Who sends which message, every request, and all that each client has to get."""
        clients = [Sender(fd) for fd in senders]
        who = source.choices(range(len(clients)), k=self.total)
        self.sender_of = [clients[index] for index in who]
        if names is None:
            texts = [f"{number:08d}abcdefgh\n" for number in range(self.total)]
            self.requests = [f"/ping {text}".encode() for text in texts]
            answers = [f"* pong {text}".encode() for text in texts]
            beginnings = [b"* pong "] * len(clients)
        else:
            filling = "x" * (line_bytes - len(names[0]) - len(": 00000000\n")) + "\n"
            texts = [f"{number:08d}{filling}" for number in range(self.total)]
            self.requests = [text.encode() for text in texts]
            answers = [
                f"{names[index]}: {text}".encode() for index, text in zip(who, texts, strict=True)
            ]
            beginnings = [f"{name}: ".encode() for name in names]
        self.size = len(answers[0])
        messages: list[list[int]] = [[] for _ in clients]
        for number, index in enumerate(who):
            messages[index].append(number)
        owed = [b"".join([answers[number] for number in numbers]) for numbers in messages]

        def stream(index: int) -> Stream:
            return Stream(clients[index], owed[index], messages[index])

        hears: dict[int, list[int]] = {fd: [] for fd in senders}
        if receivers is None:
            hears = {fd: [index] for index, fd in enumerate(senders)}
        else:
            for fd in receivers:
                hears[fd] = [index for index, sender in enumerate(senders) if sender != fd]
            self.copies = max(len(set(receivers) - {sender}) for sender in senders)
        self.receivers = {
            fd: Receiver(self.load.sockets[fd].recv_into, {beginnings[i]: stream(i) for i in heard})
            for fd, heard in hears.items()
        }

    def run(self, aside: dict[int, Callable[[int], object]] | None = None) -> dict:
        """Send everything on time, wait for all of it to arrive, and return the outcome.

        That is a trial's "metrics", with "status" and "reason" where the rate was not kept.
        `aside` maps other clients to what is to be done when they are readable, to the end.
        """
        load, total, due, receivers = self.load, self.total, self.due, self.receivers
        poll, wait_until = load.poller.poll, wait_function(load.poller)
        send, sender_of, requests, size = load.send, self.sender_of, self.requests, self.size
        on_readable, late_ns = self.on_readable, self.late_ns
        aside = load.aside = aside or {}
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
                sender.asked += size
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
                came = on_readable(receivers[fd])
                if came:
                    arrived += came
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
            or after > stream.sender.asked
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
            stream = self.stream_of(receiver, line)
            after = stream.seen + self.size
            if after <= stream.sender.asked and line == stream.expected[stream.seen : after]:
                self.last_at[stream.messages[stream.seen // self.size]] = now
                stream.seen = after
                arrived += 1
            elif self.notice and self.notice.fullmatch(line):
                self.notices += 1
                self.noticed_at = self.noticed_at or (now - self.start) / 1e9
            else:
                raise Lost(complaint(line, stream, self.size))
        return arrived

    @staticmethod
    def stream_of(receiver: Receiver, line: bytes) -> Stream:
        """To whose stream a line claims to belong."""
        if receiver.only is not NOBODY:
            return receiver.only
        beginning, blank, _ = line.partition(b" ")
        return receiver.streams.get(beginning + blank, NOBODY)

    def give_up(self, missing: int) -> None:
        """Nothing has come for too long."""
        for fd, receiver in self.receivers.items():
            for stream in receiver.streams.values():
                if stream.seen < stream.sender.asked:
                    line = stream.expected[stream.seen : stream.seen + self.size]
                    self.load.give_up(
                        fd,
                        f"{missing} expected lines never came, the first of one client:"
                        f" {shown(line)}",
                    )

    def outcome(self, wakeups_per_message: float) -> dict:
        """Metrics, and whether they are limited by the server or by ourselves."""
        load, measured = self.load, self.total - self.first
        deliveries = measured * self.copies
        came_until = self.start + self.ends + GRACE_NS
        owing = sum(at > came_until for at in self.last_at[self.first :])
        delays = self.delays_ms()
        metrics = load.metrics | {
            "messages": measured,
            "offered_per_s": measured / self.seconds,
            "on_time_share": 1 - self.late / measured,
            "max_ms": delays[-1],
        }
        if self.keeps:
            metrics |= {
                "deliveries": deliveries,
                "kept_share": 1 - owing / measured,
                "server_cpu_us": load.server_ns / 1e3 / deliveries,
                "wakeups_per_message": wakeups_per_message,
            }
        for name, share in PERCENTILES.items():
            if measured * (1 - share) >= 1:  # else it would be the longest by another name
                metrics[name] = percentile(delays, share)
        return {"metrics": metrics, **limit(metrics)}

    def delays_ms(self) -> list[float]:
        """For each measured message, from its due time to its last recipient, sorted."""
        return sorted(self.delay_ms(message) for message in range(self.first, self.total))

    def delay_ms(self, message: int) -> float:
        """From the due time of one message to its last recipient."""
        return (self.last_at[message] - self.start - self.due[message]) / 1e6


def limit(metrics: dict) -> dict:
    """The status of a point whose offered rate was not kept, by us or by the server."""
    measured, busy = metrics["messages"], metrics["client_cpu_share"]
    late = round((1 - metrics["on_time_share"]) * measured)
    owing = round((1 - metrics.get("kept_share", 1)) * measured)
    if busy > CLIENT_CPU_LIMIT:
        status, reason = "client-limited", f"the load generator used {busy:.0%} of its core"
    elif late > max(1, (1 - ON_TIME_LIMIT) * measured):
        status, reason = "client-limited", f"{late} of {measured} requests were sent too late"
    elif owing > max(1, (1 - KEPT_LIMIT) * measured):
        status = "server-limited"
        reason = f"{owing} of {measured} answers were still to come when the window ended"
    else:
        return {}
    return {"status": status, "reason": reason}


def complaint(line: bytes, stream: Stream, size: int) -> str:
    """What is wrong with a line that is not the one that is owed next."""
    owed = stream.expected[stream.seen : min(stream.seen + size, stream.sender.asked)]
    at = stream.expected.find(line) if len(line) == size else -1
    if at >= stream.sender.asked:
        what = "before its question"
    elif 0 <= at < stream.seen:
        what = "a second time"
    elif at >= 0:
        what = "out of order, or one before it was lost"
    else:
        what = "which is no answer to what this client is owed"
    expected = f"{shown(owed)} was expected" if owed else "nothing was expected yet"
    return f"{shown(line)} came, {what}; {expected}"


def wait_function(poller: object) -> Callable[[float], object]:
    """How to wait for a client or for less than a millisecond, whichever is first.

    epoll_wait counts in milliseconds; select() on the epoll descriptor itself counts finer.
    Spinning instead would be finer still, but would show as load that is none.
    """
    if isinstance(poller, SelectorPoll):
        return poller.selector.select
    descriptor: Iterable[int] = [poller.fileno()]
    return lambda seconds: select.select(descriptor, (), (), seconds)
