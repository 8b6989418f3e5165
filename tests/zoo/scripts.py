"""The smallest script that shows each bug: a generator of rows, played to two servers in turn.

A row is yielded once its step has been done. A row is `wrong` if nobody should see it: the bug has
shown if a row is wrong with it and no row is wrong without it.
"""

import os
import signal
import time
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path

from harness.crowd import Crowd, Member
from harness.proc import halted
from harness.system import Unavailable, allow_descriptors, at_most_descriptors
from tests.zoo.stage import (
    NO_PROC,
    Row,
    Script,
    Stage,
    answer,
    heard,
    in_words,
    ping_is_answered,
    pong,
    pump,
    who_is_in,
)

# A program that starts the server in its own way, in which threads meet at the worst moment.
INTERLEAVED = Path(__file__).with_name("interleaved.py")

# A client that does not read is dropped after so many seconds.
SOON = ("--stall-timeout", "0.5")

ONE_LINE = b"x" * 999 + b"\n"
# How many bytes of it the others hear.
HEARD = len(b"alice: " + ONE_LINE)


def eof_ignored(stage: Stage) -> Iterator[Row]:
    """Bob goes. Is he gone, and does the server rest?"""
    stage.start()
    alice, bob = stage.join("alice"), stage.join("bob")
    bob.close()
    yield Row("bob closes his connection")
    yield stage.cpu_time("CPU time in the next 0.5 s")
    names = who_is_in(alice)
    yield Row("alice asks who is in", names, wrong="bob" in names)


def recv_is_a_message(stage: Stage) -> Iterator[Row]:
    """Half a line, the other half; then two lines at once."""
    stage.start()
    alice = stage.join("alice")
    alice.send_bytes(b"hel")
    lines = heard(alice)
    yield Row('alice sends "hel"', " + ".join(lines), wrong=bool(lines))
    alice.send_bytes(b"lo\n")
    lines = heard(alice)
    yield Row('alice sends "lo\\n"', " + ".join(lines), wrong=lines != ["alice: hello"])
    alice.send_bytes(b"one\ntwo\n")
    lines = heard(alice)
    wrong = lines != ["alice: one", "alice: two"]
    yield Row('alice sends "one\\ntwo\\n"', " + ".join(lines), wrong)


def send_for_sendall(stage: Stage) -> Iterator[Row]:
    """Many answers for a client that takes its time to read them."""
    stage.start("--stall-timeout", "60")
    alice = stage.join("alice", buffer=256 * 1024)
    whole = answer(alice, "/help")
    alice.send_bytes(b"/help\n" * 30_000 + b"/quit\n")
    time.sleep(0.5)
    yield Row("alice sends /help 30,000 times, and only then reads the answers")
    lines = [line for line in heard(alice, seconds=3) if line != "* bye alice"]
    good = lines.count(whole)
    yield Row("whole answers that come", f"{good:,}", wrong=good != 30_000)
    torn = [line for line in lines if line != whole]
    yield Row("and other things, such as", "".join(torn[:1]), wrong=bool(torn))


def split_utf8(stage: Stage) -> Iterator[Row]:
    """A character of two bytes in two segments."""
    stage.start()
    alice, bob = stage.join("alice"), stage.join("bob")
    first, second = "é".encode()
    yield Row('alice sends "caf\\xc3", and a little later "\\xa9\\n"')
    alice.send_bytes(b"caf" + bytes([first]))
    bob.ping()
    alice.send_bytes(bytes([second]) + b"\n")
    line = bob.read_line()
    yield Row("bob hears", line, wrong=line != "alice: café")


def flood_past_deaf_bob(
    stage: Stage, lines: int, *options: str
) -> Generator[Row, None, tuple[Crowd, Member]]:
    """Have all that alice says ready to be sent; returns the room, and carol, who reads."""
    stage.start(*options)
    crowd, (alice, bob, carol) = stage.join_crowd("alice", "bob", "carol")
    bob.reading = False
    alice.outgoing += ONE_LINE * lines
    yield Row(f"bob does not read; alice says {lines:,} lines of 1000 bytes")
    return crowd, carol


def walk_and_change(stage: Stage) -> Iterator[Row]:
    """A client that does not read has to be dropped in the middle of a walk over all clients."""
    crowd, carol = yield from flood_past_deaf_bob(stage, 8000, *SOON)
    pump(crowd, lambda: carol.closed or len(carol.incoming) >= 8000 * HEARD, 5)
    yield ping_is_answered("carol", pong(crowd, carol))
    yield stage.the_server_runs()
    yield stage.last_of_the_log()


def await_every_peer(stage: Stage) -> Iterator[Row]:
    """A client that does not read, and one that waits for what both are told."""
    crowd, carol = yield from flood_past_deaf_bob(stage, 10_000, *SOON)
    # A busy machine may be slow. What counts is whether anything still comes.
    crowd.pump_until_quiet(2.0, 30.0)
    lines = carol.incoming.count(b"alice: x")
    yield Row("of these carol has heard", f"{lines:,}", wrong=lines != 10_000)
    pong(crowd, carol)
    left = b"* bob left" in carol.incoming
    yield Row("bob", "was dropped" if left else "holds the room", wrong=not left)


def endless_outbox(stage: Stage, options: Sequence[str] = SOON) -> Iterator[Row]:
    """A client that does not read, and a server that keeps for it what the others say."""
    crowd, carol = yield from flood_past_deaf_bob(stage, 40_000, *options)
    process = stage.process()
    before = process.peak_memory() if process else 0
    pump(crowd, lambda: len(carol.incoming) >= 40_000 * HEARD, 8)
    left = b"* bob left" in carol.incoming
    yield Row("bob", "was dropped" if left else "is in", wrong=not left)
    if process:
        grown = (process.peak_memory() - before) >> 20
        yield Row("the server's memory grew by", f"{grown} MiB", wrong=grown > 10)


def descriptor_1024(stage: Stage) -> Iterator[Row]:
    """More clients than select() can watch."""
    allow_descriptors(3000)
    stage.start("--max-clients", "2000")
    alice = stage.join("alice")
    crowd, _ = stage.join_crowd("bob")
    # All are there before the server notices, because nobody can connect once it has ended.
    with halted(stage.server.process):
        members = crowd.connect(f"client-{number}" for number in range(1040))
    pump(crowd, lambda: all(one.incoming or one.closed for one in members), 5)
    greeted = sum(b"enter your name" in one.incoming for one in members)
    refused = sum(b"! server full" in one.incoming for one in members)
    crowd.__exit__()
    yield Row("1,040 connect; greeted are", f"{greeted:,}")
    yield Row("told that the server is full", str(refused), wrong=greeted + refused != 1040)
    yield ping_is_answered("alice", answer(alice, "/ping"))
    yield stage.the_server_runs()
    yield stage.last_of_the_log()


def accept_spins(stage: Stage) -> Iterator[Row]:
    """More clients than the server has descriptors for."""
    stage.start(preexec_fn=at_most_descriptors(30))
    crowd, _ = stage.join_crowd("alice")
    crowd.connect(f"client-{number}" for number in range(40))
    yield Row("a server with 30 descriptors; 40 clients connect")
    crowd.pump_until_quiet()
    before = stage.log_lines()
    yield stage.cpu_time("CPU time in the next 0.5 s")
    more = stage.log_lines() - before
    yield Row("lines in its log meanwhile", f"{more:,}", wrong=more > 10)
    yield stage.last_of_the_log("the last of them")


def missing_lock(stage: Stage) -> Iterator[Row]:
    """Two clients want one name. The first is held up between finding it free and taking it."""
    stage.start(preparation=[INTERLEAVED.read_text(encoding="utf-8")])
    one, other = stage.connect(), stage.connect()
    yield Row(
        "two clients want to be alice; the thread of the first is made to wait after it has "
        "found the name free"
    )
    one.send_line("alice")
    other.send_line("alice")
    answers = sorted([one.read_line(), other.read_line()], reverse=True)
    yield Row("the one is told", answers[0])
    yield Row("the other is told", answers[1], wrong=answers[0] == answers[1])


def broken_pipe(stage: Stage) -> Iterator[Row]:
    """A client that has asked everything, and is killed before it has read the answers."""
    stage.start()
    alice, bob = stage.join("alice"), stage.join("bob", buffer=16 * 1024)
    bob.send_bytes(b"/a\n" * 15_000)
    bob.half_close()
    yield Row("bob asks 15,000 questions, ends his input, and is killed while answers come")
    for _ in range(5):
        alice.ping()
    bob.reset()
    heard(alice)
    yield ping_is_answered("alice", answer(alice, "/ping"))
    yield stage.the_server_runs()
    yield stage.last_of_the_log()


def name_stays_taken(stage: Stage) -> Iterator[Row]:
    """Alice loses her connection, and comes back."""
    stage.start()
    alice, bob = stage.join("alice"), stage.join("bob")
    alice.reset()
    yield Row("alice's connection is reset")
    time.sleep(0.2)
    names = who_is_in(bob)
    yield Row("bob asks who is in", names, wrong="alice" in names)
    got = answer(stage.connect(), "alice")
    yield Row("alice comes back and is told", got, wrong=got != "* hello alice")


def deaf_to_ctrl_c(stage: Stage) -> Iterator[Row]:
    """Ctrl-C for a server that waits for its first client."""
    stage.start()
    time.sleep(0.2)
    press_ctrl_c(stage)
    yield Row("nobody is there, and Ctrl-C is pressed")
    status = stage.status(2)
    yield Row("the server, 2 s later", in_words(status), wrong=status is None)
    if status is None:
        stage.join_crowd()[0].connect(["somebody"])
    yield Row("and once somebody connects", in_words(stage.status(2)))


def sleep_in_the_loop(stage: Stage) -> Iterator[Row]:
    """One client says good-bye. How long do the others wait?"""
    stage.start()
    crowd, _ = stage.join_crowd("carol", "dave", "erin")
    alice, bob = stage.join("alice"), stage.join("bob")
    bob.send_line("/quit")
    bob.read_until("* bye bob")
    yield Row("bob says /quit")
    begin = time.monotonic()
    alice.ping()
    seconds = time.monotonic() - begin
    alice.close()
    yield Row("alice's next /ping takes", f"{seconds:.2f} s", wrong=seconds > 0.3)
    begin = time.monotonic()
    press_ctrl_c(stage)
    pump(crowd, lambda: all(member.closed for member in crowd.members), 6)
    stage.status(2)
    seconds = time.monotonic() - begin
    yield Row("after Ctrl-C it ends within", f"{seconds:.2f} s", wrong=seconds > 2)


def idle_costs_cpu(stage: Stage) -> Iterator[Row]:
    """One client that says nothing."""
    stage.start()
    if stage.process() is None:
        raise Unavailable(NO_PROC)
    yield stage.cpu_time("CPU time in 0.5 s, no client")
    stage.join("alice")
    yield stage.cpu_time("the same with silent alice")


def press_ctrl_c(stage: Stage) -> None:
    """As the terminal does. Raises Unavailable."""
    if os.name == "nt":
        raise Unavailable("on Windows no program can press Ctrl-C for a single other one")
    stage.server.process.send_signal(signal.SIGINT)


def script_of(name: str) -> Script:
    """The script that shows the bug of this name."""
    return globals()[name.replace("-", "_")]
