"""1998 as pictures: curves, confusions, mistakes, and the filters before and after."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from tito import pictures
from tito.judge import Array, Made, Part

Judged = dict[str, tuple[Part, Made]]


def draw(judged: Judged, folder: Path) -> list[Path]:
    """curves.png, and per network with filters confusion, mistakes and filters, in `folder`."""
    paths = [curves(judged, folder / "curves.png")]
    for name, (part, made) in judged.items():
        if part.function == "mlp":
            continue
        stem = name.replace(" ", "_")
        paths += [
            confusion(part, made, folder / f"{stem}_confusion.png"),
            mistakes(part, made, folder / f"{stem}_mistakes.png"),
            filters(part, made, folder / f"{stem}_filters.png"),
        ]
    return paths


def _gate() -> ModuleType:
    """The judge beside this file: it knows the networks' layers and the classes' names."""
    spec = importlib.util.spec_from_file_location("gate_1998", Path(__file__).with_name("gate.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _names(part: Part) -> list[str]:
    return [str(n) for n in range(10)] if part.function == "digits" else _gate().CLASSES


def curves(judged: Judged, path: Path) -> Path:
    """Loss and accuracy on the images kept back, per epoch, one line per network."""
    figure, [[left, right]] = pictures.figure(columns=2, width=5.0, height=3.6)
    for name, (_, made) in judged.items():
        epochs = np.arange(1, len(made.history["loss"]) + 1)
        left.plot(epochs, made.history["loss"], marker=".", label=name)
        right.plot(epochs, made.history["val_accuracy"], marker=".", label=name)
    left.set(xlabel="epoch", ylabel="training loss", title="loss")
    right.set(xlabel="epoch", ylabel="share right", title="images kept back", ylim=(None, 1))
    for axes in (left, right):
        axes.xaxis.get_major_locator().set_params(integer=True)
    right.legend(loc="lower right", fontsize=8)
    return pictures.save(figure, path)


def confusion(part: Part, made: Made, path: Path) -> Path:
    """Which class is seen as which: mistakes only, the diagonal is left white."""
    counts, names = _gate().confusion(part, made), _names(part)
    figure, [[axes]] = pictures.figure(width=6.4, height=5.8)
    wrong = counts * (1 - np.eye(10, dtype=counts.dtype))
    axes.imshow(wrong, cmap="Oranges", vmax=1.6 * max(wrong.max(), 1))
    for row, seen in np.ndindex(10, 10):
        if counts[row, seen]:
            colour = "#999999" if row == seen else pictures.INK
            axes.text(
                seen, row, counts[row, seen], ha="center", va="center", fontsize=8, color=colour
            )
    axes.set(xlabel="seen as", ylabel="is", xticks=range(10), yticks=range(10),
             yticklabels=names, title=f"{wrong.sum():,} of {counts.sum():,} mistaken")  # fmt: skip
    axes.set_xticklabels(names, rotation=45, ha="right")
    return pictures.save(figure, path)


def mistakes(part: Part, made: Made, path: Path, columns: int = 8, most: int = 32) -> Path:
    """The mistaken images the network was surest of."""
    out, names = made.outputs, _names(part)  # NumPy has confirmed them
    seen = out.argmax(axis=1)
    sure = out.max(axis=1) - out[np.arange(len(out)), part.answers]
    wrong = np.flatnonzero(seen != part.answers)
    wrong = wrong[np.argsort(-sure[wrong])][:most]
    rows = -(-max(len(wrong), 1) // columns)
    figure, axes = pictures.figure(columns, rows, width=1.35, height=1.6)
    for place, index in zip(axes.ravel(), wrong):
        title = f"{names[part.answers[index]]}\nseen as {names[seen[index]]}"
        _show(place, part.held_out[index], title)
    for place in axes.ravel()[len(wrong) :]:
        place.set_axis_off()
    return pictures.save(figure, path)


def _show(axes: Any, image: Array, title: str) -> None:
    """A digit as ink, a photograph in colour."""
    if image.ndim == 2:
        return pictures.image(axes, image, title)
    axes.imshow(image.transpose(1, 2, 0), interpolation="nearest")
    axes.set_title(title, fontsize=7)
    axes.set(xticks=[], yticks=[])


def filters(part: Part, made: Made, path: Path) -> Path:
    """The first layer's filters as they were drawn (above) and as they learned (below)."""
    name = _gate().filters(part.function)[0]
    count = min(len(made.after[name]), 16)
    way = (made.after[name] - made.before[name]).reshape(len(made.after[name]), -1)
    moved = np.linalg.norm(way, axis=1)
    chosen = np.sort(np.argsort(-moved)[:count])
    figure, axes = pictures.figure(count, 2, width=0.8, height=0.95)
    for row, (when, weights) in enumerate((("before", made.before), ("after", made.after))):
        for place, index in zip(axes[row], chosen):
            _filter(place, weights[name][index], f"{when} {index}")
    return pictures.save(figure, path)


def _filter(axes: Any, values: Array, title: str) -> None:
    """One channel: red adds, blue takes away. Three channels: as a colour patch around grey."""
    if len(values) == 1:
        pictures.image(axes, values[0], title, diverging=True)
    else:
        patch = 0.5 + 0.5 * values / np.abs(values).max()
        axes.imshow(patch.transpose(1, 2, 0), interpolation="nearest")
        axes.set(xticks=[], yticks=[])
    axes.set_title(title, fontsize=6)
