# %% [markdown]
"""
# Checkpoint 8: can you feed a network as fast as it eats?

A warehouse of numbered rows, two files written by hand, and a loader that makes nobody wait.
"""

# %% given="tools"
import struct
import tempfile
import threading
from pathlib import Path

import numpy as np
from tinytorch.core.layers import Linear
from tinytorch.core.losses import MSELoss
from tinytorch.core.optimizers import SGD
from tinytorch.core.tensor import manual_seed
from tinytorch.core.training import Trainer
from tinytorch.data.loader import (
    Compose,
    Cutout,
    DataLoader,
    Normalize,
    RandomCrop,
    RandomHorizontalFlip,
    TensorDataset,
    random_split,
    read_cifar10_batch,
    read_idx,
)

import tito.checks as check

_rows = np.arange(46, dtype=np.float32).reshape(23, 2)
_numbers = np.arange(23)


class _Watched:
    """23 items, handed out one at a time; `asked` is set once the second batch of 4 is fetched."""

    def __init__(self):
        self.asked = threading.Event()

    def __len__(self):
        return 23

    def __getitem__(self, index):
        if index >= 4:
            self.asked.set()
        return _rows[index], index


def _seen(loader):
    """The numbers of one pass, batch by batch."""
    return [batch[1].data.astype(int).tolist() for batch in loader]


# %% check="hand_out_every_row_once"
for _batch, _drop in ((5, False), (5, True), (23, False), (1, False)):
    for _prefetch in (0, 3):
        _options = {"shuffle": True, "drop_last": _drop, "prefetch": _prefetch}
        _loader = DataLoader(TensorDataset(_rows, _numbers), _batch, **_options)
        _got = _seen(_loader)
        _flat = [n for part in _got for n in part]
        _name = f"23 rows by {_batch}, drop_last={_drop}, prefetch={_prefetch}"
        check.equal(
            f"{_name}: rows, different rows, batches",
            (len(_flat), len(set(_flat)), len(_got)),
            (20, 20, 4) if _drop else (23, 23, -(-23 // _batch)),
            why="every row once; only drop_last may leave out a shorter last batch",
        )
        check.equal(f"{_name}: len of the loader", len(_loader), len(_got), why="as many as come")
_parts = random_split(TensorDataset(_rows, _numbers), [0.6, 0.4], seed=1)
check.equal(
    "rows of two parts together",
    sorted(int(part[i][1]) for part in _parts for i in range(len(part))),
    list(range(23)),
    why="a split loses nothing and shares nothing, or the test set is in the training set",
)

# %% check="repeat_an_epoch_exactly"
_mix = Compose(RandomHorizontalFlip(), RandomCrop(1), Cutout(2))
_images = np.random.default_rng(0).normal(size=(23, 3, 6, 6)).astype(np.float32)


def _passes(prefetch, start=0, count=2):
    loader = DataLoader(
        TensorDataset(_images, _numbers),
        4,
        shuffle=True,
        seed=9,
        prefetch=prefetch,
        transform=_mix,
    )
    loader.epoch = start
    return [np.concatenate([b[0].data.ravel() for b in loader]) for _ in range(count)]


_first, _second = _passes(prefetch=0)
check.true("two epochs differ", not np.array_equal(_first, _second), why="new order, new crops")
check.true(
    "the same numbers with prefetch",
    np.array_equal(_passes(prefetch=3)[1], _second),
    why="a thread may change when a batch is made, never what is in it",
)
check.true(
    "epoch 1 alone, as after an interruption",
    np.array_equal(_passes(prefetch=0, start=1, count=1)[0], _second),
    why="everything random follows from the seed, the epoch and the batch",
)

# %% check="keep_a_run_reproducible_with_the_trainers_generator"


def _trained(epochs, state=None):
    manual_seed(0)
    model = Linear(2, 1)
    run = Trainer(model, MSELoss(), SGD(model.parameters(), lr=1e-5), metric=None, seed=4)
    if state is not None:
        run.load_state_dict(state)
    target = _rows.sum(axis=1, keepdims=True)
    loader = DataLoader(TensorDataset(_rows, target), 4, shuffle=True, generator=run.generator)
    run.fit(loader, epochs)
    return run


_whole, _half = _trained(4), _trained(2)
_resumed = _trained(2, _half.state_dict())
check.equal(
    "losses of 2 + 2 epochs, and of 4",
    _resumed.history["loss"],
    _whole.history["loss"],
    why="a loader that draws from the trainer's generator is in the trainer's checkpoint",
)


# %% check="read_what_others_wrote"
def _said(read, path):
    """The error's text, or what came back."""
    try:
        return str(read(path).shape if read is read_idx else read(path)[0].shape)
    except ValueError as error:
        return str(error)


_digits = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
_idx = struct.pack(">BBBBIII", 0, 0, 8, 3, 2, 3, 4) + _digits.tobytes()
_pixels = np.random.default_rng(1).integers(0, 256, (2, 3, 32, 32), dtype=np.uint8)
_cifar = b"".join(bytes([label]) + image.tobytes() for label, image in zip((3, 9), _pixels))
with tempfile.TemporaryDirectory() as _folder:
    _good, _photos = Path(_folder, "digits-idx3-ubyte"), Path(_folder, "photos.bin")
    _good.write_bytes(_idx)
    _photos.write_bytes(_cifar)
    check.close("the array of an idx file", read_idx(_good), _digits, why="sizes big end first")
    _got_images, _got_labels = read_cifar10_batch(_photos)[:2]
    check.close("the images of a CIFAR-10 file", _got_images, _pixels, why="three planes of colour")
    check.equal("its labels", [int(n) for n in _got_labels], [3, 9], why="a byte before each image")
    for _what, _read, _bytes in (
        ("cut off", read_idx, _idx[:-1]),
        ("one byte too long", read_idx, _idx + b"\0"),
        ("not an idx file", read_idx, b"\x1f\x00\x08\x03" + _idx[4:]),
        ("empty", read_idx, b""),
        ("a photo cut off", read_cifar10_batch, _cifar[:-1]),
        ("a label of 10", read_cifar10_batch, bytes([10]) + _cifar[1:]),
    ):
        _bad = Path(_folder, f"{_what.replace(' ', '_')}.bin")
        _bad.write_bytes(_bytes)
        check.true(
            f"a damaged file ({_what}) is an error that names it",
            _bad.name in _said(_read, _bad),
            got=_said(_read, _bad),
            why="a wrong array trains as well as a right one, and nobody notices",
        )

# %% check="hide_the_waiting"


def _second_is_fetched_during_the_first(prefetch, patience):
    """Whether, while the first batch is trained on, somebody fetches the second."""
    data = _Watched()
    batches = iter(DataLoader(data, batch_size=4, prefetch=prefetch))
    next(batches)
    return data.asked.wait(patience)


check.true(
    "with prefetch=2 the second batch is fetched while the first is trained on",
    _second_is_fetched_during_the_first(prefetch=2, patience=10.0),
    why="loading and training at the same time take as long as the longer of the two",
)
check.true(
    "without prefetch nobody fetches it before it is asked for",
    not _second_is_fetched_during_the_first(prefetch=0, patience=0.1),
    why="prefetch=0 is the plain loop, one thing after the other",
)


class _Broken(_Watched):
    def __getitem__(self, index):
        if index == 9:
            raise KeyError("row 9 is damaged")
        return super().__getitem__(index)


check.raises(
    "an error in the loading thread",
    KeyError,
    lambda: list(DataLoader(_Broken(), batch_size=4, prefetch=2)),
    why="an epoch that ends early without a word looks like a shorter data set",
    mention=["row 9"],
)

# %% check="change_images_but_not_what_they_show"
_out = Normalize([1, 2, 3], [2, 4, 8])(_images)
check.close(
    "Normalize",
    _out,
    (_images - np.reshape([1, 2, 3], (3, 1, 1))) / np.reshape([2, 4, 8], (3, 1, 1)),
    why="one mean and one deviation per channel",
)
_twice = RandomHorizontalFlip(p=1.0)(
    RandomHorizontalFlip(p=1.0)(_images, np.random.default_rng(1)), np.random.default_rng(1)
)
check.close("a mirror image of a mirror image", _twice, _images, why="left and right change places")
_big = np.ones((40, 1, 9, 9), dtype=np.float32)
_holes = (Cutout(3)(_big, np.random.default_rng(2)) == 0).sum(axis=(1, 2, 3))
check.true(
    "Cutout(3) blanks at most 9 pixels of an image, and at least one",
    _holes.min() >= 1 and _holes.max() == 9,
    got=sorted(set(_holes.tolist())),
    why="a square whose centre lies anywhere: the edge may cut it",
)
