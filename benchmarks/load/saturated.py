"""Closed loop and flood: what a server does when there is always something to do.

Good for capacity, and for what a message costs when one turn of a loop serves many. No latency is
reported: who waits for an answer before asking again asks less often just when the server is
slow.

Everything is numbered and checked here, too. The numbers come from a pool that is used again and
again; it is far larger than what can be under way at a time.

How much a server gathers into one turn depends on how fast it is asked again, so a load generator
that is too slow makes it look dear: one that took 8 µs more for each message took v2 from 9 to 18
µs, and v2 was as busy as before. That the server is busy is therefore not enough. A point is
client-limited, and compares nothing, when the generator used nearly all of its core, and also when
the server had time to idle although the loop was closed.
"""

import itertools
import random
from collections.abc import Sequence
from typing import NoReturn

from benchmarks.load.connections import (
    WRITABLE,
    Broken,
    Load,
    Lost,
    monotonic_ns,
    shown,
)

POOL = 8192
SERVER_IDLE = 0.10
CLIENT_BUSY = 0.95


def numbered_pings(seed: int) -> list[tuple[bytes, bytes]]:
    """Pairs of request and answer, in an order that a server cannot foresee."""
    numbers = list(range(POOL))
    random.Random(seed).shuffle(numbers)
    texts = [f"{number:08d}abcdefgh\n".encode() for number in numbers]
    return [(b"/ping " + text, b"* pong " + text) for text in texts]


def closed_loop(
    load: Load,
    clients: list[int],
    pairs: Sequence[tuple[bytes, bytes]],
    warmup: float,
    seconds: float,
) -> dict:
    """Each client asks, and asks again when the answer is there; returns a trial's outcome.

    `pairs` are requests and their answers, all answers of one length.
    """
    size = len(pairs[0][1])
    following = itertools.cycle(pairs).__next__
    buffer, poll = load.buffer, load.poller.poll
    receive = {fd: load.sockets[fd].recv_into for fd in clients}
    send = {fd: load.sockets[fd].send for fd in clients}
    owed: dict[int, bytes] = {}
    partial: dict[int, bytes] = {}
    wakeups = load.probe.wakeups()

    def give_up() -> NoReturn:
        fd, answer = next(iter(owed.items()))
        load.give_up(fd, f"{len(owed)} answers never came, one was to be {shown(answer)}")

    for fd in clients:
        request, owed[fd] = following()
        send[fd](request)
    answers = before = 0
    opens, closes = monotonic_ns() + int(warmup * 1e9), 0
    while True:
        for fd, _ in poll(load.patience) or give_up():
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
    measured = answers - before
    # One answer each is still owed; the trial counts only if it comes, and nothing else does.
    while owed:
        for fd, _ in poll(load.patience) or give_up():
            count = receive[fd](buffer)
            partial[fd] = partial.get(fd, b"") + buffer[:count]
            if whole(partial[fd], owed.get(fd, b""), count):
                del owed[fd]
    load.expect_nothing_more(clients)
    wakeups = load.probe.wakeups() - wakeups
    metrics = load.metrics | {
        "messages": measured,
        "replies_per_s": measured / load.seconds,
        "server_cpu_us": load.server_ns / 1e3 / max(1, measured),
        "wakeups_per_message": wakeups / (answers + len(clients)),
    }
    return {"metrics": metrics, **limit(metrics)}


def whole(came: bytes, owed: bytes, count: int) -> bool:
    """Whether an answer has come in full; raises Lost if it is another one."""
    if count == 0:
        raise Broken("the server closed a connection")
    if not owed.startswith(came):
        expected = f"{shown(owed)} was expected" if owed else "nothing more was expected"
        raise Lost(f"{shown(came)} came where {expected}")
    return came == owed


def limit(metrics: dict) -> dict:
    """The "status" and "reason" where the load generator was what limited a saturated server."""
    client = metrics["client_cpu_share"]
    idle = 1 - metrics["server_cpu_share"] - metrics["server_wait_share"]
    if client > CLIENT_BUSY:
        reason = f"the load generator used {client:.0%} of its core"
    elif idle > SERVER_IDLE:
        reason = f"the server's core was idle for {idle:.0%} of the time"
    else:
        return {}
    return {"status": "client-limited", "reason": reason}


def flood(
    load: Load,
    sender: int,
    readers: list[int],
    name: str,
    *,
    line_bytes: int,
    lines_per_send: int,
    warmup: float,
    seconds: float,
) -> dict:
    """Chat: one says lines as fast as the server takes them, the others check each they get.

    Each send holds `lines_per_send` lines (a power of two) and a `/ping`, whose answer says that
    the lines have been queued for everybody, and lets the next send go. So a server can glue no
    more lines together than these, and no megabytes wait in socket buffers; the readers, which
    are still to be served then, keep it busy.
    """
    filling = "x" * (line_bytes - len(name) - len(": 00000000\n")) + "\n"
    texts = [f"{number:08d}{filling}".encode() for number in range(POOL)]
    # What every reader gets again and again, twice: a comparison may then begin anywhere in it.
    expected = b"".join(f"{name}: ".encode() + text for text in texts) * 2
    period = len(expected) // 2
    sends = [
        b"".join(texts[first : first + lines_per_send]) for first in range(0, POOL, lines_per_send)
    ]
    receive = {fd: load.sockets[fd].recv_into for fd in readers}
    buffer, view = load.buffer, load.view
    seen = dict.fromkeys(readers, 0)  # bytes
    wakeups = load.probe.wakeups()
    said = delivered = sent = 0
    pong = b""
    sending = True

    def say() -> None:
        nonlocal sent, said, pong
        load.send(sender, sends[sent % len(sends)] + f"/ping {sent:08d}\n".encode())
        pong = f"* pong {sent:08d}\n".encode()
        sent += 1
        said += lines_per_send * line_bytes

    def on_pong() -> None:
        nonlocal pong
        came = view[: load.receive(sender)]
        if not pong.startswith(came):
            raise Lost(f"{shown(came)} came to the sender where {shown(pong)} was expected")
        pong = pong[len(came) :]
        if sending and not pong:
            say()

    def give_up() -> NoReturn:
        short = [said - bytes_seen for bytes_seen in seen.values() if bytes_seen < said]
        missing = sum(short) // line_bytes
        load.give_up(sender, f"{missing} deliveries never came, to {len(short)} of the readers")

    def turn() -> None:
        nonlocal delivered
        for fd, events in load.poller.poll(load.patience) or give_up():
            if events & WRITABLE:
                load.on_writable(fd)
            if not events & ~WRITABLE:
                continue
            if fd == sender:
                on_pong()
                continue
            count = receive[fd](buffer)
            at = seen[fd]
            if at + count > said or not expected.startswith(view[:count], at % period):
                start = (at - at % line_bytes) % period
                came = expected[start : start + at % line_bytes] + view[:count]
                raise Lost(unlike(came, expected[start : start + period], line_bytes))
            if count == 0:
                raise Broken("the server closed a connection")
            seen[fd] = at + count
            delivered += count

    say()
    for phase_seconds in (warmup, seconds):
        load.open_window()
        before = delivered
        until = monotonic_ns() + int(phase_seconds * 1e9)
        while monotonic_ns() < until:
            turn()
    load.close_window()
    measured = (delivered - before) // line_bytes
    sending = False
    while pong or delivered < said * len(readers):
        turn()
    load.expect_nothing_more([sender, *readers])
    wakeups = load.probe.wakeups() - wakeups
    metrics = load.metrics | {
        "deliveries": measured,
        "deliveries_per_s": measured / load.seconds,
        "server_cpu_us": load.server_ns / 1e3 / max(1, measured),
        "wakeups_per_message": wakeups * line_bytes / said,
    }
    return {"metrics": metrics, **limit(metrics)}


def unlike(came: bytes, expected: bytes, line_bytes: int) -> str:
    """The first line that came and is not the one that was expected, for a message."""
    for at in range(0, len(came), line_bytes):
        line, owed = came[at : at + line_bytes], expected[at : at + line_bytes]
        if line != owed[: len(line)]:
            return f"{shown(line)} came to a reader where {shown(owed)} was expected"
    return f"{shown(came)} came to a reader before it was said"
