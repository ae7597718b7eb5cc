"""`tito milestone` as a learner calls it: output, JSON, exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.workspaces import built, tito
from tito import course, workspace
from tito.progress import Progress
from tito.workspace import Workspace


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return built(tmp_path_factory.mktemp("cli") / "my-torch", last=7)


@pytest.fixture
def ws(shared: Workspace, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    for name in ("TINYTORCH", "TINYTORCH_UPTO", "TITO_COURSE", "TINYTORCH_DATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.chdir(shared.root)
    return shared


def test_list_shows_what_is_open_and_the_next_command(ws: Workspace) -> None:
    lines = tito("milestone", "list").stdout.splitlines()
    assert len(lines) == 7 and lines[0].split()[:3] == ["1958_perceptron", "open", "01-04"]
    assert lines[-1] == "Next: tito milestone run 1958"
    data = json.loads(tito("milestone", "list", "--json").stdout)
    assert data["schema"] == 1 and [m["id"][:4] for m in data["milestones"]] == [
        "1958", "1969", "1986", "1998", "2017", "2024"
    ]  # fmt: skip


def test_run_says_whose_code_shows_progress_and_records(ws: Workspace) -> None:
    result = tito("milestone", "run", "xor")
    assert result.stdout.startswith("tinytorch: student (")
    assert "A hidden layer" in result.stderr and "epoch" not in result.stdout
    for said in ("✓ 25 of 25 small questions", "one layer is stuck", "Passed", "record.json"):
        assert said in result.stdout
    assert result.stdout.splitlines()[-1] == "Next: tito milestone run 1958"
    assert Progress.load(ws).milestones["1969_xor"]["figures"]["hidden"]["accuracy"] == 1.0


def test_failure_explains_names_the_module_and_ends_with_1(ws: Workspace) -> None:
    file = ws.export_path("core.optimizers")
    before = file.read_bytes()
    file.write_bytes(before + b"\nAdam.adaptive_step = lambda self, w, g, s: None\n")
    try:
        result = tito("milestone", "run", "1969", code=1)
        data = json.loads(tito("milestone", "run", "1969", "--json", code=1).stdout)
    finally:
        file.write_bytes(before)
    assert "Not passed (probe 06_optimizers.adam)" in result.stdout
    for label in ("expected", "got", "why", "probably", "look at"):
        assert f"\n  {label} " in result.stdout
    assert result.stdout.splitlines()[-1] == "Next: tito module test 06"
    assert not data["ok"] and data["blame"]["guilty"] == "06_optimizers"
    assert data["next"] == "tito module test 06"


def test_run_for_programs_is_one_object(ws: Workspace) -> None:
    data = json.loads(tito("milestone", "run", "1986", "--data", "tinydigits", "--epochs", "6",
                           "--seed", "3", "--json").stdout)  # fmt: skip
    assert data["schema"] == 1 and data["ok"] and data["options"]["seed"] == 3
    assert data["figures"]["tinydigits mlp"]["accuracy"] > 0.9
    assert all(Path(file).is_file() for file in data["files"])


def test_info_tells_the_story_and_what_was_reached(ws: Workspace) -> None:
    tito("milestone", "run", "1958")
    shown = tito("milestone", "info", "perceptron").stdout
    for said in ("Rosenblatt", "modules 01 to 04", "reached", "boundary.png"):
        assert said in shown
    data = json.loads(tito("milestone", "info", "1998", "--json").stdout)
    assert data["state"] in ("planned", "locked")


def test_validate_judges_again_and_all_runs_the_rest(ws: Workspace) -> None:
    tito("milestone", "run", "1969")
    result = tito("milestone", "validate", "1969")
    assert "Passed" in result.stdout and "epoch" not in result.stderr
    data = json.loads(tito("milestone", "validate", "--all", "--json").stdout)
    assert data["ok"]
    assert {m["milestone"][:4] for m in data["milestones"]} >= {"1958", "1969", "1986"}


def test_nothing_recorded_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TINYTORCH", raising=False)
    fresh = workspace.init(tmp_path / "fresh")
    monkeypatch.chdir(fresh.root)
    assert "no milestone is recorded yet" in tito("milestone", "validate", code=2).stderr
    assert "Next: tito module start 01" in tito("milestone", "run", "1958", code=2).stderr


@pytest.mark.parametrize(
    ("args", "said"),
    [(["run", "1968"], "there is no milestone"),
     (["run", "1958", "--data", "mnist"], "brings its own"),
     (["run", "1986", "--data", "imagenet"], "takes tinydigits, mnist, auto"),
     (["run", "1969", "--epochs", "0"], "--epochs"), (["rum", "1958"], "did you mean run"),
     (["validate", "xro"], "there is no milestone")],
)  # fmt: skip
def test_mistakes_get_two_lines_and_code_2(ws: Workspace, args: list[str], said: str) -> None:
    stderr = tito("milestone", *args, code=2).stderr
    assert said in stderr and stderr.splitlines()[-1].startswith("Next: tito")


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_interrupt_ends_with_130_and_leaves_no_child(ws: Workspace) -> None:
    file = ws.export_path("core.training")
    before = file.read_bytes()
    marker = ws.root / "pid"
    file.write_bytes(before + (
        "\ndef train_loop(*args, **options):\n    import os, pathlib, time\n"
        f"    pathlib.Path({str(marker)!r}).write_text(str(os.getpid()))\n    time.sleep(60)\n"
    ).encode())  # fmt: skip
    unprobed = "from tito import cli, milestones; milestones._probe = lambda ws, verdict: None"
    command = [sys.executable, "-c", f"{unprobed}; cli.main()", "milestone", "run", "1969"]
    try:
        process = subprocess.Popen(command, cwd=ws.root, stderr=subprocess.PIPE, text=True,
                                   stdout=subprocess.DEVNULL)  # fmt: skip
        for _ in range(200):
            if marker.is_file() and marker.read_text():
                break
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=10)
        child = int(marker.read_text())
    finally:
        file.write_bytes(before)
        marker.unlink(missing_ok=True)
    assert process.returncode == 130 and "stopped" in stderr
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


def test_completing_the_last_module_brings_the_script(
    ws: Workspace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from tito import source

    fresh = built(tmp_path / "fresh", last=3)
    monkeypatch.chdir(fresh.root)
    tito("module", "start", "04")
    losses = course.find_module(4)
    path = fresh.notebook_path(losses)
    path.write_text(source.write(path, source.read(losses.path)), encoding="utf-8")
    shown = tito("module", "complete", "04").stdout
    assert "tito milestone run 1958" in shown
    assert (fresh.milestones_dir / "1958_perceptron" / "run.py").is_file()
