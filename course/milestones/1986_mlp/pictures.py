"""1986 as pictures: curves, confusions, mistakes, and what the first layer looks for."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np

from tito import pictures
from tito.judge import Made, Part

Judged = dict[str, tuple[Part, Made]]


def draw(judged: Judged, folder: Path) -> list[Path]:
    """curves.png, and per data set confusion, mistakes and first_layer, in `folder`."""
    paths = [curves(judged, folder / "curves.png")]
    for name, (part, made) in judged.items():
        if part.function == "mlp":
            data = name.split()[0]
            paths += [
                confusion(part, made, folder / f"{data}_confusion.png"),
                mistakes(part, made, folder / f"{data}_mistakes.png"),
                first_layer(part, made, folder / f"{data}_first_layer.png"),
            ]
    return paths


def _gate() -> ModuleType:
    """The judge beside this file: it computes what a network says from its weights."""
    spec = importlib.util.spec_from_file_location("gate_1986", Path(__file__).with_name("gate.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def curves(judged: Judged, path: Path) -> Path:
    """Loss and validation accuracy per epoch, one line per network."""
    figure, [[left, right]] = pictures.figure(columns=2, width=5.0, height=3.6)
    for name, (_, made) in judged.items():
        epochs = np.arange(1, len(made.history["loss"]) + 1)
        left.plot(epochs, made.history["loss"], label=name)
        right.plot(epochs, made.history["val_accuracy"], label=name)
    left.set(xlabel="epoch", ylabel="training loss", yscale="log", title="loss")
    right.set(xlabel="epoch", ylabel="share right", title="validation accuracy")
    right.legend(loc="lower right")
    return pictures.save(figure, path)


def confusion(part: Part, made: Made, path: Path) -> Path:
    """Which digit is read as which: mistakes only, the diagonal is left white."""
    counts = _gate().confusion(part, made)
    figure, [[axes]] = pictures.figure(width=5.2, height=4.8)
    wrong = counts * (1 - np.eye(10, dtype=counts.dtype))
    axes.imshow(wrong, cmap="Oranges", vmax=1.6 * max(wrong.max(), 1))
    for digit, read in np.ndindex(10, 10):
        if counts[digit, read]:
            colour = "#999999" if digit == read else pictures.INK
            axes.text(
                read, digit, counts[digit, read], ha="center", va="center", fontsize=8, color=colour
            )
    axes.set(xlabel="read as", ylabel="is", xticks=range(10), yticks=range(10),
             title=f"{wrong.sum():,} of {counts.sum():,} misread")  # fmt: skip
    return pictures.save(figure, path)


def mistakes(part: Part, made: Made, path: Path, columns: int = 8, most: int = 32) -> Path:
    """The misread images the network was surest of."""
    out = _gate().logits(part, part.held_out, made.after)
    read = out.argmax(axis=1)
    sure = out.max(axis=1) - out[np.arange(len(out)), part.answers]
    wrong = np.flatnonzero(read != part.answers)
    wrong = wrong[np.argsort(-sure[wrong])][:most]
    rows = -(-max(len(wrong), 1) // columns)
    figure, axes = pictures.figure(columns, rows, width=1.1, height=1.25)
    for place, index in zip(axes.ravel(), wrong):
        pictures.image(place, part.held_out[index], f"{part.answers[index]}, read {read[index]}")
    for place in axes.ravel()[len(wrong) :]:
        place.set_axis_off()
    return pictures.save(figure, path)


def first_layer(part: Part, made: Made, path: Path, columns: int = 8, rows: int = 4) -> Path:
    """The weights of the hidden neurons that moved most, as images: red adds, blue takes away."""
    before, after = made.before["0.weight"], made.after["0.weight"]
    moved = np.linalg.norm(after - before, axis=1)
    side = part.x.shape[1]
    figure, axes = pictures.figure(columns, rows, width=1.1, height=1.15)
    for place, index in zip(axes.ravel(), np.argsort(-moved)):
        pictures.image(place, after[index].reshape(side, side), diverging=True)
    return pictures.save(figure, path)
