# %% [markdown]
"""
# Checkpoint 2: can you bend a line into a curve, and stay finite?

Curves made of bends, identities that must hold at every number, and numbers that overflow.
"""

# %% given="tools"
import warnings

import numpy as np
from tinytorch.core.activations import GELU, LogSoftmax, ReLU, Sigmoid, SiLU, Softmax, Tanh
from tinytorch.core.tensor import Tensor

import tito.checks as check

_rng = np.random.default_rng(102)
_line = np.linspace(-3, 3, 25).astype(np.float32)
_far = np.array([-1e30, -1000, -90, -1, 0, 1, 90, 1000, 1e30], dtype=np.float32)

# %% check="draw_a_curve_with_bends"
_relu, _knots = ReLU(), np.linspace(-3, 3, 13)
_heights = np.sin(_knots)
_slopes = np.diff(_heights) / np.diff(_knots)
_curve = Tensor(np.full(25, _heights[0]))
for _knot, _bend in zip(_knots, np.diff(_slopes, prepend=0.0)):
    _curve = _curve + _relu(Tensor(_line - _knot)) * _bend
check.tensor(
    "12 ramps of ReLU that add up to the sine at 13 knots",
    _curve,
    np.interp(_line, _knots, _heights),
    atol=1e-5,
    why="each bend changes the slope at its knot, so the sum goes through every knot",
)

# %% check="answer_xor_by_hand"
_a, _b = Tensor([0.0, 0.0, 1.0, 1.0]), Tensor([0.0, 1.0, 0.0, 1.0])
check.tensor(
    "relu(a + b) - 2 relu(a + b - 1)",
    _relu(_a + _b) - _relu(_a + _b - 1) * 2,
    [0, 1, 1, 0],
    why="no line answers XOR; two bends do",
)

# %% check="keep_the_identities"
_x = Tensor(_far)
check.tensor(
    "sigmoid(x) + sigmoid(-x)",
    Sigmoid()(_x) + Sigmoid()(-_x),
    np.ones(9),
    why="what fires for x does not fire for -x, also at 1e30",
)
check.tensor(
    "tanh(x) and 2 sigmoid(2x) - 1",
    Tanh()(_x) - (Sigmoid()(_x * 2) * 2 - 1),
    np.zeros(9),
    why="the two are one curve, stretched",
)
for _bend in (GELU(), GELU(approximate="tanh"), SiLU()):
    _y = Tensor(_line)
    check.tensor(
        f"{_bend}: f(x) - f(-x)",
        _bend(_y) - _bend(-_y),
        _line,
        atol=1e-5,
        why="x * g(x) with g(x) + g(-x) = 1 leaves x",
    )
check.tensor("relu(x) - relu(-x)", _relu(_x) - _relu(-_x), _far, why="the two halves of x")

# %% check="turn_scores_into_chances"
_scores = _rng.standard_normal((4, 6)).astype(np.float32)
_chances = Softmax()(Tensor(_scores))
check.tensor(
    "what each row of chances adds up to", _chances.sum(axis=1), np.ones(4), why="one of the six"
)
check.tensor(
    "the chances of scores that are all 500 higher",
    Softmax()(Tensor(_scores + 500)),
    _chances.data,
    atol=1e-4,
    why="only differences of scores count",
)
check.tensor(
    "the ratio of two chances",
    _chances[:, 0] / _chances[:, 1],
    np.exp(_scores[:, 0].astype(float) - _scores[:, 1]),
    rtol=1e-4,
    why="e to the difference of the scores",
)
_cold = Softmax()(Tensor(_scores) * 1e4)
check.tensor(
    "the chances at a very low temperature",
    _cold,
    np.eye(6)[_scores.argmax(axis=1)],
    atol=1e-3,
    why="the largest score takes everything",
)
check.tensor(
    "along the other axis",
    Softmax(dim=0)(Tensor(_scores)).sum(axis=0),
    np.ones(6),
    why="dim says along which axis the chances add up to 1",
)
check.tensor(
    "exp of the log-chances",
    LogSoftmax()(Tensor(_scores)).exp(),
    _chances.data,
    why="LogSoftmax is the logarithm of Softmax",
)

# %% check="stay_finite"
with warnings.catch_warnings(), np.errstate(over="warn", invalid="warn"):
    warnings.simplefilter("error")
    for _bend in (ReLU(), Sigmoid(), Tanh(), SiLU(), Softmax(), LogSoftmax()):
        try:
            _finite = bool(np.isfinite(_bend(Tensor([[-1000.0, 0.0, 1000.0]])).data).all())
        except RuntimeWarning as _warning:
            _finite = str(_warning)
        check.true(
            f"{_bend} of -1000, 0 and 1000 is finite, without a warning",
            _finite is True,
            got=_finite,
            why="e to the 1000 does not fit into any float: never compute it",
        )
