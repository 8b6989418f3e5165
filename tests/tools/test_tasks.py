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

from harness.launcher import PROFILES, REPOSITORY, launch
from harness.line_client import LineClient
from tests.grade import points
from tests.processes import Marked
from tests.suite import rules
from tests.zoo.catalogue import find_bug
from tests.zoo.patching import apply_diff, target

SOLUTIONS = REPOSITORY / "tests" / "solutions"
# Most of the time of a grading is waiting, not work for the processor.
AT_ONCE = 5
TASKS_WITH_RULES = list(rules.TASKS)
TEMPLATE = rules.TASKS_FOLDER / "template" / "server.py"
# Task 1 is graded by the suite, and test_grade.py shows that a right v1 loses nothing. Here it is
# graded with this bug of the zoo planted.
PLANTED, PLANTED_RULE = "name-stays-taken", "H5"


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
            for rule, each in self.rules.items()
            if each["earned"] + each["not_graded"] < each["worth"]
        ]

    def total(self, what: str) -> float:
        """The sum over the rules of "earned", "worth" or "not_graded"."""
        return round(sum(each[what] for each in self.rules.values()), 1)


def program_of(task: str, name: str) -> tuple[str, str]:
    """(the whole program, its profile) of a task's "solution", or of a broken one."""
    diff = (SOLUTIONS / task / "solution.diff").read_text(encoding="utf-8")
    file = target(diff)
    source = apply_diff(diff, (REPOSITORY / file).read_text(encoding="utf-8"))
    if name != "solution":
        source = apply_diff((SOLUTIONS / task / f"{name}.diff").read_text(encoding="utf-8"), source)
    return source, PROFILES[file.partition("/")[0]]


def broken_solutions() -> list[tuple[str, str]]:
    """(task, name of the diff) of each."""
    paths = sorted(SOLUTIONS.glob("*/loses-*.diff"))
    return [(path.parent.name, path.stem) for path in paths]


def grade_program(folder: Path, source: str, profile: str, *options: str) -> Graded:
    """Run the command on a program in a folder of its own."""
    folder.mkdir()
    program, out = folder / "server.py", folder / "results.json"
    program.write_text(source, encoding="utf-8")
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
        # The grader itself ends after two minutes.
        timeout=150,
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
    template = TEMPLATE.read_text(encoding="utf-8")
    planted = find_bug(PLANTED).broken_source()
    jobs = {
        ("v1", "template"): (template, "echo", "--only", "H1", "H3"),
        ("v1", PLANTED): (planted, "echo", "--only", PLANTED_RULE, "H3"),
    }
    for task, name in [*((task, "solution") for task in TASKS_WITH_RULES), *broken_solutions()]:
        jobs[task, name] = (*program_of(task, name), "--task", task)
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        yield {
            job: pool.submit(grade_program, folder / "-".join(job), *arguments)
            for job, arguments in jobs.items()
        }


# ---- the pages ----


@pytest.mark.parametrize("task", TASKS_WITH_RULES)
def test_the_points_of_a_task_add_up_to_a_hundred(task):
    """They stand in its page, rule by rule, in the order of their numbers."""
    worth = rules.TASKS[task]
    assert sum(worth.values()) == 100
    (letter,) = {rule[0] for rule in worth}
    assert list(worth) == [f"{letter}{number}" for number in range(1, len(worth) + 1)]
    # Rules are looked up by their numbers alone, so no other task or milestone has the letter.
    assert [rule for rule in rules.ALL_RULES if rule[0] == letter] == list(worth)


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


def test_each_task_has_a_broken_solution():
    """Without it nobody would know that its tests can fail."""
    assert {task for task, _ in broken_solutions()} == set(TASKS_WITH_RULES)


# ---- task 1 ----


def start_up_section(source: str) -> list[str]:
    """The lines of the section that the servers share, and of main()."""
    return source.partition("# ==== Start-up ====\n")[2].splitlines()


def test_the_template_starts_as_the_servers_do():
    """Its start-up is theirs to the letter, and it needs nothing but the standard library."""
    source = TEMPLATE.read_text(encoding="utf-8")
    assert start_up_section(source)
    shared = (REPOSITORY / "v1_threads" / "server.py").read_text(encoding="utf-8")
    assert start_up_section(source) == start_up_section(shared)


def test_the_template_can_be_copied_and_run(tmp_path):
    """It greets (H1), says what is missing, serves the next one, and stops with status 0."""
    copy = tmp_path / "server.py"
    copy.write_text(TEMPLATE.read_text(encoding="utf-8"), encoding="utf-8")
    with launch("mine", [sys.executable, "-I", str(copy), "--port", "0"], profile="echo") as server:
        for _ in range(2):
            with LineClient(server.address) as client:
                assert client.read_line() == "* mine: enter your name"
                client.send_line("alice")
                assert client.read_to_end() == ["! the handshake is not written yet"]
        assert server.stop() == 0


def test_the_template_is_graded_and_told_what_is_next(grades):
    """H1 is kept, and the report begins with the handshake."""
    graded = grades["v1", "template"].result()
    assert graded.lost() == ["H3"], graded.report
    assert "Begin here: rule H3" in graded.report
    assert "the handshake is not written yet" in graded.report


def test_a_v1_with_a_planted_bug_loses_the_points_of_its_rule(grades):
    """And no others; the report begins with it."""
    graded = grades["v1", PLANTED].result()
    assert graded.lost() == [PLANTED_RULE], graded.report
    assert f"Begin here: rule {PLANTED_RULE}" in graded.report


def test_the_page_of_task_1_gives_the_points_of_the_grader():
    """Beside the model the milestones are 80 points."""
    page = (rules.TASKS_FOLDER / "v1" / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r'^\| `"?([a-z ]+)"?` \|.*\| ([\d.]+) \|$', page, re.MULTILINE)
    shares = {
        milestone: round(0.8 * sum(points.points_of("echo").get(rule, 0) for rule in members), 1)
        for milestone, members in rules.MILESTONES.items()
    }
    assert {name: float(number) for name, number in rows} == shares


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


# ---- parts, and no server ----


def test_a_part_of_a_task():
    """--only names its rules; those of PROTOCOL.md are no part of it."""
    assert points.selection(["r4"], "chat", "rooms") == (["R4"], False)
    with pytest.raises(ValueError, match="no milestone or rule of task rooms: H4"):
        points.selection(["H4"], "chat", "rooms")


def test_the_given_tests_need_a_server():
    """Without --server there is nothing to test, and that is said in one line."""
    command = [sys.executable, "-m", "pytest", "-q", "tasks/rooms"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=30)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "the tests of a task need your server: --server 'CMD" in done.stderr
