"""Hidden variants for module 04: other numbers, shapes and limits, against NumPy in float64."""

import warnings

import numpy as np
import pytest

from tinytorch.core.layers import Linear, Module, Sequential
from tinytorch.core.losses import (
    BCELoss,
    BCEWithLogitsLoss,
    CrossEntropyLoss,
    Loss,
    MSELoss,
    class_indices,
    cross_entropies,
    log_sum_exp,
    smoothed_cross_entropies,
)
from tinytorch.core.tensor import Tensor

REDUCTIONS = ("mean", "sum", "none")


def reduced(losses, reduction):
    return {"mean": np.mean, "sum": np.sum, "none": np.asarray}[reduction](losses)


def wide_log_softmax(logits):
    """log softmax in float64, row by row, without the code under test."""
    x = np.asarray(logits, dtype=np.float64)
    return x - np.logaddexp.reduce(x, axis=1)[:, None]


def assert_loss(loss, expected, rtol=1e-5, atol=1e-6):
    assert type(loss) is Tensor
    assert loss.data.dtype == np.float32
    assert loss.shape == np.shape(expected)
    np.testing.assert_allclose(loss.data, expected, rtol=rtol, atol=atol)


# Reductions


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_reduce_handles_any_shape(reduction):
    losses = np.random.default_rng(4).random((2, 3, 5), dtype=np.float32)
    assert_loss(Loss(reduction).reduce(Tensor(losses)), reduced(losses, reduction))


@pytest.mark.parametrize("loss", [MSELoss, CrossEntropyLoss, BCELoss, BCEWithLogitsLoss])
def test_losses_refuse_unknown_reductions(loss):
    with pytest.raises(ValueError, match="average"):
        loss(reduction="average")


def test_losses_are_modules_without_parameters():
    for loss in (MSELoss(), CrossEntropyLoss(), BCELoss(), BCEWithLogitsLoss()):
        assert isinstance(loss, Module)
        assert list(loss.parameters()) == []


@pytest.mark.parametrize("loss", [MSELoss(), BCELoss(), BCEWithLogitsLoss()])
def test_empty_batch_has_no_mean(loss):
    with pytest.raises(ValueError, match="empty"):
        loss(Tensor(np.zeros((0, 4))), np.zeros((0, 4)))


def test_empty_batch_has_no_mean_cross_entropy():
    with pytest.raises(ValueError, match="empty"):
        CrossEntropyLoss()(Tensor(np.zeros((0, 3))), [])


# Squared error


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("shape", [(), (7,), (4, 1), (2, 3, 5)])
def test_mse_equals_numpy(reduction, shape):
    rng = np.random.default_rng(11)
    p, t = rng.standard_normal(shape) * 3, rng.standard_normal(shape)
    p, t = p.astype(np.float32), t.astype(np.float32)
    expected = reduced((p.astype(np.float64) - t) ** 2, reduction)
    assert_loss(MSELoss(reduction)(Tensor(p), t), expected)


def test_mse_takes_lists_arrays_and_tensors():
    prediction = Tensor([[1.0, 2.0]])
    for target in ([[3, 5]], np.array([[3, 5]]), Tensor([[3, 5]])):
        assert_loss(MSELoss()(prediction, target), 6.5)  # (4 + 9) / 2


def test_mse_leaves_its_inputs_alone():
    prediction, target = Tensor([1.0, 2.0]), Tensor([0.0, 4.0])
    MSELoss()(prediction, target)
    assert prediction.tolist() == [1.0, 2.0]
    assert target.tolist() == [0.0, 4.0]


@pytest.mark.parametrize("shapes", [((5, 1), (5,)), ((5,), (5, 1)), ((4, 3), (3,)), ((2,), ())])
def test_mse_refuses_to_broadcast(shapes):
    with pytest.raises(ValueError) as caught:
        MSELoss()(Tensor(np.zeros(shapes[0])), Tensor(np.zeros(shapes[1])))
    assert str(shapes[0]) in str(caught.value)
    assert str(shapes[1]) in str(caught.value)


# Log-sum-exp


@pytest.mark.parametrize("axis", [0, 1, 2, -1, -2])
@pytest.mark.parametrize("scale", [0.1, 10.0, 1000.0])
def test_log_sum_exp_equals_logaddexp(axis, scale):
    x = (np.random.default_rng(5).standard_normal((3, 4, 6)) * scale).astype(np.float32)
    expected = np.logaddexp.reduce(x.astype(np.float64), axis=axis)
    result = log_sum_exp(x, axis)
    assert result.shape == expected.shape
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-5)


def test_log_sum_exp_of_one_entry_is_that_entry():
    x = np.array([[-1000.0], [0.0], [3.5], [1000.0]], dtype=np.float32)
    assert log_sum_exp(x, axis=1).tolist() == [-1000.0, 0.0, 3.5, 1000.0]


def test_log_sum_exp_keeps_the_type_and_the_input():
    for kind in (np.float32, np.float64):
        x = np.array([[1.0, 2.0]], dtype=kind)
        assert log_sum_exp(x, axis=1).dtype == kind
        assert x.tolist() == [[1.0, 2.0]]


# Cross-entropy


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("scale", [0.1, 5.0, 300.0])
def test_cross_entropy_equals_numpy(reduction, scale):
    rng = np.random.default_rng(21)
    logits = (rng.standard_normal((9, 6)) * scale).astype(np.float32)
    classes = rng.integers(0, 6, 9)
    expected = reduced(-wide_log_softmax(logits)[np.arange(9), classes], reduction)
    assert_loss(CrossEntropyLoss(reduction)(Tensor(logits), classes), expected, atol=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5, 1.0])
def test_label_smoothing_equals_smoothed_one_hot(smoothing):
    rng = np.random.default_rng(22)
    logits, classes = rng.standard_normal((8, 5)).astype(np.float32), rng.integers(0, 5, 8)
    weights = (1 - smoothing) * np.eye(5)[classes] + smoothing / 5
    expected = -(weights * wide_log_softmax(logits)).sum(axis=1)
    np.testing.assert_allclose(
        smoothed_cross_entropies(logits, classes, smoothing), expected, rtol=1e-5
    )
    loss = CrossEntropyLoss(label_smoothing=smoothing)
    assert_loss(loss(Tensor(logits), Tensor(classes)), expected.mean())


def test_cross_entropy_of_equal_logits_is_the_log_of_the_classes():
    for c in (2, 10, 1000):
        assert_loss(CrossEntropyLoss()(Tensor(np.full((3, c), 7.0)), [0, 1, c - 1][:3]), np.log(c))


def test_cross_entropy_does_not_change_when_a_row_is_shifted():
    logits = np.array([[1.0, -2.0, 0.5], [0.0, 3.0, 1.0]], dtype=np.float32)
    shift = np.array([[512.0], [-1024.0]], dtype=np.float32)
    classes = np.array([2, 0])
    np.testing.assert_allclose(
        cross_entropies(logits + shift, classes), cross_entropies(logits, classes), rtol=1e-6
    )


def test_cross_entropy_at_a_thousand_is_exact_and_silent():
    logits = Tensor([[1000.0, -1000.0, 0.0], [-1000.0, -1000.0, -1000.0]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loss = CrossEntropyLoss("none")
        assert_loss(loss(logits, [0, 1]), [0.0, np.log(3)])
        assert_loss(loss(logits, [1, 1]), [2000.0, np.log(3)])
        assert_loss(loss(logits, [2, 2]), [1000.0, np.log(3)])


def test_cross_entropy_keeps_small_losses():
    small = cross_entropies(np.array([[500.0, 488.0]], dtype=np.float32), np.array([0]))
    np.testing.assert_allclose(small, [np.log1p(np.exp(-12.0))], rtol=0.02)


def test_cross_entropy_allows_masked_classes():
    loss = CrossEntropyLoss()(Tensor([[0.0, -np.inf, 0.0]]), [2])
    assert_loss(loss, np.log(2))


@pytest.mark.parametrize(
    ("target", "word"),
    [
        ([0, 4], "4"),
        ([-1, 0], "-1"),
        ([0.25, 1], "0.25"),
        ([np.nan, 1], "nan"),
        (["cat", "dog"], "cat"),
        ([0], r"\(1,\)"),
        ([[0], [1]], r"\(2, 1\)"),
        (1, r"\(\)"),
    ],
)
def test_cross_entropy_refuses_wrong_targets(target, word):
    with pytest.raises(ValueError, match=word):
        CrossEntropyLoss()(Tensor(np.zeros((2, 4))), target)


@pytest.mark.parametrize("shape", [(4,), (2, 3, 4)])
def test_cross_entropy_refuses_logits_that_are_no_rows(shape):
    with pytest.raises(ValueError, match=r"\(N, C\)"):
        CrossEntropyLoss()(Tensor(np.zeros(shape)), [0, 1])


@pytest.mark.parametrize("smoothing", [-0.1, 1.1])
def test_cross_entropy_refuses_smoothing_that_is_no_share(smoothing):
    with pytest.raises(ValueError, match="label_smoothing"):
        CrossEntropyLoss(label_smoothing=smoothing)


def test_class_indices_are_integers():
    classes = class_indices(Tensor(np.zeros((3, 4))), Tensor([0, 3, 1]))
    assert classes.dtype == np.int64
    assert classes.tolist() == [0, 3, 1]


# Binary cross-entropy


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_bce_equals_numpy(reduction):
    rng = np.random.default_rng(31)
    p = rng.uniform(0.01, 0.99, (4, 3)).astype(np.float32)
    y = rng.random((4, 3)).astype(np.float32)
    wide = p.astype(np.float64)
    expected = reduced(-(y * np.log(wide) + (1 - y) * np.log(1 - wide)), reduction)
    assert_loss(BCELoss(reduction)(Tensor(p), y), expected)


def test_bce_limits_logarithms_at_a_hundred():
    loss = BCELoss("none")(Tensor([0.0, 1.0, 0.0, 1.0, 0.0]), [0, 1, 1, 0, 0.25])
    assert_loss(loss, [0.0, 0.0, 100.0, 100.0, 25.0])


@pytest.mark.parametrize("wrong", [-0.5, 1.5, np.nan])
def test_bce_refuses_what_is_no_probability(wrong):
    with pytest.raises(ValueError, match=f"{wrong:g}"):
        BCELoss()(Tensor([0.5, wrong]), [0, 1])
    with pytest.raises(ValueError, match=f"{wrong:g}"):
        BCELoss()(Tensor([0.5, 0.5]), [0, wrong])


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_bce_with_logits_equals_numpy(reduction):
    rng = np.random.default_rng(32)
    x = (rng.standard_normal((5, 4)) * 20).astype(np.float32)
    y = rng.integers(0, 2, (5, 4)).astype(np.float32)
    expected = reduced(np.logaddexp(0, x.astype(np.float64)) - x * y, reduction)
    assert_loss(BCEWithLogitsLoss(reduction)(Tensor(x), y), expected)


def test_bce_with_logits_at_a_thousand_is_exact_and_silent():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loss = BCEWithLogitsLoss("none")(Tensor([1000.0, -1000.0, 1000.0, -1000.0]), [1, 0, 0, 1])
    assert_loss(loss, [0.0, 0.0, 1000.0, 1000.0])


def test_bce_with_logits_is_cross_entropy_of_zero_and_x():
    x = np.array([-3.0, -0.5, 0.0, 2.0, 30.0], dtype=np.float32)
    labels = [0, 1, 1, 0, 1]
    two = Tensor(np.stack([np.zeros_like(x), x], axis=1))
    ours = BCEWithLogitsLoss("none")(Tensor(x), labels)
    np.testing.assert_allclose(ours.data, CrossEntropyLoss("none")(two, labels).data, atol=1e-6)


@pytest.mark.parametrize("loss", [BCELoss(), BCEWithLogitsLoss()])
def test_binary_losses_refuse_other_shapes(loss):
    with pytest.raises(ValueError, match=r"\(3, 1\)"):
        loss(Tensor(np.full((3, 1), 0.5)), [0, 1, 0])


# With the modules before


def test_losses_take_what_a_network_returns():
    layer = Linear(2, 3)
    layer.weight.data[...] = [[1, 0], [0, 1], [1, 1]]
    layer.bias.data[...] = [0, 0, -1]
    logits = Sequential(layer)(Tensor([[2.0, 1.0]]))  # [2, 1, 2]
    expected = np.log(2 * np.exp(2) + np.exp(1)) - 2
    assert_loss(CrossEntropyLoss()(logits, [2]), expected)
    assert_loss(MSELoss("sum")(logits, [[2, 0, 0]]), 5)
