"""The verdict: sentences written by hand, each with the claims that it makes.

A test holds every claim against the reference run, and names the sentence that no longer holds. For
a run of somebody's own, a report says of each sentence whether that machine confirms it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from benchmarks.experiments.questions import (
    CHAT_LOAD,
    COME_AND_GO,
    LINE_TO_A_ROOM,
    MEMORY,
    ONE_AMONG_IDLE,
    RUSH,
    SATURATION,
    SOMEBODY_COMPUTES,
    Question,
)
from benchmarks.result.statistics import Ratio
from benchmarks.result.view import View


class Finding(StrEnum):
    """What a run says of a claim, or of a sentence."""

    CONFIRMED = "confirmed"
    # The direction is confirmed, and the interval does not reach what is said of how much.
    OTHERWISE = "true, but by another factor"
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
        question = self.question
        for point in view.points(question.experiment, **question.wanted):
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
        if not ratio.shown or ratio.low is None or ratio.high is None:
            return Finding.OPEN
        if ratio.is_less:
            return Finding.CONTRADICTED
        least, most = self.times
        overlaps = ratio.low <= most and least <= ratio.high
        return Finding.CONFIRMED if overlaps else Finding.OTHERWISE


@dataclass(frozen=True)
class Sentence:
    """A sentence of the verdict, and its claims."""

    text: str
    claims: Sequence[Claim]

    def finding(self, view: View) -> Finding | None:
        """Confirmed if all its claims are, contradicted if one is; None where none was measured.

        A claim is judged at the point that it is about, and at no other.
        """
        findings = {claim.finding(view) for claim in self.claims}
        if findings <= {None}:
            return None
        if Finding.CONTRADICTED in findings:
            return Finding.CONTRADICTED
        if None in findings or Finding.OPEN in findings:
            return Finding.OPEN
        return Finding.OTHERWISE if Finding.OTHERWISE in findings else Finding.CONFIRMED


V1, V2, V3, V4 = "v1_threads", "v2_select", "v3_broadcast", "v4_asyncio"

VERDICT_TITLE = "What the reference run says, and whether this run confirms it:"
VERDICT = (
    Sentence(
        "At a chat's load, where most messages come alone, threads are the cheapest and asyncio is"
        " the most expensive: a message costs a select() loop about a fifth more CPU time than it"
        " costs threads, and asyncio about half as much again.",
        (
            Claim(CHAT_LOAD, V1, V2, (1.05, 1.4)),
            Claim(CHAT_LOAD, V1, V3, (1.05, 1.4)),
            Claim(CHAT_LOAD, V1, V4, (1.3, 1.8)),
            Claim(CHAT_LOAD, V2, V4, (1.1, 1.5)),
            Claim(CHAT_LOAD, V3, V4, (1.1, 1.5)),
        ),
    ),
    Sentence(
        "When messages come faster than the server can answer them, a select() loop serves many of"
        " them in one round. Then a message costs asyncio twice as much, and threads two to three"
        " times as much.",
        (
            Claim(SATURATION, V2, V1, (1.7, 3.5)),
            Claim(SATURATION, V3, V1, (1.7, 3.5)),
            Claim(SATURATION, V2, V4, (1.5, 2.5)),
            Claim(SATURATION, V3, V4, (1.5, 2.5)),
        ),
    ),
    Sentence(
        "Clients that say nothing are what select() is bad at: among 900 of them a message costs it"
        " about four times what it costs asyncio, and six to seven times what it costs threads."
        " Threads pay for them with memory: about nine times that of a select() loop.",
        (
            Claim(ONE_AMONG_IDLE, V1, V2, (5.0, 8.5)),
            Claim(ONE_AMONG_IDLE, V1, V3, (5.0, 8.5)),
            Claim(ONE_AMONG_IDLE, V4, V2, (3.0, 5.0)),
            Claim(ONE_AMONG_IDLE, V4, V3, (3.0, 5.0)),
            Claim(MEMORY, V2, V1, (7.5, 10.5)),
            Claim(MEMORY, V3, V1, (7.5, 10.5)),
        ),
    ),
    Sentence(
        "While one client computes, a select() loop stands still for all the others. Threads and"
        " asyncio, which computes in a thread of its own, go on.",
        (
            Claim(SOMEBODY_COMPUTES, V1, V2, (3.0, 30.0)),
            Claim(SOMEBODY_COMPUTES, V1, V3, (3.0, 30.0)),
            Claim(SOMEBODY_COMPUTES, V4, V2, (3.0, 30.0)),
            Claim(SOMEBODY_COMPUTES, V4, V3, (3.0, 30.0)),
        ),
    ),
    Sentence(
        "Clients that come and go cost a select() loop least, and it lets a rush in soonest. A line"
        " to a room costs it less than it costs asyncio.",
        (
            Claim(COME_AND_GO, V2, V1, (1.2, 3.0)),
            Claim(COME_AND_GO, V2, V4, (1.2, 4.0)),
            Claim(RUSH, V2, V1, (1.5, 10.0)),
            Claim(RUSH, V2, V4, (1.5, 10.0)),
            Claim(LINE_TO_A_ROOM, V3, V4, (1.05, 2.0)),
        ),
    ),
)


def findings(view: View) -> Iterator[tuple[Sentence, Finding]]:
    """Each sentence of the verdict that a run has measured, with what it says of it."""
    for sentence in VERDICT:
        finding = sentence.finding(view)
        if finding is not None:
            yield sentence, finding


def untrue(sentence: Sentence, view: View) -> list[str]:
    """What is wrong with a sentence by the reference run, a line for each claim that fails."""
    lines = []
    for claim in sentence.claims:
        finding, ratio = claim.finding(view), claim.ratio(view)
        least, most = claim.times
        what = f"{claim.question.phrase}, {claim.better} better than {claim.worse}"
        if ratio is None or ratio.value is None:
            lines.append(f"not measured: {what}")
        elif finding is not Finding.CONFIRMED or not least <= ratio.value <= most:
            claimed = f"where {least:g} to {most:g} times is claimed"
            lines.append(f"{finding}: {what}: {ratio.text} {claimed}")
    return lines
