"""Grade one submission: run the suite, look at the model, and turn both into points."""

import time
from dataclasses import dataclass, field
from pathlib import Path

from harness.server_under_test import ServerUnderTest
from tests.grade import points, suite
from tests.grade.containment import Containment, Limits
from tests.grade.judgement import Evidence, Verdict, judge, no_verdict
from tests.grade.model import one_line
from tests.grade.points import MODEL_POINTS, RuleGrade, total
from tests.grade.reading import Preflight, RuleReport
from tests.suite import rules as rule_texts

# What the look at the model may take: it takes 5 to 7 s for a server that answers.
MODEL_SECONDS = 30.0
# What is kept for the end: for the suite to end its run, and for us to end what is left.
END_SECONDS = suite.GRACE_SECONDS + 5.0
SHORT_CHECK_SECONDS = 30.0


@dataclass(frozen=True)
class Submission(ServerUnderTest):
    """A server to grade, and the folder or the file that is copied to where it runs.

    `given` is what the command line says of it, to the letter: the file of --each, the --folder, or
    where there is none the --server.
    """

    source: Path | None = None
    given: str = ""


@dataclass(frozen=True)
class Order:
    """What is to be graded, and within which limits.

    `task` is a folder in tasks/: its rules are graded, not those of the protocol. Of the `rules`
    none stands for all. `time_limit` is in seconds, for all of it.
    """

    profile: str
    model: str | None = None
    task: str | None = None
    rules: tuple[str, ...] = ()
    model_alone: bool = False
    time_limit: float = 120.0
    limits: Limits = field(default_factory=Limits)


@dataclass
class Grade:
    """What became of a submission. Points are kept to a tenth and add up to `worth`."""

    name: str
    order: Order
    rules: list[RuleGrade]
    preflight: Preflight = field(default_factory=Preflight)
    begin_with: str | None = None
    cut_short: str | None = None
    anybody_was_in: bool = True
    verdict: Verdict | None = None
    evidence: list[Evidence] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    left_behind: list[str] = field(default_factory=list)
    most_processes: int = 0
    most_memory: int = 0
    seconds: float = 0.0
    given: str = ""

    @property
    def worth(self) -> float:
        """The points that there were to be had."""
        return total(self.rules, "worth") + (MODEL_POINTS if self.verdict else 0.0)

    @property
    def earned(self) -> float:
        """The points of the submission."""
        of_the_model = self.verdict.earned if self.verdict else 0.0
        return round(total(self.rules, "earned") + of_the_model, 1)

    @property
    def not_graded(self) -> float:
        """The points that this system could not grade."""
        of_the_model = self.verdict.not_graded if self.verdict else 0.0
        return round(total(self.rules, "not_graded") + of_the_model, 1)

    def of_milestone(self, milestone: str) -> list[RuleGrade]:
        """The rules of a milestone that were graded."""
        members = rule_texts.milestones(self.order.task)[milestone]
        return [grade for grade in self.rules if grade.rule in members]

    def first_broken(self) -> str | None:
        """The rule that the suite says to begin with, or else the first that has failed a test.

        Rules are in teaching order, so the first is one that later ones build on.
        """
        if self.begin_with in [each.rule for each in self.rules]:
            return self.begin_with
        return next((each.rule for each in self.rules if each.is_broken), None)


def grade(submission: Submission, order: Order) -> Grade:
    """Grade a submission. It ends within the order's time limit, whatever the server does."""
    begin = time.monotonic()
    containment = Containment(order.limits, submission.source)
    try:
        with containment:
            result = _grade_contained(submission, order, containment, begin)
    # What the submission's folder holds cannot be copied, or is too much.
    except (OSError, ValueError) as error:
        result = not_graded(submission, order, one_line(error))
    result.notes = list(containment.notes.values())
    result.left_behind = containment.left_behind
    result.most_processes = containment.most_processes
    result.most_memory = containment.most_memory
    result.seconds = time.monotonic() - begin
    result.given = submission.given
    return result


def not_graded(submission: Submission, order: Order, why: str) -> Grade:
    """The grade of a submission that could not be tested at all: no points, and why."""
    result = Grade(submission.name, order, [], Preflight(error=why), given=submission.given)
    if not order.model_alone:
        result.rules = _grade_rules(RuleReport(), order)
    if order.model:
        result.verdict = no_verdict(order.model, "it was not tested")
    return result


def _grade_contained(
    submission: Submission, order: Order, containment: Containment, begin: float
) -> Grade:
    """First see if anybody gets in, then look at the model, which takes a known time, then test."""
    end = begin + order.time_limit - END_SECONDS
    about = (containment, submission)
    preflight = suite.run_short_check(*about, _seconds_until(end, SHORT_CHECK_SECONDS))
    result = Grade(submission.name, order, [], preflight)
    if order.model and preflight.nobody_gets_in:
        result.verdict = no_verdict(order.model, "nobody gets into the server")
    elif order.model:
        result.evidence, error = suite.run_model(*about, _seconds_until(end, MODEL_SECONDS))
        result.verdict = (
            no_verdict(order.model, error) if error else judge(result.evidence, order.model)
        )
    if order.model_alone:
        return result
    report = RuleReport()
    if not preflight.nobody_gets_in:
        report = suite.run_suite(*about, _seconds_until(end), order.rules, order.task)
        result.preflight = report.preflight if preflight.is_passed else preflight
        result.begin_with = report.begin_with
        result.cut_short = report.cut_short
        result.anybody_was_in = report.anybody_was_in
    result.rules = _grade_rules(report, order)
    return result


def _grade_rules(report: RuleReport, order: Order) -> list[RuleGrade]:
    # Beside the model the rules share what it leaves them, unless only some of them are graded.
    share = 1 - MODEL_POINTS / points.FULL if order.model and not order.rules else 1.0
    return points.grade_rules(report, order.profile, order.rules, share, order.task)


def _seconds_until(end: float, at_most: float = float("inf")) -> float:
    return max(1.0, min(at_most, end - time.monotonic()))
