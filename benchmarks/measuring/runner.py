"""Run the trials: a fresh server and a fresh load generator for each, the versions interleaved.

A trial's outcome is one row of the result file. Whatever goes wrong with a server ends up as such a
row; the rest goes on.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import conformance, launcher, measure, summary

PACKAGE_FOLDER = Path(__file__).resolve().parent.parent  # where `-m benchmarks.load.process` is found
OVERHEAD_SECONDS = 0.22  # of a trial besides its window: starting and stopping two processes
GRACE_SECONDS = 15.0  # beyond its planned time and patience before a generator is given up
PATIENCE_SECONDS = 5.0
SPARE_DESCRIPTORS = 64


@dataclass(frozen=True)
class Contestant:
    """One server to be measured."""

    id: str
    profile: str
    command: list[str] | str
    version: str | None = None  # one of the four, or None: somebody's own
    python: str | None = None
    python_build: str | None = None
    gil: str | None = None

    @property
    def entry(self) -> dict:
        """This server in the result file."""
        return {
            "id": self.id,
            "version": self.version,
            "profile": self.profile,
            "python": self.python,
            "python_build": self.python_build,
            "gil": self.gil,
            "label": self.id,
            "command": self.command,
        }


@dataclass
class Plan:
    """What to measure and how."""

    contestants: list[Contestant]
    experiments: list[str]
    size: str  # "smoke", "quick" or "full"
    trials: int
    server_cores: list[int] = field(default_factory=list)
    client_cores: list[int] = field(default_factory=list)
    patience: float = PATIENCE_SECONDS

    def parameters(self, experiment: str) -> dict:
        """The sizes, times and rates of one experiment."""
        return summary.module(experiment).SIZES[self.size]

    def contestants_of(self, experiment: str) -> list[Contestant]:
        """Those whose profile has such an experiment."""
        profiles = summary.module(experiment).PROFILES
        return [one for one in self.contestants if one.profile in profiles]

    def trial_list(self, experiment: str) -> Iterator[tuple[int, dict, Contestant]]:
        """(trial, point, contestant) in the order in which they are run.

        The versions are interleaved, and another one begins each time: what changes on the
        machine meanwhile, and what follows whom, hits all alike.
        """
        among = self.contestants_of(experiment)
        for trial in range(self.trials):
            for point in summary.module(experiment).points(self.parameters(experiment)):
                turn = trial % max(1, len(among))
                for contestant in among[turn:] + among[:turn]:
                    yield trial, point, contestant

    def planned_seconds(self, experiment: str, point: dict) -> float:
        """About how long one trial takes."""
        parameters = self.parameters(experiment)
        seconds = parameters.get("warmup", 0) + parameters.get("seconds", 0)
        if point.get("mode") == "paced":
            seconds = parameters["warmup"] + parameters["paced_seconds"]
        seconds += parameters.get("before", 0) + parameters.get("after", 0)
        return seconds + OVERHEAD_SECONDS + descriptors_needed(point) / 4000

    def total_seconds(self, experiment: str | None = None) -> float:
        """About how long an experiment, or everything, takes."""
        return sum(
            self.planned_seconds(name, point)
            for name in ([experiment] if experiment else self.experiments)
            for _, point, _ in self.trial_list(name)
        )


class Run:
    """One run: fills `result`, which is complete and may be written at any moment."""

    def __init__(self, plan: Plan, kind: str, report: Callable[[str], None]) -> None:
        self.plan = plan
        self.report = report  # shows a line of progress
        self.done_planned = 0.0
        self.done_actual = 0.0
        commit, dirty = measure.describe_commit()
        self.result: dict = {
            "schema": summary.SCHEMA,
            "kind": kind,
            "started": timestamp(),
            "finished": None,
            "command": ["python3", "-m", "benchmarks", *sys.argv[1:]],
            "commit": commit,
            "dirty": dirty,
            "size": plan.size,
            "quick": plan.size == "quick",
            "interrupted": False,
            "machine": measure.describe_machine(plan.server_cores, plan.client_cores),
            "parameters": {
                "trials": plan.trials,
                "patience_s": plan.patience,
                "client_cpu_limit": summary.CLIENT_CPU_LIMIT,
                "shortfall_limit": summary.SHORTFALL_LIMIT,
                "experiments": {name: plan.parameters(name) for name in plan.experiments},
            },
            "noise_floor": None,
            "servers": [one.entry for one in plan.contestants],
            "conformance": [],
            "trials": [],
            "refusals": [],
        }

    def everything(self, on_experiment: Callable[[str], None]) -> None:
        """Check conformance, then run all experiments; `on_experiment` after each.

        Ctrl-C ends it: the result is marked as interrupted and keeps the trials done so far.
        """
        try:
            for contestant in self.plan.contestants:
                self.report(f"conformance check: {contestant.id}")
                reason = self.conformance_of(contestant)
                self.result["conformance"].append(
                    {"server": contestant.id, "passed": reason is None, "reason": reason}
                )
            for experiment in self.plan.experiments:
                self.experiment(experiment)
                on_experiment(experiment)
        except KeyboardInterrupt:
            self.result["interrupted"] = True
        self.result["finished"] = timestamp()
        self.result["machine"]["load_after"] = measure.load_average()

    def conformance_of(self, contestant: Contestant) -> str | None:
        """Why this server must not be measured, or None."""
        try:
            with self.started(contestant) as server:
                return conformance.check(server)
        except launcher.LaunchError as error:
            return str(error)

    def experiment(self, experiment: str) -> None:
        """All trials of one experiment."""
        plan, result = self.plan, self.result
        passed = {check["server"] for check in result["conformance"] if check["passed"]}
        refused = set()
        for trial, point, contestant in plan.trial_list(experiment):
            planned = plan.planned_seconds(experiment, point)
            key = (json.dumps(point), contestant.id)
            if contestant.id in passed and key not in refused:
                self.report(self.progress(experiment, point, contestant, trial))
                began = time.monotonic()
                refusal = self.too_many(point)
                outcome = refusal or self.trial(experiment, point, contestant)
                outcome["took_s"] = round(time.monotonic() - began, 3)
                if outcome["status"] == "refused":
                    refused.add(key)
                    result["refusals"].append(
                        {
                            "experiment": experiment,
                            "point": point,
                            "server": contestant.id,
                            "held": outcome["held"],
                            "reason": outcome["reason"],
                        }
                    )
                else:
                    result["trials"].append(row(experiment, point, contestant.id, trial, outcome))
                self.done_planned += planned
                self.done_actual += time.monotonic() - began
            else:
                self.done_planned += planned
                self.done_actual += planned  # nothing was learned about our estimate

    def progress(self, experiment: str, point: dict, contestant: Contestant, trial: int) -> str:
        """Where we are, and how long it will take."""
        total = self.plan.total_seconds()
        pace = self.done_actual / self.done_planned if self.done_planned > 5 else 1.0
        left = max(0.0, (total - self.done_planned) * pace)
        where = " ".join(f"{key}={value}" for key, value in point.items() if key != "active")
        return (
            f"{self.done_planned / total:4.0%}  {experiment} {where}  {contestant.id}"
            f"  trial {trial + 1} of {self.plan.trials}  about {duration(left)} left"
        )

    def too_many(self, point: dict) -> dict | None:
        """Refuse a point for which this machine has not enough descriptors."""
        needed = descriptors_needed(point)
        limit = self.result["machine"]["descriptors"]
        if limit is None or needed <= limit:
            return None
        reason = (
            f"{needed:,} descriptors needed, the limit is {limit:,}: raise it with"
            f" `ulimit -n {needed}`"
        )
        return {"status": "refused", "held": None, "reason": reason}

    def started(self, contestant: Contestant) -> launcher.RunningServer:
        """A fresh server process on its cores."""
        with measure.pinned(self.plan.server_cores):
            return launcher.launch(contestant.id, contestant.command, profile=contestant.profile)

    def trial(self, experiment: str, point: dict, contestant: Contestant) -> dict:
        """One trial in fresh processes; returns the outcome, whatever happens to the server."""
        seconds = self.plan.planned_seconds(experiment, point) + self.plan.patience + GRACE_SECONDS
        try:
            with Generator() as generator, self.started(contestant) as server:
                order = {
                    "experiment": experiment,
                    "point": point,
                    "parameters": self.plan.parameters(experiment),
                    "address": server.address,
                    "profile": server.profile,
                    "pid": server.process.pid,
                    "cores": self.plan.client_cores,
                    "patience": self.plan.patience,
                }
                outcome = generator.perform(order, seconds)
                status = server.process.poll()
                if status is not None and outcome["status"] != "ok":
                    said = server.log_path.read_text(errors="replace").strip().splitlines()
                    outcome["reason"] += f"; the server ended with status {status}"
                    outcome["reason"] += f": {said[-1]}" if said else ""
                return outcome
        except launcher.LaunchError as error:
            return {"status": "error", "reason": str(error)}


class Generator:
    """A load generator process, started before its server so as to be ready in time."""

    def __init__(self) -> None:
        self.process = launcher.start_process(
            [sys.executable, "-m", "benchmarks.load.process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=PACKAGE_FOLDER,
            text=True,
        )

    def perform(self, order: dict, seconds: float) -> dict:
        """Have an order carried out in at most so many seconds; returns the outcome."""
        try:
            output, complaints = self.process.communicate(json.dumps(order), timeout=seconds)
        except subprocess.TimeoutExpired:
            return {"status": "error", "reason": f"no end after {seconds:.0f} s"}
        if self.process.returncode == 0:
            return json.loads(output)
        said = complaints.strip().splitlines()
        return {"status": "error", "reason": f"load generator: {said[-1] if said else 'killed'}"}

    def __enter__(self) -> "Generator":
        return self

    def __exit__(self, *exception: object) -> None:
        launcher.end_process(self.process)
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            pipe.close()


def descriptors_needed(point: dict) -> int:
    """How many open files a point takes, on either side."""
    counts = ("clients", "readers", "idle", "active", "others", "concurrent")
    return SPARE_DESCRIPTORS + sum(point.get(key, 0) for key in counts)


def row(experiment: str, point: dict, server: str, trial: int, outcome: dict) -> dict:
    """A row of the result file; a trial that was limited by the load generator is marked here."""
    metrics = outcome.get("metrics", {})
    status, reason = outcome["status"], outcome.get("reason")
    limit = summary.client_limit(metrics)
    if status == "ok" and limit:
        status, reason = "client-limited", limit
    made = {
        "experiment": experiment,
        "point": point,
        "server": server,
        "trial": trial,
        "status": status,
        "reason": reason,
        "finished": timestamp(),
        "took_s": outcome.get("took_s"),
        "metrics": {name: float(f"{value:.6g}") for name, value in metrics.items()},
    }
    if "series" in outcome:
        made["series"] = outcome["series"]
    return made


def noise_floors(result: dict) -> dict:
    """What an A/A result says about chance: one floor per point and metric."""
    floors = []
    for experiment in result["parameters"]["experiments"]:
        for point in summary.points(result, experiment):
            pooled: dict[str, list[float]] = {}
            for cell in summary.cells(result, experiment):
                if cell.point == point and cell.status in ("ok", "client-limited"):
                    for name, values in cell.values.items():
                        pooled.setdefault(name, []).extend(values)
            for name, values in pooled.items():
                if name in summary.METRICS:
                    floor = round(summary.chance_difference(values), 4)
                    floors.append(
                        {"experiment": experiment, "point": point, "metric": name, "floor": floor}
                    )
    return {
        "server": result["servers"][0]["version"] or result["servers"][0]["id"],
        "started": result["started"],
        "size": result["size"],
        "quick": result["quick"],
        "trials": result["parameters"]["trials"],
        "floors": floors,
    }


def timestamp() -> str:
    """Now, ISO 8601 in UTC."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def duration(seconds: float) -> str:
    """A time for people: `50 s`, `12 min`."""
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
