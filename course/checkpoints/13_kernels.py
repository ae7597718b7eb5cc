# %% [markdown]
"""
# Checkpoint 13: can you compute the same numbers faster?

Texts that grow without being read again, and a network that must not notice whose kernels it runs
on. Nothing here is timed: work is counted, and numbers are compared.
"""

# %% given="tools"
import numpy as np
from tinytorch.core.acceleration import accelerated, acceleration_enabled
from tinytorch.core.activations import ReLU
from tinytorch.core.autograd import no_grad
from tinytorch.core.layers import Flatten, Linear, Sequential
from tinytorch.core.losses import CrossEntropyLoss
from tinytorch.core.optimizers import SGD, AdamW
from tinytorch.core.tensor import Tensor, manual_seed
from tinytorch.core.training import training_step
from tinytorch.nn import kvcache
from tinytorch.nn.conv import BatchNorm2d, Conv2d, MaxPool2d
from tinytorch.nn.kvcache import KVCache, generate_batch, generate_cached
from tinytorch.nn.transformer import GPT, GPTConfig, generate

import tito.checks as check

KINDS = {
    "learned positions": {},
    "Llama's parts": {"positions": "rotary", "norm": "rms", "mlp": "swiglu", "kv_heads": 2},
}


def _gpt(**kinds):
    """A GPT of 13 words with a context of 24, its numbers large enough to have opinions."""
    model = GPT(GPTConfig(13, 24, dim=16, heads=4, layers=2, **kinds)).eval()
    rng = np.random.default_rng(5)
    for parameter in model.parameters():
        parameter.data[...] = rng.normal(size=parameter.shape) * 0.4 + (parameter.ndim == 1)
    return model


with accelerated(threads=1):
    _switched_on = acceleration_enabled()
_texts = np.random.default_rng(6).integers(0, 13, (3, 20))

# %% check="write_without_reading_again"
for _name, _kinds in KINDS.items():
    _model = _gpt(**_kinds)
    with no_grad():
        _whole = _model(_texts).data
    _cache = KVCache.for_model(_model, batch=3)
    _pieces = [
        kvcache.decode(_model, _texts[:, a:b], _cache).data for a, b in ((0, 7), (7, 8), (8, 20))
    ]
    check.tensor(
        f"{_name}: logits of 20 tokens read as 7, 1 and 12",
        Tensor(np.concatenate(_pieces, axis=1)),
        _whole,
        atol=1e-4,
        why="keys and values of what was read do not change when something follows",
    )
    for _options in ({"temperature": 0}, {"temperature": 1.3, "top_k": 5, "seed": 9}):
        check.equal(
            f"{_name}: 40 tokens, also beyond the context of 24, {_options}",
            generate_cached(_model, [3, 1, 4], 40, **_options),
            generate(_model, [3, 1, 4], 40, **_options),
            why="a cache saves work; it must not change what is written",
        )

# %% check="write_for_several_at_once"
_model, _prompts = _gpt(), [[1], [5, 6, 7, 8], [2, 3]]
check.equal(
    "three texts of different lengths, in one batch and alone",
    generate_batch(_model, _prompts, 9, temperature=0),
    [generate(_model, prompt, 9, temperature=0) for prompt in _prompts],
    why="filling at the left is not seen, and positions count from each text's own first token",
)

# %% check="count_the_rows"
_rows = []


class _Counted(Linear):
    def forward(self, x):
        _rows.append(x.size // x.shape[-1])
        return super().forward(x)


_model = _gpt()
_layer = _model.blocks[1].mlp.up
_counted = _Counted(16, 64)
_counted.load_state_dict(_layer.state_dict())
_model.blocks[1].mlp.up = _counted
generate_cached(_model, [1, 2, 3, 4], 12, temperature=0)
check.true(
    "rows through the last block for 12 tokens after a prompt of 4",
    15 <= sum(_rows) <= 16,
    why="4 for the prompt, then one for each new token; the last one need not be read",
    got=sum(_rows),
)


# %% check="run_on_other_kernels_unnoticed"
def _vision():
    manual_seed(2)
    return Sequential(
        Conv2d(3, 16, 3, padding=1, bias=False), BatchNorm2d(16), ReLU(),
        Conv2d(16, 24, 3, padding=1), MaxPool2d(2), BatchNorm2d(24), ReLU(),
        Conv2d(24, 16, 3, stride=2, padding=1), ReLU(),
        Flatten(), Linear(16 * 9, 10), ReLU(), Linear(10, 10),
    )  # fmt: skip


_images = np.random.default_rng(7).normal(size=(6, 3, 11, 11)).astype(np.float32)
_classes = np.arange(6)


def _seen_by(model, optimizer, steps=4):
    """Losses of some steps, and the state after them."""
    losses = [
        training_step(
            model,
            CrossEntropyLoss(label_smoothing=0.1),
            optimizer,
            Tensor(_images),
            Tensor(_classes),
        )
        for _ in range(steps)
    ]
    return losses, model.state_dict()


def _read_by(model, optimizer, steps=3):
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = CrossEntropyLoss()(model(_texts[:, :-1]).reshape(-1, 13), _texts[:, 1:].ravel())
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, model.state_dict()


def _both(make, work, optimizer):
    """What `work` gives on the clear kernels and on the fast ones."""
    model = make()
    clear = work(model, optimizer(model))
    with accelerated(threads=2):
        model = make()
        fast = work(model, optimizer(model))
    return clear, fast


for _name, _make, _work, _optimizer in (
    ("a network of convolutions", _vision, _seen_by,
     lambda model: SGD(model.parameters(), 0.05, momentum=0.9, nesterov=True, weight_decay=1e-3)),
    ("a transformer", _gpt, _read_by, lambda model: AdamW(model.parameters(), 1e-3)),
):  # fmt: skip
    _clear, _fast = _both(_make, _work, _optimizer)
    check.true(
        f"{_name}: losses of a few steps",
        np.allclose(_clear[0], _fast[0], rtol=1e-3),
        why="the same values and gradients, to rounding",
        got=(_clear[0], _fast[0]),
    )
    _apart = max(
        float(np.abs(a - b).max() / (np.abs(a).max() + 1e-6))
        for a, b in zip(_clear[1].values(), _fast[1].values())
    )
    check.true(
        f"{_name}: largest difference of the weights",
        _apart < 2e-2,
        why="Adam divides by tiny gradients: rounding shows, mistakes show more",
        got=_apart,
    )

# %% check="leave_everything_as_it_was"
_before = _vision().eval()(Tensor(_images)).data
check.true("switched on inside of a block", _switched_on, why="that is what it is for")
with accelerated():
    pass
check.true("switched off afterwards", not acceleration_enabled(), why="the block has ended")
check.tensor(
    "outputs before and after, bit for bit",
    _vision().eval()(Tensor(_images)),
    _before,
    rtol=0,
    atol=0,
    why="the clear kernels are back",
)
