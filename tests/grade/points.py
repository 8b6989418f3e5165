"""Points: per rule and not per test, for 61 tests of framing against one of leaks are no weight.

A rule is worth a fixed number of points, all of them if all its test functions pass, and otherwise
in proportion to those that do. All protocol rules together are 100 points; where the model is
graded as well they are 80, and the model is 20. Points are kept to a tenth, rule by rule, so that
every sum that is shown is the sum of what is shown.

Three things can become of a point. It is earned; it is lost, because a test has failed or was not
run; or it is not graded, because this system cannot run the test (no `nc`, no /proc): that is no
point by guess, and no reproach either.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from tests import rules

FULL = 100.0
MODEL_POINTS = 20.0

POINTS: dict[str, float] = {
    "H1": 3,
    "H2": 4,
    "H3": 3,
    "H4": 3,
    "H5": 2,
    "F1": 4,
    "F2": 4,
    "F3": 3,
    "F4": 3,
    "F5": 6,
    "F6": 2,
    "F7": 2,
    "C1": 1,
    "C2": 2,
    "C3": 4,
    "C4": 3,
    "C5": 3,
    "C6": 2,
    "C7": 2,
    "L1": 4,
    "L2": 4,
    "L3": 6,
    "L4": 4,
    "L5": 3,
    "L6": 4,
    "L7": 3,
    "launch": 2,
}
# Delivery is what the two profiles differ in; either way that is 14 points.
DELIVERY = {"echo": {"D1": 14}, "chat": {"D2": 6, "D3": 4, "D4": 4}}

NO_OPTIONS = "{options}"
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


@dataclass(frozen=True)
class Loss:
    """A test function that did not pass: what the report shows of it."""

    function: str
    outcome: str  # "failed", "skipped" or "not run"
    message: str = ""
    sent: str = ""
    came: str = ""
    expected: str = ""
    server: str = ""


@dataclass
class RuleGrade:
    """What a rule has brought. `earned`, `lost` and `not_graded` add up to `worth`."""

    rule: str
    worth: float
    earned: float = 0.0
    lost: float = 0.0
    not_graded: float = 0.0
    passed: int = 0
    functions: int = 0
    losses: list[Loss] = field(default_factory=list)

    @property
    def is_broken(self) -> bool:
        """Whether a test of it has failed; only that says something about the server."""
        return any(loss.outcome == "failed" for loss in self.losses)


def grade_rules(
    report: dict,
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
        _grade_rule(rule, round(points * share, 1), tests_of(rule, report))
        for rule, points in worth.items()
        if not chosen or rule in chosen
    ]


def tests_of(rule: str, report: dict) -> list[dict]:
    """The tests that are about a rule first; of a rule that has none, those that name it."""
    own = report["rules"].get(rule, {}).get("tests", [])
    if own:
        return own
    return [
        test
        for about in report["rules"].values()
        for test in about["tests"]
        if rule in test["rules"]
    ]


def _grade_rule(rule: str, worth: float, tests: list[dict]) -> RuleGrade:
    functions: dict[str, list[dict]] = {}
    for test in tests:
        function = test["function"]
        # A look that belongs to every test counts once, however often it has failed.
        if AFTER_EACH in function:
            function = AFTER_EACH
        functions.setdefault(function, []).append(test)
    grade = RuleGrade(rule, worth, functions=len(functions))
    if not functions:
        grade.lost = worth
        grade.losses = [Loss("", "not run", "the suite has not come to any test of this rule")]
        return grade
    open_functions = 0
    for function, cases in functions.items():
        loss = _loss(function, cases)
        if loss is None:
            grade.passed += 1
            continue
        grade.losses.append(loss)
        if loss.outcome == "skipped" and NO_OPTIONS not in loss.message:
            open_functions += 1
    grade.earned = round(worth * grade.passed / len(functions), 1)
    if grade.passed < len(functions):
        # Less than a twentieth of a point is not rounded away: full points are for all passed.
        grade.earned = min(grade.earned, round(worth - 0.1, 1))
    grade.not_graded = min(
        round(worth * open_functions / len(functions), 1), round(worth - grade.earned, 1)
    )
    if grade.passed + open_functions == len(functions):
        grade.not_graded = round(worth - grade.earned, 1)
    grade.lost = round(worth - grade.earned - grade.not_graded, 1)
    return grade


def _loss(function: str, cases: list[dict]) -> Loss | None:
    """Why a function has not passed: its failed case, or else one not run, or else one skipped."""
    for outcome in ("failed", "not run", "skipped"):
        for case in cases:
            if case["outcome"] == outcome:
                words = {
                    name: str(case.get(name) or "")
                    for name in ("message", "sent", "came", "expected", "server")
                }
                return Loss(case.get("test") or function, outcome, **words)
    return None


def selection(
    wanted: Iterable[str], profile: str, task: str | None = None
) -> tuple[list[str], bool]:
    """Rules, and whether the model, that names of milestones and rules choose.

    Raises ValueError with one line for a name that there is not.
    """
    known = points_of(profile, task)
    milestones = rules.milestones(task)
    chosen: set[str] = set()
    model = False
    for name in wanted:
        found = [rule for rule in known if rule.casefold() == name.casefold()]
        if name == "model":
            model = True
        elif name in milestones:
            chosen.update(rule for rule in milestones[name] if rule in known)
        elif found:
            chosen.update(found)
        else:
            names = ", ".join([*milestones, "model"])
            where = f"the {profile} profile" if task is None else f"task {task}"
            raise ValueError(f"no milestone or rule of {where}: {name} ({names})")
    return [rule for rule in known if rule in chosen], model
