"""The child process that runs a learner's cells: one JSON job in, one JSON line per event out.

Started by `tito.sandbox` as `python -m tito.runner JOB EVENTS`. It never writes anywhere else, and
keeps nothing: what it learns goes into the events, so that a kill loses only what comes after.
"""

from __future__ import annotations

import contextlib
import io
import json
import linecache
import re
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

Step = dict[str, Any]
Emit = Callable[..., None]
CELL = "<cell in "
TOOLS = ("the cell of tools", "the file (tools)")
HEAD = 8 << 10  # characters of output that are remembered per exercise


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


class Tee(io.TextIOBase):
    """Standard output that also remembers the head of what each exercise printed."""

    def __init__(self, stream: TextIO) -> None:
        self.stream, self.name = stream, ""
        self.heads: dict[str, str] = {}
        self.totals: dict[str, int] = {}

    def write(self, text: str) -> int:
        head = self.heads.get(self.name, "")
        self.heads[self.name] = head + text[: max(0, HEAD - len(head))]
        self.totals[self.name] = self.totals.get(self.name, 0) + len(text)
        return self.stream.write(text)

    def printed(self, name: str) -> str:
        """What the cells of an exercise printed: the head, and how much more there was."""
        head = self.heads.get(name, "")
        left = self.totals.get(name, 0) - len(head)
        return f"{head}\n… and {left / 1e6:,.1f} MB more, not shown" if left else head

    def flush(self) -> None:
        self.stream.flush()


def run(steps: list[Step], knockouts: dict[str, list[Step]], keep_going: bool, emit: Emit) -> None:
    """Execute the steps in order in one namespace, and report each; stop at the first failure."""
    tee = Tee(sys.__stdout__ or io.StringIO())
    with contextlib.redirect_stdout(tee), contextlib.redirect_stderr(tee):
        _run(steps, knockouts, keep_going, emit, tee)


def _run(
    steps: list[Step], knockouts: dict[str, list[Step]], keep_going: bool, emit: Emit, tee: Tee
) -> None:
    space = fresh_namespace()
    warnings.showwarning = warn
    for index, step in enumerate(steps):
        emit("begin", step=index)
        tee.name = step["name"]
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
            known = diagnose(step, knockouts.get(step["name"], []), space)
            failure["diagnosis"] = known or failure.get("diagnosis", "")
        printed = tee.printed(step["name"])
        emit("fail", step=index, seconds=seconds, printed=printed, **failure)
        if not keep_going:
            return


def warn(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """A warning in one line that says where in the learner's code; none from the tools cell."""
    if place(filename) not in TOOLS:
        print(f"{category.__name__}: {message} ({place(filename)}, line {lineno})")


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
    except BaseException as error:  # SystemExit is a result of the cell as well
        return describe(error)
    return None


def execute(step: Step, space: dict[str, Any]) -> None:
    filename = f"{CELL}{step['place']}>"
    source = "\n" * step["offset"] + without_magics(step["source"])
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    exec(compile(source, filename, "exec"), space)


def without_magics(source: str) -> str:
    """IPython's own lines (%timeit, !ls) left out: they mean nothing outside a notebook."""
    from tito.source import magic_lines

    lines = source.split("\n")
    for number, _ in list(magic_lines(lines)):
        line = lines[number]
        if not line.lstrip().startswith("#"):
            lines[number] = line[: len(line) - len(line.lstrip())] + "pass"
    return "\n".join(lines)


def describe(error: BaseException) -> dict[str, Any]:
    """What to tell the learner about an error: its kind, what happened, and labelled rows."""
    from tito.checks import CheckFailure

    if isinstance(error, CheckFailure):
        found = {"kind": "check", "what": error.what, "rows": error.rows()}
        return {**found, "diagnosis": error.guess}
    where = [("where", frames(error.__traceback__))]
    if isinstance(error, NotImplementedError) and re.match(r"\d\d_\w+: ", str(error)):
        return {"kind": "unsolved", "what": str(error), "rows": []}
    if isinstance(error, SyntaxError) and (error.filename or "").startswith(CELL):
        line = f"{place(error.filename or '')}, line {error.lineno}: {(error.text or '').strip()}"
        what = f"{type(error).__name__}: {error.msg}"
        return {"kind": "syntax", "what": what, "rows": [("where", line)]}
    if isinstance(error, SystemExit):
        what = f"your code called exit ({error.code!r})"
        return {"kind": "exit", "what": what, "rows": where}
    if isinstance(error, MemoryError):
        what = f"your code asked for too much memory: {error}".rstrip(": ")
        return {"kind": "memory", "what": what, "rows": where}
    what = "".join(traceback.format_exception_only(error)).strip()
    guess = ""
    if isinstance(error, RecursionError):
        where = [("where", frames(error.__traceback__).split("\n")[-1])]
        guess = "This line leads back to itself for ever: it calls the method it stands in."
    return {"kind": "error", "what": what, "rows": where, "diagnosis": guess}


def frames(trace: TracebackType | None) -> str:
    """The learner's frames only: their cells and their package."""
    kept = [f for f in traceback.extract_tb(trace) if theirs(f.filename)]
    lines = [f"{place(f.filename)}, line {f.lineno}: {(f.line or '').strip()}" for f in kept]
    once = [line for before, line in pairwise(["", *lines]) if line != before]
    return "\n".join(once[-4:])


def theirs(filename: str) -> bool:
    import os

    home = os.environ.get("TINYTORCH", "")
    return filename.startswith(CELL) or bool(home and filename.startswith(home))


def place(filename: str) -> str:
    cell = filename.startswith(CELL)
    return filename[len(CELL) : -1] if cell else "/".join(Path(filename).parts[-3:])


def diagnose(check: Step, wrong: list[Step], space: dict[str, Any]) -> str:
    """The diagnosis of the known mistake that gives exactly the results the answer gave."""
    with quiet():
        return _diagnosis(check, wrong, space)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """What known mistakes print and warn about is not the learner's."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def _diagnosis(check: Step, wrong: list[Step], space: dict[str, Any]) -> str:
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
