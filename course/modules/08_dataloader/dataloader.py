# %% [markdown]
"""
# 08 · Data loading

A sketch: the code first, the module around it follows.
"""

# %% given="imports"
#| default_exp data.loader
#| export
import gzip
import hashlib
import io
import json
import math
import queue
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from tinytorch.core.tensor import Tensor

# %% given="Dataset"
#| export
@runtime_checkable
class Dataset(Protocol):
    """Anything that knows how many items it has and can hand out item number `index`.

    >>> isinstance(["a", "list", "qualifies"], Dataset)
    True
    """

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> object: ...


class TensorDataset(Dataset):
    """Rows of arrays that belong together: item i is the tuple of their rows i.

    arrays: arrays or Tensors, all (N, ...). They are not copied and keep their type (uint8 stays).
    Raises ValueError naming the lengths if they differ.

    >>> TensorDataset(np.array([[1, 2], [3, 4]]), np.array([7, 8]))[1][1].item()
    8
    """

    def __init__(self, *arrays: np.ndarray | Tensor) -> None:
        self.arrays = tuple(np.asarray(a.data if isinstance(a, Tensor) else a) for a in arrays)
        lengths = [len(array) for array in self.arrays]
        if len(set(lengths)) != 1:
            raise ValueError(f"TensorDataset: arrays of {lengths} rows. Each needs the same number.")

    def __len__(self) -> int:
        return len(self.arrays[0])

    def __getitem__(self, index: int) -> tuple:
        return tuple(array[index] for array in self.arrays)

    def __getitems__(self, indices: Sequence[int]) -> tuple:
        """A whole batch at once: one gather per array instead of one row at a time."""
        return tuple(array[indices] for array in self.arrays)


class Subset(Dataset):
    """Some items of another dataset, in the order of `indices`."""

    def __init__(self, dataset: Dataset, indices: Sequence[int]) -> None:
        self.dataset, self.indices = dataset, np.asarray(indices, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> object:
        return self.dataset[int(self.indices[index])]

    def __getitems__(self, indices: Sequence[int]) -> tuple | list:
        """A whole batch: from the dataset at once if it can, else a list of items."""
        return fetch(self.dataset, self.indices[indices])


def fetch(dataset: Dataset, indices: Sequence[int]) -> tuple | list:
    """The items at `indices`: a tuple of whole arrays if the dataset can do that, else a list."""
    if hasattr(dataset, "__getitems__"):
        return dataset.__getitems__(indices)
    return [dataset[int(i)] for i in indices]


def random_split(dataset: Dataset, lengths: Sequence[float], seed: int = 0) -> list[Subset]:
    """Cut a dataset into random parts that do not overlap and together are the whole.

    lengths: numbers of items that add up to len(dataset), or shares that add up to 1. Shares are
    rounded down, and what remains is dealt out one by one, from the first part on.
    Raises ValueError if the lengths add up to something else.
    """
    n = len(dataset)
    if math.isclose(sum(lengths), 1):
        counts = [math.floor(n * share) for share in lengths]
        for i in range(n - sum(counts)):
            counts[i % len(counts)] += 1
    else:
        counts = list(lengths)
    if sum(counts) != n:
        raise ValueError(f"random_split: lengths {list(lengths)} add up to {sum(counts)}, not to {n}.")
    order = np.random.default_rng(seed).permutation(n)
    ends = np.cumsum(counts)
    return [Subset(dataset, order[end - count : end]) for count, end in zip(counts, ends)]

# %% given="DataLoader"
#| export
def epoch_order(length: int, key: Sequence[int]) -> np.ndarray:
    """The row numbers 0 .. length-1 in the order of one pass; the same `key`, the same order."""
    return np.random.default_rng(key).permutation(length)


def batch_plan(order: np.ndarray, batch_size: int, drop_last: bool = False) -> list[np.ndarray]:
    """`order` cut into pieces of `batch_size`; a shorter last one is left out if `drop_last`."""
    plan = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    if drop_last and plan and len(plan[-1]) < batch_size:
        plan.pop()
    return plan


def default_collate(items: Sequence) -> tuple | Tensor:
    """One batch from a list of items: tuples become a tuple of Tensors, one per field.

    items: B items, each a tuple of arrays or numbers, or one such field; fields become (B, ...).
    Raises ValueError naming the shapes if they differ.
    """
    if isinstance(items[0], tuple):
        return tuple(default_collate(field) for field in zip(*items))
    arrays = [np.asarray(item) for item in items]
    shapes = sorted({array.shape for array in arrays})
    if len(shapes) > 1:
        raise ValueError(
            f"default_collate: items of shapes {shapes[0]} and {shapes[-1]} do not stack. "
            "Give the loader a collate_fn that pads them."
        )
    return Tensor(np.stack(arrays))


def prefetched(batches: Iterator, count: int) -> Iterator:
    """The same batches in the same order, up to `count` of them made ahead by a thread.

    An exception in `batches` is raised here, where the batches are used, with its traceback.
    When this iterator ends, or is closed or dropped half way, the thread ends too.
    """
    ready: queue.Queue = queue.Queue(maxsize=count)
    stop = threading.Event()

    def work() -> None:
        try:
            for batch in batches:
                ready.put((batch, None))
                if stop.is_set():
                    return
            ready.put((None, StopIteration()))
        except BaseException as error:
            ready.put((None, error))

    thread = threading.Thread(target=work, name="prefetch", daemon=True)
    thread.start()
    try:
        while True:
            batch, error = ready.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield batch
    finally:
        stop.set()
        while not ready.empty():
            ready.get()
        thread.join()


class DataLoader:
    """Batches of a dataset, pass after pass: each iteration is one epoch.

    Yields tuples of Tensors, each (B, ...). shuffle: the order of epoch e depends on (seed, e) only.
    drop_last: leave out a shorter last batch. collate_fn: makes a batch from a list of items.
    generator: if given, each pass draws its seed from it instead of from (seed, epoch).
    prefetch: so many batches are made ahead in a thread. transform: a function (array, generator)
    applied to the first array of each batch, with a generator of that batch's own.

    `epoch` is the number of the next pass, and may be set to resume.
    Raises ValueError if batch_size is less than 1 or prefetch is negative.
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int = 1,
        shuffle: bool = False,
        drop_last: bool = False,
        collate_fn: Callable | None = None,
        seed: int = 0,
        generator: np.random.Generator | None = None,
        prefetch: int = 0,
        transform: Callable | None = None,
    ) -> None:
        if batch_size < 1 or prefetch < 0:
            raise ValueError(
                f"DataLoader: batch_size {batch_size} must be 1 or more, prefetch {prefetch} 0 or more."
            )
        self.dataset, self.batch_size, self.shuffle = dataset, batch_size, shuffle
        self.drop_last, self.collate_fn = drop_last, collate_fn
        self.seed, self.generator = seed, generator
        self.prefetch, self.transform = prefetch, transform
        self.epoch = 0

    def __len__(self) -> int:
        """How many batches a pass has."""
        whole, rest = divmod(len(self.dataset), self.batch_size)
        return whole if self.drop_last or not rest else whole + 1

    def _next_key(self) -> tuple[int, ...]:
        """What the next pass depends on: (seed, epoch), or a number drawn from `generator`."""
        key = (self.seed, self.epoch)
        if self.generator is not None:
            key = (int(self.generator.integers(2**32)), 0)
        self.epoch += 1
        return key

    def _batch(self, indices: np.ndarray, generator: np.random.Generator) -> tuple:
        """One batch: fetched, collated, transformed."""
        if self.collate_fn is not None:
            batch = self.collate_fn([self.dataset[int(i)] for i in indices])
        else:
            batch = fetch(self.dataset, indices)
            if isinstance(batch, list):
                batch = default_collate(batch)
        if self.transform is not None:
            first, *rest = batch
            images = first.data if isinstance(first, Tensor) else first
            batch = (self.transform(images, generator), *rest)
        if self.collate_fn is None and isinstance(batch, tuple):
            batch = tuple(Tensor(array) for array in batch)
        return batch

    def _batches(self, key: tuple[int, ...]) -> Iterator[tuple]:
        """The batches of the pass that belongs to `key`."""
        rows = len(self.dataset)
        order = epoch_order(rows, key) if self.shuffle else np.arange(rows)
        for number, indices in enumerate(batch_plan(order, self.batch_size, self.drop_last), 1):
            yield self._batch(indices, np.random.default_rng((*key, number)))

    def __iter__(self) -> Iterator[tuple]:
        """One pass. Its number is taken now, so two passes never share an order."""
        batches = self._batches(self._next_key())
        return prefetched(batches, self.prefetch) if self.prefetch else batches

# %% given="transforms"
#| export
class RandomHorizontalFlip:
    """Mirrors each image left to right with probability `p`. images: (N, C, H, W)."""

    def __init__(self, p: float = 0.5) -> None:
        self.p = p

    def __call__(self, images: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        chosen = generator.random(len(images)) < self.p
        images = images.copy()
        images[chosen] = images[chosen][..., ::-1]
        return images


class RandomCrop:
    """Pads each image by `padding` on all sides, then cuts its old size out at a random place.

    mode: what the border is made of, "constant" (zeros) or "reflect". images: (N, C, H, W).
    """

    def __init__(self, padding: int, mode: str = "constant") -> None:
        self.padding, self.mode = padding, mode

    def __call__(self, images: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        n, p, size = len(images), self.padding, images.shape[-2:]
        padded = np.pad(images, ((0, 0), (0, 0), (p, p), (p, p)), mode=self.mode)
        top, left = generator.integers(0, 2 * p + 1, (2, n))
        windows = np.lib.stride_tricks.sliding_window_view(padded, size, axis=(2, 3))
        return windows[np.arange(n), :, top, left]  # (N, C, 2p+1, 2p+1, H, W) -> (N, C, H, W)


class Normalize:
    """(image - mean) / std per channel, in floats. mean, std: a number or one per channel."""

    def __init__(self, mean: float | Sequence[float], std: float | Sequence[float]) -> None:
        self.mean, self.std = (np.reshape(v, (-1, 1, 1)).astype(Tensor.dtype) for v in (mean, std))

    def __call__(
        self, images: np.ndarray, generator: np.random.Generator | None = None
    ) -> np.ndarray:
        return (images - self.mean) / self.std


class Cutout:
    """Blanks a square of side `size` in each image, its centre anywhere; the edge may cut it.

    Source: DeVries & Taylor 2017. images: (N, C, H, W).
    """

    def __init__(self, size: int) -> None:
        self.size = size

    def __call__(self, images: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        n, height, width = len(images), *images.shape[-2:]
        top = generator.integers(0, height, n) - self.size // 2
        left = generator.integers(0, width, n) - self.size // 2
        down, right = np.arange(height) - top[:, None], np.arange(width) - left[:, None]
        rows, columns = (down >= 0) & (down < self.size), (right >= 0) & (right < self.size)
        hole = rows[:, None, :, None] & columns[:, None, None, :]  # (N, 1, H, W)
        return np.where(hole, images.dtype.type(0), images)


class Compose:
    """Several transforms, one after the other, drawing from one generator."""

    def __init__(self, *transforms: Callable) -> None:
        self.transforms = transforms

    def __call__(self, images: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        for transform in self.transforms:
            images = transform(images, generator)
        return images

# %% given="readers"
#| export
class DataError(ValueError):
    """A data file is missing or not what it should be: which file, what is wrong, what helps."""

    def __init__(self, what: str, next: str = "tito data list   (what is here, what to fetch)"):
        super().__init__(f"{what}\nNext: {next}")


class Splits(NamedTuple):
    """Images and labels to train on and to test on, uint8: (N, ...) and (N,)."""

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray


class Talks(NamedTuple):
    """Question-answer pairs to train on, to choose with, and to test on."""

    train: list[tuple[str, str]]
    validation: list[tuple[str, str]]
    test: list[tuple[str, str]]


def _data_files(name: str, folder: str | Path | None, verify: bool) -> tuple[Path, dict]:
    """The folder of a data set, and by file name what was published: size and sha256."""
    from tito import data  # where files are, and what they must hold, is the engine's knowledge

    try:
        where = data.path(name) if folder is None else Path(folder)
    except data.DataError as error:
        raise DataError(error.what, error.next) from None
    return where, {file.name: file for file in data.find(name).files} if verify else {}


def read_bytes(path: str | Path, published: object = None) -> bytes:
    """The content of a file, unzipped if its name ends in .gz.

    published: an object with `size` and `sha256` (None: unknown) that the content must have.
    Raises DataError naming the file if it is missing, cut off, or another file.
    """
    path = Path(path)
    try:
        raw = path.read_bytes()
        raw = gzip.decompress(raw) if path.suffix == ".gz" else raw
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such file") from None
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read, it is cut off or damaged ({error})") from None
    if published is None:
        return raw
    if len(raw) != published.size:
        raise DataError(f"{path}: {len(raw):,} bytes, the published file has {published.size:,}")
    if published.sha256 and hashlib.sha256(raw).hexdigest() != published.sha256:
        raise DataError(f"{path}: other bytes than the published file (checksum sha256)")
    return raw


def read_idx(path: str | Path, published: object = None) -> np.ndarray:
    """The uint8 array of an idx file, zipped or not; its shape is in its header.

    Raises DataError naming the file if its header is not idx or announces another length.
    """
    raw = read_bytes(path, published)
    axes = raw[3] if len(raw) >= 4 else 0
    if raw[:3] != b"\0\0\x08" or not 1 <= axes <= 4:
        raise DataError(f"{path}: not an idx file of bytes, it starts with {raw[:4].hex(' ')}")
    start = 4 + 4 * axes
    shape = tuple(int.from_bytes(raw[i : i + 4], "big") for i in range(4, start, 4))
    if len(raw) - start != math.prod(shape):
        raise DataError(f"{path}: shape {shape} announced, {len(raw) - start:,} values there")
    return np.frombuffer(raw, np.uint8, offset=start).reshape(shape).copy()


def read_cifar10_batch(
    path: str | Path, published: object = None
) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, 3, 32, 32) and labels (N,) of one of CIFAR-10's binary files, uint8.

    Raises DataError naming the file if it is not whole records or a label is above 9.
    """
    raw = read_bytes(path, published)
    size = 1 + 3 * 32 * 32
    if not raw or len(raw) % size:
        raise DataError(f"{path}: {len(raw):,} bytes are not whole records of {size:,}")
    records = np.frombuffer(raw, np.uint8).reshape(-1, size)
    if records[:, 0].max() > 9:
        raise DataError(f"{path}: label {records[:, 0].max()} is above 9, not CIFAR-10's layout")
    return records[:, 1:].reshape(-1, 3, 32, 32), records[:, 0].copy()


def load_tinydigits(folder: str | Path | None = None, verify: bool = True) -> Splits:
    """TinyDigits: images (4000, 8, 8) and (1000, 8, 8) of values 0..16, labels 0..9."""
    where, published = _data_files("tinydigits", folder, verify)
    path = where / "tinydigits.npz"
    raw = read_bytes(path, published.get(path.name))
    try:
        with np.load(io.BytesIO(raw), allow_pickle=False) as arrays:
            return Splits(*(arrays[name] for name in Splits._fields))
    except (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: not TinyDigits ({error})") from None


def load_mnist(folder: str | Path | None = None, verify: bool = True) -> Splits:
    """MNIST: images (60000, 28, 28) and (10000, 28, 28) of values 0..255, labels 0..9."""
    where, published = _data_files("mnist", folder, verify)
    names = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
    files = [where / f"{name}-ubyte.gz" for name in names]
    return Splits(*(read_idx(file, published.get(file.name)) for file in files))


def load_cifar10(folder: str | Path | None = None, verify: bool = True) -> Splits:
    """CIFAR-10: images (50000, 3, 32, 32) and (10000, 3, 32, 32) of 0..255, labels 0..9."""
    where, published = _data_files("cifar10", folder, verify)
    names = [f"data_batch_{n}.bin" for n in range(1, 6)] + ["test_batch.bin"]
    parts = [read_cifar10_batch(where / name, published.get(name)) for name in names]
    train = (np.concatenate(arrays) for arrays in zip(*parts[:-1]))
    return Splits(*train, *parts[-1])


def load_tinytalks(folder: str | Path | None = None, verify: bool = True) -> Talks:
    """TinyTalks: lists of (question, answer) for train, validation and test."""
    where, published = _data_files("tinytalks", folder, verify)
    return Talks(*(_pairs(where / f"{name}.jsonl", published) for name in Talks._fields))


def _pairs(path: Path, published: dict) -> list[tuple[str, str]]:
    """(question, answer) of each line of a JSON-lines file."""
    lines = read_bytes(path, published.get(path.name)).splitlines()
    pairs = []
    for number, line in enumerate(lines, start=1):
        try:
            talk = json.loads(line)
            pairs.append((talk["question"], talk["answer"]))
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path}, line {number}: no question and answer ({error})") from None
    return pairs


def load_shakespeare(folder: str | Path | None = None, verify: bool = True) -> str:
    """Tiny Shakespeare, one text of 1,115,394 characters."""
    where, published = _data_files("shakespeare", folder, verify)
    path = where / "input.txt"
    try:
        return read_bytes(path, published.get(path.name)).decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not a text in UTF-8 ({error})") from None
