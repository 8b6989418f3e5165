"""Which tests `--core` runs: those of the rules that PROTOCOL.md marks as core, and no others."""

from collections.abc import Collection

from tests.suite import rules

# Of some rules only a part is core. These tests are about that part.
TESTS_OF_PARTS = {
    "test_commands.py::test_quit",
    "test_commands.py::test_quit_says_the_name_as_it_was_given",
    "test_handshake.py::test_names_are_unique_without_regard_to_case",
}


def belongs(test: str, named: Collection[str]) -> bool:
    """Whether a test, FILE::TEST[PARAMETERS], that names these rules is about the core alone."""
    function = test.partition("[")[0]
    if function in TESTS_OF_PARTS:
        return True
    return bool(named) and all(map(rules.is_core, named))
