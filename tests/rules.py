"""The rules of PROTOCOL.md: their texts, their order, and which of them a test is about."""

import re
import textwrap
from functools import cache

from harness.launcher import REPOSITORY

LAUNCH = "launch"  # stands for "How a server is started", which has no number

# In teaching order: who has the first milestone can go on to the second.
MILESTONES = {
    "handshake": ["H1", "H2", "H3", "H4", "H5"],
    "framing": ["F1", "F5", "F3", "F2", "F4", "F6"],
    "commands": ["C3", "C1", "C2", "C5", "C6"],
    "delivery": ["D1", "D2", "D3", "D4", "C7"],
    "limits": ["L6", "L3", "F7", "L1", "L2"],
    "life cycle": ["L5", "C4", "L7", "L4", LAUNCH],
}
RULES = [rule for rules in MILESTONES.values() for rule in rules]

# When several rules seem broken, the first of these is the one to begin with: the later ones
# cannot be kept without it, nor be tested.
FUNDAMENTAL_FIRST = list(dict.fromkeys(["H1", "H3", "F5", "F1", *RULES]))

ONE_PROFILE = {"D1": "echo", "D2": "chat", "D3": "chat", "D4": "chat", "C7": "chat"}

_NAMED = re.compile(r"[FHCDL][1-9](?:, [FHCDL][1-9])*(?=[:,; ])")
_RULE_TEXT = re.compile(
    r"^- \*\*([FHCDL][1-9])\*\* (.*?)(?=^- \*\*|^$|^#)", re.MULTILINE | re.DOTALL
)


def named_in(docstring: str | None) -> list[str]:
    """The rules that a test's docstring begins with, the one it is about first."""
    docstring = docstring or ""
    if docstring.lower().startswith("launch contract") or not (named := _NAMED.match(docstring)):
        return [LAUNCH] if "launch contract" in docstring.lower() else []
    return named[0].split(", ")


def text_of(rule: str) -> str:
    """What PROTOCOL.md says, without its line breaks; raises KeyError."""
    return _texts()[rule]


def in_short(rule: str) -> str:
    """The beginning of it, in one line of a terminal."""
    return textwrap.shorten(text_of(rule), 88, placeholder=" …")


@cache
def _texts() -> dict[str, str]:
    protocol = (REPOSITORY / "PROTOCOL.md").read_text(encoding="utf-8")
    texts = {rule: " ".join(text.split()) for rule, text in _RULE_TEXT.findall(protocol)}
    texts[LAUNCH] = "The launch contract: options, the address on stdout, the log, exit statuses."
    return texts
