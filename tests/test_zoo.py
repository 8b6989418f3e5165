"""The bug zoo: each diff still fits, is caught by the rule that it names, and can be seen."""

import concurrent.futures
import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys

import pytest

from harness.launcher import REPOSITORY
from tests.processes import Marked
from tests.rules import text_of
from tests.zoo import matrix
from tests.zoo.catalogue import BUGS, NAMES, ZooError, all_bugs, find_bug
from tests.zoo.matrix import Catch, read_report, suite_command, suite_environment, table
from tests.zoo.patching import DiffError, apply_diff, target
from tests.zoo.play import play

each_bug = pytest.mark.parametrize("name", NAMES)

# Most of what is waited for is no work of the processor, so a few at once cost no more time.
AT_ONCE = 5
ONE_LINE = re.compile(r"zoo: [^\n]+\n")


def zoo(*arguments, marked=None, seconds=30):
    """Run the command; returns (exit status, standard output, standard error)."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.zoo", *arguments],
        cwd=REPOSITORY,
        env={**(marked or Marked()).environment, "PYTHONUTF8": "1"},
        capture_output=True,
        encoding="utf-8",
        timeout=seconds,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def background(tmp_path_factory):
    """What the suite finds, and what `run` prints: ("suite" or "run", name of a bug) -> a result.

    All of it begins at the first use.
    """
    folder = tmp_path_factory.mktemp("broken")
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        suites = {("suite", name): pool.submit(run_suite, name, folder) for name in NAMES}
        runs = {("run", name): pool.submit(run_bug, name) for name in NAMES}
        yield suites | runs


def run_suite(name, folder):
    """Run the quickest test of a bug against a copy with the bug; returns (Catch, its output)."""
    bug = find_bug(name)
    program = bug.write_copy(folder / name, broken=True)
    report = folder / name / "report.json"
    command = suite_command(
        program, bug.profile, report, "-x", "--rule", bug.rule, f"tests/{bug.test}"
    )
    done = subprocess.run(
        command, cwd=REPOSITORY, env=suite_environment(), capture_output=True, timeout=50
    )
    return read_report(bug, report), done.stdout.decode(errors="replace")


def run_bug(name):
    """Returns exit status, standard output, standard error, and how it was marked."""
    marked = Marked()
    return (*zoo("run", name, marked=marked), marked)


# ---- The diffs and what is said about them ----


def test_the_zoo_is_complete():
    """A diff and a story for each of fifteen bugs; the four versions all have some."""
    assert len(NAMES) == 15
    files = sorted(path.name for path in BUGS.iterdir())
    assert files == sorted(f"{name}.{ending}" for name in NAMES for ending in ("diff", "md"))
    assert len({bug.version for bug in all_bugs()}) == 4


@each_bug
def test_a_diff_is_small_fits_and_is_a_program(name):
    """It is for the version it says, changes a few lines, and what comes out can be compiled."""
    bug = find_bug(name)
    assert target(bug.diff) == f"{bug.version}/server.py"
    changed = [line for line in bug.diff.splitlines()[2:] if line[:1] in ("-", "+")]
    assert 0 < len(changed) <= 10, f"{len(changed)} lines are changed"
    broken = bug.broken_source()
    assert broken != bug.right_source()
    compile(broken, f"{name}.py", "exec")


@pytest.mark.skipif(not shutil.which("patch"), reason="patch is not installed")
@each_bug
def test_patch_does_the_same(name, tmp_path):
    """Our own applier and patch(1) make the same file of a diff."""
    bug = find_bug(name)
    copy = bug.write_copy(tmp_path / "copy", broken=False)
    command = [
        "patch",
        "--silent",
        "--no-backup-if-mismatch",
        str(copy),
        str(BUGS / f"{name}.diff"),
    ]
    subprocess.run(command, check=True, timeout=20)
    assert copy.read_text(encoding="utf-8") == bug.broken_source()


@each_bug
def test_a_story_has_all_its_parts(name):
    """What you see, the cause, the fix, and a rule that there is; as wide as a terminal."""
    bug = find_bug(name)
    parts = re.findall(r"^\*\*(.+?)\.\*\*", bug.text, re.MULTILINE)
    assert parts == ["What you see", "The cause", "The fix", "The rule"]
    assert f"**The rule.** {bug.rule}:" in bug.text
    assert text_of(bug.rule)
    assert max(map(len, bug.text.splitlines())) <= 80


DIFF = """\
--- a/x
+++ b/x
@@ -1,3 +1,3 @@
 one
-two
+TWO
 three
"""


def test_a_diff_is_applied_wherever_its_lines_stand():
    """Line numbers do not matter."""
    assert apply_diff(DIFF, "zero\none\ntwo\nthree\n") == "zero\none\nTWO\nthree\n"


@pytest.mark.parametrize(
    ("diff", "text", "said"),
    [
        (DIFF, "one\n2\nthree\n", "0 times"),
        (DIFF, "one\ntwo\nthree\n" * 2, "2 times"),
        (DIFF.replace(" three\n", ""), "one\ntwo\nthree\n", "ends early"),
        (DIFF + "three\n", "one\ntwo\nthree\n", "neither a hunk"),
    ],
    ids=["changed", "ambiguous", "cut off", "more than its hunks"],
)
def test_a_diff_that_does_not_fit(diff, text, said):
    """It is refused with one line that says why."""
    with pytest.raises(DiffError, match=said) as caught:
        apply_diff(diff, text)
    assert "\n" not in str(caught.value)


# ---- Each is caught by the rule that it names ----


@each_bug
def test_caught_by_the_rule_it_names(background, name):
    """The test that it names turns red, and is first of all about the rule that it names."""
    bug = find_bug(name)
    catch, output = background["suite", name].result()
    red = [test.partition("[")[0] for test in catch.red.get(bug.rule, [])]
    skipped = re.search(r"SKIPPED \[\d+\] \S+ (.*)", output)
    if skipped and not catch.red:
        pytest.skip(skipped[1])
    assert bug.test in red, f"{bug.test} did not turn red, or not for {bug.rule}:\n{output[-2000:]}"


# ---- Each can be seen ----


@each_bug
def test_run_shows_it(background, name):
    """Two columns, what was different, exit status 0, and no process is left behind."""
    status, output, errors, marked = background["run", name].result()
    if "cannot be shown here" in errors:
        pytest.skip(errors.strip())
    assert (status, errors) == (0, ""), output + errors
    lines = output.splitlines()
    assert lines[0] == f"{name}: {find_bug(name).headline}"
    assert any(line.startswith("Seen: ") for line in lines[-3:])
    assert max(map(len, lines)) <= 80
    assert any(" <-" in line for line in lines[4:])
    assert marked.left_behind() == []


def test_run_says_when_it_has_seen_nothing(capsys):
    """A diff that does nothing leaves two servers that are both right."""
    assert not play(dataclasses.replace(find_bug("split-utf8"), diff=""))
    assert "Not seen: " in capsys.readouterr().out


@pytest.mark.skipif(os.name != "posix", reason="one process cannot press Ctrl-C for another here")
@pytest.mark.parametrize("stop_signal", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_ctrl_c_leaves_nothing_behind(tmp_path, stop_signal):
    """Neither a process nor a file, even of a server that does not stop by itself."""
    marked = Marked()
    with subprocess.Popen(
        [sys.executable, "-m", "tests.zoo", "run", "deaf-to-ctrl-c"],
        cwd=REPOSITORY,
        env={**marked.environment, "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    ) as process:
        while not process.stdout.readline().startswith("nobody is there"):
            assert process.poll() is None, process.stderr.read()
        process.send_signal(stop_signal)
        _, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (130, "zoo: interrupted\n")
    assert marked.left_behind() == []
    assert list(tmp_path.iterdir()) == []


# ---- The other commands ----


def test_list():
    """A line for each, no wider than a terminal."""
    status, output, errors = zoo("list")
    assert (status, errors) == (0, "")
    lines = output.splitlines()
    assert [line.split()[0] for line in lines] == list(NAMES)
    assert max(map(len, lines)) <= 80


def test_show():
    """The story, and the diff as it is in its file."""
    status, output, errors = zoo("show", "eof-ignored")
    assert (status, errors) == (0, "")
    assert "**What you see.**" in output
    assert output.endswith((BUGS / "eof-ignored.diff").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["run", "nosuchbug"], 1, "there are: eof-ignored, "),
        (["show", "nosuchbug"], 1, "there are: eof-ignored, "),
        (["matrix", "nosuchbug"], 1, "there are: eof-ignored, "),
        ([], 2, "--help"),
        (["feed"], 2, "list"),
        (["run"], 2, "NAME"),
        (["list", "--all"], 2, "--all"),
    ],
    ids=lambda value: " ".join(value) or "nothing" if isinstance(value, list) else None,
)
def test_a_mistake_is_one_line(arguments, status, said):
    """It says what there is."""
    got, output, errors = zoo(*arguments)
    assert (got, output) == (status, "")
    assert ONE_LINE.fullmatch(errors), errors
    assert said in errors


def test_a_diff_that_fits_no_more_is_one_line():
    """It names the bug and the file."""
    bug = dataclasses.replace(find_bug("split-utf8"), version="v1_threads")
    with pytest.raises(ZooError, match=r"split-utf8.diff does not fit v1_threads/server.py: "):
        bug.broken_source()


def suite_that_writes(*reports):
    """A stand-in for suite_command(): its runs write these reports, one after the other."""
    left = list(reports)

    def command(program, bug, report, *options):
        write = "import pathlib, sys; pathlib.Path(sys.argv[1]).write_text(sys.argv[2])"
        return [sys.executable, "-c", write, str(report), json.dumps(left.pop(0))]

    return command


def report_of(cut_short, **outcomes):
    """A report in which one test of each rule has had this outcome."""
    rules = {
        rule: {"tests": [{"test": f"test_x.py::test_{rule}", "outcome": outcome}]}
        for rule, outcome in outcomes.items()
    }
    return {"rules": rules, "cut_short": cut_short}


def test_a_matrix_run_that_is_cut_short(monkeypatch, capsys, tmp_path):
    """The tests of the named rule are run by themselves then, and both results count."""
    first = report_of("ended by --run-limit 120", F5="failed", L7="not run")
    again = report_of(None, L7="failed")
    monkeypatch.setattr(matrix, "suite_command", suite_that_writes(first, again))
    results = tmp_path / "results.json"
    assert matrix.run_matrix([find_bug("eof-ignored")], results)
    output, progress = capsys.readouterr()
    assert "eof-ignored       x X\n" in output
    assert output.endswith("1 of 1 caught by the rule they name\n")
    assert progress.startswith(" 1 of 1  eof-ignored: caught, 2 red (")
    bug = json.loads(results.read_text())["bugs"]["eof-ignored"]
    assert bug["caught"] and sorted(bug["red"]) == ["F5", "L7"]


def test_a_matrix_run_without_a_test(monkeypatch):
    """A suite that has run nothing has caught nothing, and that is no verdict."""
    monkeypatch.setattr(matrix, "suite_command", suite_that_writes(report_of(None, L7="not run")))
    with pytest.raises(ZooError, match="eof-ignored: the suite has run no test, and said: nothing"):
        matrix.run_matrix([find_bug("eof-ignored")], None)


def test_the_table():
    """A column for each rule with a hit; the named one is marked, also where it was missed."""
    caught, missed = find_bug("eof-ignored"), find_bug("split-utf8")
    lines = table(
        [
            Catch(caught, {"L7": ["test_x.py::test_x"], "launch": ["test_x.py::test_y"]}, None),
            Catch(missed, {"L7": ["test_x.py::test_x"]}, "ended by --run-limit 120"),
        ]
    )
    assert lines[:4] == [
        "                  F L l",
        "                  5 7 a",
        "eof-ignored         X x",
        "split-utf8        . x",
    ]
    assert "split-utf8: ended by --run-limit 120" in lines
    assert lines[-1] == "1 of 2 caught by the rule they name"
