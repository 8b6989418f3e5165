"""The given tests of the tasks run like the suite in tests/, with the same options and fixtures."""

import pytest

pytest_plugins = ["tests.conftest"]


def pytest_configure(config: pytest.Config) -> None:
    """No server of this repository has these rules, so there is nothing to run without --server."""
    if config.getoption("--server") is None:
        raise pytest.UsageError(
            "the tests of a task need your server: --server 'CMD --port {port} {options}' "
            "--profile echo or chat"
        )
