"""The plan of a run, and how it is carried out, without starting a server: trials are made up."""

import itertools
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.contestants import lineup
from benchmarks.contestants.lineup import Contestant
from benchmarks.experiments.catalogue import EXPERIMENTS
from benchmarks.experiments.questions import CHAT_LOAD, SATURATION, unsettled
from benchmarks.report import answer
from benchmarks.report.readme import PARTS, markers, renewed
from benchmarks.report.source import ReportError, flags
from benchmarks.result.file import ResultError, load_result
from benchmarks.result.status import Outcome, Refusal, Status
from benchmarks.result.view import View, key
from benchmarks.run import calibration, machine
from benchmarks.run.plan import EFFORTS, Effort, Plan
from benchmarks.run.run import Run
from benchmarks.run.trial import Trial
from harness.server_under_test import CommandError

Attempt = Callable[[Trial], Outcome]


def contestant(
    name: str, profile: str = "chat", kind: str = "ours", path: str = "true"
) -> Contestant:
    return Contestant(name, profile, (path,), label=name, kind=kind)


def plan(
    names: str = "abc",
    *,
    experiments: tuple[str, ...] = ("churn",),
    size: str = "quick",
    rounds: int = 3,
) -> Plan:
    return Plan(
        [contestant(name) for name in names],
        [EXPERIMENTS[name] for name in experiments],
        size,
        Effort.fixed(rounds),
    )


def test_servers_lie_side_by_side_and_take_turns_at_being_first() -> None:
    order = ["".join(one.name for one in plan().order(group)) for group in plan().groups()]
    assert order == ["abc", "bca", "cab"]


def test_rounds_contain_all_points() -> None:
    """Whatever lasts for a while hits one round of all points, not all rounds of one."""
    two_rounds = plan(experiments=("ping",), size="full", rounds=2)
    groups = list(two_rounds.groups())
    points = two_rounds.points(EXPERIMENTS["ping"])
    answers = [point for _, point in two_rounds.answer_points()]
    others = [point for point in points if point not in answers]
    assert 0 < len(answers) < len(points)
    assert [group.point for group in groups] == answers * 2 + others * 2
    assert [group.round for group in groups] == [0] * len(answers) + [1] * len(answers) + [0] * len(
        others
    ) + [1] * len(others)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Plan, Attempt], Run]:
    """A run of a plan, in which no server is ever started: `attempt` is what a trial gives."""

    def begin(of: Plan, attempt: Attempt) -> Run:
        monkeypatch.setattr(Trial, "attempt", attempt)
        monkeypatch.setattr(calibration.Pace, "slowdown", lambda pace, cores: 1.0)
        return Run(of, "run", tmp_path / "result.json", lambda text: None)

    return begin


def measure_all(run: Run) -> None:
    run.everything(lambda: None)


def test_the_rows_of_the_answer_are_measured_until_they_are_settled(run) -> None:
    """Those that differ much from round to round have more rounds; then come all the others."""
    dice = random.Random(3)
    order = []

    def attempt(trial: Trial) -> Outcome:
        order.append(trial.point)
        noise = 0.3 if trial.point["mode"] == "saturated" else 0.001
        return Outcome(metrics={"server_cpu_us": dice.lognormvariate(3, noise)})

    of = plan("ab", experiments=("ping",))
    of.effort = Effort(3, 8, 2, 2, answer_until_s=1000.0)
    begun = run(of, attempt)
    rounds_then = []
    begun.everything(lambda: rounds_then.append(len(begun.result["trials"])))
    noisy, quiet = SATURATION.pick(order), CHAT_LOAD.pick(order)
    answers = [noisy, quiet]
    counts = {key(point): order.count(point) / 2 for point in order}
    assert counts.pop(key(noisy)) == 8
    assert counts.pop(key(quiet)) == 3
    assert set(counts.values()) == {2}
    assert all(point in answers for point in order[: rounds_then[0]])
    assert not any(point in answers for point in order[rounds_then[0] :])
    assert [question for question, _ in unsettled(View(begun.result))] == [SATURATION]
    table = answer.answer(View(begun.result))
    assert any(note.startswith(answer.UNSETTLED) for note in table.notes)
    rows = load_result(begun.path)["trials"]
    assert [row["round"] for row in rows] == sorted(row["round"] for row in rows)


def test_when_its_time_is_over_a_run_adds_nothing_and_leaves_out_the_rest(run) -> None:
    def attempt(trial: Trial) -> Outcome:
        return Outcome(metrics={"server_cpu_us": next(costs)})

    costs = itertools.cycle([1.0, 5.0, 30.0])
    of = plan("ab", experiments=("ping",))
    of.effort = Effort(3, 8, 2, 2, answer_until_s=0.0, ends_s=0.0)
    begun = run(of, attempt)
    measure_all(begun)
    assert len(begun.result["trials"]) == 3 * 2 * len(of.answer_points())


def calm(trial: Trial) -> Outcome:
    return Outcome(metrics={"server_cpu_us": 1.0, "server_wait_share": 0.01})


def disturbed(trial: Trial) -> Outcome:
    return Outcome(metrics={"server_wait_share": 0.3})


def test_all_servers_of_a_round_get_the_same_arrivals_and_each_round_others(run) -> None:
    begun = run(plan("ab", experiments=("ping", "churn")), calm)
    measure_all(begun)
    seeds: dict[tuple, set[int]] = {}
    for trial in begun.result["trials"]:
        place = (trial["experiment"], key(trial["point"]), trial["round"])
        seeds.setdefault(place, set()).add(trial["seed"])
    assert all(len(of_a_group) == 1 for of_a_group in seeds.values())
    assert len(set.union(*seeds.values())) == len(seeds)


def test_every_trial_is_on_disk_before_the_next_begins(run) -> None:
    on_disk = []

    def look(trial: Trial) -> Outcome:
        result = load_result(begun.path)
        on_disk.append((len(result["trials"]), result["finished"], result["interrupted"]))
        return calm(trial)

    begun = run(plan(), look)
    measure_all(begun)
    assert on_disk == [(number, None, False) for number in range(9)]
    assert load_result(begun.path)["finished"] is not None


@pytest.mark.parametrize("whose", ["server_wait_share", "client_wait_share"])
@pytest.mark.parametrize("status", ["ok", "server-limited"])
def test_a_disturbed_trial_is_repeated_until_it_is_calm(run, whose: str, status: str) -> None:
    waits = iter([0.06, 0.5, 0.04])

    def attempt(trial: Trial) -> Outcome:
        return Outcome(status, "x", {whose: next(waits)})

    begun = run(plan("a", rounds=1), attempt)
    measure_all(begun)
    (trial,) = begun.result["trials"]
    assert (trial["status"], trial["repeats"], trial["metrics"][whose]) == (status, 2, 0.04)


@pytest.mark.parametrize(
    ("slowdowns", "status", "repeats"),
    [
        ([1.2, 1.2], "ok", [0, 0]),
        # At the end of the first attempt; before the second one it is over.
        ([1.9, 1.0, 1.0, 1.0], "ok", [1, 0]),
        # It ends in the middle of the second attempt, and begins again for good in the last trial.
        ([1.9, 1.9, 1.0, 1.0, *[1.9] * 9], "disturbed", [2, 1]),
    ],
)
def test_a_trial_whose_cores_others_slow_down_is_repeated(
    run, monkeypatch: pytest.MonkeyPatch, slowdowns: list[float], status: str, repeats: list[int]
) -> None:
    """It may have been slow from the beginning, or only at the end."""
    looks = iter(slowdowns)
    monkeypatch.setattr("benchmarks.run.run.SLOW_PATIENCE", 0.0)
    begun = run(plan("ab", rounds=1), calm)
    monkeypatch.setattr(calibration.Pace, "slowdown", lambda pace, cores: next(looks))
    measure_all(begun)
    trials = begun.result["trials"]
    assert [trial["repeats"] for trial in trials] == repeats
    assert trials[-1]["status"] == status


def test_what_was_lost_is_lost_at_any_speed(run, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = run(plan("a", rounds=1), lambda trial: Outcome(Status.FAILED, "one was lost"))
    monkeypatch.setattr(calibration.Pace, "slowdown", lambda pace, cores: 9.0)
    measure_all(begun)
    assert [trial["status"] for trial in begun.result["trials"]] == ["failed"]


def test_a_core_that_gets_slower_for_good_is_not_slowed_down_by_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pieces = iter([2.0, *[4.0] * 4])
    monkeypatch.setattr(calibration, "time_pieces", lambda pin, count: [next(pieces)] * count)
    looks_at = iter([0.0, 1.0, calibration.LATELY - 1, calibration.LATELY, 99.0])
    pace = calibration.Pace(lambda: next(looks_at))
    assert [pace.slowdown([]) for _ in range(5)] == [1.0, 2.0, 2.0, 1.0, 1.0]


def test_a_trial_with_a_late_generator_is_repeated(run) -> None:
    """Unless it stays late, or the server is a floor, which may be faster than the generator."""
    statuses = {
        "late once": iter(["client-limited", "ok"]),
        "always late": itertools.repeat("client-limited"),
        "a floor": itertools.repeat("client-limited"),
    }

    def attempt(trial: Trial) -> Outcome:
        return Outcome(next(statuses[trial.contestant.name]), "late")

    of = plan("", rounds=1)
    kinds = {"late once": "ours", "always late": "theirs", "a floor": "floor"}
    of.contestants.extend(contestant(name, kind=kind) for name, kind in kinds.items())
    begun = run(of, attempt)
    measure_all(begun)
    trials = begun.result["trials"]
    assert {trial["server"]: (trial["status"], trial["repeats"]) for trial in trials} == {
        "late once": ("ok", 1),
        "always late": ("client-limited", 2),
        "a floor": ("client-limited", 0),
    }


def test_a_machine_that_stays_busy_is_not_waited_for(run) -> None:
    """At most a quarter of the trials are repeated in all."""
    begun = run(plan("abcd", rounds=8), disturbed)
    measure_all(begun)
    repeats = [trial["repeats"] for trial in begun.result["trials"]]
    trials = 4 * 8 * len(begun.plan.points(EXPERIMENTS["churn"]))
    assert len(repeats) == trials
    assert sum(repeats) == trials / 4
    assert max(repeats) == 3
    said = {(trial["status"], trial["reason"]) for trial in begun.result["trials"]}
    assert said == {("disturbed", "others had the server's core for 30% of the time")}


def test_where_both_share_a_core_the_generator_waits_for_the_server(
    run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def attempt(trial: Trial) -> Outcome:
        return Outcome(metrics={"server_wait_share": 0.0, "client_wait_share": 0.9})

    monkeypatch.setattr(Plan, "cores", lambda plan, experiment: ([0, 1], [1]))
    begun = run(plan("a", rounds=1), attempt)
    measure_all(begun)
    assert begun.result["trials"][0]["status"] == "ok"


def test_a_refusal_stands_for_all_larger_points(run) -> None:
    clients_needed = EXPERIMENTS["idle"].clients_needed

    def attempt(trial: Trial) -> Outcome:
        attempts.append(trial.point)
        if trial.contestant.name == "a" and clients_needed(trial.point) > 500:
            return Outcome(Status.REFUSED, "! server full", held=500)
        return calm(trial)

    attempts: list[dict] = []
    begun = run(plan("ab", experiments=("idle",), size="full", rounds=2), attempt)
    begun.result["machine"]["descriptors"] = None
    measure_all(begun)
    points = begun.plan.points(EXPERIMENTS["idle"])
    larger = [point for point in points if clients_needed(point) > 500]
    view = View(begun.result)
    for point in points:
        refusal = Refusal.SERVER_FULL if point in larger else None
        assert view.cell("idle", point, "a").refusal is refusal
        assert view.cell("idle", point, "b").status == "ok"
    assert {row["held"] for row in begun.result["refusals"]} == {500}
    assert len(attempts) < 4 * len(points) - len(larger)
    load_result(begun.path)


# The machine


def look_again(*spreads: float) -> Callable:
    """Looks that find these, one after the other."""
    left = iter(spreads)
    return lambda cores: (3.0, next(left))


def test_a_run_waits_for_a_quiet_machine() -> None:
    said: list[str] = []
    slept: list[float] = []
    found = calibration.wait_until_quiet(
        [0], "quick", said.append, look_again(0.5, 0.3, 0.04), slept.append
    )
    assert (found.is_quiet, found.spread, found.waited_s) == (True, 0.04, sum(slept))
    assert len(slept) == len(said) == 2
    assert "4.0% longer" in found.text


def test_a_run_goes_on_without_a_quiet_machine_and_says_so(run, tmp_path: Path) -> None:
    """Its file says so, its report does, and README takes no numbers from it."""
    found = calibration.wait_until_quiet([0], "smoke", print, look_again(0.5))
    assert not found.is_quiet
    begun = run(plan(), calm)
    begun.note_calibration(calibration.Calibration(3.0, 0.02, True, 0.0))
    begun.note_calibration(found)
    begun.note_calibration(calibration.Calibration(3.0, 0.03, True, 0.0))
    measure_all(begun)
    result = load_result(begun.path)
    assert result["machine"]["calibration"]["spread"] == 0.5
    assert any("not quiet" in line for line in flags(result))
    with pytest.raises(ReportError, match="not quiet"):
        renewed(tmp_path / "README.md", begun.path)
    (tmp_path / "README.md").write_text("".join(sum(map(markers, PARTS), ())))
    taken = renewed(tmp_path / "README.md", begun.path, although_busy=True)
    assert "was not quiet" in taken[tmp_path / "README.md"].split(markers("answer")[1])[0]


def test_the_piece_of_work_is_timed_on_each_core() -> None:
    fastest, spread = calibration.look_at(machine.choose_cores()[0])
    assert fastest > 0
    assert spread >= 0


# Going on


def interrupted_after(count: int) -> Attempt:
    left = iter(range(count))

    def attempt(trial: Trial) -> Outcome:
        if next(left, None) is None:
            raise KeyboardInterrupt
        return calm(trial)

    return attempt


def test_a_run_is_resumed_where_it_was_interrupted(run) -> None:
    first = run(plan(), interrupted_after(4))
    measure_all(first)
    assert (len(first.result["trials"]), first.result["interrupted"]) == (4, True)
    second = run(plan(), calm)
    second.resume(load_result(first.path))
    # The round of a, b and c in which it was interrupted is measured again.
    assert second.trials_planned() == 6
    measure_all(second)
    result = load_result(first.path)
    assert (len(result["trials"]), result["interrupted"]) == (9, False)
    for name in ("seed", "started", "command"):
        assert result[name] == first.result[name]
    seeds = {(trial["round"], trial["seed"]) for trial in result["trials"]}
    assert len(seeds) == 3


def test_what_was_disturbed_is_measured_again_side_by_side(run) -> None:
    def attempt(trial: Trial) -> Outcome:
        return (
            disturbed(trial) if trial.contestant.name == "b" and next(bad, False) else calm(trial)
        )

    bad = iter([True] * 4)
    first = run(plan(), attempt)
    measure_all(first)
    assert [t["server"] for t in first.result["trials"] if t["status"] == "disturbed"] == ["b"]
    again = run(plan(), attempt)
    again.resume(load_result(first.path))
    assert again.trials_planned() == 3
    measure_all(again)
    rows = again.result["trials"]
    assert {trial["status"] for trial in rows} == {"ok"}
    assert [(t["round"], t["server"]) for t in rows] == [
        (t["round"], t["server"]) for t in first.result["trials"]
    ]


@pytest.mark.parametrize(
    ("changed", "differs"),
    [
        ({"rounds": 4}, "parameters"),
        ({"size": "smoke"}, "size, parameters"),
        ({"names": "ab"}, "servers"),
        ({"experiments": ("churn", "ping")}, "parameters"),
        ({"commit": "another"}, "commit"),
        ({"kernel": "another"}, "machine"),
    ],
)
def test_another_run_is_not_resumed(run, changed: dict, differs: str) -> None:
    first = run(plan(), interrupted_after(2))
    measure_all(first)
    older = load_result(first.path)
    options = dict(changed)
    older["commit"] = options.pop("commit", older["commit"])
    older["machine"]["kernel"] = options.pop("kernel", older["machine"]["kernel"])
    second = run(plan(**options), calm)
    with pytest.raises(
        ResultError, match=f"it has other {differs}; it was measured by: python3 -m"
    ):
        second.resume(older)


def test_floors_are_the_same_wherever_they_were_compiled(run) -> None:
    def floors(folder: str) -> Plan:
        floor = contestant("c", "echo", "floor", f"/{folder}/c")
        return Plan([floor], [EXPERIMENTS["churn"]], "quick", Effort.fixed(3))

    first = run(floors("one"), interrupted_after(1))
    measure_all(first)
    second = run(floors("two"), calm)
    second.resume(load_result(first.path))
    assert second.trials_planned() == 2


# The machine


@pytest.mark.parametrize(
    ("cores", "physical", "wanted", "chosen"),
    [
        ({0, 1, 2, 3}, 4, (1, False), ([0], [3])),
        ({0, 1, 2, 3}, 4, (2, False), ([0, 1], [3])),
        # A sibling of the generator's core is the last to be given.
        ({0, 1, 2, 3}, 2, (2, False), ([0, 2], [3])),
        ({0, 1, 2, 3}, 2, (3, False), ([0, 1, 2], [3])),
        ({0, 1}, 2, (2, False), ([0], [1])),
        ({0, 1}, 2, (2, True), ([0, 1], [1])),
        ({5}, 1, (1, False), ([5], [5])),
        ({5}, 1, (2, True), ([5], [5])),
    ],
)
def test_which_cores_are_chosen(
    cores: set, physical: int, wanted: tuple, chosen: tuple, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda pid: cores, raising=False)
    monkeypatch.setattr(machine.os, "sched_setaffinity", None, raising=False)
    monkeypatch.setattr(machine, "_physical_core", lambda core: (str(core % physical),))
    assert machine.choose_cores(*wanted) == chosen


# What is promised


def test_the_sizes_promised_are_kept_by_the_plan(tmp_path: Path) -> None:
    """All contestants: --quick in under 4 minutes, everything in some 35."""
    try:
        contestants = [*lineup.ours(lineup.VERSIONS, ["python3"]), lineup.tutorial()]
        floors, _ = lineup.floors(tmp_path)
    except CommandError:
        pytest.skip("there is no python3 here")
    for size, most in (("quick", 235), ("full", 2400)):
        effort = EFFORTS[size]
        everything = Plan([*contestants, *floors], [*EXPERIMENTS.values()], size, effort)
        begun = Run(everything, "run", tmp_path / "result.json", lambda text: None)
        assert begun.seconds_planned() < most
        answer = sum(map(begun.seconds, everything.answer_groups()))
        assert answer < effort.answer_until_s, "there is time for added rounds"
    assert EFFORTS["full"].rounds >= 7 and EFFORTS["quick"].rounds >= 3
