"""Hidden variants of module 02's checks: other numbers, shapes and oracles than the notebook's."""

import math
import warnings

import numpy as np
import pytest

from tinytorch.core.activations import (
    GELU,
    Activation,
    LogSoftmax,
    ReLU,
    Sigmoid,
    SiLU,
    Softmax,
    Tanh,
    erf,
    log_softmax,
    sigmoid,
    softmax,
)
from tinytorch.core.tensor import Tensor

ALL = [ReLU(), Sigmoid(), Tanh(), SiLU(), GELU(), GELU("tanh"), Softmax(), LogSoftmax()]
EXTREME = [-1e4, -745.0, -104.0, -89.0, 0.0, 89.0, 104.0, 745.0, 1e4]


def numbers(shape, seed=2):
    """Normal numbers of standard deviation 3, float32."""
    return (3 * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


def apply(function, x):
    """`function` of the Python number behind each entry, in double precision."""
    return np.array([function(float(value)) for value in x.ravel()]).reshape(x.shape)


def exact_sigmoid(x):
    """The sigmoid in double precision, whose exp is finite up to 709."""
    return 1 / (1 + math.exp(-x)) if x > -700 else 0.0


def exact_gelu(x):
    """x times the normal distribution function, by the C library's erfc."""
    return 0.5 * x * math.erfc(-x / math.sqrt(2))


def exact_gelu_tanh(x):
    """GPT-2's approximation in double precision."""
    return 0.5 * x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


@pytest.mark.parametrize(
    ("layer", "oracle"),
    [
        (ReLU(), lambda x: max(x, 0.0)),
        (Sigmoid(), exact_sigmoid),
        (Tanh(), math.tanh),
        (SiLU(), lambda x: x * exact_sigmoid(x)),
        (GELU(), exact_gelu),
        (GELU("tanh"), exact_gelu_tanh),
    ],
    ids=["relu", "sigmoid", "tanh", "silu", "gelu", "gelu_tanh"],
)
@pytest.mark.parametrize("shape", [(), (7,), (3, 1, 5), (2, 3, 4, 5), (0, 3)])
def test_entrywise_equals_the_formula_in_double_precision(layer, oracle, shape):
    x = numbers(shape)
    result = layer(Tensor(x))
    assert isinstance(result, Tensor)
    assert result.shape == shape
    np.testing.assert_allclose(result.data, apply(oracle, x), rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("layer", ALL, ids=repr)
def test_activation_returns_float32_and_leaves_its_input(layer):
    x = Tensor(numbers((4, 6), seed=5))
    before = x.data.copy()
    result = layer(x)
    assert result.data.dtype == np.float32
    assert not np.shares_memory(result.data, x.data)
    np.testing.assert_array_equal(x.data, before)


@pytest.mark.parametrize("layer", ALL, ids=repr)
def test_activation_is_finite_and_silent_at_extreme_inputs(layer):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isfinite(layer(Tensor(EXTREME)).data).all()
        assert np.isfinite(layer(Tensor(np.reshape(EXTREME, (3, 3)))).data).all()


@pytest.mark.parametrize("layer", ALL, ids=repr)
def test_activation_keeps_nan(layer):
    assert np.isnan(layer(Tensor([np.nan, np.nan])).data).all()


def test_activation_works_on_a_view_in_another_memory_order():
    x = Tensor(numbers((5, 3), seed=7))
    for layer in (ReLU(), Sigmoid(), GELU(), Softmax(dim=0)):
        flipped = layer(x.permute(1, 0)).data
        copied = layer(Tensor(np.ascontiguousarray(x.data.T))).data
        np.testing.assert_allclose(flipped, copied, rtol=1e-6)


def test_relu_of_infinities():
    assert ReLU()(Tensor([-np.inf, np.inf, -0.0])).tolist() == [0.0, np.inf, 0.0]


def test_sigmoid_keeps_relative_precision_in_the_lower_tail():
    x = np.array([-15.0, -25.0, -40.0, -80.0], dtype=np.float32)
    np.testing.assert_allclose(sigmoid(x), apply(exact_sigmoid, x), rtol=1e-4)


def test_sigmoid_is_not_clipped():
    x = np.array([-82.0, -86.0], dtype=np.float32)
    np.testing.assert_allclose(sigmoid(x), apply(exact_sigmoid, x), rtol=1e-4)


def test_sigmoid_is_symmetric_about_one_half():
    x = numbers((50,), seed=3)
    np.testing.assert_allclose(sigmoid(x) + sigmoid(-x), np.ones(50), atol=3e-7)


def test_sigmoid_computes_in_the_precision_of_its_input():
    x = np.linspace(-5, 5, 11)
    assert sigmoid(x).dtype == np.float64
    np.testing.assert_allclose(sigmoid(x), apply(exact_sigmoid, x), rtol=1e-13)


@pytest.mark.parametrize("function", [sigmoid, softmax, log_softmax])
def test_array_functions_give_arrays_and_leave_their_input(function):
    x = numbers((3, 4), seed=21)
    before = x.copy()
    assert type(function(x)) is np.ndarray
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("function", [sigmoid, softmax, log_softmax])
def test_array_functions_only_take_exp_of_zero_or_less(function, monkeypatch):
    seen, exp = [], np.exp
    monkeypatch.setattr(np, "exp", lambda x, *a, **o: (seen.append(np.max(x)), exp(x, *a, **o))[1])
    function(np.array([-800.0, 3.0, 650.0], dtype=np.float32))
    assert all(value <= 0 for value in seen)


def test_softmax_is_exact_to_the_precision_of_its_input():
    x = np.random.default_rng(8).normal(size=(3, 6))
    wanted = np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(softmax(x), wanted, rtol=1e-12)
    np.testing.assert_allclose(log_softmax(x), np.log(wanted), rtol=1e-12)


def test_tanh_keeps_relative_precision_near_zero():
    x = np.array([1e-6, -3e-5, 2e-3], dtype=np.float32)
    np.testing.assert_allclose(Tanh()(Tensor(x)).data, apply(math.tanh, x), rtol=1e-6)


def test_erf_is_within_its_stated_error_of_the_c_library():
    x = np.linspace(-6, 6, 2401)
    assert np.abs(erf(x) - apply(math.erf, x)).max() <= 1.5e-7


def test_gelu_forms_differ_in_the_fourth_decimal():
    x = Tensor([-2.0, 2.0])
    gap = np.abs(GELU()(x).data - GELU("tanh")(x).data)
    assert (gap > 5e-5).all() and (gap < 5e-4).all()


def test_gelu_refuses_an_unknown_approximation():
    with pytest.raises(ValueError, match="fast"):
        GELU("fast")


def test_softmax_worked_example():
    # exps 1, 3, 6 add to 10
    x = np.log(np.array([[6.0, 1.0, 3.0]]))
    np.testing.assert_allclose(softmax(x), [[0.6, 0.1, 0.3]], rtol=1e-12)


@pytest.mark.parametrize("dim", [0, 1, 2, -1, -2, -3])
def test_softmax_adds_to_one_along_dim_and_equals_the_quotient(dim):
    x = numbers((3, 4, 5), seed=11)
    wanted = np.exp(x.astype(np.float64))
    wanted /= np.expand_dims(wanted.sum(axis=dim), dim)
    result = Softmax(dim)(Tensor(x)).data
    np.testing.assert_allclose(result, wanted, rtol=2e-5, atol=1e-7)
    np.testing.assert_allclose(result.sum(axis=dim), np.ones_like(wanted.sum(axis=dim)), rtol=1e-5)


def test_softmax_ignores_a_shift_of_each_row():
    x = np.random.default_rng(4).integers(-8, 8, size=(4, 6)).astype(np.float32)
    shift = np.array([[1024.0], [-2048.0], [0.0], [512.0]], dtype=np.float32)
    np.testing.assert_allclose(softmax(x + shift), softmax(x), rtol=1e-6)


def test_softmax_gives_masked_scores_exactly_zero():
    x = np.array([[1.0, -np.inf, 1.0], [-np.inf, -np.inf, 5.0]], dtype=np.float32)
    assert softmax(x).tolist() == [[0.5, 0.0, 0.5], [0.0, 0.0, 1.0]]


def test_softmax_of_one_entry_is_one():
    assert softmax(numbers((5, 1))).tolist() == [[1.0]] * 5


@pytest.mark.parametrize("dim", [0, 1, -1])
def test_log_softmax_is_the_logarithm_of_softmax_where_that_exists(dim):
    x = numbers((4, 7), seed=13)
    np.testing.assert_allclose(
        LogSoftmax(dim)(Tensor(x)).data, np.log(softmax(x.astype(np.float64), dim)), atol=5e-6
    )


def test_log_softmax_survives_where_the_probability_rounds_to_zero():
    # the largest score takes all the probability: log 1 = 0, and the others are the differences
    x = np.array([[-500.0, 700.0, 200.0]], dtype=np.float32)
    np.testing.assert_allclose(log_softmax(x), [[-1200.0, 0.0, -500.0]], rtol=1e-6)


def test_activation_refuses_an_array_and_says_what_to_do():
    with pytest.raises(TypeError, match=r"Sigmoid\(\).*ndarray.*Tensor\(x\)"):
        Sigmoid()(np.zeros(3))


def test_activation_has_no_parameters_and_prints_like_pytorch():
    assert all(layer.parameters() == [] for layer in ALL)
    assert all(isinstance(layer, Activation) for layer in ALL)
    assert [repr(layer) for layer in ALL[-3:]] == [
        "GELU(approximate='tanh')",
        "Softmax(dim=-1)",
        "LogSoftmax(dim=-1)",
    ]
    assert repr(ReLU()) == "ReLU()"
