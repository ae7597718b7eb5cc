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
