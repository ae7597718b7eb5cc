"""The workspace: made, mended, found; nothing in it is ever lost, whenever tito is stopped."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

from tito import course, origin, workspace
from tito.workspace import Workspace, WorkspaceError


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TINYTORCH", "TITO_COURSE", "TINYTORCH_UPTO"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    return workspace.init(tmp_path / "my-torch")


def tree(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


# init --------------------------------------------------------------------------------------------


def test_init_makes_a_healthy_workspace(tmp_path: Path) -> None:
    ws = workspace.init(tmp_path / "deep" / "my-torch", format="py")
    assert ws == Workspace(tmp_path / "deep" / "my-torch", "py")
    marker = tomllib.loads((ws.root / "tinytorch.toml").read_text())
    assert marker == {"origin": "student", "format": "py"}
    for name in ("conftest.py", "README.md", ".gitignore", "tinytorch/py.typed", "modules"):
        assert (ws.root / name).exists(), name
    assert (ws.package_dir / "__init__.py").read_bytes() == origin.door_path().read_bytes()
    assert workspace.check_health(ws) == []


@pytest.mark.parametrize(
    ("name", "expected"), [("My Torch!", "My-Torch"), ("été", "t"), ("...", "my-torch")]
)
def test_init_names_the_package_as_packaging_allows(
    tmp_path: Path, name: str, expected: str
) -> None:
    from packaging.utils import canonicalize_name

    ws = workspace.init(tmp_path / "w", name=name)
    project = tomllib.loads((ws.root / "pyproject.toml").read_text())["project"]
    assert project["name"] == expected
    assert canonicalize_name(expected, validate=True)


def test_init_again_changes_nothing_and_mends_what_is_missing(ws: Workspace) -> None:
    (ws.root / "README.md").write_text("mine")
    before = tree(ws.root)
    (ws.root / "conftest.py").unlink()
    (ws.package_dir / "__init__.py").unlink()
    assert workspace.init(ws.root, format="py") == ws
    assert tree(ws.root) == before


def test_init_brings_an_old_door_up_to_date_and_keeps_it(ws: Workspace) -> None:
    door = ws.package_dir / "__init__.py"
    door.write_text("# an earlier release\n")
    [problem] = workspace.check_health(ws)
    assert "another release" in problem.text and problem.next.startswith("tito init ")
    workspace.init(ws.root)
    assert workspace.check_health(ws) == []
    assert ws.snapshots(door)[0].read_text() == "# an earlier release\n"


def test_init_goes_into_a_folder_with_only_hidden_files(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / ".gitignore").write_text("mine")
    ws = workspace.init(tmp_path)
    assert (ws.root / ".gitignore").read_text() == "mine"


@pytest.mark.parametrize(
    ("prepare", "says"),
    [
        (lambda p: (p / "thesis.tex").write_text(""), "not empty (thesis.tex, …)"),
        (lambda p: (p.rmdir(), p.write_text("")), "is a file"),
        (lambda p: (p / "tinytorch.toml").write_text('origin = "reference"'), "own clone"),
        (lambda p: (p.parent / "tinytorch.toml").write_text('origin = "student"'), "lies in the"),
    ],
)
def test_init_refuses_what_is_not_free(tmp_path: Path, prepare: object, says: str) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    prepare(folder)  # type: ignore[operator]
    before = tree(tmp_path)
    with pytest.raises(WorkspaceError) as caught:
        workspace.init(folder)
    assert says in str(caught.value)
    assert str(caught.value).split("\n")[1].startswith("Next: ")
    assert tree(tmp_path) == before


def test_init_refuses_an_unknown_format(tmp_path: Path) -> None:
    with pytest.raises(WorkspaceError, match="use ipynb or py"):
        workspace.init(tmp_path, format="docx")


# find --------------------------------------------------------------------------------------------


def test_find_goes_up_from_where_you_are(ws: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ws.modules_dir)
    assert workspace.find() == ws
    assert workspace.find(ws.package_dir) == ws


def test_find_obeys_the_variable(
    ws: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = workspace.init(tmp_path / "other")
    monkeypatch.chdir(other.root)
    monkeypatch.setenv("TINYTORCH", str(ws.root))
    assert workspace.find() == ws
    monkeypatch.setenv("TINYTORCH", "reference")
    assert workspace.find() == other
    monkeypatch.setenv("TINYTORCH", str(tmp_path))
    with pytest.raises(WorkspaceError, match="there is no tinytorch"):
        workspace.find()


def test_find_agrees_with_the_door(ws: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ws.modules_dir)
    assert origin.decide().root == workspace.find().root


@pytest.mark.parametrize(
    ("marker", "says"),
    [
        (None, "not in a workspace"),
        ('origin = "reference"', "the course's own clone"),
        ("origin", "not readable"),
        ('origin = "student"\nformat = "doc"', "format is 'doc'"),
    ],
)
def test_find_says_why_there_is_none(tmp_path: Path, marker: str | None, says: str) -> None:
    if marker:
        (tmp_path / "tinytorch.toml").write_text(marker)
    with pytest.raises(WorkspaceError) as caught:
        workspace.find(tmp_path)
    assert says in str(caught.value) and "\nNext: " in str(caught.value)


def test_notebook_path_follows_the_format_unless_only_the_other_is_there(ws: Workspace) -> None:
    module = course.find_module(1)
    folder = ws.modules_dir / "01_tensor"
    assert ws.notebook_path(module) == folder / "tensor.ipynb"
    ws.write(folder / "tensor.py", "")
    assert ws.notebook_path(module) == folder / "tensor.py"
    ws.write(folder / "tensor.ipynb", "")
    assert ws.notebook_path(module) == folder / "tensor.ipynb"


def test_export_path_is_inside_the_package(ws: Workspace) -> None:
    assert ws.export_path("core.tensor") == ws.root / "tinytorch/core/tensor.py"
    assert ws.export_path("profiling") == ws.root / "tinytorch/profiling.py"


# write -------------------------------------------------------------------------------------------


def test_write_keeps_bytes_mode_and_links(ws: Workspace) -> None:
    path, link = ws.root / "real" / "a.py", ws.root / "link.py"
    ws.write(path, "é\r\n")
    assert path.read_bytes() == "é\r\n".encode()
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask()
    path.chmod(0o750)
    link.symlink_to(path)
    ws.write(link, b"2")
    assert link.is_symlink() and path.read_bytes() == b"2"
    assert stat.S_IMODE(path.stat().st_mode) == 0o750


def umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_write_interrupted_leaves_the_old_file(
    ws: Workspace, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    ws.write(ws.root / "a.py", "old")

    def stop(_: int) -> None:
        raise error

    monkeypatch.setattr(os, "fsync", stop)
    before = tree(ws.root)
    with pytest.raises(error):
        ws.write(ws.root / "a.py", "new")
    assert tree(ws.root) == before


WRITER = """
import sys
from pathlib import Path
from tito.workspace import Workspace
ws = Workspace(Path(sys.argv[1]))
print("ready", flush=True)
n = 0
while True:
    n += 1
    ws.replace(ws.root / "a.py", f"{n} " * 20_000, "loop")
"""


def test_write_killed_at_any_moment_leaves_a_whole_file(ws: Workspace) -> None:
    for wait in (0.003, 0.011, 0.05, 0.09):
        command = [sys.executable, "-c", WRITER, str(ws.root)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout and process.stdout.readline()
            time.sleep(wait)
            process.send_signal(signal.SIGKILL)
        for copy in [ws.root / "a.py", *ws.snapshots(ws.root / "a.py")]:
            words = copy.read_text().split() if copy.exists() else []
            assert len(words) in (0, 20_000) and len(set(words)) <= 1
        assert workspace.check_health(ws) == []
    ws.sweep()
    assert not [path for path in ws.root.rglob("*") if path.name.startswith(".tito-")]


def test_sweep_takes_leftovers_and_leaves_a_running_tito_alone(ws: Workspace) -> None:
    running = ws.root / f".tito-{os.getppid()}-abcd.tmp"
    left = [ws.modules_dir / ".tito-999999999-ab.tmp", ws.snapshots_dir / ".tito-999999999-cd.tmp"]
    running.write_text("")
    left[0].write_text("")
    (left[1] / "deep").mkdir(parents=True)
    (left[1] / "deep" / "file").write_text("")
    assert workspace.check_health(ws) == []
    assert sorted(ws.sweep()) == sorted(left)
    assert running.exists() and not any(path.exists() for path in left)


# snapshots ---------------------------------------------------------------------------------------


def test_snapshot_keeps_what_changed_in_its_place(ws: Workspace) -> None:
    a, b = ws.modules_dir / "01_tensor/a.py", ws.root / "b.py"
    ws.write(a, "a1")
    ws.write(b, "b1")
    first = ws.snapshot("before reset!", a, b, ws.root / "missing.py")
    assert first and first.name.endswith("Z-0001-before-reset")
    assert tree(first) == {"modules/01_tensor/a.py": b"a1", "b.py": b"b1"}
    assert ws.snapshot("again", a, b) is None
    ws.write(b, "b2")
    second = ws.snapshot("again", a, b)
    assert second and tree(second) == {"b.py": b"b2"}
    assert [copy.read_text() for copy in ws.snapshots(b)] == ["b1", "b2"]


def test_snapshot_of_a_folder_keeps_all_in_it(ws: Workspace) -> None:
    ws.write(ws.modules_dir / "x/1.py", "1")
    ws.write(ws.modules_dir / "x/y/2.py", "2")
    kept = ws.snapshot("reset", ws.modules_dir / "x")
    assert kept and tree(kept) == {"modules/x/1.py": b"1", "modules/x/y/2.py": b"2"}


def test_snapshots_are_in_order_even_when_the_clock_goes_back(
    ws: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = ws.root / "a.py"
    for stamp, text in (("20300101T000000Z", "1"), ("20200101T000000Z", "2")):
        monkeypatch.setattr(time, "strftime", lambda *_, stamp=stamp: stamp)
        ws.write(path, text)
        ws.snapshot("s", path)
    assert [copy.read_text() for copy in ws.snapshots(path)] == ["1", "2"]


def test_snapshot_outside_the_workspace_is_refused(ws: Workspace, tmp_path: Path) -> None:
    (tmp_path / "elsewhere.py").write_text("")
    with pytest.raises(WorkspaceError, match="outside the workspace"):
        ws.snapshot("s", tmp_path / "elsewhere.py")


def test_restore_brings_back_and_restores_itself(ws: Workspace) -> None:
    path = ws.root / "a.py"
    ws.write(path, "mine")
    assert ws.replace(path, "fresh", "reset") and not ws.replace(path, "fresh", "reset")
    assert ws.restore(path).read_text() == path.read_text() == "mine"
    ws.restore(path)
    assert path.read_text() == "fresh"
    ws.restore(path, ws.snapshots(path)[0])
    assert path.read_text() == "mine"
    path.unlink()
    ws.restore(path)
    assert path.exists()


def test_restore_without_a_snapshot_says_so(ws: Workspace) -> None:
    with pytest.raises(WorkspaceError, match="there is no snapshot"):
        ws.restore(ws.root / "a.py")


# refresh and health ------------------------------------------------------------------------------


def test_refresh_writes_what_follows_from_the_built_modules(ws: Workspace) -> None:
    tensor = '__all__ = ["Tensor", "stack"]\nTensor = stack = object()\n'
    ws.write(ws.export_path("core.tensor"), tensor)
    ws.write(ws.export_path("core.activations"), '__all__ = ["ReLU"]\nReLU = object()\n')
    workspace.refresh(ws)
    assert workspace.refresh(ws) == []
    stub = (ws.package_dir / "__init__.pyi").read_text()
    assert "from . import core as core\nfrom . import nn as nn\n" in stub
    ruff = [sys.executable, "-m", "ruff", "check", "--no-cache", "--quiet", "."]
    assert subprocess.run(ruff, cwd=ws.root, capture_output=True, text=True).stdout == ""
    assert "from tinytorch.core.tensor import Tensor as Tensor\n" in stub
    names = [origin.exported_names(ws.package_dir / p / "__init__.py") for p in ("core", "nn")]
    assert [sorted(each) for each in names] == [["ReLU", "Tensor", "stack"], ["ReLU"]]
    assert not (ws.package_dir / "optim").exists()


def test_refresh_forgets_a_module_that_is_gone_and_keeps_a_copy(ws: Workspace) -> None:
    ws.write(ws.export_path("data.loader"), '__all__ = ["DataLoader"]\n')
    workspace.refresh(ws)
    facade = ws.package_dir / "data/__init__.py"
    assert "DataLoader" in facade.read_text()
    ws.export_path("data.loader").unlink()
    workspace.refresh(ws)
    assert facade.read_text() == ""
    assert "DataLoader" in ws.snapshots(facade)[-1].read_text()
    assert "DataLoader" not in (ws.package_dir / "__init__.pyi").read_text()


def test_refresh_lists_a_name_once_for_the_later_module(ws: Workspace) -> None:
    ws.write(ws.export_path("nn.conv"), '__all__ = ["conv2d"]\n')
    ws.write(ws.export_path("core.acceleration"), '__all__ = ["conv2d"]\n')
    workspace.refresh(ws)
    stub = (ws.package_dir / "__init__.pyi").read_text()
    assert stub.count("conv2d as conv2d") == 1
    assert "from tinytorch.core.acceleration import conv2d" in stub


def test_health_names_what_is_wrong_and_what_helps(ws: Workspace) -> None:
    (ws.root / "conftest.py").unlink()
    (ws.package_dir / "__init__.py").unlink()
    ws.write(ws.modules_dir / "01_tensor" / "numpy.py", "")
    texts = [problem.text for problem in workspace.check_health(ws)]
    assert texts == [
        "conftest.py is missing",
        "tinytorch/__init__.py, the door, is missing",
        "modules/01_tensor/numpy.py hides the real numpy from Python",
    ]
    workspace.init(ws.root)
    assert len(workspace.check_health(ws)) == 1


def test_workspace_import_is_light() -> None:
    code = (
        "import sys, tito.workspace, tito.progress\n"
        "print([n for n in ('numpy', 'tinytorch', 'shutil', 'psutil') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
