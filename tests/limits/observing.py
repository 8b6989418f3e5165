"""What several limits look at: the log, the first lines that clients get, the processor."""

import contextlib
import re

from harness.answers import SERVER_FULL
from harness.crowd import Crowd, Member
from harness.launcher import RunningServer
from harness.line_client import LineClient
from harness.proc import ProcessView
from harness.waiting import wait_until
from tests.limits.claims import EVERYBODY, PROC, SOMEBODYS, Claim, Facts

WATCHED_SECONDS = 0.2
WORKED = "* worked 5 ms"
# Nobody knows how a server that is not ours words its log, and how much it logs by right.
MOST_COMPLAINTS = 100

# What each line of our servers' log begins with; the address of a client is in most.
STAMP = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d (?P<level>[A-Z]+) (?:\S+:\d+ )?")
# What our servers log of clients that come and go.
COMING_OR_GOING = re.compile(r".* (joined|left)")


def new_client(server: RunningServer) -> LineClient:
    """A client of this server."""
    return LineClient(server.address, session=server.session)


def new_crowd(server: RunningServer) -> Crowd:
    """An empty crowd; its members will be clients of this server."""
    return Crowd(server.address, server.profile, server.session)


# ---- The processor ----


def watch_the_processor(view: ProcessView, silent: LineClient, facts: Facts) -> None:
    """`cpu`: the CPU time used in WATCHED_SECONDS in which no client asks for anything."""
    if not PROC.is_met:
        return
    silent.ping()
    before = view.cpu_seconds()
    if silent.wait_for_data(WATCHED_SECONDS):
        raise AssertionError(f"a client was told what it had not asked for: {silent.peek()!r}")
    facts.cpu = view.cpu_seconds() - before


NO_SPINNING = Claim(
    "no spinning: under half a core",
    lambda facts: f"{facts.cpu:.2f} s of CPU in {WATCHED_SECONDS:g} s",
    lambda facts: facts.cpu < WATCHED_SECONDS / 2,
    needs=PROC,
)


# ---- The log ----


def read_the_log(server: RunningServer, facts: Facts) -> None:
    """`complaints`: the log's lines, except those about clients that come and go."""
    lines = server.log().splitlines()
    facts.complaints = [
        without_stamp(line) for line in lines if not COMING_OR_GOING.fullmatch(line)
    ]


def without_stamp(line: str) -> str:
    """A line of our servers' log without the time and the address, which are never the same."""
    return STAMP.sub(r"\g<level> ", line, count=1)


def claim_about_complaints(predicted: str, numbers: range, *of: str) -> Claim:
    """So many lines will be what `read_the_log` notes."""
    return Claim(predicted, _told_of_complaints, lambda f: len(f.complaints) in numbers, of)


def _told_of_complaints(facts: Facts) -> str:
    """How many there are, and the first one."""
    if not facts.complaints:
        return "0 lines"
    first = facts.complaints[0]
    lines = "1 line" if len(facts.complaints) == 1 else f"{len(facts.complaints)} lines"
    return f"{lines}: {first[:100]}"


def claim_that_it_is_as_before(
    predicted: str, fact: str, then: str = "now", of: tuple[str, ...] = EVERYBODY
) -> Claim:
    """The fact of this name will be what FACT_before is."""
    return Claim(
        predicted,
        lambda facts: f"{getattr(facts, f'{fact}_before')} before, {getattr(facts, fact)} {then}",
        lambda facts: getattr(facts, fact) == getattr(facts, f"{fact}_before"),
        of=of,
        needs=PROC,
    )


NO_FLOOD = claim_about_complaints("no flood in the log", range(MOST_COMPLAINTS + 1), SOMEBODYS)


def stop(server: RunningServer, facts: Facts) -> None:
    """`status` at the end, after SIGTERM, and how many `tracebacks` the log has."""
    facts.status = server.stop()
    facts.tracebacks = server.log().count("Traceback")


# ---- What clients are told ----


def ask_for_work(client: LineClient, facts: Facts) -> None:
    """`answer`: what a client gets for `/work 5`."""
    facts.answer = last_answer(client, "/work 5")


def claim_about_a_line(predicted: str, fact: str, line: str, **audience) -> Claim:
    """The fact of this name will be this line. `audience` is as in Claim."""
    return Claim(
        predicted,
        lambda facts: f"`{getattr(facts, fact)}`",
        lambda facts: getattr(facts, fact) == line,
        **audience,
    )


def claim_about_work(predicted: str, of: tuple[str, ...] = EVERYBODY) -> Claim:
    """The work that `ask_for_work` asks for will be done."""
    return claim_about_a_line(predicted, "answer", WORKED, of=of)


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


def count_first_lines(members: list[Member], facts: Facts) -> None:
    """How many were `greeted`, `refused`, are `closed`, or are `waiting` for a first word."""
    facts.greeted = sum(map(is_greeted, members))
    facts.refused = sum(map(is_refused, members))
    facts.closed = sum(member.closed for member in members)
    facts.waiting = sum(not member.incoming and not member.closed for member in members)


def first_line(server: RunningServer) -> str:
    """What a new client is told first; then it goes."""
    with new_client(server) as client:
        try:
            return client.read_line()
        except EOFError:
            return "closed without a word"


def greet_a_newcomer(server: RunningServer, facts: Facts) -> None:
    """`newcomer`: the greeting, once one comes; what comes instead, if none does within 10 s."""
    facts.newcomer = ""

    def is_let_in() -> bool:
        facts.newcomer = first_line(server)
        return is_greeting(facts.newcomer)

    # If this waits in vain, the fact says why.
    with contextlib.suppress(TimeoutError):
        wait_until(is_let_in, "a newcomer to be greeted", session=server.session)


NEWCOMER_IS_GREETED = Claim(
    "then a newcomer is greeted",
    lambda facts: "greeted" if is_greeting(facts.newcomer) else f"`{facts.newcomer}`",
    lambda facts: is_greeting(facts.newcomer),
)
