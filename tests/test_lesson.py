"""The learner's loop keeps its promises: whatever a cell does, and whenever tito is killed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tito import course, explain, lesson, sandbox, source, workspace
from tito.lesson import Report
from tito.progress import Progress
from tito.sandbox import Outcome
from tito.source import Cell, Notebook
from tito.workspace import Workspace

MB = 1 << 20


def files(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*")
            if p.is_file() and "__pycache__" not in p.parts}


def check(learner: Any, timeout: float = 20.0) -> Report:
    """Check module 01; the workspace is then as it was, and healthy."""
    before = files(learner.ws.root)
    report = lesson.test(learner.ws, course.find_module(1), timeout)
    assert files(learner.ws.root) == before
    assert workspace.check_health(learner.ws) == []
    return report


# Whatever a cell does ----------------------------------------------------------------------------

BEHAVIOURS = {
    "loop": ("while True: pass", "timeout", "still running after 2 s"),
    "sleep": ("import time; time.sleep(60)", "timeout", "never ends"),
    "exit": ("import sys; sys.exit(3)", "exit", "your code called exit (3)"),
    "os_exit": ("import os; os._exit(0)", "exit", "ended Python itself"),
    "os_exit_9": ("import os; os._exit(9)", "crash", "code 9"),
    "abort": ("import os; os.abort()", "crash", "Python stopped here"),
    "memory": ("return len(bytearray(10 << 30))", "memory", "too much memory"),
    "recursion": ("return self.total()", "error", "it raised RecursionError"),
    "input": ("return input('?')", "error", "it raised EOFError"),
    "syntax": ("return )", "syntax", "Python cannot read this cell"),
    "kill": ("import os; os.kill(os.getpid(), 9)", "crash", "out of memory is the usual reason"),
}


@pytest.mark.parametrize("name", BEHAVIOURS)
def test_sandbox_gives_a_verdict(learner: Any, name: str) -> None:
    code, kind, said = BEHAVIOURS[name]
    learner.solve(1, Tensor__total=code)
    report = check(learner, timeout=2.0 if kind == "timeout" else 20.0)
    assert report.failure is not None and report.failure.kind == kind
    assert report.failure.step.name == "Tensor.total" and report.number == 2
    assert said in "\n".join(explain.failure(report))
    assert report.passed == ["Tensor"]


def test_sandbox_keeps_the_head_of_a_hundred_megabytes(learner: Any) -> None:
    code = "import sys\nfor _ in range(100): sys.stdout.write('x' * 1048575 + '\\n')\nreturn 0"
    learner.solve(1, Tensor__total=code)
    report = check(learner)
    assert report.failure is not None and report.failure.kind == "check"
    assert len(report.output) < MB and "MB more, not shown" in report.output
    assert len("\n".join(explain.lines(report))) < 10_000


def test_sandbox_stops_what_the_code_started(learner: Any, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    code = ("import subprocess, sys\n"
            "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
            f"open({str(pid)!r}, 'w').write(str(child.pid))\nreturn 0")
    learner.solve(1, Tensor__total=code)
    check(learner)
    state = Path(f"/proc/{pid.read_text()}/status")
    assert not state.exists() or "zombie" in state.read_text()


def test_scratch_cells_of_the_learner_cannot_fail_a_check(learner: Any) -> None:
    learner.solve()
    path = learner.notebook()
    nb = source.read(path)
    nb.cells.insert(2, Cell("code", "1 / 0"))
    path.write_text(source.write(path, nb))
    assert check(learner).ok


# Damaged notebooks -------------------------------------------------------------------------------


def change(learner: Any, edit: Callable[[list[Cell]], list[Cell]]) -> None:
    """Solve module 01, then change the list of its cells."""
    learner.solve()
    path = learner.notebook()
    nb = source.read(path)
    path.write_text(source.write(path, Notebook(edit(nb.cells), nb.metadata)))


def named(cells: list[Cell], role: str, name: str) -> Cell:
    return next(cell for cell in cells if (cell.role, cell.name) == (role, name))


def test_deleted_exercise_counts_as_unsolved_and_says_so(learner: Any) -> None:
    gone = ("exercise", "Tensor.total")
    change(learner, lambda cells: [cell for cell in cells if (cell.role, cell.name) != gone])
    report = check(learner)
    assert report.failure is not None and report.failure.kind == "unsolved" and report.number == 2
    assert "the cell of exercise Tensor.total is gone" in "\n".join(report.notices)


def test_duplicated_exercise_is_for_the_learner_to_decide(learner: Any) -> None:
    change(learner, lambda cells: [*cells, named(cells, "exercise", "Tensor")])
    report = check(learner)
    assert report.failure is not None and report.failure.kind == "notebook"
    text = "\n".join(explain.failure(report))
    assert "stands twice" in text and "delete the one you do not want" in text
    assert explain.next_command(report) == "tito notebook open 01"


def test_edited_check_is_run_as_it_was_and_restored_on_complete(learner: Any) -> None:
    def cheat(cells: list[Cell]) -> list[Cell]:
        named(cells, "check", "Tensor.total").source = "pass"
        return cells

    change(learner, cheat)
    report = check(learner)
    assert report.ok and report.notices == ["check Tensor.total was edited: the original was run"]
    edited = learner.notebook().read_bytes()
    assert lesson.complete(learner.ws, report.module).ok
    restored = source.read(learner.notebook()).cells
    assert "1 + 2 + 3" in named(restored, "check", "Tensor.total").source
    assert [copy.read_bytes() for copy in learner.ws.snapshots(learner.notebook())] == [edited]


def test_edited_check_does_not_let_a_wrong_answer_pass(learner: Any) -> None:
    def cheat(cells: list[Cell]) -> list[Cell]:
        named(cells, "check", "Tensor.total").source = "pass"
        wrong = named(cells, "exercise", "Tensor.total")
        wrong.source = wrong.source.replace("sum(self.data)", "0")
        return cells

    change(learner, cheat)
    report = lesson.complete(learner.ws, course.find_module(1))
    assert not report.ok and not learner.ws.export_path("core.tensor").exists()


def test_deleted_check_is_put_back_where_it_was(learner: Any) -> None:
    change(learner, lambda cells: [c for c in cells if c.role != "check"])
    assert lesson.complete(learner.ws, course.find_module(1)).ok
    shipped = [(c.role, c.name) for c in source.read(course.find_module(1).path).cells if c.role]
    assert [(c.role, c.name) for c in source.read(learner.notebook()).cells if c.role] == shipped


def test_helper_outside_the_exported_cells_is_caught_on_the_exported_file(learner: Any) -> None:
    def helper(cells: list[Cell]) -> list[Cell]:
        wanted = named(cells, "exercise", "Tensor.total")
        wanted.source = wanted.source.replace("sum(self.data)", "add(self.data)")
        return [Cell("code", "def add(x):\n    return sum(x)"), *cells]

    change(learner, helper)
    assert check(learner).ok
    report = lesson.complete(learner.ws, course.find_module(1))
    assert report.failure is not None and "name 'add' is not defined" in report.failure.what
    assert "#| export" in "\n".join(explain.failure(report))
    assert not learner.ws.export_path("core.tensor").exists()


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"cells": 3}', "\x00\x01", "null"])
def test_damaged_notebook_is_named_and_left_alone(learner: Any, damage: str) -> None:
    learner.notebook().write_text(damage)
    before = files(learner.ws.root)
    for verb in (["test"], ["complete"], ["status"]):
        lines = learner.tito("module", *verb, "1", code=3).stderr.splitlines()
        assert len(lines) == 2 and str(learner.notebook()) in lines[0] and "Next: " in lines[1]
    assert files(learner.ws.root) == before


def test_report_survives_json(learner: Any) -> None:
    learner.solve(1, Tensor__total="return self.data[0]")
    report = check(learner)
    again = explain.from_dict(json.loads(json.dumps(explain.as_dict(report))))
    assert explain.lines(again) == explain.lines(report)
    assert explain.next_command(again) == explain.next_command(report)


# Killed at any moment ----------------------------------------------------------------------------

# Every fifth time the checks really run; otherwise they are taken as passed, which is what they do.
KILLER = """
import os, signal, sys
root, last = sys.argv[1], int(sys.argv[2])
seen = 0
TOUCHING = {"os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.chmod", "shutil.rmtree"}

def hook(event, args):
    global seen
    if event == "open":
        path, mode, flags = args
        counts = str(path).startswith(root) and bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
    else:
        counts = event == "subprocess.Popen" or (
            event in TOUCHING and any(str(a).startswith(root) for a in args))
    if counts:
        seen += 1
        if seen == last:
            os.kill(os.getpid(), signal.SIGKILL)

from pathlib import Path
from tito import course, lesson, sandbox, workspace

def passed(steps, **_):
    sys.audit("subprocess.Popen", "", (), None, None)
    return sandbox.Outcome(passed=list(steps))

if last % 5:
    sandbox.run = passed
ws, module = workspace.find(Path(root)), course.find_module(1)
sys.addaudithook(hook)
report = lesson.complete(ws, module)
sys.exit(0 if report.ok else 1)
"""


def prepared(learner: Any) -> tuple[bytes, bytes]:
    """Module 01 completed, then rewritten, with one check edited: the longest way through complete.

    Returns the notebook as the learner left it, and as `complete` repairs it.
    """
    learner.solve()
    learner.tito("module", "complete", code=0)
    learner.solve(1, Tensor__total="return sum(iter(self.data))")
    whole = learner.notebook().read_bytes()
    learner.edit(lambda text: text.replace("1 + 2 + 3", "never mind"))
    return learner.notebook().read_bytes(), whole


def kills(learner: Any, folder: Path) -> Iterator[tuple[Workspace, int]]:
    """A workspace for every moment `complete` can be killed at; ends when it survives."""
    script = folder / "killer.py"
    script.write_text(KILLER)
    for moment in range(1, 200):
        root = folder / f"kill-{moment}"
        shutil.copytree(learner.ws.root, root)
        done = subprocess.run([sys.executable, script, str(root), str(moment)], text=True,
                              capture_output=True, cwd=root)
        if done.returncode == 0:
            return
        assert done.returncode == -9, done.stderr
        yield Workspace(root), moment
        shutil.rmtree(root)
    raise AssertionError("complete never ends")


def test_killed_at_any_moment_complete_leaves_a_workspace_that_works(
    learner: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left, repaired = prepared(learner)
    module, moments = course.find_module(1), 0
    for ws, moment in kills(learner, tmp_path):
        assert workspace.check_health(ws) == [], moment
        assert ws.notebook_path(module).read_bytes() in (left, repaired), moment
        compile(ws.export_path("core.tensor").read_text(), "tensor.py", "exec")
        assert Progress.load(ws).is_completed("01_tensor"), moment
        with monkeypatch.context() as patch:
            if moment % 5:
                patch.setattr(sandbox, "run", lambda steps, **_: Outcome(passed=list(steps)))
            again(ws)
        moments += 1
    assert moments > 10


def again(ws: Workspace) -> None:
    """`import tinytorch` works, and so does completing once more; nothing is left lying about."""
    code = "import tinytorch, sys; sys.exit(tinytorch.Tensor([1, 2]).total() != 3)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ws.root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert lesson.complete(ws, course.find_module(1)).ok
    assert "iter(self.data)" in ws.export_path("core.tensor").read_text()
    ws.sweep()
    assert not [name for name in files(ws.root) if ".tito-" in name]
    assert os.path.isdir(ws.state_dir)
