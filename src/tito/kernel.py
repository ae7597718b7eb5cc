"""In a Jupyter kernel: say that a check cell passed, and keep "not written yet" to two lines."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from typing import Any


def attach(judged: Callable[[], int]) -> None:
    """Register with the running IPython, if there is one; `judged()` counts comparisons made.

    Called by the import of `tito.checks`.
    """
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is None or hasattr(shell, "tito_checks"):
        return
    shell.tito_checks = judged()

    def before(_info: Any) -> None:
        shell.tito_checks = judged()

    shell.events.register("pre_run_cell", before)
    shell.events.register(
        "post_run_cell", lambda result: _after(judged() - shell.tito_checks, result)
    )
    shell.set_custom_exc((NotImplementedError,), _hole)


def _after(done: int, result: Any) -> None:
    if result.success and done and "check." in result.info.raw_cell:
        print(f"✓ {done} check{'s' * (done != 1)} passed")


def _hole(shell: Any, kind: Any, error: Any, trace: Any, tb_offset: int | None = None) -> Any:
    """An exercise that is still a hole in two lines; any other error as IPython shows it."""
    found = re.match(r"\d\d_\w+: (.+)", str(error))
    if found:
        lines = [
            f"Not written yet: {found[1]}",
            "Next: replace its line `raise NotImplementedError(...)` by your code",
        ]
    else:
        lines = shell.InteractiveTB.structured_traceback(kind, error, trace, tb_offset=tb_offset)
    shell._showtraceback(kind, error, lines)
    return lines
