"""Hidden variants of module 01's checks: other seeds and shapes, on whatever tinytorch is open."""

import math

import numpy as np
import pytest

from tinytorch.core.tensor import (
    Tensor,
    arange,
    broadcast_shapes,
    cat,
    elementwise,
    manual_seed,
    ones,
    rand,
    randn,
    stack,
    zeros,
)


def array(*shape, seed=11):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("data", [3, 2.5, [1, 2], [[1.0], [2.0]], np.arange(6), np.float64(7), True])
def test_tensor_holds_float32_whatever_it_is_made_of(data):
    tensor = Tensor(data)
    assert tensor.data.dtype == np.float32
    np.testing.assert_array_equal(tensor.data, np.asarray(data, dtype=np.float32))


def test_tensor_asks_tensor_dtype(monkeypatch):
    monkeypatch.setattr(Tensor, "dtype", np.float64)
    assert Tensor([0.1, 0.2]).data.dtype == np.float64
    assert (Tensor([0.1]) + 1).data.dtype == np.float64


def test_tensor_sleeping_gradient_attributes():
    tensor = Tensor([3.0], requires_grad=True)
    assert tensor.requires_grad and tensor.grad is None
    assert not Tensor([3.0]).requires_grad


def test_tensor_refuses_unknown_attributes():
    with pytest.raises(AttributeError):
        Tensor([1.0]).gradient = 3


@pytest.mark.parametrize("shape", [(), (1,), (0, 4), (5, 7), (2, 3, 4, 5)])
def test_memory_footprint_is_four_bytes_an_element(shape):
    assert Tensor(np.zeros(shape)).memory_footprint() == 4 * math.prod(shape)


SHAPES = [(), (1,), (3,), (2, 1), (2, 3), (4, 1, 3), (4, 2, 1), (1, 1, 1), (0,), (0, 3), (5,)]


@pytest.mark.parametrize("a", SHAPES)
@pytest.mark.parametrize("b", SHAPES)
def test_broadcast_shapes_agrees_with_numpy(a, b):
    try:
        expected = np.broadcast_shapes(a, b)
    except ValueError:
        with pytest.raises(ValueError, match=str(b[-1])):
            broadcast_shapes(a, b)
    else:
        assert broadcast_shapes(a, b) == expected


def test_broadcast_shapes_has_no_limit_on_axes():
    assert broadcast_shapes((2, *(1,) * 70, 3), (4, 1)) == (2, *(1,) * 69, 4, 3)


@pytest.mark.parametrize("shapes", [((2, 3), (3,)), ((4, 1), (1, 5)), ((), (2, 2)), ((3,), (3,))])
@pytest.mark.parametrize("symbol", ["+", "-", "*", "/"])
def test_operators_agree_with_numpy_in_both_orders(shapes, symbol):
    a, b = array(*shapes[0]), array(*shapes[1], seed=12) + 3
    for left, right in ((Tensor(a), Tensor(b)), (Tensor(a), b), (a, Tensor(b)), (Tensor(a), 2.5),
                        (2.5, Tensor(b))):
        result = eval(f"left {symbol} right")
        plain = {"a": getattr(left, "data", left), "b": getattr(right, "data", right)}
        plain = {name: x if isinstance(x, float) else np.asarray(x) for name, x in plain.items()}
        expected = eval(f"a {symbol} b", plain)
        assert isinstance(result, Tensor) and result.data.dtype == np.float32
        np.testing.assert_allclose(result.data, expected, rtol=1e-6)


def test_operators_leave_their_operands_alone():
    a, b = Tensor(array(3, 3)), Tensor(array(3, seed=2))
    before = a.data.copy(), b.data.copy()
    _ = a + b, a - b, a * b, 1 / (a * a + 1), -a, a**2
    assert (a.data == before[0]).all() and (b.data == before[1]).all()


def test_elementwise_error_names_both_shapes():
    with pytest.raises(ValueError, match=r"\(4, 2\).*\(3,\)"):
        elementwise(np.multiply, Tensor(array(4, 2)), Tensor(array(3)))


@pytest.mark.parametrize("shapes", [((5, 4), (4, 6)), ((4,), (4, 6)), ((5, 4), (4,)), ((4,), (4,)),
                                    ((2, 3, 5, 4), (3, 4, 2)), ((7, 1, 3), (3, 2)), ((0, 3), (3, 2)),
                                    ((6, 2, 5), (6, 5, 3))])
def test_matmul_agrees_with_numpy(shapes):
    a, b = array(*shapes[0]), array(*shapes[1], seed=3)
    np.testing.assert_allclose((Tensor(a) @ Tensor(b)).data, a @ b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shapes", [((2, 3), (2, 3)), ((3,), (4,)), ((2, 5, 3), (2, 4, 6))])
def test_matmul_error_names_both_shapes(shapes):
    with pytest.raises(ValueError) as error:
        Tensor(array(*shapes[0])) @ Tensor(array(*shapes[1]))
    assert str(shapes[0]) in str(error.value) and str(shapes[1]) in str(error.value)


AXES = [None, 0, 1, 2, -1, -3, (0, 2), (-1, 0), (0, 1, 2)]


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("name", ["sum", "mean", "max"])
def test_reductions_agree_with_numpy(name, axis, keepdims):
    x = array(3, 4, 5)
    result = getattr(Tensor(x), name)(axis=axis, keepdims=keepdims)
    expected = getattr(x.astype(np.float64), name)(axis=axis, keepdims=keepdims)
    assert isinstance(result, Tensor) and result.data.dtype == np.float32
    assert result.shape == expected.shape
    np.testing.assert_allclose(result.data, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("correction", [0, 1])
def test_var_agrees_with_numpy(axis, correction):
    x = array(3, 4, 5) + 100
    expected = x.astype(np.float64).var(axis=axis, ddof=correction)
    np.testing.assert_allclose(Tensor(x).var(axis=axis, correction=correction).data, expected, rtol=1e-3)


def test_mean_var_and_stack_are_made_of_tensor_operations(monkeypatch):
    made = []
    for name in ("sum", "reshape"):
        original = getattr(Tensor, name)

        def spy(self, *args, original=original, name=name, **options):
            made.append(name)
            return original(self, *args, **options)

        monkeypatch.setattr(Tensor, name, spy)
    x = Tensor(array(3, 4))
    x.mean(axis=1)
    x.var(axis=0)
    stack([x, x])
    assert "sum" in made[:1] and made.count("sum") >= 3 and "reshape" in made


def test_mean_of_nothing_is_nan():
    with np.errstate(all="ignore"):
        assert math.isnan(Tensor(np.zeros((0, 3))).mean().item())


@pytest.mark.parametrize("shape", [(4, 6), (-1,), (2, -1, 3), (24, 1), (1, 24)])
def test_reshape_agrees_with_numpy_and_shares(shape):
    x = Tensor(array(2, 3, 4))
    for result in (x.reshape(*shape), x.reshape(shape)):
        np.testing.assert_array_equal(result.data, x.data.reshape(shape))
        assert np.shares_memory(result.data, x.data)


def test_reshape_and_permute_leave_their_tensor_alone():
    x = Tensor(array(2, 3, 4))
    _ = x.reshape(4, 6), x.permute(2, 0, 1)
    assert x.shape == (2, 3, 4)


def test_reshape_error_names_both_shapes():
    with pytest.raises(ValueError, match=r"\(2, 3, 4\).*\(5, 5\)"):
        Tensor(array(2, 3, 4)).reshape(5, 5)


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 1, 0), (1, 2, 0), (-1, 0, -2)])
def test_permute_agrees_with_numpy_and_shares(axes):
    x = Tensor(array(2, 3, 4))
    np.testing.assert_array_equal(x.permute(*axes).data, x.data.transpose(axes))
    assert np.shares_memory(x.permute(axes).data, x.data)


@pytest.mark.parametrize("axes", [(0, 1), (0, 1, 1), (0, 1, 2, 0), (0, 1, 3), (0, 1, -4)])
def test_permute_refuses_what_is_no_permutation(axes):
    with pytest.raises(ValueError, match=r"\(2, 3, 4\)"):
        Tensor(array(2, 3, 4)).permute(*axes)


def test_permute_of_a_scalar():
    assert Tensor(3.0).T.item() == 3
    with pytest.raises(ValueError):
        Tensor(3.0).permute(0)


def test_transpose_and_views_of_a_batch():
    x = Tensor(array(2, 3, 4))
    np.testing.assert_array_equal(x.transpose(0, 2).data, x.data.swapaxes(0, 2))
    np.testing.assert_array_equal(x.T.data, x.data.T)
    assert x.unsqueeze(1).shape == (2, 1, 3, 4) and x.flatten(1).shape == (2, 12)


KEYS = [0, -1, slice(1, 3), (slice(None), 2), (..., 1), [2, 0, 2], (1, slice(None), [0, 3]), None]


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_indexing_agrees_with_numpy(key):
    x = array(3, 4, 5)
    np.testing.assert_array_equal(Tensor(x)[key].data, x[key])


def test_indexing_with_tensors_of_whole_numbers():
    x = array(4, 3)
    rows, columns = Tensor([3, 0, 3]), Tensor([1, 2, 0])
    np.testing.assert_array_equal(Tensor(x)[rows].data, x[[3, 0, 3]])
    np.testing.assert_array_equal(Tensor(x)[rows, columns].data, x[[3, 0, 3], [1, 2, 0]])


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_cat_and_stack_agree_with_numpy(axis):
    parts = [array(2, 3, seed=seed) for seed in range(4)]
    tensors = [Tensor(part) for part in parts]
    np.testing.assert_array_equal(cat(tensors, axis).data, np.concatenate(parts, axis))
    np.testing.assert_array_equal(stack(tensors, axis).data, np.stack(parts, axis))


def test_cat_error_names_the_shapes():
    with pytest.raises(ValueError, match=r"\(2, 3\).*\(4, 2\)"):
        cat([Tensor(array(2, 3)), Tensor(array(4, 2))], axis=0)


def test_creation_and_seed():
    assert zeros(2, 3).shape == (2, 3) and float(ones(4).sum().item()) == 4
    assert arange(2, 5).tolist() == [2, 3, 4]
    manual_seed(5)
    first = randn(3, 3).data.copy(), rand(2).data.copy()
    manual_seed(5)
    assert (randn(3, 3).data == first[0]).all() and (rand(2).data == first[1]).all()
    assert (rand(1000).data >= 0).all() and (rand(1000).data < 1).all()
    assert abs(float(randn(20_000).var().item()) - 1) < 0.05
