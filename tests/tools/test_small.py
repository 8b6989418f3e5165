"""The four small.py: what they are, and that each keeps and breaks what the table says."""

import concurrent.futures
import itertools
import re
import shutil
import subprocess
import sys

import pytest

from harness.launcher import PROFILES, REPOSITORY, VERSIONS, launch
from tests.processes import run_module
from tests.small import table
from tests.small.definitions import definitions
from tests.small.lessons import TITLES, mends
from tests.small.scripts import SCRIPTS
from tests.small.suite import (
    MISSING_OPTIONS,
    all_about,
    broken_by,
    judge,
    load_verdicts,
    protocol_tests,
    rules_for,
    run_patiently,
    run_suite,
    small_path,
)
from tests.suite.rules import text_of
from tests.zoo.patching import apply_diff, target
from tests.zoo.suite_runner import SuiteRunner

VERDICTS = load_verdicts()

each_version = pytest.mark.parametrize("version", VERSIONS)


# ---- The files ----


@each_version
def test_the_names_of_small_stand_in_server_in_the_same_order(version):
    """So `diff -u small.py server.py` is the list of what is added."""
    small = definitions(small_path(version))
    server = definitions(REPOSITORY / version / "server.py")
    assert {"Client", "Server", "Server.on_line", "main"} <= {*small}
    assert [name for name in server if name in small] == small


@pytest.mark.parametrize(
    ("one", "other"), list(itertools.combinations(VERSIONS, 2)), ids=lambda version: version[:2]
)
def test_the_four_have_one_skeleton(one, other):
    """What any two have in common comes in the same order."""
    first, second = definitions(small_path(one)), definitions(small_path(other))
    common = {*first} & {*second}
    assert [name for name in first if name in common] == [name for name in second if name in common]


@each_version
def test_a_small_server_runs_alone_and_takes_a_port_only(version, tmp_path, join):
    """The one file and the standard library are all it takes."""
    shutil.copy(small_path(version), tmp_path)
    command = [sys.executable, "-I", "small.py"]
    with launch(
        version, [*command, "--port", "0"], profile=PROFILES[version], cwd=tmp_path
    ) as server:
        alice = join(server, "alice")
        assert alice.ask("/list") == ["* 1 online: alice"]
        alice.send_line("/quit")
        assert alice.read_to_end() == ["* bye alice"]
        server.process.kill()
    for option in ("--host", "--idle-timeout", "--stall-timeout", "--max-clients", "--verbose"):
        refused = subprocess.run([*command, option, "1"], cwd=tmp_path, capture_output=True)
        assert refused.returncode == 2, f"small.py takes {option}"


# ---- The table ----


@pytest.fixture(scope="module")
def judged():
    """{(version, whether the table says "keeps"): {rule: verdict}, to come}; two runs at a time."""

    def run(version, keeps):
        rules = rules_that(version, keeps)
        if keeps:
            return judge(run_patiently(runner, version, *all_about(rules)).values())
        evidence = {VERDICTS[version][rule] for rule in rules} - {*MISSING_OPTIONS.values()}
        tests = [f"tests/suite/{test}" for test in sorted(evidence)]
        return judge(run_suite(runner, version, *tests).values())

    with SuiteRunner() as runner:
        pairs = itertools.product(VERSIONS, (True, False))
        yield {pair: runner.submit(run, *pair) for pair in pairs}


def rules_that(version, keeps):
    """The rules that a small.py keeps, or breaks, by the table."""
    return [rule for rule, evidence in VERDICTS[version].items() if keeps == (evidence is None)]


@each_version
def test_what_it_keeps(judged, version):
    """Every test that is about a rule that it keeps passes, but for those that need an option."""
    verdicts = judged[version, True].result()
    lost = {rule: verdicts[rule] for rule in rules_that(version, keeps=True) if verdicts[rule]}
    assert not lost, f"{version}/small.py breaks more than the table says: {lost}; {ANEW}"


@each_version
def test_what_it_breaks(judged, version):
    """The test that has shown it fails still."""
    verdicts = judged[version, False].result()
    mended = [rule for rule in rules_that(version, keeps=False) if verdicts[rule] is None]
    assert not mended, f"{version}/small.py keeps more than the table says: {mended}; {ANEW}"


ANEW = "if that is right: python3 -m tests.small judge --write"


@each_version
def test_every_rule_is_judged(version):
    """Those of the version's profile, and no others; every judgement names a test there is."""
    assert [*VERDICTS[version]] == rules_for(version)
    tests = protocol_tests()
    for rule in rules_that(version, keeps=False):
        if (evidence := VERDICTS[version][rule]) != MISSING_OPTIONS.get(rule):
            assert evidence.partition("[")[0] in tests


def test_the_page_has_the_table():
    """tests/small/README.md is what the stored judgements make of it."""
    text = table.README.read_text(encoding="utf-8")
    assert table.renewed(text, VERDICTS) == text, ANEW


@each_version
def test_the_readme_has_its_lines_of_code(version):
    """README.md says behind each file how many they are."""
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    for name in ("small.py", "server.py"):
        source = (REPOSITORY / version / name).read_text(encoding="utf-8")
        assert f"({version}/{name}) ({table.lines_of_code(source)}) |" in readme


def test_core_rules_are_kept_by_all():
    """PROTOCOL.md marks as core what every small.py keeps."""
    core = {rule for rule in TITLES if rule != "launch" and text_of(rule).endswith(" *core*")}
    assert {"H1", "H3", "F5", "C2", "D1", "D2"} <= core
    for version in VERSIONS:
        assert not core.intersection(rules_that(version, keeps=False)), version


# ---- How each broken rule is seen, and what mends it ----


@each_version
def test_what_mends_a_rule_is_there(version):
    """Each method that the table names stands in server.py."""
    defined = {name.rpartition(".")[2] for name in definitions(REPOSITORY / version / "server.py")}
    for rule in rules_that(version, keeps=False):
        needed = {*mends(rule, version)}
        assert needed and needed <= defined, f"{rule}: no {needed - defined or 'names'}"


# (rule, version) of each script, and each small.py that breaks its rule.
SHOWS = [(rule, version) for rule in SCRIPTS for version in broken_by(VERDICTS, rule)]


def small(*arguments):
    """Run the command to its end; returns (exit status, output, errors)."""
    return run_module("tests.small", *arguments)


@pytest.fixture(scope="module")
def all_shows():
    """{(rule, version): its `show`, to come}. They mostly wait, so a few run at once."""
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        yield {
            (rule, version): pool.submit(small, "show", rule, "--version", version)
            for rule, version in SHOWS
        }


@pytest.mark.parametrize(("rule", "version"), SHOWS)
def test_a_broken_rule_can_be_seen(all_shows, rule, version):
    """`show` ends with 0 when something is wrong with small.py and nothing with server.py."""
    status, output, errors = all_shows[rule, version].result()
    assert (status, errors) == (0, ""), output
    assert " <-" in output


# ---- The exercises of the chapters ----

# The solution of each: vN-RULE.diff, for the small.py of that version.
EXERCISES = sorted((REPOSITORY / "tests" / "solutions" / "small").glob("*.diff"))


@pytest.mark.parametrize("diff", EXERCISES, ids=lambda path: path.stem)
def test_an_exercise_can_be_solved(diff, tmp_path):
    """`check` finds the rule broken in small.py, and kept once it is mended."""
    version, rule = diff.stem.split("-")
    mine = tmp_path / "mine.py"
    text = diff.read_text(encoding="utf-8")
    source = (REPOSITORY / target(text)).read_text(encoding="utf-8")
    command = ("check", rule, str(mine), "--version", version)
    mine.write_text(source, encoding="utf-8")
    status, output, errors = small(*command)
    assert (status, errors) == (1, ""), output
    assert "the first that does not: " in output
    mine.write_text(apply_diff(text, source), encoding="utf-8")
    status, output, errors = small(*command)
    assert (status, errors) == (0, ""), output
    passed, total = re.search(r"(\d+) of (\d+) tests pass", output).groups()
    assert passed == total


def test_each_chapter_has_an_exercise_that_is_checked():
    """And none is without its solution."""
    command = re.compile(r"-m tests\.small check (\w\d) mine/(v\d)\.py --version v\d")
    asked = {
        f"{version}-{rule}"
        for name in VERSIONS
        for rule, version in command.findall((REPOSITORY / name / "README.md").read_text())
    }
    assert asked == {path.stem for path in EXERCISES}
    assert len(asked) == len(VERSIONS)


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["check", "F2", "nosuchfile.py", "--version", "v1"], 1),
        (["show", "H1"], 2),
        (["show", "F3", "--version", "v1"], 1),
        ([], 2),
    ],
    ids=["no-such-file", "no-such-rule", "not-broken-there", "nothing"],
)
def test_mistakes_are_one_line(arguments, status):
    """What a user can cause is said in one line."""
    status_now, _, errors = small(*arguments)
    assert status_now == status
    assert re.fullmatch(r"small: [^\n]+\n", errors)
