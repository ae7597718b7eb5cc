"""1998 as pictures: curves, confusions, mistakes, and the filters before and after."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tito import pictures, stage
from tito.judge import Array, Made, Part

Judged = dict[str, tuple[Part, Made]]
GATE = stage.load(Path(__file__).with_name("gate.py"))  # it knows the networks


def draw(judged: Judged, folder: Path) -> list[Path]:
    """curves.png, and per network with filters confusion, mistakes and filters, in `folder`."""
    histories = {name: made.history for name, (_, made) in judged.items()}
    paths = [pictures.curves(histories, folder / "curves.png")]
    for name, (part, made) in judged.items():
        if part.function == "mlp":
            continue
        stem, names = name.replace(" ", "_"), _names(part)
        counts, wrong = GATE.confusion(part, made), folder / f"{stem}_mistakes.png"
        paths += [
            pictures.confusion(counts, names, folder / f"{stem}_confusion.png"),
            pictures.mistakes(part.held_out, made.outputs, part.answers, names, wrong),
            filters(part, made, folder / f"{stem}_filters.png"),
        ]
    return paths


def _names(part: Part) -> list[str]:
    return [str(n) for n in range(10)] if part.function == "digits" else GATE.CLASSES


def filters(part: Part, made: Made, path: Path) -> Path:
    """The first layer's filters as they were drawn (above) and as they learned (below)."""
    name = next(name for name, array in made.after.items() if array.ndim == 4)
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
