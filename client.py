#!/usr/bin/env python3
"""A person's end of the conversation, with any of the four servers.

Even a client does two things at once: lines arrive while somebody types. So it has two
threads, each blocked on one thing: the main thread receives and prints, another reads the
input and sends. (One select() loop would do, but on Windows select() knows sockets only.)
Neither waits for the other, so a big file piped to a server that answers each line cannot
lock both up; and each holds a bounded piece at a time, so memory stays bounded.

    python3 client.py                                    v4 on this machine
    python3 client.py v2 --name alice                    v1 to v4 are the ports 8001 to 8004
    python3 client.py '[::1]:8003'                       any host and port
    printf 'hi\\n' | python3 client.py v2 --name alice    prints the answers and ends

At a terminal Python's readline edits the line: arrows, history, Ctrl-R, and so on. Tab completes
commands and names. Ctrl-D ends the input, Ctrl-C the client.

Exit status: 0 the conversation ended as wanted (/quit, end of input, or nobody reads our
output any more); 1 no connection, or lost, or closed by the server, or --name refused while
the input is piped; 2 wrong usage; 130 Ctrl-C.
"""

import argparse
import contextlib
import os
import re
import select
import signal
import socket
import sys
import threading
import time
import unicodedata
from collections.abc import Iterator
from typing import NoReturn

try:
    import readline
    import termios
except ImportError:
    # Windows: its console edits the typed line by itself, and arriving lines may tear it.
    readline = None

PORTS = {"v1": 8001, "v2": 8002, "v3": 8003, "v4": 8004}
COMMANDS = ("/help", "/list", "/ping", "/pm", "/quit", "/work")
FAREWELLS = ("! server full", "! idle timeout", "* server shutting down")
MAX_LINE = 1024  # bytes in a line that is sent, its ending not counted: no server takes more
CHUNK = 65536  # bytes to read at once
LONGEST_ANSWER = 1 << 20  # bytes of a line that arrives; a longer one is shown in pieces
CONNECT_SECONDS = 10.0  # how long a connection may take
ANSWER_SECONDS = 3.0  # how long piped input waits for the answer to --name
REDRAW_SECONDS = 0.05  # how long readline may take to notice that the terminal's width is another
END_SECONDS = 0.2  # how long the end of the connection waits for that of the input to be noticed

# Notices, errors and private messages; talk keeps the terminal's own colour.
COLOURS = {"*": "\x1b[36m", "!": "\x1b[31m", "@": "\x1b[35m"}

# What a server sends is shown, never obeyed: an escape sequence could rewrite the screen or type
# an answer in our name. Unsafe are C0 (but for the tab), DEL, C1, and what reverses or ends lines.
UNSAFE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


class Conversation:
    """One connection: the name, the input, and the lines that arrive, until the end."""

    def __init__(
        self, connection: socket.socket, console: "Console", where: str, name: str | None
    ) -> None:
        self.connection = connection
        self.console = console
        self.where = where
        self.name = name
        # A server that refuses --name takes the next line for one. A person sees that; piped
        # lines are held back until the name is accepted.
        self.accepted = threading.Event()
        if name is None or sys.stdin.isatty():
            self.accepted.set()
        # We have said /quit or ended our input, so the end of the connection is no loss.
        self.leaving = False
        # The line with which the server takes its leave.
        self.farewell = ""
        # A signal rings the bell. By itself it might go to the other thread, or come just before
        # the call that it should interrupt: Ctrl-C would go unheard.
        self.bell, self.bell_rope = socket.socketpair()
        self.bell_rope.setblocking(False)
        signal.set_wakeup_fd(self.bell_rope.fileno(), warn_on_full_buffer=False)

    def run(self) -> None:
        """Return when the conversation has ended as wanted, else raise SystemExit."""
        self.console.leave_resizing_to_readline()
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
            # A server without a handshake gets its input late, but it gets it.
            self.accepted.wait(ANSWER_SECONDS)
            for line in self.console.typed_lines():
                if len(line.removesuffix(b"\r")) > MAX_LINE:
                    self.console.refuse(f"not sent: a line holds at most {MAX_LINE} bytes")
                    continue
                if line.strip() == b"/quit":
                    self.leaving = True
                self.connection.sendall(line + b"\n")
            self.leaving = True
            self.connection.shutdown(socket.SHUT_WR)
        # The connection or the terminal is gone: the main thread finds out, and says so.
        except OSError:
            return

    def receive(self) -> str:
        """Print what arrives, up to the end; return what broke the connection, if anything did."""
        rest = b""
        while True:
            loss = ""
            try:
                chunk = self.wait_for_chunk()
            # A reset, or a network that has gone away.
            except OSError as error:
                chunk = b""
                loss = f": {error.strerror}"
            *lines, rest = (rest + chunk).split(b"\n")
            if rest and (not chunk or len(rest) > LONGEST_ANSWER):
                lines.append(rest)
                rest = b""
            self.on_lines(lines)
            if not chunk:
                return loss

    def wait_for_chunk(self) -> bytes:
        """Return what has arrived; b"" at the end."""
        while True:
            readable, _, _ = select.select([self.connection, self.bell], [], [])
            # Signals have been handled by now; all there is to do is to wait again.
            if self.bell in readable:
                self.bell.recv(CHUNK)
            if self.connection in readable:
                return self.connection.recv(CHUNK)

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


def visible(text: str) -> str:
    """Replace what a terminal might obey by its name in Python, such as `\\x1b`."""
    return UNSAFE.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


class Console:
    """Standard input and output, not both a terminal: lines come in, lines go out."""

    def __init__(self) -> None:
        # No buffers: the thread that waits for input would keep their lock until the very exit,
        # and a signal handler may write in the middle of a write.
        self.input = open(sys.stdin.fileno(), "rb", buffering=0, closefd=False)  # noqa: SIM115
        self.output = open(sys.stdout.fileno(), "wb", buffering=0, closefd=False)  # noqa: SIM115
        dumb = os.environ.get("TERM") == "dumb"
        self.coloured = self.output.isatty() and not dumb and not os.environ.get("NO_COLOR")
        if self.coloured and os.name == "nt":
            # This has the side effect that an older console obeys colours.
            os.system("")

    def take(self) -> None:
        """Begin. Whatever happens then, `release` has to follow."""

    def release(self) -> None:
        """Leave standard input and output as they were found."""

    def leave_resizing_to_readline(self) -> None:
        """There is no readline here."""

    def show(self, lines: list[str]) -> None:
        """Print lines, each in the colour of its kind."""
        self.write("".join(f"{self.painted(line, line[:1])}\n" for line in lines))

    def refuse(self, reason: str) -> None:
        """Tell that a line was not sent."""
        print(f"client.py: {reason}", file=sys.stderr, flush=True)

    def painted(self, text: str, kind: str) -> str:
        colour = COLOURS.get(kind) if self.coloured else None
        return f"{colour}{text}\x1b[0m" if colour else text

    def write(self, text: str) -> None:
        data = text.encode(sys.stdout.encoding, "backslashreplace")
        while data:
            written = self.output.write(data) or 0
            data = data[written:]

    def typed_lines(self) -> Iterator[bytes]:
        """Yield lines without their LF; the last one counts even if its ending is missing."""
        rest = b""
        while chunk := self.read():
            *lines, rest = (rest + chunk).split(b"\n")
            yield from lines
            # It is too long already. That much is enough to see it, however long it gets.
            rest = rest[: MAX_LINE + 2]
        if rest:
            yield rest

    def read(self) -> bytes:
        """What there is to read; b"" at the end of input."""
        try:
            return self.input.read(CHUNK) or b""
        # The terminal has hung up: nobody will type any more.
        except OSError:
            return b""


class Terminal(Console):
    """A person at a terminal, whose typed line arriving lines do not tear (POSIX).

    readline moves the cursor relative to where it has left it, so it does not mind if the row that
    it edits moves as a whole. That is how lines get in above it: see INSERT_ABOVE. Limits: of a
    typed line that is longer than the row, letters beyond ASCII may look torn at its border. And
    with PYTHONUNBUFFERED readline writes letter by letter, so a line may arrive between two.
    """

    PROMPT = "> "
    # Moves the row under edit down by one and puts another above it: IND and CUU make room where
    # the row is the last of the screen, DECSC keeps the cursor, IL inserts a row, then DECRC and
    # CUD lead back. The column stays the same all the way (ECMA-48; DEC VT100).
    INSERT_ABOVE = "\x1bD\x1b[A\x1b7\r\x1b[L{}\x1b8\x1b[B"
    SETTINGS = (
        # The typed line has to stay on one row, or only a part of it would be moved.
        "set horizontal-scroll-mode on",
        "set enable-bracketed-paste off",
        "set bell-style none",
        "set completion-ignore-case on",
        "set completion-query-items 0",
        "set page-completions off",
        "set show-all-if-ambiguous on",
        r'"\e[1;5D": backward-word',
        r'"\e[1;5C": forward-word',
        "tab: complete",
    )
    # The same for libedit, which stands in for readline on macOS.
    SETTINGS_OF_LIBEDIT = ("bind ^I rl_complete", "bind ^R em-inc-search-prev")
    NAME_IN_A_LINE = re.compile(r"\* (?:hello )?([\w-]+)(?: joined)?\Z|@?([\w-]+): ")

    def __init__(self) -> None:
        super().__init__()
        self.usual_mode = termios.tcgetattr(self.input)
        # The mode that readline has chosen, while Ctrl-Z has taken the terminal away from it.
        self.editing_mode: list | None = None
        # Ctrl-D: nobody edits any more.
        self.ended = False
        self.names: set[str] = set()

    def take(self) -> None:
        # What is typed before readline is there is kept for it: unedited, and not shown twice.
        mode = termios.tcgetattr(self.input)
        mode[3] &= ~(termios.ICANON | termios.ECHO)
        termios.tcsetattr(self.input, termios.TCSANOW, mode)
        from_libedit = "libedit" in (readline.__doc__ or "")
        for setting in self.SETTINGS_OF_LIBEDIT if from_libedit else self.SETTINGS:
            readline.parse_and_bind(setting)
        # Called when the terminal is readline's: what it has shown by itself just before goes.
        readline.set_startup_hook(lambda: self.write("\r\x1b[K"))
        readline.set_completer_delims(" ")
        readline.set_completer(self.complete)
        signal.signal(signal.SIGTSTP, self.on_suspended)
        signal.signal(signal.SIGCONT, self.on_resumed)
        self.catch_ending_signals()

    def catch_ending_signals(self) -> None:
        """Leave by way of `release`, or the terminal would stay as readline wants it."""
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            signal.signal(number, lambda number, _: sys.exit(128 + number))

    def release(self) -> None:
        # It may have hung up: then there is nothing left to restore.
        with contextlib.suppress(termios.error, OSError):
            editing = termios.tcgetattr(self.input) != self.usual_mode
            termios.tcsetattr(self.input, termios.TCSANOW, self.usual_mode)
            # What was being typed stays to be read; the mere prompt goes.
            if editing:
                self.write("\n" if readline.get_line_buffer() else "\r\x1b[K")

    def leave_resizing_to_readline(self) -> None:
        """Let SIGWINCH interrupt the thread that is in readline, which then draws its row anew.

        It is kept from this thread before there is the other one, which lets it through for itself
        (see typed_lines): there must be no moment in which this thread could take it.
        """
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGWINCH])

    def on_suspended(self, *_: object) -> None:
        """Ctrl-Z: the shell gets its terminal back, and may end us while we sleep."""
        self.editing_mode = termios.tcgetattr(self.input)
        self.release()
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGSTOP)

    def on_resumed(self, *_: object) -> None:
        """`fg`: readline gets its terminal back, and is made to draw its row."""
        if self.editing_mode and self.in_foreground():
            self.catch_ending_signals()
            termios.tcsetattr(self.input, termios.TCSANOW, self.editing_mode)
            self.editing_mode = None
            # It does that only when the width changes; so let it change, for a moment.
            rows, columns = termios.tcgetwinsize(self.input)
            for width_for_now in (columns - 1, columns):
                termios.tcsetwinsize(self.input, (rows, width_for_now))
                time.sleep(REDRAW_SECONDS)

    def in_foreground(self) -> bool:
        """In the background the terminal is the shell's; to change it would stop us (SIGTTOU)."""
        try:
            return os.tcgetpgrp(self.input.fileno()) == os.getpgrp()
        # It does not control our session: no job control, no background.
        except OSError:
            return True

    def typed_lines(self) -> Iterator[bytes]:
        """Yield lines once Enter has been pressed, until Ctrl-D on an empty one."""
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGWINCH])
        # readline shows what is typed only if the terminal would.
        mode = termios.tcgetattr(self.input)
        mode[3] |= termios.ECHO
        termios.tcsetattr(self.input, termios.TCSANOW, mode)
        while True:
            try:
                text = input(self.PROMPT)
            except EOFError:
                self.ended = True
                self.release()
                return
            for line in text.split("\n"):
                yield line.encode("utf-8", "surrogateescape")

    def show(self, lines: list[str]) -> None:
        self.learn_names(lines)
        if self.ended:
            super().show(lines)
            return
        columns = os.get_terminal_size(self.output.fileno()).columns or 80
        output = ""
        for line in lines:
            for row in split_into_rows(line.expandtabs(), columns):
                output += self.INSERT_ABOVE.format(self.painted(row, line[:1]))
        # In one piece, or a key that is pressed meanwhile would be shown in the middle of it.
        self.write(output)

    def refuse(self, reason: str) -> None:
        self.show([f"! {reason}"])

    def learn_names(self, lines: list[str]) -> None:
        """Remember who is there, for Tab, as far as the lines tell."""
        for line in lines:
            if line.startswith("* ") and line.endswith(" left"):
                self.names.discard(line[2:-5])
            elif " online: " in line and line.startswith("* "):
                self.names = set(line.partition(" online: ")[2].split(", "))
            elif match := self.NAME_IN_A_LINE.match(line):
                self.names.add(match[1] or match[2])

    def complete(self, text: str, number: int) -> str | None:
        """Return the completion of that number for the word before the cursor, for readline."""
        at_start = readline.get_begidx() == 0
        words = COMMANDS if at_start and text.startswith("/") else sorted(self.names)
        fitting = [word for word in words if word.casefold().startswith(text.casefold())]
        return f"{fitting[number]} " if number < len(fitting) else None


def split_into_rows(text: str, columns: int) -> list[str]:
    """Split a text into pieces of at most so many columns of a terminal."""
    rows = [""]
    room = columns
    for character in text:
        room -= width(character)
        if room < 0:
            rows.append("")
            room = columns - width(character)
        rows[-1] += character
    return rows


def width(character: str) -> int:
    """Columns on the screen: East Asian wide characters take two, combining ones none."""
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


class OptionParser(argparse.ArgumentParser):
    """Says what is wrong with the usage in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"client.py: {message} (try --help)\n")


def address(text: str) -> tuple[str, int]:
    """Return (host, port) of v1 to v4, HOST:PORT or [IPV6]:PORT."""
    if text in PORTS:
        return "127.0.0.1", PORTS[text]
    parts = re.fullmatch(r"(?:\[([^\[\]]+)\]|([^:\[\]]+)):([0-9]{1,5})", text)
    if not parts or not 0 < int(parts[3]) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r} is neither v1, v2, v3, v4 nor HOST:PORT")
    return parts[1] or parts[2], int(parts[3])


def connect(host: str, port: int, where: str) -> socket.socket:
    """Return a connection; without one the program ends with one line."""
    try:
        connection = socket.create_connection((host, port), CONNECT_SECONDS)
    except UnicodeError:
        why = "that cannot be the name of a host"
    except OSError as error:
        why = error.strerror or error
    else:
        connection.settimeout(None)
        return connection
    raise SystemExit(
        f"client.py: cannot connect to {where}: {why} (start the server, or check the address)"
    )


def main() -> None:
    parser = OptionParser(
        usage="client.py [v1|v2|v3|v4 | HOST:PORT] [--name NAME]",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("server", nargs="?", default="v4", type=address, help="default: v4")
    parser.add_argument("--name", help="sent as the first line")
    options = parser.parse_args()
    if sys.stdin is None or sys.stdout is None:
        parser.error("standard input and output must be open")
    if options.name and len(os.fsencode(options.name)) > MAX_LINE:
        parser.error(f"--name is too long: a line holds at most {MAX_LINE} bytes")
    host, port = options.server
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    at_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    able = readline is not None and os.environ.get("TERM", "dumb") != "dumb"
    console = Terminal() if at_terminal and able else Console()
    try:
        console.take()
        connection = connect(host, port, where)
        Conversation(connection, console, where, options.name).run()
    # `| head -1` has seen enough.
    except BrokenPipeError:
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
