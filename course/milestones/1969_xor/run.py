"""1969: what one layer cannot do, and a hidden layer can, on your own framework.

Minsky and Papert showed in 1969 that a single layer has no answer to XOR: fire if one input is on,
but not if both are. The way out was known, a hidden layer; how to train it was not. You know how:
gradients through the hidden layer, module 05.

    python milestones/1969_xor/run.py

Source: Minsky and Papert 1969, Perceptrons; Rumelhart, Hinton and Williams 1986.
"""

import sys
import time

import numpy as np

import tinytorch
from tinytorch import (
    Adam,
    BCEWithLogitsLoss,
    Linear,
    Sequential,
    Tanh,
    Tensor,
    manual_seed,
    no_grad,
    train_loop,
)

CORNERS = np.array([[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]])  # off is -1, on is 1
XOR = np.array([[0.0], [1.0], [1.0], [0.0]])  # the truth table, row by row


def clouds(n, seed):
    """n points around the four corners (n, 2), and the answer of each one's corner (n, 1)."""
    rng = np.random.default_rng(seed)
    corner = np.arange(n) % 4
    return CORNERS[corner] + rng.uniform(-0.4, 0.4, (n, 2)), XOR[corner]


# The networks -------------------------------------------------------------------------------------


def single(x, y, seed=0, epochs=40):
    """One layer: two weights and a bias, which is a line."""
    print("One layer")
    manual_seed(seed)
    return train(Sequential(Linear(2, 1)), x, y, seed, epochs)


def hidden(x, y, seed=0, epochs=40):
    """Eight hidden neurons, eight lines, and a layer that weighs them."""
    print("\nA hidden layer")
    manual_seed(seed)
    return train(Sequential(Linear(2, 8), Tanh(), Linear(8, 1)), x, y, seed, epochs)


def right(logits, y):
    """Share of points on the right side: a logit above 0 says 1."""
    return float(((logits.data > 0) == (y.data > 0.5)).mean())


def train(net, x, y, seed, epochs):
    """Train on three quarters of the points and watch the rest.

    Returns the network, its weights before, and per epoch the loss, val_loss and val_right.
    """
    before = net.state_dict()
    cut, started = len(x) * 3 // 4, time.perf_counter()

    def report(trainer):
        if trainer.epoch % 10 == 0 or trainer.epoch == 1:
            progress(trainer, epochs, trainer.epoch * cut / (time.perf_counter() - started), cut)

    history = train_loop(
        net, (x[:cut], y[:cut]), BCEWithLogitsLoss(), Adam(net.parameters(), lr=0.05), epochs,
        batch_size=32, validation=(x[cut:], y[cut:]), on_epoch=report, metric=right, seed=seed,
    )  # fmt: skip
    print(f"  loss  {sparkline(history['loss'])}")
    draw(net)
    return {"model": net, "before": before, "history": history}


@no_grad()
def predict(net, x):
    """One logit for each point, (N, 1)."""
    return net(Tensor(x)).data


# Showing it ---------------------------------------------------------------------------------------


def progress(trainer, epochs, rate, points):
    loss, share = trainer.history["loss"][-1], trainer.history["val_right"][-1]
    left = (epochs - trainer.epoch) * points / rate
    print(f"  epoch {trainer.epoch:3}/{epochs}  loss {loss:.3f}  right {share:6.1%}", end="")
    print(f"  {rate:7,.0f} points/s  {left:.0f} s left")


def sparkline(values, width=50):
    """The values as bars: ▁ for 0, █ for the largest."""
    every = -(-len(values) // width)
    top = max(values) or 1
    return "".join("▁▂▃▄▅▆▇█"[min(7, int(8 * v / top))] for v in values[::every])


def draw(net, columns=45, rows=15):
    """The square of all inputs: `#` where the network says 1; corners carry the true answer."""
    down, across = np.mgrid[1.5 : -1.5 : rows * 1j, -1.5 : 1.5 : columns * 1j]
    plane = np.stack([across.ravel(), down.ravel()], axis=1)
    canvas = np.where(predict(net, plane).reshape(rows, columns) > 0, "#", " ")
    for (a, b), answer in zip(CORNERS, XOR[:, 0]):
        column, row = (
            round((a / 1.5 + 1) / 2 * (columns - 1)),
            round((1 - b / 1.5) / 2 * (rows - 1)),
        )
        canvas[row, column - 1 : column + 2] = list(f" {answer:.0f} ")
    print("\n".join("  |" + "".join(cells) + "|" for cells in canvas))


def main():
    """Both networks on the same points, and the truth table each has learned."""
    sys.stdout.reconfigure(errors="replace")  # for terminals without ▁▂▃
    print(f"tinytorch: {tinytorch.origin}\n")
    unseen, answers = clouds(2000, seed=2)
    for part in (single, hidden):
        net = part(*clouds(400, seed=1))["model"]
        table = (predict(net, CORNERS) > 0).astype(int)
        share = ((predict(net, unseen) > 0) == answers).mean()
        print(f"  right on {len(unseen):,} it has not seen: {share:.1%}")
        print(
            "  "
            + ",  ".join(f"{a:+.0f} {b:+.0f} -> {out}" for (a, b), [out] in zip(CORNERS, table))
        )
    print("\nNext: tito milestone run 1969   (the same, judged and recorded)")


if __name__ == "__main__":
    sys.exit(main())
