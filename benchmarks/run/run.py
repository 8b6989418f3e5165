"""Run the trials: fresh processes for each, the servers side by side in every round.

A trial's outcome is one row of the result file, which is on disk before the next trial begins.
Whatever goes wrong with a server ends up as such a row; the rest goes on.
"""

import functools
import math
import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.contestants.lineup import Contestant
from benchmarks.experiments.catalogue import EXPERIMENTS
from benchmarks.experiments.experiment import Experiment, Point
from benchmarks.experiments.questions import unsettled
from benchmarks.result.file import SCHEMA, ResultError, write_result
from benchmarks.result.status import Outcome, Refusal, Status
from benchmarks.result.view import COMPARED, View, describe, key
from benchmarks.run import machine
from benchmarks.run.calibration import Calibration, Pace
from benchmarks.run.plan import Group, Plan, descriptors_needed
from benchmarks.run.trial import Trial, start
from harness import command_line, conformance, launcher
from harness.server_under_test import CommandError

# Share of the time that others may have had a core, and how often a trial is repeated in which it
# was more. The time is counted in steps of 10 ms, which says little about a `--smoke` window.
WAIT_LIMITS = {"smoke": 0.30, "quick": 0.05, "full": 0.05}
REPEATS_LIMITS = {"smoke": 0, "quick": 3, "full": 3}
# How many times as long as lately a piece of work may take beside a trial. A processor's clock goes
# up and down by a quarter with the work on its other cores; whoever computes on the same core, on
# its other hardware thread, halves its speed.
SLOW_LIMITS = {"smoke": None, "quick": 1.4, "full": 1.4}
SLOW_PATIENCE = 2.0  # seconds of waiting until it is over, before a trial
REPEATS_SHARE = 0.25  # of all trials: there is no waiting for a machine that stays busy
# What has to be alike before an earlier run can be resumed.
SAME = ("kind", "size", "parameters", "commit")
SAME_MACHINE = ("system", "kernel", "cpu", "cores", "server_cores", "client_cores")


class Run:
    """One run: fills `result`, and the file at `path` after every trial."""

    def __init__(
        self,
        plan: Plan,
        kind: str,
        path: Path,
        report: Callable[[str], None],
        missing: Sequence[str] = (),
    ) -> None:
        self.plan = plan
        self.path = path
        self.report = report
        # When it began to measure, or would have, had it measured in one go all that is there.
        self.began = time.monotonic()
        self.spent = 0.0
        # Trials in the file.
        self.saved = 0
        self.total = 0.0
        self.repeats_left = 0
        self.pace = Pace()
        # Whether others slowed down the cores of the last trial at its end.
        self.was_slow = False
        self.done_planned = 0.0
        self.done_actual = 0.0
        self.result = new_result(plan, kind, missing)

    def resume(self, older: dict) -> None:
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
            "conformance": fresh["conformance"],
            # What this machine had too few descriptors for is tried again.
            "refusals": [
                row for row in older["refusals"] if Refusal.of_row(row) is Refusal.SERVER_FULL
            ],
        }
        # This machine may allow more of them now.
        self.result["machine"] = older["machine"] | {"descriptors": fresh["machine"]["descriptors"]}
        self.saved = len(older["trials"])
        self.spent = sum(trial["took_s"] for trial in older["trials"])

    def everything(self, on_answer: Callable[[], None]) -> None:
        """Run what is missing: the rows of the answer, then `on_answer`, then the rest.

        Ctrl-C ends it: the result is marked as interrupted and keeps the trials done so far.
        """
        try:
            self.save()
            self.began = time.monotonic() - self.spent
            self.total = self.seconds_planned()
            repeats = math.ceil(self.trials_planned() * REPEATS_SHARE)
            self.repeats_left = max(repeats, REPEATS_LIMITS[self.plan.size])
            for group in (*self.plan.answer_groups(), *self.added_before()):
                if self.to_do(group):
                    self.measure(group)
            self.add_rounds()
            others = [group for group in self.plan.other_groups() if self.to_do(group)]
            self.total = self.done_planned + sum(map(self.seconds, others))
            on_answer()
            left_out = []
            for group in others:
                if self.is_time_for(group, self.plan.effort.ends_s):
                    self.measure(group)
                else:
                    left_out.append(group)
            self.note_left_out(left_out)
        except KeyboardInterrupt:
            self.result["interrupted"] = True
        self.result["finished"] = timestamp()
        self.result["machine"]["load_after"] = machine.load_average()
        self.save()

    def added_before(self) -> list[Group]:
        """The rounds of the answer's rows that an earlier run has added to the planned ones."""
        return [
            Group(experiment, number, point)
            for experiment, point in self.plan.answer_points()
            for number in range(self.plan.effort.rounds, self.rounds_at(experiment, point))
        ]

    def rounds_at(self, experiment: Experiment, point: Point) -> int:
        """How many rounds a point has so far."""
        rows = self.rows("trials", Group(experiment, 0, point))
        return max((row["round"] + 1 for row in rows), default=0)

    def note_left_out(self, groups: Sequence[Group]) -> None:
        """Say which experiments have less than was planned, because the time was over."""
        if groups:
            names = ", ".join(dict.fromkeys(group.experiment.name for group in groups))
            self.result["missing"].append(
                f"The time was over before all rounds of these: {names}. A full run measures them,"
                " and so does --only."
            )

    def add_rounds(self) -> None:
        """Measure the rows of the answer on until they are settled, or the time for that is over.

        The row that has had the least time is next, so that none of them takes all of it.
        """
        effort = self.plan.effort
        while True:
            groups = [
                group
                for group in self.unsettled()
                if group.round < effort.most_rounds
                and self.is_time_for(group, effort.answer_until_s)
            ]
            if not groups:
                return
            self.repeats_left += 1
            self.measure(min(groups, key=lambda group: group.round * self.seconds(group)))

    def unsettled(self) -> list[Group]:
        """The next round of each row of the answer that is not settled."""
        groups = []
        for question, point in unsettled(View(self.result)):
            experiment = EXPERIMENTS[question.experiment]
            group = Group(experiment, self.rounds_at(experiment, dict(point)), dict(point))
            if self.wanted(group):
                groups.append(group)
        return groups

    def is_time_for(self, group: Group, until_s: float) -> bool:
        """Whether a group would be done by then, in seconds since the run began."""
        return time.monotonic() - self.began + self.seconds(group) <= until_s

    def save(self) -> None:
        """Write everything that is known to the file."""
        try:
            write_result(self.result, self.path)
        except ResultError as error:
            kept = "nothing was measured yet"
            if self.saved:
                kept = f"it keeps the {self.saved} trials before this, and --resume goes on"
            raise ResultError(f"{error}; {kept}") from None
        self.saved = len(self.result["trials"])

    def note_calibration(self, calibration: Calibration) -> None:
        """Keep how quiet the machine was. Of a run in parts, the worst of them counts."""
        described = self.result["machine"]
        earlier = described.get("calibration")
        if earlier is None or earlier["spread"] < calibration.spread:
            described["calibration"] = calibration.as_json()

    def check_conformance(self) -> None:
        """Find out who may be measured. Raises CommandError for a user's server that may not be."""
        checks = []
        for contestant in self.plan.contestants:
            self.report(f"conformance check: {contestant.name}")
            reason = self.conformance_of(contestant)
            if reason and contestant.kind == "theirs":
                raise CommandError(f"--server {contestant.name} cannot be measured: {reason}")
            row = {"server": contestant.name, "passed": reason is None, "reason": reason}
            checks.append(row)
        self.result["conformance"] = checks

    def conformance_of(self, contestant: Contestant) -> str | None:
        """Why this server must not be measured, or None."""
        try:
            with start(contestant, machine.choose_cores(self.plan.server_cores)[0]) as server:
                # small.py keeps the core of the protocol, which is all that it is asked here.
                kind = "core" if contestant.kind == "small" else contestant.kind
                reason = conformance.check(server, kind)
        except launcher.LaunchError as error:
            reason = str(error)
        return reason and printable(reason)

    # What is to be done

    def wanted(self, group: Group) -> list[Contestant]:
        """The servers to be measured there: those that keep the protocol and have not refused."""
        failed = {check["server"] for check in self.result["conformance"] if not check["passed"]}
        refused = {row["server"] for row in self.rows("refusals", group)}
        return [one for one in self.plan.order(group) if one.name not in failed | refused]

    def rows(self, kind: str, group: Group) -> list[dict]:
        """The "trials" or "refusals" so far at the point of a group."""
        place = (group.experiment.name, group.point)
        return [row for row in self.result[kind] if (row["experiment"], row["point"]) == place]

    def groups_to_do(self) -> list[Group]:
        return [group for group in self.plan.groups() if self.to_do(group)]

    def trials_planned(self) -> int:
        """How many trials there are to do, without those of added rounds."""
        return sum(len(self.wanted(group)) for group in self.groups_to_do())

    def seconds_planned(self) -> float:
        """About how long the run takes at most, with all the rounds that it may add."""
        effort = self.plan.effort
        answer = sum(self.seconds(one) for one in self.plan.answer_groups() if self.to_do(one))
        others = sum(self.seconds(one) for one in self.plan.other_groups() if self.to_do(one))
        # Every row could have as many rounds as there may be, as long as there is time.
        most = answer * effort.most_rounds / effort.rounds
        until = min(max(answer, effort.answer_until_s - self.spent), most)
        return min(until + others, effort.ends_s)

    def to_do(self, group: Group) -> bool:
        """Whether a trial of this group is missing, or has stayed disturbed.

        The group is then measured again as a whole: what is compared must lie side by side.
        """
        calm = {
            row["server"]
            for row in self.rows("trials", group)
            if row["round"] == group.round and row["status"] != Status.DISTURBED
        }
        return any(one.name not in calm for one in self.wanted(group))

    def seconds(self, group: Group) -> float:
        return len(self.wanted(group)) * self.plan.seconds(group.experiment, group.point)

    # Measuring

    def measure(self, group: Group) -> None:
        """One trial of each server, side by side."""
        experiment, number, point = group
        source = random.Random(f"{self.result['seed']} {experiment.name} {key(point)} {number}")
        seed = source.getrandbits(32)
        began = time.monotonic()
        planned = self.seconds(group)
        for contestant in self.wanted(group):
            self.report(self.progress(group, contestant))
            started = time.monotonic()
            outcome, repeats = self.too_few_descriptors(group), 0
            if outcome is None:
                trial = Trial(self.plan, experiment, point, contestant, seed)
                outcome, repeats = self.repeated(trial)
            if outcome.status == Status.REFUSED:
                self.refuse(group, contestant, outcome)
            else:
                took_s = round(time.monotonic() - started, 3)
                how = {"seed": seed, "repeats": repeats, "took_s": took_s}
                self.keep(group, contestant, outcome, how)
            self.save()
        self.done_planned += planned
        self.done_actual += time.monotonic() - began

    def repeated(self, trial: Trial) -> tuple[Outcome, int]:
        """A trial, repeated while its conditions fail; and how often it was.

        Either others are at work on its cores, or beside them, or the load generator was late. A
        floor in C may be faster than the generator, which no repeat changes.
        """
        limit = min(self.repeats_left, self.result["parameters"]["repeats_limit"])
        for repeats in range(limit + 1):
            slowed = self.wait_for_cores(trial) if self.was_slow else None
            outcome = trial.attempt()
            self.repeats_left -= repeats > 0
            reason = trial.disturbance(outcome, self.result["parameters"]["wait_limit"])
            # What was lost or refused was so at any speed.
            if Status(outcome.status).has_numbers:
                reason = self.slowed_by_others(trial) or slowed or reason
            is_late = outcome.status == Status.CLIENT_LIMITED and trial.contestant.kind in COMPARED
            if not (reason or is_late):
                return outcome, repeats
        if reason:
            outcome = replace(outcome, status=Status.DISTURBED, reason=reason)
        return outcome, limit

    def wait_for_cores(self, trial: Trial) -> str | None:
        """Wait a moment for whoever slowed them down; how slow they still are, if they are."""
        until = time.monotonic() + SLOW_PATIENCE
        while (slowed := self.slowed_by_others(trial)) and time.monotonic() < until:
            time.sleep(0.1)
        return slowed

    def slowed_by_others(self, trial: Trial) -> str | None:
        """How much slower the cores of a trial are than they were lately, if that is too much."""
        limit = self.result["parameters"]["slow_limit"]
        if limit is None:
            return None
        server_cores, client_cores = self.plan.cores(trial.experiment)
        times = self.pace.slowdown(sorted({*server_cores, *client_cores}))
        self.was_slow = times > limit
        return f"others slowed a core down to 1/{times:.1f} of its speed" if self.was_slow else None

    def too_few_descriptors(self, group: Group) -> Outcome | None:
        """The refusal of a point for which this machine has not enough descriptors."""
        needed = descriptors_needed(group.experiment, group.point)
        limit = self.result["machine"]["descriptors"]
        if limit is None or needed <= limit:
            return None
        reason = (
            f"{needed:,} descriptors needed, the limit is {limit:,}: raise it with"
            f" `ulimit -n {needed}`"
        )
        return Outcome(Status.REFUSED, reason)

    def keep(self, group: Group, contestant: Contestant, outcome: Outcome, how: dict) -> None:
        """Put a trial, and `how` it was measured, where it belongs, in place of an earlier one."""
        new = {
            "experiment": group.experiment.name,
            "point": group.point,
            "server": contestant.name,
            "round": group.round,
            "status": outcome.status,
            "reason": outcome.reason and printable(outcome.reason),
            **how,
            "finished": timestamp(),
            "metrics": {name: float(f"{value:.6g}") for name, value in outcome.metrics.items()},
        }
        if outcome.series:
            new["series"] = outcome.series
        place = ("experiment", "round", "point", "server")
        rows = self.result["trials"]
        for index, older in enumerate(rows):
            if all(older[name] == new[name] for name in place):
                rows[index] = new
                return
        rows.append(new)
        rows.sort(key=self.place_in_file)

    def place_in_file(self, row: dict) -> tuple[int, int, int]:
        """Where a trial stands in the file, in whatever order they were measured."""
        experiment = EXPERIMENTS[row["experiment"]]
        points = self.plan.points(experiment)
        return self.plan.experiments.index(experiment), row["round"], points.index(row["point"])

    def refuse(self, group: Group, contestant: Contestant, outcome: Outcome) -> None:
        """This server has no such point, and none with more clients either."""
        experiment = group.experiment
        clients = experiment.clients_needed(group.point)
        for point in self.plan.points(experiment):
            known = [row["server"] for row in self.rows("refusals", group._replace(point=point))]
            is_larger = experiment.clients_needed(point) > clients
            if contestant.name not in known and (point == group.point or is_larger):
                row = {
                    "experiment": experiment.name,
                    "point": point,
                    "server": contestant.name,
                    "held": outcome.held,
                    "reason": printable(outcome.reason or ""),
                }
                self.result["refusals"].append(row)

    def progress(self, group: Group, contestant: Contestant) -> str:
        passed = time.monotonic() - self.began
        pace = self.done_actual / self.done_planned if self.done_planned > 5 else 1.0
        left = max(0.0, self.total - self.done_planned) * pace
        left = min(left, max(1.0, self.plan.effort.ends_s - passed))
        where = f"{group.experiment.name} ({describe(group.point)}), {contestant.name}"
        return (
            f"{passed / (passed + left):4.0%}  at most {duration(left)} left,"
            f" round {group.round + 1}: {where}"
        )


def new_result(plan: Plan, kind: str, missing: Sequence[str]) -> dict:
    """The result of a run in which nothing has been measured yet."""
    commit, dirty = machine.describe_commit()
    left_out = [
        f"{one.name} was left out: it needs {one.server_cores} cores" for one in plan.left_out
    ]
    return {
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
            "rounds": plan.effort.rounds,
            "effort": _finite(asdict(plan.effort)),
            "beside_the_answer": plan.beside_the_answer,
            "wait_limit": WAIT_LIMITS[plan.size],
            "repeats_limit": REPEATS_LIMITS[plan.size],
            "slow_limit": SLOW_LIMITS[plan.size],
            "patience_s": plan.patience,
            "experiments": {one.name: plan.parameters(one) for one in plan.experiments},
        },
        "servers": [one.entry for one in plan.contestants],
        "missing": [*missing, *left_out],
        "conformance": [],
        "trials": [],
        "refusals": [],
    }


def _finite(values: dict[str, float]) -> dict[str, float | None]:
    """The same where None stands for no limit, as JSON has no infinity."""
    return {name: None if math.isinf(value) else value for name, value in values.items()}


def _settled(entries: list[dict]) -> list[dict]:
    """The servers without what differs each time: floors are compiled into a new folder."""
    return [
        {name: value for name, value in entry.items() if name != "command"}
        if entry["kind"] == "floor"
        else entry
        for entry in entries
    ]


# What a server or a user said, as one line that is safe to show.
printable = functools.partial(command_line.printable, longest=None)


def timestamp() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def duration(seconds: float) -> str:
    """A time for people: `50 s`, `12 min`."""
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
