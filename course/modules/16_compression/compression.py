# %% [markdown]
"""
# 16 · Compression

A trained network holds far more numbers than it needs. This module finds out which ones, removes them, and
writes what is left into a file a tenth of the size, with the accuracy measured beside every step.

```
you have built     networks that learn (01-09), transformers (10-13), int8 (15)
        |
        v
you build now      magnitude pruning with a schedule, masks that outlive the optimizer,
                   channels really removed, sparse files, low rank, distillation
        |
        v
this unlocks       20 the capstone: an earlier milestone, smaller and faster
```

Time: about 3.5 hours. Every exercise is a cell with a hole in it, and the cell below it checks your answer.
Run `tito watch` in a terminal beside this notebook.
"""

# %% given="imports"
#| default_exp optim.compression
#| export
import json
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from tinytorch.core.activations import LogSoftmax, log_softmax
from tinytorch.core.layers import Linear, Module, Sequential
from tinytorch.core.losses import CrossEntropyLoss
from tinytorch.core.tensor import Tensor
from tinytorch.nn.conv import BatchNorm2d, Conv2d

# %% given="types"
#| exporti
Array: TypeAlias = NDArray[Any]

# %% given="tools"
import math
import tempfile
import time

import tito.checks as check
from threadpoolctl import threadpool_limits
from tinytorch.core.activations import ReLU
from tinytorch.core.autograd import check_grads, no_grad
from tinytorch.core.layers import Dropout, Flatten
from tinytorch.core.optimizers import SGD, Adam
from tinytorch.core.tensor import manual_seed
from tinytorch.core.training import Trainer, accuracy
from tinytorch.nn.conv import GlobalAvgPool2d, MaxPool2d
from tito.data import load_tinydigits
from tito.notebook import method_of

threadpool_limits(1)  # matrix products on one core, so that times can be compared


def as_batch(images):
    """Digits (N, 8, 8) of 0 to 16 as a batch (N, 1, 8, 8) of float32 from 0 to 1."""
    return (images[:, None] / 16).astype(np.float32)


def mlp(*widths):
    """A network of Linear and ReLU on flattened pictures: mlp(64, 256, 10) has one hidden layer."""
    layers = [Flatten()]
    for inside, outside in zip(widths, widths[1:]):
        layers += [Linear(inside, outside), ReLU()]
    return Sequential(*layers[:-1])


def train(net, data, epochs, lr=0.003, scheduler=None):
    """Adam on `data` (x, y); returns the network."""
    optimizer = Adam(net.parameters(), lr=lr)
    Trainer(net, CrossEntropyLoss(), optimizer, scheduler=scheduler).fit(data, epochs)
    return net


def right(net, data):
    """Share of right answers on `data` (x, y), in eval mode."""
    return Trainer(net, CrossEntropyLoss(), SGD(net.parameters())).evaluate(data)["accuracy"]


def on_disk(net, bits=None):
    """Bytes of the network's file: dense float32 if bits is None, else from `save_sparse`."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.bin"
        if bits is None:
            path.write_bytes(safetensors.numpy.save(net.state_dict()))
        else:
            save_sparse(net, path, bits=bits)
        return path.stat().st_size


def count_flops(net, x):
    """FLOPs of a chain of layers for the batch x: two per weight and place, the others left out."""
    total = 0
    for layer in net:
        x = layer(x)
        if isinstance(layer, (Conv2d, Linear)):
            places = x.shape[0] * math.prod(x.shape[2:])
            total += 2 * places * layer.weight.size
    return total


def milliseconds(calls, rounds=15):
    """The best time of each of several calls, taking turns, so that all meet the same machine."""
    best = [math.inf] * len(calls)
    for _ in range(rounds):
        for i, call in enumerate(calls):
            start = time.perf_counter()
            call()
            best[i] = min(best[i], 1e3 * (time.perf_counter() - start))
    return best


def histogram(values, edges):
    """A bar of text per bin."""
    counts, _ = np.histogram(values, edges)
    for low, high, count in zip(edges, edges[1:], counts):
        print(f"{low:6.2f} to {high:5.2f}  {count:6,}  {'#' * round(60 * count / counts.max())}")


def text_front(points, width=64, height=14):
    """Points (mark, name, bytes, accuracy) as text: size to the right (logarithmic), accuracy upwards."""
    x = np.log([p[2] for p in points])
    y = np.array([p[3] for p in points])
    x = np.round((x - x.min()) / (x.max() - x.min()) * (width - 1)).astype(int)
    row = np.round((y.max() - y) / (y.max() - y.min()) * (height - 1)).astype(int)
    canvas = [[" "] * width for _ in range(height)]
    for (mark, *_), i, j in zip(points, row, x):
        canvas[i][j] = mark
    for i, line in enumerate(canvas):
        label = f"{y.max() - (y.max() - y.min()) * i / (height - 1):6.1%}" if i % 3 == 0 else ""
        print(f"{label:>7} |{''.join(line)}".rstrip())
    sizes = [p[2] for p in points]
    print(f"{'':7} +{'-' * width}")
    print(f"{'':8} {min(sizes) / 1e3:.1f} kB{'':{width - 18}}{max(sizes) / 1e3:7.1f} kB")


COLOURS = ("#444444", "#c8531a", "#1f6fb4", "#2a8a4a", "#8a3fb0", "#b08a00")


def svg_front(points, path):
    """The same points as a picture: an SVG file with axes, a legend and the front as a line."""
    names = list(dict.fromkeys(p[1] for p in points))
    low, high = math.log10(min(p[2] for p in points)) - 0.1, math.log10(max(p[2] for p in points)) + 0.1
    bottom = math.floor(min(p[3] for p in points) * 20) / 20

    def place(size, score):
        across = 70 + 520 * (math.log10(size) - low) / (high - low)
        return across, 350 - 310 * (score - bottom) / (1 - bottom)

    best, line = 0.0, []
    for _, _, size, score in sorted(points, key=lambda p: (p[2], -p[3])):
        if score > best:
            best = score
            line.append(place(size, score))
    parts = ['<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 420" font-family="sans-serif" font-size="12">',
             "<title>Accuracy against file size</title>", '<rect width="640" height="420" fill="white"/>']
    for i in range(6):
        score = bottom + (1 - bottom) * i / 5
        _, y = place(1, score)
        parts.append(f'<path d="M70 {y:.1f}H590" stroke="#ddd"/>')
        parts.append(f'<text x="62" y="{y + 4:.1f}" text-anchor="end">{score:.0%}</text>')
    for size in (1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5, 2e5):
        if low <= math.log10(size) <= high:
            x, _ = place(size, 1)
            parts.append(f'<path d="M{x:.1f} 40V350" stroke="#ddd"/>')
            parts.append(f'<text x="{x:.1f}" y="368" text-anchor="middle">{size / 1e3:g} kB</text>')
    way = " ".join(f"{x:.1f},{y:.1f}" for x, y in line)
    parts.append(f'<polyline points="{way}" fill="none" stroke="#999" stroke-dasharray="5 4"/>')
    for _, name, size, score in points:
        x, y = place(size, score)
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{COLOURS[names.index(name)]}"/>')
    for i, name in enumerate(names):
        y = 335 - 18 * (len(names) - 1 - i)
        parts.append(f'<circle cx="420" cy="{y - 4}" r="5" fill="{COLOURS[i]}"/><text x="432" y="{y}">{name}</text>')
    parts.append('<text x="330" y="395" text-anchor="middle">bytes on disk (logarithmic)</text>')
    parts.append('<text x="70" y="25">right answers on 1,000 test digits; dashed: nothing is smaller and better</text></svg>')
    Path(path).write_text("\n".join(parts), encoding="utf-8")

# %% [markdown]
"""
## Why: most of it is not needed

Here is a network with two hidden layers that reads digits. Look at its weights, then at what happens when
half of them are set to zero: the half nearest to zero, half of them at random, and the larger half.
"""

# %% demo="half_of_it"
digits = load_tinydigits()
learn = as_batch(digits.train_images), digits.train_labels
test = as_batch(digits.test_images), digits.test_labels
manual_seed(0)
big = train(mlp(64, 256, 128, 10), learn, 10)
weights = np.concatenate([p.data.ravel() for p in big.parameters() if p.ndim == 2])
print(f"{weights.size:,} weights, {on_disk(big) / 1e3:.0f} kB on disk")
histogram(weights, np.arange(-0.4, 0.45, 0.1))

middle = np.median(np.abs(weights))
coin = np.random.default_rng(0)
print(f"\nas trained                        {right(big, test):6.1%}")
for name, choose in [("smallest half set to zero", lambda w: np.abs(w) < middle),
                     ("half of them, at random", lambda w: coin.random(w.shape) < 0.5),
                     ("largest half", lambda w: np.abs(w) >= middle)]:
    net = deepcopy(big)
    for p in net.parameters():
        if p.ndim == 2:
            p.data[choose(p.data)] = 0
    print(f"{name:32}  {right(net, test):6.1%}   {on_disk(net) / 1e3:.0f} kB on disk")

# %% [markdown]
"""
Half of the weights can go, and the test does not notice, if it is the right half. But look at the last
column. Nothing has become smaller: a zero takes four bytes, like any other number, and you will measure
below that it takes as long to multiply by. So there are three questions, and this module answers them one
after the other:

- **which** weights can go, and how does the network get used to it?
- how does a file with holes become **smaller**?
- what must be removed so that the arithmetic becomes **less**?

## Foundations: six numbers

Six weights, of which three shall go. The size without the sign, the **magnitude**, decides:

```
weights     0.5  -0.1   0.3  -0.8   0.05  0.4
magnitude   0.5   0.1   0.3   0.8   0.05  0.4
rank        4     1     2     5     0     3        0 = smallest
mask        T     .     .     T     .     T        the three smallest go
pruned      0.5   0     0    -0.8   0     0.4
```

The share of zeros is the **sparsity**: 0.5 here. Why magnitude? A weight moves the result by weight × input.
With inputs of one size, the smallest weight moves it least. It is a rule of thumb and it is hard to beat.

To store the pruned row, write down what is left, and before each how many zeros were skipped:

```
0.5  0  0  -0.8  0  0.4    ->   gaps  0 2 1     values  0.5 -0.8 0.4
```

A gap fits one byte, a value takes four: 15 bytes instead of 24. And here is the other way, with a small
layer of 3 units: remove a whole unit, which is a row of its weights **and** the column of the next layer
that listened to it.

```
W1 (3, 2)        W2 (2, 3)                W1 (2, 2)      W2 (2, 2)
[ 1   2]         [5   1  6]               [1  2]         [5  6]
[ .1  0]   <-    [7   2  8]        ->     [3  4]         [7  8]
[ 3   4]             ^
unit 1 goes:     so its column goes too: smaller arrays, less arithmetic, no zeros at all
```

## Build

### Which weights go

`magnitude_mask` says which weights of one array stay. The number that go is `round(sparsity * count)`, as
PyTorch has it.

Many write it with a threshold: sort the magnitudes, look up the k-th, keep what is larger. Try that on
`[1 -1 1 -1]` with sparsity 0.5. The threshold is 1, nothing is larger, and *all* weights go. Ties are not
rare: int8 weights have 256 values, and pruned weights are all 0. So go by **rank**: put the places in order
of magnitude and mark the first k. Of equals, let the earlier place go first: `kind="stable"` in
`np.argsort` promises that.
"""

# %% exercise="magnitude_mask"
#| export
def magnitude_mask(weights: Array, sparsity: float) -> Array:
    """Which weights stay: bool, False at the round(sparsity * size) of smallest magnitude.

    weights: any shape, only read; the mask has the same. Of equals the earlier place goes first.
    Raises ValueError unless 0 <= sparsity <= 1. Cost: one sort.
    Source: torch.nn.utils.prune.l1_unstructured.

    >>> magnitude_mask(np.array([0.5, -0.1, 0.3, -0.8]), 0.5).tolist()
    [True, False, False, True]
    """
    if not 0 <= sparsity <= 1:
        raise ValueError(f"sparsity {sparsity} is a share of zeros: 0 to 1, as 0.9 for 90 percent.")
    ### BEGIN SOLUTION
    order = np.argsort(np.abs(weights), axis=None, kind="stable")
    mask = np.ones(weights.size, dtype=bool)
    mask[order[: round(sparsity * weights.size)]] = False
    return mask.reshape(weights.shape)
    ### END SOLUTION

# %% check="magnitude_mask" points=4
_w = np.array([0.5, -0.1, 0.3, -0.8, 0.05, 0.4])
_mask = magnitude_mask(_w, 0.5)
check.equal("type of the mask", (type(_mask).__name__, str(getattr(_mask, "dtype", ""))), ("ndarray", "bool"),
            why="True for a weight that stays, False for one that goes")
check.close("the six weights of Foundations, sparsity 0.5", np.asarray(_mask, float), [1, 0, 0, 1, 0, 1],
            why="-0.8 is the largest: the sign does not count")
check.close("a (2, 3) array", np.asarray(magnitude_mask(_w.reshape(2, 3), 0.5), float), [[1, 0, 0], [1, 0, 1]],
            why="the mask has the shape of the weights")
check.close("[1, -1, 1, -1], sparsity 0.5", np.asarray(magnitude_mask(np.array([1.0, -1, 1, -1]), 0.5), float),
            [0, 0, 1, 1], why="exactly two go, also if all are equal: the earlier ones")
check.equal("how many go, of 10 weights at 0, 0.26, 0.9 and 1",
            [int((~np.asarray(magnitude_mask(np.arange(10.0), _s), bool)).sum()) for _s in (0.0, 0.26, 0.9, 1.0)],
            [0, 3, 9, 10], why="round(sparsity * size): 2.6 becomes 3")
check.close("the weights afterwards", _w, [0.5, -0.1, 0.3, -0.8, 0.05, 0.4], why="they are only read here")
check.raises("sparsity 90", ValueError, lambda: magnitude_mask(_w, 90), why="a share, not percent",
             mention=["90"])

# %% [markdown]
"""
### One measure for all layers, or one each

With several layers there are two ways. **Layer**: each loses the same share. **Global**: all weights stand
in one line, and the smallest go, wherever they are. Two layers of four, sparsity 0.5:

```
              first            second
weights       .9 .8 .7 .1      .4 .3 .2 .05
layer         T  T  .  .       T  T  .  .       two of each
global        T  T  T  .       T  .  .  .       .05 .1 .2 .3 are the four smallest
```

Global lets a layer that needs its weights keep them. It can also empty one whose weights are all small, and
then nothing gets through.

So: join all arrays into one flat line, take *its* mask, and cut that into pieces again. `np.split` cuts at
given places, and `np.cumsum` of the sizes gives those (without the last, which is the end).
"""

# %% exercise="magnitude_masks"
#| export
def magnitude_masks(
    weights: Mapping[str, Array], sparsity: float, scope: str = "global"
) -> dict[str, Array]:
    """A mask for each named array, by `magnitude_mask`.

    scope: "layer", each array loses the share `sparsity`; "global", all arrays together do.
    Raises ValueError for another scope. Source: torch.nn.utils.prune.global_unstructured.

    >>> pair = {"a": np.array([9.0, 8.0]), "b": np.array([1.0, 2.0])}
    >>> {name: mask.tolist() for name, mask in magnitude_masks(pair, 0.5).items()}
    {'a': [True, True], 'b': [False, False]}
    """
    if scope not in ("global", "layer"):
        raise ValueError(f'scope {scope!r} is unknown: use "global" or "layer".')
    ### BEGIN SOLUTION
    if scope == "layer":
        return {name: magnitude_mask(array, sparsity) for name, array in weights.items()}
    line = np.concatenate([array.ravel() for array in weights.values()])
    ends = np.cumsum([array.size for array in weights.values()])
    pieces = np.split(magnitude_mask(line, sparsity), ends[:-1])
    return {name: part.reshape(weights[name].shape) for name, part in zip(weights, pieces)}
    ### END SOLUTION

# %% check="magnitude_masks" points=4
def _shown(masks):
    return {_n: np.asarray(_m).astype(int).tolist() for _n, _m in masks.items()}


_two = {"first": np.array([[0.9, -0.8], [0.7, 0.1]]), "second": np.array([-0.4, 0.3, 0.2, 0.05])}
check.equal('scope="layer", sparsity 0.5', _shown(magnitude_masks(_two, 0.5, "layer")),
            {"first": [[1, 1], [0, 0]], "second": [1, 1, 0, 0]}, why="two of four in each, in the array's own shape")
check.equal('scope="global", sparsity 0.5', _shown(magnitude_masks(_two, 0.5, "global")),
            {"first": [[1, 1], [1, 0]], "second": [1, 0, 0, 0]},
            why="0.05, 0.1, 0.2 and 0.3 are the four smallest of all eight")
check.equal("the default", _shown(magnitude_masks(_two, 0.5)), _shown(magnitude_masks(_two, 0.5, "global")),
            why="global is the default")
_three = {"z": np.array([1.0, 6.0, 7.0]), "a": np.array([[2.0], [8.0]]), "m": np.array([3.0])}
check.equal("three arrays of sizes 3, 2 and 1, global, sparsity 0.5", _shown(magnitude_masks(_three, 0.5)),
            {"z": [0, 1, 1], "a": [[0], [1]], "m": [0]},
            why="1, 2 and 3 go; each piece is as long as its array, in the order of the dict")
check.raises('scope="all"', ValueError, lambda: magnitude_masks(_two, 0.5, "all"), mention=["all", "global"])

# %% [markdown]
"""
### Masks that outlive the optimizer

Setting weights to zero once is not enough. Training goes on, and every step of the optimizer moves every
weight, the zeros as well. Even a gradient of 0 does not save them. With momentum the velocity remembers the
steps *before* pruning. Velocity 2, momentum 0.9, learning rate 0.1, a weight just set to 0, gradient 0:

```
velocity   0.9 * 2 + 0 = 1.8        weight   0 - 0.1 * 1.8 = -0.18       alive again
```

Adam's averages do the same. So the rule is: **after every step of the optimizer, set them to zero again.**
`Pruning` holds the weights and their masks by name; `apply` is that rule. Change the arrays **in place**:
the layers, the optimizer and tied weights all hold the same ones.

Only weights are pruned, parameters of two or more axes. Biases and norms are few, and each of them matters.
"""

# %% given="prunable"
#| exporti
def prunable(model: Module, skip: Iterable[str] = ()) -> dict[str, Tensor]:
    """The parameters of two or more axes by name, without those in `skip` or below a name in it.

    Raises ValueError for a name in `skip` that is none.
    """
    found = {name: p for name, p in model.named_parameters() if p.ndim >= 2}
    left = dict(found)
    for prefix in skip:
        hit = [name for name in found if name == prefix or name.startswith(f"{prefix}.")]
        if not hit:
            raise ValueError(f"skip {prefix!r}: no weight has that name. There are {list(found)}.")
        for name in hit:
            left.pop(name, None)
    if not left:
        raise ValueError("there is no weight to prune: a parameter of two or more axes.")
    return left

# %% exercise="Pruning.apply"
#| export
class Pruning:
    """The weights of a model and the masks that keep some of them at zero.

    weights: name -> Parameter; masks: name -> bool array, False where the weight is pruned.
    `update` chooses the masks anew, `apply` sets zeros, after each step of an optimizer.
    Cost: one byte per weight.
    """

    def __init__(self, model: Module, scope: str = "global", skip: Iterable[str] = ()) -> None:
        self.weights = prunable(model, skip)
        self.scope = scope
        self.masks = {name: np.ones(w.shape, dtype=bool) for name, w in self.weights.items()}

    @property
    def sparsity(self) -> float:
        """The share of weights that the masks keep at zero."""
        kept = sum(int(mask.sum()) for mask in self.masks.values())
        return 1 - kept / sum(mask.size for mask in self.masks.values())

    def update(self, sparsity: float) -> None:
        """Choose the masks by the weights as they are now, and apply them."""
        arrays = {name: weight.data for name, weight in self.weights.items()}
        self.masks = magnitude_masks(arrays, sparsity, self.scope)
        self.apply()

    def apply(self) -> None:
        """Set every weight whose mask is False to 0, in place. Call it after each optimizer step."""
        ### BEGIN SOLUTION
        for name, mask in self.masks.items():
            self.weights[name].data[~mask] = 0
        ### END SOLUTION

# %% check="Pruning.apply" points=4
_net = Sequential(Linear(2, 2), Linear(2, 2))
for _i, _layer in enumerate(_net):
    _layer.weight.data[...], _layer.bias.data[...] = np.array([[1.0, -2.0], [3.0, 4.0]]) + _i, 5.0
_made, _arrays = Pruning(_net), [_layer.weight.data for _layer in _net]
_made.masks = {"0.weight": np.array([[False, True], [True, False]]), "1.weight": np.array([[True, True], [False, True]])}
_made.apply()
check.close("first layer, diagonal pruned", _net[0].weight, [[0, -2], [3, 0]], why="0 where the mask is False")
check.close("second layer", _net[1].weight, [[2, -1], [0, 5]], why="every layer has its own mask")
check.close("biases", _net[0].bias, [5, 5], why="no mask, so not touched")
check.equal("the arrays are the same objects", [_layer.weight.data is _a for _layer, _a in zip(_net, _arrays)],
            [True, True], why="in place: whoever holds the array must see the zeros")
_w, _velocity = _net[0].weight, SGD([_net[0].weight], lr=0.1, momentum=0.9)
_w.data[...], _w.grad = 1.0, np.full((2, 2), 2.0, np.float32)
_velocity.step()
_made.apply()
_w.grad = np.zeros((2, 2), np.float32)
_velocity.step()
check.true("momentum has revived them", bool((_w.data != 0).all()), why="0 - 0.1 * 0.9 * 2 = -0.18, with a gradient of 0")
_made.apply()
check.close("after apply", _w, [[0, 0.62], [0.62, 0]], why="1 - 0.2 - 0.18 = 0.62 for those that stay, 0 for the others",
            rtol=1e-4)
_w.grad = np.full((2, 2), 3.0, np.float32)
_w.data[0, 0] = np.inf
with np.errstate(invalid="ignore"):
    _made.apply()
check.close("a pruned weight that was infinite", _w.data[0, 0], 0, why="0 times infinity is nan: set it, do not multiply")
check.close("the gradient", _w.grad, np.full((2, 2), 3.0), why="apply has nothing to do with gradients")
check.close("the first mask", np.asarray(_made.masks["0.weight"], float), [[0, 1], [1, 0]], why="apply obeys masks, it does not choose")

# %% [markdown]
"""
`prune` is the one-line form. It prunes at once and hands you the `Pruning` to call `apply` on.
"""

# %% given="prune"
#| export
def prune(
    model: Module, sparsity: float = 0.9, scope: str = "global", skip: Iterable[str] = ()
) -> Pruning:
    """Set the share `sparsity` of the model's weights to 0, those of smallest magnitude.

    scope: "global" or "layer", see `magnitude_masks`; skip: names of weights or layers to leave out.
    Call `.apply()` of the result after each optimizer step, or let `GradualPruning` do it.
    Source: Han et al. 2015.

    >>> net = Sequential(Linear(4, 5), Linear(5, 2))
    >>> prune(net, 0.5).sparsity
    0.5
    """
    pruning = Pruning(model, scope, skip)
    pruning.update(sparsity)
    return pruning

# %% demo="at_once_and_tuned"
class Guard:
    """What a Trainer calls after each step of its optimizer, here to apply the masks."""

    def __init__(self, pruning):
        self.step = pruning.apply


print("sparsity   at once   per layer   fine-tuned 4 epochs (global)")
for sparsity in (0.5, 0.8, 0.9, 0.95, 0.98):
    scores = []
    for scope in ("global", "layer"):
        net = deepcopy(big)
        prune(net, sparsity, scope)
        scores.append(right(net, test))
    net = deepcopy(big)
    train(net, learn, 4, lr=0.002, scheduler=Guard(prune(net, sparsity)))
    print(f"{sparsity:8.0%}   {scores[0]:7.1%}   {scores[1]:9.1%}   {right(net, test):11.1%}")

# %% [markdown]
"""
Cut at once, the network falls apart somewhere beyond 80 %. Trained on with the zeros fixed, it recovers
much: the weights that are left take over. But in the last rows too much went at a time, and what is left of
the network is a bad place to start from.

### A schedule

So prune **gradually**: some now, train, some more. Zhu and Gupta let the sparsity rise along a cubic curve,
fast at first, when there is plenty to choose from, and ever slower towards the end:

```
                                        step - start
sparsity = target (1 - (1 - p)³)    p = ------------    kept between 0 and 1
                                        end - start

target 0.8, from step 0 to 4     step 0   1       2     3       4     9
                                      0   0.4625  0.7   0.7875  0.8   0.8
```

At step 1: 1 - (3/4)³ = 37/64, times 0.8. Before `start` it is 0, after `end` it stays at the target.
"""

# %% exercise="sparsity_schedule"
#| export
def sparsity_schedule(step: int, start: int, end: int, target: float) -> float:
    """The sparsity at `step`: 0 up to `start`, then a cubic curve that reaches `target` at `end`.

    Raises ValueError unless start < end. Source: Zhu & Gupta 2017, equation 1.

    >>> [round(sparsity_schedule(step, 0, 4, 0.8), 4) for step in range(5)]
    [0.0, 0.4625, 0.7, 0.7875, 0.8]
    """
    if not start < end:
        raise ValueError(f"sparsity_schedule: start {start} must be less than end {end}.")
    ### BEGIN SOLUTION
    progress = min(max((step - start) / (end - start), 0.0), 1.0)
    return target * (1 - (1 - progress) ** 3)
    ### END SOLUTION

# %% check="sparsity_schedule" points=3
check.close("steps 0 to 4 of 0 to 4, target 0.8", [sparsity_schedule(_s, 0, 4, 0.8) for _s in range(5)],
            [0, 0.4625, 0.7, 0.7875, 0.8], why="0.8 (1 - (1 - p)³) with p = 0, 1/4, 1/2, 3/4, 1")
check.close("steps 0, 10, 15, 20 of 10 to 20, target 0.5", [sparsity_schedule(_s, 10, 20, 0.5) for _s in (0, 10, 15, 20)],
            [0, 0, 0.4375, 0.5], why="nothing before start; halfway 1 - 1/8 of the target")
check.close("long after the end", sparsity_schedule(1000, 10, 20, 0.5), 0.5, why="it stays at the target")

# %% [markdown]
"""
Now put it into the training loop. Module 07's `Trainer` calls `scheduler.step()` after every step of the
optimizer, which is just the place where masks must be applied. So `GradualPruning` has a `step`:

1. count this step: the first call is step 1;
2. if the masks are **due**, `self.pruning.update(...)` with the schedule's sparsity: between `start` and `end`
   (both included) every `every` steps, counted from `start`, and at `end` itself in any case;
3. `self.pruning.apply()`, at each step, due or not, also long after the end.

```
start 3, end 8, every 2       step     1  2  3  4  5  6  7  8  9
                              update         u     u     u  u
                              apply    a  a  a  a  a  a  a  a  a
```

Why not choose anew at every step? It sorts all weights, and the network needs a few steps to get used to
its loss.
"""

# %% exercise="GradualPruning.step"
#| export
class GradualPruning:
    """Raises a model's sparsity along `sparsity_schedule` while it trains, and keeps its zeros.

    A scheduler for `Trainer`: its `step()` follows every optimizer step.
    start, end: optimizer steps; target: sparsity at the end; every: steps between two choices.
    """

    def __init__(
        self, pruning: Pruning, start: int, end: int, target: float, every: int = 20
    ) -> None:
        if not 0 <= start < end or every < 1:
            raise ValueError(
                f"GradualPruning: start {start}, end {end}, every {every}: "
                "0 <= start < end and every >= 1 are needed, all in optimizer steps."
            )
        self.pruning, self.start, self.end = pruning, start, end
        self.target, self.every, self.steps = target, every, 0

    def step(self) -> None:
        """Count an optimizer step; choose the masks anew if that is due; apply them."""
        ### BEGIN SOLUTION
        self.steps += 1
        on_beat = (self.steps - self.start) % self.every == 0 or self.steps == self.end
        if self.start <= self.steps <= self.end and on_beat:
            goal = sparsity_schedule(self.steps, self.start, self.end, self.target)
            self.pruning.update(goal)
        self.pruning.apply()
        ### END SOLUTION

    def state_dict(self) -> dict[str, Any]:
        """How many steps have been made, and the masks."""
        return {"steps": self.steps, "masks": dict(self.pruning.masks)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where the schedule that gave `state` stood."""
        self.steps = state["steps"]
        self.pruning.masks = {name: np.array(mask) for name, mask in state["masks"].items()}

# %% check="GradualPruning.step" points=4
class _Log:
    """Stands in for a Pruning and writes down what is called at which step."""

    def __init__(self):
        self.now, self.updates, self.applied = 0, [], []

    def update(self, sparsity):
        self.updates.append((self.now, round(float(sparsity), 4)))

    def apply(self):
        self.applied.append(self.now)


def _logged(start, end, every, steps):
    log = _Log()
    schedule = GradualPruning(log, start, end, 0.8, every)
    for step in range(1, steps + 1):
        log.now = step
        schedule.step()
    return log, schedule


_log, _schedule = _logged(3, 8, 2, 11)
check.equal("masks chosen anew, start 3, end 8, every 2", [_s for _s, _ in _log.updates], [3, 5, 7, 8],
            why="every second step from 3 on, and at 8, the end")
check.equal("with these sparsities", [_v for _, _v in _log.updates],
            [round(0.8 * (1 - (1 - _p / 5) ** 3), 4) for _p in (0, 2, 4, 5)], why="the schedule at that step, target 0.8")
check.equal("masks applied at steps", sorted(set(_log.applied)), list(range(1, 12)),
            why="after every optimizer step, or momentum revives the zeros in between and after the end")
check.equal("steps counted", _schedule.steps, 11, why="one per call")
check.equal("start 0, end 6, every 3: chosen at", [_s for _s, _ in _logged(0, 6, 3, 8)[0].updates], [3, 6],
            why="the first call is step 1; the end is chosen once")
manual_seed(0)
_net = Sequential(Linear(8, 8), ReLU(), Linear(8, 3))
_x = np.random.default_rng(0).normal(size=(40, 8)).astype(np.float32)
_opt, _made = SGD(_net.parameters(), lr=0.05, momentum=0.9), Pruning(_net)
Trainer(_net, CrossEntropyLoss(), _opt, batch_size=8, scheduler=GradualPruning(_made, 1, 8, 0.75, 2)).fit((_x, np.arange(40) % 3), 3)
_zeros = sum(int((_w.data == 0).sum()) for _w in _made.weights.values())
check.equal("zeros among 88 weights after 15 steps of a Trainer, target 0.75", _zeros, 66, why="0.75 * 88, and none has come back")

# %% [markdown]
"""
### Channels: which ones

Zeros scattered over a matrix make it no faster. What does is a smaller matrix, so now whole **channels** go:
a filter of a convolution, or a unit of a linear layer. In both, output channel i is `weight[i]`, whatever
axes follow. Its strength is the sum of its magnitudes:

```
weight (4, 3)        strength           keep 0.5: two of four
[ 1  -1   0]         2
[ .5  .2  0]         0.7
[-2   0   1]         3          <-      channels 2 and 3
[ 1   1   1]         3          <-
```

`strongest_channels` gives the numbers of those that stay, **in ascending order**: channels keep their order,
so that everything that counts on it can be cut by the same numbers. Keep `round(keep * count)` of them, but
never less than one: a layer without channels lets nothing through. Of equals, the earlier one stays.
"""

# %% exercise="strongest_channels"
#| export
def strongest_channels(weight: Array, keep: float) -> Array:
    """Numbers of the output channels with the largest sums of magnitudes, ascending.

    weight: (out, ...), one channel per row. keep: share of channels that stay, at least one does.
    Raises ValueError unless 0 < keep <= 1. Source: Li et al. 2017, section 3.1.

    >>> strongest_channels(np.array([[1.0, -1.0], [0.5, 0.2], [-2.0, 0.0]]), 2 / 3).tolist()
    [0, 2]
    """
    if not 0 < keep <= 1:
        raise ValueError(f"keep {keep} is the share of channels that stay: above 0, at most 1.")
    ### BEGIN SOLUTION
    strength = np.abs(weight).sum(axis=tuple(range(1, weight.ndim)))
    count = max(1, round(keep * len(strength)))
    return np.sort(np.argsort(-strength, kind="stable")[:count])
    ### END SOLUTION

# %% check="strongest_channels" points=4
_w = np.array([[1.0, -1.0, 0.0], [0.5, 0.2, 0.0], [-2.0, 0.0, 1.0], [1.0, 1.0, 1.0]])
check.close("the four channels of the table, keep 0.5", strongest_channels(_w, 0.5), [2, 3],
            why="strengths 2, 0.7, 3, 3; signs do not count")
check.close("keep 0.75", strongest_channels(_w, 0.75), [0, 2, 3], why="in ascending order, not in order of strength")
check.close("keep 0.25", strongest_channels(_w, 0.25), [2], why="2 and 3 are equally strong: the earlier stays")
check.close("keep 0.01", strongest_channels(_w, 0.01), [2], why="one always stays")
check.equal("keep 1", np.asarray(strongest_channels(_w, 1.0)).tolist(), [0, 1, 2, 3], why="whole numbers, all of them")
_f = np.zeros((3, 2, 2, 2))
_f[0], _f[1, 0, 0, 0], _f[2, 0, 1], _f[2, 1] = 0.5, 3.0, -0.6, -0.6
check.close("three filters (2, 2, 2), keep 2/3", strongest_channels(_f, 2 / 3), [0, 2],
            why="sums over the other three axes: 8 * 0.5 = 4, 3, and 6 * 0.6 = 3.6. One large weight does not make a filter strong")
check.raises("keep 0", ValueError, lambda: strongest_channels(_w, 0.0), mention=["keep"])

# %% [markdown]
"""
### Channels: out of the layer

Now cut. A channel that goes takes everything with it that is kept per channel: its row of `weight`, its
`bias`, and in a `BatchNorm2d` weight, bias, running mean and running variance. A layer may not have all of
these (a `Linear(..., bias=False)` has `bias` None, a convolution has no running mean).

`taken` is given: it makes a tensor of the same kind (a Parameter stays one) from some rows of axis 0, or
columns of axis 1. `resized` sets the layer's sizes by its new weight. They work **in place** on the layer;
you will hand them layers of a copy.
"""

# %% given="taken"
#| exporti
PER_CHANNEL = ("weight", "bias", "running_mean", "running_var")


def taken(tensor: Tensor, kept: Array, axis: int) -> Tensor:
    """A tensor of the same kind that has only the numbers `kept` along `axis`, in the same layout."""
    part = np.take(tensor.data, kept, axis=axis)
    order = np.asfortranarray if tensor.data.flags.f_contiguous else np.ascontiguousarray
    return type(tensor)(order(part), requires_grad=tensor.requires_grad)


def resized(layer: Any) -> None:
    """Set the sizes that the layer states to those of its weight."""
    if isinstance(layer, Conv2d):
        layer.out_channels, layer.in_channels = layer.weight.shape[:2]
    elif isinstance(layer, Linear):
        layer.out_features, layer.in_features = layer.weight.shape
    else:
        layer.num_features = len(layer.weight)

# %% [markdown]
"""
The next cell serves the checks.
"""

# %% given="filled"
def _filled(layer):
    """A layer whose tensors hold 0, 1, 2 …, so that one sees where a number went."""
    for _, tensor in layer.named_tensors():
        tensor.data[...] = np.arange(tensor.size).reshape(tensor.shape)
    return layer

# %% exercise="keep_outputs"
#| exporti
def keep_outputs(layer: Any, kept: Array) -> None:
    """Leave only the output channels `kept` in a Conv2d, Linear or BatchNorm2d, in place.

    Every tensor of PER_CHANNEL that the layer has loses its other rows.
    """
    ### BEGIN SOLUTION
    for name in PER_CHANNEL:
        tensor = getattr(layer, name, None)
        if tensor is not None:
            setattr(layer, name, taken(tensor, kept, axis=0))
    ### END SOLUTION
    resized(layer)

# %% check="keep_outputs" points=4
_kept, _conv = np.array([0, 2]), _filled(Conv2d(2, 3, 1))
keep_outputs(_conv, _kept)
check.close("weight of Conv2d(2, 3, 1), channels 0 and 2", np.asarray(_conv.weight.data).reshape(-1, 2), [[0, 1], [4, 5]],
            why="output channel i is row i of the weight")
check.close("its bias", _conv.bias, [0, 2], why="one bias per output channel")
check.equal("what its parameters are", [type(_p).__name__ for _p in _conv.parameters()], ["Parameter"] * 2,
            why="a plain Tensor would not be found by an optimizer")
check.equal("its sizes", (_conv.in_channels, _conv.out_channels), (2, 2), why="the given line sets them by the weight")
_norm = _filled(BatchNorm2d(3))
keep_outputs(_norm, _kept)
check.equal("the four tensors of BatchNorm2d(3)", {_n: _t.tolist() for _n, _t in _norm.named_tensors()},
            {_n: [0.0, 2.0] for _n in ("weight", "bias", "running_mean", "running_var")},
            why="statistics belong to a channel as well")
_linear = _filled(Linear(2, 3, bias=False))
keep_outputs(_linear, _kept)
check.close("Linear(2, 3, bias=False)", _linear.weight, [[0, 1], [4, 5]], why="its bias is None, and stays None")
check.equal("its bias", _linear.bias, None)

# %% [markdown]
"""
### Channels: out of the next layer

The next layer with weights has an input for each channel. For a convolution, input channel c is
`weight[:, c]`, axis 1. For a linear layer behind another one, input c is column c of its weight, also axis 1.

The trap is the boundary in between. `Flatten` turns `(N, C, H, W)` into `(N, C*H*W)`, row by row, channel by
channel. So to the linear layer behind it, one channel is not one column but H*W of them, side by side. Three
channels of 2 by 2 pixels, of which 0 and 2 stay:

```
channel     0  0  0  0   1  1  1  1   2  2  2   2
column      0  1  2  3   4  5  6  7   8  9  10  11

kept [0 2]  ->  columns  0 1 2 3  8 9 10 11
```

And you need not know H and W: the layer has 12 columns for 3 channels, so each has 12 / 3 = 4. Where nothing
is flattened that quotient is 1, so one rule serves all three cases. Broadcasting `kept[:, None] * 4` against
`np.arange(4)` gives the table of columns.
"""

# %% exercise="keep_inputs"
#| exporti
def keep_inputs(layer: Any, kept: Array, channels: int) -> None:
    """Leave only those inputs of a Conv2d or Linear that the channels `kept` feed, in place.

    channels: how many there were. Behind a Flatten each feeds several inputs, side by side.
    Raises ValueError if the inputs are not the same number for each channel.
    """
    inputs = layer.weight.shape[1]
    if inputs % channels:
        raise ValueError(
            f"prune_channels: {inputs} inputs of {layer} cannot come from {channels} channels. "
            "Does the layer before it mix channels?"
        )
    ### BEGIN SOLUTION
    size = inputs // channels
    columns = (kept[:, None] * size + np.arange(size)).ravel()
    layer.weight = taken(layer.weight, columns, axis=1)
    ### END SOLUTION
    resized(layer)

# %% check="keep_inputs" points=6
_linear, _kept = _filled(Linear(12, 1)), np.array([0, 2])
keep_inputs(_linear, _kept, 3)
check.close("columns left of 12, from 3 channels of 4 pixels, 0 and 2 kept", _linear.weight,
            [[0, 1, 2, 3, 8, 9, 10, 11]], why="the four columns of a channel stand side by side")
check.equal("its sizes", (_linear.in_features, _linear.out_features), (8, 1), why="the given line sets them by the weight")
check.close("its bias", _linear.bias, [0], why="outputs are not touched")
_linear = _filled(Linear(3, 2))
keep_inputs(_linear, np.array([1]), 3)
check.close("Linear(3, 2) behind 3 units, unit 1 kept", _linear.weight, [[1], [4]], why="one column per unit, of each row")
_conv = _filled(Conv2d(3, 2, 2))
keep_inputs(_conv, _kept, 3)
check.close("Conv2d(3, 2, 2), input channels 0 and 2", _conv.weight, np.arange(24.0).reshape(2, 3, 2, 2)[:, [0, 2]],
            why="axis 1 of (out, in, KH, KW); every filter loses the same layer of weights")
check.equal("the weight is a", type(_conv.weight).__name__, "Parameter", why="it goes on learning")
_linear = _filled(Linear(6, 1))
keep_inputs(_linear, np.array([1]), 2)
check.close("6 columns from 2 channels of 3 pixels, channel 1 kept", _linear.weight, [[3, 4, 5]],
            why="6 / 2 = 3 columns for each of the two that there were, not for each that stays")

# %% [markdown]
"""
### Channels: through the network

Now walk through the layers in the order of the calls, and remember two things about the stream: which
channels are `kept`, and how many `channels` there were before the cut. For each layer:

- **Conv2d or Linear**: first remove the inputs that no longer come (if a layer has been cut before); then
  find its strongest output channels, by the weights that are left; remember how many there are; cut.
- **BatchNorm2d**: it works channel by channel, so it loses the same ones as the layer before it.
- **everything else** (pooling, ReLU, Dropout, Flatten): has no numbers, nothing to do.

The last layer's outputs are the classes, and all stay. That is given, as are the walk and the copy:
`chain(small)` yields pairs (name, layer) and refuses what it does not understand, `shares(small, keep)` gives
the share to keep for each layer with weights by name, 1.0 for the last.
"""

# %% given="chain"
#| exporti
def chain(layer: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """(name, layer) of all layers in a Sequential, also nested, in the order of the calls.

    A module of your own is walked as well if its attribute `chain` names its parts in that order.
    Raises TypeError for another layer with numbers that is no Conv2d, Linear or BatchNorm2d.
    """
    parts = range(len(layer)) if isinstance(layer, Sequential) else getattr(layer, "chain", None)
    if parts is not None:
        for part in parts:
            inner = getattr(layer, str(part))
            if inner is not None:
                yield from chain(inner, f"{name}.{part}" if name else str(part))
        return
    known = isinstance(layer, (Conv2d, Linear, BatchNorm2d))
    if not known and isinstance(layer, Module) and any(layer.named_tensors()):
        raise TypeError(
            f"prune_channels: layer {name!r} is a {type(layer).__name__}, and how its channels hang "
            "together is not known. Known: a Sequential of Conv2d, Linear, BatchNorm2d, and layers "
            "without numbers; a chain of your own names its parts, chain = ('conv', 'norm')."
        )
    yield name, layer


def shares(model: Module, keep: float | Mapping[str, float]) -> dict[str, float]:
    """The share of channels to keep, for every Conv2d and Linear by name; 1.0 for the last one.

    Raises ValueError for a name in `keep` that is no such layer, or the last one.
    """
    names = [name for name, layer in chain(model) if isinstance(layer, (Conv2d, Linear))]
    if not isinstance(keep, Mapping):
        return {**dict.fromkeys(names, float(keep)), names[-1]: 1.0}
    wrong = [name for name in keep if name not in names[:-1]]
    if wrong:
        raise ValueError(
            f"prune_channels: cannot cut {wrong}; layers with channels to cut are {names[:-1]}. "
            "The last layer's outputs are the classes."
        )
    return {name: float(keep.get(name, 1.0)) for name in names}

# %% exercise="prune_channels"
#| export
def prune_channels(model: Module, keep: float | Mapping[str, float]) -> Module:
    """A smaller copy of a Sequential with only the strongest channels, and smaller next layers.

    keep: share of the channels (units of a Linear) that stay, in every layer but the last; or a dict
    from layer name to share, layers that are not in it stay whole. `model` is not changed.
    Raises TypeError for layers it does not know, ValueError for names that do not exist.
    Source: Li et al. 2017.

    >>> prune_channels(Sequential(Linear(4, 6), Linear(6, 2)), 0.5)[1].weight.shape
    (2, 3)
    """
    small = deepcopy(model)
    share = shares(small, keep)
    kept: Array | None = None  # the channels that arrive here, of `channels` before the cut
    channels = 0
    for name, layer in chain(small):
        ### BEGIN SOLUTION
        if isinstance(layer, (Conv2d, Linear)):
            if kept is not None:
                keep_inputs(layer, kept, channels)
            kept = strongest_channels(layer.weight.data, share[name])
            channels = len(layer.weight)
            keep_outputs(layer, kept)
        elif isinstance(layer, BatchNorm2d) and kept is not None:
            keep_outputs(layer, kept)
        ### END SOLUTION
    return small

# %% check="prune_channels" points=6
def _picture_net(seed=0):
    """Conv, norm, pool, conv, flatten, two linear layers: all numbers random, in eval mode."""
    rng = np.random.default_rng(seed)
    net = Sequential(Conv2d(1, 4, 3, padding=1), BatchNorm2d(4), MaxPool2d(2), ReLU(),
                     Sequential(Conv2d(4, 3, 3), BatchNorm2d(3), ReLU()), Flatten(), Linear(12, 5), ReLU(), Linear(5, 3))
    for _, t in net.named_tensors():
        t.data[...] = rng.uniform(0.5, 1.5, t.shape) * rng.choice([-1, 1], t.shape)
    for norm in (net[1], net[4][1]):
        norm.running_var.data[...] = np.abs(norm.running_var.data)
    return net.eval()


def _silence(layers, gone):
    """Set the channels `gone` of these layers to 0 instead of removing them."""
    for layer in layers:
        for name in ("weight", "bias"):
            getattr(layer, name).data[gone] = 0


_two = Sequential(Linear(2, 2), Linear(2, 2), Linear(2, 1))
_two[0].weight.data[...] = [[1, 1], [0, 0]]
_two[1].weight.data[...] = [[1, 9], [2, 0]]
check.close("the second of three layers, [[1 9] [2 0]], keep 0.5 everywhere", prune_channels(_two, 0.5)[1].weight, [[2]],
            why="unit 1 of the first layer went, and with it the 9: of what is left, the second row is stronger")
_net = _picture_net()
_net[0].weight.data[1], _net[4][0].weight.data[0], _net[6].weight.data[[0, 3]] = 1e-2, 1e-3, 1e-2
_before, _x = _net.state_dict(), Tensor(np.random.default_rng(1).normal(size=(6, 1, 8, 8)))
_small = prune_channels(_net, {"0": 0.75, "4.0": 2 / 3, "6": 0.6})
check.equal("shapes of the weights with keep 0: 0.75, 4.0: 2/3, 6: 0.6",
            [_p.shape for _p in _small.parameters() if _p.ndim > 1],
            [(3, 1, 3, 3), (2, 3, 3, 3), (3, 8), (3, 3)],
            why="3 of 4, 2 of 3 and 3 of 5 channels stay, and the next layer has inputs for those alone: 2 channels of 4 pixels are 8")
_silence([_net[0], _net[1]], [1])
_silence([_net[4][0], _net[4][1]], [0])
_silence([_net[6]], [0, 3])
check.tensor("its results for 6 pictures", _small(_x), _net(_x), rtol=1e-4, atol=1e-4,
             why="the same as those of the large network whose weakest channels are silenced: a channel of zeros adds nothing")
_net.load_state_dict(_before)
_half = prune_channels(_net, 0.5)
check.equal("shapes with keep=0.5", [_p.shape for _p in _half.parameters()],
            [(2, 1, 3, 3), (2,), (2,), (2,), (2, 2, 3, 3), (2,), (2,), (2,), (2, 8), (2,), (3, 2), (3,)],
            why="half of 4, 3 and 5 channels (rounded to even: 2, 2, 2), all 3 classes")
check.equal("the model itself afterwards", all(np.array_equal(_a, _b) for _a, _b in zip(_before.values(), _net.state_dict().values())),
            True, why="prune_channels works on a copy")
_pooled = Sequential(BatchNorm2d(2), Conv2d(2, 4, 3), ReLU(), GlobalAvgPool2d(), Dropout(0.5), Linear(4, 3))
check.equal("shapes of a network that begins with a norm, keep=0.5",
            [_p.shape for _p in prune_channels(_pooled, 0.5).parameters()],
            [(2,), (2,), (2, 2, 3, 3), (2,), (3, 2), (3,)], why="before the first cut nothing is removed")

# %% [markdown]
"""
### A file without the zeros

Back to scattered zeros: now they shall leave the file. From Foundations: before each value, the number of
zeros skipped.

```
array    0.5  0  0  -0.8  0  0.4        gaps  0 2 1     values  0.5 -0.8 0.4
```

Zeros behind the last value need no entry, the shape tells how long the array is. Gaps are small numbers, so
one byte is enough, most of the time: it ends at 255. A longer way is split by a **filler**, an entry with the
largest gap and the value 0. With a largest gap of 3, to have small numbers:

```
array    0 0 0 0 0 9       five zeros, then 9
place    0 1 2 3 4 5
                 filler: skips 3 zeros (places 0 1 2) and is itself the zero at place 3
gaps     3 1
values   0 9               the 9 skips the one zero at place 4

seven zeros, then 9:       gaps 3 3     values 0 9      a filler covers 4 places, 3 zeros are left
eight zeros, then 9:       gaps 3 3 0   values 0 0 9
```

Walk over `np.flatnonzero(flat)`, the places of what is not zero. For each: how many zeros since the last
entry; as long as they are more than `largest`, append a filler and take off the places it covers.
"""

# %% given="Sparse"
#| export
@dataclass(frozen=True, eq=False)
class Sparse:
    """An array as gaps and values: entry i skips gaps[i] zeros and then stands for values[i].

    gaps None: nothing is skipped, all values are there. What is stored as value v means v * scale.
    """

    shape: tuple[int, ...]
    gaps: Array | None
    values: Array
    scale: float = 1.0

    @property
    def nbytes(self) -> int:
        """Bytes of gaps and values."""
        return self.values.nbytes + (0 if self.gaps is None else self.gaps.nbytes)

# %% exercise="to_sparse"
#| export
def to_sparse(array: Array, largest: int = 255) -> Sparse:
    """The array as gaps (uint8 up to 255, else uint16) and values of its own dtype.

    largest: largest gap; a longer one is split by fillers, entries with that gap and value 0.
    Cost: 1 byte per value for the gap. Source: Han et al. 2016, section 2.

    >>> sparse = to_sparse(np.array([0.5, 0.0, 0.0, -0.8, 0.0, 0.4]))
    >>> sparse.gaps.tolist(), sparse.values.tolist()
    ([0, 2, 1], [0.5, -0.8, 0.4])
    """
    flat = np.ravel(array)
    gaps: list[int] = []
    values: list[Any] = []
    ### BEGIN SOLUTION
    last = -1
    for place in np.flatnonzero(flat).tolist():
        skipped = place - last - 1
        while skipped > largest:
            gaps.append(largest)
            values.append(0)
            skipped -= largest + 1
        gaps.append(skipped)
        values.append(flat[place])
        last = place
    ### END SOLUTION
    narrow = np.min_scalar_type(largest)
    return Sparse(np.shape(array), np.array(gaps, narrow), np.array(values, flat.dtype))

# %% check="to_sparse" points=5
def _entries(array, largest=255):
    sparse = to_sparse(np.array(array, np.float32), largest)
    return sparse.gaps.tolist(), sparse.values.tolist()


check.equal("gaps and values of [0 5 0 0 0 7 1]", _entries([0, 5, 0, 0, 0, 7, 1]), ([1, 3, 0], [5.0, 7.0, 1.0]),
            why="one zero before 5, three before 7, none before 1")
check.equal("of a (2, 3) array [[4 0 0] [0 0 6]]", _entries([[4, 0, 0], [0, 0, 6]]), ([0, 4], [4.0, 6.0]),
            why="row after row; the gap runs over the end of a row")
check.equal("zeros at the end: [0 2 0 0]", _entries([0, 2, 0, 0]), ([1], [2.0]), why="the shape tells the length")
check.equal("nothing but zeros", _entries([0, 0, 0]), ([], []), why="no entry at all")
check.equal("2, then ten zeros, largest gap 3", _entries([2] + [0] * 10, 3), ([0], [2.0]), why="fillers only on the way to a value")
for _n, _wanted in [(3, ([3], [9.0])), (4, ([3, 0], [0.0, 9.0])), (5, ([3, 1], [0.0, 9.0])),
                    (7, ([3, 3], [0.0, 9.0])), (8, ([3, 3, 0], [0.0, 0.0, 9.0]))]:
    check.equal(f"{_n} zeros, then 9, largest gap 3", _entries([0] * _n + [9], 3), _wanted,
                why="a filler skips 3 zeros and is itself the next: it covers 4")
check.equal("[0 0 0 0 0 7 0 0 0 0 0 8], largest gap 3", _entries([0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 8], 3),
            ([3, 1, 3, 1], [0.0, 7.0, 0.0, 8.0]), why="counted from the last entry on")
_s = to_sparse(np.array([[0, 1.5]], np.float32))
check.equal("shape and types", (_s.shape, str(_s.gaps.dtype), str(_s.values.dtype)), ((1, 2), "uint8", "float32"),
            why="the given lines make arrays of your lists")

# %% [markdown]
"""
Back again: at which places do the entries stand? Each is gap + 1 places behind the one before, so the places
are running sums:

```
gaps          0  2  1
gap + 1       1  3  2
running sum   1  4  6
less 1        0  3  5        the places of 0.5, -0.8 and 0.4
```

One trap: gaps are `uint8`, and 255 + 1 is 0 there, without any warning. Make them `np.int64` first. The
values go to their places, times `scale`; all other places are 0; the result is float32 in the right shape.
"""

# %% exercise="Sparse.dense"
#| export
@method_of(Sparse)
def dense(self) -> Array:
    """The whole array again, float32. Cost: one pass over the entries, one array of zeros."""
    if self.gaps is None:
        return (self.values * np.float32(self.scale)).astype(np.float32).reshape(self.shape)
    ### BEGIN SOLUTION
    flat = np.zeros(int(np.prod(self.shape)), dtype=np.float32)
    places = np.cumsum(self.gaps.astype(np.int64) + 1) - 1
    flat[places] = self.values * np.float32(self.scale)
    return flat.reshape(self.shape)
    ### END SOLUTION

# %% check="Sparse.dense" points=4
def _sparse(shape, gaps, values, scale=1.0, kind=np.float32):
    return Sparse(shape, np.array(gaps, np.uint8), np.array(values, kind), scale)


check.close("gaps 0 2 1, values 0.5 -0.8 0.4, shape (6,)", _sparse((6,), [0, 2, 1], [0.5, -0.8, 0.4]).dense(),
            [0.5, 0, 0, -0.8, 0, 0.4], why="places 0, 3 and 5: running sums of gap + 1, less 1")
check.close("gaps 1 1, values 1 2, shape (2, 3)", _sparse((2, 3), [1, 1], [1, 2]).dense(), [[0, 1, 0], [2, 0, 0]],
            why="places 1 and 3 of six; what follows is 0")
_far = _sparse((1, 300), [255, 3], [0, 7]).dense()
check.equal("the filler 255, then gap 3, in 300 places: 7 stands at", np.flatnonzero(_far).tolist(), [259],
            why="256 + 4 - 1. In uint8, 255 + 1 is 0")
check.close("int8 values 127 and -10, scale 0.5", _sparse((3,), [0, 1], [127, -10], 0.5, np.int8).dense(), [63.5, 0, -5],
            why="the value times the scale")
check.close("no entries, shape (2, 2)", _sparse((2, 2), [], []).dense(), np.zeros((2, 2)), why="all zeros")
check.equal("type", str(_far.dtype), "float32", why="what a Tensor holds")
_rng = np.random.default_rng(0)
_w = (_rng.normal(size=(40, 50)) * (_rng.random((40, 50)) < 0.01)).astype(np.float32)
check.true("2,000 numbers with 1 % not zero, there and back", np.array_equal(to_sparse(_w).dense(), _w),
           why="exactly the same bits")

# %% [markdown]
"""
The file is given: bytes in the order of module 07's checkpoints, safetensors and never pickle. For each
tensor it writes whichever is smaller, gaps and values or everything. With `bits=8` the weights are rounded
to int8 with one scale for each array, as in module 15 (biases and norms stay as they are). A checksum finds
bytes that have changed on the way.
"""

# %% given="save_sparse"
#| export
_VERSION = 1


def to_int8(sparse: Sparse) -> Sparse:
    """Values rounded to 255 steps between plus and minus the largest magnitude."""
    scale = float(np.abs(sparse.values).max(initial=0)) / 127 or 1.0
    return Sparse(sparse.shape, sparse.gaps, np.round(sparse.values / scale).astype(np.int8), scale)


def _smallest(array: Array, bits: int) -> Sparse:
    """Gaps and values, or all values: whichever takes fewer bytes."""
    forms = [Sparse(array.shape, None, array.ravel()), to_sparse(array)]
    if bits == 8 and array.ndim >= 2:
        forms = [to_int8(form) for form in forms]
    return min(forms, key=lambda form: form.nbytes)


def _unique(model: Module) -> dict[str, Tensor]:
    """The tensors of a model by name, tied ones once, under their first name."""
    first: dict[int, str] = {}
    for name, tensor in model.named_tensors():
        first.setdefault(id(tensor), name)
    return {name: t for name, t in model.named_tensors() if first[id(t)] == name}


def _checksum(arrays: Mapping[str, Array]) -> int:
    """CRC-32 over names, types and bytes."""
    total = 0
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        total = zlib.crc32(array.tobytes(), zlib.crc32(f"{name} {array.dtype}".encode(), total))
    return total


def save_sparse(model: Module, path: str | Path, bits: int = 32) -> int:
    """Write the model's tensors without their zeros; returns the bytes of the file.

    bits: 32, exact; or 8, weights of two or more axes as int8 with a scale.
    The file is complete, or the old one untouched. Raises ValueError for other bits.
    """
    if bits not in (8, 32):
        raise ValueError(f"save_sparse: bits {bits} must be 32 (exact) or 8 (int8 and a scale).")
    arrays: dict[str, Array] = {}
    table: dict[str, Any] = {}
    for name, tensor in _unique(model).items():
        sparse = _smallest(tensor.data, bits)
        table[name] = [list(sparse.shape), sparse.scale]
        arrays[f"{name}:values"] = np.ascontiguousarray(sparse.values)
        if sparse.gaps is not None:
            arrays[f"{name}:gaps"] = sparse.gaps
    about = {"version": _VERSION, "tensors": table, "checksum": _checksum(arrays)}
    raw = safetensors.numpy.save(arrays, {"sparse": json.dumps(about, separators=(",", ":"))})
    partial = Path(f"{path}.partial")
    partial.write_bytes(raw)
    os.replace(partial, path)
    return len(raw)


def _read(path: str | Path) -> dict[str, Sparse]:
    """The arrays of a file by `save_sparse`. Raises ValueError naming the file if it is damaged."""
    try:
        with safetensors.safe_open(os.fspath(path), framework="numpy") as file:
            about = json.loads((file.metadata() or {})["sparse"])
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if about["version"] != _VERSION or about["checksum"] != _checksum(arrays):
            raise ValueError("its checksum or version differs")
        return {
            name: Sparse(tuple(shape), arrays.get(f"{name}:gaps"), arrays[f"{name}:values"], scale)
            for name, (shape, scale) in about["tensors"].items()
        }
    except (safetensors.SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path}: not a whole file of save_sparse ({error}). Was it cut off, or made otherwise?"
        ) from None


def load_sparse(model: Module, path: str | Path) -> None:
    """Fill a model of the same names and shapes from a file by `save_sparse`.

    Raises ValueError naming the file if it is damaged, or naming what does not fit; then the model
    has not been changed.
    """
    found, own = _read(path), _unique(model)
    wrong = sorted(set(found) ^ set(own))
    wrong += [name for name in set(found) & set(own) if found[name].shape != own[name].shape]
    if wrong:
        raise ValueError(
            f"{path}: {wrong[:5]} do not fit the model, by name or by shape. "
            "Build the model that was saved, with the channels that were left."
        )
    arrays = {name: sparse.dense() for name, sparse in found.items()}
    for name, tensor in own.items():
        tensor.data[...] = arrays[name]

# %% [markdown]
"""
### Low rank

A third way to need fewer numbers. Look at this matrix:

```
[2 4]     [2]
[1 2]  =  [1] @ [1 2]         second row = half of the first
```

Four numbers, and two pairs say it all: **rank 1**. A layer of (out, in) weights of rank r is two layers, from
`in` to r numbers and from those to `out`: r (in + out) weights instead of in × out. Trained weights have full
rank, but often they are near to a matrix of lower rank. The singular value decomposition finds the nearest:

```
W = U S V      U (out, n), S n numbers, largest first, V (n, in), n = the smaller of out and in
W ≈ U[:, :r] S[:r] V[:r]      the nearest matrix of rank r (Eckart and Young 1936)
```

`np.linalg.svd(w, full_matrices=False)` gives U, S and V as you need them (V has its rows already). Give √S to
each of the two layers, then both have weights of similar size and train well. The first has no bias; the
second has a copy of the layer's, or none if it had none.
"""

# %% exercise="low_rank"
#| export
def low_rank(layer: Linear, rank: int) -> Sequential:
    """Two Linear layers, in -> rank -> out, whose product is the nearest to `layer` of that rank.

    Raises TypeError if it is no Linear, ValueError unless 1 <= rank <= the smaller of its sizes.
    Cost: one singular value decomposition; afterwards 2*rank*(in + out) FLOPs per row.
    Source: Eckart & Young 1936.

    >>> [part.weight.shape for part in low_rank(Linear(6, 4), 2)]
    [(2, 6), (4, 2)]
    """
    if not isinstance(layer, Linear):
        raise TypeError(f"low_rank: {type(layer).__name__} is no Linear layer.")
    most = min(layer.weight.shape)
    if not 1 <= rank <= most:
        raise ValueError(
            f"low_rank: rank {rank} of a layer {layer.weight.shape}: it must be 1 to {most}."
        )
    first = Linear(layer.in_features, rank, bias=False)
    second = Linear(rank, layer.out_features, bias=layer.bias is not None)
    ### BEGIN SOLUTION
    u, s, v = np.linalg.svd(layer.weight.data, full_matrices=False)
    root = np.sqrt(s[:rank])
    first.weight.data[...] = root[:, None] * v[:rank]
    second.weight.data[...] = u[:, :rank] * root
    second.bias = deepcopy(layer.bias)
    ### END SOLUTION
    return Sequential(first, second)

# %% check="low_rank" points=5
manual_seed(0)
_layer = Linear(2, 2)
_layer.weight.data[...], _layer.bias.data[...] = [[2, 4], [1, 2]], [10, 20]
_pair = low_rank(_layer, 1)
check.close("product of the two weights, [[2 4] [1 2]] at rank 1", _pair[1].weight.data @ _pair[0].weight.data,
            [[2, 4], [1, 2]], why="the matrix has rank 1: nothing is lost", rtol=1e-4)
check.equal("what the two layers can learn", [type(_p).__name__ for _p in _pair.parameters()], ["Parameter"] * 3,
            why="write the numbers into first.weight.data: a plain Tensor in its place would not be found by an optimizer")
check.close("of [1, 1]", _pair(Tensor([[1.0, 1.0]])), [[16, 23]], why="6 + 10 and 3 + 20: the bias comes once, at the end", rtol=1e-4)
_pair[1].bias.data[...] = 0
check.close("the layer's own bias, when that of the copy has changed", _layer.bias, [10, 20],
            why="a copy: or training the small network would change the large one")
check.close("sizes of the two parts, |first|² and |second|²", [float((_p.weight.data**2).sum()) for _p in _pair], [5, 5],
            why="the one singular value is 5; each part gets its root", rtol=1e-4)
_layer = Linear(2, 3, bias=False)
_layer.weight.data[...] = [[3, 0], [0, 1], [0, 0]]
_pair = low_rank(_layer, 1)
check.close("[[3 0] [0 1] [0 0]] at rank 1", _pair[1].weight.data @ _pair[0].weight.data, [[3, 0], [0, 0], [0, 0]],
            why="the larger singular value stays", atol=1e-5)
check.equal("biases without one", [_p.bias for _p in _pair], [None, None])
_w = np.random.default_rng(0).normal(size=(5, 4))
_layer = Linear(4, 5)
_layer.weight.data[...] = _w
_values = np.linalg.svd(_w, compute_uv=False)
for _r in (2, 4):
    _pair = low_rank(_layer, _r)
    check.close(f"what is lost of a random (5, 4) at rank {_r}: sum of squares",
                float(((_pair[1].weight.data @ _pair[0].weight.data - _w) ** 2).sum()), float((_values[_r:] ** 2).sum()),
                why="the squares of the singular values left out: no matrix of this rank is nearer", rtol=1e-3, atol=1e-5)

# %% [markdown]
"""
Which rank? The squares of the singular values add up to the sum of all squared weights, the *energy* of the
matrix. For singular values 4, 2, 2 and 1:

```
squares          16    4    4    1        together 25
running sum      16   20   24   25
share of all   0.64 0.80 0.96 1.00        90 percent of the energy: rank 3
```
"""

# %% exercise="rank_for"
#| export
def rank_for(weight: Array, energy: float) -> int:
    """The smallest rank whose nearest matrix keeps the share `energy` of the sum of squares.

    weight: (out, in). Raises ValueError unless 0 < energy < 1.

    >>> rank_for(np.diag([4.0, 2.0, 2.0, 1.0]), 0.9)
    3
    """
    if not 0 < energy < 1:
        raise ValueError(f"rank_for: energy {energy} is a share between 0 and 1, as 0.9.")
    ### BEGIN SOLUTION
    squares = np.linalg.svd(weight, compute_uv=False) ** 2
    share = np.cumsum(squares) / squares.sum()
    return int(np.searchsorted(share, energy)) + 1
    ### END SOLUTION

# %% check="rank_for" points=3
_w = np.diag([2.0, 1.0, 4.0, 2.0])
check.equal("singular values 4 2 2 1: energy 0.5, 0.7, 0.9, 0.97", [rank_for(_w, _e) for _e in (0.5, 0.7, 0.9, 0.97)],
            [1, 2, 3, 4], why="shares 0.64, 0.80, 0.96 and 1: the first that reaches it")
check.equal("energy 0.63 and 0.65", [rank_for(_w, _e) for _e in (0.63, 0.65)], [1, 2],
            why="0.64 is enough for the one and not for the other")
check.equal("of [[2 4] [1 2]], energy 0.99", rank_for(np.array([[2.0, 4.0], [1.0, 2.0]]), 0.99), 1, why="it has rank 1")
check.equal("type", type(rank_for(_w, 0.5)).__name__, "int", why="a plain number: ranks are sizes of layers")

# %% [markdown]
"""
### Distillation: soft answers

The last way does not cut at all. It trains a small network, the **student**, on what a large one, the
**teacher**, says. Why should that be better than the labels? A label says *3*. The teacher says: mostly 3, a
little 8, a little 5, certainly not 1. That is knowledge about how the classes are alike, in every picture.

But a well-trained teacher is so sure that one number is near 1 and the others near 0. A **temperature** T
softens that: softmax of logits / T. Here for logits [log 16, log 4, 0]:

```
T = 1     powers 16 4 1      16/21  4/21  1/21   =  0.762 0.190 0.048
T = 2     powers  4 2 1       4/7   2/7   1/7    =  0.571 0.286 0.143
```

(log 16 / 2 = log 4.) `log_softmax(x)` of module 02 takes an array and is stable: e to the power of it is the
softmax.
"""

# %% exercise="soften"
#| export
def soften(logits: Array, temperature: float) -> Array:
    """Softmax of logits / temperature along the last axis: array (..., C) -> (..., C).

    Raises ValueError unless temperature > 0. Source: Hinton et al. 2015, equation 1.

    >>> soften(np.log([16.0, 4.0, 1.0]), 2.0).round(3).tolist()
    [0.571, 0.286, 0.143]
    """
    if not temperature > 0:
        raise ValueError(f"temperature {temperature} must be above 0; 1 changes nothing.")
    ### BEGIN SOLUTION
    return np.asarray(np.exp(log_softmax(logits / temperature)))
    ### END SOLUTION

# %% check="soften" points=2
_l = np.log([[16.0, 4.0, 1.0], [1.0, 16.0, 4.0]])
check.equal("what comes back", type(soften(_l, 1.0)).__name__, "ndarray", why="the teacher's side is arrays: it does not learn")
check.close("T = 1", soften(_l, 1.0), [[16 / 21, 4 / 21, 1 / 21], [1 / 21, 16 / 21, 4 / 21]], why="the plain softmax")
check.close("T = 2", soften(_l, 2.0), [[4 / 7, 2 / 7, 1 / 7], [1 / 7, 4 / 7, 2 / 7]], why="roots of the powers: softer")
check.close("logits 2000, 0 with T = 2", soften(np.array([2000.0, 0.0]), 2.0), [1, 0], why="stable, as in module 02")

# %% [markdown]
"""
### Distillation: the loss

How far is the student's soft answer q from the teacher's p? The Kullback-Leibler divergence, summed over the
classes, says it: `sum of p (log p - log q)`. It is 0 if both agree, and never negative. With T = 2, a
teacher with p = [4/7 2/7 1/7] and a student who has no idea, q = [1/3 1/3 1/3]:

```
4/7 log(12/7) + 2/7 log(6/7) + 1/7 log(3/7)  =  0.3080 - 0.0440 - 0.1210  =  0.1429
```

The loss is a mixture of that and the cross-entropy with the true classes, both averaged over the rows:

```
alpha * T² * KL(p, q)   +   (1 - alpha) * cross-entropy(logits, classes)
```

Why T²? Divided by T, logits move the soft answers 1/T as much, and the differences of soft answers are again
about 1/T as large. So the gradient shrinks by T², and the factor takes that back, whatever T you try.

The student's part must be made of Tensor operations: `LogSoftmax()` is one that knows its gradient. The
teacher's part are arrays, because it shall not learn. Use `log_softmax` for log p (the logarithm of a p that
became 0 would be -inf). With alpha = 1 there need not be classes at all: the teacher answers for pictures
that nobody has labelled.
"""

# %% exercise="DistillationLoss.forward"
#| export
class DistillationLoss(Module):
    """alpha * T² * KL(teacher, student), both softened by T, + (1 - alpha) * cross-entropy.

    temperature: T, above 0; alpha: share of the teacher's part, 0 to 1.
    Raises ValueError for other numbers. Source: Hinton et al. 2015, section 2.

    >>> loss = DistillationLoss(temperature=2.0, alpha=1.0)
    >>> round(loss(Tensor([[0.0, 0.0, 0.0]]), np.log([[16.0, 4.0, 1.0]])).item(), 4)
    0.5716
    """

    def __init__(self, temperature: float = 4.0, alpha: float = 0.9) -> None:
        if not temperature > 0 or not 0 <= alpha <= 1:
            raise ValueError(
                f"DistillationLoss: temperature {temperature} must be above 0, alpha {alpha} 0 to 1."
            )
        self.temperature, self.alpha = temperature, alpha

    def forward(
        self, logits: Tensor, teacher: Tensor | Array, classes: Tensor | Array | None = None
    ) -> Tensor:
        """The loss of the student's `logits` (N, C), given the teacher's (N, C) and classes (N,).

        classes may be None if alpha is 1. Raises ValueError if they are missing or shapes differ.
        """
        said = np.asarray(teacher.data if isinstance(teacher, Tensor) else teacher)
        if said.shape != logits.shape:
            raise ValueError(f"student's logits {logits.shape}, teacher's {said.shape}: no match.")
        if classes is None and self.alpha < 1:
            raise ValueError(f"alpha {self.alpha}: classes are needed for the part 1 - alpha.")
        ### BEGIN SOLUTION
        log_p = log_softmax(said / self.temperature)
        log_q = LogSoftmax()(logits / self.temperature)
        apart = (Tensor(np.exp(log_p)) * (Tensor(log_p) - log_q)).sum(axis=1).mean()
        loss: Tensor = apart * (self.alpha * self.temperature**2)
        if classes is not None:
            loss = loss + CrossEntropyLoss()(logits, classes) * (1 - self.alpha)
        return loss
        ### END SOLUTION

# %% check="DistillationLoss.forward" points=5
_said = np.log(np.array([[16.0, 4.0, 1.0]]))
_no_idea = Tensor([[0.0, 0.0, 0.0]])
_kl = 4 / 7 * np.log(12 / 7) + 2 / 7 * np.log(6 / 7) + 1 / 7 * np.log(3 / 7)
check.tensor("a student with no idea, T = 2, alpha = 1", DistillationLoss(2.0, 1.0)(_no_idea, _said), 4 * _kl,
             why="T² = 4 times 0.1429, the sum in the text", rtol=1e-4)
check.close("a student who says the same", DistillationLoss(2.0, 1.0)(Tensor(_said), _said).data, 0.0, atol=1e-5,
            why="no distance from the teacher: not even the entropy of its answer is left")
check.close("alpha = 0, class 1", DistillationLoss(2.0, 0.0)(Tensor(_said), _said, [1]).data, np.log(21 / 4),
            why="the plain cross-entropy, not softened: -log(4/21)", rtol=1e-4)
check.close("alpha = 0.25, class 0, no idea", DistillationLoss(2.0, 0.25)(_no_idea, _said, [0]).data,
            0.25 * 4 * _kl + 0.75 * np.log(3), why="a quarter of the one and three quarters of the other", rtol=1e-4)
check.close("two rows, one of which agrees", DistillationLoss(2.0, 1.0)(Tensor(np.vstack([_said, 0 * _said])), np.vstack([_said] * 2)).data,
            4 * _kl / 2, why="the mean over rows of the sum over classes", rtol=1e-4)
check.close("a teacher who is sure, logits 3000, 0, 0", DistillationLoss(2.0, 1.0)(_no_idea, np.array([[3000.0, 0, 0]])).data,
            4 * np.log(3), why="p = [1 0 0], and 0 times the logarithm of 0 counts as 0", rtol=1e-4)
_rng = np.random.default_rng(2)
_student, _said = Tensor(_rng.normal(size=(3, 4)), requires_grad=True), _rng.normal(size=(3, 4)) * 2
_loss = DistillationLoss(3.0, 1.0)(_student, Tensor(_said))
_loss.backward()
check.close("gradient for the student, T = 3, alpha = 1", _student.grad, 3 * (soften(_student.data, 3.0) - soften(_said, 3.0)) / 3,
            why="T² / T times (q - p), divided by 3 rows: made of Tensor operations, it comes by itself", rtol=1e-3, atol=1e-5)
check.grads("check_grads, T = 3, alpha = 0.5", check_grads, lambda _z: DistillationLoss(3.0, 0.5)(_z, _said, [0, 3, 1]),
            Tensor(_rng.normal(size=(3, 4))))

# %% [markdown]
"""
## Use: ten times smaller

All together, on the network of the first part: its sparsity rises for 300 steps while it goes on learning,
then it settles; the file is written without zeros, read back into a **fresh** network, and that one is
tested. What does a file ten times smaller cost?
"""

# %% demo="ten_times_smaller"
def stored(net, bits, fresh):
    """Save, load into `fresh`: (bytes of the file, share of right answers of what was loaded)."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.bin"
        size = save_sparse(net, path, bits)
        load_sparse(fresh, path)
    return size, right(fresh, test)


full, score = on_disk(big), right(big, test)
points = [("D", "dense float32", full, score)]
print(f"dense            {full:8,} bytes          {score:6.1%}")
print("\nsparsity        float32 values                 int8 values")
for target in (0.5, 0.8, 0.9, 0.95, 0.98):
    net = deepcopy(big)
    schedule = GradualPruning(Pruning(net), start=1, end=300, target=target)
    train(net, learn, 10, lr=0.002, scheduler=schedule)
    row = f"{schedule.pruning.sparsity:7.1%}"
    for bits, mark, name in ((32, "p", "pruned, float32"), (8, "q", "pruned, int8")):
        size, score = stored(net, bits, mlp(64, 256, 128, 10))
        points.append((mark, name, size, score))
        row += f"   {size:8,} bytes {full / size:5.1f}x {score:6.1%}"
    print(row)

# %% [markdown]
"""
Read off the first row that is ten times smaller, and what it costs on these 1,000 digits. Two things stand
out. Rounding the values to int8 saves three bytes of five per weight and costs nearly nothing; so 80 to 90 %
sparsity is enough, where the network has not begun to suffer. Where a pruned network is a little *better*
than the dense one, do not credit the pruning: it also had ten epochs more. And one digit in a thousand is no
difference at all; module 19 tells the two apart.

What is the fair comparison? Not only the dense file, but also a network that was **small from the start**,
and the dense file put through a general compressor. Both are in the picture at the end of this part.

Now a convolutional network, and whole channels.
"""

# %% demo="fewer_channels"
manual_seed(0)
seeing = Sequential(Conv2d(1, 16, 3, padding=1), BatchNorm2d(16), ReLU(), Conv2d(16, 32, 3, padding=1), BatchNorm2d(32),
                    MaxPool2d(2), ReLU(), Flatten(), Linear(512, 64), ReLU(), Linear(64, 10))
train(seeing, learn, 5)
one = Tensor(test[0][:1])
print("                                                               at once: as many")
print("channels kept    weights     FLOPs per digit    file         channels   scattered   3 epochs later")
print(f"{1:13.0%}   {sum(p.size for p in seeing.parameters()):8,}   {count_flops(seeing.eval(), one):16,}"
      f"   {on_disk(seeing):9,} B                       {right(seeing, test):14.1%}")
for keep in (0.5, 0.25, 0.125):
    small = prune_channels(seeing, keep)
    scattered = deepcopy(seeing)
    prune(scattered, 1 - sum(p.size for p in small.parameters()) / sum(p.size for p in seeing.parameters()))
    cut = right(small, test)
    train(small, learn, 3)
    size, score = on_disk(small), right(small, test)
    points.append(("c", "CNN, channels removed", size, score))
    print(f"{keep:13.1%}   {sum(p.size for p in small.parameters()):8,}   {count_flops(small.eval(), one):16,}"
          f"   {size:9,} B   {cut:8.1%}   {right(scattered, test):9.1%}   {score:14.1%}")

# %% [markdown]
"""
Half of the channels make a quarter of the weights and FLOPs: an inner layer shrinks at both ends. These are
ordinary small dense networks, with ordinary layers. No file format and no mask is needed. But cutting whole
channels hurts much more than pruning as many scattered weights of the same network (look at *at once*), so
there must be training afterwards.

Low rank: how fast do the singular values of the trained layer fall, and what does the network say with a few
of them?
"""

# %% demo="how_many_ranks"
wide = big[3]
values = np.linalg.svd(wide.weight.data, compute_uv=False)
print("singular values 1, 9, 17 … of the layer (128, 256):")
for i in range(0, 128, 8):
    print(f"{i + 1:4}  {values[i]:6.2f}  {'#' * round(40 * values[i] / values[0])}")
whole = wide.weight.size
print("\nenergy   rank   weights        at once    2 epochs later")
for energy in (0.99, 0.9, 0.7, 0.5):
    rank = rank_for(wide.weight.data, energy)
    net = deepcopy(big)
    net[3] = low_rank(net[3], rank)
    cut = right(net, test)
    train(net, learn, 2, lr=0.001)
    size = on_disk(net)
    points.append(("r", "low rank", size, right(net, test)))
    print(f"{energy:6.0%}   {rank:4}   {rank * (128 + 256) / whole:6.2f} of all   {cut:7.1%}   {points[-1][3]:12.1%}")

# %% [markdown]
"""
A dozen or so singular values stand out; the long tail behind them looks like that of the random numbers the layer
started from. The network hardly needs the tail: look at the rows for 90 and 70 percent of the energy. But two
factors of a high rank hold *more* numbers than the matrix, as the first row shows.

And distillation. Here is its purest form. A student learns digits, and in its training set there is **not
one 3**. It never sees the picture of one. But it is told what the teacher thinks of all the other digits: "a
2, with a touch of 3". How many of the threes in the test set does it know?
"""

# %% demo="never_seen_a_three"
with no_grad():
    opinions = seeing.eval()(Tensor(learn[0])).data
others = np.flatnonzero(learn[1] != 3)
threes = test[0][test[1] == 3]


def taught(loss, pictures, epochs=20, seed=0):
    """A student of 64 hidden units that learns from these pictures of the training set."""
    manual_seed(seed)
    student, order = mlp(64, 64, 10), np.random.default_rng(seed)
    optimizer = Adam(student.parameters(), lr=0.003)
    for _ in range(epochs):
        rows = order.permutation(pictures)
        for start in range(0, len(rows), 64):
            some = rows[start : start + 64]
            optimizer.zero_grad()
            loss(student(Tensor(learn[0][some])), opinions[some], learn[1][some]).backward()
            optimizer.step()
    return student


print("without a 3, taught by     threes known   all digits")
for name, loss in [("the labels", DistillationLoss(1.0, alpha=0.0))] + [
    (f"the teacher, T = {t:g}", DistillationLoss(t, alpha=1.0)) for t in (1.0, 2.0, 4.0, 8.0)
]:
    student = taught(loss, others)
    known = accuracy(student(Tensor(threes)), np.full(len(threes), 3))
    print(f"{name:25}  {known:12.1%}   {right(student, test):10.1%}")
print("\nwith all digits, taught by")
for name, loss in (("the labels", DistillationLoss(1.0, alpha=0.0)), ("the teacher, T = 4", DistillationLoss(4.0, alpha=1.0))):
    print(f"{name:25}  {'':12}   {right(taught(loss, np.arange(len(learn[1]))), test):10.1%}")

# %% [markdown]
"""
Nearly all of what a three looks like came in through the second and third largest numbers of the teacher's
answers, and a higher temperature let more of it through. (Hinton and his colleagues report the same
experiment for MNIST.) It is no magic: with all labels there, as the last two rows show, there is hardly
anything left to gain. Distillation pays where labels are missing, where they are wrong, or where the student
is so small, and the task so hard, that the teacher's answers are the better lesson.

Last, the picture: file size against accuracy, for everything above, and two honest rivals. Which of these
would you ship, at 10 kB and at 100 kB?
"""

# %% demo="the_front"
for width in (4, 8, 16, 32, 64):
    manual_seed(0)
    net = train(mlp(64, width, 10), learn, 20)
    points.append(("s", "small from the start", on_disk(net), right(net, test)))
print("D dense   p pruned, float32   q pruned, int8   c CNN with fewer channels   r low rank   s small from the start\n")
text_front([p for p in points if p[3] > 0.8])
squeezed = len(zlib.compress(safetensors.numpy.save(big.state_dict()), 9))
print(f"\nthe dense file through zlib: {squeezed:,} of {full:,} bytes, weights of a trained network are nearly noise")
small_enough = [p for p in points if p[2] <= full / 10]
mark, name, size, score = max(small_enough, key=lambda p: p[3])
print(f"best at a tenth of the dense file: {name}, {size:,} bytes ({full / size:.1f}x), {score:.1%}; dense {points[0][3]:.1%}")
picture = Path(tempfile.gettempdir()) / "tinytorch_front.svg"
svg_front([p for p in points if p[3] > 0.8], picture)
print(f"as a picture: open {picture} in a browser")

# %% [markdown]
"""
Networks that were small from the start are hard to beat below 10 kB: compression must be compared with them,
and often is not. One more warning. All points were measured on the same 1,000 test digits, and if you pick the
best of twenty on them, it is a little too good. To choose, use a validation set; to report, the test set.

## Measure: zeros cost as much as numbers

Before you run the cell, predict: a layer of 1,024 to 1,024 gets a batch of 64 rows. It is pruned to 90 %
zeros. How much faster is (a) the matrix product with the pruned matrix, (b) a product that goes through the
non-zeros alone, with NumPy's indexing, (c) a matrix of which 90 % of the *rows* are gone? And what are the
FLOPs of each, if zeros are not counted?
"""

# %% demo="zeros_are_not_faster"
rng = np.random.default_rng(0)
matrix = rng.normal(size=(1024, 1024)).astype(np.float32)
rows = rng.normal(size=(64, 1024)).astype(np.float32)
pruned = matrix * magnitude_mask(matrix, 0.9)
removed = np.ascontiguousarray(matrix[strongest_channels(matrix, 0.1)])
where = [np.flatnonzero(row) for row in pruned]
what = [row[places] for row, places in zip(pruned, where)]


def by_entries():
    """Each output from the inputs that its non-zeros name."""
    return np.stack([rows[:, places] @ values for places, values in zip(where, what)], axis=1)


assert np.allclose(by_entries(), rows @ pruned.T, atol=1e-2)
table = [("dense", lambda: rows @ matrix.T, matrix.size),
         ("90 % zeros, dense product", lambda: rows @ pruned.T, np.count_nonzero(pruned)),
         ("90 % zeros, entries alone", by_entries, np.count_nonzero(pruned)),
         ("90 % of the rows removed", lambda: rows @ removed.T, removed.size)]
times = milliseconds([call for _, call, _ in table])
for (name, _, weights), took in zip(table, times):
    print(f"{name:26}  {2 * 64 * weights:12,} FLOPs that matter  {took:8.3f} ms   {times[0] / took:5.2f}x")

# %% [markdown]
"""
The product multiplies by zero as diligently as by any other number: nothing is gained. Going through the
entries does a tenth of the arithmetic and is *slower*: the inputs must first be fetched one by one from
scattered places, and NumPy is called once for each output. Compiled sparse kernels are better at this, but
scattered memory stays their problem as well. Removed rows are the one gain here, and the
factor is close to what the FLOPs promise. This is why papers on pruning report two numbers, sparsity and
speed, and why the first says little about the second.

How does it look for whole networks? The CNN of above, and its small copies.
"""

# %% demo="channels_are_faster"
batch, zeros = Tensor(test[0]), deepcopy(seeing)
prune(zeros, 0.9)
nets = {"as trained": seeing.eval(), "90 % zeros": zeros.eval()}
for keep in (0.5, 0.25, 0.125):
    nets[f"{keep:.1%} of the channels"] = prune_channels(seeing, keep).eval()
with no_grad():
    times = milliseconds([lambda net=net: net(batch) for net in nets.values()], rounds=7)
    for (name, net), took in zip(nets.items(), times):
        print(f"{name:22} {count_flops(net, batch) / 1e6:7.1f} MFLOPs   {took:7.2f} ms   {times[0] / took:5.2f}x")

# %% [markdown]
"""
Removed channels do make it faster, but by less than the FLOPs say. What is left, laying out patches,
pooling, calling NumPy, shrinks by the number of channels or not at all. (Amdahl's law, module 14.)

## Break: the weights that came back

Prune to 90 %, train on. Three people do it. The first applies the mask once. The second has understood that
pruned weights must not learn, and sets their **gradients** to zero. The third calls `apply` after each step.
All go on with the optimizer they trained with, SGD with momentum.
"""

# %% demo="weights_that_came_back"
def trained_on(guard):
    """Train with momentum, prune to 90 %, train on for 63 steps: the network, and zeros after some of them."""
    manual_seed(0)
    net, zeros = mlp(64, 64, 10), []
    optimizer, order = SGD(net.parameters(), lr=0.05, momentum=0.9), np.random.default_rng(0)
    pruning = None
    for step in range(-200, 63):
        if step == 0:
            pruning = prune(net, 0.9)
        some = order.integers(0, len(learn[0]), 64)
        optimizer.zero_grad()
        CrossEntropyLoss()(net(Tensor(learn[0][some])), learn[1][some]).backward()
        if pruning is not None and guard == "gradients":
            for name, mask in pruning.masks.items():
                pruning.weights[name].grad *= mask
        optimizer.step()
        if pruning is not None and guard == "apply":
            pruning.apply()
        if step in (0, 15, 62):
            zeros.append(np.mean(np.concatenate([w.data.ravel() == 0 for w in pruning.weights.values()])))
    return net, zeros


print("sparsity after step     1    16    63")
for guard, name in (("once", "mask applied once"), ("gradients", "gradients masked"), ("apply", "apply each step")):
    net, zeros = trained_on(guard)
    print(f"{name:18} {' '.join(f'{z:5.1%}' for z in zeros)}   file {on_disk(net, 32):7,} bytes   {right(net, test):.1%} right")

# %% [markdown]
"""
In the first row one step is enough: no weight is zero any more, apart from those of pixels that are always
blank. Nothing complains. The accuracy is fine, because it *is* a dense network. You find out when the file is
no smaller. The second row is the treacherous one: with a gradient of zero the
velocity still carries the weights away from zero, and by the time it has died down they stand somewhere else.

So test it: after training, count the zeros and compare with `pruning.sparsity`. The masks only say what
should be.

The other classic of this module stands at the boundary. Here channels are cut from a convolution in front of
`Flatten`, once with the columns of each channel side by side, once as if the columns of a *pixel* stood side
by side, which is the layout of (N, H, W, C).
"""

# %% demo="wrong_columns"
cut = deepcopy(seeing)
kept = strongest_channels(cut[3].weight.data, 0.5)
keep_outputs(cut[3], kept)
keep_outputs(cut[4], kept)
for name, columns in [("c * 16 + pixel", (kept[:, None] * 16 + np.arange(16)).ravel()),
                      ("pixel * 32 + c", (np.arange(16)[:, None] * 32 + kept).ravel())]:
    net = deepcopy(cut)
    net[8].weight = taken(net[8].weight, columns, axis=1)
    before = right(net, test)
    print(f"columns {name}:  shapes fit, {before:6.1%} at once, {right(train(net, learn, 2), test):.1%} after 2 epochs")

# %% [markdown]
"""
Both have the right shapes, and after fine-tuning both work: training repairs the damage, at the cost of what
the layer had learned. Look at the accuracy **before** fine-tuning, or compare with the silenced large
network as the check of `prune_channels` does.

## Reflect

Predict with pencil and paper, write the number into the cell, and the check says whether it holds.

**1.** A file holds gaps of 1 byte and float32 values for each weight that is left (no fillers, no header).
At which sparsity is it ten times smaller than the dense file? A share from 0 to 1.
"""

# %% exercise="predict.sparsity_for_ten"
### BEGIN SOLUTION
sparsity_for_ten = 1 - 4 / 10 / 5
### END SOLUTION

# %% check="predict.sparsity_for_ten" points=1
check.prediction("sparsity for a file a tenth of the size", sparsity_for_ten, "MC45Mg==", rel=0.005,
                 why="0.4 bytes per weight are allowed, and one that is left takes 5")

# %% [markdown]
"""
**2.** In the middle of a network stands `Conv2d(64, 64, 3)`. One quarter of the channels is kept in every
layer. By which factor do its FLOPs fall?
"""

# %% exercise="predict.flops_factor"
### BEGIN SOLUTION
flops_factor = 4 * 4
### END SOLUTION

# %% check="predict.flops_factor" points=1
check.prediction("FLOPs of the inner layer, old over new", flops_factor, "MTY=", rel=0.01,
                 why="2 * out * in * 9 per place: which of these numbers became a quarter?")

# %% [markdown]
"""
**3.** A layer of 1,024 inputs and 256 outputs becomes two by `low_rank`. What is the largest rank at which
the two have fewer weights than the one (biases left out)?
"""

# %% exercise="predict.largest_rank"
### BEGIN SOLUTION
largest_rank = 1024 * 256 // (1024 + 256)
### END SOLUTION

# %% check="predict.largest_rank" points=1
check.prediction("largest rank that saves weights", largest_rank, "MjA0", rel=0.001,
                 why="rank * (in + out) against in * out, and a rank is a whole number")

# %% [markdown]
"""
**4.** A weight is pruned after many steps of Adam in which its gradient was always near 1. From then on its
gradient is set to 0 before each step, and no mask is applied to the weight. What does the weight do?

- a) it stays 0, because Adam divides by the size of the gradient
- b) it moves for some steps and then stands still, away from 0
- c) it moves for some steps and then comes back to 0
- d) it becomes nan: 0 / 0
"""

# %% exercise="predict.adam_remembers"
### BEGIN SOLUTION
adam_remembers = "b"
### END SOLUTION

# %% check="predict.adam_remembers" points=1
check.choice("a pruned weight under Adam with its gradient masked", adam_remembers, "Yg==", ["a", "b", "c", "d"],
             why="which of Adam's two averages forgets faster, and is there anything that pulls the weight back?")

# %% [markdown] question="strength_under_a_norm" points=3
"""
**Open question, graded by a person.** `strongest_channels` ranks the filters of a convolution by the sum of
their magnitudes. (a) Behind the convolution stands a BatchNorm2d. Multiply all weights and the bias of one
filter by 10. What changes in the network's answers, what in the ranking? Show it with a few lines of your own
code, or argue from the formula. (b) Propose another measure of a channel's strength that does not have this
fault, and say what it costs to compute. (c) Describe an experiment on TinyDigits that decides which of the
two measures is better, and that could also show that there is no difference.

*Your answer:*
"""

# %% [markdown]
"""
## In production

`torch.nn.utils.prune` has the same masks (`l1_unstructured`, `global_unstructured`, `ln_structured`), and
keeps them in another way: the weight becomes `weight_orig * weight_mask`, computed anew in each forward, so
that no optimizer can revive it, for the price of a second array and a product per step. `prune.remove` makes
it permanent. Our files are those of *Deep Compression* (Han et al. 2016), which goes two steps further, with
weights that share few values and a Huffman code for gaps and values.

Hardware has come to meet the zeros half-way: NVIDIA's tensor cores since Ampere multiply **2:4 sparse**
matrices, two zeros in each group of four, up to twice as fast. Libraries for block-sparse products want
whole blocks of zeros. SparseGPT (Frantar and Alistarh 2023) prunes large language models to half without
retraining, by adjusting the weights that stay. DistilBERT (Sanh et al. 2019) is a distilled BERT with 40 %
fewer parameters. LoRA (Hu et al. 2022) turns low rank round: the large matrix stays, and what is *learned*
is a correction of low rank.

What we are not building: pruning by gradients or second derivatives, channels in networks with shortcuts
(there several layers must lose the same ones), Tucker decompositions of filters, and sparse kernels.

## When it fails

| symptom | cause | where to look |
|---|---|---|
| `slice indices must be integers` | a share used as a number of weights | `round(sparsity * size)` |
| `out of bounds for array of dimension` | axes that a Linear's weight (out, in) does not have | all axes but the first, however many: `tuple(range(1, weight.ndim))` |
| `only integer scalar arrays` | a Tensor was indexed or assigned to like an array | its array is `.data` |
| `modulo by zero` | inputs cut before anything was removed | in front of the first layer `kept` is None: nothing to do |
| `has no attribute 'running_` | only a norm has running statistics | `getattr(layer, name, None)` and a test for None |
| `too many values to unpack` | the columns are a table, so the weight got an axis more | `.ravel()` |
| `Cannot cast` | columns are not whole numbers | `//` instead of `/` |
| `target ()` | the cross-entropy was asked without classes | only `if classes is not None` |
| `shape mismatch` | places of a flat array used in one with axes | fill a flat array, reshape at the end |
| `cannot reshape` | pieces or entries that are too few or too many | np.split takes ends, not sizes; a row may end in zeros that have no entry |
| `is a share` | a sparsity in percent, as 90 | 0.9; `keep` is what stays, `sparsity` is what goes |
| `no weight has that name` | a name in `skip` that is no weight or layer | names as in `model.named_parameters()`: "0", "0.weight" |
| `how its channels hang` | `prune_channels` on a network with shortcuts, attention or norms over features | a Sequential of Conv2d, Linear, BatchNorm2d and layers without numbers |
| `cannot cut` | a dict with the name of the last layer, or of none | names of layers, without ".weight" |
| `cannot come from` | the inputs of a layer are no multiple of the channels before it | were the channels counted before the cut? |
| `inner sizes` | outputs were removed and the next layer still expects them | `keep_inputs` of the next layer with weights |
| `channels are expected` | a norm or a convolution behind a cut layer has its old size | `keep_outputs` for the norm, `keep_inputs` for the convolution |
| `do not fit the model` | a file loaded into a network of other sizes | build it with the channels that were left |
| `not a whole file` | cut off, changed, or written by something else | save again; plain checkpoints are module 07's |
| `out of bounds` | places beyond the end | `np.argsort` with axis=None; running sum of gap + 1, less 1; kept * size + 0 … size - 1 |
| `could not broadcast` | a mask or a matrix of another shape, or transposed | masks have the weight's shape; first is (rank, in), second (out, rank) |
| `boolean index did not match` | a flat mask for an array with axes | reshape the mask to the weight's shape |
| `invalid value encountered` | 0 times infinity, or the logarithm of a p that became 0 | set zeros instead of multiplying; `log_softmax` |
| `divide by zero` | a logarithm of 0 | `log_softmax(said / T)` instead of the logarithm of the softened answer |
| `must be less than end` | a schedule that ends before it starts | steps of the optimizer, not epochs |
| `classes are needed` | alpha below 1 without labels | pass classes, or alpha=1 |
| `has no attribute 'data'` | an array where a Tensor belongs | the student's side: Tensor operations; the teacher's: arrays |
| `does not support ufuncs` | a NumPy function on a Tensor | its array is `.data`; the student's logarithm is `LogSoftmax()` |
| `NoneType` | a function gives None | is the return line missing? is `kept` None before the first cut? |
| the file is as large as before | the zeros were not kept, or `np.save` stores them | count zeros in the weights; `save_sparse` |
| accuracy does not recover | too much at once, or a layer is empty | `GradualPruning`; the masks of each layer; `scope="layer"` |
| the student learns nothing | T too high or T² forgotten, the graph cut by `.data` | the loss of a student with no idea, by hand |
"""
