"""`tito notebook`: opening without ever blocking, converting without losing anything."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tito import source
from tito.commands import notebook


def test_open_without_a_terminal_prints_the_command(learner: Any) -> None:
    text = learner.tito("notebook", "open", "1", code=0).stdout
    assert text.strip().endswith(f"-m jupyter lab {learner.notebook()}")


def test_open_without_jupyter_says_what_to_install(learner: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(notebook, "find_spec", lambda name: None)
    for tool, package in (("jupyter", "jupyterlab"), ("marimo", "marimo")):
        lines = learner.tito("notebook", "open", "--with", tool, code=3).stderr.splitlines()
        assert len(lines) == 2 and f"-m pip install {package} " in lines[1]


def test_open_in_an_editor(learner: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("VISUAL", "EDITOR"):
        monkeypatch.delenv(name, raising=False)
    assert learner.tito("notebook", "open", "--with", "editor", code=3).stderr.count("\n") == 2
    monkeypatch.setenv("EDITOR", "code --wait")
    text = learner.tito("notebook", "open", "--with", "editor", "--print", code=0).stdout
    assert text.strip() == f"code --wait {learner.notebook()}"


def test_open_starts_the_editor_on_a_terminal(learner: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("tito.screen.interactive", lambda: True)
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("EDITOR", f"{sys.executable} -c pass")
    assert "tito watch 01" in learner.tito("notebook", "open", "--with", "editor", code=0).stderr
    monkeypatch.setenv("EDITOR", "no-such-editor")
    assert "no program" in learner.tito("notebook", "open", "--with", "editor", code=3).stderr


def test_open_colab_explains_and_sends_nothing(learner: Any) -> None:
    text = learner.tito("notebook", "open", "--with", "colab", code=0).stdout
    assert "Upload notebook" in text and "modules/01_tensor/tensor.ipynb" in text


def test_open_for_marimo_is_a_copy(learner: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(notebook, "find_spec", lambda name: object())
    before = learner.notebook().read_bytes()
    text = learner.tito("notebook", "open", "--with", "marimo", "--print", code=0).stdout
    convert, edit = text.splitlines()
    play = learner.ws.state_dir / "explore" / "01_tensor.py"
    assert convert.endswith(f"convert {play.with_suffix('.ipynb')} -o {play}")
    assert edit.endswith(f"-m marimo edit {play}")
    play.touch()
    again = learner.tito("notebook", "open", "--with", "marimo", "--print", code=0).stdout
    assert again.splitlines() == [edit] and learner.notebook().read_bytes() == before


def test_convert_keeps_code_and_progress(learner: Any) -> None:
    learner.solve()
    learner.tito("module", "complete", code=0)
    old = learner.notebook()
    cells = source.read(old).cells
    assert "tensor.py" in learner.tito("notebook", "convert", "1", "--to", "py", code=0).stdout
    new = learner.notebook()
    assert new.suffix == ".py" and not old.exists() and source.read(new).cells == cells
    assert learner.ws.snapshots(old)
    learner.tito("module", "test", "1", code=0)
    learner.tito("notebook", "convert", "1", "--to", "ipynb", code=0)
    assert learner.notebook() == old and source.read(old).cells == cells


def test_convert_all_is_for_what_comes_as_well(learner: Any) -> None:
    learner.solve()
    learner.tito("module", "start", "1", "--extra", code=0)
    learner.tito("module", "complete", code=0)
    data = json.loads(learner.tito("notebook", "convert", "--all", "--to", "py", "--json").stdout)
    assert data["format"] == "py" and len(data["converted"]) == 2
    assert 'format = "py"' in (learner.ws.root / "tinytorch.toml").read_text()
    learner.tito("module", "start", "2", code=0)
    assert (learner.ws.modules_dir / "02_activations" / "activations.py").is_file()
    assert "nothing to convert" in learner.tito("notebook", "convert", "--all", "--to", "py").stdout


def test_convert_stopped_half_way_is_ended_by_converting_again(
    learner: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise OSError(5, "Input/output error")

    learner.solve()
    cells = source.read(learner.notebook()).cells
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", stopped)
        learner.tito("notebook", "convert", "1", "--to", "py", code=3)
    assert source.read(learner.notebook()).cells == cells
    learner.tito("module", "test", code=0)
    learner.tito("notebook", "convert", "1", "--to", "py", code=0)
    assert learner.notebook().suffix == ".py" and source.read(learner.notebook()).cells == cells


def test_convert_of_a_damaged_notebook_changes_nothing(learner: Any) -> None:
    learner.edit(lambda text: text[:300])
    before = learner.notebook().read_bytes()
    assert "not JSON" in learner.tito("notebook", "convert", "1", "--to", "py", code=3).stderr
    assert learner.notebook().read_bytes() == before
    assert len(list(learner.notebook().parent.iterdir())) == 1


def test_convert_needs_one_or_all(learner: Any) -> None:
    result = learner.tito("notebook", "convert", "1", "--all", "--to", "py", code=2)
    assert "name none" in result.stderr
