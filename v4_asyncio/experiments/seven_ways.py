"""Seven ways to broadcast to a slow reader: `python3 -m v4_asyncio.experiments.seven_ways`

Each way has a room of its own, with four readers. Two speakers say lines at a fixed rate; the
second reader stops reading for a while, then goes on. All seven rooms run at the same time, in one
event loop. It takes two to three seconds, and prints one table.
"""

import argparse
import asyncio
import contextlib
import socket
import time
from collections import deque
from collections.abc import Awaitable, Callable

READERS = 4
# The number of the reader that stops. The others read all the time.
STOPS = 1
SPEAKERS = ("ann", "ben")
# So many of each speaker.
LINES_PER_SECOND = 100
LINE_BYTES = 1000
# A stream keeps so many bytes for a reader before drain() waits.
HIGH_WATER = 64 * 1024
# The bound of a queue, in the way that has queues, and of the log that all readers share. The four
# queues and the log have room for equally many lines.
QUEUE_LINES = 64
LOG_LINES = READERS * QUEUE_LINES
# The way that holds the room waits for a reader for so many seconds.
STALL_TIMEOUT = 0.5
# For so long all read: before one stops, and again afterwards.
ALL_READ_SECONDS = 0.25


class Reader:
    """The server's end of a reader's connection, and its own end, which notes what came."""

    def __init__(self, stops_at: float, goes_on_at: float) -> None:
        self.stops_at = stops_at
        self.goes_on_at = goes_on_at
        self.arrived: list[str] = []
        self.worst_delay = 0.0
        self.queue: asyncio.Queue[bytes] = asyncio.Queue(QUEUE_LINES)
        # How far in the log it has come: so many lines have been sent, or were lost.
        self.position = 0
        self.fate = "stays"

    async def connect(self) -> None:
        """Join both ends; a small buffer in the kernel lets a stop be felt soon."""
        own_end, server_end = socket.socketpair()
        server_end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16 * 1024)
        self.own_reader, self.own_writer = await asyncio.open_connection(sock=own_end, limit=2048)
        _, self.writer = await asyncio.open_connection(sock=server_end)
        self.writer.transport.set_write_buffer_limits(high=HIGH_WATER)

    async def read(self) -> None:
        """Read lines to the end of the connection, except while it is stopped."""
        # It may be dropped.
        with contextlib.suppress(ConnectionError):
            while line := await self.own_reader.readline():
                if self.stops_at <= time.monotonic() < self.goes_on_at:
                    await asyncio.sleep(self.goes_on_at - time.monotonic())
                label, due, _ = line.decode().split(" ", 2)
                self.arrived.append(label)
                self.worst_delay = max(self.worst_delay, time.monotonic() - float(due))
        self.own_writer.close()

    async def send(self, line: bytes) -> None:
        """Give a line to the stream, and wait while the stream has too many."""
        self.writer.write(line)
        await self.writer.drain()

    async def send_what_is_queued(self) -> None:
        while True:
            await self.send(await self.queue.get())
            self.queue.task_done()

    async def send_from_log(self, room: "Room") -> None:
        while True:
            async with room.log_has_changed:
                await room.log_has_changed.wait_for(lambda: self.position < room.said)
                # The oldest lines may have fallen out of the log meanwhile.
                self.position = max(self.position, room.said - len(room.log))
                line = room.log[self.position - room.said]
            await self.send(line)
            async with room.log_has_changed:
                self.position += 1
                room.log_has_changed.notify_all()

    def unsent(self) -> int:
        """Bytes that the program keeps for this reader; what its kernel keeps is not counted."""
        return self.writer.transport.get_write_buffer_size() + self.queue.qsize() * LINE_BYTES


class Room:
    """The readers of one way to broadcast, and what is seen of them."""

    def __init__(self, readers: list[Reader]) -> None:
        self.readers = list(readers)
        self.slow = readers[STOPS]
        self.turns = asyncio.Lock()
        self.tasks: set[asyncio.Task] = set()
        # The last lines, and how many were ever put there.
        self.log: deque[bytes] = deque(maxlen=LOG_LINES)
        self.said = 0
        self.log_has_changed = asyncio.Condition()
        self.most_tasks = self.most_unsent = 0

    def drop(self, reader: Reader) -> None:
        self.readers.remove(reader)
        reader.fate = f"dropped after {time.monotonic() - reader.stops_at:.1f} s"
        reader.writer.transport.abort()


# The seven ways. A speaker calls one for each line.
Way = Callable[[Room, bytes], Awaitable[None]]


async def await_each(room: Room, line: bytes) -> None:
    for reader in room.readers:
        await reader.send(line)


async def gather(room: Room, line: bytes) -> None:
    await asyncio.gather(*(reader.send(line) for reader in room.readers))


async def a_task_each(room: Room, line: bytes) -> None:
    for reader in room.readers:
        task = asyncio.create_task(reader.send(line))
        # The event loop alone does not keep a task alive: somebody has to hold it.
        room.tasks.add(task)
        task.add_done_callback(room.tasks.discard)


async def a_queue_each(room: Room, line: bytes) -> None:
    for reader in room.readers:
        # A line that does not fit is lost. send_what_is_queued() takes out the others.
        with contextlib.suppress(asyncio.QueueFull):
            reader.queue.put_nowait(line)


async def a_shared_log(room: Room, line: bytes) -> None:
    room.log.append(line)
    room.said += 1
    # Each reader reads on from its own position: see send_from_log().
    async with room.log_has_changed:
        room.log_has_changed.notify_all()


async def drop_the_slow(room: Room, line: bytes) -> None:
    for reader in list(room.readers):
        reader.writer.write(line)
        if reader.unsent() > HIGH_WATER:
            room.drop(reader)


async def hold_the_room(room: Room, line: bytes) -> None:
    for reader in room.readers:
        reader.writer.write(line)
    # One speaker waits for the room's readers, the other one waits for that speaker.
    async with room.turns:
        for reader in list(room.readers):
            try:
                async with asyncio.timeout(STALL_TIMEOUT):
                    await reader.writer.drain()
            except TimeoutError:
                room.drop(reader)


WAYS = (
    await_each,
    gather,
    a_task_each,
    a_queue_each,
    a_shared_log,
    drop_the_slow,
    hold_the_room,
)


async def speak(room: Room, way: Way, speaker: str, start: float, lines: int) -> None:
    """Say lines, each when it is due, or as soon after that as the way allows."""
    for number in range(lines):
        due = start + number / LINES_PER_SECOND
        if due > time.monotonic():
            await asyncio.sleep(due - time.monotonic())
        await way(room, f"{speaker}{number} {due} ".encode().ljust(LINE_BYTES - 1, b".") + b"\n")
        room.most_tasks = max(room.most_tasks, len(room.tasks))
        room.most_unsent = max(room.most_unsent, room.slow.unsent())


async def try_way(way: Way, stop_for: float) -> str:
    """Play one room to its end; returns its line of the table."""
    start = time.monotonic() + 0.1
    stops_at = start + ALL_READ_SECONDS
    everybody = [Reader(stops_at, stops_at) for _ in range(READERS)]
    everybody[STOPS].goes_on_at += stop_for
    room = Room(everybody)
    for reader in everybody:
        await reader.connect()
    lines = round((stop_for + 2 * ALL_READ_SECONDS) * LINES_PER_SECOND)
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        for reader in everybody:
            group.create_task(reader.read())
        senders = [asyncio.create_task(reader.send_what_is_queued()) for reader in everybody]
        log_readers = [asyncio.create_task(reader.send_from_log(room)) for reader in everybody]
        await asyncio.gather(*(speak(room, way, name, start, lines) for name in SPEAKERS))
        # Everything has been said. Send what is still kept, then close each connection.
        async with room.log_has_changed:
            await room.log_has_changed.wait_for(
                lambda: all(reader.position == room.said for reader in everybody)
            )
        for reader in everybody:
            await reader.queue.join()
            reader.writer.close()
        for task in (*senders, *log_readers):
            task.cancel()
    return describe(room, way, everybody, lines * len(SPEAKERS))


def describe(room: Room, way: Way, everybody: list[Reader], lines: int) -> str:
    others = [reader for reader in everybody if reader is not room.slow]
    waited = max(reader.worst_delay for reader in others)
    tasks = f", {room.most_tasks} tasks" if room.most_tasks else ""
    log = f", {len(room.log)} lines" if room.log else ""
    kept = f"{room.most_unsent / 1024:.0f} KiB{tasks}{log}"
    lost = f"{lines - len(room.slow.arrived):>3} of {lines}"
    order = "same" if all(reader.arrived == others[0].arrived for reader in others) else "differs"
    if any(len(reader.arrived) < lines for reader in others):
        order = "lost"
    name = way.__name__.replace("_", " ")
    return f"{name:<15}{waited * 1000:>5.0f} ms   {kept:<19}{lost}   {order:<9}{room.slow.fate}"


async def main() -> None:
    parser = argparse.ArgumentParser(description="Seven ways to broadcast to a slow reader.")
    parser.add_argument("--stop-for", type=float, choices=(0.4, 0.8, 1.5, 3.0), default=1.5)
    options = parser.parse_args()
    rows = await asyncio.gather(*(try_way(way, options.stop_for) for way in WAYS))
    print("               the others  kept for the slow   the slow   others'   the slow one")
    print("               waited      one, at most        one lost   order     in the end")
    print(*rows, sep="\n")


if __name__ == "__main__":
    asyncio.run(main())
