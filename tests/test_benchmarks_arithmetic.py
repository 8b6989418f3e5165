"""The benchmarks' arithmetic, on made-up numbers whose results are known. Nothing is measured."""

import copy
import json
import math
import random
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.__main__ import ROUNDS
from benchmarks.arithmetic import answer, compare, metrics, results, statistics
from benchmarks.arithmetic.metrics import METRICS
from benchmarks.arithmetic.results import EARLIER, ResultError, View, load_result, write_result
from benchmarks.arithmetic.statistics import Ratio, paired_ratio, percentile, unpaired_ratio
from benchmarks.experiments import EXPERIMENTS, module
from benchmarks.measuring import machine, runner
from benchmarks.measuring.runner import Plan, Run
from benchmarks.servers import contestants
from benchmarks.servers.contestants import Contestant
from tests.made_up_results import make_result

POINT = {"concurrent": 10}


def server(name: str, kind: str = "ours", **more: object) -> dict:
    """An entry of `servers`."""
    return {"id": name, "label": name, "kind": kind, "version": None, "model": "", **more}


def made_up(*trials: dict, refusals: list | None = None) -> dict:
    """A result of two servers, a and b, with just what the arithmetic reads."""
    return {
        "servers": [server("a"), server("b")],
        "trials": list(trials),
        "refusals": refusals or [],
    }


def churn(name: str, *costs: float, status: str = "ok", first: int = 0) -> list[dict]:
    """Trials of `churn` in as many rounds."""
    lost = status in ("failed", "error")
    return [
        {
            "experiment": "churn",
            "point": POINT,
            "server": name,
            "round": first + index,
            "status": status,
            "reason": None if status == "ok" else "because",
            "metrics": {} if lost else {"server_cpu_us": cost, "sessions_per_s": 1000 / cost},
        }
        for index, cost in enumerate(costs)
    ]


# Numbers


def test_percentiles_are_samples_by_nearest_rank() -> None:
    samples = list(range(1, 101))
    assert percentile(samples, 0.50) == 50
    assert percentile(samples, 0.99) == 99
    assert percentile(samples, 0.991) == 100
    assert percentile(samples, 1.0) == 100
    assert percentile([7.0], 0.5) == percentile([7.0], 0.99) == 7.0
    assert percentile([1, 2, 3, 4], 0.5) == 2
    assert percentile([1, 2, 3, 4], 0.0) == 1


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (5, "5"),
        (0.0834, "0.083"),
        (0.08, "0.080"),
        (1.0, "1.00"),
        (9.996, "10.0"),
        (19.34, "19.3"),
        (999.6, "1000"),
        (10_000, "10k"),
        (12_345.6, "12.3k"),
        (9_999.4, "10.0k"),
        (1_500_000, "1.5M"),
        (0.00001, "0.00"),
    ],
)
def test_numbers_are_shown_with_three_figures(value: float, text: str) -> None:
    assert metrics.number(value) == text


def test_a_number_is_named_with_its_unit() -> None:
    assert metrics.label("server_cpu_us", "session") == "Server CPU time per session, µs"
    assert metrics.label("replies_per_s") == "Replies per second"
    assert metrics.with_unit("server_cpu_us", 25.08) == "25.1 µs"
    assert metrics.with_unit("replies_per_s", 12_345) == "12.3k/s"


# Differences


@pytest.mark.parametrize(
    ("freedom", "quantile"),
    [(1, 12.706), (2, 4.303), (4, 2.776), (9, 2.262), (30, 2.042), (4.9, 2.776), (1000, 2.042)],
)
def test_quantiles_of_t_are_those_of_the_tables(freedom: float, quantile: float) -> None:
    assert statistics.t_quantile(freedom) == quantile


def t_density(t: float, freedom: int) -> float:
    scale = math.gamma((freedom + 1) / 2) / math.gamma(freedom / 2)
    return scale / math.sqrt(freedom * math.pi) * (1 + t * t / freedom) ** (-(freedom + 1) / 2)


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 7, 15, 30])
def test_between_the_quantiles_of_t_lie_95_per_cent(freedom: int) -> None:
    """The density, added up in another way than by a table."""
    steps, reach = 20_000, statistics.t_quantile(freedom)
    width = 2 * reach / steps
    area = sum(t_density(-reach + (step + 0.5) * width, freedom) for step in range(steps)) * width
    assert area == pytest.approx(0.95, abs=0.0002)


def test_a_paired_interval_by_hand() -> None:
    """Logs of the ratios: ln 2, ln 2, ln 4. Mean 4/3 ln 2, deviation ln 2 / sqrt 3, t 4.303."""
    ratio = paired_ratio({0: 2.0, 1: 4.0, 2: 12.0}, {0: 1.0, 1: 2.0, 2: 3.0})
    reach = 4.303 * (math.log(2) / math.sqrt(3)) / math.sqrt(3)
    assert ratio.value == pytest.approx(2 ** (4 / 3))
    assert ratio.low == pytest.approx(math.exp(4 / 3 * math.log(2) - reach))
    assert ratio.high == pytest.approx(math.exp(4 / 3 * math.log(2) + reach))


def test_an_interval_of_two_groups_by_hand() -> None:
    """Logs 0, 1, 2 and 3, 4, 5: variances 1, error sqrt(2/3), by Welch 4 degrees of freedom."""
    groups = [[math.exp(log) for log in logs] for logs in ((3, 4, 5), (0, 1, 2))]
    ratio = unpaired_ratio(*groups)
    reach = 2.776 * math.sqrt(2 / 3)
    assert math.log(ratio.value) == pytest.approx(3)
    assert math.log(ratio.low) == pytest.approx(3 - reach)
    assert math.log(ratio.high) == pytest.approx(3 + reach)


def test_groups_that_vary_differently_have_fewer_degrees_of_freedom() -> None:
    """Variances 1 and 100, three each: (101/3)^2 / ((1/3)^2/2 + (100/3)^2/2) = 2.04, t is 4.303."""
    groups = [[math.exp(log) for log in logs] for logs in ((-1, 0, 1), (-10, 0, 10))]
    assert math.log(unpaired_ratio(*groups).high) == pytest.approx(4.303 * math.sqrt(101 / 3))


def test_what_changed_from_round_to_round_is_no_difference_of_the_servers() -> None:
    """Every round is twice as slow as the one before; within each, the second takes 10 % more."""
    first = {number: 2.0**number for number in range(5)}
    second = {number: value * (1.1 + number / 1000) for number, value in first.items()}
    assert paired_ratio(second, first).text == "1.1 × (1.1 to 1.1)"
    assert not unpaired_ratio(list(second.values()), list(first.values())).shown


def test_only_rounds_that_both_have_are_paired() -> None:
    ratio = paired_ratio({0: 2.0, 1: 2.0, 2: 2.0, 3: 99.0}, {0: 1.0, 1: 1.0, 2: 1.0, 4: 0.1})
    assert (ratio.value, ratio.low, ratio.high) == pytest.approx((2, 2, 2))


@pytest.mark.parametrize(
    "ratio",
    [
        paired_ratio({0: 9.0, 1: 9.0}, {0: 1.0, 1: 1.0}),
        paired_ratio({0: 9.0, 1: 9.0, 2: 0.0}, {0: 1.0, 1: 1.0, 2: 1.0}),
        paired_ratio({0: 9.0, 1: 9.0, 2: 9.0}, {0: 1.0, 1: -1.0, 2: 1.0}),
        paired_ratio({0: 9.0}, {1: 1.0}),
        unpaired_ratio([9.0, 9.0], [1.0, 1.0, 1.0]),
        unpaired_ratio([9.0, 9.0, 9.0], [0.0, 0.0, 0.0]),
        unpaired_ratio([], [1.0]),
    ],
)
def test_of_too_few_values_and_of_nothing_no_difference_is_shown(ratio: Ratio) -> None:
    assert (ratio.low, ratio.shown, ratio.text) == (None, False, "no difference shown")


@pytest.mark.parametrize(
    ("ratio", "text"),
    [
        (Ratio(1.8, 1.6, 2.04), "1.8 × (1.6 to 2.0)"),
        (Ratio(1.1, 0.9, 1.3), "no difference shown"),
        (Ratio(1.0, 1.0, 1.0), "no difference shown"),
        (Ratio(0.5, 0.4, 0.9), "0.50 × (0.40 to 0.90)"),
        (Ratio(1.05, 1.04, 1.06), "1.05 × (1.04 to 1.06)"),
        (Ratio(1.02, 1.004, 1.03), "1.020 × (1.004 to 1.030)"),
        (Ratio(27.3, 25.5, 1234.0), "27 × (26 to 1,200)"),
    ],
)
def test_a_ratio_is_written_with_its_interval(ratio: Ratio, text: str) -> None:
    assert ratio.text == text
    assert ratio.shown == ("×" in text)


@pytest.mark.parametrize("paired", [True, False])
def test_of_things_that_do_not_differ_about_5_per_cent_are_shown(paired: bool) -> None:
    """2000 draws of five rounds: the interval must be wrong as often as it says it is."""
    dice = random.Random(5)
    wrong = 0
    for _ in range(2000):
        rounds = [dice.lognormvariate(3, 0.5 if paired else 0) for _ in range(5)]
        twins = [[value * dice.lognormvariate(0, 0.1) for value in rounds] for _ in "AB"]
        if paired:
            wrong += paired_ratio(*(dict(enumerate(values)) for values in twins)).shown
        else:
            wrong += unpaired_ratio(*twins).shown
    assert 0.03 <= wrong / 2000 <= 0.065


# Cells


def test_a_cell_has_its_trials_by_round() -> None:
    view = View(made_up(*churn("a", 3.0, 1.0, 5.0)))
    cell = view.cell("churn", POINT, "a")
    assert (cell.status, cell.median("server_cpu_us"), cell.spread("server_cpu_us")) == (
        "ok",
        3.0,
        (1.0, 5.0),
    )
    assert cell.values["server_cpu_us"] == {0: 3.0, 1: 1.0, 2: 5.0}
    assert (cell.median("p50_ms"), cell.spread("p50_ms")) == (None, None)
    assert view.cell("churn", POINT, "b") is None
    assert view.cell("churn", {"concurrent": 11}, "a") is None


@pytest.mark.parametrize(
    ("status", "cost", "rate"),
    [
        ("ok", True, True),
        ("server-limited", False, True),
        ("client-limited", False, False),
        ("disturbed", False, False),
        ("failed", False, False),
        ("error", False, False),
    ],
)
def test_what_a_bad_trial_leaves_to_be_compared(status: str, cost: bool, rate: bool) -> None:
    """CPU per message compares where the rate was kept, and nothing where the client was slow."""
    view = View(made_up(*churn("a", 1.0, 1.0, 1.0, status=status), *churn("b", 2.0, 2.0, 2.0)))
    for metric, compares in (("server_cpu_us", cost), ("sessions_per_s", rate)):
        assert view.cell("churn", POINT, "a").ranks(metric) == compares
        ratio = view.ratio("churn", POINT, metric, "b", "a")
        assert (ratio is not None) == compares
        assert view.best("churn", POINT, metric) == (["a"] if compares else ["b"])


@pytest.mark.parametrize("status", ["failed", "error", "client-limited"])
def test_one_bad_trial_keeps_a_server_from_being_ranked(status: str) -> None:
    rows = churn("a", 1.0, 1.0) + churn("a", 1.0, status=status, first=2)
    cell = View(made_up(*rows)).cell("churn", POINT, "a")
    assert (cell.status, cell.reason, cell.ranks("server_cpu_us")) == (status, "because", False)


def test_a_disturbed_trial_is_left_out_while_there_are_others() -> None:
    rows = churn("a", 1.0, 1.0, 1.0) + churn("a", 99.0, status="disturbed", first=3)
    cell = View(made_up(*rows)).cell("churn", POINT, "a")
    assert (cell.status, cell.spread("server_cpu_us")) == ("ok", (1.0, 1.0))
    assert len(cell.trials) == 4
    cell = View(made_up(*rows[3:])).cell("churn", POINT, "a")
    assert (cell.status, cell.median("server_cpu_us")) == ("disturbed", 99.0)


def test_a_refused_point_is_refused() -> None:
    refusal = {"experiment": "churn", "point": POINT, "server": "b", "held": 7, "reason": "full"}
    view = View(made_up(*churn("a", 1.0), refusals=[refusal]))
    assert view.cell("churn", POINT, "b").refused == (7, "full")
    assert view.cell("churn", POINT, "b").status == "refused"
    assert [entry["id"] for entry in view.servers("churn")] == ["a", "b"]


def test_the_best_are_all_that_are_not_told_apart_from_it() -> None:
    result = made_up(*churn("a", 1.0, 1.1, 0.9), *churn("b", 1.05, 1.0, 1.1))
    result["servers"].append(server("c", "floor"))
    result["trials"] += churn("c", 0.5, 0.5, 0.5)
    view = View(result)
    assert view.best("churn", POINT, "server_cpu_us") == ["c"]
    assert view.best("churn", POINT, "server_cpu_us", ("ours",)) == ["a", "b"]
    ranking = view.ranking("churn", POINT, "sessions_per_s")
    assert [cell.server for cell in ranking] == ["c", "a", "b"]


def test_servers_stand_in_one_order_and_points_in_that_of_the_trials() -> None:
    result = make_result()
    result["servers"].reverse()
    view = View(result)
    kinds = [entry["kind"] for entry in view.servers("ping")]
    assert kinds == sorted(kinds, key=results.KINDS.index)
    assert view.points("ping") == module("ping").points(module("ping").SIZES["full"])
    assert view.points("ping", mode="paced", rate=500) == [
        {"mode": "paced", "clients": 50, "rate": 500}
    ]
    assert view.experiments() == list(EXPERIMENTS)
    assert results.describe(view.points("ping")[1]) == "paced, clients 50, rate 2,000"


# Files


def test_a_result_is_read_as_it_was_written_a_line_for_each_trial(tmp_path: Path) -> None:
    result = make_result()
    path = tmp_path / "new" / "result.json"
    write_result(result, path)
    assert load_result(path) == json.loads(json.dumps(result))
    assert len(path.read_text().splitlines()) < len(result["trials"]) + 100
    assert [entry.name for entry in path.parent.iterdir()] == ["result.json"]


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "result.json"
    write_result({"schema": "old"}, path)

    def full(*names: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(ResultError, match=r"cannot write .*result.json: No space left on device"):
        write_result({"schema": "new"}, path)
    assert json.loads(path.read_text()) == {"schema": "old"}
    assert list(tmp_path.iterdir()) == [path]


Change = Callable[[dict], object]


def setting(where: str, value: object) -> Change:
    """A change of one place, such as `trials.0.round`; `GONE` takes it away."""

    def change(result: dict) -> None:
        *path, last = [int(step) if step.isdigit() else step for step in where.split(".")]
        inner = result
        for step in path:
            inner = inner[step]
        if value is GONE:
            del inner[last]
        else:
            inner[last] = value

    return change


GONE = object()
ODD = {
    **{
        f"{name} is missing": setting(name, GONE)
        for name in ("kind", "machine", "parameters", "servers", "trials", "seed", "finished")
    },
    **{f"{name} is no object": setting(name, None) for name in ("machine", "parameters")},
    **{f"{name} is no list": setting(name, None) for name in ("servers", "trials", "refusals")},
    **{f"{name} is None": setting(name, None) for name in ("kind", "size", "started", "seed")},
    "trials[0].round is -1": setting("trials.0.round", -1),
    "trials[0].round is 5": setting("trials.0.round", 5),
    "trials[0].round is 0.0": setting("trials.0.round", 0.0),
    "trials[0].round is True": setting("trials.0.round", True),
    "trials[0] is no object": setting("trials.0", []),
    "refusals[0] is no object": setting("refusals", ["none"]),
    "trials[3].metrics.server_cpu_us is '25'": setting("trials.3.metrics.server_cpu_us", "25"),
    "trials[3].metrics.p50_ms is inf": setting("trials.3.metrics.p50_ms", math.inf),
    "trials[3].metrics.p50_ms is nan": setting("trials.3.metrics.p50_ms", math.nan),
    "trials[3].metrics.p50_ms is 1000": setting("trials.3.metrics.p50_ms", 10**400),
    "trials[3].metrics is no object": setting("trials.3.metrics", None),
    "trials[0].status is 'fine'": setting("trials.0.status", "fine"),
    "trials[0].experiment is 'sleep'": setting("trials.0.experiment", "sleep"),
    "trials[0].experiment is ['ping']": setting("trials.0.experiment", ["ping"]),
    "trials[0].point is": setting("trials.0.point", {"mode": "paced"}),
    "trials[0].point.rate is [500]": setting("trials.0.point.rate", [500]),
    "trials[0].server is 'nobody'": setting("trials.0.server", "nobody"),
    "trials[1] is there twice": lambda result: setting("trials.1", result["trials"][0])(result),
    "there are two servers": lambda result: setting("servers.1", result["servers"][0])(result),
    "servers[0].kind is 'mine'": setting("servers.0.kind", "mine"),
    "servers[0].label is 'a\\x1b[2J'": setting("servers.0.label", "a\x1b[2J"),
    "servers[0].label is '\\ud800'": setting("servers.0.label", "\ud800"),
    "started is '../../x'": setting("started", "../../x"),
    "parameters.experiments.ping are not its": setting("parameters.experiments.ping", {}),
    "parameters.experiments.idle are not its": setting("parameters.experiments.idle", {"idle": 3}),
    "parameters.experiments.ping is no object": setting("parameters.experiments.ping", 7),
    "there is no experiment 'sleep'": setting("parameters.experiments.sleep", {}),
    "machine.server_cores[0] is '0'": setting("machine.server_cores", ["0"]),
    "refusals[0].held is 'many'": setting("refusals.0.held", "many"),
}


@pytest.fixture(scope="module")
def whole() -> dict:
    return json.loads(json.dumps(make_result()))


@pytest.mark.parametrize("said", ODD)
def test_an_odd_file_is_one_line_that_says_what_is_odd(
    said: str, whole: dict, tmp_path: Path
) -> None:
    result = copy.deepcopy(whole)
    ODD[said](result)
    path = tmp_path / "odd.json"
    path.write_text(json.dumps(result))
    with pytest.raises(ResultError) as error:
        load_result(path)
    assert str(error.value).startswith(f"{path} is no complete result: ")
    assert said in str(error.value)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is not a JSON file"),
        ("{", "is not a JSON file"),
        ("[" * 100_000, "is not a JSON file"),
        ("null", "is no result of this benchmark"),
        ("[1, 2]", "is no result of this benchmark"),
        ('{"schema": ["x"]}', "is no result of this benchmark"),
        (json.dumps({"schema": EARLIER}), "is of the first edition of the benchmarks: measure"),
        (json.dumps({"schema": results.SCHEMA}), "is no complete result: kind is missing"),
    ],
)
def test_what_is_no_result_is_said_to_be_none(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(ResultError, match=said):
        load_result(path)


def test_random_damage_is_never_more_than_one_line(whole: dict, tmp_path: Path) -> None:
    """Whatever is put wherever: the file is refused in one line, or all of it can be read."""
    dice = random.Random(1)
    odd = [None, [], {}, "", "x", -1, 1.5, True, 10**400, [None], {"a": None}]
    path = tmp_path / "damaged.json"
    small = {**whole, "trials": whole["trials"][:40]}
    for _ in range(300):
        result = copy.deepcopy(small)
        inner = result
        for _ in range(dice.randint(0, 4)):
            steps = [
                step
                for step in (inner if isinstance(inner, dict) else range(len(inner)))
                if isinstance(inner[step], dict | list) and inner[step]
            ]
            if not steps:
                break
            inner = inner[dice.choice(steps)]
        inner[dice.choice(list(inner) if isinstance(inner, dict) else range(len(inner)))] = (
            dice.choice(odd)
        )
        path.write_text(json.dumps(result))
        try:
            view = View(load_result(path))
        except ResultError as error:
            assert len(str(error).splitlines()) == 1
        else:
            compare.compare_files(path, path)
            answer.answer(view)
            answer.sentences(view)
            answer.losses(view)


# The plan


def plan(names: str = "abc", **options: object) -> Plan:
    among = [Contestant(name, name, "chat", "ours", ["true"]) for name in names]
    return Plan(among, **({"experiments": ["churn"], "size": "quick", "rounds": 3} | options))


def test_servers_lie_side_by_side_and_take_turns_at_being_first() -> None:
    order = ["".join(one.id for one in plan().order(*group)) for group in plan().groups()]
    assert order == ["abc", "bca", "cab"]


def test_rounds_contain_all_points() -> None:
    """Whatever lasts for a while hits one round of all points, not all rounds of one."""
    made = plan(experiments=["ping"], size="full", rounds=2)
    groups = list(made.groups())
    assert [number for _, number, _ in groups] == sorted(number for _, number, _ in groups)
    assert [point for *_, point in groups] == made.points("ping") * 2


def test_an_experiment_says_whom_it_takes() -> None:
    echo = Contestant("echoing", "echoing", "echo", "ours", ["true"])
    floor = Contestant("c", "C", "echo", "floor", ["true"])
    made = plan(experiments=["fanout"])
    made.contestants += [echo, floor]
    assert [one.id for one in made.order(*next(iter(made.groups())))] == ["a", "b", "c"]


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Run]:
    """A run of a plan, in which no server is ever started: `outcomes` are what trials give."""

    def make(made: Plan, outcome: Callable[..., dict], **options: object) -> Run:
        path = options.pop("path", tmp_path / "result.json")
        begun = Run(made, "run", path, lambda text: None, **options)
        begun.conformance_of = lambda contestant: None
        begun.attempt = outcome
        return begun

    return make


def calm(experiment: str, point: dict, contestant: Contestant, seed: int) -> dict:
    return {"status": "ok", "metrics": {"server_cpu_us": 1.0, "server_wait_share": 0.01}}


def test_all_servers_of_a_round_get_the_same_arrivals_and_each_round_others(run) -> None:
    begun = run(plan("ab", experiments=["ping", "churn"]), calm)
    begun.everything(lambda name: None)
    seeds: dict[tuple, set[int]] = {}
    for trial in begun.result["trials"]:
        place = (trial["experiment"], results.key(trial["point"]), trial["round"])
        seeds.setdefault(place, set()).add(trial["seed"])
    assert all(len(found) == 1 for found in seeds.values())
    assert len(set.union(*seeds.values())) == len(seeds)


def test_every_trial_is_on_disk_before_the_next_begins(run) -> None:
    seen = []

    def look(*arguments: object) -> dict:
        result = load_result(begun.path)
        seen.append((len(result["trials"]), result["finished"], result["interrupted"]))
        return calm(*arguments)

    begun = run(plan(), look)
    begun.everything(lambda name: None)
    assert seen == [(number, None, False) for number in range(9)]
    assert load_result(begun.path)["finished"] is not None


@pytest.mark.parametrize("whose", ["server_wait_share", "client_wait_share"])
@pytest.mark.parametrize("status", ["ok", "client-limited", "server-limited"])
def test_a_disturbed_trial_is_repeated_until_it_is_calm(run, whose: str, status: str) -> None:
    waits = iter([0.06, 0.5, 0.04])

    def outcome(*arguments: object) -> dict:
        return {"status": status, "reason": "x", "metrics": {whose: next(waits)}}

    begun = run(plan("a", rounds=1), outcome)
    begun.everything(lambda name: None)
    (trial,) = begun.result["trials"]
    assert (trial["status"], trial["repeats"], trial["metrics"][whose]) == (status, 2, 0.04)


def test_what_stays_disturbed_is_said_to_be(run) -> None:
    def outcome(*arguments: object) -> dict:
        return {"status": "ok", "metrics": {"server_wait_share": 0.3}}

    begun = run(plan("a", rounds=1), outcome)
    begun.everything(lambda name: None)
    (trial,) = begun.result["trials"]
    assert (trial["status"], trial["repeats"]) == ("disturbed", 3)
    assert trial["reason"] == "others had the server's core for 30% of the time"


def test_a_machine_that_stays_busy_is_not_waited_for(run) -> None:
    """At most a quarter of the trials are repeated in all."""

    def outcome(*arguments: object) -> dict:
        return {"status": "ok", "metrics": {"server_wait_share": 0.3}}

    begun = run(plan("abcd", rounds=8), outcome)
    begun.everything(lambda name: None)
    repeats = [trial["repeats"] for trial in begun.result["trials"]]
    trials = 4 * 8 * len(begun.plan.points("churn"))
    assert len(repeats) == trials
    assert sum(repeats) == trials / 4
    assert {trial["status"] for trial in begun.result["trials"]} == {"disturbed"}


def test_where_both_share_a_core_the_generator_waits_for_the_server(run) -> None:
    def outcome(*arguments: object) -> dict:
        return {"status": "ok", "metrics": {"server_wait_share": 0.0, "client_wait_share": 0.9}}

    begun = run(plan("a", rounds=1), outcome)
    begun.plan.cores = lambda experiment: ([0, 1], [1])
    begun.everything(lambda name: None)
    assert begun.result["trials"][0]["status"] == "ok"


def test_a_refusal_stands_for_all_larger_points(run) -> None:
    def outcome(experiment: str, point: dict, contestant: Contestant, seed: int) -> dict:
        asked.append(point)
        if contestant.id == "a" and module("idle").clients_needed(point) > 500:
            return {"status": "refused", "held": 500, "reason": "! server full"}
        return calm(experiment, point, contestant, seed)

    asked: list[dict] = []
    made = plan("ab", experiments=["idle"], size="full", rounds=2)
    begun = run(made, outcome)
    begun.result["machine"]["descriptors"] = None
    begun.everything(lambda name: None)
    view = View(begun.result)
    for point in made.points("idle"):
        held = view.cell("idle", point, "a").refused
        assert held == ((500, "! server full") if sum_of(point) > 500 else None)
        assert view.cell("idle", point, "b").status == "ok"
    larger = [point for point in made.points("idle") if sum_of(point) > 500]
    assert len(asked) < 4 * len(made.points("idle")) - len(larger)
    load_result(begun.path)


def sum_of(point: dict) -> int:
    return module("idle").clients_needed(point)


# Going on


def interrupted_after(count: int) -> Callable[..., dict]:
    left = iter(range(count))

    def outcome(*arguments: object) -> dict:
        if next(left, None) is None:
            raise KeyboardInterrupt
        return calm(*arguments)

    return outcome


def test_a_run_is_gone_on_with_where_it_was_interrupted(run) -> None:
    first = run(plan(), interrupted_after(4))
    first.everything(lambda name: None)
    assert (len(first.result["trials"]), first.result["interrupted"]) == (4, True)
    second = run(plan(), calm)
    second.go_on_with(load_result(first.path))
    assert second.trials_planned() == 6  # the round of a, b, c in which it was interrupted
    second.everything(lambda name: None)
    result = load_result(first.path)
    assert (len(result["trials"]), result["interrupted"]) == (9, False)
    for name in ("seed", "started", "command"):
        assert result[name] == first.result[name]
    seeds = {(trial["round"], trial["seed"]) for trial in result["trials"]}
    assert len(seeds) == 3


def test_what_was_disturbed_is_measured_again_side_by_side(run) -> None:
    def outcome(experiment: str, point: dict, contestant: Contestant, seed: int) -> dict:
        disturbed = contestant.id == "b" and next(bad, False)
        return {"status": "ok", "metrics": {"server_wait_share": 0.5 if disturbed else 0.0}}

    bad = iter([True] * 4)
    first = run(plan(), outcome)
    first.everything(lambda name: None)
    assert [t["server"] for t in first.result["trials"] if t["status"] == "disturbed"] == ["b"]
    again = run(plan(), outcome)
    again.go_on_with(load_result(first.path))
    assert again.trials_planned() == 3
    again.everything(lambda name: None)
    rows = again.result["trials"]
    assert {trial["status"] for trial in rows} == {"ok"}
    assert [(t["round"], t["server"]) for t in rows] == [
        (t["round"], t["server"]) for t in first.result["trials"]
    ]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"rounds": 4}, "parameters"),
        ({"size": "smoke"}, "size, parameters"),
        ({"names": "ab"}, "servers"),
        ({"experiments": ["churn", "ping"]}, "parameters"),
        ({"commit": "another"}, "commit"),
        ({"kernel": "another"}, "machine"),
    ],
)
def test_another_run_is_not_gone_on_with(run, changed: dict, said: str) -> None:
    first = run(plan(), interrupted_after(2))
    first.everything(lambda name: None)
    older = load_result(first.path)
    options = dict(changed)
    older["commit"] = options.pop("commit", older["commit"])
    older["machine"]["kernel"] = options.pop("kernel", older["machine"]["kernel"])
    second = run(plan(**options), calm)
    with pytest.raises(ResultError, match=f"it has other {said}; it was measured by: python3 -m"):
        second.go_on_with(older)


def test_floors_are_the_same_wherever_they_were_compiled(run) -> None:
    def floors(folder: str) -> Plan:
        return Plan(
            [Contestant("c", "C", "echo", "floor", [f"/{folder}/c"])], ["churn"], "quick", 3
        )

    first = run(floors("one"), interrupted_after(1))
    first.everything(lambda name: None)
    second = run(floors("two"), calm)
    second.go_on_with(load_result(first.path))
    assert second.trials_planned() == 2


def test_a_full_disk_is_one_line_that_says_what_is_kept(
    run, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = run(plan(), calm)
    written = []

    def write(result: dict, path: Path) -> None:
        if len(result["trials"]) == 5:
            raise ResultError(f"cannot write {path}: No space left on device")
        written.append(len(result["trials"]))

    monkeypatch.setattr(runner, "write_result", write)
    with pytest.raises(ResultError) as error:
        begun.everything(lambda name: None)
    assert str(error.value) == (
        f"cannot write {begun.path}: No space left on device;"
        " it keeps the 4 trials before this, and --resume goes on"
    )


# The machine


@pytest.mark.parametrize(
    ("cores", "asked", "chosen"),
    [
        ({0, 1, 2, 3}, (1, False), ([0], [3])),
        ({0, 1, 2, 3}, (2, False), ([0, 1], [3])),
        ({0, 1}, (2, False), ([0], [1])),
        ({0, 1}, (2, True), ([0, 1], [1])),
        ({5}, (1, False), ([5], [5])),
        ({5}, (2, True), ([5], [5])),
    ],
)
def test_which_cores_are_chosen(
    cores: set, asked: tuple, chosen: tuple, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda pid: cores, raising=False)
    monkeypatch.setattr(machine.os, "sched_setaffinity", None, raising=False)
    monkeypatch.setattr(machine, "_physical_core", lambda core: (str(core),))
    assert machine.choose_cores(*asked) == chosen


def test_a_sibling_of_the_generators_core_is_the_last_to_be_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda pid: {0, 1, 2, 3}, raising=False)
    monkeypatch.setattr(machine.os, "sched_setaffinity", None, raising=False)
    monkeypatch.setattr(machine, "_physical_core", lambda core: (str(core % 2),))
    assert machine.choose_cores(1) == ([0], [3])
    assert machine.choose_cores(2) == ([0, 2], [3])
    assert machine.choose_cores(3) == ([0, 1, 2], [3])


def test_an_experiment_that_needs_two_cores_is_left_out_on_one(
    run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "choose_cores", lambda *asked, **how: ([0], [0]))
    begun = run(plan(experiments=["churn", "cores"]), calm)
    assert begun.result["missing"] == ["cores was left out: it needs 2 cores"]
    assert list(begun.result["parameters"]["experiments"]) == ["churn"]


# The answer


def test_the_answer_has_a_row_for_each_question_and_the_best_of_each_is_marked(whole: dict) -> None:
    view = View(whole)
    table = answer.answer(view)
    assert len(table.rows) == len(answer.ROWS) + 1
    assert table.headers[1:5] == ["v1_threads", "v2_select", "v3_broadcast", "v4_asyncio"]
    by_name = {row[0]: row for row in table.rows}
    load = by_name["A message at chat load (50 clients, 5,000/s), µs of CPU"]
    column = table.headers.index("v2_select")
    ratio = view.ratio("ping", answer.CHAT, "server_cpu_us", "v2_select", "v1_threads")
    assert load[column].splitlines()[1] == ratio.text
    assert (0, table.headers.index("v1_threads")) in table.marks
    assert (0, column) not in table.marks
    assert load[-1].endswith("\nC threads")
    stall = by_name["Somebody stops reading: longest delay of the others, ms"]
    assert stall[3].splitlines()[1] == stall[4].splitlines()[1] == "the configured 1 s"
    most = by_name[answer.MOST_CLIENTS]
    assert most[2] == "1,000"
    assert most[4].startswith("at least ")


def test_the_sentences_change_with_the_numbers(whole: dict) -> None:
    before = answer.sentences(View(whole))
    assert len(before) == 3
    assert before[0].startswith("Choose threads (v1_threads) for a message at chat load (2")
    assert "the others' p99 while somebody computes (5." in before[0]
    assert before[0].split("; not for ")[1].startswith("memory per idle connection, 7.")
    assert before[0].endswith((" that of v2_select.", " that of v3_broadcast."))
    dear = copy.deepcopy(whole)
    for trial in dear["trials"]:
        if trial["server"] == "v1_threads" and trial["experiment"] == "ping":
            trial["metrics"] = {name: 50 * value for name, value in trial["metrics"].items()}
    after = answer.sentences(View(dear))
    assert after[0].split("; not for ")[1].startswith("a message at saturation, 8")
    assert after[2] != before[2]


def test_many_clients_speak_for_a_model(whole: dict) -> None:
    """And a timeout that somebody chose speaks against none."""
    assert not any("stops reading" in sentence for sentence in answer.sentences(View(whole)))
    few = copy.deepcopy(whole)
    for trial in few["trials"]:
        trial["metrics"] = dict.fromkeys(trial["metrics"], 1.0)
    threads, select, _ = answer.sentences(View(few))
    assert threads.startswith("Choose threads (v1_threads) for many clients (at least 10,0")
    most = max(map(sum_of, module("idle").points(module("idle").SIZES["full"])))
    assert select == (
        "Nothing here speaks for a select() loop (v2_select and v3_broadcast); least of all it is"
        f" not for more than 1,000 clients, where another holds at least {most:,}."
    )


def test_of_one_round_nothing_is_chosen(whole: dict) -> None:
    trials = [trial for trial in whole["trials"] if trial["round"] == 0]
    one = View(whole | {"trials": trials, "refusals": []})
    for sentence in answer.sentences(one):
        assert sentence.startswith("Nothing here speaks for ")
        assert sentence.endswith("; at nothing here is another model shown to be better.")
    assert [lost for *_, lost in answer.losses(one)] == [[], [], []]


def test_where_the_newer_model_loses_is_told_without_configured_constants(whole: dict) -> None:
    steps = {(older, newer): lost for older, newer, lost in answer.losses(View(whole))}
    first = steps["v1_threads", "v2_select"]
    assert any(line.startswith("a message at chat load: 2") and "×" in line for line in first)
    assert first[-1] == "it holds 1,000 clients, then says `! server full`"
    second = steps["v2_select", "v3_broadcast"]
    assert any(line.endswith(" ms → the configured 1 s") for line in second)
    longer = copy.deepcopy(whole)
    delays = {"v3_broadcast": 1000.0, "v4_asyncio": 1100.0}
    for trial in longer["trials"]:
        if trial["experiment"] == "stall" and trial["server"] in delays:
            trial["metrics"] |= {"worst_delay_ms": delays[trial["server"]], "dropped_after_s": 1.1}
    view = View(longer)
    (point,) = view.points("stall")
    assert view.ratio("stall", point, "worst_delay_ms", "v4_asyncio", "v3_broadcast").shown
    *_, (older, newer, lost) = answer.losses(view)
    assert (older, newer) == ("v3_broadcast", "v4_asyncio")
    assert not any("stops reading" in line for line in lost)


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_a_result_of_one_experiment_has_an_answer(experiment: str, whole: dict) -> None:
    trials = [trial for trial in whole["trials"] if trial["experiment"] == experiment]
    view = View(whole | {"trials": trials, "refusals": []})
    table = answer.answer(view)
    rows = [row for row in answer.ROWS if row.experiment == experiment]
    assert len(table.rows) == (len(rows) + 1 if rows else 0)
    answer.sentences(view)
    empty = View(whole | {"trials": [], "refusals": []})
    assert (answer.answer(empty).rows, answer.sentences(empty)) == ([], [])


# Two files, and twins


def test_before_and_after_are_compared_number_by_number(whole: dict, tmp_path: Path) -> None:
    slower = copy.deepcopy(whole)
    slower["commit"] = "fedcba9876543210"
    for trial in slower["trials"]:
        if trial["server"] == "v4_asyncio" and trial["experiment"] == "churn":
            trial["metrics"]["server_cpu_us"] *= 2
    before, after = tmp_path / "before.json", tmp_path / "after.json"
    write_result(whole, before)
    write_result(slower, after)
    lines = compare.compare_files(before, after).splitlines()
    assert max(map(len, lines)) <= 100
    per = getattr(module("churn"), "CPU_PER", "message")
    changed = [line for line in lines if "×" in line]
    assert len(changed) == len(module("churn").points(module("churn").SIZES["full"]))
    assert changed[0].split()[:4] == ["v4_asyncio", "Server", "CPU", "time"]
    assert f"per {per}, µs" in changed[0]
    assert "  2.0 × (" in changed[0]
    assert any("client-limited: no result" in line for line in lines)
    assert any(line.startswith(f"{len(changed)} of ") for line in lines[-2:])


def test_a_result_without_anything_in_common_is_said_to_have_nothing(
    whole: dict, tmp_path: Path
) -> None:
    paths = []
    for experiment in ("ping", "churn"):
        trials = [trial for trial in whole["trials"] if trial["experiment"] == experiment]
        paths.append(tmp_path / f"{experiment}.json")
        write_result(whole | {"trials": trials, "refusals": []}, paths[-1])
    text = compare.compare_files(*paths)
    assert text.endswith("The two files have no point in common: there is nothing to compare.")
    assert "Points measured only before: ping of v1_threads" in text


def test_twins_show_about_5_per_cent_of_differences_that_are_none() -> None:
    dice = random.Random(11)
    rows = []
    for concurrent in range(1, 301):
        for number in range(5):
            for name in "ab":
                rows += churn(name, dice.lognormvariate(4, 0.1), first=number)
                rows[-1]["point"] = {"concurrent": concurrent}
                rows[-1]["metrics"] = {"server_cpu_us": dice.lognormvariate(4, 0.1)}
    table = compare.against_itself(View(made_up(*rows)))
    experiment, in_all = table.rows
    assert experiment[:2] == ["churn", "300"]
    assert in_all[1:] == experiment[1:]
    assert 0.03 <= int(in_all[2]) / 300 <= 0.08
    assert in_all[3] == f"{int(in_all[2]) / 300:.1%}"


def test_twins_of_one_round_show_nothing() -> None:
    table = compare.against_itself(View(made_up(*churn("a", 1.0), *churn("b", 2.0))))
    assert table.rows[-1] == ["in all", "0", "0", "-"]
    assert "Fewer than 3 rounds" in table.notes[0]


# What is promised


def test_the_sizes_promised_are_kept_by_the_plan(tmp_path: Path) -> None:
    """All contestants: --quick in under 4 minutes, everything in some 35."""
    try:
        among = [*contestants.ours(contestants.VERSIONS, ["python3"]), contestants.tutorial()]
        floors, _ = contestants.floors(tmp_path)
    except (OSError, subprocess.SubprocessError):
        pytest.skip("there is no python3 here")
    for size, most in (("quick", 235), ("full", 2100)):
        made = Plan([*among, *floors], list(EXPERIMENTS), size, ROUNDS[size])
        begun = Run(made, "run", tmp_path / "result.json", lambda text: None)
        assert begun.seconds_planned() < most
    assert ROUNDS["full"] >= 5 and ROUNDS["quick"] >= 3


def test_every_number_of_the_answer_has_a_name() -> None:
    assert {row.metric for row in answer.ROWS} <= METRICS.keys()
    assert {row.experiment for row in answer.ROWS} <= set(EXPERIMENTS)
