"""2024: the networks of 1998 and 2017 for daily use, on your own framework.

A network that is right is not yet one that people can wait for. Here yours become faster and
smaller, one stage after the other: kernels that know the machine, channels that are not missed,
a memory of what was already read, integers on the disk. After every stage the same three things
are measured: seconds, bytes, and how often the network is still right. A stage that gains nothing
is shown with its nothing.

    python milestones/2024_production/run.py    the networks that 1998 and 2017 left (a few minutes)

Source: Li et al. 2017 for channels, Hinton et al. 2015 for distillation, Jacob et al. 2018 for
integers, Pope et al. 2022 for the cache.
"""

import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import safetensors.numpy

import tinytorch
from tinytorch import (
    GPT,
    SWAPS,
    Adam,
    BatchNorm2d,
    BPETokenizer,
    Conv2d,
    DataLoader,
    DistillationLoss,
    Embedding,
    Flatten,
    GPTConfig,
    Linear,
    MaxPool2d,
    Module,
    Normalize,
    Profiler,
    ReLU,
    Sequential,
    Tensor,
    TensorDataset,
    WarmupCosine,
    acceleration_enabled,
    compare,
    conv2d_explicit,
    disable_acceleration,
    enable_acceleration,
    generate,
    generate_batch,
    generate_cached,
    interleave,
    load,
    load_cifar10,
    load_tinydigits,
    load_tinytalks,
    manual_seed,
    no_grad,
    prune_channels,
    quantize,
    replace_layers,
    save,
    single_stream,
    summarize,
)

NORM = ("weight", "bias", "running_mean", "running_var")
POOLED = (False, True, False, True, True)  # the units of 1998's CNN with a maximum
SCALE = Normalize((125.3, 123.0, 113.9), (63.0, 62.1, 66.7))  # of CIFAR-10, as 1998 had it
KEEP = {"digits": 0.5, "photographs": 0.625}  # share of the channels that stay
BATCH, TOGETHER = 16, 64  # images that are seen together, questions that are answered together
LONG, SHORT = (12, 0.05), (6, 0.02)  # rounds and seconds of a block; the second if epochs are given
ANSWER, END, ROOM = "<answer>", "<end>", 40  # as 2017 had them
TALKS = {"context": 72, "dim": 128, "heads": 4, "layers": 3, "dropout": 0.1}
HALF_BYTES = "mlp.up"  # the layers of the GPT that keep four bits of each weight


class Stage(NamedTuple):
    """One step: its network, whether it runs on the fast kernels, and whether with a cache."""

    name: str
    net: Module
    fast: bool = True
    cache: bool = True


class Optimised:
    """The stages of one network, the files that were saved on the way, and how it is asked."""

    def __init__(self, stages, files, ask):
        self.stages, self.files, self.ask = stages, files, ask

    def state_dict(self):
        """The bytes of every file, as they are on the disk."""
        return {f"{name}/file": np.frombuffer(raw, np.uint8) for name, raw in self.files.items()}


def predict(model, held_out):
    """What every stage says: of images logits (stages, N, 10), of questions tokens, then -1.

    Of questions there is one stage more: the float network, many questions at a time.
    """
    return model.ask(model.stages, held_out)


# Seeing -------------------------------------------------------------------------------------------


class LoopConv2d(Conv2d):
    """A Conv2d that computes with your seven loops, as in 1998."""

    def forward(self, x):
        return Tensor(conv2d_explicit(x.data, self.weight.data))


def digits(weights, conv=Conv2d):
    """1998's network for TinyDigits."""
    net = Sequential(conv(1, 6, 3, bias=False), ReLU(), Flatten(), Linear(216, 10))
    net.load_state_dict(dict(weights))
    return net.eval()


def photographs(weights):
    """1998's CNN for CIFAR-10, its units laid open: layers of the course alone."""
    layers, state = [], {}
    for unit, pooled in enumerate(POOLED):
        kernel = weights[f"{unit}.conv.weight"]
        state[f"{len(layers)}.weight"] = kernel
        layers += [Conv2d(kernel.shape[1], len(kernel), 3, padding=1, bias=False)]
        layers += [MaxPool2d(2)] if pooled else []
        state |= {f"{len(layers)}.{kind}": weights[f"{unit}.norm.{kind}"] for kind in NORM}
        layers += [BatchNorm2d(len(kernel)), ReLU()]
    state |= {f"{len(layers) + 1}.{kind}": weights[f"6.{kind}"] for kind in ("weight", "bias")}
    net = Sequential(*layers, Flatten(), Linear(*weights["6.weight"].shape[::-1]))
    net.load_state_dict(state)
    return net.eval()


def folded(net):
    """A Sequential without its BatchNorm2d: scale and shift are part of the convolution before.

    A maximum between the two does not mind a scale above 0; where one is below, the norm stays.
    """
    layers = []
    for layer in net:
        if not isinstance(layer, BatchNorm2d) or (layer.weight.data <= 0).any():
            layers.append(layer)
            continue
        place = max(i for i, other in enumerate(layers) if isinstance(other, Conv2d))
        old = layers[place]
        new = Conv2d(old.in_channels, old.out_channels, old.kernel_size, old.stride, old.padding)
        scale = layer.weight.data / np.sqrt(layer.running_var.data + layer.eps)
        new.weight.data[...] = old.weight.data * scale[:, None, None, None]
        new.bias.data[...] = layer.bias.data - scale * layer.running_mean.data
        layers[place] = new
    return Sequential(*layers).eval()


def ink(images):
    """Digits (N, 8, 8) of 0 to 16 as one-channel images from 0 to 1; photographs as in 1998."""
    return (images[:, None] / 16).astype(np.float32) if images.ndim == 3 else SCALE(images)


@no_grad()
def see(net, images):
    """Ten logits for each image."""
    return net(Tensor(ink(images))).data


def vision(images, labels, seed=0, epochs=None, extra=None):
    """The network with the weights `extra`, stage by stage."""
    manual_seed(seed)
    colour = images.ndim == 4
    net = photographs(extra) if colour else digits(extra)
    first = net if colour else digits(extra, LoopConv2d)
    print(f"\n{'Photographs' if colour else 'Digits'}: {count(net):,} parameters")
    keep = KEEP["photographs" if colour else "digits"]
    cut = prune_channels(net, keep)
    before = {f"first/{name}": array for name, array in extra.items()}
    before |= {f"cut/{name}": array for name, array in cut.state_dict().items()}
    print(f"  with {keep:.1%} of the channels: {count(cut):,} parameters, tuned again")
    passes = epochs or (1 if colour else 8)
    loss = tune(cut, folded(net), images, labels, passes, 0.002 if colour else 0.01, seed)
    ready = folded(cut)
    files = {"first": stored(net), "channels": stored(ready), "integers": stored(quantize(ready))}
    whole, again = (restored(files["integers"]) for _ in range(2))
    stages = [Stage("first", first, fast=False), Stage("kernels", net), Stage("channels", ready),
              Stage("integers", whole), Stage("unpacked", unpacked(again))]  # fmt: skip
    history = {"loss": loss, "flops": [flops(stage, Tensor(ink(images[:1]))) for stage in
                                       (Stage("first", net), stages[2])]}  # fmt: skip
    few = images[:BATCH]
    for what, size in (("one", 1), ("many", BATCH)):
        x = few[:size]
        works = {s.name: (lambda net=s.net, x=x: see(net, x), s.fast, size) for s in stages}
        history |= race(works, what, SHORT if epochs else LONG)
    history |= waited(lambda image: see(stages[-1].net, image[None]), images[:200])
    return {"model": Optimised(stages, files, look), "before": before, "history": history}


def tune(net, teacher, images, labels, epochs, lr, seed):
    """Train the smaller network on what the larger one says; returns the loss of every epoch."""
    switch(True)
    loader = DataLoader(TensorDataset(images, labels), 128, shuffle=True, drop_last=True, seed=seed)
    optimizer = Adam(net.parameters(), lr)
    steps = epochs * len(loader)
    schedule = WarmupCosine(optimizer, max(1, steps // 10), steps + 1)
    criterion, losses, began, told = DistillationLoss(3.0, 0.8), [], time.perf_counter(), 0.0
    generator = np.random.default_rng(seed)
    for epoch in range(epochs):
        losses.append(0.0)
        for number, (x, y) in enumerate(loader, 1):
            seen = x.data
            if seen.ndim == 4:
                seen = np.where((generator.random(len(seen)) < 0.5)[:, None, None, None],
                                seen[..., ::-1], seen)  # fmt: skip
            said = np.concatenate([see(teacher, seen[at : at + BATCH])
                                   for at in range(0, len(seen), BATCH)])  # fmt: skip
            optimizer.zero_grad()
            loss = criterion(net.train()(Tensor(ink(seen))), said, y)
            loss.backward()
            optimizer.step()
            schedule.step()
            losses[-1] += loss.item() / len(loader)
            done, spent = epoch * len(loader) + number, time.perf_counter() - began
            if spent - told > 10 or number == len(loader):
                told, left = spent, int(spent / done * (steps - done))
                ready = f"  epoch {done / len(loader):4.1f}/{epochs}"
                print(f"{ready}  {left // 60}:{left % 60:02} left", flush=True)
    net.eval()
    return losses


def look(stages, images):
    """Logits of every stage, (stages, N, 10)."""
    found = []
    for stage in stages:
        switch(stage.fast)
        pieces = range(0, len(images), BATCH)
        found.append(np.concatenate([see(stage.net, images[at : at + BATCH]) for at in pieces]))
    switch(False)
    return np.stack(found)


# Talking ------------------------------------------------------------------------------------------


class Reader:
    """2017's tokenizer, and how a network is asked."""

    def __init__(self, merges):
        pairs = [tuple(int(token) for token in pair) for pair in merges]
        self.tokenizer = BPETokenizer(pairs, [ANSWER, END])
        self.stop = [self.tokenizer.special_tokens[END]]

    def prompt(self, question):
        """Tokens of a question, and the one that asks for its answer."""
        return [*self.tokenizer.encode(str(question)), self.tokenizer.special_tokens[ANSWER]]

    def one(self, stage, prompt):
        """The prompt and its answer, always the likeliest token."""
        write = generate_cached if stage.cache else generate
        return write(stage.net, prompt, ROOM, 0.0, stop_tokens=self.stop)

    def many(self, net, prompts):
        """The same for several prompts together."""
        return generate_batch(net, prompts, ROOM, 0.0, stop_tokens=self.stop)

    def answers(self, stages, questions):
        """Tokens of every stage, then -1: (stages + 1, N, T). Integers are asked together."""
        prompts = [self.prompt(question) for question in questions]
        found = []
        for stage in [*stages, Stage("together", stages[1].net, fast=False)]:
            switch(stage.fast)
            if stage.name in ("integers", "unpacked", "together"):
                groups = (prompts[at : at + TOGETHER] for at in range(0, len(prompts), TOGETHER))
                found.append([text for group in groups for text in self.many(stage.net, group)])
            else:
                found.append([self.one(stage, prompt) for prompt in prompts])
        switch(False)
        outputs = np.full((len(found), len(prompts), max(len(t) for f in found for t in f)), -1)
        for rows, texts in zip(outputs, found):
            for row, tokens in zip(rows, texts):
                row[: len(tokens)] = tokens
        return outputs

    def text(self, tokens):
        """What an answer says."""
        said = list(tokens)[list(tokens).index(self.tokenizer.special_tokens[ANSWER]) + 1 :]
        return self.tokenizer.decode([int(t) for t in said if t >= 0 and t not in self.stop])


def language(questions, answers, seed=0, epochs=None, extra=None):
    """The GPT with the weights `extra`, stage by stage, untrained; `epochs`: fewer rounds."""
    manual_seed(seed)
    reader = Reader(extra["merges"])
    net = GPT(GPTConfig(reader.tokenizer.vocab_size, bias=False, **TALKS)).eval()
    net.load_state_dict({name.removeprefix("gpt."): array for name, array in extra.items()
                         if name != "merges"})  # fmt: skip
    print(f"\nAnswers: {count(net):,} parameters")
    files = {"first": stored(net), "integers": stored(packed(net))}
    stages = [Stage("first", net, fast=False, cache=False), Stage("cache", net, fast=False),
              Stage("kernels", net), Stage("integers", restored(files["integers"])),
              Stage("unpacked", unpacked(restored(files["integers"])))]  # fmt: skip
    some = questions[:: max(1, len(questions) // 50)][:50]
    prompts = [reader.prompt(question) for question in some]
    history = {"flops": [flops(stages[0], Tensor(np.array([prompts[0]])))], "loss": []}
    lengths = [len(text) - len(prompt) for text, prompt in zip(reader.many(net, prompts), prompts)]
    asked = prompts[int(np.argsort(lengths, kind="stable")[len(lengths) // 2])]  # a usual answer
    ones = {s.name: (lambda stage=s: reader.one(stage, asked), s.fast, 1) for s in stages}
    rounds = SHORT if epochs else LONG
    history |= race(ones, "one", rounds)
    together = BATCH if epochs else TOGETHER
    group = [asked] * together  # the same work, so that the times can be compared
    many = {s.name: (lambda net=s.net: reader.many(net, group), s.fast, together)
            for s in stages if s.name in ("cache", "unpacked")}  # fmt: skip
    history |= race({"first": ones["first"], **many}, "many", rounds)
    history["asked"] = [len(asked), sorted(lengths)[len(lengths) // 2]]
    history |= waited(lambda prompt: reader.one(stages[-1], prompt), prompts)
    model = Optimised(stages, files, reader.answers)
    return {"model": model, "before": dict(extra), "history": history}


def packed(net):
    """The GPT in integers: eight bits, four in the widest layers, which mind it least."""
    kinds = (Linear, Embedding)
    others = [name for name, layer in net.named_modules()
              if isinstance(layer, kinds) and not name.endswith(HALF_BYTES)]  # fmt: skip
    return quantize(quantize(net, bits=4, skip=others))


# Both ---------------------------------------------------------------------------------------------


def stored(net):
    """The bytes of the file that `save` writes."""
    with tempfile.TemporaryDirectory() as folder:
        save(net, Path(folder) / "model.tt")
        return (Path(folder) / "model.tt").read_bytes()


def restored(raw):
    """The network in a file of these bytes."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "model.tt").write_bytes(raw)
        return load(Path(folder) / "model.tt")


def unpacked(net):
    """Float layers in the place of quantized ones: small on the disk, and fast where it runs."""

    def make(name, layer):
        kind = type(layer).__name__
        bias = getattr(layer, "bias", None) is not None
        if kind == "QuantizedConv2d":
            out, channels, *kernel = layer.shape
            new = Conv2d(channels, out, tuple(kernel), layer.stride, layer.padding, bias)
        elif kind == "QuantizedLinear":
            new = Linear(*layer.shape[::-1], bias)
        elif kind == "QuantizedEmbedding":
            new = Embedding(*layer.shape)
        else:
            return layer
        new.weight.data[...] = layer.real_weight()
        if bias:
            new.bias.data[...] = layer.bias.data
        return new

    net = replace_layers(net, make)
    if isinstance(net, GPT) and net.config.tie_weights:
        net.head.weight = net.embedding.weight
    return net.eval()


def count(net):
    """How many numbers it learned."""
    return sum(p.size for p in {id(p): p for p in net.parameters()}.values())


def flops(stage, x):
    """FLOPs of the convolutions and linear layers for x, by the profiler."""
    switch(False)
    rows = Profiler(stage.net).report(x, repeats=1).rows
    return sum(row.flops for row in rows if row.type in ("Conv2d", "Linear"))


def switch(fast):
    """The fast kernels on one thread, or none of them.

    Without "memory", a wish to the allocator that cannot be taken back: the first stage would be
    measured faster than it was.
    """
    if fast != acceleration_enabled():
        names = [name for name in SWAPS if name != "memory"]
        enable_acceleration(1, names) if fast else disable_acceleration()


class Watched:
    """A piece of work with the kernels it wants, its calls counted, and timed by another clock."""

    def __init__(self, work, fast):
        self.work, self.fast, self.calls, self.seconds = work, fast, 0, 0.0

    def __call__(self):
        switch(self.fast)
        began = time.perf_counter()
        self.work()
        self.calls, self.seconds = self.calls + 1, self.seconds + time.perf_counter() - began


def race(works, what, rounds):
    """Every stage's seconds beside the first one's, by the harness, and what it says of them.

    works: name -> the work, whether on the fast kernels, and how many inputs it answers.
    """
    watched = {name: Watched(*work[:2]) for name, work in works.items()}
    measured = interleave(watched, *rounds)
    told = {}
    for name, found in measured.items():
        summary, ratio = summarize(found.samples), compare(measured["first"], found)
        work, key, size = watched[name], f"{name}, {what}", works[name][2]
        told[f"{key}: seconds"], told[f"{key}: kernel"] = list(found.samples), list(found.kernel)
        told[f"{key}: said"] = [summary.median, *summary.interval, ratio.ratio, *ratio.interval]
        told[f"{key}: work"] = [size, work.calls, work.seconds, found.repetitions]
        low, middle, high = (1e3 * s / size for s in (summary.low, summary.median, summary.high))
        print(f"  {name:9} {size:2} at a time: {middle:9.3f} ms each, half of the rounds "
              f"{low:.3f} to {high:.3f}", flush=True)  # fmt: skip
    switch(False)
    return told


def waited(answer, inputs):
    """How long one user waits for each of many inputs; what the harness makes of it."""
    switch(True)
    waits = []

    def respond(samples):
        began = time.perf_counter()
        for sample in samples:
            answer(sample)
        waits.append(time.perf_counter() - began)

    found = single_stream(respond, inputs)
    switch(False)
    print(f"  nine of ten wait less than {1e3 * found.value:.3g} ms")
    return {"waits": waits, "waits: said": [found.value, found.queries, found.duration]}


# By itself ----------------------------------------------------------------------------------------


def recorded(milestone, *parts):
    """(part, weights) of the first of `parts` that the milestone recorded beside this one."""
    file = Path(__file__).parent.with_name(milestone) / "weights.safetensors"
    if not file.exists():
        sys.exit(f"{file} is not there\nNext: tito milestone run {milestone[:4]}")
    arrays = safetensors.numpy.load_file(file)
    part = next(p for p in parts if any(name.startswith(f"{p}/") for name in arrays))
    start = f"{part}/after/"
    return part, {n.removeprefix(start): a for n, a in arrays.items() if n.startswith(start)}


def main():
    """What 1998 and 2017 left, optimised and asked what it has not seen. --epochs 4: shorter."""
    sys.stdout.reconfigure(errors="replace")
    print(f"tinytorch: {tinytorch.origin}")
    part, weights = recorded("1998_cnn", "tinydigits loops", "cifar10 cnn")
    data = load_tinydigits() if part == "tinydigits loops" else load_cifar10()
    words = sys.argv[1:]
    short = int(words[words.index("--epochs") + 1]) if "--epochs" in words else None
    model = vision(data.train_images, data.train_labels, epochs=short, extra=weights)["model"]
    said = predict(model, data.test_images[:500])
    for stage, logits in zip(model.stages, said):
        right = (logits.argmax(axis=1) == data.test_labels[:500]).mean()
        print(f"  {stage.name:9} right on {right:.1%} of 500 it has not seen")
    merges = recorded("2017_transformer", "tinytalks")[1]
    talks = load_tinytalks()
    questions, answers, *_ = zip(*talks.train)
    model = language(questions, answers, epochs=short, extra=merges)["model"]
    reader, asked = Reader(merges["merges"]), talks.test[:20]
    said = predict(model, [pair[0] for pair in asked])
    for stage, texts in zip(model.stages, said):
        right = np.mean([reader.text(t) == pair[1] for t, pair in zip(texts, asked)])
        print(f"  {stage.name:9} right on {right:.1%} of 20 questions it has not seen")
    print("\nNext: tito milestone run 2024   (the same, judged and recorded)")


if __name__ == "__main__":
    sys.exit(main())
