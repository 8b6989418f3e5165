"""L2: a server that runs out of descriptors (EMFILE)."""

import contextlib

from harness.crowd import Crowd
from harness.joining import joined
from harness.launcher import VERSIONS, RunningServer
from harness.line_client import LineClient
from harness.proc import ProcessView
from harness.server_under_test import ServerUnderTest, extra_descriptors
from harness.session import Session
from harness.system import at_most_descriptors
from tests.limits import observing
from tests.limits.claims import PROC, SOMEBODYS, Claim, Facts, Limit

DESCRIPTORS = 40
# Few enough: there are no more clients that wait than clients that were greeted, and will go.
CLIENTS = 50


def run(server: ServerUnderTest, session: Session, facts: Facts) -> None:
    """Let more clients come than there are descriptors, look, and let some of them go."""
    descriptors = DESCRIPTORS + extra_descriptors(server)
    limited = at_most_descriptors(descriptors)
    with server.running(session=session, preexec_fn=limited) as running:
        with joined(running, "alice", "bob") as (alice, bob), observing.new_crowd(running) as room:
            _use_up(descriptors, running, alice, bob, room, facts)
        observing.stop(running, facts)


def _use_up(
    descriptors: int,
    server: RunningServer,
    alice: LineClient,
    bob: LineClient,
    room: Crowd,
    facts: Facts,
) -> None:
    view = ProcessView(server.pid)
    if PROC.is_met:
        facts.own = view.descriptors() - 2
    members = room.connect(f"client-{number}" for number in range(CLIENTS))
    if PROC.is_met:
        # If this waits in vain, the facts say why.
        with contextlib.suppress(TimeoutError):
            room.pump(lambda: view.descriptors() >= descriptors, "no descriptor to be left", 5)
    room.pump_until_quiet()
    observing.count_first_lines(members, facts)
    observing.watch_the_processor(view, alice, facts)
    observing.read_the_log(server, facts)
    facts.heard = "alice: hello" in [*alice.ask("hello"), *bob.ping()]
    observing.ask_for_work(alice, facts)
    waiting = [member for member in members if not member.incoming]
    for member in set(members).difference(waiting):
        room.reset(member)
    with contextlib.suppress(TimeoutError):
        room.pump(
            lambda: all(map(observing.is_greeted, waiting)), "a greeting for each who waited", 10
        )
    facts.greeted_later = sum(map(observing.is_greeted, waiting))
    newcomer = room.connect(["newcomer"])[0]
    with contextlib.suppress(TimeoutError):
        room.pump(lambda: observing.is_greeted(newcomer), "a greeting for a newcomer", 10)
    facts.newcomer_is_greeted = observing.is_greeted(newcomer)


def _hello_is_heard(predicted: str, profile: str) -> Claim:
    return Claim(
        predicted,
        lambda facts: "`alice: hello`" if facts.heard else "no `alice: hello`",
        lambda facts: facts.heard,
        profile=profile,
    )


LIMIT = Limit(
    "descriptors",
    f"{DESCRIPTORS} descriptors, {CLIENTS + 2} clients",
    lambda: (
        f"The new process gives itself RLIMIT_NOFILE = {DESCRIPTORS} (resource.setrlimit) and then "
        f"becomes the server. alice and bob come in; {CLIENTS} more connect, and accept() fails "
        "with EMFILE. In the end those of the crowd who were greeted go again."
    ),
    run,
    (
        Claim(
            "greets some; the others wait, nobody is closed",
            lambda facts: f"{facts.greeted} greeted, {facts.waiting} wait, {facts.closed} closed",
            lambda facts: (
                facts.greeted > 0 and (facts.greeted + facts.waiting, facts.closed) == (CLIENTS, 0)
            ),
            of=VERSIONS,
        ),
        Claim(
            "one for each descriptor left",
            lambda facts: (
                f"{facts.own} of its own + alice and bob + {facts.greeted} = "
                f"{facts.own + 2 + facts.greeted}"
            ),
            lambda facts: facts.own + 2 + facts.greeted == DESCRIPTORS,
            of=VERSIONS,
            needs=PROC,
        ),
        Claim(
            "greets some, and has no descriptor for all",
            lambda facts: f"{facts.greeted} greeted, {facts.refused} refused, {facts.waiting} wait",
            lambda facts: 0 < facts.greeted < DESCRIPTORS,
            of=(SOMEBODYS,),
        ),
        observing.claim_about_complaints("one line in the log", range(1, 2), *VERSIONS),
        observing.NO_FLOOD,
        observing.NO_SPINNING,
        _hello_is_heard("alice gets her line back", "echo"),
        _hello_is_heard("bob hears alice", "chat"),
        observing.claim_about_work("her `/work 5` is computed"),
        Claim(
            "then those who waited get in",
            lambda facts: f"{facts.greeted_later} of {facts.waiting} greeted",
            lambda facts: facts.greeted_later == facts.waiting,
            of=VERSIONS,
        ),
        Claim(
            "when some have gone, a newcomer gets in",
            lambda facts: "greeted" if facts.newcomer_is_greeted else "not greeted",
            lambda facts: facts.newcomer_is_greeted,
            of=(SOMEBODYS,),
        ),
    ),
)
