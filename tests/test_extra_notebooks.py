"""The optional notebooks of the course: solved they pass, and as shipped every check fails."""

import json
from itertools import pairwise
from pathlib import Path

import pytest

from tito import course, solutions, source
from tito.sandbox import Outcome, Step, run_many
from tito.source import Cell, Notebook

EXTRA = sorted(
    (module.id, file)
    for module in course.modules()
    if module.exists
    for file in (module.folder / "extra").glob("*.py")
)
TAUGHT = ("given", "exercise", "check")
DOCTEST = """
import doctest, sys
result = doctest.testmod(sys.modules["__main__"])
assert result.attempted and not result.failed, result
"""

notebooks = pytest.mark.parametrize(
    ("module_id", "file"), EXTRA, ids=[f"{module_id}-{file.stem}" for module_id, file in EXTRA]
)


def steps(nb: Notebook, roles: tuple[str, ...] = TAUGHT) -> list[Step]:
    return [
        Step(cell.role or "own", cell.name, cell.source, number)
        for number, cell in enumerate(nb.cells, 1)
        if cell.kind == "code" and cell.role in roles
    ]


def with_answer(solved: list[Step], answer: Step) -> list[Step]:
    """Everything up to one exercise's check, without the other checks, answered by `answer`."""
    end = next(n for n, s in enumerate(solved) if (s.role, s.name) == ("check", answer.name))
    return [
        answer if (step.role, step.name) == ("exercise", answer.name) else step
        for step in solved[: end + 1]
        if step.role != "check" or step.name == answer.name
    ]


def run(runs: list[list[Step]]) -> list[Outcome]:
    return run_many(runs, timeout=120.0)


def exercises(nb: Notebook) -> list[Cell]:
    return [cell for cell in nb.cells if cell.role == "exercise"]


def test_autograd_has_its_two_notebooks() -> None:
    found = {file.stem for module_id, file in EXTRA if module_id == "05_autograd"}
    assert found == {"numerical_gradient", "scalar_autograd"}


@notebooks
def test_every_exercise_has_its_check_right_below(module_id: str, file: Path) -> None:
    code = [cell for cell in source.read(file).cells if cell.kind == "code"]
    pairs = [(one.name, two) for one, two in pairwise(code) if one.role == "exercise"]
    assert len(pairs) >= 8
    for name, below in pairs:
        assert (below.role, below.name) == ("check", name)


@notebooks
def test_solved_notebook_passes_with_its_demos_and_examples(module_id: str, file: Path) -> None:
    nb = source.read(file)
    everything = [*steps(nb, (*TAUGHT, "demo")), Step("given", "examples", DOCTEST, 0)]
    outcome = run([everything])[0]
    assert not outcome.failures, outcome.failures
    assert len(outcome.passed) == len(everything)
    slow = {label: s for label, s in outcome.seconds.items() if s > 3}
    assert not slow


@notebooks
def test_each_check_fails_on_its_hole(module_id: str, file: Path) -> None:
    nb = source.read(file)
    solved = steps(nb)
    holes = [step for step in steps(solutions.strip(nb, module_id)) if step.role == "exercise"]
    assert len(holes) == len(exercises(nb))
    for hole, outcome in zip(holes, run([with_answer(solved, hole) for hole in holes])):
        assert outcome.failures, f"{hole.name} passes as shipped"
        failure = outcome.failures[0]
        assert failure.step.name == hole.name, failure
        assert failure.kind in ("unsolved", "check"), failure


@notebooks
def test_shipped_notebook_shows_no_solution_and_exports_nothing(module_id: str, file: Path) -> None:
    nb = source.read(file)
    shipped = solutions.strip(nb, module_id)
    assert all(solutions.is_hole(cell) for cell in exercises(shipped))
    text = source.write_percent(shipped)
    assert "SOLUTION" not in text
    assert not [d for cell in nb.cells for d in cell.directives]
    for solved, hole in zip(exercises(nb), exercises(shipped)):
        assert solutions.solution(solved) not in hole.source
    ids = [cell["id"] for cell in json.loads(source.write_ipynb(shipped))["cells"]]
    assert len(ids) == len(set(ids))
