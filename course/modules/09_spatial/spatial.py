# %% [markdown]
"""
# 09 · Spatial

Convolution looks at a picture through a small window and asks the same question everywhere; this
module builds it from seven loops, finds its gradients by the same loops, and trains with it.

```
you have built     tensors, layers, gradients (05), optimizers, the Trainer (07)
        |
        v
you build now      convolution and its backward by loops, Conv2d, max and average
                   pooling, batch normalisation: layers that know what a picture is
        |
        v
this unlocks       milestone 1998, a network that sees; 15, 16 and 18 make these
                   layers smaller and faster
```

Time: about 5 hours. The loops are the heart of the first half, the gradient of the normalisation is
the hardest piece of the second; both are cut into steps that are checked one by one.
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
import importlib.util
import time
import tracemalloc

import tito.checks as check
from tinytorch.core.activations import ReLU
from tinytorch.core.autograd import check_grads, no_grad
from tinytorch.core.layers import Flatten, Linear, Sequential
from tinytorch.core.losses import CrossEntropyLoss
from tinytorch.core.optimizers import SGD, Adam
from tinytorch.core.tensor import manual_seed
from tinytorch.core.training import Trainer, WarmupCosine
from tito.data import load_tinydigits
from tito.notebook import method_of


def as_batch(images):
    """Digits (N, 8, 8) of 0 to 16 as a batch (N, 1, 8, 8) of float32 from 0 to 1."""
    return (images[:, None] / 16).astype(np.float32)


def moved(x, right):
    """Every image of a batch some pixels to the right (or left, if negative), 0 where none was."""
    out = np.zeros_like(x)
    columns = np.arange(x.shape[-1])
    kept = columns[(columns - right >= 0) & (columns - right < x.shape[-1])]
    out[..., kept] = x[..., kept - right]
    return out


def draw(*pictures, scale=1.0):
    """Pictures (H, W) side by side in characters: blank for 0, darker towards `scale`."""
    for rows in zip(*pictures):
        shades = [np.clip(np.abs(row) / scale * 9, 0, 9).round().astype(int) for row in rows]
        print("   ".join("".join(" .:-=+*#%@"[s] * 2 for s in row) for row in shades).rstrip())

# %% [markdown]
"""
## Why: a digit moves by one pixel

With module 07 you can train a network that reads digits. Here is one, with a hidden layer of 64
units. It is tested on 1,000 digits it has never seen, and then on the same digits again, each moved
one pixel to the side. You can read those just as well. Can the network?
"""

# %% demo="one_pixel"
digits = load_tinydigits()
train = as_batch(digits.train_images), digits.train_labels
test = as_batch(digits.test_images), digits.test_labels
manual_seed(0)
net = Sequential(Flatten(), Linear(64, 64), ReLU(), Linear(64, 10))
mlp = Trainer(net, CrossEntropyLoss(), Adam(net.parameters(), lr=0.003))
mlp.fit(train, 10)
draw(test[0][1, 0], moved(test[0], 1)[1, 0])
for right, name in ((0, "as they are"), (1, "one pixel to the right"), (-1, "to the left")):
    score = mlp.evaluate((moved(test[0], right), test[1]))["accuracy"]
    print(f"{name:24} {score:6.1%} right")

# %% [markdown]
"""
For a linear layer pixel 27 and pixel 28 are two inputs like any other two; that they are neighbours
it cannot know. What it learned about a stroke in one column it would have to learn again for every
other column. And it pays for that: every output has a weight of its own for every pixel. 32 outputs
on a colour picture of 32 by 32 pixels are `Linear(3072, 32)`: 98,336 parameters. The layer you build
now gives 32 outputs for every place of the picture, with 896 parameters, and what it learns in one
place it knows everywhere.

## Foundations: a small window, the same everywhere

A **filter** (or kernel) is a handful of weights. It is laid on a corner of the picture, weights and
pixels are multiplied one by one and added up, and the sum is one pixel of the result. Then it
slides on. Here `x` is a picture of 3 by 3 pixels, `w` a filter of 2 by 2:

```
x = [1 2 3]     w = [1  2]      at the top left     1*1 + 2*2 + 4*0 + 5*(-1) = 0
    [4 5 6]         [0 -1]      one to the right    2*1 + 3*2 + 5*0 + 6*(-1) = 2
    [7 8 9]                     one down            4*1 + 5*2 + 7*0 + 8*(-1) = 6
                                one of each         5*1 + 6*2 + 8*0 + 9*(-1) = 8

out = [0 2]     four places, four pixels, and the same four weights for all of them
      [6 8]
```

Two things follow. The weights do not depend on the size of the picture. And if the picture moves by
one pixel, the result moves by one pixel and is otherwise the same. (A mathematician's convolution
gives the filter half a turn before it slides. Networks learn their filters, so nobody turns them:
every framework does what you see above and calls it convolution.)

What can so few weights say? In 1968 Irwin Sobel chose nine by hand: the right column of the window
minus the left column, the middle row counted twice. Where the picture is even the sum is 0; where dark
meets bright it is far from 0 (the pictures below show its size, without the sign).
Turned by a quarter, the same filter finds edges in the other direction.
"""

# %% demo="sobel"
y, x = np.mgrid[0:14, 0:30]
picture = np.where((x - 8) ** 2 + (y - 7) ** 2 < 26, 1.0, 0.0)
picture[4:11, 18:27] = 0.6
sobel = np.array([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])


def slide(image, kernel):
    """A kernel of 3 by 3 at all places of one image at once: nine shifted copies, weighted."""
    h, w = image.shape[0] - 2, image.shape[1] - 2
    return sum(kernel[i, j] * image[i : i + h, j : j + w] for i in range(3) for j in range(3))


print("the picture")
draw(picture)
for name, kernel in (("left to right", sobel), ("top to bottom", sobel.T)):
    print(f"edges, {name}")
    draw(slide(picture, kernel), scale=4)

# %% [markdown]
"""
Sobel's filters were thought of; ours will be learned, many at once, and the results of one layer
are the pictures that the next layer's filters look at. So pictures have **channels**: red, green
and blue at first, later one channel per filter. A filter looks at all channels of its window at
once, and every filter makes one channel of the result:

```
x        (N, C, H, W)        N pictures of C channels
weight   (O, C, KH, KW)      O filters, each as deep as the picture has channels
bias     (O,)                one number per filter, added to its whole result
out      (N, O, OH, OW)      one channel per filter
```

## Build

### How many places?

Before anything slides we must know how large the result is. Along an axis of 5 pixels a kernel of 3
has three places. The **stride** is how far it moves from one place to the next, and **padding** puts
zeros around the picture, so that its border pixels get into as many windows as the others:

```
5 pixels, kernel 3                   [0 1 2] 3 4      0 [1 2 3] 4      0 1 [2 3 4]     3 places
the same, stride 2                   [0 1 2] 3 4                       0 1 [2 3 4]     2 places
the same, stride 1, padding 1        [_ 0 1] 2 3 4 _      …      _ 0 1 2 [3 4 _]       5 places
```

The first place begins at 0, the last one begins at most at `size + 2 * padding - kernel`, and there
is one every `stride` pixels. Pixels at the end that no whole window reaches are left out.

If that last beginning is negative, the kernel is larger than the picture and has no place at all.
Mind Python here: `(2 - 3) // 2 + 1` is 0, a result without pixels, and a network that is built on it
fails much later, far away from the cause. Say it here, in an error with the numbers in it.
"""

# %% exercise="output_size"
#| export
def output_size(size: int, kernel: int, stride: int = 1, padding: int = 0) -> int:
    """How many places a kernel has along an axis of `size` pixels with `padding` on both sides.

    Raises ValueError naming kernel, size and padding if the kernel does not fit.

    >>> output_size(5, 3), output_size(5, 3, stride=2), output_size(5, 3, padding=1)
    (3, 2, 5)
    """
    ### BEGIN SOLUTION
    room = size + 2 * padding - kernel
    if room < 0:
        raise ValueError(
            f"a kernel of {kernel} does not fit {size} pixels with padding {padding}. "
            "Use a smaller kernel, more padding, or fewer poolings before it."
        )
    return room // stride + 1
    ### END SOLUTION

# %% check="output_size" points=3
check.equal("places of a kernel of 3 along 5 pixels", output_size(5, 3), 3,
            why="it may begin at 0, 1 and 2: one more than 5 - 3")
check.equal("the same with stride 2, and with stride 3",
            [output_size(5, 3, stride=2), output_size(5, 3, stride=3)], [2, 1],
            why="of the beginnings 0, 1, 2 every second one is 0 and 2, every third one is 0")
check.equal("the same with padding 1, and with padding 2",
            [output_size(5, 3, padding=1), output_size(5, 3, padding=2)], [5, 7],
            why="padding is added on both sides: 5 + 2 - 3 + 1 = 5, the size is kept")
check.equal("32 pixels, kernel 3, stride 2, padding 1", output_size(32, 3, 2, 1), 16,
            why="(32 + 2 - 3) // 2 + 1 = 15 + 1: divide first, then add the first place")
check.equal("a kernel as large as the picture", output_size(4, 4, 2), 1, why="it fits exactly once")
check.true("the result is a whole number", isinstance(output_size(6, 3, 2), int),
           got=output_size(6, 3, 2), why="it becomes the size of an array: // instead of /")
try:
    _places = output_size(4, 5, 1, 1)
except ValueError:
    _places = "a ValueError"
check.equal("a kernel of 5 on 4 pixels with padding 1, and of 3 on 4", [_places, output_size(4, 3, 1, 1)],
            [2, 4], why="the padding makes room: 4 + 2 - 5 + 1")
check.raises("a kernel of 9 on 4 pixels with padding 1", ValueError, lambda: output_size(4, 9, 1, 1),
             why="4 + 2 pixels have no room for 9: name kernel, size and padding",
             mention=["9", "4", "1"])
check.raises("a kernel of 3 on 2 pixels with stride 2", ValueError, lambda: output_size(2, 3, 2),
             why="(2 - 3) // 2 + 1 = 0: a result of no pixels must not pass in silence")

# %% [markdown]
"""
The next cell is given: `padded` puts a frame around the pictures, and the two checks say in words
what is wrong with an `x` that is not a batch of pictures, or a size that is none, so that your loops
need not care.
"""

# %% given="frames"
#| exporti
def padded(x: np.ndarray, padding: int, value: float = 0.0) -> np.ndarray:
    """x (N, C, H, W) in a frame of `value`, `padding` pixels wide; x itself if that is 0."""
    if not padding:
        return x
    n, c, h, w = x.shape
    out = np.full((n, c, h + 2 * padding, w + 2 * padding), value, dtype=x.dtype)
    out[:, :, padding : padding + h, padding : padding + w] = x
    return out


def _check_images(
    name: str, x: Tensor | np.ndarray, channels: int | None = None, kind: type = Tensor
) -> None:
    """TypeError unless x is a `kind`, ValueError unless it is (N, C, H, W) of so many channels."""
    if not isinstance(x, kind):
        raise TypeError(
            f"{name}: x has the type {type(x).__name__}, expected {kind.__name__}. "
            "An array becomes a Tensor by Tensor(x); the array of a Tensor is x.data."
        )
    if x.ndim != 4:
        raise ValueError(
            f"{name}: x {x.shape} must be a batch of pictures, (N, C, H, W). "
            "One picture (C, H, W) becomes a batch by unsqueeze(0), gray ones (N, H, W) by unsqueeze(1)."
        )
    if channels is not None and x.shape[1] != channels:
        raise ValueError(
            f"{name}: x {x.shape} has {x.shape[1]} channels, but {channels} are expected. "
            "Channels are axis 1: check the layer's sizes, or permute(0, 3, 1, 2) pictures (N, H, W, C)."
        )


def _check_whole(name: str, least: int, **sizes: int) -> None:
    """Raises ValueError naming a size that is no whole number, or less than `least`."""
    for what, size in sizes.items():
        if not isinstance(size, (int, np.integer)) or size < least:
            raise ValueError(
                f"{name}: {what} {size!r} must be a whole number, {least} or more. "
                "Rows and columns share it; pairs and words like 'same' are not built here."
            )

# %% [markdown]
"""
### Seven loops

Now the convolution itself, exactly as the picture in Foundations: for every picture, every filter,
every row and every column of the result (four loops), go over all channels, rows and columns of the
window (three more), multiply one pixel with one weight, and add. A sum starts at the filter's bias.

Where is the pixel? The window at row `i` of the result begins at row `i * stride` of the (padded)
picture; row `di` of the kernel lies `di` below that. Columns likewise.

```
stride 2, kernel 2      i = 0: rows 0 and 1      i = 1: rows 2 and 3      i = 2: rows 4 and 5
```

Multiply single numbers only. It will be slow, and that is its task: it is so plain that you can
trust it, and every fast convolution from here to module 18 is compared with yours.
"""

# %% exercise="conv2d_explicit"
#| export
def conv2d_explicit(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None = None,
    stride: int = 1,
    padding: int = 0,
) -> np.ndarray:
    """Convolution of arrays by seven loops: the definition, and slow.

    x: (N, C, H, W), weight: (O, C, KH, KW), bias: (O,) or None; result (N, O, OH, OW).
    Raises ValueError if the channels differ or the kernel does not fit.
    Cost: N*O*OH*OW*C*KH*KW multiply-accumulates.

    >>> x = np.array([[[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]]]])
    >>> conv2d_explicit(x, np.array([[[[1.0, 2.0], [0.0, -1.0]]]])).tolist()
    [[[[0.0, 2.0], [6.0, 8.0]]]]
    """
    _check_images("conv2d_explicit", x, weight.shape[1], np.ndarray)
    (n, channels, h, w), (out_channels, _, kh, kw) = x.shape, weight.shape
    oh, ow = output_size(h, kh, stride, padding), output_size(w, kw, stride, padding)
    x = padded(x, padding)
    out = np.zeros((n, out_channels, oh, ow), dtype=np.result_type(x.dtype, weight.dtype))
    ### BEGIN SOLUTION
    for b in range(n):
        for o in range(out_channels):
            for i in range(oh):
                for j in range(ow):
                    total = 0.0 if bias is None else bias[o]
                    for c in range(channels):
                        for di in range(kh):
                            for dj in range(kw):
                                pixel = x[b, c, i * stride + di, j * stride + dj]
                                total += pixel * weight[o, c, di, dj]
                    out[b, o, i, j] = total
    ### END SOLUTION
    return out

# %% check="conv2d_explicit" points=10
_x = np.arange(1.0, 10.0).reshape(1, 1, 3, 3)
_w = np.array([[[[1.0, 2.0], [0.0, -1.0]]]])
_ones = np.ones((1, 1, 2, 2))
check.close("the picture of the Foundations", conv2d_explicit(_x, _w), [[[[0, 2], [6, 8]]]],
            why="1*1 + 2*2 + 4*0 + 5*(-1) = 0 at the top left, and so on")
check.close("the same with bias 100", conv2d_explicit(_x, _w, np.array([100.0])),
            [[[[100, 102], [106, 108]]]], why="the bias is added once to every pixel of the result")
check.close("two filters, the second one all ones, bias [0, 1000]",
            conv2d_explicit(_x, np.concatenate([_w, _ones]), np.array([0.0, 1000.0])),
            [[[[0, 2], [6, 8]], [[1012, 1016], [1024, 1028]]]],
            why="one channel per filter, each with a bias of its own: 1 + 2 + 4 + 5 + 1000 = 1012")
check.close("two channels, x and 10x, a filter with w for the first and ones for the second",
            conv2d_explicit(np.concatenate([_x, 10 * _x], axis=1), np.concatenate([_w, _ones], axis=1)),
            [[[[120, 162], [246, 288]]]], why="a filter adds up all its channels: 0 + 10 * 12 = 120")
check.close("the same with bias 1000",
            conv2d_explicit(np.concatenate([_x, 10 * _x], axis=1), np.concatenate([_w, _ones], axis=1),
                            np.array([1000.0])),
            [[[[1120, 1162], [1246, 1288]]]], why="one bias per filter, once, however many channels it adds up")
check.close("two pictures, x and x + 1", conv2d_explicit(np.concatenate([_x, _x + 1]), _w),
            [[[[0, 2], [6, 8]]], [[[2, 4], [8, 10]]]],
            why="each picture by itself: 1 more in every pixel adds 1 + 2 + 0 - 1 = 2")
_square = np.arange(16.0).reshape(1, 1, 4, 4)
check.close("0 to 15 in 4 by 4, a filter of 2 by 2 ones, stride 2",
            conv2d_explicit(_square, _ones, stride=2), [[[[10, 18], [42, 50]]]],
            why="the windows lie side by side: 0 + 1 + 4 + 5 = 10, 2 + 3 + 6 + 7 = 18")
check.close("a wide picture of 2 by 5, a filter of 1 by 3",
            conv2d_explicit(np.arange(10.0).reshape(1, 1, 2, 5), np.array([[[[1.0, 10.0, 100.0]]]])),
            [[[[210, 321, 432], [765, 876, 987]]]],
            why="0*1 + 1*10 + 2*100 = 210: rows and columns have sizes of their own")
check.close("1 to 4 in 2 by 2, a filter of 3 by 3 with 1 to 9, padding 1",
            conv2d_explicit(np.arange(1.0, 5.0).reshape(1, 1, 2, 2),
                            np.arange(1.0, 10.0).reshape(1, 1, 3, 3), padding=1),
            [[[[77, 67], [47, 37]]]],
            why="at the top left the window's last 2 by 2 pixels lie on the picture: "
                "1*5 + 2*6 + 3*8 + 4*9 = 77")
_y = conv2d_explicit(_x.astype(np.float32), _w.astype(np.float32))
check.equal("what comes back for float32", f"{type(_y).__name__} of {getattr(_y, 'dtype', 'no dtype')}",
            "ndarray of float32", why="the array `out` that stands ready")


class _Entries(np.ndarray):
    """An array whose entries can be read, and which refuses to be computed with as a whole."""

    __array_ufunc__ = None

    def __array_function__(self, function, *_):
        raise TypeError(f"np.{function.__name__} of whole arrays")


def _by_entries():
    try:
        return conv2d_explicit(_x.view(_Entries), _w.view(_Entries))
    except TypeError as error:
        return error


check.close("on arrays that can only be read entry by entry", _by_entries(), [[[[0, 2], [6, 8]]]],
            why="one pixel times one weight: the seven loops are what this exercise is about")

# %% [markdown]
"""
### The way back, by the same loops

The innermost line of the forward pass is `total += pixel * weight`: one product, added to one pixel
of the result. If the loss grows `g` times as fast as that pixel of the result, then it grows
`g * weight` times as fast as the pixel, and `g * pixel` times as fast as the weight. That is the
whole rule. A pixel lies under several windows and a weight is used at every place, and module 05 said
what to do then: add.

Take the picture of the Foundations and let `g` be 1 at the top left, 10 at the bottom right:

```
g = [1  0]      bias     1 + 10 = 11                       it is added to every pixel of the result
    [0 10]
                weight   1 * [1 2]  +  10 * [5 6]  =  [51 62]      the two windows that had a g
                             [4 5]          [8 9]     [84 95]

                x        1 * [1  2 0]  +  10 * [0 0  0]  =  [1 2   0]      the filter, put back
                             [0 -1 0]          [0 1  2]     [0 9  20]      where it had lain
                             [0  0 0]          [0 0 -1]     [0 0 -10]
```

The 5 in the middle was in both windows: once under the -1, once under the 1, so it gets
`-1 + 10 = 9`.

So: the same loops as before, with `+=` into `gx`, `gw` and `gb`, which stand ready, filled with zeros.
Take care of the frame: with padding your loops walk over the padded picture, so `gx` has a frame too.
Nobody wants the gradient of those zeros. At the end, cut it off: what is left must have the shape
of `x` as it came, `h` by `w`, and begin `padding` pixels from the top and the left.
"""

# %% exercise="conv2d_explicit_backward"
#| export
def conv2d_explicit_backward(
    g: np.ndarray, x: np.ndarray, weight: np.ndarray, stride: int = 1, padding: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gradients of `conv2d_explicit` for x, weight and bias, by the same seven loops.

    g: (N, O, OH, OW), the gradient of the result; x and weight as in the forward pass.
    Result: arrays of the shapes of x, weight and bias (O,).
    Cost: two multiply-accumulates for each one of the forward pass.
    """
    (n, channels, h, w), (out_channels, _, kh, kw), (oh, ow) = x.shape, weight.shape, g.shape[2:]
    x, dtype = padded(x, padding), np.result_type(g.dtype, x.dtype, weight.dtype)
    gx, gw, gb = (np.zeros(shape, dtype) for shape in (x.shape, weight.shape, out_channels))
    ### BEGIN SOLUTION
    for b in range(n):
        for o in range(out_channels):
            for i in range(oh):
                for j in range(ow):
                    gb[o] += g[b, o, i, j]
                    for c in range(channels):
                        for di in range(kh):
                            for dj in range(kw):
                                place = b, c, i * stride + di, j * stride + dj
                                gx[place] += g[b, o, i, j] * weight[o, c, di, dj]
                                gw[o, c, di, dj] += g[b, o, i, j] * x[place]
    gx = gx[:, :, padding : padding + h, padding : padding + w]
    ### END SOLUTION
    return gx, gw, gb

# %% check="conv2d_explicit_backward" points=12
_x = np.arange(1.0, 10.0).reshape(1, 1, 3, 3)
_w = np.array([[[[1.0, 2.0], [0.0, -1.0]]]])
_g = np.array([[[[1.0, 0.0], [0.0, 10.0]]]])
_gx, _gw, _gb = conv2d_explicit_backward(_g, _x, _w)
check.close("gradient of the bias, the example above", _gb, [11],
            why="the bias is added to all four pixels of the result: 1 + 0 + 0 + 10")
check.close("gradient of the weight", _gw, [[[[51, 62], [84, 95]]]],
            why="each weight met one pixel per place: 1 * 1 + 10 * 5 = 51")
check.close("gradient of x", _gx, [[[[1, 2, 0], [0, 9, 20], [0, 0, -10]]]],
            why="the filter put back where it had lain; the middle pixel was in both windows: 9")
_wide = np.concatenate([_x, 10 * _x], axis=1)  # two channels
_two = np.concatenate([_wide, _wide + 1])  # two pictures
_filters = np.arange(1.0, 25.0).reshape(3, 2, 2, 2)
_many = np.random.default_rng(3).integers(-3, 4, (2, 3, 2, 2)).astype(float)
for _position, _name in enumerate(("x", "weight")):
    check.rule(f"gradient of {_name}: two pictures, two channels, three filters",
               lambda g, out, x, w, _p=_position: conv2d_explicit_backward(g, x, w)[_p], _position,
               conv2d_explicit, _two, _filters,
               why="compared with central differences of your own conv2d_explicit")
check.close("gradient of three biases over two pictures", conv2d_explicit_backward(_many, _two, _filters)[2],
            [_many[:, o].sum() for o in range(3)], why="one per filter: all pictures and all places added")
_tall = np.arange(24.0).reshape(1, 1, 6, 4) / 4
for _position, _name in enumerate(("x", "weight")):
    check.rule(f"gradient of {_name}: stride 2 on 6 by 4 pixels",
               lambda g, out, x, w, _p=_position: conv2d_explicit_backward(g, x, w, stride=2)[_p],
               _position, lambda x, w: conv2d_explicit(x, w, stride=2), _tall, _w,
               why="the pixel at i * stride + di, as on the way there")
_gx = conv2d_explicit_backward(np.ones((1, 1, 4, 4)), _x, _w, padding=1)[0]
check.equal("shape of the gradient of x, padding 1", _gx.shape, (1, 1, 3, 3),
            why="x came without the frame, so its gradient has none")
for _position, _name in enumerate(("x", "weight")):
    check.rule(f"gradient of {_name}: stride 2, padding 1",
               lambda g, out, x, w, _p=_position: conv2d_explicit_backward(g, x, w, 2, 1)[_p],
               _position, lambda x, w: conv2d_explicit(x, w, None, 2, 1), _tall, _w,
               why="the frame is cut off on all four sides, and the weights did see its zeros")
check.close("x afterwards", _x, np.arange(1.0, 10.0).reshape(1, 1, 3, 3),
            why="without padding x is the caller's own array: read it, never write into it")

# %% [markdown]
"""
### From loops to one matrix product

Your loops spend their time in the interpreter, not in arithmetic. To get the arithmetic done by the
matrix product of module 01, which runs at the machine's full speed, we write the windows down as
rows. A row is a **patch**: what the filter sees at one place. Here are the four patches of the
Foundations' picture, and the filter written as a column:

```
x = [1 2 3]     patches                            w         out
    [4 5 6]     top left      [1 2 4 5]          [ 1]        [0]
    [7 8 9]     to the right  [2 3 5 6]     @    [ 2]    =   [2]
                one down      [4 5 7 8]          [ 0]        [6]
                one of each   [5 6 8 9]          [-1]        [8]
```

Each row times the column is one pixel of the result: four places, one matrix product. With more
filters `w` has more columns, with more pictures `patches` has more rows. With C channels a row is C
times as long; we put the channels of one pixel side by side.

The way back is made of the same patches. A weight is one entry of the column and met one entry of
every row, so its gradient is `patches.T @ g`. With `g = [1 0 0 10]` as a column, that is
`1 * [1 2 4 5] + 10 * [5 6 8 9] = [51 62 84 95]`: the numbers you know. And `g @ w.T` has one row
for every place, which says what the pixels of its patch get; put back where the patches were taken
from, overlapping ones add up. Compare the middle pixel: it is the last entry of the first row and the
first entry of the last, `1 * (-1) + 10 * 1 = 9`.

The price is memory. The 9 pixels became 16 numbers, and for a kernel of 3 by 3 nearly every pixel is
copied nine times. So the kernels below make the patches of a few pictures at a time, use them while
they are still in the processor's cache, and make the next ones. They are given: read `patches` first,
then the three kernels, and find in each the matrix product (`@`). Module 18 will replace these three.
"""

# %% given="kernels"
#| exporti
IMAGES = 4  # pictures whose patches are laid out at once: few, so that they stay in the cache


def chunks(count: int) -> Iterator[slice]:
    """Slices of at most IMAGES pictures."""
    return (slice(start, start + IMAGES) for start in range(0, count, IMAGES))


def patches(x: np.ndarray, kh: int, kw: int, stride: int, padding: int) -> np.ndarray:
    """One row per pixel of the result: the KH*KW*C numbers it sees, (N*OH*OW, KH*KW*C). A copy."""
    n, c, h, w = x.shape
    image = np.zeros((n, h + 2 * padding, w + 2 * padding, c), dtype=x.dtype)
    image[:, padding : padding + h, padding : padding + w] = x.transpose(0, 2, 3, 1)
    windows = sliding_window_view(image, (kh, kw), axis=(1, 2))[:, ::stride, ::stride]
    return windows.transpose(0, 1, 2, 4, 5, 3).reshape(-1, kh * kw * c)


def pixel_rows(g: np.ndarray) -> np.ndarray:
    """(N, O, OH, OW) as one row per pixel, (N*OH*OW, O). A copy."""
    return g.transpose(0, 2, 3, 1).reshape(-1, g.shape[1])


def conv2d_forward(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, stride: int, padding: int
) -> np.ndarray:
    """The convolution as one matrix product per chunk: patches @ weights. (N, O, OH, OW)."""
    (n, _, h, w), (out_channels, _, kh, kw) = x.shape, weight.shape
    oh, ow = output_size(h, kh, stride, padding), output_size(w, kw, stride, padding)
    matrix = weight.transpose(2, 3, 1, 0).reshape(-1, out_channels)  # (KH*KW*C, O)
    out = np.empty((n, out_channels, oh, ow), dtype=np.result_type(x, weight))
    for part in chunks(n):
        rows = patches(x[part], kh, kw, stride, padding) @ matrix
        if bias is not None:
            rows += bias
        out[part] = rows.reshape(-1, oh, ow, out_channels).transpose(0, 3, 1, 2)
    return out


def conv2d_input_gradient(
    g: np.ndarray, x: np.ndarray, weight: np.ndarray, stride: int, padding: int
) -> np.ndarray:
    """Every pixel of g goes back to the patch it saw; overlapping patches add up. (N, C, H, W)."""
    (n, c, h, w), (out_channels, _, kh, kw), (oh, ow) = x.shape, weight.shape, g.shape[2:]
    matrix = weight.transpose(0, 2, 3, 1).reshape(out_channels, -1)  # (O, KH*KW*C)
    gradient = np.empty(x.shape, dtype=g.dtype)
    for part in chunks(n):
        sent = (pixel_rows(g[part]) @ matrix).reshape(-1, oh, ow, kh, kw, c)
        image = np.zeros((len(sent), h + 2 * padding, w + 2 * padding, c), dtype=g.dtype)
        for i, j in np.ndindex(kh, kw):
            rows, columns = slice(i, i + stride * oh, stride), slice(j, j + stride * ow, stride)
            image[:, rows, columns] += sent[:, :, :, i, j]
        inside = image[:, padding : padding + h, padding : padding + w]
        gradient[part] = inside.transpose(0, 3, 1, 2)
    return gradient


def conv2d_weight_gradient(
    g: np.ndarray, x: np.ndarray, weight: np.ndarray, stride: int, padding: int
) -> np.ndarray:
    """Every weight met one number of every patch: patches.T @ g. (O, C, KH, KW)."""
    out_channels, c, kh, kw = weight.shape
    total = np.zeros((kh * kw * c, out_channels), dtype=g.dtype)
    for part in chunks(len(x)):
        total += patches(x[part], kh, kw, stride, padding).T @ pixel_rows(g[part])
    return total.reshape(kh, kw, c, out_channels).transpose(3, 2, 0, 1)

# %% demo="patches_by_hand"
x = np.arange(1.0, 10.0).reshape(1, 1, 3, 3)
print("patches of the 3 by 3 picture, one row per place:")
print(patches(x, 2, 2, stride=1, padding=0))
print("and of two channels, x and 10x: the two numbers of a pixel lie side by side")
print(patches(np.concatenate([x, 10 * x], axis=1), 2, 2, stride=1, padding=0))

# %% [markdown]
"""
### A new operation: forward and rules side by side

Up to module 05 operations came first and their rules later, in one large table. From now on a new
operation states both at once, with the function you wrote there:

    name = tracked(forward, (rule of operand 0, rule of operand 1, …), "name")

A rule is a function of `(g, out, *operands)`, plus the options of the call by name, and returns the
gradient of one operand, all plain arrays. The operands of `conv2d` are x, weight and bias, its
options stride and padding. (The `/` in `_conv2d` says that operands are given by position only: the
tape counts positions, and a `bias=b` by name would escape it unseen.)

Two of the three rules are one call of a kernel above, whose arguments are `(g, x, weight, stride,
padding)`. The third you know from your loops: one number per filter, all pictures and all places
added up. Call the kernels by their names inside your rules, so that they are looked up when the rule
runs: whoever replaces a kernel later then replaces it here too.
"""

# %% exercise="conv2d"
#| export
def _conv2d(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, /, stride: int = 1, padding: int = 0
) -> Tensor:
    """Convolution of a batch of pictures with filters, on patches and one matrix product.

    x: (N, C, H, W), weight: (O, C, KH, KW), bias: (O,) or None; result (N, O, OH, OW).
    Raises ValueError if x is no batch of pictures, its channels differ, or the kernel does not fit.
    Cost: N*O*OH*OW*C*KH*KW multiply-accumulates, and about as many each for two of the gradients.

    >>> conv2d(ones(1, 3, 8, 8), ones(2, 3, 3, 3), zeros(2), stride=2, padding=1).shape
    (1, 2, 4, 4)
    """
    _check_images("conv2d", x, weight.shape[1])
    numbers = None if bias is None else bias.data
    return Tensor(conv2d_forward(x.data, weight.data, numbers, stride, padding))


### BEGIN SOLUTION
conv2d = tracked(
    _conv2d,
    (
        lambda g, out, x, weight, bias=None, stride=1, padding=0: conv2d_input_gradient(
            g, x, weight, stride, padding
        ),
        lambda g, out, x, weight, bias=None, stride=1, padding=0: conv2d_weight_gradient(
            g, x, weight, stride, padding
        ),
        lambda g, out, x, weight, bias, stride=1, padding=0: g.sum(axis=(0, 2, 3)),
    ),
    "conv2d",
)
### END SOLUTION

# %% check="conv2d" points=6
def _leaves(*arrays):
    return [Tensor(a, requires_grad=True) for a in arrays]


_rng = np.random.default_rng(1)
_cases = [  # stride, padding, filter, picture
    (1, 0, (2, 2), (3, 3)), (1, 1, (3, 3), (4, 3)), (2, 1, (3, 3), (5, 4)), (3, 2, (2, 3), (4, 5)),
]
for _stride, _padding, _kernel, _size in _cases:
    _what = f"filter {_kernel} on {_size}, stride {_stride}, padding {_padding}"
    _arrays = [_rng.integers(-4, 5, _shape).astype(np.float32)
               for _shape in ((5, 2, *_size), (3, 2, *_kernel), (3,))]
    _x, _w, _b = _leaves(*_arrays)
    _y = conv2d(_x, _w, _b, stride=_stride, padding=_padding)
    check.tensor(f"conv2d against your loops: {_what}", _y,
                 conv2d_explicit(*_arrays, _stride, _padding),
                 why="the kernel on patches must give the numbers of conv2d_explicit")
    check.equal("name and operands in the graph",
                (getattr(_y._node, "name", None), [i for i, _ in getattr(_y._node, "parents", ())]),
                ("conv2d", [0, 1, 2]), why="tracked(forward, rules, name) remembers x, weight and bias")
    _g = _rng.integers(-4, 5, _y.shape).astype(np.float32)
    _y.backward(_g)
    _wanted = conv2d_explicit_backward(_g, *_arrays[:2], _stride, _padding)
    for _name, _tensor, _right in zip(("x", "weight", "bias"), (_x, _w, _b), _wanted):
        check.close(f"gradient of {_name} against your loops: {_what}", _tensor.grad, _right,
                    why="the rule at that operand's position, with the options of the call")
_x, _w = _leaves(_arrays[0], _arrays[1])
conv2d(_x, _w, None, stride=2).sum().backward()
check.close("without a bias, stride 2: gradient of the weight", _w.grad,
            conv2d_explicit_backward(np.ones((5, 3, 2, 2)), *_arrays[:2], 2)[1],
            why="bias None is an operand without a gradient; the other two rules work as before")
_x, _w = _leaves(_arrays[0], _arrays[1])
conv2d(_x, _w).sum().backward()
check.close("only x and weight given: gradient of x", _x.grad,
            conv2d_explicit_backward(np.ones((5, 3, 3, 3)), *_arrays[:2])[0],
            why="bias, stride and padding may be left out of a call, so the rules need defaults for them")
check.grads("conv2d, stride 2, padding 1", check_grads,
            lambda x, w, b: conv2d(x, w, b, stride=2, padding=1),
            *[Tensor(a) for a in (_arrays[0][:2, :, :3], _arrays[1][:2], _arrays[2][:2])])

# %% [markdown]
"""
### The layer

`Conv2d` holds the filters. Its weight has the shape `(out_channels, in_channels, KH, KW)`, its bias
`(out_channels,)` or is None, and both start as PyTorch's do: uniform within `±1/√fan_in`. Fan-in is
what one output looks at; for a linear layer that was `in_features`, for a filter it is all pixels of
all channels in its window. `uniform_(tensor, low, high)` of module 03 fills a Parameter in place.
"""

# %% exercise="Conv2d"
#| export
class Conv2d(Module):
    """Filters that slide over pictures: (N, in_channels, H, W) -> (N, out_channels, OH, OW).

    kernel_size: an int, or (KH, KW). weight (out_channels, in_channels, KH, KW), bias
    (out_channels,) or None; both start uniform within ±1/sqrt(in_channels*KH*KW).
    Raises ValueError for a stride or a padding that is no whole number.
    Source: torch.nn.Conv2d.

    >>> Conv2d(3, 32, 3).weight.shape
    (32, 3, 3, 3)
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
        _check_whole("Conv2d", 1, stride=stride)
        _check_whole("Conv2d", 0, padding=padding)
        kh, kw = (kernel_size, kernel_size) if isinstance(kernel_size, int) else kernel_size
        self.in_channels, self.out_channels, self.kernel_size = in_channels, out_channels, (kh, kw)
        self.stride, self.padding = stride, padding
        ### BEGIN SOLUTION
        bound = 1 / math.sqrt(in_channels * kh * kw)
        self.weight = uniform_(Parameter(zeros(out_channels, in_channels, kh, kw)), -bound, bound)
        self.bias = uniform_(Parameter(zeros(out_channels)), -bound, bound) if bias else None
        ### END SOLUTION

    def extra_repr(self) -> str:
        """The sizes, in the order of the arguments."""
        sizes = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}"
        sizes += f", stride={self.stride}, padding={self.padding}"
        return f"{sizes}, bias={self.bias is not None}"

# %% check="Conv2d" points=3
manual_seed(0)
_layer = Conv2d(4, 200, 5)
check.equal("names of the parameters", sorted(name for name, _ in _layer.named_parameters()),
            ["bias", "weight"], why="the walk finds attributes that are Parameters")
check.equal("shapes of weight and bias of Conv2d(4, 200, 5)", (_layer.weight.shape, _layer.bias.shape),
            ((200, 4, 5, 5), (200,)), why="one filter per output channel, as deep as the input channels, "
                                      "and one number per filter as its bias")
_w, _b = _layer.weight.data, _layer.bias.data
check.close("smallest and largest weight", [_w.min(), _w.max()], [-0.1, 0.1], rtol=0.01,
            why="one output looks at 4 * 5 * 5 = 100 numbers: within ±1/√100, on both sides of 0")
check.close("spread of the weights", _w.std(), 0.1 / 3**0.5, rtol=0.02,
            why="uniform numbers within ±a have standard deviation a/√3")
check.close("smallest and largest bias", [_b.min(), _b.max()], [-0.1, 0.1], rtol=0.1,
            why="the bias is drawn from the same interval")
check.equal("shape of the weight for kernel_size=(2, 3)", Conv2d(1, 6, (2, 3)).weight.shape, (6, 1, 2, 3),
            why="2 rows, 3 columns: use kh and kw, which stand ready")
manual_seed(0)
check.true("the same numbers after manual_seed(0)", np.array_equal(Conv2d(4, 200, 5).weight.data, _w),
           why="draw with uniform_, from the framework's one generator, or no run can be repeated")
check.true("Conv2d(1, 2, 3, bias=False).bias is None", Conv2d(1, 2, 3, bias=False).bias is None,
           why="no bias, no parameter: the walk must find the weight alone")

# %% [markdown]
"""
And what it does when it is called: your `conv2d`, with its own weights, stride and padding.
"""

# %% exercise="Conv2d.forward"
#| export
@method_of(Conv2d)
def forward(self, x: Tensor) -> Tensor:
    """Every filter at every place of x: (N, in_channels, H, W) -> (N, out_channels, OH, OW).

    >>> Conv2d(3, 32, 3, padding=1)(zeros(8, 3, 32, 32)).shape
    (8, 32, 32, 32)
    """
    ### BEGIN SOLUTION
    return conv2d(x, self.weight, self.bias, stride=self.stride, padding=self.padding)
    ### END SOLUTION

# %% check="Conv2d.forward" points=2
_x = np.arange(1.0, 10.0).reshape(1, 1, 3, 3)
_layer = Conv2d(1, 1, 2)
_layer.weight.data[...], _layer.bias.data[...] = [[[[1.0, 2.0], [0.0, -1.0]]]], 100.0
check.tensor("the picture of the Foundations, bias 100", _layer(Tensor(_x)),
             [[[[100, 102], [106, 108]]]], why="the filter's sums, and the bias on top")
manual_seed(1)
for _options in ({"stride": 2}, {"padding": 1}, {"stride": 2, "padding": 2}, {"bias": False}):
    _layer = Conv2d(1, 2, 2, **_options)
    _bias = None if _layer.bias is None else _layer.bias.data
    check.tensor(f"Conv2d(1, 2, 2, {', '.join(f'{k}={v}' for k, v in _options.items())})",
                 _layer(Tensor(_x)), conv2d_explicit(_x, _layer.weight.data, _bias, _layer.stride,
                                                     _layer.padding),
                 why="the layer's own stride, padding and bias, as your loops apply them")
_layer, _input = Conv2d(1, 2, 2), Tensor(_x, requires_grad=True)
_layer(_input).sum().backward()
check.equal("gradients arrive at x, weight and bias",
            [t.grad is not None for t in (_input, _layer.weight, _layer.bias)], [True, True, True],
            why="hand conv2d the Tensors themselves: what was computed on .data can never learn")

# %% [markdown]
"""
Three mistakes that everybody makes with this layer, and what it says then. Read them once now: you
will meet them again at midnight.
"""

# %% demo="three_messages"
layer = Conv2d(3, 8, 5)
for name, shape in [("one picture without a batch", (3, 32, 32)), ("channels last", (8, 32, 32, 3)),
                    ("too small by now", (8, 3, 4, 4))]:
    try:
        layer(zeros(*shape))
    except ValueError as error:
        print(f"{name}:\n    {error}")

# %% [markdown]
"""
### Pooling: look from further away

After a filter has said *where* an edge is, the next layer rarely needs to know it to the pixel.
**Max pooling** keeps the largest number of every window, which makes the picture smaller and forgives
small movements. It has no weights. With kernel 2 the windows usually lie side by side, so the stride
is the kernel size unless you say otherwise:

```
x = [1 3 | 2 0]
    [5 2 | 4 4]       max = [5 4]       mean = [2.75 2.5]
    -----------             [2 9]              [1.25 7.5]
    [0 1 | 7 6]
    [2 2 | 8 9]
```

Loops again? There is a shorter way: turn the loops inside out. A window of 2 by 2 has four places.
Take one place of **all** windows at once, and you have a small picture, a view made by a slice:

```
place (0, 0)  [1 2]    place (0, 1)  [3 0]    place (1, 0)  [5 4]    place (1, 1)  [2 4]
x[0::2, 0::2] [0 7]                  [1 6]                  [2 8]                  [2 9]
```

The maximum of these four pictures, entry by entry, is the result. `_windows(x, kernel, stride)` hands
you the four one after the other, row by row: each time the index `place`, and the view `x[place]`.
A frame of `-inf` never wins. `np.maximum(a, b)` is the larger one, entry by entry; give a result that
has memory of its own, even for a kernel of 1 (a view copied by `.copy()` has).
"""

# %% given="windows"
#| export
def _windows(x: np.ndarray, kernel: int, stride: int) -> Iterator[tuple[tuple, np.ndarray]]:
    """For each of the kernel * kernel places in a window, row by row: its index, and x there.

    Each view is (N, C, OH, OW): the number at that place of every window. Pixels at the edge that no
    whole window covers are left out.
    """
    oh, ow = output_size(x.shape[2], kernel, stride), output_size(x.shape[3], kernel, stride)
    for i, j in np.ndindex(kernel, kernel):
        place = (..., slice(i, i + stride * oh, stride), slice(j, j + stride * ow, stride))
        yield place, x[place]


def _pooling(
    name: str, x: Tensor, kernel_size: int, stride: int | None, padding: int, value: float
) -> Iterator[tuple[tuple, np.ndarray]]:
    """The `_windows` of x in its frame; ValueError where a window could see the frame alone."""
    _check_images(name, x)
    if padding > kernel_size // 2:
        raise ValueError(
            f"{name}: padding {padding} is more than half of the kernel's {kernel_size}. "
            "Some windows would hold nothing but padding: use less."
        )
    return _windows(padded(x.data, padding, value), kernel_size, stride or kernel_size)

# %% exercise="max_pool2d.forward"
#| export
def _max_pool2d(
    x: Tensor, /, kernel_size: int, stride: int | None = None, padding: int = 0
) -> Tensor:
    """Largest number of every window: (N, C, H, W) -> (N, C, OH, OW).

    stride None: the kernel size. padding: a frame that never wins.
    Raises ValueError if x is no batch of pictures, or the windows do not fit.
    Cost: kernel_size**2 passes over the result.
    """
    views = [view for _, view in _pooling("max_pool2d", x, kernel_size, stride, padding, -np.inf)]
    ### BEGIN SOLUTION
    out = views[0].copy()
    for view in views[1:]:
        np.maximum(out, view, out=out)
    return Tensor(out)
    ### END SOLUTION

# %% check="max_pool2d.forward" points=3
_x = np.array([[1.0, 3, 2, 0], [5, 2, 4, 4], [0, 1, 7, 6], [2, 2, 8, 9]]).reshape(1, 1, 4, 4)
check.tensor("windows of 2 by 2, the picture above", _max_pool2d(Tensor(_x), 2), [[[[5, 4], [2, 9]]]],
             why="the largest of 1 3 5 2 is 5, of 2 0 4 4 it is 4")
check.tensor("two pictures of two channels, all numbers below 0",
             _max_pool2d(Tensor(np.stack([_x[0, 0] - 10, -_x[0, 0] - 1, -_x[0, 0], _x[0, 0] - 20])
                                .reshape(2, 2, 4, 4)), 2),
             [[[[-5, -6], [-8, -1]], [[-2, -1], [-1, -7]]],
              [[[-1, 0], [0, -6]], [[-15, -16], [-18, -11]]]],
             why="every channel of every picture by itself; 0 is not a lower bound")
check.tensor("windows of 2 by 2, stride 1", _max_pool2d(Tensor(_x), 2, stride=1),
             [[[[5, 4, 4], [5, 7, 7], [2, 8, 9]]]], why="windows may overlap")
check.tensor("windows of 3 by 3 on 4 by 4", _max_pool2d(Tensor(_x), 3), [[[[7]]]],
             why="the last row and column fill no whole window and are left out, the 9 too")
check.tensor("windows of 3 by 3 on numbers below 0, stride 2, padding 1",
             _max_pool2d(Tensor(_x - 10), 3, stride=2, padding=1), [[[[-5, -6], [-5, -1]]]],
             why="a frame of zeros would win here; a frame of -inf never does")
_pixels = Tensor(_x)
_same = _max_pool2d(_pixels, 1)
check.tensor("a window of 1 by 1", _same, _x, why="each number is the largest of its own window")
check.same_storage("its result and x", _same, _pixels, expected=False,
                   why="whoever changes the result in place must not change the picture")
_max_pool2d(_pixels, 2)
check.tensor("x afterwards", _pixels, _x, why="the views are x's own memory: never write into them")

# %% [markdown]
"""
The rule: only the winner moved the result, so it alone gets the window's `g`. When two numbers of a
window are equally large the **first** one, row by row, gets all of it (`Tensor.max` in module 05
shared it; here we do as PyTorch's pooling does). For `g = [[10, 20], [30, 40]]`:

```
x = [1 3 2 0]      gradient = [ 0  0  0  0]
    [5 2 4 4]                 [10  0 20  0]      20 for the first of two 4s
    [0 1 7 6]                 [ 0  0  0  0]
    [2 2 8 9]                 [30  0  0 40]      30 for the first of two 2s
```

Go through the places as before. At each place, `view == out` says which windows have their maximum
there; but a window that has given its `g` away must not give it again. Keep an array `waiting` of
True and False, one per window, all True at first. Windows may overlap, and a number that wins twice
gets both: `gradient[place] += …` adds what this place gets, into an array as large as the framed
picture. The frame is cut off for you.
"""

# %% exercise="max_pool2d.gradient"
#| exporti
def max_pool_gradient(
    g: np.ndarray,
    out: np.ndarray,
    x: np.ndarray,
    kernel_size: int,
    stride: int | None = None,
    padding: int = 0,
) -> np.ndarray:
    """g of every window for the first of its numbers that equals the maximum: (N, C, H, W)."""
    image = padded(x, padding, -np.inf)
    gradient = np.zeros(image.shape, dtype=g.dtype)
    windows = _windows(image, kernel_size, stride or kernel_size)
    ### BEGIN SOLUTION
    waiting = np.ones(out.shape, dtype=bool)
    for place, view in windows:
        winner = waiting & (view == out)
        gradient[place] += g * winner
        waiting &= ~winner
    ### END SOLUTION
    h, w = x.shape[2:]
    return gradient[:, :, padding : padding + h, padding : padding + w]

# %% check="max_pool2d.gradient" points=6
_x = np.array([[1.0, 3, 2, 0], [5, 2, 4, 4], [0, 1, 7, 6], [2, 2, 8, 9]]).reshape(1, 1, 4, 4)
_g = np.array([[[[10.0, 20.0], [30.0, 40.0]]]])
check.close("the picture above", max_pool_gradient(_g, np.array([[[[5.0, 4], [2, 9]]]]), _x, 2),
            [[[[0, 0, 0, 0], [10, 0, 20, 0], [0, 0, 0, 0], [30, 0, 0, 40]]]],
            why="the winner of each window gets its g, the first one where two are equal")
check.close("windows of 2 by 2 over 3 by 3 equal numbers, stride 1, g = [[1, 2], [3, 4]]",
            max_pool_gradient(np.array([[[[1.0, 2], [3, 4]]]]), np.zeros((1, 1, 2, 2)),
                              np.zeros((1, 1, 3, 3)), 2, 1),
            [[[[1, 2, 0], [3, 4, 0], [0, 0, 0]]]], why="all are equal: the first of each window, "
                                                      "its top left corner, gets all of its g")
check.close("stride 1 on a picture with a 9 in the middle, g = [[1, 2], [3, 4]]",
            max_pool_gradient(np.array([[[[1.0, 2], [3, 4]]]]), np.full((1, 1, 2, 2), 9.0),
                              np.array([[[[0.0, 1, 2], [3, 9, 4], [5, 6, 7]]]]), 2, 1),
            [[[[0, 0, 0], [0, 10, 0], [0, 0, 0]]]], why="the 9 wins all four windows: 1 + 2 + 3 + 4")


def _numpy_max(x, k, s, p):
    """Max pooling for finite differences: every window cut out by itself."""
    x = np.pad(x, ((0, 0), (0, 0), (p, p), (p, p)), constant_values=-np.inf)
    rows, columns = ((x.shape[n] - k) // s + 1 for n in (2, 3))
    return np.array([[[[channel[i * s : i * s + k, j * s : j * s + k].max() for j in range(columns)]
                       for i in range(rows)] for channel in picture] for picture in x])


_many = np.random.default_rng(2).permutation(2 * 2 * 5 * 4).reshape(2, 2, 5, 4) / 4.0
for _k, _s, _p in ((2, 2, 0), (2, 1, 0), (3, 2, 1)):
    check.rule(f"two pictures, two channels, kernel {_k}, stride {_s}, padding {_p}",
               lambda g, out, x, _o=(_k, _s, _p): max_pool_gradient(g, out, x, *_o), 0,
               lambda x, _o=(_k, _s, _p): _numpy_max(x, *_o), _many,
               why="the slope of a maximum is 1 for the winner and 0 for all others")
_pixels = Tensor(_x, requires_grad=True)
tracked(_max_pool2d, (max_pool_gradient,), "max_pool2d")(_pixels, 2, stride=2).backward(_g)
check.close("through the tape, with stride=2 by name", _pixels.grad,
            [[[[0, 0, 0, 0], [10, 0, 20, 0], [0, 0, 0, 0], [30, 0, 0, 40]]]])

# %% [markdown]
"""
**Average pooling** replaces the maximum by the mean; padding counts as zeros, as in PyTorch. In the
picture above: `(1 + 3 + 5 + 2) / 4 = 2.75`. All numbers of a window take part, so on the way back
each gets an equal share of its `g`. The two exercises are short: the views are the same, and there
are `kernel_size**2` of them.
"""

# %% exercise="avg_pool2d.forward"
#| export
def _avg_pool2d(
    x: Tensor, /, kernel_size: int, stride: int | None = None, padding: int = 0
) -> Tensor:
    """Mean of every window, padding counted as zeros: (N, C, H, W) -> (N, C, OH, OW).

    stride None: the kernel size. Raises ValueError as `max_pool2d` does.
    """
    views = [view for _, view in _pooling("avg_pool2d", x, kernel_size, stride, padding, 0.0)]
    ### BEGIN SOLUTION
    return Tensor(sum(views) / kernel_size**2)
    ### END SOLUTION

# %% check="avg_pool2d.forward" points=2
_x = np.array([[1.0, 3, 2, 0], [5, 2, 4, 4], [0, 1, 7, 6], [2, 2, 8, 9]]).reshape(1, 1, 4, 4)
check.tensor("windows of 2 by 2, the picture above", _avg_pool2d(Tensor(_x), 2),
             [[[[2.75, 2.5], [1.25, 7.5]]]], why="(1 + 3 + 5 + 2) / 4 = 2.75")
check.tensor("windows of 3 by 3 on 4 by 4", _avg_pool2d(Tensor(_x), 3), [[[[25 / 9]]]],
             why="nine numbers: (1 + 3 + 2 + 5 + 2 + 4 + 0 + 1 + 7) / 9, the rest fills no window")
check.tensor("kernel 2, stride 2, padding 1", _avg_pool2d(Tensor(_x), 2, stride=2, padding=1),
             [[[[0.25, 1.25, 0], [1.25, 3.5, 2.5], [0.5, 2.5, 2.25]]]],
             why="three zeros and a 1 in the corner: 1 / 4, the padding counts")
_pixels = Tensor(_x)
check.tensor("windows of 2 by 2, stride 1", _avg_pool2d(_pixels, 2, stride=1),
             [[[[2.75, 2.75, 2.5], [2, 3.5, 5.25], [1.25, 4.5, 7.5]]]], why="windows may overlap")
check.tensor("x afterwards", _pixels, _x, why="the views are x's own memory: never write into them")
check.tensor("two pictures of two channels", _avg_pool2d(Tensor(np.arange(16.0).reshape(2, 2, 2, 2)), 2),
             [[[[1.5]], [[5.5]]], [[[9.5]], [[13.5]]]], why="every channel of every picture by itself")

# %% exercise="avg_pool2d.gradient"
#| exporti
def avg_pool_gradient(
    g: np.ndarray,
    out: np.ndarray,
    x: np.ndarray,
    kernel_size: int,
    stride: int | None = None,
    padding: int = 0,
) -> np.ndarray:
    """An equal share of every window's g for each of its numbers: (N, C, H, W)."""
    gradient = np.zeros(padded(x, padding).shape, dtype=g.dtype)
    windows = _windows(gradient, kernel_size, stride or kernel_size)
    ### BEGIN SOLUTION
    share = g / kernel_size**2
    for place, _ in windows:
        gradient[place] += share
    ### END SOLUTION
    h, w = x.shape[2:]
    return gradient[:, :, padding : padding + h, padding : padding + w]

# %% check="avg_pool2d.gradient" points=2
_g = np.array([[[[4.0, 8.0], [12.0, 16.0]]]])
check.close("windows of 2 by 2 side by side, g = [[4, 8], [12, 16]]",
            avg_pool_gradient(_g, None, np.zeros((1, 1, 4, 4)), 2),
            [[[[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]]]],
            why="a quarter of the window's g for each of its four numbers")
check.close("windows of 2 by 2 over 3 by 3, stride 1",
            avg_pool_gradient(_g, None, np.zeros((1, 1, 3, 3)), 2, 1),
            [[[[1, 3, 2], [4, 10, 6], [3, 7, 4]]]],
            why="the middle number lies in all four windows: 1 + 2 + 3 + 4")
check.close("a window of 3 by 3, g = 9", avg_pool_gradient(np.array([[[[9.0]]]]), None,
                                                        np.zeros((1, 1, 3, 4)), 3),
            [[[[1, 1, 1, 0], [1, 1, 1, 0], [1, 1, 1, 0]]]], why="nine numbers share; the last column is "
                                                                "in no window")
check.close("kernel 2, stride 2, padding 1 on 2 by 2", avg_pool_gradient(_g, None, np.zeros((1, 1, 2, 2)),
                                                                       2, 2, 1),
            [[[[1, 2], [3, 4]]]], why="each window holds one pixel and three zeros of the frame: "
                                      "still a quarter")
_pixels = Tensor(np.zeros((1, 1, 4, 4)), requires_grad=True)
tracked(_avg_pool2d, (avg_pool_gradient,), "avg_pool2d")(_pixels, 2).backward(_g)
check.close("through the tape", _pixels.grad,
            [[[[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]]]])

# %% [markdown]
"""
Forward and rule become one operation, and the layers around them are given, in the next cell. One layer
is left: a network for pictures ends in numbers per class, and its last picture must become a row of
features. **Global average pooling** takes the mean of each channel's whole picture, whatever its size:
`(N, C, H, W) -> (N, C)`. Your Tensor can do that, and remembers it too.
"""

# %% given="pooling_layers"
#| export
max_pool2d = tracked(_max_pool2d, (max_pool_gradient,), "max_pool2d")
avg_pool2d = tracked(_avg_pool2d, (avg_pool_gradient,), "avg_pool2d")


class _Pool2d(Module):
    """What the two pooling layers share: their sizes. Raises ValueError for one that is none."""

    def __init__(self, kernel_size: int, stride: int | None = None, padding: int = 0) -> None:
        stride = kernel_size if stride is None else stride
        _check_whole(type(self).__name__, 1, kernel_size=kernel_size, stride=stride)
        _check_whole(type(self).__name__, 0, padding=padding)
        self.kernel_size, self.stride, self.padding = kernel_size, stride, padding

    def extra_repr(self) -> str:
        """The sizes, in the order of the arguments."""
        return f"{self.kernel_size}, stride={self.stride}, padding={self.padding}"


class MaxPool2d(_Pool2d):
    """Largest number of every window, (N, C, H, W) -> (N, C, OH, OW); stride None: kernel_size."""

    def forward(self, x: Tensor) -> Tensor:
        """See `max_pool2d`."""
        return max_pool2d(x, self.kernel_size, stride=self.stride, padding=self.padding)


class AvgPool2d(_Pool2d):
    """Mean of every window, (N, C, H, W) -> (N, C, OH, OW); stride None: kernel_size."""

    def forward(self, x: Tensor) -> Tensor:
        """See `avg_pool2d`."""
        return avg_pool2d(x, self.kernel_size, stride=self.stride, padding=self.padding)

# %% exercise="GlobalAvgPool2d.forward"
#| export
class GlobalAvgPool2d(Module):
    """Mean of every channel's whole picture: (N, C, H, W) -> (N, C)."""

    def forward(self, x: Tensor) -> Tensor:
        """The mean over rows and columns, by a Tensor operation.

        Raises ValueError if x is no batch of pictures.

        >>> GlobalAvgPool2d()(ones(8, 16, 4, 4)).shape
        (8, 16)
        """
        _check_images("GlobalAvgPool2d", x)
        ### BEGIN SOLUTION
        return x.mean(axis=(2, 3))
        ### END SOLUTION

# %% check="GlobalAvgPool2d.forward" points=2
_x = Tensor(np.arange(24.0).reshape(2, 2, 2, 3))
check.tensor("two pictures of two channels of 2 by 3", GlobalAvgPool2d()(_x), [[2.5, 8.5], [14.5, 20.5]],
             why="(0 + 1 + 2 + 3 + 4 + 5) / 6 = 2.5: one number per picture and channel")
check.connected("the result from x", GlobalAvgPool2d(), _x,
                why="NumPy's mean remembers nothing: the filters below would never learn")

# %% [markdown]
"""
### Batch normalisation: the right size at every step

In module 03 you chose starting values so that a signal keeps its size through fifty layers. Then
training changes the weights, and nobody chooses any more. **Batch normalisation** puts the size
right in every forward pass: each channel, over all pictures of the batch and all their pixels, is
brought to mean 0 and variance 1. Then the layer gives the network back what it may need, a scale
(`weight`) and a shift (`bias`) per channel, which are learned:

```
one channel, four numbers     x        [ 8  8 12 12]      mean 10, variance 4
minus the mean                centred  [-2 -2  2  2]
divided by √(4 + eps)         normal   [-1 -1  1  1]
times weight 3, plus bias 5   out      [ 2  2  8  8]
```

`eps` is a hundred-thousandth, so that a channel whose numbers are all equal is not divided by 0.
The variance here is the plain mean of the squared distances, `correction=0`.

Mean and variance come into the operation as arrays of shape `(C,)`, because there are two kinds of
them: in training those of this batch, in use those that were collected on the way. The formula is
the same. `_channel(values)` gives a `(C,)` array the shape `(1, C, 1, 1)`, so that it broadcasts over
pictures and pixels.
"""

# %% exercise="batch_norm.forward"
#| export
def _channel(values: np.ndarray) -> np.ndarray:
    """(C,) as (1, C, 1, 1): one number per channel, for broadcasting over pictures and pixels."""
    return values.reshape(1, -1, 1, 1)


def _batch_norm(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    /,
    mean: np.ndarray,
    var: np.ndarray,
    eps: float = 1e-5,
    training: bool = True,
) -> Tensor:
    """(x - mean) / sqrt(var + eps) * weight + bias, channel by channel.

    x: (N, C, H, W), weight and bias: (C,), mean and var: (C,) arrays; result as x.
    training: mean and var are those of x itself, so x moves them too (the gradient must know).
    Source: Ioffe and Szegedy 2015, algorithm 1.
    """
    ### BEGIN SOLUTION
    scale = weight.data / np.sqrt(var + eps)
    return Tensor(x.data * _channel(scale) + _channel(bias.data - mean * scale))
    ### END SOLUTION

# %% check="batch_norm.forward" points=4
_x = np.array([8.0, 8, 12, 12]).reshape(1, 1, 2, 2)
_one, _zero = Tensor([1.0]), Tensor([0.0])
check.tensor("[8, 8, 12, 12] with mean 10, variance 4",
             _batch_norm(Tensor(_x), _one, _zero, np.array([10.0]), np.array([4.0])),
             [[[[-1, -1], [1, 1]]]], why="(8 - 10) / √4 = -1", rtol=1e-4)
check.tensor("the same with weight 3, bias 5",
             _batch_norm(Tensor(_x), Tensor([3.0]), Tensor([5.0]), np.array([10.0]), np.array([4.0])),
             [[[[2, 2], [8, 8]]]], why="-1 * 3 + 5 = 2 and 1 * 3 + 5 = 8", rtol=1e-4)
check.tensor("variance 3 and eps 1",
             _batch_norm(Tensor(_x), _one, _zero, np.array([10.0]), np.array([3.0]), eps=1.0),
             [[[[-1, -1], [1, 1]]]], why="eps is added to the variance, under the root: √(3 + 1) = 2")
check.tensor("variance 0", _batch_norm(Tensor(_x - _x), _one, Tensor([5.0]), np.zeros(1), np.zeros(1)),
             [[[[5, 5], [5, 5]]]], why="0 / √(0 + eps) = 0, and the bias remains")
_two = Tensor(np.concatenate([_x, 10 * _x], axis=1).repeat(2, axis=0))
check.tensor("two pictures, two channels, each with numbers of its own",
             _batch_norm(_two, Tensor([1.0, 2.0]), Tensor([0.0, 100.0]), np.array([10.0, 80.0]),
                         np.array([4.0, 400.0])),
             np.array([[[[-1, -1], [1, 1]], [[100, 100], [104, 104]]]] * 2),
             why="channel 1: (120 - 80) / 20 * 2 + 100 = 104; a number per channel, axis 1", rtol=1e-4)
check.tensor("in use, with mean 8 and variance 16 from elsewhere",
             _batch_norm(Tensor(_x), _one, _zero, np.array([8.0]), np.array([16.0]), training=False),
             [[[[0, 0], [1, 1]]]], why="the numbers that are handed in, not those of x", rtol=1e-4)
_pixels = Tensor(_x)
check.tensor("in use, with weight 3 and bias 5 as well",
             _batch_norm(_pixels, Tensor([3.0]), Tensor([5.0]), np.array([8.0]), np.array([16.0]),
                         training=False),
             [[[[5, 5], [8, 8]]]], why="the formula is the same in both modes: 0 * 3 + 5 and 1 * 3 + 5",
             rtol=1e-4)
check.tensor("x afterwards", _pixels, _x, why="the rules need x as it was: make a new array")

# %% [markdown]
"""
The rules. For the learned scale it is short: `out = normal * weight + bias`, so the weight's gradient
is the sum of `g * normal` over all pictures and pixels of its channel, and the bias's is the sum of
`g`, as in `conv2d`. Two helpers are given. `_normalised` computes `normal` again from x, which costs
less than keeping it, and `_channel_sum(a, b)` adds up `a * b` per channel without making the product
array.
"""

# %% exercise="batch_norm.weight_gradient"
#| exporti
def _normalised(x: np.ndarray, mean: np.ndarray, var: np.ndarray, eps: float) -> np.ndarray:
    """(x - mean) / sqrt(var + eps), channel by channel."""
    normal = x - _channel(mean)
    normal *= _channel(1 / np.sqrt(var + eps))
    return normal


def _channel_sum(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Sum of a * b over pictures and pixels, one number per channel: (C,)."""
    return np.einsum("nchw,nchw->c", a, b)


def batch_norm_weight_gradient(
    g: np.ndarray,
    out: np.ndarray,
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray,
    mean: np.ndarray,
    var: np.ndarray,
    eps: float = 1e-5,
    training: bool = True,
) -> np.ndarray:
    """g times the normalised x, added up per channel: (C,)."""
    ### BEGIN SOLUTION
    return _channel_sum(g, _normalised(x, mean, var, eps))
    ### END SOLUTION

# %% check="batch_norm.weight_gradient" points=2
_x = np.array([8.0, 8, 12, 12]).reshape(1, 1, 2, 2)
_g = np.array([4.0, 0, 0, 7]).reshape(1, 1, 2, 2)
_operands = _x, np.array([3.0]), np.array([5.0]), np.array([10.0]), np.array([3.0])
check.close("g = [4, 0, 0, 7], normal = [-1, -1, 1, 1]",
            batch_norm_weight_gradient(_g, 5 + 3 * (_x - 10) / 2, *_operands, eps=1.0), [3],
            why="4 * (-1) + 7 * 1 = 3, with eps as it is handed in")
check.close("the same with weight 0, so that out is 5 everywhere",
            batch_norm_weight_gradient(_g, 5 + 0 * _x, _x, np.zeros(1), *_operands[2:], eps=1.0), [3],
            why="out has forgotten x then, and the weight must be able to leave 0 again")
_x = np.random.default_rng(4).normal(size=(3, 2, 2, 2))
check.rule("three pictures, two channels",
           lambda g, out, w: batch_norm_weight_gradient(g, out, _x, w, 0 * w, np.ones(2), np.full(2, 4.0)),
           0, lambda w: (_x - 1) / np.sqrt(4 + 1e-5) * w.reshape(1, 2, 1, 1), np.array([1.0, -2.0]),
           why="one number per channel: all pictures and pixels added up")

# %% [markdown]
"""
### The gradient of a normalisation, step by step

The rule for x is the hardest of this module, so we take it apart. In training x has more than one
way to the result: directly, and through the mean and the variance of its channel, which move when x
moves. Written as three steps, each has a rule that fits on a line:

```
step 1    centred = x - mean(x)
step 2    normal  = centred / √(mean(centred²) + eps)
step 3    out     = normal * weight + bias                 rule: g * weight
```

**Step 1.** Nudge one of the m numbers of a channel up by a little `d`. Its own `centred` rises by
`d`. The mean rises by `d / m`, so all m of them, itself included, sink by `d / m`. What comes back to
it is its own `g`, minus a share of 1/m of everybody's: `g - mean(g)`, per channel.

```
g = [4 0 0 0]      mean 1      comes back  [3 -1 -1 -1]
```

The sum of what comes back is always 0, as it must be: raising all numbers together changes nothing.
"""

# %% exercise="centring_gradient"
#| exporti
def centring_gradient(g: np.ndarray) -> np.ndarray:
    """Gradient of x - mean(x) for x (N, C, H, W): g minus its mean, channel by channel.

    >>> centring_gradient(np.array([4.0, 0.0, 0.0, 0.0]).reshape(1, 1, 2, 2)).ravel().tolist()
    [3.0, -1.0, -1.0, -1.0]
    """
    ### BEGIN SOLUTION
    return g - _channel(g.mean(axis=(0, 2, 3)))
    ### END SOLUTION

# %% check="centring_gradient" points=3
_g = np.array([4.0, 0, 0, 0]).reshape(1, 1, 2, 2)
check.close("g = [4, 0, 0, 0]", centring_gradient(_g), [[[[3, -1], [-1, -1]]]],
            why="mean 1: 4 - 1 and 0 - 1")
check.close("two pictures, g = [4, 0, 0, 0] and [0, 0, 0, 12]",
            centring_gradient(np.concatenate([_g, 3 * _g[:, :, ::-1, ::-1]])),
            [[[[2, -2], [-2, -2]]], [[[-2, -2], [-2, 10]]]],
            why="the mean is taken over the whole batch: 16 / 8 = 2")
check.rule("three pictures, two channels", lambda g, out, x: centring_gradient(g), 0,
           lambda x: x - x.mean(axis=(0, 2, 3), keepdims=True),
           np.random.default_rng(5).normal(size=(3, 2, 2, 2)), why="one mean per channel, not one for all")
_kept = _g.copy()
centring_gradient(_g)
check.close("g afterwards", _g, _kept, why="others still need g: make a new array")

# %% [markdown]
"""
**Step 2.** Now `centred` becomes `normal` by division through the spread, `√(mean(centred²) + eps)`;
call one over it `scale`. Nudge `centred[i]` by `d`:

- its own `normal[i]` rises by `scale * d`;
- `v = mean(centred²) + eps` grows by `2 * centred[i] * d / m`, so the spread grows, and **every**
  `normal[j] = centred[j] / √v` shrinks. The slope of `1/√v` is `-1/2` times `1/√v` times `1/v`; put in the
  growth of v, write `normal` for `centred / √v` twice, and what each of them loses is
  `scale * d * normal[j] * normal[i] / m`.

Weighted by `g` and added up over all j, what comes back to `i` is

    scale * (g[i] - normal[i] * mean(g * normal))

with the mean over the channel. With `scale = 1/2`:

```
normal = [-1 -1 1 1]      g = [4 0 0 0]      mean(g * normal) = -4 / 4 = -1

g - normal * (-1)  =  [4-1  0-1  0+1  0+1]  =  [3 -1 1 1]      times 1/2:  [1.5 -0.5 0.5 0.5]
```

Multiply what comes back by `normal` and add up: `-1.5 + 0.5 + 0.5 + 0.5 = 0`. Stretching all numbers
together changes nothing either.
"""

# %% exercise="scaling_gradient"
#| exporti
def scaling_gradient(g: np.ndarray, normal: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Gradient of centred / sqrt(mean(centred²) + eps) for centred, channel by channel.

    g and normal, the result of the division: (N, C, H, W); scale: (C,), one over the root.

    >>> g, normal = (np.array(v).reshape(1, 1, 2, 2) for v in ([4.0, 0, 0, 0], [-1.0, -1, 1, 1]))
    >>> scaling_gradient(g, normal, np.array([0.5])).ravel().tolist()
    [1.5, -0.5, 0.5, 0.5]
    """
    ### BEGIN SOLUTION
    along = _channel_sum(g, normal) / (g.size // g.shape[1])
    sent = normal * _channel(-along)  # one new array, then in place
    sent += g
    sent *= _channel(scale)
    return sent
    ### END SOLUTION

# %% check="scaling_gradient" points=5
_g = np.array([4.0, 0, 0, 0]).reshape(1, 1, 2, 2)
_normal = np.array([-1.0, -1, 1, 1]).reshape(1, 1, 2, 2)
check.close("g = [4, 0, 0, 0], normal = [-1, -1, 1, 1], scale 1",
            scaling_gradient(_g, _normal, np.array([1.0])), [[[[3, -1], [1, 1]]]],
            why="mean(g * normal) = -1, so g + normal")
check.close("the same with scale 1/2", scaling_gradient(_g, _normal, np.array([0.5])),
            [[[[1.5, -0.5], [0.5, 0.5]]]], why="everything that comes back passed the division")
check.close("two pictures, g = 0 in the second",
            scaling_gradient(np.concatenate([_g, 0 * _g]), np.concatenate([_normal, _normal]), np.ones(1)),
            [[[[3.5, -0.5], [0.5, 0.5]]], [[[-0.5, -0.5], [0.5, 0.5]]]],
            why="the mean is over the whole batch, -4 / 8: the second picture feels the first one")


def _divided(centred):
    return centred / np.sqrt((centred**2).mean(axis=(0, 2, 3), keepdims=True) + 0.1)


check.rule("three pictures, two channels, eps 0.1",
           lambda g, out, c: scaling_gradient(g, out, 1 / np.sqrt((c**2).mean(axis=(0, 2, 3)) + 0.1)), 0,
           _divided, np.random.default_rng(6).normal(size=(3, 2, 2, 2)) * [[[[1]], [[5]]]],
           why="compared with central differences of the division; each channel by itself")
_kept = _g.copy(), _normal.copy()
scaling_gradient(_g, _normal, np.array([0.5]))
check.close("g and normal afterwards", np.stack([_g, _normal]), np.stack(_kept),
            why="others still need them: make a new array")

# %% [markdown]
"""
**Together.** Backwards means step 3 first: `g * weight`, then step 2, then step 1. The weight is one
number per channel, and such a factor may be multiplied in at any time; so let
`scale = weight / √(var + eps)` and hand that to step 2. For the example, with weight 1:
`[1.5 -0.5 0.5 0.5]` minus its mean 0.5 is `[1 -1 0 0]`. Raise the first 8 a little, and its result
moves up, its twin's down, and those of the other two not at all.

In use (`training` is False) mean and variance are fixed numbers from elsewhere. x moves nobody but
itself: what comes back is `g * scale`, and nothing else.
"""

# %% exercise="batch_norm.input_gradient"
#| exporti
def batch_norm_input_gradient(
    g: np.ndarray,
    out: np.ndarray,
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray,
    mean: np.ndarray,
    var: np.ndarray,
    eps: float = 1e-5,
    training: bool = True,
) -> np.ndarray:
    """What x gets: in training x also moves the mean and the variance of its channel.

    Source: Ioffe and Szegedy 2015, section 3.
    """
    ### BEGIN SOLUTION
    scale = weight / np.sqrt(var + eps)
    if not training:
        return g * _channel(scale)
    return centring_gradient(scaling_gradient(g, _normalised(x, mean, var, eps), scale))
    ### END SOLUTION

# %% check="batch_norm.input_gradient" points=4
_x = np.array([8.0, 8, 12, 12]).reshape(1, 1, 2, 2)
_g = np.array([4.0, 0, 0, 0]).reshape(1, 1, 2, 2)
_operands = _x, np.array([1.0]), np.array([0.0]), np.array([10.0]), np.array([3.0])
check.close("in use: [8, 8, 12, 12] with variance 3 and eps 1, g = [4, 0, 0, 0]",
            batch_norm_input_gradient(_g, None, *_operands, eps=1.0, training=False),
            [[[[2, 0], [0, 0]]]], why="mean and variance are fixed: 4 * 1 / √(3 + 1), and 0 for the others")
check.close("in training: the example above",
            batch_norm_input_gradient(_g, None, *_operands[:4], np.array([4.0]), eps=0.0),
            [[[[1, -1], [0, 0]]]], why="step 2 gives [1.5, -0.5, 0.5, 0.5], step 1 takes its mean away")
check.close("in training, with weight 3",
            batch_norm_input_gradient(_g, None, _x, np.array([3.0]), *_operands[2:4], np.array([4.0]),
                                      eps=0.0),
            [[[[3, -3], [0, 0]]]], why="step 3: everything passes the weight")


def _whole(x, weight, bias, eps):
    mean, var = x.mean(axis=(0, 2, 3), keepdims=True), x.var(axis=(0, 2, 3), keepdims=True)
    return (x - mean) / np.sqrt(var + eps) * weight.reshape(1, -1, 1, 1) + bias.reshape(1, -1, 1, 1)


def _statistics(x):
    return x.mean(axis=(0, 2, 3)), x.var(axis=(0, 2, 3))


_x = np.random.default_rng(8).normal(3.0, 2.0, size=(3, 2, 2, 2))
check.rule("three pictures, two channels, in training",
           lambda g, out, x, w, b: batch_norm_input_gradient(g, out, x, w, b, *_statistics(x), eps=0.1), 0,
           lambda x, w, b: _whole(x, w, b, 0.1), _x, np.array([2.0, -3.0]), np.array([1.0, 0.0]),
           why="compared with central differences of the whole normalisation")
_weights = np.array([2.0, -3.0]), np.array([1.0, 0.0])
check.close("in training, g = 1 everywhere", batch_norm_input_gradient(
                np.ones(_x.shape), None, _x, *_weights, *_statistics(_x)), np.zeros(_x.shape),
            why="the sum of a normalised channel is 0 whatever x is: nothing can move it")
check.rule("in use, with mean 1 and variance 4 from elsewhere",
           lambda g, out, x, w, b: batch_norm_input_gradient(g, out, x, w, b, np.ones(2), np.full(2, 4.0),
                                                             training=False), 0,
           lambda x, w, b: (x - 1) / np.sqrt(4 + 1e-5) * w.reshape(1, 2, 1, 1), _x, *_weights,
           why="the weight and the spread of each channel, and no more")

# %% [markdown]
"""
### What is remembered for later

In use a picture may come alone, and its answer must not depend on who else is in the batch. So while
it trains the layer collects a **running** mean and variance: plain Tensors, *buffers* (module 03),
which are saved with the model but do not learn. They start at 0 and 1, and each batch moves them a
tenth of the way (`momentum = 0.1`) towards its own:

```
batch [8 8 12 12]     running_mean   0.9 * 0 + 0.1 * 10      = 1
                      running_var    0.9 * 1 + 0.1 * 16 / 3  = 1.4333
the same again        running_mean   0.9 * 1 + 0.1 * 10      = 1.9
```

Why 16 / 3 and not 16 / 4? The running variance is an estimate for pictures that are not in the batch,
so it is the unbiased one: divided by m - 1, which is `m / (m - 1)` times the plain one. The batch
itself is normalised with the plain one. PyTorch makes the same difference.

And with m = 1 there is no variance at all: one picture of one pixel per channel. Its distance from its
own mean is 0, every result would be the bias, and m - 1 is 0. That must be an error that says what to
do: a larger batch, or `eval()`.

The next cell joins your rules to the forward pass and begins the layer; its two methods are yours.
"""

# %% given="BatchNorm2d"
#| export
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
    """Every channel brought to mean 0 and variance 1, then scaled and shifted as it learns to.

    x: (N, num_features, H, W). In training the batch's own mean and variance count, and the running
    ones move towards them by `momentum`; in use the running ones count.
    Raises ValueError if x is no batch of so many channels, or has one value per channel in training.
    Source: Ioffe and Szegedy 2015, algorithm 1; torch.nn.BatchNorm2d.
    """

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.weight, self.bias = Parameter(ones(num_features)), Parameter(zeros(num_features))
        self.running_mean, self.running_var = zeros(num_features), ones(num_features)

    def extra_repr(self) -> str:
        """The number of channels."""
        return f"{self.num_features}, eps={self.eps}, momentum={self.momentum}"

# %% exercise="BatchNorm2d.observe"
#| export
@method_of(BatchNorm2d)
def observe(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and plain variance of every channel of `values` (N, C, H, W), two arrays (C,).

    Moves running_mean and running_var towards them by `momentum`, the latter to the unbiased one.
    Raises ValueError naming the shape if there is one value per channel.
    """
    ### BEGIN SOLUTION
    count = values.size // values.shape[1]
    if count == 1:
        raise ValueError(
            f"BatchNorm2d: x {values.shape} has one value per channel, which has no variance. "
            "Train with larger batches, or call eval() to use the running statistics."
        )
    mean, var = values.mean(axis=(0, 2, 3)), values.var(axis=(0, 2, 3))
    unbiased = var * (count / (count - 1))
    self.running_mean.data += self.momentum * (mean - self.running_mean.data)
    self.running_var.data += self.momentum * (unbiased - self.running_var.data)
    return mean, var
    ### END SOLUTION

# %% check="BatchNorm2d.observe" points=4
_x = np.array([8.0, 8, 12, 12], dtype=np.float32).reshape(1, 1, 2, 2)
_layer = BatchNorm2d(1)
_seen = _layer.observe(_x)
check.equal("what comes back",
            [type(v).__name__ for v in _seen] if isinstance(_seen, tuple) else type(_seen).__name__,
            ["ndarray", "ndarray"], why="the batch's mean and its variance, as arrays: batch_norm wants no Tensors")
check.close("mean and variance of [8, 8, 12, 12]", [np.ravel(_seen[0]), np.ravel(_seen[1])], [[10], [4]],
            why="the plain variance, 16 / 4: with it the batch is normalised")
check.tensor("running_mean after it", _layer.running_mean, [1.0], why="0.9 * 0 + 0.1 * 10")
check.tensor("running_var after it", _layer.running_var, [0.9 + 0.1 * 16 / 3],
             why="0.9 * 1 + 0.1 * 16 / 3, the unbiased variance: divided by m - 1 = 3")
_layer.observe(_x)
check.tensor("running_mean after a second batch like it", _layer.running_mean, [1.9],
             why="0.9 * 1 + 0.1 * 10: a tenth of the way that is left")
_layer = BatchNorm2d(2, momentum=0.5)
_two = np.concatenate([_x, 10 * _x], axis=1).repeat(3, axis=0)
_seen = _layer.observe(_two)
check.close("mean and variance of three pictures of two channels", np.array(_seen), [[10, 100], [4, 400]],
            why="one number per channel: over pictures, rows and columns")
check.tensor("running_mean with momentum 0.5", _layer.running_mean, [5, 50], why="half of the way")
check.tensor("running_var with momentum 0.5", _layer.running_var,
             [0.5 + 2 * 12 / 11, 0.5 + 200 * 12 / 11], why="m = 12 numbers per channel: 48 / 11 and 4800 / 11")
check.equal("what the layer would save", sorted(_layer.state_dict()),
            ["bias", "running_mean", "running_var", "weight"],
            why="the running ones stay Tensors, and nothing else is kept: only so does the model come back")
check.equal("who learns", [name for name, _ in _layer.named_parameters()], ["weight", "bias"],
            why="the running statistics are no Parameters: an optimizer must not move them")
check.raises("one picture of one pixel, (1, 2, 1, 1)", ValueError,
             lambda: BatchNorm2d(2).observe(np.ones((1, 2, 1, 1))),
             why="one value per channel has no variance: name the shape, and eval() as the way out",
             mention=["(1, 2, 1, 1)", "eval"])

# %% [markdown]
"""
Now the layer's forward pass, three lines: where mean and variance come from depends on
`self.training`; then your `batch_norm`, which must be told `eps` and the mode as well.
"""

# %% exercise="BatchNorm2d.forward"
#| export
@method_of(BatchNorm2d)
def forward(self, x: Tensor) -> Tensor:
    """x with every channel normalised, scaled by `weight` and shifted by `bias`.

    >>> BatchNorm2d(16)(zeros(8, 16, 4, 4)).shape
    (8, 16, 4, 4)
    """
    _check_images("BatchNorm2d", x, self.num_features)
    ### BEGIN SOLUTION
    if self.training:
        mean, var = self.observe(x.data)
    else:
        mean, var = self.running_mean.data, self.running_var.data
    return batch_norm(
        x, self.weight, self.bias, mean, var, eps=self.eps, training=self.training
    )
    ### END SOLUTION

# %% check="BatchNorm2d.forward" points=3
_x = np.array([8.0, 8, 12, 12], dtype=np.float32).reshape(1, 1, 2, 2)
_layer = BatchNorm2d(1, eps=1e-3)
_layer.weight.data[...], _layer.bias.data[...] = 3.0, 5.0
_y = _layer(Tensor(_x))
check.tensor("in training: [8, 8, 12, 12], weight 3, bias 5, eps 0.001", _y,
             5 + 3 * np.array([-2.0, -2, 2, 2]).reshape(1, 1, 2, 2) / 4.001**0.5,
             why="normalised by its own mean 10 and variance 4, with the layer's eps")
check.tensor("running_mean after it", _layer.running_mean, [1.0], why="training observes, once per batch")
_layer.eval()
_layer.running_mean.data[...], _layer.running_var.data[...] = 8.0, 15.999
check.tensor("in use: running mean 8, running variance 15.999", _layer(Tensor(_x)), [[[[5, 5], [8, 8]]]],
             why="(12 - 8) / √(15.999 + 0.001) * 3 + 5 = 8", rtol=1e-4)
check.tensor("running_mean after that", _layer.running_mean, [8.0],
             why="in use nothing is observed: an answer must not change the model")
check.tensor("one picture of one pixel, in use", _layer(Tensor(_x[:, :, :1, :1])), [[[[5]]]],
             why="with the running statistics one value is enough", rtol=1e-4)
_many = Tensor(np.random.default_rng(9).normal(2.0, 3.0, size=(3, 2, 2, 2)))
for _mode in (True, False):
    _layer = BatchNorm2d(2).train(_mode)
    _layer.weight.data[...] = [2.0, -3.0]
    check.grads(f"the layer on three pictures, {'in training' if _mode else 'in use'}", check_grads,
                _layer, _many, why="in training x also moves the mean and the variance: the rule of batch_norm "
                                   "knows it, if it is told the mode")
_leaf = Tensor(_many.data, requires_grad=True)
(BatchNorm2d(2)(_leaf) * _many).sum().backward()
check.true("a gradient arrives at x", _leaf.grad is not None,
           why="hand batch_norm the Tensor: what was computed on .data can never learn")

# %% [markdown]
"""
## Use: a network that sees

All parts are there. Put them together for the digits of the first demo. Two blocks of convolution,
normalisation and ReLU, each looking from further away, then the means of 32 channels, and ten numbers:

```
layer                                        what comes out
Conv2d        1 -> 16 channels, kernel 3     (N, 16, 8, 8)     padding keeps the size; no bias
BatchNorm2d                                  (N, 16, 8, 8)
ReLU                                         (N, 16, 8, 8)
MaxPool2d     windows of 2 by 2              (N, 16, 4, 4)
Conv2d        16 -> 32 channels, kernel 3    (N, 32, 4, 4)     padding keeps the size; no bias
BatchNorm2d                                  (N, 32, 4, 4)
ReLU                                         (N, 32, 4, 4)
GlobalAvgPool2d                              (N, 32)
Linear        32 -> 10 classes               (N, 10)           logits, as the loss wants them
```

Why no bias? The normalisation that follows takes away each channel's mean, and any bias with it.
"""

# %% exercise="digits_cnn"
def digits_cnn():
    """A Sequential for gray pictures (N, 1, H, W): two convolution blocks, 10 logits (N, 10)."""
    ### BEGIN SOLUTION
    return Sequential(
        Conv2d(1, 16, 3, padding=1, bias=False),
        BatchNorm2d(16),
        ReLU(),
        MaxPool2d(2),
        Conv2d(16, 32, 3, padding=1, bias=False),
        BatchNorm2d(32),
        ReLU(),
        GlobalAvgPool2d(),
        Linear(32, 10),
    )
    ### END SOLUTION

# %% check="digits_cnn" points=4
manual_seed(0)
_net = digits_cnn()
check.equal("the layers", [type(_layer).__name__ for _layer in _net],
            ["Conv2d", "BatchNorm2d", "ReLU", "MaxPool2d", "Conv2d", "BatchNorm2d", "ReLU",
             "GlobalAvgPool2d", "Linear"], why="in the order of the table")
_shapes, _x = [], zeros(2, 1, 8, 8)
for _layer in _net:
    _x = _layer(_x)
    _shapes.append(_x.shape)
check.equal("what comes out of each layer for x (2, 1, 8, 8)", _shapes,
            [(2, 16, 8, 8)] * 3 + [(2, 16, 4, 4)] + [(2, 32, 4, 4)] * 3 + [(2, 32), (2, 10)],
            why="as in the table: padding=1 keeps the size of the picture under a kernel of 3")
check.equal("number of parameters", sum(p.size for p in _net.parameters()), 5178,
            why="144 + 32 in the first block, 4608 + 64 in the second, 320 + 10 in the last layer: "
                "convolutions without bias")
check.equal("shape for pictures of 12 by 16", _net(zeros(3, 1, 12, 16)).shape, (3, 10),
            why="no layer depends on the size of the picture")
_x = np.random.default_rng(7).normal(size=(8, 1, 4, 4)).astype(np.float32)
_t, _losses = np.arange(8) % 3, []
_optimizer = SGD(_net.parameters(), lr=0.5)
for _ in range(2):
    _loss = CrossEntropyLoss()(_net(Tensor(_x)), _t)
    _optimizer.zero_grad()
    _loss.backward()
    _losses.append(_loss.item())
    _idle = [name for name, p in _net.named_parameters() if p.grad is None or not np.abs(p.grad).max()]
    check.equal("parameters without a gradient", _idle, [],
                why="the loss must reach the first filter, through all that lies between")
    _optimizer.step()
check.true("one step along the gradient lowers the loss", _losses[1] < _losses[0], got=_losses,
           why="all rules together point downhill")
check.grads("the whole network, in training", check_grads, _net, Tensor(_x[:2, :, :3, :2]),
            why="convolution, normalisation, ReLU, pooling and the rest as one function of the pictures")

# %% [markdown]
"""
Now train it, with module 07's Trainer and a schedule. It has 5,178 parameters; the network of the
first demo had 4,810. Both on the digits as they are, then moved.
"""

# %% demo="train_the_cnn"
def trained(make, epochs=8):
    """A Trainer that has trained the network that `make` makes, and the seconds it took."""
    manual_seed(0)
    net = make()
    optimizer = Adam(net.parameters(), lr=0.02)
    schedule = WarmupCosine(optimizer, 20, 63 * epochs)  # 4,000 digits in batches of 64: 63 steps
    run = Trainer(net, CrossEntropyLoss(), optimizer, scheduler=schedule)
    start = time.perf_counter()
    run.fit(train, epochs, validation=test)
    return run, time.perf_counter() - start


cnn, seconds = trained(digits_cnn)
print("accuracy after each epoch:", " ".join(f"{v:.3f}" for v in cnn.history["val_accuracy"]))
print(f"{seconds:.1f} s of training")
print(f"{'':24}{'MLP':>8}{'CNN':>8}")
for right, name in ((0, "as they are"), (1, "one pixel to the right"), (-1, "to the left")):
    data = moved(test[0], right), test[1]
    scores = [run.evaluate(data)["accuracy"] for run in (mlp, cnn)]
    print(f"{name:24}" + "".join(f"{score:8.1%}" for score in scores))

# %% [markdown]
"""
And what does it look for? The 16 filters of the first layer are 3 by 3 numbers each. Below, `#` is a
weight far above 0 and `+` one above, `=` is far below 0 and `-` below, a dot is near 0. Find the ones
that Sobel would have recognised. Under them, a digit and what the four filters that answer it most
make of it, after normalisation and ReLU; filters are counted from 0, row by row.
"""

# %% demo="filters"
weight = cnn.model[0].weight.data[:, 0]
for first in (0, 8):
    for i in range(3):
        rows = ["".join("=-.+#"[int(np.clip(np.round(v / np.abs(f).max() * 2), -2, 2)) + 2] + " "
                        for v in f[i]) for f in weight[first : first + 8]]
        print("   ".join(rows))
    print()
cnn.model.eval()
seen = cnn.model[:3](Tensor(test[0][:1])).data[0]
best = np.argsort(-seen.mean(axis=(1, 2)))[:4]
draw(test[0][0, 0], *(2 * seen[best] / seen[best].max()))
print("filters", ", ".join(str(i) for i in best))

# %% [markdown]
"""
What is the normalisation worth? The same network without its two BatchNorm layers, with biases
instead, trained the same way:
"""

# %% demo="without_batch_norm"
def without_norm():
    """`digits_cnn` with biases in the place of the normalisation."""
    return Sequential(
        Conv2d(1, 16, 3, padding=1), ReLU(), MaxPool2d(2),
        Conv2d(16, 32, 3, padding=1), ReLU(), GlobalAvgPool2d(), Linear(32, 10),
    )


plain, seconds = trained(without_norm)
for name, run in (("with BatchNorm", cnn), ("without", plain)):
    print(f"{name:16}", " ".join(f"{v:.3f}" for v in run.history["val_accuracy"]))

# %% [markdown]
"""
## Measure: few weights, much work

Before any clock: count. Every number that comes out of a convolution costs one multiply-accumulate
(MAC: one product, one addition) per weight of its filter. Take a batch of 128 pictures of CIFAR-10's
size, 3 channels of 32 by 32 pixels, and `Conv2d(3, 32, 5)` without padding.

**1.** How many millions of multiply-accumulates is that, forward only? (Work out the size of the
result first.)
"""

# %% exercise="predict.macs"
### BEGIN SOLUTION
million_macs = 128 * 32 * 28 * 28 * 3 * 5 * 5 / 1e6
### END SOLUTION

# %% check="predict.macs" points=1
check.prediction("millions of multiply-accumulates", million_macs, "MjQwLjg0NDg=", rel=0.005,
                 unit="million", why="pictures, filters, rows and columns of the result, and for each of "
                                     "these numbers all weights of one filter: seven factors, one per loop")

# %% [markdown]
"""
**2.** And how many megabytes (10⁶ bytes) does the result have, in float32? The backward pass needs it
or what was made of it, so it stays.
"""

# %% exercise="predict.output_megabytes"
### BEGIN SOLUTION
output_megabytes = 128 * 32 * 28 * 28 * 4 / 1e6
### END SOLUTION

# %% check="predict.output_megabytes" points=1
check.prediction("megabytes of the result", output_megabytes, "MTIuODQ1MDU2", rel=0.01, unit="MB",
                 why="128 pictures of 32 channels of 28 by 28 numbers of 4 bytes")

# %% [markdown]
"""
Now look. The table is per picture, for two convolutions and the linear layer that also makes 32
outputs of the same pixels. The lines below it watch one batch go through, with Python's `tracemalloc`.
"""

# %% demo="counts"
print(f"{'per picture of 3 x 32 x 32':28}{'parameters':>12}{'numbers out':>13}{'MACs':>12}")
for name, layer, x in [("Conv2d(3, 32, 3)", Conv2d(3, 32, 3), zeros(1, 3, 32, 32)),
                       ("Conv2d(3, 32, 5)", Conv2d(3, 32, 5), zeros(1, 3, 32, 32)),
                       ("Linear(3072, 32)", Linear(3072, 32), zeros(1, 3072))]:
    parameters, out = sum(p.size for p in layer.parameters()), layer(x).size
    print(f"{name:28}{parameters:12,}{out:13,}{out * layer.weight[0].size:12,}")
print()
for name, layer, x in [("Conv2d(3, 32, 5)", Conv2d(3, 32, 5), zeros(128, 3, 32, 32)),
                       ("Linear(3072, 32)", Linear(3072, 32), zeros(128, 3072))]:
    tracemalloc.start()
    y = layer(x)
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    kept = sum(p.data.nbytes for p in layer.parameters())
    print(f"128 pictures through {name}: {y.size * layer.weight[0].size / 1e6:7.1f} million MACs, "
          f"parameters {kept / 1e6:.4f} MB, results {held / 1e6:.3f} MB")

# %% [markdown]
"""
896 parameters against 98,336, and all the same more arithmetic: a convolution is light in
parameters and heavy in activations and in work, because it uses every weight at every place. A linear
layer uses each weight once per picture. Training memory is where that hurts: module 07's activations,
which live from forward to backward.

So who does this arithmetic how fast? Three ways to the same numbers: your loops, the kernels on patches, and
PyTorch if it is installed here. Write down two guesses before you run it: by what factor the patches
beat your loops, and by what factor PyTorch beats the patches. The loops get one picture only; what the
whole batch would take is worked out from that.
"""

# %% demo="three_ways"
rng = np.random.default_rng(0)
x = rng.normal(size=(128, 3, 32, 32)).astype(np.float32)
w = rng.normal(size=(32, 3, 5, 5)).astype(np.float32)
g = rng.normal(size=(128, 32, 28, 28)).astype(np.float32)


def seconds_of(call, repeats):
    """The best of some rounds."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def on_patches(n):
    """Forward and backward seconds of the kernels for n pictures."""
    forward = seconds_of(lambda: conv2d_forward(x[:n], w, None, 1, 0), 3)
    backward = seconds_of(lambda: (conv2d_input_gradient(g[:n], x[:n], w, 1, 0),
                                   conv2d_weight_gradient(g[:n], x[:n], w, 1, 0)), 3)
    return forward, backward


def in_pytorch(n):
    """The same for PyTorch, or None where it is not installed."""
    if importlib.util.find_spec("torch") is None:
        return None, None
    import torch

    tx, tw = (torch.tensor(a, requires_grad=True) for a in (x[:n], w))
    tg, out = torch.tensor(g[:n]), []

    def forward():
        out[:] = [torch.nn.functional.conv2d(tx, tw)]

    ahead = seconds_of(forward, 3)
    return ahead, seconds_of(lambda: (forward(), out[0].backward(tg)), 3) - ahead


def shown(seconds):
    if seconds is None:
        return f"{'not installed':>14}"
    return f"{seconds:12.2f} s" if seconds >= 1 else f"{seconds * 1e3:11.2f} ms"


loops = (seconds_of(lambda: conv2d_explicit(x[:1], w), 1),
         seconds_of(lambda: conv2d_explicit_backward(g[:1], x[:1], w), 1))
print(f"{'Conv2d(3, 32, 5)':24}{'your loops':>14}{'on patches':>14}{'PyTorch':>14}")
for n, mine in ((1, loops), (128, [128 * s for s in loops])):
    theirs, best = on_patches(n), in_pytorch(n)
    for i, way in enumerate(("forward", "backward")):
        label, mark = f"{n} x {way}", "" if n == 1 else "  (loops: 128 times one)"
        print(f"{label:24}{shown(mine[i])}{shown(theirs[i])}{shown(best[i])}{mark}")
print(f"per second on patches: {240.8448e6 / on_patches(128)[0] / 1e9:.1f} billion multiply-accumulates")
print(f"per second in the loops: {1881600 / loops[0] / 1e6:.2f} million")

# %% [markdown]
"""
The arithmetic is the same in all three columns. What differs is what is done around it. In the loops, the
interpreter looks up names, makes index tuples and boxes every number, for each multiply-accumulate. On patches
it does that once per four pictures, copies every pixel up to 25 times, and still wins. PyTorch hands
the work to kernels written for this very processor (oneDNN, on most), which need no copy of that kind. How
much is left between the last two columns you have just seen; it is module 18's business.

## Break: two bugs that do not crash

**The forgotten `eval()`.** The network above was trained with BatchNorm. Ask it about the test digits
in four ways: as one should, and three times in training mode, with different company in the batch.
"""

# %% demo="forgotten_eval"
model, state = cnn.model, cnn.model.state_dict()
by_class = np.argsort(test[1], kind="stable")


def right_share(order, size):
    """Share of right answers with the digits in this order, in batches of this size."""
    hits = 0
    with no_grad():
        for start in range(0, len(order), size):
            rows = order[start : start + size]
            hits += int((model(Tensor(test[0][rows])).argmax(axis=1) == test[1][rows]).sum())
    return hits / len(order)


mixed = np.arange(1000)
for mode, order, size, name in [("eval", mixed, 1, "one by one"), ("train", mixed, 50, "50 mixed digits"),
                                ("train", mixed, 1, "one by one"), ("train", by_class, 50, "50 of a kind")]:
    model.train(mode == "train")
    print(f"{mode:6} mode, {name:16} {right_share(order, size):6.1%} right")
    model.load_state_dict(state)  # in train mode, looking has moved the running statistics
model.eval()

# %% [markdown]
"""
In train mode a digit is measured against its company. Mixed company is what it knows from training,
so a test with large, mixed batches hides the bug. Alone it is measured against itself: whatever all its
pixels have in common is taken away. And every look moved the running statistics, so that the test
changed the model it was testing. The symptom: good numbers while you test in batches, nonsense when
the first user sends one picture. The cure is one line, `model.eval()`.

**The frame cut off on the wrong side.** Below, the input gradient of the convolution is right, but its
frame of padding is taken off at the bottom and at the right only: every number stands one pixel too far
down and to the right, and the last row and column have fallen off. Shapes fit, nothing crashes. Does the
network still learn?
"""

# %% demo="frame_cut_wrong"
right_kernel = conv2d_input_gradient


def wrong_kernel(g, x, weight, stride, padding):
    """The right gradient of the framed picture, cut at the wrong corner."""
    framed = right_kernel(g, padded(x, padding), weight, stride, 0)
    return framed[:, :, : x.shape[2], : x.shape[3]]


for name, kernel in (("cut at the wrong corner", wrong_kernel), ("cut on all four sides", right_kernel)):
    conv2d_input_gradient = kernel
    run, _ = trained(digits_cnn, epochs=3)
    print(f"{name:24} accuracy", " ".join(f"{v:.3f}" for v in run.history["val_accuracy"]))
    try:
        check_grads(lambda x: conv2d(x, ones(1, 1, 3, 3), padding=1), Tensor(np.ones((1, 1, 3, 3))))
        print("    check_grads: right")
    except ValueError as error:
        print("    check_grads:", error)
conv2d_input_gradient = right_kernel

# %% [markdown]
"""
It learns, later and not quite as well: the layers after the bug get right gradients, and work with what
the first filters happen to give them. A wrong gradient is rarely a crash; it is a few percent that
nobody can explain. That is what `check_grads` is for: one line per operation, for ever. (The swap above
worked because your rules look up the kernels by name when they run. Module 18 uses the same door.)

## Reflect

**3.** Gray pictures of 28 by 28 go through `Conv2d(1, 8, 5)`, `MaxPool2d(2)`,
`Conv2d(8, 16, 3, stride=2, padding=1)` and `Flatten()`. How many `in_features` does the `Linear` after that need?
"""

# %% exercise="predict.features"
### BEGIN SOLUTION
features = 16 * 6 * 6
### END SOLUTION

# %% check="predict.features" points=1
check.prediction("in_features after Flatten", features, "NTc2", rel=0.001,
                 why="follow the height: 28, then less 4, then half, then (size + 2 - 3) // 2 + 1; the "
                     "channels are those of the last convolution")

# %% [markdown]
"""
**4.** A kernel of 3, then max pooling by 2, then a kernel of 3, all without padding. How many pixels
wide is the piece of the original picture that one number of the last result depends on?
"""

# %% exercise="predict.receptive_field"
### BEGIN SOLUTION
receptive_field = 8
### END SOLUTION

# %% check="predict.receptive_field" points=1
check.prediction("pixels across", receptive_field, "OA==", rel=0.001, unit="pixels",
                 why="walk backwards: 3 numbers after the pooling are 6 before it, and each of those saw "
                     "3 pixels, its neighbour the next 3, one further")

# %% [markdown]
"""
**5.** A BatchNorm2d with momentum 0.1 sees three batches; a channel has mean 10 in each of them. What
is its `running_mean` after the third?
"""

# %% exercise="predict.running_mean"
### BEGIN SOLUTION
running_mean = 10 * (1 - 0.9**3)
### END SOLUTION

# %% check="predict.running_mean" points=1
check.prediction("running_mean after three batches", running_mean, "Mi43MQ==", rel=0.005,
                 why="it starts at 0 and each batch goes a tenth of the way that is left to 10")

# %% [markdown]
"""
**6.** A `Conv2d` without bias feeds a `BatchNorm2d` in training mode. You multiply all weights of the
convolution by 2. What happens to the output of the BatchNorm, and what to the gradient of these
weights? (Leave eps aside.)

- a) the output doubles, the gradient stays
- b) the output stays, the gradient is halved
- c) both stay
- d) the output stays, the gradient doubles
"""

# %% exercise="predict.doubled_weights"
### BEGIN SOLUTION
doubled_weights = "b"
### END SOLUTION

# %% check="predict.doubled_weights" points=1
check.choice("what doubling the weights does", doubled_weights, "Yg==", ["a", "b", "c", "d"],
             why="the normalisation divides by the spread, whatever it is; and a nudge of fixed size is a "
                 "smaller share of a larger weight")

# %% [markdown] question="the_same_filter_everywhere" points=4
"""
**7. Open question, graded by a person.** A convolution assumes that what is worth looking for is worth
looking for everywhere, and that what belongs together lies side by side. (a) Name one kind of data on a
grid for which that holds, and one for which it does not, or only along one axis; say for the second
what goes wrong. (b) Your digits network still lost something when the digits moved by one pixel,
although a convolution moves its result along with the picture. Name two layers or borders of
*this* network at which the promise breaks, and say how. (c) What would you change, in the data or in
the network, and what would it cost?

*Your answer:*
"""

# %% [markdown]
"""
## In production

Your seven loops are the definition that every library documents; none of them runs it. Writing the
patches out as a matrix is called *im2col*, and was how Caffe did it (Jia et al. 2014). It costs the
memory you have seen, so cuDNN computes the same product without storing the matrix: *implicit GEMM*
builds each block of patches in fast memory just before it is used (Chetlur et al. 2014). For kernels
of 3 by 3 there is *Winograd's* algorithm, which makes a tile of 2 by 2 results with 16 products instead
of 36, paid for by additions and some precision (Lavin and Gray 2015). PyTorch may try several on
the first batch (`torch.backends.cudnn.benchmark`) and keep the fastest. And it cares how pictures lie
in memory: `channels_last` keeps (N, C, H, W) as the shape but puts the channels of a pixel side by side,
as your `patches` does, and the fast kernels like that best.

In use a BatchNorm after a convolution is only a scale and a shift per channel, so deployment tools fold
it into the filter's weights and bias and drop the layer. Where batches are
small, per-batch statistics are poor, and networks normalise over the channels of one example instead:
LayerNorm, in module 13. PyTorch's BatchNorm also counts the batches it has seen
(`num_batches_tracked`); ours does not. What we are not building: dilation and groups (and with them the
depthwise convolutions of networks for phones), transposed convolutions, strides and paddings that differ
between rows and columns, 1-D and 3-D.

Sources: Fukushima 1980 (the neocognitron); LeCun et al. 1989 and 1998 (trained by gradients);
Ioffe and Szegedy 2015 (batch normalisation); Lin et al. 2013 (global average pooling).

## When it fails

| symptom | cause | where to look |
|---|---|---|
| `does not fit` | the picture has become smaller than the kernel | count sizes through the network: padding, fewer poolings |
| `must be a batch of pictures` | a picture without its batch or channel axis | `x.unsqueeze(0)`, or `images[:, None]` for gray ones |
| `expected Tensor`, `expected ndarray` | an array where a Tensor belongs, or the other way round | layers and `conv2d` take Tensors, `conv2d_explicit` arrays |
| `must be a whole number` | a pair, a word or 0 as stride, padding or pooling window | one number for rows and columns |
| `channels, but` | channels last, or `in_channels` of the layer does not match | `permute(0, 3, 1, 2)`; compare with the layer before |
| `one value per channel` | BatchNorm in training on one picture of one pixel | a larger batch, or `model.eval()` |
| `more than half of the kernel` | pooling windows that would see only padding | less padding |
| `out of bounds for array of dimension` | a mean has taken an axis away, and the others moved up | both axes at once, `axis=(2, 3)` |
| `is out of bounds` | an index at the wrong axis, or a window beyond the picture | `weight[o, c, di, dj]`; i and j count pixels of the result; the pixel is at `i * stride + di` of the padded picture |
| `positional-only` | an operand given by name | operands by position, options by name: `conv2d(x, w, b, stride=2)` |
| `keyword argument 'dim'` | PyTorch's word for an axis | `axis` here, as in NumPy |
| `keyword argument 'dtype'` | a NumPy function called on a Tensor | the Tensor's own method, `x.mean(...)` |
| `unexpected keyword argument` | a rule that does not take the options of the call | `(g, out, *operands, stride=1, padding=0)`: the same options as the forward function |
| `positional argument: 'bias'` | a rule without a default for a bias that was left out | `bias=None` in its parameters |
| `positional argument: 'padding'`, `positional argument: 'stride'`, `arguments: 'stride' and 'padding'` | an option that the call left out | `stride=1, padding=0` in the rule's parameters; a kernel wants both |
| `got multiple values for argument` | arguments have moved by one place: a rule without `out`, or operands handed to a kernel that wants fewer | `(g, out, x, weight, bias, …)` for rules, `(g, x, weight, stride, padding)` for kernels |
| `positional argument` | a rule or a call with too few or too many | `(g, out, x, weight, bias, …)` for rules, `(g, x, weight, stride, padding)` for kernels |
| `'memoryview' object` | an array where a Tensor is expected: the `.data` of an array is raw memory | hand on the Tensors themselves |
| `does not support ufuncs` | whole arrays multiplied in the seven loops, or NumPy called on a Tensor | single numbers in the loops; a Tensor's array is `.data` |
| `could not be broadcast` | `(C,)` against `(N, C, H, W)`, or one place of all windows against the whole picture | `_channel(values)`; `gradient[place]` instead of `gradient` |
| `non-broadcastable output` | mean or variance has axes left over | axes (0, 2, 3) without `keepdims`: one number per channel, `(C,)` |
| `boolean subtract` | `-` on True and False | `waiting &= ~winner` |
| `can be converted to Python scalars`, `no attribute 'sqrt'` | the root of a whole array by `math`, or by a method arrays lack | `np.sqrt` |
| `has no attribute 'base'` | a rule that returns a Tensor | rules return plain arrays |
| `bitwise_and` | `&` met numbers, or came before `==` | `dtype=bool`, and brackets: `waiting & (view == out)` |
| `truth value of an array` | `and`, `or`, `not`, `if` or Python's `max` on whole arrays | `&`, `~`, `np.maximum`; for a bias that may be missing, `is None` |
| `cannot reshape` | mean or variance over the wrong axes | axes (0, 2, 3): pictures, rows, columns |
| `read-only` | a view of the windows was written into | a new array, or a copy |
| `tuple index out of range` | fewer rules than operands that want a gradient | one rule per operand, in their order |
| `has no attribute 'data'` | an array or None where a Tensor is expected | `bias` may be None: ask before `.data` |
| `'NoneType' object` | a function without `return`, or a bias that is None | the last line; `is None` first |
| `backward says` | a rule that is not the slope | which operand, which entry? frame, stride, the sum over pictures |
| good in batches, nonsense alone | BatchNorm in training mode | `model.eval()` |
| the loss of the first epochs jumps in eval only | the running statistics have not caught up | more steps, or a larger momentum |
"""
