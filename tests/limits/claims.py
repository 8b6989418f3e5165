"""A prediction, what came of it, and how the two are compared."""

import dataclasses
import os
import types
from collections.abc import Callable, Iterable

from harness.launcher import VERSIONS
from tests.limits.subject import FAILURES, SOMEBODYS, Subject

HELD = "yes"
BROKEN = "NO"
UNSEEN = "-"


class NotTried(Exception):
    """A limit that cannot be set here: one line that says why."""


class Facts(types.SimpleNamespace):
    """What was observed, by name; what has not been reached is no attribute (AttributeError)."""


@dataclasses.dataclass(frozen=True)
class Need:
    """What a system must have for something to be seen: how its lack is told, and if it has it."""

    lack: str
    is_met: bool


PROC = Need("this system has no /proc", os.path.isdir("/proc/self/task"))
SIGNALS = Need("this system has no SIGTERM to obey", os.name == "posix")


@dataclasses.dataclass(frozen=True)
class Claim:
    """One prediction: in words, what to say of the facts, and whether they are as predicted.

    It is made for the versions in `of` (SOMEBODYS stands for a server that is not ours), and for
    one profile or both.
    """

    predicted: str
    did: Callable[[Facts], str]
    holds: Callable[[Facts], bool]
    of: tuple[str, ...] = (*VERSIONS, SOMEBODYS)
    profile: str | None = None
    needs: Need | None = None

    def is_about(self, subject: Subject) -> bool:
        """Whether it is made for this server."""
        name = subject.name if subject.is_ours else SOMEBODYS
        return name in self.of and self.profile in (None, subject.profile)


@dataclasses.dataclass(frozen=True)
class Limit:
    """What is taken from a server, in `how` a paragraph on how that is done, and what will come.

    `run` fills in the facts. It raises NotTried, or one of FAILURES.
    """

    name: str
    title: str
    how: Callable[[], str]
    run: Callable[[Subject, Facts], None]
    claims: tuple[Claim, ...]


@dataclasses.dataclass(frozen=True)
class Row:
    """One prediction beside what was observed; the verdict is HELD, BROKEN or UNSEEN."""

    server: str
    predicted: str
    did: str
    verdict: str


# With this each limit ends.
STOPS_IN_GOOD_ORDER = Claim(
    "stops: status 0, no traceback",
    lambda facts: f"status {facts.status}, {facts.tracebacks} tracebacks",
    lambda facts: facts.status == 0 and facts.tracebacks == 0,
    needs=SIGNALS,
)


def examine(limit: Limit, subject: Subject) -> list[Row]:
    """Bring a server to a limit, and compare what it does with each prediction."""
    facts = Facts()
    failure = None
    try:
        limit.run(subject, facts)
    except NotTried as reason:
        return [Row(subject.name, "nothing", f"not tried: {reason}", UNSEEN)]
    except FAILURES as error:
        failure = " ".join(str(error).split())
    claims = [claim for claim in (*limit.claims, STOPS_IN_GOOD_ORDER) if claim.is_about(subject)]
    rows = list(_compare(subject.name, claims, facts, failure))
    if failure is not None and not any(row.did == failure for row in rows):
        rows.append(Row(subject.name, "all of this can be seen", failure, BROKEN))
    return rows


def _compare(
    name: str, claims: Iterable[Claim], facts: Facts, failure: str | None
) -> Iterable[Row]:
    """A row for each claim. The first one whose facts are missing tells of the failure."""
    told = False
    for claim in claims:
        if claim.needs and not claim.needs.is_met:
            yield Row(name, claim.predicted, f"not seen: {claim.needs.lack}", UNSEEN)
            continue
        try:
            did = claim.did(facts)
            verdict = HELD if claim.holds(facts) else BROKEN
        except AttributeError:
            # Without a failure all facts are there, and a missing one is a mistake in a limit.
            if failure is None:
                raise
            did = "this was not reached" if told else failure
            told = True
            verdict = BROKEN
        yield Row(name, claim.predicted, did, verdict)
