"""The suite run on the four small.py, and what it says: which rules each keeps."""

import ast
import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.launcher import PROFILES, REPOSITORY, VERSIONS
from tests.rules import LAUNCH, ONE_PROFILE, RULES, named_in
from tests.zoo.matrix import suite_command, suite_environment

VERDICTS = Path(__file__).with_name("verdicts.json")
RUN_LIMIT = 300  # seconds for one run of the suite on one small.py

# An option of the launch contract that the rule is about. small.py takes none but --port.
MISSING_OPTIONS = {"L1": "--idle-timeout", "L2": "--max-clients", "L3": "--stall-timeout"}

# These tests are about one rule, but need another one that no small.py keeps, or luck.
NOT_COUNTED = {
    "test_delivery.py::test_private_and_public_lines_keep_their_order": "it asks for /pm (C7)",
    "test_handshake.py::test_handshake_and_first_lines_glued": "a bad name has to be refused (H4)",
    "test_hostile.py::test_a_flood_of_commands": "it asks for unknown commands (C5)",
    "test_lifecycle.py::test_half_close_in_the_handshake": "a bad name has to be refused (H4)",
    "test_lifecycle.py::test_half_close_with_work_running": "it asks for work (C6)",
    "test_limits_lab.py::test_resets_in_mid_line": "it ends with an orderly stop (L4)",
    "test_limits_lab.py::test_small_socket_buffers": "it starts with --stall-timeout (L3)",
    "test_turns.py::test_lines_keep_their_order_when_a_turn_is_cut_short": "it asks for work (C6)",
    "test_turns.py::test_many_works_in_one_piece": "it asks for work (C6)",
    # Whether all of 300 threads get a turn is luck: on a busy machine v1's do not.
    "test_turns.py::test_everyone_gets_a_turn_among_three_hundred_flooders": "by luck",
}


class SmallError(Exception):
    """What was asked for cannot be done: one line that says what to do."""


@dataclass(frozen=True)
class Verdict:
    """Whether one small.py keeps one rule, and if not, what shows it."""

    keeps: bool
    # The first test that failed, as FILE::TEST[PARAMETERS], or the option that is missing.
    evidence: str = ""


# {version: {rule: verdict}}
Verdicts = dict[str, dict[str, Verdict]]


def rules_for(version: str) -> list[str]:
    """The rules of PROTOCOL.md that a version's profile has, and the launch contract, in order."""
    profile = PROFILES[version]
    return [rule for rule in RULES if ONE_PROFILE.get(rule, profile) == profile or rule == "C7"]


def broken_by(verdicts: Verdicts, rule: str) -> list[str]:
    """The versions whose small.py breaks a rule."""
    return [v for v in VERSIONS if rule in verdicts[v] and not verdicts[v][rule].keeps]


def small_path(version: str) -> Path:
    """The small.py of a version."""
    return REPOSITORY / version / "small.py"


def run_suite(version: str, report: Path, *tests: str) -> dict[str, dict]:
    """Run tests on a version's small.py; returns what read_report() does. Raises SmallError."""
    options = ["--tb=no", "--run-limit", str(RUN_LIMIT)]
    subprocess.run(
        suite_command(small_path(version), PROFILES[version], report, *options, *tests),
        cwd=REPOSITORY,
        env=suite_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=2 * RUN_LIMIT,
    )
    return read_report(version, report)


def read_report(version: str, report: Path) -> dict[str, dict]:
    """{FILE::TEST[PARAMETERS]: what became of it}. Raises SmallError: the suite has run no test."""
    try:
        by_rule = json.loads(report.read_text(encoding="utf-8"))["rules"]
    except (OSError, ValueError, KeyError):
        raise SmallError(
            f"the suite did not run on {version}/small.py: is pytest installed?"
        ) from None
    return {test["test"]: test for about in by_rule.values() for test in about["tests"]}


def failed_by_waiting(outcomes: dict[str, dict]) -> list[str]:
    """The tests whose wait was in vain, as arguments of pytest.

    The suite waits ever shorter for a server that often makes it wait in vain. So a slow answer may
    count as none, and such a test has to be run again, by itself.
    """
    functions = {
        name.partition("[")[0]
        for name, test in outcomes.items()
        if test["outcome"] == "failed" and test["waits_in_vain"]
    }
    return [f"tests/{function}" for function in sorted(functions & protocol_tests().keys())]


def judge(outcomes: dict[str, dict]) -> dict[str, Verdict]:
    """{rule: verdict} from what became of the tests.

    A test that only could not start small.py, because it needs an option, says nothing. The
    evidence is the test that had to wait least.
    """
    about = {test: rules[0] for test, rules in protocol_tests().items() if rules}
    verdicts: dict[str, Verdict] = {}
    for name, test in sorted(outcomes.items(), key=lambda item: item[1]["waits_in_vain"]):
        function = name.partition("[")[0]
        rule = about.get(function)
        could_not_start = test["rules"][0] == LAUNCH != rule
        if rule is None or could_not_start or function in NOT_COUNTED:
            continue
        if test["outcome"] == "failed" and verdicts.get(rule, Verdict(True)).keeps:
            verdicts[rule] = Verdict(False, name)
        elif test["outcome"] == "passed":
            verdicts.setdefault(rule, Verdict(True))
    for rule, option in MISSING_OPTIONS.items():
        if verdicts.get(rule, Verdict(True)).keeps:
            verdicts[rule] = Verdict(False, option)
    return verdicts


def protocol_tests() -> dict[str, list[str]]:
    """{FILE::FUNCTION: the rules it names, the one it is about first} of the whole suite."""
    found = {}
    for path in sorted((REPOSITORY / "tests").glob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                rules = named_in(ast.get_docstring(node))
                found[f"{path.name}::{node.name}"] = rules
    return found


def all_about(rules: Sequence[str]) -> list[str]:
    """The tests that are about these rules first, as arguments of pytest."""
    return [
        f"tests/{test}"
        for test, named in protocol_tests().items()
        if named and named[0] in rules and test not in NOT_COUNTED
    ]


def load_verdicts() -> Verdicts:
    """What `python3 -m tests.small judge --write` has found."""
    stored = json.loads(VERDICTS.read_text(encoding="utf-8"))
    return {
        version: {
            rule: Verdict(evidence is None, evidence or "")
            for rule, evidence in stored[version].items()
        }
        for version in VERSIONS
    }


def save_verdicts(verdicts: Verdicts) -> None:
    """Store {version: {rule: null if it keeps it, else the evidence}}."""
    stored = {
        version: {
            rule: None if verdicts[version][rule].keeps else verdicts[version][rule].evidence
            for rule in rules_for(version)
        }
        for version in VERSIONS
    }
    VERDICTS.write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")
