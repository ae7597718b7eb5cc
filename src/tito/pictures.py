"""Pictures beside a record: PNG files, drawn where matplotlib (the extra `plots`) is installed."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

INK, ONE, ZERO, PAPER = "#222222", "#b5482a", "#2a6fb5", "#faf8f4"
REGIONS = ("#d3e2f2", "#f2d9d0")  # where a network says 0, and where it says 1


def available() -> bool:
    """Whether pictures can be drawn here."""
    return find_spec("matplotlib") is not None


def figure(columns: int = 1, rows: int = 1, width: float = 4.0, height: float = 4.0) -> Any:
    """A figure and its axes, (rows, columns), drawn without a window; sizes in inches per axes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    made = Figure(figsize=(columns * width, rows * height), facecolor=PAPER, layout="constrained")
    FigureCanvasAgg(made)
    return made, made.subplots(rows, columns, squeeze=False)


def save(made: Any, path: Path) -> Path:
    """Write the figure as PNG; returns its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    made.savefig(path, dpi=120)
    return path


def plane(axes: Any, says_one: Any, points: Any, answers: Any, title: str) -> None:
    """The square of inputs coloured by what a network says, with points in their true colours.

    says_one: function of points (N, 2) that returns booleans (N,).
    """
    import numpy as np
    from matplotlib.colors import ListedColormap

    side = 1.05 * float(np.abs(points).max())
    ticks = np.linspace(-side, side, 300)
    across, down = np.meshgrid(ticks, ticks)
    says = says_one(np.stack([across.ravel(), down.ravel()], axis=1)).reshape(across.shape)
    axes.pcolormesh(
        across, down, says, cmap=ListedColormap(REGIONS), vmin=0, vmax=1, shading="auto"
    )
    for label, colour, mark in ((0, ZERO, "o"), (1, ONE, "^")):
        chosen = points[np.ravel(answers) == label]
        axes.scatter(
            *chosen.T, s=14, c=colour, marker=mark, label=f"should be {label}", linewidths=0
        )
    axes.set(title=title, aspect="equal", xlim=(-side, side), ylim=(-side, side))
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.07), ncols=2, fontsize=8, frameon=False)


def image(axes: Any, values: Any, title: str = "", diverging: bool = False) -> None:
    """A small image without axes: ink, or (diverging) weights around 0."""
    import numpy as np

    top = float(np.abs(values).max()) or 1.0
    limits = {"vmin": -top, "vmax": top} if diverging else {"vmin": 0, "vmax": top}
    axes.imshow(values, cmap="RdBu_r" if diverging else "gray_r", interpolation="nearest", **limits)
    axes.set_title(title, fontsize=8)
    axes.set(xticks=[], yticks=[])


def photograph(axes: Any, pixels: Any, title: str) -> None:
    """An image (H, W) as ink, or (3, H, W) of 0 to 255 in colour."""
    if pixels.ndim == 2:
        return image(axes, pixels, title)
    axes.imshow(pixels.transpose(1, 2, 0), interpolation="nearest")
    axes.set_title(title, fontsize=7)
    axes.set(xticks=[], yticks=[])


def curves(histories: dict[str, dict[str, list[float]]], path: Path) -> Path:
    """Training loss, and the share right on images kept back, per epoch; one line per network."""
    made, [[left, right]] = figure(columns=2, width=5.0, height=3.6)
    for name, history in histories.items():
        epochs = range(1, len(history["loss"]) + 1)
        left.plot(epochs, history["loss"], marker=".", label=name)
        right.plot(epochs, history["val_accuracy"], marker=".", label=name)
    left.set(xlabel="epoch", ylabel="training loss", title="loss")
    right.set(xlabel="epoch", ylabel="share right", title="images kept back", ylim=(None, 1))
    for axes in (left, right):
        axes.xaxis.get_major_locator().set_params(integer=True)
    right.legend(loc="lower right", fontsize=8)
    return save(made, path)


def confusion(counts: Any, names: list[str], path: Path) -> Path:
    """Which class (row) is taken for which (column): mistakes only, the diagonal is left white."""
    import numpy as np

    made, [[axes]] = figure(width=6.4, height=5.8)
    wrong = counts * (1 - np.eye(len(counts), dtype=counts.dtype))
    axes.imshow(wrong, cmap="Oranges", vmax=1.6 * max(wrong.max(), 1))
    for row, seen in zip(*counts.nonzero(), strict=True):
        colour = "#999999" if row == seen else INK
        number = counts[row, seen]
        axes.text(seen, row, number, ha="center", va="center", fontsize=8, color=colour)
    ticks = range(len(counts))
    axes.set(xlabel="taken for", ylabel="is", xticks=ticks, yticks=ticks, yticklabels=names,
             title=f"{wrong.sum():,} of {counts.sum():,} mistaken")  # fmt: skip
    slant = {"rotation": 45, "ha": "right"} if max(map(len, names)) > 2 else {}
    axes.set_xticklabels(names, **slant)
    return save(made, path)


def mistakes(images: Any, logits: Any, answers: Any, names: list[str], path: Path,
             columns: int = 8, most: int = 32) -> Path:  # fmt: skip
    """The mistaken images that a network with these logits (N, classes) was surest of."""
    import numpy as np

    seen = logits.argmax(axis=1)
    sure = logits.max(axis=1) - logits[np.arange(len(logits)), answers]
    wrong = np.flatnonzero(seen != answers)
    wrong = wrong[np.argsort(-sure[wrong])][:most]
    made, axes = figure(columns, -(-max(len(wrong), 1) // columns), width=1.35, height=1.6)
    for place, index in zip(axes.ravel(), wrong, strict=False):
        title = f"{names[answers[index]]}\ntaken for {names[seen[index]]}"
        photograph(place, images[index], title)
    for place in axes.ravel()[len(wrong) :]:
        place.set_axis_off()
    return save(made, path)
