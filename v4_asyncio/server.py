#!/usr/bin/env python3
"""v4_asyncio: coroutines on one thread, asyncio streams.

Each client again has code that does one thing after another, as in v1, but all on one thread,
as in v3: at an `await` a coroutine hands the thread to the next that can go on. Between two
awaits nothing else runs, so nothing needs a lock. The loop asks epoll or kqueue, which are told
of a client once, not at each turn: idle ones are free, no descriptor is too high. The price is
more steps of Python for each message. Try: python3 client.py v4, in two terminals
"""

import argparse
import asyncio
import itertools
import logging
import math
import re
import signal
import socket
import time

VERSION, DEFAULT_PORT = "v4_asyncio", 8004
MAX_CLIENTS = 50_000
COMMANDS = "/help /list /ping [TEXT] /work MS /pm NAME TEXT /quit"
# ==== The shared protocol section: the same bytes in all four servers ====
MAX_LINE = 1024  # bytes in a line, its ending not counted (F2)
HIGH_WATER = 256 * 1024  # bytes of unsent output above which a server stops reading (L3)
READ_SIZE = 16 * 1024  # bytes to read at once; what they are answered with is one batch (L3)
PATIENCE = 0.75  # seconds: until accept() is tried again, and for a client to take its last words
CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f]")  # category Cc without the tab (F4)
stop_signals: list[int] = []  # once a SIGINT or SIGTERM is in it, the server stops (L4)


def split_lines(client: "Client", data: bytes) -> list[bytes]:
    """Return the lines that `data` ends, however it came split or glued (F2, F3, F5)."""
    if client.skipping:  # the rest of a line that was refused
        _, ending, data = data.partition(b"\n")
        client.skipping = not ending
    *lines, client.rest = (client.rest + data).split(b"\n")
    if len(client.rest) > MAX_LINE + 1:  # too long even if a CR is its last byte: refuse it now
        lines.append(client.rest)  # and forget the rest, or an endless line would fill the memory
        client.rest, client.skipping = b"", True
    return lines


def decode_line(line: bytes) -> str:
    """Return the text of a line; a ValueError holds what follows `! ` (F1, F2, F4, F6)."""
    if len(line := line.removesuffix(b"\r")) > MAX_LINE:
        raise ValueError(f"line too long (limit {MAX_LINE} bytes)")
    try:
        text = line.decode()  # only now that it is whole: a read may end inside a character
    except UnicodeDecodeError:
        raise ValueError("not valid UTF-8") from None
    if CONTROL.search(text):
        raise ValueError("control characters are not allowed")
    return text.strip()


def choose_name(wanted: str, members: dict) -> str:
    """Return the name that a handshake line asks for (H2, H5), or raise ValueError (H4)."""
    if not wanted:
        return next(name for n in itertools.count(1) if (name := f"guest{n}") not in members)
    if not re.fullmatch(r"[\w-]{1,20}", wanted):
        raise ValueError("invalid name (1-20 letters, digits, _ or -)")
    if wanted.casefold() in members:
        raise ValueError(f"name {wanted} is taken")
    return wanted


def answer_command(command: str, argument: str, members: dict) -> str:
    """Return the answer to a command that concerns its sender alone (C1-C3, C5)."""
    if command == "/ping":
        return f"* pong {argument}".rstrip()
    if command == "/list":
        return f"* {len(members)} online: {', '.join(members[key].name for key in sorted(members))}"
    if command == "/help":
        return f"* commands: {COMMANDS}"
    raise ValueError(f"unknown command: {command} (try /help)")


def burn_cpu(argument: str) -> str:
    """Compute for `/work MS` (C6), by the thread's own clock: two at once take twice as long."""
    if not re.fullmatch("[1-9][0-9]{0,2}|1000", argument):
        raise ValueError("usage: /work MS (1-1000)")
    end = time.thread_time() + int(argument) / 1000
    while time.thread_time() < end and not stop_signals:  # a stop cuts it short
        pass
    return f"* worked {argument} ms"


def catch_stop_signals() -> socket.socket:
    """Return a socket that SIGINT or SIGTERM makes readable: a flag alone would wake nobody."""
    receiver, sender = socket.socketpair()
    sender.setblocking(False)
    signal.set_wakeup_fd(sender.detach())  # the self-pipe trick: each signal writes a byte to it
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _, keep=receiver: stop_signals.append(number))
    return receiver


def open_listener(host: str, port: int) -> socket.socket:
    """Listen, and say where on stdout; if that fails, end the program with one line."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((host, port), family=family, backlog=socket.SOMAXCONN)
    except (OSError, OverflowError, UnicodeError) as error:
        raise SystemExit(f"{VERSION}: cannot listen on {host} port {port}: {error}") from None
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # accept() hands it on
    host, port = listener.getsockname()[:2]
    print(f"{VERSION} listening on {f'[{host}]' if ':' in host else host}:{port}", flush=True)
    return listener


def parse_options() -> argparse.Namespace:
    """Read the command line; a mistake ends the program with one line and status 2."""
    parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.error = lambda message: parser.exit(2, f"{VERSION}: {message} (try --help)\n")
    parser.add_argument("--host", default="127.0.0.1", help="name or address to listen on")
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, help="0 takes a free one")
    parser.add_argument("--idle-timeout", type=float, default=300, help="seconds; 0 is never")
    parser.add_argument("--stall-timeout", type=float, default=1, help="seconds")
    parser.add_argument("--max-clients", type=int, default=MAX_CLIENTS, help="more are refused")
    parser.add_argument("--verbose", action="store_true", help="log every message")
    options = parser.parse_args()
    for name, lowest in (("idle_timeout", 0), ("stall_timeout", 0.001), ("max_clients", 1)):
        if not lowest <= getattr(options, name) <= 1_000_000:  # false for nan, too
            parser.error(f"--{name.replace('_', '-')} must be from {lowest} to 1000000")
    logging.basicConfig(level=logging.DEBUG if options.verbose else logging.INFO)
    return options


# ==== End of the shared protocol section ====


class Client:
    """One connection: one coroutine reads from it, another writes to it."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.reading, self.writer = asyncio.current_task(), writer
        self.name = ""  # until the handshake is done
        self.rest, self.skipping = b"", False  # of its input: see split_lines()
        self.said = ""  # for the others, who get all of a read at once
        self.outbox, self.leaving = bytearray(), False  # leaving, it goes when that is empty
        self.has_output: asyncio.Future | None = None  # what write_outbox() waits for, if it does
        self.deadline, self.timer = math.inf, None  # for its next line (L1); it may go off early


class Server:
    """The clients, and the coroutines that serve them."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.loop = options, asyncio.get_running_loop()
        self.clients: set[Client] = set()  # every connection, but those that are leaving
        self.writing: dict[asyncio.Task, Client] = {}  # write_outbox() of every connection
        self.members: dict[str, Client] = {}  # those who are in, by casefolded name
        self.congested: dict[Client, asyncio.TimerHandle] = {}  # outbox too full; until when it may
        # While any client is congested nobody is read, but waits in line to be read again.
        self.held_since, self.relieved, self.turnstile = 0.0, asyncio.Event(), asyncio.Lock()

    async def on_connected(self, reader, writer: asyncio.StreamWriter) -> None:
        """Serve one client from beginning to end."""
        if len(self.clients) >= self.options.max_clients:
            writer.write(b"! server full\n")
            writer.close()
            return
        writer.transport.set_write_buffer_limits(high=0)  # drain() is to mean: all is written
        writer.transport.max_size = READ_SIZE  # for its 256 KiB glibc maps memory at each recv()
        client = Client(writer)
        self.clients.add(client)
        writing = self.loop.create_task(self.write_outbox(client))
        self.writing[writing] = client
        writing.add_done_callback(self.writing.pop)
        self.send(client, f"* {VERSION}: enter your name")
        client.deadline = self.loop.time() + (self.options.idle_timeout or math.inf)
        self.on_timer(client)
        try:
            while data := await reader.read(READ_SIZE):
                if self.congested or self.turnstile.locked():
                    async with self.turnstile:  # first come, first served, or one could starve
                        while self.congested:
                            await self.relieved.wait()
                for line in split_lines(client, data):
                    if not client.leaving:
                        await self.on_line(client, line)
                if client.said:
                    self.broadcast(client)
        except OSError:  # a reset, mostly: it ends this connection only (L6)
            client.outbox.clear()
        finally:  # at the end of input it may still listen: close when it has its answers (L5)
            self.leave(client)

    async def on_line(self, client: Client, line: bytes) -> None:
        client.deadline = self.loop.time() + (self.options.idle_timeout or math.inf)
        try:
            text = decode_line(line)
            command, _, argument = text.partition(" ")
            if not client.name:
                client.name = choose_name(text, self.members)
                self.members[client.name.casefold()] = client
                logging.info("%s joined", client.name)
                self.send(client, f"* hello {client.name}")
                self.broadcast(client, f"* {client.name} joined\n")
            elif command == "/work":  # in the loop it would stop all; a thread takes turns with it
                self.broadcast(client)  # what it said before must not wait for that
                self.send(client, await asyncio.to_thread(burn_cpu, argument.strip()))
            elif command == "/pm":
                self.on_private_message(client, *argument.split(maxsplit=1))
            elif command == "/quit":
                self.send(client, f"* bye {client.name}")
                self.leave(client)
            elif command.startswith("/"):
                self.send(client, answer_command(command, argument.strip(), self.members))
            elif text:
                logging.debug("%s: %s", client.name, text)
                client.said += f"{client.name}: {text}\n"
        except (ValueError, RuntimeError) as refusal:  # RuntimeError: no thread left for the work
            self.send(client, f"! {refusal}")

    def on_private_message(self, client: Client, name: str = "", text: str = "") -> None:
        if not text:
            raise ValueError("usage: /pm NAME TEXT")
        if name.casefold() not in self.members:
            raise ValueError(f"no such user: {name}")
        self.broadcast(client)  # in the order in which it was said
        self.send(self.members[name.casefold()], f"@{client.name}: {text}")

    def broadcast(self, sender: Client, lines: str = "") -> None:
        """Send what the sender has said, and lines, to everyone else who is in: it all queues."""
        data, sender.said = (sender.said + lines).encode(), ""
        for client in self.members.values():
            if client is not sender:
                self.queue(client, data)

    def send(self, client: Client, line: str) -> None:
        self.queue(client, line.encode() + b"\n")

    def queue(self, client: Client, data: bytes) -> None:
        """Put data in the outbox: write_outbox() sends all that has gathered in one call."""
        client.outbox += data
        if client.has_output:
            client.has_output.set_result(None)
            client.has_output = None
        unsent = len(client.outbox) + client.writer.transport.get_write_buffer_size()
        if unsent > HIGH_WATER and client not in self.congested:
            if not self.congested:
                self.held_since = self.loop.time()
                self.relieved.clear()
            self.congested[client] = self.loop.call_soon(self.on_stalled, client, 4)

    async def write_outbox(self, client: Client) -> None:
        """Write what gathers for a client until it has left; nobody else waits for that."""
        try:
            while client.outbox or not client.leaving:
                if not client.outbox:
                    client.has_output = self.loop.create_future()
                    await client.has_output
                batch, client.outbox = client.outbox, bytearray()
                client.writer.write(batch)
                await client.writer.drain()
                if not client.outbox:
                    self.on_relieved(client)
            client.writer.write_eof()
            # It may not have said all. To close on unread input would be a reset (RFC 2525, 2.17).
            await asyncio.wait([client.reading], timeout=PATIENCE)
        except OSError:  # a reset, mostly (L6)
            self.leave(client)
        self.on_relieved(client)
        client.timer.cancel()
        client.writer.close()
        await asyncio.wait([client.reading])

    def on_stalled(self, client: Client, tries: int) -> None:
        transport = client.writer.transport
        if transport.get_write_buffer_size() and hasattr(transport, "_write_ready"):
            transport._write_ready()  # not public; but epoll tells of room by the megabyte only
        if transport.get_write_buffer_size() + len(client.outbox) <= HIGH_WATER // 2:  # as in v3
            self.on_relieved(client)
        elif tries:
            wait = self.options.stall_timeout / 4
            self.congested[client] = self.loop.call_later(wait, self.on_stalled, client, tries - 1)
        else:
            self.drop(client)

    def on_relieved(self, client: Client) -> None:
        """Its outbox is not too full any more; if it was the last such one, reading goes on."""
        if timer := self.congested.pop(client, None):
            timer.cancel()
            if not self.congested:
                self.relieved.set()
                held = self.loop.time() - self.held_since
                for other in self.clients:  # nobody was read: that is nobody's idle time (L1)
                    other.deadline += held

    def on_timer(self, client: Client) -> None:
        """Its deadline has come, or it had when the timer was set and has been put off since."""
        now = self.loop.time()
        if client.deadline <= now and client.leaving:
            self.drop(client)
        elif client.deadline <= now and not self.congested:
            self.send(client, "! idle timeout")
            self.leave(client)
            client.deadline = now + self.options.stall_timeout
        client.timer = self.loop.call_at(max(client.deadline, now + 0.01), self.on_timer, client)

    def leave(self, client: Client) -> None:
        """Free its name; write_outbox() closes it as soon as its outbox is empty."""
        if self.members.pop(client.name.casefold(), None):
            logging.info("%s left", client.name)
            self.broadcast(client, f"* {client.name} left\n")
        client.name, client.leaving = "", True
        self.clients.discard(client)
        self.queue(client, b"")

    def drop(self, client: Client) -> None:
        """Close without waiting for the client."""
        client.outbox.clear()
        self.leave(client)
        client.writer.transport.abort()


async def serve(signals: socket.socket, listener: socket.socket, options) -> None:
    """Serve until a signal asks to stop; then say so to all, and have PATIENCE with them."""
    server = Server(options)
    server.loop.set_exception_handler(  # of what asyncio meets: in accept(), no descriptor left
        lambda _, about: stop_signals or logging.warning("%(message)s %(exception)s", about)
    )
    # Out of descriptors, asyncio fails as often as the backlog is long: 1 for it, then for real.
    acceptor = await asyncio.start_server(server.on_connected, sock=listener, backlog=1)
    listener.listen(socket.SOMAXCONN)
    signals.setblocking(False)
    await server.loop.sock_recv(signals, 1)
    acceptor.close()
    server.members.clear()  # nobody is told who else is leaving
    for client in list(server.clients):
        server.send(client, "* server shutting down")
        server.leave(client)
    if server.writing:
        _, late = await asyncio.wait(server.writing, timeout=PATIENCE)
        for writing in late:
            server.writing[writing].writer.transport.abort()
        await asyncio.gather(*late)


def main() -> None:
    options = parse_options()
    signals = catch_stop_signals()
    asyncio.run(serve(signals, open_listener(options.host, options.port), options))


if __name__ == "__main__":
    main()
