# %% [markdown]
"""
# Checkpoint 11: can you train a transformer and let it speak?

A model that must remember what it read, one that turns a row around, and a die with ten sides.
"""

# %% given="tools"
import math
from types import SimpleNamespace

import numpy as np
from tinytorch.core.autograd import no_grad
from tinytorch.core.layers import Module
from tinytorch.core.losses import CrossEntropyLoss
from tinytorch.core.optimizers import AdamW
from tinytorch.core.tensor import Tensor, default_generator, manual_seed
from tinytorch.core.training import WarmupCosine, training_step
from tinytorch.nn.attention import padding_mask
from tinytorch.nn.transformer import (
    GPT,
    EncoderBlock,
    GPTConfig,
    Transformer,
    candidates,
    generate,
    parameter_count,
)

import tito.checks as check


def _next_token_loss(logits, targets):
    """Mean cross-entropy of logits (B, T, V) and targets (B, T)."""
    return CrossEntropyLoss()(logits.reshape(-1, logits.shape[-1]), np.ravel(targets))


def _levelled(x, w, name):
    """LayerNorm by NumPy, with the weight and bias called `name` in the state `w`."""
    x = x - x.mean(axis=-1, keepdims=True)
    x = x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + 1e-5)
    return x * w[f"{name}.weight"] + w[f"{name}.bias"]


def _linear(x, w, name):
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


# %% check="say_how_large_it_will_be"
check.equal(
    "parameters of GPT-2 medium and of Llama-2 13B",
    [
        parameter_count(GPTConfig(50257, 1024, dim=1024, heads=16, layers=24)),
        parameter_count(
            GPTConfig.llama(
                32000, 4096, dim=5120, heads=40, layers=40, hidden=13824, tie_weights=False
            )
        ),
    ],
    [354_823_168, 13_015_864_320],
    why="the published models, counted without building them",
)
for _config in (
    GPTConfig(31, 12, dim=12, heads=3, layers=2, hidden=20, kv_heads=1),
    GPTConfig.llama(31, 12, dim=16, heads=2, layers=3),
    GPTConfig(31, 12, dim=8, heads=2, layers=1, positions="sinusoidal", tie_weights=False),
):
    check.equal(
        f"parameters of {_config}",
        sum(p.size for p in GPT(_config).parameters()),
        parameter_count(_config),
        why="what was built is what was predicted; shared weights count once",
    )

# %% check="agree_with_numpy_about_a_block"
_rng = np.random.default_rng(11)
_block, _x = EncoderBlock(8, 2, hidden=12), _rng.normal(size=(2, 5, 8)).astype(np.float32)
for _parameter in _block.parameters():
    _parameter.data[...] = _rng.normal(size=_parameter.shape) * 0.4
_out, _w = _block(Tensor(_x), padding_mask([5, 3], 5)), _block.state_dict()
for _text, _length in enumerate((5, 3)):
    _seen = _levelled(_x[_text].astype(np.float64), _w, "norm1")
    _q, _k, _v = (_linear(_seen, _w, f"attention.{part}") for part in ("query", "key", "value"))
    _heads = []
    for _h in (slice(0, 4), slice(4, 8)):
        _powers = np.exp(_q[:, _h] @ _k[:_length, _h].T / 2)  # √4 numbers in a head
        _heads.append(_powers / _powers.sum(axis=1, keepdims=True) @ _v[:_length, _h])
    _stream = _x[_text] + _linear(np.concatenate(_heads, axis=1), _w, "attention.out")
    _wide = _linear(_levelled(_stream, _w, "norm2"), _w, "mlp.up")
    _bent = _wide / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (_wide + 0.044715 * _wide**3)))
    check.close(
        f"an encoder block on a text of {_length} real tokens",
        _out.data[_text],
        _stream + _linear(_bent, _w, "mlp.down"),
        why="x + attention(norm1(x)), then x + mlp(norm2(x)), recomputed from the weights",
        rtol=1e-3,
        atol=1e-4,
    )


# %% check="train_it_to_remember"
def _twice(count, seed):
    """Rows of 6 random tokens out of 12, each row said twice: (count, 12)."""
    once = np.random.default_rng(seed).integers(0, 12, (count, 6))
    return np.concatenate([once, once], axis=1)


manual_seed(4)
_model = GPT(GPTConfig(12, 11, dim=32, heads=2, layers=2))
_optimizer = AdamW(_model.parameters(), lr=1e-2)
_schedule = WarmupCosine(_optimizer, 20, 250)
_rows = _twice(250 * 32, seed=5)
for _step in range(250):
    _batch = _rows[_step * 32 : (_step + 1) * 32]
    training_step(
        _model, _next_token_loss, _optimizer, _batch[:, :-1], _batch[:, 1:], clip_norm=1.0
    )
    _schedule.step()
_fresh = _twice(300, seed=6)
_model.eval()
with no_grad():
    _logits = _model(_fresh[:, :-1]).data.astype(np.float64)
_logits -= _logits.max(axis=-1, keepdims=True)
_shares = np.exp(_logits) / np.exp(_logits).sum(axis=-1, keepdims=True)
_right = (_shares.argmax(axis=-1) == _fresh[:, 1:]).mean(axis=0)
check.true(
    "each token of the second half foretold in 300 new rows: 97 % or more",
    bool((_right[5:] >= 0.97).all()),
    got=_right[5:].round(3),
    why="each stands six places before, and attention can look there; guessing gives a twelfth",
)
_surprise = -np.log(np.take_along_axis(_shares, _fresh[:, 1:, None], axis=-1))[..., 0]
check.true(
    "loss in the first half: not below ln 12 = 2.48",
    float(_surprise[:, :5].mean()) > 2.45,
    got=float(_surprise[:, :5].mean()),
    why="these tokens were drawn by chance: whoever knows them has seen the future",
)

# %% check="let_it_speak"
_prompt = [int(token) for token in _fresh[0, :6]]
check.equal(
    "six tokens after six, at temperature 0",
    generate(_model, _prompt, 5, temperature=0),
    [*_prompt, *_prompt[:5]],
    why="it says again what it read",
)
check.equal(
    "the same up to a stop token",
    generate(_model, _prompt, 5, top_k=1, stop_tokens=[_prompt[2]])[6:],
    _prompt[: _prompt.index(_prompt[2]) + 1],
    why="the stop token is said, and nothing after it",
)
check.equal(
    "length of a text far beyond the context of 11, and the model's mode",
    (len(generate(_model.train(), _prompt, 30, seed=0)), _model.training),
    (36, True),
    why="the model sees the last 11 tokens; afterwards it trains on as before",
)


# %% check="speak_by_chance_as_told"
class _Die(Module):
    """Ten sides: side s is s + 1 times as likely as side 0."""

    config = SimpleNamespace(context=1)

    def forward(self, tokens):
        return Tensor(np.log(np.arange(1.0, 11.0)).reshape(1, 1, 10))


_before = repr(default_generator.bit_generator.state)
_sides = np.arange(1.0, 11.0)
for _told, _knobs, _odds in (
    ("as it is", {}, _sides),
    ("at temperature 0.5", {"temperature": 0.5}, _sides**2),
    ("with top_k=3", {"top_k": 3}, _sides * (_sides > 7)),
    ("with top_p=0.4", {"top_p": 0.4}, _sides * (_sides > 7)),
):
    _thrown = np.bincount(generate(_Die(), [0], 3000, seed=1, **_knobs)[1:], minlength=10) / 3000
    check.close(
        f"shares of the ten sides in 3,000 throws {_told}",
        _thrown,
        _odds / _odds.sum(),
        atol=0.03,
        rtol=0,
        why="10 + 9 = 19 of 55 are less than 0.4, 27 of 55 are not: three sides for top_p=0.4",
    )
    _tokens, _chances = candidates(np.log(_sides), **_knobs)
    check.close(
        f"the shares told beforehand {_told}",
        np.bincount(_tokens, weights=_chances, minlength=10),
        _odds / _odds.sum(),
        why="the same, without throwing",
    )
check.equal(
    "two texts with one seed, and the framework's generator",
    (
        generate(_Die(), [0], 50, seed=2) == generate(_Die(), [0], 50, seed=2),
        repr(default_generator.bit_generator.state) == _before,
    ),
    (True, True),
    why="a text can be repeated, and writing it disturbs nobody",
)


# %% check="turn_a_row_around"
def _rows_and_answers(count, seed):
    """Sources (count, 5) of 3 to 5 digits, their mask, and answers: 10, the digits reversed, 11."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(3, 6, count)
    source, answer = np.full((count, 5), 12), np.full((count, 7), 12)
    answer[:, 0] = 10
    for row, length in enumerate(lengths):
        source[row, :length] = rng.integers(0, 10, length)
        answer[row, 1 : length + 2] = [*source[row, :length][::-1], 11]
    return source, answer, padding_mask(lengths, 5)


class _Both(Module):
    """The encoder-decoder as a model of one batch (source, answer so far, mask)."""

    def __init__(self):
        self.inner = Transformer(13, 13, dim=32, heads=2, layers=1, max_length=8)

    def forward(self, batch):
        return self.inner(*batch)


manual_seed(7)
_model = _Both()
_optimizer = AdamW(_model.parameters(), lr=1e-2)
_schedule = WarmupCosine(_optimizer, 40, 250)
for _step in range(250):
    _source, _answer, _mask = _rows_and_answers(32, seed=100 + _step)
    training_step(
        _model,
        _next_token_loss,
        _optimizer,
        (_source, _answer[:, :-1], _mask),
        _answer[:, 1:],
        clip_norm=1.0,
    )
    _schedule.step()
_source, _answer, _mask = _rows_and_answers(200, seed=8)
_said = np.full((200, 1), 10)
with no_grad():
    _memory = _model.inner.encode(_source, _mask)
    for _ in range(6):
        _next = _model.inner.decode(_said, _memory, _mask).data[:, -1].argmax(axis=-1)
        _said = np.concatenate([_said, _next[:, None]], axis=1)
_real = _answer != 12
_whole = float((np.where(_real, _said, 12) == _answer).all(axis=1).mean())
check.true(
    "rows of digits turned around without a mistake, 200 new ones: 95 % or more",
    _whole >= 0.95,
    got=f"{_whole:.1%}",
    why="cross-attention finds the digit that comes next, from the last to the first",
)
