"""Hidden variants of module 12: other seeds and shapes, sums written out in NumPy as the oracle."""

import warnings

import numpy as np
import pytest

from tinytorch.core.autograd import check_grads, no_grad, topological_sort
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


def random(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def by_definition(scores, mask=True):
    """Softmax over the visible places of every row, one row at a time, in float64."""
    scores = np.asarray(scores, dtype=np.float64)
    mask, out = np.broadcast_to(mask, scores.shape), np.zeros(scores.shape)
    for place in np.ndindex(scores.shape[:-1]):
        seen = mask[place]
        if seen.any():
            powers = np.exp(scores[place][seen] - scores[place][seen].max())
            out[place][seen] = powers / powers.sum()
    return out


def by_loops(query, key, value, mask=True):
    """Attention for arrays (B, H, T, D): a sum per text, head and query."""
    b, h, t, d = query.shape
    scores = np.zeros((b, h, t, key.shape[2]))
    for i, j, n, m in np.ndindex(scores.shape):
        scores[i, j, n, m] = float(query[i, j, n].astype(float) @ key[i, j, m]) / d**0.5
    weights = by_definition(scores, mask)
    out = np.zeros((b, h, t, value.shape[3]))
    for i, j, n, m in np.ndindex(scores.shape):
        out[i, j, n] += weights[i, j, n, m] * value[i, j, m]
    return out


def turned(parts, start):
    """Pairs (i, i + D/2) of (B, H, T, D) as complex numbers, turned by position * base^(-2i/D)."""
    half = parts.shape[-1] // 2
    pairs = parts[..., :half] + 1j * parts[..., half:]
    place = start + np.arange(parts.shape[-2])[:, None]
    pairs = pairs * np.exp(1j * place * 10000.0 ** (-np.arange(half) / half))
    return np.concatenate([pairs.real, pairs.imag], axis=-1)


def layer_by_loops(layer, x, context, mask=True, rotary=False, start=0):
    """MultiHeadAttention head by head, with slices of the projections."""
    made = []
    for name, source in (("query", x), ("key", context), ("value", context)):
        linear = getattr(layer, name)
        flat = source.astype(float) @ linear.weight.data.astype(float).T
        if linear.bias is not None:
            flat = flat + linear.bias.data
        width = layer.dim // layer.heads
        parts = [flat[..., i : i + width] for i in range(0, flat.shape[-1], width)]
        made.append(np.stack(parts, axis=1))
    query, key, value = made
    if rotary:
        query, key = turned(query, start), turned(key, start)
    group = query.shape[1] // key.shape[1]
    owner = [head // group for head in range(layer.heads)]
    found = by_loops(query, key[:, owner], value[:, owner], mask)
    flat = np.concatenate([found[:, head] for head in range(layer.heads)], axis=-1)
    out = flat @ layer.out.weight.data.astype(float).T
    return out if layer.out.bias is None else out + layer.out.bias.data


def assert_close(tensor, wanted, atol=2e-5):
    assert isinstance(tensor, Tensor) and tensor.data.dtype == np.float32
    assert tensor.shape == wanted.shape
    np.testing.assert_allclose(tensor.data, wanted, rtol=1e-4, atol=atol)


# masks


@pytest.mark.parametrize("length", [1, 2, 7, 33])
def test_causal_mask_lets_row_t_see_t_plus_one_columns(length):
    mask = causal_mask(length)
    assert mask.dtype == bool and mask.shape == (length, length)
    for t in range(length):
        assert mask[t].tolist() == [s <= t for s in range(length)]


def test_padding_mask_by_hand_and_from_other_sequences():
    for lengths in ([3, 0, 5], (3, 0, 5), np.array([3, 0, 5])):
        mask = padding_mask(lengths, 5)
        assert mask.dtype == bool and mask.shape == (3, 1, 1, 5)
        assert mask.sum(axis=-1).ravel().tolist() == [3, 0, 5]
        assert mask[0, 0, 0].tolist() == [True, True, True, False, False]


@pytest.mark.parametrize("lengths", [[6, 2], [-1, 2], [[1], [2]]])
def test_padding_mask_refuses_impossible_lengths(lengths):
    with pytest.raises(ValueError, match="5 keys"):
        padding_mask(lengths, 5)


# masked softmax

MASKS = {
    "none": None,
    "causal": causal_mask(6),
    "padding": padding_mask([6, 2], 6),
    "both": causal_mask(6) & padding_mask([4, 1], 6),
    "a text of length 0": padding_mask([0, 5], 6),
    "rows that see nothing": np.random.default_rng(3).random((6, 6)) < 0.25,
    "nothing at all": np.zeros((1, 6), bool),
    "per head": np.random.default_rng(4).random((2, 3, 6, 6)) < 0.5,
}


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize("scale", [1.0, 300.0, 1e30])
def test_masked_softmax_is_softmax_over_the_visible(name, scale):
    scores, mask = random(2, 3, 6, 6, seed=5) * np.float32(scale), MASKS[name]
    before = scores.copy()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        weights = masked_softmax(Tensor(scores), mask)
    assert_close(weights, by_definition(scores, True if mask is None else mask))
    np.testing.assert_array_equal(scores, before)
    if mask is not None:
        assert (weights.data[~np.broadcast_to(mask, scores.shape)] == 0).all()


@pytest.mark.parametrize("garbage", [1e30, -1e30, np.inf, np.nan])
def test_hidden_scores_have_no_say(garbage):
    scores, mask = random(4, 5, seed=6), np.array([True, True, False, True, False])
    wanted = masked_softmax(Tensor(scores), mask).data
    dirty = np.where(mask, scores, np.float32(garbage))
    np.testing.assert_array_equal(masked_softmax(Tensor(dirty), mask).data, wanted)


def test_a_visible_nan_is_not_hidden():
    weights = masked_softmax(Tensor([[np.nan, 0.0, 1.0], [0.0, 0.0, np.nan]]), [True, True, False])
    assert np.isnan(weights.data[0, :2]).all() and weights.data[1].tolist() == [0.5, 0.5, 0.0]


@pytest.mark.parametrize("name", MASKS)
def test_masked_softmax_gradient_is_the_slope(name):
    mask, scores = MASKS[name], random(2, 1, 6, 6, seed=7)
    mask = mask[:, :1] if name == "per head" else mask
    assert check_grads(lambda s: masked_softmax(s, mask), Tensor(scores))


def test_gradients_of_hidden_scores_and_blind_rows_are_exactly_zero():
    mask = np.array([[True, False, True], [False, False, False]])
    scores = Tensor(random(2, 3, seed=8), requires_grad=True)
    masked_softmax(scores, mask).backward(np.full((2, 3), 1e20, dtype=np.float32))
    assert scores.grad[~mask].tolist() == [0.0] * 4
    assert np.isfinite(scores.grad).all()


@pytest.mark.parametrize(
    "mask, error, words",
    [
        (np.ones((3, 3)), TypeError, "float64"),
        (np.ones((3, 3), int), TypeError, "int64"),
        (Tensor(np.ones((3, 3))), TypeError, "float32"),
        (np.where(causal_mask(3), 0, -np.inf), TypeError, "-inf"),
        (causal_mask(4), ValueError, r"\(4, 4\)"),
        (padding_mask([2, 3], 3), ValueError, r"\(2, 1, 1, 3\)"),
        (padding_mask([2], 5), ValueError, r"\(1, 1, 1, 5\)"),
    ],
)
def test_masks_that_are_none_are_refused(mask, error, words):
    with pytest.raises(error, match=words):
        masked_softmax(Tensor(random(3, 3)), mask)


def test_a_mask_may_be_a_nested_list():
    weights = masked_softmax(Tensor([[0.0, 0.0]]), [[True, False]])
    assert weights.tolist() == [[1.0, 0.0]]


# attention


@pytest.mark.parametrize("name", MASKS)
def test_attention_equals_sums_written_out(name):
    q, k, v = random(2, 3, 6, 5, seed=1), random(2, 3, 6, 5, seed=2), random(2, 3, 6, 4, seed=3)
    mask = MASKS[name]
    out = scaled_dot_product_attention(Tensor(q), Tensor(k), Tensor(v), mask)
    assert_close(out, by_loops(q, k, v, True if mask is None else mask))


@pytest.mark.parametrize("t, s, d, e", [(1, 1, 1, 1), (1, 7, 3, 2), (5, 2, 8, 1), (4, 9, 16, 16)])
def test_attention_of_any_sizes(t, s, d, e):
    q, k, v = random(1, 2, t, d, seed=4), random(1, 2, s, d, seed=5), random(1, 2, s, e, seed=6)
    wanted = by_loops(q, k, v)
    assert_close(scaled_dot_product_attention(Tensor(q), Tensor(k), Tensor(v)), wanted)
    flat = scaled_dot_product_attention(Tensor(q[0, 0]), Tensor(k[0, 0]), Tensor(v[0, 0]))
    assert_close(flat, wanted[0, 0])


def test_weights_do_not_saturate_with_the_width():
    largest = []
    for width in (4, 1024):
        q, k = random(200, width, seed=width), random(16, width, seed=width + 1)
        largest.append(attention_weights(Tensor(q), Tensor(k)).data.max(axis=1).mean())
    assert largest[1] == pytest.approx(largest[0], abs=0.1) and largest[1] < 0.4


def test_attention_gradients_are_slopes():
    q, k, v = (Tensor(random(2, 4, 3, seed=s)) for s in (1, 2, 3))
    assert check_grads(scaled_dot_product_attention, q, k, v)
    mask = causal_mask(4) & padding_mask([4, 0], 4)[:, 0]
    assert check_grads(lambda *t: scaled_dot_product_attention(*t, mask), q, k, v)


def test_attention_names_the_sizes_that_differ():
    q, k, v = Tensor(random(3, 4)), Tensor(random(5, 4)), Tensor(random(6, 2))
    with pytest.raises(ValueError, match="widths 4 and 5"):
        attention_weights(q, k.transpose(-2, -1))
    with pytest.raises(ValueError, match="5 keys but 6 values"):
        scaled_dot_product_attention(q, k, v)


# the layer

SIZES = [(8, 1, None), (8, 2, None), (12, 4, None), (8, 4, 2), (8, 4, 1), (6, 6, 3)]


@pytest.mark.parametrize("dim, heads, kv_heads", SIZES)
@pytest.mark.parametrize("bias", [True, False])
def test_layer_equals_heads_one_by_one(dim, heads, kv_heads, bias):
    manual_seed(dim + heads)
    layer = MultiHeadAttention(dim, heads, bias=bias, kv_heads=kv_heads)
    x, context = random(2, 5, dim, seed=1), random(2, 7, dim, seed=2)
    assert_close(layer(Tensor(x)), layer_by_loops(layer, x, x))
    assert_close(layer(Tensor(x), mask=causal_mask(5)), layer_by_loops(layer, x, x, causal_mask(5)))
    mask = padding_mask([7, 3], 7)
    crossed = layer(Tensor(x), Tensor(context), mask)
    assert_close(crossed, layer_by_loops(layer, x, context, mask))


@pytest.mark.parametrize("start", [0, 3, 9])
@pytest.mark.parametrize("kv_heads", [None, 2])
def test_layer_turns_queries_and_keys(start, kv_heads):
    manual_seed(4)
    layer = MultiHeadAttention(16, 4, positions=RotaryPositions(4, 20), kv_heads=kv_heads)
    x = random(2, 6, 16, seed=3)
    wanted = layer_by_loops(layer, x, x, causal_mask(6), rotary=True, start=start)
    assert_close(layer(Tensor(x), mask=causal_mask(6), start=start), wanted)
    query, key, value = layer.project(Tensor(x), Tensor(x), start)
    assert query.shape == key.shape == value.shape == (2, 4, 6, 4)


def test_split_and_merge_move_no_number_to_another_token():
    layer = MultiHeadAttention(12, 4)
    x = random(3, 5, 12, seed=5)
    for heads in (1, 2, 3, 4, 6, 12):
        parts, width = layer.split(Tensor(x), heads), 12 // heads
        assert parts.shape == (3, heads, 5, width)
        for head in range(heads):
            wanted = x[:, :, head * width : (head + 1) * width]
            np.testing.assert_array_equal(parts.data[:, head], wanted)
        np.testing.assert_array_equal(layer.merge(parts).data, x)


@pytest.mark.parametrize("heads, kv_heads", [(4, 2), (6, 2), (6, 3), (5, 1)])
def test_neighbouring_query_heads_share(heads, kv_heads):
    layer = MultiHeadAttention(heads, heads, kv_heads=kv_heads)
    x = random(2, kv_heads, 3, 1, seed=6)
    np.testing.assert_array_equal(
        layer.shared(Tensor(x)).data, np.repeat(x, heads // kv_heads, axis=1)
    )


def test_layer_gradients_are_slopes():
    manual_seed(5)
    layer = MultiHeadAttention(4, 2, positions=RotaryPositions(2, 8), kv_heads=1)
    x, context = Tensor(random(2, 3, 4, seed=7)), Tensor(random(2, 4, 4, seed=8))
    mask = padding_mask([4, 1], 4)
    assert check_grads(lambda x, c: layer(x, c, mask, start=2), x, context)
    assert check_grads(lambda x: layer(x, mask=causal_mask(3)), x)


def test_every_parameter_gets_a_gradient():
    layer = MultiHeadAttention(8, 4, kv_heads=2)
    layer(Tensor(random(2, 5, 8)), mask=causal_mask(5)).sum().backward()
    names = {name for name, _ in layer.named_parameters()}
    assert names == {
        f"{n}.{p}" for n in ("query", "key", "value", "out") for p in ("weight", "bias")
    }
    assert all(np.isfinite(p.grad).all() for p in layer.parameters())


@pytest.mark.parametrize("changed", [1, 4, 7])
def test_causal_layer_does_not_see_what_comes_later(changed):
    layer, x = MultiHeadAttention(8, 2), random(1, 8, 8, seed=9)
    other = x.copy()
    other[:, changed:] += 5
    before, after = (layer(Tensor(a), mask=causal_mask(8)).data for a in (x, other))
    np.testing.assert_array_equal(before[:, :changed], after[:, :changed])
    assert (np.abs(before[:, changed:] - after[:, changed:]).max(axis=-1) > 1e-3).all()


def test_padding_has_no_say_and_an_empty_text_gives_the_bias():
    layer, x = MultiHeadAttention(8, 2), random(3, 6, 8, seed=10)
    lengths = [6, 2, 0]
    other = x.copy()
    for text, length in enumerate(lengths):
        other[text, length:] = 1e4
    context, noisy = Tensor(x), Tensor(other)
    before = layer(context, context, padding_mask(lengths, 6)).data
    after = layer(context, noisy, padding_mask(lengths, 6)).data
    np.testing.assert_allclose(before, after, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(before[2], np.broadcast_to(layer.out.bias.data, (6, 8)), atol=1e-6)


def test_without_positions_shuffled_tokens_give_shuffled_results():
    layer, x = MultiHeadAttention(8, 2), random(1, 7, 8, seed=11)
    order = np.random.default_rng(0).permutation(7)
    shuffled = layer(Tensor(x[:, order])).data
    np.testing.assert_allclose(shuffled, layer(Tensor(x)).data[:, order], rtol=1e-4, atol=1e-6)


def test_weights_of_gives_the_maps_of_forward():
    layer = MultiHeadAttention(8, 2, dropout=0.5)
    x, context = Tensor(random(2, 3, 8, seed=12)), Tensor(random(2, 5, 8, seed=13))
    mask = padding_mask([5, 2], 5)
    maps = layer.weights_of(x, context, mask)
    assert maps.shape == (2, 2, 3, 5)
    np.testing.assert_allclose(maps.data.sum(axis=-1), 1, rtol=1e-5)
    assert (maps.data[1, :, :, 2:] == 0).all()
    value = layer.project(x, context)[2]
    by_maps = layer.out(layer.merge(maps @ value))
    np.testing.assert_allclose(layer.eval()(x, context, mask).data, by_maps.data, atol=1e-6)


def test_dropout_cuts_links_in_training_only():
    layer, x = MultiHeadAttention(8, 2, dropout=0.4), Tensor(random(2, 16, 8, seed=14))
    manual_seed(1)
    first, second = layer(x).data, layer(x).data
    assert (first != second).any()
    layer.eval()
    np.testing.assert_array_equal(layer(x).data, layer(x).data)


@pytest.mark.parametrize(
    "options, words",
    [
        ({"heads": 3}, "dim 8 with 3 heads"),
        ({"heads": 4, "kv_heads": 3}, "3 key heads"),
        ({"heads": 2, "kv_heads": 4}, "4 key heads"),
        ({"heads": 0}, "0 heads"),
        ({"heads": 2, "kv_heads": 0}, "0 key heads"),
        ({"heads": 2, "positions": RotaryPositions(8, 10)}, "width 8"),
    ],
)
def test_sizes_that_do_not_divide_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        MultiHeadAttention(8, **options)


@pytest.mark.parametrize("x, context", [((5, 8), None), ((2, 5, 6), None), ((2, 5, 8), (3, 5, 8))])
def test_inputs_of_other_shapes_are_refused(x, context):
    layer = MultiHeadAttention(8, 2)
    with pytest.raises(ValueError, match=r"\(batch, tokens, 8\)"):
        layer(Tensor(random(*x)), None if context is None else Tensor(random(*context)))


def test_nothing_is_recorded_under_no_grad():
    layer = MultiHeadAttention(8, 2)
    with no_grad():
        assert layer(Tensor(random(2, 3, 8)))._node is None
    names = [t._node.name for t in topological_sort(layer(Tensor(random(2, 3, 8)))) if t._node]
    assert names.count("masked_softmax") == 1
