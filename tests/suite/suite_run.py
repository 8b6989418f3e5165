"""What one run of the suite knows: its servers, what it has found out, and why it was cut short."""

import dataclasses
import textwrap

import pytest

from harness.launcher import RunningServer
from harness.server_under_test import ServerUnderTest
from harness.session import Session
from tests.suite import rules
from tests.suite.rule_report import CutShort, Findings, Outcome, Result, SkippedFor

# After each test we look whether it has left the server empty. Once so many looks have failed, we
# stop looking, because each would be a wait in vain, and every test gets a server of its own.
LOOKS_IN_VAIN = 2
# A server may take long for these, and still be right.
TAKES_LONG = {"C6", "F7", "L1", "L2", "L3", "L4"}
# In the other stages a server needs seconds for many an answer.
QUICK_STAGES = ("handshake", "framing", "commands", "delivery")


@dataclasses.dataclass
class Wait:
    """What has become of the work of one test that waits for seconds."""

    running: RunningServer | None = None
    error: BaseException | None = None


@dataclasses.dataclass
class SuiteRun:
    """The state of a run; `suite_run(config)` returns it."""

    targets: list[ServerUnderTest]
    session: Session = dataclasses.field(default_factory=Session)
    # The server of each target, kept from test to test.
    kept: dict[str, RunningServer] = dataclasses.field(default_factory=dict)
    findings: dict[str, Findings] = dataclasses.field(default_factory=dict)
    # (target, test function) of each failure.
    failed_functions: set[tuple[str, str]] = dataclasses.field(default_factory=set)
    cut_short: CutShort | None = None
    looks_in_vain: int = 0
    # The tests that have waited already, before their turn.
    waits: dict[pytest.Item, Wait] = dataclasses.field(default_factory=dict)
    # Both sides of the `==` that failed last in the current test.
    compared: tuple[object, object] | None = None
    # Whether only the core of the protocol is tested.
    core: bool = False
    # Whether the run ends after a stage that has broken rules.
    by_stages: bool = False

    def findings_about(self, target: ServerUnderTest) -> Findings:
        """What the run has found out about a server so far."""
        return self.findings.setdefault(target.name, Findings(target.name))

    def stop_servers(self) -> None:
        """Stop the servers that were kept, and those of tests that did not get their turn."""
        waiting = [wait.running for wait in self.waits.values() if wait.running is not None]
        for running in (*self.kept.values(), *waiting):
            running.__exit__()
        self.kept.clear()
        self.waits.clear()


class Skipped(pytest.skip.Exception):
    """A skip that tells its kind of reason; a plain pytest.skip() is due to the system."""

    def __init__(self, message: str, skipped_for: SkippedFor) -> None:
        super().__init__(message)
        self.skipped_for = skipped_for


RUN = pytest.StashKey[SuiteRun]()
OUTCOME = pytest.StashKey[Outcome]()
USED_SERVERS = pytest.StashKey[list[RunningServer]]()


def suite_run(config: pytest.Config) -> SuiteRun:
    """The state of this run."""
    return config.stash[RUN]


def target_of(item: pytest.Item) -> ServerUnderTest | None:
    """The server that a test runs against, or None."""
    return item.callspec.params.get("target") if hasattr(item, "callspec") else None


def is_selection(config: pytest.Config) -> bool:
    """Whether the rules to be tested were named one by one."""
    return bool(config.getoption("--rule") or config.getoption("markexpr"))


def rules_of(item: pytest.Item) -> list[str]:
    """The rules that a test names, the one it is about first; none if it tests no server."""
    if "target" not in item.fixturenames:
        return []
    return rules.named_in(item.function.__doc__)


def what_it_says(item: pytest.Item) -> str:
    """What a test's docstring says behind the rules, in a few lines of a terminal."""
    _, _, text = (item.function.__doc__ or "").partition(": ")
    return "\n".join(textwrap.wrap(textwrap.shorten(text, 400, placeholder=" …"), 86))


def stage_of(item: pytest.Item) -> str:
    """The stage of the run that a test belongs to."""
    return rules.stage_of((rules_of(item) or [rules.LAUNCH])[0])


def takes_long(item: pytest.Item) -> bool:
    """Whether a test is one of those that wait: for a server of its own, or by its rule."""
    return "launch_server" in item.fixturenames or not TAKES_LONG.isdisjoint(rules_of(item)[:1])


def is_quick(item: pytest.Item) -> bool:
    """Whether a server that has an answer gives it at once to all that this test asks."""
    return stage_of(item) in QUICK_STAGES and not takes_long(item)


def short_id(item: pytest.Item) -> str:
    """FILE::TEST[PARAMETERS], without folders and without the target."""
    return f"{item.path.name}::{item.name}"


def has_passed(item: pytest.Item) -> bool:
    """Whether a test of a rule has passed, as a fixture sees it at its end."""
    outcome = item.stash.get(OUTCOME, None)
    return outcome is not None and outcome.result == Result.PASSED
