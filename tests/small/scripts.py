"""The smallest script that shows each broken rule, played to small.py and to server.py in turn."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from harness.crowd import Crowd, Member
from harness.launcher import LaunchError
from harness.line_client import LineClient
from harness.proc import halted
from harness.server_under_test import FAILURES
from harness.system import at_most_descriptors
from tests.zoo.scripts import endless_outbox, press_ctrl_c
from tests.zoo.stage import Row, Script, Stage, heard, in_words, pump


@dataclass(frozen=True)
class Exchange:
    """What one client sends, all at once, and what has to be among the answers, or must not."""

    step: str
    sent: bytes
    # How one of the answers begins, and a line that is not among them.
    right: str
    absent: str = ""
    # Whether the client ends its input then.
    ends: bool = False

    def __call__(self, stage: Stage) -> Iterator[Row]:
        """The script: one row with the lines that come after the greeting."""
        stage.start()
        client = stage.connect()
        client.send_bytes(self.sent)
        if self.ends:
            client.half_close()
        lines = heard(client)
        there = any(line.startswith(self.right) for line in lines)
        wrong = not there or self.absent in lines
        yield Row(self.step, " + ".join(map(_shortened, lines)), wrong)


def _shortened(line: str) -> str:
    return line if len(line) <= 60 else f"{line[:20]} ... ({len(line)} characters)"


def closing_with_unread_input(stage: Stage) -> Iterator[Row]:
    """C4: a client goes on sending after /quit."""
    stage.start()
    alice = stage.join("alice")
    alice.send_bytes(b"/quit\n" + b"and another thing\n" * 20_000)
    was_reset = False
    try:
        alice.read_to_end()
        # A connection that was reset refuses to send.
        for _ in range(2):
            alice.send_bytes(b"are you there?\n")
    except (OSError, AssertionError):
        was_reset = True
    end = "a reset" if was_reset else "an orderly end"
    yield Row("alice sends /quit and goes on sending; she gets", end, wrong=was_reset)


def silence(stage: Stage) -> Iterator[Row]:
    """L1: a client that says nothing."""
    yield from start_with(
        stage, "--idle-timeout", "0.3", lambda: " + ".join(heard(stage.connect(), 2))
    )


def a_host_by_name(stage: Stage) -> Iterator[Row]:
    """The launch contract: an option."""
    yield from start_with(stage, "--host", "localhost", lambda: "it listens")


def start_with(stage: Stage, option: str, value: str, look: Callable[[], str]) -> Iterator[Row]:
    """Start the server with an option that it may not have; `look` says what comes of it."""
    step = f"start with {option} {value}"
    try:
        stage.start(option, value)
    except LaunchError:
        yield Row(step, "there is no such option", wrong=True)
    else:
        yield Row(step, look())


def more_clients_than_descriptors(stage: Stage) -> Iterator[Row]:
    """L2: 40 descriptors, and 50 clients."""
    stage.start(preexec_fn=at_most_descriptors(40))
    alice = stage.join("alice")
    crowd = []
    # A server that ends with the first one too many refuses the rest.
    with contextlib.suppress(ConnectionError):
        for _ in range(50):
            crowd.append(LineClient(stage.server.address, 1.0))
    yield Row("the server may have 40 descriptors; alice is in, 50 others connect")
    listed = None
    with contextlib.suppress(*FAILURES):
        listed = " + ".join(alice.ask("/list"))
    yield Row("alice asks who is in", listed or "nothing", wrong=listed is None)
    lines = stage.log_lines()
    yield Row("lines in the log", f"{lines}", wrong=lines > 5)
    yield stage.the_server_runs(0.5)
    for client in crowd:
        client.close()


def one_who_never_reads(stage: Stage) -> Iterator[Row]:
    """L3: a client asks much, or in a room others say much, and it reads nothing."""
    if stage.profile == "chat":
        yield from endless_outbox(stage, options=())
        return
    stage.start()
    crowd, (alice, deaf) = stage.join_crowd("alice", "deaf")
    deaf.reading = False
    deaf.outgoing += b"/ping so much to ask, and no time to read\n" * 100_000
    pump(crowd, lambda: False, 2.5)
    yield Row("deaf asks 100,000 things and reads nothing, for 2.5 s")
    alice.outgoing += b"/list\n"
    pump(crowd, lambda: b" online: " in alice.incoming, 5.0)
    listed = [line for line in alice.lines() if " online: " in line]
    yield Row("alice asks who is in", " + ".join(listed), wrong="deaf" in "".join(listed))


def one_ctrl_c(stage: Stage) -> Iterator[Row]:
    """L4: Ctrl-C, with somebody there."""
    stage.start()
    alice = stage.join("alice")
    press_ctrl_c(stage)
    lines = heard(alice, 1.0)
    yield Row("Ctrl-C; alice hears", " + ".join(lines), wrong=not lines)
    alice.close()
    status = stage.status(3.0)
    yield Row("the server", in_words(status), wrong=status != 0)


def glued_lines_of_another(stage: Stage) -> Iterator[Row]:
    """F7: how far a client gets, whose lines are all there, before another has its turn."""
    stage.start()
    crowd, (greedy, patient, listener) = stage.join_crowd("greedy", "patient", "listener")
    # The server finds all of it when it goes on.
    with halted(stage.server.process):
        for member, lines in ((greedy, b"so much\n" * 8_000), (patient, b"one thing\n")):
            send(crowd, member, lines)
    crowd.pump(lambda: b"patient: " in listener.incoming, "a line of each", 10.0)
    yield Row("greedy says 8,000 lines at once, patient says one")
    before = listener.incoming.partition(b"patient: ")[0].count(b"greedy: ")
    yield Row("lines of greedy that come first", f"{before:,}", wrong=before > 6_000)


def send(crowd: Crowd, member: Member, lines: bytes) -> None:
    """Return when the kernel has taken all the lines."""
    member.outgoing += lines
    crowd.pump(lambda: not member.outgoing, "lines to be sent", 3.0)


HALF_A_LINE = Exchange(
    'alice sends "/ping 1\\n/ping 2", and ends her input',
    b"alice\n/ping 1\n/ping 2",
    right="* pong 1",
    absent="* pong 2",
    ends=True,
)
A_BAD_NAME = Exchange('a client asks for the name "no name!"', b"no name!\n", "! invalid name")

SCRIPTS: dict[str, Script] = {
    "H2": A_BAD_NAME,
    "H4": A_BAD_NAME,
    "H5": Exchange("a client sends an empty line", b"\n", "* hello guest1"),
    "H6": Exchange(
        "a web page sends a form",
        b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\nhello\r\n",
        "! this is not a web server",
    ),
    "F2": Exchange(
        "alice sends a line of 5,000 bytes", b"alice\n" + b"x" * 5_000 + b"\n/ping\n", "! line too"
    ),
    "F3": HALF_A_LINE,
    "F4": Exchange("alice sends the byte FF", b"alice\n\xff\n/ping\n", "! not valid UTF-8"),
    "F7": glued_lines_of_another,
    "C1": Exchange("alice sends /help", b"alice\n/help\n", "* commands: "),
    "C4": closing_with_unread_input,
    "C5": Exchange("alice sends /dance", b"alice\n/dance\n", "! unknown command: /dance"),
    "C6": Exchange("alice sends /work 20", b"alice\n/work 20\n", "* worked 20 ms"),
    "C7": Exchange("alice sends /pm nobody psst", b"alice\n/pm nobody psst\n", "! "),
    "L1": silence,
    "L2": more_clients_than_descriptors,
    "L3": one_who_never_reads,
    "L4": one_ctrl_c,
    "L5": HALF_A_LINE,
    "launch": a_host_by_name,
}
