"""`tito benchmark` as a learner calls it: output, JSON, exit codes. What is timed is a stub."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.workspaces import tito
from tito import bench, bench_records, course, proofs, workspace
from tito.workspace import Workspace

TOLD = {"threads": 1, "numpy": "2.0", "blas": "openblas 0.3"}


@pytest.fixture
def ws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    for name in ("TINYTORCH", "TINYTORCH_UPTO", "TITO_COURSE", "TINYTORCH_DATA", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    made = workspace.init(tmp_path / "my-torch")
    monkeypatch.chdir(made.root)
    return made


def row(median: float, valid: bool = True) -> dict[str, Any]:
    reason, remedy = ("", "") if valid else ("the machine is busy.", "Close other programs.")
    return {"samples": [median] * 15, "kernel": [1e-3] * 15, "repetitions": 1, "median": median,
            "interval": [median, median], "minimum": median, "spread": 0.012, "valid": valid,
            "reason": reason, "remedy": remedy, "how": "NumPy"}  # fmt: skip


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the child would have found; a test changes it."""
    seconds = bench.suite()["reference"]["seconds"]
    rows = {name: row(seconds[name] / 2) for name in ("matmul", "elementwise", "reduction")}
    told = {"benchmarks": rows, "failed": {}, "clock": "CPU time", **TOLD}
    monkeypatch.setattr(bench, "_measure", lambda *_: json.loads(json.dumps(told)))
    return told


# Baseline -----------------------------------------------------------------------------------------


def test_baseline_says_set_up_milestones_score_and_that_nothing_is_sent(
    ws: Workspace, measured: dict[str, Any]
) -> None:
    text = tito("benchmark", "baseline").stdout
    assert text.startswith("tinytorch: student (")
    for said in ("✓ verified: NumPy 2.0, openblas 0.3 on 1 thread", "0/6 passed",
                 "built by 09_spatial", "Nothing was sent anywhere",
                 "VALID: 15 rounds",
                 "200.0, where reference machine 1 is 100 (3 of 7 benchmarks)"):  # fmt: skip
        assert said in text
    assert text.splitlines()[-1] == "Next: tito module start 01"
    [path] = bench_records.records(ws, "baseline")
    assert str(ws.relative(path)) in text and bench_records.read(path)["of"] == [3, 7]


def test_baseline_for_programs_is_one_object(ws: Workspace, measured: dict[str, Any]) -> None:
    data = json.loads(tito("benchmark", "baseline", "--json").stdout)
    assert data["schema"] == 1 and data["score"] == pytest.approx(200)
    assert data["missing"]["decode"] == "13_transformers" and data["milestones"] == [0, 6]
    assert Path(data["file"]).is_file() and data["verdict"]["valid"]


def test_noise_is_told_with_its_remedy(ws: Workspace, measured: dict[str, Any]) -> None:
    measured["benchmarks"]["reduction"] = row(1e-3, valid=False)
    lines = tito("benchmark", "baseline").stdout
    said = "INVALID: reduction: the machine is busy. Close other programs."
    assert said in " ".join(lines.split())
    assert lines.splitlines()[-1] == "Next: tito benchmark baseline"


def test_second_baseline_suggests_the_comparison(ws: Workspace, measured: dict[str, Any]) -> None:
    tito("benchmark", "baseline")
    last = tito("benchmark", "baseline").stdout.splitlines()[-1]
    words = last.removeprefix("Next: tito ").split()
    text = tito(*words).stdout
    assert text.count("no difference") == 3
    assert text.splitlines()[-1] == "Next: tito benchmark baseline"
    rows = json.loads(tito(*words, "--json").stdout)["rows"]
    assert [r["ratio"] for r in rows] == [1.0] * 3


def test_what_failed_names_its_module_and_ends_with_1(
    ws: Workspace, measured: dict[str, Any]
) -> None:
    told = {"what": "ZeroDivisionError: no", "rows": [["where", "there"]]}
    measured["failed"] = {"mlp_step": told | {"dotted": "core.optimizers"}}
    text = tito("benchmark", "baseline", code=1).stdout
    assert "it stopped with ZeroDivisionError" in text and "06_optimizers" in text
    assert text.splitlines()[-1] == "Next: tito module test 06"


def test_narrow_terminals_and_plain_ones(
    ws: Workspace, measured: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "44")
    text = tito("benchmark", "baseline").stdout
    assert max(map(len, text.splitlines()[1:])) <= 44 and "\x1b" not in text


def test_broken_set_up_is_no_success(ws: Workspace, measured: dict[str, Any]) -> None:
    (ws.root / "numpy.py").write_text("")
    text = tito("benchmark", "baseline", code=1).stdout
    assert "✗" in text and "hides the real numpy" in " ".join(text.split())
    assert text.splitlines()[-1] == "Next: tito system doctor"


def test_baseline_really_measures(ws: Workspace) -> None:
    """Modules 01 to 06 built, the optimizer broken: four benchmarks run, one is refused."""
    for module in course.modules()[:6]:
        proofs.build(ws, module)
    file = ws.export_path("core.optimizers")
    file.write_bytes(file.read_bytes() + b"\nSGD.step = lambda self: None\n")
    data = json.loads(tito("benchmark", "baseline", "--json", code=1).stdout)
    assert list(data["benchmarks"]) == ["matmul", "elementwise", "reduction"]
    assert "the last bias's step is off" in data["failed"]["mlp_step"]["what"]
    assert list(data["missing"]) == ["convolution", "attention", "decode"]
    assert data["threads"] == 1 and data["origin"] == "student" and data["score"] > 0
    assert bench_records.problem(json.loads(Path(data["file"]).read_text())) == ""


# Tracks -------------------------------------------------------------------------------------------


@pytest.fixture
def model(ws: Workspace) -> Path:
    path = ws.root / "m.pt"
    path.write_bytes(b"a model")
    return path


def answered(monkeypatch: pytest.MonkeyPatch, **told: Any) -> None:
    found = {"how": "as a stub says", **TOLD, **told}
    monkeypatch.setattr(bench, "_measure", lambda *_: json.loads(json.dumps(found)))


def both(*args: str) -> Iterator[str]:
    """The text, and the JSON as one line."""
    yield " ".join(tito("benchmark", *args).stdout.split())
    data = json.loads(tito("benchmark", *args, "--json").stdout)
    assert data["schema"] == 1 and data["kind"] == args[0] and data["next"].startswith("tito ")
    yield json.dumps(data)


def test_accuracy(ws: Workspace, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answered(monkeypatch, predictions=[7] * 1000)
    text, data = both("accuracy", "--model", "m.pt", "--dataset", "digits")
    right = json.loads(data)["right"]
    assert f"{right / 10:.2f}% of digits: {right} of 1,000 right" in text
    for said in ("spread", "method as a stub says", "origin reference, 1 BLAS thread"):
        assert said in text
    assert "The course's own framework ran this" in text


def test_speed(ws: Workspace, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scenario = {"name": "SingleStream", "queries": 7, "percentiles": {"p50": 0.5},
                "valid": False, "why": "7 queries in 10 s."}  # fmt: skip
    answered(monkeypatch, queries={"write": row(0.5), "first": row(0.25)}, unit="tokens",
             units={"write": 16, "first": 1}, scenario=scenario)  # fmt: skip
    text, data = both("speed", "--model", "m.pt", "--input-length", "8")
    assert "writing 32 tokens/s, 500 ms a query (500 ms to 500 ms), 15 rounds" in text
    assert "latency p50 500 ms of 7 queries INVALID as SingleStream: 7 queries in 10 s." in text
    assert json.loads(data)["queries"]["write"]["rate"] == 32


def test_size_and_memory(ws: Workspace, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    types = {"I8": {"arrays": 2, "numbers": 4096, "bytes": 4096}}
    answered(monkeypatch, bytes=5000, types=types, parameters=4096)
    text, _ = both("size", "--model", "m.pt")
    assert "file 5.0 kB (5,000 bytes)" in text and "I8 4,096 numbers in 2 arrays, 4.1 kB" in text
    answered(monkeypatch, peak=[3000, 2000, 4000], live=[10, 10, 10], held=4096)
    text, _ = both("memory", "--model", "m.pt")
    assert "peak 3.0 kB at most during one inference (2.0 kB to 4.0 kB in 3 runs)" in text


def test_a_file_that_is_no_model_is_two_lines(ws: Workspace) -> None:
    lines = tito("benchmark", "size", "--model", "none.pt", code=2).stderr.splitlines()
    assert lines[0] == "none.pt: no such file" and lines[1].startswith("Next: ")


def test_capstone_without_a_model_says_so(ws: Workspace) -> None:
    lines = tito("benchmark", "capstone", code=2).stderr.splitlines()
    assert "no trained model is here" in lines[0] and len(lines) == 2


def test_capstone_shows_what_is_pending(
    ws: Workspace, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = [7] * 1000
    answered(monkeypatch, dataset="digits", predictions=labels, queries={"one": row(1e-6)},
             unit="inputs", units={"one": 1}, scenario={}, bytes=10**6, types={},
             parameters=1)  # fmt: skip
    result = tito("benchmark", "capstone", "--model", "m.pt")
    text = " ".join(result.stdout.split())
    for said in ("language - of 20 no trained language model here", "review - of 20 pending",
                 "of the 80 points that are measured, of 100", "sessions 3"):  # fmt: skip
        assert said in text
    assert "session 3 of 3" in result.stderr
    data = json.loads(tito("benchmark", "capstone", "--model", "m.pt", "--json").stdout)
    assert data["review"]["points"] is None and data["tracks"]["compression"]["points"] == 0


# Mistakes -----------------------------------------------------------------------------------------


def test_compare_refuses_foreign_files_in_two_lines(ws: Workspace) -> None:
    Path("a.json").write_text("{}")
    for names in (("a.json", "a.json"), ("b.json", "a.json")):
        lines = tito("benchmark", "compare", *names, code=2).stderr.splitlines()
        assert "not a benchmark record that can be used" in lines[0] and len(lines) == 2


def test_outside_a_workspace_it_is_code_3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TINYTORCH", raising=False)
    monkeypatch.chdir(tmp_path)
    assert "not in a workspace" in tito("benchmark", "baseline", code=3).stderr


def test_ctrl_c_is_code_130_and_leaves_no_record(
    ws: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(bench, "_measure", interrupted)
    result = tito("benchmark", "baseline", code=130)
    assert "Traceback" not in result.output and bench_records.records(ws, "baseline") == []


@pytest.mark.parametrize("args", [["benchmark", "--help"], ["benchmark", "speed", "--help"]])
def test_help_imports_no_numpy(args: list[str]) -> None:
    code = ("import sys; from tito.cli import cli\ntry: cli(sys.argv[1:])\n"
            "except SystemExit: print(); print(*sys.modules)")  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True)
    loaded = set(done.stdout.splitlines()[-1].split())
    assert "tito.commands.benchmark" in loaded
    assert not loaded & {"numpy", "psutil", "tito.bench", "tito.sandbox"}
