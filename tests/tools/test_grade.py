"""`python3 -m tests.grade`: points, reports, the model from outside, hostile submissions."""

import contextlib
import csv
import dataclasses
import importlib.util
import io
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from harness import proc
from harness.conformance import Fault
from harness.launcher import PROFILES, REPOSITORY
from harness.server_under_test import ServerUnderTest
from tests.grade import __main__ as command
from tests.grade import gradescope, points, suite
from tests.grade.containment import size_of
from tests.grade.grading import Grade, Order
from tests.grade.judgement import MODELS, QUESTIONS, Answer, Aspect, Evidence, Finding, judge
from tests.grade.reading import Preflight, RuleReport
from tests.grade.report import report, table
from tests.limits.ways import NO_MORE_THREADS_PREPARATION, SMALL_BUFFERS_PREPARATION
from tests.suite import rules
from tests.suite.rule_report import CutShort, Findings, Outcome, Result, SkippedFor
from tests.zoo.catalogue import find_bug

SUBMISSIONS = REPOSITORY / "tests" / "submissions"
NEEDS_PROC = pytest.mark.skipif(not proc.CAN_SEE, reason="this system has no /proc")


def made_up_outcome(test, rule, case):
    """An Outcome: "passed", "failed: why", "skipped for options: why" and so on."""
    words, _, message = case.partition(": ")
    result, _, skipped_for = words.partition(" for ")
    outcome = Outcome(f"test_it.py::{test}[case]", [rule], Result(result), "server", message)
    if skipped_for:
        outcome.note_skip(message, SkippedFor(skipped_for))
    if outcome.result == Result.FAILED:
        outcome.sent = f"sent to {rule}\n"
        outcome.came = f"{rule} \x1b[31mcame\x07"
        outcome.expected = f"{rule} expected"
    return outcome


def made_up_report(profile="echo", task=None, **outcomes):
    """A RuleReport in which all tests passed; H4=["passed", "failed: why"] says otherwise.

    Each outcome is a function of the rule, or a list of the cases of one.
    """
    return RuleReport(
        [
            made_up_outcome(f"test_{rule}_{number}", rule, case)
            for rule in points.points_of(profile, task)
            for number, cases in enumerate(outcomes.get(rule, ["passed"]))
            for case in ([cases] if isinstance(cases, str) else cases)
        ]
    )


def made_up_grade(profile="echo", model=None, task=None, **outcomes):
    """A Grade of that report."""
    share = 0.8 if model else 1.0
    rule_report = made_up_report(profile, task, **outcomes)
    graded = points.grade_rules(rule_report, profile, share=share, task=task)
    verdict = judge(evidence_of("select"), model) if model else None
    return Grade("somebody", Order(profile, model, task), graded, verdict=verdict)


def of_rule(grade, rule):
    (graded,) = [each for each in grade.rules if each.rule == rule]
    return graded


def evidence_of(model, **others):
    """What fits a model best, but for `others`, findings by aspect."""
    findings = {aspect: min(question.fitting(model)) for aspect, question in QUESTIONS.items()}
    if model == "select":
        findings |= {Aspect.MANY: Finding.REFUSED, Aspect.WORK: Finding.OTHERS_WAIT}
    return [Evidence(aspect, each, "seen") for aspect, each in (findings | others).items()]


class NotContained:
    """What a run needs of a Containment, for a program that is no submission."""

    def __init__(self):
        self.workers = set()
        self.swept = 0

    def command(self, template):
        return template

    def sweep(self):
        self.swept += 1


@pytest.mark.parametrize("preparation", [NO_MORE_THREADS_PREPARATION, SMALL_BUFFERS_PREPARATION])
def test_a_prepared_server_finds_its_own_modules(preparation, tmp_path):
    """A submission may be several files, and does not run in the folder where they are."""
    (tmp_path / "of_its_own.py").write_text("print('imported', flush=True)")
    server = tmp_path / "server.py"
    server.write_text("import of_its_own")
    words = [sys.executable, "-c", preparation, "4096", str(server)]
    done = subprocess.run(words, cwd=REPOSITORY, stdout=subprocess.PIPE, timeout=30)
    assert done.stdout.strip() == b"imported"


# ---- points ----


@pytest.mark.parametrize("profile", ["echo", "chat"])
def test_points_add_up_to_a_hundred(profile):
    """Every rule of the profile is worth something, and all together a hundred."""
    worth = points.points_of(profile)
    assert sum(worth.values()) == points.FULL
    wanted = {rule for rule in rules.RULES if rules.ONE_PROFILE.get(rule, profile) == profile}
    assert wanted <= set(worth)
    assert min(worth.values()) > 0


def test_points_are_per_rule_and_in_proportion_to_functions():
    """61 cases of one test function are one function."""
    graded = made_up_grade(F2=["passed", ["passed"] * 60 + ["failed: x"], "passed", "passed"])
    assert (of_rule(graded, "F2").earned, of_rule(graded, "F2").worth) == (3.0, 4.0)
    assert (graded.earned, graded.worth, graded.not_graded) == (99.0, 100.0, 0.0)
    assert made_up_grade().earned == 100.0


def test_beside_a_model_the_rules_are_80_points():
    """And the model is 20."""
    graded = made_up_grade(model="select", H4=["failed: x"])
    assert graded.worth == 100.0
    assert graded.earned == 97.6
    assert judge(evidence_of("select"), "select").earned == points.MODEL_POINTS


@pytest.mark.parametrize(
    ("outcome", "lost", "not_graded"),
    [
        ("skipped for system: nc is not installed", 0.0, 2.0),
        ("skipped for options: --server has no {options}", 2.0, 0.0),
        ("not run: cut short", 2.0, 0.0),
        ("failed: x", 2.0, 0.0),
    ],
)
def test_no_points_by_guess(outcome, lost, not_graded):
    """What did not run earns nothing, and is lost unless it is this system that cannot run it."""
    graded = made_up_grade(L5=["passed", outcome, "passed"])
    rule = of_rule(graded, "L5")
    assert (rule.earned, rule.lost, rule.not_graded) == pytest.approx(
        (rule.worth - (lost or not_graded) / 2, lost / 2, not_graded / 2)
    )
    text = report(graded)
    assert "L5" in text
    assert outcome.partition(": ")[2] in " ".join(text.split())


def test_a_rule_without_a_test_of_its_own_is_judged_by_those_that_name_it():
    """And one that nothing names earns nothing."""
    made_up = made_up_report()
    by_rule = {outcome.rules[0]: outcome for outcome in made_up.outcomes}
    by_rule["H2"].rules.append("F6")
    for rule in ("F6", "C1"):
        made_up.outcomes.remove(by_rule[rule])
    graded = {each.rule: each for each in points.grade_rules(made_up, "echo")}
    assert graded["F6"].earned == graded["F6"].worth
    assert graded["C1"].earned == 0


def test_what_a_run_did_not_reach_counts():
    """A run that is cut short after the first of a rule's tests does not earn all its points."""
    findings = Findings("server", made_up_report(C1=["passed", "not run"]).outcomes)
    written = findings.as_json("x {port}", "echo", CutShort("time is over"))
    (c1,) = points.grade_rules(RuleReport.from_json(written), "echo", only=["C1"])
    assert (c1.passed, c1.functions) == (1, 2)
    assert c1.losses[0].message == "time is over"


# ---- the model, judged ----


@pytest.mark.parametrize("model", MODELS)
def test_each_model_passes_as_itself(model):
    """And as no other, however well it behaves. But asyncio is a readiness loop, as select is."""
    for claimed in MODELS:
        verdict = judge(evidence_of(model), claimed)
        if claimed == model or (model, claimed) == ("asyncio", "select"):
            assert (verdict.answer, verdict.earned) == (Answer.YES, points.MODEL_POINTS)
        else:
            assert (verdict.answer, verdict.lost) == (Answer.NO, points.MODEL_POINTS)
            assert verdict.earned == 0 and verdict.because
    assert judge(evidence_of(model), "any").answer == Answer.YES


def test_a_model_that_cannot_be_told_earns_nothing_and_loses_nothing():
    """Where a system has no /proc, say."""
    blind = [Evidence(aspect, Finding.CANNOT_TELL, "no /proc") for aspect in QUESTIONS]
    for model in MODELS:
        verdict = judge(blind, model)
        assert (verdict.answer, verdict.earned, verdict.lost) == (Answer.CANNOT_TELL, 0.0, 0.0)
        assert verdict.not_graded == points.MODEL_POINTS


@pytest.mark.parametrize(
    ("model", "finding", "earned"),
    [
        ("asyncio", Finding.OWN_LIMIT, 20.0),
        ("asyncio", Finding.REFUSED, 18.0),
        ("asyncio", Finding.DIED, 18.0),
        ("threads", Finding.OWN_LIMIT, 20.0),
    ],
)
def test_a_server_without_room_for_1100_clients_keeps_its_model(model, finding, earned):
    """L2 allows a limit, and an end at descriptor 1024 costs no more than that look is worth."""
    verdict = judge(evidence_of(model, **{Aspect.MANY: finding}), model)
    assert (verdict.answer, verdict.earned) == (Answer.YES, earned)


FORKED_TWICE = """
import os, sys, time
from harness.proc import tasks_below
from tests.grade.containment import adopt_orphans

adopt_orphans()
reader, writer = os.pipe()
if os.fork() == 0:
    if os.fork() == 0:
        os.setsid()
        os.write(writer, b"there")
        time.sleep(30)
    os._exit(0)
os.wait()
os.read(reader, 5)
((pid, _),) = tasks_below(os.getpid())
os.kill(pid, 9)
"""


@NEEDS_PROC
def test_a_process_that_has_lost_its_parent_is_counted():
    """A server may fork twice for each client, so that it has no zombies to bury."""
    subprocess.run([sys.executable, "-c", FORKED_TWICE], cwd=REPOSITORY, check=True, timeout=30)


ONLY_LOOKS_ON = """
import select, socket, threading
pairs = [socket.socketpair() for _ in range(50)]
for mine, _ in pairs:
    threading.Thread(target=mine.recv, args=[1], daemon=True).start()
watched = select.epoll()
for mine, _ in pairs:
    watched.register(mine, select.EPOLLRDHUP)
print("ready", flush=True)
watched.poll()
"""
WHAT_IT_WAITS_IN = """
import subprocess, sys
from tests.grade.model import what_they_wait_in

with subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdout=subprocess.PIPE) as process:
    process.stdout.readline()
    finding, facts = what_they_wait_in(50)
    process.kill()
print(finding)
"""


@NEEDS_PROC
def test_a_thread_that_only_looks_on_is_no_readiness_loop():
    """Fifty threads wait for a client each, beside one that waits for all of them."""
    words = [sys.executable, "-c", WHAT_IT_WAITS_IN, ONLY_LOOKS_ON]
    done = subprocess.run(words, cwd=REPOSITORY, stdout=subprocess.PIPE, timeout=30, text=True)
    assert done.stdout.strip() in (Finding.EACH_FOR_ITS_OWN, Finding.CANNOT_TELL)


def look_at(version):
    """What there is to see of the model of one of our versions."""
    program = shlex.join([sys.executable, str(REPOSITORY / version / "server.py")])
    server = ServerUnderTest(version, PROFILES[version], f"{program} --port {{port}} {{options}}")
    evidence, error = suite.run_model(NotContained(), server, 60)
    assert error is None
    return evidence


@pytest.fixture(scope="module")
def looks():
    """Futures by version: all four are looked at, two at a time."""
    with ThreadPoolExecutor(2) as workers:
        yield {version: workers.submit(look_at, version) for version in PROFILES}


@NEEDS_PROC
@pytest.mark.parametrize(
    ("version", "models"),
    [
        ("v1_threads", ["threads"]),
        ("v2_select", ["select"]),
        ("v3_broadcast", ["select"]),
        ("v4_asyncio", ["asyncio", "select"]),
    ],
)
def test_the_model_of_our_own(version, models, looks):
    """Each of the four versions passes as what it is, and as nothing else."""
    evidence = looks[version].result(timeout=150)
    for model in MODELS:
        verdict = judge(evidence, model)
        expected = (Answer.YES, points.MODEL_POINTS) if model in models else (Answer.NO, 0.0)
        assert (verdict.answer, verdict.earned) == expected, (model, evidence)


# ---- reports ----

BROKEN = {
    "F5": ["passed", "failed: a line was cut", "failed: another"],
    "H3": ["failed: nobody was let in " + "and waited " * 40],
    "L4": ["skipped for system: this system has no SIGKILL"],
}


def test_the_report_leads_to_the_fault():
    """First the points, then where to begin; then the rule, what was sent, came and expected."""
    graded = made_up_grade(model="threads", **BROKEN)
    text = report(graded)
    first, _, second = text.partition("\n\n")
    assert first.startswith("somebody: ")
    assert second.startswith("Begin here: rule H3")
    for wanted in ("sent to F5", "F5 expected", "a line was cut", "test_F5_2", "no SIGKILL"):
        assert wanted in text
    assert "it is not threads" in text


def test_the_report_is_plain_text_of_80_columns():
    """Whatever a server has said."""
    graded = made_up_grade(model="select", **BROKEN)
    graded.left_behind = ["python3 server.py"]
    fault = Fault("F5", sent="x" * 500, came="\x1b[2J", expected="y", before="z got \x07")
    graded.preflight = Preflight(fault=fault)
    graded.name = "a_name_" * 8
    for text in (report(graded), table([graded, made_up_grade()])):
        assert max(map(len, text.splitlines())) <= 80
        assert text.replace("\n", "").isprintable()


def test_milestones_say_what_is_missing():
    """In teaching order, with the points of each rule."""
    lines = report(made_up_grade(**BROKEN)).splitlines()
    names = [line.split("  ")[0] for line in lines if " of " in line and "tests passed" not in line]
    assert [name for name in names if name in rules.MILESTONES] == list(rules.MILESTONES)
    (framing,) = [line for line in lines if line.startswith("framing")]
    assert "still missing: F5 (4.0)" in framing


@pytest.mark.parametrize("hidden", [frozenset(), frozenset({"framing", "L4", "model"})])
def test_results_for_gradescope(hidden):
    """results.json has the keys and values that Gradescope knows, and its sums are right."""
    graded = made_up_grade(model="select", **BROKEN)
    results = json.loads(json.dumps(gradescope.results(graded, hidden)))
    assert results.keys() <= {
        *("score", "output", "visibility", "stdout_visibility"),
        *("execution_time", "tests", "extra_data"),
    }
    tests = results["tests"]
    allowed = {"score", "max_score", "name", "number", "output", "tags", "visibility"}
    for test in tests:
        assert test.keys() <= allowed
        assert 0 <= test["score"] <= test["max_score"]
        assert all(isinstance(tag, str) for tag in test["tags"])
    assert sum(test["score"] for test in tests) == pytest.approx(results["score"])
    assert sum(test["max_score"] for test in tests) == pytest.approx(100)
    # What is hidden for good has to be worth nothing: students would not see their total.
    assert [test["max_score"] for test in tests if test["visibility"] == "hidden"] == [0]
    later = {test["name"] for test in tests if test["visibility"] == "after_published"}
    assert later == ({"framing", "life cycle: L4", "model"} if hidden else set())


def test_what_is_hidden_is_named_nowhere_else():
    """Neither in the words above the entries nor in another entry."""
    graded = made_up_grade(F5=["failed: the secret"], H3=["passed"])
    graded.begin_with = "F5"
    graded.preflight = Preflight(fault=Fault("F5", sent="s", came="c", expected="e"))
    results = gradescope.results(graded, frozenset({"F5"}))
    visible = [test for test in results["tests"] if test["visibility"] == "visible"]
    shown = json.dumps([results["output"], [test["output"] for test in visible]])
    assert "F5" not in shown and "secret" not in shown
    assert "F5" in json.dumps(gradescope.results(graded))


def test_a_table_of_a_task():
    """One column for the task, and what is broken."""
    lines = table([made_up_grade("chat", task="rooms", R4=["failed: x"])]).splitlines()
    assert lines[1].split() == ["task", "model", "broken"]
    assert lines[2].split() == ["somebody", "80.0", "80.0", "R4"]


def test_a_task_for_gradescope():
    """It is one entry, out of 100; hidden rules are one of their own."""
    graded = made_up_grade("chat", task="rooms", R4=["failed: x"])
    results = gradescope.results(graded)
    assert (results["score"], results["extra_data"]["task"]) == (80.0, "rooms")
    entry = results["tests"][0]
    assert (entry["name"], entry["score"], entry["max_score"]) == ("rooms", 80.0, 100.0)
    hidden = gradescope.results(graded, frozenset({"R4"}))
    assert [each["name"] for each in hidden["tests"][:2]] == ["rooms", "rooms: R4"]


# ---- the command ----


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "nothing to grade"),
        (["--server", "python3 mine.py"], "{port}"),
        (["--server", "python3 'mine.py {port}"], "no closing quotation"),
        (["--each", "no/such/*.py"], "no/such/*.py"),
        (["--each", "*", "--server", "python3 {port}"], "{file}"),
        (["--each", "*", "--json", "x"], "--out"),
        (["--server", "x {port}", "--only", "F9"], "F9"),
        (["--server", "x {port}", "--hidden", "nothing"], "nothing"),
        (["--server", "x {port}", "--time-limit", "3"], "--time-limit"),
        (["--server", "x {port}", "--time-limit", "nan"], "--time-limit"),
        (["--server", "x {port}", "--time-limit", "inf"], "--time-limit"),
        (["--server", "x {port}", "--folder", "no/such"], "no/such"),
        (["--server", "x {port}", "--json", "no/such/file"], "no/such/file"),
    ],
)
def test_options_that_make_no_sense(options, said, capsys):
    """One line on standard error, and status 2."""
    assert command.main([*options, "--profile", "echo"]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert said in err


def test_without_pytest(monkeypatch, capsys):
    """It says how to get it."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert command.main(["--server", "x {port}", "--profile", "echo"]) == 2
    assert "python3 -m pip install pytest" in capsys.readouterr().err


def test_letters_that_a_terminal_does_not_have(monkeypatch, tmp_path):
    """They are no reason to lose a result."""
    path = tmp_path / "results.json"
    shown = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", shown)
    monkeypatch.setattr(command, "grade", lambda *_: made_up_grade(C2=["failed: x"]))
    assert command.main(["--server", "x {port}", "--profile", "echo", "--json", str(path)]) == 0
    shown.flush()
    assert b"\\u2192" in shown.buffer.getvalue()
    assert json.loads(path.read_text())["score"] == 98


def test_an_interrupted_grading_leaves_no_empty_result(monkeypatch, tmp_path):
    """A script that collects the files would take it for a result."""

    def interrupted(*_):
        raise KeyboardInterrupt

    path = tmp_path / "results.json"
    monkeypatch.setattr(command, "grade", interrupted)
    assert command.main(["--server", "x {port}", "--profile", "echo", "--json", str(path)]) == 130
    assert not path.exists()


def each_of_two(tmp_path, *options):
    """The options that grade two submissions, with their results in tmp_path/grades."""
    for name in ("ann", "bob"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "server.py").touch()
    each = ["--each", str(tmp_path / "*" / "server.py"), "--out", str(tmp_path / "grades")]
    return [*each, "--profile", "echo", *options]


def test_what_is_graded_is_kept(monkeypatch, tmp_path):
    """The spreadsheet grows with each submission, whatever becomes of the next."""
    path = tmp_path / "grades" / "grades.csv"
    lines = []

    def grade_and_look(submission, order):
        lines.append(len(path.read_text().splitlines()) if path.exists() else 0)
        return made_up_grade()

    monkeypatch.setattr(command, "grade_apart", grade_and_look)
    assert command.main(each_of_two(tmp_path)) == 0
    assert lines == [0, 2]
    assert len(path.read_text().splitlines()) == 3


def test_a_spreadsheet_that_cannot_be_written(monkeypatch, tmp_path, capsys):
    """One line, before anything is graded or when it happens."""
    options = each_of_two(tmp_path)
    path = tmp_path / "grades" / "grades.csv"
    path.mkdir(parents=True)
    assert command.main(options) == 2
    path.rmdir()

    def grade_and_hinder(submission, order):
        path.mkdir()
        return made_up_grade()

    monkeypatch.setattr(command, "grade_apart", grade_and_hinder)
    assert command.main(options) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("grade: ")]
    assert [line.partition(":")[0] for line in lines] == ["grade", "grade"]
    assert all("grades.csv" in line for line in lines)


F5_BROKEN = {"rule": "F5", "sent": "s", "came": "c", "expected": "e", "before": "b got b"}
H1_BROKEN = F5_BROKEN | {"rule": "H1"}


@pytest.mark.parametrize(
    ("written", "nobody"),
    [
        (None, False),
        ({"error": "it did not start"}, True),
        (H1_BROKEN, True),
        (H1_BROKEN | {"server": "", "greets_the_first": False}, True),
        (H1_BROKEN | {"server": "it ended", "greets_the_first": True}, False),
        (F5_BROKEN | {"server": ""}, False),
    ],
)
def test_a_server_that_greets_somebody_is_tested(written, nobody):
    """One client after another is a fault, and much may be right beside it."""
    preflight = Preflight.from_json(written)
    assert preflight.nobody_gets_in == nobody
    assert preflight.as_json() == written


@pytest.mark.parametrize(
    ("output", "status", "last_words"),
    [
        ("1 line\nan error was noted\n\n  ValueError: bad\n\n", 1, "ValueError: bad"),
        ("", 3, "it ended with status 3"),
        ("..... [ 10%]", None, "it was ended after 7 s"),
        ("..... [ 10%]", -signal.SIGTERM, "it was killed by SIGTERM"),
    ],
)
def test_why_there_is_no_report(output, status, last_words):
    """What the run said last, or how it has ended."""
    assert suite.Run(output, status, 7).last_words() == last_words


def test_what_is_no_part_of_a_submission_is_not_weighed(tmp_path):
    """A student's .venv is not copied, so it may be as large as it likes."""
    for name, size in (("server.py", 10), (".venv/lib/large", 5000), ("static/page", 200)):
        path = tmp_path / ".git" / "mine" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * size)
    assert size_of(tmp_path / ".git" / "mine") == 210


LOOKS_FOR_THE_REPORT = """
import json, os, pathlib, sys, tempfile
path = pathlib.Path(sys.argv[1].partition("=")[2])
path.write_text("[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]")
folders = pathlib.Path(tempfile.gettempdir()).glob("grade-*")
path.write_text(json.dumps([str(file) for folder in folders for file in folder.iterdir()]))
"""


@pytest.mark.skipif(os.name == "nt", reason="a file without a name has no path on Windows")
def test_a_report_has_no_name_that_a_submission_could_find(monkeypatch, tmp_path):
    """And it is read when no process of the submission is left to write there."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    contained = NotContained()
    words = ["-c", LOOKS_FOR_THE_REPORT]
    files, run = suite.run_and_read(contained, words, "--json", 30)
    assert (files, run.status, contained.swept) == ([], 0, 1), run.output


def test_submissions_are_named_by_what_they_have_of_their_own(tmp_path):
    """By their folders, or by their files where several are in one; then each comes alone."""
    files = []
    for name in ("ann/server.py", "bob/server.py", "more/cid.py", "more/dan.py"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
        files.append(path)
    submissions = named(map(str, files))
    assert [each.name for each in submissions] == ["ann", "bob", "more/cid", "more/dan"]
    assert [each.source for each in submissions] == [files[0].parent, files[1].parent, *files[2:]]
    assert submissions[0].command == "run server.py {port}"


def named(files):
    return command.name_submissions(list(files), "run {file} {port}", "echo")


@pytest.mark.parametrize(
    ("files", "names"),
    [
        (
            ["smith jones/server.py", "smith+jones/server.py", "./smith_jones/server.py"],
            ["smith jones", "smith+jones", "smith_jones"],
        ),
        (["x/y/server.py", "x_y/server.py"], ["x/y", "x_y"]),
        (["all/server.js", "all/server.py"], ["server.js", "server.py"]),
        (["a.tar.gz", "a.tar", "a"], ["a.tar.gz", "a.tar", "a"]),
    ],
    ids=["spaces", "folders", "suffixes", "suffixes of suffixes"],
)
def test_names_are_kept_as_they_are(files, names, tmp_path, monkeypatch):
    """A gradebook has them, and no two of them become alike; what was given is kept, too."""
    monkeypatch.chdir(tmp_path)
    for file in files:
        path = tmp_path / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    submissions = named(files)
    assert [each.name for each in submissions] == names
    assert [each.given for each in submissions] == files


@pytest.mark.parametrize(
    ("names", "files"),
    [
        (["smith jones", "smith+jones", "smith_jones"], ["smith jones", "smith+jones"]),
        (["x/y", "x_y", "x_y-2"], ["x_y-3", "x_y", "x_y-2"]),
        (["Ann", "ann", "a\u0308", "\u00e4"], ["Ann", "ann-2", "a\u0308", "\u00e4-2"]),
        (["a\nb", "a\x1bb", "a\udcf6b"], ["a_b", "a_b-2", "a_b-3"]),
        (["z" * 300, "z" * 301, "\u00e4" * 150], ["z" * 200, "z" * 200 + "-2", "\u00e4" * 100]),
    ],
    ids=["spaces", "folders", "case and accents", "no letters", "length"],
)
def test_no_two_submissions_have_one_file(names, files):
    """On no system, and one that can keep its name keeps it."""
    called = command.file_names(names)
    assert [called[name] for name in names][: len(files)] == files
    assert len(set(called.values())) == len(names)


def test_what_was_graded_is_said_as_it_was_given(monkeypatch, tmp_path):
    """In report, JSON and spreadsheet, for names that differ in one character."""
    names = ["smith jones", "smith+jones", "smith_jones"]
    if os.name == "posix" and sys.platform != "darwin":
        # This is no UTF-8.
        names.append(os.fsdecode(b"j\xf6rg"))
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "server.py").touch()

    def graded(submission, order):
        return dataclasses.replace(made_up_grade(), name=submission.name, given=submission.given)

    monkeypatch.setattr(command, "grade_apart", graded)
    monkeypatch.chdir(tmp_path)
    assert command.main(["--each", "./*/server.py", "--out", "out", "--profile", "echo"]) == 0
    given = {name: f"./{name}/server.py" for name in names}
    with open("out/grades.csv", encoding="utf-8", errors="surrogateescape", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["submission"]: row["given as"] for row in rows} == given
    texts = {path.name: path.read_text(encoding="utf-8") for path in Path("out").glob("*.txt")}
    results = [json.loads(path.read_text()) for path in Path("out").glob("*.json")]
    assert sorted(each["extra_data"]["given_as"] for each in results) == sorted(given.values())
    assert len(texts) == len(names)
    for name in names[:3]:
        first, second, *_ = texts[f"{name}.txt"].splitlines()
        assert first.startswith(f"{name}: ")
        assert second == f"Given as: ./{name}/server.py"


@pytest.mark.parametrize(
    ("options", "name", "given"),
    [
        (["--folder", "smith jones/"], "smith jones", "smith jones/"),
        ([], "server", "python3 server.py {port} {options}"),
    ],
    ids=["a folder", "a command"],
)
def test_one_server_is_said_as_it_was_given(options, name, given, monkeypatch, tmp_path, capsys):
    """A folder, or without one the command that starts it."""
    (tmp_path / "smith jones").mkdir()
    monkeypatch.chdir(tmp_path)
    seen = []

    def graded(submission, order):
        seen.append((submission.name, submission.given))
        return dataclasses.replace(made_up_grade(), given=submission.given)

    monkeypatch.setattr(command, "grade", graded)
    server = ["--server", "python3 server.py {port} {options}", "--profile", "echo"]
    assert command.main([*server, *options, "--json", "results.json"]) == 0
    assert seen == [(name, given)]
    assert f"\nGiven as: {given}\n" in capsys.readouterr().out
    assert json.loads(Path("results.json").read_text())["extra_data"]["given_as"] == given


def test_names_that_begin_alike_differ_in_the_table():
    """A long one is cut in the middle."""
    grades = [
        dataclasses.replace(made_up_grade(), name=f"the third assignment of {name}")
        for name in ("ann", "bob")
    ]
    rows = table(grades).splitlines()[2:4]
    assert rows[0].split("  ")[0] != rows[1].split("  ")[0]


# ---- submissions ----

# The commonest bug of all, as the zoo has it.
CUTS_LINES = "recv-is-a-message"


def grade_each(folder, names, options):
    """Grade submissions, with all temporary files below `folder`; returns it, and the table."""
    temporary = folder / "tmp"
    temporary.mkdir()
    for name in names:
        if name == CUTS_LINES:
            find_bug(name).write_copy(folder / name, broken=True)
        else:
            shutil.copytree(SUBMISSIONS / name, folder / name)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "tests.grade", "--each", str(folder / "*" / "server.py")),
            *("--profile", "echo", "--out", str(folder / "grades"), *options),
        ],
        cwd=REPOSITORY,
        env={**os.environ, "TMPDIR": str(temporary)},
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def processes_below(folder):
    """Command lines of the processes that run in a folder, also if it is gone by now."""
    command_lines = []
    for pid in proc.all_pids():
        # It has ended meanwhile, or may not be looked into.
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/{pid}/cwd").startswith(str(folder)):
                command_lines.append(proc.command_line(pid))
    return command_lines


# What is graded while other tests are run, for the fixtures of these names: submissions, options.
# Those that make the grader wait for long are graded beside the others.
SLOW = ["hangs_at_start", CUTS_LINES]
GRADINGS = {
    "graded": (sorted(set(os.listdir(SUBMISSIONS)) - set(SLOW)), ["--only", "C1"]),
    "graded_alone": (["right"], ["--only", "C1"]),
    "graded_slowly": (SLOW, ["--only", "C1"]),
    "graded_as_select": (["threads_as_select"], ["--only", "model", "--model", "select"]),
}


@pytest.fixture(scope="module", autouse=True)
def begun(request, tmp_path_factory):
    """Futures by fixture: what any test needs is begun before the first of them."""
    needed = {name for item in request.session.items for name in item.fixturenames}
    with ThreadPoolExecutor(len(GRADINGS)) as workers:
        yield {
            name: workers.submit(grade_each, tmp_path_factory.mktemp(name), *GRADINGS[name])
            for name in GRADINGS
            if name in needed and proc.CAN_SEE
        }


def fixture_of(name):
    """The fixture of one of GRADINGS: (folder, table), when all of it is done."""

    @pytest.fixture(scope="module", name=name)
    def when_graded(begun):
        if not proc.CAN_SEE:
            pytest.skip("what is left behind is seen in /proc only")
        return begun[name].result()

    return when_graded


graded, graded_alone, graded_slowly, graded_as_select = map(fixture_of, GRADINGS)


def test_a_thread_per_client_is_no_select(graded_as_select):
    """From the command line, with the model alone."""
    folder, _ = graded_as_select
    text = (folder / "grades" / "threads_as_select.txt").read_text()
    assert text.startswith("threads_as_select: 0.0 of 20.0 points")
    assert "it is not select (threads per client: one each" in " ".join(text.split())


def rows_of(text):
    """The words of each line of a table, by its first."""
    return {line.split()[0]: line.split() for line in text.splitlines() if line}


def test_many_submissions_become_one_table(graded):
    """Each with its points and what broke first, and a file each; none spoils another."""
    folder, text = graded
    rows = rows_of(text)
    names = [path.parent.name for path in sorted(folder.glob("*/server.py"))]
    first = {name: rows[name][-1] for name in names}
    assert first == {
        "dies_at_start": "start",
        "hostile_forks": "-",
        "hostile_kills": "start",
        "hostile_prints": "-",
        "other_protocol": "H1",
        "right": "-",
        "threads_as_select": "-",
    }
    for name in ("right", "threads_as_select", "hostile_forks", "hostile_prints"):
        assert rows[name][1] == "1.0", name
    for name in first:
        assert json.loads((folder / "grades" / f"{name}.json").read_text())["tests"]
        assert (folder / "grades" / f"{name}.txt").read_text().startswith(f"{name}: ")
    assert (folder / "grades" / "grades.csv").read_text().count("\n") == len(first) + 1


def test_the_same_result_twice(graded_alone, graded):
    """To the letter, among others as alone."""
    alone, among_others = (
        (folder / "grades" / "right.txt").read_text().replace(str(folder), "")
        for folder, _ in (graded_alone, graded)
    )
    assert alone == among_others


def test_what_broke_first_is_named_though_another_rule_was_asked_for(graded_slowly):
    """A command fails because lines are cut, and it is the lines that have to be repaired."""
    _, text = graded_slowly
    assert rows_of(text)[CUTS_LINES][-1] == "F5"


def test_a_submission_that_cannot_be_tested_says_why(graded, graded_slowly):
    """In one line: what it died of, that it hangs, or that it speaks something else."""

    def report_of(name):
        folder, _ = graded_slowly if name in SLOW else graded
        return " ".join((folder / "grades" / f"{name}.txt").read_text().split())

    assert "No module named 'a_module_that_only_the_student_has'" in report_of("dies_at_start")
    assert "was not listening on its {port} after 10 s" in report_of("hangs_at_start")
    assert "stopped at H1" in report_of("other_protocol")
    assert "what graded it was killed by SIGKILL" in report_of("hostile_kills")


def test_nothing_is_left_behind(graded):
    """No process, though one has forked a hundred that ignore signals; and no file."""
    folder, _ = graded
    assert processes_below(folder) == []
    assert list((folder / "tmp").iterdir()) == []
    details = json.loads((folder / "grades" / "hostile_forks.json").read_text())["tests"][-1]
    assert details["visibility"] == "hidden"
    assert "left behind: " in details["output"]


# ---- limits ----

# Whatever descends from a process that grades is ended by it, so it is never this one.
CONTAINED = """
import json, shlex, subprocess, sys
from tests.grade.containment import Containment, Limits

with Containment(Limits(**json.loads(sys.argv[2]))) as contained:
    words = shlex.split(contained.command(sys.argv[1]))
    process = subprocess.Popen(words, stdout=subprocess.PIPE)
    said = process.communicate(timeout=30)[0].decode()
    here = [process.pid, str(contained.folder)]
notes = list(contained.notes.values())
print(json.dumps([process.returncode, said, here, contained.folder.exists(), notes]))
"""


def run_contained(words, **limits):
    """Run a command within limits; returns [status, output, [pid, folder], ..., notes]."""
    done = subprocess.run(
        [sys.executable, "-c", CONTAINED, shlex.join(words), json.dumps(limits)],
        cwd=REPOSITORY,
        env={**os.environ, "SECRET": "of the instructor"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


WHAT_IT_SEES = """
import json, os, resource
limits = {name: resource.getrlimit(getattr(resource, name)) for name in dir(resource)
          if name.startswith("RLIMIT_")}
print(json.dumps([[os.getpid(), os.getcwd()], sorted(os.environ), limits]))
"""


@pytest.mark.skipif(os.name == "nt", reason="this system has no limits for a process")
def test_a_server_runs_within_its_limits():
    """In its folder, as the process that was started, with little environment."""
    words = [sys.executable, "-c", WHAT_IT_SEES]
    status, said, there, still_there, _ = run_contained(
        words, files=100, file_size=4096, cpu_seconds=7
    )
    here, variables, limits = json.loads(said)
    assert (status, here, still_there) == (0, there, False)
    assert "SECRET" not in variables
    assert {"HOME", "TMPDIR", "PATH"} <= set(variables)
    assert limits["RLIMIT_NOFILE"] == [100, 100]
    assert limits["RLIMIT_FSIZE"] == [4096, 4096]
    assert limits["RLIMIT_CPU"] == [7, 7]
    assert limits["RLIMIT_CORE"] == [0, 0]


@NEEDS_PROC
def test_a_broken_pipe_can_end_a_server():
    """L6 is about that, and the program before it, which is Python, ignores SIGPIPE."""
    _, said, *_ = run_contained(["cat", "/proc/self/status"])
    (ignored,) = [line.split()[1] for line in said.splitlines() if line.startswith("SigIgn")]
    assert not int(ignored, 16) >> (signal.SIGPIPE - 1) & 1


FORKS = "import os, time\nfor _ in range(40): os.fork() or time.sleep(60)\ntime.sleep(60)"


@NEEDS_PROC
@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("import time; held = b'x' * (300 << 20); time.sleep(60)", "for its memory"),
        (FORKS, "over 20 processes"),
    ],
)
def test_a_server_that_takes_too_much_is_ended(program, said):
    """Memory and processes are watched, for no limit of the system binds there.

    Its output ends with the last of its processes, and that is waited for.
    """
    *_, notes = run_contained([sys.executable, "-c", program], memory=100 << 20, processes=20)
    assert said in notes[0]
