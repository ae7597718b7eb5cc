"""Hidden variants of module 18: other seeds and shapes, loops and float64 NumPy as the oracle."""

import threading

import numpy as np
import pytest

import tinytorch.core.acceleration as fast
from tinytorch.core.activations import ReLU
from tinytorch.core.layers import Linear, Sequential
from tinytorch.core.tensor import Tensor, manual_seed
from tinytorch.nn import conv
from tinytorch.nn.conv import conv2d_explicit, conv2d_explicit_backward
from tinytorch.nn.transformer import MLP


def random(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def last(x):
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1))


@pytest.mark.parametrize("sizes", [(1, 1, 1), (7, 5, 3), (20, 21, 22), (10, 100, 2)])
@pytest.mark.parametrize("block", [1, 7, 64])
def test_blocked_matmul_is_the_product(sizes, block):
    m, k, n = sizes
    a, b = random(m, k), random(k, n, seed=1)
    assert fast.blocked_matmul(a, b, block).dtype == np.float32
    np.testing.assert_allclose(fast.blocked_matmul(a, b, block), a @ b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("count", [0, 1, 2, 17])
def test_crew_keeps_the_order(threads, count):
    crew, seen = fast.Crew(threads), []
    found = crew.run(lambda part: (seen.append(part), part + 0.5)[1], range(count))
    assert found == [part + 0.5 for part in range(count)] and sorted(seen) == list(range(count))
    crew.close()


def test_crew_works_at_the_same_time_and_raises():
    crew, barrier = fast.Crew(3), threading.Barrier(3)
    assert sorted(crew.run(lambda part: barrier.wait(timeout=10), range(3))) == [0, 1, 2]

    def fail(part):
        barrier.wait(timeout=10)
        if threading.current_thread() is not threading.main_thread():
            raise LookupError

    with pytest.raises(LookupError):
        crew.run(fail, range(3))
    crew.close()


def test_one_part_wakes_nobody(monkeypatch):
    crew = fast.Crew(3)
    monkeypatch.setattr(crew.pool, "submit", lambda *given: pytest.fail("a helper was woken"))
    assert crew.run(lambda part: part + 1, [1]) == [2]
    crew.close()


CASES = [
    ((2, 3, 6, 5), (4, 3, 3, 3), 1, 1),
    ((1, 2, 9, 7), (3, 2, 3, 2), 2, 1),
    ((5, 1, 8, 8), (2, 1, 5, 5), 3, 2),
    ((2, 2, 4, 6), (3, 2, 1, 1), 1, 0),
    ((1, 2, 4, 4), (1, 2, 2, 2), 1, 3),
]


@pytest.mark.parametrize("x, w, stride, padding", CASES)
def test_convolution_and_gradients_by_products(x, w, stride, padding):
    x, w, bias = random(*x), random(*w, seed=1), random(w[0], seed=2)
    want = conv2d_explicit(x.astype(float), w.astype(float), bias, stride, padding)
    close = {"rtol": 1e-4, "atol": 1e-4}
    got = fast.gemm_forward(last(x), w, bias, stride, padding)
    np.testing.assert_allclose(got, want.transpose(0, 2, 3, 1), **close)
    g = random(*want.shape, seed=3)
    gx, gw, _ = conv2d_explicit_backward(g.astype(float), x.astype(float), w, stride, padding)
    got = fast.fast_input_gradient(g, x, w, stride, padding)
    np.testing.assert_allclose(got, gx, **close)
    np.testing.assert_allclose(fast.fast_weight_gradient(g, x, w, stride, padding), gw, **close)


def test_columns_and_back_are_transposes():
    for shape, kernel, stride, padding in (((2, 5, 7, 3), (3, 2), 1, 1), ((1, 9, 8, 2), (3, 3), 2, 0)):
        x = random(*shape)
        rows = fast.columns(x, kernel, stride, padding).copy()
        sent = random(*rows.shape, seed=1)
        back = fast.from_columns(sent, shape, kernel, stride, padding)
        assert (rows * sent).sum() == pytest.approx((x * back).sum(), rel=1e-3)


@pytest.mark.parametrize("form", [fast.F2, fast.F4])
@pytest.mark.parametrize("size", [(1, 1), (3, 5), (4, 8), (9, 6)])
@pytest.mark.parametrize("padding", [0, 1, 2])
def test_winograd_at_all_edges(form, size, padding):
    h, w = size[0] + 2 - 2 * padding, size[1] + 2 - 2 * padding
    if min(h, w) < 1:
        return
    x, weight, bias = random(3, 2, h, w), random(4, 2, 3, 3, seed=1), random(4, seed=2)
    want = conv2d_explicit(x.astype(float), weight.astype(float), bias, 1, padding)
    got = fast.winograd_forward(last(x), weight, bias, padding, form)
    np.testing.assert_allclose(got, want.transpose(0, 2, 3, 1), rtol=1e-3, atol=1e-4)
    g = random(*want.shape, seed=3)
    gw = conv2d_explicit_backward(g.astype(float), x.astype(float), weight, 1, padding)[1]
    got = fast.winograd_weight(last(g), last(x), padding, form)
    np.testing.assert_allclose(got, gw, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
def test_cross_entropy_and_slope(smoothing):
    z, classes = random(6, 5).astype(float) * 30, np.array([0, 4, 2, 2, 1, 3])
    loss, slope = fast.cross_entropy_and_slope(z, classes, smoothing)
    for place in np.ndindex(z.shape):
        moved = z.copy()
        moved[place] += 1e-6
        up = fast.cross_entropy_and_slope(moved, classes, smoothing)[0].sum()
        assert (up - loss.sum()) / 1e-6 == pytest.approx(slope[place], abs=1e-3)
    assert slope.sum(axis=1) == pytest.approx(np.zeros(6), abs=1e-9)


def test_gelu_and_its_slope():
    x = np.linspace(-6, 6, 101)
    y, slope = x.copy(), np.empty_like(x)
    fast.gelu_with_slope(y, slope)
    want = 0.5 * x * (1 + np.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3)))
    np.testing.assert_allclose(y, want, atol=1e-6)
    np.testing.assert_allclose(slope, np.gradient(want, x, edge_order=2), atol=5e-3)


def test_normalise_rows_far_from_zero():
    rows = random(4, 33) + np.float32(1000)
    normal, scale, out = np.empty_like(rows), np.empty((4, 1), np.float32), np.empty_like(rows)
    fast.normalise_rows(rows, np.full(33, 2.0), np.ones(33), 1e-5, normal, scale, out)
    wide = rows.astype(float)
    want = (wide - wide.mean(1, keepdims=True)) / np.sqrt(wide.var(1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(normal, want, atol=2e-3)
    np.testing.assert_allclose(out, 2 * want + 1, atol=4e-3)


def test_results_are_no_scratch_memory():
    with fast.accelerated(2):
        for channels in (4, 16):
            x, w = random(2, channels, 7, 7), random(channels, channels, 3, 3, seed=1)
            kernels = [
                lambda x: conv.conv2d_forward(x, w, None, 1, 1),
                lambda x: conv.conv2d_input_gradient(x, x, w, 1, 1),
                lambda x: conv.conv2d_input_gradient(x, random(2, channels, 13, 13), w, 2, 1),
                lambda x: conv.conv2d_weight_gradient(x, x, w, 1, 1),
            ]
            for kernel in kernels:
                first = kernel(x)
                copy = first.copy()
                kernel(x + 1)
                assert (first == copy).all()


def test_arrays_in_any_order_of_memory_are_bent_alike():
    with fast.accelerated(2):
        for seed in range(40):
            rng = np.random.default_rng(seed)
            x = random(32, 33, 64, 1, seed=seed).transpose(rng.permutation(4))
            x = x[tuple(slice(None, None, int(rng.choice([1, 1, 2, -1]))) for _ in range(4))]
            t = Tensor(x, requires_grad=True)
            t.data = x
            out = ReLU()(t)
            out.backward(random(*x.shape, seed=seed))
            assert (out.data == np.maximum(x, 0)).all()
            assert (t.grad == random(*x.shape, seed=seed) * (x > 0)).all()


def test_wrong_widths_are_refused_as_ever():
    with fast.accelerated(1):
        for layer in (Linear(4, 3), MLP(4, 8), Sequential(Linear(4, 3), ReLU())):
            with pytest.raises(ValueError, match="inner sizes 5 and 4 differ"):
                layer(Tensor(random(3, 5)))


def test_one_name_need_not_stand_in_a_list():
    with fast.accelerated(1, only="gemm"):
        assert fast.enabled == {"gemm"}


def test_views_lie_as_the_parameters_do():
    manual_seed(0)
    model = Sequential(Linear(5, 3), Linear(3, 4))
    params = model.parameters()
    whole = np.zeros(sum(p.size for p in params), np.float32)
    found = fast.views(whole, params)
    assert [v.strides for v in found] == [p.data.strides for p in params]
    for number, view in enumerate(found):
        view[...] = number
    assert whole.tolist() == [float(n) for n, p in enumerate(params) for _ in range(p.size)]


def test_switches_are_exact_and_idempotent():
    was_on, before = fast.acceleration_enabled(), {}
    fast.disable_acceleration()
    for swaps in fast.SWAPS.values():
        before.update({(owner, name): vars(owner)[name] for owner, name, _ in swaps})
    for _ in range(2):
        fast.enable_acceleration(1)
        fast.enable_acceleration(2)
        assert fast.acceleration_enabled() and conv.conv2d_forward is fast.fast_forward
        fast.disable_acceleration()
        assert all(vars(owner)[name] is old for (owner, name), old in before.items())
        assert not fast.acceleration_enabled() and not fast.originals
    with fast.accelerated(1, only=["gemm"]):
        assert conv.conv2d_forward is fast.fast_forward and fast.enabled == {"gemm"}
    assert conv.conv2d_forward is before[conv, "conv2d_forward"]
    if was_on:
        fast.enable_acceleration()


@pytest.mark.parametrize("options", [{"only": ["wingrad"]}, {"threads": 0}, {"threads": "2"}])
def test_impossible_options_are_refused(options):
    with pytest.raises(ValueError, match="enable_acceleration"):
        fast.enable_acceleration(**options)


def test_float64_takes_the_clear_way():
    with fast.accelerated(1):
        x, w = random(1, 2, 5, 5).astype(float), random(3, 2, 3, 3).astype(float)
        assert conv.conv2d_forward(x, w, None, 1, 1).dtype == np.float64
    assert Tensor(x).dtype == np.float32
