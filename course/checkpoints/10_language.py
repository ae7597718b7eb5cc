# %% [markdown]
"""
# Checkpoint 10: can you turn any text into vectors, and back?

Scripts that no notebook showed, a language somebody made up, and a table that knows nothing yet.
"""

# %% given="tools"
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
from tinytorch.core.activations import ReLU
from tinytorch.core.layers import Linear, Module
from tinytorch.core.losses import CrossEntropyLoss
from tinytorch.core.optimizers import SGD, Adam
from tinytorch.core.tensor import Tensor, manual_seed
from tinytorch.core.training import load_checkpoint, save_checkpoint, train_loop
from tinytorch.nn.embedding import (
    Embedding,
    LearnedPositions,
    RotaryPositions,
    SinusoidalPositions,
    sinusoidal_positions,
)
from tinytorch.text.tokenizer import BPETokenizer, CharTokenizer

import tito.checks as check

_rng = np.random.default_rng(110)
_VOWELS, _CONSONANTS = "aeiou", "bdgklmnprstv"


def _words(count, seed):
    """Words of a made-up language: two or three syllables of one consonant and one vowel each."""
    rng = np.random.default_rng(seed)

    def syllable():
        return rng.choice(list(_CONSONANTS)) + rng.choice(list(_VOWELS))

    known = ["".join(syllable() for _ in range(rng.integers(2, 4))) for _ in range(40)]
    share = 1 / np.arange(1, 41)
    return " ".join(rng.choice(known, count, p=share / share.sum()))


_text = _words(800, seed=1)
_pairs = BPETokenizer.train(_text, 320, special_tokens=["<end>"])
_STRANGE = [
    "",
    "kalima",
    "Zwölf Boxkämpfer jagen Viktor quer über den Sylter Deich.",
    "ᚠᛇᚻ ᛒᛦᚦ · 日本語 · שלום · नमस्ते · 👩‍🚀🏳️‍🌈",
    "line\nline\r\n\ttab  two spaces \x00 and a zero",
    "<end> of what a user typed",
]


# %% check="text_to_vectors_and_back"
manual_seed(10)
_table = Embedding(_pairs.vocab_size, 12)
_rows = _table.weight.data
for _strange in _STRANGE:
    _vectors = _table(_pairs.encode(_strange))
    check.equal(
        f"shape of the vectors of {_strange!r}",
        _vectors.shape,
        (len(_pairs.encode(_strange)), 12),
        why="one vector of 12 numbers per token, none for no text",
    )
    _nearest = [int(((_rows - v) ** 2).sum(axis=1).argmin()) for v in _vectors.data]
    check.equal(
        f"{_strange!r} to vectors, to the nearest rows, and back to text",
        _pairs.decode(_nearest),
        _strange,
        why="256 tokens stand for the bytes, so any text has its tokens, and a token its row",
    )

# %% check="say_the_same_in_fewer_tokens"
_fresh = _words(200, seed=1)
_ids = _pairs.encode(_fresh)
check.true(
    "tokens per byte of a text in the language it was trained on: 0.7 or less",
    len(_ids) <= 0.7 * len(_fresh),
    got=round(len(_ids) / len(_fresh), 3),
    why="63 merges make tokens of frequent pairs: shorter texts, less to compute",
)
check.equal(
    "a special token, allowed and typed by a user",
    (_pairs.encode("<end>", allow_special=True), len(_pairs.encode("<end>")) > 1),
    ([_pairs.special_tokens["<end>"]], True),
    why="one id where the program means it, plain text where a user types it",
)
_letters = CharTokenizer.train(_text)
check.equal(
    "characters of the language, one token each",
    (_letters.vocab_size, _letters.decode(_letters.encode(_fresh))),
    (len(set(_text)), _fresh),
    why="the simplest tokenizer there is must lose nothing either",
)

# %% check="teach_every_place_of_a_word"
_table = Embedding(_letters.vocab_size, 3)
_before = _table.weight.data.copy()
_ids = _letters.encode("bananamana dod")
_g = _rng.standard_normal((2, 7, 3)).astype(np.float32)
_wanted = np.zeros(_before.shape)
for _id, _part in zip(_ids, _g.reshape(-1, 3)):
    _wanted[_id] += _part
(_table(np.reshape(_ids, (2, 7))) * _g).sum().backward()
check.close(
    "gradient of the table for two texts of seven letters",
    _table.weight.grad,
    _wanted,
    rtol=1e-4,
    atol=1e-5,
    why="a letter that stands five times gets five gradients, added",
)
SGD(_table.parameters(), lr=1.0).step()
_count = Counter(_ids)
check.equal(
    "letters whose row moved",
    [
        i
        for i in range(_letters.vocab_size)
        if not np.array_equal(_before[i], _table.weight.data[i])
    ],
    sorted(_count),
    why="those of the text, and no others",
)


# %% check="find_the_vowels_in_an_unknown_language"
class _Next(Module):
    """Guesses the next letter from the vector of this one."""

    def __init__(self, letters):
        self.table = Embedding(letters, 4)
        self.guess = Linear(4, letters)

    def forward(self, x):
        return self.guess(self.table(x))


_ids = np.array(_letters.encode(_text))
manual_seed(11)
_model = _Next(_letters.vocab_size)
train_loop(
    _model,
    (_ids[:-1], _ids[1:]),
    CrossEntropyLoss(),
    Adam(_model.parameters(), lr=0.02),
    epochs=15,
    batch_size=128,
)
_rows = _model.table.weight.data
_groups = np.array(
    [next((k for k in (_VOWELS, _CONSONANTS) if c in k), " ") for c in sorted(set(_text))]
)
_middle = {k: _rows[_groups == k].mean(axis=0) for k in (_VOWELS, _CONSONANTS)}
_told = {
    c: min(_middle, key=lambda k: float(((_rows[_letters.encode(c)[0]] - _middle[k]) ** 2).sum()))
    for c in _VOWELS + _CONSONANTS
    if c in _text
}
check.equal(
    "letters that stand among their own kind, by what they learned from the text alone",
    sorted(c for c, k in _told.items() if c in k),
    sorted(_told),
    why="vowels and consonants are followed by different letters: used alike, placed alike",
)


# %% check="tell_who_bites_whom"
class _Order(Module):
    """Looks at each word with its position, and averages what it found."""

    def __init__(self, positions):
        self.table, self.positions = Embedding(5, 12), positions
        self.hidden, self.out = Linear(12, 24), Linear(24, 2)

    def forward(self, x):
        vectors = self.table(x)
        if self.positions is not None:
            vectors = self.positions(vectors)
        return self.out(ReLU()(self.hidden(vectors)).mean(axis=1))


_texts = np.array([_rng.permutation(5) for _ in range(600)])
_first = ((_texts == 3).argmax(axis=1) < (_texts == 0).argmax(axis=1)).astype(int)
for _name, _kind in (("learned", LearnedPositions), ("waves", SinusoidalPositions), ("none", None)):
    manual_seed(12)
    _model = _Order(_kind and _kind(5, 12))
    train_loop(
        _model,
        (_texts[:400], _first[:400]),
        CrossEntropyLoss(),
        Adam(_model.parameters(), lr=0.02),
        epochs=25,
        batch_size=50,
    )
    _score = float((_model(_texts[400:]).data.argmax(axis=1) == _first[400:]).mean())
    check.true(
        f"positions {_name}: right on 200 texts it has not seen, "
        + ("85 % or more" if _kind else "no better than 65 %"),
        _score >= 0.85 if _kind else _score <= 0.65,
        got=_score,
        why="without positions a text is a bag of words; with them the order can be learned",
    )

# %% check="go_on_where_the_text_stopped"
_x = _rng.standard_normal((2, 3, 10, 6)).astype(np.float32)
for _layer in (LearnedPositions(40, 6), SinusoidalPositions(40, 6), RotaryPositions(6, 40)):
    _whole = _layer(Tensor(_x), start=20).data
    _pieces = [
        _layer(Tensor(_x[..., a:b, :]), start=20 + a).data for a, b in ((0, 1), (1, 6), (6, 10))
    ]
    check.close(
        f"{type(_layer).__name__}: 10 words at once, and as 1 + 5 + 4",
        np.concatenate(_pieces, axis=-2),
        _whole,
        why="a word has its position whether it comes alone or with others",
    )
_at = np.arange(4)[:, None] / 10_000 ** (np.array([0, 0, 2, 2, 4]) / 5)
_wanted = np.where(np.arange(5) % 2 == 0, np.sin(_at), np.cos(_at))
check.close(
    "waves for four positions and five columns",
    sinusoidal_positions(4, 5),
    _wanted,
    atol=1e-6,
    why="sine and cosine of one hand side by side, and each hand slower than the one before",
)

# %% check="know_only_the_distance"
_turn = RotaryPositions(8, 900)
_words_in = Embedding(_pairs.vocab_size, 8)
_q, _k = (_words_in([i]) for i in (97, 301))
_scores = {
    (i, j): (_turn(_q, start=i) * _turn(_k, start=j)).sum().item()
    for i, j in ((0, 0), (640, 640), (7, 2), (707, 702), (2, 7), (400, 405))
}
for _near, _far in (((0, 0), (640, 640)), ((7, 2), (707, 702)), ((2, 7), (400, 405))):
    check.close(
        f"score of two words at {_near} and at {_far}",
        _scores[_far],
        _scores[_near],
        rtol=1e-3,
        atol=1e-3,
        why="turned by the same angle, two vectors keep the angle between them",
    )
_plain = float((_q.data * _k.data).sum())
check.close("at the same place: the plain product", _scores[0, 0], _plain, rtol=1e-4, atol=1e-5)
check.true(
    "five words ahead is not five words behind",
    abs(_scores[7, 2] - _scores[2, 7]) > 1e-3,
    got=(_scores[7, 2], _scores[2, 7]),
    why="the distance has a direction",
)
(_turn(_q, start=5) * _turn(_k, start=9)).sum().backward()
_angle = 4 / 10_000 ** (np.arange(0, 8, 2) / 8)
_points = (_k.data[0, :4] + 1j * _k.data[0, 4:]) * np.exp(1j * _angle)
_wanted = np.zeros(_words_in.weight.shape)
_wanted[97] = np.concatenate([_points.real, _points.imag])
check.close(
    "gradient of the query's row",
    _words_in.weight.grad[97],
    _wanted[97],
    rtol=1e-3,
    atol=1e-4,
    why="the key as it is seen four places behind: turned on by four, and back into the table",
)

# %% check="refuse_what_has_no_row"
_small = Embedding(260, 4)
_ids = _pairs.encode(_text)
_place = next(n for n, i in enumerate(_ids) if i >= 260)
check.raises(
    "a table with fewer rows than the tokenizer has tokens",
    IndexError,
    lambda: _small(_ids),
    mention=[str(_ids[_place]), f"({_place},)"],
    why="the message names the token and where it stands",
)
check.raises(
    "padding with -1",
    IndexError,
    lambda: _small([[5, 6], [7, -1]]),
    mention=["-1", "(1, 1)"],
    why="NumPy would take the last row and train it",
)
for _layer in (LearnedPositions(8, 4), SinusoidalPositions(8, 4), RotaryPositions(4, 8)):
    check.raises(
        f"{type(_layer).__name__} for 8 positions, words 6, 7 and 8",
        ValueError,
        lambda layer=_layer: layer(Tensor(np.zeros((1, 3, 4))), start=6),
        mention=["6", "8"],
        why="there is no position 8, and a shorter slice would be another text",
    )
check.raises(
    "a letter that no text had",
    ValueError,
    lambda: _letters.encode("kaliqma"),
    mention=["q", "4"],
    why="without a token for the unknown, say which letter and where",
)

# %% check="bring_both_back_from_files"
with tempfile.TemporaryDirectory() as _folder:
    _pairs.save(Path(_folder, "words.json"))
    _letters.save(Path(_folder, "letters.json"))
    save_checkpoint(Path(_folder, "table.ckpt"), {"table": _words_in.state_dict()})
    _pairs_again = BPETokenizer.load(Path(_folder, "words.json"))
    _letters_again = CharTokenizer.load(Path(_folder, "letters.json"))
    _again = Embedding(_pairs_again.vocab_size, 8)
    _again.load_state_dict(load_checkpoint(Path(_folder, "table.ckpt"))["table"])
for _strange in _STRANGE:
    check.true(
        f"vectors of {_strange!r} before and after, bit for bit",
        np.array_equal(
            _again(_pairs_again.encode(_strange, allow_special=True)).data,
            _words_in(_pairs.encode(_strange, allow_special=True)).data,
        ),
        why="a tokenizer that numbers its tokens anew makes nonsense of every row",
    )
check.equal(
    "letters before and after",
    _letters_again.encode(_fresh),
    _letters.encode(_fresh),
    why="the order of the vocabulary is part of it",
)
