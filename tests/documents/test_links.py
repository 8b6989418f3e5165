"""What a document leads to is there: links, their anchors, paths in backticks, and modules."""

import fnmatch
import importlib.util
import re
from pathlib import Path

import pytest

from harness.launcher import REPOSITORY
from tests.documents.all_documents import each_document, text_of

LINK = re.compile(r"\]\((?!https?:)(?P<path>[^)#]*)(?:#(?P<anchor>[^)]+))?\)")
FENCED = re.compile(r"^( *)```.*?^\1```", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
QUOTED = re.compile(r"`([^`\n]+)`")
# In backticks a path has a slash within or at its end, or ends as a file's name does.
PATH = re.compile(r"[\w.?*-]+/[\w./?*-]*|[\w*-]+\.(?:py|md|c|pl|diff|json|svg|html|toml|yml)")
MODULE = re.compile(r"-m ((?:benchmarks|tests|v\d_\w+)[\w.]*)")
# Examples: files that a reader or a command makes, a schema, and a folder of another system.
ELSEWHERE = re.compile(
    r"(\.venv|mine|results|chat|concurrency-study-benchmark)/|(report\.html|result\.json)$|.*\bNAME\."
)
# Folders that begin with a dot hold what others have written, such as installed packages.
NAMES = [path.name for path in REPOSITORY.glob("[!.]*/**/*")]


@each_document
def test_links_lead_somewhere(document):
    for link in LINK.finditer(text_of(document)):
        target = (document.parent / link["path"]) if link["path"] else document
        assert target.exists(), link[0]
        if link["anchor"]:
            assert link["anchor"] in anchors(text_of(target)), link[0]


def anchors(text: str) -> set[str]:
    """What GitHub calls the headings of a document in a link."""
    headings = HEADING.findall(FENCED.sub("", text))
    return {re.sub(r"[^\w\s-]", "", heading).lower().replace(" ", "-") for heading in headings}


@each_document
def test_paths_in_backticks_are_there(document):
    assert missing_paths(text_of(document), document.parent) == []


@each_document
def test_modules_in_commands_are_there(document):
    for module in MODULE.findall(text_of(document)):
        assert importlib.util.find_spec(module), module


def missing_paths(text: str, folder: Path) -> list[str]:
    """The paths in backticks that lead nowhere, from this folder, from the top, or by a name."""
    words = [word for quoted in QUOTED.findall(FENCED.sub("", text)) for word in quoted.split()]
    paths = [word.partition("::")[0].rstrip(",;:") for word in words]
    return [
        path
        for path in paths
        if PATH.fullmatch(path)
        and not ELSEWHERE.match(path)
        and not any(folder.glob(path))
        and not any(REPOSITORY.glob(path))
        and not fnmatch.filter(NAMES, path)
    ]


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("`harness/`, `v?_*/`, `launcher.py` and `tests/suite/test_*.py::test_one`", []),
        ("`mine/server.py`, `/quit`, `str.casefold()`, `results/report.html`", []),
        ("```\n`no/such/file`\n```\n", []),
        ("`python3 no/such.py --port 1`, `other.py`", ["no/such.py", "other.py"]),
    ],
)
def test_a_path_that_leads_nowhere_is_found(text, missing):
    assert missing_paths(text, REPOSITORY) == missing
