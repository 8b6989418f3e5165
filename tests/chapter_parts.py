"""The parts of a chapter, in their order, and what is missing of them.

A part is a section (`## …`) whose heading has one of these words in it; a prediction is a section
below one (`### Predict: …`).
"""

import re
from dataclasses import dataclass

from harness.launcher import VERSIONS
from tests import document_commands, mermaid
from tests.document_commands import Unlike
from tests.quoted_code import quotations

PARTS = {  # what a part is called, and what its heading has in it
    "the idea": r"\bidea\b",
    "one line's way": r"\bway\b",
    "run it and watch it": r"\bwatch\b",
    "better and worse": r"\bworse\b",
    "the diff to the next one": r"\b(diffs?|step to v\d)\b",
    "predict, run, explain": r"\bpredict\b",
    "what it hides": r"\bhides?\b",
}
NUMBERS = {
    "v1_threads": "<!-- numbers: v1_threads ",
    "v2_select": "<!-- numbers: v2_select against v1_threads -->",
    "v3_broadcast": "<!-- numbers: v3_broadcast against v2_select -->",
    "v4_asyncio": "<!-- numbers: v4_asyncio against v3_broadcast -->",
}
ELSEWHERE = re.compile(r"Stevens|Kerrisk|C10K|docs\.python\.org")
ANSWER = re.compile(
    r"<details>\s*<summary>The answer</summary>\n(?P<text>.*?)</details>", re.DOTALL
)


@dataclass(frozen=True)
class Section:
    """A heading, without its signs, and the text below it up to the next one of its rank."""

    heading: str
    text: str


def sections(text: str, rank: int) -> list[Section]:
    """The sections of that rank: 2 for `## …`. What stands in a fenced block is no heading."""
    found: list[Section] = []
    lines: list[str] = []
    fenced = False
    for line in text.splitlines():
        fenced ^= line.lstrip().startswith("```")
        sign = re.match(r"(#+) (.*)", line) if not fenced else None
        if sign and len(sign[1]) <= rank:
            if found:
                found[-1] = Section(found[-1].heading, "\n".join(lines))
            lines = []
            if len(sign[1]) == rank:
                found.append(Section(sign[2], ""))
        else:
            lines.append(line)
    if found and not found[-1].text:
        found[-1] = Section(found[-1].heading, "\n".join(lines))
    return found


def missing_parts(text: str, version: str) -> list[str]:
    """What the chapter of a version lacks: a line each."""
    found = sections(text, 2)
    missing, part_of = [], {}
    after = -1
    for part, words in PARTS.items():
        places = [
            place
            for place, section in enumerate(found)
            if re.search(words, section.heading, re.IGNORECASE)
        ]
        place = next((place for place in places if place > after), None)
        if place is None:
            order = "no part" if not places else "in another order"
            missing.append(f"{part}: {order} (a heading `## …` with {words} in it)")
        else:
            part_of[part], after = found[place].text, place
    for part, text_of_it in part_of.items():
        missing += [f"{part}: {what}" for what in _CHECKS[part](text_of_it, version)]
    return missing


def _idea(text: str, version: str) -> list[str]:
    return [] if mermaid.diagrams(text) else ["no diagram"]


def _way(text: str, version: str) -> list[str]:
    quoted = [quotation.source for quotation in quotations(text)]
    if quoted.count(f"{version}/server.py") < 3:
        return [f"fewer than three blocks are quoted from {version}/server.py"]
    return []


def _watch(text: str, version: str) -> list[str]:
    wanted = {
        "the server": rf"^\$ .*python3 {version}/server\.py",
        "client.py": r"client\.py",
        "nc": r"\bnc\b",
        "one of ps, ss, strace": r"^\$ .*\b(ps|ss|strace)\b",
    }
    return [
        f"nothing is done with {what}"
        for what, words in wanted.items()
        if not re.search(words, text, re.MULTILINE)
    ]


def _worse(text: str, version: str) -> list[str]:
    return [] if NUMBERS[version] in text else [f"no numbers: {NUMBERS[version]}…"]


def _diff(text: str, version: str) -> list[str]:
    place = VERSIONS.index(version)
    if version == VERSIONS[-1]:
        # It has none to go on to, and looks back at one of the others.
        words = rf"diff -u \w+/server\.py {version}/server\.py"
    else:
        words = rf"diff -u {version}/server\.py {VERSIONS[place + 1]}/server\.py"
    return [] if re.search(rf"^\$ {words}", text, re.MULTILINE) else [f"no command `{words}`"]


def _predict(text: str, version: str) -> list[str]:
    tasks = [task for task in sections(text, 3) if task.heading.startswith("Predict: ")]
    missing = [] if 3 <= len(tasks) <= 5 else [f"{len(tasks)} tasks, not three to five"]
    for task in tasks:
        missing += [f"{task.heading}: {what}" for what in missing_of_a_task(task.text)]
    return missing


def _hides(text: str, version: str) -> list[str]:
    return [] if ELSEWHERE.search(text) else ["nothing says where more can be read"]


_CHECKS = dict(zip(PARTS, (_idea, _way, _watch, _worse, _diff, _predict, _hides), strict=True))


def missing_of_a_task(text: str) -> list[str]:
    """What a prediction lacks: the question, one command before the answer, the folded answer."""
    missing = []
    answers = list(ANSWER.finditer(text))
    if len(answers) != 1 or not answers[0]["text"].strip():
        missing.append("no <details><summary>The answer</summary> with an answer in it")
    before = text[: answers[0].start()] if answers else text
    try:
        commands = [
            step
            for step in document_commands.steps_in(before)
            if not document_commands.is_server(step.command)
        ]
    except Unlike as error:
        return [*missing, str(error)]
    if len(commands) != 1:
        missing.append(f"{len(commands)} commands before the answer, not one (a server aside)")
    if any(step.shown and "…" not in "".join(step.shown) for step in commands):
        missing.append("the output gives the answer away: show `…`, and the rest in the answer")
    if "write down" not in " ".join(before.lower().split()):
        missing.append("nobody is asked to write down what they expect (`Write down: …`)")
    return missing
