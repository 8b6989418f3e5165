"""Options and fixtures of the suite, for all folders of tests."""

pytest_plugins = ["tests.suite.plugin"]
