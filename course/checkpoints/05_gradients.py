# %% [markdown]
"""
# Checkpoint 5: can you find the way downhill in anything you can compute?

Functions that no notebook showed, each against slopes that NumPy measures by itself.
"""

# %% given="tools"
import numpy as np
from tinytorch.core.activations import Softmax, Tanh
from tinytorch.core.autograd import no_grad
from tinytorch.core.tensor import Tensor, stack

import tito.checks as check

_rng = np.random.default_rng(105)


def _random(*shape):
    return _rng.standard_normal(shape).astype(np.float32)


def _slopes(f, *arrays, eps=1e-4):
    """Central differences of a NumPy function, for every entry of every array, in float64."""
    arrays = [a.astype(np.float64) for a in arrays]
    found = []
    for array in arrays:
        slope = np.zeros_like(array)
        for place in np.ndindex(array.shape):
            centre, ends = array[place], []
            for step in (eps, -eps):
                array[place] = centre + step
                ends.append(f(*arrays))
            array[place] = centre
            slope[place] = (ends[0] - ends[1]) / (2 * eps)
        found.append(slope)
    return found


def _compare(what, mine, numpy_function, *arrays, why):
    """Gradients of `mine` (Tensors in, one number out) against measured slopes."""
    tensors = [Tensor(a.copy(), requires_grad=True) for a in arrays]
    mine(*tensors).backward()
    for number, (tensor, slope) in enumerate(zip(tensors, _slopes(numpy_function, *arrays))):
        check.true(f"{what}: input {number} has a gradient", tensor.grad is not None, why=why)
        check.close(
            f"{what}: gradient of input {number}", tensor.grad, slope, rtol=2e-3, atol=2e-3, why=why
        )


# %% check="a_banana_shaped_valley"
for _x, _y in ((-1.2, 1.0), (0.5, 0.5), (1.0, 1.0)):
    _point = Tensor([_x, _y], requires_grad=True)
    ((1 - _point[0]) ** 2 + (_point[1] - _point[0] ** 2) ** 2 * 100).backward()
    check.close(
        f"slope of Rosenbrock's function at ({_x}, {_y})",
        _point.grad,
        [-2 * (1 - _x) - 400 * _x * (_y - _x**2), 200 * (_y - _x**2)],
        rtol=1e-4,
        atol=1e-4,
        why="x is used three times, and its three gradients add up",
    )

# %% check="a_network_that_reads_in_time"
_w, _u, _words = _random(3, 3) / 2, _random(3, 2), _random(6, 2)


def _read(w, u):
    state = Tensor(np.zeros(3))
    for word in _words:
        state = Tanh()(w @ state + u @ Tensor(word))
    return (state * state).sum()


def _read_numpy(w, u):
    state = np.zeros(3)
    for word in _words:
        state = np.tanh(w @ state + u @ word)
    return float((state * state).sum())


_compare(
    "six steps with the same weights",
    _read,
    _read_numpy,
    _w,
    _u,
    why="every step sends a gradient to the same two matrices",
)

# %% check="attention"
_q, _k, _v = _random(4, 3), _random(5, 3), _random(5, 2)


def _attend(q, k, v):
    return (Softmax()(q @ k.T / 3**0.5) @ v).exp().sum()


def _attend_numpy(q, k, v):
    scores = np.exp(q @ k.T / 3**0.5)
    return float(np.exp(scores / scores.sum(axis=1, keepdims=True) @ v).sum())


_compare(
    "attention of 4 queries to 5 keys",
    _attend,
    _attend_numpy,
    _q,
    _k,
    _v,
    why="the gradient goes through exp, a product, a softmax, a quotient and a transpose",
)

# %% check="normalization"
_x, _scale = _random(4, 6), _random(6)


def _normal(x, scale):
    centred = x - x.mean(axis=1, keepdims=True)
    return (
        (centred / ((centred**2).mean(axis=1, keepdims=True) + 1e-2).sqrt() * scale)
        .abs()
        .log()
        .sum()
    )


def _normal_numpy(x, scale):
    centred = x - x.mean(axis=1, keepdims=True)
    normal = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-2) * scale
    return float(np.log(np.abs(normal)).sum())


_x = _x + 0.2 * np.sign(_x)
_compare(
    "rows normalized and scaled",
    lambda x, s: _normal(x, s) * 0.05,
    lambda x, s: _normal_numpy(x, s) * 0.05,
    _x,
    _scale + 2 * np.sign(_scale),
    why="each entry moves its row's mean and spread as well",
)

# %% check="looking_things_up"
_table, _ids = _random(5, 2), [0, 3, 3, 1, 3]
_compare(
    "rows looked up, one of them three times",
    lambda t: (t[_ids] * t[_ids][::-1]).sum(),
    lambda t: float((t[_ids] * t[_ids][::-1]).sum()),
    _table,
    why="the row that is used three times gets three gradients; row 4 gets none",
)
_compare(
    "the largest of each row, and pieces stacked",
    lambda t: (t.max(axis=1) ** 2).sum() + stack([t[0], t[2]]).clamp(-0.5, 0.5).sum(),
    lambda t: float((t.max(axis=1) ** 2).sum() + np.clip(t[[0, 2]], -0.5, 0.5).sum()),
    _table,
    why="only the winner gets the gradient, and nothing gets through where clamp cut",
)

# %% check="adding_up_and_starting_over"
_x = Tensor([2.0, -1.0], requires_grad=True)
for _ in range(2):
    (_x**2).sum().backward()
check.close(
    "the gradient of x² after two backwards", _x.grad, [8.0, -4.0], why="2 * 2x: they add up"
)
_x.grad = None
(_x**2).sum().backward()
check.close("and after starting over", _x.grad, [4.0, -2.0], why="2x")
check.raises(
    "backward of two numbers at once",
    RuntimeError,
    lambda: (_x * 2).backward(),
    mention=["(2,)"],
    why="two numbers have no single slope",
)
with no_grad():
    _y = _x * 3
check.true(
    "nothing is recorded under no_grad",
    not _y.requires_grad,
    why="the update must not be learned from",
)

# %% check="a_chain_of_ten_thousand"
_x = Tensor([1.0], requires_grad=True)
_y = _x
for _ in range(10_000):
    _y = _y * 1.0001
_y.sum().backward()
check.close(
    "slope of x times 1.0001, ten thousand times",
    _x.grad,
    [1.0001**10_000],
    rtol=5e-3,
    why="the walk back is a loop: a recursion this deep would end Python",
)
