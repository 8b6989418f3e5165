"""The questions that the answer is made of, where each is measured, and which are settled."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from benchmarks.result.metrics import METRICS, Metric, with_unit
from benchmarks.result.statistics import Ratio
from benchmarks.result.status import Status
from benchmarks.result.view import COMPARED, Cell, MeasuredPoint, View

# A row is settled when the interval of each ratio to the best reaches no further than this.
SETTLED = math.log(1.1)

AnyPoint = TypeVar("AnyPoint", bound=Mapping[str, Any])


@dataclass(frozen=True)
class Question:
    """A question, and the experiment, point and metric that answer it.

    `phrase` is how it reads in the middle of a sentence.
    """

    label: str
    phrase: str
    experiment: str
    wanted: dict
    metric: str

    @property
    def about(self) -> Metric:
        """What is known of its metric."""
        return METRICS[self.metric]

    def pick(self, points: Sequence[AnyPoint]) -> AnyPoint | None:
        """The point of its experiment that answers it.

        A run of another size may not have that point. Then it is the last one of the same mode.
        """
        mode = {name: value for name, value in self.wanted.items() if isinstance(value, str)}
        for wanted, which in ((self.wanted, 0), (mode, -1)):
            fitting = [point for point in points if wanted.items() <= dict(point).items()]
            if fitting:
                return fitting[which]
        return None

    def label_at(self, point: MeasuredPoint) -> str:
        """`A message at chat load (50 clients, 5,000/s), µs of CPU`."""
        unit = self.about.unit + (" of CPU" if self.metric == "server_cpu_us" else "")
        values = [
            f"{point[name]:,} {name}" if name != "rate" else f"{point[name]:,}/s"
            for name in self.wanted
            if isinstance(point.get(name), int) and name not in ("active", "workers")
        ]
        where = f" ({', '.join(values)})" if values else ""
        return f"{self.label}{where}{f', {unit}' if unit else ''}"

    def number_of(self, cell: Cell) -> str:
        """The number of a cell that ranks, with its unit."""
        return with_unit(self.metric, cell.number(self.metric))

    def is_better(self, ratio: Ratio) -> bool:
        """Whether the first of the two compared is the better one."""
        return ratio.is_less == self.about.lower_is_better

    def is_settled(self, point: MeasuredPoint) -> bool:
        """Whether more rounds would add little: each ratio to the best is known within 10 %.

        A number that is mostly a configured timeout needs no more rounds either. A server all of
        whose trials were disturbed, or met a generator at its limit, does need them.
        """
        if self.about.configured:
            return True
        cells = [cell for cell in point.cells.values() if cell.entry["kind"] in COMPARED]
        if any(cell.status in (Status.DISTURBED, Status.CLIENT_LIMITED) for cell in cells):
            return False
        ranked = point.ranking(self.metric, COMPARED)
        ratios = [cell.ratio_to(ranked[0], self.metric) for cell in ranked[1:]]
        return all(ratio.reach is not None and ratio.reach <= SETTLED for ratio in ratios)


CHAT = {"mode": "paced", "clients": 50, "rate": 5000}
SATURATED = {"mode": "saturated", "clients": 100}
AMONG_IDLE = {"idle": 900, "active": 1}
ROOM = {"mode": "paced", "readers": 100}

CHAT_LOAD = Question(
    "A message at chat load", "a message at chat load", "ping", CHAT, "server_cpu_us"
)
SATURATION = Question(
    "A message at saturation", "a message at saturation", "ping", SATURATED, "server_cpu_us"
)
ONE_AMONG_IDLE = Question(
    "A message of one client among the idle",
    "a message of one client among the idle",
    "idle",
    AMONG_IDLE,
    "server_cpu_us",
)
MEMORY = Question(
    "Memory per idle connection", "memory per idle connection", "idle", AMONG_IDLE, "memory_kib"
)
SOMEBODY_COMPUTES = Question(
    "Somebody computes: p99 of the others",
    "the others' p99 while somebody computes",
    "work",
    {"workers": 1},
    "p99_ms",
)
SOMEBODY_STOPS_READING = Question(
    "Somebody stops reading: longest delay of the others",
    "the others' longest delay when somebody stops reading",
    "stall",
    {},
    "worst_delay_ms",
)
COME_AND_GO = Question(
    "A client comes and goes", "a client that comes and goes", "churn", {}, "server_cpu_us"
)
RUSH = Question(
    "A rush: the last one is greeted", "the last one in a rush", "rush", {}, "last_greeting_ms"
)
LINE_TO_A_ROOM = Question(
    "A line to a room, for each reader", "a line to a room", "fanout", ROOM, "server_cpu_us"
)
QUESTIONS = (
    CHAT_LOAD,
    SATURATION,
    ONE_AMONG_IDLE,
    MEMORY,
    SOMEBODY_COMPUTES,
    SOMEBODY_STOPS_READING,
    COME_AND_GO,
    RUSH,
    LINE_TO_A_ROOM,
)
# What a comparison of two servers has beside them.
TWO_CORES = Question(
    "Works done per second on two cores", "", "cores", {"workers": 4}, "works_per_s"
)
# What explains a step, and is nobody's gain or loss.
EXPLAINING = (
    Question("Wake-ups for a message at chat load", "", "ping", CHAT, "wakeups_per_message"),
    Question("Wake-ups for a message at saturation", "", "ping", SATURATED, "wakeups_per_message"),
)


def asked(
    view: View, questions: Sequence[Question] = QUESTIONS
) -> Iterator[tuple[Question, MeasuredPoint]]:
    """The questions that a result answers, each with its point."""
    for question in questions:
        point = question.pick(view.points(question.experiment))
        if point is not None:
            yield question, point


def unsettled(view: View) -> list[tuple[Question, MeasuredPoint]]:
    """The questions for which more rounds would tell more."""
    return [(question, point) for question, point in asked(view) if not question.is_settled(point)]
