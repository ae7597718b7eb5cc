# %% [markdown]
"""
# 04 · Losses

A loss turns predictions and targets into one number that says how wrong the model is, and it has to
do so without overflowing, because every gradient of the course starts from that number.

```
you have built     Tensor (01), activations (02), Module, Linear, Sequential (03)
        |
        v
you build now      MSELoss, CrossEntropyLoss, BCELoss, BCEWithLogitsLoss
        |
        v
this unlocks       05 gradients of the loss, then optimizers and training
```

Time: about 2.5 hours. The arithmetic is short; the surprise of this module is what float32 does to
it.
"""

# %% given="imports"
#| default_exp core.losses
#| export
import numpy as np

from tinytorch.core.layers import Module
from tinytorch.core.tensor import Tensor

# %% given="tools"
import time
import tracemalloc

import tito.checks as check
from tito.notebook import method_of

# %% [markdown]
"""
## Why: accuracy cannot steer, and the textbook formula breaks

You can already build a network and count how many answers are right. Why not improve the weights
until the count goes up? Run the next cell. One weight `w` classifies four points by the sign of
`w * x`. Look at what each column tells you about which way to move `w`.
"""

# %% demo="why_not_accuracy"
x = np.array([-2.0, -1.0, 1.0, 3.0])
label = np.array([0.0, 0.0, 1.0, 1.0])
print("    w   accuracy   loss")
for w in (-1.0, -0.5, -0.1, 0.1, 0.5, 1.0, 2.0):
    p = 1 / (1 + np.exp(-w * x))  # the probability of label 1
    accuracy = ((p > 0.5) == label).mean()
    loss = -np.log(np.where(label == 1, p, 1 - p)).mean()
    print(f"{w:5.1f} {accuracy:10.2f} {loss:8.4f}")

# %% [markdown]
"""
Accuracy is a cliff: flat, then a jump, then flat. The loss changes with every change of `w`, so it
says which way is better and by how much. That is what learning needs.

The loss above is the negative logarithm of the probability of the right answer. Written down as the
textbook does, `-log(softmax(logits))`, it works for small logits. Then a model becomes confident:
"""

# %% demo="why_not_textbook"
for size in (1, 10, 80, 90, 1000):
    logits = np.array([size, 0], dtype=np.float32)  # the right class is the second: loss ≈ size
    with np.errstate(all="ignore"):
        p = np.exp(logits) / np.exp(logits).sum()
        print(f"logits [{size:4}, 0]   probabilities {p}   loss {-np.log(p[1]):.4f}")

# %% [markdown]
"""
The loss of a wrong and very confident answer should be about 90, or about 1000. It is `inf`, and
one of the probabilities is `nan`. A `nan` in the loss makes every gradient `nan`, and one step
later every weight. This module builds losses that are right for every logit that float32 can hold.

## Foundations: the price of an answer

**Regression** predicts a number. The usual price is the squared distance: off by 1 costs 1, off by
3 costs 9, and near the target the price is flat, so a good model is left in peace.

**Classification** predicts a probability for each class, and pays `-log p` for the right one:

```
p of the right class    1      0.9     0.5     0.1     0.01     0
price, -log p           0      0.105   0.693   2.303   4.605    infinite
```

Nothing to pay for certainty that is right; a fixed price each time the probability is divided by
ten; no upper limit for certainty that is wrong. Averaged over the examples, this is the
**cross-entropy**.

A network does not output probabilities. It outputs **logits**, any real numbers, and softmax makes
probabilities of them. The losses below take the logits, because the logarithm of softmax undoes
most of it:

```
-log( e^x[y] / (e^x[0] + ... + e^x[C-1]) )  =  log(e^x[0] + ... + e^x[C-1])  -  x[y]
                                               log-sum-exp of all logits        logit of the class
```

**The limits of float32.** The largest number is about 3.4 · 10³⁸, which is e to the power of 88.7.
The smallest positive one is about 1.4 · 10⁻⁴⁵, e to the power of -103. So `exp` of 89 is `inf`, and
`exp` of -104 is 0, whose logarithm is `-inf`. And between the limits there are only about 7 digits:
the neighbours of 1000 are 0.00006 away.

## Build

### Many examples, one number

A batch of examples has a loss each. What happens to them is the **reduction**:

```
losses     [1, 4, 7]
"mean"     4            the usual one: does not depend on the size of the batch
"sum"      12           twice the batch, twice the loss and twice the gradients
"none"     [1, 4, 7]    when you want to see which examples are hard
```

All losses share a base class that remembers its reduction. It is a `Module`, as in PyTorch, so a
loss is called like a layer: `loss_fn(prediction, target)`.
"""

# %% given="Loss"
#| export
class Loss(Module):
    """Base of the losses: a module called with a prediction and a target.

    reduction: what becomes of the losses of the examples, "mean", "sum" or "none".
    Raises ValueError for any other reduction.
    """

    def __init__(self, reduction="mean"):
        if reduction not in ("mean", "sum", "none"):
            raise ValueError(f'reduction {reduction!r} is unknown: use "mean", "sum" or "none".')
        self.reduction = reduction

# %% [markdown]
"""
Write `reduce`. Use the methods of `Tensor`, so that gradients will find their way. The mean divides
by the number of all entries, whatever the shape. One case needs care: the mean of no losses at all
is 0/0, which NumPy calls `nan`. An empty batch is a mistake made somewhere else, so say so with a
`ValueError` that contains the word "empty".
"""

# %% exercise="Loss.reduce"
#| export
@method_of(Loss)
def reduce(self, losses):
    """Mean, sum or all of `losses`, as `self.reduction` says.

    losses: Tensor of any shape; the result has shape () for "mean" and "sum".
    Raises ValueError for the mean of no losses.

    >>> Loss("sum").reduce(Tensor([1.0, 4.0, 7.0])).item()
    12.0
    """
    ### BEGIN SOLUTION
    if self.reduction == "none":
        return losses
    if self.reduction == "sum":
        return losses.sum()
    if losses.size == 0:
        raise ValueError(
            f"mean of no losses: the batch is empty, shape {losses.shape}. "
            "Look at the slice or the filter that made it."
        )
    return losses.mean()
    ### END SOLUTION

# %% check="Loss.reduce" points=5
_losses = Tensor([[1.0, 4.0], [7.0, 0.0]])
check.tensor('Loss("mean").reduce([[1, 4], [7, 0]])', Loss("mean").reduce(_losses), 3,
             why="12 divided by all 4 entries, not by the 2 rows")
check.tensor('Loss("sum").reduce([[1, 4], [7, 0]])', Loss("sum").reduce(_losses), 12,
             why="1 + 4 + 7 + 0, a tensor of shape ()")
check.tensor('Loss("none").reduce([[1, 4], [7, 0]])', Loss("none").reduce(_losses),
             [[1, 4], [7, 0]], why="every loss stays where it was")
check.tensor("Loss().reduce([2, 4])", Loss().reduce(Tensor([2.0, 4.0])), 3,
             why="the mean is the default")
check.raises('Loss("mean").reduce of an empty tensor', ValueError,
             lambda: Loss("mean").reduce(Tensor(np.zeros((0,)))), mention=["empty"],
             why="0/0 would be a nan that shows up far away from its cause")
check.tensor('Loss("sum").reduce of an empty tensor', Loss("sum").reduce(Tensor(np.zeros((0,)))), 0,
             why="a sum of nothing is 0, no mistake: only the mean divides by their number")
for _reduction in ("mean", "sum"):
    check.connected(f'the result of Loss("{_reduction}").reduce, from the losses', Loss(_reduction).reduce,
                    _losses, why="module 05 follows operations of tensors; an array taken from .data "
                                 "leaves no trace, and no gradient")

# %% [markdown]
"""
### Squared error

Predictions `[1, 5]`, targets `[1, 2]`: the differences are 0 and 3, their squares 0 and 9, the mean
4.5.

Two things can go wrong here. Targets arrive as tensors, arrays or lists. And broadcasting, so
helpful elsewhere, is a trap: a `Linear(…, 1)` outputs shape `(N, 1)`, the targets have shape
`(N,)`, and their difference has shape `(N, N)`, every prediction against every target. No error,
only a model that learns to predict the mean. The next cell gives you `as_target`, which makes a
tensor of the target and refuses that.
"""

# %% given="as_target"
#| exporti
def as_target(prediction, target):
    """The target as a Tensor of the prediction's shape.

    target: Tensor, array or nested lists.
    Raises ValueError naming both shapes if they differ: broadcasting would compare every
    prediction with every target.
    """
    target = target if isinstance(target, Tensor) else Tensor(target)
    if target.shape != prediction.shape:
        raise ValueError(
            f"prediction {prediction.shape} and target {target.shape} differ in shape. "
            "Reshape one of them, so that each prediction has its own target."
        )
    return target

# %% [markdown]
"""
Now the loss. Build it from operations of tensors (`-`, `*`), not from `.data`: in module 05 each of
them learns its own gradient, and a loss made of them has one without another line of code.
"""

# %% exercise="MSELoss"
#| export
class MSELoss(Loss):
    """Squared differences of prediction and target, reduced: mean((prediction - target)²).

    Built from Tensor operations. Cost: 3 passes over the prediction.

    >>> MSELoss()(Tensor([1.0, 5.0]), [1.0, 2.0]).item()
    4.5
    """

    def forward(self, prediction, target):
        """Loss of a prediction (Tensor) and a target of the same shape.

        Raises ValueError if the shapes differ.
        """
        ### BEGIN SOLUTION
        difference = prediction - as_target(prediction, target)
        return self.reduce(difference * difference)
        ### END SOLUTION

# %% check="MSELoss" points=5
check.tensor("MSELoss of [1, 5] and [1, 2]", MSELoss()(Tensor([1.0, 5.0]), [1.0, 2.0]), 4.5,
             why="differences 0 and 3, squares 0 and 9, mean 4.5")
_p, _t = Tensor([[1.0, 2.0, 3.0], [0.0, 0.0, -4.0]]), np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
check.tensor("MSELoss of (2, 3) and an array (2, 3)", MSELoss()(_p, _t), 5,
             why="squares 0, 4, 9, 0, 1, 16: 30 divided by 6 entries")
check.tensor('MSELoss(reduction="sum")', MSELoss(reduction="sum")(_p, Tensor(_t)), 30,
             why="the squares, added")
check.tensor('MSELoss(reduction="none")', MSELoss(reduction="none")(_p, Tensor(_t)),
             [[0, 4, 9], [0, 1, 16]], why="the squares, each in its place")
check.raises("MSELoss of (2, 1) and (2,)", ValueError,
             lambda: MSELoss()(Tensor([[1.0], [5.0]]), [1.0, 5.0]), mention=["(2, 1)", "(2,)"],
             why="broadcasting would make (2, 2) of it: every prediction against every target")
check.connected("the loss, from prediction and target", MSELoss(), Tensor([1.0, 5.0]), Tensor([1.0, 2.0]),
                why="prediction - target is an operation that module 05 will follow; an array taken "
                    "from .data leaves no trace, and no gradient")

# %% [markdown]
"""
### Log-sum-exp without overflow

`log(e^1000 + e^1000)` is 1000 + log 2, an ordinary number, but `e^1000` is not one. The remedy is
the one of your softmax in module 02: take out the largest term `m` before the exponential sees it.

```
log(e^a + e^b)  =  log( e^m · (e^(a-m) + e^(b-m)) )  =  m + log(e^(a-m) + e^(b-m))

a = b = 1000:  m = 1000,   1000 + log(e^0 + e^0) = 1000 + log 2 = 1000.693
```

Every exponent is now at most 0, so nothing overflows; and the largest term became `e^0 = 1`, so the
sum is at least 1 and its logarithm is finite. Terms that underflow to 0 were too small to matter.
Write it for an array and one axis. Each slice along the axis has a largest entry of its own.
"""

# %% exercise="log_sum_exp"
#| export
def log_sum_exp(x, axis=-1):
    """log(sum(exp(x))) along `axis` of a NumPy array, for entries of any size.

    Shape: that of x without `axis`. Cost: 4 passes, two temporaries of the size of x.

    >>> log_sum_exp(np.array([1000.0, 1000.0])).round(3).item()
    1000.693
    """
    ### BEGIN SOLUTION
    largest = x.max(axis=axis, keepdims=True)
    total = np.exp(x - largest).sum(axis=axis)
    return np.squeeze(largest, axis=axis) + np.log(total)
    ### END SOLUTION

# %% check="log_sum_exp" points=8
_x = np.log(np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], dtype=np.float32))
check.close("log_sum_exp of log [[1, 2, 3], [4, 5, 6]], axis=1", log_sum_exp(_x, axis=1),
            [np.log(6.0), np.log(15.0)], why="1 + 2 + 3 = 6 and 4 + 5 + 6 = 15, log of each")
check.close("x afterwards", np.exp(_x), [[1, 2, 3], [4, 5, 6]],
            why="the caller still needs the logits: x - m makes a new array, x -= m changes this one")
_one = log_sum_exp(_x[:1], axis=1)
check.equal("what comes back for one row, shape (1, 3), axis=1",
            (type(_one).__name__, getattr(_one, "shape", None)), ("ndarray", (1,)),
            why="an array, without the axis that was summed and with the one that was not")
check.close("the same, axis=0", log_sum_exp(_x, axis=0), np.log([5.0, 7.0, 9.0]),
            why="1 + 4, 2 + 5, 3 + 6: axis 0 disappears")
check.close("log_sum_exp([1000, 1000])", log_sum_exp(np.array([1000, 1000], dtype=np.float32)),
            1000.693147,
            why="1000 + log 2: take the largest out before exp sees it, and put it back")
check.close("log_sum_exp([-1000, -1000])", log_sum_exp(np.array([-1000, -1000], dtype=np.float32)),
            -999.306853, why="-1000 + log 2: without the shift both terms underflow to 0")
check.close("rows of very different size, axis=1",
            log_sum_exp(np.array([[1000, 0], [-1000, -1000]], dtype=np.float32), axis=1),
            [1000, -999.306853], why="each row subtracts its own largest entry")

# %% [markdown]
"""
### Cross-entropy, one row at a time

Each row of `logits` has one score per class; `classes` holds the number of the right class:

```
logits [[2, 1, 0],     classes [0,     losses [log(e^2 + e^1 + e^0) - 2 = 2.4076 - 2 = 0.4076,
        [0, 0, 3]]              1]             log(e^0 + e^0 + e^3) - 0 = 3.0949 - 0 = 3.0949]
```

Two remarks before you write `log_sum_exp(row) - row[class]`. To pick one entry per row, index with
two lists of the same length, row numbers and column numbers: `logits[[0, 1], [0, 1]]` is `[2, 0]`.
And mind the digits. A confident row `[1000, 985]` with class 0 has loss log(1 + e^-15) = 0.0000003.
But near 1000 float32 knows no numbers between 1000 and 1000.00006: the log-sum-exp rounds to 1000
and the loss to 0. Adding the same number to all logits of a row does not change its probabilities,
so shift the row first: subtract its maximum from all logits and compute with small numbers from
there on.
"""

# %% exercise="cross_entropies"
#| exporti
def cross_entropies(logits, classes):
    """Cross-entropy of each row: log_sum_exp(row) - row[class] = -log softmax(row)[class].

    logits: array (N, C); classes: integer array (N,). Shape: (N,).
    Cost: 6 passes over the logits, three temporaries of their size.

    >>> cross_entropies(np.array([[2.0, 1.0, 0.0]]), np.array([0])).round(4).tolist()
    [0.4076]
    """
    ### BEGIN SOLUTION
    shifted = logits - logits.max(axis=1, keepdims=True)
    rows = np.arange(len(classes))
    return log_sum_exp(shifted, axis=1) - shifted[rows, classes]
    ### END SOLUTION

# %% check="cross_entropies" points=7
_logits = np.array([[2, 1, 0], [0, 0, 3]], dtype=np.float32)
check.close("cross_entropies of [[2, 1, 0], [0, 0, 3]], classes [0, 1]",
            cross_entropies(_logits, np.array([0, 1])), [0.407606, 3.094923],
            why="log(e^2 + e^1 + e^0) - 2 and log(e^0 + e^0 + e^3) - 0")
check.close("the logits afterwards", _logits, [[2, 1, 0], [0, 0, 3]],
            why="they are the model's output, which the gradient needs: shift a new array")
check.close("the same logits, classes [2, 2]", cross_entropies(_logits, np.array([2, 2])),
            [2.407606, 0.094923], why="only the logit that is subtracted changes")
check.close("equal logits, 4 classes", cross_entropies(np.zeros((1, 4), np.float32), np.array([3])),
            [1.386294], why="every class has probability 1/4, and -log(1/4) = log 4")
_big = np.array([[1000, -1000], [1000, -1000], [-1000, -1000]], dtype=np.float32)
check.close("logits of ±1000, classes [0, 1, 0]", cross_entropies(_big, np.array([0, 1, 0])),
            [0, 2000, 0.693147], why="sure and right: 0. Sure and wrong: 2000. Undecided: log 2")
check.close("logits [[1000, 985]], class 0",
            cross_entropies(np.array([[1000, 985]], dtype=np.float32), np.array([0])),
            [3.059e-07], rtol=0.2, atol=0,
            why="log(1 + e^-15): shift the row first, or the digits near 1000 swallow it")

# %% [markdown]
"""
### Label smoothing

Cross-entropy is never content: at probability 0.99 it still asks for 0.999, and drives the logits
apart forever. And some labels are wrong. **Label smoothing** takes a share ε of the right
class's weight and spreads it evenly over all C classes, the right one included:

```
C = 3, class 0, ε = 0.3       weights [0.7 + 0.1, 0.1, 0.1]
loss = 0.7 · (cross-entropy of class 0)  +  0.3 · (mean of the cross-entropies of classes 0, 1, 2)
```

The mean over the classes `c` of `log_sum_exp(row) - row[c]` needs no loop: the first part is the
same for every class, so only the mean of the logits is left to subtract.
"""

# %% exercise="smoothed_cross_entropies"
#| exporti
def smoothed_cross_entropies(logits, classes, smoothing):
    """Cross-entropy of each row with a share `smoothing` of the label spread over all classes.

    logits: array (N, C); classes: integer array (N,); smoothing: 0 to 1. Shape: (N,).
    Source: Szegedy et al. 2016, section 7.

    >>> smoothed_cross_entropies(np.array([[2.0, 1.0, 0.0]]), np.array([0]), 0.3).round(4).tolist()
    [0.7076]
    """
    ### BEGIN SOLUTION
    shifted = logits - logits.max(axis=1, keepdims=True)
    every_class = log_sum_exp(shifted, axis=1) - shifted.mean(axis=1)
    return (1 - smoothing) * cross_entropies(logits, classes) + smoothing * every_class
    ### END SOLUTION

# %% check="smoothed_cross_entropies" points=6
_logits, _classes = np.array([[2, 1, 0], [0, 0, 3]], dtype=np.float32), np.array([0, 1])
check.close("smoothing 0.3", smoothed_cross_entropies(_logits, _classes, 0.3),
            [0.707606, 2.794923],
            why="row 0: 0.7 * 0.407606 + 0.3 * (2.407606 - 1), where 1 is the mean logit")
check.close("the logits afterwards", _logits, [[2, 1, 0], [0, 0, 3]],
            why="they are the model's output, which the gradient needs: shift a new array")
check.close("smoothing 0", smoothed_cross_entropies(_logits, _classes, 0.0), [0.407606, 3.094923],
            why="nothing is spread: plain cross-entropy")
check.close("smoothing 1", smoothed_cross_entropies(_logits, _classes, 1.0), [1.407606, 2.094923],
            why="everything is spread: the label no longer counts")
check.close("equal logits, 4 classes, smoothing 0.1",
            smoothed_cross_entropies(np.zeros((1, 4), np.float32), np.array([3]), 0.1), [1.386294],
            why="every class costs log 4, so the weights do not matter as long as they sum to 1")
check.close("logits [[1000, -1000]], smoothing 0.5",
            smoothed_cross_entropies(np.array([[1000, -1000]], np.float32), np.array([0]), 0.5),
            [500],
            why="0.5 * 0 + 0.5 * (0 + 2000) / 2: wrong classes cost, and stay finite")

# %% [markdown]
"""
### CrossEntropyLoss

What is left is to put the parts together. Targets come as tensors, arrays or lists, and wrong
targets are the most frequent mistake in all of classification: classes that count from 1, one-hot
rows where numbers are wanted, regression targets. Worst is `-1`, which NumPy silently takes for the
last class. The next cell gives you `class_indices`, which checks all that and returns an integer
array.
"""

# %% given="class_indices"
#| exporti
def class_indices(logits, target):
    """The target as an integer array (N,), checked against logits of shape (N, C).

    target: Tensor, array or list of whole numbers from 0 to C - 1.
    Raises ValueError for logits that are not (N, C), targets that are not (N,), and entries that
    are not whole numbers or not in range.
    """
    classes = np.asarray(target.data if isinstance(target, Tensor) else target)
    if logits.ndim != 2:
        raise ValueError(
            f"logits {logits.shape}: expected (N, C), a row of scores for each example. "
            "Reshape (..., C) to (-1, C), and the targets to (-1,)."
        )
    n, c = logits.shape
    if classes.shape != (n,):
        raise ValueError(
            f"target {classes.shape} for logits {logits.shape}: expected one class number for each "
            f"row, shape ({n},). For one-hot rows pass target.argmax(axis=1)."
        )
    if classes.dtype.kind not in "biuf" or not np.all(classes == np.floor(classes)):
        raise ValueError(f"targets are class numbers, so whole numbers; got {classes[:5]}.")
    if n and not (classes.min() >= 0 and classes.max() < c):
        raise ValueError(
            f"targets from {classes.min():g} to {classes.max():g}, but {c} logits in a row allow "
            f"only classes 0 to {c - 1}. Classes count from 0."
        )
    return classes.astype(np.int64)

# %% [markdown]
"""
Write `forward`: check the target, compute the loss of each row (with smoothing if there is any),
wrap, reduce. Here `.data` is right: the gradient of this loss as a whole is so short (softmax minus
the one-hot label) that module 05 states it as one rule.
"""

# %% exercise="CrossEntropyLoss"
#| export
class CrossEntropyLoss(Loss):
    """Cross-entropy of logits and class numbers, reduced. Takes logits: no softmax before it.

    label_smoothing: share of the label spread over all classes, 0 to 1.
    Raises ValueError for a label_smoothing outside of that.

    >>> round(CrossEntropyLoss()(Tensor([[2.0, 1.0, 0.0]]), [0]).item(), 4)
    0.4076
    """

    def __init__(self, reduction="mean", label_smoothing=0.0):
        super().__init__(reduction)
        if not 0 <= label_smoothing <= 1:
            raise ValueError(f"label_smoothing {label_smoothing} is a share: 0 to 1.")
        self.label_smoothing = label_smoothing

    def forward(self, logits, target):
        """Loss of logits (N, C), a Tensor, and class numbers (N,): Tensor, array or list.

        Raises ValueError for targets that `class_indices` refuses.
        """
        ### BEGIN SOLUTION
        classes = class_indices(logits, target)
        if self.label_smoothing:
            losses = smoothed_cross_entropies(logits.data, classes, self.label_smoothing)
        else:
            losses = cross_entropies(logits.data, classes)
        return self.reduce(Tensor(losses))
        ### END SOLUTION

# %% check="CrossEntropyLoss" points=7
_logits = Tensor([[2.0, 1.0, 0.0], [0.0, 0.0, 3.0]])
check.tensor("CrossEntropyLoss of [[2, 1, 0], [0, 0, 3]], classes [0, 1]",
             CrossEntropyLoss()(_logits, [0, 1]), 1.751265, why="(0.407606 + 3.094923) / 2")
check.tensor('reduction="none", classes in a Tensor',
             CrossEntropyLoss(reduction="none")(_logits, Tensor([0, 1])), [0.407606, 3.094923],
             why="tensors hold float32, so the class numbers must become integers first")
check.tensor('reduction="sum", classes in an array',
             CrossEntropyLoss(reduction="sum")(_logits, np.array([2, 2])), 2.502529,
             why="2.407606 + 0.094923")
check.tensor("label_smoothing=0.3, classes [2, 2]",
             CrossEntropyLoss(label_smoothing=0.3)(_logits, [2, 2]), 1.401265,
             why="rows 0.7 * 2.407606 + 0.3 * 1.407606 and 0.7 * 0.094923 + 0.3 * 2.094923")
check.tensor("logits of ±1000", CrossEntropyLoss()(Tensor([[1000.0, -1000.0]]), [1]), 2000,
             why="sure and wrong: the distance of the logits")
check.raises("class -1", ValueError, lambda: CrossEntropyLoss()(_logits, [0, -1]), mention=["-1"],
             why="NumPy would take the last class, silently")
check.raises("class 3 of 3", ValueError, lambda: CrossEntropyLoss()(_logits, [0, 3]), mention=["3"],
             why="three logits have the classes 0, 1 and 2")
check.raises("one-hot targets", ValueError,
             lambda: CrossEntropyLoss()(_logits, [[1, 0, 0], [0, 1, 0]]), mention=["(2, 3)"],
             why="the message names the shape that came")
check.raises("class 0.5", ValueError, lambda: CrossEntropyLoss()(_logits, [0.5, 1.0]),
             mention=["0.5"], why="rounding it would hide that these are not classes")

# %% [markdown]
"""
### Two classes: binary cross-entropy

For yes-or-no questions one probability `p` is enough. With label `y` (1 or 0) the price is

```
-( y · log p  +  (1 - y) · log(1 - p) )         y = 1:  -log p          p = 0.8:  0.223
                                                y = 0:  -log(1 - p)     p = 0.8:  1.609
```

`BCELoss` takes `p` itself, the output of a sigmoid. When `p` is exactly 0 or 1, one of the
logarithms is `-inf`, and `0 · -inf` is `nan` even if the answer was right. PyTorch's remedy is to
limit each **logarithm** to at least -100, so that a wrong certainty costs 100; do the same. (Moving
`p` away from 0 and 1 by a small number works too, but changes every loss a little.) `np.log(0)`
warns; `with np.errstate(divide="ignore"):` says that you know.

The given cell refuses numbers that are not probabilities: logits passed by mistake, labels -1 and
1.
"""

# %% given="as_probabilities"
#| exporti
def as_probabilities(name, values):
    """The array `values`, if all of it lies in 0 to 1.

    Raises ValueError naming the first entry that does not.
    """
    inside = (values >= 0) & (values <= 1)
    if not inside.all():
        raise ValueError(
            f"{name} {values[~inside].flat[0]:g} is not a probability, 0 to 1. For logits use "
            "BCEWithLogitsLoss; labels are 0 and 1."
        )
    return values

# %% exercise="BCELoss"
#| export
class BCELoss(Loss):
    """Binary cross-entropy of probabilities and labels, reduced; logarithms are at least -100.

    Source: torch.nn.BCELoss.

    >>> round(BCELoss()(Tensor([0.8]), [1.0]).item(), 4)
    0.2231
    """

    def forward(self, prediction, target):
        """Loss of probabilities (Tensor) and labels from 0 to 1 of the same shape.

        Raises ValueError if the shapes differ or an entry is not in 0 to 1.
        """
        p = as_probabilities("prediction", prediction.data)
        y = as_probabilities("target", as_target(prediction, target).data)
        ### BEGIN SOLUTION
        with np.errstate(divide="ignore"):
            log_yes = np.maximum(np.log(p), -100)
            log_no = np.maximum(np.log1p(-p), -100)
        return self.reduce(Tensor(-(y * log_yes + (1 - y) * log_no)))
        ### END SOLUTION

# %% check="BCELoss" points=7
_p = Tensor([0.9, 0.2, 0.8])
check.tensor('BCELoss("none") of [0.9, 0.2, 0.8], labels [1, 0, 0]', BCELoss("none")(_p, [1, 0, 0]),
             [0.105361, 0.223144, 1.609438], why="-log 0.9, -log(1 - 0.2), -log(1 - 0.8)")
check.tensor("BCELoss of the same", BCELoss()(_p, np.array([1, 0, 0])), 0.645981,
             why="the mean of the three")
check.tensor('BCELoss("sum") with soft labels',
             BCELoss("sum")(Tensor([[0.5, 0.25]]), [[0.5, 0.75]]), 1.804788,
             why="log 2 + (0.75 * log 4 + 0.25 * log(4/3)): a label may lie between 0 and 1")
check.tensor('BCELoss("none") of [0, 1, 0, 1, 0], labels [1, 0, 0, 1, 0.5]',
             BCELoss("none")(Tensor([0.0, 1.0, 0.0, 1.0, 0.0]), [1, 0, 0, 1, 0.5]),
             [100, 100, 0, 0, 50],
             why="a wrong certainty costs 100; a right one nothing, although 0 * -inf is nan; a label "
                 "of 0.5 half of 100: the logarithm is limited, not the loss")
check.tensor('BCELoss("none") of 1e-20, label 1', BCELoss("none")(Tensor([1e-20]), [1]), [46.0517],
             why="20 * log 10: only the logarithm is limited, not the probability")
check.raises("labels -1 and 1", ValueError, lambda: BCELoss()(Tensor([0.5, 0.5]), [-1, 1]),
             mention=["-1"], why="with label -1 the loss has no lower limit")
check.raises("(2, 1) against (2,)", ValueError, lambda: BCELoss()(Tensor([[0.5], [0.5]]), [0, 1]),
             mention=["(2, 1)", "(2,)"], why="each prediction needs its own label")

# %% [markdown]
"""
### Binary cross-entropy from logits

The limit of 100 is a bandage. The wound is that sigmoid, in float32, rounds to exactly 1 long
before its logit `x` is large, and then the information is gone. So take the logit and never form
`p`:

```
y = 1:   -log sigmoid(x)        =  log(1 + e^x) - x
y = 0:   -log(1 - sigmoid(x))   =  log(1 + e^x)            together:  log(1 + e^x) - x · y
```

This is cross-entropy again, over the two logits `[0, x]`: log-sum-exp minus the logit of the label.
And the remedy is the same, take the larger of the two out:

```
log(e^0 + e^x)  =  max(x, 0) + log(1 + e^-|x|)         x = 1000:  1000 + log(1 + 0) = 1000
```

`np.log1p(z)` is `log(1 + z)` with all digits when `z` is tiny. Write the loss.
"""

# %% exercise="BCEWithLogitsLoss"
#| export
class BCEWithLogitsLoss(Loss):
    """Binary cross-entropy of logits and labels, reduced: sigmoid and BCELoss in one, exact.

    Cost: 9 passes over the logits.

    >>> BCEWithLogitsLoss()(Tensor([1000.0]), [0.0]).item()
    1000.0
    """

    def forward(self, logits, target):
        """Loss of logits (Tensor) and labels from 0 to 1 of the same shape.

        Raises ValueError if the shapes differ or a label is not in 0 to 1.
        """
        x = logits.data
        y = as_probabilities("target", as_target(logits, target).data)
        ### BEGIN SOLUTION
        softplus = np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))
        return self.reduce(Tensor(softplus - x * y))
        ### END SOLUTION

# %% check="BCEWithLogitsLoss" points=7
_x = Tensor([0.0, 2.0, 2.0, -1.0])
check.tensor('BCEWithLogitsLoss("none") of [0, 2, 2, -1], labels [1, 1, 0, 0]',
             BCEWithLogitsLoss("none")(_x, [1, 1, 0, 0]), [0.693147, 0.126928, 2.126928, 0.313262],
             why="log 2, log(1 + e^2) - 2, log(1 + e^2), log(1 + e^-1)")
check.tensor("BCEWithLogitsLoss of the same", BCEWithLogitsLoss()(_x, np.array([1, 1, 0, 0])),
             0.815066, why="the mean of the four")
check.tensor('BCEWithLogitsLoss("sum") with soft labels',
             BCEWithLogitsLoss("sum")(Tensor([[0.0, 2.0]]), [[0.5, 0.25]]), 2.320075,
             why="log 2 - 0 and log(1 + e^2) - 2 * 0.25")
check.tensor('BCEWithLogitsLoss("none") of ±1000',
             BCEWithLogitsLoss("none")(Tensor([1000.0, 1000.0, -1000.0, -1000.0]), [1, 0, 1, 0]),
             [0, 1000, 1000, 0], why="sure and wrong costs the whole logit: neither inf nor 100")
check.tensor('BCEWithLogitsLoss("none") of 20, label 0',
             BCEWithLogitsLoss("none")(Tensor([20.0]), [0]), [20],
             why="sigmoid(20) rounds to 1 in float32; the logit still knows")
check.tensor('BCEWithLogitsLoss("none") of -20, label 0',
             BCEWithLogitsLoss("none")(Tensor([-20.0]), [0]), [2.0611537e-09], rtol=1e-3, atol=0,
             why="log(1 + e^-20) is about e^-20; 1 + e^-20 rounds to 1, np.log1p(e^-20) does not")
check.raises("labels 1 and 2", ValueError, lambda: BCEWithLogitsLoss()(Tensor([0.0, 0.0]), [1, 2]),
             mention=["2"], why="the message names the label that is out of range")

# %% [markdown]
"""
## Use: learning with nothing but a loss

A loss is a compass, and a compass is enough to walk. Take a network from module 03, push all
weights in a random direction, keep the push if the loss went down, undo it if not. No gradients
anywhere. The four points are XOR, which no straight line separates.
"""

# %% demo="random_search"
from tinytorch.core.activations import Tanh
from tinytorch.core.layers import Linear, Sequential
from tinytorch.core.tensor import manual_seed, randn

manual_seed(0)
points, labels = Tensor([[-1, -1], [-1, 1], [1, -1], [1, 1]]), [0, 1, 1, 0]
model, loss_fn = Sequential(Linear(2, 8), Tanh(), Linear(8, 2)), CrossEntropyLoss()
best = float("inf")
for step in range(301):
    before = model.state_dict()
    for p in model.parameters():
        p.data += 0.1 * randn(*p.shape).data
    loss = loss_fn(model(points), labels).item()
    if loss < best:
        best = loss
    else:
        model.load_state_dict(before)
    if step % 60 == 0:
        print(f"step {step:5}   loss {best:.4f}")
for y in np.linspace(1.5, -1.5, 13):
    row = model(Tensor([[x, y] for x in np.linspace(-1.5, 1.5, 41)]))
    print("".join(".#"[k] for k in row.argmax(axis=1)))

# %% [markdown]
"""
It works for 42 numbers. With a million, a random push is almost never a good one. Module 05
computes the best direction for all of them at once.

## Measure: where each formula breaks

Logits `[g, 0]`, and the right class is the second: the loss is `log(e^g + 1)`, which is `g` for
every `g` above 20. Three ways to compute it, all correct on paper:

- `textbook`: softmax, then log
- `shifted`: softmax with the largest logit subtracted first, then log
- `yours`: log-sum-exp minus the logit of the class

Before you run the cell, predict from the limits of float32 above at which `g` the first two break.
"""

# %% demo="float32_limits"
limits = np.finfo(np.float32)
print(f"float32: largest {limits.max:.2e} = e^{np.log(float(limits.max)):.1f}, smallest "
      f"{limits.smallest_subnormal:.1e} = e^{np.log(float(limits.smallest_subnormal)):.1f}\n")
print("    g      textbook       shifted         yours")
for g in (1, 20, 88, 89, 103, 104, 1000):
    logits = np.array([[g, 0]], dtype=np.float32)
    with np.errstate(all="ignore"):
        raised = np.exp(logits)
        textbook = -np.log(raised / raised.sum())[0, 1]
        raised = np.exp(logits - logits.max())
        shifted = -np.log(raised / raised.sum())[0, 1]
    yours = cross_entropies(logits, np.array([1]))[0]
    print(f"{g:5} {textbook:13.5f} {shifted:13.5f} {yours:13.5f}")

# %% [markdown]
"""
The shift alone saves the exponential from overflow, not the logarithm from 0; just before it
breaks, at 103, its digits are gone already. Only keeping the logarithm and the exponential together
is right everywhere. That is the reason why `CrossEntropyLoss` takes logits.

Now bytes. Predict: how many arrays as large as the logits does your loss need at its peak, on top
of the logits themselves? Then watch what a vocabulary does to 64 rows.
"""

# %% demo="loss_memory"
for c in (10, 1_000, 10_000, 50_257):
    logits = np.random.default_rng(0).standard_normal((64, c), dtype=np.float32)
    classes = np.zeros(64, dtype=np.int64)
    tracemalloc.start()
    cross_entropies(logits, classes)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    start = time.perf_counter()
    cross_entropies(logits, classes)
    spent = time.perf_counter() - start
    print(f"{c:6} classes: logits {logits.nbytes / 1e6:7.3f} MB, peak on top {peak / 1e6:7.3f} MB "
          f"({peak / logits.nbytes:4.1f}x), {spent * 1e3:7.2f} ms")

# %% [markdown]
"""
The solution we wrote needs three: the shifted row, the shift inside `log_sum_exp`, and its
exponential. For ten classes that is nothing. For the vocabulary of a language model, the logits and
what the loss makes of them are among the largest arrays of the whole training step.

## Break: softmax twice

The classic bug of this topic raises no error. The model ends in a softmax, because its outputs
"should be probabilities", and then `CrossEntropyLoss` applies its own. Probabilities lie between 0
and 1, so as logits they are all nearly equal, and the loss cannot fall below a floor however right
the model is.
"""

# %% demo="softmax_twice"
from tinytorch.core.activations import Softmax

loss_fn, softmax = CrossEntropyLoss(), Softmax(dim=-1)
print("confidence   logits to the loss   softmax, then the loss")
for confidence in (0, 1, 3, 10, 100):
    logits = Tensor([[confidence] + [0] * 9])  # 10 classes, and class 0 is right
    right, wrong = loss_fn(logits, [0]).item(), loss_fn(softmax(logits), [0]).item()
    print(f"{confidence:10} {right:20.4f} {wrong:24.4f}")
print(f"the floor: log(e + 9) - 1 = {np.log(np.e + 9) - 1:.4f}")

# %% [markdown]
"""
The symptom: the loss of a 10-class model falls from 2.30, crawls, and settles a little above 1.46,
while the accuracy looks fine. If you meet 1.46, look for a softmax too many.

## Reflect

Predict with pencil and paper, write the answer into the cell, and the check says whether it holds.

**1.** GPT-2 has a vocabulary of 50,257 tokens. Before training, all tokens are about equally
probable. What loss does the first step print?
"""

# %% exercise="predict.first_loss"
### BEGIN SOLUTION
first_loss = np.log(50_257)
### END SOLUTION

# %% check="predict.first_loss" points=1
check.prediction("the loss of an untrained model with 50,257 classes", first_loss, "MTAuODI0OTA1MTE5NzAyMDg=",
                 rel=0.02, why="each class has probability 1/50,257, and the price is -log of "
                 "that. A first loss far from it means that the output layer starts with opinions")

# %% [markdown]
"""
**2.** A label is 0, and the model is wrong with the logit 20. In float32, what does
`BCELoss("none")` say about `sigmoid(20)`?

- a) 20
- b) 100
- c) `inf`
- d) 0
"""

# %% exercise="predict.saturated_sigmoid"
### BEGIN SOLUTION
saturated_sigmoid = "b"
### END SOLUTION

# %% check="predict.saturated_sigmoid" points=2
check.choice("BCELoss of sigmoid(20) and label 0", saturated_sigmoid, "Yg==", ["a", "b", "c", "d"],
             why="1 - sigmoid(20) is about 2e-9, and the neighbours of 1 in float32 are 6e-8 away: "
                 "follow what 1 - p and then its limited logarithm become")

# %% [markdown]
"""
**3.** A batch of 32 texts of 1,024 tokens, and logits over the 50,257 tokens at every position,
float32. How many gigabytes (10⁹ bytes) are the logits alone?
"""

# %% exercise="predict.logits_gigabytes"
### BEGIN SOLUTION
logits_gigabytes = 32 * 1_024 * 50_257 * 4 / 1e9
### END SOLUTION

# %% check="predict.logits_gigabytes" points=1
check.prediction("logits of 32 texts of 1,024 tokens, gigabytes", logits_gigabytes, "Ni41ODcyODY=",
                 unit="GB", why="texts times positions times vocabulary times 4 bytes")

# %% [markdown]
"""
**4.** You switch from `reduction="mean"` to `"sum"` with batches of 64 and change nothing else. By
what factor does each gradient grow?
"""

# %% exercise="predict.sum_factor"
### BEGIN SOLUTION
sum_factor = 64
### END SOLUTION

# %% check="predict.sum_factor" points=2
check.prediction("gradients of the sum against gradients of the mean, batches of 64", sum_factor,
                 "NjQuMA==", rel=0.01,
                 why="the sum is a multiple of the mean, and a gradient scales with its loss; a "
                 "learning rate that was right is now too large by that factor")

# %% [markdown] question="clamp_or_logits" points=2
"""
**Open question.** `BCELoss` limits its logarithms to -100, `BCEWithLogitsLoss` needs no limit. Both
give a finite loss for a wrong and very confident answer. Which of them can still tell the model how
to improve, and why? Think of how the loss changes when the logit changes from 1000 to 999.

*Your answer, graded by a person:*
"""

# %% [markdown]
"""
## In production

PyTorch's `CrossEntropyLoss` is the same arithmetic: `log_softmax`, then picking the class. On top
of it come class weights, an `ignore_index` for padding, and probabilities as targets, none of which
we build. Its `BCELoss` limits logarithms to -100, as yours does. JAX has no loss classes; Optax
offers functions such as `softmax_cross_entropy_with_integer_labels`, and again they take logits.

For large vocabularies the logits are the problem, as you predicted above. Since log-sum-exp can be
collected piece by piece, kernels compute matrix product and loss together and never store the
logits: for Gemma 2 with two billion parameters that takes the loss from 24 GB to 1 MB (Wijmans et
al., *Cut Your Losses in Large-Vocabulary Language Models*, 2025). The same running maximum with a
running sum is what makes FlashAttention possible, which computes the attention of module 12 without
storing its table.

## When it fails

| symptom | cause | where to look |
|---|---|---|
| `nan` | `inf - inf`, `0 * -inf`, or the mean of nothing | subtract the largest logit before `exp`; limit the logarithm before multiplying |
| `overflow encountered` | `exp` of a number above 88 | `log_sum_exp`: every exponent must be at most 0 |
| `divide by zero` | the logarithm of a probability that is exactly 0 | limit it to -100, or work from logits |
| `differ in shape` | prediction `(N, 1)` and target `(N,)`, or the other way round | reshape one: `target.reshape(-1, 1)` |
| `class numbers` | probabilities, one-hot rows or regression targets in `CrossEntropyLoss` | `argmax(axis=1)` for one-hot rows; another loss for the rest |
| `Classes count from 0` | labels from 1 to C, or a last layer with too few outputs | subtract 1, or check `out_features` |
| `not a probability` | logits passed to `BCELoss`, or labels -1 and 1 | use `BCEWithLogitsLoss`; map labels with `(y + 1) / 2` |
| `does not support ufuncs` | a NumPy function was called on a Tensor | hand over `logits.data`, or use the Tensor's own method |
| `'NoneType'` | a function or `forward` that ends without `return` | its last line |
| `has no attribute 'item'` | the loss is a NumPy number | the return line: reduce a Tensor, `self.reduce(Tensor(losses))` |
"""
