# %% [markdown]
"""
# Checkpoint 15: can you optimise your own system and prove it?

A target to be judged, steps to be kept or dropped, and a network that must get smaller for good,
with a record that holds nothing but what was counted.
"""

# %% given="tools"
import json
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
from tinytorch.olympics import (
    SCHEMA,
    Entry,
    Figures,
    Stage,
    Target,
    accuracy_from,
    decide,
    front,
    machine,
    source_hash,
    validate,
    waterfall,
    write_submission,
)
from tinytorch.optim.quantization import file_size, quantize

import tito.checks as check

_digits = load_tinydigits()
_x = (_digits.train_images[:1500] / 16).astype(np.float32)
_y = _digits.train_labels[:1500]
_held = (_digits.test_images[:400] / 16).astype(np.float32)
_truth = _digits.test_labels[:400]


def _network(width):
    manual_seed(15)
    return Sequential(Flatten(), Linear(64, width), ReLU(), Linear(width, 10))


def _trained(net, epochs=4):
    optimizer, rng = Adam(net.parameters(), lr=0.003), np.random.default_rng(0)
    for _ in range(epochs):
        for rows in rng.permutation(len(_x)).reshape(-1, 50):
            training_step(net, CrossEntropyLoss(), optimizer, Tensor(_x[rows]), Tensor(_y[rows]))
    return net.eval()


def _says(net):
    with no_grad():
        return net(Tensor(_held)).data.argmax(axis=1)


# %% check="judge_a_target"
_before, _after = Figures(0.96, 0.020, 400_000), Figures(0.95, 0.0018, 110_000)
check.equal(
    "met: 11 times faster, 3.6 times smaller, 1.8 ms, one point lost",
    {row.name: row.met for row in Target().judge(_before, _after)},
    {"speed": True, "size": False, "latency": True, "accuracy": True},
    why="ten times, four times, 100 ms and two points were asked",
)
check.equal(
    "right in 5 of 8", accuracy_from([1, 2, 3, 4, 5, 6, 7, 8], [1, 2, 3, 4, 5, 0, 0, 0]), 0.625,
    why="counted, answer by answer",
)  # fmt: skip
check.raises(
    "a claim of 70 % for them", ValueError,
    lambda: accuracy_from([1, 2, 3, 4, 5, 6, 7, 8], [1, 2, 3, 4, 5, 0, 0, 0], claim=0.7),
    why="what is counted is what counts",
)  # fmt: skip

# %% check="keep_what_helps"
_rng = np.random.default_rng(3)
_old = tuple(0.010 * np.exp(_rng.normal(0, 0.02, 30)))
_same, _half = (tuple(np.array(_old) * f * np.exp(_rng.normal(0, 0.02, 30))) for f in (1, 0.5))
_figures = Figures(0.95, 0.010, 1000)
check.equal(
    "kept: twice as fast; no difference; twice as fast and 10 points worse",
    [
        decide(_figures, Figures(0.95, 0.005, 1000), _old, _half).keep,
        decide(_figures, Figures(0.95, 0.010, 1000), _old, _same).keep,
        decide(_figures, Figures(0.85, 0.005, 1000), _old, _half).keep,
    ],
    [True, False, False],
    why="a step must gain something that survives the noise, and lose nothing that counts",
)

# %% check="make_a_network_smaller_and_keep_its_answers"
_large = _trained(_network(256))
_small = quantize(_trained(_network(40), epochs=15))
_sides = [(accuracy_from(_says(net), _truth), file_size(net)) for net in (_large, _small)]
check.true(
    "accuracy and bytes before and after",
    _sides[1][0] > _sides[0][0] - 0.04 and _sides[1][1] < _sides[0][1] / 10,
    why="fewer neurons, a byte each: ten times smaller, and at most four points worse",
    got=_sides,
)
_entry = Entry(
    "compression",
    [
        Stage("whole", Figures(_sides[0][0], 0.004, _sides[0][1])),
        Stage("slow", Figures(_sides[0][0], 0.008, _sides[0][1])),
        Stage("small", Figures(_sides[1][0], 0.001, _sides[1][1])),
    ],
)
check.equal(
    "the slow stage on the front", "slow" in [stage.name for stage in front(_entry)], False,
    why="the whole network is as right, as small, and faster",
)  # fmt: skip
check.true(
    "stages in the picture", all(stage.name in waterfall(_entry) for stage in _entry.stages),
    why="a picture that leaves out the stage that failed is no log",
)  # fmt: skip

# %% check="leave_no_trace_of_yourself"
_here = machine()
check.true(
    "what is said of this machine",
    {"cores", "memory_gib", "cpu"} <= set(_here)
    and not any(str(Path.home().name) == str(value) for value in _here.values()),
    why="a machine, rounded; no host, no user, no path",
    got=_here,
)
with tempfile.TemporaryDirectory() as _folder:
    _root = Path(_folder)
    for _name, _text in (("a.py", "x = 1"), ("b.py", "y = 2")):
        (_root / _name).write_text(_text)
    _hashes = [source_hash(_root, names) for names in (["a.py", "b.py"], ["b.py", "a.py"])]
    (_root / "b.py").write_text("y = 3")
    _hashes.append(source_hash(_root, ["a.py", "b.py"]))
check.true(
    "hashes of two files, of the same in another order, and after a change",
    _hashes[0] == _hashes[1] != _hashes[2],
    why="names are sorted; a changed digit is another source",
    got=[text[:8] for text in _hashes],
)

# %% check="refuse_a_record_that_is_not_whole"
_schema = {
    "type": "object",
    "required": ["n", "name"],
    "additionalProperties": False,
    "properties": {
        "n": {"type": "integer", "minimum": 1},
        "name": {"type": "string", "pattern": "^[a-z]+$"},
        "items": {"type": "array", "items": {"type": "number", "maximum": 9}},
    },
}
check.equal(
    "problems of a whole record",
    validate({"n": 3, "name": "ada", "items": [1, 2.5]}, _schema),
    [],
    why="everything is as it should be",
)
check.equal(
    "how many problems five broken ones have",
    [
        len(validate(record, _schema))
        for record in (
            {"n": 0, "name": "ada"}, {"n": 1}, {"n": 1, "name": "Ada"},
            {"n": 1, "name": "ada", "host": "lab"}, {"n": True, "name": "ada", "items": [10]},
        )
    ],
    [1, 1, 1, 1, 2],
    why="too small; missing; a capital; a name too many; True is no number, and 10 is over 9",
)  # fmt: skip
with tempfile.TemporaryDirectory() as _folder:
    _file = Path(_folder) / "submission.json"
    check.raises("a record without anything", ValueError, lambda: write_submission({}, _file),
                 why="the schema asks for all of it")  # fmt: skip
    check.true("no file was written", not _file.exists(), why="better no record than a wrong one")
check.true("the schema is one", json.dumps(SCHEMA) and SCHEMA["type"] == "object", why="plain JSON")
