"""1958 as pictures: the boundary over the points, and the mistakes of every epoch."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tito import judge, pictures
from tito.judge import Made, Part

TITLES = {"line": "a line separates", "cross": "no line separates"}


def draw(judged: dict[str, tuple[Part, Made]], folder: Path) -> list[Path]:
    """boundary.png and mistakes.png in `folder`."""
    return [boundary(judged, folder / "boundary.png"), mistakes(judged, folder / "mistakes.png")]


def boundary(judged: dict[str, tuple[Part, Made]], path: Path) -> Path:
    """Held-out points over the half planes of the neuron, for the two parts in the plane."""
    figure, [axes] = pictures.figure(columns=2, width=4.4, height=5.0)
    for place, (name, title) in zip(axes, TITLES.items()):
        part, made = judged[name]
        points, answers = part.held_out[:400], part.answers[:400]
        sums = judge.chain(part.held_out, made.after, "")
        right = judge.share((sums > 0) == part.answers)
        pictures.plane(
            place, lambda p, made=made: judge.chain(p, made.after, "")[:, 0] > 0, points, answers,
            f"{title}: {right:.1%} right",
        )  # fmt: skip
    return pictures.save(figure, path)


def mistakes(judged: dict[str, tuple[Part, Made]], path: Path) -> Path:
    """Share of mistakes per epoch: the rule comes to rest, or it does not."""
    figure, [[axes]] = pictures.figure(width=6.4, height=3.4)
    for name, (part, made) in judged.items():
        counts = np.array(made.history["mistakes"]) / len(part.x)
        axes.plot(np.arange(1, len(counts) + 1), counts, marker="o", markersize=3, label=name)
    axes.set(xlabel="epoch", ylabel="share of mistakes", ylim=(0, None), title="Rosenblatt's rule")
    axes.legend()
    return pictures.save(figure, path)
