# %% [markdown]
"""
# 15 · Quantization

A weight in float32 takes 32 bits, and a network hardly notices when it gets 8. This module turns real
numbers into small integers and back, computes with the integers, and writes models into files a quarter of
the size, with the loss of accuracy measured.

```
you have built     models that are trained: 09 CNNs, 13 GPT; 14 where time and bytes go
        |
        v
you build now      scales and zero points, rounding, INT4 in half bytes, an observer for
                   calibration, the integer product, quantized layers, quantize(model)
        |
        v
this unlocks       16 makes models smaller still; 20 and milestone 2024: 4x smaller, and
                   tinytorch.save and tinytorch.load, the format of model files
```

Time: about 4 hours. Every exercise is a cell with a hole in it, and the cell below it checks your answer.
Run `tito watch` in a terminal beside this notebook.
"""

# %% given="imports"
#| default_exp optim.quantization
#| export
import copy
import dataclasses
import json
import math
import os
import re
import sys
import zlib
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import safetensors.numpy

import tinytorch.nn.conv as kernels
from tinytorch.core.activations import Activation
from tinytorch.core.autograd import no_grad
from tinytorch.core.layers import Linear, Module, Parameter
from tinytorch.core.tensor import Tensor
from tinytorch.nn.attention import MultiHeadAttention
from tinytorch.nn.embedding import Embedding, token_ids
from tinytorch.nn.transformer import GPTConfig

# %% given="tools"
import tempfile
import time

import tito.checks as check
from threadpoolctl import threadpool_limits
from tinytorch.core.activations import ReLU
from tinytorch.core.layers import Flatten, Sequential
from tinytorch.core.losses import CrossEntropyLoss
from tinytorch.core.optimizers import AdamW
from tinytorch.core.tensor import manual_seed
from tinytorch.core.training import accuracy, train_loop
from tinytorch.data.loader import load_tinydigits
from tinytorch.nn.conv import BatchNorm2d, Conv2d, MaxPool2d
from tinytorch.nn.transformer import GPT
from tito.notebook import method_of

threadpool_limits(1)  # one core, so that times can be compared
_f = np.float32  # for the checks


def right(model, images, labels):
    """Share of images that the model names rightly, in eval mode."""
    model.eval()
    with no_grad():
        return accuracy(model(Tensor(images)), labels)

# %% [markdown]
"""
## Why: 8 bits are enough, but which ones?

A small CNN for the digits of module 08, trained right here, in seconds. It is the patient of this module.
"""

# %% demo="the_patient"
digits = load_tinydigits()
train_x, test_x = (images[:, None] / np.float32(16) for images in (digits.train_images, digits.test_images))
test_y = digits.test_labels
manual_seed(0)
net = Sequential(
    Conv2d(1, 16, 3, padding=1, bias=False), BatchNorm2d(16), ReLU(), MaxPool2d(2),
    Conv2d(16, 32, 3, padding=1, bias=False), BatchNorm2d(32), ReLU(), MaxPool2d(2),
    Flatten(), Linear(128, 128), ReLU(), Linear(128, 10),
)
start = time.perf_counter()
train_loop(net, (train_x, digits.train_labels), CrossEntropyLoss(),
           AdamW(net.parameters(), lr=3e-3, weight_decay=0.01), epochs=4, batch_size=64)
print(f"trained in {time.perf_counter() - start:.1f} s; right on 1,000 scans it has not seen: "
      f"{right(net, test_x, test_y):.1%}")
weights = net[9].weight.data
print(f"one layer's weights: {weights.size:,} numbers of {weights.itemsize} bytes, "
      f"from {weights.min():.3f} to {weights.max():.3f}")

# %% [markdown]
"""
NumPy has a type of one byte: `int8`, whole numbers from -128 to 127. So why not simply convert?
"""

# %% demo="just_convert"
rounded = copy.deepcopy(net)
for parameter in rounded.parameters():
    if parameter.ndim > 1:
        parameter.data = parameter.data.astype(np.int8).astype(np.float32)
print("int8 weights that are not 0:", sum(int((p.data != 0).sum()) for p in rounded.parameters() if p.ndim > 1))
print(f"right: {right(rounded, test_x, test_y):.1%}")

# %% [markdown]
"""
Every weight lies between -1 and 1, and the conversion cuts the fraction off: all of them became 0, and the
network guesses. Of 256 integers we used one. What is missing is a **scale**: how much is one step of the
integer worth?

## Foundations: three bits, by hand

Three bits make eight patterns. Let us use the seven integers from -3 to 3, as many below zero as above. The
largest weight, in size, shall become 3. So one step is worth 1/3 of it:

```
weights          -1.0    0.4    0.25   0.9        largest size 1.0
scale             1.0 / 3 = 0.3333
divided          -3.0    1.2    0.75   2.7
rounded          -3      1      1      3          <- these are stored, with one scale
times the scale  -1.0    0.333  0.333  1.0
error             0     -0.067  0.083  0.1        at most half a step: 0.167
```

That is **symmetric** quantization. Real 0 is integer 0, and the error is at most half a scale. A bit more
means twice as many steps, half the scale, half the error.

What comes out of a ReLU has no negative numbers. Symmetric integers would waste their lower half. **Affine**
quantization uses all eight patterns, 0 to 7, and says which integer stands for 0, the **zero point**:

```
values            0.0   -0.2    0.6    1.2        from -0.2 to 1.2
scale             (1.2 - (-0.2)) / 7 = 0.2
zero point        0.2 / 0.2 = 1                   -0.2 must become 0, so 0.0 becomes 1
integer           1      0      4      7          round(value / scale) + 1
back              0.0   -0.2    0.6    1.2        (integer - 1) * scale
```

The zero point is a whole number, so real 0 comes back as exactly 0. That matters: zeros are the most
frequent activation, and the frame around a picture is made of them.

Last, one scale for a whole matrix, or one per row?

```
row 0     0.9   -0.7    0.8       one scale for all, 8 bits: 0.9 / 127 = 0.0071
row 1     0.002 -0.001  0.003     row 1 becomes 0 0 0
                                  a scale of its own: 0.003 / 127 = 0.000024; row 1 becomes 85 -42 127
```

A row of a linear layer's weight is an output **channel**; so is a filter of a convolution. One scale each
costs 4 bytes per row, and saves the small rows from the big ones.

## Build

### What the integers may be

`Scheme` says how a tensor becomes integers: how many bits, symmetric or affine, one scale for all
(`axis=None`) or one per index of an axis. `low` and `high` are the smallest and the largest integer:

```
bits   symmetric           affine
  8    -127 ... 127        0 ... 255       (-128 is left out: no plus 128 stands against it)
  4      -7 ...   7        0 ...  15
```
"""

# %% given="Scheme"
#| export
@dataclasses.dataclass(frozen=True)
class Scheme:
    """How real numbers become integers of 2 to 8 bits.

    symmetric: as many integers below 0 as above, and 0 is 0; else from 0 up, with a zero point.
    axis: one scale per index of that axis; None: one for all. Raises ValueError for other bits.

    >>> Scheme(4).low, Scheme(4).high, Scheme(4, symmetric=False).high
    (-7, 7, 15)
    """

    bits: int = 8
    symmetric: bool = True
    axis: int | None = None

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= 8:
            raise ValueError(f"Scheme: bits={self.bits} must be from 2 to 8.")

    @property
    def low(self) -> int:
        """The smallest integer."""
        return -self.high if self.symmetric else 0

    @property
    def high(self) -> int:
        """The largest integer."""
        return int(2 ** (self.bits - self.symmetric) - 1)

    @property
    def dtype(self) -> type[np.integer]:
        """The type that holds them, one byte each."""
        return np.int8 if self.symmetric else np.uint8

# %% [markdown]
"""
### The symmetric scale

From the smallest and the largest real number to the scale: whichever is larger in size becomes `top`, 127
for 8 bits. `low` and `high` are arrays, since there may be one pair per channel.

And a channel of nothing but zeros? Its scale would be 0, and the first division by it a `nan`. Any scale
does for zeros: take 1.
"""

# %% exercise="symmetric_scale"
#| exporti
def symmetric_scale(low: np.ndarray, high: np.ndarray, top: int) -> np.ndarray:
    """What one step is worth so that the larger of |low| and |high| becomes `top`; 1 if both are 0.

    low, high: arrays of one shape, the smallest and largest real numbers; result of that shape.

    >>> symmetric_scale(np.array([-1.0, -2.0]), np.array([0.5, 6.0]), 2).tolist()
    [0.5, 3.0]
    """
    ### BEGIN SOLUTION
    scale = np.maximum(np.abs(low), np.abs(high)) / top
    return np.where(scale > 0, scale, 1.0)
    ### END SOLUTION

# %% check="symmetric_scale" points=4
check.close("low -1, high 0.9, three bits (top 3)", symmetric_scale(np.array(-1.0), np.array(0.9), 3), 1 / 3,
            why="the largest size is 1.0 and becomes 3: the table in Foundations")
check.close("four channels, top 127",
            symmetric_scale(np.array([-1.0, -2.0, 0.5, -4.0]), np.array([0.5, 6.35, 2.54, -1.0]), 127),
            [1 / 127, 0.05, 0.02, 4 / 127],
            why="each channel by itself: 1, 6.35, 2.54 and 4 are the largest sizes, divided by 127")
with np.errstate(all="raise"):
    check.close("a channel of zeros beside another one, top 127",
                symmetric_scale(np.zeros((2, 1)), np.array([[0.0], [12.7]]), 127), [[1.0], [0.1]],
                why="a scale of 0 would make 0 / 0 = nan of the channel; shapes stay as they are")

# %% [markdown]
"""
### The affine scale and its zero point

The integers are 0 to `top` (255), and two rules decide everything:

- the range must **contain 0**, or real 0 has no integer. Numbers from 2 to 6 count as 0 to 6, numbers from
  -5 to -1 as -5 to 0;
- the smallest number becomes 0. So real 0, which lies `-low / scale` steps above it, becomes that integer,
  **rounded**: the zero point.

```
low -1.0, high 3.0, top 255      scale 4 / 255 = 0.01569     zero point 1 / 0.01569 = 63.75 -> 64
```

Again a range of nothing gets the scale 1 (and then the zero point 0).
"""

# %% exercise="affine_parameters"
#| exporti
def affine_parameters(low: np.ndarray, high: np.ndarray, top: int) -> tuple[np.ndarray, np.ndarray]:
    """(scale, zero point) so that the range from low to high, widened to contain 0, becomes 0 to top.

    low, high: arrays of one shape; both results have it, the zero points are whole numbers.
    Source: Jacob et al. 2018, section 2.1.

    >>> scale, zero_point = affine_parameters(np.array(-1.0), np.array(4.0), 10)
    >>> float(scale), int(zero_point)
    (0.5, 2)
    """
    ### BEGIN SOLUTION
    low, high = np.minimum(low, 0), np.maximum(high, 0)
    scale = (high - low) / top
    scale = np.where(scale > 0, scale, 1.0)
    return scale, np.rint(-low / scale)
    ### END SOLUTION

# %% check="affine_parameters" points=6
_pair = affine_parameters(np.array(-0.2), np.array(1.2), 7)
check.equal("number of results", len(_pair), 2, why="the scale and the zero point")
check.close("from -0.2 to 1.2 with three bits (top 7): scale", _pair[0], 0.2, why="1.4 / 7")
check.close("its zero point", _pair[1], 1, why="0.2 / 0.2: real 0 lies one step above the smallest number")
_scale, _zero = affine_parameters(np.array([-1.0, 2.0, -5.0, -2.55]), np.array([3.0, 5.1, -1.0, 0.0]), 255)
check.close("four ranges, [-1, 3] [2, 5.1] [-5, -1] [-2.55, 0], top 255: scales", _scale,
            [4 / 255, 0.02, 5 / 255, 0.01], why="each range is widened to contain 0 first: [2, 5.1] counts as [0, 5.1]")
check.close("their zero points", _zero, [64, 0, 255, 255],
            why="63.75 rounds to 64; nothing below 0: 0; nothing above 0: 255")
with np.errstate(all="raise"):
    _scale, _zero = affine_parameters(np.zeros((2, 1)), np.array([[0.0], [25.5]]), 255)
check.close("a channel of zeros beside another one: scales", _scale, [[1.0], [0.1]], why="not 0: 0 / 0 is nan")
check.close("its zero points", _zero, [[0], [0]], why="-low is 0")

# %% [markdown]
"""
### The range, per tensor or per channel

With `axis=None` the range of `x` is two numbers. With `axis=0`, one pair per index of axis 0: the minimum
goes over all the **other** axes. Keep those as axes of size 1, and what you get broadcasts against `x`
whatever its shape:

```
x (16, 3, 3, 3), axis 0     low, high (16, 1, 1, 1)
x (10, 128),     axis 0     low, high (10, 1)
x (10, 128),     axis 1     low, high (1, 128)
```
"""

# %% exercise="value_range"
#| exporti
def value_range(x: np.ndarray, axis: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """(smallest, largest) number of x, or one pair per index of `axis`, which broadcast against x.

    axis None: two scalars; else two arrays of x's shape with all other axes of size 1.

    >>> low, high = value_range(np.array([[1.0, -2.0], [5.0, 3.0]]), axis=0)
    >>> low.tolist(), high.tolist()
    ([[-2.0], [3.0]], [[1.0], [5.0]])
    """
    ### BEGIN SOLUTION
    if axis is None:
        return x.min(), x.max()
    others = tuple(i for i in range(x.ndim) if i != axis % x.ndim)
    return x.min(axis=others, keepdims=True), x.max(axis=others, keepdims=True)
    ### END SOLUTION

# %% check="value_range" points=4
_x = np.array([[0.9, -0.7, 0.8], [0.002, -0.001, 0.003]])
_low, _high = value_range(_x)
check.close("axis None: the smallest of all", _low, -0.7, why="one range for the whole tensor")
check.close("axis None: the largest of all", _high, 0.9)
_low, _high = value_range(_x, 0)
check.close("axis 0: the smallest of each row", _low, [[-0.7], [-0.001]],
            why="one per row, of shape (2, 1): it must broadcast against x")
check.close("axis 0: the largest of each row", _high, [[0.9], [0.003]])
check.close("axis 1: the smallest of each column", value_range(_x, 1)[0], [[0.002, -0.7, 0.003]])
_w = np.random.default_rng(0).normal(size=(4, 3, 2, 5))
check.close("axis 0 of (4, 3, 2, 5): the largest of each filter", value_range(_w, 0)[1],
            np.array([_f.max() for _f in _w]).reshape(4, 1, 1, 1), why="over all axes but axis 0")
check.close("axis 1 of (4, 3, 2, 5)", value_range(_w, 1)[0],
            np.array([_w[:, _i].min() for _i in range(3)]).reshape(1, 3, 1, 1), why="over axes 0, 2 and 3")
check.close("axis -1 of (4, 3, 2, 5)", value_range(_w, -1)[0],
            np.array([_w[..., _i].min() for _i in range(5)]).reshape(1, 1, 1, 5),
            why="a negative axis counts from the end: axis % x.ndim")

# %% [markdown]
"""
Together the three make `quantization_parameters` (given), which refuses what has no range. The scale is
float32, the zero point int32.
"""

# %% given="range_parameters"
#| exporti
Pair = tuple[np.ndarray, np.ndarray]  # scale and zero point


def range_parameters(low: np.ndarray | float, high: np.ndarray | float, scheme: Scheme) -> Pair:
    """(scale, zero_point) for real numbers from low to high: float32 and int32, of their shape."""
    low, high = np.asarray(low, dtype=np.float64), np.asarray(high, dtype=np.float64)
    if scheme.symmetric:
        scale, zero = symmetric_scale(low, high, scheme.high), np.zeros(low.shape)
    else:
        scale, zero = affine_parameters(low, high, scheme.high)
    scale = np.maximum(scale, np.finfo(np.float32).tiny)
    return np.asarray(scale, dtype=np.float32), np.asarray(zero, dtype=np.int32)

# %% given="quantization_parameters"
#| export
def quantization_parameters(x: np.ndarray, scheme: Scheme) -> Pair:
    """(scale, zero_point) for the numbers in x, scalars or one per channel; they broadcast against x.

    Raises ValueError if x is empty or holds nan or inf.

    >>> scale, zero_point = quantization_parameters(np.array([-254.0, 10.0]), Scheme(8))
    >>> float(scale), int(zero_point)
    (2.0, 0)
    """
    x = np.asarray(x)
    if x.size == 0 or not np.isfinite(x).all():
        raise ValueError(f"quantization: {x.shape} is empty or holds nan or inf: it has no range.")
    return range_parameters(*value_range(x, scheme.axis), scheme)

# %% [markdown]
"""
### To integers

`round(x / scale) + zero_point`, then cut what lies outside of `scheme.low` to `scheme.high`, then the type.
Each of the three has a trap:

- `astype(np.int8)` alone does not round, it cuts the fraction off: 2.9 becomes 2, and the error doubles.
  `np.rint` rounds (a half goes to the even neighbour, as in PyTorch: 0.5 → 0, 1.5 → 2);
- conversion to int8 **wraps around** without a word: 130 becomes -126, the largest number turns into
  nearly the smallest. Clip first;
- the type is the scheme's, `scheme.dtype`: symmetric int8, affine uint8.
"""

# %% exercise="quantize_array"
#| export
def quantize_array(
    x: np.ndarray, scale: np.ndarray | float, zero_point: np.ndarray | int, scheme: Scheme
) -> np.ndarray:
    """round(x / scale) + zero_point, cut to the scheme's integers: an array of its dtype, x's shape.

    scale, zero_point: as quantization_parameters gives them. Halves round to even.
    Raises ValueError for nan. Cost: about four passes over x. Source: torch.quantize_per_tensor.

    >>> quantize_array(np.array([-1.0, 0.4, 0.25, 0.9]), 1 / 3, 0, Scheme(3)).tolist()
    [-3, 1, 1, 3]
    """
    x = np.asarray(x)
    if np.isnan(x).any():
        raise ValueError("quantize_array: x holds nan, which no integer can stand for.")
    ### BEGIN SOLUTION
    q = np.rint(x / scale) + zero_point
    return np.asarray(np.clip(q, scheme.low, scheme.high), dtype=scheme.dtype)
    ### END SOLUTION

# %% check="quantize_array" points=6
_x = np.array([-1.0, 0.4, 0.25, 0.9], _f)
_got = quantize_array(_x, _f(1 / 3), np.int32(0), Scheme(3))
check.close("Foundations, three bits symmetric", _got, [-3, 1, 1, 3], why="-3, 1.2, 0.75 and 2.7, rounded")
check.equal("its type", str(getattr(_got, "dtype", type(_got).__name__)), "int8", why="scheme.dtype: one byte each")
_got = quantize_array(np.array([0.0, -0.2, 0.6, 1.2], _f), _f(0.2), np.int32(1), Scheme(3, symmetric=False))
check.close("Foundations, three bits affine, zero point 1", _got, [1, 0, 4, 7],
            why="the zero point is added after rounding")
check.equal("its type", str(getattr(_got, "dtype", type(_got).__name__)), "uint8", why="0 to 255 does not fit int8")
check.close("halves: 0.5 1.5 2.5 -0.5 -1.5, scale 1", quantize_array(np.array([0.5, 1.5, 2.5, -0.5, -1.5], _f), _f(1),
            np.int32(0), Scheme(8)), [0, 2, 2, 0, -2], why="to the even neighbour, as np.rint and PyTorch do")
check.close("scale 1, values 130, -130, 126.4, -128", quantize_array(np.array([130, -130, 126.4, -128], _f), _f(1),
            np.int32(0), Scheme(8)), [127, -127, 126, -127], why="cut, not wrapped around: 130 as int8 is -126")
check.close("affine, zero point 64: values -100, 0, 250", quantize_array(np.array([-100, 0, 250.0], _f), _f(1),
            np.int32(64), Scheme(8, symmetric=False)), [0, 64, 255], why="cut to 0 and 255 after the zero point is added")
check.close("four bits: values 9, -9, 7.4", quantize_array(np.array([9, -9, 7.4], _f), _f(1), np.int32(0), Scheme(4)),
            [7, -7, 7], why="the scheme's low and high, not int8's")
_rows = np.array([[0.9, -0.7, 0.8], [0.002, -0.001, 0.003]], _f)
_scale = np.array([[0.9 / 127], [0.003 / 127]], _f)
check.close("one scale per row", quantize_array(_rows, _scale, np.zeros((2, 1), np.int32), Scheme(8, axis=0)),
            [[127, -99, 113], [85, -42, 127]], why="(2, 1) broadcasts: each row by its own scale")

# %% [markdown]
"""
### And back

`(q - zero_point) * scale`. Easy, but for one thing: `q` is uint8, and in uint8 there is nothing below 0.
`np.uint8(0) - np.uint8(1)` is 255. Give `q` a wider type **before** you subtract. The result is float32.
"""

# %% exercise="dequantize_array"
#| export
def dequantize_array(q: np.ndarray, scale: np.ndarray, zero_point: np.ndarray | int) -> np.ndarray:
    """(q - zero_point) * scale, the real numbers that the integers stand for, as float32.

    scale, zero_point: scalars, or arrays that broadcast against q.

    >>> dequantize_array(np.array([1, 0, 4, 7], np.uint8), np.float32(0.5), np.uint8(1)).tolist()
    [0.0, -0.5, 1.5, 3.0]
    """
    ### BEGIN SOLUTION
    steps = q.astype(np.float32) - np.asarray(zero_point, dtype=np.float32)
    return np.asarray(steps * scale, dtype=np.float32)
    ### END SOLUTION

# %% check="dequantize_array" points=4
_q = np.array([1, 0, 4, 7], np.uint8)
for _type in (np.int32, np.uint8):
    check.close(f"Foundations, affine, zero point 1 as {_type.__name__}",
                dequantize_array(_q, _f(0.2), np.asarray(1, _type)), [0.0, -0.2, 0.6, 1.2],
                why="0 - 1 is -1, not 255: a wider type first")
check.close("symmetric int8, the extremes", dequantize_array(np.array([-127, 127, 0], np.int8), _f(0.5), np.int32(0)),
            [-63.5, 63.5, 0])
_got = dequantize_array(np.array([[0, 255], [3, 5]], np.uint8), np.array([[2.0], [0.5]], _f),
                        np.array([[128], [4]], np.int32))
check.close("a scale and a zero point per row", _got, [[-256, 254], [-0.5, 0.5]], why="(2, 1) broadcasts against q")
check.equal("type of the result", str(getattr(_got, "dtype", "")), "float32",
            why="float64 would double the memory of all that follows")
_x = np.random.default_rng(1).normal(size=(50, 40)).astype(_f)
for _scheme in (Scheme(8), Scheme(4, axis=0), Scheme(8, symmetric=False), Scheme(3, symmetric=False, axis=1)):
    _scale, _zero = quantization_parameters(_x, _scheme)
    _error = np.abs(dequantize_array(quantize_array(_x, _scale, _zero, _scheme), _scale, _zero) - _x) / _scale
    check.true(f"{_scheme}: there and back, the error is at most half a step (affine: one)",
               _error.max() <= (0.501 if _scheme.symmetric else 1.001), got=float(_error.max()),
               why="rounding moves a number by half a step; a rounded zero point may cut half a step at the ends")

# %% [markdown]
"""
### Four bits: two numbers in a byte

The smallest piece of memory that NumPy can address is a byte. Integers from -8 to 7 need half of one, so
two of them share a byte, the first in the **low** half:

```
numbers        3      -2        5      (odd: a 0 is added)
four bits      0011    1110     0101    0000
byte           1110 0011        0000 0101
               = 0xE3           = 0x05
```

-2 in four bits is 1110: negative numbers count down from 16 (16 - 2 = 14 = 1110). `q & 15` gives exactly
that, for negative numbers too. Then `first | (second << 4)` puts the second above the first. Do it on whole
arrays: `a[0::2]` are the first ones, `a[1::2]` the second ones, in the order of `q.ravel()`.
"""

# %% exercise="pack_int4"
#| export
def pack_int4(q: np.ndarray) -> np.ndarray:
    """Integers from -8 to 7, two in a byte, the first in the low half: uint8, (ceil(q.size / 2),).

    q: any shape, read in its order; after an odd number comes a 0.
    Raises ValueError naming the smallest and largest if they do not fit.

    >>> [hex(byte) for byte in pack_int4(np.array([3, -2, 5]))]
    ['0xe3', '0x5']
    """
    q = np.asarray(q)
    if q.size and (q.min() < -8 or q.max() > 7):
        raise ValueError(f"pack_int4: {q.min()} to {q.max()} do not fit four bits, -8 to 7.")
    ### BEGIN SOLUTION
    halves = (np.append(q, [0] * (q.size % 2)).astype(np.int8) & 15).astype(np.uint8)
    return halves[0::2] | (halves[1::2] << 4)
    ### END SOLUTION

# %% check="pack_int4" points=5
_got = pack_int4(np.array([3, -2, 5, 0], np.int8))
check.equal("type and shape of [3, -2, 5, 0] packed", (str(getattr(_got, "dtype", "")), np.shape(_got)), ("uint8", (2,)),
            why="two bytes")
check.equal("its bytes", [hex(int(_b)) for _b in np.ravel(_got)], ["0xe3", "0x5"],
            why="3 is 0011 in the low half, -2 is 1110 in the high half")
check.equal("an odd number, [3, -2, 5]", [hex(int(_b)) for _b in pack_int4(np.array([3, -2, 5], np.int8))],
            ["0xe3", "0x5"], why="a 0 is added at the end, and nothing is lost")
check.equal("the ends, [-8, 7, -1, -7]", [hex(int(_b)) for _b in pack_int4(np.array([-8, 7, -1, -7], np.int8))],
            ["0x78", "0x9f"], why="-8 is 1000, 7 is 0111; -1 is 1111, -7 is 1001")
check.equal("a matrix [[1, 2, 3], [4, 5, 6]]", [hex(int(_b)) for _b in np.ravel(pack_int4(np.array([[1, 2, 3], [4, 5, 6]])))],
            ["0x21", "0x43", "0x65"], why="rows one after the other, and one axis in the end")
check.equal("nothing", np.shape(pack_int4(np.zeros((0, 3), np.int8))), (0,))

# %% [markdown]
"""
Taking it apart: `byte & 15` is the low half, `byte >> 4` the high half, each from 0 to 15, interleaved
again, cut to as many as the shape wants. Then the sign: 8 to 15 stand for -8 to -1.
"""

# %% exercise="unpack_int4"
#| export
def unpack_int4(packed: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The integers that `pack_int4` packed, as an int8 array of `shape`.

    packed: uint8. Raises ValueError naming both if it does not hold that many.

    >>> unpack_int4(np.array([0xE3, 0x05], np.uint8), (3,)).tolist()
    [3, -2, 5]
    """
    count = math.prod(shape)
    if packed.size != -(-count // 2):
        raise ValueError(f"unpack_int4: {packed.size} bytes do not hold {count} numbers {shape}.")
    ### BEGIN SOLUTION
    halves = np.stack([packed & 15, packed >> 4], axis=1).ravel()[:count].astype(np.int8)
    return np.where(halves > 7, halves - 16, halves).astype(np.int8).reshape(shape)
    ### END SOLUTION

# %% check="unpack_int4" points=4
_got = unpack_int4(np.array([0xE3, 0x05], np.uint8), (3,))
check.close("0xe3 0x05 as three numbers", _got, [3, -2, 5], why="low half first; 1110 is 14 - 16 = -2")
check.equal("their type", str(getattr(_got, "dtype", "")), "int8", why="they have a sign")
check.close("0x78 0x9f", unpack_int4(np.array([0x78, 0x9F], np.uint8), (4,)), [-8, 7, -1, -7])
_q = np.random.default_rng(2).integers(-8, 8, (5, 3, 3)).astype(np.int8)
_bytes = [int(_a % 16) + 16 * int(_b % 16) for _a, _b in zip(*[iter([*_q.ravel().astype(int), 0])] * 2)]
check.close("45 numbers of shape (5, 3, 3)", unpack_int4(np.array(_bytes, np.uint8), (5, 3, 3)), _q,
            why="in the order they were packed, without the 0 that was added")

# %% [markdown]
"""
### Calibration: watching activations

Weights lie still; you have their range before you start. Activations come anew with every input. There are
two ways to get their range:

- **dynamic**: measure it in every call. Always right, costs a pass over the input, and the same picture
  gets a slightly different scale in other company;
- **static**: run some typical inputs through the model once, watch, and fix the range: calibration.

The watcher is an `Observer`. Without a `percentile` it keeps the smallest and largest number of all batches
so far. One outlier, a single activation of 80 where all others are below 4, then makes all steps twenty
times as coarse. With `percentile=99.9`, a batch counts from its 0.1th to its 99.9th percentile, and `low`
and `high` are the **average** of the batches so far: outliers are cut off, so that all the others are finer.
An average without a list: after the n-th batch, `mean += (new - mean) / n`.

`np.percentile(x, [0.1, 99.9])` gives both.
"""

# %% given="Observer"
#| export
class Observer:
    """Watches the range of what passes: smallest and largest so far, or averaged percentiles.

    percentile: None, or between 50 and 100. `batches` counts what was seen.
    """

    def __init__(self, percentile: float | None = None) -> None:
        self.percentile, self.batches, self.low, self.high = percentile, 0, 0.0, 0.0

    def parameters(self, scheme: Scheme) -> Pair:
        """(scale, zero_point) for the range seen so far. Raises ValueError if there is none."""
        if not self.batches:
            raise ValueError("Observer: nothing seen yet. Call observe(x) with typical inputs.")
        return range_parameters(self.low, self.high, scheme)

# %% exercise="Observer.observe"
#| export
@method_of(Observer)
def observe(self, x: np.ndarray) -> None:
    """Count one batch x, an array of any shape: moves low, high and batches.

    >>> observer = Observer()
    >>> observer.observe(np.array([1.0, 4.0]))
    >>> observer.observe(np.array([2.0, 9.0]))
    >>> observer.low, observer.high
    (1.0, 9.0)
    """
    ### BEGIN SOLUTION
    self.batches += 1
    if self.percentile is not None:
        low, high = np.percentile(x, [100 - self.percentile, self.percentile])
        self.low += float(low - self.low) / self.batches
        self.high += float(high - self.high) / self.batches
    else:
        first = self.batches == 1
        self.low = float(x.min()) if first else min(self.low, float(x.min()))
        self.high = float(x.max()) if first else max(self.high, float(x.max()))
    ### END SOLUTION

# %% check="Observer.observe" points=5
def _seen(observer, *batches):
    for batch in batches:
        observer.observe(np.array(batch, np.float32))
    return [observer.low, observer.high, observer.batches]


check.close("low, high, batches after [1, 4]", _seen(Observer(), [1, 4]), [1, 4, 1],
            why="0 is not among the numbers: the first batch sets the range")
check.close("after [1, 4], [2, 9], [3, 3]", _seen(Observer(), [1, 4], [2, 9], [3, 3]), [1, 9, 3],
            why="smallest and largest of all batches")
check.close("after [-1, -4], [-2, -3]", _seen(Observer(), [-1, -4], [-2, -3]), [-4, -1, 2],
            why="the largest so far is -1, not 0")
check.close("after a (2, 2) and a (1, 3) batch", _seen(Observer(), [[1, 2], [3, 4]], [[-5, 0, 2]]), [-5, 4, 2])
_line = np.arange(101.0)
check.close("percentile 90 of 0, 1, … 100", _seen(Observer(90), _line), [10, 90, 1],
            why="from the 10th percentile to the 90th")
check.close("and then of 100, 101, … 200, and of 0, 1, … 100 again",
            _seen(Observer(90), _line, _line + 100, _line), [130 / 3, 370 / 3, 3],
            why="the average of 10, 110, 10 and of 90, 190, 90: each batch counts the same")
check.close("percentile 100 averages the extremes", _seen(Observer(100), [0, 4], [-2, 8]), [-1, 6, 2],
            why="the average of the batches' smallest and largest")

# %% [markdown]
"""
### The integer product

A linear layer is a sum of products, `Σ x w`. With integers: `Σ (q_x - z) s_x * q_w s_w`. Both scales are
the same for all the summands of one output (the weight's scale is that of its row), so they can be pulled
out of the sum, and what is left is a sum of products of **integers**. Hardware with 8-bit multipliers does
that very fast, adding up in int32.

NumPy has no such hardware call. `a @ b` of int8 arrays adds up *in int8* and wraps around; of int32 arrays
it is right, and runs in plain loops, far slower than BLAS. But BLAS computes in float32, and float32 has 24
bits: **whole numbers up to 2²⁴ = 16,777,216 are exact**. The largest product is 255 * 128 = 32,640 in size.
So up to 512 of them, in any order, add up to at most 16,711,680: exact, whatever BLAS does.

```
K = 1300 columns     0 ... 511 | 512 ... 1023 | 1024 ... 1299
                     float32 product of each piece, exact, as int32; their sum in int32
```

Go through K in pieces of `EXACT` columns. `a` is (N, K), `b` is (M, K): the product wants `b` transposed.
"""

# %% exercise="integer_product"
#| exporti
EXACT = 512  # products of 8-bit integers that float32 adds up without rounding: 512*255*128 < 2**24


def integer_product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a @ b.T of 8-bit integers, exact: (N, K), (M, K) -> (N, M) int32.

    Raises ValueError for different K, or K above 65,536, where int32 may overflow.
    Cost: 2*N*M*K FLOPs in float32 BLAS, and a float32 copy of both.

    >>> integer_product(np.array([[255, 1]], np.uint8), np.array([[127, -127]], np.int8)).tolist()
    [[32258]]
    """
    if a.shape[1] != b.shape[1] or a.shape[1] > 2**16:
        raise ValueError(f"integer_product: {a.shape}, {b.shape}: columns differ, or are > 65,536.")
    total = np.zeros((len(a), len(b)), dtype=np.int32)
    ### BEGIN SOLUTION
    for start in range(0, a.shape[1], EXACT):
        piece = slice(start, start + EXACT)
        left, right = a[:, piece].astype(np.float32), b[:, piece].astype(np.float32)
        total += (left @ right.T).astype(np.int32)
    ### END SOLUTION
    return total

# %% check="integer_product" points=6
_rng = np.random.default_rng(3)
check.close("[[255, 1], [2, 3]] and [[127, -127]]",
            integer_product(np.array([[255, 1], [2, 3]], np.uint8), np.array([[127, -127]], np.int8)),
            [[32258], [-127]], why="255*127 - 127, and 2*127 - 3*127: an int8 would have wrapped around")
for _k in (1, 511, 512, 513, 1300, 2048):
    _a, _b = _rng.integers(0, 256, (3, _k)).astype(np.uint8), _rng.integers(-127, 128, (4, _k)).astype(np.int8)
    check.equal(f"(3, {_k}) and (4, {_k}): every entry exact",
                np.array_equal(integer_product(_a, _b), _a.astype(np.int64) @ _b.astype(np.int64).T), True,
                why="the same as 64-bit integers; all K columns, pieces of 512")
_a, _b = np.full((1, 4001), 255, np.uint8), np.full((1, 4001), 127, np.int8)
_a[0, -1] = _b[0, -1] = 1
check.equal("4000 times 255 * 127, and 1 * 1", int(integer_product(_a, _b)[0, 0]), 129540001,
            why="one float32 sum of all loses the last digit beyond 2²⁴: pieces of EXACT columns")
_large = _rng.integers(200, 256, (2, 6000)).astype(np.uint8), _rng.integers(100, 128, (1, 6000)).astype(np.int8)
check.equal("6000 large products, twice: the sums", [int(_n) for _n in integer_product(*_large).ravel()],
            [int(_n) for _n in (_large[0].astype(np.int64) @ _large[1].astype(np.int64).T).ravel()],
            why="the pieces must be added up in int32 too, not in float32")
check.equal("type of the result", str(getattr(integer_product(_a, _b), "dtype", "")), "int32")
check.equal("the operands' types afterwards", (str(_a.dtype), str(_b.dtype)), ("uint8", "int8"))

# %% [markdown]
"""
### The quantized product

Now with the zero point. The integers of the input are uint8 and shall stay so, so do not subtract first.
Multiply out:

```
Σ (q_x - z) q_w  =  Σ q_x q_w  -  z * Σ q_w
                    integer       a number per row of the weights:
                    product       their sum
```

By hand: q_x = [1 0 4], z = 1, scale 0.2 (the values 0, -0.2, 0.6); weights q_w = [3 -1 2], scale 0.5 (the
values 1.5, -0.5, 1):

```
Σ q_x q_w = 3 + 0 + 8 = 11       Σ q_w = 4       11 - 1 * 4 = 7       7 * 0.2 * 0.5 = 0.7
in real numbers: 0 * 1.5 + 0.2 * 0.5 + 0.6 * 1 = 0.7
```

Only rounding to integers lost something; the product itself loses nothing. Sum the weights with
`dtype=np.int32`. The result is float32, (N, M).
"""

# %% exercise="quantized_product"
#| exporti
def quantized_product(
    q: np.ndarray, scale: np.ndarray, zero_point: np.ndarray,
    weight: np.ndarray, weight_scale: np.ndarray,
) -> np.ndarray:  # fmt: skip
    """What the integers q (N, K) and weight (M, K) stand for, multiplied: (N, M) float32.

    q: uint8 with one scale and zero_point; weight: int8 with weight_scale (M,), one per row.
    Cost: that of the integer product. Source: Jacob et al. 2018, section 2.3.

    >>> q, weight = np.array([[1, 0, 4]], np.uint8), np.array([[3, -1, 2]], np.int8)
    >>> quantized_product(q, np.float32(0.2), np.int32(1), weight, np.array([0.5])).round(4).tolist()
    [[0.699999988079071]]
    """
    ### BEGIN SOLUTION
    sums = integer_product(q, weight) - zero_point * weight.sum(axis=1, dtype=np.int32)
    return np.asarray(sums * (scale * weight_scale), dtype=np.float32)
    ### END SOLUTION

# %% check="quantized_product" points=6
_rng = np.random.default_rng(5)
_q, _w = np.array([[1, 0, 4], [7, 7, 7]], np.uint8), np.array([[3, -1, 2], [-3, 3, 3]], np.int8)
_got = quantized_product(_q, _f(0.2), np.int32(1), _w, np.array([0.5, 0.1], _f))
check.close("two rows, two outputs, zero point 1, scale 0.2; weight scales 0.5 and 0.1", _got,
            [[0.7, 0.12], [2.4, 0.36]], why="(11 - 4) * 0.2 * 0.5 = 0.7; (9 - 3) * 0.2 * 0.1 = 0.12; "
                                             "each output has the sum and the scale of its row of weights")
check.equal("type of the result", str(getattr(_got, "dtype", "")), "float32")
_q, _w = _rng.integers(0, 256, (5, 700)).astype(np.uint8), _rng.integers(-127, 128, (3, 700)).astype(np.int8)
_s = np.array([0.01, 0.02, 0.03], _f)
check.close("(5, 700) and (3, 700), zero point 131", quantized_product(_q, _f(0.05), np.int32(131), _w, _s),
            (_q.astype(float) - 131) * 0.05 @ (_w.astype(float) * _s[:, None]).T, rtol=1e-4, atol=1e-3,
            why="the same as dequantizing both and multiplying")
check.close("weights that are all 127, zero point 255",
            quantized_product(np.zeros((1, 700), np.uint8), _f(1), np.int32(255), np.full((1, 700), 127, np.int8), _f([1])),
            [[-255 * 127 * 700]], why="the sum of int8 weights does not fit int8: dtype=np.int32")

# %% [markdown]
"""
### Layers of integers

A quantized layer keeps its weights as integers, so it needs a tensor that stays one: your `Tensor` makes
float32 of everything. `Integers` is given. It is a buffer, as BatchNorm's running mean: saved with the
model, never trained.
"""

# %% given="Integers"
#| export
class Integers(Tensor):
    """A buffer that keeps its integer dtype, so that state_dict and files hold bytes. No gradients.

    Raises TypeError for numbers that are not integers.

    >>> Integers(np.array([1, 2], np.int8)).memory_footprint()
    2
    """

    __slots__ = ()

    def __init__(self, data: np.ndarray | Sequence[int]) -> None:
        array = np.asarray(data)
        if array.dtype.kind not in "iu":
            raise TypeError(f"Integers: got {array.dtype}. Quantize first: quantize_array(...).")
        super().__init__(0.0)
        self.data = array

# %% [markdown]
"""
What all quantized layers share is given too. Read it: `pack_weight` quantizes per output channel (axis 0),
symmetric. With 8 bits the weight keeps its shape; with 4 it becomes a row of half bytes. `integers()` gives
the weight's integers in either case, `real_weight()` the numbers they stand for. `quantize_input` is where
dynamic and static part ways: a static layer knows its input's scale.

They do not train. Rounding has slope 0 almost everywhere, so no gradient could come through; in training
mode `forward` raises an error instead of quietly learning nothing.
"""

# %% given="Quantized"
#| exporti
def pack_weight(weight: np.ndarray, bits: int) -> tuple[Integers, Tensor]:
    """(integers, scale) of weight (O, ...): symmetric, one scale per index of axis 0.

    Scale (O, 1, ...). 8 bits: int8 of weight's shape; 4: uint8, two in a byte.
    """
    scheme = Scheme(bits, axis=0)
    scale, zero_point = quantization_parameters(weight, scheme)
    q = quantize_array(weight, scale, zero_point, scheme)
    return Integers(pack_int4(q) if bits == 4 else q), Tensor(scale)


class Quantized(Module):
    """What quantized layers share: weight (O, ...) as integers, scale, bias, and the input's range.

    bits: 8, or 4 for the weight alone. static: the input's scale is fixed, by calibration.
    Raises ValueError for other bits, and for a static layer of 4.
    """

    SIZES: tuple[str, ...] = ()  # the attributes of a float layer that give the twin its sizes

    def __init__(self, shape: tuple[int, ...], bias: bool, bits: int, static: bool) -> None:
        if bits not in (4, 8) or (static and bits == 4):
            raise ValueError(f"quantize: bits={bits} must be 8, or 4 without calibration.")
        self.shape, self.bits = shape, bits
        self.weight, self.scale = pack_weight(np.zeros(shape, np.float32), bits)
        self.bias = Tensor(np.zeros(shape[0])) if bias else None
        self.input_scale = Tensor(1.0) if static else None
        self.input_zero_point = Integers(np.array(0, np.int32)) if static else None

    @classmethod
    def from_layer(cls, layer: Any, bits: int = 8, activation: Observer | None = None) -> Self:
        """The quantized twin of a layer, in eval mode; static if an observer of its input is given."""
        bias, sizes = getattr(layer, "bias", None), [getattr(layer, size) for size in cls.SIZES]
        twin = cls(*sizes, bias=bias is not None, bits=bits, static=activation is not None)  # type: ignore[misc]
        twin.weight, twin.scale = pack_weight(layer.weight.data, bits)
        twin.bias = None if bias is None else Tensor(bias.data.copy())
        if activation is not None:
            scale, zero_point = activation.parameters(INPUT)
            twin.input_scale, twin.input_zero_point = Tensor(scale), Integers(zero_point)
        return twin.eval()  # type: ignore[no-any-return]

    def integers(self) -> np.ndarray:
        """The weight's integers, int8 of the weight's shape."""
        return unpack_int4(self.weight.data, self.shape) if self.bits == 4 else self.weight.data

    def real_weight(self) -> np.ndarray:
        """The numbers that the weight's integers stand for, float32."""
        return dequantize_array(self.integers(), self.scale.data, 0)

    def quantize_input(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(q, scale, zero_point) of x: by its own range, or by the calibrated one."""
        if self.input_scale is None or self.input_zero_point is None:
            scale, zero_point = quantization_parameters(x, INPUT)
        else:
            scale, zero_point = self.input_scale.data, self.input_zero_point.data
        return quantize_array(x, scale, zero_point, INPUT), scale, zero_point

    def check_use(self) -> None:
        """Raises RuntimeError in training mode."""
        if self.training:
            name = type(self).__name__
            raise RuntimeError(f"{name}: rounding has no gradient: it cannot train. Call eval().")

    def extra_repr(self) -> str:
        """Shape and kind."""
        return f"{self.shape}, bits={self.bits}, static={self.input_scale is not None}"


INPUT = Scheme(8, symmetric=False)  # how activations become integers

# %% [markdown]
"""
### QuantizedLinear

Your part is its `forward` for **8 bits**, on arrays:

1. `self.quantize_input(x)` gives `q`, its scale and its zero point. `x` may be (..., in);
2. the product wants rows: reshape `q` to (-1, in);
3. `quantized_product` with `self.integers()` and the scales of the rows. `self.scale.data` is (out, 1), the
   product wants (out,);
4. the bias, which stayed float32, if there is one;
5. back to the shape of x with `out` as the last size.

For 4 bits there is nothing to win in the product: the weight is turned back into numbers, as llama.cpp and
others do; that line is given.
"""

# %% given="QuantizedLinear"
#| export
class QuantizedLinear(Quantized):
    """Linear layer whose weight is int8, or int4 in half bytes: x (..., in) -> (..., out). For use only.

    Starts with zeros; `from_layer` makes it of a trained Linear.
    Source: Jacob et al. 2018; per-channel weights: Krishnamoorthi 2018.

    >>> QuantizedLinear.from_layer(Linear(6, 3))(Tensor(np.ones((2, 6)))).shape
    (2, 3)
    """

    SIZES = ("in_features", "out_features")

    def __init__(self, in_features: int, out_features: int, bias: bool = True,
                 bits: int = 8, static: bool = False) -> None:  # fmt: skip
        super().__init__((out_features, in_features), bias, bits, static)
        self.in_features, self.out_features = in_features, out_features

    def forward(self, x: Tensor) -> Tensor:
        """x (..., in_features) -> (..., out_features). RuntimeError in training mode."""
        self.check_use()
        if x.shape[-1] != self.in_features:
            raise ValueError(f"QuantizedLinear: x {x.shape}, in_features={self.in_features}.")
        if self.bits == 8:
            return Tensor(self.integer_forward(x.data))
        y = x.data @ self.real_weight().T
        return Tensor(y if self.bias is None else y + self.bias.data)

# %% exercise="QuantizedLinear.integer_forward"
#| export
@method_of(QuantizedLinear)
def integer_forward(self, x: np.ndarray) -> np.ndarray:
    """The layer by integers: array x (..., in_features) -> array (..., out_features) of float32."""
    ### BEGIN SOLUTION
    q, scale, zero_point = self.quantize_input(x)
    rows = q.reshape(-1, self.in_features)
    y = quantized_product(rows, scale, zero_point, self.integers(), self.scale.data.ravel())
    if self.bias is not None:
        y = y + self.bias.data
    return y.reshape(*x.shape[:-1], self.out_features)
    ### END SOLUTION

# %% check="QuantizedLinear.integer_forward" points=6
def _like(layer, x, scale, zero):
    """The quantized twin's result, by dequantizing the rounded input and weights and multiplying."""
    q = np.clip(np.rint(x.astype(float) / float(scale)) + int(zero), 0, 255)
    y = (q - int(zero)) * float(scale) @ (layer.weight.data.astype(float) * layer.scale.data.astype(float)).T
    return y + (0 if layer.bias is None else layer.bias.data)


manual_seed(0)
_rng = np.random.default_rng(4)
for _bias in (True, False):
    _layer = QuantizedLinear.from_layer(Linear(6, 4, bias=_bias))
    for _shape in ((5, 6), (2, 3, 6), (6,)):
        _x = _rng.normal(size=_shape).astype(_f)
        _got = _layer.integer_forward(_x)
        check.close(f"x {_shape}, {'with' if _bias else 'without'} bias", _got,
                    _like(_layer, _x, *quantization_parameters(_x, INPUT)), rtol=1e-4, atol=1e-5,
                    why="quantize_input, rows, quantized_product, bias, and x's shape with `out` as its last size")
check.equal("type of the result", str(getattr(_got, "dtype", "")), "float32")
_observer = Observer()
_observer.observe(np.array([-2.0, 6.0]))
_layer = QuantizedLinear.from_layer(Linear(6, 4), activation=_observer)
_x = np.full((1, 6), 1.0, _f) * np.array([1, -1, 0.5, 2, 9, 3], _f)
check.close("static: calibrated from -2 to 6, an input of 9 is cut to 6", _layer.integer_forward(_x),
            _like(_layer, _x, *_observer.parameters(INPUT)), rtol=1e-4, atol=1e-5,
            why="self.quantize_input knows whether the layer is static; the input's own range does not count")
_big = QuantizedLinear.from_layer(Linear(700, 3))
_x = _rng.normal(size=(4, 700)).astype(_f)
check.close("700 inputs", _big.integer_forward(_x), _like(_big, _x, *quantization_parameters(_x, INPUT)),
            rtol=1e-3, atol=1e-4)

# %% [markdown]
"""
### QuantizedConv2d and QuantizedEmbedding

A convolution is the same product on patches; you wrote all of it in module 09, so it is given. One line
deserves your eyes: the frame around a picture is real 0, and real 0 is the integer **zero point**. A frame
of integer 0 would be a frame of the smallest number there is. (You will see it happen in *Break*.)

An embedding is no product: rows are looked up and turned back into numbers. Its table is a large part of
a small language model, and the head of a GPT may be the same table. Per row of the table, per output of the
head: that is the same axis, so one quantized table serves both.
"""

# %% given="QuantizedConv2d"
#| export
class QuantizedConv2d(Quantized):
    """Conv2d whose weight is int8, or int4 in half bytes: (N, C, H, W) -> (N, O, OH, OW). For use only."""

    SIZES = ("in_channels", "out_channels", "kernel_size", "stride", "padding")

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int | tuple[int, int],
                 stride: int = 1, padding: int = 0, bias: bool = True,
                 bits: int = 8, static: bool = False) -> None:  # fmt: skip
        kh, kw = (kernel_size, kernel_size) if isinstance(kernel_size, int) else kernel_size
        super().__init__((out_channels, in_channels, kh, kw), bias, bits, static)
        self.stride, self.padding = stride, padding

    def forward(self, x: Tensor) -> Tensor:
        """x (N, C, H, W) -> (N, O, OH, OW). RuntimeError in training mode, ValueError for other shapes."""
        self.check_use()
        kernels._check_images("QuantizedConv2d", x, self.shape[1])
        if self.bits == 8:
            y = self.integer_forward(x.data)
        else:
            y = kernels.conv2d_forward(x.data, self.real_weight(), None, self.stride, self.padding)
        return Tensor(y if self.bias is None else y + self.bias.data.reshape(-1, 1, 1))

    def integer_forward(self, x: np.ndarray) -> np.ndarray:
        """Without bias, by integers: every patch a row, framed by the integer that stands for 0."""
        o, _, kh, kw = self.shape
        q, scale, zero_point = self.quantize_input(x)
        oh = kernels.output_size(x.shape[2], kh, self.stride, self.padding)
        weight = self.integers().transpose(0, 2, 3, 1).reshape(o, -1)  # (O, KH*KW*C), like patches
        out = []
        for part in kernels.chunks(len(q)):
            framed = kernels.padded(q[part], self.padding, int(zero_point))
            rows = kernels.patches(framed, kh, kw, self.stride, 0)
            y = quantized_product(rows, scale, zero_point, weight, self.scale.data.ravel())
            out.append(y.reshape(len(framed), oh, -1, o).transpose(0, 3, 1, 2))
        return np.concatenate(out)


class QuantizedEmbedding(Quantized):
    """Embedding whose table is int8, or int4 in half bytes, one scale per row. For use only."""

    SIZES = ("num_embeddings", "embedding_dim")

    def __init__(self, num_embeddings: int, embedding_dim: int, bits: int = 8, **_: bool) -> None:
        super().__init__((num_embeddings, embedding_dim), False, bits, False)

    def forward(self, indices: Tensor | np.ndarray | Sequence[int]) -> Tensor:
        """The vectors of `indices` (...), (..., D). IndexError naming an index that has no row."""
        self.check_use()
        ids = token_ids(indices, self.shape[0])
        return Tensor(dequantize_array(self.integers()[ids], self.scale.data[ids], 0))

# %% [markdown]
"""
### The walk: quantize(model)

A model is a tree of modules, and somewhere in it are layers to be replaced. The walk is general: it gets a
function `make(name, module)` that returns either **another** module, to take the place, or the module
itself, which means *look inside*.

```
replace_layers(net, make)            make("", net)            itself -> look inside
                                     make("0", net.0)         a Conv2d -> its quantized twin
                                     make("block", net.block) itself -> look inside
                                     make("block.up", ...)    a Linear -> its quantized twin
```

Names are paths as in `named_modules`: joined by dots, the root's is "". `vars(module)` is a dictionary of
the attributes; those that are a `Module` are children; `setattr(module, key, new)` puts a new one in. It
works on the tree in place, and returns what stands at the root afterwards: if the model **is** a Linear,
the answer is its twin.
"""

# %% exercise="replace_layers"
#| export
def replace_layers(module: Module, make: Callable[[str, Module], Module], name: str = "") -> Module:
    """`make(name, module)` if that is another module; else `module`, with its children replaced so.

    make: gets the path of attribute names ("" for the root, then "0", "block.up") and a module.
    Changes the tree in place. Returns what stands in the module's place.

    >>> net = Module()
    >>> net.up = Linear(3, 2)
    >>> replace_layers(net, lambda name, m: Linear(3, 5) if name == "up" else m).up.out_features
    5
    """
    ### BEGIN SOLUTION
    new = make(name, module)
    if new is not module:
        return new
    for key, child in list(vars(module).items()):
        if isinstance(child, Module):
            path = f"{name}.{key}" if name else key
            setattr(module, key, replace_layers(child, make, path))
    return module
    ### END SOLUTION

# %% check="replace_layers" points=7
class _Marked(Module):
    """What `make` puts in."""

    def __init__(self, name):
        self.name, self.inner = name, Linear(1, 1)


class _Tree(Module):
    """Children with an attribute that is none, one that is None, and a tensor."""

    def __init__(self):
        self.size, self.nothing, self.numbers = 3, None, Tensor([1.0])
        self.first = Linear(2, 2)
        self.block = Sequential(Linear(2, 3), ReLU(), Sequential(Flatten(), Linear(3, 2)))


def _make(name, module):
    _asked.append(name)
    return _Marked(name) if isinstance(module, Linear) else module


_asked, _root = [], _Tree()
_block = _root.block
_got = replace_layers(_root, _make)
check.true("the root comes back, changed in place", _got is _root and _root.block is _block,
           why="make returned them as they are: only what it replaces is another module")
check.equal("what stands at first, block.0, block.2.1",
            [type(_m).__name__ for _m in (_root.first, _root.block[0], _root.block[2][1])], ["_Marked"] * 3,
            why="the walk goes all the way down")
check.equal("the names that make was asked for", sorted(_asked),
            ["", "block", "block.0", "block.2", "block.2.0", "block.2.1", "first"],
            why="the root is '', the others are paths; an activation is no Module, and a replacement is not entered")
check.equal("the names that the replacements got", [_root.first.name, _root.block[2][1].name], ["first", "block.2.1"])
check.equal("other attributes", (_root.size, _root.nothing, type(_root.numbers).__name__, len(_root.block)),
            (3, None, "Tensor", 3), why="only children that are Modules are replaced")
_asked = []
check.equal("a model that is itself a Linear", type(replace_layers(Linear(2, 2), _make)).__name__, "_Marked",
            why="return what stands in the place, also at the root")
_line = Linear(2, 2)
check.true("nothing to replace: the model itself", replace_layers(_line, lambda name, module: module) is _line)

# %% [markdown]
"""
`quantize` is the rest: a deep copy, so that the model stays as it is; calibration, if inputs are given, by
watching what reaches each layer; and a `make` that knows the three twins. A layer that hangs in two places
gets **one** twin, and a weight that two layers share is quantized once, so tied weights stay tied. `skip`
names layers to be left alone (and with them whoever shares their weight).
"""

# %% given="observe_inputs"
#| exporti
QUANTIZED: dict[type, type[Quantized]] = {
    Linear: QuantizedLinear, kernels.Conv2d: QuantizedConv2d, Embedding: QuantizedEmbedding,
}  # fmt: skip


def _watched(layer: Module, observer: Observer, x: Tensor) -> Tensor:
    """The layer's forward, with its input observed."""
    observer.observe(x.data)
    return type(layer).forward(layer, x)  # type: ignore[no-any-return,no-untyped-call]


def observe_inputs(model: Module, inputs: Iterable[object],
                   percentile: float | None = None) -> dict[int, Observer]:  # fmt: skip
    """Run `inputs` through the model; an Observer of what reached each Linear and Conv2d, by its id.

    inputs: batches, of tuples the first part. The model is in eval mode afterwards.
    """
    watched = [layer for layer in model.eval().modules() if type(layer) in (Linear, kernels.Conv2d)]
    seen = {id(layer): Observer(percentile) for layer in watched}
    try:
        for layer in watched:
            vars(layer)["forward"] = partial(_watched, layer, seen[id(layer)])
        with no_grad():
            for batch in inputs:
                model(batch[0] if isinstance(batch, tuple) else batch)
    finally:
        for layer in watched:
            vars(layer).pop("forward", None)
    return {key: observer for key, observer in seen.items() if observer.batches}

# %% given="quantize"
#| export
def quantize(model: Module, bits: int = 8, calibration: Iterable[object] | None = None,
             skip: Sequence[str] = (), percentile: float | None = None) -> Module:  # fmt: skip
    """A copy of the model for use, its Linear, Conv2d and Embedding layers replaced by quantized ones.

    bits: 8, or 4 for weights alone. calibration: typical batches, which make the layers static; None:
    dynamic. percentile: see Observer. skip: names of modules that stay as they are.
    Raises ValueError for a name in skip that does not exist, other bits, or 4 bits with calibration.
    """
    copied, skip = copy.deepcopy(model).eval(), [skip] if isinstance(skip, str) else list(skip)
    if unknown := sorted(set(skip) - {name for name, _ in copied.named_modules()}):
        raise ValueError(f"quantize: skip={unknown}: no such module; see model.named_modules().")
    inside = tuple(f"{name}." for name in skip)
    kept = {id(t) for name, t in copied.named_tensors() if name.startswith(inside)}
    seen = {} if calibration is None else observe_inputs(copied, calibration, percentile)
    done: dict[int, tuple[Quantized, Module]] = {}  # the layer too: a freed id could come again
    weights: dict[int, tuple[Integers, Tensor]] = {}

    def make(name: str, layer: Any) -> Any:
        kind = QUANTIZED.get(type(layer))
        if kind is None or id(layer.weight) in kept:
            return layer
        if id(layer) not in done:
            twin = kind.from_layer(layer, bits, seen.get(id(layer)))
            pair = weights.setdefault(id(layer.weight), (twin.weight, twin.scale))
            twin.weight, twin.scale = pair
            done[id(layer)] = twin, layer
        return done[id(layer)][0]

    return replace_layers(copied, make)

# %% [markdown]
"""
### A model file

A smaller model is only smaller if its file is. `state_dict` in a file is not enough: whoever reads it must
build the same model first, and a quantized GPT is not built by hand. So a model file holds the arrays **and**
the architecture: per layer its class's name and its plain attributes, as JSON. These functions are given, and
become `tinytorch.save` and `tinytorch.load`. Three things in them are worth knowing:

- **no pickle.** A pickle is a program, and loading one runs it. Here a name is looked up in `LAYERS`, the
  course's own classes, and nothing of the file is ever run;
- **one checksum over every bit.** A disk that drops a bit changes a weight from 0.3 to 10³⁷, and no format
  notices by itself. Cut off, bent or foreign: a `ValueError` that names the file;
- **once is enough.** Tied weights are one array in the file, and one tensor again after loading.
"""

# %% given="layer_names"
#| export
LAYERS: dict[str, type] = {kind.__name__: kind for kind in QUANTIZED.values()}
DESCRIBED = (Module, Activation, GPTConfig)
for _one in (Module, Activation, kernels.Conv2d, Embedding, MultiHeadAttention, GPTConfig):
    for _name, _kind in vars(sys.modules[_one.__module__]).items():  # the whole file it is from
        if isinstance(_kind, type) and issubclass(_kind, DESCRIBED):
            LAYERS[_name] = _kind

# %% given="descriptions"
#| exporti
ARRAYS: dict[str, Callable[[np.ndarray], object]] = {
    "Tensor": Tensor, "Parameter": Parameter, "Integers": Integers, "ndarray": np.asarray,
}  # fmt: skip


def describe(model: Module) -> tuple[object, dict[str, np.ndarray]]:
    """(tree, arrays): the model in JSON, and its arrays by path; what comes twice is described once.

    Raises TypeError naming a part that is neither a layer nor a plain value.
    """
    arrays: dict[str, np.ndarray] = {}
    seen: dict[int, tuple[str, object]] = {}  # the object too: its id stays its own

    def visit(value: object, path: str) -> object:
        kind = type(value).__name__
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        if isinstance(value, tuple):
            return {"tuple": [visit(part, f"{path}.{i}") for i, part in enumerate(value)]}
        if id(value) in seen:
            return {"same": seen[id(value)][0]}
        seen[id(value)] = path, value
        if kind in ARRAYS:
            arrays[path] = np.asarray(value, order="C")
            return {"array": kind, "order": "F" if np.asarray(value).flags.fnc else "C"}
        if not isinstance(value, DESCRIBED) or LAYERS.get(kind, type(value)) is not type(value):
            raise TypeError(
                f"save: {path or 'the model'} is a {kind}, which a model file cannot hold.\n"
                "Next: save the part that is made of layers, under names of your own for your own."
            )
        inner = {name: part for name, part in vars(value).items() if name != "training"}
        parts = {f".{k}": visit(part, f"{path}.{k}".strip(".")) for k, part in inner.items()}
        return {"type": kind, **parts}

    return visit(model, ""), arrays


def rebuild(tree: Any, arrays: dict[str, np.ndarray], classes: dict[str, type]) -> Any:
    """The model that `describe` described. Runs no code of a file: names are looked up in `classes`."""
    made: dict[str, Any] = {}

    def visit(tree: Any, path: str) -> Any:
        if not isinstance(tree, dict):
            return tree
        if "tuple" in tree:
            return tuple(visit(part, f"{path}.{i}") for i, part in enumerate(tree["tuple"]))
        if "same" in tree:
            return made[tree["same"]]
        if "array" in tree:
            array = np.array(arrays[path], order=tree["order"])
            return made.setdefault(path, ARRAYS[tree["array"]](array))
        made[path] = object.__new__(classes[tree["type"]])
        for key, part in tree.items():
            if key[0] == ".":
                vars(made[path])[key[1:]] = visit(part, f"{path}{key}".strip("."))
        return made[path]

    return visit(tree, "")

# %% [markdown]
"""
`describe` and `rebuild` are the two directions of the architecture. A module is its class's name and its
attributes; the arrays go beside it, under the names that `state_dict` gives them. Rebuilding calls no
constructor: an empty object of the class gets its attributes back. Now the bytes.
"""

# %% given="file_bytes"
#| exporti
FORMAT = 1  # the version of the layout; a reader refuses what is newer
BAD = ValueError, LookupError, TypeError, AttributeError, RuntimeError, safetensors.SafetensorError
NO_CRC = rb"\"crc32\":\"00000000\""  # JSON in JSON: its quotes are escaped


def file_bytes(model: Module) -> bytes:
    """The whole file: safetensors, with a checksum over all other bits in its metadata."""
    tree, arrays = describe(model)
    origin = getattr(getattr(sys.modules.get("tinytorch"), "origin", None), "kind", "unknown")
    about = {"format": FORMAT, "crc32": "00000000", "origin": origin, "model": tree}
    text = json.dumps(about, separators=(",", ":"))
    raw = safetensors.numpy.save(arrays, {"tinytorch": text})
    return raw.replace(NO_CRC, NO_CRC.replace(b"00000000", b"%08x" % zlib.crc32(raw)), 1)


def file_metadata(raw: bytes) -> tuple[object, set[str]]:
    """(model in JSON, names of its classes). Raises ValueError if a bit of the file has changed."""
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    about = json.loads(text := header["__metadata__"]["tinytorch"])
    crc = NO_CRC.replace(b"00000000", about["crc32"].encode())
    if about["crc32"] != f"{zlib.crc32(raw.replace(crc, NO_CRC, 1)):08x}":
        raise ValueError("its checksum does not fit, so it was cut off or changed")
    if about["format"] > FORMAT:
        raise ValueError(f"format {about['format']} is newer than {FORMAT}, the last known here")
    return about["model"], set(re.findall(r'"type":"(\w+)"', text))

# %% given="model_files"
#| export
def file_size(model: Module) -> int:
    """How many bytes `save` would write."""
    return len(file_bytes(model))


def save(model: Module, path: str | Path) -> None:
    """Write the model, layers and arrays, to the file `path`: a complete new file, or the old one.

    Format: safetensors, with the architecture as JSON in its metadata. Shared arrays are stored once.
    Raises TypeError naming a part that is neither a layer nor a plain value.
    """
    raw, temporary = file_bytes(model), Path(f"{path}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def load(path: str | Path, classes: dict[str, type] | None = None) -> Module:
    """The model that `save` wrote to `path`, bit for bit, in eval mode. Runs no code of the file.

    classes: layers that are not the course's, by name: {"Unit": Unit}.
    Raises FileNotFoundError, and ValueError naming the file if it is damaged, no model file, made by a
    newer version, or has layers that are not known.
    """
    raw, known = Path(path).read_bytes(), LAYERS | (classes or {})
    try:
        tree, types = file_metadata(raw)
        missing = ", ".join(f'"{name}": {name}' for name in sorted(types - set(known)))
        tree = {"type": "Module"} if missing else tree
        model: Module = rebuild(tree, safetensors.numpy.load(raw), known).eval()
    except BAD as error:
        raise ValueError(
            f"{path}: not a model file, or damaged: {error}\n"
            "Next: save the model again with tinytorch.save(model, path), or fetch a fresh copy."
        ) from None
    if missing:
        raise ValueError(
            f"{path}: has layers that are not the course's.\n"
            f"Next: define or import them, then load(path, classes={{{missing}}})."
        )
    return model

# %% [markdown]
"""
## Use: the patient, a quarter of the size

The CNN of the first part in four forms. Each is written to a file, measured there, loaded again, and the
loaded one has to read the 1,000 scans.
"""

# %% demo="four_files"
def on_disk(model):
    """(bytes of the file, the model that comes back from it)."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.pt")
        save(model, path)
        return os.stat(path).st_size, load(path)


typical = [Tensor(train_x[:500])]
forms = {
    "float32": net,
    "int8, dynamic": quantize(net),
    "int8, static": quantize(net, calibration=typical),
    "int4, weights only": quantize(net, bits=4),
}
whole = on_disk(net)[0]
for name, model in forms.items():
    size, again = on_disk(model)
    arrays = sum(array.nbytes for array in model.state_dict().values())
    print(f"{name:20} {size:7,} bytes, {whole / size:4.1f}x smaller; arrays alone {arrays:6,}; "
          f"right {right(again, test_x, test_y):.1%}")
print("\nthe float model is as it was:", type(net[0]).__name__, f"{right(net, test_x, test_y):.1%}")

# %% [markdown]
"""
Count with the table. The arrays shrink by nearly four; what is missing are scales, biases and norms, which
stay float32. The rest of the file is the description of the layers, a few kilobytes whatever the model is: a
burden for this small one, nothing for a large one. For the language model of milestone 2017 (here with
random weights, size is all we ask) it looks like this. Its head and its embedding are one table, before and
after:
"""

# %% demo="tied_and_larger"
manual_seed(0)
talker = GPT(GPTConfig(512, 72, dim=128, heads=4, layers=3, bias=False)).eval()
for name, model in (("float32", talker), ("int8", quantize(talker)), ("int4", quantize(talker, 4))):
    size, again = on_disk(model)
    print(f"{name:8} {size:9,} bytes, {on_disk(talker)[0] / size:.2f}x smaller; "
          f"one table: {again.head.weight is again.embedding.weight}")
mixed = quantize(quantize(talker, 4, skip=["head"]), 8)
print(f"blocks in int4, the table in int8: {file_size(mixed):,} bytes, {file_size(talker) / file_size(mixed):.2f}x")

# %% [markdown]
"""
`skip=["head"]` left the head alone, and the embedding with it, since it is the same weight. A second
`quantize` then found nothing but those two. So precision can be mixed.

And the accuracy of trained ones? Measured once, on the models that the milestones left behind: the CIFAR-10
network of 1998 was right on 79.5 % of 3,000 photographs in float32, 79.5 % in int8, 79.4 % with calibrated
ranges, 78.4 % in int4. The GPT of 2017 answered 74.0 % of 150 new questions in float32, and as many in int8.

### Error against bits

How many bits does it take? The weights of the patient, rounded to 2 to 8 bits with one scale per layer and
with one per channel. The bars are the error: the root of the mean square, relative to the weights'.
"""

# %% demo="error_against_bits"
def with_bits(model, bits, axis):
    """(error, a copy whose weights were rounded to so many bits)."""
    copied, errors, sizes = copy.deepcopy(model), 0.0, 0.0
    for parameter in copied.parameters():
        if parameter.ndim > 1:
            scheme = Scheme(bits, axis=axis)
            scale, zero = quantization_parameters(parameter.data, scheme)
            q = quantize_array(parameter.data, scale, zero, scheme)
            new = dequantize_array(q, scale, zero)
            errors += float(((new - parameter.data) ** 2).sum())
            sizes += float((parameter.data**2).sum())
            parameter.data = new
    return math.sqrt(errors / sizes), copied


print("bits   one scale per layer                          one per channel")
for bits in range(2, 9):
    line = f"{bits:4}  "
    for axis in (None, 0):
        error, rounded = with_bits(net, bits, axis)
        bar = "#" * max(1, round(20 + 6 * math.log10(error)))
        line += f" {bar:20} {error:7.2%}, right {right(rounded, test_x, test_y):6.1%}   "
    print(line.rstrip())
print("\n(the bars are on a logarithmic scale: each bit takes the same piece off)")

# %% [markdown]
"""
Each bit halves the error, until at 8 bits it is below 1 in 100 and the answers do not know the difference.
Below 4 bits it goes fast, and there a scale per channel saves a good deal, for next to nothing. Two bits are
three numbers: -1, 0, 1 times a scale. (Networks can be *trained* to live with that. This one was not.)

## Measure: smaller, but faster?

The float32 product reads four times the bytes. So int8 should be faster, at least where memory is what one
waits for: a single row times a large matrix, as when a language model writes one token. Write down what you
expect for 1 row and for 128 rows against a matrix of 4096 by 4096: int8 against float32, faster or slower, by
which factor?
"""

# %% demo="faster"
def best(call, rounds=3):
    """Milliseconds of the fastest of several calls."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times) * 1e3


rng = np.random.default_rng(0)
wide = 4096
real_w = rng.normal(size=(wide, wide)).astype(np.float32)
int_w = rng.integers(-127, 128, (wide, wide)).astype(np.int8)
packed_w = QuantizedLinear.from_layer(Linear(wide, wide, bias=False), bits=4)
print("milliseconds    float32    int8 through BLAS   int4, unpacked   int32, NumPy's own loops")
for count in (1, 16, 128):
    real, ints = rng.normal(size=(count, wide)).astype(np.float32), rng.integers(0, 256, (count, wide)).astype(np.uint8)
    base = best(lambda: real @ real_w.T)
    eight = best(lambda: integer_product(ints, int_w))
    four = best(lambda: packed_w(Tensor(real)), rounds=1)
    line = f"{count:4} rows      {base:8.2f}    {eight:8.2f} ({eight / base:5.1f}x)   {four:8.2f} ({four / base:5.1f}x)"
    if count == 1:
        loops = best(lambda: ints.astype(np.int32) @ int_w.T.astype(np.int32), rounds=1)
        line += f"   {loops:8.1f} ({loops / base:5.1f}x)"
    print(line)
print(f"\nbytes of the weights: float32 {real_w.nbytes:,}, int8 {int_w.nbytes:,}, int4 {packed_w.weight.data.nbytes:,}")

# %% [markdown]
"""
Not faster. With one row it is several times slower: BLAS wants float32, so every call makes a float32 copy
of the whole int8 matrix, writes it to memory and reads it back: **more** traffic than float32 weights cause.
With many rows the copy is spread over them, and the factor comes down towards 1, since the arithmetic is the
same: a float32 multiplication does not care that its numbers are whole. Unpacking half bytes costs more
passes still, and NumPy's own integer loops are out of the question. (Try `wide = 1024`: a copy that stays in
the processor's cache costs less, but never less than nothing.)

A whole model pays for quantizing its activations as well. One token, and a full context, through the GPT of
the previous part:
"""

# %% demo="a_whole_model"
with no_grad():
    for count in (1, 72):
        tokens = np.random.default_rng(0).integers(0, 512, (1, count))
        times = [best(lambda m=m: m(tokens)) for m in (talker, quantize(talker), quantize(talker, 4))]
        print(f"{count:3} tokens: float32 {times[0]:6.2f} ms, int8 {times[1]:6.2f} ms, int4 {times[2]:6.2f} ms")

# %% [markdown]
"""
So here is the honest table.

| what you want | does int8 help, here in NumPy? |
|---|---|
| a smaller file, a shorter download | yes: nearly 4x, 7x with int4 |
| less memory while it waits | yes, as long as it waits; a call makes a float copy of one layer at a time |
| faster with large batches | no: the same arithmetic, plus the conversion |
| faster with one row (decoding) | no: here memory is the limit, and the copy more than doubles its load |
| faster on hardware with 8-bit products | yes: four 8-bit products fit where one of float32 does, and the traffic is a quarter; from C, not from NumPy |

Where kernels read int8 and convert **in registers**, the single row is where quantization pays most: there,
time is bytes. Keep both facts apart: *the format* allows speed, *a kernel* has to take it.

## Break: three that give no error

**A frame of integer 0.** The zero point of an input with negative numbers is not 0. Here is a convolution
with padding, right, and with a frame of integer 0, which stands for the smallest number there is.
"""

# %% demo="frame_of_zero"
manual_seed(0)
layer, x = Conv2d(2, 3, 3, padding=1), Tensor(np.random.default_rng(0).normal(size=(4, 2, 8, 8)))
twin = QuantizedConv2d.from_layer(layer)
print("zero point of the input:", twin.quantize_input(x.data)[2])
original = kernels.padded
for name, frame in (("the zero point", original), ("integer 0", lambda x, padding, value=0: original(x, padding))):
    kernels.padded = frame
    gap = np.abs(twin(x).data - layer(x).data).max(axis=(0, 1))
    print(f"\nframe of {name}: largest error per pixel")
    print("\n".join("  " + " ".join(f"{g:.2f}" for g in row) for row in gap[[0, 1, 3, 7]]))
kernels.padded = original

# %% [markdown]
"""
Inside all is well, along the border it is wrong. After a ReLU the zero point *is* 0, so a network may hide
this for layers on end.

**Too narrow a type.** Two lines that look right:
"""

# %% demo="narrow_types"
q, zero_point = np.array([0, 100, 255], np.uint8), np.uint8(100)
print("q - zero_point in uint8:     ", q - zero_point, "   right:", q.astype(np.int32) - zero_point)
a, b = np.full((1, 4), 100, np.int8), np.full((4, 1), 100, np.int8)
print("int8 @ int8, 4 times 100*100:", (a @ b)[0, 0], "           right:", a.astype(np.int32) @ b.astype(np.int32))

# %% [markdown]
"""
**One outlier.** Static layers, calibrated with 200 pictures, one of which has a single broken pixel, a
hundred times as bright as white. Without a percentile that one pixel sets the range of all pictures to come.
"""

# %% demo="one_outlier"
broken = train_x[:200].copy()
broken[17, 0, 3, 3] = 100.0
batches = [Tensor(broken[i : i + 50]) for i in range(0, 200, 50)]
for percentile in (None, 99.9, 99.0, 90.0):
    static = quantize(net, calibration=batches, percentile=percentile)
    print(f"percentile {percentile!s:5}: step of the first input {static[0].input_scale.item():.4f}, "
          f"right {right(static, test_x, test_y):.1%}")

# %% [markdown]
"""
The range of the first input is 0 to 1, and a step should be 1/255 = 0.0039. With the broken pixel it is a
hundred times that. Cutting off too much costs as well: what is clipped is wrong by more than half a step.

## Reflect

Predict with pencil and paper, write the number into the cell, and the check says whether it holds.

**1.** A language model of 7 billion weights in INT4, with one float32 scale per group of 32 weights. How
many gigabytes (10⁹ bytes) do weights and scales take?
"""

# %% exercise="predict.int4_gigabytes"
### BEGIN SOLUTION
int4_gigabytes = 7 * (0.5 + 4 / 32)
### END SOLUTION

# %% check="predict.int4_gigabytes" points=1
check.prediction("gigabytes of 7 billion weights in INT4, with scales", int4_gigabytes, "NC4zNzU=", unit="GB", rel=0.01,
                 why="half a byte per weight, and 4 bytes for every 32 of them: the scale is an eighth of a byte each")

# %% [markdown]
"""
**2.** Activations from -0.5 to 4.6, affine in 8 bits. Which integer stands for real 0?
"""

# %% exercise="predict.zero_point"
### BEGIN SOLUTION
zero_point_of_range = round(0.5 / (5.1 / 255))
### END SOLUTION

# %% check="predict.zero_point" points=1
check.prediction("the zero point of -0.5 to 4.6", zero_point_of_range, "MjU=", rel=0.001,
                 why="how much is a step worth, if 5.1 are cut into 255? How many of them is 0 above the smallest number?")

# %% [markdown]
"""
**3.** Products of a uint8 (up to 255) and an int8 (up to 127 in size) are added up in float32, all of the
largest size and one sign. How many can be added before the sum may be inexact?
"""

# %% exercise="predict.exact_products"
### BEGIN SOLUTION
exact_products = 2**24 // (255 * 127)
### END SOLUTION

# %% check="predict.exact_products" points=1
check.prediction("products that float32 adds up exactly", exact_products, "NTE4", rel=0.001,
                 why="whole numbers are exact up to 2²⁴; each product is 255 * 127")

# %% [markdown]
"""
**4.** A model writes one token at a time, its weights are int8, its product is the one you built. Compared
with float32 weights it is

- a) faster, because a quarter of the bytes is read
- b) as fast, because the arithmetic is the same
- c) slower, because the weights become float32 in memory first
- d) slower, because integer arithmetic is slower than that of floats
"""

# %% exercise="predict.one_token"
### BEGIN SOLUTION
one_token = "c"
### END SOLUTION

# %% check="predict.one_token" points=1
check.choice("one token at a time with int8 weights, in NumPy", one_token, "Yw==", ["a", "b", "c", "d"],
             why="follow the bytes of one weight: from int8 in memory to the multiplication")

# %% [markdown] question="channels_of_activations" points=3
"""
**Open question, graded by a person.** Weights get one scale per output channel. (a) Activations get one for
the whole tensor. Why not one per input feature, the columns of x (N, K)? Write the sum of one output with
such scales, and say at which step of `quantized_product` it breaks. (b) One scale per *row* of x (each token
its own): would that work? (c) In large language models a few features of the activations are a hundred times
as large as the others, in every token. What does that do to a scale per tensor, and what could be done about
it without a scale per feature?

*Your answer:*
"""

# %% [markdown]
"""
## In production

PyTorch's `torch.ao.quantization` does what you built: observers, affine uint8 activations, symmetric int8
weights per channel; its kernels (FBGEMM, QNNPACK, oneDNN) multiply int8 in hardware and fold the next
layer's scale into the int32 sum, so that activations stay integers from layer to layer. Ours return to
float32 after each one. It folds BatchNorm into the convolution before it (a good exercise: two lines of
algebra), and it quantizes residual additions.

Language models go a different way: **weight only**. GPTQ (Frantar et al. 2022) and AWQ (Lin et al. 2023)
choose the 4-bit integers so that the layer's *output* changes least; scales per group of 32 or 128 weights
instead of per row make up for outliers; llama.cpp's formats pack both into blocks. SmoothQuant (Xiao et al.
2022) moves the large features from activations into weights. LLM.int8() (Dettmers et al. 2022) keeps the few
in float16. Training with rounding in the forward pass and a straight-through gradient (quantization-aware
training) buys the last bits. fp8 keeps an exponent instead of a scale. What we are not building: all of
those, and fused integer kernels.

Model files: safetensors came into being because pickled checkpoints ran code of strangers. ONNX and GGUF
describe the architecture in the file as ours does.

## When it fails

| symptom | cause | where to look |
|---|---|---|
| `it has no range` | nan, inf or no numbers in a weight or an activation | the float model: does it give nan for the same input? |
| `which no integer can stand for` | nan in the input of a layer | the layers before it, the data |
| `do not fit four bits` | integers of another scheme | `Scheme(4)` gives -7 to 7; 8-bit integers do not fit |
| `do not hold` | a shape that does not belong to these half bytes | two numbers per byte, an odd one filled up |
| `nothing seen yet` | an observer without a batch | `observe` must count `self.batches`; did the layer get any input? |
| `columns differ` | weights transposed, or x of another width | q (N, K), weight (M, K): out before in |
| `rounding has no gradient` | a quantized layer in training mode | `model.eval()`; train the float model, then quantize |
| `no such module` | a name in skip that does not exist | `[name for name, _ in model.named_modules()]` |
| `must be 8, or 4` | other bits, or 4 with calibration | 2 to 8 exist in `Scheme`; layers have 8 and 4 |
| `Quantize first` | floats given to `Integers` | `quantize_array(x, scale, zero_point, scheme)` |
| `not a model file` | cut off, changed, or another format | the file's size; save it again; `load_checkpoint` reads checkpoints |
| `which a model file cannot hold` | a function, a tokenizer or a dictionary among the attributes | save the part made of layers, such as `talker.gpt` |
| `layers that are not the course's` | a class of your own | `load(path, classes={"Unit": Unit})` |
| `could not be broadcast` | a scale of shape (M, 1) where (M,) belongs, or the other way round | `self.scale.data.ravel()`; `keepdims=True` |
| `could not broadcast` | a row of results that is not the shape of the sum | `left @ right.T` is (N, M) |
| `cannot reshape` | rows with the wrong number of columns, or a half byte too many | (-1, self.in_features), then (*x.shape[:-1], self.out_features); cut half bytes to `count` |
| `truth value of an array` | Python's min, max or round on an array | np.minimum, np.maximum, np.rint work entry by entry |
| `doesn't define __round__` | Python's round on an array | np.rint |
| `in its core dimension` | a matrix that is not transposed | `left @ right.T`: (N, K) times (K, M) |
| `Cannot cast ufunc` | floats added to int32 in place | `.astype(np.int32)` before `+=` |
| `divide by zero` | a channel of zeros has scale 0 | 1 where the scale is 0 |
| `invalid value encountered` | 0 / 0: a scale of 0 | 1 where the scale is 0 |
| `NoneType` | a function gives None, or there is no bias | is a `return` missing? `if self.bias is not None` |
| `has no attribute 'astype'` | a Tensor where an array belongs | these functions work on arrays: `x.data` |
| `has no attribute 'min'` | a list where an array belongs | np.asarray(x) |
| accuracy falls to chance, no error | types that wrap around, a cut instead of rounding, scales of the wrong axis | there and back: is the error at most half a step? |
| right inside, wrong along the border | a frame of integer 0 | pad with the zero point |
"""
