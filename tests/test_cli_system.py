"""`tito system`: findings that can be pasted, and an exit code that tells."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tito import doctor


@pytest.fixture
def owner(learner: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """A learner with the real course, whose home is the folder above the workspace."""
    monkeypatch.delenv("TITO_COURSE")
    monkeypatch.setenv("HOME", str(tmp_path))
    learner.tito("init", str(learner.ws.root), code=0)
    return learner


def test_doctor_finds_a_healthy_workspace(owner: Any) -> None:
    text = owner.tito("system", "doctor", code=0).stdout
    found = {line.split()[1] for line in text.splitlines() if line.startswith("ok ")}
    assert found >= {"python", "cores", "disk", "numpy", "blas", "import", "workspace", "data"}
    assert "healthy" in text and text.splitlines()[-1] == "Next: tito"


def test_doctor_names_no_home_folder_and_no_password(
    owner: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TINYTORCH_DATA", "https://me:secret@example.org/data")
    for args in ([], ["--json"]):
        text = owner.tito("system", "doctor", *args, code=0).stdout
        assert str(tmp_path) not in text and "secret" not in text and "my-torch" in text


def test_doctor_of_a_broken_workspace_is_code_3_with_the_remedy(owner: Any) -> None:
    (owner.ws.package_dir / "__init__.py").unlink()
    result = owner.tito("system", "doctor", code=3)
    assert "the door, is missing" in result.stdout
    assert result.stdout.splitlines()[-1] == "Next: tito init ~/my-torch"
    findings = json.loads(owner.tito("system", "doctor", "--json", code=3).stdout)["findings"]
    assert [f["state"] for f in findings].count("broken") == 1
    owner.tito("init", str(owner.ws.root), code=0)
    owner.tito("system", "doctor", code=0)


def test_doctor_names_the_exported_file_that_python_cannot_read(owner: Any) -> None:
    owner.ws.write(owner.ws.export_path("core.tensor"), "import numpy\n\ndef broken(:\n")
    owner.ws.write(owner.ws.export_path("core.losses"), "x = '\0'\n")
    result = owner.tito("system", "doctor", "--json", code=3)
    first, second = [f for f in json.loads(result.stdout)["findings"] if f["name"] == "export"]
    assert first["text"].startswith("tinytorch/core/tensor.py, line 3: Python cannot read it (")
    assert (first["state"], first["next"]) == ("broken", "tito module complete 01")
    assert "tinytorch/core/losses.py" in second["text"] and "null" in second["text"]


def test_doctor_counts_one_module_as_one(owner: Any) -> None:
    owner.ws.write(owner.ws.export_path("core.tensor"), "")
    (owner.ws.state_dir / "progress.json").unlink()
    assert "progress   1 module completed\n" in owner.tito("system", "doctor", code=0).stdout


def test_doctor_sweeps_what_an_interrupted_tito_left(owner: Any) -> None:
    left = owner.ws.root / "modules" / ".tito-1234567-abcd.tmp"
    left.write_text("half")
    assert "1 temporary file of" in owner.tito("system", "doctor", code=0).stdout
    assert not left.exists()


def test_doctor_without_numpy_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_ASK_NUMPY", "import no_such_module")
    [finding] = list(doctor._numpy())
    assert finding.state == "broken" and "no_such_module" in finding.text


def test_doctor_outside_a_workspace_is_not_broken(nowhere: Any, monkeypatch: Any) -> None:
    monkeypatch.delenv("TITO_COURSE")
    text = nowhere.tito("system", "doctor", code=0).stdout
    assert "not in a workspace" in text and "tito init my-torch" in text


def test_kernels_are_compared_in_children(monkeypatch: pytest.MonkeyPatch) -> None:
    speeds = {"": iter([50.0, 52.0, 51.0]), "SKYLAKEX": iter([70.0, 71.0, 69.0])}
    monkeypatch.setattr(doctor, "_has_avx512", lambda: True)
    monkeypatch.setattr(doctor, "_child", lambda _, **env: next(speeds[env["OPENBLAS_CORETYPE"]]))
    finding = doctor.kernels()
    assert finding.state == "note" and "51 GFLOP/s" in finding.text and "70" in finding.text
    assert finding.next.startswith("export OPENBLAS_CORETYPE=SKYLAKEX")


def test_info_says_whose_code_runs(owner: Any) -> None:
    facts = json.loads(owner.tito("system", "info", "--json", code=0).stdout)
    assert facts["tinytorch"].startswith("student (") and "tinytorch.toml above" in facts["because"]
    assert "student" in owner.tito("system", "info", code=0).stdout


def test_info_without_any_framework_still_answers(nowhere: Any) -> None:
    assert "nobody's" in nowhere.tito("system", "info", code=0).stdout
