"""The tasks: each can be solved, is graded, and a broken solution loses the points it should.

A solution is `solutions/TASK/solution.diff`, against one of the four servers. `loses-R3-R4.diff`
beside it goes on top of it, and takes the points of just these rules.
"""

import ast
import concurrent.futures
import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.launcher import PROFILES, REPOSITORY
from tests import rules
from tests.processes import Marked
from tests.zoo.patching import apply_diff, target

SOLUTIONS = Path(__file__).with_name("solutions")
# Most of what is waited for is no work of the processor.
AT_ONCE = 5
TASKS_WITH_RULES = list(rules.TASKS)


@dataclass(frozen=True)
class Graded:
    """What `python3 -m tests.grade --task` has said about a server."""

    # By rule: "earned", "worth" and "not_graded", in points.
    rules: dict[str, dict[str, float]]
    report: str

    def lost(self) -> list[str]:
        """The rules that have lost points."""
        return [
            rule
            for rule, points in self.rules.items()
            if points["earned"] + points["not_graded"] < points["worth"]
        ]

    def total(self, what: str) -> float:
        """The sum over the rules of "earned", "worth" or "not_graded"."""
        return round(sum(points[what] for points in self.rules.values()), 1)


def solution_of(task: str) -> tuple[str, str]:
    """(the version that it starts from, the whole program)."""
    diff = (SOLUTIONS / task / "solution.diff").read_text(encoding="utf-8")
    file = target(diff)
    return file.partition("/")[0], apply_diff(diff, (REPOSITORY / file).read_text(encoding="utf-8"))


def broken_solutions() -> list[tuple[str, str]]:
    """(task, name of the diff) of each."""
    paths = sorted(SOLUTIONS.glob("*/loses-*.diff"))
    return [(path.parent.name, path.stem) for path in paths]


def grade_server(program: Path, profile: str, *options: str) -> Graded:
    """Run the command on a program in a folder of its own."""
    out = program.with_name("results.json")
    marked = Marked()
    done = subprocess.run(
        [
            *(sys.executable, "-m", "tests.grade", "--profile", profile, "--json", str(out)),
            *("--server", f"{sys.executable} {program} --port {{port}} {{options}}", *options),
        ],
        cwd=REPOSITORY,
        env={**marked.environment, "PYTHONUTF8": "1"},
        capture_output=True,
        encoding="utf-8",
        timeout=100,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert marked.left_behind() == []
    by_rule = json.loads(out.read_text(encoding="utf-8"))["extra_data"]["rules"]
    return Graded(by_rule, done.stdout)


@pytest.fixture(scope="module")
def grades(tmp_path_factory):
    """(task, "solution" or the name of a broken one) -> a future with what it is graded.

    All of them begin at the first use.
    """
    folder = tmp_path_factory.mktemp("solutions")

    def grade_one(task: str, name: str) -> Graded:
        version, source = solution_of(task)
        if name != "solution":
            diff = (SOLUTIONS / task / f"{name}.diff").read_text(encoding="utf-8")
            source = apply_diff(diff, source)
        program = folder / f"{task}-{name}" / "server.py"
        program.parent.mkdir()
        program.write_text(source, encoding="utf-8")
        return grade_server(program, PROFILES[version], "--task", task)

    jobs = [*((task, "solution") for task in TASKS_WITH_RULES), *broken_solutions()]
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        yield {job: pool.submit(grade_one, *job) for job in jobs}


# ---- the pages ----


@pytest.mark.parametrize("task", TASKS_WITH_RULES)
def test_the_points_of_a_task_add_up_to_a_hundred(task):
    """They stand in its page, rule by rule, in the order of their numbers."""
    points = rules.TASKS[task]
    assert sum(points.values()) == 100
    (letter,) = {rule[0] for rule in points}
    assert list(points) == [f"{letter}{number}" for number in range(1, len(points) + 1)]
    assert letter not in "FHCDL"


def test_a_letter_belongs_to_one_task():
    """Rules are looked up by their numbers alone."""
    letters = [next(iter(points))[0] for points in rules.TASKS.values()]
    assert len(set(letters)) == len(letters)


@pytest.mark.parametrize("task", TASKS_WITH_RULES)
def test_each_rule_of_a_task_has_a_given_test(task):
    """One that is about it first of all; and no given test is about no rule."""
    (file,) = (rules.TASKS_FOLDER / task).glob("test_*.py")
    tests = [
        node
        for node in ast.parse(file.read_bytes()).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    ]
    about = [rules.named_in(ast.get_docstring(test))[:1] for test in tests]
    assert all(about)
    assert {rule for named in about for rule in named} == set(rules.TASKS[task])


@pytest.mark.parametrize("task", TASKS_WITH_RULES)
def test_a_task_has_a_solution_and_a_broken_one(task):
    """Without them nobody would know that it can be solved, and that its tests can fail."""
    assert solution_of(task)
    assert task in [broken for broken, _ in broken_solutions()]


# ---- solved, and graded ----


@pytest.mark.parametrize("task", TASKS_WITH_RULES)
def test_a_solution_loses_nothing(grades, task):
    """Every point that this system can grade."""
    graded = grades[task, "solution"].result()
    assert graded.lost() == [], graded.report
    assert graded.total("worth") == 100
    if graded.total("not_graded"):
        skipped = [" ".join(words.split()) for words in re.findall(r"skipped: (.+)", graded.report)]
        pytest.skip(f"not all of {task} can be graded here: {'; '.join(skipped)}")


@pytest.mark.parametrize(("task", "name"), broken_solutions(), ids=lambda value: value)
def test_a_broken_solution_loses_the_points_that_it_should(grades, task, name):
    """Those of the rules in its name, and the report begins with one of them."""
    graded = grades[task, name].result()
    _, *expected = name.split("-")
    if any(graded.rules[rule]["not_graded"] for rule in expected):
        pytest.skip(f"{task} cannot be graded here")
    assert graded.lost() == expected, graded.report
    begin = re.search(r"Begin here: rule (\w\d)", graded.report)
    assert begin and begin[1] in expected, graded.report
