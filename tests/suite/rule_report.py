"""What a run of the suite says about the rules: a closing summary, and a file for the grader.

One bug turns many tests red. So the summary goes by rule, the fundamental ones first, and says
where to begin. For each rule it shows what was sent, what came, and what was expected. The closing
line names the stage that the server has reached.
"""

import dataclasses
import enum
import textwrap
from collections.abc import Collection, Sequence

from harness.conformance import Fault
from harness.crowd import CrowdTimeout
from harness.line_client import BARRIER, Closed, NoAnswer
from harness.session import Talker
from tests.suite import rules

FORMAT = 1
# A message shows at most so many characters of what was sent, came or was expected.
MOST = 240


class Result(enum.StrEnum):
    """What can become of a test."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"
    NOT_RUN = "not run"


class SkippedFor(enum.StrEnum):
    """Why a test was not run. Only the first is due to the command given with --server."""

    OPTIONS = "options"
    SYSTEM = "system"
    ANOTHER_CASE = "another case"


@dataclasses.dataclass(frozen=True)
class CutShort:
    """Why a run ended early, and during which test, if it was during one.

    `after_stage` is the stage that has broken rules, where that is why.
    """

    reason: str
    during: str | None = None
    after_stage: str | None = None

    def __str__(self) -> str:
        return f"{self.reason} during {self.during}" if self.during else self.reason


@dataclasses.dataclass
class Outcome:
    """What became of one test, and if it failed: why, in words and in bytes.

    The first of `rules` is the one that the test is about. If the server ended, `server` tells how,
    and its last words. `crowd` tells in a line each how the clients of a crowd stood. `says` is
    what the test says of itself, and `others` what the other clients had sent last.
    """

    test: str
    rules: list[str]
    result: Result
    target: str
    message: str = ""
    sent: str = ""
    came: str = ""
    expected: str = ""
    waits_in_vain: int = 0
    server: str = ""
    skipped_for: SkippedFor | None = None
    after_each_test: bool = False
    crowd: str = ""
    says: str = ""
    others: str = ""

    @property
    def function(self) -> str:
        """The test without its parameters."""
        return self.test.partition("[")[0]

    def note_skip(self, message: str, skipped_for: SkippedFor) -> None:
        """Note that the test was skipped, and why."""
        self.message = message
        self.skipped_for = skipped_for
        one_failed_before = skipped_for is SkippedFor.ANOTHER_CASE
        self.result = Result.NOT_RUN if one_failed_before else Result.SKIPPED

    def as_json(self) -> dict:
        """An entry of the file for --rule-report."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        entry = {"outcome" if name == "result" else name: fields[name] for name in fields}
        return entry | {"skipped_for": self.skipped_for or "", "function": self.function}

    @classmethod
    def from_json(cls, entry: dict) -> "Outcome":
        """The opposite of `as_json`. Raises KeyError or ValueError for what is no such entry."""
        translated = ("result", "skipped_for")
        others = [field.name for field in dataclasses.fields(cls) if field.name not in translated]
        return cls(
            result=Result(entry["outcome"]),
            skipped_for=SkippedFor(entry["skipped_for"]) if entry["skipped_for"] else None,
            **{name: entry[name] for name in others},
        )


def outcomes_in(report: dict) -> list[Outcome]:
    """What became of each test, from the contents of a file for --rule-report."""
    tests = (test for about in report["rules"].values() for test in about["tests"])
    return [Outcome.from_json(test) for test in tests]


class RuleBroken(AssertionError):
    """The check that follows every test has found a rule broken, whatever this test is about."""

    def __init__(self, rule: str, message: str) -> None:
        super().__init__(message)
        self.rule = rule


def short(value: object) -> str:
    """`value` in one line of at most MOST characters."""
    text = value if isinstance(value, str) else repr(value)
    text = " ".join(text.split())
    return text if len(text) <= MOST else f"{text[: MOST - 60]} … {text[-50:]}"


def last_sent(client: Talker) -> str:
    """The last bytes that a client has sent, without its barriers."""
    sent = [
        data
        for direction, data in client.transcript
        if direction == "sent" and not data.startswith(BARRIER)
    ]
    return short(b"".join(sent[-4:])[-200:]) if sent else ""


def transcript_of(client: Talker) -> str:
    """The last that a client has sent and received, one line for each time."""
    who = client.name or "unnamed"
    arrows = {"sent": ">", "came": "<"}
    return "\n".join(
        f"{who} {arrows[direction]} {data!r}" if data else f"{who} {arrows[direction]} (the end)"
        for direction, data in client.transcript
    )


def explain(
    outcome: Outcome,
    error: BaseException,
    compared: tuple[object, object] | None,
    clients: Collection[Talker],
) -> None:
    """Note in an outcome what the exception, the failed comparison and the clients tell."""
    outcome.message = short(str(error).partition("\n")[0] or type(error).__name__)
    if clients:
        *others, last = sorted(clients, key=lambda client: client.spoke_at)
        outcome.sent = last_sent(last)
        outcome.others = "\n".join(
            f"{client.name or 'unnamed'}: {words}"
            for client in others
            if (words := last_sent(client))
        )
    if isinstance(error, NoAnswer | Closed):
        nothing = "the end" if isinstance(error, Closed) else "nothing"
        outcome.came = short(error.received) if error.received else nothing
        outcome.expected = short(error.expected or "a line")
    elif isinstance(error, CrowdTimeout):
        outcome.crowd = "\n".join(error.members)
    elif compared is not None:
        outcome.came, outcome.expected = (short(repr(side)) for side in compared)


@dataclasses.dataclass
class Findings:
    """All that a run has found out about one server.

    `fault` is what the short check found. `why_no_server` says why there was nothing to check.
    `anybody_was_in` is whether any client has been told `* hello NAME`.
    """

    target: str
    outcomes: list[Outcome] = dataclasses.field(default_factory=list)
    fault: Fault | None = None
    why_no_server: str | None = None
    anybody_was_in: bool = True

    def failed(self) -> dict[str, list[Outcome]]:
        """The failures by the rule that each is about, the fundamental rules first."""
        failed: dict[str, list[Outcome]] = {}
        for outcome in self.outcomes:
            if outcome.result == Result.FAILED:
                failed.setdefault(outcome.rules[0], []).append(outcome)
        return {rule: failed[rule] for rule in rules.FUNDAMENTAL_FIRST if rule in failed}

    def where_to_begin(self) -> str | None:
        """The rule that is most likely the cause of all failures.

        It is the rule that the short check found, because that check goes from the simple to the
        complex. Otherwise it is the most fundamental rule of which half of the tests have failed:
        a broken rule fails its own tests, and only now and then those of other rules. Otherwise it
        is the most fundamental of the rules that have failed a test.
        """
        if self.fault is not None:
            return self.fault.rule
        failed = self.failed()
        broken = (rule for rule in failed if self._share_failed(rule) >= 0.5)
        return next(broken, next(iter(failed), None))

    def _share_failed(self, rule: str) -> float:
        has_failed = {each.function: False for each in self.outcomes if each.rules[0] == rule}
        for outcome in self.outcomes:
            if outcome.rules[0] == rule and outcome.result == Result.FAILED:
                has_failed[outcome.function] = True
        return sum(has_failed.values()) / len(has_failed)

    def as_json(self, server: str, profile: str, cut_short: CutShort | None) -> dict:
        """The contents of the file for --rule-report; see README."""
        by_rule: dict[str, dict] = {}
        for rule in rules.ALL_RULES:
            tests = [each.as_json() for each in self.outcomes if each.rules[0] == rule]
            belongs = rule in rules.RULES and rules.ONE_PROFILE.get(rule, profile) == profile
            if tests or belongs:
                by_rule[rule] = {"text": rules.text_of(rule), "tests": tests}
        preflight = None
        if self.fault is not None:
            preflight = dataclasses.asdict(self.fault)
        elif self.why_no_server is not None:
            preflight = {"error": self.why_no_server}
        return {
            "format": FORMAT,
            "server": server,
            "profile": profile,
            "preflight": preflight,
            "cut_short": cut_short and str(cut_short),
            "cut_short_by": cut_short and dataclasses.asdict(cut_short),
            "begin_with": self.where_to_begin(),
            "anybody_was_in": self.anybody_was_in,
            "rules": by_rule,
        }

    def summary(self) -> list[str]:
        """The closing summary; empty if neither the short check nor a test has found anything."""
        lines = self._check_summary()
        failed = self.failed()
        if not failed:
            return lines
        begin_with = self.where_to_begin()
        others = [rule for rule in failed if rule != begin_with]
        unseen = [] if self.anybody_was_in else others
        others = others if self.anybody_was_in else []
        sentence = f"{self.target}: {begin_with} is broken"
        if others:
            verb = "fails" if len(others) == 1 else "fail"
            sentence += f"; {', '.join(others)} {verb} because of it perhaps"
        lines.append(f"{sentence}; begin with {begin_with}.")
        dead = sum(bool(outcome.server) for outcome in self.outcomes)
        if dead:
            times = "once" if dead == 1 else f"{dead} times"
            lines.append(f"The server ended {times} while it was being tested.")
        for rule in [begin_with, *others]:
            if rule in failed:
                lines += ["", *about(rule, failed[rule], in_full=rule == begin_with)]
        if unseen:
            lines += ["", f"Nobody got in (H3). So nothing is known of {', '.join(unseen)}."]
        return lines

    def stage_line(
        self, profile: str, core: bool = False, ended_after: str | None = None
    ) -> str | None:
        """The stage that was reached and how many of its rules are kept, and which comes next.

        If nothing is broken, that all is done; None where only some of the rules were tested.
        A run that has `ended_after` a stage has tested none of the later ones.
        """
        results: dict[str, set[Result]] = {}
        for outcome in self.outcomes:
            results.setdefault(outcome.rules[0], set()).add(outcome.result)
        next_rule = self.where_to_begin()
        if next_rule is None:
            return _all_done(results, profile, core)
        stages = [rules.stage_of(rule) for rule in (next_rule, *self.failed())]
        stages += [ended_after] if ended_after else []
        stage = min(stages, key=[*rules.STAGES].index)
        tested = [results[rule] for rule in rules.STAGES[stage] if _is_tested(results.get(rule))]
        kept = sum(seen <= {Result.PASSED, Result.SKIPPED} for seen in tested)
        counted = f" {kept} of {len(tested)} rules;" if tested else ""
        return f"{stage}:{counted} next: {next_rule}"

    def _check_summary(self) -> list[str]:
        if self.why_no_server is not None:
            return [self.why_no_server]
        fault = self.fault
        if fault is None:
            return []
        lines = [
            f"{self.target} does not keep rule {fault.rule}: {rules.as_plain_text(fault.rule)}",
            "",
        ]
        if fault.before:
            lines.append(f"    before    {fault.before}")
        for label in ("sent", "came", "expected"):
            text = getattr(fault, label) or "nothing"
            lines.append(f"    {label:9} {text}")
        return [*lines, ""]


def about(rule: str, failed: Sequence[Outcome], in_full: bool = False) -> list[str]:
    """The text of a rule, and its first failure: what was sent, came, was expected."""
    name = "" if rule == rules.LAUNCH else f"{rule}  "
    text = f"{name}{rules.as_plain_text(rule) if in_full else rules.in_short(rule)}"
    lines = textwrap.wrap(text, 100, subsequent_indent=" " * len(name))
    outcome = failed[0]
    more = f"  (and {len(failed) - 1} more)" if len(failed) > 1 else ""
    lines.append(f"    test      {outcome.test}{more}")
    for label in ("says", "others", "sent", "came", "expected", "message", "server", "crowd"):
        text = getattr(outcome, label)
        if text and not (label == "message" and outcome.expected):
            lines.append(f"    {label:9} {text}".replace("\n", "\n" + 14 * " "))
    return lines


def _all_done(results: dict[str, set[Result]], profile: str, core: bool) -> str | None:
    """That a server has passed all stages, and what was not tested; None if not all were run."""
    reached = {rules.stage_of(rule) for rule in results}
    # A run tests either tasks or the milestones.
    tasks = [stage for stage in rules.STAGES if stage in reached - rules.MILESTONES.keys()]
    wanted = [
        rule
        for stage in tasks or rules.MILESTONES
        for rule in rules.STAGES[stage]
        if rules.ONE_PROFILE.get(rule, profile) == profile and (rules.is_core(rule) or not core)
    ]
    is_whole = bool(results) and results.keys() >= set(wanted)
    if not is_whole or any(Result.NOT_RUN in seen for seen in results.values()):
        return None
    untested = [rule for rule in wanted if not _is_tested(results[rule])]
    end = f"; not tested: {', '.join(untested)}" if untested else ""
    return f"all stages{' of the core' if core else ''} are done{end}"


def _is_tested(seen: set[Result] | None) -> bool:
    return bool((seen or set()) - {Result.SKIPPED, Result.NOT_RUN})
