"""`tito init`: a workspace made once, mended later."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tito import workspace


def test_init_makes_a_workspace_and_says_where_to_go(nowhere: Any) -> None:
    text = nowhere.tito("init", "my-torch", code=0).stdout
    assert "your framework" in text
    assert text.splitlines()[-1] == "Next: cd my-torch && tito module start 01"
    assert workspace.find(Path("my-torch")).format == "ipynb"


def test_init_in_plain_python(nowhere: Any, monkeypatch: Any) -> None:
    nowhere.tito("init", "my torch", "--format", "py", code=0)
    monkeypatch.chdir("my torch")
    nowhere.tito("module", "start", code=0)
    assert Path("modules/01_tensor/tensor.py").is_file()


def test_init_quotes_a_folder_with_spaces(nowhere: Any) -> None:
    assert "Next: cd 'my torch' &&" in nowhere.tito("init", "my torch", code=0).stdout


def test_init_again_mends_and_says_so(learner: Any) -> None:
    (learner.ws.root / "conftest.py").unlink()
    text = learner.tito("init", ".", code=0).stdout
    assert "is whole" in text and (learner.ws.root / "conftest.py").is_file()
    assert text.splitlines()[-1] == "Next: tito watch 01"


def test_init_refuses_a_folder_with_something_in_it(nowhere: Any) -> None:
    Path("full").mkdir()
    Path("full/essay.txt").write_text("mine")
    lines = nowhere.tito("init", "full", code=2).stderr.splitlines()
    assert "not empty" in lines[0] and len(lines) == 2
    assert [p.name for p in Path("full").iterdir()] == ["essay.txt"]
