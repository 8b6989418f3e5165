"""What an experiment consists of; each module of this package ends with one."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.load.connections import Load
from benchmarks.result.figure import Picture
from benchmarks.result.status import Outcome
from benchmarks.result.table import Table
from benchmarks.result.view import KINDS, View

# What the points of one size are made of: times, rates, numbers of clients.
Parameters = dict[str, Any]
# One place at which servers are compared, such as {"mode": "paced", "clients": 50, "rate": 5000}.
Point = dict[str, Any]


def sizes(**parameters: tuple) -> dict[str, Parameters]:
    """The parameters of each size, from what each of them is in "smoke", "quick" and "full"."""
    return {
        size: {name: values[index] for name, values in parameters.items()}
        for index, size in enumerate(("smoke", "quick", "full"))
    }


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A question, the load that answers it, and how the answer is shown.

    `profiles` and `kinds` are those of the servers that take part. `sizes` has the parameters of
    "smoke", "quick" and "full". `cpu_per` is what server CPU time is divided by: a message, a
    session. `server_cores`, where it is not 0, is how many cores the server needs.
    """

    name: str
    title: str
    question: str
    sizes: dict[str, Parameters]
    points: Callable[[Parameters], list[Point]]
    # About how many connections a point has open at a time.
    clients_needed: Callable[[Point], int]
    # One trial, in the load generator's process: load, point, parameters, seed.
    drive: Callable[[Load, Point, Parameters, int], Outcome]
    tables: Callable[[View], list[Table]]
    picture: Callable[[View], Picture | None]
    profiles: tuple[str, ...] = ("echo", "chat")
    kinds: tuple[str, ...] = KINDS
    # Whether servers of a kind are measured at a point.
    takes: Callable[[str, Point], bool] = lambda kind, point: True
    # About how many seconds the load of one trial takes.
    seconds: Callable[[Point, Parameters], float] = lambda point, parameters: (
        parameters["warmup"] + parameters["seconds"]
    )
    cpu_per: str = "message"
    server_cores: int = 0

    def measures(self, profile: str, kind: str, point: Point) -> bool:
        """Whether servers of this profile and kind are measured at this point."""
        return profile in self.profiles and kind in self.kinds and self.takes(kind, point)
