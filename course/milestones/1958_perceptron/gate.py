"""The judge of 1958: is the line that was learned a line that separates?

The points are drawn again here, on purpose: this file shares nothing with run.py but its numbers.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tito import data, judge
from tito.judge import Finding, Made, Options, Part

THREADS = 1  # the products are small


def parts(options: Options) -> list[Part]:
    """The three trainings, with 2,000 fresh points each (and 200 scans) to be judged on."""
    seen, unseen = 10 + options.seed, 20_010 + options.seed
    real = data.load_tinydigits()
    digits = _binary(real.train_images, real.train_labels)
    scans = _binary(real.test_images, real.test_labels)
    return [
        Part("line", "line", *_line(800, seen), *_line(2000, unseen)),
        Part("digits", "digits", *digits, *scans),
        Part("cross", "cross", *_cross(400, seen), *_cross(2000, unseen)),
    ]


def _line(n: int, seed: int) -> tuple[judge.Array, judge.Array]:
    rng = np.random.default_rng(seed)
    points = rng.uniform(-1, 1, (4 * n, 2))
    side = points @ np.array([0.6, 0.8]) - 0.1
    points, side = points[np.abs(side) > 0.1][:n], side[np.abs(side) > 0.1][:n]
    return points, (side > 0).astype(float)[:, None]


def _cross(n: int, seed: int) -> tuple[judge.Array, judge.Array]:
    rng = np.random.default_rng(seed)
    centres = np.array([[-0.6, -0.6], [0.6, 0.6], [-0.6, 0.6], [0.6, -0.6]])[np.arange(n) % 4]
    apart = (centres[:, :1] * centres[:, 1:] < 0).astype(float)
    return centres + rng.uniform(-0.25, 0.25, (n, 2)), apart


def _binary(images: judge.Array, labels: judge.Array) -> tuple[judge.Array, judge.Array]:
    kept = labels < 2
    return images[kept].reshape(kept.sum(), 64) / 16, labels[kept].astype(float)[:, None]


def verdict(part: Part, made: Made) -> Iterator[Finding]:
    """What must hold of one part."""
    shapes = {"weight": (1, part.x.shape[1]), "bias": (1,)}
    yield from judge.weights(made, shapes, free=("bias",))
    sums = judge.chain(part.held_out, made.after, "")
    yield _agrees(sums, made)
    right = judge.share((sums > 0) == part.answers)
    if part.name == "cross":
        yield from _stuck(part, made, right)
        return
    what = f"right on {len(part.answers):,} {'scans' if part.name == 'digits' else 'points'}"
    yield judge.at_least(f"{what} it has not seen", right, 0.99, "03_layers", chance=0.5)
    yield _margin(part, made)
    yield _claim(part, made)


def _agrees(sums: judge.Array, made: Made) -> Finding:
    """The neuron fires where its weighted sum is above 0; within 1e-5 of it float32 may differ."""
    clear = np.abs(sums) > 1e-5 * max(1.0, float(np.abs(sums).max()))
    same = made.outputs.shape == sums.shape and bool(
        ((made.outputs == 1) == (sums > 0))[clear].all()
    )
    firm = (
        bool(np.isin(made.outputs, (0, 1))[clear].all())
        if made.outputs.shape == sums.shape
        else False
    )
    return Finding(
        "outputs",
        same and firm,
        "it fires exactly where its weighted sum is above 0",
        f"0 or 1 for {len(sums):,} inputs, as NumPy says",
        "other answers",
        "02_activations",
        "what a neuron says must follow from its weights and its input alone",
    )


def _margin(part: Part, made: Made) -> Finding:
    """Distance of the training point closest to the line, counted negative on the wrong side."""
    sums = judge.chain(part.x, made.after, "")
    length = float(np.linalg.norm(made.after["weight"].astype(float)))
    margin = float(((2 * part.y - 1) * sums).min() / length)
    return Finding(
        "margin",
        margin > 0,
        "the training points lie on their own sides",
        "margin above 0",
        f"margin {margin:.4f}",
        "03_layers",
        "the rule ends only when no mistake is left",
        margin,
    )


def _claim(part: Part, made: Made) -> Finding:
    wrong = 1 - judge.share((judge.chain(part.x, made.after, "") > 0) == part.y)
    said = made.history["loss"][-1]
    return judge.claimed("the share left wrong", said, wrong, "04_losses", 1.5 / len(part.y))


def _stuck(part: Part, made: Made, right: float) -> Iterator[Finding]:
    """Where no line separates, the rule must not come to rest, and nothing may say otherwise."""
    least = min(made.history["mistakes"])
    yield Finding(
        "never at rest",
        least > 0,
        "no epoch without a mistake",
        "mistakes in every epoch",
        f"{least:.0f} mistakes in one of them",
        "01_tensor",
        "no line separates these clouds: who finds none wrong is not looking",
    )
    yield Finding(
        "stuck",
        right <= 0.76,
        f"right on {len(part.answers):,} points no line separates",
        "at most 75%: three corners of four",
        f"{right:.2%}",
        "03_layers",
        "a single layer is a line, and a line can have three corners right",
        right,
    )
    yield _claim(part, made)


def compare(judged: dict[str, tuple[Part, Made]]) -> Iterator[Finding]:
    """Nothing to compare between the parts: they are three different questions."""
    return iter(())
