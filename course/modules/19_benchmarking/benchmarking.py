# %% [markdown]
"""
# 19 · Benchmarking

Anybody can get a number out of a clock. This module is about numbers that are still true tomorrow: what a
measurement can claim, what it cannot, and how to notice the difference before somebody else does.

```
you have built     a framework (01-13), and the means to make it faster (14-18)
        |
        v
you build now      a harness: calibrated blocks, warm-up, measuring side by side, intervals,
                   "no difference", VALID or INVALID, percentiles, four scenarios, the front
        |
        v
this unlocks       20 the Olympics; `tito benchmark`, whose harness this is
```

Time: about 3 hours. Every exercise is a cell with a hole in it, and the cell below it checks your answer.
Run `tito watch` in a terminal beside this notebook.
"""

# %% given="imports"
#| default_exp benchmarking
#| export
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Clock = Callable[[], float]  # seconds, from any beginning: only differences are used

# %% given="types"
#| exporti
Function = Callable[[], object]  # the work to be timed: no arguments, the result is thrown away
Samples = Sequence[Any]  # what a model may be asked
Respond = Callable[[list[Any]], object]  # the system under test: answers a list of samples

# %% given="tools"
import itertools
import os
import subprocess
import sys

import tito.checks as check
from threadpoolctl import threadpool_limits
from tinytorch.core.activations import ReLU
from tinytorch.core.autograd import no_grad
from tinytorch.core.layers import Flatten, Linear, Sequential
from tinytorch.core.losses import CrossEntropyLoss
from tinytorch.core.optimizers import Adam
from tinytorch.core.tensor import Tensor, manual_seed
from tinytorch.core.training import accuracy, training_step
from tinytorch.data.loader import load_tinydigits

threadpool_limits(1)  # matrix products on one core: a second one helps only while it is free


def bar(value, full, width=50):
    """A length as text: `full` is `width` marks long."""
    return "#" * max(1, min(width, round(width * value / full)))


def strip(interval, low, high, width=41):
    """An interval as text, on a line from `low` to `high` with a mark at 1."""
    place = [min(max(round((end - low) / (high - low) * (width - 1)), 0), width - 1) for end in (*interval, 1.0)]
    line = [" "] * width
    line[place[2]] = "|"
    line[place[0] : place[1] + 1] = "-" * (place[1] + 1 - place[0])
    return "".join(line)

# %% [markdown]
"""
## Why: twenty percent faster

You have improved a function. You time it once before and once after, as everybody does. It came out a bit
slower? Then something disturbed it: try again. The cell below tries thirty times. Look for the improvement
before you run it.
"""

# %% demo="twenty_percent_faster"
DATA = np.random.default_rng(0).normal(size=20_000)


def before():
    return np.sort(DATA)


after = before  # the improvement


def once(function):
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


once(before)  # the very first call is always slower; let nobody say that this was it
gains = sorted(once(before) / once(after) - 1 for _ in range(30))
print("gain of `after` in thirty tries:", " ".join(f"{gain:+.0%}" for gain in gains))
print(f"\nWe are proud to announce that the new version is up to {gains[-1]:.0%} faster.")

# %% [markdown]
"""
Both names are the same function. Every gain and every loss in that line is noise, and the announcement is
what remains when somebody tries until it looks well. Nobody lied, and it is not true.

A larger effect would show through, and real improvements are often smaller than this noise. So the question
is not how fast something is. It is **what can be said** after measuring: faster, slower, or no difference
that this measurement could see. By the end of this module your own code will answer that, and it will
refuse to answer where it must.

## Foundations

### Noise has one sign

The processor does the same steps every time. What varies is what else happens: another program gets the
core for a while, the caches hold somebody else's data, the clock rate goes down because it is hot. All of
these **add** time. Here is a function that needs 10, in five runs, one of them interrupted:

```
samples    10  11  10  30  10
mean       14.2          the interruption has moved it to where no sample is
median     10            sorted: 10 10 10 11 30, the one in the middle
minimum    10
```

The median holds as long as fewer than half of the runs are disturbed. The minimum holds if a single one is
undisturbed; but it knows nothing of the typical run, and it can only ever fall with more tries.

### How sure is a median?

Three samples, 1, 2 and 9; the median is 2. Had you measured again, you would have got other samples. You
cannot know which, but the samples you have are your best guess of what can come. So draw three *from them*,
with repetition, and take the median; again and again. There are 3 * 3 * 3 = 27 equally likely draws:

```
1 1 1   1 1 2   1 2 1   2 1 1   1 1 9   1 9 1   9 1 1     median 1 in  7 of 27
2 9 9   9 2 9   9 9 2   1 9 9   9 1 9   9 9 1   9 9 9     median 9 in  7 of 27
all the others                                            median 2 in 13 of 27
```

So *about 2* is right half of the time, and nearly as often it might have been 1 or 9: three samples say very
little. That is the **bootstrap** (Efron 1979). Its 95 % interval is what is left of the many medians when you
cut off a fortieth at each end.

There is a limit below which no method helps. The true median is by definition the number that half of all
samples exceed. The chance that all n of yours lie above it is ½ⁿ, and as much that all lie below:

```
n             3      4      5      6
2 * ½ⁿ     0.25  0.125  0.062  0.031       all on one side: the truth is not even between your samples
```

An interval of 95 % needs six samples. With five, an honest program must refuse.

### Side by side

The machine is slow in some rounds and fast in others. Two functions, measured one after the other in each of
four rounds:

```
round           1    2    3    4
a              10   20   10   30       from 10 to 30
b               9   18    9   27       from  9 to 27: who would dare to say which is faster?

b / a         0.9  0.9  0.9  0.9       a tenth faster, no doubt about it
```

What disturbs both alike falls out of the **ratio**. It does so only if the two really stand beside each
other; had all of a been measured first, and then all of b, the machine's slow hour would have hit one of
them.

### A clock for the checks

A check that measured time would pass on one machine and fail on another. So everything in this module takes
its `clock` as an argument: any function that returns seconds. In use it is `time.perf_counter`. In the
checks it is this one, which stands still until somebody works.
"""

# %% given="fake_clock"
class FakeClock:
    """A clock that only work and sleep move, so that checks depend on no machine.

    slowness(now): by what factor the machine is slower at that time. patience: when to suspect a loop.
    """

    def __init__(self, slowness=lambda now: 1.0, patience=5000):
        self.now, self.slowness, self.patience = 64.0, slowness, patience
        self.reads, self.log, self.naps = 0, [], []

    def __call__(self):
        self.reads += 1
        if self.reads > self.patience:
            raise RuntimeError(f"the clock has been read {self.patience:,} times: does your loop ever end?")
        return self.now

    def sleep(self, seconds):
        if seconds < 0:
            raise ValueError("sleep length must be non-negative")
        self.naps.append(seconds)
        self.now += seconds

    def work(self, *costs, name="work"):
        """A function whose calls take these seconds, one after the other; the last one for ever."""
        left = list(costs)

        def run(*_):
            self.log.append(name)
            if len(self.log) > self.patience:
                raise RuntimeError(f"the work was called {self.patience:,} times: does your loop ever end?")
            self.now += (left.pop(0) if len(left) > 1 else left[0]) * self.slowness(self.now)

        return run


class SlowSamples:
    """n samples, the numbers 0 to n - 1, each of which takes `seconds` of a FakeClock to be fetched."""

    def __init__(self, n, clock=None, seconds=0.0):
        self.n, self.clock, self.seconds = n, clock, seconds

    def __len__(self):
        return self.n

    def __getitem__(self, index):
        if not 0 <= int(index) < self.n:
            raise IndexError(f"sample {index} of {self.n}")
        if self.clock is not None:
            self.clock.now += self.seconds
        return int(index)

# %% [markdown]
"""
A first call of 2 seconds, all others a quarter: a machine that needs no patience.
"""

# %% demo="a_fake_clock"
clock = FakeClock()
work = clock.work(2.0, 0.25)
for _ in range(3):
    start = clock()
    work()
    print("this call took", clock() - start)

# %% [markdown]
"""
## Build

### A block

A clock has steps, and reading it takes time. A function of a microsecond cannot be measured by one call: read
the clock, call it many times in a loop, read the clock again, and divide. Such a loop is a **block**, and the
unit of everything that follows. Its result is one sample, in seconds per call.
"""

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

# %% check="time_block" points=2
def _per_call(*costs, repetitions):
    """What time_block says, to a tenth of a millisecond."""
    seconds = time_block(_clock.work(*costs), repetitions, _clock)
    return seconds if seconds is None else round(float(seconds), 4)


_clock = FakeClock()
check.equal("8 calls of a quarter second each: seconds per call", _per_call(0.25, repetitions=8), 0.25,
            why="2 seconds, divided by 8")
check.equal("calls made, and readings of the clock", (len(_clock.log), _clock.reads), (8, 2),
            why="once before all calls and once after: reading in between would be measured with them")
check.equal("a first call of 2, then a quarter each, 4 calls", _per_call(2.0, 0.25, repetitions=4), 0.6875,
            why="(2 + 3 * 0.25) / 4: all calls count, the first one, too")
check.equal("a single call of 3 seconds", _per_call(3.0, repetitions=1), 3.0)

# %% [markdown]
"""
### Calibrate

How many calls make a block? Enough that the clock's own error vanishes, and that a short interruption is
small beside it: 0.05 seconds, say. You cannot know the number before you have tried. So try: blocks of 1, 2,
4, 8, … calls, until one of them lasts.

```
a call takes 0.25 s, the target is 1.5 s

calls    1      2      4      8
block    0.25   0.5    1.0    2.0        at least 1.5: the answer is 8
```

Doubling costs little: all the tries together are shorter than the last one is long. A single call as a
first guess (`1.5 / 0.25 = 6`) is what you would write first. But the first call of all is the one that is
least like the others, as you will see.

A clock that stands still would make you double for ever. `_refuse_still_clock` (given) raises an error then, and
when calls took less time than Python needs to call anything; call it with the block's seconds and the
repetitions before each doubling.
"""

# %% given="refuse_still_clock"
#| exporti
def _refuse_still_clock(spent: float, repetitions: int) -> None:
    """Raises ValueError if many calls, or samples, took less than 10 ns each: nothing is done there."""
    if repetitions >= 2**12 and spent < repetitions * 1e-8:
        raise ValueError(
            f"{repetitions:,} took {spent:g} s: this clock stands still, or not all are worked on."
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

# %% check="calibrate" points=3
_clock = FakeClock()
check.equal("a quarter second per call, target 1.5 s", calibrate(_clock.work(0.25), 1.5, _clock), 8,
            why="blocks of 0.25, 0.5, 1 and 2 seconds: the first that lasts 1.5 has 8 calls")
check.equal("calls made on the way", len(_clock.log), 15, why="1 + 2 + 4 + 8: every try is a whole block")
check.equal("1/64 s per call, target 1/16 s", calibrate(_clock.work(1 / 64), 1 / 16, _clock), 4,
            why="4 calls last exactly 1/16 s: at least the target is enough")
check.equal("a second per call, the default target", calibrate(_clock.work(1.0), clock=_clock), 1,
            why="one call is long enough")
check.equal("a first call of 2 s, then 1/64 s each, target 1 s: calls, then again",
            [calibrate(_work, 1.0, _clock) for _work in [_clock.work(2.0, 1 / 64)] * 2], [1, 64],
            why="the first block was long by chance; warming up is another exercise")
_still = FakeClock(patience=10_000)
check.raises("a clock that stands still", ValueError, lambda: calibrate(_still.work(0.0), 0.05, _still),
             why="_refuse_still_clock before each doubling", mention=["stands still"])

# %% [markdown]
"""
### Warm-up

The first runs are not like the others. Memory is touched for the first time, and the system has to find it;
caches are empty; a table is built that later calls only look up. A user who runs a function all day should
not be told about that, and a user who runs it once should be told about nothing else. Decide, and say which.

Here is a function that remembers words it has seen, as a tokenizer may: a block is 40 words out of 150, and
an unknown word costs work.
"""

# %% demo="a_warm_up_curve"
def remembering(seed=0):
    """A function that looks up 40 words of 150, and computes those it has not met before."""
    rng, known = np.random.default_rng(seed), {}

    def look_up():
        for word in rng.integers(0, 150, 40):
            if word not in known:
                known[word] = sum(math.sqrt(i) for i in range(400))

    return look_up


look_up = remembering()
times = [time_block(look_up, 1) for _ in range(30)]
for number, seconds in enumerate(times, 1):
    print(f"block {number:2}  {1e6 * seconds:6.0f} µs  {bar(seconds, max(times))}")
print(f"\nmean of all {1e6 * np.mean(times):.0f} µs, median of the last ten {1e6 * np.median(times[-10:]):.0f} µs")

# %% [markdown]
"""
The mean of such a curve describes none of its blocks. And if a version without the memory were measured
beside it, who wins would depend on how long you look.

So run blocks and throw their times away until they are **steady**. Steady means: the median of the last
three blocks is within 5 % of the median of the three blocks before those. Medians, because a single
disturbed block should neither end the warm-up nor prolong it.

```
times      8  4  2  1  1  1              median of 8 4 2 is 4, of 1 1 1 is 1: not steady
           8  4  2  1  1  1  1           median of 4 2 1 is 2, of 1 1 1 is 1: not steady
           8  4  2  1  1  1  1  1        median of 2 1 1 is 1, of 1 1 1 is 1: steady, after 8 blocks
```

Change is change in both directions: a machine that gets slower is not steady either. And there must be an
end: after `limit` blocks give up. Whether the rest is fit to be quoted, another function will judge.
"""

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

# %% check="warm_up" points=4
_clock = FakeClock()
_curve = (8.0, 4.0, 2.0, 1.0)
check.equal("times 8, 4, 2, 1, 1, …: blocks until steady", warm_up(_clock.work(*_curve), clock=_clock), 8,
            why="medians of (2, 1, 1) and (1, 1, 1): the first pair of windows that agree")
check.equal("the same with window=2", warm_up(_clock.work(*_curve), window=2, clock=_clock), 7,
            why="(1, 1) and (1, 1); before that (2, 1), whose median is 1.5")
check.equal("steady from the start", warm_up(_clock.work(1.0), clock=_clock), 6,
            why="two windows of 3 are needed before anything can be said")
check.equal("times 1, 1, 9, 1, 1, 1", warm_up(_clock.work(1.0, 1.0, 9.0, 1.0), clock=_clock), 6,
            why="one disturbed block does not move a median")
check.equal("times 1, 1, 1, 2, 2, …: slower is not steady either",
            warm_up(_clock.work(1.0, 1.0, 1.0, 2.0), clock=_clock), 8,
            why="(1, 2, 2) and (2, 2, 2); the distance counts, not its sign")
_slight = (100.0, 100.0, 100.0, 104.0)
check.equal("100, 100, 100, 104, 104, …, tolerance 0.05 and 0.03",
            [warm_up(_clock.work(*_slight), tolerance=_t, clock=_clock) for _t in (0.05, 0.03)], [6, 8],
            why="4 of 100 is 0.04: a share of the earlier median, not seconds")
check.equal("each block twice as long as the last, limit=10",
            warm_up(_clock.work(*(2.0**i for i in range(12))), limit=10, clock=_clock), 10,
            why="never steady: give up after limit blocks")
_clock.log.clear()
warm_up(_clock.work(0.25), 4, clock=_clock)
check.equal("calls in 6 blocks of 4 repetitions", len(_clock.log), 24, why="a block is time_block's")

# %% [markdown]
"""
### The bootstrap

Now the 27 draws of Foundations for any number of samples. All of them would be too many: 20 samples can be
drawn in 20²⁰ ways. A few thousand at random do. That is one line of NumPy: an array of random row numbers of
shape `(resamples, n)`, and `samples[picks]` is an array of the same shape, one draw per row.

```
samples   [1 2 9]     picks  [2 0 1]     samples[picks]  [9 1 2]     median per row  [2
                             [0 0 2]                     [1 1 9]                      1
                             [2 2 1]                     [9 9 2]                      9]
                               ...                          ...                      ...
```

The statistic works along the rows, `statistic(draws, axis=1)`. Of the many results, cut off half of what lies
outside the level at each end: for 95 % the quantiles 0.025 and 0.975, `np.quantile`.

`_checked` (given) makes an array of the samples and refuses too few of them.
"""

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
def _checked(samples: ArrayLike, level: float) -> NDArray[np.float64]:
    """The samples as an array (n,). Raises ValueError if they are too few, or not finite."""
    array = np.asarray(samples, dtype=np.float64)
    if array.ndim != 1 or not np.isfinite(array).all():
        raise ValueError(f"samples of shape {array.shape}: give a list of finite numbers.")
    if len(array) < rounds_needed(level):
        raise ValueError(
            f"{len(array)} samples cannot carry an interval of {100 * level:g} %, "
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
    array = _checked(samples, level)
    ### BEGIN SOLUTION
    rng = np.random.default_rng(seed)
    picks = rng.integers(0, len(array), (resamples, len(array)))
    values = statistic(array[picks], axis=1)  # (resamples, n) -> (resamples,)
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
    ### END SOLUTION

# %% check="bootstrap_interval" points=6
_ends = bootstrap_interval([7.0] * 10)
check.equal("ten samples of 7", _ends, (7.0, 7.0), why="a tuple; every draw is the same ten numbers")
_rng = np.random.default_rng(8)
_samples = _rng.normal(100, 10, 60)
_error = float(_samples.std() / np.sqrt(60))
_low, _high = bootstrap_interval(_samples, np.mean, resamples=6000)
check.close("60 samples, statistic=np.mean, 95 %: both ends, in standard errors from the mean",
            [(_low - _samples.mean()) / _error, (_high - _samples.mean()) / _error], [-1.96, 1.96], atol=0.12,
            why="the mean of 60 draws is nearly normal: 95 % of it lies within 1.96 standard errors")
_low, _high = bootstrap_interval(_samples, np.mean, level=0.5, resamples=6000)
check.close("the same for level=0.5", [(_low - _samples.mean()) / _error, (_high - _samples.mean()) / _error],
            [-0.674, 0.674], atol=0.06, why="half of a normal distribution lies within 0.674")
_few = np.array([30.0, 10.0, 50.0, 20.0, 70.0, 40.0, 60.0])
_ways = sum(math.comb(7, k) * (2 / 7) ** k * (5 / 7) ** (7 - k) for k in range(4, 8))
check.true("10, 20, …, 70 in any order: the median's interval is 20 to 60",
           bootstrap_interval(_few) == (20.0, 60.0), got=bootstrap_interval(_few),
           why=f"the median of 7 draws is 20 or less in {_ways:.3f} of all cases, 10 in 0.010: 0.025 falls on 20")
check.equal("the same seed twice, and two seeds",
            [bootstrap_interval(_samples, np.mean, seed=_s) == bootstrap_interval(_samples, np.mean, seed=3)
             for _s in (3, 4)], [True, False], why="an interval can be computed again, to the last digit")
check.raises("five samples", ValueError, lambda: bootstrap_interval([1.0, 2.0, 3.0, 4.0, 5.0]),
             why="the given line refuses", mention=["5 samples", "6"])

# %% [markdown]
"""
Does it keep its word? An interval of 95 % should contain the truth in 95 of 100 experiments. In practice
nobody knows the truth; with invented samples you do. The cell makes hundreds of experiments with samples
whose true median is log 2, with a long tail like that of times, and counts.
"""

# %% demo="does_it_keep_its_word"
rng = np.random.default_rng(0)
for n in (6, 10, 20, 50):
    ends = [bootstrap_interval(rng.exponential(size=n), resamples=500, seed=i) for i in range(400)]
    held = np.mean([low <= math.log(2) <= high for low, high in ends])
    print(f"n = {n:2}: the truth is inside in {held:.1%}; mean width {np.mean([b - a for a, b in ends]):.2f}")

# %% [markdown]
"""
Nearly, and with few samples a little less than promised. What you should remember is the last column: four
times as many samples halve the width, not more. To see a difference of 1 % where the noise is 10 % takes
patience, or less noise.

### Five numbers for a sample

What you print about n samples: the smallest, the median, the lower and upper quartile and their distance
(**IQR**, the range of the middle half), and the interval of the median. Not the mean and the standard
deviation: the one interruption in Foundations would decide both.

Sorted, five samples are their own minimum, quartiles, median and maximum: `[0 1 2 3 4]` has the quartiles 1
and 3. In between `np.quantile` draws a straight line. That is the convention here.
"""

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

# %% check="summarize" points=2
_samples = [5.0, 1.0, 2.0, 3.0, 4.0, 100.0, 0.0]
_summary = summarize(_samples)
check.equal("type", type(_summary).__name__, "Summary", why="the dataclass above, its fields in order")
for _name, _value, _why in [("n", 7, "how many samples"), ("minimum", 0.0, "the smallest"),
                            ("median", 3.0, "sorted 0 1 2 3 4 5 100: the fourth"),
                            ("low", 1.5, "a quarter of the way from 0 to 100, by place: between 1 and 2"),
                            ("high", 4.5, "three quarters of the way, by place: between 4 and 5"),
                            ("iqr", 3.0, "4.5 - 1.5")]:
    check.close(f"{_name} of {_samples}", getattr(_summary, _name), _value, why=_why)
check.equal("interval", _summary.interval, bootstrap_interval(_samples), why="of the median, at 95 %")

# %% [markdown]
"""
### Side by side, in random order

Here is a machine whose clock rate falls while you measure, as a laptop's does when it gets warm. Two
functions that take the same time, twenty blocks of one and then twenty of the other:
"""

# %% demo="one_after_the_other"
clock = FakeClock(slowness=lambda now: 1.0 + 0.01 * (now - 64))
a, b = clock.work(0.5), clock.work(0.5)
first = [time_block(a, 1, clock) for _ in range(20)]
second = [time_block(b, 1, clock) for _ in range(20)]
print(f"a {np.median(first):.3f} s, b {np.median(second):.3f} s: b is {np.median(second) / np.median(first) - 1:.0%} slower")

# %% [markdown]
"""
So **interleave**: in each round one block of each. Shuffle the order anew in every round, or the one that
always comes second is always a bit warmer, or always finds the caches filled by the same neighbour.

One more takes part: the **calibration kernel**, work that is always the same and has nothing to do with what
you measure. Its times show the machine and nothing else. When your function varies, look at the kernel: if it
varies as well, it was not your function.
"""

# %% given="Measurement"
#| export
_INPUT = np.linspace(0.0, 1.0, 2**16, dtype=np.float32)
_OUTPUT = np.empty_like(_INPUT)


def calibration_kernel() -> None:
    """Always the same work, of about a millisecond, on one core: its time shows the machine alone.

    Arithmetic on half a megabyte, without an allocation or a matrix product.
    """
    for _ in range(30):
        np.multiply(_INPUT, _INPUT, out=_OUTPUT)
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

# %% [markdown]
"""
`interleave` puts together what you have. For each of the works: calibrate it to blocks of `seconds`, warm it
up with that many repetitions. Then round by round, in an order from `rng.permutation`, one `time_block` of
each. Collect the samples in `times`, a list of lists: `times[i]` belongs to `works[i]`. Pass the `clock` on
everywhere.
"""

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

# %% check="interleave" points=6
def _interleaved(**options):
    """Two works of 1/64 and 1/32 s and a kernel of 1/128 s, measured; the calls of each round."""
    clock = FakeClock(options.pop("slowness", lambda now: 1.0))
    works = {"a": clock.work(*options.pop("costs", [1 / 64]), name="a"), "b": clock.work(1 / 32, name="b")}
    options = {"rounds": 8, "seconds": 1 / 16, "seed": 1, **options}
    got = interleave(works, clock=clock, kernel=clock.work(1 / 128, name="kernel"), **options)
    calls = sum(_expected.values())
    rounds = [clock.log[len(clock.log) - calls * (i + 1) :][:calls] for i in range(options["rounds"])]
    return got, [[name for name, _ in itertools.groupby(one)] for one in rounds], clock


_expected = {"a": 4, "b": 2, "kernel": 8}
_got, _orders, _clock = _interleaved()
check.equal("what comes back", {_k: type(_v).__name__ for _k, _v in _got.items()},
            {"a": "Measurement", "b": "Measurement"}, why="one Measurement per function, by its name")
check.equal("repetitions of a and b", [_m.repetitions for _m in _got.values()], [4, 2],
            why="blocks of at least 1/16 s: 4 calls of 1/64 s, 2 of 1/32 s")
check.equal("samples of a, of b, and of the kernel in 8 rounds",
            [len(_got["a"].samples), len(_got["b"].samples), len(_got["a"].kernel)], [8, 8, 8],
            why="one block of each per round, the kernel like the others")
check.close("all samples, seconds per call", [_got["a"].samples, _got["b"].samples, _got["a"].kernel],
            [[1 / 64] * 8, [1 / 32] * 8, [1 / 128] * 8], why="each work's own times, under its own name")
check.equal("works in each of the last rounds, sorted", [sorted(_o) for _o in _orders], [sorted(_expected)] * 8,
            why="in every round each work has one block, its calls in one piece")
check.true("not all rounds have the same order", len({tuple(_o) for _o in _orders}) > 1, got=_orders[:4],
           why="shuffled anew in every round: nobody is always second")
check.equal("the order again with the same seed, and with another",
            [_interleaved(seed=_s)[1] == _orders for _s in (1, 2)], [True, False], why="drawn by seed")
_cold = [1 / 64] * 7 + [1 / 2] * 4 + [1 / 4] * 4 + [1 / 8] * 4 + [1 / 16] * 4 + [1 / 64]
check.close("a work that is slow for 16 calls after it was calibrated: samples", _interleaved(costs=_cold)[0]["a"].samples,
            [1 / 64] * 8, why="warmed up before the first round, in blocks of the repetitions calibrated")
_got, _, _ = _interleaved(slowness=lambda now: 1.0 if now < 66.3 else 3.0)
check.close("the machine becomes three times slower: middle ratio of b to a",
            float(np.median(np.divide(_got["b"].samples, _got["a"].samples))), 2.0,
            why="round by round both are slow or both are fast")

# %% [markdown]
"""
With a single function there is still the kernel to stand beside it. `measure` is given, and is all you need
for a first look.
"""

# %% given="measure"
#| export
def measure(
    function: Function, rounds: int = 20, seconds: float = 0.05, **options: Any
) -> Measurement:
    """Measure one function: `rounds` blocks of `seconds`, the kernel beside it.

    options: clock, kernel and seed, as for `interleave`.
    """
    name = getattr(function, "__name__", "function")
    return interleave({name: function}, rounds, seconds, **options)[name]

# %% [markdown]
"""
### Faster, slower, or no difference

Now the sentence that the whole module is for. Two measurements from the same rounds: the ratio in every
round, the median of the ratios, and its bootstrap interval. If the whole interval lies below 1, `a` is
faster; above 1, slower. And if 1 lies in it, the verdict is **no difference**. (Not "equal": a better
measurement might find one.)

```
0.7       0.8       0.9       1.0       1.1
           |---------|                              faster
                        |-----------|               no difference
```

That includes an interval that ends exactly at 1.
"""

# %% exercise="compare"
#| export
@dataclass(frozen=True)
class Comparison:
    """a against b: time of a / time of b, its interval, and what may be said about a."""

    ratio: float
    interval: tuple[float, float]
    verdict: str  # "faster", "slower" or "no difference"

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
    low, high = bootstrap_interval(first / second, level=level)
    verdict = "faster" if high < 1 else "slower" if low > 1 else "no difference"
    return Comparison(float(np.median(first / second)), (low, high), verdict)
    ### END SOLUTION

# %% check="compare" points=4
_machine = np.array([1.0, 2.0, 1.0, 3.0, 1.0, 2.0, 4.0, 1.0, 2.0, 1.0])
_result = compare(list(0.875 * _machine), list(_machine))
check.equal("type", type(_result).__name__, "Comparison", why="the dataclass above, its fields in order")
check.close("a takes 0.875 of b's time in every round: the ratio", _result.ratio, 0.875,
            why="time of a / time of b, however slow the round was")
check.close("its interval", _result.interval, (0.875, 0.875), why="paired: all ten ratios are the same")
check.equal("its verdict, and the other way round",
            [_result.verdict, compare(list(_machine), list(0.875 * _machine)).verdict], ["faster", "slower"],
            why="the verdict speaks about a: less time is faster")
check.equal("a function against itself", compare([2.0] * 8, [2.0] * 8), Comparison(1.0, (1.0, 1.0), "no difference"),
            why="1 lies in the interval, if only at its end")
_ratios = np.array([0.80, 0.92, 0.94, 0.95, 0.96, 0.97, 0.98, 1.04, 1.10, 1.20])
_result = compare(_ratios, np.ones(10))
check.equal("ratios from 0.80 to 1.20, three of ten above 1, at 95 %", _result.verdict, "no difference",
            why="the median is 0.965, and the interval reaches beyond 1")
check.equal("and the other way round, seven of ten above 1", compare(np.ones(10), _ratios).verdict, "no difference",
            why="the same rounds: what cannot be told in one direction cannot be told in the other")
check.close("their median", _result.ratio, 0.965, why="between 0.96 and 0.97")
check.equal("the same at level=0.5", compare(_ratios, np.ones(10), level=0.5).verdict, "faster",
            why="if one wrong verdict in two is good enough, the interval is narrower")
check.close("a of 8, 8, 1, 1, 1, 1 against 2, 2, 2, 8, 8, 8: the median of the ratios",
            compare([8.0, 8.0, 1.0, 1.0, 1.0, 1.0], [2.0, 2.0, 2.0, 8.0, 8.0, 8.0]).ratio, 0.3125,
            why="ratios 4, 4, 0.5, 0.125, 0.125, 0.125, in pairs; the ratio of the medians would be 0.2")
_kernel = (1.0,) * 8
check.equal("two Measurements", compare(Measurement("a", (3.0,) * 8, _kernel, 1), Measurement("b", (2.0,) * 8, _kernel, 1)).verdict,
            "slower", why="their samples are taken out in the given lines")
check.raises("eight rounds against seven", ValueError, lambda: compare([1.0] * 8, [1.0] * 7), mention=["8", "7"])

# %% [markdown]
"""
### May this be quoted?

A measurement on a busy machine is a number like any other. Somebody must say no. The kernel is the witness:
it is always the same work, so if **its** times vary, the machine is to blame, whatever the function did. If
the kernel is quiet and the function is not, it is the function.

Two figures are given. `spread`: the IQR as a share of the median. `drift`: by how much the median of the
second half of the rounds exceeds that of the first.
"""

# %% given="spread_and_drift"
#| export
def spread(samples: Sequence[float]) -> float:
    """The distance between the quartiles as a share of the median.

    >>> spread([8.0, 9.0, 10.0, 11.0, 12.0])
    0.2
    """
    low, median, high = np.quantile(samples, [0.25, 0.5, 0.75])
    return float((high - low) / median)


def drift(samples: Sequence[float]) -> float:
    """How much slower the second half is than the first: ratio of their medians, minus 1.

    With an odd number the sample in the middle belongs to neither half.

    >>> drift([2.0, 2.0, 9.0, 3.0, 3.0])
    0.5
    """
    half = len(samples) // 2
    return float(np.median(samples[-half:]) / np.median(samples[:half])) - 1

# %% [markdown]
"""
Write the decision. The first of these that holds is the cause; if none does, the measurement is fit and the
cause is the empty string. A drift counts in both directions.

| cause | when |
|---|---|
| `"few rounds"` | fewer samples than `rounds_needed()` |
| `"not watched"` | not exactly one kernel sample per round |
| `"drifting"` | the kernel's drift is beyond `limit`, up or down |
| `"busy"` | the kernel's spread is beyond `limit` |
| `"unsteady"` | drift or spread of the function's own samples is beyond twice the `limit` |

The order matters. A drifting machine has a large spread as well, and "wait until it is cool" is better advice
than "close other programs". And a function is blamed only when the machine has been cleared.
"""

# %% exercise="noise_cause"
#| export
def noise_cause(measurement: Measurement, limit: float = 0.05) -> str:
    """Why a measurement may not be quoted, the first cause that holds; "" if it may.

    "few rounds", "not watched", "drifting" or "busy" (by the kernel, beyond `limit`), "unsteady"
    (by the function's own samples, beyond twice the limit).
    """
    samples, kernel = measurement.samples, measurement.kernel
    ### BEGIN SOLUTION
    if len(samples) < rounds_needed():
        return "few rounds"
    if len(kernel) != len(samples):
        return "not watched"
    if abs(drift(kernel)) > limit:
        return "drifting"
    if spread(kernel) > limit:
        return "busy"
    if max(abs(drift(samples)), spread(samples)) > 2 * limit:
        return "unsteady"
    return ""
    ### END SOLUTION

# %% check="noise_cause" points=4
def _cause(samples, kernel, **options):
    return noise_cause(Measurement("f", tuple(samples), tuple(kernel), 1), **options)


_quiet, _up, _down = [1.0, 1.01] * 10, [1.0] * 10 + [1.2] * 10, [1.2] * 10 + [1.0] * 10
_restless, _wild = [1.0, 1.2] * 10, [1.0, 1.5] * 10
check.equal("samples and kernel within 1 %", _cause(_quiet, _quiet), "", why="nothing speaks against it")
check.equal("5 rounds, and 6", [_cause([1.0] * _n, [1.0] * _n) for _n in (5, 6)], ["few rounds", ""],
            why="an interval of 95 % needs six")
check.equal("20 rounds without a kernel, with 19 of it", [_cause(_quiet, _quiet[:_n]) for _n in (0, 19)],
            ["not watched"] * 2, why="one kernel sample per round")
check.equal("a kernel that becomes slower, or faster, by a fifth", [_cause(_quiet, _k) for _k in (_up, _down)],
            ["drifting"] * 2, why="drift 0.2 and -0.17; the spread is large, too, but this comes first")
check.equal("a kernel that jumps between 1 and 1.2", _cause(_quiet, _restless), "busy",
            why="no drift, a spread of 0.18: the machine does other things")
check.equal("kernel and function both restless", _cause(_wild, _restless), "busy",
            why="while the machine is restless, the function cannot be judged")
check.equal("a quiet kernel, a function that jumps, or drifts up, or down",
            [_cause(_s, _quiet) for _s in (_wild, _up, _down)], ["unsteady"] * 3,
            why="the kernel clears the machine: it is the function")
check.equal("a function with a spread of 0.08, a quiet kernel", _cause([1.0, 1.08] * 10, _quiet), "",
            why="twice the limit is allowed to the function: 0.1")
check.equal("the same kernel of 0.08 under the limits 0.05 and 0.1",
            [_cause(_quiet, [1.0, 1.08] * 10, limit=_l) for _l in (0.05, 0.1)], ["busy", ""],
            why="the limit is an argument")

# %% [markdown]
"""
From the cause to a sentence with a remedy:
"""

# %% given="noise_verdict"
#| export
@dataclass(frozen=True)
class Verdict:
    """Whether a measurement may be quoted, why (not), and what to do about it."""

    valid: bool
    reason: str
    remedy: str = ""

    def __str__(self) -> str:
        return " ".join(["VALID:" if self.valid else "INVALID:", self.reason, self.remedy]).strip()


REMEDIES = {
    "few rounds": "Measure 6 rounds at least, better 20.",
    "not watched": "Measure with interleave or measure, which run the kernel in every round.",
    "drifting": "The same work took longer or shorter later on: wait until the machine is idle.",
    "busy": "The same work took now longer, now shorter: close other programs.",
    "unsteady": "The machine is quiet: give it the same input each time, or report percentiles.",
}


def noise_verdict(measurement: Measurement, limit: float = 0.05) -> Verdict:
    """Whether the machine was quiet and the function steady enough for the numbers to be quoted.

    limit: the largest drift and spread of the kernel, as shares; the function may have twice that.

    >>> print(noise_verdict(Measurement("f", (2.0,), (1.0,), 1)))
    INVALID: few rounds (1). Measure 6 rounds at least, better 20.
    """
    cause = noise_cause(measurement, limit)
    reason = f"{cause or 'quiet'} ({len(measurement.samples)})"
    for name, times in (("function", measurement.samples), ("kernel", measurement.kernel)):
        if len(times) > 1:
            reason += f", {name} spread {spread(times):.1%} drift {drift(times):+.1%}"
    return Verdict(not cause, reason + ".", REMEDIES.get(cause, ""))

# %% [markdown]
"""
### The mean hides the tail

From here on one call is one **query**, somebody waits for it, and each gets a time of its own, its
**latency**. Here are two ways to keep 50 lists in order. One sorts a list when it comes; the other puts it on
a pile and sorts the pile at every fiftieth.
"""

# %% demo="the_mean_hides_the_tail"
lists = list(np.random.default_rng(0).normal(size=(2000, 2000)))


def at_once(array):
    np.sort(array)


pile = []


def later(array):
    pile.append(array)
    if len(pile) == 50:
        for one in pile:
            np.sort(one)
        pile.clear()


for system in (at_once, later):
    waits = []
    for array in lists:
        start = time.perf_counter()
        system(array)
        waits.append(1e6 * (time.perf_counter() - start))
    waits = np.sort(waits)
    print(f"{system.__name__:8} mean {np.mean(waits):6.1f} µs   median {waits[1000]:6.1f} µs   "
          f"number 1,980 of 2,000 in order of size {waits[1979]:7.1f} µs")

# %% [markdown]
"""
The same work and about the same mean. By its median the second is many times better, and one user in fifty
pays for all. Which you prefer is your decision; a mean does not even show that there is one to make.

### A percentile needs queries

Latencies are reported as **percentiles**: p99 is the latency that 99 % of the queries do not exceed, and 1 %
do. Suppose you have 50 queries and quote the largest as p99. The chance that none of the 50 belongs to the
slowest hundredth is 0.99⁵⁰:

```
queries n       50     100     200     299
0.99ⁿ         0.61    0.37    0.13    0.0495
```

So in three of five such experiments your "p99" is *below* the true one: the tail has not been seen at all.
Only from 299 queries on has at least one from the tail been seen with 95 % confidence (Wilks 1941). For p90
it takes fewer. Solve `(q / 100)ⁿ ≤ 1 - confidence` for n, and round up.
"""

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

# %% check="queries_needed" points=2
for _q, _n, _why in [(99, 299, "0.99²⁹⁸ is 0.0500 and a bit more than 0.05, 0.99²⁹⁹ is less"), (90, 29, "0.9²⁸ is 0.052, 0.9²⁹ is 0.047"),
                     (50, 5, "½⁴ is 0.0625, ½⁵ is 0.031"), (99.9, 2995, "ten times rarer, ten times as many")]:
    check.equal(f"queries needed for p{_q}", queries_needed(_q), _n, why=_why)
check.equal("for p90 and p99 with confidence 0.99", [queries_needed(_q, 0.99) for _q in (90, 99)], [44, 459],
            why="log(0.01) / log(0.9) is 43.7, log(0.01) / log(0.99) is 458.2")
check.equal("type", type(queries_needed(90)).__name__, "int", why="a number of queries")

# %% [markdown]
"""
Then the percentile itself, by **nearest rank**: sort, and take number ⌈q/100 · n⌉, counted from 1. It is a
latency that somebody has really waited; nothing is interpolated.

```
30 latencies, p90:   0.9 * 30 = 27     number 27, index 26
29 latencies, p90:   0.9 * 29 = 26.1   number 27
28 latencies, p90:   refused: it needs 29
```

Compute `q * n / 100` in this order: 0.07 * 100 is 7.000000000000001 in floating point, and rounds up to 8. Sort
a copy: the latencies belong to somebody else.
"""

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
    return float(np.sort(values)[math.ceil(q * len(values) / 100) - 1])
    ### END SOLUTION

# %% check="percentile" points=3
_rng = np.random.default_rng(5)
_thirty, _hundred = _rng.permutation(30) + 1.0, _rng.permutation(100) + 1.0
check.equal("p90 of 1 to 30, shuffled", percentile(_thirty, 90), 27.0, why="0.9 * 30 = 27: number 27")
check.equal("p90 of 1 to 29", percentile(_rng.permutation(29) + 1.0, 90), 27.0,
            why="26.1 is rounded up: 26 of 29 would be less than 90 %")
check.equal("p50 of 1 to 6, and of 1 to 5", [percentile(np.arange(1.0, _n), 50) for _n in (7, 6)], [3.0, 3.0],
            why="half of 6 is 3: nobody has waited 3.5")
check.equal("p7 of 1 to 100", percentile(_hundred, 7), 7.0, why="7 * 100 / 100 is 7; 0.07 * 100 is a bit more")
check.equal("p99 of 1 to 299, and of 1 to 1000", [percentile(_rng.permutation(_n) + 1.0, 99) for _n in (299, 1000)],
            [297.0, 990.0], why="⌈296.01⌉ and 990")
check.equal("the 30 latencies afterwards", _thirty.tolist()[:3], [20.0, 10.0, 3.0],
            why="in their own order: sort a copy")
check.raises("p99 of 50 latencies", ValueError, lambda: percentile(np.arange(50.0), 99),
             why="say what is missing: the number needed, and the number there is", mention=["50", "299"])
check.raises("p90 of 28 latencies", ValueError, lambda: percentile(np.arange(28.0), 90), mention=["28", "29"])

# %% [markdown]
"""
A report holds the percentiles that its queries support, and no others (given).
"""

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
        tails = (f", p{q:g} {1e3 * value:.3g} ms" for q, value in self.percentiles.items())
        return f"n = {self.n}, mean {1e3 * self.mean:.3g} ms" + "".join(tails)


def latency_report(latencies: Sequence[float], qs: Sequence[float] = (50, 90, 99)) -> LatencyReport:
    """Mean, extremes and those of the percentiles `qs` for which there are enough latencies."""
    n, mean = len(latencies), float(np.mean(latencies))
    found = {q: percentile(latencies, q) for q in qs if n >= queries_needed(q)}
    return LatencyReport(n, mean, min(latencies), max(latencies), found)

# %% [markdown]
"""
### Four ways to ask

How fast is a model? It depends on who asks. MLPerf Inference (Reddi et al. 2020) has four scenarios, and a
load generator that plays the users:

```
SingleStream   a phone: one sample, wait for the answer, the next        p90 latency
MultiStream    a car: N cameras, N samples in every query                p99 latency
Server         the web: queries come when they come, nobody waits        queries per second,
               for the others                                            p99 within a bound
Offline        a photo archive: everything is there at once              samples per second
```

A run has a minimum duration and a minimum number of queries. The paper's figures are in `MLPERF` below:
60 seconds, and up to 270,336 queries. Ours, `COURSE`, are those of people who want to learn something today:
one second, and the queries that the percentile needs. Whatever the scenario, the system under test is a
function `respond(query)`, and a query is a list of samples.
"""

# %% given="Scenario"
#| export
class Minimum(NamedTuple):
    """How long a scenario lasts at least, and how many queries it has (Offline: samples)."""

    seconds: float
    queries: int


SCENARIOS = ("SingleStream", "MultiStream", "Server", "Offline")
COURSE = {name: Minimum(1.0, n) for name, n in zip(SCENARIOS, (100, 300, 300, 300))}
MLPERF = {name: Minimum(60.0, n) for name, n in zip(SCENARIOS, (1024, 270336, 270336, 24576))}


@dataclass(frozen=True)
class Scenario:
    """What one run gave. `value`, in the unit of `metric`, is what the scenario is judged by.

    why: what is wrong with the run, empty if nothing is.
    """

    name: str
    queries: int
    samples: int
    duration: float
    latency: LatencyReport
    metric: str
    value: float
    why: str

    @property
    def valid(self) -> bool:
        """Whether nothing is wrong with the run."""
        return not self.why

    @property
    def throughput(self) -> float:
        """Samples per second."""
        return self.samples / self.duration

    def __str__(self) -> str:
        verdict = f"INVALID: {self.why}" if self.why else "VALID"
        return f"{self.name}: {self.metric} {self.value:.4g}, {self.queries} queries, {verdict}"

# %% given="shortfall"
#| exporti
def _shortfall(minimum: Minimum, count: int, duration: float) -> str:
    """What is missing to the minimum, as a sentence; empty if nothing is."""
    if count >= minimum.queries and duration >= minimum.seconds:
        return ""
    wanted = f"at least {minimum.queries} in {minimum.seconds:g} s wanted"
    return f"{count} in {duration:.3g} s, {wanted}. Raise the limit, or take a faster system."

# %% [markdown]
"""
The first two scenarios are a **closed loop**: ask, wait, ask again. Draw the samples of the query before you
start the clock: fetching them is not the system's work. Stop when there are enough queries *and* enough time
has passed. And a `limit` in seconds, whatever is missing then.

```
respond takes 0.25 s    minimum (1.0 s, 3 queries)     4 queries: with 3 only 0.75 s have passed
                        minimum (0.5 s, 8 queries)     8 queries, 2 s
                        the same with a limit of 1 s   4 queries: too few, and the result will say so
```
"""

# %% exercise="closed_loop"
#| export
def closed_loop(
    respond: Respond,
    samples: Samples,
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

# %% check="closed_loop" points=3
_clock = FakeClock()
_work = _clock.work(0.25)
check.equal("0.25 s per query, at least (1 s, 3 queries): latencies, duration",
            closed_loop(_work, SlowSamples(9), 1, Minimum(1.0, 3), clock=_clock), ([0.25] * 4, 1.0),
            why="three queries are enough, 0.75 s is not")
check.equal("at least (0.5 s, 8 queries)",
            closed_loop(_work, SlowSamples(9), 1, Minimum(0.5, 8), clock=_clock), ([0.25] * 8, 2.0),
            why="0.5 s is enough, two queries are not")
check.equal("at least (0.5 s, 8 queries), limit 1 s",
            closed_loop(_work, SlowSamples(9), 1, Minimum(0.5, 8), limit=1.0, clock=_clock), ([0.25] * 4, 1.0),
            why="after the limit it ends, whatever is missing")
check.equal("samples that take 0.5 s each to be fetched, at least (1 s, 2 queries)",
            closed_loop(_work, SlowSamples(9, _clock, 0.5), 1, Minimum(1.0, 2), clock=_clock), ([0.25] * 2, 1.5),
            why="fetching is not the system's work, so it is in the duration and not in a latency")


def _asked(size, seed):
    """What the system is asked in 40 queries."""
    queries, clock = [], FakeClock()
    closed_loop(lambda query: queries.append(query) or clock.sleep(1.0), SlowSamples(5), size,
                Minimum(1.0, 40), seed=seed, clock=clock)
    return queries


_queries = _asked(8, seed=1)
check.equal("queries of 8: their types and lengths", {(type(_q).__name__, len(_q)) for _q in _queries},
            {("list", 8)}, why="a query is a list of `size` samples")
check.equal("the samples in them", sorted({_s for _q in _queries for _s in _q}), [0, 1, 2, 3, 4],
            why="8 from 5, so some come twice; over 40 queries all of them come")
check.true("the queries differ", len({tuple(_q) for _q in _queries}) > 30,
           why="always the same samples would stay in the caches")
check.equal("the same queries with the same seed, and with another", [_asked(8, _s) == _queries for _s in (1, 2)],
            [True, False], why="drawn by seed: two systems can be asked the same")

# %% [markdown]
"""
Two scenarios come out of it (given): the percentile that judges, or the reason why not.
"""

# %% given="judged"
#| exporti
def _closed(
    name: str, respond: Respond, samples: Samples, size: int, q: int, rules: Any, options: Any
) -> Scenario:
    """A closed loop judged by percentile q, with as many queries as that needs at least."""
    options.update(zip(("minimum", "limit", "seed", "clock"), rules))
    seconds, queries = options.pop("minimum", COURSE[name])
    minimum = Minimum(seconds, max(queries, queries_needed(q)))
    latencies, duration = closed_loop(respond, samples, size, minimum, **options)
    report, n = latency_report(latencies), len(latencies)
    why, value = _shortfall(minimum, n, duration), report.percentiles.get(q, math.nan)
    return Scenario(name, n, n * size, duration, report, f"p{q} latency (s)", value, why)

# %% given="single_stream"
#| export
def single_stream(respond: Respond, samples: Samples, *rules: Any, **options: Any) -> Scenario:
    """One user, one sample at a time, the next when the last is answered. Judged by p90 latency.

    minimum, limit, seed and clock, as for `closed_loop`, may follow by place or by name.
    """
    return _closed("SingleStream", respond, samples, 1, 90, rules, options)


def multi_stream(
    respond: Respond, samples: Samples, streams: int = 8, *rules: Any, **options: Any
) -> Scenario:
    """`streams` samples in each query (cameras of one car, say). Judged by p99 latency.

    minimum, limit, seed and clock, as for `closed_loop`, may follow by place or by name.
    """
    return _closed("MultiStream", respond, samples, streams, 99, rules, options)

# %% [markdown]
"""
### Users do not wait for each other

In the Server scenario queries come at random, independently of each other and of how busy you are. Arrivals
of that kind are a **Poisson process**: the gaps between them are exponentially distributed with mean 1/rate.
Often a short one, sometimes a long one:

```
rate 2 per second      gaps      0.31   0.04   0.95   0.12   0.70      mean 0.5
                       arrivals  0.31   0.35   1.30   1.42   2.12      their running sum
```
"""

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

# %% check="poisson_arrivals" points=2
_times = np.asarray(poisson_arrivals(50.0, 20_000, seed=4))
check.equal("shape of 20,000 arrivals", _times.shape, (20_000,))
_gaps = np.diff(_times, prepend=0.0)
check.true("each comes after the one before, the first after 0", bool((_gaps > 0).all()),
           why="arrivals are the running sum of gaps")
check.close("mean gap at 50 per second", _gaps.mean(), 0.02, rtol=0.03, why="1 / rate")
check.close("standard deviation of the gaps", _gaps.std(), 0.02, rtol=0.05,
            why="an exponential distribution is as wide as its mean; even gaps would be 0 wide")
check.close("share of gaps longer than the mean", (_gaps > 0.02).mean(), np.exp(-1), rtol=0.05,
            why="e⁻¹ = 0.37: most gaps are short, a few are long")
check.equal("the same arrivals with the same seed, and with another",
            [bool(np.array_equal(_times, poisson_arrivals(50.0, 20_000, seed=_s))) for _s in (4, 5)], [True, False])

# %% [markdown]
"""
Now the **open loop**. The system answers one query after the other. If it is free before the next one
arrives, sleep until then. If it is late, go on at once. And the point of it all: a query's latency begins
**when it arrives**, not when its turn comes.

```
respond takes 2 s, arrivals at 1, 2 and 3

time      0    1    2    3    4    5    6    7
query 1        [=========]                          arrives 1, answered 3     latency 2
query 2             .....[=========]                arrives 2, answered 5     latency 3
query 3                  ..........[=========]      arrives 3, answered 7     latency 4
```

The dots are the queue. Arrivals count from `begin`, so the time on their scale is `clock() - begin`.
"""

# %% exercise="open_loop"
#| export
def open_loop(
    respond: Respond,
    samples: Samples,
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

# %% check="open_loop" points=4
def _served(arrivals, cost, **options):
    """Latencies and duration of an open loop on a system of `cost` seconds per query, and its naps."""
    clock = FakeClock()
    got = open_loop(clock.work(cost), SlowSamples(5), arrivals, clock=clock, sleep=clock.sleep, **options)
    return got, clock.naps


_got, _naps = _served([1.0, 2.0, 3.0], 2.0)
check.equal("arrivals 1, 2, 3, two seconds each: latencies, duration", _got, ([2.0, 3.0, 4.0], 7.0),
            why="from arrival to answer, with the time in the queue: answered at 3, 5 and 7")
check.equal("slept meanwhile", _naps, [1.0], why="until the first arrives; then there is always one waiting")
_got, _naps = _served([1.0, 5.0], 1.0)
check.equal("arrivals 1 and 5, one second each: latencies, duration, naps", (_got, _naps), (([1.0, 1.0], 6.0), [1.0, 3.0]),
            why="free at 2, the next one arrives at 5: sleep for the difference")
check.equal("arrivals 1 to 10, two seconds each, limit 5 s", _served(np.arange(1.0, 11.0), 2.0, limit=5.0)[0],
            ([2.0, 3.0], 5.0), why="answered at 3 and 5; then the limit has come, and no more are taken")
_times = np.cumsum(np.random.default_rng(6).exponential(1.0, 300))
_ends = list(itertools.accumulate(_times, lambda free, arrival: max(free, arrival) + 0.75, initial=0.0))[1:]
check.close("300 arrivals at random, 0.75 s each", _served(_times, 0.75, limit=1e9)[0][0], np.subtract(_ends, _times),
            why="an answer is ready 0.75 s after the arrival or after the answer before, whichever is later")


def _asked_one_by_one(seed):
    """What the system is asked in 40 queries."""
    queries, clock = [], FakeClock()
    open_loop(queries.append, SlowSamples(5), np.arange(1.0, 41.0), seed=seed, clock=clock, sleep=clock.sleep)
    return queries


_queries = _asked_one_by_one(1)
check.equal("queries: their types and lengths", {(type(_q).__name__, len(_q)) for _q in _queries if hasattr(_q, "__len__")},
            {("list", 1)}, why="a query is a list, here of one sample")
check.equal("the samples in them", sorted({_s for _q in _queries for _s in _q}), [0, 1, 2, 3, 4],
            why="drawn at random from all of them")

# %% [markdown]
"""
With arrivals, a bound and a minimum it is the scenario (given).
"""

# %% given="server"
#| export
def server(
    respond: Respond,
    samples: Samples,
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
    minimum = Minimum(minimum.seconds, max(minimum.queries, queries_needed(99)))
    plenty = 2 * max(minimum.queries, math.ceil(rate * minimum.seconds))
    arrivals = poisson_arrivals(rate, plenty, seed)
    arrivals = arrivals[: max(minimum.queries, int(np.searchsorted(arrivals, minimum.seconds)) + 1)]
    latencies, duration = open_loop(respond, samples, arrivals, limit, seed, clock, sleep)
    report, n = latency_report(latencies), len(latencies)
    tail = report.percentiles.get(99, math.nan)
    late = "" if tail <= bound else f"p99 {tail:.3g} s, the bound is {bound:g} s. Lower the rate."
    why = _shortfall(minimum, n, duration) or late
    return Scenario("Server", n, n, duration, report, "queries/s", rate, why)

# %% [markdown]
"""
### Everything at once

Offline there is one query with all the samples, and the system may cut it into batches as it likes. How many
samples fill the minimum duration? That is `calibrate` again: begin with `minimum.queries`, and double until a
query lasts long enough. Draw the samples before you start the clock, and count only the last query.

```
1/64 s per sample, at least (1 s, 10 samples)

samples     10       20       40       80
seconds   0.156    0.312    0.625     1.25      80 samples in 1.25 s: 64 per second
```

A slow system could double past the end of the day: stop as well when a query has lasted more than half of
`limit`. And a system that takes no time, however many samples it is given, is refused as `calibrate` does it.
"""

# %% exercise="offline"
#| export
def offline(
    respond: Respond,
    samples: Samples,
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
    why, rate = _shortfall(minimum, count, duration), count / duration
    report = latency_report([duration])
    return Scenario("Offline", 1, count, duration, report, "samples/s", rate, why)

# %% check="offline" points=2
def _archive(cost, minimum, fetch=0.0, **options):
    """An offline run on a system of `cost` seconds per sample, and the sizes of its queries."""
    clock, sizes = FakeClock(), []

    def respond(query):
        sizes.append(len(query))
        if len(query) > 2**14:
            raise RuntimeError(f"a query of {len(query):,} samples: does your loop ever end?")
        clock.sleep(cost * len(query))

    return offline(respond, SlowSamples(7, clock, fetch), minimum, clock=clock, **options), sizes


_got, _sizes = _archive(1 / 64, Minimum(1.0, 10))
check.equal("1/64 s per sample, at least (1 s, 10 samples): sizes of the queries", _sizes, [10, 20, 40, 80],
            why="doubled until a query lasts a second, each a single call")
check.equal("samples, duration, samples per second, valid", (_got.samples, _got.duration, _got.value, _got.valid),
            (80, 1.25, 64.0, True), why="the last query alone counts")
_got, _sizes = _archive(1 / 64, Minimum(1.0, 100), fetch=1 / 64)
check.equal("100 samples that take as long to be fetched: sizes, duration", (_sizes, _got.duration), ([100], 1.5625),
            why="100 / 64 s are enough at once; fetching is not the system's work")
_got, _sizes = _archive(1.0, Minimum(1000.0, 10), limit=40.0)
check.equal("1 s per sample, at least 1000 s, limit 40 s: sizes, valid", (_sizes, _got.valid), ([10, 20, 40], False),
            why="20 s are not more than half of the limit, 40 s are: no more doubling, and not valid")
check.raises("a system that takes no time", ValueError, lambda: _archive(0.0, Minimum(1.0, 2**12)),
             why="_refuse_still_clock(duration, count) before each doubling", mention=["stands still"])

# %% [markdown]
"""
### The front

Faster, smaller, more accurate: rarely all at once. A model **beats** another if it is at least as good in
every figure and better in one. Those that nobody beats are the **Pareto front**: the only ones worth
choosing from, and among them the choice is a matter of need.

```
        seconds   MB
A          1       9
B          2       5
C          3       7        B is faster and smaller: C is beaten
D          2       5        the same as B: neither beats the other, both stay
E          2       6        as fast as B, but larger: beaten
```

Where more is better (accuracy), turn the sign and it is less.
"""

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

# %% check="pareto_front" points=4
_models = [(1.0, 9.0), (2.0, 5.0), (3.0, 7.0), (2.0, 5.0), (2.0, 6.0)]
_front = pareto_front(_models)
check.equal("the five models above", list(_front), [0, 1, 3],
            why="C and E are beaten by B; B and D are equal, and neither is better in anything")
check.equal("type of the result, and of what is in it", (type(_front).__name__, {type(_i).__name__ for _i in _front} <= {"int", "int64"}),
            ("list", True), why="the numbers of rows, to look up whatever belongs to them")
check.equal("the same with more is better", list(pareto_front(_models, minimize=False)), [0, 2],
            why="A has the most MB, C the most seconds and more MB than B")
check.equal("seconds less, accuracy more: (1, 0.9), (2, 0.8), (3, 0.95), (3, 0.9)",
            list(pareto_front([(1, 0.9), (2, 0.8), (3, 0.95), (3, 0.9)], minimize=[True, False])), [0, 2],
            why="the second is slower and worse than the first, the last worse than the third")
check.equal("three figures", list(pareto_front([(1, 2, 3), (2, 3, 1), (3, 1, 2), (3, 3, 3), (1, 2, 4)])), [0, 1, 2],
            why="each of the first three is best in one; the others are beaten by the first")
check.equal("one point", list(pareto_front([(5.0, 5.0)])), [0], why="nobody there to beat it")
check.equal("a point that is best in everything, last", list(pareto_front([(2, 2), (1, 3), (1, 1)])), [2],
            why="all the others are beaten")
check.raises("a figure that was not measured", ValueError, lambda: pareto_front([(1.0, np.nan)]), mention=["nan"])

# %% [markdown]
"""
## Use: the announcement again

The two versions of the first part, measured by your harness. And a third that does something: it sorts a
copy in float32.
"""

# %% demo="the_announcement_again"
NARROW = DATA.astype(np.float32)


def narrow():
    return np.sort(NARROW)


got = interleave({"before": before, "after": after, "narrow": narrow}, rounds=20, seconds=0.02)
for name, measurement in got.items():
    print(f"{name:7} {measurement.summary}   {noise_verdict(measurement)}")
print()
for name in ("after", "narrow"):
    result = compare(got[name], got["before"])
    print(f"{name:7} {strip(result.interval, 0.4, 1.2)}   {result}")

# %% [markdown]
"""
Whatever the verdict VALID or INVALID says about your machine today: read what `after` gets. In about one run
of twenty it will be wrong by pure chance; that is what 95 % means.

Now a model of yours under all four scenarios: a perceptron with two hidden layers, the same weights and the
same pictures each time.
"""

# %% demo="four_scenarios"
manual_seed(0)
model = Sequential(Linear(784, 2048), ReLU(), Linear(2048, 2048), ReLU(), Linear(2048, 10))
pictures = list(np.random.default_rng(0).normal(size=(256, 784)).astype(np.float32))


def respond(query):
    with no_grad():
        return [row for start in range(0, len(query), 64) for row in model(Tensor(np.stack(query[start : start + 64]))).data]


runs = [single_stream(respond, pictures), multi_stream(respond, pictures), offline(respond, pictures)]
for run in runs:
    print(f"{run}\n{'':14}{run.throughput:,.0f} samples per second; {run.latency}")

# %% [markdown]
"""
The same model. Offline it reads its weights once for 64 pictures, in SingleStream once for each. Who says
"so many pictures per second" without saying which scenario has said nothing.

The server is the interesting one. How many queries per second can it take? SingleStream tells how long one
takes, so the naive answer is 1 over that. First on a fake clock, with a system that takes exactly a
millisecond. Watch what happens as the rate comes nearer to 1,000 per second.
"""

# %% demo="the_queue"
print("load   mean latency   by the formula      p99")
for load in (0.2, 0.5, 0.7, 0.8, 0.9, 0.95):
    clock = FakeClock(patience=10**6)
    arrivals = poisson_arrivals(1000 * load, 25_000, seed=1)
    waits, _ = open_loop(clock.work(0.001), SlowSamples(9), arrivals, limit=1e9, clock=clock, sleep=clock.sleep)
    report = latency_report(waits)
    formula, tail = 1 + load / (2 * (1 - load)), 1e3 * report.percentiles[99]
    print(f"{load:4.0%} {1e3 * report.mean:11.2f} ms {formula:13.2f} ms {tail:8.2f} ms   {bar(tail, 50)}")

# %% [markdown]
"""
The system is as fast in the last line as in the first. What grows is the queue. Queries come in bunches, and
the fuller the day, the fewer the gaps in which a bunch is worked off. For constant service times there is a
formula (Pollaczek and Khinchine, 1930): with a service time s and a load ρ the mean latency is

```
s + ρ s / (2 (1 - ρ))        load 0.5:  1.5 s       0.8:  3 s       0.9:  5.5 s      1:  no end
```

So a server is not bought for its mean rate. What the bound allows is what you may promise. Here is your
model, with a bound of ten times what one query takes alone.
"""

# %% demo="the_server"
alone = 1 / runs[0].throughput
for load in (0.2, 0.5, 0.8, 0.95):
    run = server(respond, pictures, rate=load / alone, bound=10 * alone, minimum=Minimum(0.5, 300), seed=1)
    middle, tail = (1e3 * run.latency.percentiles[q] for q in (50, 99))
    print(f"load {load:4.0%}   median {middle:6.2f} ms   p99 {tail:7.2f} ms   {'VALID' if run.valid else 'INVALID'}")
print(f"one after the other: {1e3 * alone:.2f} ms")

# %% [markdown]
"""
Real systems add what the formula leaves out: one that has slept until the next query finds its caches cold
and may be slower than under steady load, and every disturbance of the machine holds up all who stand behind.

Last, the front: networks for the digits, of five widths, and one that was trained too little.
"""

# %% demo="the_front"
images, y, test_images, test_y = load_tinydigits()
x, test_x = (part.astype(np.float32) / 16 for part in (images, test_images))
rows = []
for width, epochs in [(4, 6), (16, 6), (64, 6), (64, 1), (256, 6), (1024, 6)]:
    manual_seed(0)
    net = Sequential(Flatten(), Linear(64, width), ReLU(), Linear(width, 10))
    optimizer, loss_fn = Adam(net.parameters(), lr=0.005), CrossEntropyLoss()
    for step in np.random.default_rng(0).integers(0, len(x), (epochs * len(x) // 64, 64)):
        training_step(net, loss_fn, optimizer, Tensor(x[step]), y[step])
    with no_grad():
        right = accuracy(net(Tensor(test_x)), test_y)
        run = single_stream(lambda query: net(Tensor(query[0][None])), test_x, minimum=Minimum(0.1, 300))
    size = sum(p.data.nbytes for p in net.parameters())
    rows.append((right, run.value, size, f"{width} wide, {epochs} epochs"))
front = pareto_front([row[:3] for row in rows], minimize=[False, True, True])
for i, (right, p90, size, name) in enumerate(rows):
    print(f"{'*' if i in front else ' '} {name:20} accuracy {right:.3f}   p90 {1e6 * p90:6.1f} µs   {size:8,} bytes")

# %% [markdown]
"""
The stars are the front. The one trained too little is as large as its sister and hardly faster: if it got a
star all the same, look by how many microseconds. A front is made of measured numbers, and noise can put a
point on it. What would you do about that?

## Measure: what this machine cannot see

How large must a difference be for you to see it here? Before you run the cell, write down a guess: of 100
comparisons of a function **with itself**, how many times will `compare` say "faster" or "slower"? And how
many times will somebody who measures each once, 3 rounds after 3 rounds, and believes any difference above
5 %?
"""

# %% demo="a_against_a"
def small():
    np.sort(DATA[:2000])


counts = {"faster": 0, "slower": 0, "no difference": 0}
believed, widths = 0, []
for trial in range(100):
    got = interleave({"a": small, "b": small}, rounds=12, seconds=0.0005, seed=trial)
    result = compare(got["a"], got["b"])
    counts[result.verdict] += 1
    widths.append(result.interval[1] - result.interval[0])
    first, second = ([time_block(small, 4) for _ in range(3)] for _ in range(2))
    believed += abs(np.mean(first) / np.mean(second) - 1) > 0.05
print("compare:", ", ".join(f"{count} {verdict}" for verdict, count in counts.items()))
print(f"by three rounds and a rule of thumb: a difference in {believed} of 100")
print(f"width of the interval: {np.median(widths):.1%} in the middle, {max(widths):.1%} at worst")

# %% [markdown]
"""
The first line should be near the 5 wrong verdicts in 100 that the level promises; a few more if the rounds
are not independent of each other, for instance because a disturbance lasts for several. The width is what
this machine can resolve in 12 short rounds: a smaller difference than about half of it cannot be claimed.
More rounds help by their square root; a quieter machine helps more. How quiet is it? The kernel knows:
"""

# %% demo="the_kernel"
kernel = measure(calibration_kernel, rounds=40, seconds=0.005).kernel
low, high = min(kernel), max(kernel)
counts, edges = np.histogram(kernel, bins=10)
for count, edge in zip(counts, edges):
    print(f"{1e3 * edge:6.3f} ms  {'#' * count}")
print(f"spread {spread(kernel):.1%}, drift {drift(kernel):+.1%}, slowest to fastest {high / low:.2f}")

# %% [markdown]
"""
Most machines show a hump at the left and a tail to the right: noise that only adds. Now keep the machine
busy on purpose, with as many other programs as it has cores, which work and rest at random.
"""

# %% demo="a_busy_machine"
RESTLESS = """
import random, time
end = time.monotonic() + 20
while time.monotonic() < end:
    until = time.monotonic() + random.random() * 0.05
    while time.monotonic() < until: pass
    time.sleep(random.random() * 0.05)
"""
others = [subprocess.Popen([sys.executable, "-c", RESTLESS]) for _ in range(os.cpu_count() or 1)]
try:
    time.sleep(0.3)
    got = interleave({"before": before, "after": after}, rounds=12, seconds=0.01)
finally:
    for other in others:
        other.kill()
        other.wait()
print("busy:  ", noise_verdict(got["before"]))
print("       ", compare(got["after"], got["before"]))
quiet = measure(before, rounds=12, seconds=0.01)
print("quiet: ", noise_verdict(quiet))

# %% [markdown]
"""
The numbers are there in both cases, and they look alike. Only the witness tells them apart. And still, even
on the busy machine: pairs and intervals make no difference out of noise, they get wide and say so.

## Break: the queue that nobody measured

A service answers in a millisecond. Once in a thousand queries it stops for half a second, to tidy up. Users
send 200 queries per second, at random. Here is the load test that most people write first: ask, wait, ask
again. And beside it the open loop. Both on a fake clock, so that nothing else can disturb.
"""

# %% demo="coordinated_omission"
def tidying(clock):
    return clock.work(*([0.001] * 500 + [0.5] + [0.001] * 499) * 4, 0.001)


clock = FakeClock(patience=10**6)
waited, _ = closed_loop(tidying(clock), SlowSamples(5), 1, Minimum(0.0, 4000), clock=clock)
print("ask, wait, ask again:", latency_report(waited))
clock = FakeClock(patience=10**6)
waited, _ = open_loop(tidying(clock), SlowSamples(5), poisson_arrivals(200, 4000), clock=clock, sleep=clock.sleep)
print("users who come anyway:", latency_report(waited))
print(f"share of users that wait more than a tenth of a second: {np.mean(np.array(waited) > 0.1):.1%}")

# %% [markdown]
"""
The first report is not wrong about the queries it sent. But while the service stood still it politely sent
none, and so it never met the hundred users who came in that half second. It is called **coordinated
omission** (Gil Tene): the load generator coordinates with the system to leave out the bad moments. The
symptom: tests look fine, users complain. The cure is in one line of yours: latency counts from the arrival.

The second classic: work that does not happen.
"""

# %% demo="work_that_does_not_happen"
numbers = np.random.default_rng(0).normal(size=20_000)


def a_list():
    return [x * x for x in numbers]


def a_generator():
    return (x * x for x in numbers)


def a_generator_used():
    return sum(x * x for x in numbers)


got = interleave({f.__name__: f for f in (a_list, a_generator, a_generator_used)}, rounds=8, seconds=0.005)
for name in ("a_generator", "a_generator_used"):
    result = compare(got[name], got["a_list"])
    print(f"{name:17} speed-up {result.speedup:10,.1f}   {result.verdict}")

# %% [markdown]
"""
A generator has done nothing when it is returned. The same happens on a GPU, where a call returns before the
work begins; with a cache, when the input is always the same; and with a model that got its input in the
wrong shape. A speed-up of a thousand is a bug until proved otherwise. Check the **result** first, then the
time.

## Reflect

Predict with pencil and paper, write the number into the cell, and the check says whether it holds.

**1.** You have 100 queries. What is the probability that none of them belongs to the slowest hundredth? A
number from 0 to 1.
"""

# %% exercise="predict.tail_unseen"
### BEGIN SOLUTION
tail_unseen = 0.99**100
### END SOLUTION

# %% check="predict.tail_unseen" points=1
check.prediction("probability that 100 queries miss the slowest hundredth", tail_unseen, "MC4zNjYwMzI=", rel=0.02,
                 why="each of them is outside of it with probability 0.99, independently")

# %% [markdown]
"""
**2.** MLPerf asks for more than having seen the tail: the share p = 0.99 itself shall be known to within
m = 0.0005, with 99 % confidence. By the normal approximation that takes z² p (1 - p) / m² queries, with
z = 2.576. How many?
"""

# %% exercise="predict.mlperf_queries"
### BEGIN SOLUTION
mlperf_queries = 2.576**2 * 0.99 * 0.01 / 0.0005**2
### END SOLUTION

# %% check="predict.mlperf_queries" points=1
check.prediction("queries for p99 to within 0.05 points", mlperf_queries, "MjYyNzQy", rel=0.005,
                 why="6.636 * 0.0099 / 0.00000025; rounded up to a multiple of 2¹³ it is the 270,336 of the table")

# %% [markdown]
"""
**3.** A service takes 10 ms for every query, always. Queries come at random, 90 per second. What is the mean
latency, in milliseconds?
"""

# %% exercise="predict.mean_latency"
### BEGIN SOLUTION
mean_latency = 10 + 0.9 * 10 / (2 * (1 - 0.9))
### END SOLUTION

# %% check="predict.mean_latency" points=1
check.prediction("mean latency at 90 queries per second of 10 ms", mean_latency, "NTU=", unit="ms", rel=0.01,
                 why="the load is 0.9; service plus waiting, by the formula below the demo of the queue")

# %% [markdown]
"""
**4.** You compare 20 variants that all do nothing with the original, each at 95 %. What is the probability
that at least one of them is declared "faster" or "slower"? A number from 0 to 1.
"""

# %% exercise="predict.false_alarm"
### BEGIN SOLUTION
false_alarm = 1 - 0.95**20
### END SOLUTION

# %% check="predict.false_alarm" points=1
check.prediction("at least one false verdict in 20", false_alarm, "MC42NDE1", rel=0.02,
                 why="all 20 are right with probability 0.95²⁰; what is left is at least one wrong")

# %% [markdown]
"""
**5.** Twenty rounds gave an interval from 0.96 to 1.02. You want one half as wide, on the same machine. How
many rounds?

- a) 28
- b) 40
- c) 80
- d) 400
"""

# %% exercise="predict.half_as_wide"
### BEGIN SOLUTION
half_as_wide = "c"
### END SOLUTION

# %% check="predict.half_as_wide" points=1
check.choice("rounds for half the width", half_as_wide, "Yw==", ["a", "b", "c", "d"],
             why="look at the widths under n = 10, 20, 50 in the cell that counts how often the truth is inside")

# %% [markdown] question="a_claim" points=4
"""
**Open question, graded by a person.** From a blog: *"We measured our new attention kernel against PyTorch on
a developer's laptop. First PyTorch, 10 runs, then ours, 10 runs; the mean went from 5.2 ms to 4.6 ms, so ours
is 13 % faster. In a load test with one client our p99 over 50 requests was 6 ms, so we can promise 10 ms at
200 requests per second."* (a) Name at least four things that are wrong with it, and for each what could have
happened instead. (b) Write down the measurement that would settle the first claim: what is run, in which
order, how often, what is reported, and what would make you say "no difference". (c) What would you measure
before you promise anything to users?

*Your answer:*
"""

# %% [markdown]
"""
## In production

**pyperf** is the harness that Python's own developers use. It calibrates to a power of two as you do, and
starts some twenty fresh processes: where the code and the data lie in memory differs from process to process
and can move a result by several percent (Mytkowicz et al. 2009). Your rounds live in one process and cannot
see that. **torch.utils.benchmark** has calibrated blocks, medians and IQRs, and takes care of warm-up, threads
and GPUs that answer before they have worked. **MLPerf LoadGen** plays your four scenarios. Its current rules
ask for 600 seconds, and for fewer queries than the paper: *early stopping* computes from the binomial
distribution what n queries can support, the same thought as `queries_needed`; MultiStream, which at first
asked how many streams fit into a fixed interval, has 8 samples per query since version 2. Servers of language
models report two latencies, to the first token and per token, and put queries into one batch that arrive
while others are being answered.

What we are not building: fixed clock rates and cores reserved for the measurement, which take rights over the
machine; corrections for many comparisons at once (see prediction 4); counters of the processor. What we do
not use, on purpose: the mean, the standard deviation, the best of n.

## When it fails

| symptom | cause | where to look |
|---|---|---|
| `stands still` | the work does not move this clock: another clock was given, or the result is ready at once | pass the same `clock` on everywhere; does the function do its work, or return a generator? |
| `does your loop ever end` | a loop whose condition never becomes false, or that reads another clock than the work moves | pass `clock` on; calibrate: compare the whole block with the target; warm_up: `limit`; open_loop: `sleep` instead of waiting in a loop |
| `cannot carry an interval` | fewer samples than the level needs | more rounds; 6 for 95 % |
| `Rounds are compared in pairs` | the two were not measured together | `interleave` them |
| `says nothing, it needs` | a percentile that the queries do not support | run longer, or report a lower percentile |
| `must be non-negative` | sleep for a query that has arrived already | sleep only if it is early: the difference is above 0 |
| `give a list of finite numbers` | nan or inf among the samples, or a table instead of a list | a division by 0 on the way? one list per function |
| `index 1 is out of bounds` | the statistic ran over everything, or over the wrong axis | `statistic(draws, axis=1)`: one number per row |
| `takes 0 positional arguments` | the function to be timed got an argument | it takes none: wrap it, `lambda: f(x)` |
| `got an unexpected keyword argument 'axis'` | a statistic that knows no axis | one from NumPy, or `lambda a, axis: ...` |
| `not iterable` | a number where a list of samples belongs | respond gets a list, also for a single sample |
| `NoneType` | a function gives None | is a `return` missing? |
| `INVALID` | the machine, or the function, is restless | the remedy stands beside it |
| no difference, though you know better | intervals wider than the effect | more rounds, longer blocks, a quieter machine |
| a speed-up of a thousand | the work does not happen | compare the results before the times |
"""
