"""1998: filters that slide over images learn to see, on your own framework.

A multilayer perceptron has a weight for every pixel: it must learn a cat again in every corner. A
convolution looks for the same thing everywhere with a few weights, and a stack of them finds edges,
then textures, then parts. First your own seven loops read digits; then an MLP and a convolutional
network are trained on the same photographs; last, if you have the time, a residual network.

    python milestones/1998_cnn/run.py             TinyDigits, by your loops (half a minute)
    python milestones/1998_cnn/run.py --cifar10   MLP and CNN on CIFAR-10 (tito data fetch cifar10)
    python milestones/1998_cnn/run.py --long      the residual network on CIFAR-10 (an hour or two)

Source: LeCun, Bottou, Bengio and Haffner 1998, Gradient-based learning applied to document
recognition; He et al. 2015 for the residual network; Page 2018 (DAWNBench) for its shape and the
whitened first layer; Jordan 2024 (arXiv:2404.00498) for its first weights and shifts; Jordan and
others 2024, Muon: an optimizer for hidden layers, for its steps.
"""

import sys
import time
from pathlib import Path

import numpy as np

import tinytorch
from tinytorch import (
    SGD,
    Adam,
    BatchNorm2d,
    Compose,
    Conv2d,
    CrossEntropyLoss,
    DataLoader,
    Flatten,
    Linear,
    MaxPool2d,
    Module,
    Normalize,
    RandomCrop,
    RandomHorizontalFlip,
    ReLU,
    Sequential,
    Tensor,
    TensorDataset,
    Trainer,
    WarmupCosine,
    conv2d_explicit,
    conv2d_explicit_backward,
    load_cifar10,
    load_tinydigits,
    manual_seed,
    no_grad,
    tracked,
)

INK = 16  # the value of full ink in TinyDigits
MEAN, STD = (125.3, 123.0, 113.9), (63.0, 62.1, 66.7)  # of CIFAR-10's training pixels, 0 to 255
SCALE = Normalize(MEAN, STD)
VALIDATION = 1000  # images kept back to watch the training
LARGE = 512  # images in a batch of the residual network


# Digits, by your own loops ------------------------------------------------------------------------


def _by_loops(x, weight):
    return Tensor(conv2d_explicit(x.data, weight.data))


def _weight_gradient(g, out, x, weight):
    return conv2d_explicit_backward(g, x, weight)[1]


slow_conv2d = tracked(_by_loops, (None, _weight_gradient), "slow_conv2d")  # only ever a first layer


class LoopConv2d(Conv2d):
    """A Conv2d without a bias that computes with your seven loops, forward and backward."""

    def forward(self, x):
        return slow_conv2d(x, self.weight)


def digits(images, labels, seed=0, epochs=None):
    """Six 3x3 filters by your loops, then a linear layer; TinyDigits."""
    epochs = epochs or 2
    print(f"\nSeven loops on {len(images):,} digits of 8x8, {epochs} epochs")
    manual_seed(seed)
    net = Sequential(LoopConv2d(1, 6, 3, bias=False), ReLU(), Flatten(), Linear(6 * 6 * 6, 10))
    cut = len(images) - len(images) // 10
    optimizer = Adam(net.parameters(), lr=0.01)
    before, data = net.state_dict(), (ink(images), labels)
    steps = epochs * -(-cut // 32)
    trainer = Trainer(net, CrossEntropyLoss(), optimizer, seed=seed,
                      scheduler=WarmupCosine(optimizer, steps // 10, steps + 1))  # fmt: skip
    loader = DataLoader(TensorDataset(*(a[:cut] for a in data)), 32, shuffle=True, seed=seed)
    watched = Watched(loader, epochs, trainer)
    trainer.fit(watched, epochs, tuple(a[cut:] for a in data), watched.report)
    show_filters(net[0].weight.data[:, 0])
    return {"model": net, "before": before, "history": trainer.history}


def ink(images):
    """Digits (N, 8, 8) of 0 to 16 as one-channel images (N, 1, 8, 8) from 0 to 1."""
    return (images[:, None] / INK).astype(np.float32)


# Photographs --------------------------------------------------------------------------------------


class Unit(Module):
    """A 3x3 convolution, with `pool` a 2x2 maximum, batch normalisation, ReLU."""

    def __init__(self, inputs, outputs, pool=False):
        self.conv = Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.pool = MaxPool2d(2) if pool else None
        self.norm, self.act = BatchNorm2d(outputs), ReLU()

    def forward(self, x):
        x = self.conv(x)
        return self.act(self.norm(x if self.pool is None else self.pool(x)))


class Residual(Module):
    """x plus what a unit makes of it: gradients have a way past it."""

    def __init__(self, width):
        self.unit = Unit(width, width)

    def forward(self, x):
        return x + self.unit(x)


class Whitened(Module):
    """24 filters of 3x3 that are not learned: the twelve directions in which patches differ most.

    Divided by the spread along them, so that all they report is alike in size, and each with its
    opposite, because ReLU lets half of it through. images: (N, 3, H, W), scaled.
    """

    def __init__(self, images):
        self.conv, self.act = Conv2d(3, 24, 3, padding=1, bias=False), ReLU()
        patches = np.lib.stride_tricks.sliding_window_view(images, (3, 3), axis=(2, 3))
        patches = patches.transpose(0, 2, 3, 1, 4, 5).reshape(-1, 27)
        variances, directions = np.linalg.eigh(patches.T @ patches / len(patches))
        filters = (directions / np.sqrt(variances + 5e-4)).T[-12:].reshape(12, 3, 3, 3)
        self.conv.weight.data[...] = np.concatenate([filters, -filters])
        self.conv.weight.requires_grad = False

    def forward(self, x):
        return self.act(self.conv(x))


class Head(Module):
    """One linear layer whose logits begin small, so that the first steps do not overshoot."""

    def __init__(self, inputs, classes):
        self.linear = Linear(inputs, classes, bias=False)

    def forward(self, x):
        return self.linear(x) / 9


def nesterov(net, lr):
    """SGD with Nesterov momentum."""
    return SGD(net.parameters(), lr, momentum=0.9, nesterov=True, weight_decay=5e-4)


class Muon(SGD):
    """Orthogonal steps for filters, SGD with Nesterov momentum for the rest: Muon, see above.

    Filters (O, C, 3, 3) are a matrix (O, C*3*3) here. Its steps are its momentum with all singular
    values made alike: what the gradient hardly shows is learned as fast as what it shows most. Its
    norm is kept, a batch norm follows anyway. Shifts, which have one axis, learn 16 times as fast
    as the head. lr: of the head.
    """

    def __init__(self, params, lr):
        super().__init__(params, lr, momentum=0.8, nesterov=True, weight_decay=5e-4)

    def update(self, weights, grad, state):
        if weights.ndim == 4:
            ahead = grad + self.momentum * self.velocity(grad, state)
            weights *= len(weights) ** 0.5 / np.linalg.norm(weights)
            step = orthogonal(ahead.reshape(len(ahead), -1)).reshape(weights.shape)
            weights -= 0.14 * self.lr * step
            return
        lr, decay = self.lr, self.weight_decay
        if weights.ndim == 1:
            self.lr, self.weight_decay = lr * 16, decay / 16
        super().update(weights, grad, state)
        self.lr, self.weight_decay = lr, decay


def orthogonal(matrix):
    """About U @ V.T of matrix = U @ diag(s) @ V.T, by three Newton-Schulz steps: products only.

    matrix (M, N), M <= N. A step makes a singular value s of x 3.4445 s - 4.775 s^3 + 2.0315 s^5:
    those above a fiftieth of the norm end between 0.68 and 1.2.
    """
    x = matrix / (np.linalg.norm(matrix) + 1e-7)
    for _ in range(3):
        square = x @ x.T
        x = 3.4445 * x + (2.0315 * (square @ square) - 4.775 * square) @ x
    return x


class Alternating(TensorDataset):
    """Images and labels; each image is mirrored in every other epoch, and half of them in each.

    By chance, an image would look the same for two epochs half of the time. See Jordan 2024.
    epoch: a function that tells the number of the one that is running.
    """

    def __init__(self, images, labels, seed, epoch):
        super().__init__(images, labels)
        self.odd, self.epoch = np.random.default_rng(seed).random(len(images)) < 0.5, epoch

    def __getitems__(self, indices):
        images, labels = super().__getitems__(indices)
        turned = self.odd[indices] == (self.epoch() % 2 == 1)
        images[turned] = images[turned][..., ::-1]
        return images, labels


def mlp(images, labels, seed=0, epochs=None, checkpoint=None):
    """A multilayer perceptron: 3072-512-256-10."""
    manual_seed(seed)
    net = Sequential(
        Flatten(), Linear(3072, 512), ReLU(), Linear(512, 256), ReLU(), Linear(256, 10)
    )
    return train("An MLP", net, images, labels, seed, epochs or 6, nesterov(net, 0.02), checkpoint)


def cnn(images, labels, seed=0, epochs=None, checkpoint=None):
    """Five convolutions with 32, 32, 64, 64 and 128 filters; 75 % in three epochs."""
    manual_seed(seed)
    net = Sequential(
        Unit(3, 32), Unit(32, 32, pool=True),
        Unit(32, 64), Unit(64, 64, pool=True),
        Unit(64, 128, pool=True),
        Flatten(), Linear(128 * 4 * 4, 10),
    )  # fmt: skip
    return train("A CNN", net, images, labels, seed, epochs or 3, nesterov(net, 0.1), checkpoint)


def residual(images, labels, seed=0, epochs=None, checkpoint=None):
    """Six convolutions behind a whitened first layer, three of them in residual units."""
    manual_seed(seed)
    net = Sequential(
        Whitened(SCALE(images[:2000])),
        Unit(24, 64, pool=True), Residual(64),
        Unit(64, 128, pool=True), Residual(128),
        Unit(128, 256, pool=True), Residual(256),
        MaxPool2d(4), Flatten(), Head(256, 10),
    )  # fmt: skip
    for layer in net.modules():
        if isinstance(layer, Unit):
            start_as_identity(layer)
    optimizer = Muon([p for p in net.parameters() if p.requires_grad], 0.5)
    title, epochs = "A residual network", epochs or 12
    return train(title, net, images, labels, seed, epochs, optimizer, checkpoint,
                 batch_size=LARGE, smoothing=0.2, climb=0.1, alternate=True)  # fmt: skip


def start_as_identity(unit):
    """The first filters of a unit pass their channel on; the scale of its norm stays 1."""
    filters = unit.conv.weight.data
    count = min(filters.shape[:2])
    filters[:count] = 0
    filters[np.arange(count), np.arange(count), 1, 1] = 1
    unit.norm.weight.requires_grad, unit.norm.momentum = False, 0.4


def train(title, net, images, labels, seed, epochs, optimizer, checkpoint,
          batch_size=128, smoothing=0.1, climb=0.2, alternate=False):  # fmt: skip
    """One cycle of the rate, up for a share `climb` of the steps, on flipped and shifted images.

    alternate: flip each image in every other epoch instead of by chance.
    With `checkpoint`, a file, the run is saved after every epoch, and goes on from there.
    Returns the network, its weights before, and per epoch the loss, val_loss and val_accuracy.
    """
    cut = len(images) - VALIDATION
    print(f"\n{title} on {cut:,} photographs of 32x32, {epochs} epochs")
    print(f"  {sum(p.size for p in net.parameters()):,} parameters")
    rows = images[:cut], labels[:cut]
    data = Alternating(*rows, seed, lambda: trainer.epoch) if alternate else TensorDataset(*rows)
    flips = [] if alternate else [RandomHorizontalFlip()]
    augment = Compose(*flips, RandomCrop(2, mode="reflect"), SCALE)
    loader = DataLoader(data, batch_size, shuffle=True, drop_last=True, seed=seed,
                        prefetch=2, transform=augment)  # fmt: skip
    steps = epochs * len(loader)
    trainer = Trainer(net, CrossEntropyLoss(label_smoothing=smoothing), optimizer, seed=seed,
                      scheduler=WarmupCosine(optimizer, int(climb * steps), steps + 1))  # fmt: skip
    before = net.state_dict()
    if checkpoint and Path(checkpoint).exists():
        trainer.load(checkpoint)
        loader.epoch = trainer.epoch
        print(f"  going on after epoch {trainer.epoch}, from {checkpoint}")
    kept_back = [(Tensor(SCALE(images[rows])), Tensor(labels[rows]))
                 for rows in slices(cut, len(images))]  # fmt: skip
    watched = Watched(loader, epochs, trainer)

    began = [time.perf_counter()]

    def after(trainer):
        began.append(time.perf_counter())
        trainer.history.setdefault("seconds", []).append(round(began[-1] - began[-2], 1))
        watched.report(trainer)
        if checkpoint:
            trainer.save(checkpoint)

    trainer.fit(watched, epochs - trainer.epoch, kept_back, after)
    return {"model": net, "before": before, "history": trainer.history}


def slices(start, end, step=250):
    """Slices of at most `step` from start to end."""
    return [slice(at, min(at + step, end)) for at in range(start, end, step)]


@no_grad()
def predict(net, images):
    """Ten logits for each image, (N, 10), in eval mode."""
    net.eval()
    x = ink if images.ndim == 3 else SCALE
    return np.concatenate([net(Tensor(x(images[s]))).data for s in slices(0, len(images))])


# Showing it ---------------------------------------------------------------------------------------


class Watched:
    """The batches of a loader; now and then a line says how far the training is."""

    def __init__(self, loader, epochs, trainer, seconds=20):
        self.loader, self.epochs, self.trainer, self.seconds = loader, epochs, trainer, seconds
        self.began, self.from_epoch = time.perf_counter(), trainer.epoch

    def __iter__(self):
        told = time.perf_counter()
        for number, batch in enumerate(self.loader, 1):
            yield batch
            if time.perf_counter() - told > self.seconds:
                told = time.perf_counter()
                self.tell(number)

    def tell(self, number):
        """One line in the middle of an epoch, after batch `number`."""
        share, epoch = number / len(self.loader), self.trainer.epoch + 1
        print(f"  epoch {epoch:3}/{self.epochs}  {share:4.0%}  {self.pace(number)}", flush=True)

    def report(self, trainer):
        """One line for a finished epoch."""
        loss, right = (trainer.history[name][-1] for name in ("loss", "val_accuracy"))
        told = f"loss {loss:.3f}  right on images kept back {right:6.1%}"
        print(f"  epoch {trainer.epoch:3}/{self.epochs}  {told}  {self.pace(0)}", flush=True)

    def pace(self, number):
        """Images per second so far, and how long the rest will take."""
        done = (self.trainer.epoch - self.from_epoch) * len(self.loader) + number
        ahead = (self.epochs - self.trainer.epoch) * len(self.loader) - number
        spent = time.perf_counter() - self.began
        rate = done * self.loader.batch_size / spent
        return f"{rate:7,.0f} images/s  {clock(ahead * spent / done)} left"


def clock(seconds):
    """62 as 1:02 minutes."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


def show_filters(filters):
    """Filters (F, 3, 3) side by side."""
    print("  what the filters became: # and + add what they see, = and - take it away")
    top = np.abs(filters).max()
    for row in filters.transpose(1, 0, 2):  # (3, F, 3)
        marks = np.array(list("=-. +#"))[np.digitize(row / top, [-0.6, -0.2, 0, 0.2, 0.6])]
        print("  " + "   ".join("".join(np.repeat(one, 2)) for one in marks))


def main():
    """Digits by loops, or photographs, judged on unseen images. --epochs 1 trains for one."""
    sys.stdout.reconfigure(errors="replace")
    print(f"tinytorch: {tinytorch.origin}")
    words = sys.argv[1:]
    epochs = int(words[words.index("--epochs") + 1]) if "--epochs" in words else None
    if {"--cifar10", "--long"} & set(words):
        data, parts = load_cifar10(), (residual,) if "--long" in words else (mlp, cnn)
    else:
        data, parts = load_tinydigits(), (digits,)
    for part in parts:
        saved = Path(__file__).with_name(f"{part.__name__}.ckpt")
        files = {} if part is digits else {"checkpoint": saved}
        net = part(data.train_images, data.train_labels, epochs=epochs, **files)["model"]
        right = (predict(net, data.test_images).argmax(axis=1) == data.test_labels).mean()
        print(f"  right on {len(data.test_images):,} it has not seen: {right:.1%}")
    print("\nNext: tito milestone run 1998   (the same, judged and recorded)")


if __name__ == "__main__":
    sys.exit(main())
