"""The judge of 1998: does every filter learn, and does it see photographs it has never seen?

The networks are computed again here by NumPy in a way of its own; this file shares nothing with
run.py but its numbers.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tito import data, judge
from tito.judge import Array, Arrays, Finding, Made, Options, Part

DATA = ("tinydigits", "cifar10", "auto")
TIMEOUT = 8 * 3600.0
MEAN, STD = (np.array(v).reshape(3, 1, 1) for v in ((125.3, 123.0, 113.9), (63.0, 62.1, 66.7)))
VALIDATION = {"digits": 400, "mlp": 1000, "cnn": 1000, "residual": 1000}
SMOOTHING = {"digits": 0.0, "mlp": 0.1, "cnn": 0.1, "residual": 0.2}
# What must be reached: guessing is 10 %. Linear on TinyDigits has 96 %; six filters seen through
# two epochs of loops less. A CNN that did not see would stay with the MLP, at a half.
REACH = {"digits": 0.90, "mlp": 0.40, "cnn": 0.75, "residual": 0.85}
CNN = {"0": (3, 32), "1": (32, 32), "2": (32, 64), "3": (64, 64), "4": (64, 128)}
RESIDUAL = {"1": (24, 64), "2.unit": (64, 64), "3": (64, 128), "4.unit": (128, 128),
            "5": (128, 256), "6.unit": (256, 256)}  # fmt: skip
POOLED = {"cnn": ("1", "3", "4"), "residual": ("1", "3", "5")}
# What the residual network does not learn: its whitened first layer, and the scales of its norms.
FIXED = {"residual": ["0.conv.weight", *(f"{name}.norm.weight" for name in RESIDUAL)]}
UNITS = {"cnn": CNN, "residual": RESIDUAL}
CLASSES = "airplane automobile bird cat deer dog frog horse ship truck".split()


def parts(options: Options) -> list[Part]:
    """The loops on TinyDigits; MLP and CNN on CIFAR-10 where it is here; with `long` the third."""
    found: list[Part] = []
    if options.data != "cifar10":
        found += _parts("tinydigits", data.load_tinydigits(), ["digits"])
    if options.data == "cifar10" or (options.data == "auto" and _cifar_here()):
        names = ["mlp", "cnn", *(["residual"] if options.long else [])]
        found += _parts("cifar10", data.load_cifar10(), names)
    return found


def _parts(name: str, d: data.Digits, functions: list[str]) -> list[Part]:
    return [
        Part(
            "tinydigits loops" if function == "digits" else f"{name} {function}",
            function,
            d.train_images,
            d.train_labels,
            d.test_images,
            d.test_labels,
            resumes=function != "digits",
        )
        for function in functions
    ]


def _cifar_here() -> bool:
    return any(row.name == "cifar10" and row.state == "ready" for row in data.status())


def notes(options: Options) -> list[str]:
    """What the learner should know about the data that was used."""
    if options.data == "auto" and not _cifar_here():
        return [
            "CIFAR-10 is not on this machine; `tito data fetch cifar10` gets it, and then an MLP "
            "and a CNN are trained on photographs too"
        ]
    return []


# The networks, by NumPy --------------------------------------------------------------------------


def logits(part: Part, images: Array, weights: Arrays, chunk: int = 25) -> Array:
    """Ten logits per image, (N, 10)."""
    network = {"digits": _digits, "mlp": _mlp, "cnn": _cnn, "residual": _residual}[part.function]
    pieces = [images[at : at + chunk] for at in range(0, len(images), chunk)]
    return np.concatenate([network(piece, weights) for piece in pieces])


def _digits(images: Array, weights: Arrays) -> Array:
    seen = judge.relu(judge.conv2d(images[:, None] / 16.0, weights["0.weight"]))
    return judge.chain(seen.reshape(len(seen), -1), weights, "3")


def _mlp(images: Array, weights: Arrays) -> Array:
    rows = _scaled(images).reshape(len(images), -1)
    return judge.chain(rows, weights, "1", "3", "5", bend=judge.relu)


def _scaled(images: Array) -> Array:
    return ((images - MEAN) / STD).astype(np.float32)


def _unit(x: Array, weights: Arrays, name: str, pooled: bool) -> Array:
    x = judge.conv2d(x, weights[f"{name}.conv.weight"], padding=1)
    x = judge.max_pool(x) if pooled else x
    return judge.relu(judge.batch_norm(x, weights, f"{name}.norm"))


def _cnn(images: Array, weights: Arrays) -> Array:
    x = _scaled(images)
    for name in CNN:
        x = _unit(x, weights, name, name in POOLED["cnn"])
    return judge.chain(x.reshape(len(x), -1), weights, "6")


def _residual(images: Array, weights: Arrays) -> Array:
    x = judge.relu(judge.conv2d(_scaled(images), weights["0.conv.weight"], padding=1))
    for name in RESIDUAL:
        seen = _unit(x, weights, name, name in POOLED["residual"])
        x = x + seen if name.endswith("unit") else seen
    return x.max(axis=(2, 3)) @ weights["9.linear.weight"].T / 9.0  # 4x4 are left of 32x32


def shapes(function: str) -> dict[str, tuple[int, ...]]:
    """Name of every array of a network -> its shape."""
    if function == "digits":
        return {"0.weight": (6, 1, 3, 3), "3.weight": (10, 216), "3.bias": (10,)}
    if function == "mlp":
        sizes = {"1": (512, 3072), "3": (256, 512), "5": (10, 256)}
    else:
        sizes = {"6": (10, 2048)} if function == "cnn" else {}
    found: dict[str, tuple[int, ...]] = {}
    if function == "residual":
        found |= {"0.conv.weight": (24, 3, 3, 3), "9.linear.weight": (10, 256)}
    for name, (inputs, outputs) in UNITS.get(function, {}).items():
        found[f"{name}.conv.weight"] = (outputs, inputs, 3, 3)
        kinds = ("weight", "bias", "running_mean", "running_var")
        found |= {f"{name}.norm.{kind}": (outputs,) for kind in kinds}
    for name, size in sizes.items():
        found |= {f"{name}.weight": size, f"{name}.bias": size[:1]}
    return found


def filters(function: str) -> list[str]:
    """Names of the convolutions' weights that are learned."""
    found, fixed = shapes(function).items(), FIXED.get(function, [])
    return [name for name, shape in found if len(shape) == 4 and name not in fixed]


# Judging -----------------------------------------------------------------------------------------


def verdict(part: Part, made: Made) -> Iterator[Finding]:
    """What must hold of one network."""
    yield from judge.weights(made, shapes(part.function), FIXED.get(part.function, []))
    if names := filters(part.function):
        yield judge.turned(made, names, "09_spatial")
    out = logits(part, part.held_out, made.after)
    yield judge.agrees(made, out, "03_layers" if part.function == "mlp" else "09_spatial")
    yield from _claims(part, made)
    some = slice(0, 500)
    before, after = (
        judge.cross_entropy(logits(part, part.x[some], w), part.y[some])
        for w in (made.before, made.after)
    )
    yield judge.fell("the loss", before, after)
    right = judge.share(out.argmax(axis=1) == part.answers)
    what = f"right on {len(part.answers):,} images it has not seen"
    yield judge.at_least(what, right, REACH[part.function], chance=0.1)
    if part.function == "residual":
        mirrored = logits(part, part.held_out[..., ::-1], made.after)
        both = judge.share((out + mirrored).argmax(axis=1) == part.answers)
        what = "right, looking at each image and its mirror image"
        yield judge.at_least(what, both, REACH["residual"], name="with mirror image")


def _claims(part: Part, made: Made) -> Iterator[Finding]:
    """What the framework's evaluate() said of the images kept back, against NumPy."""
    kept = slice(len(part.x) - VALIDATION[part.function], None)
    out, labels = logits(part, part.x[kept], made.after), part.y[kept]
    found = judge.share(out.argmax(axis=1) == labels)
    said = made.history["val_accuracy"][-1]
    off = 2.5 / len(labels)
    yield judge.claimed(
        "the accuracy on images kept back", said, found, "07_training", off, name="claim accuracy"
    )
    loss, said = (
        judge.cross_entropy(out, labels, SMOOTHING[part.function]),
        made.history["val_loss"][-1],
    )
    off = 1e-3 + 1e-2 * loss
    yield judge.claimed("their loss", said, loss, "07_training", off, name="claim loss")


def compare(judged: dict[str, tuple[Part, Made]]) -> Iterator[Finding]:
    """The CNN against the MLP on identical photographs; NumPy has confirmed their outputs."""
    pair = [judged.get(f"cifar10 {network}") for network in ("mlp", "cnn")]
    if not all(pair):
        return
    one, two = (
        judge.share(made.outputs.argmax(axis=1) == part.answers)
        for part, made in filter(None, pair)
    )
    yield Finding(
        "cifar10 compared",
        two > one + 0.1,
        "the CNN sees more than the MLP",
        f"more than {one + 0.1:.2%}; the MLP has {one:.2%}",
        f"{two:.2%}",
        "09_spatial",
        "the same images, augmented and trained alike: the filters are the difference",
        two - one,
    )


def confusion(part: Part, made: Made) -> Array:
    """Counts (10, 10): the row is the class, the column what was seen."""
    seen = made.outputs.argmax(axis=1)
    return np.bincount(part.answers.astype(int) * 10 + seen, minlength=100).reshape(10, 10)
