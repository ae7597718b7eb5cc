"""Norms, blocks, a whole GPT's training step, and sampling, against PyTorch.

Where torch.nn has the part, it is the oracle, with our numbers copied into it. The Llama-style
block and the GPTs are written a second time below, in plain torch operations, from their papers.
"""

import math
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tinytorch.core.losses import CrossEntropyLoss
from tinytorch.core.optimizers import AdamW
from tinytorch.core.tensor import Tensor, manual_seed
from tinytorch.nn.attention import causal_mask, padding_mask
from tinytorch.nn.transformer import (
    GPT,
    MLP,
    DecoderBlock,
    EncoderBlock,
    GPTBlock,
    GPTConfig,
    LayerNorm,
    RMSNorm,
    SwiGLU,
    Transformer,
    candidates,
    layer_norm,
    rms_norm,
)

from tests.oracles import Case, assert_close, assert_rules_keep_float32, compare

# A dozen float32 operations in a chain, each rounded: equal to about 1e-5 of the largest number.
DEEP = {"rtol": 2e-4, "atol": 2e-5}


def norm_of(name, mine, eps, lib, x, *params):
    """`mine` for our tensors, torch.nn.functional's function `name` for torch's."""
    if isinstance(x, Tensor):
        return mine(x, *params, eps=eps)
    return getattr(F, name)(x, (x.shape[-1],), *params, eps=eps)


SHAPES = [(4,), (3, 5), (2, 3, 8), (2, 1, 3, 2), (16, 64)]
NORMS = [
    Case(
        f"{name} {shape} eps {eps}",
        partial(norm_of, name, mine, eps),
        (shape,) + (shape[-1:],) * params,
        rtol=2e-4,
        atol=1e-5,
    )
    for name, mine, params in (("layer_norm", layer_norm, 2), ("rms_norm", rms_norm, 1))
    for shape in SHAPES
    for eps in (1e-6, 1e-5, 1e-2)
]


@pytest.mark.parametrize("case", NORMS, ids=lambda case: case.id)
def test_norm(case):
    compare(case)


@pytest.mark.parametrize("kind", [LayerNorm, RMSNorm])
@pytest.mark.parametrize("shift, size", [(0, 1e-3), (0, 1e4), (50, 1)])
def test_norm_layers_with_their_defaults(kind, shift, size):
    theirs = torch.nn.LayerNorm(6) if kind is LayerNorm else torch.nn.RMSNorm(6, eps=1e-6)
    x = np.random.default_rng(0).normal(shift, size, (5, 6)).astype(np.float32)
    mine, its = Tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    got, wanted = kind(6)(mine), theirs(its)
    assert_close("value", got.data, wanted.detach(), rtol=1e-4, atol=1e-4)
    g = np.random.default_rng(1).normal(size=x.shape).astype(np.float32)
    got.backward(g)
    wanted.backward(torch.tensor(g))
    assert_close(
        "gradient", mine.grad, its.grad, rtol=1e-3, atol=1e-4 * float(its.grad.abs().max())
    )


def filled(module, seed=0):
    """Our module with new numbers everywhere: none of them 0 or 1, as norms and biases start."""
    rng = np.random.default_rng(seed)
    for name, tensor in module.named_tensors():
        if not name.endswith("table"):
            tensor.data[...] = rng.normal(size=tensor.shape) * 0.3
            tensor.data[...] += 1.0 * ("norm" in name and name.endswith("weight"))
    return module


def weights(module):
    """Our parameters as torch leaves under our names; a shared one is one leaf under both."""
    leaves, found = {}, {}
    for name, tensor in module.named_tensors():
        leaf = found.setdefault(id(tensor), torch.tensor(tensor.data.copy(), requires_grad=True))
        leaves[name] = leaf
    return leaves


def compare_modules(module, run, arrays, mine=None, **close):
    """`module(*tensors)` and `run(w, *torch tensors)`: values and all gradients."""
    w = weights(module)
    ours = [Tensor(a, requires_grad=True) for a in arrays]
    theirs = [torch.tensor(a, requires_grad=True) for a in arrays]
    out, wanted = (mine or module)(*ours), run(w, *theirs)
    assert_close("value", out.data, wanted.detach(), **close)
    assert_rules_keep_float32(out)
    g = np.random.default_rng(7).standard_normal(out.shape).astype(np.float32)
    out.backward(g)
    wanted.backward(torch.from_numpy(g))
    for number, (one, other) in enumerate(zip(ours, theirs, strict=True)):
        assert_close(f"gradient of input {number}", one.grad, other.grad, **close)
    for name, parameter in module.named_parameters():
        scale = float(w[name].grad.abs().max())
        close_ = {**close, "atol": close.get("atol", 1e-6) * max(1.0, scale)}
        assert_close(f"gradient of {name}", parameter.grad, w[name].grad, **close_)


def drawn(*shapes, seed=3):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape).astype(np.float32) for shape in shapes]


# The second implementation, in torch: one function per part, `w` the leaves, `at` the part's name.


def linear(w, at, x):
    return F.linear(x, w[f"{at}.weight"], w.get(f"{at}.bias"))


def norm(w, at, x):
    if f"{at}.bias" in w:
        return F.layer_norm(x, x.shape[-1:], w[f"{at}.weight"], w[f"{at}.bias"])
    return F.rms_norm(x, x.shape[-1:], w[f"{at}.weight"], eps=1e-6)


def gelu(x):
    return F.gelu(x, approximate="tanh")


def mlp(w, at, x):
    if f"{at}.gate.weight" in w:
        return linear(
            w, f"{at}.down", F.silu(linear(w, f"{at}.gate", x)) * linear(w, f"{at}.up", x)
        )
    return linear(w, f"{at}.down", gelu(linear(w, f"{at}.up", x)))


def turned(x):
    """Rotary positions of (B, H, T, D), pairs (i, i + D/2), by complex multiplication."""
    half = x.shape[-1] // 2
    angle = torch.outer(torch.arange(x.shape[-2]), 10000.0 ** (-torch.arange(half) / half))
    z = torch.complex(x[..., :half], x[..., half:]) * torch.polar(torch.ones_like(angle), angle)
    return torch.cat([z.real, z.imag], dim=-1)


def attention(w, at, x, config):
    heads = [
        linear(w, f"{at}.{part}", x).unflatten(-1, (-1, config.dim // config.heads)).transpose(1, 2)
        for part in ("query", "key", "value")
    ]
    if config.positions == "rotary":
        heads[:2] = [turned(part) for part in heads[:2]]
    q, k, v = (h.repeat_interleave(config.heads // h.shape[1], dim=1) for h in heads)
    seen = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    return linear(w, f"{at}.out", seen.transpose(1, 2).flatten(2))


def block(w, at, x, config):
    x = x + attention(w, f"{at}attention", norm(w, f"{at}norm1", x), config)
    return x + mlp(w, f"{at}mlp", norm(w, f"{at}norm2", x))


def gpt(w, tokens, config):
    x = w["embedding.weight"][tokens]
    if config.positions != "rotary":
        x = (
            x
            + w["positions.weight" if config.positions == "learned" else "positions.table"][
                : x.shape[1]
            ]
        )
    for number in range(config.layers):
        x = block(w, f"blocks.{number}.", x, config)
    return norm(w, "norm", x) @ w["head.weight"].T


# Parts


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(3,), (2, 4, 3)])
def test_mlp(bias, shape):
    module = filled(MLP(3, 7, bias=bias))
    compare_modules(
        module,
        lambda w, x: mlp({f"m.{k}": v for k, v in w.items()}, "m", x),
        drawn(shape),
        **DEEP,
    )


@pytest.mark.parametrize("shape", [(3,), (2, 4, 3), (1, 3)])
def test_swiglu(shape):
    module = filled(SwiGLU(3, 5))
    compare_modules(
        module,
        lambda w, x: mlp({f"m.{k}": v for k, v in w.items()}, "m", x),
        drawn(shape),
        **DEEP,
    )


NAMES = {
    "norm1": "norm1",
    "norm2": "norm2",
    "mlp.up": "linear1",
    "mlp.down": "linear2",
    "attention.out": "self_attn.out_proj",
}


def torch_layer(w, kind, dim, heads, hidden):
    """torch.nn's own layer, called with our leaves in the place of its parameters."""
    names = dict(NAMES)
    if kind is torch.nn.TransformerDecoderLayer:
        names.update({"norm_cross": "norm2", "norm2": "norm3"})
        names["cross.out"] = "multihead_attn.out_proj"
    layer = kind(
        dim, heads, hidden, dropout=0.0, activation=gelu, batch_first=True, norm_first=True
    )
    state = {
        f"{its}.{end}": w[f"{mine}.{end}"]
        for mine, its in names.items()
        for end in ("weight", "bias")
    }
    for mine, its in (("attention", "self_attn"), ("cross", "multihead_attn")):
        if f"{mine}.query.weight" in w:
            for end in ("weight", "bias"):
                parts = [w[f"{mine}.{part}.{end}"] for part in ("query", "key", "value")]
                state[f"{its}.in_proj_{end}"] = torch.cat(parts)
    assert sorted(state) == sorted(layer.state_dict())
    return lambda *inputs, **options: torch.func.functional_call(layer, state, inputs, options)


@pytest.mark.parametrize("dim, heads, hidden", [(4, 1, 6), (6, 3, 8), (8, 2, 32)])
@pytest.mark.parametrize("lengths", [None, (5, 3)])
def test_encoder_block_is_torchs_encoder_layer(dim, heads, hidden, lengths):
    module = filled(EncoderBlock(dim, heads, hidden))
    mask = None if lengths is None else padding_mask(lengths, 5)
    hide = None if lengths is None else torch.tensor(~mask[:, 0, 0])
    compare_modules(
        module,
        lambda w, x: torch_layer(w, torch.nn.TransformerEncoderLayer, dim, heads, hidden)(
            x, src_key_padding_mask=hide
        ),
        drawn((2, 5, dim)),
        mine=lambda x: module(x, mask),
        **DEEP,
    )


@pytest.mark.parametrize("dim, heads, hidden", [(4, 1, 6), (6, 3, 8), (8, 2, 32)])
@pytest.mark.parametrize("lengths", [None, (7, 2)])
def test_decoder_block_is_torchs_decoder_layer(dim, heads, hidden, lengths):
    module = filled(DecoderBlock(dim, heads, hidden, cross=True))
    mask = None if lengths is None else padding_mask(lengths, 7)
    hide = None if lengths is None else torch.tensor(~mask[:, 0, 0])
    future = torch.tensor(~causal_mask(4))
    compare_modules(
        module,
        lambda w, x, memory: torch_layer(w, torch.nn.TransformerDecoderLayer, dim, heads, hidden)(
            x, memory, tgt_mask=future, memory_key_padding_mask=hide
        ),
        drawn((2, 4, dim), (2, 7, dim)),
        mine=lambda x, memory: module(x, memory, mask),
        **DEEP,
    )


@pytest.mark.parametrize("kv_heads", [None, 2, 1])
def test_llama_block(kv_heads):
    config = GPTConfig.llama(9, 8, dim=16, heads=4, layers=1, kv_heads=kv_heads)
    model = filled(GPT(config))
    module = model.blocks[0]
    assert isinstance(module, GPTBlock)
    compare_modules(
        module,
        lambda w, x: block(w, "", x, config),
        drawn((2, 6, 16)),
        mine=lambda x: module(x, causal_mask(6)),
        **DEEP,
    )


# Whole models

CONFIGS = {
    "gpt2": GPTConfig(17, 8, dim=8, heads=2, layers=2),
    "gpt2 not tied": GPTConfig(17, 8, dim=8, heads=2, layers=2, tie_weights=False),
    "llama": GPTConfig.llama(17, 8, dim=16, heads=4, layers=2, kv_heads=2, tie_weights=False),
    "llama tied": GPTConfig.llama(17, 8, dim=16, heads=2, layers=1),
    "waves, rms, no bias": GPTConfig(
        17, 8, dim=12, heads=3, layers=2, positions="sinusoidal", norm="rms", bias=False
    ),
    "rotary, gelu": GPTConfig(17, 8, dim=8, heads=2, layers=1, positions="rotary", hidden=10),
}


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("length", [8, 3])
def test_one_training_step_of_a_gpt(name, length):
    """Logits, loss, every gradient, and every parameter after one step of AdamW."""
    config = CONFIGS[name]
    model = filled(GPT(config))
    w = weights(model)
    ids = np.random.default_rng(length).integers(0, 17, (3, length + 1))
    inputs, targets = ids[:, :-1], ids[:, 1:]

    logits = model(inputs)
    loss = CrossEntropyLoss()(logits.reshape(-1, 17), targets.reshape(-1))
    loss.backward()
    wanted = gpt(w, torch.tensor(inputs), config)
    its_loss = F.cross_entropy(wanted.flatten(0, 1), torch.tensor(targets).flatten())
    its_loss.backward()

    assert_close("logits", logits.data, wanted.detach(), **DEEP)
    assert_close("loss", loss.data, its_loss.detach(), rtol=1e-5)
    assert (w["head.weight"] is w["embedding.weight"]) == config.tie_weights
    for key, parameter in model.named_parameters():
        assert_close(f"gradient of {key}", parameter.grad, w[key].grad, rtol=1e-3, atol=2e-5)

    # Adam's first step is lr * g / (|g| + eps): where g is rounding noise (keys' biases move no
    # softmax) its sign is noise as well, so both steps start from the same gradients.
    names = [key for key, _ in model.named_parameters()]
    for key, parameter in model.named_parameters():
        w[key].grad = torch.tensor(parameter.grad.copy())
    torch.optim.AdamW([w[key] for key in names], lr=1e-2, weight_decay=0.1).step()
    AdamW(model.parameters(), lr=1e-2, weight_decay=0.1).step()
    for key, parameter in model.named_parameters():
        assert_close(f"{key} after the step", parameter.data, w[key].detach(), rtol=1e-5, atol=1e-6)


def test_ten_steps_of_training_follow_torchs_loss():
    config = CONFIGS["gpt2"]
    manual_seed(0)
    model = GPT(config)
    w = weights(model)
    optimizer = AdamW(model.parameters(), lr=1e-2)
    its_optimizer = torch.optim.AdamW([w[key] for key, _ in model.named_parameters()], lr=1e-2)
    ids = np.random.default_rng(5).integers(0, 17, (4, 9))
    for _ in range(10):
        optimizer.zero_grad()
        its_optimizer.zero_grad()
        loss = CrossEntropyLoss()(model(ids[:, :-1]).reshape(-1, 17), ids[:, 1:].reshape(-1))
        logits = gpt(w, torch.tensor(ids[:, :-1]), config)
        its_loss = F.cross_entropy(logits.flatten(0, 1), torch.tensor(ids[:, 1:]).flatten())
        assert loss.item() == pytest.approx(its_loss.item(), rel=1e-3)
        loss.backward()
        its_loss.backward()
        optimizer.step()
        its_optimizer.step()


def test_encoder_decoder_is_built_of_torchs_layers():
    model = filled(Transformer(9, 11, dim=8, heads=2, layers=2, max_length=8, hidden=12))
    w = weights(model)
    rng = np.random.default_rng(0)
    source, target = rng.integers(0, 9, (2, 6)), rng.integers(0, 11, (2, 5))
    mask = padding_mask([6, 4], 6)
    hide = torch.tensor(~mask[:, 0, 0])

    def part(at):
        return {key.removeprefix(at): leaf for key, leaf in w.items() if key.startswith(at)}

    memory = w["source.weight"][source] * math.sqrt(8) + w["positions.table"][:6]
    for number in range(2):
        leaves = part(f"encoder.{number}.")
        layer = torch_layer(leaves, torch.nn.TransformerEncoderLayer, 8, 2, 12)
        memory = layer(memory, src_key_padding_mask=hide)
    memory = norm(w, "norm_source", memory)
    x = w["target.weight"][target] * math.sqrt(8) + w["positions.table"][:5]
    for number in range(2):
        leaves = part(f"decoder.{number}.")
        layer = torch_layer(leaves, torch.nn.TransformerDecoderLayer, 8, 2, 12)
        future = torch.tensor(~causal_mask(5))
        x = layer(x, memory, tgt_mask=future, memory_key_padding_mask=hide)
    wanted = linear(w, "head", norm(w, "norm_target", x))

    got = model(source, target, mask)
    assert_close("logits", got.data, wanted.detach(), **DEEP)
    g = rng.standard_normal(got.shape).astype(np.float32)
    got.backward(g)
    wanted.backward(torch.from_numpy(g))
    for name, parameter in model.named_parameters():
        assert_close(f"gradient of {name}", parameter.grad, w[name].grad, rtol=1e-3, atol=1e-3)


# Sampling


def torch_candidates(logits, temperature, top_k, top_p):
    """All words' probabilities after the cuts, 0 where cut: by thresholds, nothing sorted."""
    x = torch.tensor(logits, dtype=torch.float64) / temperature
    if top_k is not None:
        x[x < x.topk(min(top_k, len(x))).values[-1]] = -torch.inf
    shares = x.softmax(0)
    if top_p is not None:
        likelier = (shares[None, :] * (shares[None, :] > shares[:, None])).sum(1)
        x[likelier >= top_p] = -torch.inf  # enough is held by words that are likelier
    return x.softmax(0).numpy()


@pytest.mark.parametrize("temperature", [0.2, 1.0, 3.0])
@pytest.mark.parametrize("top_k", [None, 1, 6, 99])
@pytest.mark.parametrize("top_p", [None, 0.1, 0.8, 1.0])
def test_candidates(temperature, top_k, top_p):
    logits = np.random.default_rng(11).normal(size=30).astype(np.float32) * 2
    tokens, shares = candidates(logits, temperature, top_k, top_p)
    got = np.zeros(30)
    got[tokens] = shares
    np.testing.assert_allclose(
        got, torch_candidates(logits, temperature, top_k, top_p), rtol=1e-7, atol=1e-12
    )
