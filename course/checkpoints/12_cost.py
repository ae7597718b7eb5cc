# %% [markdown]
"""
# Checkpoint 12: can you find where time and memory go, and need less of both?

A network whose costs you know beforehand, files that must shrink, and a digit reader that may lose
almost nothing.
"""

# %% given="tools"
import tempfile
from pathlib import Path

import numpy as np
from tinytorch.core.activations import ReLU
from tinytorch.core.autograd import no_grad
from tinytorch.core.layers import Flatten, Linear, Sequential
from tinytorch.core.losses import CrossEntropyLoss
from tinytorch.core.optimizers import Adam
from tinytorch.core.tensor import Tensor, manual_seed
from tinytorch.core.training import training_step
from tinytorch.data.loader import load_tinydigits
from tinytorch.nn.conv import BatchNorm2d, Conv2d, MaxPool2d
from tinytorch.optim.compression import load_sparse, prune, prune_channels, save_sparse
from tinytorch.optim.quantization import (
    Scheme,
    dequantize_array,
    file_size,
    load,
    quantization_parameters,
    quantize,
    quantize_array,
    save,
)
from tinytorch.profiling import Machine, Profiler, amdahl, profile_memory, roofline

import tito.checks as check


def _reader():
    """A small network for images (N, 1, 8, 8)."""
    manual_seed(3)
    return Sequential(
        Conv2d(1, 8, 3, padding=1), BatchNorm2d(8), MaxPool2d(2), ReLU(),
        Conv2d(8, 16, 3, padding=1), BatchNorm2d(16), ReLU(),
        Flatten(), Linear(16 * 16, 10),
    )  # fmt: skip


_digits = load_tinydigits()
_x = (_digits.train_images[:1500, None] / 16).astype(np.float32)
_y = _digits.train_labels[:1500]
_seen = (_digits.test_images[:400, None] / 16).astype(np.float32)
_truth = _digits.test_labels[:400]


def _train(model, epochs=4, keep=None):
    """Train in place on 1,500 digits; `keep()` after every step."""
    optimizer, rng = Adam(model.parameters(), lr=0.005), np.random.default_rng(0)
    model.train()
    for _ in range(epochs):
        for rows in rng.permutation(len(_x)).reshape(-1, 50):
            training_step(model, CrossEntropyLoss(), optimizer, Tensor(_x[rows]), Tensor(_y[rows]))
            if keep is not None:
                keep()
    return model.eval()


def _right(model):
    """Share of 400 digits it has not seen that it reads right."""
    model.eval()
    with no_grad():
        return float((model(Tensor(_seen)).data.argmax(axis=1) == _truth).mean())


_model = _train(_reader())
_whole, _narrow = _right(_model), prune_channels(_model, 0.5)
_pruned = _train(_reader())
_pruning = prune(_pruned, sparsity=0.8)

# %% check="say_what_a_network_costs"
_report = Profiler(_model).report(Tensor(_seen[:50]))
_rows = {row.name: row for row in _report.rows if row.flops}
_multiply_adds = [50 * 64 * 8 * 9, 50 * 16 * 16 * 8 * 9, 50 * 256 * 10]
_biases = [50 * 64 * 8, 50 * 16 * 16, 50 * 10]
check.equal(
    "FLOPs of both convolutions and the linear layer for 50 images",
    [_rows[name].flops for name in ("0", "4", "8")],
    [2 * m + b for m, b in zip(_multiply_adds, _biases)],
    why="two per weight and place, one for each bias",
)
check.equal(
    "parameters of the whole",
    _report.parameters,
    80 + 16 + 1168 + 32 + 2570,
    why="each layer's own: 8 * 9 + 8, 2 * 8, 16 * 72 + 16, 2 * 16, 10 * 256 + 10",
)
check.true(
    "the layers' shares of the time",
    0.5 < sum(row.share for row in _report.rows) <= 1.001,
    why="each layer's own seconds, without those of the layers inside it, add up to the whole",
    got=round(sum(row.share for row in _report.rows), 3),
)
_use = profile_memory(lambda: (np.ones(1_000_000), np.ones(250_000))[1])
check.true(
    "peak of 8 MB and 2 MB, of which 2 MB stay",
    10.0e6 <= _use.peak < 10.1e6 and 2.0e6 <= _use.live < 2.1e6,
    why="both arrays were there at one moment, and one is still held by the result",
    got=(_use.peak, _use.live),
)
check.true(
    "40 % of the time made 5 times as fast, and no part at all",
    abs(amdahl(0.4, 5) - 1 / 0.68) < 1e-9 and amdahl(0.0, 100) == 1,
    why="1 / (0.6 + 0.4 / 5): what is not touched stays",
    got=(amdahl(0.4, 5), amdahl(0.0, 100)),
)
_machine = Machine(peak_flops=1e11, bandwidth=1e10)
check.equal(
    "speed that is possible with 0.25 and with 40 FLOPs per byte",
    [roofline(_machine, 0.25), roofline(_machine, 40.0)],
    [2.5e9, 1e11],
    why="below 10 FLOPs per byte memory is the limit, above it arithmetic is",
)

# %% check="say_a_number_in_eight_bits"
_numbers = np.random.default_rng(1).normal(size=(6, 500)).astype(np.float32)
_numbers[3] *= 100
for _scheme in (Scheme(8), Scheme(8, symmetric=False), Scheme(8, axis=0), Scheme(4, axis=0)):
    _scale, _zero = quantization_parameters(_numbers, _scheme)
    _back = dequantize_array(quantize_array(_numbers, _scale, _zero, _scheme), _scale, _zero)
    check.true(
        f"{_scheme}: error in steps",
        float((np.abs(_back - _numbers) / _scale).max()) <= 0.501,
        why="rounding moves a number by at most half a step",
        got=float((np.abs(_back - _numbers) / _scale).max()),
    )
_per_tensor, _per_row = (
    quantization_parameters(_numbers, scheme)[0] for scheme in (Scheme(8), Scheme(8, axis=0))
)
check.true(
    "steps of the small rows, with one scale for all and with one for each",
    float(np.max(_per_row[0])) < float(np.max(_per_tensor)) / 20,
    why="one loud row must not set the step of all others",
    got=(float(np.max(_per_row[0])), float(np.max(_per_tensor))),
)

# %% check="quarter_a_file_and_keep_its_answers"
_small = quantize(_model)
with tempfile.TemporaryDirectory() as _folder:
    _paths = [Path(_folder) / name for name in ("whole.pt", "small.pt")]
    for _net, _path in zip((_model, _small), _paths):
        save(_net, _path)
    _bytes = [path.stat().st_size for path in _paths]
    _again = load(_paths[1])
check.equal(
    "bytes on disk, and as announced", _bytes, [file_size(_model), file_size(_small)],
    why="file_size says what save writes",
)  # fmt: skip
_big = Sequential(Linear(300, 400))
check.true(
    "a linear layer of 300 x 400, times smaller on disk",
    file_size(_big) / file_size(quantize(_big)) > 3.8,
    why="a byte for four, and a scale per output",
    got=round(file_size(_big) / file_size(quantize(_big)), 2),
)
check.true(
    "share of 400 digits read right, lost by int8",
    _whole - _right(_small) <= 0.02,
    why="eight bits are enough for weights and activations of this network",
    got=(_whole, _right(_small)),
)
with no_grad():
    _twice = [net(Tensor(_seen[:50])) for net in (_small, _again.eval())]
check.tensor("logits of the file that was read back", _twice[1], _twice[0].data, rtol=0, atol=0,
             why="the integers and scales are in the file, bit for bit")  # fmt: skip

# %% check="prune_and_still_read"
_train(_pruned, epochs=3, keep=_pruning.apply)
_weights = [p.data for p in _pruned.parameters() if p.ndim > 1]
_zeros = sum(int((w == 0).sum()) for w in _weights) / sum(w.size for w in _weights)
check.true(
    "share of zeros after three more epochs",
    abs(_zeros - 0.8) < 0.01,
    why="Adam moves every weight that has a memory of a gradient: apply the masks after each step",
    got=round(_zeros, 4),
)
check.true(
    "share of 400 digits read right, whole and pruned",
    _whole - _right(_pruned) <= 0.03,
    why="fine-tuning lets the weights that stay make up for those that went",
    got=(_whole, _right(_pruned)),
)
with tempfile.TemporaryDirectory() as _folder:
    _file = Path(_folder) / "sparse.pt"
    save_sparse(_pruned, _file)
    _stored, _copy = _file.stat().st_size, _reader()
    load_sparse(_copy, _file)
check.true(
    "bytes of the sparse file, and of the dense one",
    _stored < 0.6 * file_size(_pruned),
    why="a position and a value for each weight that stays, nothing for the zeros",
    got=(_stored, file_size(_pruned)),
)
check.true(
    "weights read back from the sparse file",
    all(np.array_equal(a, _copy.state_dict()[name]) for name, a in _pruned.state_dict().items()),
    why="storage changes nothing",
)

# %% check="remove_channels_for_good"
check.equal(
    "shapes of the weights with half of the channels",
    [p.shape for p in _narrow.parameters() if p.ndim > 1],
    [(4, 1, 3, 3), (8, 4, 3, 3), (10, 8 * 16)],
    why="the next layer loses the inputs that are gone: a channel is 16 columns behind Flatten",
)
check.true(
    "share of 400 digits read right after two epochs more",
    _right(_train(_narrow, epochs=2)) >= _whole - 0.05,
    why="the strongest channels stay, and learn on",
    got=(_whole, _right(_narrow)),
)
check.equal(
    "shapes of the weights of the network it came from",
    [p.shape for p in _model.parameters() if p.ndim > 1],
    [(8, 1, 3, 3), (16, 8, 3, 3), (10, 256)],
    why="a smaller copy, not a change",
)
