"""The judge of 1969: is one layer stuck, and has the hidden layer learned?

The points are drawn again here, on purpose: this file shares nothing with run.py but its numbers.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tito import judge
from tito.judge import Finding, Made, Options, Part

CORNERS = np.array([[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]])
SHAPES: dict[str, dict[str, tuple[int, ...]]] = {
    "single": {"0.weight": (1, 2), "0.bias": (1,)},
    "hidden": {"0.weight": (8, 2), "0.bias": (8,), "2.weight": (1, 8), "2.bias": (1,)},
}
THREADS = 1  # the products are small


def parts(options: Options) -> list[Part]:
    """Both networks on the same 400 points, judged on the four corners and 2,000 fresh points."""
    x, y = _clouds(400, 10 + options.seed)
    fresh, answers = _clouds(2000, 20_010 + options.seed)
    held_out = np.concatenate([CORNERS, fresh])
    answers = np.concatenate([_differs(CORNERS), answers])
    return [Part(name, name, x, y, held_out, answers) for name in SHAPES]


def _differs(points: judge.Array) -> judge.Array:
    return (np.sign(points[:, :1]) != np.sign(points[:, 1:])).astype(float)


def _clouds(n: int, seed: int) -> tuple[judge.Array, judge.Array]:
    corners = CORNERS[np.arange(n) % 4]
    noise = np.random.default_rng(seed).uniform(-0.4, 0.4, (n, 2))
    return corners + noise, _differs(corners)


def logits(x: judge.Array, made: Made, weights: judge.Arrays) -> judge.Array:
    """The network's logits by NumPy, one or two layers."""
    names = ("0", "2") if "2.weight" in made.after else ("0",)
    return judge.chain(x, weights, *names, bend=np.tanh)


def verdict(part: Part, made: Made) -> Iterator[Finding]:
    """What must hold of one network."""
    yield from judge.weights(made, SHAPES[part.name])
    out = logits(part.held_out, made, made.after)
    yield judge.agrees(made, out)
    yield _claim(part, made)
    right = (out > 0) == part.answers
    if part.name == "single":
        share = judge.share(right)
        yield Finding(
            "stuck",
            share <= 0.76,
            "one layer is stuck",
            "at most 75%: three corners of four",
            f"{share:.2%}",
            "03_layers",
            "a line can have three corners right, not four",
            share,
        )
        return
    before, after = (
        judge.logistic_loss(logits(part.x, made, w), part.y) for w in (made.before, made.after)
    )
    yield judge.fell("the loss", before, after)
    yield judge.at_least(
        "the truth table, four corners right",
        judge.share(right[:4]),
        1.0,
        chance=0.5,
        name="corners",
    )
    yield judge.at_least(
        "right on 2,000 points it has not seen", judge.share(right[4:]), 1.0, chance=0.5
    )


def _claim(part: Part, made: Made) -> Finding:
    kept = part.x[300:], part.y[300:]
    found = judge.logistic_loss(logits(kept[0], made, made.after), kept[1])
    said = made.history["val_loss"][-1]
    return judge.claimed(
        "the validation loss", said, found, "07_training", 1e-3 + 1e-2 * found, name="claim loss"
    )


def compare(judged: dict[str, tuple[Part, Made]]) -> Iterator[Finding]:
    """Nothing beyond what each network must do by itself."""
    return iter(())
