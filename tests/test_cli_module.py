"""`tito module`: the learner's loop at the command line."""

from __future__ import annotations

import json
import re
from typing import Any

import click
import pytest

from tito import course, hints, overview, views
from tito.progress import Progress


def test_list_shows_every_state(learner: Any) -> None:
    text = learner.tito("module", "list", code=0).stdout
    states = dict(line.split()[:2] for line in text.splitlines()[:3])
    assert states == {"01_tensor": "started", "02_activations": "locked", "03_layers": "planned"}
    assert text.splitlines()[-1] == "Next: tito watch 01"


def test_start_writes_the_notebook_once(learner: Any) -> None:
    learner.edit(lambda text: text.replace("Numbers in a row", "Mine"))
    before = learner.notebook().read_bytes()
    text = learner.tito("module", "start", "01", code=0).stdout
    assert "already, untouched" in text and learner.notebook().read_bytes() == before


def test_start_refuses_a_module_whose_predecessors_are_open(learner: Any) -> None:
    result = learner.tito("module", "start", "2", code=2)
    assert result.stderr.splitlines() == [
        "02_activations builds on 01_tensor, which is not completed",
        "Next: tito watch 01",
    ]


def test_start_extra_writes_the_optional_notebooks(learner: Any) -> None:
    assert "extra/more.ipynb" in learner.tito("module", "start", "--extra", code=0).stdout
    assert (learner.notebook().parent / "extra" / "more.ipynb").is_file()


@pytest.mark.parametrize("name", ["1", "01", "tensor", "01_tensor", "TENSOR"])
def test_modules_are_named_in_every_way(learner: Any, name: str) -> None:
    assert learner.tito("module", "path", name, code=0).stdout.strip() == str(learner.notebook())


def test_unknown_module_gets_a_suggestion(learner: Any) -> None:
    stderr = learner.tito("module", "test", "tensr", code=2).stderr
    assert "did you mean tensor?" in stderr and "Next: tito module list" in stderr


def test_planned_module_is_told_apart_from_an_unknown_one(learner: Any) -> None:
    assert "not part of this release" in learner.tito("module", "test", "3", code=2).stderr


def test_unsolved_module_names_the_first_hole(learner: Any) -> None:
    lines = learner.tito("module", "test", code=1).stdout.splitlines()
    assert lines[0] == f"tinytorch: student ({learner.ws.root})"
    assert lines[1] == "01_tensor  0/3 exercises  ✗··"
    assert lines[3].startswith("Exercise 01.1  Tensor")
    assert "not written yet: Tensor" in lines[4]
    assert lines[-1] == "Next: tito hint 01.1"


def test_wrong_answer_shows_what_expected_got_why_and_the_diagnosis(learner: Any) -> None:
    learner.solve(1, Tensor__total="print('so far', self.data)\nreturn self.data[0]")
    text = learner.tito("module", "test", code=1).stdout
    assert text.splitlines()[1] == "01_tensor  1/3 exercises  ✓✗·"
    for row in ("Tensor([1, 2, 3]).total()", "expected   6", "got        1", "why        1 + 2 + 3",
                "probably   You returned the first number only.", "printed    so far [1, 2, 3]"):
        assert row in text, row
    assert text.splitlines()[-1] == "Next: tito hint 01.2"


def test_symptom_table_explains_an_error(learner: Any) -> None:
    learner.solve(1, Tensor__total="return sum(7)")
    text = learner.tito("module", "test", code=1).stdout
    assert "it raised TypeError: 'int' object is not iterable" in text
    assert "see also   a number where a list belongs → the call" in text


def test_syntax_error_says_cell_and_line(learner: Any) -> None:
    learner.solve(1, Tensor__total="return (")
    text = learner.tito("module", "test", code=1).stdout
    assert "Python cannot read this cell" in text
    assert "the cell of Tensor.total, line 6" in text


def test_passing_module_leads_to_complete(learner: Any) -> None:
    learner.solve()
    lines = learner.tito("module", "test", code=0).stdout.splitlines()
    assert "3/3 exercises  ✓✓✓" in lines[1]
    graded = "(a person gives 2 more for the open question)"
    assert lines[2] == f"All checks pass: 10 of 10 points {graded}."
    assert lines[-1] == "Next: tito module complete 01"


def test_test_changes_nothing(learner: Any) -> None:
    learner.solve()
    before = {p: p.stat().st_mtime_ns for p in learner.ws.root.rglob("*") if p.is_file()}
    learner.tito("module", "test", code=0)
    assert {p: p.stat().st_mtime_ns for p in learner.ws.root.rglob("*") if p.is_file()} == before


def test_complete_exports_records_and_unlocks(learner: Any) -> None:
    learner.solve()
    text = learner.tito("module", "complete", "1", code=0).stdout
    assert "tinytorch/core/tensor.py" in text and "from tinytorch import Tensor" in text
    assert text.splitlines()[-1] == "Next: tito module start 02"
    assert Progress.load(learner.ws).modules["01_tensor"]["points"] == 10
    learner.tito("module", "start", code=0)
    learner.solve(2)
    text = learner.tito("module", "complete", code=0).stdout
    assert "milestone 1958: one layer learns (tito milestone run 1958)" in text
    assert text.splitlines()[-1] == "Next: tito milestone list"


def test_complete_twice_is_the_same(learner: Any) -> None:
    learner.solve()
    learner.tito("module", "complete", code=0)
    exported = learner.ws.export_path("core.tensor")
    before = exported.read_bytes(), exported.stat().st_mtime_ns
    learner.tito("module", "complete", "1", code=0)
    assert (exported.read_bytes(), exported.stat().st_mtime_ns) == before


def test_complete_of_a_failing_module_writes_no_package(learner: Any) -> None:
    learner.tito("module", "complete", code=1)
    assert not learner.ws.export_path("core.tensor").exists()
    assert Progress.load(learner.ws).modules["01_tensor"]["attempts"] == 1


def test_status_tells_empty_written_and_passed(learner: Any) -> None:
    learner.solve(1, Tensor__total="raise NotImplementedError(\"01_tensor: Tensor.total\")")
    learner.tito("module", "complete", code=1)
    data = json.loads(learner.tito("module", "status", "--json", code=0).stdout)
    assert data["schema"] == 1 and data["state"] == "started" and data["attempts"] == 1
    assert [row["state"] for row in data["exercises"]] == ["passed", "written", "written"]
    learner.tito("module", "reset", "--yes", code=0)
    text = learner.tito("module", "status", code=0).stdout
    assert "01.1  empty" in text and text.splitlines()[-1] == "Next: tito module test 01"


def test_test_as_json_says_everything(learner: Any) -> None:
    learner.solve(1, Tensor__total="return self.data[0]")
    data = json.loads(learner.tito("module", "test", "--json", code=1).stdout)
    failure = data["failure"]
    assert (data["schema"], data["ok"], data["passed"]) == (1, False, ["Tensor"])
    assert (failure["kind"], failure["exercise"], failure["name"]) == ("check", 2, "Tensor.total")
    assert ["expected", "6"] in failure["rows"] and "first number" in failure["diagnosis"]
    assert data["next"] == "tito hint 01.2"


def test_reset_asks_and_never_blocks(learner: Any) -> None:
    learner.solve()
    before = learner.notebook().read_bytes()
    result = learner.tito("module", "reset", code=4)
    assert result.stderr.splitlines()[-1] == "Next: tito module reset 01 --yes"
    assert learner.notebook().read_bytes() == before


def test_reset_undo_brings_everything_back(learner: Any) -> None:
    learner.solve()
    mine = learner.notebook().read_bytes()
    learner.tito("module", "reset", "--yes", code=0)
    assert b"NotImplementedError" in learner.notebook().read_bytes()
    learner.tito("module", "reset", "--undo", code=0)
    assert learner.notebook().read_bytes() == mine


def test_reset_of_one_exercise_leaves_the_others(learner: Any) -> None:
    learner.solve()
    text = learner.tito("module", "reset", "--exercise", "2", "--yes", code=0).stdout
    assert text.startswith("Tensor.total is as it was given")
    assert "list(data)" in learner.notebook().read_text()
    assert "1/3" in learner.tito("module", "test", code=1).stdout


def test_reset_of_a_module_never_started_is_refused(learner: Any) -> None:
    assert "has not been started" in learner.tito("module", "reset", "2", "--yes", code=2).stderr
    assert not learner.notebook(2).exists()


def test_solution_stays_closed_until_it_passes_or_they_insist(learner: Any) -> None:
    stderr = learner.tito("module", "solution", "1.2", code=2).stderr
    assert "stays closed" in stderr and "Next: tito hint 01.2" in stderr
    result = learner.tito("module", "solution", "1.2", "--insist", code=0)
    assert "return sum(self.data)" in result.stdout and "recorded" in result.stderr
    assert Progress.load(learner.ws).modules["01_tensor"]["solutions_shown"] == ["Tensor.total"]
    learner.solve()
    result = learner.tito("module", "solution", "Tensor", code=0)
    assert "self.data = list(data)" in result.stdout and "recorded" not in result.stderr


def test_solution_of_a_whole_module_is_not_an_exercise(learner: Any) -> None:
    assert "name one of its exercises" in learner.tito("module", "solution", "1", code=2).stderr


def test_path_of_the_exported_file(learner: Any) -> None:
    path = learner.tito("module", "path", "--exported", code=0).stdout.strip()
    assert path == str(learner.ws.export_path("core.tensor"))


def test_damaged_notebook_is_two_lines_and_can_be_undone(learner: Any) -> None:
    learner.solve()
    learner.ws.snapshot("before", learner.notebook())
    learner.edit(lambda text: text[:400])
    stderr = learner.tito("module", "test", code=3).stderr
    assert "not JSON" in stderr and stderr.rstrip().endswith("tito module reset 01 --undo")
    learner.tito("module", "reset", "--undo", code=0)
    learner.tito("module", "test", code=0)


def test_damaged_progress_is_told_and_rebuilt(learner: Any) -> None:
    learner.solve()
    learner.tito("module", "complete", code=0)
    (learner.ws.state_dir / "progress.json").write_text("{")
    result = learner.tito("module", "list", code=0)
    assert "was damaged" in result.stderr and "01_tensor       completed" in result.stdout


# Between modules ---------------------------------------------------------------------------------


@pytest.fixture
def between(learner: Any) -> Any:
    """A learner who completed module 01 and did not start module 02."""
    learner.solve()
    learner.tito("module", "complete", code=0)
    return learner


@pytest.mark.parametrize("command", ["module test", "module complete", "module reset", "hint",
                                     "watch", "notebook open", "notebook convert --to py"])
def test_between_two_modules_the_next_one_is_said(between: Any, command: str) -> None:
    assert between.tito(*command.split(), code=2).stderr.splitlines() == [
        "01_tensor is completed, and 02_activations, which comes next, is not started yet",
        "Next: tito module start 02",
    ]


def test_start_of_a_completed_module_says_what_is_current(between: Any) -> None:
    lines = between.tito("module", "start", "1", code=0).stdout.splitlines()
    assert "01_tensor is completed since" in lines[-2] and "now comes 02_activ" in lines[-2]
    assert lines[-1] == "Next: tito module start 02"
    between.tito("module", "start", "2", code=0)
    assert between.tito("module", "start", "1").stdout.splitlines()[-1] == "Next: tito watch 02"


def test_completing_again_is_not_called_a_failure(between: Any) -> None:
    between.tito("module", "complete", "1", code=0)
    first = between.tito("module", "status", "1", code=0).stdout.splitlines()[0]
    assert first == "01_tensor  completed  (`complete` was run 2 times)"


def test_complete_tells_that_it_mended_the_notebook(learner: Any) -> None:
    learner.solve()
    learner.edit(lambda text: text.replace("a list, whatever came", "never mind"))
    text = learner.tito("module", "complete", code=0).stdout
    assert "check Tensor was edited: the original was run" in text
    mended = " ".join(text.partition("  mended")[2].partition("  written")[0].split())
    assert mended.startswith("modules/01_tensor/tensor.ipynb was mended")
    assert "Reload Notebook from Disk" in mended and "--undo" in mended
    assert "mended" not in learner.tito("module", "complete", "1", code=0).stdout


# One exercise ------------------------------------------------------------------------------------


@pytest.mark.parametrize("named", ["01.3", "3", "predict.bytes", "bytes"])
def test_one_exercise_is_checked_alone(learner: Any, named: str) -> None:
    learner.solve(1, Tensor__total="return 0")
    learner.tito("module", "test", code=1)
    lines = learner.tito("module", "test", "-x", named, code=0).stdout.splitlines()
    assert lines[1:] == ["01.3  predict.bytes passes.", "Next: tito module test 01"]


def test_one_exercise_that_fails_is_explained(learner: Any) -> None:
    learner.solve(1, Tensor__total="return self.data[0]")
    lines = learner.tito("module", "test", "1", "--exercise", "2", code=1).stdout.splitlines()
    assert lines[1].startswith("Exercise 01.2  Tensor.total")
    assert "  probably   You returned the first number only." in lines
    assert lines[-1] == "Next: tito hint 01.2"
    data = json.loads(learner.tito("module", "test", "-x", "1.1", "--json", code=0).stdout)
    assert (data["ok"], data["only"], data["passed"]) == (True, "Tensor", ["Tensor"])


@pytest.mark.parametrize(("args", "said"), [
    ("2 -x 01.3", "predict.bytes is an exercise of 01_tensor"),
    ("1 -x nonsense", "no exercise 'nonsense'"),
    ("-x activations", "02_activations is a module: name one of its exercises"),
])
def test_one_exercise_that_is_not_there_is_two_lines(between: Any, args: str, said: str) -> None:
    lines = between.tito("module", "test", *args.split(), code=2).stderr.splitlines()
    assert said in lines[0] and len(lines) == 2


# Words -------------------------------------------------------------------------------------------


def test_undo_says_which_version_came_back(learner: Any) -> None:
    learner.solve()
    learner.tito("module", "reset", "--yes", code=0)
    text = learner.tito("module", "reset", "--undo", code=0).stdout
    assert re.search(r"is back: the version of \d{4}-\d\d-\d\d \d\d:\d\d:\d\d, kept before a "
                     r"reset\n", text)
    learner.notebook().unlink()
    learner.tito("module", "reset", "1", "--undo", code=0)
    assert learner.notebook().is_file()


def test_reset_finds_an_exercise_by_the_end_of_its_name(learner: Any) -> None:
    learner.solve()
    stderr = learner.tito("module", "reset", "01", "--exercise", "total", code=4).stderr
    assert "Reset Tensor.total to how it was given?" in stderr
    assert stderr.splitlines()[-1] == "Next: tito module reset 01 --exercise Tensor.total --yes"


def test_list_shortens_summaries_at_a_phrase(tmp_path: Any, monkeypatch: Any) -> None:
    for name in ("TITO_COURSE", "TINYTORCH"):
        monkeypatch.delenv(name, raising=False)
    for columns in (120, 80, 60, 44):
        monkeypatch.setenv("COLUMNS", str(columns))
        lines = views.modules(overview.standings(Progress()))
        assert max(len(click.unstyle(line)) for line in lines) <= columns
    monkeypatch.setenv("COLUMNS", "80")
    cut = [line for line in views.modules(overview.standings(Progress())) if "…" in line]
    assert all(re.search(r"\w\w+…", line) for line in cut) and len(cut) <= 5


def test_one_more_line_is_shown_instead_of_counted(learner: Any) -> None:
    for count, last in ((11, "10"), (12, "… 2 more lines")):
        learner.solve(1, Tensor__total=f"print(*range({count}), sep='\\n')\nreturn 0")
        lines = learner.tito("module", "test", code=1).stdout.splitlines()
        assert lines[-2].strip() == last


def test_outline_is_what_the_notebook_holds(monkeypatch: Any) -> None:
    monkeypatch.delenv("TITO_COURSE", raising=False)
    for module in course.modules():
        if module.exists:
            cells = hints.released(module).cells
            worth = {c.name: c.metadata.get("points", 0) for c in cells if c.role == "check"}
            names = [c.name for c in cells if c.role == "exercise"]
            assert list(overview.outline(module).items()) == [(n, worth.get(n, 0)) for n in names]


def test_status_is_the_same_for_both_formats_and_says_what_is_damaged(learner: Any) -> None:
    learner.solve(1, Tensor__total='raise NotImplementedError("01_tensor: Tensor.total")')
    text = learner.tito("module", "status", code=0).stdout
    learner.tito("notebook", "convert", "--to", "py", code=0)
    assert learner.tito("module", "status", code=0).stdout == text
    learner.tito("notebook", "convert", "--to", "ipynb", code=0)
    learner.edit(lambda text: text[:100])
    assert "not JSON" in learner.tito("module", "status", code=3).stderr
