#!/usr/bin/env python3
"""A person's end of the conversation, with any of the four servers.

Even a client does two things at once: lines arrive while somebody types. So it has two
threads, each blocked on one thing: the main thread receives and prints, another reads the
input and sends. (One select() loop would do, but on Windows select() knows sockets only.)
Neither waits for the other, so a big file piped to a server that answers each line cannot
lock both up; and each holds one chunk at a time, so memory stays bounded.

At a terminal both write to one screen. There the client edits the typed line itself: what
arrives wipes that line away, is printed, and the line is drawn again below it.

    python3 client.py                                    v4 on this machine
    python3 client.py v2 --name alice                    v1 to v4 are the ports 8001 to 8004
    python3 client.py '[::1]:8003'                       any host and port
    printf 'hi\\n' | python3 client.py v2 --name alice    prints the answers and ends

Ctrl-D ends the input, Ctrl-C the client. Exit status: 0 the conversation ended as wanted
(/quit, end of input, or nobody reads our output any more); 1 no connection, or lost, or
closed by the server, or --name refused while the input is piped; 2 wrong usage; 130 Ctrl-C.
"""

import argparse
import codecs
import contextlib
import os
import re
import select
import signal
import socket
import sys
import threading
import unicodedata
from collections.abc import Iterator

try:
    import termios
except ImportError:  # Windows: its console edits the typed line, and arriving lines may tear it
    termios = None
else:
    ENDING_SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)

PORTS = {"v1": 8001, "v2": 8002, "v3": 8003, "v4": 8004}
CHUNK = 65536  # bytes to read at once
LONGEST_LINE = 1 << 20  # bytes; /list with 10,000 names is a fifth. Beyond, it comes in pieces
CONNECT_SECONDS = 10.0
ANSWER_SECONDS = 3.0  # how long piped input waits for the answer to --name
END_SECONDS = 0.2  # how long the end of the connection waits for that of the input to be noticed
FAREWELLS = ("! server full", "! idle timeout", "* server shutting down")
COLOURS = {"*": "\x1b[36m", "!": "\x1b[31m", "@": "\x1b[35m"}  # talk keeps the terminal's own
PROMPT = "> "

# What a server sends is shown, never obeyed: an escape sequence could rewrite the screen or type
# an answer in our name. Unsafe are C0 (but for the tab), DEL, C1, and what reverses or ends lines.
UNSAFE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
KEY = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|O[@-~])|.", re.DOTALL)  # ECMA-48, 5.4
CUT_KEY = re.compile(r"\x1b(?:\[[0-?]*[ -/]*|O)?\Z")  # its end has not arrived yet


def visible(text: str) -> str:
    """Replace what a terminal might obey by its name in Python, such as `\\x1b`."""
    return UNSAFE.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def width(text: str) -> int:
    """Columns on the screen: East Asian wide characters take two, combining ones none."""
    return sum(
        2 if unicodedata.east_asian_width(character) in "WF" else 1
        for character in text
        if unicodedata.category(character) not in ("Mn", "Me", "Cf")
    )


def fitting(text: str, columns: int) -> str:
    """As much from the start of the text as fits into that many columns."""
    for index, character in enumerate(text):
        columns -= width(character)
        if columns < 0:
            return text[:index]
    return text


class Console:
    """Standard input and output, not both a terminal: bytes come in, lines go out."""

    def __init__(self) -> None:
        # No buffers: the thread that waits for input would keep their lock until the very exit,
        # and a signal handler may write in the middle of a write.
        self.input = open(sys.stdin.fileno(), "rb", buffering=0, closefd=False)  # noqa: SIM115
        self.output = open(sys.stdout.fileno(), "wb", buffering=0, closefd=False)  # noqa: SIM115
        self.dumb = os.environ.get("TERM") == "dumb"
        self.coloured = self.output.isatty() and not self.dumb and not os.environ.get("NO_COLOR")
        if self.coloured and os.name == "nt":
            os.system("")  # has the side effect that an older console obeys colours

    def take(self) -> None:
        """Begin. Whatever happens then, `release` has to follow."""

    def release(self) -> None:
        """Leave standard input and output as they were found."""

    def show(self, lines: list[str]) -> None:
        """Print lines, each in the colour of its kind."""
        self.print("".join(f"{self.painted(line)}\n" for line in lines))

    def painted(self, line: str) -> str:
        colour = COLOURS.get(line[:1]) if self.coloured else None
        return f"{colour}{line}\x1b[0m" if colour else line

    def print(self, text: str = "") -> None:
        data = text.encode(sys.stdout.encoding, "backslashreplace")
        while data:
            data = data[self.output.write(data) or 0 :]

    def read(self) -> bytes:
        """What there is to read; b"" at the end of input."""
        try:
            return self.input.read(CHUNK) or b""
        except OSError:  # the terminal has hung up: nobody will type any more
            return b""

    def typed(self) -> Iterator[bytes]:
        """Yield the input as it comes; the last line is one even if its ending is missing."""
        chunk = b"\n"
        while following := self.read():
            chunk = following
            yield chunk
        if not chunk.endswith(b"\n"):
            yield b"\n"


class Terminal(Console):
    """A person at a terminal, typing a line that arriving lines do not tear (POSIX).

    The typed line takes one row and shows what fits around the cursor: a carriage return always
    leads to its start. Limit: if the window is made narrower, a piece of it may stay behind.
    """

    def __init__(self) -> None:
        super().__init__()
        self.before = self.after = ""  # what is typed, left and right of the cursor
        self.unread = ""  # the start of an escape sequence
        self.active = False  # the terminal gives us keys and shows the typed line
        self.ended = False  # after Ctrl-D
        self.lock = threading.RLock()  # both threads draw; a signal handler may come on top

    def take(self) -> None:
        signal.signal(signal.SIGTSTP, self.on_suspended)
        signal.signal(signal.SIGCONT, self.on_resumed)
        signal.signal(signal.SIGWINCH, self.on_resumed)
        self.on_resumed()

    def release(self) -> None:
        # No lock: it may be held by a write that blocks, and the mode must be restored even so.
        if self.active:
            self.active = False
            with contextlib.suppress(termios.error):  # it has hung up: nothing left to restore
                termios.tcsetattr(self.input, termios.TCSANOW, self.usual_mode)
            super().print("\n" if self.before or self.after else self.blank_row())

    def on_resumed(self, *_: object) -> None:
        """At the start, after `fg`, and when the window has another size."""
        if self.ended or not self.in_foreground():
            return
        if not self.active:
            self.usual_mode = termios.tcgetattr(self.input)
        for number in ENDING_SIGNALS:  # or they would leave the terminal as it is
            signal.signal(number, lambda number, _: sys.exit(128 + number))
        mode = termios.tcgetattr(self.input)
        mode[3] &= ~(termios.ICANON | termios.ECHO)  # keys come at once, and we show them
        mode[6][termios.VMIN], mode[6][termios.VTIME] = 1, 0
        self.active = True
        termios.tcsetattr(self.input, termios.TCSANOW, mode)
        self.print()

    def on_suspended(self, *_: object) -> None:
        """Ctrl-Z: the shell gets its terminal back, and may end us while we sleep."""
        self.release()
        for number in ENDING_SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGSTOP)

    def in_foreground(self) -> bool:
        """In the background the terminal is the shell's; to change it would stop us (SIGTTOU)."""
        try:
            return os.tcgetpgrp(self.input.fileno()) == os.getpgrp()
        except OSError:  # not the terminal that controls us: no job control, no background
            return True

    def print(self, text: str = "") -> None:
        """Wipe the row, print what belongs above, draw the row: one write, so no flicker."""
        with self.lock:
            super().print(f"{self.blank_row()}{text}{self.row()}" if self.active else text)

    def blank_row(self) -> str:
        return f"\r{' ' * self.columns()}\r" if self.dumb else "\r\x1b[K"

    def columns(self) -> int:
        """Columns to use: not the last, where some terminals wrap. No size (0) counts as 80."""
        return (os.get_terminal_size(self.output.fileno()).columns or 80) - 1

    def row(self) -> str:
        """The prompt and what fits of the typed line; the cursor ends up where it belongs."""
        room = max(1, self.columns() - len(PROMPT))
        before = fitting(visible(self.before.replace("\t", " "))[::-1], room)[::-1]
        after = fitting(visible(self.after.replace("\t", " ")), room - width(before))
        return PROMPT + before + after + "\b" * width(after)

    def typed(self) -> Iterator[bytes]:
        """Yield lines once Enter has been pressed, until Ctrl-D on an empty one."""
        decoder = codecs.getincrementaldecoder("utf-8")("replace")  # a read may cut a character
        while not self.ended and (chunk := self.read()):
            yield self.on_keys(decoder.decode(chunk)).encode()
        self.ended = True
        with self.lock:  # or a line that is just arriving would bring the prompt back
            self.release()

    def on_keys(self, text: str) -> str:
        """Edit the line; return the lines that were completed, each with its LF."""
        text = self.unread + text
        whole = CUT_KEY.sub("", text)
        self.unread = text[len(whole) :]
        lines = []
        with self.lock:
            for key in KEY.findall(whole):
                if key in ("\r", "\n"):
                    lines.append(self.before + self.after)
                    self.before = self.after = ""
                elif key == "\x04" and not self.before + self.after:
                    self.ended = True
                    break
                else:
                    self.on_editing_key(key)
            self.print("".join(f"{PROMPT}{visible(line)}\n" for line in lines))
        return "".join(f"{line}\n" for line in lines)

    def on_editing_key(self, key: str) -> None:
        match key:
            case "\x7f" | "\b":  # Backspace
                self.before = self.before[:-1]
            case "\x15":  # Ctrl-U
                self.before = ""
            case "\x17":  # Ctrl-W
                self.before = re.sub(r"\S*\s*\Z", "", self.before)
            case "\x04" | "\x1b[3~":  # Ctrl-D within a line, Delete
                self.after = self.after[1:]
            case "\x1b[D" | "\x1bOD":  # Left
                self.before, self.after = self.before[:-1], self.before[-1:] + self.after
            case "\x1b[C" | "\x1bOC":  # Right
                self.before, self.after = self.before + self.after[:1], self.after[1:]
            case "\x01" | "\x1b[H" | "\x1bOH" | "\x1b[1~":  # Ctrl-A, Home
                self.before, self.after = "", self.before + self.after
            case "\x05" | "\x1b[F" | "\x1bOF" | "\x1b[4~":  # Ctrl-E, End
                self.before, self.after = self.before + self.after, ""
            case _ if key == "\t" or unicodedata.category(key[0]) != "Cc":
                self.before += key


class Conversation:
    """One connection: the name, the input, and the lines that arrive, until the end."""

    def __init__(self, connection: socket.socket, console: Console, where: str, name: str | None):
        self.connection = connection
        self.console = console
        self.where = where
        self.name = name
        # A server that refuses --name takes the next line for one. A person sees that; piped
        # lines are held back until the name is accepted.
        self.accepted = threading.Event()
        if name is None or console.input.isatty():
            self.accepted.set()
        self.leaving = False  # we have said /quit or ended our input, so the end is no loss
        self.farewell = ""  # the line with which the server takes its leave
        # A signal rings the bell. By itself it might go to the other thread, come just before
        # the call it should interrupt, or (Windows) interrupt none: Ctrl-C would go unheard.
        self.bell, self.bell_rope = socket.socketpair()
        self.bell_rope.setblocking(False)
        signal.set_wakeup_fd(self.bell_rope.fileno(), warn_on_full_buffer=False)

    def run(self) -> None:
        """Return when the conversation has ended as wanted, else raise SystemExit."""
        sender = threading.Thread(target=self.send_input, name="input", daemon=True)
        sender.start()
        loss = self.receive()
        if self.farewell in FAREWELLS:
            raise SystemExit(f"client.py: {self.where} closed the connection: {self.farewell[2:]}")
        sender.join(END_SECONDS)
        if not self.farewell and (loss or not self.leaving):
            raise SystemExit(f"client.py: lost the connection to {self.where}{loss}")

    def send_input(self) -> None:
        """Send the name and what is typed; runs in a thread of its own."""
        try:
            if self.name is not None:
                self.connection.sendall(self.name.encode("utf-8", "surrogateescape") + b"\n")
            self.accepted.wait(ANSWER_SECONDS)  # a server without a handshake gets its input late
            for data in self.console.typed():
                self.leaving |= b"/quit" in map(bytes.strip, data.split(b"\n"))
                self.connection.sendall(data)
            self.leaving = True
            self.connection.shutdown(socket.SHUT_WR)
        except OSError:  # connection or terminal gone: the main thread finds out and says so
            return

    def receive(self) -> str:
        """Print what arrives, up to the end; return what broke the connection, if anything did."""
        rest, loss = b"", ""
        while True:
            try:
                while self.connection not in select.select([self.connection, self.bell], [], [])[0]:
                    self.bell.recv(CHUNK)
                chunk = self.connection.recv(CHUNK)
            except OSError as error:  # a reset, or a network that has gone away
                chunk, loss = b"", f": {error.strerror}"
            *lines, rest = (rest + chunk).split(b"\n")
            if rest and (not chunk or len(rest) > LONGEST_LINE):
                lines, rest = [*lines, rest], b""
            self.on_lines(lines)
            if not chunk:
                return loss

    def on_lines(self, lines: list[bytes]) -> None:
        texts = [visible(line.removesuffix(b"\r").decode(errors="replace")) for line in lines]
        self.console.show(texts)
        for text in texts:
            if text in FAREWELLS or text.startswith("* bye "):
                self.farewell = text
            elif not self.accepted.is_set() and not text.endswith(": enter your name"):
                if text.startswith("! "):
                    raise SystemExit(f"client.py: {self.where} refused the name {self.name!r}")
                self.accepted.set()


class OneLineParser(argparse.ArgumentParser):
    """Says what is wrong with the usage in one line."""

    def error(self, message: str) -> None:
        self.exit(2, f"client.py: {message} (try --help)\n")


def address(text: str) -> tuple[str, int]:
    """Return (host, port) of v1 to v4, HOST:PORT or [IPV6]:PORT."""
    if text in PORTS:
        return "127.0.0.1", PORTS[text]
    parts = re.fullmatch(r"(?:\[([^\[\]]+)\]|([^:\[\]]+)):([0-9]{1,5})", text)
    if not parts or not 0 < int(parts[3]) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r} is neither v1, v2, v3, v4 nor HOST:PORT")
    return parts[1] or parts[2], int(parts[3])


def main() -> None:
    parser = OneLineParser(
        usage="client.py [v1|v2|v3|v4 | HOST:PORT] [--name NAME]",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("server", nargs="?", default="v4", type=address, help="default: v4")
    parser.add_argument("--name", help="sent as the first line")
    options = parser.parse_args()
    if sys.stdin is None or sys.stdout is None:
        parser.error("standard input and output must be open")
    host, port = options.server
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        connection = socket.create_connection((host, port), CONNECT_SECONDS)
    except (OSError, UnicodeError) as error:  # the latter: no such host name can exist
        why = getattr(error, "strerror", None) or error
        raise SystemExit(
            f"client.py: cannot connect to {where}: {why} (start the server, or check the address)"
        ) from None
    connection.settimeout(None)
    at_terminal = termios and sys.stdin.isatty() and sys.stdout.isatty()
    console = Terminal() if at_terminal else Console()
    try:
        console.take()
        Conversation(connection, console, where, options.name).run()
    except BrokenPipeError:  # `| head -1` has seen enough
        return
    except OSError as error:
        raise SystemExit(f"client.py: cannot write the output: {error.strerror}") from None
    finally:
        console.release()


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        raise SystemExit(130) from None
