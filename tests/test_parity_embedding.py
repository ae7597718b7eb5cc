"""Module 11 against PyTorch: lookups with repeats, positions added, turns as complex numbers."""

import math

import numpy as np
import pytest
import torch
from tinytorch.core.losses import CrossEntropyLoss
from tinytorch.core.optimizers import SGD, Adam
from tinytorch.core.tensor import Tensor, manual_seed
from tinytorch.nn.embedding import (
    Embedding,
    LearnedPositions,
    RotaryPositions,
    SinusoidalPositions,
    embedding,
    one_hot,
    sinusoidal_positions,
)

from tests.oracles import OURS, Case, assert_close, compare


def pick(ours, theirs):
    """A `run` of a Case: one of two functions, by the library whose tensors come in."""
    return lambda lib, *tensors: (ours if lib is OURS else theirs)(*tensors)


def lookup_case(shape, count, dim):
    """A table (count, dim) and indices of `shape`; few rows and many indices repeat a lot."""
    ids = np.asarray(np.random.default_rng(len(shape) + count).integers(0, count, shape))
    return Case(
        f"embedding {shape} of {count}, {dim}",
        pick(
            lambda w: embedding(w, ids),
            lambda w: torch.nn.functional.embedding(torch.tensor(ids), w),
        ),
        ((count, dim),),
    )


LOOKUPS = [
    lookup_case(shape, count, dim)
    for shape, count, dim in [
        ((), 5, 3),
        ((1,), 1, 1),
        ((4,), 9, 2),
        ((50,), 3, 4),
        ((2, 3), 7, 5),
        ((8, 16), 4, 6),
        ((3, 1, 5), 6, 2),
        ((2, 2, 2, 2), 3, 3),
        ((0,), 4, 3),
        ((2, 0), 4, 3),
        ((6, 32), 300, 8),
        ((64,), 2, 1),
    ]
]
REPEATED = np.array([[1, 1, 1], [0, 1, 4]])
COMPOSED = [
    Case(
        "the same table twice",
        pick(
            lambda w: embedding(w, REPEATED) * embedding(w, REPEATED[::-1]),
            lambda w: (
                torch.nn.functional.embedding(torch.tensor(REPEATED), w)
                * torch.nn.functional.embedding(torch.tensor(REPEATED[::-1].copy()), w)
            ),
        ),
        ((5, 3),),
    ),
    Case(
        "tied: the table is the output layer too",
        pick(
            lambda w: embedding(w, REPEATED) @ w.T,
            lambda w: torch.nn.functional.embedding(torch.tensor(REPEATED), w) @ w.T,
        ),
        ((5, 3),),
    ),
    Case(
        "product with one_hot",
        pick(
            lambda w: Tensor(one_hot(REPEATED, 5)) @ w,
            lambda w: torch.nn.functional.one_hot(torch.tensor(REPEATED), 5).float() @ w,
        ),
        ((5, 3),),
    ),
]


def learned_case(shape, length, start):
    """x of `shape` and a table of `length` learned positions, from `start`."""

    def ours(x, weight):
        layer = LearnedPositions(length, shape[-1])
        layer.weight = weight
        return layer(x, start=start)

    places = torch.arange(start, start + shape[-2])
    return Case(
        f"learned {shape} from {start} of {length}",
        pick(ours, lambda x, weight: x + torch.nn.functional.embedding(places, weight)),
        (shape, (length, shape[-1])),
    )


def torch_waves(length, dim, base=10000.0):
    """The waves by another way: angles from exp and log, sine and cosine interleaved by a stack."""
    speeds = torch.exp(torch.arange(0, dim, 2, dtype=torch.float64) * (-math.log(base) / dim))
    angles = torch.outer(torch.arange(length, dtype=torch.float64), speeds)
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)[:, :dim]


def wave_case(shape, length, start):
    """x of `shape`, and fixed waves from `start`."""
    waves = torch_waves(length, shape[-1])[start : start + shape[-2]].float()
    return Case(
        f"waves {shape} from {start} of {length}",
        pick(lambda x: SinusoidalPositions(length, shape[-1])(x, start=start), lambda x: x + waves),
        (shape,),
    )


def torch_rotary(x, start, base):
    """Pairs (i, i + D/2) as complex numbers, each times a number of length 1."""
    steps, half = x.shape[-2], x.shape[-1] // 2
    speeds = base ** (-torch.arange(half, dtype=torch.float64) * 2 / x.shape[-1])
    angles = torch.outer(torch.arange(start, start + steps, dtype=torch.float64), speeds)
    turns = torch.polar(torch.ones_like(angles), angles).to(torch.complex64)
    points = torch.view_as_complex(torch.stack([x[..., :half], x[..., half:]], dim=-1).contiguous())
    turned = torch.view_as_real(points * turns)
    return torch.cat([turned[..., 0], turned[..., 1]], dim=-1)


def rotary_case(shape, start, base=10000.0):
    """x of `shape`, turned from `start` on."""
    length = start + shape[-2]
    return Case(
        f"rotary {shape} from {start}, base {base:g}",
        pick(
            lambda x: RotaryPositions(shape[-1], length, base)(x, start=start),
            lambda x: torch_rotary(x, start, base),
        ),
        (shape,),
    )


POSITIONS = [
    learned_case((2, 5, 4), 5, 0),
    learned_case((3, 2, 6), 9, 4),
    learned_case((1, 1, 3), 8, 7),
    learned_case((4, 3), 6, 2),
    learned_case((2, 3, 4, 5), 7, 1),
    wave_case((2, 5, 4), 5, 0),
    wave_case((1, 3, 8), 12, 9),
    wave_case((2, 4, 7), 40, 33),
    wave_case((6, 2), 6, 0),
    rotary_case((1, 1, 4, 2), 0),
    rotary_case((2, 3, 5, 8), 0),
    rotary_case((2, 3, 5, 8), 11),
    rotary_case((1, 4, 1, 16), 100),
    rotary_case((2, 2, 6, 4), 3, base=500_000.0),
    rotary_case((2, 2, 6, 6), 3, base=10.0),
    rotary_case((7, 4), 0),
    rotary_case((1, 1, 2, 8), 30_000),
    rotary_case((2, 0, 3, 4), 1),
]


@pytest.mark.parametrize("case", LOOKUPS + COMPOSED + POSITIONS, ids=lambda case: case.id)
def test_value_and_gradients_are_torchs(case):
    compare(case)


@pytest.mark.parametrize(
    ("length", "dim", "base"),
    [(1, 2, 1e4), (64, 32, 1e4), (5, 7, 1e4), (3, 1, 1e4), (500, 16, 100.0), (10, 6, 5e5)],
)
def test_waves_equal_an_independent_formula(length, dim, base):
    found = sinusoidal_positions(length, dim, base)
    np.testing.assert_allclose(found, torch_waves(length, dim, base).numpy(), atol=1e-9)


@pytest.mark.parametrize("name", ["SGD", "Adam"])
def test_a_table_trains_as_torchs(name):
    """Ten steps of a bag of words, with rows that repeat and rows that never come."""
    rng = np.random.default_rng(3)
    start = rng.standard_normal((9, 4)).astype(np.float32)
    mine, its = Embedding(9, 4), torch.nn.Embedding(9, 4)
    mine.load_state_dict({"weight": start})
    its.load_state_dict({"weight": torch.tensor(start)})
    ours = {"SGD": SGD, "Adam": Adam}[name](mine.parameters(), lr=0.1)
    theirs = getattr(torch.optim, name)(its.parameters(), lr=0.1)
    for _ in range(10):
        ids, target = rng.integers(0, 6, (8, 5)), rng.integers(0, 4, 8)
        ours.zero_grad()
        theirs.zero_grad()
        CrossEntropyLoss()(mine(ids).mean(axis=1), target).backward()
        scores = its(torch.tensor(ids)).mean(dim=1)
        torch.nn.functional.cross_entropy(scores, torch.tensor(target)).backward()
        assert_close("gradient", mine.weight.grad, its.weight.grad.numpy(), atol=1e-5)
        ours.step()
        theirs.step()
    assert_close("table", mine.weight.data, its.weight.detach().numpy(), rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(mine.weight.data[6:], start[6:])


def test_embedding_starts_as_torchs():
    manual_seed(0)
    torch.manual_seed(0)
    mine, its = Embedding(2000, 20), torch.nn.Embedding(2000, 20)
    assert [(k, p.shape) for k, p in mine.named_parameters()] == [
        (k, tuple(p.shape)) for k, p in its.named_parameters()
    ]
    # 40,000 draws: the spread is known to 0.4 % of itself.
    assert mine.weight.data.std() == pytest.approx(float(its.weight.detach().std()), rel=0.02)
    assert abs(mine.weight.data.mean()) < 0.02


def test_an_index_without_a_row_is_an_index_error_as_in_torch():
    for wrong in (4, -1):
        with pytest.raises(IndexError):
            torch.nn.Embedding(4, 2)(torch.tensor([0, wrong]))
        with pytest.raises(IndexError, match=rf"index {wrong} at \(1,\)"):
            Embedding(4, 2)([0, wrong])


def test_float_tensor_of_a_loader_and_integers_give_the_same_rows():
    table, ids = Embedding(50, 3), np.arange(50)
    assert np.array_equal(table(Tensor(ids)).data, table(ids).data)
    assert np.array_equal(table(ids.tolist()).data, table.weight.data)
