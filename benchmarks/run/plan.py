"""The plan of a run: whom to measure, in which experiments, how often, on which cores."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from benchmarks.contestants.lineup import Contestant
from benchmarks.experiments.experiment import Experiment, Parameters, Point
from benchmarks.run import machine

OVERHEAD_SECONDS = 0.25  # of a trial besides its load: two processes are started and stopped
CONNECTIONS_PER_SECOND = 4000
PATIENCE_SECONDS = 5.0
SPARE_DESCRIPTORS = 64


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
    rounds: int
    server_cores: int = 1
    patience: float = PATIENCE_SECONDS
    left_out: list[Experiment] = field(init=False)

    def __post_init__(self) -> None:
        self.left_out = [
            experiment
            for experiment in self.experiments
            if 0 < len(self.cores(experiment)[0]) < experiment.server_cores
        ]
        self.experiments = [one for one in self.experiments if one not in self.left_out]

    def parameters(self, experiment: Experiment) -> Parameters:
        """The sizes, times and rates of one experiment, as they stand in the file."""
        return experiment.sizes[self.size]

    def points(self, experiment: Experiment) -> list[Point]:
        return experiment.points(self.parameters(experiment))

    def groups(self) -> Iterator[Group]:
        for experiment in self.experiments:
            for number in range(self.rounds):
                for point in self.points(experiment):
                    yield Group(experiment, number, point)

    def order(self, group: Group) -> list[Contestant]:
        """The servers of a group. Another one begins each round: following one hits all alike."""
        experiment, number, point = group
        servers = [
            one for one in self.contestants if experiment.measures(one.profile, one.kind, point)
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


def descriptors_needed(experiment: Experiment, point: Point) -> int:
    """How many open files a point takes, on either side."""
    return SPARE_DESCRIPTORS + experiment.clients_needed(point)
