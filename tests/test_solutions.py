"""tito.solutions: regions to holes and back."""

import ast
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tito.solutions import fill, is_hole, solution, strip
from tito.source import Cell, Notebook, SourceError, read, read_percent, write_percent

FIXTURE = Path(__file__).parent / "fixtures" / "tensor.py"
ADD = '''#| export
@method_of(Tensor)
def __add__(self, other):
    """Sum."""
    ### BEGIN SOLUTION
    if other is None:
        raise ValueError("none")
    return self
    ### END SOLUTION
'''


def exercise(source: str, name: str = "Tensor.__add__") -> Cell:
    return Cell("code", source, {"exercise": name}, line=10)


def stripped(cell: Cell) -> str:
    return strip(Notebook([cell]), "01_tensor").cells[0].source


def test_strip_leaves_a_hole_that_names_the_exercise() -> None:
    assert stripped(exercise(ADD)) == (
        '#| export\n@method_of(Tensor)\ndef __add__(self, other):\n    """Sum."""\n'
        '    raise NotImplementedError("01_tensor: Tensor.__add__")'
    )


def test_strip_keeps_code_around_the_region() -> None:
    cell = exercise(
        "def f():\n    a = 1\n    ### BEGIN SOLUTION\n    b = 2\n    ### END SOLUTION\n"
        "    return b",
        "f",
    )
    assert stripped(cell).split("\n")[1::2] == ["    a = 1", "    return b"]


def test_strip_turns_predictions_into_ellipses() -> None:
    body = "size = 3 * 4\nrows, cols = 3, 4\nratio: float = size / 2\nsize = size + 1"
    cell = exercise(f"# predict\n### BEGIN SOLUTION\n{body}\n### END SOLUTION", "predict.size")
    assert stripped(cell) == "# predict\nsize = ...\nrows = ...\ncols = ...\nratio = ..."


def test_strip_of_a_whole_definition_raises_instead() -> None:
    cell = exercise("### BEGIN SOLUTION\ndef f():\n    return 1\n### END SOLUTION", "f")
    assert stripped(cell) == 'raise NotImplementedError("01_tensor: f")'


def test_strip_replaces_the_answer_of_a_question() -> None:
    question = next(c for c in strip(read(FIXTURE), "01_tensor").cells if c.role == "question")
    assert question.source == "Why is float32 enough?\n\n*Your answer:*"
    assert is_hole(question)


def test_strip_shows_no_solution_and_leaves_the_original_alone() -> None:
    nb = read(FIXTURE)
    before = write_percent(nb)
    learner = write_percent(strip(nb, "01_tensor"))
    assert write_percent(nb) == before
    assert "SOLUTION" not in learner and "188160000" in learner and "60000 * 28" not in learner


def test_strip_drops_what_a_solved_cell_had_printed() -> None:
    cell = exercise(ADD)
    cell.outputs, cell.execution_count = [{"output_type": "stream"}], 3
    hole = strip(Notebook([cell]), "01_tensor").cells[0]
    assert (hole.outputs, hole.execution_count) == (None, None)


@pytest.mark.parametrize(
    ("source", "role", "what", "line"),
    [
        ("def f():\n    ### BEGIN SOLUTION\n    pass", "exercise", "never closed", 11),
        ("### BEGIN SOLUTION\n### BEGIN SOLUTION\n### END SOLUTION", "exercise", "nested", 11),
        ("### BEGIN SOLUTION\n### END SOLUTION\n" * 2, "exercise", "second", 12),
        ("x = 1\n### END SOLUTION", "exercise", "without BEGIN", 11),
        ("x = 1", "exercise", "no solution region", 10),
        ("x = 1\n### BEGIN SOLUTION\n### END SOLUTION", "given", "outside an exercise", 11),
        ("### BEGIN SOLUTION\nx = = 1\n### END SOLUTION", "exercise", "not Python", 10),
    ],
)
def test_strip_explains_a_wrong_region(source: str, role: str, what: str, line: int) -> None:
    with pytest.raises(SourceError) as caught:
        strip(Notebook([Cell("code", source, {role: "f"}, line=10)]), "01_tensor")
    first, second = str(caught.value).split("\n")
    assert first.startswith(f"line {line}: ") and what in first and second.startswith("Next: ")


def test_strip_refuses_a_name_used_twice_and_a_cell_with_two_roles() -> None:
    with pytest.raises(SourceError, match=r"line 4: check=\"a\" is used twice \(first at line 2\)"):
        strip(read_percent('# %% check="a"\nx\n# %% check="a"\ny\n'), "01_tensor")
    with pytest.raises(SourceError, match="both exercise and check"):
        strip(read_percent('# %% check="a" exercise="a"\nx\n'), "01_tensor")


def test_solution_is_the_region_dedented() -> None:
    assert solution(exercise(ADD)) == 'if other is None:\n    raise ValueError("none")\nreturn self'
    with pytest.raises(SourceError, match="no solution region"):
        solution(exercise("x = 1"))


def test_fill_puts_the_solution_back() -> None:
    cell = exercise(ADD)
    hole = strip(Notebook([cell]), "01_tensor").cells[0]
    solved = fill(hole, solution(cell))
    assert solved.source.split("\n")[4:] == [
        "    if other is None:", '        raise ValueError("none")', "    return self",
    ]  # fmt: skip
    assert is_hole(hole) and not is_hole(solved) and not is_hole(cell)


def test_fill_of_a_region_keeps_its_marks() -> None:
    cell = exercise(ADD)
    assert fill(cell, solution(cell)) == cell
    assert solution(fill(cell, "return 1")) == "return 1"
    assert solution(fill(cell, "")) == ""


def test_fill_replaces_all_ellipses_of_a_prediction() -> None:
    assert (
        fill(exercise("# go\na = ...\nb = ...\nc = 3", "predict"), "a, b = 1, 2").source
        == "# go\na, b = 1, 2\nc = 3"
    )


def test_fill_leaves_a_notimplementederror_of_the_course_alone() -> None:
    source = 'def f(self):\n    raise NotImplementedError("subclasses do this")'
    cell = Cell("code", source, {"exercise": "Module.forward"})
    assert not is_hole(cell)
    with pytest.raises(SourceError, match="neither a solution region nor a hole"):
        fill(cell, "return 1")


def test_fill_keeps_the_value_of_multiline_strings() -> None:
    body = 'text = """one\n  two\nthree"""\nreturn text'
    filled = fill(exercise(ADD), body)
    assert solution(filled) == body
    constants = [n.value for n in ast.walk(ast.parse(filled.source)) if isinstance(n, ast.Constant)]
    assert "one\n  two\nthree" in constants


BODIES = st.lists(
    st.sampled_from(
        ["x = 1", "if x:\n    y = 2", "", "t = '''a\n b\n'''", "# why", "return x", "    ", "    z"]
    ),
    min_size=1,
    max_size=5,
).map("\n".join)


@settings(max_examples=200, deadline=None)
@given(BODIES)
def test_fill_then_solution_gives_the_body_back(body: str) -> None:
    got = solution(fill(exercise(ADD), body))
    assert [line.rstrip() for line in got.split("\n")] == [
        line.rstrip() for line in body.strip("\n").split("\n")
    ]


def test_every_exercise_of_the_fixture_survives_strip_and_fill() -> None:
    full = read(FIXTURE)
    learner = strip(full, "01_tensor")
    for cell, hole in zip(full.cells, learner.cells, strict=True):
        assert is_hole(hole) == (cell.role in ("exercise", "question"))
        if cell.role == "exercise":
            kept = [line for line in cell.source.split("\n") if "SOLUTION" not in line]
            assert fill(hole, solution(cell)).source == "\n".join(kept)
