"""Benchmarks outside the command line: the harness, what it refuses, records, comparisons, points.

Nothing here asserts a time: clocks are fake, or the limit is one that no machine reaches.
"""

from __future__ import annotations

import itertools
import json
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from tito import bench, bench_capstone, bench_child, bench_compare, course, stage, workspace
from tito import bench_records as records
from tito.bench_child import Refused
from tito.bench_records import BenchError
from tito.workspace import Workspace

SUITE = stage.load(course.course_dir() / "events" / "baseline.py")
TABLE = bench.suite()
NAMES = [row["name"] for row in TABLE["benchmark"]]
TOLD = {"threads": 1, "numpy": "2.0", "blas": "openblas"}


@pytest.fixture
def ws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    for name in ("TINYTORCH", "TINYTORCH_UPTO", "TITO_COURSE", "TINYTORCH_DATA"):
        monkeypatch.delenv(name, raising=False)
    return workspace.init(tmp_path / "my-torch")


# The harness and the suite ------------------------------------------------------------------------


def test_harness_is_the_courses_and_imports_no_framework() -> None:
    code = ("import sys; from tito import bench_child; h = bench_child.harness()\n"
            "print('tinytorch' in sys.modules, h.time_block.__code__.co_filename)")  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    framework, _, file = done.stdout.strip().partition(" ")
    assert framework == "False" and Path(file) == course.find_module("19").path


def test_suite_and_reference_name_the_same_benchmarks() -> None:
    assert list(TABLE["reference"]["seconds"]) == NAMES
    assert all(callable(getattr(SUITE, name)) for name in NAMES)
    assert [row["needs"] for row in TABLE["benchmark"]] == [0, 0, 0, 6, 9, 12, 13]


@pytest.mark.parametrize("name", NAMES)
def test_work_of_the_reference_is_right(name: str) -> None:
    work = getattr(SUITE, name)(13)
    assert work.wrong(work.run()) == ""
    assert work.wrong(work.run()) == ""  # also the second time


def test_wrong_results_are_noticed() -> None:
    work = SUITE.matmul(0)
    assert "row 7 is off" in work.wrong(np.zeros((256, 256), np.float32))
    work = SUITE.reduction(0)
    assert "the largest is off" in work.wrong((*work.run()[:2], 0.0))
    work = SUITE.convolution(13)
    out = work.run()
    out.data[1, 2, 5, 7] += 1
    assert "a pixel is off" in work.wrong(out)
    work = SUITE.attention(13)
    out = work.run()
    out.data[0, 0, 0] = 0
    assert "the result is off" in work.wrong(out)
    work = SUITE.decode(13)
    tokens = work.run()
    assert "31 tokens" in work.wrong(tokens[:-1])
    assert "lead is off" in work.wrong([*tokens[:-1], (tokens[-1] + 1) % 64])


def test_a_step_that_does_not_learn_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    import tinytorch

    monkeypatch.setattr(tinytorch.SGD, "step", lambda self: None)
    work = SUITE.mlp_step(13)
    assert "the last bias's step is off" in work.wrong(work.run())


def test_times_are_those_of_the_clock() -> None:
    now = [0.0]

    def work(seconds: float) -> None:
        now[0] += seconds

    found = bench_child.timed(
        {"slow": lambda: work(0.5), "quick": lambda: work(0.25)}, 6, 1.0,
        clock=lambda: now[0], kernel=lambda: work(0.125),
    )  # fmt: skip
    assert found["slow"]["median"] == 0.5 and found["quick"]["samples"] == [0.25] * 6
    assert found["slow"]["kernel"] == [0.125] * 6 and found["slow"]["repetitions"] == 2
    assert found["quick"]["valid"] and found["quick"]["interval"] == [0.25, 0.25]


LAZY = """
import numpy as np
from typing import NamedTuple

class Work(NamedTuple):
    run: object
    wrong: object
    how: str = "a stub"

A = np.ones((256, 256), np.float32)

def matmul(built):
    return Work(lambda: A @ A, lambda got: "")

def lazy(built):
    return Work(lambda: A, lambda got: "")      # right once, and never computed again

def wrong(built):
    return Work(lambda: A, lambda got: "row 7 is off by 1")

def stops(built):
    raise ValueError("not today")
"""


def test_work_that_does_nothing_or_is_wrong_is_refused(tmp_path: Path) -> None:
    (tmp_path / "lazy.py").write_text(LAZY)
    rows = [{"name": name, "flops": 2 * 256**3} for name in ("matmul", "lazy", "wrong", "stops")]
    job = {"workloads": str(tmp_path / "lazy.py"), "built": 0, "benchmarks": rows, "rounds": 6,
           "seconds": 0.0002, "fastest": 1e13, "lead": 16}  # fmt: skip
    found = bench_child.baseline(job, tmp_path)
    assert list(found["benchmarks"]) == ["matmul"]
    assert "too fast to be real" in found["failed"]["lazy"]["what"]
    assert found["failed"]["wrong"]["what"] == "its result is wrong: row 7 is off by 1"
    assert "not today" in found["failed"]["stops"]["what"]


def test_what_is_too_fast_is_measured_against_the_matmul_beside_it() -> None:
    job = {"benchmarks": [{"name": "matmul", "flops": 1000}, {"name": "step", "flops": 1000}],
           "fastest": 1e6, "lead": 10}  # fmt: skip
    assert bench_child.too_fast(job, {"matmul": {"median": 1.0}, "step": {"median": 0.11}}) == {}
    assert list(bench_child.too_fast(job, {"matmul": {"median": 1.0}, "step": {"median": 0.09}}))
    assert list(bench_child.too_fast(job, {"step": {"median": 0.0009}})) == ["step"]


# Models -------------------------------------------------------------------------------------------


def net(*sizes: int) -> Any:
    from tinytorch import Linear, ReLU, Sequential, manual_seed

    manual_seed(0)
    layers = [Linear(a, b) for a, b in itertools.pairwise(sizes)]
    return Sequential(layers[0], *(part for layer in layers[1:] for part in (ReLU(), layer)))


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make `load` return a model."""
    return lambda model: monkeypatch.setattr(bench_child, "load", lambda job: model.eval())


def job(kind: str, **options: Any) -> dict[str, Any]:
    return {"kind": kind, "built": 13, "model": "m.pt", "fastest": 1e13, "limit": 0.1,
            "input_length": None, "tokens": 2, "rounds": 3, **options}  # fmt: skip


def test_classes_are_the_largest_outputs(loaded: Any, tmp_path: Path) -> None:
    model = net(64, 10)
    loaded(model)
    images = np.random.default_rng(0).integers(0, 17, (70, 8, 8), dtype=np.uint8)
    np.save(tmp_path / "inputs.npy", images)
    found = bench_child.accuracy(job("accuracy", dataset="digits"), tmp_path)
    rows = images.reshape(70, 64) / 16
    logits = rows @ model[0].weight.data.T + model[0].bias.data
    assert found["predictions"] == logits.argmax(axis=1).tolist()


def test_models_that_do_not_fit_are_refused_in_two_lines(loaded: Any, tmp_path: Path) -> None:
    from tinytorch import GPT, GPTConfig, ReLU, Sequential

    np.save(tmp_path / "inputs.npy", np.zeros((3, 3, 32, 32), np.uint8))
    cases = {"reads 64 numbers, and an image here has 3072": net(64, 10),
             "not with 10 classes": net(3072, 2),
             "it reads tokens": GPT(GPTConfig(8, 8, dim=4, heads=1, layers=1)),
             "no layer with a weight": Sequential(ReLU())}  # fmt: skip
    for why, model in cases.items():
        loaded(model)
        with pytest.raises(Refused) as caught:
            bench_child.accuracy(job("accuracy", dataset="cifar10"), tmp_path)
        assert why in str(caught.value) and str(caught.value).count("\nNext: ") == 1
    loaded(net(64, 10))
    with pytest.raises(Refused, match="does not read tokens"):
        bench_child.accuracy(job("accuracy", dataset="tinytalks"), tmp_path)


def test_inputs_are_prepared_as_the_milestones_do() -> None:
    digits = bench_child.prepared(np.full((2, 8, 8), 16, np.uint8))
    assert digits.shape == (2, 1, 8, 8) and (digits == 1).all() and digits.dtype == np.float32
    run = stage.load(course.find_milestone("1998").folder / "run.py")
    photos = np.random.default_rng(0).integers(0, 256, (2, 3, 32, 32), dtype=np.uint8)
    np.testing.assert_allclose(bench_child.prepared(photos), run.SCALE(photos), atol=1e-5)


def test_shape_says_which_data_set_a_model_reads(loaded: Any, tmp_path: Path) -> None:
    from tinytorch import GPT, Conv2d, Flatten, GPTConfig, Linear, Sequential

    digits = Sequential(Conv2d(1, 2, 3), Flatten(), Linear(72, 10))
    photos = Sequential(Conv2d(3, 2, 3), Flatten(), Linear(1800, 10))
    gpt = GPT(GPTConfig(8, 8, dim=4, heads=1, layers=1))
    cases = [(net(64, 10), "digits"), (net(784, 10), "mnist"), (net(2, 1), ""),
             (digits, "digits"), (photos, "cifar10"), (gpt, "tinytalks")]  # fmt: skip
    for model, expected in cases:
        loaded(model)
        assert bench_child.reads(job("reads"), tmp_path)["dataset"] == expected


def test_speed_tells_rates_of_text_and_of_images(loaded: Any, tmp_path: Path) -> None:
    from tinytorch import GPT, GPTConfig

    loaded(GPT(GPTConfig(8, 8, dim=4, heads=1, layers=1)))
    found = bench_child.speed(job("speed"), tmp_path)
    assert found["units"] == {"write": 2, "first": 1} and found["unit"] == "tokens"
    assert found["how"].startswith("reads 4 tokens and writes 2, by generate")
    assert len(found["queries"]["write"]["samples"]) == len(found["queries"]["write"]["kernel"])
    with pytest.raises(Refused, match=r"--input-length 9: the model reads 8 tokens at most"):
        bench_child.speed(job("speed", input_length=9), tmp_path)


def test_a_model_that_skips_its_work_is_too_fast(loaded: Any, tmp_path: Path) -> None:
    model = net(64, 10)
    loaded(model)
    with pytest.raises(Refused, match="too fast to be real"):
        bench_child.speed(job("speed", fastest=1.0), tmp_path)


def test_memory_counts_what_numpy_allocates(loaded: Any, tmp_path: Path) -> None:
    peak, live = bench_child.traced(lambda: np.zeros(10_000).astype(np.float32))
    assert 40_000 <= live < 45_000 and 120_000 <= peak < 125_000
    loaded(net(64, 10))
    found = bench_child.memory(job("memory"), tmp_path)
    assert found["held"] == 4 * (64 * 10 + 10) and len(found["peak"]) == 3


def test_header_is_read_without_running_anything(tmp_path: Path) -> None:
    arrays = {"a": np.zeros((2, 3), np.float32), "b": np.zeros(4, np.int8)}
    text = json.dumps({"model": {"type": "Sequential", ".0": {"type": "Unit"}}})
    path = tmp_path / "m.pt"
    path.write_bytes(safetensors.numpy.save(arrays, {"tinytorch": text}))
    found = bench_child.read_header(path)
    assert found["bytes"] == path.stat().st_size and found["types"] == ["Sequential", "Unit"]
    assert {name: row[:2] for name, row in found["arrays"].items()} == {
        "a": ("F32", [2, 3]), "b": ("I8", [4])
    }  # fmt: skip
    raw = path.read_bytes()
    for other in (b"", b"\x80\x04", raw[:30], safetensors.numpy.save(arrays), b"\xff" * 64):
        path.write_bytes(other)
        with pytest.raises(Refused, match=r"m.pt: not a model file"):
            bench_child.read_header(path)


# Records ------------------------------------------------------------------------------------------


def timed_row(median: float, kernel: float = 1.0, noise: float = 0.0) -> dict[str, Any]:
    samples = [median * (1 + noise * (i % 3 - 1)) for i in range(15)]
    return {"samples": samples, "kernel": [kernel] * 15, "repetitions": 1, "median": median,
            "interval": [median, median], "minimum": min(samples), "spread": noise,
            "valid": True, "reason": "15 rounds.", "remedy": "", "how": "a stub"}  # fmt: skip


def baseline_record(factor: float = 1.0, kernel: float = 1.0) -> dict[str, Any]:
    rows = {name: timed_row(factor * (i + 1), kernel, 0.01) for i, name in enumerate(NAMES[:3])}
    for row in rows.values():
        row["reference"], row["ratio"] = 2.0, 2.0 / row["median"]
    return records.head("baseline", "student", TOLD) | {
        "suite": ["baseline", 1], "reference": "reference machine 1", "resolution": 0.03,
        "benchmarks": rows, "score": records.score(r["ratio"] for r in rows.values()),
        "of": [3, 7], "milestones": [0, 6], "modules": 0, "missing": {},
        "verdict": bench.verdict(rows),
    }  # fmt: skip


def accuracy_record(predictions: list[int], answers: list[int]) -> dict[str, Any]:
    right, n = records.count_right(predictions, answers), len(answers)
    return records.head("accuracy", "student", TOLD) | {
        "dataset": "digits", "n": n, "right": right, "accuracy": right / n, "interval": [0, 1],
        "predictions": predictions, "answers": answers, "model": "m.pt", "how": "counted",
        "loaded_by": "your load",
    }  # fmt: skip


def sealed(record: dict[str, Any]) -> dict[str, Any]:
    return {**record, "digest": records.digest(record)}


def test_score_is_the_geometric_mean_times_100() -> None:
    assert records.score([2.0, 0.5]) == pytest.approx(100)
    assert records.score([2.0, 8.0]) == pytest.approx(400)
    assert records.score([]) == 0.0


def test_record_comes_back_and_names_nobody(ws: Workspace) -> None:
    record = baseline_record()
    paths = [records.write(ws, record) for _ in range(3)]
    assert records.records(ws, "baseline") == paths and len(set(paths)) == 3
    assert records.read(paths[0]) == sealed(record)
    text = paths[0].read_text()
    for private in (platform.node(), str(Path.home()), str(ws.root), platform.release()):
        assert private not in text
    assert set(record["machine"]) == {"cores", "memory_gib", "cpu", "system", "python", "numpy",
                                      "blas"}  # fmt: skip


def test_cpu_is_named_by_its_family(tmp_path: Path) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text("vendor_id\t: Maker\ncpu family\t: 25\nmodel name\t: Secret 9000\n")
    assert records.cpu_family(info) == f"{platform.machine()} Maker family 25"
    assert records.cpu_family(tmp_path / "none") == platform.machine()


@pytest.mark.parametrize("resealed", [False, True])
def test_altered_figures_are_refused(ws: Workspace, resealed: bool) -> None:
    record = accuracy_record([1, 2, 3, 4], [1, 2, 3, 5])
    predictions, rate, score, median = (json.loads(json.dumps(r)) for r in
                                        (record, record, baseline_record(), baseline_record()))
    predictions["predictions"][3] = 5
    rate["accuracy"] = 1.0
    score["score"] *= 2
    median["benchmarks"]["matmul"]["median"] /= 2
    path = ws.root / "x.json"
    for before, altered in ((record, predictions), (record, rate), (baseline_record(), score),
                            (baseline_record(), median)):  # fmt: skip
        seal = records.digest(altered) if resealed else records.digest(before)
        path.write_text(json.dumps({**altered, "digest": seal}))
        with pytest.raises(BenchError) as caught:
            records.read(path)
        assert str(caught.value).startswith("x.json: not a benchmark record that can be used")


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"schema": 2}', '{"schema": "1"}', "\x00",
                                  '{"schema": 1, "kind": "baseline"}'])  # fmt: skip
def test_foreign_files_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    for file in (path, tmp_path / "absent.json", tmp_path):
        with pytest.raises(BenchError, match=r"(?s)not a benchmark record.*\nNext: "):
            records.read(file)


def test_a_record_without_its_figures_is_refused() -> None:
    record = baseline_record()
    for key in ("benchmarks", "score", "machine"):
        bare = {k: v for k, v in record.items() if k != key}
        assert records.problem(sealed(bare))
    broken = json.loads(json.dumps(record))
    broken["benchmarks"]["matmul"]["samples"][0] = float("nan")
    assert "no whole samples" in records.problem(sealed(broken))


def test_accuracy_is_counted_anew_whatever_an_earlier_record_says(
    ws: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = ws.root / "m.pt"
    model.write_bytes(b"a model")
    from tito import data

    labels = data.load_tinydigits().test_labels.tolist()
    raw = [*labels[:-200], *[(label + 1) % 10 for label in labels[-200:]]]
    told = {"predictions": raw, "how": "counted", **TOLD}
    monkeypatch.setattr(bench, "_measure", lambda job, *_: json.loads(json.dumps(told)))
    first = bench.keep(ws, bench.accuracy(ws, model, "digits", print))
    assert first.record["accuracy"] == 0.8
    altered = json.loads(first.path.read_text())
    altered["predictions"], altered["accuracy"] = labels, 1.0
    first.path.write_text(json.dumps(altered))
    assert bench.accuracy(ws, model, "digits", print)["accuracy"] == 0.8


def test_answers_stay_out_of_the_child(ws: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}

    def measure(job: Any, root: Path, show: Any, fill: Any) -> Any:
        given.update(job)
        return {"predictions": [""] * 300, "how": "counted", **TOLD}

    monkeypatch.setattr(bench, "_measure", measure)
    (ws.root / "m.pt").write_bytes(b"a model")
    record = bench.accuracy(ws, ws.root / "m.pt", "tinytalks", print)
    assert record["accuracy"] == 0 and len(given["questions"]) == 300
    known = {tuple(pair) for pair in given["known"]}
    asked = set(zip(given["questions"], record["answers"]))
    assert not asked & known


def test_interval_of_a_share_is_wilsons() -> None:
    low, high = bench.wilson(81, 263)  # Newcombe 1998, table I: 0.2553 to 0.3662
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)
    assert bench.wilson(0, 10)[0] == 0.0 and bench.wilson(10, 10)[1] == 1.0


# Comparisons --------------------------------------------------------------------------------------


def verdicts(a: dict[str, Any], b: dict[str, Any]) -> list[str]:
    return [row.verdict for row in bench_compare.compare(a, b).rows]


def test_equal_runs_are_no_different_and_half_the_time_is_faster() -> None:
    one = baseline_record()
    assert verdicts(one, one) == ["no difference"] * 3
    assert verdicts(baseline_record(0.5), one) == ["faster"] * 3
    assert verdicts(baseline_record(2.0), one) == ["slower"] * 3
    noisy = baseline_record(0.5)
    noisy["benchmarks"]["matmul"]["valid"] = False
    assert verdicts(noisy, one) == ["too noisy to say", "faster", "faster"]
    noisy["benchmarks"]["elementwise"]["spread"] = 0.6
    assert verdicts(noisy, one)[1] == "no difference"
    assert verdicts(baseline_record(1.02), one) == ["no difference"] * 3  # below the resolution


def test_what_the_machine_did_between_two_runs_does_not_count() -> None:
    slowed = baseline_record(1.5, kernel=1.5)
    assert verdicts(slowed, baseline_record()) == ["no difference"] * 3
    elsewhere = slowed | {"machine": slowed["machine"] | {"cores": 64}}
    assert verdicts(elsewhere, baseline_record()) == ["slower"] * 3
    notes = bench_compare.compare(elsewhere, baseline_record()).notes
    assert notes[0].startswith("not the same machine (cores)")


def test_records_that_cannot_be_compared_say_so() -> None:
    one, other = baseline_record(), accuracy_record([1], [1])
    for a, b in ((one, other), (one, one | {"suite": ["baseline", 2]}),
                 (other, other | {"answers": [2]}), (one, one | {"benchmarks": {}})):  # fmt: skip
        with pytest.raises(BenchError, match="\nNext: "):
            bench_compare.compare(a, b)


def test_accuracies_are_compared_question_by_question() -> None:
    answers = [1] * 20
    weak = accuracy_record([1] * 10 + [0] * 10, answers)
    better = accuracy_record([1] * 16 + [0] * 4, answers)
    assert verdicts(better, weak) == ["better"] and verdicts(weak, better) == ["worse"]
    unsure = accuracy_record([1] * 13 + [0] * 7, answers)
    assert verdicts(unsure, weak) == ["no difference"]
    assert bench_compare.sign_test(0, 0) == 1.0


def test_bytes_are_exact_and_memory_differs_only_beyond_its_spread() -> None:
    base = records.head("size", "student", TOLD)
    small, large = (base | {"bytes": size, "parameters": 5} for size in (10, 20))
    assert verdicts(small, large) == ["less", "no difference"]
    base = records.head("memory", "student", TOLD) | {"live": [1, 1, 1], "held": 4}
    assert verdicts(base | {"peak": [5, 6, 7]}, base | {"peak": [7, 8, 9]})[0] == "no difference"
    assert verdicts(base | {"peak": [5, 6, 6]}, base | {"peak": [7, 8, 9]})[0] == "less"


# Capstone -----------------------------------------------------------------------------------------

RULES = {"best": 10, "anchor": {"digits": {"kernels": 2.0, "bytes": 1000}}}


def figures(**changed: Any) -> dict[str, Any]:
    return {"dataset": "digits", "accuracy": 0.9, "n": 100, "seconds": 1.0, "kernels": 0.2,
            "bytes": 500, "valid": True, "reason": ""} | changed  # fmt: skip


def track(name: str, *sessions: dict[str, Any]) -> dict[str, Any]:
    row = next(r for r in bench.suite("capstone")["track"] if r["name"] == name)
    return bench_capstone._track(row, list(sessions), RULES)


def test_points_are_the_median_of_the_sessions() -> None:
    three = [{"vision": figures(accuracy=share)} for share in (0.5, 0.9, 0.8)]
    found = track("vision", *three)
    assert found["points"] == pytest.approx(16) and found["missing"] == []
    assert found["figures"]["vision"]["median"] == 0.8


def test_ten_times_better_is_all_points_and_no_better_is_none() -> None:
    assert track("speed", {"vision": figures()})["points"] == pytest.approx(10)  # half of 20
    assert track("speed", {"vision": figures(kernels=0.01)})["points"] == pytest.approx(10)
    assert track("speed", {"vision": figures(kernels=4.0)})["points"] == 0
    half = track("compression", {"vision": figures(bytes=1000 / 10**0.5)})
    assert half["points"] == pytest.approx(5)


def test_a_track_without_a_model_says_so() -> None:
    found = track("language", {"vision": figures()})
    assert found["points"] is None and found["missing"] == ["language"]
    assert track("speed", {"vision": figures()})["missing"] == ["language"]


def test_models_are_found_in_the_workspace(ws: Workspace) -> None:
    with pytest.raises(BenchError, match="no trained model is here"):
        bench_capstone.run(ws, (), print)
    for place in ("milestones/1998_cnn", "olympics/small"):
        (ws.root / place).mkdir(parents=True, exist_ok=True)
        (ws.root / place / "model.pt").write_bytes(b"")
    found = [ws.relative(path).parts[0] for path in bench_capstone.candidates(ws)]
    assert found == ["olympics", "milestones"]


def test_weights_are_the_olympics(ws: Workspace) -> None:
    table = bench.suite("capstone")
    points = {row["name"]: row["points"] for row in table["track"]}
    assert points == {"vision": 20, "language": 20, "speed": 20, "compression": 20}
    assert table["review"] == 20 and table["sessions"] == 3
    assert set(table["anchor"]) == {"digits", "mnist", "cifar10", "tinytalks"}


def test_capstone_sums_its_points_and_leaves_the_review_open(
    ws: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = records.head("size", "student", TOLD)
    monkeypatch.setattr(bench, "reads", lambda *_: "digits")
    monkeypatch.setattr(bench, "accuracy", lambda *_: head | {"accuracy": 0.5, "n": 10})
    row = timed_row(1.0, kernel=1e6)
    fast = head | {"queries": {"one": row}, "verdict": {"valid": True, "reason": ""}}
    monkeypatch.setattr(bench, "speed", lambda *_: fast)
    monkeypatch.setattr(bench, "size", lambda *_: head | {"bytes": 1})
    record = bench_capstone.run(ws, (ws.root / "m.pt",), print)
    assert record["score"] == pytest.approx(10 + 10 + 10) and record["review"]["points"] is None
    path = records.write(ws, record)
    assert records.read(path)["tracks"]["language"]["points"] is None
    assert verdicts(record, record) == ["no difference"] * 3
