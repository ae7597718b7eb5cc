# %% [markdown]
"""
# 13 · Transformers

Skeleton: the exported code, to be cut into exercises.
"""

# %% given="imports"
#| default_exp nn.transformer
#| export
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

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

# %% given="layer_norm"
#| export
def _moments(x, eps):
    """x with mean 0 and variance 1 along the last axis, and 1 / √(variance + eps)."""
    centred = x - x.mean(axis=-1, keepdims=True)
    scale = 1 / np.sqrt((centred * centred).mean(axis=-1, keepdims=True) + eps)
    return centred * scale, scale


def _layer_norm(x, weight, bias, eps=1e-5):
    """Each row brought to mean 0 and variance 1, then scaled and shifted: x (..., D)."""
    return Tensor(_moments(x.data, eps)[0] * weight.data + bias.data)


def _over_rows(values):
    """(..., D) summed to (D,)."""
    return values.reshape(-1, values.shape[-1]).sum(axis=0)


def layer_norm_gradient(g, out, x, weight, bias, eps=1e-5):
    """The row's mean and variance follow x too: their parts are taken out of g. Source: Ba et al. 2016."""
    normal, scale = _moments(x, eps)
    g = g * weight
    g -= g.mean(axis=-1, keepdims=True) + normal * (g * normal).mean(axis=-1, keepdims=True)
    return g * scale


layer_norm = tracked(
    _layer_norm,
    (
        layer_norm_gradient,
        lambda g, out, x, weight, bias, eps=1e-5: _over_rows(g * _moments(x, eps)[0]),
        lambda g, out, x, weight, bias, eps=1e-5: _over_rows(g),
    ),
    "layer_norm",
)


class LayerNorm(Module):
    """Normalises each row of x (..., D) by its own mean and variance."""

    def __init__(self, dim: int, eps: float = 1e-5) -> None:
        self.dim, self.eps = dim, eps
        self.weight, self.bias = Parameter(ones(dim)), Parameter(zeros(dim))

    def forward(self, x: Tensor) -> Tensor:
        return layer_norm(x, self.weight, self.bias, eps=self.eps)

    def extra_repr(self) -> str:
        return f"{self.dim}"


def _inverse_size(x, eps):
    return 1 / np.sqrt((x * x).mean(axis=-1, keepdims=True) + eps)


def _rms_norm(x, weight, eps=1e-6):
    """Each row divided by the root of its mean square, then scaled."""
    return Tensor(x.data * _inverse_size(x.data, eps) * weight.data)


def rms_norm_gradient(g, out, x, weight, eps=1e-6):
    """As in LayerNorm, without a mean. Source: Zhang and Sennrich 2019."""
    scale = _inverse_size(x, eps)
    g, normal = g * weight, x * scale
    return (g - normal * (g * normal).mean(axis=-1, keepdims=True)) * scale


rms_norm = tracked(
    _rms_norm,
    (
        rms_norm_gradient,
        lambda g, out, x, weight, eps=1e-6: _over_rows(g * x * _inverse_size(x, eps)),
    ),
    "rms_norm",
)


class RMSNorm(Module):
    """Divides each row of x (..., D) by the root of its mean square."""

    def __init__(self, dim: int, eps: float = 1e-6) -> None:
        self.dim, self.eps = dim, eps
        self.weight = Parameter(ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        return rms_norm(x, self.weight, eps=self.eps)

    def extra_repr(self) -> str:
        return f"{self.dim}"

# %% given="mlp"
#| export
class MLP(Module):
    """Each token by itself: wider, bent by GELU, back to its width."""

    def __init__(self, dim: int, hidden: int, dropout: float = 0.0, bias: bool = True) -> None:
        self.up, self.down = Linear(dim, hidden, bias=bias), Linear(hidden, dim, bias=bias)
        self.act, self.dropout = GELU(approximate="tanh"), Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.down(self.act(self.up(x))))


class SwiGLU(Module):
    """down(SiLU(gate(x)) * up(x)), without biases. Source: Shazeer 2020."""

    def __init__(self, dim: int, hidden: int) -> None:
        self.gate, self.up = Linear(dim, hidden, bias=False), Linear(dim, hidden, bias=False)
        self.down, self.act = Linear(hidden, dim, bias=False), SiLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.act(self.gate(x)) * self.up(x))

# %% given="blocks"
#| export
class EncoderBlock(Module):
    """x + attention(norm(x)), then x + mlp(norm(x)): every token sees every other."""

    def __init__(self, dim: int, heads: int, hidden: int | None = None, dropout: float = 0.0) -> None:
        self.norm1, self.norm2 = LayerNorm(dim), LayerNorm(dim)
        self.attention = MultiHeadAttention(dim, heads, dropout=dropout)
        self.mlp = MLP(dim, hidden or 4 * dim, dropout)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, mask: np.ndarray | None = None) -> Tensor:
        x = x + self.dropout(self.attention(self.norm1(x), mask=mask))
        return x + self.mlp(self.norm2(x))


class DecoderBlock(Module):
    """A block whose tokens see only what came before; with `cross`, they also see a memory."""

    def __init__(
        self,
        dim: int,
        heads: int,
        hidden: int | None = None,
        dropout: float = 0.0,
        cross: bool = False,
    ) -> None:
        self.norm1, self.norm2 = LayerNorm(dim), LayerNorm(dim)
        self.attention = MultiHeadAttention(dim, heads, dropout=dropout)
        self.mlp = MLP(dim, hidden or 4 * dim, dropout)
        self.dropout = Dropout(dropout)
        self.cross = MultiHeadAttention(dim, heads, dropout=dropout) if cross else None
        self.norm_cross = LayerNorm(dim) if cross else None

    def forward(
        self, x: Tensor, memory: Tensor | None = None, memory_mask: np.ndarray | None = None
    ) -> Tensor:
        mask = causal_mask(x.shape[1])
        x = x + self.dropout(self.attention(self.norm1(x), mask=mask))
        if self.cross is not None:
            x = x + self.dropout(self.cross(self.norm_cross(x), memory, memory_mask))
        return x + self.mlp(self.norm2(x))

# %% given="transformer"
#| export
class Transformer(Module):
    """Encoder and decoder: reads a source text whole, writes the target from left to right.

    Source: Vaswani et al. 2017, with the norms before each part.
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
        self.dim = dim
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
        """Source tokens (B, S) -> memory (B, S, dim)."""
        x = self.dropout(self.positions(self.source(source) * math.sqrt(self.dim)))
        for block in self.encoder:
            x = block(x, mask)
        return self.norm_source(x)

    def decode(self, target, memory: Tensor, mask: np.ndarray | None = None) -> Tensor:
        """Target tokens (B, T) and memory (B, S, dim) -> logits (B, T, V)."""
        x = self.dropout(self.positions(self.target(target) * math.sqrt(self.dim)))
        for block in self.decoder:
            x = block(x, memory, mask)
        return self.head(self.norm_target(x))

    def forward(self, source, target, source_mask: np.ndarray | None = None) -> Tensor:
        return self.decode(target, self.encode(source, source_mask), source_mask)

# %% given="gpt"
#| export
@dataclass(frozen=True)
class GPTConfig:
    """The sizes and the kinds of parts of a GPT.

    positions: "learned", "sinusoidal" or "rotary"; norm: "layer" or "rms"; mlp: "gelu" or "swiglu".
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

    @classmethod
    def llama(cls, vocab_size: int, context: int, dim: int = 128, **sizes) -> "GPTConfig":
        """RMSNorm, rotary positions, SwiGLU of 8/3 the width, no biases. Source: Touvron et al. 2023."""
        hidden = sizes.pop("hidden", None) or -(-8 * dim // 3 // 8) * 8
        return cls(
            vocab_size, context, dim, hidden=hidden, positions="rotary", norm="rms", mlp="swiglu",
            bias=False, **sizes,
        )  # fmt: skip


class GPTBlock(Module):
    """x + attention(norm(x)), then x + mlp(norm(x)), of the kinds that the configuration names."""

    def __init__(self, config: GPTConfig, rotary: RotaryPositions | None) -> None:
        c, hidden = config, config.hidden or 4 * config.dim
        norm = LayerNorm if c.norm == "layer" else RMSNorm
        self.norm1, self.norm2 = norm(c.dim), norm(c.dim)
        self.attention = MultiHeadAttention(
            c.dim, c.heads, c.bias, c.dropout, positions=rotary, kv_heads=c.kv_heads
        )
        swiglu = c.mlp == "swiglu"
        self.mlp = SwiGLU(c.dim, hidden) if swiglu else MLP(c.dim, hidden, c.dropout, c.bias)
        self.dropout = Dropout(c.dropout)

    def forward(self, x: Tensor, mask: np.ndarray | None = None) -> Tensor:
        x = x + self.dropout(self.attention(self.norm1(x), mask=mask))
        return x + self.mlp(self.norm2(x))


class GPT(Module):
    """A decoder-only transformer: tokens (B, T) -> logits (B, T, V) for each next token."""

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

    def _start(self) -> None:
        """Normal weights of 0.02, smaller where a block adds to the stream. Source: GPT-2."""
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                adds = name.endswith(("out.weight", "down.weight"))
                normal_(parameter, std=0.02 / math.sqrt(2 * self.config.layers) if adds else 0.02)
            elif name.endswith("bias"):
                parameter.data[...] = 0
        if self.config.tie_weights:
            self.head.weight = self.embedding.weight

    def forward(self, tokens) -> Tensor:
        x = self.embedding(tokens)  # (B, T) -> (B, T, D)
        if self.positions is not None:
            x = self.positions(x)
        x, mask = self.dropout(x), causal_mask(x.shape[1])
        for block in self.blocks:
            x = block(x, mask)
        return self.head(self.norm(x))  # (B, T, D) @ (D, V) -> (B, T, V)

# %% given="generate"
#| export
def choose(
    logits: np.ndarray,
    generator: np.random.Generator,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> int:
    """One token drawn from softmax(logits / temperature), logits (V,); temperature 0: the largest.

    top_k keeps the k largest, top_p the smallest set of the most likely that holds p of the whole.
    Source: Fan et al. 2018 (top-k), Holtzman et al. 2020 (top-p).
    """
    if temperature == 0:
        return int(logits.argmax())
    order = np.argsort(-logits, kind="stable")[:top_k]
    scaled = logits[order].astype(np.float64) / temperature
    share = np.exp(scaled - scaled[0])
    share /= share.sum()
    if top_p is not None:
        kept = int(np.searchsorted(share.cumsum(), top_p)) + 1
        order, share = order[:kept], share[:kept] / share[:kept].sum()
    return int(generator.choice(order, p=share))


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
    """`tokens` and what the model writes after them, up to a stop token, which is included.

    The model sees the last `context` tokens. Cost: one forward pass per new token.
    """
    generator, stop, written = np.random.default_rng(seed), set(stop_tokens), list(tokens)
    was_training = model.training
    model.eval()
    for _ in range(max_new_tokens):
        seen = np.array([written[-model.config.context :]])
        logits = model(seen).data[0, -1]
        written.append(choose(logits, generator, temperature, top_k, top_p))
        if written[-1] in stop:
            break
    model.train(was_training)
    return written
