"""Hidden variants of module 16: other seeds and shapes, plain NumPy and the large network as oracles."""

import json
from copy import deepcopy

import numpy as np
import pytest
import safetensors.numpy

from tinytorch.core.activations import ReLU
from tinytorch.core.autograd import check_grads
from tinytorch.core.layers import Dropout, Flatten, Linear, Module, Parameter, Sequential
from tinytorch.core.losses import CrossEntropyLoss
from tinytorch.core.optimizers import SGD, Adam, AdamW
from tinytorch.core.tensor import Tensor, manual_seed
from tinytorch.core.training import Trainer
from tinytorch.nn.conv import AvgPool2d, BatchNorm2d, Conv2d, GlobalAvgPool2d, MaxPool2d
from tinytorch.optim.compression import (
    DistillationLoss,
    GradualPruning,
    Pruning,
    Sparse,
    load_sparse,
    low_rank,
    magnitude_mask,
    magnitude_masks,
    prune,
    prune_channels,
    rank_for,
    save_sparse,
    soften,
    sparsity_schedule,
    strongest_channels,
    to_int8,
    to_sparse,
)


def random(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def net(seed=0, *widths):
    manual_seed(seed)
    a, b, c = widths or (6, 10, 4)
    return Sequential(Linear(a, b), ReLU(), Linear(b, c))


# masks


@pytest.mark.parametrize("shape", [(1,), (7,), (3, 5), (4, 2, 3, 3)])
@pytest.mark.parametrize("sparsity", [0.0, 0.1, 0.33, 0.5, 0.9, 1.0])
def test_magnitude_mask_keeps_the_largest(shape, sparsity):
    weights = random(*shape, seed=len(shape))
    mask = magnitude_mask(weights, sparsity)
    assert mask.dtype == bool and mask.shape == shape
    assert (~mask).sum() == round(sparsity * weights.size)
    if mask.any() and not mask.all():
        assert np.abs(weights[mask]).min() >= np.abs(weights[~mask]).max()


def test_magnitude_mask_of_equals_and_of_transposed():
    assert magnitude_mask(np.ones(9), 2 / 3).tolist() == [False] * 6 + [True] * 3
    weights = random(5, 4)
    np.testing.assert_array_equal(
        magnitude_mask(weights.T, 0.4), magnitude_mask(np.ascontiguousarray(weights.T), 0.4)
    )


@pytest.mark.parametrize("sparsity", [-0.1, 1.5, 90])
def test_magnitude_mask_refuses_what_is_no_share(sparsity):
    with pytest.raises(ValueError, match="sparsity"):
        magnitude_mask(np.ones(3), sparsity)


def test_global_masks_rank_all_together():
    arrays = {
        "b": random(4, 5, seed=1),
        "a": 3 * random(7, seed=2),
        "c": 0.1 * random(2, 3, seed=3),
    }
    masks = magnitude_masks(arrays, 0.6)
    line = np.concatenate([a.ravel() for a in arrays.values()])
    limit = np.sort(np.abs(line))[round(0.6 * line.size)]
    for name, mask in masks.items():
        np.testing.assert_array_equal(mask, np.abs(arrays[name]) >= limit)
    for name, mask in magnitude_masks(arrays, 0.6, "layer").items():
        assert (~mask).sum() == round(0.6 * arrays[name].size)


def test_prune_leaves_biases_norms_and_what_is_skipped():
    manual_seed(0)
    model = Sequential(
        Conv2d(1, 4, 3), BatchNorm2d(4), ReLU(), Flatten(), Linear(16, 8), Linear(8, 3)
    )
    before = model.state_dict()
    pruning = prune(model, 0.75, skip=["5", "0.weight"])
    assert list(pruning.masks) == ["4.weight"] and pruning.sparsity == 0.75
    after = model.state_dict()
    assert [n for n in before if not np.array_equal(before[n], after[n])] == ["4.weight"]
    assert (after["4.weight"] == 0).sum() == 96
    with pytest.raises(ValueError, match="'9'"):
        prune(model, 0.5, skip=["9"])
    with pytest.raises(ValueError, match="no weight"):
        prune(Sequential(BatchNorm2d(3)), 0.5)


@pytest.mark.parametrize(
    "optimizer",
    [lambda p: SGD(p, 0.1, momentum=0.9), lambda p: Adam(p, 0.01), lambda p: AdamW(p, 0.01)],
)
@pytest.mark.parametrize("scope", ["global", "layer"])
def test_zeros_outlive_the_optimizer(optimizer, scope):
    model, x = net(1), Tensor(random(32, 6))
    opt, classes = optimizer(model.parameters()), np.arange(32) % 4
    pruning = None
    for step in range(30):
        if step == 15:
            pruning = prune(model, 0.8, scope)
        opt.zero_grad()
        CrossEntropyLoss()(model(x), classes).backward()
        opt.step()
        if pruning is not None:
            pruning.apply()
            for name, mask in pruning.masks.items():
                assert (pruning.weights[name].data[~mask] == 0).all()
    assert sum(int((w.data == 0).sum()) for w in pruning.weights.values()) == 80
    assert all(np.abs(w.data[pruning.masks[n]]).min() > 0 for n, w in pruning.weights.items())


def test_apply_reaches_tied_weights_once():
    class Tied(Module):
        def __init__(self):
            self.table = Parameter(random(5, 3))
            self.head = Linear(3, 5)
            self.head.weight = self.table

    model = Tied()
    pruning = prune(model, 0.4)
    assert list(pruning.masks) == ["table"]
    assert (model.head.weight.data == 0).sum() == 6


def test_sparsity_schedule_rises_and_slows_down():
    curve = np.array([sparsity_schedule(s, 7, 57, 0.9) for s in range(80)])
    assert (curve[:8] == 0).all() and np.allclose(curve[57:], 0.9)
    rises = np.diff(curve[7:58])
    assert (rises > 0).all() and (np.diff(rises) < 0).all()
    np.testing.assert_allclose(curve[32], 0.9 * 7 / 8)
    with pytest.raises(ValueError, match="start"):
        sparsity_schedule(0, 5, 5, 0.5)


def test_gradual_pruning_in_a_trainer_reaches_its_target_and_only_grows():
    model, x, seen = net(2, 8, 30, 3), random(64, 8), []
    pruning = Pruning(model)
    schedule = GradualPruning(pruning, 4, 31, 0.85, every=5)
    trainer = Trainer(
        model, CrossEntropyLoss(), Adam(model.parameters(), 0.01), batch_size=8, scheduler=schedule
    )
    for _ in range(6):
        masks = dict(pruning.masks)
        trainer.fit((x, np.arange(64) % 3), 1)
        seen.append(pruning.sparsity)
        assert not any((pruning.masks[n] & ~masks[n]).any() for n in masks)
    assert seen == sorted(seen) and abs(seen[-1] - 0.85) < 1 / 330
    assert schedule.steps == 48


def test_gradual_pruning_resumes_exactly(tmp_path):
    def run():
        model = net(3, 8, 20, 3)
        schedule = GradualPruning(Pruning(model), 2, 30, 0.8, every=3)
        return Trainer(
            model,
            CrossEntropyLoss(),
            Adam(model.parameters(), 0.01),
            batch_size=8,
            scheduler=schedule,
        )

    data = random(40, 8), np.arange(40) % 3
    whole, half, resumed = run(), run(), run()
    whole.fit(data, 8)
    half.fit(data, 3)
    half.save(tmp_path / "half.ckpt")
    resumed.load(tmp_path / "half.ckpt")
    resumed.fit(data, 5)
    for a, b in zip(whole.model.parameters(), resumed.model.parameters()):
        np.testing.assert_array_equal(a.data, b.data)


# channels


@pytest.mark.parametrize("shape", [(6, 3), (5, 2, 3, 3), (8, 1, 1, 1)])
@pytest.mark.parametrize("keep", [0.01, 0.3, 0.5, 1.0])
def test_strongest_channels(shape, keep):
    weight = random(*shape, seed=4)
    kept = strongest_channels(weight, keep)
    strength = [np.abs(w).sum() for w in weight]
    count = max(1, round(keep * shape[0]))
    assert kept.tolist() == sorted(sorted(range(shape[0]), key=lambda i: -strength[i])[:count])


def chains():
    """Networks of the course's kinds, the shape of their input, and names of layers to cut."""
    yield (
        Sequential(
            Conv2d(2, 6, 3, padding=1),
            BatchNorm2d(6),
            ReLU(),
            MaxPool2d(2),
            Flatten(),
            Linear(96, 5),
        ),
        (2, 8, 8),
    )
    yield (
        Sequential(
            Conv2d(1, 5, 3),
            MaxPool2d(2),
            ReLU(),
            Conv2d(5, 7, 2, bias=False),
            BatchNorm2d(7),
            ReLU(),
            Flatten(),
            Dropout(0.3),
            Linear(7 * 4, 9),
            ReLU(),
            Linear(9, 4),
        ),
        (1, 8, 8),
    )
    yield (
        Sequential(
            Sequential(Conv2d(3, 8, 3), BatchNorm2d(8), ReLU()),
            Sequential(AvgPool2d(2), Conv2d(8, 4, 1), ReLU()),
            GlobalAvgPool2d(),
            Linear(4, 3),
        ),
        (3, 6, 6),
    )
    yield (
        Sequential(
            Flatten(), Linear(12, 20), ReLU(), Linear(20, 11, bias=False), ReLU(), Linear(11, 2)
        ),
        (3, 2, 2),
    )
    yield Sequential(Conv2d(1, 3, 2, stride=2), ReLU(), Flatten(), Linear(3 * 2 * 3, 4)), (1, 4, 6)


@pytest.mark.parametrize("which", range(5))
@pytest.mark.parametrize("keep", [0.25, 0.5, 0.8, 1.0])
def test_prune_channels_equals_the_silenced_network(which, keep):
    manual_seed(which)
    model, shape = list(chains())[which]
    for i, (name, t) in enumerate(model.named_tensors()):
        t.data[...] = (
            np.abs(random(*t.shape, seed=i)) + 0.1 if "var" in name else random(*t.shape, seed=i)
        )
    model.eval()
    before = model.state_dict()
    small = prune_channels(model, keep)
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])
    big = deepcopy(model)
    layers = [m for m in big.modules() if isinstance(m, (Conv2d, Linear, BatchNorm2d))]
    weighted = [m for m in layers if not isinstance(m, BatchNorm2d)]
    gone, columns = None, None
    for layer in layers:
        if isinstance(layer, BatchNorm2d):
            layer.weight.data[gone], layer.bias.data[gone] = 0, 0
            continue
        if gone is not None:
            width = layer.weight.shape[1] // columns
            silent = [c * width + i for c in gone for i in range(width)]
            layer.weight.data[:, silent] = 0
        columns = len(layer.weight)
        if layer is weighted[-1]:
            break
        kept = strongest_channels(layer.weight.data, keep)
        gone = np.setdiff1d(np.arange(columns), kept)
        layer.weight.data[gone] = 0
        if layer.bias is not None:
            layer.bias.data[gone] = 0
    x = Tensor(random(4, *shape, seed=9))
    np.testing.assert_allclose(small(x).data, big(x).data, rtol=1e-3, atol=1e-4)
    for mine, theirs in zip(small.modules(), model.modules()):
        assert type(mine) is type(theirs)
        if isinstance(mine, Linear):
            assert mine.weight.shape == (mine.out_features, mine.in_features)
        if isinstance(mine, Conv2d):
            assert mine.weight.shape[:2] == (mine.out_channels, mine.in_channels)


def test_small_copy_trains_and_shares_nothing():
    manual_seed(0)
    model, shape = next(chains())
    small, before = prune_channels(model, {"0": 0.5}), model.state_dict()
    assert len(small[0].weight) == 3 and small[5].weight.shape == (5, 48)
    x, optimizer = Tensor(random(16, *shape)), Adam(small.parameters(), 0.01)
    losses = []
    for _ in range(12):
        optimizer.zero_grad()
        loss = CrossEntropyLoss()(small(x), np.arange(16) % 5)
        loss.backward()
        assert all(p.grad is not None and p.grad.shape == p.shape for p in small.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


def test_prune_channels_walks_a_chain_of_ones_own():
    class Unit(Module):
        chain = ("conv", "pool", "norm", "act")

        def __init__(self, inputs, outputs, pool=None):
            self.conv, self.norm = Conv2d(inputs, outputs, 3, padding=1), BatchNorm2d(outputs)
            self.pool, self.act = pool, ReLU()

        def forward(self, x):
            x = self.conv(x)
            return self.act(self.norm(x if self.pool is None else self.pool(x)))

    manual_seed(5)
    units = Sequential(Unit(1, 6), Unit(6, 4, MaxPool2d(2)), Flatten(), Linear(16, 3)).eval()
    plain = Sequential(
        units[0].conv,
        units[0].norm,
        ReLU(),
        units[1].conv,
        MaxPool2d(2),
        units[1].norm,
        ReLU(),
        Flatten(),
        units[3],
    )
    x = Tensor(random(3, 1, 4, 4))
    small = prune_channels(units, 0.5)
    np.testing.assert_allclose(small(x).data, prune_channels(plain, 0.5)(x).data, rtol=1e-5)
    assert prune_channels(units, {"1.conv": 0.25})[3].weight.shape == (3, 4)


def test_prune_channels_refuses_what_it_does_not_know():
    class Shortcut(Module):
        def __init__(self):
            self.inner = Linear(4, 4)

        def forward(self, x):
            return x + self.inner(x)

    with pytest.raises(TypeError, match="'1' is a Shortcut"):
        prune_channels(Sequential(Linear(4, 4), Shortcut(), Linear(4, 2)), 0.5)
    with pytest.raises(TypeError, match="Shortcut"):
        prune_channels(Shortcut(), 0.5)
    for keep in ({"2": 0.5}, {"7": 0.5}, {"0.weight": 0.5}):
        with pytest.raises(ValueError, match="cannot cut"):
            prune_channels(net(), keep)
    for share in (0.0, 1.2, -1.0):
        with pytest.raises(ValueError, match="keep"):
            prune_channels(net(), share)
    with pytest.raises(ValueError, match="cannot come from"):
        prune_channels(Sequential(Conv2d(1, 4, 3), Flatten(), Linear(30, 2)), 0.5)


# files


@pytest.mark.parametrize("density", [0.0, 0.001, 0.01, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("shape", [(0,), (1,), (513,), (40, 70), (3, 4, 5, 6)])
@pytest.mark.parametrize("largest", [1, 3, 255, 65535])
def test_sparse_round_trip_is_exact(density, shape, largest):
    rng = np.random.default_rng(int(1000 * density))
    array = (rng.standard_normal(shape) * (rng.random(shape) < density)).astype(np.float32)
    sparse = to_sparse(array, largest)
    assert sparse.gaps.dtype == (np.uint8 if largest <= 255 else np.uint16)
    assert sparse.nbytes == sparse.gaps.nbytes + sparse.values.nbytes
    back = sparse.dense()
    assert back.dtype == np.float32 and back.shape == shape
    np.testing.assert_array_equal(back, array)
    if largest > 1:
        assert len(sparse.values) <= np.count_nonzero(array) + array.size / (largest + 1)


def test_sparse_keeps_infinite_and_nan():
    array = np.array([0, np.inf, 0, -np.inf, np.nan, 1e-45, 0], np.float32)
    np.testing.assert_array_equal(to_sparse(array).dense(), array)


def test_sparse_of_a_transposed_array_and_of_int8():
    array = np.asfortranarray(random(5, 7) * (random(5, 7, seed=1) > 0.5))
    np.testing.assert_array_equal(to_sparse(array).dense(), array)
    rounded = to_int8(to_sparse(array))
    assert rounded.values.dtype == np.int8 and np.abs(rounded.values).max() == 127
    assert np.abs(rounded.dense() - array).max() <= np.abs(array).max() / 254 * 1.001
    assert to_int8(to_sparse(np.zeros(4))).dense().tolist() == [0.0] * 4
    assert Sparse((2, 2), None, np.arange(4, dtype=np.int8), 0.5).dense().tolist() == [
        [0, 0.5],
        [1, 1.5],
    ]


@pytest.mark.parametrize("bits", [32, 8])
@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.95])
def test_file_round_trip(tmp_path, bits, sparsity):
    manual_seed(1)
    model, shape = list(chains())[1]
    model(Tensor(random(4, *shape)))
    prune(model, sparsity)
    path = tmp_path / "model.pt"
    size = save_sparse(model, path, bits)
    assert size == path.stat().st_size and list(tmp_path.iterdir()) == [path]
    manual_seed(2)
    fresh = list(chains())[1][0]
    load_sparse(fresh, path)
    for name, array in model.state_dict().items():
        got = fresh.state_dict()[name]
        if bits == 32 or array.ndim < 2:
            np.testing.assert_array_equal(got, array)
        else:
            assert np.abs(got - array).max() <= np.abs(array).max() / 254 * 1.001
    again = tmp_path / "again.pt"
    save_sparse(model, again, bits)
    assert again.read_bytes() == path.read_bytes()


def test_sizes_on_disk():
    import tempfile
    from pathlib import Path

    model = net(0, 64, 400, 10)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m"
        dense = len(safetensors.numpy.save(model.state_dict()))
        assert save_sparse(model, path) <= dense + 700
        prune(model, 0.93)
        assert save_sparse(model, path) < dense / 9
        assert save_sparse(model, path, bits=8) < dense / 16


def test_tied_weights_are_stored_once(tmp_path):
    class Tied(Module):
        def __init__(self):
            self.table, self.head = Parameter(random(50, 30)), Linear(30, 50, bias=False)
            self.head.weight = self.table

    model, fresh = Tied(), Tied()
    assert save_sparse(model, tmp_path / "tied") < 1.2 * 50 * 30 * 4
    fresh.table.data[...] = 0
    load_sparse(fresh, tmp_path / "tied")
    np.testing.assert_array_equal(fresh.head.weight.data, model.table.data)
    assert fresh.head.weight is fresh.table


def test_damaged_and_foreign_files_are_refused(tmp_path):
    model = net()
    prune(model, 0.6)
    path = tmp_path / "model.bin"
    save_sparse(model, path)
    whole, before = path.read_bytes(), model.state_dict()
    foreign = [
        b"",
        b"\0" * 100,
        whole[:50],
        whole[:-1],
        whole + b"x",
        safetensors.numpy.save(before),
        safetensors.numpy.save(before, {"sparse": "[]"}),
        safetensors.numpy.save(before, {"sparse": "{"}),
        safetensors.numpy.save(before, {"sparse": json.dumps({"version": 1, "tensors": {}})}),
    ]
    for position in range(10, len(whole), 53):
        foreign.append(whole[:position] + bytes([whole[position] ^ 16]) + whole[position + 1 :])
    for content in foreign:
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"model\.bin"):
            load_sparse(model, path)
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])
    with pytest.raises(FileNotFoundError):
        load_sparse(model, tmp_path / "missing")
    with pytest.raises(ValueError, match="bits"):
        save_sparse(model, path, bits=4)


def test_file_of_another_model_names_what_differs(tmp_path):
    path = tmp_path / "m"
    save_sparse(net(), path)
    for other in (
        net(0, 6, 9, 4),
        Sequential(Linear(6, 10)),
        Sequential(*net(), ReLU(), Linear(4, 4)),
    ):
        before = other.state_dict()
        with pytest.raises(ValueError, match="do not fit"):
            load_sparse(other, path)
        assert all(
            np.array_equal(a, b) for a, b in zip(before.values(), other.state_dict().values())
        )


# low rank


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (5, 5), (1, 7)])
@pytest.mark.parametrize("bias", [True, False])
def test_low_rank_is_the_nearest(shape, bias):
    layer = Linear(shape[1], shape[0], bias=bias)
    layer.weight.data[...] = random(*shape, seed=3)
    values = np.linalg.svd(layer.weight.data.astype(np.float64), compute_uv=False)
    x = Tensor(random(9, shape[1], seed=4))
    for rank in range(1, min(shape) + 1):
        pair = low_rank(layer, rank)
        assert (pair[0].bias is None, pair[1].bias is None) == (True, not bias)
        near = pair[1].weight.data @ pair[0].weight.data
        np.testing.assert_allclose(
            ((near - layer.weight.data) ** 2).sum(),
            (values[rank:] ** 2).sum(),
            rtol=1e-3,
            atol=1e-8,
        )
        assert np.linalg.matrix_rank(near, tol=1e-4) == rank
    np.testing.assert_allclose(pair(x).data, layer(x).data, rtol=1e-3, atol=1e-4)


def test_low_rank_refuses_and_trains():
    for layer, rank, error in [
        (Linear(4, 3), 0, ValueError),
        (Linear(4, 3), 4, ValueError),
        (Conv2d(1, 2, 3), 1, TypeError),
    ]:
        with pytest.raises(error, match="low_rank"):
            low_rank(layer, rank)
    pair = low_rank(Linear(4, 3), 2)
    check_grads(lambda x: pair(x), Tensor(random(3, 4)))
    pair(Tensor(random(3, 4))).sum().backward()
    assert all(p.grad is not None for p in pair.parameters())


@pytest.mark.parametrize("energy", [0.05, 0.5, 0.9, 0.999])
def test_rank_for_is_the_first_that_reaches(energy):
    weight = random(9, 7, seed=6)
    squares = np.linalg.svd(weight, compute_uv=False) ** 2
    rank = rank_for(weight, energy)
    assert (
        squares[:rank].sum() / squares.sum() >= energy > squares[: rank - 1].sum() / squares.sum()
    )
    for wrong in (0, 1, 1.1):
        with pytest.raises(ValueError, match="energy"):
            rank_for(weight, wrong)


# distillation


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0, 20.0])
@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_distillation_loss_by_its_definition(temperature, alpha):
    student, teacher = 3 * random(6, 5, seed=7), 3 * random(6, 5, seed=8)
    classes = np.arange(6) % 5

    def probabilities(z):
        e = np.exp(np.float64(z))
        return e / e.sum(axis=1, keepdims=True)

    p, q = probabilities(teacher / temperature), probabilities(student / temperature)
    soft = (p * np.log(p / q)).sum(axis=1).mean() * temperature**2
    hard = -np.log(probabilities(student)[np.arange(6), classes]).mean()
    for given in (teacher, Tensor(teacher)):
        loss = DistillationLoss(temperature, alpha)(Tensor(student), given, classes)
        np.testing.assert_allclose(loss.item(), alpha * soft + (1 - alpha) * hard, rtol=1e-4)
    np.testing.assert_allclose(soften(teacher, temperature), p, rtol=1e-4)
    check_grads(
        lambda z: DistillationLoss(temperature, alpha)(z, teacher, classes), Tensor(student)
    )


def test_distillation_teaches_without_labels_and_leaves_the_teacher():
    manual_seed(0)
    teacher, student = net(5), net(6)
    x = Tensor(random(64, 6))
    said = teacher(x)
    optimizer, loss_fn = Adam(student.parameters(), 0.02), DistillationLoss(2.0, 1.0)
    losses = []
    for _ in range(150):
        optimizer.zero_grad()
        loss = loss_fn(student(x), said)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.05 * losses[0] and min(losses) >= -1e-6
    assert all(p.grad is None for p in teacher.parameters())


def test_distillation_refuses_nonsense():
    for options in ({"temperature": 0.0}, {"temperature": -1.0}, {"alpha": 1.5}, {"alpha": -0.1}):
        with pytest.raises(ValueError, match="DistillationLoss"):
            DistillationLoss(**options)
    with pytest.raises(ValueError, match="no match"):
        DistillationLoss()(Tensor(random(2, 3)), random(3, 3), [0, 1])
    with pytest.raises(ValueError, match="classes"):
        DistillationLoss()(Tensor(random(2, 3)), random(2, 3))
    with pytest.raises(ValueError, match="temperature"):
        soften(random(2, 3), 0.0)
