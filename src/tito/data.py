"""The course's data sets: where they are, whether they are whole, and how to fetch the large ones.

A data set is looked for in $TINYTORCH_DATA, then in the user's cache, then in the course itself.
Only `fetch` touches the network. Checksums are of contents, so a `.gz` packed again still passes.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import math
import os
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple

from tito.course import course_dir

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Progress = Callable[[str, int, int], None]  # file name, bytes so far, bytes in all
TIMEOUT = 30.0  # seconds without an answer before the next mirror is tried
_CHUNK = 1 << 16


class DataError(Exception):
    """A data set is missing or damaged. Two lines: what, then `Next:`.

    >>> print(DataError("mnist is not here", "tito data fetch mnist"))
    mnist is not here
    Next: tito data fetch mnist
    """

    def __init__(self, what: str, next: str) -> None:
        super().__init__(f"{what}\nNext: {next}")
        self.what = what
        self.next = next


class _MirrorError(Exception):
    """One mirror did not deliver; the next one may."""


class _Damage(Exception):
    """What is wrong with a file's contents, one sentence."""


@dataclass(frozen=True)
class File:
    """One file; `size` and `sha256` are of its contents, unzipped when `gz`; `wire` is as sent."""

    name: str
    size: int
    sha256: str | None = None
    gz: bool = False
    wire: int = 0

    @property
    def download(self) -> int:
        return self.wire or self.size


@dataclass(frozen=True)
class Dataset:
    """One row of the table. `mirrors` are URL prefixes; without any, the course carries the files.

    With `archive`, the mirrors hold that one `.tar.gz` and the files are taken out of it.
    """

    name: str
    title: str
    folder: str
    format: str  # "npz", "idx", "cifar", "jsonl" or "text": the structure verify checks
    files: tuple[File, ...]
    source: str
    licence: str
    mirrors: tuple[str, ...] = ()
    archive: File | None = None

    @property
    def shipped(self) -> bool:
        return not self.mirrors

    @property
    def size(self) -> int:
        """Bytes to download, or carried."""
        return self.archive.size if self.archive else sum(file.download for file in self.files)


@dataclass(frozen=True)
class Status:
    """Where a data set stands: `shipped`, `ready`, `incomplete` or `absent`."""

    name: str
    title: str
    state: str
    folder: Path | None
    missing: tuple[str, ...]
    size: int


@dataclass(frozen=True)
class Download:
    """One file to fetch: the addresses in the order they are tried, where it goes, its bytes."""

    urls: tuple[str, ...]
    path: Path
    size: int


class Digits(NamedTuple):
    """Images (N, H, W), or (N, 3, H, W) of CIFAR-10, and labels (N,), all uint8.

    Ink is high: 0..16 in TinyDigits, 0..255 in MNIST.
    """

    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.uint8]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.uint8]


class Pair(NamedTuple):
    """A question and its answer; pairs with the same `fact` have the same answer."""

    question: str
    answer: str
    topic: str
    fact: str


class Talks(NamedTuple):
    """Splits: a question of `validation` or `test` is a new phrasing of a fact in `train`."""

    train: list[Pair]
    validation: list[Pair]
    test: list[Pair]


_TINYDIGITS = Dataset(
    "tinydigits", "TinyDigits: 5,000 handwritten digits of 8x8", "tinydigits", "npz",
    (File("tinydigits.npz", 356_906,
          "303e2e0e5c515a6512ae441ad06e3db1760e878764ff123786f09b622cfd1645"),),
    source="UCI optdigits (Alpaydin and Kaynak 1998), test part", licence="CC BY 4.0")

_TINYTALKS = Dataset(
    "tinytalks", "TinyTalks: 3,000 questions and answers in sentences", "tinytalks", "jsonl",
    (File("train.jsonl", 361_936,
          "bcfea3a0cc2428377dda8fe6167e6f8f82434d3d78b2a8f8191fdd97877ddacd"),
     File("validation.jsonl", 45_351,
          "e79779202ad979757621ee5740180f417adb10e74fd19973b1e77b8186778166"),
     File("test.jsonl", 45_443,
          "2ffb2604effff296f1bf8582db8f7bceac2ee037e75d992ede775c0f9dcff0ef")),
    source="written for this course (course/data/tinytalks/build.py)", licence="CC BY 4.0")

_MNIST = Dataset(
    "mnist", "MNIST: 70,000 handwritten digits of 28x28", "mnist", "idx",
    (File("train-images-idx3-ubyte.gz", 47_040_016,
          "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db", True, 9_912_422),
     File("train-labels-idx1-ubyte.gz", 60_008,
          "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5", True, 28_881),
     File("t10k-images-idx3-ubyte.gz", 7_840_016,
          "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7", True, 1_648_877),
     File("t10k-labels-idx1-ubyte.gz", 10_008,
          "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2", True, 4_542)),
    source="LeCun, Cortes and Burges 1998", licence="no licence stated by the publisher",
    mirrors=("https://ossci-datasets.s3.amazonaws.com/mnist/",
             "https://storage.googleapis.com/cvdf-datasets/mnist/"))

_CIFAR10 = Dataset(
    "cifar10", "CIFAR-10: 60,000 colour photographs of 32x32", "cifar-10-batches-bin", "cifar",
    tuple(File(f"{name}.bin", 30_730_000)
          for name in (*(f"data_batch_{n}" for n in range(1, 6)), "test_batch")),
    source="Krizhevsky 2009", licence="no licence stated by the publisher",
    mirrors=("https://www.cs.toronto.edu/~kriz/",),
    archive=File("cifar-10-binary.tar.gz", 170_052_171,
                 "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"))

_SHAKESPEARE = Dataset(
    "shakespeare", "Tiny Shakespeare: 1.1 MB of plays", "tinyshakespeare", "text",
    (File("input.txt", 1_115_394,
          "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"),),
    source="Karpathy 2015, from Shakespeare's plays", licence="public domain text",
    mirrors=("https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/",))

DATASETS: dict[str, Dataset] = {
    dataset.name: dataset
    for dataset in (_TINYDIGITS, _TINYTALKS, _MNIST, _CIFAR10, _SHAKESPEARE)}


# Where things are


def find(name: str) -> Dataset:
    """The data set called `name`. Raises: DataError, with a suggestion, for an unknown name."""
    import difflib

    key = name.strip().lower()
    if key in DATASETS:
        return DATASETS[key]
    close = difflib.get_close_matches(key, DATASETS, n=1)
    hint = f": did you mean {close[0]}?" if close else ""
    raise DataError(f"there is no data set {name!r}{hint}", "tito data list")


def fetch_root() -> Path:
    """Folder that fetched data sets go to: $TINYTORCH_DATA, else the user's cache."""
    if named := os.environ.get("TINYTORCH_DATA"):
        return Path(named).expanduser()
    from platformdirs import user_cache_dir

    return Path(user_cache_dir("tinytorch"))


def roots() -> list[Path]:
    """Folders searched, in order: $TINYTORCH_DATA (if set), the user's cache, the course."""
    from platformdirs import user_cache_dir

    searched = [fetch_root(), Path(user_cache_dir("tinytorch")), course_dir() / "data"]
    return list(dict.fromkeys(searched))


def _missing(dataset: Dataset, folder: Path) -> tuple[str, ...]:
    return tuple(file.name for file in dataset.files if not (folder / file.name).is_file())


def _locate(dataset: Dataset) -> tuple[Path | None, tuple[str, ...]]:
    """First complete folder and no names, else the first partial one and what it lacks."""
    found = [(folder, _missing(dataset, folder))
             for folder in (root / dataset.folder for root in roots())]
    complete = [(folder, missing) for folder, missing in found if not missing]
    partial = [(folder, missing) for folder, missing in found if len(missing) < len(dataset.files)]
    nowhere = (None, tuple(file.name for file in dataset.files))
    return next(iter(complete + partial), nowhere)


def path(name: str) -> Path:
    """The folder that holds the data set's files.

    Raises: DataError that says where it looked, when no folder holds all of them.

    >>> path("tinydigits").name
    'tinydigits'
    """
    dataset = find(name)
    folder, missing = _locate(dataset)
    if folder is not None and not missing:
        return folder
    raise DataError(_absence(dataset, folder, missing), remedy(dataset))


def _absence(dataset: Dataset, folder: Path | None, missing: tuple[str, ...]) -> str:
    if folder is not None:
        return f"{dataset.name} is incomplete in {folder}: {', '.join(missing)} missing"
    looked = ", ".join(str(root / dataset.folder) for root in roots())
    return f"{dataset.name} is not on this machine: looked in {looked}"


def remedy(dataset: Dataset) -> str:
    """The command that helps when files of the data set are missing or damaged."""
    if dataset.shipped:
        return "tito system doctor   (the course carries this file: the installation is damaged)"
    return f"tito data fetch {dataset.name}   (or point TINYTORCH_DATA at a folder that has it)"


def status() -> list[Status]:
    """Every data set of the table and whether its files are there. Cost: no file is read."""
    rows = []
    for dataset in DATASETS.values():
        folder, missing = _locate(dataset)
        present = "shipped" if dataset.shipped else "ready"
        state = "absent" if folder is None else "incomplete" if missing else present
        rows.append(Status(dataset.name, dataset.title, state, folder, missing, dataset.size))
    return rows


# Whether they are whole


def verify(name: str) -> list[str]:
    """Problems of the data set's files, one sentence each; an empty list means every byte is right.

    Raises: DataError for an unknown name. Cost: reads every file once (MNIST: 55 MB unzipped).

    >>> verify("tinydigits")
    []
    """
    dataset = find(name)
    folder, missing = _locate(dataset)
    if folder is None:
        return [_absence(dataset, folder, missing)]
    found = (_problem(folder / file.name, file, dataset.format) for file in dataset.files)
    return [problem for problem in found if problem]


def _problem(path: Path, file: File, format: str) -> str | None:
    """What is wrong with one file, or None."""
    try:
        _check(path, file, format)
    except _Damage as damage:
        return str(damage)
    except OSError as error:
        reason = "is missing" if not path.exists() else f"cannot be read: {error.strerror}"
        return f"{file.name} {reason}"
    return None


def _check(path: Path, file: File, format: str) -> None:
    """Raises _Damage at the first thing wrong: size, then structure, then checksum."""
    data = _contents(path, file)
    if len(data) != file.size:
        much = f"{len(data):,} bytes" if len(data) < file.size else f"more than {file.size:,} bytes"
        raise _Damage(f"{file.name} holds {much}, expected {file.size:,}")
    if format == "idx":
        _idx_shape(io.BytesIO(data), file.name)
    if format == "cifar" and max(data[:: 3 * 32 * 32 + 1]) > 9:
        raise _Damage(f"{file.name} has a label above 9: not CIFAR-10's binary layout")
    if format == "jsonl":
        _pairs(data, file.name)
    digest = hashlib.sha256(data).hexdigest()
    if file.sha256 and digest != file.sha256:
        raise _Damage(f"{file.name} has other bytes than the published file: "
                      f"sha256 {digest[:12]}…, expected {file.sha256[:12]}…")


def _contents(path: Path, file: File) -> bytes:
    """The file's contents, unzipped when they should be; at most one byte more than expected."""
    with path.open("rb") as raw:
        start = raw.read(512).lstrip().lower()
        raw.seek(0)
        if start.startswith((b"<!doctype", b"<html", b"<?xml")):
            raise _Damage(f"{file.name} is a web page, not data (a sign-in or proxy page?)")
        return _unzipped(raw, file.name, file.size + 1) if file.gz else raw.read(file.size + 1)


def _unzipped(raw: IO[bytes], name: str, limit: int) -> bytes:
    """At most `limit` bytes of gzip contents. Raises: _Damage for foreign or cut-off data."""
    try:
        with gzip.open(raw) as stream:
            return stream.read(limit)
    except EOFError:
        raise _Damage(f"{name} ends in the middle: truncated") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise _Damage(f"{name} is not sound gzip data: {error}") from None


# Fetching


def fetch(name: str, progress: Progress | None = None, *, dry_run: bool = False,
          mirrors: Sequence[str] = ()) -> list[Download]:
    """Download what is missing or damaged; returns what was (or with `dry_run` would be) fetched.

    Files already whole are kept, so a fetch that was interrupted goes on with the next file. Each
    is checked in a temporary file first: a file under its real name is always whole.
    `mirrors` replaces the table's URL prefixes; the checksums stay.
    Raises: DataError when no mirror delivers, a file is not the published one, or disk writes fail.
    """
    dataset = find(name)
    if dataset.shipped:
        raise DataError(f"{dataset.name} comes with the course: there is nothing to fetch",
                        f"tito data verify {dataset.name}")
    if not verify(name):
        return []
    folder = fetch_root() / dataset.folder
    wanted = _wanted(dataset, folder)
    plan = [_download(dataset, file, folder, mirrors) for file in wanted]
    if not dry_run:
        with _writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            _sweep(folder)
        for file, item in zip(wanted, plan, strict=True):
            _deliver(dataset, file, item, progress)
    return plan


def _wanted(dataset: Dataset, folder: Path) -> list[File]:
    damaged = [file for file in dataset.files
               if _problem(folder / file.name, file, dataset.format)]
    return [dataset.archive] if dataset.archive and damaged else damaged


def _download(dataset: Dataset, file: File, folder: Path, mirrors: Sequence[str]) -> Download:
    urls = tuple(f"{mirror.rstrip('/')}/{file.name}" for mirror in mirrors or dataset.mirrors)
    return Download(urls, folder / file.name, file.download)


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Turns an OSError of the disk into a DataError that names the folder."""
    try:
        yield
    except OSError as error:
        raise DataError(f"cannot write in {folder}: {error.strerror or error}",
                        "set TINYTORCH_DATA to a folder with room that you may write in, "
                        "and run the command again") from error


def _sweep(folder: Path) -> None:
    """Remove what fetches killed more than a day ago left behind."""
    for part in folder.glob(".tito-*.tmp"):
        with suppress(OSError):
            if time.time() - part.stat().st_mtime > 24 * 3600:
                part.unlink()


def _deliver(dataset: Dataset, file: File, item: Download, progress: Progress | None) -> None:
    """Try the mirrors in turn until one sends the right bytes."""
    from urllib.parse import urlsplit

    failures = []
    for url in item.urls:
        try:
            return _deliver_from(url, dataset, file, item.path, progress)
        except _MirrorError as error:
            failures.append(f"{urlsplit(url).netloc or url}: {error}")
    raise DataError(f"could not fetch {file.name} ({'; '.join(failures)})",
                    f"tito data fetch {dataset.name}   (once the network answers; what is whole is "
                    "kept)")


def _deliver_from(url: str, dataset: Dataset, file: File, target: Path,
                  progress: Progress | None) -> None:
    """Download to a temporary file, check it, and only then give it its name (or unpack it)."""
    part = target.with_name(f".tito-{target.name}-{os.getpid()}.tmp")
    try:
        _save(_received(url, file), part, file.name, progress)
        if problem := _problem(part, file, "archive" if dataset.archive else dataset.format):
            raise _MirrorError(problem)
        with _writing(target.parent):
            if dataset.archive:
                _unpack(part, dataset, target.parent)
            else:
                os.replace(part, target)
    finally:
        with suppress(OSError):
            part.unlink()


def _save(chunks: Iterator[tuple[bytes, int]], part: Path, name: str,
          progress: Progress | None) -> None:
    """Write chunks as they come, reporting after each."""
    with _writing(part.parent):
        out = part.open("wb")
    with out:
        for chunk, total in chunks:
            with _writing(part.parent):
                out.write(chunk)
                out.flush()
            if progress:
                progress(name, out.tell(), total)


def _received(url: str, file: File) -> Iterator[tuple[bytes, int]]:
    """Chunks of what a URL sends, each with the bytes to expect in all.

    Raises: _MirrorError for anything the network does wrong.
    """
    from http.client import HTTPException
    from urllib.error import HTTPError, URLError
    from urllib.request import Request, urlopen

    try:
        request = Request(url, headers={"User-Agent": "tinytorch"})
        with urlopen(request, timeout=TIMEOUT) as answer:
            announced = int(answer.headers.get("Content-Length") or 0)
            for chunk in _counted(answer, announced, file):
                yield chunk, announced or file.download
    except HTTPError as error:
        error.close()
        raise _MirrorError(f"answered {error.code} {error.reason}") from None
    except URLError as error:
        raise _MirrorError(f"no connection ({error.reason})") from None
    except (HTTPException, OSError, ValueError) as error:
        raise _MirrorError(f"connection lost ({error})") from None


def _counted(answer: IO[bytes], announced: int, file: File) -> Iterator[bytes]:
    """Chunks of an answer; refused when it is longer than the file can be, or cut off."""
    got = 0
    while chunk := answer.read(_CHUNK):
        got += len(chunk)
        if got > max(file.size, file.download):
            raise _MirrorError(f"sent more than the {file.download:,} bytes of the file")
        yield chunk
    if got < announced:
        raise _MirrorError(f"truncated: {got:,} of {announced:,} bytes came")


def _unpack(archive: Path, dataset: Dataset, folder: Path) -> None:
    """Take the data set's files, and nothing else, out of a `.tar.gz`."""
    import tarfile

    expected = {file.name: file for file in dataset.files}
    with tarfile.open(archive, "r:gz") as members:
        for member in members:
            file = expected.get(Path(member.name).name)
            stream = members.extractfile(member) if file and member.isfile() else None
            if file and stream:
                _place(stream.read(file.size + 1), file, dataset, folder)


def _place(data: bytes, file: File, dataset: Dataset, folder: Path) -> None:
    """Write one unpacked file: temporary name, check, real name."""
    part = folder / f".tito-{file.name}-{os.getpid()}.tmp"
    try:
        part.write_bytes(data)
        if problem := _problem(part, file, dataset.format):
            raise _MirrorError(problem)
        os.replace(part, folder / file.name)
    finally:
        with suppress(OSError):
            part.unlink()


# Reading


def load_tinydigits(folder: Path | None = None) -> Digits:
    """TinyDigits: 4,000 training and 1,000 test images (8, 8) of values 0..16, labels 0..9.

    `folder` holds tinydigits.npz; by default `path("tinydigits")`.
    Raises: DataError when the file is missing or not what it should be.

    >>> digits = load_tinydigits()
    >>> digits.train_images.shape, digits.test_labels.shape
    ((4000, 8, 8), (1000,))
    """
    import zipfile

    import numpy as np

    file = (folder or path("tinydigits")) / "tinydigits.npz"
    try:
        with np.load(file, allow_pickle=False) as arrays:
            digits = Digits(*(arrays[name] for name in Digits._fields))
    except (OSError, TypeError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{file} is not TinyDigits: {error}",
                        "tito data verify tinydigits") from None
    _check_digits(digits, side=8, top=16, where=file)
    return digits


def load_tinytalks(folder: Path | None = None) -> Talks:
    """TinyTalks: 2,400 pairs to train on, 300 to validate and 300 to test with.

    `folder` holds the three .jsonl files; by default `path("tinytalks")`.
    Raises: DataError when a file is missing or has other bytes than it should.

    >>> talks = load_tinytalks()
    >>> len(talks.train), len(talks.validation), len(talks.test)
    (2400, 300, 300)
    """
    folder = folder or path("tinytalks")
    splits = []
    for file in _TINYTALKS.files:
        if problem := _problem(folder / file.name, file, _TINYTALKS.format):
            raise DataError(f"{problem} (in {folder})", remedy(_TINYTALKS))
        splits.append(_pairs((folder / file.name).read_bytes(), file.name))
    return Talks(*splits)


def _pairs(data: bytes, name: str) -> list[Pair]:
    """The pairs of a file, one JSON object per line. Raises: _Damage at the first other line."""
    pairs = []
    for number, line in enumerate(data.splitlines(), 1):
        try:
            pair = Pair(**json.loads(line))
        except (ValueError, TypeError) as error:
            raise _Damage(f"{name}, line {number}, is not a question and its answer: {error}"
                          ) from None
        if not all(isinstance(value, str) and value for value in pair):
            raise _Damage(f"{name}, line {number}, has an empty field, or one that is no text")
        pairs.append(pair)
    return pairs


def load_mnist(folder: Path | None = None) -> Digits:
    """MNIST: images (N, 28, 28) of values 0..255 and labels 0..9, from the publisher's four files.

    `folder` holds them; by default `path("mnist")`.
    Raises: DataError for a missing, truncated or foreign file. Cost: 55 MB; about half a second.
    """
    folder = folder or path("mnist")
    names = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
    digits = Digits(*(read_idx(folder / f"{name}-ubyte.gz") for name in names))
    _check_digits(digits, side=28, top=255, where=folder)
    return digits


def read_idx(file: Path) -> NDArray[np.uint8]:
    """The array of an idx file of bytes, zipped or not; its shape is in its header.

    Layout: 0, 0, 8 (bytes), number of axes; each axis as 4 bytes, big end first; then the values.
    Raises: DataError when the file is missing, or its header and its length disagree.
    """
    import numpy as np

    try:
        raw = file.read_bytes()
        raw = _unzipped(io.BytesIO(raw), file.name, -1) if file.suffix == ".gz" else raw
        stream = io.BytesIO(raw)
        shape = _idx_shape(stream, file.name)
    except OSError as error:
        raise DataError(f"cannot read {file}: {error.strerror}", "tito data fetch mnist") from None
    except _Damage as damage:
        raise DataError(f"{damage} (in {file.parent})", "tito data fetch mnist") from None
    return np.frombuffer(raw, dtype=np.uint8, offset=stream.tell()).reshape(shape).copy()


def load_cifar10(folder: Path | None = None) -> Digits:
    """CIFAR-10: images (N, 3, 32, 32) of values 0..255, 50,000 to train and 10,000 to test on.

    `folder` holds the six binary files; by default `path("cifar10")`.
    Raises: DataError for a missing, truncated or foreign file. Cost: 184 MB.
    """
    import numpy as np

    folder = folder or path("cifar10")
    batches = [_cifar_records(folder / file.name, file) for file in find("cifar10").files]
    train, test = np.concatenate(batches[:-1]), batches[-1]
    return Digits(*(part for rows in (train, test) for part in (_photographs(rows), rows[:, 0])))


def _cifar_records(file: Path, expected: File) -> NDArray[np.uint8]:
    """Records (10000, 3073) of one binary file: the label, then the pixels."""
    import numpy as np

    if problem := _problem(file, expected, "cifar"):
        raise DataError(f"{problem} (in {file.parent})", "tito data fetch cifar10")
    return np.fromfile(file, dtype=np.uint8).reshape(-1, 3 * 32 * 32 + 1)


def _photographs(records: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return records[:, 1:].reshape(-1, 3, 32, 32)


def _idx_shape(stream: io.BytesIO, name: str) -> tuple[int, ...]:
    """Reads the header. Raises: _Damage unless exactly the announced values follow it."""
    magic = stream.read(4)
    axes = magic[3] if len(magic) == 4 else 0
    if magic[:3] != b"\0\0\x08" or not 1 <= axes <= 4:
        raise _Damage(f"{name} is not an idx file of bytes: it starts with {magic.hex(' ')}, "
                      "expected 00 00 08 and the number of axes")
    sizes = stream.read(4 * axes)
    shape = tuple(int.from_bytes(sizes[4 * i : 4 * i + 4], "big") for i in range(axes))
    values = stream.getbuffer().nbytes - 4 - 4 * axes
    if values != math.prod(shape):
        raise _Damage(f"{name} announces {'x'.join(map(str, shape))} = {math.prod(shape):,} values "
                      f"and holds {max(values, 0):,}")
    return shape


def _check_digits(digits: Digits, side: int, top: int, where: Path) -> None:
    """Raises DataError unless shapes, types and ranges are those of labelled square images."""
    pairs = ((digits.train_images, digits.train_labels), (digits.test_images, digits.test_labels))
    for images, labels in pairs:
        if images.dtype != "uint8" or labels.dtype != "uint8":
            problem = f"values are {images.dtype} and {labels.dtype}, expected uint8"
        elif images.shape[1:] != (side, side) or labels.shape != images.shape[:1]:
            problem = f"images {images.shape} and labels {labels.shape} do not belong together"
        elif images.max(initial=0) > top or labels.max(initial=0) > 9:
            problem = f"a value is above {top} or a label above 9"
        else:
            continue
        raise DataError(f"{where}: {problem}", "tito data list")
