"""Hidden variants of the checks of module 03: other seeds, shapes and trees."""

import math

import numpy as np
import pytest

from tinytorch.core.layers import (
    Dropout,
    Flatten,
    Linear,
    Module,
    Parameter,
    Sequential,
    calculate_gain,
    fans,
    kaiming_normal_,
    kaiming_uniform_,
    linear_loops,
    xavier_normal_,
    xavier_uniform_,
)
from tinytorch.core.tensor import Tensor, manual_seed, ones, randn, zeros


class Norm(Module):
    """A module with a parameter, a buffer and a number."""

    def __init__(self, size):
        self.gain = Parameter(np.ones(size))
        self.average = Tensor(np.zeros(size))
        self.eps = 1e-5


class Block(Module):
    """Two levels of children, and tensors of its own."""

    def __init__(self):
        self.temperature = Parameter(0.5)
        self.norm = Norm(3)
        self.body = Sequential(Linear(3, 4), Dropout(0.1), Sequential(Linear(4, 3, bias=False)))


NAMES = {"temperature", "norm.gain", "norm.average", "body.0.weight", "body.0.bias",
         "body.2.0.weight"}  # fmt: skip


def names(pairs):
    """The names of (name, tensor) pairs, in one order."""
    return sorted(name for name, _ in pairs)


def test_parameter_is_a_tensor_that_learns():
    parameter = Parameter([[1, 2]])
    assert isinstance(parameter, Tensor) and parameter.requires_grad
    assert parameter.data.dtype == np.float32 and parameter.grad is None


@pytest.mark.parametrize("rows, inputs, outputs", [(1, 1, 1), (4, 3, 5), (2, 7, 1)])
def test_linear_loops_equals_numpy(rows, inputs, outputs):
    rng = np.random.default_rng(rows + inputs)
    x, w = rng.normal(size=(rows, inputs)), rng.normal(size=(outputs, inputs))
    b = rng.normal(size=outputs)
    result = linear_loops(x, w, b)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, x @ w.T + b, rtol=1e-5, atol=1e-6)


def test_named_tensors_walks_three_levels():
    block = Block()
    pairs = list(block.named_tensors())
    assert names(pairs) == sorted(NAMES)
    assert dict(pairs)["body.2.0.weight"] is block.body[2][0].weight


def test_named_tensors_puts_the_prefix_in_front():
    assert [name for name, _ in Norm(2).named_tensors("a.b.")] == ["a.b.gain", "a.b.average"]


def test_named_tensors_reports_a_shared_tensor_under_both_names():
    model = Sequential(Linear(3, 3), Linear(3, 3))
    model[1].weight = model[0].weight
    assert names(model.named_tensors()) == ["0.bias", "0.weight", "1.bias", "1.weight"]


def test_named_parameters_leaves_buffers_out():
    assert names(Block().named_parameters()) == sorted(NAMES - {"norm.average"})


def test_parameters_counts_a_shared_parameter_once():
    model = Sequential(Linear(3, 3), Linear(3, 3))
    model[1].weight = model[0].weight
    assert names(model.named_parameters()) == ["0.bias", "0.weight", "1.bias"]
    assert len(model.parameters()) == 3


def test_parameters_with_equal_numbers_are_different_parameters():
    assert len(Sequential(Norm(2), Norm(2)).parameters()) == 2


def test_parameters_keeps_a_frozen_parameter():
    layer = Linear(2, 2)
    layer.weight.requires_grad = False
    assert len(layer.parameters()) == 2


def test_zero_grad_forgets_all_gradients():
    block = Block()
    for parameter in block.parameters():
        parameter.grad = np.ones(parameter.shape)
    block.zero_grad()
    assert all(parameter.grad is None for parameter in block.parameters())


def test_eval_and_train_reach_every_module():
    block = Block()
    assert block.eval() is block
    assert not any(module.training for module in block.modules())
    assert block.train() is block
    assert all(module.training for module in block.modules())
    block.body.train(False)
    assert block.training and not block.body[1].training


def test_named_modules_names_the_tree():
    paths = [name for name, _ in Block().named_modules()]
    assert paths == ["", "norm", "body", "body.0", "body.1", "body.2", "body.2.0"]


def test_state_dict_holds_copies_of_everything():
    block = Block()
    state = block.state_dict()
    assert set(state) == NAMES
    assert all(type(value) is np.ndarray for value in state.values())
    assert not any(np.shares_memory(state[name], t.data) for name, t in block.named_tensors())


def test_state_dict_survives_the_round_trip_between_models():
    manual_seed(5)
    one, other = Block(), Block()
    other.load_state_dict(one.state_dict())
    for name, value in one.state_dict().items():
        np.testing.assert_array_equal(other.state_dict()[name], value)
    one.body[0].weight.data[...] = 0.0
    assert other.body[0].weight.data.any()


def test_load_state_dict_keeps_the_parameter_objects():
    layer = Linear(2, 3)
    weight = layer.weight
    layer.load_state_dict({"weight": np.full((3, 2), 2.0), "bias": np.zeros(3)})
    assert layer.weight is weight
    assert weight.data.dtype == np.float32 and (weight.data == 2.0).all()


@pytest.mark.parametrize(
    "change, word",
    [
        (lambda state: state.pop("norm.average"), "norm.average"),
        (lambda state: state.update(extra=np.ones(2)), "extra"),
        (lambda state: state.update({"body.2.0.weight": np.ones((4, 3))}), "(4, 3)"),
        (lambda state: state.update({"body.0.weight": np.ones((1, 3))}), "body.0.weight"),
    ],
)
def test_load_state_dict_names_the_culprit_and_changes_nothing(change, word):
    block = Block()
    before = block.state_dict()
    state = {name: value + 1 for name, value in before.items()}
    change(state)
    with pytest.raises(ValueError) as caught:
        block.load_state_dict(state)
    assert word in str(caught.value)
    for name, value in block.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


@pytest.mark.parametrize("inputs, outputs", [(25, 800), (400, 100)])
def test_linear_starts_uniform_within_one_over_the_root_of_its_inputs(inputs, outputs):
    manual_seed(inputs)
    layer, bound = Linear(inputs, outputs), 1 / math.sqrt(inputs)
    assert layer.weight.shape == (outputs, inputs) and layer.bias.shape == (outputs,)
    for values in (layer.weight.data, layer.bias.data):
        assert np.abs(values).max() <= bound * 1.0001
        assert values.max() > 0.9 * bound and values.min() < -0.9 * bound
    assert layer.weight.data.std() == pytest.approx(bound / math.sqrt(3), rel=0.02)


@pytest.mark.parametrize("shape", [(6, 5), (5,), (2, 3, 5)])
@pytest.mark.parametrize("bias", [True, False])
def test_linear_forward_equals_numpy(shape, bias):
    manual_seed(2)
    layer, x = Linear(5, 4, bias=bias), randn(*shape)
    expected = x.data @ layer.weight.data.T + (layer.bias.data if bias else 0.0)
    result = layer(x)
    assert isinstance(result, Tensor)
    np.testing.assert_allclose(result.data, expected, rtol=1e-5, atol=1e-6)


def test_linear_forward_names_sizes_that_do_not_meet():
    with pytest.raises(ValueError, match="inner sizes"):
        Linear(5, 4)(ones(2, 3))


@pytest.mark.parametrize(
    "start, shape", [(0, (120,)), (1, (2, 60)), (2, (2, 3, 20)), (3, (2, 3, 4, 5))]
)
def test_flatten_merges_from_start_dim_on(start, shape):
    x = randn(2, 3, 4, 5)
    result = Flatten(start)(x)
    np.testing.assert_array_equal(result.data, x.data.reshape(shape))


@pytest.mark.parametrize("p", [0.1, 0.5, 0.8])
def test_dropout_keeps_the_mean(p):
    manual_seed(8)
    result = Dropout(p)(ones(300, 300)).data
    values = np.unique(result)
    np.testing.assert_allclose(values, [0.0, 1 / (1 - p)], rtol=1e-5)
    assert (result == 0).mean() == pytest.approx(p, abs=0.01)
    assert result.mean() == pytest.approx(1.0, abs=0.03)


def test_dropout_masks_repeat_with_the_seed_and_only_then():
    drop, x = Dropout(0.5), ones(20, 20)
    manual_seed(3)
    first, second = drop(x).data, drop(x).data
    manual_seed(3)
    np.testing.assert_array_equal(drop(x).data, first)
    assert (first != second).any()


def test_dropout_passes_everything_in_use_and_at_p_zero():
    x = randn(4, 4)
    np.testing.assert_array_equal(Dropout(0.9).eval()(x).data, x.data)
    np.testing.assert_array_equal(Dropout(0.0)(x).data, x.data)


@pytest.mark.parametrize("p", [-0.1, 1.0, 2])
def test_dropout_refuses_other_probabilities(p):
    with pytest.raises(ValueError, match=str(p)):
        Dropout(p)


def test_sequential_feeds_each_layer_the_output_before():
    chain = Sequential(lambda x: x * 3.0, lambda x: x + 2.0, Sequential(lambda x: x * x))
    assert chain(Tensor([1.0, -1.0])).tolist() == [25.0, 1.0]


def test_sequential_behaves_like_a_list_of_layers():
    layers = [Linear(2, 3), abs, Linear(3, 1)]
    chain = Sequential(*layers)
    assert len(chain) == 3 and list(chain) == layers and chain[-1] is layers[-1]
    assert names(chain[1:].named_parameters()) == ["1.bias", "1.weight"]
    chain[-1] = Flatten()
    assert names(chain.named_parameters()) == ["0.bias", "0.weight"]


def test_sequential_names_what_is_no_layer():
    with pytest.raises(TypeError, match="Linear"):
        Sequential(Linear)
    with pytest.raises(TypeError, match="list"):
        Sequential([Linear(2, 2)])


@pytest.mark.parametrize(
    "shape, expected", [((7, 2), (2, 7)), ((4, 3, 3, 5), (45, 60)), ((2, 6, 4), (24, 8))]
)
def test_fans_counts_inputs_and_outputs(shape, expected):
    assert fans(zeros(*shape)) == expected


@pytest.mark.parametrize("shape", [(), (5,)])
def test_fans_refuses_what_has_no_inputs(shape):
    with pytest.raises(ValueError):
        fans(zeros(*shape))


SHAPES = [(500, 300), (300, 500), (64, 32, 5, 5)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("gain", [1.0, 0.5])
def test_xavier_spread_uses_both_fans(shape, gain):
    manual_seed(11)
    places = math.prod(shape[2:])
    std = gain * math.sqrt(2 / (places * (shape[0] + shape[1])))
    normal, uniform = zeros(*shape), zeros(*shape)
    assert xavier_normal_(normal, gain) is normal
    assert xavier_uniform_(uniform, gain) is uniform
    for values in (normal.data, uniform.data):
        assert values.std() == pytest.approx(std, rel=0.02)
        assert values.mean() == pytest.approx(0.0, abs=std / 50)
    assert np.abs(uniform.data).max() == pytest.approx(std * math.sqrt(3), rel=0.01)
    assert np.abs(normal.data).max() > 3 * std


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("mode", ["fan_in", "fan_out"])
@pytest.mark.parametrize("nonlinearity, gain", [("relu", 2**0.5), ("linear", 1.0), ("tanh", 5 / 3)])
def test_kaiming_spread_uses_one_fan(shape, mode, nonlinearity, gain):
    manual_seed(12)
    fan = math.prod(shape[2:]) * (shape[1] if mode == "fan_in" else shape[0])
    for fill in (kaiming_normal_, kaiming_uniform_):
        weight = fill(zeros(*shape), mode=mode, nonlinearity=nonlinearity)
        assert weight.data.std() == pytest.approx(gain / math.sqrt(fan), rel=0.02)


def test_calculate_gain_names_what_it_knows():
    with pytest.raises(ValueError, match="relu"):
        calculate_gain("step")


def test_kaiming_keeps_a_signal_through_fifty_layers():
    manual_seed(1)
    x = randn(64, 200)
    for _ in range(50):
        layer = Linear(200, 200, bias=False)
        kaiming_normal_(layer.weight)
        x = layer(x).clamp(min=0.0)
    assert 0.1 < math.sqrt((x.data**2).mean()) < 10


def test_linear_forward_lets_the_gradient_through_when_there_is_one():
    layer = Sequential(Flatten(), Linear(4, 3), Dropout(0.5), Linear(3, 1))
    layer(ones(2, 2, 2)).sum().backward()
    grads = [parameter.grad for parameter in layer.parameters()]
    assert all(g is None for g in grads) or all(g is not None for g in grads)
