"""What PyTorch says about the same computation: one function runs on both libraries."""

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any
from zlib import crc32

import numpy as np
import torch
from tinytorch.core import activations, layers, losses
from tinytorch.core.autograd import topological_sort
from tinytorch.core.tensor import Tensor, cat, stack

import tinytorch

# float32 has 24 bits: results agree to a few units in the last place. Sums of n products in another
# order differ by about sqrt(n) of them, which 1e-5 covers for every shape used here.
RTOL, ATOL = 1e-5, 1e-6


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    layer = layers.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    layer.weight, layer.bias = weight, bias
    return layer(x)


OURS = SimpleNamespace(
    nn=SimpleNamespace(**{**vars(activations), **vars(layers), **vars(losses)}),
    sum=lambda x, axis=None, keepdims=False: x.sum(axis=axis, keepdims=keepdims),
    mean=lambda x, axis=None, keepdims=False: x.mean(axis=axis, keepdims=keepdims),
    max=lambda x, axis=None, keepdims=False: x.max(axis=axis, keepdims=keepdims),
    var=lambda x, axis=None, keepdims=False, correction=1: x.var(axis, keepdims, correction),
    cat=cat,
    stack=stack,
    linear=_linear,
    array=lambda values: np.asarray(values, dtype=np.float32),
    index=lambda values: Tensor(values),
    classes=lambda values: Tensor(values),
    tensor=lambda values: Tensor(np.asarray(values, dtype=np.float32)),
)


def _amax(x: torch.Tensor, axis: Any = None, keepdims: bool = False) -> torch.Tensor:
    return x.amax(dim=() if axis is None else axis, keepdim=keepdims)


def _var(x: torch.Tensor, axis: Any = None, keepdims: bool = False, correction: int = 1) -> Any:
    return x.var(dim=axis, keepdim=keepdims, correction=correction)


TORCH = SimpleNamespace(
    nn=torch.nn,
    sum=lambda x, axis=None, keepdims=False: torch.sum(x, dim=axis, keepdim=keepdims),
    mean=lambda x, axis=None, keepdims=False: torch.mean(x, dim=axis, keepdim=keepdims),
    max=_amax,
    var=_var,
    cat=lambda tensors, axis=0: torch.cat(tensors, dim=axis),
    stack=lambda tensors, axis=0: torch.stack(tensors, dim=axis),
    linear=torch.nn.functional.linear,
    array=lambda values: torch.tensor(values, dtype=torch.float32),
    index=lambda values: torch.tensor(values, dtype=torch.int64),
    classes=lambda values: torch.tensor(values, dtype=torch.int64),
    tensor=lambda values: torch.tensor(np.asarray(values, dtype=np.float32)),
)


@dataclass(frozen=True)
class Case:
    """`run(lib, *tensors)` on both libraries; inputs are arrays or shapes filled from `draw`."""

    id: str
    run: Callable[..., Any]
    inputs: tuple[Any, ...]
    draw: str = "normal"
    rtol: float = RTOL
    atol: float = ATOL

    def arrays(self) -> list[np.ndarray]:
        """The inputs as float32 arrays, the same in every run."""
        rng = np.random.default_rng(crc32(self.id.encode()))
        return [
            a if isinstance(a, np.ndarray) else np.asarray(DRAWS[self.draw](rng, a), np.float32)
            for a in self.inputs
        ]


DRAWS: dict[str, Callable[[np.random.Generator, tuple[int, ...]], Any]] = {
    "normal": lambda rng, shape: rng.standard_normal(shape),
    "positive": lambda rng, shape: rng.uniform(0.5, 2.0, shape),
    "probability": lambda rng, shape: rng.uniform(0.05, 0.95, shape),
    "nonzero": lambda rng, shape: rng.uniform(0.5, 2.0, shape) * rng.choice([-1.0, 1.0], shape),
    "large": lambda rng, shape: rng.choice([-1000.0, -30.0, 0.0, 1.0, 30.0, 1000.0], shape),
}


def array(values: Any) -> np.ndarray:
    """A float32 array for the table."""
    return np.asarray(values, dtype=np.float32)


def assert_close(what: str, got: Any, wanted: Any, rtol: float = RTOL, atol: float = ATOL) -> None:
    """Same shape, float32, and the same numbers up to rounding (nan equals nan)."""
    got, wanted = np.asarray(got), np.asarray(wanted)
    assert got.dtype == np.float32, f"{what}: {got.dtype}, not float32"
    assert got.shape == wanted.shape, f"{what}: shape {got.shape}, PyTorch {wanted.shape}"
    np.testing.assert_allclose(got, wanted, rtol=rtol, atol=atol, err_msg=what)


def assert_rules_keep_float32(root: Tensor) -> None:
    """No rule on the way back promotes to float64: that would double time and memory unseen."""
    for tensor in topological_sort(root):
        if tensor._node is None:
            continue
        assert tensor.data.dtype == np.float32, f"{tensor._node.name}: value {tensor.data.dtype}"
        g = np.ones_like(tensor.data)
        for position, _ in tensor._node.parents:
            rule = tensor._node.rules[position]
            with np.errstate(all="ignore"):
                part = rule(g, tensor.data, *tensor._node.args, **tensor._node.kwargs)
            assert part.dtype == np.float32, f"rule of {tensor._node.name}: {part.dtype}"


def compare(case: Case) -> None:
    """Value, shape, dtype, and the gradient of every input, ours against PyTorch's.

    NumPy's warnings are errors here: PyTorch has none, and a learner would meet them in red.
    """
    with np.errstate(over="raise", divide="raise", invalid="raise"):
        _compare(case)


def _compare(case: Case) -> None:
    arrays = case.arrays()
    ours = [Tensor(a.copy(), requires_grad=True) for a in arrays]
    theirs = [torch.tensor(a, requires_grad=True) for a in arrays]
    out, wanted = case.run(OURS, *ours), case.run(TORCH, *theirs)
    assert isinstance(out, Tensor), f"{case.id}: a {type(out).__name__}, not a Tensor"
    assert_close("value", out.data, wanted.detach().numpy(), case.rtol, case.atol)
    assert out.requires_grad == wanted.requires_grad
    assert_rules_keep_float32(out)
    weights = np.random.default_rng(7).standard_normal(out.shape).astype(np.float32)
    out.backward(weights)
    wanted.backward(torch.from_numpy(np.asarray(weights)))
    for number, (mine, its) in enumerate(zip(ours, theirs, strict=True)):
        assert (mine.grad is None) == (its.grad is None), f"input {number}: one gradient is None"
        if its.grad is not None:
            what = f"gradient of input {number}"
            assert_close(what, mine.grad, its.grad.numpy(), case.rtol, case.atol)


assert tinytorch.origin.kind == "reference", "the comparison is about the course's own code"
