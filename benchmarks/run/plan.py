"""The plan of a run: whom to measure, in which experiments, how often, on which cores."""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from benchmarks.contestants.lineup import Contestant
from benchmarks.experiments.experiment import Experiment, Parameters, Point
from benchmarks.experiments.questions import QUESTIONS
from benchmarks.result.view import COMPARED
from benchmarks.run import machine

# Of a trial besides its load: two processes are started and stopped, and the cores looked at.
OVERHEAD_SECONDS = 0.3
CONNECTIONS_PER_SECOND = 4000
PATIENCE_SECONDS = 5.0
SPARE_DESCRIPTORS = 64


@dataclass(frozen=True)
class Effort:
    """How many rounds a run measures, and when it stops adding some; times since it measures.

    The rows of the answer come first: `rounds` at least, then more, up to `most_rounds` each, until
    they are settled or it is `answer_until_s`. All other points have `other_rounds`, while there is
    time until `ends_s`. Servers that are not ranked take part in the first `beside_rounds` only.
    """

    rounds: int
    most_rounds: int
    other_rounds: int
    beside_rounds: int
    answer_until_s: float
    ends_s: float = math.inf

    @classmethod
    def fixed(cls, rounds: int) -> "Effort":
        """As many rounds everywhere."""
        return cls(rounds, rounds, rounds, rounds, 0.0)


EFFORTS = {
    "smoke": Effort.fixed(1),
    "quick": Effort(3, 15, 2, 1, 190.0, 208.0),
    "full": Effort(7, 25, 3, 3, 1000.0),
}


class Group(NamedTuple):
    """The trials that are measured side by side: one of each server at a point, in one round."""

    experiment: Experiment
    round: int
    point: Point


@dataclass
class Plan:
    """What to measure and how. `left_out` are experiments that need more cores than there are."""

    contestants: list[Contestant]
    experiments: list[Experiment]
    size: str
    effort: Effort
    server_cores: int = 1
    patience: float = PATIENCE_SECONDS
    # Of which experiments the points beside the answer's are measured, too; None stands for all.
    beside_the_answer: list[str] | None = None
    left_out: list[Experiment] = field(init=False)

    def __post_init__(self) -> None:
        self.left_out = [
            experiment
            for experiment in self.experiments
            if 0 < len(self.cores(experiment)[0]) < experiment.server_cores
            and (self.beside_the_answer is None or experiment.name in self.beside_the_answer)
        ]
        self.experiments = [one for one in self.experiments if one not in self.left_out]

    def parameters(self, experiment: Experiment) -> Parameters:
        """The sizes, times and rates of one experiment, as they stand in the file."""
        return experiment.sizes[self.size]

    def points(self, experiment: Experiment) -> list[Point]:
        return experiment.points(self.parameters(experiment))

    def answer_points(self) -> list[tuple[Experiment, Point]]:
        """The points of the answer's rows, each once, in the order of its questions."""
        chosen: list[tuple[Experiment, Point]] = []
        for question in QUESTIONS:
            for experiment in self.experiments:
                if experiment.name == question.experiment:
                    point = question.pick(self.points(experiment))
                    if point is not None and (experiment, point) not in chosen:
                        chosen.append((experiment, point))
        return chosen

    def other_points(self) -> list[tuple[Experiment, Point]]:
        answers = self.answer_points()
        wanted = self.beside_the_answer
        every = ((one, point) for one in self.experiments for point in self.points(one))
        return [
            (one, point)
            for one, point in every
            if (one, point) not in answers and (wanted is None or one.name in wanted)
        ]

    def answer_groups(self) -> Iterator[Group]:
        """The rows of the answer, as often as they are measured in any case."""
        return _rounds_of(self.answer_points(), self.effort.rounds)

    def other_groups(self) -> Iterator[Group]:
        return _rounds_of(self.other_points(), self.effort.other_rounds)

    def groups(self) -> Iterator[Group]:
        """All that is planned, without the rounds that are added."""
        return itertools.chain(self.answer_groups(), self.other_groups())

    def order(self, group: Group) -> list[Contestant]:
        """The servers of a group. Another one begins each round: following one hits all alike."""
        experiment, number, point = group
        servers = [
            one
            for one in self.contestants
            if experiment.measures(one.profile, one.kind, point)
            and (one.kind in COMPARED or number < self.effort.beside_rounds)
        ]
        turn = number % max(1, len(servers))
        return servers[turn:] + servers[:turn]

    def seconds(self, experiment: Experiment, point: Point) -> float:
        connecting = experiment.clients_needed(point) / CONNECTIONS_PER_SECOND
        load = experiment.seconds(point, self.parameters(experiment))
        return load + OVERHEAD_SECONDS + connecting

    def cores(self, experiment: Experiment) -> tuple[list[int], list[int]]:
        """(the server's cores, the load generator's)."""
        if experiment.server_cores > self.server_cores:
            return machine.choose_cores(experiment.server_cores, at_any_cost=True)
        return machine.choose_cores(self.server_cores)


def _rounds_of(places: list[tuple[Experiment, Point]], rounds: int) -> Iterator[Group]:
    """A round of all places, then the next: what lasts for a while hits one round of all."""
    for number in range(rounds):
        for experiment, point in places:
            yield Group(experiment, number, point)


def descriptors_needed(experiment: Experiment, point: Point) -> int:
    """How many open files a point takes, on either side."""
    return SPARE_DESCRIPTORS + experiment.clients_needed(point)
