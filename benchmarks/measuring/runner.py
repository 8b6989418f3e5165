"""Run the trials: fresh processes for each, the servers side by side in every round.

A trial's outcome is one row of the result file, which is on disk before the next trial begins.
Whatever goes wrong with a server ends up as such a row; the rest goes on.
"""

import json
import math
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.arithmetic.results import (
    SCHEMA,
    ResultError,
    describe,
    key,
    load_result,
    write_result,
)
from benchmarks.experiments import module
from benchmarks.measuring import machine
from benchmarks.servers.contestants import Contestant
from harness import conformance, launcher

OVERHEAD_SECONDS = 0.25  # of a trial besides its load: starting and stopping two processes
CONNECTIONS_PER_SECOND = 4000
GRACE_SECONDS = 15.0  # beyond its planned time and patience before a generator is given up
PATIENCE_SECONDS = 5.0
SPARE_DESCRIPTORS = 64
# Share of the time that others may have had the server's core, or the generator's, and how often a
# trial is repeated in which it was more. The time is told in steps of 10 ms, so that little can be
# said of the short windows of `--smoke`, which are not worth a repeat either.
WAIT_LIMITS = {"smoke": 0.30, "quick": 0.05, "full": 0.05}
REPEATS_LIMITS = {"smoke": 0, "quick": 3, "full": 3}
REPEATS_SHARE = 0.25  # of all trials: there is no waiting for a machine that stays busy
# What has to be alike for a run to be gone on with.
SAME = ("kind", "size", "parameters", "commit")
SAME_MACHINE = ("system", "kernel", "cpu", "cores", "server_cores", "client_cores")


@dataclass
class Plan:
    """What to measure and how."""

    contestants: list[Contestant]
    experiments: list[str]
    size: str  # "smoke", "quick" or "full"
    rounds: int
    server_cores: int = 1
    patience: float = PATIENCE_SECONDS

    def parameters(self, experiment: str) -> dict:
        """The sizes, times and rates of one experiment, as they will stand in the file."""
        return json.loads(json.dumps(module(experiment).SIZES[self.size]))

    def points(self, experiment: str) -> list[dict]:
        """All points of one experiment."""
        return module(experiment).points(self.parameters(experiment))

    def groups(self) -> Iterator[tuple[str, int, dict]]:
        """(experiment, round, point): the servers of such a group are measured side by side."""
        for experiment in self.experiments:
            for number in range(self.rounds):
                for point in self.points(experiment):
                    yield experiment, number, point

    def order(self, experiment: str, number: int, point: dict) -> list[Contestant]:
        """Who is measured there. Another one begins each round: who follows whom hits all alike."""
        asked = module(experiment)
        takes = getattr(asked, "takes", lambda contestant, point: True)
        among = [
            one
            for one in self.contestants
            if one.profile in asked.PROFILES and one.kind in asked.KINDS and takes(one.entry, point)
        ]
        turn = number % max(1, len(among))
        return among[turn:] + among[:turn]

    def seconds(self, experiment: str, point: dict) -> float:
        """About how long one trial takes."""
        asked = module(experiment)
        connecting = asked.clients_needed(point) / CONNECTIONS_PER_SECOND
        return asked.seconds(point, self.parameters(experiment)) + OVERHEAD_SECONDS + connecting

    def cores(self, experiment: str) -> tuple[list[int], list[int]]:
        """(the server's cores, the load generator's)."""
        asked = getattr(module(experiment), "SERVER_CORES", 0)
        if asked > self.server_cores:
            return machine.choose_cores(asked, at_any_cost=True)
        return machine.choose_cores(self.server_cores)

    def too_few_cores(self) -> list[str]:
        """A line for each experiment that this machine has not enough cores for."""
        return [
            f"{name} was left out: it needs {module(name).SERVER_CORES} cores"
            for name in self.experiments
            if 0 < len(self.cores(name)[0]) < getattr(module(name), "SERVER_CORES", 0)
        ]

    def descriptors(self) -> int:
        """How many open files the largest point takes, on either side."""
        points = [(name, point) for name in self.experiments for point in self.points(name)]
        return max(descriptors_needed(name, point) for name, point in points)


def descriptors_needed(experiment: str, point: dict) -> int:
    """How many open files a point takes, on either side."""
    return SPARE_DESCRIPTORS + module(experiment).clients_needed(point)


class Run:
    """One run: fills `result`, and the file at `path` after every trial."""

    def __init__(
        self,
        plan: Plan,
        kind: str,
        path: Path,
        report: Callable[[str], None],  # shows a line of progress
        missing: list[str] | None = None,  # a line for each of those who cannot take part
    ) -> None:
        left_out = plan.too_few_cores()
        plan.experiments = [
            name
            for name in plan.experiments
            if not any(line.startswith(f"{name} ") for line in left_out)
        ]
        self.plan = plan
        self.path = path
        self.report = report
        self.saved = 0  # trials in the file
        self.total = 0.0
        self.repeats_left = 0
        self.done_planned = self.done_actual = 0.0
        commit, dirty = machine.describe_commit()
        self.result: dict = {
            "schema": SCHEMA,
            "kind": kind,
            "size": plan.size,
            "started": timestamp(),
            "finished": None,
            "interrupted": False,
            "command": ["python3", "-m", "benchmarks", *map(printable, sys.argv[1:])],
            "commit": commit,
            "dirty": dirty,
            "seed": random.SystemRandom().getrandbits(32),
            "machine": machine.describe_machine(*machine.choose_cores(plan.server_cores)),
            "parameters": {
                "rounds": plan.rounds,
                "wait_limit": WAIT_LIMITS[plan.size],
                "repeats_limit": REPEATS_LIMITS[plan.size],
                "patience_s": plan.patience,
                "experiments": {name: plan.parameters(name) for name in plan.experiments},
            },
            "servers": [one.entry for one in plan.contestants],
            "missing": [*(missing or []), *left_out],
            "conformance": [],
            "trials": [],
            "refusals": [],
        }

    def go_on_with(self, older: dict) -> None:
        """Take over what an earlier run has measured; raises ResultError if that does not fit."""
        fresh = self.result
        differs = [name for name in SAME if older.get(name) != fresh[name]]
        if _settled(older["servers"]) != _settled(fresh["servers"]):
            differs.append("servers")
        if any(older["machine"].get(name) != fresh["machine"][name] for name in SAME_MACHINE):
            differs.append("machine")
        if differs:
            raise ResultError(
                f"cannot go on with {self.path}: it has other {', '.join(differs)};"
                f" it was measured by: {' '.join(older['command'])}"
            )
        self.result = older | {
            "finished": None,
            "interrupted": False,
            "dirty": older["dirty"] or fresh["dirty"],
            "missing": fresh["missing"],
            # What this machine had too few descriptors for is tried again.
            "refusals": [row for row in older["refusals"] if row["held"] is not None],
        }
        self.saved = len(older["trials"])

    def everything(self, on_experiment: Callable[[str], None]) -> None:
        """Check conformance, then run what is missing; `on_experiment` after each experiment.

        Ctrl-C ends it: the result is marked as interrupted and keeps the trials done so far.
        """
        try:
            self.save()
            self.check_conformance()
            groups = self.groups_to_do()
            self.total = self.seconds_planned()
            repeats = math.ceil(self.trials_planned() * REPEATS_SHARE)
            self.repeats_left = max(repeats, REPEATS_LIMITS[self.plan.size])
            for experiment in self.plan.experiments:
                for group in groups:
                    if group[0] == experiment:
                        self.group(*group)
                on_experiment(experiment)
        except KeyboardInterrupt:
            self.result["interrupted"] = True
        self.result["finished"] = timestamp()
        self.result["machine"]["load_after"] = machine.load_average()
        self.save()

    def save(self) -> None:
        """Have on disk all that is known."""
        try:
            write_result(self.result, self.path)
        except ResultError as error:
            kept = "nothing was measured yet"
            if self.saved:
                kept = f"it keeps the {self.saved} trials before this, and --resume goes on"
            raise ResultError(f"{error}; {kept}") from None
        self.saved = len(self.result["trials"])

    def check_conformance(self) -> None:
        """Find out who may be measured."""
        checks = []
        for contestant in self.plan.contestants:
            self.report(f"conformance check: {contestant.id}")
            reason = self.conformance_of(contestant)
            checks.append(
                {
                    "server": contestant.id,
                    "passed": reason is None,
                    "reason": reason and printable(reason),
                }
            )
        self.result["conformance"] = checks

    def conformance_of(self, contestant: Contestant) -> str | None:
        """Why this server must not be measured, or None."""
        try:
            with self.started(
                contestant, machine.choose_cores(self.plan.server_cores)[0]
            ) as server:
                return conformance.check(server, contestant.kind)
        except launcher.LaunchError as error:
            return str(error)

    # What is to be done

    def wanted(self, experiment: str, number: int, point: dict) -> list[Contestant]:
        """Who is to be measured there: who keeps the protocol and has not refused."""
        failed = {check["server"] for check in self.result["conformance"] if not check["passed"]}
        refused = {
            row["server"]
            for row in self.result["refusals"]
            if row["experiment"] == experiment and row["point"] == point
        }
        order = self.plan.order(experiment, number, point)
        return [one for one in order if one.id not in failed | refused]

    def groups_to_do(self) -> list[tuple[str, int, dict]]:
        """What is still to be measured."""
        return [group for group in self.plan.groups() if self.to_do(*group)]

    def trials_planned(self) -> int:
        """How many trials that is."""
        return sum(len(self.wanted(*group)) for group in self.groups_to_do())

    def seconds_planned(self) -> float:
        """About how long it takes."""
        return sum(self.seconds(*group) for group in self.groups_to_do())

    def to_do(self, experiment: str, number: int, point: dict) -> bool:
        """Whether a trial of this group is missing, or has stayed disturbed.

        It is then measured again as a whole: what is compared must lie side by side.
        """
        calm = {
            row["server"]
            for row in self.result["trials"]
            if (row["experiment"], row["round"], row["point"]) == (experiment, number, point)
            and row["status"] != "disturbed"
        }
        return any(one.id not in calm for one in self.wanted(experiment, number, point))

    def seconds(self, experiment: str, number: int, point: dict) -> float:
        """About how long a group takes."""
        return len(self.wanted(experiment, number, point)) * self.plan.seconds(experiment, point)

    def group(self, experiment: str, number: int, point: dict) -> None:
        """One trial of each server, side by side."""
        source = random.Random(f"{self.result['seed']} {experiment} {key(point)} {number}")
        seed = source.getrandbits(32)
        began = time.monotonic()
        planned = self.seconds(experiment, number, point)
        for contestant in self.wanted(experiment, number, point):
            self.report(self.progress(experiment, point, contestant, number))
            started = time.monotonic()
            outcome = self.too_many(experiment, point)
            outcome = outcome or self.trial(experiment, point, contestant, seed)
            outcome |= {"took_s": round(time.monotonic() - started, 3), "seed": seed}
            if outcome["status"] == "refused":
                self.refuse(experiment, point, contestant, outcome)
            else:
                self.keep(row(experiment, point, contestant.id, number, outcome))
            self.save()
        self.done_planned += planned
        self.done_actual += time.monotonic() - began

    def keep(self, made: dict) -> None:
        """Put a trial where it belongs, in place of an earlier one."""
        place = ("experiment", "round", "point", "server")
        rows = self.result["trials"]
        for index, older in enumerate(rows):
            if all(older[name] == made[name] for name in place):
                rows[index] = made
                return
        rows.append(made)

    def refuse(self, experiment: str, point: dict, contestant: Contestant, outcome: dict) -> None:
        """This server has no such point, and none with more clients either."""
        clients_needed = module(experiment).clients_needed
        known = [
            row["point"]
            for row in self.result["refusals"]
            if (row["experiment"], row["server"]) == (experiment, contestant.id)
        ]
        for other in self.plan.points(experiment):
            larger = clients_needed(other) > clients_needed(point)
            if other not in known and (other == point or larger):
                self.result["refusals"].append(
                    {
                        "experiment": experiment,
                        "point": other,
                        "server": contestant.id,
                        "held": outcome["held"],
                        "reason": printable(outcome["reason"]),
                    }
                )

    def progress(self, experiment: str, point: dict, contestant: Contestant, number: int) -> str:
        """Where we are, and how long it will take."""
        pace = self.done_actual / self.done_planned if self.done_planned > 5 else 1.0
        left = max(0.0, (self.total - self.done_planned) * pace)
        where = f"{experiment} ({describe(point)}), {contestant.id}"
        return (
            f"{self.done_planned / self.total:4.0%}  about {duration(left)} left,"
            f" round {number + 1} of {self.plan.rounds}: {where}"
        )

    def too_many(self, experiment: str, point: dict) -> dict | None:
        """Refuse a point for which this machine has not enough descriptors."""
        needed = descriptors_needed(experiment, point)
        limit = self.result["machine"]["descriptors"]
        if limit is None or needed <= limit:
            return None
        reason = (
            f"{needed:,} descriptors needed, the limit is {limit:,}: raise it with"
            f" `ulimit -n {needed}`"
        )
        return {"status": "refused", "held": None, "reason": reason}

    # One trial

    def trial(self, experiment: str, point: dict, contestant: Contestant, seed: int) -> dict:
        """One trial, repeated while others are at work on its cores; returns the outcome."""
        limit = min(self.repeats_left, self.result["parameters"]["repeats_limit"])
        for repeats in range(limit + 1):
            outcome = self.attempt(experiment, point, contestant, seed) | {"repeats": repeats}
            self.repeats_left -= repeats > 0
            reason = self.disturbance(experiment, outcome)
            if not reason:
                return outcome
        return outcome | {"status": "disturbed", "reason": reason}

    def disturbance(self, experiment: str, outcome: dict) -> str | None:
        """Who had to wait for a core, and how long; None: nobody for longer than is allowed."""
        server_cores, client_cores = self.plan.cores(experiment)
        metrics = outcome.get("metrics", {})
        taken = metrics.get("server_wait_share", 0.0)  # of one core
        whose = {"server": taken / max(1, len(server_cores))}
        if not set(server_cores) & set(client_cores):  # else it is the server it waits for
            whose["load generator"] = metrics.get("client_wait_share", 0.0)
        limit = self.result["parameters"]["wait_limit"]
        who, share = max(whose.items(), key=lambda item: item[1])
        return f"others had the {who}'s core for {share:.0%} of the time" if share > limit else None

    def attempt(self, experiment: str, point: dict, contestant: Contestant, seed: int) -> dict:
        """One trial in fresh processes; returns the outcome, whatever happens to the server."""
        server_cores, client_cores = self.plan.cores(experiment)
        seconds = self.plan.seconds(experiment, point) + self.plan.patience + GRACE_SECONDS
        try:
            with Generator() as generator, self.started(contestant, server_cores) as server:
                order = {
                    "experiment": experiment,
                    "point": point,
                    "parameters": self.plan.parameters(experiment),
                    "seed": seed,
                    "address": server.address,
                    "profile": server.profile,
                    "pid": server.process.pid,
                    "server_cores": server_cores,
                    "cores": client_cores,
                    "patience": self.plan.patience,
                }
                outcome = generator.perform(order, seconds)
                status = server.process.poll()
                if status is not None and outcome["status"] in ("error", "failed"):
                    said = server.log_path.read_text(errors="replace").strip().splitlines()
                    outcome["reason"] += f"; the server ended with status {status}"
                    outcome["reason"] += f": {said[-1]}" if said else ""
                return outcome
        except launcher.LaunchError as error:
            return {"status": "error", "reason": str(error)}

    def started(self, contestant: Contestant, cores: list[int]) -> launcher.RunningServer:
        """A fresh server process on its cores."""
        with machine.pinned(cores):
            return launcher.launch(contestant.id, contestant.command, profile=contestant.profile)


class Generator:
    """A load generator process, started before its server so as to be ready in time."""

    def __init__(self) -> None:
        self.process = launcher.start_process(
            [sys.executable, "-m", "benchmarks.load.process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=launcher.REPOSITORY,
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


def row(experiment: str, point: dict, server: str, number: int, outcome: dict) -> dict:
    """A row of the result file."""
    reason = outcome.get("reason")
    made = {
        "experiment": experiment,
        "point": point,
        "server": server,
        "round": number,
        "status": outcome["status"],
        "reason": printable(reason) if reason else None,
        "seed": outcome["seed"],
        "repeats": outcome.get("repeats", 0),
        "took_s": outcome["took_s"],
        "finished": timestamp(),
        "metrics": {
            name: float(f"{value:.6g}") for name, value in outcome.get("metrics", {}).items()
        },
    }
    if "series" in outcome:
        made["series"] = outcome["series"]
    return made


def _settled(entries: list[dict]) -> list[dict]:
    """The servers without what differs each time: floors are compiled into a new folder."""
    return [
        {name: value for name, value in entry.items() if name != "command"}
        if entry["kind"] == "floor"
        else entry
        for entry in entries
    ]


def resumable(path: Path) -> dict:
    """The result of the run that is to be gone on with. Raises ResultError."""
    if not path.exists():
        raise ResultError(f"there is no {path} to go on with")
    return load_result(path)


def printable(text: str) -> str:
    """What a server or a user said, as one line that is safe to show."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def timestamp() -> str:
    """Now, ISO 8601 in UTC."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def duration(seconds: float) -> str:
    """A time for people: `50 s`, `12 min`."""
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
