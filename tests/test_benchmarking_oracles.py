"""Module 19 against the harnesses of others: pyperf on the same work, LoadGen on the same system.

LoadGen runs on the real clock, so its system answers by `time.sleep` of fixed lengths. Compared are
counts, rules of percentiles, and latencies: they may be longer than the sleep, but never shorter.
"""

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import mlperf_loadgen as loadgen
import numpy as np
import pytest
from tinytorch.benchmarking import (
    Minimum,
    measure,
    multi_stream,
    offline,
    percentile,
    poisson_arrivals,
    queries_needed,
    rounds_needed,
    single_stream,
)

from tito import course, export, source

WORK = "sum(i * i for i in range(20_000))"  # a millisecond or so of pure Python


# pyperf -----------------------------------------------------------------------------------------


def test_pyperf_measures_the_same_work_alike(tmp_path: Path) -> None:
    """Both say how long it takes, in a child and in this process. A shared machine may be slower
    for seconds at a time, and noise only adds: so the fastest samples are compared, within a factor
    of two, and once in four tries is enough. A mistake in units, repetitions or division would be a
    factor of a thousand, or of the repetitions, in every try."""
    ratios = []
    for attempt in range(4):
        result = tmp_path / f"pyperf_{attempt}.json"
        options = ["-q", "-p2", "-n5", "-w1", "-l16", "-o", str(result)]
        command = [sys.executable, "-m", "pyperf", "timeit", *options, WORK]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
        runs = json.loads(result.read_text())["benchmarks"][0]["runs"]
        theirs = min(value for run in runs for value in run.get("values", []))
        ours = measure(lambda: sum(i * i for i in range(20_000)), rounds=10, seconds=0.02)
        ratios.append(ours.summary.minimum / theirs)
        if 0.5 <= ratios[-1] <= 2:
            return
    pytest.fail(f"ours / pyperf's: {ratios}")


# LoadGen ----------------------------------------------------------------------------------------


@dataclass
class Run:
    """What LoadGen asked and what it reported."""

    queries: list[int] = field(default_factory=list)
    summary: dict[str, str] = field(default_factory=dict)

    def seconds(self, name: str) -> float:
        return int(self.summary[name]) / 1e9


def load(folder: Path, scenario: str, nap: Callable[[int], float], **settings: object) -> Run:
    """LoadGen plays a scenario on a system that sleeps nap(samples of the query) seconds."""
    run, options = Run(), loadgen.TestSettings()
    options.scenario = getattr(loadgen.TestScenario, scenario)
    options.mode = loadgen.TestMode.PerformanceOnly
    for name, value in settings.items():
        setattr(options, name, value)

    def issue(samples: list[loadgen.QuerySample]) -> None:
        run.queries.append(len(samples))
        time.sleep(nap(len(samples)))
        loadgen.QuerySamplesComplete([loadgen.QuerySampleResponse(s.id, 0, 0) for s in samples])

    system = loadgen.ConstructSUT(issue, lambda: None)
    library = loadgen.ConstructQSL(64, 64, lambda _: None, lambda _: None)
    output, log = loadgen.LogOutputSettings(), loadgen.LogSettings()
    output.outdir, log.log_output = str(folder), output
    loadgen.StartTestWithLogSettings(system, library, options, log, "")
    loadgen.DestroyQSL(library)
    loadgen.DestroySUT(system)
    for line in (folder / "mlperf_log_summary.txt").read_text().splitlines():
        name, colon, value = line.partition(":")
        if colon:
            run.summary[name.strip()] = value.strip()
    return run


@pytest.mark.parametrize(("queries", "milliseconds"), [(120, 100), (40, 300)])
def test_loadgen_single_stream_stops_by_the_same_rule(tmp_path, queries, milliseconds) -> None:
    """At least so many queries AND at least so long, one sample each, the next after the answer."""
    theirs = load(
        tmp_path,
        "SingleStream",
        lambda n: 0.004,
        min_query_count=queries,
        min_duration_ms=milliseconds,
    )
    minimum = Minimum(milliseconds / 1000, queries)
    ours = single_stream(lambda q: time.sleep(0.004), range(64), minimum=minimum)
    assert set(theirs.queries) == {1}
    for count in (len(theirs.queries), ours.queries):
        assert queries <= count <= max(queries, milliseconds / 4) + 2
    assert ours.value >= 0.004 and theirs.seconds("90.00 percentile latency (ns)") >= 0.004
    assert ours.latency.minimum >= 0.004 and theirs.seconds("Min latency (ns)") >= 0.004


def test_loadgen_percentile_is_ours_or_its_neighbour(tmp_path) -> None:
    """LoadGen takes number floor(n * q) + 1 in order of size, nearest rank number ceil(n * q).

    A system whose naps grow from query to query by 0.2 ms; both rules pick from the same naps."""
    naps = iter(0.001 + 0.0002 * np.arange(200))
    theirs = load(
        tmp_path,
        "SingleStream",
        lambda n: next(naps),
        min_query_count=100,
        min_duration_ms=0,
        max_query_count=100,
    )
    nominal = 0.001 + 0.0002 * np.arange(100)
    got = theirs.seconds("90.00 percentile latency (ns)")
    assert len(theirs.queries) == 100
    assert percentile(nominal, 90) == nominal[89] and nominal[90] <= got
    assert got < nominal[90] + 0.2  # what a busy machine may add to a nap


def test_loadgen_multi_stream_asks_for_whole_queries(tmp_path) -> None:
    theirs = load(
        tmp_path,
        "MultiStream",
        lambda n: 0.0005 * n,
        min_query_count=30,
        min_duration_ms=0,
        max_query_count=30,
        multi_stream_samples_per_query=6,
    )
    sizes = []
    ours = multi_stream(
        lambda q: sizes.append(len(q)) or time.sleep(0.0005 * len(q)),
        range(64),
        streams=6,
        minimum=Minimum(0.0, 30),
    )
    assert set(theirs.queries) == set(sizes) == {6}
    assert (len(theirs.queries), ours.queries, ours.samples) == (
        30,
        queries_needed(99),
        6 * queries_needed(99),
    )
    assert ours.latency.minimum >= 0.003


def test_loadgen_offline_is_one_query_of_all_samples(tmp_path) -> None:
    theirs = load(
        tmp_path,
        "Offline",
        lambda n: 0.001 * n,
        min_query_count=1,
        min_duration_ms=200,
        offline_expected_qps=1000.0,
    )
    sizes = []
    ours = offline(
        lambda q: sizes.append(len(q)) or time.sleep(0.001 * len(q)), range(64), Minimum(0.2, 64)
    )
    assert len(theirs.queries) == 1 and theirs.queries[0] >= 200
    assert ours.queries == 1 and ours.samples == sizes[-1] >= 200
    assert ours.value <= 1000 and float(theirs.summary["Samples per second"]) <= 1000
    assert ours.value >= 200 and float(theirs.summary["Samples per second"]) >= 200


def test_loadgen_server_arrivals_are_as_random_as_ours(tmp_path) -> None:
    """The times at which LoadGen issues 400 queries against those of poisson_arrivals: the same
    mean gap, and alike distributions (Kolmogorov-Smirnov distance at the 0.1 % level, plus 0.2
    for what a busy machine delays)."""
    times: list[float] = []
    load(
        tmp_path,
        "Server",
        lambda n: times.append(time.perf_counter()) or 0.0,
        min_query_count=400,
        min_duration_ms=0,
        max_query_count=400,
        server_target_qps=500.0,
        server_target_latency_ns=10**9,
    )
    theirs, ours = np.diff(times), np.diff(poisson_arrivals(500.0, 4000))
    assert len(times) == 400
    assert theirs.mean() == pytest.approx(0.002, rel=0.25) and ours.mean() == pytest.approx(
        0.002, rel=0.06
    )
    points = np.linspace(0, 0.01, 200)
    gap = np.abs([(theirs <= p).mean() - (ours <= p).mean() for p in points]).max()
    assert gap < 1.95 * math.sqrt(1 / 400 + 1 / 4000) + 0.2


# Tables and definitions -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("p", "margin", "published", "rounded"),
    [
        (0.90, 0.005, 23_886, 24_576),
        (0.95, 0.0025, 50_425, 57_344),
        (0.99, 0.0005, 262_742, 270_336),
    ],
)
def test_published_query_counts_follow_from_the_formula_taught(
    p, margin, published, rounded
) -> None:
    """Reddi et al. 2020: z² p (1 - p) / m² at 99 % confidence, up to the next multiple of 2¹³."""
    from statistics import NormalDist

    z = NormalDist().inv_cdf(0.995)
    assert round(z**2 * p * (1 - p) / margin**2) == pytest.approx(published, abs=1)
    assert math.ceil(published / 2**13) * 2**13 == rounded


def test_rounds_needed_is_the_binomial_sum() -> None:
    """The truth lies between smallest and largest unless all n samples fall on one side of it."""
    for n in range(2, 12):
        inside = sum(math.comb(n, k) for k in range(1, n)) / 2**n
        assert rounds_needed(inside) == n


def test_the_harness_runs_without_the_course(tmp_path) -> None:
    """`tito benchmark` loads this module's source alone: NumPy and the standard library will do."""
    module = next(m for m in course.modules() if m.export == "benchmarking")
    (tmp_path / "harness.py").write_text(export.export(source.read(module.path)), encoding="utf-8")
    script = (
        "import sys, numpy, harness\n"
        "m = harness.measure(lambda: sum(range(1000)), rounds=6, seconds=0.001)\n"
        "assert len(m.samples) == len(m.kernel) == 6\n"
        "allowed = set(sys.stdlib_module_names) | {'numpy', 'harness', '__main__', '__mp_main__'}\n"
        "modules = [v for v in vars(harness).values() if hasattr(v, '__loader__')]\n"
        "mine = {module.__name__.split('.')[0] for module in modules}\n"
        "assert mine <= allowed, mine\n"
        "assert not {'tinytorch', 'tito'} & set(sys.modules), sorted(sys.modules)\n"
    )
    (tmp_path / "run.py").write_text(script, encoding="utf-8")
    clean = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "TINYTORCH")}
    subprocess.run([sys.executable, "run.py"], cwd=tmp_path, env=clean, check=True, timeout=60)
