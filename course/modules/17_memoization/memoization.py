# %% [markdown]
"""
# 17 · Memoization

A model that writes asks the same question of the same tokens again and again, and computes the answer anew
each time. Nothing of it has changed. This module keeps what was computed, so that the thousandth token
costs what the first one did, and counts what that costs in memory.

```
you have built     12 attention, 13 GPT and generate, 14 profiling
        |
        v
you build now      the key-value cache, attention and decoding that use it,
                   generate_cached and generate_batch, and what to do when it is full
        |
        v
this unlocks       18 the same decode with less around it; milestone 2024
```

Time: about 3 hours. Every exercise is a cell with a hole in it, and the cell below it checks your answer.
Run `tito watch` in a terminal beside this notebook. The letters of all shapes: B texts, T new tokens, S
tokens in all, H heads, D numbers per head.
"""

# %% given="imports"
#| default_exp nn.kvcache
#| export
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self

import numpy as np

from tinytorch.core.autograd import no_grad
from tinytorch.core.tensor import Tensor
from tinytorch.nn.attention import MultiHeadAttention, scaled_dot_product_attention
from tinytorch.nn.embedding import LearnedPositions
from tinytorch.nn.transformer import GPTConfig, choose

# %% given="tools"
import time
import tracemalloc

import tito.checks as check
from threadpoolctl import threadpool_limits
from tinytorch.core.autograd import is_grad_enabled
from tinytorch.core.layers import Linear
from tinytorch.core.losses import CrossEntropyLoss
from tinytorch.core.optimizers import AdamW
from tinytorch.core.tensor import manual_seed
from tinytorch.core.training import WarmupCosine, training_step
from tinytorch.nn.attention import causal_mask
from tinytorch.nn.embedding import RotaryPositions
from tinytorch.nn.transformer import GPT, generate
from tito.notebook import method_of

threadpool_limits(1)  # matrix products on one core, so that times can be compared

KINDS_OF_MODEL = {
    "learned, tied": {},
    "learned, head of its own": {"tie_weights": False},
    "sinusoidal": {"positions": "sinusoidal"},
    "rotary": {"positions": "rotary"},
    "rotary, 1 key head, RMSNorm, SwiGLU": {"positions": "rotary", "kv_heads": 1, "norm": "rms", "mlp": "swiglu"},
}


def small_model(context=16, seed=0, **kinds):
    """A GPT of 11 words, 8 wide, 4 heads, 2 blocks, with numbers large enough to make a difference."""
    model = GPT(GPTConfig(11, context, dim=8, heads=4, layers=2, **kinds)).eval()
    rng = np.random.default_rng(seed)
    for name, parameter in model.named_parameters():
        parameter.data[...] = rng.normal(size=parameter.shape) * 0.5 + ("norm" in name and "weight" in name)
    return model


def some_tokens(*shape, seed=1):
    """Token numbers below 11."""
    return np.random.default_rng(seed).integers(0, 11, shape)


def _new(tokens, seed, batch=2, heads=3, width=2):
    """Random keys and values of some tokens."""
    rng = np.random.default_rng(seed)
    return [Tensor(rng.normal(size=(batch, heads, tokens, width))) for _ in range(2)]

# %% [markdown]
"""
## Why: every token pays for all before it

Here is a GPT of four blocks, not trained: what it says does not matter now, only how long it takes. It
writes with `generate` of module 13. Guess: does the 250th token take as long as the 10th?
"""

# %% demo="slower_and_slower"
manual_seed(0)
slow = GPT(GPTConfig(512, 256, dim=128, heads=4, layers=4)).eval()


def stamped(model, count):
    """The times at which each of `count` tokens is asked for, when `generate` writes after one token."""
    stamps, forward = [], model.forward
    model.forward = lambda tokens: stamps.append(time.perf_counter()) or forward(tokens)
    generate(model, [1], count + 1, seed=0)
    del model.forward
    return np.diff(stamps)


times = stamped(slow, 255) * 1e3
means = times[:250].reshape(5, 50).mean(axis=1)
for number, mean in enumerate(means):
    print(f"tokens {50 * number + 1:3} to {50 * number + 50:3}   {mean:6.2f} ms each  {'#' * round(40 * mean / means.max())}")

# %% [markdown]
"""
It gets slower with every token, for `generate` hands the *whole* text to the model each time. What is new
in the result? The next cell asks for the keys of the last block, which everything below has shaped: once
for a text of 20 tokens, and once for the same text with a 21st.
"""

# %% demo="nothing_new"
def keys_of_last_block(model, tokens):
    """What the last block's key layer gives for a text: (T, dim)."""
    layer, found = model.blocks[-1].attention.key, []
    forward = layer.forward
    layer.forward = lambda x: found.append(forward(x)) or found[-1]
    with no_grad():
        model([tokens])
    del layer.forward
    return found[0].data[0]


text = np.random.default_rng(0).integers(0, 512, 21)
before, after = keys_of_last_block(slow, text[:20]), keys_of_last_block(slow, text)
print(f"keys of 20 tokens {before.shape}, of 21 tokens {after.shape}")
print(f"largest number among them: {np.abs(before).max():.3f}")
print(f"largest change of the first 20: {np.abs(after[:20] - before).max():.1e}")

# %% [markdown]
"""
Nothing (or the last digits, where a product of another shape adds in another order). The causal mask of
module 12 is the reason. Token 5 sees tokens 0 to 5, so nothing that is written later can change what the
model makes of it, in any block. Twenty rows were computed for the second time, to throw them away.

## Foundations: four tokens, by hand

A model writes four tokens, after a first one that is given. Count the rows (one row is one token's vector)
that go through each layer:

```
                     without a cache             with a cache
step 1   [a]         1 row    a                  1 row    a
step 2   [a b]       2 rows   a b                1 row      b
step 3   [a b c]     3 rows   a b c              1 row        c
step 4   [a b c d]   4 rows   a b c d            1 row          d
                    --                          --
                    10 rows                      4 rows
```

For n tokens it is 1 + 2 + … + n = n (n + 1) / 2 against n. For a hundred: **5,050 against 100**.

What must be remembered for that? Look at attention's table, a row per query and a column per key:

```
          key  a b c d
query a        T . . .     done in step 1
      b        T T . .     done in step 2
      c        T T T .     done in step 3
      d        T T T T     new
```

The new row needs the query of d, and **all keys**; and then all values, for their average. It does not need
the queries of a, b and c: they have been answered. Norms, mlps and layers look at one token at a time, so
they need nothing but the new row. So keys and values of each block are all there is to remember:

```
text a b, block 0         keys     [ka kb  .  . ]     2 of 4 columns filled: length 2, capacity 4
                          values   [va vb  .  . ]
c arrives: write at 2     keys     [ka kb kc  . ]     then the query of c meets the first 3 columns
```

The idea is older than transformers: a function whose result cannot change need not be called twice. Its
name is **memoization**.

## Build

### Count first

Claims about work are cheap; let us count. `rows_through(layer, run)` calls `run()`, and returns how many
rows went through `layer` meanwhile: a tensor (B, T, dim) is B * T of them.

You saw above how a layer is watched: an attribute `forward` on the *instance* hides the one of its class.
Put a function there that adds to `rows` and then does what the real one does. Afterwards take it off with
`del layer.forward`, also if `run()` fails: `try:` … `finally:`. (Putting the old one back is not the same:
then the instance has an attribute that it did not have, and it shows in `repr`.)
"""

# %% exercise="rows_through"
def rows_through(layer, run):
    """How many rows, the vectors of one token each, go through `layer` while `run()` runs.

    layer: a Module whose forward takes one tensor (..., width). It is as it was afterwards.
    """
    forward, rows = layer.forward, 0
    ### BEGIN SOLUTION
    def watched(x):
        nonlocal rows
        rows += x.size // x.shape[-1]
        return forward(x)

    layer.forward = watched
    try:
        run()
    finally:
        del layer.forward
    ### END SOLUTION
    return rows

# %% check="rows_through" points=4
manual_seed(0)
_layer, _out = Linear(3, 2), []
_x = Tensor(np.ones((2, 5, 3)))
check.equal("rows of one call with (2, 5, 3)", rows_through(_layer, lambda: _out.append(_layer(_x))), 10,
            why="2 texts of 5 tokens; the 3 numbers are one row")
check.tensor("what the layer gave while it was watched", _out[0] if _out else None, _layer(_x).data,
             why="whoever calls the layer needs its result")
check.equal("rows of (4, 3), (7, 3) and (3,)",
            rows_through(_layer, lambda: [_layer(Tensor(np.ones(_s))) for _s in ((4, 3), (7, 3), (3,))]), 12,
            why="4 + 7 + 1, over all calls")
check.equal("rows of a run that never calls it", rows_through(_layer, lambda: None), 0, why="nothing, twice over")
def _own_forward(layer):
    """What the instance has as `forward` of its own."""
    own = vars(layer).get("forward")
    return "nothing" if own is None else "its class's method" if hasattr(own, "__self__") else "a watching function"


check.equal("the layer's own `forward` after these runs", _own_forward(_layer), "nothing",
            why="del layer.forward uncovers the one of the class")
try:
    rows_through(_layer, lambda: _layer(Tensor(np.ones((1, 4)))))
except ValueError:
    pass
check.equal("the same after a run that failed", _own_forward(_layer), "nothing",
            why="an error, or Ctrl-C, must not leave the layer watched: del in a finally")

# %% [markdown]
"""
A hundred tokens after one that is given, and the rows through the query layer of the first block:
"""

# %% demo="five_thousand_and_fifty"
counted = small_model(context=128)
layer = counted.blocks[0].attention.query
print("tokens    rows")
for count in (1, 4, 10, 100):
    print(f"{count:6}  {rows_through(layer, lambda: generate(counted, [1], count, seed=0)):6,}")

# %% [markdown]
"""
### What it will cost

Memory, and you can say how much before anything is built. Each token leaves a key and a value in each
block, in every head of keys, D numbers each, in float32:

```
2 blocks, 4 heads, dim 8        D = 8 / 4 = 2
keys and values   2 * blocks 2 * heads 4 * D 2 = 32 numbers = 128 bytes per token
the same with kv_heads=1                          8 numbers =  32 bytes
```

`config.key_heads` is the number of heads of keys and values (module 12's shared ones), `config.heads` that
of the queries, which says how wide a head is.
"""

# %% exercise="bytes_per_token"
#| export
def bytes_per_token(config: GPTConfig) -> int:
    """Bytes that a token of one text leaves behind: keys and values of all blocks, in float32.

    >>> bytes_per_token(GPTConfig(50257, 1024, dim=768, heads=12, layers=12))
    73728
    """
    ### BEGIN SOLUTION
    width = config.dim // config.heads * config.key_heads
    return 2 * config.layers * width * np.dtype(Tensor.dtype).itemsize
    ### END SOLUTION

# %% check="bytes_per_token" points=2
_base = {"dim": 8, "heads": 4, "layers": 2}
check.equal("2 blocks, 4 heads, dim 8", bytes_per_token(GPTConfig(11, 16, **_base)), 128,
            why="2 * 2 * 4 heads * 2 numbers = 32, 4 bytes each")
check.equal("the same with kv_heads=1", bytes_per_token(GPTConfig(11, 16, **_base, kv_heads=1)), 32,
            why="a head is still 8 / 4 = 2 wide, and there is one of keys and one of values")
check.equal("another vocabulary, context and mlp", bytes_per_token(GPTConfig(99, 512, **_base, hidden=5)), 128,
            why="none of them leaves keys or values behind")
check.equal("GPT-2 small", bytes_per_token(GPTConfig(50257, 1024, dim=768, heads=12, layers=12)), 73_728,
            why="2 * 12 * 768 * 4")
check.equal("64 query heads, 8 key heads, dim 8192, 80 blocks",
            bytes_per_token(GPTConfig(32000, 4096, dim=8192, heads=64, layers=80, kv_heads=8)), 655_360,
            why="2 * 80 * 8 * 128 * 4: as the 70-billion Llama 2, but in float32")

# %% [markdown]
"""
### The cache

One array for the keys of all blocks and one for the values, allocated **once**, for as many tokens as will
ever fit: `(layers, B, heads, capacity, D)`. A list to which each step appends, or `np.concatenate`, would
copy everything that is there for each new token, and the work that grows with the square would be back.

Read the class. `length` says how many columns are filled, for all blocks and texts alike. `padding` belongs
to texts of different lengths and comes later; it is 0 for now.
"""

# %% given="KVCache"
#| export
class KVCache:
    """Keys and values of the tokens so far, of every block: (layers, B, heads, capacity, D) each.

    heads: those of keys and values. capacity: the most tokens. padding (B,): how many of the first
    columns of each text are filling that nobody may look at.
    Raises ValueError for sizes below 1. Cost: all its bytes at once, `nbytes`, and no copy later.

    >>> cache = KVCache(layers=2, batch=1, heads=4, dim_per_head=8, capacity=100)
    >>> cache.length, cache.nbytes
    (0, 51200)
    """

    def __init__(
        self, layers: int, batch: int, heads: int, dim_per_head: int, capacity: int
    ) -> None:
        shape = (layers, batch, heads, capacity, dim_per_head)
        if min(shape) < 1:
            raise ValueError(
                f"KVCache: (layers, batch, heads, capacity, dim_per_head) = {shape}: "
                "each must be 1 or more."
            )
        self.layers, self.capacity, self.length = layers, capacity, 0
        self.keys = np.zeros(shape, dtype=Tensor.dtype)
        self.values = np.zeros(shape, dtype=Tensor.dtype)
        self.padding = np.zeros(batch, dtype=np.int64)

    @classmethod
    def for_model(cls, model: Any, batch: int = 1, capacity: int | None = None) -> Self:
        """A cache for a GPT, as long as its context unless `capacity` asks for less.

        Raises ValueError for a capacity beyond the context.
        """
        c = model.config
        capacity = c.context if capacity is None else capacity
        if capacity > c.context:
            raise ValueError(
                f"KVCache: a capacity of {capacity}, but the model has positions for {c.context} "
                "tokens. Take less, or build the model with a longer context."
            )
        return cls(c.layers, batch, c.key_heads, c.dim // c.heads, capacity)

    def __repr__(self) -> str:
        layers, batch, heads, capacity, width = self.keys.shape
        sizes = f"{layers} layers, {batch} texts, {heads} heads of {width}"
        return f"KVCache({sizes}, {self.length} of {capacity} tokens, {self.nbytes:,} bytes)"

    @property
    def batch(self) -> int:
        """How many texts."""
        return self.keys.shape[1]

    @property
    def nbytes(self) -> int:
        """Bytes of keys and values, filled or not."""
        return self.keys.nbytes + self.values.nbytes

# %% [markdown]
"""
### Room

A cache is full one day, and must say so. `reserve(new)` returns where `new` more tokens would end, or
refuses. What would happen without it? A slice that is too long is no error in NumPy: it is shorter than
asked for, and you would hear of shapes that do not broadcast. Name the tokens that are there, those that
should come, and the capacity.
"""

# %% exercise="KVCache.reserve"
#| export
@method_of(KVCache)
def reserve(self, new: int) -> int:
    """The column after `new` more tokens. Raises ValueError, with the three numbers, without room.

    >>> KVCache(1, 1, 1, 2, capacity=8).reserve(8)
    8
    """
    ### BEGIN SOLUTION
    end = self.length + new
    if end > self.capacity:
        raise ValueError(
            f"KVCache: full. {self.length} tokens are stored, {new} more do not fit into {self.capacity}. "
            "Trim or clear it, or make one with a larger capacity."
        )
    return end
    ### END SOLUTION

# %% check="KVCache.reserve" points=2
_cache = KVCache(1, 1, 1, 2, capacity=13)
_cache.length = 9
check.equal("3 more after 9, capacity 13", _cache.reserve(3), 12, why="columns 9, 10 and 11")
check.equal("4 more after 9", _cache.reserve(4), 13, why="the last column is number 12: exactly full is allowed")
check.equal("the length afterwards", _cache.length, 9, why="asking stores nothing")
check.raises("5 more after 9, capacity 13", ValueError, lambda: _cache.reserve(5), mention=["9", "5", "13"],
             why="14 tokens in 13 columns: what is there, what should come, and what fits")
check.raises("14 more after 9, capacity 13", ValueError, lambda: _cache.reserve(14), mention=["14"],
             why="more than an empty cache would hold")

# %% [markdown]
"""
### Append

`append(layer, key, value)` writes the new keys and values of one block, `(B, heads, T, D)`, behind those
that are there, and returns all of them, old and new, `(B, heads, S, D)`. As **views**: `keys[layer, :, :,
:end]` copies nothing.

One question is left, and it is where home-made caches fail: when does `length` grow? A token goes through
block 0, then block 1, and so on. All of them must write at the *same* column. So the length grows when the
**last** block has appended: then the token is complete. That has a second merit: whatever stops a step half
way, a Ctrl-C or an error, the length still says what is whole.

```
length 2      append(0, k, v)  writes column 2      length 2
              append(1, k, v)  writes column 2      length 3     (2 layers: this was the last one)
```

`key` and `value` are Tensors; so are the two that you return. `Tensor(array)` of a float32 array does not
copy.
"""

# %% exercise="KVCache.append"
#| export
@method_of(KVCache)
def append(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """Store key and value (B, heads, T, D) of new tokens; all that `layer` has, (B, heads, S, D).

    The results are views. `length` grows when the last layer appends. Raises ValueError without room.
    Cost: the new numbers copied; nothing that grows with the length.
    """
    end = self.reserve(key.shape[2])
    ### BEGIN SOLUTION
    self.keys[layer, :, :, self.length : end] = key.data
    self.values[layer, :, :, self.length : end] = value.data
    if layer == self.layers - 1:
        self.length = end
    keys, values = self.keys[layer, :, :, :end], self.values[layer, :, :, :end]
    return Tensor(keys), Tensor(values)  # type: ignore[no-untyped-call]
    ### END SOLUTION

# %% check="KVCache.append" points=6
_cache = KVCache(layers=2, batch=2, heads=3, dim_per_head=2, capacity=6)
(_k0, _v0), (_k1, _v1), (_k2, _v2), (_k3, _v3) = (_new(_n, _n) for _n in (3, 1, 4, 2))
_first = _cache.append(0, _k0, _v0)
check.equal("what append returns", [type(_t).__name__ for _t in _first], ["Tensor", "Tensor"],
            why="attention goes on with them")
check.tensor("3 tokens in layer 0: its keys", _first[0], _k0.data, why="nothing else is there yet, and no empty column")
check.tensor("its values", _first[1], _v0.data, why="keys and values are two arrays")
check.equal("length after layer 0 of 2", _cache.length, 0,
            why="layer 1 must write into the same columns: only the last layer completes a token")
_second = _cache.append(1, Tensor(_k0.data * 10), Tensor(_v0.data * 10))
check.tensor("the same tokens in layer 1: its keys", _second[0], _k0.data * 10, why="every layer has its own, from column 0 on")
check.equal("length after layer 1 of 2", _cache.length, 3, why="now the 3 tokens are complete")
_first = _cache.append(0, _k1, _v1)
_joined = np.concatenate([_k0.data, _k1.data], axis=2), np.concatenate([_v0.data, _v1.data], axis=2)
check.tensor("one token more in layer 0: its keys", _first[0], _joined[0], why="the old ones, then the new one: 4 columns")
check.tensor("its values", _first[1], _joined[1], why="in the same columns as their keys")
check.same_storage("keys that append returned", _first[0], _cache.keys, why="a view: nothing old is copied")
check.same_storage("values that append returned", _first[1], _cache.values, why="a view: nothing old is copied")
_cache.append(1, _k1, _v1)
check.equal("length after 3 and 1", _cache.length, 4, why="3 + 1")
check.raises("4 more, capacity 6", ValueError, lambda: _cache.append(0, _k2, _v2), why="reserve sees to that",
             mention=["4", "6"])
_cache.append(0, _k3, _v3)
check.close("column 3 of layer 1, after layer 0 got more", _cache.keys[1, :, :, 3], _k1.data[:, :, 0],
            why="layers do not write into each other's columns")
check.tensor("2 more in layer 1, up to the capacity", _cache.append(1, _k3, _v3)[1][:, :, 3:],
             np.concatenate([_v1.data, _v3.data], axis=2), why="6 of 6 columns")

# %% [markdown]
"""
### Trim: what may be forgotten

Tokens at the **end** may be forgotten at any time. What came before never saw them, so it stays right.
`trim(keep)` keeps the first `keep` tokens. A chat program uses it to answer two questions after the same
long introduction: it reads the introduction once, answers, trims back, and answers the next.

Tokens at the **beginning** may not. The keys of everything behind them were made by blocks that had seen
them. Hold on to this; it decides what happens when the cache is full.

Nothing needs to be erased: what lies beyond `length` is never looked at, and will be overwritten. Refuse a
`keep` below 0 or above what is stored. `clear()`, given, is `trim(0)`.
"""

# %% exercise="KVCache.trim"
#| export
@method_of(KVCache)
def trim(self, keep: int) -> None:
    """Forget all but the first `keep` tokens. Raises ValueError unless 0 <= keep <= length. Cost: none."""
    ### BEGIN SOLUTION
    if not 0 <= keep <= self.length:
        raise ValueError(
            f"KVCache: trim to {keep} of {self.length} stored tokens. Keep from 0 to all of them."
        )
    self.length = keep
    ### END SOLUTION

# %% check="KVCache.trim" points=2
_cache = KVCache(layers=1, batch=2, heads=3, dim_per_head=2, capacity=6)
(_k0, _v0), (_k1, _v1) = _new(4, 5), _new(1, 6)
_cache.append(0, _k0, _v0)
_cache.trim(2)
check.equal("length after 4 tokens, trimmed to 2", _cache.length, 2, why="the first two are kept")
check.tensor("keys after one more", _cache.append(0, _k1, _v1)[0],
             np.concatenate([_k0.data[:, :, :2], _k1.data], axis=2), why="tokens 0 and 1, then the new one in column 2")
_cache.trim(3)
check.equal("length after trim(3) of 3", _cache.length, 3, why="keeping all is allowed")
check.raises("trim(4) of 3 tokens", ValueError, lambda: _cache.trim(4), mention=["4", "3"],
             why="column 3 holds a token that was forgotten: it must not come back")
check.raises("trim(-1)", ValueError, lambda: _cache.trim(-1), mention=["-1"], why="-1 tokens cannot be kept")
check.equal("length after these refusals", _cache.length, 3, why="nothing was changed")
_cache.trim(0)
check.equal("length after trim(0)", _cache.length, 0, why="0 is allowed: the cache is empty")

# %% given="KVCache.clear"
#| export
@method_of(KVCache)
def clear(self) -> None:
    """Forget everything, the padding too, and keep the memory."""
    self.length = 0
    self.padding = np.zeros(self.batch, dtype=np.int64)


@method_of(KVCache)
def select(self, rows: Sequence[int]) -> None:
    """Go on with some of the texts only, by their row numbers. Cost: their numbers copied."""
    self.keys, self.values = self.keys[:, rows], self.values[:, rows]
    self.padding = self.padding[rows]

# %% [markdown]
"""
### Several new tokens at once

A prompt of 50 tokens is 50 new tokens in one step. They must not see each other's future. And a prompt may
come in two pieces: 3 tokens are stored, 2 come. Which keys may the new queries see? Write down the causal
mask of all 5, and take the last two rows:

```
          key  0 1 2 3 4
query 0        T . . . .   |
      1        T T . . .   |  answered
      2        T T T . .   |
      3        T T T T .   <- the 2 rows
      4        T T T T T   <-
```

So `last_rows(2, 5)` is `causal_mask(5)[-2:]`, without making the rest: for a context of 4,096, the whole
mask for each new token would be the square again. `np.tri(rows, columns, k)` is True up to column `t + k`
in row t.
"""

# %% exercise="last_rows"
#| export
def last_rows(new: int, total: int) -> np.ndarray:
    """The last `new` rows of the causal mask of `total` tokens: (new, total) of bool.

    Cost: new * total bytes.

    >>> last_rows(2, 4).astype(int).tolist()
    [[1, 1, 1, 0], [1, 1, 1, 1]]
    """
    ### BEGIN SOLUTION
    return np.tri(new, total, total - new, dtype=bool)
    ### END SOLUTION

# %% check="last_rows" points=3
check.equal("type of last_rows(2, 5)", (type(last_rows(2, 5)).__name__, str(getattr(last_rows(2, 5), "dtype", ""))),
            ("ndarray", "bool"), why="module 12's masks are bool")
for _n, _total in ((2, 5), (4, 4), (1, 6), (3, 7)):
    check.close(f"last_rows({_n}, {_total}) as ones and zeros", np.asarray(last_rows(_n, _total), dtype=float),
                causal_mask(_total)[_total - _n :].astype(float),
                why=f"the first new token is number {_total - _n}: it sees itself and all before it")
tracemalloc.start()
last_rows(1, 3000)
_peak = tracemalloc.get_traced_memory()[1]
tracemalloc.stop()
check.true("one row of 3,000 columns takes less than 1 MB on the way", _peak < 1e6, got=_peak,
           why="causal_mask(3000) is 9 million bytes, made for one of its rows")

# %% [markdown]
"""
### Texts that end together

One step of the model can serve many texts, if they stand in one array. Their prompts have different
lengths. Module 12 filled up at the end. Here that would be a nuisance: the next token of each text would
belong into another column. So fill up at the **beginning**, and all texts end in the same column:

```
                     column 0 1 2 3
prompts [7 8 9 5]           7 8 9 5      padding 0
        [3]                 0 0 0 3      padding 3
        [6 4]               0 0 6 4      padding 2
next tokens                         1    column 4 for all of them
                                    2
                                    8
```

`left_padded` makes the array, and the count of filling per text. Which number is the filling? Any that the
model's table has; nobody will look at it. We take 0.
"""

# %% exercise="left_padded"
#| export
def left_padded(texts: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Texts as one array (B, T), filled with 0 at the left, and the filling of each text, (B,).

    >>> tokens, padding = left_padded([[7, 8, 9], [3]])
    >>> tokens.tolist(), padding.tolist()
    ([[7, 8, 9], [0, 0, 3]], [0, 2])
    """
    longest = max(len(text) for text in texts)
    padding = np.array([longest - len(text) for text in texts])
    tokens = np.zeros((len(texts), longest), dtype=np.int64)
    ### BEGIN SOLUTION
    for row, text in enumerate(texts):
        tokens[row, padding[row] :] = text
    ### END SOLUTION
    return tokens, padding

# %% check="left_padded" points=2
_tokens, _padding = left_padded([[7, 8, 9, 5], [3], [6, 4]])
check.close("tokens of [7 8 9 5], [3] and [6 4]", _tokens, [[7, 8, 9, 5], [0, 0, 0, 3], [0, 0, 6, 4]],
            why="the filling comes first, so that all end in column 3")
check.close("its padding", _padding, [0, 3, 2], why="how many columns at the left are no token")
check.close("two texts of the same length", left_padded([[1, 2], [3, 4]])[0], [[1, 2], [3, 4]], why="no filling")

# %% [markdown]
"""
### Nobody looks at the filling

The mask for that speaks about keys, as in module 12, and has its shape: (B, 1, 1, S). In text b the first
`padding[b]` columns are hidden, everything behind them is real, however long the text has grown.

What of the queries *in* the filling? Together with the causal rows they see nothing at all, and your
`masked_softmax` gives 0 for that, not nan. It was worth the care.
"""

# %% exercise="real_keys"
#| export
def real_keys(padding: np.ndarray, total: int) -> np.ndarray:
    """(B, 1, 1, S) of bool: which of S = `total` columns are no filling, padding (B,) at the left.

    >>> real_keys(np.array([0, 2]), 3).astype(int).tolist()
    [[[[1, 1, 1]]], [[[0, 0, 1]]]]
    """
    ### BEGIN SOLUTION
    return (np.arange(total) >= padding[:, None])[:, None, None, :]
    ### END SOLUTION

# %% check="real_keys" points=2
_mask = real_keys(np.array([0, 3, 2]), 5)
check.equal("shape and type for 3 texts, 5 columns", (np.shape(_mask), str(getattr(_mask, "dtype", ""))),
            ((3, 1, 1, 5), "bool"), why="it broadcasts over heads and queries")
check.close("paddings 0, 3 and 2 as ones and zeros", np.asarray(_mask, dtype=float).reshape(3, -1),
            [[1, 1, 1, 1, 1], [0, 0, 0, 1, 1], [0, 0, 1, 1, 1]], why="hidden are the first columns, as many as the padding")

# %% [markdown]
"""
### Where each token stands

A token's column is not its position any more. In the text with padding 3 the first real token stands in
column 3, and its position is 0:

```
start 0, 5 columns          column   0  1  2  3  4
padding 0                 position   0  1  2  3  4
padding 3                            0  0  0  0  1        column - padding; 0 where that is negative
start 4, 1 new column                            4  and  1
```

The filling gets position 0, since tables have no negative ones; nobody reads it. The array is (B, T).
"""

# %% exercise="places"
#| export
def places(padding: np.ndarray, start: int, new: int) -> np.ndarray:
    """Positions of the tokens in columns start to start + new - 1 of each text: (B, new), 0 for filling.

    >>> places(np.array([0, 3]), 2, 3).tolist()
    [[2, 3, 4], [0, 0, 1]]
    """
    ### BEGIN SOLUTION
    columns = start + np.arange(new)
    positions: np.ndarray = np.maximum(columns - padding[:, None], 0)
    return positions
    ### END SOLUTION

# %% check="places" points=2
check.close("paddings 0 and 3, 5 columns from 0", places(np.array([0, 3]), 0, 5), [[0, 1, 2, 3, 4], [0, 0, 0, 0, 1]],
            why="column - padding, and 0 for the filling")
check.close("paddings 0 and 3, one column from 4", places(np.array([0, 3]), 4, 1), [[4], [1]],
            why="the fifth token of one text, the second of the other")
check.close("paddings 1, 0 and 2, two columns from 6", places(np.array([1, 0, 2]), 6, 2), [[5, 6], [6, 7], [4, 5]],
            why="columns 6 and 7, less the padding")

# %% [markdown]
"""
Two given functions put these together. `placed` adds positions to the vectors of new tokens. Without
padding the model's own layer does it, from `start` on: that is what module 11's `start` is for. With
padding it takes rows of the layer's table by `places`. And rotary positions? There a score depends on the
*distance* of two tokens, and columns have the same distances: nothing to correct.

`visible` gives the mask of a step. A single new token may see everything: no mask, unless there is padding.
"""

# %% given="placed_and_visible"
#| exporti
def placed(model: Any, x: Tensor, cache: KVCache) -> Tensor:
    """x (B, T, dim) of new tokens with positions added, if the model's positions are of that kind."""
    positions = model.positions
    if positions is None:
        return x
    if cache.padding.any():
        table = positions.weight if isinstance(positions, LearnedPositions) else positions.table
        x = x + table[places(cache.padding, cache.length, x.shape[1])]
    else:
        x = positions(x, cache.length)
    return x


def visible(cache: KVCache, new: int) -> np.ndarray | None:
    """Which columns the next `new` tokens may see: (T, S), (B, 1, T, S), or None for all of them."""
    total = cache.length + new
    rows = last_rows(new, total) if new > 1 else None
    if not cache.padding.any():
        return rows
    real = real_keys(cache.padding, total)
    return real if rows is None else rows & real

# %% [markdown]
"""
### Attention with a cache

Now the heart. `x` holds the T new tokens only. In order:

1. queries, keys and values **of the new tokens**: the layers `attention.query`, `.key`, `.value`, each cut
   into heads by `attention.split` (queries into `attention.heads`, the others into `attention.kv_heads`);
2. with rotary positions, `attention.positions(t, start)` turns queries and keys. The new tokens stand at
   `cache.length`, not at 0;
3. keys and values go into the cache, and all that are there come back;
4. `attention.shared` repeats key heads for the groups of query heads, if there are fewer;
5. `scaled_dot_product_attention`, with the mask; `attention.merge`; `attention.out`.

Why not `attention.project`, which does 1, 2 and 4? It shares the heads *before* they could be stored, and
the cache would keep every copy. Keys are stored turned: a token's position never changes.
"""

# %% exercise="cached_attention"
#| export
def cached_attention(
    attention: MultiHeadAttention,
    x: Tensor,
    cache: KVCache,
    layer: int,
    mask: np.ndarray | None = None,
) -> Tensor:
    """New tokens x (B, T, dim) look at all tokens of `layer` of the cache and at themselves: (B, T, dim).

    mask: bool, broadcasts to (B, H, T, S), True = may look. Raises ValueError without room.
    Cost: 8*T*dim² FLOPs in the four layers, 4*T*S*dim in the products: linear in S for one token.
    """
    ### BEGIN SOLUTION
    query = attention.split(attention.query(x), attention.heads)
    key = attention.split(attention.key(x), attention.kv_heads)
    value = attention.split(attention.value(x), attention.kv_heads)
    if attention.positions is not None:
        query = attention.positions(query, cache.length)
        key = attention.positions(key, cache.length)
    keys, values = cache.append(layer, key, value)
    keys, values = attention.shared(keys), attention.shared(values)
    found = scaled_dot_product_attention(query, keys, values, mask)  # (B, H, T, D)
    out: Tensor = attention.out(attention.merge(found))
    return out
    ### END SOLUTION

# %% check="cached_attention" points=8
def _attention(**options):
    """An attention layer of width 8 with 4 heads, and 7 tokens for two texts."""
    manual_seed(1)
    layer = MultiHeadAttention(8, 4, **options)
    return layer, Tensor(np.random.default_rng(2).normal(size=(2, 7, 8)))


def _in_pieces(layer, x, sizes, cache, at=0, pad=None):
    """What cached_attention gives for x, handed over in pieces."""
    out = []
    for size in sizes:
        start = cache.length
        out.append(cached_attention(layer, x[:, start : start + size], cache, at, last_rows(size, start + size)).data)
    return Tensor(np.concatenate(out, axis=1))


for _name, _options in (("4 heads", {}), ("2 key heads for 4 of queries", {"kv_heads": 2}),
                        ("rotary positions", {"positions": RotaryPositions(2, 16)}),
                        ("rotary, 1 key head, no bias", {"positions": RotaryPositions(2, 16), "kv_heads": 1, "bias": False})):
    _layer, _x = _attention(**_options)
    _wanted = _layer(_x, mask=causal_mask(7)).data
    for _sizes in ([7], [1] * 7, [4, 2, 1]):
        _cache = KVCache(1, 2, _layer.kv_heads, 2, 16)
        check.tensor(f"{_name}: 7 tokens in pieces of {_sizes}", _in_pieces(_layer, _x, _sizes, _cache), _wanted,
                     rtol=1e-4, atol=1e-5, why="as the layer gives for the whole text with a causal mask")
_layer, _x = _attention(kv_heads=2)
_cache = KVCache(3, 2, 2, 2, 16)
_cache.append(0, *_new(2, 1, heads=2)), _cache.append(1, *_new(2, 1, heads=2)), _cache.append(2, *_new(2, 1, heads=2))
cached_attention(_layer, _x, _cache, 1, last_rows(7, 9))
_flat = _x.data @ _layer.key.weight.data.T + _layer.key.bias.data
check.close("the keys that layer 1 of the cache got", _cache.keys[1, :, :, 2:9], _flat.reshape(2, 7, 2, 2).swapaxes(1, 2),
            rtol=1e-4, why="those of the new tokens, 2 heads of 2 numbers, unshared, behind the 2 that were there")
check.close("the other layers of the cache", np.abs(_cache.keys[[0, 2], :, :, 2:]).max(), 0, why="nothing was written there")
for _name in ("query", "key", "value", "out"):
    _cache = KVCache(1, 2, 2, 2, 16)
    check.equal(f"rows through .{_name} for 2 texts, 4 tokens and then 1 token",
                rows_through(getattr(_layer, _name), lambda: _in_pieces(_layer, _x, [4, 1], _cache)), 10,
                why="2 * 4 and 2 * 1: only the new tokens")
_first = cached_attention(_layer, _x[:, :1], KVCache(1, 2, 2, 2, 4), 0)
check.tensor("a single token without a mask", _first, _layer(_x[:, :1]).data, rtol=1e-4, why="None means: see everything")
_cache = KVCache(1, 2, 2, 2, 4)
check.raises("5 tokens into a cache of 4", ValueError, lambda: cached_attention(_layer, _x[:, :5], _cache, 0),
             mention=["5", "4"], why="append says so")

# %% [markdown]
"""
### Decode

`decode(model, tokens, cache)` is `GPT.forward` for new tokens only: the same walk, with three differences.
Positions are `placed`, the mask is `visible`, attention goes through the cache. Since a block's own
`forward` knows no cache, you write its two lines here, with `block.attention` and `block.mlp`, `block.norm1`
and `block.norm2`. No dropout: this is writing, not training. One mask serves all blocks, since the
length grows only when the last of them has appended.

`check_decode` refuses what cannot work, before anything is stored. `@no_grad()` stands above it: a graph
that nobody walks back would keep every old step alive.
"""

# %% given="check_decode"
#| exporti
def check_decode(model: Any, tokens: np.ndarray, cache: KVCache) -> None:
    """Raises ValueError unless `tokens` is (B, T) for the cache's B texts and fits into it."""
    if tokens.ndim != 2 or tokens.shape[0] != cache.batch or tokens.shape[1] < 1:
        raise ValueError(
            f"decode: tokens of shape {tokens.shape} for a cache of {cache.batch} texts. Give (B, T): "
            "a row per text; [[token]] for one new token of one text."
        )
    if model.training and model.config.dropout:
        raise ValueError(
            "decode: the model is in training mode, and its dropout would end up in the cache. "
            "Call model.eval() first."
        )
    cache.reserve(tokens.shape[1])

# %% exercise="decode"
#| export
@no_grad()
def decode(model: Any, tokens: Any, cache: KVCache) -> Tensor:
    """Logits (B, T, V) of T new tokens (B, T), which come after those in the cache and join them.

    model: a GPT of any kind, in eval mode. Row t is about the token after t.
    Raises ValueError for tokens that do not fit the cache, or without room.
    Cost: about 2 FLOPs per parameter and new token, 4*S*dim per new token and block for its scores.
    """
    tokens = np.asarray(tokens)
    check_decode(model, tokens, cache)
    ### BEGIN SOLUTION
    x, mask = placed(model, model.embedding(tokens), cache), visible(cache, tokens.shape[1])
    for layer, block in enumerate(model.blocks):
        x = x + cached_attention(block.attention, block.norm1(x), cache, layer, mask)
        x = x + block.mlp(block.norm2(x))
    logits: Tensor = model.head(model.norm(x))  # (B, T, dim) @ (dim, V) -> (B, T, V)
    return logits
    ### END SOLUTION

# %% check="decode" points=6
def _logits(model, tokens, sizes, cache):
    """Logits of a batch of texts, decoded in pieces."""
    ends = np.cumsum(sizes)
    parts = [decode(model, tokens[:, end - size : end], cache) for size, end in zip(sizes, ends)]
    return Tensor(np.concatenate([part.data for part in parts], axis=1))


_ids = some_tokens(2, 9)
for _name, _kinds in KINDS_OF_MODEL.items():
    _model = small_model(**_kinds)
    for _sizes in ([9], [4, 3, 1, 1], [1] * 9):
        check.tensor(f"{_name}: logits of 9 tokens in pieces of {_sizes}",
                     _logits(_model, _ids, _sizes, KVCache.for_model(_model, 2)), _model(_ids).data, rtol=1e-4, atol=1e-5,
                     why="as the model gives for the whole text at once")
_model = small_model(dropout=0.5)
_cache = KVCache.for_model(_model, 2)
decode(_model, _ids[:, :5], _cache)
check.equal("tokens in the cache after 5", _cache.length, 5, why="each block appended once")
check.equal("rows through the last block's mlp for one token more of 2 texts",
            rows_through(_model.blocks[1].mlp, lambda: decode(_model, _ids[:, 5:6], _cache)), 2,
            why="only what is new goes through the blocks")
_out = decode(_model, _ids[:, 6:7], _cache)
check.true("the result has no graph", _out._node is None, why="no_grad stands above: keep it there")
_tokens, _padding = left_padded([_ids[0, :6], _ids[1, :2]])
for _name, _kinds in KINDS_OF_MODEL.items():
    _model = small_model(**_kinds)
    _cache = KVCache.for_model(_model, 2)
    _cache.padding = _padding
    _first, _next = decode(_model, _tokens, _cache).data[:, -1], decode(_model, [[3], [5]], _cache).data[:, -1]
    _wanted = [_model([[*_ids[0, :6], 3]]).data[0, -2:], _model([[*_ids[1, :2], 5]]).data[0, -2:]]
    check.close(f"{_name}: texts of 6 and 2 tokens side by side, then one token more", np.stack([_first, _next], axis=1),
                _wanted, rtol=1e-4, atol=1e-5, why="placed and visible know about the padding; a text must not notice its neighbour")
check.raises("one text for a cache of two", ValueError, lambda: decode(_model, [[1]], _cache), mention=["(1, 1)"],
             why="check_decode says so")

# %% [markdown]
"""
Cached equals uncached, for each kind of model. Here are 40 tokens, one by one, against one pass over all of
them; and the rows through a query layer.
"""

# %% demo="cached_equals_uncached"
ids = some_tokens(1, 40)
print("                                       largest logit   largest difference   rows")
for name, kinds in KINDS_OF_MODEL.items():
    model = small_model(context=64, **kinds)
    whole, cache, parts = model(ids).data, KVCache.for_model(model), []
    rows = rows_through(model.blocks[0].attention.query,
                        lambda: parts.extend(decode(model, ids[:, t : t + 1], cache).data for t in range(40)))
    print(f"{name:38} {np.abs(whole).max():13.2f} {np.abs(np.concatenate(parts, axis=1) - whole).max():20.1e} {rows:6}")

# %% [markdown]
"""
### When the context ends

A model of context 64 has positions for 64 tokens. `generate` goes on nevertheless: it shows the model the
**last** 64 tokens, and the window moves on by one with each new token. What happens to the cache then?

```
window of 4      tokens  a b c d      positions 0 1 2 3
next step                  b c d e              0 1 2 3      b, which stood at 1, stands at 0 now
```

Every token has another position, so every key is another. With rotary positions only distances count, and
those have not changed; but the key of b in block 1 was made of what b had seen in block 0, and that was a.
In the new window there is no a. So **nothing** in the cache is what the model would compute for the new
window, and there are two honest ways on:

- **exact**: forget everything, and compute the new window anew for each token. What `generate` writes, and
  what `generate` costs.
- **in blocks**: forget everything, and start again with the last `keep` tokens, half of the context, say.
  Then there is room for the other half, and each of those tokens costs one row. The text is another one
  than `generate` would write, because the model sees between `keep` and `context` tokens instead of always
  `context`; but it is exactly what the uncached model says about that window.

Both are one rule: *when the window no longer fits, it starts anew with the last `keep` tokens*; exact is
`keep = context`. Ours defaults to exact, because a faster function that gives other results is a bug unless
somebody asks for it.

`slide` is the rule. The window begins at token number `start` of a text that has `length` tokens by now.
Return where it begins from now on.

```
context 4, keep 4    length 4, start 0  ->  0    4 tokens fit        length 5, start 0  ->  1
context 4, keep 2    length 5, start 0  ->  3    tokens 3 and 4      length 7, start 3  ->  3    3 to 6 fit
```
"""

# %% exercise="slide"
#| export
def slide(start: int, length: int, context: int, keep: int) -> int:
    """First token of the window on a text of `length` tokens that began at `start` so far.

    It stays while the window fits into `context`; then the last `keep` tokens begin a new one.

    >>> slide(0, 4, context=4, keep=2), slide(0, 5, context=4, keep=2)
    (0, 3)
    """
    ### BEGIN SOLUTION
    return start if length - start <= context else length - keep
    ### END SOLUTION

# %% check="slide" points=2
check.equal("context 4, keep 4, start 0: lengths 3, 4, 5", [slide(0, _n, 4, 4) for _n in (3, 4, 5)], [0, 0, 1],
            why="4 tokens fit; of 5 the last 4")
check.equal("context 4, keep 2, start 0: lengths 4, 5", [slide(0, _n, 4, 2) for _n in (4, 5)], [0, 3],
            why="when the fifth comes, tokens 3 and 4 begin a new window")
check.equal("context 4, keep 2, start 3: lengths 6, 7, 8", [slide(3, _n, 4, 2) for _n in (6, 7, 8)], [3, 3, 6],
            why="tokens 3 to 6 fit, 3 to 7 do not: the window is what counts, not the length of the text")
check.equal("context 4, keep 3, a prompt of 9", slide(0, 9, 4, 3), 6, why="a prompt that is too long: its last 3")

# %% [markdown]
"""
### Generate, with a cache

The loop of module 13, with one line more. In each round: where does the window begin? If it has moved,
clear the cache. Then hand to `decode` what is in the window and **not yet in the cache**: at first the whole
prompt, later one token. The last row of the logits chooses the next one.

```
written  [5 7 2], start 0, cache.length 0      new: written[0 + 0:] = [5 7 2]
written  [5 7 2 9],        cache.length 3      new: written[0 + 3:] = [9]
```

`writing(model)`, given, is the `eval` and `try` … `finally` that you wrote in module 13. `_prompt` is as it
was there, for a list of ints. Call `decode` by its name, as here; module 18 will put a faster one in its
place.
"""

# %% given="writing"
#| exporti
@contextmanager
def writing(model: Any) -> Iterator[None]:
    """Eval mode and no graph inside; afterwards the mode it was in, also after an error."""
    was_training = model.training
    model.eval()
    try:
        with no_grad():
            yield
    finally:
        model.train(was_training)


def _prompt(tokens: Sequence[int]) -> list[int]:
    """`tokens` (list or array) as a new list of ints; an error if that is no text of tokens."""
    if isinstance(tokens, str):
        raise TypeError(
            "generate_cached: the prompt is a text, and a model reads token numbers. "
            "Encode it first: tokenizer.encode(prompt)."
        )
    if np.ndim(tokens) != 1 or len(tokens) == 0:
        raise ValueError(
            f"generate_cached: a prompt of shape {np.shape(tokens)}. Give one list of at least one "
            "token; for several texts there is generate_batch."
        )
    return [int(token) for token in np.asarray(tokens)]


def _kept(keep: int | None, context: int) -> int:
    """How many tokens begin a new window: `keep`, or all of the context."""
    keep = context if keep is None else keep
    if not 1 <= keep <= context:
        raise ValueError(f"keep={keep} tokens of a context of {context}: take 1 to {context}.")
    return keep

# %% [markdown]
"""
And a cell for the checks: what `decode` is asked for meanwhile.
"""

# %% given="watched"
def _watched(run):
    """What `run()` gives, and the shapes of tokens that decode got meanwhile."""
    global decode
    real, shapes = decode, []

    def watching(model, tokens, cache):
        shapes.append(np.shape(tokens))
        assert not (model.training or is_grad_enabled())
        return real(model, tokens, cache)

    decode = watching
    try:
        return run(), shapes
    finally:
        decode = real

# %% exercise="generate_cached"
#| export
def generate_cached(
    model: Any,
    tokens: Sequence[int],
    max_new_tokens: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    stop_tokens: Iterable[int] = (),
    seed: int | None = None,
    keep: int | None = None,
) -> list[int]:
    """What `generate` writes, with a cache: `tokens`, and what the model writes after them.

    keep: beyond the context's end the last `keep` tokens begin a new window (see `slide`). None: all
    of the context, at each step: the same tokens as `generate`.
    Raises ValueError for an empty prompt, more than one text, or impossible knobs, TypeError for a str.
    Cost: one row through the model per new token; beyond the end `keep` rows per context - keep + 1.

    >>> from tinytorch.nn.transformer import GPT
    >>> model = GPT(GPTConfig(5, 8, dim=4, heads=1, layers=1))
    >>> len(generate_cached(model, [1, 2], max_new_tokens=3, seed=0))
    5
    """
    written, context = _prompt(tokens), model.config.context
    keep, start, cache = _kept(keep, context), 0, KVCache.for_model(model)
    generator, stop = np.random.default_rng(seed), set(stop_tokens)
    with writing(model):
        ### BEGIN SOLUTION
        for _ in range(max_new_tokens):
            first = slide(start, len(written), context, keep)
            if first != start:
                cache.clear()
                start = first
            logits = decode(model, [written[start + cache.length :]], cache).data[0, -1]
            written.append(choose(logits, generator, temperature, top_k, top_p))
            if written[-1] in stop:
                break
        ### END SOLUTION
    return written

# %% check="generate_cached" points=6
for _name, _kinds in KINDS_OF_MODEL.items():
    _model = small_model(context=24, **_kinds)
    check.equal(f"{_name}: 12 tokens after [3, 1, 4]", generate_cached(_model, [3, 1, 4], 12, seed=5),
                generate(_model, [3, 1, 4], 12, seed=5), why="the same seed, the same tokens as generate")
_model = small_model(context=24)
_text, _shapes = _watched(lambda: generate_cached(_model, [3, 1, 4], 5, seed=5))
check.equal("shapes that decode got for 5 tokens after [3, 1, 4]", _shapes, [(1, 3)] + [(1, 1)] * 4,
            why="the prompt once, then only what is not yet in the cache")
for _knobs in ({"temperature": 0}, {"temperature": 0.5, "top_k": 3}, {"top_p": 0.6}):
    check.equal(f"12 tokens with {_knobs}", generate_cached(_model, [2], 12, seed=6, **_knobs),
                generate(_model, [2], 12, seed=6, **_knobs), why="the knobs go to choose, as in generate")
_wanted = generate(_model, [2, 5], 12, seed=7)
_stop = [_wanted[8]]
check.equal("with a stop token", generate_cached(_model, [2, 5], 12, seed=7, stop_tokens=_stop),
            generate(_model, [2, 5], 12, seed=7, stop_tokens=_stop), why="it ends the text, and is kept")
_short = small_model(context=6)
check.equal("20 tokens, context 6", generate_cached(_short, [3, 1, 4], 20, seed=8), generate(_short, [3, 1, 4], 20, seed=8),
            why="beyond the end the window moves: clear the cache, and decode the last 6 tokens anew")
check.equal("a prompt of 9, context 6", generate_cached(_short, [*range(9)], 4, seed=8), generate(_short, [*range(9)], 4, seed=8),
            why="the last 6 of the prompt")
_text, _shapes = _watched(lambda: generate_cached(_short, [3, 1, 4], 10, temperature=0, keep=2))
check.equal("shapes that decode got for 10 tokens after 3, context 6, keep 2", [_s[1] for _s in _shapes],
            [3, 1, 1, 1, 2, 1, 1, 1, 1, 2], why="when the window is full, the last 2 tokens begin a new one")
_by_hand, _start = [3, 1, 4], 0
for _ in range(10):
    _start = _start if len(_by_hand) - _start <= 6 else len(_by_hand) - 2
    _by_hand.append(int(_short([_by_hand[_start:]]).data[0, -1].argmax()))
check.equal("the tokens with keep 2", _text, _by_hand, why="what the uncached model says about the same windows")
check.equal("no new tokens", generate_cached(_model, [3], 0), [3], why="0 tokens after the prompt")

# %% [markdown]
"""
### Many texts at once

Last, the loop for several prompts in one cache. What is different from the single one:

- Each text has its own window, `starts[i]`, and its own generator, so that text i is what `generate_cached`
  writes for it alone with `seed + i`.
- The cache must be filled if it is empty, and anew if it is full: then let each window `slide`, and refill.
  (Before it is full, no window can have moved: a window of `context` tokens fills all columns.) Otherwise
  decode the last token of each text.
- A text that has met a stop token leaves the batch, and costs nothing from then on: `active` holds the
  numbers of the texts that still write; `cache.select(rows)` keeps their rows of the cache.

`_refill(cache, windows)`, given, clears the cache, pads the windows and returns their tokens. Yours is the
loop: in each round, take the last tokens or refill; decode; choose for each active text from its row; keep
those that go on.
"""

# %% given="refill"
#| exporti
def _refill(cache: KVCache, windows: list[list[int]]) -> np.ndarray:
    """An empty cache with the padding of these windows; their tokens (B, T), to be decoded."""
    cache.clear()
    tokens, cache.padding = left_padded(windows)
    return tokens

# %% exercise="generate_batch"
#| export
def generate_batch(
    model: Any,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    stop_tokens: Iterable[int] = (),
    seed: int | None = None,
    keep: int | None = None,
) -> list[list[int]]:
    """Several prompts, of any lengths, continued together in one cache.

    Text i is what `generate_cached` writes for prompt i alone with `seed + i`. A text that has met a
    stop token leaves the batch. Raises as `generate_cached`.
    Cost: as many rows per step as there are texts still writing.
    """
    texts, context = [_prompt(prompt) for prompt in prompts], model.config.context
    keep, stop, starts = _kept(keep, context), set(stop_tokens), [0] * len(texts)
    seeds = [None if seed is None else seed + i for i in range(len(texts))]
    generators = [np.random.default_rng(own) for own in seeds]
    if not texts:
        return []
    active, cache = list(range(len(texts))), KVCache.for_model(model, len(texts))
    with writing(model):
        ### BEGIN SOLUTION
        for _ in range(max_new_tokens):
            if 0 < cache.length < cache.capacity:
                tokens = np.array([texts[i][-1:] for i in active])
            else:
                starts = [slide(starts[i], len(texts[i]), context, keep) for i in range(len(texts))]
                tokens = _refill(cache, [texts[i][starts[i] :] for i in active])
            logits = decode(model, tokens, cache).data[:, -1]
            for i, row in zip(active, logits):
                texts[i].append(choose(row, generators[i], temperature, top_k, top_p))
            rows = [row for row, i in enumerate(active) if texts[i][-1] not in stop]
            if not rows:
                break
            if len(rows) < len(active):
                cache.select(rows)
                active = [active[row] for row in rows]
        ### END SOLUTION
    return texts

# %% check="generate_batch" points=6
_prompts = [[3, 1, 4, 1, 5], [9], [2, 6, 5]]
for _name, _kinds in KINDS_OF_MODEL.items():
    _model = small_model(context=24, **_kinds)
    check.equal(f"{_name}: 10 tokens after prompts of 5, 1 and 3", generate_batch(_model, _prompts, 10, seed=3),
                [generate_cached(_model, _p, 10, seed=3 + _i) for _i, _p in enumerate(_prompts)],
                why="each text as if it were alone, with seed + i")
_model = small_model(context=24)
_texts, _shapes = _watched(lambda: generate_batch(_model, _prompts, 4, seed=3))
check.equal("shapes that decode got for 4 tokens each", _shapes, [(3, 5), (3, 1), (3, 1), (3, 1)],
            why="all prompts at once, the short ones filled up to 5; then one new token per text")
_wanted = [generate_cached(_model, _p, 10, seed=10 + _i, stop_tokens=[9, 4]) for _i, _p in enumerate(_prompts)]
_texts, _shapes = _watched(lambda: generate_batch(_model, _prompts, 10, seed=10, stop_tokens=[9, 4]))
check.equal("with the stop tokens 9 and 4", _texts, _wanted, why="a text ends with its stop token, and the others go on")
_steps = [len(_w) - len(_p) for _w, _p in zip(_wanted, _prompts)]
check.equal("texts per step that decode got", [_s[0] for _s in _shapes],
            [sum(_n > _step for _n in _steps) for _step in range(max(_steps))],
            why="a text that has ended leaves the batch: nothing more is computed for it")
_short = small_model(context=6)
for _keep in (None, 3):
    check.equal(f"14 tokens each, context 6, keep {_keep}", generate_batch(_short, _prompts, 14, seed=4, keep=_keep),
                [generate_cached(_short, _p, 14, seed=4 + _i, keep=_keep) for _i, _p in enumerate(_prompts)],
                why="each text has a window of its own; when one moves, or the cache is full, it is refilled for all")
_knobs = {"temperature": 0.6, "top_k": 4, "top_p": 0.9}
check.equal("with other knobs", generate_batch(_model, _prompts, 6, seed=5, **_knobs),
            [generate_cached(_model, _p, 6, seed=5 + _i, **_knobs) for _i, _p in enumerate(_prompts)],
            why="temperature, top_k and top_p go to choose")
check.equal("no new tokens, and no prompts", (generate_batch(_model, [[1], [2, 3]], 0), generate_batch(_model, [], 5)),
            ([[1], [2, 3]], []), why="nothing to write")

# %% [markdown]
"""
## Use: the same text, sooner

A small GPT learns to count, letter by letter, from random pieces of one long line. (A few seconds.)
Then it writes the same text twice, without a cache and with one.
"""

# %% demo="it_counts"
line = "one two three four five six seven eight nine ten eleven twelve "
letters = sorted(set(line))
ids = np.array([letters.index(letter) for letter in line * 40])


def next_letter_loss(logits, targets):
    """Mean cross-entropy of logits (B, T, V) and targets (B, T)."""
    return CrossEntropyLoss()(logits.reshape(-1, logits.shape[-1]), np.ravel(targets))


def trained(config, steps):
    """A GPT trained on random pieces of `ids`."""
    manual_seed(0)
    model, draw = GPT(config), np.random.default_rng(0)
    optimizer = AdamW(model.parameters(), lr=1e-2)
    schedule = WarmupCosine(optimizer, 20, steps)
    for _ in range(steps):
        starts = draw.integers(0, len(ids) - config.context - 1, 8)
        pieces = ids[starts[:, None] + np.arange(config.context + 1)]
        loss = training_step(model, next_letter_loss, optimizer, pieces[:, :-1], pieces[:, 1:], clip_norm=1.0)
        schedule.step()
    print(f"loss after {steps} steps: {loss:.3f}")
    return model


def spelled(tokens):
    return "".join(letters[token] for token in tokens)


counter = trained(GPTConfig(len(letters), 96, dim=48, heads=4, layers=2), steps=300)
prompt = [letters.index(letter) for letter in "one two th"]
query = counter.blocks[0].attention.query
for name, write in (("generate", generate), ("generate_cached", generate_cached)):
    begin = time.perf_counter()
    tokens = write(counter, prompt, 80, temperature=0)
    seconds = time.perf_counter() - begin
    rows = rows_through(query, lambda: write(counter, prompt, 80, temperature=0))
    print(f"\n{name}: {seconds * 1e3:.0f} ms, {rows:,} rows\n    {spelled(tokens)}")

# %% [markdown]
"""
The 89 rows are the 10 of the prompt and one for each new letter but the last: nobody asks what comes after
it.

Now three prompts of different lengths in one batch, and the policies beyond the context's end: 200 letters,
where only 96 fit.
"""

# %% demo="a_batch_and_a_long_text"
prompts = [[letters.index(letter) for letter in text] for text in ("eleven t", "f", "one two three four fi")]
for tokens in generate_batch(counter, prompts, 30, temperature=0):
    print("   ", spelled(tokens))

print("\nkeep    rows   text beyond the context")
for keep in (None, 72, 48, 24):
    rows = rows_through(query, lambda: generate_cached(counter, prompt, 200, temperature=0, keep=keep))
    tokens = generate_cached(counter, prompt, 200, temperature=0, keep=keep)
    print(f"{keep!s:5} {rows:6,}   …{spelled(tokens[130:])}")

# %% [markdown]
"""
(A single `f` may become *four* or *five*: both are right.) Beyond the end, `keep` buys speed with sight: the
fewer tokens begin a new window, the seldomer it has to be filled, and the less the model sees just
afterwards. For counting a few letters are enough; for a story they would not be.

`trim` goes back to any place in a text and goes on from there. Here the text is read once, and continued
from three places, the last one first. (The last token before the cut is decoded again, to have its logits.)
"""

# %% demo="going_back"
cache = KVCache.for_model(counter)
story = [letters.index(letter) for letter in "one two three four five six "]


def three_continuations():
    with writing(counter):
        decode(counter, [story], cache)
        for cut in (28, 19, 8):
            cache.trim(cut - 1)
            tokens = story[:cut]
            for _ in range(10):
                tokens.append(int(decode(counter, [tokens[-1:]], cache).data[0, -1].argmax()))
            print(f"    {spelled(story[:cut])}| {spelled(tokens[cut:])}")


rows = rows_through(query, three_continuations)
print(f"{rows} rows: {len(story)} of the text and 3 * 10; reading it three times would be {28 + 19 + 8 + 3 * 9}")

# %% [markdown]
"""
## Measure: what it costs, and what it gains

**Bytes.** By formula first, `bytes_per_token` times tokens, then `nbytes` of the real arrays, then what the
memory tracer saw. Before you run it: by which factor does `kv_heads=1` shrink the cache of a model with 4
heads?
"""

# %% demo="bytes_predicted_and_measured"
sizes = {
    "d 128, 4 blocks, context 512": GPTConfig(512, 512),
    "the same, kv_heads=2": GPTConfig(512, 512, kv_heads=2),
    "the same, kv_heads=1": GPTConfig(512, 512, kv_heads=1),
    "d 256, 6 blocks, context 1,024": GPTConfig(512, 1024, dim=256, layers=6),
}
print("                                  per token   predicted       nbytes       traced   parameters")
for name, config in sizes.items():
    model = GPT(config)
    tracemalloc.start()
    cache = KVCache.for_model(model)
    traced = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    weights = sum(p.data.nbytes for p in model.parameters())
    print(f"{name:32} {bytes_per_token(config):8,} B {bytes_per_token(config) * config.context:11,} {cache.nbytes:12,} "
          f"{traced:12,} {weights:12,}")
big = GPTConfig(50257, 1024, dim=1600, heads=25, layers=48)
print(f"\nGPT-2 XL: {bytes_per_token(big):,} bytes per token, {bytes_per_token(big) * 1024 / 1e6:,.0f} MB for a full text, "
      f"{bytes_per_token(big) * 1024 * 32 / 1e9:.1f} GB for 32 of them")

# %% [markdown]
"""
**Time.** The model of the first part, with a context of 512. One uncached step takes what a forward pass
over all tokens takes: it is timed at 17 lengths, the best of three, and the steps in between are put on
straight lines. The cached run is timed step by step. Both count the processor's seconds, so that a busy
machine does no harm to the longer side. Rows fall by a factor of (n + 1) / 2, about 256 at n = 512.
Predict: does time fall by as much?
"""

# %% demo="speed_up_by_length"
manual_seed(0)
model = GPT(GPTConfig(512, 512, dim=128, heads=4, layers=4)).eval()
text = np.random.default_rng(0).integers(0, 512, (1, 512))


def seconds_of(call):
    """Seconds of the processor: what other programs take on a busy machine is not in it."""
    begin = time.process_time()
    call()
    return time.process_time() - begin


with no_grad():
    at = np.array([1, *range(32, 513, 32)])
    whole = [min(seconds_of(lambda: model(text[:, :n])) for _ in range(3)) for n in at]
steps = np.arange(1, 513)
uncached = np.cumsum(np.interp(steps, at, whole))
runs = []
for _ in range(3):
    cache = KVCache.for_model(model)
    runs.append([seconds_of(lambda: decode(model, text[:, t : t + 1], cache)) for t in range(512)])
cached = np.cumsum(np.min(runs, axis=0))
print("tokens    without       with   rows / time /")
for n in (8, 16, 32, 64, 128, 256, 512):
    gain = uncached[n - 1] / cached[n - 1]
    print(f"{n:6} {uncached[n - 1]:8.3f} s {cached[n - 1]:8.3f} s {(n + 1) / 2:6.1f} {gain:6.1f}  {'#' * min(round(gain), 90)}")
first, last = np.min(runs, axis=0)[:50].mean(), np.min(runs, axis=0)[-50:].mean()
print(f"\none cached step: {first * 1e3:.2f} ms at the beginning, {last * 1e3:.2f} ms at the end; "
      f"uncached {whole[0] * 1e3:.2f} and {whole[-1] * 1e3:.2f} ms")
weights = sum(p.size for p in model.parameters())
print(f"arithmetic: {2 * weights / last / 1e9:.1f} GFLOP/s cached, {2 * weights * 512 / whole[-1] / 1e9:.1f} uncached")
print(f"price: {cache.nbytes / 1e6:.1f} MB of keys and values, beside {4 * weights / 1e6:.1f} MB of parameters")

# %% [markdown]
"""
The gain grows with the length, as it must: n steps of growing size against n steps of nearly the same size.
But time falls by less than rows do, and the line of GFLOP/s says why. A pass over 512 rows fetches each
weight once and uses it 512 times; a single row fetches it as well and uses it once. And each operation
costs its call from Python, however small the array. In the words of module 14's roofline: decoding is bound
by memory, and here by overhead too, not by arithmetic.

That leaves the arithmetic idle, and a **batch** uses it: B texts need B rows per step, and fetch the
weights once. What do you expect for 16 texts: the time of one step, 16 times as much, or in between?
"""

# %% demo="batches"
rates = {}
for batch in (1, 2, 4, 8, 16, 32):
    cache, tokens = KVCache.for_model(model, batch, capacity=64), np.zeros((batch, 1), dtype=int)
    step = np.median([seconds_of(lambda: decode(model, tokens, cache)) for _ in range(64)])
    rates[batch] = batch / step
print("texts   ms per step   tokens per second")
for batch, rate in rates.items():
    print(f"{batch:5} {batch / rate * 1e3:13.2f} {rate:12,.0f}  {'#' * round(40 * rate / max(rates.values()))}")

# %% [markdown]
"""
## Break: three ways to be fast and wrong

All three run without an error, and write text. The counting model of above makes them visible. First, the
forgotten `start`: each new token is told that it is the first of the text.
"""

# %% demo="forgotten_start"
real = placed
placed = lambda model, x, cache: model.positions(x)  # and cache.length?
try:
    print("wrong:", spelled(generate_cached(counter, prompt, 60, temperature=0)))
finally:
    placed = real
print("right:", spelled(generate_cached(counter, prompt, 60, temperature=0)))

# %% [markdown]
"""
The prompt is handled in one piece and right, so the first letter fits; what follows does not. A cache that
is right at the first token and wrong from the second on has this bug.

Second, a cache that is used again for the next text, and not cleared. The new text goes on from the old
one. On a server, that is somebody else's text.
"""

# %% demo="somebody_elses_text"
secret, cache = [letters.index(letter) for letter in "eight nine ten eleven "], KVCache.for_model(counter)
with writing(counter):
    for name, clear in (("wrong", False), ("right", True)):
        cache.clear()
        decode(counter, [secret], cache)  # the first user's text
        if clear:
            cache.clear()
        tokens, new = [], [letters.index(letter) for letter in "t"]  # the second user types a t
        for _ in range(12):
            tokens.append(int(decode(counter, [new], cache).data[0, -1].argmax()))
            new = tokens[-1:]
        print(f"{name}: t{spelled(tokens)}")

# %% [markdown]
"""
Third, the cheap slide: the cache is full, so move all columns one to the left, and go on. One row per token
for ever, no refilling. The next cell does that beyond the end of the context, and compares the logits with
those of the uncached model on the same window.
"""

# %% demo="the_cheap_slide"
tokens = generate_cached(counter, prompt, 86, temperature=0)  # 96 tokens: the context is full
cache = KVCache.for_model(counter)
with writing(counter):
    decode(counter, [tokens[:-1]], cache)
    print("step   largest logit   largest error   says   should say")
    for step in range(1, 41):
        wanted = counter([tokens[-96:]]).data[0, -1]
        if cache.length == cache.capacity:
            cache.keys[:, :, :, :-1] = cache.keys[:, :, :, 1:].copy()
            cache.values[:, :, :, :-1] = cache.values[:, :, :, 1:].copy()
            cache.trim(95)
        got = decode(counter, [tokens[-1:]], cache).data[0, -1]
        if step in (1, 2, 5, 10, 20, 40):
            print(f"{step:4} {np.abs(wanted).max():13.2f} {np.abs(got - wanted).max():15.5f} "
                  f"{letters[got.argmax()]!r:>8} {letters[wanted.argmax()]!r:>8}")
        tokens.append(int(wanted.argmax()))

# %% [markdown]
"""
At step 1 the cache is not yet too full, and the error is rounding. From then on every key says "I stand
where I stood", and the new token is always number 95. The error grows. This model may get away with it for
a while, as it counts by the last few letters; nothing would tell you when it no longer does. The test that
finds all three is the one you have in this module: cached logits equal uncached ones, also beyond the end.

## Reflect

Predict with pencil and paper, write the number into the cell, and the check says whether it holds.

**1.** Without a cache, a model writes 1,000 tokens after one that is given, all inside its context. How many
rows go through each of its layers?
"""

# %% exercise="predict.rows_of_a_thousand"
### BEGIN SOLUTION
rows_of_a_thousand = 1000 * 1001 // 2
### END SOLUTION

# %% check="predict.rows_of_a_thousand" points=1
check.prediction("rows for 1,000 tokens without a cache", rows_of_a_thousand, "NTAwNTAw", rel=2e-4,
                 why="1 + 2 + … + 1000; the square of 1,000 would be twice that, and more")

# %% [markdown]
"""
**2.** With a cache, after a prompt of 1,000 tokens, 100 new ones are written. How many rows go through each
layer? Mind the last token.
"""

# %% exercise="predict.rows_with_a_prompt"
### BEGIN SOLUTION
rows_with_a_prompt = 1000 + 99
### END SOLUTION

# %% check="predict.rows_with_a_prompt" points=1
check.prediction("rows for a prompt of 1,000 and 100 new tokens", rows_with_a_prompt, "MTA5OQ==", rel=1e-4,
                 why="the prompt's rows choose the first new token; who asks what comes after the last one?")

# %% [markdown]
"""
**3.** Llama 2 with 7 billion parameters has 32 blocks and 32 heads of 128 numbers, and keeps its keys and
values in 16 bits, 2 bytes each. How many gigabytes (10⁹ bytes) does a cache for one text of 4,096 tokens
take?
"""

# %% exercise="predict.llama_gigabytes"
### BEGIN SOLUTION
llama_gigabytes = 2 * 32 * 32 * 128 * 4096 * 2 / 1e9
### END SOLUTION

# %% check="predict.llama_gigabytes" points=1
check.prediction("cache of Llama 2 7B, 4,096 tokens, 16 bits", llama_gigabytes, "Mi4xNDc0ODM2NDg=", unit="GB", rel=0.02,
                 why="keys and values, 32 blocks, 32 heads of 128: that many numbers per token, 2 bytes each")

# %% [markdown]
"""
**4.** A text in the cache gets one word changed in its middle. What of the cache is still right?

- a) everything but the keys and values of the changed word
- b) in each block what stands before the word; in block 0 also what stands behind it
- c) in block 0 everything but the changed word; in the blocks above it nothing
- d) in each block what stands before the word; nothing else
"""

# %% exercise="predict.changed_word"
### BEGIN SOLUTION
changed_word = "b"
### END SOLUTION

# %% check="predict.changed_word" points=1
check.choice("what stays right when a word in the middle changes", changed_word, "Yg==", ["a", "b", "c", "d"],
             why="take a token before the word and one behind it, and ask for their keys in the first block and in the "
                 "last: which of the four have met the word? Keys are made before attention mixes")

# %% [markdown] question="forget_the_oldest" points=3
"""
**5. Open question, graded by a person.** With rotary positions a score depends only on the distance of two
tokens. So somebody proposes: when the cache is full, drop the oldest column, go on counting positions, and
never compute anything again. (a) In a model with one block, is that what the uncached model gives for the
window without the oldest token? (b) And with two blocks? Follow one key of block 1 to say why. (c) How far
back can a token of a model with L blocks and windows of W tokens "see", in this scheme, and is that an
error or a feature? Say what you would measure before you let users have it.

*Your answer:*
"""

# %% [markdown]
"""
## In production

Every server of language models keeps keys and values; the two halves of the work have names. **Prefill**
reads the prompt in one go, many rows at once, bound by arithmetic. **Decode** writes token by token, bound
by memory: at each step all weights and the whole cache travel through the processor for one row per text.
That is why requests are batched, why the cache's bytes decide how many users fit on a machine, and why
keys are shared: with 8 key heads for 64 query heads the 70-billion Llama 2 keeps an eighth.

Our cache reserves a context's worth per text, filled or not. **vLLM** (Kwon et al. 2023) cuts it into pages
of 16 tokens that are handed out when needed, as an operating system does, with a table per text; texts with
the same beginning share its pages, which is our `trim` made safe for many users. It also adds new requests
to a running batch at every step, where our `generate_batch` waits for its slowest text. PyTorch itself has
no cache; Hugging Face's `past_key_values` began as tensors that `torch.cat` makes longer at each step, and
offers a preallocated `StaticCache` as well. Keys and values are often stored in 8 bits or fewer, with
module 15's means.

Models with a **sliding window** (the first Mistral: 4,096) are trained to look no further, so a ring of
that many columns is exact for them. Dropping columns of a model that was not trained so is an
approximation; Xiao et al. (2023) found that it fails when the very first tokens go, and works surprisingly
well if a few of them stay. What we are not building: pages, speculative decoding (a small model proposes
several tokens, the large one checks them in one step of `last_rows`, and `trim` takes back the wrong ones),
and caches for encoder-decoder models.

## When it fails

| symptom | cause | where to look |
|---|---|---|
| `KVCache: full` | more tokens than columns | `clear` or `trim`; `generate_cached` slides by itself; a larger `capacity` |
| `but the model has positions for` | a capacity beyond the model's context | the model's `config.context` |
| `for a cache of` | tokens that are no (B, T) for the cache's B texts | `[[token]]` for one text; `KVCache.for_model(model, batch)` |
| `in training mode` | dropout would be stored | `model.eval()` |
| `could not broadcast input array` | heads that were shared before they were stored, another batch, or too long a slice | the cache has `kv_heads` heads; `length : end` |
| `asked of a table of` | a position beyond the context, or one counted twice | `cache.length` before the append |
| `inner sizes` | heads not merged, or x has another width | `attention.merge`, then `attention.out` |
| `'NoneType' object is not callable` | a rotary model has no `model.positions`, others have no `attention.positions` | `if attention.positions is not None` |
| `object has no attribute 'forward'` | the watch was taken off twice | one `del layer.forward`, in the `finally` |
| `'NoneType' object has no attribute` | a function without `return` | its last line |
| `has no attribute 'data'` | an array where a Tensor belongs | append takes Tensors and returns Tensors |
| `setting an array element with a sequence` | texts of different lengths in one array | `left_padded` |
| `(T, S), or (B, 1, 1, S) for scores` | a mask for other columns than the keys have | `visible(cache, T)` before this step appends; (B, 1, 1, S) for padding |
| `do not broadcast` | fewer key heads than query heads | `attention.shared` of what append returns |
| `is not iterable` | append returns nothing | `return` the two Tensors |
| `boolean index did not match` | the mask stands where the layer's number belongs | `cached_attention(attention, x, cache, layer, mask)` |
| `be broadcast together` | the padding, (B,), met the columns, (T,) | `padding[:, None]`: texts are rows, columns are columns |
| `local variable 'rows'` | a variable of the outer function was assigned to | `nonlocal rows` in the inner one |
| `is not one row of` | choose got a Tensor, or the rows of all tokens | `.data[0, -1]` |
| the first token is right, the others not | positions counted from 0 for each new token | `cache.length` as start, also for rotary queries and keys |
| the first block is right, the second not | `length` grew after each block | it grows with the last layer |
| a text depends on the one before | a cache was used again | `cache.clear()` |
| a short text in a batch writes something else than alone | its filling is seen, or counted in positions | `real_keys`, `places`; True = may look |
| writing is slow again beyond the context | the exact window is computed anew for each token | `keep=context // 2`, if another text is allowed |
"""
