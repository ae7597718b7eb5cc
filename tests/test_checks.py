"""Check functions: what passes, what fails, and what the learner reads then."""

import numpy as np
import pytest
from tinytorch.core.tensor import Tensor

from tito import checks


def failure(call, *args, **options):
    with pytest.raises(checks.CheckFailure) as caught:
        call(*args, **options)
    return caught.value


def test_equal_accepts_numbers_of_any_kind_and_compares_tuples():
    checks.equal("sum", np.float32(3), 3)
    checks.equal("shape", (2, 3), (2, 3))
    assert failure(checks.equal, "shape", (2, 3), (3, 2)).got == "(2, 3)"


@pytest.mark.parametrize("got, expected", [(True, 1), ("3", 3), ([2, 3], (2, 3)), (None, 0)])
def test_equal_does_not_confuse_types(got, expected):
    failure(checks.equal, "value", got, expected)


def test_close_compares_shape_before_values():
    error = failure(checks.close, "row sums", np.ones((2, 1)), np.ones(2), why="axis is gone")
    assert error.expected == "shape (2,)" and error.got.startswith("shape (2, 1)")
    assert error.why == "axis is gone"


def test_close_shows_the_worst_place_of_a_large_array():
    got = np.zeros((10, 10))
    got[3, 4] = 7
    error = failure(checks.close, "x", got, np.zeros((10, 10)))
    assert error.got == "7 at (3, 4), shape (10, 10)" and error.expected.startswith("0 at (3, 4)")


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1.001])
def test_close_is_not_fooled_by_nan_or_rounding(bad):
    failure(checks.close, "x", np.array([1.0, bad]), [1.0, 1.0])


def test_close_of_nan_expects_nan():
    checks.close("x", np.array([np.nan]), [np.nan])


def test_tensor_refuses_an_array_that_is_right():
    error = failure(checks.tensor, "x + y", np.array([3.0], dtype=np.float32), [3.0])
    assert error.expected == "a Tensor" and "wrap" in error.why


def test_tensor_refuses_float64_inside():
    tensor = Tensor([1.0])
    tensor.data = tensor.data.astype(np.float64)
    assert "float64" in failure(checks.tensor, "x", tensor, [1.0]).got


def test_raises_wants_the_error_and_its_words():
    def call():
        raise ValueError("shapes (2, 3) and (4,)")

    checks.raises("add", ValueError, call, mention=["(2, 3)"])
    assert "mentions" in failure(checks.raises, "add", ValueError, call, mention=["(5,)"]).expected
    assert "no error" in failure(checks.raises, "add", ValueError, lambda: 1).got
    assert failure(checks.raises, "add", TypeError, call).got.startswith("ValueError")


def test_raises_does_not_take_a_hole_for_an_error():
    def hole():
        raise NotImplementedError("01_tensor: Tensor")

    for expected in (ValueError, Exception, RuntimeError):
        with pytest.raises(NotImplementedError):
            checks.raises("add", expected, hole)


def test_prediction_says_how_far_off_without_the_answer():
    checks.prediction("bytes", 188.0, checks.seal(188.16))
    text = str(failure(checks.prediction, "bytes", 47.04, checks.seal(188.16), unit="MB"))
    assert "too small, by a factor of about 4" in text and "188" not in text


@pytest.mark.parametrize("answer", [..., None, "many", -188.16, 0, float("nan")])
def test_prediction_refuses(answer):
    failure(checks.prediction, "bytes", answer, checks.seal(188.16))


def test_an_unanswered_prediction_gives_nothing_away():
    error = failure(checks.prediction, "bytes", ..., checks.seal(188.16), why="images times 784")
    assert "784" not in str(error) and "188" not in str(error)


def test_choice_takes_letters_in_any_case_and_hides_the_answer():
    checks.choice("which", " B ", checks.seal("b"), ["a", "b"])
    assert "'b'" not in str(failure(checks.choice, "which", "a", checks.seal("b"), ["a", "b"]))
    failure(checks.choice, "which", "c", checks.seal("b"), ["a", "b"])
    failure(checks.choice, "which", ..., checks.seal("b"), ["a", "b"])


def test_same_storage_tells_views_from_copies():
    base = np.zeros(4)
    checks.same_storage("slice", base[1:], base)
    failure(checks.same_storage, "copy", base.copy(), base)
    failure(checks.same_storage, "view", base[1:], base, expected=False)


def test_rule_compares_with_central_differences():
    checks.rule(
        "a * b", lambda g, out, a, b: g * b, 0, lambda a, b: a * b, np.ones(3), np.arange(3.0)
    )
    failure(checks.rule, "a * b", lambda g, out, a, b: g * a, 0, lambda a, b: a * b, np.ones(3),
            np.arange(3.0))  # fmt: skip


def test_rule_sums_a_broadcast_gradient_back():
    checks.rule(
        "a + b", lambda g, out, a, b: g, 1, lambda a, b: a + b, np.ones((2, 3)), np.ones((1, 3))
    )


def test_connected_follows_tensor_operations_only():
    x, w = Tensor([[1.0, 2.0]]), Tensor([[3.0], [4.0]])
    checks.connected("x @ w", lambda x, w: (x @ w).reshape(1) + 1, x, w)
    error = failure(checks.connected, "x @ w", lambda x, w: Tensor(x.data @ w.data), x, w)
    assert "gradient" in error.why
    error = failure(checks.connected, "x @ w", lambda x, w: x @ Tensor(w.data), x, w)
    assert "input 2" in error.expected


def test_connected_leaves_the_class_as_it_was():
    before = dict(vars(Tensor))
    checks.connected("-x", lambda x: -x, Tensor([1.0]))
    assert dict(vars(Tensor)) == before


def test_tracing_collects_results_instead_of_raising():
    with checks.tracing() as trace:
        checks.equal("one", 1, 1)
        checks.equal("two", 1, 2)
        checks.close("three", [1.0], [2.0])
    assert [(what, ok) for what, ok, _ in trace] == [
        ("one", True),
        ("two", False),
        ("three", False),
    ]


def test_failure_reads_as_rows():
    error = failure(checks.equal, "2 + 2", 5, 4, why="count again")
    lines = str(error).splitlines()
    assert [line.split() for line in lines] == [
        ["2", "+", "2"], ["expected", "4"], ["got", "5"], ["why", "count", "again"],
    ]  # fmt: skip
