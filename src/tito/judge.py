"""What the gates of the milestones are written with: findings, and NumPy of their own.

A gate judges weights, not words. It takes the arrays that a run of the learner's framework left
behind, computes everything again in float64 on data the framework never had the answers to, and
compares. It yields one finding at a time and is not asked further after one that is not ok. Nothing
here imports `tinytorch`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Arrays = Mapping[str, Array]


@dataclass(frozen=True)
class Options:
    """What a run may be asked: its seed, its epochs (None: the usual), which data set.

    `long` adds the trainings that take longer than a coffee; `accelerate` trains on the kernels of
    the learner's module 18.
    """

    seed: int = 0
    epochs: int | None = None
    data: str = "auto"
    long: bool = False
    accelerate: bool = False


@dataclass(frozen=True)
class Part:
    """One training of a milestone: the function of run.py, and its data.

    `x`, `y` and `held_out` are handed to the framework; `answers`, those of `held_out`, never are.
    With `resumes`, the function takes `checkpoint`, a file: it saves the run there after every
    epoch, and goes on from it. With `extra`, it takes these arrays by name, a dict, as well.
    """

    name: str
    function: str
    x: Array
    y: Array
    held_out: Array
    answers: Array
    resumes: bool = False
    extra: Arrays | None = None


@dataclass(frozen=True)
class Made:
    """What a part left behind: weights before and after, outputs for `held_out`, what it claims."""

    before: Arrays
    after: Arrays
    outputs: Array
    history: Mapping[str, Sequence[float]]
    seconds: float = 0.0
    peak_mb: float = 0.0  # the largest the process has been so far, in units of 10^6 bytes


@dataclass(frozen=True)
class Finding:
    """One thing a gate looked at. `guilty` is the module to look at when it is not `ok`."""

    name: str
    ok: bool
    what: str
    expected: str
    got: str
    guilty: str = ""
    why: str = ""
    value: float | None = field(default=None, compare=False)

    def as_dict(self) -> dict[str, Any]:
        return {key: value for key, value in vars(self).items() if value not in ("", None)}


# Arithmetic of its own ---------------------------------------------------------------------------


def chain(x: Array, weights: Arrays, *names: str, bend: Any = None) -> Array:
    """x through the linear layers `names` of `weights`, with `bend` between them, in float64.

    The name "" is a network that is one layer.
    """
    out = np.asarray(x, dtype=np.float64)
    for position, name in enumerate(names):
        if position and bend is not None:
            out = bend(out)
        w, b = (weights[f"{name}.{kind}".lstrip(".")] for kind in ("weight", "bias"))
        out = out @ w.astype(np.float64).T + b.astype(np.float64)
    return out


def relu(x: Array) -> Array:
    return np.maximum(x, 0.0)


def conv2d(x: Array, weight: Array, padding: int = 0) -> Array:
    """x (N, C, H, W) with weight (O, C, K, K): one product for each of the K * K places."""
    kernel = weight.shape[-1]
    around = [(0, 0), (0, 0), (padding, padding), (padding, padding)]
    x, high, wide = np.pad(x, around), *(n + 2 * padding - kernel + 1 for n in x.shape[2:])
    out = np.zeros((len(x), len(weight), high * wide), dtype=np.result_type(x, weight))
    for i, j in np.ndindex(kernel, kernel):
        seen = x[:, :, i : i + high, j : j + wide].reshape(len(x), x.shape[1], -1)
        out += weight[:, :, i, j] @ seen  # (O, C) @ (N, C, H * W) -> (N, O, H * W)
    return out.reshape(len(x), len(weight), high, wide)


def max_pool(x: Array) -> Array:
    """Largest number of every 2x2 square; of x (N, C, H, W) an odd last row or column is left."""
    n, c, h, w = x.shape
    even = x[:, :, : h // 2 * 2, : w // 2 * 2]
    squares: Array = even.reshape(n, c, h // 2, 2, w // 2, 2)
    return squares.max(axis=(3, 5))  # type: ignore[no-any-return]


def batch_norm(x: Array, weights: Arrays, name: str, eps: float = 1e-5) -> Array:
    """x (N, C, H, W) by the running statistics of the layer `name`, scaled and shifted."""
    mean, var, weight, bias = (
        weights[f"{name}.{kind}"][:, None, None]
        for kind in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / np.sqrt(var + eps) * weight + bias


def layer_norm(x: Array, weights: Arrays, name: str, eps: float = 1e-5) -> Array:
    """Rows of x (..., D) with mean 0 and variance 1, scaled and shifted by the layer `name`."""
    x = x - x.mean(axis=-1, keepdims=True)
    size = np.sqrt((x * x).mean(axis=-1, keepdims=True) + eps)
    normal: Array = x / size * weights[f"{name}.weight"] + weights[f"{name}.bias"]
    return normal


def gelu(x: Array) -> Array:
    """x times the share of a normal distribution below x, to 3e-7.

    Source: Abramowitz and Stegun 1964, 7.1.28.
    """
    z = np.minimum(np.abs(x), 12) * (1 / 2**0.5)
    above = 4.30638e-5 * z
    for coefficient in (2.765672e-4, 1.520143e-4, 9.2705272e-3, 4.22820123e-2, 7.05230784e-2):
        above += coefficient
        above *= z
    above = 0.5 / (1 + above) ** 16  # share above |x|
    gated: Array = x * np.where(x < 0, above, 1 - above)
    return gated


def softmax(x: Array) -> Array:
    """Shares along the last axis; -inf gets none."""
    powers = np.exp(x - x.max(axis=-1, keepdims=True))
    shares: Array = powers / powers.sum(axis=-1, keepdims=True)
    return shares


def cross_entropy(logits: Array, classes: Array, smoothing: float = 0.0) -> float:
    """Mean of -log softmax(row)[class]; with smoothing, that share goes to all classes alike."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    norm = np.log(np.exp(shifted).sum(axis=1))
    right = norm - shifted[np.arange(len(classes)), classes]
    return float(((1 - smoothing) * right + smoothing * (norm - shifted.mean(axis=1))).mean())


def logistic_loss(logits: Array, targets: Array) -> float:
    """Mean binary cross-entropy of logits and targets of 0 and 1."""
    losses = np.maximum(logits, 0) - logits * targets + np.log1p(np.exp(-np.abs(logits)))
    return float(losses.mean())


def share(right: Array) -> float:
    """Share of True."""
    return float(np.mean(right))


# Findings ----------------------------------------------------------------------------------------


def weights(
    made: Made, shapes: Mapping[str, tuple[int, ...]], free: Sequence[str] = ()
) -> Iterator[Finding]:
    """The run reports exactly these weights, all finite, and every one of them has moved.

    Those in `free` need not have: they are fixed, or move by whole steps and may have come back.
    """
    told = {name: tuple(np.shape(array)) for name, array in made.after.items()}
    whole = told == dict(shapes) and set(made.before) == set(shapes)
    yield Finding(
        "weights",
        whole,
        "the network has the weights it should have",
        _listed(shapes),
        _listed(told),
        "03_layers",
        "state_dict() names every parameter of every layer",
    )
    if not whole:
        return
    lost = [name for name, array in made.after.items() if not np.isfinite(array).all()]
    yield Finding(
        "finite",
        not lost,
        "every weight is a finite number",
        "finite",
        f"nan or inf in {', '.join(lost)}",
        "06_optimizers",
        "steps that grow without end leave the range of float32",
    )
    still = [name for name in shapes if name not in free and not _distance(made, name) > 1e-6]
    yield Finding(
        "moved",
        not still,
        "every layer's weights moved",
        "all moved",
        f"{', '.join(still)} as before the training",
        "06_optimizers",
        "a parameter without a gradient, or that the optimizer does not know, stays",
    )


def turned(made: Made, names: Sequence[str], guilty: str, kind: str = "filter") -> Finding:
    """Every row of the weights `names` points elsewhere than before, not only shorter.

    Weight decay shortens a row that never gets a gradient; a gradient turns it. A row of a
    convolution is a filter; `kind` is what it is called.
    """
    still = []
    for name in names:
        before, after = (
            array.reshape(len(array), -1).astype(float)
            for array in (made.before[name], made.after[name])
        )
        lengths = np.linalg.norm(before, axis=1) * np.linalg.norm(after, axis=1)
        alike = (before * after).sum(axis=1) / np.maximum(lengths, 1e-12)
        still += [f"{name}[{i}]" for i in np.flatnonzero(alike > 1 - 1e-5)]
    count = sum(len(made.after[name]) for name in names)
    return Finding(
        f"{kind}s",
        not still,
        f"every {kind} moved",
        f"all {count} turned",
        f"{len(still)} did not, such as {', '.join(still[:3])}",
        guilty,
        f"a {kind} that no gradient reaches stays as it was drawn",
    )


def _listed(shapes: Mapping[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{name} {shape}" for name, shape in shapes.items()) or "none"


def _distance(made: Made, name: str) -> float:
    return float(np.linalg.norm(made.after[name].astype(float) - made.before[name].astype(float)))


def agrees(made: Made, outputs: Array, guilty: str = "03_layers") -> Finding:
    """The framework's outputs for the held-out rows are those of NumPy with the same weights."""
    same_shape = made.outputs.shape == outputs.shape
    scale = 1e-3 * max(1.0, float(np.abs(outputs).max(initial=0.0)))
    gap = float(np.abs(made.outputs - outputs).max(initial=0.0)) if same_shape else np.inf
    got = f"they differ by up to {gap:.3g}" if same_shape else f"shape {made.outputs.shape}"
    return Finding(
        "outputs",
        gap <= scale,
        "NumPy gets the same outputs from the same weights",
        f"shape {outputs.shape}, equal within {scale:.2g}",
        got,
        guilty,
        "what a network says must follow from its weights and its input alone",
    )


def fell(what: str, before: float, after: float, guilty: str = "06_optimizers") -> Finding:
    """The loss of the weights after the training is below that of the weights before."""
    ok = after < 0.9 * before
    return Finding(
        "loss",
        ok,
        f"{what} fell",
        f"well below {before:.3f}",
        f"{after:.3f}",
        guilty,
        "computed again from the weights before and after",
        after,
    )


def at_least(
    what: str,
    value: float,
    limit: float,
    guilty: str = "06_optimizers",
    chance: float | None = None,
    name: str = "accuracy",
) -> Finding:
    """A share of right answers that must be reached."""
    guess = "" if chance is None else f", guessing gives {chance:.0%}"
    return Finding(
        name,
        value >= limit,
        what,
        f"at least {limit:.0%}{guess}",
        f"{value:.2%}",
        guilty,
        "counted by NumPy on rows whose answers the framework never had",
        value,
    )


def claimed(
    what: str, said: float, found: float, guilty: str, tolerance: float, name: str = "claim"
) -> Finding:
    """A figure the framework reported equals the one recomputed from its weights."""
    ok = abs(said - found) <= tolerance
    return Finding(
        name,
        ok,
        f"{what} as reported is what NumPy counts",
        f"{found:.4f}",
        f"{said:.4f} reported",
        guilty,
        "computed again by NumPy from the same weights on the same rows",
    )
