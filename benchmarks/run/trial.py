"""One trial: a fresh server process under the load of a fresh generator process."""

import contextlib
import pickle
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace

from benchmarks.contestants.lineup import Contestant
from benchmarks.experiments.experiment import Experiment, Point
from benchmarks.result.status import Outcome, Status
from benchmarks.run import machine
from benchmarks.run.load_process import TrialOrder
from benchmarks.run.plan import Plan
from harness import launcher

GRACE_SECONDS = 15.0  # beyond its planned time and patience, before a generator is given up


@contextlib.contextmanager
def load_generator() -> Iterator[subprocess.Popen]:
    """A process that waits for its order, started before its server so as to be ready in time."""
    with launcher.start_process(
        [sys.executable, "-m", "benchmarks.run.load_process"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=launcher.REPOSITORY,
    ) as process:
        try:
            yield process
        finally:
            launcher.end_process(process)


def perform(generator: subprocess.Popen, order: TrialOrder, seconds: float) -> Outcome:
    """Have an order carried out in at most so many seconds."""
    try:
        output, complaints = generator.communicate(pickle.dumps(order), timeout=seconds)
    except subprocess.TimeoutExpired:
        return Outcome(Status.ERROR, f"no end after {seconds:.0f} s")
    if generator.returncode == 0:
        return pickle.loads(output)
    lines = complaints.decode(errors="replace").strip().splitlines() or ["killed"]
    return Outcome(Status.ERROR, f"load generator: {lines[-1]}")


@dataclass(frozen=True)
class Trial:
    """One server at one point of an experiment, with the arrivals of one seed."""

    plan: Plan
    experiment: Experiment
    point: Point
    contestant: Contestant
    seed: int

    def attempt(self) -> Outcome:
        """Measure it once; returns the outcome, whatever happens to the server."""
        server_cores, client_cores = self.plan.cores(self.experiment)
        seconds = (
            self.plan.seconds(self.experiment, self.point) + self.plan.patience + GRACE_SECONDS
        )
        try:
            with load_generator() as generator, start(self.contestant, server_cores) as server:
                order = TrialOrder(
                    experiment=self.experiment.name,
                    point=self.point,
                    parameters=self.plan.parameters(self.experiment),
                    seed=self.seed,
                    address=server.address,
                    profile=server.profile,
                    pid=server.pid,
                    server_cores=server_cores,
                    cores=client_cores,
                    patience=self.plan.patience,
                )
                outcome = perform(generator, order, seconds)
                if outcome.status in (Status.ERROR, Status.FAILED) and (ending := server.ending()):
                    reason = f"{outcome.reason}; {ending.in_short()}"
                    outcome = replace(outcome, reason=reason)
                return outcome
        except launcher.LaunchError as error:
            return Outcome(Status.ERROR, str(error))

    def disturbance(self, outcome: Outcome, limit: float) -> str | None:
        """Who waited for a core for more than this share of the time, and how much; or None."""
        server_cores, client_cores = self.plan.cores(self.experiment)
        taken = outcome.metrics.get("server_wait_share", 0.0)
        # The share is one of a single core, and the server may have several.
        waits = {"server": taken / max(1, len(server_cores))}
        # On a core that both share, the generator waits for the server.
        if not set(server_cores) & set(client_cores):
            waits["load generator"] = outcome.metrics.get("client_wait_share", 0.0)
        who, share = max(waits.items(), key=lambda item: item[1])
        return f"others had the {who}'s core for {share:.0%} of the time" if share > limit else None


def start(contestant: Contestant, cores: list[int]) -> launcher.RunningServer:
    """A fresh server process on its cores. Raises LaunchError."""
    with machine.pinned(cores):
        return contestant.start()
