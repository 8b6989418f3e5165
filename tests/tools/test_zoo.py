"""The bug zoo: each diff still fits, is caught by the rule that it names, and can be seen."""

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
from tests.processes import Marked, run_module
from tests.suite.rule_report import Outcome, Result
from tests.suite.rules import text_of
from tests.zoo import suite_runner
from tests.zoo.catalogue import BUGS, NAMES, ZooError, all_bugs, find_bug
from tests.zoo.matrix import Catch, run_matrix, table
from tests.zoo.patching import DiffError, apply_diff, target
from tests.zoo.play import play
from tests.zoo.suite_runner import SuiteRunner, python_server

each_bug = pytest.mark.parametrize("name", NAMES)

# Most of what is waited for is no work of the processor, so a few at once cost no more time.
AT_ONCE = 5
ONE_LINE = re.compile(r"zoo: [^\n]+\n")


def zoo(*arguments):
    """Run the command to its end; returns (exit status, output, errors)."""
    environment = {"PYTHONUTF8": "1"}
    return run_module("tests.zoo", *arguments, environment=environment, encoding="utf-8")


@pytest.fixture(scope="module")
def background(tmp_path_factory):
    """What the suite finds, and what `run` prints: ("suite" or "run", name of a bug) -> a result.

    All of it begins at the first use.
    """
    folder = tmp_path_factory.mktemp("broken")
    with SuiteRunner(AT_ONCE) as runner:
        suites = {("suite", name): runner.submit(catch, name, folder, runner) for name in NAMES}
        runs = {("run", name): runner.submit(zoo, "run", name) for name in NAMES}
        yield suites | runs


def catch(name, folder, runner):
    """Run the quickest test of a bug against a copy with the bug; returns what became of it."""
    bug = find_bug(name)
    server = python_server(bug.write_copy(folder / name, broken=True))
    options = ("-x", "--rule", bug.rule, f"tests/suite/{bug.test}")
    return runner.run(server, bug.profile, *options, run_limit=50).outcomes


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
    """Our own applier and patch(1) make the same file from a diff."""
    bug = find_bug(name)
    copy = bug.write_copy(tmp_path / "copy", broken=False)
    command = ["patch", "--silent", "--no-backup-if-mismatch", copy, BUGS / f"{name}.diff"]
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


HEAD = "--- a/x\n+++ b/x\n"
HUNK = "@@ -1,3 +1,3 @@\n one\n-two\n+TWO\n three\n"
NEXT_HUNK = "@@ -4,2 +4,2 @@\n-four\n+FOUR\n five\n"


@pytest.mark.parametrize(
    ("diff", "right"),
    [
        (HEAD, "zero\none\ntwo\nthree\nfour\nfive\n"),
        (HEAD + HUNK, "zero\none\nTWO\nthree\nfour\nfive\n"),
        (HEAD + HUNK + NEXT_HUNK, "zero\none\nTWO\nthree\nFOUR\nfive\n"),
    ],
    ids=["no hunk", "one", "two"],
)
def test_a_diff_is_applied_wherever_its_lines_stand(diff, right):
    """Line numbers do not matter."""
    assert apply_diff(diff, "zero\none\ntwo\nthree\nfour\nfive\n") == right


MISFITS = {
    "changed": (HUNK, "one\n2\nthree\n", "0 times"),
    "ambiguous": (HUNK, "one\ntwo\nthree\n" * 2, "2 times"),
    "cut off": (HUNK.replace(" three\n", ""), "one\ntwo\nthree\n", "ends early"),
    "more than its hunks": (HUNK + "three\n", "one\ntwo\nthree\n", "neither a hunk"),
    "hunks reversed": (HUNK + NEXT_HUNK, "four\nfive\none\ntwo\nthree\n", "above those of"),
    "hunks overlap": (
        HUNK + NEXT_HUNK.replace("four", "three"),
        "one\ntwo\nthree\nfive\n",
        "above those of",
    ),
    "half a line at the start": (HUNK, "someone\ntwo\nthree\n", "0 times"),
    "half a line at the end": (HUNK, "one\ntwo\nthree", "0 times"),
}


@pytest.mark.parametrize(("diff", "text", "words"), MISFITS.values(), ids=MISFITS)
def test_a_diff_that_does_not_fit(diff, text, words):
    """It is refused with one line that says why."""
    with pytest.raises(DiffError, match=words) as caught:
        apply_diff(diff, text)
    assert "\n" not in str(caught.value)


# ---- Each is caught by the rule that it names ----


@each_bug
def test_caught_by_the_rule_it_names(background, name):
    """The test that it names turns red, and is first of all about the rule that it names."""
    bug = find_bug(name)
    outcomes = background["suite", name].result()
    if all(outcome.result is Result.SKIPPED for outcome in outcomes):
        pytest.skip(outcomes[0].message)
    caught_by = {
        outcome.function
        for outcome in outcomes
        if outcome.result is Result.FAILED and outcome.rules[0] == bug.rule
    }
    assert bug.test in caught_by, outcomes


# ---- Each can be seen ----


@each_bug
def test_run_shows_it(background, name):
    """Two columns, what was different, exit status 0, and no process is left behind."""
    status, output, errors = background["run", name].result()
    if "cannot be shown here" in errors:
        pytest.skip(errors.strip())
    assert (status, errors) == (0, ""), output + errors
    lines = output.splitlines()
    assert lines[0] == f"{name}: {find_bug(name).headline}"
    assert any(line.startswith("Seen: ") for line in lines[-3:])
    assert max(map(len, lines)) <= 80
    assert any(" <-" in line for line in lines[4:])


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


# ---- One to mend ----


def test_a_copy_has_the_bug_until_it_is_mended(tmp_path):
    """`copy` writes a new file, `check` says whether the bug is in it."""
    mine = tmp_path / "mine" / "server.py"
    status, output, errors = zoo("copy", "split-utf8", str(mine))
    assert (status, errors) == (0, "")
    assert mine.read_text(encoding="utf-8") == find_bug("split-utf8").broken_source()
    assert f"python3 -m tests.zoo check split-utf8 {mine}" in output
    status, output, errors = zoo("check", "split-utf8", str(mine))
    assert (status, errors) == (1, ""), output
    assert "It is still there: " in output
    mine.write_text(find_bug("split-utf8").right_source(), encoding="utf-8")
    status, output, errors = zoo("check", "split-utf8", str(mine))
    assert (status, errors) == (0, ""), output
    assert "It is gone." in output


def test_a_copy_overwrites_nothing(tmp_path):
    """What somebody has half mended stays."""
    mine = tmp_path / "server.py"
    mine.write_text("half mended")
    status, output, errors = zoo("copy", "split-utf8", str(mine))
    assert (status, output) == (1, "")
    assert ONE_LINE.fullmatch(errors), errors
    assert mine.read_text() == "half mended"


@pytest.mark.parametrize("source", ["def", "import sys\nsys.exit(3)\n", ""])
def test_a_file_that_is_no_server_is_one_line(tmp_path, source):
    """Not a traceback, and not a mended bug."""
    mine = tmp_path / "server.py"
    mine.write_text(source)
    status, _, errors = zoo("check", "split-utf8", str(mine))
    assert status == 1
    assert ONE_LINE.fullmatch(errors), errors


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
    ("arguments", "status", "words"),
    [
        (["run", "nosuchbug"], 1, "there are: eof-ignored, "),
        (["show", "nosuchbug"], 1, "there are: eof-ignored, "),
        (["matrix", "nosuchbug"], 1, "there are: eof-ignored, "),
        (["check", "split-utf8", "nosuchfile.py"], 1, "`copy` writes it"),
        ([], 2, "--help"),
        (["feed"], 2, "list"),
        (["run"], 2, "NAME"),
        (["list", "--all"], 2, "--all"),
    ],
    ids=lambda value: " ".join(value) or "nothing" if isinstance(value, list) else None,
)
def test_a_mistake_is_one_line(arguments, status, words):
    """It says what there is."""
    status_now, output, errors = zoo(*arguments)
    assert (status_now, output) == (status, "")
    assert ONE_LINE.fullmatch(errors), errors
    assert words in errors


def test_a_diff_that_fits_no_more_is_one_line():
    """It names the bug and the file."""
    bug = dataclasses.replace(find_bug("split-utf8"), version="v1_threads")
    with pytest.raises(ZooError, match=r"split-utf8.diff does not fit v1_threads/server.py: "):
        bug.broken_source()


@pytest.fixture
def write_reports(monkeypatch):
    """`write_reports({...}, {...})`: runs of the suite write these, one after the other."""

    def stand_in(*reports):
        left = list(reports)

        def command(server, profile, report, *options):
            write = "import pathlib, sys; pathlib.Path(sys.argv[1]).write_text(sys.argv[2])"
            return [sys.executable, "-c", write, str(report), json.dumps(left.pop(0))]

        monkeypatch.setattr(suite_runner, "suite_command", command)

    return stand_in


def report_of(cut_short, **outcomes):
    """A report in which one test of each rule has had this outcome."""
    rules = {}
    for rule, result in outcomes.items():
        outcome = Outcome(f"test_x.py::test_{rule}", [rule], Result(result), "server")
        rules[rule] = {"tests": [outcome.as_json()]}
    by = {"reason": cut_short, "during": "test_x.py::test_z"} if cut_short else None
    return {"rules": rules, "cut_short_by": by, "begin_with": None}


def test_a_matrix_run_that_is_cut_short(write_reports, capsys, tmp_path):
    """The tests of the named rule are run by themselves then, and both results count."""
    write_reports(
        report_of("ended by --run-limit 120", F5="failed", L7="not run"),
        report_of(None, L7="failed"),
    )
    results = tmp_path / "results.json"
    assert run_matrix([find_bug("eof-ignored")], results)
    output, progress = capsys.readouterr()
    assert "eof-ignored       x X\n" in output
    assert "eof-ignored: ended by --run-limit 120\n" in output
    assert output.endswith("1 of 1 caught by the rule they name\n")
    assert progress.startswith(" 1 of 1  eof-ignored: caught, 2 red (")
    bug = json.loads(results.read_text())["bugs"]["eof-ignored"]
    assert bug["caught"] and sorted(bug["red"]) == ["F5", "L7"]
    assert bug["cut_short"] == "ended by --run-limit 120 during test_x.py::test_z"


def test_a_matrix_run_without_a_test(write_reports):
    """A suite that has run nothing has caught nothing, and that is no verdict."""
    write_reports(report_of(None, L7="not run"))
    with pytest.raises(ZooError, match="eof-ignored: the suite has run no test, and said: nothing"):
        run_matrix([find_bug("eof-ignored")], None)


def test_the_table():
    """A column for each rule with a hit; the named one is marked, also where it was missed."""
    caught, missed = find_bug("eof-ignored"), find_bug("split-utf8")
    red = {"L7": ["test_x.py::test_x"]}
    launch = {"launch": ["test_x.py::test_y"]}
    lines = table([Catch(caught, red | launch), Catch(missed, red)])
    assert lines[:4] == [
        "                  F L l",
        "                  5 7 a",
        "eof-ignored         X x",
        "split-utf8        . x",
    ]
    assert lines[-1] == "1 of 2 caught by the rule they name"
