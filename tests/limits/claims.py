"""A prediction, what came of it, and how the two are compared."""

import dataclasses
import enum
import os
import types
from collections.abc import Callable

from harness import proc
from harness.launcher import VERSIONS
from harness.server_under_test import FAILURES, ServerUnderTest
from harness.session import Session
from harness.system import Unavailable

# In a claim this name stands for any server that is not one of our four.
SOMEBODYS = "server"
EVERYBODY = (*VERSIONS, SOMEBODYS)


class Verdict(enum.StrEnum):
    """What became of a prediction, as the table says it."""

    HELD = "yes"
    BROKEN = "NO"
    UNSEEN = "-"


class NotReached(AttributeError):
    """A fact that was not observed, because the server failed before."""


class Facts(types.SimpleNamespace):
    """What was observed, by name. To ask for something else raises NotReached."""

    def __getattr__(self, name: str) -> object:
        raise NotReached(name)


@dataclasses.dataclass(frozen=True)
class Need:
    """What a system must have for something to be seen; `lack` says that it does not."""

    lack: str
    is_met: bool


PROC = Need("this system has no /proc", proc.CAN_SEE)
SIGNALS = Need("this system has no SIGTERM to obey", os.name == "posix")


@dataclasses.dataclass(frozen=True)
class Claim:
    """One prediction: in words, what to say of the facts, and whether they are as predicted.

    It is made for the versions in `of`, and for one profile or both. `rule` is another rule than
    the limit's, if the prediction comes from one.
    """

    predicted: str
    did: Callable[[Facts], str]
    holds: Callable[[Facts], bool]
    of: tuple[str, ...] = EVERYBODY
    profile: str | None = None
    needs: Need | None = None
    rule: str | None = None

    def is_about(self, server: ServerUnderTest) -> bool:
        """Whether it is made for this server."""
        right_version = (server.version or SOMEBODYS) in self.of
        return right_version and self.profile in (None, server.profile)

    def compare(self, facts: Facts) -> tuple[str, Verdict]:
        """What the server did, and what that says of the prediction. Raises NotReached."""
        if self.needs and not self.needs.is_met:
            return f"not seen: {self.needs.lack}", Verdict.UNSEEN
        return self.did(facts), Verdict.HELD if self.holds(facts) else Verdict.BROKEN


@dataclasses.dataclass(frozen=True)
class Limit:
    """What is taken from a server, in `how` a paragraph on how that is done, and what will come.

    `run` brings the server to the limit and fills in the facts. It raises Unavailable, or one of
    FAILURES.
    """

    name: str
    title: str
    how: Callable[[], str]
    run: Callable[[ServerUnderTest, Session, Facts], None]
    claims: tuple[Claim, ...]


@dataclasses.dataclass(frozen=True)
class Row:
    """One prediction beside what was observed. `place` is where the prediction stands in a limit.

    A row about a whole limit has no place of its own, and comes last. Where the server has failed
    before this could be observed, `did` tells of that, and `is_reached` is False.
    """

    server: str
    predicted: str
    did: str
    verdict: Verdict
    place: int = 1000
    rule: str | None = None
    is_reached: bool = True


# Every limit ends with this.
STOPS_IN_GOOD_ORDER = Claim(
    "stops: status 0, no traceback",
    lambda facts: f"status {facts.status}, {facts.tracebacks} tracebacks",
    lambda facts: facts.status == 0 and facts.tracebacks == 0,
    needs=SIGNALS,
    rule="L4",
)


def examine(limit: Limit, server: ServerUnderTest, session: Session | None = None) -> list[Row]:
    """Bring a server to a limit, and compare what it does with each prediction."""
    facts = Facts()
    failure = None
    try:
        limit.run(server, session or Session(), facts)
    except Unavailable as reason:
        return [Row(server.name, "nothing", f"not tried: {reason}", Verdict.UNSEEN)]
    except FAILURES as error:
        failure = " ".join(str(error).split())
    # The first claim whose facts are missing tells of the failure.
    untold = failure
    rows = []
    for place, claim in enumerate((*limit.claims, STOPS_IN_GOOD_ORDER)):
        if not claim.is_about(server):
            continue
        is_reached = True
        try:
            did, verdict = claim.compare(facts)
        except NotReached:
            is_reached = False
            # Without a failure all facts are there, so a missing one is a mistake in the limit.
            if failure is None:
                raise
            did, verdict = untold or "this was not reached", Verdict.BROKEN
            untold = None
        row = Row(server.name, claim.predicted, did, verdict, place, claim.rule, is_reached)
        rows.append(row)
    if untold is not None:
        row = Row(server.name, "all of this can be seen", untold, Verdict.BROKEN, is_reached=False)
        rows.append(row)
    return rows
