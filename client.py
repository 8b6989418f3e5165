#!/usr/bin/env python3
"""A client for any of the four servers: for a person at a terminal, or in a pipe.

Even a client does two things at once: lines arrive while somebody is typing. So it has two
threads, and each is blocked on one thing. The main thread receives lines and prints them. The
other thread reads the input and sends it. (One select() loop would do, but on Windows select()
accepts only sockets.) Neither thread waits for the other. So a big file that is piped to a
server that answers each line cannot cause a deadlock, with both ends blocked in send(). Each
thread holds a bounded piece at a time, so memory stays bounded.

    python3 client.py                                    v4 on this machine
    python3 client.py v2 --name alice                    v1 to v4 are the ports 8001 to 8004
    python3 client.py '[::1]:8003'                       any host and port
    printf 'hi\\n' | python3 client.py v2 --name alice    prints the answers and ends

At a terminal Python's readline edits the line: arrows, history, Ctrl-R, and so on. Tab completes
a command, and a name after /pm. Elsewhere, and in a pasted text, a tab is a tab. Ctrl-D ends the
input, Ctrl-C the client.

Exit status: 0 the conversation ended as you wanted (/quit, end of input, or nobody reads our
output any more); 1 no connection, connection lost or closed by the server, --name refused while
the input is piped, or an error in the input; 2 wrong usage; 130 Ctrl-C.

How to read this file: begin with "The conversation", which has the two threads. You may stop
where "The terminal" begins: colours, line editing and Ctrl-Z are comfort, and have nothing to do
with the network. "Start-up", at the end, has the options and opens the connection.
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
from typing import NoReturn, TextIO

try:
    import readline
    import termios
except ImportError:
    # Windows has neither. Its console edits the typed line, and arriving lines may tear it.
    readline = None


# ==== The conversation ====

# No server takes a line of more bytes than this, its ending not counted, so we do not send one.
MAX_LINE = 1024
# A line that arrives and has more bytes than this is shown in pieces.
MAX_RECEIVED_LINE = 1 << 20
# One read takes this many bytes at most.
READ_SIZE = 64 * 1024
# Piped input waits this long for the server's answer to --name.
NAME_ANSWER_SECONDS = 3.0
# Once the connection has ended, we wait this long for the input to end.
INPUT_END_SECONDS = 0.2

# The last line of a server that closes the connection although we have not asked it to.
FAREWELLS = (
    "! server full",
    "! idle timeout",
    "! this is not a web server",
    "* server shutting down",
)


class Conversation:
    """One connection, from the name to the end: sends the input, and shows what arrives."""

    def __init__(
        self, connection: socket.socket, console: "Console", server_address: str, name: str | None
    ) -> None:
        self.connection = connection
        self.console = console
        self.server_address = server_address
        self.name = name
        # A server that refuses --name takes the next line as a name. A person sees the refusal,
        # but piped lines have to wait until the server accepts the name.
        self.may_send_input = threading.Event()
        if name is None or sys.stdin.isatty():
            self.may_send_input.set()
        # We leave, by /quit or at the end of our input. Then the end of the connection is no loss.
        # Only the input thread sets this, and it never takes it back, so no lock is needed.
        self.leaving = False
        # The line with which the server says good-bye.
        self.farewell = ""
        # The exception that has ended the input thread.
        self.input_error: BaseException | None = None
        # The self-pipe trick. Python handles signals in the main thread, which sleeps in select().
        # A signal may fail to wake it: the signal may come just before the call, or the kernel may
        # give it to the other thread. So Python also writes a byte, and select() sees that. The
        # input thread wakes the main thread in the same way.
        self.wakeup_receiver, self.wakeup_sender = socket.socketpair()
        self.wakeup_sender.setblocking(False)
        signal.set_wakeup_fd(self.wakeup_sender.fileno(), warn_on_full_buffer=False)

    def run(self) -> None:
        """Return when the conversation ends as the user wanted. Raises SystemExit if it is lost."""
        # A daemon thread, because it may be blocked in a read when the conversation is over.
        input_thread = threading.Thread(target=self.run_input, name="input", daemon=True)
        input_thread.start()
        loss = self.receive()
        if self.farewell in FAREWELLS:
            reason = self.farewell[2:]
            raise SystemExit(f"client.py: {self.server_address} closed the connection: {reason}")
        input_thread.join(INPUT_END_SECONDS)
        if self.input_error:
            raise SystemExit(
                f"client.py: the input to {self.server_address} failed, and the rest of it is not"
                f" sent: {self.input_error!r}"
            )
        if not self.farewell and (loss or not self.leaving):
            raise SystemExit(f"client.py: lost the connection to {self.server_address}{loss}")

    def close(self) -> None:
        """Close the sockets, even if the input thread still uses them."""
        signal.set_wakeup_fd(-1)
        for end in (self.connection, self.wakeup_receiver, self.wakeup_sender):
            end.close()

    def run_input(self) -> None:
        """Send the input. An exception in this thread ends the client, and not the thread alone."""
        try:
            self.send_input()
        # This may be any exception. Nobody else sees it, and the main thread would wait for ever.
        except BaseException as error:
            self.input_error = error
            # If this fails, the main thread is awake, or has ended the conversation.
            with contextlib.suppress(OSError):
                self.wakeup_sender.send(b"\0")

    def send_input(self) -> None:
        """Send the name, then the input, then the end. Runs in the input thread."""
        for line in self.lines_to_send():
            try:
                self.connection.sendall(line + b"\n")
            # The connection is gone. The main thread notices that, and reports it.
            except OSError:
                return
        self.leaving = True
        # A half-close: the server sees the end of our input, and we still get its answers. It fails
        # if the connection is gone, which the main thread notices, too.
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)

    def lines_to_send(self) -> Iterator[bytes]:
        """Yield the name, then each line of the input that a server takes."""
        if self.name is not None:
            yield self.name.encode("utf-8", "surrogateescape")
        # A server without our handshake never answers. It gets the input when time is up.
        self.may_send_input.wait(NAME_ANSWER_SECONDS)
        for line in self.console.read_lines():
            if len(line.removesuffix(b"\r")) > MAX_LINE:
                self.console.warn(f"not sent: a line holds at most {MAX_LINE} bytes")
                continue
            if line.strip() == b"/quit":
                self.leaving = True
            yield line

    def receive(self) -> str:
        """Show what arrives, until the connection ends. Runs in the main thread.

        Returns "" after an orderly end, else ": " and what broke the connection.
        """
        rest = b""
        while True:
            loss = ""
            try:
                chunk = self.receive_chunk()
            # The peer has sent a reset, or the network is gone.
            except OSError as error:
                chunk = b""
                loss = f": {error.strerror}"
            *lines, rest = (rest + chunk).split(b"\n")
            # Show a line without its LF if none will come, or if it would fill the memory.
            if rest and (not chunk or len(rest) > MAX_RECEIVED_LINE):
                lines.append(rest)
                rest = b""
            self.on_lines(lines)
            if not chunk:
                return loss

    def receive_chunk(self) -> bytes:
        """Return the bytes that have arrived, or b"" if there will be no more. Raises OSError."""
        while True:
            readable, _, _ = select.select([self.connection, self.wakeup_receiver], [], [])
            # Python has run the signal's handler by now. If that has not ended the client, go on.
            if self.wakeup_receiver in readable:
                self.wakeup_receiver.recv(READ_SIZE)
                # run() reports it.
                if self.input_error:
                    return b""
            if self.connection in readable:
                return self.connection.recv(READ_SIZE)

    def on_lines(self, lines: list[bytes]) -> None:
        """Show lines, and look in them for a farewell and for the answer to --name.

        Raises SystemExit if the server refuses the name while the input waits for the answer.
        """
        texts = [visible(line.removesuffix(b"\r").decode(errors="replace")) for line in lines]
        self.console.show(texts)
        for text in texts:
            if text in FAREWELLS or text.startswith("* bye "):
                self.farewell = text
                continue
            # That was no good-bye, but a user called bye who has joined.
            if self.farewell not in FAREWELLS:
                self.farewell = ""
            if not self.may_send_input.is_set() and not text.endswith(": enter your name"):
                if text.startswith("! "):
                    raise SystemExit(
                        f"client.py: {self.server_address} refused the name {self.name!r}"
                    )
                self.may_send_input.set()


# Text from a server must not control the terminal: an escape sequence could rewrite the screen,
# or type an answer in our name. Unsafe are the control characters C0 (except the tab), DEL and C1,
# and the Unicode characters that end a line or change the direction of writing.
UNSAFE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def visible(text: str) -> str:
    """Replace each unsafe character by its escape in Python, such as `\\x1b`."""
    return UNSAFE.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


# ==== The terminal: comfort, you may stop here ====

COMMANDS = ("/help", "/list", "/ping", "/pm", "/quit", "/work")
# Readline may take this long to notice that the terminal's width has changed.
REDRAW_SECONDS = 0.05

# Notices, errors and private messages. Other lines keep the terminal's own colour.
COLOURS = {"*": "\x1b[36m", "!": "\x1b[31m", "@": "\x1b[35m"}


class Console:
    """Standard input and output without line editing: pipes, files, or a simple terminal."""

    def __init__(self) -> None:
        # Unbuffered, because a buffer has a lock. The input thread would hold it while it waits,
        # and Python needs it in order to exit. A signal handler that writes would need it, too, and
        # the write that it interrupts may hold it.
        self.input = open(sys.stdin.fileno(), "rb", buffering=0, closefd=False)  # noqa: SIM115
        self.output = open(sys.stdout.fileno(), "wb", buffering=0, closefd=False)  # noqa: SIM115
        dumb = os.environ.get("TERM") == "dumb"
        self.use_colours = self.output.isatty() and not dumb and not os.environ.get("NO_COLOR")
        if self.use_colours and os.name == "nt":
            # An empty command has a side effect: an older console then understands colours.
            os.system("")

    def prepare(self) -> None:
        """Set up the terminal. The caller has to call `restore` in the end, even if this fails."""

    def restore(self) -> None:
        """Leave standard input and output as they were."""

    def show(self, lines: list[str]) -> None:
        """Print lines, each in the colour of its kind."""
        self.write("".join(f"{self.in_colour(line, line[:1])}\n" for line in lines))

    def warn(self, message: str) -> None:
        """Tell the user what went wrong. Raises an exception if nobody can be told."""
        # print() would write to standard output if standard error is closed.
        sys.stderr.write(f"client.py: {message}\n")

    def in_colour(self, text: str, kind: str) -> str:
        """Return a text in the colour of a kind of line, a key of COLOURS or any other string."""
        colour = COLOURS.get(kind) if self.use_colours else None
        return f"{colour}{text}\x1b[0m" if colour else text

    def write(self, text: str) -> None:
        """Write all of a text: a single unbuffered write may be a partial write."""
        data = text.encode(sys.stdout.encoding, "backslashreplace")
        while data:
            written = self.output.write(data) or 0
            data = data[written:]

    def read_lines(self) -> Iterator[bytes]:
        """Yield lines without their LF. A last line without one counts, too."""
        rest = b""
        while chunk := self.read_chunk():
            *lines, rest = (rest + chunk).split(b"\n")
            yield from lines
            # Two bytes above the limit, one of which may be a CR, are enough to see that a line is
            # too long. An endless one would fill the memory.
            rest = rest[: MAX_LINE + 2]
        if rest:
            yield rest

    def read_chunk(self) -> bytes:
        """Return bytes of the input, or b"" at its end."""
        try:
            return self.input.read(READ_SIZE) or b""
        # The terminal has hung up, so nobody will type any more.
        except OSError:
            return b""


class Terminal(Console):
    """A terminal at which readline edits the line (POSIX). Arriving lines do not tear that line.

    readline moves the cursor relative to where it has left it. So it does not notice when the row
    that it edits moves as a whole, and other lines can be put above it: see INSERT_ABOVE.

    There are two limits. When a typed line is longer than the row, letters beyond ASCII may look
    torn at its border. With PYTHONUNBUFFERED readline writes letter by letter, so a line may
    arrive between two letters.
    """

    PROMPT = "> "
    # Moves the row that is edited down by one, and writes another row above it. IND and CUU make
    # room if the edited row is the last on the screen. DECSC saves the cursor, and IL inserts an
    # empty row. Behind the text, DECRC and CUD bring the cursor back to the edited row, and to its
    # column (ECMA-48; DEC VT100).
    INSERT_ABOVE = "\x1bD\x1b[A\x1b7\r\x1b[L{}\x1b8\x1b[B"
    READLINE_SETTINGS = (
        # The typed line has to stay on one row, because INSERT_ABOVE moves one row.
        "set horizontal-scroll-mode on",
        # A pasted text comes like typed keys, so each of its lines is sent at once.
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
    # On macOS libedit stands in for readline, and its settings have another form.
    LIBEDIT_SETTINGS = ("bind ^I rl_complete", "bind ^R em-inc-search-prev")
    NAME_IN_LINE = re.compile(r"\* (?:hello ([\w-]+)|([\w-]+) joined)\Z|@?([\w-]+): ")

    def __init__(self) -> None:
        super().__init__()
        self.original_mode = termios.tcgetattr(self.input)
        # The mode that readline had set when Ctrl-Z came, until it gets the terminal back.
        self.suspended_mode: list | None = None
        # Ctrl-D has ended the input, so readline edits no more.
        self.input_ended = False
        # The names that Tab completes.
        self.names: set[str] = set()
        # What Tab has found for the word before the cursor.
        self.completions: list[str] = []

    def prepare(self) -> None:
        # Keys that are pressed before readline starts wait for it. Until then the terminal must
        # not edit them, nor echo them, because readline shows them when it reads them.
        mode = termios.tcgetattr(self.input)
        mode[3] &= ~(termios.ICANON | termios.ECHO)
        termios.tcsetattr(self.input, termios.TCSANOW, mode)
        is_libedit = "libedit" in (readline.__doc__ or "")
        for setting in self.LIBEDIT_SETTINGS if is_libedit else self.READLINE_SETTINGS:
            readline.parse_and_bind(setting)
        # readline calls this once it controls the terminal. The hook erases what the terminal
        # has echoed by itself just before (see read_lines).
        readline.set_startup_hook(lambda: self.write("\r\x1b[K"))
        # Bytes that are no text are sent as they are. Otherwise input() would raise an exception.
        sys.stdin.reconfigure(errors="surrogateescape")
        readline.set_completer_delims(" ")
        readline.set_completer(self.complete)
        signal.signal(signal.SIGTSTP, self.on_suspended)
        signal.signal(signal.SIGCONT, self.on_resumed)
        self.catch_ending_signals()
        # SIGWINCH has to interrupt the thread that is in readline, which then redraws its row. So
        # block it here, before there is a second thread. That thread unblocks it (see read_lines).
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGWINCH])

    def catch_ending_signals(self) -> None:
        """Let these signals exit as Ctrl-C does, so that main() restores the terminal."""
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            signal.signal(number, lambda number, _: sys.exit(128 + number))

    def restore(self) -> None:
        # A terminal that has hung up cannot be restored.
        with contextlib.suppress(termios.error, OSError):
            changed = termios.tcgetattr(self.input) != self.original_mode
            termios.tcsetattr(self.input, termios.TCSANOW, self.original_mode)
            # A line that has been typed in part stays on the screen. A bare prompt is erased.
            if changed:
                self.write("\n" if readline.get_line_buffer() else "\r\x1b[K")

    def on_suspended(self, *_: object) -> None:
        """Ctrl-Z: give the terminal back to the shell, and stop."""
        self.suspended_mode = termios.tcgetattr(self.input)
        self.restore()
        # The shell may end us while we are stopped. Our own handlers would restore the terminal
        # from the background, and that would stop us again.
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGSTOP)

    def on_resumed(self, *_: object) -> None:
        """`fg`: give the terminal back to readline, and make it redraw its row."""
        if self.suspended_mode and self.in_foreground():
            self.catch_ending_signals()
            termios.tcsetattr(self.input, termios.TCSANOW, self.suspended_mode)
            self.suspended_mode = None
            # readline redraws only when the terminal's width changes, so change it for a moment.
            rows, columns = termios.tcgetwinsize(self.input)
            for temporary_columns in (columns - 1, columns):
                termios.tcsetwinsize(self.input, (rows, temporary_columns))
                time.sleep(REDRAW_SECONDS)

    def in_foreground(self) -> bool:
        """Return whether we may change the terminal: in the background SIGTTOU would stop us."""
        try:
            return os.tcgetpgrp(self.input.fileno()) == os.getpgrp()
        # This terminal does not control our session: no job control, so no background.
        except OSError:
            return True

    def read_lines(self) -> Iterator[bytes]:
        """Yield each line after Enter, until Ctrl-D on an empty line."""
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGWINCH])
        # readline shows typed keys only if the terminal echoes them when readline starts.
        mode = termios.tcgetattr(self.input)
        mode[3] |= termios.ECHO
        termios.tcsetattr(self.input, termios.TCSANOW, mode)
        while True:
            try:
                text = input(self.PROMPT)
            except EOFError:
                self.input_ended = True
                self.restore()
                return
            # A pasted text may hold several lines.
            for line in text.split("\n"):
                yield line.encode("utf-8", "surrogateescape")

    def show(self, lines: list[str]) -> None:
        self.learn_names(lines)
        if self.input_ended:
            super().show(lines)
            return
        columns = os.get_terminal_size(self.output.fileno()).columns or 80
        output = ""
        for line in lines:
            for row in split_into_rows(line.expandtabs(), columns):
                output += self.INSERT_ABOVE.format(self.in_colour(row, line[:1]))
        # One write for all, or readline could echo a key in the middle of a control sequence.
        self.write(output)

    def warn(self, message: str) -> None:
        self.show([f"! {message}"])

    def learn_names(self, lines: list[str]) -> None:
        """Remember for Tab who is there, as far as these lines tell."""
        for line in lines:
            if line.startswith("* ") and line.endswith(" left"):
                self.names.discard(line[2:-5])
            elif " online: " in line and line.startswith("* "):
                self.names = set(line.partition(" online: ")[2].split(", "))
            elif match := self.NAME_IN_LINE.match(line):
                self.names.add(match[match.lastindex])

    def complete(self, text: str, number: int) -> str | None:
        """Return a completion of the word before the cursor, or None if there are no more.

        readline calls this with number 0, 1, 2 and so on until it returns None.
        """
        if number == 0:
            self.completions = self.find_completions(text)
        return self.completions[number] if number < len(self.completions) else None

    def find_completions(self, word: str) -> list[str]:
        """Return what the word before the cursor may become when the user presses Tab."""
        before = readline.get_line_buffer()[: readline.get_begidx()].split()
        # In a pasted text the next key is there already.
        is_pasted = bool(select.select([self.input], [], [], 0)[0])
        if not is_pasted and not before and word.startswith("/"):
            candidates = COMMANDS
        elif not is_pasted and before == ["/pm"]:
            candidates = sorted(self.names)
        # Neither a command nor a name can end here, so this tab is text.
        else:
            return [f"{word}\t"]
        start = word.casefold()
        return [f"{found} " for found in candidates if found.casefold().startswith(start)]


def split_into_rows(text: str, columns: int) -> list[str]:
    """Split a text into rows that are at most `columns` wide; an empty text is one empty row."""
    rows = [""]
    columns_left = columns
    for character in text:
        columns_left -= columns_of(character)
        if columns_left < 0:
            rows.append("")
            columns_left = columns - columns_of(character)
        rows[-1] += character
    return rows


def columns_of(character: str) -> int:
    """Return how many columns a character takes: a wide East Asian one 2, a combining one 0."""
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


# ==== Start-up ====

PORTS = {"v1": 8001, "v2": 8002, "v3": 8003, "v4": 8004}
# The call of connect() may take this long.
CONNECT_SECONDS = 10.0


class OptionParser(argparse.ArgumentParser):
    """Says in one line what is wrong with the options."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"client.py: {message} (try --help)\n")


def parse_options() -> argparse.Namespace:
    """Read the command line; a mistake ends the program with one line and status 2."""
    # The help is the docstring without the part for readers. Under python3 -OO there is none.
    description = (__doc__ or "").partition("How to read this file")[0]
    parser = OptionParser(
        usage="client.py [v1|v2|v3|v4 | HOST:PORT] [--name NAME]",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("server", nargs="?", default="v4", type=parse_address, help="default: v4")
    parser.add_argument("--name", help="sent as the first line")
    options = parser.parse_args()
    if not (is_file(sys.stdin) and is_file(sys.stdout)):
        parser.error(
            "standard input and output must be open files: start it in a terminal, not in IDLE"
        )
    if options.name and len(os.fsencode(options.name)) > MAX_LINE:
        parser.error(f"--name is too long: a line holds at most {MAX_LINE} bytes")
    if options.name and "\n" in options.name:
        parser.error("--name must be one line")
    return options


def is_file(stream: TextIO | None) -> bool:
    """Return whether a standard stream is an open file of the system. In IDLE it is none."""
    try:
        os.fstat(stream.fileno())
    # A closed stream is None, IDLE's raise io.UnsupportedOperation, and others have no fileno().
    except (AttributeError, OSError, ValueError):
        return False
    return True


def parse_address(text: str) -> tuple[str, int]:
    """Return (host, port) of v1 to v4, HOST:PORT or [IPV6]:PORT. Raises ArgumentTypeError."""
    if text in PORTS:
        return "127.0.0.1", PORTS[text]
    parts = re.fullmatch(r"(?:\[([^\[\]]+)\]|([^:\[\]]+)):([0-9]{1,5})", text)
    if not parts or not 0 < int(parts[3]) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r} is neither v1, v2, v3, v4 nor HOST:PORT")
    return parts[1] or parts[2], int(parts[3])


def connect(host: str, port: int, server_address: str) -> socket.socket:
    """Return a blocking connection. Raises SystemExit with one line if there is none."""
    try:
        connection = socket.create_connection((host, port), CONNECT_SECONDS)
    except UnicodeError:
        reason = "that cannot be the name of a host"
    except OSError as error:
        reason = error.strerror or error
    else:
        connection.settimeout(None)
        return connection
    raise SystemExit(
        f"client.py: cannot connect to {server_address}: {reason}"
        " (start the server, or check the address)"
    )


def main() -> None:
    options = parse_options()
    host, port = options.server
    server_address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    at_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    can_edit = readline is not None and os.environ.get("TERM", "dumb") != "dumb"
    console = Terminal() if at_terminal and can_edit else Console()
    try:
        console.prepare()
        connection = connect(host, port, server_address)
        conversation = Conversation(connection, console, server_address, options.name)
        with contextlib.closing(conversation):
            conversation.run()
    # Nobody reads our output any more: `| head -1`, say, has seen enough.
    except BrokenPipeError:
        return
    except OSError as error:
        raise SystemExit(f"client.py: cannot write the output: {error.strerror}") from None
    finally:
        console.restore()


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        raise SystemExit(130) from None
