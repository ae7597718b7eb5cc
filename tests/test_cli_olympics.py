"""`tito olympics` as a learner calls it: output, JSON, exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.workspaces import tito
from tito import course, olympics, workspace
from tito.olympics import Row, Verdict
from tito.progress import Progress
from tito.workspace import Workspace


@pytest.fixture
def ws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    for name in ("TINYTORCH", "TINYTORCH_UPTO", "TITO_COURSE", "TINYTORCH_DATA", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    made = workspace.init(tmp_path / "my-torch")
    monkeypatch.chdir(made.root)
    return made


@pytest.fixture
def finished(ws: Workspace) -> Workspace:
    """Every module is recorded as completed."""
    progress = Progress.load(ws)
    for module in course.modules():
        progress.module(module.id)["completed"] = "2026-01-01T00:00:00Z"
    progress.save(ws)
    return ws


# Rules --------------------------------------------------------------------------------------------


def test_rules_work_without_a_workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = tito("olympics", "rules").stdout
    for table in olympics.listed():
        assert table["title"] in text
    one = tito("olympics", "rules", "--track", "speed").stdout
    assert "10 times as fast as before" in one and "Vision" not in one
    assert one.splitlines()[-1] == "Next: tito olympics init --track speed"


def test_rules_for_programs(ws: Workspace) -> None:
    data = json.loads(tito("olympics", "rules", "--json").stdout)
    assert data["schema"] == 1 and [t["id"] for t in data["tracks"]] == list(olympics.TRACKS)
    [one] = json.loads(tito("olympics", "rules", "--track", "language", "--json").stdout)["tracks"]
    assert one["target"]["latency"] == 0.1 and one["data"] == ["tinytalks"]


def test_narrow_terminals(ws: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "44")
    text = tito("olympics", "rules").stdout
    assert max(map(len, text.splitlines())) <= 44 and "\x1b" not in text


# Init ---------------------------------------------------------------------------------------------


def test_init_writes_three_files_and_the_next_command(finished: Workspace) -> None:
    text = tito("olympics", "init", "--track", "vision").stdout
    place = finished.root / "olympics" / "vision"
    assert sorted(path.name for path in place.iterdir()) == ["RULES.md", "entry.py", "target.toml"]
    assert all(f"olympics/vision/{path.name}" in text for path in place.iterdir())
    assert text.splitlines()[-1] == "Next: python olympics/vision/entry.py"
    again = tito("olympics", "init", "--track", "vision").stdout
    assert "nothing was changed" in again
    assert json.loads(tito("olympics", "init", "--track", "vision", "--json").stdout)["files"] == []


def test_init_needs_the_modules(ws: Workspace) -> None:
    lines = tito("olympics", "init", "--track", "vision", code=2).stderr.splitlines()
    assert "01_tensor is not completed" in lines[0] and lines[1] == "Next: tito module start 01"
    assert not (ws.root / "olympics").exists()


def test_a_track_that_is_none_is_a_usage_error(ws: Workspace) -> None:
    lines = tito("olympics", "init", "--track", "chess", code=2).stderr.splitlines()
    assert len(lines) == 2 and "chess" in lines[0]


# Check --------------------------------------------------------------------------------------------


def test_check_without_a_submission_says_how_to_make_one(finished: Workspace) -> None:
    lines = tito("olympics", "check", code=2).stderr.splitlines()
    assert "no submission" in lines[0] and lines[1] == "Next: tito olympics rules"
    tito("olympics", "init", "--track", "speed")
    lines = tito("olympics", "check", code=2).stderr.splitlines()
    assert lines[1] == "Next: python olympics/speed/entry.py"
    text = tito("olympics", "check", "speed", code=1).stdout
    assert "✗ schema" in text and text.splitlines()[-1] == "Next: python olympics/speed/entry.py"


def test_check_says_what_is_wrong_and_ends_with_1(ws: Workspace) -> None:
    ws.write(ws.root / "olympics" / "vision" / "submission.json", "{}")
    text = tito("olympics", "check", code=1).stdout
    assert "schema is missing" in text and "leaderboard" not in text
    data = json.loads(tito("olympics", "check", "vision", "--json", code=1).stdout)
    assert data["ok"] is False and data["submissions"][0]["steps"][-1]["name"] == "schema"


def test_check_closes_with_the_leaderboard(ws: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    ws.write(ws.root / "olympics" / "vision" / "submission.json", "{}")
    verdict = Verdict("vision", [Row("schema", True, "whole")],
                      [Row("size", False, "2 times"), Row("speed", True, "9 times")])  # fmt: skip
    monkeypatch.setattr(olympics, "check", lambda *_: verdict)
    text = tito("olympics", "check").stdout
    assert "targets: 1 of 2 met" in text and "· size" in text
    *_, closing, last = text.splitlines()
    assert "submitting comes with the leaderboard" in closing and last.startswith("Next: tito ")
    data = json.loads(tito("olympics", "check", "--json").stdout)
    assert data["ok"] and data["submissions"][0]["targets"][0]["ok"] is False


def test_check_outside_a_workspace_is_code_3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TINYTORCH", raising=False)
    monkeypatch.chdir(tmp_path)
    assert "not in a workspace" in tito("olympics", "check", code=3).stderr


# Around it ----------------------------------------------------------------------------------------


def test_home_leads_to_the_olympics_when_all_is_done(finished: Workspace) -> None:
    assert json.loads(tito("--json").stdout)["next"] == "tito milestone list"
    progress = Progress.load(finished)
    for milestone in course.milestones():
        progress.milestones[milestone.id] = {"passed": "2026-01-02T00:00:00Z"}
    progress.save(finished)
    assert json.loads(tito("--json").stdout)["next"] == "tito olympics rules"


@pytest.mark.parametrize("args", [["--help"], ["check", "--help"], ["rules"]])
def test_help_and_rules_import_no_numpy(args: list[str]) -> None:
    code = ("import sys; from tito.cli import cli\n"
            f"try: cli.main({['olympics', *args]}, standalone_mode=False)\n"
            "except SystemExit: pass\n"
            "assert 'numpy' not in sys.modules")  # fmt: skip
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0
