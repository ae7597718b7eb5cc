"""The proofs themselves can fail: each kind of fault, put into a copy of module 01, is reported."""

import re
import shutil

import pytest

from tito import course, proofs

HOME = course.course_dir()


@pytest.fixture
def spoiled(tmp_path, monkeypatch):
    """Prove module 01 of a copy of the course in which `old` is replaced by `new` in one file."""

    def prove(file="tensor.py", old="", new="", pattern=False):
        copy = tmp_path / "course"
        ignored = shutil.ignore_patterns(
            "0[2-9]*", "data", "milestones", "checkpoints", "__pycache__"
        )
        shutil.copytree(HOME, copy, ignore=ignored)
        path = copy / "modules/01_tensor" / file
        text = path.read_text(encoding="utf-8")
        changed = (
            re.sub(old, lambda _: new, text, count=1, flags=re.S)
            if pattern
            else text.replace(old, new, 1)
        )
        assert changed != text or not old, f"{old!r} is not in {file}"
        path.write_text(changed, encoding="utf-8")
        monkeypatch.setenv("TITO_COURSE", str(copy))
        monkeypatch.delenv("TINYTORCH", raising=False)
        modules = [course.find_module("01")]
        verdict = next(proofs.prove(tmp_path / "ws", modules, lambda name: None))
        return "\n".join(verdict.problems)

    return prove


def test_module_as_it_is_has_no_problems(spoiled):
    assert spoiled() == ""


def test_a_check_that_checks_nothing_is_found(spoiled):
    problems = spoiled(
        old=r'(# %% check="Tensor\.sum" points=4\n).*?(?=\n# %%)',
        pattern=True,
        new='# %% check="Tensor.sum" points=4\n_x = 1\n',
    )
    assert "stubs fail: Tensor.sum passes as shipped" in problems
    assert "empty scores 0: Tensor.sum earns 4 points" in problems
    assert "Tensor.sum / ignores_axis survives its check" in problems


def test_a_wrong_solution_is_found(spoiled):
    problems = spoiled(
        old="    return self.data.size * self.data.itemsize\n", new="    return self.data.size\n"
    )
    assert "solved passes: check Tensor.memory_footprint" in problems


def test_a_wrong_diagnosis_is_found(spoiled):
    problems = spoiled(
        "knockouts.toml",
        old='code = "return self.data.size * 32"',
        new='code = "return self.data.size"',
    )
    assert "Tensor.memory_footprint / bits is told" in problems


def test_a_missing_hint_and_a_wrong_sum_of_points_are_found(spoiled):
    problems = spoiled(old='check="Tensor.max" points=2', new='check="Tensor.max" points=3')
    assert "points add up to 61, course.toml says 60" in problems


def test_a_forward_import_is_found(spoiled):
    problems = spoiled(
        old="import tito.checks as check\n",
        new="import tito.checks as check\nimport importlib\n"
        "if False:\n    from tinytorch.nn import Linear\n",
    )
    assert "no forward imports" in problems and "tinytorch.nn" in problems


def test_an_unproved_number_in_prose_is_found(spoiled):
    problems = spoiled(old="Two vectors, one as a row", new="In 37 ms two vectors, one as a row")
    assert "'37 ms' stands in the prose without proof" in problems


def test_a_disproved_number_is_found(spoiled):
    problems = spoiled("numbers.toml", old='computed = "4 * 4"', new='computed = "4 * 5"')
    assert "'16 bytes': 4 * 5 is 20" in problems


def test_exported_code_that_is_not_clean_is_found(spoiled):
    problems = spoiled(
        old="    return self.data.size * self.data.itemsize\n",
        new="    unused = 1\n    return self.data.size * self.data.itemsize\n",
    )
    assert "exported: ruff check" in problems


def test_a_wrong_docstring_example_is_found(spoiled):
    problems = spoiled(
        old="    >>> Tensor([[1.0, 2.0], [3.0, 4.0]]).memory_footprint()\n    16\n",
        new="    >>> Tensor([[1.0, 2.0], [3.0, 4.0]]).memory_footprint()\n    17\n",
    )
    assert "exported: doctest" in problems


def test_a_missing_part_of_the_spine_is_found(spoiled):
    assert "no part `## Break`" in spoiled(old="## Break:", new="## Bend:")
