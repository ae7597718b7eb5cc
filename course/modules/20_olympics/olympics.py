# %% [markdown]
"""
# 20 · Olympics

Everything is built. The last module is about a system, not a part: take a model that you trained, make it
ten times faster and four times smaller without losing what it knows, and prove it to somebody who does not
believe you. The second half of that sentence is what you write here.

```
you have built     14 profiling, 15 quantization, 16 compression, 17 memoization,
                   18 acceleration, 19 benchmarking, and a framework below them
        |
        v
you build now      a target and its judge, accuracy from raw predictions, the loop that keeps
                   or drops a step, a schema's validator, the record, the picture and the page
        |
        v
this unlocks       tito olympics: your own entry, in four tracks
```

Time: about 7 hours, half of them in your own entry. Every exercise is a cell with a hole in it, and the
cell below it checks your answer. Run `tito watch` in a terminal beside this notebook.
"""

# %% given="imports"
#| default_exp olympics
#| export
import copy
import hashlib
import importlib
import itertools
import json
import math
import os
import platform
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from tinytorch.benchmarking import Measurement, compare, pareto_front

# %% given="tools"
import tempfile
from contextlib import contextmanager
from unittest import mock

import tito.checks as check
from threadpoolctl import threadpool_limits
from tinytorch.benchmarking import interleave
from tinytorch.core.acceleration import accelerated
from tinytorch.core.activations import ReLU
from tinytorch.core.autograd import no_grad
from tinytorch.core.layers import Flatten, Linear, Sequential
from tinytorch.core.losses import CrossEntropyLoss
from tinytorch.core.optimizers import Adam
from tinytorch.core.tensor import Tensor, manual_seed
from tinytorch.data.loader import DataLoader, TensorDataset
from tinytorch.nn.conv import Conv2d, MaxPool2d
from tinytorch.nn.kvcache import bytes_per_token, generate_cached
from tinytorch.nn.transformer import GPT, GPTConfig, generate
from tinytorch.optim.compression import DistillationLoss, magnitude_mask, prune_channels, to_sparse
from tinytorch.optim.quantization import Scheme, dequantize_array, load, quantization_parameters, quantize, quantize_array, save
from tinytorch.profiling import Profiler
from tito.data import load_tinydigits

threadpool_limits(1)  # matrix products on one core, so that times can be compared

TRACK = {"course": "1.0", "target": {"speed": 10.0, "size": 4.0, "latency": 0.1, "accuracy": 0.02}}


@contextmanager
def _folder(files):
    """A folder with these files, {name: bytes}, for as long as it is needed."""
    with tempfile.TemporaryDirectory() as place:
        for name, raw in files.items():
            path = Path(place) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(raw)
        yield Path(place)


@contextmanager
def _entry_folder():
    """olympics/speed of a workspace that has next to nothing in it."""
    here = {"before.pt": b"before", "after.pt": b"af", "predictions.json": b"{}", "entry.py": b"run()\n"}
    files = {f"olympics/speed/{name}": raw for name, raw in here.items()}
    with _folder(files | {"tinytorch/benchmarking.py": b"# 19\n"}) as root:
        yield root / "olympics" / "speed"


def _small_entry():
    """An entry of three stages, and the measurements of its first and last."""
    times = Measurement("m", (0.004,) * 6, (1.0,) * 6, 10), Measurement("m", (0.0005,) * 7, (1.0,) * 7, 80)
    return Entry("speed", [Stage("start", Figures(0.95, 0.004, 999)), Stage("int8", Figures(0.5, 0.002, 30), "tried"),
                           Stage("small", Figures(0.94, 0.0005, 2), "distilled")]), times

# %% [markdown]
"""
## Why: ten times faster, says who?

Here is a claim as one reads it: "our network is faster after optimisation". Somebody timed the old one,
changed something, timed the new one, and took the best. In the next cell the two networks are **the same
object**. Guess what the cell prints before you run it.
"""

# %% demo="faster_than_itself"
manual_seed(0)
idle = Sequential(Flatten(), Linear(64, 64), ReLU(), Linear(64, 10))
one_digit = Tensor(np.zeros((1, 1, 8, 8)))


def stopwatch():
    """Seconds of one answer, by a clock that somebody holds."""
    begin = time.perf_counter()
    idle(one_digit)
    return time.perf_counter() - begin


old = stopwatch()
new = min(stopwatch() for _ in range(10))
print(f"before {old * 1e6:.1f} µs, after {new * 1e6:.1f} µs: {old / new:.1f} times faster, and nothing was changed")

# %% [markdown]
"""
No line of that cell is a lie, and all of it is wrong. The same can be done with accuracy (ask the training
images) and with size (count the weights, ship the file). So a claim is worth what somebody else can
**recompute**: raw predictions, files, hashes, rounds of a clock with their interval. This module writes
such a record, and the parts that refuse a wrong one.

## Foundations: one optimisation, by hand

A network gets 980 of 1,000 images right, answers in 50 ms, and its file has 4,000 bytes. Three steps are
tried, one after the other:

```
             right     time     bytes    faster    smaller    lost
start         98 %    50 ms     4,000       1          1        0
channels      97 %    20 ms     2,000     2.5          2        1 point
distilled     96 %     5 ms     1,000      10          4        2 points
```

Factors **multiply**: 2.5 times and then 4 times is 10 times. Points **add**: 1 and 1 are 2. So the picture
of an optimisation has a logarithmic axis for time and size, where equal factors are equal lengths, and
each step's gain can be seen whatever stood before it:

```
time         5 ms         20 ms     50 ms
start        |##############################
channels     |##################
distilled    |
```

And three questions are asked at each step. Is it better, beyond noise? What does it cost in the others? May
it stand where it stands: would another order have given more?

## Build

### The target

A target is written down *before* the work: times faster, times smaller, seconds of one answer at most, and
accuracy that may be lost. `judge` holds two figures against it. Its rows say the numbers, not only yes or
no: a target missed by a hair is another finding than one missed by far.

What is exactly reached is met. Floating point spoils that: in the table above `0.98 - 0.96` gives
0.020000000000000018. Allow 1e-9 in each comparison.

`Figures`, `Stage` and `Entry` are given: what is measured, one step, and the log of all steps.
"""

# %% given="Figures"
#| export
class Figures(NamedTuple):
    """What is measured of one model: share of right answers, seconds per answer, bytes of its file."""

    accuracy: float
    seconds: float
    bytes: int


class Stage(NamedTuple):
    """One step of an optimisation: its name, the figures after it, and how it was done."""

    name: str
    figures: Figures
    note: str = ""


@dataclass
class Entry:
    """The log of an optimisation: the stages in order, the first is where it began."""

    track: str
    stages: list[Stage]

    @property
    def first(self) -> Figures:
        """The figures of the beginning."""
        if not self.stages:
            raise ValueError(
                f"Entry {self.track!r}: no stages. The first is the model you began with."
            )
        return self.stages[0].figures

    @property
    def last(self) -> Figures:
        """The figures of the end."""
        return self.stages[-1].figures if self.stages else self.first

# %% exercise="Target.judge"
#| export
class Row(NamedTuple):
    """One demand of a target: whether it is met, the number that was wanted and the one that came."""

    name: str
    met: bool
    wanted: float
    got: float

    def __str__(self) -> str:
        said = "met" if self.met else "missed"
        return f"{self.name:9} {said:7} wanted {self.wanted:8.4g}   got {self.got:8.4g}"


@dataclass(frozen=True)
class Target:
    """Times faster and smaller, seconds of an answer at most, accuracy that may be lost (0.02: 2 points)."""

    speed: float = 10.0
    size: float = 4.0
    latency: float = 0.1
    accuracy: float = 0.02

    def judge(self, before: Figures, after: Figures) -> list[Row]:
        """Four rows: speed, size, latency, accuracy. What is exactly reached is met.

        got: times faster, times smaller, seconds after, accuracy lost (below 0 if it was won).

        >>> [row.met for row in Target().judge(Figures(0.9, 1.0, 100), Figures(0.9, 0.05, 50))]
        [True, False, True, True]
        """
        ### BEGIN SOLUTION
        speed, size = before.seconds / after.seconds, before.bytes / after.bytes
        lost = before.accuracy - after.accuracy
        return [
            Row("speed", speed >= self.speed - 1e-9, self.speed, speed),
            Row("size", size >= self.size - 1e-9, self.size, size),
            Row("latency", after.seconds <= self.latency + 1e-9, self.latency, after.seconds),
            Row("accuracy", lost <= self.accuracy + 1e-9, self.accuracy, lost),
        ]
        ### END SOLUTION

# %% check="Target.judge" points=6
_before, _after = Figures(0.98, 0.05, 4000), Figures(0.96, 0.005, 1000)
_rows = Target().judge(_before, _after)
check.equal("what judge returns, and of what", [type(_rows).__name__, *sorted({type(_row).__name__ for _row in _rows or ()})], ["list", "Row"],
            why="a list of Row(name, met, wanted, got), one for each demand")
check.equal("names of the rows", [_row[0] for _row in _rows], ["speed", "size", "latency", "accuracy"],
            why="four demands, in the order of the target's fields")
check.equal("wanted", [_row[2] for _row in _rows], [10.0, 4.0, 0.1, 0.02], why="the target's own numbers")
check.close("got, from 98 %, 50 ms, 4,000 bytes to 96 %, 5 ms, 1,000 bytes", [_row[3] for _row in _rows],
            [10.0, 4.0, 0.005, 0.02], why="0.05 / 0.005 times faster, 4000 / 1000 times smaller, 5 ms after, 2 points lost")
check.equal("met", [bool(_row[1]) for _row in _rows], [True] * 4,
            why="all reached exactly, and that is enough; 0.98 - 0.96 is a hair above 0.02 in floating point, so allow 1e-9")
check.equal("met, where all four miss by a little", [bool(_row[1]) for _row in Target().judge(Figures(0.98, 1.0, 3999), Figures(0.959, 0.101, 1000))],
            [False] * 4, why="9.9 times faster, 3.999 times smaller, 101 ms, 2.1 points lost")
_rows = Target(2.0, 1.0, 0.5, 0.01).judge(Figures(0.9, 1.0, 100), Figures(0.95, 0.4, 100))
check.equal("met, with Target(speed=2.0, size=1.0, latency=0.5, accuracy=0.01)", [bool(_row[1]) for _row in _rows],
            [True] * 4, why="other targets, other limits; an accuracy that rose has lost nothing")
check.close("got with that target", [_row[3] for _row in _rows], [2.5, 1.0, 0.4, -0.05],
            why="1.0 / 0.4, 100 / 100, 0.4 s, 0.90 - 0.95; the fields are name, met, wanted, got")

# %% [markdown]
"""
### Count it yourself

"94 % accuracy" is a claim. A list of 1,000 predicted classes is evidence: whoever has the answers can count.
So the accuracy of a submission is never read, it is recomputed, here and by the judge.

Worked by hand: predictions 3, 1, 4, 1 for the answers 3, 1, 4, 5 are right three times of four, 0.75. If a
claim comes with them it must agree, within 1e-6 for the digits that were not written. A claim of 0 is a
claim too, and `nan` agrees with nothing.

Beware of NumPy's kindness: a single prediction against 1,000 answers broadcasts, and gives a number. Whoever
is refused should see why: name both shapes, or both numbers, claimed and counted.
"""

# %% exercise="accuracy_from"
#| export
def accuracy_from(predictions: ArrayLike, answers: ArrayLike, claim: float | None = None) -> float:
    """The share of right predictions, counted: predictions (N,) and answers (N,), numbers or texts.

    claim: what somebody says it is, refused if it is another number (by more than 1e-6).
    Raises ValueError for other shapes, no predictions, or a wrong claim.

    >>> accuracy_from([3, 1, 4, 1], [3, 1, 4, 5])
    0.75
    """
    said, known = np.asarray(predictions), np.asarray(answers)
    ### BEGIN SOLUTION
    if said.shape != known.shape or said.ndim != 1 or not len(said):
        raise ValueError(
            f"accuracy_from: predictions {said.shape} for answers {known.shape}: one class for each "
            "question is needed, in order. Outputs of a network first go through argmax(axis=1)."
        )
    right = float(np.mean(said == known))
    if claim is not None and not abs(right - claim) <= 1e-6:
        raise ValueError(
            f"accuracy_from: {claim:.4f} is claimed, the predictions give {right:.4f}. "
            "Count it again from these predictions."
        )
    return right
    ### END SOLUTION

# %% check="accuracy_from" points=7
check.close("[3, 1, 4, 1] for the answers [3, 1, 4, 5]", accuracy_from([3, 1, 4, 1], [3, 1, 4, 5]), 0.75, why="three of four")
check.close("texts", accuracy_from(["red", "blue"], ["red", "green"]), 0.5, why="a language entry predicts texts")
check.equal("type", type(accuracy_from(np.array([1, 2]), np.array([1, 2]))).__name__, "float",
            why="a record is JSON, which knows no NumPy numbers")
check.close("with the claim 0.75", accuracy_from([3, 1, 4, 1], [3, 1, 4, 5], claim=0.75), 0.75, why="claim and count agree")
check.equal("with the claim 0.3333333 for one of three", accuracy_from([1, 2, 3], [1, 0, 0], claim=0.3333333), 1 / 3,
            why="a claim that was written with seven digits is not a lie: 1e-6 is allowed")
for _claim in (0.8, 0.7, 0.7501, float("nan"), 0.0):
    check.raises(f"the claim {_claim} where 0.75 is counted", ValueError,
                 lambda: accuracy_from([3, 1, 4, 1], [3, 1, 4, 5], claim=_claim), mention=["0.75", str(_claim)],
                 why="another number than the counted one is refused, too high, too low, by a hair, or none; the message names both")
check.raises("3 predictions for 4 answers", ValueError, lambda: accuracy_from([3, 1, 4], [3, 1, 4, 5]), mention=["3", "4"],
             why="one question has no prediction; name both shapes, said.shape and known.shape")
check.raises("1 prediction for 4 answers", ValueError, lambda: accuracy_from([3], [3, 3, 3, 5]), mention=["1", "4"],
             why="said == known would broadcast, and give 0.75")
check.raises("outputs (4, 4) for 4 answers", ValueError, lambda: accuracy_from(np.eye(4), [0, 1, 2, 3]), mention=["(4, 4)", "(4,)"],
             why="four rows of outputs are no classes: argmax(axis=1) comes first")
check.raises("outputs (4, 4) for answers (4, 4)", ValueError, lambda: accuracy_from(np.eye(4), np.eye(4)), mention=["(4, 4)"],
             why="equal shapes are not enough: one axis, one class for each question")
check.raises("no predictions for no answers", ValueError, lambda: accuracy_from([], []), mention=["(0,)"],
             why="the mean of nothing is nan, and nan is no accuracy")

# %% [markdown]
"""
### Keep or drop

A step costs something for ever: code to read, a format to support, a cause to suspect. So it must earn its
place. The rule:

1. It loses more accuracy than may still be lost: **dropped**.
2. It is faster (by module 19's `compare`, beyond noise) or smaller, and neither slower nor larger: **kept**.
3. All else is **dropped**: no difference, or a trade of one for the other.

```
time            bytes      keep?
faster          equal      yes
no difference   fewer      yes
no difference   equal      no: it does nothing
slower          fewer      no: a trade, which a person may decide otherwise
```

`compare(new, old)` speaks of the new one: its `verdict` is `"faster"`, `"slower"` or `"no difference"`, and as
text it says the ratio with its interval. Of the figures only bytes and accuracy count here; one number of
seconds beside another cannot tell noise from gain.

The reason goes into the log, for steps that are dropped as well: next year somebody will want to try them
again. For rule 1 it is `f"loses {100 * lost:.1f} points, {100 * may_lose:.1f} may be lost"`; else
`f"{comparison}; {size}"`, from the two given lines.
"""

# %% exercise="decide"
#| export
class Decision(NamedTuple):
    """Whether a step is kept, and why or why not."""

    keep: bool
    reason: str


def decide(
    before: Figures,
    after: Figures,
    old: Measurement | Sequence[float],
    new: Measurement | Sequence[float],
    may_lose: float = 0.02,
) -> Decision:
    """Keep a step that is faster or smaller, and neither slower nor larger; else drop it.

    before, after: the figures without and with the step. old, new: its times, measured side by side.
    may_lose: the accuracy that may still be lost; a step that loses more is dropped for that.
    Raises ValueError as `compare` does.

    >>> decide(Figures(0.9, 2.0, 80), Figures(0.9, 1.0, 80), [2.0] * 6, [1.0] * 6).keep
    True
    """
    lost, comparison = before.accuracy - after.accuracy, compare(new, old)
    size = f"{after.bytes / before.bytes:.2f} times the bytes"
    ### BEGIN SOLUTION
    if lost > may_lose + 1e-9:
        return Decision(False, f"loses {100 * lost:.1f} points, {100 * may_lose:.1f} may be lost")
    better = comparison.verdict == "faster" or after.bytes < before.bytes
    worse = comparison.verdict == "slower" or after.bytes > before.bytes
    return Decision(better and not worse, f"{comparison}; {size}")
    ### END SOLUTION

# %% check="decide" points=8
def _decided(after, new, old=(1.0,) * 8, may_lose=0.02):
    """keep of the step from 95 %, 1,000 bytes and `old` times."""
    return decide(Figures(0.95, 1.0, 1000), Figures(*after), list(old), list(new), may_lose)


_noisy = [0.80, 0.92, 0.94, 0.95, 0.96, 0.97, 0.98, 1.04, 1.10, 1.20]
check.equal("half the time in each of 8 rounds", _decided((0.95, 0.5, 1000), [0.5] * 8).keep, True, why="faster, and nothing is worse")
_result = _decided((0.95, 0.965, 1000), _noisy, (1.0,) * 10)
check.equal("0.80 to 1.20 times the time, the median 0.965: keep", _result.keep, False,
            why="no difference can be told: a step that does nothing is work to maintain, so it is dropped")
check.true("its reason says no difference", "no difference" in _result.reason, why="who reads the log wants to know why",
           got=_result.reason)
check.equal("the same time, half the bytes", _decided((0.95, 1.0, 500), [1.0] * 8).keep, True, why="smaller, and not slower")
check.equal("slower, half the bytes", _decided((0.95, 2.0, 500), [2.0] * 8).keep, False, why="it gains in one and loses in the other")
check.equal("faster, more bytes", _decided((0.95, 0.5, 1001), [0.5] * 8).keep, False, why="it gains in one and loses in the other")
check.equal("slower, the same bytes", _decided((0.97, 2.0, 1000), [2.0] * 8).keep, False, why="nothing gained but accuracy")
_result = _decided((0.92, 0.5, 500), [0.5] * 8)
check.equal("twice as fast and half the size, 3 points lost", _result.keep, False, why="2 points may be lost")
check.true("its reason says how many points", "3.0 points" in _result.reason, why="f\"loses {100 * lost:.1f} points, …\"",
           got=_result.reason)
check.equal("1 point lost of 1", _decided((0.94, 0.5, 1000), [0.5] * 8, may_lose=0.01).keep, True,
            why="exactly what may be lost; 0.95 - 0.94 is a hair above 0.01 in floating point, so allow 1e-9")
check.equal("the same time, the same bytes", _decided((0.96, 1.0, 1000), [1.0] * 8).keep, False, why="no worse is not enough: it must gain something")
check.equal("1 point lost where 0.5 may be", _decided((0.94, 0.5, 1000), [0.5] * 8, may_lose=0.005).keep, False, why="the caller says how much")
check.equal("figures that say faster, times that say slower", _decided((0.95, 0.5, 1000), [2.0] * 8).keep, False,
            why="compare judges by the rounds, taken side by side; one number beside another proves nothing")
check.equal("type", type(_result).__name__, "Decision", why="keep and reason")

# %% [markdown]
"""
### One after the other

Now the loop of every optimisation: a step is tried on a copy of what stands, measured **beside** what stands,
and judged. What is kept stands for the next step; what is dropped leaves no trace but its reason.

Small losses add up, so what a step may lose is what the kept ones before it have left of the target's points:

```
               loses    may lose    left after it
first           0.9        2.0          1.1        kept
second          0.6        1.1          0.5        kept
third           0.7        0.5          0.5        dropped
```

A step that is kept and wins accuracy gives its points back in the same way. A dropped one takes none.
"""

# %% exercise="in_turn"
#| export
Trial = tuple[Figures, Figures, Measurement | Sequence[float], Measurement | Sequence[float]]


def in_turn(
    start: Any,
    steps: Mapping[str, Callable[[Any], Any]],
    measure: Callable[[Any, Any], Trial],
    may_lose: float = 0.02,
) -> tuple[dict[str, Any], dict[str, Decision]]:
    """Try each step on what stands: {name: model} of all that stood, and {name: Decision} of all steps.

    The first model is start, under "start"; the last one stands at the end. Each step gets a copy.
    measure(standing, candidate): figures of both, times of both, taken side by side.
    may_lose: the accuracy that all kept steps may lose together.
    Cost: one measurement of a pair per step.
    """
    kept, decisions, left = {"start": start}, {}, may_lose
    standing = start
    ### BEGIN SOLUTION
    for name, step in steps.items():
        candidate = step(copy.deepcopy(standing))
        before, after, old, new = measure(standing, candidate)
        decisions[name] = decide(before, after, old, new, left)
        if decisions[name].keep:
            left -= before.accuracy - after.accuracy
            kept[name] = standing = candidate
    ### END SOLUTION
    return kept, decisions

# %% check="in_turn" points=7
def _trial(standing, candidate):
    """Models are lists [accuracy, seconds, bytes]; their times have no noise."""
    _trials.append((list(standing), list(candidate)))
    return Figures(*standing), Figures(*candidate), [standing[1]] * 8, [candidate[1]] * 8


def _changed(points=0.0, times=1.0, size=1.0):
    """A step that changes the list it gets."""
    def step(model):
        model[:] = [model[0] - points / 100, model[1] * times, model[2] * size]
        return model

    return step


_start, _trials = [0.95, 8.0, 1000.0], []
_kept, _decisions = in_turn(_start, {"half": _changed(times=0.5), "slow": _changed(times=2.0), "small": _changed(size=0.25)}, _trial)
for _i, (_name, _wanted) in enumerate({"half (half the time)": ([0.95, 8.0, 1000.0], [0.95, 4.0, 1000.0]),
                                       "slow (twice the time)": ([0.95, 4.0, 1000.0], [0.95, 8.0, 1000.0]),
                                       "small (a quarter of the bytes)": ([0.95, 4.0, 1000.0], [0.95, 4.0, 250.0])}.items()):
    check.equal(f"standing and candidate, as measure gets them for {_name}", (_trials[_i : _i + 1] or ["nothing was measured"])[0], _wanted,
                why="(standing, candidate), each [accuracy, seconds, bytes]; half stands after its trial, slow is dropped, so small is tried on half")
check.equal("how often it is measured for three steps", len(_trials), 3, why="one pair per step")
check.equal("what stood", _kept, {"start": [0.95, 8.0, 1000.0], "half": [0.95, 4.0, 1000.0], "small": [0.95, 4.0, 250.0]},
            why="start and the kept steps, each as it was: a step changes what it gets, so it gets a copy")
check.equal("what was decided", {_n: _d.keep for _n, _d in _decisions.items()}, {"half": True, "slow": False, "small": True},
            why="all steps, dropped ones with their reason as well")
check.equal("what it began with, afterwards", _start, [0.95, 8.0, 1000.0], why="copy.deepcopy(standing) goes into the step")
_result = in_turn(_start, {_n: _changed(0.8, 0.5) for _n in "abc"}, _trial)[1]
check.equal("three steps that lose 0.8 points each, 2 may be lost", [_d.keep for _d in _result.values()], [True, True, False],
            why="1.2 points are left after a, 0.4 after b, and c would lose 0.8")
check.equal("the reason of the third", _result["c"].reason, "loses 0.8 points, 0.4 may be lost", why="decide is told what is left")
_result = in_turn(_start, {"worse": _changed(1.5, 2.0), "better": _changed(1.5, 0.5)}, _trial)[1]
check.equal("a dropped step of 1.5 points, then another of 1.5", [_d.keep for _d in _result.values()], [False, True],
            why="what is dropped is not there, so it has lost nothing")
_result = in_turn(_start, {"wins": _changed(-1.0, 0.5), "loses": _changed(2.5, 0.5)}, _trial)[1]
check.equal("1 point won, then 2.5 lost", [_d.keep for _d in _result.values()], [True, True],
            why="from the start it is 1.5 points: left -= before.accuracy - after.accuracy, whatever its sign")
check.equal("1 point of 0.5", [_d.keep for _d in in_turn(_start, {"a": _changed(1.0, 0.5)}, _trial, may_lose=0.005)[1].values()], [False],
            why="the caller says how much may be lost")

# %% [markdown]
"""
### How wrong was I?

Whoever predicts a gain **before** it is measured learns something from each step; afterwards everything was
obvious. How wrong a prediction was is a factor again: predicting 4 where 2 came is as wrong as predicting 2
where 4 came, both are off by 2. A difference would say otherwise: 40 for 38 and 3 for 1 both differ by 2.

```
                 predicted    came    off by
one step            40          38      1.05
another              3           1      3        the one to think about
```

The worst comes first: there your picture of the machine is wrong, and the reason is worth an hour.
"""

# %% exercise="surprises"
#| export
class Surprise(NamedTuple):
    """A step's gain as it was predicted and as it came, and by which factor that is off (1: exact)."""

    name: str
    predicted: float
    came: float
    off: float

    def __str__(self) -> str:
        seen = f"predicted {self.predicted:6.2f}x   came {self.came:6.2f}x"
        return f"{self.name:15} {seen}   off by {self.off:.2f}"


def surprises(predicted: Mapping[str, float], came: Mapping[str, float]) -> list[Surprise]:
    """Predicted beside measured gains, in times faster, the worst prediction first.

    off: the larger by the smaller, never below 1. A step that only one of both has is left out.

    >>> [(row.name, row.off) for row in surprises({"a": 2.0, "b": 1.0}, {"a": 2.0, "b": 0.25})]
    [('b', 4.0), ('a', 1.0)]
    """
    ### BEGIN SOLUTION
    both = [(name, predicted[name], came[name]) for name in predicted if name in came]
    rows = [Surprise(name, said, got, max(said / got, got / said)) for name, said, got in both]
    return sorted(rows, key=lambda row: row.off, reverse=True)
    ### END SOLUTION

# %% check="surprises" points=4
_rows = surprises({"much": 8.0, "exact": 3.0, "little": 2.0, "never": 5.0}, {"exact": 3.0, "little": 0.5, "much": 4.0, "more": 2.0})
check.equal("what it returns, and of what", [type(_rows).__name__, *sorted({type(_row).__name__ for _row in _rows or ()})], ["list", "Surprise"],
            why="a list of Surprise(name, predicted, came, off), one for each step; NoneType: the return is missing")
check.equal("8 for 4, 3 for 3, 2 for a half: the names", [_row[0] for _row in _rows], ["little", "much", "exact"],
            why="off by 4, 2 and 1, the worst first; never was not measured, more was not predicted")
check.close("by how much they are off", [_row[3] for _row in _rows], [4.0, 2.0, 1.0],
            why="2 / 0.5, 8 / 4, 3 / 3: the larger by the smaller")
check.close("predicted and came", [_row[1:3] for _row in _rows], [[2.0, 0.5], [8.0, 4.0], [3.0, 3.0]], why="each beside the other")
_rows = surprises({"a": 1.0, "b": 40.0, "c": 3.0}, {"a": 4.0, "b": 38.0, "c": 1.0})
check.close("1 for 4, 40 for 38, 3 for 1", [_row[3] for _row in _rows], [4.0, 3.0, 40 / 38],
            why="too little and too much count alike, as factors: 4 / 1, 3 / 1, 40 / 38")

# %% [markdown]
"""
### Does the order matter?

Two steps, A and B. Is A then B the same as B then A? For adding and doubling it is not: 3 becomes 7 or 8.
Here are pruning (the smaller half becomes 0) and rounding:

```
             1.4  0.6  1.1  0.9
prune        1.4   0   1.1   0        round       1    1    1    1
round         1    0    1    0        prune       0    0    1    1
```

Rounding first makes all weights equal, so pruning can no longer see which of them mattered. They **do not
commute**. There is no theory that would say which order is better in general; but few steps have few
orders, and those can be tried. `try_orders` tries all of them. A step may change the model it gets, as
`prune` does, so every order must begin with a copy of its own.
"""

# %% exercise="try_orders"
#| export
def try_orders(
    start: Any, steps: Mapping[str, Callable[[Any], Any]], measure: Callable[[Any], Any]
) -> dict[tuple[str, ...], Any]:
    """What `measure` says after all steps, in every order: {(name, name, ...): result}.

    Each order begins with a copy of `start` of its own: a step may change what it gets.
    Cost: n! orders of n steps.

    >>> try_orders(3, {"double": lambda x: 2 * x, "add": lambda x: x + 1}, str)
    {('double', 'add'): '7', ('add', 'double'): '8'}
    """
    found: dict[tuple[str, ...], Any] = {}
    ### BEGIN SOLUTION
    for names in itertools.permutations(steps):
        value = copy.deepcopy(start)
        for name in names:
            value = steps[name](value)
        found[names] = measure(value)
    ### END SOLUTION
    return found

# %% check="try_orders" points=6
def _steps():
    """Two steps that change the list they get."""
    def halve(values):
        """The smaller half becomes 0."""
        for i in sorted(range(len(values)), key=lambda i: abs(values[i]))[: len(values) // 2]:
            values[i] = 0.0
        return values

    def whole(values):
        """Each number becomes a whole one."""
        values[:] = [float(round(v)) for v in values]
        return values

    return {"prune": halve, "round": whole}


_start = [1.4, 0.6, 1.1, 0.9]
_found = try_orders(_start, _steps(), lambda v: v)
check.true("the keys of what is found are orders, as tuples of names", set(_found) == {("prune", "round"), ("round", "prune")},
           why='permutations of the names: ("prune", "round") and ("round", "prune"); steps[name] is the function', got=list(_found))
check.equal("[1.4, 0.6, 1.1, 0.9], pruned to half and then rounded", _found.get(("prune", "round")), [1.0, 0.0, 1.0, 0.0],
            why="0.6 and 0.9 are the smallest two")
check.equal("rounded and then pruned to half", _found.get(("round", "prune")), [0.0, 0.0, 1.0, 1.0],
            why="rounded they are all 1: which two go is chance, and 1.4 is among them. A copy for each order, or the second "
                "begins with what the first one left")
check.equal("what it began with, afterwards", _start, [1.4, 0.6, 1.1, 0.9], why="copy.deepcopy for each order")
check.equal("orders of three steps", sorted(try_orders(0, dict.fromkeys("abc", lambda x: x), str)),
            sorted([("a", "b", "c"), ("a", "c", "b"), ("b", "a", "c"), ("b", "c", "a"), ("c", "a", "b"), ("c", "b", "a")]),
            why="3 * 2 * 1; itertools.permutations gives them")
_found = try_orders(3, {"double": lambda x: 2 * x, "add": lambda x: x + 1, "square": lambda x: x * x}, lambda x: -x)
check.equal("3, doubled, one added, squared; and measured by -x", _found.get(("double", "add", "square")), -49,
            why="(2 * 3 + 1)², each step on what the one before gave, measured at the end")
check.equal("3, squared, doubled, one added", _found.get(("square", "double", "add")), -19, why="2 * 3² + 1")
_found = try_orders({"log": []}, {_n: lambda x, _n=_n: x["log"].append(_n) or x for _n in "ab"}, lambda x: list(x["log"]))
check.equal("steps that write into a list inside of what they get", _found, {("a", "b"): ["a", "b"], ("b", "a"): ["b", "a"]},
            why="a shallow copy shares what is inside, as a model's arrays: copy.deepcopy")
_times = []
try_orders(1, {"a": lambda x: x, "b": lambda x: x}, lambda x: _times.append(x))
check.equal("how often it is measured for two steps", len(_times), 2, why="once for each order, after its last step")

# %% [markdown]
"""
A real layer, and real bytes: a trained network's weights, 70 % pruned by magnitude and rounded to 3 bits.
Which order would you choose?
"""

# %% demo="orders_of_a_layer"
digits = load_tinydigits()
BATCH, KEPT = 64, 400


def as_batch(images):
    """Digits (N, 8, 8) of 0 to 16 as (N, 1, 8, 8) from 0 to 1."""
    return (images[:, None] / 16).astype(np.float32)


pictures, labels = as_batch(digits.train_images), digits.train_labels
kept, kept_labels = pictures[:KEPT], labels[:KEPT]  # decided on
train, train_labels = pictures[KEPT:], labels[KEPT:]  # learned from


def learn(net, arrays, loss, epochs, lr=0.003):
    """Train with Adam on module 18's kernels; `loss` gets the outputs and what stands beside the images."""
    optimizer = Adam(net.parameters(), lr=lr)
    with accelerated(threads=1):
        net.train()
        for _ in range(epochs):
            for x, *beside in DataLoader(TensorDataset(*arrays), BATCH, shuffle=True, seed=0):
                optimizer.zero_grad()
                loss(net(x), *beside).backward()
                optimizer.step()
    return net.eval()


@no_grad()
def outputs(net, images):
    """Ten numbers for each image."""
    return net.eval()(Tensor(images)).data


def right(net, images=kept, classes=kept_labels):
    """Share of right answers, counted from predictions."""
    return accuracy_from(outputs(net, images).argmax(axis=1), classes)


cross_entropy = CrossEntropyLoss()
manual_seed(0)
dense = learn(Sequential(Flatten(), Linear(64, 64), ReLU(), Linear(64, 10)), (train, train_labels),
              lambda out, y: cross_entropy(out, y), epochs=6)


def pruned(net):
    """Seven weights of ten become 0."""
    for layer in (net[1], net[3]):
        layer.weight.data *= magnitude_mask(layer.weight.data, 0.7)
    return net


def rounded(net):
    """Each weight becomes the nearest of 7."""
    for layer in (net[1], net[3]):
        weight, scheme = layer.weight.data, Scheme(bits=3)
        scale, zero = quantization_parameters(weight, scheme)
        layer.weight.data[...] = dequantize_array(quantize_array(weight, scale, zero, scheme), scale, zero)
    return net


def sparse_bytes(net):
    """Accuracy, and the bytes of the weights as gaps and values."""
    return right(net), sum(to_sparse(net[i].weight.data).nbytes for i in (1, 3))


print(f"{'as trained':22} {right(dense):.1%}")
for names, (share, size) in try_orders(dense, {"prune": pruned, "round": rounded}, sparse_bytes).items():
    print(f"{' then '.join(names):22} {share:.1%}  {size:,} bytes")

# %% [markdown]
"""
The bytes say how many weights are left. Both orders end on the same grid, but after rounding, many weights
share one magnitude, and pruning cuts that group by place, not by worth. What the accuracy makes of it is a
matter of measuring, which is the point. (With real integers the other order does not even run:
`prune_channels` does not know a `QuantizedLinear`, and fine-tuning would leave the grid again. That is why
quantization usually comes last.)

### What a machine may say of itself

Seconds mean nothing without the machine. But a record is published, and a machine's exact description with
its host's name is a fingerprint of a person. So round: cores, memory to a power of two, the family of the
CPU. An operating system keeps some memory for itself: a machine sold with 16 GiB says 15.4. The logarithm
makes that whole: log2(15.4) is 3.94, nearest to 4, and 2⁴ = 16.

From the name of the CPU only letters, digits and ` .()-_` stay (in a pattern of `re`, backslash and w mean
letters, digits and `_`); each other character becomes a space. `" ".join(text.split())` leaves single ones.
"""

# %% exercise="machine_record"
#| export
def machine_record(cores: int | None, memory: int, cpu: str) -> dict[str, Any]:
    """A machine, so rounded that it is one of thousands: {"cores", "memory_gib", "cpu"}.

    cores: at least 1; None: unknown, 1. memory: bytes; gives the nearest power of two in GiB, at least 1.
    cpu: letters, digits and " .()-_" stay, all else becomes a space, no two of them side by side;
    at most 60 characters, "unknown" if nothing is left.

    >>> machine_record(8, 16_500_000_000, "Xeon(R) @ 2.80GHz")
    {'cores': 8, 'memory_gib': 16, 'cpu': 'Xeon(R) 2.80GHz'}
    """
    ### BEGIN SOLUTION
    gib = max(1, 2 ** round(math.log2(max(memory, 1) / 2**30)))
    words = re.sub(r"[^\w .()-]", " ", cpu).split()
    return {
        "cores": max(1, cores or 1),
        "memory_gib": gib,
        "cpu": " ".join(words)[:60] or "unknown",
    }
    ### END SOLUTION

# %% check="machine_record" points=4
_gib = 2**30
check.equal("8 cores, 16 GiB, Xeon(R) @ 2.80GHz", machine_record(8, 16 * _gib, "Xeon(R) @ 2.80GHz"),
            {"cores": 8, "memory_gib": 16, "cpu": "Xeon(R) 2.80GHz"}, why="@ becomes a space, and no two spaces stand side by side")
check.equal("memory of 15.4 GiB, as a system reports 16", machine_record(1, int(15.4 * _gib), "x").get("memory_gib"), 16,
            why="log2(15.4) is 3.94, which is nearest to 4")
check.equal("memory of 12, 23, 3, 5 and 11 GiB", [machine_record(1, _g * _gib, "x").get("memory_gib") for _g in (12, 23, 3, 5, 11)],
            [16, 32, 4, 4, 8], why="round the logarithm: log2 of them is 3.58, 4.52, 1.58, 2.32 and 3.46; a GiB is 2**30 bytes")
check.equal("memory of 256 MiB, and unknown memory, 0", [machine_record(1, _m, "x").get("memory_gib") for _m in (2**28, 0)], [1, 1],
            why="at least 1; log2(0) does not exist")
check.equal("type of memory_gib", type(machine_record(1, _gib, "x").get("memory_gib")).__name__, "int", why="the schema wants an integer")
check.equal("unknown cores", machine_record(None, _gib, "x").get("cores"), 1, why="os.cpu_count() may say None")
check.equal("a CPU with a path in it", machine_record(2, _gib, "/home/ann: arm64_v8").get("cpu"), "home ann arm64_v8",
            why="slash and colon are not in the list; _ is")
check.equal("nothing that may stay", machine_record(2, _gib, " @@ ").get("cpu"), "unknown", why="the schema wants at least one letter")
check.equal("letters of a name of 80", len(machine_record(2, _gib, "x" * 80).get("cpu", "")), 60, why="at most 60")
check.equal("its names", sorted(machine_record(2, _gib, "x")), ["cores", "cpu", "memory_gib"], why="nothing else: no host, user or path")

# %% given="machine"
#| export
def machine() -> dict[str, Any]:
    """This machine, rounded, and what runs on it; no name, no user, no path."""
    known = getattr(os, "sysconf_names", {})
    memory = (
        os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if "SC_PHYS_PAGES" in known else 0
    )
    system = platform.system()
    return machine_record(os.cpu_count(), memory, platform.machine()) | {
        "system": system if system in ("Linux", "Darwin", "Windows") else "other",
        "python": ".".join(platform.python_version_tuple()[:2]),
        "numpy": np.__version__,
    }

# %% demo="this_machine"
print(machine())

# %% [markdown]
"""
### Which code was it?

A submission names the code that made it, by one hash over many files: change one letter in any of them, and
the hash is another one. SHA-256 turns any bytes into 64 hexadecimal digits, and nobody knows how to find a
second text for given ones.

Gluing files together needs care. Two files, `a` holding `bc` and `ab` holding `c`, both give `abc` if name
and contents are simply joined. So put a boundary that cannot be mistaken: name, a zero byte, how many bytes
follow, a zero byte, the bytes.

```
a.py <0> 6 <0> x = 1 <newline>        (without the blanks around < >; 6 bytes: x, blank, =, blank, 1, newline)
```

`found.update(raw)` feeds bytes, `name.encode()` makes bytes of a text. Sort the names; a file counts once.
"""

# %% exercise="source_hash"
#| export
def source_hash(root: str | Path, names: Iterable[str]) -> str:
    """SHA-256, in hexadecimal, of the files `names` below `root`: of names and contents.

    The same for every order of the names, and for names that are given twice.
    For each file: name in UTF-8, a zero byte, the number of its bytes as text, a zero byte, its bytes.
    Raises FileNotFoundError.
    """
    found = hashlib.sha256()
    ### BEGIN SOLUTION
    for name in sorted(set(names)):
        raw = (Path(root) / name).read_bytes()
        found.update(name.encode() + b"\0" + str(len(raw)).encode() + b"\0" + raw)
    ### END SOLUTION
    return found.hexdigest()

# %% check="source_hash" points=6
class _Fed:
    """Stands in for SHA-256, and says what it was fed."""

    def __init__(self, raw=b""):
        self.raw = raw

    def update(self, raw):
        """Feed more."""
        self.raw += raw

    def hexdigest(self):
        """The bytes themselves, so that a difference can be seen."""
        return self.raw


with _folder({"a.py": b"x = 1\n", "b.py": b"y\0\xff", "ab.py": b""}) as _root:
    with mock.patch.object(hashlib, "sha256", _Fed):
        check.equal("the bytes that are fed for a.py, which holds x = 1", source_hash(_root, ["a.py"]), b"a.py\0006\0x = 1\n",
                    why="name, zero byte, 6 for the 6 bytes, zero byte, the bytes")
        check.equal("the bytes that are fed for b.py and a.py", source_hash(_root, ["b.py", "a.py"]), b"a.py\0006\0x = 1\nb.py\0003\0y\0\xff",
                    why="a.py, then b.py, nothing between them; b.py is no text, so read bytes")
    _one = source_hash(_root, ["a.py"])
    check.equal("of a.py, which holds x = 1", _one, hashlib.sha256(b"a.py\0006\0x = 1\n").hexdigest(),
                why="name, zero byte, 6 for the 6 bytes, zero byte, the bytes")
    _two = hashlib.sha256(b"a.py\0006\0x = 1\nb.py\0003\0y\0\xff").hexdigest()
    check.equal("of a.py and b.py", source_hash(_root, ["a.py", "b.py"]), _two,
                why="one hash over both, one after the other; b.py is no text, so read bytes")
    check.equal("the same two in the other order", source_hash(_root, ["b.py", "a.py"]), _two, why="sorted: a folder is listed in any order")
    check.equal("the same with a.py named twice", source_hash(_root, ["a.py", "b.py", "a.py"]), _two, why="a file is there or not")
    check.equal("the root as a text", source_hash(str(_root), ["a.py"]), _one, why="Path(root) / name takes both")
    check.raises("a file that is not there", FileNotFoundError, lambda: source_hash(_root, ["c.py"]), mention=["c.py"])
    (_root / "a.py").write_bytes(b"x = 2\n")
    check.equal("of a.py after one letter has changed", source_hash(_root, ["a.py"]), hashlib.sha256(b"a.py\0006\0x = 2\n").hexdigest(),
                why="that is what it is for: contents, not only names")

# %% [markdown]
"""
### A schema

What is a whole record? Prose forgets cases, so there is a language for it: **JSON Schema**, itself JSON. Ours
uses nine of its words.

```
{"type": "object",                          what kind of value
 "required": ["cores"],                     these names must be there
 "additionalProperties": false,             and no others than
 "properties": {                            these, each with a schema of its own:
   "cores": {"type": "integer", "minimum": 1, "maximum": 4096},
   "cpu": {"type": "string", "pattern": "^[a-z]+$"},
   "system": {"enum": ["Linux", "Darwin"]},
   "notes": {"type": "array", "items": {"type": "string"}}}}
```

`SCHEMA`, given, is that of a submission: the same text as the course's `submission.schema.json`, which the
judge uses (a test of the course holds them equal). `_whole` writes an object with these names and no others.
"""

# %% given="SCHEMA"
#| export
def _whole(properties: dict[str, Any], optional: Sequence[str] = ()) -> dict[str, Any]:
    """An object with these names and no others; all but the optional ones are required."""
    required = [name for name in properties if name not in optional]
    return {
        "type": "object", "additionalProperties": False, "required": required, "properties": properties,
    }  # fmt: skip


def _text(pattern: str) -> dict[str, Any]:
    return {"type": "string", "pattern": pattern}


def _both(part: dict[str, Any]) -> dict[str, Any]:
    return _whole({"before": part, "after": part})


_AMOUNT: dict[str, Any] = {"type": "number", "minimum": 0}
_SHARE: dict[str, Any] = {"type": "number", "minimum": 0, "maximum": 1}
_BYTES: dict[str, Any] = {"type": "integer", "minimum": 1}
_SHA, _FILE = _text("^[0-9a-f]{64}$"), _text(r"^\w[\w.-]*$")
_MACHINE: dict[str, Any] = {
    "cores": {"type": "integer", "minimum": 1, "maximum": 4096},
    "memory_gib": {"type": "integer", "minimum": 1, "maximum": 65536},
    "cpu": _text(r"^[\w .()-]{1,60}$"),
    "system": {"enum": ["Linux", "Darwin", "Windows", "other"]},
    "python": _text(r"^3\.[0-9]+$"),
    "numpy": _text(r"^[0-9]+\.[0-9]+[\w.]*$"),
}
_SPEED: dict[str, Any] = {
    "seconds": _AMOUNT,
    "interval": {"type": "array", "items": _AMOUNT},
    "n": {"type": "integer", "minimum": 6},
    "throughput": _AMOUNT,
    "percentiles": {"type": "object", "additionalProperties": _AMOUNT},
}
_STAGE: dict[str, Any] = {
    "name": {"type": "string"}, "note": {"type": "string"}, "accuracy": _SHARE, "seconds": _AMOUNT,
    "bytes": _BYTES,
}  # fmt: skip
SCHEMA: dict[str, Any] = {"title": "A submission to the TinyTorch Olympics, version 1"} | _whole({
    "schema": {"enum": [1]},
    "track": {"enum": ["vision", "language", "speed", "compression"]},
    "course": _text(r"^[0-9]+(\.[0-9]+)+$"),
    "harness": _text("^[0-9a-f]{16}$"),
    "origin": {"enum": ["student", "reference"]},
    "date": _text("^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$"),
    "machine": _whole(_MACHINE, ("system", "python", "numpy")),
    "dataset": {"enum": ["digits", "mnist", "cifar10", "tinytalks"]},
    "models": _both(_whole({"file": _FILE, "bytes": _BYTES, "sha256": _SHA})),
    "predictions": _whole({"file": _FILE, "sha256": _SHA}),
    "accuracy": _both(_SHARE),
    "speed": _both(_whole(_SPEED, ("percentiles",))),
    "target": _whole({"speed": _AMOUNT, "size": _AMOUNT, "latency": _AMOUNT, "accuracy": _SHARE}),
    "source": _whole({"files": {"type": "array", "items": _text(r"^[\w][\w./-]*$")}, "sha256": _SHA}),
    "stages": {"type": "array", "items": _whole(_STAGE, ("note",))},
})  # fmt: skip

# %% given="TYPES"
#| export
TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,), "array": (list,), "string": (str,), "integer": (int,), "number": (int, float),
    "boolean": (bool,),
}  # fmt: skip


def is_type(value: Any, kind: str) -> bool:
    """Whether a value is of that type of JSON; true and false are no numbers, though Python says so."""
    return isinstance(value, TYPES[kind]) and (kind == "boolean") == isinstance(value, bool)

# %% [markdown]
"""
First, one value without anything inside. Each word speaks only of its own kind of value: `minimum` of
numbers, `pattern` of texts; to another value it says nothing. Python sets three traps here: `True == 1`, and
`isinstance(True, int)` is true; `nan < 0` is false, as is every comparison with `nan`; `re.match` looks only
at the beginning of a text, where `re.search` finds the pattern anywhere.

Append a text per problem: `f"{where}: {value} is below {schema['minimum']}"`, or `is above`; for the others
choose your words.
"""

# %% exercise="value_problems"
#| export
def value_problems(value: Any, schema: Mapping[str, Any], where: str = "record") -> list[str]:
    """What is wrong with one value by type, enum, minimum, maximum and pattern: one text each.

    A value of a wrong type has that one problem. minimum, maximum: numbers alone, limits are allowed,
    inf and nan are not. pattern: texts alone, found anywhere in the text (^ and $ are in the pattern).
    Source: JSON Schema, draft 2020-12, Validation, section 6.

    >>> value_problems(0, {"type": "integer", "minimum": 1}, "cores")
    ['cores: 0 is below 1']
    """
    if "type" in schema and not is_type(value, schema["type"]):
        return [f"{where}: {value!r:.40} is not of type {schema['type']}"]
    problems = []
    ### BEGIN SOLUTION
    if "enum" in schema and not any(type(value) is type(x) and value == x for x in schema["enum"]):
        problems.append(f"{where}: {value!r:.40} is not one of {schema['enum']}")
    if is_type(value, "number"):
        if not math.isfinite(value):
            problems.append(f"{where}: {value} is not a finite number")
        if value < schema.get("minimum", -math.inf):
            problems.append(f"{where}: {value} is below {schema['minimum']}")
        if value > schema.get("maximum", math.inf):
            problems.append(f"{where}: {value} is above {schema['maximum']}")
    if isinstance(value, str) and not re.search(schema.get("pattern", ""), value):
        problems.append(f"{where}: {value!r:.40} does not match {schema['pattern']}")
    ### END SOLUTION
    return problems

# %% check="value_problems" points=6
def _ok(value, **schema):
    """How many problems it finds."""
    return len(value_problems(value, schema, "n"))


check.equal("0 where 1 is the minimum", value_problems(0, {"type": "integer", "minimum": 1}, "n"), ["n: 0 is below 1"],
            why="where, the value, what is wrong")
check.equal("1, 5, 6 and 0, from 1 to 5", [_ok(_v, minimum=1, maximum=5) for _v in (1, 5, 6, 0)], [0, 0, 1, 1], why="the limits are allowed")
check.equal("a text where there is a minimum", _ok("zero", minimum=1), 0, why="limits speak of numbers; that it is one, type must say")
check.equal("-1 with a minimum of 0, 0.5 and 2 with a maximum of 1", [_ok(-1, minimum=0), _ok(0.5, maximum=1), _ok(2, maximum=1)],
            [1, 0, 1], why="0 is a limit like any other, and each can stand alone")
check.equal("inf, -inf and nan, with a minimum of 0", [_ok(float(_v), type="number", minimum=0) > 0 for _v in ("inf", "-inf", "nan")],
            [True] * 3, why="JSON has no such numbers; every comparison with nan is false, so ask math.isfinite")
check.equal("'vision' and 'Vision' where vision or speed is wanted", [_ok(_v, enum=["vision", "speed"]) for _v in ("vision", "Vision")], [0, 1],
            why="one of the list, exactly")
check.equal("1, True and 1.0 where [1] is wanted", [_ok(_v, enum=[1]) for _v in (1, True, 1.0)], [0, 1, 1],
            why="True == 1 in Python, and is no 1 in JSON: compare types too (the standard lets 1.0 pass; we do not)")
check.equal("'abc1' for the pattern [0-9], and for ^[0-9]", [_ok("abc1", pattern="[0-9]"), _ok("abc1", pattern="^[0-9]")], [0, 1],
            why="found anywhere in the text: re.search; re.match would look at the beginning alone")
check.equal("'12ab' for ^[0-9]+$", _ok("12ab", pattern="^[0-9]+$"), 1, why="$ is in the pattern")
check.equal("7 where there is a pattern", _ok(7, pattern="^a"), 0, why="a pattern speaks of texts")
check.equal("True where a number is at most 0", _ok(True, maximum=0), 0, why="true is no number, so the limit does not speak of it")
check.equal("a text where an integer of at least 1 is wanted", value_problems("3", {"type": "integer", "minimum": 1}, "n"),
            ["n: '3' is not of type integer"], why="the given lines: a wrong type is the one problem it has")
check.equal("anything without a rule", [_ok(_v) for _v in (1, "a", None, [], {})], [0] * 5, why="what is not forbidden is allowed")
check.equal("two problems at once: 9 for enum [1, 2] and maximum 5", _ok(9, enum=[1, 2], maximum=5), 2, why="all of them, not the first")

# %% [markdown]
"""
Then what is inside: objects and lists hold values with schemas of their own, so `validate` calls itself. Keep
the place: a problem of `machine.cores` says `record.machine.cores`, one of the second stage
`record.stages[1]`. Collect all problems. A validator that stops at the first is a slow conversation.

For each name of an object: its schema is in `properties`; if not, `additionalProperties` speaks, which may be
absent or True (anything goes), False (`f"{where}: {name} has no place in it"`), or a schema.
A missing name is `f"{where}: {name} is missing"`.
"""

# %% exercise="validate"
#| export
def validate(record: Any, schema: Mapping[str, Any] = SCHEMA, where: str = "record") -> list[str]:
    """All that is wrong with a record, one text each; [] if it fits the schema.

    `value_problems` of the value, then what is inside it. Objects: required names, each property by its
    own schema, additionalProperties False (no other names) or a schema (for the others). Arrays: items.
    Source: JSON Schema, draft 2020-12.

    >>> validate({"n": 0}, {"required": ["m"], "properties": {"n": {"minimum": 1}}})
    ['record: m is missing', 'record.n: 0 is below 1']
    """
    problems = value_problems(record, schema, where)
    ### BEGIN SOLUTION
    parts: list[tuple[str, str, Any, Any]] = []  # name, place, value, its schema
    if isinstance(record, dict):
        known, others = schema.get("properties", {}), schema.get("additionalProperties", True)
        missing = [name for name in schema.get("required", ()) if name not in record]
        problems += [f"{where}: {name} is missing" for name in missing]
        parts = [(n, f"{where}.{n}", v, known.get(n, others)) for n, v in record.items()]
    if isinstance(record, list):
        parts = [("", f"{where}[{i}]", v, schema.get("items", True)) for i, v in enumerate(record)]
    for name, place, value, part in parts:
        if part is False:
            problems.append(f"{where}: {name} has no place in it")
        elif part is not True:
            problems += validate(value, part, place)
    ### END SOLUTION
    return problems

# %% check="validate" points=8
_person = {"type": "object", "required": ["name", "age"], "additionalProperties": False,
           "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0}}}
check.equal("a record that fits", validate({"name": "Ada", "age": 36}, _person), [], why="nothing wrong: an empty list")
check.equal("a record that holds '' and 0", validate({"name": "", "age": 0}, _person), [], why="they are there, though Python calls them false: name in record")
check.equal("age is missing", validate({"name": "Ada"}, _person), ["record: age is missing"], why="required names it")
check.equal("age is -1", validate({"name": "Ada", "age": -1}, _person), ["record.age: -1 is below 0"],
            why="each property by its own schema; where: record.age")
check.equal("one name too many", validate({"name": "Ada", "age": 36, "shoe": 7}, _person), ["record: shoe has no place in it"],
            why="additionalProperties is False")
check.equal("the same where it is not said", validate({"shoe": 7}, {"properties": {}}), [], why="without additionalProperties other names are allowed")
check.equal("optional and absent", validate({}, {"properties": {"a": {"type": "string"}}}), [], why="properties does not say required")
_others = {"properties": {"a": {"type": "string"}}, "additionalProperties": {"type": "number", "minimum": 0}}
check.equal("others by a schema: p50 of 1.5, p90 of -1", validate({"a": "x", "p50": 1.5, "p90": -1}, _others), ["record.p90: -1 is below 0"],
            why="additionalProperties may be a schema, for all names that properties does not have")
check.equal("a list with one wrong item", validate([1, "two", 3], {"type": "array", "items": {"type": "integer"}}),
            ["record[1]: 'two' is not of type integer"], why="every item by the same schema; where: record[1]")
check.equal("a list with two wrong items, the first and the last", validate(["one", 2, "three"], {"items": {"type": "integer"}}),
            ["record[0]: 'one' is not of type integer", "record[2]: 'three' is not of type integer"], why="all items, and all problems")
check.equal("name and age are both wrong", validate({"name": 7, "age": "x"}, _person),
            ["record.name: 7 is not of type string", "record.age: 'x' is not of type integer"], why="each adds to what was found before")
check.equal("three levels deep", validate({"a": {"b": [{"c": 0}, {"c": 9}]}}, {"properties": {"a": {"properties": {"b": {"items": {
            "properties": {"c": {"maximum": 5}}}}}}}}), ["record.a.b[1].c: 9 is above 5"], why="validate calls itself with the place")
check.equal("a list where an object is wanted", validate([], _person), ["record: [] is not of type object"], why="value_problems says so; nothing is inside")
check.equal("two things wrong", len(validate({"age": "x", "shoe": 7}, _person)), 3, why="name is missing, age is no integer, shoe has no place: all")

# %% [markdown]
"""
### The record

Most of it is bookkeeping, and given: names, hashes, machine, date. Yours are the four parts in which a claim
could hide. The sizes of `models` come from the files themselves, by `file_record`, and not from the figures.
The accuracy is that of the entry's first and last stage (which you have counted). `speed` comes from the
measurements, with interval and n, by `speed_record`; a round is the mean of many answers, so there are no
percentiles of single ones in it, and none are claimed. And `stages` are **all** of them, in order.

```
record["models"]      {"before": a file_record, "after": a file_record}
record["accuracy"]    {"before": 0.95, "after": 0.94}
record["speed"]       {"before": a speed_record, "after": a speed_record}
record["stages"]      [{"name": "start", "note": "", "accuracy": 0.95, "seconds": 0.004, "bytes": 999}, ...]
```
"""

# %% given="file_record"
#| export
def file_record(path: Path) -> dict[str, Any]:
    """A file as a record names it: its name, its bytes, and their SHA-256."""
    raw = path.read_bytes()
    return {"file": path.name, "bytes": len(raw), "sha256": hashlib.sha256(raw).hexdigest()}


def speed_record(measurement: Measurement) -> dict[str, Any]:
    """A measurement as a record has it: the median with its interval, n rounds, answers per second."""
    summary = measurement.summary
    return {
        "seconds": summary.median, "interval": list(summary.interval), "n": summary.n,
        "throughput": 1 / summary.median,
    }  # fmt: skip

# %% exercise="submission"
#| export
def submission(
    entry: Entry,
    track: Mapping[str, Any],
    dataset: str,
    here: str | Path,
    measured: Sequence[Measurement],
) -> dict[str, Any]:
    """The record of an entry: all that somebody needs to count it again.

    track: what target.toml says, with "course" and "target". here: the folder olympics/TRACK of a
    workspace, with before.pt, after.pt, predictions.json and entry.py. measured: of before and after.
    Raises FileNotFoundError if one of them is not there.
    """
    here = Path(here).resolve()
    root, package = here.parents[1], here.parents[1] / "tinytorch"
    names = [path.relative_to(root).as_posix() for path in sorted(package.rglob("*.py"))]
    names.append((here / "entry.py").relative_to(root).as_posix())
    predictions = file_record(here / "predictions.json")
    record = {
        "schema": 1,
        "track": entry.track,
        "course": track["course"],
        "harness": file_record(package / "benchmarking.py")["sha256"][:16],
        "origin": importlib.import_module("tinytorch").origin.kind,
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": machine(),
        "dataset": dataset,
        "predictions": {"file": predictions["file"], "sha256": predictions["sha256"]},
        "target": dict(track["target"]),
        "source": {"files": names, "sha256": source_hash(root, names)},
    }
    ### BEGIN SOLUTION
    record["models"] = {side: file_record(here / f"{side}.pt") for side in ("before", "after")}
    record["accuracy"] = {"before": entry.first.accuracy, "after": entry.last.accuracy}
    record["speed"] = {side: speed_record(m) for side, m in zip(("before", "after"), measured)}
    record["stages"] = [
        {"name": name, "note": note, **figures._asdict()} for name, figures, note in entry.stages
    ]
    ### END SOLUTION
    return record

# %% check="submission" points=6
_entry, _times = _small_entry()
with _entry_folder() as _here:
    _record = submission(_entry, TRACK, "digits", _here, _times)
check.equal("models, the bytes", [_record.get("models", {}).get(_side, {}).get("bytes") for _side in ("before", "after")], [6, 2],
            why="before.pt holds 6 bytes and after.pt 2, by file_record: sizes are those of the files, whatever the figures say")
check.equal("models", _record.get("models"),
            {"before": {"file": "before.pt", "bytes": 6, "sha256": hashlib.sha256(b"before").hexdigest()},
             "after": {"file": "after.pt", "bytes": 2, "sha256": hashlib.sha256(b"af").hexdigest()}},
            why="file_record of before.pt and after.pt, whole: name, bytes and hash")
check.equal("accuracy", _record.get("accuracy"), {"before": 0.95, "after": 0.94}, why="of the entry's first and last figures")
check.equal("speed, the seconds", [_record.get("speed", {}).get(_side, {}).get("seconds") for _side in ("before", "after")], [0.004, 0.0005],
            why="speed_record of measured[0] and measured[1]")
check.equal("speed, the rounds", [_record.get("speed", {}).get(_side, {}).get("n") for _side in ("before", "after")], [6, 7],
            why="each with its own n")
check.equal("stages", _record.get("stages"),
            [{"name": "start", "note": "", "accuracy": 0.95, "seconds": 0.004, "bytes": 999},
             {"name": "int8", "note": "tried", "accuracy": 0.5, "seconds": 0.002, "bytes": 30},
             {"name": "small", "note": "distilled", "accuracy": 0.94, "seconds": 0.0005, "bytes": 2}],
            why="every stage: name and note, and its three figures beside them")
check.equal("what the schema says", validate(_record), [], why="each part as SCHEMA has it")
check.true("it is JSON", json.loads(json.dumps(_record)) == _record, why="dicts, lists, texts and numbers; a tuple would come back as a list")

# %% [markdown]
"""
An invalid record must not come into the world: whoever finds the file later takes it for one that was
checked. So validate first, refuse with all problems in one ValueError, and open the file only then.
"""

# %% exercise="write_submission"
#| export
def write_submission(record: Mapping[str, Any], path: str | Path) -> None:
    """Write a record as JSON; one that does not fit the schema is refused, and nothing is written.

    Raises ValueError with all that is wrong, one per line.
    """
    ### BEGIN SOLUTION
    if problems := validate(record):
        raise ValueError("write_submission: the record is not valid.\n" + "\n".join(problems))
    Path(path).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    ### END SOLUTION

# %% check="write_submission" points=4
_entry, _times = _small_entry()
with _folder({}) as _root, _entry_folder() as _here:
    _record, _path = submission(_entry, TRACK, "digits", _here, _times), _root / "submission.json"
    _record |= {"date": "2026-01-02T03:04:05Z"}
    write_submission(_record, _path)
    check.equal("what is read again", json.loads(_path.read_text("utf-8")) if _path.is_file() else "no file", _record, why="the record as JSON")
    _wrong = _record | {"track": "swimming", "accuracy": {"before": 0.95, "after": 94.0}}
    check.raises("a track that does not exist and 94 as accuracy", ValueError, lambda: write_submission(_wrong, _path),
                 mention=["swimming", "94"], why="all that validate says, a line each: whoever is refused must know what to mend")
    check.equal("the track in the file after that", json.loads(_path.read_text("utf-8")).get("track"), "speed",
                why="the file of before is still there: nothing is written if anything is wrong, so validate first")
    check.raises("a record with a user's name in it", ValueError, lambda: write_submission(_record | {"user": "ann"}, str(_path)), mention=["user"],
                 why="the schema has no place for it, and a record is published")
    _new = _root / "other.json"
    try:
        write_submission({}, _new)
    except ValueError:
        pass
    check.equal("whether a refused record leaves a file", _new.exists(), False, why="not even an empty one: open it only when all is right")
    write_submission(_record, str(_new))
    check.equal("with the path as a text", _new.exists(), True, why="Path(path) takes both")

# %% [markdown]
"""
### From two machines

Two records lie side by side: 1.1 ms in one, 1.7 ms in the other. Which network is faster? If they come from
two machines, or from two harnesses, or if one was asked about other data, nobody can say: the seconds are of
two kinds, like a price in euros and one in yen. So before seconds of two records are compared, ask what
differs that moves a clock: `track`, `dataset`, `harness`, and each part of `machine`. A date or another source
does not: that is what one wants to compare.

Some parts of `machine` are optional. A record that keeps silent about its NumPy is not known to have the same.
"""

# %% exercise="unlike"
#| export
def unlike(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """What differs between two records that moves a clock; [] if nothing is known to.

    track, dataset, harness, then each part of machine that one of them has, sorted, as machine.NAME;
    None stands for what a record does not say.

    >>> part = {"track": "speed", "dataset": "digits", "harness": "0a"}
    >>> unlike(part | {"machine": {"cores": 2}}, part | {"machine": {"cores": 8}})
    ['machine.cores: 2 and 8']
    """
    ### BEGIN SOLUTION
    mine, theirs = one["machine"], other["machine"]
    pairs = {name: (one[name], other[name]) for name in ("track", "dataset", "harness")}
    for name in sorted({*mine, *theirs}):
        pairs[f"machine.{name}"] = mine.get(name), theirs.get(name)
    return [f"{name}: {a!r} and {b!r}" for name, (a, b) in pairs.items() if a != b]
    ### END SOLUTION

# %% check="unlike" points=5
_mine = {"track": "speed", "dataset": "digits", "harness": "0a", "date": "monday", "accuracy": {"after": 0.9},
         "machine": {"cores": 2, "cpu": "x86_64", "memory_gib": 8, "numpy": "2.1"}}
_other = dict(_mine, machine=dict(_mine["machine"], cores=8, cpu="arm64"))
check.equal("a record and itself", unlike(_mine, _mine), [], why="nothing differs")
check.equal("2 and 8 cores, x86_64 and arm64", unlike(_mine, _other), ["machine.cores: 2 and 8", "machine.cpu: 'x86_64' and 'arm64'"],
            why="all that differs, with both values; repr puts the quotes around a text")
check.equal("the other way round", unlike(_other, _mine), ["machine.cores: 8 and 2", "machine.cpu: 'arm64' and 'x86_64'"],
            why="the first record's value stands first")
check.equal("other dates, other accuracy", unlike(_mine, _mine | {"date": "friday", "accuracy": {"after": 0.8}}), [],
            why="they move no clock: the answers may differ, and seconds can be compared")
check.equal("track, dataset and harness", unlike(_mine, _mine | {"track": "vision", "dataset": "mnist", "harness": "0b"}),
            ["track: 'speed' and 'vision'", "dataset: 'digits' and 'mnist'", "harness: '0a' and '0b'"],
            why="another question, other data, another clock")
_silent = _mine | {"machine": {_n: _v for _n, _v in _mine["machine"].items() if _n != "numpy"}}
check.equal("one that does not say its NumPy", unlike(_mine, _silent), ["machine.numpy: '2.1' and None"], why="what is not said is not the same")
check.equal("the same, the other way round", unlike(_silent, _mine), ["machine.numpy: None and '2.1'"],
            why="names of both machines: what the first one keeps silent about counts as well")

# %% [markdown]
"""
### The picture

A **waterfall**: a bar per stage, shorter where there is less. Its axis is logarithmic, from `low` to `high`. On
one from 1 to 1000 that is 30 letters wide, 10 stands at 10: log(10 / 1) / log(1000 / 1) is a third. The
base of the logarithm does not matter, it cancels.
"""

# %% exercise="log_place"
#| export
def log_place(value: float, low: float, high: float, width: int) -> int:
    """The place of a value on a logarithmic axis: low is at 0, high at `width`, rounded.

    All three are above 0; equal factors are equal distances. If low is high, everything is at `width`.

    >>> [log_place(value, 1, 1000, 30) for value in (1, 10, 100, 1000)]
    [0, 10, 20, 30]
    """
    ### BEGIN SOLUTION
    if low == high:
        return width
    return round(width * math.log(value / low) / math.log(high / low))
    ### END SOLUTION

# %% check="log_place" points=3
check.equal("1, 10, 100, 1000 on an axis from 1 to 1000, 30 wide", [log_place(_v, 1, 1000, 30) for _v in (1, 10, 100, 1000)], [0, 10, 20, 30],
            why="each factor of ten is a third of the way")
check.equal("2, 4, 8 from 2 to 8", [log_place(_v, 2, 8, 10) for _v in (2, 4, 8)], [0, 5, 10], why="the axis begins at low, not at 1")
check.equal("0.003 seconds from 0.001 to 0.1, 40 wide", log_place(0.003, 0.001, 0.1, 40), 10,
            why="log10(3) = 0.477 of 2 powers of ten: 9.54 of 40, rounded")
check.equal("type", type(log_place(3, 1, 10, 40)).__name__, "int", why="a number of letters or of pixels")
check.equal("an axis of no length", log_place(5, 5, 5, 40), 40, why="log(1) is 0, and nothing can be divided by it")

# %% [markdown]
"""
The picture has a line per stage, and says three things in it: the bar, the value, and how many times less that
is than at the **start**. (Against the step before it would be the gain of one step; their product is this
number.) `_axis` finds the ends of the axis, and `_line` writes a line; yours is what stands in it.
"""

# %% exercise="waterfall"
#| export
def _axis(values: Sequence[float]) -> tuple[float, float]:
    """Whole powers of ten around the values: no bar is empty, and no axis has length 0."""
    low = math.floor(math.log10(min(values)) - 0.05)
    return 10.0**low, 10.0 ** max(low + 1, math.ceil(math.log10(max(values))))


def _line(name: str, bar: str, value: float, times: float, accuracy: float) -> str:
    said = f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
    return f"  {name} |{bar:40}| {said:>9} {times:6.1f}x less   {accuracy:.1%}"


def waterfall(entry: Entry) -> str:
    """Time and size after each stage as bars of text, logarithmic: ten times less, equally shorter.

    A bar is of # and 40 long at the high end of the axis; `times` is the first stage's value by this one's.
    """
    first, lines = entry.first, []
    wide = max(len(stage.name) for stage in entry.stages)
    for title, which in (("seconds", 1), ("bytes", 2)):
        low, high = _axis([float(stage.figures[which]) for stage in entry.stages])
        lines.append(f"{title}, from {low:g} to {high:g}, logarithmic")
        for name, figures, _ in entry.stages:
            ### BEGIN SOLUTION
            value = figures[which]
            bar, times = "#" * log_place(value, low, high, 40), first[which] / value
            lines.append(_line(f"{name:{wide}}", bar, value, times, figures.accuracy))
            ### END SOLUTION
    return "\n".join(lines)

# %% check="waterfall" points=4
_three = Entry("speed", [Stage("start", Figures(0.98, 0.05, 4000)), Stage("channels", Figures(0.97, 0.02, 2000)),
                         Stage("distilled", Figures(0.96, 0.005, 1000))])
_lines = [_line for _line in waterfall(_three).splitlines() if "|" in _line]
check.equal("lines with a bar, for three stages", len(_lines), 6, why="one per stage for seconds, and one for bytes")
check.equal("lengths of the bars", [_line.count("#") for _line in _lines], [34, 26, 14, 32, 26, 20],
            why="log_place of 50, 20 and 5 ms from 0.001 to 0.1, and of 4,000, 2,000 and 1,000 from 100 to 10,000, 40 wide")
check.equal("times less", re.findall(r"([0-9.]+)x less", "\n".join(_lines)), ["1.0", "2.5", "10.0", "1.0", "2.0", "4.0"],
            why="the start's value by this stage's, as in Foundations")
check.equal("values", re.findall(r"\| +([0-9.,]+)", "\n".join(_lines)), ["0.05", "0.02", "0.005", "4,000", "2,000", "1,000"],
            why="seconds in the first three lines, bytes in the others")
check.equal("accuracy", [_line.rpartition(" ")[2] for _line in _lines], ["98.0%", "97.0%", "96.0%"] * 2, why="each stage's own")
check.equal("places of the bars' beginning", [_line.index("|") for _line in _lines], [_lines[0].index("|")] * 6,
            why="names are filled up to the longest one: f\"{name:{wide}}\"")

# %% given="waterfall_svg"
#| export
def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def waterfall_svg(entry: Entry, path: str | Path) -> None:
    """The same picture as an SVG file: two rows of bars with their numbers, and the accuracy."""
    first, row = entry.first, 26
    parts: list[str] = []
    block = row * len(entry.stages) + 64

    def write(x: int, y: int, text: str, more: str = "") -> None:
        parts.append(f'<text x="{x}" y="{y}"{more}>{_escaped(text)}</text>')

    sides = (("Time", 1, "ms", 1e3), ("Size", 2, "kB", 1e-3))
    for number, (title, which, unit, scale) in enumerate(sides):
        low, high = _axis([float(stage.figures[which]) for stage in entry.stages])
        top = number * block + 30
        write(16, top, f"{title} ({unit}, logarithmic)", ' font-weight="bold"')
        ticks = round(math.log10(high / low)) + 1
        for value in (low * 10.0**i for i in range(ticks)):
            x = 160 + log_place(value, low, high, 320)
            parts.append(f'<path d="M{x} {top + 10}V{top + block - 46}" stroke="#ddd"/>')
            write(x, top + block - 32, f"{value * scale:g}", ' text-anchor="middle" fill="#555"')
        for i, (name, figures, _) in enumerate(entry.stages):
            y, long = top + 14 + row * i, log_place(figures[which], low, high, 320)
            colour, less = "#1f6fb4" if i else "#888", first[which] / figures[which]
            write(152, y + 13, name[:24], ' text-anchor="end"')
            parts.append(f'<rect x="160" y="{y}" width="{long}" height="18" fill="{colour}"/>')
            said = f"{figures[which] * scale:.3g} {unit}, {less:.1f}x, {figures.accuracy:.1%}"
            write(168 + long, y + 13, said)
    text = "\n".join(parts)
    Path(path).write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 660 {2 * block + 10}" '
        'font-family="sans-serif" font-size="12">\n'
        f"<title>{_escaped(entry.track)}: time and size after each stage</title>\n"
        f'<rect width="660" height="{2 * block + 10}" fill="white"/>\n{text}\n</svg>\n',
        encoding="utf-8",
    )

# %% [markdown]
"""
Last, the **front**: which stages does nobody beat? Module 19's `pareto_front` takes a row of figures per
stage, and for each figure whether less is better. Figures are accuracy, seconds, bytes, in that order.
"""

# %% exercise="front"
#| export
def front(entry: Entry) -> list[Stage]:
    """The stages that no other stage beats in accuracy, seconds and bytes together, in order.

    >>> stages = [Stage("a", Figures(0.9, 2.0, 80)), Stage("b", Figures(0.8, 3.0, 80))]
    >>> [stage.name for stage in front(Entry("speed", stages))]
    ['a']
    """
    ### BEGIN SOLUTION
    chosen = pareto_front([stage.figures for stage in entry.stages], (False, True, True))
    return [entry.stages[i] for i in chosen]
    ### END SOLUTION

# %% check="front" points=3
_stages = [Stage("start", Figures(0.95, 8.0, 800)), Stage("small", Figures(0.93, 2.0, 200)), Stage("bad", Figures(0.92, 3.0, 300)),
           Stage("tiny", Figures(0.80, 2.0, 20)), Stage("twin", Figures(0.93, 2.0, 200))]
_front = front(Entry("speed", _stages))
check.equal("the front of five", [getattr(_s, "name", _s) for _s in _front], ["start", "small", "tiny", "twin"],
            why="bad is beaten by small in all three; start has the best accuracy, tiny the fewest bytes; of twins both stay")
check.equal("type", sorted({type(_s).__name__ for _s in _front}), ["Stage"], why="the stages, not their numbers")
check.equal("more accuracy alone", [getattr(_s, "name", _s) for _s in front(Entry("x", [Stage("a", Figures(0.9, 1.0, 1)), Stage("b", Figures(0.8, 1.0, 1))]))],
            ["a"], why="seconds and bytes are better when less, accuracy when more")
_pair = [Stage("slow", Figures(0.9, 5.0, 7)), Stage("quick", Figures(0.9, 1.0, 7))]
check.equal("the same accuracy and bytes, less time", [getattr(_s, "name", _s) for _s in front(Entry("x", _pair))], ["quick"], why="less time beats more")

# %% [markdown]
"""
### The page

Who reads a report reads its first line, and perhaps the rest. So the first line says what was **missed**, by
name; a page that begins with what went well and hides a miss in line twelve is an advertisement. And it ends
with what did not work: dropped steps with their reasons, predictions that were wrong.
"""

# %% exercise="report"
#| export
def report(
    entry: Entry,
    target: Target,
    dropped: Mapping[str, Decision] | None = None,
    predicted: Sequence[Surprise] = (),
) -> str:
    """One page. In this order, one line each but for the picture:

    `TRACK: every target met`, or `TRACK: missed speed, size`, with the names of the missed rows;
    the four rows; the waterfall; `on the front: NAME, NAME`; `NAME: NOTE` of each stage with a note;
    `dropped NAME: REASON` of each dropped step; the predictions as they come.
    """
    rows = target.judge(entry.first, entry.last)
    ### BEGIN SOLUTION
    missed = ", ".join(row.name for row in rows if not row.met)
    lines = [f"{entry.track}: " + (f"missed {missed}" if missed else "every target met"), ""]
    lines += [f"  {row}" for row in rows] + ["", waterfall(entry), ""]
    lines += [f"on the front: {', '.join(stage.name for stage in front(entry))}"]
    lines += [f"  {stage.name}: {stage.note}" for stage in entry.stages if stage.note]
    lines += [f"dropped {name}: {decision.reason}" for name, decision in (dropped or {}).items()]
    lines += [f"{surprise}" for surprise in predicted]
    return "\n".join(lines)
    ### END SOLUTION

# %% check="report" points=6
_two = Entry("speed", [Stage("start", Figures(0.98, 0.05, 4000), "as it was"), Stage("quick", Figures(0.97, 0.02, 4000)),
                       Stage("small", Figures(0.96, 0.02, 1000), "8 bits")])
check.equal("type of the page", type(report(_two, Target())).__name__, "str", why="one text, its lines joined by line ends")
_page = report(_two, Target(), {"int4": Decision(False, "loses 3.0 points, 2.0 may be lost")}, [Surprise("quick", 5.0, 2.5, 2.0)])
check.equal("its first line, with 2.5 of 10 times faster", _page.splitlines()[0].strip(), "speed: missed speed", why="what was missed comes first, by name")
_found = report(_two, Target(5.0, 8.0, 0.01, 0.01)).splitlines()[0].strip()
check.equal("its first line where all four are missed", _found, "speed: missed speed, size, latency, accuracy", why="all of them, in order")
check.equal("its first line where all are met", report(_two, Target(2.0)).splitlines()[0].strip(), "speed: every target met",
            why="from the rows of judge(entry.first, entry.last)")
_parts = {"the four rows of the target": [f"{_row}".strip() for _row in Target().judge(_two.first, _two.last)], "the waterfall": waterfall(_two).splitlines(),
          "the front": ["on the front: start, quick, small"], "the notes": ["start: as it was", "small: 8 bits"],
          "the dropped step, and why": ["dropped int4: loses 3.0 points, 2.0 may be lost"],
          "the prediction": [f"{Surprise('quick', 5.0, 2.5, 2.0)}"]}
_have, _places = [_line.strip() for _line in _page.splitlines()], []


def _begins(line):
    """The first two words of a line."""
    return line.replace(":", "").split()[:2]


for _what, _wanted in _parts.items():
    _wanted = [_line.strip() for _line in _wanted]
    check.equal(f"lines of the page: {_what}", [_line for _line in _have[1:] if _begins(_line) in map(_begins, _wanted)], _wanted,
                why="each on a line of its own, written as the docstring says")
    _places.append(_have.index(_wanted[0]))
check.equal("the order of these parts", _places, sorted(_places), why="rows, waterfall, front, notes, dropped, predictions")
check.equal("a stage without a note", [_line for _line in _have if _line.startswith("quick:")], [], why="there is nothing to say of it")
check.equal("dropped steps of a report without any", [_line for _line in report(_two, Target()).splitlines() if "dropped" in _line], [],
            why="dropped may be None")

# %% [markdown]
"""
## Use: the capstone

A small convolutional network learns TinyDigits. It is asked for a page of 64 digits at once: that is one
answer. First the profile of module 14: where does the time go, and what would it help?
"""

# %% demo="where_it_begins"
manual_seed(0)
start = learn(
    Sequential(Conv2d(1, 16, 3, padding=1), ReLU(), MaxPool2d(2), Conv2d(16, 32, 3, padding=1), ReLU(),
               Flatten(), Linear(512, 64), ReLU(), Linear(64, 10)),
    (train, train_labels), lambda out, y: cross_entropy(out, y), epochs=4)
page = kept[:BATCH]
with no_grad():
    profile = Profiler(start).report(Tensor(page))
print(profile)
print(f"\nright on the {KEPT} kept back: {right(start):.1%}")

# %% [markdown]
"""
### Your prediction

Five steps will be tried in turn, each on what stands when it comes, and a sixth on a language model further
below. **Before** anything is measured, write down for each how many *times faster* it makes an answer: 2 is
half the time, 1 is no difference, 0.5 is twice the time. Nobody grades how good they are; wrong ones teach most.
Have the profile above beside you:

1. **fast kernels**: module 18's, switched on anew for each answer. What did they win in training, and on what sizes?
2. **fewer channels**: half of them in both convolutions, 16 to 8 and 32 to 16. The second one then has half the
   inputs *and* half the outputs. What share of the time is that, and what says Amdahl's law?
3. **distilled**: no convolution at all, layers of 64, 64 and 10 that learn from the first network's answers,
   wrong ones included (module 16). What is left of the profile's time? Faster than what stands *then*.
4. **int8**: weights and products in 8 bits. A quarter of the bytes; and the time, in NumPy?
5. **nothing**: a copy.
6. **cached**: a small GPT writes 48 tokens after a prompt of 16, with module 17's cache. Without it, each new
   token sends the whole text so far through the network: 16 + 17 + … + 63 rows are 1,896. With it, 63. How many
   times faster is that by the clock?
"""

# %% exercise="predict.gains"
### BEGIN SOLUTION
gain_of_fast_kernels = 1.2
gain_of_fewer_channels = 2.0
gain_of_distilled = 15.0
gain_of_int8 = 1.5
gain_of_nothing = 1.0
gain_of_cached = 30.0
### END SOLUTION

# %% check="predict.gains" points=1
PREDICTED = {"fast kernels": gain_of_fast_kernels, "fewer channels": gain_of_fewer_channels, "distilled": gain_of_distilled,
             "int8": gain_of_int8, "nothing": gain_of_nothing, "cached": gain_of_cached}
for _name, _gain in PREDICTED.items():
    check.true(f"{_name}: a number of times faster", isinstance(_gain, (int, float, np.number)) and not isinstance(_gain, bool),
               why="a number, as 2 or 0.5, written down before it is measured", got="not answered yet (...)" if _gain is ... else _gain)
    check.true(f"{_name}: above 0 and below 10,000", 0 < _gain < 10_000,
               why="old time by new time: 2 is half the time, 0.5 is twice the time; not a percentage, not seconds", got=_gain)
check.true("six steps of six kinds", len(set(PREDICTED.values())) > 1, why="the profile says that they cannot all gain the same", got=PREDICTED)

# %% [markdown]
"""
Now measure. `in_turn` tries the steps; each is timed in the same rounds as what stood before it. Decisions are
made on images that were kept back from training; the test images are not touched. A model is here a pair: what
is saved to a file, and how it is asked. (Some seconds.)
"""

# %% demo="stage_by_stage"
TARGET = Target()


def plain(net, x):
    """One answer."""
    with no_grad():
        return net(x)


def fast(net, x):
    """One answer on module 18's kernels."""
    with accelerated(threads=1):
        return plain(net, x)


def as_it_is(model):
    """the same weights on module 18's kernels, switched on for each answer"""
    return model[0], fast


def fewer_channels(model):
    """half the channels of each convolution, trained again for 3 epochs"""
    return learn(prune_channels(model[0], {"0": 0.5, "3": 0.5}), (train, train_labels),
                 lambda out, y: cross_entropy(out, y), epochs=3), plain


def distilled(model):
    """64, 64 and 10 wide, no convolution; learned from the first network's outputs, 30 epochs"""
    manual_seed(0)
    student, loss = Sequential(Flatten(), Linear(64, 64), ReLU(), Linear(64, 10)), DistillationLoss()
    return learn(student, (train, outputs(start, train), train_labels), loss, epochs=30, lr=0.006), plain


def int8(model):
    """weights and products in 8 bits"""
    return quantize(model[0]), plain


def nothing(model):
    """a copy: what does the method say of a step that does nothing?"""
    return model


STEPS = {"fast kernels": as_it_is, "fewer channels": fewer_channels, "distilled": distilled, "int8": int8,
         "nothing": nothing}


def on_disk(net):
    """The network as it comes back from its file, and the file's bytes: what is shipped is what is measured."""
    with _folder({}) as root:
        save(net, root / "net.pt")
        return load(root / "net.pt").eval(), (root / "net.pt").stat().st_size


def answering(model, x):
    """A function that answers x, as the model would be used."""
    net, ask = model
    return lambda: ask(net, x)


def images_tried(standing, candidate):
    """Figures and times of both on one page of digits, side by side, on the images kept back."""
    loaded = {name: (on_disk(net), ask) for name, (net, ask) in (("old", standing), ("new", candidate))}
    times = interleave({name: answering((net, ask), Tensor(page)) for name, ((net, _), ask) in loaded.items()}, 20, 0.01)
    figures = [Figures(right(net), times[name].summary.median, size) for name, ((net, size), _) in loaded.items()]
    came.append(compare(times["new"], times["old"]).speedup)
    return *figures, times["old"], times["new"]


def log_of(decisions, steps):
    """Print what was decided; predictions beside what came, the worst first."""
    for name, decision in decisions.items():
        print(f"{'keep' if decision.keep else 'drop'} {name:15} {decision.reason}")
    predicted = {name: gain for name, gain in PREDICTED.items() if gain is not ...}
    wrong = surprises(predicted, dict(zip(steps, came)))
    print("\nwhat you predicted, in times faster:", *(wrong or ["nothing yet: the cell of your prediction is open"]), sep="\n  ")
    return wrong


came = []
kept_models, decisions = in_turn((start, plain), STEPS, images_tried, TARGET.accuracy)
wrong = log_of(decisions, STEPS)

# %% [markdown]
"""
First your own surprises: for the worst of them, find the reason before you read on. (A dropped step's gain is
counted against what stood at that time, as a kept one's.)

Then the reasons of those that went. Why would kernels that are faster not be kept? Ask the clock for the parts.
"""

# %% demo="what_the_switch_costs"
def switch():
    """Switch module 18's kernels on and off, and answer nothing."""
    with accelerated(threads=1):
        pass


parts = interleave({"plain": answering((start, plain), Tensor(page)), "fast, switched on for it": answering((start, fast), Tensor(page)),
                    "the switch alone": switch}, 10, 0.01)
with accelerated(threads=1):
    parts |= interleave({"fast, already on": answering((start, plain), Tensor(page))}, 10, 0.01)
for name, part in parts.items():
    print(f"{name:25} {1e3 * part.summary.median:.2f} ms")

# %% [markdown]
"""
The last line against the first is what the kernels win; the third is what switching them on costs each time.
Where the switch costs more than one page wins, the step is dropped. A server would leave them on: whoever
measures must say which of the two was measured. int8 makes the file smaller, and the answer slower
where the clock can tell: NumPy has no fast product of small integers. That is a trade, and since the target's
size is met without it, nobody has to make it. And the step that does nothing
should be found out: at a level of 95 % chance calls it faster now and then, which is one more reason to time
again what was kept.

Now all is decided. Only now the test images are looked at, **once**, and all that was kept is timed again,
side by side: in the log above each step was timed in rounds of its own.
"""

# %% demo="the_report"
test, answers = as_batch(digits.test_images), digits.test_labels
models, notes = {}, {"start": "as it was trained"} | {name: step.__doc__ for name, step in STEPS.items()}
sizes, predictions = {}, {}
for name, (net, ask) in kept_models.items():
    net, sizes[name] = on_disk(net)
    models[name], predictions[name] = (net, ask), outputs(net, test).argmax(axis=1)
measured = interleave({name: answering(model, Tensor(page)) for name, model in models.items()}, 20, 0.02)
final = Entry("speed", [
    Stage(name, Figures(accuracy_from(predictions[name], answers), measured[name].summary.median, sizes[name]), notes[name])
    for name in models
])
dropped = {name: decision for name, decision in decisions.items() if not decision.keep}
print(report(final, TARGET, dropped, wrong))
picture = Path(tempfile.gettempdir()) / "tinytorch_waterfall.svg"
waterfall_svg(final, picture)
print(f"\nthe same as a picture, for a browser: {picture.name} in the folder for temporary files")

# %% [markdown]
"""
**A language model** goes through the same loop; what is asked is another thing. A GPT writes 48 tokens after
a prompt of 16. The clock does not care what its weights know, so here they are as they were drawn, and the
"right answers" are what it writes before anything was changed: a step that changes no letter keeps 100 %. The
step that only a language model has is module 17's cache. `generate` and `generate_cached` take the same
arguments, so they are two ways to ask the same weights.
"""

# %% demo="the_same_loop_on_a_text"
manual_seed(0)
gpt, prompt = GPT(GPTConfig(40, 128, dim=64, heads=4, layers=2)).eval(), list(range(16))


def whole(net, tokens):
    """48 tokens; each time the whole text goes through the network."""
    return generate(net, tokens, 48, temperature=0.0)


def from_cache(net, tokens):
    """48 tokens; each time only the new one does (module 17)."""
    return generate_cached(net, tokens, 48, temperature=0.0)


def cached_fast(net, tokens):
    """The same on the kernels of module 18."""
    with accelerated(threads=1):
        return from_cache(net, tokens)


def text_tried(standing, candidate):
    """Figures and times of both, side by side: tokens as at the beginning, seconds of a text, bytes."""
    loaded = {name: (on_disk(net), ask) for name, (net, ask) in (("old", standing), ("new", candidate))}
    times = interleave({name: answering((net, ask), prompt) for name, ((net, _), ask) in loaded.items()}, 8, 0.01)
    figures = [Figures(accuracy_from(ask(net, prompt)[16:], as_at_first), times[name].summary.median, size)
               for name, ((net, size), ask) in loaded.items()]
    came.append(compare(times["new"], times["old"]).speedup)
    return *figures, times["old"], times["new"]


TEXT_STEPS = {"cached": lambda model: (model[0], from_cache), "fast kernels": lambda model: (model[0], cached_fast),
              "int8": lambda model: (quantize(model[0]), model[1])}
as_at_first, came = whole(gpt, prompt)[16:], []
kept_texts, decisions = in_turn((gpt, whole), TEXT_STEPS, text_tried)
for name, decision in decisions.items():
    print(f"{'keep' if decision.keep else 'drop'} {name:15} {decision.reason}")
guess = {"cached": gain_of_cached} if gain_of_cached is not ... else {}
print("\nwhat you predicted:", *(surprises(guess, dict(zip(TEXT_STEPS, came))) or ["nothing yet"]), sep="\n  ")
print("\ntokens   rows /   time /")
for count in (48, 112):
    ways = {"whole": lambda n=count: generate(gpt, prompt, n, temperature=0.0),
            "cached": lambda n=count: generate_cached(gpt, prompt, n, temperature=0.0)}
    times = interleave(ways, 6, 0.01)
    saved = sum(range(16, 16 + count)) / (15 + count)
    print(f"{count:6} {saved:8.1f} {compare(times['cached'], times['whole']).speedup:8.1f}")
room = gpt.config.context * bytes_per_token(gpt.config)
print(f"\nthe cache of one text: {room:,} bytes, beside a model of {on_disk(gpt)[1]:,}; of that no figure speaks")

# %% [markdown]
"""
30 times fewer rows are not 30 times less time: each token still calls every layer once, and a call has a price
of its own, for one row as for forty. Where texts are longer there is more arithmetic to be saved, and the last
lines show what the cache wins then. Module 18's kernels are switched on once for 48 tokens here, not once for
each answer: compare the two decisions on them. The same step, another question.

The cache costs no accuracy, no byte of the file and no training: for a language entry it is the step to try
first, and `tito olympics init --track language` begins with it. But free it is not. It holds memory for every
text that is written at the same time (the last line; module 17 counted it), and memory is in none of our three
figures. `decide` sees only what is measured, so a report must say what was not.

Every figure of the page can be counted again by somebody else, if they get the files. The integration: a
folder as `tito olympics` wants it, a record, and the refusal of one that was touched up afterwards.
"""

# %% demo="the_whole_entry"
with _entry_folder() as here:
    save(models["start"][0], here / "before.pt")
    save(list(models.values())[-1][0], here / "after.pt")
    both = measured["start"], list(measured.values())[-1]
    record = submission(final, TRACK, "digits", here, both)
    write_submission(record, here / "submission.json")
    again = json.loads((here / "submission.json").read_text("utf-8"))
    print("what is wrong with it, read again:", validate(again))
    print("sizes:", {side: part["bytes"] for side, part in again["models"].items()}, "speed:", f"{again['speed']['after']['interval']}")
    try:
        write_submission(again | {"accuracy": {"before": 0.97, "after": 1.2}, "rank": 1}, here / "submission.json")
    except ValueError as error:
        print("touched up:", error)
    (here / "entry.py").write_bytes(b"cheat()\n")
    same = source_hash(here.parents[1], again["source"]["files"]) == again["source"]["sha256"]
    print("the code is still the one that made it:", same)

# %% [markdown]
"""
Your own entry is next. `tito olympics init --track speed` writes a script that uses exactly these names, on the
network that you recorded in a milestone; `tito olympics check` counts it again as a judge would.

## Measure: what an answer costs, apart from arithmetic

By module 14's count you know the FLOPs of both networks. Predict: is the last network faster by as much as it
has fewer FLOPs? And does that depend on how many digits are asked at once?
"""

# %% demo="arithmetic_and_the_rest"
first, last = (list(models.values())[i][0] for i in (0, -1))
print("digits   FLOPs /   time /   µs of the last one")
for count in (1, 8, 64, 400):
    some = Tensor(kept[:count])
    with no_grad():
        flops = [sum(row.flops for row in Profiler(net).report(some).rows) for net in (first, last)]
        found = interleave({"first": lambda: first(some), "last": lambda: last(some)}, 8, 0.01)
    speedup = compare(found["last"], found["first"]).speedup
    print(f"{count:6} {flops[0] / flops[1]:9.1f} {speedup:8.1f} {1e6 * found['last'].summary.median:12.1f}")

# %% [markdown]
"""
FLOPs promise one factor for all of these rows; the clock gives several. For a single digit most of the time is
Python calling NumPy, which both networks pay; convolution also gathers its windows, which no FLOP counts. A
claim of "ten times faster" without the number of images asked at once is half a claim.

## Break: four cheats, and what refuses them

**A benchmark that times nothing.** The function is named, and not called. It is very fast.
"""

# %% demo="it_times_nothing"
work = sum(row.flops for row in profile.rows)
for name, function in (("wrong", lambda: answering(models["start"], Tensor(page))), ("right", answering(models["start"], Tensor(page)))):
    seconds = interleave({name: function}, 8, 0.005)[name].summary.median
    print(f"{name}: {seconds * 1e6:9.2f} µs, that would be {work / seconds / 1e9:12,.1f} GFLOP/s")

# %% [markdown]
"""
Its interval can be as narrow as one likes, and nothing is wrong with the clock. What refuses it is
arithmetic: so many operations in so little time, and no machine of this kind has that peak (module 14 measures
yours). `tito olympics check` asks for that.

**Accuracy on the images it learned from.** A large network, 150 digits, many epochs.
"""

# %% demo="it_knows_them_by_heart"
manual_seed(0)
parrot = learn(Sequential(Flatten(), Linear(64, 256), ReLU(), Linear(256, 10)), (train[:150], train_labels[:150]),
               lambda out, y: cross_entropy(out, y), epochs=60)
claimed = right(parrot, train[:150], train_labels[:150])
print(f"wrong: {claimed:.1%} on the images it learned from")
try:
    accuracy_from(outputs(parrot, test).argmax(axis=1), answers, claim=claimed)
except ValueError as error:
    print("right:", error)

# %% [markdown]
"""
**The best of ten runs** against the worst of ten. A run is here one answer; both sides are the same network.
"""

# %% demo="the_best_of_ten"
rounds = interleave({name: answering((last, plain), Tensor(page)) for name in "ab"}, 10, 1e-6)  # one answer in a round
a, b = rounds["a"], rounds["b"]
print(f"wrong: {max(b.samples) / min(a.samples):.2f} times faster, the best of one against the worst of the other")
print("right:", compare(a, b))
print("and so:", decide(final.last, final.last, b, a))

# %% [markdown]
"""
Whoever picks a run picks noise. Pairs of rounds, with their interval, do not ask which run one likes. The same
cheat is played with seeds (the best of ten trainings) and with test images (ten looks, the best is reported):
there the remedy is to decide on images kept back, and look at the test once.

**Two machines as if they were one.** Somebody with a slow board has a record as well. For the cell it is made
from yours: the same networks, another CPU, and every answer slower by one factor, so large that their best is
1.5 times the time of your beginning. It lies beside your record, and the faster "after" is to be told from the
slower one.
"""

# %% demo="two_machines_as_one"
def on_a_slow_board(record):
    """The record as a board would have written it that is slower by one factor in everything."""
    before, after = (record["speed"][side]["seconds"] for side in ("before", "after"))
    speed = {side: part | {"seconds": 1.5 * before / after * part["seconds"]} for side, part in record["speed"].items()}
    return record | {"machine": record["machine"] | machine_record(1, 2**29, "armv6l"), "speed": speed}


theirs = on_a_slow_board(again)
untouched = again | {"speed": {side: again["speed"]["before"] for side in ("before", "after")}}  # nothing was done
seconds = {name: part["speed"]["after"]["seconds"] for name, part in (("yours", untouched), ("theirs", theirs))}
print(f"wrong: your network, in which nothing was changed, answers in {1e3 * seconds['yours']:.2f} ms, their optimised one in "
      f"{1e3 * seconds['theirs']:.2f} ms: yours is {seconds['theirs'] / seconds['yours']:.1f} times faster")
print("right: these seconds may not be compared:", *unlike(untouched, theirs), sep="\n  ")
for name, part in (("yours", untouched), ("theirs", theirs)):
    print(f"{name:7} against its own beginning: {part['speed']['before']['seconds'] / part['speed']['after']['seconds']:.1f} times faster")

# %% [markdown]
"""
The seconds spoke about the board, not about the work. What travels better is each record's own ratio, before by
after on one machine; but only better: a cache, a core or another BLAS moves the ratio as well. Who must know
measures both models on **one** machine, in the same rounds, as `tito olympics check` does. And an empty list of
`unlike` is no proof: machines are rounded, and one of thousands is not the same one.

## Reflect

Predict with pencil and paper, write the answer into the cell, and the check says whether it holds.

**1.** Of a network's time, 60 % is convolution, the rest is not. A step makes the convolutions ten times
faster. How many times faster does the whole become?
"""

# %% exercise="predict.whole_speed"
### BEGIN SOLUTION
whole_speed = 1 / (0.4 + 0.6 / 10)
### END SOLUTION

# %% check="predict.whole_speed" points=1
check.prediction("times faster in all", whole_speed, "Mi4xNzM5MTMwNDM0NzgyNjE=", unit="times", rel=0.01,
                 why="module 14's amdahl: 0.4 stays as it was, 0.6 shrinks to a tenth; ten times is out of reach")

# %% [markdown]
"""
**2.** Five steps, all orders, and each order takes 3 seconds to measure. How many seconds does `try_orders` take?
"""

# %% exercise="predict.seconds_of_orders"
### BEGIN SOLUTION
seconds_of_orders = 5 * 4 * 3 * 2 * 3
### END SOLUTION

# %% check="predict.seconds_of_orders" points=1
check.prediction("seconds for all orders of five steps", seconds_of_orders, "MzYw", unit="s", rel=0.001,
                 why="the first step is one of five, the next one of four, …; each order takes 3 seconds")

# %% [markdown]
"""
**3.** Three steps are tried in turn. Each is faster beyond noise, and each loses 0.8 points against the step
before. No `in_turn`: `decide` is called with `may_lose=0.02` every time, and the target allows 2 points. What
happens?

- a) all are kept, and the target is met: each loses less than 2 points
- b) the third one is dropped by `decide`
- c) all are kept, and `judge` says accuracy is missed
- d) none is kept, as each loses something
"""

# %% exercise="predict.three_small_losses"
### BEGIN SOLUTION
three_small_losses = "c"
### END SOLUTION

# %% check="predict.three_small_losses" points=1
check.choice("three steps of 0.8 points each", three_small_losses, "Yw==", ["a", "b", "c", "d"],
             why="decide sees one step, judge sees the first and the last stage: what is the sum? What does in_turn pass as "
                 "may_lose?")

# %% [markdown] question="your_report" points=3
"""
**4. Open question, graded by a person.** Your own report. Make an entry to one track with `tito olympics`
(or, without it, change the recipe of the demo above): a target that you set beforehand, at least three steps
of which one is dropped, and the report's page. Then write, in half a page: (a) what you predicted for each step
before it was measured (`surprises`), and where you were wrong, with the reason; (b) which of your figures you trust least,
and what would raise your trust; (c) what somebody with another machine would find different, and what not.

*Your answer:*
"""

# %% [markdown]
"""
## In production

Everything here has a large sister. **MLPerf Inference** (Reddi et al. 2020) sets scenarios, a quality target
that the optimised model must keep, and a load generator that submitters may not change; results are reviewed
by competitors before they are published, and code is submitted with them. Our judge recomputes instead: it
loads the models and asks again. Schemas are written in JSON Schema by many, and checked by libraries such as
`jsonschema`; ours knows nine words of it, and is stricter in one point: 1.0 is no integer.

Hashes of sources and artefacts are how builds are made reproducible, and signed **provenance** (SLSA,
Sigstore) says who made them; ours says only *what*. Search over orders and settings is automated in
compilers (TVM, Triton's autotuner), with `decide` in the loop and the same danger: who tries thousand
candidates on one set of images has fitted that set.

What we are not building: energy (it needs a meter), other hardware, a leaderboard. A rank would ask who is
best; the record answers what holds.

## When it fails

| symptom | cause | where to look |
|---|---|---|
| `the predictions give` | the claim is not what the predictions say | count again with `accuracy_from`, and claim that |
| `one class for each question` | outputs instead of classes, or other images than the answers | `argmax(axis=1)`; the test's own labels |
| `the record is not valid` | a part does not fit the schema | the lines below it: place, value, rule |
| `record: models is missing` | a part of the record was not filled in | the `submission` exercise: models, accuracy, speed, stages |
| `has no place in it` | a name that the schema does not have | the spelling; notes belong into `note` |
| `is not of type` | NumPy numbers, or a tuple where JSON has a list | `float(...)`, `int(...)`, `list(...)` |
| `is not JSON serializable` | NumPy numbers or arrays in the record | `float(...)`, `.tolist()` |
| `Rounds are compared in pairs` | times of two separate measurements | measure both together, with `interleave` |
| `division by zero` | an axis whose ends are equal, or seconds that were never measured | `log_place` with low == high; the figures of the first stage |
| `math domain error` | the logarithm of 0 | `max(memory, 1)`; values above 0 on a logarithmic axis |
| `has no attribute 'keep'` | a bare tuple, or nothing, where a Decision is wanted | `return Decision(keep, reason)` on every path |
| `'str' object is not callable` | the name of a step was called | `steps[name](value)` |
| `must be encoded before hashing` | a text was hashed | `name.encode()`, `str(...).encode()` |
| `'PosixPath' and 'str'` | paths are joined by a slash | `Path(root) / name` |
| `has no attribute 'write'` | json.dump wants an open file | `Path(path).write_text(json.dumps(record))` |
| `KeyError` | a name that need not be there: a word of a schema, a step, a part of a machine | `.get(name, …)`, or ask `in` first |
| `values to unpack` | a dict was gone through by its names alone | `steps.items()` |
| `setting an array element with a sequence` | stages where rows of figures are wanted | `[stage.figures for stage in entry.stages]` |
| `No such file or directory` | before.pt, after.pt, predictions.json or entry.py is not in the folder | run the entry as a whole |
| `expected string or bytes-like object` | a pattern was held against a number | only texts have patterns |
| `not supported between instances` | a limit was held against a text | only numbers have limits |
| `'bool' object has no attribute` | additionalProperties is False or True, not a schema | ask for both before you go inside |
| `'NoneType' object is not` | a function without `return` | its last line |
| `no stages` | an entry without its beginning | the first Stage is the model you began with |
| `object has no attribute 'items'` | records or gains as lists | dicts, by name: `dict(zip(steps, came))` |
| `KeyError: 'machine'` | something that is no whole record was compared | `json.loads` of submission.json, as it was written |
| a step that does nothing is kept | one number was held against another | `compare`, with its verdict |
| all orders but the first are wrong | a step changed what it got | `copy.deepcopy(start)` in the loop |
| the hash differs on another machine | names were not sorted, or text was read instead of bytes | `sorted`, `read_bytes` |
"""
