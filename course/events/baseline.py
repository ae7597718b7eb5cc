"""What `tito benchmark baseline` times: small, always the same, and checked before it counts.

Each function prepares one benchmark and returns its Work. What baseline.toml says a benchmark
`needs` is built when its function is called; `built` is the last module that is. Fixed sizes and
seeds: version 1 never changes, a better suite becomes version 2 with a reference of its own.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

SIZE = 256  # rows and columns of the square matrices
NUMBERS = 2**17  # of the element-wise work: 512 KB
BATCH, PIXELS, CLASSES = 64, 784, 10  # the MLP's images
IMAGES, CHANNELS, SIDE, FILTERS = 4, 16, 16, 32
TEXTS, HEADS, TOKENS, WIDTH = 4, 4, 64, 32
PROMPT, WRITTEN, VOCABULARY = 24, 8, 64


class Work(NamedTuple):
    """What is timed, what its result must look like ("" if it does), and whose code does it."""

    run: Callable[[], Any]
    wrong: Callable[[Any], str]
    how: str = "NumPy"


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    """Normal numbers, float32, the same ones every time."""
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def differs(what: str, got: Any, expected: Any, tolerance: float = 1e-3) -> str:
    """A sentence if the arrays are not alike."""
    got, expected = np.asarray(got, np.float64), np.asarray(expected, np.float64)
    if got.shape != expected.shape:
        return f"{what} has shape {got.shape}, expected {expected.shape}"
    gap = float(np.abs(got - expected).max())
    return "" if gap <= tolerance * (1 + np.abs(expected).max()) else f"{what} is off by {gap:.2g}"


# NumPy alone: the machine -------------------------------------------------------------------------


def matmul(built: int) -> Work:
    """A product of two square matrices."""
    a, b = normal(SIZE, SIZE), normal(SIZE, SIZE, seed=1)
    out = np.empty_like(a)
    row = a[7].astype(np.float64) @ b
    return Work(lambda: np.matmul(a, b, out=out), lambda got: differs("row 7", got[7], row))


def elementwise(built: int) -> Work:
    """sqrt(x * x + 1) of many numbers, in place."""
    x = normal(NUMBERS)
    out = np.empty_like(x)

    def run() -> np.ndarray:
        np.multiply(x, x, out=out)
        np.add(out, 1, out=out)
        return np.sqrt(out, out=out)

    return Work(run, lambda got: differs("the result", got, np.sqrt(x.astype(np.float64) ** 2 + 1)))


def reduction(built: int) -> Work:
    """Sums over rows and over columns, and the largest of all."""
    x = normal(SIZE, SIZE)

    def run() -> tuple[Any, ...]:
        return x.sum(axis=0), x.sum(axis=1), x.max()

    def wrong(got: tuple[Any, ...]) -> str:
        exact = x.astype(np.float64)
        return (
            differs("the sum of rows", got[0], exact.sum(axis=0))
            or differs("the sum of columns", got[1], exact.sum(axis=1))
            or differs("the largest", got[2], exact.max())
        )

    return Work(run, wrong)


# The framework ------------------------------------------------------------------------------------


def mlp_step(built: int) -> Work:
    """One step of SGD for 784-128-64-10 on 64 images."""
    from tinytorch import SGD, CrossEntropyLoss, Linear, ReLU, Sequential, Tensor

    rate, images = 1e-3, Tensor(normal(BATCH, PIXELS))
    labels = np.random.default_rng(1).integers(0, CLASSES, BATCH)
    last = Linear(64, CLASSES)
    net = Sequential(Linear(PIXELS, 128), ReLU(), Linear(128, 64), ReLU(), last)
    optimizer, loss = SGD(net.parameters(), lr=rate), CrossEntropyLoss()

    def step() -> Any:
        optimizer.zero_grad()
        found = loss(net(images), labels)
        found.backward()
        optimizer.step()
        return found

    def wrong(_: Any) -> str:
        logits, before = net(images).data.astype(np.float64), last.bias.data.astype(np.float64)
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
        slope = (shares - np.eye(CLASSES)[labels]).mean(axis=0)
        step()
        return differs("the last bias's step", (before - last.bias.data) / rate, slope)

    return Work(step, wrong, "Linear, ReLU, CrossEntropyLoss, SGD")


def convolution(built: int) -> Work:
    """3x3, 16 to 32 channels, 16x16 pixels, forward and backward."""
    from tinytorch import Conv2d, Tensor

    x = Tensor(normal(IMAGES, CHANNELS, SIDE, SIDE), requires_grad=True)
    layer = Conv2d(CHANNELS, FILTERS, 3, padding=1)
    g = np.ones((IMAGES, FILTERS, SIDE, SIDE), np.float32)

    def run() -> Any:
        x.grad = layer.weight.grad = layer.bias.grad = None
        out = layer(x)
        out.backward(g)
        return out

    def wrong(out: Any) -> str:
        weight = layer.weight.data.astype(np.float64)
        wide = np.pad(x.data, ((0, 0), (0, 0), (1, 1), (1, 1))).astype(np.float64)
        pixel = (wide[1, :, 5:8, 7:10] * weight).sum(axis=(1, 2, 3)) + layer.bias.data
        slope = [[wide[:, :, i : i + SIDE, j : j + SIDE].sum(axis=(0, 2, 3)) for j in range(3)]
                 for i in range(3)]  # fmt: skip
        return (
            differs("a pixel", out.data[1, :, 5, 7], pixel)
            or differs("the filters' gradient", layer.weight.grad[3], np.moveaxis(slope, 2, 0))
            or differs("the images' gradient", x.grad[2, :, 8, 8], weight.sum(axis=(0, 2, 3)))
        )

    return Work(run, wrong, "Conv2d")


def attention(built: int) -> Work:
    """Causal attention of 4 heads, 64 tokens each, forward and backward."""
    from tinytorch import Tensor, scaled_dot_product_attention

    shape = (TEXTS, HEADS, TOKENS, WIDTH)
    q, k, v = (Tensor(normal(*shape, seed=i), requires_grad=True) for i in range(3))
    mask, g = np.tri(TOKENS, dtype=bool), np.ones(shape, np.float32)

    def run() -> Any:
        q.grad = k.grad = v.grad = None
        out = scaled_dot_product_attention(q, k, v, mask)
        out.backward(g)
        return out

    def wrong(out: Any) -> str:
        scores = np.einsum("...td,...sd->...ts", q.data, k.data, dtype=np.float64) / WIDTH**0.5
        weights = np.exp(np.where(mask, scores, -np.inf))
        weights /= weights.sum(axis=-1, keepdims=True)
        seen = weights.sum(axis=-2)[..., None] * np.ones(WIDTH)
        return differs("the result", out.data, weights @ v.data) or differs(
            "the values' gradient", v.grad, seen
        )

    return Work(run, wrong, "scaled_dot_product_attention")


def decode(built: int) -> Work:
    """A GPT reads 24 tokens and writes 8, always the likeliest: with a cache, once there is one."""
    import tinytorch
    from tinytorch import GPT, GPTConfig, Tensor, manual_seed

    how = "generate_cached" if built >= 17 else "generate"
    write = getattr(tinytorch, how)
    manual_seed(0)
    model = GPT(GPTConfig(VOCABULARY, PROMPT + WRITTEN, dim=64, heads=4, layers=2)).eval()
    prompt = np.random.default_rng(2).integers(0, VOCABULARY, PROMPT).tolist()

    def wrong(tokens: list[int]) -> str:
        if len(tokens) != PROMPT + WRITTEN or list(tokens[:PROMPT]) != prompt:
            return f"{len(tokens)} tokens came back, expected {PROMPT} and {WRITTEN} new ones"
        logits = model(Tensor(np.array([tokens[:-1]]))).data[0]
        best = logits.max(axis=1) - logits[np.arange(len(logits)), tokens[1:]]
        return differs("the likeliest token's lead", best[PROMPT - 1 :], np.zeros(WRITTEN))

    return Work(lambda: write(model, prompt, WRITTEN, temperature=0.0), wrong, how)
