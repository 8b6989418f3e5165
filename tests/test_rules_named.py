"""Rules and tests belong together: no rule without a test, no protocol test without a rule."""

import ast
import re
from pathlib import Path

from harness.launcher import REPOSITORY

RULE = re.compile(r"\b[FHCDL][1-9]\b")
SUITES_OF_THEIR_OWN = re.compile(r"test_(client|demo|launcher|benchmarks?|readme)")
NEEDS_A_SERVER = {"server", "launch_server", "conversation", "newcomer", "target", "refused"}


def protocol_tests():
    """(file and test, docstring) of each test that is run against a server."""
    for path in sorted(Path(__file__).parent.glob("test_*.py")):
        if SUITES_OF_THEIR_OWN.match(path.name):
            continue
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                arguments = {argument.arg for argument in node.args.args}
                if arguments & NEEDS_A_SERVER:
                    yield f"{path.name}::{node.name}", ast.get_docstring(node) or ""


def rules_in_the_protocol():
    return set(RULE.findall((REPOSITORY / "PROTOCOL.md").read_text()))


def test_every_rule_is_named_by_a_test():
    """All rules that PROTOCOL.md numbers."""
    rules = rules_in_the_protocol()
    assert len(rules) >= 29  # F1-F6, H1-H5, C1-C7, D1-D4, L1-L7
    named = {rule for _, docstring in protocol_tests() for rule in RULE.findall(docstring)}
    assert sorted(rules - named) == []


def test_every_test_names_a_rule_there_is():
    """What a red test means is looked up in PROTOCOL.md, or in its launch contract."""
    rules = rules_in_the_protocol()
    for test, docstring in protocol_tests():
        named = set(RULE.findall(docstring))
        assert named or "launch contract" in docstring.lower(), f"{test} names no rule"
        assert named <= rules, f"{test} names {sorted(named - rules)}"
