"""How the load generator loads a server: connections, schedules, floods, the measured window.

It is built to be cheaper than any server it drives: one epoll loop, `recv_into` one buffer,
payloads built beforehand, no garbage collection. It still reports what share of its core it used,
so that nobody has to take that on trust. The process around it is `benchmarks/generator.py`.
"""

import array
import contextlib
import select
import selectors
import socket
import time
from collections.abc import Callable, Iterable
from typing import NoReturn

from benchmarks.measure import ServerProbe, waiting_ns

READABLE, WRITABLE = 1, 4  # the values of EPOLLIN and EPOLLOUT
BUFFER_BYTES = 1 << 18
BURST_NS = 100_000
BURST_SECONDS = BURST_NS / 1e9

monotonic_ns = time.monotonic_ns


class Refused(Exception):
    """The server said `! server full`; the argument is how many clients were in by then."""


class Broken(Exception):
    """The server hung or closed a connection: the trial has no result."""


class Lost(Exception):
    """An answer or a delivery was lost, doubled or wrong: the trial is failed."""


class SelectorPoll:
    """epoll's interface on the best selector of other systems (kqueue on macOS and BSD)."""

    def __init__(self) -> None:
        self.selector = selectors.DefaultSelector()
        self.unregister = self.selector.unregister

    def register(self, fd: int, events: int) -> None:
        self.selector.register(fd, self._events(events))

    def modify(self, fd: int, events: int) -> None:
        self.selector.modify(fd, self._events(events))

    def poll(self, timeout: float) -> list[tuple[int, int]]:
        ready = self.selector.select(timeout)
        return [
            (
                key.fd,
                READABLE * bool(events & selectors.EVENT_READ)
                | WRITABLE * bool(events & selectors.EVENT_WRITE),
            )
            for key, events in ready
        ]

    @staticmethod
    def _events(events: int) -> int:
        return selectors.EVENT_READ * bool(events & READABLE) | selectors.EVENT_WRITE * bool(
            events & WRITABLE
        )


class Load:
    """Connections to one server, and the window in which everything is counted.

    Clients are known by their file descriptors. `patience` is for how many seconds a server that
    owes us something may stay silent before the trial is given up.
    """

    def __init__(self, address: tuple[str, int], profile: str, pid: int, patience: float) -> None:
        self.address = address
        self.profile = profile
        self.patience = patience
        self.sockets: dict[int, socket.socket] = {}
        self.greeted = 0  # how many clients the server has let in
        self.pending: dict[int, bytearray] = {}  # what the kernel did not take yet, by client
        self.buffer = bytearray(BUFFER_BYTES)
        # Made first, so that its descriptor stays below the 1024 that select() can take.
        self.poller = select.epoll() if hasattr(select, "epoll") else SelectorPoll()
        self.probe = ServerProbe(pid)
        self._opened: tuple[int, ...] = ()
        self._client_share = 0.0
        self.server_ns = 0
        self.seconds = 0.0
        self.metrics: dict[str, float] = {}

    # Connections

    def connect(self, count: int, receive_bytes: int = 0) -> list[int]:
        """Open `count` connections, each greeted; raises Refused.

        `receive_bytes`, when given, is the receive buffer asked for; it has to be set before the
        connection is made for the other side to be told so.
        """
        made: list[int] = []
        for start in range(0, count, 50):  # fewer at a time than any server's listen backlog
            batch = [self.open(receive_bytes) for _ in range(min(50, count - start))]
            greetings = self.collect(batch, lambda text: text.endswith(b"\n"))
            for fd in batch:
                if greetings[fd].startswith(b"! server full"):
                    raise Refused(self.greeted)
                if not greetings[fd].startswith(b"* "):
                    raise Lost(f"greeted with {greetings[fd][:60]!r}")
                made.append(fd)
                self.greeted += 1
        return made

    def open(self, receive_bytes: int = 0) -> int:
        """Open one connection and return its descriptor; the greeting is still to come."""
        family = socket.AF_INET6 if ":" in self.address[0] else socket.AF_INET
        connection = socket.socket(family, socket.SOCK_STREAM)
        if receive_bytes:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        connection.settimeout(self.patience)
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
                if events & ~WRITABLE:
                    count = self.sockets[fd].recv_into(self.buffer)
                    if count == 0 and (fd in waiting or fd not in received):
                        raise Broken("the server closed a connection")
                    if count == 0:  # it had its say, such as `! server full`
                        self.poller.unregister(fd)
                    elif fd in waiting:
                        received[fd] += self.buffer[:count]
                        if done(received[fd]):
                            waiting.discard(fd)
        return received

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

    def send(self, fd: int, data: bytes) -> bool:
        """Send, keeping for later what the kernel does not take; whether nothing is kept."""
        if fd in self.pending:
            self.pending[fd] += data
            return False
        try:
            sent = self.sockets[fd].send(data)
        except BlockingIOError:
            sent = 0
        if sent == len(data):
            return True
        self.pending[fd] = bytearray(data[sent:])  # a server may keep us waiting for megabytes
        self.poller.modify(fd, READABLE | WRITABLE)
        return False

    def on_writable(self, fd: int) -> None:
        """Send what was kept."""
        kept = self.pending[fd]
        with contextlib.suppress(BlockingIOError):  # then it is not writable after all
            del kept[: self.sockets[fd].send(kept)]
        if not kept:
            del self.pending[fd]
            self.poller.modify(fd, READABLE)

    def close(self, fd: int) -> None:
        """Close one connection."""
        self.poller.unregister(fd)
        self.pending.pop(fd, None)
        self.sockets.pop(fd).close()

    # The measured window

    def open_window(self) -> None:
        """Warm-up is over: from here on everything counts."""
        self._opened = self._counters()

    def close_window(self) -> None:
        """Stop counting; `seconds` and `metrics` tell what the window cost both sides."""
        closed = self._counters()
        wall, self.server_ns, client_ns, waited, faults = (
            end - start for start, end in zip(self._opened, closed, strict=True)
        )
        self.seconds = wall / 1e9
        self.metrics = {
            "server_cpu_share": self.server_ns / wall,
            "client_cpu_share": self._client_share or client_ns / wall,
            "client_wait_share": waited / wall,
            "minor_faults": faults,
            "window_s": self.seconds,
        }

    def note_client_share(self) -> None:
        """Our own CPU share is the one up to now: what follows is only waiting for the server."""
        started, _, client_ns, *_ = self._opened
        self._client_share = (time.process_time_ns() - client_ns) / (monotonic_ns() - started)

    def _counters(self) -> tuple[int, ...]:
        return (
            monotonic_ns(),
            self.probe.cpu_ns(),
            time.process_time_ns(),
            waiting_ns(),
            self.probe.minor_faults(),
        )


# Three ways of loading a server, shared by the experiments


def ask_in_turn(
    load: Load, clients: list[int], text: str, warmup: float, seconds: float
) -> dict[str, float]:
    """Closed loop: each client sends `/ping TEXT`, and the next one when the answer is there.

    Good for capacity and for CPU time per message. No latency is reported: a closed loop asks
    less often just when the server is slow, and so would hide it.
    """
    request, reply = f"/ping {text}\n".encode(), f"* pong {text}\n".encode()
    size = len(reply)
    buffer, poll = load.buffer, load.poller.poll
    receive = {fd: load.sockets[fd].recv_into for fd in clients}
    send = {fd: load.sockets[fd].send for fd in clients}
    partial: dict[int, bytes] = {}
    for fd in clients:
        send[fd](request)
    answers = before = 0
    started = monotonic_ns()
    opens, closes = started + int(warmup * 1e9), 0
    while True:
        ready = poll(load.patience) or load.wait()
        for fd, _ in ready:
            count = receive[fd](buffer)
            if count != size or not buffer.startswith(reply):
                if count == 0:
                    raise Broken("the server closed a connection")
                partial[fd] = partial.get(fd, b"") + buffer[:count]
                if partial[fd] != reply:
                    if not reply.startswith(partial[fd]):
                        raise Lost(f"answered {bytes(partial[fd][:60])!r} to {request!r}")
                    continue
                del partial[fd]
            answers += 1
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
    answers -= before
    # One answer each is still owed; the trial counts only if it comes.
    try:
        load.collect(clients, lambda got: got.endswith(b"\n"))
    except Broken:
        load.give_up(clients[0], "an answer never arrived")
    return load.metrics | {
        "messages": answers,
        "replies_per_s": answers / load.seconds,
        "server_cpu_us": load.server_ns / 1e3 / max(1, answers),
    }


class Schedule:
    """Open loop: message i is due at `i / rate` seconds, whether or not the server keeps up.

    What is due less than `BURST_SECONDS` after the last is due together with it: a schedule finer
    than that would cost the generator more than the requests do.

    Message i goes out from sender `i % len(senders)`. With `broadcast` every receiver gets every
    message (there is then one sender, who gets none); otherwise each sender gets its own back.
    Times are monotonic nanoseconds. Latency counts from the due time, not from the moment of
    sending: a generator that is held up must not make the server look better (wrk2's correction).
    """

    def __init__(
        self,
        load: Load,
        senders: list[int],
        receivers: list[int],
        payloads: list[bytes],
        *,
        rate: float,
        warmup: float,
        seconds: float,
        broadcast: bool = False,
        notice: bytes = b"",
        bin_seconds: float = 0.0,
        on_tick: Callable[[float], None] | None = None,
    ) -> None:
        self.load = load
        self.senders, self.receivers, self.payloads = senders, receivers, payloads
        self.rate = rate
        self.first = int(warmup * rate)  # the first message that is measured
        self.total = self.first + max(1, int(seconds * rate))
        self.copies = len(receivers) if broadcast else 1
        self.notice = notice  # a byte that only lines other than the expected ones hold
        self.notices = 0
        self.noticed_at = 0.0  # seconds since the start, of the first such line
        self.sent_at = array.array("q", [0]) * self.total
        self.last_at = array.array("q", [0]) * self.total  # at the last recipient so far
        self.copies_seen = array.array("l", [0]) * self.total
        # The next message that each receiver will get, and from one to the next.
        self.stride = 1 if broadcast else len(senders)
        self.next_message = {fd: 0 if broadcast else i for i, fd in enumerate(receivers)}
        self.bin_ns = int(bin_seconds * 1e9)
        self.bins = [0] * (round(self.total / rate / bin_seconds) + 1 if bin_seconds else 0)
        self.on_tick = on_tick
        self.start = 0
        self.bytes_seen = 0

    def due(self, message: int) -> int:
        """When a message is due, in monotonic nanoseconds."""
        return self.start + int(message / self.rate / BURST_SECONDS + 1e-6) * BURST_NS

    def run(self, aside: dict[int, Callable[[int], None]] | None = None) -> dict[str, float]:
        """Send everything on time, wait for all of it to arrive, and return the metrics.

        `aside` maps other clients to what is to be done when they are readable. Raises Lost if
        anything is missing or doubled.
        """
        load, total = self.load, self.total
        poll, wait_until = load.poller.poll, _wait_function(load.poller)
        aside = aside or {}
        senders, payloads, sent_at = self.senders, self.payloads, self.sent_at
        clients = len(senders)
        owed = total * self.copies
        arrived = message = 0
        window_open = all_sent = False
        self.start = monotonic_ns() + 1_000_000
        next_tick = self.start
        end = self.due(total)
        last_progress = self.start
        next_due = self.start
        while arrived < owed or message < total:
            now = monotonic_ns()
            while message < total and next_due <= now:
                if message == self.first and not window_open:
                    load.open_window()
                    window_open = True
                index = message % clients
                load.send(senders[index], payloads[index])
                sent_at[message] = monotonic_ns()
                message += 1
                next_due = self.due(message)
            if message == total and not all_sent:
                load.note_client_share()
                all_sent = True
            if self.on_tick and now >= next_tick:
                self.on_tick((now - self.start) / 1e9)
                next_tick = now + self.bin_ns
            ready = poll(0)
            if not ready:
                if now - last_progress > load.patience * 1e9 and arrived < message * self.copies:
                    break
                until = min(next_due if message < total else now + 50_000_000, now + 50_000_000)
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
                arrived += self.on_readable(fd)
                last_progress = now
        load.close_window()
        if arrived != owed:
            missing = f"{owed - arrived} of {owed} expected lines never arrived"
            load.give_up(self.receivers[0], missing)
        if any(copies != self.copies for copies in self.copies_seen):
            raise Lost("lines were lost for some clients and doubled for others")
        measured = total - self.first
        span = (end - self.due(self.first)) / 1e9
        on_time = end + 1_000_000  # the last ones are due within the schedule's last millisecond
        return load.metrics | {
            "offered_per_s": measured / span,
            "sent_per_s": sum(at <= on_time for at in sent_at[self.first :]) / span,
            "replies_per_s": sum(at <= on_time for at in self.last_at[self.first :]) / span,
            "samples": measured,
            "deliveries": measured * self.copies,
            "server_cpu_us": load.server_ns / 1e3 / (measured * self.copies),
        }

    def on_readable(self, fd: int) -> int:
        """Note the arrival of each line that one client received; returns their number."""
        count = self.load.receive(fd)
        now = monotonic_ns()
        buffer = self.load.buffer
        lines = buffer.count(b"\n", 0, count)
        if self.notice and (notices := buffer.count(self.notice, 0, count)):
            lines -= notices
            self.notices += notices
            self.noticed_at = self.noticed_at or (now - self.start) / 1e9
        self.bytes_seen += count
        message = self.next_message[fd]
        after = message + lines * self.stride
        if after - self.stride >= self.total:
            raise Lost("more lines arrived than were sent")
        for number in range(message, after, self.stride):
            self.last_at[number] = now
            self.copies_seen[number] += 1
        self.next_message[fd] = after
        if self.bin_ns:
            self.bins[min(max(0, now - self.start) // self.bin_ns, len(self.bins) - 1)] += lines
        return lines

    def delays_ms(self) -> list[float]:
        """For each measured message, from its due time to its last recipient, sorted."""
        return sorted((self.last_at[i] - self.due(i)) / 1e6 for i in range(self.first, self.total))

    def uncorrected_ms(self) -> list[float]:
        """The same from the moment of sending: what a generator without a schedule would say."""
        return sorted(
            (self.last_at[i] - self.sent_at[i]) / 1e6 for i in range(self.first, self.total)
        )


def _wait_function(poller: object) -> Callable[[float], object]:
    """How to wait for a client or for less than a millisecond, whichever is first.

    epoll_wait counts in milliseconds; select() on the epoll descriptor itself counts finer.
    Spinning instead would be finer still, but would show as load that is none.
    """
    if isinstance(poller, SelectorPoll):
        return poller.selector.select
    descriptor = [poller.fileno()]
    return lambda seconds: select.select(descriptor, (), (), seconds)


def flood(
    load: Load,
    senders: list[int],
    receivers: list[int],
    line: bytes,
    *,
    batch: int,
    in_flight: int,
    warmup: float,
    seconds: float,
) -> dict[str, float]:
    """Chat: `senders` write as fast as the server takes it, `receivers` count what they get.

    Each sender writes `batch` lines and a `/ping`, whose answer lets it write another batch; all
    together they have about `in_flight` lines on the way. Without that bound megabytes would sit
    in socket buffers, and draining them would take longer than the measurement. Senders may be
    receivers too. Raises Lost unless everybody got every line of everybody else.
    """
    payload = line * batch + b"/ping ~\n"  # no line holds a "~": it marks the answers
    is_sender = set(senders)
    received = dict.fromkeys({*senders, *receivers}, 0)
    batches = dict.fromkeys(senders, 0)
    answered = dict.fromkeys(senders, 0)
    delivered = before = 0

    def turn() -> None:
        nonlocal delivered
        for fd, events in load.wait():
            if events & WRITABLE:
                load.on_writable(fd)
            if not events & ~WRITABLE:
                continue
            count = load.receive(fd)
            lines = load.buffer.count(b"\n", 0, count)
            if fd in is_sender and (answers := load.buffer.count(b"~", 0, count)):
                lines -= answers
                answered[fd] += answers
                for _ in range(answers if sending else 0):
                    load.send(fd, payload)
                    batches[fd] += 1
            received[fd] += lines
            delivered += lines

    sending = True
    credits = max(1, in_flight // (batch * len(senders)))
    for fd in senders:
        for _ in range(credits):
            load.send(fd, payload)
            batches[fd] += 1
    for phase_seconds in (warmup, seconds):
        load.open_window()
        before = delivered
        until = monotonic_ns() + int(phase_seconds * 1e9)
        while monotonic_ns() < until:
            turn()
    load.close_window()
    measured = delivered - before
    sending = False
    sent = sum(batches.values()) * batch
    expected = {fd: sent - batches.get(fd, 0) * batch for fd in receivers}
    with contextlib.suppress(Broken):  # silence: the counts below say what is missing
        while delivered < sum(expected.values()) or answered != batches:
            turn()
    missing = sum(expected.values()) - sum(received[fd] for fd in receivers)
    wrong = sum(received[fd] != expected[fd] for fd in receivers)
    if wrong or answered != batches:
        lost = f"{missing} of {sum(expected.values())} deliveries lost; clients affected: {wrong}"
        load.give_up(receivers[0], lost)
    return load.metrics | {
        "deliveries": measured,
        "deliveries_per_s": measured / load.seconds,
        "server_cpu_us": load.server_ns / 1e3 / max(1, measured),
    }
