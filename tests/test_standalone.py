"""The four files themselves: each stands alone, all have one skeleton and one shared section."""

import ast
import itertools
import shutil
import sys

import pytest

from benchmarks.launcher import PROFILES, REPOSITORY, VERSIONS, launch

SOURCES = {version: REPOSITORY / version / "server.py" for version in VERSIONS}
MOST_LINES = {"v1_threads": 300, "v2_select": 300, "v3_broadcast": 350, "v4_asyncio": 350}

each_version = pytest.mark.parametrize("version", VERSIONS)


def shared_section(version):
    """The bytes from the banner that begins the section to the one that ends it, both included."""
    lines = SOURCES[version].read_bytes().splitlines(keepends=True)
    banners = [n for n, line in enumerate(lines) if b"shared protocol section" in line.lower()]
    banners = [n for n in banners if lines[n].startswith(b"# ===")]
    assert len(banners) == 2, f"{version}: banners in lines {[n + 1 for n in banners]}"
    return b"".join(lines[banners[0] : banners[1] + 1])


def definitions(version):
    """Names in the order of the file: top-level classes and functions, and Server's methods."""
    names = []
    for node in ast.parse(SOURCES[version].read_bytes()).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            names.append(node.name)
        if isinstance(node, ast.ClassDef) and node.name == "Server":
            names += [
                f"Server.{method.name}"
                for method in node.body
                if isinstance(method, ast.FunctionDef | ast.AsyncFunctionDef)
            ]
    return names


@pytest.mark.parametrize("version", VERSIONS[1:])
def test_the_shared_section_is_the_same_in_all_four(version):
    """Layout: byte for byte; who corrects one file has to correct all."""
    section = shared_section(version)
    assert section == shared_section(VERSIONS[0])
    assert len(section.splitlines()) > 20


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


@each_version
def test_length(version):
    """Layout: 200 to 300 lines, 350 at the very most for the last two."""
    assert 200 <= len(SOURCES[version].read_text().splitlines()) <= MOST_LINES[version]


@pytest.mark.parametrize(
    ("one", "other"), list(itertools.combinations(VERSIONS, 2)), ids=lambda version: version[:2]
)
def test_one_skeleton(one, other):
    """Layout: what any two have in common comes in the same order, so that `diff` can pair it."""
    first, second = definitions(one), definitions(other)
    common = set(first) & set(second)
    assert {"serve", "main", "decode_line", "Server"} <= common
    assert [name for name in first if name in common] == [name for name in second if name in common]
