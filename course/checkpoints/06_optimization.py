# %% [markdown]
"""
# Checkpoint 6: can you get to the bottom of a valley?

Valleys whose bottom is known, and paths that NumPy walks beside you.
"""

# %% given="tools"
import numpy as np
from tinytorch.core.layers import Linear, Parameter
from tinytorch.core.losses import MSELoss
from tinytorch.core.optimizers import SGD, Adam, AdamW
from tinytorch.core.tensor import Tensor, manual_seed

import tito.checks as check

_rng = np.random.default_rng(106)
_steep = np.array([1.0, 50.0], dtype=np.float32)


def _descend(optimizer, point, steps):
    """Walk down half of x² + 50 y²; returns the point after every step."""
    path = []
    for _ in range(steps):
        optimizer.zero_grad()
        (point * point * Tensor(_steep)).sum().backward()
        point.grad *= 0.5
        optimizer.step()
        path.append(point.data.copy())
    return np.array(path)


# %% check="walk_down_a_narrow_valley"
_point = Parameter([3.0, 1.0])
_path = _descend(SGD([_point], lr=0.03), _point, 40)
_exact = np.array([3.0, 1.0]) * (1 - 0.03 * _steep) ** np.arange(1, 41)[:, None]
check.close(
    "40 steps of SGD in x² + 50 y²",
    _path,
    _exact,
    rtol=1e-3,
    atol=1e-5,
    why="x shrinks by 0.97 a step and y by -0.5: both are known exactly",
)
_point = Parameter([3.0, 1.0])
_fast = _descend(SGD([_point], lr=0.03, momentum=0.8), _point, 40)
_w, _v, _walk = np.array([3.0, 1.0]), np.zeros(2), []
for _ in range(40):
    _v = 0.8 * _v + _steep * _w
    _w = _w - 0.03 * _v
    _walk.append(_w)
check.close(
    "40 steps with momentum 0.8",
    _fast,
    np.array(_walk),
    rtol=1e-3,
    atol=1e-4,
    why="v = 0.8 v + gradient, w = w - lr v",
)
check.true(
    "momentum is nearer to the bottom",
    np.abs(_fast[-1]).max() < 0.3 * np.abs(_path[-1]).max(),
    got=[np.abs(_path[-1]).max(), np.abs(_fast[-1]).max()],
    why="it gathers speed along the flat side",
)

# %% check="reach_the_end_of_the_banana"
_point = Parameter([-1.2, 1.0])
_optimizer = Adam([_point], lr=0.05)
for _ in range(1500):
    _optimizer.zero_grad()
    ((1 - _point[0]) ** 2 + (_point[1] - _point[0] ** 2) ** 2 * 100).backward()
    _optimizer.step()
check.close(
    "where 1,500 steps of Adam end in Rosenbrock's valley",
    _point.data,
    [1.0, 1.0],
    atol=0.1,
    why="the bottom is at (1, 1), at the end of a long bent floor",
)

# %% check="fit_what_can_be_solved"
_x = _rng.standard_normal((80, 3)).astype(np.float32)
_y = (
    _x @ np.array([[1.5], [-2.0], [0.5]], dtype=np.float32)
    + 0.7
    + 0.1 * _rng.standard_normal((80, 1))
)
_solved = np.linalg.lstsq(np.c_[_x, np.ones(80)], _y, rcond=None)[0].ravel()
for _kind, _options in ((SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True}), (Adam, {"lr": 0.1})):
    manual_seed(6)
    _model = Linear(3, 1)
    _optimizer = _kind(_model.parameters(), **_options)
    for _ in range(250):
        _optimizer.zero_grad()
        MSELoss()(_model(Tensor(_x)), Tensor(_y)).backward()
        _optimizer.step()
    check.close(
        f"a line fitted by {_kind.__name__}",
        [*_model.weight.data.ravel(), *_model.bias.data],
        _solved,
        atol=5e-3,
        why="least squares has one bottom, and NumPy solves for it",
    )

# %% check="take_the_first_steps_of_adam"
_point = Parameter([1.0, 1.0, 1.0])
_optimizer = Adam([_point], lr=0.01)
_point.grad = np.array([1000.0, -1.0, 1e-3], dtype=np.float32)
_optimizer.step()
check.close(
    "the first step for gradients 1000, -1 and 0.001",
    _point.data,
    [0.99, 1.01, 0.99],
    rtol=1e-4,
    why="corrected averages make the first step lr against the sign, whatever the size",
)

# %% check="let_weights_decay"
_w, _a, _s = (Parameter([2.0]) for _ in range(3))
_steps = (
    AdamW([_w], lr=0.1, weight_decay=0.5),
    Adam([_a], lr=0.1, weight_decay=0.5),
    SGD([_s], lr=0.1, weight_decay=0.5),
)
for _ in range(3):
    for _optimizer, _p in zip(_steps, (_w, _a, _s)):
        _p.grad = np.zeros(1, dtype=np.float32)
        _optimizer.step()
check.close(
    "AdamW, 3 steps without a gradient",
    _w.data,
    [2 * 0.95**3],
    why="each shrinks by 1 - lr * decay",
)
check.close(
    "Adam, 3 steps without a gradient",
    _a.data,
    [2 - 3 * 0.1],
    rtol=2e-3,
    why="there the decay is a gradient, and Adam makes every gradient a step of about lr",
)
check.close("SGD, 3 steps without a gradient", _s.data, [2 * 0.95**3], why="w - lr * decay * w")


# %% check="stop_and_go_on"
def _ten_more(optimizer, point):
    return _descend(optimizer, point, 10)[-1]


_whole = Parameter([3.0, 1.0])
_first = Adam([_whole], lr=0.1)
_ten_more(_first, _whole)
_saved, _stopped = _first.state_dict(), Parameter(_whole.data.copy())
_expected = _ten_more(_first, _whole)
_second = Adam([_stopped], lr=0.5)
_second.load_state_dict(_saved)
check.true(
    "10 steps, saved, loaded, 10 more: the same bits as 20",
    np.array_equal(_ten_more(_second, _stopped), _expected),
    got=[_stopped.data, _expected],
    why="averages, step count and learning rate all come back",
)
