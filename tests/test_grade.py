"""`python3 -m tests.grade`: points, reports, the model from outside, hostile submissions."""

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

from harness.launcher import PROFILES, REPOSITORY
from tests import rules
from tests.grade import __main__ as command
from tests.grade import gradescope, points, process_tree, suite
from tests.grade.containment import size_of
from tests.grade.grading import Grade, Order, nobody_gets_in
from tests.grade.model import MODELS, QUESTIONS, UNKNOWN, Evidence, judge
from tests.grade.report import report, table
from tests.limits.ways import NO_MORE_THREADS_PREPARATION, SMALL_BUFFERS_PREPARATION

SUBMISSIONS = Path(__file__).with_name("submissions")
NEEDS_PROC = pytest.mark.skipif(not process_tree.CAN_SEE, reason="this system has no /proc")


def made_up_report(profile="echo", **outcomes):
    """A rule report in which all tests passed; H4=["passed", "failed"] says otherwise.

    Each outcome is a function of the rule, or a list of the cases of one.
    """
    by_rule = {}
    for rule in points.points_of(profile):
        tests = []
        for number, cases in enumerate(outcomes.get(rule, ["passed"])):
            for case in [cases] if isinstance(cases, str) else cases:
                outcome, _, message = case.partition(": ")
                tests.append(
                    {
                        "test": f"test_it.py::test_{rule}_{number}[case]",
                        "function": f"test_it.py::test_{rule}_{number}",
                        "rules": [rule],
                        "outcome": outcome,
                        "message": message,
                        "sent": f"sent to {rule}\n" if outcome == "failed" else "",
                        "came": f"{rule} \x1b[31mcame\x07" if outcome == "failed" else "",
                        "expected": f"{rule} expected" if outcome == "failed" else "",
                        "server": "",
                    }
                )
        by_rule[rule] = {"text": rules.text_of(rule), "tests": tests}
    return {"preflight": None, "cut_short": None, "begin_with": None, "rules": by_rule}


def made_up_grade(profile="echo", model=None, **outcomes):
    """A Grade of that report."""
    order = Order(profile, model)
    share = 0.8 if model else 1.0
    graded = points.grade_rules(made_up_report(profile, **outcomes), profile, share=share)
    verdict = judge(evidence_of("select"), model) if model else None
    return Grade("somebody", order, graded, verdict=verdict)


def of_rule(grade, rule):
    (found,) = [each for each in grade.rules if each.rule == rule]
    return found


def evidence_of(model, **others):
    """What fits a model best, but for `others`, findings by question."""
    found = {name: min(question.fits[model]) for name, question in QUESTIONS.items()}
    if model == "select":
        found["descriptor 1024"] = "refused"
        found["/work"] = "others wait"
    return [Evidence(name, finding, "seen") for name, finding in (found | others).items()]


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
        ("skipped: nc is not installed", 0.0, 2.0),
        ("skipped: --server has no {options}", 2.0, 0.0),
        ("not run: cut short", 2.0, 0.0),
        ("failed: x", 2.0, 0.0),
    ],
)
def test_no_points_by_guess(outcome, lost, not_graded):
    """What did not run earns nothing; only what this system cannot run is no loss, either."""
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
    made_up["rules"]["F6"]["tests"] = []
    made_up["rules"]["H2"]["tests"][0]["rules"] = ["H2", "F6"]
    made_up["rules"]["C1"]["tests"] = []
    by_rule = {each.rule: each for each in points.grade_rules(made_up, "echo")}
    assert by_rule["F6"].earned == by_rule["F6"].worth
    assert by_rule["C1"].earned == 0


def test_what_a_run_did_not_reach_counts(monkeypatch):
    """A run that is cut short after the first of a rule's tests does not earn all its points."""
    made_up = made_up_report(C1=["passed", "not run"])
    made_up["cut_short"] = "time is over"
    monkeypatch.setattr(suite, "run_and_read", lambda *_: (made_up, suite.Run("", 2, 9)))
    report = suite.run_suite(NotContained(), "x {port}", "echo", 9)
    (c1,) = points.grade_rules(report, "echo", only=["C1"])
    assert (c1.passed, c1.functions) == (1, 2)
    assert c1.losses[0].message == "time is over"


# ---- the model, judged ----


@pytest.mark.parametrize("model", MODELS)
def test_each_model_passes_as_itself(model):
    """All points for evidence that fits."""
    verdict = judge(evidence_of(model), model)
    assert (verdict.answer, verdict.earned) == ("yes", points.MODEL_POINTS)
    assert judge(evidence_of(model), "any").answer == "yes"


@pytest.mark.parametrize(
    ("is_one", "claimed"),
    [
        ("threads", "select"),
        ("threads", "asyncio"),
        ("select", "threads"),
        ("asyncio", "threads"),
        ("select", "asyncio"),
    ],
)
def test_another_model_does_not_pass(is_one, claimed):
    """However well it behaves otherwise."""
    verdict = judge(evidence_of(is_one), claimed)
    assert (verdict.answer, verdict.earned, verdict.lost) == ("no", 0.0, points.MODEL_POINTS)
    assert verdict.because


def test_a_model_that_cannot_be_told_earns_nothing_and_loses_nothing():
    """Where a system has no /proc, say."""
    blind = [Evidence(name, UNKNOWN, "no /proc") for name in QUESTIONS]
    for model in MODELS:
        verdict = judge(blind, model)
        assert (verdict.answer, verdict.earned, verdict.lost) == (UNKNOWN, 0.0, 0.0)
        assert verdict.not_graded == points.MODEL_POINTS


@pytest.mark.parametrize(
    ("model", "finding", "earned"),
    [
        ("asyncio", "a limit of its own", 20.0),
        ("asyncio", "refused", 18.0),
        ("asyncio", "died", 18.0),
        ("threads", "a limit of its own", 20.0),
    ],
)
def test_who_has_no_room_for_1100_clients_keeps_its_model(model, finding, earned):
    """L2 allows a limit, and an end at descriptor 1024 costs no more than that look is worth."""
    verdict = judge(evidence_of(model, **{"descriptor 1024": finding}), model)
    assert (verdict.answer, verdict.earned) == ("yes", earned)


FORKED_TWICE = """
import os, sys, time
from tests.grade.containment import adopt_orphans
from tests.grade.process_tree import tasks_below

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
def test_who_has_lost_its_parent_is_counted():
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
    found = what_they_wait_in(50)
    process.kill()
print(found.finding)
"""


@NEEDS_PROC
def test_one_that_only_looks_on_is_no_readiness_loop():
    """Fifty threads wait for a client each, beside one that waits for all of them."""
    words = [sys.executable, "-c", WHAT_IT_WAITS_IN, ONLY_LOOKS_ON]
    done = subprocess.run(words, cwd=REPOSITORY, stdout=subprocess.PIPE, timeout=30, text=True)
    assert done.stdout.strip() in ("each for its own", UNKNOWN)


def look_at(version, path):
    """Let the model of one of our versions be looked at; the evidence is written to `path`."""
    server = shlex.join([sys.executable, str(REPOSITORY / version / "server.py")])
    options = ["--server", f"{server} --port {{port}} {{options}}", "--json", str(path)]
    options += ["--profile", PROFILES[version]]
    subprocess.run(
        [sys.executable, "-m", "tests.grade.model", *options],
        cwd=REPOSITORY,
        check=True,
        timeout=60,
    )


@pytest.fixture(scope="module")
def looks(tmp_path_factory):
    """Futures by version, and a folder: all four are looked at, two at a time."""
    folder = tmp_path_factory.mktemp("models")
    with ThreadPoolExecutor(2) as workers:
        yield (
            {each: workers.submit(look_at, each, folder / f"{each}.json") for each in PROFILES},
            folder,
        )


@NEEDS_PROC
@pytest.mark.parametrize(
    ("version", "is_one", "is_none"),
    [
        ("v1_threads", ["threads"], ["select", "asyncio"]),
        ("v2_select", ["select"], ["threads", "asyncio"]),
        ("v3_broadcast", ["select"], ["threads", "asyncio"]),
        ("v4_asyncio", ["asyncio", "select"], ["threads"]),
    ],
)
def test_the_model_of_our_own(version, is_one, is_none, looks):
    """Each of the four versions passes as what it is, and as nothing else."""
    futures, folder = looks
    futures[version].result(timeout=150)
    text = (folder / f"{version}.json").read_text()
    evidence = [Evidence(**each) for each in json.loads(text)["evidence"]]
    facts = [f"{each.name}: {each.finding} ({each.facts})" for each in evidence]
    for model in is_one:
        assert judge(evidence, model).answer == "yes", (model, facts)
        assert judge(evidence, model).earned == points.MODEL_POINTS, (model, facts)
    for model in is_none:
        assert judge(evidence, model).answer == "no", (model, facts)


# ---- reports ----

BROKEN = {
    "F5": ["passed", "failed: a line was cut", "failed: another"],
    "H3": ["failed: nobody was let in " + "and waited " * 40],
    "L4": ["skipped: this system has no SIGKILL"],
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
    graded.preflight = {"rule": "F5", "sent": "x" * 500, "came": "\x1b[2J", "expected": "y"}
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
    graded.preflight = {"rule": "F5", "sent": "s", "came": "c", "expected": "e"}
    results = gradescope.results(graded, frozenset({"F5"}))
    visible = [test for test in results["tests"] if test["visibility"] == "visible"]
    shown = json.dumps([results["output"], [test["output"] for test in visible]])
    assert "F5" not in shown and "secret" not in shown
    assert "F5" in json.dumps(gradescope.results(graded))


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
    monkeypatch.setattr(suite, "is_pytest_there", lambda: False)
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


def interrupted(*_):
    raise KeyboardInterrupt


def test_an_interrupted_grading_leaves_no_empty_result(monkeypatch, tmp_path):
    """Whoever collects the files would take it for one."""
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
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("grade: ")]
    assert [line.partition(":")[0] for line in told] == ["grade", "grade"]
    assert all("grades.csv" in line for line in told)


@pytest.mark.parametrize(
    ("fault", "nobody"),
    [
        (None, False),
        ({"error": "it did not start"}, True),
        ({"rule": "H1"}, True),
        ({"rule": "H1", "greets_the_first": False}, True),
        ({"rule": "H1", "greets_the_first": True}, False),
        ({"rule": "F5"}, False),
    ],
)
def test_who_greets_somebody_is_tested(fault, nobody):
    """One client after another is a fault, and much may be right beside it."""
    assert nobody_gets_in(fault) == nobody


@pytest.mark.parametrize(
    ("output", "status", "said"),
    [
        ("1 line\nValueError: bad\nlast", 1, "ValueError: bad"),
        ("", 3, "it ended with status 3"),
        ("", None, "it was ended after 7 s"),
        pytest.param(
            *("", -signal.SIGTERM, "it was killed by SIGTERM"),
            marks=pytest.mark.skipif(os.name == "nt", reason="no signals end a process there"),
        ),
    ],
)
def test_why_there_is_no_report(output, status, said):
    """An error, or how the run has ended."""
    assert suite.Run(output, status, 7).last_words() == said


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
    """And is read when nobody is left who could write there."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    contained = NotContained()
    words = ["-c", LOOKS_FOR_THE_REPORT]
    report, run = suite.run_and_read(contained, words, "--json", 30)
    assert (report, run.status, contained.swept) == ([], 0, 1), run.output


def test_submissions_are_named_by_what_they_have_of_their_own(tmp_path):
    """By their folders, or by their files where several are in one; then each comes alone."""
    files = []
    for name in ("ann/server.py", "bob/server.py", "more/cid.py", "more/dan.py"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
        files.append(path)
    found = command.name_submissions(files, "run {file} {port}")
    assert [each.name for each in found] == ["ann", "bob", "more_cid", "more_dan"]
    assert [each.source for each in found] == [files[0].parent, files[1].parent, *files[2:]]
    assert found[0].command == "run server.py {port}"


# ---- submissions ----


def start_grade(folder, names, *options):
    """Begin to grade submissions, with all temporary files below `folder`; returns the Popen."""
    temporary = folder / "tmp"
    temporary.mkdir()
    for name in names:
        shutil.copytree(SUBMISSIONS / name, folder / name)
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "tests.grade", "--each", str(folder / "*" / "server.py")),
            *("--profile", "echo", "--out", str(folder / "grades"), *options),
        ],
        cwd=REPOSITORY,
        env={**os.environ, "TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end_grade(process):
    """Wait until it is done; returns its output."""
    output, errors = process.communicate(timeout=150)
    assert process.returncode == 0, errors
    return output


def processes_below(folder):
    """Command lines of the processes that run in a folder, also if it is gone by now."""
    found = []
    for pid in process_tree.all_processes():
        try:
            where = os.readlink(f"/proc/{pid}/cwd")
        except OSError:
            continue
        if where.startswith(str(folder)):
            found.append(process_tree.command_line(pid))
    return found


# What is graded, while other tests are run, for the fixtures of these names: submissions, options.
# Those for which there is long waiting are graded beside the others.
SLOW = ["hangs_at_start", "recv_is_a_message"]
GRADINGS = {
    "graded": (sorted(set(os.listdir(SUBMISSIONS)) - set(SLOW)), ["--only", "C1"]),
    "graded_alone": (["right"], ["--only", "C1"]),
    "graded_slowly": (SLOW, ["--only", "C1"]),
    "graded_as_select": (["threads_as_select"], ["--only", "model", "--model", "select"]),
}


@pytest.fixture(scope="module", autouse=True)
def begun(request, tmp_path_factory):
    """(folder, Popen) by fixture: what any test asks for is begun before the first of them."""
    asked_for = {name for item in request.session.items for name in item.fixturenames}
    processes = {}
    for name, (names, options) in GRADINGS.items():
        if name in asked_for and process_tree.CAN_SEE:
            folder = tmp_path_factory.mktemp(name)
            processes[name] = (folder, start_grade(folder, names, *options))
    yield processes
    for _, process in processes.values():
        process.terminate()
    for _, process in processes.values():
        process.communicate(timeout=30)


def when_graded(name, begun):
    """(folder, table) of one of GRADINGS, when all of it is done."""
    if not process_tree.CAN_SEE:
        pytest.skip("what is left behind is seen in /proc only")
    folder, process = begun[name]
    return folder, end_grade(process)


@pytest.fixture(scope="module")
def graded(begun):
    """(folder, table): all of tests/submissions but the slow ones."""
    return when_graded("graded", begun)


@pytest.fixture(scope="module")
def graded_alone(begun):
    """(folder, table): the right one once more."""
    return when_graded("graded_alone", begun)


@pytest.fixture(scope="module")
def graded_slowly(begun):
    """(folder, table): those for which there is long waiting."""
    return when_graded("graded_slowly", begun)


@pytest.fixture(scope="module")
def graded_as_select(begun):
    """(folder, table): a thread per client that claims to be a select."""
    return when_graded("graded_as_select", begun)


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
    texts = [(folder / "grades" / "right.txt").read_text() for folder, _ in (graded_alone, graded)]
    assert texts[0] == texts[1]


def test_what_broke_first_is_named_though_another_rule_was_asked_for(graded_slowly):
    """A command fails because lines are cut, and it is the lines that are to be mended."""
    _, text = graded_slowly
    assert rows_of(text)["recv_is_a_message"][-1] == "F5"


def test_a_submission_that_cannot_be_tested_says_why(graded, graded_slowly):
    """In one line: what it died of, that it hangs, or that it speaks something else."""

    def said_of(name):
        folder, _ = graded_slowly if name in SLOW else graded
        return " ".join((folder / "grades" / f"{name}.txt").read_text().split())

    assert "No module named 'a_module_that_only_the_student_has'" in said_of("dies_at_start")
    assert "was not listening after 10 s" in said_of("hangs_at_start")
    assert "stopped at H1" in said_of("other_protocol")
    assert "what graded it was killed by SIGKILL" in said_of("hostile_kills")


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
print(json.dumps([process.returncode, said, here, contained.folder.exists(), contained.notes]))
"""


def run_contained(words, **limits):
    """Run a command within limits; returns [status, output, [pid, folder], ..., notes]."""
    done = subprocess.run(
        [sys.executable, "-c", CONTAINED, shlex.join(words), json.dumps(limits)],
        cwd=REPOSITORY,
        env={**os.environ, "SECRET": "of the one who grades"},
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
def test_who_takes_too_much_is_ended(program, said):
    """Memory and processes are watched, for no limit of the system binds there.

    Its output ends with the last of its processes, and that is waited for.
    """
    *_, notes = run_contained([sys.executable, "-c", program], memory=100 << 20, processes=20)
    assert said in notes[0]
