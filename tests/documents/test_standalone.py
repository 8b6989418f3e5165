"""The four files themselves: each stands alone; they have one skeleton and share two sections."""

import ast
import itertools
import shutil
import sys

import pytest

from harness.launcher import PROFILES, REPOSITORY, VERSIONS, launch
from tests.small.definitions import definitions

SOURCES = {version: REPOSITORY / version / "server.py" for version in VERSIONS}

each_version = pytest.mark.parametrize("version", VERSIONS)


def shared_sections(version: str) -> str:
    """All from the first line of "The protocol" to the last line before main()."""
    source = SOURCES[version].read_text(encoding="utf-8")
    start = source.index("# ==== The protocol ====\n")
    end = source.index("\ndef main() -> None:\n")
    section = source[start:end]
    assert section.count("# ==== Start-up ====\n") == 1
    return section


def constants(version: str) -> dict[str, str]:
    """The value of each constant as it is written, without comments."""
    return {
        node.targets[0].id: ast.unparse(node.value)
        for node in ast.parse(SOURCES[version].read_bytes()).body
        if isinstance(node, ast.Assign)
    }


@pytest.mark.parametrize("version", VERSIONS[1:])
def test_the_shared_sections_are_the_same_in_all_four(version):
    """Layout: to the letter; a correction in one file belongs in all."""
    sections = shared_sections(version)
    assert sections == shared_sections(VERSIONS[0])
    assert len(sections.splitlines()) > 100


@pytest.mark.parametrize("version", VERSIONS[1:])
def test_constants_mean_the_same_wherever_they_are(version):
    """Layout: a limit of the protocol has one value; what a version is called differs."""
    first, other = constants(VERSIONS[0]), constants(version)
    own = {"VERSION", "DEFAULT_PORT", "MAX_CLIENTS", "COMMANDS"}
    common = (first.keys() & other.keys()) - own
    assert {"MAX_LINE", "READ_SIZE", "HIGH_WATER"} <= common
    assert {name: other[name] for name in common} == {name: first[name] for name in common}


@each_version
def test_the_model_comes_first(version):
    """Layout: client, server and serve(), then the two shared sections, then main()."""
    source = SOURCES[version].read_text(encoding="utf-8")
    landmarks = ["class Client:", "class Server:", "def serve(", "# ==== The protocol ====\n"]
    landmarks += ["# ==== Start-up ====\n", "\ndef main()"]
    assert sorted(landmarks, key=source.index) == landmarks


@each_version
def test_only_the_standard_library_is_imported(version):
    """Layout: nothing from this repository and nothing to install."""
    imported = set()
    for node in ast.walk(ast.parse(SOURCES[version].read_bytes())):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import in line {node.lineno}"
            imported.add(node.module.partition(".")[0])
    assert imported - sys.stdlib_module_names == set()


@each_version
def test_a_server_runs_alone_in_an_empty_folder(version, tmp_path, join):
    """Layout: the one file is all it takes, isolated from whatever Python could find elsewhere."""
    shutil.copy(SOURCES[version], tmp_path)
    command = [sys.executable, "-I", "server.py", "--port", "0"]
    with launch(version, command, profile=PROFILES[version], cwd=tmp_path) as server:
        alice = join(server, "alice")
        assert alice.ask("/list") == ["* 1 online: alice"]
        alice.close()
        assert server.stop() == 0
    assert [path.name for path in tmp_path.iterdir()] == ["server.py"]


@pytest.mark.parametrize(
    ("one", "other"), list(itertools.combinations(VERSIONS, 2)), ids=lambda version: version[:2]
)
def test_one_skeleton(one, other):
    """Layout: what any two have in common comes in the same order, so that `diff` can pair it."""
    first, second = definitions(SOURCES[one]), definitions(SOURCES[other])
    common = set(first) & set(second)
    assert {"serve", "main", "decode_line", "Server"} <= common
    assert [name for name in first if name in common] == [name for name in second if name in common]
