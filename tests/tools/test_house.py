"""The house: which room may know which, and where a comment stands."""

import ast
import io
import re
import subprocess
import tokenize
from pathlib import Path

import pytest

from harness.launcher import REPOSITORY

# Each may import itself and those before it. A module that lies in a folder with rooms of its own,
# such as tests/processes.py, belongs to the folder.
ROOMS = (
    "harness",
    "tests.limits",
    "tests.suite",
    "tests.zoo",
    "tests.small",
    "tests.grade",
    "tests.other_language",
    "tasks",
    "benchmarks.result",
    "benchmarks.load",
    "benchmarks.experiments",
    "benchmarks.contestants",
    "benchmarks.run",
    "benchmarks.report",
    "benchmarks.timeline",
    "benchmarks",
    "tests",
    "tests.tools",
    "tests.benchmarks",
    "tests.documents",
)
# A constant has its unit and its meaning beside it, and a word for a tool stands where that looks.
BESIDE = re.compile(r"[A-Z][A-Z0-9_]*(: .+)? = .*#|.*# (noqa|type): ?")


def modules() -> dict[str, Path]:
    """{name: file} of all Python files in the rooms."""
    folders = dict.fromkeys(room.partition(".")[0] for room in ROOMS)
    files = (path for folder in folders for path in (REPOSITORY / folder).rglob("*.py"))
    return {name_of(path): path for path in sorted(files) if "submissions" not in path.parts}


def name_of(path: Path) -> str:
    """`tests.suite.rules` for that file, `tests.suite` for the `__init__.py` beside it."""
    parts = path.relative_to(REPOSITORY).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path: Path, known: dict[str, Path]) -> set[str]:
    """The modules of ours that a file imports anywhere in it."""
    imported = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: say from where, not from how far above"
            members = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in known else node.module for name in members]
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytest_plugins":
            names = ast.literal_eval(node.value)
        imported |= {name for name in names if name in known}
    return imported


def room_of(module: str) -> str:
    """The innermost room that a module lies in."""
    return max((room for room in ROOMS if f"{module}.".startswith(f"{room}.")), key=len)


@pytest.fixture(scope="module")
def imports() -> dict[str, set[str]]:
    """{module: the modules of ours that it imports}."""
    known = modules()
    return {name: imports_of(path, known) for name, path in known.items()}


def test_no_room_imports_upwards(imports):
    """A picture of the rooms has all its arrows in one direction."""
    upwards = [
        f"{module} imports {other}"
        for module, others in imports.items()
        for other in sorted(others)
        if ROOMS.index(room_of(other)) > ROOMS.index(room_of(module))
    ]
    assert upwards == []


def test_no_circle(imports):
    """Nor do modules of one room import each other in a circle. Take away who imports nobody."""
    left = {module: others - {module} for module, others in imports.items()}
    while leaves := {module for module, others in left.items() if not others & left.keys()}:
        left = {module: others for module, others in left.items() if module not in leaves}
    assert sorted(left) == []


def test_a_package_itself_imports_nothing(imports):
    """Its modules cannot be had without it, so what it imports would be in a circle with them."""
    packages = [name for name, path in modules().items() if path.name == "__init__.py"]
    assert {name: imports[name] for name in packages if imports[name]} == {}


def test_nothing_is_imported_by_a_string(imports):
    """Such an import is in no picture."""
    hidden = re.compile(r"import_module|__import__|exec_module")
    users = [name for name, path in modules().items() if hidden.search(path.read_text())]
    assert users == [name_of(Path(__file__))]


def python_files() -> list[Path]:
    done = subprocess.run(
        ["git", "ls-files", "-z", "*.py"], cwd=REPOSITORY, capture_output=True, text=True
    )
    if done.returncode != 0:
        pytest.skip("this is no checkout of git")
    files = [REPOSITORY / name for name in done.stdout.split("\0") if name]
    return [path for path in files if path.is_file() and not path.is_symlink()]


def test_a_comment_stands_above_what_it_is_about():
    """In a line of its own: see CONTRIBUTING.md."""
    beside = []
    for path in python_files():
        source = path.read_text(encoding="utf-8")
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            is_beside = token.type == tokenize.COMMENT and token.line[: token.start[1]].strip()
            if is_beside and not BESIDE.match(token.line):
                beside.append(f"{path.relative_to(REPOSITORY)}:{token.start[0]}")
    assert beside == []
