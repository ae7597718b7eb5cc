"""Hidden variants of module 15: other seeds and shapes, NumPy and Python integers as the oracle."""

import os
import warnings

import numpy as np
import pytest

from tinytorch.core.activations import ReLU
from tinytorch.core.autograd import no_grad
from tinytorch.core.layers import Flatten, Linear, Module, Parameter, Sequential
from tinytorch.core.tensor import Tensor, manual_seed
from tinytorch.nn.conv import BatchNorm2d, Conv2d, MaxPool2d
from tinytorch.nn.embedding import Embedding
from tinytorch.nn.transformer import GPT, GPTConfig
from tinytorch.optim.quantization import (
    Integers,
    Observer,
    QuantizedConv2d,
    QuantizedEmbedding,
    QuantizedLinear,
    Scheme,
    affine_parameters,
    dequantize_array,
    file_size,
    integer_product,
    load,
    pack_int4,
    quantization_parameters,
    quantize,
    quantize_array,
    quantized_product,
    replace_layers,
    save,
    symmetric_scale,
    unpack_int4,
    value_range,
)


def random(*shape, seed=0, scale=1.0, shift=0.0):
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(shape) * scale + shift).astype(np.float32)


# scales


@pytest.mark.parametrize("top", [1, 7, 127])
def test_symmetric_scale_maps_the_largest_size_to_top(top):
    low, high = -np.array([3.0, 0.5, 1e-6, 0.0]), np.array([1.0, 8.0, 2e-6, 0.0])
    scale = symmetric_scale(low, high, top)
    np.testing.assert_allclose(scale, [3 / top, 8 / top, 2e-6 / top, 1.0], rtol=1e-6)


@pytest.mark.parametrize("top", [3, 15, 255])
@pytest.mark.parametrize("low, high", [(-1.3, 2.9), (0.4, 3.0), (-7.0, -2.0), (-1e-3, 50.0)])
def test_affine_range_contains_zero_and_zero_is_exact(low, high, top):
    scale, zero = affine_parameters(np.array(low), np.array(high), top)
    assert float(scale) == pytest.approx((max(high, 0) - min(low, 0)) / top)
    assert zero == round(-min(low, 0) / float(scale)) and 0 <= zero <= top


@pytest.mark.parametrize("axis", [None, 0, 1, 2, 3, -1, -3])
def test_value_range_goes_over_all_other_axes(axis):
    x = random(3, 4, 2, 5, seed=1)
    low, high = value_range(x, axis)
    if axis is None:
        assert (low, high) == (x.min(), x.max())
        return
    parts = np.moveaxis(x, axis, 0)
    assert np.ravel(low).tolist() == [p.min() for p in parts]
    assert np.ravel(high).tolist() == [p.max() for p in parts]
    assert np.broadcast_shapes(low.shape, x.shape) == x.shape and low.ndim == 4


@pytest.mark.parametrize("x", [np.array([]), np.array([1.0, np.nan]), np.array([np.inf])])
def test_numbers_without_a_range_are_refused(x):
    with pytest.raises(ValueError, match="range"):
        quantization_parameters(x, Scheme(8))


@pytest.mark.parametrize("bits", [0, 1, 9])
def test_schemes_have_two_to_eight_bits(bits):
    with pytest.raises(ValueError, match=f"bits={bits}"):
        Scheme(bits)


# there and back

SCHEMES = [Scheme(b, s, a) for b in (2, 3, 4, 5, 8) for s in (True, False) for a in (None, 0, 1)]


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
@pytest.mark.parametrize("shift", [0.0, 4.0, -4.0])
def test_the_error_is_at_most_half_a_step_and_zero_stays_zero(scheme, shift):
    x = random(20, 30, seed=scheme.bits, shift=shift)
    x[3, 4] = 0
    scale, zero = quantization_parameters(x, scheme)
    assert scale.dtype == np.float32 and zero.dtype == np.int32
    q = quantize_array(x, scale, zero, scheme)
    assert q.dtype == (np.int8 if scheme.symmetric else np.uint8) and q.shape == x.shape
    assert scheme.low <= q.min() and q.max() <= scheme.high
    back = dequantize_array(q, scale, zero)
    assert back.dtype == np.float32 and back[3, 4] == 0
    allowed = 0.5 if scheme.symmetric else 1.0
    assert (np.abs(back - x) / scale).max() <= allowed + 1e-3


def test_quantize_by_python_integers():
    x, scale, zero = random(400, seed=3, scale=40), np.float32(0.25), np.int32(117)
    wanted = [min(max(round(float(v) / 0.25) + 117, 0), 255) for v in x]
    assert quantize_array(x, scale, zero, Scheme(8, symmetric=False)).tolist() == wanted


def test_far_values_are_cut_and_constants_survive():
    x = np.array([1e30, -1e30, 0.0], np.float32)
    assert quantize_array(x, np.float32(1), np.int32(0), Scheme(4)).tolist() == [7, -7, 0]
    for value in (0.0, 5.0, -5.0, 1e-30, 1e-45, 3e38):
        x = np.full((2, 3), value, np.float32)
        for scheme in (Scheme(8), Scheme(8, False), Scheme(4, True, 0), Scheme(4, False, 1)):
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                scale, zero = quantization_parameters(x, scheme)
                back = dequantize_array(quantize_array(x, scale, zero, scheme), scale, zero)
            np.testing.assert_allclose(back, x, rtol=1e-5, atol=2e-38)


def test_nan_has_no_integer():
    with pytest.raises(ValueError, match="nan"):
        quantize_array(np.array([np.nan]), np.float32(1), np.int32(0), Scheme(8))


# half bytes


@pytest.mark.parametrize("shape", [(1,), (2,), (7,), (3, 5), (4, 4), (2, 3, 3, 3), (0,), ()])
def test_int4_comes_back_and_takes_half_a_byte(shape):
    q = np.random.default_rng(5).integers(-8, 8, shape).astype(np.int8)
    packed = pack_int4(q)
    assert packed.dtype == np.uint8 and packed.shape == (-(-q.size // 2),)
    back = unpack_int4(packed, shape)
    assert back.dtype == np.int8 and back.shape == shape and (back == q).all()


def test_int4_layout_by_text():
    q = np.random.default_rng(6).integers(-8, 8, 30).astype(np.int8)
    bits = [format(int(v) % 16, "04b") for v in q]
    wanted = [int(second + first, 2) for first, second in zip(bits[::2], bits[1::2])]
    assert pack_int4(q).tolist() == wanted


def test_int4_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="-9 to 8"):
        pack_int4(np.array([-9, 8]))
    with pytest.raises(ValueError, match="3 bytes do not hold 7"):
        unpack_int4(np.zeros(3, np.uint8), (7,))


# observer


def test_observer_keeps_the_extremes_of_all_batches():
    observer, batches = Observer(), [random(5, 7, seed=s, shift=3) for s in range(6)]
    for batch in batches:
        observer.observe(batch)
    assert observer.low == np.min(batches) and observer.high == np.max(batches)
    assert observer.batches == 6


@pytest.mark.parametrize("percentile", [90, 99.5, 100])
def test_observer_averages_percentiles(percentile):
    observer, batches = Observer(percentile), [random(50, seed=s) for s in range(5)]
    for batch in batches:
        observer.observe(batch)
    ends = np.array([np.percentile(b, [100 - percentile, percentile]) for b in batches])
    np.testing.assert_allclose([observer.low, observer.high], ends.mean(axis=0), rtol=1e-5)


def test_observer_that_saw_nothing_has_no_range():
    with pytest.raises(ValueError, match="nothing seen"):
        Observer().parameters(Scheme(8))


# products


@pytest.mark.parametrize("k", [1, 100, 512, 640, 1024, 5000])
def test_integer_product_is_exact(k):
    rng = np.random.default_rng(k)
    a = rng.integers(200, 256, (4, k)).astype(np.uint8)
    b = rng.integers(-128, -100, (3, k)).astype(np.int8)
    product = integer_product(a, b)
    assert product.dtype == np.int32
    assert product.tolist() == [[sum(int(x) * int(y) for x, y in zip(r, c)) for c in b] for r in a]


def test_integer_product_at_its_limit():
    a, b = np.full((1, 2**16), 255, np.uint8), np.full((1, 2**16), -128, np.int8)
    assert integer_product(a, b)[0, 0] == -255 * 128 * 2**16
    with pytest.raises(ValueError, match="columns"):
        integer_product(np.zeros((1, 2**16 + 1), np.uint8), np.zeros((1, 2**16 + 1), np.int8))
    with pytest.raises(ValueError, match=r"\(2, 3\), \(3, 2\)"):
        integer_product(np.zeros((2, 3), np.uint8), np.zeros((3, 2), np.int8))


@pytest.mark.parametrize("zero", [0, 1, 128, 255])
def test_quantized_product_equals_the_product_of_real_numbers(zero):
    rng = np.random.default_rng(zero)
    q, w = rng.integers(0, 256, (6, 900)).astype(np.uint8), rng.integers(-127, 128, (5, 900))
    scales = rng.uniform(0.001, 0.1, 5).astype(np.float32)
    got = quantized_product(q, np.float32(0.02), np.int32(zero), w.astype(np.int8), scales)
    wanted = (q.astype(float) - zero) * 0.02 @ (w * scales[:, None].astype(float)).T
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-3)


# layers


def rounded(x, scale, zero):
    return (np.clip(np.rint(x / scale) + zero, 0, 255) - zero) * scale


@pytest.mark.parametrize("shape", [(3, 20), (2, 4, 20), (20,), (1, 1, 1, 20)])
@pytest.mark.parametrize("bias", [True, False])
def test_linear_is_the_product_of_rounded_numbers(shape, bias):
    manual_seed(1)
    layer = Linear(20, 7, bias=bias)
    twin, x = QuantizedLinear.from_layer(layer), random(*shape, seed=2, shift=0.5)
    scale, zero = quantization_parameters(x, Scheme(8, symmetric=False))
    wanted = rounded(x.astype(float), scale, zero) @ twin.real_weight().astype(float).T
    wanted += layer.bias.data if bias else 0
    got = twin(Tensor(x))
    assert isinstance(got, Tensor) and got.shape == (*shape[:-1], 7)
    np.testing.assert_allclose(got.data, wanted, rtol=1e-4, atol=1e-5)
    assert np.abs(got.data - layer(Tensor(x)).data).max() < 0.05


def by_loops(x, weight, stride, padding):
    """Convolution written out in float64."""
    x = np.pad(x.astype(float), ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    n, _, h, w = x.shape
    o, _, kh, kw = weight.shape
    out = np.zeros((n, o, (h - kh) // stride + 1, (w - kw) // stride + 1))
    for b, c, i, j in np.ndindex(out.shape):
        window = x[b, :, i * stride : i * stride + kh, j * stride : j * stride + kw]
        out[b, c, i, j] = (window * weight[c]).sum()
    return out


@pytest.mark.parametrize("kernel", [1, 3, (2, 3)])
@pytest.mark.parametrize("stride, padding", [(1, 0), (1, 1), (2, 1), (3, 2)])
@pytest.mark.parametrize("bits", [8, 4])
def test_conv_is_the_product_of_rounded_numbers(kernel, stride, padding, bits):
    manual_seed(2)
    layer = Conv2d(3, 5, kernel, stride=stride, padding=padding)
    twin, x = QuantizedConv2d.from_layer(layer, bits), random(6, 3, 7, 8, seed=3, shift=-0.7)
    seen = x.astype(float)
    if bits == 8:
        scale, zero = quantization_parameters(x, Scheme(8, symmetric=False))
        assert zero > 100
        seen = rounded(seen, scale, zero)
    wanted = by_loops(seen, twin.real_weight().astype(float), stride, padding)
    wanted += layer.bias.data.reshape(-1, 1, 1)
    got = twin(Tensor(x)).data
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("bits, step", [(8, 127), (4, 7)])
def test_embedding_rows_have_scales_of_their_own(bits, step):
    manual_seed(3)
    table = Embedding(11, 6)
    table.weight.data[4] *= 1000
    twin, ids = QuantizedEmbedding.from_layer(table, bits), [[4, 0, 10], [1, 1, 2]]
    gap = np.abs(twin(ids).data - table(ids).data)
    sizes = np.abs(table(ids).data).max(axis=-1, keepdims=True)
    assert (gap <= 0.501 * sizes / step).all()
    with pytest.raises(IndexError, match="index 11"):
        twin([[11]])


@pytest.mark.parametrize("layer", [Linear(4, 3), Conv2d(1, 2, 3), Embedding(5, 4)])
def test_quantized_layers_do_not_train(layer):
    twin = quantize(layer)
    assert not twin.training and twin.parameters() == []
    with pytest.raises(RuntimeError, match=r"no gradient.*eval\(\)"):
        twin.train()(Tensor(np.zeros((1, 1, 4, 4))))


def test_layers_of_zeros_can_be_built_by_their_sizes():
    x = Tensor(random(2, 4, seed=4))
    assert QuantizedLinear(4, 3).eval()(x).data.tolist() == [[0] * 3] * 2
    assert QuantizedLinear(4, 3, bias=False, bits=4).eval()(x).data.tolist() == [[0] * 3] * 2
    images = Tensor(random(2, 3, 5, 5))
    assert QuantizedConv2d(3, 2, 3, stride=2, padding=1).eval()(images).shape == (2, 2, 3, 3)
    with pytest.raises(ValueError, match="bits=5"):
        QuantizedLinear(4, 3, bits=5)
    with pytest.raises(ValueError, match="in_features=4"):
        QuantizedLinear(4, 3).eval()(Tensor(np.zeros((2, 5))))


def test_integers_keep_their_type_and_refuse_floats():
    table = Module()
    table.weight = Integers(np.array([[1, -2]], np.int8))
    assert table.weight.data.dtype == np.int8 and table.state_dict()["weight"].dtype == np.int8
    table.load_state_dict({"weight": np.array([[3, 4]], np.int8)})
    assert table.weight.data.tolist() == [[3, 4]] and table.weight.data.dtype == np.int8
    assert not table.weight.requires_grad and table.parameters() == []
    with pytest.raises(TypeError, match="float64"):
        Integers(np.array([0.5]))


# whole models


class Twice(Module):
    """One layer in two places, and one that shares its weight."""

    def __init__(self):
        self.first = Linear(4, 4)
        self.again = self.first
        self.tied = Linear(4, 4)
        self.tied.weight = self.first.weight

    def forward(self, x):
        return self.tied(self.again(self.first(x)))


def small_cnn():
    manual_seed(5)
    return Sequential(
        Conv2d(1, 4, 3, padding=1), BatchNorm2d(4), ReLU(), MaxPool2d(2), Flatten(), Linear(64, 10)
    ).eval()


def test_quantize_leaves_the_model_as_it_is():
    net = small_cnn().train()
    before, words = net.state_dict(), repr(net)
    twin = quantize(net, calibration=[Tensor(random(3, 1, 8, 8))])
    assert repr(net) == words and net.training and not twin.training
    assert all((before[name] == array).all() for name, array in net.state_dict().items())
    assert "forward" not in vars(net[0]) and "forward" not in vars(twin[0])
    assert type(twin[0]) is QuantizedConv2d and type(twin[5]) is QuantizedLinear


def test_shared_layers_and_weights_stay_shared():
    twin = quantize(Twice())
    assert twin.first is twin.again and twin.tied is not twin.first
    assert twin.tied.weight is twin.first.weight and twin.tied.scale is twin.first.scale
    gpt = quantize(GPT(GPTConfig(30, 8, dim=8, heads=2, layers=1)))
    assert gpt.head.weight is gpt.embedding.weight
    kept = quantize(GPT(GPTConfig(30, 8, dim=8, heads=2, layers=1)), skip=["head"])
    assert type(kept.head) is Linear and kept.head.weight is kept.embedding.weight


def test_skip_takes_paths_and_refuses_unknown_names():
    gpt = GPT(GPTConfig(30, 8, dim=8, heads=2, layers=2))
    twin = quantize(gpt, skip=["blocks.1", "blocks.0.mlp.up"])
    names = {n for n, m in twin.named_modules() if type(m) is QuantizedLinear}
    assert "blocks.0.mlp.down" in names and "blocks.0.mlp.up" not in names
    assert not any(n.startswith("blocks.1") for n in names)
    with pytest.raises(ValueError, match="blocks.7"):
        quantize(gpt, skip="blocks.7")


def test_static_layers_cut_at_the_calibrated_range():
    net = Sequential(Linear(2, 2))
    calibration = [(Tensor([[0.0, 1.0]]), "label"), (Tensor([[-1.0, 3.0]]), "label")]
    twin = quantize(net, calibration=calibration)
    assert twin[0].input_scale.item() == pytest.approx(4 / 255)
    assert twin[0].input_zero_point.data == 64
    with no_grad():
        np.testing.assert_allclose(
            twin(Tensor([[3.0, 50.0]])).data, net(Tensor([[3.0, 3.0]])).data, atol=0.05
        )
    with pytest.raises(ValueError, match="bits=4"):
        quantize(net, 4, calibration=calibration)


def test_calibration_that_fails_leaves_no_watcher():
    net = small_cnn()
    with pytest.raises(ValueError):
        quantize(net, calibration=[Tensor(np.zeros((1, 2, 8, 8)))])
    assert all("forward" not in vars(m) for m in net.modules())


def test_replace_layers_asks_for_every_module_once():
    asked = []
    net = Sequential(Linear(2, 2), Sequential(Linear(2, 2), Flatten()), ReLU())
    assert replace_layers(net, lambda name, m: asked.append(name) or m) is net
    assert sorted(asked) == ["", "0", "1", "1.0", "1.1"]


@pytest.mark.parametrize("bits, near", [(8, 0.02), (4, 0.3)])
def test_models_answer_nearly_the_same(bits, near):
    net, x = small_cnn(), Tensor(random(5, 1, 8, 8, seed=6))
    assert np.abs(quantize(net, bits)(x).data - net(x).data).max() < near
    gpt = GPT(GPTConfig.llama(30, 8, dim=16, heads=4, layers=2, kv_heads=2)).eval()
    gap = np.abs(quantize(gpt, bits)([[1, 2, 3]]).data - gpt([[1, 2, 3]]).data)
    assert gap.max() < near


# files


def test_a_file_holds_the_model(tmp_path):
    for model, x in (
        (small_cnn(), Tensor(random(3, 1, 8, 8))),
        (quantize(small_cnn()), Tensor(random(3, 1, 8, 8))),
        (quantize(GPT(GPTConfig(30, 8, dim=8, heads=2, layers=1)), 4), [[1, 2, 3]]),
    ):
        save(model, tmp_path / "model.pt")
        again = load(tmp_path / "model.pt")
        assert repr(again) == repr(model)
        assert (again(x).data == model(x).data).all()
        assert file_size(model) == os.stat(tmp_path / "model.pt").st_size
        assert os.listdir(tmp_path) == ["model.pt"]


def test_an_eighth_or_a_quarter_of_the_bytes():
    layer = Linear(512, 512)
    whole = file_size(layer)
    assert 3.9 < whole / file_size(quantize(layer)) < 4
    assert 7.6 < whole / file_size(quantize(layer, 4)) < 8


def test_tied_weights_are_stored_once_and_train_on(tmp_path):
    gpt = GPT(GPTConfig(400, 8, dim=32, heads=2, layers=1))
    save(gpt, tmp_path / "gpt.pt")
    assert file_size(gpt) < 4 * sum(p.size for p in gpt.parameters()) + 15_000
    again = load(tmp_path / "gpt.pt")
    assert again.head.weight is again.embedding.weight
    assert isinstance(again.head.weight, Parameter) and not again.training
    again.train()([[1, 2]]).sum().backward()
    assert again.head.weight.grad is not None


def test_damage_is_an_error_that_names_the_file(tmp_path):
    path = tmp_path / "model.pt"
    save(Linear(3, 2), path)
    raw = path.read_bytes()
    path.write_bytes(raw[:-1])
    with pytest.raises(ValueError, match=r"model\.pt.*\n.*save the model again"):
        load(path)
    path.write_bytes(raw[:-3] + bytes([raw[-3] ^ 1]) + raw[-2:])
    with pytest.raises(ValueError, match="checksum"):
        load(path)
