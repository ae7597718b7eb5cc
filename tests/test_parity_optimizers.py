"""Optimizers against torch.optim: twenty steps, parameters compared after each of them."""

import numpy as np
import pytest
import torch
from tinytorch.core import optimizers
from tinytorch.core.activations import ReLU
from tinytorch.core.layers import Linear, Sequential
from tinytorch.core.losses import CrossEntropyLoss
from tinytorch.core.tensor import Tensor

from tests.oracles import assert_close

OPTIONS = [
    ("SGD", {}),
    ("SGD", {"lr": 0.5}),
    ("SGD", {"lr": 0.0}),
    ("SGD", {"lr": 0.1, "momentum": 0.9}),
    ("SGD", {"lr": 0.1, "momentum": 1.0}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.3}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    ("SGD", {"lr": 0.1, "weight_decay": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.5, "weight_decay": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.5, "weight_decay": 0.1, "dampening": 0.5}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.1, "nesterov": True}),
    ("Adam", {}),
    ("Adam", {"lr": 0.1}),
    ("Adam", {"lr": 0.1, "betas": (0.5, 0.9)}),
    ("Adam", {"lr": 0.1, "betas": (0.0, 0.9)}),
    ("Adam", {"lr": 0.1, "betas": (0.9, 0.0)}),
    ("Adam", {"lr": 0.1, "eps": 0.1}),
    ("Adam", {"lr": 0.1, "weight_decay": 0.1}),
    ("Adam", {"lr": 0.1, "weight_decay": 0.1, "betas": (0.8, 0.99), "eps": 1e-4}),
    ("AdamW", {}),
    ("AdamW", {"lr": 0.1}),
    ("AdamW", {"lr": 0.1, "weight_decay": 0.0}),
    ("AdamW", {"lr": 0.1, "weight_decay": 0.5}),
    ("AdamW", {"lr": 0.1, "weight_decay": 0.1, "betas": (0.8, 0.99), "eps": 1e-4}),
]
IDS = [f"{name} {options}" for name, options in OPTIONS]
SHAPES = [(4, 3), (3,), ()]


def start(name, options):
    """Parameters and optimizer in both libraries, from the same numbers."""
    rng = np.random.default_rng(11)
    arrays = [rng.standard_normal(shape).astype(np.float32) for shape in SHAPES]
    mine = [Tensor(np.array(a), requires_grad=True) for a in arrays]
    its = [torch.tensor(a, requires_grad=True) for a in arrays]
    ours = getattr(optimizers, name)(mine, **options)
    return mine, its, ours, getattr(torch.optim, name)(its, **options)


def step(rng, mine, its, ours, theirs, skip=None, scale=1.0):
    """The same random gradients to both, then one step; the parameter `skip` gets none."""
    for index, (p, t) in enumerate(zip(mine, its)):
        g = np.asarray(scale * rng.standard_normal(p.shape), dtype=np.float32)
        p.grad, t.grad = (None, None) if index == skip else (g.copy(), torch.tensor(g))
    ours.step()
    theirs.step()


def assert_same(mine, its, what):
    """Twenty steps of rounding: one more digit than a single operation."""
    for index, (p, t) in enumerate(zip(mine, its)):
        assert_close(f"{what}, parameter {index}", p.data, t.detach(), rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize(("name", "options"), OPTIONS, ids=IDS)
def test_twenty_steps_are_torchs(name, options):
    both, rng = start(name, options), np.random.default_rng(0)
    for number in range(20):
        step(rng, *both)
        assert_same(*both[:2], f"step {number + 1}")


@pytest.mark.parametrize(("name", "options"), OPTIONS, ids=IDS)
def test_missing_gradients_and_a_changing_rate_are_torchs(name, options):
    both, rng = start(name, options), np.random.default_rng(1)
    for number in range(20):
        both[2].lr = both[3].param_groups[0]["lr"] = 0.1 / (number + 1)
        step(rng, *both, skip=number % 4)
        assert_same(*both[:2], f"step {number + 1}")


@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1e3, 1e6])
@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW"])
def test_small_and_large_gradients_are_torchs(name, scale):
    both, rng = start(name, {"lr": 0.01}), np.random.default_rng(2)
    for number in range(20):
        step(rng, *both, scale=scale)
        assert_same(*both[:2], f"step {number + 1}")


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW"])
def test_zero_gradients_are_torchs(name):
    both, rng = start(name, {"lr": 0.1}), np.random.default_rng(2)
    for _ in range(3):
        step(rng, *both, scale=0.0)
    assert_same(*both[:2], "zero gradients")


@pytest.mark.parametrize(("name", "options"), OPTIONS, ids=IDS)
def test_state_saved_and_loaded_continues_exactly(name, options):
    mine, its, ours, theirs = start(name, options)
    rng = np.random.default_rng(3)
    for _ in range(5):
        step(rng, mine, its, ours, theirs)
    saved, numbers = ours.state_dict(), [p.data.copy() for p in mine]
    copies = [Tensor(a, requires_grad=True) for a in numbers]
    again = getattr(optimizers, name)(copies, **{**options, "lr": 123.0})
    again.load_state_dict(saved)
    for _ in range(5):
        grads = [np.asarray(rng.standard_normal(p.shape), dtype=np.float32) for p in mine]
        for p, c, g in zip(mine, copies, grads):
            p.grad, c.grad = g.copy(), g.copy()
        ours.step()
        again.step()
    assert all(np.array_equal(p.data, c.data) for p, c in zip(mine, copies))


@pytest.mark.parametrize(("name", "options"), OPTIONS, ids=IDS)
def test_step_is_in_place_and_leaves_gradients_alone(name, options):
    mine, _, ours, _ = start(name, options)
    arrays = [p.data for p in mine]
    grads = [np.full(p.shape, 0.5, dtype=np.float32) for p in mine]
    for p, g in zip(mine, grads):
        p.grad = g
    for _ in range(3):
        ours.step()
    assert all(p.data is a and p.data.dtype == np.float32 for p, a in zip(mine, arrays))
    assert all((g == 0.5).all() and p.grad is g for p, g in zip(mine, grads))
    state = [v for s in ours.state_dict()["state"].values() for v in s.values()]
    assert all(v.dtype == np.float32 for v in state if isinstance(v, np.ndarray))


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW"])
def test_training_a_network_is_torchs(name):
    rng = np.random.default_rng(4)
    data, classes = rng.standard_normal((32, 6)).astype(np.float32), rng.integers(0, 3, 32)
    model = Sequential(Linear(6, 16), ReLU(), Linear(16, 3))
    nn = torch.nn
    theirs = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3))
    theirs.load_state_dict({k: torch.tensor(v) for k, v in model.state_dict().items()})
    options = {"lr": 0.05} | ({"momentum": 0.9} if name == "SGD" else {})
    ours = getattr(optimizers, name)(model.parameters(), **options)
    its = getattr(torch.optim, name)(theirs.parameters(), **options)
    for number in range(20):
        loss = CrossEntropyLoss()(model(Tensor(data)), classes)
        wanted = nn.CrossEntropyLoss()(theirs(torch.from_numpy(data)), torch.from_numpy(classes))
        # A tiny difference in one gradient moves all later ones: 1e-3 after 20 steps is agreement.
        np.testing.assert_allclose(loss.item(), wanted.item(), rtol=1e-3, err_msg=f"step {number}")
        for optimizer, value in ((ours, loss), (its, wanted)):
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
    assert loss.item() < 0.8 * np.log(3)


ERRORS = [
    ("no parameters", lambda: optimizers.SGD([], lr=0.1), ValueError, ["no parameters"]),
    ("one tensor", lambda: optimizers.SGD(Tensor([1.0]), lr=0.1), TypeError, ["[tensor]"]),
    ("arrays", lambda: optimizers.Adam([np.ones(3)]), TypeError, ["ndarray", "model.parameters()"]),
    ("a model", lambda: optimizers.Adam([Linear(2, 2)]), TypeError, ["Linear", "parameters()"]),
    ("negative rate", lambda: optimizers.Adam([Tensor([1.0])], lr=-1), ValueError, ["lr=-1"]),
    (
        "betas",
        lambda: optimizers.Adam([Tensor([1.0])], betas=(0.9, 1.0)),
        ValueError,
        ["(0.9, 1.0)"],
    ),
    (
        "nesterov without momentum",
        lambda: optimizers.SGD([Tensor([1.0])], nesterov=True),
        ValueError,
        ["momentum"],
    ),
]


@pytest.mark.parametrize(("name", "call", "error", "mentions"), ERRORS, ids=[e[0] for e in ERRORS])
def test_error_says_what_and_how_to_repair(name, call, error, mentions):
    with pytest.raises(error) as caught:
        call()
    message = str(caught.value)
    assert all(part in message for part in mentions), message
