"""What a run of the suite says about the rules: a closing summary, and a file for the grader.

One bug turns many tests red. So the summary goes by rule, the fundamental ones first, and says
where to begin: what was sent, what came, what was expected.
"""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from harness.conformance import Fault
from harness.line_client import BARRIER, Closed, LineClient, NoAnswer, made_lately
from tests import rules

FORMAT = 1
MOST = 240  # characters of what was sent, came or was expected, in a message


@dataclasses.dataclass
class Outcome:
    """What became of one test, and if it failed: why, in words and in bytes."""

    test: str
    rules: list[str]  # the one that it is about first
    outcome: str  # "passed", "failed", "skipped" or "not run"
    target: str
    message: str = ""
    sent: str = ""
    came: str = ""
    expected: str = ""
    waits_in_vain: int = 0
    server: str = ""  # how it ended, and its last words, if it did

    @property
    def function(self) -> str:
        """The test without its parameters."""
        return self.test.partition("[")[0]


class RuleBroken(AssertionError):
    """A rule was seen to be broken by a look that belongs to every test, not to this one."""

    def __init__(self, rule: str, message: str) -> None:
        super().__init__(message)
        self.rule = rule


def short(value: object) -> str:
    """`value` in one line that is not too long."""
    text = value if isinstance(value, str) else repr(value)
    text = " ".join(text.split())
    return text if len(text) <= MOST else f"{text[: MOST - 60]} … {text[-50:]}"


def last_sent(client: LineClient) -> str:
    """The last bytes that a client has sent, as they were, without its barriers."""
    sent = [
        data
        for direction, data in client.transcript
        if direction == "sent" and not data.startswith(BARRIER)
    ]
    return short(b"".join(sent[-4:])[-200:]) if sent else ""


def transcript_of(client: LineClient) -> str:
    """The last of what a client has sent and received, a line each."""
    who = client.name or "unnamed"
    arrows = {"sent": ">", "came": "<"}
    return "\n".join(
        f"{who} {arrows[direction]} {data!r}" if data else f"{who} {arrows[direction]} (the end)"
        for direction, data in client.transcript
    )


def explain(outcome: Outcome, error: BaseException, compared: tuple[object, object] | None) -> None:
    """Say in an outcome what an exception, or the comparison that failed, tells."""
    outcome.message = short(str(error).partition("\n")[0] or type(error).__name__)
    if made_lately:
        outcome.sent = last_sent(max(made_lately, key=lambda client: client.spoke_at))
    if isinstance(error, NoAnswer | Closed):
        nothing = "the end" if isinstance(error, Closed) else "nothing"
        outcome.came = short(error.came) if error.came else nothing
        outcome.expected = short(error.expected or "a line")
    elif compared is not None:
        outcome.came, outcome.expected = (short(repr(side)) for side in compared)


@dataclasses.dataclass
class Findings:
    """All that a run has found out about one server."""

    target: str
    outcomes: list[Outcome] = dataclasses.field(default_factory=list)
    preflight: Fault | str | None = None  # what the short check found; a str: it did not start

    def failed(self) -> dict[str, list[Outcome]]:
        """The failures by the rule that each is about, the fundamental rules first."""
        found: dict[str, list[Outcome]] = {}
        for outcome in self.outcomes:
            if outcome.outcome == "failed":
                found.setdefault(outcome.rules[0], []).append(outcome)
        return {rule: found[rule] for rule in rules.FUNDAMENTAL_FIRST if rule in found}

    def where_to_begin(self) -> str | None:
        """The rule that most likely is the cause of all failures.

        It is what the short check found, for that goes from the simple to the composed; or else
        the first of the fundamental rules half of whose tests have failed, for a rule that is
        broken fails its own tests, and others' tests now and then; or else the one most of whose
        tests did.
        """
        if isinstance(self.preflight, Fault):
            return self.preflight.rule
        failed = self.failed()
        shares = {rule: self._share_failed(rule) for rule in failed}
        for rule, share in shares.items():
            if share >= 0.5:
                return rule
        return max(shares, key=shares.__getitem__, default=None)

    def _share_failed(self, rule: str) -> float:
        about = {o.function: False for o in self.outcomes if o.rules[0] == rule}
        for outcome in self.outcomes:
            if outcome.rules[0] == rule and outcome.outcome == "failed":
                about[outcome.function] = True
        return sum(about.values()) / len(about)

    def as_json(self, server: str, profile: str, cut_short: str | None) -> dict:
        """The contents of the file for --rule-report; see README."""
        by_rule: dict[str, dict] = {}
        for rule in rules.ALL_RULES:
            tests = [
                dataclasses.asdict(outcome) | {"function": outcome.function}
                for outcome in self.outcomes
                if outcome.rules[0] == rule
            ]
            belongs = rule in rules.RULES and rules.ONE_PROFILE.get(rule, profile) == profile
            if tests or belongs:
                by_rule[rule] = {"text": rules.text_of(rule), "tests": tests}
        preflight = self.preflight
        if isinstance(preflight, Fault):
            preflight = dataclasses.asdict(preflight)
        elif preflight is not None:
            preflight = {"error": preflight}
        return {
            "format": FORMAT,
            "server": server,
            "profile": profile,
            "preflight": preflight,
            "cut_short": cut_short,
            "begin_with": self.where_to_begin(),
            "rules": by_rule,
        }

    def summary(self) -> list[str]:
        """The closing summary; nothing if nothing has failed."""
        lines = self._preflight_summary() if self.preflight is not None else []
        failed = self.failed()
        if not failed:
            return lines
        begin_with = self.where_to_begin()
        others = [rule for rule in failed if rule != begin_with]
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
                lines += ["", *self._about(rule, failed[rule])]
        return lines

    def _about(self, rule: str, failed: Sequence[Outcome]) -> list[str]:
        name = "" if rule == rules.LAUNCH else f"{rule}  "
        lines = [f"{name}{rules.in_short(rule)}"]
        outcome = failed[0]
        more = f"  (and {len(failed) - 1} more)" if len(failed) > 1 else ""
        lines.append(f"    test      {outcome.test}{more}")
        for label in ("sent", "came", "expected", "message", "server"):
            text = getattr(outcome, label)
            if text and not (label == "message" and outcome.expected):
                lines.append(f"    {label:9} {text}".replace("\n", "\n" + 14 * " "))
        return lines

    def _preflight_summary(self) -> list[str]:
        if isinstance(self.preflight, str):
            return [self.preflight]
        fault = self.preflight
        lines = [f"{self.target} does not keep rule {fault.rule}: {rules.text_of(fault.rule)}", ""]
        for label in ("sent", "came", "expected"):
            text = getattr(fault, label) or "nothing"
            lines.append(f"    {label:9} {text}")
        return [*lines, ""]


def write(path: Path, findings: Findings, server: str, profile: str, cut_short: str | None) -> None:
    """Write the file for --rule-report."""
    report = findings.as_json(server, profile, cut_short)
    path.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
