# %% [markdown]
"""
# Checkpoint 14: can you make a claim that survives a second measurement?

All clocks here are made up, so that what is true is known: a machine that slows down, two functions
that are alike, and a queue that nobody sees in the mean.
"""

# %% given="tools"
import numpy as np
from tinytorch.benchmarking import (
    Measurement,
    bootstrap_interval,
    calibrate,
    compare,
    interleave,
    noise_verdict,
    offline,
    pareto_front,
    percentile,
    server,
    single_stream,
    summarize,
    warm_up,
)

import tito.checks as check


class _Time:
    """A clock that moves only when work is done; `pace` says how slow the machine is just then."""

    def __init__(self, pace=lambda now: 1.0):
        self.now, self.pace, self.calls = 0.0, pace, 0

    def __call__(self):
        return self.now

    def work(self, seconds):
        """A function that takes so long."""

        def function(*_):
            self.calls += 1
            self.now += seconds * self.pace(self.now)

        return function

    def sleep(self, seconds):
        self.now += max(seconds, 0)


def _noisy(seed, middle, spread, count=40):
    """Seconds that scatter by a share `spread` around `middle`."""
    return tuple(middle * np.exp(np.random.default_rng(seed).normal(0, spread, count)))


# %% check="wait_until_it_is_steady"
_time = _Time(lambda now: 1 + 9 * np.exp(-now / 0.5))
_blocks = warm_up(_time.work(0.05), clock=_time)
check.true(
    "pace after the warm-up, 1 is steady",
    _time.pace(_time.now) < 1.35,
    why="the first blocks are ten times as slow and get faster; stopping early measures the start",
    got=(_blocks, round(_time.pace(_time.now), 3)),
)
_time = _Time()
check.true(
    "repetitions for blocks of 50 ms of a function of 1 ms",
    50 <= calibrate(_time.work(0.001), target=0.05, clock=_time) <= 128,
    why="a block must be long against the clock's resolution, and not much longer",
)

# %% check="measure_side_by_side"
_time = _Time(lambda now: 1 + now)  # the machine slows down for as long as it is used
_found = interleave(
    {"one": _time.work(0.01), "two": _time.work(0.01)},
    rounds=30,
    seconds=0.02,
    clock=_time,
    kernel=_time.work(0.001),
)
_said = compare(_found["one"], _found["two"])
check.equal(
    "verdict on two functions that are alike, on a machine that slows down",
    _said.verdict,
    "no difference",
    why="in each round both meet the same machine: only paired samples see that",
)
check.true(
    "verdict on this machine",
    not noise_verdict(_found["one"]).valid and bool(noise_verdict(_found["one"]).remedy),
    why="its kernel became slower: the seconds may not be quoted, and the remedy must be named",
    got=noise_verdict(_found["one"]),
)

# %% check="claim_only_what_holds"
_wrong = sum(
    compare(_noisy(2 * s, 1.0, 0.1), _noisy(2 * s + 1, 1.0, 0.1)).verdict != "no difference"
    for s in range(60)
)
check.true(
    "claims of a difference among 60 pairs without any",
    _wrong <= 8,
    why="about one in twenty at 95 %",
    got=_wrong,
)
_right = [
    compare(_noisy(s, 1.0, 0.05), _noisy(100 + s, 1.1, 0.05)).verdict for s in range(20)
].count("faster")
check.true("of 20 pairs of which the first is 10 % faster, found so", _right >= 17,
           why="40 rounds with 5 % of noise are enough to see it", got=_right)  # fmt: skip
_covered = 0
for _seed in range(100):
    _low, _high = bootstrap_interval(_noisy(_seed, 1.0, 0.2, 30), seed=_seed)
    _covered += _low <= 1.0 <= _high
check.true("of 100 intervals of 95 %, those that hold the true median", 85 <= _covered <= 100,
           why="that is what 95 % means", got=_covered)  # fmt: skip
_summary = summarize((3.0, 1.0, 2.0, 10.0, 4.0, 5.0, 6.0))
check.equal("median and minimum of seven", (_summary.median, _summary.minimum), (4.0, 1.0),
            why="one slow sample moves neither")  # fmt: skip
check.true(
    "a quiet measurement",
    noise_verdict(Measurement("quiet", _noisy(1, 1.0, 0.005), _noisy(2, 1.0, 0.005), 10)).valid,
    why="half a percent of noise on both",
)

# %% check="see_the_tail"
_latencies = [0.010] * 970 + [0.500] * 30
check.equal(
    "p50 and p99 of 1,000 answers of which 30 were stuck",
    (percentile(_latencies, 50), percentile(_latencies, 99)),
    (0.010, 0.500),
    why="the mean, 24.7 ms, is what nobody waited for",
)
check.raises(
    "p99 of 50 latencies", ValueError, lambda: percentile([0.01] * 50, 99),
    why="there is hardly one among them that is so slow",
)  # fmt: skip
_time = _Time()
_alone = single_stream(_time.work(0.02), list(range(10)), clock=_time)
check.true(
    "p90 of one user whose every query takes 20 ms",
    abs(_alone.value - 0.02) < 1e-9 and not _alone.why,
    why="sent one at a time, none waits for another",
    got=_alone,
)
_loads = {}
for _rate in (10.0, 45.0):
    _time = _Time()
    _loads[_rate] = server(
        _time.work(0.02), list(range(10)), rate=_rate, bound=0.1, clock=_time, sleep=_time.sleep
    )
check.true(
    "p99 at 10 queries per second, and at 45 of 50 that are possible",
    _loads[10.0].latency.percentiles[99] < 0.1 < _loads[45.0].latency.percentiles[99],
    why="queries come in bunches: close to the limit they queue",
    got={rate: found.latency.percentiles for rate, found in _loads.items()},
)
check.true(
    "which of the two is valid within 100 ms",
    not _loads[10.0].why and bool(_loads[45.0].why),
    why="a bound that is not kept is said",
    got=[found.why for found in _loads.values()],
)
_time = _Time()
_bulk = offline(lambda query: _time.work(0.005 * len(query))(), list(range(10)), clock=_time)
check.true(
    "samples per second, everything at once",
    abs(_bulk.value - 200) < 1e-6 and _bulk.metric != _alone.metric,
    why="5 ms each; offline is judged by throughput",
    got=_bulk,
)

# %% check="choose_what_nobody_beats"
check.equal(
    "of (seconds, bytes): (1, 9), (2, 5), (3, 5), (4, 1), (5, 2)",
    pareto_front([(1, 9), (2, 5), (3, 5), (4, 1), (5, 2)]),
    [0, 1, 3],
    why="(3, 5) is no smaller than (2, 5) and slower; (5, 2) loses in both to (4, 1)",
)
check.equal(
    "of (seconds, accuracy) with more accuracy wanted",
    pareto_front([(1, 0.8), (2, 0.9), (3, 0.85)], minimize=(True, False)),
    [0, 1],
    why="the third is slower than the second and less accurate",
)
