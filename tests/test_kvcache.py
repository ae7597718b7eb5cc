"""Cached decoding against PyTorch: a GPT-2 and a Llama written here, with a cache of their own.

The second implementation keeps `past_key_values`, a pair of tensors per block that torch.cat makes
longer at each step, turns rotary pairs as complex numbers, and calls PyTorch's own attention.
"""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tinytorch.core.autograd import is_grad_enabled
from tinytorch.nn.kvcache import (
    KVCache,
    bytes_per_token,
    decode,
    generate_batch,
    generate_cached,
    left_padded,
)
from tinytorch.nn.transformer import GPT, GPTConfig, candidates, generate

CONTEXT = 24
CONFIGS = {
    "gpt2": GPTConfig(17, CONTEXT, dim=16, heads=4, layers=3),
    "gpt2 not tied": GPTConfig(17, CONTEXT, dim=16, heads=2, layers=2, tie_weights=False),
    "llama": GPTConfig.llama(17, CONTEXT, dim=32, heads=4, layers=2, tie_weights=False),
    "llama, 2 key heads": GPTConfig.llama(17, CONTEXT, dim=32, heads=4, layers=2, kv_heads=2),
    "llama, 1 key head": GPTConfig.llama(17, CONTEXT, dim=32, heads=4, layers=3, kv_heads=1),
    "waves, rms, no bias": GPTConfig(
        17, CONTEXT, dim=12, heads=3, layers=2, positions="sinusoidal", norm="rms", bias=False
    ),
    "rotary, layer norm": GPTConfig(17, CONTEXT, dim=16, heads=2, layers=2, positions="rotary"),
}
# Cached against uncached, both ours, and against torch: float32, each sum in another order.
CLOSE = {"rtol": 1e-5, "atol": 1e-5}
DEEP = {"rtol": 2e-4, "atol": 2e-5}


def filled(config, seed=0):
    """A GPT in eval mode whose numbers are large enough to make a difference."""
    model = GPT(config).eval()
    rng = np.random.default_rng(seed)
    for name, parameter in model.named_parameters():
        near = 1.0 * ("norm" in name and name.endswith("weight"))
        parameter.data[...] = rng.normal(size=parameter.shape) * 0.2 + near
    return model


def texts(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 17, shape)


class Second:
    """The same model in torch. `past`: None, or per block keys and values of the tokens so far."""

    def __init__(self, model):
        self.config = model.config
        self.w = {name: torch.tensor(a) for name, a in model.state_dict().items()}

    def linear(self, at, x):
        return F.linear(x, self.w[f"{at}.weight"], self.w.get(f"{at}.bias"))

    def norm(self, at, x):
        weight, bias = self.w[f"{at}.weight"], self.w.get(f"{at}.bias")
        if bias is None:
            return F.rms_norm(x, x.shape[-1:], weight, eps=1e-6)
        return F.layer_norm(x, x.shape[-1:], weight, bias)

    def mlp(self, at, x):
        if f"{at}.gate.weight" in self.w:
            x = F.silu(self.linear(f"{at}.gate", x)) * self.linear(f"{at}.up", x)
        else:
            x = F.gelu(self.linear(f"{at}.up", x), approximate="tanh")
        return self.linear(f"{at}.down", x)

    @staticmethod
    def turned(x, start):
        half = x.shape[-1] // 2
        at = torch.arange(start, start + x.shape[-2])
        angle = torch.outer(at, 10000.0 ** (-torch.arange(half) / half))
        z = torch.complex(x[..., :half], x[..., half:])
        z = z * torch.polar(torch.ones_like(angle), angle)
        return torch.cat([z.real, z.imag], dim=-1)

    def attention(self, at, x, past):
        c, start = self.config, 0 if past is None else past[0].shape[2]
        q, k, v = (
            self.linear(f"{at}.{part}", x).unflatten(-1, (-1, c.dim // c.heads)).transpose(1, 2)
            for part in ("query", "key", "value")
        )
        if c.positions == "rotary":
            q, k = self.turned(q, start), self.turned(k, start)
        if past is not None:
            k, v = torch.cat([past[0], k], dim=2), torch.cat([past[1], v], dim=2)
        new, total = q.shape[2], k.shape[2]
        mask = torch.arange(total) <= torch.arange(total - new, total)[:, None]
        seen = F.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, enable_gqa=k.shape[1] < q.shape[1]
        )
        return self.linear(f"{at}.out", seen.transpose(1, 2).flatten(2)), (k, v)

    @torch.no_grad()
    def __call__(self, tokens, past=None):
        """Logits of the new tokens, and the longer past."""
        start, grown = 0 if past is None else past[0][0].shape[2], []
        x = self.w["embedding.weight"][torch.tensor(tokens)]
        for table in ("positions.weight", "positions.table"):
            if table in self.w:
                x = x + self.w[table][start : start + x.shape[1]]
        for n in range(self.config.layers):
            normed = self.norm(f"blocks.{n}.norm1", x)
            old = None if past is None else past[n]
            seen, pair = self.attention(f"blocks.{n}.attention", normed, old)
            grown.append(pair)
            x = x + seen
            x = x + self.mlp(f"blocks.{n}.mlp", self.norm(f"blocks.{n}.norm2", x))
        return self.norm("norm", x) @ self.w["head.weight"].T, grown


def pieces_of(ids, sizes):
    ends = np.cumsum(sizes)
    return [ids[:, end - size : end] for size, end in zip(sizes, ends, strict=True)]


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("sizes", [[24], [1] * 24, [7, 1, 1, 5, 10], [23, 1]], ids=str)
@pytest.mark.parametrize("batch", [1, 3])
def test_logits_in_pieces(name, sizes, batch):
    """Cached logits equal uncached ones to 1e-5, and those of torch with its own cache."""
    model, ids = filled(CONFIGS[name]), texts(batch, CONTEXT, seed=1)
    cache, second, past = KVCache.for_model(model, batch), Second(model), None
    whole = model(ids).data
    for piece in pieces_of(ids, sizes):
        end = cache.length + piece.shape[1]
        got = decode(model, piece, cache)
        wanted, past = second(piece, past)
        assert got.data.dtype == np.float32 and got._node is None
        np.testing.assert_allclose(got.data, wanted.numpy(), **DEEP)
        np.testing.assert_allclose(got.data, whole[:, end - piece.shape[1] : end], **CLOSE)
        assert cache.length == end
    assert is_grad_enabled()


@pytest.mark.parametrize("name", CONFIGS)
def test_the_cache_holds_what_torch_keeps(name):
    model, ids = filled(CONFIGS[name]), texts(2, 11, seed=2)
    cache = KVCache.for_model(model, 2)
    _, past = Second(model)(ids)
    for piece in pieces_of(ids, [6, 1, 4]):
        decode(model, piece, cache)
    for layer, (keys, values) in enumerate(past):
        np.testing.assert_allclose(cache.keys[layer, :, :, :11], keys.numpy(), **DEEP)
        np.testing.assert_allclose(cache.values[layer, :, :, :11], values.numpy(), **DEEP)
    numbers = sum(t.numel() for pair in past for t in pair)
    assert bytes_per_token(model.config) * 2 * 11 == 4 * numbers
    assert cache.nbytes == bytes_per_token(model.config) * 2 * CONTEXT


@pytest.mark.parametrize("name", CONFIGS)
def test_greedy_text_of_torch(name):
    model = filled(CONFIGS[name], seed=3)
    second, written = Second(model), [3, 1, 4]
    logits, past = second([written])
    for _ in range(20):
        written.append(int(logits[0, -1].argmax()))
        logits, past = second([written[-1:]], past)
    assert generate_cached(model, [3, 1, 4], 20, temperature=0) == written


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("knobs", [{}, {"temperature": 0.6, "top_k": 5}, {"top_p": 0.7}], ids=str)
@pytest.mark.parametrize("prompt", [1, 10, 24, 30])
def test_same_tokens_as_generate(name, knobs, prompt):
    """Also for prompts longer than the context, and beyond its end."""
    model, tokens = filled(CONFIGS[name], seed=4), texts(prompt, seed=prompt).tolist()
    for seed in (0, 1):
        wanted = generate(model, tokens, 30, seed=seed, **knobs)
        assert generate_cached(model, tokens, 30, seed=seed, **knobs) == wanted


@pytest.mark.parametrize("name", CONFIGS)
def test_windows_that_begin_with_keep_tokens(name):
    """Torch reads each window anew: from `keep` tokens until the context is full, and again."""
    model, keep = filled(CONFIGS[name], seed=5), 10
    second, written, start = Second(model), [5, 2], 0
    for _ in range(60):
        if len(written) - start > CONTEXT:
            start = len(written) - keep
        written.append(int(second([written[start:]])[0][0, -1].argmax()))
    assert generate_cached(model, [5, 2], 60, temperature=0, keep=keep) == written


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("lengths", [(1, 9, 4), (24, 2), (30, 1, 24, 5), (6, 6)], ids=str)
def test_a_batch_is_its_streams(name, lengths):
    model = filled(CONFIGS[name], seed=6)
    prompts = [texts(n, seed=n + i).tolist() for i, n in enumerate(lengths)]
    for options in ({}, {"stop_tokens": [2, 7]}, {"keep": 9}):
        alone = [
            generate_cached(model, prompt, 30, seed=40 + i, **options)
            for i, prompt in enumerate(prompts)
        ]
        assert generate_batch(model, prompts, 30, seed=40, **options) == alone


@pytest.mark.parametrize("name", CONFIGS)
def test_logits_of_padded_texts(name):
    model, second = filled(CONFIGS[name], seed=7), None
    prompts = [texts(n, seed=n).tolist() for n in (12, 1, 5)]
    cache = KVCache.for_model(model, 3)
    tokens, cache.padding = left_padded(prompts)
    last, second = decode(model, tokens, cache).data[:, -1], Second(model)
    for step in range(6):
        wanted = [second([prompt])[0][0, -1].numpy() for prompt in prompts]
        np.testing.assert_allclose(last, wanted, **DEEP)
        for prompt in prompts:
            prompt.append(step)
        last = decode(model, [[step]] * 3, cache).data[:, -1]


def test_shares_of_the_next_token():
    """What sampling sees: the same candidates in the same order, with the same shares."""
    model, ids = filled(CONFIGS["llama"], seed=8), texts(1, 20, seed=9)
    cache = KVCache.for_model(model)
    for t in range(20):
        row = decode(model, ids[:, t : t + 1], cache).data[0, -1]
        got = candidates(row, 0.8, 6, 0.9)
        wanted = candidates(model(ids[:, : t + 1]).data[0, -1], 0.8, 6, 0.9)
        np.testing.assert_array_equal(got[0], wanted[0])
        np.testing.assert_allclose(got[1], wanted[1], rtol=1e-4)
