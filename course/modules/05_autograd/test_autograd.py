"""Hidden variants for module 05: other shapes, seeds and graphs, against slopes and worked numbers."""

import gc
import tracemalloc
import warnings

import numpy as np
import pytest

from tinytorch.core import autograd
from tinytorch.core.activations import GELU, LogSoftmax, ReLU, Sigmoid, SiLU, Softmax, Tanh
from tinytorch.core.autograd import (
    GradientError,
    check_grads,
    enable_autograd,
    graph_dot,
    graph_mermaid,
    graph_text,
    index_gradient,
    is_grad_enabled,
    matmul_gradient,
    max_gradient,
    no_grad,
    numerical_gradient,
    restore,
    topological_sort,
    tracked,
    unbroadcast,
)
from tinytorch.core.layers import Linear, Sequential
from tinytorch.core.losses import BCELoss, BCEWithLogitsLoss, CrossEntropyLoss, MSELoss
from tinytorch.core.tensor import Tensor, cat, stack

enable_autograd()


def random(*shape, seed=0, low=None, high=None):
    rng = np.random.default_rng(seed)
    values = rng.standard_normal(shape) if low is None else rng.uniform(low, high, shape)
    return Tensor(values)


def leaf(values):
    return Tensor(values, requires_grad=True)


def slopes(f, *arrays, eps=1e-6):
    """Central differences in float64 of a function of arrays that returns a number."""
    arrays = [np.array(a, dtype=np.float64) for a in arrays]
    found = []
    for array in arrays:
        slope = np.zeros_like(array)
        flat, out = array.reshape(-1), slope.reshape(-1)
        for i in range(flat.size):
            centre = flat[i]
            flat[i] = centre + eps
            up = f(*arrays)
            flat[i] = centre - eps
            out[i] = (up - f(*arrays)) / (2 * eps)
            flat[i] = centre
        found.append(slope)
    return found


# The measuring stick


def test_numerical_gradient_equals_the_derivative():
    x = np.random.default_rng(3).standard_normal((3, 2, 2))
    before = x.copy()
    np.testing.assert_allclose(numerical_gradient(lambda a: np.sin(a).sum(), x), np.cos(x), atol=1e-8)
    np.testing.assert_array_equal(x, before)


def test_numerical_gradient_is_symmetric_around_a_point():
    slope = numerical_gradient(lambda a: np.abs(a).sum(), np.zeros(3), eps=0.01)
    np.testing.assert_allclose(slope, 0.0, atol=1e-12)


def test_numerical_gradient_takes_a_scalar_array():
    assert numerical_gradient(lambda a: float(a) ** 2, np.array(5.0)) == pytest.approx(10.0)


# Shapes on the way back


@pytest.mark.parametrize("shape", [(), (1,), (5,), (4, 1), (1, 5), (3, 1, 1), (1, 4, 5), (3, 4, 5)])
def test_unbroadcast_counts_how_often_each_entry_was_used(shape):
    back = unbroadcast(np.ones((3, 4, 5)), shape)
    assert back.shape == shape
    np.testing.assert_array_equal(back, np.full(shape, 60 / np.prod(shape)))


def test_unbroadcast_leaves_an_axis_of_size_zero():
    assert unbroadcast(np.zeros((2, 0)), (0,)).shape == (0,)


@pytest.mark.parametrize("axis", [None, 0, 1, 2, -1, -3, (0, 1), (0, 2), (-1, -2), (0, 1, 2)])
@pytest.mark.parametrize("keepdims", [False, True])
def test_restore_stretches_every_reduction(axis, keepdims):
    x = np.random.default_rng(1).standard_normal((2, 3, 4))
    total = x.sum(axis=axis, keepdims=True)
    g = x.sum(axis=axis, keepdims=keepdims)
    np.testing.assert_allclose(restore(g, x.shape, axis, keepdims), np.broadcast_to(total, x.shape))


@pytest.mark.parametrize("axis", [None, 0, -1, (0, 2)])
def test_max_gradient_hands_out_exactly_what_arrives(axis):
    x = np.random.default_rng(2).integers(0, 3, (4, 3, 5)).astype(float)
    out = x.max(axis=axis)
    g = np.random.default_rng(3).random(out.shape)
    gradient = max_gradient(g, out, x, axis=axis)
    np.testing.assert_allclose(gradient.sum(axis=axis), g)
    assert not gradient[x < x.max(axis=axis, keepdims=True)].any()


def test_index_gradient_adds_up_repeats():
    key = np.random.default_rng(4).integers(0, 6, 200)
    g = np.random.default_rng(5).standard_normal((200, 3))
    expected = np.eye(6)[key].T @ g
    np.testing.assert_allclose(index_gradient(g, None, np.zeros((6, 3)), key), expected)


def test_tensors_may_be_indices():
    x, rows = leaf([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), Tensor([2, 0, 2])
    (x[rows].sum() + x[rows, 1].sum()).backward()
    assert x.grad.tolist() == [[1.0, 2.0], [0.0, 0.0], [2.0, 4.0]]


@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
def test_matmul_gradient_equals_the_sum_over_entries(batch):
    rng = np.random.default_rng(6)
    a, b = rng.standard_normal((*batch, 4, 2)), rng.standard_normal((*batch, 2, 5))
    g = rng.standard_normal((*batch, 4, 5))
    np.testing.assert_allclose(
        matmul_gradient(0, g, a, b), np.einsum("...ij,...pj->...ip", g, b), atol=1e-12
    )
    np.testing.assert_allclose(
        matmul_gradient(1, g, a, b), np.einsum("...ip,...ij->...pj", a, g), atol=1e-12
    )


# Every rule in the table against its slope


@pytest.mark.parametrize("shapes", [((3, 2), (3, 2)), ((3, 2), (2,)), ((3, 1), (1, 2)), ((), (2, 3))])
@pytest.mark.parametrize(
    "f",
    [
        lambda a, b: a + b,
        lambda a, b: a - b,
        lambda a, b: a * b,
        lambda a, b: a / b,
        lambda a, b: a**b,
        lambda a, b: a * b + a / b - b,
    ],
)
def test_arithmetic_of_two_tensors(f, shapes):
    a, b = random(*shapes[0], low=0.5, high=2), random(*shapes[1], seed=1, low=0.5, high=2)
    assert check_grads(f, a, b)


@pytest.mark.parametrize(
    "f",
    [
        lambda x: 3 - x,
        lambda x: 2 / x,
        lambda x: x - 1.5,
        lambda x: x**3,
        lambda x: x**-0.5,
        lambda x: -x,
        lambda x: x.exp(),
        lambda x: x.log(),
        lambda x: x.sqrt(),
        lambda x: (x - 1).abs(),
        lambda x: x.clamp(0.7, 1.3),
        lambda x: x.clamp(max=1.1),
        lambda x: x.sum(axis=(0, 1)) * x.sum(),
        lambda x: x.mean(axis=-1, keepdims=True) * x,
        lambda x: x.var(axis=0, correction=0),
        lambda x: x.max(axis=1),
        lambda x: x.reshape(-1, 2) @ x.reshape(2, -1),
        lambda x: x.permute(1, 0) * x.T,
        lambda x: x[1:, [0, 0, 2]],
        lambda x: x.clone() * x,
        lambda x: cat([x, x * 2, x[:1]], axis=0),
        lambda x: stack([x, x * x], axis=1),
    ],
)
def test_functions_of_one_tensor(f):
    assert check_grads(f, random(4, 3, seed=8, low=0.5, high=1.5))


@pytest.mark.parametrize("axes", [(2, 0, 1), (1, 2, 0), (0, 2, 1), (-1, 0, 1), ((2, -3, 1),)])
def test_permute_of_three_axes(axes):
    weights = random(2, 3, 4, seed=16).permute(*axes)
    assert check_grads(lambda x: x.permute(*axes) * weights, random(2, 3, 4))


@pytest.mark.parametrize("axis", [0, 1, -1, -2])
def test_cat_of_unequal_tensors(axis):
    shapes = [(n, 2) if axis in (0, -2) else (2, n) for n in (1, 3, 2)]
    inputs = [random(*shape, seed=seed) for seed, shape in enumerate(shapes)]
    assert check_grads(lambda *tensors: cat([*tensors, tensors[0]], axis=axis), *inputs)


@pytest.mark.parametrize(
    "shapes",
    [((2, 3), (3, 4)), ((3,), (3,)), ((3,), (3, 2)), ((2, 3), (3,)), ((4, 2, 3), (3, 2)), ((2, 1, 2, 3), (5, 3, 1))],
)
def test_matmul_of_vectors_matrices_and_batches(shapes):
    assert check_grads(lambda a, b: a @ b, random(*shapes[0]), random(*shapes[1], seed=1))


@pytest.mark.parametrize(
    "activation",
    [ReLU(), Sigmoid(), Tanh(), GELU(), GELU("tanh"), SiLU(), Softmax(), Softmax(dim=0), LogSoftmax(dim=1)],
    ids=repr,
)
def test_activations(activation):
    assert check_grads(activation, random(3, 4, seed=9) * 2)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
def test_cross_entropy(reduction, smoothing):
    loss = CrossEntropyLoss(reduction=reduction, label_smoothing=smoothing)
    assert check_grads(lambda x: loss(x, [4, 0, 2]), random(3, 5, seed=10))


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_other_losses(reduction):
    target = np.array([[0.0, 1.0], [1.0, 0.5]])
    p = random(2, 2, seed=11, low=0.1, high=0.9)
    assert check_grads(lambda x: MSELoss(reduction=reduction)(x, Tensor(target)), p)
    assert check_grads(lambda x: BCELoss(reduction=reduction)(x, Tensor(target)), p)
    assert check_grads(lambda x: BCEWithLogitsLoss(reduction=reduction)(x, Tensor(target)), p)


def test_corners_follow_the_convention():
    x = leaf([-1.0, 0.0, 2.0])
    ReLU()(x).sum().backward()
    assert x.grad.tolist() == [0.0, 0.0, 1.0]
    x = leaf([-2.0, 0.0, 2.0])
    x.abs().sum().backward()
    assert x.grad.tolist() == [-1.0, 0.0, 1.0]
    x = leaf([0.0, 1.0, 2.0])
    x.clamp(0.0, 1.0).sum().backward()
    assert x.grad.tolist() == [1.0, 1.0, 0.0]
    x = leaf([2.0, 7.0, 7.0, 7.0])
    x.max().backward()
    np.testing.assert_allclose(x.grad, [0, 1 / 3, 1 / 3, 1 / 3], rtol=1e-6)


def test_extreme_logits_give_finite_gradients_in_silence():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for loss, target in ((CrossEntropyLoss(), [1]), (BCEWithLogitsLoss(), [[0.0, 1.0, 0.0]])):
            x = leaf([[1000.0, -1000.0, 0.0]])
            loss(x, target if isinstance(target[0], int) else Tensor(target)).backward()
            assert np.isfinite(x.grad).all()


# The tape


def test_tracked_keeps_name_options_and_docstring():
    def triple(a, times=3):
        """Three times."""
        return Tensor(a.data * times)

    operation = tracked(triple, (lambda g, out, a, times=3: g * times,), "triple")
    assert operation.__doc__ == "Three times."
    x = leaf([1.0, -1.0])
    y = operation(x, times=5)
    assert (y._node.name, y._node.kwargs) == ("triple", {"times": 5})
    y.sum().backward()
    assert x.grad.tolist() == [5.0, 5.0]


def test_data_without_gradients_is_not_recorded():
    x, w = random(4, 3), leaf(np.ones((3, 2)))
    assert (x * 2 + 1)._node is None
    assert [i for i, _ in (x @ w)._node.parents] == [1]


def test_no_grad_nests_decorates_and_survives_errors():
    w = leaf([1.0])
    with no_grad():
        with no_grad():
            assert not is_grad_enabled()
        assert (w * 2)._node is None
    assert is_grad_enabled()
    with pytest.raises(ZeroDivisionError), no_grad():
        raise ZeroDivisionError
    assert is_grad_enabled()
    assert not no_grad()(lambda: (w * 2).requires_grad)()


def test_detach_cuts_the_graph():
    w = leaf([2.0, 3.0])
    (w * w.detach()).sum().backward()
    assert w.grad.tolist() == [2.0, 3.0]


def test_a_composed_operation_is_recorded_once():
    x, inside = leaf([[1.0, 2.0], [3.0, 5.0]]), []

    def cubed(a):
        inside.extend([a * a, a * a * a])
        return inside[-1]

    y = tracked(cubed, (lambda g, out, a: g * 3 * a**2,), "cubed")(x)
    assert [t._node.name for t in topological_sort(y) if t._node] == ["cubed"]
    assert inside[0]._node is None
    y.sum().backward()
    assert x.grad.tolist() == [[3.0, 12.0], [27.0, 75.0]]


# The order and the walk


@pytest.mark.parametrize("seed", range(8))
def test_topological_sort_of_random_graphs(seed):
    rng = np.random.default_rng(seed)
    tensors = [leaf([1.0]), leaf([1.0])]
    for _ in range(40):
        i, j = rng.integers(0, len(tensors), 2)
        tensors.append(tensors[i] * tensors[j] if rng.random() < 0.5 else tensors[i] + tensors[j])
    order = topological_sort(tensors[-1])
    place = {id(t): n for n, t in enumerate(order)}
    assert len(place) == len(order)
    assert order[-1] is tensors[-1]
    for t in order:
        for _, parent in t._node.parents if t._node else ():
            assert place[id(parent)] < place[id(t)]


def test_ladder_of_diamonds_is_walked_once():
    x = leaf([1.0])
    y = x
    for _ in range(60):  # 2**60 ways from y to x
        y = y * 0.5 + y * 0.5
    y.backward()
    assert x.grad.tolist() == [1.0]


def test_long_chains_do_not_recurse():
    x = leaf([1.0])
    y = x
    for _ in range(20_000):
        y = y + 1.0
    y.backward()
    assert x.grad.tolist() == [1.0]


def test_square_added_to_itself_by_hand():
    x = leaf([3.0])
    a = x * x
    (a + a * x).sum().backward()  # x² + x³: 2x + 3x² = 6 + 27
    assert x.grad.tolist() == [33.0]


def test_gradients_have_the_shape_and_type_of_their_leaves():
    w, b, s = leaf(np.ones((3, 2))), leaf(np.zeros((1, 2))), leaf(2.0)
    ((random(5, 3) @ w + b) * s).mean().backward()
    for tensor in (w, b, s):
        assert isinstance(tensor.grad, np.ndarray)
        assert (tensor.grad.shape, tensor.grad.dtype) == (tensor.shape, np.float32)
        assert tensor.grad.flags.writeable


def test_gradients_of_two_leaves_never_share_memory():
    a, b = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    (a + b).sum().backward()
    a.grad *= 10
    assert b.grad.tolist() == [1.0, 1.0]
    a, b = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    ((a + b) * 2).sum().backward()
    assert not np.shares_memory(a.grad, b.grad)
    a, b = leaf([1.0, 2.0]), leaf([[3.0, 4.0]])
    (a.reshape(2) + b.reshape(2)).sum().backward()
    a.grad *= 10
    assert b.grad.tolist() == [[1.0, 1.0]]


def test_backward_adds_up_over_calls():
    w = leaf([1.0, 2.0])
    for _ in range(3):
        (w * w).sum().backward()
    assert w.grad.tolist() == [6.0, 12.0]


def test_backward_takes_a_gradient_for_many_numbers():
    x = leaf([[1.0, 2.0], [3.0, 4.0]])
    (x * x).backward(np.array([[1.0, 0.0], [0.5, -1.0]]))
    assert x.grad.tolist() == [[2.0, 0.0], [3.0, -8.0]]
    x = leaf([1.0, 2.0])
    (x * 2).backward(Tensor([1.0, 1.0]))
    assert x.grad.tolist() == [2.0, 2.0]


def test_backward_leaves_the_callers_gradient_alone():
    x, gradient = leaf([1.0, 2.0]), np.array([1.0, 2.0], dtype=np.float32)
    (x + 0.0).backward(gradient)
    x.grad *= 100
    assert gradient.tolist() == [1.0, 2.0]


def test_backward_errors_say_what_to_do():
    x = leaf([1.0, 2.0])
    with pytest.raises(RuntimeError, match="sum"):
        (x * 2).backward()
    with pytest.raises(RuntimeError, match=r"\(3,\)"):
        (x * 2).backward(np.ones(3))
    with pytest.raises(RuntimeError, match="requires_grad"):
        (Tensor([1.0]) * 2).backward()
    with no_grad():
        y = (x * 2).sum()
    with pytest.raises(RuntimeError, match="no_grad"):
        y.backward()


def test_graph_is_freed_unless_retained():
    x = leaf([1.0, 2.0])
    y = (x * x).sum()
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad.tolist() == [4.0, 8.0]
    with pytest.raises(RuntimeError, match="retain_graph"):
        y.backward()


def test_a_shared_part_that_was_freed_is_an_error():
    x = leaf([2.0])
    shared = x * x
    (shared * 3).backward()
    with pytest.raises(RuntimeError, match="freed"):
        (shared * 4).backward()


def test_backward_releases_the_memory_of_the_tape():
    x = leaf(np.ones((128, 256)))
    tracemalloc.start()
    y = x
    for _ in range(20):
        y = ReLU()(y)
    total = y.sum()
    held = tracemalloc.get_traced_memory()[0]
    del y
    total.backward()
    gc.collect()
    left = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    one = 128 * 256 * 4
    assert held > 19 * one
    assert left < 3 * one


# Switching it on


def test_enable_autograd_wraps_once():
    for _ in range(3):
        enable_autograd()
    for owner, operations in autograd.GRADIENTS.items():
        for name in operations:
            method = getattr(owner, name)
            assert hasattr(method, "__wrapped__")
            assert not hasattr(method.__wrapped__, "__wrapped__")


def test_copy_for_a_second_parent_lies_as_the_gradient_does():
    x, sent = leaf(np.ones((3, 2))), []
    watch = tracked(lambda t: Tensor(t.data), (lambda g, out, t: sent.append(g) or g,), "watch")
    (x * 1 + watch(x)).backward(np.ones((2, 3)).T)
    assert sent[0].flags.f_contiguous and sent[0].shape == (3, 2)


def test_reflected_operators_keep_their_own_rule():
    x = leaf([2.0, 4.0])
    (10 - x).sum().backward()
    assert x.grad.tolist() == [-1.0, -1.0]
    x = leaf([2.0, 4.0])
    (8 / x).sum().backward()
    assert x.grad.tolist() == [-2.0, -0.5]
    x = leaf([2.0, 4.0])
    (np.array([1.0, 3.0]) * x).sum().backward()
    assert x.grad.tolist() == [1.0, 3.0]


def test_network_gradients_equal_independent_slopes():
    rng = np.random.default_rng(12)
    x, t = rng.standard_normal((6, 4)), rng.integers(0, 3, 6)
    w1, b1, w2 = rng.standard_normal((5, 4)), rng.standard_normal(5), rng.standard_normal((3, 5))

    def loss(w1, b1, w2):
        z = np.tanh(x @ w1.T + b1) @ w2.T
        return float((np.log(np.exp(z).sum(axis=1)) - z[np.arange(6), t]).mean())

    net = Sequential(Linear(4, 5), Tanh(), Linear(5, 3, bias=False))
    parameters = list(net.parameters())
    for parameter, values in zip(parameters, (w1, b1, w2)):
        parameter.data[...] = values
    CrossEntropyLoss()(net(Tensor(x)), t).backward()
    for parameter, slope in zip(parameters, slopes(loss, w1, b1, w2)):
        np.testing.assert_allclose(parameter.grad, slope, rtol=1e-3, atol=1e-5)


def test_one_step_down_the_slope_lowers_the_loss():
    net = Sequential(Linear(3, 8), ReLU(), Linear(8, 2))
    x, t = random(20, 3, seed=13), np.arange(20) % 2
    before = CrossEntropyLoss()(net(x), t)
    before.backward()
    for p in net.parameters():
        p.data -= 0.01 * p.grad
    assert CrossEntropyLoss()(net(x), t).item() < before.item()


# Trust


@pytest.mark.parametrize("difference", [0.01, -0.01, np.nan, np.inf])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_check_grads_catches_both_signs_and_nan(difference, sign):
    wrong = tracked(lambda a: Tensor(a.data * sign), (lambda g, out, a: g * sign + difference,), "off")
    with pytest.raises(GradientError, match="input 0"):
        check_grads(wrong, Tensor([2.0]))


def test_check_grads_catches_a_cut_graph():
    with pytest.raises(GradientError, match="input 1"):
        check_grads(lambda a, b: a + b.detach() * 2, random(2), random(2, seed=1))


@pytest.mark.parametrize("factor", [0.999, 1.001, 0.0, -1.0])
def test_check_grads_catches_a_wrong_factor(factor):
    wrong = tracked(lambda a: Tensor(a.data**2), (lambda g, out, a: g * 2 * a * factor,), "wrong")
    with pytest.raises(GradientError, match="input 0"):
        check_grads(wrong, random(3, 2, seed=14) + 3)


@pytest.mark.parametrize("place", [(0, 0), (1, 2), (2, 1)])
def test_check_grads_names_the_place(place):
    def rule(g, out, a):
        g = np.array(g)
        g[place] += 1.0
        return g

    wrong = tracked(lambda a: Tensor(a.data * 1.0), (rule,), "wrong")
    with pytest.raises(GradientError) as caught:
        check_grads(lambda a, b: a + wrong(b), random(3, 3), random(3, 3, seed=1))
    assert "input 1" in str(caught.value)
    assert str(place) in str(caught.value)


def test_check_grads_accepts_scalars_and_unused_inputs():
    assert check_grads(lambda a, b: (a * a).sum(), random(2, 3), random(4))
    assert check_grads(lambda a: a * a, Tensor(3.0))


def test_check_grads_leaves_inputs_and_type_alone():
    x = random(3, seed=15)
    before = x.data.copy()
    check_grads(lambda a: a.exp(), x)
    assert x.grad is None
    np.testing.assert_array_equal(x.data, before)
    with pytest.raises(GradientError):
        check_grads(lambda a: a * a.detach(), x)
    assert Tensor.dtype is np.float32
    assert is_grad_enabled()


# Pictures of the graph


def test_graph_texts_name_operations_and_parents():
    x = leaf([[1.0, 2.0]])
    y = (ReLU()(x * 2) @ Tensor([[1.0], [1.0]])).sum()
    lines = graph_text(y).splitlines()
    assert len(lines) == 5
    for line, word in zip(lines, ("leaf", "mul", "ReLU", "matmul", "sum")):
        assert word in line
    assert graph_mermaid(y).startswith("flowchart TD")
    assert graph_mermaid(y).count("-->") == 4
    assert graph_dot(y).startswith("digraph {")
    assert graph_dot(y).count("->") == 4
