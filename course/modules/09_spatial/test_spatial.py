"""Hidden variants of module 09: other seeds, shapes and options, with NumPy and slopes as oracles."""

import itertools
import math

import numpy as np
import pytest

from tinytorch.core.activations import ReLU
from tinytorch.core.autograd import check_grads, is_grad_enabled, no_grad
from tinytorch.core.layers import Linear, Sequential
from tinytorch.core.losses import CrossEntropyLoss
from tinytorch.core.optimizers import Adam
from tinytorch.core.tensor import Tensor, manual_seed
from tinytorch.core.training import Trainer
from tinytorch.nn import conv
from tinytorch.nn.conv import (
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    GlobalAvgPool2d,
    MaxPool2d,
    avg_pool2d,
    conv2d,
    conv2d_explicit,
    conv2d_explicit_backward,
    max_pool2d,
    output_size,
)


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def windows(x, kh, kw, stride, padding, value=0.0):
    """(N, C, OH, OW, KH, KW): every window cut out of the framed pictures by itself."""
    x = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)), constant_values=value)
    rows = range(0, x.shape[2] - kh + 1, stride)
    columns = range(0, x.shape[3] - kw + 1, stride)
    cut = [[x[:, :, i : i + kh, j : j + kw] for j in columns] for i in rows]
    return np.array(cut).transpose(2, 3, 0, 1, 4, 5)


def convolved(x, w, b, stride, padding):
    """Convolution in float64 by cutting out windows."""
    cut = windows(x.astype(float), *w.shape[2:], stride, padding)
    return np.einsum("ncijkl,ockl->noij", cut, w.astype(float)) + b.astype(float)[:, None, None]


CASES = [
    (stride, padding, kernel, size)
    for stride, padding, kernel, size in itertools.product(
        (1, 2, 3), (0, 1, 2), ((1, 1), (3, 3), (2, 3), (5, 4)), ((5, 5), (7, 4))
    )
    if size[0] + 2 * padding >= kernel[0] and size[1] + 2 * padding >= kernel[1]
]


# Sizes


@pytest.mark.parametrize("stride, padding", list(itertools.product((1, 2, 3, 4), (0, 1, 3))))
def test_output_size_counts_the_beginnings(stride, padding):
    for size, kernel in itertools.product(range(1, 12), range(1, 6)):
        beginnings = range(0, size + 2 * padding - kernel + 1, stride)
        if len(beginnings):
            assert output_size(size, kernel, stride, padding) == len(beginnings)
        else:
            with pytest.raises(ValueError, match=str(kernel)):
                output_size(size, kernel, stride, padding)


# Convolution


@pytest.mark.parametrize("stride, padding, kernel, size", CASES)
def test_loops_and_kernels_are_the_convolution(stride, padding, kernel, size):
    x, w, b = random(2, 3, *size), random(2, 3, *kernel, seed=1), random(2, seed=2)
    wanted = convolved(x, w, b, stride, padding)
    np.testing.assert_allclose(
        conv2d_explicit(x, w, b, stride, padding), wanted, rtol=1e-4, atol=1e-5
    )
    out = conv2d(Tensor(x), Tensor(w), Tensor(b), stride=stride, padding=padding)
    np.testing.assert_allclose(out.data, wanted, rtol=1e-4, atol=1e-5)
    assert out.data.dtype == np.float32


@pytest.mark.parametrize("stride, padding, kernel, size", CASES)
def test_gradients_of_the_loops_and_of_the_kernels(stride, padding, kernel, size):
    x, w, b = random(5, 2, *size), random(2, 2, *kernel, seed=1), random(2, seed=2)
    leaves = [Tensor(a, requires_grad=True) for a in (x, w, b)]
    out = conv2d(*leaves, stride=stride, padding=padding)
    g = random(*out.shape, seed=3)
    out.backward(g)
    cut = windows(x.astype(float), *kernel, stride, padding)
    np.testing.assert_allclose(
        leaves[1].grad, np.einsum("noij,ncijkl->ockl", g, cut), rtol=1e-3, atol=1e-4
    )
    np.testing.assert_allclose(leaves[2].grad, g.sum(axis=(0, 2, 3)), rtol=1e-4, atol=1e-4)
    # What is linear in x has one slope: <g, conv(d)> = <gradient of x, d> for every d.
    d = random(*x.shape, seed=4)
    along = (g * convolved(d, w, np.zeros(2), stride, padding)).sum()
    assert (leaves[0].grad * d).sum() == pytest.approx(along, rel=1e-3, abs=1e-3)
    by_loops = conv2d_explicit_backward(g, x, w, stride, padding)
    for mine, theirs in zip(by_loops, leaves):
        np.testing.assert_allclose(mine, theirs.grad, rtol=1e-3, atol=1e-4)


def test_explicit_functions_leave_their_arguments_alone():
    x, w, g = random(1, 2, 4, 4), random(2, 2, 3, 3), random(1, 2, 2, 2)
    kept = [a.copy() for a in (x, w, g)]
    conv2d_explicit(x, w)
    conv2d_explicit_backward(g, x, w)
    for before, after in zip(kept, (x, w, g)):
        np.testing.assert_array_equal(before, after)


def test_explicit_backward_of_whole_numbers_keeps_fractions():
    gx, gw, gb = conv2d_explicit_backward(
        np.full((1, 1, 1, 1), 0.5), np.ones((1, 1, 1, 1), int), np.full((1, 1, 1, 1), 3)
    )
    assert (gx.item(), gw.item(), gb.item()) == (1.5, 0.5, 0.5)


@pytest.mark.parametrize("bias", [True, False])
def test_conv2d_against_slopes(bias):
    inputs = [Tensor(random(2, 2, 4, 3)), Tensor(random(2, 2, 3, 2, seed=1))]
    inputs += [Tensor(random(2, seed=2))] * bias
    assert check_grads(lambda *a: conv2d(*a, stride=2, padding=1), *inputs)


def test_conv2d_takes_options_by_position_too():
    x, w = Tensor(random(1, 1, 5, 5), requires_grad=True), Tensor(random(1, 1, 3, 3))
    conv2d(x, w, None, 2, 1).sum().backward()
    by_name = Tensor(x.data, requires_grad=True)
    conv2d(by_name, w, stride=2, padding=1).sum().backward()
    np.testing.assert_array_equal(x.grad, by_name.grad)


def test_operands_by_name_are_refused():
    x, w = Tensor(random(1, 1, 3, 3)), Tensor(random(1, 1, 3, 3))
    with pytest.raises(TypeError, match="bias"):
        conv2d(x, w, bias=Tensor([0.0]))


def test_an_input_without_gradient_costs_no_input_gradient(monkeypatch):
    asked = []
    monkeypatch.setattr(conv, "conv2d_input_gradient", lambda *a: asked.append(a))
    conv2d(
        Tensor(random(1, 1, 4, 4)), Tensor(random(1, 1, 3, 3), requires_grad=True)
    ).sum().backward()
    assert not asked


def test_kernels_can_be_swapped(monkeypatch):
    x, w = random(1, 1, 4, 4), random(2, 1, 3, 3, seed=1)
    leaves = [Tensor(a, requires_grad=True) for a in (x, w)]
    conv2d(*leaves, stride=1, padding=1).sum().backward()
    monkeypatch.setattr(conv, "conv2d_forward", conv2d_explicit)
    for i, name in enumerate(("conv2d_input_gradient", "conv2d_weight_gradient")):
        monkeypatch.setattr(conv, name, lambda *a, _i=i: conv2d_explicit_backward(*a)[_i])
    by_loops = [Tensor(a, requires_grad=True) for a in (x, w)]
    conv2d(*by_loops, stride=1, padding=1).sum().backward()
    for one, other in zip(leaves, by_loops):
        np.testing.assert_allclose(one.grad, other.grad, rtol=1e-4, atol=1e-5)


def test_conv_layer_has_pytorchs_shapes_and_starts():
    manual_seed(3)
    layer = Conv2d(8, 64, (3, 2), stride=2, padding=1)
    bound = 1 / math.sqrt(8 * 6)
    assert (layer.weight.shape, layer.bias.shape) == ((64, 8, 3, 2), (64,))
    for parameter in (layer.weight, layer.bias):
        assert np.abs(parameter.data).max() <= bound
        assert parameter.data.std() == pytest.approx(bound / math.sqrt(3), rel=0.15)
    x = random(2, 8, 6, 5)
    np.testing.assert_allclose(
        layer(Tensor(x)).data,
        convolved(x, layer.weight.data, layer.bias.data, 2, 1),
        rtol=1e-4,
        atol=1e-5,
    )
    assert list(Conv2d(2, 3, 1, bias=False).state_dict()) == ["weight"]


@pytest.mark.parametrize(
    "shape, words",
    [((3, 8, 8), "unsqueeze"), ((2, 8, 8, 3), "permute"), ((2, 3, 2, 8), "does not fit")],
)
def test_conv_errors_say_what_to_do(shape, words):
    with pytest.raises(ValueError, match=words):
        Conv2d(3, 4, 3)(Tensor(np.zeros(shape)))


def test_arrays_and_tensors_are_told_apart():
    with pytest.raises(TypeError, match=r"Tensor\(x\)"):
        Conv2d(1, 1, 3)(np.zeros((1, 1, 4, 4)))
    with pytest.raises(TypeError, match=r"x\.data"):
        conv2d_explicit(Tensor(np.zeros((1, 1, 4, 4))), np.zeros((1, 1, 3, 3)))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Conv2d(1, 1, 3, stride=0),
        lambda: Conv2d(1, 1, 3, stride=(2, 2)),
        lambda: Conv2d(1, 1, 3, padding="same"),
        lambda: Conv2d(1, 1, 3, padding=-1),
        lambda: MaxPool2d((2, 2)),
        lambda: MaxPool2d(2, stride=0),
        lambda: AvgPool2d(0),
    ],
)
def test_sizes_that_are_none_are_refused_by_the_layer(make):
    with pytest.raises(ValueError, match="must be a whole number"):
        make()


# Pooling

POOLS = [(2, None, 0), (2, 1, 0), (3, 2, 1), (3, 1, 1), (1, 2, 0), (2, 3, 1)]


@pytest.mark.parametrize("kernel, stride, padding", POOLS)
def test_pooling_values(kernel, stride, padding):
    x = random(2, 3, 7, 5)
    cut = windows(x, kernel, kernel, stride or kernel, padding, -np.inf)
    out = max_pool2d(Tensor(x), kernel, stride=stride, padding=padding)
    np.testing.assert_array_equal(out.data, cut.max(axis=(4, 5)))
    cut = windows(x, kernel, kernel, stride or kernel, padding)
    out = avg_pool2d(Tensor(x), kernel, stride=stride, padding=padding)
    np.testing.assert_allclose(out.data, cut.mean(axis=(4, 5)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kernel, stride, padding", POOLS)
@pytest.mark.parametrize("pool", [max_pool2d, avg_pool2d])
def test_pooling_gradients(pool, kernel, stride, padding):
    x = Tensor(np.random.default_rng(6).permutation(2 * 2 * 5 * 4).reshape(2, 2, 5, 4))
    assert check_grads(lambda x: pool(x, kernel, stride=stride, padding=padding), x)


@pytest.mark.parametrize("seed", range(4))
def test_max_pooling_gives_ties_to_the_first(seed):
    x = np.random.default_rng(seed).integers(0, 3, (2, 2, 6, 6)).astype(np.float32)
    leaf = Tensor(x, requires_grad=True)
    out = max_pool2d(leaf, 3, stride=2)
    g = random(*out.shape, seed=seed)
    out.backward(g)
    wanted = np.zeros_like(x)
    for n, c, i, j in np.ndindex(out.shape):
        window = x[n, c, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3]
        di, dj = divmod(int(window.argmax()), 3)
        wanted[n, c, 2 * i + di, 2 * j + dj] += g[n, c, i, j]
    np.testing.assert_allclose(leaf.grad, wanted, rtol=1e-5, atol=1e-6)


def test_pooling_layers():
    x = Tensor(random(2, 3, 6, 6))
    assert MaxPool2d(2)(x).shape == AvgPool2d(2)(x).shape == (2, 3, 3, 3)
    assert MaxPool2d(3, stride=1, padding=1)(x).shape == (2, 3, 6, 6)
    np.testing.assert_allclose(GlobalAvgPool2d()(x).data, x.data.mean(axis=(2, 3)), rtol=1e-5)
    assert not list(MaxPool2d(2).named_parameters())
    with pytest.raises(ValueError, match="half"):
        MaxPool2d(2, padding=2)(x)
    with pytest.raises(ValueError, match="unsqueeze"):
        AvgPool2d(2)(Tensor(np.zeros((6, 6))))
    with pytest.raises(ValueError, match="does not fit"):
        MaxPool2d(7)(x)


# Batch normalisation


@pytest.mark.parametrize("shape", [(4, 2, 3, 3), (16, 3, 1, 1), (1, 2, 4, 5)])
def test_batch_norm_in_training(shape):
    layer, x = BatchNorm2d(shape[1], eps=1e-3, momentum=0.3), random(*shape) * 4 + 7
    layer.weight.data[...] = random(shape[1], seed=1)
    layer.bias.data[...] = random(shape[1], seed=2)
    out = layer(Tensor(x)).data
    for c in range(shape[1]):
        channel = x[:, c].astype(float)
        normal = (channel - channel.mean()) / np.sqrt(channel.var() + 1e-3)
        wanted = normal * layer.weight.data[c] + layer.bias.data[c]
        np.testing.assert_allclose(out[:, c], wanted, rtol=1e-3, atol=1e-4)
        assert layer.running_mean.data[c] == pytest.approx(0.3 * channel.mean(), rel=1e-4)
        assert layer.running_var.data[c] == pytest.approx(0.7 + 0.3 * channel.var(ddof=1), rel=1e-4)


def test_batch_norm_running_statistics_are_an_exponential_average():
    layer, mean, var = BatchNorm2d(2), np.zeros(2), np.ones(2)
    for step in range(6):
        x = random(5, 2, 2, 3, seed=step) * (step + 1) + step
        layer(Tensor(x))
        mean += 0.1 * (x.mean(axis=(0, 2, 3)) - mean)
        var += 0.1 * (x.var(axis=(0, 2, 3), ddof=1) - var)
    np.testing.assert_allclose(layer.running_mean.data, mean, rtol=1e-4)
    np.testing.assert_allclose(layer.running_var.data, var, rtol=1e-4)
    layer.eval()
    x = random(1, 2, 1, 1, seed=9)
    wanted = (x - mean[:, None, None]) / np.sqrt(var[:, None, None] + 1e-5)
    np.testing.assert_allclose(layer(Tensor(x)).data, wanted, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(layer.running_mean.data, mean, rtol=1e-4)


@pytest.mark.parametrize("mode", [True, False])
def test_batch_norm_gradients(mode):
    layer = BatchNorm2d(3, eps=0.01).train(mode)
    layer.running_mean.data[...], layer.running_var.data[...] = [0.5, -1, 0], [2, 0.5, 1]

    def f(x, weight, bias):
        layer.weight, layer.bias = weight, bias
        return layer(x)

    assert check_grads(
        f, Tensor(random(4, 3, 2, 2)), Tensor(random(3, seed=1)), Tensor(random(3, seed=2))
    )


def test_batch_norm_gradient_ignores_shifts_and_stretches():
    x = random(4, 2, 3, 3)
    leaf = Tensor(x, requires_grad=True)
    BatchNorm2d(2)(leaf).backward(random(4, 2, 3, 3, seed=1))
    centred = x - x.mean(axis=(0, 2, 3), keepdims=True)
    for direction in (np.ones_like(x), centred):
        along = (leaf.grad * direction).sum(axis=(0, 2, 3))
        np.testing.assert_allclose(along, 0, atol=1e-3)


def test_batch_norm_saves_its_buffers_and_teaches_only_two():
    layer = BatchNorm2d(3)
    assert list(layer.state_dict()) == ["weight", "bias", "running_mean", "running_var"]
    assert [name for name, _ in layer.named_parameters()] == ["weight", "bias"]
    layer(Tensor(random(4, 3, 2, 2)))
    other = BatchNorm2d(3)
    other.load_state_dict(layer.state_dict())
    x = Tensor(random(2, 3, 2, 2, seed=5))
    np.testing.assert_array_equal(layer.eval()(x).data, other.eval()(x).data)


def test_batch_norm_errors_say_what_to_do():
    with pytest.raises(ValueError, match=r"\(1, 3, 1, 1\).*eval"):
        BatchNorm2d(3)(Tensor(np.ones((1, 3, 1, 1))))
    assert BatchNorm2d(3).eval()(Tensor(np.ones((1, 3, 1, 1)))).shape == (1, 3, 1, 1)
    with pytest.raises(ValueError, match="channels"):
        BatchNorm2d(3)(Tensor(np.ones((2, 4, 5, 5))))
    with pytest.raises(ValueError, match="unsqueeze"):
        BatchNorm2d(3)(Tensor(np.ones((2, 3))))


def test_batch_norm_of_a_constant_channel_is_its_bias():
    layer = BatchNorm2d(1)
    layer.bias.data[...] = 4.0
    out = layer(Tensor(np.full((3, 1, 2, 2), 7.0)))
    np.testing.assert_allclose(out.data, 4.0, atol=1e-3)


# Together


def small_net():
    return Sequential(
        Conv2d(1, 4, 3, padding=1, bias=False),
        BatchNorm2d(4),
        ReLU(),
        MaxPool2d(2),
        Conv2d(4, 6, 3, stride=2, padding=1),
        ReLU(),
        AvgPool2d(2),
        GlobalAvgPool2d(),
        Linear(6, 2),
    )


def test_a_network_against_slopes():
    manual_seed(5)
    net = small_net()
    assert check_grads(net, Tensor(random(2, 1, 8, 8, seed=6)))


def test_a_network_learns_which_way_stripes_run():
    rng = np.random.default_rng(2)
    y = rng.integers(0, 2, 128)
    stripes = np.zeros((128, 1, 8, 8), dtype=np.float32)
    for picture, label, start in zip(stripes, y, rng.integers(0, 2, 128)):
        view = picture[0].T if label else picture[0]
        view[start::2] = 1.0
    stripes += rng.normal(0, 0.3, stripes.shape).astype(np.float32)
    manual_seed(0)
    net = small_net()
    run = Trainer(net, CrossEntropyLoss(), Adam(net.parameters(), lr=0.02), batch_size=32)
    run.fit((stripes[:96], y[:96]), 12)
    assert run.evaluate((stripes[96:], y[96:]))["accuracy"] > 0.95
    assert is_grad_enabled()
    with no_grad():
        assert net(Tensor(stripes[:3]))._node is None
