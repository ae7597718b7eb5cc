"""`tito checkpoint` as a learner calls it: output, JSON, exit codes."""

from __future__ import annotations

import json

import pytest

from tests.workspaces import built, tito
from tito.workspace import Workspace


@pytest.fixture
def ws(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    for name in ("TINYTORCH", "TINYTORCH_UPTO", "TITO_COURSE"):
        monkeypatch.delenv(name, raising=False)
    made = built(tmp_path_factory.mktemp("cli") / "my-torch", last=2)
    monkeypatch.chdir(made.root)
    return made


def test_status_has_a_line_for_each_and_the_next_command(ws: Workspace) -> None:
    lines = tito("checkpoint", "status").stdout.splitlines()
    assert len(lines) == 17 and lines[-1] == "Next: tito checkpoint test 0"
    states = [line.split()[1] for line in lines[:16]]
    assert states[:4] == ["open", "open", "open", "locked"]
    assert set(states[4:]) <= {"planned", "locked"}
    assert "needs 03_layers" in lines[3]
    data = json.loads(tito("checkpoint", "status", "--json").stdout)
    assert data["schema"] == 1 and [c["number"] for c in data["checkpoints"]] == list(range(16))


def test_pass_marks_every_question_and_is_remembered(ws: Workspace) -> None:
    shown = tito("checkpoint", "test", "1").stdout
    assert shown.startswith("tinytorch: student (") and shown.count("✓") == 6
    assert shown.splitlines()[-1] == "Next: tito checkpoint test 0"
    assert tito("checkpoint", "status").stdout.splitlines()[1].split()[1] == "passed"


def test_failure_explains_names_the_module_and_ends_with_1(ws: Workspace) -> None:
    file = ws.export_path("core.activations")
    file.write_text(file.read_text() + "\nReLU.forward = lambda self, x: x * 1\n")
    shown = tito("checkpoint", "test", "nonlinearity", code=1).stdout
    for said in ("✗ draw a curve with bends", "· stay finite", "expected", "got", "why", "look at"):
        assert said in shown
    assert shown.splitlines()[-1] == "Next: tito module test 02"
    data = json.loads(tito("checkpoint", "test", "2", "--json", code=1).stdout)
    assert not data["ok"] and data["blame"]["guilty"] == "02_activations"


@pytest.mark.parametrize(
    ("name", "said"),
    [("16", "they are 0 to 15"), ("5", "not completed"), ("15", "built on modules up to 20")],
)
def test_mistakes_get_two_lines_and_code_2(ws: Workspace, name: str, said: str) -> None:
    stderr = tito("checkpoint", "test", name, code=2).stderr
    assert said in stderr and stderr.splitlines()[-1].startswith("Next: tito")
