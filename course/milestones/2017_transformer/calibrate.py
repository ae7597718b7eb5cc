"""What the same training reaches with one part of the transformer missing from the start.

    python course/milestones/2017_transformer/calibrate.py               all five, half an hour
    python course/milestones/2017_transformer/calibrate.py mask --seed 1 one of them

For authors: it breaks the reference framework in place. Each line gives nats per token on the test
questions, as the network was trained and as the judge reads its weights (whole), then the share of
tokens right and of answers right word for word.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import threadpoolctl
from tinytorch.nn import attention, embedding, transformer

from tito import stage
from tito.judge import Made, Options

HERE = Path(__file__).parent


def no_attention(self: Any, x: Any, *rest: Any, **options: Any) -> Any:
    return x * 0


def uniform(query: Any, key: Any, mask: Any = None) -> Any:
    return attention.masked_softmax((query @ key.transpose(-2, -1)) * 0, mask)


def everything(length: int) -> Any:
    return np.ones((length, length), dtype=bool)


def no_positions(self: Any, x: Any, start: int = 0) -> Any:
    return x


BREAKS: dict[str, tuple[Any, str, Callable[..., Any] | None]] = {
    "whole": (None, "", None),
    "attention": (attention.MultiHeadAttention, "forward", no_attention),
    "choice": (attention, "attention_weights", uniform),
    "mask": (transformer, "causal_mask", everything),
    "positions": (embedding.LearnedPositions, "forward", no_positions),
}


def measure(name: str, seed: int, epochs: int | None) -> str:
    """Train with the part `name` missing; the figures in one line."""
    run, gate = stage.load(HERE / "run.py"), stage.load(HERE / "gate.py")
    [part] = gate.parts(Options(data="tinytalks"))
    where, attribute, instead = BREAKS[name]
    before = getattr(where, attribute, None)
    if instead is not None:
        setattr(where, attribute, instead)
    began = time.perf_counter()
    left = run.talks(part.x, part.y, seed=seed, epochs=epochs)
    seconds = time.perf_counter() - began
    made = Made(
        left["before"], left["model"].state_dict(), run.predict(left["model"], part.held_out), {}
    )
    if instead is not None:
        setattr(where, attribute, before)
    held_out = gate.texts_of(part, made.after)[2]
    as_trained = held_out.losses(made.after, "" if name == "whole" else name).mean()
    whole, right = held_out.losses(made.after).mean(), held_out.right(made.after).mean()
    exact = np.mean(np.array(gate.answers(made)) == part.answers)
    return (f"{name:10} seed {seed}: {as_trained:.3f} nats as trained, {whole:.3f} as judged, "
            f"{right:.1%} of tokens, {exact:.1%} word for word; {seconds:.0f} s")  # fmt: skip


def main() -> None:
    words = sys.argv[1:]
    options = {word[2:]: int(words[i + 1]) for i, word in enumerate(words) if word[:2] == "--"}
    names = [word for word in words if word in BREAKS] or list(BREAKS)
    with threadpoolctl.threadpool_limits(1):
        told = [measure(name, options.get("seed", 0), options.get("epochs")) for name in names]
    print("\n".join(told))


if __name__ == "__main__":
    main()
