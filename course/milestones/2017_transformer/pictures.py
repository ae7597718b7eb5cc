"""2017 as pictures: curves, what each part is worth, and where each head looks."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tito import pictures, stage
from tito.judge import Made, Part

Judged = dict[str, tuple[Part, Made]]
GATE = stage.load(Path(__file__).with_name("gate.py"))  # it knows what a network says
ASKED = "If the dog is chased by the fox, who is ahead?"  # the order of its words matters


def draw(judged: Judged, folder: Path) -> list[Path]:
    """Curves and parts of each network; of the one that answers, its attention too."""
    paths = [curves(judged, folder / "curves.png")]
    for name, (part, made) in judged.items():
        paths.append(worth(part, made, folder / f"{name}_parts.png"))
        if part.function == "talks":
            paths.append(attention(made, folder / f"{name}_attention.png"))
    return paths


def curves(judged: Judged, path: Path) -> Path:
    """Loss in training and on texts kept back, and the share of tokens right, per epoch."""
    figure, [[left, right]] = pictures.figure(columns=2, width=5.0, height=3.6)
    for (name, (_, made)), colour in zip(judged.items(), (pictures.ONE, pictures.ZERO)):
        history = made.history
        epochs = np.arange(1, len(history["loss"]) + 1)
        left.plot(epochs, history["loss"], "--", color=colour, label=f"{name}, trained on")
        left.plot(epochs, history["val_loss"], color=colour, label=f"{name}, kept back")
        right.plot(epochs, history["val_tokens_right"], color=colour, label=name)
    left.set(xlabel="epoch", ylabel="nats per token", title="loss", ylim=(0, None))
    right.set(xlabel="epoch", title="share of tokens right, kept back", ylim=(0, 1))
    for axes in (left, right):
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend(fontsize=8)
    return pictures.save(figure, path)


def worth(part: Part, made: Made, path: Path) -> Path:
    """Perplexity on texts it has not seen: the network, counted bigrams, and parts switched off."""
    known, _, held_out = GATE.texts_of(part, made.after)
    size = len(made.after["gpt.embedding.weight"])
    bars = {"the whole network": float(held_out.losses(made.after).mean()),
            "counted bigrams": GATE.bigram(known, held_out, size)}  # fmt: skip
    for switch, name in GATE.WITHOUT.items():
        bars[name] = float(held_out.losses(made.after, switch).mean())
    figure, [[axes]] = pictures.figure(width=7.0, height=3.2)
    values = np.exp(list(bars.values()))
    colours = [pictures.ZERO, "#999999", *[pictures.ONE] * len(GATE.WITHOUT)]
    axes.barh(list(bars), values, color=colours)
    for place, value in enumerate(values):
        axes.text(value * 1.05, place, f"{value:,.2f}", va="center", fontsize=9)
    axes.invert_yaxis()
    axes.set(xscale="log", xlim=(1, 3 * values.max()),
             xlabel="perplexity on texts it has not seen (1 is certain and right)")  # fmt: skip
    return pictures.save(figure, path)


def attention(made: Made, path: Path) -> Path:
    """Every head of every layer on one question and its answer: the row looks at the column."""
    tokens = GATE.Tokens(made.after["merges"])
    asked = tokens.prompt(ASKED)
    ids = GATE.answered(made, asked)
    names = [_shown(tokens, i) for i in ids]
    layers = GATE.run(np.array([ids]), made.after)[1]
    figure, axes = pictures.figure(GATE.HEADS, len(layers), width=4.0, height=3.9)
    for layer, (row, maps) in enumerate(zip(axes, layers), 1):
        for head, (place, values) in enumerate(zip(row, maps[0]), 1):
            place.imshow(values, cmap="Blues", vmin=0, vmax=0.6)
            place.axhline(len(asked) - 1.5, color=pictures.ONE, linewidth=0.8)
            place.set_title(f"layer {layer}, head {head}", fontsize=9)
            place.set_xticks(range(len(ids)), names, rotation=90, fontsize=6)
            place.set_yticks(range(len(ids)), names, fontsize=6)
    figure.suptitle("Rows look at columns; below the line it writes its answer", fontsize=11)
    return pictures.save(figure, path)


def _shown(tokens: object, i: int) -> str:
    """A token as text, its space visible."""
    special = {tokens.answer: "<answer>", tokens.end: "<end>"}  # type: ignore[attr-defined]
    return special.get(i) or tokens.decode([i]).replace(" ", "_")  # type: ignore[attr-defined]
