"""A grade as Gradescope's results.json.

Each milestone is a visible entry. What `--hidden` names is an entry `after_published`: its points
count, and students see it when grades are published. Until then Gradescope does not show them
their total. The last entry is `hidden` for good: no points, details for the instructor.
"""

import dataclasses

from tests.grade import points
from tests.grade.grading import Grade
from tests.grade.points import RuleGrade
from tests.grade.reading import Preflight
from tests.grade.report import (
    fill,
    headline,
    instructor_section,
    model_section,
    notes_for_all,
    printable,
    rule_section,
    where_to_begin,
)
from tests.suite import rules

VISIBLE = "visible"
UNTIL_PUBLISHED = "after_published"
NEVER = "hidden"


def results(grade: Grade, hidden: frozenset[str] = frozenset()) -> dict:
    """The contents of results.json; `hidden` are names of rules and milestones (or "model")."""
    tests: list[dict] = []
    milestones = rules.milestones(grade.order.task)
    for number, milestone in enumerate(milestones, 1):
        members = grade.of_milestone(milestone)
        if milestone in hidden:
            shown, covered = [], [(milestone, members)]
        else:
            shown = [each for each in members if each.rule not in hidden]
            covered = [
                (f"{milestone}: {each.rule}", [each]) for each in members if each.rule in hidden
            ]
        if shown:
            tests.append(_entry(grade, str(number), milestone, shown, VISIBLE))
        for place, (name, those) in enumerate(covered, 1):
            if those:
                tests.append(_entry(grade, f"{number}.{place}", name, those, UNTIL_PUBLISHED))
    if grade.verdict:
        tests.append(
            {
                "name": "model",
                "number": str(len(milestones) + 1),
                "score": grade.verdict.earned,
                "max_score": points.MODEL_POINTS,
                "output": model_section(grade),
                "tags": ["model"],
                "visibility": UNTIL_PUBLISHED if "model" in hidden else VISIBLE,
            }
        )
    tests.append(
        {
            "name": "for the instructor",
            "score": 0.0,
            "max_score": 0.0,
            "output": instructor_section(grade),
            "tags": ["instructor"],
            "visibility": NEVER,
        }
    )
    return {
        "score": grade.earned,
        "output": _output(grade, hidden),
        "visibility": VISIBLE,
        "stdout_visibility": NEVER,
        "execution_time": round(grade.seconds),
        "tests": tests,
        "extra_data": {
            "submission": grade.name,
            "given_as": grade.given,
            "profile": grade.order.profile,
            "task": grade.order.task,
            "model": grade.order.model,
            "max_score": grade.worth,
            "not_graded": grade.not_graded,
            "rules": {
                each.rule: {name: getattr(each, name) for name in ("earned", "worth", "not_graded")}
                for each in grade.rules
            },
        },
    }


def _output(grade: Grade, hidden: frozenset[str]) -> str:
    """What every student sees above the entries; it names nothing that is hidden."""
    shown = _without(grade, hidden)
    lines = [] if hidden else [headline(grade)]
    if hidden and not shown.first_broken() and not grade.preflight.nobody_gets_in:
        lines.append("Nothing was found to be broken in what is shown here.")
    else:
        lines.append(fill("Begin here: ", where_to_begin(shown)[1]))
    return "\n".join(lines + [fill("Note: ", note) for note in notes_for_all(grade)])


def _without(grade: Grade, hidden: frozenset[str]) -> Grade:
    """The grade as far as it is visible."""
    milestones = rules.milestones(grade.order.task)
    covered = {rule for name in hidden & milestones.keys() for rule in milestones[name]}
    covered |= hidden
    members = [each for each in grade.rules if each.rule not in covered]
    preflight = Preflight() if grade.preflight.broken_rule in covered else grade.preflight
    begin_with = None if grade.begin_with in covered else grade.begin_with
    verdict = None if "model" in hidden else grade.verdict
    return dataclasses.replace(
        grade, rules=members, preflight=preflight, verdict=verdict, begin_with=begin_with
    )


def _entry(grade: Grade, number: str, name: str, members: list[RuleGrade], visibility: str) -> dict:
    """One entry; its output says what is still missing, rule by rule."""
    if grade.preflight.nobody_gets_in:
        output = "not tested: " + printable(where_to_begin(grade)[1])
    else:
        lost = [rule_section(each) for each in members if each.losses]
        output = "\n\n".join(lost) or "complete"
    return {
        "name": name,
        "number": number,
        "score": points.total(members, "earned"),
        "max_score": points.total(members, "worth"),
        "output": output,
        "tags": [each.rule for each in members],
        "visibility": visibility,
    }
