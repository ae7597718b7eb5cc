"""1986 as pictures: curves, confusions, mistakes, and what the first layer looks for."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tito import pictures, stage
from tito.judge import Made, Part

Judged = dict[str, tuple[Part, Made]]
GATE = stage.load(Path(__file__).with_name("gate.py"))  # it knows what a network says
DIGITS = [str(n) for n in range(10)]


def draw(judged: Judged, folder: Path) -> list[Path]:
    """curves.png, and per data set confusion, mistakes and first_layer, in `folder`."""
    histories = {name: made.history for name, (_, made) in judged.items()}
    paths = [pictures.curves(histories, folder / "curves.png")]
    for name, (part, made) in judged.items():
        if part.function == "mlp":
            data, out = name.split()[0], GATE.logits(part, part.held_out, made.after)
            counts, answers = GATE.confusion(part, made), part.answers
            wrong = folder / f"{data}_mistakes.png"
            paths += [
                pictures.confusion(counts, DIGITS, folder / f"{data}_confusion.png"),
                pictures.mistakes(part.held_out, out, answers, DIGITS, wrong),
                first_layer(part, made, folder / f"{data}_first_layer.png"),
            ]
    return paths


def first_layer(part: Part, made: Made, path: Path, columns: int = 8, rows: int = 4) -> Path:
    """The weights of the hidden neurons that moved most, as images: red adds, blue takes away."""
    before, after = made.before["0.weight"], made.after["0.weight"]
    moved = np.linalg.norm(after - before, axis=1)
    side = part.x.shape[1]
    figure, axes = pictures.figure(columns, rows, width=1.1, height=1.15)
    for place, index in zip(axes.ravel(), np.argsort(-moved)):
        pictures.image(place, after[index].reshape(side, side), diverging=True)
    return pictures.save(figure, path)
