"""L2: a server to which the system refuses threads."""

import contextlib
import functools
import tempfile
from collections.abc import Iterator
from pathlib import Path

from harness.answers import SERVER_FULL
from harness.launcher import VERSIONS, RunningServer
from harness.line_client import LineClient
from harness.process_view import ProcessView
from harness.waiting import wait_until
from tests.limits.claims import PROC, Claim, Facts, Limit, NotTried
from tests.limits.observing import (
    NEWCOMER_IS_GREETED,
    first_line,
    first_line_of_a_newcomer_to,
    is_greeting,
    last_answer,
    read_the_log,
    stop,
    told_of_complaints,
)
from tests.limits.subject import SOMEBODYS, Subject
from tests.limits.ways import (
    NO_MORE_THREADS_PREPARATION,
    no_more_threads_by_the_system,
    processes_are_bound,
)

# More than there are places: a place must not be lost with a thread that was refused.
CLIENTS = 30
PLACES = 20
MOST_COMPLAINTS = 100
WORKED = "* worked 5 ms"

NOT_V1 = ("v2_select", "v3_broadcast", "v4_asyncio")


def how() -> str:
    """How the limit is set: by the system where it binds us, otherwise where Python asks it."""
    if system_refuses():
        way = "RLIMIT_NPROC of the running server is set to 1 (resource.prlimit): clone() fails."
    else:
        way = (
            "RLIMIT_NPROC does not bind root, and some systems do not count threads. So a few "
            "lines run in front of the server let threading.Thread.start() fail, as it does when "
            'the system refuses: "can\'t start new thread".'
        )
    return (
        f"{way} That begins when alice is in. {CLIENTS} clients come and go one by one "
        f"(--max-clients {PLACES}), alice asks for work; then threads can be had again."
    )


@functools.cache
def system_refuses() -> bool:
    """Whether RLIMIT_NPROC does it here."""
    return processes_are_bound()


def run(subject: Subject, facts: Facts) -> None:
    """Refuse threads for a while; see who is let in meanwhile, and afterwards."""
    with _server_that_can_be_refused_threads(subject) as (server, refusal):
        with LineClient(server.address) as alice:
            _refuse_threads(server, alice, refusal, facts)
        stop(server, facts)


def _refuse_threads(
    server: RunningServer,
    alice: LineClient,
    refusal: contextlib.AbstractContextManager,
    facts: Facts,
) -> None:
    view = ProcessView(server.process.pid)
    alice.join("alice")
    if PROC.is_met:
        facts.descriptors_before = view.descriptors()
        facts.threads_before = view.threads()
    with refusal:
        told = [first_line(server) for _ in range(CLIENTS)]
        facts.greeted = sum(map(is_greeting, told))
        facts.refused = told.count(SERVER_FULL)
        if PROC.is_met:
            facts.threads = view.threads()
        facts.answer = last_answer(alice, "/work 5")
    read_the_log(server, facts)
    facts.newcomer = first_line_of_a_newcomer_to(server)
    if PROC.is_met:
        # What would make this wait in vain is seen in the fact.
        with contextlib.suppress(TimeoutError):
            wait_until(
                lambda: view.descriptors() <= facts.descriptors_before,
                "the descriptors of those who went to be given back",
            )
        facts.descriptors = view.descriptors()


@contextlib.contextmanager
def _server_that_can_be_refused_threads(
    subject: Subject,
) -> Iterator[tuple[RunningServer, contextlib.AbstractContextManager]]:
    """A server, and a block (`with`) in which it gets no thread."""
    options = ("--max-clients", str(PLACES))
    if system_refuses():
        with subject.run(*options) as server:
            yield server, no_more_threads_by_the_system(server)
        return
    if not subject.takes_a_preparation:
        raise NotTried("RLIMIT_NPROC does not bind here, and the server is no plain `python FILE`")
    with tempfile.TemporaryDirectory(prefix="no-more-threads-") as folder:
        flag = Path(folder, "flag")
        with subject.run(*options, preparation=[NO_MORE_THREADS_PREPARATION, str(flag)]) as server:
            yield server, _existing(flag)


@contextlib.contextmanager
def _existing(flag: Path) -> Iterator[None]:
    flag.touch()
    try:
        yield
    finally:
        flag.unlink()


LIMIT = Limit(
    "threads",
    "no more threads",
    how,
    run,
    (
        Claim(
            f"turns all away: `{SERVER_FULL}`",
            lambda facts: f"{facts.greeted} greeted, {facts.refused} refused",
            lambda facts: (facts.greeted, facts.refused) == (0, CLIENTS),
            of=("v1_threads",),
        ),
        Claim(
            "does not notice: greets all",
            lambda facts: f"{facts.greeted} greeted, {facts.refused} refused",
            lambda facts: (facts.greeted, facts.refused) == (CLIENTS, 0),
            of=NOT_V1,
        ),
        Claim(
            f"greets, or turns away: `{SERVER_FULL}`",
            lambda facts: f"{facts.greeted} greeted, {facts.refused} refused",
            lambda facts: facts.greeted + facts.refused == CLIENTS,
            of=(SOMEBODYS,),
        ),
        Claim(
            "one line in the log",
            told_of_complaints,
            lambda facts: len(facts.complaints) == 1,
            of=("v1_threads",),
        ),
        Claim(
            "no line in the log",
            told_of_complaints,
            lambda facts: not facts.complaints,
            of=NOT_V1,
        ),
        Claim(
            "no flood in the log",
            told_of_complaints,
            lambda facts: len(facts.complaints) <= MOST_COMPLAINTS,
            of=(SOMEBODYS,),
        ),
        Claim(
            "`/work 5`: alice's own thread computes",
            lambda facts: f"`{facts.answer}`",
            lambda facts: facts.answer == WORKED,
            of=("v1_threads",),
        ),
        Claim(
            "`/work 5`: its only thread computes",
            lambda facts: f"`{facts.answer}`",
            lambda facts: facts.answer == WORKED,
            of=("v2_select", "v3_broadcast"),
        ),
        Claim(
            "`/work 5`: a thread that was made at the start computes",
            lambda facts: f"`{facts.answer}`",
            lambda facts: facts.answer == WORKED,
            of=("v4_asyncio",),
        ),
        Claim(
            "`/work 5` of alice, who is in, is computed",
            lambda facts: f"`{facts.answer}`",
            lambda facts: facts.answer == WORKED,
            of=(SOMEBODYS,),
        ),
        Claim(
            "has as many threads as before",
            lambda facts: f"{facts.threads_before} before, {facts.threads} now",
            lambda facts: facts.threads == facts.threads_before,
            of=VERSIONS,
            needs=PROC,
        ),
        NEWCOMER_IS_GREETED,
        Claim(
            "no descriptor is lost",
            lambda facts: f"{facts.descriptors_before} before, {facts.descriptors} afterwards",
            lambda facts: facts.descriptors == facts.descriptors_before,
            needs=PROC,
        ),
    ),
)
