"""The learner's records: whole or rebuilt, never lost in silence."""

from __future__ import annotations

import json
import os
from datetime import datetime
from pathlib import Path

import pytest

from tito import course, progress, workspace
from tito.progress import Progress
from tito.workspace import Workspace, WorkspaceError


@pytest.fixture
def ws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.delenv("TITO_COURSE", raising=False)
    return workspace.init(tmp_path / "my-torch")


def test_progress_begins_empty_and_loading_writes_nothing(ws: Workspace) -> None:
    assert Progress.load(ws) == Progress()
    assert not ws.state_dir.exists()


def test_progress_comes_back_as_it_was_saved(ws: Workspace) -> None:
    records = Progress()
    record = records.module("01_tensor")
    record["started"], record["points"], record["attempts"] = progress.now(), 12, 3
    record["hints"]["Tensor.__add__"] = 2
    record["passed"]["Tensor.__add__"] = True
    record["solutions_shown"].append("Tensor.sum")
    records.milestones["1958_perceptron"] = {"passed": progress.now()}
    records.checkpoints["1"] = {"passed": progress.now()}
    records.save(ws)
    assert Progress.load(ws) == records
    assert not records.is_completed("01_tensor") and not records.is_completed("02_activations")
    record["completed"] = progress.now()
    assert records.is_completed("01_tensor")


def test_progress_file_is_schema_1_and_deterministic(ws: Workspace) -> None:
    records = Progress()
    for id in ("02_activations", "01_tensor"):
        records.module(id)
    records.save(ws)
    first = progress.file(ws).read_bytes()
    data = json.loads(first)
    assert data["schema"] == 1 and list(data["modules"]) == ["01_tensor", "02_activations"]
    assert set(data["modules"]["01_tensor"]) == set(progress.ModuleRecord.__annotations__)
    Progress.load(ws).save(ws)
    assert progress.file(ws).read_bytes() == first


def test_progress_records_times_in_utc() -> None:
    moment = datetime.strptime(progress.now(), "%Y-%m-%dT%H:%M:%S%z")
    assert moment.tzinfo is not None and abs(moment.timestamp() - datetime.now().timestamp()) < 5


def test_progress_keeps_what_it_does_not_know_and_fills_in_what_is_missing(ws: Workspace) -> None:
    data = {"schema": 1, "badges": ["x"], "modules": {"01_tensor": {"points": 4, "mood": "good"}}}
    ws.write(progress.file(ws), json.dumps(data))
    records = Progress.load(ws)
    assert records.modules["01_tensor"]["hints"] == {} and records.notes == []
    records.save(ws)
    again = json.loads(progress.file(ws).read_text())
    assert again["badges"] == ["x"] and again["modules"]["01_tensor"]["mood"] == "good"


def build(ws: Workspace, *numbers: int) -> None:
    for number in numbers:
        module = course.find_module(number)
        ws.write(ws.notebook_path(module), "{}")
        ws.write(ws.export_path(module.export), "__all__ = []\n")


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[]",
        b"null",
        b'{"modules": 3}',
        b'{"modules": {"01_tensor": 3}}',
        b'{"modules": {"01_tensor": {"hints": []}}}',
        b'{"modules": {"01_tensor": {"started": 7}}}',
        b'{"milestones": []}',
    ],
)
def test_progress_damaged_is_kept_aside_and_rebuilt(ws: Workspace, damage: bytes) -> None:
    build(ws, 1, 2)
    ws.write(ws.notebook_path(course.find_module(3)), "{}")
    ws.write(progress.file(ws), damage)
    records = Progress.load(ws)
    assert (ws.state_dir / "progress.json.damaged-1").read_bytes() == damage
    assert [id for id in records.modules if records.is_completed(id)] == [
        "01_tensor",
        "02_activations",
    ]
    assert records.modules["01_tensor"]["points"] == course.find_module(1).points
    assert records.modules["03_layers"]["started"] and not records.is_completed("03_layers")
    [note] = records.notes
    assert "progress.json was damaged" in note and "2 completed modules" in note
    again = Progress.load(ws)
    assert again.notes == [] and again.modules == records.modules


def test_progress_damaged_again_keeps_both(ws: Workspace) -> None:
    for text in ("one", "two"):
        ws.write(progress.file(ws), text)
        Progress.load(ws)
    kept = sorted(ws.state_dir.glob("progress.json.damaged-*"))
    assert [path.read_text() for path in kept] == ["one", "two"]


def test_progress_lost_is_found_again_from_the_files(ws: Workspace) -> None:
    build(ws, 1)
    os.utime(ws.export_path("core.tensor"), (1_000_000_000, 1_000_000_000))
    records = Progress.load(ws)
    assert records.modules["01_tensor"]["completed"] == "2001-09-09T01:46:40Z"


def test_progress_of_a_later_release_is_left_alone(ws: Workspace) -> None:
    ws.write(progress.file(ws), '{"schema": 2, "modules": 7}')
    with pytest.raises(WorkspaceError, match="written by a later tito\nNext: git pull"):
        Progress.load(ws)
    assert progress.file(ws).read_text() == '{"schema": 2, "modules": 7}'
