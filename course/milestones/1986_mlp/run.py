"""1986: gradients through hidden layers learn to read, on your own framework.

A linear classifier weighs every pixel by itself. A multilayer perceptron first asks its hidden
neurons for strokes and loops, and backpropagation finds out by itself which ones to ask for. Both
are trained here on the same digits with the same loop: the difference is the hidden layers.

    python milestones/1986_mlp/run.py             TinyDigits, 8x8
    python milestones/1986_mlp/run.py --mnist     MNIST, 28x28 (tito data fetch mnist)

Source: Rumelhart, Hinton and Williams 1986, Learning representations by back-propagating errors.
"""

import sys
import time

import numpy as np

import tinytorch
from tinytorch import (
    Adam,
    CrossEntropyLoss,
    Linear,
    ReLU,
    Sequential,
    Tensor,
    Trainer,
    WarmupCosine,
    manual_seed,
    no_grad,
)
from tito.data import load_mnist, load_tinydigits

INK = {8: 16, 28: 255}  # side of an image -> the value of full ink
RECIPE = {8: (30, 0.01), 28: (8, 0.003)}  # side of an image -> epochs and learning rate
VALIDATION = 10  # one image in ten is kept back to watch the training


def rows(images):
    """Images (N, H, W) of whole numbers as rows (N, H*W) from 0 (paper) to 1 (ink), float32."""
    return (images.reshape(len(images), -1) / INK[images.shape[1]]).astype(np.float32)


# The networks -------------------------------------------------------------------------------------


def linear(images, labels, seed=0, epochs=None):
    """One layer: ten weighted sums of the pixels."""
    print(f"\nA linear classifier on {len(images):,} digits of {images.shape[1]}x{images.shape[2]}")
    manual_seed(seed)
    return train(Sequential(Linear(images[0].size, 10)), images, labels, seed, epochs)


def mlp(images, labels, seed=0, epochs=None):
    """Two hidden layers, 256 and 128 wide, with ReLU between."""
    print(f"\nAn MLP on {len(images):,} digits of {images.shape[1]}x{images.shape[2]}")
    manual_seed(seed)
    net = Sequential(
        Linear(images[0].size, 256), ReLU(),
        Linear(256, 128), ReLU(),
        Linear(128, 10),
    )  # fmt: skip
    return train(net, images, labels, seed, epochs)


def train(net, images, labels, seed, epochs, batch_size=64):
    """Train on nine tenths of the images and watch the rest: Adam, warm-up, a cosine to zero.

    Returns the network, its weights before, and per epoch the loss, val_loss and val_accuracy.
    """
    usual, lr = RECIPE[images.shape[1]]
    epochs = epochs or usual
    x, before, started = rows(images), net.state_dict(), time.perf_counter()
    cut = len(x) - len(x) // VALIDATION
    optimizer = Adam(net.parameters(), lr)
    steps = epochs * -(-cut // batch_size)
    schedule = WarmupCosine(optimizer, warmup_steps=steps // 20, total_steps=steps + 1)

    def report(trainer):
        if trainer.epoch % max(1, epochs // 10) == 0:
            progress(trainer, epochs, trainer.epoch * cut / (time.perf_counter() - started), cut)

    trainer = Trainer(net, CrossEntropyLoss(), optimizer, batch_size=batch_size, scheduler=schedule,
                      seed=seed)  # fmt: skip
    history = trainer.fit((x[:cut], labels[:cut]), epochs, (x[cut:], labels[cut:]), report)
    print(f"  loss  {sparkline(history['loss'])}    accuracy  {sparkline(history['val_accuracy'])}")
    show_mistakes(net, images[cut:], labels[cut:])
    return {"model": net, "before": before, "history": history}


@no_grad()
def predict(net, images):
    """Ten logits for each image, (N, 10)."""
    return net(Tensor(rows(images))).data


def read(net, images):
    """The digit the network reads in each image."""
    return predict(net, images).argmax(axis=1)


# Showing it ---------------------------------------------------------------------------------------


def progress(trainer, epochs, rate, images):
    loss, share = trainer.history["loss"][-1], trainer.history["val_accuracy"][-1]
    left = (epochs - trainer.epoch) * images / rate
    print(f"  epoch {trainer.epoch:3}/{epochs}  loss {loss:.3f}  right {share:6.1%}", end="")
    print(f"  {rate:8,.0f} images/s  {left:.0f} s left")


def sparkline(values, width=30):
    """The values as bars from ▁, the smallest, to █, the largest."""
    every = -(-len(values) // width)
    low, spread = min(values), (max(values) - min(values)) or 1
    return "".join("▁▂▃▄▅▆▇█"[min(7, int(8 * (v - low) / spread))] for v in values[::every])


def show_mistakes(net, images, labels, columns=72):
    """The first few images it misreads, as ink, each with what it is and what was read."""
    answers = read(net, images)
    every = 1 if images.shape[1] <= 16 else 2  # of a large image every other pixel is enough
    side = images.shape[1] // every
    wrong = np.flatnonzero(answers != labels)[: columns // (2 * side + 2)]
    print("  " + "".join(f"{labels[i]}, read as {answers[i]}".ljust(2 * side + 2) for i in wrong))
    values = images[wrong, ::every, ::every].astype(int) * 9 // INK[images.shape[1]]
    ink = np.array(list(" .:-=+*#%@"))[values]
    for line in range(side):
        print("  " + "  ".join("".join(np.repeat(picture[line], 2)) for picture in ink))


def main():
    """The linear classifier and the MLP on the same images, judged on images neither has seen."""
    sys.stdout.reconfigure(errors="replace")  # for terminals without ▁▂▃
    print(f"tinytorch: {tinytorch.origin}")
    digits = load_mnist() if "--mnist" in sys.argv else load_tinydigits()
    for part in (linear, mlp):
        net = part(digits.train_images, digits.train_labels)["model"]
        right = (read(net, digits.test_images) == digits.test_labels).mean()
        print(f"  right on {len(digits.test_images):,} it has not seen: {right:.1%}")
    print("\nNext: tito milestone run 1986   (the same, judged and recorded)")


if __name__ == "__main__":
    sys.exit(main())
