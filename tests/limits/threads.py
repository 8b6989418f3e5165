"""L2: a server to which the system refuses threads."""

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from harness.answers import SERVER_FULL
from harness.joining import joined
from harness.launcher import VERSIONS, RunningServer
from harness.line_client import LineClient
from harness.proc import ProcessView
from harness.server_under_test import ServerUnderTest
from harness.session import Session
from harness.system import Unavailable
from harness.waiting import wait_until
from tests.limits import observing
from tests.limits.claims import PROC, SOMEBODYS, Claim, Facts, Limit
from tests.limits.ways import (
    NO_MORE_THREADS_PREPARATION,
    no_more_threads_by_the_system,
    processes_are_bound,
)

# More than there are places: a place must not be lost with a thread that was refused.
CLIENTS = 30
PLACES = 20

NOT_V1 = ("v2_select", "v3_broadcast", "v4_asyncio")


def how() -> str:
    """How the limit is set: by the system where it binds us, otherwise where Python asks for it."""
    if processes_are_bound():
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


def run(server: ServerUnderTest, session: Session, facts: Facts) -> None:
    """Refuse threads for a while. Are clients let in meanwhile, and afterwards?"""
    with _server_that_can_be_refused_threads(server, session) as (running, refusal):
        with joined(running, "alice") as (alice,):
            _refuse_threads(running, alice, refusal, facts)
        observing.stop(running, facts)


def _refuse_threads(
    server: RunningServer,
    alice: LineClient,
    refusal: contextlib.AbstractContextManager,
    facts: Facts,
) -> None:
    view = ProcessView(server.pid)
    if PROC.is_met:
        facts.descriptors_before = view.descriptors()
        facts.threads_before = view.threads()
    with refusal:
        first_lines = [observing.first_line(server) for _ in range(CLIENTS)]
        facts.greeted = sum(map(observing.is_greeting, first_lines))
        facts.refused = first_lines.count(SERVER_FULL)
        if PROC.is_met:
            facts.threads = view.threads()
        observing.ask_for_work(alice, facts)
    observing.read_the_log(server, facts)
    observing.greet_a_newcomer(server, facts)
    if PROC.is_met:
        # If this waits in vain, the fact says why.
        with contextlib.suppress(TimeoutError):
            wait_until(
                lambda: view.descriptors() <= facts.descriptors_before,
                "the descriptors of those who went to be given back",
                session=server.session,
            )
        facts.descriptors = view.descriptors()


@contextlib.contextmanager
def _server_that_can_be_refused_threads(
    server: ServerUnderTest, session: Session
) -> Iterator[tuple[RunningServer, contextlib.AbstractContextManager]]:
    """A server, and a context manager: in its block the server gets no thread."""
    options = ("--max-clients", str(PLACES))
    if processes_are_bound():
        with server.running(*options, session=session) as running:
            yield running, no_more_threads_by_the_system(running)
        return
    if not server.takes_a_preparation:
        raise Unavailable(
            "RLIMIT_NPROC does not bind here, and the server is no plain `python FILE`"
        )
    with tempfile.TemporaryDirectory(prefix="no-more-threads-") as folder:
        flag = Path(folder, "flag")
        preparation = [NO_MORE_THREADS_PREPARATION, str(flag)]
        with server.running(*options, session=session, preparation=preparation) as running:
            yield running, _existing(flag)


@contextlib.contextmanager
def _existing(flag: Path) -> Iterator[None]:
    flag.touch()
    try:
        yield
    finally:
        flag.unlink()


def _first_lines_are(predicted: str, holds: Callable[[Facts], bool], *of: str) -> Claim:
    return Claim(
        predicted, lambda facts: f"{facts.greeted} greeted, {facts.refused} refused", holds, of
    )


LIMIT = Limit(
    "threads",
    "no more threads",
    how,
    run,
    (
        _first_lines_are(
            f"turns all away: `{SERVER_FULL}`",
            lambda facts: (facts.greeted, facts.refused) == (0, CLIENTS),
            "v1_threads",
        ),
        _first_lines_are(
            "does not notice: greets all",
            lambda facts: (facts.greeted, facts.refused) == (CLIENTS, 0),
            *NOT_V1,
        ),
        _first_lines_are(
            f"greets, or turns away: `{SERVER_FULL}`",
            lambda facts: facts.greeted + facts.refused == CLIENTS,
            SOMEBODYS,
        ),
        observing.claim_about_complaints("one line in the log", range(1, 2), "v1_threads"),
        observing.claim_about_complaints("no line in the log", range(1), *NOT_V1),
        observing.NO_FLOOD,
        observing.claim_about_work("`/work 5`: alice's own thread computes", ("v1_threads",)),
        observing.claim_about_work(
            "`/work 5`: its only thread computes", ("v2_select", "v3_broadcast")
        ),
        observing.claim_about_work(
            "`/work 5`: a thread that was made at the start computes", ("v4_asyncio",)
        ),
        observing.claim_about_work("`/work 5` of alice, who is in, is computed", (SOMEBODYS,)),
        observing.claim_that_it_is_as_before(
            "has as many threads as before", "threads", of=VERSIONS
        ),
        observing.NEWCOMER_IS_GREETED,
        observing.claim_that_it_is_as_before(
            "no descriptor is lost", "descriptors", then="afterwards"
        ),
    ),
)
