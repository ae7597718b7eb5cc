"""`tito hint`: one rung at a time, and every way to name an exercise."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tito.progress import Progress


def test_hint_climbs_one_rung_at_a_time_and_is_recorded(learner: Any) -> None:
    shown = [learner.tito("hint", code=0).stdout.splitlines()[1].strip() for _ in range(4)]
    last = "self.data = list(data)"
    assert shown == ["What came?", "Make a list.", last, last]
    assert Progress.load(learner.ws).modules["01_tensor"]["hints"] == {"Tensor": 3}


def test_after_a_hint_comes_another_try(learner: Any) -> None:
    again = "Next: try again, then tito module test -x 01.2"
    last = [learner.tito("hint", "1.2", code=0).stdout.splitlines()[-1] for _ in range(3)]
    assert last[0] == last[1] == f"{again}   (still stuck: tito hint 01.2)"
    assert last[2] == f"{again}   (or tito module solution 01.2 --insist, which is recorded)"
    data = json.loads(learner.tito("hint", "1.2", "--json", code=0).stdout)
    assert data["next"] == "tito module solution 01.2 --insist"
    learner.tito(*data["next"].split()[1:], code=0)


def test_the_solution_of_what_passed_is_open(learner: Any) -> None:
    learner.solve()
    learner.tito("module", "complete", code=0)
    for _ in range(3):
        last = learner.tito("hint", "1.2", code=0).stdout.splitlines()[-1]
    assert last == "Next: tito module solution 01.2   (open: yours has passed)"


def test_hint_alone_is_for_the_first_exercise_that_fails(learner: Any) -> None:
    learner.solve(1, Tensor__total="return 0")
    assert learner.tito("hint", code=0).stdout.startswith("01.2  Tensor.total  hint 1 of 3")


@pytest.mark.parametrize(
    "name", ["1.2", "01.2", "tensor.2", "Tensor.total", "tensor.total", "01_tensor.Tensor.total",
             "total", "TOTAL"]
)
def test_exercises_are_named_in_every_way(learner: Any, name: str) -> None:
    data = json.loads(learner.tito("hint", name, "--seen", "--json", code=0).stdout)
    assert (data["module"], data["exercise"], data["hints"]) == ("01_tensor", "Tensor.total", [])


@pytest.mark.parametrize(
    ("name", "said"),
    [("1.9", "it has 1 to 3"), ("Tensor.totl", "did you mean Tensor.total?"),
     ("predict.byte", "did you mean predict.bytes?"), ("3", "not part of this release")],
)
def test_unknown_exercises_get_a_suggestion(learner: Any, name: str, said: str) -> None:
    assert said in learner.tito("hint", name, code=2).stderr


def test_seen_takes_no_further_hint(learner: Any) -> None:
    learner.tito("hint", "1.2", code=0)
    for _ in range(2):
        assert "Which function adds?" in learner.tito("hint", "1.2", "--seen", code=0).stdout
    assert Progress.load(learner.ws).modules["01_tensor"]["hints"] == {"Tensor.total": 1}


def test_module_that_passes_needs_no_hint(learner: Any) -> None:
    learner.solve()
    stderr = learner.tito("hint", code=2).stderr
    assert "nothing to hint at" in stderr and "Next: tito module complete 01" in stderr


def test_hint_for_a_module_never_started_says_so(learner: Any) -> None:
    assert "has not been started" in learner.tito("hint", "2.1", code=2).stderr
