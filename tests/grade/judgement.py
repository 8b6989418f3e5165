"""Whether a server has the concurrency model that it claims: evidence in, a verdict out.

Nothing is guessed. What a system does not show is Finding.CANNOT_TELL, and no model passes on that.
"""

import enum
from dataclasses import dataclass

from tests.grade.points import MODEL_POINTS

MODELS = ("threads", "select", "asyncio")


class Aspect(enum.StrEnum):
    """What is looked at."""

    THREADS = "threads per client"
    WAITING = "what they wait in"
    SILENT = "silent and deaf clients"
    IDLE = "idle CPU"
    WORK = "/work"
    MANY = "descriptor 1024"
    LIBRARIES = "asyncio loaded"


class Finding(enum.StrEnum):
    """What a look at an aspect can find."""

    CANNOT_TELL = "cannot tell"
    FAILED = "failed"
    ONE_EACH = "one each"
    CONSTANT = "constant"
    NOT_PROPORTIONAL = "neither one each nor constant"
    EACH_FOR_ITS_OWN = "each for its own"
    READINESS_OF_ALL = "readiness of all"
    NEITHER = "neither"
    DELAY_NOBODY = "delay nobody"
    DELAY_OTHERS = "delay others"
    NEXT_TO_NONE = "next to none"
    MUCH = "much"
    NOT_DONE = "not done"
    OTHERS_ARE_SERVED = "others are served"
    OTHERS_WAIT = "others wait"
    OTHERS_HARDLY_SERVED = "neither served nor held up"
    SERVED = "served"
    REFUSED = "refused"
    REFUSED_WITHOUT_WORDS = "not refused in words"
    OWN_LIMIT = "a limit of its own"
    DIED = "died"
    YES = "yes"
    NO = "no"


class Answer(enum.StrEnum):
    """Whether a server has a model."""

    YES = "yes"
    NO = "no"
    CANNOT_TELL = "cannot tell"
    NOT_TESTED = "not tested"


@dataclass(frozen=True)
class Evidence:
    """One aspect that was looked at: the finding in a word or two, the facts in a sentence."""

    name: Aspect
    finding: Finding
    facts: str

    @classmethod
    def from_json(cls, written: dict[str, str]) -> "Evidence":
        """One entry of the "evidence" that tests.grade.worker writes."""
        return cls(Aspect(written["name"]), Finding(written["finding"]), written["facts"])


@dataclass(frozen=True)
class Question:
    """What a model has to answer: what fits each of MODELS, in that order, and which it decides."""

    points: float
    fits: tuple[set[Finding], set[Finding], set[Finding]]
    decides: tuple[str, ...] = ()

    def fitting(self, model: str) -> set[Finding]:
        """The findings that fit a model."""
        return self.fits[MODELS.index(model)]


_ROOM = {Finding.SERVED, Finding.OWN_LIMIT}
# A readiness loop may serve the others while it works for one client; only asyncio has to. A
# select() refuses the clients that it cannot watch; poll(), epoll and kqueue serve them, and are
# the same model.
QUESTIONS = {
    Aspect.THREADS: Question(
        5.0, ({Finding.ONE_EACH}, {Finding.CONSTANT}, {Finding.CONSTANT}), MODELS
    ),
    Aspect.WAITING: Question(
        5.0,
        ({Finding.EACH_FOR_ITS_OWN}, {Finding.READINESS_OF_ALL}, {Finding.READINESS_OF_ALL}),
        ("select", "asyncio"),
    ),
    Aspect.SILENT: Question(4.0, ({Finding.DELAY_NOBODY},) * 3),
    Aspect.IDLE: Question(2.0, ({Finding.NEXT_TO_NONE},) * 3),
    Aspect.WORK: Question(
        2.0,
        (
            {Finding.OTHERS_ARE_SERVED},
            {Finding.OTHERS_ARE_SERVED, Finding.OTHERS_WAIT},
            {Finding.OTHERS_ARE_SERVED},
        ),
        ("asyncio",),
    ),
    Aspect.MANY: Question(2.0, (_ROOM | {Finding.REFUSED}, _ROOM | {Finding.REFUSED}, _ROOM)),
}


@dataclass(frozen=True)
class Verdict:
    """Whether a server has a model, and the points that this brings; they add up to 20."""

    model: str
    answer: Answer
    because: str
    earned: float
    not_graded: float
    lost: float


def judge(evidence: list[Evidence], model: str) -> Verdict:
    """Hold the evidence against a model; "any" is the one that fits, the most exacting first.

    A server that has another model than the one asked for earns nothing, however well it behaves.
    Neither does a server whose model cannot be told.
    """
    if model == "any":
        verdicts = [judge(evidence, each) for each in ("threads", "asyncio", "select")]
        ranks = {Answer.YES: 2, Answer.CANNOT_TELL: 1, Answer.NO: 0}
        return max(verdicts, key=lambda verdict: (ranks[verdict.answer], verdict.earned))
    findings = {each.name: each.finding for each in evidence}
    against: list[str] = []
    untold: list[str] = []
    earned = not_graded = 0.0
    for aspect, question in QUESTIONS.items():
        finding = findings.get(aspect, Finding.CANNOT_TELL)
        decides = model in question.decides
        if finding == Finding.CANNOT_TELL:
            not_graded += question.points
            untold += [aspect] * decides
        elif finding in question.fitting(model):
            earned += question.points
        elif decides:
            against.append(f"{aspect}: {finding}")
    if against:
        return Verdict(model, Answer.NO, "; ".join(against), 0.0, 0.0, MODEL_POINTS)
    if untold:
        because = f"this system does not show: {', '.join(untold)}"
        # What does not depend on the model is not worth much where the model is unknown.
        return Verdict(model, Answer.CANNOT_TELL, because, 0.0, MODEL_POINTS, 0.0)
    lost = MODEL_POINTS - earned - not_graded
    return Verdict(model, Answer.YES, "", earned, not_graded, lost)


def no_verdict(model: str, because: str) -> Verdict:
    """The verdict about a server that was not looked at."""
    return Verdict(model, Answer.NOT_TESTED, because, 0.0, 0.0, MODEL_POINTS)
