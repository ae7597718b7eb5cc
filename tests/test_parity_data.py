"""Datasets, splits and loaders against torch.utils.data: sizes, order without shuffle, shapes."""

import numpy as np
import pytest
import torch
import torch.utils.data as theirs
from tinytorch.core.tensor import Tensor
from tinytorch.data import loader as ours

SIZES = [0, 1, 2, 5, 8, 9, 64]


def arrays(n):
    rng = np.random.default_rng(n)
    return rng.normal(size=(n, 3, 2)).astype(np.float32), rng.normal(size=n).astype(np.float32)


def both(n, **options):
    x, y = arrays(n)
    mine = ours.DataLoader(ours.TensorDataset(x, y), **options)
    data = theirs.TensorDataset(torch.tensor(x), torch.tensor(y))
    return mine, theirs.DataLoader(data, **options)


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("batch_size", [1, 4, 8])
@pytest.mark.parametrize("drop_last", [False, True])
def test_loader_length_and_batches_agree(n, batch_size, drop_last):
    mine, its = both(n, batch_size=batch_size, drop_last=drop_last)
    assert len(mine) == len(its)
    for (x, y), (a, b) in zip(mine, its, strict=True):
        np.testing.assert_allclose(x.data, a.numpy())
        np.testing.assert_allclose(y.data, b.numpy())


def test_loader_defaults_agree():
    mine, its = both(3)
    assert [x.shape for x, _ in mine] == [tuple(a.shape) for a, _ in its]


@pytest.mark.parametrize("drop_last", [False, True])
def test_shuffled_passes_have_the_same_rows_and_sizes(drop_last):
    mine, its = both(21, batch_size=4, shuffle=True, drop_last=drop_last)
    rows = [y.data for _, y in mine]
    assert [len(y) for y in rows] == [len(b) for _, b in its]
    if not drop_last:
        np.testing.assert_allclose(np.sort(np.concatenate(rows)), np.sort(arrays(21)[1]))


@pytest.mark.parametrize(
    "items",
    [
        [(np.ones((2, 3)), 1), (np.zeros((2, 3)), 0)],
        [(1.5, 2, np.ones(1)), (2.5, 3, np.ones(1)), (0.0, 0, np.ones(1))],
        [(np.float32(2),), (np.float32(3),)],
        [np.ones((2, 2)), np.zeros((2, 2))],
        [1, 2, 3],
    ],
)
def test_default_collate_agrees(items):
    mine, its = ours.default_collate(items), theirs.default_collate(items)
    if not isinstance(mine, tuple):
        assert isinstance(mine, Tensor) and isinstance(its, torch.Tensor)
        mine, its = [mine], [its]
    for field, other in zip(mine, its, strict=True):
        assert field.shape == tuple(other.shape)
        np.testing.assert_allclose(field.data, other.numpy())


@pytest.mark.parametrize(
    "lengths",
    [[0.5, 0.5], [0.7, 0.2, 0.1], [1 / 3] * 3, [0.1] * 10, [0.29, 0.71], [0.999, 0.001], [1.0]],
)
@pytest.mark.parametrize("n", [1, 7, 10, 11, 100, 101])
@pytest.mark.filterwarnings("ignore:Length of split")
def test_random_split_remainder_rule_agrees(n, lengths):
    mine = [len(part) for part in ours.random_split(range(n), lengths)]
    assert mine == [len(part) for part in theirs.random_split(range(n), lengths)]


@pytest.mark.parametrize(("n", "lengths"), [(10, [6, 5]), (10, [4, 5]), (10, [0.5, 0.6])])
def test_random_split_refuses_what_torch_refuses(n, lengths):
    for split in (ours.random_split, theirs.random_split):
        with pytest.raises(ValueError):
            split(range(n), lengths)


def test_subset_agrees():
    x, y = arrays(9)
    mine = ours.Subset(ours.TensorDataset(x, y), [7, 0, 3])
    its = theirs.Subset(theirs.TensorDataset(torch.tensor(x), torch.tensor(y)), [7, 0, 3])
    assert len(mine) == len(its)
    for i in range(3):
        np.testing.assert_allclose(mine[i][0], its[i][0].numpy())
    batches = zip(ours.DataLoader(mine, 2), theirs.DataLoader(its, 2), strict=True)
    for (a, _), (b, _) in batches:
        np.testing.assert_allclose(a.data, b.numpy())
