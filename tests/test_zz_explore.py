"""Properties that hold for every shape, index and expression, not only for the ones we thought of.

Examples are derandomised: the same ones in every run, so a failure can be repeated.
"""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tinytorch.core import optimizers
from tinytorch.core.activations import Sigmoid, SiLU, Softmax, Tanh
from tinytorch.core.autograd import restore, unbroadcast
from tinytorch.core.layers import Linear, Sequential
from tinytorch.core.tensor import Tensor, broadcast_shapes, cat

from tests.oracles import assert_close

few = settings(max_examples=3000, deadline=None, derandomize=False, database=None)
many = settings(max_examples=3000, deadline=None, derandomize=False, database=None)

sizes = st.integers(0, 4)
shapes = hnp.array_shapes(min_dims=0, max_dims=4, min_side=1, max_side=4)
seeds = st.integers(0, 2**32 - 1)


def numbers(seed, shape):
    """Float32 numbers that are not the subject of the property."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@many
@given(st.lists(sizes, max_size=4).map(tuple), st.lists(sizes, max_size=4).map(tuple))
def test_broadcast_shapes_is_numpys(a, b):
    try:
        wanted = np.broadcast_shapes(a, b)
    except ValueError:
        with pytest.raises(ValueError, match="do not broadcast") as caught:
            broadcast_shapes(a, b)
        assert str(a) in str(caught.value)
        assert str(b) in str(caught.value)
    else:
        assert broadcast_shapes(a, b) == wanted
        assert (Tensor(np.zeros(a)) + Tensor(np.zeros(b))).shape == wanted


@many
@given(hnp.mutually_broadcastable_shapes(num_shapes=1, max_dims=4, max_side=4), seeds)
def test_unbroadcast_is_the_adjoint_of_broadcasting(drawn, seed):
    """<A x, y> = <x, A' y> for A = broadcast to the larger shape: what a gradient must satisfy."""
    (shape,), base = drawn.input_shapes, drawn.result_shape
    large = np.broadcast_shapes(shape, base, (2, *base))
    x, y = numbers(seed, shape).astype(np.float64), numbers(seed + 1, large).astype(np.float64)
    back = unbroadcast(y, shape)
    assert back.shape == shape
    there = (np.broadcast_to(x, large) * y).sum()
    np.testing.assert_allclose((x * back).sum(), there, rtol=1e-9, atol=1e-9)


@st.composite
def reductions(draw):
    shape = draw(hnp.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=4))
    axes = draw(st.none() | hnp.valid_tuple_axes(len(shape), min_size=1))
    if axes is not None and len(axes) == 1 and draw(st.booleans()):
        axes = axes[0]
    return shape, axes, draw(st.booleans())


@many
@given(reductions(), seeds)
def test_restore_is_the_adjoint_of_sum(drawn, seed):
    shape, axis, keepdims = drawn
    x = numbers(seed, shape).astype(np.float64)
    total = x.sum(axis=axis, keepdims=keepdims)
    g = np.asarray(numbers(seed + 1, total.shape), dtype=np.float64)
    back = restore(g, shape, axis, keepdims)
    assert back.shape == shape
    np.testing.assert_allclose((x * back).sum(), (total * g).sum(), rtol=1e-9, atol=1e-9)


REDUCERS = {
    "sum": (lambda x, a, k: x.sum(a, k), lambda t, a, k: torch.sum(t, dim=a, keepdim=k)),
    "mean": (lambda x, a, k: x.mean(a, k), lambda t, a, k: torch.mean(t, dim=a, keepdim=k)),
    "max": (
        lambda x, a, k: x.max(a, k),
        lambda t, a, k: t.amax(dim=() if a is None else a, keepdim=k),
    ),
    "var": (
        lambda x, a, k: x.var(a, k, 0),
        lambda t, a, k: t.var(dim=a, keepdim=k, correction=0),
    ),
}


@few
@given(st.sampled_from(sorted(REDUCERS)), reductions(), seeds, st.booleans())
def test_reduction_is_torchs(name, drawn, seed, ties):
    shape, axis, keepdims = drawn
    data = numbers(seed, shape)
    data = np.round(data) + np.float32(0) if ties else data
    x, t = Tensor(data, requires_grad=True), torch.tensor(data, requires_grad=True)
    ours, theirs = REDUCERS[name]
    y, u = ours(x, axis, keepdims), theirs(t, axis, keepdims)
    assert_close("value", y.data, u.detach(), rtol=1e-5, atol=1e-5)
    g = np.asarray(numbers(seed + 1, y.shape))
    y.backward(g)
    u.backward(torch.from_numpy(g))
    assert_close("gradient", x.grad, t.grad, rtol=1e-5, atol=1e-5)


@st.composite
def indexed(draw):
    """A shape and a key: ints, slices, ellipsis, new axes, and at most one list or mask.

    Beside a list no int: NumPy and PyTorch then order the axes differently, and we follow NumPy.
    """
    shape = draw(hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=4))
    place = draw(st.integers(0, len(shape) - 1)) if draw(st.booleans()) else None
    key = []
    for axis, size in enumerate(shape):
        if axis == place:
            key.append(draw(fancy(size)))
        elif place is None and draw(st.booleans()):
            key.append(draw(st.integers(-size, size - 1)))
        else:
            key.append(draw(slices(size)))
        if draw(st.integers(0, 5)) == 0:
            key.append(None)
    if place is None and draw(st.booleans()):
        key = [*key[: draw(st.integers(0, len(key)))], Ellipsis]
    return shape, tuple(key)


def slices(size):
    """Slices with positive steps: PyTorch has no others."""
    bound = st.none() | st.integers(-size, size)
    return st.builds(slice, bound, bound, st.none() | st.integers(1, 3))


def fancy(size):
    """A list of places, often repeated, or a mask."""
    places = st.lists(st.integers(-size, size - 1), min_size=1, max_size=6)
    return places | hnp.arrays(bool, size)


@many
@given(indexed(), seeds)
def test_getitem_is_torchs(drawn, seed):
    shape, key = drawn
    data = numbers(seed, shape)
    x, t = Tensor(data, requires_grad=True), torch.tensor(data, requires_grad=True)
    y = x[key]
    u = t[tuple(torch.from_numpy(k) if isinstance(k, np.ndarray) else k for k in key)]
    assert_close("value", y.data, u.detach())
    g = np.asarray(numbers(seed + 1, y.shape))
    y.backward(g)
    u.backward(torch.from_numpy(g))
    assert_close("gradient", x.grad, t.grad)


# Corners (abs, clamp, max) are met at this distance, so that float32 and float64 agree on the side.
OFF = np.array([[0.31, -0.47, 0.83], [-0.59, 0.17, 0.71], [0.43, -0.23, 0.97]], dtype=np.float32)
APART = torch.from_numpy(OFF)
UNARY = [
    (lambda v: -v, lambda v: -v),
    (lambda v: v * 0.5 + 1, lambda v: v * 0.5 + 1),
    (lambda v: 2 - v, lambda v: 2 - v),
    (lambda v: v**2, lambda v: v**2),
    (lambda v: v.T, lambda v: v.T),
    (lambda v: (v + OFF).abs(), lambda v: (v + APART).abs()),
    (lambda v: (v + OFF).clamp(-1, 1), lambda v: (v + APART).clamp(-1, 1)),
    (lambda v: v.reshape(-1).reshape(3, 3), lambda v: v.reshape(-1).reshape(3, 3)),
    (lambda v: v[[2, 0, 0]], lambda v: v[[2, 0, 0]]),
    (lambda v: v - v.mean(1, True), lambda v: v - v.mean(1, True)),
    (lambda v: v / ((v * v).sum() + 1), lambda v: v / ((v * v).sum() + 1)),
    (lambda v: Tanh()(v), torch.tanh),
    (lambda v: Sigmoid()(v), torch.sigmoid),
    (lambda v: SiLU()(v), torch.nn.functional.silu),
    (lambda v: Softmax(dim=0)(v), lambda v: torch.softmax(v, 0)),
    (lambda v: (v + OFF).max(1, True) - v, lambda v: (v + APART).amax(1, True) - v),
]
BINARY = [
    (lambda a, b: a + b, lambda a, b: a + b),
    (lambda a, b: a - b, lambda a, b: a - b),
    (lambda a, b: a * b, lambda a, b: a * b),
    (lambda a, b: a @ b / 3, lambda a, b: a @ b / 3),
    (lambda a, b: a * b[0], lambda a, b: a * b[0]),
    (lambda a, b: a / (b * b + 1), lambda a, b: a / (b * b + 1)),
    (lambda a, b: cat([a[:1], b[1:]]), lambda a, b: torch.cat([a[:1], b[1:]])),
]
STEPS = st.lists(
    st.tuples(st.integers(0, len(UNARY) + len(BINARY) - 1), st.integers(0, 30), st.integers(0, 30)),
    min_size=1,
    max_size=12,
)


def evaluate(steps, leaves, side):
    """A random graph: each step takes any earlier results, so nodes are shared and ways rejoin."""
    values = list(leaves)
    for op, first, second in steps:
        a, b = values[first % len(values)], values[second % len(values)]
        values.append(
            UNARY[op][side](a) if op < len(UNARY) else BINARY[op - len(UNARY)][side](a, b)
        )
    return sum((v.sum() for v in values[1:]), values[0].sum()), values


@many
@given(STEPS, seeds)
def test_random_graph_has_torchs_gradients(steps, seed):
    arrays = [numbers(seed, (3, 3)), numbers(seed + 1, (3, 3))]
    ours = [Tensor(a, requires_grad=True) for a in arrays]
    theirs = [torch.tensor(a.astype(np.float64), requires_grad=True) for a in arrays]
    with np.errstate(over="ignore", invalid="ignore"):
        total, values = evaluate(steps, ours, 0)
        wanted, _ = evaluate(steps, theirs, 1)
        assert all(v.data.dtype == np.float32 for v in values)
        total.backward()
    wanted.backward()
    # Against PyTorch in float64: whatever float32 loses here is ours. Rounding is relative to the
    # largest gradient that met in a sum; beyond 1e4 no digits are left to compare.
    largest = max(float(v.detach().abs().max()) for v in (wanted, *(t.grad for t in theirs)))
    assume(largest < 1e4)
    for x, t in zip(ours, theirs):
        np.testing.assert_allclose(x.grad, t.grad.numpy(), rtol=1e-3, atol=1e-5 * (1 + largest))


@few
@given(hnp.mutually_broadcastable_shapes(signature="(m,k),(k,n)->(m,n)", max_side=3), seeds)
def test_matmul_of_any_batches_is_torchs(drawn, seed):
    data = [numbers(seed + i, shape) for i, shape in enumerate(drawn.input_shapes)]
    a, b = (Tensor(d, requires_grad=True) for d in data)
    s, t = (torch.tensor(d, requires_grad=True) for d in data)
    y, u = a @ b, s @ t
    assert_close("value", y.data, u.detach())
    g = np.asarray(numbers(seed + 2, y.shape))
    y.backward(g)
    u.backward(torch.from_numpy(g))
    assert_close("left", a.grad, s.grad, atol=1e-5)
    assert_close("right", b.grad, t.grad, atol=1e-5)


@few
@given(shapes.flatmap(lambda s: st.tuples(st.just(s), st.permutations(range(len(s))))), seeds)
def test_permute_and_reshape_come_back(drawn, seed):
    shape, axes = drawn
    x = Tensor(numbers(seed, shape), requires_grad=True)
    there = x.permute(*axes)
    back = there.permute(*np.argsort(axes).tolist())
    assert np.array_equal(back.data, x.data)
    assert np.array_equal(there.reshape(-1).reshape(there.shape).data, there.data)
    g = np.asarray(numbers(seed + 1, there.shape))
    there.backward(g)
    assert np.array_equal(x.grad, g.transpose(np.argsort(axes)))


@few
@given(st.lists(st.integers(1, 5), min_size=2, max_size=4), st.booleans(), seeds)
def test_state_of_any_model_comes_back(widths, bias, seed):
    def model():
        return Sequential(*[Linear(m, n, bias=bias) for m, n in pairwise(widths)])

    first, second = model(), model()
    state = {k: numbers(seed, v.shape) for k, v in first.state_dict().items()}
    first.load_state_dict(state)
    second.load_state_dict(first.state_dict())
    x = Tensor(numbers(seed, (2, widths[0])))
    assert np.array_equal(first(x).data, second(x).data)
    for array in state.values():
        array += 1
    assert np.array_equal(first(x).data, second(x).data), "a state is a copy, not a view"


@few
@given(
    st.sampled_from(["SGD", "Adam", "AdamW"]),
    st.lists(shapes, min_size=1, max_size=3),
    st.integers(0, 4),
    seeds,
)
def test_optimizer_continues_from_any_state(name, sizes, before, seed):
    options = {"lr": 0.1} | ({"momentum": 0.9} if name == "SGD" else {})
    params = [Tensor(numbers(seed, s).copy(), requires_grad=True) for s in sizes]
    optimizer = getattr(optimizers, name)(params, **options)

    def step(opt, tensors, number):
        for p in tensors:
            p.grad = np.asarray(numbers(seed + number, p.shape))
        opt.step()

    for number in range(before):
        step(optimizer, params, number)
    copies = [Tensor(p.data.copy(), requires_grad=True) for p in params]
    again = getattr(optimizers, name)(copies, **options)
    again.load_state_dict(optimizer.state_dict())
    for opt, tensors in ((optimizer, params), (again, copies)):
        step(opt, tensors, 99)
    assert all(np.array_equal(p.data, c.data) for p, c in zip(params, copies))
