"""Hidden variants of module 08: other seeds and shapes, threads that must end, files that lie."""

import gc
import gzip
import json
import threading
import time
import traceback
from collections import Counter

import numpy as np
import pytest

from tinytorch.core.activations import ReLU
from tinytorch.core.layers import Flatten, Linear, Sequential
from tinytorch.core.losses import CrossEntropyLoss
from tinytorch.core.optimizers import SGD
from tinytorch.core.tensor import Tensor, manual_seed
from tinytorch.core.training import Trainer
from tinytorch.data.loader import (
    Compose,
    Cutout,
    DataError,
    DataLoader,
    Dataset,
    Normalize,
    RandomCrop,
    RandomHorizontalFlip,
    Subset,
    TensorDataset,
    batch_plan,
    default_collate,
    epoch_order,
    load_cifar10,
    load_mnist,
    load_shakespeare,
    load_tinydigits,
    load_tinytalks,
    prefetched,
    random_split,
    read_cifar10_batch,
    read_idx,
)


def numbers(n=23, channels=1, side=1):
    """A dataset whose image i is full of i, with label 10 * i."""
    images = np.broadcast_to(
        np.arange(n, dtype=np.float32)[:, None, None, None], (n, channels, side, side)
    )
    return TensorDataset(images.copy(), np.arange(n) * 10)


def rows_of(loader):
    """The rows of each batch of a pass, from the labels; checks that x belongs to y."""
    rows = []
    for x, y in loader:
        assert isinstance(x, Tensor) and isinstance(y, Tensor)
        rows.append((y.data / 10).astype(int).tolist())
        assert x.data[:, 0, 0, 0].astype(int).tolist() == rows[-1]
    return rows


class Plain:
    """A dataset of single items only, without a base class."""

    def __init__(self, n):
        self.n = n

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        if not 0 <= i < self.n:
            raise IndexError(i)
        return np.full((2,), i, dtype=np.float32), 10 * i


def gone(before, seconds=2.0):
    """Whether no thread is left that was not there before."""
    end = time.monotonic() + seconds
    while set(threading.enumerate()) - before and time.monotonic() < end:
        time.sleep(0.005)
    return not set(threading.enumerate()) - before


# datasets and splits


def test_dataset_is_a_protocol():
    assert isinstance([1, 2], Dataset) and isinstance(Plain(3), Dataset)
    assert not isinstance(3, Dataset)


def test_tensor_dataset_keeps_types_and_shares_memory():
    x = np.arange(12, dtype=np.uint8).reshape(4, 3)
    data = TensorDataset(x, Tensor([1.0, 2.0, 3.0, 4.0]), np.array([True, False, True, False]))
    assert len(data) == 4
    a, b, c = data[2]
    assert a.tolist() == [6, 7, 8] and a.dtype == np.uint8 and np.shares_memory(a, x)
    assert float(b) == 3.0 and bool(c) is True


def test_tensor_dataset_refuses_other_lengths():
    with pytest.raises(ValueError, match="4.*5"):
        TensorDataset(np.zeros(4), np.zeros(5))


@pytest.mark.parametrize(
    ("n", "lengths", "sizes"),
    [
        (100, [0.7, 0.2, 0.1], [70, 20, 10]),
        (101, [0.7, 0.2, 0.1], [71, 20, 10]),
        (7, [1 / 3, 1 / 3, 1 / 3], [3, 2, 2]),
        (23, [0.25] * 4, [6, 6, 6, 5]),
        (12, [5, 4, 3], [5, 4, 3]),
        (5, [5, 0], [5, 0]),
        (3, [0.5, 0.5], [2, 1]),
    ],
)
def test_random_split_sizes(n, lengths, sizes):
    parts = random_split(range(n), lengths, seed=4)
    assert [len(part) for part in parts] == sizes
    assert sorted(int(part[i]) for part in parts for i in range(len(part))) == list(range(n))


def test_random_split_is_random_and_repeatable():
    orders = [random_split(range(50), [25, 25], seed=s)[0].indices.tolist() for s in (1, 1, 2)]
    assert orders[0] == orders[1] != orders[2]
    assert orders[0] != sorted(orders[0])


def test_random_split_refuses_other_sums():
    with pytest.raises(ValueError, match=r"11\D.*12|12\D.*11"):
        random_split(range(12), [6, 5])
    with pytest.raises(ValueError):
        random_split(range(12), [0.5, 0.4])


def test_subset_of_subset_and_whole_batches():
    data = numbers(30)
    inner = Subset(Subset(data, [5, 10, 15, 20, 25]), [4, 0, 2])
    assert [int(inner[i][1]) // 10 for i in range(3)] == [25, 5, 15]
    assert rows_of(DataLoader(inner, 2)) == [[25, 5], [15]]
    plain = Subset(Plain(10), [7, 3])
    ((x, y),) = DataLoader(plain, 5)
    assert x.tolist() == [[7, 7], [3, 3]] and y.tolist() == [70, 30]


# order and plan


def test_epoch_order_depends_on_the_whole_key():
    keys = [(s, e) for s in range(5) for e in range(5)]
    orders = {tuple(int(i) for i in epoch_order(40, key)) for key in keys}
    assert len(orders) == 25
    assert all(sorted(order) == list(range(40)) for order in orders)
    assert epoch_order(40, (3, 4)).tolist() == epoch_order(40, (3, 4)).tolist()
    assert len(epoch_order(0, (1, 1))) == 0


@pytest.mark.parametrize("n", [0, 1, 4, 5, 8, 9, 30])
@pytest.mark.parametrize("size", [1, 4, 9])
@pytest.mark.parametrize("drop_last", [False, True])
def test_batch_plan_and_len(n, size, drop_last):
    order = np.random.default_rng(n).permutation(n)
    plan = batch_plan(order, size, drop_last)
    kept = n - n % size if drop_last else n
    joined = np.concatenate(plan).astype(int).tolist() if plan else []
    assert joined == order[:kept].tolist()
    assert all(len(rows) == size for rows in plan[:-1])
    loader = DataLoader(Plain(n), size, drop_last=drop_last)
    assert len(loader) == len(plan) == len(list(loader))


# collate


def test_default_collate_fields():
    items = [(np.full((2, 3), i), i, np.float32(i) / 2) for i in range(4)]
    x, y, z = default_collate(items)
    assert (x.shape, y.shape, z.shape) == ((4, 2, 3), (4,), (4,))
    np.testing.assert_array_equal(x.data[:, 1, 2], [0, 1, 2, 3])
    np.testing.assert_array_equal(z.data, [0, 0.5, 1, 1.5])
    assert x.data.dtype == np.float32


def test_default_collate_of_tensors_and_single_items():
    assert default_collate([Tensor([1.0, 2.0]), Tensor([3.0, 4.0])]).tolist() == [[1, 2], [3, 4]]
    (only,) = default_collate([(1,), (2,)])
    assert only.tolist() == [1, 2]


def test_default_collate_names_shapes():
    with pytest.raises(ValueError, match=r"\(2, 2\).*\(3, 2\).*collate_fn"):
        default_collate([(np.zeros((2, 2)), 0), (np.zeros((3, 2)), 0)])


def test_collate_fn_gets_items_and_its_result_comes_through():
    seen = []

    def collate(items):
        seen.append(items)
        return "a batch", [len(items)]

    assert list(DataLoader(numbers(5), 2, collate_fn=collate)) == [("a batch", [2])] * 2 + [
        ("a batch", [1])
    ]
    assert [len(items) for items in seen] == [2, 2, 1]
    assert all(isinstance(item, tuple) for items in seen for item in items)


# transforms


def images(n=200, channels=3, height=6, width=7, dtype=np.uint8, seed=0):
    return np.random.default_rng(seed).integers(1, 250, (n, channels, height, width)).astype(dtype)


TRANSFORMS = [
    RandomHorizontalFlip(),
    RandomCrop(2),
    RandomCrop(3, mode="reflect"),
    Cutout(3),
    Normalize([100, 110, 120], [50, 60, 70]),
    Compose(RandomHorizontalFlip(), RandomCrop(1), Cutout(2), Normalize(120, 60)),
]


@pytest.mark.parametrize("transform", TRANSFORMS, ids=lambda t: type(t).__name__)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_transforms_are_pure_and_repeatable(transform, dtype):
    x = images(dtype=dtype)
    kept = x.copy()
    x.flags.writeable = False
    one, two = (transform(x, np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(x, kept)
    assert one.shape == x.shape
    floats = isinstance(transform, (Normalize, Compose))
    assert one.dtype == (np.float32 if floats else dtype)


def test_transforms_take_empty_and_single_batches():
    for transform in TRANSFORMS:
        for n in (0, 1):
            assert transform(images(n), np.random.default_rng(0)).shape == (n, 3, 6, 7)


def test_flip_share_and_values():
    x = images(3000, 1, 1, 3, np.float32)
    flipped = RandomHorizontalFlip(0.7)(x, np.random.default_rng(1))
    changed = (flipped == x[..., ::-1]).all(axis=(1, 2, 3))
    assert ((flipped == x).all(axis=(1, 2, 3)) | changed).all()
    assert 0.66 < changed.mean() < 0.75


@pytest.mark.parametrize("mode", ["constant", "reflect"])
@pytest.mark.parametrize("padding", [0, 1, 3])
def test_crop_is_a_window_and_reaches_all_places(mode, padding):
    x = images(1500, 2, 5, 6, seed=2)
    cropped = RandomCrop(padding, mode)(x, np.random.default_rng(3))
    padded = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)), mode=mode)
    places = Counter()
    for image, border in zip(cropped, padded):
        found = [
            (top, left)
            for top, left in np.ndindex(2 * padding + 1, 2 * padding + 1)
            if np.array_equal(border[:, top : top + 5, left : left + 6], image)
        ]
        assert found
        places[found[0]] += 1
    assert len(places) == (2 * padding + 1) ** 2


def test_normalize_channels_and_numbers():
    x = images(4, 3, 5, 3, np.float32)
    mean, std = np.array([10.0, 20.0, 30.0]), np.array([2.0, 4.0, 8.0])
    result = Normalize(mean, std)(x)
    for c in range(3):
        np.testing.assert_allclose(result[:, c], (x[:, c] - mean[c]) / std[c], rtol=1e-5)
    np.testing.assert_allclose(Normalize(7, 2)(x), (x - 7) / 2, rtol=1e-5)
    byte = np.zeros((1, 1, 1, 1), dtype=np.uint8)
    assert Normalize(255.0, 1.0)(byte).item() == -255


@pytest.mark.parametrize("size", [1, 2, 5, 40])
def test_cutout_blanks_one_rectangle(size):
    x = images(400, 2, 9, 7)
    blank = Cutout(size)(x, np.random.default_rng(8)) == 0
    assert (blank[:, 0] == blank[:, 1]).all()
    centres = set()
    for mask in blank[:, 0]:
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        assert mask.sum() == len(rows) * len(columns) > 0
        assert len(rows) == rows[-1] - rows[0] + 1 <= size
        assert len(columns) == columns[-1] - columns[0] + 1 <= size
        centres.add((rows[0], columns[0], rows[-1], columns[-1]))
    if size < 7:
        assert len(centres) == 63
    assert (Cutout(size)(x, np.random.default_rng(8))[~blank] == x[~blank]).all()


# the loader


def test_loader_order_depends_on_seed_and_epoch_only():
    loader = DataLoader(numbers(), 4, shuffle=True, seed=11)
    passes = [rows_of(loader) for _ in range(3)]
    assert loader.epoch == 3
    assert len({str(rows) for rows in passes}) == 3
    assert all(sorted(sum(rows, [])) == list(range(23)) for rows in passes)
    for epoch in (2, 0, 1):
        again = DataLoader(numbers(), 4, shuffle=True, seed=11)
        again.epoch = epoch
        assert rows_of(again) == passes[epoch]
    assert sum(passes[0], []) == epoch_order(23, (11, 0)).tolist()


def test_loader_without_shuffle():
    loader = DataLoader(numbers(7), 3)
    assert rows_of(loader) == rows_of(loader) == [[0, 1, 2], [3, 4, 5], [6]]
    assert rows_of(DataLoader(numbers(7), 3, drop_last=True)) == [[0, 1, 2], [3, 4, 5]]


def test_loader_of_bytes_gives_float_tensors():
    ((x, y),) = DataLoader(TensorDataset(images(4), np.arange(4)), 8)
    assert x.data.dtype == y.data.dtype == np.float32
    assert x.shape == (4, 3, 6, 7)


def test_loader_of_bare_items_gives_one_field():
    parts = list(DataLoader([1.0, 2.0, 3.0], 2))
    assert [type(part) for part in parts] == [tuple, tuple]
    assert [part[0].tolist() for part in parts] == [[1, 2], [3]]


def test_loader_refuses_nonsense():
    with pytest.raises(ValueError, match="batch_size"):
        DataLoader(numbers(), 0)
    with pytest.raises(ValueError, match="prefetch"):
        DataLoader(numbers(), 4, prefetch=-1)


@pytest.mark.parametrize("prefetch", [1, 2, 7])
def test_prefetch_changes_nothing_but_time(prefetch):
    data = TensorDataset(images(50, dtype=np.float32), np.arange(50))
    options = {"shuffle": True, "seed": 3, "transform": TRANSFORMS[-1]}
    plain, ahead = DataLoader(data, 8, **options), DataLoader(data, 8, prefetch=prefetch, **options)
    for _ in range(2):
        for (a, b), (c, d) in zip(plain, ahead, strict=True):
            np.testing.assert_array_equal(a.data, c.data)
            np.testing.assert_array_equal(b.data, d.data)


def test_transform_varies_by_batch_and_epoch_and_repeats():
    data = TensorDataset(np.zeros((12, 1, 1, 1), np.float32), np.zeros(12))

    def noise(x, generator):
        return x + generator.random(x.shape, dtype=np.float32)

    def draws(seed, epoch):
        loader = DataLoader(data, 4, transform=noise, seed=seed)
        loader.epoch = epoch
        return [tuple(x.data.ravel().tolist()) for x, _ in loader]

    seen = draws(0, 0) + draws(0, 1) + draws(1, 0)
    assert len(set(seen)) == 9
    assert draws(0, 1) == seen[3:6]


def test_transform_may_differ_in_how_much_it_draws():
    data, seen = TensorDataset(np.zeros((4, 1)), np.zeros(4)), []

    def draw(count):
        def transform(x, generator):
            seen.append(generator.random(count)[0])
            return x

        return transform

    for count in (1, 1000):
        list(DataLoader(data, 1, transform=draw(count)))
    assert seen[:4] == seen[4:]


def test_transform_applies_after_collate_fn():
    def collate(items):
        return default_collate(items)[0], "texts"

    loader = DataLoader(numbers(4), 4, collate_fn=collate, transform=Normalize(0, 10))
    ((x, text),) = loader
    assert isinstance(x, Tensor) and text == "texts"
    np.testing.assert_allclose(x.data.ravel(), [0, 0.1, 0.2, 0.3], rtol=1e-6)


def test_generator_decides_and_moves_on():
    one = DataLoader(numbers(), 5, shuffle=True, generator=np.random.default_rng(6), seed=1)
    two = DataLoader(numbers(), 5, shuffle=True, generator=np.random.default_rng(6), seed=2)
    two.epoch = 9
    passes = [rows_of(one) for _ in range(3)]
    assert [rows_of(two) for _ in range(3)] == passes
    assert len({str(rows) for rows in passes}) == 3


def test_abandoned_pass_counts():
    loader, other = (DataLoader(numbers(), 4, shuffle=True) for _ in range(2))
    for _ in loader:
        break
    rows_of(other)
    assert rows_of(loader) == rows_of(other)


# the thread


def test_prefetched_runs_ahead_and_is_bounded():
    made = []

    def source():
        for i in range(50):
            made.append(threading.get_ident())
            yield i

    iterator = prefetched(source(), 4)
    assert next(iterator) == 0
    end = time.monotonic() + 2
    while len(made) < 6 and time.monotonic() < end:
        time.sleep(0.002)
    time.sleep(0.05)
    assert len(made) == 6
    assert threading.get_ident() not in made
    assert list(iterator) == list(range(1, 50))


@pytest.mark.parametrize("how", ["whole", "break", "close", "del", "raise", "never"])
def test_no_thread_is_left(how):
    before = set(threading.enumerate())
    iterator = iter(DataLoader(numbers(400), 2, prefetch=3))
    if how == "whole":
        assert len(list(iterator)) == 200
    elif how == "break":
        for i, _ in enumerate(iterator):
            if i == 5:
                break
    elif how == "close":
        next(iterator)
        iterator.close()
    elif how == "raise":
        with pytest.raises(ZeroDivisionError):
            for _ in iterator:
                1 / 0  # noqa: B018
    elif how == "del":
        next(iterator)
    del iterator
    gc.collect()
    assert gone(before)


def test_many_abandoned_passes_leave_no_thread():
    before = set(threading.enumerate())
    loader = DataLoader(numbers(64), 2, prefetch=2)
    for _ in range(100):
        for _ in loader:
            break
    assert gone(before)


class Faulty(Plain):
    def __init__(self, error, at=7):
        super().__init__(20)
        self.error, self.at = error, at

    def __getitem__(self, i):
        return self.faulty_row(i) if i == self.at else super().__getitem__(i)

    def faulty_row(self, i):
        raise self.error


@pytest.mark.parametrize("error", [KeyError("row 7"), SystemExit(3), OSError("disk")])
@pytest.mark.parametrize("prefetch", [0, 2])
def test_errors_come_through_with_their_traceback(error, prefetch):
    before, seen = set(threading.enumerate()), 0
    with pytest.raises(type(error)) as caught:
        for _ in DataLoader(Faulty(error), 2, prefetch=prefetch):
            seen += 1
    assert caught.value is error and seen == 3
    assert "faulty_row" in [frame.name for frame in traceback.extract_tb(error.__traceback__)]
    assert gone(before)


def test_errors_of_transform_and_collate_come_through():
    def broken(*_):
        raise RuntimeError("broken")

    for options in ({"transform": broken}, {"collate_fn": broken}):
        with pytest.raises(RuntimeError, match="broken"):
            list(DataLoader(numbers(), 4, prefetch=2, **options))


# with the Trainer


def run(seed, prefetch=2):
    manual_seed(seed)
    net = Sequential(Flatten(), Linear(36, 8), ReLU(), Linear(8, 3))
    trainer = Trainer(net, CrossEntropyLoss(), SGD(net.parameters(), lr=0.05), seed=seed)
    x = np.random.default_rng(0).normal(size=(60, 1, 6, 6)).astype(np.float32)
    data = TensorDataset(x, x.mean(axis=(1, 2, 3)).argsort().argsort() // 20)
    loader = DataLoader(
        data,
        16,
        shuffle=True,
        generator=trainer.generator,
        prefetch=prefetch,
        transform=Compose(RandomCrop(1), Cutout(2)),
    )
    return trainer, loader


def test_resume_with_a_loader_is_exact(tmp_path):
    whole, loader = run(1)
    whole.fit(loader, 6)
    half, loader = run(1, prefetch=0)
    half.fit(loader, 2)
    half.save(tmp_path / "run.ckpt")
    resumed, loader = run(9)
    resumed.load(tmp_path / "run.ckpt")
    resumed.fit(loader, 4)
    assert resumed.history == whole.history
    for a, b in zip(resumed.model.parameters(), whole.model.parameters()):
        np.testing.assert_array_equal(a.data, b.data)


# files


def idx(array, kind=8):
    head = bytes([0, 0, kind, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    return head + array.astype(np.uint8).tobytes()


def cifar(n, seed=0, labels=None):
    rng = np.random.default_rng(seed)
    pictures = rng.integers(0, 256, (n, 3, 32, 32), dtype=np.uint8)
    labels = (
        rng.integers(0, 10, n, dtype=np.uint8) if labels is None else np.array(labels, np.uint8)
    )
    return pictures, labels, b"".join(bytes([k]) + p.tobytes() for k, p in zip(labels, pictures))


@pytest.mark.parametrize("shape", [(1,), (700,), (3, 5), (2, 28, 28), (2, 3, 4, 5), (0, 28, 28)])
@pytest.mark.parametrize("zipped", [False, True])
def test_read_idx_shapes(tmp_path, shape, zipped):
    values = np.random.default_rng(1).integers(0, 256, shape).astype(np.uint8)
    path = tmp_path / ("a.idx.gz" if zipped else "a.idx")
    path.write_bytes(gzip.compress(idx(values)) if zipped else idx(values))
    for given in (path, str(path)):
        read = read_idx(given)
        np.testing.assert_array_equal(read, values)
        assert read.dtype == np.uint8 and read.shape == shape and read.flags.writeable


WHOLE = idx(np.arange(60).reshape(3, 4, 5))
DAMAGED = {
    "missing": None,
    "empty": b"",
    "three": WHOLE[:3],
    "header": WHOLE[:13],
    "no_values": WHOLE[:16],
    "one_less": WHOLE[:-1],
    "one_more": WHOLE + b"\0",
    "magic0": b"\1" + WHOLE[1:],
    "magic1": WHOLE[:1] + b"\1" + WHOLE[2:],
    "ints": WHOLE[:2] + b"\x0c" + WHOLE[3:],
    "no_axes": WHOLE[:3] + b"\0" + WHOLE[4:],
    "five_axes": WHOLE[:3] + b"\5" + WHOLE[4:],
    "huge": WHOLE[:4] + b"\xff\xff\xff\xff" + WHOLE[8:],
    "html": b"<html><body>404</body></html>" * 5,
}


@pytest.mark.parametrize("name", DAMAGED)
def test_read_idx_refuses_damage_and_names_the_file(tmp_path, name):
    path = tmp_path / f"{name}.idx"
    if DAMAGED[name] is not None:
        path.write_bytes(DAMAGED[name])
    with pytest.raises(DataError, match=rf"{name}\.idx") as caught:
        read_idx(path)
    assert isinstance(caught.value, ValueError)
    assert "\nNext: tito data" in str(caught.value)


def test_read_idx_refuses_damaged_gzip(tmp_path):
    zipped = gzip.compress(idx(np.random.default_rng(0).integers(0, 256, (50, 9))))
    for position in range(0, len(zipped), 7):
        for content in (
            zipped[:position],
            zipped[:position] + bytes([zipped[position] ^ 1]) + zipped[position + 1 :],
        ):
            path = tmp_path / "a.idx.gz"
            path.write_bytes(content)
            try:
                read = read_idx(path)
            except DataError as error:
                assert "a.idx.gz" in str(error)
            else:  # a flipped bit in the name, time or flags of the gzip header harms no value
                np.testing.assert_array_equal(
                    read, np.random.default_rng(0).integers(0, 256, (50, 9))
                )


def test_read_cifar10_batch(tmp_path):
    pictures, labels, raw = cifar(7, seed=3)
    path = tmp_path / "data.bin"
    path.write_bytes(raw)
    read, kinds = read_cifar10_batch(str(path))
    np.testing.assert_array_equal(read, pictures)
    np.testing.assert_array_equal(kinds, labels)
    assert read.dtype == kinds.dtype == np.uint8


@pytest.mark.parametrize(
    "content",
    [
        b"",
        cifar(3)[2][:-1],
        cifar(3)[2] + b"\0",
        cifar(2, labels=[0, 10])[2],
        b"\xff" * 3073,
        cifar(3)[2][1:] + b"\0",
    ],
)
def test_read_cifar10_batch_refuses_damage(tmp_path, content):
    path = tmp_path / "data_batch_9.bin"
    path.write_bytes(content)
    with pytest.raises(DataError, match="data_batch_9.bin"):
        read_cifar10_batch(path)


# data sets


def test_load_tinydigits_agrees_with_tito():
    from tito import data

    for mine, theirs in zip(load_tinydigits(), data.load_tinydigits(), strict=True):
        np.testing.assert_array_equal(mine, theirs)
        assert mine.dtype == np.uint8


def test_load_tinydigits_refuses_other_bytes(tmp_path):
    from tito import data

    whole = (data.path("tinydigits") / "tinydigits.npz").read_bytes()
    path = tmp_path / "tinydigits.npz"
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    for content, word in [(bytes(flipped), "checksum"), (whole[:-1], "bytes"), (b"PK", "bytes")]:
        path.write_bytes(content)
        with pytest.raises(DataError, match=rf"tinydigits\.npz.*{word}"):
            load_tinydigits(tmp_path)
        with pytest.raises(DataError, match="tinydigits.npz"):
            load_tinydigits(tmp_path, verify=False)


def tiny_mnist(folder):
    arrays = {
        "train-images-idx3": np.arange(5 * 784).reshape(5, 28, 28),
        "train-labels-idx1": np.arange(5),
        "t10k-images-idx3": np.arange(3 * 784).reshape(3, 28, 28) + 1,
        "t10k-labels-idx1": np.arange(3) + 6,
    }
    for name, array in arrays.items():
        (folder / f"{name}-ubyte.gz").write_bytes(gzip.compress(idx(array)))


def test_load_mnist_from_a_folder(tmp_path):
    tiny_mnist(tmp_path)
    splits = load_mnist(tmp_path, verify=False)
    assert [array.shape for array in splits] == [(5, 28, 28), (5,), (3, 28, 28), (3,)]
    assert splits.train_images[1, 0, 0] == 784 % 256 and splits.test_labels.tolist() == [6, 7, 8]
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz.*published"):
        load_mnist(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(np.arange(4))))
    with pytest.raises(DataError, match="together"):
        load_mnist(tmp_path, verify=False)


def test_load_cifar10_from_a_folder(tmp_path):
    wanted = []
    for seed, name in enumerate([*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]):
        pictures, labels, raw = cifar(2, seed)
        wanted.append((pictures, labels))
        (tmp_path / f"{name}.bin").write_bytes(raw)
    splits = load_cifar10(tmp_path, verify=False)
    np.testing.assert_array_equal(splits.train_images, np.concatenate([p for p, _ in wanted[:5]]))
    np.testing.assert_array_equal(splits.train_labels, np.concatenate([k for _, k in wanted[:5]]))
    np.testing.assert_array_equal(splits.test_images, wanted[5][0])
    with pytest.raises(DataError, match=r"data_batch_1\.bin.*30,730,000"):
        load_cifar10(tmp_path)
    (tmp_path / "data_batch_4.bin").unlink()
    with pytest.raises(DataError, match=r"data_batch_4\.bin.*no such file"):
        load_cifar10(tmp_path, verify=False)


def test_load_tinytalks_agrees_with_tito():
    from tito import data

    for mine, theirs in zip(load_tinytalks(), data.load_tinytalks(), strict=True):
        assert mine == [(pair.question, pair.answer) for pair in theirs]


def test_load_tinytalks_from_a_folder(tmp_path):
    for name, count in (("train", 3), ("validation", 2), ("test", 1)):
        lines = [
            {"question": f"é {name} {i}?", "answer": f"{i}.", "topic": "t", "fact": "f"}
            for i in range(count)
        ]
        text = "\n".join(json.dumps(line, ensure_ascii=False) for line in lines) + "\n"
        (tmp_path / f"{name}.jsonl").write_text(text, encoding="utf-8")
    talks = load_tinytalks(tmp_path, verify=False)
    assert [len(part) for part in talks] == [3, 2, 1]
    assert talks.train[2] == ("é train 2?", "2.") and talks.validation[0] == (
        "é validation 0?",
        "0.",
    )
    for broken in ('{"question": "who?"}', "no json", '["a"]', '{"question": "cut o'):
        (tmp_path / "test.jsonl").write_text(
            '{"question": "q", "answer": "a"}\n' + broken, encoding="utf-8"
        )
        with pytest.raises(DataError, match=r"test\.jsonl, line 2"):
            load_tinytalks(tmp_path, verify=False)


def test_load_shakespeare_from_a_folder(tmp_path):
    path = tmp_path / "input.txt"
    path.write_bytes(b"To be, or not to be\n")
    assert load_shakespeare(tmp_path, verify=False) == "To be, or not to be\n"
    with pytest.raises(DataError, match=r"input\.txt.*1,115,394"):
        load_shakespeare(tmp_path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"input\.txt.*UTF-8"):
        load_shakespeare(tmp_path, verify=False)


def test_a_data_set_that_is_not_here_says_how_to_fetch_it(tmp_path, monkeypatch):
    monkeypatch.setenv("TINYTORCH_DATA", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(DataError, match="cifar10") as caught:
        load_cifar10()
    lines = str(caught.value).splitlines()
    assert len(lines) == 2 and lines[1].startswith("Next: tito data fetch cifar10")
