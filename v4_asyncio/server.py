#!/usr/bin/env python3
"""v4_asyncio: coroutines on one thread, asyncio streams.

Each client again has code that does one thing after another, as in v1, but all on one thread, as in
v3: where an `await` has to wait, the thread goes to the next coroutine that can go on. Nothing else
runs between two awaits, so nothing needs a lock against the others. The loop waits in epoll or
kqueue, which is told of a client once, not at each wait. So idle clients cost no time, and
descriptors above 1023 work, too. The limit is the price of a message: more steps of Python than v3.

Run it: python3 v4_asyncio/server.py. Talk to it, in two terminals: python3 client.py v4

How to read it: start at main(), go on with serve(), then follow the way of a line: Server from
serve_client() down to flush(). On a first reading skip what is left of Server, below the headline
"When something goes wrong, and the end". F2, L3 and the like are rules of PROTOCOL.md.
small.py has the model alone; diff -u small.py server.py shows what the rules add to it.
"""

import argparse
import asyncio
import contextlib
import errno
import io
import itertools
import logging
import math
import os
import re
import signal
import socket
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NoReturn, TextIO

VERSION = "v4_asyncio"
DEFAULT_PORT = 8004
# On Windows the loop waits in select(), which takes 512 sockets there.
MAX_CLIENTS = 50_000 if os.name == "posix" else 500
COMMANDS = "/help /list /ping [TEXT] /work MS /pm NAME TEXT /quit"

MAX_LINE = 1024  # bytes in a line without its ending (F2)
READ_SIZE = 16 * 1024  # bytes of input that a client's turn reads at most (F7)
HIGH_WATER = 256 * 1024  # bytes of unsent output above which lines have to wait (L3)
BATCH_SIZE = 32 * 1024  # bytes of what a client says that go to the others in one piece (L3)
LONGEST_SAID_LINE = 2 * MAX_LINE  # bytes that `NAME: TEXT` takes at most, and some more
LINGER = 3.0  # seconds for which a client may go on sending after our last words (C4)
STOP_TIME = 1.0  # seconds in which clients may read our last words when the server stops (L4)
FLUSH_RETRY = 0.1  # seconds between two looks at a stream that still has output to send
SWITCH_INTERVAL = 0.001  # seconds after which a thread that computes lets another one run
ACCEPTS_PER_ROUND = 100  # newcomers that are let in before the others get their turn
ACCEPT_PAUSE = 0.5  # seconds without accept() after a failure; asyncio retries after a second


class Client:
    """One connection. Its own coroutine reads from it. The others, too, may write to it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.address = writer.get_extra_info("peername")
        # The coroutine that serves the client. stop() interrupts it.
        self.task = asyncio.current_task()
        # Empty until the handshake is done.
        self.name = ""
        # The bytes of a line whose end has not come yet, and whether that line is too long.
        self.rest = b""
        self.skipping = False
        # Lines that have been read and wait for the client's turn. Until then we read no more. The
        # next one stands last. (For an idle client a deque would take ten times a list's memory.)
        self.lines: list[bytes] = []
        # The lines of this turn that are for all the others.
        self.said = bytearray()
        # Output that the stream has not been given yet. It gathers here and goes out in one call.
        self.outbox = bytearray()
        # Whether flush_gathered() is going to be called.
        self.flush_is_scheduled = False
        # How many milliseconds of work the client has asked for, 0 if none.
        self.work = 0
        # The result to come, once the work has been given to its thread.
        self.working: asyncio.Future | None = None
        # The end of the client's input has come.
        self.input_ended = False
        # The client still gets our last words, but what it says is ignored.
        self.leaving = False
        # Its name is free again, and the log says that it has left.
        self.has_left = False
        # The time (time.monotonic()) from which on the client is idle (L1).
        self.idle_deadline = math.inf

    def __str__(self) -> str:
        """Return how the log names the client."""
        return f"{in_writing(self.address)} {self.name or '(nobody yet)'}"


class Server:
    """The clients. Each of their coroutines is one call of serve_client()."""

    def __init__(self, worker: ThreadPoolExecutor, options: argparse.Namespace) -> None:
        self.options = options
        self.loop = asyncio.get_running_loop()
        # One thread computes for all clients, see do_work().
        self.worker = worker
        # Every connection that has a place, and the descriptors of those that have been accepted,
        # but for which asyncio has not called serve_client() yet.
        self.clients: set[Client] = set()
        self.arriving: set[int] = set()
        # The clients that have a name, by casefolded name.
        self.members: dict[str, Client] = {}
        # This lock protects no data. It is a fair queue for coroutines that wait for a turn: first
        # come, first served. See wait_for_turn().
        self.turns = asyncio.Lock()
        # Clients whose outbox is too full, each with the task that waits until it has read. While
        # there are any, nobody's lines are processed.
        self.holders: dict[Client, asyncio.Task] = {}
        # The last attempt to let a client in has failed, and that has been logged.
        self.accept_failing = False

    async def serve_client(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Serve one client from its greeting to its end. asyncio calls this for each connection."""
        client = Client(reader, writer)
        self.clients.add(client)
        self.arriving.discard(writer.get_extra_info("socket").fileno())
        try:
            self.limit_buffers(client)
            self.send(client, f"* {VERSION}: enter your name")
            self.restart_idle_clock(client)
            try:
                while not client.leaving and not stop_signals:
                    await self.take_turns_until_idle(client)
            # stop() has cancelled us. We still have something to say, so the cancellation ends
            # here. The documentation asks for uncancel() then, and without it Python 3.11.2 takes a
            # timeout in finish() for this cancellation.
            except asyncio.CancelledError:
                client.task.uncancel()
            if not client.leaving:
                self.send(client, "* server shutting down")
            await self.finish(client)
        # A reset, mostly, or a client that takes no output or does not close (TimeoutError, which
        # is an OSError, too). It ends this connection and no other (L2, L3, L6).
        except OSError as error:
            logging.debug("%s lost: %s", client, error)
        # Whatever has ended the coroutine, the name and the descriptor are free again.
        finally:
            self.drop(client)

    def limit_buffers(self, client: Client) -> None:
        """Set how much may be unsent before drain() waits, and how much one read takes."""
        transport = client.writer.transport
        # drain() waits while more than `high` is unsent, until no more than `low` is: see hold().
        transport.set_write_buffer_limits(high=HIGH_WATER, low=HIGH_WATER // 2)
        # asyncio asks recv() for 256 KiB. For a buffer that large the C library maps memory, and
        # unmaps it, at each call, which costs as much as the rest of a message. (The attribute is
        # not documented. The transports of another event loop may refuse it: AttributeError.)
        transport.max_size = READ_SIZE

    async def receive(self, client: Client) -> bool:
        """Read what has come, READ_SIZE bytes at most. Its lines wait for the client's turn.

        Returns whether a line has ended, even one that is refused. Bytes alone do not restart the
        idle clock (L1).
        """
        data = await client.reader.read(READ_SIZE)
        # No data is the end of input. The client may still read, though (L5).
        if not data:
            client.input_ended = True
        client.lines = split_lines(client, data)
        client.lines.reverse()
        # There may be more input, and then read() returns at once: an await that lets nobody else
        # run. So clients that send much queue here, and at most one of them goes on in a round of
        # the loop. Clients that send little do not wait (F7).
        if len(data) == READ_SIZE:
            await self.wait_for_turn()
        return b"\n" in data

    async def take_turns_until_idle(self, client: Client) -> None:
        """Take turn after turn, until the client leaves, or the timer for its silence goes off.

        Moving a timeout at each line would be a large part of a message's cost. So it is set once,
        to the deadline as it is now (the loop's clock is time.monotonic(), too). When it goes off,
        look whether the deadline has moved since.
        The timeout may interrupt any await below. Nothing is lost by that, because lines that have
        been read, and work that has begun, are kept in the client.
        """
        try:
            async with asyncio.timeout_at(client.idle_deadline) as timeout:
                while not client.leaving and not stop_signals:
                    await self.take_turn(client)
        except TimeoutError:
            # It is not our timeout, but the kernel has given the connection up (ETIMEDOUT).
            if not timeout.expired():
                raise
            # A client is not idle while a line of its own waits, perhaps unread in a hold, or is
            # being worked on.
            if client.lines or client.work or self.holders:
                self.restart_idle_clock(client)
            elif time.monotonic() >= client.idle_deadline:
                self.on_idle(client)

    async def take_turn(self, client: Client) -> None:
        """Process lines: all that one read brought, or as many as everyone has room for.

        So no client keeps the others waiting for longer than READ_SIZE bytes take, and no outbox
        grows above HIGH_WATER by more than one answer, or one batch (F7, L3). Only the
        `* NAME left` of clients that are lost meanwhile come on top. There is no await from the
        first line to the last, so no other client's lines come in between.
        """
        line_has_ended = True
        if client.work:
            await self.do_work(client)
        elif not client.lines:
            line_has_ended = await self.receive(client)
        if self.holders:
            await self.wait_for_turn()
        while client.lines and not (self.holders or client.work or client.leaving or stop_signals):
            self.on_line(client, client.lines.pop())
        if client.said:
            self.deliver(client)
        if client.lines or client.work:
            return
        if client.input_ended:
            client.leaving = True
        elif line_has_ended:
            self.restart_idle_clock(client)

    def on_line(self, client: Client, line: bytes) -> None:
        """Process one line: a name, a command or a text."""
        try:
            text = decode_line(line)
            command, _, argument = text.partition(" ")
            if not client.name and HTTP_REQUEST.fullmatch(text):
                self.send(client, "! this is not a web server")
                client.leaving = True
            elif not client.name:
                client.name = choose_name(text, self.members)
                self.members[client.name.casefold()] = client
                logging.info("%s joined", client)
                self.send(client, f"* hello {client.name}")
                self.broadcast(client, f"* {client.name} joined")
            elif command == "/quit":
                self.send(client, f"* bye {client.name}")
                client.leaving = True
            elif command == "/work":
                client.work = parse_work(argument.strip())
            elif command == "/pm":
                self.on_private_message(client, argument.strip())
            elif command.startswith("/"):
                self.send(client, answer_command(command, argument.strip(), self.members))
            elif text:
                logging.debug("%s: %s", client, text)
                self.broadcast(client, f"{client.name}: {text}")
        except ValueError as refusal:
            self.send(client, f"! {refusal}")

    def on_private_message(self, client: Client, argument: str) -> None:
        """Process `/pm NAME TEXT` (C7). Raises ValueError with the refusal."""
        name, _, text = argument.partition(" ")
        if not text:
            raise ValueError("usage: /pm NAME TEXT")
        recipient = self.members.get(name.casefold())
        if recipient is None:
            raise ValueError(f"no such user: {name}")
        # The sender's earlier lines come first (F5).
        if client.said:
            self.deliver(client)
        self.send(recipient, f"@{client.name}: {text.strip()}")

    def broadcast(self, sender: Client, line: str) -> None:
        """Gather a line for everyone else who is in. deliver() passes on what one turn has said."""
        sender.said += line.encode() + b"\n"
        # One more line might be too much for a batch.
        if len(sender.said) > BATCH_SIZE - LONGEST_SAID_LINE:
            self.deliver(sender)

    def deliver(self, sender: Client) -> None:
        """Put what the sender has said in the outbox of everyone else who is in.

        This can neither wait nor fail, because what a kernel does not take, its stream keeps. All
        outboxes grow in the same order, so all clients see the same conversation (D4).
        """
        for client in self.members.values():
            if client is not sender:
                self.queue(client, sender.said)
                # A large outbox is sent immediately. If all outboxes grew first, the C library
                # would get memory from the system, and give it back, at each broadcast.
                if len(client.outbox) > READ_SIZE:
                    self.flush(client)
        sender.said.clear()

    # The hold. Making only the slow client wait would not help, because the others fill its outbox.
    # Throwing lines away would be a lie to that client, dropping it at once would punish a moment's
    # absence, and storing more would fill the memory. So while any client's outbox is above
    # HIGH_WATER, the server processes nobody's lines and reads nobody's input, and TCP makes the
    # senders wait. The hold ends when each such outbox is down to half of HIGH_WATER, or its client
    # has been dropped: it has --stall-timeout for that. (If the hold ended just below HIGH_WATER, a
    # few bytes would end it, and the next hold would give the client another --stall-timeout.) A
    # client for which the server waits in this way holds the room.

    def hold(self, client: Client) -> None:
        """Process nobody's lines until this client has read."""
        if client not in self.holders and not client.leaving:
            # drain() counts only what the stream has been given.
            self.flush(client)
            self.holders[client] = self.loop.create_task(self.wait_until_read(client))

    async def wait_until_read(self, client: Client) -> None:
        """Wait until the client has read, and end its hold. After --stall-timeout drop it."""
        stalled = False
        try:
            async with asyncio.timeout(self.options.stall_timeout):
                await client.writer.drain()
        # The time is over (TimeoutError), or a reset has ended the connection.
        except OSError:
            stalled = True
        # After a release() the client is no holder any more.
        finally:
            self.holders.pop(client, None)
        if stalled:
            self.on_stalled(client)

    def release(self, client: Client) -> None:
        """End the hold as far as it is this client's."""
        if client in self.holders:
            self.holders.pop(client).cancel()

    async def wait_for_turn(self) -> None:
        """Stand in line for the next round of the loop, and wait until nobody holds the room."""
        async with self.turns:
            await asyncio.sleep(0)
            while self.holders:
                await asyncio.wait(self.holders.values())

    async def do_work(self, client: Client) -> None:
        """Compute what the client has asked for, in a thread, because here all would wait.

        One thread computes for all clients, because each thread that computes takes the
        interpreter's lock from the loop. start_worker() makes it offer the lock often.
        """
        if client.working is None:
            client.working = self.loop.run_in_executor(self.worker, burn_cpu, client.work)
        # If the timeout interrupts this, the future stays. A plain await would cancel it.
        await asyncio.wait([client.working])
        self.send(client, client.working.result())
        client.working = None
        client.work = 0
        # Only reading reports a lost connection, and while there are lines we do not read.
        if client.writer.is_closing():
            raise ConnectionResetError("the client went while its work was done")

    def send(self, client: Client, line: str) -> None:
        """Put a line in the outbox."""
        self.queue(client, line.encode() + b"\n")

    def queue(self, client: Client, data: bytes) -> None:
        """Put bytes in the outbox. The next round of the loop gives them to the stream."""
        if not client.flush_is_scheduled:
            client.flush_is_scheduled = True
            self.loop.call_soon(self.flush_gathered, client)
        client.outbox += data
        if len(client.outbox) + client.writer.transport.get_write_buffer_size() > HIGH_WATER:
            self.hold(client)

    def flush_gathered(self, client: Client) -> None:
        """Flush, but let small pieces gather while the kernel takes none.

        Since Python 3.12 the stream keeps each piece separately, and adds up their sizes whenever
        it is asked for it. Thousands of lines for one deaf client would slow down everyone.
        """
        if client.outbox and client.writer.transport.get_write_buffer_size():
            self.loop.call_later(FLUSH_RETRY, self.flush_gathered, client)
        else:
            client.flush_is_scheduled = False
            self.flush(client)

    def flush(self, client: Client) -> None:
        """Give the outbox to the stream, which sends what the kernel takes, and keeps the rest."""
        if client.outbox and not client.writer.is_closing():
            client.writer.write(client.outbox)
        # The stream may still keep parts of the old outbox, so this is a new one.
        client.outbox = bytearray()

    def restart_idle_clock(self, client: Client) -> None:
        """From now on the client has --idle-timeout for its next line (L1)."""
        client.idle_deadline = time.monotonic() + self.options.idle_timeout

    # ---- When something goes wrong, and the end ----

    def on_loop_error(self, loop: asyncio.AbstractEventLoop, context: dict) -> None:
        """Report an error that no coroutine has caught. asyncio calls this for each."""
        # A context with a socket is about a failed accept(), and Listener has handled that. After
        # the signal asyncio may still try to use the listener, which is closed.
        if "socket" not in context and not stop_signals:
            loop.default_exception_handler(context)

    def on_accept_failed(self, error: Exception) -> None:
        """No client can be let in (EMFILE, mostly). Log it once, not at each attempt (L2)."""
        if not self.accept_failing:
            logging.warning("cannot accept: %s", error)
        self.accept_failing = True

    def on_idle(self, client: Client) -> None:
        """Tell a client that has sent no line for too long that it has to go (L1)."""
        self.send(client, "! idle timeout")
        client.leaving = True

    def on_stalled(self, client: Client) -> None:
        """Drop a client that holds the room for too long (L3)."""
        self.drop(client)

    async def wait_until_sent(self, client: Client) -> None:
        """Wait until the stream is empty. TimeoutError: the client takes nothing (L2)."""
        transport = client.writer.transport
        # From now on drain() waits until nothing is unsent.
        transport.set_write_buffer_limits(high=0)
        unsent = transport.get_write_buffer_size()
        while unsent:
            # When the time is over the client may still have taken a part: a sign of life.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.options.stall_timeout):
                    await client.writer.drain()
            before = unsent
            unsent = transport.get_write_buffer_size()
            if unsent >= before:
                raise TimeoutError("the client takes none of its output")

    def leave(self, client: Client) -> None:
        """Free the client's name (H5), and tell the others (D3), once."""
        if client.has_left:
            return
        client.has_left = True
        client.leaving = True
        client.lines.clear()
        self.release(client)
        was_in = self.members.pop(client.name.casefold(), None)
        logging.info("%s left", client)
        # When the server stops all clients leave, and nobody is told about the others.
        if was_in and not stop_signals:
            self.broadcast(client, f"* {client.name} left")
            self.deliver(client)

    async def finish(self, client: Client) -> None:
        """Close in good order: our last words, the end of our output, then the client's end.

        Closing with unread input would be a reset, and the client could lose our last words
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
        """Close at once. Output that was not sent yet is lost."""
        self.leave(client)
        self.clients.discard(client)
        client.writer.transport.abort()

    async def stop(self) -> None:
        """Give the clients time to read our last words (L4).

        A coroutine that has something to do sees the signal by itself. One that waits does not, so
        a cancellation wakes it.
        """
        end = time.monotonic() + STOP_TIME
        for client in self.clients:
            if not client.leaving:
                client.task.cancel()
        while self.clients and (seconds := end - time.monotonic()) > 0:
            await asyncio.wait([client.task for client in self.clients], timeout=seconds)
        for client in list(self.clients):
            self.drop(client)


class Listener(socket.socket):
    """The listening socket. asyncio calls its accept(), up to ACCEPTS_PER_ROUND times in a row.

    A usual socket would let in more clients than there are places, because serve_client() runs only
    later. And out of descriptors (EMFILE) asyncio would try again at once, up to 100 times, with a
    timer for each, and each timer would do the same a second later.
    """

    def __init__(self, listener: socket.socket, server: Server) -> None:
        super().__init__(fileno=listener.detach())
        self.server = server
        # When accept() has failed, on the clock of time.monotonic().
        self.failed_at = -math.inf

    def accept(self) -> tuple[socket.socket, object]:
        """Accept a connection. BlockingIOError: not now. OSError: try again after a second."""
        if time.monotonic() < self.failed_at + ACCEPT_PAUSE:
            raise BlockingIOError("asyncio tries again at once, but that is too soon")
        try:
            connection, address = super().accept()
        # Nobody is waiting, or the client has given up.
        except (BlockingIOError, ConnectionAbortedError):
            raise
        except (OSError, MemoryError) as error:
            self.failed_at = time.monotonic()
            self.server.on_accept_failed(error)
            # This is the error for which asyncio waits a second.
            raise OSError(errno.EMFILE, "cannot accept") from error
        self.server.accept_failing = False
        if len(self.server.clients) + len(self.server.arriving) >= self.server.options.max_clients:
            refuse(connection)
            raise BlockingIOError("the client was refused, see again in the next round")
        self.server.arriving.add(connection.fileno())
        return connection, address


def start_worker() -> ThreadPoolExecutor:
    """Return the one thread that computes, see do_work()."""
    # A thread that computes has to offer the interpreter's lock to the loop this often.
    sys.setswitchinterval(SWITCH_INTERVAL)
    worker = ThreadPoolExecutor(max_workers=1)
    # The executor starts its thread when it is first needed. At that time there might be no thread
    # left, nor a descriptor to load what it needs. So it is first needed now.
    try:
        worker.submit(time.thread_time).result()
    except (RuntimeError, MemoryError) as error:
        raise SystemExit(f"{VERSION}: cannot start a thread for /work: {error}") from None
    return worker


def refuse_running_loop() -> None:
    """End the program with one line if a loop runs around it already, as in Jupyter."""
    try:
        asyncio.get_running_loop()
    # This is as it should be.
    except RuntimeError:
        return
    raise SystemExit(f"{VERSION}: an event loop runs here already: start me in a terminal instead")


async def serve(
    listener: socket.socket,
    wakeup: socket.socket,
    worker: ThreadPoolExecutor,
    options: argparse.Namespace,
) -> None:
    """Serve until a signal asks to stop. Then say so to all clients."""
    wakeup.setblocking(False)
    server = Server(worker, options)
    server.loop.set_exception_handler(server.on_loop_error)
    # For asyncio the backlog is two things: how many newcomers it lets in per round, which should
    # be few, and how many the kernel queues until then, which should be many. So listen() again.
    listener = Listener(listener, server)
    accepting = await asyncio.start_server(
        server.serve_client, sock=listener, limit=READ_SIZE, backlog=ACCEPTS_PER_ROUND
    )
    listener.listen(socket.SOMAXCONN)
    await server.loop.sock_recv(wakeup, 1)
    accepting.close()
    await server.stop()


# ==== The protocol ====
# From here to main() every byte is the same in all four servers. F2, C6 and so on are the numbers
# of the rules in PROTOCOL.md.

# Unicode category Cc without the tab: these could move the cursor of a terminal, or do worse.
CONTROL_CHARACTER = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f]")

# The beginning of an HTTP request (RFC 9112, sections 3 and 3.2), which any web page can make a
# browser send here. Its first line may be too long, so the second one counts as well (H6).
HTTP_REQUEST = re.compile(r"[A-Z]+ .* HTTP/[0-9.]+|[Hh]ost:.*")


def split_lines(client: "Client", data: bytes) -> list[bytes]:
    """Return the lines that end in `data`, whether they come split or glued (F2, F3, F5).

    TCP carries a stream of bytes, not messages. One read may bring half a line, or twenty lines
    and a half.
    """
    if client.skipping:
        _, line_end, data = data.partition(b"\n")
        client.skipping = not line_end
    *lines, client.rest = (client.rest + data).split(b"\n")
    # This is too long already, even if its last byte is the CR of an ending. Refuse it now and
    # throw the remainder away as it arrives, because an endless line would fill the memory.
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
    # Decode whole lines only: a read may end in the middle of a character.
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
    """Return the answer to a command that concerns nobody but its sender (C1, C2, C3).

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
    """Compute for that long (C6), and return the answer.

    This counts the CPU time of the calling thread. Where two threads compute, as in v1, it takes
    twice as long.
    """
    end = time.thread_time() + milliseconds / 1000
    while time.thread_time() < end:
        if stop_signals:
            return "! the work was cut short"
    return f"* worked {milliseconds} ms"


def refuse(connection: socket.socket) -> None:
    """Say that the server is full, and close without waiting for anything (L2)."""
    # The client may be gone already, or may not have sent anything yet. If memory is short, recv()
    # may fail, too.
    with connection, contextlib.suppress(OSError, MemoryError):
        connection.setblocking(False)
        connection.send(b"! server full\n")
        connection.shutdown(socket.SHUT_WR)
        # Closing with unread input would be a reset, and a reset can overtake our line.
        connection.recv(HIGH_WATER)


# ==== Start-up ====

# Holds a signal's number once SIGINT or SIGTERM has come. From then on the server stops (L4).
stop_signals: list[int] = []


@contextlib.contextmanager
def catch_stop_signals() -> Iterator[socket.socket]:
    """Yield a socket that becomes readable when SIGINT or SIGTERM comes. In the end ignore both.

    A list alone would wake nobody who is blocked in a system call. So Python writes a byte into a
    pair of sockets at each signal: the self-pipe trick (Stevens, UNP; Bernstein).
    """

    def on_stop_signal(number: int, _) -> None:
        stop_signals.append(number)

    receiver, sender = socket.socketpair()
    with receiver, sender:
        sender.setblocking(False)
        # After very many signals the pair is full, but then its reader has long been woken.
        signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGINT, on_stop_signal)
        signal.signal(signal.SIGTERM, on_stop_signal)
        try:
            yield receiver
        finally:
            ignore_stop_signals()


def ignore_stop_signals() -> None:
    """Ignore further signals. When Python ends it removes handlers, but keeps SIG_IGN."""
    # When a signal's handler is removed before Python has called it, Python reports, with a
    # traceback, that it ignores the signal. Ignoring it is right; only the report is suppressed.
    sys.unraisablehook = lambda _: None
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.set_wakeup_fd(-1)


def open_listener(host: str, port: int) -> socket.socket:
    """Listen, and say where on standard output. A failure ends the program with one line."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((host, port), family=family, backlog=socket.SOMAXCONN)
    except UnicodeError:
        raise SystemExit(f"{VERSION}: {host!r} cannot be the name of a host") from None
    except (OSError, OverflowError) as error:
        raise SystemExit(f"{VERSION}: cannot listen on {host} port {port}: {error}") from None
    # Accepted connections inherit both options. With TCP_NODELAY an answer does not wait until the
    # client has acknowledged the one before (Nagle). Without SO_SNDBUF Linux lets the send buffer
    # grow to megabytes, which would hide for seconds that a client has stopped reading.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, HIGH_WATER // 2)
    announce(f"{VERSION} listening on {in_writing(listener.getsockname())}")
    return listener


def in_writing(address: tuple) -> str:
    """Return an address as people write it: 127.0.0.1:8001, or [::1]:8001."""
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def announce(line: str) -> None:
    """Print a line at once, even if standard output is a pipe."""
    try:
        print(line, flush=True)
    except OSError as error:
        # Standard output is full, or its reader is gone. Once closed, Python does not try to
        # flush it again at its end.
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
    """Read the command line. A mistake ends the program with one line and status 2."""
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
    # A program may be started without a standard error.
    if sys.stderr is None:
        return
    # A buffer would keep what the disk refused. Python would try again at its end, and fail.
    try:
        unbuffered = open(sys.stderr.fileno(), "wb", buffering=0, closefd=False)  # noqa: SIM115
        encoding = sys.stderr.encoding
        log: TextIO = io.TextIOWrapper(unbuffered, encoding, "backslashreplace", write_through=True)
    # Standard error is no file, but a window, as in IDLE.
    except (AttributeError, OSError):
        log = sys.stderr
    line = "%(asctime)s %(levelname)s %(message)s"
    logging.basicConfig(stream=log, level=level, format=line, datefmt="%Y-%m-%d %H:%M:%S")


def main() -> None:
    refuse_running_loop()
    options = parse_options()
    # On Windows asyncio's usual loop is another one. It takes Python's wakeup descriptor, so that a
    # signal would not reach `wakeup`, and it never calls Listener.accept().
    with (
        catch_stop_signals() as wakeup,
        start_worker() as worker,
        open_listener(options.host, options.port) as listener,
        asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner,
    ):
        runner.run(serve(listener, wakeup, worker, options))


if __name__ == "__main__":
    main()
