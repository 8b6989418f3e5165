"""Joins a recording and a play: lanes of blocks, one for each thread, and the way of each message.

Server and clients are joined by port and by byte: the n-th byte that a client has sent is the n-th
byte that the server receives from its port. So nothing of what they say has to be understood.
"""

import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from benchmarks.timeline.player import Message, Play
from benchmarks.timeline.recorder import MAIN_THREAD, Call
from benchmarks.timeline.recording import Event

# A system call that moves bytes takes some 20 µs. One that takes longer than this has waited for
# something after it, which only the scheduler and the interpreter's lock can be.
LONG_NS = 200_000
CALL_NAMES = {
    Call.SELECT: "select()",
    Call.ACCEPT: "accept()",
    Call.RECV: "recv()",
    Call.SEND: "send()",
    Call.SHUTDOWN: "shutdown()",
    Call.CLOSE: "close()",
    Call.LOCK: "a lock",
    Call.SLEEP: "a wait",
}


class Kind(StrEnum):
    """What a thread does during a block."""

    ASLEEP = "asleep"
    READY = "ready"
    PYTHON = "python"
    CALL = "call"
    LOCK = "lock"


@dataclass(frozen=True)
class Block:
    """What one thread did from when to when (ns since the beginning), and for which client.

    `client` is empty for what is done for none, or for all. `detail` names the call or coroutine.
    """

    start: int
    end: int
    kind: Kind
    client: str
    detail: str
    # The call that it is, or a part of; None for Python.
    call: Call | None = None


class Role(StrEnum):
    """What a thread of a server is there for, by the calls that it makes; also their order."""

    MAIN = "main thread"
    LOOP = "the loop"
    ACCEPTING = "accepting"
    CLIENT = "for"
    WORKER = "worker"
    OTHER = "thread"


@dataclass
class Lane:
    """A thread of the server. `client` is the one that it serves, if it serves one alone."""

    name: str
    role: Role
    thread: int
    client: str = ""
    blocks: list[Block] = field(default_factory=list)


@dataclass(frozen=True)
class Way:
    """A message, its deliveries (client, time), and the blocks (lane, place) that it went through.

    `answered` is when the last of those that were to receive it had it; None if one never had.
    """

    message: Message
    deliveries: list[tuple[str, int]]
    blocks: list[tuple[int, int]]

    @property
    def at(self) -> int:
        """When the message was sent."""
        return self.message.at

    @property
    def answered(self) -> int | None:
        return max((at for _, at in self.deliveries), default=None)


@dataclass
class Schedule:
    """All that is drawn of one server. Times are in ns since the beginning of the play."""

    name: str
    lanes: list[Lane]
    ways: list[Way]
    clients: list[str]
    deaf: list[tuple[str, int, int]]
    end: int
    lateness: int
    # How the server ended, if it did before its time.
    cut: str = ""


def schedule_of(name: str, events: Sequence[Event], play: Play, cut: str = "") -> Schedule:
    """The schedule of one server that was recorded while a script was played to it.

    Events and play have their times since the beginning: see `since_begin()` in record.py.
    """
    joined = Joined(events, play)
    lanes = [lane for lane in map(joined.lane, joined.threads()) if lane.blocks]
    _name_lanes(lanes)
    clients = list(play.ports)
    lanes.sort(
        key=lambda lane: (
            list(Role).index(lane.role),
            clients.index(lane.client) if lane.client else 0,
        )
    )
    ways = [joined.way(message, lanes) for message in play.messages]
    return Schedule(name, lanes, ways, clients, play.deaf, play.end, play.lateness, cut)


def _name_lanes(lanes: Sequence[Lane]) -> None:
    """Tell lanes of one name apart by a number."""
    for name in {lane.name for lane in lanes}:
        alike = [lane for lane in lanes if lane.name == name]
        for number, lane in enumerate(alike if len(alike) > 1 else [], start=1):
            lane.name = f"{name} {number}"


class Joined:
    """The events of a server beside what the clients know of the same bytes."""

    def __init__(self, events: Sequence[Event], play: Play) -> None:
        self.play = play
        self.names = {port: name for name, port in play.ports.items()}
        self.events = [event for event in events if event.start < play.end]
        # Of each call that moved bytes, how many its client had sent or received before and after.
        self.bytes: dict[int, tuple[int, int]] = {}
        moved: dict[tuple[Call, int], int] = {}
        for event in self.events:
            if event.call in (Call.RECV, Call.SEND) and event.count > 0:
                before = moved.get((event.call, event.port), 0)
                moved[event.call, event.port] = before + event.count
                self.bytes[id(event)] = (before, before + event.count)
        # By port, what its client has received because of whom: (number of its last byte, client).
        self.caused: dict[int, list[tuple[int, str]]] = {}
        for message in play.messages:
            for name, _, offset in message.deliveries:
                self.caused.setdefault(play.ports[name], []).append((offset, message.client))
        # When a thread has written to a self-pipe.
        self.woken = [e.start for e in self.events if e.call is Call.SEND and not e.port]

    def threads(self) -> list[int]:
        """The threads, in the order of their first calls."""
        return list(dict.fromkeys(event.thread for event in self.events))

    def cause_of(self, event: Event) -> str:
        """The client whose message made the server send this, if it is one alone."""
        first, last = self.bytes.get(id(event), (0, 0))
        offsets = self.caused.get(event.port, []) if event.call is Call.SEND else []
        clients = {client for offset, client in offsets if first < offset <= last}
        return clients.pop() if len(clients) == 1 else ""

    def ready_at(self, event: Event) -> int | None:
        """When the first byte that a call brought, or the client that it let in, was there."""
        if event.call is Call.ACCEPT and event.port in self.names:
            return self.play.connected[self.names[event.port]]
        if event.call is Call.RECV and event.count > 0:
            if event.port in self.names:
                sends = self.play.sends[self.names[event.port]]
                first, _ = self.bytes[id(event)]
                place = bisect.bisect_right([sent for sent, _ in sends], first)
                return sends[place][1] if place < len(sends) else None
            if not event.port:
                before = bisect.bisect_right(self.woken, event.start)
                return self.woken[before - 1] if before else None
        return None

    def lane(self, thread: int) -> Lane:
        """The blocks of one thread, without a gap from its first call to the end of the play."""
        events = [event for event in self.events if event.thread == thread]
        calls = [event for event in events if event.call not in (Call.RUN, Call.WORK)]
        spans = [event for event in events if event.call in (Call.RUN, Call.WORK)]
        role, client = self.identity(thread, events)
        lane = Lane(f"{role} {client}".strip(), role, thread, client)
        drawing = Drawing(self, lane, spans)
        for place, event in enumerate(calls):
            drawing.add(event, self.ready_for(calls, place))
        # A thread that serves one client alone ends when it has closed the connection.
        has_ended = lane.client and calls and calls[-1].call is Call.CLOSE
        if not has_ended:
            drawing.fill(self.play.end)
        # What a server did before the first client came is not drawn.
        blocks = [
            replace(block, start=max(0, block.start)) for block in lane.blocks if block.end > 0
        ]
        return replace(lane, blocks=blocks)

    def ready_for(self, calls: Sequence[Event], place: int) -> int | None:
        """When there was something for this call to return with, where that is known.

        select() returns for the calls that follow it in the same round of its loop.
        """
        event = calls[place]
        if event.call is not Call.SELECT:
            return self.ready_at(event)
        ready = []
        for following in calls[place + 1 :]:
            if following.call is Call.SELECT:
                break
            if (at := self.ready_at(following)) is not None:
                ready.append(at)
        return min(ready, default=None)

    def identity(self, thread: int, events: Sequence[Event]) -> tuple[Role, str]:
        """What a thread is there for, and the client that it serves alone."""
        calls = {event.call for event in events}
        ports = {event.port for event in events if event.call is Call.RECV and event.port}
        names = [self.names[port] for port in ports if port in self.names]
        if Call.SELECT in calls:
            return Role.LOOP, ""
        if Call.ACCEPT in calls:
            return Role.ACCEPTING, ""
        if len(names) == 1:
            return Role.CLIENT, names[0]
        if Call.WORK in calls:
            return Role.WORKER, ""
        return (Role.MAIN if thread == MAIN_THREAD else Role.OTHER), ""

    def way(self, message: Message, lanes: Sequence[Lane]) -> Way:
        """Which blocks brought a message in, ran for it, and sent it out."""
        port = self.play.ports.get(message.client, 0)
        ends = {recipient: offset for recipient, _, offset in message.deliveries}
        received = [
            event
            for event in self.events
            if event.call is Call.RECV
            and event.port == port
            and _overlaps(self.bytes.get(id(event)), message.begins, message.ends)
        ]
        sent = [
            event
            for event in self.events
            if event.call is Call.SEND
            and event.port in self.names
            and (end := ends.get(self.names[event.port])) is not None
            and _overlaps(self.bytes.get(id(event)), end - 1, end)
        ]
        calls = [
            (event.thread, event.start, event.end or self.play.end) for event in (*received, *sent)
        ]
        blocks = []
        if received:
            first = min(event.start for event in received)
            last = max(end for _, _, end in calls)
            for number, lane in enumerate(lanes):
                for place, block in enumerate(lane.blocks):
                    is_its_call = block.kind in (Kind.READY, Kind.CALL) and any(
                        thread == lane.thread and start <= block.start and block.end <= end
                        for thread, start, end in calls
                    )
                    runs_for_it = (
                        block.kind is Kind.PYTHON
                        and block.client == message.client
                        and first <= block.start
                        and block.end <= last
                    )
                    if is_its_call or runs_for_it:
                        blocks.append((number, place))
        deliveries = [(name, at) for name, at, _ in message.deliveries]
        return Way(message, deliveries, blocks)


def _overlaps(span: tuple[int, int] | None, begin: int, end: int) -> bool:
    return span is not None and span[0] < end and begin < span[1]


class Drawing:
    """Lays the calls of one thread into its lane, and what ran between them."""

    def __init__(self, joined: Joined, lane: Lane, spans: Sequence[Event]) -> None:
        self.joined = joined
        self.lane = lane
        self.spans = spans
        # Up to where the lane is filled, and for whom the thread runs.
        self.at: int | None = None
        self.client = lane.client

    def name(self, port: int) -> str:
        return self.joined.names.get(port, "")

    def add(self, event: Event, ready: int | None) -> None:
        """A call, and before it what ran since the one before."""
        # What ends in sending was done for the client whose message it answers or passes on.
        if event.call is Call.SEND and not self.client:
            self.client = self.joined.cause_of(event) or self.name(event.port)
        self.fill(event.start)
        # One that began inside another is part of it.
        start = max(event.start, self.at or event.start)
        end = event.end if event.end is not None else self.joined.play.end
        detail = CALL_NAMES[event.call]
        if event.call is Call.SELECT and not self.lane.client:
            self.client = ""
        brings_input = event.call is Call.RECV and event.count > 0 and event.port
        if brings_input or event.call is Call.ACCEPT:
            self.client = self.lane.client or self.name(event.port)
        client = self.client
        if event.call is Call.SEND and self.name(event.port) not in ("", client):
            detail = f"send() to {self.name(event.port)}"
        for kind, until in self.parts(event, start, end, ready):
            asleep_for = "" if kind in (Kind.ASLEEP, Kind.LOCK) and not self.lane.client else client
            self.put(until, kind, asleep_for, detail, event.call)
            start = until

    def parts(
        self, event: Event, start: int, end: int, ready: int | None
    ) -> Iterator[tuple[Kind, int]]:
        """The kinds of which a call consists, each with where it ends."""
        if event.call is Call.LOCK:
            yield Kind.LOCK, end
        elif event.call is Call.SLEEP:
            yield Kind.ASLEEP, end
        elif event.call is Call.SEND:
            waits = self.is_deaf(event.port, start, end)
            long = end - start > LONG_NS
            yield (Kind.ASLEEP if waits and long else Kind.READY if long else Kind.CALL), end
        elif ready is not None and start < ready < end:
            yield Kind.ASLEEP, ready
            yield Kind.READY, end
        elif end - start <= LONG_NS:
            yield Kind.CALL, end
        else:
            yield (Kind.ASLEEP if ready is None else Kind.READY), end

    def is_deaf(self, port: int, start: int, end: int) -> bool:
        """Whether the client at this port did not read for a part of this time."""
        name = self.name(port)
        return any(
            who == name and begin < end and start < until
            for who, begin, until in self.joined.play.deaf
        )

    def fill(self, until: int) -> None:
        """What ran up to then: coroutines and works, and Python between them."""
        if self.at is None:
            self.at = min([until, *(span.start for span in self.spans)])
        for span in self.spans:
            end = span.end if span.end is not None else self.joined.play.end
            if end <= self.at or span.start >= until:
                continue
            self.between(span.start)
            self.client = self.lane.client or self.name(span.port)
            detail = span.coroutine or "computes"
            self.put(min(end, until), Kind.PYTHON, self.client, detail)
        self.between(until)

    def between(self, until: int) -> None:
        """Python outside of a coroutine; a worker outside of its works is asleep."""
        if self.lane.role is Role.WORKER:
            self.put(until, Kind.ASLEEP, "", "")
        else:
            self.put(until, Kind.PYTHON, self.client, "")

    def put(
        self, until: int, kind: Kind, client: str, detail: str, call: Call | None = None
    ) -> None:
        """A block from where the lane is filled up to then, if that is not behind."""
        assert self.at is not None
        if until > self.at:
            self.lane.blocks.append(Block(self.at, until, kind, client, detail, call))
            self.at = until
