"""The judge of 1986: does it read digits it has never seen, and better than a linear classifier?

Images are prepared again here, on purpose: this file shares nothing with run.py but its numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from tito import data, judge
from tito.judge import Finding, Made, Options, Part

THREADS = 1  # the products are small: a second thread of the BLAS waits more than it works
DATA = ("tinydigits", "mnist", "auto")
HIDDEN = (256, 128)
NETWORKS = {"linear": (), "mlp": HIDDEN}
REACH = {("tinydigits", "linear"): 0.85, ("tinydigits", "mlp"): 0.90,
         ("mnist", "linear"): 0.88, ("mnist", "mlp"): 0.95}  # fmt: skip
AHEAD = {"tinydigits": 0.0, "mnist": 0.02}  # how far the MLP must be ahead of the linear classifier
FULL_INK = {"tinydigits": 16.0, "mnist": 255.0}


def parts(options: Options) -> list[Part]:
    """Both networks on TinyDigits, and on MNIST where it is wanted and there."""
    wanted = [options.data] if options.data != "auto" else ["tinydigits", *_mnist_if_here()]
    loaded = {name: _load(name) for name in wanted}
    return [
        Part(
            f"{name} {network}",
            network,
            d.train_images,
            d.train_labels,
            d.test_images,
            d.test_labels,
        )
        for name, d in loaded.items()
        for network in NETWORKS
    ]


def _mnist_if_here() -> list[str]:
    return [row.name for row in data.status() if row.name == "mnist" and row.state == "ready"]


def _load(name: str) -> data.Digits:
    return data.load_mnist() if name == "mnist" else data.load_tinydigits()


def notes(options: Options) -> list[str]:
    """What the learner should know about the data that was used."""
    if options.data == "auto" and not _mnist_if_here():
        return [
            "MNIST is not on this machine; `tito data fetch mnist` gets it, and then it is run too"
        ]
    return []


def logits(part: Part, images: judge.Array, weights: judge.Arrays) -> judge.Array:
    """Ten logits per image by NumPy."""
    rows = images.reshape(len(images), -1) / FULL_INK[part.name.split()[0]]
    names = ("0",) if part.function == "linear" else ("0", "2", "4")
    return judge.chain(rows, weights, *names, bend=judge.relu)


def verdict(part: Part, made: Made) -> Iterator[Finding]:
    """What must hold of one network on one data set."""
    yield from judge.weights(made, _shapes(part))
    out = logits(part, part.held_out, made.after)
    yield judge.agrees(made, out)
    yield from _claims(part, made)
    some = slice(0, 2000)
    before, after = (
        judge.cross_entropy(logits(part, part.x[some], w), part.y[some])
        for w in (made.before, made.after)
    )
    yield judge.fell("the loss", before, after)
    right = judge.share(out.argmax(axis=1) == part.answers)
    limit = REACH[part.name.split()[0], part.function]
    what = f"right on {len(part.answers):,} digits it has not seen"
    yield judge.at_least(what, right, limit, chance=0.1)


def _shapes(part: Part) -> dict[str, tuple[int, ...]]:
    sizes = [part.x[0].size, *NETWORKS[part.function], 10]
    shapes: dict[str, tuple[int, ...]] = {}
    for position, (inputs, outputs) in enumerate(pairwise(sizes)):
        shapes |= {f"{2 * position}.weight": (outputs, inputs), f"{2 * position}.bias": (outputs,)}
    return shapes


def _claims(part: Part, made: Made) -> Iterator[Finding]:
    """What the framework's evaluate() said of the validation images, against NumPy."""
    kept = slice(len(part.x) - len(part.x) // 10, None)
    out, labels = logits(part, part.x[kept], made.after), part.y[kept]
    found = judge.share(out.argmax(axis=1) == labels)
    said = made.history["val_accuracy"][-1]
    yield judge.claimed(
        "the validation accuracy",
        said,
        found,
        "07_training",
        2.5 / len(labels),
        name="claim accuracy",
    )
    loss = judge.cross_entropy(out, labels)
    said = made.history["val_loss"][-1]
    yield judge.claimed(
        "the validation loss", said, loss, "07_training", 1e-3 + 1e-2 * loss, name="claim loss"
    )


def compare(judged: dict[str, tuple[Part, Made]]) -> Iterator[Finding]:
    """The MLP against the linear classifier on identical images."""
    for name in AHEAD:
        pair = [judged.get(f"{name} {network}") for network in NETWORKS]
        if not all(pair):
            continue
        one, two = (
            judge.share(logits(part, part.held_out, made.after).argmax(axis=1) == part.answers)
            for part, made in filter(None, pair)
        )
        limit = one + AHEAD[name]
        yield Finding(
            f"{name} compared",
            two > limit,
            f"{name}: the MLP reads more than a line",
            f"more than {limit:.2%}; the linear classifier has {one:.2%}",
            f"{two:.2%}",
            "03_layers",
            "hidden layers that add nothing are not being trained",
            two - one,
        )


def confusion(part: Part, made: Made) -> judge.Array:
    """Counts (10, 10): the row is the digit, the column what was read."""
    read = logits(part, part.held_out, made.after).argmax(axis=1)
    return np.bincount(part.answers.astype(int) * 10 + read, minlength=100).reshape(10, 10)
