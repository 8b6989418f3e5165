"""What the processes that test a server have written, read from their JSON in one place."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from harness.conformance import Fault
from tests.suite.rule_report import Outcome, Result, outcomes_in

# A server that greets its clients in another way than H1 wants lets nobody in, so nothing else can
# be tested: unless it greets the first of all clients as it should.
NOTHING_WITHOUT = "H1"


@dataclass(frozen=True)
class Preflight:
    """What the short check before all tests has found: nothing, an error, or a fault.

    `error` is why the server could not be checked at all. `ending` is how the server ended after
    its fault, empty if it did not. `greets_the_first` is whether the first client of a new server
    is greeted. Both are None where nobody has looked.
    """

    error: str | None = None
    fault: Fault | None = None
    ending: str | None = None
    greets_the_first: bool | None = None

    @classmethod
    def from_json(cls, written: dict[str, Any] | None) -> "Preflight":
        """The "preflight" of a rule report, or of tests.grade.worker: an error, or a fault."""
        if written is None:
            return cls()
        if "error" in written:
            return cls(error=written["error"])
        fault = Fault(**{each.name: written[each.name] for each in dataclasses.fields(Fault)})
        return cls(None, fault, written.get("server"), written.get("greets_the_first"))

    def as_json(self) -> dict[str, Any] | None:
        """The opposite of `from_json`."""
        if self.error is not None:
            return {"error": self.error}
        if self.fault is None:
            return None
        seen = {"server": self.ending, "greets_the_first": self.greets_the_first}
        known = {name: value for name, value in seen.items() if value is not None}
        return dataclasses.asdict(self.fault) | known

    @property
    def is_passed(self) -> bool:
        """Whether it has found nothing."""
        return self.error is None and self.fault is None

    @property
    def broken_rule(self) -> str | None:
        """The rule that the fault is about."""
        return self.fault.rule if self.fault else None

    @property
    def nobody_gets_in(self) -> bool:
        """Whether there is nothing to test: no server, or no greeting."""
        if self.error is not None:
            return True
        return self.broken_rule == NOTHING_WITHOUT and not self.greets_the_first


@dataclass(frozen=True)
class RuleReport:
    """What a run of the suite, or of a task's given tests, has written about a server.

    `anybody_was_in` is whether any client was let in (H3): nothing else is known without.
    """

    outcomes: list[Outcome] = field(default_factory=list)
    preflight: Preflight = Preflight()
    cut_short: str | None = None
    begin_with: str | None = None
    anybody_was_in: bool = True

    @classmethod
    def from_json(cls, written: dict[str, Any]) -> "RuleReport":
        """The contents of the file that --rule-report writes."""
        cut_short = written["cut_short"]
        outcomes = outcomes_in(written)
        for outcome in outcomes:
            # The run has ended before it, or in the middle of it.
            if outcome.result == Result.NOT_RUN and not outcome.message:
                outcome.message = cut_short or ""
        preflight = Preflight.from_json(written["preflight"])
        return cls(outcomes, preflight, cut_short, written["begin_with"], written["anybody_was_in"])

    def tests_of(self, rule: str) -> list[Outcome]:
        """The tests that are about a rule first; if there are none, those that name it."""
        own = [outcome for outcome in self.outcomes if outcome.rules[0] == rule]
        return own or [outcome for outcome in self.outcomes if rule in outcome.rules]
