# %% [markdown]
"""
# Checkpoint 4: can you tell a good network from a bad one by one number?

What the losses must say about guessing, about certainty, and about numbers at the end of float32.
"""

# %% given="tools"
import numpy as np
from tinytorch.core.activations import Sigmoid, Tanh
from tinytorch.core.layers import Linear, Sequential
from tinytorch.core.losses import BCELoss, BCEWithLogitsLoss, CrossEntropyLoss, MSELoss
from tinytorch.core.tensor import Tensor, manual_seed

import tito.checks as check

_rng = np.random.default_rng(104)


def _value(loss):
    return float(loss.data)


# %% check="price_a_guess"
for _classes in (2, 10, 50_257):
    _labels = _rng.integers(0, _classes, 7)
    check.close(
        f"cross-entropy of guessing among {_classes:,}",
        _value(CrossEntropyLoss()(Tensor(np.zeros((7, _classes))), _labels)),
        np.log(_classes),
        why="log of the number of classes: what an untrained network should say",
    )
check.close(
    "binary cross-entropy of not knowing",
    _value(BCELoss()(Tensor([0.5, 0.5]), [0.0, 1.0])),
    np.log(2),
    why="one bit, in nats",
)

# %% check="find_the_best_answer"
_seen = np.repeat([0, 1, 2], [6, 3, 1])
_truth = np.array([0.6, 0.3, 0.1])
_best = _value(CrossEntropyLoss()(Tensor(np.tile(np.log(_truth), (10, 1))), _seen))
check.close(
    "cross-entropy of the true chances",
    _best,
    -(_truth * np.log(_truth)).sum(),
    why="the entropy: no answer to these ten rows can be cheaper",
)
for _other in ([0.5, 0.4, 0.1], [0.6, 0.39, 0.01], [0.98, 0.01, 0.01]):
    _cost = _value(CrossEntropyLoss()(Tensor(np.tile(np.log(_other), (10, 1))), _seen))
    check.close(
        f"what the chances {_other} cost more",
        _cost - _best,
        (_truth * np.log(_truth / np.array(_other))).sum(),
        atol=1e-5,
        why="the Kullback-Leibler divergence from the truth, and never below 0",
    )
_numbers = np.array([[1.0], [2.0], [6.0]])
check.close(
    "MSELoss at the mean of 1, 2 and 6",
    _value(MSELoss()(Tensor(np.full((3, 1), 3.0)), _numbers)),
    14 / 3,
    why="(4 + 1 + 9) / 3: the mean is the best constant, and this is the variance",
)

# %% check="prefer_the_better_network"
_labels = _rng.integers(0, 4, 60)
_noise = _rng.standard_normal((60, 4))
_costs = [
    _value(CrossEntropyLoss()(Tensor(_noise + strength * np.eye(4)[_labels]), _labels))
    for strength in (0.0, 1.0, 2.0, 4.0, 8.0)
]
check.true(
    "the loss falls as the right logit rises",
    bool(np.all(np.diff(_costs) < 0)),
    got=np.round(_costs, 3),
    why="a loss that does not order networks cannot train one",
)
_sure = [_value(BCEWithLogitsLoss()(Tensor([[x]]), [[1.0]])) for x in (-4.0, -1.0, 0.0, 1.0, 4.0)]
check.close(
    "BCEWithLogitsLoss of -4 to 4 for target 1",
    _sure,
    np.log1p(np.exp(-np.array([-4.0, -1.0, 0.0, 1.0, 4.0]))),
    why="log(1 + e^-x)",
)

# %% check="survive_certainty"
with np.errstate(all="raise", under="ignore"):
    try:
        _right = _value(CrossEntropyLoss()(Tensor([[1000.0, -1000.0]]), [0]))
        _wrong = _value(CrossEntropyLoss()(Tensor([[1000.0, -1000.0]]), [1]))
        _binary = _value(BCEWithLogitsLoss("sum")(Tensor([1000.0, -1000.0]), [0.0, 1.0]))
    except FloatingPointError as _error:
        _right = _wrong = _binary = float("nan")
check.close("cross-entropy of being certain and right", _right, 0.0, why="nothing to pay")
check.close(
    "cross-entropy of being certain and wrong", _wrong, 2000.0, why="the distance of the logits"
)
check.close(
    "BCEWithLogitsLoss, certain and wrong twice", _binary, 2000.0, why="1000 each, no infinity"
)
check.close(
    "BCELoss at probability 0 and target 1",
    _value(BCELoss()(Tensor([0.0]), [1.0])),
    100.0,
    why="log(0) is cut off at -100, as PyTorch does",
)

# %% check="agree_with_itself"
_logits, _labels = _rng.standard_normal((9, 5)), _rng.integers(0, 5, 9)
_each = CrossEntropyLoss("none")(Tensor(_logits), _labels)
check.close(
    "mean of the losses one by one",
    _value(_each.mean()),
    _value(CrossEntropyLoss()(Tensor(_logits), _labels)),
    why="the reduction is all that differs",
)
check.close(
    "sum of the losses one by one",
    _value(_each.sum()),
    _value(CrossEntropyLoss("sum")(Tensor(_logits), _labels)),
    rtol=1e-4,
    why="9 times the mean",
)
_all = [_value(CrossEntropyLoss("sum")(Tensor(_logits), np.full(9, c))) for c in range(5)]
check.close(
    "label smoothing of 0.2",
    _value(CrossEntropyLoss("sum", label_smoothing=0.2)(Tensor(_logits), _labels)),
    0.8 * _value(_each.sum()) + 0.2 * np.mean(_all),
    rtol=1e-4,
    why="0.8 of the loss, and 0.2 of the average over all five classes",
)
_p = Sigmoid()(Tensor(_logits))
check.close(
    "sigmoid and BCELoss, against BCEWithLogitsLoss",
    _value(BCELoss()(_p, _logits > 0)),
    _value(BCEWithLogitsLoss()(Tensor(_logits), _logits > 0)),
    rtol=1e-4,
    why="one loss, two roads",
)
check.raises(
    "predictions (4, 1) for targets (4,)",
    ValueError,
    lambda: MSELoss()(Tensor(np.zeros((4, 1))), np.zeros(4)),
    mention=["(4, 1)", "(4,)"],
    why="broadcasting would compare each prediction with every target",
)

# %% check="judge_a_whole_network"
manual_seed(4)
_net = Sequential(Linear(3, 8), Tanh(), Linear(8, 2))
_x, _y = _rng.standard_normal((20, 3)).astype(np.float32), _rng.integers(0, 2, 20)


def _told():
    return _value(CrossEntropyLoss()(_net(Tensor(_x)), _y))


def _counted():
    hidden = np.tanh(_x.astype(float) @ _net[0].weight.data.T + _net[0].bias.data)
    out = hidden @ _net[2].weight.data.T + _net[2].bias.data
    return float((np.log(np.exp(out).sum(axis=1)) - out[np.arange(20), _y]).mean())


check.close("the loss of a network", _told(), _counted(), rtol=1e-4, why="computed again by NumPy")
_net[0].weight.data[2, 1] += 0.5
check.close(
    "the loss after one weight was nudged",
    _told(),
    _counted(),
    rtol=1e-4,
    why="one number listens to every weight: this is what gradients will follow",
)
