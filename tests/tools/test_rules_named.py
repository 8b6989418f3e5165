"""Rules and tests belong together: no rule without a test, no protocol test without a rule."""

import ast
import re

from harness.launcher import REPOSITORY
from tests.suite import rules
from tests.suite.rules import SUITE_FOLDER

RULE = re.compile(r"\b[FHCDL][1-9]\b")
RULES = set(RULE.findall((REPOSITORY / "PROTOCOL.md").read_text(encoding="utf-8")))
# {FILE::TEST: docstring}
TESTS = {
    f"{path.name}::{node.name}": ast.get_docstring(node) or ""
    for path in sorted(SUITE_FOLDER.glob("test_*.py"))
    for node in ast.walk(ast.parse(path.read_bytes()))
    if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
}


def test_every_rule_is_named_by_a_test():
    """No rule of PROTOCOL.md goes untested, and each has its place in the teaching order."""
    assert sorted(RULES) == sorted({*rules.RULES} - {rules.LAUNCH})
    named = {rule for docstring in TESTS.values() for rule in RULE.findall(docstring)}
    assert sorted(RULES - named) == []


def test_every_test_names_a_rule_there_is():
    """So a reader can look up in PROTOCOL.md what a red test means."""
    for test, docstring in TESTS.items():
        named = set(RULE.findall(docstring))
        assert named or "launch contract" in docstring.lower(), f"{test} names no rule"
        assert named <= RULES, f"{test} names {sorted(named - RULES)}"
