"""The benchmarks' arithmetic, on made-up samples whose results are known. Nothing is measured."""

import array
import math
import os
import socket
import time

import pytest

from benchmarks import launcher, measure, runner, summary
from benchmarks.load import WRITABLE, Load, Lost, Schedule
from benchmarks.runner import Contestant, Plan


def made_up(*trials: dict, refusals: list | None = None, floors: list | None = None) -> dict:
    """A result of two servers, a and b, with just what the arithmetic reads."""
    return {
        "size": "quick",
        "quick": True,
        "started": "2025-01-31T12:00:00Z",
        "machine": {},
        "parameters": {"trials": 3, "experiments": {}},
        "noise_floor": {"floors": floors} if floors else None,
        "servers": [
            {"id": name, "label": name, "version": None, "profile": "chat"} for name in "ab"
        ],
        "conformance": [{"server": name, "passed": True, "reason": None} for name in "ab"],
        "trials": list(trials),
        "refusals": refusals or [],
    }


def churn(server: str, *costs: float, status: str = "ok", concurrent: int = 10) -> list[dict]:
    """Trials of `churn`, whose result is the CPU time of a session and its rate."""
    return [
        {
            "experiment": "churn",
            "point": {"concurrent": concurrent},
            "server": server,
            "trial": number,
            "status": status,
            "reason": None if status == "ok" else "because",
            "metrics": {} if status in ("failed", "error") else measured(cost),
        }
        for number, cost in enumerate(costs)
    ]


def measured(cost: float) -> dict:
    return {"server_cpu_ms": cost, "sessions_per_s": 1000 / cost}


POINT = {"concurrent": 10}


# Percentiles


def test_percentiles_are_samples_by_nearest_rank() -> None:
    samples = list(range(1, 101))
    assert summary.percentile(samples, 0.50) == 50
    assert summary.percentile(samples, 0.99) == 99
    assert summary.percentile(samples, 0.991) == 100
    assert summary.percentile(samples, 1.0) == 100
    assert summary.percentile([7.0], 0.5) == summary.percentile([7.0], 0.99) == 7.0
    assert summary.percentile([1, 2, 3, 4], 0.5) == 2
    assert summary.percentile([1, 2, 3, 4], 0.0) == 1


def test_summary_is_median_and_extremes() -> None:
    assert summary.summarize([5.0, 1.0, 9.0]) == summary.Summary(5.0, 1.0, 9.0, 3)


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
    assert summary.number(value) == text


# Due times


def schedule(senders: int, **options) -> Schedule:
    options = {"rate": 1000.0, "warmup": 0.0, "seconds": 0.01} | options
    fds = list(range(senders))
    made = Schedule(None, fds, fds, [b""] * senders, **options)
    made.start = 1_000_000_000
    return made


def test_latency_counts_from_the_due_time_not_from_sending() -> None:
    """A generator held up for 5 ms sends six requests late, each answered 1 ms after it left."""
    made = schedule(1)
    due = [made.due(number) for number in range(made.total)]
    assert due == [made.start + number * 1_000_000 for number in range(10)]
    held_up_until = due[0] + 5_000_000
    made.sent_at = array.array("q", [max(at, held_up_until) for at in due])
    made.last_at = array.array("q", [at + 1_000_000 for at in made.sent_at])
    assert made.uncorrected_ms() == [1.0] * 10
    assert made.delays_ms() == [1.0] * 5 + [2.0, 3.0, 4.0, 5.0, 6.0]


def test_messages_closer_than_a_burst_are_due_together() -> None:
    made = schedule(1, rate=100_000.0, seconds=0.001)
    due = [made.due(number) - made.start for number in range(21)]
    assert due == [0] * 10 + [100_000] * 10 + [200_000]


def test_warm_up_is_not_among_the_samples() -> None:
    made = schedule(1, warmup=0.004)
    assert (made.first, made.total) == (4, 14)
    made.last_at = array.array("q", [made.due(number) for number in range(made.total)])
    assert len(made.delays_ms()) == 10


class Wire:
    """Stands for the connections: what each read brings is told beforehand."""

    def __init__(self, text: bytes) -> None:
        self.buffer = bytearray(text)

    def receive(self, fd: int) -> int:
        return len(self.buffer)


def test_an_answer_goes_to_the_request_of_its_own_client() -> None:
    """Three clients in turn: the second answer to client 1 is that to message 4."""
    made = schedule(3)
    made.load = Wire(b"* pong\n")
    for _ in range(2):
        assert made.on_readable(1) == 1
    assert [number for number, seen in enumerate(made.copies_seen) if seen] == [1, 4]


def test_a_broadcast_is_complete_at_its_last_reader() -> None:
    made = schedule(2, broadcast=True)
    made.load = Wire(b"c: hello\nc: hello\n")
    made.on_readable(0)
    early = list(made.last_at)[:2]
    made.on_readable(1)
    assert list(made.copies_seen)[:3] == [2, 2, 0]
    assert all(late > soon for late, soon in zip(made.last_at, early, strict=False))


def test_more_lines_than_were_sent_are_noticed() -> None:
    made = schedule(1)
    made.load = Wire(b"* pong\n" * 11)
    with pytest.raises(Lost, match="more lines arrived than were sent"):
        made.on_readable(0)


def test_a_notice_among_the_lines_is_not_a_delivery() -> None:
    made = schedule(1, broadcast=True, notice=b"*")
    made.load = Wire(b"c: hello\n* d left\nc: hello\n")
    assert made.on_readable(0) == 2
    assert made.notices == 1
    assert made.noticed_at


# Refusals


@pytest.mark.parametrize(
    ("metrics", "reason"),
    [
        ({"client_cpu_share": 0.80}, None),
        ({"client_cpu_share": 0.81}, "the load generator used 81% of its core"),
        ({"client_cpu_share": 0.2, "offered_per_s": 1000, "sent_per_s": 990}, None),
        (
            {"client_cpu_share": 0.2, "offered_per_s": 1000, "sent_per_s": 989},
            "only 98.9% of the offered requests left on time",
        ),
        ({}, None),
    ],
)
def test_when_a_trial_is_client_limited(metrics: dict, reason: str | None) -> None:
    assert summary.client_limit(metrics) == reason
    row = runner.row("churn", POINT, "a", 0, {"status": "ok", "metrics": metrics})
    assert (row["status"], row["reason"]) == ("client-limited" if reason else "ok", reason)


def test_a_client_limited_point_is_marked_and_ranked_by_cpu_time_alone() -> None:
    trials = churn("a", 1.0, 1.0, 1.0) + churn("b", 2.0, 2.0, status="client-limited")
    result = made_up(*trials)
    rate, cost, _ = summary.module("churn").tables(result)
    assert rate.rows == [["10", "1000", "500 †"]]
    assert "client-limited" in rate.notes[0]
    assert (cost.rows, cost.notes) == ([["10", "1.00", "2.00"]], [])
    by_rate = summary.chain(result, "churn", POINT, "sessions_per_s")
    assert by_rate == "a 1000/s, b not ranked (client-limited)"
    by_cost = summary.chain(result, "churn", POINT, "server_cpu_ms")
    assert by_cost.startswith("a 1.00 ms, b 2.00 ms")


@pytest.mark.parametrize("status", ["failed", "error"])
def test_one_bad_trial_keeps_a_server_from_being_ranked(status: str) -> None:
    trials = churn("a", 2.0, 2.0, 2.0) + churn("b", 1.0, 1.0) + churn("b", 1.0, status=status)
    result = made_up(*trials)
    chain = summary.chain(result, "churn", POINT, "server_cpu_ms")
    assert chain == f"a 2.00 ms, b not ranked ({status})"
    (found,) = [c for c in summary.cells(result, "churn") if c.server == "b"]
    assert (found.status, found.reason, len(found.values["server_cpu_ms"])) == (
        status,
        "because",
        2,
    )
    assert status in summary.module("churn").tables(result)[1].notes[0] or status == "error"


def test_a_refused_point_says_server_full() -> None:
    refusal = {
        "experiment": "churn",
        "point": POINT,
        "server": "b",
        "held": 7,
        "reason": "! server full",
    }
    result = made_up(*churn("a", 1.0), refusals=[refusal])
    assert summary.module("churn").tables(result)[0].rows == [["10", "1000", "server full"]]
    assert summary.first_refusals(result, "churn") == {"b": 7}


def test_reach_stops_at_the_limit_and_at_what_may_not_be_ranked() -> None:
    result = made_up(
        *churn("a", 1.0, concurrent=1),
        *churn("a", 3.0, concurrent=2),
        *churn("b", 1.0, concurrent=1),
        *churn("b", 1.0, concurrent=2, status="failed"),
    )
    one, two = {"concurrent": 1}, {"concurrent": 2}
    points = summary.points(result, "churn")
    metric = "server_cpu_ms"
    assert summary.reach(result, "churn", points, "a", metric, 2.0) == (one, two, "over")
    assert summary.reach(result, "churn", points, "a", metric, 9.0) == (two, None, "")
    assert summary.reach(result, "churn", points, "a", metric, 0.5) == (None, one, "over")
    assert summary.reach(result, "churn", points, "b", metric, 9.0) == (one, two, "failed")


# Noise


def test_chance_difference_of_identical_trials_is_nothing() -> None:
    assert summary.chance_difference([3.0] * 10) == 0.0
    assert summary.chance_difference([3.0]) == 0.0


def test_chance_difference_looks_at_every_way_to_deal_the_trials() -> None:
    """Of 1, 1, 1, 2 any two halves have medians of 1 and 1.5; of 1, 1, 2, 2 a third has 1 and 2."""
    assert summary.chance_difference([1.0, 1.0, 1.0, 2.0]) == 0.5
    assert summary.chance_difference([1.0, 2.0, 1.0, 2.0]) == 1.0
    assert summary.chance_difference([0.0, 0.0]) == 0.0
    assert summary.chance_difference([0.0, 1.0]) == math.inf


def test_noise_floors_pool_the_twins() -> None:
    result = made_up(*churn("a", 1.0, 1.0), *churn("b", 1.0, 2.0))
    result["parameters"]["experiments"] = {"churn": {"concurrent": [10]}}
    floors = {entry["metric"]: entry for entry in runner.noise_floors(result)["floors"]}
    assert floors["server_cpu_ms"] == {
        "experiment": "churn",
        "point": POINT,
        "metric": "server_cpu_ms",
        "floor": 0.5,
    }


def test_a_difference_below_the_floor_is_not_shown() -> None:
    before, after = [10.0, 10.1, 10.2], [11.0, 11.1, 11.2]
    assert summary.difference(before, after, 0.05).text == "+9.9%"
    below = summary.difference(before, after, 0.15)
    assert (below.shown, below.text) == (False, "no difference shown")
    assert below.ratio == pytest.approx(0.099, abs=0.001)


def test_a_difference_of_overlapping_trials_is_not_shown() -> None:
    assert not summary.difference([10.0, 10.0, 13.0], [12.0, 12.0, 12.0], 0.05).shown


def test_without_a_floor_three_trials_a_side_are_needed() -> None:
    assert not summary.difference([1.0, 1.0], [2.0, 2.0], None).shown
    assert summary.difference([1.0] * 3, [2.0] * 3, None).text == "2.00 times as much"
    assert summary.difference([2.0] * 3, [1.0] * 3, None).text == "-50%"
    assert summary.difference([0.0] * 3, [1.0] * 3, None).text == "0 before, 1.00 now"


def test_the_floor_is_that_of_the_point_or_the_largest_of_its_experiment() -> None:
    floors = [
        {"experiment": "churn", "point": {"concurrent": n}, "metric": "p50_ms", "floor": n / 100}
        for n in (1, 30, 10)
    ]
    result = made_up(*churn("a", 1.0), floors=floors)
    assert summary.floor(result, "churn", POINT, "p50_ms") == 0.10
    assert summary.floor(result, "churn", {"concurrent": 99}, "p50_ms") == 0.30
    assert summary.floor(result, "churn", POINT, "p99_ms") is None
    assert summary.floor(result, "idle", POINT, "p50_ms") is None


def test_conclusions_come_from_the_numbers() -> None:
    """The same sentence would be wrong for one of the two."""
    one = made_up(*churn("a", 1.0, 1.1, 1.2), *churn("b", 5.0, 5.1, 5.2))
    other = made_up(*churn("a", 5.0, 5.1, 5.2), *churn("b", 5.0, 5.1, 5.2))
    assert summary.conclusion(one, "churn") == ("A session costs a 1.10 ms, b 5.10 ms of CPU time.")
    assert summary.conclusion(other, "churn") == (
        "A session costs a 5.10 ms, b 5.10 ms (no difference shown to a) of CPU time."
    )
    assert summary.winners(one, "churn", POINT, "server_cpu_ms") == ["a"]
    assert summary.winners(other, "churn", POINT, "server_cpu_ms") == ["a", "b"]


@pytest.mark.parametrize("experiment", summary.EXPERIMENTS)
def test_an_experiment_without_results_concludes_nothing(experiment: str) -> None:
    result = made_up()
    result["parameters"]["experiments"] = {experiment: summary.module(experiment).SIZES["quick"]}
    assert summary.tables(result, experiment) == []
    assert summary.conclusion(result, experiment) == "Nothing that may be ranked was measured."


# The plan


def test_versions_are_interleaved_and_take_turns_at_being_first() -> None:
    contestants = [Contestant(name, "chat", ["true"]) for name in "abc"]
    plan = Plan(contestants, ["churn"], "quick", trials=3)
    order = [(trial, one.id) for trial, _, one in plan.trial_list("churn")]
    assert "".join(name for _, name in order) == "abc" + "bca" + "cab"


def test_only_chat_servers_are_measured_at_fan_out() -> None:
    contestants = [Contestant(name, launcher.PROFILES[name], []) for name in launcher.VERSIONS]
    plan = Plan(contestants, ["fanout"], "quick", trials=1)
    assert [one.id for one in plan.contestants_of("fanout")] == ["v3_broadcast", "v4_asyncio"]


def test_the_sizes_promised_are_kept_by_the_plan() -> None:
    """--quick of all four under 3 minutes, 5 trials by default and 3 in --quick."""
    from benchmarks.__main__ import TRIALS

    contestants = [Contestant(name, launcher.PROFILES[name], []) for name in launcher.VERSIONS]
    experiments = list(summary.EXPERIMENTS)
    assert TRIALS["full"] >= 5 and TRIALS["quick"] >= 3
    assert Plan(contestants, experiments, "quick", TRIALS["quick"]).total_seconds() < 170
    assert Plan(contestants, experiments, "full", TRIALS["full"]).total_seconds() < 1500


# What is read from the system


@pytest.mark.skipif(not measure.has_process_clock(), reason="this kernel has no such clock")
def test_cpu_time_counts_threads_that_have_ended() -> None:
    code = """
import threading, time
def burn():
    until = time.thread_time() + 0.05
    while time.thread_time() < until: pass
for _ in range(3):
    thread = threading.Thread(target=burn); thread.start(); thread.join()
print("burner listening on 127.0.0.1:1", flush=True)
time.sleep(60)
"""
    with launcher.launch("burner", ["python3", "-c", code], profile="echo") as server:
        probe = measure.ServerProbe(server.process.pid)
        assert probe.cpu_ns() >= 150_000_000
        assert probe.threads() == 1
        assert probe.rss_bytes() > 1_000_000


def test_process_clock_of_ourselves_is_process_time() -> None:
    if not measure.has_process_clock():
        pytest.skip("this kernel has no such clock")
    before = time.process_time_ns()
    assert before <= time.clock_gettime_ns(measure.process_clock_id(os.getpid()))


@pytest.mark.parametrize(
    ("text", "seconds"), [("0:01.50", 1.5), ("02:03", 123), ("1:00:00", 3600), ("", 0)]
)
def test_times_that_ps_prints_are_understood(text: str, seconds: float) -> None:
    assert measure._clock_text_ns(text) == seconds * 1e9


# Sending


def test_what_the_kernel_does_not_take_is_sent_later_and_in_order() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        load = Load(listener.getsockname(), "echo", os.getpid(), patience=10)
        fd = load.open()
        peer, _ = listener.accept()
        with peer, load.sockets[fd]:
            sent = b""
            while fd not in load.pending or len(load.pending[fd]) < 1_000_000:
                line = b"%d\n" % len(sent) * 1000
                load.send(fd, line)
                sent += line
            received = b""
            while len(received) < len(sent):
                received += peer.recv(1 << 20)
                for _, events in load.poller.poll(0):
                    if events & WRITABLE:
                        load.on_writable(fd)
            assert received == sent
            assert load.pending == {}
