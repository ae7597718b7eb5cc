# %% [markdown]
"""
# 05 · Autograd

Autograd gives the gradient of anything computed with tensors: a table of rules, one line per
operation, and one walk backwards through what was computed.

```
you have built     01 Tensor, 02 activations, 03 layers, 04 losses: forward only
        |
        v
you build now      rules, the tape (tracked), the walk (backward), enable_autograd()
        |
        v
this unlocks       06 optimizers, 07 training, milestones 1969 and 1986
```

Time: about 5 hours, the longest module of the tier and the heart of the framework. Two optional
notebooks prepare the ground with nothing but numbers: `tito module start 05 --extra`.
"""

# %% given="imports"
#| default_exp core.autograd
#| export
from contextlib import ContextDecorator
from functools import partial, wraps

import numpy as np

from tinytorch.core.activations import GELU, LogSoftmax, ReLU, Sigmoid, SiLU, Softmax, Tanh
from tinytorch.core.losses import BCELoss, BCEWithLogitsLoss, CrossEntropyLoss
from tinytorch.core.tensor import Tensor

# %% given="tools"
import sys
import time

import tito.checks as check

# %% [markdown]
"""
## Why: which way is down?

You have a network and a loss. To make the loss smaller you need to know, for every weight, whether to
turn it up or down, and how much it matters. You could try it out: nudge one weight, run the whole
network again, look at the loss. The next cell does that for a small network. It works, and it is
hopeless: one forward pass **per weight**.
"""

# %% demo="nudge_every_weight"
rng = np.random.default_rng(0)
x, w1, w2 = rng.normal(size=(64, 20)), rng.normal(size=(20, 16)), rng.normal(size=(16, 1))


def loss_of(w1, w2):
    return float(((np.maximum(x @ w1, 0) @ w2) ** 2).mean())


start = time.perf_counter()
slope = np.zeros_like(w1)
for place in np.ndindex(w1.shape):
    nudged = w1.copy()
    nudged[place] += 1e-5
    slope[place] = (loss_of(nudged, w2) - loss_of(w1, w2)) / 1e-5
nudging = time.perf_counter() - start
print(f"{w1.size} weights: {nudging * 1e3:.0f} ms by nudging, {nudging / w1.size * 1e6:.0f} µs per weight")
print(f"GPT-2 has 124 million weights: {nudging / w1.size * 124e6 / 3600:.1f} hours for one step,")
print("if its forward pass were as quick as this one")

# %% [markdown]
"""
Autograd finds **all** slopes in one walk with about twice the arithmetic of a forward pass. This module builds it
without touching a line of what you wrote in modules 01 to 04.

## Foundations: the chain rule, by hand

The gradient of `y` with respect to `x` says: if `x` grows by a little, how many times that little does
`y` grow? Take `x = 3` and compute step by step:

```
x = 3      a = x * x = 9       y = a + 2 = 11

y grows as fast as a:                       dy/da = 1
a grows 6 times as fast as x:               da/dx = 2x = 6
so y grows 1 * 6 times as fast as x:        dy/dx = 6
```

That is all of it. Each operation knows one local fact: how its output follows its inputs. Walking
from `y` back to `x` we multiply the facts. Where a value is used **twice**, what comes back along the
two ways is **added**:

```
x = 3 --+--> a = 2x --+--> y = a + b = 21      x reaches y along two ways
        |             |                        along a: 1 * 2, along b: 1 * 5
        +--> b = 5x --+                        dy/dx = 2 + 5 = 7
```

In code, the number that arrives at an operation on the way back is called `g`: how fast the loss
grows with the operation's output. A **rule** turns `g` into what goes back to an input. For
`out = a * b` the rule for `a` is `g * b`, and the rule for `b` is `g * a`.

## Build

### The measuring stick

Before we compute gradients we need to know when one is right. Nudge an input up and down by a small
`eps`, and the slope is the difference of the results over `2 * eps`: **central differences**. For
`f(x) = x**2` at 3 with `eps = 0.1`: `(9.61 - 8.41) / 0.2 = 6`. One-sided nudging would say 6.1.

Write it for a function of an array that returns a number. One entry at a time; put each entry back
before you go on to the next.
"""

# %% exercise="numerical_gradient"
#| export
def numerical_gradient(f, x, eps=1e-5):
    """Slope of `f` at `x` for every entry of `x`, by central differences; an array like `x`.

    f: function of a float64 array that returns a number; x: float64 array, unchanged afterwards.
    Cost: two calls of f per entry.

    >>> numerical_gradient(lambda x: (x**2).sum(), np.array([3.0, -1.0])).round(6).tolist()
    [6.0, -2.0]
    """
    ### BEGIN SOLUTION
    slope = np.zeros_like(x)
    for place in np.ndindex(x.shape):
        centre = x[place]
        x[place] = centre + eps
        up = f(x)
        x[place] = centre - eps
        down = f(x)
        x[place] = centre
        slope[place] = (up - down) / (2 * eps)
    return slope
    ### END SOLUTION

# %% check="numerical_gradient" points=4
_x = np.array([3.0, -1.0])
check.close("slope of the sum of x**2 at [3, -1]", numerical_gradient(lambda x: (x**2).sum(), _x),
            [6, -2], why="the derivative of x² is 2x", rtol=1e-6)
check.equal("x afterwards", _x.tolist(), [3.0, -1.0],
            why="a nudged entry must be put back, or the next slope is measured elsewhere")
check.close("slope of x[0] * x[1] at [3, -1]", numerical_gradient(lambda x: x[0] * x[1], _x),
            [-1, 3], why="each entry's slope is the other entry", rtol=1e-6)
check.close("slope of x**3 at 2 with eps = 0.1",
            numerical_gradient(lambda x: (x**3).sum(), np.array([2.0]), eps=0.1), [12.01],
            why="(2.1³ - 1.9³) / 0.2 = (9.261 - 6.859) / 0.2 = 12.01: up and down, over 2 eps",
            rtol=1e-6)
check.close("slope of a (2, 2) array", numerical_gradient(lambda x: (x * x).sum(), np.ones((2, 2))),
            [[2, 2], [2, 2]], why="the slope has the shape of x", rtol=1e-6)

# %% [markdown]
"""
### Undoing a broadcast

Adding a bias `b` of shape `(3,)` to a batch of shape `(2, 3)` uses each entry of `b` twice, once per
row. Used twice means: what comes back is added.

```
g, as it comes back     [[1 2 3]          the gradient of b must have b's shape:
shape (2, 3)             [4 5 6]]         [1+4 2+5 3+6] = [5 7 9]
```

So a gradient of the broadcast shape is summed back: axes that `b` did not have disappear, and axes
where `b` had size 1 are summed but kept as 1.
"""

# %% exercise="unbroadcast"
#| export
def unbroadcast(gradient, shape):
    """Sum `gradient` (an array of a shape that `shape` broadcasts to) back to `shape`.

    >>> unbroadcast(np.array([[1.0, 2.0], [3.0, 4.0]]), (1, 2)).tolist()
    [[4.0, 6.0]]
    """
    ### BEGIN SOLUTION
    new_axes = gradient.ndim - len(shape)
    if new_axes:
        gradient = gradient.sum(axis=tuple(range(new_axes)))
    stretched = tuple(i for i, n in enumerate(shape) if n == 1)
    return gradient.sum(axis=stretched, keepdims=True) if stretched else gradient
    ### END SOLUTION

# %% check="unbroadcast" points=5
_g = np.arange(1.0, 7.0).reshape(2, 3)
check.close("(2, 3) back to (3,)", unbroadcast(_g, (3,)), [5, 7, 9], why="1+4, 2+5, 3+6: one per row")
check.close("(2, 3) back to (1, 3)", unbroadcast(_g, (1, 3)), [[5, 7, 9]],
            why="a size of 1 was stretched: summed, but the axis stays")
check.close("(2, 3) back to (2, 1)", unbroadcast(_g, (2, 1)), [[6], [15]], why="1+2+3 and 4+5+6")
check.close("(2, 3) back to ()", unbroadcast(_g, ()), 21, why="a number was used six times")
check.close("(2, 3) back to (2, 3)", unbroadcast(_g, (2, 3)), _g, why="nothing was broadcast")
check.close("(2, 2, 3) back to (2, 1)", unbroadcast(np.stack([_g, 10 * _g]), (2, 1)), [[66], [165]],
            why="first the new axis: 11 times the row, then the stretched one: 11 * 6 and 11 * 15")
check.close("(1, 3) back to (1, 1)", unbroadcast(np.array([[1.0, 2.0, 3.0]]), (1, 1)), [[6]],
            why="an axis of size 1 on both sides stays as it is")

# %% [markdown]
"""
### Rules: arithmetic

A rule is a function `(g, out, a, b)` of plain arrays: the gradient that arrives, the result of the
operation, and its operands. It returns the gradient for **one** operand; an operation has a tuple of
rules, one per operand, so that nobody computes a gradient that nobody needs. It need not care about
broadcasting: the walk will call `unbroadcast`.

The rules of `+` are the simplest there are: both operands grow the sum one to one.

Write the others. Nudge in your head: for `a / b`, how does the result follow `a`? (`1 / b` times.) How
does it follow `b`? (`-a / b²` times, which is `-out / b`.) `__rsub__(a, b)` is `b - a`, and
`__rtruediv__(a, b)` is `b / a`. For `a ** b` the rule for `a` is the power rule; the one for `b` is
given as `_power_exponent`, because its logarithm needs care at 0. `-a` has one operand, so `NEG` holds one
rule, a function of `(g, out, a)`; mind the comma that makes it a tuple: `(rule,)`.

A rule returns a new array, or `g` itself. It never changes `g` or an operand in place (`g *= b`): others still
need them. So the checks hand out arrays that cannot be written into, by way of the next cell.
"""

# %% given="read_only"
def _read_only(rule):
    """`rule` with arrays it cannot write into: others still need g and the operands as they are."""

    def guarded(*args, **options):
        views = [a.view() if isinstance(a, np.ndarray) else a for a in args]
        for view in views:
            if isinstance(view, np.ndarray):
                view.flags.writeable = False
        return rule(*views, **options)

    return guarded

# %% exercise="rules.arithmetic"
#| exporti
def _power_exponent(g, out, a, b):
    """Gradient for the exponent of a ** b: out * log(a), and 0 where a is 0."""
    return g * out * np.log(np.where(np.asarray(a) > 0, a, 1.0))


ADD = (lambda g, out, a, b: g, lambda g, out, a, b: g)

### BEGIN SOLUTION
SUB = (lambda g, out, a, b: g, lambda g, out, a, b: -g)
RSUB = (lambda g, out, a, b: -g, lambda g, out, a, b: g)
MUL = (lambda g, out, a, b: g * b, lambda g, out, a, b: g * a)
DIV = (lambda g, out, a, b: g / b, lambda g, out, a, b: -g * out / b)
RDIV = (lambda g, out, a, b: -g * out / a, lambda g, out, a, b: g / a)
POW = (lambda g, out, a, b: g * b * a ** (b - 1), _power_exponent)
NEG = (lambda g, out, a: -g,)
### END SOLUTION

# %% check="rules.arithmetic" points=6
_a, _b = np.array([[1.0, 2.0], [3.0, -4.0]]), np.array([0.5, -2.0])
_p = np.array([[1.5, 2.0], [0.5, 3.0]])
for _name, _rules, _f, _left in [
    ("a - b", SUB, lambda a, b: a - b, _a), ("b - a (__rsub__)", RSUB, lambda a, b: b - a, _a),
    ("a * b", MUL, lambda a, b: a * b, _a), ("a / b", DIV, lambda a, b: a / b, _a),
    ("b / a (__rtruediv__)", RDIV, lambda a, b: b / a, _a), ("a ** b", POW, lambda a, b: a**b, _p),
]:
    for _position in (0, 1):
        check.rule(f"{_name}, rule for {'ab'[_position]}", _read_only(_rules[_position]), _position, _f,
                   _left, _b, why="compared with central differences at a of shape (2, 2), b of shape (2,)")
check.rule("-a", _read_only(NEG[0]), 0, lambda a: -a, _a, why="the sign turns around on the way back too")
check.close("a ** 2, rule for a, at a = 0", POW[0](np.ones(1), np.zeros(1), np.zeros(1), 2.0), [0],
            why="2 * 0 = 0: b * out / a would be 0 / 0 there")

# %% [markdown]
"""
### Rules: functions of one tensor

The same for `exp`, `log`, `sqrt` and `abs`: one operand `x`, so a tuple of one rule `(g, out, x)`. Use
`out` where it saves work: the slope of `exp` is its own value. The rule of `clamp(x, min, max)` is given as
an example. It lets the gradient through where clamp left the number alone (PyTorch counts the two borders
as alone, too) and stops it where clamp cut; options of the call reach a rule by name.
"""

# %% exercise="rules.functions"
#| exporti
def clamp_gradient(g, out, x, min=None, max=None):
    """The gradient where x lies in [min, max], 0 where clamp cut it off."""
    inside = np.ones(x.shape, dtype=bool)
    if min is not None:
        inside &= x >= min
    if max is not None:
        inside &= x <= max
    return g * inside


### BEGIN SOLUTION
EXP = (lambda g, out, x: g * out,)
LOG = (lambda g, out, x: g / x,)
SQRT = (lambda g, out, x: g / (2 * out),)
ABS = (lambda g, out, x: g * np.sign(x),)
### END SOLUTION

# %% check="rules.functions" points=3
_x = np.array([[0.5, 1.0], [2.0, 3.0]])
check.rule("exp", _read_only(EXP[0]), 0, np.exp, _x, why="the slope of eˣ is eˣ: the output itself")
check.rule("log", _read_only(LOG[0]), 0, np.log, _x, why="the slope of log x is 1 / x")
check.rule("sqrt", _read_only(SQRT[0]), 0, np.sqrt, _x, why="the slope of √x is 1 / (2√x)")
check.rule("abs", _read_only(ABS[0]), 0, np.abs, np.array([-2.0, 3.0, -1.0]),
           why="-1 left of 0, +1 right of it; g may have either sign")
check.close("abs at exactly 0", ABS[0](np.array([1.0]), np.array([0.0]), np.array([0.0])), [0],
            why="at the corner no slope is right; 0, the middle, is PyTorch's convention")

# %% [markdown]
"""
### The rule of the matrix product

`C = A @ B` with `A` of shape `(m, k)`, `B` of shape `(k, n)`. The gradient of `A` must have the shape
`(m, k)`, and it is made of `g` `(m, n)` and `B`. There is only one product that fits:

```
grad of A:   g (m, n)  @  B transposed (n, k)      ->  (m, k)
grad of B:   A transposed (k, m)  @  g (m, n)      ->  (k, n)
```

The shapes nearly write the rule for you. To see that it is right, look at one entry: `A[i, p]` meets
`B[p, j]` in every `C[i, j]`, so its gradient is the sum over `j` of `g[i, j] * B[p, j]`.

Batches have leading axes: transpose the **last two** axes only (`swapaxes(-1, -2)`). Vectors are dealt
with by the function below yours, which turns them into matrices first.
"""

# %% exercise="matmul_gradient"
#| exporti
def matmul_gradient(position, g, a, b):
    """Gradient of a @ b for operand 0 (a) or 1 (b), all matrices or batches of matrices.

    Shapes: g (..., m, n), a (..., m, k), b (..., k, n) -> (..., m, k) or (..., k, n).
    Cost: 2*m*k*n FLOPs, as the product itself.
    """
    ### BEGIN SOLUTION
    if position == 0:
        return g @ b.swapaxes(-1, -2)
    return a.swapaxes(-1, -2) @ g
    ### END SOLUTION

# %% check="matmul_gradient" points=5
_a, _b = np.arange(6.0).reshape(2, 3) / 4, np.arange(12.0).reshape(3, 4) / 8 - 0.5
for _position, _name in ((0, "A (2, 3)"), (1, "B (3, 4)")):
    check.rule(f"A @ B, gradient of {_name}",
               _read_only(lambda g, out, a, b, _p=_position: matmul_gradient(_p, g, a, b)), _position,
               lambda a, b: a @ b, _a, _b, why="g @ B.T for A, A.T @ g for B")
_a, _b = np.arange(12.0).reshape(2, 2, 3) / 9, np.arange(6.0).reshape(2, 3, 1) / 5
for _position, _name in ((0, "A (2, 2, 3)"), (1, "B (2, 3, 1)")):
    check.rule(f"a batch of products, gradient of {_name}",
               _read_only(lambda g, out, a, b, _p=_position: matmul_gradient(_p, g, a, b)), _position,
               lambda a, b: a @ b, _a, _b, why=".T would turn the batch axis around as well")

# %% given="matmul_rule"
#| exporti
class for_each:
    """The rules of an operation that treats its operands alike: one function of the position."""

    def __init__(self, rule):
        self.rule = rule

    def __getitem__(self, position):
        return partial(self.rule, position)


def matmul_rule(position, g, out, a, b):
    """`matmul_gradient` for vectors too: a becomes one row, b one column.

    The gradient of a transposed b is made transposed, so that it lies in memory as b does. A stack
    of matrices times one matrix is one product of all their rows.
    """
    if a.ndim > 2 and b.ndim == 2:
        rows = matmul_rule(position, g.reshape(-1, g.shape[-1]), out, a.reshape(-1, a.shape[-1]), b)
        return rows if position else rows.reshape(a.shape)
    if a.ndim == b.ndim == 2:
        if position == 1 and b.flags.f_contiguous and not b.flags.c_contiguous:
            return matmul_gradient(0, g.T, b.T, a.T).T
        return matmul_gradient(position, g, a, b)
    rows, columns = (a[None, :] if a.ndim == 1 else a), (b[:, None] if b.ndim == 1 else b)
    batch = np.broadcast_shapes(rows.shape[:-2], columns.shape[:-2])
    g = np.reshape(g, (*batch, rows.shape[-2], columns.shape[-1]))
    part = matmul_gradient(position, g, rows, columns)
    part = unbroadcast(part, (rows, columns)[position].shape)
    return part.reshape((a, b)[position].shape)

# %% [markdown]
"""
### The rules of reductions

`y = x.sum(axis=1)` adds up a row: every entry of the row grows `y` one to one, so each of them gets the
row's `g`. The shape must first come back: put the summed axis in again as a 1, then stretch.

```
x (2, 3)   sum(axis=1)  ->  (2,)      g = [10 20]
                                      with the axis back: [[10] [20]]
gradient of x:                        [[10 10 10] [20 20 20]]
```

`restore(g, shape, axis, keepdims)` does that for every reduction. `axis` may be None (all), an int,
a negative int or a tuple; with `keepdims` the 1 is there already. `np.expand_dims(g, axis)` and
`np.broadcast_to(g, shape)` are your friends.
"""

# %% exercise="restore"
#| exporti
def restore(g, shape, axis=None, keepdims=False):
    """The gradient `g` of a reduction, stretched back to the `shape` of what was reduced.

    >>> restore(np.array([10.0, 20.0]), (2, 3), axis=1).tolist()
    [[10.0, 10.0, 10.0], [20.0, 20.0, 20.0]]
    """
    ### BEGIN SOLUTION
    if axis is not None and not keepdims:
        g = np.expand_dims(g, axis)
    return np.broadcast_to(g, shape)
    ### END SOLUTION

# %% check="restore" points=4
_g = np.array([10.0, 20.0])
check.close("axis=1 of (2, 3)", restore(_g, (2, 3), axis=1), [[10] * 3, [20] * 3],
            why="each entry of row 0 gets 10, of row 1 gets 20")
check.close("axis=0 of (2, 2)", restore(_g, (2, 2), axis=0), [[10, 20], [10, 20]],
            why="each column has its own g; a square shape would hide a mixed-up axis")
check.close("axis=None of (2, 3)", restore(np.array(5.0), (2, 3)), [[5] * 3] * 2,
            why="one number for all six entries")
check.close("axis=-1, keepdims", restore(np.array([[1.0], [2.0]]), (2, 2), axis=-1, keepdims=True),
            [[1, 1], [2, 2]], why="the 1 is still there: no axis to put back")
check.close("axis=(0, 2) of (2, 2, 2)", restore(_g, (2, 2, 2), axis=(0, 2)),
            [[[10, 10], [20, 20]]] * 2, why="a tuple of axes comes back at once")
check.close("axis=(-2, -1) of (2, 2, 2)", restore(_g, (2, 2, 2), axis=(-2, -1)),
            [[[10, 10], [10, 10]], [[20, 20], [20, 20]]],
            why="negative axes count in the full shape: what is left is axis 0")

# %% [markdown]
"""
`max` passes the gradient to the winner alone. When several entries share the largest value, which one
is the winner? None of them alone: nudging one up raises the maximum, nudging it down does not. PyTorch
(`amax`) shares the gradient equally among them, and so do we: for `[3, 5, 5]` and `g = 1` the gradient
is `[0, 0.5, 0.5]`.
"""

# %% exercise="max_gradient"
#| exporti
def max_gradient(g, out, x, axis=None, keepdims=False):
    """Gradient of x.max(axis, keepdims): g shared equally among the entries that equal the maximum.

    >>> max_gradient(np.array(1.0), np.array(5.0), np.array([3.0, 5.0, 5.0])).tolist()
    [0.0, 0.5, 0.5]
    """
    ### BEGIN SOLUTION
    winners = (x == restore(out, x.shape, axis, keepdims)).astype(x.dtype)
    share = winners / winners.sum(axis=axis, keepdims=True)
    return restore(g, x.shape, axis, keepdims) * share
    ### END SOLUTION

# %% check="max_gradient" points=4
_x = np.array([[1.0, 7.0, 3.0], [6.0, 2.0, 4.0]])
check.rule("max()", _read_only(max_gradient), 0, lambda x: x.max(), _x, why="only the largest entry moves it")
check.rule("max(axis=1)", _read_only(partial(max_gradient, axis=1)), 0, lambda x: x.max(axis=1), _x,
           why="one winner per row")
check.rule("max(axis=0, keepdims)", _read_only(partial(max_gradient, axis=0, keepdims=True)), 0,
           lambda x: x.max(axis=0, keepdims=True), _x, why="one winner per column")
check.close("a tie: [3, 5, 5]", max_gradient(np.array(1.0), np.array(5.0), np.array([3.0, 5.0, 5.0])),
            [0, 0.5, 0.5], why="shared equally, and the shares add up to g")
check.close("a tie in one row of two",
            max_gradient(np.array([1.0, 2.0]), np.array([5.0, 4.0]),
                         np.array([[5.0, 5.0], [4.0, 0.0]]), axis=1),
            [[0.5, 0.5], [2, 0]], why="winners are counted per row, not in the whole tensor")

# %% [markdown]
"""
### The rule of indexing

`y = x[[0, 2, 2]]` picks rows. On the way back each picked row gets its `g`, all others get 0; and row 2,
picked **twice**, gets the sum of two. That last point is a famous bug: `zeros[index] = g` and even
`zeros[index] += g` keep only one of the two, because NumPy reads, adds and writes all rows at once.
`np.add.at(zeros, index, g)` adds one after the other.
"""

# %% exercise="index_gradient"
#| exporti
def index_gradient(g, out, x, key):
    """Gradient of x[key]: g added into zeros where `key` points, repeated places added up.

    >>> index_gradient(np.ones(3), None, np.zeros(3), [0, 2, 2]).tolist()
    [1.0, 0.0, 2.0]
    """
    ### BEGIN SOLUTION
    gradient = np.zeros_like(x)
    np.add.at(gradient, key, g)
    return gradient
    ### END SOLUTION

# %% check="index_gradient" points=4
_x = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
check.rule("x[[0, 2, 2]]", _read_only(lambda g, out, x: index_gradient(g, out, x, [0, 2, 2])), 0,
           lambda x: x[[0, 2, 2]], _x, why="row 2 was used twice: its two gradients are added")
check.rule("x[1]", _read_only(lambda g, out, x: index_gradient(g, out, x, 1)), 0, lambda x: x[1], _x,
           why="one row got through, the others get 0")
check.rule("x[:, 1]", _read_only(lambda g, out, x: index_gradient(g, out, x, (slice(None), 1))), 0,
           lambda x: x[:, 1], _x, why="a slice and an int at once")
check.rule("x[x > 2.5]", _read_only(lambda g, out, x: index_gradient(g, out, x, x > 2.5)), 0,
           lambda x: x[x > 2.5], _x, why="a mask")

# %% [markdown]
"""
### Rules that only move numbers

`reshape` changes the brackets, so its rule changes them back. `permute(2, 0, 1)` sent axis 2 to the
front; its rule must send each axis home: the inverse permutation, which `np.argsort(axes)` gives for axes from
0 up. `permute` may be called with one tuple (the given line unpacks it), and with negative axes: take them
modulo the number of axes. `cat` laid tensors end to end; its rule cuts `g` apart again and hands each tensor its
piece. Write these last two.
"""

# %% exercise="permute_gradient"
#| exporti
def permute_gradient(g, out, x, *axes):
    """Gradient of x.permute(*axes): every axis of g sent back where it came from.

    >>> permute_gradient(np.zeros((4, 2, 3)), None, np.zeros((2, 3, 4)), 2, 0, 1).shape
    (2, 3, 4)
    """
    axes = axes[0] if len(axes) == 1 and isinstance(axes[0], (tuple, list)) else axes
    ### BEGIN SOLUTION
    home = sorted(range(x.ndim), key=lambda i: axes[i] % x.ndim)
    return g.transpose(home)
    ### END SOLUTION

# %% check="permute_gradient" points=3
_x = np.arange(6.0).reshape(1, 2, 3)
for _axes in ((2, 0, 1), (0, 2, 1), (1, 2, 0), (-1, 0, 1)):
    check.rule(f"permute{_axes}", lambda g, out, x, _axes=_axes: permute_gradient(g, out, x, *_axes), 0,
               lambda x, _axes=_axes: x.transpose(_axes), _x,
               why="what was axis 2 must be axis 2 again; the same order twice is not the way back")

# %% [markdown]
"""
And the pieces. Three tensors with 1, 2 and 1 rows make 4 rows of `g`:

```
g     row 0        tensor 0
      rows 1, 2    tensor 1: begins where those before it end, and is 2 long
      row 3        tensor 2
```
"""

# %% exercise="cat_gradient"
#| exporti
def cat_gradient(position, g, out, *tensors, axis=0):
    """Gradient of Tensor.cat(*tensors, axis=axis) for the tensor at `position`: its piece of g.

    >>> cat_gradient(1, np.array([1.0, 2.0, 3.0]), None, np.zeros(2), np.zeros(1)).tolist()
    [3.0]
    """
    ### BEGIN SOLUTION
    start = sum(t.shape[axis] for t in tensors[:position])
    piece = [slice(None)] * g.ndim
    piece[axis] = slice(start, start + tensors[position].shape[axis])
    return g[tuple(piece)]
    ### END SOLUTION

# %% check="cat_gradient" points=4
_a, _b, _c = np.ones((1, 2)), np.ones((2, 2)), np.ones((1, 2))
for _position in range(3):
    check.rule(f"cat of (1, 2), (2, 2), (1, 2): tensor {_position}", partial(cat_gradient, _position),
               _position, lambda *arrays: np.concatenate(arrays), _a, _b, _c,
               why="rows 0, then 1 to 2, then 3 of g")
_a, _b = np.ones((2, 1)), np.ones((2, 3))
for _position in range(2):
    check.rule(f"cat of (2, 1), (2, 3), axis=1: tensor {_position}",
               partial(cat_gradient, _position, axis=1), _position,
               lambda a, b: np.concatenate([a, b], axis=1), _a, _b, why="columns 0, then 1 to 3")
check.close("cat of (1, 1, 1), (1, 1, 2), axis=-1: tensor 1",
            cat_gradient(1, np.array([[[1.0, 2.0, 3.0]]]), None, np.ones((1, 1, 1)), np.ones((1, 1, 2)),
                         axis=-1),
            [[[2, 3]]], why="a negative axis counts from the end, however many there are")

# %% [markdown]
"""
### Rules of the activations

`ReLU` lets the gradient through where its input was positive; at exactly 0 nothing passes (PyTorch's
convention). `Sigmoid` and `Tanh` have slopes made of their own outputs: `s * (1 - s)` and `1 - t²`.
An activation is an object and its operation is the method `forward(self, x)`: operand 0 is `self`, which
has no gradient, and operand 1 is `x`. If squaring were an activation, its rules would read
`(None, lambda g, out, self, x: g * 2 * x)`.
"""

# %% exercise="rules.activations"
#| exporti
### BEGIN SOLUTION
RELU = (None, lambda g, out, self, x: g * (x > 0))
SIGMOID = (None, lambda g, out, self, x: g * out * (1 - out))
TANH = (None, lambda g, out, self, x: g * (1 - out * out))
### END SOLUTION

# %% check="rules.activations" points=4
_x = np.array([-2.0, -0.5, 0.5, 3.0])
check.rule("ReLU", _read_only(lambda g, out, x: RELU[1](g, out, None, x)), 0, lambda x: np.maximum(x, 0), _x,
           why="g where x > 0, otherwise 0")
check.close("ReLU at exactly 0",
            RELU[1](np.array([1.0]), np.array([0.0]), None, np.array([0.0])), [0],
            why="at the corner PyTorch, and so we, let nothing through")
check.rule("Sigmoid", _read_only(lambda g, out, x: SIGMOID[1](g, out, None, x)), 0,
           lambda x: 1 / (1 + np.exp(-x)), _x, why="s (1 - s)")
check.rule("Tanh", _read_only(lambda g, out, x: TANH[1](g, out, None, x)), 0, np.tanh, _x, why="1 - t²")

# %% [markdown]
"""
`Softmax` is different: every output depends on every input of its row, because they share one sum. For
`s = softmax(x)` the slope of `s[i]` with `x[j]` is `s[i] * (1 - s[i])` if `i = j` and `-s[i] * s[j]`
otherwise. Multiply that table by `g` and it collapses: the gradient of `x[j]` is

```
s[j] * (g[j] - sum over i of g[i] * s[i])
```

Each entry gets its own `g` minus the weighted average of all. For `s = [0.5, 0.5]` and `g = [1, 0]` the
average is 0.5, so the gradient is `[0.25, -0.25]`: what one gains, the others lose.
"""

# %% exercise="softmax_gradient"
#| exporti
def softmax_gradient(g, out, self, x):
    """Gradient of softmax along `self.dim`: out * (g - the average of g weighted by out).

    >>> softmax_gradient(np.array([1.0, 0.0]), np.array([0.5, 0.5]), Softmax(), np.zeros(2)).tolist()
    [0.25, -0.25]
    """
    ### BEGIN SOLUTION
    return out * (g - (g * out).sum(axis=self.dim, keepdims=True))
    ### END SOLUTION

# %% check="softmax_gradient" points=4
def _softmax(x, axis):
    shifted = np.exp(x - x.max(axis=axis, keepdims=True))
    return shifted / shifted.sum(axis=axis, keepdims=True)


_x = np.array([[0.2, -1.0, 0.7], [1.5, 0.0, -0.3]])
check.close("s = [0.5, 0.5], g = [1, 0]",
            softmax_gradient(np.array([1.0, 0.0]), np.array([0.5, 0.5]), Softmax(), np.zeros(2)),
            [0.25, -0.25], why="0.5 * (1 - 0.5) and 0.5 * (0 - 0.5)")
check.rule("Softmax(dim=-1)", _read_only(lambda g, out, x: softmax_gradient(g, out, Softmax(), x)), 0,
           lambda x: _softmax(x, -1), _x, why="each row has an average of its own")
check.rule("Softmax(dim=0)", _read_only(lambda g, out, x: softmax_gradient(g, out, Softmax(dim=0), x)), 0,
           lambda x: _softmax(x, 0), _x, why="here the columns do: use self.dim")

# %% [markdown]
"""
### The rule of the cross-entropy

The loss that trains every classifier in this course has the most beautiful rule of all. With
probabilities `p = softmax(logits)` and the target written as a row of zeros with a single 1 (*one-hot*),
the gradient of the logits is

```
(p - target) / N        p      [0.7 0.2 0.1]     target 1:  [0 1 0]
                        gradient of the row      [0.7 -0.8 0.1] / N
```

Push down what was too likely, push up the right one, in proportion to the mistake. Dividing by the
number of rows `N` belongs to `reduction="mean"`; `_scaled(self, g, count)` below does that and multiplies
by `g` for all three reductions. With label smoothing `e` the target is `1 - e` for the right class, plus
`e / C` for every class.

The cell prepares three things. `powers` holds e to the power of each logit, shifted so that none
overflows: dividing each row by its sum makes it `p`. `target` is an array of `rows` class numbers, so
`gradient[np.arange(rows), target]` is one entry per row, the right one. `per_row`, of shape `(rows, 1)`, is
what each row is finally multiplied by.
"""

# %% exercise="cross_entropy_gradient"
#| exporti
def _scaled(self, g, count):
    """`g` of a loss with `self.reduction`, per row: divided by `count` for the mean."""
    return g / count if self.reduction == "mean" else g


def cross_entropy_gradient(g, out, self, logits, target):
    """Gradient of the cross-entropy for logits (N, C) and class targets (N,): (N, C).

    Softmax of the logits minus the (smoothed) one-hot target, times g per row.
    """
    rows, classes = logits.shape
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    target = np.asarray(target).astype(np.int64)
    per_row = np.reshape(_scaled(self, g, rows), (-1, 1))
    ### BEGIN SOLUTION
    gradient = powers / powers.sum(axis=1, keepdims=True)
    gradient -= self.label_smoothing / classes
    gradient[np.arange(rows), target] -= 1 - self.label_smoothing
    return gradient * per_row
    ### END SOLUTION

# %% check="cross_entropy_gradient" points=5
def _cross_entropy(x, target, smoothing=0.0):
    log_p = x - x.max(axis=1, keepdims=True)
    log_p = log_p - np.log(np.exp(log_p).sum(axis=1, keepdims=True))
    wanted = np.eye(x.shape[1])[target] * (1 - smoothing) + smoothing / x.shape[1]
    return -(wanted * log_p).sum(axis=1)


_x, _t = np.array([[2.0, 0.5, -1.0], [0.1, 0.2, 0.3]]), np.array([1, 2])
check.close("logits log([0.7, 0.2, 0.1]), target 1",
            cross_entropy_gradient(np.array(1.0), None, CrossEntropyLoss(),
                                   np.log([[0.7, 0.2, 0.1]]), np.array([1])),
            [[0.7, -0.8, 0.1]], why="p - one-hot: 0.2 - 1 = -0.8 for the right class")
check.rule("reduction='mean', two rows",
           lambda g, out, x: cross_entropy_gradient(g, out, CrossEntropyLoss(), x, _t), 0,
           lambda x: _cross_entropy(x, _t).mean(), _x, why="each row's gradient is divided by N = 2")
check.rule("reduction='none'",
           lambda g, out, x: cross_entropy_gradient(g, out, CrossEntropyLoss(reduction="none"), x, _t), 0,
           lambda x: _cross_entropy(x, _t), _x, why="each row has a g of its own")
check.rule("label_smoothing=0.3",
           lambda g, out, x: cross_entropy_gradient(g, out, CrossEntropyLoss(label_smoothing=0.3), x, _t),
           0, lambda x: _cross_entropy(x, _t, 0.3).mean(), _x,
           why="0.7 for the right class plus 0.1 for each of the three")

# %% [markdown]
"""
### The table

The remaining rules follow the same pattern and are given. Read the table: it is the whole calculus of
the framework, sorted by the module that introduced the operation. From now on, a new operation means a
new line here.
"""

# %% given="table"
#| exporti
def power_gradient(g, out, a, b):
    """POW's rule for the base; where the exponent is 0 the slope is 0, also at a = 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(np.equal(b, 0), 0, POW[0](g, out, a, b))


def mean_gradient(g, out, x, axis=None, keepdims=False):
    """Every entry's share of the mean's gradient: g divided by how many were averaged."""
    return restore(g, x.shape, axis, keepdims) * (out.size / max(x.size, 1))


def var_gradient(g, out, x, axis=None, keepdims=False, correction=1):
    """Slope of the variance: 2 (x - mean) / (n - correction)."""
    distance = x - x.mean(axis=axis, keepdims=True)
    n = x.size / max(out.size, 1)
    return restore(g, x.shape, axis, keepdims) * (2 * distance / (n - correction))


def gelu_gradient(g, out, self, x):
    """Slope of GELU, exact or of its tanh approximation. Source: Hendrycks & Gimpel 2016."""
    if self.approximate == "tanh":
        c, square = np.sqrt(2 / np.pi).astype(x.dtype), x * x  # x**3 would call pow for each entry
        t = np.tanh(c * x * (1 + 0.044715 * square))
        return g * (0.5 * (1 + t) + 0.5 * x * (1 - t * t) * c * (1 + 3 * 0.044715 * square))
    density = np.exp(-0.5 * x * x) * float(1 / np.sqrt(2 * np.pi))
    share = np.divide(out, x, out=np.full_like(x, 0.5), where=x != 0)  # out is x * share
    return g * (share + x * density)


def silu_gradient(g, out, self, x):
    """Slope of x * sigmoid(x), with the sigmoid s: s + out * (1 - s)."""
    s = 0.5 * (1 + np.tanh(0.5 * x))
    return g * (s + out * (1 - s))


def bce_gradient(g, out, self, p, target):
    """Slope of the binary cross-entropy of a probability: (p - t) / (p (1 - p))."""
    return _scaled(self, g, p.size) * (p - target) / np.maximum(p * (1 - p), 1e-12)


def bce_target_gradient(g, out, self, p, target):
    """Slope in the target, which is log(1 - p) - log(p), each log kept above -100."""
    with np.errstate(divide="ignore"):
        slope = np.maximum(np.log1p(-p), -100) - np.maximum(np.log(p), -100)
    return _scaled(self, g, p.size) * slope


def bce_logits_gradient(g, out, self, x, target):
    """Slope of the binary cross-entropy of a logit: sigmoid(x) - t."""
    return _scaled(self, g, x.size) * (0.5 * (1 + np.tanh(0.5 * x)) - target)


def _whole(key):
    """An index whose tensors (or their float arrays) have become arrays of integers."""
    if isinstance(key, tuple):
        return tuple(_whole(part) for part in key)
    values = key.data if isinstance(key, Tensor) else key
    floats = isinstance(values, np.ndarray) and values.dtype.kind == "f"
    return values.astype(np.int64) if floats else values


GRADIENTS = {
    Tensor: {
        "__add__": ADD, "__radd__": ADD, "__sub__": SUB, "__rsub__": RSUB,
        "__mul__": MUL, "__rmul__": MUL, "__truediv__": DIV, "__rtruediv__": RDIV,
        "__pow__": (power_gradient, POW[1]), "__neg__": NEG, "exp": EXP, "log": LOG, "sqrt": SQRT, "abs": ABS,
        "clamp": (clamp_gradient,),
        "__matmul__": for_each(matmul_rule),
        "sum": (lambda g, out, x, axis=None, keepdims=False: restore(g, x.shape, axis, keepdims),),
        "mean": (mean_gradient,), "var": (var_gradient,), "max": (max_gradient,),
        "reshape": (lambda g, out, x, *shape: g.reshape(x.shape),),
        "permute": (permute_gradient,),
        "transpose": (lambda g, out, x, dim0=-2, dim1=-1: g.swapaxes(dim0, dim1),),
        "__getitem__": (lambda g, out, x, key: index_gradient(g, out, x, _whole(key)),),
        "cat": for_each(cat_gradient),
        "clone": (lambda g, out, x: g,),
    },
    ReLU: {"forward": RELU}, Sigmoid: {"forward": SIGMOID}, Tanh: {"forward": TANH},
    GELU: {"forward": (None, gelu_gradient)}, SiLU: {"forward": (None, silu_gradient)},
    Softmax: {"forward": (None, softmax_gradient)},
    LogSoftmax: {"forward": (None, lambda g, out, self, x: (
        g - np.exp(out) * g.sum(axis=self.dim, keepdims=True)))},
    CrossEntropyLoss: {"forward": (  # class numbers have no slope
        None, cross_entropy_gradient, lambda g, out, self, x, t: np.zeros(np.shape(t)))},
    BCELoss: {"forward": (None, bce_gradient, bce_target_gradient)},
    BCEWithLogitsLoss: {"forward": (
        None, bce_logits_gradient, lambda g, out, self, x, t: _scaled(self, g, x.size) * -x)},
}  # fmt: skip

# %% [markdown]
"""
### The tape

Now tensors must remember where they came from. `_node`, the attribute that slept since module 01,
wakes up: the result of an operation points to a **node** with the rules, the operands' arrays, and the
parents, that is, the operands that want a gradient, each with its position.

```
x ──┐
    ├─ [__mul__] ── out          out._node.parents = ((0, x), (1, w))
w ──┘                            out._node.rules   = MUL
```

`tracked(forward, rules, name)` wraps a forward function. The wrapper

1. collects the parents: `(position, tensor)` for each argument that is a tensor with `requires_grad`;
2. if recording is off, or there are no parents, just calls `forward`: no memory, no cost;
3. otherwise calls `forward` **with recording off** (an operation may be built from others, and only the
   outer one shall be remembered), then marks the result: `requires_grad = True` and a `Node`.

`no_grad()` is given: it switches recording off for a block, and back to what it was afterwards. (To cut
a single tensor loose there is `x.detach()`, since module 01: the same numbers, without the history.)
"""

# %% exercise="tracked"
#| export
class Node:
    """How a tensor came to be: name, rules, parents as (position, tensor), the operands' arrays."""

    __slots__ = ("args", "kwargs", "name", "parents", "rules")

    def __init__(self, name, rules, parents, args, kwargs):
        self.name, self.rules, self.parents = name, rules, parents
        self.args = [a.data if isinstance(a, Tensor) else a for a in args]
        self.kwargs = kwargs


_recording = True


class no_grad(ContextDecorator):
    """Block, or decorated function, in which no gradients are recorded."""

    def __enter__(self):
        global _recording
        self.before, _recording = _recording, False

    def __exit__(self, *error):
        global _recording
        _recording = self.before


def is_grad_enabled():
    """Whether operations are being recorded."""
    return _recording


def tracked(forward, rules, name):
    """`forward` that remembers: its result knows parents and rules if a gradient is wanted.

    Cost: one Node per recorded call, which keeps the operands' arrays alive until backward.
    """

    @wraps(forward)
    def operation(*args, **kwargs):
        ### BEGIN SOLUTION
        parents = tuple(
            [(i, a) for i, a in enumerate(args) if isinstance(a, Tensor) and a.requires_grad]
        )
        if not (_recording and parents):
            return forward(*args, **kwargs)
        with no_grad():
            out = forward(*args, **kwargs)
        out.requires_grad = True
        out._node = Node(name, rules, parents, args, kwargs)
        return out
        ### END SOLUTION

    return operation

# %% check="tracked" points=7
_recording = True  # whatever an earlier attempt left
_double = tracked(lambda a, factor=2: Tensor(a.data * factor), (lambda g, out, a, factor=2: g * factor,),
                  "double")
_x = Tensor([1.0, 2.0], requires_grad=True)
_y = _double(_x, factor=3)
check.tensor("the result of the wrapped operation, factor=3", _y, [3, 6],
             why="forward still does its work, with the options of the call")
check.equal("does the result want a gradient, and what is its _node?",
            (_y.requires_grad, type(_y._node).__name__), (True, "Node"),
            why="the gradient must pass through it on its way back to x, and the node knows that way")
check.equal("name, options and positions in the node",
            (_y._node.name if isinstance(_y._node.name, str) else "no text", _y._node.kwargs,
             tuple(i for i, _ in _y._node.parents)),
            ("double", {"factor": 3}, (0,)), why="x is operand 0; the rule is called with factor=3 again")
check.true("the parent is x itself", _y._node.parents[0][1] is _x, why="gradients go to that object")
_z = _double(Tensor([1.0]))
check.true("no operand wants a gradient: no Node", _z._node is None and not _z.requires_grad,
           why="data batches must cost no memory", got=type(_z._node).__name__)
with no_grad():
    _z = _double(_x)
check.true("inside no_grad(): no Node", _z._node is None and not _z.requires_grad,
           why="evaluation must cost no memory", got=type(_z._node).__name__)
_w = Tensor([3.0], requires_grad=True)
_mix = tracked(lambda a, b, c: Tensor(a.data + c.data), (None, None, None), "mix")(Tensor([1.0]), 5, _w)
check.equal("mix(no gradient, 5, w): positions of the parents, and how many operands the node keeps",
            (tuple(i for i, _ in _mix._node.parents), len(_mix._node.args)), ((2,), 3),
            why="a parent's position says which rule is its own, and a rule is called with all operands")
_inner = []
_outer = tracked(lambda a: _inner.append(_double(a)) or Tensor(_inner[0].data), (None,), "outer")(_x)
check.true("an operation inside an operation is not recorded", _inner[0]._node is None,
           why="only the outer operation shall be remembered: call forward with recording off",
           got=type(_inner[0]._node).__name__)
_weighted_by_x = tracked(lambda a: _double(_x), (None,), "outer")(Tensor([1.0]))
check.true("an operation inside one without parents is recorded", _weighted_by_x._node is not None,
           why="then `forward` is just called: a layer's own weights may be used in there",
           got=type(_weighted_by_x._node).__name__)
try:
    tracked(lambda a: Tensor(a.data[9]), (None,), "too_far")(_x)
except IndexError:
    pass
check.equal("recording afterwards, also after an error in forward", is_grad_enabled(), True,
            why="on again however forward ended, which `with no_grad():` sees to")

# %% [markdown]
"""
### The order of the walk

Going back, a tensor may hand gradients on only when **all** of its own have arrived. In the diamond of
the Foundations, `x` must wait for both `a` and `b`. So before the walk we put the tensors in an order in
which every tensor comes **after** all of its parents: a **topological sort**; the walk goes through it
from the end.

```
x --+--> a --+--> y          order:    x  a  b  y
    |        |               walk:     y  b  a  x
    +--> b --+
                             y first: nothing else can send it a gradient
                             x last: both of its gradients have arrived
```

The usual way is a depth-first search: visit the parents, then write down yourself. Written with
recursion it fails on long chains, because Python allows about 1,000 nested calls. So keep a **stack** of
your own with pairs `(tensor, parents_done)`:

- take the top pair; if its parents are done, append the tensor to the order;
- otherwise, unless it was seen before, push it back as done, and push its parents as not done.

A tensor made by the user (a *leaf*) has `_node = None` and no parents.
"""

# %% exercise="topological_sort"
#| export
def topological_sort(root):
    """All tensors that `root` was computed from, and root itself, parents before children.

    Only tensors on the tape (with parents that want gradients) are walked. Iterative.
    Cost: linear in nodes and edges.
    """
    ### BEGIN SOLUTION
    order, seen, stack = [], set(), [(root, False)]
    while stack:
        tensor, parents_done = stack.pop()
        if parents_done:
            order.append(tensor)
        elif id(tensor) not in seen:
            seen.add(id(tensor))
            stack.append((tensor, True))
            if tensor._node is not None:
                stack.extend((parent, False) for _, parent in tensor._node.parents)
    return order
    ### END SOLUTION

# %% check="topological_sort" points=7
def _made(*parents):
    tensor = Tensor([0.0], requires_grad=True)
    if parents:
        tensor._node = Node("op", (), tuple(enumerate(parents)), (), {})
    return tensor


def _valid(order):
    place = {id(t): i for i, t in enumerate(order)}
    return len(place) == len(order) and all(
        place.get(id(p), len(order)) < place[id(t)]
        for t in order if t._node for _, p in t._node.parents)


_x = _made()
_a, _b = _made(_x), _made(_x)
_y = _made(_a, _b)
_order = topological_sort(_y)
check.equal("the diamond: how many tensors", len(_order), 4, why="x, a, b, y: each once, x too")
check.true("the diamond: parents before children", _valid(_order),
           why="a tensor may hand on its gradient only when all of its own have arrived",
           got=["xaby"[[_x, _a, _b, _y].index(t)] for t in _order])
check.true("the root comes last", _order[-1] is _y, why="the walk starts there")
_c = _made(_x, _a)
for _parents in ("cax", "xac"):
    _d = _made(*[{"x": _x, "a": _a, "c": _c}[_name] for _name in _parents])
    _e = _made(_d, _x)
    _order = topological_sort(_e)
    check.true(f"long ways and short ways: c from x and a, d from {', '.join(_parents)}, e from d and x",
               _valid(_order), why="a is a parent of d directly and through c: it must come before both",
               got=["xacde"[[_x, _a, _c, _d, _e].index(t)] for t in _order])
check.equal("one tensor used twice by the same operation", len(topological_sort(_made(_x, _x))), 2,
            why="x * x has one parent in two positions")
_chain = _made()
for _ in range(5000):
    _chain = _made(_chain)
check.equal("a chain of 5,000 operations", len(topological_sort(_chain)), 5001,
            why="recursion would stop at about 1,000; a stack of your own does not")
check.true("Python's limit on nested calls is below 5,000", sys.getrecursionlimit() < 5000,
           why="a raised limit only moves the wall; a list as stack has none (after a try with "
               "setrecursionlimit, restart the kernel)", got=sys.getrecursionlimit())

# %% [markdown]
"""
### The walk

`backward` puts it together. `grads` maps a tensor (by `id`) to the gradient that has arrived so far.
Start with the root's own gradient: 1, because a number grows one to one with itself. Then take the
tensors from the end of the order:

- a **leaf** (no node) keeps its gradient in `.grad`: the first one is stored, later ones are **added**
  (two calls of backward add up, which is why training loops call `zero_grad`);
- any other tensor sends each parent its part: `node.rules[position](g, out, *args, **kwargs)`, where
  `out` is the tensor's data, and `args` and `kwargs` are the node's. The part is brought to the parent's
  shape with `unbroadcast` if it has another one, and **added** to what has arrived in `grads` already.

When a tensor has sent its parts its node has done its duty: unless `retain_graph`, it becomes `FREED`,
so that the memory is released as we walk.

The walk is given; you write its two halves. `_keep(tensor, g)` is what a leaf does, and
`_send(grads, tensor, g)` what every other tensor does. Two details are prepared for you: `_writable`
makes an array of the tensor's type that belongs to it alone, and `_own` copies a part that a second
parent would otherwise share with the first (the rule of `+` hands the *same* `g` to both).
"""

# %% given="walk"
#| exporti
FREED = Node("freed", (), (), (), {})


def _first_gradient(tensor, gradient):
    """The gradient at the root of the walk: ones for a single number, else what the caller says."""
    if not tensor.requires_grad:
        raise RuntimeError(
            f"backward: this tensor of shape {tensor.shape} has no graph: nothing it was computed "
            "from has requires_grad=True, or it was computed under no_grad()."
        )
    if gradient is None and tensor.size != 1:
        raise RuntimeError(
            f"backward: a tensor of shape {tensor.shape} has no single slope. "
            "Reduce it first, .sum() or .mean(), or pass backward(gradient) of that shape."
        )
    if gradient is None:
        return np.ones_like(tensor.data)
    values = gradient.data if isinstance(gradient, Tensor) else gradient
    gradient = np.array(values, dtype=tensor.data.dtype)
    if gradient.shape != tensor.shape:
        raise RuntimeError(
            f"backward: gradient of shape {gradient.shape} for a tensor of shape {tensor.shape}: "
            "they must be the same."
        )
    return gradient


def _writable(g, tensor):
    """`g` as an array of the tensor's type that may be changed in place; a copy only if needed."""
    if isinstance(g, np.ndarray) and g.flags.writeable and g.dtype == tensor.data.dtype:
        return g
    return np.array(g, dtype=tensor.data.dtype)


def _own(part, g, position):
    """`part`, or a copy, laid out alike, for a second parent if it is `g` or a view of its memory."""
    shared = part is g or (part.base is not None and part.base is (g if g.base is None else g.base))
    return part.copy(order="K") if position and shared else part

# %% exercise="backward.keep"
#| exporti
def _keep(tensor, g):
    """A leaf's gradient: stored the first time, added to what is there from then on."""
    ### BEGIN SOLUTION
    g = _writable(g, tensor)
    tensor.grad = g if tensor.grad is None else tensor.grad + g
    ### END SOLUTION

# %% check="backward.keep" points=3
_x = Tensor([1.0, 2.0], requires_grad=True)
_keep(_x, np.array([3.0, 4.0], dtype=np.float32))
check.close("x.grad after a first gradient", _x.grad, [3, 4], why="nothing was there: it is stored")
_keep(_x, np.array([1.0, 1.0], dtype=np.float32))
check.close("x.grad after a second one", _x.grad, [4, 5],
            why="gradients add up until zero_grad: two losses may share a weight")
check.equal("type of x.grad", str(_x.grad.dtype), "float32", why="as x itself")
_keep(_x, np.broadcast_to(np.float32(1.0), (2,)))
_x.grad *= 2
check.close("x.grad changed in place", _x.grad, [10, 12],
            why="(5 + 1) * 2: an optimizer scales gradients in place, so they must be writable")
_y = Tensor([0.0, 0.0], requires_grad=True)
_keep(_y, np.broadcast_to(np.float32(1.0), (2,)))
check.true("a first gradient that was read-only is writable", _y.grad.flags.writeable,
           why="np.broadcast_to gives a read-only view; _writable makes it the leaf's own")

# %% [markdown]
"""
The other half. A tensor `y = x * w` with `g = [1, 10]` sends `g * w` to `x` and `g * x` to `w`: each parent's part
comes from the rule **at its position**, and ends in `grads` under `id(parent)`, on top of what is there. In the
order: rule, `unbroadcast` if the shape is not the parent's, `_own(part, g, position)`, add into a **new** array.
"""

# %% exercise="backward.send"
#| exporti
def _send(grads, tensor, g):
    """Every parent's part of `g` through its rule, in the parent's shape, added into `grads`."""
    node = tensor._node
    ### BEGIN SOLUTION
    for position, parent in node.parents:
        part = node.rules[position](g, tensor.data, *node.args, **node.kwargs)
        if part.shape != parent.data.shape:
            part = unbroadcast(part, parent.data.shape)
        part = _own(part, g, position)
        key = id(parent)
        grads[key] = grads[key] + part if key in grads else part
    ### END SOLUTION


def backward(self, gradient=None, retain_graph=False):
    """Gradients of this tensor for every leaf it was computed from, added into their `.grad`.

    gradient: array of this tensor's shape, needed unless it holds a single number.
    Raises RuntimeError without a graph, or if the graph was freed by an earlier backward.
    Cost: about twice the arithmetic of the forward pass; frees the graph unless `retain_graph`.
    """
    grads = {id(self): _first_gradient(self, gradient)}
    order = topological_sort(self)
    if any(tensor._node is FREED for tensor in order):
        raise RuntimeError(
            "backward: this graph was freed by an earlier backward. "
            "Compute the result again, or pass retain_graph=True the first time."
        )
    while order:
        tensor = order.pop()
        g = grads.pop(id(tensor))
        if tensor._node is None:
            _keep(tensor, g)
            continue
        _send(grads, tensor, g)
        if not retain_graph:
            tensor._node = FREED

# %% check="backward.send" points=8
def _op(rules, out, *args, **kwargs):
    tensor = Tensor(out, requires_grad=True)
    parents = tuple((i, a) for i, a in enumerate(args) if isinstance(a, Tensor) and a.requires_grad)
    tensor._node = Node("op", rules, parents, args, kwargs)
    return tensor


_x, _w = Tensor([2.0, 3.0], requires_grad=True), Tensor([5.0, 7.0], requires_grad=True)
_grads = {}
_send(_grads, _op(MUL, [10.0, 21.0], _x, _w), np.array([1.0, 10.0], dtype=np.float32))
check.close("x * w sends x", _grads.get(id(_x)), [5, 70], why="g * w = [1 * 5, 10 * 7]")
check.close("x * w sends w", _grads.get(id(_w)), [2, 30], why="g * x, by the rule at position 1")
_send(_grads, _op(EXP, [1.0, 2.0], _x), np.array([1.0, 1.0], dtype=np.float32))
check.close("exp(x), with out = [1, 2], sends x on top", _grads.get(id(_x)), [6, 72],
            why="5 + 1 and 70 + 2: x was used by two operations, and what arrives is added")
_grads = {}
_send(_grads, _op(MUL, [4.0, 9.0], _x, _x), np.array([1.0, 1.0], dtype=np.float32))
check.close("x * x sends x", _grads.get(id(_x)), [4, 6],
            why="both operands are x: 2 + 2 and 3 + 3, the slope 2x")
_grads = {}
_send(_grads, _op(SUB, [4.0, 2.0], Tensor([9.0, 9.0]), _w), np.array([1.0, 10.0], dtype=np.float32))
check.close("9 - w sends w", _grads.get(id(_w)), [-1, -10],
            why="w is the only parent, and it is operand 1: the rule at position 1, -g")
_b = Tensor([1.0], requires_grad=True)
_grads = {}
_send(_grads, _op(ADD, [3.0, 4.0], _x, _b), np.array([1.0, 10.0], dtype=np.float32))
check.close("x (2,) + b (1,) sends b", _grads.get(id(_b)), [11],
            why="b was broadcast: summed back to (1,)")
_grads, _g = {}, np.array([1.0, 1.0], dtype=np.float32)
_send(_grads, _op(ADD, [0.0, 0.0], _x, _w), _g)
_parts = [_grads.get(id(_x)), _grads.get(id(_w))]
check.true("x + w: two parts, which do not share memory",
           all(part is not None for part in _parts) and not np.shares_memory(*_parts),
           why="scaling one gradient in place would change the other: use _own")
_sum = lambda g, out, x, axis=None, keepdims=False: restore(g, x.shape, axis, keepdims)
_m, _grads = Tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True), {}
_send(_grads, _op((_sum,), [3.0, 7.0], _m, axis=1), np.array([1.0, 10.0], dtype=np.float32))
check.close("m.sum(axis=1) sends m", _grads.get(id(_m)), [[1, 1], [10, 10]],
            why="the rule needs the options of the call: **node.kwargs")
_send(_grads, _op(NEG, [[0.0, 0.0], [0.0, 0.0]], _m), np.ones((2, 2), dtype=np.float32))
check.close("-m sends m on top", _grads.get(id(_m)), [[0, 0], [9, 9]],
            why="1 - 1 and 10 - 1; what arrived first may be a read-only view, so add into a new array")

# %% [markdown]
"""
### Switching it on

All parts are there: `GRADIENTS` knows the rules, `tracked` remembers, `backward` walks. One loop over
the table replaces every operation by its tracked version. Each class in `GRADIENTS` has a dictionary of
method names and rules; `setattr(owner, name, ...)` puts the wrapped method in the class.

It must be possible to call it twice. `wraps`, inside `tracked`, leaves the function it wrapped in the
attribute `__wrapped__`; so take `getattr(method, "__wrapped__", method)`, and each call wraps the
original anew instead of wrapping the wrapper. Finally `Tensor.backward` becomes the real one.

This is called *monkey-patching*: changing a class from outside. It is the only place in this project
that does it, and question 5 below asks what it costs. The next cell, for the checks only, takes the patch
off again, so that each of your attempts starts from the classes as modules 01 to 04 made them.
"""

# %% given="asleep"
def _bare(method):
    """What `tracked` wrapped, however often."""
    while hasattr(method, "__wrapped__"):
        method = method.__wrapped__
    return method


if "_ORIGINALS" not in globals():  # kept when this cell is run again: by then much may be patched
    _ORIGINALS = {
        (owner, name): _bare(getattr(owner, name))
        for owner, operations in GRADIENTS.items() for name in operations
    }


def _asleep():
    """Every operation in GRADIENTS as it was, and a `Tensor.backward` that does nothing."""
    for (owner, name), method in _ORIGINALS.items():
        setattr(owner, name, method)
    Tensor.backward = lambda self, gradient=None: None

# %% exercise="enable_autograd"
#| export
def _label(owner, name):
    """How the graph calls an operation: `mul`, `matmul`, `ReLU`."""
    return owner.__name__ if name == "forward" else name.strip("_")


def enable_autograd():
    """Replace every operation in GRADIENTS by its tracked version, and wake `Tensor.backward`.

    May be called again at any time: operations are never wrapped twice.
    """
    ### BEGIN SOLUTION
    for owner, operations in GRADIENTS.items():
        for name, rules in operations.items():
            method = getattr(owner, name)
            original = getattr(method, "__wrapped__", method)
            setattr(owner, name, tracked(original, rules, _label(owner, name)))
    Tensor.backward = backward
    ### END SOLUTION

# %% check="enable_autograd" points=6
_asleep()
enable_autograd()
_x = Tensor([3.0], requires_grad=True)
_y = _x * _x
check.equal("name of x * x in the graph", getattr(_y._node, "name", None), "mul",
            why="_label(owner, name) makes it of __mul__; an error or a drawing shows it")
_y.backward()
check.close("x = 3, y = x * x: x.grad", _x.grad, [6], why="dy/dx = 2x")


class _Square:
    def forward(self, x):
        return Tensor(x.data**2)


GRADIENTS[_Square] = {"forward": (None, lambda g, out, self, x: g * 2 * x)}
enable_autograd()
del GRADIENTS[_Square]
_x = Tensor([3.0], requires_grad=True)
_y = _Square().forward(_x)
check.equal("name of an operation that was added to the table since", getattr(_y._node, "name", None),
            "_Square", why="module 09 adds its own and calls enable_autograd again: go through all of them")
_x = Tensor([3.0], requires_grad=True)
(2 * _x + _x * 5 - 1).sum().backward()
check.close("enabled twice: 2x + 5x - 1", _x.grad, [7], why="the diamond of the Foundations: 2 + 5")
check.equal("layers of wrapping", hasattr(Tensor.__mul__.__wrapped__, "__wrapped__"), False,
            why="each call would add a layer, and every operation would become slower")
_w = Tensor([[1.0, -1.0], [0.5, 2.0]], requires_grad=True)
_h = ReLU()(Tensor([[1.0, 2.0]]) @ _w.T)
_loss = CrossEntropyLoss()(_h, [1])
_loss.backward()
_p = 1 / (1 + np.exp(4.5))
check.close("a layer, ReLU and cross-entropy: gradient of the weights", _w.grad, [[0, 0], [-_p, -2 * _p]],
            why="h = [0, 4.5]: the first unit is off (ReLU of -1), the second gets (p - 1) * x with "
                "p = 1 / (1 + e^-4.5), so p - 1 = -0.011", rtol=1e-3)
check.raises("a second backward through the same graph", RuntimeError, _loss.backward,
             why="its memory was released; the message must say what to do", mention=["retain_graph"])
check.raises("backward of a tensor without a graph", RuntimeError, Tensor([1.0]).backward,
             why="nothing wants a gradient here", mention=["requires_grad"])

# %% [markdown]
"""
### Trust, but measure

`numerical_gradient` works on arrays; a network works on tensors. `check_grads(f, *inputs)` joins the two:
it runs `f` on the inputs, calls `backward`, and compares every input's `.grad` with the slopes measured
by nudging. Float32 is too coarse for that (a nudge of a millionth drowns in rounding), so `_in_float64`
raises `Tensor.dtype` for the time being, and every tensor made in between computes in 16 digits.

`f` may return any shape. We multiply its result by fixed random `weights` and add up, which gives one
number, and its slope is what `backward(weights)` must find. A gradient that is `None` counts as zeros:
`f` may not depend on that input.

All of that is given. What you write is the comparison for **one** input, number `number`. First measure:
give `numerical_gradient` a function of one array that calls `_weighted` with this array in the place of
`arrays[number]` and all others as they are. Then raise `GradientError` when analytic and measured differ by
more than `atol + rtol * |measured|` in some entry; say for which input, where, and both values, in these words:
`input 0, entry (1,): backward says 8, measured 12`. This function guards every module from now on, so think
of the gradient that is `nan`: every comparison with nan is False.
"""

# %% exercise="check_grads"
#| export
class GradientError(ValueError):
    """A gradient that is not the slope."""


class _in_float64(ContextDecorator):
    def __enter__(self):
        self.before, Tensor.dtype = Tensor.dtype, np.float64

    def __exit__(self, *error):
        Tensor.dtype = self.before


def _weighted(f, arrays, weights):
    """The number sum(weights * f(arrays)), without recording."""
    with no_grad():
        return float((f(*[Tensor(array) for array in arrays]).data * weights).sum())


@_in_float64()
def check_grads(f, *inputs, rtol=1e-4, atol=1e-6):
    """Compare the gradients of `f` at `inputs` (Tensors) with central differences, in float64.

    f: function of Tensors that returns a Tensor, without randomness. Returns True.
    Raises GradientError naming the input, the place, and both values where they differ.
    """
    arrays = [np.array(t.data, dtype=np.float64) for t in inputs]
    tensors = [Tensor(array.copy(), requires_grad=True) for array in arrays]
    out = f(*tensors)
    weights = np.random.default_rng(0).standard_normal(out.shape)
    if out.requires_grad:
        out.backward(weights)
    for number, tensor in enumerate(tensors):
        ### BEGIN SOLUTION
        left, right = arrays[:number], arrays[number + 1 :]

        def along(array, left=left, right=right):
            return _weighted(f, [*left, array, *right], weights)

        measured = numerical_gradient(along, arrays[number])
        analytic = np.zeros_like(measured) if tensor.grad is None else tensor.grad
        gap = np.abs(analytic - measured) - rtol * np.abs(measured)
        if not (gap <= atol).all():
            place = np.unravel_index(np.nan_to_num(gap, nan=np.inf).argmax(), gap.shape)
            raise GradientError(
                f"input {number}, entry {tuple(int(i) for i in place)}: "
                f"backward says {analytic[place]:.6g}, measured {measured[place]:.6g}"
            )
        ### END SOLUTION
    return True

# %% check="check_grads" points=6
_asleep()
enable_autograd()
_a, _b = Tensor([[1.0, 2.0], [3.0, -4.0]]), Tensor([0.5, 2.0])
check.equal("check_grads of a * b + b, all shapes right", check_grads(lambda a, b: a * b + b, _a, _b), True,
            why="two inputs, one of them broadcast and used twice")
_wrong = tracked(lambda a: Tensor(a.data**3), (lambda g, out, a: g * 2 * a**2,), "wrong")
check.raises("a wrong rule for input 0, which is [2]: 2a² instead of 3a²", GradientError,
             lambda: check_grads(_wrong, Tensor([2.0])), why="12 is the slope of a³ at 2, the rule says 8",
             mention=["input 0"])
check.raises("the wrong rule in the second input only", GradientError,
             lambda: check_grads(lambda a, b: a * _wrong(b), _a, _b), why="every input is compared",
             mention=["input 1"])
_late = tracked(lambda a: Tensor(a.data * [1.0, 1.0]), (lambda g, out, a: g * [1.0, 0.9],), "late")
check.raises("an error in the last entry only", GradientError, lambda: check_grads(_late, _b),
             why="every entry is compared, and the message says which and both values, in these words",
             mention=["input 0", "(1,)", "backward says", "measured"])
_small = tracked(lambda a: Tensor(a.data * 1e-4), (lambda g, out, a: g * 0.9e-4,), "small")
check.raises("a slope of 0.0001 that is off by a tenth", GradientError, lambda: check_grads(_small, _b),
             why="a small slope must be right as well: rtol allows a share of it, atol a millionth")
check.equal("exp at 20, a slope of about 5e8", check_grads(lambda a: a.exp(), Tensor([20.0])), True,
            why="measured to 8 digits or so: a large slope may be off by more, rtol * |measured|")
check.raises("an escape to NumPy that cuts the graph", GradientError,
             lambda: check_grads(lambda a, b: a + Tensor(b.data * 2), _a, _b),
             why="no gradient arrives at b, although the result follows it", mention=["input 1"])
check.equal("an input that f ignores", check_grads(lambda a, b: a * 1.0, _a, _b), True,
            why="its gradient is None and its slope is 0: that is right")
_nan = tracked(lambda a: Tensor(a.data * 1.0), (lambda g, out, a: g * np.nan,), "nan")
check.raises("a gradient that is nan", GradientError, lambda: check_grads(_nan, _b),
             why="nan is not within any distance of the slope")
check.equal("Tensor.dtype afterwards", Tensor.dtype is np.float32, True, why="float64 only in between")

# %% [markdown]
"""
### Looking at it

Every tensor now carries its history, so we can draw it. `graph_text` lists the operations in order;
`graph_mermaid` and `graph_dot` give the same as text for Mermaid (paste it in a Markdown cell) and
Graphviz.
"""

# %% given="graph"
#| export
def _graph(tensor):
    """The tensors of the graph, parents first, as (number, label, numbers of the parents)."""
    order = topological_sort(tensor)
    numbers = {id(t): i for i, t in enumerate(order)}
    rows = []
    for t in order:
        label = f"{t._node.name if t._node else 'leaf'} {t.shape}"
        parents = t._node.parents if t._node else ()
        rows.append((numbers[id(t)], label, [numbers[id(p)] for _, p in parents]))
    return rows


def graph_text(tensor):
    """The graph of `tensor`, one operation a line: number, operation, shape, parents."""
    return "\n".join(
        f"{i:3}  {label}" + (f"  from {', '.join(map(str, parents))}" if parents else "")
        for i, label, parents in _graph(tensor)
    )


def graph_mermaid(tensor):
    """The graph of `tensor` as a Mermaid flowchart."""
    rows = _graph(tensor)
    lines = [f'    t{i}["{label}"]' for i, label, _ in rows]
    lines += [f"    t{p} --> t{i}" for i, _, parents in rows for p in parents]
    return "\n".join(["flowchart TD", *lines])


def graph_dot(tensor):
    """The graph of `tensor` in Graphviz's DOT language."""
    rows = _graph(tensor)
    lines = [f'    t{i} [label="{label}"];' for i, label, _ in rows]
    lines += [f"    t{p} -> t{i};" for i, _, parents in rows for p in parents]
    return "\n".join(["digraph {", *lines, "}"])

# %% [markdown]
"""
## Use: a network learns

Everything from module 01 on, unchanged, and now it learns: a hidden layer of 16 units fits a wave
through 64 points. Six lines are the training loop that modules 06 and 07 turn into proper tools.
"""

# %% demo="fit_a_wave"
from tinytorch.core.layers import Linear, Sequential
from tinytorch.core.losses import MSELoss
from tinytorch.core.tensor import manual_seed

manual_seed(0)
xs = np.linspace(-3, 3, 64).reshape(-1, 1)
inputs, wanted = Tensor(xs), Tensor(np.sin(xs))
net = Sequential(Linear(1, 16), Tanh(), Linear(16, 1))
for step in range(1501):
    loss = MSELoss()(net(inputs), wanted)
    net.zero_grad()
    loss.backward()
    for p in net.parameters():
        p.data -= 0.1 * p.grad
    if step % 500 == 0:
        print(f"step {step:4}   loss {loss.item():.5f}")

picture = [[" "] * 64 for _ in range(13)]
for column, (is_, should) in enumerate(zip(net(inputs).data[:, 0], wanted.data[:, 0])):
    picture[round(6 - 5 * float(should))][column] = "."
    picture[min(max(round(6 - 5 * float(is_)), 0), 12)][column] = "#"
print("\n".join("".join(row) for row in picture))

# %% demo="draw_a_graph"
x = Tensor([[1.0, 2.0]], requires_grad=True)
y = (x * 2 + x * 5).sum()
print(graph_text(y))
print(graph_mermaid(y))

# %% [markdown]
"""
## Measure: what remembering costs

Three facts, each predicted first. **Bytes:** the tape keeps every operand alive until `backward`. For
`relu(x @ w)` with `x` of shape (256, 512) and `w` (512, 512), how many of the arrays must survive, and how
many bytes is that? **Time:** how many microseconds does recording add to an operation on a single number?
**The walk:** for the same `relu(x @ w)`, with gradients for both `x` and `w`, how many matrix products does `backward`
make where forward made one?
"""

# %% demo="tape_costs"
import tracemalloc

x, w = Tensor(np.ones((256, 512))), Tensor(np.ones((512, 512)) / 512, requires_grad=True)
tracemalloc.start()
before = tracemalloc.get_traced_memory()[0]
hidden = ReLU()(x @ w)
held = tracemalloc.get_traced_memory()[0] - before
loss = hidden.sum()
loss.backward()
after = tracemalloc.get_traced_memory()[0] - before
tracemalloc.stop()
print(f"one (256, 512) array: {256 * 512 * 4:,} bytes")
print(f"alive after relu(x @ w): {held:,} bytes: the product, kept by the tape, and the result")
print(f"alive after backward: {after:,} bytes, with {w.grad.nbytes:,} of them w.grad")


def per_call(call, repeats=20_000):
    """Microseconds per call, the best of five rounds."""
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        for _ in range(repeats // 5):
            call()
        best = min(best, (time.perf_counter() - start) / (repeats // 5))
    return best * 1e6


quiet, loud = Tensor(1.0), Tensor(1.0, requires_grad=True)
plain = per_call(lambda: Tensor.__mul__.__wrapped__(quiet, quiet))
asleep = per_call(lambda: quiet * quiet)
recording = per_call(lambda: loud * loud)
print(f"multiply two numbers: {plain:.2f} µs as in module 01, {asleep:.2f} µs tracked but nothing to "
      f"record, {recording:.2f} µs recorded")


def counted(position, g, a, b):
    products.append(position)
    return own_rule(position, g, a, b)


x, products, own_rule = Tensor(np.ones((256, 512)), requires_grad=True), [], matmul_gradient
matmul_gradient = counted
ReLU()(x @ w).sum().backward()
matmul_gradient = own_rule
print(f"matrix products: forward 1, backward {len(products)}, each of {2 * 256 * 512 * 512:,} FLOPs")

# %% [markdown]
"""
So backward has about twice the arithmetic of forward, in a network that consists mostly of matrix products. (The clock
need not show exactly 2: the gradients are new arrays, and memory takes time too.) A few microseconds are nothing next to a matrix product and everything next to one number. That is why
frameworks work on whole tensors, and why module 18 merges many small operations into few large ones.

## Break: writing instead of adding

The classic bug of every home-made autograd: `grads[parent] = part`, without adding. Networks with one
way through still train, so the bug hides until a tensor is used twice. Here it is, next to yours.
"""

# %% demo="overwriting"
def wrong_send(grads, tensor, g):
    for position, parent in tensor._node.parents:
        rule = tensor._node.rules[position]
        grads[id(parent)] = rule(g, tensor.data, *tensor._node.args, **tensor._node.kwargs)


right_send = _send
for name, send in (("overwriting", wrong_send), ("adding", right_send)):
    _send = send
    x = Tensor([3.0], requires_grad=True)
    (x * 2 + x * 5).sum().backward()
    print(f"{name:12} slope of 2x + 5x: {x.grad}")
_send = right_send

# %% [markdown]
"""
## Reflect

**1.** `y = x * x * x` at `x = 2`, by hand: `a = x * x`, `y = a * x`. What is `x.grad` after
`y.backward()`?
"""

# %% exercise="predict.cube"
### BEGIN SOLUTION
cube_gradient = 12.0
### END SOLUTION

# %% check="predict.cube" points=1
check.prediction("slope of x³ at 2", cube_gradient, "MTIuMA==", rel=0.001,
                 why="three ways lead from y to x: one directly, two through a; what arrives is added")

# %% [markdown]
"""
**2.** A chain of 100 ReLUs on a tensor of shape (256, 512), recorded. How many megabytes (10⁶ bytes) of
arrays are alive before `backward`? Do not count the input, but do count the last output, which you hold. (Each
ReLU's operand is the output of the one before.)
"""

# %% exercise="predict.chain_megabytes"
### BEGIN SOLUTION
chain_megabytes = 100 * 256 * 512 * 4 / 1e6
### END SOLUTION

# %% check="predict.chain_megabytes" points=1
check.prediction("100 recorded ReLUs on (256, 512), megabytes", chain_megabytes, "NTIuNDI4OA==", unit="MB",
                 rel=0.005, why="one array of 256 * 512 float32 per ReLU: nothing can be forgotten before "
                               "backward has used it")

# %% [markdown]
"""
**3.** `loss.backward()` is called, then a *new* forward pass is made on the same batch with the same
weights and `loss.backward()` is called again, without `zero_grad`. By what factor does `w.grad` differ
from the gradient of one pass?
"""

# %% exercise="predict.two_backwards"
### BEGIN SOLUTION
two_backwards = 2.0
### END SOLUTION

# %% check="predict.two_backwards" points=1
check.prediction("w.grad after two backward passes", two_backwards, "Mi4w", rel=0.001, unit="times",
                 why="a leaf adds what arrives to what is there")

# %% [markdown]
"""
**4.** A model with 1,000,000 weights has a forward pass of 1 ms. About how many seconds would one
gradient take by central differences?
"""

# %% exercise="predict.nudging_seconds"
### BEGIN SOLUTION
nudging_seconds = 2 * 1_000_000 * 1e-3
### END SOLUTION

# %% check="predict.nudging_seconds" points=1
check.prediction("one gradient of a million weights by nudging, seconds", nudging_seconds, "MjAwMC4w",
                 unit="s", why="two forward passes per weight")

# %% [markdown] question="monkey_patching" points=4
"""
**5. Open question.** `enable_autograd()` replaces methods of classes that other code has imported
already. What would go wrong for code that had kept a reference to the old method (`add = Tensor.__add__`)
before? What if a weight's `.data` is changed in place between forward and backward? What does the project
gain from the patch in return, and how would you build it if modules 01 to 04 could be edited?

*Your answer, graded by a person:*
"""

# %% [markdown]
"""
## In production

PyTorch records the same graph while your code runs, in C++: every tensor has a `grad_fn`, and the walk
runs on threads of its own. It keeps a version counter per tensor, so that an in-place change between
forward and backward is an error; ours would silently use the changed numbers. JAX goes the other way: it
first turns the function into a program (`jax.grad(f)`), then differentiates the program as a whole, which
a compiler can make faster. What we are not building: second derivatives (our rules work on arrays, so the
backward pass is not recorded itself), forward mode, and checkpointing that recomputes instead of
remembering.

Sources: Linnainmaa 1970 (reverse accumulation); Rumelhart, Hinton & Williams 1986 (for networks); Baydin
et al. 2018, *Automatic Differentiation in Machine Learning: a Survey*.

## When it fails

| symptom | cause | where to look |
|---|---|---|
| `has no graph` | backward on a tensor that nothing with requires_grad led to | a `.data` on the way, `no_grad()`, or a forgotten `requires_grad=True` |
| `was freed` | backward twice through one graph | recompute the loss inside the loop, or `retain_graph=True` |
| `has no single slope` | backward on more than one number | `.mean()` or `.sum()` the loss first |
| `'NoneType' object` | a function without `return`, an option that is None (`axis`), a leaf's `_node` or first `.grad`, or a gradient that never arrived | the last line of the function; `is not None` before use; an operation on `.data` cuts the graph |
| `read-only` | a rule wrote into `g` or an operand, or a gradient is a view made by `broadcast_to` | return a new array: `g * x`, not `g *= x`; `_writable` in `_keep` |
| `positional argument` | a rule with too few or too many parameters, or operands handed over without a star | `(g, out, a, b)`, also where one is not used; an activation's rule has `self` before `x`; `*node.args` |
| `tuple index out of range` | fewer rules than operands | one rule per operand; None stands for operand 0, `self`, of an activation |
| `is not subscriptable` | a function stands where a tuple of rules should | `(rule,)` with a comma |
| `truth value of an array` | an array was asked whether it is true, by `if gradient` or `== None` | `is None`, or `.any()` and `.all()` |
| `does not support ufuncs` | a NumPy function was called on a Tensor | rules get arrays; elsewhere use the Tensor's own method |
| `backward says` | a rule that is not the slope | the rule at that position; is a factor or a sum over a broadcast axis missing? |
| `maximum recursion depth` | a recursive sort | the stack of `topological_sort` must be your own |
"""
