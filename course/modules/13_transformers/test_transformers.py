"""Hidden variants of module 13: other sizes and seeds, a whole GPT computed by NumPy alone."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from tinytorch.core.autograd import check_grads, is_grad_enabled
from tinytorch.core.layers import Module
from tinytorch.core.losses import CrossEntropyLoss
from tinytorch.core.optimizers import AdamW
from tinytorch.core.tensor import Tensor, default_generator, manual_seed
from tinytorch.nn.attention import MultiHeadAttention, padding_mask
from tinytorch.nn.transformer import (
    GPT,
    MLP,
    Block,
    DecoderBlock,
    EncoderBlock,
    GPTConfig,
    LayerNorm,
    RMSNorm,
    SwiGLU,
    Transformer,
    candidates,
    choose,
    generate,
    keep_top_k,
    keep_top_p,
    layer_norm,
    parameter_count,
    rms_norm,
    with_temperature,
)

# What the paper says, in float64 and NumPy


def np_layer_norm(x, weight, bias, eps=1e-5):
    mean, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / np.sqrt(var + eps) * weight + bias


def np_rms_norm(x, weight, eps=1e-6):
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + eps) * weight


def np_gelu(x):
    return x * 0.5 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def np_silu(x):
    return x / (1 + np.exp(-x))


def np_softmax(x):
    powers = np.exp(x - x.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def np_linear(w, name, x):
    return x @ w[f"{name}.weight"].T + w.get(f"{name}.bias", 0.0)


def np_norm(w, name, x):
    if f"{name}.bias" in w:
        return np_layer_norm(x, w[f"{name}.weight"], w[f"{name}.bias"])
    return np_rms_norm(x, w[f"{name}.weight"])


def np_turned(x, base=10000.0):
    """x (T, D): the pair (i, i + D/2) at place t turned by t / base**(2i / D), as complex numbers."""
    half = x.shape[-1] // 2
    pairs = x[:, :half] + 1j * x[:, half:]
    angles = np.outer(np.arange(len(x)), base ** (-np.arange(half) / half))
    pairs = pairs * np.exp(1j * angles)
    return np.concatenate([pairs.real, pairs.imag], axis=-1)


def np_attention(w, name, x, context, heads, kv_heads, mask, rotary=False):
    """One text, head by head: x (T, D), context (S, D), mask (T, S)."""
    q, k, v = (
        np_linear(w, f"{name}.{part}", source)
        for part, source in (("query", x), ("key", context), ("value", context))
    )
    size, answers = q.shape[-1] // heads, []
    for h in range(heads):
        mine = slice(h * size, (h + 1) * size)
        group = h // (heads // kv_heads)
        theirs = slice(group * size, (group + 1) * size)
        qh, kh = q[:, mine], k[:, theirs]
        if rotary:
            qh, kh = np_turned(qh), np_turned(kh)
        scores = np.where(mask, qh @ kh.T / math.sqrt(size), -np.inf)
        answers.append(np_softmax(scores) @ v[:, theirs])
    return np_linear(w, f"{name}.out", np.concatenate(answers, axis=-1))


def np_mlp(w, name, x):
    if f"{name}.gate.weight" in w:
        gate = np_silu(np_linear(w, f"{name}.gate", x))
        return np_linear(w, f"{name}.down", gate * np_linear(w, f"{name}.up", x))
    return np_linear(w, f"{name}.down", np_gelu(np_linear(w, f"{name}.up", x)))


def np_gpt(w, config, text):
    x = w["embedding.weight"][text]
    if config.positions == "learned":
        x = x + w["positions.weight"][: len(text)]
    if config.positions == "sinusoidal":
        x = x + w["positions.table"][: len(text)]
    kv_heads = config.kv_heads or config.heads
    mask, rotary = np.tri(len(text), dtype=bool), config.positions == "rotary"
    for n in range(config.layers):
        at = f"blocks.{n}."
        normed = np_norm(w, at + "norm1", x)
        seen = np_attention(
            w, at + "attention", normed, normed, config.heads, kv_heads, mask, rotary
        )
        x = x + seen
        x = x + np_mlp(w, at + "mlp", np_norm(w, at + "norm2", x))
    return np_norm(w, "norm", x) @ w["head.weight"].T


def numbers(module, seed=0, size=0.3):
    """All tensors of the module filled anew (norms near 1 too), and its state in float64."""
    rng = np.random.default_rng(seed)
    for name, tensor in module.named_tensors():
        if not name.endswith("table"):
            tensor.data[...] = rng.normal(size=tensor.shape) * size
            if "norm" in name and name.endswith("weight"):
                tensor.data[...] += 1
    return {name: array.astype(np.float64) for name, array in module.state_dict().items()}


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


# Norms


@pytest.mark.parametrize("shape", [(4,), (3, 5), (2, 3, 7), (2, 1, 3, 1)])
@pytest.mark.parametrize("eps", [1e-5, 1e-2])
def test_norms_of_every_shape(shape, eps):
    x, weight, bias = normal(*shape) * 3 + 2, normal(shape[-1], seed=1), normal(shape[-1], seed=2)
    got = layer_norm(Tensor(x), Tensor(weight), Tensor(bias), eps=eps).data
    np.testing.assert_allclose(got, np_layer_norm(x, weight, bias, eps), rtol=1e-4, atol=1e-5)
    got = rms_norm(Tensor(x), Tensor(weight), eps=eps).data
    np.testing.assert_allclose(got, np_rms_norm(x, weight, eps), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(3,), (2, 4), (2, 2, 3)])
def test_gradients_of_norms_for_all_operands(shape):
    x, weight, bias = (
        Tensor(normal(*s, seed=i)) for i, s in enumerate((shape, shape[-1:], shape[-1:]))
    )
    assert check_grads(lambda x, w, b: layer_norm(x, w, b, eps=1e-3), x, weight, bias)
    assert check_grads(lambda x, w: rms_norm(x, w, eps=1e-3), x, weight)


def test_layer_norm_ignores_shift_and_size_and_rms_norm_size_only():
    x = normal(3, 16).astype(np.float32)
    layer, rms = LayerNorm(16), RMSNorm(16)
    np.testing.assert_allclose(layer(Tensor(5 * x + 3)).data, layer(Tensor(x)).data, atol=1e-4)
    np.testing.assert_allclose(rms(Tensor(5 * x)).data, rms(Tensor(x)).data, atol=1e-4)
    assert not np.allclose(rms(Tensor(x + 3)).data, rms(Tensor(x)).data, atol=1e-2)


def test_layer_norm_far_from_zero_keeps_its_digits():
    x = np.array([[1000.25, 1000.5, 1000.75, 1001.0]], dtype=np.float32)
    want = np_layer_norm(x.astype(np.float64), 1, 0)
    np.testing.assert_allclose(LayerNorm(4)(Tensor(x)).data, want, atol=1e-3)


# Mlps and blocks


@pytest.mark.parametrize("dim, hidden, bias", [(3, 7, True), (4, 2, False)])
def test_mlp_by_numpy(dim, hidden, bias):
    mlp, x = MLP(dim, hidden, bias=bias), normal(2, 5, dim)
    w = {f"m.{k}": v for k, v in numbers(mlp).items()}
    np.testing.assert_allclose(mlp(Tensor(x)).data, np_mlp(w, "m", x), rtol=1e-4, atol=1e-5)
    assert check_grads(mlp, Tensor(x[:1, :2]))


def test_swiglu_by_numpy():
    swiglu, x = SwiGLU(3, 5), normal(2, 4, 3)
    w = {f"m.{k}": v for k, v in numbers(swiglu).items()}
    np.testing.assert_allclose(swiglu(Tensor(x)).data, np_mlp(w, "m", x), rtol=1e-4, atol=1e-5)
    assert check_grads(swiglu, Tensor(x[:1, :2]))


def test_encoder_block_by_numpy_with_padding():
    block, x = EncoderBlock(6, 3, hidden=9), normal(2, 5, 6)
    w = {f"b.{k}": v for k, v in numbers(block).items()}
    got = block(Tensor(x), padding_mask([5, 3], 5)).data
    for text, length in enumerate((5, 3)):
        normed = np_norm(w, "b.norm1", x[text])
        mask = np.tile(np.arange(5) < length, (5, 1))
        want = x[text] + np_attention(w, "b.attention", normed, normed, 3, 3, mask)
        want = want + np_mlp(w, "b.mlp", np_norm(w, "b.norm2", want))
        np.testing.assert_allclose(got[text], want, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("cross", [False, True])
def test_decoder_block_by_numpy(cross):
    block, x, memory = (
        DecoderBlock(6, 2, hidden=8, cross=cross),
        normal(1, 4, 6),
        normal(1, 7, 6, seed=5),
    )
    w = {f"b.{k}": v for k, v in numbers(block).items()}
    mask = padding_mask([5], 7)
    got = block(Tensor(x), Tensor(memory), mask) if cross else block(Tensor(x))
    normed = np_norm(w, "b.norm1", x[0])
    want = x[0] + np_attention(w, "b.attention", normed, normed, 2, 2, np.tri(4, dtype=bool))
    if cross:
        asked = np_norm(w, "b.norm_cross", want)
        want = want + np_attention(w, "b.cross", asked, memory[0], 2, 2, mask[0, 0])
    want = want + np_mlp(w, "b.mlp", np_norm(w, "b.norm2", want))
    np.testing.assert_allclose(got.data[0], want, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("cross", [False, True])
def test_decoder_block_refuses_the_wrong_memory(cross):
    block, x = DecoderBlock(4, 2, cross=cross), Tensor(normal(1, 3, 4))
    with pytest.raises(ValueError, match="cross"):
        block(x) if cross else block(x, x)


def test_block_draws_dropout_in_training_only():
    manual_seed(1)
    block, x = EncoderBlock(8, 2, dropout=0.5), Tensor(normal(2, 3, 8))
    assert not np.allclose(block(x).data, block(x).data)
    block.eval()
    np.testing.assert_array_equal(block(x).data, block(x).data)


def test_block_with_a_dead_branch_is_the_road():
    block, x = Block(MultiHeadAttention(4, 2), MLP(4, 8)), Tensor(normal(1, 3, 4))
    for name, parameter in block.named_parameters():
        if name.startswith(("attention.out", "mlp.down")):
            parameter.data[...] = 0
    np.testing.assert_array_equal(block(x).data, x.data)


# Transformer


def test_transformer_does_not_see_padding_or_the_future():
    manual_seed(0)
    model = Transformer(11, 9, dim=8, heads=2, layers=2, max_length=10)
    numbers(model)
    source, target = (
        np.random.default_rng(1).integers(0, 11, (2, 6)),
        np.random.default_rng(2).integers(0, 9, (2, 5)),
    )
    mask = padding_mask([6, 4], 6)
    want = model(source, target, mask).data
    other = source.copy()
    other[1, 4:] = 0
    np.testing.assert_allclose(model(other, target, mask).data, want, atol=1e-5)
    assert not np.allclose(model(other, target).data[1], want[1], atol=1e-4)
    later = target.copy()
    later[:, 3:] = 0
    np.testing.assert_allclose(model(source, later, mask).data[:, :3], want[:, :3], atol=1e-5)


def test_transformer_scales_the_rows_of_its_tables():
    model = Transformer(5, 7, dim=16, heads=2, layers=1)
    stub = SimpleNamespace()

    class Seen(Module):
        def forward(self, x, *rest):
            stub.x = x.data
            return x

    model.decoder[0] = Seen()
    model.decode([[3, 6]], Tensor(normal(1, 2, 16)))
    want = model.target.weight.data[[3, 6]] * 4 + model.positions.table.data[:2]
    np.testing.assert_allclose(stub.x[0], want, rtol=1e-5)


@pytest.mark.parametrize(
    "source, target, word",
    [([1, 2], [[1]], "(2,)"), ([[1] * 9], [[1]], "9"), ([[1]], [[1] * 9], "9"), ([[]], [[1]], "0")],
)
def test_transformer_refuses_what_is_no_batch(source, target, word):
    with pytest.raises(ValueError) as error:
        Transformer(4, 4, dim=4, heads=1, layers=1, max_length=8)(source, target)
    assert word in str(error.value)


# GPT

CONFIGS = {
    "gpt2": GPTConfig(13, 9, dim=8, heads=2, layers=2),
    "llama": GPTConfig.llama(13, 9, dim=16, heads=4, layers=2, kv_heads=2, tie_weights=False),
    "waves": GPTConfig(
        13, 9, dim=6, heads=3, layers=1, positions="sinusoidal", bias=False, hidden=5
    ),
    "mixed": GPTConfig(13, 9, dim=8, heads=2, layers=3, norm="rms", mlp="swiglu", hidden=6),
    "one head": GPTConfig(13, 9, dim=4, heads=1, layers=1, positions="rotary", tie_weights=False),
}


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("length", [1, 5, 9])
def test_gpt_by_numpy(name, length):
    config = CONFIGS[name]
    model = GPT(config)
    w = numbers(model, seed=length)
    w["head.weight"] = model.head.weight.data.astype(np.float64)
    w["embedding.weight"] = model.embedding.weight.data.astype(np.float64)
    texts = np.random.default_rng(length).integers(0, 13, (2, length))
    got = model(texts).data
    assert got.shape == (2, length, 13) and got.dtype == np.float32
    for text in range(2):
        want = np_gpt(w, config, texts[text])
        np.testing.assert_allclose(got[text], want, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("name", CONFIGS)
def test_every_parameter_is_counted_and_learns(name):
    manual_seed(3)
    model = GPT(CONFIGS[name])
    assert parameter_count(CONFIGS[name]) == sum(p.size for p in model.parameters())
    ids = np.random.default_rng(0).integers(0, 13, (4, 9))
    optimizer, losses = AdamW(model.parameters(), lr=0.02), []
    for _ in range(25):
        optimizer.zero_grad()
        loss = CrossEntropyLoss()(model(ids[:, :-1]).reshape(-1, 13), ids[:, 1:].reshape(-1))
        loss.backward()
        assert all(p.grad is not None for p in model.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(math.log(13), rel=0.05) and losses[-1] < 0.7 * losses[0]


def test_published_sizes():
    def llama(*sizes, **options):
        return parameter_count(GPTConfig.llama(*sizes, tie_weights=False, **options))

    sizes = [(768, 12, 12), (1024, 16, 24), (1280, 20, 36), (1600, 25, 48)]
    counts = [
        parameter_count(GPTConfig(50257, 1024, dim=d, heads=h, layers=n)) for d, h, n in sizes
    ]
    assert counts == [124_439_808, 354_823_168, 774_030_080, 1_557_611_200]
    assert llama(32000, 4096, 4096, heads=32, layers=32, hidden=11008) == 6_738_415_616
    assert llama(128256, 8192, 4096, heads=32, layers=32, hidden=14336, kv_heads=8) == 8_030_261_248


def test_weights_start_as_gpt2_says():
    manual_seed(0)
    model = GPT(GPTConfig(300, 100, dim=64, heads=4, layers=3, tie_weights=False))
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2:
            writes = name.endswith(("out.weight", "down.weight"))
            spread = 0.02 / math.sqrt(6) if writes else 0.02
            assert parameter.data.std() == pytest.approx(spread, rel=0.08), name
            assert abs(parameter.data.mean()) < 0.1 * spread, name
        else:
            assert np.all(parameter.data == (0 if name.endswith("bias") else 1)), name


def test_tied_weights_stay_one_through_training_saving_and_loading():
    model, other = GPT(CONFIGS["gpt2"]), GPT(CONFIGS["gpt2"])
    optimizer = AdamW(model.parameters(), lr=0.1)
    assert sum(p is model.embedding.weight for p in optimizer.params) == 1
    CrossEntropyLoss()(model([[1, 2]]).reshape(-1, 13), [2, 3]).backward()
    optimizer.step()
    assert model.head.weight is model.embedding.weight
    other.load_state_dict(model.state_dict())
    np.testing.assert_array_equal(other([[1, 2, 3]]).data, model([[1, 2, 3]]).data)
    assert other.head.weight is other.embedding.weight


@pytest.mark.parametrize(
    "tokens, words",
    [
        ([1, 2, 3], ["(3,)", "[tokens]"]),
        ([[[1]]], ["(1, 1, 1)"]),
        ([[1] * 10], ["10", "context of 9"]),
        (np.zeros((2, 0), dtype=int), ["(2, 0)"]),
        (Tensor([1.0, 2.0]), ["(2,)"]),
    ],
)
def test_gpt_says_what_is_wrong_with_its_tokens(tokens, words):
    with pytest.raises(ValueError) as error:
        GPT(CONFIGS["gpt2"])(tokens)
    assert all(word in str(error.value) for word in words), error.value


def test_gpt_names_a_token_that_is_not_in_the_vocabulary():
    with pytest.raises(IndexError, match="13"):
        GPT(CONFIGS["gpt2"])([[1, 13]])


@pytest.mark.parametrize(
    "change, words",
    [
        ({"positions": "rotery"}, ["rotery", "'rotary'"]),
        ({"norm": "RMSNorm"}, ["RMSNorm", "layer, rms"]),
        ({"mlp": "swigl"}, ["'swiglu'"]),
        ({"dim": 10, "heads": 4}, ["dim=10", "heads=4"]),
        ({"heads": 4, "kv_heads": 3}, ["kv_heads=3"]),
        ({"positions": "rotary", "dim": 6, "heads": 2}, ["3 wide", "even"]),
        ({"layers": 0}, ["layers=0"]),
        ({"vocab_size": -1}, ["vocab_size=-1"]),
        ({"hidden": 0}, ["hidden_size=0"]),
    ],
)
def test_configuration_refuses_what_cannot_be_built(change, words):
    with pytest.raises(ValueError) as error:
        GPTConfig(**{"vocab_size": 5, "context": 4, "dim": 8, **change})
    assert all(word in str(error.value) for word in words), error.value


# Sampling


def brute_candidates(logits, temperature, top_k, top_p):
    """The distribution, word by word, in exact steps of a list."""
    shares = np_softmax(logits.astype(np.float64) / temperature)
    ranked = sorted(range(len(shares)), key=lambda i: (-logits[i], i))
    if top_k is not None:
        ranked = ranked[:top_k]
        total = sum(shares[i] for i in ranked)
        shares = shares / total
    if top_p is not None:
        kept, total = [], 0.0
        for i in ranked:
            if total >= top_p:
                break
            kept.append(i)
            total += shares[i]
        ranked = kept
    total = sum(shares[i] for i in ranked)
    return ranked, [shares[i] / total for i in ranked]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
@pytest.mark.parametrize(
    "top_k, top_p", [(None, None), (5, None), (None, 0.6), (7, 0.35), (1, 1.0)]
)
def test_candidates_by_brute_force(seed, temperature, top_k, top_p):
    logits = (normal(40, seed=seed) * 3).astype(np.float32)
    tokens, shares = candidates(logits, temperature, top_k, top_p)
    want_tokens, want_shares = brute_candidates(logits, temperature, top_k, top_p)
    assert tokens.tolist() == want_tokens
    np.testing.assert_allclose(shares, want_shares, rtol=1e-9)
    assert shares.dtype == np.float64 and shares.sum() == pytest.approx(1, abs=1e-12)


def test_choose_draws_in_proportion():
    logits, generator = np.log([0.5, 0.1, 0.4]), np.random.default_rng(0)
    drawn = np.bincount([choose(logits, generator) for _ in range(4000)], minlength=3) / 4000
    np.testing.assert_allclose(drawn, [0.5, 0.1, 0.4], atol=0.03)
    only = {choose(logits, generator, top_k=2) for _ in range(300)}
    assert only == {0, 2}


@pytest.mark.parametrize("size", [1000.0, 1e30])
def test_temperature_survives_large_logits(size):
    shares = with_temperature(np.array([size, 0.0, -size], dtype=np.float32), 1e-3)
    np.testing.assert_array_equal(shares, [1, 0, 0])


def test_cuts_do_not_change_what_they_are_given():
    shares = np.array([0.6, 0.3, 0.1])
    shares.flags.writeable = False
    assert len(keep_top_k(shares, 2)) == 2 and len(keep_top_p(shares, 0.65)) == 2
    np.testing.assert_array_equal(candidates(np.array([1.0, 3.0]), temperature=0)[0], [1])


@pytest.mark.parametrize("logits", [np.zeros((1, 4)), Tensor([1.0, 2.0]), [1.0, 2.0]])
def test_candidates_wants_one_row(logits):
    with pytest.raises(ValueError, match="one row"):
        candidates(logits)


@pytest.mark.parametrize(
    "knobs",
    [
        {"temperature": -1.0},
        {"temperature": math.nan},
        {"top_k": 0},
        {"top_p": 0.0},
        {"top_p": 1.5},
    ],
)
def test_impossible_knobs_are_named(knobs):
    with pytest.raises(ValueError, match=next(iter(knobs))):
        generate(GPT(CONFIGS["gpt2"]), [1], 1, **knobs)


# Generate


class Script(Module):
    """Says words 0, 1, 2, ... of its script, one per call, with certainty."""

    def __init__(self, *script, context=5):
        self.config, self.script, self.seen = SimpleNamespace(context=context), script, []

    def forward(self, tokens):
        self.seen.append((np.asarray(tokens).tolist(), self.training, is_grad_enabled()))
        logits = np.full((1, len(tokens[0]), 12), -50.0)
        logits[0, -1, self.script[len(self.seen) - 1]] = 50.0
        return Tensor(logits)


def test_generate_shows_the_model_the_last_context_tokens():
    model = Script(*range(7), context=3)
    assert generate(model, [11, 10], 7) == [11, 10, 0, 1, 2, 3, 4, 5, 6]
    shown = [tokens for tokens, _, _ in model.seen]
    assert shown[0] == [[11, 10]] and shown[-1] == [[3, 4, 5]]
    assert {(training, grad) for _, training, grad in model.seen} == {(False, False)}
    assert model.training and is_grad_enabled()


@pytest.mark.parametrize("stop", [(4,), [9, 4], {4}, iter([4])])
def test_generate_stops_after_any_stop_token(stop):
    assert generate(Script(3, 4, 5), [4], 3, stop_tokens=stop) == [4, 3, 4]


def test_generate_of_a_real_model_is_repeated_by_its_seed_alone():
    manual_seed(0)
    model = GPT(GPTConfig(30, 6, dim=8, heads=2, layers=1, dropout=0.3))
    prompt, before = [1, 2, 3], default_generator.bit_generator.state
    texts = [generate(model, prompt, 20, temperature=2.0, seed=s) for s in (4, 4, 5)]
    assert texts[0] == texts[1] != texts[2] and prompt == [1, 2, 3]
    assert default_generator.bit_generator.state == before
    assert all(type(token) is int for token in texts[0])
    greedy = [generate(model, Tensor(prompt), 8, temperature=0, seed=s) for s in (None, 1)]
    assert greedy[0] == greedy[1] == generate(model, np.array(prompt), 8, top_k=1)


@pytest.mark.parametrize("error", [KeyboardInterrupt, IndexError])
@pytest.mark.parametrize("mode", [True, False])
def test_generate_restores_the_mode_whatever_happens(error, mode):
    class Interrupted(Script):
        def forward(self, tokens):
            raise error

    model = Interrupted().train(mode)
    with pytest.raises(error):
        generate(model, [1], 3)
    assert model.training is mode and is_grad_enabled()


@pytest.mark.parametrize(
    "prompt, error, word",
    [
        ([], ValueError, "empty"),
        ([[1, 2]], ValueError, "(1, 2)"),
        ("hello", TypeError, "Encode"),
        (3, ValueError, "one list"),
    ],
)
def test_generate_says_what_is_wrong_with_the_prompt(prompt, error, word):
    with pytest.raises(error) as raised:
        generate(Script(1), prompt, 1)
    assert word in str(raised.value)
