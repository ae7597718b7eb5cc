"""2024 as pictures: what every stage gave in seconds, bytes and right answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tito import pictures, stage
from tito.judge import Made, Part

Judged = dict[str, tuple[Part, Made]]
GATE = stage.load(Path(__file__).with_name("gate.py"))  # it knows stages, files and times
COLOURS = {"one": pictures.ZERO, "many": pictures.ONE}
NAMES = {"first": "as it was", "kernels": "fast kernels", "channels": "fewer channels",
         "cache": "key-value cache", "integers": "computed\nin integers",
         "unpacked": "unpacked\nat load"}  # fmt: skip


def draw(judged: Judged, folder: Path) -> list[Path]:
    """A waterfall for each network, and both in one plane of size and accuracy."""
    paths = [waterfall(part, made, folder / f"{name}_waterfall.png")
             for name, (part, made) in judged.items()]  # fmt: skip
    return [*paths, plane(judged, folder / "size_accuracy.png")]


def sizes(part: Part, made: Made) -> dict[str, int]:
    """Stage -> bytes of the file that it needs."""
    files = {name.removesuffix("/file"): raw.size for name, raw in made.after.items()}
    found, now = {}, files["first"]
    for name in GATE.STAGES[part.function]:
        now = files.get(name, now)
        found[name] = now
    return found


def waterfall(part: Part, made: Made, path: Path) -> Path:
    """Seconds with their intervals, bytes, and right answers with theirs, a column per stage."""
    names, unit = GATE.STAGES[part.function], "image" if part.function == "vision" else "answer"
    figure, axes = pictures.figure(1, 3, width=10.5, height=2.9)
    top, middle, bottom = axes[:, 0]
    for shift, what in ((-0.2, "one"), (0.2, "many")):
        _times(top, part, made, what, shift)
    top.set(yscale="log", ylabel=f"ms per {unit}", title=f"{part.name}: after every stage")
    low, high = top.get_ylim()
    top.set_ylim(low / 1.5, high * 6)
    top.legend(fontsize=8, loc="upper right", ncols=2)
    bytes_ = sizes(part, made)
    for place, name in enumerate(names):
        kilo, times = bytes_[name] / 1e3, bytes_["first"] / bytes_[name]
        middle.bar(place, kilo, width=0.5, color="#777777")
        middle.text(place, kilo * 1.1, f"{kilo:,.1f} kB\n{times:.1f}x smaller" if times > 1 else
                    f"{kilo:,.1f} kB", ha="center", fontsize=8)  # fmt: skip
    middle.set(yscale="log", ylabel="kB of the file")
    middle.minorticks_off()
    low, high = min(bytes_.values()) / 1e3, max(bytes_.values()) / 1e3
    middle.set_ylim(low / 2, high * 4)
    _right(bottom, part, made)
    for place in (top, middle, bottom):
        place.set_xticks(range(len(names)), [NAMES[name] for name in names], fontsize=8)
        place.set_xlim(-0.6, len(names) - 0.4)
    return pictures.save(figure, path)


def _times(axes: Any, part: Part, made: Made, what: str, shift: float) -> None:
    """Bars of one kind of time, the medians' intervals, and in words where a rerun should be."""
    works = [made.history[f"{name}, {what}: work"] for name in GATE.raced(part, what)]
    label = " or ".join(map(str, sorted({int(work[0]) for work in works}))) + " at a time"
    for place, name in enumerate(GATE.STAGES[part.function]):
        if name not in GATE.raced(part, what):
            continue
        middle, low, high = (1e3 * s for s in GATE.interval(GATE.seconds(part, made, name, what)))
        times = GATE.ratio(part, made, name, what)
        axes.bar(place + shift, middle, width=0.36, color=COLOURS[what], label=label)
        axes.plot([place + shift] * 2, [low, high], color=pictures.INK, linewidth=1.6)
        words = f"{middle:.3g}"
        if name != "first":
            low, far = GATE.again(times)
            words += f"\n{times[0]:.1f}x\n({low:.1f} to {far:.1f})"
        axes.text(place + shift, high * 1.12, words, ha="center", va="bottom", fontsize=7)
        label = "_nolegend_"


def _right(axes: Any, part: Part, made: Made) -> None:
    """Shares right, their intervals of 95 %, and the line that must not be fallen below."""
    found, count = GATE.accuracies(part, made), len(part.answers)
    for place, share in enumerate(found.values()):
        low, high = wilson(share, count)
        axes.plot([place] * 2, [100 * low, 100 * high], color=pictures.INK, linewidth=1.2)
        axes.plot(place, 100 * share, "o", color=pictures.ZERO)
        axes.text(place + 0.08, 100 * share, f"{share:.1%}", fontsize=8, va="bottom")
    limit = 100 * (found["first"] - GATE.WORSE)
    axes.axhline(limit, color=pictures.ONE, linewidth=0.9, linestyle="--")
    axes.text(-0.55, limit, "no less", fontsize=7, color=pictures.ONE, va="top")
    axes.set(ylabel=f"% right of {count:,} held out")


def wilson(share: float, count: int) -> tuple[float, float]:
    """The interval of 95 % of a share counted on so many.

    Source: Wilson 1927.
    """
    z = 1.96
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * np.sqrt(share * (1 - share) / count + (z / count) ** 2 / 4)
    return middle - half, middle + half


def plane(judged: Judged, path: Path) -> Path:
    """Bytes of the file against right answers, a path through the stages of each network."""
    figure, [row] = pictures.figure(columns=len(judged), width=5.0, height=3.8)
    for axes, (part, made) in zip(row, judged.values()):
        found, bytes_ = GATE.accuracies(part, made), sizes(part, made)
        order = [s for s in GATE.STAGES[part.function] if s in ("first", "channels", "unpacked")]
        across, up = [bytes_[s] / 1e3 for s in order], [100 * found[s] for s in order]
        axes.plot(across, up, "-", color="#999999", linewidth=1)
        for stage_, x, y in zip(order, across, up):
            low, high = (100 * s for s in wilson(y / 100, len(part.answers)))
            axes.plot([x, x], [low, high], color=pictures.INK, linewidth=1)
            axes.plot(x, y, "o", color=pictures.ZERO)
            words = {"first": "as it was", "channels": "fewer channels", "unpacked": "integers"}
            axes.annotate(f"{words[stage_]}\n{x:,.1f} kB, {y:.1f} %", (x, y), fontsize=8,
                          xytext=(6, 6), textcoords="offset points")  # fmt: skip
        axes.set(xscale="log", xlabel="kB of the file", ylabel="% right, held out", title=part.name)
        axes.set_xlim(min(across) / 1.6, max(across) * 3.2)
        axes.set_xticks(across, [f"{x:,.1f}" for x in across])
        axes.minorticks_off()
    return pictures.save(figure, path)
