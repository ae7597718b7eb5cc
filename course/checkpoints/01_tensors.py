# %% [markdown]
"""
# Checkpoint 1: can you compute with arrays of any shape, without a loop?

Programs that people write with tensors, none of them from the notebook.
"""

# %% given="tools"
import numpy as np
from tinytorch.core.tensor import Tensor, cat, ones, stack

import tito.checks as check

_rng = np.random.default_rng(101)


def _random(*shape):
    return _rng.standard_normal(shape).astype(np.float32)


# %% check="standardize_a_table"
_a = 5 + 3 * _random(40, 6)
_x = Tensor(_a)
_z = (_x - _x.mean(axis=0)) / _x.var(axis=0).sqrt()
check.tensor(
    "a table with every column at mean 0 and variance 1",
    _z,
    (_a - _a.mean(axis=0)) / _a.std(axis=0, ddof=1),
    atol=1e-4,
    why="(40, 6) minus (6,): the row of means is stretched down the table",
)

# %% check="distances_between_all_pairs"
_a, _b = _random(5, 3), _random(4, 3)
_apart = Tensor(_a).reshape(5, 1, 3) - Tensor(_b).reshape(1, 4, 3)
check.tensor(
    "squared distances of 5 points from 4",
    (_apart**2).sum(axis=-1),
    ((_a[:, None] - _b) ** 2).sum(axis=-1),
    atol=1e-5,
    why="(5, 1, 3) minus (1, 4, 3) is every pair at once: (5, 4, 3), then the sum over 3",
)

# %% check="rank_pages_by_their_links"
_links = np.array([[0, 0, 1, 0.5], [1 / 3, 0, 0, 0], [1 / 3, 0.5, 0, 0.5], [1 / 3, 0.5, 0, 0]])
_web, _rank = Tensor(_links), ones(4, 1) / 4
for _ in range(60):
    _rank = _web @ _rank * 0.85 + 0.15 / 4
_solved = np.linalg.solve(np.eye(4) - 0.85 * _links, np.full((4, 1), 0.15 / 4))
check.tensor(
    "the rank of 4 pages after 60 products",
    _rank,
    _solved,
    atol=1e-5,
    why="the fixed point of rank = 0.85 * links @ rank + 0.15 / 4, solved by NumPy",
)


# %% check="play_life"
def _next_generation(cells):
    """One step of Conway's Life on a torus, in arithmetic alone."""
    rows = cat([cells[-1:], cells, cells[:1]], axis=0)
    board = cat([rows[:, -1:], rows, rows[:, :1]], axis=1)
    height, width = cells.shape
    near = stack([board[i : i + height, j : j + width] for i in range(3) for j in range(3)]).sum(
        axis=0
    )
    return ((0.75 - (near - cells * 0.5 - 3.0).abs()) * 1000).clamp(0, 1)


_board = np.zeros((8, 8), dtype=np.float32)
_board[[0, 1, 2, 2, 2], [1, 2, 0, 1, 2]] = 1
_cells = Tensor(_board)
for _ in range(4):
    _cells = _next_generation(_cells)
check.tensor(
    "a glider after 4 generations",
    _cells,
    np.roll(_board, (1, 1), axis=(0, 1)),
    why="it is the same glider one row down and one column right: slices, cat, stack and sum",
)

# %% check="many_products_at_once"
_a, _b = _random(3, 1, 4, 5), _random(2, 5, 6)
check.tensor(
    "(3, 1, 4, 5) @ (2, 5, 6)",
    Tensor(_a) @ Tensor(_b),
    _a @ _b,
    atol=1e-5,
    why="the leading axes broadcast, the last two are multiplied: (3, 2, 4, 6)",
)
_axes = Tensor(_a).permute(2, 0, 3, 1)
check.tensor(
    "the axes in another order, then flat",
    _axes.reshape(4, -1),
    _a.transpose(2, 0, 3, 1).reshape(4, -1),
    why="permute moves axes, reshape keeps the order",
)

# %% check="know_what_memory_is_shared"
_x = Tensor(_random(6, 4))
check.same_storage("a reshape", _x.reshape(4, 6), _x, why="the same numbers in the same place")
check.same_storage("a slice of rows", _x[2:4], _x, why="a slice is a window")
check.same_storage("rows picked by a list", _x[[0, 3]], _x, expected=False, why="a list is copied")
check.equal("bytes of a (6, 4) tensor", _x.memory_footprint(), 96, why="24 numbers of 4 bytes")
check.raises(
    "adding (6, 4) and (3,)",
    ValueError,
    lambda: _x + Tensor(_random(3)),
    why="4 and 3 do not go together, and the message says so",
    mention=["(6, 4)", "(3,)"],
)
