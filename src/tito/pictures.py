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
