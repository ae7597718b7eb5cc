"""Module 09 against PyTorch: convolution, pooling, batch normalisation, and a CNN's training steps.

The table runs each case on both libraries (see oracles.py): value, shape, float32, every gradient.
"""

from itertools import product

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tinytorch.core.activations import ReLU
from tinytorch.core.layers import Linear, Sequential
from tinytorch.core.losses import CrossEntropyLoss
from tinytorch.core.optimizers import SGD, Adam
from tinytorch.core.tensor import Tensor, manual_seed
from tinytorch.nn.conv import (
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    GlobalAvgPool2d,
    MaxPool2d,
    avg_pool2d,
    batch_norm,
    conv2d,
    conv2d_explicit,
    conv2d_explicit_backward,
    max_pool2d,
)

from tests.oracles import OURS, Case, array, assert_close, compare

SIZES = [(7, 7), (8, 5), (9, 6)]
# Sums of up to 75 products of size 1, and of 200 for the weights' gradients, in another order.
LOOSE = {"rtol": 1e-4, "atol": 2e-5}


def _convolve(stride, padding, with_bias=True):
    def run(lib, x, weight, bias=None):
        op = conv2d if lib is OURS else F.conv2d
        return op(x, weight, bias, stride=stride, padding=padding)

    return run


CONVOLUTIONS = [
    Case(
        f"conv {k}x{k} on {h}x{w} stride {s} padding {p}",
        _convolve(s, p),
        ((5, 3, h, w), (4, 3, k, k), (4,)),
        **LOOSE,
    )
    for s, p, k, (h, w) in product((1, 2, 3), (0, 1, 2), (1, 2, 3, 5), SIZES)
] + [
    Case(f"conv {name}", _convolve(s, p), shapes, **LOOSE)
    for name, s, p, shapes in [
        ("without bias", 1, 1, ((2, 3, 5, 5), (4, 3, 3, 3))),
        ("without bias, stride 2", 2, 0, ((2, 3, 5, 5), (4, 3, 3, 3))),
        ("2x3 kernel", 1, 0, ((2, 2, 5, 6), (3, 2, 2, 3), (3,))),
        ("1x5 kernel, stride 2, padding 2", 2, 2, ((2, 2, 4, 7), (3, 2, 1, 5), (3,))),
        ("kernel as large as the picture", 1, 0, ((3, 2, 4, 5), (6, 2, 4, 5), (6,))),
        ("one pixel", 1, 0, ((2, 3, 1, 1), (4, 3, 1, 1), (4,))),
        ("one pixel, padding 1", 1, 1, ((1, 1, 1, 1), (1, 1, 3, 3), (1,))),
        ("one channel, one filter", 1, 0, ((1, 1, 6, 6), (1, 1, 3, 3), (1,))),
        ("padding larger than the kernel", 1, 4, ((1, 2, 3, 3), (2, 2, 2, 2), (2,))),
        ("stride larger than the kernel", 4, 1, ((2, 2, 9, 9), (2, 2, 2, 2), (2,))),
        ("an edge that no window reaches", 3, 0, ((2, 2, 9, 10), (2, 2, 2, 2), (2,))),
        ("33 pictures", 2, 1, ((33, 2, 4, 4), (3, 2, 3, 3), (3,))),
    ]
]

STEPS = {"(2,)": (2,), "(2, 1)": (2, 1), "(3, 2)": (3, 2), "(3, 2, 1)": (3, 2, 1)}
STEPS |= {"(2, 2, 1)": (2, 2, 1), "(3, 1, 1)": (3, 1, 1), "(2, 3)": (2, 3), "(1, 2)": (1, 2)}


def _pool(name, kernel, stride=None, padding=0):
    ours = {"max": max_pool2d, "avg": avg_pool2d}[name]
    theirs = {"max": F.max_pool2d, "avg": F.avg_pool2d}[name]
    return lambda lib, x: (ours if lib is OURS else theirs)(
        x, kernel, stride=stride, padding=padding
    )


POOLINGS = [
    Case(f"{name} pool {text} on {h}x{w}", _pool(name, *steps), ((2, 3, h, w),))
    for name, (text, steps), (h, w) in product(("max", "avg"), STEPS.items(), SIZES)
]
_rng = np.random.default_rng(3)
TIES = [
    Case(f"max pool {text} of ties, {kind}", _pool("max", *steps), (pictures,))
    for text, steps in STEPS.items()
    for kind, pictures in {
        "0 to 2": array(_rng.integers(0, 3, (2, 3, 7, 6))),
        "all equal": np.zeros((1, 2, 6, 6), np.float32),
        "all below 0": array(-1.0 - _rng.integers(0, 2, (2, 2, 6, 7))),
    }.items()
]


def _normalise(eps, moving=None):
    """Batch normalisation as a function of x, weight and bias; `moving`: the statistics in use."""

    def run(lib, x, weight, bias):
        if lib is not OURS:
            mean, var = (torch.tensor(a) for a in moving) if moving else (None, None)
            return F.batch_norm(x, mean, var, weight, bias, not moving, eps=eps)
        mean, var = moving or (x.data.mean(axis=(0, 2, 3)), x.data.var(axis=(0, 2, 3)))
        return batch_norm(x, weight, bias, mean, var, eps=eps, training=not moving)

    return run


NORMS = [
    Case(f"batch norm {shape} eps {eps}", _normalise(eps), (shape, shape[1:2], shape[1:2]), **LOOSE)
    for shape in [(6, 4, 5, 3), (2, 3, 1, 1), (1, 2, 4, 4), (64, 2, 1, 1), (3, 1, 2, 7)]
    for eps in (1e-5, 0.1)
] + [
    Case(
        f"batch norm in use {shape}",
        _normalise(1e-5, (array([0.5, -1.0, 2.0]), array([2.0, 0.5, 1.0]))),
        (shape, (3,), (3,)),
        **LOOSE,
    )
    for shape in [(4, 3, 2, 5), (1, 3, 1, 1)]
]


@pytest.mark.parametrize("case", CONVOLUTIONS + POOLINGS + TIES + NORMS, ids=lambda case: case.id)
def test_same_values_and_gradients(case):
    compare(case)


# The learner's loops, which everything else in the module is compared with


@pytest.mark.parametrize("stride, padding, kernel", list(product((1, 2), (0, 1), (1, 2, 3))))
def test_seven_loops(stride, padding, kernel):
    rng = np.random.default_rng(kernel)
    shapes = (2, 2, 5, 4), (3, 2, kernel, kernel), (3,)
    arrays = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
    leaves = [torch.tensor(a, requires_grad=True) for a in arrays]
    wanted = F.conv2d(*leaves, stride=stride, padding=padding)
    out = conv2d_explicit(*arrays, stride, padding)
    assert_close("value", out, wanted.detach().numpy(), **LOOSE)
    g = rng.standard_normal(out.shape).astype(np.float32)
    wanted.backward(torch.tensor(g))
    for name, mine, theirs in zip(
        ("x", "weight", "bias"),
        conv2d_explicit_backward(g, *arrays[:2], stride, padding),
        leaves,
    ):
        assert_close(f"gradient of {name}", mine, theirs.grad.numpy(), **LOOSE)


# Layers


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kernel", [1, 3, (2, 5)])
def test_conv_layer_has_the_same_parameters_and_range(kernel, bias):
    manual_seed(0)
    ours, theirs = Conv2d(6, 64, kernel, bias=bias), torch.nn.Conv2d(6, 64, kernel, bias=bias)
    mine, its = dict(ours.named_parameters()), dict(theirs.named_parameters())
    assert [(n, p.shape) for n, p in mine.items()] == [(n, tuple(p.shape)) for n, p in its.items()]
    for name, parameter in mine.items():
        limit = its[name].abs().max().item()
        assert np.abs(parameter.data).max() == pytest.approx(limit, rel=0.1)


@pytest.mark.parametrize("momentum", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("shape", [(6, 4, 5, 3), (3, 4, 1, 1), (1, 4, 2, 2)])
def test_running_statistics_follow_pytorchs(shape, momentum):
    ours = BatchNorm2d(4, momentum=momentum)
    theirs = torch.nn.BatchNorm2d(4, momentum=momentum)
    rng = np.random.default_rng(5)
    for step in range(4):
        x = (rng.standard_normal(shape) * (step + 1) + 3 * step).astype(np.float32)
        assert_close(
            "value", ours(Tensor(x)).data, theirs(torch.tensor(x)).detach().numpy(), 1e-4, 1e-4
        )
        for name in ("running_mean", "running_var"):
            assert_close(name, getattr(ours, name).data, getattr(theirs, name).numpy(), 1e-4, 1e-5)
    ours.eval()
    theirs.eval()
    for _ in range(2):
        x = rng.standard_normal(shape).astype(np.float32)
        assert_close(
            "in use", ours(Tensor(x)).data, theirs(torch.tensor(x)).detach().numpy(), 1e-4, 1e-4
        )
    assert_close("unmoved", ours.running_mean.data, theirs.running_mean.numpy(), 1e-4, 1e-5)


ERRORS = {
    "one value per channel": (
        lambda: BatchNorm2d(2)(Tensor(np.ones((1, 2, 1, 1)))),
        lambda: torch.nn.BatchNorm2d(2)(torch.ones(1, 2, 1, 1)),
    ),
    "batch norm of other channels": (
        lambda: BatchNorm2d(2)(Tensor(np.ones((2, 3, 4, 4)))),
        lambda: torch.nn.BatchNorm2d(2)(torch.ones(2, 3, 4, 4)),
    ),
    "batch norm of rows": (
        lambda: BatchNorm2d(2)(Tensor(np.ones((4, 2)))),
        lambda: torch.nn.BatchNorm2d(2)(torch.ones(4, 2)),
    ),
    "kernel too large": (
        lambda: Conv2d(1, 1, 5)(Tensor(np.ones((1, 1, 4, 6)))),
        lambda: torch.nn.Conv2d(1, 1, 5)(torch.ones(1, 1, 4, 6)),
    ),
    "wrong channels": (
        lambda: Conv2d(3, 1, 1)(Tensor(np.ones((1, 2, 4, 4)))),
        lambda: torch.nn.Conv2d(3, 1, 1)(torch.ones(1, 2, 4, 4)),
    ),
    "pooling window too large": (
        lambda: MaxPool2d(5)(Tensor(np.ones((1, 1, 4, 4)))),
        lambda: torch.nn.MaxPool2d(5)(torch.ones(1, 1, 4, 4)),
    ),
    "max padding more than half": (
        lambda: MaxPool2d(3, padding=2)(Tensor(np.ones((1, 1, 4, 4)))),
        lambda: torch.nn.MaxPool2d(3, padding=2)(torch.ones(1, 1, 4, 4)),
    ),
    "average padding more than half": (
        lambda: AvgPool2d(2, padding=2)(Tensor(np.ones((1, 1, 4, 4)))),
        lambda: torch.nn.AvgPool2d(2, padding=2)(torch.ones(1, 1, 4, 4)),
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_what_pytorch_refuses_we_refuse(name):
    ours, theirs = ERRORS[name]
    with pytest.raises((ValueError, RuntimeError)):
        theirs()
    with pytest.raises(ValueError, match=r"\. [A-Z]"):  # the rule that was broken, and what to do
        ours()


# A whole network: the same weights before, the same weights after


class _GlobalMean(torch.nn.Module):
    def forward(self, x):
        return x.mean(dim=(2, 3))


def _networks():
    nn = torch.nn
    manual_seed(0)
    ours = Sequential(
        Conv2d(3, 8, 3, padding=1, bias=False), BatchNorm2d(8), ReLU(), MaxPool2d(2),
        Conv2d(8, 12, 3, stride=2, padding=1), BatchNorm2d(12), ReLU(), AvgPool2d(2, 1, 1),
        Conv2d(12, 6, 2), ReLU(), GlobalAvgPool2d(), Linear(6, 5),
    )  # fmt: skip
    theirs = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 12, 3, stride=2, padding=1), nn.BatchNorm2d(12), nn.ReLU(),
        nn.AvgPool2d(2, 1, 1), nn.Conv2d(12, 6, 2), nn.ReLU(), _GlobalMean(), nn.Linear(6, 5),
    )  # fmt: skip
    state = {name: torch.tensor(values) for name, values in ours.state_dict().items()}
    missing, unexpected = theirs.load_state_dict(state, strict=False)
    assert not unexpected
    assert all(name.endswith("num_batches_tracked") for name in missing)
    return ours, theirs


@pytest.mark.parametrize(
    "make, steps, atol",
    [
        (lambda lib, p: lib.SGD(p, lr=0.1), 1, 1e-5),
        (lambda lib, p: lib.SGD(p, lr=0.05, momentum=0.9, weight_decay=1e-3), 4, 1e-4),
        # Adam divides by the gradient's own size: the rounding of a tiny one becomes a step.
        (lambda lib, p: lib.Adam(p, lr=1e-3), 3, 5e-4),
    ],
    ids=["one step of SGD", "four with momentum", "three of Adam"],
)
def test_cnn_takes_the_same_steps(make, steps, atol):
    class Ours:
        SGD, Adam = SGD, Adam

    ours, theirs = _networks()
    mine, its = make(Ours, ours.parameters()), make(torch.optim, theirs.parameters())
    rng = np.random.default_rng(1)
    for _ in range(steps):
        x = rng.standard_normal((16, 3, 10, 9)).astype(np.float32)
        y = rng.integers(0, 5, 16)
        mine.zero_grad()
        its.zero_grad()
        loss = CrossEntropyLoss()(ours(Tensor(x)), y)
        wanted = torch.nn.CrossEntropyLoss()(theirs(torch.tensor(x)), torch.tensor(y))
        assert loss.item() == pytest.approx(wanted.item(), rel=1e-3)
        loss.backward()
        wanted.backward()
        mine.step()
        its.step()
    after = theirs.state_dict()
    for name, values in ours.state_dict().items():
        assert_close(name, values, after[name].numpy(), 1e-3, atol)
    x = rng.standard_normal((2, 3, 10, 9)).astype(np.float32)
    ours.eval()
    theirs.eval()
    with torch.no_grad():
        wanted = theirs(torch.tensor(x)).numpy()
    assert_close("in use", ours(Tensor(x)).data, wanted, 1e-3, 1e-3)
