# %% [markdown]
"""
# 19 · Benchmarking
"""

# %% given="imports"
#| default_exp benchmarking
#| export
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Clock = Callable[[], float]  # seconds, from any beginning: only differences are used
Function = Callable[[], object]  # the work to be timed: no arguments, the result is thrown away

# %% exercise="time_block"
#| export
def time_block(function: Function, repetitions: int, clock: Clock = time.perf_counter) -> float:
    """Seconds per call: the clock is read once before and once after `repetitions` calls.

    >>> ticks = iter([10.0, 13.0])
    >>> time_block(lambda: None, 6, clock=lambda: next(ticks))
    0.5
    """
    ### BEGIN SOLUTION
    start = clock()
    for _ in range(repetitions):
        function()
    return (clock() - start) / repetitions
    ### END SOLUTION

# %% given="refuse_still_clock"
#| exporti
def _refuse_still_clock(spent: float, repetitions: int) -> None:
    """Raises ValueError if many calls took no time at all: no number of them would fill a block."""
    if spent <= 0 and repetitions >= 2**16:
        raise ValueError(
            f"calibrate: {repetitions:,} calls took {spent:g} s by this clock: it stands still. "
            "Give a clock that the work moves on, such as time.perf_counter."
        )

# %% exercise="calibrate"
#| export
def calibrate(function: Function, target: float = 0.05, clock: Clock = time.perf_counter) -> int:
    """The repetitions, a power of two, with which a block lasts at least `target` seconds.

    Raises ValueError if the clock stands still.
    Cost: blocks of 1, 2, 4, ... calls, together less than twice the last one.

    >>> now = [0.0]
    >>> def work():
    ...     now[0] += 0.25
    >>> calibrate(work, target=1.5, clock=lambda: now[0])
    8
    """
    ### BEGIN SOLUTION
    repetitions = 1
    while (spent := repetitions * time_block(function, repetitions, clock)) < target:
        _refuse_still_clock(spent, repetitions)
        repetitions *= 2
    return repetitions
    ### END SOLUTION

# %% exercise="warm_up"
#| export
def warm_up(
    function: Function,
    repetitions: int = 1,
    window: int = 3,
    tolerance: float = 0.05,
    limit: int = 50,
    clock: Clock = time.perf_counter,
) -> int:
    """Run blocks until the times are steady, and return how many it took, at most `limit`.

    Steady: the median of the last `window` blocks differs from the median of the `window` blocks
    before them by at most `tolerance` times the latter.
    """
    ### BEGIN SOLUTION
    times: list[float] = []
    while len(times) < limit:
        times.append(time_block(function, repetitions, clock))
        if len(times) >= 2 * window:
            before = float(np.median(times[-2 * window : -window]))
            if abs(float(np.median(times[-window:])) - before) <= tolerance * before:
                break
    return len(times)
    ### END SOLUTION

# %% given="rounds_needed"
#| export
def rounds_needed(level: float = 0.95) -> int:
    """The fewest samples whose smallest and largest enclose the true median with this probability.

    All n lie on the same side of it with probability 2 * 0.5**n.

    >>> rounds_needed(0.95), rounds_needed(0.99)
    (6, 8)
    """
    return math.ceil(1 - math.log2(1 - level))

# %% given="checked"
#| exporti
def _checked(samples: ArrayLike, level: float, name: str) -> NDArray[np.float64]:
    """The samples as an array (n,). Raises ValueError if they are too few, or not finite."""
    array = np.asarray(samples, dtype=np.float64)
    if array.ndim != 1 or not np.isfinite(array).all():
        raise ValueError(f"{name}: samples of shape {array.shape}. Give a list of finite numbers.")
    if len(array) < rounds_needed(level):
        raise ValueError(
            f"{name}: {len(array)} samples cannot carry an interval of {100 * level:g} %, "
            f"at least {rounds_needed(level)} can. Measure more rounds."
        )
    return array

# %% exercise="bootstrap_interval"
#| export
def bootstrap_interval(
    samples: ArrayLike,
    statistic: Callable[..., Any] = np.median,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """The interval in which `statistic` of the samples lies in `level` of all resamplings.

    samples (n,); statistic(array, axis=1) gives one number per row, as np.median and np.mean do.
    Raises ValueError for fewer samples than `rounds_needed(level)`.
    Cost: resamples * n random numbers. Source: Efron & Tibshirani 1993, chapter 13 (percentiles).

    >>> bootstrap_interval([7.0] * 10)
    (7.0, 7.0)
    """
    array = _checked(samples, level, "bootstrap_interval")
    ### BEGIN SOLUTION
    rng = np.random.default_rng(seed)
    picks = rng.integers(0, len(array), (resamples, len(array)))
    values = statistic(array[picks], axis=1)  # (resamples, n) -> (resamples,)
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
    ### END SOLUTION

# %% exercise="summarize"
#| export
@dataclass(frozen=True)
class Summary:
    """n samples: smallest, median, both quartiles, their distance, the interval of the median."""

    n: int
    minimum: float
    median: float
    low: float
    high: float
    iqr: float
    interval: tuple[float, float]

    def __str__(self) -> str:
        low, high = (f"{1e3 * end:.4g}" for end in self.interval)
        return f"{1e3 * self.median:.4g} ms ({low} to {high}), n = {self.n}"


def summarize(samples: ArrayLike) -> Summary:
    """The figures that describe n samples in seconds: see Summary; the interval is one of 95 %.

    Raises ValueError for fewer than 6 samples.

    >>> summarize([5.0, 1.0, 2.0, 3.0, 4.0, 100.0, 0.0]).median
    3.0
    """
    interval = bootstrap_interval(samples)
    ### BEGIN SOLUTION
    array = np.asarray(samples, dtype=np.float64)
    low, median, high = (float(q) for q in np.quantile(array, [0.25, 0.5, 0.75]))
    return Summary(len(array), float(array.min()), median, low, high, high - low, interval)
    ### END SOLUTION

# %% given="Measurement"
#| export
_INPUT = np.linspace(0.0, 1.0, 2**16, dtype=np.float32)
_OUTPUT = np.empty_like(_INPUT)


def calibration_kernel() -> None:
    """Always the same work, of about a millisecond, on one core: its time shows the machine alone.

    Arithmetic and 256 KB in, 256 KB out, without an allocation or a matrix product.
    """
    np.copyto(_OUTPUT, _INPUT)
    for _ in range(20):
        np.multiply(_OUTPUT, _OUTPUT, out=_OUTPUT)
        np.add(_OUTPUT, _INPUT, out=_OUTPUT)
        np.sqrt(_OUTPUT, out=_OUTPUT)


@dataclass(frozen=True)
class Measurement:
    """Seconds per call of one function, one per round, and of the kernel in the same rounds."""

    name: str
    samples: tuple[float, ...]
    kernel: tuple[float, ...]
    repetitions: int

    @property
    def summary(self) -> Summary:
        """Median, quartiles and interval of the samples."""
        return summarize(self.samples)

# %% exercise="interleave"
#| export
def interleave(
    functions: Mapping[str, Function],
    rounds: int = 20,
    seconds: float = 0.05,
    seed: int = 0,
    clock: Clock = time.perf_counter,
    kernel: Function = calibration_kernel,
) -> dict[str, Measurement]:
    """Measure functions side by side: in every round a block of each, and of the kernel.

    Each is calibrated to blocks of `seconds` and warmed up first. The order is drawn anew in every
    round, by `seed`. Cost: about (rounds + warm-up) * seconds for each function and the kernel.
    """
    works = [*functions.values(), kernel]  # the kernel takes part like any other: it is the last
    ### BEGIN SOLUTION
    counts = [calibrate(work, seconds, clock) for work in works]
    for work, count in zip(works, counts):
        warm_up(work, count, clock=clock)
    times: list[list[float]] = [[] for _ in works]
    rng = np.random.default_rng(seed)
    for _ in range(rounds):
        for i in rng.permutation(len(works)):
            times[i].append(time_block(works[i], counts[i], clock))
    ### END SOLUTION
    return {
        name: Measurement(name, tuple(times[i]), tuple(times[-1]), counts[i])
        for i, name in enumerate(functions)
    }

# %% given="measure"
#| export
def measure(
    function: Function,
    rounds: int = 20,
    seconds: float = 0.05,
    clock: Clock = time.perf_counter,
    name: str = "",
    kernel: Function = calibration_kernel,
) -> Measurement:
    """Measure one function: `rounds` blocks of `seconds`, the kernel beside it."""
    name = name or getattr(function, "__name__", "function")
    return interleave({name: function}, rounds, seconds, clock=clock, kernel=kernel)[name]

# %% exercise="compare"
#| export
@dataclass(frozen=True)
class Comparison:
    """a against b: time of a / time of b, its interval, and what may be said about a."""

    ratio: float
    interval: tuple[float, float]
    verdict: Literal["faster", "slower", "no difference"]

    @property
    def speedup(self) -> float:
        """Time of b / time of a."""
        return 1 / self.ratio

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.verdict}: {self.ratio:.3f} times the time ({low:.3f} to {high:.3f})"


def compare(
    a: Measurement | Sequence[float], b: Measurement | Sequence[float], level: float = 0.95
) -> Comparison:
    """Is a faster or slower than b? Paired by round: sample i of a was taken beside sample i of b.

    The ratio is the median of the rounds' ratios. Without an interval wholly on one side of 1
    the verdict is "no difference".
    Raises ValueError if the numbers of rounds differ, or are too few for the level.

    >>> compare([1.0] * 6, [2.0] * 6)
    Comparison(ratio=0.5, interval=(0.5, 0.5), verdict='faster')
    """
    first = np.asarray(a.samples if isinstance(a, Measurement) else a, dtype=np.float64)
    second = np.asarray(b.samples if isinstance(b, Measurement) else b, dtype=np.float64)
    if len(first) != len(second):
        raise ValueError(
            f"compare: {len(first)} rounds against {len(second)}. Rounds are compared in pairs: "
            "measure both together, with interleave."
        )
    ### BEGIN SOLUTION
    ratios = first / second
    low, high = bootstrap_interval(ratios, level=level)
    verdict: Literal["faster", "slower", "no difference"] = "no difference"
    if high < 1:
        verdict = "faster"
    elif low > 1:
        verdict = "slower"
    return Comparison(float(np.median(ratios)), (low, high), verdict)
    ### END SOLUTION

# %% given="Verdict"
#| export
@dataclass(frozen=True)
class Verdict:
    """Whether a measurement may be quoted, why (not), and what to do about it."""

    valid: bool
    reason: str
    remedy: str = ""

    def __str__(self) -> str:
        return " ".join(["VALID:" if self.valid else "INVALID:", self.reason, self.remedy]).strip()

# %% exercise="spread_and_drift"
#| export
def spread(samples: Sequence[float]) -> float:
    """The distance between the quartiles as a share of the median.

    >>> spread([8.0, 9.0, 10.0, 11.0, 12.0])
    0.2
    """
    ### BEGIN SOLUTION
    low, median, high = np.quantile(samples, [0.25, 0.5, 0.75])
    return float((high - low) / median)
    ### END SOLUTION


def drift(samples: Sequence[float]) -> float:
    """How much slower the second half is than the first: ratio of their medians, minus 1.

    With an odd number the sample in the middle belongs to neither half.

    >>> drift([2.0, 2.0, 9.0, 3.0, 3.0])
    0.5
    """
    half = len(samples) // 2
    return float(np.median(samples[-half:]) / np.median(samples[:half])) - 1

# %% exercise="noise_verdict"
#| export
def noise_verdict(measurement: Measurement, limit: float = 0.05) -> Verdict:
    """Whether the machine was quiet and the function steady enough for the numbers to be quoted.

    In this order: enough rounds; a kernel sample for each; the kernel neither drifts nor spreads by
    more than `limit`; the function neither, by more than twice that.
    """
    samples, kernel = measurement.samples, measurement.kernel
    ### BEGIN SOLUTION
    if len(samples) < rounds_needed():
        return Verdict(
            False,
            f"{len(samples)} rounds are too few for an interval.",
            f"Measure at least {rounds_needed()}, better 20.",
        )
    if len(kernel) != len(samples):
        return Verdict(
            False,
            f"{len(kernel)} kernel samples for {len(samples)} rounds: the machine was not watched.",
            "Measure with interleave or measure.",
        )
    if abs(drift(kernel)) > limit:
        return Verdict(
            False,
            f"the machine drifted: the same work took {drift(kernel):+.0%} in the second half.",
            "Wait until it is cool and idle, then measure again.",
        )
    if spread(kernel) > limit:
        return Verdict(
            False,
            f"the machine is busy: the same work spread by {spread(kernel):.0%}.",
            "Close other programs, then measure again.",
        )
    if max(abs(drift(samples)), spread(samples)) > 2 * limit:
        return Verdict(
            False,
            f"the machine is quiet, the function is not: spread {spread(samples):.0%}, "
            f"drift {drift(samples):+.0%}.",
            "Give it the same input each time, warm it up longer, or report percentiles.",
        )
    ### END SOLUTION
    return Verdict(
        True,
        f"{len(samples)} rounds, spread {spread(samples):.1%}, kernel {spread(kernel):.1%}.",
    )

# %% exercise="queries_needed"
#| export
def queries_needed(q: float, confidence: float = 0.95) -> int:
    """The fewest queries of which, with this confidence, at least one is slower than percentile q.

    q in percent, 0 < q < 100. All n are faster with probability (q / 100)**n.
    Source: Wilks 1941, one-sided tolerance limits.

    >>> queries_needed(90), queries_needed(99)
    (29, 299)
    """
    ### BEGIN SOLUTION
    return math.ceil(math.log(1 - confidence) / math.log(q / 100))
    ### END SOLUTION

# %% exercise="percentile"
#| export
def percentile(latencies: ArrayLike, q: float) -> float:
    """Percentile q by nearest rank: the smallest latency that at least q % do not exceed.

    It is one of the latencies, number ceil(q / 100 * n) in order of size: nothing is interpolated.
    Raises ValueError, with the number needed, for fewer than `queries_needed(q)` latencies.

    >>> percentile([5.0, 1.0, 2.0, 4.0, 3.0], 50)
    3.0
    """
    values = np.asarray(latencies, dtype=np.float64)
    ### BEGIN SOLUTION
    if len(values) < queries_needed(q):
        raise ValueError(
            f"percentile: p{q:g} of {len(values)} queries says nothing, it needs "
            f"{queries_needed(q)}. Run longer, or report a lower percentile."
        )
    rank = math.ceil(q * len(values) / 100)
    return float(np.sort(values)[rank - 1])
    ### END SOLUTION

# %% given="LatencyReport"
#| export
@dataclass(frozen=True)
class LatencyReport:
    """n latencies in seconds: mean, extremes, and the percentiles that n supports."""

    n: int
    mean: float
    minimum: float
    maximum: float
    percentiles: dict[float, float]

    def __str__(self) -> str:
        parts = [f"p{q:g} {1e3 * value:.3g}" for q, value in self.percentiles.items()]
        return f"n = {self.n}, mean {1e3 * self.mean:.3g}, {', '.join(parts)} ms"


def latency_report(latencies: Sequence[float], qs: Sequence[float] = (50, 90, 99)) -> LatencyReport:
    """Mean, extremes and those of the percentiles `qs` for which there are enough latencies."""
    supported = [q for q in qs if len(latencies) >= queries_needed(q)]
    return LatencyReport(
        len(latencies),
        float(np.mean(latencies)),
        min(latencies),
        max(latencies),
        {q: percentile(latencies, q) for q in supported},
    )

# %% given="Scenario"
#| export
class Minimum(NamedTuple):
    """How long a scenario lasts at least, and how many queries it has (Offline: samples)."""

    seconds: float
    queries: int


COURSE = {
    "SingleStream": Minimum(1.0, 100),
    "MultiStream": Minimum(1.0, 300),
    "Server": Minimum(1.0, 300),
    "Offline": Minimum(1.0, 300),
}
MLPERF = {  # Reddi et al. 2020, section IV and tables IV and V
    "SingleStream": Minimum(60.0, 1024),
    "MultiStream": Minimum(60.0, 270336),
    "Server": Minimum(60.0, 270336),
    "Offline": Minimum(60.0, 24576),
}
Respond = Callable[[list[Any]], object]  # the system under test: answers a list of samples


@dataclass(frozen=True)
class Scenario:
    """What one run gave. `value` is what the scenario is judged by, in the unit of `metric`."""

    name: str
    queries: int
    samples: int
    duration: float
    latency: LatencyReport
    metric: str
    value: float
    valid: bool
    why: str

    @property
    def throughput(self) -> float:
        """Samples per second."""
        return self.samples / self.duration

    def __str__(self) -> str:
        verdict = "VALID" if self.valid else "INVALID"
        return f"{self.name}: {self.metric} {self.value:.4g}, {verdict}: {self.why}"

# %% given="shortfall"
#| exporti
def _shortfall(minimum: Minimum, queries: int, duration: float) -> str:
    """What is missing to the minimum, as a sentence; empty if nothing is."""
    if queries >= minimum.queries and duration >= minimum.seconds:
        return ""
    return (
        f"{queries} queries in {duration:.3g} s, at least {minimum.queries} in "
        f"{minimum.seconds:g} s wanted. Raise the limit, or take a faster system."
    )

# %% exercise="closed_loop"
#| export
def closed_loop(
    respond: Respond,
    samples: Sequence[Any],
    size: int,
    minimum: Minimum,
    limit: float = 60.0,
    seed: int = 0,
    clock: Clock = time.perf_counter,
) -> tuple[list[float], float]:
    """Queries of `size` samples, each sent when the one before is answered: latencies, duration.

    The samples of a query are drawn by `seed`. Ends when there are minimum.queries and
    minimum.seconds have passed; in any case after `limit` seconds.
    """
    rng = np.random.default_rng(seed)
    latencies: list[float] = []
    ### BEGIN SOLUTION
    begin, elapsed = clock(), 0.0
    while elapsed < limit and (len(latencies) < minimum.queries or elapsed < minimum.seconds):
        query = [samples[i] for i in rng.integers(0, len(samples), size)]
        start = clock()
        respond(query)
        end = clock()
        latencies.append(end - start)
        elapsed = end - begin
    return latencies, elapsed
    ### END SOLUTION

# %% given="judged"
#| exporti
def _judged(
    name: str, latencies: list[float], size: int, duration: float, q: int, minimum: Minimum
) -> Scenario:
    """The result of a closed loop, judged by percentile q of its latencies."""
    report, n = latency_report(latencies), len(latencies)
    why = _shortfall(minimum, n, duration)
    if not why and q not in report.percentiles:
        why = f"{n} queries cannot carry p{q}, {queries_needed(q)} can. Raise the minimum."
    value = report.percentiles.get(q, math.nan)
    fine = f"{n} queries in {duration:.3g} s"
    return Scenario(
        name, n, n * size, duration, report, f"p{q} latency (s)", value, not why, why or fine
    )

# %% given="single_stream"
#| export
def single_stream(
    respond: Respond,
    samples: Sequence[Any],
    minimum: Minimum = COURSE["SingleStream"],
    limit: float = 60.0,
    seed: int = 0,
    clock: Clock = time.perf_counter,
) -> Scenario:
    """One user, one sample at a time, the next when the last is answered. Judged by p90 latency."""
    latencies, duration = closed_loop(respond, samples, 1, minimum, limit, seed, clock)
    return _judged("SingleStream", latencies, 1, duration, 90, minimum)


def multi_stream(
    respond: Respond,
    samples: Sequence[Any],
    streams: int = 8,
    minimum: Minimum = COURSE["MultiStream"],
    limit: float = 60.0,
    seed: int = 0,
    clock: Clock = time.perf_counter,
) -> Scenario:
    """`streams` samples in each query (cameras of one car, say). Judged by p99 latency."""
    latencies, duration = closed_loop(respond, samples, streams, minimum, limit, seed, clock)
    return _judged("MultiStream", latencies, streams, duration, 99, minimum)

# %% exercise="poisson_arrivals"
#| export
def poisson_arrivals(rate: float, count: int, seed: int = 0) -> NDArray[np.float64]:
    """The times, in seconds from 0, at which `count` queries arrive independently of each other.

    rate: queries per second on average. The gaps are exponential with mean 1 / rate, the first
    query comes after one gap.
    """
    rng = np.random.default_rng(seed)
    ### BEGIN SOLUTION
    return np.cumsum(rng.exponential(1 / rate, count))
    ### END SOLUTION

# %% exercise="open_loop"
#| export
def open_loop(
    respond: Respond,
    samples: Sequence[Any],
    arrivals: Sequence[float] | NDArray[np.float64],
    limit: float = 60.0,
    seed: int = 0,
    clock: Clock = time.perf_counter,
    sleep: Callable[[float], object] = time.sleep,
) -> tuple[list[float], float]:
    """Queries of one sample that arrive at fixed times, answered in turn: latencies, duration.

    A query's latency begins when it arrives, even if the system is still busy with earlier ones.
    After `limit` seconds no more queries are taken.
    """
    rng = np.random.default_rng(seed)
    latencies: list[float] = []
    begin = clock()
    ### BEGIN SOLUTION
    for arrival in arrivals:
        early = arrival - (clock() - begin)
        if early > 0:
            sleep(early)
        if clock() - begin >= limit:
            break
        respond([samples[int(rng.integers(0, len(samples)))]])
        latencies.append(float(clock() - begin - arrival))
    ### END SOLUTION
    return latencies, clock() - begin

# %% given="server"
#| export
def server(
    respond: Respond,
    samples: Sequence[Any],
    rate: float,
    bound: float,
    minimum: Minimum = COURSE["Server"],
    limit: float = 60.0,
    seed: int = 0,
    clock: Clock = time.perf_counter,
    sleep: Callable[[float], object] = time.sleep,
) -> Scenario:
    """Queries that come when they come, `rate` per second. Valid if p99 latency is within `bound`.

    rate in queries per second, bound in seconds. Judged by the rate that was served.
    """
    most = max(minimum.queries, math.ceil(rate * minimum.seconds))
    arrivals = poisson_arrivals(rate, 2 * most + 20, seed)
    arrivals = arrivals[: max(minimum.queries, int(np.searchsorted(arrivals, minimum.seconds)) + 1)]
    latencies, duration = open_loop(respond, samples, arrivals, limit, seed, clock, sleep)
    report, n = latency_report(latencies), len(latencies)
    tail = report.percentiles.get(99, math.nan)
    why = _shortfall(minimum, n, duration)
    if not why and not tail <= bound:
        why = f"p99 latency {tail:.3g} s, the bound is {bound:g} s. Lower the rate."
    fine = f"{n} queries in {duration:.3g} s, p99 latency {tail:.3g} s within {bound:g} s"
    return Scenario("Server", n, n, duration, report, "queries/s", rate, not why, why or fine)

# %% exercise="offline"
#| export
def offline(
    respond: Respond,
    samples: Sequence[Any],
    minimum: Minimum = COURSE["Offline"],
    limit: float = 60.0,
    seed: int = 0,
    clock: Clock = time.perf_counter,
) -> Scenario:
    """Everything at once: one query that holds all samples. Judged by samples per second.

    Begins with minimum.queries samples and doubles them until one query lasts minimum.seconds;
    stops doubling when a query has lasted more than half of `limit`. The last query counts.
    """
    rng = np.random.default_rng(seed)
    count = minimum.queries
    ### BEGIN SOLUTION
    while True:
        query = [samples[i] for i in rng.integers(0, len(samples), count)]
        start = clock()
        respond(query)
        duration = clock() - start
        if duration >= minimum.seconds or duration > limit / 2:
            break
        _refuse_still_clock(duration, count)
        count *= 2
    ### END SOLUTION
    why = _shortfall(minimum, count, duration)
    fine = f"{count} samples in {duration:.3g} s"
    report = latency_report([duration])
    rate = count / duration
    return Scenario("Offline", 1, count, duration, report, "samples/s", rate, not why, why or fine)

# %% exercise="pareto_front"
#| export
def pareto_front(points: ArrayLike, minimize: bool | Sequence[bool] = True) -> list[int]:
    """The indices of the points that no other point beats, in ascending order.

    points (N, D); minimize: for each of the D figures (or for all) whether less is better.
    A point beats another if it is at least as good in every figure and better in one.
    Raises ValueError for a figure that is nan. Cost: N² * D comparisons.

    >>> pareto_front([(1.0, 9.0), (2.0, 5.0), (3.0, 7.0)])
    [0, 1]
    """
    table = np.asarray(points, dtype=np.float64)
    if table.ndim != 2 or np.isnan(table).any():
        raise ValueError(
            f"pareto_front: points of shape {table.shape}, or with nan in them. "
            "Give one row of numbers per point; leave out what was not measured."
        )
    ### BEGIN SOLUTION
    costs = np.where(np.broadcast_to(minimize, table.shape[1]), table, -table)
    front = []
    for i, point in enumerate(costs):
        beats = (costs <= point).all(axis=1) & (costs < point).any(axis=1)
        if not beats.any():
            front.append(i)
    return front
    ### END SOLUTION
