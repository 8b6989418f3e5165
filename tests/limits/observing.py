"""What several limits look at: the log, the first lines that clients get, the processor."""

import contextlib
import re
from collections.abc import Iterable

from harness.answers import SERVER_FULL
from harness.launcher import RunningServer
from harness.line_client import LineClient
from harness.process_view import ProcessView
from harness.waiting import wait_until
from tests.crowd import Member
from tests.limits.claims import PROC, Claim, Facts
from tests.limits.subject import log_of

WATCHED_SECONDS = 0.2

# Of the facts that `watch_the_processor` notes.
NO_SPINNING = Claim(
    "no spinning: under half a core",
    lambda facts: f"{facts.cpu:.2f} s of CPU in {WATCHED_SECONDS:g} s",
    lambda facts: facts.cpu < WATCHED_SECONDS / 2,
    needs=PROC,
)
# What our servers log of whoever comes and goes.
COMING_OR_GOING = re.compile(r".* (joined|left)")


def last_answer(client: LineClient, command: str) -> str:
    """The last line that answers a command, or "nothing"."""
    answers = client.ask(command)
    return answers[-1] if answers else "nothing"


def is_greeting(line: str) -> bool:
    """Whether this is how a server greets (H1)."""
    return line.endswith(": enter your name")


def is_greeted(member: Member) -> bool:
    """Whether a client's first line has come, and is a greeting."""
    return b": enter your name\n" in member.incoming


def is_refused(member: Member) -> bool:
    """Whether `! server full` is all that a client was told (L2)."""
    return member.incoming == f"{SERVER_FULL}\n".encode()


def count_first_lines(members: Iterable[Member], facts: Facts) -> None:
    """How many were `greeted`, `refused`, are `closed`, or are `waiting` for a first word."""
    members = list(members)
    facts.came = len(members)
    facts.greeted = sum(map(is_greeted, members))
    facts.refused = sum(map(is_refused, members))
    facts.closed = sum(member.closed for member in members)
    facts.waiting = sum(not member.incoming and not member.closed for member in members)


def watch_the_processor(view: ProcessView, silent: LineClient, facts: Facts) -> None:
    """`cpu`: seconds of CPU time in WATCHED_SECONDS in which nobody asks for anything."""
    if not PROC.is_met:
        return
    silent.ping()
    before = view.cpu_seconds()
    if silent.wait_for_data(WATCHED_SECONDS):
        raise AssertionError(f"a client was told what it had not asked for: {silent.peek()!r}")
    facts.cpu = view.cpu_seconds() - before


def read_the_log(server: RunningServer, facts: Facts) -> None:
    """`complaints`: the log's lines, but for those of who came and who left."""
    lines = log_of(server).splitlines()
    facts.complaints = [line for line in lines if not COMING_OR_GOING.fullmatch(line)]


def told_of_complaints(facts: Facts) -> str:
    """How many there are, and the first one."""
    if not facts.complaints:
        return "0 lines"
    first = facts.complaints[0]
    lines = "1 line" if len(facts.complaints) == 1 else f"{len(facts.complaints)} lines"
    return f"{lines}: {first[:100]}"


def stop(server: RunningServer, facts: Facts) -> None:
    """`status` at the end, after SIGTERM, and how many `tracebacks` the log has."""
    facts.status = server.stop()
    facts.tracebacks = log_of(server).count("Traceback")


def first_line(server: RunningServer) -> str:
    """What a new client is told first; then it goes."""
    with LineClient(server.address) as client:
        try:
            return client.read_line()
        except EOFError:
            return "closed without a word"


def first_line_of_a_newcomer_to(server: RunningServer) -> str:
    """The greeting, once one comes; what comes instead, if none does within 10 s."""
    line = ""

    def is_let_in() -> bool:
        nonlocal line
        line = first_line(server)
        return is_greeting(line)

    # What would make this wait in vain is what we return.
    with contextlib.suppress(TimeoutError):
        wait_until(is_let_in, "a newcomer to be greeted")
    return line


NEWCOMER_IS_GREETED = Claim(
    "then a newcomer is greeted",
    lambda facts: "greeted" if is_greeting(facts.newcomer) else f"`{facts.newcomer}`",
    lambda facts: is_greeting(facts.newcomer),
)
