"""Hidden variants of module 07: other seeds and shapes, and a resume in a fresh process."""

import json
import math
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from tinytorch.core.activations import ReLU
from tinytorch.core.autograd import is_grad_enabled
from tinytorch.core.layers import Dropout, Linear, Sequential
from tinytorch.core.losses import CrossEntropyLoss, MSELoss
from tinytorch.core.optimizers import SGD, Adam
from tinytorch.core.tensor import Tensor, default_generator, manual_seed
from tinytorch.core.training import (
    CheckpointError,
    EarlyStopping,
    Trainer,
    WarmupCosine,
    accumulated_step,
    accuracy,
    batches,
    clip_grad_norm_,
    evaluate,
    load_checkpoint,
    save_checkpoint,
    train_loop,
    training_step,
    warmup_cosine,
)


def regression(rows, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, 3)).astype(np.float32)
    return x, (x @ [[1.0], [-2.0], [0.5]] + 0.1).astype(np.float32)


def linear_run(seed=0, **options):
    manual_seed(seed)
    model = Linear(3, 1)
    return Trainer(model, MSELoss(), SGD(model.parameters(), lr=0.05), metric=None, **options)


def full_run(seed=3, lr=0.01):
    """Everything that has state: dropout, Adam, schedule, clipping, accumulation, shuffling."""
    manual_seed(seed)
    model = Sequential(Linear(5, 16), ReLU(), Dropout(0.3), Linear(16, 4))
    optimizer = Adam(model.parameters(), lr=lr)
    schedule = WarmupCosine(optimizer, 5, 60, min_lr=1e-4)
    return Trainer(
        model,
        CrossEntropyLoss(),
        optimizer,
        batch_size=7,
        scheduler=schedule,
        clip_norm=0.5,
        accumulate=2,
        seed=seed,
    )


def classes(rows=60, seed=8):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, 5)).astype(np.float32)
    return x, x[:, :4].argmax(axis=1)


def assert_same(one, other):
    """Nested dicts and lists equal bit for bit."""
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert list(one) == list(other)
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, np.ndarray):
        assert one.dtype == other.dtype and one.shape == other.shape
        assert one.tobytes() == other.tobytes()
    elif isinstance(one, list):
        assert len(one) == len(other)
        for a, b in zip(one, other):
            assert_same(a, b)
    else:
        assert one == other


# batches and accuracy


def test_batches_cover_every_row_once_with_its_target():
    x, y = np.arange(34.0).reshape(17, 2), np.arange(17) + 100
    parts = list(batches(x, y, 5, shuffle=True, generator=np.random.default_rng(9)))
    assert [part[0].shape for part in parts] == [(5, 2), (5, 2), (5, 2), (2, 2)]
    targets = np.concatenate([part[1].data for part in parts])
    assert sorted(targets) == list(y)
    rows = np.concatenate([part[0].data for part in parts])
    np.testing.assert_array_equal(rows[:, 0] / 2 + 100, targets)


def test_batches_of_tensors_keep_order_without_shuffle():
    x, y = Tensor(np.arange(6.0)), Tensor(np.arange(6.0) * 2)
    parts = list(batches(x, y, 4))
    assert [part[0].tolist() for part in parts] == [[0, 1, 2, 3], [4, 5]]
    assert [part[1].tolist() for part in parts] == [[0, 2, 4, 6], [8, 10]]


def test_batches_shuffle_all_rows_anew_every_epoch():
    generator = np.random.default_rng(2)
    x = np.arange(32.0)
    epochs = [[p.tolist() for p, _ in batches(x, x, 8, True, generator)] for _ in range(3)]
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]
    assert all(max(epoch[0]) >= 8 for epoch in epochs)
    replay = np.random.default_rng(2)
    assert [p.tolist() for p, _ in batches(x, x, 8, True, replay)] == epochs[0]


def test_batches_larger_than_the_data_are_one_batch():
    assert [len(x) for x, _ in batches(np.zeros((3, 1)), np.zeros(3), 100)] == [3]


def test_batches_refuse_different_lengths():
    with pytest.raises(ValueError, match=r"7.*6"):
        list(batches(np.zeros((7, 1)), np.zeros(6), 2))


def test_accuracy_is_the_share_of_right_rows():
    logits = np.random.default_rng(1).normal(size=(50, 6))
    targets = np.random.default_rng(2).integers(0, 6, 50)
    expected = sum(int(np.argmax(row) == t) for row, t in zip(logits, targets)) / 50
    assert accuracy(Tensor(logits), targets) == pytest.approx(expected)


def test_accuracy_of_sequences_counts_every_place():
    logits = Tensor([[[1, 0], [0, 1]], [[1, 0], [1, 0]]])
    assert accuracy(logits, [[0, 1], [1, 0]]) == pytest.approx(0.75)


@pytest.mark.parametrize("targets", [np.zeros((4, 1)), np.zeros(3), np.zeros((1, 4))])
def test_accuracy_refuses_targets_of_another_shape(targets):
    with pytest.raises(ValueError, match=r"\(4, 3\)"):
        accuracy(Tensor(np.zeros((4, 3))), targets)


def test_accuracy_refuses_one_column():
    with pytest.raises(ValueError, match=r"\(5, 1\)"):
        accuracy(Tensor(np.ones((5, 1))), np.zeros(5))


# clipping


def test_clip_grad_norm_matches_the_concatenated_vector():
    rng = np.random.default_rng(5)
    params = [Tensor(np.zeros(shape)) for shape in [(3, 4), (4,), (2, 1, 2)]]
    for p in params:
        p.grad = rng.normal(size=p.shape).astype(np.float32)
    flat = np.concatenate([p.grad.ravel() for p in params]).astype(np.float64)
    length = math.sqrt((flat**2).sum())
    assert clip_grad_norm_(iter(params), 0.7) == pytest.approx(length, rel=1e-6)
    clipped = np.concatenate([p.grad.ravel() for p in params])
    np.testing.assert_allclose(clipped, flat * 0.7 / (length + 1e-6), rtol=1e-5)
    assert clipped.dtype == np.float32


def test_clip_grad_norm_leaves_short_gradients_bit_for_bit():
    p = Tensor([0.0, 0.0])
    p.grad = np.array([0.3, -0.1], dtype=np.float32)
    before = p.grad.copy()
    clip_grad_norm_(iter([p]), 1.0)
    np.testing.assert_array_equal(p.grad, before)


def test_clip_grad_norm_survives_squares_beyond_float32():
    p = Tensor([0.0, 0.0])
    p.grad = np.array([3e18, 4e18], dtype=np.float32)
    assert clip_grad_norm_([p], 1.0) == pytest.approx(5e18, rel=1e-5)
    np.testing.assert_allclose(p.grad, [0.6, 0.8], rtol=1e-5)


# the step


def test_training_step_is_gradient_descent_by_hand():
    x, y = regression(8)
    run = linear_run(1)
    w, b = run.model.weight.data.copy(), run.model.bias.data.copy()
    loss = training_step(run.model, MSELoss(), run.optimizer, Tensor(x), Tensor(y))
    error = x @ w.T + b - y
    assert loss == pytest.approx((error**2).mean(), rel=1e-5)
    np.testing.assert_allclose(run.model.weight.data, w - 0.05 * (2 * error.T @ x / 8), rtol=1e-4)
    np.testing.assert_allclose(run.model.bias.data, b - 0.05 * 2 * error.mean(0), rtol=1e-4)


def test_training_step_drops_gradients_that_were_there():
    x, y = regression(8)
    weights = []
    for stale in (None, np.full((1, 3), 50.0, dtype=np.float32)):
        run = linear_run(2)
        run.model.weight.grad = stale
        training_step(run.model, MSELoss(), run.optimizer, Tensor(x), Tensor(y))
        weights.append(run.model.weight.data)
    np.testing.assert_array_equal(*weights)


def test_training_step_clips_before_the_update():
    x, y = regression(8)
    run = linear_run(3)
    before = np.concatenate([p.data.ravel() for p in run.model.parameters()])
    training_step(run.model, MSELoss(), run.optimizer, Tensor(x), Tensor(100 * y), clip_norm=2.0)
    after = np.concatenate([p.data.ravel() for p in run.model.parameters()])
    assert np.linalg.norm(after - before) == pytest.approx(0.05 * 2.0, rel=1e-4)


@pytest.mark.parametrize("cuts", [[12], [4, 8], [5, 10, 11], [1, 2, 3]])
def test_accumulated_step_equals_the_whole_batch(cuts):
    x, y = regression(12, seed=4)
    whole, parts = linear_run(5), linear_run(5)
    expected = training_step(whole.model, MSELoss(), whole.optimizer, Tensor(x), Tensor(y), 1.0)
    pieces = [
        (Tensor(a), Tensor(b)) for a, b in zip(np.split(x, cuts), np.split(y, cuts)) if len(a)
    ]
    loss = accumulated_step(parts.model, MSELoss(), parts.optimizer, pieces, 1.0)
    assert loss == pytest.approx(expected, rel=1e-5)
    for a, b in zip(whole.model.parameters(), parts.model.parameters()):
        np.testing.assert_allclose(a.data, b.data, rtol=1e-5, atol=1e-7)


def test_accumulated_step_of_one_part_is_the_training_step_bit_for_bit():
    x, y = (Tensor(a) for a in regression(12, seed=4))
    one, other = linear_run(5), linear_run(5)
    a = training_step(one.model, MSELoss(), one.optimizer, x, y, 0.5)
    b = accumulated_step(other.model, MSELoss(), other.optimizer, [(x, y)], 0.5)
    assert a == b
    assert_same(one.model.state_dict(), other.model.state_dict())


def test_accumulated_step_holds_the_activations_of_one_part():
    manual_seed(0)
    model = Sequential(Linear(8, 256), ReLU(), Linear(256, 1))
    optimizer = SGD(model.parameters(), lr=0.0)
    x, y = Tensor(np.ones((1024, 8))), Tensor(np.ones((1024, 1)))
    parts = [(x[i : i + 64], y[i : i + 64]) for i in range(0, 1024, 64)]
    peaks = []
    for group in ([(x, y)], parts):
        tracemalloc.start()
        accumulated_step(model, MSELoss(), optimizer, group)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] / 4


# schedule and early stopping


@pytest.mark.parametrize("base, total, low", [(0.3, 50, 0.0), (1e-3, 7, 1e-5)])
def test_warmup_cosine_without_warmup_follows_the_recursion_of_cosine_annealing(base, total, low):
    # lr[t + 1] - low = (lr[t] - low) * (1 + cos(π (t + 1) / T)) / (1 + cos(π t / T))
    lr = base
    for step in range(total):
        assert warmup_cosine(step, base, 0, total, low) == pytest.approx(lr)
        ratio = (1 + math.cos(math.pi * (step + 1) / total)) / (
            1 + math.cos(math.pi * step / total)
        )
        lr = low + (lr - low) * ratio
    assert warmup_cosine(total, base, 0, total, low) == pytest.approx(low)
    assert warmup_cosine(2 * total, base, 0, total, low) == pytest.approx(low)


def test_warmup_cosine_climbs_in_equal_steps_and_reaches_the_top():
    rates = [warmup_cosine(step, 0.5, 10, 100) for step in range(11)]
    np.testing.assert_allclose(np.diff(rates[:10]), 0.05)
    assert rates[9] == pytest.approx(0.5) and rates[10] == pytest.approx(0.5)


def test_warmup_cosine_spends_the_wave_on_the_steps_after_the_climb():
    # 20 of 60 steps climb; a quarter, half and all of the other 40 are at 30, 40 and 60.
    rates = [warmup_cosine(step, 2.0, 20, 60) for step in (30, 40, 60)]
    np.testing.assert_allclose(rates, [1 + math.sqrt(0.5), 1.0, 0.0], atol=1e-12)


def test_schedule_sets_the_rate_of_the_first_step_and_of_every_next_one():
    optimizer = SGD([Tensor([1.0])], lr=0.2)
    schedule = WarmupCosine(optimizer, 2, 6)
    rates = [optimizer.lr]
    for _ in range(6):
        schedule.step()
        rates.append(optimizer.lr)
    np.testing.assert_allclose(rates, [warmup_cosine(s, 0.2, 2, 6) for s in range(7)])
    with pytest.raises(ValueError, match="warmup_steps 6"):
        WarmupCosine(optimizer, 6, 6)


@pytest.mark.parametrize(
    "patience, min_delta, losses, stops",
    [
        (1, 0.0, [3.0, 2.0, 1.0], False),
        (1, 0.0, [3.0, 3.0], True),
        (3, 0.0, [1.0, 2.0, 2.0, 0.9, 2.0, 2.0], False),
        (3, 0.0, [1.0, 2.0, 2.0, 0.9, 2.0, 2.0, 1.5], True),
        (2, 0.5, [2.0, 1.6, 1.4], False),
        (2, 0.5, [2.0, 1.6, 1.55], True),
        (2, 0.0, [math.nan, math.nan], True),
    ],
)
def test_early_stopping_counts_epochs_since_the_best(patience, min_delta, losses, stops):
    assert EarlyStopping(patience, min_delta).should_stop(losses) is stops


def test_early_stopping_needs_patience():
    with pytest.raises(ValueError, match="patience 0"):
        EarlyStopping(0)


# evaluation and the loop


@pytest.mark.parametrize("mode", [True, False])
def test_evaluate_is_a_mean_over_rows_without_dropout_or_graph(mode):
    manual_seed(0)
    model = Sequential(Linear(3, 1), Dropout(0.9)).train(mode)
    x, y = regression(11)
    recorded = []

    def loss_fn(output, target):
        recorded.append(is_grad_enabled())
        return MSELoss()(output, target)

    scores = evaluate(model, loss_fn, batches(x, y, 4))
    w, b = model[0].weight.data, model[0].bias.data
    assert scores["loss"] == pytest.approx(float(((x @ w.T + b - y) ** 2).mean()), rel=1e-5)
    assert recorded == [False] * 3 and is_grad_enabled()
    assert model.training is mode and model[1].training is mode


def test_evaluate_of_nothing_is_an_error():
    with pytest.raises(ValueError, match="no batches"):
        evaluate(Linear(1, 1), MSELoss(), [])


def test_fit_learns_a_line_and_records_every_epoch():
    run = linear_run(0, batch_size=16)
    history = run.fit(regression(64), 60, validation=regression(32, seed=1))
    assert [len(values) for values in history.values()] == [60, 60] and run.epoch == 60
    assert history["val_loss"][-1] < 1e-3 < history["val_loss"][0]


@pytest.mark.parametrize("accumulate, steps", [(1, 5), (2, 3), (5, 1), (9, 1)])
def test_train_epoch_makes_one_update_per_group(accumulate, steps):
    run = linear_run(0, batch_size=4, accumulate=accumulate)
    run.scheduler = WarmupCosine(run.optimizer, 0, 100)
    run.train_epoch(regression(17))
    assert run.scheduler.steps == steps


def test_train_epoch_reports_the_mean_over_rows_and_clips_every_update():
    data = regression(11)
    run = linear_run(0, batch_size=4, clip_norm=0.1)
    run.optimizer.lr = 0.0
    assert run.train_epoch(data) == pytest.approx(run.evaluate(data)["loss"], rel=1e-5)
    run.optimizer.lr = 0.5
    before = run.model.weight.data.copy()
    run.train_epoch(data)
    moved = np.linalg.norm(run.model.weight.data - before)
    assert 0 < moved <= 3 * 0.5 * 0.1 * 1.001  # three updates, each at most lr * clip_norm long


def test_train_epoch_trains_in_train_mode_and_in_a_new_order():
    run = linear_run(0, batch_size=4)
    run.model.eval()
    orders = []

    def loss_fn(output, target):
        orders.append(target.tolist())
        assert run.model.training
        return MSELoss()(output, target)

    run.loss_fn = loss_fn
    run.train_epoch(regression(12))
    run.train_epoch(regression(12))
    assert orders[:3] != orders[3:]


def test_on_epoch_sees_the_epoch_as_finished():
    run, seen = linear_run(0), []
    run.fit(regression(8), 3, on_epoch=lambda trainer: seen.append(trainer.state_dict()))
    assert [state["epoch"] for state in seen] == [1, 2, 3]
    assert [len(state["history"]["loss"]) for state in seen] == [1, 2, 3]


def test_trainer_takes_a_list_of_batches_and_refuses_an_empty_generator():
    x, y = regression(12)
    parts = [(Tensor(x[:8]), Tensor(y[:8])), (Tensor(x[8:]), Tensor(y[8:]))]
    run = linear_run(0)
    run.fit(parts, 2, validation=parts)
    assert len(run.history["loss"]) == 2
    with pytest.raises(ValueError, match="no batches"):
        run.fit(iter(parts), 2)


def test_fit_with_early_stopping_stops_and_stays_stopped():
    run = linear_run(0)
    run.optimizer.lr = 0.0
    data = regression(8)
    for _ in range(2):
        run.fit(data, 9, validation=data, early_stopping=EarlyStopping(3))
        assert run.epoch == 4
    with pytest.raises(ValueError, match="validation"):
        run.fit(data, 1, early_stopping=EarlyStopping(3))


@pytest.mark.parametrize("setting", ["batch_size", "accumulate"])
def test_trainer_refuses_sizes_below_one(setting):
    with pytest.raises(ValueError, match=f"{setting} 0"):
        linear_run(0, **{setting: 0})


def test_train_loop_is_the_trainer_in_one_call():
    x, y = classes()
    histories = []
    for call in range(2):
        run = full_run()
        if call:
            history = run.fit((x, y), 2, validation=(x, y))
        else:
            history = train_loop(
                run.model,
                (x, y),
                run.loss_fn,
                run.optimizer,
                epochs=2,
                batch_size=7,
                validation=(x, y),
                scheduler=run.scheduler,
                clip_norm=0.5,
                accumulate=2,
                seed=3,
            )
        histories.append(history)
    assert histories[0] == histories[1]
    assert list(histories[0]) == ["loss", "val_loss", "val_accuracy"]


# checkpoints


def test_checkpoint_brings_back_every_kind_of_value(tmp_path):
    state = {
        "arrays": {
            "f4": np.array([[1.5, np.nan]], np.float32),
            "i8": np.array(7),
            "empty": np.zeros((0, 2)),
        },
        "by number": {0: {"m": np.arange(3.0)}, 10: {}},
        "history": [0.1 + 0.2, math.inf, 1e-300],
        "big": 2**127 + 1,
        "none": None,
        "text": 'ä " \\ {}',
        "turned": np.arange(6.0).reshape(2, 3).T,
    }
    save_checkpoint(tmp_path / "a.ckpt", state)
    assert_same(load_checkpoint(tmp_path / "a.ckpt"), state)


def test_checkpoint_is_plain_safetensors_with_json(tmp_path):
    run = full_run()
    run.fit(classes(), 1)
    run.save(tmp_path / "run.ckpt")
    raw = (tmp_path / "run.ckpt").read_bytes()
    arrays = safetensors.numpy.load(raw)
    np.testing.assert_array_equal(arrays["model/0.weight"], run.model[0].weight.data)
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    assert sorted(header["__metadata__"]) == ["crc32", "state"]
    json.loads(header["__metadata__"]["state"])


def test_failed_save_leaves_the_old_checkpoint_alone(tmp_path):
    path = tmp_path / "run.ckpt"
    save_checkpoint(path, {"epoch": 1})
    with pytest.raises(TypeError):
        save_checkpoint(path, {"epoch": {1, 2}})
    assert load_checkpoint(path) == {"epoch": 1}
    assert os.listdir(tmp_path) == ["run.ckpt"]


def test_save_interrupted_at_the_swap_leaves_the_old_checkpoint_alone(tmp_path, monkeypatch):
    path = tmp_path / "run.ckpt"
    save_checkpoint(path, {"epoch": 1})

    def power_cut(*_):
        raise OSError("power cut")

    for name in ("replace", "rename"):
        monkeypatch.setattr(os, name, power_cut)
        monkeypatch.setattr(Path, name, power_cut)
    with pytest.raises(OSError, match="power cut"):
        save_checkpoint(path, {"epoch": 2})
    assert load_checkpoint(path) == {"epoch": 1}


def test_every_kind_of_damage_is_named(tmp_path):
    path = tmp_path / "run.ckpt"
    save_checkpoint(path, {"w": np.arange(40, dtype=np.float32), "epoch": 4})
    raw = path.read_bytes()
    damaged = [b"", raw[:7], raw[:40], raw[:-1], raw + b"x", os.urandom(300), b"\x80\x04" + raw]
    damaged += [raw[:i] + bytes([raw[i] ^ 4]) + raw[i + 1 :] for i in range(0, len(raw), 13)]
    for number, data in enumerate(damaged):
        path.write_bytes(data)
        try:
            back = load_checkpoint(path)
        except CheckpointError as error:
            assert "run.ckpt" in str(error)
        else:  # only a byte of padding may differ without changing the content
            assert back["epoch"] == 4 and back["w"].tolist() == list(range(40)), number


def test_checkpoint_of_another_run_is_refused_and_changes_nothing(tmp_path):
    run = full_run()
    run.fit(classes(), 1)
    run.save(tmp_path / "run.ckpt")
    other = full_run(seed=5)
    other.batch_size = 8
    before = other.state_dict()
    with pytest.raises(CheckpointError, match="batch_size 7"):
        other.load(tmp_path / "run.ckpt")
    assert_same(other.state_dict(), before)
    manual_seed(0)
    small = Sequential(Linear(5, 3), ReLU(), Dropout(0.3), Linear(3, 4))
    optimizer = Adam(small.parameters())
    wrong = Trainer(
        small,
        CrossEntropyLoss(),
        optimizer,
        batch_size=7,
        accumulate=2,
        clip_norm=0.5,
        scheduler=WarmupCosine(optimizer, 5, 60),
    )
    with pytest.raises(ValueError, match=r"\(16, 5\)"):
        wrong.load(tmp_path / "run.ckpt")


def test_state_dict_is_a_snapshot():
    run = full_run()
    run.fit(classes(), 1)
    state = run.state_dict()
    copy = json.loads(json.dumps(state, default=lambda a: a.tolist()))
    run.fit(classes(), 1)
    assert json.loads(json.dumps(state, default=lambda a: a.tolist())) == copy


def test_state_without_a_scheduler_loads_and_is_not_shared():
    run, other = linear_run(0), linear_run(1)
    run.fit(regression(8), 1)
    state = run.state_dict()
    assert state["scheduler"] is None
    other.load_state_dict(state)
    other.fit(regression(8), 2)
    assert len(state["history"]["loss"]) == 1 and len(run.history["loss"]) == 1


def test_resume_is_a_fixed_point_for_every_split():
    data = classes()
    whole = full_run()
    whole.fit(data, 4, validation=data)
    expected = whole.state_dict()
    for first in (0, 1, 3):
        run = full_run()
        run.fit(data, first, validation=data)
        state = run.state_dict()
        resumed = full_run(seed=77)
        resumed.load_state_dict(state)
        resumed.fit(data, 4 - first, validation=data)
        assert_same(resumed.state_dict(), expected)


SECOND_HALF = """
import sys
from test_training import classes, full_run
run = full_run(seed=1234)   # other weights, other random numbers, all replaced by load
run.load(sys.argv[1])
assert run.epoch == 5
run.fit(classes(), 5, validation=classes(seed=9))
run.save(sys.argv[2])
"""


def test_five_epochs_and_five_in_a_fresh_process_equal_ten(tmp_path):
    data, validation = classes(), classes(seed=9)
    whole = full_run()
    whole.fit(data, 10, validation=validation)
    whole.save(tmp_path / "ten.ckpt")
    after_ten = default_generator.random(3)

    half = full_run()
    half.fit(data, 5, validation=validation)
    half.save(tmp_path / "five.ckpt")
    paths = [str(tmp_path / "five.ckpt"), str(tmp_path / "resumed.ckpt")]
    done = subprocess.run(
        [sys.executable, "-c", SECOND_HALF, *paths],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
    )
    assert done.returncode == 0, done.stderr

    resumed, ten = load_checkpoint(paths[1]), load_checkpoint(tmp_path / "ten.ckpt")
    assert ten["epoch"] == 10 and len(ten["history"]["val_accuracy"]) == 10
    assert_same(resumed, ten)
    full_run().load(paths[1])
    np.testing.assert_array_equal(default_generator.random(3), after_ten)
