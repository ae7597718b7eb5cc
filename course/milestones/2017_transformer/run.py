"""2017: attention reads a question and answers in a sentence, on your own framework.

A bigram guesses the next token from the one before it. Attention looks back at all of them, and
learns where to look. Here a small GPT learns 500 facts from 2,400 questions with their answers, cut
into tokens by your own byte pair encoding, and is then asked in words it has not seen. With
--shakespeare a second one reads plays, character by character, and writes on.

    python milestones/2017_transformer/run.py                TinyTalks (a few minutes)
    python milestones/2017_transformer/run.py --shakespeare  plays (tito data fetch shakespeare)

Once it is trained, `tito milestone chat` talks to it.

Source: Vaswani et al. 2017, Attention is all you need; Radford et al. 2018 for the decoder alone.
"""

import sys
import time
from pathlib import Path

import numpy as np

import tinytorch
from tinytorch import (
    GPT,
    AdamW,
    BPETokenizer,
    CharTokenizer,
    CrossEntropyLoss,
    DataLoader,
    GPTConfig,
    Module,
    Tensor,
    Trainer,
    WarmupCosine,
    generate,
    load_shakespeare,
    load_tinytalks,
    manual_seed,
    no_grad,
)

ANSWER, END = "<answer>", "<end>"  # what stands between a question and its answer, and after it
VOCABULARY = 512  # tokens: 256 bytes, 254 merges, 2 special ones
TALKS = {"context": 72, "dim": 128, "heads": 4, "layers": 3, "dropout": 0.1}
PLAYS = {"context": 128, "dim": 128, "heads": 4, "layers": 4, "dropout": 0.1}
NOTHING = -1  # a target that is not to be learned: the question itself, and the padding
ROOM = 40  # tokens that an answer may have
KEPT = 9  # one pair in nine is kept back to watch the training


# Questions and answers ----------------------------------------------------------------------------


class Talker(Module):
    """A GPT with the tokenizer it reads by; the merges are kept among the weights."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer
        self.merges = Tensor(np.array(list(tokenizer.merges)))
        self.gpt = GPT(GPTConfig(tokenizer.vocab_size, bias=False, **TALKS))

    def forward(self, tokens):
        return self.gpt(tokens)

    def prompt(self, question):
        """Tokens of a question, and the one that asks for its answer."""
        return [*self.tokenizer.encode(str(question)), self.tokenizer.special_tokens[ANSWER]]

    def pair(self, question, answer):
        """Tokens to learn from, and how many of them are the prompt."""
        asked, said = self.prompt(question), self.tokenizer.encode(str(answer))
        return [*asked, *said, self.tokenizer.special_tokens[END]], len(asked)

    def text(self, tokens):
        """What an answer's tokens say, without the end."""
        end = self.tokenizer.special_tokens[END]
        return self.tokenizer.decode([int(token) for token in tokens if token != end])

    def write(self, prompt, count=ROOM, temperature=0.0, seed=None):
        """`prompt` and up to `count` tokens after it."""
        stop = [self.tokenizer.special_tokens[END]]
        return generate(self.gpt, prompt, count, temperature, stop_tokens=stop, seed=seed)

    def answer(self, question):
        """The answer, always the likeliest token."""
        prompt = self.prompt(question)
        return self.text(self.write(prompt)[len(prompt) :])


def talks(questions, answers, seed=0, epochs=None, checkpoint=None):
    """A GPT that answers: trained on the answers' tokens of all but the last ninth of the pairs."""
    epochs, cut = epochs or 32, len(questions) - len(questions) // KEPT
    manual_seed(seed)
    text = "\n".join([*questions[:cut], *answers[:cut]])
    net = Talker(BPETokenizer.train(text, VOCABULARY, [ANSWER, END]))
    pairs = [net.pair(*pair) for pair in zip(questions, answers)]
    print(f"\nA GPT on {cut:,} questions and answers, {epochs} epochs")
    (tokens, asked), length = pairs[0], sum(len(tokens) for tokens, _ in pairs[:cut])
    cut_up = "|".join(net.text([token]) for token in tokens[: asked - 1])
    print(f"  {len(text):,} characters are {length:,} tokens: {cut_up}")
    loader = DataLoader(pairs[:cut], 16, shuffle=True, collate_fn=side_by_side, seed=seed)
    kept = questions[cut:]

    def show(trainer):
        if trainer.epoch % max(1, epochs // 6) == 0:
            asked = str(kept[trainer.epoch % len(kept)])
            print(f"    {asked}  {net.answer(asked)}", flush=True)

    return train(net, loader, [side_by_side(pairs[cut:])], epochs, 2e-3, checkpoint, show)


def side_by_side(pairs):
    """Pairs of different lengths as inputs and targets (B, T): each token's target is the next one.

    What comes after a shorter pair does not matter: tokens look back only, and nothing is learned
    from there.
    """
    longest = max(len(tokens) for tokens, _ in pairs) - 1
    inputs = np.zeros((len(pairs), longest))
    targets = np.full((len(pairs), longest), NOTHING)
    for row, (tokens, asked) in enumerate(pairs):
        inputs[row, : len(tokens) - 1] = tokens[:-1]
        targets[row, asked - 1 : len(tokens) - 1] = tokens[asked:]
    return Tensor(inputs), Tensor(targets)


def restore(weights):
    """The talker whose state_dict was saved."""
    merges = [tuple(int(token) for token in pair) for pair in weights["merges"]]
    net = Talker(BPETokenizer(merges, [ANSWER, END]))
    net.load_state_dict(weights)
    return net


def speak(net, question, temperature=0.0, seed=None):
    """The answer to a question, piece by piece, as it is written."""
    room = TALKS["context"] - ROOM
    tokens = prompt = net.prompt(question)[-room:]
    said = ""
    for step in range(ROOM):
        tokens = net.write(tokens, 1, temperature, None if seed is None else seed + step)
        text = net.text(tokens[len(prompt) :])
        if not text.endswith("\ufffd"):  # half of a character: wait for the other half
            yield text[len(said) :]
            said = text
        if tokens[-1] == net.tokenizer.special_tokens[END]:
            break


# Plays --------------------------------------------------------------------------------------------


class Writer(Module):
    """A GPT on characters."""

    def __init__(self, characters):
        self.tokenizer = CharTokenizer(characters)
        self.gpt = GPT(GPTConfig(self.tokenizer.vocab_size, bias=False, **PLAYS))

    def forward(self, tokens):
        return self.gpt(tokens)


class Windows:
    """Pieces of a long text (N,), one after the other: inputs, and the same one token later.

    epoch: a function; its number moves all of them, so that every epoch cuts the text elsewhere.
    """

    def __init__(self, tokens, length, epoch=lambda: 0):
        self.tokens, self.length, self.epoch = tokens, length, epoch

    def __len__(self):
        return (len(self.tokens) - 1) // self.length - 1

    def __getitem__(self, index):
        start = index * self.length + 37 * self.epoch() % self.length
        piece = self.tokens[start : start + self.length + 1]
        return piece[:-1], piece[1:]


def shakespeare(codes, _, seed=0, epochs=None, checkpoint=None):
    """A GPT that writes: codes are the characters of a text; its last twentieth is kept back."""
    epochs, text = epochs or 8, "".join(map(chr, codes))
    manual_seed(seed)
    net = Writer(sorted(set(text)))
    tokens = np.array(net.tokenizer.encode(text))
    cut = len(tokens) - len(tokens) // 20
    print(f"\nA GPT on {cut:,} characters of plays, {epochs} epochs")
    length = PLAYS["context"]
    windows = Windows(tokens[:cut], length, lambda: loader.epoch)
    loader = DataLoader(windows, 16, shuffle=True, seed=seed)
    watched = DataLoader(Windows(tokens[cut:], length), 50)

    def show(trainer):
        ids = generate(net.gpt, net.tokenizer.encode("\n"), 150, 0.8, seed=trainer.epoch)
        print("\n".join("    " + line for line in net.tokenizer.decode(ids).strip().splitlines()))

    return train(net, loader, list(watched), epochs, 2e-3, checkpoint, show)


# Both ---------------------------------------------------------------------------------------------


def next_token_loss(logits, targets):
    """Cross-entropy of logits (B, T, V), a mean over the targets (B, T) that are not NOTHING."""
    wanted = np.flatnonzero(targets.data != NOTHING)
    rows = logits.reshape(-1, logits.shape[-1])[wanted]  # (B * T, V) -> (wanted, V)
    return CrossEntropyLoss()(rows, targets.data.ravel()[wanted])


def tokens_right(logits, targets):
    """Share of the wanted tokens that are the likeliest."""
    right = logits.data.argmax(axis=-1) == targets.data
    return float(right[targets.data != NOTHING].mean())


def train(net, loader, kept, epochs, lr, checkpoint, show):
    """AdamW, a warm-up, a cosine to zero. With `checkpoint`, a file, the run can be taken up again.

    Returns the network, its weights before, and per epoch the loss, val_loss and val_tokens_right.
    """
    print(f"  {sum(p.size for p in net.parameters()):,} parameters")
    before, steps = net.state_dict(), epochs * len(loader)
    optimizer = AdamW(net.parameters(), lr, betas=(0.9, 0.99), weight_decay=0.1)
    trainer = Trainer(net, next_token_loss, optimizer, clip_norm=1.0, metric=tokens_right,
                      scheduler=WarmupCosine(optimizer, steps // 20, steps + 1))  # fmt: skip
    if checkpoint and Path(checkpoint).exists():
        trainer.load(checkpoint)
        loader.epoch = trainer.epoch
        print(f"  going on after epoch {trainer.epoch}, from {checkpoint}")
    watched = Watched(loader, epochs, trainer)

    def after(trainer):
        watched.report()
        show(trainer)
        if checkpoint:
            trainer.save(checkpoint)

    trainer.fit(watched, epochs - trainer.epoch, kept, after)
    return {"model": net, "before": before, "history": trainer.history}


def predict(net, held_out):
    """Of questions (N,): each prompt with its answer as tokens, then -1. Of codes: logits."""
    net.eval()
    if isinstance(net, Writer):
        tokens = [net.tokenizer.encode("".join(map(chr, codes))) for codes in held_out]
        with no_grad():
            return net(Tensor(tokens)).data
    said = [net.write(net.prompt(question)) for question in held_out]
    outputs = np.full((len(said), max(map(len, said))), -1)
    for row, tokens in zip(outputs, said):
        row[: len(tokens)] = tokens
    return outputs


# Showing it ---------------------------------------------------------------------------------------


class Watched:
    """The batches of a loader; now and then a line says how far the training is."""

    def __init__(self, loader, epochs, trainer, seconds=20):
        self.loader, self.epochs, self.trainer, self.seconds = loader, epochs, trainer, seconds
        self.began = self.told = time.perf_counter()
        self.batches = 0

    def __iter__(self):
        for number, batch in enumerate(self.loader, 1):
            yield batch
            self.batches += 1
            if time.perf_counter() - self.told > self.seconds:
                self.tell(self.trainer.epoch + number / len(self.loader), "")

    def report(self):
        """After an epoch: the line with its figures."""
        history, every = self.trainer.history, max(1, self.epochs // 10)
        if self.trainer.epoch % every == 0:
            loss, kept, right = (history[n][-1] for n in ("loss", "val_loss", "val_tokens_right"))
            told = f"  loss {loss:.3f}  on texts kept back {kept:.3f}, {right:.1%} of tokens right"
            self.tell(self.trainer.epoch, told)

    def tell(self, epoch, figures):
        self.told = time.perf_counter()
        each = (self.told - self.began) / max(self.batches, 1)
        left = int(each * (self.epochs - epoch) * len(self.loader))
        print(f"  epoch {epoch:4.1f}/{self.epochs}{figures}  {left // 60}:{left % 60:02} left",
              flush=True)  # fmt: skip


def talk(epochs):
    """TinyTalks: train, and answer questions it has not seen."""
    data = load_tinytalks()
    questions, answers = zip(*data.train, *data.validation)
    net = talks(questions, answers, epochs=epochs)["model"]
    said = [net.answer(question) for question, _ in data.test]
    for (question, answer), mine in zip(data.test[:10], said):
        print(f"  {'right' if mine == answer else 'wrong'}  {question}  {mine}")
    right = np.mean([mine == answer for (_, answer), mine in zip(data.test, said)])
    print(f"  right on {len(said)} questions it has not seen: {right:.1%}")


def play(epochs):
    """Shakespeare: train on the first nine tenths, and read the rest."""
    codes = np.array([ord(c) for c in load_shakespeare()])
    cut = len(codes) - len(codes) // 10
    net = shakespeare(codes[:cut], None, epochs=epochs)["model"]
    held_out = np.array(net.tokenizer.encode("".join(map(chr, codes[cut:]))))
    parts = DataLoader(Windows(held_out, PLAYS["context"]), 50)
    trainer = Trainer(net, next_token_loss, AdamW(net.parameters()), metric=tokens_right)
    print(f"  on a tenth it has not seen: {trainer.evaluate(parts)['loss']:.3f} nats per character")


def main():
    """One of the two, judged on what it has not seen. --epochs 3 trains for three."""
    sys.stdout.reconfigure(errors="replace")
    print(f"tinytorch: {tinytorch.origin}")
    words = sys.argv[1:]
    epochs = int(words[words.index("--epochs") + 1]) if "--epochs" in words else None
    (play if "--shakespeare" in words else talk)(epochs)
    print("\nNext: tito milestone run 2017   (the same, judged and recorded)")


if __name__ == "__main__":
    sys.exit(main())
