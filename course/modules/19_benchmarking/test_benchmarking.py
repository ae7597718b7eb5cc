"""Hidden variants of module 19: other numbers and seeds, a fake clock, sums written out as the oracle."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest

from tinytorch.benchmarking import (
    COURSE,
    MLPERF,
    Measurement,
    Minimum,
    bootstrap_interval,
    calibrate,
    closed_loop,
    compare,
    drift,
    interleave,
    latency_report,
    measure,
    multi_stream,
    noise_cause,
    noise_verdict,
    offline,
    open_loop,
    pareto_front,
    percentile,
    poisson_arrivals,
    queries_needed,
    rounds_needed,
    server,
    single_stream,
    spread,
    summarize,
    time_block,
    warm_up,
)


class Clock:
    """Stands still until somebody works or sleeps."""

    def __init__(self, now=1000.0):
        self.now, self.calls = now, 0

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        assert seconds >= 0
        self.now += seconds

    def work(self, costs):
        """Calls that cost these seconds, one after the other, and the last one for ever."""
        costs = itertools.chain(costs, itertools.repeat(costs[-1]))

        def run(*_):
            self.calls += 1
            self.now += next(costs)

        return run


def test_time_block_divides_by_the_calls():
    clock = Clock()
    assert time_block(clock.work([3.0, 1.0]), 4, clock) == 1.5
    assert clock.calls == 4


@pytest.mark.parametrize(
    ("cost", "target", "expected"), [(0.5, 3, 8), (0.5, 4, 8), (8, 1, 1), (1 / 8, 5, 64)]
)
def test_calibrate_is_the_first_power_of_two_that_lasts(cost, target, expected):
    clock = Clock()
    assert calibrate(clock.work([cost]), target, clock) == expected
    assert clock.calls == 2 * expected - 1


def test_calibrate_refuses_a_clock_that_stands_still():
    with pytest.raises(ValueError, match="stands still"):
        calibrate(lambda: None, 1.0, lambda: 0.0)


@pytest.mark.parametrize("window", [2, 3, 4])
def test_warm_up_ends_where_two_windows_agree(window):
    times = [16.0, 9.0, 4.0, 3.0, 2.0, 2.0, 1.0] + [1.0] * 20
    for n in range(2 * window, len(times)):
        a, b = np.median(times[n - 2 * window : n - window]), np.median(times[n - window : n])
        if abs(a - b) <= 0.1 * a:
            break
    clock = Clock()
    assert warm_up(clock.work(times), window=window, tolerance=0.1, clock=clock) == n
    assert clock.calls == n


def test_warm_up_gives_up():
    clock = Clock()
    assert warm_up(clock.work([2.0**-i for i in range(30)]), limit=17, clock=clock) == 17


def test_rounds_needed_is_the_first_that_is_sure_enough():
    for level in (0.5, 0.8, 0.9, 0.95, 0.99, 0.999):
        n = rounds_needed(level)
        assert 1 - 2 * 0.5**n >= level > 1 - 2 * 0.5 ** (n - 1)


def test_bootstrap_median_is_the_exact_one():
    """All draws of 9 samples counted: the median is at most the k-th if five draws are."""
    samples = np.arange(9.0) ** 2
    exact = [
        sum(
            math.comb(9, j) * Fraction(k, 9) ** j * Fraction(9 - k, 9) ** (9 - j)
            for j in range(5, 10)
        )
        for k in range(1, 10)
    ]
    for level in (0.5, 0.8, 0.95):
        tail = (1 - level) / 2
        low = next(k for k in range(9) if exact[k] > tail)
        high = next(k for k in range(9) if exact[k] > 1 - tail)
        assert bootstrap_interval(samples, level=level, resamples=20_000, seed=2) == (
            samples[low],
            samples[high],
        )


@pytest.mark.parametrize(("statistic", "truth"), [(np.mean, 1.0), (np.median, math.log(2))])
def test_bootstrap_covers_the_truth_as_often_as_it_says(statistic, truth):
    rng = np.random.default_rng(11)
    held = 0
    for trial in range(400):
        low, high = bootstrap_interval(
            rng.exponential(size=60), statistic, resamples=400, seed=trial
        )
        held += low <= truth <= high
    assert (
        0.90 <= held / 400 <= 0.98
    )  # 95 % within three standard errors, less what the skewness costs


def test_bootstrap_refuses_too_few_and_nan():
    with pytest.raises(ValueError, match="7 samples cannot carry an interval of 99 %, at least 8"):
        bootstrap_interval(range(7), level=0.99)
    with pytest.raises(ValueError, match="finite"):
        bootstrap_interval([1.0] * 9 + [math.nan])


def test_summarize_is_numpys_quantiles():
    samples = np.random.default_rng(3).lognormal(size=33)
    got = summarize(samples)
    assert (got.n, got.minimum, got.median) == (33, samples.min(), np.median(samples))
    assert (got.low, got.high) == tuple(np.quantile(samples, [0.25, 0.75]))
    assert got.iqr == got.high - got.low
    assert got.interval == bootstrap_interval(samples)


def test_interleave_cancels_a_machine_that_drifts():
    clock = Clock()

    def work(cost):
        def run():
            clock.now += cost * (1 + (clock.now - 1000) / 50)

        return run

    works = {"a": work(0.03), "b": work(0.024)}
    got = interleave(works, rounds=30, seconds=0.1, clock=clock, kernel=work(0.01))
    assert drift(got["a"].samples) > 0.1
    assert compare(got["b"], got["a"]).ratio == pytest.approx(0.8, rel=0.02)
    assert compare(got["b"], got["a"]).verdict == "faster"
    assert noise_cause(got["a"]) == "drifting"
    assert [m.repetitions for m in got.values()] == [4, 8]
    assert got["a"].kernel == got["b"].kernel and len(got["a"].kernel) == 30


def test_measure_names_the_function():
    clock = Clock()

    def something():
        clock.now += 0.5

    got = measure(something, rounds=7, seconds=1.0, clock=clock, kernel=clock.work([0.25]))
    assert got == Measurement("something", (0.5,) * 7, (0.25,) * 7, 2)
    assert noise_verdict(got).valid


def test_compare_two_of_the_same_is_rarely_a_difference():
    rng = np.random.default_rng(5)
    verdicts = []
    for _ in range(300):
        machine = rng.lognormal(sigma=0.5, size=20)
        a, b = (machine * rng.lognormal(sigma=0.05, size=20) for _ in range(2))
        verdicts.append(compare(a, b).verdict)
    assert 0.90 <= np.mean([v == "no difference" for v in verdicts]) <= 0.985


def test_compare_sees_a_tenth_through_a_restless_machine():
    rng = np.random.default_rng(6)
    machine = rng.lognormal(sigma=1.0, size=20)
    result = compare(machine * 1.1 * rng.lognormal(sigma=0.02, size=20), machine)
    assert result.verdict == "slower"
    assert result.interval[0] < 1.1 < result.interval[1]
    assert result.speedup == 1 / result.ratio


def test_compare_refuses_what_is_no_pair():
    with pytest.raises(ValueError, match="9 rounds against 8"):
        compare([1.0] * 9, [1.0] * 8)
    with pytest.raises(ValueError, match="5 samples"):
        compare([1.0] * 5, [1.0] * 5)


@pytest.mark.parametrize(
    ("samples", "kernel", "cause"),
    [
        ([1.0] * 4, [1.0] * 4, "few rounds"),
        ([1.0] * 9, [1.0] * 8, "not watched"),
        ([1.0] * 12, [1.0] * 6 + [0.9] * 6, "drifting"),
        ([1.0] * 12, [1.0, 0.9] * 6, "busy"),
        ([1.0, 0.8] * 6, [1.0] * 12, "unsteady"),
        ([1.0] * 6 + [0.8] * 6, [1.0] * 12, "unsteady"),
        ([1.0, 0.93] * 6, [1.0, 0.97] * 6, ""),
    ],
)
def test_noise_verdict_has_a_reason_and_a_remedy(samples, kernel, cause):
    measurement = Measurement("f", tuple(samples), tuple(kernel), 1)
    verdict = noise_verdict(measurement)
    assert noise_cause(measurement) == cause
    assert verdict.valid == (cause == "") == (verdict.remedy == "")
    assert str(verdict).startswith(f"INVALID: {cause} (" if cause else "VALID: quiet (")


def test_spread_is_free_of_the_unit():
    samples = np.random.default_rng(0).lognormal(size=50)
    assert spread(samples) == pytest.approx(spread(1000 * samples))


def test_queries_needed_is_the_first_that_is_sure_enough():
    for q, confidence in itertools.product((50, 75, 90, 95, 99, 99.9), (0.8, 0.95, 0.99)):
        n = queries_needed(q, confidence)
        assert (q / 100) ** n <= 1 - confidence + 1e-12 < (q / 100) ** (n - 1) + 2e-12


@pytest.mark.parametrize("q", [50, 75, 90, 95, 99])
def test_percentile_is_the_smallest_that_enough_do_not_exceed(q):
    rng = np.random.default_rng(q)
    for n in (queries_needed(q), queries_needed(q) + 1, 400, 1000):
        latencies = rng.exponential(size=n)
        got = percentile(latencies, q)
        assert got == min(x for x in latencies if (latencies <= x).sum() * 100 >= q * n)
        assert got == np.percentile(latencies, q, method="inverted_cdf")
    with pytest.raises(ValueError, match=str(queries_needed(q))):
        percentile(np.ones(queries_needed(q) - 1), q)


def test_latency_report_leaves_out_what_is_not_supported():
    assert list(latency_report([1.0] * 100).percentiles) == [50, 90]
    assert list(latency_report([1.0] * 4).percentiles) == []


def test_closed_loop_draws_alike_for_two_systems():
    asked = [[], []]
    for queries in asked:
        clock = Clock()
        closed_loop(
            lambda q, c=clock, queries=queries: queries.append(q) or c.sleep(0.5),
            range(100, 110),
            3,
            Minimum(2.0, 7),
            seed=5,
            clock=clock,
        )
    assert asked[0] == asked[1] and len(asked[0]) == 7
    assert all(len(q) == 3 and set(q) <= set(range(100, 110)) for q in asked[0])


def test_single_stream_is_judged_by_p90():
    clock = Clock()
    costs = [0.001 * (1 + i % 10) for i in range(1000)]
    run = single_stream(clock.work(costs), range(5), minimum=Minimum(1.0, 1000), clock=clock)
    assert (run.name, run.queries, run.samples, run.valid) == ("SingleStream", 1000, 1000, True)
    assert run.value == pytest.approx(0.009)
    assert run.throughput == pytest.approx(1000 / 5.5)


def test_multi_stream_has_enough_queries_for_p99_whatever_the_minimum():
    clock = Clock()
    run = multi_stream(
        clock.work([0.25]), range(5), streams=4, minimum=Minimum(1.0, 10), limit=1e9, clock=clock
    )
    assert (run.queries, run.samples, run.value, run.valid) == (299, 4 * 299, 0.25, True)
    run = multi_stream(clock.work([0.25]), range(5), limit=10.0, clock=clock)
    assert (run.queries, run.valid) == (40, False)
    assert math.isnan(run.value) and "at least 300" in run.why and "INVALID" in str(run)


def test_poisson_arrivals_count_as_poisson_does():
    """The number of arrivals in a second has mean and variance equal to the rate."""
    arrivals = poisson_arrivals(7.0, 70_000, seed=9)
    counts = np.bincount(arrivals.astype(int))[:-1]
    assert counts.mean() == pytest.approx(7, rel=0.03)
    assert counts.var() == pytest.approx(7, rel=0.06)


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
def test_open_loop_is_the_queue_of_the_formula(load):
    clock = Clock(0.0)
    arrivals = poisson_arrivals(load, 60_000, seed=3)
    waits, _ = open_loop(
        clock.work([1.0]), range(3), arrivals, limit=1e9, clock=clock, sleep=clock.sleep
    )
    assert np.mean(waits) == pytest.approx(1 + load / (2 * (1 - load)), rel=0.05)
    assert min(waits) == pytest.approx(1.0)


def test_server_is_valid_within_the_bound_only():
    for rate, valid in ((40.0, True), (95.0, False)):
        clock = Clock()
        run = server(
            clock.work([0.01]),
            range(3),
            rate,
            bound=0.05,
            minimum=Minimum(20.0, 400),
            clock=clock,
            sleep=clock.sleep,
        )
        assert run.valid == valid == (run.latency.percentiles[99] <= 0.05)
        assert run.value == rate and run.duration >= 20 and run.queries >= 400
    assert "bound" in run.why


def test_offline_refuses_a_system_that_does_not_look_at_its_samples():
    clock = Clock()
    with pytest.raises(ValueError, match="not all are worked on"):
        offline(clock.work([1e-4]), [0], Minimum(1.0, 64), clock=clock)
    assert clock.calls < 16


def test_offline_is_samples_per_second_of_the_last_query():
    clock, sizes = Clock(), []
    run = offline(
        lambda q: sizes.append(len(q)) or clock.sleep(0.5 + len(q) / 64),
        range(9),
        Minimum(10.0, 100),
        clock=clock,
    )
    assert sizes == [100, 200, 400, 800]
    assert (run.samples, run.duration, run.queries, run.valid) == (800, 13.0, 1, True)
    assert run.value == run.throughput == 800 / 13


def test_the_published_minimums():
    assert MLPERF["Server"] == (60.0, 270336) and MLPERF["Offline"].queries == 3 * 2**13
    assert COURSE["MultiStream"].queries >= queries_needed(99)


@pytest.mark.parametrize("seed", range(5))
def test_pareto_front_is_what_nobody_beats(seed):
    rng = np.random.default_rng(seed)
    points, less = rng.integers(0, 6, (40, 3)), rng.random(3) < 0.5
    sign = np.where(less, 1, -1)

    def beats(a, b):
        return all(sign * a <= sign * b) and any(sign * a < sign * b)

    expected = [i for i, p in enumerate(points) if not any(beats(other, p) for other in points)]
    assert pareto_front(points, list(less)) == expected


def test_pareto_front_refuses_nan():
    with pytest.raises(ValueError, match="nan"):
        pareto_front([(1.0, math.nan)])


def test_streams_take_minimum_and_limit_by_place_too():
    for run in (
        single_stream(lambda query: None, [0], Minimum(0.0, 50), 1.0, clock=Clock()),
        single_stream(lambda query: None, [0], minimum=Minimum(0.0, 50), limit=1.0, clock=Clock()),
    ):
        assert run.queries == 50
