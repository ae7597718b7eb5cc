"""The child process that runs a learner's cells: one JSON job in, one JSON line per event out.

Started by `tito.sandbox` as `python -m tito.runner JOB EVENTS`. It never writes anywhere else, and
keeps nothing: what it learns goes into the events, so that a kill loses only what comes after.
"""

from __future__ import annotations

import contextlib
import json
import linecache
import re
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

Step = dict[str, Any]
Emit = Callable[..., None]
CELL = "<cell "


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    with Path(sys.argv[2]).open("a", encoding="utf-8") as out:

        def emit(event: str, **fields: Any) -> None:
            out.write(json.dumps({"event": event, **fields}) + "\n")
            out.flush()

        limit_memory(job["memory"])
        for number, steps in enumerate(job["runs"]):
            emit("run", run=number)
            run(steps, job["knockouts"], job["keep_going"], emit)
        emit("done")


def limit_memory(limit: int) -> None:
    """Ask the system for a ceiling, where it has one (not on Windows; macOS ignores it)."""
    if sys.platform == "win32" or not limit:
        return
    import resource

    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def fresh_namespace() -> dict[str, Any]:
    """The namespace of a new `__main__`, as a notebook kernel gives it."""
    import types

    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module
    return vars(module)


def run(steps: list[Step], knockouts: dict[str, list[Step]], keep_going: bool, emit: Emit) -> None:
    """Execute the steps in order in one namespace, and report each; stop at the first failure."""
    space = fresh_namespace()
    for index, step in enumerate(steps):
        emit("begin", step=index)
        started = time.perf_counter()
        failure = attempt(step, space)
        seconds = time.perf_counter() - started
        if failure is None:
            emit("pass", step=index, seconds=seconds)
            continue
        if step["role"] == "own":
            emit("own", step=index, **failure)
            continue
        if failure["kind"] == "error" and has_hole(steps, step):
            failure = {
                "kind": "unsolved",
                "what": f"{step['name']}: a value is still ...",
                "rows": [],
            }
        if step["role"] == "check" and failure["kind"] in ("check", "error"):
            failure["diagnosis"] = diagnose(step, knockouts.get(step["name"], []), space)
        emit("fail", step=index, seconds=seconds, **failure)
        if not keep_going:
            return


def has_hole(steps: list[Step], check: Step) -> bool:
    """Whether the exercise of this check still has a value as shipped: `name = ...`."""
    source = next(
        (s["source"] for s in steps if s["role"] == "exercise" and s["name"] == check["name"]), ""
    )
    return check["role"] == "check" and bool(re.search(r"^\w+ *= *\.\.\.\s*(#.*)?$", source, re.M))


def attempt(step: Step, space: dict[str, Any]) -> dict[str, Any] | None:
    """Run one cell; None when it went well, otherwise what to tell the learner."""
    try:
        execute(step, space)
    except (
        BaseException
    ) as error:  # SystemExit and KeyboardInterrupt are results of the cell as well
        return describe(error, step)
    return None


def execute(step: Step, space: dict[str, Any]) -> None:
    filename = f"{CELL}{step['cell']}: {step['label']}>"
    source = without_magics(step["source"])
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    exec(compile(source, filename, "exec"), space)


def without_magics(source: str) -> str:
    """IPython's own lines (%timeit, !ls) as comments: they mean nothing outside a notebook."""
    return re.sub(r"^(\s*)([%!])", r"\1pass  # \2", source, flags=re.M)


def describe(error: BaseException, step: Step) -> dict[str, Any]:
    from tito.checks import CheckFailure

    if isinstance(error, CheckFailure):
        return {"kind": "check", "what": error.what, "rows": error.rows()}
    if isinstance(error, NotImplementedError) and re.match(r"\d\d_\w+: ", str(error)):
        return {"kind": "unsolved", "what": str(error), "rows": []}
    if isinstance(error, SyntaxError) and (error.filename or "").startswith(CELL):
        text = (error.text or "").rstrip()
        where = f"line {error.lineno}: {text.strip()}"
        return {
            "kind": "syntax",
            "what": f"{type(error).__name__}: {error.msg}",
            "rows": [("where", where)],
        }
    if isinstance(error, SystemExit):
        return {
            "kind": "exit",
            "what": f"your code called exit ({error.code!r})",
            "rows": [("where", frames(error.__traceback__))],
        }
    if isinstance(error, MemoryError):
        return {
            "kind": "memory",
            "what": f"your code asked for too much memory: {error}".rstrip(": "),
            "rows": [("where", frames(error.__traceback__))],
        }
    what = "".join(traceback.format_exception_only(error)).strip()
    return {"kind": "error", "what": what, "rows": [("where", frames(error.__traceback__))]}


def frames(trace: TracebackType | None) -> str:
    """The learner's frames only: their cells and their package."""
    kept = [f for f in traceback.extract_tb(trace) if theirs(f.filename)]
    lines = [f"{place(f.filename)}, line {f.lineno}: {(f.line or '').strip()}" for f in kept[-4:]]
    return "\n".join(lines)


def theirs(filename: str) -> bool:
    import os

    home = os.environ.get("TINYTORCH", "")
    return filename.startswith(CELL) or bool(home and filename.startswith(home))


def place(filename: str) -> str:
    return filename[1:-1] if filename.startswith(CELL) else "/".join(Path(filename).parts[-3:])


def diagnose(check: Step, wrong: list[Step], space: dict[str, Any]) -> str:
    """The diagnosis of the known mistake that gives exactly the results the answer gave."""
    mine = signature(check, space)
    first = next((entry for entry in mine if not entry[1]), None)
    partial: list[str] = []
    for knockout in wrong:
        if attempt(knockout, space) is not None:
            continue
        theirs_ = signature(check, space)
        if same(mine, theirs_):
            return str(knockout["diagnosis"])
        if first is not None and any(same([first], [entry]) for entry in theirs_):
            partial.append(knockout["diagnosis"])
    return partial[0] if len(partial) == 1 else ""


def signature(check: Step, space: dict[str, Any]) -> list[tuple[str, bool, Any]]:
    """(what, passed, got) of every check in the cell, and how it ended."""
    from tito import checks

    with checks.tracing() as trace:
        try:
            execute(check, space)
        except Exception as error:  # an answer that raises has that error as its signature
            trace.append(("raised", False, f"{type(error).__name__}: {error}"))
    return list(trace)


def same(one: list[tuple[str, bool, Any]], other: list[tuple[str, bool, Any]]) -> bool:
    return len(one) == len(other) and all(
        a[:2] == b[:2] and same_value(a[2], b[2]) for a, b in zip(one, other, strict=True)
    )


def same_value(a: Any, b: Any) -> bool:
    import numpy as np

    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        numeric = a.dtype.kind in "fiub" and b.dtype.kind in "fiub"
        return a.shape == b.shape and (
            bool(np.allclose(a, b, rtol=1e-6, atol=1e-9, equal_nan=True))
            if numeric
            else bool(np.array_equal(a, b))
        )
    if isinstance(a, tuple) and isinstance(b, tuple):
        return len(a) == len(b) and all(same_value(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, float) and isinstance(b, float):
        return bool(np.isclose(a, b, rtol=1e-9, equal_nan=True))
    return type(a) is type(b) and bool(a == b)


if __name__ == "__main__":
    main()
