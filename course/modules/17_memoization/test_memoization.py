"""Hidden variants of module 17: other sizes and seeds, and a GPT computed anew in float64 by NumPy alone."""

import math

import numpy as np
import pytest

from tinytorch.core.tensor import Tensor
from tinytorch.nn import kvcache
from tinytorch.nn.attention import MultiHeadAttention, causal_mask
from tinytorch.nn.embedding import RotaryPositions
from tinytorch.nn.kvcache import (
    KVCache,
    bytes_per_token,
    cached_attention,
    decode,
    generate_batch,
    generate_cached,
    last_rows,
    left_padded,
    places,
    real_keys,
    slide,
)
from tinytorch.nn.transformer import GPT, GPTConfig, generate

VOCABULARY, CONTEXT = 13, 12
CONFIGS = {
    "gpt2": {"dim": 8, "heads": 2, "layers": 2},
    "gpt2, head of its own": {"dim": 8, "heads": 2, "layers": 2, "tie_weights": False},
    "no biases, small mlp": {"dim": 6, "heads": 3, "layers": 3, "bias": False, "hidden": 5},
    "waves": {"dim": 6, "heads": 3, "layers": 1, "positions": "sinusoidal"},
    "rotary": {"dim": 12, "heads": 2, "layers": 2, "positions": "rotary", "hidden": 7},
    "llama": {
        "dim": 16, "heads": 4, "layers": 2, "positions": "rotary", "norm": "rms", "mlp": "swiglu",
        "bias": False, "kv_heads": 2, "tie_weights": False, "hidden": 24,
    },
    "one key head": {"dim": 8, "heads": 4, "layers": 3, "kv_heads": 1},
}  # fmt: skip


def filled(name, seed=0, context=CONTEXT):
    """A GPT of that kind with numbers large enough to matter, in eval mode."""
    model = GPT(GPTConfig(VOCABULARY, context, **CONFIGS[name])).eval()
    rng = np.random.default_rng(seed)
    for path, parameter in model.named_parameters():
        near = 1.0 * ("norm" in path and path.endswith("weight"))
        parameter.data[...] = rng.normal(size=parameter.shape) * 0.4 + near
    return model


def texts(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, VOCABULARY, shape)


# The oracle: everything computed anew, in float64


def normed(w, at, x):
    if f"{at}.bias" in w:
        x = x - x.mean(-1, keepdims=True)
        x = x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-5)
        return x * w[f"{at}.weight"] + w[f"{at}.bias"]
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-6) * w[f"{at}.weight"]


def linear(w, at, x):
    return x @ w[f"{at}.weight"].T + w.get(f"{at}.bias", 0.0)


def turned(x):
    """x (T, D): pairs (i, i + D/2) as complex numbers, turned by their places."""
    half = x.shape[-1] // 2
    angle = np.outer(np.arange(len(x)), 10000.0 ** (-np.arange(half) / half))
    pairs = (x[:, :half] + 1j * x[:, half:]) * np.exp(1j * angle)
    return np.concatenate([pairs.real, pairs.imag], axis=-1)


def bent(w, at, x):
    if f"{at}.gate.weight" in w:
        gate = linear(w, f"{at}.gate", x)
        return linear(w, f"{at}.down", gate / (1 + np.exp(-gate)) * linear(w, f"{at}.up", x))
    x = linear(w, f"{at}.up", x)
    x = 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return linear(w, f"{at}.down", x)


def anew(model, text):
    """Logits (T, V) of one text, head by head, nothing kept and nothing batched."""
    w = {name: array.astype(np.float64) for name, array in model.state_dict().items()}
    c, size = model.config, model.config.dim // model.config.heads
    x = w["embedding.weight"][np.asarray(text)]
    for table in ("positions.weight", "positions.table"):
        if table in w:
            x = x + w[table][: len(text)]
    for n in range(c.layers):
        at, seen = f"blocks.{n}.attention", []
        z = normed(w, f"blocks.{n}.norm1", x)
        q, k, v = (linear(w, f"{at}.{part}", z) for part in ("query", "key", "value"))
        for head in range(c.heads):
            owner = head // (c.heads // c.key_heads)
            mine, theirs = (
                slice(head * size, (head + 1) * size),
                slice(owner * size, (owner + 1) * size),
            )
            qh, kh = q[:, mine], k[:, theirs]
            if c.positions == "rotary":
                qh, kh = turned(qh), turned(kh)
            scores = np.where(np.tri(len(text), dtype=bool), qh @ kh.T / math.sqrt(size), -np.inf)
            powers = np.exp(scores - scores.max(-1, keepdims=True))
            seen.append(powers / powers.sum(-1, keepdims=True) @ v[:, theirs])
        x = x + linear(w, f"{at}.out", np.concatenate(seen, axis=-1))
        x = x + bent(w, f"blocks.{n}.mlp", normed(w, f"blocks.{n}.norm2", x))
    return normed(w, "norm", x) @ w["head.weight"].T


def assert_logits(got, wanted):
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=2e-5)


# The cache


@pytest.mark.parametrize("layers, batch, heads, width", [(1, 1, 1, 1), (3, 2, 4, 5)])
def test_append_stores_and_returns_views(layers, batch, heads, width):
    cache = KVCache(layers, batch, heads, width, capacity=9)
    rng, stored = np.random.default_rng(0), [[] for _ in range(layers)]
    for count in (4, 1, 1, 3):
        before = cache.length
        for layer in range(layers):
            assert cache.length == before
            key, value = (rng.normal(size=(batch, heads, count, width)) for _ in range(2))
            stored[layer].append((key, value))
            keys, values = cache.append(layer, Tensor(key), Tensor(value))
            for got, part in ((keys, 0), (values, 1)):
                wanted = np.concatenate([pair[part] for pair in stored[layer]], axis=2)
                np.testing.assert_allclose(got.data, wanted, rtol=1e-6)
            assert np.shares_memory(keys.data, cache.keys)
            assert np.shares_memory(values.data, cache.values)
        assert cache.length == before + count
    with pytest.raises(ValueError, match=r"9 tokens.*1 more.*9"):
        cache.append(0, Tensor(key[:, :, :1]), Tensor(value[:, :, :1]))


def test_a_refused_append_changes_nothing():
    cache = KVCache(1, 1, 1, 2, capacity=3)
    cache.append(0, Tensor(np.ones((1, 1, 2, 2))), Tensor(np.ones((1, 1, 2, 2))))
    before = cache.keys.copy()
    with pytest.raises(ValueError, match="full"):
        cache.append(0, Tensor(np.zeros((1, 1, 2, 2))), Tensor(np.zeros((1, 1, 2, 2))))
    assert cache.length == 2
    np.testing.assert_array_equal(cache.keys, before)


@pytest.mark.parametrize("sizes", [(0, 1, 1, 1, 1), (1, 0, 1, 1, 1), (1, 1, 1, 1, 0)])
def test_sizes_below_one_are_refused(sizes):
    with pytest.raises(ValueError, match="1 or more"):
        KVCache(*sizes)


@pytest.mark.parametrize("name", CONFIGS)
def test_bytes_are_what_the_formula_says(name):
    model = filled(name)
    for batch, capacity in ((1, None), (3, 5)):
        cache = KVCache.for_model(model, batch, capacity)
        assert cache.nbytes == bytes_per_token(model.config) * batch * (capacity or CONTEXT)
        assert cache.keys.dtype == np.float32 and cache.batch == batch


def test_a_capacity_beyond_the_context_is_refused():
    with pytest.raises(ValueError, match="13.*12"):
        KVCache.for_model(filled("gpt2"), capacity=13)


def test_trim_and_go_on_is_the_text_without_the_end():
    model, ids = filled("llama"), texts(1, 9, seed=4)
    cache = KVCache.for_model(model)
    decode(model, ids, cache)
    for keep in (7, 7, 3, 0):
        cache.trim(keep)
        other = texts(1, 2, seed=keep)
        got = decode(model, other, cache).data[0]
        assert_logits(got, anew(model, [*ids[0, :keep], *other[0]])[keep:])
        cache.trim(keep)
    for keep in (-1, 1, 99):
        with pytest.raises(ValueError, match=str(keep)):
            cache.trim(keep)


# Masks, padding, places, windows


@pytest.mark.parametrize("new, total", [(1, 1), (1, 9), (4, 9), (9, 9)])
def test_last_rows(new, total):
    mask = last_rows(new, total)
    assert mask.dtype == bool
    np.testing.assert_array_equal(mask, causal_mask(total)[total - new :])


def test_padding_by_hand():
    tokens, padding = left_padded([[5], [1, 2, 3, 4], [8, 9]])
    assert tokens.tolist() == [[0, 0, 0, 5], [1, 2, 3, 4], [0, 0, 8, 9]]
    assert padding.tolist() == [3, 0, 2]
    mask = real_keys(padding, 6)
    assert mask.dtype == bool and mask.shape == (3, 1, 1, 6)
    assert mask.sum(axis=-1).ravel().tolist() == [3, 6, 4] and mask[0, 0, 0, 3]
    assert places(padding, 0, 4).tolist() == [[0, 0, 0, 0], [0, 1, 2, 3], [0, 0, 0, 1]]
    assert places(padding, 7, 2).tolist() == [[4, 5], [7, 8], [5, 6]]


@pytest.mark.parametrize("context, keep", [(5, 5), (5, 3), (5, 1), (1, 1)])
def test_windows_hold_from_keep_to_context_tokens(context, keep):
    start = 0
    for length in range(1, 40):
        before, start = start, slide(start, length, context, keep)
        assert 1 <= length - start <= context
        assert start == before or length - start == keep


# Attention and decoding


@pytest.mark.parametrize("kv_heads", [None, 2, 1])
@pytest.mark.parametrize("rotary", [False, True])
@pytest.mark.parametrize("pieces", [[8], [1] * 8, [3, 4, 1]])
def test_cached_attention_is_the_layer_with_a_causal_mask(kv_heads, rotary, pieces):
    positions = RotaryPositions(4, 10) if rotary else None
    layer = MultiHeadAttention(16, 4, positions=positions, kv_heads=kv_heads)
    x = Tensor(np.random.default_rng(5).normal(size=(3, 8, 16)))
    cache, parts = KVCache(1, 3, kv_heads or 4, 4, 8), []
    for piece in pieces:
        start = cache.length
        mask = last_rows(piece, start + piece) if piece > 1 else None
        parts.append(cached_attention(layer, x[:, start : start + piece], cache, 0, mask).data)
    wanted = layer(x, mask=causal_mask(8)).data
    np.testing.assert_allclose(np.concatenate(parts, axis=1), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("pieces", [[12], [1] * 12, [5, 1, 1, 4, 1]])
def test_decode_is_the_model_computed_anew(name, pieces):
    model, ids = filled(name, seed=2), texts(2, 12, seed=3)
    cache, parts = KVCache.for_model(model, 2), []
    for end, piece in zip(np.cumsum(pieces), pieces):
        parts.append(decode(model, ids[:, end - piece : end], cache).data)
    got = np.concatenate(parts, axis=1)
    for row in range(2):
        assert_logits(got[row], anew(model, ids[row]))
    np.testing.assert_allclose(got, model(ids).data, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", CONFIGS)
def test_texts_of_different_lengths_do_not_notice_each_other(name):
    model, lengths = filled(name, seed=6), [7, 1, 4]
    prompts = [texts(n, seed=n).tolist() for n in lengths]
    cache = KVCache.for_model(model, 3)
    tokens, cache.padding = left_padded(prompts)
    last = decode(model, tokens, cache).data[:, -1]
    for _ in range(3):
        for row, prompt in enumerate(prompts):
            assert_logits(last[row], anew(model, prompt)[-1])
            prompt.append(int(last[row].argmax()))
        last = decode(model, [prompt[-1:] for prompt in prompts], cache).data[:, -1]
    cache.select([2, 0])
    last = decode(model, [[1], [2]], cache).data[:, -1]
    for row, (text, token) in enumerate(((2, 1), (0, 2))):
        assert_logits(last[row], anew(model, [*prompts[text], token])[-1])


@pytest.mark.parametrize(
    "tokens, words", [([[1]], r"\(1, 1\)"), ([1, 2], r"\(2,\)"), ([[], []], r"\(2, 0\)")]
)
def test_decode_refuses_what_is_no_batch_of_this_cache(tokens, words):
    model = filled("gpt2")
    with pytest.raises(ValueError, match=words):
        decode(model, tokens, KVCache.for_model(model, 2))


def test_a_full_cache_says_so_and_stays_as_it_was():
    model = filled("gpt2")
    cache = KVCache.for_model(model, capacity=4)
    decode(model, [[1, 2, 3]], cache)
    with pytest.raises(ValueError, match="3 tokens.*2 more.*4"):
        decode(model, [[4, 5]], cache)
    assert_logits(decode(model, [[4]], cache).data[0], anew(model, [1, 2, 3, 4])[3:])


def test_an_interrupted_step_leaves_a_whole_cache():
    model = filled("gpt2")
    cache, mlp = KVCache.for_model(model), model.blocks[1].mlp
    decode(model, [[1, 2]], cache)

    def stopped(x):
        raise KeyboardInterrupt

    model.blocks[0].mlp.forward = stopped
    with pytest.raises(KeyboardInterrupt):
        decode(model, [[3]], cache)
    del model.blocks[0].mlp.forward
    assert cache.length == 2 and mlp is model.blocks[1].mlp
    assert_logits(decode(model, [[4]], cache).data[0], anew(model, [1, 2, 4])[2:])


def test_dropout_does_not_get_into_the_cache():
    model = GPT(GPTConfig(5, 6, dim=4, heads=1, layers=1, dropout=0.5))
    with pytest.raises(ValueError, match="eval"):
        decode(model, [[1]], KVCache.for_model(model))
    assert model.training
    assert len(generate_cached(model, [1], 3, seed=0)) == 4 and model.training


# Generation


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize(
    "knobs", [{}, {"temperature": 0}, {"top_k": 3, "temperature": 0.7}, {"top_p": 0.8}]
)
def test_generate_cached_writes_what_generate_writes(name, knobs):
    model = filled(name, seed=8)
    for prompt, count in (([3], 10), ([1, 2, 3, 4], 20), (texts(15, seed=1).tolist(), 4)):
        wanted = generate(model, prompt, count, seed=9, **knobs)
        assert generate_cached(model, prompt, count, seed=9, **knobs) == wanted


@pytest.mark.parametrize("name", ["gpt2", "llama", "waves"])
@pytest.mark.parametrize("keep", [1, 6, 11, 12])
def test_a_new_window_begins_with_the_last_keep_tokens(name, keep):
    model = filled(name, seed=10)
    written, start = [2, 7], 0
    for _ in range(40):
        start = slide(start, len(written), CONTEXT, keep)
        written.append(int(anew(model, written[start:])[-1].argmax()))
    assert generate_cached(model, [2, 7], 40, temperature=0, keep=keep) == written
    assert generate_batch(model, [[2, 7]], 40, temperature=0, keep=keep) == [written]


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("keep", [None, 5])
def test_every_stream_of_a_batch_is_its_single_stream(name, keep):
    model = filled(name, seed=11)
    prompts = [texts(n, seed=n).tolist() for n in (3, 9, 1, 14)]
    options = {"stop_tokens": [4, 9], "keep": keep}
    alone = [
        generate_cached(model, prompt, 25, seed=20 + i, **options)
        for i, prompt in enumerate(prompts)
    ]
    assert generate_batch(model, prompts, 25, seed=20, **options) == alone
    for i, prompt in enumerate(prompts):
        if keep is None:
            assert generate(model, prompt, 25, stop_tokens=[4, 9], seed=20 + i) == alone[i]


def test_decode_is_found_when_it_is_called(monkeypatch):
    model, seen = filled("gpt2"), []
    real = kvcache.decode

    def faster(model, tokens, cache):
        seen.append(np.shape(tokens))
        return real(model, tokens, cache)

    monkeypatch.setattr(kvcache, "decode", faster)
    generate_cached(model, [1, 2, 3], 3, seed=0)
    generate_batch(model, [[1], [2]], 2, seed=0)
    assert seen == [(1, 3), (1, 1), (1, 1), (2, 1), (2, 1)]


@pytest.mark.parametrize(
    "prompt, error", [("text", TypeError), ([], ValueError), ([[1, 2]], ValueError)]
)
def test_prompts_that_are_none(prompt, error):
    with pytest.raises(error, match="prompt"):
        generate_cached(filled("gpt2"), prompt, 2)


@pytest.mark.parametrize("keep", [0, 13, -2])
def test_keep_must_lie_in_the_context(keep):
    with pytest.raises(ValueError, match=f"keep={keep}"):
        generate_cached(filled("gpt2"), [1], 2, keep=keep)


def test_mode_comes_back_after_an_error():
    model = filled("gpt2").train()
    with pytest.raises(IndexError):
        generate_cached(model, [99], 2)
    with pytest.raises(IndexError):
        generate_batch(model, [[1], [99]], 2)
    assert model.training
