# %% [markdown]
"""
# Probes

Before a milestone spends minutes on training, each of these asks one module for one small thing
that it must do right. Every check is named after the module it asks, so a failure names the guilty
one. A milestone runs the probes of the modules it is built on, in this order.
"""

# %% given="tools"
import numpy as np
from tinytorch.core.tensor import Tensor, manual_seed

import tito.checks as check

_rng = np.random.default_rng(1958)
manual_seed(1958)


def _random(*shape):
    return _rng.standard_normal(shape).astype(np.float32)


def _slope(f, array, eps=1e-3):
    """Central differences of a float64 function of one array."""
    slope, array = np.zeros_like(array), array.copy()
    for place in np.ndindex(array.shape):
        centre = array[place]
        array[place] = centre + eps
        up = f(array)
        array[place] = centre - eps
        slope[place] = (up - f(array)) / (2 * eps)
        array[place] = centre
    return slope


# %% check="01_tensor.arithmetic"
_a, _b = _random(3, 1), 2 + np.abs(_random(4))
for _sign, _got, _want in (
    ("+", Tensor(_a) + Tensor(_b), _a + _b),
    ("-", Tensor(_a) - Tensor(_b), _a - _b),
    ("*", Tensor(_a) * Tensor(_b), _a * _b),
    ("/", Tensor(_a) / Tensor(_b), _a / _b),
):
    check.tensor(
        f"x {_sign} y of shapes (3, 1) and (4,)",
        _got,
        _want,
        why="broadcasting gives (3, 4), entry by entry as NumPy",
    )
check.tensor("2 - x", 2 - Tensor(_a), 2 - _a, why="the number stands on the left")

# %% check="01_tensor.matmul"
_a, _b = _random(5, 4), _random(4, 3)
check.tensor(
    "x @ y of (5, 4) and (4, 3)",
    Tensor(_a) @ Tensor(_b),
    _a.astype(np.float64) @ _b,
    why="rows times columns; every layer is one of these",
)
check.tensor(
    "x.T @ y of (4, 5) and (5, 2)",
    Tensor(_a).T @ Tensor(_a[:, :2]),
    _a.T @ _a[:, :2],
    why="the transpose swaps the axes, and the product uses the swapped ones",
)

# %% check="01_tensor.reductions"
_a = _random(3, 4)
check.tensor(
    "sum over axis 0", Tensor(_a).sum(axis=0), _a.sum(axis=0), why="axis 0 runs down the rows"
)
check.tensor(
    "sum over axis 1, keepdims",
    Tensor(_a).sum(axis=1, keepdims=True),
    _a.sum(axis=1, keepdims=True),
    why="axis 1 runs along a row, and stays as size 1",
)
check.tensor("mean of everything", Tensor(_a).mean(), _a.mean(), why="the sum over the count")
check.tensor("rows 1 and 2", Tensor(_a)[1:3], _a[1:3], why="a batch is a slice of rows")

# %% check="01_tensor.aliasing"
_a = _random(2, 3)
_x = Tensor(_a.copy())
_x + 1, _x * 2, _x - _x, -_x, _x @ _x.T, _x.sum(axis=0)
check.close(
    "x after x + 1, x * 2, x - x, -x, x @ x.T and x.sum(axis=0)",
    _x.data,
    _a,
    why="an operation makes a new tensor; one that writes into its operand ruins the data",
)
_y = _x.clone()
_y.data += 1
check.close("x after its clone was changed", _x.data, _a, why="a clone owns its memory")

# %% check="02_activations.values"
from tinytorch.core.activations import ReLU, Sigmoid, Tanh

_points = np.array([-1000.0, -2.0, -0.5, 0.0, 0.5, 2.0, 1000.0], dtype=np.float32)
check.tensor(
    "Sigmoid from -1000 to 1000",
    Sigmoid()(Tensor(_points)),
    0.5 * (1 + np.tanh(_points.astype(np.float64) / 2)),
    why="between 0 and 1, one half at 0, and 0 or 1 at the ends, with no nan",
)
check.tensor(
    "Tanh from -1000 to 1000",
    Tanh()(Tensor(_points)),
    np.tanh(_points),
    why="an activation that does not bend leaves a network that is one line",
)
check.tensor(
    "ReLU from -1000 to 1000",
    ReLU()(Tensor(_points)),
    np.maximum(_points, 0),
    why="what is above 0 passes unchanged, the rest is 0",
)

# %% check="03_layers.linear"
from tinytorch.core.layers import Linear

_layer, _x = Linear(4, 3), _random(5, 4)
_w, _b = _layer.weight.data.copy(), _layer.bias.data.copy()
check.equal(
    "shapes of Linear(4, 3)", (_w.shape, _b.shape), ((3, 4), (3,)), why="weight is (out, in)"
)
check.tensor(
    "Linear(4, 3) of 5 rows",
    _layer(Tensor(_x)),
    _x.astype(np.float64) @ _w.T + _b,
    why="x @ weight.T + bias",
)
check.tensor(
    "the same rows again",
    _layer(Tensor(_x)),
    _x.astype(np.float64) @ _w.T + _b,
    why="using a layer does not change it",
)
check.true(
    "the weights begin different from each other",
    len(np.unique(_w)) == _w.size,
    why="neurons that begin alike stay alike",
    got=_w,
)

# %% check="03_layers.parameters"
from tinytorch.core.activations import ReLU
from tinytorch.core.layers import Linear, Sequential

_net = Sequential(Linear(4, 6), ReLU(), Linear(6, 2))
_wanted = [_net[0].weight, _net[0].bias, _net[2].weight, _net[2].bias]
_found = list(_net.parameters())
check.equal(
    "parameters of Sequential(Linear, ReLU, Linear)",
    [p.shape for p in _found],
    [(6, 4), (6,), (2, 6), (2,)],
    why="two layers, a weight and a bias each: what is missing here is never trained",
)
check.true(
    "they are the layers' own tensors",
    all(a is b for a, b in zip(_found, _wanted)),
    why="an optimizer that moves copies moves nothing",
)
check.true(
    "each wants a gradient",
    all(p.requires_grad for p in _found),
    why="a parameter with requires_grad=False is frozen",
)
check.true(
    "each begins without one",
    all(p.grad is None for p in _found),
    why="a gradient that is there before backward belongs to nobody",
)

# %% check="03_layers.sequential"
_x = _random(5, 4)
_hidden = np.maximum(_x.astype(np.float64) @ _net[0].weight.data.T + _net[0].bias.data, 0)
check.tensor(
    "Sequential(Linear, ReLU, Linear) of 5 rows",
    _net(Tensor(_x)),
    _hidden @ _net[2].weight.data.T + _net[2].bias.data,
    why="each layer gets the last one's output",
)

# %% check="03_layers.state_dict"
_state = _net.state_dict()
check.equal(
    "names in state_dict()",
    list(_state),
    ["0.weight", "0.bias", "2.weight", "2.bias"],
    why="the path of attribute names, as PyTorch writes them",
)
_kept = _state["0.weight"].copy()
_net[0].weight.data += 1
check.close(
    "a saved weight after the layer went on",
    _state["0.weight"],
    _kept,
    why="state_dict() gives copies: what was saved must not change with the model",
)

# %% check="04_losses.hands_off"
from tinytorch.core.losses import BCEWithLogitsLoss, CrossEntropyLoss, MSELoss

_p, _t = _random(6, 1), (_random(6, 1) > 0).astype(np.float32)
_logits, _labels = _random(5, 4), np.array([0, 3, 1, 2, 2])
_given = Tensor(_logits.copy())
CrossEntropyLoss()(_given, _labels)
check.close(
    "the logits after the loss was computed",
    _given.data,
    _logits,
    why="a loss that writes into the logits hands the answers to whoever reads them next",
)
_given, _target = Tensor(_p.copy()), Tensor(_t.copy())
MSELoss()(_given, _target)
check.close("the predictions after the loss was computed", _given.data, _p, why="a loss only reads")
check.close(
    "the targets after the loss was computed",
    _target.data,
    _t,
    why="a loss only reads: targets that follow the predictions are always right",
)

# %% check="04_losses.values"
check.tensor(
    "MSELoss of 6 predictions",
    MSELoss()(Tensor(_p), Tensor(_t)),
    ((_p - _t) ** 2).mean(),
    why="the mean of the squared differences",
)
check.tensor(
    "BCEWithLogitsLoss of 6 logits",
    BCEWithLogitsLoss()(Tensor(_p), Tensor(_t)),
    np.mean(np.log1p(np.exp(_p.astype(np.float64))) - _p * _t),
    why="log(1 + e^x) - x * target",
)
_losses = np.log(np.exp(_logits.astype(np.float64)).sum(axis=1)) - _logits[np.arange(5), _labels]
check.tensor(
    "CrossEntropyLoss of 5 rows",
    CrossEntropyLoss()(Tensor(_logits), _labels),
    _losses.mean(),
    why="log of the sum of exp, minus the logit of the class; a constant loss teaches nothing",
)

# %% check="05_autograd.sign"

_x = Tensor([3.0, -2.0], requires_grad=True)
((_x - 1) ** 2).sum().backward()
check.true(
    "backward of (x - 1)² leaves a gradient",
    _x.grad is not None,
    why="x asked for one, and the result was computed from x",
)
check.close(
    "slope of (x - 1)² at 3 and -2",
    _x.grad,
    [4.0, -6.0],
    why="2 (x - 1): positive where the function rises; steps go against it",
)

# %% check="05_autograd.accumulates"
_x = Tensor([1.0], requires_grad=True)
(_x * 2 + _x * 5).sum().backward()
check.close(
    "slope of x * 2 + x * 5",
    _x.grad,
    [7.0],
    why="x is used twice, so its two gradients add up: 2 + 5",
)
(_x * 3).sum().backward()
check.close(
    "the same x after backward of x * 3",
    _x.grad,
    [10.0],
    why="a second backward adds to what is there: 7 + 3",
)

# %% check="05_autograd.broadcast"
_b = Tensor([1.0, 2.0], requires_grad=True)
(Tensor(np.ones((3, 2))) * _b).sum().backward()
check.close(
    "slope of a bias used for 3 rows",
    _b.grad,
    [3.0, 3.0],
    why="the bias counts once per row, so the rows' gradients are summed",
)

# %% check="05_autograd.network"
from tinytorch.core.activations import Tanh

_net = Sequential(Linear(3, 4), Tanh(), Linear(4, 3))
_x, _labels = _random(5, 3), np.array([0, 2, 1, 2, 0])
CrossEntropyLoss()(_net(Tensor(_x)), _labels).backward()
_arrays = [
    p.data.astype(np.float64) for p in (_net[0].weight, _net[0].bias, _net[2].weight, _net[2].bias)
]


def _loss(w1, b1, w2, b2):
    out = np.tanh(_x @ w1.T + b1) @ w2.T + b2
    return float((np.log(np.exp(out).sum(axis=1)) - out[np.arange(5), _labels]).mean())


_tensors = (_net[0].weight, _net[0].bias, _net[2].weight, _net[2].bias)
for _i, _name in ((3, "last bias"), (2, "last weight"), (1, "first bias"), (0, "first weight")):
    check.true(
        f"the {_name} of a small network has a gradient",
        _tensors[_i].grad is not None,
        why="a layer that no gradient reaches stays as it began",
    )
    _measured = _slope(lambda a, i=_i: _loss(*_arrays[:i], a, *_arrays[i + 1 :]), _arrays[_i])
    check.close(
        f"gradient of the {_name}",
        _tensors[_i].grad,
        _measured,
        rtol=1e-3,
        atol=1e-4,
        why="NumPy moves every entry a little up and down and measures the loss",
    )

# %% check="05_autograd.relu"
from tinytorch.core.activations import ReLU, Sigmoid

_x = Tensor([-2.0, -0.5, 0.5, 2.0], requires_grad=True)
(ReLU()(_x) * Tensor([1.0, 2.0, 3.0, 4.0])).sum().backward()
check.close(
    "slope through ReLU",
    _x.grad,
    [0.0, 0.0, 3.0, 4.0],
    why="the gradient passes where the input was above 0, and nowhere else",
)
_x = Tensor([0.0, 2.0], requires_grad=True)
BCEWithLogitsLoss("sum")(_x, Tensor([1.0, 0.0])).backward()
check.close(
    "slope of BCEWithLogitsLoss at 0 and 2",
    _x.grad,
    [-0.5, 1 / (1 + np.exp(-2))],
    why="sigmoid(x) - target: 0.5 - 1, and 0.881 - 0",
)

# %% check="05_autograd.no_grad"
from tinytorch.core.autograd import no_grad

with no_grad():
    _y = _x * 2
check.true(
    "nothing is recorded under no_grad",
    not _y.requires_grad,
    why="an evaluation that records keeps every activation alive",
)

# %% check="06_optimizers.sgd"
from tinytorch.core.layers import Parameter
from tinytorch.core.optimizers import SGD, Adam

_p, _still = Parameter([1.0, 2.0]), Parameter([5.0])
_p.grad = np.array([4.0, -8.0], dtype=np.float32)
_optimizer = SGD([_p, _still], lr=0.25)
_optimizer.step()
check.close(
    "parameters after step()",
    _p.data,
    [0.0, 4.0],
    why="p - lr * gradient: 1 - 0.25 * 4, and 2 + 0.25 * 8; against the gradient",
)
check.close("a parameter without a gradient", _still.data, [5.0], why="it took no part in the step")
_optimizer.zero_grad()
check.true(
    "no gradient is left after zero_grad()",
    _p.grad is None or not np.any(_p.grad),
    why="gradients left over are added to those of the next batch",
    got=_p.grad,
)

# %% check="06_optimizers.adam"
_p = Parameter([1.0, 1.0])
_optimizer = Adam([_p], lr=0.1)
_m, _v, _w = np.zeros(2), np.zeros(2), np.ones(2)
for _step, _g in enumerate(([4.0, -0.01], [1.0, -0.03], [-2.0, -0.02]), start=1):
    _p.grad = np.array(_g, dtype=np.float32)
    _optimizer.step()
    _m, _v = 0.9 * _m + 0.1 * np.array(_g), 0.999 * _v + 0.001 * np.array(_g) ** 2
    _w = _w - 0.1 * (_m / (1 - 0.9**_step)) / (np.sqrt(_v / (1 - 0.999**_step)) + 1e-8)
    check.close(
        f"parameters after Adam step {_step}",
        _p.data,
        _w,
        rtol=1e-4,
        why="Kingma and Ba 2014, algorithm 1: both averages, both corrected",
    )

# %% check="06_optimizers.reaches_all"
_net = Sequential(Linear(3, 4), Tanh(), Linear(4, 2))
_begun = [p.data.copy() for p in _net.parameters()]
_optimizer = Adam(_net.parameters(), lr=0.1)
CrossEntropyLoss()(_net(Tensor(_x_rows := _random(6, 3))), np.array([0, 1, 1, 0, 1, 0])).backward()
_optimizer.step()
for _i, (_old, _p) in enumerate(zip(_begun, _net.parameters())):
    check.true(
        f"parameter {_i} of a small network moved",
        not np.array_equal(_old, _p.data),
        why="one step() moves every parameter that has a gradient",
    )

# %% check="07_training.batches"
from tinytorch.core.training import accuracy, batches, evaluate, train_loop, training_step

_x, _y = np.arange(10.0)[:, None], np.arange(10) * 10
_parts = list(batches(_x, _y, 4, shuffle=True, generator=np.random.default_rng(3)))
_rows = np.concatenate([np.asarray(x).ravel() for x, _ in _parts])
check.close(
    "every row once, in 3 batches of 10 rows",
    np.sort(_rows),
    np.arange(10.0),
    why="a row that is left out is never learned",
)
check.close(
    "each row with its own target",
    np.concatenate([np.asarray(y) for _, y in _parts]),
    10 * _rows,
    why="a network that is taught with strangers' answers learns nothing",
)

# %% check="07_training.accuracy"
_logits = Tensor([[2.0, 1.0, 0.0], [0.0, 3.0, 1.0], [5.0, 4.0, 6.0], [1.0, 2.0, 0.0]])
check.close(
    "accuracy when 1 of 4 is right",
    accuracy(_logits, np.array([1, 1, 0, 2])),
    0.25,
    why="the largest logits stand at 0, 1, 2, 1: only the second is its target",
)
check.close(
    "accuracy when none is right",
    accuracy(_logits, np.array([1, 0, 0, 2])),
    0.0,
    why="an accuracy that cannot be 0 measures nothing",
)

# %% check="07_training.step"
from tinytorch.core.losses import MSELoss

_model = Linear(1, 1, bias=False)
_model.weight.data[...] = 0.0
_x, _y = Tensor([[1.0], [2.0]]), Tensor([[2.0], [4.0]])
_optimizer = SGD(_model.parameters(), lr=0.1)
for _step, (_told, _weight) in enumerate(((10.0, 1.0), (2.5, 1.5), (0.625, 1.75)), start=1):
    check.close(
        f"loss of training step {_step}",
        training_step(_model, MSELoss(), _optimizer, _x, _y),
        _told,
        why="y = w x with w from 0: the losses are 10, 2.5, 0.625",
    )
    check.close(
        f"weight after training step {_step}",
        _model.weight.data,
        [[_weight]],
        why="half of the way to 2 in each step; more means gradients were not cleared",
    )

# %% check="07_training.evaluate"
_before = _model.weight.data.copy()
_told = evaluate(_model, MSELoss(), [(_x, _y)])
check.close(
    "evaluate of w = 1.75", _told["loss"], 0.15625, why="mean of (0.25 * 1)² and (0.25 * 2)²"
)
check.close(
    "the weight after evaluate",
    _model.weight.data,
    _before,
    why="evaluation that trains has seen the answers",
)

# %% check="07_training.loop"
_net = Sequential(Linear(2, 8), Tanh(), Linear(8, 2))
_points = _random(64, 2)
_labels = (_points[:, 0] > _points[:, 1]).astype(np.int64)
_begun = [p.data.copy() for p in _net.parameters()]
_history = train_loop(
    _net,
    (_points, _labels),
    CrossEntropyLoss(),
    Adam(_net.parameters(), lr=0.05),
    epochs=8,
    batch_size=16,
)
_moved = [not np.array_equal(old, p.data) for old, p in zip(_begun, _net.parameters())]
check.true(
    "train_loop moved every parameter",
    all(_moved),
    got=_moved,
    why="zero_grad, forward, loss, backward, step: one missing line and nothing moves",
)
check.true(
    "the loss of train_loop fell",
    _history["loss"][-1] < 0.8 * _history["loss"][0],
    got=[round(v, 3) for v in _history["loss"]],
    why="8 epochs on points that a line separates",
)

# %% check="08_dataloader.pairs"
from tinytorch.data.loader import DataLoader, TensorDataset

_x, _y = np.arange(40, dtype=np.float32).reshape(20, 2), np.arange(20)
_set = TensorDataset(_x, _y)
for _ahead in (0, 2):
    _pass = list(DataLoader(_set, batch_size=6, shuffle=True, seed=3, prefetch=_ahead))
    _rows, _labels = (np.concatenate([_part[k].data for _part in _pass]) for k in (0, 1))
    check.equal(
        f"how many rows come out of 20, prefetch={_ahead}",
        len(_labels),
        20,
        why="an epoch shows every row once, also those of a last, shorter batch",
    )
    check.close(
        f"the rows that come with their labels, prefetch={_ahead}",
        _rows,
        _x[_labels.astype(int)],
        why="a row and its label travel together through every shuffle",
    )
    check.close(
        f"the labels of an epoch, sorted, prefetch={_ahead}",
        np.sort(_labels),
        _y,
        why="every row once, none twice",
    )
check.true(
    "a shuffled order is not 0, 1, 2, …",
    not np.array_equal(_labels, _y),
    why="batches of one class after the other are learned and forgotten in turn",
    got=_labels,
)

# %% check="08_dataloader.epochs"
_loader = DataLoader(_set, batch_size=6, shuffle=True, seed=3)
_orders = [np.concatenate([_part[1].data for _part in _loader]).tolist() for _ in range(2)]
_loader.epoch = 0
_again = np.concatenate([_part[1].data for _part in _loader]).tolist()
check.true(
    "two epochs come in two orders",
    _orders[0] != _orders[1],
    why="the same order every epoch is a shuffle made once",
    got=_orders[0],
)
check.equal(
    "epoch 0 again",
    _again,
    _orders[0],
    why="the order follows from the seed and the epoch, or a run cannot be continued",
)

# %% check="08_dataloader.transforms"
from tinytorch.data.loader import Normalize, RandomCrop, RandomHorizontalFlip

_images = _random(50, 3, 6, 6)
_flipped = RandomHorizontalFlip(p=0.5)(_images, np.random.default_rng(1))
_same = (_flipped == _images).all(axis=(1, 2, 3))
_mirrored = (_flipped == _images[..., ::-1]).all(axis=(1, 2, 3))
check.true(
    "every image is as it was, or its mirror image; some of each",
    (_same | _mirrored).all() and 5 < _same.sum() < 45,
    why="a coin is thrown for each image; left and right change places, top and bottom do not",
    got=f"{_same.sum()} as they were, {_mirrored.sum()} mirrored of {len(_images)}",
)
_moved = RandomCrop(2)(np.ones((50, 1, 6, 6), dtype=np.float32), np.random.default_rng(1))
check.equal(
    "shape of 50 images after RandomCrop(2)",
    _moved.shape,
    (50, 1, 6, 6),
    why="padded by 2, then cut to the old size",
)
check.true(
    "how far the images moved differs from image to image",
    len(np.unique(_moved.sum(axis=(1, 2, 3)))) > 3,
    why="each image is cut out at a place of its own",
    got=np.unique(_moved.sum(axis=(1, 2, 3))),
)
check.close(
    "Normalize([1, 2, 3], [2, 2, 4])",
    Normalize([1, 2, 3], [2, 2, 4])(_images),
    (_images - np.array([1, 2, 3]).reshape(3, 1, 1)) / np.array([2, 2, 4]).reshape(3, 1, 1),
    why="each channel by its own mean and standard deviation",
)

# %% check="09_spatial.loops"
from tinytorch.nn.conv import conv2d, conv2d_explicit, conv2d_explicit_backward


def _convolution(x, weight, bias, stride, padding):
    """Place by place, in float64."""
    x = np.pad(x.astype(np.float64), [(0, 0), (0, 0), (padding, padding), (padding, padding)])
    k = weight.shape[-1]
    h, w = ((n - k) // stride + 1 for n in x.shape[2:])
    out = np.zeros((len(x), len(weight), h, w))
    for i, j in np.ndindex(h, w):
        seen = x[:, :, i * stride : i * stride + k, j * stride : j * stride + k]
        out[:, :, i, j] = np.tensordot(seen, weight, axes=([1, 2, 3], [1, 2, 3]))
    return out + np.reshape(bias, (-1, 1, 1))


def _of_weight(x, weight, g, stride, padding):
    """Slope of the sum of g times the convolution, for the weight."""
    zero = np.zeros(len(weight))
    return _slope(
        lambda w: (g * _convolution(x, w, zero, stride, padding)).sum(), weight.astype(np.float64)
    )


def _of_input(x, weight, g, stride, padding):
    zero = np.zeros(len(weight))
    return _slope(
        lambda v: (g * _convolution(v, weight, zero, stride, padding)).sum(), x.astype(np.float64)
    )


_x, _w, _b = _random(2, 2, 5, 4), _random(3, 2, 3, 3), _random(3)
check.close(
    "conv2d_explicit of (2, 2, 5, 4) with (3, 2, 3, 3)",
    conv2d_explicit(_x, _w),
    _convolution(_x, _w, 0, 1, 0),
    why="the kernel lies on the image as it is, without being turned around",
    rtol=1e-3,
    atol=1e-4,
)
_g = _random(2, 3, 3, 2)
check.close(
    "the weight's gradient by loops",
    conv2d_explicit_backward(_g, _x, _w)[1],
    _of_weight(_x, _w, _g, 1, 0),
    why="a weight meets a pixel at every place, and all of them add up",
    rtol=1e-2,
    atol=1e-3,
)

# %% check="09_spatial.conv2d"
for _stride, _padding in ((1, 0), (1, 1), (2, 1)):
    check.tensor(
        f"conv2d with stride {_stride} and padding {_padding}",
        conv2d(Tensor(_x), Tensor(_w), Tensor(_b), stride=_stride, padding=_padding),
        _convolution(_x, _w, _b, _stride, _padding),
        why="counted place by place",
        rtol=1e-3,
        atol=1e-4,
    )

# %% check="09_spatial.gradients"
for _stride, _padding in ((1, 1), (2, 1)):
    _tx, _tw = Tensor(_x, requires_grad=True), Tensor(_w, requires_grad=True)
    _tb = Tensor(_b, requires_grad=True)
    _out = conv2d(_tx, _tw, _tb, stride=_stride, padding=_padding)
    _g = _random(*_out.shape)
    _out.backward(_g)
    for _name, _got, _want, _why in (
        ("filters", _tw.grad, _of_weight(_x, _w, _g, _stride, _padding), "every place counts"),
        ("image", _tx.grad, _of_input(_x, _w, _g, _stride, _padding), "patches overlap, and add"),
        ("bias", _tb.grad, _g.sum(axis=(0, 2, 3)), "the bias is added at every place"),
    ):
        check.close(
            f"gradient of the {_name}, stride {_stride}, padding {_padding}",
            _got,
            _want,
            why=_why,
            rtol=1e-2,
            atol=1e-3,
        )

# %% check="09_spatial.pooling"
from tinytorch.nn.conv import max_pool2d

_squares = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4)
_squares[0, 0, 0, 0] = 5.0  # as large as the largest of its square
_x = Tensor(_squares, requires_grad=True)
_out = max_pool2d(_x, 2)
check.tensor(
    "the largest of each 2x2 square of 0 … 15",
    _out,
    [[[[5, 7], [13, 15]]]],
    why="windows of 2, one beside the other",
)
_out.backward(np.array([[[[1, 2], [3, 4]]]], dtype=np.float32))
check.close(
    "gradient of the squares, with a tie in the first",
    _x.grad[0, 0],
    [[1, 0, 0, 0], [0, 0, 0, 2], [0, 0, 0, 0], [0, 3, 0, 4]],
    why="g goes to the first of the largest and to nobody else",
)

# %% check="09_spatial.batch_norm"
from tinytorch.nn.conv import BatchNorm2d

_layer, _a = BatchNorm2d(2), 3 * _random(4, 2, 3, 3) + 5
_layer.weight.data[...], _layer.bias.data[...] = [1.5, 0.5], [0.1, -0.2]


def _normal(x, mean, var):
    shaped = [np.reshape(v, (1, 2, 1, 1)) for v in (mean, var, [1.5, 0.5], [0.1, -0.2])]
    return (x - shaped[0]) / np.sqrt(shaped[1] + 1e-5) * shaped[2] + shaped[3]


_mean, _var = _a.mean(axis=(0, 2, 3)), _a.var(axis=(0, 2, 3))
_x = Tensor(_a, requires_grad=True)
_out = _layer(_x)
check.tensor(
    "BatchNorm2d in training",
    _out,
    _normal(_a, _mean, _var),
    why="each channel by the mean and variance of this batch",
    rtol=1e-3,
    atol=1e-4,
)
check.tensor(
    "the running variance after one batch",
    _layer.running_var,
    0.9 + 0.1 * _var * 36 / 35,
    why="a tenth of the way to the batch's variance, the unbiased one",
    rtol=1e-3,
)
_g = _random(*_a.shape)
_out.backward(_g)
check.close(
    "gradient of the input in training",
    _x.grad,
    _slope(
        lambda v: (_g * _normal(v, v.mean(axis=(0, 2, 3)), v.var(axis=(0, 2, 3)))).sum(),
        _a.astype(np.float64),
    ),
    why="x moves its channel's mean and variance too",
    rtol=1e-2,
    atol=1e-3,
)
_layer.eval()
check.tensor(
    "BatchNorm2d in eval",
    _layer(Tensor(_a)),
    _normal(_a, 0.1 * _mean, 0.9 + 0.1 * _var * 36 / 35),
    why="the running statistics, whatever is in the batch",
    rtol=1e-3,
    atol=1e-4,
)

# %% check="10_tokenization.characters"
from tinytorch.text.tokenizer import BPETokenizer, CharTokenizer

_letters = CharTokenizer.train("hello there")
check.equal(
    "ids of 'hello' among the characters of 'hello there'",
    list(_letters.encode("hello")),
    [2, 1, 3, 3, 4],
    why="space, e, h, l, o, r, t in sorted order have the ids 0 to 6",
)
check.equal(
    "'there hello' encoded and decoded",
    _letters.decode(_letters.encode("there hello")),
    "there hello",
    why="decode is the way back",
)

# %% check="10_tokenization.merges"
_learned = BPETokenizer.train("ab ab ab abc abc d", 259)
check.equal(
    "ids of ' abc abd' after three merges of 'ab ab ab abc abc d'",
    list(_learned.encode(" abc abd")),
    [258, 257, 100],
    why="'ab' is there 5 times and becomes 256, then ' ab' 4 times: 257, then ' abc' twice: 258",
)
check.equal("its vocab_size", _learned.vocab_size, 259, why="256 bytes and a token for every merge")

# %% check="10_tokenization.order"
_ordered = BPETokenizer([(98, 99), (97, 98), (97, 97)])
check.equal(
    "ids of 'abc' when 'bc' was merged first, then 'ab'",
    list(_ordered.encode("abc")),
    [97, 256],
    why="the merge that was learned first goes first, wherever in the text its pair stands",
)
check.equal(
    "ids of 'aaa' when 'aa' is the last merge",
    list(_ordered.encode("aaa")),
    [258, 97],
    why="pairs are taken from left to right, and do not overlap",
)

# %% check="10_tokenization.round_trip"
_text = "na\u00efve caf\u00e9, \u65e5\u672c \U0001f642\n\t42 ab abc"
for _name, _any in (("bytes alone", BPETokenizer()), ("three merges", _learned)):
    check.equal(
        f"accents, signs and a face, encoded and decoded with {_name}",
        _any.decode(_any.encode(_text)),
        _text,
        why="any text is bytes, and all 256 bytes are tokens",
    )

# %% check="10_tokenization.special"
_marked = BPETokenizer([], ["<end>"])
check.equal(
    "ids of 'a<end>' as somebody types it",
    list(_marked.encode("a<end>")),
    list(b"a<end>"),
    why="what is typed never becomes a special token",
)
check.equal(
    "ids of 'a<end>' with allow_special",
    list(_marked.encode("a<end>", allow_special=True)),
    [97, 256],
    why="the special token is numbered after the bytes and the merges",
)

# %% check="11_embeddings.lookup"
from tinytorch.nn.embedding import (
    Embedding,
    LearnedPositions,
    RotaryPositions,
    SinusoidalPositions,
)

_table = Embedding(5, 3)
check.tensor(
    "Embedding(5, 3) of [[1, 4], [1, 0]]",
    _table([[1, 4], [1, 0]]),
    _table.weight.data[[[1, 4], [1, 0]]],
    why="token 1 gives row 1 of the table, wherever it stands",
)

# %% check="11_embeddings.repeats"
_g = _random(2, 3, 3)
_table(np.array([[1, 4, 1], [1, 0, 4]])).backward(_g)
_want = np.zeros((5, 3), dtype=np.float32)
np.add.at(_want, [1, 4, 1, 1, 0, 4], _g.reshape(6, 3))
check.close(
    "gradient of a table whose row 1 was used three times",
    _table.weight.grad,
    _want,
    why="a row gets the sum over all places that used it; rows nobody used get 0",
)

# %% check="11_embeddings.positions"
_places, _x = LearnedPositions(6, 4), _random(2, 3, 4)
for _start in (0, 2):
    check.tensor(
        f"LearnedPositions of 3 tokens, start={_start}",
        _places(Tensor(_x), start=_start),
        _x + _places.weight.data[_start : _start + 3],
        why="each position has its own vector, the same for every text of the batch",
    )
_g = _random(2, 3, 4)
_places(Tensor(_x)).backward(_g)
check.close(
    "gradient of the positions",
    _places.weight.grad,
    np.concatenate([_g.sum(axis=0), np.zeros((3, 4))]),
    why="both texts add to the first three; a position that is not trained means nothing",
)
_angle = np.arange(3)[:, None] / 10000 ** (np.array([0, 2]) / 4)
_waves = np.stack([np.sin(_angle), np.cos(_angle)], axis=2).reshape(3, 4)
check.tensor(
    "SinusoidalPositions of 3 tokens",
    SinusoidalPositions(6, 4)(Tensor(_x)),
    _x + _waves,
    why="sin in the even columns, cos in the odd, slower to the right",
    rtol=1e-3,
    atol=1e-5,
)

# %% check="11_embeddings.rotary"
_rotary = RotaryPositions(4, 9)
_q, _k = _random(1, 1, 1, 4), _random(1, 1, 1, 4)


def _meeting(at, other):
    """Score of a query at position `at` and a key at `other`."""
    query, key = _rotary(Tensor(_q), start=at), _rotary(Tensor(_k), start=other)
    return float((query.data * key.data).sum())


check.close(
    "scores of one query and one key at positions (3, 1), (5, 3) and (8, 6)",
    [_meeting(3, 1), _meeting(5, 3), _meeting(8, 6)],
    [_meeting(3, 1)] * 3,
    why="all are two apart, and only the distance counts",
    rtol=1e-3,
    atol=1e-4,
)
check.true(
    "scores at distances 0, 2 and 5 differ",
    len({round(_meeting(6, 6 - _far), 4) for _far in (0, 2, 5)}) == 3,
    why="without that, attention cannot tell near from far",
)
_turn = np.arange(2)[:, None] / 10000 ** (np.array([0, 2]) / 4)
_two = _random(1, 1, 2, 4)
_a, _b = _two[..., :2], _two[..., 2:]
check.tensor(
    "two tokens turned",
    _rotary(Tensor(_two)),
    np.concatenate(
        [
            _a * np.cos(_turn) - _b * np.sin(_turn),
            _a * np.sin(_turn) + _b * np.cos(_turn),
        ],
        axis=-1,
    ),
    why="number i and number i + 2 are the two ends of one arrow, turned by its angle",
    rtol=1e-3,
    atol=1e-5,
)

# %% check="12_attention.causal_mask"
from tinytorch.nn.attention import (
    MultiHeadAttention,
    attention_weights,
    causal_mask,
    masked_softmax,
    padding_mask,
)

check.equal(
    "causal_mask(4)",
    np.asarray(causal_mask(4)).tolist(),
    np.tri(4, dtype=bool).tolist(),
    why="token t sees the tokens 0 to t, itself too, and none that come later",
)
check.equal(
    "padding_mask([2, 3], 3)",
    np.broadcast_to(padding_mask([2, 3], 3), (2, 1, 1, 3))[:, 0, 0].tolist(),
    [[True, True, False], [True, True, True]],
    why="padding is no text: nobody looks at it",
)

# %% check="12_attention.softmax"


def _shares(scores, mask):
    powers = np.where(mask, np.exp(scores.astype(np.float64)), 0.0)
    total = powers.sum(axis=-1, keepdims=True)
    return powers / np.where(total == 0, 1, total)


_scores = Tensor(_random(3, 4), requires_grad=True)
_mask = np.array([[True, False, True, True], [True, True, True, True], [False] * 4])
_out = masked_softmax(_scores, _mask)
check.tensor(
    "masked_softmax with places hidden, and one row all hidden",
    _out,
    _shares(_scores.data, _mask),
    why="a hidden place gets exactly 0, the others share the whole; no nan where all are hidden",
)
_g = _random(3, 4)
_out.backward(_g)
check.close(
    "gradient of the scores",
    _scores.grad,
    _slope(lambda s: (_g * _shares(s, _mask)).sum(), _scores.data.astype(np.float64)),
    why="no gradient at a hidden place, and the rest of a row adds up to 0",
    rtol=1e-2,
    atol=1e-3,
)

# %% check="12_attention.weights"
_q, _k = _random(2, 3, 4), _random(2, 5, 4)
check.tensor(
    "attention_weights of 3 queries and 5 keys, 4 wide",
    attention_weights(Tensor(_q), Tensor(_k)),
    _shares(_q @ _k.transpose(0, 2, 1) / 2, True),
    why="softmax of the scores divided by 2, the root of 4, over the keys",
    rtol=1e-3,
)

# %% check="12_attention.heads"


def _heads(x, weights, heads, mask):
    """Multi-head attention of one text x (T, D), in float64; weights without biases."""
    query, key, value = (
        np.stack(np.split(x @ weights[name].T, heads, axis=1)) for name in ("query", "key", "value")
    )
    shares = _shares(query @ key.transpose(0, 2, 1) / query.shape[2] ** 0.5, mask)
    return np.concatenate(list(shares @ value), axis=1) @ weights["out"].T


_layer, _x = MultiHeadAttention(6, 2, bias=False), _random(2, 4, 6)
_parts = {name: getattr(_layer, name).weight for name in ("query", "key", "value", "out")}
_arrays = {name: weight.data.astype(np.float64) for name, weight in _parts.items()}
_out = _layer(Tensor(_x), mask=causal_mask(4))
check.tensor(
    "MultiHeadAttention(6, 2) on two texts of 4 tokens, with a causal mask",
    _out,
    np.stack([_heads(text.astype(np.float64), _arrays, 2, np.tri(4, dtype=bool)) for text in _x]),
    why="each head looks with its own 3 numbers per token, and the heads are laid side by side",
    rtol=1e-3,
    atol=1e-4,
)
_later = _x.copy()
_later[:, 2:] += 1
check.close(
    "the first two tokens after the others were changed",
    _layer(Tensor(_later), mask=causal_mask(4)).data[:, :2],
    _out.data[:, :2],
    why="a token that sees what comes later copies it instead of predicting it",
    rtol=1e-3,
    atol=1e-5,
)

# %% check="12_attention.gradients"
_g = _random(2, 4, 6)
_out.backward(_g)
for _name in _parts:

    def _told(weight, name=_name):
        parts = {**_arrays, name: weight}
        texts = [_heads(text.astype(np.float64), parts, 2, np.tri(4, dtype=bool)) for text in _x]
        return (_g * np.stack(texts)).sum()

    check.close(
        f"gradient of the layer `{_name}`",
        _parts[_name].grad,
        _slope(_told, _arrays[_name]),
        why="attention learns where to look only if the scores' gradient reaches queries and keys",
        rtol=1e-2,
        atol=1e-3,
    )

# %% check="13_transformers.layer_norm"
from tinytorch.nn.transformer import GPT, MLP, GPTConfig, LayerNorm, generate


def _normalised(x, weight, bias):
    x = x - x.mean(axis=-1, keepdims=True)
    return x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + 1e-5) * weight + bias


_layer, _a = LayerNorm(4), 3 * _random(2, 3, 4) + 5
_layer.weight.data[...], _layer.bias.data[...] = [1.5, 0.5, 1.0, 2.0], [0.1, -0.2, 0.0, 0.3]
_scale, _shift = _layer.weight.data.astype(np.float64), _layer.bias.data.astype(np.float64)
_x = Tensor(_a, requires_grad=True)
_out = _layer(_x)
check.tensor(
    "LayerNorm(4) of tokens around 5",
    _out,
    _normalised(_a.astype(np.float64), _scale, _shift),
    why="each token by its own mean and variance, then scaled and shifted",
    rtol=1e-3,
    atol=1e-4,
)
_g = _random(2, 3, 4)
_out.backward(_g)
check.close(
    "gradient of its input",
    _x.grad,
    _slope(lambda v: (_g * _normalised(v, _scale, _shift)).sum(), _a.astype(np.float64)),
    why="x moves its token's mean and variance too",
    rtol=1e-2,
    atol=1e-3,
)
check.close(
    "gradient of its weight",
    _layer.weight.grad,
    (_g * _normalised(_a.astype(np.float64), 1, 0)).sum(axis=(0, 1)),
    why="summed over all tokens",
    rtol=1e-2,
    atol=1e-3,
)

# %% check="13_transformers.mlp"
from math import erf as _erf

_bell = np.vectorize(lambda v: 0.5 * v * (1 + _erf(v / 2**0.5)))
_layer, _x = MLP(3, 5), _random(2, 4, 3)
check.tensor(
    "MLP(3, 5)",
    _layer(Tensor(_x)),
    _bell(_x @ _layer.up.weight.data.T + _layer.up.bias.data) @ _layer.down.weight.data.T
    + _layer.down.bias.data,
    why="up, GELU, down: each token by itself",
    rtol=1e-3,
    atol=1e-4,
)

# %% check="13_transformers.gpt"


def _gpt(tokens, weights, heads=2):
    """Logits (T, V) of one text by a GPT without biases, in float64."""

    def norm(name, v):
        return _normalised(v, weights[f"{name}.weight"], weights[f"{name}.bias"])

    x = weights["embedding.weight"][tokens] + weights["positions.weight"][: len(tokens)]
    for block in ("blocks.0", "blocks.1"):
        parts = {n: weights[f"{block}.attention.{n}.weight"] for n in _parts}
        seen = np.tri(len(tokens), dtype=bool)
        x = x + _heads(norm(f"{block}.norm1", x), parts, heads, seen)
        hidden = _bell(norm(f"{block}.norm2", x) @ weights[f"{block}.mlp.up.weight"].T)
        x = x + hidden @ weights[f"{block}.mlp.down.weight"].T
    return norm("norm", x) @ weights["head.weight"].T


_net = GPT(GPTConfig(5, 4, dim=4, heads=2, layers=2, hidden=6, bias=False))
for _p in _net.parameters():
    _p.data += 0.5 * _random(*_p.shape)
_state = {name: array.astype(np.float64) for name, array in _net.state_dict().items()}
_ids = np.array([3, 0, 0, 2])
_out = _net(_ids[None])
check.tensor(
    "logits of a GPT with two blocks for tokens 3, 0, 0, 2",
    _out,
    _gpt(_ids, _state)[None],
    why="x + attention(norm(x)), then x + mlp(norm(x)); embedding and positions before, head after",
    rtol=1e-2,
    atol=1e-3,
)
check.close(
    "logits of tokens 3, 0 when 0, 2 become 4, 4",
    _net(np.array([[3, 0, 4, 4]])).data[0, :2],
    _out.data[0, :2],
    why="what comes later changes nothing before it",
    rtol=1e-3,
    atol=1e-5,
)

# %% check="13_transformers.gradients"
_targets = np.array([0, 0, 2, 4])
CrossEntropyLoss()(_out.reshape(4, 5), _targets).backward()


def _nats(weights):
    out = _gpt(_ids, weights)
    return float((np.log(np.exp(out).sum(axis=1)) - out[np.arange(4), _targets]).mean())


def _both(table):
    """The loss by the table that reads and writes."""
    return _nats({**_state, "embedding.weight": table, "head.weight": table})


for _name, _p in _net.named_parameters():
    check.true(
        f"{_name} has a gradient",
        _p.grad is not None and np.any(_p.grad),
        why="a weight that no gradient reaches stays as it was drawn",
    )
for _name in ("embedding.weight", "positions.weight", "blocks.0.attention.query.weight",
              "blocks.0.norm1.weight", "blocks.1.mlp.up.weight"):  # fmt: skip
    _measured = _slope(
        _both if _name == "embedding.weight" else lambda a, n=_name: _nats({**_state, n: a}),
        _state[_name],
    )
    check.close(
        f"gradient of {_name}",
        dict(_net.named_parameters())[_name].grad,
        _measured,
        why="NumPy moves every number a little and measures the loss",
        rtol=2e-2,
        atol=1e-3,
    )

# %% check="13_transformers.generate"
from tinytorch.core.layers import Module


class _Counting(Module):
    """Says that after token n comes n + 1, and notes how many tokens it was shown."""

    def __init__(self):
        self.config, self.shown = GPTConfig(8, 3, dim=4, heads=1, layers=1), []

    def forward(self, tokens):
        ids = np.asarray(tokens).astype(int)
        self.shown.append(ids.shape[1])
        return Tensor(4.0 * (ids[:, :, None] + 1 == np.arange(8)))


_model = _Counting()
check.equal(
    "generate from [0, 1] with temperature 0, stopping at 6",
    [int(i) for i in generate(_model, [0, 1], 20, temperature=0, stop_tokens=[6])],
    [0, 1, 2, 3, 4, 5, 6],
    why="the largest logit of the last token, again and again, up to the stop token",
)
check.equal(
    "how many tokens a model with a context of 3 was shown",
    _model.shown,
    [2, 3, 3, 3, 3],
    why="the last 3: there are no positions for more",
)
check.equal(
    "4 new tokens from [2]",
    len(generate(_model, [2], 4, temperature=0)),
    5,
    why="what was given, and max_new_tokens",
)
_drawn = [generate(_model, [0], 6, temperature=5.0, seed=seed) for seed in (1, 1, 2, 3)]
check.true(
    "draws with temperature 5: the same for a seed, others for another",
    _drawn[0] == _drawn[1] and any(_drawn[0] != other for other in _drawn[2:]),
    why="a temperature draws, and a seed makes the draw again",
    got=_drawn,
)


# %% check="14_profiling.costs"
from tinytorch.core.layers import Linear, Sequential
from tinytorch.nn.conv import Conv2d
from tinytorch.profiling import Machine, Profiler, amdahl, profile_memory, roofline, time_call

_net = Sequential(Conv2d(3, 4, 3, padding=1), Linear(5, 2))
_rows = {row.name: row for row in Profiler(_net).report(Tensor(np.ones((2, 3, 5, 5)))).rows}
check.equal(
    "FLOPs of 4 filters of 3x3x3 at 2 x 25 places, and of 5 x 2 weights on 40 rows",
    [_rows["0"].flops, _rows["1"].flops],
    [2 * 2 * 25 * 4 * 27 + 2 * 25 * 4, 2 * 40 * 10 + 40 * 2],
    why="two per weight and place, one for each bias",
)
check.equal(
    "parameters of the two",
    [_rows["0"].parameters, _rows["1"].parameters],
    [112, 12],
    why="4 * 27 + 4 and 10 + 2",
)

# %% check="14_profiling.memory"
_use = profile_memory(lambda: (np.ones(200_000), np.ones(50_000))[1])
check.true(
    "peak of 1.6 and 0.4 MB, of which 0.4 stay",
    2.0e6 <= _use.peak < 2.05e6 and 0.4e6 <= _use.live < 0.45e6,
    why="both were there at one moment; the result holds one",
    got=(_use.peak, _use.live),
)

# %% check="14_profiling.time"
_called = []
_timing = time_call(lambda: _called.append(1), repeats=4, warmup=2)
check.equal(
    "calls, and seconds that were kept",
    (len(_called), len(_timing.wall)),
    (6, 4),
    why="two to warm up, four that count",
)
check.true(
    "seconds of the wall clock",
    all(s > 0 for s in _timing.wall),
    why="time passes",
    got=_timing.wall,
)

# %% check="14_profiling.laws"
check.equal("70 % made twice as fast", round(amdahl(0.7, 2), 4), 1.5385, why="1 / (0.3 + 0.35)")
check.equal(
    "roofs at 1 and at 100 FLOPs per byte",
    [roofline(Machine(5e9, 1e9), i) for i in (1, 100)],
    [1e9, 5e9],
    why="the bandwidth's below 5 FLOPs per byte, the arithmetic's above",
)

# %% check="15_quantization.numbers"
import tempfile
from pathlib import Path

from tinytorch.optim.quantization import (
    Observer,
    QuantizedLinear,
    Scheme,
    dequantize_array,
    load,
    pack_int4,
    quantization_parameters,
    quantize,
    quantize_array,
    save,
    unpack_int4,
)

for _scheme, _expected in (
    (Scheme(8), [-127, 64, 0, 25]),
    (Scheme(8, symmetric=False), [0, 255, 170, 204]),
):
    _numbers = np.array([-1.0, 0.5, 0.0, 0.2], dtype=np.float32)
    _scale, _zero = quantization_parameters(_numbers, _scheme)
    check.equal(
        f"-1, 0.5, 0 and 0.2 by {_scheme}",
        quantize_array(_numbers, _scale, _zero, _scheme).tolist(),
        _expected,
        why="round(x / scale) + zero point",
    )
    check.true(
        "their error in steps",
        float(
            np.max(
                np.abs(
                    dequantize_array(
                        quantize_array(_numbers, _scale, _zero, _scheme), _scale, _zero
                    )
                    - _numbers
                )
                / _scale
            )
        )
        <= 0.501,
        why="half a step at most",
    )
_nibbles = np.array([-8, 7, 3, -1, 0], dtype=np.int8)
check.equal(
    "five numbers of 4 bits: bytes, and back",
    (pack_int4(_nibbles).nbytes, unpack_int4(pack_int4(_nibbles), (5,)).tolist()),
    (3, [-8, 7, 3, -1, 0]),
    why="two in a byte",
)

# %% check="15_quantization.layers"
_rng = np.random.default_rng(15)
_layer, _x = Linear(6, 4), _rng.normal(size=(5, 6)).astype(np.float32)
_layer.weight.data[...] = _rng.normal(size=(4, 6)) * np.array([[1], [1], [100], [1]])
_small = QuantizedLinear.from_layer(_layer).eval()
_clear, _rough = _layer(Tensor(_x)).data, _small(Tensor(_x)).data
check.true(
    "largest error of a row's outputs, as a share of that output's spread",
    float((np.abs(_rough - _clear) / _clear.std(axis=0)).max()) < 0.1,
    why="eight bits for weights, one scale per output: the loud row does not drown the others",
    got=float((np.abs(_rough - _clear) / _clear.std(axis=0)).max()),
)
_observer = Observer()
for _batch in ([0.0, 1.0], [-3.0, 0.5]):
    _observer.observe(np.array(_batch, dtype=np.float32))
check.equal(
    "range seen in two batches",
    (float(_observer.low), float(_observer.high)),
    (-3.0, 1.0),
    why="the smallest and the largest so far",
)

# %% check="15_quantization.files"
_net = Sequential(Linear(30, 40), Linear(40, 3)).eval()
with tempfile.TemporaryDirectory() as _folder:
    _sizes, _same = [], []
    for _model in (_net, quantize(_net)):
        save(_model, Path(_folder) / "m.pt")
        _sizes.append((Path(_folder) / "m.pt").stat().st_size)
        _back = load(Path(_folder) / "m.pt").state_dict()
        _same.append(all(np.array_equal(a, _back[n]) for n, a in _model.state_dict().items()))
check.true(
    "bytes of a file, whole and of 8 bits",
    _sizes[1] < 0.6 * _sizes[0],
    why="1,320 weights are a byte each",
    got=_sizes,
)
check.equal("arrays read back bit for bit", _same, [True, True], why="a file forgets nothing")

# %% check="16_compression.pruning"
from tinytorch.core.optimizers import Adam
from tinytorch.optim.compression import (
    DistillationLoss,
    load_sparse,
    low_rank,
    prune,
    prune_channels,
    save_sparse,
)

_net = Sequential(Linear(4, 3), Linear(3, 2))
_net[0].weight.data[...] = np.arange(1, 13).reshape(3, 4)
_net[1].weight.data[...] = np.arange(-3, 3).reshape(2, 3) * 10 - 5
_pruning = prune(_net, sparsity=0.5)
check.equal(
    "zeros in both weights, half of 18 pruned over all",
    [int((layer.weight.data == 0).sum()) for layer in _net],
    [7, 2],
    why="the nine nearest to 0: 1 to 7, -5 and 5",
)
_optimizer = Adam(_net.parameters(), lr=0.1)
for _parameter in _net.parameters():
    _parameter.grad = np.ones_like(_parameter.data)
_optimizer.step()
_pruning.apply()
check.equal(
    "zeros after a step and apply()",
    sum(int((layer.weight.data == 0).sum()) for layer in _net),
    9,
    why="the mask holds against the optimizer",
)

# %% check="16_compression.smaller"
_thin = prune_channels(Sequential(Conv2d(1, 4, 3), Conv2d(4, 2, 3)), 0.5)
check.equal(
    "shapes with half of the channels",
    [p.shape for p in _thin.parameters() if p.ndim == 4],
    [(2, 1, 3, 3), (2, 2, 3, 3)],
    why="channels go, and so do their inputs behind",
)
_layer = Linear(6, 5)
_layer.weight.data[...] = np.outer(np.arange(1, 6), np.arange(6))
_pair, _x = low_rank(_layer, 1), np.ones((2, 6), dtype=np.float32)
check.tensor(
    "a layer of rank 1 as two",
    _pair(Tensor(_x)),
    _layer(Tensor(_x)).data,
    atol=1e-4,
    why="its weight is a column times a row",
)
with tempfile.TemporaryDirectory() as _folder:
    save_sparse(_net, Path(_folder) / "s.pt")
    _other = Sequential(Linear(4, 3), Linear(3, 2))
    load_sparse(_other, Path(_folder) / "s.pt")
check.true(
    "weights from a sparse file",
    all(np.array_equal(a, _other.state_dict()[n]) for n, a in _net.state_dict().items()),
    why="storage changes nothing",
)
_same = Tensor(np.array([[2.0, -1.0, 0.5]]))
check.true(
    "the teacher's part where student and teacher agree",
    abs(DistillationLoss(temperature=2.0, alpha=1.0)(_same, _same, np.array([0])).item()) < 1e-6,
    why="two equal distributions are no distance apart",
)

# %% check="17_memoization.decode"
from tinytorch.nn import kvcache
from tinytorch.nn.kvcache import KVCache, generate_batch, generate_cached
from tinytorch.nn.transformer import GPT, GPTConfig


def _writer(**kinds):
    model, rng = (
        GPT(GPTConfig(11, 12, dim=8, heads=4, layers=2, **kinds)).eval(),
        np.random.default_rng(17),
    )
    for parameter in model.parameters():
        parameter.data[...] = rng.normal(size=parameter.shape) * 0.5 + (parameter.ndim == 1)
    return model


for _kinds in ({}, {"positions": "rotary", "kv_heads": 2}):
    _model, _ids = _writer(**_kinds), np.random.default_rng(1).integers(0, 11, (2, 9))
    _cache = KVCache.for_model(_model, 2)
    _parts = [
        kvcache.decode(_model, _ids[:, a:b], _cache).data for a, b in ((0, 5), (5, 6), (6, 9))
    ]
    check.tensor(
        f"logits of 9 tokens read as 5, 1 and 3, {_kinds}",
        Tensor(np.concatenate(_parts, axis=1)),
        _model(_ids).data,
        atol=1e-4,
        why="what was read need not be read again",
    )

# %% check="17_memoization.generate"
_model = _writer()
check.equal(
    "20 tokens, with the cache and without",
    generate_cached(_model, [1, 2], 20, temperature=0),
    generate(_model, [1, 2], 20, temperature=0),
    why="also beyond the context of 12",
)
_rows, _up = [], _model.blocks[1].mlp.up
_up.forward = lambda x: _rows.append(x.size // x.shape[-1]) or Linear.forward(_up, x)
generate_cached(_model, [1, 2], 6, temperature=0)
check.true(
    "rows through the last block for 6 tokens after 2",
    7 <= sum(_rows) <= 8,
    why="each token once",
    got=sum(_rows),
)
# %% check="17_memoization.saves"
_rows.clear()
_up.forward = lambda x: _rows.append(x.size // x.shape[-1]) or Linear.forward(_up, x)
generate_batch(_model, [[1, 2]], 6)
check.true(
    "rows through the last block in a batch of one text",
    7 <= sum(_rows) <= 8,
    why="each token once, there as well",
    got=sum(_rows),
)
del _up.forward

# %% check="17_memoization.together"
check.equal(
    "two prompts of different lengths, together and alone",
    generate_batch(_model, [[3], [4, 5, 6, 7]], 8, temperature=3.0, seed=1),
    [
        generate(_model, prompt, 8, temperature=3.0, seed=seed)
        for seed, prompt in ((1, [3]), (2, [4, 5, 6, 7]))
    ],
    why="filling must not be seen",
)

# %% check="18_acceleration.same"
from tinytorch.core.acceleration import accelerated, acceleration_enabled
from tinytorch.core.activations import ReLU
from tinytorch.core.layers import Flatten
from tinytorch.core.losses import CrossEntropyLoss
from tinytorch.nn.conv import BatchNorm2d, MaxPool2d


def _gradients(model, x, y):
    """Output and gradients of one step, and the largest of each."""
    model.zero_grad()
    logits = model(x)
    CrossEntropyLoss()(logits.reshape(-1, logits.shape[-1]), y).backward()
    return [logits.data, *(p.grad for p in model.parameters())]


manual_seed(18)
_eyes = Sequential(
    Conv2d(3, 16, 3, padding=1, bias=False),
    BatchNorm2d(16),
    ReLU(),
    Conv2d(16, 16, 3, padding=1),
    MaxPool2d(2),
    ReLU(),
    Conv2d(16, 4, 3, stride=2),
    Flatten(),
    Linear(16, 8),
    ReLU(),
    Linear(8, 3),
)
_seen = Tensor(np.random.default_rng(2).normal(size=(4, 3, 10, 10)))
_text = np.random.default_rng(3).integers(0, 11, (3, 12))
for _name, _model, _given, _wanted in (
    ("a network of convolutions", _eyes, _seen, np.arange(4) % 3),
    ("a transformer", _writer(), _text, _text.ravel()),
):
    _clear = _gradients(_model, _given, _wanted)
    with accelerated(threads=1):
        _fast = _gradients(_model, _given, _wanted)
    _apart = max(
        float(np.abs(a - b).max() / (np.abs(a).max() + 1e-3)) for a, b in zip(_clear, _fast)
    )
    check.true(
        f"{_name}: output and gradients on both kinds of kernels, apart",
        _apart < 1e-3,
        why="other kernels, the same numbers; the largest difference was more than a thousandth",
    )

# %% check="18_acceleration.restored"
with accelerated(threads=1):
    _inside = acceleration_enabled()
check.equal(
    "switched on inside of the block, and behind it",
    (_inside, acceleration_enabled()),
    (True, False),
    why="everything is as it was",
)

# %% check="19_benchmarking.measure"
from tinytorch.benchmarking import (
    Measurement,
    bootstrap_interval,
    compare,
    interleave,
    noise_verdict,
    pareto_front,
    percentile,
    warm_up,
)


class _Clock:
    """Moves when work is done, by `seconds` at a pace."""

    def __init__(self, pace=lambda now: 1.0):
        self.now, self.pace = 0.0, pace

    def __call__(self):
        return self.now

    def work(self, seconds):
        def function():
            self.now += seconds * self.pace(self.now)

        return function


_clock = _Clock()
_found = interleave(
    {"one": _clock.work(0.004), "two": _clock.work(0.008)},
    rounds=12,
    seconds=0.02,
    clock=_clock,
    kernel=_clock.work(0.001),
)
check.true(
    "seconds of functions of 4 and 8 ms",
    np.allclose(_found["one"].samples, 0.004) and np.allclose(_found["two"].samples, 0.008),
    why="time of a block, divided by its repetitions",
    got=_found["one"].samples[:3],
)
_clock = _Clock(lambda now: 1 + 9 * np.exp(-now / 0.5))
warm_up(_clock.work(0.05), clock=_clock)
check.true(
    "pace after the warm-up",
    _clock.pace(_clock.now) < 1.4,
    why="1 is steady",
    got=_clock.pace(_clock.now),
)

# %% check="19_benchmarking.intervals"
_rng = np.random.default_rng(19)
_one, _two = np.exp(_rng.normal(0, 0.05, (2, 40)))
_low, _high = bootstrap_interval(_one)
check.true(
    "interval of a median around 1",
    0.9 < _low < _high < 1.1,
    why="40 samples with 5 % noise",
    got=(_low, _high),
)

# %% check="19_benchmarking.claims"


def _noise(seconds):
    """A measurement of these seconds on a quiet machine."""
    return Measurement("noise", tuple(seconds), (1.0,) * len(seconds), 1)


check.equal(
    "verdicts on noise, and on half the time",
    [compare(_noise(_one), _noise(_two)).verdict, compare(_noise(_one / 2), _noise(_two)).verdict],
    ["no difference", "faster"],
    why="a claim needs an interval without 1",
)
_slowing = Measurement("slowing", tuple(np.linspace(1, 2, 20)), tuple(np.linspace(1, 2, 20)), 1)
check.true(
    "verdict on a machine that slows down",
    not noise_verdict(_slowing).valid,
    why="its own kernel took twice the time at the end",
)
check.equal(
    "p50 of 1 to 100 ms",
    percentile([i / 1000 for i in range(1, 101)], 50),
    0.05,
    why="nearest rank",
)
check.raises("p99 of ten", ValueError, lambda: percentile([1.0] * 10, 99), why="too few to know")
check.equal(
    "who is beaten by nobody",
    pareto_front([(1, 3), (2, 2), (3, 3)]),
    [0, 1],
    why="(2, 2) beats (3, 3)",
)
