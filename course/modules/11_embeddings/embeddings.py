# %% [markdown]
"""
# 11 · Embeddings

A tokenizer turns text into integers, and a network computes with vectors. An embedding is the table
between them: one row per token, looked up by number and learned like any weight. And because a row says
what a token is but not where it stands, positions get vectors, or turns, of their own.

```
you have built     05 autograd, 07 training, 10 tokenization: text as integers
        |
        v
you build now      the lookup and its gradient, Embedding; learned positions,
                   waves (sinusoidal), and turns (rotary)
        |
        v
this unlocks       12 attention, 13 transformers, milestone 2017
```

Time: about 3 hours. Every exercise is a cell with a hole in it, and the cell below it checks your
answer. Run `tito watch` in a terminal beside this notebook.
"""

# %% given="imports"
#| default_exp nn.embedding
#| export
import numpy as np

from tinytorch.core.autograd import tracked
from tinytorch.core.layers import Module, Parameter, normal_
from tinytorch.core.tensor import Tensor, zeros

# %% given="tools"
import time
import tracemalloc

import tito.checks as check
from tinytorch.core.activations import ReLU
from tinytorch.core.autograd import check_grads
from tinytorch.core.layers import Linear
from tinytorch.core.losses import CrossEntropyLoss
from tinytorch.core.optimizers import SGD, Adam, AdamW
from tinytorch.core.tensor import manual_seed
from tinytorch.core.training import Trainer
from tito.notebook import method_of


def _peak(call):
    """The largest number of bytes that `call` holds at one time."""
    tracemalloc.start()
    call()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak

# %% [markdown]
"""
## Why: 5 is not more than 3

Six words in alphabetical order have the numbers 0 to 5, and we want a score from each: how much did
somebody like the film? Feed the number itself into a linear layer, and the best it can do is a line.
"""

# %% demo="numbers_as_numbers"
words = ["awful", "bad", "fine", "good", "great", "poor"]
wanted = np.array([-2.0, -1.0, 0.5, 1.0, 2.0, -1.0])
slope, height = np.polyfit(np.arange(6), wanted, 1)
print("number  word    wanted   best line")
for number, word in enumerate(words):
    print(f"{number:6}  {word:6} {wanted[number]:7.1f} {slope * number + height:11.1f}")

vocabulary, width, text_length = 50_257, 768, 1024
print(f"\none text of {text_length:,} tokens, vocabulary and width of GPT-2:")
print(f"as numbers                {text_length * 8:>13,} bytes")
print(f"as rows with a single 1   {text_length * vocabulary * 4:>13,} bytes")
print(f"as vectors of {width} numbers {text_length * width * 4:>13,} bytes")

# %% [markdown]
"""
The line calls `poor` one of the best words, because 5 is more than 3. But a token's number is a name,
like the number on a football shirt. Nothing about a word follows from its number, so the network must
be able to learn about each word **separately**: every word needs weights of its own.

The textbook way to get them is to give the network a row of zeros with a single 1, at the place of the
word: then each word meets its own row of the weight matrix. It works, and the second part of the output
says what it costs. This module does the same with the bytes of the last line.

## Foundations: a product that picks

A table with four words, three numbers for each. The text is words 2, 0, 2.

```
table (4, 3)          text      one-hot rows (3, 4)      product (3, 3)
word 0   [1 0 2]      2         [0 0 1 0]                [5 4 0]   0*[1 0 2] + 0*[0 3 1]
word 1   [0 3 1]      0    ->   [1 0 0 0]    @ table  =  [1 0 2]     + 1*[5 4 0] + 0*[2 2 2]
word 2   [5 4 0]      2         [0 0 1 0]                [5 4 0]
word 3   [2 2 2]
```

Count the multiplications: 3 rows times 4 words times 3 columns are 36, of which 27 are by zero and 9 by
one. Nothing was computed. The product **picks** rows 2, 0 and 2, and `table[[2, 0, 2]]` does that as
well.

It is still a matrix product, so it has the gradient of one. Let `g` be what comes back for the three
places. What goes to the table is `one_hot.T @ g`:

```
g, place by place        gradient of the table
word 2   [ 1  1  1]      word 0   [ 2  0  0]
word 0   [ 2  0  0]      word 1   [ 0  0  0]     not in this text: nothing to learn
word 2   [10 10 10]      word 2   [11 11 11]     twice in the text: the sum of both
                         word 3   [ 0  0  0]
```

These two pictures are the first half of the module: forward picks rows, backward adds into rows.

## Build

### Rows with a single 1

First the slow way, so that there is something to compare with. `indices` may have any shape; every
number in it becomes a row of `count` zeros with a 1 at that place.

One popular way is `np.eye(count)[indices]`. It builds a matrix of `count * count` numbers in order to
use a few of its rows: for GPT-2's vocabulary more memory than your machine has. Make only the rows you
need.
"""

# %% exercise="one_hot"
#| export
def one_hot(indices: np.ndarray, count: int) -> np.ndarray:
    """Every index as a row of `count` zeros with a single 1 at its place.

    indices: array of integers (...), each from 0 to count - 1; result (..., count) of Tensor.dtype.
    Cost: `count` numbers per index, and nothing that grows with count * count.

    >>> one_hot(np.array([2, 0]), 3).tolist()
    [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
    """
    ### BEGIN SOLUTION
    return (indices[..., None] == np.arange(count)).astype(Tensor.dtype)
    ### END SOLUTION

# %% check="one_hot" points=3
check.close("one_hot of [2, 0, 2] for 4 words", one_hot(np.array([2, 0, 2]), 4),
            [[0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 1, 0]], why="one row per index, the 1 at the index")
check.close("one_hot of [[1, 0], [0, 2]] for 3 words", one_hot(np.array([[1, 0], [0, 2]]), 3),
            [[[0, 1, 0], [1, 0, 0]], [[1, 0, 0], [0, 0, 1]]],
            why="two texts of two words: (2, 2) becomes (2, 2, 3)")
_rows = one_hot(np.array([1]), 3)
check.equal("what it returns", (type(_rows).__name__, str(getattr(_rows, "dtype", "no dtype"))),
            ("ndarray", "float32"),
            why="as every tensor here: float64 would be twice the bytes, and integers do not train")
check.true("two rows of 1,500 numbers take less than 1 MB on the way",
           _peak(lambda: one_hot(np.array([5, 7]), 1500)) < 1e6,
           why="2 * 1,500 numbers are 12,000 bytes; np.eye(1500) has 2,250,000 numbers")

# %% [markdown]
"""
### The lookup

Now the fast way. `weight` is a Tensor `(V, D)`: V words, D numbers each. `indices` is an array of
integers of any shape `(...)`; the result is a Tensor `(..., D)`: every index replaced by its row.

Compute on `weight.data`: below, `tracked` of module 05 turns this function into an operation with a
gradient rule of its own, which you write next.
"""

# %% exercise="lookup"
#| exporti
def lookup(weight: Tensor, indices: np.ndarray) -> Tensor:
    """The rows of a table that `indices` name.

    weight: (V, D); indices: integers (...), each from 0 to V - 1; result (..., D).
    Cost: D numbers copied per index; V does not matter.

    >>> lookup(Tensor([[1, 0], [0, 3], [5, 4]]), np.array([2, 0])).tolist()
    [[5.0, 4.0], [1.0, 0.0]]
    """
    ### BEGIN SOLUTION
    return Tensor(weight.data[indices])
    ### END SOLUTION

# %% check="lookup" points=3
_table = Tensor([[1, 0, 2], [0, 3, 1], [5, 4, 0], [2, 2, 2]])
check.tensor("rows 2, 0, 2 of the table of the Foundations", lookup(_table, np.array([2, 0, 2])),
             [[5, 4, 0], [1, 0, 2], [5, 4, 0]], why="row 2 twice: looking does not use a row up")
check.tensor("indices [[3, 1], [1, 2]]", lookup(_table, np.array([[3, 1], [1, 2]])),
             [[[2, 2, 2], [0, 3, 1]], [[0, 3, 1], [5, 4, 0]]],
             why="(2, 2) becomes (2, 2, 3): each index is replaced by its row")
check.tensor("a single index, 1", lookup(_table, np.array(1)), [0, 3, 1],
             why="shape () becomes (3,): one row")
_ids = np.random.default_rng(1).integers(0, 4, (2, 3, 2))
check.tensor("the same numbers as the product with one_hot", lookup(_table, _ids),
             one_hot(_ids, 4) @ _table.data, why="a one-hot row times the table picks a row")
_tall = Tensor(np.ones((20_000, 2)))
check.true("64 rows from a table of 20,000 take less than 1 MB on the way",
           _peak(lambda: lookup(_tall, np.arange(64))) < 1e6,
           why="64 * 2 numbers are copied; one-hot rows would be 64 * 20,000 numbers")

# %% [markdown]
"""
The same numbers. Now count what each of them does, for the text of three words and for one of GPT-2's.
"""

# %% demo="product_and_lookup"
table = Tensor([[1, 0, 2], [0, 3, 1], [5, 4, 0], [2, 2, 2]])
text = np.array([2, 0, 2])
print("product:", (one_hot(text, 4) @ table.data).tolist())
print("lookup: ", lookup(table, text).tolist())
for n, v, d in ((3, 4, 3), (1024, 50_257, 768)):
    print(f"\n{n:,} tokens, table ({v:,}, {d})")
    print(f"  product: {n * v * d:>16,} multiplications, {n * v - n:>12,} zeros in the rows")
    print(f"  lookup:  {0:>16,} multiplications, {n * d:>12,} numbers copied")

# %% [markdown]
"""
### No such row

What comes in may be a list, an array, or a Tensor from a loader. A Tensor holds token numbers as
floats; float32 counts exactly up to 16,777,216, and no vocabulary is that large. `whole_numbers`,
given, makes integers of all of them, and refuses fractions and text.

You write the part that saves evenings: the range. NumPy would take a negative index without a word and
give a row from the end of the table (see *Break*); one that is too large it would report from three
layers down, without saying where in your batch. So look for numbers below 0 or above `count - 1`, and
raise an `IndexError` that names the **first** wrong number, its **place** in the array, and the **last
row** there is:

```
indices [[0 1]     count 5      embedding: index 7 at (1, 0) is outside 0..4. …
         [7 9]]
```

`np.argwhere(mask)` gives the places where a mask is True, in reading order, one row each:
`[[1 0] [1 1]]` here. Make the place a tuple of plain ints, or the message says `np.int64(1)`.
"""

# %% exercise="token_ids"
#| exporti
def whole_numbers(indices) -> np.ndarray:
    """`indices` (Tensor, array, number or nested list) as an array of integers.

    Raises ValueError for fractions and for what is no number at all.
    """
    values = np.asarray(indices.data if isinstance(indices, Tensor) else indices)
    kind = values.dtype.kind
    whole = kind in "iu" or (kind == "f" and np.isfinite(values).all() and not (values % 1).any())
    if not whole:
        raise ValueError(
            f"embedding: indices must be whole numbers, got {values.dtype}. Encode the text first."
        )
    return values.astype(np.int64)


def token_ids(indices, count: int) -> np.ndarray:
    """`indices` (Tensor, array or list, any shape) as an integer array, each from 0 to count - 1.

    Raises IndexError naming the first index outside, its place and the last row; ValueError for
    numbers that are not whole. Cost: two comparisons per index.

    >>> token_ids([[0, 4], [1, 1]], 5).tolist()
    [[0, 4], [1, 1]]
    """
    ids = whole_numbers(indices)
    ### BEGIN SOLUTION
    wrong = (ids < 0) | (ids >= count)
    if wrong.any():
        place = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise IndexError(
            f"embedding: index {ids[place]} at {place} is outside 0..{count - 1}. Is it padding, or "
            "from a tokenizer with more tokens than the table has rows?"
        )
    return ids
    ### END SOLUTION

# %% check="token_ids" points=6
_ids = token_ids([[0, 4], [1, 1]], 5)
check.close("[[0, 4], [1, 1]] for 5 rows", _ids, [[0, 4], [1, 1]], why="all of them exist: 0 to 4")
check.equal("what it returns", (type(_ids).__name__, str(getattr(_ids, "dtype", "no dtype"))),
            ("ndarray", "int64"), why="only integers can index an array")
check.close("a Tensor [3.0, 0.0]", token_ids(Tensor([3.0, 0.0]), 5), [3, 0],
            why="loaders give Tensors, and those hold floats")
check.close("a single number, 2", token_ids(2, 5), 2, why="any shape, () too")
check.raises("5 in a table of 5 rows", IndexError, lambda: token_ids([0, 5], 5),
             why="the last row is number 4")
check.raises("-1 in a table of 5 rows", IndexError, lambda: token_ids([0, 3, -1], 5),
             why="NumPy would quietly take the last row")
_wrong = lambda: token_ids([[0, 1], [7, 9]], 5)
check.raises("[[0, 1], [7, 9]] for 5 rows: the number is named", IndexError, _wrong, mention=["index 7"],
             why="7 and 9 have no row, and 7 comes first")
check.raises("[[0, 1], [7, 9]] for 5 rows: its place is named", IndexError, _wrong, mention=["(1, 0)"],
             why="row 1, column 0, as a tuple of plain ints: with the place one finds the text")
check.raises("[[0, 1], [7, 9]] for 5 rows: the last row is named", IndexError, _wrong, mention=["4"],
             why="count - 1: so one sees whether the table is too small or the number wrong")
check.raises("[[0, 1], [2, -3]] for 5 rows", IndexError, lambda: token_ids([[0, 1], [2, -3]], 5),
             why="the first wrong number is -3, in row 1, column 1", mention=["index -3", "(1, 1)"])
check.raises("the number 1.5", ValueError, lambda: token_ids([0.0, 1.5], 5),
             why="whole_numbers sees to that: use what it returns", mention=["whole"])

# %% [markdown]
"""
### The way back: adding into rows

The rule `(g, out, weight, indices)` of plain arrays returns the gradient of the table. `g` has the
shape of the result, `(..., D)`, and the gradient that of `weight`, `(V, D)`: zeros everywhere, and
every row gets the **sum** of the `g` of all places that picked it. It is the second picture of the
Foundations.

You met this bug in module 05 when a row was picked twice; here it is the normal case. In a batch of
English text, `the` stands a few hundred times. `gradient[indices] += g` reads all rows, adds, and
writes all rows: of those few hundred gradients one is left. `np.add.at(gradient, indices, g)` adds one
after the other, for indices of any shape.
"""

# %% exercise="embedding_gradient"
#| exporti
def embedding_gradient(g, out, weight, indices):
    """The gradient of the table: every row gets the sum over all places that picked it.

    g: (..., D), weight: (V, D), indices: integers (...); result (V, D) of weight's type.
    Cost: V * D zeros, and D additions per index.

    >>> g = np.array([[1.0, 1.0], [2.0, 0.0], [10.0, 10.0]])
    >>> embedding_gradient(g, None, np.zeros((4, 2)), np.array([2, 0, 2])).tolist()
    [[2.0, 0.0], [0.0, 0.0], [11.0, 11.0], [0.0, 0.0]]
    """
    ### BEGIN SOLUTION
    gradient = np.zeros_like(weight)
    np.add.at(gradient, indices, g)
    return gradient
    ### END SOLUTION

# %% check="embedding_gradient" points=6
_weight = np.full((4, 3), 7.0, dtype=np.float32)
_g = np.array([[1, 1, 1], [2, 0, 0], [10, 10, 10]], dtype=np.float32)
_g.flags.writeable = False
_grad = embedding_gradient(_g, None, _weight, np.array([2, 0, 2]))
check.close("the gradient of the Foundations", _grad, [[2, 0, 0], [0, 0, 0], [11, 11, 11], [0, 0, 0]],
            why="word 2 stands at two places: [1 1 1] + [10 10 10]; words 1 and 3 at none")
check.equal("what it returns", (type(_grad).__name__, str(getattr(_grad, "dtype", "no dtype"))),
            ("ndarray", "float32"),
            why="as the table: float64 would double the largest array of the model")
check.close("the table afterwards", _weight, np.full((4, 3), 7.0),
            why="a rule changes nothing: it returns a new array")
_rng = np.random.default_rng(3)
_ids, _g = np.array([[1, 1, 3], [1, 0, 1]]), _rng.standard_normal((2, 3, 2))
check.close("two texts [[1, 1, 3], [1, 0, 1]], word 1 four times",
            embedding_gradient(_g, None, np.zeros((5, 2)), _ids),
            one_hot(_ids, 5).reshape(6, 5).T @ _g.reshape(6, 2),
            why="one_hot.T @ g, the gradient of the product: repeats within a text and across texts add up",
            atol=1e-5)
check.close("a single index, 2, with g = [1, 2]",
            embedding_gradient(np.array([1.0, 2.0]), None, np.zeros((3, 2)), np.array(2)),
            [[0, 0], [0, 0], [1, 2]], why="shape () of indices, shape (2,) of g: one row")
_tall, _g = np.zeros((20_000, 2), dtype=np.float32), np.ones((64, 2), dtype=np.float32)
check.true("64 places of a table of 20,000 rows take less than 1 MB on the way",
           _peak(lambda: embedding_gradient(_g, None, _tall, np.arange(64))) < 1e6,
           why="the gradient has 20,000 * 2 numbers; one-hot rows would be 64 * 20,000 more")

# %% [markdown]
"""
### Only the rows that were used

Most of that gradient is zeros: a text has a few hundred different words, the table fifty thousand rows.
A **sparse** gradient keeps only the rows that were picked: their numbers, sorted, each once, and one
row of sums for each.

```
indices [2 0 2]     g [[1 1 1] [2 0 0] [10 10 10]]

rows    [0 2]                 which rows: sorted, each once
values  [[2 0 0] [11 11 11]]  what each of them gets
```

`np.unique(indices, return_inverse=True)` gives the sorted rows and, for every index, where its row
stands among them: `[0 2]` and `[1 0 1]`. That second array turns the problem into the one you have just
solved, on a smaller table. Flatten first (`indices.reshape(-1)`, `g` to rows of D), and any shape will
do.
"""

# %% exercise="sparse_gradient"
def sparse_gradient(g: np.ndarray, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rows of the table that were used, and the gradient of each: no zeros for the others.

    g: (..., D), indices: integers (...). Returns rows (R,), sorted and each once, and values (R, D)
    of g's type. Cost: D additions per index, R * D numbers; the size of the table does not matter.

    >>> rows, values = sparse_gradient(np.array([[1.0], [2.0], [10.0]]), np.array([2, 0, 2]))
    >>> rows.tolist(), values.tolist()
    ([0, 2], [[2.0], [11.0]])
    """
    ### BEGIN SOLUTION
    rows, which = np.unique(indices.reshape(-1), return_inverse=True)
    values = np.zeros((len(rows), g.shape[-1]), dtype=g.dtype)
    np.add.at(values, which, g.reshape(-1, g.shape[-1]))
    return rows, values
    ### END SOLUTION

# %% check="sparse_gradient" points=5
_g = np.array([[1, 1, 1], [2, 0, 0], [10, 10, 10]], dtype=np.float32)
_g.flags.writeable = False
_pair = sparse_gradient(_g, np.array([2, 0, 2]))
check.equal("how many things it returns", 0 if _pair is None else len(_pair), 2, why="rows and values, both")
check.close("rows for indices [2, 0, 2]", _pair[0], [0, 2], why="sorted, each once")
check.close("values for indices [2, 0, 2]", _pair[1], [[2, 0, 0], [11, 11, 11]],
            why="row 0 gets [2 0 0], row 2 the sum of its two places")
check.equal("type of the values", str(_pair[1].dtype), "float32", why="as g: saving bytes is the point")
_ids = np.array([[900_000, 3, 3], [17, 3, 900_000]])
_g = np.random.default_rng(4).standard_normal((2, 3, 2))
_rows, _values = sparse_gradient(_g, _ids)
check.close("rows for two texts [[900000, 3, 3], [17, 3, 900000]]", _rows, [3, 17, 900_000],
            why="the largest number says nothing about how many rows there are")
check.close("values for these two texts", _values,
            [_g[0, 1] + _g[0, 2] + _g[1, 1], _g[1, 0], _g[0, 0] + _g[1, 2]],
            why="row 3 stands at three places, row 17 at one, row 900000 at two")
check.true("these two texts take less than 1 MB on the way", _peak(lambda: sparse_gradient(_g, _ids)) < 1e6,
           why="three rows of two numbers; a table with 900,001 rows has 1,800,002")

# %% [markdown]
"""
Now the pieces become a layer. `tracked` joins the lookup and its rule (indices have no slope: `None`),
and `Embedding` holds the table, filled from a normal distribution with spread 1, as PyTorch does. Read
how the three parts meet in `forward`: check the numbers, look them up, remember how to go back.
"""

# %% given="embedding"
#| exporti
# Not among the names that tinytorch.nn hands on: there, `embedding` is this file.
embedding = tracked(lookup, (embedding_gradient, None), "embedding")

# %% given="Embedding"
#| export
class Embedding(Module):
    """A table with one learned vector per token: weight (V, D), from a standard normal.

    Indices of any shape (...), as a list, array or Tensor, give (..., D).
    Source: torch.nn.Embedding.

    >>> Embedding(10, 4)([[1, 2, 3], [4, 5, 6]]).shape
    (2, 3, 4)
    """

    def __init__(self, num_embeddings: int, embedding_dim: int) -> None:
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.weight = Parameter(zeros(num_embeddings, embedding_dim))
        normal_(self.weight)

    def forward(self, indices) -> Tensor:
        """The vectors of `indices`. IndexError naming an index that has no row."""
        return embedding(self.weight, token_ids(indices, self.num_embeddings))

    def extra_repr(self) -> str:
        return f"{self.num_embeddings}, {self.embedding_dim}"

# %% demo="an_embedding_with_gradient"
manual_seed(0)
table = Embedding(4, 3)
print(table)
table([2, 0, 2]).sum().backward()
print("gradient of the sum over words 2, 0, 2:", table.weight.grad.tolist())

# %% [markdown]
"""
### Who bites whom?

Add up the vectors of a sentence, or average them, and see what is left of the order.
"""

# %% demo="dog_bites_man"
manual_seed(0)
words = ["dog", "bites", "man"]
table = Embedding(3, 2)
for sentence in ("dog bites man", "man bites dog"):
    vectors = table([words.index(word) for word in sentence.split()])
    print(f"{sentence}: mean {vectors.mean(axis=0).data.round(4).tolist()}")

# %% [markdown]
"""
The same vector, twice. Attention, in the next module, looks at all words at once and does not see their
order either: to it a sentence is a bag of vectors. So the vectors themselves must say where they stand.
There are three ways to do that, and you build all of them. They share one question first.

### Which positions?

A table of positions has `length` rows: 0 to `length - 1`. A text usually begins at position 0. But a
model that writes one word at a time gets the words **after** those it has seen: three new words behind
a text of five stand at 5, 6 and 7. So everything below takes a `start`.

```
length 8      start 0, count 3   ->   rows 0 1 2     slice(0, 3)
              start 5, count 3   ->   rows 5 6 7     slice(5, 8): the last three, just enough
              start 6, count 3   ->   rows 6 7 8     8 does not exist: ValueError
```

A slice that is too long is no error in NumPy: you would get two rows, and they might even broadcast.
And a negative start counts from the end. Refuse both, in a message that names the first position, the
last one, and the length of the table.
"""

# %% exercise="window"
#| exporti
def window(length: int, start: int, count: int) -> slice:
    """The slice of `count` rows from `start` on, of a table with rows 0 to length - 1.

    Raises ValueError naming the first and the last position and the length, if one does not exist.

    >>> window(8, 5, 3)
    slice(5, 8, None)
    """
    ### BEGIN SOLUTION
    if start < 0 or start + count > length:
        raise ValueError(
            f"positions {start} to {start + count - 1} asked of a table of {length}. "
            "Shorten the text, or build the model with a longer context."
        )
    return slice(start, start + count)
    ### END SOLUTION

# %% check="window" points=3
check.equal("3 rows from 0, of 8", window(8, 0, 3), slice(0, 3), why="rows 0, 1 and 2")
check.equal("2 rows from 4, of 8", window(8, 4, 2), slice(4, 6), why="rows 4 and 5: a slice ends before its end")
check.equal("3 rows from 5, of 8", window(8, 5, 3), slice(5, 8), why="rows 5, 6 and 7 all exist")
check.raises("4 rows from 18, of 20: first and last position are named", ValueError, lambda: window(20, 18, 4),
             why="positions 18 to 21: a slice would quietly give two rows", mention=["18", "21"])
check.raises("4 rows from 18, of 20: the length is named", ValueError, lambda: window(20, 18, 4),
             why="whether the text is too long or the table too short, one sees from both", mention=["20"])
check.raises("3 rows from -1, of 20", ValueError, lambda: window(20, -1, 3),
             why="a negative start counts from the end", mention=["-1", "20"])

# %% [markdown]
"""
### Learned positions

The first way needs nothing new: a second table, with one learned vector per **position**, added to the
vectors of the words. GPT-2 does it like this.

```
x (B, T, D)     vectors of B texts, T words each          [[dog bites man] …]
weight          (max_length, D)
result          x + weight[start : start + T]             (T, D) broadcasts over the texts
```

Write `forward`. T is the axis before the last, whatever comes before it. Index the **Parameter**, not
its `.data`: the positions want to learn, and your indexing of module 01 has had a gradient since module
05.
"""

# %% given="LearnedPositions"
#| export
class LearnedPositions(Module):
    """Adds a learned vector per position to x (..., T, D): weight (max_length, D), spread 0.02."""

    def __init__(self, max_length: int, dim: int) -> None:
        self.max_length = max_length
        self.weight = Parameter(zeros(max_length, dim))
        normal_(self.weight, std=0.02)

    def extra_repr(self) -> str:
        return f"{self.weight.shape[0]}, {self.weight.shape[1]}"

# %% exercise="LearnedPositions.forward"
#| export
@method_of(LearnedPositions)
def forward(self, x: Tensor, start: int = 0) -> Tensor:
    """x (..., T, D) plus the vectors of positions start to start + T - 1.

    Raises ValueError if the table has no such position.
    """
    ### BEGIN SOLUTION
    return x + self.weight[window(self.max_length, start, x.shape[-2])]
    ### END SOLUTION

# %% check="LearnedPositions.forward" points=4
_positions = LearnedPositions(5, 2)
_positions.weight.data[...] = np.arange(10).reshape(5, 2)
_x = Tensor([[[100.0, 100.0], [200.0, 200.0], [300.0, 300.0]], [[0.0, 0.0]] * 3])
check.tensor("two texts of 3 words", _positions(_x),
             [[[100, 101], [202, 203], [304, 305]], [[0, 1], [2, 3], [4, 5]]],
             why="rows 0, 1, 2 of [[0 1] [2 3] [4 5] …] are added to the words of both texts")
check.tensor("the same from start=2", _positions(_x, start=2)[1], [[4, 5], [6, 7], [8, 9]],
             why="the words stand at 2, 3 and 4")
check.tensor("one text without a batch, (4, 2), from start=1", _positions(Tensor(np.zeros((4, 2))), start=1),
             [[2, 3], [4, 5], [6, 7], [8, 9]], why="T is the axis before the last: here 4")
check.raises("3 words from start=3, of 5 positions", ValueError, lambda: _positions(_x, start=3),
             why="position 5 does not exist: ask window", mention=["3", "5"])
_x = Tensor(np.ones((2, 3, 2)), requires_grad=True)
(_positions(_x, start=1) * np.array([[1.0], [10.0], [100.0]])).sum().backward()
check.close("gradient of the positions, from start=1, places weighted 1, 10, 100", _positions.weight.grad,
            [[0, 0], [2, 2], [20, 20], [200, 200], [0, 0]],
            why="both texts add to rows 1, 2 and 3; no gradient arrives if you index .data")
check.close("gradient of x", _x.grad, [[[1, 1], [10, 10], [100, 100]]] * 2, why="what comes back passes on to x")

# %% [markdown]
"""
### Waves

Learned positions end where the table ends: a model trained on texts of 1,024 tokens has nothing to say
about position 1,024. The second way needs no training, and its table can be made as long as you like.
Write the position as a pattern of waves, fast ones and slow ones, like the hands of a clock: the second
hand tells neighbours apart, the hour hand tells morning from evening.

For D = 4 there are two hands. Each gives two numbers, its sine and its cosine. The first goes 1 radian
per position, the second 1/100:

```
position   sin(p)    cos(p)    sin(p/100)  cos(p/100)
0           0         1         0           1
1           0.8415    0.5403    0.0100      0.99995
2           0.9093   -0.4161    0.0200      0.99980
3           0.1411   -0.9900    0.0300      0.99955
```

In general, hand `i` (from 0) fills columns `2i` (sine) and `2i + 1` (cosine), and goes
`1 / base ** (2i / D)` per position, with base 10,000. So for D = 4: `10000 ** 0 = 1` and
`10000 ** (2/4) = 100`.

The exponents `2i / D` are `np.arange(0, dim, 2) / dim`. Make the angles `(T, D/2)` by broadcasting, a
column of positions against a row of speeds; then fill every other column: `table[:, 0::2]` are columns
0, 2, 4, …. If `dim` is odd, the last hand has no room for its cosine.
"""

# %% exercise="sinusoidal_positions"
#| export
def sinusoidal_positions(length: int, dim: int, base: float = 10000.0) -> np.ndarray:
    """Waves that say where: sine in the even columns, cosine in the odd, slower from left to right.

    Result (length, dim): column 2i is sin(position / base ** (2i / dim)), column 2i + 1 its cosine.
    Source: Vaswani et al. 2017, section 3.5.

    >>> sinusoidal_positions(2, 4).round(5).tolist()
    [[0.0, 1.0, 0.0, 1.0], [0.84147, 0.5403, 0.01, 0.99995]]
    """
    table = np.empty((length, dim))
    ### BEGIN SOLUTION
    position = np.arange(length)[:, None]
    angle = position / base ** (np.arange(0, dim, 2) / dim)  # (T, 1) / (D/2,) -> (T, D/2)
    table[:, 0::2] = np.sin(angle)
    table[:, 1::2] = np.cos(angle[:, : dim // 2])
    ### END SOLUTION
    return table

# %% check="sinusoidal_positions" points=7
_table = sinusoidal_positions(4, 4)
check.close("position 0", _table[0], [0, 1, 0, 1], why="every hand starts at 0: sine 0, cosine 1")
check.close("position 1", _table[1], [0.841471, 0.540302, 0.00999983, 0.99995],
            why="sin 1, cos 1, sin 0.01, cos 0.01: sine and cosine of one hand side by side")
check.close("position 3", _table[3], [0.14112, -0.989992, 0.0299955, 0.99955],
            why="three times the angles: 3 radians and 0.03")
check.close("base 16, 6 columns, position 8", sinusoidal_positions(9, 6, base=16.0)[8],
            [np.sin(8), np.cos(8), np.sin(8 / 16 ** (2 / 6)), np.cos(8 / 16 ** (2 / 6)),
             np.sin(8 / 16 ** (4 / 6)), np.cos(8 / 16 ** (4 / 6))],
            why="hand i goes 1 / base ** (2i / D) per position: exponents 0, 2/6 and 4/6")
check.close("shape (3, 5), an odd number of columns: position 2", sinusoidal_positions(3, 5)[2],
            [np.sin(2), np.cos(2), np.sin(2 / 10000**0.4), np.cos(2 / 10000**0.4), np.sin(2 / 10000**0.8)],
            why="three hands, and no room for the third cosine")

# %% [markdown]
"""
As a layer it is your `LearnedPositions` with a table that never learns. A plain Tensor attribute is
saved with the model and is no parameter (module 03).
"""

# %% given="SinusoidalPositions"
#| export
class SinusoidalPositions(Module):
    """Adds fixed waves to x (..., T, D): nothing to learn. `start`: position of x's first token."""

    def __init__(self, max_length: int, dim: int) -> None:
        self.max_length = max_length
        self.table = Tensor(sinusoidal_positions(max_length, dim))

    def forward(self, x: Tensor, start: int = 0) -> Tensor:
        """x plus the waves of positions start to start + T - 1. ValueError beyond max_length."""
        return x + self.table[window(self.max_length, start, x.shape[-2])]

    def extra_repr(self) -> str:
        return f"{self.table.shape[0]}, {self.table.shape[1]}"

# %% [markdown]
"""
### Turns

The third way adds nothing. It **turns** vectors: at position 5 five times as far as at position 1. Two
clock hands that are turned by the same amount keep the angle between them, and attention compares two
vectors by their product, which depends on that angle. So the comparison sees how far apart two words
are, and not where they stand. Most large language models since 2021 do it like this.

To turn the point `(a, b)` by an angle means:

```
(a, b)  ->  (a*cos - b*sin,  a*sin + b*cos)

by  90 degrees, cos  0 and sin 1:   (1, 3) -> (-3,  1)
by 180 degrees, cos -1 and sin 0:   (2, 4) -> (-2, -4)
```

A vector of D numbers is D/2 points. We pair the first half with the second half, as Llama does: number
`i` with number `i + D/2`. Each pair turns by an angle of its own. `[1 2 3 4]` is the points (1, 3) and
(2, 4); turned by 90 and by 180 degrees it becomes `[-3 -2 1 -4]`: first all new `a`, then all new `b`.

`cos` and `sin` have one column per pair, and a row per position: `(T, D/2)`. They broadcast against
everything before. Compute both halves from the old `a` and `b`, and lay them end to end with
`np.concatenate`.
"""

# %% exercise="turn_pairs"
#| exporti
def turn_pairs(x: np.ndarray, cos: np.ndarray, sin: np.ndarray) -> np.ndarray:
    """Each pair (x[i], x[i + D/2]) turned by its angle.

    x: (..., T, D), D even; cos, sin: (T, D/2), of the angle of each position and pair; result as x.
    Cost: 6 FLOPs per pair.

    >>> turn_pairs(np.array([[1.0, 2.0, 3.0, 4.0]]), np.array([[0, -1]]), np.array([[1, 0]])).tolist()
    [[-3.0, -2.0, 1.0, -4.0]]
    """
    ### BEGIN SOLUTION
    half = x.shape[-1] // 2
    a, b = x[..., :half], x[..., half:]
    return np.concatenate([a * cos - b * sin, a * sin + b * cos], axis=-1)
    ### END SOLUTION

# %% check="turn_pairs" points=6
_x = np.array([[1.0, 2.0, 3.0, 4.0]])
_x.flags.writeable = False
check.close("[1 2 3 4], pairs turned by 90 and 180 degrees",
            turn_pairs(_x, np.array([[0.0, -1.0]]), np.array([[1.0, 0.0]])), [[-3, -2, 1, -4]],
            why="(1, 3) becomes (-3, 1) and (2, 4) becomes (-2, -4): first both a, then both b")
check.close("(1, 0) turned by 30 degrees",
            turn_pairs(np.array([[1.0, 0.0]]), np.array([[np.sqrt(0.75)]]), np.array([[0.5]])),
            [[0.8660254, 0.5]], why="counter-clockwise: cos 30° to the right, sin 30° up")
check.close("(0, 1) turned by 30 degrees",
            turn_pairs(np.array([[0.0, 1.0]]), np.array([[np.sqrt(0.75)]]), np.array([[0.5]])),
            [[-0.5, 0.8660254]], why="up turns to the left: -sin 30°, cos 30°")
_rng = np.random.default_rng(5)
_x, _angle = _rng.standard_normal((2, 3, 5, 6)), _rng.uniform(0, 6, (5, 3))
_turned = turn_pairs(_x, np.cos(_angle), np.sin(_angle))
_points = (_x[..., :3] + 1j * _x[..., 3:]) * np.exp(1j * _angle)
check.close("a batch (2, 3, 5, 6) with 5 positions and 3 pairs", _turned,
            np.concatenate([_points.real, _points.imag], axis=-1),
            why="a turn is the product of a + bi with cos + i sin, and positions are the axis before the last")

# %% [markdown]
"""
### Turning back

The rule of a turn. Nudge `a` by a little: the first result follows `cos` times as fast, the second
`sin` times. Nudge `b`: `-sin` times and `cos` times. So with `g = (ga, gb)` for the two results, what
comes back is

```
gradient of a      ga * cos + gb * sin
gradient of b     -ga * sin + gb * cos
```

Compare that with the turn above. It is a turn as well: of `g`, by the **opposite** angle, whose cosine
is the same and whose sine has the other sign. What was turned forward on the way there is turned back
on the way back.
"""

# %% exercise="rotary_gradient"
#| exporti
def rotary_gradient(g, out, x, cos, sin):
    """The gradient of a turn: g turned back.

    g: (..., T, D), the result has its shape; cos, sin: (T, D/2) of the angles that x was turned by.
    """
    ### BEGIN SOLUTION
    return turn_pairs(g, cos, -sin)
    ### END SOLUTION


rotary = tracked(
    lambda x, cos, sin: Tensor(turn_pairs(x.data, cos, sin)),
    (rotary_gradient, None, None),
    "rotary",
)

# %% check="rotary_gradient" points=3
_cos, _sin = np.array([[0.0, -1.0]]), np.array([[1.0, 0.0]])
_g = np.array([[-3.0, -2.0, 1.0, -4.0]])
_g.flags.writeable = False
_back = rotary_gradient(_g, None, np.zeros((1, 4)), _cos, _sin)
check.true("a rule returns an array", isinstance(_back, np.ndarray), got=type(_back).__name__,
           why="rules get plain arrays and return plain arrays: only the operation makes a Tensor")
check.close("g = [-3 -2 1 -4], turned by 90 and 180 degrees on the way there", _back, [[1, 2, 3, 4]],
            why="(-3, 1) turned back by 90 degrees is (1, 3), (-2, -4) by 180 is (2, 4)")
_angle = np.random.default_rng(6).uniform(0, 6, (3, 2))
check.grads("rotary of x (2, 3, 4), three positions and two pairs", check_grads,
            lambda x: rotary(x, np.cos(_angle), np.sin(_angle)),
            Tensor(np.random.default_rng(7).standard_normal((2, 3, 4))),
            why="the rule must be the slope of your turn_pairs, measured by nudging")

# %% [markdown]
"""
### Positions as turns

`RotaryPositions` makes the angles once: those of the waves above, position times speed, with `cos` and
`sin` of shape `(max_length, D/2)` in float64. `forward` takes queries or keys `(B, H, T, D)`, H being
the heads of module 12, cuts out the rows of the positions that `x` stands at, and turns.

Hand `rotary` the cosines and sines in `Tensor.dtype` (`.astype(Tensor.dtype)`). An array of float64
would turn every product into float64, and the gradients behind it: twice the bytes, in silence.
"""

# %% given="RotaryPositions"
#| export
class RotaryPositions(Module):
    """Turns queries and keys (..., T, D) by angles that grow with the position.

    So a product of the two depends on the distance of their tokens, not on where they stand.
    dim: D, even, the width of one head. Raises ValueError if it is odd.
    Source: Su et al. 2021 (RoFormer), section 3.4; pairs (i, i + D/2) as in Llama.
    """

    def __init__(self, dim: int, max_length: int, base: float = 10000.0) -> None:
        if dim % 2:
            raise ValueError(f"rotary positions turn pairs: dim must be even, got {dim}.")
        self.dim, self.max_length = dim, max_length
        angles = np.arange(max_length)[:, None] / base ** (np.arange(0, dim, 2) / dim)
        self.cos, self.sin = np.cos(angles), np.sin(angles)  # (max_length, D/2)

    def extra_repr(self) -> str:
        return f"{self.dim}, {self.max_length}"

# %% exercise="RotaryPositions.forward"
#| export
@method_of(RotaryPositions)
def forward(self, x: Tensor, start: int = 0) -> Tensor:
    """x (..., T, D), turned as tokens at positions start to start + T - 1.

    Raises ValueError if x has another width, or the tables have no such position.
    """
    if x.shape[-1] != self.dim:
        raise ValueError(
            f"rotary positions for {self.dim} numbers got vectors of {x.shape[-1]}. "
            "dim is the width of one head, not of the model."
        )
    ### BEGIN SOLUTION
    place = window(self.max_length, start, x.shape[-2])
    return rotary(x, self.cos[place].astype(Tensor.dtype), self.sin[place].astype(Tensor.dtype))
    ### END SOLUTION

# %% check="RotaryPositions.forward" points=4
_positions = RotaryPositions(2, 10)
_x = Tensor([[[[1.0, 0.0], [1.0, 0.0], [0.0, 2.0]]]])
check.tensor("(1, 0), (1, 0) and (0, 2) at positions 0, 1, 2", _positions(_x),
             [[[[1, 0], [0.540302, 0.841471], [-1.818595, -0.832294]]]],
             why="by 0, 1 and 2 radians: (1, 0), (cos 1, sin 1), 2 * (-sin 2, cos 2)")
check.tensor("(1, 0) alone from start=7", _positions(Tensor([[[[1.0, 0.0]]]]), start=7),
             [[[[0.753902, 0.656987]]]], why="it stands at position 7: (cos 7, sin 7)")
_x = np.random.default_rng(8).standard_normal((2, 2, 5, 6))
_wide = RotaryPositions(6, 12, base=100.0)
_angle = np.arange(4, 9)[:, None] / 100.0 ** (np.array([0, 2, 4]) / 6)
_points = (_x[..., :3] + 1j * _x[..., 3:]) * np.exp(1j * _angle)
_out = _wide(Tensor(_x, requires_grad=True), start=4)
check.tensor("two texts, two heads, 5 positions from 4, base 100", _out,
             np.concatenate([_points.real, _points.imag], axis=-1),
             why="the axis before the last is the positions: 4 to 8 for every text and head")
check.true("the result remembers how it was made", _out._node is not None,
           why="the turn needs its rule: call rotary on the Tensor, not turn_pairs on its .data",
           got=type(_out._node).__name__)
check.equal("type of the cosines that rotary was given",
            str(getattr(_out._node.args[1], "dtype", "no array")), "float32",
            why="float64 here would make every gradient behind it float64")
check.raises("5 words from start=8, of 12 positions", ValueError, lambda: _wide(Tensor(_x), start=8),
             why="position 12 does not exist: ask window", mention=["8", "12"])

# %% [markdown]
"""
### Only the distance counts

Is it true? Take a query and a key, put the query at one place and the key at another, turn both, and
multiply: entry by entry, added up. That number is what attention will call a **score**. `query` and
`key` are Tensors `(1, D)`, a text of one word each, so `positions(query, start=5)` is the query
standing at place 5. Return a plain number.
"""

# %% exercise="score"
def score(
    query: Tensor, key: Tensor, query_at: int, key_at: int, positions: RotaryPositions
) -> float:
    """Product of `query` (1, D) standing at place query_at with `key` (1, D) at place key_at."""
    ### BEGIN SOLUTION
    turned_query = positions(query, start=query_at)
    turned_key = positions(key, start=key_at)
    return (turned_query * turned_key).sum().item()
    ### END SOLUTION

# %% check="score" points=2
_positions, _q, _k = RotaryPositions(2, 50), Tensor([[2.0, 0.0]]), Tensor([[3.0, 0.0]])
check.close("(2, 0) at place 4 with (3, 0) at place 3", score(_q, _k, 4, 3, _positions), 3.241814,
            why="lengths 2 and 3, one radian apart: 6 cos 1")
check.true("the score is a number", isinstance(score(_q, _k, 4, 3, _positions), float),
           why=".item() makes one", got=type(score(_q, _k, 4, 3, _positions)).__name__)
check.close("(2, 0) at place 40 with (3, 0) at place 39", score(_q, _k, 40, 39, _positions), 3.241814,
            why="far down the text, and still one radian apart", rtol=1e-4)
_k = Tensor([[0.0, 3.0]])
check.close("(2, 0) at place 9 with (0, 3) at place 7", score(_q, _k, 9, 7, _positions), 5.455785,
            why="the query is 2 radians ahead: 6 cos(π/2 - 2) = 6 sin 2", rtol=1e-4)

# %% [markdown]
"""
Every score of one query with one key, the query at places 0 to 7 (down), the key at places 0 to 9
(across). Look along the diagonals.
"""

# %% demo="only_the_distance"
rng = np.random.default_rng(2)
positions = RotaryPositions(8, 2000)
query, key = Tensor(rng.standard_normal((1, 8))), Tensor(rng.standard_normal((1, 8)))
print("      " + "".join(f"{at:7}" for at in range(10)))
for query_at in range(8):
    row = [score(query, key, query_at, key_at, positions) for key_at in range(10)]
    print(f"{query_at:5} " + "".join(f"{value:7.2f}" for value in row))
print(f"query at 1503, key at 1501: {score(query, key, 1503, 1501, positions):.2f}")

# %% [markdown]
"""
## Use: words that are used alike end up together

Nobody tells the network what the words mean. It reads a small text, three thousand words from a few
patterns, and learns to guess each word from its two neighbours. The table has only **two** numbers per
word, so that we can draw it. The only way to guess well with so little is to put words with the same
neighbours at the same place.
"""

# %% demo="a_map_of_words"
GROUPS = {"ANIMAL": "cat dog horse bird", "FOOD": "bread rice soup cake",
          "DRINK": "milk tea water juice", "COLOUR": "red blue green white", "NAME": "ann ben cleo dan"}
PATTERNS = ["the ANIMAL eats FOOD .", "the ANIMAL drinks DRINK .", "the COLOUR ANIMAL sleeps .",
            "NAME cooks FOOD for NAME .", "NAME drinks DRINK .", "NAME likes the COLOUR ANIMAL .",
            "NAME eats FOOD with DRINK ."]
rng = np.random.default_rng(0)
text = []
for pattern in rng.choice(PATTERNS, 600):
    text += [rng.choice(GROUPS[word].split()) if word in GROUPS else word for word in pattern.split()]
vocabulary = sorted(set(text))
tokens = np.array([vocabulary.index(word) for word in text])
neighbours, middle = np.stack([tokens[:-2], tokens[2:]], axis=1), tokens[1:-1]


class Guesser(Module):
    """Guesses a word from the vectors of the one before it and the one after it."""

    def __init__(self, words, dim):
        self.table = Embedding(words, dim)
        self.guess = Linear(2 * dim, words)

    def forward(self, x):
        vectors = self.table(x)  # (B, 2) -> (B, 2, D)
        return self.guess(vectors.reshape(len(x), -1))


manual_seed(0)
model = Guesser(len(vocabulary), 2)
trainer = Trainer(model, CrossEntropyLoss(), Adam(model.parameters(), lr=0.02), batch_size=64)
losses = trainer.fit((neighbours, middle), 40)["loss"]
print(f"{len(text):,} words, {len(vocabulary)} different: {' '.join(text[:14])} …")
print(f"loss {losses[0]:.2f} -> {losses[-1]:.2f}; guessing blindly {np.log(len(vocabulary)):.2f}\n")

places = model.table.weight.data
places = (places - places.min(axis=0)) / (places.max(axis=0) - places.min(axis=0))
picture = [[" "] * 80 for _ in range(26)]
for word, (across, down) in zip(vocabulary, places):
    column = round(70 * float(across))
    for row in sorted(range(26), key=lambda row: abs(row - 25 * float(down))):  # the nearest free line
        if "".join(picture[row][max(column - 1, 0) : column + len(word) + 1]).isspace():
            picture[row][column : column + len(word)] = word
            break
print("\n".join("".join(row).rstrip() for row in picture))

# %% [markdown]
"""
Animals stand with animals and drinks with drinks, although the text never says that a cat is an animal.
The same as a list, with the three nearest rows of the table:
"""

# %% demo="nearest_words"
weight = model.table.weight.data
for word in ("cat", "tea", "soup", "red", "ann"):
    distance = np.sqrt(((weight - weight[vocabulary.index(word)]) ** 2).sum(axis=1))
    near = [vocabulary[i] for i in distance.argsort()[1:4]]
    print(f"{word:5} is near {', '.join(near)}")

# %% [markdown]
"""
Now the order. A text is the six words 0 to 5, shuffled; the question is whether 0 comes before 1. The
network looks at every word by itself and then takes the mean: a bag of vectors. Without positions it
can only guess.
"""

# %% demo="which_came_first"
class Reader(Module):
    """Looks at each word by itself, with or without its position, and averages what it found."""

    def __init__(self, positions):
        self.table, self.positions = Embedding(6, 16), positions
        self.hidden, self.out = Linear(16, 32), Linear(32, 2)

    def forward(self, x):
        vectors = self.table(x)
        if self.positions is not None:
            vectors = self.positions(vectors)
        return self.out(ReLU()(self.hidden(vectors)).mean(axis=1))


rng = np.random.default_rng(0)
texts = np.array([rng.permutation(6) for _ in range(800)])
first = ((texts == 0).argmax(axis=1) < (texts == 1).argmax(axis=1)).astype(int)
for name, kind in (("no positions", None), ("learned", LearnedPositions), ("waves", SinusoidalPositions)):
    manual_seed(0)
    model = Reader(None if kind is None else kind(6, 16))
    trainer = Trainer(model, CrossEntropyLoss(), Adam(model.parameters(), lr=0.01), batch_size=64)
    scores = trainer.fit((texts[:600], first[:600]), 20, (texts[600:], first[600:]))["val_accuracy"]
    print(f"{name:13} right on texts it has not seen: {100 * scores[-1]:.1f} %")

# %% [markdown]
"""
And what the waves look like. On the left the table for 32 positions and 32 columns, from a blank for -1
to `@` for 1: the fast hands come first, the slow ones last. (The base is 100 here, so that the slow
ones get somewhere in 32 positions.) On the right the product of every position with every other:
largest with itself, smaller further away, and the same along every diagonal. The distance is in there
already; the turns make it all there is.
"""

# %% demo="waves_drawn"
def shade(values):
    """One character per number, from the smallest to the largest."""
    low, high = values.min(), values.max()
    steps = ((values - low) / (high - low) * 9.999).astype(int)
    return ["".join(" .:-=+*#%@"[step] for step in row) for row in steps]


table = sinusoidal_positions(32, 32, base=100.0)
for position, (left, right) in enumerate(zip(shade(table), shade(table @ table.T))):
    print(f"{position:2} {left}    {right}")

# %% [markdown]
"""
## Measure: a large table, seldom used

GPT-2 knows 50,257 tokens and gives each 768 numbers of float32. How many megabytes (10⁶ bytes) is its
table? Predict, then run the cells below.
"""

# %% exercise="predict.table_megabytes"
### BEGIN SOLUTION
table_megabytes = 50_257 * 768 * 4 / 1e6
### END SOLUTION

# %% check="predict.table_megabytes" points=1
check.prediction("GPT-2's table in megabytes", table_megabytes, "MTU0LjM4OTUwNA==", unit="MB", rel=0.01,
                 why="rows times columns times 4 bytes")

# %% [markdown]
"""
It is trained on batches of, say, 8 texts with 1,024 tokens each. What share of the table's rows, in
percent, gets a gradient that is not zero in one step, at the **most**?
"""

# %% exercise="predict.share_of_rows"
### BEGIN SOLUTION
share_of_rows = 100 * 8 * 1024 / 50_257
### END SOLUTION

# %% check="predict.share_of_rows" points=1
check.prediction("largest share of rows touched by 8 * 1,024 tokens", share_of_rows, "MTYuMzAwMjE2ODg1MjA5MDI1",
                 unit="percent", rel=0.02, why="if no token came twice, every token would touch a row of its own")

# %% demo="table_bytes"
for name, v, d in (("characters", 65, 64), ("TinyTalks, byte pairs", 1024, 128), ("GPT-2", 50_257, 768),
                   ("Llama 3, 8 billion", 128_256, 4096)):
    print(f"{name:22} ({v:7,}, {d:5,})  {v * d * 4:>14,} bytes")
small = Embedding(1024, 128)
print(f"measured: Embedding(1024, 128).weight has {small.weight.data.nbytes:,} bytes")

# %% [markdown]
"""
In small models the table is most of the model; in large ones it is a large array that is hardly used.
Next the time: 16 tokens from tables that grow tenfold, by product and by lookup. How will each column
grow? Guess, then run.
"""

# %% demo="product_against_lookup"
def milliseconds(call):
    """The best of three."""
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
    return 1e3 * best


rng = np.random.default_rng(0)
print("    rows    one-hot bytes   product ms   lookup ms")
for v in (50, 500, 5_000, 50_000):
    table, text = Tensor(rng.standard_normal((v, 32))), rng.integers(0, v, 16)
    product = milliseconds(lambda: one_hot(text, v) @ table.data)
    looked_up = milliseconds(lambda: lookup(table, text))
    print(f"{v:8,} {16 * v * 4:>16,} {product:12.3f} {looked_up:11.4f}")

# %% [markdown]
"""
The product grows with the table. The lookup knows only how many rows it fetches.

Then the gradient. Words are very unevenly frequent: in most texts the word of rank `r` occurs about
`1/r` times as often as the first (Zipf's law). We draw a batch like that, 8 texts of 1,024 tokens, from
GPT-2's 50,257 (with 64 columns, to be quick), and go backward.
"""

# %% demo="rows_touched"
rng = np.random.default_rng(0)
frequency = 1 / np.arange(1, 50_258)
batch = rng.choice(50_257, (8, 1024), p=frequency / frequency.sum())
table = Embedding(50_257, 64)
out = table(batch)
g = np.ones(out.shape, dtype=np.float32)
out.backward(g)
touched = (table.weight.grad != 0).any(axis=1)
rows, values = sparse_gradient(g, batch)
print(f"rows with a gradient: {touched.sum():,} of {len(touched):,}, {100 * touched.mean():.1f} %")
print(f"dense gradient:  {table.weight.grad.nbytes:>12,} bytes, nearly all of them zeros")
print(f"sparse gradient: {rows.nbytes + values.nbytes:>12,} bytes, the same information:",
      np.allclose(table.weight.grad[rows], values))

# %% [markdown]
"""
A dense gradient is read by the optimizer from end to end in every step, and Adam keeps two more arrays
of that size. For the rows that no batch touched, what do the optimizers do? Three words: the first is
in every batch, the second only in the first one, the third never. All start at 1, and every batch pulls
them down.
"""

# %% demo="rows_that_no_batch_touched"
def pulled_down(make_optimizer, steps=40):
    """The three rows after 1, 2, 10 and `steps` steps."""
    weight, seen = Parameter(np.ones((3, 1))), []
    optimizer = make_optimizer([weight])
    for step in range(1, steps + 1):
        optimizer.zero_grad()
        batch = np.array([0, 1]) if step == 1 else np.array([0])
        embedding(weight, batch).sum().backward()
        optimizer.step()
        if step in (1, 2, 10, steps):
            seen.append(weight.data[:, 0].copy())
    return np.array(seen).T


for name, make in (("SGD", lambda p: SGD(p, lr=0.01)), ("Adam", lambda p: Adam(p, lr=0.01)),
                   ("AdamW", lambda p: AdamW(p, lr=0.01, weight_decay=0.5))):
    print(f"{name:6}          step 1   step 2  step 10  step 40")
    for word, row in zip(("always", "once", "never"), pulled_down(make)):
        print(f"  {word:10}" + "".join(f"{value:9.4f}" for value in row))

# %% [markdown]
"""
With SGD a row moves when its word is there. Adam goes on moving the second row for many steps after its
only word, by momentum alone. And AdamW's weight decay shrinks every row in every step, also the one of
the word that never came: what looks like learning is forgetting.

## Break: the row from the end

A team pads short texts with -1, "no word", and looks them up with plain NumPy indexing. Nothing
complains.
"""

# %% demo="minus_one"
table = Embedding(4, 2)
table.weight.data[...] = [[1, 1], [2, 2], [3, 3], [4, 4]]
padded = np.array([0, 2, -1, -1])
print("NumPy:     ", table.weight.data[padded].tolist())
try:
    table(padded)
except IndexError as error:
    print("IndexError:", error)

# %% [markdown]
"""
Each padding took the **last** row of the vocabulary, and trains it: often that is the token for the end
of the text, which now means "nothing" as well. The symptom in production is a model that stops too
early, or never.

The second classic is the gradient that assigns instead of adding. The table below has four words with
one number each, and every word should become 0. In the batch the first word stands 50 times and the
last once.
"""

# %% demo="assigning"
def assigned(g, out, weight, indices):
    gradient = np.zeros_like(weight)
    gradient[indices] = g
    return gradient


assigning = tracked(lookup, (assigned, None), "embedding")
counts = np.array([50, 10, 3, 1])
batch = np.repeat(np.arange(4), counts)
left = []
for operation in (embedding, assigning):
    weight = Parameter(np.ones((4, 1)))
    optimizer = SGD([weight], lr=0.4)
    for _ in range(30):
        optimizer.zero_grad()
        (operation(weight, batch) ** 2).mean().backward()
        optimizer.step()
    left.append(weight.data[:, 0])
print("times in the batch   left when adding   when assigning")
for count, right, wrong in zip(counts, *left):
    print(f"{count:18} {right:18.4f} {wrong:16.4f}")

# %% [markdown]
"""
Rare words learn as they should. Frequent words, which should be learned first, learn as slowly as the
rarest: of fifty gradients one is left. The loss falls, slowly, and people turn up the learning rate.
The symptom: a model whose rare words are better than its frequent ones.

## Reflect

Predict with pencil and paper, write the answer into the cell, and the check says whether it holds.

**1.** One token is looked up in GPT-2's table, 50,257 rows of 768 numbers, as the product of a one-hot
row with the table. How many **million** multiplications is that?
"""

# %% exercise="predict.product_multiplications"
### BEGIN SOLUTION
product_multiplications = 50_257 * 768 / 1e6
### END SOLUTION

# %% check="predict.product_multiplications" points=1
check.prediction("million multiplications for one token", product_multiplications, "MzguNTk3Mzc2", rel=0.01,
                 unit="million", why="every entry of the table is multiplied once, nearly always by zero")

# %% [markdown]
"""
**2.** Llama 3 has a table of 128,256 rows and 4,096 columns. In float32 and with Adam, how many
gigabytes (10⁹ bytes) does this one layer need during training, with its weights, a dense gradient and
Adam's arrays?
"""

# %% exercise="predict.training_gigabytes"
### BEGIN SOLUTION
training_gigabytes = 4 * 128_256 * 4096 * 4 / 1e9
### END SOLUTION

# %% check="predict.training_gigabytes" points=1
check.prediction("Llama 3's table in training, gigabytes", training_gigabytes, "OC40MDUzODUyMTY=", unit="GB",
                 rel=0.01,
                 why="four arrays of one size, however few rows a batch touches")

# %% [markdown]
"""
**3.** A query at place 12 and a key at place 5 have a score of 1.7, with rotary positions. The same key
now stands at place 30. At which place must the same query stand to score 1.7 again, whatever the two
vectors are?
"""

# %% exercise="predict.same_score"
### BEGIN SOLUTION
same_score = 30 + (12 - 5)
### END SOLUTION

# %% check="predict.same_score" points=1
check.prediction("the place of the query", same_score, "MzcuMA==", rel=0.001,
                 why="the score knows the distance and its direction, and nothing else")

# %% [markdown]
"""
**4.** A model with rotary positions writes a text one word at a time: each new word goes through it
alone, as x of shape `(1, H, 1, D)`, and the keys of earlier words are remembered from their own turn.
The code forgets `start`. What happens?

- a) an error: the shapes do not fit
- b) nothing: the score depends on the distance only
- c) every word is turned as if it stood at place 0: all distances are 0 and the order is lost
- d) the distances are right, but every word seems to stand one place too far left
"""

# %% exercise="predict.forgotten_start"
### BEGIN SOLUTION
forgotten_start = "c"
### END SOLUTION

# %% check="predict.forgotten_start" points=1
check.choice("what happens without start", forgotten_start, "Yw==", ["a", "b", "c", "d"],
             why="ask what T is in each call, and which rows of cos and sin it cuts out")

# %% [markdown] question="a_token_nobody_wrote" points=2
"""
**Open question, graded by a person.** In 2023 people found tokens in GPT-2's vocabulary, such as
` SolidGoldMagikarp`, that made models answer with nonsense. The tokenizer had been trained on one text,
the model on another, in which these tokens hardly ever occur. What is in such a row of the table after
training with SGD, with Adam, and with AdamW? Why does no error and no loss curve show it? Name two
things you would do about it, before or after training.

*Your answer:*
"""

# %% [markdown]
"""
## In production

`torch.nn.Embedding` is this table. `sparse=True` makes its gradient the pairs you computed, and
`SparseAdam` then updates only these rows and their moments. Recommender systems live on that: their
tables have a row per user and per product, terabytes of them, cut in pieces over many machines, and
each batch fetches only the rows it needs (Naumov et al. 2019). Language models mostly keep dense
gradients, because every token of the vocabulary also takes part in the output layer: many tie the two,
one array for the way in and the way out (Press & Wolf 2017), and so will your GPT.

Positions have changed most. The first transformer added waves (Vaswani et al. 2017), GPT-2 learned
them, Llama and most models since turn (Su et al. 2021). To read texts longer than those of training,
the angles are stretched: positions squeezed into the old range (Chen et al. 2023), or a larger base, so
that the slow hands go slower still (Llama 3 uses 500,000 instead of 10,000). Kernels on a GPU turn
queries and keys inside the attention kernel, without writing them to memory.

Ours computes its angles in float64 and rounds cosine and sine at the end: near position 100,000 two
neighbouring float32 numbers are 0.008 apart, which is too coarse for an angle. What we are not
building: a row for padding that never learns (`padding_idx`), rows whose length is limited, bags of
embeddings, and sparse optimizers.

Sources: Bengio et al. 2003 (a table learned with the model); Mikolov et al. 2013 (words from their
neighbours); Rumbelow & Watkins 2023 (tokens that nobody wrote).

## When it fails

| symptom | cause | where to look |
|---|---|---|
| `is outside 0..` | a token number without a row: negative, or too large | padding; is the table as large as `tokenizer.vocab_size`? |
| `must be whole numbers` | text, fractions or probabilities where token numbers belong | encode first; x and y exchanged? |
| `of integer (or boolean) type` | a float array as an index | `token_ids`, or `.astype(np.int64)` |
| `only integers, slices` | a Tensor as an index of an array | its `.data`, as integers |
| `is out of bounds for axis` | NumPy found a missing row before your own check did | `token_ids` first; `indices` and not `g` as the index |
| `asked of a table of` | a text longer than the table of positions | a shorter text, a larger `max_length`; does `start` grow for ever? |
| `dim must be even` | rotary positions need pairs | D of one head: model width / number of heads |
| `is the width of one head` | positions made for another width | `RotaryPositions(dim // heads, …)` |
| `could not broadcast input` | rows filled where columns were meant | `table[:, 0::2]` are every other column |
| `could not be broadcast` | two arrays whose axes do not line up | a new axis with `[..., None]` or `[:, None]`; cos and sin are (T, D/2) where x is (..., T, D): cut them with `window` |
| `do not broadcast` | other positions than words | `window(self.max_length, start, x.shape[-2])`, in this order |
| `core dimension` | a product with one-hot rows of several texts | rows of indices first: `reshape(-1)`; better, no product at all |
| `0-d array` | a loop over a single index | arrays index arrays of every shape at once, without a loop |
| `memoryview` | `.data` of an array, which is not the `.data` of a Tensor | hand over the Tensor itself |
| `has no graph` | the result was computed on `.data` only | add and index Tensors: `x + self.weight[...]` |
| `not broadcastable` | `np.add.at` got indices and g that do not belong together | g is (..., D) where indices are (...) |
| `shape mismatch` | indices and values of an assignment do not fit | g is (..., D) where indices are (...) |
| `too many indices` | an array has fewer axes than you think | `indices[..., None]` works for every shape, `indices[:, None]` does not for () |
| `tuple index out of range` | x without an axis for positions | x must be (..., T, D), also for a single word: (1, D) |
| `truth value of an array` | `if`, `or` or a single comparison met an array where it wanted one number; or brackets are missing: the bar binds tighter than `<` | compare whole arrays, each comparison in brackets, the bar between them, then `.any()` |
| `read-only` | a gradient was written in place | return a new array |
| `no gradient arrives` | the table of positions was indexed by its `.data` | `self.weight[...]`, a Tensor |
| `NoneType` | a function without `return`, or a gradient that never arrived | the last line; an operation on `.data` cuts the graph |
| `backward says` | the rule is not the slope of the turn | `-sin` on the way back, `cos` as it is |
"""
