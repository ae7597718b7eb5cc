# %% [markdown]
"""
# 09 · Spatial

Skeleton: the exported code, to be cut into exercises.
"""

# %% given="imports"
#| default_exp nn.conv
#| export
import math
from collections.abc import Iterator

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from tinytorch.core.autograd import tracked
from tinytorch.core.layers import Module, Parameter, uniform_
from tinytorch.core.tensor import Tensor, ones, zeros

# %% given="tools"
import tito.checks as check
from tito.notebook import method_of

# %% given="explicit"
#| export
def output_size(size: int, kernel: int, stride: int = 1, padding: int = 0) -> int:
    """How many places a kernel of `kernel` has along `size` pixels: (size + 2p - k) // stride + 1."""
    return (size + 2 * padding - kernel) // stride + 1


def padded(x: np.ndarray, padding: int, value: float = 0.0) -> np.ndarray:
    """`x` (N, C, H, W) with `padding` rows and columns of `value` on every side; x itself for 0."""
    if not padding:
        return x
    n, c, h, w = x.shape
    out = np.full((n, c, h + 2 * padding, w + 2 * padding), value, dtype=x.dtype)
    out[:, :, padding:-padding, padding:-padding] = x
    return out


def conv2d_explicit(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None = None,
    stride: int = 1,
    padding: int = 0,
) -> np.ndarray:
    """Convolution of arrays by seven loops.

    x: (N, C, H, W), weight: (O, C, K, K), bias: (O,); result (N, O, OH, OW).
    Cost: N*O*OH*OW*C*K*K multiply-accumulates.
    """
    (n, _, h, w), (out_channels, channels, kernel, _) = x.shape, weight.shape
    oh, ow = output_size(h, kernel, stride, padding), output_size(w, kernel, stride, padding)
    x, out = padded(x, padding), np.zeros((n, out_channels, oh, ow), dtype=x.dtype)
    for b in range(n):
        for o in range(out_channels):
            for i in range(oh):
                for j in range(ow):
                    total = 0.0 if bias is None else bias[o]
                    for c in range(channels):
                        for di in range(kernel):
                            for dj in range(kernel):
                                pixel = x[b, c, i * stride + di, j * stride + dj]
                                total += pixel * weight[o, c, di, dj]
                    out[b, o, i, j] = total
    return out


def conv2d_explicit_backward(
    g: np.ndarray, x: np.ndarray, weight: np.ndarray, stride: int = 1, padding: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gradients of `conv2d_explicit` for x, weight and bias, by the same seven loops."""
    n, out_channels, oh, ow = g.shape
    _, channels, kernel, _ = weight.shape
    x = padded(x, padding)
    gx, gw, gb = np.zeros_like(x), np.zeros_like(weight), np.zeros(out_channels, dtype=x.dtype)
    for b in range(n):
        for o in range(out_channels):
            for i in range(oh):
                for j in range(ow):
                    gb[o] += g[b, o, i, j]
                    for c in range(channels):
                        for di in range(kernel):
                            for dj in range(kernel):
                                place = b, c, i * stride + di, j * stride + dj
                                gx[place] += g[b, o, i, j] * weight[o, c, di, dj]
                                gw[o, c, di, dj] += g[b, o, i, j] * x[place]
    inside = slice(padding, gx.shape[2] - padding), slice(padding, gx.shape[3] - padding)
    return gx[:, :, *inside], gw, gb

# %% given="kernels"
#| exporti
IMAGES = 4  # images whose patches are laid out at once: few, so that they stay in the cache


def chunks(count: int) -> Iterator[slice]:
    """Slices of at most IMAGES images."""
    return (slice(start, start + IMAGES) for start in range(0, count, IMAGES))


def patches(x: np.ndarray, kh: int, kw: int, stride: int, padding: int) -> np.ndarray:
    """One row per output pixel: the kh * kw * C numbers it sees, (N*OH*OW, kh*kw*C). A copy."""
    n, c, h, w = x.shape
    image = np.zeros((n, h + 2 * padding, w + 2 * padding, c), dtype=x.dtype)
    image[:, padding : padding + h, padding : padding + w] = x.transpose(0, 2, 3, 1)
    windows = sliding_window_view(image, (kh, kw), axis=(1, 2))[:, ::stride, ::stride]
    return windows.transpose(0, 1, 2, 4, 5, 3).reshape(-1, kh * kw * c)


def pixel_rows(g: np.ndarray) -> np.ndarray:
    """(N, O, OH, OW) as one row per output pixel, (N*OH*OW, O). A copy."""
    return g.transpose(0, 2, 3, 1).reshape(-1, g.shape[1])


def conv2d_forward(x, weight, bias, stride, padding):
    """The convolution as one matrix product per chunk: patches @ weights."""
    (n, _, h, w), (out_channels, _, kh, kw) = x.shape, weight.shape
    oh, ow = output_size(h, kh, stride, padding), output_size(w, kw, stride, padding)
    matrix = weight.transpose(2, 3, 1, 0).reshape(-1, out_channels)  # (kh*kw*C, O)
    out = np.empty((n, out_channels, oh, ow), dtype=x.dtype)
    for part in chunks(n):
        rows = patches(x[part], kh, kw, stride, padding) @ matrix
        if bias is not None:
            rows += bias
        out[part] = rows.reshape(-1, oh, ow, out_channels).transpose(0, 3, 1, 2)
    return out


def conv2d_input_gradient(g, out, x, weight, bias, stride=1, padding=0):
    """Every output pixel's g goes back to the patch it saw; overlapping patches add up."""
    (n, c, h, w), (out_channels, _, kh, kw), (oh, ow) = x.shape, weight.shape, g.shape[2:]
    matrix = weight.transpose(0, 2, 3, 1).reshape(out_channels, -1)  # (O, kh*kw*C)
    gradient = np.empty_like(x)
    for part in chunks(n):
        sent = (pixel_rows(g[part]) @ matrix).reshape(-1, oh, ow, kh, kw, c)
        image = np.zeros((len(sent), h + 2 * padding, w + 2 * padding, c), dtype=x.dtype)
        for i, j in np.ndindex(kh, kw):
            image[:, i : i + stride * oh : stride, j : j + stride * ow : stride] += sent[:, :, :, i, j]
        inside = image[:, padding : padding + h, padding : padding + w]
        gradient[part] = inside.transpose(0, 3, 1, 2)
    return gradient


def conv2d_weight_gradient(g, out, x, weight, bias, stride=1, padding=0):
    """Every weight met one number of every patch: patches.T @ g."""
    out_channels, c, kh, kw = weight.shape
    total = np.zeros((kh * kw * c, out_channels), dtype=x.dtype)
    for part in chunks(len(x)):
        total += patches(x[part], kh, kw, stride, padding).T @ pixel_rows(g[part])
    return total.reshape(kh, kw, c, out_channels).transpose(3, 2, 0, 1)

# %% given="conv2d"
#| export
def _check_conv(x: Tensor, weight: Tensor, stride: int, padding: int) -> None:
    """Raises ValueError that says which sizes do not fit."""
    if x.ndim != 4 or x.shape[1] != weight.shape[1]:
        raise ValueError(
            f"conv2d: x {x.shape} with weight {weight.shape}: x must be (N, {weight.shape[1]}, H, W)."
            " Add the batch axis with unsqueeze(0), or check in_channels."
        )
    kernel = weight.shape[2:]
    if any(size + 2 * padding < k for size, k in zip(x.shape[2:], kernel)):
        raise ValueError(
            f"conv2d: a kernel of {kernel} does not fit an image of {x.shape[2:]} with padding "
            f"{padding}. Use a smaller kernel, more padding, or fewer poolings before it."
        )


def _conv2d(x, weight, bias, stride=1, padding=0):
    """Convolution, x (N, C, H, W) with weight (O, C, KH, KW) and bias (O,) or None."""
    _check_conv(x, weight, stride, padding)
    return Tensor(conv2d_forward(x.data, weight.data, None if bias is None else bias.data, stride, padding))


conv2d = tracked(
    _conv2d,
    (
        conv2d_input_gradient,
        conv2d_weight_gradient,
        lambda g, out, x, weight, bias, stride=1, padding=0: g.sum(axis=(0, 2, 3)),
    ),
    "conv2d",
)


class Conv2d(Module):
    """Filters that slide over images: weight (out, in, KH, KW), bias (out,).

    kernel_size: an int or (KH, KW). x (N, in, H, W) -> (N, out, OH, OW), see `output_size`.
    Starts as PyTorch's: uniform in ±1/√(in * KH * KW).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int = 1,
        padding: int = 0,
        bias: bool = True,
    ) -> None:
        kh, kw = (kernel_size, kernel_size) if isinstance(kernel_size, int) else kernel_size
        self.in_channels, self.out_channels, self.kernel_size = in_channels, out_channels, (kh, kw)
        self.stride, self.padding = stride, padding
        limit = 1 / math.sqrt(in_channels * kh * kw)
        self.weight = Parameter(zeros(out_channels, in_channels, kh, kw))
        uniform_(self.weight, -limit, limit)
        self.bias = Parameter(zeros(out_channels)) if bias else None
        if bias:
            uniform_(self.bias, -limit, limit)

    def forward(self, x: Tensor) -> Tensor:
        return conv2d(x, self.weight, self.bias, stride=self.stride, padding=self.padding)

    def extra_repr(self) -> str:
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, "
            f"stride={self.stride}, padding={self.padding}"
        )

# %% given="pooling"
#| export
def _windows(x: np.ndarray, kernel: int, stride: int) -> Iterator[tuple[tuple, np.ndarray]]:
    """For each of the kernel * kernel places in a window: its index into x, and x there.

    Each view is (N, C, OH, OW): the number at that place of every window. Edges that no whole
    window covers are left out.
    """
    oh, ow = output_size(x.shape[2], kernel, stride), output_size(x.shape[3], kernel, stride)
    for i, j in np.ndindex(kernel, kernel):
        place = (..., slice(i, i + stride * oh, stride), slice(j, j + stride * ow, stride))
        # a slice may reach beyond the last window by less than a stride: cut to (OH, OW)
        yield place, x[place][..., :oh, :ow]


def _max_pool2d(x, kernel_size, stride=None, padding=0):
    """Largest number of every window: x (N, C, H, W) -> (N, C, OH, OW)."""
    image, out = padded(x.data, padding, -np.inf), None
    for _, view in _windows(image, kernel_size, stride or kernel_size):
        out = view.copy() if out is None else np.maximum(out, view, out=out)
    return Tensor(out)


def max_pool_gradient(g, out, x, kernel_size, stride=None, padding=0):
    """g goes to the first number of each window that equals the maximum."""
    image = padded(x, padding, -np.inf)
    gradient, waiting = np.zeros_like(image), np.ones(out.shape, dtype=bool)
    for place, view in _windows(image, kernel_size, stride or kernel_size):
        winner = waiting & (view == out)
        gradient[place] += g * winner
        waiting &= ~winner
    h, w = x.shape[2:]
    return gradient[:, :, padding : padding + h, padding : padding + w]


def _avg_pool2d(x, kernel_size, stride=None, padding=0):
    """Mean of every window, padding counted as zeros: x (N, C, H, W) -> (N, C, OH, OW)."""
    image = padded(x.data, padding)
    views = [view for _, view in _windows(image, kernel_size, stride or kernel_size)]
    return Tensor(sum(views) / kernel_size**2)


def avg_pool_gradient(g, out, x, kernel_size, stride=None, padding=0):
    """Every number of a window gets an equal share of its g."""
    gradient, share = np.zeros_like(padded(x, padding)), g / kernel_size**2
    for place, _ in _windows(gradient, kernel_size, stride or kernel_size):
        gradient[place] += share
    h, w = x.shape[2:]
    return gradient[:, :, padding : padding + h, padding : padding + w]


max_pool2d = tracked(_max_pool2d, (max_pool_gradient,), "max_pool2d")
avg_pool2d = tracked(_avg_pool2d, (avg_pool_gradient,), "avg_pool2d")


class MaxPool2d(Module):
    """Largest number of every window; stride None: the kernel size."""

    def __init__(self, kernel_size: int, stride: int | None = None, padding: int = 0) -> None:
        self.kernel_size, self.stride, self.padding = kernel_size, stride or kernel_size, padding

    def forward(self, x: Tensor) -> Tensor:
        return max_pool2d(x, self.kernel_size, stride=self.stride, padding=self.padding)

    def extra_repr(self) -> str:
        return f"{self.kernel_size}, stride={self.stride}, padding={self.padding}"


class AvgPool2d(MaxPool2d):
    """Mean of every window; stride None: the kernel size."""

    def forward(self, x: Tensor) -> Tensor:
        return avg_pool2d(x, self.kernel_size, stride=self.stride, padding=self.padding)


class GlobalAvgPool2d(Module):
    """Mean of every channel's whole image: (N, C, H, W) -> (N, C)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(axis=(2, 3))

# %% given="batch_norm"
#| export
def _channel(values: np.ndarray) -> np.ndarray:
    """(C,) as (1, C, 1, 1): one number per channel, for broadcasting over images."""
    return values.reshape(1, -1, 1, 1)


def _batch_norm(x, weight, bias, mean, var, eps=1e-5, training=True):
    """(x - mean) / √(var + eps) * weight + bias per channel; mean and var (C,) arrays.

    In training they must be the mean and the variance of x itself: the gradient counts on it.
    """
    scale = weight.data / np.sqrt(var + eps)
    return Tensor(x.data * _channel(scale) + _channel(bias.data - mean * scale))


def _normalised(x, mean, var, eps):
    return (x - _channel(mean)) * _channel(1 / np.sqrt(var + eps))


def batch_norm_input_gradient(g, out, x, weight, bias, mean, var, eps=1e-5, training=True):
    """x moves its own output, and with it the mean and the variance of its channel.

    Source: Ioffe and Szegedy 2015, section 3.
    """
    scale = weight / np.sqrt(var + eps)
    if not training:
        return g * _channel(scale)
    normal, count = _normalised(x, mean, var, eps), g.size // g.shape[1]
    along = np.einsum("nchw,nchw->c", g, normal) / count
    normal *= _channel(-along)
    normal += g
    normal -= _channel(g.mean(axis=(0, 2, 3)))
    normal *= _channel(scale)
    return normal


def batch_norm_weight_gradient(g, out, x, weight, bias, mean, var, eps=1e-5, training=True):
    return np.einsum("nchw,nchw->c", g, _normalised(x, mean, var, eps))


batch_norm = tracked(
    _batch_norm,
    (
        batch_norm_input_gradient,
        batch_norm_weight_gradient,
        lambda g, out, *operands, **options: g.sum(axis=(0, 2, 3)),
    ),
    "batch_norm",
)


class BatchNorm2d(Module):
    """Every channel brought to mean 0 and variance 1, then scaled and shifted by what it learns.

    x: (N, C, H, W). In training the batch's own mean and variance count, and the running ones move
    towards them by `momentum`; in eval the running ones count.
    Source: Ioffe and Szegedy 2015, algorithm 1.
    """

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.weight, self.bias = Parameter(ones(num_features)), Parameter(zeros(num_features))
        self.running_mean, self.running_var = zeros(num_features), ones(num_features)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            mean, var = self.running_mean.data, self.running_var.data
        else:
            mean, var = x.data.mean(axis=(0, 2, 3)), x.data.var(axis=(0, 2, 3))
            count = x.size // x.shape[1]
            self._move(self.running_mean, mean)
            self._move(self.running_var, var * (count / (count - 1)))
        return batch_norm(
            x, self.weight, self.bias, mean, var, eps=self.eps, training=self.training
        )

    def _move(self, running: Tensor, towards: np.ndarray) -> None:
        running.data += self.momentum * (towards - running.data)

    def extra_repr(self) -> str:
        return f"{self.num_features}"
