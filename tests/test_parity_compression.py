"""Pruning masks, low rank and the distillation loss, against PyTorch."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tinytorch.core.activations import ReLU
from tinytorch.core.layers import Linear, Sequential
from tinytorch.core.optimizers import SGD
from tinytorch.core.tensor import Tensor, manual_seed
from tinytorch.nn.conv import Conv2d
from tinytorch.optim.compression import (
    DistillationLoss,
    low_rank,
    magnitude_mask,
    magnitude_masks,
    prune,
    strongest_channels,
)
from torch.nn.utils import prune as torch_prune

SHAPES = [(1, 1), (3, 5), (16, 9), (8, 3, 3, 3), (5, 1, 2, 4)]


def numbers(*shape, seed=0):
    """Random numbers of different magnitudes: PyTorch does not say which of equals goes."""
    rng = np.random.default_rng(seed)
    count = int(np.prod(shape))
    sizes = rng.permutation(count).reshape(shape) + 1
    return (sizes * rng.choice([-1, 1], shape) / count).astype(np.float32)


def torch_layer(weight):
    """A PyTorch layer that holds this weight."""
    if weight.ndim == 2:
        layer = torch.nn.Linear(weight.shape[1], weight.shape[0])
    else:
        layer = torch.nn.Conv2d(weight.shape[1], weight.shape[0], weight.shape[2:])
    layer.weight.data = torch.tensor(weight)
    return layer


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("amount", [0.0, 0.1, 0.25, 0.5, 0.77, 0.9, 0.99, 1.0])
def test_l1_unstructured(shape, amount):
    weight = numbers(*shape, seed=len(shape))
    layer = torch_prune.l1_unstructured(torch_layer(weight), "weight", amount=float(amount))
    np.testing.assert_array_equal(magnitude_mask(weight, amount), layer.weight_mask.numpy() > 0)


@pytest.mark.parametrize("amount", [0.0, 0.2, 0.5, 0.8, 0.9, 0.98])
@pytest.mark.parametrize(
    "shapes", [[(3, 5)], [(16, 9), (4, 16)], [(8, 1, 3, 3), (10, 8, 3, 3), (10, 40)]]
)
def test_global_unstructured(shapes, amount):
    line = numbers(sum(int(np.prod(s)) for s in shapes), seed=len(shapes))
    arrays = {}
    for i, shape in enumerate(shapes):
        size = int(np.prod(shape))
        arrays[str(i)], line = line[:size].reshape(shape), line[size:]
    layers = [torch_layer(array) for array in arrays.values()]
    torch_prune.global_unstructured(
        [(layer, "weight") for layer in layers], torch_prune.L1Unstructured, amount=float(amount)
    )
    masks = magnitude_masks(arrays, amount)
    for mask, layer in zip(masks.values(), layers, strict=True):
        np.testing.assert_array_equal(mask, layer.weight_mask.numpy() > 0)


@pytest.mark.parametrize("shape", [(6, 4), (9, 5), (8, 3, 3, 3), (12, 2, 1, 1)])
@pytest.mark.parametrize("gone", [1, 2, 4])
def test_ln_structured_of_output_channels(shape, gone):
    weight = np.random.default_rng(gone).normal(size=shape).astype(np.float32)
    layer = torch_prune.ln_structured(torch_layer(weight), "weight", amount=gone, n=1, dim=0)
    mask = layer.weight_mask.numpy().reshape(shape[0], -1)[:, 0]
    kept = strongest_channels(weight, 1 - gone / shape[0])
    np.testing.assert_array_equal(kept, np.flatnonzero(mask))


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_training_with_masks(momentum):
    """PyTorch multiplies by the mask in each forward; we set zeros after each step. Same weights,
    as long as the masked ones start at zero and their gradient is masked by it."""
    manual_seed(0)
    ours = Sequential(Linear(6, 12), ReLU(), Linear(12, 3))
    theirs = torch.nn.Sequential(torch.nn.Linear(6, 12), torch.nn.ReLU(), torch.nn.Linear(12, 3))
    for mine, other in ((ours[0], theirs[0]), (ours[2], theirs[2])):
        other.weight.data = torch.tensor(np.ascontiguousarray(mine.weight.data))
        other.bias.data = torch.tensor(mine.bias.data.copy())
    pairs = [(theirs[0], "weight"), (theirs[2], "weight")]
    torch_prune.global_unstructured(pairs, torch_prune.L1Unstructured, amount=0.5)
    pruning = prune(ours, 0.5)
    first, second = SGD(ours.parameters(), 0.1, momentum=momentum), None
    second = torch.optim.SGD(theirs.parameters(), 0.1, momentum=momentum)
    rng = np.random.default_rng(1)
    for _ in range(20):
        x, y = (
            rng.normal(size=(8, 6)).astype(np.float32),
            rng.normal(size=(8, 3)).astype(np.float32),
        )
        first.zero_grad()
        difference = ours(Tensor(x)) - Tensor(y)
        (difference * difference).mean().backward()
        first.step()
        pruning.apply()
        second.zero_grad()
        F.mse_loss(theirs(torch.tensor(x)), torch.tensor(y)).backward()
        second.step()
    for i in (0, 2):
        masked = (theirs[i].weight_orig * theirs[i].weight_mask).detach().numpy()
        np.testing.assert_allclose(ours[i].weight.data, masked, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(
            ours[i].bias.data, theirs[i].bias.detach().numpy(), rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("shape", [(4, 4), (10, 3), (3, 10), (32, 20)])
def test_low_rank_is_torch_svd_cut_off(shape):
    weight = np.random.default_rng(5).normal(size=shape).astype(np.float32)
    layer = Linear(shape[1], shape[0])
    layer.weight.data[...] = weight
    u, s, v = torch.linalg.svd(torch.tensor(weight), full_matrices=False)
    for rank in {1, 2, min(shape)}:
        pair = low_rank(layer, rank)
        near = (u[:, :rank] * s[:rank]) @ v[:rank]
        product = pair[1].weight.data @ pair[0].weight.data
        np.testing.assert_allclose(product, near.numpy(), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(
            np.linalg.svd(pair[0].weight.data, compute_uv=False),
            s[:rank].sqrt().numpy(),
            rtol=1e-4,
            atol=1e-5,
        )


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 4.0, 20.0])
@pytest.mark.parametrize("alpha", [0.0, 0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("shape", [(1, 2), (7, 3), (32, 10)])
@pytest.mark.parametrize("spread", [1.0, 30.0])
def test_distillation_loss_and_gradient(temperature, alpha, shape, spread):
    rng = np.random.default_rng(shape[0])
    student, teacher = (spread * rng.normal(size=(2, *shape))).astype(np.float32)
    classes = rng.integers(0, shape[1], shape[0])
    ours, theirs = Tensor(student, requires_grad=True), torch.tensor(student, requires_grad=True)
    loss = DistillationLoss(temperature, alpha)(ours, teacher, classes)
    log_q = F.log_softmax(theirs / temperature, dim=1)
    log_p = F.log_softmax(torch.tensor(teacher) / temperature, dim=1)
    soft = F.kl_div(log_q, log_p, reduction="batchmean", log_target=True) * temperature**2
    expected = alpha * soft + (1 - alpha) * F.cross_entropy(theirs, torch.tensor(classes))
    loss.backward()
    expected.backward()
    np.testing.assert_allclose(loss.item(), expected.item(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(ours.grad, theirs.grad.numpy(), rtol=1e-3, atol=2e-5)


def test_prune_of_a_convolution_and_a_linear_layer_together():
    manual_seed(3)
    ours = Sequential(Conv2d(2, 6, 3), ReLU(), Linear(5, 4))
    layers = [torch_layer(np.ascontiguousarray(ours[i].weight.data)) for i in (0, 2)]
    torch_prune.global_unstructured(
        [(m, "weight") for m in layers], torch_prune.L1Unstructured, amount=0.9
    )
    pruning = prune(ours, 0.9)
    for i, layer in zip((0, 2), layers, strict=True):
        np.testing.assert_array_equal(ours[i].weight.data, layer.weight.detach().numpy())
    assert abs(pruning.sparsity - 0.9) < 1 / 128
