"""The chapters, and the other documents: what they quote stands there, what they draw is drawn."""

import re
from pathlib import Path

import pytest

from harness.launcher import REPOSITORY, VERSIONS
from tests import mermaid
from tests.chapter_parts import missing_parts, sections
from tests.mermaid import Malformed
from tests.quoted_code import NotThere, Quotation, assert_stands, quotations, unmarked
from tests.test_readme import each_document

SERVERS = [REPOSITORY / version / "server.py" for version in VERSIONS]


@each_document
def test_quoted_code_still_stands_in_its_file(document):
    wrong = []
    for quotation in quotations(document.read_text(encoding="utf-8")):
        try:
            assert_stands(quotation, REPOSITORY)
        except NotThere as error:
            begins = f"which begins `{quotation.first_line}`"
            wrong.append(f"{_named(document)}, quoted block {quotation.number}, {begins}: {error}")
    if wrong:
        pytest.fail("\n".join(wrong), pytrace=False)


@each_document
def test_code_of_a_server_says_from_which_file_it_is(document):
    found = list(unmarked(document.read_text(encoding="utf-8"), SERVERS))
    assert not found, (
        f"{_named(document)}: no <!-- from FILE --> above the blocks that begin {found}"
    )


@each_document
def test_diagrams_are_well_formed(document):
    wrong = []
    for number, diagram in enumerate(mermaid.diagrams(document.read_text(encoding="utf-8")), 1):
        try:
            mermaid.assert_well_formed(diagram)
        except Malformed as error:
            wrong.append(f"{_named(document)}, diagram {number}: {error}")
    if wrong:
        pytest.fail("\n".join(wrong), pytrace=False)


def _named(document: Path) -> str:
    return str(document.relative_to(REPOSITORY))


# The checks themselves

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
def test_what_stands_there_is_found(stands, code):
    stands(code)


@pytest.mark.parametrize(
    ("code", "said"),
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
def test_what_does_not_stand_there_is_said_with_its_line(stands, code, said):
    with pytest.raises(NotThere, match=said):
        stands(code)


def test_a_file_that_is_not_there_is_named(stands):
    with pytest.raises(NotThere, match="there is no client"):
        stands("a = 1\n", "client.py")


def test_blocks_are_counted_and_a_marker_needs_its_block():
    block = "<!-- from a/server.py -->\n```python\nx = 1\n```\n"
    assert [q.number for q in quotations(block + "\n```python\ny\n```\n" + block)] == [1, 2]
    with pytest.raises(NotThere, match="directly above"):
        quotations(block + "<!-- from a/server.py -->\n\nwords\n\n```python\nx\n```\n")


def test_a_quotation_that_does_not_say_so_is_found(tmp_path):
    (tmp_path / "server.py").write_text(SOURCE)
    block = "```python\nfor client in readable:\n    self.receive(client)\n```\n"
    assert list(unmarked(block, [tmp_path / "server.py"])) == ["for client in readable:"]
    assert list(unmarked(block.replace("client)", "it)"), [tmp_path / "server.py"])) == []
    assert list(unmarked(f"<!-- from server.py -->\n{block}", [tmp_path / "server.py"])) == []


GOOD_DIAGRAMS = [
    """flowchart TD
    A[accept] --> B{"is it full?"}
    B -->|yes| C["refuse()"]
    B -.->|"recv()"| D((loop))""",
    """flowchart LR
    subgraph one thread
        a --> b & c
    end
    a --- d[(set)]
    class a hot""",
    """sequenceDiagram
    participant A as alice
    A->>S: hi
    loop each
        S-->>B: alice: hi
    end""",
    """sequenceDiagram
    Note over A,B: they wait
    A->>+B: recv()
    B--)A: {ok}
    B-xA: gone""",
    """stateDiagram-v2
    [*] --> waiting
    waiting --> turn: input
    turn --> [*]""",
    """%% a comment
    stateDiagram-v2
    state leaving {
        a --> b
    }
    note right of a
        x; y
    end note""",
]


@pytest.mark.parametrize("diagram", GOOD_DIAGRAMS)
def test_a_good_diagram_is_well_formed(diagram):
    mermaid.assert_well_formed(diagram)


@pytest.mark.parametrize(
    ("diagram", "said"),
    [
        ("", "first line must name"),
        ("flowchat TD\n  a --> b\n  b --> c", "first line must name"),
        ("flowchart\n  a --> b\n  b --> c", "takes one of"),
        ("flowchart TD\n  a[take_turn()] --> b\n  b --> c", "in quotation marks"),
        ("flowchart TD\n  a -->|recv()| b\n  b --> c", "in quotation marks"),
        ("flowchart TD\n  a[wait --> b\n  b --> c", "in quotation marks"),
        ('flowchart TD\n  a["wait] --> b\n  b --> c', "quotation mark is missing"),
        ("flowchart TD\n  subgraph x\n  a --> b", "have no end"),
        ("flowchart TD\n  a --> b\n  end", "more is ended"),
        ("flowchart TD\n  a to b\n  b --> c", "neither a node"),
        ("sequenceDiagram\n  A->>B: one; two\n  B->>A: x", "semicolon"),
        ("sequenceDiagram\n  A says B\n  B->>A: x", "neither a message"),
        ("sequenceDiagram\n  A->>B\n  B->>A: x", "neither a message"),
        ("sequenceDiagram\n  loop x\n  A->>B: hi", "have no end"),
        ("stateDiagram-v2\n  a -> b\n  b --> c", "neither a state"),
        ("flowchart TD\n", "nothing in it"),
    ],
)
def test_a_malformed_diagram_is_said(diagram, said):
    with pytest.raises(Malformed, match=re.escape(said)):
        mermaid.assert_well_formed(diagram)


# The parts of a chapter


@pytest.mark.parametrize("version", VERSIONS)
def test_a_chapter_has_its_parts(version):
    text = (REPOSITORY / version / "README.md").read_text(encoding="utf-8")
    missing = missing_parts(text, version)
    if missing:
        pytest.fail("\n".join(f"{version}/README.md: {what}" for what in missing), pytrace=False)


QUOTE = "<!-- from v2_select/server.py -->\n```python\nimport select\n```\n"
TASK = """### Predict: what happens at client 1025?

There are 1024 already. Write down: is it greeted?

```console
$ python3 client.py v2 --name alice
```

<details><summary>The answer</summary>

No: select() takes no such descriptor.

</details>

"""
CHAPTER = f"""# v2_select

## The idea

```mermaid
flowchart TD
```

## One line's way through server.py

{QUOTE * 3}
## Run it and watch it

```console
$ python3 v2_select/server.py
$ python3 client.py v2 --name alice
$ echo | nc -N 127.0.0.1 8002
$ ss -tn
# a comment in a block is no heading
```

## Better and worse than v1

<!-- numbers: v2_select against v1_threads -->
<!-- /numbers -->

## The diff to v3

```console
$ diff -u v2_select/server.py v3_broadcast/server.py
```

## Predict, run, explain

{TASK * 3}
## What v2 hides

See Stevens.
"""


def test_a_chapter_with_all_its_parts_lacks_nothing():
    assert missing_parts(CHAPTER, "v2_select") == []


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("## The idea", "## Thoughts", "the idea: no part"),
        ("```mermaid", "```text", "the idea: no diagram"),
        ("## One line's way", "## Server", "one line's way: no part"),
        (QUOTE, "", "one line's way: fewer than three blocks"),
        ("watch it", "see", "run it and watch it: no part"),
        ("$ python3 client.py v2 --name alice\n$", "$", "done with client.py"),
        ("nc -N", "cat", "done with nc"),
        ("ss -tn", "true", "done with one of ps"),
        ("and worse", "", "better and worse: no part"),
        ("numbers: v2_select against", "numbers: v3_broadcast against", "no numbers"),
        ("$ diff -u v2", "$ diff v2", "no command `diff -u v2_select"),
        ("## Predict, run", "## Run", "predict, run, explain: no part"),
        (TASK * 3, TASK * 2, "2 tasks, not three"),
        (TASK * 3, TASK * 6, "6 tasks, not three"),
        ("<summary>The answer", "<summary>More", "with an answer in it"),
        ("No: select() takes no such descriptor.", "", "with an answer in it"),
        ("--name alice\n```\n\n<", "--name alice\n$ ls\n```\n\n<", "2 commands before the answer"),
        ("--name alice\n```\n\n<", "--name alice\n! no\n```\n\n<", "gives the answer away"),
        ("Write down: is", "Is", "asked to write down"),
        ("## What v2 hides", "## The end", "what it hides: no part"),
        ("See Stevens.", "", "where more can be read"),
        ("## What v2 hides", "## What it hides, and the idea", ""),
    ],
)
def test_what_a_chapter_lacks_is_said(old, new, said):
    assert old in CHAPTER
    missing = missing_parts(CHAPTER.replace(old, new), "v2_select")
    assert any(said in what for what in missing) if said else missing == []


def test_parts_in_another_order_are_said():
    first, second = "## Better and worse than v1", "## The diff to v3"
    text = CHAPTER.replace(first, "@").replace(second, first).replace("@", second)
    assert any("in another order" in what for what in missing_parts(text, "v2_select"))


def test_what_comes_next_has_its_five_parts():
    text = (REPOSITORY / "what_comes_next.md").read_text(encoding="utf-8")
    headings = [section.heading for section in sections(text, 2)]
    words = ("process", "TLS", "Back-pressure", "Structured", "epoll")
    assert len(headings) == len(words)
    assert all(word in heading for word, heading in zip(words, headings, strict=True))
    assert len(text.splitlines()) <= 120
