#!/usr/bin/env python3
"""v3_broadcast: v2_select with broadcast. It is the first of the four that is a chat room.

Each line of a client goes to all the others. So the outbox of a client that does not read is filled
by the others, and it does not help to stop listening to that client. While any outbox is too full
the server reads from nobody, the kernel makes the senders wait, and a client that stays stuck is
dropped. The cost: a line that comes in goes out once for each other client. A turn gathers lines,
and each client gets them in one call. The limits are those of v2.

Run it: python3 v3_broadcast/server.py. Talk to it, in two terminals: python3 client.py v3

How to read it: start at main(), go on with serve(), then follow the way of a line: Server from
run_round() down to flush(). On a first reading skip what is left of Server, below the headline
"When something goes wrong, and the end". F2, L3 and the like are rules of PROTOCOL.md.
small.py has the model alone; diff -u small.py server.py shows what the rules add to it.
"""

import argparse
import contextlib
import io
import itertools
import logging
import math
import os
import re
import select
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import NoReturn, TextIO

VERSION = "v3_broadcast"
DEFAULT_PORT = 8003
# select() knows no descriptor above 1023. On Windows it takes 512 sockets, whatever their numbers.
MAX_CLIENTS = 1000 if os.name == "posix" else 500
FD_SETSIZE = 1024 if os.name == "posix" else math.inf
COMMANDS = "/help /list /ping [TEXT] /work MS /pm NAME TEXT /quit"

MAX_LINE = 1024  # bytes in a line without its ending (F2)
READ_SIZE = 16 * 1024  # bytes of input that a client's turn reads at most (F7)
HIGH_WATER = 256 * 1024  # bytes of unsent output above which lines have to wait (L3)
BATCH_SIZE = 32 * 1024  # bytes of what a client says that go to the others in one piece (L3)
LONGEST_SAID_LINE = 2 * MAX_LINE  # bytes that `NAME: TEXT` takes at most, and some more
LINGER = 3.0  # seconds for which a client may go on sending after our last words (C4)
STOP_TIME = 1.0  # seconds in which clients may read our last words when the server stops (L4)
TICK = 0.1  # seconds between two looks at the deadlines, and at a listener that failed


class Client:
    """One connection: what the loop has to remember of it from round to round."""

    def __init__(self, connection: socket.socket, address: tuple) -> None:
        self.connection = connection
        self.address = address
        # The number by which select() knows it.
        self.fd = connection.fileno()
        # Empty until the handshake is done.
        self.name = ""
        # The bytes of a line whose end has not come yet, and whether that line is too long.
        self.rest = b""
        self.skipping = False
        # Lines that have been read and wait for the client's turn. Until then we read no more.
        self.lines: deque[bytes] = deque()
        # The lines of this turn that are for all the others.
        self.said = bytearray()
        # Output that the kernel has not taken yet. The answers of one turn go out in one call.
        self.outbox = bytearray()
        # How many milliseconds of work the client has asked for, 0 if none.
        self.work = 0
        # The end of the client's input has come.
        self.input_ended = False
        # The client still gets our last words, but what it says is ignored.
        self.leaving = False
        # Its name is free again, and the log says that it has left.
        self.has_left = False
        # The time (time.monotonic()) from which on the client is idle (L1). There is none while the
        # server does not read from it.
        self.idle_deadline = math.inf
        # The time by which the client must have taken output, or closed (L2, L3, C4). There is none
        # while the server does not wait for that.
        self.stall_deadline = math.inf

    def __str__(self) -> str:
        """Return how the log names the client."""
        return f"{in_writing(self.address)} {self.name or '(nobody yet)'}"


class Server:
    """The clients, and the loop's view of them: whom to read, whom to write, whose turn it is."""

    def __init__(self, listener: socket.socket, options: argparse.Namespace) -> None:
        self.listener = listener
        self.options = options
        # Every connection that has a place, by descriptor.
        self.clients: dict[int, Client] = {}
        # The clients that have a name, by casefolded name.
        self.members: dict[str, Client] = {}
        # Clients with something to process, the one whose turn is next in front. A client that has
        # lines left after its turn goes to the end.
        self.ready: deque[Client] = deque()
        # Clients whose outbox is too full. While there are any, nobody's lines are processed.
        self.holders: set[Client] = set()
        # The descriptors from which input is wanted, and those with output in their outbox.
        self.readers = {listener.fileno()}
        self.writers: set[int] = set()
        # accept() has failed. The listener is left alone until the next tick.
        self.accept_failing = False
        self.next_tick = time.monotonic() + TICK
        # A client may give up between select() and accept() (see accept(2), ECONNABORTED). A
        # blocking accept() would then wait for the next one.
        listener.setblocking(False)

    def run_round(self) -> None:
        """Wait until something can be done, and do it: one round of the loop."""
        seconds = TICK if self.clients or self.accept_failing else None
        readers = self.readers
        if self.holders:
            readers = self.readers_in_a_hold()
        elif self.ready:
            seconds = 0
        # The writers are there to end the wait. In the end all of them are tried.
        readable, _, _ = select.select(readers, self.writers, (), seconds)
        for fd in readable:
            if fd in self.clients:
                self.attempt(self.receive, self.clients[fd])
        if self.listener.fileno() in readable:
            self.accept_clients()
        # The deadlines come after the reading, because the last round may have taken long, and a
        # client may have sent its line in time meanwhile.
        if time.monotonic() >= self.next_tick:
            self.on_tick()
        # Each client that is ready gets one turn. If that takes long (/work does), the rest of them
        # wait for the next round, so that select() is called again soon.
        for _ in range(len(self.ready)):
            if self.holders:
                break
            self.take_turn(self.ready.popleft())
            if time.monotonic() >= self.next_tick:
                break
        self.flush_outboxes()

    def attempt(self, action: Callable[[Client], None], client: Client) -> None:
        """Do what may fail with one client, without any harm to the others."""
        try:
            action(client)
        # The socket is not ready, though select() may have said so (select(2), BUGS). The next
        # round tries again.
        except BlockingIOError:
            pass
        # A reset, mostly. It ends this connection and no other (L6).
        except OSError as error:
            logging.debug("%s lost: %s", client, error)
            self.drop(client)

    def accept_clients(self) -> None:
        """Let in all clients that wait at the listener, at most MAX_CLIENTS in one round."""
        for _ in range(MAX_CLIENTS):
            try:
                connection, address = self.listener.accept()
            # There was no other one.
            except BlockingIOError:
                self.accept_failing = False
                return
            except (OSError, MemoryError) as error:
                self.on_accept_failed(error)
                # select() would report the listener again at once, so leave it alone for a tick.
                self.readers.discard(self.listener.fileno())
                return
            if len(self.clients) >= self.options.max_clients or connection.fileno() >= FD_SETSIZE:
                refuse(connection)
                continue
            connection.setblocking(False)
            client = Client(connection, address)
            self.clients[client.fd] = client
            self.send(client, f"* {VERSION}: enter your name")
            self.start_reading(client)
            # Many clients have sent their name by now.
            self.attempt(self.receive, client)

    def start_reading(self, client: Client) -> None:
        """Ask for the client's input. Only from now on can it be idle (L1)."""
        self.readers.add(client.fd)
        client.idle_deadline = time.monotonic() + self.options.idle_timeout

    def stop_reading(self, client: Client) -> None:
        """Leave the client's input in the kernel, which makes the client wait when it is full."""
        self.readers.discard(client.fd)
        client.idle_deadline = math.inf

    def receive(self, client: Client) -> None:
        """Read what has come, READ_SIZE bytes at most. Its lines wait for the client's turn."""
        data = client.connection.recv(READ_SIZE)
        # No data is the end of input, and select() would report it for ever. The client may still
        # read, though (L5).
        if not data:
            client.input_ended = True
            self.stop_reading(client)
        if client.leaving:
            if client.input_ended and not client.outbox:
                self.drop(client)
            return
        client.lines.extend(split_lines(client, data))
        # Half a line is nothing to take a turn for, and does not restart the idle clock (L1). The
        # end of a line that was too long does, though `lines` has nothing of it.
        if client.lines or client.input_ended or b"\n" in data:
            self.stop_reading(client)
            self.ready.append(client)

    def take_turn(self, client: Client) -> None:
        """Process lines: all that one read brought, or as many as everyone has room for.

        So no client keeps the others waiting for longer than READ_SIZE bytes take, or one /work,
        and no outbox grows above HIGH_WATER by more than one answer, or one batch (F7, L3). Only
        the `* NAME left` of clients that are lost meanwhile come on top. Work is left for the next
        turn, so what was said and answered before it goes out first.
        """
        if client.work:
            self.do_work(client)
        while client.lines and not (self.holders or client.work or client.leaving or stop_signals):
            self.on_line(client, client.lines.popleft())
        if client.said:
            self.deliver(client)
        if client.leaving:
            self.finish(client)
        else:
            self.schedule(client)

    def schedule(self, client: Client) -> None:
        """Decide what the client waits for: its next turn, its end, or its own next line."""
        if client.lines or client.work:
            self.ready.append(client)
        elif client.input_ended:
            self.finish(client)
        else:
            self.start_reading(client)

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

        This can neither wait nor fail, because flush() does the sending. All outboxes grow in the
        same order, so all clients see the same conversation (D4).
        """
        for client in self.members.values():
            if client is not sender:
                self.queue(client, sender.said)
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
            self.holders.add(client)
            client.stall_deadline = time.monotonic() + self.options.stall_timeout

    def release(self, client: Client) -> None:
        """End the hold as far as it is this client's."""
        if client in self.holders:
            self.holders.remove(client)
            client.stall_deadline = math.inf

    def readers_in_a_hold(self) -> set[int]:
        """Return the descriptors that are read all the same: of newcomers and leaving clients."""
        return {fd for fd in self.readers if fd not in self.clients or self.clients[fd].leaving}

    def do_work(self, client: Client) -> None:
        """Compute what the client has asked for. There is no other place for it, so all wait."""
        self.send(client, burn_cpu(client.work))
        client.work = 0

    def send(self, client: Client, line: str) -> None:
        """Put a line in the outbox."""
        self.queue(client, line.encode() + b"\n")

    def queue(self, client: Client, data: bytes) -> None:
        """Put bytes in the outbox. This round of the loop tries to send them."""
        client.outbox += data
        self.writers.add(client.fd)
        if len(client.outbox) > HIGH_WATER:
            self.hold(client)

    def flush_outboxes(self) -> None:
        """Send what can be sent. Most sockets have room, so do not ask select() first."""
        for fd in list(self.writers):
            self.attempt(self.flush, self.clients[fd])

    def flush(self, client: Client) -> None:
        """Send what the kernel takes of the outbox. The rest waits there for the next round."""
        sent = client.connection.send(client.outbox)
        del client.outbox[:sent]
        if not client.outbox:
            self.writers.discard(client.fd)
        if client in self.holders or client.leaving:
            self.on_output_taken(client)

    # ---- When something goes wrong, and the end ----

    def on_output_taken(self, client: Client) -> None:
        """A client that we wait for has taken some output."""
        if len(client.outbox) <= HIGH_WATER // 2:
            self.release(client)
        if client.leaving:
            client.stall_deadline = time.monotonic() + self.options.stall_timeout
            if not client.outbox:
                self.end_output(client)

    def on_accept_failed(self, error: Exception) -> None:
        """No client can be let in (EMFILE, mostly). Log it once, not at each attempt (L2)."""
        if not self.accept_failing:
            logging.warning("cannot accept: %s", error)
        self.accept_failing = True

    def on_tick(self) -> None:
        """Look at everyone's deadlines. A tenth of a second is precise enough for people."""
        # In a hold nobody is idle, because nobody is heard. Remember it now: the next steps may end
        # the hold, but lines that have come meanwhile are not read yet.
        in_a_hold = bool(self.holders)
        # The last round may have taken long, and clients may have read meanwhile.
        self.flush_outboxes()
        now = time.monotonic()
        self.next_tick = now + TICK
        # accept() may work again by now.
        if self.accept_failing and not stop_signals:
            self.readers.add(self.listener.fileno())
        for client in list(self.clients.values()):
            if client.stall_deadline <= now:
                self.on_stalled(client)
            elif client.idle_deadline <= now and not in_a_hold:
                self.on_idle(client)
                self.finish(client)

    def on_idle(self, client: Client) -> None:
        """Tell a client that has sent no line for too long that it has to go (L1)."""
        self.send(client, "! idle timeout")
        client.leaving = True

    def on_stalled(self, client: Client) -> None:
        """Drop a client that holds the room or takes nothing for too long, or does not close."""
        self.drop(client)

    def leave(self, client: Client) -> None:
        """Free the client's name (H5), and tell the others (D3), once."""
        if client.has_left:
            return
        client.has_left = True
        client.leaving = True
        client.lines.clear()
        if client in self.ready:
            self.ready.remove(client)
        self.release(client)
        was_in = self.members.pop(client.name.casefold(), None)
        logging.info("%s left", client)
        # When the server stops all clients leave, and nobody is told about the others.
        if was_in and not stop_signals:
            self.broadcast(client, f"* {client.name} left")
            self.deliver(client)

    def finish(self, client: Client) -> None:
        """Close in good order: our last words, the end of our output, then the client's end.

        Closing with unread input would be a reset, and the client could lose our last words
        (RFC 2525, section 2.17). So what it still sends is read and thrown away.
        """
        self.leave(client)
        client.idle_deadline = math.inf
        if not client.input_ended:
            self.readers.add(client.fd)
        client.stall_deadline = time.monotonic() + self.options.stall_timeout
        if not client.outbox:
            self.attempt(self.end_output, client)

    def end_output(self, client: Client) -> None:
        """Say that there is no more output. Then only the client's end is missing."""
        if client.input_ended:
            self.drop(client)
        else:
            client.connection.shutdown(socket.SHUT_WR)
            client.stall_deadline = time.monotonic() + LINGER

    def drop(self, client: Client) -> None:
        """Close at once. Output that was not sent yet is lost."""
        self.leave(client)
        self.readers.discard(client.fd)
        self.writers.discard(client.fd)
        del self.clients[client.fd]
        client.connection.close()

    def stop(self) -> None:
        """Give the clients time to read our last words (L4)."""
        end = time.monotonic() + STOP_TIME
        self.readers.discard(self.listener.fileno())
        self.listener.close()
        for client in list(self.clients.values()):
            if not client.leaving:
                self.send(client, "* server shutting down")
                self.finish(client)
        while self.clients and time.monotonic() < end:
            self.run_round()
        for client in list(self.clients.values()):
            self.drop(client)


def serve(listener: socket.socket, wakeup: socket.socket, options: argparse.Namespace) -> None:
    """Serve until a signal asks to stop. Then say so to all clients."""
    server = Server(listener, options)
    # Nobody reads from this socket. It is there to make select() return when a signal comes.
    server.readers.add(wakeup.fileno())
    while not stop_signals:
        server.run_round()
    server.readers.discard(wakeup.fileno())
    server.stop()


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
    options = parse_options()
    with catch_stop_signals() as wakeup, open_listener(options.host, options.port) as listener:
        serve(listener, wakeup, options)


if __name__ == "__main__":
    main()
