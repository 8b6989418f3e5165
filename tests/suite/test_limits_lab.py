"""L2, L3, L6 and the log at the end of what a system has: what `python3 -m tests.limits` predicts.

Each test is one limit for one server; what is taken from the server and how, what is predicted and
why: that is in tests/limits/.
"""

import pytest

from tests.limits.catalogue import LIMITS
from tests.limits.claims import Verdict, examine
from tests.suite.fixtures import need_options
from tests.suite.pace import need_small_buffers
from tests.suite.rule_report import SkippedFor
from tests.suite.suite_run import Skipped


@pytest.fixture
def check(target, run):
    """`check("reset")`: bring the server to that limit; all that is predicted has to come."""
    need_options(target)

    def bring_to(name):
        rows = examine(LIMITS[name], target, run.session)
        # Another rule has its own tests, so nobody loses this one by it, too.
        if not target.is_ours:
            rows = [row for row in rows if row.rule is None]
        broken = [row for row in rows if row.verdict is Verdict.BROKEN]
        if broken and not broken[0].is_reached:
            pytest.fail(f"{LIMITS[name].title}: {broken[0].did}")
        if broken:
            all_of_them = "\n".join(f"predicted: {row.predicted}; did: {row.did}" for row in broken)
            assert broken[0].did == broken[0].predicted, f"{LIMITS[name].title}; {all_of_them}"
        if all(row.verdict is Verdict.UNSEEN for row in rows):
            raise Skipped(rows[0].did, SkippedFor.SYSTEM)

    return bring_to


def test_out_of_descriptors(check):
    """L2, C6: no death, no spinning, no flood in the log; those in are served; places come back."""
    check("descriptors")


def test_descriptors_beyond_fd_setsize(check):
    """L2: select() cannot watch them, so v2 and v3 refuse them; v1 and v4 serve them."""
    check("select")


def test_out_of_threads(check):
    """L2, C6: v1 turns newcomers away and loses no place; the others do not notice; all work."""
    check("threads")


def test_resets_in_mid_line(check):
    """L6, L7, F3, D3, H5: each ends its own connection, is told of once, and leaves nothing."""
    check("reset")


def test_small_socket_buffers(check, target):
    """L3, F5: a stuck reader costs little, gets everything if it reads on, or else is dropped."""
    need_small_buffers(target)
    check("buffers")


def test_no_room_for_the_log(check):
    """Launch contract, C6: the log is lost, nothing else; it goes on when there is room again."""
    check("disk")
