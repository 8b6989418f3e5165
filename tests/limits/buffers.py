"""L3: socket buffers of 16 KiB, on both sides."""

import contextlib
import functools
from collections.abc import Iterator

from harness.crowd import Crowd, Member
from harness.joining import joined
from harness.launcher import RunningServer
from harness.line_client import LineClient
from harness.server_under_test import FAILURES, ServerUnderTest
from harness.session import Session
from harness.waiting import wait_until
from tests.limits.claims import Claim, Facts, Limit
from tests.limits.observing import claim_about_a_line, new_crowd, stop
from tests.limits.ways import SMALL_BUFFERS_PREPARATION, connect_with_small_buffers

KIB = 1024
SIZE = 16 * KIB
QUESTIONS = 1500
QUESTION_SIZE = 1000
# What carol wants to have back, a text of the same length for each question.
TEXTS = [f"{number:06d}".ljust(QUESTION_SIZE - len("/ping \n"), "x") for number in range(QUESTIONS)]
ANSWERS = [f"* pong {text}" for text in TEXTS]
STALL_TIMEOUT = "0.5"

# What is on its way in two buffers in each direction. Linux makes each twice as large as was asked.
IN_THE_KERNEL = 4 * 2 * SIZE
# How much a server reads in one turn (F7), and how much it keeps for a client (L3).
A_TURN = 16 * KIB
HIGH_WATER = 256 * KIB
# asyncio's stream pauses reading when it has more than twice its limit, which is a turn. The read
# that brings it there may bring another turn.
IN_THE_STREAM = 3 * A_TURN


def run(server: ServerUnderTest, session: Session, facts: Facts) -> None:
    """Let carol be stuck, once for a while and once for good."""
    preparation = [SMALL_BUFFERS_PREPARATION, str(SIZE)] if server.takes_a_preparation else []
    start = functools.partial(server.running, session=session, preparation=preparation)
    with start("--stall-timeout", "60") as running:
        with _bob_and_stuck_carol(running) as (bob, room, carol):
            facts.taken = QUESTIONS * QUESTION_SIZE - len(carol.outgoing)
            facts.bob_waits = not _is_answered(bob, server.profile)
            carol.reading = True
            room.barrier([carol])
            facts.answers = carol.lines()[:-1]
            bob.read_until("* pong bob")
        stop(running, facts)
    with start("--stall-timeout", STALL_TIMEOUT) as running:
        heard: list[str] = []
        with _bob_and_stuck_carol(running) as (bob, _, _):

            def carol_is_gone() -> bool:
                heard.extend(bob.ask("/list"))
                return heard[-1:] == ["* 1 online: bob"]

            wait_until(carol_is_gone, "carol, who does not read, to be dropped", session=session)
        facts.left = heard.count("* carol left")
        facts.online = heard[-1]


@contextlib.contextmanager
def _bob_and_stuck_carol(server: RunningServer) -> Iterator[tuple[LineClient, Crowd, Member]]:
    """bob, and a room for carol. She has asked for all that the server takes, and reads nothing."""
    with joined(server, "bob") as (bob,), new_crowd(server) as room:
        carol = room.adopt(connect_with_small_buffers(server.address, SIZE), "carol")
        room.let_in([carol])
        bob.ping()
        carol.reading = False
        carol.outgoing += "".join(f"/ping {text}\n" for text in TEXTS).encode()
        room.pump_until_quiet(0.4)
        try:
            yield bob, room, carol
        except FAILURES as error:
            # The others' side tells little of a failure that is about her.
            raise AssertionError(f"{error}; {carol.in_short()}") from None


def _is_answered(bob: LineClient, profile: str) -> bool:
    """Whether bob's `/ping bob` is answered while carol does not read.

    Wait long for an answer that has to come, and not long for one that must not come.
    """
    bob.send_line("/ping bob")
    return bob.wait_for_data(10 if profile == "echo" else 0.4)


def _at_most_taken(size: int, predicted: str, *of: str) -> Claim:
    """Before she reads, kernels and server take in no more than this of what carol asks."""
    return Claim(
        f"takes {size // KIB} KiB at most: {predicted}",
        lambda facts: f"took {facts.taken // KIB} KiB of {QUESTIONS * QUESTION_SIZE // KIB}",
        lambda facts: facts.taken <= size,
        of=of,
    )


def _what_carol_got(facts: Facts) -> str:
    """How many answers, and where the first one that is not right stands."""
    came = f"{len(facts.answers)} of {QUESTIONS} answers"
    if facts.answers == ANSWERS:
        return f"{came}, every byte right"
    pairs = enumerate(zip(facts.answers, ANSWERS, strict=False))
    right = next((n for n, (answer, wanted) in pairs if answer != wanted), len(facts.answers))
    next_one = facts.answers[right][:60] if right < len(facts.answers) else "nothing"
    return f"{came}; after {right} right ones came `{next_one}`"


LIMIT = Limit(
    "buffers",
    "socket buffers of 16 KiB",
    lambda: (
        "SO_RCVBUF and SO_SNDBUF are 16 KiB (Linux doubles that): at carol's side by setsockopt() "
        "before connect(); at the server's by a few lines that run in front of it, if it is "
        f"written in Python. carol asks for {QUESTIONS} answers of 1 kB and does not read. Then "
        f"she reads. On a second server, with --stall-timeout {STALL_TIMEOUT}, she never does."
    ),
    run,
    (
        _at_most_taken(
            A_TURN + IN_THE_KERNEL, "its thread waits in send() after each turn", "v1_threads"
        ),
        _at_most_taken(
            HIGH_WATER + A_TURN + IN_THE_KERNEL,
            "an outbox and a turn",
            "v2_select",
            "v3_broadcast",
        ),
        _at_most_taken(
            HIGH_WATER + A_TURN + IN_THE_STREAM + IN_THE_KERNEL,
            "an outbox, a turn and asyncio's stream",
            "v4_asyncio",
        ),
        Claim(
            "bob is served meanwhile",
            lambda facts: "no `* pong bob`" if facts.bob_waits else "`* pong bob`",
            lambda facts: not facts.bob_waits,
            profile="echo",
        ),
        Claim(
            "bob waits until carol reads",
            lambda facts: "no `* pong bob` meanwhile" if facts.bob_waits else "`* pong bob`",
            lambda facts: facts.bob_waits,
            profile="chat",
        ),
        Claim(
            "then carol gets all, in order",
            _what_carol_got,
            lambda facts: facts.answers == ANSWERS,
        ),
        claim_about_a_line(
            "if she never reads, she is dropped", "online", "* 1 online: bob", profile="echo"
        ),
        Claim(
            "if she never reads, she is dropped, and bob is told once",
            lambda facts: f"{facts.left} times `* carol left`, `{facts.online}`",
            lambda facts: (facts.left, facts.online) == (1, "* 1 online: bob"),
            profile="chat",
        ),
    ),
)
