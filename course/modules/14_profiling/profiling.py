# %% [markdown]
"""
# 14 · Profiling

Before anything is made faster or smaller it is measured: how long, how many bytes, how much arithmetic,
layer by layer. Then two short formulas say what an improvement can be worth at most, before you build it.

```
you have built     01 to 13: everything from tensors to a GPT that writes
        |
        v
you build now      a timer, a memory profiler, a table of what each layer costs, a Profiler
                   that watches every layer of a model, Amdahl's law, the roofline
        |
        v
this unlocks       15 to 18: smaller and faster, each at the place where it pays; 19 benchmarks
```

Time: about 3 hours. Every exercise is a cell with a hole in it, and the cell below it checks your answer.
Run `tito watch` in a terminal beside this notebook.
"""

# %% given="imports"
#| default_exp profiling
#| export
import json
import math
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from tinytorch.core.activations import GELU, LogSoftmax, ReLU, Sigmoid, SiLU, Softmax, Tanh
from tinytorch.core.autograd import no_grad
from tinytorch.core.layers import Dropout, Flatten, Linear, Parameter
from tinytorch.core.tensor import Tensor
from tinytorch.nn.attention import MultiHeadAttention
from tinytorch.nn.conv import AvgPool2d, BatchNorm2d, Conv2d, GlobalAvgPool2d, MaxPool2d
from tinytorch.nn.embedding import Embedding, LearnedPositions, RotaryPositions, SinusoidalPositions
from tinytorch.nn.transformer import LayerNorm, RMSNorm

# %% given="tools"
import tempfile

import tito.checks as check
from threadpoolctl import threadpool_limits
from tinytorch.core.layers import Module, Sequential
from tinytorch.core.losses import CrossEntropyLoss
from tinytorch.core.optimizers import Adam
from tinytorch.core.tensor import manual_seed, randn
from tinytorch.nn.transformer import GPT, GPTConfig
from tito.notebook import method_of

threadpool_limits(1)  # matrix products on one core, as everything else in NumPy is; see Measure

# %% [markdown]
"""
## Why: guessing

Two layers of 256 by 256 with a GELU between them, the exact one. The layers multiply matrices, GELU is one
little function. Somebody wants this faster and looks at the arithmetic: over 99 of 100 operations are in
the two products. So a better matrix product it is? Before you run the cell: which share of the **time** do
the products take?
"""

# %% demo="guessing"
manual_seed(0)
first, bend, second = Linear(256, 256), GELU(), Linear(256, 256)
x = randn(1024, 256)
for attempt in range(3):
    with no_grad():
        start = time.time()
        a = first(x)
        middle = time.time()
        b = bend(a)
        late = time.time()
        second(b)
        end = time.time()
    products = (middle - start) + (end - late)
    print(f"run {attempt + 1}: {1e3 * (end - start):6.2f} ms, the products take {products / (end - start):.0%} of it")

# %% [markdown]
"""
The arithmetic was a poor guide: the little function takes a large part of the time, and no better product
can touch that. And the stopwatch is a poor one as well. The three runs differ; which of them is *the* time?
To learn this about two layers took seven lines in the middle of the model, which somebody will forget to
take out again. For a GPT with forty layers nobody would do it.

This module turns that into one line, which leaves the model as it was: `print(Profiler(model).report(x))`.

## Foundations: three sums by hand

**What is it worth?** A program runs for 10 s, and 7 of them are spent in one function. Make that function
twice as fast:

```
before   7 s in the function   3 s elsewhere     10 s
after    3.5 s                 3 s                6.5 s        10 / 6.5 = 1.54 times as fast
at best  0 s                   3 s                3 s          10 / 3   = 3.33 times, for any genius
```

**What does a layer cost?** A linear layer with 3 inputs and 2 outputs, for one row. Each of the 2 * 3
weights takes part in one multiplication and one addition; the bias is one more addition per output. A
**FLOP** is one such floating point operation. The numbers that must come from memory or go there are 4
bytes each:

```
                FLOPs                    numbers moved                      bytes
1 row           2*2*3 + 2 = 14           3 in, 6 + 2 weights, 2 out = 13      52      14/52     = 0.27 per byte
100 rows        1400                     300 + 8 + 200 = 508                2032      1400/2032 = 0.69 per byte
```

The last column is the **arithmetic intensity**: FLOPs per byte. It grows with the rows because the weights
are read once for all of them.

**Which of the two counts?** A machine has two speeds: how much it can calculate, and how much it can fetch.
Say 100 GFLOP/s and 10 GB/s, where G is a thousand million. In each second it fetches 10 G bytes; with 0.27
FLOPs to do per byte, that is 2.7 GFLOP/s, and the arithmetic units wait for 97 of 100 moments. Only from
100 / 10 = 10 FLOPs per byte on do they have enough to do:

```
GFLOP/s
  100                     ,-----------     arithmetic is the limit: compute-bound
                       ,'
                    ,'
   10            ,'                        the memory is the limit: memory-bound
              ,'
  2.7      ,'
    1   ,'
        0.1  0.27  1      10     100       FLOPs per byte, each step to the right a factor of 10
```

This is the **roofline** (Williams, Waterman & Patterson 2009). You will draw it for your own machine.

## Build

### A timer that can be believed

Four rules, each of which the cell in *Why* broke:

- **The clock.** `time.time()` is the time of day, and jumps when the system corrects it.
  `time.perf_counter()` only ever moves on, in small steps. Beside it, `time.process_time()` counts the
  seconds in which the processor worked for this program: it stands still while the program waits, and runs
  double on two cores.
- **Warm-up.** First calls are slower: memory has to be asked for, caches are cold. Make them, and do not
  count them.
- **Repeat**, and keep every measurement, not only the sum.
- **Then choose.** A machine with other things to do makes a run slower, never faster. So the *minimum* is
  what the code can do, the *median* is what you usually get; the mean mixes in whatever else happened.

```
wall   4  1  2  9  3      minimum 1    median 3    mean 3.8, and 9 is somebody else's fault
```
"""

# %% given="Timing"
#| export
@dataclass(frozen=True)
class Timing:
    """Seconds of each repetition: `wall`, by the clock on the wall, and `cpu`, of work done.

    >>> timing = Timing(wall=(4.0, 1.0, 2.0, 9.0, 3.0), cpu=(1.0, 1.0, 1.0, 1.0, 1.0))
    >>> timing.median, timing.minimum
    (3.0, 1.0)
    """

    wall: tuple[float, ...]
    cpu: tuple[float, ...]

    @property
    def median(self) -> float:
        """Middle one of the wall times: what you usually get."""
        return float(np.median(self.wall))

    @property
    def minimum(self) -> float:
        """Smallest of the wall times: what the code can do."""
        return min(self.wall)

# %% given="check_function"
#| exporti
def _check_function(name: str, function: object) -> None:
    """Raises TypeError unless `function` can be called."""
    if not callable(function):
        got = f"got the result ({type(function).__name__}), not a function: the work is done"
        raise TypeError(f"{name}: {got}. Write {name}(lambda: model(x)).")

# %% [markdown]
"""
Checks of time cannot use real clocks: no two runs are the same. The next cell is for them: clocks that
stand still until they are told to move.
"""

# %% given="still_clocks"
class _Clocks:
    """Within the block Python's clocks move by `go` alone. The time of day goes backwards."""

    def __enter__(self):
        self.wall, self.cpu = 100.0, 10.0
        readings = {
            "perf_counter": lambda: self.wall, "monotonic": lambda: self.wall,
            "perf_counter_ns": lambda: int(self.wall * 1e9), "monotonic_ns": lambda: int(self.wall * 1e9),
            "process_time": lambda: self.cpu, "process_time_ns": lambda: int(self.cpu * 1e9),
            "thread_time": lambda: self.cpu, "time": lambda: 5000.0 - self.wall,
        }
        self.real = {name: getattr(time, name) for name in readings}
        for name, reading in readings.items():
            setattr(time, name, reading)
        return self

    def __exit__(self, *error):
        for name, reading in self.real.items():
            setattr(time, name, reading)

    def go(self, wall, cpu=0.0):
        self.wall, self.cpu = self.wall + wall, self.cpu + cpu

# %% exercise="time_call"
#| export
def time_call(function: Callable[[], object], repeats: int = 5, warmup: int = 1) -> Timing:
    """Call `function` `warmup` times unmeasured, then `repeats` times, each with both clocks.

    Raises TypeError for a result in the place of a function, ValueError for less than one repeat.

    >>> len(time_call(lambda: sum(range(10)), repeats=3).wall)
    3
    """
    _check_function("time_call", function)
    if repeats < 1:
        raise ValueError(f"time_call: repeats={repeats} measures nothing. Take 1 or more.")
    ### BEGIN SOLUTION
    for _ in range(warmup):
        function()
    wall, cpu = [], []
    for _ in range(repeats):
        wall_start, cpu_start = time.perf_counter(), time.process_time()
        function()
        wall.append(time.perf_counter() - wall_start)
        cpu.append(time.process_time() - cpu_start)
    return Timing(tuple(wall), tuple(cpu))
    ### END SOLUTION

# %% check="time_call" points=5
with _Clocks() as _clock:
    _steps = [(50, 40), (4, 2), (1, 1), (2, 0.5), (9, 1), (3, 3), (7, 7), (8, 8)]
    _called = []

    def _work():
        _clock.go(*_steps[min(len(_called), 7)])
        _called.append(_clock.wall)
        return "a result"

    _timing = time_call(_work)
    _first = len(_called)
    _called.clear()
    _cold = time_call(_work, repeats=2, warmup=0)
    _cold_calls = len(_called)
    _called.clear()
    _warm = time_call(_work, repeats=1, warmup=4)
check.equal("type of the result", type(_timing).__name__, "Timing", why="both clocks, every repetition")
check.equal("calls for repeats=5 and warmup=1", _first, 6, why="one that does not count, five that do")
check.close("wall: runs of 4, 1, 2, 9, 3 seconds after a warm-up of 50", _timing.wall, [4, 1, 2, 9, 3],
            why="each repetition by itself, by time.perf_counter; the warm-up is not among them")
check.close("cpu: of which the processor worked 2, 1, 0.5, 1, 3", _timing.cpu, [2, 1, 0.5, 1, 3],
            why="by time.process_time: the rest of the time the program waited")
check.equal("types of wall and cpu", (type(_timing.wall).__name__, type(_timing.cpu).__name__), ("tuple", "tuple"),
            why="a measurement does not change afterwards")
check.equal("calls for repeats=2, warmup=0", _cold_calls, 2, why="both arguments are used")
check.close("their wall times: the first call takes 50", _cold.wall, [50, 4], why="no warm-up, so the cold call counts")
check.close("wall for repeats=1, warmup=4", _warm.wall, [9], why="after four calls the fifth is measured")
check.raises("a result in the place of a function", TypeError, lambda: time_call(3.0),
             why="time_call(model(x)) calls the model first and then has nothing to time", mention=["lambda"])

# %% demo="two_clocks"
square = np.ones((600, 600), dtype=np.float32)
for name, work in [("a matrix product", lambda: square @ square), ("a nap", lambda: time.sleep(0.01))]:
    timing = time_call(work)
    print(f"{name:16}  wall {1e3 * timing.median:6.2f} ms   processor {1e3 * np.median(timing.cpu):6.2f} ms")

# %% [markdown]
"""
The first works, the second waits: for a disk, a network, another thread. No faster code helps the second.

### Memory: the peak, and what stays

Two numbers matter. **Live**: what is still there while the result is kept, which is what the result holds.
**Peak**: the most that was there at any moment on the way. A program dies of its peak.

```
x = zeros of 1 MB           1 MB
y = x + 1                   2 MB     x and y
z = y * 2; return z         3 MB     peak: x, y and z at the same moment
after the return            1 MB     live: z alone
```

Python counts allocations when asked to, in the module `tracemalloc`, and NumPy reports its arrays to it:

```
tracemalloc.get_traced_memory()    (bytes there now, the most since the last reset), both since the start
tracemalloc.reset_peak()           from here on, the most counts anew
```

`_tracing` below (given) starts the counting and stops it again, whatever happens. But it may have been on
already, with other arrays counted: take both numbers **relative to what was there before the call**. And
keep the result in a variable while you look: what nobody holds is gone.
"""

# %% given="MemoryUse"
#| export
class MemoryUse(NamedTuple):
    """Bytes of a call: the most at any moment, and what its `result` still holds."""

    peak: int
    live: int
    result: Any


@contextmanager
def _tracing() -> Iterator[None]:
    """Count allocations within the block; afterwards stop, unless they were counted before."""
    before = tracemalloc.is_tracing()
    tracemalloc.start()
    try:
        yield
    finally:
        if not before:
            tracemalloc.stop()

# %% exercise="profile_memory"
#| export
def profile_memory(function: Callable[[], Any]) -> MemoryUse:
    """Call `function` once and count what it allocates, by tracemalloc.

    Raises TypeError for a result in the place of a function. Cost: Python code that makes many
    small objects runs several times slower; do not time and count in one call.

    >>> profile_memory(lambda: np.ones(250_000, dtype=np.float32)).live // 1000
    1000
    """
    _check_function("profile_memory", function)
    with _tracing():
        ### BEGIN SOLUTION
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        result = function()
        live, peak = tracemalloc.get_traced_memory()
        return MemoryUse(peak - before, live - before, result)
        ### END SOLUTION

# %% check="profile_memory" points=5
def _mega(use):
    """Peak and live in units of a million bytes, one digit behind the point."""
    return round(use.peak / 1e6, 1), round(use.live / 1e6, 1)


def _three_arrays():
    x = np.zeros(250_000, dtype=np.float32)
    y = x + 1
    return y * 2


def _fails():
    raise KeyError("row 7")


_use = profile_memory(_three_arrays)
check.equal("type of the result", type(_use).__name__, "MemoryUse", why="peak, live and what the function returned")
check.equal("peak and live of the three arrays above, in MB", _mega(_use), (3.0, 1.0),
            why="x, y and z at once are 3; when the function has returned, z alone")
check.true("the function's result comes back", isinstance(_use.result, np.ndarray) and _use.result[0] == 2,
           why="the call was made: nobody should need to make it again")
check.equal("peak and live of a function that drops the three again, in MB", _mega(profile_memory(lambda: _three_arrays() is None)),
            (3.0, 0.0), why="nothing is left of it")
tracemalloc.start()
_large = np.zeros(2_000_000, dtype=np.float32)
del _large
_kept = np.zeros(500_000, dtype=np.float32)
_inner = profile_memory(_three_arrays)
_still = tracemalloc.is_tracing()
tracemalloc.stop()
check.equal("the same while other arrays are counted: 2 MB that stay, 8 MB that came and went", _mega(_inner), (3.0, 1.0),
            why="relative to what was there before, and the peak counted anew: reset_peak()")
check.true("a count that ran before goes on", _still, why="it belongs to somebody else")
check.equal("a function that only makes 2 MB and drops them, in MB",
            _mega(profile_memory(lambda: float(np.zeros(500_000, dtype=np.float32).sum()))), (2.0, 0.0),
            why="live is what is there at the end, not the most")
check.raises("a function that fails", KeyError, lambda: profile_memory(_fails), why="its error comes through")
check.true("no counting is left on", not tracemalloc.is_tracing(), why="it slows down whatever runs next")

# %% [markdown]
"""
### What a layer costs, in numbers

Time depends on the machine and the day; FLOPs and bytes do not. A **rule** says for a type of layer what
one call costs, from the shapes alone: `rule(layer, x_shape, out_shape) -> Cost`. All rules go into one
table, `COSTS`, as the gradient rules of module 05 did.

Two conventions, as good as any if kept:

- *FLOPs*: each addition, multiplication, comparison, and each call of exp, tanh or a root counts as one.
- *bytes*: each operation reads what it needs **once** and writes its result **once**, 4 bytes per number.
  That is the least that can be moved. What your code really moves, with arrays in between, is more.

Most layers treat every entry of their result alike: so many FLOPs per entry. ReLU: 1, the comparison.
Sigmoid by its definition, 1 / (1 + exp(-x)): 4. So one function can make all these rules:
`per_entry(4)` *is* a rule. It moves x, the result, and whatever numbers the layer itself holds, such as the
weight and bias of a norm; `own_numbers(layer)`, given, counts those.

```
ReLU on (2, 3)       6 FLOPs     6 + 6 = 12 numbers           48 bytes
LayerNorm(3) on it   7 per entry, 42     6 + 6 + 3 + 3 = 18   72 bytes
```
"""

# %% given="Cost"
#| export
class Cost(NamedTuple):
    """FLOPs of one call, and the bytes it must move at least."""

    flops: int
    bytes: int

# %% given="own_numbers"
#| exporti
Shape = tuple[int, ...]
Rule = Callable[[Any, Shape, Shape], Cost]
BYTES = 4  # of a float32 number


def own_numbers(layer: Any, kind: type[Any] = Tensor) -> int:
    """How many numbers the layer itself holds in its tensors of that kind; children not counted.

    >>> own_numbers(Linear(3, 2)), own_numbers(ReLU())
    (8, 0)
    """
    return sum(value.size for value in vars(layer).values() if isinstance(value, kind))

# %% exercise="per_entry"
#| export
def per_entry(flops: int) -> Rule:
    """The rule of a layer that does `flops` FLOPs for each entry of its result.

    >>> per_entry(1)(ReLU(), (2, 3), (2, 3))
    Cost(flops=6, bytes=48)
    """

    def rule(layer: Any, x_shape: Shape, out_shape: Shape) -> Cost:
        ### BEGIN SOLUTION
        moved = math.prod(x_shape) + math.prod(out_shape) + own_numbers(layer)
        return Cost(flops * math.prod(out_shape), BYTES * moved)
        ### END SOLUTION

    return rule

# %% check="per_entry" points=3
check.equal("ReLU on (2, 3)", tuple(per_entry(1)(ReLU(), (2, 3), (2, 3))), (6, 48),
            why="6 comparisons; 6 numbers are read and 6 written, 4 bytes each")
check.equal("7 per entry, LayerNorm(3) on (2, 3)", tuple(per_entry(7)(LayerNorm(3), (2, 3), (2, 3))), (42, 72),
            why="7 * 6 FLOPs; x, the result, weight and bias: 6 + 6 + 3 + 3 numbers")
check.equal("a result smaller than x: (4, 8) to (4, 2), 3 per entry", tuple(per_entry(3)(ReLU(), (4, 8), (4, 2))), (24, 160),
            why="FLOPs by the entries of the result, 8; bytes by both, 32 + 8")
check.equal("type of the cost", type(per_entry(1)(ReLU(), (2,), (2,))).__name__, "Cost", why="Cost(flops, bytes)")

# %% [markdown]
"""
Now the layers that multiply. First the linear one, by the table in Foundations. A **row** is everything but
the last axis: x of shape `(B, T, D)` has B * T of them. The layer has `in_features`, `out_features`,
`weight` and `bias`, which may be None.

Beware of half of the literature: it counts a multiplication with its addition as one **MAC**, and some of
it calls MACs FLOPs. Ours are single operations, two per weight.
"""

# %% exercise="linear_cost"
#| exporti
def linear_cost(layer: Any, x_shape: Shape, out_shape: Shape) -> Cost:
    """Two FLOPs per weight and row, one more per output for the bias.

    x_shape (..., in_features), out_shape (..., out_features). The weights are read once for all rows.

    >>> linear_cost(Linear(3, 2), (100, 3), (100, 2))
    Cost(flops=1400, bytes=2032)
    """
    ### BEGIN SOLUTION
    outputs = math.prod(out_shape)
    flops = 2 * layer.in_features * outputs + (outputs if layer.bias is not None else 0)
    return Cost(flops, BYTES * (math.prod(x_shape) + outputs + own_numbers(layer)))
    ### END SOLUTION

# %% check="linear_cost" points=4
check.equal("Linear(3, 2), one row", tuple(linear_cost(Linear(3, 2), (1, 3), (1, 2))), (14, 52),
            why="2 * 6 + 2 FLOPs; 3 + 6 + 2 + 2 numbers: the table in Foundations")
check.equal("Linear(3, 2), 100 rows", tuple(linear_cost(Linear(3, 2), (100, 3), (100, 2))), (1400, 2032),
            why="a hundred times the FLOPs, but the 8 weights are read once")
check.equal("without bias, x (2, 5, 3)", tuple(linear_cost(Linear(3, 2, bias=False), (2, 5, 3), (2, 5, 2))), (120, 224),
            why="2 * 5 rows of 12 FLOPs, no bias to add or to read: 30 + 6 + 20 numbers")
check.equal("a single vector (3,)", tuple(linear_cost(Linear(3, 2), (3,), (2,))), (14, 52), why="one row")

# %% [markdown]
"""
A convolution is the same sum at every pixel: each number of the result `(N, O, OH, OW)` is made of
`C * KH * KW` products. You counted this in module 09; `layer.in_channels` and `layer.kernel_size`, a pair,
tell the rest. Every pixel of x is read once here, although it is part of nine windows of a 3 by 3 kernel:
the least that can be moved.

```
Conv2d(1, 2, 3) on one picture of 5 by 5:  result (1, 2, 3, 3), 18 numbers
FLOPs   18 * (2 * 1*3*3 + 1) = 342           bytes   4 * (25 + 18 + 18 weights + 2) = 252
```
"""

# %% exercise="conv2d_cost"
#| exporti
def conv2d_cost(layer: Any, x_shape: Shape, out_shape: Shape) -> Cost:
    """Two FLOPs per weight of a filter for each number of the result, one more for the bias.

    x_shape (N, C, H, W), out_shape (N, O, OH, OW).

    >>> conv2d_cost(Conv2d(1, 2, 3), (1, 1, 5, 5), (1, 2, 3, 3))
    Cost(flops=342, bytes=252)
    """
    ### BEGIN SOLUTION
    outputs = math.prod(out_shape)
    each = 2 * layer.in_channels * math.prod(layer.kernel_size) + (layer.bias is not None)
    return Cost(outputs * each, BYTES * (math.prod(x_shape) + outputs + own_numbers(layer)))
    ### END SOLUTION

# %% check="conv2d_cost" points=4
check.equal("Conv2d(1, 2, 3) on (1, 1, 5, 5)", tuple(conv2d_cost(Conv2d(1, 2, 3), (1, 1, 5, 5), (1, 2, 3, 3))),
            (342, 252), why="18 results of 9 products each, 2 * 9 FLOPs and 1 for the bias")
check.equal("Conv2d(3, 4, 3, stride=2, padding=1, bias=False) on (2, 3, 8, 8)",
            tuple(conv2d_cost(Conv2d(3, 4, 3, stride=2, padding=1, bias=False), (2, 3, 8, 8), (2, 4, 4, 4))),
            (6912, 2480), why="128 results of 27 products, no bias; the result's size counts, 4 by 4, not x's")
check.equal("a kernel of 1 by 5, as a pair", tuple(conv2d_cost(Conv2d(2, 3, (1, 5)), (1, 2, 4, 9), (1, 3, 4, 5))),
            (1260, 660), why="60 results of 2 * 1 * 5 products: the sides of a kernel may differ")

# %% [markdown]
"""
Attention has children: four linear layers, which have rules already and will be counted by themselves. Left
over is what the layer does between them, for x `(B, T, dim)` that looks at itself:

```
scores     query @ key         (B, H, T, D) @ (B, H, D, T)     2 * B*H*T*T*D FLOPs  =  2 * B*T*T*dim
weights    softmax             a few FLOPs per score: left out, as everybody does
result     weights @ value     (B, H, T, T) @ (B, H, T, D)     2 * B*T*T*dim
```

Its bytes are three operations' bytes. The scores are written by the first, read and written by the second,
read by the third: `B*H*T*T` numbers, four times over. And once each: the queries and the result, `B*T*dim`
numbers; the keys and the values, `B*T` times their width, which is `dim` if `kv_heads` is `heads`, else less
in proportion: `layer.dim // layer.heads * layer.kv_heads`.
"""

# %% exercise="attention_cost"
#| exporti
def attention_cost(layer: Any, x_shape: Shape, out_shape: Shape) -> Cost:
    """What MultiHeadAttention does between its linear layers: two products and the softmax's traffic.

    x_shape (B, T, dim), which looks at itself; for a context of another length it is an estimate.

    >>> attention_cost(MultiHeadAttention(4, heads=2), (1, 3, 4), (1, 3, 4))
    Cost(flops=144, bytes=480)
    """
    b, t, dim = x_shape
    ### BEGIN SOLUTION
    scores = b * layer.heads * t * t
    kv_width = dim // layer.heads * layer.kv_heads
    return Cost(4 * b * t * t * dim, BYTES * (4 * scores + 2 * b * t * (dim + kv_width)))
    ### END SOLUTION

# %% check="attention_cost" points=4
def _attention(dim, heads, b, t, kv_heads=None):
    return tuple(attention_cost(MultiHeadAttention(dim, heads, kv_heads=kv_heads), (b, t, dim), (b, t, dim)))


check.equal("dim 4, 2 heads, (1, 3, 4)", _attention(4, 2, 1, 3), (144, 480),
            why="4 * 9 * 4 FLOPs; 4 * 18 scores, and 4 times 12 numbers: 120 * 4 bytes")
check.equal("twice the tokens", _attention(4, 2, 1, 6), (576, 1536),
            why="four times the FLOPs and four times the scores, twice the rest")
check.equal("twice the heads, the same width", _attention(4, 4, 1, 3), (144, 768),
            why="narrower heads: the FLOPs are the same, but each head has scores of its own")
check.equal("4 heads that share 1 of keys and values, (2, 3, 8)", _attention(8, 4, 2, 3, kv_heads=1), (576, 1632),
            why="keys and values are 2 wide instead of 8; the products are as many as before")

# %% [markdown]
"""
The table. Read it as a list of claims, each of which you could check with the layer's formula.
"""

# %% given="COSTS"
#| export
def _positions_cost(layer: Any, x_shape: Shape, out_shape: Shape) -> Cost:
    """A sum per entry, three FLOPs for a turn; the table's rows are read once for all texts."""
    flops = 3 if isinstance(layer, RotaryPositions) else 1
    moved = math.prod(x_shape) + math.prod(out_shape) + math.prod(out_shape[-2:])
    return Cost(flops * math.prod(out_shape), BYTES * moved)


COSTS: dict[type[Any], Rule] = {
    Linear: linear_cost, Conv2d: conv2d_cost, MultiHeadAttention: attention_cost,
    ReLU: per_entry(1), Tanh: per_entry(1), Sigmoid: per_entry(4), SiLU: per_entry(5),
    # exact: divide, erf, add, two products; GPT-2's form: a polynomial and tanh
    GELU: lambda layer, x, out: per_entry(5 if layer.approximate == "none" else 9)(layer, x, out),
    # largest, subtract, exp, sum, divide
    Softmax: per_entry(5), LogSoftmax: per_entry(5),
    # mean, subtract, square, mean, scale, weight, bias; without the mean; in use scale and shift alone
    LayerNorm: per_entry(7), RMSNorm: per_entry(4),
    BatchNorm2d: lambda layer, x, out: per_entry(6 if layer.training else 2)(layer, x, out),
    # one for each number that a window sees
    MaxPool2d: lambda layer, x, out: per_entry(layer.kernel_size**2)(layer, x, out),
    AvgPool2d: lambda layer, x, out: per_entry(layer.kernel_size**2)(layer, x, out),
    GlobalAvgPool2d: lambda layer, x, out: Cost(math.prod(x), BYTES * (math.prod(x) + math.prod(out))),
    # no arithmetic: 8 bytes per token number, and each row read and written
    Embedding: lambda layer, x, out: Cost(0, 8 * math.prod(x) + 2 * BYTES * math.prod(out)),
    LearnedPositions: _positions_cost, SinusoidalPositions: _positions_cost, RotaryPositions: _positions_cost,
    # nothing at all in use; a view
    Dropout: lambda layer, x, out: per_entry(2)(layer, x, out) if layer.training else Cost(0, 0),
    Flatten: lambda layer, x, out: Cost(0, 0),
}  # fmt: skip

# %% [markdown]
"""
Somebody writes `class Noisy(Linear)`. Its cost should be found, without an entry of its own: it *is* a
Linear. But if there is an entry for Noisy, that one counts. Python knows the order in which to look:
`type(layer).__mro__` is the class, then its parents, nearest first; with it Python itself finds methods.

For a layer with no rule at all the answer is None: *unknown* is not zero.
"""

# %% exercise="cost_of"
#| export
def cost_of(layer: Any, x_shape: Shape, out_shape: Shape) -> Cost | None:
    """What one call of `layer` costs by the rule of its class or its nearest parent; None without.

    >>> cost_of(Softmax(), (2, 4), (2, 4))
    Cost(flops=40, bytes=64)
    """
    ### BEGIN SOLUTION
    for kind in type(layer).__mro__:
        if kind in COSTS:
            return COSTS[kind](layer, x_shape, out_shape)
    return None
    ### END SOLUTION

# %% check="cost_of" points=3
class _Plain(Module):
    pass


class _Plainer(_Plain):
    pass


class _Noisy(Linear):
    pass


class _Noisier(_Noisy):
    pass


check.equal("a ReLU", tuple(cost_of(ReLU(), (2, 3), (2, 3)) or ()), (6, 48), why="found under its own class")
check.equal("a class derived from Linear", tuple(cost_of(_Noisy(3, 2), (1, 3), (1, 2)) or ()), (14, 52),
            why="it has no entry; its parent has")
check.true("a layer that nobody has a rule for", cost_of(_Plain(), (2,), (2,)) is None,
           why="unknown is not zero, and not an error: most classes of a model are containers")
check.equal("a class derived from that one", tuple(cost_of(_Noisier(3, 2), (1, 3), (1, 2)) or ()), (14, 52),
            why="however far away the parent is")
try:
    COSTS[_Noisy] = lambda layer, x_shape, out_shape: Cost(x_shape[0], out_shape[0])
    _found = tuple(cost_of(_Noisier(3, 2), (7, 3), (5, 2)) or ())
finally:
    del COSTS[_Noisy]
check.equal("its child, once the class has a rule of its own", _found, (7, 5),
            why="the nearest class counts: _Noisy comes before Linear. The rule gets x_shape, then out_shape")
try:
    COSTS[_Plainer], COSTS[_Plain] = lambda *_: Cost(1, 1), lambda *_: Cost(2, 2)
    _found = tuple(cost_of(_Plainer(), (2,), (2,)) or ())
finally:
    del COSTS[_Plainer], COSTS[_Plain]
check.equal("a class and its parent, both with a rule", _found, (1, 1), why="its own comes first")

# %% [markdown]
"""
### Watching a model

How do you time forty layers without writing forty stopwatches? Look at how a layer is called:
`layer(x)` calls `layer.forward(x)`. Python looks for `forward` **first among the attributes of this one
object**, then in its class. So an attribute of that name, on the object, takes the place of the method:

```
layer.forward = watched      layer(x)  ->  watched(x)  ->  looks at the clock, calls the old one
del layer.forward            layer(x)  ->  the class's forward, as ever
```

No layer's code changes, and every layer of the course works that way, activations too. Three given pieces:
`named_layers` walks the tree as `named_modules` in module 03 did, but finds activations as well; `Call` is
what is noted about one call; `Profiler` holds the notes. Layers call layers, so calls are nested. The number
of the call we are inside of is on top of a stack, `self.inside`:

```
                             self.calls (numbers)             self.inside
block called                 0 block                          [0]
   block calls attention     1 attention, parent 0            [0, 1]
   attention is done                                          [0]
   block calls mlp           2 mlp, parent 0                  [0, 2]
```
"""

# %% given="named_layers"
#| exporti
def named_layers(model: Any, name: str = "") -> list[tuple[str, Any]]:
    """Pairs (name, layer) of the model and everything in it that has a `forward`, each once.

    In the order of the attributes, parents first. The model's own name is that of its class.

    >>> [name for name, _ in named_layers(Linear(2, 2))]
    ['Linear']
    """
    found = {id(model): (name or type(model).__name__, model)}
    for key, value in vars(model).items():
        if hasattr(value, "forward") and not isinstance(value, type):
            for path, layer in named_layers(value, f"{name}.{key}" if name else key):
                found.setdefault(id(layer), (path, layer))
    return list(found.values())


@dataclass
class Call:
    """One call of one layer: shapes, start and stop in seconds, the number of the call around it."""

    name: str
    layer: Any
    x_shape: Shape
    parent: int | None
    out_shape: Shape = ()
    new_bytes: int = 0
    start: float = 0.0
    stop: float = 0.0

    @property
    def seconds(self) -> float:
        """How long it took, with all calls inside of it."""
        return self.stop - self.start


def _note_result(call: Call, inputs: tuple[Any, ...], out: Any) -> None:
    """Shape of a call's result, and its bytes, which are 0 for a view of an input."""
    if isinstance(out, Tensor):
        view = any(np.may_share_memory(out.data, x.data) for x in inputs if isinstance(x, Tensor))
        call.out_shape, call.new_bytes = out.shape, 0 if view else out.data.nbytes

# %% given="Profiler"
#| export
class Profiler:
    """Watches every layer of a model: `print(Profiler(model).report(x))`.

    model: anything with a `forward`. Its layers are as they were when the report is done.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.calls: list[Call] = []
        self.inside: list[int] = []

# %% [markdown]
"""
`wrap` makes the function that takes the place of `forward`. When it is called it makes a `Call` (name,
layer, shape of the first input, parent), puts its number on the stack, notes the time, calls the old
`forward` with everything it was given, notes the time again, and takes the number off the stack. The last
two must happen even if `forward` raises an error, or whatever is called next would be noted as a child of
the call that died. `_note_result` (given) writes down the shape of what came out; and do not forget to hand
it on.
"""

# %% exercise="Profiler.wrap"
#| export
@method_of(Profiler)
def wrap(self, name: str, layer: Any) -> Callable[..., Any]:
    """A function that calls the `forward` that `layer` has now, and adds a Call to `self.calls`."""
    forward = layer.forward

    def watched(*inputs: Any, **options: Any) -> Any:
        x_shape = np.shape(inputs[0]) if inputs else ()
        ### BEGIN SOLUTION
        call = Call(name, layer, x_shape, self.inside[-1] if self.inside else None)
        self.inside.append(len(self.calls))
        self.calls.append(call)
        call.start = time.perf_counter()
        try:
            out = forward(*inputs, **options)
        finally:
            call.stop = time.perf_counter()
            self.inside.pop()
        _note_result(call, inputs, out)
        return out
        ### END SOLUTION

    return watched

# %% check="Profiler.wrap" points=6
class _Takes(Module):
    """Takes `seconds` by a clock of the checks, then calls its parts one after the other."""

    def __init__(self, clock, seconds, *parts, error=None):
        self.clock, self.seconds, self.parts, self.error = clock, seconds, parts, error

    def forward(self, x, plus=0.0):
        self.clock.go(self.seconds)
        for part in self.parts:
            x = part(x)
        if self.error:
            raise self.error
        return Tensor(x.data + 1 + plus)


with _Clocks() as _clock:
    _leaf, _x = _Takes(_clock, 2.0), Tensor([[1.0, 2.0, 3.0]])
    _profiler = Profiler(_leaf)
    _watched = _profiler.wrap("leaf", _leaf)
    _out = _watched(_x, plus=10.0)
    _clock.go(100)
    _second = _watched(Tensor([5.0]), 20.0)
check.tensor("what the wrapped forward returns for [1, 2, 3] and plus=10", _out, [[12, 13, 14]],
             why="the old forward's result, with all that was given handed on: the model must not notice")
check.tensor("and for [5] with a second input of 20", _second, [26], why="all inputs, however many")
check.equal("calls noted", [(_c.name, _c.x_shape, _c.out_shape) for _c in _profiler.calls],
            [("leaf", (1, 3), (1, 3)), ("leaf", (1,), (1,))], why="one Call for each, in order, with both shapes")
check.equal("how long they took", [_c.seconds for _c in _profiler.calls], [2.0, 2.0],
            why="from right before forward to right after it, by time.perf_counter")
check.equal("when they started", [_c.start for _c in _profiler.calls], [100.0, 202.0], why="as the clock said")
check.true("the layer is in the note", _profiler.calls[0].layer is _leaf, why="its rule will want it")
with _Clocks() as _clock:
    _a, _b = _Takes(_clock, 2.0), _Takes(_clock, 3.0)
    _profiler = Profiler(None)
    _block = _Takes(_clock, 1.0, _profiler.wrap("a", _a), _profiler.wrap("b", _b))
    _outer = _Takes(_clock, 4.0, _profiler.wrap("block", _block), _profiler.wrap("a", _a))
    _profiler.wrap("outer", _outer)(_x)
check.equal("nested calls: name, parent, seconds", [(_c.name, _c.parent, _c.seconds) for _c in _profiler.calls],
            [("outer", None, 12.0), ("block", 0, 6.0), ("a", 1, 2.0), ("b", 1, 3.0), ("a", 0, 2.0)],
            why="in the order of their starts; the parent is the number of the call around it, and b is no child of a")
check.equal("the stack afterwards", _profiler.inside, [], why="nobody is inside of anything any more")
with _Clocks() as _clock:
    _profiler = Profiler(None)
    _bad = _profiler.wrap("bad", _Takes(_clock, 2.0, error=KeyError("row 7")))
    check.raises("a layer that fails", KeyError, lambda: _bad(_x), why="the error is the model's, and comes through")
    _seen = list(_profiler.inside), [_c.seconds for _c in _profiler.calls]
check.equal("the stack after an error, and the failed call's seconds", _seen, ([], [2.0]),
            why="`finally`: or the next call would be a child of one that is over")

# %% [markdown]
"""
Putting the watches on is a loop; taking them off again is the part that gets forgotten. It must happen
whatever the model does in between, an error included. Python's way to say that is a context manager:

```
@contextmanager
def lamp():
    switch_on()
    try:
        yield                 # here the block under `with lamp():` runs
    finally:
        switch_off()          # also if the block raised an error
```

To take a watch off: `del layer.forward`, and the class's method is back. Unless the object had a `forward`
of its own before, put there by somebody else, another profiler for one. Then that one has to come back:
`vars(layer)` is the dictionary of an object's own attributes, and `vars(layer).get("forward")` its own
forward, or None.
"""

# %% exercise="Profiler.watching"
#| export
@method_of(Profiler)
@contextmanager
def watching(self) -> Iterator[None]:
    """Within the block every layer of the model is watched; afterwards each is as it was before."""
    layers = named_layers(self.model)
    ### BEGIN SOLUTION
    before = [vars(layer).get("forward") for _, layer in layers]
    try:
        for name, layer in layers:
            layer.forward = self.wrap(name, layer)
        yield
    finally:
        for (_, layer), own in zip(layers, before):
            if own is None:
                del layer.forward
            else:
                layer.forward = own
    ### END SOLUTION

# %% check="Profiler.watching" points=5
def _own_forwards(model):
    """Names of the layers that have a forward on the object itself."""
    return [name for name, layer in named_layers(model) if "forward" in vars(layer)]


manual_seed(0)
_shared = ReLU()
_net = Sequential(Linear(3, 4), _shared, Sequential(Linear(4, 4), _shared))
_x = Tensor([[1.0, 2.0, 3.0]])
_expected = _net(_x).data
_profiler = Profiler(_net)
with _profiler.watching():
    _got = _net(_x)
    _during = _own_forwards(_net)
check.equal("layers with a watch on, inside the block", _during, ["Sequential", "0", "1", "2", "2.0"],
            why="every layer that named_layers gives, the model itself among them")
check.equal("calls noted", [_c.name for _c in _profiler.calls], ["Sequential", "0", "1", "2", "2.0", "1"],
            why="each call under its layer's name; the ReLU that hangs in the tree twice is called twice")
check.close("the model's result", _got.data, _expected, why="watching changes nothing")
check.equal("layers with a watch on, after the block", _own_forwards(_net), [],
            why="or the next report counts every call twice, and each pass is slower than the one before")


def _dies():
    with _profiler.watching():
        raise KeyError("row 7")


check.raises("an error in the block", KeyError, _dies, why="it comes through")
check.equal("layers with a watch on, after an error", _own_forwards(_net), [], why="`finally` runs in any case")
_mine = lambda x: x
_net[0].forward = _mine
with _profiler.watching():
    _net[0](_x)
_back = vars(_net[0]).get("forward")
check.true("a forward that somebody put on the object before is there again", _back is _mine,
           why="leave everything as you found it: it may be another profiler's watch")
vars(_net[0]).pop("forward", None)

# %% [markdown]
"""
A call's seconds include those of the calls inside of it. To say where the time goes, every second may be
counted once only. So: a call's **own** seconds are its seconds minus those of its *direct* children. (Those
of its grandchildren are already in its children's.)

```
number  name     parent   seconds   own
0       outer    -          12       12 - 6 - 2 = 4
1       block    0           6        6 - 2 - 3 = 1
2       a        1           2                    2
3       b        1           3                    3
4       a        0           2                    2
                                                 12, the whole
```
"""

# %% given="the_table_above"
def _calls(*rows):
    """Calls of (name, parent, start, stop)."""
    return [Call(name, ReLU(), (2, 3), parent, (2, 3), 24, start, stop) for name, parent, start, stop in rows]


_example = _calls(("outer", None, 100, 112), ("block", 0, 104, 110), ("a", 1, 105, 107), ("b", 1, 107, 110),
                  ("a", 0, 110, 112))

# %% exercise="own_seconds"
#| exporti
def own_seconds(calls: Sequence[Call]) -> list[float]:
    """For each call its seconds without those of the calls directly inside of it.

    Together they are the seconds of the outermost call.
    """
    ### BEGIN SOLUTION
    own = [call.seconds for call in calls]
    for call in calls:
        if call.parent is not None:
            own[call.parent] -= call.seconds
    return own
    ### END SOLUTION

# %% check="own_seconds" points=3
check.close("the table above", own_seconds(_example), [4, 1, 2, 3, 2],
            why="minus direct children: outer loses block and the last a, not what block lost already")
check.close("a single call", own_seconds(_example[:1]), [12], why="nothing inside of it")
check.equal("the calls afterwards", [_c.seconds for _c in _example], [12, 6, 2, 3, 2],
            why="the notes stay: the trace needs their seconds as they were")

# %% [markdown]
"""
### A trace that opens in Perfetto

A table adds up; a **trace** shows the order. The *Trace Event Format* is a JSON file that browsers' and
phones' profilers write, and that https://ui.perfetto.dev draws: a bar per call on a time axis, the calls
inside of it below. Each call is a dictionary, a "complete event":

```
{"name": "block", "cat": "Block", "ph": "X", "ts": 4000000.0, "dur": 6000000.0, "pid": 1, "tid": 1, "args": {…}}
 what it is called; its kind;      X is     when it began,    how long it     process, thread:  whatever else
                    the class      complete  in microseconds   took, as well   the same for all  to show
```

Nobody writes down who is inside of whom: the viewer sees it from the times. `ts` counts from any moment you
like. Take the start of the first call, so that numbers stay small. In `args` put the shapes, as lists under
`"input"` and `"output"`.
"""

# %% exercise="trace_events"
#| exporti
def trace_events(calls: Sequence[Call]) -> list[dict[str, Any]]:
    """A complete event per call, for a JSON trace; `ts` (from the first call on) and `dur` in microseconds.

    Source: Trace Event Format (Google), complete events.
    """
    ### BEGIN SOLUTION
    events: list[dict[str, Any]] = []
    for call in calls:
        event = {"name": call.name, "cat": type(call.layer).__name__, "ph": "X", "pid": 1, "tid": 1}
        event |= {"ts": (call.start - calls[0].start) * 1e6, "dur": call.seconds * 1e6}
        event["args"] = {"input": list(call.x_shape), "output": list(call.out_shape)}
        events.append(event)
    return events
    ### END SOLUTION

# %% check="trace_events" points=4
_events = trace_events(_example)
check.equal("an event per call, by name", [_e.get("name") for _e in _events], ["outer", "block", "a", "b", "a"],
            why="a layer that is called twice is two bars")
check.equal("the keys of an event", sorted(_events[0]), ["args", "cat", "dur", "name", "ph", "pid", "tid", "ts"],
            why="what the format asks of a complete event")
check.equal("kinds of events", sorted({_e["ph"] for _e in _events}), ["X"],
            why='"X" is a complete event, with start and duration in one')
check.equal("category of the first", _events[0]["cat"], "ReLU", why="the name of the layer's class: the viewer colours by it")
check.close("ts: starts 100, 104, 105, 107, 110 seconds", [_e["ts"] for _e in _events], [0, 4e6, 5e6, 7e6, 10e6],
            why="microseconds since the first call's start")
check.close("dur: 12, 6, 2, 3, 2 seconds", [_e["dur"] for _e in _events], [12e6, 6e6, 2e6, 3e6, 2e6],
            why="microseconds, with the calls inside: the bar of a block is as long as those below it")
check.equal("processes and threads", sorted({(_e["pid"], _e["tid"]) for _e in _events}), [(1, 1)],
            why="one row of bars: other numbers would stand side by side, not nested")
check.equal("args of the first", _events[0]["args"], {"input": [2, 3], "output": [2, 3]}, why="shapes as lists")
check.true("json can write them", json.loads(json.dumps(_events)) == _events, why="numbers, strings, lists, no arrays")

# %% [markdown]
"""
The rest is bookkeeping, and given: the report makes a row of every call of a layer that has a rule or no
layers inside, and prints a table. Read `report`: it watches a model **as in use**, without gradients and in
`eval()`, because in training BatchNorm would take your profiling for data. It counts memory in a pass of its
own, which is also the warm-up, and of the watched passes it keeps the fastest.
"""

# %% given="short"
#| exporti
def short(value: float) -> str:
    """Three digits and a unit: 1.23 M for 1234567.

    >>> short(1234567), short(999.9), short(0)
    ('1.23 M', '1 k', '0 ')
    """
    for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= 0.9995 * size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.3g} "

# %% given="Report"
#| export
class Point(NamedTuple):
    """An operation in the roofline: FLOPs per byte, and FLOPs per second."""

    name: str
    intensity: float
    speed: float


@dataclass(frozen=True)
class Row:
    """One call of one layer. FLOPs and bytes are None if no rule knows its class."""

    name: str
    type: str
    x_shape: Shape
    out_shape: Shape
    parameters: int
    flops: int | None
    bytes: int | None
    seconds: float
    share: float
    activation_bytes: int

    def __str__(self) -> str:
        flops, moved = ("?" if v is None else short(v) for v in (self.flops, self.bytes))
        return (
            f"{self.name[-24:]:24} {self.type[:18]:18} {self.out_shape!s:20} {self.parameters:>10,}"
            f" {flops:>7} {moved + 'B':>8} {1e3 * self.seconds:9.3f} ms {100 * self.share:5.1f} %"
        )


@dataclass(frozen=True)
class Report:
    """What one pass of a model costs: rows per layer, totals, and `print` for a table.

    seconds and cpu: of the whole pass. peak: the most bytes at once, besides model and inputs.
    """

    rows: tuple[Row, ...]
    calls: tuple[Call, ...]
    seconds: float
    cpu: float
    peak: int
    parameters: int

    @property
    def flops(self) -> int:
        """FLOPs of all rows whose layer has a rule."""
        return sum(row.flops or 0 for row in self.rows)

    @property
    def bytes(self) -> int:
        """Bytes moved at least, by all rows whose layer has a rule."""
        return sum(row.bytes or 0 for row in self.rows)

    @property
    def activation_bytes(self) -> int:
        """Bytes of all layers' results."""
        return sum(row.activation_bytes for row in self.rows)

    @property
    def hottest(self) -> Row:
        """The row that takes the most time."""
        return max(self.rows, key=lambda row: row.seconds)

    def points(self) -> list[Point]:
        """The rows that calculate something, for the roofline."""
        rows = [(row, row.flops, row.bytes) for row in self.rows]
        return [Point(r.name, f / b, f / r.seconds) for r, f, b in rows if f and b and r.seconds]

    def save_trace(self, path: str | Path) -> None:
        """Write a JSON trace that https://ui.perfetto.dev and chrome://tracing open."""
        trace = {"traceEvents": trace_events(self.calls), "displayTimeUnit": "ms"}
        Path(path).write_text(json.dumps(trace), encoding="utf-8")

    def __str__(self) -> str:
        unknown = sorted({row.type for row in self.rows if row.flops is None})
        between = self.seconds - sum(row.seconds for row in self.rows)
        head = f"{'layer':24} {'type':18} {'output':20} parameters   FLOPs    moved         time   share"
        rest = f"{1e3 * between:9.3f} ms {100 * between / self.seconds:5.1f} %"
        sizes = map(short, (self.flops, self.bytes, self.activation_bytes, self.peak))
        total = "{}FLOPs, {}B moved, {}B of results, {}B at the peak".format(*sizes)
        total += f"; {1e3 * self.seconds:.3f} ms, processor {1e3 * self.cpu:.3f} ms"
        lines = [head, *map(str, self.rows), f"{'between the layers':93}{rest}"]
        lines += [f"{self.parameters:,} parameters, {total}"]
        lines += [f"? no rule for {name}: COSTS[{name}] = rule" for name in unknown]
        return "\n".join(lines)


def _row(call: Call, own: float, whole: float) -> Row:
    """The row of a call with so many seconds of its own, in a pass of `whole` seconds."""
    flops, moved = cost_of(call.layer, call.x_shape, call.out_shape) or (None, None)
    kind, held = type(call.layer).__name__, own_numbers(call.layer, Parameter)
    shapes = call.x_shape, call.out_shape
    return Row(call.name, kind, *shapes, held, flops, moved, own, own / whole, call.new_bytes)


@contextmanager
def _in_use(model: Any) -> Iterator[None]:
    """Within the block no gradients and eval(); afterwards every module is in the mode it was in."""
    layers = [layer for _, layer in named_layers(model) if hasattr(layer, "training")]
    modes = [layer.training for layer in layers]
    try:
        for layer in layers:
            layer.training = False
        with no_grad():
            yield
    finally:
        for layer, mode in zip(layers, modes):
            layer.training = mode


@method_of(Profiler)
def once(self, inputs: tuple[Any, ...]) -> tuple[float, list[Call]]:
    """One watched pass: seconds of the processor, and the calls, the model's own first."""
    self.calls, self.inside = [], []
    with self.watching():
        start = time.process_time()
        self.model.forward(*inputs)
        cpu = time.process_time() - start
    return cpu, self.calls


@method_of(Profiler)
def report(self, *inputs: Any, repeats: int = 5) -> Report:
    """What `model(*inputs)` costs in use, layer by layer: the fastest of `repeats` watched passes.

    Cost: one pass more, in which memory is counted. The model is left as it was.
    """
    with _in_use(self.model):
        peak = profile_memory(lambda: self.model(*inputs)).peak
        passes = [self.once(inputs) for _ in range(repeats)]
        cpu, calls = min(passes, key=lambda one: one[1][0].seconds)
        parents, own, whole = {c.parent for c in calls}, own_seconds(calls), calls[0].seconds
        rows = [_row(call, seconds, whole) for call, seconds in zip(calls, own)]
    kept = tuple(r for i, r in enumerate(rows) if i not in parents or r.flops is not None)
    held = {id(v): v for _, layer in named_layers(self.model) for v in vars(layer).values()}
    parameters = sum(value.size for value in held.values() if isinstance(value, Parameter))
    return Report(kept, tuple(calls), whole, cpu, peak, parameters)

# %% [markdown]
"""
### Amdahl's law

Foundations had 7 s of 10 in one function. In general a `share` of the time becomes `speedup` times as fast,
and the rest stays. What is the whole worth then? Take the time before as 1, write down the time after, and
divide. A speedup of `math.inf` is the best case: that part costs nothing any more.
"""

# %% exercise="amdahl"
#| export
def amdahl(share: float, speedup: float) -> float:
    """How many times as fast the whole gets if `share` of its time gets `speedup` times as fast.

    share: from 0 to 1; speedup: more than 0, math.inf allowed. Raises ValueError for others.
    Source: Amdahl 1967.

    >>> round(amdahl(0.7, 2), 3)
    1.538
    """
    if not 0 <= share <= 1 or not speedup > 0:
        help_ = "A share is from 0 to 1 (70 percent is 0.7), a speedup above 0."
        raise ValueError(f"amdahl: share={share}, speedup={speedup}. {help_}")
    ### BEGIN SOLUTION
    after = (1 - share) + share / speedup
    return 1 / after if after else math.inf
    ### END SOLUTION

# %% check="amdahl" points=2
check.close("70 of 100 at twice the speed", amdahl(0.7, 2), 1 / 0.65, why="0.3 stays, 0.7 becomes 0.35")
check.close("the same part at infinite speed", amdahl(0.7, math.inf), 1 / 0.3, why="the other 0.3 is still there")
check.close("a part of 5 in 100 at 10 times the speed", amdahl(0.05, 10), 1 / 0.955, why="hardly worth a day")
check.close("half of it, made slower by 2", amdahl(0.5, 0.5), 1 / 1.5, why="0.5 + 0.5 / 0.5: it holds in this direction too")
check.equal("nothing of it; all of it at 4; all of it at infinite speed",
            (amdahl(0.0, 9), amdahl(1.0, 4), amdahl(1.0, math.inf)), (1.0, 4.0, math.inf),
            why="the three corner cases: no gain, the full gain, and no time left at all")
check.raises("a share of 70", ValueError, lambda: amdahl(70, 2), why="a share is at most 1", mention=["0.7"])

# %% [markdown]
"""
### Your machine's two speeds

How fast can this machine calculate? Take the operation it is best at, a large matrix product, and divide its
FLOPs (`2 * n * n * n`) by its time. How fast can it fetch? Copy an array much larger than the caches: every
byte is read and written, so **two** times `nbytes` are moved. Of both take the minimum,
because other programs can only make them slower, and of 10 repeats: all other operations will be compared
with these two.
"""

# %% given="Machine"
#| export
@dataclass(frozen=True)
class Machine:
    """What this machine can do: FLOPs per second, and bytes per second."""

    peak_flops: float
    bandwidth: float

    @property
    def ridge(self) -> float:
        """FLOPs per byte from which on arithmetic is the limit."""
        return self.peak_flops / self.bandwidth

# %% exercise="Machine.measure"
#| export
@method_of(Machine)
@classmethod
def measure(cls, size: int = 512, megabytes: int = 32) -> Self:
    """This machine, measured: a float32 product of `size` and a copy of that many megabytes (2**20 B).

    Cost: about a tenth of a second. With several BLAS threads the peak is that of all cores they use.
    """
    a = np.ones((size, size), dtype=np.float32)
    source = np.ones(megabytes * 2**20 // BYTES, dtype=np.float32)
    target = np.empty_like(source)
    ### BEGIN SOLUTION
    product = time_call(lambda: a @ a, repeats=10).minimum
    copy = time_call(lambda: np.copyto(target, source), repeats=10).minimum
    return cls(2 * size**3 / product, 2 * source.nbytes / copy)
    ### END SOLUTION

# %% check="Machine.measure" points=3
class _Ticking(_Clocks):
    """Clocks by which whatever is measured takes 5, 2, 7, 3, 5, 2 … seconds."""

    def __enter__(self):
        super().__enter__()
        self.looks = 0
        time.perf_counter = self.look
        return self

    def look(self):
        self.looks += 1
        if self.looks % 2 == 0:
            self.wall += (5.0, 2.0, 7.0, 3.0)[(self.looks // 2 - 1) % 4]
        return self.wall


with _Ticking():
    _machine = Machine.measure(size=8, megabytes=1)
check.equal("type of the result", type(_machine).__name__, "Machine", why="measure builds one: cls(peak_flops, bandwidth)")
check.close("peak: a product of 8 by 8 that takes 5, 2, 7, 3, 5 … seconds", _machine.peak_flops, 2 * 8**3 / 2,
            why="2 * n * n * n FLOPs, by the smallest of the times")
check.close("bandwidth: the copy of 2**20 bytes takes as long", _machine.bandwidth, 2 * 2**20 / 2,
            why="each byte is read once and written once, by the smallest of the times")

# %% [markdown]
"""
### The roof

With `intensity` FLOPs per byte, memory delivers enough for `bandwidth * intensity` FLOPs per second, and the
arithmetic units can do `peak_flops`. What is possible? The check has the machine of Foundations.
"""

# %% exercise="roofline"
#| export
def roofline(machine: Machine, intensity: float) -> float:
    """FLOPs per second that are possible with `intensity` FLOPs per byte.

    Source: Williams, Waterman & Patterson 2009.

    >>> roofline(Machine(peak_flops=100e9, bandwidth=10e9), 0.25) / 1e9
    2.5
    """
    ### BEGIN SOLUTION
    return min(machine.peak_flops, machine.bandwidth * intensity)
    ### END SOLUTION

# %% check="roofline" points=2
_machine = Machine(peak_flops=100e9, bandwidth=10e9)
check.close("100 GFLOP/s and 10 GB/s, 0.27 FLOPs per byte", roofline(_machine, 0.27), 2.7e9, why="bandwidth times intensity")
check.close("the same machine, 1000 FLOPs per byte", roofline(_machine, 1000), 100e9, why="never more than the peak")
check.close("at the ridge", roofline(_machine, _machine.ridge), 100e9, why="10 FLOPs per byte: both are just enough")

# %% [markdown]
"""
Two pictures of it, given. Both axes are logarithmic: each step to the right is a factor. The sloped part is
the memory, the flat part the arithmetic, and each point is an operation: how far below the roof it lies is
what a better program could gain.
"""

# %% given="roofline_pictures"
#| export
def _log_place(value: float, low: float, high: float) -> float:
    """Where `value` lies between `low`, 0, and `high`, 1, on a logarithmic axis."""
    return math.log(value / low) / math.log(high / low)


def _powers(low: float, high: float) -> list[float]:
    """The powers of ten from `low` to `high`, which are some themselves."""
    return [10.0**k for k in range(round(math.log10(low)), round(math.log10(high)) + 1)]


def _axes(machine: Machine, points: Sequence[Point]) -> tuple[float, float, float, float]:
    """Powers of ten around everything: lowest and highest intensity, lowest and highest speed."""
    for point in points:
        if not min(point.intensity, point.speed) > 0:
            raise ValueError(f"roofline: {point} has no place: no FLOPs to show. Leave it out.")
    across = [p.intensity for p in points] + [machine.ridge]
    up = [p.speed for p in points] + [roofline(machine, min(across)), machine.peak_flops]
    low = [10.0 ** math.floor(math.log10(min(v) / 1.2)) for v in (across, up)]
    high = [10.0 ** math.ceil(math.log10(max(v) * 1.2)) for v in (across, up)]
    return low[0], high[0], low[1], high[1]


def _legend(machine: Machine, points: Sequence[Point]) -> list[str]:
    """A line per point: letter, name, speed, and its share of what the roof allows."""
    lines = []
    for i, (name, intensity, speed) in enumerate(points):
        share = f"{100 * speed / roofline(machine, intensity):4.0f} % of the roof"
        lines.append(f"{chr(97 + i % 26)}  {name[:18]:18} {short(speed):>7}FLOP/s {share}")
    return lines


def roofline_text(
    machine: Machine, points: Sequence[Point], width: int = 64, height: int = 16
) -> str:
    """The roofline as text: `/` memory, `-` arithmetic, a letter per point; the roof's share below."""
    left, right, bottom, top = _axes(machine, points)
    grid = [[" "] * width for _ in range(height)]

    def put(intensity: float, speed: float, mark: str) -> None:
        column = round(_log_place(intensity, left, right) * (width - 1))
        grid[round((1 - _log_place(speed, bottom, top)) * (height - 1))][column] = mark

    for column in range(width):
        intensity = left * (right / left) ** (column / (width - 1))
        put(intensity, roofline(machine, intensity), "/" if intensity < machine.ridge else "-")
    for i, point in enumerate(points):
        put(point.intensity, point.speed, chr(97 + i % 26))
    lines = [f"{short(top)}FLOP/s"] + ["|" + "".join(row).rstrip() for row in grid]
    foot = f"{left:g}{'FLOPs per byte':^{width - 8}}{right:g}"
    lines += ["+" + "-" * width + f" {short(bottom)}FLOP/s", foot, ""]
    return "\n".join(lines + _legend(machine, points))


def roofline_svg(machine: Machine, points: Sequence[Point], path: str | Path) -> None:
    """Write the roofline as an SVG picture: log-log, a letter per point, the names beside it."""
    left, right, bottom, top = _axes(machine, points)

    def place(intensity: float, speed: float) -> tuple[float, float]:
        x, y = _log_place(intensity, left, right), _log_place(speed, bottom, top)
        return 80 + 480 * x, 380 - 340 * y

    parts: list[str] = []

    def write(x: float, y: float, words: str, anchor: str = "start", fill: str = "#000") -> None:
        where = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{fill}"'
        parts.append(f'<text {where} xml:space="preserve">{words}</text>')

    for value in _powers(left, right):
        x = place(value, bottom)[0]
        parts.append(f'<path d="M{x:.1f} 40V380" stroke="#ddd"/>')
        write(x, 398, f"{value:g}", "middle")
    for value in _powers(bottom, top):
        y = place(left, value)[1]
        parts.append(f'<path d="M80 {y:.1f}H560" stroke="#ddd"/>')
        write(72, y + 4, short(value), "end")
    roof = [place(v, roofline(machine, v)) for v in (left, machine.ridge, right)]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in roof)
    parts.append(f'<polyline points="{line}" fill="none" stroke="#333" stroke-width="2"/>')
    for i, point in enumerate(points):
        x, y = place(point.intensity, point.speed)
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="8" fill="#1f6fb2"/>')
        write(x, y + 4, chr(97 + i % 26), "middle", "#fff")
    for i, words in enumerate(_legend(machine, points)):
        write(580, 60 + 20 * i, words.replace("&", "&amp;").replace("<", "&lt;"))
    write(80, 24, f"{short(machine.peak_flops)}FLOP/s, {short(machine.bandwidth)}B/s")
    write(320, 420, "FLOPs per byte", "middle")
    size = f'width="1000" height="{max(440, 80 + 20 * len(points))}" style="background:#fff"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-size="12" font-family="monospace">'
    Path(path).write_text("\n".join([head, *parts, "</svg>"]), encoding="utf-8")

# %% [markdown]
"""
## Use: one line

A small network for pictures of 28 by 28, as in milestone 1998, on 64 of them. Which layer is the hottest?
Say it before you run the cell; the second convolution has sixteen times the weights of the first.
"""

# %% demo="report_of_a_cnn"
manual_seed(0)
cnn = Sequential(
    Conv2d(1, 8, 3, padding=1), BatchNorm2d(8), ReLU(), MaxPool2d(2),
    Conv2d(8, 16, 3, padding=1), BatchNorm2d(16), ReLU(), MaxPool2d(2),
    Flatten(), Linear(16 * 7 * 7, 64), ReLU(), Linear(64, 10),
)
pictures = randn(64, 1, 28, 28)
report = Profiler(cnn).report(pictures)
print(report)
print("\nhottest:", report.hottest.name, report.hottest.type)

# %% [markdown]
"""
Every row is a claim you can check: the columns of FLOPs and bytes are your rules, the shapes come from the
calls. Compare the two convolutions: four times the FLOPs, and not four times the time. The first one lays
out patches for a matrix product with 9 columns, and most of its work is the laying out. And look at the rows
that have fewer FLOPs than the big linear layer, and take more time. *Between the layers* is what no layer
owns: Python's loop, and the watches themselves.

Compare the two times of the last line as well. If the clock on the wall ran much longer than the processor
worked, somebody else was on the machine, and some innocent row carries that time: run the cell again.

The same for a GPT, but its table has a row for each of dozens of layers. Here they are added up by type.
"""

# %% demo="report_of_a_gpt"
manual_seed(0)
gpt = GPT(GPTConfig(vocab_size=256, context=128, dim=128, heads=4, layers=4))
tokens = np.random.default_rng(0).integers(0, 256, (4, 128))
report = Profiler(gpt).report(tokens)
kinds = {}
for row in report.rows:
    calls, flops, moved, seconds = kinds.get(row.type, (0, 0, 0, 0.0))
    kinds[row.type] = calls + 1, flops + (row.flops or 0), moved + (row.bytes or 0), seconds + row.seconds
print(f"{'type':20} calls    FLOPs     moved      time")
for kind, (calls, flops, moved, seconds) in sorted(kinds.items(), key=lambda item: -item[1][3]):
    print(f"{kind:20} {calls:5}  {flops / report.flops:6.1%}  {moved / report.bytes:8.1%}  {seconds / report.seconds:8.1%}")
print(f"\n{short(report.flops)}FLOPs; 2 * parameters * tokens: {short(2 * report.parameters * tokens.size)}FLOPs; "
      f"{1e3 * report.seconds:.1f} ms, {short(report.flops / report.seconds)}FLOP/s")

# %% [markdown]
"""
The linear layers have most of the FLOPs and a good deal less of the time. Attention's own row, a softmax
between two small products, takes more of the time than of the FLOPs: look at its share of the bytes. (The
rule of thumb of module 13, two FLOPs per parameter and token, is close: what it leaves out above all are the
two products.)

And the trace. Open the file at https://ui.perfetto.dev (it stays on your computer): a bar for the model,
below it one for each block, below that attention and mlp, and so on.
"""

# %% demo="a_trace"
path = Path(tempfile.gettempdir()) / "gpt_trace.json"
report.save_trace(path)
events = json.loads(path.read_text())["traceEvents"]
print(f"{path}: {len(events)} events; the first of them:")
for event in events[:10]:
    depth = sum(e["ts"] <= event["ts"] and event["ts"] + event["dur"] <= e["ts"] + e["dur"] for e in events) - 1
    print(f"{event['ts']:9.1f} µs  {'  ' * depth}{event['name']} ({event['cat']}) {event['dur']:.1f} µs")

# %% [markdown]
"""
So far a model in use. Training adds a pass back and an update. Where does a step's time go?
"""

# %% demo="a_training_step"
optimizer, loss_fn, classes = Adam(cnn.parameters(), lr=0.001), CrossEntropyLoss(), np.arange(64) % 10


def step(upto):
    loss = loss_fn(cnn(pictures), classes)
    if upto != "forward":
        cnn.zero_grad()
        loss.backward()
    if upto == "update":
        optimizer.step()


before = 0.0
for part in ("forward", "backward", "update"):
    seconds, memory = time_call(lambda: step(part), repeats=9).minimum, profile_memory(lambda: step(part))
    print(f"up to {part:9} {1e3 * seconds:7.2f} ms ({1e3 * (seconds - before):+6.2f})"
          f"   peak {memory.peak / 1e6:6.2f} MB   live afterwards {memory.live / 1e6:5.2f} MB")
    before = seconds

# %% [markdown]
"""
### Amdahl, predicted and reproduced

A pipeline in two stages: random features of 256 rows, by a product that somebody wrote in float64, and then
a median per row, repeated until the first stage has about 70 % of the time. The remedy is known: in
float32 a register holds twice as many numbers. First measure each stage alone, and how much faster the first
one gets; then let the law predict the whole; then run the whole.
"""

# %% demo="amdahl_reproduced"
rows, matrix = np.random.default_rng(0).normal(size=(256, 512)), np.random.default_rng(1).normal(size=(512, 256))
rows32, matrix32 = rows.astype(np.float32), matrix.astype(np.float32)
table = np.random.default_rng(2).normal(size=(4, 1024)).astype(np.float32)
slow, fast = lambda: rows @ matrix, lambda: rows32 @ matrix32


def rest(times):
    for _ in range(times):
        np.median(table, axis=1)


def best(*works):
    """The smallest of 60 times of each, taken in turns: somebody else's work cannot hit all of them."""
    rounds = [[time_call(work, repeats=1, warmup=0).wall[0] for work in works] for _ in range(60)]
    return np.min(rounds, axis=0)


first, ten = best(slow, lambda: rest(10))
times = max(1, round(10 * 3 / 7 * first / ten))
first, other, better, old, new = best(
    slow, lambda: rest(times), fast, lambda: (slow(), rest(times)), lambda: (fast(), rest(times)))
share, speedup = first / (first + other), first / better
predicted = amdahl(share, speedup)
print(f"the first stage has {share:.0%} of the time and gets {speedup:.2f} times as fast")
print(f"predicted for the whole: {predicted:.2f}    measured: {old / new:.2f}    at best: {amdahl(share, math.inf):.2f}")
print(f"with exactly 70 % at 2 times: {amdahl(0.7, 2):.3f}")

# %% [markdown]
"""
The prediction took two measurements and one line, and no rewriting. Do it *before* you spend a day on a
faster first stage; and see what remains if you do it again: the first stage's share is smaller now.

## Measure: the roofline of this machine

Eight operations of real steps, each through your Profiler. First predict, in writing: which of them come
near this machine's peak? And this one: a ReLU over 2,048 rows of 1,024 numbers, two million comparisons and
nothing else. How many FLOPs does a matrix product do in the same time: as many, five times, fifty times as
many?
"""

# %% demo="roofline_here"
manual_seed(0)
machine = Machine.measure()
wide = randn(2048, 1024)
steps = {
    "matmul 512": (Linear(512, 512, bias=False), randn(512, 512)),
    "conv 16-32": (Conv2d(16, 32, 3, padding=1), randn(8, 16, 28, 28)),
    "attention T=256": (MultiHeadAttention(64, heads=4), randn(4, 256, 64)),
    "gelu": (GELU(approximate="tanh"), wide),
    "softmax": (Softmax(), wide),
    "layer norm": (LayerNorm(1024), wide),
    "relu": (ReLU(), wide),
    "matmul, one row": (Linear(4096, 4096, bias=False), randn(1, 4096)),
}
reports = {name: Profiler(layer).report(x, repeats=20) for name, (layer, x) in steps.items()}
points = [report.points()[0]._replace(name=name) for name, report in reports.items()]
print(roofline_text(machine, points))
picture = Path(tempfile.gettempdir()) / "roofline.svg"
roofline_svg(machine, points, picture)
print(f"\nridge at {machine.ridge:.1f} FLOPs per byte; the same as a picture, for your browser: {picture}\n")
for name in ("relu", "layer norm", "softmax", "gelu"):
    row = reports[name].rows[0]
    matmul = machine.peak_flops * row.seconds
    print(f"{name:10} {short(row.flops):>7}FLOPs in {1e3 * row.seconds:6.2f} ms: "
          f"time for {short(matmul):>7}FLOPs of a good product, {matmul / row.flops:4.0f} times as many")

# %% [markdown]
"""
Look at the last lines before you look at the picture. Two million comparisons, the cheapest thing a layer
can do, take the time of a product with so many times their arithmetic. ReLU does not wait for its
comparisons but for its numbers, on their way in and out. A norm and a softmax are worse off still: they make
several such trips. So the layers that nobody thinks of, because they have no weights and no FLOPs to speak
of, are what is left when the products are fast. From this follow most tricks of the modules to come:

- Left of the ridge, *fewer bytes* is the only thing that helps: smaller numbers (15), fewer numbers (16),
  not fetching again what is known (17), several operations in one pass (18).
- Right of it, fewer FLOPs or better use of the arithmetic units.
- The product of one row is a GPT that writes token by token: each weight is fetched for two FLOPs.

What lies far below the sloped roof moves more than its rule says, or computes exp one by one. Softmax makes
five passes with arrays in between where one would do; GELU in GPT-2's form even more. That gap is what
module 18 is for. And a point **above** the roof is no mistake: part of its numbers came from a cache, which
is faster than the memory whose speed you measured.

## Break: the watch that stays on

A profiler whose author forgot to take the watches off. The same model is profiled three times.
"""

# %% demo="left_on"
class Forgetful(Profiler):
    """Puts watches on and never takes them off."""

    @contextmanager
    def watching(self):
        for name, layer in named_layers(self.model):
            layer.forward = self.wrap(name, layer)
        yield


for kind in (Forgetful, Profiler):
    small = Sequential(Linear(64, 64), ReLU(), Linear(64, 10))
    profiler, x = kind(small), randn(8, 64)
    counts = [len(profiler.once((x,))[1]) for _ in range(3)]
    plain = time_call(lambda: small(x), repeats=50).median
    print(f"{kind.__name__:10} calls noted: {counts}   the model alone afterwards: {1e6 * plain:6.1f} µs")

# %% [markdown]
"""
Four layers, four calls; with the watches left on, each pass is noted once more per profiling, and the model
stays slow for the rest of the day. The symptom is that *counts grow from run to run*.

The other classic: counting memory and timing in the same run. `tracemalloc` looks at every allocation, and
Python code allocates all the time.
"""

# %% demo="the_observer"
words = "the dog bites the man and the man bites the dog".split() * 400
work = lambda: [(word, len(word), word + "s") for word in words]
square = np.ones((300, 300), dtype=np.float32)
for name, function in [("small Python objects", work), ("one matrix product", lambda: square @ square)]:
    alone = time_call(function, repeats=9).median
    with _tracing():
        watched = time_call(function, repeats=9).median
    print(f"{name:22} {1e3 * alone:6.2f} ms, while memory is counted {1e3 * watched:6.2f} ms: {watched / alone:.1f} times")

# %% [markdown]
"""
The factor is not the same for all code, so even the *ranking* of what is slow changes. Measure time and
memory in two runs, as `report` does. Every instrument disturbs: yours adds microseconds to each call of a
layer, which is nothing to a convolution and much to a ReLU on eight numbers.

## Reflect

Predict with pencil and paper, write the number into the cell, and the check says whether it holds.

**1.** A function has 90 % of the time, and you make it 10 times as fast. How many times as fast is the
whole?
"""

# %% exercise="predict.ninety_percent"
### BEGIN SOLUTION
ninety_percent = 1 / (0.1 + 0.9 / 10)
### END SOLUTION

# %% check="predict.ninety_percent" points=1
check.prediction("0.9 of the time at 10 times the speed", ninety_percent, "NS4yNjMxNTc4OTQ3MzY4NDI=", rel=0.01,
                 why="what is the time afterwards, if it was 1 before? The rest is not faster")

# %% [markdown]
"""
**2.** `Conv2d(3, 32, 3, padding=1, bias=False)` on 8 pictures of 32 by 32. How many FLOPs?
"""

# %% exercise="predict.conv_flops"
### BEGIN SOLUTION
conv_flops = 2 * 27 * 8 * 32 * 32 * 32
### END SOLUTION

# %% check="predict.conv_flops" points=1
check.prediction("FLOPs of the convolution", conv_flops, "MTQxNTU3NzY=", rel=0.01,
                 why="padding 1 keeps 32 by 32; 8 * 32 * 32 * 32 results, each of 3 * 3 * 3 products with their sums")

# %% [markdown]
"""
**3.** A machine does 80 GFLOP/s and copies 20 GB/s. How many GFLOP/s can a ReLU on a large array reach?
"""

# %% exercise="predict.relu_bound"
### BEGIN SOLUTION
relu_bound = 20 / 8
### END SOLUTION

# %% check="predict.relu_bound" points=1
check.prediction("GFLOP/s of a ReLU at best", relu_bound, "Mi41", rel=0.01,
                 why="one FLOP per entry; which bytes are moved for it? 4 in, and the result goes out")

# %% [markdown]
"""
**4.** A GPT writes for one reader, token by token, on that machine. Each weight (float32) is fetched once
per token and used in a multiplication and an addition. Which change makes it faster?

- a) a processor with twice the GFLOP/s and the same memory
- b) the weights in one byte each instead of four
- c) an activation with half the FLOPs
- d) a matrix product that reaches the peak
"""

# %% exercise="predict.one_reader"
### BEGIN SOLUTION
one_reader = "b"
### END SOLUTION

# %% check="predict.one_reader" points=1
check.choice("what helps a GPT that writes one token at a time", one_reader, "Yg==", ["a", "b", "c", "d"],
             why="2 FLOPs for 4 bytes is 0.5 per byte; on which side of the ridge, 80 / 20 = 4, is that?")

# %% [markdown] question="where_to_start" points=3
"""
**Open question, graded by a person.** Take a model of your own from a milestone (or the GPT above with other
sizes) and print its report. (a) Choose the one thing you would make faster first. Say how much faster you
believe you could make it, on which side of the ridge it lies, and what Amdahl's law then predicts for the
whole. (b) What would you leave alone although it looks bad, and why? (c) Name one cost of using this model
that the report cannot show.

*Your answer:*
"""

# %% [markdown]
"""
## In production

PyTorch counts FLOPs a level deeper, per operation instead of per layer (`torch.utils.flop_counter`): no
layer can escape it, and a cross-attention is counted right, where our rule guesses. It counts matrix
products alone, no additions of a bias; for those our rules agree with it to the last digit, and the tests of
this course check that. `register_forward_hook` is the official way to watch a layer. `torch.profiler` notes
every operation and every kernel on the GPU, and writes the same trace format as yours. On a GPU a call
returns before the work is done, so a stopwatch around it measures nothing: one has to wait for the device
first.

Programs of more than one's own layers are profiled by **sampling**: a hundred times per second somebody
looks where the program is (`py-spy`, `perf`). That disturbs hardly at all and needs no change, but counts no
calls. The processor itself counts cache misses and FLOPs in hardware registers; Intel Advisor and Nsight
Compute draw rooflines from them, one roof for each level of cache. What we are not building: watching of
the backward pass, counters of the hardware, and profiles of several processes.

## When it fails

| symptom | cause | where to look |
|---|---|---|
| `not a function` | the work was called instead of handed over | `time_call(lambda: model(x))` |
| `has no attribute 'forward'` | `del` of a watch that is not there, or a model that is none | was it put on every layer? a function needs no Profiler: `time_call` |
| `local variable` | a name is used in `finally` or after it that an error kept from being set | set it before `try`, or use it after the `finally` |
| `cannot access local variable` | the same | set it before `try` |
| `must have a single underlying` | a list inside of a shape | shapes are tuples of whole numbers |
| `generator didn't yield` | `watching` without a `yield`, or an error before it | put on, `yield`, take off |
| `generator didn't stop` | two `yield`s, or one in a loop | exactly one, inside `try` |
| `pop from empty list` | the stack gets shorter without having got longer | append before the call, pop after it, once each |
| `not JSON serializable` | an array, a layer or a NumPy number in an event | names, plain numbers, lists |
| `dictionary changed size` | attributes are added while walking over them | make the list of layers first: `named_layers` |
| `has no place` | an operation without FLOPs in the roofline | Embedding and Flatten only move bytes: leave them out |
| `A share is from 0 to 1` | a share in percent | 70 percent is 0.7 |
| `not enough values to unpack` | attention's rule on a shape without batch or tokens | x_shape is (B, T, dim) |
| `ZeroDivisionError` | all of the time at infinite speed | what is 1 / after if nothing is left? math.inf |
| `object is not iterable` | a rule that gives a number, or the rule itself | return `Cost(flops, bytes)`; call the rule that was found |
| `list indices must be` | a call without parent is subtracted from somebody | the outermost call's parent is None: leave it out |
| `list index out of range` | the top of an empty stack | the outermost call has no parent: None if `self.inside` is empty |
| `too many values to unpack` | a rule for one shape of x only | x may have any axes in front: math.prod of the shapes |
| `multiply sequence` | `kernel_size` is a pair | math.prod(layer.kernel_size) |
| `NoneType` | a function without `return`; `watched` must hand on what forward gave | `return out` |
| times differ from run to run | no warm-up, too few repetitions, other programs | the minimum of more repeats; module 19 |
| calls noted grow with every report | watches are left on | `finally` in `watching` |
| live is 0 | nobody held the result | keep it in a variable until the bytes are read |
"""
