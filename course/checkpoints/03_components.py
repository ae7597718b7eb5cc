# %% [markdown]
"""
# Checkpoint 3: can you assemble a network that nobody gave you, and bring it back from a file?

A residual network with a shared layer, written on top of your `Module`.
"""

# %% given="tools"
import tempfile
from pathlib import Path

import numpy as np
from tinytorch.core.activations import ReLU, Tanh
from tinytorch.core.layers import Dropout, Flatten, Linear, Module, Sequential, kaiming_normal_
from tinytorch.core.tensor import Tensor, manual_seed, zeros

import tito.checks as check

_rng = np.random.default_rng(103)


class Residual(Module):
    """x plus what a small network makes of it."""

    def __init__(self, width):
        self.inner = Sequential(Linear(width, 2 * width), Tanh(), Linear(2 * width, width))

    def forward(self, x):
        return x + self.inner(x)


class Stack(Module):
    """Two residual blocks, and the first one once more."""

    def __init__(self, width, classes):
        self.first = Residual(width)
        self.second = Residual(width)
        self.again = self.first
        self.drop = Dropout(0.5)
        self.head = Linear(width, classes)

    def forward(self, x):
        return self.head(self.drop(self.again(self.second(self.first(x)))))


def _by_hand(net, x):
    """The same network in NumPy."""

    def linear(layer, value):
        return value @ layer.weight.data.astype(float).T + layer.bias.data

    for block in (net.first, net.second, net.first):
        x = x + linear(block.inner[2], np.tanh(linear(block.inner[0], x)))
    return linear(net.head, x)


# %% check="assemble_a_residual_network"
manual_seed(3)
_net, _x = Stack(6, 3).eval(), _rng.standard_normal((5, 6)).astype(np.float32)
check.tensor(
    "the network of 5 rows",
    _net(Tensor(_x)),
    _by_hand(_net, _x),
    atol=1e-5,
    why="three blocks and a head, computed again by NumPy from its weights",
)

# %% check="find_every_parameter_once"
_names = [name for name, _ in _net.named_parameters()]
_block = ["inner.0.weight", "inner.0.bias", "inner.2.weight", "inner.2.bias"]
check.equal(
    "names of the parameters",
    _names,
    [f"first.{n}" for n in _block] + [f"second.{n}" for n in _block] + ["head.weight", "head.bias"],
    why="found through every level, in order, and the shared block once",
)
check.equal(
    "numbers in it",
    sum(p.size for p in _net.parameters()),
    2 * (6 * 12 + 12 + 12 * 6 + 6) + 21,
    why="two blocks of 162 and a head of 21",
)
_mnist = Sequential(Flatten(), Linear(784, 128), ReLU(), Linear(128, 10))
check.equal(
    "numbers in 784-128-10",
    sum(p.size for p in _mnist.parameters()),
    101_770,
    why="784 * 128 + 128 + 128 * 10 + 10",
)

# %% check="bring_it_back_from_a_file"
with tempfile.TemporaryDirectory() as _folder:
    _file = Path(_folder, "net.npz")
    np.savez(_file, **_net.state_dict())
    _before = _net(Tensor(_x)).data.copy()
    for _p in _net.parameters():
        _p.data += 1
    with np.load(_file) as _arrays:
        _saved = dict(_arrays)
manual_seed(99)
_other = Stack(6, 3).eval()
_other.load_state_dict(_saved)
check.tensor(
    "a fresh network with the weights of the file",
    _other(Tensor(_x)),
    _before,
    why="what was saved before the weights changed, in another object",
)
check.raises(
    "the weights of a network of another size",
    ValueError,
    lambda: Stack(5, 3).load_state_dict(_saved),
    why="say which one, and both shapes",
    mention=["(12, 6)", "(10, 5)"],
)
_saved.pop("head.bias")
check.raises(
    "a file without the head's bias",
    ValueError,
    lambda: _other.load_state_dict(_saved),
    why="say what is missing",
    mention=["head.bias"],
)

# %% check="switch_between_training_and_use"
_other.train()
_masks = [np.round(_other.drop(Tensor(np.ones((200, 50)))).data, 4) for _ in range(2)]
check.true(
    "dropout in training gives 0 or 2",
    set(np.unique(_masks[0])) == {0.0, 2.0},
    got=np.unique(_masks[0]),
    why="half is dropped, the rest doubled, so the mean stays 1",
)
check.true(
    "about half of it",
    abs((_masks[0] == 0).mean() - 0.5) < 0.03,
    got=(_masks[0] == 0).mean(),
    why="10,000 coins",
)
check.true(
    "another half each time", not np.array_equal(*_masks), why="a fixed mask would remove neurons"
)
_other.eval()
check.true(
    "eval() reaches the layer inside", not _other.drop.training, why="it walks down the tree"
)
check.tensor("dropout in use", _other.drop(Tensor(_x)), _x, why="nothing is dropped in use")

# %% check="keep_a_signal_alive_through_fifty_layers"
manual_seed(5)
_layers = []
for _ in range(50):
    _layer = Linear(100, 100, bias=False)
    kaiming_normal_(_layer.weight)
    _layers += [_layer, ReLU()]
_out = Sequential(*_layers)(Tensor(_rng.standard_normal((64, 100)))).data
check.true(
    "the mean square after 50 layers is between 0.02 and 50",
    0.02 < (_out**2).mean() < 50,
    got=f"{(_out**2).mean():.3g}",
    why="std sqrt(2 / fan_in) keeps the size; 0.01 leaves nothing",
)
_layer = Linear(400, 300)
check.true(
    "Linear begins within 1/sqrt(in_features)",
    0.9 < np.abs(_layer.weight.data).max() * 20 <= 1,
    got=np.abs(_layer.weight.data).max(),
    why="1/sqrt(400) = 0.05",
)
check.equal(
    "rows of any shape", Linear(4, 2)(zeros(3, 5, 4)).shape, (3, 5, 2), why="the last axis counts"
)
