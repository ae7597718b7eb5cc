# %% [markdown]
"""
# 12 · Attention

Skeleton: the exported code, to be cut into exercises.
"""

# %% given="imports"
#| default_exp nn.attention
#| export
import math
from collections.abc import Sequence

import numpy as np

from tinytorch.core.autograd import tracked
from tinytorch.core.layers import Dropout, Linear, Module
from tinytorch.core.tensor import Tensor
from tinytorch.nn.embedding import RotaryPositions

# %% given="masks"
#| export
def causal_mask(length: int) -> np.ndarray:
    """(T, T) of bool: row t may look at columns 0 to t."""
    return np.tril(np.ones((length, length), dtype=bool))


def padding_mask(lengths: Sequence[int], length: int) -> np.ndarray:
    """(B, 1, 1, S) of bool: the first lengths[b] of S keys of text b are real."""
    return (np.arange(length) < np.asarray(lengths)[:, None])[:, None, None, :]


def _masked_softmax(scores, mask=None):
    """Softmax along the last axis over the places where `mask` is True; the others get 0.

    scores (..., T, S), mask bool, broadcastable to them, or None. A row without any True is all 0.
    """
    x = scores.data
    if mask is None:
        powers = np.exp(x - x.max(axis=-1, keepdims=True))
        return Tensor(powers / powers.sum(axis=-1, keepdims=True))
    x = np.where(mask, x, -np.inf)
    top = x.max(axis=-1, keepdims=True)
    powers = np.exp(x - np.where(np.isfinite(top), top, 0))
    total = powers.sum(axis=-1, keepdims=True)
    return Tensor(powers / np.where(total == 0, 1, total))


def masked_softmax_gradient(g, out, scores, mask=None):
    """out * (g - the average of g weighted by out); where out is 0 nothing comes back."""
    return out * (g - (g * out).sum(axis=-1, keepdims=True))


masked_softmax = tracked(_masked_softmax, (masked_softmax_gradient, None), "masked_softmax")

# %% given="scaled_dot_product"
#| export
def attention_weights(query: Tensor, key: Tensor, mask: np.ndarray | None = None) -> Tensor:
    """How much each query takes of each key: softmax(q @ k.T / √D), (..., T, S).

    query (..., T, D), key (..., S, D); mask True where a query may look.
    Cost: 2*T*S*D FLOPs and T*S numbers per head.
    """
    scaled = query * (1 / math.sqrt(query.shape[-1]))  # T * D numbers, where the scores are T * S
    return masked_softmax(scaled @ key.transpose(-2, -1), mask)  # (..., T, D) @ (..., D, S)


def scaled_dot_product_attention(
    query: Tensor, key: Tensor, value: Tensor, mask: np.ndarray | None = None
) -> Tensor:
    """Average of the values, weighted by how well each key answers the query: (..., T, D).

    Source: Vaswani et al. 2017, section 3.2.1.
    """
    return attention_weights(query, key, mask) @ value  # (..., T, S) @ (..., S, D) -> (..., T, D)

# %% given="multi_head"
#| export
class MultiHeadAttention(Module):
    """Attention in `heads` parts of the width, each with its own queries, keys and values.

    kv_heads: fewer heads for keys and values, each shared by heads // kv_heads query heads.
    positions: RotaryPositions of the head's width, applied to queries and keys.
    Source: Vaswani et al. 2017, section 3.2.2; Ainslie et al. 2023 for shared heads.
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
        kv_heads = kv_heads or heads
        if dim % heads or heads % kv_heads:
            raise ValueError(
                f"attention: dim {dim} with {heads} heads and {kv_heads} key heads: "
                "heads must divide dim, and kv_heads must divide heads."
            )
        self.dim, self.heads, self.kv_heads = dim, heads, kv_heads
        width = dim // heads * kv_heads
        self.query = Linear(dim, dim, bias=bias)
        self.key = Linear(dim, width, bias=bias)
        self.value = Linear(dim, width, bias=bias)
        self.out = Linear(dim, dim, bias=bias)
        self.dropout = Dropout(dropout)
        self.positions = positions

    def split(self, x: Tensor, heads: int) -> Tensor:
        """(B, T, H*D) -> (B, H, T, D)"""
        b, t, width = x.shape
        return x.reshape(b, t, heads, width // heads).permute(0, 2, 1, 3)

    def merge(self, x: Tensor) -> Tensor:
        """(B, H, T, D) -> (B, T, H*D)"""
        b, h, t, d = x.shape
        return x.permute(0, 2, 1, 3).reshape(b, t, h * d)

    def project(self, x: Tensor, context: Tensor, start: int = 0) -> tuple[Tensor, Tensor, Tensor]:
        """Queries of x and keys and values of context, per head: (B, H, T, D), (B, H, S, D) twice."""
        query = self.split(self.query(x), self.heads)
        key = self.split(self.key(context), self.kv_heads)
        value = self.split(self.value(context), self.kv_heads)
        if self.positions is not None:
            query, key = self.positions(query, start), self.positions(key, start)
        return query, self.shared(key), self.shared(value)

    def shared(self, x: Tensor) -> Tensor:
        """(B, kv_heads, S, D) -> (B, heads, S, D): each head used by its group of queries."""
        group = self.heads // self.kv_heads
        if group == 1:
            return x
        return x[:, np.repeat(np.arange(self.kv_heads), group)]

    def forward(
        self,
        x: Tensor,
        context: Tensor | None = None,
        mask: np.ndarray | None = None,
        start: int = 0,
    ) -> Tensor:
        """x (B, T, dim) looks at itself, or at `context` (B, S, dim): (B, T, dim)."""
        query, key, value = self.project(x, x if context is None else context, start)
        weights = self.dropout(attention_weights(query, key, mask))
        return self.out(self.merge(weights @ value))

    def weights_of(
        self, x: Tensor, context: Tensor | None = None, mask: np.ndarray | None = None
    ) -> Tensor:
        """The attention maps alone, (B, H, T, S), to be looked at."""
        query, key, _ = self.project(x, x if context is None else context)
        return attention_weights(query, key, mask)

    def extra_repr(self) -> str:
        return f"{self.dim}, heads={self.heads}, kv_heads={self.kv_heads}"
