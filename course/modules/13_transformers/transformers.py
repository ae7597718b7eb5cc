# %% [markdown]
"""
# 13 · Transformers

A transformer is one block, stacked: attention, which moves information between tokens, and a small
network, which works on each token alone. Both only ever *add* to what passes through them. This module
builds the block, stacks it into an encoder, a decoder and a GPT, and lets it write.

```
you have built     05 gradients, 06-07 training, 11 tokens to vectors, 12 attention
        |
        v
you build now      LayerNorm, RMSNorm, MLP, SwiGLU, the block,
                   encoder-decoder, GPT, and sampling: how a model writes
        |
        v
this unlocks       milestone 2017; then 14 to 18 make the same model small and fast
```

Time: about 5 hours. Each exercise is short; what takes care is the order of things inside a block, and
knowing why it is that order and no other. The letters of all shapes: B texts, T tokens each, D the
width of a token's vector, H heads, L blocks, V words in the vocabulary.
"""

# %% given="imports"
#| default_exp nn.transformer
#| export
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Self

import numpy as np

from tinytorch.core.activations import GELU, SiLU
from tinytorch.core.autograd import no_grad, tracked
from tinytorch.core.layers import Dropout, Linear, Module, Parameter, Sequential, normal_
from tinytorch.core.tensor import Tensor, ones, zeros
from tinytorch.nn.attention import MultiHeadAttention, causal_mask
from tinytorch.nn.embedding import (
    Embedding,
    LearnedPositions,
    RotaryPositions,
    SinusoidalPositions,
)

# %% given="tools"
import time
import tracemalloc
from types import SimpleNamespace

import tito.checks as check
from tinytorch.core.autograd import check_grads, is_grad_enabled
from tinytorch.core.losses import CrossEntropyLoss
from tinytorch.core.optimizers import AdamW
from tinytorch.core.tensor import default_generator, manual_seed
from tinytorch.core.training import WarmupCosine, clip_grad_norm_, training_step
from tinytorch.nn.attention import padding_mask
from tito.notebook import method_of


def _read_only(*arrays):
    """Views that cannot be written into: others still need these arrays as they are."""
    views = [a.view() for a in arrays]
    for view in views:
        view.flags.writeable = False
    return views


class _Stub(Module):
    """A stand-in for a part: `work(x)`. `calls` keeps what it was called with, by name."""

    def __init__(self, work, names=("context", "mask", "start")):
        self.work, self.names, self.dim, self.calls = work, names, 2, []

    def forward(self, x, *rest, **options):
        self.calls.append({"x": x, **dict(zip(self.names, rest)), **options})
        return self.work(x)


def _named(value, **known):
    """The name of the known object that `value` is, or what else it is."""
    names = [name for name, other in known.items() if other is value]
    return names[0] if names else "None" if value is None else f"another {type(value).__name__}"


def _filled(module, **weights):
    """The module with these weights in its layers, `up=[...]` in `module.up`, and biases of 0."""
    for name, numbers in weights.items():
        layer = getattr(module, name)
        layer.weight.data[...] = numbers
        if layer.bias is not None:
            layer.bias.data[...] = 0
    return module


def _plain_norm(x):
    """What a fresh LayerNorm gives, by NumPy."""
    x = x - x.mean(axis=-1, keepdims=True)
    return x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + 1e-5)

# %% [markdown]
"""
## Why: twelve layers of attention, and nothing arrives

You have attention. The obvious next step is to put twelve of them on top of each other. The next cell
does so in three ways: bare; with `x + attention(x)`, so that each layer adds to its input; and with the
input brought to mean 0 and variance 1 before each layer as well. It does so once with small starting
weights and once with larger ones, and prints three things: how large the numbers are at the end, how
different the 16 tokens of a text still are from each other, and how much gradient reaches the first
layer, compared with the last.
"""

# %% demo="twelve_layers_of_attention"
def level(x):
    """Each vector brought to mean 0 and variance 1."""
    centred = x - x.mean(axis=-1, keepdims=True)
    return centred / (x.var(axis=-1, keepdims=True, correction=0) + 1e-5).sqrt()


ways = {
    "bare": lambda layer, x: layer(x),
    "x + ...": lambda layer, x: x + layer(x),
    "x + ..., levelled": lambda layer, x: x + layer(level(x)),
}
print("weights  12 layers          numbers   tokens differ by   gradient of layer 1   of layer 12")
for spread in (0.02, 0.3):
    for name, way in ways.items():
        manual_seed(0)
        layers = [MultiHeadAttention(64, 4) for _ in range(12)]
        for layer in layers:
            for parameter in layer.parameters():
                if parameter.ndim == 2:
                    normal_(parameter, std=spread)
        x = Tensor(np.random.default_rng(1).normal(size=(4, 16, 64)))
        for layer in layers:
            x = way(layer, x)
        with np.errstate(over="ignore", invalid="ignore"):
            (x * Tensor(np.random.default_rng(2).normal(size=x.shape))).sum().backward()
            first, last = (np.abs(each.value.weight.grad).max() for each in (layers[0], layers[-1]))
        print(f"{spread:<7}  {name:18} {np.sqrt((x.data**2).mean()):8.1e}   {x.data.std(axis=1).mean():16.1e}"
              f"   {first:19.1e}   {last:11.1e}")

# %% [markdown]
"""
Bare attention is an average, and an average of averages is the same for every token: after twelve
layers the tokens can no longer be told apart, and the first layer hears nothing from the loss. With
larger weights everything explodes instead. Adding keeps the tokens apart, but not the numbers in
bounds. Adding **and** levelling stays in a range that float32 and an optimizer can live with, for
either starting point. These two ideas, and nothing more mysterious, are what makes deep transformers
possible.

## Foundations: a stream that everybody adds to

Each token is a vector of D numbers, and this vector flows through the network on a straight road, the
**residual stream**. A block reads from it, and adds what it found:

```
x --+-----------------------> + --+-----------------> + -->  x, as large as before: (B, T, D)
    |                         |   |                   |
    +-- norm1 -- attention ---+   +-- norm2 -- mlp ---+
        looks at other tokens         thinks about one token
```

With numbers. A token of width 2 is `[3, 1]`:

```
stream              [3, 1]
levelled            mean 2, distances [1, -1]         ->  [1, -1]
attention says      [0.5, 0.25]                       (from what it saw in the other tokens)
stream              [3, 1] + [0.5, 0.25]              =   [3.5, 1.25]
```

The norm changed what attention *saw*. It did not change the stream.

Why that matters for learning: if a branch has slope 0.1, twelve of them in a chain pass on `0.1 ** 12`,
which is nothing. With `x + branch(x)` the slope of each layer is `1 + 0.1`, and twelve of them pass on
`1.1 ** 12 = 3.1`. The 1 is the road; no gradient has to survive a branch to get home.

Three machines are made of this block:

```
encoder            every token sees all others          reads a text: classify it, search it
decoder (GPT)      every token sees only earlier ones   writes: each token's vector predicts the next
encoder-decoder    a decoder that also sees an encoder  reads one text and writes another: translates
```

## Build

### LayerNorm

Levelling first. Each token is treated by itself: subtract the mean of its D numbers, divide by the root
of their variance. For a token `[1, 1, 5, 5]`:

```
mean         3
distances    [-2 -2  2  2]
variance     mean of [4 4 4 4]             = 4       divided by D, not by D - 1
scale        1 / sqrt(4 + eps)             = 0.5     eps keeps a token of equal numbers from 0 / 0
result       distances * scale             = [-1 -1  1  1]
```

Take the variance as the mean of the squared distances, in that order. The school formula, mean of the
squares minus square of the mean, subtracts two large numbers that are nearly equal, and float32 keeps
only 7 digits of each (module 04's lesson again).

Return both the levelled numbers and the scale: the gradient needs the scale as well.
"""

# %% exercise="standardize"
#| exporti
def standardize(x: np.ndarray, eps: float) -> tuple[np.ndarray, np.ndarray]:
    """(normal, scale): x with mean 0 and variance 1 along its last axis, and 1 / √(variance + eps).

    x: (..., D), left as it is; normal: (..., D); scale: (..., 1). The variance is divided by D.
    Cost: about 6 FLOPs per number.

    >>> [part.tolist() for part in standardize(np.array([1.0, 1.0, 5.0, 5.0]), eps=0.0)]
    [[-1.0, -1.0, 1.0, 1.0], [0.5]]
    """
    ### BEGIN SOLUTION
    centred = x - x.mean(axis=-1, keepdims=True)
    scale = 1 / np.sqrt((centred * centred).mean(axis=-1, keepdims=True) + eps)
    return centred * scale, scale
    ### END SOLUTION

# %% check="standardize" points=4
_x, = _read_only(np.array([[1.0, 1.0, 5.0, 5.0], [0.0, 0.0, 0.0, 8.0]], dtype=np.float32))
_pair = standardize(_x, 0.0)
check.equal("what comes back", [type(_pair).__name__, *(type(_part).__name__ for _part in _pair)],
            ["tuple", "ndarray", "ndarray"], why="two plain arrays, (normal, scale): rules work on arrays, not Tensors")
check.close("normal of [1, 1, 5, 5] and [0, 0, 0, 8], eps=0", _pair[0],
            [[-1, -1, 1, 1], [-0.57735, -0.57735, -0.57735, 1.73205]],
            why="each row by itself. Row 2: mean 2, variance (4 + 4 + 4 + 36) / 4 = 12, and 6 / √12 = 1.732")
check.close("scale of the two rows", _pair[1], [[0.5], [0.288675]],
            why="1 / √4 and 1 / √12; one per row, the axis kept so that it broadcasts against x")
check.close("normal and scale of [0, 2] with eps=3",
            np.concatenate(standardize(np.array([0.0, 2.0]), 3.0)), [-0.5, 0.5, 0.5],
            why="variance 1, and 1 / √(1 + 3) = 0.5: eps is added before the root is taken")
check.close("normal of [7, 7, 7] with eps=1e-5", standardize(np.full(3, 7.0), 1e-5)[0], [0, 0, 0],
            why="no variance at all: eps makes it 0 / √eps and not 0 / 0")
check.close("normal of [4095, 4097] in float32", standardize(np.array([4095, 4097], np.float32), 0.0)[0],
            [-1, 1], why="distances first, then squares: 4096² + 1 does not fit into float32's 24 bits")
_three = standardize(np.arange(12.0).reshape(2, 3, 2), 0.0)
check.close("normal of a (2, 3, 2) batch", _three[0], np.tile([-1.0, 1.0], (2, 3, 1)),
            why="every pair is (k, k + 1): the last axis is the token's own, all others are left alone")
check.equal("dtypes for float32 input", [str(_part.dtype) for _part in _pair], ["float32", "float32"],
            why="float64 would double the memory of every norm")

# %% [markdown]
"""
### LayerNorm's gradient

`LayerNorm` returns `normal * weight + bias`, with one learned weight and bias per column. Its rule for
`x` is the one derivation of this module, and it needs no calculus beyond three numbers. Take

```
x = [0 0 3]      mean 1, distances [-1 -1 2], variance 2, scale 0.7071
normal n         [-0.7071 -0.7071 1.4142]
g                [1 0 0], what arrives: the first output counts, the others do not
```

If nothing but the scale were there, the gradient of `x` would be `g * scale`. But `x` also moves the
mean and the variance. Ask which nudges of `x` change **nothing** in the output:

- all three numbers up by the same: the mean goes along, the distances stay. So the gradient may have
  nothing in the direction `[1 1 1]`: its entries add up to 0.
- all distances stretched by the same factor: the scale shrinks by it. So the gradient may have nothing
  in the direction `n` either.

Take both parts out of `g`. How much of `[1 1 1]` is in it? Its mean. How much of `n`? The mean of
`g * n` (`n` has variance 1, so no further division is needed). What is left is the gradient:

```
g                              [ 1      0      0    ]
mean of g = 1/3                [ 1/3    1/3    1/3  ]     taken away
mean of g*n = -0.2357, times n [ 1/6    1/6   -1/3  ]     taken away
rest                           [ 1/2   -1/2    0    ]
rest * scale                   [ 0.3536 -0.3536  0  ]     the gradient of x
```

Three numbers, two directions taken out: only one is left, and you can see it, `[1 -1 0]`. With a weight
the `g` that arrives at `n` is `g * weight`; take that first. The means are along the last axis, token by
token. As in module 05, a rule never writes into `g`.
"""

# %% exercise="layer_norm_gradient"
#| exporti
def layer_norm_gradient(g, out, x, weight, bias, eps=1e-5):
    """Gradient of `normal * weight + bias` for x: g * weight without its parts along 1 and normal.

    g, out, x, result: (..., D); weight, bias: (D,). All arrays.
    Cost: about 15 FLOPs per number. Source: Ba et al. 2016.

    >>> g, x = np.array([1.0, 0.0, 0.0, 0.0]), np.array([1.0, 1.0, 5.0, 5.0])
    >>> layer_norm_gradient(g, None, x, np.ones(4), np.zeros(4), eps=0.0).tolist()
    [0.25, -0.25, 0.0, 0.0]
    """
    ### BEGIN SOLUTION
    normal, scale = standardize(x, eps)
    g = g * weight
    along_ones = g.mean(axis=-1, keepdims=True)
    along_normal = (g * normal).mean(axis=-1, keepdims=True) * normal
    return (g - along_ones - along_normal) * scale
    ### END SOLUTION

# %% check="layer_norm_gradient" points=6
def _layer_norm_of(x, weight, bias, eps):
    centred = x - x.mean(axis=-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + eps) * weight + bias


_g, _x, _w, _b = _read_only(np.array([1.0, 0.0, 0.0]), np.array([0.0, 0.0, 3.0]), np.ones(3), np.zeros(3))
_out = _layer_norm_of(_x, _w, _b, 0.0)
check.close("x = [0, 0, 3], g = [1, 0, 0], weight 1, eps=0", layer_norm_gradient(_g, _out, _x, _w, _b, eps=0.0),
            [0.353553, -0.353553, 0], why="1/2, -1/2 and 0, times the scale 0.7071: the table above")
check.equal("what comes back", type(layer_norm_gradient(_g, _out, _x, _w, _b)).__name__, "ndarray",
            why="a plain array: rules work below the Tensors, and backward adds up what they give")
check.close("the same with weight [4, 1, 1]",
            layer_norm_gradient(_g, _out * [4.0, 1.0, 1.0], _x, np.array([4.0, 1.0, 1.0]), _b, eps=0.0),
            [1.414214, -1.414214, 0], why="g * weight arrives at n: four times as much")
_x, _w, _b = np.array([[0.5, -1.0, 2.0], [3.0, 1.0, 0.5]]), np.array([1.5, 0.0, -2.0]), np.array([0.1, 0.2, 0.3])


def _guarded(g, out, x, weight, bias, eps):
    return layer_norm_gradient(*_read_only(g, out, x, weight, bias), eps=eps)


for _eps in (1e-5, 0.5):
    check.rule(f"two tokens of 3 numbers, a weight per column, eps={_eps}", _guarded, 0,
               lambda x, w, b, eps, _eps=_eps: _layer_norm_of(x, w, b, _eps), _x, _w, _b, _eps,
               why="compared with central differences: each token has its own mean, variance and scale")
_x = np.random.default_rng(3).normal(size=(2, 2, 5))
_out = _layer_norm_of(_x, 1.0, 0.0, 1e-5)
_got = layer_norm_gradient(np.random.default_rng(4).normal(size=_x.shape), _out, _x, np.ones(5), np.zeros(5))
check.close("sum of each token's gradient, (2, 2, 5)", np.asarray(_got).sum(axis=-1), np.zeros((2, 2)),
            why="all numbers up by the same changes nothing, so nothing may point that way", atol=1e-6)

# %% [markdown]
"""
With the two halves, the operation and the layer are quickly written. The weight's gradient sums
`g * normal` over all tokens, the bias's sums `g`: as for `*` and `+`, with the broadcast undone.
"""

# %% given="LayerNorm"
#| export
def _layer_norm(x, weight, bias, eps=1e-5):
    """Each token brought to mean 0 and variance 1, then scaled and shifted: x (..., D)."""
    return Tensor(standardize(x.data, eps)[0] * weight.data + bias.data)


def _over_tokens(values):
    """(..., D) summed to (D,)."""
    return values.reshape(-1, values.shape[-1]).sum(axis=0)


layer_norm = tracked(
    _layer_norm,
    (
        layer_norm_gradient,
        lambda g, out, x, weight, bias, eps=1e-5: _over_tokens(g * standardize(x, eps)[0]),
        lambda g, out, x, weight, bias, eps=1e-5: _over_tokens(g),
    ),
    "layer_norm",
)


class LayerNorm(Module):
    """Brings each token of x (..., D) to mean 0 and variance 1, then weight * x + bias.

    Source: Ba et al. 2016; torch.nn.LayerNorm.

    >>> LayerNorm(2)(Tensor([[3.0, 1.0]])).data.round(3).tolist()
    [[1.0, -1.0]]
    """

    def __init__(self, dim: int, eps: float = 1e-5) -> None:
        self.dim, self.eps = dim, eps
        self.weight, self.bias = Parameter(ones(dim)), Parameter(zeros(dim))

    def forward(self, x: Tensor) -> Tensor:
        """x (..., D) -> (..., D)"""
        return layer_norm(x, self.weight, self.bias, eps=self.eps)

    def extra_repr(self) -> str:
        """The width."""
        return f"{self.dim}"

# %% [markdown]
"""
### RMSNorm

Is the mean needed at all? Zhang and Sennrich tried without: divide by the root of the **mean square**,
subtract nothing. It works as well and saves a pass over the numbers, and Llama and its descendants use it.

```
x             [1 7]
mean square   (1 + 49) / 2 = 25        root 5
x / 5         [0.2 1.4]                 no bias either: only a weight per column
```

`inverse_rms` gives the factor, `1 / 5` here.
"""

# %% exercise="inverse_rms"
#| exporti
def inverse_rms(x: np.ndarray, eps: float) -> np.ndarray:
    """1 / √(mean of the squares + eps) along the last axis: x (..., D) -> (..., 1).

    >>> inverse_rms(np.array([1.0, 7.0]), eps=0.0).tolist()
    [0.2]
    """
    ### BEGIN SOLUTION
    return 1 / np.sqrt((x * x).mean(axis=-1, keepdims=True) + eps)
    ### END SOLUTION

# %% check="inverse_rms" points=3
_x, = _read_only(np.array([[1.0, 7.0], [3.0, 3.0]], dtype=np.float32))
check.close("of [1, 7] and [3, 3], eps=0", inverse_rms(_x, 0.0), [[0.2], [1 / 3]],
            why="1 / √25 and 1 / √9, one per token, the axis kept. No mean is subtracted: [3, 3] has size 3")
check.equal("what comes back", type(inverse_rms(_x, 0.0)).__name__, "ndarray",
            why="a plain array: rules work on arrays, not Tensors")
check.close("of [0, 0] with eps=4", inverse_rms(np.zeros(2), 4.0), [0.5], why="1 / √(0 + 4): eps inside the root")
check.close("of a (2, 1, 2) batch", inverse_rms(np.array([[[1.0, 7.0]], [[2.0, 2.0]]]), 0.0),
            [[[0.2]], [[0.5]]], why="along the last axis, whatever stands before it")

# %% [markdown]
"""
Its gradient is LayerNorm's with one direction less: without a mean, nudging all numbers by the same
*does* change the output. What still changes nothing is stretching the whole token, so only the part along
`normal` (now `x * inverse_rms`) is taken out. For `x = [1, 7]` and `g = [1, 0]`:

```
normal n                     [0.2 1.4]        mean of g*n = 0.1
g - 0.1 * n                  [0.98 -0.14]
times 1/5                    [0.196 -0.028]   at right angles to x: 0.196*1 - 0.028*7 = 0
```
"""

# %% exercise="rms_norm_gradient"
#| exporti
def rms_norm_gradient(g, out, x, weight, eps=1e-6):
    """Gradient of `x * inverse_rms(x) * weight` for x: g * weight without its part along normal.

    g, out, x, result: (..., D); weight: (D,). All arrays. Source: Zhang & Sennrich 2019.

    >>> g, x = np.array([1.0, 0.0]), np.array([1.0, 7.0])
    >>> rms_norm_gradient(g, None, x, np.ones(2), eps=0.0).round(3).tolist()
    [0.196, -0.028]
    """
    ### BEGIN SOLUTION
    scale = inverse_rms(x, eps)
    g, normal = g * weight, x * scale
    return (g - (g * normal).mean(axis=-1, keepdims=True) * normal) * scale
    ### END SOLUTION

# %% check="rms_norm_gradient" points=4
_g, _x, _w = _read_only(np.array([1.0, 0.0]), np.array([1.0, 7.0]), np.ones(2))
check.close("x = [1, 7], g = [1, 0], weight 1, eps=0", rms_norm_gradient(_g, _x / 5, _x, _w, eps=0.0),
            [0.196, -0.028], why="(1 - 0.1 * 0.2) / 5 and (0 - 0.1 * 1.4) / 5")
check.equal("what comes back", type(rms_norm_gradient(_g, _x / 5, _x, _w)).__name__, "ndarray",
            why="a plain array: rules work on arrays, not Tensors")
_x, _w = np.array([[0.5, -1.0, 2.0], [3.0, 1.0, 0.5]]), np.array([1.5, 0.0, -2.0])


def _guarded(g, out, x, weight, eps):
    return rms_norm_gradient(*_read_only(g, out, x, weight), eps=eps)


for _eps in (1e-6, 0.5):
    check.rule(f"two tokens of 3 numbers, a weight per column, eps={_eps}", _guarded, 0,
               lambda x, w, eps, _eps=_eps: x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + _eps) * w,
               _x, _w, _eps, why="compared with central differences; each token has a scale of its own")

# %% given="RMSNorm"
#| export
def _rms_norm(x, weight, eps=1e-6):
    """Each token divided by the root of its mean square, then scaled."""
    return Tensor(x.data * inverse_rms(x.data, eps) * weight.data)


rms_norm = tracked(
    _rms_norm,
    (
        rms_norm_gradient,
        lambda g, out, x, weight, eps=1e-6: _over_tokens(g * x * inverse_rms(x, eps)),
    ),
    "rms_norm",
)


class RMSNorm(Module):
    """Divides each token of x (..., D) by the root of its mean square, then weight * x.

    Source: Zhang & Sennrich 2019; torch.nn.RMSNorm.

    >>> RMSNorm(2)(Tensor([[1.0, 7.0]])).data.round(3)
    array([[0.2, 1.4]], dtype=float32)
    """

    def __init__(self, dim: int, eps: float = 1e-6) -> None:
        self.dim, self.eps = dim, eps
        self.weight = Parameter(ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        """x (..., D) -> (..., D)"""
        return rms_norm(x, self.weight, eps=self.eps)

    def extra_repr(self) -> str:
        """The width."""
        return f"{self.dim}"

# %% [markdown]
"""
### The MLP

Attention is a weighted average: it can carry information from one token to another, but it does not
bend anything. The thinking happens in the other half of the block, a network of two layers that is
applied to **every token by itself**: up to a wider vector (4 D is the custom), bent by GELU, and down
again.

```
x (B, T, D)  ->  up (B, T, 4D)  ->  GELU  ->  down (B, T, D)  ->  dropout
```

A case to do by hand, D = 1 and 2 hidden units: `up` has weights 1 and -1, `down` has weights 1 and 2. For
`x = 1` the result is `1 * GELU(1) + 2 * GELU(-1) = 0.8412 - 2 * 0.1588 = 0.5236`. (GELU in its tanh form,
which is the one that GPT-2 used.)

The constructor is given here and in all later classes: names matter, because `state_dict` is made of them.
"""

# %% exercise="MLP.forward"
#| export
class MLP(Module):
    """Each token by itself: wider, bent by GELU, back to its width, dropout.

    >>> MLP(8, 32)(zeros(2, 5, 8)).shape
    (2, 5, 8)
    """

    def __init__(self, dim: int, hidden: int, dropout: float = 0.0, bias: bool = True) -> None:
        self.up, self.down = Linear(dim, hidden, bias=bias), Linear(hidden, dim, bias=bias)
        self.act, self.dropout = GELU(approximate="tanh"), Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """x (..., D) -> (..., D). Cost: 4*D*hidden FLOPs per token."""
        ### BEGIN SOLUTION
        return self.dropout(self.down(self.act(self.up(x))))
        ### END SOLUTION

# %% check="MLP.forward" points=3
_mlp = _filled(MLP(1, 2), up=[[1.0], [-1.0]], down=[[1.0, 2.0]])
check.tensor("up [1, -1], down [1, 2]: of 1 and of 2", _mlp(Tensor([[1.0], [2.0]])), [[0.523576], [1.863793]],
             why="GELU(1) + 2 * GELU(-1) = 0.8412 - 2 * 0.1588, and 1.9546 - 2 * 0.0454 for 2", rtol=1e-4)
_mlp.dropout = _Stub(lambda x: x * 0)
check.tensor("with a dropout that drops everything", _mlp(Tensor([[1.0]])), [[0.0]],
             why="dropout comes last: what the block gets added is what dropout left")
check.equal("shape that dropout saw", _mlp.dropout.calls[-1]["x"].shape if _mlp.dropout.calls else None, (1, 1),
            why="the result of `down`, width D, and not the wide middle")
manual_seed(1)
_mlp, _x = MLP(3, 5), Tensor(np.random.default_rng(0).normal(size=(2, 4, 3)), requires_grad=True)
_mlp(_x).sum().backward()
check.true("gradients arrive at x and all four parameters",
           all(_p.grad is not None for _p in [_x, *_mlp.parameters()]),
           why="each layer's output is what the next one gets, as a Tensor",
           got=[_name for _name, _p in _mlp.named_parameters() if _p.grad is None])

# %% [markdown]
"""
### SwiGLU

Llama's MLP has a **gate**. Two layers look at the same input; one of them, bent by SiLU, decides how much
of the other comes through, number by number:

```
x = 2, one hidden unit:  gate weight 1, up weight 3, down weight 1

gate(x) = 2     SiLU(2) = 2 * sigmoid(2) = 1.7616        how far the gate is open
up(x)   = 6     1.7616 * 6               = 10.5695       what comes through
```

No biases, no dropout. With three matrices instead of two, the custom is to make it 8/3 D wide instead of
4 D, so that the number of weights stays the same: 3 * D * 8/3 D = 8 D² = 2 * D * 4 D.
"""

# %% exercise="SwiGLU.forward"
#| export
class SwiGLU(Module):
    """down(SiLU(gate(x)) * up(x)), without biases. Source: Shazeer 2020.

    >>> SwiGLU(6, 16)(zeros(2, 5, 6)).shape
    (2, 5, 6)
    """

    def __init__(self, dim: int, hidden: int) -> None:
        self.gate, self.up = Linear(dim, hidden, bias=False), Linear(dim, hidden, bias=False)
        self.down, self.act = Linear(hidden, dim, bias=False), SiLU()

    def forward(self, x: Tensor) -> Tensor:
        """x (..., D) -> (..., D). Cost: 6*D*hidden FLOPs per token."""
        ### BEGIN SOLUTION
        return self.down(self.act(self.gate(x)) * self.up(x))
        ### END SOLUTION

# %% check="SwiGLU.forward" points=3
_swiglu = _filled(SwiGLU(1, 1), gate=[[1.0]], up=[[3.0]], down=[[1.0]])
check.tensor("gate 1, up 3, down 1: of 2 and of -2", _swiglu(Tensor([[2.0], [-2.0]])), [[10.569565], [1.430435]],
             why="SiLU(2) * 6 = 1.7616 * 6, and SiLU(-2) * -6 = -0.2384 * -6", rtol=1e-4)
_swiglu = _filled(SwiGLU(1, 2), gate=[[1.0], [-1.0]], up=[[1.0], [2.0]], down=[[1.0, 10.0]])
check.tensor("two hidden units, down [1, 10], of 2", _swiglu(Tensor([[2.0]])), [[-6.011]],
             why="1.7616 * 2 + 10 * (-0.2384 * 4): SiLU, times up, then down", rtol=1e-3)
_x = Tensor([[0.5, -1.0, 2.0]], requires_grad=True)
_swiglu = SwiGLU(3, 4)
_swiglu(_x).sum().backward()
check.true("gradients arrive at x and all three weights",
           all(_p.grad is not None for _p in [_x, *_swiglu.parameters()]),
           why="x reaches the result along two ways, and both must be Tensor operations",
           got=[_name for _name, _p in _swiglu.named_parameters() if _p.grad is None])

# %% [markdown]
"""
### The block

Everything is there; now the picture of the Foundations in two lines of code. In each half: norm, branch,
dropout, add. The MLP has its dropout inside, so only attention's answer goes through `self.dropout`.

```
x = x + dropout(attention(norm1(x)))
x = x +               mlp(norm2(x))         of the x of the line above: the halves come one after the other
```

This order, norm first, is called **pre-norm**. The original paper put the norm after the addition,
`norm(x + attention(x))`, so that the road itself went through every norm; question 5 is about the difference.

One trap: `MultiHeadAttention.forward(x, context, mask)` has the context as its second argument. Hand the mask
over by name, `mask=mask`.
"""

# %% exercise="Block.forward"
#| export
class Block(Module):
    """One step of the residual stream: attention adds what tokens see, the mlp what each makes of it.

    attention, mlp: the two branches. norm: the class of their norms. dropout: on attention's answer.
    Source: Vaswani et al. 2017, with the norms first: Xiong et al. 2020.
    """

    def __init__(
        self,
        attention: MultiHeadAttention,
        mlp: Module,
        norm: type[Module] = LayerNorm,
        dropout: float = 0.0,
    ) -> None:
        self.norm1, self.norm2 = norm(attention.dim), norm(attention.dim)
        self.attention, self.mlp = attention, mlp
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, mask: np.ndarray | None = None) -> Tensor:
        """x (B, T, D) -> (B, T, D); mask: bool, True where a token may look, or None.

        Cost: per token 8*D² FLOPs for attention's layers, 4*T*D for its scores, and the mlp's.
        """
        ### BEGIN SOLUTION
        x = x + self.dropout(self.attention(self.norm1(x), mask=mask))
        return x + self.mlp(self.norm2(x))
        ### END SOLUTION

# %% check="Block.forward" points=6
def _block(attention=lambda x: x[:, :, ::-1] * 10, mlp=lambda x: x * 100):
    """A block of width 2 with stand-ins: attention swaps the two numbers * 10, the mlp is * 100."""
    return Block(_Stub(attention), _Stub(mlp))


_x = Tensor([[[1.0, 3.0]]])
_made = _block()
_mask = np.ones((1, 1), dtype=bool)
check.tensor("attention = swap * 10, mlp = * 100: of [1, 3]", _made(_x, _mask), [[[111, -107]]], rtol=1e-4,
             why="norm1 gives [-1, 1], attention [10, -10], the stream is [11, -7]; norm2 gives [1, -1], the "
                 "mlp [100, -100]: together [111, -107]")
check.close("what attention saw", _made.attention.calls[0]["x"], [[[-1, 1]]], rtol=1e-4, why="norm1 of the stream")
check.close("what the mlp saw", _made.mlp.calls[0]["x"], [[[1, -1]]], rtol=1e-4,
            why="norm2 of the stream after attention has added to it")
_call = _made.attention.calls[0]
check.equal("attention's context and mask", [_named(_call.get("context"), mask=_mask), _named(_call.get("mask"), mask=_mask)],
            ["None", "mask"], why="its second argument is the context: a mask there would be looked at as if it were text")
_made = _block()
_made.dropout = _Stub(lambda x: x * 0)
check.tensor("with a dropout that drops everything: of [1, 3]", _made(_x), [[[-99, 103]]], rtol=1e-4,
             why="only attention's answer is dropped: the stream [1, 3] goes on, and the mlp adds [-100, 100]")
_made = _block()
_made.norm2.weight.data[...] = 0.5
check.tensor("with 0.5 as norm2's weight: of [1, 3]", _made(_x), [[[61, -57]]], rtol=1e-4,
             why="each norm has weights of its own: [11, -7] + 100 * 0.5 * [1, -1]")
manual_seed(3)
_made = Block(MultiHeadAttention(4, 2), MLP(4, 8))
check.grads("gradients of a real block, D = 4, H = 2, T = 3", check_grads,
            lambda x: _made(x), Tensor(np.random.default_rng(5).normal(size=(1, 3, 4))))

# %% [markdown]
"""
An encoder block is just that, with no mask but that of the padding: every token sees every other.
"""

# %% given="EncoderBlock"
#| export
class EncoderBlock(Block):
    """A block whose tokens all see each other, but for the padding that `mask` hides.

    hidden: width of the mlp, 4 * dim if None.

    >>> EncoderBlock(8, heads=2)(zeros(2, 5, 8)).shape
    (2, 5, 8)
    """

    def __init__(
        self, dim: int, heads: int, hidden: int | None = None, dropout: float = 0.0
    ) -> None:
        attention = MultiHeadAttention(dim, heads, dropout=dropout)
        super().__init__(attention, MLP(dim, hidden or 4 * dim, dropout), dropout=dropout)

# %% [markdown]
"""
### The decoder block

A decoder block writes, so two things are different:

- its tokens see only what came before: `causal_mask(T)`;
- if it has a source to look at, it has a third branch in the middle. **Cross-attention** takes its queries
  from the stream and its keys and values from `memory`, the encoder's result: "what in the source helps me
  to say what comes next?"

```
x --+---------------------------> + --+----------------------------> + --+----------------> + -->
    |                             |   |                              |   |                  |
    +-- norm1 -- self-attention --+   +-- norm_cross -- cross -------+   +-- norm2 -- mlp --+
                 (causal)                               ^
                                                     memory (B, S, D), memory_mask
```

T tokens may look at S others: `self.cross(queries, memory, memory_mask)`, no causal mask there, because the
source is all known. The memory has its norm already (the encoder's last one). What cross-attention says
goes through `self.dropout`, too. A block built without `cross=True` has no such branch: `self.cross` is None.
"""

# %% exercise="DecoderBlock.forward"
#| export
class DecoderBlock(Block):
    """A block whose tokens see only what came before; with `cross`, they also look at a memory.

    >>> DecoderBlock(8, heads=2, cross=True)(zeros(2, 5, 8), memory=zeros(2, 7, 8)).shape
    (2, 5, 8)
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        hidden: int | None = None,
        dropout: float = 0.0,
        cross: bool = False,
    ) -> None:
        attention = MultiHeadAttention(dim, heads, dropout=dropout)
        super().__init__(attention, MLP(dim, hidden or 4 * dim, dropout), dropout=dropout)
        self.cross = MultiHeadAttention(dim, heads, dropout=dropout) if cross else None
        self.norm_cross = LayerNorm(dim) if cross else None

    def forward(
        self, x: Tensor, memory: Tensor | None = None, memory_mask: np.ndarray | None = None
    ) -> Tensor:
        """x (B, T, D), memory (B, S, D) -> (B, T, D); memory_mask: bool, (..., S), or None.

        Raises ValueError for a memory that nothing looks at, or one that is missing.
        """
        if (memory is None) != (self.cross is None):
            given, block = ("no memory", "with") if memory is None else ("a memory", "without")
            raise ValueError(
                f"DecoderBlock: {given} for a block {block} cross-attention. "
                "Build it with cross=True and pass the encoder's result, or neither."
            )
        ### BEGIN SOLUTION
        x = x + self.dropout(self.attention(self.norm1(x), mask=causal_mask(x.shape[1])))
        if self.cross is not None:
            x = x + self.dropout(self.cross(self.norm_cross(x), memory, memory_mask))
        return x + self.mlp(self.norm2(x))
        ### END SOLUTION

# %% check="DecoderBlock.forward" points=6
def _decoder(**stubs):
    """A decoder block of width 2 with stand-ins: swap * 10, cross: [-20, 0] in every place, mlp: * 100."""
    made = DecoderBlock(2, 1, cross=True)
    made.attention, made.mlp = _Stub(lambda x: x[:, :, ::-1] * 10), _Stub(lambda x: x * 100)
    made.cross = _Stub(lambda x: x * 0 + Tensor([-20.0, 0.0]))
    vars(made).update(stubs)
    return made


_x, _memory = Tensor([[[1.0, 3.0], [5.0, 4.0], [2.0, 6.0]]]), Tensor([[[7.0, 9.0], [7.0, 8.0], [5.0, 5.0]]])
_made, _mask = _decoder(), np.array([[[[True, True, False]]]])
check.tensor("swap * 10, then [-20, 0], then * 100: of [1, 3], [5, 4], [2, 6]", _made(_x, _memory, _mask),
             [[[-109, 93], [-125, 114], [-108, 96]]], rtol=1e-4,
             why="[1, 3] + [10, -10] = [11, -7], + [-20, 0] = [-9, -7], and norm2 of that * 100 = [-100, 100]: the stream "
                 "collects all three answers, one after the other")
_call = _made.attention.calls[0]
check.close("the mask of self-attention, 3 tokens", _call.get("mask"), np.tri(3),
            why="causal: token 0 must not see token 1, which it shall predict")
_call = _made.cross.calls[0]
check.close("what cross-attention asks with", _call["x"], [[[1, -1], [-1, 1], [1, -1]]], rtol=1e-4,
            why="norm_cross of the stream after self-attention: [11, -7], [-5, 14], [12, -4]")
check.equal("cross-attention's context", _named(_call.get("context"), memory=_memory, memory_mask=_mask), "memory",
            why="keys and values come from the encoder, whose last norm has dealt with them already")
check.equal("cross-attention's mask", _named(_call.get("mask"), memory_mask=_mask), "memory_mask",
            why="padding of the source must not be looked at, and nothing in the source is in the future")
_made = _decoder(dropout=_Stub(lambda x: x * 0))
check.tensor("with a dropout that drops everything", _made(_x, _memory), [[[-99, 103], [105, -96], [-98, 106]]],
             rtol=1e-4,
             why="both attentions' answers are dropped; the stream and the mlp are not")
_made = _decoder(cross=None, norm_cross=None)
check.tensor("a block without cross-attention", _made(_x), [[[111, -107], [-105, 114], [112, -104]]], rtol=1e-4,
             why="self-attention and mlp alone")
manual_seed(4)
_made, _x = DecoderBlock(4, 2, cross=True), np.random.default_rng(6).normal(size=(1, 4, 4))
_other = _x.copy()
_other[0, 2:] += 1.0
_memory = Tensor(np.random.default_rng(7).normal(size=(1, 3, 4)))
check.close("tokens 0 and 1 of a real block, with others in places 2 and 3",
            _made(Tensor(_other), _memory).data[0, :2], _made(Tensor(_x), _memory).data[0, :2],
            why="no token may depend on a later one")
check.grads("gradients of a real block with cross-attention", check_grads,
            lambda x, memory: _made(x, memory), Tensor(_x), _memory)

# %% [markdown]
"""
### Encoder and decoder together

The first transformer translated. An encoder reads the source text once and leaves a memory: one vector per
source token. The decoder writes the target from left to right, and each of its blocks looks at the memory.

```
source (B, S) -> table, positions -> encoder blocks -> norm -> memory (B, S, D)
                                                                 |
target (B, T) -> table, positions -> decoder blocks (look at it) -> norm -> head -> logits (B, T, V)
```

Read `encode`; `decode` is its sibling, and yours. The table's rows start with a spread of 1/√D, right for
a table that is also the head, as the paper's is. So on their way in they are multiplied by √D: then they
are about as large as the waves that are added to them. With D = 4 and a row `[0.5, 0, 0, 0.5]` the block sees `[1, 0, 0, 1]` plus the wave of its position.

Two things to watch: it is the *target's* table and the *target's* norm; and the decoder's blocks cannot be
called as one `self.decoder(x)`, because each needs the memory and its mask as well.
"""

# %% given="check_batch"
#| exporti
def check_batch(model: str, tokens, limit: int) -> None:
    """Raises ValueError unless `tokens` is a batch of texts (B, T) with 1 <= T <= limit."""
    shape = np.shape(tokens)
    if len(shape) != 2 or 0 in shape:
        raise ValueError(
            f"{model}: tokens of shape {shape} are not a batch of texts, (B, T). "
            "For one text write [tokens]."
        )
    if shape[1] > limit:
        raise ValueError(
            f"{model}: texts of {shape[1]} tokens do not fit into a context of {limit}. "
            f"Crop them to the last {limit}, or build the model with a longer context."
        )

# %% exercise="Transformer.decode"
#| export
class Transformer(Module):
    """Encoder and decoder: reads a source text whole, writes the target from left to right.

    Tokens are whole numbers (B, S) and (B, T), up to max_length of them; masks are bool, True for real
    source tokens (see `padding_mask`). Source: Vaswani et al. 2017, with the norms first.

    >>> Transformer(5, 7, dim=8, heads=2)([[1, 2, 3]], [[0, 4]]).shape
    (1, 2, 7)
    """

    def __init__(
        self,
        source_vocab: int,
        target_vocab: int,
        dim: int = 128,
        heads: int = 4,
        layers: int = 2,
        max_length: int = 128,
        hidden: int | None = None,
        dropout: float = 0.0,
    ) -> None:
        self.dim, self.max_length = dim, max_length
        self.source, self.target = Embedding(source_vocab, dim), Embedding(target_vocab, dim)
        self.positions, self.dropout = SinusoidalPositions(max_length, dim), Dropout(dropout)
        self.encoder = Sequential(
            *[EncoderBlock(dim, heads, hidden, dropout) for _ in range(layers)]
        )
        self.decoder = Sequential(
            *[DecoderBlock(dim, heads, hidden, dropout, cross=True) for _ in range(layers)]
        )
        self.norm_source, self.norm_target = LayerNorm(dim), LayerNorm(dim)
        self.head = Linear(dim, target_vocab)
        for table in (self.source, self.target):
            normal_(table.weight, std=1 / math.sqrt(dim))

    def encode(self, source, mask: np.ndarray | None = None) -> Tensor:
        """Source tokens (B, S) -> memory (B, S, D)."""
        check_batch("Transformer", source, self.max_length)
        x = self.dropout(self.positions(self.source(source) * math.sqrt(self.dim)))
        for block in self.encoder:
            x = block(x, mask)
        return self.norm_source(x)

    def decode(self, target, memory: Tensor, mask: np.ndarray | None = None) -> Tensor:
        """Target tokens (B, T) and memory (B, S, D) -> logits (B, T, V) of each next token.

        mask: which tokens of the memory are real, bool, or None.
        """
        check_batch("Transformer", target, self.max_length)
        ### BEGIN SOLUTION
        x = self.dropout(self.positions(self.target(target) * math.sqrt(self.dim)))
        for block in self.decoder:
            x = block(x, memory, mask)
        return self.head(self.norm_target(x))
        ### END SOLUTION

    def forward(self, source, target, source_mask: np.ndarray | None = None) -> Tensor:
        """Logits (B, T, V) for target tokens (B, T), given source tokens (B, S)."""
        return self.decode(target, self.encode(source, source_mask), source_mask)

# %% check="Transformer.decode" points=5
manual_seed(5)
_model = Transformer(4, 6, dim=4, heads=2, layers=2, max_length=8)
for _place, _work in enumerate((lambda x: x + 1.0, lambda x: x * x)):
    _model.decoder[_place] = _Stub(_work, names=("memory", "memory_mask"))
_memory, _mask = Tensor(np.ones((1, 2, 4))), np.array([[[[True, False]]]])
_logits = _model.decode([[5, 0, 5]], _memory, _mask)
_seen = _model.target.weight.data[[5, 0, 5]] * 2 + _model.positions.table.data[:3]
_calls = [*_model.decoder[0].calls, *_model.decoder[1].calls]
check.equal("calls of the two blocks of the decoder", len(_calls), 2, why="each once")
check.close("what the first block saw of tokens [5, 0, 5]", _calls[0]["x"].data[0], _seen,
            why="rows of the target's table times √4, plus the waves of positions 0, 1, 2")
check.equal("the memory and the memory_mask of both blocks",
            [_named(_call.get(_name), memory=_memory, mask=_mask) for _call in _calls for _name in ("memory", "memory_mask")],
            ["memory", "mask"] * 2, why="every block looks at the memory, and not at its padding")
check.close("what the second block saw", _calls[1]["x"].data[0], _seen + 1, why="the first one's result")
_normed = _plain_norm((_seen + 1) ** 2)
check.tensor("logits of tokens [5, 0, 5]", _logits,
             [_normed @ _model.head.weight.data.T + _model.head.bias.data], rtol=1e-4, atol=1e-5,
             why="head(norm_target(what the last block gave)), one row of 6 logits per token")
_model.norm_target.weight.data[...], _model.dropout = 0.0, _Stub(lambda x: x)
check.tensor("logits with 0 as norm_target's weight", _model.decode([[1, 2]], _memory), [[_model.head.bias.data] * 2],
             why="nothing but the head's bias is left: the decoder's norm comes last")
check.equal("calls of dropout", len(_model.dropout.calls), 1,
            why="once, on tokens and positions together, as in encode; the blocks have their own")

# %% [markdown]
"""
### GPT: its settings

A GPT is a decoder without a source. Its parts come in kinds, and which ones is a matter of configuration.
GPT-2's and Llama's differ in four settings:

```
              positions    norm      mlp        biases      else
GPT-2 2019    learned      layer     gelu       yes         head shares the table's weights
Llama 2023    rotary       rms       swiglu     no          later ones: fewer key heads (kv_heads)
```

The class is given. Look at `__post_init__`: a setting that is misspelled, or sizes that do not divide, are
refused on the spot, and not by a stack trace from the depths of the first forward pass.
"""

# %% given="kinds"
#| exporti
KINDS = {
    "positions": ("learned", "sinusoidal", "rotary"),
    "norm": ("layer", "rms"),
    "mlp": ("gelu", "swiglu"),
}

# %% given="GPTConfig"
#| export
@dataclass(frozen=True)
class GPTConfig:
    """The sizes of a GPT and the kinds of its parts.

    context: the most tokens it sees at once. hidden: width of the mlp, 4 * dim if None.
    bias: whether linear layers have one (SwiGLU's never do). kv_heads: heads of keys and values, all if None.
    Raises ValueError for a kind that does not exist or sizes that do not fit together.

    >>> GPTConfig(50257, 1024, dim=768, heads=12, layers=12).hidden_size
    3072
    """

    vocab_size: int
    context: int
    dim: int = 128
    heads: int = 4
    layers: int = 4
    hidden: int | None = None
    dropout: float = 0.0
    positions: str = "learned"
    norm: str = "layer"
    mlp: str = "gelu"
    bias: bool = True
    tie_weights: bool = True
    kv_heads: int | None = None

    def __post_init__(self) -> None:
        for name, kinds in KINDS.items():
            value = getattr(self, name)
            if value not in kinds:
                near = get_close_matches(str(value), kinds, n=1, cutoff=0.5)
                help_ = f"Did you mean {near[0]!r}?" if near else f"Take one of {', '.join(kinds)}."
                raise ValueError(f"GPTConfig: {name}={value!r} does not exist. {help_}")
        sizes = ("vocab_size", "context", "dim", "heads", "layers", "hidden_size", "key_heads")
        for name in sizes:
            if getattr(self, name) < 1:
                raise ValueError(f"GPTConfig: {name}={getattr(self, name)} must be 1 or more.")
        if self.dim % self.heads or self.heads % self.key_heads:
            raise ValueError(
                f"GPTConfig: dim={self.dim}, heads={self.heads}, kv_heads={self.key_heads} do not divide. "
                "heads must divide dim, and kv_heads must divide heads."
            )
        if self.positions == "rotary" and self.dim // self.heads % 2:
            raise ValueError(
                f"GPTConfig: rotary positions turn pairs, and a head is {self.dim // self.heads} wide. "
                "Choose dim and heads so that dim / heads is even."
            )

    @property
    def hidden_size(self) -> int:
        """Width of the mlp's middle."""
        return 4 * self.dim if self.hidden is None else self.hidden

    @property
    def key_heads(self) -> int:
        """Heads of keys and values."""
        return self.heads if self.kv_heads is None else self.kv_heads

    @classmethod
    def llama(cls, vocab_size: int, context: int, dim: int = 128, **sizes) -> Self:
        """RMSNorm, rotary positions, SwiGLU of 8/3 the width, no biases. Source: Touvron et al. 2023.

        >>> GPTConfig.llama(32000, 2048, dim=96).hidden_size
        256
        """
        hidden = sizes.pop("hidden", None) or -(-8 * dim // 3 // 8) * 8  # up to a multiple of 8
        return cls(
            vocab_size, context, dim, hidden=hidden, positions="rotary", norm="rms", mlp="swiglu",
            bias=False, **sizes,
        )  # fmt: skip

# %% [markdown]
"""
The next cell builds a GPT from its settings. It is long and holds no surprise: a table, positions, L
blocks, a last norm, and the **head**, which turns each token's vector into one logit per word of the
vocabulary. Three methods are missing: how the weights start, how table and head share theirs, and the
forward pass. You write them next.
"""

# %% given="GPT"
#| export
class GPTBlock(Block):
    """A block of the kinds that the configuration names; `rotary` turns queries and keys, if given."""

    def __init__(self, config: GPTConfig, rotary: RotaryPositions | None) -> None:
        c, hidden = config, config.hidden_size
        attention = MultiHeadAttention(
            c.dim, c.heads, c.bias, c.dropout, positions=rotary, kv_heads=c.kv_heads
        )
        swiglu = c.mlp == "swiglu"
        mlp = SwiGLU(c.dim, hidden) if swiglu else MLP(c.dim, hidden, c.dropout, c.bias)
        super().__init__(attention, mlp, LayerNorm if c.norm == "layer" else RMSNorm, c.dropout)


class GPT(Module):
    """A decoder-only transformer: tokens (B, T) -> logits (B, T, V), each for the token after it.

    Source: Radford et al. 2019 (GPT-2); Touvron et al. 2023 (Llama).
    """

    def __init__(self, config: GPTConfig) -> None:
        self.config = c = config
        self.embedding = Embedding(c.vocab_size, c.dim)
        rotary = None
        if c.positions == "rotary":
            rotary = RotaryPositions(c.dim // c.heads, c.context)
            self.positions = None
        else:
            kind = LearnedPositions if c.positions == "learned" else SinusoidalPositions
            self.positions = kind(c.context, c.dim)
        self.dropout = Dropout(c.dropout)
        self.blocks = Sequential(*[GPTBlock(c, rotary) for _ in range(c.layers)])
        self.norm = (LayerNorm if c.norm == "layer" else RMSNorm)(c.dim)
        self.head = Linear(c.dim, c.vocab_size, bias=False)
        self._start()
        if c.tie_weights:
            self._tie()

# %% [markdown]
"""
### How the weights start

We start all matrices as GPT-2 starts most of its own, with normal numbers of spread 0.02, and all biases
with 0. One more thing: every block adds to the stream twice, so after L blocks the stream is a sum of 2 L
answers. Independent answers add up by their *variance*: the sum of 16 of variance v has variance 16 v, and
spread 4 times as large. To keep the stream from growing with depth, the layers **that write into the
stream** start smaller by that factor:

```
L = 8:    2 * 8 = 16 answers are added     spread of the sum: √16 = 4 times one answer's
          so attention's `out` and the mlp's `down` start with 0.02 / √16 = 0.005
```

`self.named_parameters()` gives names like `blocks.3.attention.out.weight`, `blocks.3.mlp.down.weight`,
`embedding.weight`, `blocks.3.norm1.weight`. Matrices have two axes, so `parameter.ndim` tells them from the
norms' weights, which stay at 1. `normal_(parameter, std=...)` fills in place.
"""

# %% exercise="GPT._start"
#| export
@method_of(GPT)
def _start(self) -> None:
    """Matrices normal with spread 0.02, those that write into the stream 0.02 / √(2L); biases 0.

    Source: Radford et al. 2019, section 2.3.
    """
    ### BEGIN SOLUTION
    for name, parameter in self.named_parameters():
        if parameter.ndim == 2:
            writes = name.endswith(("out.weight", "down.weight"))
            normal_(parameter, std=0.02 / math.sqrt(2 * self.config.layers) if writes else 0.02)
        elif name.endswith("bias"):
            parameter.data[...] = 0
    ### END SOLUTION

# %% check="GPT._start" points=5
def _spreads(config):
    """Parameter name -> spread of its numbers, after a start of all of them at 3."""
    manual_seed(6)
    model = GPT(config)
    for parameter in model.parameters():
        parameter.data[...] = 3.0
    model._start()
    return {name: (p.data.std(), p.data.mean()) for name, p in model.named_parameters()}


_config = GPTConfig(100, 64, dim=32, heads=2, layers=8, tie_weights=False)
_kinds = {str(getattr(_p.data, "dtype", type(_p.data).__name__)) for _p in GPT(_config).parameters()}
check.equal("what the parameters' data are", sorted(_kinds), ["float32"],
            why="normal_ and data[...] = 0 fill the array that is there; another array or number must not take its place")
_found = _spreads(_config)
check.true("the same manual_seed, the same start", _found == _spreads(_config),
           why="normal_ draws from the framework's generator: only so can a run be repeated")
for _name in ("embedding.weight", "positions.weight", "blocks.0.attention.query.weight", "blocks.7.mlp.up.weight",
              "head.weight"):
    check.close(f"spread of {_name}", _found[_name][0], 0.02, rtol=0.12, why="a matrix: normal numbers, std 0.02")
for _name in ("blocks.0.attention.out.weight", "blocks.7.mlp.down.weight"):
    check.close(f"spread of {_name}, 8 blocks", _found[_name][0], 0.005, rtol=0.12,
                why="it writes into the stream, one of 2 * 8 answers: 0.02 / √16")
for _name, _wanted in (("blocks.0.attention.out.bias", 0), ("blocks.7.mlp.up.bias", 0), ("norm.bias", 0),
                       ("blocks.0.norm1.weight", 3), ("norm.weight", 3)):
    check.close(f"{_name}, which was 3", _found[_name][::-1], (_wanted, 0),
                why="biases start at 0; the norms' weights are left as LayerNorm made them")
_found = _spreads(GPTConfig.llama(100, 64, dim=32, heads=2, layers=2, tie_weights=False))
check.close("spread of blocks.1.mlp.down.weight in a Llama of 2 blocks", _found["blocks.1.mlp.down.weight"][0], 0.01,
            rtol=0.12, why="0.02 / √(2 * 2): by the number of blocks of this model")

# %% [markdown]
"""
### Two uses of one table

The table turns a word's number into a vector; the head compares a vector with one row per word: both are of
shape (V, D), and both hold "what this word is like". **Weight tying** makes them the same Parameter, not
two equal ones:

```
logits = x @ W.T       W = the embedding's own weight
```

It is then counted once, stored once, updated once. Its gradient comes from both uses, and autograd adds the
two without being told, as it did for `x * 2 + x * 5` in module 05. For GPT-2 small this saves 38.6 million
parameters, nearly a quarter of the model. (Module 03's `named_parameters` names a shared Parameter once;
`state_dict` knows both names.)
"""

# %% exercise="GPT._tie"
#| export
@method_of(GPT)
def _tie(self) -> None:
    """Head and embedding use one Parameter from now on. Source: Press & Wolf 2017."""
    ### BEGIN SOLUTION
    self.head.weight = self.embedding.weight
    ### END SOLUTION

# %% check="GPT._tie" points=4
def _sizes(tie):
    manual_seed(7)
    return GPT(GPTConfig(10, 4, dim=2, heads=1, layers=1, tie_weights=tie))


_tied, _apart = _sizes(True), _sizes(False)
_one, _two = _tied.head.weight, _tied.embedding.weight
check.equal("head.weight and embedding.weight are", [type(_one).__name__, type(_two).__name__], ["Parameter"] * 2,
            why="what an optimizer finds and Linear multiplies with")
_kin = "in the same memory" if np.shares_memory(_one.data, _two.data) else "of its own memory"
_alike = "the same numbers" if np.array_equal(_one.data, _two.data) else "other numbers"
check.true("head.weight is embedding.weight", _one is _two,
           got=f"another {type(_one).__name__} of shape {_one.shape}, {_kin}, with {_alike}",
           why="one Parameter under two names: an equal copy, or one that shares memory, would be trained twice")
check.equal("parameters fewer than without tying",
            sum(_p.size for _p in _apart.parameters()) - sum(_p.size for _p in _tied.parameters()), 20,
            why="10 words * 2 numbers, counted once")
_x, _ids = Tensor(np.array([[0.5, -1.0], [2.0, 1.0]])), [3, 3]
_g, _e = np.arange(20.0).reshape(2, 10), np.array([[1.0, 2.0], [3.0, 4.0]])
_apart.embedding.weight.data[...] = _apart.head.weight.data[...] = _tied.embedding.weight.data
for _model in (_tied, _apart):
    _model.zero_grad()
    _model.head(_x).backward(_g)
    _model.embedding(_ids).backward(_e)
check.close("the shared gradient", _tied.embedding.weight.grad, _apart.embedding.weight.grad + _apart.head.weight.grad,
            why="what the head sends and what the table sends, added")

# %% [markdown]
"""
### The forward pass

All of it, in the order of the picture: the tokens' rows, positions (`self.positions(x)` gives back x with
them added; it is None when they are rotary: then attention turns queries and keys by itself), dropout, the
blocks one after the other with a causal mask, the last norm, the head. The result is logits: no softmax,
because the loss wants logits, and so does sampling.

```
tokens (B, T) -> embedding (B, T, D) -> + positions -> dropout -> blocks -> norm -> head (B, T, V)
```

The mask is for the tokens that are there, T of them, which may be fewer than `config.context`. And why a
last norm? The stream is a sum and has grown; the head should see numbers of the same size whatever the
depth.
"""

# %% exercise="GPT.forward"
#| export
@method_of(GPT)
def forward(self, tokens) -> Tensor:
    """Tokens (B, T), whole numbers -> logits (B, T, V): row t is about the token after t.

    Raises ValueError unless tokens are a batch that fits into the context.
    Cost: about 2 FLOPs per parameter and token, plus 4*T*D per block and token for attention's scores.
    """
    check_batch("GPT", tokens, self.config.context)
    ### BEGIN SOLUTION
    x = self.embedding(tokens)
    if self.positions is not None:
        x = self.positions(x)
    x, mask = self.dropout(x), causal_mask(x.shape[1])
    for block in self.blocks:
        x = block(x, mask)
    return self.head(self.norm(x))  # (B, T, D) @ (D, V) -> (B, T, V)
    ### END SOLUTION

# %% check="GPT.forward" points=6
def _gpt(*stubs, **kinds):
    """A GPT of width 6, context 8 and 6 words, whose blocks are stand-ins, and with a head of its own."""
    manual_seed(8)
    model = GPT(GPTConfig(6, 8, dim=6, heads=1, layers=2, tie_weights=False, **kinds))
    model.head.weight.data *= 50
    for place, work in enumerate(stubs):
        model.blocks[place] = _Stub(work, names=("mask",))
    return model


_model = _gpt(lambda x: x + 1.0, lambda x: x * x)
_logits = _model([[5, 0, 5], [1, 2, 3]])
_seen = _model.embedding.weight.data[[[5, 0, 5], [1, 2, 3]]] + _model.positions.weight.data[:3]
check.close("what the first block saw of tokens [5, 0, 5] and [1, 2, 3]", _model.blocks[0].calls[0]["x"], _seen,
            why="rows of the table plus the rows of positions 0, 1, 2")
check.close("the mask that the blocks got", _model.blocks[0].calls[0].get("mask"), np.tri(3, dtype=bool),
            why="causal, for the 3 tokens that are there: token t sees 0 to t")
check.close("what the second block saw", _model.blocks[1].calls[0]["x"], _seen + 1, why="the first one's result")
check.tensor("logits", _logits, _plain_norm((_seen + 1) ** 2) @ _model.head.weight.data.T, rtol=1e-3,
             why="head(norm(what the last block gave)): plain logits, 6 per token")
_model = _gpt(lambda x: x + 0.0, lambda x: x + 0.0, positions="rotary")
_model([[5, 0]])
check.close("what the first block saw with rotary positions", _model.blocks[0].calls[0]["x"],
            [_model.embedding.weight.data[[5, 0]]], why="self.positions is None: attention turns queries and keys")
_model = _gpt(lambda x: x, lambda x: x)
_model.dropout = _Stub(lambda x: x * 0)
_model([[5, 0]])
check.close("what the first block saw when dropout drops everything", _model.blocks[0].calls[0]["x"], np.zeros((1, 2, 6)),
            why="dropout comes after tokens and positions were added, before the blocks")
for _config in (GPTConfig(20, 16, dim=8, heads=2, layers=2),
                GPTConfig.llama(20, 16, dim=8, heads=4, layers=2, kv_heads=2)):
    manual_seed(9)
    _model, _ids = GPT(_config), np.random.default_rng(9).integers(0, 20, (2, 12))
    _changed = _ids.copy()
    _changed[:, 8:] = 0
    _name = f"{_config.positions}, {_config.norm}, {_config.mlp}"
    check.close(f"logits of tokens 0 to 7 when tokens 8 to 11 are others ({_name})", _model(_changed).data[:, :8],
                _model(_ids).data[:, :8], why="no token may depend on a later one")
    _loss = CrossEntropyLoss()(_model(_ids).reshape(-1, 20), (_ids.reshape(-1) + 7) % 20)
    check.close(f"loss of an untrained model ({_name})", _loss, math.log(20), rtol=0.02,
                why="with weights near 0 all 20 words are about equally likely: ln 20 = 3.0. A first loss far above "
                    "ln V is a bug")
    _loss.backward()
    check.true(f"every parameter has a gradient ({_name})", all(_p.grad is not None for _p in _model.parameters()),
               got=[_n for _n, _p in _model.named_parameters() if _p.grad is None],
               why="what takes no part in the result is never trained")

# %% [markdown]
"""
### The budget, before anything is built

How large will a model be? You should know before you allocate it. Per block, with D = 768 as in GPT-2 small:

```
attention   query, key, value, out     4 matrices D x D    4 D²      2.36 million
mlp         up, down                   2 matrices D x 4D   8 D²      4.72 million
                                                          12 D²      7.08 million, plus biases and norms
```

Around the blocks: the table V * D, learned positions T * D, the last norm, and a head V * D unless it is
tied. So `12 L D² + V D + T D` is the estimate that everybody does in their head, and the biases and norms
make it exact.

Write the exact count, from the configuration alone. What varies: `hidden_size` instead of 4 D; SwiGLU's
three matrices without biases; keys and values of width `kv`, which is D unless there are fewer `kv_heads`;
biases of the linear layers only if `bias`; LayerNorm has 2 D numbers, RMSNorm D, and there are two per
block and one at the end.
"""

# %% exercise="parameter_count"
#| export
def parameter_count(config: GPTConfig) -> int:
    """How many parameters `GPT(config)` has, a shared one counted once, without building it.

    >>> parameter_count(GPTConfig(50257, 1024, dim=768, heads=12, layers=12))
    124439808
    """
    c, d, f = config, config.dim, config.hidden_size
    kv = d // c.heads * c.key_heads
    ### BEGIN SOLUTION
    norm = 2 * d if c.norm == "layer" else d
    attention = 2 * d * d + 2 * d * kv + c.bias * (2 * d + 2 * kv)
    mlp = 3 * d * f if c.mlp == "swiglu" else 2 * d * f + c.bias * (f + d)
    positions = c.context * d if c.positions == "learned" else 0
    heads = 1 if c.tie_weights else 2
    return heads * c.vocab_size * d + positions + c.layers * (attention + mlp + 2 * norm) + norm
    ### END SOLUTION

# %% check="parameter_count" points=5
_built, _init = [], GPT.__init__
GPT.__init__ = lambda self, config: _built.append(config) or _init(self, config)
try:
    parameter_count(GPTConfig(11, 6, dim=8, heads=4, layers=3))
finally:
    GPT.__init__ = _init
check.equal("models built while counting", len(_built), 0,
            why="the largest ones do not fit into this machine: count from the numbers of the configuration")
if _built:  # a check that fails goes on when it looks for known mistakes, and Llama would be built below
    parameter_count = len
check.equal("parameters of GPT-2 small", parameter_count(GPTConfig(50257, 1024, dim=768, heads=12, layers=12)),
            124_439_808, why="the published model: 38,597,376 in the table, 786,432 positions, 12 blocks of 7,087,872, "
                             "a last norm of 1,536")
_base = GPTConfig(11, 6, dim=8, heads=4, layers=3)
_variants = {
    "GPT-2's kinds, small": {}, "hidden=20": {"hidden": 20}, "not tied": {"tie_weights": False},
    "no biases": {"bias": False}, "sinusoidal positions": {"positions": "sinusoidal"},
    "rotary positions": {"positions": "rotary"}, "RMSNorm": {"norm": "rms"}, "SwiGLU with bias=True": {"mlp": "swiglu"},
    "2 key heads of 4": {"kv_heads": 2},
}
for _name, _change in _variants.items():
    _config = GPTConfig(**{**vars(_base), **_change})
    check.equal(f"parameters with {_name}", parameter_count(_config), sum(_p.size for _p in GPT(_config).parameters()),
                why="counted in the model that was built, D = 8, V = 11, T = 6, L = 3")
_llama = GPTConfig.llama(32000, 4096, dim=4096, heads=32, layers=32, hidden=11008, tie_weights=False)
check.equal("parameters of Llama-2 7B", parameter_count(_llama), 6_738_415_616,
            why="the published model: RMSNorm, rotary, SwiGLU, head of its own")

# %% [markdown]
"""
### Sampling: temperature

The model gives logits; what is written is a choice. Always taking the likeliest word is dull, and gets
stuck in loops; drawing from the probabilities as they are now and then draws nonsense. Between the two
there are three knobs. The first is **temperature**: divide the logits by it before the softmax. Four words,
of probability `[.5 .25 .125 .125]`:

```
temperature 0.5    probabilities squared:     64 : 16 : 4 : 4          ->  [.727 .182 .045 .045]   bolder
temperature 1      as they are                 8 :  4 : 2 : 2          ->  [.5   .25  .125 .125]
temperature 2      their roots              2.83 :  2 : 1.41 : 1.41    ->  [.369 .261 .185 .185]   flatter
```

Before the softmax, not after: dividing probabilities and normalising them again changes nothing. And a
small temperature makes large numbers, so shift the largest to 0 before `exp`, as always. Work in float64:
the shares of 50,000 words must add up to 1.
"""

# %% exercise="with_temperature"
#| export
def with_temperature(logits: np.ndarray, temperature: float) -> np.ndarray:
    """softmax(logits / temperature) in float64: (V,) -> (V,). temperature: more than 0.

    >>> with_temperature(np.log([8.0, 4.0, 2.0, 2.0]), 0.5).round(3).tolist()
    [0.727, 0.182, 0.045, 0.045]
    """
    ### BEGIN SOLUTION
    scaled = logits.astype(np.float64) / temperature
    powers = np.exp(scaled - scaled.max())
    return powers / powers.sum()
    ### END SOLUTION

# %% check="with_temperature" points=4
_logits, = _read_only(np.log([8.0, 4.0, 2.0, 2.0]).astype(np.float32))
check.close("8 : 4 : 2 : 2 at temperature 1", with_temperature(_logits, 1.0), [0.5, 0.25, 0.125, 0.125],
            why="the softmax as it is")
check.close("8 : 4 : 2 : 2 at temperature 0.5", with_temperature(_logits, 0.5),
            np.array([64, 16, 4, 4]) / 88, why="below 1 differences grow: squares, 64 : 16 : 4 : 4")
check.close("8 : 4 : 2 : 2 at temperature 2", with_temperature(_logits, 2.0),
            [0.36939, 0.261198, 0.184699, 0.184699], why="above 1 they shrink: roots, 2.83 : 2 : 1.41 : 1.41", rtol=1e-4)
check.close("logits [700, 690, 699] at temperature 0.1", with_temperature(np.array([700.0, 690.0, 699.0]), 0.1),
            [0.9999546, 0, 0.0000454], rtol=1e-4, why="7,000 does not fit into exp: subtract the largest first")
_shares = with_temperature(_logits, 1.0)
check.equal("type and dtype for float32 logits", [type(_shares).__name__, str(_shares.dtype)], ["ndarray", "float64"],
            why="a plain array, and 50,000 shares rounded to 7 digits do not add up to 1")

# %% [markdown]
"""
### Top-k

Even an unlikely word is drawn at times: thousands of them with a share of 0.0001 each are together more
likely than many a good one. **Top-k** keeps the k likeliest and forgets the rest. For the cuts, the words
are sorted once, the likeliest first; so top-k is the beginning of the list, and the shares must add up to 1
again:

```
[.5 .25 .125 .125], k = 2    ->   [.5 .25] / .75   =   [.667 .333]
```
"""

# %% exercise="keep_top_k"
#| export
def keep_top_k(shares: np.ndarray, k: int) -> np.ndarray:
    """The k largest of `shares`, which are sorted from the largest, so that they add up to 1 again.

    shares: (V,) -> (min(k, V),). Source: Fan et al. 2018.

    >>> keep_top_k(np.array([0.5, 0.25, 0.125, 0.125]), 2).round(3).tolist()
    [0.667, 0.333]
    """
    ### BEGIN SOLUTION
    kept = shares[:k]
    return kept / kept.sum()
    ### END SOLUTION

# %% check="keep_top_k" points=3
_shares, = _read_only(np.array([0.5, 0.25, 0.125, 0.125]))
check.close("k = 2 of [.5 .25 .125 .125]", keep_top_k(_shares, 2), [2 / 3, 1 / 3], why="[.5 .25] / .75")
check.close("k = 1", keep_top_k(_shares, 1), [1.0], why="only the likeliest is left, and it is certain")
check.close("k = 3", keep_top_k(_shares, 3), [4 / 7, 2 / 7, 1 / 7], why="[.5 .25 .125] / .875")
check.close("k = 9 of 4 words", keep_top_k(_shares, 9), _shares, why="there are only 4: all stay")

# %% [markdown]
"""
### Top-p

A fixed k does not know how sure the model is. After "two plus two is" one word is enough; after "I saw a" a
thousand are possible. **Top-p**, or nucleus sampling, keeps as many as it takes to hold a share p of the
whole: the *smallest* set of the likeliest whose shares add up to p or more.

```
[.5 .25 .125 .125], added up   [.5 .75 .875 1.]

p = 0.7     .5 is not enough, .75 is                      2 words   [.667 .333]
p = 0.75    .75 is exactly enough                         2 words
p = 0.4     the first alone                               1 word    [1.]
```

The word that crosses p belongs to the set; without it the set could be empty. `shares.cumsum()` adds up;
how many of the sums lie *below* p is how many words come before the one that crosses.
"""

# %% exercise="keep_top_p"
#| export
def keep_top_p(shares: np.ndarray, p: float) -> np.ndarray:
    """The fewest of the largest `shares` that add up to p or more, made to add up to 1 again.

    shares: (V,), sorted from the largest. Source: Holtzman et al. 2020, section 3.1.

    >>> keep_top_p(np.array([0.5, 0.25, 0.125, 0.125]), 0.7).round(3).tolist()
    [0.667, 0.333]
    """
    ### BEGIN SOLUTION
    before = int((shares.cumsum() < p).sum())
    kept = shares[: before + 1]
    return kept / kept.sum()
    ### END SOLUTION

# %% check="keep_top_p" points=4
_shares, = _read_only(np.array([0.5, 0.25, 0.125, 0.125]))
check.close("p = 0.7 of [.5 .25 .125 .125]", keep_top_p(_shares, 0.7), [2 / 3, 1 / 3],
            why="0.5 is less than 0.7, 0.75 is not: two words, made to add up to 1")
check.close("p = 0.75", keep_top_p(_shares, 0.75), [2 / 3, 1 / 3], why="0.75 is exactly reached: no third word")
check.close("p = 0.4", keep_top_p(_shares, 0.4), [1.0], why="the first word crosses 0.4 by itself, and is kept")
check.close("p = 0.8", keep_top_p(_shares, 0.8), [4 / 7, 2 / 7, 1 / 7], why="0.75 is not enough, 0.875 is")
check.close("p = 0.9", keep_top_p(_shares, 0.9), _shares, why="0.875 is not enough: all four")
check.close("p = 1 of [.4 .3 .2 .1], whose sum in float64 may be 0.999…", keep_top_p(np.array([0.4, 0.3, 0.2, 0.1]), 1.0),
            [0.4, 0.3, 0.2, 0.1], why="all of them")

# %% [markdown]
"""
### One token, chosen

The three knobs in order: sort, temperature, top-k, top-p. `candidates` returns the token numbers that are
left, the likeliest first, and their shares. A temperature of 0 is the limit: the likeliest alone, with
share 1.

```
logits  = ln [2 8 2 4]    tokens sorted  [1 3 0 2]     (of equals, the smaller number first)
                          shares         [.5 .25 .125 .125]
top_k=3                   tokens [1 3 0]     shares [.571 .286 .143]
top_p=0.7 of these        tokens [1 3]       shares [.667 .333]         0.571 is not enough, 0.857 is
```

`np.argsort(-logits, kind="stable")` gives the sorted token numbers. None means: leave this knob out. The
refusals, and the draw itself, are given.
"""

# %% given="check_sampling"
#| exporti
def check_sampling(logits, temperature: float, top_k: int | None, top_p: float | None) -> None:
    """Raises ValueError for logits that are not one row, or knobs that leave no token to choose."""
    if not isinstance(logits, np.ndarray) or logits.ndim != 1:
        raise ValueError(
            f"sampling: a {type(logits).__name__} of shape {np.shape(logits)} is not one row of "
            "logits, an array (V,). The last token's row is model(tokens).data[0, -1]."
        )
    if not temperature >= 0:
        raise ValueError(f"temperature={temperature} must be 0 (always the likeliest) or more.")
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k={top_k} leaves no token. Keep 1 or more, or all with None.")
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"top_p={top_p} is not a share. Take one above 0 and up to 1, or None.")

# %% exercise="candidates"
#| export
def candidates(
    logits: np.ndarray,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """(tokens, shares): what may be written next, the likeliest first, and how likely each is.

    logits: (V,); tokens: whole numbers, shares: float64, both (n,), adding up to 1.
    Raises ValueError for logits that are not one row, a negative temperature, top_k below 1, top_p
    outside of (0, 1].

    >>> tokens, shares = candidates(np.log([2.0, 8.0, 2.0, 4.0]), top_k=3, top_p=0.7)
    >>> tokens.tolist(), shares.round(3).tolist()
    ([1, 3], [0.667, 0.333])
    """
    check_sampling(logits, temperature, top_k, top_p)
    ### BEGIN SOLUTION
    tokens = np.argsort(-logits, kind="stable")
    if temperature == 0:
        return tokens[:1], np.ones(1)
    shares = with_temperature(logits[tokens], temperature)
    if top_k is not None:
        shares = keep_top_k(shares, top_k)
    if top_p is not None:
        shares = keep_top_p(shares, top_p)
    return tokens[: len(shares)], shares
    ### END SOLUTION


def choose(
    logits: np.ndarray,
    generator: np.random.Generator,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> int:
    """One token drawn from the `candidates` for logits (V,)."""
    tokens, shares = candidates(logits, temperature, top_k, top_p)
    return int(generator.choice(tokens, p=shares))

# %% check="candidates" points=5
def _told(*args, **knobs):
    """Tokens and shares as lists, so that a message shows both."""
    tokens, shares = candidates(np.log(args), **knobs)
    return [int(t) for t in tokens], [round(float(s), 4) if s == s else "nan" for s in shares]


check.equal("2 : 8 : 2 : 4, all knobs left alone", _told(2, 8, 2, 4), ([1, 3, 0, 2], [0.5, 0.25, 0.125, 0.125]),
            why="the likeliest first; of the equal tokens 0 and 2 the smaller number first")
check.equal("temperature 0.5", _told(2, 8, 2, 4, temperature=0.5),
            ([1, 3, 0, 2], [0.7273, 0.1818, 0.0455, 0.0455]), why="with_temperature of the sorted logits")
check.equal("top_k=2", _told(2, 8, 2, 4, top_k=2), ([1, 3], [0.6667, 0.3333]), why="the first two, and their tokens")
check.equal("top_p=0.8", _told(2, 8, 2, 4, top_p=0.8), ([1, 3, 0], [0.5714, 0.2857, 0.1429]),
            why="0.75 is not enough, 0.875 is: three")
check.equal("top_k=2, top_p=0.6", _told(2, 8, 2, 4, top_k=2, top_p=0.6), ([1], [1.0]),
            why="top-k first: [.667 .333], of which 0.667 is enough. Of all four, 0.5 would not be")
check.equal("top_k=3, top_p=0.7", _told(2, 8, 2, 4, top_k=3, top_p=0.7), ([1, 3], [0.6667, 0.3333]),
            why="both cuts: [.571 .286 .143], of which the first two hold 0.857")
check.equal("temperature 0.5, top_p=0.7", _told(2, 8, 2, 4, temperature=0.5, top_p=0.7), ([1], [1.0]),
            why="temperature comes before the cut: 0.727 is enough")
check.equal("temperature 0", _told(2, 8, 8, 4, temperature=0), ([1], [1.0]),
            why="the likeliest alone, the first of two equals: no dividing by 0")

# %% [markdown]
"""
### Generate

Writing is a loop: look at what is there, choose one token, append it, again. The details are where
home-made loops fail:

- The model sees at most `model.config.context` tokens: hand it the **last** ones, as a batch of one.
- Its logits have a row per token. Only the **last** row is about the token to come.
- Draw from a generator **of your own**, `np.random.default_rng(seed)`, made once: the same seed gives the
  same text, and the framework's `default_generator` is not moved, so that writing a sample in the middle of
  a training run does not change the run.
- A token of `stop_tokens` ends the text. It is kept, so that the caller sees why it ended.
- Writing happens in **eval** mode, and afterwards the model is in the mode it was in before, also if
  somebody presses Ctrl-C in the middle of a long text: `try:` … `finally:`.

`@no_grad()` stands above the function already: without it every step would keep a graph that nobody walks
back. And `_prompt` turns what it is given into a list of ints, a new one, or says what is wrong with it.
"""

# %% given="prompt"
#| exporti
def _prompt(tokens: Sequence[int]) -> list[int]:
    """`tokens` (list, array or Tensor) as a new list of ints; an error if that is no text of tokens."""
    if isinstance(tokens, str):
        raise TypeError(
            "generate: the prompt is a text, and a model reads token numbers. "
            "Encode it first: tokenizer.encode(prompt)."
        )
    shape = np.shape(tokens)
    if len(shape) != 1:
        raise ValueError(
            f"generate: the prompt has shape {shape} and must be one list of token numbers. "
            "Generate for one text at a time."
        )
    if shape[0] == 0:
        raise ValueError(
            "generate: the prompt is empty, and a model goes on from what is there. "
            "Start with at least one token, for example a line break."
        )
    return [int(token) for token in np.asarray(tokens)]

# %% exercise="generate"
#| export
@no_grad()
def generate(
    model: Module,
    tokens: Sequence[int],
    max_new_tokens: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    stop_tokens: Iterable[int] = (),
    seed: int | None = None,
) -> list[int]:
    """`tokens` and what the model writes after them, up to and including the first stop token.

    model: a GPT, or anything with `config.context` that turns (1, T) tokens into (1, T, V) logits.
    Raises ValueError for an empty prompt, more than one text, or impossible knobs, TypeError for a str.
    Cost: one forward pass over up to `context` tokens per new token.

    >>> model = GPT(GPTConfig(5, 8, dim=4, heads=1, layers=1))
    >>> len(generate(model, [1, 2], max_new_tokens=3, seed=0))
    5
    """
    written = _prompt(tokens)
    ### BEGIN SOLUTION
    generator, stop = np.random.default_rng(seed), set(stop_tokens)
    was_training = model.training
    model.eval()
    try:
        for _ in range(max_new_tokens):
            seen = np.array([written[-model.config.context :]])  # (1, T)
            logits = model(seen).data[0, -1]
            written.append(choose(logits, generator, temperature, top_k, top_p))
            if written[-1] in stop:
                break
    finally:
        model.train(was_training)
    ### END SOLUTION
    return written

# %% check="generate" points=7
class _Counting(Module):
    """Ten words; the word after w is w + 1, `sure` times likelier than any other. Remembers what it saw."""

    def __init__(self, context=4, sure=50.0):
        self.config, self.sure, self.seen, self.modes = SimpleNamespace(context=context), sure, [], []

    def forward(self, tokens):
        tokens = np.asarray(tokens)
        self.seen.append(tokens.tolist())
        self.modes.append((self.training, is_grad_enabled()))
        if (tokens > 9).any():
            raise IndexError("there are only ten words")
        return Tensor(np.log(self.sure) * np.eye(10)[(tokens + 1) % 10])


_model = _Counting()
check.equal("4 tokens after [3, 4], temperature 0", generate(_model, [3, 4], 4, temperature=0, seed=1), [3, 4, 5, 6, 7, 8],
            why="the prompt, and after each token the likeliest next one: the last row of the logits")
check.equal("what the model saw, context 4", _model.seen, [[[3, 4]], [[3, 4, 5]], [[3, 4, 5, 6]], [[4, 5, 6, 7]]],
            why="a batch of one text; when it no longer fits, the last 4 tokens")
check.equal("training mode and recording during each step", set(_model.modes), {(False, False)},
            why="dropout must be off, and no graph is needed")
check.true("the model is back in train mode", _model.training, got=_model.training, why="it was training before")
_model.eval()
generate(_model, [3], 1, seed=1)
check.true("a model in eval mode stays there", not _model.training, got=_model.training,
           why="the mode as it was, not always train")
_model.train()
try:
    generate(_model, [99], 1, seed=1)
except IndexError:
    pass
check.true("the mode after a step that failed", _model.training, got=_model.training,
           why="an error or Ctrl-C must not leave the model in eval mode: try … finally")
check.equal("stop_tokens=[6] after [4]", generate(_model, [4], 8, temperature=0, seed=1, stop_tokens=[6]), [4, 5, 6],
            why="6 ends the text, and is kept so that the caller sees why it ended")
check.equal("3 tokens after [9, 4], stop_tokens=[9]", generate(_model, [9, 4], 3, temperature=0, seed=1, stop_tokens=[9]),
            [9, 4, 5, 6, 7], why="a stop token in the prompt ends nothing: only what the model writes does")
check.equal("no new tokens", generate(_model, [3], 0, seed=1), [3], why="0 tokens after the prompt")
_flat = _Counting(sure=1.0)
_texts = [generate(_flat, [0], 12, seed=_seed) for _seed in (1, 1, 2)]
check.equal("texts with seeds 1 and 1, 1 and 2: the same?", [_texts[0] == _texts[1], _texts[0] == _texts[2]], [True, False],
            why="all draws come from np.random.default_rng(seed): the same seed, the same text")
check.true("12 draws of ten equally likely words are not all the same", len(set(_texts[0][1:])) > 3,
           why="a generator made anew in every step would draw the same number each time")
_before = repr(default_generator.bit_generator.state)
generate(_flat, [0], 3, seed=1)
check.true("the framework's generator afterwards", repr(default_generator.bit_generator.state) == _before,
           why="a sample written in the middle of training must not change the training", got="moved")
check.equal("with top_k=1, whatever the seed", [generate(_Counting(sure=2.0), [0], 5, top_k=1, seed=_s) for _s in (1, 2)],
            [[0, 1, 2, 3, 4, 5]] * 2, why="only the likeliest word is left")
check.equal("with top_p=0.1, whatever the seed", generate(_Counting(sure=2.0), [0], 5, top_p=0.1, seed=1),
            [0, 1, 2, 3, 4, 5], why="the likeliest has 2/11 of the whole, which is enough for 0.1")
check.equal("with temperature=0.01, whatever the seed", generate(_Counting(sure=2.0), [0], 5, temperature=0.01, seed=1),
            [0, 1, 2, 3, 4, 5], why="2 to the power of 100 against 1")
check.equal("the types that come back", {type(_t).__name__ for _t in generate(_flat, [0], 3, seed=1)}, {"int"},
            why="a list of Python ints: what a tokenizer decodes and JSON stores")

# %% [markdown]
"""
## Use: it writes

A world of 250 sentences: five animals, five things to do, five places, one or two of each animal. "the owl
sleeps in the barn. ", "two owls sleep in the barn. ": the verb must fit the number. The model reads 120 of
them, letter by letter, in random order; the other 130 it never sees. Then it writes at three temperatures,
and we count: how many of its sentences are right, how many of the right ones are different, and how many of
these it had never seen? (About ten seconds.)
"""

# %% demo="a_small_gpt_writes"
rng = np.random.default_rng(0)
places = "in the barn|by the river|under the bridge|near the old mill|on the hill".split("|")
sentences = [f"the {animal} {verb} {place}. " if one else f"two {animal}s {verb[:-1]} {place}. "
             for animal in "owl crow frog goat hen".split() for verb in "sings sleeps hides waits eats".split()
             for place in places for one in (True, False)]
rng.shuffle(sentences)
known, right = set(sentences[:120]), set(sentences)
text = "".join(rng.choice(sentences[:120], 600))
letters = sorted(set(text))
ids = np.array([letters.index(letter) for letter in text])


def next_letter_loss(logits, targets):
    """Mean cross-entropy of logits (B, T, V) and targets (B, T)."""
    return CrossEntropyLoss()(logits.reshape(-1, logits.shape[-1]), np.ravel(targets))


def trained(config, steps, shift=1, seed=0):
    """A GPT trained on random pieces of `ids`; the targets are the same piece, `shift` letters later."""
    manual_seed(seed)
    model, draw = GPT(config), np.random.default_rng(seed)
    optimizer = AdamW(model.parameters(), lr=1e-2)
    schedule = WarmupCosine(optimizer, 30, steps)
    for step in range(steps):
        starts = draw.integers(0, len(ids) - config.context - 1, 12)
        pieces = ids[starts[:, None] + np.arange(config.context + 1)]  # (B, T + 1)
        end = pieces.shape[1] - 1
        loss = training_step(model, next_letter_loss, optimizer, pieces[:, :end], pieces[:, shift : end + shift],
                             clip_norm=1.0)
        schedule.step()
        if step % 150 == 0 or step == steps - 1:
            print(f"step {step:4}   loss {loss:.3f}")
    return model


def written(model, temperature, count=960, prompt="the "):
    """`count` letters after the prompt, as a text."""
    tokens = generate(model, [letters.index(c) for c in prompt], count, temperature, seed=5)
    return "".join(letters[token] for token in tokens)


writer = trained(GPTConfig(len(letters), 32, dim=48, heads=4, layers=2), steps=600)
for temperature in (0, 0.7, 1.5):
    lines = [f"{line}. " for line in written(writer, temperature).split(". ")[:-1]]
    good = [line for line in lines if line in right]
    print(f"\ntemperature {temperature}: {len(good)} of {len(lines)} sentences right, {len(set(good))} different, "
          f"{len(set(good) - known)} of these never seen")
    print(*(f"    {line}" for line in lines[1:6]), sep="\n")

# %% [markdown]
"""
At temperature 0 it falls into a loop, at 1.5 its spelling goes, and in between it writes sentences that are
right and that nobody showed it: it has learned how they are made, not the sentences.

Now the encoder-decoder, on a task that needs looking back and forth: reverse a row of digits. The decoder
reads a start sign and its own answer so far; the loss compares with the answer one place later. Afterwards
you see where cross-attention looked while each digit of the answer was written. (About ten seconds.)
"""

# %% demo="digits_reversed"
BEGIN, END, NONE = 10, 11, 12
rng = np.random.default_rng(0)


def rows_of_digits(count):
    """Sources (count, 7), answers (count, 9) that begin with BEGIN and end with END, and the sources' mask."""
    lengths = rng.integers(3, 8, count)
    source, answer = np.full((count, 7), NONE), np.full((count, 9), NONE)
    answer[:, 0] = BEGIN
    for row, length in enumerate(lengths):
        source[row, :length] = rng.integers(0, 10, length)
        answer[row, 1 : length + 2] = [*source[row, :length][::-1], END]
    return source, answer, padding_mask(lengths, 7)


manual_seed(0)
reverser = Transformer(13, 13, dim=32, heads=2, layers=1, max_length=16)
optimizer = AdamW(reverser.parameters(), lr=1e-2)
schedule = WarmupCosine(optimizer, 50, 400)
for step in range(400):
    source, answer, mask = rows_of_digits(32)
    optimizer.zero_grad()
    loss = next_letter_loss(reverser(source, answer[:, :-1], mask), answer[:, 1:])
    loss.backward()
    clip_grad_norm_(reverser.parameters(), 1.0)
    optimizer.step()
    schedule.step()
    if step % 100 == 0 or step == 399:
        print(f"step {step:3}   loss {loss.item():.4f}")

reverser.eval()
with no_grad():
    source, answer, mask = rows_of_digits(200)
    memory, said = reverser.encode(source, mask), np.full((200, 1), BEGIN)
    for _ in range(8):
        best = reverser.decode(said, memory, mask).argmax(axis=-1)[:, -1:]
        said = np.concatenate([said, best], axis=1)
    same = [list(a[: list(b).index(END) + 1]) == list(b[: list(b).index(END) + 1]) for a, b in zip(said, answer)]
    print(f"{sum(same)} of 200 new rows reversed without a mistake, for example")
    row = int(np.argmax(source[:, 6] != NONE))  # one with seven digits
    print(f"    {source[row]} -> {said[row, 1:8]}")
    block = reverser.decoder[0]
    x = reverser.positions(reverser.target(said[row : row + 1, :8]) * math.sqrt(32))
    x = x + block.attention(block.norm1(x), mask=causal_mask(8))
    maps = block.cross.weights_of(block.norm_cross(x), memory[row : row + 1], mask[row : row + 1])
print("\nwhere cross-attention looked (mean of the heads), one line per token written:")
print("        " + "  ".join(str(digit) for digit in source[row]))
for token, weights in zip([*map(str, said[row, 1:8]), "end"], maps.data[0].mean(axis=0)):
    print(f"{token:>5}   " + "  ".join(" .:-=+*#%@"[min(int(10 * w), 9)] for w in weights))

# %% [markdown]
"""
The diagonal from the upper right is the answer to "where is the digit that I need now?". Nobody told the
model about reversing.

## Measure: what a step needs

**Parameters.** First the estimate, `12 L D² + V D + T D`, then the exact count, for the GPT-2 family as
published, and for one that this machine builds now. Which of the three terms is the largest for each of
them?
"""

# %% demo="parameter_budgets"
family = {
    "GPT-2 small": GPTConfig(50257, 1024, dim=768, heads=12, layers=12),
    "GPT-2 medium": GPTConfig(50257, 1024, dim=1024, heads=16, layers=24),
    "GPT-2 large": GPTConfig(50257, 1024, dim=1280, heads=20, layers=36),
    "GPT-2 XL": GPTConfig(50257, 1024, dim=1600, heads=25, layers=48),
    "built here": GPTConfig(2000, 128, dim=128, heads=4, layers=4),
}
print("                   12 L D²        V D        T D       estimate          exact   bytes (float32)")
for name, c in family.items():
    terms = 12 * c.layers * c.dim**2, c.vocab_size * c.dim, c.context * c.dim
    exact = parameter_count(c)
    print(f"{name:12} {terms[0]:13,} {terms[1]:10,} {terms[2]:10,} {sum(terms):14,} {exact:14,} {4 * exact:17,}")
model = GPT(family["built here"])
print(f"counted in the model that was built: {sum(p.size for p in model.parameters()):,}, "
      f"{sum(p.data.nbytes for p in model.parameters()):,} bytes")

# %% [markdown]
"""
**Activations.** Everything that a step computes on its way forward is kept until the way back. Count what
one block keeps, in arrays of (B, T, D) numbers. A `Linear` with bias keeps two, the product and the sum
(module 07 counted that too); splitting into heads is a view and free, putting them together again is a
copy:

```
norm1                                      1        query @ key.T                1 of (B, H, T, T)
query, key, value: 2 each                  6        its softmax                  1
query / √(D / H)                           1
weights @ value                            1
heads merged, out: 1 + 2                   3
x + ...                                    1
norm2                                      1
up, GELU: (2 + 1) * 4, down: 2            14
x + ...                                    1
                                          29 of (B, T, D)                        2 of (B, H, T, T)
```

So a block keeps `29 B T D + 2 B H T²` numbers. Predict: at which T do the scores weigh as much as all the
rest? Then see whether the count is right, to the percent.
"""

# %% demo="activations_of_a_block"
def kept_by(layers, B, T, D, H):
    """Bytes that are alive after the forward pass of `layers` blocks and were not before."""
    manual_seed(0)
    blocks = [EncoderBlock(D, H) for _ in range(layers)]
    x, mask = Tensor(np.random.default_rng(0).normal(size=(B, T, D)), requires_grad=True), causal_mask(T)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for block in blocks:
        x = block(x, mask)
    kept = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    return kept, sum(p.data.nbytes for block in blocks for p in block.parameters())


print("L   B    T    D   H    parameters   predicted    measured   activations / parameters")
for L, B, T, D, H in [(1, 8, 64, 128, 4), (4, 8, 64, 128, 4), (1, 8, 256, 128, 4), (1, 2, 512, 64, 8)]:
    measured, weights = kept_by(L, B, T, D, H)
    predicted = L * 4 * (29 * B * T * D + 2 * B * H * T * T)
    print(f"{L}  {B:2}  {T:3}  {D:3}  {H:2}  {weights / 1e6:9.2f} MB {predicted / 1e6:8.2f} MB {measured / 1e6:8.2f} MB"
          f"   {measured / weights:10.1f}")

# %% [markdown]
"""
Parameters do not know how long the text is; activations do, and the scores with its square. That is why
training runs out of memory when the *context* grows, and why FlashAttention, which never stores the scores,
changed what contexts are possible.

**Time.** Per token, a block needs `8 D²` FLOPs for attention's four layers, `4 T D` for scores and average,
and `16 D²` for the mlp; the head needs `2 D V`. Twice as much on the way back. Predict the shares for the
model below, then see whether the clock agrees with the FLOPs.
"""

# %% demo="time_by_part"
B, T, D, H, V = 8, 64, 128, 4, 2000
manual_seed(0)
block, head, mask = EncoderBlock(D, H), Linear(D, V, bias=False), causal_mask(T)
x = Tensor(np.random.default_rng(0).normal(size=(B, T, D)), requires_grad=True)
parts = {
    "attention": (lambda: block.attention(x, mask=mask), 8 * D * D + 4 * T * D),
    "mlp": (lambda: block.mlp(x), 16 * D * D),
    "two norms": (lambda: block.norm2(block.norm1(x)), 2 * 10 * D),
    "head": (lambda: head(x), 2 * D * V),
}
seconds, flops = {}, {}
for name, (part, per_token) in parts.items():
    g = np.ones(part().shape, dtype=np.float32)
    rounds = []
    for _ in range(5):
        start = time.perf_counter()
        part().backward(g)
        rounds.append(time.perf_counter() - start)
    seconds[name], flops[name] = min(rounds), 3 * B * T * per_token
print("part        share of FLOPs   share of time   forward and backward   GFLOP/s")
for name in parts:
    print(f"{name:12}{flops[name] / sum(flops.values()):14.0%}{seconds[name] / sum(seconds.values()):16.0%}"
          f"{seconds[name] * 1e3:18.2f} ms   {flops[name] / seconds[name] / 1e9:10.1f}")

# %% [markdown]
"""
Matrix products run near the speed of the machine, whatever part they belong to. The norms have hardly any
FLOPs and take their time nevertheless: they move numbers and do little with them, and so do softmax, GELU
and the copies inside attention and mlp. FLOPs tell what a part *must* cost, the clock what it does cost.
Module 14 makes a tool of that, module 18 closes the gap.

## Break: one place too early

The most expensive off-by-one of language modelling. The targets are the inputs, one place later: `pieces[:,
1:]`. Forget the shift, and the model is asked to predict the token that it *sees*. Nothing crashes. The
loss falls faster than ever. Watch it, and then let both models write.
"""

# %% demo="the_forgotten_shift"
small = GPTConfig(len(letters), 32, dim=32, heads=2, layers=1)
for name, shift in (("targets = inputs", 0), ("targets one later", 1)):
    print(f"{name}:")
    model = trained(small, steps=300, shift=shift)
    print(f"    writes {written(model, 0.7, 60, prompt='the owl')!r}\n")

# %% [markdown]
"""
A loss near 0 after a hundred steps is not a triumph, it is a symptom: language has no such loss. Here every
right answer stands in the input, so the model copies it, and writing becomes repeating. The same symptom
has a second cause, a causal mask that is missing: then the answer stands one place to the right.

## Reflect

**1.** A GPT with GPT-2's vocabulary of 50,257 words has just been built; nothing is trained. About what is
its cross-entropy on any text, in nats?
"""

# %% exercise="predict.first_loss"
### BEGIN SOLUTION
first_loss = math.log(50257)
### END SOLUTION

# %% check="predict.first_loss" points=1
check.prediction("cross-entropy of an untrained GPT, V = 50,257", first_loss, "MTAuODI0OTA1MTE5NzAyMDg=", unit="nats", rel=0.02,
                 why="with small weights every word has about the same share, 1/V; what is the loss of that?")

# %% [markdown]
"""
**2.** Four words have the probabilities `[.4 .3 .2 .1]`. With temperature 0.5 and `top_k=2`, what is the
share of the first?
"""

# %% exercise="predict.share_of_the_first"
### BEGIN SOLUTION
share_of_the_first = 0.4**2 / (0.4**2 + 0.3**2)
### END SOLUTION

# %% check="predict.share_of_the_first" points=1
check.prediction("share of the first word", share_of_the_first, "MC42NA==", rel=0.005,
                 why="temperature 0.5 squares the probabilities; of the squares the first two are kept, and add up to 1 again")

# %% [markdown]
"""
**3.** In your blocks, how long must a text be for scores and softmax, `2 B H T²` numbers, to weigh as much
as the `29 B T D` of all the rest? Take GPT-2 small's D = 768 and H = 12.
"""

# %% exercise="predict.length_where_scores_win"
### BEGIN SOLUTION
length_where_scores_win = 29 * 768 / (2 * 12)
### END SOLUTION

# %% check="predict.length_where_scores_win" points=1
check.prediction("T where scores weigh as much as the rest", length_where_scores_win, "OTI4LjA=", unit="tokens", rel=0.02,
                 why="set the two equal: B and one T drop out")

# %% [markdown]
"""
**4.** GPT-2 small, 124,439,808 parameters in float32, is trained with AdamW. Without any activations, how
many gigabytes (10⁹ bytes) do weights, gradients and the optimizer's state need?
"""

# %% exercise="predict.training_gigabytes"
### BEGIN SOLUTION
training_gigabytes = 124_439_808 * 4 * 4 / 1e9
### END SOLUTION

# %% check="predict.training_gigabytes" points=1
check.prediction("weights, gradients and AdamW's state of GPT-2 small", training_gigabytes, "MS45OTEwMzY5Mjg=", unit="GB", rel=0.02,
                 why="module 06: the weight itself, its gradient, and two running averages, four bytes each")

# %% [markdown] question="pre_norm_or_post_norm" points=3
"""
**5. Open question.** The paper of 2017 wrote `x = norm(x + attention(x))`; your block writes `x = x +
attention(norm(x))`. Follow the gradient from the last block to the first in both: what does it pass
through? Why does one of them need a careful warm-up of the learning rate when there are many blocks, and
why does the other need a norm after the last block? Say what you would measure, with the first demo of this
module as a start, to find out whether your explanation is right. (You may run it.)

*Your answer, graded by a person:*
"""

# %% [markdown]
"""
## In production

PyTorch has `torch.nn.LayerNorm`, `RMSNorm` and `TransformerEncoderLayer(norm_first=True)`, whose numbers
yours equal (given GELU's tanh form), and `scaled_dot_product_attention`, which calls FlashAttention where
it can: the scores are computed piece by piece and never stored. Norms, gates and activations are fused into
the kernels beside them, because, as you measured, they only move numbers.

Large models differ from yours less than their names suggest. Llama 2 is your `GPTConfig.llama` with a head
of its own; later ones share key heads (`kv_heads`) and use another base for the rotary angles. Training
them takes 16-bit numbers, activations that are recomputed instead of kept, and parameters spread over many
machines, block by block or matrix by matrix.

Serving them is another trade. Your `generate` computes the whole text anew for every token; module 17 keeps
keys and values instead. vLLM keeps those in pages, as an operating system keeps memory, and puts new
requests into a running batch at every step, so that a GPU always writes many texts at once. Sampling there
runs on the whole batch, with more knobs: penalties for repeating, min-p, grammars that forbid tokens.

What we are not building: beam search, mixtures of experts, sliding windows, encoder-only pre-training, and
instruction tuning, which changes the data and hardly the model.

Sources: Vaswani et al. 2017; Ba et al. 2016 (LayerNorm); Zhang & Sennrich 2019 (RMSNorm); Shazeer 2020
(SwiGLU); Xiong et al. 2020 (pre-norm); Press & Wolf 2017 (tying); Radford et al. 2019 (GPT-2); Touvron et
al. 2023 (Llama); Kwon et al. 2023 (vLLM).

## When it fails

| symptom | cause | where to look |
|---|---|---|
| `are not a batch of texts` | one text instead of a batch | `[tokens]`, or `tokens[None]` of an array |
| `do not fit into a context` | a text longer than the model's context | crop to the last tokens; in `generate`, `written[-context:]` |
| `inhomogeneous shape` | texts of different lengths in one batch | pad them to one length, and mask the padding |
| `more tokens than the table has rows` | a token number that the table does not have | `vocab_size` of the configuration, and the tokenizer's |
| `does not exist` | a misspelled setting | the names in `KINDS` |
| `read-only` | something wrote into an array that others still need: `g`, x, the shares | `g = g * weight`, not `g *= weight` |
| `be broadcast together` | a mean without `keepdims`, or a mask of another length than the text | `keepdims=True`; `causal_mask(x.shape[1])` |
| `do not broadcast` | a part that changed the width, or a mask of another length | what is added must have the stream's shape (B, T, D) |
| `inner sizes` | a tensor of another width reached a Linear, or `@` stands where `*` belongs | norm, branch, add: nothing between them changes D |
| `takes no arguments` | a class was called with a tensor | the layer itself is an attribute, `self.act` |
| `'NoneType' object is not callable` | positions or cross-attention that this model does not have | `if self.positions is not None` |
| `missing 1 required positional argument` | something was called with too little: `standardize` without eps, a decoder without its memory | the call in the last line shown |
| `Sequential.forward() takes 2 positional` | a Sequential was called with a mask or a memory | loop over its blocks |
| `is not one row of` | sampling got a Tensor, or the logits of all tokens | `model(seen).data[0, -1]` |
| `object has no attribute 'shape'` | tokens may be a plain list, and their shape was asked for, by you or by positions that got them | `x.shape[1]` of the vectors; positions take the vectors, too |
| `'Tensor' object has no attribute` | a norm, an activation or an array's method was asked of a Tensor | layers are called, `self.act(x)`; an array is `.data` |
| `memoryview` | `.data` of what is an array already: rules and sampling get arrays, not Tensors | `x`, not `x.data` |
| `'GPT' object has no attribute` | the sizes are in the configuration | `self.config.layers` |
| `cannot be interpreted as an integer` | a tensor or a shape stands where one size belongs | `causal_mask(x.shape[1])`, `zeros(*shape)` |
| `has no graph` | the result is a new Tensor made of `.data`, without a history | stay with Tensor operations |
| `not supported between instances` | a knob that is None was compared | `if top_p is not None` |
| `arrays used as indices must be` | token numbers in a Tensor have become float32 | a list or an int array, `np.array([tokens])` |
| `'NoneType' object has no attribute` | a function without `return` | its last line |
| `does not support ufuncs` | NumPy met a Tensor | its array is `.data` |
| `Probabilities contain NaN` | the logits are nan: the training has exploded | the loss before; a lower learning rate, clipping |
| `probabilities do not sum to 1` | shares that were cut and not divided by their sum | `kept / kept.sum()` |
| the loss is near 0 after a few steps | the target stands in the input | targets one later than inputs; the causal mask |
| the first loss is far above ln V | weights that start too large, or logits scaled twice | `_start`; no softmax in the model |
| it writes the same words again and again | temperature 0 or near it | temperature 0.7 to 1, top_p 0.9 |
| the same text, but another result in every call | dropout is on, or no seed | `model.eval()`; `seed=` |
"""
