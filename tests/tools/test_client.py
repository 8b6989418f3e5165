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

import pytest

if os.name == "nt":
    pytest.skip("these tests need pseudo-terminals and signals", allow_module_level=True)

import fcntl
import pty
import resource
import termios

from harness.launcher import REPOSITORY, free_port
from harness.line_client import reset

# No wait takes longer, and only a failing test gets there.
SECONDS = 20.0
MEGABYTE = 1 << 20


def start_client(
    *arguments, controlling=True, memory=0, environment=None, script="", closed=(), **streams
):
    """Start client.py; `memory` limits its data, in bytes. Standard error is a pipe by default.

    A `script` runs in its place. The `closed` descriptors are closed. In Python's development mode
    whatever a client leaves unclosed is a warning on standard error, in any test.
    """

    def prepare() -> None:
        terminal = next((stream for stream in (0, 1) if os.isatty(stream)), None)
        # A controlling terminal makes a signal of Ctrl-C.
        if controlling and terminal is not None:
            fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
        if memory:
            resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
        for descriptor in closed:
            os.close(descriptor)

    # Unbuffered, readline would write letter by letter, and other lines could come in between.
    left_out = ("NO_COLOR", "PYTHONUNBUFFERED")
    variables = {key: value for key, value in os.environ.items() if key not in left_out}
    defaults = {"TERM": "xterm", "PYTHONUTF8": "1", "PYTHONDEVMODE": "1"}
    program = ["-c", script] if script else [str(REPOSITORY / "client.py")]
    return subprocess.Popen(
        [sys.executable, *program, *arguments],
        start_new_session=True,
        preexec_fn=prepare,
        env={**variables, **defaults, **(environment or {})},
        cwd=REPOSITORY,
        **{"stderr": subprocess.PIPE, **streams},
    )


@pytest.fixture
def listener():
    """The socket at which the test, which plays the server, waits for the client."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(SECONDS)
        yield listener


@pytest.fixture
def address(listener):
    """Its address, as the client takes it."""
    return "{}:{}".format(*listener.getsockname())


class Peer:
    """The server's end of the client's connection."""

    def __init__(self, listener: socket.socket) -> None:
        self.connection, _ = listener.accept()
        self.connection.settimeout(SECONDS)
        self.lines = self.connection.makefile("rb")

    def say(self, *lines: str | bytes) -> None:
        data = [line.encode() if isinstance(line, str) else line for line in lines]
        self.connection.sendall(b"".join(line + b"\n" for line in data))

    def hear(self) -> str:
        """The next line; "" at the end of input."""
        return self.lines.readline().decode().rstrip("\n")

    def close(self) -> None:
        self.lines.close()
        self.connection.close()

    def reset(self) -> None:
        self.lines.close()
        reset(self.connection)


class PipedClient:
    """client.py with pipes for standard input and output."""

    def __init__(self, *arguments: str, typed: bytes = b"", end: bool = True, **options) -> None:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.process = start_client(*arguments, **pipes, **options)
        self.process.stdin.write(typed)
        self.process.stdin.flush()
        if end:
            self.process.stdin.close()

    def finish(self) -> tuple[int, str, str]:
        """Wait for the end; returns (exit status, output, errors). An open input stays open."""
        # Otherwise communicate() would close it.
        typing, self.process.stdin = self.process.stdin, None
        try:
            output, errors = self.process.communicate(timeout=SECONDS)
        finally:
            typing.close()
            self.leave()
        return self.process.returncode, output.decode(), errors.decode()

    def leave(self) -> None:
        """End what may be left of a failed test."""
        self.process.kill()
        self.process.wait()


class Screen:
    """What a person sees after some output. It fails on all but the few controls that it knows."""

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
        for match in self.PIECE.finditer(text):
            parameters, control, escape, code, character, unknown = match.groups()
            if unknown:
                raise AssertionError(f"a control character got through: {match[0]!r} in {text!r}")
            if control:
                self.control(control, parameters)
            elif escape == "7":
                # Like a real terminal, it keeps the place on the screen, not in the text.
                self.kept = (self.row - self.top(), self.column)
            elif escape == "8":
                self.row = self.top() + self.kept[0]
                self.column = self.kept[1]
            elif escape == "D" or code == "\n":
                self.down()
            elif code == "\b":
                self.column -= 1
            elif character:
                self.put(character)
            if code in ("\r", "\n"):
                self.column = 0

    def top(self) -> int:
        """The first row that is on the screen; those above have been scrolled away."""
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
            case "A" | "B":
                self.row += number if control == "B" else -number
            case "C" | "D":
                self.column += number if control == "C" else -number
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
        """Show a character; a wide one takes a second, empty cell, a combining one takes none."""
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
        """The rows down to the cursor's, without the blanks at their ends."""
        return ["".join(row).rstrip() for row in self.rows[: self.row + 1]]

    def before_cursor(self) -> str:
        """The cursor's row as far as the cursor."""
        return "".join(self.rows[self.row][: self.column])


class Person:
    """client.py at a pseudo-terminal, and the person who sits there."""

    def __init__(self, *arguments: str, columns: int = 60, **options) -> None:
        self.peer: Peer | None = None
        self.master, self.terminal = pty.openpty()
        self.resize(columns)
        self.usual_mode = termios.tcgetattr(self.terminal)
        self.screen = Screen(columns)
        self.output = b""
        self.decoder = codecs.getincrementaldecoder("utf-8")()
        self.unfinished = ""
        streams = {"stdin": self.terminal, "stdout": self.terminal}
        self.process = start_client(*arguments, **{**streams, **options})

    def resize(self, columns: int) -> None:
        fcntl.ioctl(self.terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))

    def type(self, keys: str | bytes) -> None:
        os.write(self.master, keys.encode() if isinstance(keys, str) else keys)

    def enter(self, keys: str | bytes, line: str) -> None:
        """Press keys; the server gets this line."""
        self.type(keys)
        assert self.peer.hear() == line

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

    def see_at_cursor(self, text: str) -> None:
        """Wait until the cursor's row as far as the cursor is this."""
        self.wait_until(lambda: self.screen.before_cursor() == text, repr(text))

    def wait_until(self, condition, what: str) -> None:
        deadline = time.monotonic() + SECONDS
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError(f"waited for {what}; the screen: {self.screen.text()}")
            self.read(0.05)

    def wait_until_stopped(self) -> None:
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


def connected(kind):
    """A fixture: a function that starts a client, and returns it and the server's end."""

    @pytest.fixture
    def start_client_and_accept(listener, address):
        with contextlib.ExitStack() as stack:

            def start(*arguments, **options):
                client = kind(address, *arguments, **options)
                stack.callback(client.leave)
                client.peer = Peer(listener)
                stack.callback(client.peer.close)
                return client, client.peer

            yield start

    return start_client_and_accept


# `client, peer = pipe("--name", "alice", typed=b"hi")`
pipe = connected(PipedClient)
# `person, peer = sit_down("--name", "alice")`
sit_down = connected(Person)


# ==== Piped ====


def test_piped_input_is_sent_as_it_is_and_ended(pipe):
    """F3, L5: the name first, then every byte; a last line without LF gets one; then the end."""
    client, peer = pipe("--name", "Zo\u00eb", typed=b"one\r\n\xff\ntwo")
    peer.say("* fake: enter your name")
    assert peer.hear() == "Zo\u00eb"
    peer.say("* hello Zo\u00eb")
    assert peer.lines.read() == b"one\r\n\xff\ntwo\n"
    peer.say("Zo\u00eb: late")
    peer.close()
    assert client.finish() == (0, "* fake: enter your name\n* hello Zo\u00eb\nZo\u00eb: late\n", "")


@pytest.mark.parametrize(
    ("arguments", "typed"),
    [((), b"alice\nhi\n"), (("--name", "alice"), b"hi\n")],
    ids=["the first line is the name", "the name is never answered"],
)
def test_a_pipe_to_a_server_that_says_nothing(pipe, arguments, typed):
    """H2: without --name nothing waits for an answer, and with it nothing waits for ever.

    So a server without our handshake, such as one that reads to the end first, is served, too.
    """
    client, peer = pipe(*arguments, typed=typed)
    assert peer.lines.read() == b"alice\nhi\n"
    peer.close()
    assert client.finish() == (0, "", "")


@pytest.mark.parametrize("answer", ["! name alice is taken", "! invalid name (1-20 letters)"])
def test_a_refused_name_stops_a_pipe(address, pipe, answer):
    """H4: the next piped line must not become the name."""
    client, peer = pipe("--name", "alice", typed=b"bob\n")
    peer.say("* fake: enter your name")
    assert peer.hear() == "alice"
    peer.say(answer)
    status, output, errors = client.finish()
    assert peer.hear() == ""
    assert (status, output.splitlines()[1:]) == (1, [answer])
    assert errors == f"client.py: {address} refused the name 'alice'\n"


def test_sending_and_receiving_go_on_at_once(listener, address, tmp_path):
    """L3: an echo larger than all buffers together, in little memory, loses nothing."""

    def echo():
        peer = Peer(listener)
        for data in iter(lambda: peer.connection.recv(65536), b""):
            # This reads on only when the client has read.
            peer.connection.sendall(data)
        peer.close()

    threading.Thread(target=echo, daemon=True).start()
    speech = tmp_path / "speech.txt"
    speech.write_bytes(b"".join(b"%d%s\n" % (number, b"x" * 990) for number in range(32_000)))
    with speech.open("rb") as source:
        client = start_client(address, stdin=source, stdout=subprocess.PIPE, memory=24 * MEGABYTE)
    output, errors = client.communicate(timeout=SECONDS)
    assert (client.returncode, errors) == (0, b"")
    assert output == speech.read_bytes()


def test_an_endless_line_needs_little_memory(listener, address):
    """F2, for the client: a server that never ends its line cannot fill the client's memory."""
    nowhere = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
    client = start_client(address, memory=64 * MEGABYTE, **nowhere)
    peer = Peer(listener)
    for _ in range(96):
        peer.connection.sendall(b"x" * MEGABYTE)
    peer.close()
    errors = client.communicate(timeout=SECONDS)[1]
    assert (client.returncode, errors) == (0, b"")


def test_nothing_from_the_server_can_steer_a_terminal(pipe):
    """F4, for the client: control characters, bidirectional overrides, bad bytes do no harm."""
    client, peer = pipe()
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


def test_an_output_that_cannot_show_everything_shows_escapes(pipe):
    """An ASCII terminal or pipe (PYTHONIOENCODING) is no reason for a traceback."""
    client, peer = pipe(environment={"PYTHONIOENCODING": "ascii"})
    peer.say("bob: \u00e9")
    assert peer.hear() == ""
    peer.close()
    assert client.finish() == (0, "bob: \\xe9\n", "")


def test_an_output_closed_early_ends_the_client(pipe):
    """`| head -1` has seen enough: no traceback, status 0, although the input goes on."""
    client, peer = pipe(end=False)
    client.process.stdout.close()
    peer.say("* fake: enter your name")
    assert client.process.stderr.read() == b""
    assert client.process.wait(SECONDS) == 0
    client.process.stdin.close()


LOST = r"lost the connection to TARGET"
QUIT = b"alice\n/quit\n"


@pytest.mark.parametrize(
    ("typed", "input_ends", "last_words", "reset", "status", "reason"),
    [
        # L6: the thread that waits for input does not keep the client alive.
        (b"alice\n", False, "", False, 1, LOST),
        (b"alice\n", False, "", True, 1, f"{LOST}: .*reset.*"),
        # L6: after the end of input too, a reset is no orderly end.
        (b"alice\n", True, "", True, 1, f"{LOST}: .*reset.*"),
        # L1, L2, L4: the server's last line is repeated as the reason.
        (b"", False, "! server full", False, 1, "TARGET closed the connection: server full"),
        (b"", True, "! server full", False, 1, "TARGET closed the connection: server full"),
        (b"", False, "! idle timeout", False, 1, "TARGET closed the connection: idle timeout"),
        (b"", True, "! idle timeout", False, 1, "TARGET closed the connection: idle timeout"),
        (b"", False, "* server shutting down", False, 1, "TARGET .*: server shutting down"),
        (b"", True, "* server shutting down", False, 1, "TARGET .*: server shutting down"),
        # C4: this is a good end, also when a reset follows because of lines after /quit.
        (QUIT, False, "* bye alice", False, 0, None),
        (QUIT, False, "* bye alice", True, 0, None),
        # C4: after /quit a server that closes without a word is no loss.
        (QUIT, False, "", False, 0, None),
    ],
)
def test_how_a_conversation_ends(
    address, pipe, typed, input_ends, last_words, reset, status, reason
):
    """The last words are printed, the reason is one line, and the status says whose end it was."""
    client, peer = pipe(typed=typed, end=input_ends)
    for line in typed.decode().splitlines():
        assert peer.hear() == line
    if input_ends:
        assert peer.hear() == ""
    output = f"{last_words}\n" if last_words else ""
    peer.connection.sendall(output.encode())
    if reset:
        # A reset may overtake them.
        assert client.process.stdout.read(len(output)).decode() == output
        peer.reset()
        output = ""
    else:
        peer.close()
    *outcome, errors = client.finish()
    assert outcome == [status, output]
    pattern = f"client.py: {reason}\n".replace("TARGET", address) if reason else ""
    assert re.fullmatch(pattern, errors, re.IGNORECASE), errors


def test_a_connection_that_is_lost_while_the_client_sends(listener, address, tmp_path):
    """L6: both threads notice it, and one line says what has happened.

    The system tells only one of them that there was a reset.
    """
    speech = tmp_path / "speech.txt"
    speech.write_bytes(b"more than all buffers hold\n" * (MEGABYTE // 2))
    with speech.open("rb") as source:
        client = start_client(address, stdin=source, stdout=subprocess.DEVNULL)
    peer = Peer(listener)
    assert peer.hear()
    peer.reset()
    errors = client.communicate(timeout=SECONDS)[1].decode()
    assert client.returncode == 1
    assert re.fullmatch(rf"client\.py: lost the connection to {address}(: .*)?\n", errors)


def test_an_input_that_ends_just_after_the_connection(pipe):
    """C4: after /quit neither is a loss."""
    client, peer = pipe(typed=QUIT, end=False)
    assert [peer.hear(), peer.hear()] == ["alice", "/quit"]
    peer.say("* bye alice")
    assert client.process.stdout.readline() == b"* bye alice\n"
    peer.reset()
    client.process.stdin.close()
    assert client.finish() == (0, "", "")


def test_ctrl_c_ends_a_pipe_without_a_word(pipe):
    """Status 130, as shells expect of a program that SIGINT has ended."""
    client, peer = pipe(end=False)
    peer.say("bob: hi")
    assert client.process.stdout.read(8) == b"bob: hi\n"
    client.process.send_signal(signal.SIGINT)
    assert client.finish() == (130, "", "")


# ==== An exception in the input thread ====


@pytest.fixture(params=["full", "nobody reads it", "closed"])
def unusable_errors(request):
    """Options of start_client(), with which standard error takes nothing."""
    with contextlib.ExitStack() as stack:
        if request.param == "closed":
            yield {"closed": [2]}
        elif request.param == "nobody reads it":
            reader, writer = os.pipe()
            os.close(reader)
            stack.callback(os.close, writer)
            yield {"stderr": writer}
        elif os.path.exists("/dev/full"):
            yield {"stderr": stack.enter_context(open("/dev/full", "wb"))}
        else:
            pytest.skip("this system has no /dev/full")


def test_a_line_that_is_not_sent_and_nobody_can_be_told(pipe, unusable_errors):
    """F2: the client ends, although its input and the connection go on.

    Python itself makes status 120 of any other if it cannot flush standard error.
    """
    client, peer = pipe(typed=b"x" * 1025 + b"\n", end=False, **unusable_errors)
    assert peer.hear() == ""
    assert client.process.wait(SECONDS) in (1, 120)
    with client.process.stdin, client.process.stdout as output:
        assert output.read() == b""


# Runs client.py, and its input fails with an exception once a line has been sent.
FAILING_INPUT = """
import client

def read_lines(console):
    yield b"one"
    raise {exception}

client.Console.read_lines = client.Terminal.read_lines = read_lines
client.main()
"""


@pytest.mark.parametrize(
    "exception", ["RuntimeError", "OSError(5, 'two\\nlines')", "BrokenPipeError", "SystemExit(0)"]
)
def test_any_exception_in_the_input_thread_ends_the_client(pipe, address, exception):
    """One line, and status 1, although the input and the connection go on."""
    client, peer = pipe(script=FAILING_INPUT.format(exception=exception), end=False)
    assert peer.hear() == "one"
    assert peer.hear() == ""
    status, output, errors = client.finish()
    assert (status, output) == (1, "")
    name = exception.partition("(")[0]
    assert re.fullmatch(rf"client\.py: the input to {address} failed, .*{name}.*\n", errors)


def test_an_exception_in_the_input_thread_at_a_terminal(sit_down):
    """The terminal gets its usual mode back: finish() looks."""
    person, peer = sit_down(script=FAILING_INPUT.format(exception="RuntimeError"))
    assert peer.hear() == "one"
    status, errors = person.finish()
    assert (status, errors.count("\n")) == (1, 1)
    assert "RuntimeError" in errors


# ==== Wrong usage, no connection ====


# Standard streams as IDLE has them. Text for standard error reaches the real one.
STREAMS = """
import io, os, runpy, sys

class Bare:
    def write(self, text):
        return os.write(2, text.encode())

    def flush(self):
        pass

class Shell(Bare, io.TextIOBase):
    def isatty(self):
        return True

sys.stdin, sys.stdout, sys.stderr = {streams}
runpy.run_path("client.py", run_name="__main__")
"""


@pytest.mark.parametrize(
    "streams",
    [
        "Shell(), Shell(), Shell()",
        "Bare(), Bare(), Bare()",
        "Shell(), sys.stdout, sys.stderr",
        "sys.stdin, Shell(), sys.stderr",
        "sys.stdin, None, sys.stderr",
        "None, None, None",
    ],
)
def test_streams_that_are_no_files_are_one_line(streams):
    """In IDLE, or under pythonw, which has no streams at all: what is missing, and what to do."""
    status, output, errors = PipedClient("v1", script=STREAMS.format(streams=streams)).finish()
    assert (status, output) == (2, "")
    if not streams.endswith("None"):
        assert re.fullmatch(r"client\.py: .*terminal.*\n", errors)


TARGETS = ("v5", "localhost", ":8001", "host:", "host:0", "host:65536", "::1:80", "[::1]", "")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        *(([target], "HOST:PORT") for target in TARGETS),
        # F2: it would be refused like any line.
        (["127.0.0.1:1", "--name", "x" * 1025], "--name"),
    ],
)
def test_wrong_usage_is_one_line(arguments, said):
    """Its status is 2."""
    status, output, errors = PipedClient(*arguments).finish()
    assert (status, output) == (2, "")
    assert re.fullmatch(rf"client\.py: .*{said}.*\n", errors)


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "no-such-host.invalid", "a..b"])
def test_no_connection_is_one_line(host):
    """Refused, or the host is unknown or cannot exist: what, where, why; status 1."""
    port = free_port()
    status, output, errors = PipedClient(f"{host}:{port}").finish()
    assert (status, output) == (1, "")
    assert re.fullmatch(rf"client\.py: cannot connect to {re.escape(host)}:{port}: .+\n", errors)


def test_help_tells_the_exit_statuses():
    """--help is the file's own introduction."""
    status, output, errors = PipedClient("--help").finish()
    assert (status, errors) == (0, "")
    assert "printf 'hi\\n' | python3 client.py v2 --name alice" in output
    assert all(word in output for word in ("Exit status", "130"))


# ==== At a terminal ====


def test_a_line_under_edit_is_not_torn(sit_down):
    """What arrives stands above the typed line, which stays whole, with the cursor in place."""
    person, peer = sit_down()
    peer.say("* fake: enter your name")
    person.see("* fake: enter your name", ">")
    person.type("hello wrold")
    person.see("> hello wrold")
    person.type("\x1b[D" * 3)
    person.see_at_cursor("> hello wr")
    long = "bob: " + "two " * 20
    peer.say("bob: one", long)
    rows = ["* fake: enter your name", "bob: one", long[:60].rstrip(), long[60:].rstrip()]
    person.wait_until(lambda: person.screen.text() == [*rows, "> hello wrold"], "bob's lines")
    assert person.screen.before_cursor() == "> hello wr"
    person.enter("\b\bor\n", "hello orold")
    person.see("> hello orold", ">")


def test_a_flood_does_not_tear_the_typed_line(sit_down):
    """D4, to the eye: 2,000 lines while somebody types are all whole and in order."""
    person, peer = sit_down(columns=40)
    # Before readline is there, the system shows what is typed, wherever the cursor is.
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
    person.enter("\n", "typed in the middle")


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
        ("tab\tbed", "tab\tbed"),
        ("one two\x01\x0bthree", "three"),
        ("one two three\x1bb\x1bb\x1bd", "one  three"),
        ("one three\x1b[1;5Dtwo ", "one two three"),
        ("one three\x01\x1b[1;5C two", "one two three"),
        ("é你👍\x7fß", "é你ß"),
    ],
)
def test_editing_keys(sit_down, keys, line):
    """The usual keys edit, other control sequences are ignored; whole and byte by byte (F5)."""
    person, _ = sit_down()
    person.see(">")
    person.enter(keys + "\n", line)
    for byte in keys.encode():
        person.type(bytes([byte]))
    person.enter("\r", line)


@pytest.mark.parametrize(
    ("start", "seen", "rest", "line"),
    [(b"a\xf0\x9f", "a", b"\x91\x8d!", "a👍!"), (b"ab\x1b[", "ab", b"Dx", "axb")],
)
def test_a_key_may_come_in_two_reads(sit_down, start, seen, rest, line):
    """F5, for keys: a character or an escape sequence is understood once it is whole."""
    person, _ = sit_down()
    person.see(">")
    person.type(start)
    person.see(f"> {seen}")
    person.enter(rest + b"\n", line)


def test_history(sit_down):
    """Up and Ctrl-R bring back what was typed; Down leads to what is new again."""
    person, _ = sit_down()
    for line in ("first thing", "second"):
        person.enter(f"{line}\n", line)
        person.see(f"> {line}", ">")
    person.type("\x1b[A\x1b[A")
    person.see("> first thing")
    person.enter("\x1b[B\n", "second")
    person.see("> second", ">")
    person.type("\x12thi")
    person.wait_until(lambda: "first thing" in person.screen.text()[-1], "the search")
    person.enter("\r", "first thing")


def test_lines_arrive_during_a_search(sit_down):
    """Ctrl-R has a row of its own kind, and that is not torn either."""
    person, peer = sit_down()
    person.enter("something\n", "something")
    person.type("\x12som")
    person.wait_until(lambda: "`som': something" in person.screen.text()[-1], "the search")
    row = person.screen.text()[-1]
    peer.say("bob: hi", "bob: ho")
    person.see("bob: hi", "bob: ho", row)
    person.enter("\r", "something")


def test_tab_completes_commands_and_names(sit_down):
    """H3, D3, C2: Tab knows the clients that have been mentioned, except those that have left."""
    person, peer = sit_down()
    peer.say("* hello alice", "* bob joined", "carol: hi", "@dave: psst", "* erin joined")
    peer.say("* erik joined", "* erin left")
    person.see("* erin left", ">")

    def complete(start, line):
        person.type(f"{start}\t")
        person.see_at_cursor(f"> {line} ")
        person.enter("x\n", f"{line} x")
        person.see(f"> {line} x", ">")

    complete("/pi", "/ping")
    for start, name in (("Bo", "bob"), ("c", "carol"), ("d", "dave"), ("al", "alice")):
        complete(f"/pm {start}", f"/pm {name}")
    complete("/pm er", "/pm erik")
    peer.say("* 3 online: alice, carl, zoe")
    person.see("* 3 online: alice, carl, zoe", ">")
    complete("/pm z", "/pm zoe")
    complete("/pm car", "/pm carl")


PASTED = ("\tif a:", "\t\tb\t", "ob\t1", "/pi\tx", "/\tx", "/pm ob\t1", "/pm \tx", "a \u00e9\to\t1")


def test_a_tab_in_a_pasted_text_is_a_tab(sit_down):
    """F4: tabs are text. A pasted one completes nothing, whatever stands before it."""
    person, peer = sit_down()
    peer.say("* obelix joined")
    person.see("* obelix joined", ">")
    person.type("\n".join(PASTED) + "\n")
    assert [peer.hear() for _ in PASTED] == list(PASTED)


def test_a_tab_is_text_where_neither_a_command_nor_a_name_can_stand(sit_down):
    """F4: such a tab is kept even if it is the last key so far."""
    person, peer = sit_down()
    peer.say("* obelix joined")
    person.see("* obelix joined", ">")
    for start in ("", "o", "hi o", "hi /pi", "/ping o", "/pm obelix o"):
        person.type(f"{start}\t")
        person.see_at_cursor(f"> {start}\t".expandtabs())
        person.enter("x\n", f"{start}\tx")
        person.see(f"> {start}\tx".expandtabs(), ">")


def test_typed_bytes_that_are_no_text_of_the_terminal_are_sent_as_they_are(sit_down):
    """F4: it is for the server to say what is wrong with a line."""
    person, _ = sit_down(environment={"PYTHONIOENCODING": "ascii:strict"})
    person.see(">")
    person.enter("caf\u00e9\n", "caf\u00e9")
    person.enter("hi\n", "hi")


@pytest.mark.parametrize("size", [1025, 5000])
def test_a_line_that_no_server_takes_is_not_sent(sit_down, size):
    """F2: one line says so, and the next one is sent; a line of 1024 bytes is, too."""
    person, _ = sit_down()
    person.type("x" * size + "\n")
    person.wait_until(lambda: "1024" in "".join(person.screen.text()), "the refusal")
    person.enter("\u00e9" * 512 + "\n", "\u00e9" * 512)


@pytest.mark.parametrize("size", [1025, 5 * MEGABYTE])
def test_a_piped_line_that_no_server_takes_is_not_sent(pipe, size):
    """F2: one line on standard error; the lines before and after it are sent."""
    client, peer = pipe(end=False, memory=64 * MEGABYTE)

    def write_and_close():
        with client.process.stdin as stream:
            stream.write(b"before\n" + b"x" * size + b"\n" + b"y" * 1024 + b"\r\nafter\n")

    writer = threading.Thread(target=write_and_close)
    writer.start()
    assert peer.lines.read() == b"before\n" + b"y" * 1024 + b"\r\nafter\n"
    peer.close()
    writer.join(SECONDS)
    status, output, errors = client.finish()
    assert (status, output, errors.count("\n")) == (0, "", 1)
    assert "1024" in errors


def test_a_typed_line_longer_than_the_row_stays_on_it(sit_down):
    """One row shows the text around the cursor; the line that is sent is whole."""
    person, peer = sit_down(columns=20)
    peer.say("bob: hi")
    person.see("bob: hi", ">")
    person.type("a" * 60 + "z")
    person.wait_until(lambda: person.screen.text()[-1].endswith("z"), "the line's end")
    assert len(person.screen.rows) == 2
    person.type("\x01")
    person.see_at_cursor("> ")
    peer.say("bob: ho")
    person.wait_until(lambda: person.screen.text()[:-1] == ["bob: hi", "bob: ho"], "bob's line")
    person.see_at_cursor("> ")
    assert len(person.screen.rows) == 3
    person.enter("\n", "a" * 60 + "z")


def test_pasted_lines_are_sent_one_by_one(sit_down):
    """F5: several lines at once, and a start of one that stays under edit."""
    person, peer = sit_down()
    person.see(">")
    person.type("alice\none\ntwo\nthr")
    assert [peer.hear() for _ in range(3)] == ["alice", "one", "two"]
    person.see("> alice", "> one", "> two", "> thr")


def test_the_person_may_type_another_name(sit_down):
    """H4: at a terminal a refused --name does not end the client."""
    person, peer = sit_down("--name", "alice")
    peer.say("* fake: enter your name")
    assert peer.hear() == "alice"
    peer.say("! name alice is taken")
    person.see("! name alice is taken", ">")
    person.enter("alice2\n", "alice2")


def test_a_new_size_of_the_window_is_obeyed(sit_down):
    """SIGWINCH redraws the typed line, as much of it as fits into the new width."""
    person, _ = sit_down(columns=60)
    person.type("abcdefghijklmnopqrstuvwxyz")
    person.see("> abcdefghijklmnopqrstuvwxyz")
    person.resize(12)

    def fits():
        row = person.screen.text()[-1]
        return row.endswith("tuvwxyz") and len(row) < 12

    person.wait_until(fits, "the line's end in a row that fits")


def test_a_terminal_without_job_control(sit_down):
    """A person can type at a terminal that does not control the client's session, too."""
    person, _ = sit_down(controlling=False)
    person.type("hello")
    person.see("> hello")
    person.enter("\n", "hello")


# ==== The end at a terminal, which gets its usual mode back: finish() looks ====


def test_ctrl_d_ends_the_input_and_the_rest_is_printed(sit_down):
    """L5: only on an empty line; the terminal is given back at once."""
    person, peer = sit_down()
    person.see(">")
    person.enter("x\x04\x7f\x04ignored", "")
    person.wait_until(lambda: not person.key_mode(), "the terminal's usual mode")
    peer.say("bob: late")
    peer.close()
    assert person.finish() == (0, "")
    assert "bob: late" in person.screen.text()


def test_quit_at_a_terminal(sit_down):
    """C4: `* bye NAME` is the last thing that the person sees."""
    person, peer = sit_down()
    person.enter("/quit\n", "/quit")
    peer.say("* bye alice")
    peer.close()
    assert person.finish() == (0, "")
    assert person.screen.text()[-2:] == ["* bye alice", ""]


@pytest.mark.parametrize("end", [Peer.close, Peer.reset])
def test_a_server_lost_at_a_terminal(sit_down, end):
    """L6: one line, and the half-typed line stays on the screen."""
    person, peer = sit_down()
    person.type("half a thou")
    person.see("> half a thou")
    end(peer)
    status, errors = person.finish()
    assert status == 1
    assert errors.startswith("client.py: lost the connection to") and errors.count("\n") == 1
    assert person.screen.text() == ["> half a thou", ""]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_a_signal_at_a_terminal(sit_down, number):
    """Every signal that can be caught: no message, and the status is 128 + its number."""
    person, peer = sit_down()
    person.see(">")
    if number == signal.SIGINT:
        person.type("\x03")
    else:
        person.process.send_signal(number)
    assert person.finish() == (128 + number, "")
    assert peer.hear() == ""


def test_ctrl_z_gives_the_terminal_back_until_fg(sit_down):
    """Stopped, the shell has a sane terminal; continued, the typed line is there again."""
    person, _ = sit_down()
    person.type("half")
    person.see("> half")
    person.type("\x1a")
    person.wait_until_stopped()
    person.wait_until(lambda: person.screen.text()[-1] == "", "a row for the shell")
    assert termios.tcgetattr(person.terminal) == person.usual_mode
    person.process.send_signal(signal.SIGCONT)
    person.see("> half")
    person.wait_until(person.key_mode, "the key mode")
    person.enter(" full\n", "half full")


def test_a_suspended_client_can_be_ended(sit_down):
    """`kill %1` after Ctrl-Z: SIGTERM and SIGCONT must not leave it stopped in the background."""
    person, _ = sit_down()
    person.see(">")
    person.type("\x1a")
    person.wait_until_stopped()
    person.process.send_signal(signal.SIGTERM)
    person.process.send_signal(signal.SIGCONT)
    assert person.finish() == (-signal.SIGTERM, "")


# ==== Colours, and terminals on one side only ====

KINDS = ("* notice", "! error", "@bob: private", "bob: talk")


def colours_of(output: bytes) -> list[bytes]:
    """The colour sequence directly before each of KINDS, b"" for none."""
    return [
        re.search(rb"((?:\x1b\[[0-9;]*m)*)" + re.escape(kind.encode()), output)[1] for kind in KINDS
    ]


@pytest.mark.parametrize(
    "environment", [{}, {"NO_COLOR": ""}, {"NO_COLOR": "1"}, {"TERM": "dumb"}], ids=str
)
def test_each_kind_of_line_has_its_colour(sit_down, environment):
    """The four kinds look different; colours end with their line.

    There are none with NO_COLOR (no-color.org: "when present and not an empty string"). A dumb
    terminal, which edits its line itself, gets no sequence at all.
    """
    is_dumb = "TERM" in environment
    person, peer = sit_down(environment=environment)
    peer.say(*KINDS)
    person.see(*KINDS, "" if is_dumb else ">")
    if environment.get("NO_COLOR") or is_dumb:
        assert colours_of(person.output) == [b""] * 4
    else:
        assert len(set(colours_of(person.output))) == 4
        assert person.output.count(b"\x1b[0m") == 3
    person.enter("typed\n", "typed")
    assert is_dumb == (b"\x1b" not in person.output)


def test_a_terminal_for_output_only(sit_down):
    """Piped input: colours, but nothing to edit and no prompt."""
    person, peer = sit_down(stdin=subprocess.DEVNULL)
    assert peer.hear() == ""
    peer.say(*KINDS)
    peer.close()
    assert person.finish() == (0, "")
    assert person.screen.text() == [*KINDS, ""]
    assert any(colours_of(person.output))


def test_a_terminal_for_input_only(sit_down):
    """Piped output: neither colours nor a prompt get in; the terminal itself edits the line."""
    person, peer = sit_down(stdout=subprocess.PIPE)
    peer.say(*KINDS)
    assert person.process.stdout.readline() == b"* notice\n"
    person.enter("hix\x7f\n", "hi")
    person.enter("\x04", "")
    peer.close()
    with person.process.stdout as output:
        assert output.read().decode().splitlines() == list(KINDS[1:])
    assert person.finish() == (0, "")
