"""L2: a server that runs out of descriptors (EMFILE)."""

import contextlib

from harness.launcher import VERSIONS, RunningServer
from harness.line_client import LineClient
from harness.process_view import ProcessView
from tests.crowd import Crowd
from tests.limits.claims import PROC, Claim, Facts, Limit
from tests.limits.observing import (
    NO_SPINNING,
    count_first_lines,
    is_greeted,
    last_answer,
    read_the_log,
    stop,
    told_of_complaints,
    watch_the_processor,
)
from tests.limits.subject import SOMEBODYS, Subject
from tests.limits.ways import at_most_descriptors

DESCRIPTORS = 40
# So many that those who wait are no more than those who were greeted, and will go.
CLIENTS = 50
# Of a server that is not ours nobody knows how it words its log.
MOST_COMPLAINTS = 100


def how() -> str:
    """How the limit is set."""
    return (
        f"The new process gives itself RLIMIT_NOFILE = {DESCRIPTORS} (resource.setrlimit) and then "
        f"becomes the server. alice and bob come in; {CLIENTS} more connect, and accept() fails "
        "with EMFILE. In the end those of the crowd who were greeted go again."
    )


def run(subject: Subject, facts: Facts) -> None:
    """Let more clients come than there are descriptors, look, and let some of them go."""
    with subject.run(preexec_fn=at_most_descriptors(DESCRIPTORS)) as server:
        with contextlib.ExitStack() as clients:
            _use_up_descriptors(server, clients, facts)
        stop(server, facts)


def _use_up_descriptors(server: RunningServer, clients: contextlib.ExitStack, facts: Facts) -> None:
    view = ProcessView(server.process.pid)
    alice, bob = (clients.enter_context(LineClient(server.address)) for _ in range(2))
    for client, name in ((alice, "alice"), (bob, "bob")):
        client.join(name)
    bob.ping()
    room = clients.enter_context(Crowd(server.address, server.profile))
    if PROC.is_met:
        facts.own = view.descriptors() - 2
    members = room.connect(f"client-{number}" for number in range(CLIENTS))
    if PROC.is_met:
        # What would make this wait in vain is seen in the facts.
        with contextlib.suppress(TimeoutError):
            room.pump(lambda: view.descriptors() >= DESCRIPTORS, "no descriptor to be left", 5)
    room.pump_until_quiet()
    count_first_lines(members, facts)
    watch_the_processor(view, alice, facts)
    read_the_log(server, facts)
    facts.heard = "alice: hello" in [*alice.ask("hello"), *bob.ping()]
    facts.answer = last_answer(alice, "/work 5")
    waiting = [member for member in members if not member.incoming]
    for member in set(members).difference(waiting):
        room.reset(member)
    with contextlib.suppress(TimeoutError):
        room.pump(lambda: all(map(is_greeted, waiting)), "a greeting for each who waited", 10)
    facts.greeted_later = sum(map(is_greeted, waiting))


LIMIT = Limit(
    "descriptors",
    f"{DESCRIPTORS} descriptors, {CLIENTS + 2} clients",
    how,
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
        Claim(
            "one line in the log",
            told_of_complaints,
            lambda facts: len(facts.complaints) == 1,
            of=VERSIONS,
        ),
        Claim(
            "no flood in the log",
            told_of_complaints,
            lambda facts: len(facts.complaints) <= MOST_COMPLAINTS,
            of=(SOMEBODYS,),
        ),
        NO_SPINNING,
        Claim(
            "alice gets her line back",
            lambda facts: "`alice: hello`" if facts.heard else "no `alice: hello`",
            lambda facts: facts.heard,
            profile="echo",
        ),
        Claim(
            "bob hears alice",
            lambda facts: "`alice: hello`" if facts.heard else "no `alice: hello`",
            lambda facts: facts.heard,
            profile="chat",
        ),
        Claim(
            "her `/work 5` is computed",
            lambda facts: f"`{facts.answer}`",
            lambda facts: facts.answer == "* worked 5 ms",
        ),
        Claim(
            "then those who waited get in",
            lambda facts: f"{facts.greeted_later} of {facts.waiting} greeted",
            lambda facts: facts.greeted_later == facts.waiting,
        ),
    ),
)
