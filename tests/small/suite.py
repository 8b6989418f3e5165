"""The suite run on the four small.py, and what it says: which rules each keeps."""

import ast
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from harness.launcher import PROFILES, REPOSITORY, VERSIONS
from tests.suite.rule_report import Outcome, Result
from tests.suite.rules import LAUNCH, ONE_PROFILE, RULES, SUITE_FOLDER, named_in
from tests.zoo.suite_runner import NoTestWasRun, SuiteRunner, python_server

VERDICTS = Path(__file__).with_name("verdicts.json")

# An option of the launch contract that the rule is about. small.py takes none but --port.
MISSING_OPTIONS = {"L1": "--idle-timeout", "L2": "--max-clients", "L3": "--stall-timeout"}

# Each of these tests is about one rule, but needs another one that no small.py keeps, or luck.
NOT_COUNTED = {
    "test_commands.py::test_no_private_message_into_the_handshake": "a bad name is refused (H4)",
    "test_delivery.py::test_private_and_public_lines_keep_their_order": "it asks for /pm (C7)",
    "test_handshake.py::test_handshake_and_first_lines_glued": "a bad name has to be refused (H4)",
    "test_hostile.py::test_a_flood_of_commands": "it asks for unknown commands (C5)",
    "test_lifecycle.py::test_half_close_in_the_handshake": "a bad name has to be refused (H4)",
    "test_lifecycle.py::test_half_close_with_work_running": "it asks for work (C6)",
    "test_limits_lab.py::test_small_socket_buffers": "it starts with --stall-timeout (L3)",
    "test_turns.py::test_lines_keep_their_order_when_a_turn_is_cut_short": "it asks for work (C6)",
    "test_turns.py::test_many_works_in_one_piece": "it asks for work (C6)",
    # Whether all of 300 threads get a turn is luck: on a busy machine v1's do not.
    "test_turns.py::test_everyone_gets_a_turn_among_three_hundred_flooders": "by luck",
}


class SmallError(Exception):
    """What was asked for cannot be done: one line that says what to do."""


# {rule: what shows that a small.py breaks it, None if it keeps it}. What shows it is the first test
# that failed, as FILE::TEST[PARAMETERS], or the option that is missing.
Verdicts = dict[str, str | None]


def rules_for(version: str) -> list[str]:
    """The rules of PROTOCOL.md that a version's profile has, and the launch contract, in order."""
    profile = PROFILES[version]
    return [rule for rule in RULES if ONE_PROFILE.get(rule, profile) == profile or rule == "C7"]


def broken_by(verdicts: dict[str, Verdicts], rule: str) -> list[str]:
    """The versions whose small.py breaks a rule."""
    return [version for version in VERSIONS if verdicts[version].get(rule)]


def small_path(version: str) -> Path:
    """The small.py of a version."""
    return REPOSITORY / version / "small.py"


def run_suite(
    runner: SuiteRunner, version: str, *tests: str, program: Path | None = None
) -> dict[str, Outcome]:
    """Run tests on a version's small.py, or on another program of its profile.

    Returns what became of each test. Raises SmallError.
    """
    program = program or small_path(version)
    try:
        report = runner.run(python_server(program), PROFILES[version], *tests)
    except NoTestWasRun as error:
        raise SmallError(f"{program}: {error} (is pytest installed?)") from None
    return {outcome.test: outcome for outcome in report.outcomes}


def run_patiently(runner: SuiteRunner, version: str, *tests: str) -> dict[str, Outcome]:
    """Like run_suite(), but what failed by waiting is run once more, each test by itself."""
    outcomes = run_suite(runner, version, *tests)
    for test in failed_by_waiting(outcomes.values()):
        outcomes |= run_suite(runner, version, test)
    return outcomes


def failed_by_waiting(outcomes: Iterable[Outcome]) -> list[str]:
    """The tests whose wait was in vain, as arguments of pytest.

    The suite waits ever shorter for a server that often makes it wait in vain. So a slow answer may
    count as none, and such a test has to be run again, by itself.
    """
    functions = {
        outcome.function
        for outcome in outcomes
        if outcome.result is Result.FAILED and outcome.waits_in_vain
    }
    return [f"tests/suite/{function}" for function in sorted(functions & protocol_tests().keys())]


def judge(outcomes: Iterable[Outcome]) -> Verdicts:
    """The verdicts from what became of the tests.

    A test that only could not start small.py, because it needs an option, says nothing. The
    evidence is the test that had to wait least.
    """
    about = {test: rules[0] for test, rules in protocol_tests().items() if rules}
    verdicts: Verdicts = {}
    for outcome in sorted(outcomes, key=lambda outcome: outcome.waits_in_vain):
        rule = about.get(outcome.function)
        could_not_start = outcome.rules[0] == LAUNCH != rule
        if rule is None or could_not_start or outcome.function in NOT_COUNTED:
            continue
        if outcome.result is Result.FAILED:
            verdicts[rule] = verdicts.get(rule) or outcome.test
        elif outcome.result is Result.PASSED:
            verdicts.setdefault(rule, None)
    for rule, option in MISSING_OPTIONS.items():
        verdicts[rule] = verdicts.get(rule) or option
    return verdicts


def protocol_tests() -> dict[str, list[str]]:
    """{FILE::FUNCTION: the rules it names, the one it is about first} of the whole suite."""
    rules_by_test = {}
    for path in sorted(SUITE_FOLDER.glob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                rules = named_in(ast.get_docstring(node))
                rules_by_test[f"{path.name}::{node.name}"] = rules
    return rules_by_test


def all_about(rules: Sequence[str]) -> list[str]:
    """The tests that are about these rules first, as arguments of pytest."""
    return [
        f"tests/suite/{test}"
        for test, named in protocol_tests().items()
        if named and named[0] in rules and test not in NOT_COUNTED
    ]


def load_verdicts() -> dict[str, Verdicts]:
    """What `python3 -m tests.small judge --write` has found about each version."""
    return json.loads(VERDICTS.read_text(encoding="utf-8"))


def save_verdicts(verdicts: dict[str, Verdicts]) -> None:
    """Store the verdicts on each version."""
    VERDICTS.write_text(json.dumps(verdicts, indent=1) + "\n", encoding="utf-8")
