"""What the check cells of the course call: compare, and explain a difference in four lines.

Every function takes what was checked first and why it matters last, and raises `CheckFailure`
(what, why, expected, got) when the learner's result is not the expected one. Nothing here knows a
solution: the expected values stand in the check cells, with their derivation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

__all__ = [
    "CheckFailure", "choice", "close", "equal", "grads", "prediction", "raises", "same_storage",
    "tensor", "true",
]


class CheckFailure(AssertionError):
    """A check that did not pass: what was checked, why it matters, expected, got."""

    def __init__(self, what: str, why: str, expected: str, got: str) -> None:
        super().__init__(what)
        self.what, self.why, self.expected, self.got = what, why, expected, got

    def rows(self) -> list[tuple[str, str]]:
        """The explanation as (label, text) rows, empty ones left out."""
        rows = [("expected", self.expected), ("got", self.got), ("why", self.why)]
        return [(label, text) for label, text in rows if text]

    def __str__(self) -> str:
        lines = [self.what]
        for label, text in self.rows():
            lines.append(f"  {label:<9} " + text.replace("\n", "\n" + " " * 12))
        return "\n".join(lines)

    def _render_traceback_(self) -> list[str]:
        """IPython shows this instead of a traceback through our code."""
        return [f"Not yet. {self}"]


_trace: list[tuple[str, bool, Any]] | None = None


@contextmanager
def tracing() -> Iterator[list[tuple[str, bool, Any]]]:
    """Collect (what, passed, got) of every check instead of raising: the signature of an answer."""
    global _trace
    _trace = []
    try:
        yield _trace
    finally:
        _trace = None


def _judge(ok: bool, what: str, why: str, expected: str, got: str, value: Any) -> None:
    if _trace is not None:
        _trace.append((what, ok, value))
    elif not ok:
        raise CheckFailure(what, why, expected, got)


def _kind(value: Any) -> str:
    """`Tensor`, `ndarray`, `float32` …: the type as a learner would name it."""
    return type(value).__name__


def _array(value: Any) -> Any:
    """The NumPy array of a Tensor, an array, a number or nested lists."""
    return np.asarray(value.data if _kind(value) in ("Tensor", "Parameter") else value)


def _freeze(value: Any) -> Any:
    """A copy that later code cannot change, for signatures."""
    if isinstance(value, (bool, str, bytes, type(None), tuple)) or value is Ellipsis:
        return value
    try:
        array = np.array(_array(value))
    except (TypeError, ValueError):
        return repr(value)
    return (_kind(value), array) if array.dtype != object else repr(value)


def _show(value: Any) -> str:
    """A value in a message: shape and dtype where they matter, numbers short."""
    if _kind(value) in ("Tensor", "Parameter"):
        inner = value.data
        return f"Tensor {_show(inner)}" if isinstance(inner, np.ndarray) else f"Tensor of {inner!r}"
    if isinstance(value, np.ndarray):
        text = np.array2string(value, precision=6, threshold=24, edgeitems=3, separator=", ")
        return f"shape {value.shape}, {value.dtype}:\n{text}" if value.ndim else f"{value.dtype} {text}"
    text = repr(value)
    return text if len(text) <= 400 else text[:400] + " …"


def equal(what: str, got: Any, expected: Any, why: str = "") -> None:
    """Exactly equal: numbers, strings, tuples, shapes."""
    same = type(got) is type(expected) or (
        isinstance(got, (int, float, np.number)) and isinstance(expected, (int, float, np.number))
        and not isinstance(got, bool) and not isinstance(expected, bool)
    )
    ok = bool(same and np.array_equal(np.asarray(got, dtype=object), np.asarray(expected, dtype=object)))
    _judge(ok, what, why, _show(expected), _show(got), _freeze(got))


def true(what: str, condition: Any, why: str = "", got: Any = None) -> None:
    """A condition that must hold; `got` is shown when it does not."""
    value = bool(condition)
    shown = "" if got is None else _show(got)
    _judge(value, what, why, "", shown, (value, shown))


def close(what: str, got: Any, expected: Any, why: str = "", rtol: float = 1e-5,
          atol: float = 1e-6) -> None:
    """Same shape and the same numbers within `rtol`·|expected| + `atol`; arrays or numbers."""
    _compare(what, got, expected, why, rtol, atol)


def tensor(what: str, got: Any, expected: Any, why: str = "", rtol: float = 1e-5,
           atol: float = 1e-6) -> None:
    """`got` is a Tensor holding a float32 array with the shape and the numbers of `expected`."""
    if _kind(got) not in ("Tensor", "Parameter"):
        advice = f"{_kind(got)}: {_show(got)}"
        why_type = "operations chain only if each returns a Tensor: wrap the array, Tensor(...)"
        return _judge(False, what, why_type, "a Tensor", advice, (_kind(got), _freeze(got)))
    data = got.data
    if not isinstance(data, np.ndarray) or data.dtype != np.float32:
        kind = f"{_kind(data)} of {data.dtype}" if isinstance(data, np.ndarray) else _kind(data)
        return _judge(False, what, "a Tensor always holds a float32 NumPy array",
                      "data: ndarray of float32", f"data: {kind}", kind)
    _compare(what, got, expected, why, rtol, atol)


def _compare(what: str, got: Any, expected: Any, why: str, rtol: float, atol: float) -> None:
    want = np.asarray(_array(expected), dtype=np.float64)
    try:
        have = np.asarray(_array(got), dtype=np.float64)
    except (TypeError, ValueError):
        return _judge(False, what, why, _show(want), _show(got), repr(got))
    if have.shape != want.shape:
        return _judge(False, what, why, f"shape {want.shape}", f"shape {have.shape}:\n{_show(have)}",
                      _freeze(have))
    ok = bool(np.allclose(have, want, rtol=rtol, atol=atol, equal_nan=True))
    _judge(ok, what, why, _numbers(want, have, ok), _numbers(have, want, ok), _freeze(have))


def _numbers(values: Any, other: Any, ok: bool) -> str:
    """The numbers, or for a large array the place and value of the worst difference."""
    if ok or values.size <= 24:
        return np.array2string(values, precision=6, separator=", ")
    gap = np.where(np.isnan(values - other), np.inf, np.abs(values - other))
    place = tuple(int(i) for i in np.unravel_index(int(gap.argmax()), values.shape))
    return f"{values[place]:.6g} at {place}, shape {values.shape}"


def same_storage(what: str, view: Any, base: Any, expected: bool = True, why: str = "") -> None:
    """Whether two tensors share memory (a view) or not (a copy)."""
    shares = bool(np.shares_memory(_array(view), _array(base)))
    words = {True: "shares memory (a view)", False: "owns its memory (a copy)"}
    _judge(shares == expected, what, why, words[expected], words[shares], shares)


def raises(what: str, error: type[BaseException], call: Callable[[], Any], why: str = "",
           mention: Sequence[str] = ()) -> None:
    """`call()` raises `error`, and its message names every word in `mention`."""
    wanted = error.__name__ + (f" that mentions {', '.join(mention)}" if mention else "")
    try:
        result = call()
    except error as caught:
        text = str(caught)
        if isinstance(caught, NotImplementedError) and error is not NotImplementedError:
            raise
        ok = all(word in text for word in mention)
        return _judge(ok, what, why, wanted, f"{_kind(caught)}: {text}", (_kind(caught), ok))
    except NotImplementedError:
        raise
    except Exception as caught:  # any other error is the learner's result, and is shown as such
        got = f"{_kind(caught)}: {caught}"
        return _judge(False, what, why, wanted, got, got)
    _judge(False, what, why, wanted, f"no error; it returned {_show(result)}", _freeze(result))


def grads(what: str, check_grads: Callable[..., Any], f: Callable[..., Any], *inputs: Any,
          why: str = "the gradient must equal the slope that central differences measure") -> None:
    """The learner's own `check_grads` accepts the gradients of `f` at `inputs`."""
    try:
        check_grads(f, *inputs)
    except ValueError as caught:
        return _judge(False, what, why, "analytic gradient = measured slope", str(caught), str(caught))
    _judge(True, what, why, "", "", True)


def prediction(what: str, answer: Any, expected: float, why: str = "", rel: float = 0.05,
               unit: str = "") -> None:
    """A predicted number, right within `rel`; a wrong one is told how far off it is, not the answer."""
    if answer is Ellipsis or answer is None:
        return _judge(False, what, why, f"a number{f' in {unit}' if unit else ''}",
                      "not answered yet (...)", "unanswered")
    try:
        value = float(answer)
    except (TypeError, ValueError):
        return _judge(False, what, why, "a number", _show(answer), repr(answer))
    ok = abs(value - expected) <= rel * abs(expected)
    _judge(ok, what, why, f"within {rel:.0%} of the measured value", _distance(value, expected, unit),
           value)


def _distance(value: float, expected: float, unit: str) -> str:
    shown = f"{value:,.6g} {unit}".strip()
    if expected == 0 or value * expected <= 0:
        return f"{shown}: not even the right sign or scale"
    ratio = value / expected
    side, factor = ("large", ratio) if ratio > 1 else ("small", 1 / ratio)
    return f"{shown}: too {side}, by a factor of about {factor:.3g}"


def choice(what: str, answer: Any, expected: str, options: Sequence[str], why: str = "") -> None:
    """One of the lettered options; the message says why without giving the letter away."""
    if answer is Ellipsis or answer is None:
        return _judge(False, what, why, f"one of {', '.join(options)}", "not answered yet (...)",
                      "unanswered")
    given = str(answer).strip().lower()
    if given not in options:
        return _judge(False, what, "", f"one of {', '.join(options)}", _show(answer), given)
    _judge(given == expected, what, why, "another option", repr(given), given)
