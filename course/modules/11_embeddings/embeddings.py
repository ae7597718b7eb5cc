# %% [markdown]
"""
# 11 · Embeddings

Skeleton: the exported code, to be cut into exercises.
"""

# %% given="imports"
#| default_exp nn.embedding
#| export
import numpy as np

from tinytorch.core.autograd import tracked
from tinytorch.core.layers import Module, Parameter, normal_
from tinytorch.core.tensor import Tensor, zeros

# %% given="embedding"
#| export
def token_ids(indices, count: int) -> np.ndarray:
    """`indices` (Tensor, array, list; any shape) as an integer array, each from 0 to count - 1.

    Raises IndexError naming the index and its place, ValueError for numbers that are not whole.
    """
    values = np.asarray(indices.data if isinstance(indices, Tensor) else indices)
    ids = values.astype(np.int64)
    if values.dtype.kind not in "iu" and (ids != values).any():
        raise ValueError("embedding: indices must be whole numbers. Encode the text first.")
    wrong = (ids < 0) | (ids >= count)
    if wrong.any():
        place = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise IndexError(
            f"embedding: index {ids[place]} at {place} is outside 0..{count - 1}. "
            "Does the tokenizer have more tokens than the table has rows?"
        )
    return ids


def _embedding(weight, indices):
    """Rows of `weight` (V, D) picked by `indices` (...) of integers: (..., D)."""
    return Tensor(weight.data[indices])


def embedding_gradient(g, out, weight, indices):
    """Every row gets the sum of the gradients of all places that picked it."""
    gradient = np.zeros_like(weight)
    np.add.at(gradient, indices, g)
    return gradient


embedding = tracked(_embedding, (embedding_gradient, None), "embedding")


class Embedding(Module):
    """A table with one learned vector per token: weight (V, D), from a standard normal."""

    def __init__(self, num_embeddings: int, embedding_dim: int) -> None:
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.weight = Parameter(zeros(num_embeddings, embedding_dim))
        normal_(self.weight)

    def forward(self, indices) -> Tensor:
        return embedding(self.weight, token_ids(indices, self.num_embeddings))

    def extra_repr(self) -> str:
        return f"{self.num_embeddings}, {self.embedding_dim}"

# %% given="positions"
#| export
def sinusoidal_positions(length: int, dim: int, base: float = 10000.0) -> np.ndarray:
    """Array (T, D): sin in the even columns, cos in the odd, slower from left to right.

    Source: Vaswani et al. 2017, section 3.5.
    """
    place = np.arange(length)[:, None]
    angle = place / base ** (np.arange(0, dim, 2) / dim)  # (T, 1) / (D/2,) -> (T, D/2)
    table = np.empty((length, dim))
    table[:, 0::2], table[:, 1::2] = np.sin(angle), np.cos(angle[:, : dim // 2])
    return table


def window(length: int, start: int, count: int) -> slice:
    """Positions start to start + count. Raises ValueError where the table of `length` ends."""
    if start + count > length:
        raise ValueError(
            f"positions {start} to {start + count - 1} asked of a table of {length}. "
            "Shorten the text, or build the model with a longer context."
        )
    return slice(start, start + count)


class SinusoidalPositions(Module):
    """Adds fixed waves to x (B, T, D): nothing to learn. `start`: position of x's first token."""

    def __init__(self, max_length: int, dim: int) -> None:
        self.max_length = max_length
        self.table = Tensor(sinusoidal_positions(max_length, dim))

    def forward(self, x: Tensor, start: int = 0) -> Tensor:
        return x + self.table[window(self.max_length, start, x.shape[-2])]


class LearnedPositions(Module):
    """Adds a learned vector per position to x (B, T, D)."""

    def __init__(self, max_length: int, dim: int) -> None:
        self.max_length = max_length
        self.weight = Parameter(zeros(max_length, dim))
        normal_(self.weight, std=0.02)

    def forward(self, x: Tensor, start: int = 0) -> Tensor:
        return x + self.weight[window(self.max_length, start, x.shape[-2])]

# %% given="rotary"
#| export
def _turned(x: np.ndarray, cos: np.ndarray, sin: np.ndarray) -> np.ndarray:
    """Each pair (x[i], x[i + D/2]) turned by its angle; cos, sin (T, D/2), x (..., T, D)."""
    half = x.shape[-1] // 2
    a, b = x[..., :half], x[..., half:]
    return np.concatenate([a * cos - b * sin, a * sin + b * cos], axis=-1)


rotary = tracked(
    lambda x, cos, sin: Tensor(_turned(x.data, cos, sin)),
    (lambda g, out, x, cos, sin: _turned(g, cos, -sin), None, None),
    "rotary",
)


class RotaryPositions(Module):
    """Turns queries and keys (B, H, T, D) by angles that grow with the position.

    So a score depends on the distance of two tokens, not on where they stand.
    Source: Su et al. 2021 (RoFormer), section 3.4; pairs (i, i + D/2) as in Llama.
    """

    def __init__(self, dim: int, max_length: int, base: float = 10000.0) -> None:
        if dim % 2:
            raise ValueError(f"rotary positions turn pairs: dim must be even, got {dim}.")
        self.dim, self.max_length = dim, max_length
        self.angles = np.arange(max_length)[:, None] / base ** (np.arange(0, dim, 2) / dim)

    def forward(self, x: Tensor, start: int = 0) -> Tensor:
        angles = self.angles[window(self.max_length, start, x.shape[-2])]
        return rotary(x, np.cos(angles).astype(Tensor.dtype), np.sin(angles).astype(Tensor.dtype))
