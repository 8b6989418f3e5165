"""The rules of PROTOCOL.md and of the tasks: texts, order, and which of them a test is about."""

import re
import textwrap
from functools import cache

from harness.launcher import REPOSITORY

# This stands for "How a server is started", which has no number.
LAUNCH = "launch"

# The milestones are in teaching order: each one needs those before it. Against somebody's server
# each is a stage of the run.
MILESTONES = {
    "handshake": ["H1", "H2", "H3", "H4", "H5", "H6"],
    "framing": ["F1", "F5", "F3", "F2", "F4", "F6"],
    "commands": ["C3", "C1", "C2", "C5", "C6"],
    "delivery": ["D1", "D2", "D3", "D4", "C7"],
    "limits": ["L6", "L3", "F7", "L1", "L2"],
    "life cycle": ["L5", "C4", "L7", "L4", LAUNCH],
}
RULES = [rule for rules in MILESTONES.values() for rule in rules]

ONE_PROFILE = {"D1": "echo", "D2": "chat", "D3": "chat", "D4": "chat", "C7": "chat"}

# A rule is an item of a list: its number in bold type, in a task its points, and its text.
_RULE_TEXT = re.compile(
    r"^- \*\*(?P<rule>[A-Z][1-9])\*\* (?:\((?P<points>\d+) points?\) )?(?P<text>.*?)"
    r"(?=^- \*\*|^$|^#)",
    re.MULTILINE | re.DOTALL,
)

SUITE_FOLDER = REPOSITORY / "tests" / "suite"
TASKS_FOLDER = REPOSITORY / "tasks"


def _points_by_task() -> dict[str, dict[str, float]]:
    """{task: {rule: points}}, from the page of each task that has rules of its own."""
    by_task = {}
    for page in sorted(TASKS_FOLDER.glob("*/README.md")):
        rules = _RULE_TEXT.finditer(page.read_text(encoding="utf-8"))
        points = {rule["rule"]: float(rule["points"]) for rule in rules if rule["points"]}
        if points:
            by_task[page.parent.name] = points
    return by_task


# A task is a folder in tasks/: a page with rules and their points, and tests that name the rules.
TASKS = _points_by_task()
ALL_RULES = [*RULES, *(rule for points in TASKS.values() for rule in points)]
STAGES = MILESTONES | {task: list(points) for task, points in TASKS.items()}
_EMPHASIS = re.compile(r"\*([^*`\s](?:[^*`]*[^*`\s])?)\*")
# A rule that is core ends with a mark, which names the part of it that is, if only a part is.
_CORE_MARK = re.compile(r".* \*core(?P<part>: .+)?\*")

# When several rules seem broken, the first of these is the one to begin with: without it, the later
# ones can be neither kept nor tested.
FUNDAMENTAL_FIRST = list(dict.fromkeys(["H1", "H3", "F5", "F1", *ALL_RULES]))

_LETTERS = "".join(sorted({rule[0] for rule in ALL_RULES if rule != LAUNCH}))
_NAMED = re.compile(rf"[{_LETTERS}][1-9](?:, [{_LETTERS}][1-9])*(?=[:,; ])")


def milestones(task: str | None = None) -> dict[str, list[str]]:
    """{milestone: its rules} of the protocol, or of a task, which is one milestone."""
    return MILESTONES if task is None else {task: list(TASKS[task])}


def named_in(docstring: str | None) -> list[str]:
    """The rules that a test's docstring begins with, the one it is about first."""
    docstring = docstring or ""
    if docstring.lower().startswith("launch contract") or not (named := _NAMED.match(docstring)):
        return [LAUNCH] if "launch contract" in docstring.lower() else []
    return named[0].split(", ")


def text_of(rule: str) -> str:
    """The text of a rule in PROTOCOL.md or a task, without line breaks. Raises KeyError."""
    return _texts()[rule]


def stage_of(rule: str) -> str:
    """The milestone that a rule belongs to, or its task."""
    return next(stage for stage, members in STAGES.items() if rule in members)


def is_core(rule: str) -> bool:
    """Whether PROTOCOL.md marks the whole of a rule as core."""
    mark = _CORE_MARK.fullmatch(text_of(rule))
    return mark is not None and mark["part"] is None


def as_plain_text(rule: str) -> str:
    """The text of a rule without the marks of Markdown for what is emphasised."""
    return _EMPHASIS.sub(r"\1", text_of(rule))


def in_short(rule: str) -> str:
    """The beginning of a rule's text, in one line of a terminal."""
    return textwrap.shorten(as_plain_text(rule), 88, placeholder=" …")


@cache
def _texts() -> dict[str, str]:
    pages = [REPOSITORY / "PROTOCOL.md", *(TASKS_FOLDER / task / "README.md" for task in TASKS)]
    texts = {
        item["rule"]: " ".join(item["text"].split())
        for page in pages
        for item in _RULE_TEXT.finditer(page.read_text(encoding="utf-8"))
    }
    texts[LAUNCH] = "The launch contract: options, the address on stdout, the log, exit statuses."
    return texts
