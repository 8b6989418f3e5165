"""The verdict: sentences written by hand, each with the claims that it makes.

A test holds every claim against the reference run, and names the sentence that no longer holds. For
a run of somebody's own, a report says of each sentence whether that machine confirms it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from benchmarks.experiments.questions import (
    Question,
    asked,
)
from benchmarks.result.statistics import Ratio
from benchmarks.result.view import View


class Finding(StrEnum):
    """What a run says of a claim, or of a sentence."""

    CONFIRMED = "confirmed"
    OPEN = "cannot tell"
    CONTRADICTED = "contradicted"


@dataclass(frozen=True)
class Claim:
    """To one question, one server has the better number, by so many times where that is said.

    `times` is the range in which the ratio of the worse to the better lies in the reference run.
    """

    question: Question
    better: str
    worse: str
    times: tuple[float, float] = (1.0, 1000.0)

    def ratio(self, view: View) -> Ratio | None:
        """How many times better it is; None where the two were not measured."""
        for question, point in asked(view, [self.question]):
            better, worse = point.cells.get(self.better), point.cells.get(self.worse)
            if better and worse:
                pair = (worse, better) if question.about.lower_is_better else (better, worse)
                return pair[0].ratio_to(pair[1], question.metric)
        return None

    def finding(self, view: View) -> Finding | None:
        """What a run says of it: only an interval without 1 says anything."""
        ratio = self.ratio(view)
        if ratio is None:
            return None
        if not ratio.shown:
            return Finding.OPEN
        return Finding.CONTRADICTED if ratio.is_less else Finding.CONFIRMED


@dataclass(frozen=True)
class Sentence:
    """A sentence of the verdict, and its claims."""

    text: str
    claims: Sequence[Claim]

    def finding(self, view: View) -> Finding | None:
        """Confirmed if all its claims are, contradicted if one is; None where none was measured."""
        findings = {claim.finding(view) for claim in self.claims}
        if findings <= {None}:
            return None
        if Finding.CONTRADICTED in findings:
            return Finding.CONTRADICTED
        return Finding.CONFIRMED if findings == {Finding.CONFIRMED} else Finding.OPEN


V1, V2, V3, V4 = "v1_threads", "v2_select", "v3_broadcast", "v4_asyncio"

VERDICT_TITLE = "What the reference run says, and whether this run confirms it:"
VERDICT: tuple[Sentence, ...] = ()


def findings(view: View) -> Iterator[tuple[Sentence, Finding]]:
    """Each sentence of the verdict that a run has measured, with what it says of it."""
    for sentence in VERDICT:
        finding = sentence.finding(view)
        if finding is not None:
            yield sentence, finding
