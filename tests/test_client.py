"""client.py, seen from both ends: by a server, and through a pipe or a real pseudo-terminal.

The test itself is the server, so it can be as hostile as it likes, and there is nothing to guess:
it says something, then looks at what the client printed. What a person would see is worked out by
`Screen`, a terminal so simple that it fails on any control sequence it does not know.
"""

import codecs
import contextlib
import os
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

if os.name == "nt":
    pytest.skip("these tests need pseudo-terminals and signals", allow_module_level=True)

import fcntl
import pty
import termios

from harness.launcher import RunningServer

CLIENT = Path(__file__).resolve().parent.parent / "client.py"
SECONDS = 20.0  # no wait takes longer; only a failing test gets there
MEGABYTE = 1 << 20

# Runs in the client's process before the client: at a terminal it makes that the controlling one,
# so that Ctrl-C is a signal; and it may limit the memory.
PRELUDE = """
import fcntl, os, resource, sys, termios
controlling, memory = map(int, sys.argv[1:3])
if controlling and (os.isatty(0) or os.isatty(1)):
    fcntl.ioctl(0 if os.isatty(0) else 1, termios.TIOCSCTTY, 0)
if memory:
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
os.execv(sys.executable, [sys.executable, *sys.argv[3:]])
"""


def start_client(
    *arguments: str,
    controlling: bool = True,
    memory: int = 0,
    environment: dict[str, str] | None = None,
    **streams,
) -> subprocess.Popen:
    """Start client.py; `memory` limits its data, in bytes. Standard error is always a pipe."""
    # Unbuffered, readline would write letter by letter, and what arrives could come in between.
    left_out = ("NO_COLOR", "PYTHONUNBUFFERED")
    variables = {key: value for key, value in os.environ.items() if key not in left_out}
    prelude = [sys.executable, "-S", "-c", PRELUDE, str(int(controlling)), str(memory)]
    return subprocess.Popen(
        [*prelude, str(CLIENT), *arguments],
        stderr=subprocess.PIPE,
        start_new_session=True,
        env={**variables, "TERM": "xterm", "PYTHONUTF8": "1", **(environment or {})},
        **streams,
    )


class Peer:
    """The server's end of the client's connection."""

    def __init__(self, connection: socket.socket) -> None:
        connection.settimeout(SECONDS)
        self.connection = connection
        self.lines = connection.makefile("rb")

    def say(self, *lines: str | bytes) -> None:
        """Send lines."""
        data = [line.encode() if isinstance(line, str) else line for line in lines]
        self.connection.sendall(b"".join(line + b"\n" for line in data))

    def hear(self) -> str:
        """The next line; "" at the end of input."""
        return self.lines.readline().decode().rstrip("\n")

    def close(self, *, reset: bool = False) -> None:
        """Close in order, or with a reset."""
        if reset:
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.lines.close()
        self.connection.close()


class FakeServer:
    """A listening socket; the test plays the server."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(SECONDS)
        self.target = "{}:{}".format(*self.listener.getsockname())

    def accept(self) -> Peer:
        """Wait for the client."""
        return Peer(self.listener.accept()[0])


@pytest.fixture
def fake_server() -> Iterator[FakeServer]:
    """A server that does what the test makes it do."""
    server = FakeServer()
    yield server
    server.listener.close()


class PipedClient:
    """client.py with pipes for standard input and output."""

    def __init__(self, *arguments: str, typed: bytes = b"", end: bool = True, **options) -> None:
        self.process = start_client(
            *arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **options
        )
        self.process.stdin.write(typed)
        self.process.stdin.flush()
        if end:
            self.process.stdin.close()

    def finish(self) -> tuple[int, str, str]:
        """Wait for the end; returns (exit status, output, errors). An open input stays open."""
        typing, self.process.stdin = self.process.stdin, None  # or communicate() would close it
        try:
            out, errors = self.process.communicate(timeout=SECONDS)
        finally:
            self.process.kill()
            typing.close()
        return self.process.returncode, out.decode(), errors.decode()


class Screen:
    """What is to be seen after some output. Fails on all but the few controls it knows."""

    PIECE = re.compile(
        r"\x1b\[(\??[0-9;]*)([A-Za-z@])|\x1b([78DM])|([\r\n\b\x07])|([^\x00-\x1f\x7f-\x9f])|(.)",
        re.DOTALL,
    )
    ROWS = 24

    def __init__(self, columns: int) -> None:
        self.columns = columns
        self.rows: list[list[str]] = [[]]
        self.row = 0
        self.column = 0
        self.kept = (0, 0)

    def feed(self, text: str) -> None:
        """Obey some output."""
        for match in self.PIECE.finditer(text):
            parameters, control, escape, code, character, unknown = match.groups()
            if unknown:
                raise AssertionError(f"a control character got through: {match[0]!r} in {text!r}")
            if control:
                self.control(control, parameters)
            elif escape == "7":
                # As a real terminal does, it keeps the place on the screen, not in the text.
                self.kept = (self.row - self.top(), self.column)
            elif escape == "8":
                self.row = self.top() + self.kept[0]
                self.column = self.kept[1]
            elif escape == "D" or code == "\n":
                self.down()
            elif code == "\r":
                self.column = 0
            elif code == "\b":
                self.column -= 1
            elif character:
                self.put(character)
            if code == "\n":
                self.column = 0

    def top(self) -> int:
        """The first row that is on the screen; those before have been scrolled away."""
        return max(0, len(self.rows) - self.ROWS)

    def down(self) -> None:
        self.row += 1
        if self.row == len(self.rows):
            self.rows.append([])

    def control(self, control: str, parameters: str) -> None:
        """Obey a control sequence (ECMA-48)."""
        number = int(parameters) if parameters.isdecimal() else 1
        row = self.rows[self.row]
        match control:
            case "A":
                self.row -= number
            case "B":
                self.row += number
            case "C":
                self.column += number
            case "D":
                self.column -= number
            case "K":
                del row[self.column :]
            case "J":
                del row[self.column :]
                del self.rows[self.row + 1 :]
            case "L":
                # What is pushed out at the end is blank: the client has made room before.
                assert not self.rows[-1] or len(self.rows) < self.ROWS, "a row is pushed out"
                if not self.rows[-1]:
                    del self.rows[-1]
                self.rows.insert(self.row, [])
                assert self.row < len(self.rows)
            case "P":
                del row[self.column : self.column + number]
            case "@":
                row[self.column : self.column] = [" "] * number
            case "m" | "h" | "l":
                pass
            case _:
                raise AssertionError(f"an unknown control sequence: {parameters}{control}")

    def put(self, character: str) -> None:
        """Show a character; a wide one takes a second, empty cell, a combining one none."""
        if unicodedata.combining(character):
            self.rows[self.row][self.column - 1] += character
            return
        cells = [character, ""] if unicodedata.east_asian_width(character) in "WF" else [character]
        if self.column + len(cells) > self.columns:
            self.down()
            self.column = 0
        row = self.rows[self.row]
        row.extend(" " * (self.column - len(row)))
        row[self.column : self.column + len(cells)] = cells
        self.column += len(cells)

    def text(self) -> list[str]:
        """The rows down to the cursor's, without what is blank at their ends."""
        return ["".join(row).rstrip() for row in self.rows[: self.row + 1]]

    def before_cursor(self) -> str:
        """The cursor's row as far as the cursor."""
        return "".join(self.rows[self.row][: self.column])


class Person:
    """client.py at a pseudo-terminal, and who sits there."""

    def __init__(self, *arguments: str, columns: int = 60, **options) -> None:
        self.master, self.terminal = pty.openpty()
        fcntl.ioctl(self.terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.usual_mode = termios.tcgetattr(self.terminal)
        self.screen = Screen(columns)
        self.output = b""
        self.decoder = codecs.getincrementaldecoder("utf-8")()
        self.unfinished = ""
        streams = {"stdin": self.terminal, "stdout": self.terminal}
        self.process = start_client(*arguments, **{**streams, **options})

    def type(self, keys: str | bytes) -> None:
        """Press keys."""
        os.write(self.master, keys.encode() if isinstance(keys, str) else keys)

    def read(self, seconds: float) -> bool:
        """Take in what the client has written; returns whether there was something."""
        if not select.select([self.master], [], [], seconds)[0]:
            return False
        data = os.read(self.master, 65536)
        self.output += data
        text = self.unfinished + self.decoder.decode(data)
        # A read may end in the middle of a control sequence.
        whole = re.sub(r"\x1b(\[[?0-9;]*)?\Z", "", text)
        self.unfinished = text[len(whole) :]
        self.screen.feed(whole)
        return True

    def see(self, *rows: str) -> None:
        """Wait until these are the last rows of the screen."""
        self.wait_until(lambda: self.screen.text()[-len(rows) :] == list(rows), repr(rows))

    def wait_until(self, condition: Callable[[], bool], what: str) -> None:
        """Read until something has become true."""
        deadline = time.monotonic() + SECONDS
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError(f"waited for {what}; the screen: {self.screen.text()}")
            self.read(0.05)

    def wait_until_stopped(self) -> None:
        """Wait until a signal has stopped the client."""
        options = os.WSTOPPED | os.WNOHANG | os.WNOWAIT
        self.wait_until(lambda: os.waitid(os.P_PID, self.process.pid, options), "Ctrl-Z")

    def key_mode(self) -> bool:
        """Whether the terminal gives its program single keys."""
        return not termios.tcgetattr(self.terminal)[3] & termios.ICANON

    def finish(self) -> tuple[int, str]:
        """Wait for the end; returns (exit status, errors). The terminal must be as it was."""
        self.wait_until(lambda: self.process.poll() is not None, "the client's end")
        while self.read(0):
            pass
        assert termios.tcgetattr(self.terminal) == self.usual_mode
        return self.process.returncode, self.process.stderr.read().decode()

    def leave(self) -> None:
        """End what may be left of a failed test."""
        self.process.kill()
        self.process.wait()
        self.process.stderr.close()
        os.close(self.master)
        os.close(self.terminal)


@pytest.fixture
def sit_down(fake_server: FakeServer) -> Iterator[Callable[..., tuple[Person, Peer]]]:
    """`sit_down("--name", "alice")`: a person at a terminal, connected; and the server's end."""
    with contextlib.ExitStack() as stack:

        def start(*arguments: str, **options) -> tuple[Person, Peer]:
            person = Person(fake_server.target, *arguments, **options)
            stack.callback(person.leave)
            peer = fake_server.accept()
            stack.callback(peer.close)
            return person, peer

        yield start


# ==== Piped ====


def test_a_piped_line_is_answered_by_every_server(server: RunningServer, connect) -> None:
    """L5: `printf 'hi\\n' | python3 client.py HOST:PORT --name alice`, as the README shows it."""
    bob = connect(server)
    bob.join("bob")
    host = f"[{server.host}]" if ":" in server.host else server.host
    client = PipedClient(f"{host}:{server.port}", "--name", "alice", typed=b"hi\n/ping\n")
    status, output, errors = client.finish()
    lines = output.splitlines()
    assert (status, errors) == (0, "")
    assert lines[0].endswith(": enter your name")
    assert lines[1] == "* hello alice"
    assert lines[-1] == "* pong"
    heard_by_bob = bob.ping()
    assert ("alice: hi" in heard_by_bob) == (server.profile == "chat")
    assert ("alice: hi" in lines) == (server.profile == "echo")


def test_piped_input_is_sent_as_it_is_and_ended(fake_server: FakeServer) -> None:
    """F3, L5: the name first, then every byte; a last line without LF gets one; then the end."""
    client = PipedClient(fake_server.target, "--name", "Zo\u00eb", typed=b"one\r\n\xff\ntwo")
    peer = fake_server.accept()
    peer.say("* fake: enter your name")
    assert peer.hear() == "Zo\u00eb"
    peer.say("* hello Zo\u00eb")
    assert peer.lines.read() == b"one\r\n\xff\ntwo\n"
    peer.say("Zo\u00eb: late")
    peer.close()
    assert client.finish() == (0, "* fake: enter your name\n* hello Zo\u00eb\nZo\u00eb: late\n", "")


def test_answers_cut_off_by_a_reset_are_a_loss(fake_server: FakeServer) -> None:
    """L6: after the end of input too, a reset is no orderly end."""
    client = PipedClient(fake_server.target, typed=b"alice\n")
    peer = fake_server.accept()
    assert peer.lines.read() == b"alice\n"
    peer.close(reset=True)
    status, output, errors = client.finish()
    assert (status, output, errors.count("\n")) == (1, "", 1)


def test_without_a_name_the_first_piped_line_is_one(fake_server: FakeServer) -> None:
    """H2: then the pipe speaks the raw protocol, and nothing waits for an answer."""
    client = PipedClient(fake_server.target, typed=b"alice\nhi\n")
    peer = fake_server.accept()
    assert peer.lines.read() == b"alice\nhi\n"
    peer.close()
    assert client.finish() == (0, "", "")


@pytest.mark.parametrize("answer", ["! name alice is taken", "! invalid name (1-20 letters)"])
def test_a_refused_name_stops_a_pipe(fake_server: FakeServer, answer: str) -> None:
    """H4: the next piped line must not become the name."""
    client = PipedClient(fake_server.target, "--name", "alice", typed=b"bob\n")
    peer = fake_server.accept()
    peer.say("* fake: enter your name")
    assert peer.hear() == "alice"
    peer.say(answer)
    status, output, errors = client.finish()
    assert peer.hear() == ""
    assert (status, output.splitlines()[1:]) == (1, [answer])
    assert errors == f"client.py: {fake_server.target} refused the name 'alice'\n"
    peer.close()


def test_a_name_that_is_never_answered_delays_a_pipe_only(fake_server: FakeServer) -> None:
    """A server without our handshake, such as one that reads to the end first, is served too."""
    client = PipedClient(fake_server.target, "--name", "alice", typed=b"hi\n")
    peer = fake_server.accept()
    assert peer.lines.read() == b"alice\nhi\n"
    peer.close()
    assert client.finish()[0] == 0


def test_sending_and_receiving_go_on_at_once(fake_server: FakeServer, tmp_path: Path) -> None:
    """L3: an echo larger than all buffers together, in little memory, loses nothing."""

    def echo() -> None:
        peer = fake_server.accept()
        for data in iter(lambda: peer.connection.recv(65536), b""):
            peer.connection.sendall(data)  # reads on only when the client has read
        peer.close()

    threading.Thread(target=echo, daemon=True).start()
    speech = tmp_path / "speech.txt"
    speech.write_bytes(b"".join(b"%d%s\n" % (number, b"x" * 990) for number in range(32_000)))
    with speech.open("rb") as source:
        client = start_client(
            fake_server.target, stdin=source, stdout=subprocess.PIPE, memory=24 * MEGABYTE
        )
    output, errors = client.communicate(timeout=SECONDS)
    assert (client.returncode, errors) == (0, b"")
    assert output == speech.read_bytes()


def test_an_endless_line_needs_little_memory(fake_server: FakeServer) -> None:
    """F2, for the client: a server that never ends its line cannot fill the memory."""
    client = start_client(
        fake_server.target,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        memory=64 * MEGABYTE,
    )
    peer = fake_server.accept()
    for _ in range(96):
        peer.connection.sendall(b"x" * MEGABYTE)
    peer.close()
    errors = client.communicate(timeout=SECONDS)[1]
    assert (client.returncode, errors) == (0, b"")


def test_nothing_from_the_server_can_steer_a_terminal(fake_server: FakeServer) -> None:
    """F4, for the client: each control character, bidirectional override, bad byte is defused."""
    client = PipedClient(fake_server.target)
    peer = fake_server.accept()
    controls = [chr(code) for code in (*range(32), *range(127, 160)) if chr(code) not in "\t\n"]
    overrides = (
        "\u061c\u200e\u200f\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
    )
    peer.say("".join(controls) + "end", f"{overrides}\ttab", "title: \x1b]0;pwned\x07\x9b2J")
    peer.say(b"bad: \xff\xfe\xc3", "crlf\r", "* 你好 é 👩\u200d💻")
    peer.connection.sendall(b"unfinished\x1b[2J")
    assert peer.hear() == ""
    peer.close()
    status, output, _ = client.finish()
    lines = output.split("\n")
    assert status == 0
    assert not [
        char for char in output if unicodedata.category(char) == "Cc" and char not in "\t\n"
    ]
    assert not set(overrides) & set(output)
    assert lines[0].startswith("\\x00\\x01") and lines[0].endswith("\\x9fend")
    assert lines[1].endswith("\\u2069\ttab")
    assert lines[2] == r"title: \x1b]0;pwned\x07\x9b2J"
    assert lines[3:] == ["bad: ���", "crlf", "* 你好 é 👩\u200d💻", r"unfinished\x1b[2J", ""]


def test_an_output_that_cannot_show_everything_shows_escapes(fake_server: FakeServer) -> None:
    """An ASCII terminal or pipe (PYTHONIOENCODING) is no reason for a traceback."""
    client = PipedClient(fake_server.target, environment={"PYTHONIOENCODING": "ascii"})
    peer = fake_server.accept()
    peer.say("bob: \u00e9")
    assert peer.hear() == ""
    peer.close()
    assert client.finish() == (0, "bob: \\xe9\n", "")


def test_an_output_closed_early_ends_the_client(fake_server: FakeServer) -> None:
    """`| head -1` has seen enough: no traceback, status 0, although the input goes on."""
    client = PipedClient(fake_server.target, end=False)
    peer = fake_server.accept()
    client.process.stdout.close()
    peer.say("* fake: enter your name")
    assert client.process.stderr.read() == b""
    assert client.process.wait(SECONDS) == 0
    client.process.stdin.close()
    peer.close()


@pytest.mark.parametrize("reset", [False, True])
def test_a_lost_server_is_told_at_once(fake_server: FakeServer, reset: bool) -> None:
    """L6: the thread that waits for input does not keep the client alive."""
    client = PipedClient(fake_server.target, typed=b"alice\n", end=False)
    peer = fake_server.accept()
    assert peer.hear() == "alice"
    peer.close(reset=reset)
    status, output, errors = client.finish()
    assert (status, output) == (1, "")
    assert re.fullmatch(r"client\.py: lost the connection to [\d.:]+.*\n", errors)
    assert ("reset" in errors.lower()) == reset


@pytest.mark.parametrize("end", [False, True])
@pytest.mark.parametrize("last", ["! server full", "! idle timeout", "* server shutting down"])
def test_a_server_that_shows_the_door_is_told(
    fake_server: FakeServer, last: str, end: bool
) -> None:
    """L1, L2, L4: its last line is printed, repeated as the reason, and the status is 1."""
    client = PipedClient(fake_server.target, end=end)
    peer = fake_server.accept()
    peer.say(last)
    peer.close()
    reason = f"client.py: {fake_server.target} closed the connection: {last[2:]}\n"
    assert client.finish() == (1, f"{last}\n", reason)


@pytest.mark.parametrize("reset", [False, True])
def test_quit_ends_the_client_although_its_input_is_open(
    fake_server: FakeServer, reset: bool
) -> None:
    """C4: `* bye NAME` is a good end, also when a reset follows because of lines after /quit."""
    client = PipedClient(fake_server.target, typed=b"alice\n/quit\n", end=False)
    peer = fake_server.accept()
    assert (peer.hear(), peer.hear()) == ("alice", "/quit")
    peer.say("* bye alice")
    if reset:
        assert client.process.stdout.read(12) == b"* bye alice\n"
    peer.close(reset=reset)
    assert client.finish() == (0, "" if reset else "* bye alice\n", "")


def test_quit_needs_no_answer(fake_server: FakeServer) -> None:
    """C4: who has said /quit has not lost a server that closes without a word."""
    client = PipedClient(fake_server.target, typed=b"alice\n/quit\n", end=False)
    peer = fake_server.accept()
    assert (peer.hear(), peer.hear()) == ("alice", "/quit")
    peer.close()
    assert client.finish() == (0, "", "")


def test_ctrl_c_ends_a_pipe_without_a_word(fake_server: FakeServer) -> None:
    """Status 130, as shells expect it of a program ended by SIGINT."""
    client = PipedClient(fake_server.target, end=False)
    peer = fake_server.accept()
    peer.say("bob: hi")
    assert client.process.stdout.read(8) == b"bob: hi\n"
    client.process.send_signal(signal.SIGINT)
    assert client.finish() == (130, "", "")
    peer.close()


# ==== Wrong usage, no connection ====


@pytest.mark.parametrize(
    "address", ["v5", "localhost", ":8001", "host:", "host:0", "host:65536", "::1:80", "[::1]", ""]
)
def test_a_bad_target_is_wrong_usage(address: str) -> None:
    """One line, status 2."""
    status, output, errors = PipedClient(address).finish()
    assert (status, output) == (2, "")
    assert re.fullmatch(r"client\.py: .*HOST:PORT.*\n", errors)


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "no-such-host.invalid", "a..b"])
def test_no_connection_is_one_line(fake_server: FakeServer, host: str) -> None:
    """Refused, or the host is unknown or cannot exist: what, where, why; status 1."""
    port = fake_server.listener.getsockname()[1]
    fake_server.listener.close()
    status, output, errors = PipedClient(f"{host}:{port}").finish()
    assert (status, output) == (1, "")
    assert re.fullmatch(rf"client\.py: cannot connect to {re.escape(host)}:{port}: .+\n", errors)


def test_help_tells_the_exit_statuses() -> None:
    """--help is the file's own introduction."""
    status, output, errors = PipedClient("--help").finish()
    assert (status, errors) == (0, "")
    assert "printf 'hi\\n' | python3 client.py v2 --name alice" in output
    assert all(word in output for word in ("Exit status", "130"))


# ==== At a terminal ====


def test_a_line_under_edit_is_not_torn(sit_down) -> None:
    """What arrives stands above the typed line, which stays whole, with the cursor in place."""
    person, peer = sit_down()
    peer.say("* fake: enter your name")
    person.see("* fake: enter your name", ">")
    person.type("hello wrold")
    person.see("> hello wrold")
    person.type("\x1b[D" * 3)
    person.wait_until(lambda: person.screen.before_cursor() == "> hello wr", "the cursor")
    long = "bob: " + "two " * 20
    peer.say("bob: one", long)
    rows = ["* fake: enter your name", "bob: one", long[:60].rstrip(), long[60:].rstrip()]
    person.wait_until(lambda: person.screen.text() == [*rows, "> hello wrold"], "bob's lines")
    assert person.screen.before_cursor() == "> hello wr"
    person.type("\b\bor\n")
    assert peer.hear() == "hello orold"
    person.see("> hello orold", ">")


def test_a_flood_does_not_tear_the_typed_line(sit_down) -> None:
    """D4, to the eye: 2,000 lines while somebody types are all whole and in order."""
    person, peer = sit_down(columns=40)
    # Before readline is there it is the system that shows what is typed, wherever it comes.
    person.see(">")
    flood = [f"bob: {number}" for number in range(2000)]
    sender = threading.Thread(target=peer.say, args=flood, daemon=True)
    sender.start()
    for letter in "typed in the middle":
        person.type(letter)
        person.read(0.05)
    person.see(flood[-1], "> typed in the middle")
    sender.join(SECONDS)
    assert person.screen.text()[:-1] == flood
    person.type("\n")
    assert peer.hear() == "typed in the middle"


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        ("abc\x7f\bd", "ad"),
        ("one two  \x17three", "one three"),
        ("gone\x15kept", "kept"),
        ("bc\x01a\x05d", "abcd"),
        ("bc\x1b[Ha\x1b[Fd", "abcd"),
        ("bc\x1bOHa\x1bOFd", "abcd"),
        ("ac\x1b[Db\x1b[Cd", "abcd"),
        ("axb\x1b[D\x1b[D\x1b[3~", "ab"),
        ("axb\x1b[D\x1b[D\x04", "ab"),
        ("\x1b[D\x1b[C\x7f\x17\x1b[3~a", "a"),
        ("tab\tbed", "tabbed"),
        ("one two\x01\x0bthree", "three"),
        ("one two three\x1bb\x1bb\x1bd", "one  three"),
        ("one three\x1b[1;5Dtwo ", "one two three"),
        ("one three\x01\x1b[1;5C two", "one two three"),
        ("é你👍\x7fß", "é你ß"),
    ],
)
def test_editing_keys(sit_down, keys: str, line: str) -> None:
    """The usual keys edit, other control sequences are ignored; whole and byte by byte (F5)."""
    person, peer = sit_down()
    person.see(">")
    person.type(keys + "\n")
    assert peer.hear() == line
    for byte in keys.encode():
        person.type(bytes([byte]))
    person.type("\r")
    assert peer.hear() == line


def test_history(sit_down) -> None:
    """Up and Ctrl-R bring back what was typed; Down leads to what is new again."""
    person, peer = sit_down()
    for line in ("first thing", "second"):
        person.type(line + "\n")
        assert peer.hear() == line
        person.see(f"> {line}", ">")
    person.type("\x1b[A\x1b[A")
    person.see("> first thing")
    person.type("\x1b[B\n")
    assert peer.hear() == "second"
    person.see("> second", ">")
    person.type("\x12thi")
    person.wait_until(lambda: "first thing" in person.screen.text()[-1], "the search")
    person.type("\r")
    assert peer.hear() == "first thing"


def test_lines_arrive_during_a_search(sit_down) -> None:
    """Ctrl-R has a row of its own kind, and that is not torn either."""
    person, peer = sit_down()
    person.type("something\n")
    assert peer.hear() == "something"
    person.type("\x12som")
    person.wait_until(lambda: "`som': something" in person.screen.text()[-1], "the search")
    row = person.screen.text()[-1]
    peer.say("bob: hi", "bob: ho")
    person.see("bob: hi", "bob: ho", row)
    person.type("\r")
    assert peer.hear() == "something"


def test_tab_completes_commands_and_names(sit_down) -> None:
    """H3, D3, C2: those who have been heard of can be named, those who have left cannot."""
    person, peer = sit_down()
    peer.say("* hello alice", "* bob joined", "carol: hi", "@dave: psst", "* erin joined")
    peer.say("* erin left")
    person.see("* erin left", ">")
    person.type("/pi\tx\n")
    assert peer.hear() == "/ping x"
    person.see("> /ping x", ">")
    for start, name in (("Bo", "bob"), ("c", "carol"), ("d", "dave"), ("al", "alice")):
        person.type(f"/pm {start}\thi\n")
        assert peer.hear() == f"/pm {name} hi"
        person.see(f"> /pm {name} hi", ">")
    person.type("/pm er\t\n")
    assert peer.hear() == "/pm er"
    peer.say("* 2 online: alice, zoe")
    person.see("* 2 online: alice, zoe", ">")
    person.type("/pm z\thi\n")
    assert peer.hear() == "/pm zoe hi"
    person.see("> /pm zoe hi", ">")
    person.type("/pm car\t\n")
    assert peer.hear() == "/pm car"


@pytest.mark.parametrize("size", [1025, 5000])
def test_a_line_that_no_server_takes_is_not_sent(sit_down, size: int) -> None:
    """F2: one line says so, and the next one goes through; 1024 bytes are no reason."""
    person, peer = sit_down()
    person.type("x" * size + "\n")
    person.wait_until(lambda: "1024" in "".join(person.screen.text()), "the refusal")
    person.type("\u00e9" * 512 + "\n")
    assert peer.hear() == "\u00e9" * 512


@pytest.mark.parametrize("size", [1025, 5 * MEGABYTE])
def test_a_piped_line_that_no_server_takes_is_not_sent(fake_server: FakeServer, size: int) -> None:
    """F2: one line on standard error; what stands before and after is sent."""
    typed = b"before\n" + b"x" * size + b"\n" + b"y" * 1024 + b"\r\nafter\n"
    client = PipedClient(fake_server.target, typed=b"", end=False, memory=64 * MEGABYTE)
    writer = threading.Thread(target=write_and_close, args=[client.process.stdin, typed])
    writer.start()
    peer = fake_server.accept()
    assert peer.lines.read() == b"before\n" + b"y" * 1024 + b"\r\nafter\n"
    peer.close()
    writer.join(SECONDS)
    status, output, errors = client.finish()
    assert (status, output, errors.count("\n")) == (0, "", 1)
    assert "1024" in errors


def write_and_close(stream, data: bytes) -> None:
    stream.write(data)
    stream.close()


def test_an_overlong_name_is_wrong_usage() -> None:
    """F2: it would be refused as any line."""
    status, output, errors = PipedClient("127.0.0.1:1", "--name", "x" * 1025).finish()
    assert (status, output, errors.count("\n")) == (2, "", 1)


@pytest.mark.parametrize(
    ("start", "seen", "rest", "line"),
    [(b"a\xf0\x9f", "a", b"\x91\x8d!", "a👍!"), (b"ab\x1b[", "ab", b"Dx", "axb")],
)
def test_a_key_may_come_in_two_reads(
    sit_down, start: bytes, seen: str, rest: bytes, line: str
) -> None:
    """F5, for keys: a character or an escape sequence is understood once it is whole."""
    person, peer = sit_down()
    person.see(">")
    person.type(start)
    person.see(f"> {seen}")
    person.type(rest + b"\n")
    assert peer.hear() == line


def test_a_typed_line_longer_than_the_row_stays_on_it(sit_down) -> None:
    """One row shows the text around the cursor; the line that is sent is whole."""
    person, peer = sit_down(columns=20)
    peer.say("bob: hi")
    person.see("bob: hi", ">")
    person.type("a" * 60 + "z")
    person.wait_until(lambda: person.screen.text()[-1].endswith("z"), "the line's end")
    assert len(person.screen.rows) == 2
    person.type("\x01")
    person.wait_until(lambda: person.screen.before_cursor() == "> ", "the line's start")
    peer.say("bob: ho")
    person.wait_until(lambda: person.screen.text()[:-1] == ["bob: hi", "bob: ho"], "bob's line")
    person.wait_until(lambda: person.screen.before_cursor() == "> ", "the cursor where it was")
    assert len(person.screen.rows) == 3
    person.type("\n")
    assert peer.hear() == "a" * 60 + "z"


def test_pasted_lines_are_sent_one_by_one(sit_down) -> None:
    """F5: several lines at once, and a start of one that stays under edit."""
    person, peer = sit_down()
    person.see(">")
    person.type("alice\none\ntwo\nthr")
    assert [peer.hear() for _ in range(3)] == ["alice", "one", "two"]
    person.see("> alice", "> one", "> two", "> thr")


def test_the_person_may_type_another_name(sit_down) -> None:
    """H4: at a terminal a refused --name is no end."""
    person, peer = sit_down("--name", "alice")
    peer.say("* fake: enter your name")
    assert peer.hear() == "alice"
    peer.say("! name alice is taken")
    person.see("! name alice is taken", ">")
    person.type("alice2\n")
    assert peer.hear() == "alice2"


def test_ctrl_d_ends_the_input_and_the_rest_is_printed(sit_down) -> None:
    """L5: on an empty line only; the terminal is given back at once."""
    person, peer = sit_down()
    person.see(">")
    person.type("x\x04\x7f\x04ignored")
    assert peer.hear() == ""
    person.wait_until(lambda: not person.key_mode(), "the terminal's usual mode")
    peer.say("bob: late")
    peer.close()
    assert person.finish() == (0, "")
    assert "bob: late" in person.screen.text()


def test_quit_at_a_terminal(sit_down) -> None:
    """C4: `* bye NAME` is the last that is seen."""
    person, peer = sit_down()
    person.type("/quit\n")
    assert peer.hear() == "/quit"
    peer.say("* bye alice")
    peer.close()
    assert person.finish() == (0, "")
    assert person.screen.text()[-2:] == ["* bye alice", ""]


@pytest.mark.parametrize("reset", [False, True])
def test_a_server_lost_at_a_terminal(sit_down, reset: bool) -> None:
    """L6: one line, the terminal as it was, and what was being typed is still to be read."""
    person, peer = sit_down()
    person.type("half a thou")
    person.see("> half a thou")
    peer.close(reset=reset)
    status, errors = person.finish()
    assert status == 1
    assert errors.startswith("client.py: lost the connection to") and errors.count("\n") == 1
    assert person.screen.text() == ["> half a thou", ""]


def test_ctrl_c_at_a_terminal(sit_down) -> None:
    """Status 130, no word, and the terminal as it was."""
    person, peer = sit_down()
    person.see(">")
    person.type("\x03")
    assert person.finish() == (130, "")
    assert peer.hear() == ""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGQUIT"])
def test_other_ending_signals_give_the_terminal_back(sit_down, name: str) -> None:
    """Whatever can be caught restores the terminal; the status is 128 and the signal's number."""
    person, _ = sit_down()
    person.see(">")
    number = getattr(signal, name)
    person.process.send_signal(number)
    assert person.finish() == (128 + number, "")


def test_ctrl_z_gives_the_terminal_back_until_fg(sit_down) -> None:
    """Stopped, the shell has a sane terminal; continued, the typed line is there again."""
    person, peer = sit_down()
    person.type("half")
    person.see("> half")
    person.type("\x1a")
    person.wait_until_stopped()
    person.wait_until(lambda: person.screen.text()[-1] == "", "a row for the shell")
    assert termios.tcgetattr(person.terminal) == person.usual_mode
    person.process.send_signal(signal.SIGCONT)
    person.see("> half")
    person.wait_until(person.key_mode, "the key mode")
    person.type(" full\n")
    assert peer.hear() == "half full"


def test_a_suspended_client_can_be_ended(sit_down) -> None:
    """`kill %1` after Ctrl-Z: SIGTERM and SIGCONT must not leave it stopped in the background."""
    person, _ = sit_down()
    person.see(">")
    person.type("\x1a")
    person.wait_until_stopped()
    person.process.send_signal(signal.SIGTERM)
    person.process.send_signal(signal.SIGCONT)
    assert person.finish() == (-signal.SIGTERM, "")


def test_a_new_size_of_the_window_is_obeyed(sit_down) -> None:
    """SIGWINCH draws the typed line again, as much of it as fits into the new width."""
    person, _ = sit_down(columns=60)
    person.type("abcdefghijklmnopqrstuvwxyz")
    person.see("> abcdefghijklmnopqrstuvwxyz")
    fcntl.ioctl(person.terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 12, 0, 0))

    def fits() -> bool:
        row = person.screen.text()[-1]
        return row.endswith("tuvwxyz") and len(row) < 12

    person.wait_until(fits, "the line's end in a row that fits")


def test_a_terminal_without_job_control(sit_down) -> None:
    """A terminal that does not control the client's session can be typed at as well."""
    person, peer = sit_down(controlling=False)
    person.type("hello")
    person.see("> hello")
    person.type("\n")
    assert peer.hear() == "hello"


# ==== Colours, and terminals on one side only ====

KINDS = ("* notice", "! error", "@bob: private", "bob: talk")


def colours_of(output: bytes) -> list[bytes]:
    """The colour sequence directly before each of KINDS, b"" for none."""
    return [
        re.search(rb"((?:\x1b\[[0-9;]*m)*)" + re.escape(kind.encode()), output)[1] for kind in KINDS
    ]


def test_each_kind_of_line_has_its_colour(sit_down) -> None:
    """The four kinds look different; colours end with their line."""
    person, peer = sit_down()
    peer.say(*KINDS)
    person.see(*KINDS, ">")
    assert len(set(colours_of(person.output))) == 4
    assert person.output.count(b"\x1b[0m") == 3


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_no_colours_when_not_wanted(sit_down, environment: dict) -> None:
    """no-color.org; and a dumb terminal, which edits its line itself, gets no sequence at all."""
    person, peer = sit_down(environment=environment)
    peer.say(*KINDS)
    person.see(*KINDS, *([""] if "TERM" in environment else [">"]))
    person.type("typed\n")
    assert peer.hear() == "typed"
    assert colours_of(person.output) == [b""] * 4
    assert ("TERM" in environment) == (b"\x1b" not in person.output)


def test_an_empty_no_color_does_not_count(sit_down) -> None:
    """no-color.org: "when present and not an empty string"."""
    person, peer = sit_down(environment={"NO_COLOR": ""})
    peer.say(*KINDS)
    person.see(*KINDS, ">")
    assert any(colours_of(person.output))


def test_a_terminal_for_output_only(sit_down) -> None:
    """Piped input: colours, but nothing to edit and no prompt."""
    person, peer = sit_down(stdin=subprocess.DEVNULL)
    assert peer.hear() == ""
    peer.say(*KINDS)
    peer.close()
    assert person.finish() == (0, "")
    assert person.screen.text() == [*KINDS, ""]
    assert any(colours_of(person.output))


def test_a_terminal_for_input_only(sit_down) -> None:
    """Piped output: neither colours nor a prompt get in; the terminal itself edits the line."""
    person, peer = sit_down(stdout=subprocess.PIPE)
    peer.say(*KINDS)
    assert person.process.stdout.readline() == b"* notice\n"
    person.type("hix\x7f\n")
    assert peer.hear() == "hi"
    person.type("\x04")
    assert peer.hear() == ""
    peer.close()
    with person.process.stdout as output:
        assert output.read().decode().splitlines() == list(KINDS[1:])
    assert person.finish() == (0, "")
