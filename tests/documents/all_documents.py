"""The Markdown documents of the repository, and a mark for tests that look at each of them."""

from pathlib import Path

import pytest

from harness.launcher import REPOSITORY


def name_of(document: Path) -> str:
    """The path of a document as people know it: from the repository's top folder."""
    return document.relative_to(REPOSITORY).as_posix()


def text_of(document: Path) -> str:
    return document.read_text(encoding="utf-8")


def for_each(documents: list[Path]) -> pytest.MarkDecorator:
    """Run a test once for each of these documents, as its argument `document`."""
    return pytest.mark.parametrize("document", documents, ids=name_of)


# Folders that begin with a dot hold what others have written, such as installed packages.
DOCUMENTS = [
    path
    for path in sorted(REPOSITORY.glob("**/*.md"))
    if not any(part.startswith(".") for part in path.relative_to(REPOSITORY).parts)
]

each_document = for_each(DOCUMENTS)
