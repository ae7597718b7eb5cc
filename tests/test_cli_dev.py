"""`tito dev build`: what the course ships, the same bytes every time; the manual."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tito import cli, pages, source


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_build_is_deterministic_and_holds_no_solution(nowhere: Any) -> None:
    for name in ("one", "two"):
        nowhere.tito("dev", "build", "--to", name, "--notebooks", "--package", code=0)
    first = tree(Path("one"))
    assert first == tree(Path("two"))
    assert {"notebooks/01_tensor/tensor.ipynb", "package/tinytorch/core/tensor.py"} <= set(first)
    for cell in source.read(Path("one/notebooks/01_tensor/tensor.ipynb")).cells:
        assert "SOLUTION" not in cell.source and "sum(self.data)" not in cell.source


def test_built_package_needs_no_tito(nowhere: Any) -> None:
    nowhere.tito("dev", "build", "--to", "out", "--package", code=0)
    code = ("import sys; sys.modules['tito'] = None; sys.path.insert(0, '.');"
            "from tinytorch import relu, Tensor; print(relu(Tensor([-1, 2])).data)")
    done = subprocess.run([sys.executable, "-I", "-c", code], cwd="out/package", text=True,
                          capture_output=True)
    assert done.stdout.strip() == "[0, 2]", done.stderr


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_manual_has_a_page_with_every_command_of_the_group(name: str) -> None:
    text = pages.page(name)
    assert text.startswith(f"# tito {name}\n") and "Exit codes: 0" in text
    for path, command, context in pages.commands(name):
        assert f"tito {' '.join(path)}" in text
        for parameter in command.get_params(context):
            if parameter.param_type_name == "option" and "--help" not in parameter.opts:
                assert parameter.opts[0] in text, (path, parameter.opts)


def test_manual_index_links_every_page_and_explains_exit_codes() -> None:
    text = pages.index()
    assert all(f"[tito {name}]({name}.md)" in text for name in cli.COMMANDS)
    assert "| 130 | Ctrl-C |" in text and "| 4 |" in text


def test_manual_is_written_by_dev_build(nowhere: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "COMMANDS", {"module": cli.COMMANDS["module"]})
    nowhere.tito("dev", "build", "--docs", "--to", "docs", code=0)
    assert sorted(p.name for p in Path("docs/cli").iterdir()) == ["index.md", "module.md"]
    assert "```\ntito module start 01\n```" in Path("docs/cli/module.md").read_text()
