"""The benchmarks' arithmetic, on made-up numbers whose results are known. Nothing is measured."""

import copy
import functools
import itertools
import json
import math
import operator
import random
import re
from pathlib import Path

import pytest

from benchmarks.experiments.catalogue import EXPERIMENTS
from benchmarks.experiments.questions import CHAT_LOAD, QUESTIONS, SETTLED
from benchmarks.report import answer, compare, page, verdict
from benchmarks.result import metrics, statistics
from benchmarks.result.file import EARLIER, SCHEMA, ResultError, load_result, write_result
from benchmarks.result.metrics import percentiles
from benchmarks.result.statistics import (
    TOO_FEW,
    Blocks,
    Ratio,
    percentile,
    unpaired_ratio,
)
from benchmarks.result.status import Refusal
from benchmarks.result.view import KINDS, View, describe, key
from tests.benchmarks.made_up_results import make_result, server

POINT = {"concurrent": 10}


def made_up(*trials: dict, refusals: list | None = None) -> dict:
    """A result of two servers, a and b, with just what the arithmetic reads."""
    return {
        "servers": [server("a", "ours"), server("b", "ours")],
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
        (0.00001, "0.00"),
        (0.0834, "0.083"),
        (0.08, "0.080"),
        (1.0, "1.00"),
        (9.996, "10.0"),
        (999.6, "1000"),
        (10_000, "10k"),
        (12_345.6, "12.3k"),
        (1_500_000, "1.5M"),
    ],
)
def test_numbers_are_shown_with_three_figures(value: float, text: str) -> None:
    assert metrics.number(value) == text


# Differences


def t_density(t: float, freedom: int) -> float:
    scale = math.gamma((freedom + 1) / 2) / math.gamma(freedom / 2)
    return scale / math.sqrt(freedom * math.pi) * (1 + t * t / freedom) ** (-(freedom + 1) / 2)


@pytest.mark.parametrize("freedom", statistics.TUKEY_FREEDOM)
def test_between_the_quantiles_for_two_servers_lie_95_per_cent_of_t(freedom: int) -> None:
    """The density, added up in another way than by a table."""
    steps, reach = 2000, statistics.tukey_quantile(2, freedom)
    width = 2 * reach / steps
    area = sum(t_density(-reach + (step + 0.5) * width, freedom) for step in range(steps)) * width
    assert area == pytest.approx(0.95, abs=0.0002)


def test_between_two_quantiles_the_lower_one_counts_and_beyond_the_table_its_last() -> None:
    assert statistics.tukey_quantile(2, 4.9) == statistics.tukey_quantile(2, 4)
    assert statistics.tukey_quantile(2, 1000) == statistics.tukey_quantile(2, 120)


@pytest.mark.parametrize(
    ("first", "second", "apart", "reach"),
    [
        # Variances 1, error sqrt(2/3), by Welch 4 degrees of freedom.
        ((3, 4, 5), (0, 1, 2), 3, 2.776 * math.sqrt(2 / 3)),
        # Variances 1 and 100: (101/3)^2 / ((1/3)^2/2 + (100/3)^2/2) = 2.04 degrees of freedom.
        ((-1, 0, 1), (-10, 0, 10), 0, 4.303 * math.sqrt(101 / 3)),
    ],
)
def test_an_interval_of_two_groups_by_hand(
    first: tuple, second: tuple, apart: float, reach: float
) -> None:
    """What is given are the logarithms."""
    ratio = unpaired_ratio(*([math.exp(log) for log in logs] for logs in (first, second)))
    logs = [math.log(number) for number in (ratio.value, ratio.low, ratio.high)]
    assert logs == pytest.approx([apart, apart - reach, apart + reach])


def test_the_more_servers_the_larger_are_their_quantiles() -> None:
    """Because more pairs are compared."""
    for freedom in statistics.TUKEY_FREEDOM:
        larger = [statistics.tukey_quantile(servers, freedom) for servers in range(2, 11)]
        assert larger == sorted(larger)
    assert statistics.tukey_quantile(2, 0) is statistics.tukey_quantile(99, 9) is None


def blocks(**logs: list[float | None]) -> statistics.Blocks:
    """A design from the logarithms of each server, round by round; None where it was not there."""
    return statistics.Blocks(
        {
            server: {at: math.exp(log) for at, log in enumerate(values) if log is not None}
            for server, values in logs.items()
        }
    )


def test_an_interval_of_a_block_design_by_hand() -> None:
    """Three servers, three rounds, 0, 10 and 20 apart: what is left is 1/3 or 2/3 in each cell.

    The squares add up to 2 for 4 degrees of freedom. A difference of two means of three values has
    the variance 2/3 of that, and Tukey's quantile for three servers is 3.564.
    """
    design = blocks(a=[1, 10, 20], b=[3, 14, 23], c=[5, 15, 26])
    logs = {name: values for name, values in design.residuals().items()}
    squares = sum(value**2 for values in logs.values() for value in values)
    assert design.freedom == 4
    assert design.error_variance == pytest.approx(squares / 4)
    ratio = design.ratio("b", "a")
    reach = 3.564 * math.sqrt(2 / 3 * squares / 4)
    numbers = [math.log(number) for number in (ratio.value, ratio.low, ratio.high)]
    assert numbers == pytest.approx([3, 3 - reach, 3 + reach], abs=1e-3)


def test_a_block_design_with_a_gap() -> None:
    """By least squares: b was not there in the slow round, which does not make it fast."""
    design = blocks(a=[0.0, 0.1, 9.0, 0.0], b=[1.0, 1.1, None, 1.0], c=[2.0, 2.1, 11.0, 2.0])
    assert math.log(design.ratio("b", "a").value) == pytest.approx(1)
    assert math.log(design.ratio("c", "b").value) == pytest.approx(1)
    assert design.freedom == 5


def test_what_a_block_design_cannot_compare() -> None:
    """Servers that shared no round, one whose value is 0, and too few rounds for an interval."""
    assert blocks(a=[1, None], b=[None, 2]).ratio("a", "b") is None
    assert statistics.Blocks({"a": {0: 1.0}, "b": {0: 0.0}}).ratio("a", "b") is None
    assert blocks(a=[1, 2], b=[2, 3], c=[3, 4]).ratio("a", "b").low is None


def test_a_server_whose_rounds_differ_more_than_the_others_is_named() -> None:
    calm = [0.0, 0.01, 0.0, -0.01, 0.01]
    assert blocks(a=calm, b=calm[::-1], c=calm[1:] + calm[:1]).unlike() is None
    name, times = blocks(a=calm, b=calm[::-1], c=[0.5, -0.5, 0.4, -0.5, 0.1], d=calm).unlike()
    assert name == "c"
    assert times > 4


def test_five_of_a_hundred_rows_of_equal_servers_show_a_difference() -> None:
    """Whatever changes from round to round; and the share has an interval, too."""
    source = random.Random(7)
    rows, shown = 1500, 0
    for _ in range(rows):
        rounds = [source.gauss(0, 1) for _ in range(4)]
        design = blocks(**{name: [at + source.gauss(0, 0.1) for at in rounds] for name in "abcd"})
        shown += any(design.ratio(*pair).shown for pair in itertools.combinations("abcd", 2))
    low, high = statistics.share_interval(shown, rows)
    assert low < 0.05 < high, f"{shown} of {rows}"
    assert statistics.share_interval(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)


def test_what_changed_from_round_to_round_is_no_difference_of_the_servers() -> None:
    """Every round is twice as slow as the one before; within each, the second takes 10 % more."""
    first = [2.0**number for number in range(5)]
    second = [value * (1.1 + number / 1000) for number, value in enumerate(first)]
    logs = {name: list(map(math.log, values)) for name, values in (("a", first), ("b", second))}
    assert blocks(**logs).ratio("b", "a").text == "1.1 × (1.1 to 1.1)"
    assert not unpaired_ratio(second, first).shown


@pytest.mark.parametrize(
    "ratio",
    [
        unpaired_ratio([9.0, 9.0, 0.0], [1.0, 1.0, 1.0]),
        unpaired_ratio([9.0, 9.0, 9.0], [1.0, -1.0, 1.0]),
        unpaired_ratio([9.0, 9.0], [1.0, 1.0, 1.0]),
        unpaired_ratio([9.0, 9.0, 9.0], [0.0, 0.0, 0.0]),
        unpaired_ratio([], [1.0]),
    ],
)
def test_of_too_few_values_and_of_nothing_no_difference_is_shown(ratio: Ratio) -> None:
    assert (ratio.low, ratio.shown, ratio.text) == (None, False, TOO_FEW)


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


def test_of_two_groups_that_do_not_differ_about_5_per_cent_are_shown() -> None:
    """2000 draws of five rounds: the interval must be wrong as often as it says it is."""
    dice = random.Random(5)
    wrong = 0
    for _ in range(2000):
        twins = [[dice.lognormvariate(3, 0.1) for _ in range(5)] for _ in "AB"]
        wrong += unpaired_ratio(*twins).shown
    assert 0.03 <= wrong / 2000 <= 0.065


@pytest.mark.parametrize(
    ("count", "known"),
    [(19, []), (20, ["p50_ms"]), (100, ["p50_ms", "p90_ms"]), (999, ["p50_ms", "p90_ms"])],
)
def test_a_percentile_takes_ten_samples_beyond_it(count: int, known: list[str]) -> None:
    assert list(percentiles(range(count))) == known
    assert percentiles(range(1000))["p99_ms"] == 989


def test_adding_rounds_until_a_row_is_settled_shows_few_differences_that_are_none() -> None:
    """300 rows of four equal servers, each measured until its intervals are within 10 %."""
    dice = random.Random(1)
    wrong = 0
    for _ in range(300):
        values: dict[str, dict[int, float]] = {name: {} for name in "abcd"}
        for number in range(15):
            for rounds in values.values():
                rounds[number] = dice.lognormvariate(0, 0.07)
            blocks = Blocks(values)
            best = min(blocks.effects, key=blocks.effects.__getitem__)
            ratios = [blocks.ratio(name, best) for name in values if name != best]
            reaches = [ratio.reach for ratio in ratios if ratio and ratio.reach is not None]
            if len(reaches) == 3 and max(reaches) <= SETTLED:
                break
        pairs = itertools.combinations(values, 2)
        wrong += any(ratio.shown for pair in pairs if (ratio := blocks.ratio(*pair)))
    assert wrong / 300 <= 0.1


# Cells


def test_a_cell_has_its_trials_by_round() -> None:
    view = View(made_up(*churn("a", 3.0, 1.0, 5.0)))
    cell = view.cell("churn", POINT, "a")
    assert (cell.status, cell.median("server_cpu_us")) == ("ok", 3.0)
    assert cell.values["server_cpu_us"] == {0: 3.0, 1: 1.0, 2: 5.0}
    assert cell.median("p50_ms") is None
    assert view.cell("churn", POINT, "b") is None
    assert view.cell("churn", {"concurrent": 11}, "a") is None


@pytest.mark.parametrize(
    ("status", "cost", "rate"),
    [
        ("ok", True, True),
        ("server-limited", False, True),
        ("client-limited", True, True),
        ("failed", False, False),
        ("error", False, False),
    ],
)
def test_what_one_bad_trial_leaves_to_be_compared(status: str, cost: bool, rate: bool) -> None:
    """CPU per message compares where the rate was kept. One trial of a slow client is left out."""
    rows = churn("a", 1.0, 1.0, 1.0) + churn("a", 1.0, status=status, first=3)
    view = View(made_up(*rows, *churn("b", 2.0, 2.0, 2.0, 2.0)))
    (point,) = view.points("churn")
    a, b = point.cells.values()
    assert a.status == ("ok" if status == "client-limited" else status)
    for metric, compares in (("server_cpu_us", cost), ("sessions_per_s", rate)):
        assert a.ranks(metric) == compares
        assert (b.ratio_to(a, metric).value is not None) == compares
        assert point.best(metric) == ([a] if compares else [])


def test_a_disturbed_trial_is_left_out_while_there_are_others() -> None:
    rows = churn("a", 1.0, 1.0, 1.0) + churn("a", 99.0, status="disturbed", first=3)
    cell = View(made_up(*rows)).cell("churn", POINT, "a")
    assert (cell.status, set(cell.values["server_cpu_us"].values())) == ("ok", {1.0})
    assert len(cell.trials) == 4
    cell = View(made_up(*rows[3:])).cell("churn", POINT, "a")
    assert (cell.status, cell.median("server_cpu_us")) == ("disturbed", 99.0)
    assert not cell.ranks("sessions_per_s")


@pytest.mark.parametrize(
    ("held", "refusal"), [(7, Refusal.SERVER_FULL), (None, Refusal.TOO_FEW_DESCRIPTORS)]
)
def test_a_refused_point_is_refused(held: int | None, refusal: Refusal) -> None:
    """The reason is for people: what it says does not matter."""
    row = {"experiment": "churn", "point": POINT, "server": "b", "held": held, "reason": "full"}
    view = View(made_up(*churn("a", 1.0), refusals=[row]))
    assert view.cell("churn", POINT, "b").refusal is refusal
    assert view.cell("churn", POINT, "b").status == "refused"
    assert [list(point.cells) for point in view.points("churn")] == [["a", "b"]]


def test_where_the_client_was_slow_in_most_trials_nothing_compares() -> None:
    rows = churn("a", 1.0) + churn("a", 1.0, 1.0, status="client-limited", first=1)
    cell = View(made_up(*rows)).cell("churn", POINT, "a")
    assert cell.status == "client-limited"
    assert not cell.ranks("sessions_per_s")


def test_the_best_are_all_that_are_not_told_apart_from_it() -> None:
    result = made_up(*churn("a", 1.0, 1.1, 0.9), *churn("b", 1.05, 1.0, 1.1))
    result["servers"].append(server("c", "floor"))
    result["trials"] += churn("c", 0.5, 0.5, 0.5)
    (point,) = View(result).points("churn")
    a, b, c = point.cells.values()
    assert point.best("server_cpu_us") == [c]
    assert point.best("server_cpu_us", ("ours",)) == [a, b]
    assert point.ranking("sessions_per_s") == [c, a, b]


def test_servers_stand_in_one_order_and_points_in_that_of_the_trials() -> None:
    result = make_result()
    result["servers"].reverse()
    view = View(result)
    for point in view.points("ping"):
        kinds = [cell.entry["kind"] for cell in point.cells.values()]
        assert kinds == sorted(kinds, key=KINDS.index)
    assert view.points("ping") == EXPERIMENTS["ping"].points(EXPERIMENTS["ping"].sizes["full"])
    assert view.points("ping", mode="paced", rate=500) == [
        {"mode": "paced", "clients": 50, "rate": 500}
    ]
    assert view.experiments() == list(EXPERIMENTS)
    assert describe(view.points("ping")[1]) == "paced, clients 50, rate 2,000"


# Files


def test_a_result_is_read_as_it_was_written_a_line_for_each_trial(tmp_path: Path) -> None:
    result = make_result()
    path = tmp_path / "new" / "result.json"
    write_result(result, path)
    assert load_result(path) == json.loads(json.dumps(result))
    assert len(path.read_text().splitlines()) < len(result["trials"]) + 100
    assert [entry.name for entry in path.parent.iterdir()] == ["result.json"]


@pytest.fixture(scope="module")
def whole() -> dict:
    return json.loads(json.dumps(make_result()))


@pytest.mark.parametrize(
    ("where", "value", "damage"),
    [
        ("machine", None, "machine is None"),
        ("servers.0.kind", "mine", "servers[0].kind is 'mine'"),
        ("servers.0.label", "a\x1b[2J", "servers[0].label is 'a\\x1b[2J'"),
        ("trials.0", {}, "trials[0].experiment is missing"),
        ("trials.0.status", "fine", "trials[0].status is 'fine'"),
        ("trials.3.metrics.server_cpu_us", "25", "trials[3].metrics.server_cpu_us is '25'"),
        ("trials.3.metrics.p50_ms", math.nan, "trials[3].metrics.p50_ms is nan"),
        ("trials.0.experiment", "sleep", "there is no experiment 'sleep'"),
        ("trials.0.point", {"mode": "paced"}, "ping has no point {'mode': 'paced'}"),
        ("parameters.experiments.idle", {"idle": 3}, "or these are not its parameters"),
    ],
)
def test_a_damaged_file_is_one_line_that_says_what_is_wrong(
    where: str, value: object, damage: str, whole: dict, tmp_path: Path
) -> None:
    result = copy.deepcopy(whole)
    *steps, last = [int(step) if step.isdigit() else step for step in where.split(".")]
    functools.reduce(operator.getitem, steps, result)[last] = value
    path = tmp_path / "damaged.json"
    path.write_text(json.dumps(result))
    for command in (
        lambda: compare.compare_files(path, path),
        lambda: page.write_report(path, tmp_path),
    ):
        with pytest.raises(ResultError) as error:
            command()
        assert str(error.value).startswith(f"{path} is no complete result: ")
        assert damage in str(error.value)
        assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "is not a JSON file"),
        ("{", "is not a JSON file"),
        ("[" * 100_000, "is not a JSON file"),
        ("null", "is no result of this benchmark"),
        ("[1, 2]", "is no result of this benchmark"),
        ('{"schema": ["x"]}', "is no result of this benchmark"),
        (json.dumps({"schema": EARLIER}), "is of the first edition of the benchmarks: measure"),
        (json.dumps({"schema": SCHEMA}), "is no complete result: kind is missing"),
    ],
)
def test_what_is_no_result_is_said_to_be_none(text: str, complaint: str, tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(ResultError, match=complaint):
        load_result(path)


# The answer


def test_the_answer_has_a_row_for_each_question_and_the_best_of_each_is_marked(whole: dict) -> None:
    table = answer.answer(View(whole))
    assert len(table.rows) == len(QUESTIONS) + 1
    chat_load = table.rows[0]
    assert chat_load[0] == "A message at chat load (50 clients, 5,000/s), µs of CPU"
    assert [column for row, column in table.marks if row == 0] == [1]
    assert "\n" not in chat_load[1]
    assert re.fullmatch(r"3[45]\.\d\n1\.\d × \(1\.\d to 1\.\d\)", chat_load[2])
    assert chat_load[-1].endswith("\nC threads")


def test_where_the_newer_model_loses_is_told_without_configured_constants(whole: dict) -> None:
    rows = answer.losses(View(whole)).rows
    steps = {step: [row for row in rows if row[0] == step] for step, *_ in rows}
    first = steps["v1_threads to v2_select"]
    (chat_load,) = (row for row in first if row[1] == "a message at chat load")
    assert chat_load[2].startswith("2") and chat_load[3].startswith("3") and "×" in chat_load[4]
    assert first[-1][1:4] == ["most clients", "at least 10,001", "1,000"]
    second = steps["v2_select to v3_broadcast"]
    assert any(row[-1] == "configured timeout" for row in second)
    longer = copy.deepcopy(whole)
    delays = {"v3_broadcast": 1000.0, "v4_asyncio": 1100.0}
    for trial in longer["trials"]:
        if trial["experiment"] == "stall" and trial["server"] in delays:
            trial["metrics"] |= {"worst_delay_ms": delays[trial["server"]], "dropped_after_s": 1.1}
    view = View(longer)
    (point,) = view.points("stall")
    third, fourth = point.cells["v3_broadcast"], point.cells["v4_asyncio"]
    assert fourth.ratio_to(third, "worst_delay_ms").shown
    last = [row for row in answer.losses(view).rows if row[0] == "v3_broadcast to v4_asyncio"]
    assert last
    assert not any("stops reading" in row[1] for row in last)


def test_of_one_round_nothing_is_said(whole: dict) -> None:
    trials = [trial for trial in whole["trials"] if trial["round"] == 0]
    one = View(whole | {"trials": trials, "refusals": []})
    assert {finding for _, finding in verdict.findings(one)} == {verdict.Finding.OPEN}
    assert {row[1] for row in answer.losses(one).rows} == {"nothing was shown to be"}


# The verdict


@pytest.mark.parametrize(
    ("factor", "finding"),
    [
        (2.0, verdict.Finding.CONFIRMED),
        (1.0, verdict.Finding.OPEN),
        (0.5, verdict.Finding.CONTRADICTED),
    ],
)
def test_a_claim_is_judged_by_its_interval(
    factor: float, finding: verdict.Finding, whole: dict
) -> None:
    """The worse is made so many times as dear as the better, or lets through so many times less."""
    result = copy.deepcopy(whole)
    costs = {}
    for trial in result["trials"]:
        if trial["experiment"] == "ping" and trial["metrics"]:
            place = (key(trial["point"]), trial["round"])
            if trial["server"] == "v1_threads":
                costs[place] = trial["metrics"]["server_cpu_us"]
            elif trial["server"] == "v2_select":
                noise = 1 + 0.01 * (trial["round"] - 2)
                trial["metrics"]["server_cpu_us"] = factor * costs[place] * noise
    view = View(result)
    claim = verdict.Claim(CHAT_LOAD, "v1_threads", "v2_select")
    assert claim.finding(view) is finding
    assert verdict.Claim(CHAT_LOAD, "v1_threads", "v9_magic").finding(view) is None
    other = verdict.Claim(CHAT_LOAD, "v1_threads", "v3_broadcast")
    assert other.finding(view) is verdict.Finding.CONFIRMED
    assert verdict.Sentence("Both.", (claim, other)).finding(view) is finding
    assert verdict.Sentence("Neither.", ()).finding(view) is None


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_result_of_one_experiment_has_an_answer_and_a_page(name: str, whole: dict) -> None:
    trials = [trial for trial in whole["trials"] if trial["experiment"] == name]
    view = View(whole | {"trials": trials, "refusals": []})
    questions = [question for question in QUESTIONS if question.experiment == name]
    assert len(answer.answer(view).rows) == (len(questions) + 1 if questions else 0)
    assert f"<h2>{EXPERIMENTS[name].title}</h2>" in page.page_of(view, "result.json", {})


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
    measured = EXPERIMENTS["churn"]
    changed = [line for line in lines if "×" in line]
    assert len(changed) == len(measured.points(measured.sizes["full"]))
    assert changed[0].split()[:4] == ["v4_asyncio", "Server", "CPU", "time"]
    assert f"per {measured.cpu_per}, µs" in changed[0]
    assert "  2.0 × (" in changed[0]
    assert any("client-limited: no result" in line for line in lines)
    assert any(line.startswith(f"{len(changed)} of ") for line in lines[-2:])


def test_a_result_without_anything_in_common_is_said_to_have_nothing(
    whole: dict, tmp_path: Path
) -> None:
    paths = []
    for name in ("ping", "churn"):
        trials = [trial for trial in whole["trials"] if trial["experiment"] == name]
        paths.append(tmp_path / f"{name}.json")
        write_result(whole | {"trials": trials, "refusals": []}, paths[-1])
    text = compare.compare_files(*paths)
    assert text.endswith("The two files have no point in common: there is nothing to compare.")
    assert "Points measured only before: ping of v1_threads" in text


def test_twins_show_how_many_of_their_numbers_differ() -> None:
    """Both metrics at one point of two."""
    rows = churn("a", 1.0, 1.0, 1.0) + churn("b", 2.0, 2.0, 2.0)
    rows += [
        row | {"point": {"concurrent": 1}, "server": server} for row in rows[:3] for server in "ab"
    ]
    table = compare.against_itself(View(made_up(*rows)))
    assert table.rows == [
        ["churn", "4", "2", "50.0% (15.0% to 85.0%)"],
        ["in all", "4", "2", "50.0% (15.0% to 85.0%)"],
    ]


def test_twins_of_one_round_show_nothing() -> None:
    table = compare.against_itself(View(made_up(*churn("a", 1.0), *churn("b", 2.0))))
    assert table.rows[-1] == ["in all", "0", "0", "-"]
    assert TOO_FEW in table.notes[0]
