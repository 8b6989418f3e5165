#!/usr/bin/env python3
"""v4_asyncio: coroutines on one thread, asyncio streams.

Each client again has code that does one thing after another, as in v1, but all on one thread, as
in v3: at an `await` a coroutine hands the thread to the next that can go on. Between two awaits
nothing else runs, so nothing needs a lock against the others. The loop waits in epoll or kqueue,
which is told of a client once, not at each wait: idle ones cost no time, and no descriptor is too
high. Its limit is the price of a message: it takes more steps of Python than in v3.

Run it: python3 v4_asyncio/server.py. Talk to it, in two terminals: python3 client.py v4
"""

import argparse
import asyncio
import contextlib
import io
import itertools
import logging
import math
import re
import signal
import socket
import sys
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import NoReturn

VERSION = "v4_asyncio"
DEFAULT_PORT = 8004
MAX_CLIENTS = 50_000
COMMANDS = "/help /list /ping [TEXT] /work MS /pm NAME TEXT /quit"

MAX_LINE = 1024  # bytes in a line, its ending not counted (F2)
READ_SIZE = 16 * 1024  # bytes of input that one turn of a client takes in at most (F7)
HIGH_WATER = 256 * 1024  # bytes of unsent output above which a client's lines have to wait (L3)
BATCH_SIZE = 32 * 1024  # bytes of what one client says that go to the others in one piece (L3)
LINGER = 3.0  # seconds in which a client that has been told good-bye may go on sending (C4)
STOP_TIME = 1.0  # seconds in which clients may take their last words when the server stops (L4)
TICK = 0.1  # seconds between two attempts at what no event tells of: accept(), flush()
ACCEPTS_AT_ONCE = 100  # newcomers let in before the others get their turn


class Client:
    """One connection. Its own coroutine reads from it; the others, too, may write to it."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        # The coroutine that serves it, and the two ends of its stream.
        self.task: asyncio.Task | None = None
        self.reader: asyncio.StreamReader | None = None
        self.writer: asyncio.StreamWriter | None = None
        # Empty until the handshake is done, and again when the client leaves.
        self.name = ""
        # The bytes of a line whose end has not come yet, and whether that line is too long.
        self.rest = b""
        self.skipping = False
        # Lines that have been read and wait for the client's turn. While there are any, no more
        # are read.
        self.lines: deque[bytes] = deque()
        # What it has said in this turn, for all the others.
        self.said = bytearray()
        # What has not been given to the stream yet. All that gathers here is given in one call.
        self.outbox = bytearray()
        # How many milliseconds of work it has asked for; 0 when there is nothing to do.
        self.work = 0
        # The result to come, once the work has been given to the thread for it.
        self.working: asyncio.Future | None = None
        # While the client holds the room: the task that waits until it has read, see hold().
        self.relief: asyncio.Task | None = None
        # The end of its input has come.
        self.ended = False
        # It gets its last words, and whatever it says is ignored.
        self.leaving = False
        # When it has been silent for too long (L1), on the clock of time.monotonic().
        self.deadline = math.inf


class Server:
    """The clients. Each of their coroutines is one call of serve_client()."""

    def __init__(
        self, listener: socket.socket, worker: ThreadPoolExecutor, options: argparse.Namespace
    ) -> None:
        self.listener = listener
        self.options = options
        self.loop = asyncio.get_running_loop()
        # One thread computes for all of them, see do_work().
        self.worker = worker
        # Every connection that has a place.
        self.clients: set[Client] = set()
        # Those who are in, by casefolded name.
        self.members: dict[str, Client] = {}
        # Two queues for a turn: of those who send much, see receive(), and of all after a hold, see
        # wait_for_release(). The locks guard nothing. They are taken because a lock is a queue: it
        # goes to whoever has waited longest.
        self.bulk_turns = asyncio.Lock()
        self.turns = asyncio.Lock()
        # Clients whose outbox is too full: while there are any, nobody is heard. See hold().
        self.holders: set[Client] = set()
        self.released = asyncio.Event()

    async def serve_client(self, client: Client) -> None:
        """Serve one client from its greeting to its end: this is what its coroutine does."""
        try:
            await self.open_stream(client)
            self.set_deadline(client, self.options.idle_timeout)
            self.send(client, f"* {VERSION}: enter your name")
            try:
                while not client.leaving and not stop_signals:
                    await self.take_turns(client)
            # That was stop(). There is still something to say, so we take the cancellation back:
            # asyncio.timeout() in finish() would not know it from its own.
            except asyncio.CancelledError:
                client.task.uncancel()
            if not client.leaving:
                self.send(client, "* server shutting down")
            await self.finish(client)
        # A reset, mostly, or a client that takes nothing or does not close (TimeoutError, which is
        # an OSError, too): it ends this connection and no other (L2, L3, L6).
        except OSError as error:
            logging.debug("%s: %s", client.name, error)
        # Whatever has ended the coroutine: name and descriptor are freed.
        finally:
            self.drop(client)
            await self.close_stream(client)

    def broadcast(self, sender: Client, notice: str = "") -> None:
        """Put what the sender has said, and a notice, in the outbox of everyone else who is in.

        It waits for nobody and cannot fail: what a client's kernel does not take, its stream keeps.
        All outboxes grow in the same order, so all see the same conversation (D4).
        """
        data = sender.said + notice.encode()
        sender.said.clear()
        for client in self.members.values():
            if client is not sender:
                self.queue(client, data)
                # So much is sent immediately. To let all outboxes grow first would make the C
                # library get memory from the system, and give it back, at each broadcast: a sixth
                # of the price of a flood.
                if len(client.outbox) > READ_SIZE:
                    self.flush(client)

    async def open_stream(self, client: Client) -> None:
        """Let asyncio do the reading and writing from now on."""
        client.reader, client.writer = await asyncio.open_connection(
            sock=client.connection, limit=READ_SIZE
        )
        transport = client.writer.transport
        # drain() waits while more than `high` is unsent, until no more than `low` is: see hold().
        transport.set_write_buffer_limits(high=HIGH_WATER, low=HIGH_WATER // 2)
        # asyncio asks recv() for 256 KiB. For so large a buffer the C library maps memory and
        # gives it back at each call; without this line a message costs twice as much. (asyncio does
        # not document the attribute. Where there is none, this sets one that nobody reads.)
        transport.max_size = READ_SIZE

    async def close_stream(self, client: Client) -> None:
        """Wait until asyncio has closed the connection."""
        if client.writer:
            # How the connection ended has been seen already.
            with contextlib.suppress(OSError):
                await client.writer.wait_closed()

    async def accept_clients(self) -> None:
        """Start a coroutine for each client. This is a coroutine itself."""
        failing = False
        for number in itertools.count(1):
            # While newcomers wait in line, sock_accept() returns at once: an await that lets nobody
            # else run. So now and then the others get their turn here.
            if number % ACCEPTS_AT_ONCE == 0:
                await asyncio.sleep(0)
            try:
                connection, _ = await self.loop.sock_accept(self.listener)
                failing = False
            except (OSError, MemoryError) as error:
                # Out of descriptors, mostly (EMFILE). At once accept() would fail again, so wait
                # until somebody may have left, and log it once, not ten times a second (L2).
                if not failing:
                    logging.warning("cannot accept: %s", error)
                failing = True
                await asyncio.sleep(TICK)
                continue
            if len(self.clients) >= self.options.max_clients:
                refuse(connection)
                continue
            client = Client(connection)
            self.clients.add(client)
            client.task = self.loop.create_task(self.serve_client(client))

    async def receive(self, client: Client) -> None:
        """Take in what has come, READ_SIZE bytes at most; its lines wait for the client's turn."""
        data = await client.reader.read(READ_SIZE)
        # The client has said all, yet it may still listen (L5).
        if not data:
            client.ended = True
        client.lines.extend(split_lines(client, data))
        # Bytes alone do not put the deadline off, the end of a line does, even of one that is
        # refused (L1).
        if b"\n" in data:
            self.set_deadline(client, self.options.idle_timeout)
        # There may be more, and then read() returns at once: an await that lets nobody else run. So
        # those who send much queue up here. In each round of the loop one of them goes on, and
        # everybody who sends little (F7).
        if len(data) == READ_SIZE:
            async with self.bulk_turns:
                await asyncio.sleep(0)

    async def take_turns(self, client: Client) -> None:
        """Take turn after turn, until the client leaves or a timeout goes off.

        To move the timeout at each line would cost a sixth of a message. So it is set once, to the
        deadline as it is now; when it goes off, we look whether the deadline has moved since. It
        interrupts whatever the coroutine waits for; nothing is lost by that, as what has been
        read, and what is being worked on, is kept in the client.
        """
        try:
            async with asyncio.timeout_at(client.deadline) as timeout:
                while not client.leaving and not stop_signals:
                    await self.take_turn(client)
        except TimeoutError:
            # Not our timeout, but the kernel's, which has given the connection up (ETIMEDOUT).
            if not timeout.expired():
                raise
            # A client is not idle while a line of its own waits, perhaps unread in a hold, or is
            # being worked on.
            if client.lines or client.work or self.holders:
                self.set_deadline(client, self.options.idle_timeout)
            elif time.monotonic() >= client.deadline:
                self.on_idle(client)

    async def take_turn(self, client: Client) -> None:
        """Process lines: all that one read brought, or as many as everybody has room for.

        So no client keeps the others waiting for longer than READ_SIZE bytes take, and no outbox
        grows beyond HIGH_WATER by more than one answer, or one batch (F7, L3). From the first line
        to the last there is no await: nobody else's lines come in between.
        """
        if client.work:
            await self.do_work(client)
        elif not client.lines:
            await self.receive(client)
        if self.holders or self.turns.locked():
            await self.wait_for_release()
        while client.lines and not (self.holders or client.leaving or stop_signals):
            self.on_line(client, client.lines.popleft())
            if client.work:
                break
        if client.said:
            self.broadcast(client)
        if client.ended and not client.lines and not client.work:
            client.leaving = True

    def on_line(self, client: Client, line: bytes) -> None:
        """Process one line: a name, a command or a text."""
        try:
            text = decode_line(line)
            command, _, argument = text.partition(" ")
            if not client.name:
                client.name = choose_name(text, self.members)
                self.members[client.name.casefold()] = client
                logging.info("%s joined", client.name)
                self.send(client, f"* hello {client.name}")
                self.broadcast(client, f"* {client.name} joined\n")
            elif command == "/work":
                client.work = parse_work(argument.strip())
            elif command == "/pm":
                self.on_private_message(client, *argument.split(maxsplit=1))
            elif command == "/quit":
                self.send(client, f"* bye {client.name}")
                client.leaving = True
            elif command.startswith("/"):
                self.send(client, answer_command(command, argument.strip(), self.members))
            elif text:
                logging.debug("%s: %s", client.name, text)
                client.said += f"{client.name}: {text}\n".encode()
                # With one more line it could be too long for one batch.
                if len(client.said) > BATCH_SIZE - 2 * MAX_LINE:
                    self.broadcast(client)
        except ValueError as refusal:
            self.send(client, f"! {refusal}")

    def on_private_message(self, client: Client, name: str = "", text: str = "") -> None:
        """Process `/pm NAME TEXT` (C7). Raises ValueError with the refusal."""
        if not text:
            raise ValueError("usage: /pm NAME TEXT")
        recipient = self.members.get(name.casefold())
        if recipient is None:
            raise ValueError(f"no such user: {name}")
        # What it has said before comes first (F5).
        if client.said:
            self.broadcast(client)
        self.send(recipient, f"@{client.name}: {text}")

    async def do_work(self, client: Client) -> None:
        """Compute what the client has asked for: not here, or all would wait, but in a thread.

        There is one such thread for all, for threads that compute take the interpreter's lock from
        the loop. With six of them at work, a line reached 50 listeners after 214 ms; with one after
        71 ms; with one that has to offer the lock every millisecond (start_worker()) within 10 ms.
        """
        if client.working is None:
            client.working = self.loop.run_in_executor(self.worker, burn_cpu, client.work)
        # Should the timeout interrupt this, then the work goes on. A plain await would cancel it.
        await asyncio.wait([client.working])
        self.send(client, client.working.result())
        client.working = None
        client.work = 0
        self.set_deadline(client, self.options.idle_timeout)
        # While it has lines left nothing is read, so we have to look whether it has gone.
        if client.writer.is_closing():
            raise ConnectionResetError("it went while its work was done")

    def send(self, client: Client, line: str) -> None:
        """Put a line in the outbox."""
        self.queue(client, line.encode() + b"\n")

    def queue(self, client: Client, data: bytes) -> None:
        """Put bytes in the outbox. They are sent in the next round of the loop."""
        if not client.outbox:
            self.loop.call_soon(self.flush_what_has_gathered, client)
        client.outbox += data
        if len(client.outbox) + client.writer.transport.get_write_buffer_size() > HIGH_WATER:
            self.hold(client)

    def flush_what_has_gathered(self, client: Client) -> None:
        """Flush, but let small pieces gather while the kernel takes none.

        From Python 3.12 on the stream keeps each piece by itself, and adds up their sizes whenever
        it is asked for it: thousands of lines for one deaf client would slow down everybody.
        """
        if client.writer.transport.get_write_buffer_size():
            self.loop.call_later(TICK, self.flush_what_has_gathered, client)
        else:
            self.flush(client)

    def flush(self, client: Client) -> None:
        """Give the outbox to the stream, which sends what the kernel takes, and keeps the rest."""
        if client.outbox and not client.writer.is_closing():
            client.writer.write(client.outbox)
        # A new one: the stream may still keep parts of the old one.
        client.outbox = bytearray()

    async def wait_until_sent(self, client: Client) -> None:
        """Wait until the stream is empty. TimeoutError: the client takes nothing (L2)."""
        transport = client.writer.transport
        transport.set_write_buffer_limits(high=0)
        unsent = transport.get_write_buffer_size()
        while unsent:
            # Out of time, it may still have taken a part, and that is a sign of life.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.options.stall_timeout):
                    await client.writer.drain()
            before = unsent
            unsent = transport.get_write_buffer_size()
            if unsent >= before:
                raise TimeoutError("the client takes none of its output")

    def set_deadline(self, client: Client, seconds: float) -> None:
        client.deadline = time.monotonic() + seconds

    def on_stalled(self, client: Client) -> None:
        """It holds the room for too long (L3)."""
        self.drop(client)

    def on_idle(self, client: Client) -> None:
        """It has sent no line for too long (L1)."""
        self.send(client, "! idle timeout")
        client.leaving = True

    def leave(self, client: Client) -> None:
        """Free its name (H5), and tell the others (D3)."""
        client.leaving = True
        client.lines.clear()
        self.release(client)
        if self.members.pop(client.name.casefold(), None):
            logging.info("%s left", client.name)
            # When the server stops, all leave, and nobody is told who else does.
            if not stop_signals:
                self.broadcast(client, f"* {client.name} left\n")
        client.name = ""

    async def finish(self, client: Client) -> None:
        """Let it go in good order: its last words, the end of our output, then its own end.

        To close while input is unread would be a reset, and the client could lose our last words
        (RFC 2525, section 2.17). So what it still sends is read and thrown away.
        """
        self.leave(client)
        self.flush(client)
        await self.wait_until_sent(client)
        client.writer.write_eof()
        async with asyncio.timeout(LINGER):
            while await client.reader.read(READ_SIZE):
                pass

    def drop(self, client: Client) -> None:
        """Close at once; what was not sent yet is lost."""
        self.leave(client)
        self.clients.discard(client)
        if client.writer:
            client.writer.transport.abort()
        else:
            client.connection.close()

    # The hold. A full outbox cannot be helped by its client's silence: the others fill it. To throw
    # lines away would be a lie to that client, to drop it at once a punishment for a moment's
    # absence, and to store on would fill the memory. So while any client's outbox is above
    # HIGH_WATER, no lines are processed and no input is read, from anybody. TCP tells the senders
    # to wait. The hold ends when every such outbox is down to half of HIGH_WATER, or its client has
    # been dropped: it has --stall-timeout for that. (At half, not just below the mark, or the few
    # bytes that a deaf client's kernel takes now and then would begin its time anew.)

    def hold(self, client: Client) -> None:
        """Process nobody's lines until this client has read."""
        if client not in self.holders and not client.leaving:
            self.holders.add(client)
            self.released.clear()
            # For drain() counts only what the stream has been given.
            self.flush(client)
            client.relief = self.loop.create_task(self.wait_for_relief(client))

    async def wait_for_relief(self, client: Client) -> None:
        """Wait until this client has read, or drop it after --stall-timeout."""
        try:
            async with asyncio.timeout(self.options.stall_timeout):
                await client.writer.drain()
        except TimeoutError:
            # If it is leaving meanwhile, its own coroutine sees to its time, in wait_until_sent().
            if client in self.holders:
                self.on_stalled(client)
        # A reset. Its own coroutine sees to that.
        except OSError as error:
            logging.debug("%s: %s", client.name, error)
        self.release(client)

    def release(self, client: Client) -> None:
        """End the hold as far as it is this client's."""
        self.holders.discard(client)
        if not self.holders:
            self.released.set()

    async def wait_for_release(self) -> None:
        """Wait until nobody holds the room; then first come, first served."""
        async with self.turns:
            while self.holders:
                await self.released.wait()

    async def stop(self) -> None:
        """Give the clients time to take their last words (L4).

        Coroutines that have something to do see the signal by themselves. Those that wait do not:
        they are woken by a cancellation.
        """
        tasks = [client.task for client in self.clients]
        for client in self.clients:
            if not client.leaving:
                client.task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=STOP_TIME)
        for client in list(self.clients):
            self.drop(client)


def start_worker() -> ThreadPoolExecutor:
    """Return the one thread that computes; see do_work()."""
    # After so many seconds a thread that computes has to offer the interpreter's lock to the loop.
    sys.setswitchinterval(0.001)
    worker = ThreadPoolExecutor(max_workers=1)
    # It starts its thread at the first need, and then there might be none left, nor a descriptor
    # to load what it needs. So the first need is now.
    try:
        worker.submit(time.thread_time).result()
    except (RuntimeError, MemoryError) as error:
        raise SystemExit(f"{VERSION}: cannot start a thread for /work: {error}") from None
    return worker


async def serve(
    listener: socket.socket,
    signals: socket.socket,
    worker: ThreadPoolExecutor,
    options: argparse.Namespace,
) -> None:
    """Serve until a signal asks to stop; then say so to all."""
    listener.setblocking(False)
    signals.setblocking(False)
    server = Server(listener, worker, options)
    accepting = server.loop.create_task(server.accept_clients())
    await server.loop.sock_recv(signals, 1)
    # A client that comes this very moment may have been reported already: it is not let in.
    server.loop.remove_reader(listener)
    accepting.cancel()
    listener.close()
    await server.stop()


# ==== The protocol ====
# From here to the next headline every byte is the same in all four servers. F2, C6 and so on are
# the numbers of the rules in PROTOCOL.md.

# Unicode category Cc, but for the tab: what could move the cursor of a terminal, or worse.
CONTROL_CHARACTER = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f]")


def split_lines(client: "Client", data: bytes) -> list[bytes]:
    """Return the lines whose end is in `data`, however they came split or glued (F2, F3, F5).

    TCP carries bytes, not messages: one read may bring half a line, or twenty and a half.
    """
    if client.skipping:
        _, line_end, data = data.partition(b"\n")
        client.skipping = not line_end
    *lines, client.rest = (client.rest + data).split(b"\n")
    # This can become no line any more, even if its last byte is the CR of an ending. It is refused
    # now, and its remainder forgotten as it arrives: an endless line would fill the memory.
    if len(client.rest) > MAX_LINE + 1:
        lines.append(client.rest)
        client.rest = b""
        client.skipping = True
    return lines


def decode_line(line: bytes) -> str:
    """Return the text of a line (F1, F6). Raises ValueError with the refusal (F2, F4)."""
    line = line.removesuffix(b"\r")
    if len(line) > MAX_LINE:
        raise ValueError(f"line too long (limit {MAX_LINE} bytes)")
    # Only a whole line can be decoded: a read may end in the middle of a character.
    try:
        text = line.decode()
    except UnicodeDecodeError:
        raise ValueError("not valid UTF-8") from None
    if CONTROL_CHARACTER.search(text):
        raise ValueError("control characters are not allowed")
    return text.strip()


def choose_name(wanted: str, members: dict) -> str:
    """Return the name that a handshake line asks for (H2, H5). Raises ValueError (H4)."""
    if not wanted:
        guests = (f"guest{number}" for number in itertools.count(1))
        return next(guest for guest in guests if guest not in members)
    if not re.fullmatch(r"[\w-]{1,20}", wanted):
        raise ValueError("invalid name (1-20 letters, digits, _ or -)")
    if wanted.casefold() in members:
        raise ValueError(f"name {wanted} is taken")
    return wanted


def answer_command(command: str, argument: str, members: dict) -> str:
    """Return the answer to a command that concerns its sender alone (C1, C2, C3).

    Raises ValueError for a command that does not exist (C5).
    """
    if command == "/ping":
        return f"* pong {argument}".rstrip()
    if command == "/list":
        names = ", ".join(members[key].name for key in sorted(members))
        return f"* {len(members)} online: {names}"
    if command == "/help":
        return f"* commands: {COMMANDS}"
    raise ValueError(f"unknown command: {command} (try /help)")


def parse_work(argument: str) -> int:
    """Return the milliseconds that `/work` asks for (C6). Raises ValueError with its usage."""
    if not re.fullmatch("[1-9][0-9]{0,2}|1000", argument):
        raise ValueError("usage: /work MS (1-1000)")
    return int(argument)


def burn_cpu(milliseconds: int) -> str:
    """Compute for so long (C6), and return the answer.

    The time is CPU time of this thread. Beside another busy one that takes twice as long.
    """
    end = time.thread_time() + milliseconds / 1000
    while time.thread_time() < end:
        if stop_signals:
            return "! the work was cut short"
    return f"* worked {milliseconds} ms"


def refuse(connection: socket.socket) -> None:
    """Say that the server is full, and close, without waiting for anything (L2)."""
    # The client may have gone already, or have sent nothing yet.
    with connection, contextlib.suppress(OSError):
        connection.setblocking(False)
        connection.send(b"! server full\n")
        connection.shutdown(socket.SHUT_WR)
        # To close while input is unread would be a reset, and a reset can overtake our line.
        connection.recv(HIGH_WATER)


# ==== Start-up ====
# This section, too, is the same in all four servers.

# Holds a signal's number once a SIGINT or SIGTERM has come: then the server stops (L4).
stop_signals: list[int] = []


def catch_stop_signals() -> socket.socket:
    """Return a socket that SIGINT or SIGTERM makes readable.

    A list alone would wake nobody who waits in a system call. So Python writes a byte into a
    pair of sockets whenever a signal comes: the self-pipe trick (Stevens, UNP; Bernstein).
    """
    receiver, sender = socket.socketpair()
    sender.setblocking(False)
    # The descriptor is Python's from now on; it stays open for as long as signals may come. When
    # many have come it is full, and has long woken whom it should wake.
    signal.set_wakeup_fd(sender.detach(), warn_on_full_buffer=False)

    def on_stop_signal(number: int, _) -> None:
        stop_signals.append(number)

    signal.signal(signal.SIGINT, on_stop_signal)
    signal.signal(signal.SIGTERM, on_stop_signal)
    return receiver


def ignore_stop_signals() -> None:
    """Let no further signal have an effect: at its end Python drops handlers, but not this."""
    # Python reports one that comes in the middle of this, with a traceback, as ignored: so it is.
    sys.unraisablehook = lambda _: None
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def open_listener(host: str, port: int) -> socket.socket:
    """Listen, and say where on standard output; a failure ends the program with one line."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((host, port), family=family, backlog=socket.SOMAXCONN)
    except UnicodeError:
        raise SystemExit(f"{VERSION}: {host!r} cannot be the name of a host") from None
    except (OSError, OverflowError) as error:
        raise SystemExit(f"{VERSION}: cannot listen on {host} port {port}: {error}") from None
    # Accepted connections inherit both options. TCP_NODELAY: an answer does not wait for the
    # client's acknowledgement of the one before (Nagle). SO_SNDBUF: left alone, Linux lets the
    # send buffer grow to megabytes, and for seconds nobody could see whether a slow client reads.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, HIGH_WATER // 2)
    host, port = listener.getsockname()[:2]
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    announce(f"{VERSION} listening on {address}")
    return listener


def announce(line: str) -> None:
    """Print a line at once, though standard output may be a pipe."""
    try:
        print(line, flush=True)
    except OSError as error:
        # It is full, or nobody reads it. Closed, it is not tried again when Python ends.
        with contextlib.suppress(OSError):
            sys.stdout.close()
        raise SystemExit(f"{VERSION}: cannot write to standard output: {error}") from None


class OptionParser(argparse.ArgumentParser):
    """Says in one line what is wrong with the options."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{VERSION}: {message} (try --help)\n")

    def print_help(self, file=None) -> None:
        announce(self.format_help())


def parse_options() -> argparse.Namespace:
    """Read the command line; a mistake ends the program with one line and status 2."""
    parser = OptionParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--host", default="127.0.0.1", help="name or address to listen on")
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, help="0 takes a free one")
    parser.add_argument("--idle-timeout", type=float, default=300, help="seconds; 0 is never")
    parser.add_argument("--stall-timeout", type=float, default=1, help="seconds")
    parser.add_argument("--max-clients", type=int, default=MAX_CLIENTS, help="more are refused")
    parser.add_argument("--verbose", action="store_true", help="log every message")
    options = parser.parse_args()
    for name, lowest in (("idle_timeout", 0), ("stall_timeout", 0.001), ("max_clients", 1)):
        # Written this way round, the comparison is false for "nan", too.
        if not lowest <= getattr(options, name) <= 1_000_000:
            parser.error(f"--{name.replace('_', '-')} must be from {lowest} to 1000000")
    options.idle_timeout = options.idle_timeout or math.inf
    log_to_stderr(logging.DEBUG if options.verbose else logging.INFO)
    return options


def log_to_stderr(level: int) -> None:
    """Write each line of the log at once. What a full disk refuses is lost, and hurts nobody."""
    logging.raiseExceptions = False
    # A program that is started without a standard error has none.
    if sys.stderr is None:
        return
    # A buffer would keep what was refused, and Python would try again at its end, and fail.
    unbuffered = open(sys.stderr.fileno(), "wb", buffering=0, closefd=False)  # noqa: SIM115
    log = io.TextIOWrapper(unbuffered, sys.stderr.encoding, "backslashreplace", write_through=True)
    logging.basicConfig(stream=log, level=level)


def main() -> None:
    options = parse_options()
    signals = catch_stop_signals()
    worker = start_worker()
    listener = open_listener(options.host, options.port)
    asyncio.run(serve(listener, signals, worker, options))
    ignore_stop_signals()


if __name__ == "__main__":
    main()
