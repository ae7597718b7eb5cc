# %% [markdown]
"""
# Checkpoint 7: can you train a network end to end, and resume as if nothing had happened?

Three spirals that no line tells apart, and a power cut in the middle.
"""

# %% given="tools"
import tempfile
from pathlib import Path

import numpy as np
from tinytorch.core.activations import Tanh
from tinytorch.core.layers import Dropout, Linear, Sequential
from tinytorch.core.losses import CrossEntropyLoss
from tinytorch.core.optimizers import SGD, Adam
from tinytorch.core.tensor import manual_seed
from tinytorch.core.training import (
    EarlyStopping,
    Trainer,
    WarmupCosine,
    clip_grad_norm_,
    train_loop,
)

import tito.checks as check


def _spirals(n, seed):
    """n points of three arms that wind around each other: (n, 2) float32, labels 0 to 2."""
    rng = np.random.default_rng(seed)
    arm, way = np.arange(n) % 3, rng.uniform(0.1, 1, n)
    angle = 2 * np.pi * arm / 3 + 4 * way + rng.normal(0, 0.1, n)
    points = way[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return (2 * points).astype(np.float32), arm


def _net(seed, drop=0.0):
    manual_seed(seed)
    return Sequential(Linear(2, 32), Tanh(), Dropout(drop), Linear(32, 32), Tanh(), Linear(32, 3))


def _numpy_accuracy(net, x, y):
    """Share of right answers, by NumPy from the weights alone."""
    w = net.state_dict()
    for name in ("0", "3"):
        x = np.tanh(x @ w[f"{name}.weight"].T + w[f"{name}.bias"])
    return float(((x @ w["5.weight"].T + w["5.bias"]).argmax(axis=1) == y).mean())


# %% check="train_end_to_end"
_model = _net(seed=7)
_begun = _model.state_dict()
_optimizer = Adam(_model.parameters(), lr=0.01)
_history = train_loop(
    _model,
    _spirals(600, 1),
    CrossEntropyLoss(),
    _optimizer,
    epochs=40,
    batch_size=32,
    validation=_spirals(300, 2),
    scheduler=WarmupCosine(_optimizer, 20, 800),
)
_fresh = _spirals(900, 3)
check.true(
    "three spirals told apart on 900 points it has not seen: 95 % or more",
    _numpy_accuracy(_model, *_fresh) >= 0.95,
    got=_numpy_accuracy(_model, *_fresh),
    why="counted by NumPy from the weights; guessing gives a third",
)
check.close(
    "the validation accuracy in the history",
    _history["val_accuracy"][-1],
    _numpy_accuracy(_model, *_spirals(300, 2)),
    atol=0.01,
    why="a history that flatters helps nobody",
)
check.true(
    "every layer moved",
    all(not np.array_equal(_begun[n], a) for n, a in _model.state_dict().items()),
    why="a layer that stays is not trained",
)

# %% check="notice_when_nothing_is_to_be_learned"
_x, _y = _spirals(600, 4)
_y = np.random.default_rng(5).permutation(_y)
_model = _net(seed=7)
_told = train_loop(
    _model,
    (_x[:450], _y[:450]),
    CrossEntropyLoss(),
    Adam(_model.parameters(), lr=0.01),
    epochs=10,
    batch_size=32,
    validation=(_x[450:], _y[450:]),
)["val_accuracy"][-1]
check.true(
    "on shuffled labels the validation stays near a third",
    _told < 0.5,
    got=_told,
    why="the labels say nothing about the points: a higher score means they leaked",
)


# %% check="resume_as_if_nothing_had_happened"
def _trainer(seed):
    model = _net(seed, drop=0.2)
    optimizer = Adam(model.parameters(), lr=0.01)
    return Trainer(
        model,
        CrossEntropyLoss(),
        optimizer,
        batch_size=64,
        clip_norm=1.0,
        scheduler=WarmupCosine(optimizer, 5, 60),
    )


_data = _spirals(300, 6)
_whole = _trainer(seed=1)
_whole.fit(_data, epochs=6)
with tempfile.TemporaryDirectory() as _folder:
    _file = Path(_folder, "run.ckpt")
    _half = _trainer(seed=1)
    _half.fit(_data, epochs=3)
    _half.save(_file)
    _resumed = _trainer(seed=2)
    _resumed.load(_file)
    _raw = _file.read_bytes()
    _resumed.fit(_data, epochs=3)
    _file.write_bytes(_raw[: len(_raw) // 2])
    check.raises(
        "a checkpoint that is cut off",
        ValueError,
        lambda: _trainer(seed=1).load(_file),
        why="half a file must not become a network",
        mention=["run.ckpt"],
    )
check.equal(
    "losses of 3 + 3 epochs",
    _resumed.history["loss"],
    _whole.history["loss"],
    why="weights, averages, schedule, shuffling and dropout all go on where they stopped",
)
for _name, _array in _whole.model.state_dict().items():
    check.true(
        f"{_name} after 3 + 3 epochs is that after 6, bit for bit",
        np.array_equal(_array, _resumed.model.state_dict()[_name]),
        why="not nearly: exactly",
    )


# %% check="use_more_memory_than_there_is"
def _one_step(batch, accumulate):
    model = _net(seed=3)
    Trainer(
        model,
        CrossEntropyLoss(),
        SGD(model.parameters(), lr=0.5),
        batch_size=batch,
        accumulate=accumulate,
    ).fit(_spirals(64, 8), epochs=1)
    return model.state_dict()


_large, _small = _one_step(64, 1), _one_step(16, 4)
for _name in _large:
    check.close(
        f"{_name} after one batch of 64, and after four of 16",
        _small[_name],
        _large[_name],
        atol=1e-5,
        why="gradients of the parts, weighted by their rows, add up to that of the whole",
    )

# %% check="keep_steps_and_patience_in_bounds"
_weight = Linear(2, 2).weight
_weight.grad = np.array([[30.0, 0.0], [0.0, 40.0]], dtype=np.float32)
check.close(
    "the length of a gradient that is clipped",
    clip_grad_norm_([_weight], 5.0),
    50.0,
    why="before clipping",
)
check.close(
    "the gradient after clipping to 5",
    _weight.grad,
    [[3.0, 0.0], [0.0, 4.0]],
    rtol=1e-4,
    why="a tenth",
)
_model = _net(seed=4)
_short = train_loop(
    _model,
    _spirals(60, 9),
    CrossEntropyLoss(),
    SGD(_model.parameters(), lr=0.0),
    epochs=20,
    validation=_spirals(60, 10),
    early_stopping=EarlyStopping(patience=3),
)
check.equal(
    "epochs of a run that does not improve, with patience 3",
    len(_short["loss"]),
    4,
    why="the first epoch sets the mark, three more bring nothing",
)
