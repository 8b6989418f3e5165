"""L2: more clients than select() can watch (FD_SETSIZE)."""

from harness.answers import SERVER_FULL
from harness.crowd import Crowd, Member
from harness.joining import joined
from harness.launcher import RunningServer
from harness.line_client import LineClient
from harness.proc import ProcessView
from harness.server_under_test import ServerUnderTest
from harness.session import Session
from harness.system import at_most_descriptors, room_for_descriptors
from tests.limits import observing
from tests.limits.claims import PROC, SOMEBODYS, Claim, Facts, Limit

FD_SETSIZE = 1024
CLIENTS = 1100
DESCRIPTORS = 3000
# Fewer than any system keeps for a listener (SOMAXCONN).
BATCH = 50

WITH_SELECT = ("v2_select", "v3_broadcast")
WITHOUT_SELECT = ("v1_threads", "v4_asyncio")


def run(server: ServerUnderTest, session: Session, facts: Facts) -> None:
    """Let them all come, talk to the last one, and let somebody come in place of the first."""
    limited = at_most_descriptors(DESCRIPTORS)
    with (
        room_for_descriptors(DESCRIPTORS),
        server.running("--max-clients", "2000", session=session, preexec_fn=limited) as running,
    ):
        with joined(running, "alice") as (alice,), observing.new_crowd(running) as room:
            _let_all_come(running, alice, room, facts)
        observing.stop(running, facts)


def _let_all_come(server: RunningServer, alice: LineClient, room: Crowd, facts: Facts) -> None:
    view = ProcessView(server.pid)
    if PROC.is_met:
        facts.own = view.descriptors() - 1
        facts.threads_before = view.threads()
    members = _connect_in_batches(room)
    observing.count_first_lines(members, facts)
    if PROC.is_met:
        facts.threads = view.threads()
    refused = [member for member in members if observing.is_refused(member)]
    room.pump(lambda: all(member.closed for member in refused), "the end of the refused")
    facts.closed = sum(member.closed for member in members)
    greeted = [member for member in members if observing.is_greeted(member)]
    if not greeted:
        raise AssertionError("nobody was greeted")
    facts.answers = _talk_to(room, greeted[-1])
    facts.online = observing.last_answer(alice, "/list")
    room.reset(greeted[0])
    observing.greet_a_newcomer(server, facts)


def _connect_in_batches(room: Crowd) -> list[Member]:
    """Connect them, and wait each time until all of a batch have been told something."""
    members: list[Member] = []
    while len(members) < CLIENTS:
        names = [f"client-{len(members) + number}" for number in range(BATCH)]
        members.extend(room.connect(names))
        room.pump(lambda: all(each.incoming or each.closed for each in members), "first lines")
    return members


def _talk_to(room: Crowd, member: Member) -> list[str]:
    """Let it give its name and ask; returns the answers."""
    member.incoming.clear()
    member.outgoing += b"the-last\n/ping x\n"
    room.pump(lambda: b"* pong x\n" in member.incoming, "an answer to the last one greeted")
    return member.lines()


def _told_of_first_lines(facts: Facts) -> str:
    return f"{facts.greeted} of {CLIENTS} greeted, {facts.refused} refused"


LIMIT = Limit(
    "select",
    f"{CLIENTS + 1} clients, more than select() can watch",
    lambda: (
        f"Descriptors are no limit here (RLIMIT_NOFILE = {DESCRIPTORS} by resource.setrlimit, "
        f"--max-clients 2000). But select() has one bit for each descriptor below {FD_SETSIZE}, "
        f"and no more. After alice, {CLIENTS} clients connect and say nothing. Then the last one "
        "greeted gives its name; in the end the first one greeted goes, and somebody new comes."
    ),
    run,
    (
        Claim(
            "greets all",
            _told_of_first_lines,
            lambda facts: facts.greeted == CLIENTS,
            of=WITHOUT_SELECT,
        ),
        Claim(
            f"greets fewer than {FD_SETSIZE}, refuses the rest: `{SERVER_FULL}`",
            _told_of_first_lines,
            lambda facts: (
                0 < facts.greeted < FD_SETSIZE and facts.greeted + facts.refused == CLIENTS
            ),
            of=WITH_SELECT,
        ),
        Claim(
            f"has {FD_SETSIZE} descriptors then, 0 to {FD_SETSIZE - 1}",
            lambda facts: (
                f"{facts.own} of its own + alice + {facts.greeted} = "
                f"{facts.own + 1 + facts.greeted}"
            ),
            lambda facts: facts.own + 1 + facts.greeted == FD_SETSIZE,
            of=WITH_SELECT,
            needs=PROC,
        ),
        Claim(
            f"greets, or refuses: `{SERVER_FULL}`",
            _told_of_first_lines,
            lambda facts: facts.greeted > 0 and facts.greeted + facts.refused == CLIENTS,
            of=(SOMEBODYS,),
        ),
        Claim(
            "a thread for each of them",
            lambda facts: f"{facts.threads_before} threads before, {facts.threads} now",
            lambda facts: facts.threads - facts.threads_before == CLIENTS,
            of=("v1_threads",),
            needs=PROC,
        ),
        observing.claim_that_it_is_as_before(
            "no thread more than before", "threads", of=("v2_select", "v3_broadcast", "v4_asyncio")
        ),
        Claim(
            "nobody greeted is closed",
            lambda facts: f"{facts.closed - facts.refused} of {facts.greeted} closed",
            lambda facts: facts.closed == facts.refused,
        ),
        Claim(
            "the last one greeted is served",
            lambda facts: ", ".join(f"`{line}`" for line in facts.answers),
            lambda facts: facts.answers == ["* hello the-last", "* pong x"],
        ),
        observing.claim_about_a_line("and so is alice", "online", "* 2 online: alice, the-last"),
        observing.NEWCOMER_IS_GREETED,
    ),
)
