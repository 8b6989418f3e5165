"""The smallest script that shows each broken rule, played to small.py and to server.py in turn."""

import contextlib
import signal
from collections.abc import Iterator
from dataclasses import dataclass

from harness.launcher import LaunchError
from harness.line_client import LineClient
from harness.process_view import halted
from tests.zoo.stage import Row, Script, Stage, heard, limited_to, pump

PAUSE = 0.3  # seconds without a line after which all has come that is going to come


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
        lines = heard(client, PAUSE)
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
    end = "an orderly end"
    try:
        alice.read_to_end()
        # A connection that was reset refuses to send.
        for _ in range(2):
            alice.send_bytes(b"are you there?\n")
    except (OSError, AssertionError):
        end = "a reset"
    yield Row("alice sends /quit and goes on sending; she gets", end, wrong=end == "a reset")


def silence(stage: Stage) -> Iterator[Row]:
    """L1: a client that says nothing."""
    try:
        stage.start("--idle-timeout", "0.3")
    except LaunchError:
        yield Row("start with --idle-timeout 0.3", "there is no such option", wrong=True)
        return
    client = stage.connect()
    yield Row("start with --idle-timeout 0.3", " + ".join(heard(client, 2)))


def more_clients_than_descriptors(stage: Stage) -> Iterator[Row]:
    """L2: 40 descriptors, and 50 clients."""
    stage.start(preexec_fn=limited_to(40))
    alice = stage.join("alice")
    crowd = []
    # A server that ends with the first one too many refuses the rest.
    with contextlib.suppress(ConnectionError):
        for _ in range(50):
            crowd.append(LineClient(stage.server.address, 1.0))
    yield Row("the server may have 40 descriptors; alice is in, 50 others connect")
    try:
        pong = " + ".join(alice.ask("/list"))
    except (OSError, EOFError, AssertionError):
        pong = "nothing"
    yield Row("alice asks who is in", pong, wrong=pong == "nothing")
    lines = stage.log_lines()
    yield Row("lines in the log", f"{lines}", wrong=lines > 5)
    state = stage.state(0.5)
    yield Row("the server", state, wrong=state != "runs")
    for client in crowd:
        client.close()


def one_who_never_reads(stage: Stage) -> Iterator[Row]:
    """L3: a client asks much, and reads nothing."""
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
    stage.server.process.send_signal(signal.SIGINT)
    lines = heard(alice, 1.0)
    yield Row("Ctrl-C; alice hears", " + ".join(lines), wrong=not lines)
    alice.close()
    state = stage.state(3.0)
    yield Row("the server", state, wrong=state != "ended with status 0")


def glued_lines_of_another(stage: Stage) -> Iterator[Row]:
    """F7: how far a client comes, whose lines are all there, before another has its turn."""
    stage.start()
    crowd, (greedy, patient, listener) = stage.join_crowd("greedy", "patient", "listener")
    # The server finds all of it when it goes on.
    with halted(stage.server.process):
        for member, lines in ((greedy, b"so much\n" * 8_000), (patient, b"one thing\n")):
            member.outgoing += lines
            crowd.pump(lambda member=member: not member.outgoing, "lines to be sent", 3.0)
    crowd.pump(lambda: b"patient: " in listener.incoming, "a line of each", 10.0)
    yield Row("greedy says 8,000 lines at once, patient says one")
    before = listener.incoming.partition(b"patient: ")[0].count(b"greedy: ")
    yield Row("lines of greedy that come first", f"{before:,}", wrong=before > 6_000)


def a_host_by_name(stage: Stage) -> Iterator[Row]:
    """The launch contract: an option."""
    try:
        stage.start("--host", "localhost")
    except LaunchError:
        yield Row("start with --host localhost", "there is no such option", wrong=True)
        return
    yield Row("start with --host localhost", "it listens")


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
