"""TinyDigits from scikit-learn's copy of UCI optdigits: 1,000 scans to test on, 4,000 to train on.

    python course/data/tinydigits/build.py           # writes tinydigits.npz beside this file
    python course/data/tinydigits/build.py --check   # rebuilds, compares bytes, measures

For authors only: needs numpy, scipy and scikit-learn. Learners read the .npz.

The 1,797 scans are split by image: 100 of each class are the test set, untouched; the other 797 are
training images, and every variant is made from one of those 797. A variant is a function of
(scan, transform, seed) alone, so each one can be made again: `variant(scan, "affine", seed)`.
"""

from __future__ import annotations

import hashlib
import io
import random
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates
from sklearn.datasets import load_digits

SEED = 1998
CLASSES = 10
TEST_PER_CLASS = 100
TRAIN_PER_CLASS = 400
TRANSFORMS = ("scan", "affine", "elastic")  # the numbers 0, 1, 2 in `train_transform`

FINE = 4  # the original bitmaps were 32x32; each of our pixels counts the ink of 4x4 of theirs
ROTATE, SHEAR, STRETCH, SHIFT = 8.0, 0.12, 0.08, 0.4  # degrees, -, -, pixels: limits of `affine`
BEND, SMOOTH = 0.3, 2.0  # pixels rms, pixels: size and width of the displacements of `elastic`

Array = NDArray[np.float64]
Arrays = dict[str, NDArray[Any]]


def refine(scan: NDArray[np.uint8]) -> Array:
    """Ink on a grid four times finer, (8, 8) -> (32, 32), whose 4x4 means are exactly the scan.

    Starts from a smooth enlargement and adds back, block by block, what its means get wrong.
    """
    target = scan.astype(np.float64)
    places = (np.arange(FINE * 8) + 0.5) / FINE - 0.5
    fine = map_coordinates(target, np.meshgrid(places, places, indexing="ij"), order=1,
                           mode="constant")
    for _ in range(20):
        fine = np.clip(fine + enlarge(target - coarsen(fine)), 0, 16)
    return np.asarray(fine)


def enlarge(image: Array) -> Array:
    """Each pixel as a 4x4 block."""
    return image.repeat(FINE, 0).repeat(FINE, 1)


def coarsen(fine: Array) -> Array:
    """Means of 4x4 blocks, (32, 32) -> (8, 8)."""
    return np.asarray(fine.reshape(8, FINE, 8, FINE).mean(axis=(1, 3)))


def affine_offsets(rng: random.Random) -> Array:
    """Where each fine pixel looks, as (2, 32, 32) offsets: rotated, sheared, stretched, shifted."""
    angle = np.deg2rad(rng.uniform(-ROTATE, ROTATE))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    shear = np.array([[1.0, 0.0], [rng.uniform(-SHEAR, SHEAR), 1.0]])
    stretch = np.diag([1 + rng.uniform(-STRETCH, STRETCH), 1 + rng.uniform(-STRETCH, STRETCH)])
    shift = np.array([rng.uniform(-SHIFT, SHIFT), rng.uniform(-SHIFT, SHIFT)]) * FINE
    middle = np.indices((8 * FINE, 8 * FINE)) - (8 * FINE - 1) / 2
    moved = np.einsum("ij,jyx->iyx", turn @ shear @ stretch, middle)
    return np.asarray(moved + shift[:, None, None] - middle)


def elastic_offsets(rng: random.Random) -> Array:
    """Smooth random offsets (2, 32, 32): white noise, blurred, scaled to BEND pixels rms.

    Source: Simard, Steinkraus, Platt, "Best Practices for Convolutional Neural Networks", 2003.
    """
    size = 8 * FINE
    noise = np.array([rng.uniform(-1, 1) for _ in range(2 * size * size)]).reshape(2, size, size)
    smooth = gaussian_filter(noise, (0, SMOOTH * FINE, SMOOTH * FINE), mode="constant")
    return np.asarray(smooth * (BEND * FINE / np.sqrt((smooth**2).mean())))


def variant(scan: NDArray[np.uint8], transform: str, seed: int) -> NDArray[np.uint8]:
    """The scan itself, or its variant under `transform` with the parameters `seed` gives."""
    rng = random.Random(seed)
    make = {"affine": affine_offsets, "elastic": elastic_offsets}
    offsets = make[transform](rng) if transform != "scan" else np.zeros((2, 8 * FINE, 8 * FINE))
    where = np.indices(offsets.shape[1:]) + offsets
    warped = map_coordinates(refine(scan), where, order=1, mode="constant")
    return np.rint(coarsen(np.asarray(warped))).clip(0, 16).astype(np.uint8)


def split(labels: NDArray[np.int64], rng: random.Random) -> tuple[list[int], list[int]]:
    """Indices of the scans: 100 per class for the test set, in file order, and the rest."""
    test: list[int] = []
    for digit in range(CLASSES):
        members = np.flatnonzero(labels == digit).tolist()
        test += rng.sample(members, TEST_PER_CLASS)
    return sorted(test), sorted(set(range(len(labels))) - set(test))


def recipe(labels: NDArray[np.int64], train: list[int]) -> list[tuple[int, int, int]]:
    """(source scan, transform, seed) of 400 training images per class: scans first, then variants.

    Variants take the scans in turn and the two transforms alternately; every variant has a seed.
    """
    rows: list[tuple[int, int, int]] = []
    for digit in range(CLASSES):
        scans = [index for index in train if labels[index] == digit]
        rows += [(index, 0, 0) for index in scans]
        for n in range(TRAIN_PER_CLASS - len(scans)):
            turn, place = divmod(n, len(scans))
            rows.append((scans[place], 1 + (turn + place) % 2, SEED * 10_000 + len(rows)))
    return rows


def build() -> Arrays:
    """All arrays of the file: uint8 images (0..16) and labels, and where each image came from."""
    digits = load_digits()
    images, labels = digits.images.astype(np.uint8), digits.target
    rng = random.Random(SEED)
    test, train = split(labels, rng)
    rows = recipe(labels, train)
    rng.shuffle(rows)
    source, transform, seed = (np.array(column) for column in zip(*rows, strict=True))
    made = [variant(images[i], TRANSFORMS[t], s) if t else images[i] for i, t, s in rows]
    return {
        "train_images": np.stack(made),
        "train_labels": labels[source].astype(np.uint8),
        "test_images": images[test],
        "test_labels": labels[test].astype(np.uint8),
        "train_source": source.astype(np.uint16),
        "train_transform": transform.astype(np.uint8),
        "train_seed": seed.astype(np.uint32),
        "test_source": np.array(test, dtype=np.uint16),
    }


def pack(arrays: Arrays) -> bytes:
    """The .npz, stored and dated 1980: equal arrays are equal bytes on any machine."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, array, version=(1, 0), allow_pickle=False)
            entry = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            entry.create_system, entry.external_attr = 3, 0o644 << 16
            archive.writestr(entry, member.getvalue())
    return out.getvalue()


def measure(arrays: Arrays) -> None:
    """Print test accuracies of a linear model and a small MLP, trained on all and on scans only."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.neural_network import MLPClassifier

    train = arrays["train_images"].reshape(-1, 64) / 16.0
    test, truth = arrays["test_images"].reshape(-1, 64) / 16.0, arrays["test_labels"]
    for title, kept in (("4,000 images", slice(None)),
                        ("797 scans", arrays["train_transform"] == 0)):
        x, y = train[kept], arrays["train_labels"][kept]
        linear = LogisticRegression(max_iter=2000).fit(x, y)
        print(f"{title:>12}  linear          {linear.score(test, truth):.1%}")
        scores = [MLPClassifier((64,), max_iter=1000, random_state=seed).fit(x, y)
                  .score(test, truth) for seed in range(5)]
        print(f"{title:>12}  MLP 64-64-10    {np.mean(scores):.1%}"
              f"  ({min(scores):.1%} to {max(scores):.1%}, 5 seeds)")


def judge(arrays: Arrays) -> None:
    """Print how often a model that saw only the 1,000 test scans agrees with training labels."""
    from sklearn.svm import SVC

    model = SVC(gamma=0.001, C=10).fit(arrays["test_images"].reshape(-1, 64), arrays["test_labels"])
    agrees = model.predict(arrays["train_images"].reshape(-1, 64)) == arrays["train_labels"]
    for number, name in enumerate(TRANSFORMS):
        print(f"{name:>12}  still read as its label by an SVM that never saw its source: "
              f"{agrees[arrays['train_transform'] == number].mean():.1%}")


def main() -> None:
    path = Path(__file__).with_name("tinydigits.npz")
    arrays = build()
    data = pack(arrays)
    if "--check" not in sys.argv:
        path.write_bytes(data)
    same = path.read_bytes() == data
    print(f"{hashlib.sha256(data).hexdigest()}  {path.name}  {len(data):,} bytes"
          f"  {'as shipped' if same else 'NOT what is shipped'}")
    if "--check" in sys.argv:
        measure(arrays)
        judge(arrays)
        sys.exit(not same)


if __name__ == "__main__":
    main()
