"""What the check cells of the course call: compare, and explain a difference in four lines.

Every function takes what was checked first and why it matters last, and raises `CheckFailure`
(what, why, expected, got) when the learner's result is not the expected one. Nothing here knows a
solution: the expected values stand in the check cells, with their derivation.
"""

from __future__ import annotations

import re
import sys
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

__all__ = [
    "CheckFailure",
    "choice",
    "close",
    "connected",
    "equal",
    "grads",
    "prediction",
    "raises",
    "rule",
    "same_storage",
    "seal",
    "tensor",
    "true",
]


class CheckFailure(AssertionError):
    """A check that did not pass: what was checked, why it matters, expected, got."""

    def __init__(self, what: str, why: str, expected: str, got: str, guess: str = "") -> None:
        super().__init__(what)
        self.what, self.why, self.expected, self.got = what, why, expected, got
        self.guess = guess

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
        lines = [f"Not yet. {self}"]
        if self.guess:
            lines.append(f"  probably  {self.guess}")
        return [*lines, "Next: mend it and run both cells again; `tito watch` knows more"]


judged = 0  # how many comparisons have been made: a kernel tells the learner
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


def _judge(
    ok: bool, what: str, why: str, expected: str, got: str, value: Any, guess: str = ""
) -> None:
    global judged
    judged += 1
    if _trace is not None:
        _trace.append((what, ok, value))
    elif not ok:
        raise CheckFailure(what, why, expected, got, guess)


FORGOTTEN = "A function that ends without `return` gives None: is the return line missing?"


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
        return _repr(value)
    return (_kind(value), array) if array.dtype != object else _repr(value)


def _repr(value: Any) -> str:
    """`repr` without memory addresses, which differ from run to run."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


def _show(value: Any) -> str:
    """A value in a message: shape and dtype where they matter, numbers short."""
    if _kind(value) in ("Tensor", "Parameter"):
        inner = value.data
        return f"Tensor {_show(inner)}" if isinstance(inner, np.ndarray) else f"Tensor of {inner!r}"
    if isinstance(value, np.ndarray):
        text = np.array2string(value, precision=6, threshold=24, edgeitems=3, separator=", ")
        return (
            f"shape {value.shape}, {value.dtype}:\n{text}"
            if value.ndim
            else f"{value.dtype} {text}"
        )
    text = repr(value)
    return text if len(text) <= 400 else text[:400] + " …"


def equal(what: str, got: Any, expected: Any, why: str = "") -> None:
    """Exactly equal: numbers, strings, tuples, shapes."""
    same = type(got) is type(expected) or (
        isinstance(got, (int, float, np.number))
        and isinstance(expected, (int, float, np.number))
        and not isinstance(got, bool)
        and not isinstance(expected, bool)
    )
    ok = bool(
        same and np.array_equal(np.asarray(got, dtype=object), np.asarray(expected, dtype=object))
    )
    _judge(ok, what, why, _show(expected), _show(got), _freeze(got), _guess_type(got, expected))


def _guess_type(got: Any, expected: Any) -> str:
    """The likely reason when a value has another type than the one expected."""
    if got is None and expected is not None:
        return FORGOTTEN
    both = isinstance(got, (list, tuple)) and isinstance(expected, (list, tuple))
    if both and type(got) is not type(expected) and list(got) == list(expected):
        return f"The numbers are right, but in a {_kind(got)}: make it a {_kind(expected)}."
    return ""


def true(what: str, condition: Any, why: str = "", got: Any = None) -> None:
    """A condition that must hold; `got` is shown when it does not."""
    value = bool(condition)
    shown = "" if got is None else _show(got)
    expected = "this holds" if not shown else ""
    _judge(value, what, why, expected, shown or "it does not", (value, _repr(got)))


def close(
    what: str, got: Any, expected: Any, why: str = "", rtol: float = 1e-5, atol: float = 1e-6
) -> None:
    """Same shape and the same numbers within `rtol`·|expected| + `atol`; arrays or numbers."""
    _compare(what, got, expected, why, rtol, atol)


def tensor(
    what: str, got: Any, expected: Any, why: str = "", rtol: float = 1e-5, atol: float = 1e-6
) -> None:
    """`got` is a Tensor holding a float32 array with the shape and the numbers of `expected`."""
    if _kind(got) not in ("Tensor", "Parameter"):
        shown = "None" if got is None else f"{_kind(got)}: {_show(got)}"
        reason = "operations chain only if each returns a Tensor: wrap the array, Tensor(...)"
        reason, guess = (why, FORGOTTEN) if got is None else (reason, "")
        frozen = (_kind(got), _freeze(got))
        return _judge(False, what, reason, "a Tensor", shown, frozen, guess)
    data = got.data
    if not isinstance(data, np.ndarray) or data.dtype != np.float32:
        kind = f"{_kind(data)} of {data.dtype}" if isinstance(data, np.ndarray) else _kind(data)
        reason = "a Tensor always holds a float32 NumPy array"
        return _judge(False, what, reason, "data: ndarray of float32", f"data: {kind}", kind)
    _compare(what, got, expected, why, rtol, atol)


def _compare(what: str, got: Any, expected: Any, why: str, rtol: float, atol: float) -> None:
    want = np.asarray(_array(expected), dtype=np.float64)
    if got is None or got is Ellipsis:
        guess = FORGOTTEN if got is None else ""
        return _judge(False, what, why, _numbers(want, want, True), _show(got), repr(got), guess)
    try:
        have = np.asarray(_array(got), dtype=np.float64)
    except (TypeError, ValueError):
        return _judge(False, what, why, _show(want), _show(got), repr(got))
    frozen = _freeze(have)
    if have.shape != want.shape:
        shown = f"shape {have.shape}"
        shown += f":\n{_numbers(have, have, True)}" if have.size <= 24 else ""
        guess = _guess_numbers(have, want, rtol, atol)
        return _judge(False, what, why, f"shape {want.shape}", shown, frozen, guess)
    ok = bool(np.allclose(have, want, rtol=rtol, atol=atol, equal_nan=True))
    guess = "" if ok else _guess_numbers(have, want, rtol, atol)
    _judge(ok, what, why, _numbers(want, have, ok), _numbers(have, want, ok), frozen, guess)


def _guess_numbers(have: Any, want: Any, rtol: float, atol: float) -> str:
    """What wrong numbers have in common with the right ones: transposed, negated, scaled."""

    def like(other: Any) -> bool:
        same = other.shape == want.shape
        return same and bool(np.allclose(other, want, rtol=rtol, atol=atol, equal_nan=True))

    if want.size < 2:
        return ""
    if have.ndim == 2 and like(have.T):
        return "These are the right numbers, transposed: rows and columns are swapped."
    if like(-have):
        return "These are the right numbers with the wrong sign."
    biggest = np.abs(want).argmax()
    if have.shape == want.shape and have.flat[biggest] and np.isfinite(have).all():
        ratio = want.flat[biggest] / have.flat[biggest]
        if ratio and np.isfinite(ratio) and like(have * ratio):
            return f"Every number is {1 / ratio:.4g} times the right one: a factor is missing."
    return ""


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


def raises(
    what: str,
    error: type[BaseException],
    call: Callable[[], Any],
    why: str = "",
    mention: Sequence[str] = (),
) -> None:
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


def grads(
    what: str,
    check_grads: Callable[..., Any],
    f: Callable[..., Any],
    *inputs: Any,
    why: str = "the gradient must equal the slope that central differences measure",
) -> None:
    """The learner's own `check_grads` accepts the gradients of `f` at `inputs`."""
    try:
        check_grads(f, *inputs)
    except ValueError as caught:
        return _judge(
            False, what, why, "analytic gradient = measured slope", str(caught), str(caught)
        )
    _judge(True, what, why, "", "", True)


def rule(
    what: str,
    rule_: Callable[..., Any],
    position: int,
    f: Callable[..., Any],
    *arrays: Any,
    why: str = "",
    **options: Any,
) -> None:
    """A gradient rule `rule_(g, out, *arrays, **options)` for the array at `position` gives the
    slope of `f`, which computes the same operation on plain float64 arrays."""
    values = [np.array(a, dtype=np.float64) if isinstance(a, np.ndarray) else a for a in arrays]
    out = np.asarray(f(*values))
    g = np.random.default_rng(7).standard_normal(out.shape)
    slope = np.zeros_like(values[position])
    for place in np.ndindex(slope.shape):
        centre, ends = values[position][place], []
        for step in (1e-5, -1e-5):
            values[position][place] = centre + step
            ends.append(float((g * f(*values)).sum()))
        values[position][place] = centre
        slope[place] = (ends[0] - ends[1]) / 2e-5
    got = rule_(g, out, *values, **options)
    if isinstance(got, np.ndarray) and got.shape != slope.shape and got.shape == g.shape:
        got = _summed(got, slope.shape)
    _compare(
        what,
        got,
        slope,
        why or "a rule must give the slope that central differences measure",
        1e-4,
        1e-6,
    )


def _summed(gradient: Any, shape: tuple[int, ...]) -> Any:
    """The gradient of a broadcast operand, summed back to its shape."""
    gradient = gradient.sum(axis=tuple(range(gradient.ndim - len(shape))))
    ones = tuple(i for i, n in enumerate(shape) if n == 1)
    return gradient.sum(axis=ones, keepdims=True) if ones else gradient


OPERATIONS = (
    "__add__ __radd__ __sub__ __rsub__ __mul__ __rmul__ __truediv__ __rtruediv__ __pow__ __neg__ "
    "__matmul__ __getitem__ exp log sqrt abs clamp sum mean var max reshape permute transpose "
    "cat clone"
).split()


def connected(what: str, call: Callable[..., Any], *inputs: Any, why: str = "") -> None:
    """`call(*inputs)` reaches its result by Tensor operations from every one of the `inputs`.

    A result computed on `.data` has the right numbers, but gradients could never flow back.
    """
    for position, source in enumerate(inputs):
        with _marking(type(source)) as reached:
            reached.add(id(source))
            result = call(*inputs)
            ok = id(result) in reached
        _judge(
            ok,
            what,
            why or "computed on .data, the numbers are right but no gradient can flow back",
            f"a result made by Tensor operations from input {position + 1}",
            "a result made from its .data" if not ok else "",
            (position, ok),
        )


@contextmanager
def _marking(kind: type) -> Iterator[set[int]]:
    """While active, results of Tensor operations on a reached tensor are reached as well."""
    base = next(c for c in kind.__mro__ if c.__name__ == "Tensor")
    reached: set[int] = set()
    alive: list[Any] = []
    originals = {name: vars(base)[name] for name in OPERATIONS if name in vars(base)}

    def marked(operation: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            result = operation(*args, **options)
            alive.extend([result, *args])
            if any(id(argument) in reached for argument in args):
                reached.add(id(result))
            return result

        return call

    try:
        for name, operation in originals.items():
            setattr(base, name, marked(operation))
        yield reached
    finally:
        for name, operation in originals.items():
            setattr(base, name, operation)


def seal(answer: object) -> str:
    """An expected answer as text that is not read by accident: base64, no secret."""
    return b64encode(str(answer).encode()).decode()


def _unsealed(text: str) -> str:
    return b64decode(text).decode()


def prediction(
    what: str, answer: Any, sealed: str, why: str = "", rel: float = 0.05, unit: str = ""
) -> None:
    """A predicted number, right within `rel` of the `sealed` one (see `seal`).

    A wrong answer is told how far off it is and why, not what is right; an empty one neither.
    """
    expected = float(_unsealed(sealed))
    if answer is Ellipsis or answer is None:
        wanted = f"a number{f' in {unit}' if unit else ''}"
        return _judge(False, what, "", wanted, "not answered yet (...)", "unanswered")
    try:
        value = float(answer)
    except (TypeError, ValueError):
        return _judge(False, what, "", "a number", _show(answer), repr(answer))
    ok = abs(value - expected) <= rel * abs(expected)
    got = _distance(value, expected, unit)
    _judge(ok, what, why, f"the right number, or within {100 * rel:g} % of it", got, value)


def _distance(value: float, expected: float, unit: str) -> str:
    shown = f"{value:,.6g} {unit}".strip()
    if not value * expected > 0:
        return f"{shown}: not even the right sign or scale"
    ratio = value / expected
    side, factor = ("large", ratio) if ratio > 1 else ("small", 1 / ratio)
    return f"{shown}: too {side}, by a factor of about {factor:.3g}"


def choice(what: str, answer: Any, sealed: str, options: Sequence[str], why: str = "") -> None:
    """One of the lettered options; the message says why without giving the letter away."""
    expected, letters = _unsealed(sealed), ", ".join(f'"{option}"' for option in options)
    if answer is Ellipsis or answer is None:
        return _judge(False, what, "", f"one of {letters}", "not answered yet (...)", "unanswered")
    given = str(answer).strip().lower()
    if given not in options:
        return _judge(False, what, "", f"one of {letters}", _show(answer), given)
    _judge(given == expected, what, why, "another option", repr(given), given)


if "ipykernel" in sys.modules:
    from tito import kernel

    kernel.attach(lambda: judged)
