"""Part 1 of each chapter: step by step to small.py, without a line that is not on the page.

A step is a file in grow/, or a ```diff block below `<!-- step: v3_broadcast -->`, which is applied
to the small.py of the version before. What a step takes over need not be printed again.
"""

import ast
import re
import sys

import pytest

from harness.launcher import PROFILES, REPOSITORY, VERSIONS, launch
from tests.documents.all_documents import text_of
from tests.documents.quoted_code import quotations
from tests.zoo.patching import apply_diff

DIFF_STEP = re.compile(r"^<!-- step: (\w+) -->\n```diff\n(.*?)^```$", re.MULTILINE | re.DOTALL)
IN_DIFFS = {"v3_broadcast"}

each_version = pytest.mark.parametrize("version", VERSIONS)
each_with_files = pytest.mark.parametrize(
    "version", [version for version in VERSIONS if version not in IN_DIFFS]
)


def page(version):
    return text_of(REPOSITORY / version / "README.md")


def code_lines(path):
    """The lines of a file that are to be typed: without indentation, and without its docstring."""
    source = path.read_text(encoding="utf-8")
    docstring = ast.parse(source).body[0]
    rest = source.splitlines()[docstring.end_lineno :]
    return {line.strip() for line in rest} - {""}


def quoted_lines(version, source):
    """The lines that a chapter quotes from a file."""
    blocks = [block.code for block in quotations(page(version)) if block.source == source]
    return {line.strip() for code in blocks for line in code.splitlines()}


def steps_of(version):
    """The files in a chapter's grow/, in the order in which its page comes to them."""
    sources = [block.source for block in quotations(page(version))]
    return [source for source in dict.fromkeys(sources) if source.startswith(f"{version}/grow/")]


def small_of(version):
    return REPOSITORY / version / "small.py"


@each_with_files
def test_every_line_of_the_steps_is_on_the_page(version):
    """Or it stands in a step before, and has been typed."""
    steps = steps_of(version)
    folder = REPOSITORY / version / "grow"
    in_folder = {f"{version}/grow/{path.name}" for path in folder.glob("*.py")}
    assert {*steps} == in_folder
    assert 3 <= len(steps) <= 5
    known = set()
    for source in steps:
        lines = code_lines(REPOSITORY / source)
        missing = lines - quoted_lines(version, source) - known
        assert not missing, f"{source}: not on the page: {missing}"
        known |= lines


@each_with_files
def test_every_line_of_small_is_on_the_page(version):
    """Or the reader has typed it in an earlier chapter."""
    earlier = VERSIONS[: VERSIONS.index(version)]
    typed = set().union(*(code_lines(small_of(name)) for name in earlier))
    missing = code_lines(small_of(version)) - quoted_lines(version, f"{version}/small.py") - typed
    assert not missing, f"{version}/small.py: not on the page: {missing}"


@pytest.mark.parametrize("version", sorted(IN_DIFFS))
def test_the_diffs_on_the_page_make_small_of_the_one_before(version, tmp_path, join):
    """Each step runs and has its clients talk, and the last one is small.py."""
    before = VERSIONS[VERSIONS.index(version) - 1]
    text = small_of(before).read_text(encoding="utf-8")
    diffs = [diff for name, diff in DIFF_STEP.findall(page(version)) if name == version]
    assert 3 <= len(diffs) <= 5
    for diff in diffs:
        text = apply_diff(diff, text)
        step = tmp_path / "step.py"
        step.write_text(text, encoding="utf-8")
        command = [sys.executable, "-I", str(step), "--port", "0"]
        # Only the last step is a room in everything, so `join` takes all of them for an echo.
        with launch(before, command, profile=PROFILES[before]) as server:
            alice, bob = join(server, "alice"), join(server, "bob")
            assert alice.ask("/list")[-1] == "* 2 online: alice, bob"
            bob.close()
            server.process.kill()
    assert text == small_of(version).read_text(encoding="utf-8")


@each_version
def test_a_step_is_small_and_needs_nothing_of_ours(version):
    """At most twenty lines are new; only the standard library is imported."""
    known = set()
    for source in steps_of(version):
        path = REPOSITORY / source
        assert len(code_lines(path) - known) <= 20, f"{source} has too much that is new"
        known |= code_lines(path)
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Import):
                assert {alias.name for alias in node.names} <= sys.stdlib_module_names
            assert not isinstance(node, ast.ImportFrom)


@each_version
def test_the_chapter_has_its_three_parts(version):
    """Each says how long it takes."""
    headings = re.findall(r"^## Part (\d): (.+) it \(about .+\)$", page(version), re.MULTILINE)
    assert headings == [("1", "grow"), ("2", "break"), ("3", "look at")]
