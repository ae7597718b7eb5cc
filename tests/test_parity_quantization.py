"""Module 15 against torch: quantize_per_tensor, per_channel, fake_quantize, observers, products."""

import numpy as np
import pytest
import torch
from tinytorch.core.layers import Linear
from tinytorch.core.tensor import Tensor, manual_seed
from tinytorch.nn.conv import Conv2d
from tinytorch.optim.quantization import (
    Observer,
    QuantizedConv2d,
    QuantizedLinear,
    Scheme,
    dequantize_array,
    integer_product,
    quantization_parameters,
    quantize_array,
)

import tinytorch

# torch moves these to torchao; what they compute stays what it is.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.ao.quantization is deprecated"),
    pytest.mark.filterwarnings("ignore:.*quantized tensor creation functions"),
]

assert tinytorch.origin.kind == "reference", "the comparison is about the course's own code"

INPUT = Scheme(8, symmetric=False)
BITS = [2, 3, 4, 5, 6, 7, 8]
SHAPES = [(7,), (5, 9), (4, 3, 3, 3), (2, 3, 4, 5)]


def draw(*shape, seed=0, scale=1.0, shift=0.0):
    return (np.random.default_rng(seed).normal(size=shape) * scale + shift).astype(np.float32)


def same_integers(x, scale, zero, ours, theirs):
    """Equal, but for ties: torch multiplies by 1 / scale, which may fall beside a half."""
    steps = np.abs(x.astype(np.float64) / scale % 1 - 0.5)
    away = np.broadcast_to(steps > 1e-4, ours.shape)
    np.testing.assert_array_equal(ours[away], theirs[away])
    assert np.abs(ours.astype(int) - theirs.astype(int)).max(initial=0) <= 1


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("shift", [0.0, 3.0, -3.0])
def test_quantize_per_tensor(shape, symmetric, shift):
    x = draw(*shape, seed=len(shape), shift=shift)
    scheme = Scheme(8, symmetric)
    scale, zero = quantization_parameters(x, scheme)
    dtype = torch.qint8 if symmetric else torch.quint8
    theirs = torch.quantize_per_tensor(torch.tensor(x), float(scale), int(zero), dtype)
    ours = quantize_array(x, scale, zero, scheme)
    same_integers(x, scale, zero, ours, theirs.int_repr().numpy())
    assert ours.dtype == theirs.int_repr().numpy().dtype
    back = torch._make_per_tensor_quantized_tensor(torch.tensor(ours), float(scale), int(zero))
    got = dequantize_array(ours, scale, zero)
    np.testing.assert_allclose(got, back.dequantize().numpy(), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("shape", SHAPES[1:], ids=str)
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("symmetric", [True, False])
def test_quantize_per_channel(shape, axis, symmetric):
    x = draw(*shape, seed=axis, shift=0.3)
    scheme = Scheme(8, symmetric, axis)
    scale, zero = quantization_parameters(x, scheme)
    dtype = torch.qint8 if symmetric else torch.quint8
    theirs = torch.quantize_per_channel(
        torch.tensor(x), torch.tensor(scale.ravel()), torch.tensor(zero.ravel()), axis, dtype
    )
    ours = quantize_array(x, scale, zero, scheme)
    same_integers(x, scale, zero, ours, theirs.int_repr().numpy())
    np.testing.assert_allclose(
        dequantize_array(ours, scale, zero), theirs.dequantize().numpy(), atol=1.01 * scale.max()
    )


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("axis", [None, 0, 1])
def test_fake_quantize_of_any_bits(bits, symmetric, axis):
    x = draw(6, 8, seed=bits, shift=0.2)
    scheme = Scheme(bits, symmetric, axis)
    scale, zero = quantization_parameters(x, scheme)
    ends = scheme.low, scheme.high
    if axis is None:
        theirs = torch.fake_quantize_per_tensor_affine(
            torch.tensor(2 * x), float(scale), int(zero), *ends
        )
    else:
        theirs = torch.fake_quantize_per_channel_affine(
            torch.tensor(2 * x),
            torch.tensor(scale.ravel()),
            torch.tensor(zero.ravel()),
            axis,
            *ends,
        )
    ours = dequantize_array(quantize_array(2 * x, scale, zero, scheme), scale, zero)
    away = np.broadcast_to(np.abs(2 * x / scale % 1 - 0.5) > 1e-4, x.shape)
    np.testing.assert_allclose(ours[away], theirs.numpy()[away], rtol=1e-5, atol=1e-6)


OBSERVED = [(0.0, 1.0), (5.0, 1.0), (-5.0, 1.0), (0.3, 20.0)]


@pytest.mark.parametrize("shift, scale", OBSERVED)
@pytest.mark.parametrize("symmetric", [True, False])
def test_min_max_observer(shift, scale, symmetric):
    from torch.ao.quantization.observer import MinMaxObserver

    theirs = MinMaxObserver(
        dtype=torch.qint8 if symmetric else torch.quint8,
        qscheme=torch.per_tensor_symmetric if symmetric else torch.per_tensor_affine,
        quant_min=-127 if symmetric else 0,
        quant_max=127 if symmetric else 255,
    )
    ours = Observer()
    for seed in range(4):
        batch = draw(3, 50, seed=seed, scale=scale, shift=shift)
        theirs(torch.tensor(batch))
        ours.observe(batch)
    step, zero = theirs.calculate_qparams()
    mine = ours.parameters(Scheme(8, symmetric))
    np.testing.assert_allclose(mine[0], step.item(), rtol=1e-5)
    assert mine[1] == zero.item()


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("symmetric", [True, False])
def test_per_channel_observer(axis, symmetric):
    from torch.ao.quantization.observer import PerChannelMinMaxObserver

    x = draw(5, 40, seed=9) * np.logspace(-3, 3, 5, dtype=np.float32)[:, None]
    theirs = PerChannelMinMaxObserver(
        ch_axis=axis,
        dtype=torch.qint8 if symmetric else torch.quint8,
        qscheme=torch.per_channel_symmetric if symmetric else torch.per_channel_affine,
        quant_min=-127 if symmetric else 0,
        quant_max=127 if symmetric else 255,
    )
    theirs(torch.tensor(x))
    step, zero = theirs.calculate_qparams()
    scale, mine = quantization_parameters(x, Scheme(8, symmetric, axis))
    np.testing.assert_allclose(scale.ravel(), step.numpy(), rtol=1e-5)
    np.testing.assert_array_equal(mine.ravel(), zero.numpy())


@pytest.mark.parametrize("k", [1, 64, 512, 513, 3000])
def test_integer_product_equals_int32_matmul(k):
    rng = np.random.default_rng(k)
    a = rng.integers(0, 256, (7, k)).astype(np.uint8)
    b = rng.integers(-128, 128, (5, k)).astype(np.int8)
    theirs = torch.tensor(a).to(torch.int32) @ torch.tensor(b).to(torch.int32).T
    np.testing.assert_array_equal(integer_product(a, b), theirs.numpy())


def torch_rounded(x, scale, zero):
    return torch.fake_quantize_per_tensor_affine(torch.tensor(x), float(scale), int(zero), 0, 255)


@pytest.mark.parametrize("static", [False, True])
@pytest.mark.parametrize("sizes", [(3, 2), (64, 10), (700, 33)], ids=str)
def test_quantized_linear(sizes, static):
    manual_seed(3)
    layer, x = Linear(*sizes), draw(4, 6, sizes[0], seed=1, shift=0.4)
    observer = Observer()
    observer.observe(x / 2)
    twin = QuantizedLinear.from_layer(layer, activation=observer if static else None)
    scale, zero = observer.parameters(INPUT) if static else quantization_parameters(x, INPUT)
    wanted = torch.nn.functional.linear(
        torch_rounded(x, scale, zero).double(),
        torch.tensor(twin.real_weight()).double(),
        torch.tensor(layer.bias.data).double(),
    )
    np.testing.assert_allclose(twin(Tensor(x)).data, wanted.numpy(), rtol=1e-4, atol=2e-3)


CONVS = [(1, 0), (1, 1), (2, 1), (3, 2)]


@pytest.mark.parametrize("static", [False, True])
@pytest.mark.parametrize("stride, padding", CONVS)
@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_quantized_conv(kernel, stride, padding, static):
    manual_seed(4)
    layer = Conv2d(3, 6, kernel, stride=stride, padding=padding)
    x = draw(5, 3, 9, 8, seed=2, shift=-0.5)
    observer = Observer()
    observer.observe(x / 2)
    twin = QuantizedConv2d.from_layer(layer, activation=observer if static else None)
    scale, zero = observer.parameters(INPUT) if static else quantization_parameters(x, INPUT)
    wanted = torch.nn.functional.conv2d(
        torch_rounded(x, scale, zero).double(),
        torch.tensor(twin.real_weight()).double(),
        torch.tensor(layer.bias.data).double(),
        stride=stride,
        padding=padding,
    )
    np.testing.assert_allclose(twin(Tensor(x)).data, wanted.numpy(), rtol=1e-4, atol=2e-3)


def test_dynamic_linear_agrees_with_torchs_own():
    engines = set(torch.backends.quantized.supported_engines) - {"none"}
    torch.backends.quantized.engine = sorted(engines)[0]
    manual_seed(5)
    layer, x = Linear(48, 20), draw(16, 48, seed=6)
    theirs = torch.nn.Linear(48, 20)
    with torch.no_grad():
        theirs.weight.copy_(torch.tensor(np.ascontiguousarray(layer.weight.data)))
        theirs.bias.copy_(torch.tensor(layer.bias.data))
    twin = torch.ao.quantization.quantize_dynamic(torch.nn.Sequential(theirs), dtype=torch.qint8)
    ours = QuantizedLinear.from_layer(layer)(Tensor(x)).data
    real = layer(Tensor(x)).data
    gap = np.abs(twin(torch.tensor(x)).detach().numpy() - real).max()
    assert np.abs(ours - real).max() <= 1.5 * gap  # per channel is at least about as close
