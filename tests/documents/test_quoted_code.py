"""Code that a document quotes stands in the file that it names."""

import pytest

from harness.launcher import REPOSITORY, VERSIONS
from tests.documents.all_documents import each_document, name_of, text_of
from tests.documents.quoted_code import NotThere, Quotation, assert_stands, quotations, unmarked

SERVERS = [REPOSITORY / version / "server.py" for version in VERSIONS]


@each_document
def test_quoted_code_still_stands_in_its_file(document):
    differences = []
    for quotation in quotations(text_of(document)):
        try:
            assert_stands(quotation, REPOSITORY)
        except NotThere as error:
            block = f"quoted block {quotation.number}, which begins `{quotation.first_line}`"
            differences.append(f"{name_of(document)}, {block}: {error}")
    if differences:
        pytest.fail("\n".join(differences), pytrace=False)


@each_document
def test_code_of_a_server_names_its_file(document):
    first_lines = list(unmarked(text_of(document), SERVERS))
    assert not first_lines, (
        f"{name_of(document)}: no <!-- from FILE --> above the blocks that begin {first_lines}"
    )


# ---- The checks themselves ----

SOURCE = """\
class Server:
    def turn(self) -> None:
        readable = self.wait()

        for client in readable:
            self.receive(client)

    def stop(self) -> None:
        self.listener.close()
"""


@pytest.fixture
def stands(tmp_path):
    """Check a quotation of SOURCE."""
    (tmp_path / "server.py").write_text(SOURCE)

    def check(code: str, source: str = "server.py") -> None:
        assert_stands(Quotation(1, source, code), tmp_path)

    return check


@pytest.mark.parametrize(
    "code",
    [
        SOURCE,
        "def turn(self) -> None:\n    readable = self.wait()\n",
        "    for client in readable:\n        self.receive(client)\n",
        "def turn(self) -> None:\n    ...\n    self.receive(client)\n...\ndef stop(self)"
        " -> None:\n",
        "class Server:\n...\n    def stop(self) -> None:\n        self.listener.close()\n",
    ],
)
def test_a_true_quotation_is_accepted(stands, code):
    stands(code)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (
            "def turn(self) -> None:\n    readable = self.look()\n",
            r"line 3 .*\n.*look\(\)\n.*wait\(",
        ),
        ("def turn(self) -> None:\nreadable = self.wait()\n", "line 3 "),
        ("self.receive(client)\n...\nreadable = self.wait()\n", "not in server.py below line 6"),
        ("def turn(self) -> None:\n    for client in readable:\n", "line 3 "),
        ("self.listener.close()\nself.wait()\n", "the file ends"),
        ("def run(self) -> None:\n", r"not in server.py:\n    quoted   def run"),
        ("...\n", "no line"),
    ],
)
def test_the_first_line_that_differs_is_named(stands, code, message):
    with pytest.raises(NotThere, match=message):
        stands(code)


def test_a_missing_file_is_named(stands):
    with pytest.raises(NotThere, match="there is no client"):
        stands("a = 1\n", "client.py")


def test_blocks_are_counted_and_a_marker_needs_its_block():
    block = "<!-- from a/server.py -->\n```python\nx = 1\n```\n"
    text = block + "\n```python\ny\n```\n" + block
    assert [quotation.number for quotation in quotations(text)] == [1, 2]
    with pytest.raises(NotThere, match="directly above"):
        quotations(block + "<!-- from a/server.py -->\n\nwords\n\n```python\nx\n```\n")


def test_a_quotation_without_a_marker_is_noticed(tmp_path):
    server = tmp_path / "server.py"
    server.write_text(SOURCE)
    block = "```python\nfor client in readable:\n    self.receive(client)\n```\n"
    assert list(unmarked(block, [server])) == ["for client in readable:"]
    assert list(unmarked(block.replace("client)", "it)"), [server])) == []
    assert list(unmarked(f"<!-- from server.py -->\n{block}", [server])) == []
