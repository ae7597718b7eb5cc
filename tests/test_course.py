"""The course table, and what belongs to it: names, hints, known mistakes, symptoms."""

import re

import pytest

from tito import course, export, hints, lesson, source

WRITTEN = [module for module in course.modules() if module.exists]


@pytest.mark.parametrize("name", [5, "5", "05", "autograd", "05_autograd", "AUTOGRAD"])
def test_find_module_by_any_of_its_names(name):
    assert course.find_module(name).id == "05_autograd"


@pytest.mark.parametrize("name", ["autogard", "21", "", "tensors"])
def test_find_module_refuses_with_a_next_step(name):
    with pytest.raises(course.CourseError) as error:
        course.find_module(name)
    what, following = str(error.value).split("\n")
    assert name in what and following.startswith("Next: tito")


def test_find_module_suggests():
    with pytest.raises(course.CourseError, match="did you mean autograd"):
        course.find_module("autogard")


@pytest.mark.parametrize("name", ["1986", "mlp", "1986_mlp", 3])
def test_find_milestone_by_any_of_its_names(name):
    assert course.find_milestone(name).id == "1986_mlp"


def test_table_has_twenty_modules_in_order_and_six_milestones():
    assert [module.number for module in course.modules()] == list(range(1, 21))
    assert len(course.milestones()) == 6
    assert len(WRITTEN) >= 7


def test_every_facade_part_is_some_modules_export():
    exports = {module.export for module in course.modules()}
    assert {part for parts in course.facades().values() for part in parts} <= exports


@pytest.mark.parametrize("module", WRITTEN, ids=lambda module: module.id)
def test_module_exports_where_the_table_says(module):
    assert export.export_name(source.read(module.path)) == module.export


@pytest.mark.parametrize("module", WRITTEN, ids=lambda module: module.id)
def test_name_owner_knows_every_public_name(module):
    for name in export.exported_names(source.read(module.path)):
        assert course.name_owner(name) is not None, name


@pytest.mark.parametrize("module", WRITTEN, ids=lambda module: module.id)
def test_symptoms_are_rows_with_a_quoted_text(module):
    rows = hints.symptoms(module)
    assert all(row.cause and row.look for row in rows)
    assert sum(bool(re.search(r"`[^`]+`", row.symptom)) for row in rows) >= 3
    text = re.search(r"`([^`]+)`", rows[0].symptom)[1]
    assert hints.symptom_for(module, f"ValueError: it says {text} here") == rows[0]


@pytest.mark.parametrize("module", WRITTEN, ids=lambda module: module.id)
def test_released_notebook_holds_no_solution(module):
    text = "\n".join(cell.source for cell in hints.released(module).cells)
    assert "BEGIN SOLUTION" not in text and "END SOLUTION" not in text


def test_hints_never_repeat_a_whole_solution():
    for module in WRITTEN:
        ladder = hints.ladder(module)
        for exercise in lesson.exercises(module):
            assert len(set(ladder[exercise])) == hints.RUNGS, (module.id, exercise)


def test_every_import_of_a_fixed_point_works():
    from tinytorch.core import Tensor as from_core
    from tinytorch.core.layers import Linear as from_layers
    from tinytorch.nn import CrossEntropyLoss as from_nn
    from tinytorch.nn import Linear as linear_from_nn
    from tinytorch.nn import Sigmoid
    from tinytorch.optim import SGD
    from tinytorch.optim import Adam as from_optim

    from tinytorch import Adam, CrossEntropyLoss, Linear, Tensor, train_loop

    assert Tensor is from_core and Linear is from_layers is linear_from_nn
    assert CrossEntropyLoss is from_nn and Adam is from_optim
    assert callable(train_loop) and Sigmoid and SGD


def test_fixed_points_of_the_first_day():
    from tinytorch import Tensor, enable_autograd

    assert Tensor([[1.0, 2.0], [3.0, 4.0]]).memory_footprint() == 16
    enable_autograd()
    x = Tensor([3.0], requires_grad=True)
    y = x * x
    y.backward()
    assert x.grad.tolist() == [6.0]
