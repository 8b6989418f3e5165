"""Plays a script to a running server, and notes when each byte was sent and each line arrived.

The player is one thread with a select() loop. It knows how late each step was, which says how busy
the machine is. It never looks at how long the answers took to choose a try.
"""

import contextlib
import select
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.timeline.script import Action, Step

RECEIVE_BYTES = 8192  # a small window, so that a client that does not read is noticed soon
FLOOD_LINE = b"/ping " + b"x" * 993 + b"\n"
PATIENCE_S = 2.0  # without a byte from the server, once everything was sent
LONGEST_WAIT_S = 10.0  # for what is still to come then, whatever else comes


class PlayError(Exception):
    """A server cannot be played to: one line."""


@dataclass
class Message:
    """What one client sent at a step, and where it went. `command` is empty for a line of text.

    Times are in ns of the monotonic clock. The message is the bytes from `begins` to `ends` of what
    its client has sent. A delivery has a client, the time at which it had the line, and how many
    bytes it had received by the end of it.
    """

    client: str
    action: Action
    text: str
    at: int
    begins: int
    ends: int
    deliveries: list[tuple[str, int, int]] = field(default_factory=list)

    @property
    def command(self) -> str:
        """`/ping`, or nothing."""
        word = self.text.partition(" ")[0]
        return word if self.action is Action.SAYS and word.startswith("/") else ""

    @property
    def argument(self) -> str:
        """What stands behind a command."""
        return self.text.partition(" ")[2].strip()


@dataclass
class Awaited:
    """A line that a client is to receive, or many equal ones, because of a message."""

    message: Message
    line: str
    count: int = 1
    is_beginning: bool = False

    def fits(self, line: str) -> bool:
        return line.startswith(self.line) if self.is_beginning else line == self.line


@dataclass
class Player:
    """One client: what it has sent and received, and what it waits for."""

    name: str
    connection: socket.socket
    port: int
    connected_at: int
    reading: bool = True
    sent: int = 0
    outbox: bytearray = field(default_factory=bytearray)
    rest: bytes = b""
    received: int = 0
    awaited: list[Awaited] = field(default_factory=list)
    # Pairs: so many bytes had been given to the kernel, at that time.
    sends: list[tuple[int, int]] = field(default_factory=list)
    ended: bool = False


@dataclass
class Play:
    """What was seen of one conversation, from the clients' side."""

    begin: int
    end: int = 0
    ports: dict[str, int] = field(default_factory=dict)
    connected: dict[str, int] = field(default_factory=dict)
    messages: list[Message] = field(default_factory=list)
    sends: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    # By client, from when to when it did not read.
    deaf: list[tuple[str, int, int]] = field(default_factory=list)
    lateness: int = 0
    # The server has ended before the script did.
    is_cut: bool = False
    # Lines that should have come and did not: (client, line).
    missing: list[tuple[str, str]] = field(default_factory=list)


class Conversation:
    """The script, played to one server once."""

    def __init__(self, address: tuple[str, int], profile: str, steps: Sequence[Step]) -> None:
        self.address = address
        self.in_a_room = profile == "chat"
        self.steps = list(steps)
        self.players: dict[str, Player] = {}
        # Those that have joined, and not left.
        self.present: list[str] = []
        self.play = Play(0)
        self.deaf_since: dict[str, int] = {}

    def run(self) -> Play:
        """Play everything. Raises PlayError where no client can connect."""
        play = self.play
        play.begin = time.monotonic_ns()
        with contextlib.ExitStack() as connections:
            for step in self.steps:
                due = play.begin + round(step.at_ms * 1e6)
                self.serve_until(due)
                if play.is_cut:
                    break
                play.lateness = max(play.lateness, time.monotonic_ns() - due)
                self.perform(step, connections)
            begin = last = time.monotonic_ns()
            while self.is_something_awaited():
                if self.serve_once(PATIENCE_S / 20):
                    last = time.monotonic_ns()
                now = time.monotonic_ns()
                if now - last > PATIENCE_S * 1e9 or now - begin > LONGEST_WAIT_S * 1e9:
                    break
            # A line that never came is no reason to draw the time in which it was waited for.
            play.end = last if self.is_something_awaited() else time.monotonic_ns()
            for name, since in self.deaf_since.items():
                play.deaf.append((name, since, play.end))
            for player in self.players.values():
                play.ports[player.name] = player.port
                play.connected[player.name] = player.connected_at
                play.sends[player.name] = player.sends
                play.missing += [(player.name, awaited.line) for awaited in player.awaited]
        return play

    # What clients do

    def perform(self, step: Step, connections: contextlib.ExitStack) -> None:
        if step.action is Action.JOINS:
            self.join(step.client, connections)
            return
        player = self.players[step.client]
        if step.action is Action.STOPS_READING:
            player.reading = False
            self.deaf_since.setdefault(step.client, time.monotonic_ns())
        elif step.action is Action.READS:
            self.read_again(player)
        elif step.action is Action.FLOODS:
            text = f"{step.count} × /ping"
            message = self.send(player, FLOOD_LINE * step.count, step.action, text)
            pong = "* pong " + FLOOD_LINE.decode().split()[1]
            player.awaited.append(Awaited(message, pong, step.count))
        else:
            if step.action is Action.LEAVES:
                self.read_again(player)
                self.present.remove(step.client)
            message = self.send(player, step.text.encode() + b"\n", step.action, step.text)
            self.await_lines(player, message)

    def read_again(self, player: Player) -> None:
        player.reading = True
        if since := self.deaf_since.pop(player.name, None):
            self.play.deaf.append((player.name, since, time.monotonic_ns()))

    def join(self, name: str, connections: contextlib.ExitStack) -> None:
        family = socket.AF_INET6 if ":" in self.address[0] else socket.AF_INET
        connection = socket.socket(family)
        connections.callback(connection.close)
        connection.settimeout(PATIENCE_S)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
        connected_at = time.monotonic_ns()
        try:
            connection.connect(self.address)
        except OSError as error:
            if not self.players:
                raise PlayError(f"{name} cannot connect: {error.strerror or error}") from None
            self.play.is_cut = True
            return
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setblocking(False)
        player = Player(name, connection, connection.getsockname()[1], connected_at)
        self.players[name] = player
        message = self.send(player, name.encode() + b"\n", Action.JOINS, "joins")
        player.awaited.append(Awaited(message, f"* hello {name}"))
        self.await_at_the_others(name, message, f"* {name} joined")
        self.present.append(name)

    def await_lines(self, player: Player, message: Message) -> None:
        """Which client has to receive what because of this line (PROTOCOL.md)."""
        command, argument, text = message.command, message.argument, message.text
        answers = {
            "/ping": (f"* pong {argument}".rstrip(), False),
            "/work": ("* worked ", True),
            "/help": ("* commands:", True),
            "/list": (f"* {len(self.present)} online:", True),
        }
        if message.action is Action.LEAVES:
            player.awaited.append(Awaited(message, f"* bye {player.name}"))
            self.await_at_the_others(player.name, message, f"* {player.name} left")
        elif command == "/pm" and self.in_a_room:
            whom, _, words = argument.partition(" ")
            if whom in self.present:
                line = f"@{player.name}: {words.strip()}"
                self.players[whom].awaited.append(Awaited(message, line))
        elif command:
            line, is_beginning = answers.get(command, ("! ", True))
            player.awaited.append(Awaited(message, line, is_beginning=is_beginning))
        elif self.in_a_room:
            self.await_at_the_others(player.name, message, f"{player.name}: {text}")
        else:
            player.awaited.append(Awaited(message, f"{player.name}: {text}"))

    def await_at_the_others(self, name: str, message: Message, line: str) -> None:
        if self.in_a_room:
            for other in self.present:
                if other != name:
                    self.players[other].awaited.append(Awaited(message, line))

    def send(self, player: Player, data: bytes, action: Action, text: str) -> Message:
        begins = player.sent + len(player.outbox)
        ends = begins + len(data)
        message = Message(player.name, action, text, time.monotonic_ns(), begins, ends)
        self.play.messages.append(message)
        player.outbox += data
        self.flush(player)
        return message

    def flush(self, player: Player) -> None:
        """Give the kernel what it takes, and note when."""
        while player.outbox and not player.ended:
            now = time.monotonic_ns()
            try:
                count = player.connection.send(player.outbox)
            except BlockingIOError:
                return
            except OSError:
                self.on_end(player)
                return
            player.sent += count
            player.sends.append((player.sent, now))
            del player.outbox[:count]

    # What comes from the server

    def serve_until(self, due: int) -> None:
        while (left := due - time.monotonic_ns()) > 0 and not self.play.is_cut:
            self.serve_once(left / 1e9)

    def serve_once(self, seconds: float) -> bool:
        """Wait for so long at most, then read what is there; returns whether anything was."""
        open_ones = [player for player in self.players.values() if not player.ended]
        reading = {player.connection: player for player in open_ones if player.reading}
        writing = {player.connection: player for player in open_ones if player.outbox}
        if not (reading or writing):
            time.sleep(max(0.0, seconds))
            return False
        readable, writable, _ = select.select(list(reading), list(writing), [], max(0.0, seconds))
        for connection in writable:
            self.flush(writing[connection])
        for connection in readable:
            self.on_readable(reading[connection])
        return bool(readable or writable)

    def on_readable(self, player: Player) -> None:
        try:
            data = player.connection.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        now = time.monotonic_ns()
        if not data:
            self.on_end(player)
            return
        *lines, player.rest = (player.rest + data).split(b"\n")
        for line in lines:
            player.received += len(line) + 1
            self.on_line(player, line.decode(errors="replace"), now)

    def on_end(self, player: Player) -> None:
        """Close in return. A server that has closed all that are still there has ended.

        What is awaited here will be missing, and a report says so.
        """
        player.ended = True
        player.connection.close()
        listening = [self.players[name] for name in self.present if self.players[name].reading]
        if listening and all(one.ended for one in listening):
            self.play.is_cut = True

    def on_line(self, player: Player, line: str, now: int) -> None:
        """The first message that waits for such a line here has been delivered."""
        for awaited in player.awaited:
            if awaited.fits(line):
                awaited.count -= 1
                if not awaited.count:
                    delivery = (player.name, now, player.received)
                    awaited.message.deliveries.append(delivery)
                    player.awaited.remove(awaited)
                return

    def is_something_awaited(self) -> bool:
        return any(player.awaited and not player.ended for player in self.players.values())
