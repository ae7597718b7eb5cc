"""The rows of modules 08 to 13: convolution, a CIFAR-10 training step, a GPT training step.

The CNN is the milestone of 1998's (3x3 convolutions 32-32-64-64-128, batch 128), the GPT 128 wide
with 4 layers and 4 heads, 16 texts of 128 characters out of 65. "best" is PyTorch with
channels_last images, or with its fused optimizer.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

Run = Callable[[int], None]
CONV = (128, 32, 32, 64)  # images, channels, side, filters: a middle layer of a CIFAR network
UNITS = ((3, 32, False), (32, 32, True), (32, 64, False), (64, 64, True), (64, 128, True))
TEXTS, LENGTH, VOCABULARY, WIDTH, HEADS, LAYERS = 16, 128, 65, 128, 4, 4
RATE = 1e-6  # so small that every step costs the same, see work.py


def repeat(step: Callable[[], object]) -> Run:
    """`step`, n times."""

    def run(n: int) -> None:
        for _ in range(n):
            step()

    return run


# Convolution ------------------------------------------------------------------------------------


def conv_arrays() -> tuple[np.ndarray, ...]:
    """Images, filters, and a gradient of the result, padding 1."""
    n, c, side, filters = CONV
    rng = np.random.default_rng(0)
    shapes = ((n, c, side, side), (filters, c, 3, 3), (n, filters, side, side))
    x, w, g = (rng.standard_normal(shape, dtype=np.float32) for shape in shapes)
    return x, w * 0.1, g


def conv_ours() -> Run:
    """3x3 convolution, forward and both gradients."""
    from tinytorch.core.tensor import Tensor
    from tinytorch.nn.conv import conv2d

    x, w, g = conv_arrays()
    images, filters = Tensor(x, requires_grad=True), Tensor(w, requires_grad=True)

    def step() -> None:
        images.grad = filters.grad = None
        conv2d(images, filters, None, stride=1, padding=1).backward(g)

    return repeat(step)


def conv_torch(channels_last: bool = False) -> Run:
    """The same in PyTorch."""
    import torch

    layout = torch.channels_last if channels_last else torch.contiguous_format
    x, w, g = (torch.from_numpy(a).to(memory_format=layout) for a in conv_arrays())
    images, filters = x.requires_grad_(), w.requires_grad_()

    def step() -> None:
        images.grad = filters.grad = None
        torch.nn.functional.conv2d(images, filters, padding=1).backward(g)

    return repeat(step)


# The CIFAR network ------------------------------------------------------------------------------


def photographs() -> tuple[np.ndarray, np.ndarray]:
    """128 random images of 32x32 and their classes."""
    rng = np.random.default_rng(1)
    return rng.standard_normal((128, 3, 32, 32), dtype=np.float32), rng.integers(0, 10, 128)


def cnn_ours() -> Run:
    """One training step of the milestone's CNN, SGD with Nesterov momentum."""
    from tinytorch.core.activations import ReLU
    from tinytorch.core.layers import Flatten, Linear, Sequential
    from tinytorch.core.losses import CrossEntropyLoss
    from tinytorch.core.optimizers import SGD
    from tinytorch.core.tensor import Tensor, manual_seed
    from tinytorch.core.training import training_step
    from tinytorch.nn.conv import BatchNorm2d, Conv2d, MaxPool2d

    manual_seed(0)
    layers: list[Any] = []
    for inputs, outputs, pool in UNITS:
        layers += [Conv2d(inputs, outputs, 3, padding=1, bias=False)]
        layers += [MaxPool2d(2)] * pool + [BatchNorm2d(outputs), ReLU()]
    model = Sequential(*layers, Flatten(), Linear(128 * 16, 10))
    driver = SGD(model.parameters(), lr=RATE, momentum=0.9, nesterov=True, weight_decay=5e-4)
    loss, (x, y) = CrossEntropyLoss(label_smoothing=0.1), map(Tensor, photographs())
    return repeat(lambda: training_step(model, loss, driver, x, y))


def cnn_torch(best: bool = False) -> Run:
    """The same step in PyTorch."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    layers: list[Any] = []
    for inputs, outputs, pool in UNITS:
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)]
        layers += [nn.MaxPool2d(2)] * pool + [nn.BatchNorm2d(outputs), nn.ReLU()]
    layout = torch.channels_last if best else torch.contiguous_format
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(128 * 16, 10)).to(memory_format=layout)
    driver = torch.optim.SGD(model.parameters(), lr=RATE, momentum=0.9, nesterov=True,
                             weight_decay=5e-4, fused=best)  # fmt: skip
    loss_fn = nn.CrossEntropyLoss(label_smoothing=0.1)
    images, classes = photographs()
    x, y = torch.from_numpy(images).to(memory_format=layout), torch.from_numpy(classes)

    def step() -> float:
        driver.zero_grad()
        loss = loss_fn(model(x), y)
        loss.backward()
        driver.step()
        return float(loss.item())

    return repeat(step)


# GPT --------------------------------------------------------------------------------------------


def texts() -> tuple[np.ndarray, np.ndarray]:
    """Random characters and the ones that follow them, (16, 128) each."""
    rng = np.random.default_rng(2)
    tokens = rng.integers(0, VOCABULARY, (TEXTS, LENGTH + 1))
    return tokens[:, :-1], tokens[:, 1:]


def gpt_ours() -> Run:
    """One training step of a small GPT with AdamW."""
    from tinytorch.core.losses import CrossEntropyLoss
    from tinytorch.core.optimizers import AdamW
    from tinytorch.core.tensor import manual_seed
    from tinytorch.nn.transformer import GPT, GPTConfig

    manual_seed(0)
    model = GPT(GPTConfig(VOCABULARY, LENGTH, dim=WIDTH, heads=HEADS, layers=LAYERS))
    driver, loss_fn = AdamW(model.parameters(), lr=RATE), CrossEntropyLoss()
    tokens, following = texts()

    def step() -> float:
        driver.zero_grad()
        logits = model(tokens)
        loss = loss_fn(logits.reshape(-1, VOCABULARY), following.reshape(-1))
        loss.backward()
        driver.step()
        return loss.item()

    return repeat(step)


def torch_block() -> Any:
    """A GPT's block in PyTorch, as nanoGPT writes it, with PyTorch's own attention.

    forward(x) is causal; forward(x, keys, values, start) continues at `start` of a cache.
    """
    from torch import nn

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
            self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
            self.mlp = nn.Sequential(
                nn.Linear(WIDTH, 4 * WIDTH), nn.GELU("tanh"), nn.Linear(4 * WIDTH, WIDTH)
            )

        def forward(self, x: Any, keys: Any = None, values: Any = None, start: int = 0) -> Any:
            b, t, d = x.shape
            q, k, v = (
                part.view(b, t, HEADS, d // HEADS).transpose(1, 2)
                for part in self.qkv(self.norm1(x)).split(d, dim=2)
            )
            if keys is not None:
                end = start + t
                keys[:, :, start:end], values[:, :, start:end] = k, v
                k, v = keys[:, :, :end], values[:, :, :end]
            y = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=t > 1)
            x = x + self.out(y.transpose(1, 2).reshape(b, t, d))
            return x + self.mlp(self.norm2(x))

    return Block()


def gpt_torch(fused: bool = False) -> Run:
    """The same network and step in PyTorch, as nanoGPT writes it, with PyTorch's own attention."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    embed, place = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(LENGTH, WIDTH)
    body = nn.Sequential(*[torch_block() for _ in range(LAYERS)], nn.LayerNorm(WIDTH))
    head = nn.Linear(WIDTH, VOCABULARY, bias=False)
    head.weight = embed.weight
    parameters = [*embed.parameters(), *place.parameters(), *body.parameters()]
    driver = torch.optim.AdamW(parameters, lr=RATE, fused=fused)
    tokens, following = map(torch.from_numpy, texts())
    where = torch.arange(LENGTH)

    def step() -> float:
        driver.zero_grad()
        logits = head(body(embed(tokens) + place(where)))
        loss = nn.functional.cross_entropy(logits.view(-1, VOCABULARY), following.reshape(-1))
        loss.backward()
        driver.step()
        return float(loss.item())

    return repeat(step)


WORK: dict[str, dict[str, Callable[[], Run]]] = {
    "conv 3x3": {
        "ours": conv_ours,
        "torch": conv_torch,
        "best": lambda: conv_torch(channels_last=True),
    },
    "CNN step": {"ours": cnn_ours, "torch": cnn_torch, "best": lambda: cnn_torch(best=True)},
    "GPT step": {"ours": gpt_ours, "torch": gpt_torch, "best": lambda: gpt_torch(fused=True)},
}
