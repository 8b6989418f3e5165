"""The given tests of the tasks run like the suite in tests/, with the same options and fixtures."""

import shlex
from collections.abc import Callable

import pytest

from harness.server_under_test import PORT, ServerUnderTest
from tests.suite.fixtures import need_options

pytest_plugins = ["tests.suite.plugin"]


def pytest_configure(config: pytest.Config) -> None:
    """No server of this repository has these rules, so there is nothing to run without --server."""
    if config.getoption("--server") is None:
        raise pytest.UsageError(
            "the tests of a task need your server: --server 'CMD --port {port} {options}' "
            "--profile echo or chat"
        )


@pytest.fixture
def command_with(target: ServerUnderTest) -> Callable[..., list[str]]:
    """`command_with("--history", "-1")`: the words that start the server so, on any free port."""
    need_options(target)
    return lambda *options: shlex.split(target.command_with(options).replace(PORT, "0"))
