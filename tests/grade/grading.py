"""Grade one submission: run the suite, look at the model, and turn both into points."""

import time
from dataclasses import dataclass, field
from pathlib import Path

from tests import rules as rule_texts
from tests.grade import model as models
from tests.grade import points, suite
from tests.grade.containment import Containment, Limits
from tests.grade.model import Evidence, Verdict
from tests.grade.points import MODEL_POINTS, RuleGrade

# What the look at the model may take: it takes 5 to 7 s for a server that answers. And what is
# left at the end, for the suite to end its run, and for us to end what is left.
MODEL_SECONDS = 30.0
END_SECONDS = suite.GRACE_SECONDS + 5.0
SHORT_CHECK_SECONDS = 30.0
# With another greeting than H1 nobody gets into the server, and no test can be about anything else:
# unless the first of all clients is greeted as it should.
NOTHING_WITHOUT = "H1"


@dataclass(frozen=True)
class Submission:
    """A server to grade: its name, its command with {port} and {options}, what is copied."""

    name: str
    command: str
    source: Path | None = None


@dataclass(frozen=True)
class Order:
    """What is to be graded, and within which limits. `time_limit` is in seconds, for all of it."""

    profile: str
    model: str | None = None
    task: str | None = None  # a folder in tasks/: its rules are graded, not those of the protocol
    rules: tuple[str, ...] = ()  # empty: all of them
    model_alone: bool = False
    time_limit: float = 120.0
    limits: Limits = field(default_factory=Limits)


@dataclass
class Grade:
    """What became of a submission. Points are kept to a tenth and add up to `worth`."""

    name: str
    order: Order
    rules: list[RuleGrade]
    preflight: dict | None = None
    begin_with: str | None = None
    cut_short: str | None = None
    verdict: Verdict | None = None
    evidence: list[Evidence] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    left_behind: list[str] = field(default_factory=list)
    most_processes: int = 0
    most_memory: int = 0
    seconds: float = 0.0

    @property
    def worth(self) -> float:
        """The points that there were to be had."""
        return _sum(self.rules, "worth") + (MODEL_POINTS if self.verdict else 0.0)

    @property
    def earned(self) -> float:
        """The points of the submission."""
        return round(_sum(self.rules, "earned") + (self.verdict.earned if self.verdict else 0.0), 1)

    @property
    def not_graded(self) -> float:
        """The points that this system could not grade."""
        open_points = self.verdict.not_graded if self.verdict else 0.0
        return round(_sum(self.rules, "not_graded") + open_points, 1)

    def of_milestone(self, milestone: str) -> list[RuleGrade]:
        """The rules of a milestone that were graded."""
        members = rule_texts.milestones(self.order.task)[milestone]
        return [grade for grade in self.rules if grade.rule in members]

    def first_broken(self) -> str | None:
        """The rule to begin with: what the suite says, else the first that a test failed.

        Rules are in teaching order, so the first is one that later ones build on.
        """
        if self.begin_with in [each.rule for each in self.rules]:
            return self.begin_with
        return next((each.rule for each in self.rules if each.is_broken), None)


def _sum(grades: list[RuleGrade], what: str) -> float:
    return round(sum(getattr(grade, what) for grade in grades), 1)


def grade(submission: Submission, order: Order) -> Grade:
    """Grade a submission. It ends within the order's time limit, whatever the server does."""
    begin = time.monotonic()
    containment = Containment(order.limits, submission.source)
    try:
        with containment:
            result = _grade_contained(submission, order, containment, begin)
    # What the submission's folder holds cannot be copied, or is too much.
    except (OSError, ValueError) as error:
        result = not_graded(submission, order, models.one_line(error))
    result.notes = containment.notes
    result.left_behind = containment.left_behind
    result.most_processes = containment.most_processes
    result.most_memory = containment.most_memory
    result.seconds = time.monotonic() - begin
    return result


def not_graded(submission: Submission, order: Order, why: str) -> Grade:
    """The grade of a submission that could not be tested at all: no points, and why."""
    result = Grade(submission.name, order, [], {"error": why})
    if not order.model_alone:
        result.rules = points.grade_rules(
            {"rules": {}}, order.profile, order.rules, _share(order), order.task
        )
    result.verdict = _no_verdict(order, "it was not tested")
    return result


def _grade_contained(
    submission: Submission, order: Order, containment: Containment, begin: float
) -> Grade:
    """First whether anybody gets in, then the model, for it takes a known time, then the suite."""
    end = begin + order.time_limit - END_SECONDS
    arguments = (containment, submission.command, order.profile)
    found = suite.run_short_check(*arguments, _seconds_until(end, SHORT_CHECK_SECONDS))
    result = Grade(submission.name, order, [], found["preflight"])
    gets_in = not nobody_gets_in(found["preflight"])
    if order.model and gets_in:
        seen = suite.run_model(*arguments, _seconds_until(end, MODEL_SECONDS))
        result.evidence = [Evidence(**each) for each in seen["evidence"]]
        result.verdict = (
            _no_verdict(order, seen["error"])
            if "error" in seen
            else models.judge(result.evidence, order.model)
        )
    elif order.model:
        result.verdict = _no_verdict(order, "nobody gets into the server")
    if order.model_alone:
        return result
    report = {"rules": {}}
    if gets_in:
        report = suite.run_suite(*arguments, _seconds_until(end), order.rules, order.task)
        result.preflight = found["preflight"] or report["preflight"]
        result.begin_with = report.get("begin_with")
        result.cut_short = report["cut_short"]
    result.rules = points.grade_rules(report, order.profile, order.rules, _share(order), order.task)
    return result


def _share(order: Order) -> float:
    """How much of their points the rules keep beside the model; all of them in a part."""
    return 1 - MODEL_POINTS / points.FULL if order.model and not order.rules else 1.0


def _seconds_until(end: float, at_most: float = float("inf")) -> float:
    return max(1.0, min(at_most, end - time.monotonic()))


def nobody_gets_in(preflight: dict | None) -> bool:
    """Whether the short check says that there is nothing to test: no server, or no greeting."""
    if preflight is None:
        return False
    if "error" in preflight:
        return True
    return preflight.get("rule") == NOTHING_WITHOUT and not preflight.get("greets_the_first")


def _no_verdict(order: Order, why: str) -> Verdict | None:
    if order.model is None:
        return None
    return Verdict(order.model, models.NOT_TESTED, why, 0.0, 0.0, MODEL_POINTS)
