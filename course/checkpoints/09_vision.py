# %% [markdown]
"""
# Checkpoint 9: can you see with filters that you trained?

Edges, a filter that nobody shows you, and shapes that may stand anywhere.
"""

# %% given="tools"
import numpy as np
from tinytorch.core.activations import ReLU
from tinytorch.core.autograd import no_grad
from tinytorch.core.layers import Linear, Sequential
from tinytorch.core.losses import CrossEntropyLoss, MSELoss
from tinytorch.core.optimizers import Adam
from tinytorch.core.tensor import Tensor, manual_seed
from tinytorch.core.training import Trainer
from tinytorch.nn.conv import (
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    GlobalAvgPool2d,
    MaxPool2d,
    conv2d,
    conv2d_explicit,
    conv2d_explicit_backward,
)

import tito.checks as check


def _by_places(x, weight, padding=0, stride=1):
    """The convolution with one product for each place, in float64."""
    x = np.pad(x.astype(np.float64), [(0, 0), (0, 0), (padding, padding), (padding, padding)])
    k = weight.shape[-1]
    high, wide = ((n - k) // stride + 1 for n in x.shape[2:])
    out = np.zeros((len(x), len(weight), high, wide))
    for i, j in np.ndindex(high, wide):
        patch = x[:, :, i * stride : i * stride + k, j * stride : j * stride + k]
        out[:, :, i, j] = np.tensordot(patch, weight, axes=([1, 2, 3], [1, 2, 3]))
    return out


# %% check="find_the_edges"
_picture = np.zeros((1, 1, 8, 8), dtype=np.float32)
_picture[..., 3:] = 1.0  # dark on the left, light from column 3 on
_layer = Conv2d(1, 1, 3, bias=False)
_layer.weight.data[...] = [[[[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]]]
check.tensor(
    "Sobel's filter on a picture that is light from column 3 on",
    _layer(Tensor(_picture)),
    np.tile([0, 4, 4, 0, 0, 0], (6, 1)).reshape(1, 1, 6, 6),
    why="4 where the window holds both dark and light, positive because light is on the right",
)
check.equal(
    "shapes with stride 2, with padding 1, with both",
    [
        Conv2d(1, 5, 3, stride=s, padding=p)(Tensor(_picture)).shape
        for s, p in ((2, 0), (1, 1), (2, 1))
    ],
    [(1, 5, 3, 3), (1, 5, 8, 8), (1, 5, 4, 4)],
    why="(8 + 2p - 3) // s + 1",
)

# %% check="loops_and_kernel_say_the_same"
_rng = np.random.default_rng(9)
for _stride, _padding, _size in ((1, 0, (5, 5)), (2, 1, (6, 5)), (1, 2, (3, 4))):
    _x = _rng.normal(size=(2, 2, *_size)).astype(np.float32)
    _w, _b = (_rng.normal(size=s).astype(np.float32) for s in ((3, 2, 3, 3), 3))
    _fast = [Tensor(a, requires_grad=True) for a in (_x, _w, _b)]
    _out = conv2d(*_fast, stride=_stride, padding=_padding)
    _name = f"{_size} with stride {_stride}, padding {_padding}"
    check.close(
        f"seven loops, {_name}",
        conv2d_explicit(_x, _w, _b, _stride, _padding),
        _by_places(_x, _w, _padding, _stride) + _b[:, None, None],
        why="counted place by place",
        rtol=1e-3,
        atol=1e-4,
    )
    check.tensor(
        f"conv2d, {_name}",
        _out,
        conv2d_explicit(_x, _w, _b, _stride, _padding),
        why="the quick kernel and your loops compute one thing",
        rtol=1e-3,
        atol=1e-4,
    )
    _g = _rng.normal(size=_out.shape).astype(np.float32)
    _out.backward(_g)
    for _part, _tensor, _want in zip(
        ("image", "filters", "bias"), _fast, conv2d_explicit_backward(_g, _x, _w, _stride, _padding)
    ):
        check.close(
            f"gradient of the {_part}, {_name}",
            _tensor.grad,
            _want,
            why="and so do their ways back",
            rtol=1e-3,
            atol=1e-4,
        )

# %% check="learn_a_filter_that_nobody_shows"
_secret = np.array([[0.1, -0.4, 0.2], [0.7, 0.3, -0.6], [-0.2, 0.5, 0.0]])
_x = _rng.normal(size=(64, 1, 7, 7)).astype(np.float32)
_y = _by_places(_x, _secret[None, None]).astype(np.float32)
manual_seed(1)
_layer = Conv2d(1, 1, 3)
_trainer = Trainer(
    _layer, MSELoss(), Adam(_layer.parameters(), lr=0.05), batch_size=16, metric=None
)
_trainer.fit((_x, _y), epochs=40)
check.close(
    "the filter, learned from pictures before and after it",
    _layer.weight.data[0, 0],
    _secret,
    atol=0.01,
    why="only one filter turns these pictures into those, and gradients lead to it",
)
check.close("its bias", _layer.bias.data, [0.0], atol=0.01, why="nothing was added")


# %% check="see_a_shape_wherever_it_stands"
def _shapes(count, seed):
    """Pictures (N, 1, 12, 12) of a cross (0), a ring (1) or a bar (2) somewhere, with noise."""
    rng = np.random.default_rng(seed)
    forms = [
        ["..#..", "..#..", "#####", "..#..", "..#.."],
        [".###.", "#...#", "#...#", "#...#", ".###."],
        [".....", "#####", "#####", ".....", "....."],
    ]
    ink = np.array([[[c == "#" for c in row] for row in form] for form in forms], dtype=np.float32)
    labels = np.arange(count) % 3
    pictures = rng.normal(0, 0.2, (count, 1, 12, 12)).astype(np.float32)
    for picture, label in zip(pictures, labels):
        top, left = rng.integers(0, 8, 2)
        picture[0, top : top + 5, left : left + 5] += ink[label]
    return pictures, labels


manual_seed(2)
_net = Sequential(
    Conv2d(1, 8, 3, padding=1, bias=False), BatchNorm2d(8), ReLU(), MaxPool2d(2),
    Conv2d(8, 16, 3, padding=1, bias=False), BatchNorm2d(16), ReLU(), MaxPool2d(2),
    GlobalAvgPool2d(), Linear(16, 3),
)  # fmt: skip
_begun = _net.state_dict()
Trainer(_net, CrossEntropyLoss(), Adam(_net.parameters(), lr=0.01), batch_size=32).fit(
    _shapes(480, 3), epochs=8
)
_pictures, _labels = _shapes(300, 4)
_net.eval()
with no_grad():
    _right = float((_net(Tensor(_pictures)).data.argmax(axis=1) == _labels).mean())
check.true(
    "crosses, rings and bars told apart on 300 new pictures: 95 % or more",
    _right >= 0.95,
    got=f"{_right:.1%}",
    why="guessing gives a third; a filter finds its shape in every corner",
)
_moved = {
    name: np.abs(array - _begun[name]).reshape(len(array), -1).max(axis=1)
    for name, array in _net.state_dict().items()
}
check.true(
    "every filter, and every running statistic, moved",
    all((moved > 1e-6).all() for moved in _moved.values()),
    got={name: float(moved.min()) for name, moved in _moved.items()},
    why="what no gradient and no batch reaches stays as it was drawn",
)

# %% check="judge_a_picture_alone"
with no_grad():
    _together = _net(Tensor(_pictures[:6])).data
    _alone = np.concatenate([_net(Tensor(_pictures[i : i + 1])).data for i in range(6)])
check.close(
    "six pictures in one batch, and one by one, in eval mode",
    _alone,
    _together,
    why="what a network says of a picture must not depend on its neighbours in the batch",
    rtol=1e-3,
    atol=1e-4,
)

# %% check="pool_without_losing_count"
_x = Tensor(np.arange(25, dtype=np.float32).reshape(1, 1, 5, 5), requires_grad=True)
check.tensor(
    "MaxPool2d(2) of a 5 by 5 picture",
    MaxPool2d(2)(_x),
    [[[[6, 8], [16, 18]]]],
    why="two whole windows along each side; the last row and column fill none",
)
check.tensor("AvgPool2d(2)", AvgPool2d(2)(_x), [[[[3, 5], [13, 15]]]], why="(0+1+5+6) / 4 = 3")
_out = MaxPool2d(3, stride=2)(_x)
_out.backward(np.ones(_out.shape, dtype=np.float32))
_want = np.zeros((5, 5))
_want[[2, 2, 4, 4], [2, 4, 2, 4]] = 1
check.close(
    "gradient of overlapping windows, 3 with stride 2",
    _x.grad[0, 0],
    _want,
    why="each window's g goes to its largest number",
)
