"""The one tool that every notebook of the course uses while a class is still growing."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from typing import Any


def method_of(cls: type) -> Callable[[Any], Any]:
    """Add the decorated function (or property) to `cls`, so that a class grows one cell at a time.

    `tito module complete` writes the method inside the class body, where it belongs. The name left
    behind in the notebook is the built-in of that name if there is one (`sum`, `max`), so that
    teaching `Tensor.sum` does not hide Python's own `sum`.
    """

    def add(method: Any) -> Any:
        name = getattr(method, "fget", None) or getattr(method, "__func__", None) or method
        setattr(cls, name.__name__, method)
        return getattr(builtins, name.__name__, method)

    return add
