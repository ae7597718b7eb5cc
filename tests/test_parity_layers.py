"""Layers, their names and their random starts, against torch.nn and torch.nn.init."""

import numpy as np
import pytest
import torch
from tinytorch.core import layers
from tinytorch.core.activations import GELU, ReLU, Tanh
from tinytorch.core.layers import Dropout, Flatten, Linear, Module, Parameter, Sequential
from tinytorch.core.tensor import Tensor, manual_seed, ones, zeros

from tests.oracles import assert_close


class Block(Module):
    def __init__(self):
        self.inner = Sequential(Linear(4, 6), GELU(), Linear(6, 4, bias=False))
        self.scale = Parameter(np.ones(4))

    def forward(self, x):
        return x + self.inner(x) * self.scale


class TorchBlock(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = torch.nn.Sequential(
            torch.nn.Linear(4, 6), torch.nn.GELU(), torch.nn.Linear(6, 4, bias=False)
        )
        self.scale = torch.nn.Parameter(torch.ones(4))

    def forward(self, x):
        return x + self.inner(x) * self.scale


nn = torch.nn
# Ours, theirs, and an input shape: the same names, order and shapes, then the same numbers.
MODELS = {
    "Linear": (lambda: Linear(4, 3), lambda: nn.Linear(4, 3), (5, 4)),
    "Linear without bias": (
        lambda: Linear(4, 3, bias=False),
        lambda: nn.Linear(4, 3, bias=False),
        (5, 4),
    ),
    "MLP": (
        lambda: Sequential(Linear(4, 6), ReLU(), Linear(6, 2)),
        lambda: nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2)),
        (5, 4),
    ),
    "Flatten first": (
        lambda: Sequential(Flatten(), Linear(8, 3), Tanh()),
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(8, 3), nn.Tanh()),
        (5, 2, 4),
    ),
    "Sequential in Sequential": (
        lambda: Sequential(
            Sequential(Linear(4, 4), ReLU()), Sequential(Linear(4, 4), Dropout(0.3))
        ),
        lambda: nn.Sequential(
            nn.Sequential(nn.Linear(4, 4), nn.ReLU()),
            nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.3)),
        ),
        (5, 4),
    ),
    "own module": (Block, TorchBlock, (5, 4)),
    "own modules in a chain": (
        lambda: Sequential(Block(), Block(), Linear(4, 1)),
        lambda: nn.Sequential(TorchBlock(), TorchBlock(), nn.Linear(4, 1)),
        (2, 3, 4),
    ),
}


def both(name):
    """The two models with the same numbers in evaluation mode, and an input for them."""
    ours, theirs, shape = MODELS[name]
    mine, its = ours(), theirs()
    rng = np.random.default_rng(5)
    state = {
        k: rng.standard_normal(v.shape).astype(np.float32) for k, v in its.state_dict().items()
    }
    mine.load_state_dict(state)
    its.load_state_dict({k: torch.from_numpy(v) for k, v in state.items()})
    return mine.eval(), its.eval(), rng.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("name", MODELS)
def test_names_order_and_shapes_are_torchs(name):
    mine, its, _ = both(name)
    wanted = [(k, tuple(v.shape)) for k, v in its.named_parameters()]
    found = [(k, p.shape) for k, p in mine.named_parameters()]
    assert sorted(found) == sorted(wanted)
    assert {k: v.shape for k, v in mine.state_dict().items()} == {
        k: tuple(v.shape) for k, v in its.state_dict().items()
    }


@pytest.mark.parametrize("name", MODELS)
def test_output_and_gradients_are_torchs(name):
    mine, its, data = both(name)
    x, t = Tensor(data, requires_grad=True), torch.tensor(data, requires_grad=True)
    out, wanted = mine(x), its(t)
    assert_close("output", out.data, wanted.detach())
    (out * out).sum().backward()
    (wanted * wanted).sum().backward()
    # Gradients here reach 1e4: rounding is relative to the largest term of each sum.
    largest = max(float(p.grad.abs().max()) for p in its.parameters())
    assert_close("input", x.grad, t.grad, rtol=1e-4, atol=1e-6 * largest)
    wanted_grads = {k: p.grad for k, p in its.named_parameters()}
    for key, p in mine.named_parameters():
        assert_close(key, p.grad, wanted_grads[key], rtol=1e-4, atol=1e-6 * largest)


@pytest.mark.parametrize("name", MODELS)
def test_state_of_torch_loads_and_returns(name):
    mine, its, _ = both(name)
    state = {k: v.numpy() for k, v in its.state_dict().items()}
    mine.load_state_dict(state)
    again = mine.state_dict()
    assert all(np.array_equal(again[k], v) for k, v in state.items())
    its.load_state_dict({k: torch.from_numpy(v) for k, v in again.items()})


def test_tied_weight_is_one_parameter_with_one_gradient():
    mine, its = (
        Sequential(Linear(3, 3), Linear(3, 3)),
        nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)),
    )
    mine[1].weight = mine[0].weight
    its[1].weight = its[0].weight
    mine.load_state_dict({k: v.numpy() for k, v in its.state_dict().items()})
    assert len(mine.parameters()) == len(list(its.parameters())) == 3
    data = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
    mine(Tensor(data)).sum().backward()
    its(torch.from_numpy(data)).sum().backward()
    assert_close("shared", mine[0].weight.grad, its[0].weight.grad)


def test_dropout_keeps_the_share_and_the_mean():
    manual_seed(0)
    n, p = 200_000, 0.3
    x = ones(n, requires_grad=True)
    out = Dropout(p)(x)
    kept = out.data != 0
    # The share of zeros has standard deviation sqrt(p (1 - p) / n) = 0.001: five of them are 0.005.
    assert abs(1 - kept.mean() - p) < 0.005
    assert_close("what is kept", out.data[kept], np.full(kept.sum(), 1 / (1 - p), np.float32))
    out.sum().backward()
    assert_close("gradient is the mask", x.grad, out.data)


def test_dropout_draws_anew_and_repeats_with_the_seed():
    layer, x = Dropout(0.5), ones(1000)
    manual_seed(1)
    first, second = layer(x).data, layer(x).data
    manual_seed(1)
    assert not np.array_equal(first, second)
    assert np.array_equal(first, layer(x).data)


def test_dropout_in_a_model_follows_train_and_eval():
    model = Sequential(Linear(10, 10), Dropout(0.9))
    x = ones(1, 10)
    assert np.array_equal(model.eval()(x).data, model.eval()(x).data)
    assert (model.train()(x).data == 0).any()


SHAPE = (200, 300)
KERNEL = (40, 20, 3, 3)
STARTS = [
    ("xavier_uniform_", {}),
    ("xavier_uniform_", {"gain": 5 / 3}),
    ("xavier_normal_", {}),
    ("xavier_normal_", {"gain": 0.5}),
    ("kaiming_uniform_", {}),
    ("kaiming_uniform_", {"nonlinearity": "linear"}),
    ("kaiming_uniform_", {"nonlinearity": "tanh"}),
    ("kaiming_uniform_", {"mode": "fan_out"}),
    ("kaiming_normal_", {}),
    ("kaiming_normal_", {"mode": "fan_out"}),
    ("kaiming_normal_", {"nonlinearity": "linear"}),
    ("kaiming_normal_", {"mode": "fan_out", "nonlinearity": "tanh"}),
]


@pytest.mark.parametrize("shape", [SHAPE, KERNEL], ids=["matrix", "kernel"])
@pytest.mark.parametrize(("name", "options"), STARTS, ids=[f"{n} {o}" for n, o in STARTS])
def test_initialisation_has_torchs_distribution(name, options, shape):
    manual_seed(0)
    torch.manual_seed(0)
    tensor = zeros(*shape)
    assert getattr(layers, name)(tensor, **options) is tensor
    if "kaiming" in name:
        options = {"nonlinearity": "relu", **options}  # torch's own default is a leaky ReLU
    its = getattr(nn.init, name)(torch.empty(shape), **options).numpy()
    assert tensor.data.dtype == np.float32
    # 7,200 draws or more: the spread is known to 0.9 % of itself, the mean to 1.2 % of it.
    assert tensor.data.std() == pytest.approx(its.std(), rel=0.04)
    assert abs(tensor.data.mean()) < 0.05 * its.std()
    if "uniform" in name:
        assert np.abs(tensor.data).max() == pytest.approx(np.abs(its).max(), rel=0.01)


@pytest.mark.parametrize("features", [(300, 200), (1, 5000), (5000, 3)])
def test_linear_starts_as_torchs(features):
    manual_seed(0)
    mine, its = Linear(*features), nn.Linear(*features)
    bound = 1 / features[0] ** 0.5
    for found, wanted in ((mine.weight, its.weight), (mine.bias, its.bias)):
        assert found.shape == tuple(wanted.shape)
        assert np.abs(found.data).max() <= bound
    assert mine.weight.data.std() == pytest.approx(bound / 3**0.5, rel=0.03)
    assert np.abs(mine.weight.data).max() == pytest.approx(bound, rel=0.01)
