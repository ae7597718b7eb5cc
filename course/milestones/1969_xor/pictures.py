"""1969 as pictures: both boundaries side by side, and the lines of the hidden neurons."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tito import judge, pictures
from tito.judge import Array, Made, Part

TITLES = {"single": "one layer", "hidden": "a hidden layer"}


def draw(judged: dict[str, tuple[Part, Made]], folder: Path) -> list[Path]:
    """boundaries.png in `folder`."""
    figure, [axes] = pictures.figure(columns=2, width=4.4, height=5.0)
    for place, (name, title) in zip(axes, TITLES.items()):
        part, made = judged[name]
        right = judge.share((logits(part.held_out, made) > 0) == part.answers)
        pictures.plane(
            place, lambda p, made=made: logits(p, made)[:, 0] > 0, part.held_out[:404],
            part.answers[:404], f"{title}: {right:.1%} right",
        )  # fmt: skip
    hidden_lines(axes[1], judged["hidden"][1])
    return [pictures.save(figure, folder / "boundaries.png")]


def logits(points: Array, made: Made) -> Array:
    names = ("0", "2") if "2.weight" in made.after else ("0",)
    return judge.chain(points, made.after, *names, bend=np.tanh)


def hidden_lines(axes: Any, made: Made) -> None:
    """Where each hidden neuron is 0: the lines that the boundary is bent from."""
    for (a, b), c in zip(made.after["0.weight"], made.after["0.bias"]):
        point = -c * np.array([a, b]) / (a * a + b * b)
        axes.axline(point, point + np.array([-b, a]), color=pictures.INK, linewidth=0.6, alpha=0.6)
