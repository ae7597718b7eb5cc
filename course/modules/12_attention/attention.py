# %% [markdown]
"""
# 12 · Attention

Every token asks a question of every other token and takes what the answers are worth to it. It is the one
operation of a transformer in which tokens meet, and its cost grows with the square of their number.

```
you have built     tensors to training (01-07), tokens (10), embeddings and positions (11)
        |
        v
you build now      softmax with a mask and its gradient, scaled dot-product attention,
                   causal and padding masks, MultiHeadAttention
        |
        v
this unlocks       13 transformers; 17 the key-value cache; milestone 2017
```

Time: about 4 hours. Every exercise is a cell with a hole in it, and the cell below it checks your answer.
Run `tito watch` in a terminal beside this notebook.
"""

# %% given="imports"
#| default_exp nn.attention
#| export
import math
from collections.abc import Sequence

import numpy as np

from tinytorch.core.autograd import tracked
from tinytorch.core.layers import Dropout, Linear, Module
from tinytorch.core.tensor import Tensor, stack
from tinytorch.nn.embedding import RotaryPositions

# %% given="tools"
import time
import tracemalloc
import warnings

import tito.checks as check
from tinytorch.core.activations import ReLU
from tinytorch.core.autograd import check_grads, no_grad
from tinytorch.core.layers import Sequential
from tinytorch.core.losses import CrossEntropyLoss
from tinytorch.core.optimizers import Adam
from tinytorch.core.tensor import manual_seed
from tinytorch.core.training import accuracy
from tinytorch.nn.embedding import Embedding, LearnedPositions
from tito.notebook import method_of


def learn(model, batch, steps, lr):
    """Adam on `batch(64, step)`, which gives inputs and classes; returns the loss of every step."""
    optimizer, losses = Adam(model.parameters(), lr=lr), []
    for step in range(steps):
        inputs, classes = batch(64, step)
        optimizer.zero_grad()
        logits = model(*inputs)
        loss = CrossEntropyLoss()(logits.reshape(-1, logits.shape[-1]), np.reshape(classes, -1))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def picture(weights, rows, columns):
    """An attention map as text: a row per query, a column per key, darker for more weight."""
    wide = max(len(str(name)) for name in [*rows, *columns]) + 1
    lines = [" " * wide + "".join(f"{name!s:>{wide}}" for name in columns)]
    for name, row in zip(rows, weights):
        marks = "".join(f"{' .:-=+*#%@'[min(int(10 * w), 9)] * (wide - 1):>{wide}}" for w in row)
        lines.append(f"{name!s:<{wide}}{marks}")
    return "\n".join(lines)

# %% [markdown]
"""
## Why: who bit whom?

A sentence has many tokens and a classifier wants one vector. The obvious way is the average. Here are two
sentences of three words, with the embeddings and positions of module 11, averaged.
"""

# %% demo="who_bit_whom"
manual_seed(0)
words = ["dog", "bites", "man"]
table, places = Embedding(3, 4), LearnedPositions(3, 4)
for sentence in ("dog bites man", "man bites dog"):
    ids = [[words.index(word) for word in sentence.split()]]
    print(f"{sentence}:", np.round(places(table(ids)).mean(axis=1).data[0], 4))

# %% [markdown]
"""
The same vector, positions or not: the average of sums is the sum of averages, and each average has
forgotten who stood where. No network behind it, however large, can tell the two apart.

This is not about word order alone. Six people hold a digit each: *Ann 3, Bob 7, Cem 3, …*; the question is
*Bob?* and the answer 7. A pair is the embedding of the name plus the embedding of the digit. The model
below gets the average of the six pairs, the question beside it, and a hidden layer of 128 units. It sees
fresh rows in every step.
"""

# %% demo="a_summary_forgets"
NAMES = "Ann Bob Cem Dan Eva Fay Gus Hal Ida Jan Kim Leo".split()


def lookups(n, seed):
    """n lists of six people with a digit each, one of the six asked for, and the right digit."""
    rng = np.random.default_rng(seed)
    names = np.argsort(rng.random((n, len(NAMES))), axis=1)[:, :6]
    digits, asked = rng.integers(0, 10, (n, 6)), rng.integers(0, 6, (n, 1))
    right = np.take_along_axis(digits, asked, axis=1)
    return (names, digits, np.take_along_axis(names, asked, axis=1)), right


class Summary(Module):
    """The average of all pairs and the question, through a hidden layer."""

    def __init__(self, dim=64):
        self.names, self.digits = Embedding(len(NAMES), dim), Embedding(10, dim)
        self.net = Sequential(Linear(2 * dim, 128), ReLU(), Linear(128, 10))

    def forward(self, names, digits, asked):
        pairs = self.names(names) + self.digits(digits)
        return self.net(Tensor.cat(pairs.mean(axis=1), self.names(asked)[:, 0], axis=1))


manual_seed(0)
summary = Summary()
losses = learn(summary, lookups, 400, lr=0.003)
inputs, right = lookups(2000, seed=10**6)
print(f"loss {losses[0]:.2f} at the start, {np.mean(losses[-50:]):.2f} at the end")
print(f"right answers: {accuracy(summary(*inputs), right[:, 0]):.3f}")
common = np.array([np.bincount(row, minlength=10).argmax() for row in inputs[1]])
print(f"by always saying the digit that is held most often: {(common == right[:, 0]).mean():.3f}")

# %% [markdown]
"""
It has learned which digits are in the room, and says the most frequent one. Whose they are is gone: the
average of names plus the average of digits. More units or more steps do not bring it back, and with sixty
pairs the same few numbers would have to hold ten times as much.

The way out: keep all the pairs, and let the **question** decide which of them goes into the average, and
how much of it.

## Foundations: three tokens, by hand

A Python dictionary finds the one key that equals the question. Attention is a soft dictionary: it compares
the question with **every** key and returns an average of all values, in which a value weighs more the
better its key fits. So every token has three vectors:

```
query   what am I looking for?
key     what am I found by?
value   what do I have to say?
```

Here are three tokens with keys of 4 numbers and values of 2. The first one's query is `[2 0 0 0]`. A dot
product measures how well a key fits; divide it by √4 = 2 (the reason comes next); softmax turns the fits
into weights that add up to 1:

```
         key        query · key   / 2    exp     weight    value
token 0  [2 0 0 0]       4         2     7.389   0.665     [10  0]
token 1  [0 2 0 0]       0         0     1       0.090     [ 0 10]
token 2  [1 1 0 0]       2         1     2.718   0.245     [10 10]
                                        ------
                                        11.107

result   0.665 * [10 0] + 0.090 * [0 10] + 0.245 * [10 10] = [9.10 3.35]
```

The third token asks `[0 0 2 0]`. No key has anything there: all fits are 0, all weights 1/3, and it gets
the plain average `[6.67 6.67]`. So the summary of the first part is attention that does not know what it
wants.

### Why divide by √D?

A dot product of two vectors of D random numbers (mean 0, variance 1) is a sum of D products, each of
variance 1. So its variance is D. Softmax does not care for scale in the way you might hope: watch 16 keys
and one query, with D growing.
"""

# %% demo="why_divide"
rng = np.random.default_rng(0)
print("          not divided by √D                        divided by √D")
print("   D   variance  largest weight     slope      variance  largest weight     slope")
for width in (4, 16, 64, 256, 1024):
    query, keys = rng.normal(size=(1000, 1, width)), rng.normal(size=(1000, 16, width))
    row = f"{width:4}"
    for scale in (1.0, 1 / math.sqrt(width)):
        scores = (query * keys).sum(axis=-1) * scale
        weights = np.exp(scores - scores.max(axis=1, keepdims=True))
        weights /= weights.sum(axis=1, keepdims=True)
        slope = (weights * (1 - weights)).mean()
        row += f"  {scores.var():9.2f}  {weights.max(axis=1).mean():13.3f}  {slope:8.5f}    "
    print(row.rstrip())

# %% [markdown]
"""
Not divided, the fits of wide vectors are tens of units apart, and e to the power of that leaves one weight
near 1 and the others near 0: before any training, each token listens to a single other one, chosen by
chance. Worse, the slope `s (1 - s)` of softmax goes to zero there, so training can hardly change the
choice. Softmax is **saturated**. Divided by √D the variance is 1, whatever the width.

## Build

### One question at a time

First as loops, with nothing but arrays, so that you have said once what attention is. For each query: its
dot product with each key, divided by √D; e to the power of each, divided by their sum; the sum of the
values, each times its weight. These numbers are small, so no care for overflow here.
"""

# %% [markdown]
"""
The next cell serves the checks: softmax over the visible places by its definition, and the three tokens of
Foundations.
"""

# %% given="by_definition"
def _by_definition(x, mask):
    """Softmax over the visible places, row by row."""
    out = np.zeros(x.shape)
    for place in np.ndindex(x.shape[:-1]):
        seen = np.broadcast_to(mask, x.shape)[place]
        out[place][seen] = np.exp(x[place][seen]) / np.exp(x[place][seen]).sum()
    return out


def _foundations():
    """Queries, keys and values of Foundations, and the weights of the first query."""
    query = np.array([[2.0, 0, 0, 0], [0, 2, 0, 0], [0, 0, 2, 0]])
    key = np.array([[2.0, 0, 0, 0], [0, 2, 0, 0], [1, 1, 0, 0]])
    value = np.array([[10.0, 0], [0, 10], [10, 10]])
    powers = np.exp([2.0, 0.0, 1.0])
    return query, key, value, powers / powers.sum()

# %% exercise="attention_loops"
def attention_loops(query, key, value):
    """Attention by loops over NumPy arrays: for each query an average of the values.

    query (T, D), key (S, D), value (S, E) -> (T, E). Weights: softmax of query · key / √D.

    >>> attention_loops(np.zeros((1, 4)), np.ones((2, 4)), np.array([[2.0], [4.0]])).tolist()
    [[3.0]]
    """
    out = np.zeros((len(query), value.shape[1]))
    ### BEGIN SOLUTION
    for t in range(len(query)):
        powers = [math.exp(query[t] @ key[s] / math.sqrt(query.shape[1])) for s in range(len(key))]
        for s in range(len(key)):
            out[t] += powers[s] / sum(powers) * value[s]
    ### END SOLUTION
    return out

# %% check="attention_loops" points=6
_q, _k, _v, _w = _foundations()
_first = _w[0] * _v[0] + _w[1] * _v[1] + _w[2] * _v[2]
check.close("the third token's query", attention_loops(_q[2:], _k, _v), [[20 / 3, 20 / 3]],
            why="it fits no key better than another: a third of each value")
check.close("the first token's query", attention_loops(_q[:1], _k, _v), [_first],
            why="fits 4, 0, 2 over √4 are 2, 0, 1; weights 0.665, 0.090, 0.245; the table in Foundations")
check.close("all three queries", attention_loops(_q, _k, _v), [_first, _first[::-1], [20 / 3, 20 / 3]],
            why="the second is the first mirrored: each query has weights of its own")
check.close("two queries, one key", attention_loops(_q[:2], _k[:1], _v[:1]), [[10, 0], [10, 0]],
            why="a single key gets weight 1, however badly it fits")

# %% [markdown]
"""
### Two masks

Not everybody may look everywhere. A **mask** is an array of bool, `True` where a query (row) may look at a
key (column). That is the convention of PyTorch's `scaled_dot_product_attention`. PyTorch's older
`nn.MultiheadAttention` takes a `key_padding_mask` in which True means *ignore*: the opposite. Everybody
gets this wrong once.

A model that writes text word by word must learn without seeing the words to come. So token `t` may look at
tokens 0 to `t`, itself included. That is the **causal mask**:

```
          key  0 1 2 3
query 0        T . . .        T = True, may look
      1        T T . .        . = False
      2        T T T .
      3        T T T T
```
"""

# %% exercise="causal_mask"
#| export
def causal_mask(length: int) -> np.ndarray:
    """(T, T) of bool: row t may look at columns 0 to t.

    >>> causal_mask(3).astype(int).tolist()
    [[1, 0, 0], [1, 1, 0], [1, 1, 1]]
    """
    ### BEGIN SOLUTION
    return np.tril(np.ones((length, length), dtype=bool))
    ### END SOLUTION

# %% check="causal_mask" points=3
_mask = causal_mask(3)
check.equal("type of causal_mask(3)", (type(_mask).__name__, str(getattr(_mask, "dtype", ""))),
            ("ndarray", "bool"), why="ones and zeros would be taken for numbers to calculate with")
check.close("causal_mask(3) as ones and zeros", np.asarray(_mask, dtype=float),
            [[1, 0, 0], [1, 1, 0], [1, 1, 1]],
            why="rows are queries: the first token sees itself alone, the last one all three")
check.close("causal_mask(1)", np.asarray(causal_mask(1), dtype=float), [[1]],
            why="a token may always look at itself: otherwise the first one would have nothing")

# %% [markdown]
"""
Texts of different lengths stand in one batch by filling up the short ones with a padding token. Nobody may
look at the filling:

```
text 0   Ann saw Bob .        length 4     mask   T T T T
text 1   Hello . pad pad      length 2            T T . .
```

The mask speaks about **keys**, and holds for all heads and all queries of a text alike. Scores will have
the shape `(B, H, T, S)`: batch, heads, queries, keys. So give the mask the shape `(B, 1, 1, S)`, and
broadcasting does the rest. (The padding tokens still ask questions of their own; nobody reads the answers.)
"""

# %% exercise="padding_mask"
#| export
def padding_mask(lengths: Sequence[int], length: int) -> np.ndarray:
    """(B, 1, 1, S) of bool: the first lengths[b] of the S = `length` keys of text b are real.

    Raises ValueError unless all lengths lie between 0 and `length`.

    >>> padding_mask([2, 1], 3).astype(int).tolist()
    [[[[1, 1, 0]]], [[[1, 0, 0]]]]
    """
    lengths = np.asarray(lengths)
    if lengths.ndim != 1 or ((lengths < 0) | (lengths > length)).any():
        raise ValueError(
            f"padding_mask: lengths {lengths.tolist()} for {length} keys. "
            "Give one number per text, from 0 to the number of keys."
        )
    ### BEGIN SOLUTION
    real = np.arange(length) < lengths[:, None]  # (S,) < (B, 1) -> (B, S)
    return real[:, None, None, :]
    ### END SOLUTION

# %% check="padding_mask" points=4
_mask = padding_mask([4, 2, 0], 4)
check.equal("shape and type of padding_mask([4, 2, 0], 4)",
            (np.shape(_mask), str(getattr(_mask, "dtype", ""))), ((3, 1, 1, 4), "bool"),
            why="(B, 1, 1, S) broadcasts over heads and queries; (B, S) would be taken for (T, S)")
check.close("its rows as ones and zeros", np.asarray(_mask, dtype=float).reshape(3, 4),
            [[1, 1, 1, 1], [1, 1, 0, 0], [0, 0, 0, 0]],
            why="True for the first 4, 2 and 0 keys; the padding stands at the end")
_both = causal_mask(3) & padding_mask([2, 3], 3)
check.close("together with causal_mask(3), for the text of length 2", np.asarray(_both, float)[0, 0],
            [[1, 0, 0], [1, 1, 0], [1, 1, 0]], why="& of the two: where both allow it")

# %% [markdown]
"""
### Softmax with a mask

Now the heart. `masked_softmax` is softmax along the last axis, over the places where the mask is True; the
others get a weight of 0:

```
scores  [0  1.0986  5]     1.0986 = log 3, so the powers are 1, 3 and e⁵
mask    [T  T       .]
weights [0.25  0.75  0]    1/4 and 3/4: the 5 is not there at all
```

Multiplying by the mask *after* an ordinary softmax does not give that: the weights would no longer add up
to 1. Let a hidden score be `-inf` **before** the softmax, and its power is `exp(-inf) = 0` exactly. For the
powers not to overflow you subtract each row's largest score first, as in module 02. Largest of which
scores? Of those that may be seen: if a hidden 1000 stood for the row, all visible powers would be 0.

One case is left. What if a row may see **nothing**? A padded text of length 0, or a cut-out of a mask. Its
largest score is `-inf`, and `-inf - (-inf)` is `nan`, and one `nan` in a batch is `nan` in every weight
after the next step. Average of nothing is a matter of definition, and ours is: **all weights 0**, so that
what comes out is 0, and no warning on the way. (PyTorch's function has the same definition today; older
versions gave nan.) Two places need care: subtract 0 instead of a largest score of `-inf`, and divide by 1
instead of by a sum of 0.

The mask goes through `check_mask` first, which is given: it makes an array of it and refuses everything
that is no mask.
"""

# %% given="check_mask"
#| exporti
def check_mask(mask: np.ndarray | None, shape: tuple[int, ...]) -> np.ndarray | None:
    """`mask` as an array that broadcasts to the scores' `shape`, or None.

    Raises TypeError if it is not bool, ValueError if it does not broadcast.
    """
    if mask is None:
        return None
    mask = np.asarray(mask.data if isinstance(mask, Tensor) else mask)
    if mask.dtype != bool:
        raise TypeError(
            f"attention: the mask holds {mask.dtype}, not bool. True is `may look`: give an array, "
            "m > 0 of ones and zeros, m == 0 of zeros and -inf."
        )
    try:
        fits = np.broadcast_shapes(mask.shape, shape) == tuple(shape)
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(
            f"attention: a mask of shape {mask.shape} for scores {tuple(shape)}, (..., queries, keys). "
            "Give (T, S), or (B, 1, 1, S) for scores (B, H, T, S)."
        )
    return mask

# %% exercise="masked_softmax"
#| exporti
def _masked_softmax(scores: Tensor, mask: np.ndarray | None = None) -> Tensor:
    """Softmax along the last axis over the places where `mask` is True; the others get 0.

    scores (..., T, S); mask None, or bool that broadcasts to them. A row without any True is all 0.
    Raises TypeError for a mask that is not bool, ValueError for one that does not fit.
    Cost: about five passes over T*S numbers: bound by memory, not by arithmetic.

    >>> _masked_softmax(Tensor([0.0, 0.0, 9.0]), np.array([True, True, False])).tolist()
    [0.5, 0.5, 0.0]
    """
    mask = check_mask(mask, scores.shape)
    ### BEGIN SOLUTION
    x = scores.data if mask is None else np.where(mask, scores.data, -np.inf)
    top = x.max(axis=-1, keepdims=True)
    powers = np.exp(x - np.where(top == -np.inf, 0, top))
    total = powers.sum(axis=-1, keepdims=True)
    return Tensor(powers / np.where(total == 0, 1, total))
    ### END SOLUTION

# %% check="masked_softmax" points=9
_three = float(np.log(3))
_hide = np.array([True, True, False])
_scores = Tensor([[0.0, _three, 5.0], [0.0, _three, -5.0]])
check.tensor("without a mask: scores [[0, log 3], [log 3, log 3]]",
             _masked_softmax(Tensor([[0.0, _three], [_three, _three]])), [[0.25, 0.75], [0.5, 0.5]],
             why="1 and 3 of 4, 3 and 3 of 6: every row adds up to 1")
check.tensor("scores [0, log 3, ±5], the last one hidden", _masked_softmax(_scores, _hide),
             [[0.25, 0.75, 0.0]] * 2, why="1/4 and 3/4, whatever stands in the hidden place")
check.close("the scores afterwards", _scores.data, [[0, _three, 5], [0, _three, -5]],
            why="-inf belongs into a new array: the scores are another operation's result")
with warnings.catch_warnings(record=True) as _caught:
    warnings.simplefilter("always")
    _big = _masked_softmax(Tensor([[1000.0, 1000.0 + _three], [-1000.0, -1000.0]]))
    _far = _masked_softmax(Tensor([[0.0, _three, 1000.0], [-1000.0, -1000.0 + _three, 0.0]]), _hide)
    _none = _masked_softmax(Tensor([[1.0, 2.0, 3.0], [0.0, _three, 7.0]]),
                            np.array([[False, False, False], [True, True, False]]))
check.tensor("scores of 1000 and -1000", _big, [[0.25, 0.75], [0.5, 0.5]], rtol=1e-3,
             why="subtract the row's largest score, or e to the power of 1000 is inf")
check.tensor("a hidden 1000 beside 0, and a hidden 0 beside -1000", _far, [[0.25, 0.75, 0]] * 2,
             rtol=1e-3, why="the largest of the visible scores, or all visible powers vanish beside it")
check.tensor("a row that may see nothing, and one that may", _none, [[0, 0, 0], [0.25, 0.75, 0]],
             why="defined: no key, no weight. Not nan, and not 1/3 each")
_dirt = _masked_softmax(Tensor([[0.0, _three, np.nan], [0.0, _three, np.inf]]), _hide)
check.tensor("a hidden nan and a hidden inf", _dirt, [[0.25, 0.75, 0]] * 2,
             why="hidden is hidden: np.where leaves nothing of it, a calculation with the mask does")
check.close("a nan that is visible", _masked_softmax(Tensor([[0.0, np.nan]])).data, [[np.nan, np.nan]],
            why="a calculation that has gone wrong must show: only a row that sees nothing becomes 0")
check.equal("warnings on the way", sorted({str(_w.message) for _w in _caught}), [],
            why="a warning here would come in every training step of a padded batch")
_cube = np.arange(24.0).reshape(2, 2, 2, 3) % 5
_weights = _masked_softmax(Tensor(_cube), padding_mask([3, 1], 3))
check.close("scores (2, 2, 2, 3), lengths 3 and 1: sums over the keys",
            np.asarray(_weights.data).sum(axis=-1), np.ones((2, 2, 2)),
            why="a (2, 1, 1, 3) mask holds for every head and query; the keys are the last axis")
check.close("its second text", _weights.data[1], np.broadcast_to([1.0, 0, 0], (2, 2, 3)),
            why="only the first key is real: it gets everything")
check.raises("a mask of ones and zeros", TypeError,
             lambda: _masked_softmax(Tensor([[0.0, 1.0]]), np.array([1.0, 0.0])),
             why="floats may mean two things: pass what check_mask returns on", mention=["float64", "bool"])

# %% [markdown]
"""
### Its gradient

You know softmax's rule from module 05: `out * (g - average)`, where the average of `g` is weighted by
`out`, per row. What changes with a mask? A hidden place has `out = 0`: it takes no part in the average, and
`0 * (...)` sends nothing back, which is right, because a hidden score changes nothing. A row that sees
nothing has `out` all 0, so all its gradients are 0. The mask need not be looked at again.

```
out  [0.25 0.75 0]     g  [4 0 100]
average   0.25 * 4 + 0.75 * 0 + 0 * 100 = 1
gradient  [0.25 * (4 - 1)   0.75 * (0 - 1)   0]  =  [0.75 -0.75 0]
```
"""

# %% exercise="masked_softmax_gradient"
#| exporti
def masked_softmax_gradient(
    g: np.ndarray, out: np.ndarray, scores: np.ndarray, mask: np.ndarray | None = None
) -> np.ndarray:
    """Gradient of the scores, all arrays (..., T, S): out * (g - average of g weighted by out).

    >>> g, out = np.array([4.0, 0.0, 100.0]), np.array([0.25, 0.75, 0.0])
    >>> masked_softmax_gradient(g, out, np.zeros(3)).tolist()
    [0.75, -0.75, 0.0]
    """
    ### BEGIN SOLUTION
    return out * (g - (g * out).sum(axis=-1, keepdims=True))
    ### END SOLUTION

# %% check="masked_softmax_gradient" points=6
_g, _out = np.array([4.0, 0.0, 100.0]), np.array([0.25, 0.75, 0.0])
_g.flags.writeable = _out.flags.writeable = False
check.close("out = [0.25, 0.75, 0], g = [4, 0, 100]", masked_softmax_gradient(_g, _out, np.zeros(3)),
            [0.75, -0.75, 0], why="the average is 1: 0.25 * (4 - 1), 0.75 * (0 - 1), and 0 for the hidden one")
_x = np.array([[0.2, -1.0, 0.7], [1.5, 0.0, -0.3], [0.4, 0.1, 0.9]])
for _name, _mask in [("no mask", np.ones((3, 3), bool)), ("causal", causal_mask(3)),
                     ("a row that sees nothing", causal_mask(3) & np.array([[True], [False], [True]]))]:
    check.rule(f"{_name}: the slope of every score",
               lambda g, out, x, _mask=_mask: masked_softmax_gradient(g, out, x, _mask), 0,
               lambda x, _mask=_mask: _by_definition(x, _mask), _x,
               why="each row has an average of its own; a hidden score changes nothing")
_cube = np.stack([_x, _x.T, -_x, 2 * _x]).reshape(2, 2, 3, 3)
check.rule("scores (2, 2, 3, 3) with a padding mask",
           lambda g, out, x: masked_softmax_gradient(g, out, x, padding_mask([2, 3], 3)), 0,
           lambda x: _by_definition(x, padding_mask([2, 3], 3)), _cube,
           why="the keys are the last axis, however many stand before it")
check.grads("recorded on the tape: check_grads of the causal softmax", check_grads,
            lambda s: tracked(_masked_softmax, (masked_softmax_gradient, None), "masked_softmax")(
                s, causal_mask(3)), Tensor(_x))

# %% [markdown]
"""
Forward and rule together are an operation for the tape: one rule per operand, None for the mask, which has
no slope.
"""

# %% given="tracked"
#| export
masked_softmax = tracked(_masked_softmax, (masked_softmax_gradient, None), "masked_softmax")

# %% [markdown]
"""
### All questions at once

The loops compared each of T queries with each of S keys. That is a matrix product:

```
query (T, D)  @  key transposed (D, S)   ->   scores (T, S)
```

Row t, column s: how well key s fits query t. With leading axes for batch and heads, `(B, H, T, D)`, the
product works on the last two; so transpose **those**: `key.transpose(-2, -1)`, not `.T`, which turns all
axes around.

Where does the division go? `(q / √D) · k` is `(q · k) / √D`, so you may scale the queries, T*D numbers,
before the product, instead of the scores, T*S numbers, after it. For long texts that is less work, and the
tape keeps one big array less. The scale must come before the softmax in any case. Work with Tensor
operations only.
"""

# %% given="check_shapes"
#| exporti
def check_shapes(query: Tensor, key: Tensor, value: Tensor | None = None) -> None:
    """Raises ValueError unless queries are as wide as keys and every key has a value."""
    if query.shape[-1] != key.shape[-1]:
        raise ValueError(
            f"attention: queries {query.shape} and keys {key.shape}: widths {query.shape[-1]} and "
            f"{key.shape[-1]} differ. Both are (..., tokens, width); transposing is done in here."
        )
    if value is not None and key.shape[-2] != value.shape[-2]:
        raise ValueError(
            f"attention: keys {key.shape} and values {value.shape}: {key.shape[-2]} keys but "
            f"{value.shape[-2]} values. Make both from the same tokens."
        )

# %% exercise="attention_weights"
#| export
def attention_weights(query: Tensor, key: Tensor, mask: np.ndarray | None = None) -> Tensor:
    """How much each query takes of each key: masked softmax of query · key / √D, (..., T, S).

    query (..., T, D), key (..., S, D); mask bool, True where a query may look.
    Raises ValueError if the widths differ or the mask does not fit, TypeError if it is not bool.
    Cost: 2*T*S*D FLOPs, and T*S numbers per head.

    >>> attention_weights(Tensor([[0.0, 0.0]]), Tensor([[1.0, 2.0], [3.0, 4.0]])).tolist()
    [[0.5, 0.5]]
    """
    check_shapes(query, key)
    ### BEGIN SOLUTION
    scaled = query * (1 / math.sqrt(query.shape[-1]))
    return masked_softmax(scaled @ key.transpose(-2, -1), mask)  # (..., T, D) @ (..., D, S)
    ### END SOLUTION

# %% check="attention_weights" points=7
_q, _k, _, _w = _foundations()
_q, _k, _e2 = Tensor(_q), Tensor(_k), math.exp(2)
check.tensor("the three tokens of Foundations", attention_weights(_q, _k), [_w, _w[[1, 0, 2]], [1 / 3] * 3],
             why="0.665, 0.090, 0.245: a row per query, each adds up to 1")
check.tensor("two of the queries, three keys", attention_weights(_q[:2], _k), [_w, _w[[1, 0, 2]]],
             why="the scale is √D = 2, the width; not √T or √S")
check.tensor("with causal_mask(3)", attention_weights(_q, _k, causal_mask(3)),
             [[1, 0, 0], [1 / (1 + _e2), _e2 / (1 + _e2), 0], [1 / 3] * 3],
             why="the first sees itself alone; the second splits between two: fits 0 and 2")
_rng = np.random.default_rng(3)
_q, _k = Tensor(_rng.normal(size=(2, 3, 4, 5))), Tensor(_rng.normal(size=(2, 3, 6, 5)))
_wanted = _by_definition(np.einsum("bhtd,bhsd->bhts", _q.data, _k.data) / 5**0.5, padding_mask([6, 2], 6))
check.tensor("batch 2, heads 3, 4 queries, 6 keys, width 5, lengths 6 and 2",
             attention_weights(_q, _k, padding_mask([6, 2], 6)), _wanted, rtol=1e-4,
             why="every text and head by itself; only the last two axes of the keys are turned")
check.grads("check_grads in query and key", check_grads,
            lambda q, k: attention_weights(q, k, padding_mask([2], 3)[0]),
            Tensor(_rng.normal(size=(1, 2, 3))), Tensor(_rng.normal(size=(1, 3, 3))),
            why="made of Tensor operations, the tape finds both gradients; one of the .data is cut off")

# %% [markdown]
"""
And with the weights, the average. What shape must the product of weights `(T, S)` and values `(S, E)` have?
One row per query.
"""

# %% exercise="scaled_dot_product_attention"
#| export
def scaled_dot_product_attention(
    query: Tensor, key: Tensor, value: Tensor, mask: np.ndarray | None = None
) -> Tensor:
    """For each query the average of the values, weighted by how well their keys fit: (..., T, E).

    query (..., T, D), key (..., S, D), value (..., S, E); mask bool, True where a query may look.
    Cost: 2*T*S*(D + E) FLOPs. Source: Vaswani et al. 2017, section 3.2.1.

    >>> values = Tensor([[2.0], [4.0]])
    >>> scaled_dot_product_attention(Tensor([[0.0]]), Tensor([[1.0], [5.0]]), values).tolist()
    [[3.0]]
    """
    check_shapes(query, key, value)
    ### BEGIN SOLUTION
    return attention_weights(query, key, mask) @ value  # (..., T, S) @ (..., S, E) -> (..., T, E)
    ### END SOLUTION

# %% check="scaled_dot_product_attention" points=5
_q, _k, _v, _w = _foundations()
_first, _e2 = _w @ _v, math.exp(2)
_all = scaled_dot_product_attention(Tensor(_q), Tensor(_k), Tensor(_v))
check.equal("type of the result", type(_all).__name__, "Tensor", why="the averages alone")
check.tensor("the three tokens of Foundations", _all, [_first, _first[::-1], [20 / 3, 20 / 3]],
             why="[9.10 3.35], mirrored, and the plain average")
check.tensor("the same with causal_mask(3)",
             scaled_dot_product_attention(Tensor(_q), Tensor(_k), Tensor(_v), causal_mask(3)),
             [[10, 0], [10 / (1 + _e2), 10 * _e2 / (1 + _e2)], [20 / 3, 20 / 3]],
             why="the first token sees only its own value [10 0], the second the first two")
_rng = np.random.default_rng(4)
_q, _k, _v = (Tensor(_rng.normal(size=_s)) for _s in ((2, 3, 4, 5), (2, 3, 6, 5), (2, 3, 6, 2)))
_loops = np.array([[attention_loops(_q.data[b, h], _k.data[b, h], _v.data[b, h]) for h in range(3)]
                   for b in range(2)])
check.tensor("batch 2, heads 3: equal to your loops", scaled_dot_product_attention(_q, _k, _v), _loops,
             rtol=1e-4, why="the same sums in another order; values may be narrower than keys")
_none = scaled_dot_product_attention(_q, _k, _v, padding_mask([0, 6], 6))
check.close("a text of length 0", _none.data[0], np.zeros((3, 4, 2)), why="nobody to listen to: zeros")
check.grads("check_grads in query, key and value, causal", check_grads,
            lambda q, k, v: scaled_dot_product_attention(q, k, v, causal_mask(3)),
            *(Tensor(_rng.normal(size=(3, 2))) for _ in range(3)))

# %% [markdown]
"""
### Heads

One softmax makes one choice. But a word may need to know its subject *and* whether it is a question. So the
width is cut into `heads` parts and each part does attention by itself, with its own weights. A width of 4
in 2 heads:

```
token 0   [a0 a1 | a2 a3]              head 0   [a0 a1]     head 1   [a2 a3]
token 1   [b0 b1 | b2 b3]      ->               [b0 b1]              [b2 b3]
token 2   [c0 c1 | c2 c3]                       [c0 c1]              [c2 c3]

(B, T, H*D)                            (B, H, T, D)
```

The heads must become an axis **before** the tokens, since matrix products work on the last two. It is
tempting to ask for the shape directly, `x.reshape(B, H, T, D)`. No error, the right shape, and wrong:
reshape never moves a number, it reads on in the old order, and head 0 would get

```
[a0 a1]
[a2 a3]      parts of different heads, as if they were tokens
[b0 b1]
```

Reshape where the numbers stand, `(B, T, H, D)`, then `permute` the axes.
"""

# %% given="MultiHeadAttention"
#| export
class MultiHeadAttention(Module):
    """Attention in `heads` parts of the width, each with queries, keys and values of its own.

    x (B, T, dim) -> (B, T, dim). dropout: share of the attention weights dropped in training.
    positions: RotaryPositions of a head's width, which turn queries and keys.
    kv_heads: fewer heads for keys and values, each shared by heads // kv_heads query heads.
    Raises ValueError for sizes that do not divide.
    Source: Vaswani et al. 2017, section 3.2.2; shared heads: Ainslie et al. 2023.

    >>> MultiHeadAttention(8, heads=2)(Tensor(np.zeros((3, 5, 8)))).shape
    (3, 5, 8)
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        bias: bool = True,
        dropout: float = 0.0,
        positions: RotaryPositions | None = None,
        kv_heads: int | None = None,
    ) -> None:
        kv_heads = heads if kv_heads is None else kv_heads
        if min(heads, kv_heads) < 1 or dim % heads or heads % kv_heads:
            raise ValueError(
                f"attention: dim {dim} with {heads} heads and {kv_heads} key heads: "
                "heads must divide dim, and kv_heads must divide heads."
            )
        if positions is not None and positions.dim != dim // heads:
            raise ValueError(
                f"attention: positions for width {positions.dim}, but each of the {heads} heads is "
                f"{dim // heads} wide. Build them as RotaryPositions({dim // heads}, max_length)."
            )
        self.dim, self.heads, self.kv_heads = dim, heads, kv_heads
        width = dim // heads * kv_heads
        self.query = Linear(dim, dim, bias=bias)
        self.key = Linear(dim, width, bias=bias)
        self.value = Linear(dim, width, bias=bias)
        self.out = Linear(dim, dim, bias=bias)
        self.dropout = Dropout(dropout)
        self.positions = positions

    def extra_repr(self) -> str:
        """The sizes."""
        return f"{self.dim}, heads={self.heads}, kv_heads={self.kv_heads}"

# %% exercise="MultiHeadAttention.split"
#| export
@method_of(MultiHeadAttention)
def split(self, x: Tensor, heads: int) -> Tensor:
    """(B, T, H*D) -> (B, H, T, D): the width cut into `heads` parts, each with all the tokens."""
    b, t, width = x.shape
    ### BEGIN SOLUTION
    return x.reshape(b, t, heads, width // heads).permute(0, 2, 1, 3)
    ### END SOLUTION

# %% check="MultiHeadAttention.split" points=6
_layer = MultiHeadAttention(6, heads=3)
_x = Tensor(np.add.outer(np.add.outer([0, 100], [0, 10]), np.arange(6.0)))  # 100 b + 10 t + place
_parts = _layer.split(_x, 3)
check.equal("shape of split (2, 2, 6) into 3 heads", getattr(_parts, "shape", None), (2, 3, 2, 2),
            why="batch, heads, tokens, width of a head: attention works on the last two")
check.tensor("text 0, head 0", _parts[0, 0], [[0, 1], [10, 11]],
             why="the first two of six numbers of token 0, [0 1 | 2 3 | 4 5], and of token 1, [10 11 | …]")
check.tensor("text 1, head 2", _parts[1, 2], [[104, 105], [114, 115]],
             why="the last two numbers of each token of text 1; reshape alone would mix the tokens")
check.equal("shape of split (2, 2, 6) into 2 heads", _layer.split(_x, 2).shape, (2, 2, 2, 3),
            why="keys and values may have fewer heads: use the argument, not self.heads")
check.connected("split of x", lambda x: _layer.split(x, 3), _x)

# %% [markdown]
"""
Afterwards the heads' results go back side by side, `(B, H, T, D)` to `(B, T, H*D)`: the same two steps, in
the opposite order, each undone.
"""

# %% exercise="MultiHeadAttention.merge"
#| export
@method_of(MultiHeadAttention)
def merge(self, x: Tensor) -> Tensor:
    """(B, H, T, D) -> (B, T, H*D): the heads' parts of each token side by side again."""
    b, h, t, d = x.shape
    ### BEGIN SOLUTION
    return x.permute(0, 2, 1, 3).reshape(b, t, h * d)
    ### END SOLUTION

# %% check="MultiHeadAttention.merge" points=5
_layer = MultiHeadAttention(6, heads=3)
_x = np.add.outer(np.add.outer([0, 100], [0, 10]), np.arange(6.0))
_parts = Tensor(np.stack([_x[:, :, 0:2], _x[:, :, 2:4], _x[:, :, 4:6]], axis=1))  # (2, 3, 2, 2)
check.tensor("three heads of width 2, merged", _layer.merge(_parts), _x,
             why="token 0 of text 0 is [0 1 2 3 4 5] again; reshape alone would lay tokens beside each other")
check.tensor("two heads, three tokens: one text", _layer.merge(Tensor([[[[1], [2], [3]], [[4], [5], [6]]]])),
             [[[1, 4], [2, 5], [3, 6]]], why="token 0 has 1 from head 0 and 4 from head 1")
check.connected("merge of x", _layer.merge, _parts)

# %% [markdown]
"""
### Shared keys and values

Keys and values of a long text fill memory (module 17 will count it). Large models therefore let several
query heads share one head of keys and values: `heads=4, kv_heads=2` means that query heads 0 and 1 ask key
head 0, and query heads 2 and 3 ask key head 1. For the matrix product each key head must stand there as
often as it is asked:

```
key heads      k0 k1          (B, kv_heads, S, D)
for 4 queries  k0 k0 k1 k1    (B, heads, S, D)      not k0 k1 k0 k1
```

`stack([x, x], axis=2)` puts copies beside each other on a new axis 2: `(B, kv_heads, 2, S, D)`. From there
a reshape reads exactly in the order wanted. If nothing is shared, return `x` as it is.
"""

# %% exercise="MultiHeadAttention.shared"
#| export
@method_of(MultiHeadAttention)
def shared(self, x: Tensor) -> Tensor:
    """(B, kv_heads, S, D) -> (B, heads, S, D): each head repeated for its group of query heads."""
    group = self.heads // self.kv_heads
    ### BEGIN SOLUTION
    if group == 1:
        return x
    b, _, s, d = x.shape
    return stack([x] * group, axis=2).reshape(b, self.heads, s, d)
    ### END SOLUTION

# %% check="MultiHeadAttention.shared" points=4
_x = Tensor(np.arange(2 * 2 * 3 * 1.0).reshape(2, 2, 3, 1))
_four = MultiHeadAttention(4, heads=4, kv_heads=2).shared(_x)
check.equal("shape: 2 key heads for 4 query heads", getattr(_four, "shape", None), (2, 4, 3, 1),
            why="every query head finds its keys at its own number")
check.tensor("text 0, the heads' first entries", _four[0, :, 0, 0], [0, 0, 3, 3],
             why="k0 k0 k1 k1: neighbours share, as in Llama; k0 k1 k0 k1 is another model")
check.tensor("text 1, head 3", _four[1, 3], [[9], [10], [11]], why="key head 1 of text 1, all its tokens")
check.tensor("1 key head for 3 query heads", MultiHeadAttention(3, heads=3, kv_heads=1).shared(_x[:, :1])[1],
             [[[6], [7], [8]]] * 3, why="one for all: multi-query attention")
_own = MultiHeadAttention(2, heads=2)
check.true("nothing shared: x itself", _own.shared(_x) is _x, why="no copy where none is needed")
check.connected("shared of x", MultiHeadAttention(4, heads=4, kv_heads=2).shared, _x)

# %% [markdown]
"""
### Queries of one text, keys of another

`project(x, context, start)` makes the three: queries from `x` `(B, T, dim)`, keys and values from `context`
`(B, S, dim)`. In **self-attention** the two are the same text. In **cross-attention** they are not: a
translation (x) looks into the original (context), and T and S differ.

In order: the layers `self.query`, `self.key`, `self.value`; `split` (queries into `self.heads`, the others
into `self.kv_heads`); if there are `positions`, turn queries and keys, not values: a position says where to
look, not what is there. `self.positions(q, start)` counts from `start`, for a text that is continued
(module 17). Last, keys and values `shared`.
"""

# %% given="check_inputs"
#| exporti
@method_of(MultiHeadAttention)
def _check_inputs(self, x: Tensor, context: Tensor) -> None:
    """Raises ValueError unless both are (B, tokens, dim) with the same B."""
    fits = x.ndim == context.ndim == 3 and x.shape[0] == context.shape[0]
    if not fits or x.shape[2] != self.dim or context.shape[2] != self.dim:
        raise ValueError(
            f"attention: x {x.shape}, context {context.shape}: both must be (batch, tokens, {self.dim}) "
            "with the same batch. A single text needs a batch axis: x.unsqueeze(0)."
        )

# %% [markdown]
"""
Again a cell for the checks: the layer by NumPy.
"""

# %% given="by_numpy"
def _parts_of(layer, name, x):
    """The named layer's result cut into heads of the layer's width, by NumPy: (B, heads, T, D)."""
    linear = getattr(layer, name)
    flat = x @ linear.weight.data.T + linear.bias.data
    width = layer.dim // layer.heads
    return np.stack([flat[..., i : i + width] for i in range(0, flat.shape[-1], width)], axis=1)


def _turned(parts, start):
    """Rotary positions as RotaryPositions(2, …) gives them: one pair, one radian per position."""
    angle = start + np.arange(parts.shape[-2])
    a, b = parts[..., 0], parts[..., 1]
    return np.stack([a * np.cos(angle) - b * np.sin(angle), a * np.sin(angle) + b * np.cos(angle)], axis=-1)


def _reference(layer, x, context, mask):
    """The layer by NumPy, head by head."""
    q, k, v = _parts_of(layer, "query", x), _parts_of(layer, "key", context), _parts_of(layer, "value", context)
    scores = np.einsum("bhtd,bhsd->bhts", q, k) / q.shape[-1] ** 0.5
    found = np.einsum("bhts,bhsd->bhtd", _by_definition(scores, mask), v)
    return np.concatenate(list(np.moveaxis(found, 1, 0)), axis=-1) @ layer.out.weight.data.T + layer.out.bias.data

# %% exercise="MultiHeadAttention.project"
#| export
@method_of(MultiHeadAttention)
def project(self, x: Tensor, context: Tensor, start: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Queries of x, keys and values of context, per head: (B, H, T, D), (B, H, S, D) twice.

    x (B, T, dim), context (B, S, dim); start: position of the first token of both.
    Raises ValueError for other shapes. Cost: 2*dim² FLOPs per token in each of the three layers.
    """
    self._check_inputs(x, context)
    ### BEGIN SOLUTION
    query = self.split(self.query(x), self.heads)
    key = self.split(self.key(context), self.kv_heads)
    value = self.split(self.value(context), self.kv_heads)
    if self.positions is not None:
        query, key = self.positions(query, start), self.positions(key, start)
    return query, self.shared(key), self.shared(value)
    ### END SOLUTION

# %% check="MultiHeadAttention.project" points=8
manual_seed(1)
_rng = np.random.default_rng(5)
_x, _c = Tensor(_rng.normal(size=(2, 3, 4))), Tensor(_rng.normal(size=(2, 5, 4)))
_layer = MultiHeadAttention(4, heads=2)
_made = _layer.project(_x, _c)
check.equal("shapes of query, key, value: 3 tokens, context of 5, 2 heads",
            [_t.shape for _t in _made], [(2, 2, 3, 2), (2, 2, 5, 2), (2, 2, 5, 2)],
            why="as many queries as x has tokens, as many keys and values as the context has")
for _name, _t, _of in zip(("query", "key", "value"), _made, (_x, _c, _c)):
    check.tensor(f"{_name}, of {'x' if _of is _x else 'the context'}", _t, _parts_of(_layer, _name, _of.data),
                 rtol=1e-4, why=f"self.{_name} of its text, cut into heads")
_layer = MultiHeadAttention(8, heads=4, kv_heads=2)
_wide = Tensor(_rng.normal(size=(2, 3, 8)))
_made = _layer.project(_wide, _wide)
check.equal("shapes with 4 heads and kv_heads=2", [_t.shape for _t in _made], [(2, 4, 3, 2)] * 3,
            why="two heads of keys, each shared by two of queries")
check.tensor("its values", _made[2], _parts_of(_layer, "value", _wide.data)[:, [0, 0, 1, 1]], rtol=1e-4,
             why="split into kv_heads, then shared: v0 v0 v1 v1")
_layer = MultiHeadAttention(4, heads=2, positions=RotaryPositions(2, 16))
for _start in (0, 7):
    _made = _layer.project(_x, _c, start=_start)
    for _name, _t, _of in zip(("query", "key"), _made, (_x, _c)):
        check.tensor(f"rotary positions from {_start}: {_name}", _t,
                     _turned(_parts_of(_layer, _name, _of.data), _start), rtol=1e-4, atol=1e-5,
                     why=f"the first token is turned by {_start} radians, each next one by one more")
    check.tensor(f"rotary positions from {_start}: value", _made[2], _parts_of(_layer, "value", _c.data),
                 rtol=1e-4, why="positions say where to look, not what is there: values are not turned")
check.raises("x without a batch axis", ValueError, lambda: _layer.project(_x[0], _x[0]),
             why="the given line says what is wrong", mention=["(3, 4)", "unsqueeze"])

# %% [markdown]
"""
### The layer

All together. The weights of attention go through `self.dropout` (in training some links are cut, and the
others strengthened), then they average the values, the heads are merged, and `self.out` mixes what they
found. Without a `context`, x looks at itself.
"""

# %% exercise="MultiHeadAttention.forward"
#| export
@method_of(MultiHeadAttention)
def forward(
    self,
    x: Tensor,
    context: Tensor | None = None,
    mask: np.ndarray | None = None,
    start: int = 0,
) -> Tensor:
    """x (B, T, dim) looks at itself, or at `context` (B, S, dim): (B, T, dim).

    mask: bool that broadcasts to (B, H, T, S), True = may look; start: see `project`.
    Cost: 8*T*dim² FLOPs in the four layers (if S = T), 4*T*S*dim in the two products.
    """
    ### BEGIN SOLUTION
    query, key, value = self.project(x, x if context is None else context, start)
    weights = self.dropout(attention_weights(query, key, mask))  # (B, H, T, S)
    return self.out(self.merge(weights @ value))
    ### END SOLUTION

# %% check="MultiHeadAttention.forward" points=9
manual_seed(2)
_rng = np.random.default_rng(6)
_x, _c = Tensor(_rng.normal(size=(2, 3, 6))), Tensor(_rng.normal(size=(2, 5, 6)))
_layer = MultiHeadAttention(6, heads=2)
_every, _self = np.ones((1, 1), bool), _layer(_x)
check.equal("type of the result", type(_self).__name__, "Tensor", why="layers follow each other in a Sequential")
check.tensor("self-attention, 2 heads", _self, _reference(_layer, _x.data, _x.data, _every), rtol=1e-4,
             atol=1e-5, why="project, weights, average of the values, merge, out")
check.tensor("with a causal mask", _layer(_x, mask=causal_mask(3)),
             _reference(_layer, _x.data, _x.data, causal_mask(3)), rtol=1e-4, atol=1e-5,
             why="the mask goes to attention_weights")
_padding = padding_mask([5, 2], 5)
check.tensor("cross-attention to a padded context of 5", _layer(_x, _c, _padding),
             _reference(_layer, _x.data, _c.data, _padding), rtol=1e-4, atol=1e-5,
             why="x asks, the context answers: 3 results from 5 keys")
_rotary = MultiHeadAttention(6, heads=1, positions=RotaryPositions(6, 16))
_rotary.load_state_dict(_layer.state_dict())
_started = _rotary(_c, start=4)
check.tensor("rotary positions: a text that starts at 4 instead of 0", _started, _rotary(_c).data, rtol=1e-4,
             atol=1e-5, why="scores depend on distances alone, so both give the same")
_seen = []
_rotary.project = lambda x, context, start=0: _seen.append(start) or MultiHeadAttention.project(
    _rotary, x, context, start)
_rotary(_c, start=4)
check.equal("start as project gets it", _seen, [4], why="with a cache the keys before it stay where they were")
_drop = MultiHeadAttention(6, heads=3, dropout=0.5)
_drop.out.weight.data[...], _drop.out.bias.data[...] = np.eye(6), 0
_value = _c.data[:, :1] @ _drop.value.weight.data.T + _drop.value.bias.data
manual_seed(3)
_ratio = np.asarray(_drop(Tensor(np.ones((2, 40, 6))), _c[:, :1]).data) / _value  # one key: weight 1
check.equal("dropout 0.5, one key: the result is this many times the value",
            sorted(set(np.round(_ratio.ravel(), 3).tolist())), [0.0, 2.0],
            why="the one weight is dropped to 0 or scaled to 2 in training")
check.close("and both numbers of a head share that fate", _ratio[..., 0::2], _ratio[..., 1::2], rtol=1e-4,
            why="weights are dropped, one per query, key and head; not single numbers of the result")
check.close("dropout after eval()", _drop.eval()(Tensor(np.ones((2, 1, 6))), _c[:, :1]), _value, rtol=1e-4,
            why="in use nothing is dropped")
check.grads("check_grads of the layer in x and context, causal", check_grads,
            lambda x, c: _layer(x, c, causal_mask(3)), _x[:1], _c[:1, :3])

# %% [markdown]
"""
`weights_of` gives the attention maps alone, to be looked at.
"""

# %% given="weights_of"
#| export
@method_of(MultiHeadAttention)
def weights_of(
    self, x: Tensor, context: Tensor | None = None, mask: np.ndarray | None = None
) -> Tensor:
    """The attention maps of `forward` without dropout, (B, H, T, S), to be looked at."""
    query, key, _ = self.project(x, x if context is None else context)
    return attention_weights(query, key, mask)

# %% [markdown]
"""
## Use: the lookup, learned

The task of the first part again, the same pairs, the same number of steps. Now the question goes to
attention as `x` and the pairs are its `context`: one head, 32 wide, and a linear layer behind it. No hidden
layer.
"""

# %% demo="attention_looks_up"
class Lookup(Module):
    """The question attends to the pairs."""

    def __init__(self, dim=32):
        self.names, self.digits = Embedding(len(NAMES), dim), Embedding(10, dim)
        self.attention, self.out = MultiHeadAttention(dim, heads=1), Linear(dim, 10)

    def pairs(self, names, digits):
        return self.names(names) + self.digits(digits)

    def forward(self, names, digits, asked):
        return self.out(self.attention(self.names(asked), self.pairs(names, digits)))


manual_seed(0)
lookup = Lookup()
start = time.perf_counter()
losses = learn(lookup, lookups, 400, lr=0.01)
inputs, right = lookups(2000, seed=10**6)
print(f"right answers: {accuracy(lookup(*inputs), right):.3f}, after {time.perf_counter() - start:.1f} s")
print(f"the average of all pairs had {accuracy(summary(*inputs), right[:, 0]):.3f}")

names, digits, _ = (part[:1] for part in inputs)
everybody = np.sort(names)
weights = lookup.attention.weights_of(lookup.names(everybody), lookup.pairs(names, digits)).data[0, 0]
print("\nEach row is a question, each column a pair; @ is a weight of 0.9 or more.\n")
print(picture(weights, [f"{NAMES[i]}?" for i in everybody[0]],
              [f"{NAMES[i]}{d}" for i, d in zip(names[0], digits[0])]))

# %% [markdown]
"""
It looks at the right place, and the picture shows it: you can see *why* it answers what it answers, at
least in a model of one layer. Nobody told it where to look. The gradient did: weights that fell on the
right pair lowered the loss.

And who bit whom? The two sentences again, averaged **after** attention, with positions.
"""

# %% demo="who_bit_whom_now"
manual_seed(0)
attention = MultiHeadAttention(4, heads=1)
for sentence in ("dog bites man", "man bites dog"):
    x = places(table([[words.index(word) for word in sentence.split()]]))
    print(f"{sentence}:", np.round(attention(x).mean(axis=1).data[0], 4))

# %% [markdown]
"""
Two different vectors, if only just: positions begin small, and training makes of them what it needs. What a
token takes from another depends on both and on where they stand, so the average of the results is no longer
a sum of separate parts.

Next, a task where the place counts and not the name: read twelve digits, write them in reverse.
Self-attention, with learned positions added to the tokens. What will the map look like?
"""

# %% demo="in_reverse"
class Reverse(Module):
    """Tokens with positions, one attention, one linear layer."""

    def __init__(self, dim=32):
        self.tokens, self.places = Embedding(10, dim), LearnedPositions(12, dim)
        self.attention, self.out = MultiHeadAttention(dim, heads=1), Linear(dim, 10)

    def placed(self, digits):
        return self.places(self.tokens(digits))

    def forward(self, digits):
        return self.out(self.attention(self.placed(digits)))


def reversals(n, seed):
    digits = np.random.default_rng(seed).integers(0, 10, (n, 12))
    return (digits,), digits[:, ::-1]


manual_seed(0)
reverse = Reverse()
losses = learn(reverse, reversals, 300, lr=0.01)
(digits,), wanted = reversals(1, seed=10**6)
print("read    ", *digits[0])
print("written ", *reverse(digits).data[0].argmax(axis=1), "\n")
print(picture(reverse.attention.weights_of(reverse.placed(digits)).data[0, 0], range(12), digits[0]))

# %% [markdown]
"""
## Measure: the price of N²

Every token looks at every token. Before you run the cell, write down what happens when the number of tokens
N doubles: by which factor grow (a) the time of the four layers, (b) the time of weights and averages, (c)
the bytes that the tape keeps of the latter? The width is D = 64, in 4 heads.

And in arithmetic: the four layers cost `8 N D²` FLOPs, the two products `4 N² D`. At which N are they
equal? That is where attention would overtake the layers, if time were arithmetic.
"""

# %% demo="doubling"
def milliseconds(call, rounds=7):
    """The best of several rounds."""
    best = math.inf
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
    return best * 1e3


def kept_bytes(call):
    """Bytes that are still there while the result of `call` lives, and the peak on the way."""
    tracemalloc.start()
    result = call()
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    del result
    return kept, peak


manual_seed(0)
layer, rows = MultiHeadAttention(64, heads=4), []
for tokens in (64, 128, 256, 512, 1024):
    x = Tensor(np.random.default_rng(0).normal(size=(1, tokens, 64)))
    q, k, v = (Tensor(t.data, requires_grad=True) for t in layer.project(x, x))
    with no_grad():
        layers = milliseconds(lambda: layer.out(layer.merge(layer.project(x, x)[0])))
        products = milliseconds(lambda: scaled_dot_product_attention(q, k, v))
    kept, peak = kept_bytes(lambda: scaled_dot_product_attention(q, k, v))
    rows.append((tokens, layers, products, kept / 1e6, peak / 1e6))
print("   N   four layers        weights and averages   kept by the tape      2*H*N²*4 B   peak")
before = rows[0]
for row in rows:
    n, layers, products, kept, peak = row
    factors = [f"x{now / then:4.1f}" if row is not rows[0] else "     " for now, then in zip(row[1:4], before[1:4])]
    print(f"{n:4}   {layers:7.2f} ms {factors[0]}   {products:9.2f} ms {factors[1]}      {kept:8.2f} MB "
          f"{factors[2]}   {2 * 4 * n * n * 4 / 1e6:7.2f} MB {peak:7.2f} MB")
    before = row
overtaken = next((n for n, layers, products, *_ in rows if products > layers), "beyond 1024")
print(f"\nequal arithmetic at N = {8 * 64**2 // (4 * 64)}; on this clock attention is dearer from N = {overtaken} on")

# %% [markdown]
"""
Bytes follow the count: the tape keeps two N × N arrays per head, the scores (operand of the softmax) and
the weights (its result). (Which of the two does your rule read? The other is memory that a cleverer
operation would not keep.) Times come near the factors 2 and 4 as N grows. For short texts the cost of
calling NumPy from Python hides them; and where a factor stands well above 4, the arrays have outgrown the
processor's caches and every one of the several passes goes out to memory. The overtaking need not happen
where arithmetic says: softmax has few FLOPs and passes several times over N² numbers, which the FLOP count
does not see. Where does it lie on your machine, and on which side of 128?

For a real size: N = 4096 tokens and 32 heads, one text, one layer. Count the weights alone, in bytes, then
run.
"""

# %% demo="a_real_size"
tokens, heads, layers = 4096, 32, 32
one = heads * tokens * tokens * 4
print(f"weights of one layer: {one:,} bytes = {one / 2**30:.0f} GiB")
print(f"weights and scores of {layers} layers, as our tape keeps them: {2 * layers * one / 2**30:.0f} GiB")
print(f"queries, keys, values of one layer, 4096 wide: {3 * tokens * 4096 * 4 / 2**30:.2f} GiB")

# %% [markdown]
"""
## Break: the model that sees the future

A model of one layer shall write sentences like *the dog bites the man .*, three in a row. In each sentence
two nouns and a verb are chosen at random, each from four words: three choices of log 4 nats in six words,
about 0.69 nats per word. No honest model can be better. (It predicts the words from the second on, so it is
9 choices in 17 words here: 0.734.)

One of the two models below forgets the causal mask.
"""

# %% demo="no_causal_mask"
WORDS = "the . dog cat man bird bites sees likes hears".split()


def sentences(n, seed):
    """n texts of three sentences; the inputs are all words but the last, the targets the next words."""
    rng = np.random.default_rng(seed)
    text = np.zeros((n, 3, 6), dtype=int)
    text[:, :, [1, 4]], text[:, :, 2] = rng.integers(2, 6, (n, 3, 2)), rng.integers(6, 10, (n, 3))
    text[:, :, 5] = 1
    text = text.reshape(n, 18)
    return (text[:, :-1],), text[:, 1:]


class Writer(Module):
    """Words with positions, one attention, one linear layer: logits for the next word."""

    def __init__(self, causal, dim=32):
        self.causal = causal
        self.words, self.places = Embedding(10, dim), LearnedPositions(18, dim)
        self.attention, self.out = MultiHeadAttention(dim, heads=1), Linear(dim, 10)

    def forward(self, ids):
        x = self.places(self.words(ids))
        return self.out(self.attention(x, mask=causal_mask(x.shape[1]) if self.causal else None))


def write(model, text):
    ids = [WORDS.index(word) for word in text.split()]
    while len(ids) < 18:
        ids.append(int(model([ids]).data[0, -1].argmax()))
    return " ".join(WORDS[i] for i in ids)


for causal in (False, True):
    manual_seed(0)
    writer = Writer(causal)
    losses = learn(writer, sentences, 300, lr=0.01)
    print(f"{'with' if causal else 'without'} the mask: loss {np.mean(losses[-20:]):.3f}; "
          f"the best an honest model can do: {9 / 17 * math.log(4):.3f}")
    for beginning in ("the dog", "the bird likes"):
        print(f"   {beginning} ... ->  {write(writer, beginning)}")

# %% [markdown]
"""
Without the mask the next word, which is the answer, stands right there among the inputs, and attention
finds it. The loss falls below what is possible: that is the symptom, and nothing else warns you. When it
writes there is no next word to look at, and what comes out is rubbish. If a language model is too good to
be true, print its attention map: above the diagonal there must be nothing.

The other classic: True and False mixed up. Here is one text of 2 words and 3 paddings, with the mask right
and with the mask in the convention of `key_padding_mask`, where True means *ignore*.
"""

# %% demo="padding_attended_to"
manual_seed(0)
layer, x = MultiHeadAttention(8, heads=1), Tensor(np.random.default_rng(0).normal(size=(1, 5, 8)))
other = Tensor(np.where(np.arange(5)[:, None] < 2, x.data, 100.0))  # the padding holds something else
right = padding_mask([2], 5)
for name, mask in (("right", right), ("turned around", ~right)):
    print(name)
    print(picture(layer.weights_of(x, mask=mask).data[0, 0, :2], ["Hello", "."], ["Hello", ".", "pad", "pad", "pad"]))
    moved = np.abs(layer(x, mask=mask).data - layer(other, mask=mask).data)[0, :2].max()
    print(f"other padding moves the two words' results by {moved:.3f}\n")

# %% [markdown]
"""
No error and no nan. The test is cheap and finds it at once: put something else into the padding, and
nothing may change.

The third is the reshape without permute, in `split` and in `merge`. Both wrong together undo each other, so
a test that splits and merges passes. Here are digits in reverse again, with two heads, once your way and
once by reshape alone.
"""

# %% demo="reshape_alone"
class ReshapeAlone(MultiHeadAttention):
    """The right shapes, by reshape alone."""

    def split(self, x, heads):
        b, t, width = x.shape
        return x.reshape(b, heads, t, width // heads)

    def merge(self, x):
        b, h, t, d = x.shape
        return x.reshape(b, t, h * d)


for kind in (MultiHeadAttention, ReshapeAlone):
    manual_seed(0)
    model = Reverse()
    model.attention = kind(32, heads=2)
    x = Tensor(np.random.default_rng(0).normal(size=(2, 12, 32)))
    back = np.array_equal(model.attention.merge(model.attention.split(x, 2)).data, x.data)
    losses = learn(model, reversals, 200, lr=0.01)
    inputs, right = reversals(200, seed=10**6)
    print(f"{kind.__name__:18}  merge(split(x)) is x: {back}   loss {losses[-1]:.3f}   "
          f"right {accuracy(model(*inputs), right):.3f}")

# %% [markdown]
"""
One digit in ten is right: chance. Its first head consists of the first six tokens and its second of the
other six, and so nobody can look across. Compare one head of one token with numbers written by hand, as the
check of `split` does.

## Reflect

Predict with pencil and paper, write the number into the cell, and the check says whether it holds.

**1.** A causal mask for 1,024 tokens: how many of its entries are True?
"""

# %% exercise="predict.causal_pairs"
### BEGIN SOLUTION
causal_pairs = 1024 * 1025 // 2
### END SOLUTION

# %% check="predict.causal_pairs" points=1
check.prediction("pairs that a causal mask allows, 1,024 tokens", causal_pairs, "NTI0ODAw", rel=2e-4,
                 why="row t has t + 1 of them: 1 + 2 + … + 1024. Half the square, and a bit: the diagonal")

# %% [markdown]
"""
**2.** GPT-2 small is 768 wide and reads 1,024 tokens. Of the arithmetic of one attention layer, four linear
layers and two products (not counting what a causal mask could save), which share is the two products? A
number from 0 to 1.
"""

# %% exercise="predict.share_of_products"
### BEGIN SOLUTION
share_of_products = (4 * 1024**2 * 768) / (4 * 1024**2 * 768 + 8 * 1024 * 768**2)
### END SOLUTION

# %% check="predict.share_of_products" points=1
check.prediction("share of the two products", share_of_products, "MC40", rel=0.01,
                 why="4 N² D against 8 N D²: divide both by 4 N D and compare N with 2 D")

# %% [markdown]
"""
**3.** A model with 64 query heads of width 128 and `kv_heads=8` keeps the keys and values of 8,192 tokens
in float32, for one layer. How many megabytes (10⁶ bytes) is that?
"""

# %% exercise="predict.kv_megabytes"
### BEGIN SOLUTION
kv_megabytes = 2 * 8 * 128 * 8192 * 4 / 1e6
### END SOLUTION

# %% check="predict.kv_megabytes" points=1
check.prediction("megabytes of keys and values, 8 shared heads", kv_megabytes, "NjcuMTA4ODY0", unit="MB", rel=0.01,
                 why="keys and values: two arrays, each 8 heads of 128 numbers per token; the 64 do not matter")

# %% [markdown]
"""
**4.** Somebody hides scores by adding -1e9 to them, instead of setting them to -inf. In float32, with
ordinary scores of size 1 and S keys: what does a row get that may see **nothing**?

- a) zeros
- b) nan
- c) 1/S for every key
- d) the softmax of the scores, as if there were no mask
"""

# %% exercise="predict.minus_a_billion"
### BEGIN SOLUTION
minus_a_billion = "c"
### END SOLUTION

# %% check="predict.minus_a_billion" points=1
check.choice("a row of scores near 1, all lowered by 1e9 in float32", minus_a_billion, "Yw==", ["a", "b", "c", "d"],
             why="float32 has about 7 digits: what is left of 0.7 in 0.7 - 1,000,000,000?")

# %% [markdown] question="without_positions" points=4
"""
**Open question, graded by a person.** Take self-attention without positions and without a mask, and shuffle
the tokens of a text. (a) What happens to the results? Show it with a few lines of your own code, or argue
from the formula. (b) Now with a causal mask, still without positions: can the layer tell *dog bites man*
from *man bites dog*? What about a stack of such layers? (c) The task of the second Use demo, digits in
reverse: could a model without positions learn it, with and without a causal mask? Say what you would
expect, and why.

*Your answer:*
"""

# %% [markdown]
"""
## In production

PyTorch's `F.scaled_dot_product_attention` computes what yours does and agrees with it in values and
gradients; `is_causal=True` spares the mask, so that half the work can be left out. `nn.MultiheadAttention`
keeps its three layers as one matrix, returns a pair (result, weights), and its bool masks mean *ignore*.

**FlashAttention** (Dao et al. 2022) never writes the N × N array. It takes the keys in blocks that fit in
the chip's small fast memory, keeps a running maximum and a running sum per query, and corrects what it has
added so far when a larger score comes along; on the way back it computes the weights again instead of
remembering them. The arithmetic is still N², the memory is N. Large models are trained with it; it is a
good project after module 18.

Sharing keys and values goes from one head for all (multi-query attention, Shazeer 2019) to groups (Ainslie
et al. 2023): the 70-billion Llama 2 has 64 query heads and 8 of keys and values. A **sliding window** lets
a token look back at the last W tokens only (4,096 in the first Mistral), N * W instead of N²; in a stack of
layers, what is farther away arrives in several hops. The **key-value cache** (module 17) keeps the keys and
values of a text that is being written, so that each new token costs N and not N². What we are not building:
masks added as numbers (PyTorch takes float masks, for biases such as ALiBi), nested tensors without
padding, and kernels that skip masked blocks.

## When it fails

| symptom | cause | where to look |
|---|---|---|
| `not bool` | a mask of ones and zeros, or a Tensor, which holds floats | `causal_mask` and `padding_mask` are NumPy arrays of bool; combine them with `&` |
| `for scores` | a mask that does not broadcast to (..., queries, keys) | rows are queries, columns keys; padding is (B, 1, 1, S) |
| `queries (` | queries and keys of different width | both (..., tokens, width): were the keys transposed already? |
| `inner sizes` | keys not transposed, values transposed, heads not merged, or a text of another width | `query @ key.transpose(-2, -1)`, then `@ value`, `self.merge`, `self.out` |
| `could not be broadcast` | a row's maximum, sum or average lost its axis | `keepdims=True` |
| `invalid value encountered` | -inf minus -inf, or 0 / 0, in a row that sees nothing | subtract 0 where the maximum is -inf, divide by 1 where the sum is 0 |
| `overflow encountered` | e to the power of a large score | subtract the row's largest visible score first |
| `has no attribute 'data'` | an array or a list where a Tensor belongs | wrap an array: Tensor(...); a list of tensors goes to `stack` |
| `boolean index did not match` | x[~mask] with a mask that is smaller than x | `np.where(mask, x, -np.inf)` broadcasts, an index does not |
| `does not support ufuncs` | a NumPy function was called on a Tensor | its array is `.data`, inside an operation; elsewhere use Tensor's own methods |
| `backward says` | a rule that is not the slope | the average is weighted by out, per row, and subtracted from g |
| `(batch, tokens` | a text without batch axis, or of another width | `x.unsqueeze(0)`; is dim the embedding's width? |
| `positional argument` | a method called with too few or too many arguments | `split(x, heads)`, `project(x, context, start)`; all axes at once: `permute(0, 2, 1, 3)` |
| `NoneType` | a function gives None, or an option is None: mask, context, positions | is a `return` missing? `if self.positions is not None` |
| the loss falls below what is possible | the model sees the answer | is the causal mask there? print the map: nothing above the diagonal |
| the loss stays at chance, no error | reshape without permute in split and merge | the numbers of one head of one token, by hand |
| results change with the batch they stand in | padding is attended to | `padding_mask`, and True = may look |
"""
