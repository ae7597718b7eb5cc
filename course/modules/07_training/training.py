# %% [markdown]
"""
# 07 · Training

A training run is six lines repeated many thousand times, and everything around them that makes the
run stable, measurable, and possible to interrupt and continue as if nothing had happened.

```
you have built     tensors, layers, losses, gradients (05), optimizers (06)
        |
        v
you build now      the training step, accumulation, clipping, the schedule,
                   early stopping, the epoch loop, checkpoints that resume exactly
        |
        v
this unlocks       milestones: XOR (1969) and digits (1986); then 08 data loading
```

Time: about 3 and a half hours. Every exercise is a cell with a hole in it, and the cell below it
checks your answer. Run `tito watch` in a terminal beside this notebook.
"""

# %% given="imports"
#| default_exp core.training
#| export
import json
import math
import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy

from tinytorch.core.autograd import no_grad
from tinytorch.core.layers import Module
from tinytorch.core.optimizers import Optimizer
from tinytorch.core.tensor import Tensor, default_generator

# %% given="tools"
import tempfile
import time
import tracemalloc

import tito.checks as check
from tinytorch.core.activations import ReLU, Tanh
from tinytorch.core.autograd import is_grad_enabled
from tinytorch.core.layers import Dropout, Linear, Sequential
from tinytorch.core.losses import CrossEntropyLoss, MSELoss
from tinytorch.core.optimizers import SGD, Adam
from tinytorch.core.tensor import manual_seed
from tito.notebook import method_of


def two_moons(n, seed):
    """n points of two interleaved half circles with some noise: (n, 2) float32, labels 0 or 1."""
    rng = np.random.default_rng(seed)
    angle, label = rng.uniform(0, np.pi, n), np.arange(n) % 2
    x = np.where(label == 0, np.cos(angle), 1 - np.cos(angle))
    y = np.where(label == 0, np.sin(angle), 0.5 - np.sin(angle))
    points = np.stack([x, y], axis=1) + rng.normal(0, 0.15, (n, 2))
    return points.astype(np.float32), label


def one_weight(w=0.0):
    """The smallest model there is, y = w * x, with w where you want it."""
    model = Linear(1, 1, bias=False)
    model.weight.data[...] = w
    return model

# %% [markdown]
"""
## Why: the power fails after epoch 5

You can train by hand already: zero the gradients, go forward, go backward, step. Here is such a
loop, ten epochs long. A second run is interrupted after epoch 5. Its weights were saved, so it
starts again from them, on a new day, in a new process. Compare the last five losses of the two.
"""

# %% demo="the_power_fails"
points, labels = two_moons(256, seed=1)


def fresh(seed):
    manual_seed(seed)
    net = Sequential(Linear(2, 32), Tanh(), Dropout(0.2), Linear(32, 2))
    return net, Adam(net.parameters(), lr=0.02)


def by_hand(net, optimizer, epochs):
    losses = []
    for _ in range(epochs):
        for start in range(0, 256, 32):
            optimizer.zero_grad()
            rows = slice(start, start + 32)
            loss = CrossEntropyLoss()(net(Tensor(points[rows])), labels[rows])
            loss.backward()
            optimizer.step()
        losses.append(loss.item())
    return losses


net, optimizer = fresh(seed=0)
whole = by_hand(net, optimizer, 10)
net, optimizer = fresh(seed=0)
first_half = by_hand(net, optimizer, 5)
weights = net.state_dict()  # all that was saved
net, optimizer = fresh(seed=99)
net.load_state_dict(weights)
halves = first_half + by_hand(net, optimizer, 5)
print("epoch   uninterrupted   interrupted after 5")
for epoch, (a, b) in enumerate(zip(whole, halves), start=1):
    print(f"{epoch:5}   {a:13.6f}   {b:13.6f}   {'' if a == b else '<- no longer the same run'}")

# %% [markdown]
"""
The weights were all there, and still it is another run: Adam forgot its averages, dropout drew
other numbers. Nobody can say any more whether a change in the results came from an idea or from the
power cut. And this loop has no shuffling, no schedule, no validation, and would not survive one bad
batch.

By the end of this module five epochs, a new process and five more epochs give the same weights as
ten epochs in one go. Not nearly the same: every bit.

## Foundations: one step with one weight

The model is `y = w * x`, the data are two rows, x = 1 and 2 with targets 2 and 4, so w should
become 2. It starts at 0, with plain SGD at a learning rate of 0.1.

```
zero_grad   gradient of w  = none
forward     predictions    = 0*1, 0*2            = 0, 0
loss        mean of (0-2)² and (0-4)²            = (4 + 16) / 2 = 10
backward    mean of 2*(0-2)*1 and 2*(0-4)*2      = (-4 - 16) / 2 = -10
clip        is the gradient too long? if so, shorten it
step        w              = 0 - 0.1 * (-10)     = 1
```

Then the same with w = 1: loss 2.5, gradient -5, w = 1.5. Six lines, in this order. A **step** uses
one batch of rows; an **epoch** is as many steps as it takes to use every row once.

Look at what a step reads and changes. All of it is the **state** of the run:

```
weights              changed by step               the model's
moments, step count  changed by step               the optimizer's (Adam: two arrays per weight)
learning rate        changed after every step      the schedule's
order of the rows    drawn once per epoch          a random generator's
dropout masks        drawn in every forward        another random generator's
epoch, history       one more after every epoch    the loop's
```

A checkpoint is this table in a file. Leave out one row and you have the run of the first demo.

## Build

### Batches

A batch is some rows of `x` and the same rows of `y`. With `shuffle`, the rows come in a new random
order every epoch: otherwise the network sees them in the order somebody collected them, class 0
first. For 5 rows in batches of 2:

```
order       [3 0 4 1 2]        one permutation of the row numbers
batches     [3 0] [4 1] [2]    the last one is shorter, and no row is lost
```

Draw one order and index both arrays with pieces of it. Draw it from the `generator` you are given,
never from NumPy's global one: the generator's state goes into the checkpoint.
"""

# %% exercise="batches"
#| export
def batches(
    x: Tensor | np.ndarray,
    y: Tensor | np.ndarray,
    batch_size: int,
    shuffle: bool = False,
    generator: np.random.Generator | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the rows of `x` and `y` together, `batch_size` at a time, as pairs of Tensors.

    x: (N, ...), y: (N, ...). The last batch has the rows that remain. With `shuffle` the order is
    one permutation drawn from `generator` (None: the framework's default_generator).
    Raises ValueError naming both lengths if they differ.
    Cost: every row copied once.

    >>> [y.tolist() for _, y in batches(np.zeros(3), np.array([1, 2, 3]), 2)]
    [[1.0, 2.0], [3.0]]
    """
    ### BEGIN SOLUTION
    if len(x) != len(y):
        raise ValueError(f"batches: {len(x)} rows of x but {len(y)} of y. Each x needs its target.")
    order = np.arange(len(x))
    if shuffle:
        order = (default_generator if generator is None else generator).permutation(len(x))
    for start in range(0, len(x), batch_size):
        rows = order[start : start + batch_size]
        yield Tensor(x[rows]), Tensor(y[rows])
    ### END SOLUTION

# %% check="batches" points=4
_x, _y = np.arange(10.0).reshape(5, 2), np.arange(5)
_parts = list(batches(_x, _y, 2))
check.equal("rows per batch, 5 rows by 2", [len(_p[0]) for _p in _parts], [2, 2, 1],
            why="the last batch is shorter: dropping it would drop a row of the data")
check.tensor("x of the second batch", _parts[1][0] if len(_parts) > 1 else None, [[4, 5], [6, 7]],
             why="without shuffle the rows come in order: rows 2 and 3")
check.tensor("y of the second batch", _parts[1][1] if len(_parts) > 1 else None, [2, 3],
             why="the targets of the same rows, as a Tensor too")
_x, _y = Tensor(np.arange(20.0).reshape(20, 1)), np.arange(20) * 10
_rng = np.random.default_rng(4)
_first = list(batches(_x, _y, 8, shuffle=True, generator=_rng))
_rows = np.concatenate([_p[0].data.ravel() for _p in _first])
check.close("y of every shuffled row is 10 times its x",
            np.concatenate([_p[1].data for _p in _first]), 10 * _rows,
            why="x and y must be shuffled by the same order, or every row gets a stranger's target")
check.close("all shuffled rows, sorted", np.sort(_rows), np.arange(20),
            why="an epoch shows every row exactly once")
check.true("the shuffled order differs from 0, 1, 2, …", not np.array_equal(_rows, np.arange(20)),
           why="one permutation in 20! is the identity; this seed does not draw it", got=_rows[:5])
check.true("the first batch of 8 has rows from beyond the first 8", _rows[:8].max() >= 8,
           why="shuffling only inside the batches would keep the same rows together for ever",
           got=np.sort(_rows[:8]))
_again = [_p[0].data for _p in batches(_x, _y, 8, shuffle=True, generator=_rng)]
check.true("the next epoch comes in another order",
           not np.array_equal(np.concatenate(_again).ravel(), _rows),
           why="the generator moves on; a fixed seed inside batches would repeat one order for ever")
_orders = []
for _seed in (5, 5, 6):
    manual_seed(_seed)
    _orders.append([_p[1].tolist() for _p in batches(_x, _y, 8, shuffle=True)])
_rng = np.random.default_rng(4)
_same = [_p[0].data for _p in batches(_x, _y, 8, shuffle=True, generator=_rng)]
check.equal("the order is repeated by: the same manual_seed, another one, a generator seeded the same",
            [_orders[0] == _orders[1], _orders[0] == _orders[2],
             np.array_equal(np.concatenate(_same).ravel(), _rows)], [True, False, True],
            why="the generator you are given decides; without one it is the framework's "
                "default_generator, which manual_seed restarts")
check.raises("20 rows of x and 19 of y", ValueError, lambda: list(batches(_x, _y[:19], 8)),
             why="say both lengths: one of the two files was cut", mention=["20", "19"])

# %% [markdown]
"""
### Accuracy

The loss is what the optimizer can follow; accuracy is what people ask for: the share of rows whose
largest logit stands at the right class.

```
logits  [[2 1]     largest at 0, target 0   right
         [0 3]     largest at 1, target 1   right
         [5 4]]    largest at 0, target 1   wrong     accuracy 2/3
```

One trap costs people whole evenings. Targets of shape `(N, 1)` against predictions of shape `(N,)`
broadcast to `(N, N)`: every row is compared with every target and the result is a believable
number. Compare the shapes first.
"""

# %% exercise="accuracy"
#| export
def accuracy(logits: Tensor, targets: Tensor | np.ndarray | list) -> float:
    """Share of rows whose largest logit is at the target class, from 0.0 to 1.0.

    logits: (..., C), one column per class; targets: (...) class numbers.
    Raises ValueError naming both shapes if the targets do not fit, or if there is only one column.

    >>> accuracy(Tensor([[2, 1], [0, 3], [5, 4]]), [0, 1, 1])
    0.6666666666666666
    """
    targets = np.asarray(targets)
    ### BEGIN SOLUTION
    if logits.shape[:-1] != targets.shape or logits.shape[-1] < 2:
        raise ValueError(
            f"accuracy: logits {logits.shape} need 2 or more columns and targets of shape "
            f"{logits.shape[:-1]}, got {targets.shape}. For other tasks pass metric=None."
        )
    return float((logits.data.argmax(axis=-1) == targets).mean())
    ### END SOLUTION

# %% check="accuracy" points=3
_logits = Tensor([[2.0, 1.0, 0.0], [0.0, 3.0, 1.0], [5.0, 4.0, 6.0], [1.0, 2.0, 0.0]])
check.close("accuracy of 4 rows with targets [0, 1, 1, 2]", accuracy(_logits, [0, 1, 1, 2]), 0.5,
            why="the largest logits stand at 0, 1, 2, 1: the first two are right, 2 of 4")
check.close("the same with targets as a Tensor", accuracy(_logits, Tensor([0, 1, 2, 1])), 1.0,
            why="tensors hold class numbers as floats: 2.0 is class 2")
check.true("the result is a number", isinstance(accuracy(_logits, [0, 1, 1, 2]), float),
           why="it goes into the history, and the history goes into a JSON text")
_deep = Tensor(np.eye(3)[[[0, 1], [2, 2]]])  # (2, 2, 3): the largest stand at 0, 1 and 2, 2
check.close("accuracy of logits (2, 2, 3)", accuracy(_deep, [[0, 1], [2, 0]]), 0.75,
            why="the classes are the last axis, whatever stands before it: 3 of 4 are right")
check.raises("targets of shape (4, 1)", ValueError,
             lambda: accuracy(_logits, np.array([[0], [1], [1], [2]])),
             why="(4,) against (4, 1) would compare every row with every target",
             mention=["(4, 3)", "(4, 1)"])
check.raises("logits with one column", ValueError, lambda: accuracy(Tensor([[2.0], [-1.0]]), [1, 0]),
             why="the largest of one is always the first: accuracy would be the share of zeros",
             mention=["(2, 1)"])

# %% [markdown]
"""
### Clipping the gradient

Now and then a batch gives a gradient a hundred times longer than usual, and one step along it
undoes an hour of training. Clipping keeps the direction and limits the length. The length counts
all parameters together, as if they were one long vector:

```
gradient of weight   [3 4]
gradient of bias     [12]        length = sqrt(9 + 16 + 144) = 13

max_norm 6.5:  too long by 2, everything times 0.5   ->  [1.5 2]  [6]
max_norm 20:   short enough, nothing changes         ->  [3 4]    [12]
```

One common factor for all of them, or the direction changes. PyTorch's factor is
`max_norm / (length + 1e-6)`, and never more than 1. Parameters whose `grad` is None (unused in this
step) are passed over. Return the length **before** clipping: it is the number to watch in a log.
"""

# %% exercise="clip_grad_norm_"
#| export
def clip_grad_norm_(params: Iterable[Tensor], max_norm: float) -> float:
    """Scale all gradients by one factor so that their joint length is at most `max_norm`.

    params: any with `grad` None are left out. The factor: max_norm / (length + 1e-6), at most 1.
    Returns the length before clipping. Cost: two passes over the gradients.
    Source: Pascanu et al. 2013, algorithm 1; torch.nn.utils.clip_grad_norm_.

    >>> w = Tensor([0.0, 0.0])
    >>> w.grad = np.array([3.0, 4.0])
    >>> clip_grad_norm_([w], 2.5), np.round(w.grad, 4).tolist()
    (5.0, [1.5, 2.0])
    """
    ### BEGIN SOLUTION
    params = [p for p in params if p.grad is not None]
    length = float(np.linalg.norm([np.linalg.norm(p.grad) for p in params]))
    factor = max_norm / (length + 1e-6)
    if factor < 1:
        for p in params:
            p.grad *= factor
    return length
    ### END SOLUTION

# %% check="clip_grad_norm_" points=6
def _with_grads():
    w, b, unused = Tensor([[0.0, 0.0]]), Tensor([0.0]), Tensor([0.0])
    w.grad, b.grad = np.array([[3.0, 4.0]], dtype=np.float32), np.array([12.0], dtype=np.float32)
    return [w, unused, b]


_w, _unused, _b = _params = _with_grads()
_length = clip_grad_norm_(iter(_params), 2.6)
check.close("clip_grad_norm_ of [3, 4] and [12] returns", _length, 13.0,
            why="sqrt(9 + 16 + 144) = 13, the length before clipping, over all parameters together")
check.close("the first gradient at max_norm 2.6", _w.grad, [[0.6, 0.8]],
            why="13 is five times 2.6, so every entry is divided by 5")
check.true("the length is a number", isinstance(_length, float), got=_length,
           why="it goes into a log, and JSON knows no NumPy float32")
check.equal("the gradient's type", str(_w.grad.dtype), "float32",
            why="scaling must not turn the gradient into float64, twice the bytes")
check.close("the second gradient at max_norm 2.6", _b.grad, [2.4],
            why="the same factor: only so does the direction stay")
check.true("a parameter without gradient keeps None", _unused.grad is None,
           why="it took no part in this step", got=_unused.grad)
_w, _unused, _b = _params = _with_grads()
check.close("clip_grad_norm_ at max_norm 20 returns", clip_grad_norm_(_params, 20.0), 13.0)
check.close("the first gradient at max_norm 20", _w.grad, [[3.0, 4.0]],
            why="13 is short enough: clipping never makes a gradient longer")
check.close("no gradient at all", clip_grad_norm_([Tensor([1.0])], 1.0), 0.0,
            why="the length of nothing is 0, and there is nothing to scale")

# %% [markdown]
"""
### The training step

The six lines. You have all the parts; the order is the exercise. Think about each pair of
neighbours: what happens if you swap them?

`backward` adds to a parameter's `grad` and never replaces it. Whatever an earlier step left there
must go first. The model's mode, train or eval, is the caller's business: leave it as it is.
"""

# %% exercise="training_step"
#| export
def training_step(
    model: Module,
    loss_fn: Callable,
    optimizer: Optimizer,
    x: Tensor,
    y: Tensor,
    clip_norm: float | None = None,
) -> float:
    """One update of the model's parameters from one batch; returns the loss before the update.

    x: (B, ...), y: (B, ...). Gradients left over from before are dropped; afterwards `grad` holds
    this step's gradient, clipped to length `clip_norm` unless that is None.
    Cost: a forward (1x) and a backward (about 2x), and every activation kept in between.

    >>> from tinytorch.core.losses import MSELoss
    >>> from tinytorch.core.layers import Linear
    >>> from tinytorch.core.optimizers import SGD
    >>> model = Linear(1, 1, bias=False)
    >>> model.weight.data[...] = 0.0
    >>> x, y = Tensor([[1.0], [2.0]]), Tensor([[2.0], [4.0]])
    >>> training_step(model, MSELoss(), SGD(model.parameters(), lr=0.1), x, y)
    10.0
    >>> model.weight.tolist()
    [[1.0]]
    """
    ### BEGIN SOLUTION
    optimizer.zero_grad()
    loss = loss_fn(model(x), y)
    loss.backward()
    if clip_norm is not None:
        clip_grad_norm_(model.parameters(), clip_norm)
    optimizer.step()
    return loss.item()
    ### END SOLUTION

# %% check="training_step" points=8
_x, _y = Tensor([[1.0], [2.0]]), Tensor([[2.0], [4.0]])
_model = one_weight(0.0)
_optimizer, _asked = SGD(_model.parameters(), lr=0.1), []


def _mse(prediction, target):
    """Mean squared error; notes whether the second argument is the target."""
    _asked.append(target is _y)
    return MSELoss()(prediction, target)


_loss = training_step(_model, _mse, _optimizer, _x, _y)
check.close("loss of the first step", _loss, 10.0,
            why="w = 0: (2² + 4²) / 2 = 10. The loss is the one before the update")
check.close("w after the first step", _model.weight.data, [[1.0]],
            why="gradient (2*(0-2)*1 + 2*(0-4)*2) / 2 = -10, so w = 0 + 0.1 * 10")
check.true("the loss is a number", isinstance(_loss, float),
           why="a log of numbers is small, can be printed and stored; .item() makes one", got=_loss)
check.close("loss of the second step", training_step(_model, _mse, _optimizer, _x, _y), 2.5,
            why="w = 1: (1² + 2²) / 2")
check.close("w after the second step", _model.weight.data, [[1.5]],
            why="gradient -5 alone; together with the -10 of the first step it would be -15")
check.close("the gradient left after the second step", _model.weight.grad, [[-5.0]],
            why="this step's own, kept so that you can look at it")
check.equal("the loss was asked, in two steps, with the target second", _asked, [True, True],
            why="loss_fn(prediction, target), once per step: for cross-entropy the order matters")
_model = one_weight(0.0)
_loss = training_step(_model, MSELoss(), SGD(_model.parameters(), lr=0.1), _x, _y, clip_norm=1.0)
check.close("w after a step with clip_norm=1", _model.weight.data, [[0.1]],
            why="-10 is clipped to -1 before the step uses it")
check.close("the gradient left after that step", _model.weight.grad, [[-1.0]], why="the clipped one")
check.true("the model is still in train mode", _model.training,
           why="the mode belongs to the caller: without it dropout would be off from here on")

# %% [markdown]
"""
### Accumulation: a big batch in small pieces

Activations are the memory of a step, and they grow with the batch. What if a batch of 256 does not
fit? Send four parts of 64 through, one after the other. Each `backward` **adds** to `grad` and
frees its graph, so only one part's activations exist at a time. Then one step for all four.

The result must be the gradient of the mean over all rows. Each part's loss is a mean over its own
rows, so it counts in proportion to them. For the two rows from above and a third (x = 3, target 6),
in parts of 2 and 1 row:

```
part 1   2 rows, loss mean(4, 16)  = 10     times 2/3
part 2   1 row,  loss 36                    times 1/3
sum      6.667 + 12 = 18.667    = mean(4, 16, 36)
```

Dividing by the number of parts instead would give (10 + 36) / 2 = 23: the last, short part would
count too much. Multiply the loss by its share of the rows, before `backward`.
"""

# %% exercise="accumulated_step"
#| exporti
def accumulated_step(
    model: Module,
    loss_fn: Callable,
    optimizer: Optimizer,
    parts: list[tuple[Tensor, Tensor]],
    clip_norm: float | None = None,
) -> float:
    """One update from several small batches, equal to `training_step` on all their rows at once.

    parts: (x, y) pairs, each x of any number of rows. `loss_fn` is a mean over rows.
    Returns the mean loss over all rows; one part gives exactly `training_step`.
    Cost: the arithmetic of the big batch, the activations of the largest part.
    """
    ### BEGIN SOLUTION
    optimizer.zero_grad()
    rows = sum(len(x) for x, _ in parts)
    total = 0.0
    for x, y in parts:
        loss = loss_fn(model(x), y) * (len(x) / rows)
        loss.backward()
        total += loss.item()
    if clip_norm is not None:
        clip_grad_norm_(model.parameters(), clip_norm)
    optimizer.step()
    return total
    ### END SOLUTION

# %% check="accumulated_step" points=6
class _Watched(Linear):
    """Notes at every forward whether the weight has a gradient already."""

    def forward(self, x):
        self.seen.append(self.weight.grad is not None)
        return super().forward(x)


def _watched():
    model = _Watched(1, 1, bias=False)
    model.weight.data[...], model.seen = 0.0, []
    return model


_parts = [(Tensor([[1.0], [2.0]]), Tensor([[2.0], [4.0]])), (Tensor([[3.0]]), Tensor([[6.0]]))]
_model = _watched()
_optimizer = SGD(_model.parameters(), lr=0.1)
_loss = accumulated_step(_model, MSELoss(), _optimizer, _parts)
check.close("loss of parts with 2 rows and 1 row", _loss, 56 / 3,
            why="mean of 4, 16 and 36 over all three rows")
check.true("the loss is a number", isinstance(_loss, float), got=_loss,
           why="add up loss.item(): adding up tensors keeps every graph alive")
check.close("w after one accumulated step", _model.weight.data, [[28 / 15]],
            why="gradient -(4 + 16 + 36) / 3 = -18.667, one step of 0.1")
check.equal("weight had a gradient at the forward of part 1, of part 2", _model.seen, [False, True],
            why="each part goes backward before the next goes forward: only so is its graph freed")
_model.weight.data[...] = 0.0
accumulated_step(_model, MSELoss(), _optimizer, _parts)
check.close("the same step again from w = 0", _model.weight.data, [[28 / 15]],
            why="the gradient of the step before must be dropped first")
_model = _watched()
accumulated_step(_model, MSELoss(), SGD(_model.parameters(), lr=0.1), _parts, clip_norm=1.0)
check.close("w after a step with clip_norm=1", _model.weight.data, [[0.1]],
            why="-18.667 is clipped to -1 before the step")
_model = _watched()
_parts = [(Tensor([[1.0]]), Tensor([[-6.0]])), (Tensor([[1.0]]), Tensor([[2.0]]))]
accumulated_step(_model, MSELoss(), SGD(_model.parameters(), lr=0.1), _parts, clip_norm=5.0)
check.close("w after parts with gradients 6 and -2, clip_norm=5", _model.weight.data, [[-0.4]],
            why="together 4, short enough. Clip once, when all parts are in: 6 alone would become 5")

# %% [markdown]
"""
### The schedule: warm up, then cool down

At the start the gradients are wild and Adam's averages are empty, so small steps are safer; at the
end small steps settle into the valley. In between, large ones make the way. The usual schedule
climbs in a straight line for `warmup_steps` and falls along half a cosine wave until `total_steps`:

```
0.1 |    .--.
    |   /    '.            base_lr 0.1, warmup 4, total 12
    |  /       '.          step  0     1    2     3    4    8     12
    | /          '.        lr    0.025 0.05 0.075 0.1  0.1  0.05  0
  0 |/_____________'-._
     0   4    8     12
```

During the climb, step `s` (counted from 0) has `base_lr * (s + 1) / warmup_steps`: with `s` instead
of `s + 1` the first step would have rate 0 and do nothing. After it, `progress` goes from 0 at the
end of the climb to 1 at `total_steps`, and the rate is

    min_lr + (base_lr - min_lr) * (1 + cos(π * progress)) / 2

A cosine comes up again after its half wave. Your learning rate must not: hold it at `min_lr`.
"""

# %% exercise="warmup_cosine"
#| exporti
def warmup_cosine(
    step: int, base_lr: float, warmup_steps: int, total_steps: int, min_lr: float = 0.0
) -> float:
    """Learning rate of step `step` (from 0): a linear climb to `base_lr`, then half a cosine wave.

    The climb takes `warmup_steps` (0: none), the wave ends at `total_steps`; after it, `min_lr`.
    Source: Loshchilov & Hutter 2017, equation 5; warm-up: Goyal et al. 2017, section 2.2.

    >>> [round(warmup_cosine(s, 0.1, 4, 12), 4) for s in (0, 3, 4, 8, 12)]
    [0.025, 0.1, 0.1, 0.05, 0.0]
    """
    ### BEGIN SOLUTION
    if step < warmup_steps:
        return base_lr * (step + 1) / warmup_steps
    progress = min((step - warmup_steps) / (total_steps - warmup_steps), 1.0)
    return min_lr + (base_lr - min_lr) * (1 + math.cos(math.pi * progress)) / 2
    ### END SOLUTION

# %% check="warmup_cosine" points=5
check.close("rates of steps 0, 1, 2, 3 (base 0.1, warmup 4, total 12)",
            [warmup_cosine(_s, 0.1, 4, 12) for _s in range(4)], [0.025, 0.05, 0.075, 0.1],
            why="a quarter more each step; the first step is 1/4 of 0.1, not 0")
check.close("rates of steps 4, 6, 8, 12", [warmup_cosine(_s, 0.1, 4, 12) for _s in (4, 6, 8, 12)],
            [0.1, 0.0853553, 0.05, 0.0],
            why="progress 0, 1/4, 1/2, 1 of the eight steps after the climb; (1 + cos 45°) / 2 = 0.85")
check.close("rate of step 16, after the end", warmup_cosine(16, 0.1, 4, 12), 0.0,
            why="the wave would be on its way up again; the schedule stays at min_lr")
check.close("base 1, no warmup, total 10, min 0.2: steps 0, 5, 10",
            [warmup_cosine(_s, 1.0, 0, 10, 0.2) for _s in (0, 5, 10)], [1.0, 0.6, 0.2],
            why="from 1 to 0.2 the middle is 0.6; without warmup it starts at the top")
check.close("base 1, warmup 4, total 10, min 0.2: steps 0 and 3",
            [warmup_cosine(_s, 1.0, 4, 10, 0.2) for _s in (0, 3)], [0.25, 1.0],
            why="1 * 1 / 4: the climb starts from 0, min_lr is where the wave ends")

# %% [markdown]
"""
The class around the formula is bookkeeping: it counts steps and writes the rate into the optimizer.
Call `step()` once after every `optimizer.step()`.
"""

# %% given="WarmupCosine"
#| export
class WarmupCosine:
    """Sets `optimizer.lr` for every step: a linear climb, then half a cosine wave down to `min_lr`.

    The optimizer's own rate is the top of the climb. Call `step()` after every `optimizer.step()`.
    Raises ValueError unless 0 <= warmup_steps < total_steps.
    """

    def __init__(
        self, optimizer: Optimizer, warmup_steps: int, total_steps: int, min_lr: float = 0.0
    ) -> None:
        if not 0 <= warmup_steps < total_steps:
            raise ValueError(
                f"WarmupCosine: warmup_steps {warmup_steps} must be at least 0 and less than "
                f"total_steps {total_steps}."
            )
        self.optimizer, self.base_lr, self.min_lr = optimizer, optimizer.lr, min_lr
        self.warmup_steps, self.total_steps = warmup_steps, total_steps
        self.steps = 0
        self._set_lr()

    def _set_lr(self) -> None:
        self.optimizer.lr = warmup_cosine(
            self.steps, self.base_lr, self.warmup_steps, self.total_steps, self.min_lr
        )

    @property
    def lr(self) -> float:
        """The learning rate of the next optimizer step."""
        return self.optimizer.lr

    def step(self) -> None:
        """Go on to the rate of the next step."""
        self.steps += 1
        self._set_lr()

    def state_dict(self) -> dict:
        """The numbers of the schedule and how many steps it has made."""
        names = ("steps", "base_lr", "min_lr", "warmup_steps", "total_steps")
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, state: dict) -> None:
        """Continue where the schedule that gave `state` stood."""
        vars(self).update(state)
        self._set_lr()

# %% [markdown]
"""
### Early stopping

The training loss nearly always falls. The validation loss, measured on rows the network never
trains on, falls too, and then turns: from there on the network learns the training rows by heart.
Stop when the validation loss has not improved for `patience` epochs.

```
patience 2    1.0   0.9   0.95   0.92
best so far   1.0   0.9   0.9    0.9
waited        0     0     1      2     stop: 0.92 is better than 0.95, but not than 0.9
```

An improvement must beat the **best** so far by more than `min_delta`. Anything else, a tie or a
`nan` included, adds one to the wait; an improvement sets it back to 0.

Most frameworks keep `best` and `waited` in the object. Then they are state, and must go into the
checkpoint. Yours works them out from the whole list of losses every time: a few comparisons per
epoch, and nothing that could be forgotten.
"""

# %% exercise="EarlyStopping.should_stop"
#| export
class EarlyStopping:
    """Tells when the validation loss has not improved for `patience` epochs.

    An improvement beats the best loss so far by more than `min_delta`.
    Raises ValueError if `patience` is less than 1. Source: Prechelt 1998.
    """

    def __init__(self, patience: int, min_delta: float = 0.0) -> None:
        if patience < 1:
            raise ValueError(f"EarlyStopping: patience {patience} must be 1 epoch or more.")
        self.patience, self.min_delta = patience, min_delta

    def should_stop(self, losses: list[float]) -> bool:
        """Whether the last `patience` of these losses, one per epoch, brought no improvement.

        >>> EarlyStopping(patience=2).should_stop([1.0, 0.9, 0.95, 0.92])
        True
        """
        ### BEGIN SOLUTION
        best, waited = math.inf, 0
        for loss in losses:
            if loss < best - self.min_delta:
                best, waited = loss, 0
            else:
                waited += 1
        return waited >= self.patience
        ### END SOLUTION

# %% check="EarlyStopping.should_stop" points=5
_stop = EarlyStopping(patience=2).should_stop
check.equal("patience 2: [1, 0.9, 0.95]", _stop([1.0, 0.9, 0.95]), False, why="waited once: not yet")
check.equal("patience 2: [1, 0.9, 0.95, 0.92]", _stop([1.0, 0.9, 0.95, 0.92]), True,
            why="0.92 improves on 0.95, but the best is 0.9: waited twice")
check.equal("patience 2: [1, 1.1, 0.8, 0.85] and [1, 1.1, 1.2, 0.8]",
            [_stop([1.0, 1.1, 0.8, 0.85]), _stop([1.0, 1.1, 1.2, 0.8])], [False, False],
            why="0.8 is a new best and sets the wait back to 0, even if it was 2 before; the question "
                "is about the last epochs")
_stop_1 = EarlyStopping(patience=1).should_stop
check.equal("patience 1: [1, 1] and [1, 1.1]", [_stop_1([1.0, 1.0]), _stop_1([1.0, 1.1])],
            [True, True], why="a tie is no improvement, and patience 1 waits for one epoch only")
check.equal("patience 2: nothing yet", _stop([]), False, why="before the first epoch there is no wait")
check.equal("patience 2: [0.5, nan, nan]", _stop([0.5, math.nan, math.nan]), True,
            why="nan beats nothing: a run that has exploded must stop")
_stop = EarlyStopping(patience=2, min_delta=0.1).should_stop
check.equal("min_delta 0.1: [1, 1.05, 1.08]", _stop([1.0, 1.05, 1.08]), True,
            why="worse is no improvement, however little worse")
check.equal("min_delta 0.1: [1, 0.95, 0.93]", _stop([1.0, 0.95, 0.93]), True,
            why="neither beats 1.0 by more than 0.1")
check.equal("min_delta 0.1: [1, 0.95, 0.88]", _stop([1.0, 0.95, 0.88]), False,
            why="0.88 beats 1.0 by 0.12; the small gain of 0.95 did not move the best")
check.equal("min_delta 0.1: [2, 1.85, 1.83]", _stop([2.0, 1.85, 1.83]), False,
            why="1.85 beats 2 by 0.15: min_delta is a difference, not a share")

# %% [markdown]
"""
### Evaluation

Measuring looks like training without the update, and four things are different:

- **eval mode**: dropout must be off. Put the model's mode back afterwards, whatever it was.
- **no_grad**: no graph is recorded, so no activation outlives its layer.
- **weighting**: a mean over rows, not over batches; the last batch is shorter.
- nothing learns: no `backward`, no `step`.

```
loss 4.667 over 3 rows, loss 16 over 1 row     (3 * 4.667 + 1 * 16) / 4 = 7.5     not 10.33
```
"""

# %% exercise="evaluate"
#| export
def evaluate(
    model: Module,
    loss_fn: Callable,
    parts: Iterable[tuple[Tensor, Tensor]],
    metric: Callable | None = None,
) -> dict[str, float]:
    """Mean loss, and mean `metric(output, y)` under its own name, over all rows of `parts`.

    parts: (x, y) batches. `loss_fn` and `metric` are means over rows. The model runs in eval mode
    without recording gradients, and is left in the mode it was in.
    Raises ValueError if `parts` is empty. Cost: one forward per batch, no activations kept.
    """
    totals, rows = {}, 0
    ### BEGIN SOLUTION
    was_training = model.training
    model.eval()
    with no_grad():
        for x, y in parts:
            output = model(x)
            scores = {"loss": loss_fn(output, y).item()}
            if metric is not None:
                scores[metric.__name__] = metric(output, y)
            for name, score in scores.items():
                totals[name] = totals.get(name, 0.0) + score * len(x)
            rows += len(x)
    model.train(was_training)
    ### END SOLUTION
    if rows == 0:
        raise ValueError("evaluate: there are no batches. A generator is read only once.")
    return {name: total / rows for name, total in totals.items()}

# %% check="evaluate" points=6
_recorded = []


def _loss(output, y):
    _recorded.append(is_grad_enabled())
    return MSELoss()(output, y)


def _middle(output, y):
    return output.mean().item()


_model = Sequential(one_weight(1.0), Dropout(0.5))
_parts = [(Tensor([[1.0], [2.0], [3.0]]), Tensor([[0.0]] * 3)), (Tensor([[4.0]]), Tensor([[0.0]]))]
manual_seed(0)
for _p in _model.parameters():
    _p.grad = np.full(_p.shape, 7.0, dtype=np.float32)
_scores = evaluate(_model, _loss, iter(_parts), _middle)
check.equal("the names of the scores", sorted(_scores), ["_middle", "loss"],
            why="the metric goes under its function's own name")
check.close("the loss over 3 + 1 rows", _scores.get("loss"), 7.5,
            why="(1 + 4 + 9 + 16) / 4 rows with dropout off; the mean of the two batches is 10.33")
check.true("the loss is a number", isinstance(_scores.get("loss"), float), got=_scores.get("loss"),
           why="it goes into the history, and the history goes into a JSON text")
check.close("the metric over 3 + 1 rows", _scores.get("_middle"), 2.5, why="(1 + 2 + 3 + 4) / 4 rows")
check.equal("recording gradients during each batch", _recorded, [False, False],
            why="a graph that nobody walks back is memory for nothing")
check.true("the model is back in train mode", _model.training and _model[1].training,
           why="it was training before: dropout must go on", got=_model.training)
_model.eval()
check.close("the loss alone, without a metric", evaluate(_model, _loss, _parts)["loss"], 7.5)
check.true("a model in eval mode stays there", not _model.training,
           why="put the mode back as it was, not always to train", got=_model.training)
check.true("the gradients are what they were",
           all(_p.grad is not None and (_p.grad == 7).all() for _p in _model.parameters()),
           why="evaluation must not change what the next training step does")

# %% [markdown]
"""
### The trainer

What a run needs, in one object. Read the constructor: it holds the model, the loss, the optimizer
and a few settings, a generator of its own for the order of the rows, the epoch count and the
history.

Data may be a pair `(x, y)`, which the trainer cuts into batches and shuffles, or anything that can
be iterated again and again and gives `(x, y)` batches: a list, and from module 08 on a
`DataLoader`. `_parts` makes batches of either, and `_groups` hands them out `accumulate` at a time.

Two seeds make a run repeatable: `manual_seed` before the model is built, for its weights and for
dropout, and the trainer's own `seed`, for the order of the rows.
"""

# %% given="Trainer"
#| export
def _groups(parts: Iterable, size: int) -> Iterator[list]:
    """Lists of `size` batches; the last may be shorter."""
    parts = iter(parts)
    while group := list(islice(parts, size)):
        yield group


class Trainer:
    """A training run: the model, what drives it, and all the state it needs to go on.

    batch_size: rows per forward, for data given as a pair (x, y). accumulate: batches per optimizer
    step. clip_norm: longest gradient, None for any. scheduler: its `step()` follows every optimizer
    step. seed: for the order of the rows. metric: a function (output, y) -> float, or None.

    `epoch` counts finished epochs; `history` has one number per epoch under "loss", "val_loss", …;
    `generator` shuffles (give it to a loader too, and its order is in the checkpoint as well).
    Raises ValueError if batch_size or accumulate is less than 1.
    """

    def __init__(
        self,
        model: Module,
        loss_fn: Callable,
        optimizer: Optimizer,
        *,
        batch_size: int = 64,
        scheduler: WarmupCosine | None = None,
        clip_norm: float | None = None,
        accumulate: int = 1,
        seed: int = 0,
        metric: Callable | None = accuracy,
    ) -> None:
        if batch_size < 1 or accumulate < 1:
            raise ValueError(
                f"Trainer: batch_size {batch_size} and accumulate {accumulate} must be 1 or more."
            )
        self.model, self.loss_fn, self.optimizer = model, loss_fn, optimizer
        self.batch_size, self.scheduler, self.clip_norm = batch_size, scheduler, clip_norm
        self.accumulate, self.metric = accumulate, metric
        self.generator = np.random.default_rng(seed)
        self.epoch = 0
        self.history: dict[str, list[float]] = {}

    def _parts(self, data: Iterable, shuffle: bool) -> Iterable[tuple[Tensor, Tensor]]:
        """Batches of `data`: a pair (x, y) is cut up, batches come as they are."""
        pair = isinstance(data, (tuple, list)) and len(data) == 2
        if pair and not isinstance(data[0], (tuple, list)):
            return batches(*data, self.batch_size, shuffle, self.generator)
        return data

    def evaluate(self, data: Iterable) -> dict[str, float]:
        """Mean loss and metric over all rows of `data`, in eval mode."""
        return evaluate(self.model, self.loss_fn, self._parts(data, shuffle=False), self.metric)

# %% given="small_runs"
def line_run(w=0.0, lr=0.0, **options):
    """A run of the one-weight model, on `line` or other data, in batches of 2."""
    model = one_weight(w)
    return Trainer(model, MSELoss(), SGD(model.parameters(), lr=lr), batch_size=2, **options)


def moons_run(seed, scheduler=True):
    """A small run with everything that has state: dropout, Adam, a schedule, shuffling."""
    manual_seed(seed)
    model = Sequential(Linear(2, 8), Tanh(), Dropout(0.25), Linear(8, 2))
    optimizer = Adam(model.parameters(), lr=0.05)
    schedule = WarmupCosine(optimizer, 2, 12) if scheduler else None
    return Trainer(model, CrossEntropyLoss(), optimizer, batch_size=8, scheduler=schedule, seed=seed)


line = np.array([[1.0], [2.0], [3.0], [4.0], [5.0]]), np.array([[2.0], [4.0], [6.0], [8.0], [10.0]])
moons = two_moons(24, seed=3)

# %% [markdown]
"""
The cell above makes two small runs for the checks below: `line_run` fits `y = 2 * x` with one
weight, and `moons_run` has one of everything that carries state.

One epoch: the model into train mode, a shuffled pass over the data, an update per group, the
schedule one step on after each update. The result is the mean training loss over rows. Your
`accumulated_step` gives the mean loss of one group; count how many rows each group has.
"""

# %% exercise="Trainer.train_epoch"
#| export
@method_of(Trainer)
def train_epoch(self, data: Iterable) -> float:
    """Train on every row of `data` once, in train mode; returns the mean loss over rows.

    Every `accumulate` batches make one optimizer step (the last one may have fewer) and one
    scheduler step. Raises ValueError if `data` gives no batches.
    """
    total, rows = 0.0, 0
    ### BEGIN SOLUTION
    self.model.train()
    for group in _groups(self._parts(data, shuffle=True), self.accumulate):
        loss = accumulated_step(self.model, self.loss_fn, self.optimizer, group, self.clip_norm)
        if self.scheduler is not None:
            self.scheduler.step()
        count = sum(len(x) for x, _ in group)
        total += loss * count
        rows += count
    ### END SOLUTION
    if rows == 0:
        raise ValueError("train_epoch: there are no batches. A generator is read only once.")
    return total / rows

# %% check="Trainer.train_epoch" points=7
class _Counter:
    """A scheduler that only counts, and notes the weight at each step."""

    def __init__(self):
        self.count, self.model, self.seen = 0, None, []

    def step(self):
        self.count += 1
        if self.model:
            self.seen.append(round(self.model.weight.item(), 2))


_run = line_run(scheduler=_Counter())
_run.model.eval()
check.close("mean loss over 5 rows in batches of 2", _run.train_epoch(line), 44.0,
            why="w = 0: (4 + 16 + 36 + 64 + 100) / 5. The mean of the three batches would weigh the "
                "last, single row twice")
check.true("the model is in train mode", _run.model.training,
           why="after an evaluation dropout would stay off for the rest of the run")
check.equal("scheduler steps for 5 rows in batches of 2", _run.scheduler.count, 3,
            why="batches of 2, 2 and 1: three updates, so three steps of the schedule")
check.equal("epoch count and history afterwards", (_run.epoch, _run.history), (0, {}),
            why="counting and recording are the work of fit")
_run = line_run(lr=0.1, clip_norm=1.0, scheduler=_Counter(), accumulate=2)
_run.train_epoch(line)
check.equal("scheduler steps and w with accumulate=2",
            (_run.scheduler.count, round(_run.model.weight.item(), 2)), (2, 0.2),
            why="two batches make one update of 0.1, the third batch a second one")
_run = line_run(lr=0.1, clip_norm=1.0, scheduler=_Counter())
_run.scheduler.model = _run.model
_run.train_epoch(line)
check.equal("w at each scheduler step, three updates of 0.1 with clip_norm=1", _run.scheduler.seen,
            [0.1, 0.2, 0.3], why="each gradient is longer than 1 and negative, so each update moves w "
                                 "by 0.1; the schedule goes on after the update")
_seen = []
_run = line_run()
_run.loss_fn = lambda output, y: (_seen.append(y.tolist()), MSELoss()(output, y))[1]
_run.train_epoch(line)
_run.train_epoch(line)
check.true("two epochs in two orders", _seen[:3] != _seen[3:],
           why="shuffle=True: the rows come in a new order every epoch", got=_seen)
check.raises("data that gives no batches", ValueError, lambda: _run.train_epoch(iter([])),
             why="an exhausted generator must not look like a perfect epoch", mention=["no batches"])

# %% [markdown]
"""
### The epoch loop

`fit` is what you call. For each epoch: ask early stopping whether the run is over; train; measure
on the validation data if there are any; write the numbers into the history; count the epoch; call
`on_epoch` with the trainer, so that it can print, or save a checkpoint of the finished epoch.

Two details decide whether an interrupted run is the same run. Early stopping is asked **before** an
epoch: a run that has stopped, and is saved and resumed, stays stopped. And the epoch is counted
**before** `on_epoch`: a checkpoint written there says that this epoch is done.

The history is `{"loss": [...], "val_loss": [...], "val_accuracy": [...]}`: whatever `evaluate`
calls `loss` is `val_loss` here.
"""

# %% exercise="Trainer.fit"
#| export
@method_of(Trainer)
def fit(
    self,
    data: Iterable,
    epochs: int,
    validation: Iterable | None = None,
    on_epoch: Callable | None = None,
    early_stopping: EarlyStopping | None = None,
) -> dict[str, list[float]]:
    """Train for `epochs` more epochs, or until early stopping ends it; returns the history.

    validation: data to evaluate after every epoch, recorded as "val_loss" and so on.
    on_epoch: called with this trainer after every epoch. early_stopping: looks at "val_loss".
    Raises ValueError for early stopping without validation.
    """
    if early_stopping is not None and validation is None:
        raise ValueError("fit: early stopping looks at the validation loss. Pass validation.")
    ### BEGIN SOLUTION
    for _ in range(epochs):
        losses = self.history.get("val_loss", [])
        if early_stopping is not None and early_stopping.should_stop(losses):
            break
        scores = {"loss": self.train_epoch(data)}
        if validation is not None:
            for name, score in self.evaluate(validation).items():
                scores[f"val_{name}"] = score
        for name, score in scores.items():
            self.history.setdefault(name, []).append(score)
        self.epoch += 1
        if on_epoch is not None:
            on_epoch(self)
    ### END SOLUTION
    return self.history

# %% check="Trainer.fit" points=6
def _middle(output, y):
    return output.mean().item()


_away = line[0], np.zeros((5, 1))  # validation that gets worse while w climbs to 2
_run, _twin = line_run(w=0.0, lr=0.01, metric=_middle), line_run(w=0.0, lr=0.01, metric=_middle)
_log = []


def _note(trainer):
    _log.append((trainer.epoch, len(trainer.history.get("loss", []))))


_history = _run.fit(line, 2, validation=_away, on_epoch=_note)
check.equal("the names in the history", sorted(_history), ["loss", "val__middle", "val_loss"],
            why="the training loss, and all that evaluate returned, with val_ before its name")
check.equal("losses after 2 epochs", [len(_history[_k]) for _k in sorted(_history)], [2, 2, 2],
            why="one number per epoch, appended")
check.close("the training losses", _history["loss"], [_twin.train_epoch(line) for _ in range(2)],
            why="what train_epoch returned, called once per epoch")
check.close("the last val_loss", _history["val_loss"][-1], _run.evaluate(_away)["loss"],
            why="validation data, after the epoch's training, on the weights as they are now")
check.equal("(epoch, losses) as on_epoch saw them", _log, [(1, 1), (2, 2)],
            why="counted and recorded before on_epoch, so that a checkpoint saved there is complete")
_run.fit(line, 1)
check.equal("the epoch count after one more", (_run.epoch, len(_run.history["loss"])), (3, 3),
            why="fit goes on where the run stands: the history grows, the count goes on")
_run = line_run(w=0.5, lr=0.001, metric=None)
_run.fit(line, 6, validation=_away, early_stopping=EarlyStopping(patience=2))
check.equal("epochs until patience 2 is used up", _run.epoch, 3,
            why="the training loss falls, the validation loss rises: epoch 1 sets the best, epochs 2 "
                "and 3 bring nothing")
_run.fit(line, 6, validation=_away, early_stopping=EarlyStopping(patience=2))
check.equal("epochs after calling fit again", _run.epoch, 3,
            why="a run that has stopped stays stopped: it is asked before the epoch, not after")

# %% [markdown]
"""
### A checkpoint file

The state of a run is a dict of dicts with arrays, numbers and texts in it. `pickle` would write it
in one line, and loading a pickle runs whatever program its author put inside. So: **safetensors**,
a format that can hold nothing but arrays and a little text, and is simple enough to read by hand:

```
8 bytes        length n of the header, least significant byte first
n bytes        JSON: {"__metadata__": {...texts...}, "model/0.weight": {dtype, shape, place}, ...}
the rest       the bytes of the arrays, one after the other
```

The given cell prepares this. `_take_arrays` moves the arrays out of the tree into a flat dict,
under names made of the path to them, and leaves a tree that JSON can hold; `_put_arrays` undoes it.
(Adam's state is a dict with the keys 0, 1, 2: plain JSON would turn them into texts, so a dict is
written as a list of pairs.) `_checksum` is one number over every byte: a flipped bit changes it.
"""

# %% given="checkpoint_parts"
#| export
class CheckpointError(ValueError):
    """A checkpoint that is damaged, or belongs to another run."""


def _take_arrays(tree: object, arrays: dict[str, np.ndarray], path: str = "") -> object:
    """`tree` as JSON can hold it; each array goes into `arrays`, its name stays in its place."""
    if isinstance(tree, np.ndarray):
        arrays[path] = np.asarray(tree, order="C")
        return {"array": path}
    if isinstance(tree, dict):
        pairs = [[k, _take_arrays(v, arrays, f"{path}/{k}".strip("/"))] for k, v in tree.items()]
        return {"pairs": pairs}
    if isinstance(tree, (list, tuple)):
        return [_take_arrays(v, arrays, f"{path}/{i}".strip("/")) for i, v in enumerate(tree)]
    return tree.item() if isinstance(tree, np.generic) else tree


def _put_arrays(tree: object, arrays: dict[str, np.ndarray]) -> object:
    """The tree that `_take_arrays` was given; tuples come back as lists."""
    if isinstance(tree, list):
        return [_put_arrays(v, arrays) for v in tree]
    if not isinstance(tree, dict):
        return tree
    if "array" in tree:
        return arrays[tree["array"]]
    return {k: _put_arrays(v, arrays) for k, v in tree["pairs"]}


def _checksum(text: str, arrays: dict[str, np.ndarray]) -> str:
    """CRC-32 over the text and the bytes of all arrays, as a text."""
    crc = zlib.crc32(text.encode())
    for name in sorted(arrays):
        crc = zlib.crc32(arrays[name].tobytes(), crc)
    return f"{crc:08x}"

# %% [markdown]
"""
Now write the file. The bytes come from `safetensors.numpy.save(arrays, metadata)`, where `metadata`
is a dict of texts: `"state"`, the JSON text of the tree, and `"crc32"`, its checksum.

The second half of the exercise is *where* to write. If you open `run.ckpt` for writing, its old
content is gone at once; if the power fails before the last byte, you have neither the old
checkpoint nor the new one. So write a temporary file **in the same folder**, and when it is
complete, `os.replace` it: the system swaps the name in one go, and whoever looks finds either the
old file or the new one, never half of one. `os.fsync(file.fileno())` before that makes sure that
the bytes are on the disk and not merely promised. And if anything fails on the way, take the
temporary file away again: `try` … `finally`.
"""

# %% exercise="save_checkpoint"
#| export
def save_checkpoint(path: str | Path, state: dict) -> None:
    """Write `state` to the file `path`: a complete new file, or the old one as it was.

    state: nested dicts and lists of arrays, numbers, texts and None. Format: safetensors, with the
    metadata "state" (JSON) and "crc32" (of text and arrays). Leaves no other file behind.
    Raises TypeError if JSON cannot hold the state. Cost: every byte copied twice and written once.
    """
    path = Path(path)
    arrays = {}
    text = json.dumps(_take_arrays(state, arrays))
    ### BEGIN SOLUTION
    metadata = {"state": text, "crc32": _checksum(text, arrays)}
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(safetensors.numpy.save(arrays, metadata))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    ### END SOLUTION

# %% check="save_checkpoint" points=5
_state = {"model": {"0.weight": np.array([[1.5, -2.0]], dtype=np.float32)}, "epoch": 3,
          "optimizer": {"lr": 0.1, "state": {0: {"step": 7, "m": np.array([0.25], dtype=np.float32)}}}}


def _header(raw):
    """The JSON header of safetensors bytes, or what is there instead."""
    try:
        return json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    except ValueError:
        return {"not a safetensors file": str(raw[:12])}


def _watched_save(path, state, fails=False):
    """Save, and list what was asked of the system: fsync, and replace with what it replaced."""
    events, fsync, replace = [], os.fsync, os.replace

    def spy_fsync(descriptor):
        events.append("fsync")
        return fsync(descriptor)

    def spy_replace(source, target, **options):
        beside = Path(source).parent == Path(target).parent
        old = "old file still there" if Path(target).exists() else "old file gone"
        events.append(f"replace ({'same' if beside else 'another'} folder, {old})")
        if fails:
            raise OSError("the power fails")
        return replace(source, target, **options)

    os.fsync, os.replace = spy_fsync, spy_replace
    try:
        save_checkpoint(path, state)
    except OSError as error:
        events.append(str(error))
    finally:
        os.fsync, os.replace = fsync, replace
    return events


with tempfile.TemporaryDirectory() as _folder:
    _path = Path(_folder, "run.ckpt")
    save_checkpoint(_path, {"epoch": 2})
    _events = _watched_save(str(_path), _state)
    _files = sorted(os.listdir(_folder))
    _raw = _path.read_bytes() if _path.exists() else b""
    _watched_save(_path, {"epoch": 4}, fails=True)
    _left = sorted(os.listdir(_folder)), _path.exists() and _path.read_bytes() == _raw
_found = _header(_raw)
_meta = _found.get("__metadata__") or {}
check.equal("files in the folder afterwards", _files, ["run.ckpt"],
            why="the temporary file has become the checkpoint; nothing else stays behind")
check.equal("names in the safetensors header", sorted(_found),
            ["__metadata__", "model/0.weight", "optimizer/state/0/m"],
            why="every array under its path, and the metadata: any safetensors tool can open it")
check.equal("names in the metadata", sorted(_meta), ["crc32", "state"],
            why="the tree without its arrays, and the checksum")
check.true("the weights are in the file", np.array([1.5, -2.0], dtype=np.float32).tobytes() in _raw,
           why="4 bytes per number, as they are in memory")
_arrays = {}
_text = json.dumps(_take_arrays(_state, _arrays))
check.equal("the state in the metadata", _meta.get("state"), _text, why="the JSON text of the tree")
check.equal("the checksum", _meta.get("crc32"), _checksum(_text, _arrays), why="over text and arrays")
check.equal("the second save asked the system for", _events[:2],
            ["fsync", "replace (same folder, old file still there)"],
            why="the bytes onto the disk, then the names swapped: writing into the old file, or "
                "deleting it first, leaves a moment with no complete checkpoint")
check.equal("files after a save that failed at the swap, and whether the old one is whole", _left,
            (["run.ckpt"], True), why="the old file as it was, and no temporary file left behind")

# %% [markdown]
"""
Reading is the same path backwards, and a question of manners. A file that is cut off, or is not a
checkpoint at all, must not end in `KeyError: '__metadata__'` but in a sentence: which file, what is
wrong. The header you read by hand, because `safetensors.numpy.load(raw)` gives the arrays and not
the metadata. A hundred kinds of damage raise a handful of exceptions; the signature catches these
for you. What none of them notices is a flipped bit inside an array. Your checksum does.
"""

# %% exercise="load_checkpoint"
#| export
def load_checkpoint(path: str | Path) -> dict:
    """The state that `save_checkpoint` wrote to `path`, bit for bit.

    Raises FileNotFoundError if there is no such file, and CheckpointError naming the file if it is
    cut off, not a checkpoint, or its checksum does not fit.
    """
    raw = Path(path).read_bytes()
    try:
        ### BEGIN SOLUTION
        size = int.from_bytes(raw[:8], "little")
        metadata = json.loads(raw[8 : 8 + size])["__metadata__"]
        arrays = safetensors.numpy.load(raw)
        text = metadata["state"]
        if metadata["crc32"] != _checksum(text, arrays):
            raise CheckpointError("the checksum does not fit its content")
        return _put_arrays(json.loads(text), arrays)
        ### END SOLUTION
    except (ValueError, KeyError, TypeError, safetensors.SafetensorError) as error:
        raise CheckpointError(
            f"{path} is not a complete checkpoint: {error}. Load an older one, or start again."
        ) from error

# %% check="load_checkpoint" points=5
_state = {"model": {"0.weight": np.array([[1.5, -2.0]], dtype=np.float32)}, "epoch": 3,
          "optimizer": {"lr": 0.1, "state": {0: {"step": 7, "m": np.array([0.25], dtype=np.float32)}}}}


def _loaded(path):
    """What load_checkpoint gives, or says, as a text."""
    try:
        return repr(load_checkpoint(path))
    except CheckpointError as error:
        return f"CheckpointError: {error}".replace(str(path), path.name)


with tempfile.TemporaryDirectory() as _folder:
    _path = Path(_folder, "run.ckpt")
    save_checkpoint(_path, _state)
    _raw = _path.read_bytes()
    _damage = {"cut off": _raw[:-3], "empty": b"", "a text file": b"epoch 3, loss 0.25\n" * 20}
    for _name, _place in [("a flipped bit in an array", len(_raw) - 2),
                          ("another epoch", _raw.index(b'epoch\\", 3') + 9)]:
        _bytes = bytearray(_raw)
        _bytes[_place] ^= 1
        _damage[_name] = bytes(_bytes)
    _files = {}
    for _name in _damage:
        _files[_name] = Path(_folder, f"{_name}.ckpt")
        _files[_name].write_bytes(_damage[_name])
    check.equal("the state comes back", _loaded(_path), repr(_state),
                why="arrays with their dtype, numbers, and the key 0 as a number, not as a text")
    for _name, _file in _files.items():
        check.raises(f"a checkpoint that is damaged: {_name}", CheckpointError,
                     lambda file=_file: load_checkpoint(file), mention=[_name],
                     why="name the file: nobody should continue from numbers that are not theirs")
    check.raises("a file that does not exist", FileNotFoundError,
                 lambda: load_checkpoint(Path(_folder, "none.ckpt")),
                 why="missing is not damaged: the error that Python gives is the right one")

# %% [markdown]
"""
### The state of a run

Go back to the table in Foundations. `state_dict` collects every row of it, `load_state_dict` puts
every row back; with that, and the file, resuming is exact. The names:

```
"setup"      given by _setup(): what the trainer was built with, to be compared on loading
"model"      the model's state_dict()
"optimizer"  the optimizer's state_dict()
"scheduler"  the scheduler's state_dict(), or None
"shuffle"    state of self.generator
"random"     state of default_generator: dropout draws from it
"epoch"      the count
"history"    a copy: the lists go on growing after the snapshot
```

A NumPy generator's state is a plain dict, `generator.bit_generator.state`. You may read it and, to
restore it, assign it.
"""

# %% exercise="Trainer.state_dict"
#| export
@method_of(Trainer)
def _setup(self) -> dict:
    """What must be the same for a run to go on: the settings, and the kinds of its parts."""
    return {
        "optimizer": type(self.optimizer).__name__,
        "scheduler": None if self.scheduler is None else type(self.scheduler).__name__,
        "batch_size": self.batch_size,
        "accumulate": self.accumulate,
        "clip_norm": self.clip_norm,
    }


@method_of(Trainer)
def state_dict(self) -> dict:
    """Everything the rest of the run depends on, a snapshot that later epochs do not change.

    Keys: setup, model, optimizer, scheduler (or None), shuffle, random, epoch, history.
    Cost: a copy of the parameters and of the optimizer's arrays.
    """
    ### BEGIN SOLUTION
    return {
        "setup": self._setup(),
        "model": self.model.state_dict(),
        "optimizer": self.optimizer.state_dict(),
        "scheduler": None if self.scheduler is None else self.scheduler.state_dict(),
        "shuffle": self.generator.bit_generator.state,
        "random": default_generator.bit_generator.state,
        "epoch": self.epoch,
        "history": {name: list(values) for name, values in self.history.items()},
    }
    ### END SOLUTION

# %% check="Trainer.state_dict" points=4
_run = moons_run(0)
_run.fit(moons, 1)
_state = _run.state_dict()
check.equal("the type of the state", type(_state).__name__, "dict")
_weights, _moments = repr(_state.get("model")), repr(_state.get("optimizer"))
check.equal("the names in the state", sorted(_state),
            ["epoch", "history", "model", "optimizer", "random", "scheduler", "setup", "shuffle"],
            why="each row of the table in Foundations, and the setup")
check.equal("epoch and schedule", (_state["epoch"], _state["scheduler"]),
            (1, _run.scheduler.state_dict()),
            why="24 rows in batches of 8: one epoch, three steps of the schedule")
check.equal("shuffle", repr(_state["shuffle"]), repr(_run.generator.bit_generator.state),
            why="the trainer's own generator draws the order of the rows")
check.equal("random", repr(_state["random"]), repr(default_generator.bit_generator.state),
            why="dropout draws its masks from the framework's generator")
check.equal("setup, weights and moments",
            [repr(_state[_name]) for _name in ("setup", "model", "optimizer")],
            [repr(_run._setup()), repr(_run.model.state_dict()), repr(_run.optimizer.state_dict())],
            why="what _setup(), the model and the optimizer give themselves")
_run.fit(moons, 1)
check.equal("losses in the snapshot after another epoch", len(_state["history"]["loss"]), 1,
            why="the run's own list has 2 by now: a snapshot must have lists of its own")
check.true("weights in the snapshot after another epoch", repr(_state["model"]) == _weights,
           why="the run's own arrays have changed in place")
check.true("moments in the snapshot after another epoch", repr(_state["optimizer"]) == _moments,
           why="Adam's arrays have changed in place")
check.true("without a scheduler the state has None for it",
           moons_run(0, scheduler=False).state_dict()["scheduler"] is None)

# %% [markdown]
"""
Last: put everything back. First of all the setup is compared, before anything is changed: moments
of Adam in an SGD, or batches of another size, would give a run that is neither the old one nor a
new one.
"""

# %% exercise="Trainer.load_state_dict"
#| export
@method_of(Trainer)
def load_state_dict(self, state: dict) -> None:
    """Continue the run that gave `state`: the same next batch, the same next random number.

    Raises CheckpointError naming what differs if this trainer was built otherwise, and what the
    model's own load_state_dict raises for other names or shapes.
    """
    for name, mine in self._setup().items():
        theirs = state.get("setup", {}).get(name)
        if theirs != mine:
            raise CheckpointError(
                f"the checkpoint's run has {name} {theirs!r}, this trainer {mine!r}. Build it "
                "as the run was built; to change a setting, load first and set it afterwards."
            )
    ### BEGIN SOLUTION
    self.model.load_state_dict(state["model"])
    self.optimizer.load_state_dict(state["optimizer"])
    if self.scheduler is not None:
        self.scheduler.load_state_dict(state["scheduler"])
    self.generator.bit_generator.state = state["shuffle"]
    default_generator.bit_generator.state = state["random"]
    self.epoch = state["epoch"]
    self.history = {name: list(values) for name, values in state["history"].items()}
    ### END SOLUTION

# %% check="Trainer.load_state_dict" points=4
_run = moons_run(0)
_run.fit(moons, 2)
_state = _run.state_dict()
_run.fit(moons, 2)
_other = moons_run(99)
_other.fit(moons, 1)
_other.load_state_dict(_state)
check.equal("epoch and history after loading", (_other.epoch, repr(_other.history)),
            (2, repr(_state["history"])), why="the run stands after its second epoch")
check.equal("the learning rate after loading", _other.optimizer.lr, _state["optimizer"]["lr"],
            why="six steps of the schedule are behind it")
_other.fit(moons, 2)
check.equal("the losses of 2 + 2 epochs", repr(_other.history["loss"]), repr(_run.history["loss"]),
            why="every digit of 4 epochs in one go; a first difference in epoch 3 means other masks or "
                "another order, in epoch 4 perhaps only moments or rate")
check.true("the weights of 2 + 2 epochs, bit for bit",
           all(np.array_equal(_a.data, _b.data)
               for _a, _b in zip(_other.model.parameters(), _run.model.parameters())),
           why="a fixed point: interrupting leaves no trace")
check.equal("the history of the snapshot", len(_state["history"]["loss"]), 2,
            why="loading copies the lists: two runs must not write into one history")
_plain, _saved = moons_run(0, scheduler=False), moons_run(1, scheduler=False)
_saved.optimizer.lr = 0.5
_plain.load_state_dict(_saved.state_dict())
check.equal("the learning rate of a run without scheduler, after loading", _plain.optimizer.lr, 0.5,
            why="no scheduler sets it: the rate is in the optimizer's own state")
_sgd = Trainer(_run.model, CrossEntropyLoss(), SGD(_run.model.parameters(), lr=0.1), batch_size=8)
check.raises("a checkpoint of Adam loaded into SGD", CheckpointError,
             lambda: _sgd.load_state_dict(_state), why="name both", mention=["Adam", "SGD"])

# %% [markdown]
"""
The rest is given: `save` and `load` join the state to the file, and `train_loop` is the whole
module in one call. A run that survives any power cut is one line,
`trainer.fit(data, 100, on_epoch=lambda trainer: trainer.save("run.ckpt"))`, and after the cut
`trainer.load("run.ckpt")` and `fit` for the epochs that are left.
"""

# %% given="save_and_load"
#| export
@method_of(Trainer)
def save(self, path: str | Path) -> None:
    """Write a checkpoint of the whole run: the new file complete, or the old one untouched."""
    save_checkpoint(path, self.state_dict())


@method_of(Trainer)
def load(self, path: str | Path) -> None:
    """Continue the run in `path`; CheckpointError if it is damaged or another run's."""
    self.load_state_dict(load_checkpoint(path))


def train_loop(
    model: Module,
    data: Iterable,
    loss_fn: Callable,
    optimizer: Optimizer,
    epochs: int = 1,
    batch_size: int = 64,
    validation: Iterable | None = None,
    on_epoch: Callable | None = None,
    early_stopping: EarlyStopping | None = None,
    **options,
) -> dict[str, list[float]]:
    """Train `model` on `data`; returns the history. `options` go to the Trainer."""
    trainer = Trainer(model, loss_fn, optimizer, batch_size=batch_size, **options)
    return trainer.fit(data, epochs, validation, on_epoch, early_stopping)

# %% [markdown]
"""
## Use: watch it learn, pull the plug, go on

No straight line separates the two moons; a network with hidden layers bends its boundary around
them. The run is interrupted in the middle and goes on from a file, in a trainer that was built from
scratch. The picture shows which class the network gives to each point of the plane.
"""

# %% demo="two_moons"
train, validation = two_moons(400, seed=1), two_moons(200, seed=2)


def big_run(seed):
    manual_seed(seed)
    net = Sequential(Linear(2, 32), Tanh(), Dropout(0.1), Linear(32, 32), Tanh(), Linear(32, 2))
    optimizer = Adam(net.parameters(), lr=0.02)
    schedule = WarmupCosine(optimizer, warmup_steps=3 * 13, total_steps=20 * 13)
    return Trainer(net, CrossEntropyLoss(), optimizer, batch_size=32, clip_norm=1.0,
                   scheduler=schedule)


whole = big_run(seed=0)
whole.fit(train, 20, validation)
half = big_run(seed=0)
half.fit(train, 10, validation)
with tempfile.TemporaryDirectory() as folder:
    half.save(Path(folder, "moons.ckpt"))
    resumed = big_run(seed=7)  # other weights, other random numbers: all replaced by load
    resumed.load(Path(folder, "moons.ckpt"))
resumed.fit(train, 10, validation)
print("10 + 10 epochs give the history of 20:", resumed.history == whole.history)
print(f"validation accuracy {whole.history['val_accuracy'][-1]:.3f}")

whole.model.eval()
for y in np.linspace(1.4, -0.9, 16):
    row = np.array([[x, y] for x in np.linspace(-1.6, 2.6, 64)])
    print("".join(".#"[c] for c in whole.model(Tensor(row)).argmax(axis=1)))

# %% [markdown]
"""
Curves say more than last numbers. Training loss (t) and validation loss (v, on points it has never
seen, without dropout), and the learning rate at the end of each epoch:
"""

# %% demo="curves"
history = whole.history
for epoch, (loss, val) in enumerate(zip(history["loss"], history["val_loss"]), start=1):
    lr = warmup_cosine(epoch * 13 - 1, 0.02, 3 * 13, 20 * 13)
    row = [" "] * 61
    t, v = (min(round(value * 100), 60) for value in (loss, val))
    row[t], row[v] = "t", "v" if t != v else "*"
    print(f"epoch {epoch:2}  lr {lr:.4f} |{''.join(row)}| t {loss:.3f}  v {val:.3f}")

# %% [markdown]
"""
## Measure: memory over one step

A step has four moments to look at: its start, after forward, after backward, after `step`. Before
you run the cell, sketch the curve: which of weights, activations, gradients and Adam's two arrays
are there at each moment? Where is the peak? What is still there at the start of the second step that
was not there at the start of the first?

The cell also counts by hand. Parameters you know. Activations: a `Linear` leaves two arrays per
row, the product and its sum with the bias, a `ReLU` a third one; the graph keeps all of them for
the way back. NumPy reports every array to Python's `tracemalloc`, so we can watch whether the count
is right.
"""

# %% demo="memory_over_one_step"
def megabytes():
    return tracemalloc.get_traced_memory()[0] / 1e6


rng = np.random.default_rng(0)
x, y = Tensor(rng.normal(size=(2048, 64))), rng.integers(0, 10, 2048)
tracemalloc.start()
base = megabytes()
net = Sequential(Linear(64, 512), ReLU(), Linear(512, 512), ReLU(), Linear(512, 10))
optimizer, loss_fn = Adam(net.parameters(), lr=1e-3), CrossEntropyLoss()
print(f"counted  parameters  {sum(p.data.nbytes for p in net.parameters()) / 1e6:6.2f} MB")
print(f"counted  activations {2048 * (3 * 512 + 3 * 512 + 2 * 10) * 4 / 1e6:6.2f} MB")
for step in (1, 2):
    optimizer.zero_grad()
    moments = [("start", megabytes() - base)]
    loss = loss_fn(net(x), y)
    moments.append(("after forward", megabytes() - base))
    loss.backward()
    moments.append(("after backward", megabytes() - base))
    optimizer.step()
    moments.append(("after step", megabytes() - base))
    for name, size in moments:
        print(f"step {step}  {name:15} {size:6.2f} MB |{'#' * round(2 * size)}")
tracemalloc.stop()

# %% [markdown]
"""
The forward pass fills memory with activations, the backward pass turns them into gradients and lets
go of them, the first step adds Adam's moments for good. The peak is at the end of the forward pass,
and here nearly all of it is activations.

So what happens when the batch grows? Guess both columns, then look. (The peak here is counted from
the start of an epoch, without the parameters.) The last line is the largest batch again, in eight
parts.
"""

# %% demo="batch_size"
def epoch_of(batch_size, accumulate=1):
    """Peak memory and time of one epoch over 2048 rows."""
    manual_seed(0)
    net = Sequential(Linear(64, 512), ReLU(), Linear(512, 512), ReLU(), Linear(512, 10))
    run = Trainer(net, CrossEntropyLoss(), SGD(net.parameters(), lr=0.1),
                  batch_size=batch_size, accumulate=accumulate)
    start = time.perf_counter()
    run.train_epoch((x, y))
    seconds = time.perf_counter() - start
    tracemalloc.start()
    run.train_epoch((x, y))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 1e6, seconds


for size, parts in [(16, 1), (64, 1), (256, 1), (1024, 1), (128, 8)]:
    peak, seconds = epoch_of(size, parts)
    print(f"batch {size:4} x {parts}  steps {-(-2048 // (size * parts)):4}  "
          f"peak {peak:6.2f} MB   time {seconds * 1e3:7.1f} ms   {2048 / seconds:9,.0f} rows/s")

# %% [markdown]
"""
Small batches waste time: each step has costs that do not depend on the batch, Python's and the
optimizer's among them, and thin matrices use the machine badly. Large ones cost memory in
proportion, and gain less and less time. (The smallest ones share a floor: the gradients, as large
as the parameters whatever the batch.) And the number of steps falls: a batch four times larger
makes a quarter of the updates per epoch. Accumulation is the middle way: the updates of the large
batch in the memory of a small one.

## Break: the loop that almost works

The classic bug of this module is one forgotten line. It does not crash. The loss falls, at first
even faster than it should. Here is the one weight of the Foundations on its way to 2, with
`zero_grad` and without.
"""

# %% demo="forgotten_zero_grad"
x, y = Tensor([[1.0], [2.0]]), Tensor([[2.0], [4.0]])


def path_of_w(forget):
    model = one_weight(0.0)
    optimizer = SGD(model.parameters(), lr=0.04)
    path = []
    for _ in range(22):
        path.append(model.weight.item())
        if not forget:
            optimizer.zero_grad()
        MSELoss()(model(x), y).backward()
        optimizer.step()
    return path


print(f"step   {'with zero_grad':33}without")
for step, pair in enumerate(zip(path_of_w(False), path_of_w(True))):
    columns = []
    for w in pair:
        column = list("0       .       2       .      4")
        column[round(min(max(w, 0.0), 3.9) * 8)] = "o"
        columns.append("".join(column))
    print(f"{step:4}   {columns[0]}  {columns[1]}")

# %% [markdown]
"""
Old gradients are never dropped, so every step is the sum of all slopes so far: momentum without
friction. The weight runs through its target, climbs the other side, and swings for ever. The
symptom in a log: the loss falls quickly, rises, falls again, and no learning rate makes it settle.
"""

# %% [markdown]
"""
The second classic: measuring in train mode. Dropout stays on, and a good network looks worse, by
another amount in every run. If your validation numbers tremble although the weights do not change,
this is why.
"""

# %% demo="forgotten_eval"
net = whole.model
for mode in ("train", "eval"):
    net.train() if mode == "train" else net.eval()
    outputs = [net(Tensor(validation[0])) for _ in range(4)]
    scores = [CrossEntropyLoss()(output, validation[1]).item() for output in outputs]
    print(f"{mode:5} mode, four times the same data:", "  ".join(f"{v:.5f}" for v in scores))

# %% [markdown]
"""
## Reflect

Predict with pencil and paper, write the number into the cell, and the check says whether it holds.

**1.** 50,000 rows, `batch_size=64`, `accumulate=4`, 10 epochs. How many optimizer steps is that in
all? This is the `total_steps` of the schedule. (Every epoch ends with what remains, as in your
code.)
"""

# %% exercise="predict.total_steps"
### BEGIN SOLUTION
total_steps = 10 * math.ceil(math.ceil(50_000 / 64) / 4)
### END SOLUTION

# %% check="predict.total_steps" points=1
check.prediction("optimizer steps of the run", total_steps, "MTk2MC4w", unit="steps", rel=1e-4,
                 why="round up twice: 781.25 batches are 782 per epoch, 195.5 groups are 196")

# %% [markdown]
"""
**2.** A model has 1,000,000 parameters and is trained with Adam. For every row of the batch its
layers keep 150,000 numbers from forward to backward. How many megabytes are there at the end of the
forward pass of the second step, with `batch_size=256`? (`zero_grad` has just dropped the gradients;
all numbers are float32.)
"""

# %% exercise="predict.peak_megabytes"
### BEGIN SOLUTION
peak_megabytes = (1_000_000 + 2 * 1_000_000 + 256 * 150_000) * 4 / 1e6
### END SOLUTION

# %% check="predict.peak_megabytes" points=1
check.prediction("megabytes at the peak with batch size 256", peak_megabytes, "MTY1LjY=", unit="MB",
                 rel=0.01, why="parameters and moments do not know the batch; activations grow with it")

# %% [markdown]
"""
**3.** The gradients of a model are `[3, 4]` and `[12]`, and `clip_norm` is 1. What does the 12
become?
"""

# %% exercise="predict.clipped_entry"
### BEGIN SOLUTION
clipped_entry = 12 / 13
### END SOLUTION

# %% check="predict.clipped_entry" points=1
check.prediction("the entry 12 after clipping to length 1", clipped_entry, "MC45MjMwNzY5MjMwNzY5MjMx", rel=0.01,
                 why="one factor for all: the whole gradient has length 13")

# %% [markdown]
"""
**4.** A run resumes from a checkpoint in which one thing was forgotten. The loss of the first
resumed *step* is exactly right, down to the last digit, and from the second step on it is not. The
network has dropout. What was forgotten?

- a) the weights
- b) the state of the generator that shuffles
- c) the optimizer's moments
- d) the state of `default_generator`
"""

# %% exercise="predict.what_was_forgotten"
### BEGIN SOLUTION
what_was_forgotten = "c"
### END SOLUTION

# %% check="predict.what_was_forgotten" points=1
check.choice("the thing that was forgotten", what_was_forgotten, "Yw==", ["a", "b", "c", "d"],
             why="a loss is computed before its update: ask what the first forward pass needs")

# %% [markdown] question="what_exact_resume_costs" points=2
"""
**Open question, graded by a person.** Your checkpoint resumes exactly on the same machine. Name two reasons why it
might not on another one, or with twice as many threads, although every byte of the file was read
correctly. Then say for which of these you would care, and for which you would not: continuing a run
after a power cut; publishing a result; finding a bug that shows itself in epoch 40.

*Your answer:*
"""

# %% [markdown]
"""
## In production

In PyTorch you write this loop yourself, line by line as in `training_step`; Lightning, Keras and
the Hugging Face `Trainer` package it as you did, with callbacks where we have `on_epoch`. Dividing
by the number of parts, where texts of different lengths should have been weighed, was a bug that
several libraries shared until 2024. Clipping at length 1 and warm-up with cosine are the usual
choice for transformers. `torch.save` uses pickle, which is why `weights_only=True` and safetensors
exist.

Exact resume is rarer than it should be: on a GPU several kernels add in an order that changes from
run to run, and a cluster's data loader must remember where each worker stood. Large runs write
sharded checkpoints from many machines, in the background. What we are not building: mixed precision
(16-bit forward, 32-bit weights, and a loss scaled so that small gradients survive), training on
several devices, and early stopping that puts the best weights back; for that, save in `on_epoch`
when `val_loss` is the lowest so far, and load at the end.

## When it fails

| symptom | cause | where to look |
|---|---|---|
| `w after the second step` | often: gradients of two steps added up | `zero_grad` first in the step |
| `w after the first step` | often: the optimizer stepped before `backward`, or the gradient was dropped in between | the order of the six lines |
| `has no graph` | `backward` on a loss made from `.data`, or under `no_grad` | `loss_fn(model(x), y)` on Tensors, recording on |
| `does not support ufuncs` | NumPy met a Tensor | its array is `.data` |
| `could not be broadcast` | argmax over the wrong axis, or targets of another shape | the classes are the last axis; compare shapes first |
| `'NoneType' object has no attribute 'permutation'` | no generator was given | then the framework's `default_generator` |
| `'NoneType' object has no attribute 'step'` | a run without a scheduler | `if self.scheduler is not None` |
| `NoneType` | a function gives None, an option was not given, or a parameter has no gradient | is a `return` missing? is `None` allowed here? leave out `p.grad is None` |
| the loss becomes nan | a step too large | a lower learning rate, warm-up, clipping at length 1 |
| the loss swings up and down | gradients of earlier steps are still there | `zero_grad`, first in the step |
| `no batches` | a generator as data: empty after its first epoch | pass a list, a pair (x, y) or a loader |
| `the losses of 2 + 2 epochs` | a part of the state is not restored | the table in Foundations, row by row |
| `not a complete checkpoint` | the file was cut off or changed | load an older one; was it written to a temporary file first? |
| `metric=None` | accuracy asked of numbers that are not classes | for regression, build the trainer with `metric=None` |
"""
