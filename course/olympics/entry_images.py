"""Your entry for an image track of the Olympics: it runs as it is, and is yours to improve.

    python olympics/vision/entry.py             TinyDigits, some seconds
    python olympics/vision/entry.py --cifar10   the network that you trained in milestone 1998

It takes a network that you trained, saves it as before.pt, optimises a copy, saves that as
after.pt, and writes what a judge needs: predictions.json, submission.json, waterfall.svg. What to
change is `RECIPES`. Then: tito olympics check
"""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy is there: as a judge measures

import copy
import json
import sys
import tomllib
from pathlib import Path

import numpy as np
import safetensors.numpy

import tinytorch
from tinytorch import (
    Adam,
    BatchNorm2d,
    Conv2d,
    CrossEntropyLoss,
    DataLoader,
    DistillationLoss,
    Entry,
    Figures,
    Flatten,
    Linear,
    MaxPool2d,
    ReLU,
    Sequential,
    Stage,
    Tensor,
    TensorDataset,
    accelerated,
    accuracy_from,
    interleave,
    load,
    load_cifar10,
    load_tinydigits,
    manual_seed,
    no_grad,
    prune_channels,
    quantize,
    save,
    submission,
    waterfall,
    waterfall_svg,
    write_submission,
)

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]  # the workspace
TRACK = tomllib.loads((HERE / "target.toml").read_text(encoding="utf-8"))
MEAN, STD = (125.3, 123.0, 113.9), (63.0, 62.1, 66.7)  # of CIFAR-10's pixels, as milestone 1998 has
BATCH, ROUNDS, KEPT = 64, 20, 10  # images at once; rounds of the clock; one image in ten is kept


# What you change ----------------------------------------------------------------------------------


def thinner(net, data):
    """A smaller network that learns from the answers of `net`, wrong ones included (module 16)."""
    images, labels = data["train"]
    manual_seed(0)
    student, loss = (
        Sequential(Flatten(), Linear(64, 32), ReLU(), Linear(32, 10)),
        DistillationLoss(),
    )
    teacher = answers(net, images)
    learn(student, (images, teacher, labels), lambda out, said, y: loss(out, said, y), epochs=25)
    return student


def int8(net, data):
    """Weights and products in 8 bits (module 15)."""
    return quantize(net)


def int4(net, data):
    """Weights in 4 bits, two to a byte (module 15)."""
    return quantize(net, bits=4)


def narrower(net, data):
    """Half of the channels (module 16), and some training so that the rest make up for them."""
    net, loss = prune_channels(net, 0.5), CrossEntropyLoss()
    some = [array[:12800] for array in data["train"]]
    learn(net, some, lambda out, y: loss(out, y), epochs=2)
    return net


RECIPES = {
    "vision": {"INT8": int8},
    "speed": {"distilled": thinner},
    "compression": {"distilled": thinner, "INT4": int4},
}
if "--cifar10" in sys.argv:
    RECIPES |= {"speed": {"half": narrower}, "compression": {"half": narrower, "INT8": int8}}


# Where it begins ----------------------------------------------------------------------------------


def start(data):
    """The network you recorded in a milestone, or one that is trained now."""
    if data["name"] == "cifar10":
        return photographs(recorded("1998_cnn", "cifar10 cnn"))
    if TRACK["id"] == "vision" and (found := recorded("1998_cnn", "tinydigits loops")):
        net = Sequential(Conv2d(1, 6, 3, bias=False), ReLU(), Flatten(), Linear(216, 10))
        return filled(net, found)
    print("a network of 64, 256, 128 and 10 learns TinyDigits")
    manual_seed(0)
    net = Sequential(Flatten(), Linear(64, 256), ReLU(), Linear(256, 128), ReLU(), Linear(128, 10))
    loss = CrossEntropyLoss()
    learn(net, data["train"], lambda out, y: loss(out, y), epochs=12)
    return net


def recorded(milestone, part):
    """Name -> array of a milestone's trained weights; {} where it is not recorded."""
    path = ROOT / "milestones" / milestone / "weights.safetensors"
    if not path.is_file():
        return {}
    begin, arrays = f"{part}/after/", safetensors.numpy.load(path.read_bytes())
    return {name[len(begin) :]: array for name, array in arrays.items() if name.startswith(begin)}


def filled(net, weights):
    """The network with the recorded weights."""
    net.load_state_dict(weights)
    return net.eval()


def photographs(weights):
    """Milestone 1998's network for CIFAR-10, its units written out as the course's layers."""
    if not weights:
        sys.exit("no CIFAR-10 network is recorded\nNext: tito milestone run 1998 --data cifar10")
    layers, named = [], {}
    for i, pool in enumerate((False, True, False, True, True)):
        outputs, inputs = weights[f"{i}.conv.weight"].shape[:2]
        unit = [(Conv2d(inputs, outputs, 3, padding=1, bias=False), f"{i}.conv.")]
        unit += [(MaxPool2d(2), "")] if pool else []
        for layer, name in [*unit, (BatchNorm2d(outputs), f"{i}.norm."), (ReLU(), "")]:
            taken = {key: a for key, a in weights.items() if name and key.startswith(name)}
            named |= {f"{len(layers)}.{key[len(name) :]}": a for key, a in taken.items()}
            layers.append(layer)
    count = len(layers) + 1
    named |= {f"{count}.{key}": weights[f"6.{key}"] for key in ("weight", "bias")}
    return filled(Sequential(*layers, Flatten(), Linear(2048, 10)), named)


# Data, training, answers --------------------------------------------------------------------------


def read(name):
    """Images as the network reads them: to train on, kept back, and the test's."""
    found = load_cifar10() if name == "cifar10" else load_tinydigits()
    images, cut = prepared(found.train_images), len(found.train_images) // KEPT
    return {
        "name": name, "train": (images[cut:], found.train_labels[cut:]),
        "kept": (images[:cut], found.train_labels[:cut]),
        "test": prepared(found.test_images), "answers": found.test_labels,
    }  # fmt: skip


def prepared(images):
    """Bytes as numbers (N, C, H, W): ink from 0 to 1, or colours around 0."""
    if images.ndim == 3:
        return (images[:, None] / 16).astype(np.float32)
    mean, std = (np.array(v, np.float32)[:, None, None] for v in (MEAN, STD))
    return (images.astype(np.float32) - mean) / std


@accelerated()
def learn(net, arrays, loss, epochs):
    """Train with Adam, on module 18's kernels; `loss` gets the outputs, and what stands beside."""
    optimizer = Adam(net.parameters(), lr=0.003)
    net.train()
    for _ in range(epochs):
        for x, *beside in DataLoader(TensorDataset(*arrays), BATCH, shuffle=True, seed=0):
            optimizer.zero_grad()
            loss(net(x), *beside).backward()
            optimizer.step()
    net.eval()


@no_grad()
def answers(net, images):
    """Ten outputs for each image (N, 10), in batches of 64: as a judge asks again."""
    net.eval()
    parts = [net(Tensor(images[at : at + BATCH])).data for at in range(0, len(images), BATCH)]
    return np.concatenate(parts)


def right(net, images, labels):
    """The share of the images that the network gets right."""
    return accuracy_from(answers(net, images).argmax(axis=1), labels)


# The entry ----------------------------------------------------------------------------------------


def optimised(data):
    """(name, network, how) of the beginning and of each step of the recipe."""
    net = start(data)
    yield "before", net, "as it was trained"
    for name, step in RECIPES[TRACK["id"]].items():
        net = step(copy.deepcopy(net), data).eval()
        yield name, net, " ".join(step.__doc__.split())


def measure(nets, x):
    """Module 19's measurement of one answer of each network, side by side."""

    def asked(net):
        def ask():
            with no_grad():
                return net(Tensor(x))

        return ask

    return interleave({name: asked(net) for name, net in nets.items()}, ROUNDS, 0.02)


def main():
    data = read("cifar10" if "--cifar10" in sys.argv else "digits")
    print(f"{TRACK['title']}, on {data['name']}, by {tinytorch.origin}")
    nets, notes, sizes = {}, {}, {}
    for name, net, how in optimised(data):
        path = HERE / f"stage_{len(nets)}.pt"
        save(net, path)
        nets[name], notes[name], sizes[name] = load(path), how, path.stat().st_size  # as a file is
        print(
            f"  {name}: {sizes[name]:,} bytes, {right(nets[name], *data['kept']):.1%} of the kept"
        )
    first, last = next(iter(nets)), list(nets)[-1]
    (HERE / "stage_0.pt").replace(HERE / "before.pt")
    (HERE / f"stage_{len(nets) - 1}.pt").replace(HERE / "after.pt")
    for path in HERE.glob("stage_*.pt"):
        path.unlink()

    # All is decided. Only now are the test's answers looked at, once.
    said = {name: answers(net, data["test"]).argmax(axis=1) for name, net in nets.items()}
    raw = {"before": said[first].tolist(), "after": said[last].tolist()}
    (HERE / "predictions.json").write_text(json.dumps(raw) + "\n", encoding="utf-8")
    speed = measure(nets, data["test"][:1])
    stages = []
    for name in nets:
        accuracy = accuracy_from(said[name], data["answers"])
        figures = Figures(accuracy, speed[name].summary.median, sizes[name])
        stages.append(Stage(name, figures, notes[name]))
    entry = Entry(TRACK["id"], stages)
    record = submission(entry, TRACK, data["name"], HERE, (speed[first], speed[last]))
    write_submission(record, HERE / "submission.json")
    waterfall_svg(entry, HERE / "waterfall.svg")
    print(waterfall(entry))
    print("Next: tito olympics check " + TRACK["id"])


if __name__ == "__main__":
    main()
