# %% [markdown]
"""
# 08 · Data loading

A data loader turns files into batches: in an order that two numbers repeat, with small random changes that
make few pictures into many, and early enough that the network never waits.

```
you have built     01 to 07: a Trainer that takes anything that gives (x, y) batches
        |
        v
you build now      datasets, the order of an epoch, collate, transforms, prefetch,
                   DataLoader, and readers that never return a wrong array
        |
        v
this unlocks       09 convolutions, and with them CIFAR-10 in milestone 1998
```

Time: about 3 hours. Every exercise is a cell with a hole in it, and the cell below it checks your answer.
Run `tito watch` in a terminal beside this notebook.
"""

# %% given="imports"
#| default_exp data.loader
#| export
import gzip
import hashlib
import io
import json
import math
import queue
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from tinytorch.core.tensor import Tensor

# %% given="tools"
import os
import tempfile
import time
import traceback

import tito.checks as check
from threadpoolctl import threadpool_limits
from tinytorch.core.activations import ReLU
from tinytorch.core.layers import Flatten, Linear, Sequential
from tinytorch.core.losses import CrossEntropyLoss
from tinytorch.core.optimizers import SGD, Adam
from tinytorch.core.tensor import manual_seed
from tinytorch.core.training import Trainer, training_step
from tito.notebook import method_of

threadpool_limits(1)  # matrix products on one core, so that times can be compared; see Measure


def small_net(width=96):
    """A network for colour pictures of 32x32, and a step that trains it on one batch."""
    manual_seed(0)
    net = Sequential(Flatten(), Linear(3 * 32 * 32, width), ReLU(), Linear(width, 10))
    optimizer, loss_fn = SGD(net.parameters(), lr=0.01), CrossEntropyLoss()
    return lambda x, y: training_step(net, loss_fn, optimizer, x, y)

# %% [markdown]
"""
## Why: the network waits

Module 07 cut two arrays into batches and that was all. Pictures want more: each is a block of bytes that
has to become floats, and each time it is used it is shifted and mirrored at random, because a network that
has seen 50,000 pictures in many positions knows more than one that has seen 50,000 pictures. Written the
obvious way, one picture after the other, it looks like the cell below. Guess what a step spends most of its
time on, then run it.
"""

# %% demo="the_network_waits"
rng = np.random.default_rng(0)
pictures = rng.integers(0, 256, (1024, 3, 32, 32), dtype=np.uint8)
kinds = rng.integers(0, 10, 1024)


def one_picture(i):
    """Picture i, shifted by up to 4 pixels, mirrored half of the time, as floats around 0."""
    padded = np.pad(pictures[i], ((0, 0), (4, 4), (4, 4)))
    top, left = rng.integers(0, 9, 2)
    picture = padded[:, top : top + 32, left : left + 32]
    if rng.random() < 0.5:
        picture = picture[:, :, ::-1]
    return (picture - np.float32(127.5)) / np.float32(64)


learn = small_net()
learn(Tensor(np.zeros((128, 3, 32, 32))), kinds[:128])  # the first step is always slower
loading = learning = 0.0
for start in range(0, 1024, 128):
    begin = time.perf_counter()
    x = Tensor(np.stack([one_picture(i) for i in range(start, start + 128)]))
    ready = time.perf_counter()
    learn(x, kinds[start : start + 128])
    loading += ready - begin
    learning += time.perf_counter() - ready
print(f"per step: loading {loading / 8 * 1e3:5.1f} ms, learning {learning / 8 * 1e3:5.1f} ms")
print(f"the network waits for {loading / (loading + learning):.0%} of the time")

# %% [markdown]
"""
A stopwatch shows that fault. It does not show the others. All random numbers come from one generator, so
nobody can look at epoch 7 without running the six before it. And if the file of pictures was cut off during
the download, `np.fromfile` gives what is there and says nothing.

By the end of this module the same work takes a fraction of the time, any batch of any epoch can be made
again from three numbers, and a damaged file is an error with its name in it.

## Foundations: five rows

An epoch needs an **order** of the rows, and the order is cut into **batches**. Let the order depend on two
numbers only, a seed and the number of the epoch:

```
seed 7, epoch 0     order [2 0 4 1 3]     batches of 2:   [2 0] [4 1] [3]
seed 7, epoch 1     order [3 0 2 1 4]                     [3 0] [2 1] [4]
```

Then epoch 1 can be had without epoch 0. The row numbers travel down a pipeline:

```
row numbers   [2 0]
     |  fetch         the dataset hands out rows 2 and 0
     v
items         (x2, y2) (x0, y0)
     |  collate       one array per field: x (2, ...), y (2,)
     v
batch         (x, y)
     |  transform     shift, mirror, normalize: random, but repeatable
     v
batch         (x, y)
     |  prefetch      a thread makes batches ahead and keeps a few ready
     v
the training step
```

Why prefetch? Say loading takes 2 ms and a step 3 ms. Taking turns, three batches need 15 ms. If the next
batch is loaded *during* the step, only the first one is waited for:

```
                          1 ms per letter: aa loads batch a, AAA is the step with it
taking turns              aaAAAbbBBBccCCC      3 * (2 + 3) = 15 ms
ahead      the thread     aabbcc
           the loop       ..AAABBBCCC          2 + 3 * 3   = 11 ms
```

Over many batches a step costs the **larger** of the two times instead of their sum. More cannot be gained;
less can, and you will measure when.

## Build

### A dataset: how many, and which one

A dataset is anything that answers two questions: `len(dataset)`, and `dataset[i]` for one item. That is a
*protocol*: no base class is needed, a list already qualifies. The most useful one holds arrays whose rows
belong together:

```
x   [[1 2]      y   [10        TensorDataset(x, y)[1]  ->  (array [3 4], 20)
     [3 4]           20        len                     ->  3
     [5 6]]          30]
```

An item is a **tuple** with row i of every array. The arrays keep their type: pictures of bytes take a
quarter of the memory that floats would, and become floats when they are used. Look at `__getitems__`, too.
NumPy takes an array of row numbers as gladly as a single one, so the same line of yours fetches a whole
batch at once.
"""

# %% given="Dataset"
#| export
@runtime_checkable
class Dataset(Protocol):
    """Anything that says how many items it has and hands out item number `index`.

    >>> isinstance(["a", "list"], Dataset)
    True
    """

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> object: ...

# %% exercise="TensorDataset"
#| export
class TensorDataset(Dataset):
    """Arrays whose rows belong together; item i is the tuple of their rows i.

    arrays: arrays or Tensors (N, ...). They are neither copied nor converted: uint8 stays uint8.
    Raises ValueError naming the lengths if they differ.
    """

    def __init__(self, *arrays: np.ndarray | Tensor) -> None:
        self.arrays = tuple(np.asarray(a.data if isinstance(a, Tensor) else a) for a in arrays)
        lengths = [len(array) for array in self.arrays]
        if len(set(lengths)) != 1:
            raise ValueError(
                f"TensorDataset: arrays of {lengths} rows. Each row of one needs its row in all others."
            )

    def __len__(self) -> int:
        return len(self.arrays[0])

    def __getitem__(self, index: int) -> tuple[np.ndarray, ...]:
        """Row `index` of every array.

        >>> TensorDataset(np.array([1, 2]), np.array([10, 20]))[1]
        (np.int64(2), np.int64(20))
        """
        ### BEGIN SOLUTION
        return tuple(array[index] for array in self.arrays)
        ### END SOLUTION

    def __getitems__(self, indices: np.ndarray) -> tuple[np.ndarray, ...]:
        """A whole batch in one go: the rows `indices` of every array, each (B, ...)."""
        return self[indices]

# %% check="TensorDataset" points=2
_x, _y = np.array([[1, 2], [3, 4], [5, 6]], dtype=np.uint8), np.array([10, 20, 30])
_data = TensorDataset(_x, Tensor(_y), _y * 2)
check.equal("the type of item 1", type(_data[1]).__name__, "tuple",
            why="one field per array: the loader makes one Tensor of each")
check.equal("item 1 of three arrays", [np.asarray(_f).tolist() for _f in _data[1]], [[3, 4], 20.0, 40],
            why="row 1 of every array, not only of the first")
check.equal("shape and type of the first field", (np.shape(_data[1][0]), str(np.asarray(_data[1][0]).dtype)),
            ((2,), "uint8"), why="the row itself, and bytes stay bytes: a float would take four times the memory")
check.equal("the last item, by -1", [np.asarray(_f).tolist() for _f in _data[-1]], [[5, 6], 30.0, 60],
            why="whatever NumPy takes as an index")
check.equal("rows 2 and 0 at once", [np.asarray(_f).tolist() for _f in _data.__getitems__(np.array([2, 0]))],
            [[[5, 6], [1, 2]], [30.0, 10.0], [60, 20]], why="an array of row numbers gives an array of rows")

# %% [markdown]
"""
### Splitting at random

Training, validation and test sets are parts of one data set that do not overlap. `Subset` (given) is such a
part: a dataset, and a list of row numbers into it. Nothing is copied.

`random_split` makes the parts: one permutation of all rows, cut into pieces. Lengths may be numbers of
items, or shares that add up to 1. Shares rarely come out even. PyTorch rounds every share **down** and
deals out what is left one by one, from the first part on:

```
11 items, shares 0.5 0.25 0.25      5.5   2.75  2.75
rounded down                        5     2     2         2 items are left
dealt out                           6     3     2         = 11
```

Two things are worth the care. The parts must come from **one** permutation, or they overlap and the network
is tested on what it was trained on. And the seed is an argument, so that a colleague gets the same test
set.
"""

# %% given="Subset"
#| export
def _fetch(dataset: Dataset, indices: np.ndarray) -> tuple | list:
    """The items at `indices`: a tuple of whole arrays if the dataset can do that, else a list."""
    if hasattr(dataset, "__getitems__"):
        return dataset.__getitems__(indices)
    return [dataset[int(i)] for i in indices]


class Subset(Dataset):
    """Some items of another dataset, in the order of `indices`. Cost: 8 bytes per item."""

    def __init__(self, dataset: Dataset, indices: Sequence[int] | np.ndarray) -> None:
        self.dataset, self.indices = dataset, np.asarray(indices, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> object:
        return self.dataset[int(self.indices[index])]

    def __getitems__(self, indices: np.ndarray) -> tuple | list:
        """A whole batch, in one go if the dataset itself can do that."""
        return _fetch(self.dataset, self.indices[indices])

# %% exercise="random_split"
#| export
def random_split(dataset: Dataset, lengths: Sequence[float], seed: int = 0) -> list[Subset]:
    """Cut a dataset into random parts that do not overlap and together are all of it.

    lengths: how many items each part gets, adding up to len(dataset); or shares that add up to 1,
    each rounded down, and the items left over dealt out one by one from the first part on.
    Raises ValueError naming both sums if the lengths do not add up. Source: torch.utils.data.

    >>> [len(part) for part in random_split(range(11), [0.5, 0.25, 0.25])]
    [6, 3, 2]
    """
    n, counts = len(dataset), list(lengths)
    ### BEGIN SOLUTION
    if math.isclose(sum(lengths), 1):
        counts = [math.floor(n * share) for share in lengths]
        for i in range(n - sum(counts)):
            counts[i] += 1
    if sum(counts) != n:
        raise ValueError(f"random_split: lengths {counts} add up to {sum(counts)}, not to {n}.")
    order = np.random.default_rng(seed).permutation(n)
    ends = np.cumsum(counts)
    return [Subset(dataset, order[end - count : end]) for count, end in zip(counts, ends)]
    ### END SOLUTION

# %% check="random_split" points=5
def _members(parts):
    return [[int(part[i]) for i in range(len(part))] for part in parts]


_data = [10 * _i for _i in range(30)]
_parts = random_split(_data, [20, 7, 3])
check.equal("what the parts are", [type(_p).__name__ for _p in _parts], ["Subset"] * 3,
            why="a Subset remembers the dataset and the row numbers; no item is copied")
_sizes = [len(_p) for _p in _parts]
check.equal("sizes of the parts for [20, 7, 3]", _sizes, [20, 7, 3])
_all = sum(_members(_parts), [])
check.equal("all parts together, sorted", sorted(_all), _data,
            why="every item in exactly one part: an item in two of them is trained on and tested on")
check.true("the parts are a random choice", _all != _data and sorted(_members(_parts)[0]) != _data[:20],
           why="files are often sorted by class: the first 20 rows may be all of one kind")
check.equal("the same split again: with the same seed, with another one",
            [_members(random_split(_data, [20, 7, 3], seed=_s)) == _members(random_split(_data, [20, 7, 3], seed=3))
             for _s in (3, 4)], [True, False], why="seed decides, and nothing else does")
for _n, _shares, _expected in [(11, [0.5, 0.25, 0.25], [6, 3, 2]), (10, [0.5, 0.25, 0.25], [6, 2, 2]),
                               (17, [0.3, 0.3, 0.4], [6, 5, 6]), (8, [0.5, 0.5], [4, 4])]:
    check.equal(f"sizes of {_n} items by shares {_shares}",
                [len(_p) for _p in random_split(range(_n), _shares)], _expected,
                why="round every share down, then deal out the rest from the first part on")
check.raises("lengths [20, 7] of 30 items", ValueError, lambda: random_split(_data, [20, 7]),
             why="three items would vanish", mention=["27", "30"])

# %% [markdown]
"""
### The order of an epoch

In module 07 the order came from a generator that moves on with every epoch. That is one more piece of
state: to repeat epoch 7 you need its state after epoch 6. Here is a way without state. NumPy makes a
generator from a *tuple* of numbers as well as from one number, and mixes them well:
`np.random.default_rng((7, 3))`. So take the pair (seed, epoch) as key, make a fresh generator of it, and
draw one permutation.

Not `seed + epoch`: then seed 0 in epoch 1 has the order of seed 1 in epoch 0, and two runs that were meant
to be independent share nearly all their orders.
"""

# %% exercise="epoch_order"
#| export
def epoch_order(length: int, key: tuple[int, ...]) -> np.ndarray:
    """The row numbers 0 to length - 1 in random order; the same `key` gives the same order.

    key: what the order depends on, such as (seed, epoch). Cost: 8 bytes per row.

    >>> epoch_order(5, (7, 0)).tolist()
    [2, 0, 4, 1, 3]
    """
    ### BEGIN SOLUTION
    return np.random.default_rng(key).permutation(length)
    ### END SOLUTION

# %% check="epoch_order" points=2
def _order(key, length=30):
    return np.asarray(epoch_order(length, key)).tolist()


check.equal("the order of 30 rows, sorted", sorted(_order((7, 0))), list(range(30)),
            why="every row exactly once per epoch")
check.equal("is the order repeated by: the same key, another epoch, another seed",
            [_order((7, 2)) == _order(_key) for _key in ((7, 2), (7, 3), (8, 2))], [True, False, False],
            why="it depends on seed and epoch, and on nothing else")
check.true("(0, 1) and (1, 0) give two orders", _order((0, 1)) != _order((1, 0)),
           why="the sum of both is 1: adding seed and epoch makes runs share their orders")
check.true("keys of one number and of three work", _order((7, 2, 1)) not in (_order((7, 2)), _order((7,))),
           why="all of the key counts, however long it is")
np.random.seed(5)
_before = np.random.random()
np.random.seed(5)
epoch_order(30, (7, 0))
check.true("NumPy's global generator is left alone", np.random.random() == _before,
           why="somebody else may be drawing from it; a generator of your own disturbs nobody")

# %% [markdown]
"""
### The plan: an order cut into batches

`[2 0 4 1 3]` in batches of 2 is `[2 0] [4 1] [3]`. The last batch is shorter. That is fine for most things,
and a nuisance for some: a step with a single row is noisy, and BatchNorm in module 09 cannot take a
variance of one row. `drop_last` leaves it out, **if** it is shorter. Its rows are not lost for good: the
next epoch has another order.
"""

# %% exercise="batch_plan"
#| export
def batch_plan(order: np.ndarray, batch_size: int, drop_last: bool = False) -> list[np.ndarray]:
    """`order` in pieces of `batch_size`; a shorter last piece is left out with `drop_last`.

    >>> [rows.tolist() for rows in batch_plan(np.array([2, 0, 4, 1, 3]), 2)]
    [[2, 0], [4, 1], [3]]
    """
    ### BEGIN SOLUTION
    end = len(order) - len(order) % batch_size if drop_last else len(order)
    return [order[start : start + batch_size] for start in range(0, end, batch_size)]
    ### END SOLUTION

# %% check="batch_plan" points=3
def _plan(n, size, **options):
    return [list(map(int, rows)) for rows in batch_plan(10 + np.arange(n)[::-1], size, **options)]


check.equal("5 rows in batches of 2", _plan(5, 2), [[14, 13], [12, 11], [10]],
            why="in the order given, the last one shorter")
check.equal("5 rows in batches of 2, drop_last", _plan(5, 2, drop_last=True), [[14, 13], [12, 11]],
            why="the batch of 1 is left out")
check.equal("6 rows in batches of 2, drop_last", _plan(6, 2, drop_last=True), [[15, 14], [13, 12], [11, 10]],
            why="the last batch is whole: there is nothing to leave out")
check.equal("7 rows in batches of 3", _plan(7, 3), [[16, 15, 14], [13, 12, 11], [10]],
            why="whole batches and a rest, not pieces of about the same size")
check.equal("3 rows in batches of 8: all, drop_last", [_plan(3, 8), _plan(3, 8, drop_last=True)],
            [[[12, 11, 10]], []], why="fewer rows than one batch: a short batch, or none")
check.equal("no rows", [_plan(0, 4), _plan(0, 4, drop_last=True)], [[], []], why="no rows, no batches")
check.true("pieces are arrays", isinstance(batch_plan(np.arange(3), 2)[0], np.ndarray),
           why="an array of row numbers indexes arrays; a list would be converted for each of them")

# %% [markdown]
"""
### Collate: from items to a batch

A dataset that can only hand out one item at a time gives a list of items. A batch is the same numbers
turned by 90 degrees: not item by item, but field by field.

```
items     (x2, y2)          batch    x  [x2       y  [y2
          (x0, y0)                       x0           y0
          (x4, y4)                       x4]          y4]
```

Python's `zip(*items)` does the turning. `_stack` (given) makes one Tensor of a field, and explains itself
if the shapes differ. Texts of different lengths do: for them the loader takes a `collate_fn` of your own
that pads, and you will see one below. An item need not be a tuple; a dataset of bare arrays has one field,
and its batch is one Tensor.
"""

# %% exercise="default_collate"
#| export
def _stack(values: Sequence) -> Tensor:
    """One field of B items, arrays or numbers of one shape, as a Tensor (B, ...)."""
    arrays = [np.asarray(value) for value in values]
    shapes = sorted({array.shape for array in arrays})
    if len(shapes) > 1:
        raise ValueError(
            f"default_collate: items of shapes {shapes[0]} and {shapes[-1]} do not stack. "
            "Give the loader a collate_fn that pads them to one shape."
        )
    return Tensor(np.stack(arrays))


def default_collate(items: Sequence) -> tuple[Tensor, ...] | Tensor:
    """One batch of B items: a tuple with one Tensor (B, ...) per field, or one Tensor.

    items: tuples of arrays or numbers, all alike; or bare arrays or numbers, which give one Tensor.
    Raises ValueError naming two shapes if a field's shapes differ.

    >>> default_collate([(1.0, 10), (2.0, 20), (3.0, 30)])[1].tolist()
    [10.0, 20.0, 30.0]
    """
    ### BEGIN SOLUTION
    if isinstance(items[0], tuple):
        return tuple(_stack(field) for field in zip(*items))
    return _stack(items)
    ### END SOLUTION

# %% check="default_collate" points=3
def _kind(batch):
    """What a batch is, with the shapes in it: ("tuple", [(3, 2), (3,)])."""
    fields = batch if isinstance(batch, (tuple, list)) else [batch]
    return type(batch).__name__, [np.shape(np.asarray(field)) for field in fields]


check.equal("a batch of three pairs of numbers", _kind(default_collate([(1, 10), (2, 20), (3, 30)])),
            ("tuple", [(3,), (3,)]), why="two fields, each with the number of every item: x, y = batch")
_items = [(np.array([1.0, 2.0]), 0), (np.array([3.0, 4.0]), 1), (np.array([5.0, 6.0]), 0)]
_batch = default_collate(_items)
check.tensor("the first field", _batch[0], [[1, 2], [3, 4], [5, 6]], why="three rows of two, stacked: (3, 2)")
check.tensor("the second field", _batch[1] if len(_batch) > 1 else None, [0, 1, 0],
             why="three numbers make a vector (3,), whatever type they had")
check.equal("a batch of two items with three fields",
            _kind(default_collate([(1, 2, np.zeros((2, 4))), (3, 4, np.ones((2, 4)))])),
            ("tuple", [(2,), (2,), (2, 2, 4)]), why="however many fields; the new axis comes first")
check.equal("a batch of two bare arrays", _kind(default_collate([np.array([1.0, 2.0]), np.array([3.0, 4.0])])),
            ("Tensor", [(2, 2)]), why="no tuple, one field: a single Tensor")
check.tensor("a batch of bare numbers", default_collate([5, 6, 7]), [5, 6, 7])
check.raises("fields of shapes (2,) and (3,)", ValueError,
             lambda: default_collate([(np.zeros(2), 0), (np.zeros(3), 1)]),
             why="_stack names both shapes and what helps", mention=["(2,)", "(3,)", "collate_fn"])

# %% [markdown]
"""
### Transforms: few pictures into many

A picture of a horse, mirrored, is a picture of a horse. Moved by two pixels, it still is one. Changes that
keep the label make new training pictures for nothing; which changes those are is knowledge about the data.
(A mirrored 2 is no digit at all.) Your transforms work on a whole batch of images `(N, C, H, W)`: number,
channels, height, width. Each is a callable `(images, generator) -> images` that keeps three promises:

- every image draws for **itself**: a batch that is mirrored as one has not become more varied;
- all random numbers come from the `generator` it is given, so whoever has the generator can have the batch
  again;
- the images it was given are left as they are: they may be the data set itself.

First the mirror. Draw one number per image, and choose the images whose number is below `p`. In NumPy
`images[..., ::-1]` is the batch with its last axis, the width, reversed.
"""

# %% exercise="RandomHorizontalFlip"
#| export
class RandomHorizontalFlip:
    """Mirrors each image left to right with probability `p`. images: (N, C, H, W), any type.

    Cost: one copy of the batch, and of the mirrored part.
    """

    def __init__(self, p: float = 0.5) -> None:
        self.p = p

    def __call__(self, images: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        ### BEGIN SOLUTION
        chosen = generator.random(len(images)) < self.p
        result = images.copy()
        result[chosen] = images[chosen][..., ::-1]
        return result
        ### END SOLUTION

# %% check="RandomHorizontalFlip" points=2
_image = np.arange(12, dtype=np.uint8).reshape(1, 1, 3, 4)
_once = RandomHorizontalFlip(p=1.0)(_image, np.random.default_rng(0))
check.close("p=1: one image of 3 rows and 4 columns", _once[0, 0] if np.ndim(_once) == 4 else _once,
            [[3, 2, 1, 0], [7, 6, 5, 4], [11, 10, 9, 8]], why="left and right change sides; the rows stay")
check.equal("the type of the images", str(np.asarray(_once).dtype), "uint8", why="bytes in, bytes out")
check.equal("the image that was given, afterwards", _image.ravel().tolist(), list(range(12)),
            why="it may be the data set itself: work on a copy")
_images = np.zeros((2000, 2, 1, 2), dtype=np.float32)
_images[..., 1] = 1 + np.arange(2000)[:, None, None]
_none = RandomHorizontalFlip(p=0.0)(_images, np.random.default_rng(0))
check.true("p=0 changes nothing", np.array_equal(_none, _images), why="no number is below 0")
_flipped = RandomHorizontalFlip(p=0.25)(_images, np.random.default_rng(1))
_share = float((_flipped[:, 0, 0, 0] > 0).mean())
check.true("p=0.25: the share of 2,000 images that were mirrored is between 0.2 and 0.3", 0.2 < _share < 0.3,
           why="every image draws for itself, and a quarter of them is mirrored", got=round(_share, 2))
check.true("each image keeps its own pixels, all channels together",
           np.array_equal(np.sort(_flipped, axis=-1), _images)
           and np.array_equal(_flipped[:, 0], _flipped[:, 1]),
           why="mirroring moves pixels within a row; red and blue of one image move together")
_again = RandomHorizontalFlip(p=0.25)(_images, np.random.default_rng(1))
check.true("the same generator, the same images", np.array_equal(_flipped, _again),
           why="all random numbers come from the generator that is given")

# %% [markdown]
"""
### Random crop

Moving a picture by a few pixels: pad it on all sides, then cut the old size out of the larger picture at a
random place. With `padding=1` a row of four has three places:

```
image            1 2 3 4
padded         0 1 2 3 4 0      reflect:  2 1 2 3 4 3
place 0        0 1 2 3
place 1          1 2 3 4        the picture itself
place 2            2 3 4 0
```

So with `padding=p` there are `2p + 1` places for the top and as many for the left, and every image draws
its own two. Mind the upper end: `generator.integers(0, high, n)` never gives `high` itself.
`np.pad(images, widths, mode=...)` takes one pair (before, after) per axis: nothing for images and channels,
`(p, p)` for height and width.

A loop over the images that copies one slice each will do. There is a way without a loop, too:
`np.lib.stride_tricks.sliding_window_view(padded, (H, W), axis=(2, 3))` is a view of *all* windows at once,
of shape `(N, C, 2p+1, 2p+1, H, W)`, and costs nothing until you pick from it.
"""

# %% exercise="RandomCrop"
#| export
class RandomCrop:
    """Pads each image by `padding` on all sides and cuts its old size out at a random place.

    images: (N, C, H, W), any type. mode: the border is zeros, "constant", or mirrored, "reflect".
    Cost: a copy of the padded batch and one of the result.
    """

    def __init__(self, padding: int, mode: str = "constant") -> None:
        self.padding, self.mode = padding, mode

    def __call__(self, images: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        n, p, size = len(images), self.padding, images.shape[-2:]
        ### BEGIN SOLUTION
        padded = np.pad(images, ((0, 0), (0, 0), (p, p), (p, p)), mode=self.mode)
        top, left = generator.integers(0, 2 * p + 1, (2, n))
        windows = np.lib.stride_tricks.sliding_window_view(padded, size, axis=(2, 3))
        return windows[np.arange(n), :, top, left]  # (N, C, 2p+1, 2p+1, H, W) -> (N, C, H, W)
        ### END SOLUTION

# %% check="RandomCrop" points=4
def _places(images, results, p, mode="constant"):
    """For each image the (top, left) at which its result was cut out, or None."""
    padded = np.pad(images, ((0, 0), (0, 0), (p, p), (p, p)), mode=mode)
    height, width = images.shape[-2:]
    found = [None] * len(images)
    for place in np.ndindex(2 * p + 1, 2 * p + 1):
        window = padded[:, :, place[0] : place[0] + height, place[1] : place[1] + width]
        for i in np.flatnonzero((window == results).all(axis=(1, 2, 3))):
            found[i] = place
    return found


_images = np.random.default_rng(3).integers(1, 200, (300, 2, 4, 5)).astype(np.uint8)
_kept = _images.copy()
_crop = RandomCrop(1)(_images, np.random.default_rng(0))
check.equal("shape and type of the crops", (np.shape(_crop), str(np.asarray(_crop).dtype)), ((300, 2, 4, 5), "uint8"),
            why="the old size, and bytes stay bytes")
_found = _places(_images, _crop, 1)
check.equal("crops that are not a window of their own padded image", _found.count(None), 0,
            why="all channels together, from the image with one row or column of zeros on each side")
check.equal("all the places of 300 crops with padding 1", sorted(set(_found) - {None}),
            sorted(np.ndindex(3, 3)), why="0, 1 and 2 from the top and from the left, in every combination: "
                                          "each image draws both for itself")
check.true("the images that were given are as they were", np.array_equal(_images, _kept),
           why="they may be the data set itself")
_mirror = RandomCrop(2, mode="reflect")(_images, np.random.default_rng(1))
check.equal("the same with padding 2 and mode='reflect': crops from elsewhere, number of places",
            (_places(_images, _mirror, 2, "reflect").count(None),
             len(set(_places(_images, _mirror, 2, "reflect")) - {None})), (0, 25),
            why="the border repeats the picture mirrored instead of zeros; 5 * 5 places")
check.true("the same generator, the same crops",
           np.array_equal(_crop, RandomCrop(1)(_images, np.random.default_rng(0))),
           why="all random numbers come from the generator that is given")
check.true("padding 0 changes nothing", np.array_equal(RandomCrop(0)(_images, np.random.default_rng(0)), _images),
           why="there is one place only")

# %% [markdown]
"""
### Normalize

Pixels of 0 to 255 are a poor start for a network: all positive, and a hundred times too large. Subtract the
mean of each channel and divide by its standard deviation, both measured **once, on the training set**.
(Measured on each batch, the same picture would look different in other company.)

```
red    100  150      mean 125, std 50      (100 - 125) / 50 = -0.5    0.5
green   60  100      mean  80, std 40                         -0.5    0.5
```

`mean` and `std` have one number per channel, images have shape `(N, C, H, W)`, and broadcasting compares
from the right: three numbers of shape `(3,)` would meet the width. They need a shape that puts them at C.
And the images may be bytes: the numbers they meet must be floats of type `Tensor.dtype`, then NumPy makes
floats of the result.
"""

# %% exercise="Normalize"
#| export
class Normalize:
    """(image - mean) / std for each channel, as floats.

    mean, std: one number per channel, or one for all. images: (N, C, H, W), any type.
    """

    def __init__(self, mean: float | Sequence[float], std: float | Sequence[float]) -> None:
        self.mean, self.std = mean, std

    def __call__(
        self, images: np.ndarray, generator: np.random.Generator | None = None
    ) -> np.ndarray:
        ### BEGIN SOLUTION
        mean, std = (np.reshape(v, (-1, 1, 1)).astype(Tensor.dtype) for v in (self.mean, self.std))
        return (images - mean) / std
        ### END SOLUTION

# %% check="Normalize" points=2
_images = np.array([[[[100, 150]], [[60, 100]]]], dtype=np.uint8)  # 1 image, 2 channels, 1x2
_normal = Normalize([125, 80], [50, 40])(_images, np.random.default_rng(0))
check.close("two channels of bytes", _normal, [[[[-0.5, 0.5]], [[-0.5, 0.5]]]],
            why="each channel by its own mean and std; 100 - 125 in bytes would be 231")
check.equal("type of the result", str(np.asarray(_normal).dtype), "float32",
            why="float64 doubles every byte from here on")
_images = np.random.default_rng(0).random((4, 3, 5, 3)).astype(np.float32)
_mean, _std = [0.5, 0.4, 0.3], [0.1, 0.2, 0.4]
_expected = np.stack([(_images[:, _c] - _mean[_c]) / _std[_c] for _c in range(3)], axis=1)
check.close("three channels, images as wide as there are channels", Normalize(_mean, _std)(_images), _expected,
            why="channels are axis 1; (3,) against (4, 3, 5, 3) would meet the width", rtol=1e-4)
check.close("one number for all channels", Normalize(0.5, 0.25)(_images), (_images - 0.5) / 0.25, rtol=1e-4)
check.equal("the images that were given", float(_images.sum()),
            float(np.random.default_rng(0).random((4, 3, 5, 3)).astype(np.float32).sum()),
            why="not changed in place")

# %% [markdown]
"""
### Cutout

Blank a square of each image, at a random place. The network can no longer bet on one detail, the dog's
nose, and must look at the rest as well. The *centre* of the square is drawn from all pixels, so the border
may cut the square:

```
size 2, centre row 0         centre row 2
top = 0 - 2 // 2 = -1        top = 2 - 1 = 1
rows -1 0  ->  row 0 only    rows 1 2
```

Without a loop: `np.arange(height) - top[:, None]` says for every image (N) and row (H) how far below the
top the row lies. It is in the square if that is at least 0 and less than `size`. The same for columns; a
pixel is blanked if its row **and** its column are in. Bring both to shapes that broadcast to
`(N, 1, H, W)`, and let `np.where` choose between 0 and the image.
"""

# %% exercise="Cutout"
#| export
class Cutout:
    """Blanks a square with sides of `size` pixels in each image, cut by the border if it must be.

    images: (N, C, H, W), any type. Zero is blank: after Normalize, that is the mean colour.
    Source: DeVries & Taylor 2017.
    """

    def __init__(self, size: int) -> None:
        self.size = size

    def __call__(self, images: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        n, height, width = len(images), *images.shape[-2:]
        top = generator.integers(0, height, n) - self.size // 2
        left = generator.integers(0, width, n) - self.size // 2
        ### BEGIN SOLUTION
        down, right = np.arange(height) - top[:, None], np.arange(width) - left[:, None]
        rows, columns = (down >= 0) & (down < self.size), (right >= 0) & (right < self.size)
        square = rows[:, None, :, None] & columns[:, None, None, :]  # (N, 1, H, W)
        return np.where(square, images.dtype.type(0), images)
        ### END SOLUTION

# %% check="Cutout" points=3
def _blanks(size, height, width, n=60, seed=4):
    """Where Cutout blanked n images of ones, and where it should have: both (n, 2, height, width)."""
    blank = np.asarray(Cutout(size)(np.ones((n, 2, height, width), np.float32), np.random.default_rng(seed))) == 0
    rng = np.random.default_rng(seed)
    expected = np.zeros((n, 2, height, width), dtype=bool)
    rows, columns = rng.integers(0, height, n), rng.integers(0, width, n)
    for i, (y, x) in enumerate(zip(rows - size // 2, columns - size // 2)):
        expected[i, :, max(y, 0) : max(y + size, 0), max(x, 0) : max(x + size, 0)] = True
    return blank, expected


for _size, _height, _width in [(2, 5, 7), (3, 8, 6)]:
    _blank, _expected = _blanks(_size, _height, _width)
    check.equal(f"shape of 60 images of {_height}x{_width} afterwards", _blank.shape, _expected.shape)
    check.equal(f"size {_size}: pixels blanked in images 0 to 4", _blank[:5, 0].sum(axis=(1, 2)).tolist(),
                _expected[:5, 0].sum(axis=(1, 2)).tolist(),
                why=f"{_size} * {_size} unless the border cuts the square")
    check.true(f"size {_size}: the right pixels of all 60 images", np.array_equal(_blank, _expected),
               why="rows top to top + size - 1, columns left to left + size - 1, each image its own, all channels")
_images = np.full((3, 1, 4, 4), 200, dtype=np.uint8)
_cut = Cutout(2)(_images, np.random.default_rng(0))
check.equal("type, and what the other pixels hold", (str(np.asarray(_cut).dtype), int(np.max(_cut))), ("uint8", 200),
            why="bytes stay bytes, and pixels outside the square stay as they are")
check.equal("the images that were given", int(_images.min()), 200, why="not changed in place")

# %% [markdown]
"""
Several transforms in a row are one transform again. Their order is yours to choose: cheap ones while the
images are still bytes, `Normalize` after them, and `Cutout` last, so that what it blanks is the mean.
"""

# %% given="Compose"
#| export
class Compose:
    """Several transforms, one after the other, drawing from one generator."""

    def __init__(self, *transforms: Callable) -> None:
        self.transforms = transforms

    def __call__(self, images: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        for transform in self.transforms:
            images = transform(images, generator)
        return images

# %% [markdown]
"""
### Prefetch: the thread that makes batches

Now the part that buys time. A thread makes batches and puts them into a **queue**; the training loop takes
them out. Python's `queue.Queue(maxsize=k)` does the waiting: `put` waits while it is full, `get` waits
while it is empty. A bounded queue is what keeps the thread from running ahead through the whole data set
and filling the memory.

You write it in two halves. The first runs in the thread. Everything it has to say goes through the queue,
as a pair of what it is and the thing itself:

```
("batch", batch)      the next one
("end", None)         there are no more
("error", error)      making a batch failed, with this exception
```

The third line is the one that home-made prefetchers forget. An exception in a thread ends *the thread*. The
training loop knows nothing of it and waits for the next batch for ever. So catch it, whatever it is
(`BaseException`: a dataset might even call `sys.exit`), and send it over.

And one more duty: the training loop may lose interest half way, by a `break`. Then it sets `stop`, a
`threading.Event`. Look at `stop.is_set()` after every batch, and return at once if it is: without another
word, because nobody reads the queue any more and a `put` into a full one would wait for ever.

The next cell is for the two checks that follow: batches that fail, and a watch that does not wait for ever.
"""

# %% given="watched_threads"
class _Odd(BaseException):
    """An exception that is no Exception, as SystemExit is."""


def _breaks(error):
    yield "a"
    raise error


_stuck = False  # whether a call has not come back: then no other one is waited for


def _within(call, seconds=0.7):
    """What `call()` gives; or what it raised, or that it does not come back, as a text."""
    global _stuck
    results = []

    def run():
        try:
            results.append(call())
        except BaseException as error:
            results.append(error)

    if not _stuck:
        runner = threading.Thread(target=run, daemon=True)
        runner.start()
        runner.join(seconds)
        _stuck = not results
    if _stuck:
        return "still waiting"
    if isinstance(results[0], NotImplementedError):
        raise results[0]
    error = results[0]
    return f"{type(error).__name__}: {error}" if isinstance(error, BaseException) else error


def _wait_until(condition, seconds=0.3):
    """Whether the condition comes true within the time."""
    end = time.perf_counter() + seconds
    while not condition() and time.perf_counter() < end:
        time.sleep(0.002)
    return bool(condition())

# %% exercise="prefetched.fill"
#| exporti
def _fill(ready: queue.Queue, batches: Iterator, stop: threading.Event) -> None:
    """Put all of `batches` into `ready`, and then how it ended; return early once `stop` is set.

    Puts ("batch", batch) for each, then ("end", None), or ("error", error) if making one failed.
    """
    ### BEGIN SOLUTION
    try:
        for batch in batches:
            ready.put(("batch", batch))
            if stop.is_set():
                return
        ready.put(("end", None))
    except BaseException as error:  # noqa: BLE001 (nothing is hidden: it is raised by the reader)
        ready.put(("error", error))
    ### END SOLUTION

# %% check="prefetched.fill" points=3
def _said(batches, stop=None):
    """What _fill puts into a queue that is never full, errors by their repr; or what it raised."""
    ready = queue.Queue()
    try:
        _fill(ready, batches, stop or threading.Event())
    except NotImplementedError:
        raise
    except BaseException as error:
        return f"{type(error).__name__} came out of _fill, after {len(ready.queue)} put"
    return [(kind, repr(thing) if kind == "error" else thing) for kind, thing in ready.queue]


def _stops(stop, asked):
    """Many batches; while the third is being made, the training loop loses interest."""
    for number in range(1, 1000):
        asked.append(number)
        if number == 3:
            stop.set()
        yield number


check.equal("what the queue holds for batches 'a', 'b'", _said(iter("ab")),
            [("batch", "a"), ("batch", "b"), ("end", None)],
            why="each batch in order, and a last word: without it the reader waits for ever")
check.equal("no batches", _said(iter([])), [("end", None)], why="the end comes all the same")
check.equal("a batch of None", _said(iter([None])), [("batch", None), ("end", None)],
            why="what it is stands in the pair: a batch may be any object")
check.equal("making the second batch raises KeyError('row 7')", _said(_breaks(KeyError("row 7"))),
            [("batch", "a"), ("error", "KeyError('row 7')")],
            why="the exception itself, so that the training loop can raise it; and nothing after it")
check.equal("making the second batch raises a BaseException", _said(_breaks(_Odd("exit"))),
            [("batch", "a"), ("error", "_Odd('exit')")],
            why="sys.exit raises one that is no Exception: uncaught, it ends the thread in silence")
_stop, _asked = threading.Event(), []
_words = _said(_stops(_stop, _asked), _stop)
check.true("stop is set while batch 3 is being made: no batch after it, no end, no error",
           _words in ([("batch", _n) for _n in range(1, _last)] for _last in (3, 4)) and len(_asked) <= 4,
           why="nobody reads any more: work is wasted, and a put into a full queue never returns",
           got=_words if len(str(_words)) < 150 else f"{len(_words)} entries, the last {_words[-1]}")

# %% [markdown]
"""
The other half is a generator, and runs where the batches are used. It starts the thread, reads the queue,
and does what each pair says: hand out the batch, return, or raise the exception. `raise error` keeps the
traceback of the thread, so the line in the dataset that failed is in the report.

Then the clearing up. A generator that is dropped half way is *closed*: Python raises `GeneratorExit` at its
`yield`, and `finally` runs. Set `stop` there; take out what the queue still holds, so that a thread that
waits in `put` can go on and see it; and `join` the thread, which waits until it is gone. In that order: who
joins first waits for a thread that waits for him.

`threading.Thread(target=..., args=(...), daemon=True)` makes the thread, `.start()` starts it. A daemon
thread does not keep Python alive at the end of the program.
"""

# %% exercise="prefetched"
#| export
def prefetched(batches: Iterator, count: int) -> Iterator:
    """The same batches in the same order, up to `count` of them made ahead by a thread.

    An exception while making a batch is raised here, where batches are used, with its traceback.
    When this iterator ends, is closed or dropped half way, the thread ends before it does.
    Cost: memory for count + 1 batches (one is in the thread's hand) besides the one in use.

    >>> list(prefetched(iter("abc"), 2))
    ['a', 'b', 'c']
    """
    ### BEGIN SOLUTION
    ready, stop = queue.Queue(maxsize=count), threading.Event()
    thread = threading.Thread(target=_fill, args=(ready, batches, stop), daemon=True)
    thread.start()
    try:
        while True:
            kind, thing = ready.get()
            if kind == "end":
                return
            if kind == "error":
                raise thing
            yield thing
    finally:
        stop.set()
        while not ready.empty():
            ready.get()
        thread.join()
    ### END SOLUTION

# %% check="prefetched" points=6
def _noting(made, n=200):
    """n batches; notes each that is made, and in which thread."""
    for number in range(n):
        made.append((number, threading.get_ident()))
        yield number


def _run_ahead():
    """One batch is taken, then the loop is busy: how many batches get made, and by whom."""
    made = []
    iterator = prefetched(_noting(made), 3)
    first = next(iterator)
    inside = any(who == threading.get_ident() for _, who in made)
    ahead = not inside and _wait_until(lambda: len(made) >= 5, 0.5)
    time.sleep(0.02)
    report = first, ahead, len(made) <= 5, inside
    iterator.close()
    return report


def _left_behind(leave):
    """Threads that are still there after `leave(iterator)`, once they had the time to end."""
    before = set(threading.enumerate())
    leave(prefetched(_noting([]), 2))
    new = lambda: set(threading.enumerate()) - before
    return 0 if _wait_until(lambda: not new()) else len(new())


def _break_off(iterator):
    for number in iterator:
        if number == 3:
            break


def _caught(seen):
    """The names of the functions in the traceback of a failure, as the training loop sees it."""
    try:
        for batch in prefetched(_breaks(KeyError("row 7")), 2):
            seen.append(batch)
    except KeyError as error:
        return [frame.name for frame in traceback.extract_tb(error.__traceback__)]
    return "no KeyError"


_stuck = False
check.equal("two batches through prefetched(…, 5)", _within(lambda: list(prefetched(iter("ab"), 5))), list("ab"),
            why="fewer batches than places in the queue")
check.equal("five batches through prefetched(…, 2)", _within(lambda: list(prefetched(iter("abcde"), 2))),
            list("abcde"), why="all of them, in their order, and then it ends")
check.equal("a batch is taken, the loop is busy. First batch, at least 5 made, at most 5 made, any by the loop itself",
            _within(_run_ahead), (0, True, True, False),
            why="with count 3: one in use, three in the queue, one in the thread's hand, and no more than that")
_seen = []
_names = _within(lambda: _caught(_seen))
check.true("an exception in the thread arrives in the loop as it is, after the batches before it",
           isinstance(_names, list) and _seen == ["a"], got=_names if isinstance(_names, str) else _seen,
           why="a loop that is not told waits for ever, or believes that the epoch is over")
check.true("its traceback leads to the function that failed", "_breaks" in _names,
           why="raise the exception itself: a new one would not say where", got=_names)
check.equal("threads left behind by: a whole pass, a break, close()",
            [_within(lambda: _left_behind(_leave))
             for _leave in (list, _break_off, lambda iterator: (next(iterator), iterator.close()))], [0, 0, 0],
            why="each would keep its batches in memory and its files open, epoch after epoch")

# %% [markdown]
"""
### The loader

All parts are there. Read the class: the constructor keeps the settings, and `_batch` is the pipeline of the
Foundations for one batch: fetch, collate, transform. `__iter__` is one pass. Three methods are yours.

`len(loader)` is the number of batches in a pass: for 5 rows by 2 it is 3, or 2 with `drop_last`. Work it
out from the numbers: a plan of a million rows is too much to make for that.
"""

# %% given="DataLoader"
#| export
class DataLoader:
    """Batches of a dataset. Each `for` over it is one pass, an epoch, in an order of its own.

    Gives tuples of Tensors (B, ...). shuffle: a random order. drop_last: no shorter last batch.
    collate_fn: makes a batch of a list of items. prefetch: batches made ahead by a thread, 0 for
    none. transform: a function (array, generator) -> array for the first field of every batch.

    What is random depends on (seed, epoch) alone; `epoch` is the number of the next pass, counts up
    and may be set. With a `generator` each pass draws its seed from that instead: then whoever
    keeps the generator's state, a Trainer for one, keeps the loader's.
    Raises ValueError if batch_size is less than 1 or prefetch is negative.

    >>> [x.tolist() for x, y in DataLoader(TensorDataset(np.arange(3), np.zeros(3)), batch_size=2)]
    [[0.0, 1.0], [2.0]]
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int = 1,
        shuffle: bool = False,
        drop_last: bool = False,
        collate_fn: Callable | None = None,
        seed: int = 0,
        generator: np.random.Generator | None = None,
        prefetch: int = 0,
        transform: Callable | None = None,
    ) -> None:
        if batch_size < 1 or prefetch < 0:
            raise ValueError(
                f"DataLoader: batch_size {batch_size} must be 1 or more, prefetch {prefetch} 0 or more."
            )
        self.dataset, self.batch_size, self.shuffle = dataset, batch_size, shuffle
        self.drop_last, self.collate_fn = drop_last, collate_fn
        self.seed, self.generator, self.epoch = seed, generator, 0
        self.prefetch, self.transform = prefetch, transform

    def __iter__(self) -> Iterator[tuple]:
        """One pass. What it depends on is settled now, by whoever asks, and not in the thread."""
        batches = self._batches(self._next_key())
        return prefetched(batches, self.prefetch) if self.prefetch else batches

    def _batch(self, rows: np.ndarray, generator: np.random.Generator) -> tuple:
        """The batch of these rows: fetched, collated, its first field transformed."""
        if self.collate_fn is not None:
            batch = self.collate_fn([self.dataset[int(i)] for i in rows])
        else:
            batch = _fetch(self.dataset, rows)
            batch = default_collate(batch) if isinstance(batch, list) else batch
            batch = batch if isinstance(batch, tuple) else (batch,)
        if self.transform is not None:
            first, *rest = batch if isinstance(batch, (tuple, list)) else (batch,)
            images = first.data if isinstance(first, Tensor) else first
            batch = (Tensor(self.transform(images, generator)), *rest)
        if self.collate_fn is not None:
            return batch
        return tuple(Tensor(field) if isinstance(field, np.ndarray) else field for field in batch)

# %% exercise="DataLoader.__len__"
#| export
@method_of(DataLoader)
def __len__(self) -> int:
    """How many batches a pass has.

    >>> len(DataLoader(range(5), batch_size=2)), len(DataLoader(range(5), 2, drop_last=True))
    (3, 2)
    """
    ### BEGIN SOLUTION
    whole, rest = divmod(len(self.dataset), self.batch_size)
    return whole if self.drop_last or not rest else whole + 1
    ### END SOLUTION

# %% check="DataLoader.__len__" points=2
def _lengths(drop_last):
    return [len(DataLoader(range(rows), size, drop_last=drop_last))
            for rows, size in [(5, 2), (6, 2), (7, 4), (3, 8), (0, 4), (9, 1)]]


check.equal("batches of 5 rows by 2, 6 by 2, 7 by 4, 3 by 8, 0 by 4, 9 by 1", _lengths(False), [3, 3, 2, 1, 0, 9],
            why="a rest makes one more batch, no rest does not")
check.equal("the same with drop_last", _lengths(True), [2, 3, 1, 0, 0, 9], why="whole batches only")

# %% [markdown]
"""
Now the pass itself. `key` is what it depends on, (seed, epoch). Find the order of the rows, `epoch_order`
or just 0, 1, 2 …; cut it into a plan; and for each piece yield `self._batch(rows, generator)`.

The generator is for the transform, and needs a thought. One generator for the whole pass would do its work,
but then batch 90 depends on how many numbers the 89 before it have drawn, and could not be made alone, or
by another thread. So make a fresh one for every batch, of `(*key, number)`: three numbers that are the same
with and without prefetch.

Count the batches **from 1**. To NumPy the keys `(7, 3)` and `(7, 3, 0)` are the same, because short keys
are filled up with zeros: batch number 0 would draw the very numbers that made the order of the epoch.
"""

# %% exercise="DataLoader._batches"
#| export
@method_of(DataLoader)
def _batches(self, key: tuple[int, ...]) -> Iterator[tuple]:
    """The batches of the pass that `key` stands for, one after the other.

    Batch number 1, 2, … gets a generator of its own, made of (*key, number).
    """
    ### BEGIN SOLUTION
    rows = len(self.dataset)
    order = epoch_order(rows, key) if self.shuffle else np.arange(rows)
    plan = batch_plan(order, self.batch_size, self.drop_last)
    for number, indices in enumerate(plan, start=1):
        yield self._batch(indices, np.random.default_rng((*key, number)))
    ### END SOLUTION

# %% check="DataLoader._batches" points=5
def _rows(key, **options):
    """The rows of each batch of a pass over 10 rows by 4."""
    data = TensorDataset(np.arange(10.0), np.arange(10.0) * 10)
    return [y.data.astype(int).tolist() for _, y in DataLoader(data, 4, **options)._batches(key)]


def _draws(key, first=1, **options):
    """The first number that the transform of each batch draws; batch 1 may draw more."""
    drawn = []

    def transform(x, generator):
        drawn.append(generator.random())
        if len(drawn) == 1:
            generator.random(first)
        return x

    loader = DataLoader(TensorDataset(np.arange(10.0), np.arange(10.0)), 4, transform=transform, **options)
    return (list(loader._batches(key)), drawn)[1]


check.equal("10 rows by 4, without shuffle", _rows((7, 0)),
            [[0, 10, 20, 30], [40, 50, 60, 70], [80, 90]],
            why="0, 1, 2, … in order; the second field is 10 times the row")
check.equal("10 rows by 4, drop_last", [len(_b) for _b in _rows((7, 0), drop_last=True)], [4, 4],
            why="the plan leaves out the batch of 2")
check.equal("10 rows by 4, shuffle, key (7, 0)", sum(_rows((7, 0), shuffle=True), []),
            [int(10 * _i) for _i in epoch_order(10, (7, 0))], why="the rows in the order that your epoch_order gives")
_pairs_kept = all((10 * _x.data == _y.data).all() for _x, _y in
                  DataLoader(TensorDataset(np.arange(10.0), np.arange(10.0) * 10), 4, shuffle=True)._batches((7, 0)))
check.true("the fields of a row stay together", _pairs_kept, why="both are fetched by the same row numbers")
check.equal("numbers drawn by: 3 batches, all different?", (len(_draws((7, 0))), len(set(_draws((7, 0))))), (3, 3),
            why="a generator with the same seed for each batch would shift all batches alike")
check.equal("are they repeated by: the same key, another epoch",
            [_draws((7, 0)) == _draws((7, 0)), any(_a == _b for _a, _b in zip(_draws((7, 0)), _draws((7, 1))))],
            [True, False], why="made of seed, epoch and batch number, and of nothing else")
check.true("batch 2 draws the same numbers if batch 1 has drawn more",
           _draws((7, 0))[1:] == _draws((7, 0), first=50)[1:],
           why="a fresh generator per batch: then any batch can be made without the ones before it")
check.true("batch 1 does not draw the numbers that made the order",
           np.random.default_rng((7, 0)).random() not in _draws((7, 0)),
           why="(7, 0) and (7, 0, 0) are one key to NumPy: count the batches from 1")

# %% [markdown]
"""
Last: which pass is this? `_next_key` gives the key of the pass that begins, and counts.

- Without a generator the key is `(self.seed, self.epoch)`.
- With one, the key is one number drawn from it, `(int(self.generator.integers(2**32)),)`. The generator
  moves on, so the next pass is another one. The Trainer of module 07 promised: give its generator to a
  loader, and the loader's order is in the checkpoint, too. This line keeps the promise.
- In both cases `self.epoch` goes up by one, **now**, when the pass begins. Counted at its end, a loop that
  always breaks off after 100 batches would see the same 100 batches for ever.
"""

# %% exercise="DataLoader._next_key"
#| export
@method_of(DataLoader)
def _next_key(self) -> tuple[int, ...]:
    """What the pass that begins depends on: (seed, epoch), or a number drawn from `generator`.

    Counts the pass: `epoch` is one more afterwards.
    """
    ### BEGIN SOLUTION
    key = (self.seed, self.epoch)
    if self.generator is not None:
        key = (int(self.generator.integers(2**32)),)
    self.epoch += 1
    return key
    ### END SOLUTION

# %% check="DataLoader._next_key" points=4
def _loader(**options):
    data = TensorDataset(np.arange(20.0).reshape(20, 1, 1, 1), np.arange(20))
    return DataLoader(data, 6, shuffle=True, **options)


def _pass(loader):
    return [(x.data.ravel().tolist(), y.data.tolist()) for x, y in loader]


_it = _loader(seed=7)
check.equal("the keys of two passes with seed 7", [_it._next_key(), _it._next_key()], [(7, 0), (7, 1)],
            why="seed and number of the pass, from 0")
check.equal("epoch afterwards", _it.epoch, 2, why="the number of the next pass")
_it.epoch = 5
check.equal("the key after epoch was set to 5", _it._next_key(), (7, 5), why="so a run resumes at epoch 5")
_one, _two = (_loader(generator=np.random.default_rng(3)) for _ in range(2))
_keys = [_one._next_key(), _one._next_key()]
check.equal("two keys drawn from a generator: how many numbers, does the generator move on, are they different",
            ([len(_k) if isinstance(_k, tuple) else type(_k).__name__ for _k in _keys],
             _one.generator.random() != np.random.default_rng(3).random(), _keys[0] != _keys[1]), ([1, 1], True, True),
            why="one number, drawn: the next pass then draws another one")
check.equal("epoch with a generator, after two passes", _one.epoch, 2, why="passes are counted in any case")
_two.epoch, _two.seed = 9, 9
check.equal("the same generator, but another epoch and seed", [_two._next_key(), _two._next_key()] == _keys, True,
            why="the generator alone decides: a checkpoint that has its state has the loader's order")
_three = _loader(generator=np.random.default_rng(3))
_three._next_key()
_state = _three.generator.bit_generator.state
_later = _three._next_key()
_three.generator.bit_generator.state = _state
check.true("a generator set back gives the same pass again", _three._next_key() == _later,
           why="whatever the key is made of must come from the generator's state")
_plain, _ahead = (_loader(seed=2, prefetch=_k, transform=RandomHorizontalFlip()) for _k in (0, 3))
_passes = [_pass(_plain), _pass(_plain)]
check.true("two passes of a loader come in two orders", _passes[0] != _passes[1], why="epoch 0 and epoch 1")
check.true("with prefetch=3 both passes are the same, batch for batch", [_pass(_ahead), _pass(_ahead)] == _passes,
           why="the thread changes when a batch is made, never what is in it")
_resumed = _loader(seed=2, transform=RandomHorizontalFlip())
_resumed.epoch = 1
check.true("a new loader with epoch = 1 gives the second pass", _pass(_resumed) == _passes[1],
           why="order and transforms depend on seed and epoch alone")
_broken, _second = _loader(seed=2), _loader(seed=2)
next(iter(_broken))
_second.epoch = 1
check.true("a pass that was broken off counts", _pass(_broken) == _pass(_second),
           why="counted when it begins: else a loop with a break would see the same batches for ever")

# %% [markdown]
"""
### Reading files: trust nothing

Data files arrive by the net, are copied from disks to sticks, are cut off when a disk is full. The reader
is the last one who can notice. Its duty: give the right array, or an error that names the file. Never a
wrong array.

MNIST comes in the *idx* format, whose header tells what is inside:

```
00 00 08 03             two zeros, 08 = bytes, 3 axes
00 00 ea 60             60,000      each size in 4 bytes, big end first:
00 00 00 1c             28          0 * 16777216 + 0 * 65536 + 234 * 256 + 96 = 60,000
00 00 00 1c             28
…                       60,000 * 28 * 28 bytes, one per pixel
```

`_content` (given) reads a file, unzips it, and compares it with what the publisher published, if that is
known: its size and its SHA-256 checksum. What remains for `read_idx` is to believe nothing in the header:

- it must start with `00 00 08`, then 1 to 4 axes: else this is some other file (a web page that says
  "please log in", often);
- the values after the header must be exactly as many as the sizes announce, neither fewer (cut off) nor
  more.

`raw[i]` is a number, `raw[i:j]` is bytes, `int.from_bytes(raw[i:j], "big")` is a number again, and
`np.frombuffer(raw, np.uint8, offset=...)` an array without copying. Such an array cannot be written to, so
hand out a `.copy()`.
"""

# %% given="files_for_the_checks"
def _files(contents, read):
    """Each content in a file of its name, read: the array, or the error with the folder left out."""
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, content in contents.items():
            path = Path(folder, name)
            path.write_bytes(content)
            try:
                results[name] = read(path)
            except NotImplementedError:
                raise
            except Exception as error:  # the learner's error is the result that is compared
                results[name] = f"{type(error).__name__}: {error}".replace(f"{folder}/", "")
    return results

# %% given="content"
#| export
class DataError(ValueError):
    """A data file is missing, or not what it should be. Two lines: what, then what helps.

    >>> print(DataError("a.gz: cut off"))
    a.gz: cut off
    Next: tito data verify   (names what is damaged; tito data fetch NAME gets it again)
    """

    def __init__(self, what: str, next: str = "") -> None:
        advice = "tito data verify   (names what is damaged; tito data fetch NAME gets it again)"
        super().__init__(f"{what}\nNext: {next or advice}")


def _content(path: str | Path, published: object = None) -> bytes:
    """The bytes of a file, unzipped if its name ends in .gz.

    published: None, or an object whose `size` and `sha256` (None: unknown) the bytes must have.
    Raises DataError naming the file if it is missing, damaged, or not the published one.
    """
    path = Path(path)
    try:
        raw = path.read_bytes()
        raw = gzip.decompress(raw) if path.suffix == ".gz" else raw
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such file") from None
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cut off or damaged ({error})") from None
    if published is None:
        return raw
    if len(raw) != published.size:
        raise DataError(
            f"{path}: {len(raw):,} bytes, but the published file has {published.size:,}. "
            "Pass verify=False if this is a file of your own."
        )
    if published.sha256 and hashlib.sha256(raw).hexdigest() != published.sha256:
        raise DataError(f"{path}: its checksum (sha256) is not that of the published file")
    return raw

# %% exercise="read_idx"
#| export
def read_idx(path: str | Path, published: object = None) -> np.ndarray:
    """The uint8 array in an idx file, zipped (.gz) or not; its shape stands in its header.

    Raises DataError naming the file if it is missing, damaged, no idx file of bytes, or holds more
    or fewer values than its header announces. Source: LeCun, Cortes & Burges, the MNIST database.
    """
    raw = _content(path, published)
    ### BEGIN SOLUTION
    axes = raw[3] if len(raw) > 3 else 0
    if raw[:3] != b"\0\0\x08" or not 1 <= axes <= 4:
        raise DataError(f"{path}: not an idx file of bytes, it starts with {raw[:4].hex(' ')}")
    start = 4 + 4 * axes
    shape = tuple(int.from_bytes(raw[i : i + 4], "big") for i in range(4, start, 4))
    if len(raw) - start != math.prod(shape):
        raise DataError(f"{path}: announces shape {shape} and holds {len(raw) - start:,} values")
    return np.frombuffer(raw, np.uint8, offset=start).reshape(shape).copy()
    ### END SOLUTION

# %% check="read_idx" points=4
def _idx(shape, kind=8, values=None):
    """The bytes of an idx file with values 0, 1, 2, …"""
    head = bytes([0, 0, kind, len(shape)]) + b"".join(n.to_bytes(4, "big") for n in shape)
    return head + bytes(i % 251 for i in range(math.prod(shape) if values is None else values))


_read = _files({"images.idx": _idx((2, 300, 4)), "images.idx.gz": gzip.compress(_idx((2, 3, 4))),
                "labels.idx": _idx((5,))}, read_idx)
check.equal("shapes read from images.idx, images.idx.gz, labels.idx", [np.shape(_r) if not isinstance(_r, str) else _r
            for _r in _read.values()], [(2, 300, 4), (2, 3, 4), (5,)],
            why="one size per axis, 4 bytes each, big end first: 300 is 00 00 01 2c")
check.close("what labels.idx holds", _read["labels.idx"], [0, 1, 2, 3, 4],
            why="the values after the header, all of them")
check.close("the last row of images.idx.gz", _read["images.idx.gz"][-1][-1], [20, 21, 22, 23],
            why="rows last, as they lie in the file")
check.equal("type, and whether it can be written to",
            (str(_read["labels.idx"].dtype), _read["labels.idx"].flags.writeable), ("uint8", True),
            why="one byte per value; frombuffer alone gives an array that is read-only")
_bad = {"cut_off.idx": _idx((5, 3))[:-1], "too_long.idx": _idx((5, 3)) + b"x", "empty.idx": b"",
        "header_only.idx": _idx((5,))[:6], "floats.idx": _idx((5,), kind=13, values=20),
        "page.idx": b"<!DOCTYPE html><html>Please log in</html>",
        "no_axes.idx": bytes([0, 0, 8, 0]), "cut_off.idx.gz": gzip.compress(_idx((50, 3)))[:-9]}
for _name, _result in _files(_bad, read_idx).items():
    check.true(f"{_name} gives a DataError that names it",
               isinstance(_result, str) and _result.startswith("DataError") and _name in _result,
               got=_result if isinstance(_result, str) else f"an array of shape {np.shape(_result)}",
               why="never a wrong array, and never an error that leaves the reader to guess which of 12 files it was")

# %% [markdown]
"""
CIFAR-10 has no header at all. A file is records of 3,073 bytes, one after the other:

```
1 byte      label, 0 to 9: airplane, automobile, bird, cat, deer, dog, frog, horse, ship, truck
1,024       red, row by row from the top
1,024       green
1,024       blue
```

So colours come first and pixels last, `(3, 32, 32)`, which is the order your networks want, `(C, H, W)`.
What can be tested without a header: the file is whole records, at least one, and no label is above 9. The
second catches more than it seems to: if the file is anything else, every 3,073rd byte is some byte, and
most bytes are above 9.
"""

# %% exercise="read_cifar10_batch"
#| export
def read_cifar10_batch(path: str | Path, published: object = None) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, 3, 32, 32) and labels (N,), both uint8, from a binary file of CIFAR-10.

    Raises DataError naming the file if it is missing, damaged, not whole records of 3,073 bytes,
    or has a label above 9. Source: Krizhevsky 2009, the binary version.
    """
    raw, size = _content(path, published), 1 + 3 * 32 * 32
    ### BEGIN SOLUTION
    if not raw or len(raw) % size:
        raise DataError(f"{path}: {len(raw):,} bytes are not whole records of {size:,}")
    records = np.frombuffer(raw, np.uint8).reshape(-1, size)
    labels, images = records[:, 0].copy(), records[:, 1:].reshape(-1, 3, 32, 32)
    if labels.max() > 9:
        raise DataError(f"{path}: label {labels.max()} is above 9, this is not CIFAR-10's layout")
    return images, labels
    ### END SOLUTION

# %% check="read_cifar10_batch" points=4
_images = np.random.default_rng(0).integers(0, 256, (4, 3, 32, 32), dtype=np.uint8)
_labels = np.array([3, 9, 0, 7], dtype=np.uint8)
_raw = b"".join(bytes([_l]) + _i.tobytes() for _i, _l in zip(_images, _labels))
_result = _files({"four.bin": _raw}, read_cifar10_batch)["four.bin"]
check.true("a file of four records can be read", not isinstance(_result, str),
           got=_result if isinstance(_result, str) else "it can")
check.equal("shapes of images and labels", [np.shape(_a) for _a in _result], [(4, 3, 32, 32), (4,)],
            why="four records, colours first")
check.equal("labels", [int(_l) for _l in np.ravel(_result[1])], [3, 9, 0, 7], why="the first byte of each record")
check.equal("the first red pixels of image 0, from the top left to the right",
            [int(_p) for _p in _result[0].ravel()[:4]], [int(_p) for _p in _images.ravel()[:4]],
            why="a plane is 32 rows of 32 bytes, from the top")
check.true("all pixels are where they belong", np.array_equal(_result[0], _images),
           why="a plane of red, one of green, one of blue, each row by row")
check.equal("types", [str(_a.dtype) for _a in _result], ["uint8", "uint8"], why="one byte per value")
_bad = {"cut_off.bin": _raw[:-1], "too_long.bin": _raw + b"\0", "empty.bin": b"",
        "label_10.bin": _raw[:3073] + bytes([10]) + _raw[3074:],
        "page.bin": (b"<html>Please log in</html>" * 999)[:3073]}
for _name, _result in _files(_bad, read_cifar10_batch).items():
    check.true(f"{_name} gives a DataError that names it",
               isinstance(_result, str) and _result.startswith("DataError") and _name in _result,
               got=_result if isinstance(_result, str) else f"arrays of shapes {[np.shape(_a) for _a in _result]}",
               why="a record of 3,073 bytes is all the structure there is: test what can be tested")

# %% [markdown]
"""
With the two readers, all of the course's data sets are a few lines each. They are given. Where a data set
lies on this machine, and what its files must hold, `tito data` knows; `folder=` reads from a folder of your
own, and `verify=False` takes files that are not the published ones, Fashion-MNIST's for example, which have
MNIST's names and format.
"""

# %% given="loaders"
#| export
class Splits(NamedTuple):
    """Images to train on and to test on, uint8 (N, ...), and their labels, uint8 (N,)."""

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray


class Talks(NamedTuple):
    """Pairs (question, answer) to train on, to choose models with, and to test on."""

    train: list[tuple[str, str]]
    validation: list[tuple[str, str]]
    test: list[tuple[str, str]]


def _located(name: str, folder: str | Path | None, verify: bool) -> tuple[Path, dict]:
    """The folder of a data set; and by file name what its files must hold, if that is asked."""
    from tito import data  # where files are and what was published is known there, once

    try:
        where = data.path(name) if folder is None else Path(folder)
    except data.DataError as error:
        raise DataError(error.what, error.next) from None
    return where, {file.name: file for file in data.find(name).files} if verify else {}


def load_tinydigits(folder: str | Path | None = None, verify: bool = True) -> Splits:
    """TinyDigits: images (4000, 8, 8) and (1000, 8, 8) of ink from 0 to 16, labels 0 to 9."""
    where, published = _located("tinydigits", folder, verify)
    path = where / "tinydigits.npz"
    raw = _content(path, published.get(path.name))
    try:
        with np.load(io.BytesIO(raw), allow_pickle=False) as arrays:
            return Splits(*(arrays[name] for name in Splits._fields))
    except (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: not TinyDigits ({error})") from None


def load_mnist(folder: str | Path | None = None, verify: bool = True) -> Splits:
    """MNIST: images (60000, 28, 28) and (10000, 28, 28) of ink from 0 to 255, labels 0 to 9."""
    where, published = _located("mnist", folder, verify)
    names = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
    paths = [where / f"{name}-ubyte.gz" for name in names]
    splits = Splits(*(read_idx(path, published.get(path.name)) for path in paths))
    for images, labels in (splits[:2], splits[2:]):
        if images.ndim != 3 or labels.shape != images.shape[:1]:
            shapes = f"images {images.shape}, labels {labels.shape}"
            raise DataError(f"{where}: {shapes} do not belong together")
    return splits


def load_cifar10(folder: str | Path | None = None, verify: bool = True) -> Splits:
    """CIFAR-10: images (50000, 3, 32, 32) and (10000, 3, 32, 32) of bytes, labels 0 to 9."""
    where, published = _located("cifar10", folder, verify)
    names = [*(f"data_batch_{n}.bin" for n in range(1, 6)), "test_batch.bin"]
    parts = [read_cifar10_batch(where / name, published.get(name)) for name in names]
    images, labels = (np.concatenate(arrays) for arrays in zip(*parts[:-1]))
    return Splits(images, labels, *parts[-1])


def _pairs(path: Path, published: object) -> list[tuple[str, str]]:
    """(question, answer) of every line of a file of JSON objects, one per line."""
    pairs = []
    for number, line in enumerate(_content(path, published).splitlines(), start=1):
        try:
            talk = json.loads(line)
            pairs.append((talk["question"], talk["answer"]))
        except (ValueError, KeyError, TypeError) as error:
            where = f"{path}, line {number}"
            raise DataError(f"{where}: no question with its answer ({error})") from None
    return pairs


def load_tinytalks(folder: str | Path | None = None, verify: bool = True) -> Talks:
    """TinyTalks: questions and answers as texts, in train, validation and test."""
    where, published = _located("tinytalks", folder, verify)
    paths = [where / f"{name}.jsonl" for name in Talks._fields]
    return Talks(*(_pairs(path, published.get(path.name)) for path in paths))


def load_shakespeare(folder: str | Path | None = None, verify: bool = True) -> str:
    """Tiny Shakespeare: plays in one text of about a million characters."""
    where, published = _located("shakespeare", folder, verify)
    path = where / "input.txt"
    try:
        return _content(path, published.get(path.name)).decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not a text in UTF-8 ({error})") from None

# %% [markdown]
"""
## Use: one digit, many times

One image of TinyDigits, as five epochs see it: moved by up to a pixel, with a small square blanked. And a
damaged file, to see what you wrote the readers for.
"""

# %% demo="one_digit_many_times"
digits = load_tinydigits()
one = TensorDataset(digits.train_images[:1, None], digits.train_labels[:1])  # (1, 1, 8, 8)
loader = DataLoader(one, seed=5, transform=Compose(RandomCrop(1), Cutout(2)))
views = [digits.train_images[0]]
for _ in range(5):  # five passes of one batch of one image
    views += [x.data[0, 0] for x, _ in loader]
print("   ".join(f"{name:16}" for name in ["as it is", *(f"epoch {e}" for e in range(5))]))
for row in range(8):
    print("   ".join("".join(2 * " .:-=+*#@"[int(ink) // 2] for ink in view[row]) for view in views))

# %% demo="damaged_files"
with tempfile.TemporaryDirectory() as folder:
    whole = bytes([0, 0, 8, 3, 0, 0, 0, 10, 0, 0, 0, 28, 0, 0, 0, 28]) + bytes(10 * 28 * 28)
    damaged = {"whole": whole, "cut off": whole[:5000], "a web page": b"<!DOCTYPE html>" + whole,
               "of floats": whole[:2] + b"\x0d" + whole[3:]}
    for name, content in damaged.items():
        path = Path(folder, f"{name.replace(' ', '_')}.idx")
        path.write_bytes(content)
        try:
            print(f"{name:11} array of shape {read_idx(path).shape}")
        except DataError as error:
            print(f"{name:11} {str(error).splitlines()[0].replace(folder, '…')}")

# %% [markdown]
"""
Now with the Trainer. It takes anything that gives batches, so a loader goes in where the pair `(x, y)`
went. Training images are changed at random; validation images are **not**: the question is about the
pictures as they are. The loader draws its orders from the Trainer's generator, so the checkpoint of module
07 holds the loader as well: five epochs, a new process, five more.
"""

# %% demo="train_and_resume"
mean, std = digits.train_images.mean(), digits.train_images.std()
train = TensorDataset(digits.train_images[:, None], digits.train_labels)
test = TensorDataset(digits.test_images[:, None], digits.test_labels)


def digits_run(seed, *changes):
    manual_seed(seed)
    net = Sequential(Flatten(), Linear(64, 96), ReLU(), Linear(96, 10))
    run = Trainer(net, CrossEntropyLoss(), Adam(net.parameters(), lr=0.002), seed=seed)
    loader = DataLoader(train, 64, shuffle=True, drop_last=True, prefetch=2, generator=run.generator,
                        transform=Compose(Normalize(mean, std), *changes))
    return run, loader


still = DataLoader(test, 500, transform=Normalize(mean, std))  # nothing random
whole, loader = digits_run(0, Cutout(2))
whole.fit(loader, 10, still)
half, loader = digits_run(0, Cutout(2))
half.fit(loader, 5, still)
with tempfile.TemporaryDirectory() as folder:
    half.save(Path(folder, "digits.ckpt"))
    resumed, loader = digits_run(7, Cutout(2))
    resumed.load(Path(folder, "digits.ckpt"))
resumed.fit(loader, 5, still)
for epoch, score in enumerate(whole.history["val_accuracy"], start=1):
    print(f"epoch {epoch:2}  accuracy on test images {score:.3f} |{'#' * round(200 * max(score - 0.8, 0))}")
print("5 + 5 epochs give the history of 10:", resumed.history == whole.history)

# %% [markdown]
"""
Which changes are good ones? Guess the order of these four before you run them: nothing, a small square
blanked, the mirror, a shift by up to one pixel.
"""

# %% demo="which_changes_help"
for name, *changes in [("nothing",), ("Cutout(2)", Cutout(2)), ("RandomHorizontalFlip()", RandomHorizontalFlip()),
                       ("RandomCrop(1)", RandomCrop(1))]:
    run, loader = digits_run(0, *changes)
    run.fit(loader, 10)
    score = run.evaluate(still)["accuracy"]
    print(f"{name:24} {score:.3f} |{'#' * round(200 * max(score - 0.8, 0))}")

# %% [markdown]
"""
A change helps if the test could contain its result. Nobody writes digits mirrored. And a digit of
TinyDigits fills its frame of 8 by 8, always in the middle: one pixel of shift is an eighth of the picture,
and the small network spends its weights on positions that never occur. On photographs of 32 by 32, where a
horse may stand anywhere, both changes are the standard recipe. You will see in milestone 1998.
"""

# %% [markdown]
"""
Texts have different lengths, and `default_collate` refuses them. Here are questions of TinyTalks, and a
`collate_fn` that pads, in five lines. It pads to the longest text **of its batch**, no further, and the
lengths go along, so that nobody takes the padding for text.
"""

# %% demo="texts_of_different_lengths"
questions = [question for question, _ in load_tinytalks().train[:5]]


def padded(texts):
    """Codes of the characters, 0 after the end: (B, longest), and how long each text is: (B,)."""
    codes = np.zeros((len(texts), max(map(len, texts))))
    for row, text in zip(codes, texts):
        row[: len(text)] = [ord(letter) for letter in text]
    return Tensor(codes), Tensor([len(text) for text in texts])


for codes, lengths in DataLoader(questions, 2, collate_fn=padded):
    print(f"batch of shape {codes.shape}, lengths {lengths.tolist()}")
    for row in codes.data.astype(int):
        print("   |" + "".join(chr(code) if code else "." for code in row) + "|")

# %% [markdown]
"""
## Measure: where the step's time goes

The first demo again, in four ways: pictures one by one in Python, or a batch at a time by your transforms;
and both with two batches prefetched. The network is the same, and its matrix products run on one core.

Before you run it: which of the two changes helps more? And what is the least that a step can take?
"""

# %% demo="where_the_time_goes"
class OneByOne:
    """The pictures of the first demo: every item is made by itself, in Python."""

    def __len__(self):
        return len(pictures)

    def __getitem__(self, i):
        return one_picture(i), kinds[i]


def timed_pass(loader, learn):
    """Milliseconds per step of one pass: waiting for the batch, and in all."""
    waiting, begin = 0.0, time.perf_counter()
    batches = iter(loader)
    while True:
        asked = time.perf_counter()
        batch = next(batches, None)
        waiting += time.perf_counter() - asked
        if batch is None:
            break
        learn(*batch)
    return 1e3 * (time.perf_counter() - begin) / len(loader), 1e3 * waiting / len(loader)


def best_pass(dataset, prefetch, transform=None):
    """The quickest of five passes, after one to warm up."""
    loader = DataLoader(dataset, 128, shuffle=True, prefetch=prefetch, transform=transform)
    learn = small_net()
    return min([timed_pass(loader, learn) for _ in range(6)][1:])


whole_batches = TensorDataset(pictures, kinds)
augment = Compose(RandomHorizontalFlip(), RandomCrop(4), Normalize(127.5, 64.0))
longest = None
print("per step                         in all    waiting")
for name, dataset, transform in [("one by one", OneByOne(), None), ("whole batches", whole_batches, augment)]:
    for prefetch in (0, 2):
        total, waiting = best_pass(dataset, prefetch, transform)
        longest = longest or total
        bar = "." * round(50 * waiting / longest) + "#" * round(50 * (total - waiting) / longest)
        print(f"{name:14} prefetch={prefetch}   {total:6.2f} ms   {waiting / total:5.0%}  |{bar}")

# %% [markdown]
"""
Doing whole batches removes work. Prefetch removes none: it only does it at a time when the network is busy
anyway, and for that somebody must be idle. Who? A core, to begin with; if other programs keep yours busy,
you have seen no gain just now. And there is a second condition. Python lets only **one** thread run Python
code at any moment: whoever runs holds the *global interpreter lock*, the GIL. NumPy lets go of it inside
its large operations, and so does everything that waits for a disk or a clock.

Here is each kind of work twice, one after the other and in two threads. Guess the three ratios.
"""

# %% demo="two_at_a_time"
matrix = np.random.default_rng(0).normal(size=(500, 500)).astype(np.float32)
work = {"Python": lambda: sum(i * i for i in range(400_000)),
        "NumPy": lambda: [matrix @ matrix for _ in range(8)],
        "waiting": lambda: time.sleep(0.03)}


def seconds(call):
    """The shortest of five times."""
    times = []
    for _ in range(5):
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return min(times)


def in_two_threads(task):
    threads = [threading.Thread(target=task) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


for name, task in work.items():
    turns, together = seconds(lambda: (task(), task())), seconds(lambda: in_two_threads(task))
    print(f"{name:8} twice, in turns {turns * 1e3:6.1f} ms   in two threads {together * 1e3:6.1f} ms   "
          f"{turns / together:4.2f} times as fast")

# %% [markdown]
"""
So two threads overlap as far as at least one of them is inside NumPy or waiting, **and** a core is free for
it. That is a condition, not a promise. Two cases in which you may guess first what prefetch brings: the
matrix products use all cores, NumPy's default; and the batches come from a slow disk (here: a nap of 8 ms
each).
"""

# %% demo="when_prefetch_helps"
class SlowDisk(TensorDataset):
    """A dataset that takes 8 ms to read a batch, in which nobody computes anything."""

    def __getitems__(self, indices):
        time.sleep(0.008)
        return super().__getitems__(indices)


cases = [("products on one core", whole_batches, 1), ("products on all cores", whole_batches, os.cpu_count()),
         ("one core, a slow disk", SlowDisk(pictures, kinds), 1)]
print("per step                without       prefetch=2                         waiting")
for name, dataset, threads in cases:
    with threadpool_limits(threads):
        (alone, wait), (ahead, waits) = (best_pass(dataset, k, augment) for k in (0, 2))
    print(f"{name:22} {alone:6.2f} ms  ->  {ahead:6.2f} ms   {alone / ahead:4.2f} times as fast   "
          f"{wait / alone:4.0%} -> {waits / ahead:4.0%}")

# %% [markdown]
"""
Compare the last two columns. Where the products use all cores, the *waiting* may fall and the *step* gain
nothing: the thread takes its time from the network's. **The share of waiting is a symptom; the time per
step is the truth.** With the slow disk a step cannot become shorter than the nap. And no case does better
than the rule of the Foundations, the larger of the two times. On a machine with more cores, or a busier
one, the numbers are others: measure yours.

### Rows, columns and bytes

The loader jumps to 128 places of the data set for every batch. Is that bad? Memory does not come in bytes
but in *cache lines* of 64 bytes on nearly all machines. Guess, for a batch of 128 pictures: rows next to
each other; rows from random places; the same one by one in Python; and pictures stored as *columns* of one
large array, byte k of all pictures side by side.
"""

# %% demo="rows_and_columns"
many = np.ones((16384, 3072), dtype=np.uint8)  # 50 MB, more than most caches hold
turned = np.ascontiguousarray(many.T)  # (3072, 16384): a picture is a column
near, far = np.arange(16384), np.random.default_rng(0).permutation(16384)
ways = [("rows, neighbours", lambda rows: many[rows], near, 128),
        ("rows, random places", lambda rows: many[rows], far, 128),
        ("the same, one by one", lambda rows: np.stack([many[i] for i in rows]), far, 128),
        ("columns, neighbours", lambda rows: np.ascontiguousarray(turned[:, rows].T), near, 16),
        ("columns, random places", lambda rows: np.ascontiguousarray(turned[:, rows].T), far, 16)]
fastest = None
for name, gather, order, batches in ways:
    times = []
    for _ in range(3):
        begin = time.perf_counter()
        for start in range(0, 128 * batches, 128):
            gather(order[start : start + 128])
        times.append((time.perf_counter() - begin) / batches)
    fastest = fastest or min(times)
    print(f"{name:24} {min(times) * 1e6:8.1f} µs per batch   {min(times) / fastest:6.1f} times the first")

# %% [markdown]
"""
A picture of 3,072 bytes that lie together is 48 cache lines, wherever it lies: random *rows* are a small
factor behind neighbours, because the processor cannot fetch the next one before it is asked. A picture as a
column is 3,072 bytes in 3,072 different lines, and of every 64 bytes that travel, one is used. So data sets
are stored with the item first, `(N, ...)`; that is why your shapes begin with N.

The same holds for bytes against floats. `pictures` are uint8: the gather moves a quarter of what float32
would move, and CIFAR-10's training images take 154 MB of memory instead of 614 MB. They become floats late,
in `Normalize`.

## Break: the test set that leaks

TinyDigits' 4,000 training images are 797 scans and variants of those scans. Make a validation set of them
by `random_split`, and see how well the simplest of all learners does, which just looks for the nearest
training image and says its label. Then the same with a split by *scan*: a scan and all its variants on the
same side. The test images are other scans altogether.

To be sure, the whole thing once more with **random labels**: each scan gets a digit by dice, its variants
the same one. Now there is nothing to learn, and an honest score is 10 %.
"""

# %% demo="the_leak"
from tito import data as course_data

images = (digits.train_images.reshape(-1, 64) / 16).astype(np.float32)
scan = np.load(course_data.path("tinydigits") / "tinydigits.npz")["train_source"]


def nearest_label(known, labels, new):
    """For each row of `new` the label of the nearest row of `known`."""
    return labels[((known**2).sum(axis=1) - 2 * new @ known.T).argmin(axis=1)]


by_image = [part.indices for part in random_split(images, [0.8, 0.2])]
some, others = random_split(np.unique(scan), [0.8, 0.2])
by_scan = [np.flatnonzero(np.isin(scan, np.unique(scan)[part.indices])) for part in (some, others)]
dice = np.random.default_rng(5).integers(0, 10, 2000)[scan]
test_rows = (digits.test_images.reshape(-1, 64) / 16).astype(np.float32)
print("split by     validation   test images   validation with random labels")
for name, (rows, held_out) in [("image", by_image), ("scan", by_scan)]:
    scores = []
    for labels in (digits.train_labels, dice):
        guesses = nearest_label(images[rows], labels[rows], images[held_out])
        scores.append((guesses == labels[held_out]).mean())
    guesses = nearest_label(images[rows], digits.train_labels[rows], test_rows)
    print(f"{name:9} {scores[0]:13.1%} {(guesses == digits.test_labels).mean():13.1%} {scores[1]:20.1%}")

# %% [markdown]
"""
Split by image, the learner "knows" more than half of a set of dice: it has seen sisters of the held-out
images. On real labels the same leak looks like a splendid score, and nothing crashes. The symptom is a
validation score that is better than any test on fresh data. The cure is to split **first**, by whatever
belongs together (scan, patient, author, day), and make variants afterwards. That is what your `transform`
does: it works on batches of the training part, and never on the validation part's.

The second classic is one line in the wrong place: the loader is built **inside** the loop over epochs.
Count how many different orders, and how many different versions of image 0, ten epochs see.
"""

# %% demo="built_in_the_loop"
def new_loader():
    return DataLoader(TensorDataset(digits.train_images[:64, None], np.arange(64)), 16, shuffle=True,
                      transform=RandomCrop(2))


def seen_in(loaders):
    """How many orders, and how many versions of image 0, the passes of these loaders show."""
    orders, versions = set(), set()
    for loader in loaders:
        batches = list(loader)
        orders.add(tuple(number for _, y in batches for number in y.tolist()))
        versions |= {image.tobytes() for x, y in batches for image, n in zip(x.data, y.data) if n == 0}
    return len(orders), len(versions)


kept = new_loader()
print("10 epochs                      orders   versions of image 0")
for name, loaders in [("one loader, kept", [kept] * 10),
                      ("a new one in every epoch", [new_loader() for _ in range(10)])]:
    orders, versions = seen_in(loaders)
    print(f"{name:28} {orders:8} {versions:12}")

# %% [markdown]
"""
A new loader begins at epoch 0, every time: the same order, the same shifts. The network trains as if there
were no random changes at all, and the only symptom is that augmentation "does not help". Build the loader
once.

## Reflect

Predict with pencil and paper, write the number into the cell, and the check says whether it holds.

**1.** CIFAR-10 has 50,000 training images. With `batch_size=128` and `drop_last=True`, how many of them
does an epoch not show?
"""

# %% exercise="predict.left_out"
### BEGIN SOLUTION
left_out = 50_000 % 128
### END SOLUTION

# %% check="predict.left_out" points=1
check.prediction("images that an epoch leaves out", left_out, "ODA=", unit="images", rel=1e-4,
                 why="count the whole batches first; what they do not use is left")

# %% [markdown]
"""
**2.** Making a batch takes 4 ms, a training step 6 ms, and both can run at the same time without hindering
each other. How many milliseconds do 100 steps take with `prefetch=2`, from the first request to the end of
the last step?
"""

# %% exercise="predict.pass_milliseconds"
### BEGIN SOLUTION
pass_milliseconds = 4 + 100 * 6
### END SOLUTION

# %% check="predict.pass_milliseconds" points=1
check.prediction("milliseconds for 100 steps", pass_milliseconds, "NjA0", unit="ms", rel=1e-3,
                 why="only the first batch is waited for; then the slower of the two sets the pace")

# %% [markdown]
"""
**3.** A loader gives batches of 256 images (3, 32, 32) as float32, with `prefetch=4`. The training loop is
slow, so the queue is full and the thread stands there with one more batch in its hand. How many megabytes
of images are waiting? (The batch that is in use does not count.)
"""

# %% exercise="predict.waiting_megabytes"
### BEGIN SOLUTION
waiting_megabytes = (4 + 1) * 256 * 3 * 32 * 32 * 4 / 1e6
### END SOLUTION

# %% check="predict.waiting_megabytes" points=1
check.prediction("megabytes of images waiting", waiting_megabytes, "MTUuNzI4NjQ=", unit="MB", rel=0.01,
                 why="four in the queue and one in the thread's hand; four bytes for each number")

# %% [markdown]
"""
**4.** Two runs of the same script differ in one thing: one has `prefetch=4`, the other `prefetch=0`. Seeds
are equal, and the transforms draw from the generator they are given. After the first epoch the training
losses are

- a) equal to the last digit
- b) different, because the thread makes batches in another order
- c) different, because the thread draws random numbers earlier
- d) equal only if nothing is shuffled
"""

# %% exercise="predict.with_and_without"
### BEGIN SOLUTION
with_and_without = "a"
### END SOLUTION

# %% check="predict.with_and_without" points=1
check.choice("the losses with and without prefetch", with_and_without, "YQ==", ["a", "b", "c", "d"],
             why="ask what the numbers of batch 17 depend on, and whether time is part of it")

# %% [markdown] question="what_the_validation_set_is_for" points=2
"""
**Open question, graded by a person.** You have 20,000 X-ray images of 4,000 patients from 5 hospitals, some
with several images per visit, and want to know how well a network will do at a sixth hospital. Say how you
would split the data into training, validation and test sets, which transforms you would allow on which of
them and which you would forbid, and name two ways in which your reported score could still be better than
what the sixth hospital will see.

*Your answer:*
"""

# %% [markdown]
"""
## In production

PyTorch's `DataLoader` has the names you used. Its workers are *processes*, not threads (`num_workers`, each
with two batches ahead by default): processes have an interpreter each and no common GIL, but their batches
must be copied between them, and each start costs time. Its `shuffle` draws from a global generator; a
`DistributedSampler` has `set_epoch`, for the reason that you have `epoch`. Before PyTorch 1.9, worker
processes that used NumPy's generator all started from the same state and drew the same numbers, and
networks were trained on a fraction of the intended variety for years: the bug of your second Break, in
other clothes. `default_collate` there returns a list of tensors where yours returns a tuple, and its
`__getitems__` returns a list of items.

Large data sets are not rows in memory. Images stay compressed and are decoded by many processes, or on the
GPU (DALI); records are packed into large files that are read in order and shuffled in a buffer (WebDataset,
TFRecord); token files are mapped into memory and cut at random places, which is what you will do with
Shakespeare. What we are not building: several workers, resuming in the middle of an epoch, and sharing a
data set among machines.

## When it fails

| symptom | cause | where to look |
|---|---|---|
| `still waiting` | somebody waits for a word that never comes, or for a place in the queue | is the thread started, with `_fill` as its target? a pair for the end and one for errors; empty the queue before `join` |
| `threads left behind` | the loop broke off and nobody told the thread | `finally`: set `stop`, empty the queue, join |
| `do not stack` | items of different shapes | a `collate_fn` that pads them |
| `inhomogeneous shape` | a tuple of different things was made into one array | fields first: `zip(*items)` |
| `is not iterable` | `zip(*items)` on items that are no tuples | `isinstance(items[0], tuple)` decides |
| `could not be broadcast` | one number per channel met the width of the images | shape (C, 1, 1), so that broadcasting puts it at C |
| `cannot reshape array` | the bytes are not as many as the shape wants | compare the lengths first, and name the file |
| `index out of range` | something is shorter than expected, often empty | `plan[-1]` of no batches, `raw[3]` of an empty file, `key[1]` of a key of one number |
| `buffer is smaller` | the file ends in the middle of its header | compare `len(raw)` before you read on |
| `truth value of an array` | an `if` was asked of all images at once | a mask: `result[chosen] = ...` |
| `read-only` | the array looks into bytes (`np.frombuffer`), or into the data set | `.copy()` |
| `unexpected keyword argument 'generator'` | a transform of your own without a second argument | `(images, generator)`, called by position |
| `positional argument` | a call lacks an argument, often the generator | `transform(images, generator)`, `self._batch(rows, generator)` |
| `no batches` | `drop_last` with fewer rows than one batch, or an exhausted generator as data | a smaller batch; a loader, which can be iterated again and again |
| `non-negative integer` | a seed below 0 | seeds and epochs are 0 or more |
| `the published file has` | the download was cut off, or the file is one of yours | `tito data fetch NAME`; `verify=False` for your own |
| `starts with 3c` | a web page under the name of a data file: `3c` is `<` | fetch it again, by `tito data fetch NAME` |
| `is not on this machine` | the data set was never fetched | `tito data fetch NAME`, or `TINYTORCH_DATA` |
| the loss stays at 2.303, for ten classes | x and y in two different orders: log 10 is what guessing costs | one order indexes both |
| validation is better than the test | the two sides share sisters of the same images | split by what belongs together, make variants afterwards |
| augmentation changes nothing | the loader is built anew in every epoch, or `loader.epoch` is set back | build it once |
| the step is no faster with prefetch | nobody is idle: all cores are busy, or both sides are Python | measure the step, not the waiting |
"""
