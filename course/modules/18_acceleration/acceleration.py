# %% [markdown]
"""
# 18 · Acceleration

The same layers, the same numbers, on faster kernels. You lay pictures out so that matrix products fit,
multiply less, touch memory less often, share the work among threads, and switch it all on and off behind
layers that know nothing of it.

```
you have built     a framework whose every line can be read (01-13), ways to measure it (14),
        |          models that are smaller (15, 16), a cache for writing (17)
        v
you build now      blocked matmul, im2col by strides, convolution as one product, Winograd,
                   fused kernels, flat optimizers, a crew of threads, enable_acceleration()
        |
        v
this unlocks       19 claims about speed that hold; 20 the Olympics
```

Time: about 5 hours. Every exercise is a cell with a hole in it, and the cell below it checks your answer.
Run `tito watch` in a terminal beside this notebook.
"""

# %% given="imports"
#| default_exp core.acceleration
#| export
from __future__ import annotations

import ctypes
import math
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary, WeakValueDictionary

import numpy as np
from numpy.lib.stride_tricks import as_strided

from tinytorch.core import activations, autograd, layers, losses, optimizers
from tinytorch.core.autograd import tracked
from tinytorch.core.tensor import Tensor
from tinytorch.nn import attention, conv, embedding, kvcache, transformer

# %% given="tools"
import subprocess
import time
from importlib.util import find_spec

import tito.checks as check
from threadpoolctl import threadpool_limits
from tinytorch.core.activations import ReLU
from tinytorch.core.layers import Flatten, Linear, Sequential
from tinytorch.core.losses import CrossEntropyLoss
from tinytorch.core.optimizers import SGD, Adam
from tinytorch.core.tensor import manual_seed
from tinytorch.core.training import training_step
from tinytorch.nn.conv import BatchNorm2d, Conv2d, MaxPool2d, conv2d_explicit
from tito.notebook import method_of

threadpool_limits(1)  # one BLAS thread, so that times can be compared


def best_time(call, rounds=5):
    """Seconds of the fastest of several calls, after one to warm up."""
    call()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def random(*shape, seed=0):
    """Normal float32 numbers."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def small_cnn(batch=32):
    """One training step of a small convolutional network, as a function without arguments."""
    manual_seed(0)
    parts = []
    for inputs, outputs, pool in ((3, 32, 0), (32, 32, 1), (32, 64, 0), (64, 64, 1)):
        parts += [Conv2d(inputs, outputs, 3, padding=1, bias=False)]
        parts += [MaxPool2d(2)] * pool + [BatchNorm2d(outputs), ReLU()]
    model = Sequential(*parts, Flatten(), Linear(64 * 64, 10))
    loss_fn, driver = CrossEntropyLoss(), SGD(model.parameters(), lr=1e-6, momentum=0.9)
    x, y = Tensor(random(batch, 3, 32, 32)), np.arange(batch) % 10
    return lambda: training_step(model, loss_fn, driver, x, y)

# %% [markdown]
"""
## Why: a step that mostly waits

Your convolution is one matrix product per four pictures, and a matrix product is the fastest thing a
processor does. So a training step of a CNN should take about as long as its products. Does it? The cell
below counts the multiplications of a step of a small network, measures how many your machine does per
second inside one large product, and compares.
"""

# %% demo="mostly_waiting"
a = random(512, 512)
rate = 2 * 512**3 / best_time(lambda: a @ a)
pairs = [(32, 3, 32), (32, 32, 32), (16, 32, 64), (16, 64, 64)]  # side, channels in, channels out
work = 3 * sum(2 * 32 * side**2 * 9 * c * o for side, c, o in pairs)  # forward, and two gradients
step = small_cnn()
seconds = best_time(step, 3)
print(f"arithmetic of a step  {work / 1e9:6.2f} GFLOP")
print(f"at the rate of a large product, {rate / 1e9:.0f} GFLOP/s: {work / rate * 1e3:6.1f} ms")
print(f"measured                                  {seconds * 1e3:6.1f} ms, {seconds * rate / work:.1f} times as long")

# %% [markdown]
"""
The rest of the time is not arithmetic. It is copying patches together, walking over arrays that are larger
than the caches once per operation, asking the operating system for fresh memory and giving it back, and
one core working while the others look on. And then there is a bolder question: must the multiplications be
that many?

## Foundations: where time goes

**Memory is far away.** A core multiplies some ten numbers in the time it takes to fetch one from memory,
but what was used a moment ago is still in a small fast cache. So: cut the work into pieces that fit, and do
everything to a piece while it is there. Three passes over a large array cost three trips to memory; the
same three over pieces cost one.

```
three passes, large array      read y, write y | read y, write y | read y, write y
                               to memory         to memory         to memory
piece by piece                 for each piece:   y += b; max(y, 0); y *= s     in the cache
```

**The order in memory decides what is cheap.** A picture (C, H, W) keeps each channel apart: the numbers of
one pixel lie H * W apart. Stored channels last, (H, W, C), they lie side by side, and so do those of a row
of three pixels:

```
(C, H, W)   C planes             r r r r | g g g g | b b b b
(H, W, C)   pixel by pixel       r g b | r g b | r g b | r g b
                                 `--- 3 pixels: one run of 3 * C numbers ---'
```

A window of 3x3 pixels is 9 * C numbers; channels last they are 3 runs of 3 * C. `transpose` alone moves
nothing: a tensor may say (N, C, H, W) to the world while its numbers lie channels last.

**NumPy lets go of the interpreter** inside matrix products and inside ufuncs on large arrays. So Python
threads do run at the same time, if the work comes in large pieces.

**Multiplications can be traded for additions.** Two neighbouring results of a filter of three,
`y0 = d0 g0 + d1 g1 + d2 g2` and `y1 = d1 g0 + d2 g1 + d3 g2`, are six products. With `d = [1 2 3 4]` and
`g = [1 2 1]`: y0 = 8, y1 = 12. Four products are enough:

```
m1 = (d0 - d2) * g0                   (1 - 3) * 1           = -2
m2 = (d1 + d2) * (g0 + g1 + g2) / 2   (2 + 3) * (4 / 2)     = 10
m3 = (d2 - d1) * (g0 - g1 + g2) / 2   (3 - 2) * (0 / 2)     =  0
m4 = (d1 - d3) * g2                   (2 - 4) * 1           = -2

y0 = m1 + m2 + m3  =  -2 + 10 + 0     = 8
y1 = m2 - m3 - m4  =  10 -  0 + 2     = 12
```

The sums of g are made once per filter, those of d once per row of pixels: what remains per result are 2
products instead of 3. That is Winograd's F(2,3). In two dimensions the gain is squared.

## Build

### A product in blocks

`a @ b` by its definition takes a row of `a` and a column of `b`, and fetches each number of `b` again for
every row of `a`. Cut into blocks, `block x block` numbers of `b` stay in the cache while they are used
`block` times:

```
          b   | B0 | B1 |          C00 = A00 B0top + A01 B0bottom
              |----|----|          a block of the result is the sum over the blocks
   a          | B2 | B3 |          along the inner axis
 | A0 | A1 |    C0   C1
 |----|----|
 | A2 | A3 |    C2   C3
```

Write it with three loops over blocks. The product of two blocks is `@`, so that only the blocking is yours.
The last block of a row may be smaller; a slice beyond the end is no error.
"""

# %% exercise="blocked_matmul"
#| export
def blocked_matmul(a: np.ndarray, b: np.ndarray, block: int = 64) -> np.ndarray:
    """a (M, K) @ b (K, N), block by block: (M, N) in the type of a.

    Cost: 2*M*K*N FLOPs; each number of b is fetched M / block times instead of M.

    >>> blocked_matmul(np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[1.0], [10.0]]), block=1).tolist()
    [[21.0], [43.0]]
    """
    (m, k), n = a.shape, b.shape[1]
    out = np.zeros((m, n), dtype=a.dtype)
    ### BEGIN SOLUTION
    for i in range(0, m, block):
        for j in range(0, n, block):
            for p in range(0, k, block):
                left, right = a[i : i + block, p : p + block], b[p : p + block, j : j + block]
                out[i : i + block, j : j + block] += left @ right
    ### END SOLUTION
    return out

# %% check="blocked_matmul" points=5
class _Counted(np.ndarray):
    """An array that notes the shapes of its matrix products."""

    def __matmul__(self, other):
        _Counted.seen.append((self.shape, other.shape))
        return np.asarray(self) @ np.asarray(other)


_a, _b = np.arange(12.0).reshape(3, 4), np.arange(20.0).reshape(4, 5) - 7
_want = np.array([[sum(_a[i, p] * _b[p, j] for p in range(4)) for j in range(5)] for i in range(3)])
for _block in (1, 2, 3, 8):
    check.close(f"(3, 4) @ (4, 5) in blocks of {_block}", blocked_matmul(_a, _b, _block), _want,
                why="a block of the result adds up over all blocks of the inner axis; edges are smaller")
_Counted.seen = []
blocked_matmul(_a.view(_Counted), _b.view(_Counted), 2)
check.equal("products of blocks for (3, 4) @ (4, 5), block 2: how many, the largest",
            (len(_Counted.seen), max(_Counted.seen, default=())), (12, ((2, 2), (2, 2))),
            why="2 blocks of rows, 3 of columns, 2 of the inner axis: 2 * 3 * 2 products of at most 2 x 2")

# %% [markdown]
"""
How close does that come to the product that NumPy calls, OpenBLAS's? It blocks too: three levels deep, one
per cache, with the blocks copied so that they lie in the order of use, and with an innermost kernel that
keeps 8x16 or more results in registers. Your blocks hand `@` small matrices, so the kernel is theirs and
the blocking yours.
"""

# %% demo="blocks"
a, b = random(512, 512), random(512, 512, seed=1)
theirs = best_time(lambda: a @ b)
print(f"one product of 512 x 512: {theirs * 1e3:8.2f} ms")
for block in (16, 32, 64, 128, 256, 512):
    ours = best_time(lambda: blocked_matmul(a, b, block), rounds=2)
    print(f"in blocks of {block:4}:        {ours * 1e3:8.2f} ms  {ours / theirs:6.1f} times as long")

# %% [markdown]
"""
Small blocks lose to the price of a Python call, which is paid per block. Large ones come close and do not
win: the blocking is already inside. That is the lesson for all that follows. The product is done; what is
ours is to **bring it work in the right shape**, and to spend little around it.

### A crew

Now threads. BLAS has its own, but they help in products alone, and half of a training step is something
else. So BLAS gets **one** thread, and the whole work of a kernel, copying and product and bias, is cut into
pieces (a few pictures each) that a crew of Python threads shares:

```
pieces      [0 1 2 3 4 5]          a list; everybody takes the next one that nobody has taken
you         0  . 2 . . 4 .
helper      . 1  .  3  . 5 .       no plan: who is slowed down takes fewer
results     [r0 r1 r2 r3 r4 r5]    in the order of the pieces, whoever made them
```

An iterator over a list is what they share: `next` on it is one step of the interpreter, so no piece is
given out twice. Results must stand in the order of the pieces. Sums of float32 depend on their order, and a
training that gives other numbers each time cannot be debugged.

`self.pool.submit(f)` starts `f` in a helper and gives a future; `future.result()` waits for its end, **and
raises what was raised in it**. Who never asks for the result never hears of an error. `helpers` says how many
are worth waking: with one thread, or one part alone, there are none (and no `self.pool` need be there), and
you do it all.
"""

# %% given="Crew"
#| exporti
def pieces(count: int, size: int) -> list[slice]:
    """0 to count in slices of at most `size` (at least 1).

    >>> pieces(5, 2)
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    size = max(1, size)
    return [slice(at, min(at + size, count)) for at in range(0, count, size)]


class Crew:
    """`threads` threads that share lists of work: the caller's, and helpers in a pool."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.pool = ThreadPoolExecutor(threads - 1) if threads > 1 else None

    def close(self) -> None:
        """Let the helpers go."""
        if self.pool:
            self.pool.shutdown()

# %% exercise="Crew.run"
#| exporti
@method_of(Crew)
def run(self, work: Callable[[Any], Any], parts: Iterable[Any]) -> list[Any]:
    """work(part) for every part, by whoever is free; the results in the order of the parts.

    Raises what `work` raises, in whichever thread. Cost: some 50 µs if helpers must be woken.

    >>> Crew(1).run(lambda part: 10 * part, [3, 1, 2])
    [30, 10, 20]
    """
    todo = list(enumerate(parts))
    found: list[Any] = [None] * len(todo)
    pending = iter(todo)
    helpers = min(self.threads, len(todo)) - 1  # a part alone wakes nobody
    ### BEGIN SOLUTION

    def take() -> None:
        for place, part in pending:
            found[place] = work(part)

    futures = [self.pool.submit(take) for _ in range(helpers)]
    take()
    for future in futures:
        future.result()
    ### END SOLUTION
    return found

# %% check="Crew.run" points=6
check.equal("one thread: results of 10 * part for parts 3, 1, 2", Crew(1).run(lambda p: 10 * p, [3, 1, 2]),
            [30, 10, 20], why="in the order of the parts")
_crew, _done = Crew(2), []


def _meet(part):
    """Waits until two threads are here at once; says how it went."""
    _done.append(part)
    try:
        _barrier.wait(timeout=2)
    except threading.BrokenBarrierError:
        return "alone"
    if part == 0:
        time.sleep(0.02)  # the first part is done last
    return f"done {part}"


_barrier = threading.Barrier(2)
_found = _crew.run(_meet, range(2))
check.equal("two threads, two parts that wait for each other", _found, ["done 0", "done 1"],
            why="both threads must work at the same time, and results[i] belongs to part i, whoever ends first")
check.equal("parts that were worked on", sorted(_done), [0, 1], why="each part once: they share one iterator")
check.equal("50 parts, two threads", _crew.run(lambda p: p * p, range(50)), [_p * _p for _p in range(50)])
check.equal("no parts at all", _crew.run(lambda p: p, []), [], why="an empty batch is no error")


def _fail_in_helper(part):
    _barrier.wait(timeout=2)
    if threading.current_thread() is not threading.main_thread():
        raise ZeroDivisionError("in a helper")


_barrier = threading.Barrier(2)
check.raises("an error in a helper", ZeroDivisionError, lambda: _crew.run(_fail_in_helper, range(2)),
             why="result() raises it here; otherwise half of the picture stays empty and nobody knows")
_woken, _submit = [], _crew.pool.submit
_crew.pool.submit = lambda *given: _woken.append(given) or _submit(*given)
_crew.run(lambda p: p, [0])
check.equal("helpers woken for a part alone", len(_woken), 0,
            why="`helpers` of them: to wake one for nothing takes longer than many a layer does for one picture")
_crew.close()

# %% [markdown]
"""
Two more helpers are given. `crew` is the crew that all kernels use. `scratch` hands a thread an array **by
name**, the same memory each time: fresh megabytes from the operating system cost a fault for every page,
which can be more than the arithmetic in them. It is only for what is used up before the kernel returns. A
result must never live there, because the next call writes over it; the part Break shows what happens
then.

### im2col by strides

The convolution needs, per pixel of the result, the numbers its window sees, as a row (*im2col*: image to
columns). Module 09 made them with `sliding_window_view`, channels in the middle, and had NumPy transpose
each patch. Channels last, a row of a window is **one run** of KW * C numbers. A 3x3 image with two
channels, and a window of 2x2:

```
image (1, 3, 3, 2)     0  1 |  2  3 |  4  5       strides in numbers: next picture 18,
                       6  7 |  8  9 | 10 11       next row 6, next pixel 2, next channel 1
                      12 13 | 14 15 | 16 17

windows  (N, OH, OW, KH, KW * C) = (1, 2, 2, 2, 4)
window (0, 0)          [0 1 2 3] [6 7 8 9]        one step right: + 2,  one step down: + 6,
window (0, 1)          [2 3 4 5] [8 9 10 11]      next row of the window: + 6, along a run: + 1
```

So the windows are a **view** of the image with five strides, two of which are equal: overlapping, nothing
copied. `as_strided(image, shape, strides)` makes it, with strides in bytes, `image.strides`. A wrong stride
reads somebody else's memory without a word: that is why it is used so rarely. With `stride` s the windows
step by s pixels, right and down. Then `np.copyto(rows, view)` writes them out, ready for the product.

The frame of zeros is given (`framed`), as is everything that turns between layouts. (`_windows` serves the
checks: the same by loops.)
"""

# %% given="layout"
#| exporti
Array = np.ndarray
crew = Crew(1)
_local = threading.local()


def scratch(name: str, shape: tuple[int, ...], dtype: Any = np.float32) -> np.ndarray:
    """An uninitialised array of this thread's own: the same memory whenever the name comes back."""
    kept: dict[Any, np.ndarray] = _local.__dict__.setdefault("kept", {})
    size, key = math.prod(shape), (name, dtype)
    if key not in kept or kept[key].size < size:
        kept[key] = np.empty(size, dtype)
    return kept[key][:size].reshape(shape)


def channels_last(x: np.ndarray) -> np.ndarray:
    """(N, C, H, W) as (N, H, W, C), contiguous: a view if its numbers already lie so."""
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1))


def channels_first(x: np.ndarray) -> np.ndarray:
    """(N, H, W, C) seen as (N, C, H, W). Nothing moves."""
    return x.transpose(0, 3, 1, 2)


def framed(x: np.ndarray, padding: int, rows: int, columns: int) -> np.ndarray:
    """x (N, H, W, C) at (padding, padding) of zeros (N, rows, columns, C), in scratch memory."""
    n, h, w, c = x.shape
    image = scratch("image", (n, rows, columns, c))
    image[:, :padding] = 0
    image[:, padding + h :] = 0
    image[:, padding : padding + h, :padding] = 0
    image[:, padding : padding + h, padding + w :] = 0
    image[:, padding : padding + h, padding : padding + w] = x
    return image


def result_sides(
    x: np.ndarray, kernel: tuple[int, int], stride: int, padding: int
) -> tuple[int, int]:
    """(OH, OW) of a convolution of x (N, H, W, C)."""
    (_, h, w, _), (kh, kw) = x.shape, kernel
    return conv.output_size(h, kh, stride, padding), conv.output_size(w, kw, stride, padding)

# %% given="windows_by_loops"
def _windows(x, kernel, stride, padding):
    """im2col by loops: windows, rows of a window, pixels, channels."""
    (kh, kw), wide = kernel, np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    found = []
    for picture in wide:
        for i in range(0, wide.shape[1] - kh + 1, stride):
            for j in range(0, wide.shape[2] - kw + 1, stride):
                found.append(picture[i : i + kh, j : j + kw].ravel())
    return np.array(found)

# %% exercise="columns"
#| exporti
def columns(x: Array, kernel: tuple[int, int], stride: int, padding: int) -> Array:
    """What every window of x (N, H, W, C) sees, one row each: (N*OH*OW, KH*KW*C), in scratch memory.

    x: contiguous. Cost: KH*KW numbers copied per number of x (stride 1), in runs of KW*C.

    >>> columns(np.arange(4, dtype=np.float32).reshape(1, 2, 2, 1), (2, 1), 1, 0).tolist()
    [[0.0, 2.0], [1.0, 3.0]]
    """
    (n, h, w, c), (kh, kw) = x.shape, kernel
    oh, ow = result_sides(x, kernel, stride, padding)
    wide = (h + 2 * padding, w + 2 * padding)  # reshape: regular strides, also along an axis of 1
    image = framed(x, padding, *wide) if padding else x.reshape(-1).reshape(x.shape)
    rows = scratch("columns", (n, oh, ow, kh, kw * c))
    picture, down, right, number = image.strides
    ### BEGIN SOLUTION
    strides = (picture, stride * down, stride * right, down, number)
    np.copyto(rows, as_strided(image, rows.shape, strides))
    ### END SOLUTION
    return rows.reshape(n * oh * ow, kh * kw * c)

# %% check="columns" points=6
_image = np.arange(18, dtype=np.float32).reshape(1, 3, 3, 2)
scratch("columns", (512,))[:] = np.nan  # what nobody writes is to be seen
check.close("windows of 2 x 2 on the picture above", columns(_image, (2, 2), 1, 0),
            [[0, 1, 2, 3, 6, 7, 8, 9], [2, 3, 4, 5, 8, 9, 10, 11],
             [6, 7, 8, 9, 12, 13, 14, 15], [8, 9, 10, 11, 14, 15, 16, 17]],
            why="two runs of KW * C = 4 numbers per window, the second one row (6 numbers) further")
check.close("one window of 3 x 1 per column", columns(_image, (3, 1), 1, 0),
            [[0, 1, 6, 7, 12, 13], [2, 3, 8, 9, 14, 15], [4, 5, 10, 11, 16, 17]],
            why="three runs of 2 numbers")
for _size, _kernel, _stride, _padding in (((2, 5, 4, 3), (3, 3), 1, 1), ((2, 7, 6, 3), (3, 2), 2, 1),
                                          ((1, 7, 8, 2), (1, 3), 3, 0)):
    _x = random(*_size)
    check.close(f"x {_size}, kernel {_kernel}, stride {_stride}, padding {_padding}",
                columns(_x, _kernel, _stride, _padding), _windows(_x, _kernel, _stride, _padding),
                why="windows step by `stride` pixels; inside a window rows are one image row apart")

# %% [markdown]
"""
### And back: col2im

The gradient goes the other way. Row r of `sent` holds what the window r sends to each number it saw; a
pixel that several windows saw gets the sum. A view that overlaps itself is no help: `view += sent` reads
and writes the same number at several places, and only one of the sums survives. So loop over the KH * KW
places **inside** a window: for one of them all windows look at different pixels, and `+=` is safe.

```
window 2 x 2, place (0, 1):   image[:, 0 : 0 + oh, 1 : 1 + ow] += sent[..., 0, 1, :]
with stride s:                image[:, i : i + s * oh : s, j : j + s * ow : s]
```

The frame is cut off at the end: what flowed into padding concerns nobody.
"""

# %% exercise="from_columns"
#| exporti
def from_columns(
    sent: Array, shape: tuple[int, ...], kernel: tuple[int, int], stride: int, padding: int
) -> Array:
    """Every row of `sent` (N*OH*OW, KH*KW*C) added to the pixels its window saw: (N, H, W, C), `shape`.

    The way back of `columns`. Cost: KH*KW additions per number of the result (stride 1).

    >>> from_columns(np.ones((2, 2), np.float32), (1, 3, 1, 1), (2, 1), 1, 0).ravel().tolist()
    [1.0, 2.0, 1.0]
    """
    (n, h, w, c), (kh, kw) = shape, kernel
    oh, ow = result_sides(np.empty(shape, dtype=bool), kernel, stride, padding)
    sent = sent.reshape(n, oh, ow, kh, kw, c)
    image = np.zeros((n, h + 2 * padding, w + 2 * padding, c), sent.dtype)
    ### BEGIN SOLUTION
    for i, j in np.ndindex(kh, kw):
        image[:, i : i + stride * oh : stride, j : j + stride * ow : stride] += sent[:, :, :, i, j]
    return image[:, padding : padding + h, padding : padding + w]
    ### END SOLUTION

# %% check="from_columns" points=5
_back = from_columns(np.ones((4, 4), np.float32), (1, 3, 3, 1), (2, 2), 1, 0)
check.equal("shape of what windows of 2 x 2 send to a picture (1, 3, 3, 1)", getattr(_back, "shape", None), (1, 3, 3, 1),
            why="all of the picture, and nothing of its frame (here there is none)")
check.close("ones from these windows", _back.reshape(3, 3), [[1, 2, 1], [2, 4, 2], [1, 2, 1]],
            why="the pixel in the middle is seen by all four windows")
for _size, _kernel, _stride, _padding in (((2, 5, 4, 3), (3, 3), 1, 1), ((2, 7, 6, 3), (3, 2), 2, 1),
                                          ((1, 8, 7, 2), (2, 2), 3, 0)):
    _places = np.arange(np.prod(_size)).reshape(_size) + 1.0
    _seen = _windows(_places, _kernel, _stride, _padding).astype(int)  # 0: the frame
    _sent, _want = random(*_seen.shape), np.zeros(int(np.prod(_size)) + 1)
    for _place, _number in zip(_seen.ravel(), _sent.ravel()):
        _want[_place] += _number
    check.close(f"x {_size}, kernel {_kernel}, stride {_stride}, padding {_padding}",
                from_columns(_sent, _size, _kernel, _stride, _padding), _want[1:].reshape(_size),
                why="each pixel adds up what every window that saw it sends; the frame is cut off")

# %% [markdown]
"""
### Convolution as one product

With rows of windows (N*OH*OW, KH*KW*C) and the filters as a matrix (KH*KW*C, O), a convolution is a
product, and its result (N*OH*OW, O) **is** the picture (N, OH, OW, O), channels last, with nothing to turn
around. That is why the layout pays twice. The filters come as (O, C, KH, KW): which order of axes do the
rows have?

Two things make it fast. It works on a few pictures at a time, so that their windows are still in the cache
when the product wants them. And the product writes straight into the result: `np.matmul(..., out=...)`,
into the slice `out[part]`, which is reshaped to rows (a view, since it is contiguous). The bias is added
while the piece is warm. The crew shares the pieces.
"""

# %% exercise="gemm_forward"
#| exporti
IMAGES = 4  # pictures per piece


def gemm_forward(x: Array, weight: Array, bias: Array | None, stride: int, padding: int) -> Array:
    """Convolution channels last, windows @ filters: x (N, H, W, C) -> (N, OH, OW, O).

    weight: (O, C, KH, KW), bias: (O,) or None. Cost: 2*N*OH*OW*O*KH*KW*C FLOPs.
    """
    o, _, *kernel = weight.shape
    kh, kw = kernel
    out = np.empty((len(x), *result_sides(x, (kh, kw), stride, padding), o), np.float32)
    ### BEGIN SOLUTION
    matrix = np.ascontiguousarray(weight.transpose(2, 3, 1, 0)).reshape(-1, o)  # (KH*KW*C, O)

    def work(part: slice) -> None:
        y = out[part]
        np.matmul(columns(x[part], (kh, kw), stride, padding), matrix, out=y.reshape(-1, o))
        if bias is not None:
            y += bias

    crew.run(work, pieces(len(x), IMAGES))
    ### END SOLUTION
    return out

# %% check="gemm_forward" points=5
_x, _w, _b = random(5, 4, 6, 2), random(3, 2, 3, 3, seed=1), random(3, seed=2)
for _stride, _padding, _bias in ((1, 1, None), (1, 0, _b), (2, 1, _b)):
    _want = conv2d_explicit(_x.transpose(0, 3, 1, 2).astype(float), _w.astype(float), _bias, _stride, _padding)
    _got = gemm_forward(_x, _w, _bias, _stride, _padding)
    check.close(f"five pictures, stride {_stride}, padding {_padding}, {'no ' if _bias is None else ''}bias",
                _got, _want.transpose(0, 2, 3, 1), rtol=1e-4, atol=1e-5,
                why="the filters' axes in the order of the rows: KH, KW, C, then O; written into `out` itself")
_w = random(3, 2, 2, 1, seed=3)
check.close("a kernel of 2 x 1", gemm_forward(_x, _w, None, 1, 0),
            conv2d_explicit(_x.transpose(0, 3, 1, 2), _w).transpose(0, 2, 3, 1), rtol=1e-4, atol=1e-5)
_first = gemm_forward(_x, _w, None, 1, 0)
_copy = np.array(_first)
gemm_forward(_x + 1, _w, None, 1, 0)
check.close("the first result, after a second call", _first, _copy,
            why="only what is used up within the call may lie in scratch memory: a result is new")
_shared = []
crew.run = lambda work, parts: [work(_p) for _p in _shared.extend(parts) or _shared]
gemm_forward(_x, _w, None, 1, 0)
del crew.run
check.equal("what the crew gets for 5 pictures", [(_p.start, _p.stop) for _p in _shared], [(0, 4), (4, 5)],
            why="pieces(len(x), IMAGES), so that several threads can work and a piece stays in the cache")

# %% [markdown]
"""
Both gradients are products of the same pieces and are given below (`gemm_weight`, `gemm_input`). First look
at what the layout alone does: windows of the same pictures, once channels first by
`sliding_window_view`, once yours.
"""

# %% demo="layout_matters"
x = random(16, 32, 32, 32)
last = channels_last(x)
first_ms = best_time(lambda: [conv.patches(x[p], 3, 3, 1, 1) for p in pieces(16, 4)]) * 1e3
last_ms = best_time(lambda: [columns(last[p], (3, 3), 1, 1) for p in pieces(16, 4)]) * 1e3
w = random(64, 32, 3, 3, seed=1)
print(f"windows of 16 pictures, 32 channels:  module 09 {first_ms:5.2f} ms, runs of KW * C {last_ms:5.2f} ms")
print(f"the whole convolution to 64 channels: module 09 {best_time(lambda: conv.conv2d_forward(x, w, None, 1, 1)) * 1e3:5.2f} ms,"
      f" channels last {best_time(lambda: gemm_forward(last, w, None, 1, 1)) * 1e3:5.2f} ms")

# %% [markdown]
"""
### Four multiplications instead of six

Now the trade of Foundations. Write F(2,3) for a whole row: `d` has 2 * T + 2 numbers, results come in pairs,
pair t from `d[2t] .. d[2t + 3]`. The check hands you numbers that **count their multiplications**: 4 per
pair, where a product with g counts. Halving the sums of g is done once, outside of the loop; a division is
not counted.
"""

# %% exercise="winograd_row"
def winograd_row(d, g):
    """Results of the filter g (three numbers) along d (2T + 2 numbers): a list of 2T. F(2,3).

    Cost: 4 multiplications per two results.

    >>> winograd_row([1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 1.0])
    [8.0, 12.0]
    """
    plus, minus = (g[0] + g[1] + g[2]) / 2, (g[0] - g[1] + g[2]) / 2
    y = []
    ### BEGIN SOLUTION
    for t in range(0, len(d) - 2, 2):
        d0, d1, d2, d3 = d[t : t + 4]
        m1, m2 = (d0 - d2) * g[0], (d1 + d2) * plus
        m3, m4 = (d2 - d1) * minus, (d1 - d3) * g[2]
        y += [m1 + m2 + m3, m2 - m3 - m4]
    ### END SOLUTION
    return y

# %% check="winograd_row" points=6
class _Number:
    """A number that counts how often it is multiplied."""

    count = 0

    def __init__(self, value):
        self.value = float(value)

    def __add__(self, other):
        return _Number(self.value + getattr(other, "value", other))

    def __sub__(self, other):
        return _Number(self.value - getattr(other, "value", other))

    def __mul__(self, other):
        _Number.count += 1
        return _Number(self.value * getattr(other, "value", other))

    def __truediv__(self, other):
        return _Number(self.value / other)

    def __float__(self):
        return self.value

    __radd__, __rmul__ = __add__, __mul__


check.close("d = [1 2 3 4], g = [1 2 1]", winograd_row([1.0, 2, 3, 4], [1.0, 2, 1]), [8, 12],
            why="1 + 4 + 3 and 2 + 6 + 4: the table in Foundations")
_d, _g = [3.0, -1, 4, 1, -5, 9, 2, 6], [2.0, 7, -1]
check.close("eight numbers, g = [2 7 -1]", winograd_row(_d, _g),
            [sum(_d[t + i] * _g[i] for i in range(3)) for t in range(6)],
            why="y[t] = d[t] g0 + d[t + 1] g1 + d[t + 2] g2; the next pair starts two numbers further")
_Number.count = 0
_y = winograd_row([_Number(_v) for _v in _d], [_Number(_v) for _v in _g])
check.equal("multiplications for six results", _Number.count, 12, why="three pairs, four each; the definition needs 18")
check.close("results of the counting numbers", [float(_v) for _v in _y],
            [sum(_d[t + i] * _g[i] for i in range(3)) for t in range(6)])

# %% [markdown]
"""
### Tiles, transformed both ways

In matrix words F(2,3) is: transform the data, transform the filter, multiply number by number, transform
the result. `INTO`, `WEIGHTS` and `OUT` hold the coefficients you have just written:

```
INTO (4, 4)          WEIGHTS (4, 3)        OUT (2, 4)
 1  0 -1  0           1    0    0           1  1  1  0
 0  1  1  0          1/2  1/2  1/2          0  1 -1 -1
 0 -1  1  0          1/2 -1/2  1/2
 0  1  0 -1           0    0    1
```

For pictures do it along both axes: a tile of 4x4 pixels becomes `INTO @ tile @ INTO.T`, a filter `WEIGHTS
@ filter @ WEIGHTS.T`, 4x4 too. Their product number by number is 16 multiplications for 2x2 results,
where the definition takes 36: 2.25 times fewer. With tiles of 6x6, F(4,3), it is 36 instead of 144: 4 times
fewer. (Why not larger still? Larger coefficients, up to 8 here: rounding errors grow. You will measure it.)

The transforms run over millions of tiles, so they must be products themselves. Keep the place **in** the
tile in front, `(a, a, M)` with M = all tiles times all channels. Then both sides are one product each:

```
tiles (a, a, M)   as a matrix (a, a * M)      matrix @ it     (b, a * M): the first axis transformed
                  as b matrices (a, M)        matrix @ each   (b, b, M): the second one, too
```

`np.matmul` with a stack of matrices on the right does the second line in one call. Both results go into
scratch memory: "name rows" and "name". Check it by hand with the matrix `[1 1]`: it sums each tile.
"""

# %% exercise="both_ways"
#| exporti
def both_ways(matrix: Array, tiles: Array, name: str) -> Array:
    """matrix @ tile @ matrix.T for every tile: matrix (b, a), tiles (a, a, M) -> (b, b, M).

    The result lies in scratch memory under `name`. Cost: 2*M*b*a*(a + b) FLOPs.

    >>> both_ways(np.ones((1, 2), np.float32), np.arange(8, dtype=np.float32).reshape(2, 2, 2), "sum").tolist()
    [[[12.0, 16.0]]]
    """
    (b, a), m = matrix.shape, tiles.shape[2]
    rows, out = scratch(f"{name} rows", (b, a * m)), scratch(name, (b, b, m))
    ### BEGIN SOLUTION
    np.matmul(matrix, tiles.reshape(a, a * m), out=rows)
    np.matmul(matrix, rows.reshape(b, a, m), out=out)
    ### END SOLUTION
    return out

# %% check="both_ways" points=6
_tiles = np.arange(8, dtype=np.float32).reshape(2, 2, 2)
check.close("sums of two tiles of 2 x 2 by the matrix [1 1]", both_ways(np.ones((1, 2), np.float32), _tiles, "check"),
            [[[12, 16]]], why="tile 0 is [[0 2] [4 6]], tile 1 is [[1 3] [5 7]]: the tile is the last axis")
for _b, _a, _m in ((3, 3, 4), (4, 3, 5), (2, 4, 3), (6, 6, 1)):
    _matrix, _tiles = random(_b, _a), random(_a, _a, _m, seed=1)
    _want = np.stack([_matrix @ _tiles[:, :, _t] @ _matrix.T for _t in range(_m)], axis=-1)
    check.close(f"matrix ({_b}, {_a}), {_m} tiles", both_ways(_matrix, _tiles, "check"), _want, rtol=1e-4, atol=1e-5,
                why="matrix @ tile @ matrix.T: from the left along rows, then along columns")
check.true("the result lies in scratch memory", np.shares_memory(both_ways(_matrix, _tiles, "check"), scratch("check", (1,))),
           why="out=rows, then out=out: megabytes of fresh memory for every piece would cost more than the product")

# %% [markdown]
"""
### Multiply in between

Between the transforms stands the arithmetic itself. For one place in the tile (there are a * a of them),
every tile has C numbers, and every filter C numbers: a product number by number, summed over channels. So
for each place it is a matrix product, (T, C) @ (C, O), and all places together are one call of a stack of
a * a products. Given are the coefficient tables (`Form`), the gathering of overlapping tiles and the
putting back. The core is yours, three lines.
"""

# %% given="Form"
#| exporti
class Form(NamedTuple):
    """Winograd's F(m x m, 3 x 3): matrices for data (a, a), filter (a, 3), result (m, a); a = m + 2."""

    into: Array
    weights: Array
    out: Array

    @property
    def side(self) -> int:
        """Pixels of a result tile along each axis: m."""
        return len(self.out)


def _form(into: Any, weights: Any, out: Any) -> Form:
    return Form(*(np.array(matrix, dtype=np.float32) for matrix in (into, weights, out)))


# Source: Lavin & Gray 2016, Fast algorithms for convolutional neural networks, section 4.
F2 = _form(
    [[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]],
    [[1, 0, 0], [1 / 2, 1 / 2, 1 / 2], [1 / 2, -1 / 2, 1 / 2], [0, 0, 1]],
    [[1, 1, 1, 0], [0, 1, -1, -1]],
)
F4 = _form(
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ],
    [
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
    ],
    [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]],
)
TILES = 64  # per piece, so that all stages of a piece stay in the cache


def tile_counts(oh: int, ow: int, form: Form) -> tuple[int, int]:
    """How many tiles cover a result of oh x ow pixels; the last ones may reach beyond it."""
    return -(-oh // form.side), -(-ow // form.side)


def gather_tiles(x: Array, padding: int, grid: tuple[int, int], form: Form) -> Array:
    """Overlapping tiles of x (n, H, W, C), the place in the tile in front: (a, a, n*TH*TW*C)."""
    (n, h, w, c), (th, tw), m = x.shape, grid, form.side
    a = m + 2
    rows, cols = max(m * th + 2, h + 2 * padding), max(m * tw + 2, w + 2 * padding)
    image = framed(x, padding, rows, cols)
    s = image.strides
    view = as_strided(image, (a, a, n, th, tw, c), (s[1], s[2], s[0], m * s[1], m * s[2], s[3]))
    tiles = scratch("tiles", (a, a, n * th * tw * c))
    np.copyto(tiles.reshape(view.shape), view)
    return tiles

# %% exercise="winograd_tiles"
#| exporti
def winograd_tiles(tiles: Array, filters: Array, form: Form) -> Array:
    """Tiles (a, a, T*C) of the input become tiles (m, m, T*O) of the result.

    filters: transformed, (a*a, C, O). The result lies in scratch memory.
    Cost: 2*T*a*a*C*O FLOPs for m*m*T*O results, and the transforms.
    """
    places, c, o = filters.shape
    side, count = tiles.shape[0], tiles.shape[2] // c
    product = scratch("product", (places, count, o))
    ### BEGIN SOLUTION
    data = both_ways(form.into, tiles, "data").reshape(places, count, c)
    np.matmul(data, filters, out=product)
    return both_ways(form.out, product.reshape(side, side, count * o), "result")
    ### END SOLUTION

# %% check="winograd_tiles" points=6
_line = np.array([1.0, 2, 3, 4], dtype=np.float32)
_filter = np.array([1.0, 2, 1], dtype=np.float32)
_tile = np.outer(_line, _line)[:, :, None]
_spread = (F2.weights @ np.outer(_filter, _filter) @ F2.weights.T).reshape(16, 1, 1)
check.close("the row of Foundations times itself as a tile of 4 x 4",
            winograd_tiles(_tile.astype(np.float32), _spread.astype(np.float32), F2)[:, :, 0], [[64, 96], [96, 144]],
            why="[8 12] along both axes: 8 * 8, 8 * 12, 12 * 12")
for _form_, _name in ((F2, "F(2x2)"), (F4, "F(4x4)")):
    _m = _form_.side
    _x, _w = random(3, _m + 2, _m + 2, 4), random(5, 4, 3, 3, seed=1)
    _filters = np.einsum("ai,ocij,bj->abco", _form_.weights, _w, _form_.weights).reshape(-1, 4, 5)
    _got = winograd_tiles(_x.transpose(1, 2, 0, 3).reshape(_m + 2, _m + 2, -1).copy(), _filters.copy(), _form_)
    _want = conv2d_explicit(_x.transpose(0, 3, 1, 2), _w).transpose(2, 3, 0, 1)
    check.close(f"{_name}: three tiles, 4 channels to 5", np.asarray(_got).reshape(_m, _m, 3, 5), _want,
                rtol=1e-3, atol=1e-4, why="transform, multiply and sum over channels for each place, transform back")
    check.true(f"{_name}: the result is no view of the next call's input", _got is not None
               and not np.shares_memory(_got, scratch("product", (1,))), why="each stage has its own scratch memory")

# %% [markdown]
"""
The rest of the convolution is given: cut into pieces for the crew, gather, your core, put the result tiles
side by side, cut off what reaches beyond the edge. For the gradients: the input's is a convolution of g with
the filters turned by 180°; the weight's uses the three matrices transposed (what was `out` on the way there
takes g in). `best_form` takes the form with the fewest multiplications for the size, and a form at all only
for 3x3, stride 1, and enough channels to pay for the transforms. Everything else goes through the plain
product, and what is not float32 to module 09: `check_grads` works in float64 and shall measure exactly.
"""

# %% given="convolution"
#| exporti
ROOM = 65536  # numbers of a piece that is worked on in the cache
originals: dict[tuple[Any, str], Any] = {}  # what stood at (owner, name) before acceleration
enabled: set[str] = set()  # the names of the kernels that are switched on


def clear(owner: Any, name: str) -> Any:
    """The clear version of `owner.name`: for inputs that a fast kernel does not suit."""
    return originals.get((owner, name), getattr(owner, name))


def put_tiles(tiles: Array, y: Array) -> None:
    """Result tiles (m, m, n*TH*TW*O) side by side into y (n, OH, OW, O), cut off at the edges."""
    m, (n, oh, ow, o) = len(tiles), y.shape
    th, tw = -(-oh // m), -(-ow // m)
    ordered = tiles.reshape(m, m, n, th, tw, o).transpose(2, 3, 0, 4, 1, 5)
    if oh == m * th and ow == m * tw:
        y.reshape(ordered.shape)[...] = ordered
    else:
        y[...] = ordered.reshape(n, m * th, m * tw, o)[:, :oh, :ow]


def winograd_forward(
    x: Array, weight: Array, bias: Array | None, padding: int, form: Form
) -> Array:
    """3x3 convolution of stride 1, channels last: x (N, H, W, C) -> (N, OH, OW, O)."""
    o, c = weight.shape[:2]
    oh, ow = result_sides(x, (3, 3), 1, padding)
    grid = tile_counts(oh, ow, form)
    filters = weight.transpose(2, 3, 1, 0).reshape(3, 3, c * o)
    filters = both_ways(form.weights, filters, "filters").reshape(-1, c, o).copy()
    out = np.empty((len(x), oh, ow, o), np.float32)

    def work(part: slice) -> None:
        y = out[part]
        put_tiles(winograd_tiles(gather_tiles(x[part], padding, grid, form), filters, form), y)
        if bias is not None:
            y += bias

    crew.run(work, pieces(len(x), TILES // math.prod(grid)))
    return out


def added(arrays: list[Array]) -> Array:
    """The sum of contiguous arrays of one shape, in the first one's memory, slice by slice."""
    flat = [array.reshape(-1) for array in arrays]

    def work(part: slice) -> None:
        for other in flat[1:]:
            flat[0][part] += other[part]

    crew.run(work, pieces(flat[0].size, ROOM))
    return arrays[0]


def winograd_weight(g: Array, x: Array, padding: int, form: Form) -> Array:
    """Gradient (O, C, 3, 3) of the filters, from g (N, OH, OW, O) and x (N, H, W, C)."""
    (_, oh, ow, o), c, m = g.shape, x.shape[3], form.side
    th, tw = grid = tile_counts(oh, ow, form)
    from_result, to_filter = (np.ascontiguousarray(m.T) for m in (form.out, form.weights))

    def work(part: slice) -> Array:
        count = len(x[part]) * th * tw
        data = both_ways(form.into, gather_tiles(x[part], padding, grid, form), "data")
        piece = framed(g[part], 0, m * th, m * tw) if oh % m or ow % m else g[part]
        tiles = scratch("result", (m, m, count * o))
        split = piece.reshape(-1, th, m, tw, m, o).transpose(2, 4, 0, 1, 3, 5)
        np.copyto(tiles.reshape(split.shape), split)
        back = both_ways(from_result, tiles, "product").reshape(-1, count, o)
        return data.reshape(-1, count, c).transpose(0, 2, 1) @ back

    total = added(crew.run(work, pieces(len(x), TILES // (th * tw))))
    filters = both_ways(to_filter, total.reshape(m + 2, m + 2, -1), "f")
    filters = filters.reshape(3, 3, c, o).copy()  # out of scratch memory
    return filters.transpose(3, 2, 0, 1)


def gemm_weight(g: Array, x: Array, kernel: tuple[int, int], stride: int, padding: int) -> Array:
    """Gradient (O, C, KH, KW) of the filters: windows.T @ g, added up over the pieces."""
    o, c = g.shape[3], x.shape[3]

    def work(part: slice) -> Array:
        return columns(x[part], kernel, stride, padding).T @ g[part].reshape(-1, o)

    total = added(crew.run(work, pieces(len(x), IMAGES)))
    return total.reshape(*kernel, c, o).transpose(3, 2, 0, 1)


def gemm_input(g: Array, shape: tuple[int, ...], weight: Array, stride: int, padding: int) -> Array:
    """Gradient (N, H, W, C) of the input, any stride: g @ filters.T, and `from_columns`."""
    o, _, kh, kw = weight.shape
    matrix = np.ascontiguousarray(weight.transpose(0, 2, 3, 1)).reshape(o, -1)
    out = np.empty(shape, np.float32)

    def work(part: slice) -> None:
        piece = out[part]
        sent = g[part].reshape(-1, o) @ matrix
        piece[...] = from_columns(sent, piece.shape, (kh, kw), stride, padding)

    crew.run(work, pieces(len(g), IMAGES))
    return out


def best_form(weight: Array, stride: int, oh: int, ow: int) -> Form | None:
    """The form with the fewest multiplications for OH x OW results, or None if none pays."""
    o, c, *kernel = weight.shape
    if "winograd" not in enabled or kernel != [3, 3] or stride != 1 or min(o, c) < 16:
        return None
    return min((F4, F2), key=lambda f: math.prod(tile_counts(oh, ow, f)) * (f.side + 2) ** 2)


def _suit(*arrays: Array) -> bool:
    """Whether the fast kernels suit: all float32, and the first one not empty."""
    return all(array.dtype == np.float32 for array in arrays) and arrays[0].size > 0


def _convolve(x: Array, weight: Array, bias: Array | None, stride: int, padding: int) -> Array:
    """The convolution of x (N, C, H, W) by the kernel that suits it."""
    kh, kw = weight.shape[2:]
    x = channels_last(x)
    form = best_form(weight, stride, *result_sides(x, (kh, kw), stride, padding))
    if form is None:
        return channels_first(gemm_forward(x, weight, bias, stride, padding))
    return channels_first(winograd_forward(x, weight, bias, padding, form))


def fast_forward(x: Array, weight: Array, bias: Array | None, stride: int, padding: int) -> Any:
    """`conv.conv2d_forward`, faster."""
    if not _suit(x, weight):
        return clear(conv, "conv2d_forward")(x, weight, bias, stride, padding)
    return _convolve(x, weight, bias, stride, padding)


def fast_input_gradient(g: Array, x: Array, weight: Array, stride: int, padding: int) -> Any:
    """`conv.conv2d_input_gradient`, faster: for stride 1 a convolution with turned filters."""
    kh, kw = weight.shape[2:]
    if not _suit(x, g, weight):
        return clear(conv, "conv2d_input_gradient")(g, x, weight, stride, padding)
    if stride == 1 and kh == kw > padding:
        turned = weight[:, :, ::-1, ::-1].transpose(1, 0, 2, 3)
        return _convolve(g, turned, None, 1, kh - 1 - padding)
    n, c, h, w = x.shape
    return channels_first(gemm_input(channels_last(g), (n, h, w, c), weight, stride, padding))


def fast_weight_gradient(g: Array, x: Array, weight: Array, stride: int, padding: int) -> Any:
    """`conv.conv2d_weight_gradient`, faster."""
    if not _suit(x, g, weight):
        return clear(conv, "conv2d_weight_gradient")(g, x, weight, stride, padding)
    g, x = channels_last(g), channels_last(x)
    form = best_form(weight, stride, *g.shape[1:3])
    if form is None:
        return gemm_weight(g, x, weight.shape[2:], stride, padding)
    return winograd_weight(g, x, padding, form)

# %% [markdown]
"""
What do fewer multiplications cost in precision? Each form against the definition in float64, with the
product as the reference. The error is relative to the largest result.
"""

# %% demo="winograd_error"
print("channels      product    F(2x2)    F(4x4)      time, product   F(2x2)   F(4x4)")
for c in (16, 64, 256):
    x, w = random(4, 16, 16, c), random(c, c, 3, 3, seed=1) / np.float32(3 * c**0.5)
    exact = clear(conv, "conv2d_forward")(channels_first(x).astype(float), w.astype(float), None, 1, 1)
    exact = exact.transpose(0, 2, 3, 1)
    kernels = [lambda: gemm_forward(x, w, None, 1, 1), lambda: winograd_forward(x, w, None, 1, F2),
               lambda: winograd_forward(x, w, None, 1, F4)]
    errors = [np.abs(kernel() - exact).max() / np.abs(exact).max() for kernel in kernels]
    times = [best_time(kernel) * 1e3 for kernel in kernels]
    print(f"{c:8}     " + "   ".join(f"{e:.1e}" for e in errors)
          + "       " + "".join(f"{t:7.2f} ms" for t in times))

# %% [markdown]
"""
F(4x4) loses a decimal digit or a little more against the plain product, and near five are left: a training
does not notice. The tests hold it to 2e-5 up to 256 channels, F(2x2) to 1e-6. F(6x6) exists; it would lose
another digit.

### Fused: cross-entropy with its slope

A step of training asks for the loss and for its gradient, always both. The clear version computes
`exp(z - max)` on the way there, and again on the way back. Fused, the powers are made once, and what is
kept is not the logits but the slope itself, ready to be multiplied by what comes from above:

```
z            [2  1  0], class 0
powers       e⁰ = 1, e⁻¹ = 0.368, e⁻² = 0.135     sum 1.503
loss         log(1.503) - (2 - 2) = 0.408
slope        softmax - one_hot = [0.665  0.245  0.090] - [1 0 0] = [-0.335  0.245  0.090]
```

With smoothing s over C classes the target is `(1 - s)` at the class plus `s / C` everywhere, so
`loss = log(sum) - (1 - s) * z[class] - s * mean(z)`, z with the largest subtracted; and the slope is softmax
minus that target. Work **in place** where you can: `np.exp(p, out=p)`, `p /= total`.
"""

# %% exercise="cross_entropy_and_slope"
#| exporti
def cross_entropy_and_slope(logits: Array, classes: Array, smoothing: float) -> tuple[Array, Array]:
    """Loss of each row (N,), and its slope in the logits (N, C): softmax minus the smoothed target.

    logits (N, C), left as they are; classes (N,), integers. Cost: one exp per logit.

    >>> loss, slope = cross_entropy_and_slope(np.log([[8.0, 1.0, 1.0]]), np.array([0]), 0.0)
    >>> loss.round(4).tolist(), slope.round(4).tolist()
    ([0.2231], [[-0.2, 0.1, 0.1]])
    """
    rows, count = np.arange(len(logits)), logits.shape[1]
    p = logits - logits.max(axis=1, keepdims=True)
    ### BEGIN SOLUTION
    wanted = (1 - smoothing) * p[rows, classes]
    if smoothing:
        wanted += smoothing * p.mean(axis=1)
    np.exp(p, out=p)
    total = p.sum(axis=1, keepdims=True)
    loss = np.log(total[:, 0]) - wanted
    p /= total
    if smoothing:
        p -= smoothing / count
    p[rows, classes] -= 1 - smoothing
    return loss, p
    ### END SOLUTION

# %% check="cross_entropy_and_slope" points=6
_z = np.array([[2.0, 1.0, 0.0]])
_sum = 1 + np.exp(-1) + np.exp(-2)
_loss, _slope = cross_entropy_and_slope(_z, np.array([0]), 0.0)
check.close("loss of logits [2 1 0], class 0", _loss, [np.log(_sum)], why="log(1 + 0.368 + 0.135) - 0")
check.close("its slope", _slope, [[1 / _sum - 1, np.exp(-1) / _sum, np.exp(-2) / _sum]],
            why="softmax minus 1 at the class")
check.close("the logits afterwards", _z, [[2, 1, 0]], why="in place means in p, which is yours; logits belong to the tape")
_z, _classes = np.array([[1.0, 3.0, -2.0, 0.5], [0.0, 0.0, 1000.0, 1.0], [-5.0, 2.0, 2.0, 2.0]]), np.array([1, 2, 0])
for _s in (0.0, 0.3):
    _target = np.full((3, 4), _s / 4)
    _target[np.arange(3), _classes] += 1 - _s
    _logs = _z - _z.max(axis=1, keepdims=True)
    _logs -= np.log(np.exp(_logs).sum(axis=1, keepdims=True))
    _loss, _slope = cross_entropy_and_slope(_z, _classes, _s)
    check.close(f"losses of three rows, smoothing {_s}", _loss, -(_target * _logs).sum(axis=1),
                why="minus the target's average of log softmax: one loss per row")
    check.close(f"their slopes, smoothing {_s}", _slope, np.exp(_logs) - _target,
                why="softmax minus the target: 1 - s more at the class, s / C everywhere")

# %% [markdown]
"""
### Fused: a layer norm that stays in the cache

LayerNorm by the clear code makes five arrays of the size of x, one after the other. Fused, it takes as
many rows as fit the cache, and does all of it to them. Kept for the way back: the normalised rows and one
scale per row. All four outputs come from the caller; fill them **in place**:

```
row          [1 1 5 5]       mean 3, variance 4
normal       [-1 -1 1 1]     scale 1 / √(4 + eps) = 0.5
out          normal * weight + bias
```

`np.subtract(rows, mean, out=normal)` then `normal *= scale`. The mean of squares of a row is a dot product
of the row with itself: `np.einsum("ij,ij->i", normal, normal)` makes no array of squares.
"""

# %% exercise="normalise_rows"
#| exporti
def normalise_rows(
    rows: Array, weight: Array, bias: Array, eps: float, normal: Array, scale: Array, out: Array
) -> None:
    """LayerNorm of rows (R, D) into `out`, with its `normal` (R, D) and `scale` (R, 1), all given.

    normal: mean 0, variance 1 per row; scale: 1 / √(variance + eps); out: normal * weight + bias.
    Cost: no array of the size of rows is made.
    """
    ### BEGIN SOLUTION
    np.subtract(rows, rows.mean(axis=1, keepdims=True), out=normal)
    variance = np.einsum("ij,ij->i", normal, normal) / rows.shape[1]
    scale[:, 0] = 1 / np.sqrt(variance + eps)
    normal *= scale
    np.multiply(normal, weight, out=out)
    out += bias
    ### END SOLUTION

# %% check="normalise_rows" points=5
_normal, _scale, _out = np.zeros((1, 4)), np.zeros((1, 1)), np.zeros((1, 4))
normalise_rows(np.array([[1.0, 1, 5, 5]]), np.array([1.0, 2, 1, 1]), np.array([0.0, 0, 0, 10]), 0.0, _normal, _scale, _out)
check.close("normal of [1 1 5 5]", _normal, [[-1, -1, 1, 1]], why="mean 3, variance 4, written into the array given")
check.close("its scale", _scale, [[0.5]], why="one over the root of the variance: the way back needs it")
check.close("out with weight [1 2 1 1], bias [0 0 0 10]", _out, [[-1, -2, 1, 11]], why="normal * weight + bias")
_rows = random(5, 8) * 3 + 100
_before, _given = _rows.copy(), [np.full(_s, np.nan, np.float32) for _s in ((5, 8), (5, 1), (5, 8))]
normalise_rows(_rows, random(8, seed=1), random(8, seed=2), 0.01, *_given)
check.close("rows afterwards", _rows, _before, why="they are the block's stream: read only")
_centred = _before.astype(float) - _before.astype(float).mean(axis=1, keepdims=True)
_root = np.sqrt((_centred**2).mean(axis=1, keepdims=True) + 0.01)
check.close("normal of rows around 100, eps 0.01", _given[0], _centred / _root, rtol=1e-3, atol=1e-4,
            why="subtract the mean first: squares of 100 would drown a variance of 9")
check.close("their scale", _given[1], 1 / _root, rtol=1e-4, why="eps is added to the variance, before the root")
check.close("out", _given[2], _centred / _root * random(8, seed=1) + random(8, seed=2), rtol=1e-3, atol=1e-3)

# %% [markdown]
"""
### Fused: GELU with its slope

GELU needs a `tanh` per number, the dearest thing in an MLP, and its gradient needs the same one again. In
one visit: `y` becomes GELU(y), and `slope` its derivative, while the numbers are in the cache. With
`t = tanh(c0 y + c1 y³)`, c0 = √(2/π) and c1 = 0.044715 c0 (both given as C0, C1):

```
GELU(y) = 0.5 y (1 + t)
slope   = 0.5 (1 + t) + 0.5 y (1 - t²) (c0 + 3 c1 y²)

y = 0:   t = 0   GELU 0, slope 0.5          y = 10:  t = 1   GELU 10, slope 1
```

When nobody wants a gradient `slope` is None. A warning about `y**3`: NumPy calls `pow` for it, number by
number, many times slower than `y * y * y`. Take `square = y * y` and `t = np.tanh((C1 * square + C0) * y)`.
"""

# %% exercise="gelu_with_slope"
#| exporti
C0, C1 = np.float32(math.sqrt(2 / math.pi)), np.float32(0.044715 * math.sqrt(2 / math.pi))


def gelu_with_slope(y: Array, slope: Array | None) -> None:
    """y becomes GELU(y) by the tanh form, in place; its derivative goes into `slope`, if given.

    y, slope: arrays of one shape. Cost: one tanh per number for both.

    >>> y, slope = np.array([0.0, 10.0]), np.empty(2)
    >>> gelu_with_slope(y, slope)
    >>> y.tolist(), slope.tolist()
    ([0.0, 10.0], [0.5, 1.0])
    """
    square, t = scratch("square", y.shape, y.dtype), scratch("tanh", y.shape, y.dtype)
    ### BEGIN SOLUTION
    np.multiply(y, y, out=square)
    np.multiply(square, C1, out=t)
    t += C0
    t *= y
    np.tanh(t, out=t)
    if slope is not None:
        square *= 3 * C1
        square += C0
        square *= y  # y (c0 + 3 c1 y²)
        np.multiply(t, t, out=slope)
        np.subtract(1, slope, out=slope)
        slope *= square
        slope += t
        slope += 1
        slope *= 0.5
    t += 1
    t *= 0.5
    y *= t
    ### END SOLUTION

# %% check="gelu_with_slope" points=5
def _gelu(y):
    return 0.5 * y * (1 + np.tanh(math.sqrt(2 / math.pi) * (y + 0.044715 * y**3)))


for _points in ([0.0, 10.0, -10.0], np.linspace(-4, 4, 33)):
    _x = np.array(_points, dtype=np.float32)
    _y, _slope, _wide = _x.copy(), np.full(_x.shape, np.nan, np.float32), _x.astype(float)
    gelu_with_slope(_y, _slope)
    check.close(f"GELU of {len(_x)} numbers, in place", _y, _gelu(_wide), rtol=1e-4, atol=1e-6,
                why="0.5 y (1 + t), written into y itself")
    check.close("their slopes", _slope, (_gelu(_wide + 1e-4) - _gelu(_wide - 1e-4)) / 2e-4, rtol=1e-3, atol=1e-5,
                why="0.5 (1 + t) + 0.5 y (1 - t²) (c0 + 3 c1 y²), with y as it was before")
_y = np.array([1.0], dtype=np.float32)
gelu_with_slope(_y, None)
check.close("without a slope", _y, [0.841192], rtol=1e-4, why="used without gradients, half of the work is left out")

# %% [markdown]
"""
### Joined operations

`tracked` asks one rule per operand, which is right for clarity: but the fused kernels find all gradients in
one visit, and keep things of their own (a slope, normalised rows). `joined` makes such an operation: forward
and backward share a dict `kept`, the first rule that is asked runs `backward`, and the others take their
part of its answer. With it the layers' kernels are given: they only put your pieces together, for a crew.
`by_rows` cuts rows evenly among the crew, and does not wake anybody for less than eight million
multiplications: to wake a thread, and to cut a product in two, costs about as much.
"""

# %% given="joined"
#| exporti
Gradients = tuple[Array | None, ...]
Kept = dict[str, Any]
# By id of a weight: where its gradient shall lie. The arrays belong to a `Flat`, and go with it.
homes: WeakValueDictionary[int, Array] = WeakValueDictionary()


def home_of(weight: Array) -> Array | None:
    """The memory that `Flat` offers for the gradient of `weight`, once after each zero_grad."""
    return homes.pop(id(weight), None)


def joined(forward: Callable[..., Tensor], backward: Callable[..., Gradients], name: str) -> Any:
    """A recorded operation whose gradients are found together; forward computes with arrays only.

    forward(kept, *operands, **options) may keep what backward(kept, g, out, *operands, **options)
    will want; kept["wanted"] are the positions of the operands that want a gradient.
    """

    def part(position: int, g: Any, out: Any, *operands: Any, kept: Kept, **options: Any) -> Any:
        if kept.get("g") is not g:
            kept["g"], kept["gradients"] = g, backward(kept, g, out, *operands, **options)
        return kept["gradients"][position]

    rules = autograd.for_each(part)

    def operation(*operands: Any, **options: Any) -> Any:
        parents: list[tuple[int, Tensor]] = []
        if autograd.is_grad_enabled():
            tensors = ((i, a) for i, a in enumerate(operands) if isinstance(a, Tensor))
            parents = [(i, a) for i, a in tensors if a.requires_grad]
        kept: Kept = {"wanted": [i for i, _ in parents]}
        out = forward(kept, *operands, **options)
        if parents:
            out.requires_grad = True
            options["kept"] = kept
            out._node = autograd.Node(name, rules, tuple(parents), operands, options)
        return out

    return operation


ALL = slice(None)


def by_rows(work: Callable[[slice], Any], rows: int, cost: int) -> list[Any]:
    """work(slice) over `rows` rows of `cost` multiplications: a piece per thread, or all at once."""
    if crew.threads == 1 or rows * cost < 8_000_000:
        return [work(ALL)]
    return crew.run(work, pieces(rows, -(-rows // crew.threads)))


def in_cache(rows: int, width: int) -> list[slice]:
    """0 to `rows` in pieces of about ROOM numbers."""
    return pieces(rows, ROOM // width)


def flat_rows(x: Array) -> Array:
    """(..., D) as rows (R, D)."""
    return x if x.ndim == 2 else x.reshape(-1, x.shape[-1])

# %% given="linear"
#| exporti
def _stack_forward(kept: Kept, x: Any, *params: Any, bends: Sequence[str]) -> Tensor:
    """Linear layers one after the other: each rows @ weight.T + bias, then "", "relu" or "gelu".

    params: weight and bias (or None) of each; bends: what each puts on, while rows are in the cache.
    """
    rows, layers = flat_rows(x.data), list(zip(params[::2], params[1::2], bends, strict=True))
    outs = [np.empty((len(rows), len(weight.data)), np.float32) for weight, _, _ in layers]
    sloping = [bend == "gelu" and bool(kept["wanted"]) for bend in bends]
    slopes = [np.empty_like(y) if keep else None for y, keep in zip(outs, sloping, strict=True)]

    def work(part: slice) -> None:
        y = rows[part]
        for (weight, bias, bend), out, slope in zip(layers, outs, slopes, strict=True):
            y = np.matmul(y, weight.data.T, out=out[part])
            if bias is not None:
                y += bias.data
            if bend == "relu":
                np.maximum(y, 0, out=y)
            if bend == "gelu":
                bent = None if slope is None else slope[part]
                for some in in_cache(*y.shape):
                    gelu_with_slope(y[some], None if bent is None else bent[some])

    by_rows(work, len(rows), sum(weight.size for weight in params[::2]))
    kept.update(outs=outs, slopes=slopes)
    return Tensor(outs[-1] if x.ndim == 2 else outs[-1].reshape(*x.shape[:-1], -1))


def _stack_backward(
    kept: Kept, g: Array, out: Array, x: Array, *params: Any, bends: Sequence[str]
) -> Gradients:
    g, rows, outs = flat_rows(g), flat_rows(x), kept["outs"]
    gx = np.empty(rows.shape, np.float32) if 0 in kept["wanted"] else None

    def work(part: slice) -> list[Any]:
        sent, found = g[part], []
        for at in reversed(range(len(bends))):
            weight, bias = params[2 * at : 2 * at + 2]
            if bends[at] == "relu":
                sent = sent * (outs[at][part] > 0)
            elif bends[at] == "gelu":
                slope = kept["slopes"][at][part]
                sent = np.multiply(sent, slope, out=scratch("bent", slope.shape))
            before = outs[at - 1][part] if at else rows[part]
            mine = [None if part.start else home_of(param) for param in (bias, weight)]
            found += [None if bias is None else np.add.reduce(sent, axis=0, out=mine[0])]
            found += [_weight_gradient(sent, before, weight, mine[1])]
            if at:
                sent = np.matmul(sent, weight, out=scratch("sent", before.shape))
            elif gx is not None:
                np.matmul(sent, weight, out=gx[part])
        return found[::-1]

    found, *others = by_rows(work, len(rows), sum(weight.size for weight in params[::2]))
    for more in others:
        for mine, theirs in zip(found, more, strict=True):
            if mine is not None:
                mine += theirs
    return None if gx is None else gx.reshape(x.shape), *found


def _weight_gradient(g: Array, x: Array, weight: Array, home: Array | None) -> Array:
    """g.T @ x, lying in memory as the weight does, in `home` if there is one."""
    if weight.flags.c_contiguous:
        return np.matmul(g.T, x, out=home)
    turned = np.matmul(x.T, g, out=None if home is None else home.T).T
    return turned if home is None else home


stack = joined(_stack_forward, _stack_backward, "linear")


def _plain(layer: Any, kind: type) -> bool:
    """Whether `layer` is exactly a `kind`, and nobody watches its forward (as a profiler does)."""
    return type(layer) is kind and "forward" not in vars(layer)


def _rows_suit(x: Any, width: int | None = None) -> bool:
    """Whether x is a batch of float32 rows, of `width` numbers each if that is given."""
    if not (isinstance(x, Tensor) and x.data.dtype == np.float32 and x.ndim > 1 and x.size):
        return False
    return width is None or x.shape[-1] == width


def fast_linear(self: Any, x: Any) -> Any:
    """`Linear.forward`, product and bias in one."""
    if not _rows_suit(x, self.weight.shape[1]):
        return clear(layers.Linear, "forward")(self, x)
    return stack(x, self.weight, self.bias, bends=("",))


def fast_sequential(self: Any, x: Any) -> Any:
    """`Sequential.forward`, each row of Linear layers, with the ReLUs behind them, in one."""
    todo = list(self.layers)
    while todo:
        width, params, bends = x.shape[-1] if _rows_suit(x) else None, [], []
        while todo and _plain(todo[0], layers.Linear) and todo[0].weight.shape[1] == width:
            layer = todo.pop(0)
            width, params = layer.weight.shape[0], [*params, layer.weight, layer.bias]
            bends.append("relu" if todo and _plain(todo[0], activations.ReLU) else "")
            del todo[: bends[-1] == "relu"]
        x = stack(x, *params, bends=bends) if bends else todo.pop(0)(x)
    return x


def fast_mlp(self: Any, x: Any) -> Any:
    """`MLP.forward` up to its dropout in one."""
    up, down = self.up, self.down
    usual = all(_plain(layer, layers.Linear) for layer in (up, down))
    usual = usual and _plain(self.act, activations.GELU) and self.act.approximate == "tanh"
    if not (usual and _rows_suit(x, up.weight.shape[1])):
        return clear(transformer.MLP, "forward")(self, x)
    params = up.weight, up.bias, down.weight, down.bias
    return self.dropout(stack(x, *params, bends=("gelu", "")))

# %% given="layer_norm"
#| exporti
def _norm_forward(kept: Kept, x: Any, weight: Any, bias: Any, eps: float) -> Tensor:
    rows = flat_rows(x.data)
    normal, scale = np.empty_like(rows), np.empty((len(rows), 1), np.float32)
    out = np.empty_like(rows)

    def work(part: slice) -> None:
        whole = rows[part], normal[part], scale[part], out[part]
        for some in in_cache(*whole[0].shape):
            r, n, s, y = (array[some] for array in whole)
            normalise_rows(r, weight.data, bias.data, eps, n, s, y)

    by_rows(work, len(rows), rows.shape[1] * 100)
    kept.update(normal=normal, scale=scale)
    return Tensor(out.reshape(x.shape))


def _norm_backward(
    kept: Kept, g: Array, out: Array, x: Array, weight: Array, bias: Array, eps: float
) -> Gradients:
    """g * weight without its parts along 1 and along normal, times scale; piece by piece."""
    normal, scale, g = kept["normal"], kept["scale"], flat_rows(g)
    gx, d = np.empty_like(normal), np.float32(g.shape[1])

    def work(part: slice) -> Array:
        sums = np.zeros((2, g.shape[1]), np.float32)  # of g * normal, of g
        whole = g[part], normal[part], scale[part], gx[part]
        for some in in_cache(*whole[0].shape):
            gs, n, s, y = (array[some] for array in whole)
            along = np.multiply(gs, n, out=scratch("along", gs.shape))
            one = np.ones(len(gs), np.float32)
            sums[0] += one @ along  # a product with ones sums faster than sum(axis=0)
            sums[1] += one @ gs
            along_normal, along_ones = (along @ weight) / d, (gs @ weight) / d
            np.multiply(gs, weight, out=y)
            y -= along_ones[:, None]
            y -= np.multiply(n, along_normal[:, None], out=along)
            y *= s
        return sums

    total = sum(by_rows(work, len(g), g.shape[1] * 100))
    return gx.reshape(x.shape), total[0], total[1]


_layer_norm = joined(_norm_forward, _norm_backward, "layer_norm")


def fast_layer_norm(x: Any, weight: Any, bias: Any, eps: float = 1e-5) -> Any:
    """`transformer.layer_norm`, in pieces that stay in the cache."""
    suits = _rows_suit(x) and x.shape[-1:] == weight.shape == bias.shape
    run = _layer_norm if suits else clear(transformer, "layer_norm")
    return run(x, weight, bias, eps=eps)

# %% given="attention"
#| exporti
BLOCK = 64  # queries at once: their scores stay in the cache, and keys beyond the mask are left out


def _by_head(a: Array, heads: int) -> Array:
    """(B, T, H*D) seen as (B, H, T, D)."""
    texts, t, width = a.shape
    return a.reshape(texts, t, heads, width // heads).transpose(0, 2, 1, 3)


def _texts(count: int, t: int, heads: int) -> list[slice]:
    """0 to `count` in pieces whose scores, of a block of queries, are about ROOM numbers."""
    return pieces(count, ROOM // (heads * min(BLOCK, t) * t))


def _attend_forward(kept: Kept, query: Any, key: Any, value: Any, heads: int) -> Tensor:
    """Causal attention of (B, T, H*D), a few texts at once, in blocks of queries."""
    t, width = query.shape[1:]
    out = np.empty_like(query.data)
    scale = np.float32(1 / math.sqrt(width // heads))
    hidden = np.triu(np.full((BLOCK, BLOCK), -np.inf, np.float32), 1)

    def work(texts: slice) -> list[Array]:
        arrays = (query.data, key.data, value.data, out)
        q, k, v, y = (_by_head(a[texts], heads) for a in arrays)
        weights = []
        for at in range(0, t, BLOCK):
            end = min(at + BLOCK, t)
            s = q[:, :, at:end] @ k[:, :, :end].swapaxes(2, 3)
            s *= scale
            s[..., at:] += hidden[: end - at, : end - at]
            s -= s.max(axis=-1, keepdims=True)
            np.exp(s, out=s)
            s /= s.sum(axis=-1, keepdims=True)
            np.matmul(s, v[:, :, :end], out=y[:, :, at:end])
            weights.append(s)
        return weights if kept["wanted"] else []

    kept["weights"] = crew.run(work, _texts(len(out), t, heads))
    return Tensor(out)


def _attend_backward(
    kept: Kept, g: Array, out: Array, query: Array, key: Array, value: Array, heads: int
) -> Gradients:
    gq, gk, gv = np.empty_like(query), np.zeros_like(key), np.zeros_like(value)
    t, width = query.shape[1:]
    scale = np.float32(1 / math.sqrt(width // heads))

    def work(piece: tuple[slice, list[Array]]) -> None:
        texts, blocks = piece
        q, k, v, y, gs = (_by_head(a[texts], heads) for a in (query, key, value, out, g))
        to_q, to_k, to_v = (_by_head(a[texts], heads) for a in (gq, gk, gv))
        average = np.einsum("bhtd,bhtd->bht", gs, y)[..., None]  # of g, weighted: softmax's rule
        for at, weights in zip(range(0, t, BLOCK), blocks, strict=True):
            end = min(at + BLOCK, t)
            some = gs[:, :, at:end]
            to_v[:, :, :end] += weights.swapaxes(2, 3) @ some
            s = some @ v[:, :, :end].swapaxes(2, 3)
            s -= average[:, :, at:end]
            s *= weights
            s *= scale
            np.matmul(s, k[:, :, :end], out=to_q[:, :, at:end])
            to_k[:, :, :end] += s.swapaxes(2, 3) @ q[:, :, at:end]

    crew.run(work, zip(_texts(len(query), t, heads), kept["weights"], strict=True))
    return gq, gk, gv


_attend = joined(_attend_forward, _attend_backward, "attention")


def fast_attention(self: Any, x: Any, context: Any = None, mask: Any = None, start: int = 0) -> Any:
    """`MultiHeadAttention.forward` for causal self-attention without the extras."""
    plain = context is None and self.positions is None and self.kv_heads == self.heads
    plain = plain and not (self.training and self.dropout.p) and isinstance(mask, Array)
    suits = plain and _rows_suit(x, self.dim) and x.ndim == 3
    if not (suits and np.array_equal(mask, attention.causal_mask(x.shape[1]))):
        return clear(attention.MultiHeadAttention, "forward")(self, x, context, mask, start)
    return self.out(_attend(self.query(x), self.key(x), self.value(x), heads=self.heads))


def fast_embedding_gradient(g: Any, out: Any, weight: Any, indices: Any) -> Array:
    """Rows of g sorted by index, then each run of equal ones added up: no loop over places."""
    gradient, places = np.zeros_like(weight), np.ravel(indices)
    if places.size:
        order = np.argsort(places, kind="stable")
        ordered = places[order]
        starts = np.flatnonzero(np.diff(ordered, prepend=-1))
        gradient[ordered[starts]] = np.add.reduceat(g.reshape(places.size, -1)[order], starts)
    return gradient


fast_embedding = tracked(embedding.lookup, (fast_embedding_gradient, None), "embedding")


def _loss_forward(kept: Kept, logits: Any, classes: Any, smoothing: float) -> Tensor:
    loss, kept["slope"] = cross_entropy_and_slope(logits.data, classes, smoothing)
    return Tensor(np.add.reduce(loss) / len(loss))


def _loss_backward(kept: Kept, g: Any, out: Any, *operands: Any, **_: Any) -> Gradients:
    return kept["slope"] * np.float32(g / len(operands[0])), None


_cross_entropy = joined(_loss_forward, _loss_backward, "cross_entropy")


def _classes(logits: Any, target: Any) -> Array:
    """`losses.class_indices`, which is asked only when something may be wrong."""
    given = target.data if isinstance(target, Tensor) else np.asarray(target)
    if logits.ndim == 2 and given.shape == logits.shape[:1] and given.dtype.kind in "iuf":
        with np.errstate(invalid="ignore"):  # NaN is no class, and will be told so
            classes = given.astype(np.int64)
        below = classes.view(np.uint64) < logits.shape[1]  # a negative one is large, seen so
        if np.count_nonzero(below & (classes == given)) == len(classes):
            return classes
    return losses.class_indices(logits, target)  # type: ignore[no-any-return]


def fast_cross_entropy(self: Any, logits: Any, target: Any) -> Any:
    """`CrossEntropyLoss.forward` for the mean of float32 logits, the slope made on the way."""
    constant = not (isinstance(target, Tensor) and target.requires_grad)
    if not (self.reduction == "mean" and constant and _rows_suit(logits)):
        return clear(losses.CrossEntropyLoss, "forward")(self, logits, target)
    return _cross_entropy(logits, _classes(logits, target), smoothing=self.label_smoothing)

# %% given="pictures"
#| exporti
def _corners(x: Array) -> list[Array]:
    """The four numbers of every 2x2 window of x (n, H, W, C), each (n, H/2, W/2, C)."""
    h, w = x.shape[1] // 2 * 2, x.shape[2] // 2 * 2
    return [x[:, i:h:2, j:w:2] for i in (0, 1) for j in (0, 1)]


def _halves(kernel_size: int, stride: int | None, padding: int) -> bool:
    """Whether these are the windows of 2x2 that do not overlap."""
    return kernel_size == 2 and stride in (None, 2) and padding == 0


def _pool(x: Any, /, kernel_size: int, stride: int | None = None, padding: int = 0) -> Any:
    """The largest of each 2x2 window, piece by piece."""
    fits = isinstance(x, Tensor) and x.ndim == 4 and min(x.shape[2:]) > 1 and x.size
    if not (fits and _halves(kernel_size, stride, padding)):
        return clear(conv, "_max_pool2d")(x, kernel_size, stride, padding)
    pictures = channels_last(x.data)
    n, h, w, c = pictures.shape
    out = np.empty((n, h // 2, w // 2, c), pictures.dtype)

    def work(part: slice) -> None:
        a, b, c, d = _corners(pictures[part])
        y = np.maximum(a, b, out=out[part])
        np.maximum(y, np.maximum(c, d, out=scratch("lower", y.shape, y.dtype)), out=y)

    crew.run(work, pieces(n, IMAGES))
    return Tensor(channels_first(out))


def _pool_gradient(
    g: Array, out: Array, x: Array, kernel_size: int, stride: int | None = None, padding: int = 0
) -> Any:
    """g of every window for the first of its numbers that equals the maximum."""
    if not _halves(kernel_size, stride, padding):
        return clear(conv, "max_pool_gradient")(g, out, x, kernel_size, stride, padding)
    x, g, out = channels_last(x), channels_last(g), channels_last(out)
    whole = x.shape[1] % 2 == x.shape[2] % 2 == 0
    gx = (np.empty if whole else np.zeros)(x.shape, g.dtype)

    def work(part: slice) -> None:
        y, gy = out[part], g[part]
        taken, wins = scratch("taken", y.shape, bool), scratch("wins", y.shape, bool)
        taken[...] = False
        for view, place in zip(_corners(x[part]), _corners(gx[part]), strict=True):
            np.equal(view, y, out=wins)
            np.greater(wins, taken, out=wins)
            np.logical_or(taken, wins, out=taken)
            np.multiply(gy, wins, out=place)

    crew.run(work, pieces(len(x), IMAGES))
    return channels_first(gx)


fast_max_pool2d = tracked(_pool, (_pool_gradient,), "max_pool2d")


def _pixels(x: Array) -> Array:
    """(N, C, H, W) as one row per pixel, (N*H*W, C)."""
    return channels_last(x).reshape(-1, x.shape[1])


def _pictures(rows: Array, shape: tuple[int, ...]) -> Array:
    """One row per pixel as (N, C, H, W), `shape`."""
    n, c, h, w = shape
    return channels_first(rows.reshape(n, h, w, c))


def channel_statistics(x: Array) -> tuple[Array, Array]:
    """Mean and plain variance of every channel of x (N, C, H, W): those of pieces, put together.

    Each piece subtracts its own mean first: large offsets do no harm. Source: Chan et al. 1983.
    """
    rows = _pixels(x)

    def work(part: slice) -> tuple[int, Array, Array]:
        some = rows[part]
        one = np.ones(len(some), np.float32)
        first = some[0]
        apart = np.subtract(some, first, out=scratch("apart", some.shape))
        shift = one @ apart / np.float32(len(some))
        apart -= shift
        np.multiply(apart, apart, out=apart)
        return len(some), first.astype(np.float64) + shift, (one @ apart).astype(np.float64)

    found = crew.run(work, pieces(len(rows), 4 * ROOM // rows.shape[1]))
    mean = sum(count * m for count, m, _ in found) / len(rows)
    squares = sum(s + count * (m - mean) ** 2 for count, m, s in found)
    return mean.astype(np.float32), (squares / len(rows)).astype(np.float32)


def fast_observe(self: Any, values: Array) -> Any:
    """`BatchNorm2d.observe`, with one pass over memory."""
    count = values.size // values.shape[1]
    if count <= 1 or values.dtype != np.float32:
        return clear(conv.BatchNorm2d, "observe")(self, values)
    mean, var = channel_statistics(values)
    unbiased = var * (count / (count - 1))
    for running, new in zip((self.running_mean, self.running_var), (mean, unbiased), strict=True):
        running.data += self.momentum * (new - running.data)
    return mean, var


def _batch_norm_forward(
    kept: Kept, x: Any, weight: Any, bias: Any, mean: Any, var: Any, eps: float, training: bool
) -> Tensor:
    rows, inverse = _pixels(x.data), 1 / np.sqrt(var + np.float32(eps))
    scale = weight.data * inverse
    shift = bias.data - mean * scale
    kept.update(inverse=inverse, mean=mean, training=training)
    out = np.empty(rows.shape, np.float32)

    def work(part: slice) -> None:
        y = np.multiply(rows[part], scale, out=out[part])
        y += shift

    crew.run(work, pieces(len(rows), 4 * ROOM // rows.shape[1]))
    return Tensor(_pictures(out, x.shape))


def _batch_norm_backward(
    kept: Kept, g: Array, out: Array, x: Array, weight: Array, *_: Any, **options: Any
) -> Gradients:
    """Two passes: sums of g and of g * normal, then scale * (g - their averages' part)."""
    rows, gs, inverse, mean = _pixels(x), _pixels(g), kept["inverse"], kept["mean"]
    parts = pieces(len(rows), 4 * ROOM // rows.shape[1])

    def sums(part: slice) -> Array:
        some, one = gs[part], np.ones(len(gs[part]), np.float32)
        apart = np.subtract(rows[part], mean, out=scratch("apart", some.shape))
        apart *= some
        return np.stack([one @ some, one @ apart])

    gb, gw = sum(crew.run(sums, parts))
    gw = gw * inverse
    scale, count = weight * inverse, np.float32(len(rows))
    gx = np.empty(rows.shape, np.float32)

    def work(part: slice) -> None:
        y = np.multiply(gs[part], scale, out=gx[part])
        if kept["training"]:
            normal = np.subtract(rows[part], mean, out=scratch("apart", y.shape))
            normal *= scale * inverse * gw / count
            normal += scale * gb / count
            y -= normal

    crew.run(work, parts)
    return _pictures(gx, x.shape), gw, gb


_batch_norm = joined(_batch_norm_forward, _batch_norm_backward, "batch_norm")


def fast_batch_norm(
    x: Any, weight: Any, bias: Any, /, mean: Any, var: Any, eps: float = 1e-5, training: bool = True
) -> Any:
    """`conv.batch_norm`, pixel by pixel with all channels side by side."""
    suits = _suit(x.data, weight.data, bias.data, np.asarray(mean), np.asarray(var))
    run = _batch_norm if suits else clear(conv, "batch_norm")
    return run(x, weight, bias, mean=mean, var=var, eps=eps, training=training)


def _lie_alike(*arrays: Array) -> bool:
    """Whether arrays of one shape are large, and lie in memory in the same order, without gaps."""
    first = arrays[0]
    same = all(array.strides == first.strides for array in arrays)
    return same and first.size >= 4 * ROOM and np.empty_like(first).strides == first.strides


def _relu(self: Any, x: Any) -> Any:
    out = np.empty_like(x.data)
    if not _lie_alike(x.data, out):
        return Tensor(np.maximum(x.data, 0, out=out))
    flat, y = x.data.ravel("K"), out.ravel("K")  # views, in the order of memory
    crew.run(lambda p: np.maximum(flat[p], 0, out=y[p]), pieces(flat.size, 4 * ROOM))
    return Tensor(out)


def _relu_gradient(g: Array, out: Array, self: Any, x: Array) -> Array:
    if not _lie_alike(g, out):
        return g * (out > 0)
    gx = np.empty_like(g)
    flat, y, sent = (array.ravel("K") for array in (g, out, gx))

    def work(part: slice) -> None:
        open_ = np.greater(y[part], 0, out=scratch("open", y[part].shape, bool))
        np.multiply(flat[part], open_, out=sent[part])

    crew.run(work, pieces(g.size, 4 * ROOM))
    return gx


fast_relu = tracked(_relu, (None, _relu_gradient), "ReLU")

# %% [markdown]
"""
### Flat parameters

Adam on a GPT of 50 arrays is 50 times a dozen NumPy calls, and each pass over a large array goes to
memory. Lay all parameters into **one** array, the gradients and each part of the state into others, and a
step is a dozen calls per piece of 65,536 numbers that stays in the cache. The optimizer's `update` is the
same: it does not care what its array means.

The parameters must not notice: each gets a **view** of its stretch of the flat array, of its shape, with
its numbers in it.

```
parameters     w (2, 3)          b (2,)         flat   [w00 w01 w02 w10 w11 w12 b0 b1]
                                                        `---- w, (2, 3) ----'  `- b -'
```

One care: Linear keeps its weight (in, out) in memory and shows (out, in). Its view must have that order
too, or `x @ W.T` would read across memory from then on: for a parameter of two axes that is Fortran
contiguous and not C contiguous take the stretch as the shape turned around, and transpose. Write `views`:
the views alone; numbers are copied by the caller.
"""

# %% exercise="views"
#| exporti
def views(whole: Array, params: Sequence[Tensor]) -> list[Array]:
    """One view of the flat array `whole` per parameter, one after the other, shaped and laid out alike.

    whole: (total size,). Nothing is copied.

    >>> [v.tolist() for v in views(np.arange(5.0), [Tensor([[1, 2]]), Tensor([1, 2, 3])])]
    [[[0.0, 1.0]], [2.0, 3.0, 4.0]]
    """
    found = []
    at = 0
    ### BEGIN SOLUTION
    for param in params:
        stretch, flags = whole[at : at + param.size], param.data.flags
        if param.ndim == 2 and flags.f_contiguous and not flags.c_contiguous:
            found.append(stretch.reshape(param.shape[::-1]).T)
        else:
            found.append(stretch.reshape(param.shape))
        at += param.size
    ### END SOLUTION
    return found

# %% check="views" points=6
manual_seed(0)
_linear, _whole = Linear(3, 2), np.arange(20.0)
_params = [_linear.weight, _linear.bias, Tensor(np.zeros((2, 1, 3)))]
_views = views(_whole, _params)
check.equal("shapes for a Linear(3, 2) and a (2, 1, 3)", [_v.shape for _v in _views], [(2, 3), (2,), (2, 1, 3)])
check.equal("what they are", {type(_v).__name__ for _v in _views}, {"ndarray"}, why="an optimizer works on plain arrays")
check.true("views of the flat array", all(np.shares_memory(_v, _whole) for _v in _views),
           why="a copy would be updated by the optimizer while the layer goes on with the old numbers")
check.close("the flat array afterwards", _whole, np.arange(20.0), why="views alone: the numbers are copied by the caller")
check.close("the bias: numbers after the weight's six", _views[1], [6, 7], why="stretch after stretch")
check.close("the third: numbers from 8 on", _views[2].ravel(), np.arange(8.0, 14.0))
check.equal("strides of the weight's view and of the weight", _views[0].strides,
            tuple(2 * _s for _s in _linear.weight.data.strides), why="laid out as the weight itself: (in, out) in memory "
            "(twice the bytes, because this flat array is float64)")
check.close("the weight's view", _views[0], [[0, 2, 4], [1, 3, 5]], why="the stretch as (3, 2), transposed")

# %% given="Flat"
#| exporti
CHUNK = 65536  # numbers that an optimizer works on at once


class Flat:
    """The parameters of an optimizer in one array, gradients and state in others; all views stay."""

    def __init__(self, optimizer: Any) -> None:
        self.params, self.state = optimizer.params, optimizer.state
        states = [self.state[place] for place in range(len(self.params))]
        self.weights, self.weight_views = self.flattened([param.data for param in self.params])
        self.grads, self.grad_views = self.flattened([param.grad for param in self.params])
        for param, view in zip(self.params, self.weight_views, strict=True):
            param.data = view
        self.alone = self.holders()
        self.parts = pieces(len(self.weights), CHUNK)
        self.states = [dict(states[0]) for _ in self.parts]
        for name, value in self.states[0].items():
            if isinstance(value, Array):
                whole, found = self.flattened([state[name] for state in states])
                for state, view in zip(states, found, strict=True):
                    state[name] = view
                for state, part in zip(self.states, self.parts, strict=True):
                    state[name] = whole[part]

    def flattened(self, arrays: Sequence[Array]) -> tuple[Array, list[Array]]:
        """Arrays shaped as the parameters one after the other in a new one, and its views."""
        whole = np.empty(sum(array.size for array in arrays), np.float32)
        found = views(whole, self.params)
        for view, array in zip(found, arrays, strict=True):
            view[...] = array
        return whole, found

    def fits(self, optimizer: Any) -> bool:
        """Whether parameters and state are still the views made here (a checkpoint replaces them)."""
        same = zip(self.params, self.weight_views, strict=True)
        return self.state is optimizer.state and all(param.data is view for param, view in same)

    def holders(self) -> list[int]:
        """How many hold the gradients' memory and each view of it, parameters left out."""
        pairs = zip(self.params, self.grad_views, strict=True)
        views = [sys.getrefcount(view) - (param.grad is view) for param, view in pairs]
        return [sys.getrefcount(self.grads), *views]

    def leave(self) -> None:
        """Take other memory for gradients, if somebody still looks at those that lie here."""
        if self.holders() != self.alone:
            self.grads = np.empty_like(self.grads)
            self.grad_views = views(self.grads, self.params)

    def offer(self) -> None:
        """Let the next gradients be written where `step` reads them."""
        self.leave()
        for weight, grad in zip(self.weight_views, self.grad_views, strict=True):
            homes[id(weight)] = grad

    def step(self, update: Callable[..., None]) -> None:
        """Gather the gradients, `update` chunk by chunk, tell every parameter's state the numbers."""
        self.leave()
        for param, view in zip(self.params, self.grad_views, strict=True):
            if param.grad is not view:
                view[...] = param.grad

        def work(place: int) -> None:
            part = self.parts[place]
            update(self.weights[part], self.grads[part], self.states[place])

        run = crew.run if len(self.parts) > 4 else Crew(1).run
        run(work, range(len(self.parts)))
        numbers = {n: v for n, v in self.states[0].items() if not isinstance(v, Array)}
        if numbers:
            for state in self.state.values():
                state.update(numbers)


flats: WeakKeyDictionary[Any, Flat] = WeakKeyDictionary()
ELEMENTWISE = (optimizers.SGD, optimizers.Adam, optimizers.AdamW)


def _alike(optimizer: Any) -> bool:
    """Whether all parameters have the same kinds of state and the same numbers, such as the step."""
    kinds = [
        {name: None if isinstance(value, Array) else value for name, value in state.items()}
        for state in optimizer.state.values()
    ]
    return all(kind == kinds[0] for kind in kinds)


def fast_step(self: Any) -> None:
    """`Optimizer.step` on flat arrays, from the second step on: the first one makes the state."""
    params, flat = self.params, flats.get(self)
    every = all(param.grad is not None and param.data.dtype == np.float32 for param in params)
    ready = every and type(self) in ELEMENTWISE and len(self.state) == len(params)
    if not ready or len({id(param) for param in params}) < len(params):
        flats.pop(self, None)
        return clear(optimizers.Optimizer, "step")(self)  # type: ignore[no-any-return]
    if flat is None or not flat.fits(self):
        # An array that somebody else holds stays where it is: theirs would no longer be the weight.
        held = any(sys.getrefcount(param.data) > 2 for param in params)
        if held or not _alike(self):
            return clear(optimizers.Optimizer, "step")(self)  # type: ignore[no-any-return]
        flat = flats[self] = Flat(self)
    flat.step(self.update)
    return None


def fast_zero_grad(self: Any) -> None:
    """`Optimizer.zero_grad`; then homes are free for the next gradients."""
    clear(optimizers.Optimizer, "zero_grad")(self)
    flat = flats.get(self)
    if flat is not None:
        flat.offer()

# %% [markdown]
"""
### On, and off again

A kernel is switched on by putting it where the layers look for the clear one: `conv.conv2d_forward`,
`Linear.forward`, a few more. `SWAPS` below says for each name what goes where. Two functions do it:

```
switch_on([(conv, "conv2d_forward", fast_forward)])      originals remembers the clear one
switch_off()                                             puts back everything, forgets it
```

Somebody will call `enable_acceleration()` twice. If the second call remembered what it finds, it would
remember the **fast** kernel as the original, and the clear one would be lost. So remember only what is not
in `originals` yet. For a class look into `vars(owner)`, not at `owner.name`, which might be inherited. (The two classes below serve the checks.)
"""

# %% given="two_classes"
def _fast(self):
    return "fast"


def _faster(self):
    return "faster"


def _two_classes():
    """A base class and a layer, fresh ones, each with a forward of its own."""

    class Base:
        def forward(self):
            return "clear base"

    class Layer(Base):
        def forward(self):
            return "clear layer"

    return Base, Layer

# %% exercise="switch_on"
#| exporti
def switch_on(swaps: Iterable[tuple[Any, str, Any]]) -> None:
    """Set owner.name to the new function for each (owner, name, new); `originals` keeps the old.

    Twice is as once: what is in `originals` already stays as it is.
    """
    ### BEGIN SOLUTION
    for owner, name, new in swaps:
        originals.setdefault((owner, name), vars(owner)[name])
        setattr(owner, name, new)
    ### END SOLUTION

# %% check="switch_on" points=3
_kept = dict(originals)
originals.clear()
_Base, _Layer = _two_classes()
_was = vars(_Layer)["forward"]
switch_on([(_Layer, "forward", _fast)])
check.equal("after switch_on: the layer, its base", (_Layer().forward(), _Base().forward()), ("fast", "clear base"),
            why="setattr(owner, name, new) on the class: its layers do not know")
_names = {_was: "the clear one", _fast: "the fast one", _faster: "the faster one", None: "nothing"}
check.equal("what originals keeps", _names[originals.get((_Layer, "forward"))], "the clear one",
            why="under the key (owner, name), and taken before the new one is set")
switch_on([(_Layer, "forward", _faster)])
check.equal("after a second switch_on", _Layer().forward(), "faster", why="the new kernel counts")
check.equal("what originals keeps now", _names[originals.get((_Layer, "forward"))], "the clear one",
            why="remembered twice, the fast kernel would become the original")
check.equal("entries in originals", len(originals), 1)
originals.clear()
originals.update(_kept)

# %% [markdown]
"""
`switch_off` empties `originals` while it puts everything back: `popitem` takes one pair out of a dict.
"""

# %% exercise="switch_off"
#| exporti
def switch_off() -> None:
    """Put back every function in `originals`, and forget it."""
    ### BEGIN SOLUTION
    while originals:
        (owner, name), old = originals.popitem()
        setattr(owner, name, old)
    ### END SOLUTION

# %% check="switch_off" points=3
_kept = dict(originals)
originals.clear()
_Base, _Layer = _two_classes()
originals.update({(_class, "forward"): vars(_class)["forward"] for _class in (_Base, _Layer)})
_Base.forward, _Layer.forward = _fast, _faster
switch_off()
check.equal("layer and base afterwards", (_Layer().forward(), _Base().forward()), ("clear layer", "clear base"),
            why="each gets its own function back")
check.equal("originals afterwards", len(originals), 0,
            why="a later switch_on must remember anew: somebody may have changed the clear one meanwhile")
switch_off()
check.equal("a second switch_off", (_Layer().forward(), len(originals)), ("clear layer", 0), why="nothing to do")
originals.update(_kept)

# %% [markdown]
"""
One kernel is still missing from the table: writing with a cache, one token at a time (module 17). There the
matrices are small and most of the time is Python's. `Plan` is given: it lays a GPT's weights out once,
scale and shift of each norm folded into the matrix behind it, queries, keys and values in one matrix, and
then writes every token with `out=` into the same few arrays. (Whoever changes weights in the middle of a text
must fill the cache anew: its keys are the old weights' as well.)
"""

# %% given="Plan"
#| exporti
class Plan:
    """A GPT's weights laid out for one token at a time, and room for everything in between.

    Scale and shift of a norm are folded into the layer behind it, and whatever is added to the
    stream has mean 0, so that a norm is one dot product and one multiplication.
    """

    def __init__(self, model: Any) -> None:
        c = self.config = model.config
        self.parts = [vars(part) for part in model.modules()]
        d, width = c.dim, c.dim // c.heads
        self.embedding = _centred(model.embedding.weight.data)
        with autograd.no_grad():
            places = model.positions(Tensor(np.zeros((1, c.context, d)))).data[0]
        self.places, self.eps = _centred(places), model.norm.eps
        scales = np.ones(3 * d, np.float32)
        scales[:d] = 1 / math.sqrt(width)  # attention's, in the query
        self.blocks = []
        for b in model.blocks:
            a = b.attention
            qkv, qkv_bias = _folded(b.norm1, a.query, a.key, a.value)
            self.blocks.append(
                (qkv * scales, qkv_bias * scales, *_written(a.out))
                + (*_folded(b.norm2, b.mlp.up), *_written(b.mlp.down))
            )
        self.head = _folded(model.norm, model.head)
        self.x, self.t, self.qkv = (np.empty(n, np.float32) for n in (d, d, 3 * d))
        self.query = self.qkv[:d].reshape(c.heads, width, 1)
        self.key = self.qkv[d : 2 * d].reshape(c.heads, width)
        self.value = self.qkv[2 * d :].reshape(c.heads, width)
        self.seen = np.empty((c.heads, 1, width), np.float32)
        self.total = np.empty((c.heads, 1, 1), np.float32)
        self.scores = np.empty(c.heads * c.context, np.float32)
        self.up, self.bent = (np.empty(c.hidden_size, np.float32) for _ in range(2))

    def watched(self) -> bool:
        """Whether somebody has put a forward of their own on a part, which must then be called."""
        return any("forward" in part for part in self.parts)

    def step(self, token: int, cache: Any) -> Array:
        """Logits (V,) of the token after `token`, which joins the cache."""
        x, at = self.x, cache.length
        np.add(self.embedding[token], self.places[at], out=x)
        keys, values = cache.keys[:, 0], cache.values[:, 0]
        for block, k, v in zip(self.blocks, keys, values, strict=True):
            w, b, out, out_b, up_w, up_b, down, down_b = block
            self._normed(w, b, self.qkv)
            k[:, at], v[:, at] = self.key, self.value
            self._attend(k[:, : at + 1], v[:, : at + 1])
            self._add(self.seen.reshape(-1), out, out_b)
            self._normed(up_w, up_b, self.up)
            self._bend()
            self._add(self.up, down, down_b)
        cache.length = at + 1
        return self._normed(*self.head, np.empty(len(self.head[1]), np.float32))

    def _normed(self, w: Array, b: Array, out: Array) -> Array:
        """A norm and the layer behind it: x @ w / √(mean square + eps) + b."""
        x = self.x
        np.dot(x, w, out=out)
        out *= np.float32(1 / math.sqrt(np.dot(x, x) / len(x) + self.eps))
        out += b
        return out

    def _attend(self, k: Array, v: Array) -> None:
        """Query, keys (H, S, D) and values: what was found goes into `seen`."""
        heads, n = k.shape[:2]
        scores = self.scores[: heads * n].reshape(heads, n, 1)
        np.matmul(k, self.query, out=scores)
        np.maximum.reduce(scores, axis=1, keepdims=True, out=self.total)
        np.subtract(scores, self.total, out=scores)
        np.exp(scores, out=scores)
        np.add.reduce(scores, axis=1, keepdims=True, out=self.total)
        np.matmul(scores.reshape(heads, 1, n), v, out=self.seen)
        np.divide(self.seen, self.total, out=self.seen)

    def _add(self, part: Array, w: Array, b: Array) -> None:
        """x += part @ w + b"""
        np.dot(part, w, out=self.t)
        self.t += b
        self.x += self.t

    def _bend(self) -> None:
        """GELU of `up`, in place, without looking for scratch memory."""
        y, t = self.up, self.bent
        np.multiply(y, y, out=t)
        t *= C1
        t += C0
        t *= y
        np.tanh(t, out=t)
        t += _ONE
        t *= _HALF
        y *= t


_ONE, _HALF = np.float32(1), np.float32(0.5)


def _centred(a: Array) -> Array:
    """Each row without its mean."""
    return np.subtract(a, a.mean(axis=-1, keepdims=True))


def _bias_of(layer: Any) -> Any:
    return np.zeros(len(layer.weight.data), np.float32) if layer.bias is None else layer.bias.data


def _folded(norm: Any, *linears: Any) -> tuple[Array, Array]:
    """(in, out) weights and bias of `linears` side by side, on what `norm` has not scaled yet."""
    w = np.concatenate([linear.weight.data for linear in linears]).T
    b = norm.bias.data @ w + np.concatenate([_bias_of(linear) for linear in linears])
    return np.ascontiguousarray(norm.weight.data[:, None] * w), b


def _written(linear: Any) -> tuple[Array, Array]:
    """(in, out) weights and bias of a layer that adds to the stream, whatever it adds with mean 0."""
    return np.ascontiguousarray(_centred(linear.weight.data.T)), _centred(_bias_of(linear))


def _plans(model: Any, cache: Any) -> bool:
    """Whether a Plan can write for this model and cache: plain layers, one text without padding."""
    c = getattr(model, "config", None)
    if type(model) is not transformer.GPT or c is None or cache.batch != 1 or cache.padding.any():
        return False
    kinds = (c.norm, c.mlp, c.key_heads) == ("layer", "gelu", c.heads) and c.positions != "rotary"
    used = [model.head]
    for b in model.blocks:
        used += [vars(b.attention)[name] for name in ("query", "key", "value", "out")]
        used += [vars(b.mlp).get(name) for name in ("up", "down")]
    plain = kinds and all(_plain(layer, layers.Linear) for layer in used)
    plain = plain and type(model.embedding) is embedding.Embedding
    return plain and bool(cache.keys.dtype == model.head.weight.data.dtype == np.float32)


plans: WeakKeyDictionary[Any, tuple[Any, Plan | None]] = WeakKeyDictionary()


def fast_decode(model: Any, tokens: Any, cache: Any) -> Any:
    """`kvcache.decode`, one token of one text by a Plan, which is made anew for every filled cache."""
    tokens = np.asarray(tokens)
    if tokens.shape != (1, 1) or cache.length == 0:
        plans.pop(cache, None)
        return clear(kvcache, "decode")(model, tokens, cache)
    known = plans.get(cache)
    if known is None or known[0] is not model:
        known = plans[cache] = (model, Plan(model) if _plans(model, cache) else None)
    plan, token = known[1], tokens[0, 0]
    unusual = plan is None or plan.watched() or model.training or cache.padding.any()
    if plan is None or unusual or not 0 <= token < model.config.vocab_size:
        return clear(kvcache, "decode")(model, tokens, cache)
    cache.reserve(1)
    return Tensor(plan.step(int(token), cache)[None, None])

# %% [markdown]
"""
And the switchboard. Each name stands for a trick, so that each can be measured alone:
`enable_acceleration(only=["winograd"])`. `memory` is none of ours: a hint to the C library's allocator to
keep large freed blocks instead of giving them back to the system.
"""

# %% given="switchboard"
#| export
Swap = tuple[Any, str, Any]
_CONVOLUTION: list[Swap] = [
    (conv, "conv2d_forward", fast_forward),
    (conv, "conv2d_input_gradient", fast_input_gradient),
    (conv, "conv2d_weight_gradient", fast_weight_gradient),
]
SWAPS: dict[str, list[Swap]] = {
    "memory": [],
    "gemm": _CONVOLUTION,
    "winograd": _CONVOLUTION,
    "pool": [(conv, "max_pool2d", fast_max_pool2d)],
    "batch_norm": [
        (conv, "batch_norm", fast_batch_norm),
        (conv.BatchNorm2d, "observe", fast_observe),
    ],
    "relu": [(activations.ReLU, "forward", fast_relu)],
    "linear": [
        (layers.Linear, "forward", fast_linear),
        (layers.Sequential, "forward", fast_sequential),
        (transformer.MLP, "forward", fast_mlp),
    ],
    "layer_norm": [(transformer, "layer_norm", fast_layer_norm)],
    "attention": [(attention.MultiHeadAttention, "forward", fast_attention)],
    "embedding": [(embedding, "embedding", fast_embedding)],
    "cross_entropy": [(losses.CrossEntropyLoss, "forward", fast_cross_entropy)],
    "optimizer": [
        (optimizers.Optimizer, "step", fast_step),
        (optimizers.Optimizer, "zero_grad", fast_zero_grad),
    ],
    "decode": [(kvcache, "decode", fast_decode)],
}
_blas: Any = None


def _processors() -> int:
    """How many this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # not everywhere
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _keep_memory() -> None:
    """Ask glibc to keep freed memory up to 1 GiB. Other C libraries have no mallopt: nothing then."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is not None:
        mallopt(-3, 1 << 30)  # M_MMAP_THRESHOLD
        mallopt(-1, 1 << 30)  # M_TRIM_THRESHOLD


def enable_acceleration(threads: int | None = None, only: Iterable[str] | None = None) -> None:
    """Put the fast kernels behind the layers: same values and gradients, to rounding.

    threads: of the crew, as many as the process may use if None; BLAS gets one. only: names from
    SWAPS, all if None. Calling it again replaces what was on before.
    Raises ValueError for a name that does not exist or threads below 1.
    """
    global crew, _blas
    only = [only] if isinstance(only, str) else only
    names = list(SWAPS) if only is None else list(only)
    if unknown := [name for name in names if name not in SWAPS]:
        raise ValueError(f"enable_acceleration: no kernel {unknown}. There are {', '.join(SWAPS)}.")
    threads = _processors() if threads is None else threads
    if not isinstance(threads, int) or threads < 1:
        raise ValueError(
            f"enable_acceleration: threads={threads!r}. Give a whole number from 1 on."
        )
    disable_acceleration()
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # keeps import fast

    crew, _blas = Crew(threads), threadpool_limits(1, "blas")
    if "memory" in names:
        _keep_memory()
    switch_on(swap for name in names for swap in SWAPS[name])
    enabled.update(names)


def disable_acceleration() -> None:
    """Put the clear kernels back, end the crew, and give BLAS the threads that it had.

    (The hint to the allocator cannot be taken back; it changes no number.)
    """
    global crew, _blas, _local
    switch_off()
    enabled.clear()
    flats.clear()
    plans.clear()
    crew.close()
    crew, _local = Crew(1), threading.local()
    if _blas is not None:
        _blas.restore_original_limits()
        _blas = None


def acceleration_enabled() -> bool:
    """Whether any kernel is switched on."""
    return bool(enabled)


@contextmanager
def accelerated(threads: int | None = None, only: Iterable[str] | None = None) -> Iterator[None]:
    """`enable_acceleration` inside of a `with` block; afterwards what was on before."""
    before, crew_before = list(enabled), crew.threads
    enable_acceleration(threads, only)
    try:
        yield
    finally:
        disable_acceleration()
        if before:
            enable_acceleration(crew_before, before)

# %% [markdown]
"""
## Use: behind the same layers

Nothing in a model changes. Here a CNN and a small GPT take three training steps with the clear kernels and
three with the fast ones, from the same start: loss and largest difference of any parameter.
"""

# %% demo="same_numbers"
def three_steps(build, x, y):
    """Losses of three Adam steps of a fresh model, and its parameters afterwards."""
    manual_seed(0)
    model, found = build(), []
    driver, loss_fn = Adam(model.parameters(), lr=1e-3), CrossEntropyLoss(label_smoothing=0.1)
    for _ in range(3):
        driver.zero_grad()
        logits = model(x)
        loss = loss_fn(logits.reshape(-1, logits.shape[-1]), np.reshape(y, -1))
        loss.backward()
        driver.step()
        found.append(loss.item())
    return found, np.concatenate([p.data.ravel() for p in model.parameters()])


def cnn():
    return Sequential(Conv2d(3, 16, 3, padding=1), MaxPool2d(2), BatchNorm2d(16), ReLU(),
                      Conv2d(16, 32, 3, padding=1), MaxPool2d(2), ReLU(), Flatten(), Linear(32 * 49, 10))


def gpt():
    return transformer.GPT(transformer.GPTConfig(65, 48, dim=64, heads=4, layers=2))


tokens = np.random.default_rng(0).integers(0, 65, (4, 49))
for name, build, x, y in (("CNN", cnn, Tensor(random(8, 3, 28, 28)), np.arange(8)),
                          ("GPT", gpt, tokens[:, :-1], tokens[:, 1:])):
    clear_losses, clear_weights = three_steps(build, x, y)
    with accelerated(only=set(SWAPS) - {"memory"}):  # kept memory cannot be taken back: measured below
        fast_losses, fast_weights = three_steps(build, x, y)
    print(f"{name}: losses {np.round(clear_losses, 5)} and {np.round(fast_losses, 5)}, "
          f"largest difference {np.abs(clear_weights - fast_weights).max():.1e}")
print("acceleration is", "on" if acceleration_enabled() else "off")

# %% [markdown]
"""
(The CNN's largest difference is a thousand times the GPT's, and all of it is in one array: the bias of the first
convolution. BatchNorm subtracts it again, so its true gradient is 0, and what is left of it is rounding. But
Adam's first steps have the size of the learning rate however small the gradient is. Give that layer
`bias=False`, run the cell again, and look at the difference.)

Now the waterfall: a training step of the CNN of Why, from the seven loops of module 09 (measured on a tiny
picture, and scaled by the number of multiplications) to everything at once, one trick more per line. If
PyTorch is installed, its line is drawn too, with as many threads.
"""

# %% demo="waterfall"
TORCH = """
import sys, time, torch
from torch import nn
torch.set_num_threads(int(sys.argv[1]))
parts = []
for i, o, pool in ((3, 32, 0), (32, 32, 1), (32, 64, 0), (64, 64, 1)):
    parts += [nn.Conv2d(i, o, 3, padding=1, bias=False)] + [nn.MaxPool2d(2)] * pool + [nn.BatchNorm2d(o), nn.ReLU()]
model = nn.Sequential(*parts, nn.Flatten(), nn.Linear(4096, 10))
driver, loss_fn = torch.optim.SGD(model.parameters(), lr=1e-6, momentum=0.9), nn.CrossEntropyLoss()
x, y, times = torch.randn(32, 3, 32, 32), torch.arange(32) % 10, []
for _ in range(8):
    start = time.perf_counter()
    driver.zero_grad(); loss_fn(model(x), y).backward(); driver.step()
    times.append(time.perf_counter() - start)
print(min(times))
"""
x, w = random(1, 4, 8, 8).astype(float), random(4, 4, 3, 3).astype(float)
per_product = best_time(lambda: conv2d_explicit(x, w), 1) / (6 * 6 * 4 * 4 * 9)
threads = _processors()
rows = [("seven loops, estimated", per_product * work / 2)]
rows.append(("matrix products, module 09", best_time(small_cnn(), 3)))
names = []
for label, more in (("+ channels last", ["gemm"]), ("+ Winograd", ["winograd"]),
                    ("+ pool, norm, ReLU", ["pool", "batch_norm", "relu"]),
                    ("+ fused loss, optimizer", ["linear", "cross_entropy", "optimizer"]),
                    ("+ memory kept", ["memory"])):
    names += more
    with accelerated(1, names):
        rows.append((label, best_time(small_cnn(), 5)))
if threads > 1:
    with accelerated(threads):
        rows.append((f"+ a crew of {threads}", best_time(small_cnn(), 5)))
line = None
if find_spec("torch"):
    done = subprocess.run([sys.executable, "-c", TORCH, str(threads)], capture_output=True, text=True)
    line = float(done.stdout) if done.returncode == 0 else None
scale = 50 / np.log10(rows[0][1] / 1e-3)
for label, seconds in rows:
    bar = "#" * max(1, round(scale * np.log10(seconds / 1e-3)))
    if line and len(bar) < (place := round(scale * np.log10(line / 1e-3))):
        bar = bar.ljust(place) + "|"
    print(f"{label:26} {seconds * 1e3:10.1f} ms {rows[1][1] / seconds:9.3g} x  {bar}")
print(f"x is against module 09; each # is {10 ** (1 / scale):.2f} times as long" + (f"; | is PyTorch, {line * 1e3:.1f} ms, {threads} threads" if line else ""))

# %% [markdown]
"""
## Measure

**Each trick alone**, switched on in an otherwise clear step. Predict first: which one helps this network
most, and which not at all? Then compare with the waterfall: together they are worth more than alone,
because what one leaves channels last the next needs not turn around. (`memory` is in all of these lines, the clear
step's too: since the waterfall it is on, and it cannot be taken back. It
may gain nothing: glibc itself keeps more and more once large blocks come back to it.)
"""

# %% demo="each_alone"
clear_seconds = best_time(small_cnn(), 4)
for name in ("gemm", "winograd", "pool", "batch_norm", "relu", "linear", "cross_entropy", "optimizer"):
    with accelerated(1, [name]):
        seconds = best_time(small_cnn(), 4)
    print(f"{name:14} {clear_seconds / seconds:5.2f} x")

# %% [markdown]
"""
**How small may a piece be?** Threads cost: a helper must wake up, and the interpreter's lock goes back and
forth between two calls of NumPy. The same work, a `tanh` of a million numbers, in pieces from tiny to huge, by
a crew.
"""

# %% demo="grain"
numbers, bent = random(1 << 20), np.empty(1 << 20, np.float32)
alone, pair = Crew(1), Crew(2)
print("numbers per piece     one thread    two threads")
for size in (256, 1024, 8192, 65536, 1 << 19):
    parts = pieces(numbers.size, size)
    bend = lambda p: np.tanh(numbers[p], out=bent[p])
    times = [best_time(lambda: each.run(bend, parts), 5) * 1e3 for each in (alone, pair)]
    print(f"{size:14,}     {times[0]:7.2f} ms     {times[1]:7.2f} ms")
pair.close()

# %% [markdown]
"""
Small pieces are slower with two threads than with one: both want the lock all the time. Large ones gain, as
far as memory keeps up (and a second core is free). Between them lies the grain; ours is 65,536 numbers
for what comes by several times while it is in the cache, and four times that for what runs through once.

## Break: a result in borrowed memory

Scratch memory is fast and dangerous. This convolution returns its windows' product in scratch memory, to
save one allocation. Alone it is right. A test with one call passes.
"""

# %% demo="borrowed"
def borrowed(x, weight):
    """A 3x3 convolution whose result lies in scratch memory."""
    matrix = weight.transpose(2, 3, 1, 0).reshape(-1, len(weight))
    rows = columns(x, (3, 3), 1, 1)
    return np.matmul(rows, matrix, out=scratch("borrowed", (len(rows), len(weight))))


w = random(4, 2, 3, 3, seed=1)
first = borrowed(random(1, 5, 5, 2), w)
print("first result, sum of squares: ", (first**2).sum().round(3))
second = borrowed(random(1, 5, 5, 2, seed=9), w)
print("the same array one call later:", (first**2).sum().round(3))
print("two results, one memory:      ", np.shares_memory(first, second))

# %% [markdown]
"""
On the tape that is fatal: layer 1's output has become layer 2's by the time backward reads it, gradients
are wrong, and nothing complains. The rule: scratch memory ends with the kernel; what is returned is new.
A test for it costs two lines: call twice, look at the first result again.

The second classic is adding through an overlapping view.
"""

# %% demo="overlapping"
line = np.zeros(5)
windows = as_strided(line, (3, 3), line.strides * 2)
windows += 1
right = np.zeros(5)
for i in range(3):
    right[i : i + 3] += 1
print("three windows of three add 1 each:", right)
print("by += on the view:                ", line)

# %% [markdown]
"""
What NumPy does with overlapping memory in `+=` depends on its buffers, and on nothing you see. A view may
be read in windows, never added to.

## Reflect

Predict with pencil and paper, write the number into the cell, and the check says whether it holds.

**1.** A convolution of 3x3 with 6x6 results is done by F(4x4), whose tiles reach beyond the edge. How
many times fewer multiplications than the definition are that, per pair of channels?
"""

# %% exercise="predict.edge_tiles"
### BEGIN SOLUTION
edge_tiles = (6 * 6 * 9) / (4 * 36)
### END SOLUTION

# %% check="predict.edge_tiles" points=1
check.prediction("times fewer multiplications on 6 x 6", edge_tiles, "Mi4yNQ==", rel=0.01,
                 why="tiles of 4 x 4 that cover 6 x 6, each 36 multiplications, whole or not")

# %% [markdown]
"""
**2.** `columns` writes out the windows of 3x3 of 4 pictures of 32x32 pixels and 32 channels, padding 1.
How many megabytes (10⁶ bytes) is that in float32?
"""

# %% exercise="predict.window_megabytes"
### BEGIN SOLUTION
window_megabytes = 4 * 32 * 32 * 9 * 32 * 4 / 1e6
### END SOLUTION

# %% check="predict.window_megabytes" points=1
check.prediction("megabytes of windows", window_megabytes, "NC43MTg1OTI=", unit="MB", rel=0.01,
                 why="a row of 9 * 32 numbers per pixel of the result, 4 bytes each: nine times the pictures")

# %% [markdown]
"""
**3.** The framed pictures are (N, 34, 34, 32), float32, contiguous. A convolution has stride 2. How many
bytes lie between a window and the window **below** it?
"""

# %% exercise="predict.stride_bytes"
### BEGIN SOLUTION
stride_bytes = 2 * 34 * 32 * 4
### END SOLUTION

# %% check="predict.stride_bytes" points=1
check.prediction("bytes from a window to the one below", stride_bytes, "ODcwNA==", unit="bytes", rel=0.001,
                 why="two rows of pixels, each 34 pixels of 32 numbers of 4 bytes")

# %% [markdown] question="what_was_bought" points=4
"""
**Open question, graded by a person.** Take two kernels of this module. (a) For each say which of the four
ideas of Foundations it uses, and which of its inputs it must refuse, and why. (b) Show with a measurement of
your own, switching kernels on one by one, a case in which one of them does **not** help or even hurts
(another batch, another width, another thread count), and explain it. (c) A colleague proposes to switch
`enable_acceleration()` on by default and to delete the clear code. Argue for or against.

*Your answer:*
"""

# %% [markdown]
"""
## In production

PyTorch's convolutions come from oneDNN and cuDNN, which choose among direct, GEMM, Winograd and FFT kernels by
shape, measure them if you allow it (`torch.backends.cudnn.benchmark`), and keep tensors in blocked layouts
that no user sees; `channels_last` is the one you may ask for. Fusing is left to compilers: `torch.compile`,
XLA and TVM find chains like bias, GELU, dropout and write one kernel for each; FlashAttention was written
by hand, because its gain needs another algorithm. Flat parameters are the `fused` and `foreach` optimizers, and
the buckets of distributed training. A crew around single-threaded kernels is what databases and image
servers do; PyTorch has threads inside each operation.

Winograd's forms are those of Lavin and Gray (2016). What we are not building: FFT convolutions, half
precision (a CPU of today has instructions for bfloat16, NumPy has none), kernels in C. Within NumPy, the
last factor is BLAS's own: `tito system doctor` says whether yours uses the best kernels of the processor.

## When it fails

| symptom | cause | where to look |
|---|---|---|
| `cannot reshape array` | rows and pixels counted differently | (N*OH*OW, KH*KW*C) is (N, OH, OW, KH, KW*C) |
| `could not broadcast` | a view, a stretch or a tile of another shape; scale (R, 1) filled from (R,) | print both shapes; `scale[:, 0]` |
| `could not be broadcast` | a mean or sum without keepdims; a slice with a step that stops too early | `keepdims=True`; `i : i + stride * oh : stride` |
| `mismatch in its core dimension` | a product whose inner sizes differ | filters (KH*KW*C, O); tiles (a, a * M) behind a matrix (b, a) |
| `length of strides` | `as_strided` with more or fewer strides than axes | five axes, five strides |
| `output array` | `out=` of another shape or type than the result | `y.reshape(-1, o)`; float32 throughout |
| `casting rule` | adding None, or float64 into float32 in place | `if bias is not None`; float32 throughout |
| `changed size during iteration` | a dict is emptied while a loop walks over it | `while originals:` and `popitem()` |
| `local variable 'originals'` | `originals = ...` makes a name of the function's own | empty the dict, do not replace it |
| `not callable` | `submit(take())` calls it at once | `submit(take)` |
| `NoneType` | a function gives None, or there is no pool with one thread | is a `return` missing? `range(helpers)` |
| `KeyError` | a class has only inherited this function | swap it where it is defined |
| `no kernel` | a name that SWAPS does not have | the message lists them |
| numbers of somebody else's picture | a wrong stride: no error is raised | the window (0, 1) and (1, 0), by hand |
| the first result changes with the second call | it lies in scratch memory | return new arrays |
| results differ from run to run | sums in the order in which threads ended | results in the order of the pieces |
| a layer learns no more, no error | the optimizer updates a copy | `np.shares_memory(param.data, whole)` |
"""
