"""Timing that can be trusted on a busy machine: interleaved blocks, medians, and their spread."""

import os
import random
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles

ROOT = Path(__file__).resolve().parent.parent
Block = Callable[[], float]


@dataclass(frozen=True)
class Spread:
    """A median and the quartiles around it."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f} [{self.low:.2f}-{self.high:.2f}]"


def spread(values: list[float]) -> Spread:
    """Median and quartiles of at least two values."""
    low, middle, high = quantiles(values, n=4, method="inclusive")
    return Spread(middle, low, high)


def ratio(theirs: list[float], ours: list[float]) -> Spread:
    """How many times faster ours is, round by round; what both sides felt alike cancels."""
    return spread([t / o for t, o in zip(theirs, ours, strict=True)])


def noisy(found: Spread) -> bool:
    """Whether the quartiles are further apart than half the median: not a measurement."""
    return found.high - found.low > found.median / 2


def verdict(found: Spread, times: list[Spread], goal: float | None = None) -> str:
    """In words. A ratio whose quartiles lie on both sides of 1 is no difference."""
    if any(map(noisy, times)):
        return "too noisy to say: is the machine busy?"
    if found.low <= 1 <= found.high:
        words = "no difference"
    else:
        words = "faster" if found.median > 1 else "slower"
    if goal is None:
        return words
    met = found.median >= goal and not (goal >= 1 and words == "no difference")
    return f"{words}; {'met' if met else 'NOT met'}"


class Worker:
    """A process of benchmarks/worker.py for one row and one side."""

    def __init__(self, row: str, side: str, threads: int, env: Mapping[str, str]) -> None:
        count = {f"{name}_NUM_THREADS": str(threads) for name in ("OMP", "OPENBLAS", "MKL")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", row, side, str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, **count, **env},
        )
        self.repetitions = 1

    def seconds(self, repetitions: int) -> float:
        """Seconds that so many repetitions took."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{repetitions}\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())

    def calibrate(self, block: float) -> None:
        """Warm up, and choose repetitions that take about `block` seconds."""
        taken = self.seconds(1)
        while taken < block / 2:
            self.repetitions = max(self.repetitions * 2, 1)
            taken = self.seconds(self.repetitions)

    def __call__(self) -> float:
        """Seconds per repetition, over one block."""
        return self.seconds(self.repetitions) / self.repetitions

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def interleave(sides: Mapping[str, Block], rounds: int) -> dict[str, list[float]]:
    """One block of every side per round, in a random order: slow moments hit all sides alike."""
    order, rng = list(sides), random.Random(0)
    found: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        rng.shuffle(order)
        for name in order:
            found[name].append(sides[name]())
    return found
