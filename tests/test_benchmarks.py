"""The benchmark's arithmetic and its command. What it measures is not asserted: machines differ."""

import json
import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parent.parent
measure = SimpleNamespace(**runpy.run_path(str(ROOT / "benchmarks" / "measure.py")))
interleave, ratio = measure.interleave, measure.ratio
spread, verdict = measure.spread, measure.verdict
QUIET = [spread([1.0, 1.01, 0.99])]


def test_spread_is_median_and_quartiles():
    found = spread([5.0, 1.0, 2.0, 4.0, 3.0])
    assert (found.low, found.median, found.high) == (2.0, 3.0, 4.0)


def test_ratio_is_taken_round_by_round():
    # The machine was ten times slower in the last round, for both: it must not show.
    found = ratio(theirs=[2.0, 2.0, 20.0], ours=[1.0, 1.0, 10.0])
    assert (found.low, found.median, found.high) == (2.0, 2.0, 2.0)


@pytest.mark.parametrize(
    ("ratios", "goal", "words"),
    [
        ([1.2, 1.3, 1.4], None, "faster"),
        ([0.7, 0.8, 0.9], None, "slower"),
        ([0.8, 1.1, 1.4], None, "no difference"),
        ([1.2, 1.3, 1.4], 1.0, "faster; met"),
        ([1.2, 1.3, 1.4], 1.5, "faster; NOT met"),
        ([0.7, 0.8, 0.9], 0.5, "slower; met"),
        ([0.6, 1.1, 1.7], 1.0, "no difference; NOT met"),
    ],
)
def test_verdict_claims_no_more_than_the_quartiles_allow(ratios, goal, words):
    assert verdict(spread(ratios), QUIET, goal) == words


def test_verdict_of_noise_is_no_verdict():
    assert verdict(spread([3.0, 3.1]), [spread([1.0, 2.0, 6.0])], 1.0).startswith("too noisy")


def test_interleave_runs_every_side_once_a_round():
    calls = []
    sides = {name: lambda name=name: calls.append(name) or 0.0 for name in "ab"}
    assert interleave(sides, 5) == {"a": [0.0] * 5, "b": [0.0] * 5}
    assert all(sorted(calls[i : i + 2]) == ["a", "b"] for i in range(0, 10, 2))


def test_command_measures_one_row_and_writes_it(tmp_path):
    file = tmp_path / "found.json"
    command = [
        sys.executable,
        "-m",
        "benchmarks",
        "--quick",
        "--only",
        "scalar",
        "--json",
        str(file),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "scalar multiply" in done.stdout
    found = json.loads(file.read_text())
    assert found["schema"] == 1
    assert found["machine"]["blas"]
    [row] = found["rows"]
    assert row["threads"] == 1
    assert 0 < row["ours"]["low"] <= row["ours"]["median"] <= row["ours"]["high"]


def test_command_refuses_a_row_that_does_not_exist():
    command = [sys.executable, "-m", "benchmarks", "--quick", "--only", "warp drive"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "warp drive" in done.stderr
