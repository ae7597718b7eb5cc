"""1998 on photographs: made-up ones, since CIFAR-10 is not in the repository."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from tito import course, data, judge, milestones, stage
from tito.data import Digits
from tito.judge import Made, Options, Part

HERE = course.find_milestone("1998").folder


def stripes(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Photographs (N, 3, 32, 32) of stripes: the class is direction and colour, never place."""
    rng = np.random.default_rng(seed)
    labels = (np.arange(count) % 10).astype(np.uint8)
    y, x = np.mgrid[:32, :32] * (2 * np.pi / 8)
    phase, noise = rng.uniform(0, 2 * np.pi, count), rng.normal(0, 20, (count, 3, 32, 32))
    angle = (labels % 5) * np.pi / 5
    along = np.cos(angle)[:, None, None] * x + np.sin(angle)[:, None, None] * y
    wave = np.sin(along + phase[:, None, None])[:, None]  # (N, 1, 32, 32)
    colour = np.where(labels < 5, 1, -1)[:, None, None, None] * np.array([1, 0, -1])[:, None, None]
    images = 128 + 60 * wave + 25 * colour + noise
    return images.clip(0, 255).astype(np.uint8), labels


@pytest.fixture
def photographs(monkeypatch: pytest.MonkeyPatch) -> Digits:
    found = Digits(*stripes(500, 1), *stripes(100, 2))
    monkeypatch.setattr(data, "load_cifar10", lambda folder=None: found)
    return found


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """run.py, with small batches and few images kept back."""
    loaded = stage.load(HERE / "run.py")
    monkeypatch.setattr(loaded, "VALIDATION", 100)
    monkeypatch.setattr(loaded, "LARGE", 20)
    monkeypatch.setattr(loaded, "train", partial(loaded.train, batch_size=20))
    return loaded


@pytest.fixture
def gate() -> ModuleType:
    loaded = stage.load(HERE / "gate.py")
    loaded.VALIDATION = dict.fromkeys(loaded.VALIDATION, 100)
    loaded.REACH = {**loaded.REACH, "cnn": 0.3}  # a few seconds of training, three times guessing
    return loaded


def part_of(gate: ModuleType, function: str) -> Part:
    options = Options(data="cifar10", long=True)
    return next(part for part in gate.parts(options) if part.function == function)


def made_by(run: ModuleType, part: Part, **options: Any) -> Made:
    left = getattr(run, part.function)(part.x, part.y, **options)
    outputs = run.predict(left["model"], part.held_out)
    return Made(left["before"], left["model"].state_dict(), outputs, left["history"])


def test_parts_are_what_was_asked_for(gate: ModuleType, photographs: Digits) -> None:
    names = {
        (option.data, option.long): [part.name for part in gate.parts(option)]
        for option in (Options(data="tinydigits"), Options(data="cifar10"),
                       Options(data="cifar10", long=True))
    }  # fmt: skip
    assert names["tinydigits", False] == ["tinydigits loops"]
    assert names["cifar10", False] == ["cifar10 mlp", "cifar10 cnn"]
    assert names["cifar10", True] == ["cifar10 mlp", "cifar10 cnn", "cifar10 residual"]
    assert all(part.resumes == (part.function != "digits")
               for part in gate.parts(Options(data="cifar10")))  # fmt: skip


def test_cnn_passes_its_gate_and_its_pictures_are_drawn(
    run: ModuleType, gate: ModuleType, photographs: Digits, tmp_path: Path
) -> None:
    part = part_of(gate, "cnn")
    made = made_by(run, part, epochs=3)
    findings = list(gate.verdict(part, made))
    assert [f.name for f in findings if not f.ok] == []
    assert {"filters", "outputs", "claim accuracy", "accuracy"} <= {f.name for f in findings}
    draw = stage.load(HERE / "pictures.py").draw
    paths = draw({part.name: (part, made)}, tmp_path)
    assert [path.name for path in paths] == [
        "curves.png", "cifar10_cnn_confusion.png", "cifar10_cnn_mistakes.png",
        "cifar10_cnn_filters.png"]  # fmt: skip
    assert all(path.stat().st_size > 3000 for path in paths)


def test_residual_network_learns_all_but_what_is_fixed(
    run: ModuleType, gate: ModuleType, photographs: Digits, tmp_path: Path
) -> None:
    part = part_of(gate, "residual")
    made = made_by(run, part, epochs=2)
    findings = {f.name: f.ok for f in gate.verdict(part, made)}
    learned = {"weights", "finite", "moved", "filters", "outputs", "claim accuracy", "claim loss"}
    assert learned <= {name for name, ok in findings.items() if ok}, findings
    fixed = gate.FIXED["residual"]
    still = [n for n in made.before if np.array_equal(made.before[n], made.after[n])]
    assert sorted(still) == sorted(fixed)
    draw = stage.load(HERE / "pictures.py").draw
    assert len(draw({part.name: (part, made)}, tmp_path)) == 4


def test_every_image_is_mirrored_in_every_other_epoch(run: ModuleType) -> None:
    images, labels = stripes(40, 3)
    kept, indices = images.copy(), np.arange(40)[::-1]
    now, mirrored = [0], []
    data = run.Alternating(images, labels, 0, lambda: now[0])
    for now[0] in range(4):
        seen, answers = data.__getitems__(indices)
        assert np.array_equal(answers, labels[::-1]) and np.array_equal(images, kept)
        mirrored.append((seen == kept[::-1, ..., ::-1]).all(axis=(1, 2, 3)))
        assert np.array_equal((seen == kept[::-1]).all(axis=(1, 2, 3)), ~mirrored[-1])
    one, two, three, four = mirrored
    assert np.array_equal(one, ~two) and np.array_equal(one, three) and np.array_equal(two, four)
    assert 10 < one.sum() < 30


@pytest.mark.parametrize("shape", [(8, 8), (16, 144)])
def test_orthogonal_step_keeps_directions_and_evens_strengths(
    run: ModuleType, shape: tuple[int, int]
) -> None:
    """Against the singular value decomposition; strengths from 1 down to a fifth."""
    rng = np.random.default_rng(0)
    u, _, v = np.linalg.svd(rng.standard_normal(shape), full_matrices=False)
    found = run.orthogonal((u * np.geomspace(1, 0.2, shape[0])) @ v)
    strengths = u.T @ found @ v.T
    assert np.abs(strengths - np.diag(np.diag(strengths))).max() < 1e-6
    assert np.diag(strengths).min() > 0.68 and np.diag(strengths).max() < 1.21


@pytest.mark.parametrize("function", ["mlp", "cnn", "residual"])
def test_gate_computes_what_the_framework_says(
    run: ModuleType, gate: ModuleType, photographs: Digits, function: str, monkeypatch: Any
) -> None:
    """Untrained networks, with running statistics that are not 0 and 1."""
    part, kept = part_of(gate, function), {}
    monkeypatch.setattr(run, "train", lambda title, net, *rest, **options: kept.update(net=net))
    getattr(run, function)(part.x, part.y)
    state = kept["net"].state_dict()
    assert {name: array.shape for name, array in state.items()} == gate.shapes(function)
    rng = np.random.default_rng(0)
    for name, array in state.items():
        if "norm" in name:
            array[...] = rng.uniform(0.5, 1.5, array.shape)
    kept["net"].load_state_dict(state)
    some = part.held_out[:20]
    np.testing.assert_allclose(
        run.predict(kept["net"], some), gate.logits(part, some, state), rtol=1e-3, atol=1e-3
    )


def test_filter_that_only_shrinks_is_noticed(gate: ModuleType) -> None:
    before = {"w": np.random.default_rng(0).standard_normal((4, 2, 3, 3)).astype(np.float32)}
    after = {"w": before["w"] + 0.1 * np.random.default_rng(1).standard_normal((4, 2, 3, 3))}
    after["w"][2] = 0.8 * before["w"][2]
    found = judge.turned(Made(before, after, np.zeros(1), {}), ["w"], "09_spatial")
    assert not found.ok and found.guilty == "09_spatial" and "w[2]" in found.got


def test_interrupted_training_is_the_same_training(
    run: ModuleType, gate: ModuleType, photographs: Digits, tmp_path: Path, monkeypatch: Any
) -> None:
    part, file = part_of(gate, "mlp"), tmp_path / "mlp.ckpt"
    whole = made_by(run, part, epochs=3)

    class PowerCut(Exception):
        pass

    def cut(self: Any, trainer: Any) -> None:
        if trainer.epoch == 2:
            raise PowerCut

    with monkeypatch.context() as patch:
        patch.setattr(run.Watched, "report", cut)
        with pytest.raises(PowerCut):
            made_by(run, part, epochs=3, checkpoint=file)
    resumed = made_by(run, part, epochs=3, checkpoint=file)
    assert resumed.history["loss"] == whole.history["loss"]
    for name, array in whole.after.items():
        assert np.array_equal(array, resumed.after[name]), name


def test_checkpoints_are_kept_until_the_training_is_complete(tmp_path: Path) -> None:
    from tito import workspace

    ws, here = workspace.init(tmp_path / "my-torch"), course.find_milestone("1998")
    verdict = milestones.Verdict(here, Options(seed=3))
    part = Part("cifar10 cnn", "cnn", *[np.zeros(1)] * 4, resumes=True)
    path = Path(milestones._part_options(ws, verdict, part)["checkpoint"])
    assert path.parent.is_dir() and not milestones.unfinished(ws, here, verdict.options)
    path.write_bytes(b"half of a training")
    assert milestones.unfinished(ws, here, verdict.options) == [path]
    assert milestones.unfinished(ws, here, Options(seed=4)) == []
    assert milestones.unfinished(ws, here, Options(seed=3, epochs=2)) == []
    milestones._forget(ws, here, verdict.options)
    assert not path.exists()


def test_numpy_of_the_gates_agrees_with_pytorch() -> None:
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((2, 3, 8, 6)), rng.standard_normal((4, 3, 3, 3))
    for padding in (0, 1, 2):
        expected = torch.nn.functional.conv2d(*map(torch.from_numpy, (x, w)), padding=padding)
        np.testing.assert_allclose(judge.conv2d(x, w, padding), expected.numpy(), atol=1e-10)
    pooled = torch.nn.functional.max_pool2d(torch.from_numpy(x), 2)
    np.testing.assert_array_equal(judge.max_pool(x), pooled.numpy())
    logits, classes = rng.standard_normal((5, 7)), rng.integers(0, 7, 5)
    for smoothing in (0.0, 0.1):
        loss = torch.nn.functional.cross_entropy(
            *map(torch.from_numpy, (logits, classes)), label_smoothing=smoothing
        )
        assert judge.cross_entropy(logits, classes, smoothing) == pytest.approx(loss.item())


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda raw: raw[:-1], "holds 30,729,999 bytes"),
        (lambda raw: raw + b"\0", "more than 30,730,000 bytes"),
        (lambda raw: b"\x0a" + raw[1:], "label above 9"),
    ],
)
def test_damaged_cifar_file_is_an_error_that_names_it(
    tmp_path: Path, damage: Any, said: str
) -> None:
    whole = bytes(30_730_000)
    for file in data.find("cifar10").files:
        (tmp_path / file.name).write_bytes(whole)
    bad = tmp_path / "data_batch_3.bin"
    bad.write_bytes(damage(whole))
    with pytest.raises(data.DataError, match=rf"data_batch_3.bin .*{said}.*\nNext: tito data"):
        data.load_cifar10(tmp_path)
