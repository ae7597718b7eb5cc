"""What is timed: each function prepares some work and returns `run(n)`, which does it n times.

Ours runs on the learner's package that TINYTORCH points to; PyTorch does the same work as its own
users would write it (`torch`) or with the fastest settings we found (`best`).
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks import decode, networks

Run = Callable[[int], None]
BATCH, SIZES, CHAIN = 64, (784, 128, 64, 10), 100_000
# So small that the network stays as it was and every step costs the same: trained on a few batches
# for thousands of steps, gradients would vanish into denormal numbers, which processors do slowly.
RATE = 1e-6


def batches() -> list[tuple[np.ndarray, np.ndarray]]:
    """Sixteen batches of random inputs, normalised as images are, and classes."""
    rng = np.random.default_rng(1)
    images = rng.standard_normal((16, BATCH, SIZES[0]), dtype=np.float32)
    return list(zip(images, rng.integers(0, SIZES[-1], (16, BATCH))))


def repeated(step: Callable[[Any, Any], object], parts: list[tuple[Any, Any]]) -> Run:
    """`step` on one batch after the other."""

    def run(n: int) -> None:
        for i in range(n):
            step(*parts[i % len(parts)])

    return run


def mlp_ours(optimizer: str) -> Run:
    """One training step of the 784-128-64-10 network, as module 07 writes it."""
    from tinytorch.core import optimizers
    from tinytorch.core.activations import ReLU
    from tinytorch.core.layers import Linear, Sequential
    from tinytorch.core.losses import CrossEntropyLoss
    from tinytorch.core.tensor import Tensor, manual_seed
    from tinytorch.core.training import training_step

    manual_seed(0)
    a, b, c, d = SIZES
    model = Sequential(Linear(a, b), ReLU(), Linear(b, c), ReLU(), Linear(c, d))
    loss, driver = CrossEntropyLoss(), getattr(optimizers, optimizer)(model.parameters(), lr=RATE)
    parts = [(Tensor(x), Tensor(y)) for x, y in batches()]
    return repeated(lambda x, y: training_step(model, loss, driver, x, y), parts)


def mlp_torch(optimizer: str, **options: bool) -> Run:
    """The same step in PyTorch; `fused=True` is its fastest optimizer on a CPU."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    a, b, c, d = SIZES
    model = nn.Sequential(nn.Linear(a, b), nn.ReLU(), nn.Linear(b, c), nn.ReLU(), nn.Linear(c, d))
    loss_fn = nn.CrossEntropyLoss()
    driver = getattr(torch.optim, optimizer)(model.parameters(), lr=RATE, **options)

    def step(x: Any, y: Any) -> float:
        driver.zero_grad()
        loss = loss_fn(model(x), y)
        loss.backward()
        driver.step()
        return float(loss.item())

    return repeated(step, [(torch.from_numpy(x), torch.from_numpy(y)) for x, y in batches()])


def product(make: Callable[[np.ndarray], Any]) -> Run:
    """512 by 512 matrix product."""
    rng = np.random.default_rng(0)
    a, b = (make(rng.random((512, 512), dtype=np.float32)) for _ in range(2))

    def run(n: int) -> None:
        for _ in range(n):
            a @ b

    return run


def scalar(make: Callable[[float], Any]) -> Run:
    """One recorded multiplication of two numbers: the price of an operation itself."""
    a, b = make(1.5), make(0.5)

    def run(n: int) -> None:
        for _ in range(n):
            a * b

    return run


def chain(make: Callable[[float], Any]) -> Run:
    """100,000 recorded multiplications in a row, and backward through all of them."""

    def run(n: int) -> None:
        for _ in range(n):
            y = x = make(1.0)
            for _ in range(CHAIN):
                y = y * 1.00001
            y.backward()
            assert x.grad is not None

    return run


def our_array(values: np.ndarray) -> Any:
    from tinytorch.core.tensor import Tensor

    return Tensor(values)


def our_leaf(value: float) -> Any:
    from tinytorch.core.tensor import Tensor

    return Tensor(value, requires_grad=True)


def torch_array(values: np.ndarray) -> Any:
    import torch

    return torch.from_numpy(values)


def torch_leaf(value: float) -> Any:
    import torch

    return torch.tensor(value, requires_grad=True)


WORK: dict[str, dict[str, Callable[[], Run]]] = {
    "MLP step, SGD": {
        "ours": lambda: mlp_ours("SGD"),
        "torch": lambda: mlp_torch("SGD"),
        "best": lambda: mlp_torch("SGD", fused=True),
    },
    "MLP step, Adam": {
        "ours": lambda: mlp_ours("Adam"),
        "torch": lambda: mlp_torch("Adam"),
        "best": lambda: mlp_torch("Adam", fused=True),
    },
    "matmul 512": {
        "ours": lambda: product(our_array),
        "torch": lambda: product(torch_array),
    },
    "scalar multiply": {
        "ours": lambda: scalar(our_leaf),
        "torch": lambda: scalar(torch_leaf),
    },
    "chain of 100,000": {
        "ours": lambda: chain(our_leaf),
        "torch": lambda: chain(torch_leaf),
    },
    **networks.WORK,
    **decode.WORK,
}
