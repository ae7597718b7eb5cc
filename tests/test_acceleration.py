"""Module 18 against PyTorch and against the clear kernels: values, gradients, states, switches."""

import os
import subprocess
import sys
from copy import deepcopy
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import tinytorch.core.acceleration as fast
import torch
import torch.nn.functional as F
from tinytorch.core.activations import ReLU
from tinytorch.core.autograd import check_grads, topological_sort
from tinytorch.core.layers import Dropout, Flatten, Linear, Sequential
from tinytorch.core.losses import CrossEntropyLoss
from tinytorch.core.optimizers import SGD, Adam, AdamW
from tinytorch.core.tensor import Tensor, manual_seed
from tinytorch.core.training import clip_grad_norm_
from tinytorch.nn import conv, kvcache, transformer
from tinytorch.nn.attention import MultiHeadAttention, causal_mask
from tinytorch.nn.conv import BatchNorm2d, Conv2d, MaxPool2d
from tinytorch.nn.embedding import Embedding
from tinytorch.nn.transformer import GPT, MLP, GPTConfig, LayerNorm

from tito import probes

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True, params=[1, 2], ids=["1 thread", "2 threads"])
def threads(request):
    """Everything here runs with a crew of one and of two."""
    with fast.accelerated(request.param):
        yield request.param


def random(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def both(ours, theirs, *arrays, rtol=1e-4, atol=1e-5):
    """Value and all gradients of the same function on Tensors of both libraries."""
    mine = [Tensor(a, requires_grad=True) for a in arrays]
    their = [torch.tensor(a, requires_grad=True) for a in arrays]
    a, b = ours(*mine), theirs(*their)
    assert a.data.dtype == np.float32 and a.shape == tuple(b.shape)
    close = {"rtol": rtol, "atol": atol}
    np.testing.assert_allclose(a.data, b.detach().numpy(), **close)
    g = random(*a.shape, seed=99)
    a.backward(g)
    b.backward(torch.tensor(g))
    for x, y in zip(mine, their, strict=True):
        np.testing.assert_allclose(x.grad, y.grad.numpy(), **close)


CONV = list(
    product((1, 2, 3), (0, 1, 2), (1, 2, 3, 5), [(7, 7), (8, 5)], [(1, 1), (3, 4), (16, 17)])
)


@pytest.mark.parametrize("stride, padding, k, size, channels", CONV)
def test_convolution(stride, padding, k, size, channels):
    c, o = channels

    def run(lib):
        return lambda x, w, b: lib.conv2d(x, w, b, stride=stride, padding=padding)

    arrays = random(5, c, *size), random(o, c, k, k, seed=1), random(o, seed=2)
    both(run(conv), run(F), *arrays, rtol=1e-3, atol=3e-4)


@pytest.mark.parametrize("side", [2, 3, 4, 5, 6, 8, 11, 16, 33])
def test_winograd_is_used_and_right_for_every_remainder(side, monkeypatch):
    calls, real = [], fast.winograd_forward
    monkeypatch.setattr(fast, "winograd_forward", lambda *a: calls.append(1) or real(*a))
    arrays = random(3, 16, side, side + 1), random(20, 16, 3, 3, seed=1)
    both(
        lambda x, w: conv.conv2d(x, w, None, padding=1),
        lambda x, w: F.conv2d(x, w, padding=1),
        *arrays, rtol=1e-3, atol=1e-3,
    )  # fmt: skip
    assert len(calls) == 2


@pytest.mark.parametrize("channels", [16, 64, 256])
@pytest.mark.parametrize("form, limit", [(fast.F2, 1e-6), (fast.F4, 2e-5)], ids=["F2", "F4"])
def test_error_of_winograd_is_bounded(channels, form, limit):
    """Relative to the largest result in float64: below 1e-6 for F(2x2), 2e-5 for F(4x4)."""
    x, w = random(4, channels, 16, 16), random(channels, channels, 3, 3, seed=1)
    exact = F.conv2d(torch.tensor(x).double(), torch.tensor(w).double(), padding=1).numpy()
    last = fast.channels_last(x)
    got = fast.channels_first(fast.winograd_forward(last, w, None, 1, form))
    assert np.abs(got - exact).max() / np.abs(exact).max() < limit
    g = random(*exact.shape, seed=2)
    tx, tw = torch.tensor(x).double(), torch.tensor(w).double().requires_grad_()
    F.conv2d(tx, tw, padding=1).backward(torch.tensor(g).double())
    got = fast.winograd_weight(fast.channels_last(g), last, 1, form)
    assert np.abs(got - tw.grad.numpy()).max() / np.abs(tw.grad.numpy()).max() < 3 * limit


@pytest.mark.parametrize("shape", [(2, 3, 8, 8), (5, 1, 7, 9), (1, 2, 2, 3)])
@pytest.mark.parametrize("ties", [False, True])
def test_max_pool_with_ties(shape, ties):
    x = random(*shape)
    x = np.round(x).clip(-1, 1) if ties else x
    layer = MaxPool2d(2)
    both(lambda x: layer(x), lambda x: F.max_pool2d(x, 2), x)
    if min(shape[2:]) > 2:
        other = MaxPool2d(3, 2, 1)
        both(lambda x: other(x), lambda x: F.max_pool2d(x, 3, 2, 1), x)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("offset", [0.0, 1000.0])
@pytest.mark.parametrize("shape", [(4, 3, 5, 6), (64, 16, 16, 16), (2, 5, 1, 1)])
def test_batch_norm(training, offset, shape):
    mine, their = BatchNorm2d(shape[1]), torch.nn.BatchNorm2d(shape[1])
    weight, bias = random(shape[1], seed=1), random(shape[1], seed=2)
    mine.weight.data[...], mine.bias.data[...] = weight, bias
    with torch.no_grad():
        their.weight.copy_(torch.tensor(weight))
        their.bias.copy_(torch.tensor(bias))
    mine.train(training)
    their.train(training)
    rough = (
        {"rtol": 1e-3, "atol": 1e-3} if offset or shape[0] == 2 else {"rtol": 1e-3, "atol": 3e-5}
    )
    both(mine, their, random(*shape) + np.float32(offset), **rough)
    np.testing.assert_allclose(
        mine.running_mean.data, their.running_mean.numpy(), rtol=1e-4, atol=1e-6
    )
    np.testing.assert_allclose(mine.running_var.data, their.running_var.numpy(), rtol=1e-3)
    for name in ("weight", "bias"):
        a, b = getattr(mine, name).grad, getattr(their, name).grad.numpy()
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=2e-3 * np.abs(b).max() if offset else 1e-3)


@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 128), (900, 96)])
@pytest.mark.parametrize("scale, offset", [(1, 0), (3, 50)])
def test_layer_norm(shape, scale, offset):
    d = shape[-1]
    both(
        lambda x, w, b: transformer.layer_norm(x, w, b),
        lambda x, w, b: F.layer_norm(x, (d,), w, b),
        scale * random(*shape) + np.float32(offset), random(d, seed=1), random(d, seed=2),
        rtol=2e-3, atol=1e-3 if offset else 1e-4,
    )  # fmt: skip


@pytest.mark.parametrize("shape", [(5, 6), (2, 3, 6), (2000, 6), (1, 6)])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("bend", ["", "relu"])
def test_linear_with_bias_and_activation(shape, bias, bend):
    def ours(x, *p):
        layer = Linear(6, 700)
        layer.weight, layer.bias = p[0], (p[1] if bias else None)
        return Sequential(layer, ReLU())(x) if bend else layer(x)

    def theirs(x, *p):
        y = F.linear(x, *p)
        return F.relu(y) if bend else y

    params = [random(700, 6, seed=1)] + [random(700, seed=2)] * bias
    both(ours, theirs, random(*shape), *params, rtol=1e-3, atol=2e-4)


@pytest.mark.parametrize("rows", [3, 16_000])
def test_mlp_with_gelu(rows):
    manual_seed(0)
    mlp = MLP(8, 33)

    def theirs(x):
        w = [torch.tensor(p.data) for p in mlp.parameters()]
        return F.linear(F.gelu(F.linear(x, w[0], w[1]), approximate="tanh"), w[2], w[3])

    both(mlp, theirs, random(rows, 8) * 3)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("shape", [(1, 2), (64, 10), (500, 65)])
def test_cross_entropy(smoothing, shape):
    classes = np.random.default_rng(3).integers(0, shape[1], shape[0])
    ours = CrossEntropyLoss(label_smoothing=smoothing)
    theirs = torch.nn.CrossEntropyLoss(label_smoothing=smoothing)
    both(lambda z: ours(z, classes), lambda z: theirs(z, torch.tensor(classes)), random(*shape) * 5)


@pytest.mark.parametrize("tokens", [1, 5, 64, 65, 130])
@pytest.mark.parametrize("heads", [1, 4])
def test_causal_attention(tokens, heads):
    manual_seed(0)
    layer = MultiHeadAttention(16, heads)

    def theirs(x):
        w = [torch.tensor(p.data) for p in layer.parameters()]
        b, t, d = x.shape
        made = (F.linear(x, w[i], w[i + 1]) for i in (0, 2, 4))
        q, k, v = (a.view(b, t, heads, d // heads).transpose(1, 2) for a in made)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return F.linear(y.transpose(1, 2).reshape(b, t, d), w[6], w[7])

    both(lambda x: layer(x, mask=causal_mask(tokens)), theirs, random(3, tokens, 16), atol=1e-4)


@pytest.mark.parametrize("shape", [(7,), (3, 40), (2, 2, 2)])
def test_embedding_with_repeated_indices(shape):
    table, places = random(9, 5), np.random.default_rng(0).integers(0, 9, shape)

    def ours(weight):
        layer = Embedding(9, 5)
        layer.weight = weight
        return layer(places)

    both(ours, lambda w: F.embedding(torch.tensor(places), w), table)


# Against the clear kernels -----------------------------------------------------------------------


def cnn():
    return Sequential(
        Conv2d(3, 16, 3, padding=1, bias=False), BatchNorm2d(16), ReLU(), MaxPool2d(2),
        Conv2d(16, 20, 3, padding=1), ReLU(), Flatten(), Linear(20 * 25, 30), ReLU(), Linear(30, 4),
    )  # fmt: skip


def gpt(**options):
    return GPT(GPTConfig(17, 24, dim=32, heads=4, layers=2, **options))


def one_loss(model, step):
    rng = np.random.default_rng(step)
    if isinstance(model, GPT):
        tokens = rng.integers(0, 17, (3, 21))
        logits, target = model(tokens[:, :-1]), tokens[:, 1:]
    else:
        logits, target = model(Tensor(rng.standard_normal((6, 3, 11, 11)))), rng.integers(0, 4, 6)
    return CrossEntropyLoss(label_smoothing=0.1)(
        logits.reshape(-1, logits.shape[-1]), target.ravel()
    )


def train(model, driver, steps, clip=None, skip=None):
    """Losses of some steps; in step `skip` the first parameter gets no gradient."""
    found = []
    for step in range(*steps):
        driver.zero_grad()
        loss = one_loss(model, step)
        loss.backward()
        if clip:
            clip_grad_norm_(model.parameters(), clip)
        if step == skip:
            driver.params[0].grad = None
        driver.step()
        found.append(loss.item())
    return found


def made(build, optimizer):
    manual_seed(1)
    model = build()
    return model, optimizer(model.parameters())


OPTIMIZERS = {
    "SGD": lambda p: SGD(p, lr=0.05),
    "momentum": lambda p: SGD(p, lr=0.05, momentum=0.9, nesterov=True, weight_decay=5e-4),
    "Adam": lambda p: Adam(p, lr=1e-3, eps=1e-3, weight_decay=1e-2),
    "AdamW": lambda p: AdamW(p, lr=1e-3, eps=1e-3),
}
KINDS = {
    "cnn": cnn,
    "gpt": gpt,
    "untied": lambda: gpt(tie_weights=False, bias=False),
    "llama": lambda: GPT(GPTConfig.llama(17, 24, dim=32, heads=4, layers=2, kv_heads=2)),
}
CLOSE = {"rtol": 2e-3, "atol": 3e-4}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("kind", KINDS)
def test_training_follows_the_clear_one(kind, name, threads):
    clip, skip = 0.5, 3
    model, driver = made(KINDS[kind], OPTIMIZERS[name])
    losses = train(model, driver, (0, 3), clip)
    assert driver in fast.flats
    losses += train(model, driver, (3, 6), clip, skip)
    fast.disable_acceleration()
    other, other_driver = made(KINDS[kind], OPTIMIZERS[name])
    np.testing.assert_allclose(train(other, other_driver, (0, 6), clip, skip), losses, rtol=1e-4)
    for (_, a), (_, b) in zip(model.named_tensors(), other.named_tensors(), strict=True):
        np.testing.assert_allclose(a.data, b.data, **CLOSE)
    assert driver.memory_footprint() == other_driver.memory_footprint()
    for place, state in other_driver.state.items():
        assert state.keys() == driver.state[place].keys()
        assert state.get("step") == driver.state[place].get("step")


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_checkpoint_resumes_exactly(name):
    model, driver = made(cnn, OPTIMIZERS[name])
    train(model, driver, (0, 3))
    weights, state = model.state_dict(), deepcopy(driver.state_dict())
    wanted = train(model, driver, (3, 6))
    again, resumed = made(cnn, OPTIMIZERS[name])
    train(again, resumed, (9, 12))  # flat already, on other numbers
    again.load_state_dict(weights)
    resumed.load_state_dict(state)
    assert train(again, resumed, (3, 6)) == wanted


def test_an_array_that_somebody_holds_stays_the_weight():
    model, driver = made(cnn, OPTIMIZERS["Adam"])
    held = [p.data for p in model.parameters()]
    train(model, driver, (0, 3))
    assert driver not in fast.flats
    assert all(p.data is a for p, a in zip(model.parameters(), held, strict=True))


def test_a_gradient_that_somebody_holds_stays_as_it_is():
    model, driver = made(cnn, OPTIMIZERS["Adam"])
    train(model, driver, (0, 3))
    weight = model[-1].weight
    flat = fast.flats[driver]
    assert any(weight.grad is view for view in flat.grad_views), "written where the step reads it"
    whole, part = weight.grad, model[-3].weight.grad[1]
    before = whole.copy(), part.copy()
    train(model, driver, (3, 5))
    assert (whole == before[0]).all() and (part == before[1]).all()
    assert (weight.grad != whole).any()
    weight.grad = None  # nobody says zero_grad
    before = weight.data.copy()
    one_loss(model, 5).backward()
    driver.step()
    assert (weight.data != before).any() and (whole != weight.grad).any()


def test_gradients_add_up_in_their_own_memory():
    model, driver = made(cnn, OPTIMIZERS["Adam"])
    train(model, driver, (0, 3))
    apart = []
    for steps in ([3], [4], [3, 4]):
        driver.zero_grad()
        for step in steps:
            one_loss(model, step).backward()
        apart.append([p.grad.copy() for p in model.parameters()])
    for a, b, both in zip(*apart, strict=True):
        np.testing.assert_allclose(a + b, both, rtol=1e-4, atol=1e-6)


def test_a_layer_used_twice_gets_both_gradients():
    manual_seed(0)
    layer, x, y = Linear(5, 5), Tensor(random(4, 5)), Tensor(random(4, 5, seed=1))
    driver = SGD(layer.parameters(), lr=0.1)
    for _ in range(3):
        driver.zero_grad()
        (layer(ReLU()(layer(x))) * y).sum().backward()
        found = layer.weight.grad.copy()
        before = layer.weight.data.copy(), layer.bias.data.copy()
        driver.step()
    weight, bias = (torch.tensor(a, requires_grad=True) for a in before)
    twice = F.linear(F.relu(F.linear(torch.tensor(x.data), weight, bias)), weight, bias)
    (twice * torch.tensor(y.data)).sum().backward()
    np.testing.assert_allclose(found, weight.grad.numpy(), rtol=1e-4, atol=1e-5)


def test_a_copied_model_is_its_own():
    model, driver = made(cnn, OPTIMIZERS["Adam"])
    train(model, driver, (0, 3))
    twin, twin_driver = deepcopy((model, driver))
    before = model.state_dict()
    train(twin, twin_driver, (3, 5))
    assert all((before[n] == a).all() for n, a in model.state_dict().items())
    assert any((before[n] != a).any() for n, a in twin.state_dict().items())


def test_two_runs_give_the_same_numbers():
    runs = [train(*made(KINDS[k], OPTIMIZERS["Adam"]), (0, 4)) for k in ("cnn", "gpt") * 2]
    assert runs[:2] == runs[2:]


def test_backward_twice_adds_up():
    model, _ = made(gpt, OPTIMIZERS["SGD"])
    loss = one_loss(model, 0)
    loss.backward(retain_graph=True)
    once = {n: p.grad.copy() for n, p in model.named_parameters()}
    loss.backward()
    for name, parameter in model.named_parameters():
        np.testing.assert_allclose(parameter.grad, 2 * once[name], rtol=1e-4, atol=1e-6)


def test_backward_after_switching_off():
    x = Tensor(random(2, 3, 8, 8), requires_grad=True)
    out = MaxPool2d(3, 2)(MaxPool2d(2)(x))
    fast.disable_acceleration()
    out.sum().backward()
    assert x.grad.sum() == out.size


def test_check_grads_measures_in_float64():
    manual_seed(0)
    layers = [LayerNorm(4), Linear(4, 4), MLP(4, 8), Sequential(Linear(4, 3), ReLU())]
    assert all(check_grads(layer, Tensor(random(3, 4))) for layer in layers)
    assert check_grads(Conv2d(2, 3, 3), Tensor(random(1, 2, 4, 4)))
    attention = MultiHeadAttention(4, 2)
    assert check_grads(lambda x: attention(x, mask=causal_mask(3)), Tensor(random(1, 3, 4)))
    assert check_grads(lambda z: CrossEntropyLoss()(z, [0, 2]), Tensor(random(2, 3)))


def test_watched_layers_and_dropout_are_not_fused_away():
    first, bend, seen = Linear(3, 4), ReLU(), []
    for layer in (first, bend):
        forward = layer.forward
        layer.forward = lambda x, f=forward: seen.append(1) or f(x)
    Sequential(first, bend)(Tensor(random(2, 3)))
    assert len(seen) == 2
    attention = MultiHeadAttention(8, 2, dropout=0.5)
    x = Tensor(random(1, 6, 8))
    assert (attention(x, mask=causal_mask(6)).data != attention(x, mask=causal_mask(6)).data).any()
    assert isinstance(Sequential(Dropout(0.5).eval(), first)(x[0, :, :3]), Tensor)


def test_fused_operations_stand_on_the_tape():
    model, _ = made(gpt, OPTIMIZERS["SGD"])
    names = {t._node.name for t in topological_sort(one_loss(model, 0)) if t._node}
    assert {"linear", "layer_norm", "attention", "cross_entropy", "embedding"} <= names


# Decoding ----------------------------------------------------------------------------------------

DECODED = [
    {},
    {"positions": "sinusoidal"},
    {"tie_weights": False, "bias": False},
    {"positions": "rotary"},
    {"kv_heads": 2},
    {"norm": "rms"},
]


@pytest.mark.parametrize("options", DECODED, ids=str)
def test_decoding_writes_the_same_tokens(options):
    manual_seed(2)
    model = gpt(**options).eval()
    for p in model.parameters():
        p.data[...] += random(*p.shape, seed=p.size) * np.float32(0.1)
    prompt = [3, 1, 4, 1, 5]

    def logits():
        cache = kvcache.KVCache.for_model(model)
        rows = [kvcache.decode(model, [prompt], cache).data[0, -1]]
        for token in (9, 2, 6, 5, 3, 5):
            rows.append(kvcache.decode(model, [[token]], cache).data[0, -1])
        return np.array(rows)

    def written():
        sampled = kvcache.generate_cached(model, prompt, 40, temperature=0.8, seed=1)
        return kvcache.generate_cached(model, prompt, 15, temperature=0), sampled

    planned, texts = logits(), written()
    fast.disable_acceleration()
    np.testing.assert_allclose(planned, logits(), rtol=1e-5, atol=1e-5)
    assert texts == written()


# The rest of the tests, accelerated ---------------------------------------------------------------


def test_the_milestones_probes_find_nothing():
    space: dict[str, object] = {}
    for step in probes.steps(13):
        exec(compile(step.source, step.label, "exec"), space)
    assert fast.acceleration_enabled()


def accelerated_pytest(*arguments):
    env = os.environ | {"TINYTORCH_ACCELERATION": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)


PARITY = ("layers", "optimizers", "embedding", "attention", "transformer")
HIDDEN = ("03", "04", "05", "06", "07", "09", "11", "12", "13", "14", "15", "16", "17", "18")


def test_earlier_tests_pass_accelerated(threads):
    if threads == 2:  # the child's crew has as many threads as it may use
        parity = [f"tests/test_parity_{name}.py" for name in PARITY]
        modules = ROOT / "course/modules"
        hidden = [str(path) for n in HIDDEN for path in modules.glob(f"{n}_*/test_*.py")]
        assert len(hidden) == len(HIDDEN)
        done = accelerated_pytest(*parity, *hidden)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
        assert "acceleration is on" in done.stdout
