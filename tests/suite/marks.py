"""Marks that tests in several files bear."""

import signal

import pytest

from harness.launcher import VERSIONS

# A fact about all four of our servers, or a choice of theirs that PROTOCOL.md leaves open.
OURS = pytest.mark.versions(*VERSIONS)

NEEDS_SIGSTOP = pytest.mark.skipif(
    not hasattr(signal, "SIGSTOP"), reason="this system has no SIGSTOP"
)
