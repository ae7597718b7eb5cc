"""1958: one neuron learns, by Rosenblatt's rule, on your own framework.

A neuron adds up its inputs, each times a weight, and fires if the sum is above 0. It learns from
its mistakes alone: fired too little, add the point to the weights; fired too much, take it away.
There is no gradient anywhere, so modules 01 to 04 are enough.

    python milestones/1958_perceptron/run.py

Source: Rosenblatt 1958, The perceptron; the proof that it ends: Novikoff 1962.
"""

import sys
import time

import numpy as np

import tinytorch
from tinytorch import Linear, MSELoss, Sigmoid, Tensor, manual_seed
from tito.data import load_tinydigits

# Data: points x (N, D), and y (N, 1), which is 1 where the neuron should fire ---------------------


def line_points(n, seed):
    """Points of the square on both sides of a line, none closer to it than 0.1."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(-1, 1, (4 * n, 2))
    distance = points @ [0.6, 0.8] - 0.1
    kept = np.abs(distance) > 0.1
    return points[kept][:n], np.where(distance[kept][:n, None] > 0, 1.0, 0.0)


def cross_points(n, seed):
    """Four clouds, those in opposite corners alike: no line has both ones on one side."""
    rng = np.random.default_rng(seed)
    corners = np.array([[-1, -1], [1, 1], [-1, 1], [1, -1]])[np.arange(n) % 4]
    points = 0.6 * corners + rng.uniform(-0.25, 0.25, (n, 2))
    return points, np.where(corners.prod(axis=1, keepdims=True) < 0, 1.0, 0.0)


def zeros_and_ones(images, labels):
    """The digits 0 and 1 as rows of 64 numbers between 0 and 1."""
    kept = labels < 2
    return images[kept].reshape(-1, 64) / 16, labels[kept][:, None].astype(float)


# The neuron ---------------------------------------------------------------------------------------


def fire(neuron, x):
    """1 where the neuron fires and 0 where it does not: a sigmoid so steep that it is a step."""
    return Sigmoid()(neuron(x) * 1e9)


def predict(neuron, x):
    """0 or 1 for each point, (N, 1)."""
    return fire(neuron, Tensor(x)).data


def learn(neuron, x, y, order):
    """One epoch of Rosenblatt's rule; returns the number of mistakes on the way."""
    mistakes = 0
    for i in order:
        point, target = x[i : i + 1], y[i : i + 1]
        error = target - fire(neuron, point)  # 1: should have fired, -1: should not have, 0: right
        neuron.weight.data += (error.T @ point).data  # (1, 1) @ (1, D) -> (1, D)
        neuron.bias.data += error.sum(axis=0).data
        mistakes += abs(error.item()) > 0
    return mistakes


def train(x, y, seed=0, epochs=50):
    """Learn until a whole epoch passes without a mistake, or `epochs` are over.

    Returns the neuron, its weights before, and per epoch the mistakes and the share left wrong.
    """
    manual_seed(seed)
    x, y = Tensor(x), Tensor(y)
    neuron, rng = Linear(x.shape[1], 1), np.random.default_rng(seed)
    before = neuron.state_dict()
    history = {"mistakes": [], "loss": []}
    started = time.perf_counter()
    for epoch in range(1, epochs + 1):
        history["mistakes"].append(learn(neuron, x, y, rng.permutation(len(x))))
        history["loss"].append(MSELoss()(fire(neuron, x), y).item())  # of 0 and 1: the share wrong
        if epoch in (1, 2, 5) or epoch % 10 == 0 or not history["mistakes"][-1]:
            report(epoch, epochs, history, epoch * len(x) / (time.perf_counter() - started), len(x))
        if not history["mistakes"][-1]:
            break
    print(f"  mistakes per epoch  {sparkline(history['mistakes'])}")
    return {"model": neuron, "before": before, "history": history}


# The parts ----------------------------------------------------------------------------------------


def line(x, y, **options):
    """Points that a line separates."""
    print("A line between two clouds of points")
    made = train(x, y, **options)
    draw(made["model"], x, y)
    return made


def digits(x, y, **options):
    """Handwritten zeros and ones: the same neuron with 64 inputs."""
    print("\nHandwritten zeros and ones")
    return train(x, y, **options)


def cross(x, y, **options):
    """Points that no line separates: the rule never comes to rest."""
    print("\nFour clouds that no line separates")
    made = train(x, y, **options)
    draw(made["model"], x, y)
    return made


# Showing it ---------------------------------------------------------------------------------------


def report(epoch, epochs, history, rate, points):
    mistakes, wrong = history["mistakes"][-1], history["loss"][-1]
    left = (epochs - epoch) * points / rate
    print(f"  epoch {epoch:3}  {mistakes:4} mistakes  {wrong:6.1%} left wrong", end="")
    print(f"  {rate:7,.0f} points/s  at most {left:.0f} s left")


def sparkline(values, width=50):
    """The values as bars: ▁ for 0, █ for the largest."""
    every = -(-len(values) // width)
    top = max(values) or 1
    return "".join("▁▂▃▄▅▆▇█"[min(7, int(8 * v / top))] for v in values[::every])


def draw(neuron, x, y, columns=45, rows=15):
    """The square: `#` where the neuron fires, `1` and `0` the points."""
    side = np.abs(x).max()
    down, across = np.mgrid[side : -side : rows * 1j, -side : side : columns * 1j]
    plane = np.stack([across.ravel(), down.ravel()], axis=1)
    fires = predict(neuron, plane).reshape(rows, columns) > 0.5
    canvas = np.where(fires, "#", " ")
    for point, label in zip(x[:80], y[:80]):
        column, row = (point / side + 1) / 2 * [columns - 1, rows - 1]
        canvas[rows - 1 - round(row), round(column)] = "1" if label[0] else "0"
    print("\n".join("  |" + "".join(cells) + "|" for cells in canvas))


def main():
    """All parts, and how the neuron does on points it has not learned from."""
    sys.stdout.reconfigure(errors="replace")  # for terminals without ▁▂▃
    print(f"tinytorch: {tinytorch.origin}\n")
    real = load_tinydigits()
    for part, seen, unseen in (
        (line, line_points(800, 1), line_points(2000, 2)),
        (digits, zeros_and_ones(real.train_images, real.train_labels),
         zeros_and_ones(real.test_images, real.test_labels)),
        (cross, cross_points(400, 1), cross_points(2000, 2)),
    ):  # fmt: skip
        neuron = part(*seen)["model"]
        right = (predict(neuron, unseen[0]) == unseen[1]).mean()
        print(f"  right on {len(unseen[0]):,} it has not seen: {right:.1%}")
    print("\nNext: tito milestone run 1958   (the same, judged and recorded)")


if __name__ == "__main__":
    sys.exit(main())
