"""Points per rule, not per test: 61 tests of framing do not make it 61 times as important as leaks.

A rule is worth a fixed number of points, all of them if all its test functions pass, and otherwise
in proportion to those that do. All protocol rules together are 100 points; where the model is
graded as well they are 80, and the model is 20. Points are kept to a tenth, rule by rule, so that
every sum that is shown is the sum of what is shown.

Three things can become of a point. It is earned; it is lost, because a test has failed or was not
run; or it is not graded, because this system cannot run the test (no `nc`, no /proc). Then no point
is given by guess, and the server is not blamed.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from tests.grade.reading import RuleReport
from tests.suite import rules
from tests.suite.rule_report import Outcome, Result, SkippedFor

FULL = 100.0
MODEL_POINTS = 20.0

POINTS = (
    {"H1": 3, "H2": 3, "H3": 3, "H4": 3, "H5": 2, "H6": 1}
    | {"F1": 4, "F2": 4, "F3": 3, "F4": 3, "F5": 6, "F6": 2, "F7": 2}
    | {"C1": 1, "C2": 2, "C3": 4, "C4": 3, "C5": 3, "C6": 2, "C7": 2}
    | {"L1": 4, "L2": 4, "L3": 6, "L4": 4, "L5": 3, "L6": 4, "L7": 3}
    | {rules.LAUNCH: 2}
)
# Delivery is what the two profiles differ in; either way that is 14 points.
DELIVERY = {"echo": {"D1": 14}, "chat": {"D2": 6, "D3": 4, "D4": 4}}

# The look that belongs to every test is one function, however many tests have made it.
AFTER_EACH = "(after each test)"


def points_of(profile: str, task: str | None = None) -> dict[str, float]:
    """Points by rule for a profile, or for a task, in teaching order; they add up to 100."""
    if task is not None:
        return rules.TASKS[task]
    worth = {**POINTS, **DELIVERY[profile]}
    return {
        rule: float(worth[rule])
        for milestone in rules.MILESTONES
        for rule in rules.MILESTONES[milestone]
        if rule in worth
    }


@dataclass
class RuleGrade:
    """What a rule has brought. `earned`, `lost` and `not_graded` add up to `worth`.

    `losses` has an outcome for each of its `functions` that has not `passed`.
    """

    rule: str
    worth: float
    earned: float = 0.0
    lost: float = 0.0
    not_graded: float = 0.0
    passed: int = 0
    functions: int = 0
    losses: list[Outcome] = field(default_factory=list)

    @property
    def is_broken(self) -> bool:
        """Whether a test of it has failed; only that says something about the server."""
        return any(loss.result == Result.FAILED for loss in self.losses)


def total(grades: Iterable[RuleGrade], what: str) -> float:
    """The sum of what they have "earned", "lost" or "not_graded", or of what they are "worth"."""
    return round(sum(getattr(grade, what) for grade in grades), 1)


def grade_rules(
    report: RuleReport,
    profile: str,
    only: Iterable[str] = (),
    share: float = 1.0,
    task: str | None = None,
) -> list[RuleGrade]:
    """A RuleGrade for each rule of a profile or task (or of `only`), from the rule report.

    `share` is the part of their points that count, 0.8 beside a model.
    """
    worth = points_of(profile, task)
    chosen = set(only)
    return [
        _grade_rule(rule, round(points * share, 1), report.tests_of(rule))
        for rule, points in worth.items()
        if not chosen or rule in chosen
    ]


def _grade_rule(rule: str, worth: float, outcomes: list[Outcome]) -> RuleGrade:
    functions: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        # A look that belongs to every test counts once, however often it has failed.
        function = AFTER_EACH if outcome.after_each_test else outcome.function
        functions.setdefault(function, []).append(outcome)
    grade = RuleGrade(rule, worth, functions=len(functions))
    if not functions:
        grade.lost = worth
        message = "the suite has not come to any test of this rule"
        grade.losses = [Outcome("", [rule], Result.NOT_RUN, "", message)]
        return grade
    losses = [_loss(cases) for cases in functions.values()]
    grade.losses = [loss for loss in losses if loss is not None]
    grade.passed = len(functions) - len(grade.losses)
    open_functions = sum(map(_is_open, grade.losses))
    grade.earned = round(worth * grade.passed / len(functions), 1)
    if grade.losses:
        # Less than a twentieth of a point is not rounded away: full points are for all passed.
        grade.earned = min(grade.earned, round(worth - 0.1, 1))
    grade.not_graded = min(
        round(worth * open_functions / len(functions), 1), round(worth - grade.earned, 1)
    )
    if open_functions == len(grade.losses):
        grade.not_graded = round(worth - grade.earned, 1)
    grade.lost = round(worth - grade.earned - grade.not_graded, 1)
    return grade


def _loss(cases: list[Outcome]) -> Outcome | None:
    """Why a function has not passed: its failed case, or else one not run, or else one skipped."""
    for result in (Result.FAILED, Result.NOT_RUN, Result.SKIPPED):
        for case in cases:
            if case.result == result:
                return case
    return None


def _is_open(loss: Outcome) -> bool:
    """Whether this system could not run the test, through no fault of the server's command."""
    return loss.result == Result.SKIPPED and loss.skipped_for is not SkippedFor.OPTIONS


def selection(
    wanted: Iterable[str], profile: str, task: str | None = None
) -> tuple[list[str], bool]:
    """The rules that names of milestones and rules choose, and whether they choose the model.

    Raises ValueError with one line for an unknown name.
    """
    known = points_of(profile, task)
    milestones = rules.milestones(task)
    chosen: set[str] = set()
    model = False
    for name in wanted:
        spelled = [rule for rule in known if rule.casefold() == name.casefold()]
        if name == "model":
            model = True
        elif name in milestones:
            chosen.update(rule for rule in milestones[name] if rule in known)
        elif spelled:
            chosen.update(spelled)
        else:
            names = ", ".join([*milestones, "model"])
            where = f"the {profile} profile" if task is None else f"task {task}"
            raise ValueError(f"no milestone or rule of {where}: {name} ({names})")
    return [rule for rule in known if rule in chosen], model
