"""Module 12 against torch: scaled_dot_product_attention with every mask, and the layer.

Masks are bool in both, True = may look; only nn.MultiheadAttention turns them around.
"""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tinytorch.core.tensor import Tensor, manual_seed
from tinytorch.nn.attention import (
    MultiHeadAttention,
    attention_weights,
    causal_mask,
    masked_softmax,
    padding_mask,
    scaled_dot_product_attention,
)
from tinytorch.nn.embedding import RotaryPositions

from tests.oracles import OURS, Case, array, assert_close, compare

B, H, T, D = 2, 3, 5, 4
RANDOM = np.random.default_rng(1)
MASKS = {
    "none": None,
    "causal": causal_mask(T),
    "padding": padding_mask([T, 2], T),
    "causal and padding": causal_mask(T) & padding_mask([3, T], T),
    "a text of length 0": causal_mask(T) & padding_mask([0, 4], T),
    "single rows blind": np.arange(T)[:, None] != 2,
    "all blind": np.zeros((T, T), bool),
    "per head": RANDOM.random((1, H, T, T)) < 0.6,
    "per text, head and query": RANDOM.random((B, H, T, T)) < 0.4,
    "one for all queries": np.array([[True, False, True, True, False]]),
}
SHAPES = {
    "T = S": ((B, H, T, D), (B, H, T, D), (B, H, T, D)),
    "narrow values": ((B, H, T, D), (B, H, T, D), (B, H, T, 2)),
    "no heads": ((T, D), (T, D), (T, D)),
}


def attend(mask):
    """Attention on either library."""

    def run(lib, query, key, value):
        if lib is OURS:
            return scaled_dot_product_attention(query, key, value, mask)
        mine = None if mask is None else torch.tensor(mask)
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mine)

    return run


def softmax(mask):
    """Softmax over the visible places, by masked_fill on torch's side; no row is blind."""

    def run(lib, scores):
        if lib is OURS:
            return masked_softmax(scores, mask)
        return torch.softmax(scores.masked_fill(~torch.tensor(mask), -torch.inf), dim=-1)

    return run


CASES = [
    Case(f"attention, {text}, mask {name}", attend(mask), shapes)
    for text, shapes in SHAPES.items()
    for name, mask in MASKS.items()
    if text == "T = S" or mask is None or mask.ndim == 2
] + [
    Case("attention, 2 queries, 7 keys", attend(None), ((B, H, 2, D), (B, H, 7, D), (B, H, 7, D))),
    Case(
        "attention, 2 queries, 7 keys, padding",
        attend(padding_mask([7, 3], 7)),
        ((B, H, 2, D), (B, H, 7, D), (B, H, 7, D)),
    ),
    Case("attention, one token", attend(causal_mask(1)), ((1, 1, 1, 1),) * 3),
    Case("attention, one query", attend(None), ((B, 1, D), (B, 9, D), (B, 9, D))),
    Case("attention, width 64", attend(causal_mask(16)), ((1, 2, 16, 64),) * 3),
    Case(
        "attention, scores of hundreds",
        attend(causal_mask(4)),
        ((1, 4, 4), (1, 4, 4), (1, 4, 2)),
        "large",
    ),
    Case(
        "attention of x on itself",
        lambda lib, x: attend(causal_mask(T))(lib, x, x, x),
        ((B, T, D),),
    ),
    Case("softmax, causal", softmax(causal_mask(T)), ((B, H, T, T),)),
    Case("softmax, padding", softmax(padding_mask([T, 1], T)), ((B, H, T, T),)),
    Case("softmax, ±1000", softmax(causal_mask(T)), ((3, T, T),), "large"),
    Case(
        "softmax, a hidden 1e30",
        softmax(np.array([True, True, False])),
        (array([[0.0, 1.0, 1e30], [-1e4, -1e4, 0.0]]),),
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_attention_and_its_gradients_equal_torch(case):
    compare(case)


def test_a_blind_row_gives_zeros_here_and_there():
    mask = MASKS["single rows blind"]
    q, k, v = (np.random.default_rng(s).standard_normal((T, D)).astype("f4") for s in (1, 2, 3))
    ours = scaled_dot_product_attention(Tensor(q), Tensor(k), Tensor(v), mask).data
    theirs = F.scaled_dot_product_attention(
        *(torch.tensor(a) for a in (q, k, v)), attn_mask=torch.tensor(mask)
    ).numpy()
    assert (ours[2] == 0).all() and (theirs[2] == 0).all()


# The layer ---------------------------------------------------------------------------------------


def both_layers(dim, heads, bias=True):
    """Our layer and torch's with the same weights, theirs packed in one matrix."""
    manual_seed(dim)
    ours = MultiHeadAttention(dim, heads, bias=bias)
    theirs = torch.nn.MultiheadAttention(dim, heads, bias=bias, batch_first=True)
    parts = [ours.query, ours.key, ours.value]
    with torch.no_grad():
        packed = np.concatenate([p.weight.data for p in parts])
        theirs.in_proj_weight.copy_(torch.from_numpy(packed))
        theirs.out_proj.weight.copy_(torch.from_numpy(np.array(ours.out.weight.data)))
        if bias:
            packed = np.concatenate([p.bias.data for p in parts])
            theirs.in_proj_bias.copy_(torch.from_numpy(packed))
            theirs.out_proj.bias.copy_(torch.from_numpy(ours.out.bias.data))
    return ours, theirs


def compare_layers(ours, theirs, x, context, call_ours, call_theirs):
    """Values, the attention maps, and the gradients of inputs and parameters."""
    mine = [Tensor(a.copy(), requires_grad=True) for a in (x, context)]
    its = [torch.tensor(a, requires_grad=True) for a in (x, context)]
    with np.errstate(over="raise", divide="raise", invalid="raise"):
        out = call_ours(*mine)
        wanted = call_theirs(*its)
        assert_close("value", out.data, wanted.detach().numpy(), rtol=1e-4, atol=1e-5)
        g = np.random.default_rng(7).standard_normal(out.shape).astype(np.float32)
        out.backward(g)
    wanted.backward(torch.from_numpy(g))
    for name, a, b in zip(("x", "context"), mine, its, strict=True):
        assert (a.grad is None) == (b.grad is None)
        if a.grad is not None:
            assert_close(f"gradient of {name}", a.grad, b.grad.numpy(), rtol=1e-4, atol=2e-5)
    for name, a, b in parameters(ours, theirs):
        assert_close(f"gradient of {name}", np.array(a), b.numpy(), rtol=1e-4, atol=2e-5)


def parameters(ours, theirs):
    """(name, our gradient, torch's), the packed matrix cut into three."""
    if isinstance(theirs, dict):
        for name, parameter in ours.named_parameters():
            yield name, parameter.grad, theirs[name].grad
        return
    kinds = ["weight"] if ours.out.bias is None else ["weight", "bias"]
    for kind in kinds:
        yield f"out.{kind}", getattr(ours.out, kind).grad, getattr(theirs.out_proj, kind).grad
        pieces = getattr(theirs, f"in_proj_{kind}").grad.chunk(3)
        for name, piece in zip(("query", "key", "value"), pieces, strict=True):
            yield f"{name}.{kind}", getattr(getattr(ours, name), kind).grad, piece


def draw(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("dim, heads", [(4, 1), (8, 2), (12, 4), (64, 8)])
@pytest.mark.parametrize("bias", [True, False])
def test_self_attention_equals_torch(dim, heads, bias):
    ours, theirs = both_layers(dim, heads, bias)
    x = draw(3, 6, dim)
    compare_layers(
        ours,
        theirs,
        x,
        x,
        lambda x, _: ours(x),
        lambda x, _: theirs(x, x, x, need_weights=False)[0],
    )


@pytest.mark.parametrize("lengths", [None, [6, 2, 4]])
@pytest.mark.parametrize("causal", [True, False])
def test_masked_self_attention_equals_torch(lengths, causal):
    ours, theirs = both_layers(8, 2)
    x = draw(3, 6, 8, seed=1)
    mask, options = np.ones((6, 6), bool), {}
    if causal:
        mask, options = causal_mask(6), {"attn_mask": torch.tensor(~causal_mask(6))}
    if lengths:
        padding = padding_mask(lengths, 6)
        mask = mask & padding
        options["key_padding_mask"] = torch.tensor(~padding[:, 0, 0])  # True = ignore
    compare_layers(
        ours,
        theirs,
        x,
        x,
        lambda x, _: ours(x, mask=mask),
        lambda x, _: theirs(x, x, x, need_weights=False, **options)[0],
    )


@pytest.mark.parametrize("t, s", [(1, 7), (4, 7), (7, 4), (5, 5)])
@pytest.mark.parametrize("padded", [True, False])
def test_cross_attention_equals_torch(t, s, padded):
    ours, theirs = both_layers(8, 4)
    x, context = draw(2, t, 8, seed=2), draw(2, s, 8, seed=3)
    mask = padding_mask([s, 2], s) if padded else None
    ignore = torch.tensor(~mask[:, 0, 0]) if padded else None
    compare_layers(
        ours,
        theirs,
        x,
        context,
        lambda x, c: ours(x, c, mask),
        lambda x, c: theirs(x, c, c, key_padding_mask=ignore, need_weights=False)[0],
    )


def test_attention_maps_equal_torch():
    ours, theirs = both_layers(8, 2)
    x, context = draw(2, 4, 8, seed=4), draw(2, 6, 8, seed=5)
    mask = padding_mask([6, 3], 6)
    maps = ours.weights_of(Tensor(x), Tensor(context), mask)
    _, wanted = theirs(
        torch.tensor(x),
        torch.tensor(context),
        torch.tensor(context),
        key_padding_mask=torch.tensor(~mask[:, 0, 0]),
        average_attn_weights=False,
    )
    assert_close("maps", maps.data, wanted.detach().numpy(), rtol=1e-4)


# Shared heads and rotary positions: torch has functions for them, not a layer --------------------


def torch_turned(x, start, base=10000.0):
    """Pairs (i, i + D/2) as complex numbers, each turned by its angle."""
    half = x.shape[-1] // 2
    place = torch.arange(start, start + x.shape[-2], dtype=torch.float64)[:, None]
    angle = place * base ** (-torch.arange(half, dtype=torch.float64) / half)
    turn = torch.polar(torch.ones_like(angle), angle).to(torch.complex64)
    turned = torch.complex(x[..., :half], x[..., half:]) * turn
    return torch.cat([turned.real, turned.imag], dim=-1)


def torch_layer(ours, weights, mask=None, rotary=False, start=0):
    """The layer from torch's functions, keys and values shared by enable_gqa."""

    def heads_of(x, name, heads):
        flat = F.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])
        return flat.unflatten(-1, (heads, -1)).transpose(1, 2)

    def run(x, context):
        query = heads_of(x, "query", ours.heads)
        key, value = (heads_of(context, n, ours.kv_heads) for n in ("key", "value"))
        if rotary:
            query, key = torch_turned(query, start), torch_turned(key, start)
        mine = None if mask is None else torch.tensor(mask)
        found = F.scaled_dot_product_attention(query, key, value, attn_mask=mine, enable_gqa=True)
        flat = found.transpose(1, 2).flatten(2)
        return F.linear(flat, weights["out.weight"], weights["out.bias"])

    return run


@pytest.mark.parametrize("heads, kv_heads", [(4, 4), (4, 2), (4, 1), (6, 3)])
@pytest.mark.parametrize("rotary, start", [(False, 0), (True, 0), (True, 11)])
@pytest.mark.parametrize("masked", [True, False])
def test_shared_heads_and_rotary_positions_equal_torch(heads, kv_heads, rotary, start, masked):
    manual_seed(heads + kv_heads)
    dim = 4 * heads
    positions = RotaryPositions(4, 32) if rotary else None
    ours = MultiHeadAttention(dim, heads, positions=positions, kv_heads=kv_heads)
    weights = {
        name: torch.tensor(np.array(p.data), requires_grad=True)
        for name, p in ours.named_parameters()
    }
    x = draw(2, 7, dim, seed=6)
    mask = causal_mask(7) & padding_mask([7, 4], 7) if masked else None
    theirs = torch_layer(ours, weights, mask, rotary, start)
    compare_layers(
        ours,
        weights,
        x,
        x,
        lambda x, _: ours(x, mask=mask, start=start),
        lambda x, _: theirs(x, x),
    )


@pytest.mark.parametrize("start", [0, 5])
def test_scores_of_rotary_positions_equal_torch(start):
    positions = RotaryPositions(8, 32)
    q, k = draw(1, 2, 6, 8, seed=7), draw(1, 2, 6, 8, seed=8)
    ours = attention_weights(positions(Tensor(q), start), positions(Tensor(k), start))
    turned = [torch_turned(torch.tensor(a), start) for a in (q, k)]
    wanted = torch.softmax(turned[0] @ turned[1].transpose(-2, -1) / 8**0.5, dim=-1)
    assert_close("weights", ours.data, wanted.numpy(), rtol=1e-4)
