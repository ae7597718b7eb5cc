"""2024 by itself: its judge against hand counts and against records that were tampered with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from tito import course, data, stage
from tito.judge import Made, Options, Part
from tito.workspace import WorkspaceError

pytestmark = pytest.mark.usefixtures("one_thread")
HERE = course.find_milestone("2024").folder


@pytest.fixture(scope="module")
def run() -> ModuleType:
    return stage.load(HERE / "run.py")


@pytest.fixture
def gate() -> ModuleType:
    found = stage.load(HERE / "gate.py")
    found.FASTER = dict.fromkeys(found.FASTER, 3.0)
    return found


@pytest.fixture(scope="module")
def seen(run: ModuleType) -> tuple[Part, Made]:
    """The network for digits, trained a little, and optimised."""
    digits, part = data.load_tinydigits(), None
    run.manual_seed(0)
    net = run.Sequential(run.Conv2d(1, 6, 3, bias=False), run.ReLU(), run.Flatten(),
                         run.Linear(216, 10))  # fmt: skip
    run.tune(net, teacher(run), digits.train_images, digits.train_labels, 3, 0.01, 0)
    part = Part("vision", "vision", digits.train_images, digits.train_labels,
                digits.test_images, digits.test_labels, extra=net.state_dict())  # fmt: skip
    left = run.vision(part.x, part.y, epochs=4, extra=part.extra)
    outputs = run.predict(left["model"], part.held_out)
    after = left["model"].state_dict()
    return part, Made(left["before"], after, outputs, left["history"], seconds=100.0)


def teacher(run: ModuleType) -> Any:
    """One that knows nothing, so that the labels teach."""
    net = run.Sequential(run.Flatten(), run.Linear(64, 10))
    for p in net.parameters():
        p.data[...] = 0
    return net.eval()


def failing(gate: ModuleType, part: Part, made: Made) -> Any:
    return next((finding for finding in gate.verdict(part, made) if not finding.ok), None)


def told(made: Made, **history: Any) -> Made:
    return replace(made, history={**made.history, **history})


# Counted by hand ----------------------------------------------------------------------------------


def test_half_bytes_by_hand(gate: ModuleType) -> None:
    packed = np.array([0xE3, 0x05], dtype=np.uint8)  # 3, -2, 5 and the filling
    assert gate.integers(packed, (3,)).tolist() == [3, -2, 5]


def test_interval_of_equal_samples_has_no_width(gate: ModuleType) -> None:
    assert gate.interval(np.full(8, 2.0)) == (2.0, 2.0, 2.0)
    middle, low, high = gate.interval(np.arange(1.0, 10.0))
    assert middle == 5 and 1 < low < 5 < high < 9


def test_flops_by_hand(gate: ModuleType, seen: tuple[Part, Made]) -> None:
    part, made = seen
    file = gate.read(made.after["first/file"])
    # 6 filters of 9 weights in 6 * 6 places, then 216 * 10 weights and 10 biases
    assert gate.flops(file, part) == 2 * 6 * 9 * 36 + 2 * 2160 + 10


def test_share_has_the_interval_of_wilson() -> None:
    # of 10 of 20: 0.299 to 0.701
    low, high = stage.load(HERE / "pictures.py").wilson(0.5, 20)
    assert (low, high) == pytest.approx((0.2993, 0.7007), abs=1e-4)


def test_file_that_is_cut_off_is_none(gate: ModuleType, seen: tuple[Part, Made]) -> None:
    raw = seen[1].after["integers/file"]
    assert gate.read(raw) is not None
    assert (
        gate.read(raw[:-5]) is None and gate.read(raw[:40]) is None and gate.read(raw[:0]) is None
    )


# Networks -----------------------------------------------------------------------------------------


def test_folded_network_says_the_same(run: ModuleType) -> None:
    rng = np.random.default_rng(0)
    norm = run.BatchNorm2d(4)
    norm.weight.data[...] = rng.uniform(0.5, 2, 4)
    norm.bias.data[...], norm.running_mean.data[...] = rng.normal(size=(2, 4))
    norm.running_var.data[...] = rng.uniform(0.5, 2, 4)
    net = run.Sequential(run.Conv2d(3, 4, 3, padding=1, bias=False), run.MaxPool2d(2), norm,
                         run.ReLU()).eval()  # fmt: skip
    x = run.Tensor(rng.normal(size=(2, 3, 8, 8)))
    assert not any(isinstance(layer, run.BatchNorm2d) for layer in run.folded(net))
    np.testing.assert_allclose(run.folded(net)(x).data, net(x).data, rtol=1e-4, atol=1e-5)
    norm.weight.data[0] = -1  # a maximum does not commute with a scale below 0
    assert any(isinstance(layer, run.BatchNorm2d) for layer in run.folded(net))


def test_gpt_is_four_times_smaller_and_unpacks_to_what_its_file_says(
    run: ModuleType, gate: ModuleType
) -> None:
    run.manual_seed(0)
    net = run.GPT(run.GPTConfig(512, bias=False, **run.TALKS)).eval()
    raw = run.stored(run.packed(net))
    assert len(run.stored(net)) > 4 * len(raw)
    again = run.unpacked(run.restored(raw))
    assert again.head.weight is again.embedding.weight
    tokens = np.random.default_rng(0).integers(0, 512, (2, 12))
    weights = gate.spoken(gate.read(np.frombuffer(raw, np.uint8)))
    with run.no_grad():
        said = again(run.Tensor(tokens)).data
    np.testing.assert_allclose(gate.talker().run(tokens, weights)[0], said, atol=2e-3)


# Judging ------------------------------------------------------------------------------------------


def test_honest_record_holds(gate: ModuleType, seen: tuple[Part, Made]) -> None:
    assert failing(gate, *seen) is None
    assert len(gate.sample(*seen)) == 5


def test_what_was_tampered_with_is_found(gate: ModuleType, seen: tuple[Part, Made]) -> None:
    part, made = seen
    h, key = made.history, "kernels, one"
    work, said = h[f"{key}: work"], h[f"{key}: said"]
    swapped = made.outputs.copy()
    swapped[1] = swapped[1][::-1]
    first, small = made.after["first/file"], made.after["integers/file"]
    quick = [0.01 * s for s in h[f"{key}: seconds"]]
    cases = [
        ("files", "15", replace(made, after={**made.after, "integers/file": small[:-3]})),
        ("kept", "15", replace(made, after={**made.after, "first/file": small})),
        ("outputs of kernels", "18", replace(made, outputs=swapped)),
        ("removed", "16", replace(made, after={**made.after, "channels/file": first})),
        ("FLOPs", "14", told(made, flops=[1, 1])),
        (f"calls of {key}", "19", told(made, **{f"{key}: work": [1, 3, *work[2:]]})),
        (f"calls of {key}", "19", told(made, **{f"{key}: seconds": quick})),
        (f"median of {key}", "19", told(made, **{f"{key}: said": [0.5 * said[0], *said[1:]]})),
        (f"ratio of {key}", "19", told(made, **{f"{key}: said": [*said[:3], 99.0, *said[4:]]})),
        ("wall", "19", replace(made, seconds=0.1)),
        ("sooner", "19", told(made, waits=[w + 0.2 for w in h["waits"]])),
    ]  # fmt: skip
    for name, guilty, bad in cases:
        found = failing(gate, part, bad)
        assert found is not None, name
        assert (found.name, found.guilty[:2]) == (name, guilty)


def test_slow_and_wrong_networks_do_not_pass(gate: ModuleType, seen: tuple[Part, Made]) -> None:
    part, made = seen
    gate.FASTER = dict.fromkeys(gate.FASTER, 1e6)
    assert failing(gate, part, made).name == "faster"
    gate.WORSE = -0.5
    found = failing(gate, part, made)
    assert (found.name, found.value) == ("accuracy kernels", None)


def test_time_beyond_the_machine_is_refused(gate: ModuleType, seen: tuple[Part, Made]) -> None:
    part, made = seen
    files = {n.removesuffix("/file"): gate.read(raw) for n, raw in made.after.items()}
    key = "first, one: seconds"
    never = told(made, **{key: [1e-9 * s for s in made.history[key]]})
    assert gate._possible(part, made, files, "first", "one").ok
    assert not gate._possible(part, never, files, "first", "one").ok


def test_part_without_a_record_names_what_to_run(
    gate: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    some = Made({}, {"w": np.zeros(1)}, np.zeros(1), {})
    with pytest.raises(WorkspaceError, match="Next: tito milestone run 1998 --data tinydigits"):
        gate.parts(Options(), {"1998_cnn": {}, "2017_transformer": {"tinytalks": some}})
    seeing = {"1998_cnn": {"tinydigits loops": some}}
    with pytest.raises(WorkspaceError, match="Next: tito milestone run 2017 --data tinytalks"):
        gate.parts(Options(), {**seeing, "2017_transformer": {"shakespeare": some}})
    vision, language = gate.parts(Options(), {**seeing, "2017_transformer": {"tinytalks": some}})
    assert len(vision.held_out) == 1000 and len(language.answers) == 300
    assert vision.extra is some.after


def test_waterfall_is_drawn(seen: tuple[Part, Made], tmp_path: Path) -> None:
    paths = stage.load(HERE / "pictures.py").draw({"vision": seen}, tmp_path)
    assert [path.name for path in paths] == ["vision_waterfall.png", "size_accuracy.png"]
    assert all(path.stat().st_size > 5000 for path in paths)


def test_rerun_is_expected_twice_as_far_and_at_least_a_tenth_away(gate: ModuleType) -> None:
    assert gate.again((10.0, 9.8, 13.0)) == pytest.approx((9.0, 16.0))
