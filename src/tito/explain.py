"""A report of the checks in words: what was checked, expected, got, why, and what comes next."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from tito import course, hints, layout, screen
from tito.layout import Block
from tito.lesson import Report
from tito.sandbox import Failure, Step
from tito.workspace import Workspace

LABEL = 11
PRINTED = 10  # lines of the learner's output that are shown


def header(ws: Workspace) -> str:
    """Whose code is running."""
    from tito import origin

    return screen.dim(f"tinytorch: student ({origin.shorten(ws.root)})")


def page(ws: Workspace, report: Report, only: str | None = None) -> list[str]:
    """Whose code ran, and the whole report but its last line, `Next:`."""
    return [header(ws), *layout.flat(blocks(report, only))]


def marks(report: Report) -> str:
    """One mark per exercise in order: passed, failed, not reached."""
    return "".join(mark(report, name) for name in report.exercises)


def mark(report: Report, name: str) -> str:
    if name in report.passed:
        return screen.good("✓")
    failed = report.failure is not None and report.failure.step.name == name
    return screen.bad("✗") if failed else screen.dim("·")


def summary(report: Report) -> list[str]:
    """`05_autograd  7/18 exercises  ✓✓✓✓✓✓✓✗··········`, on two lines where one is too narrow."""
    done = sum(name in report.passed for name in report.exercises)
    head = f"{report.module.id}  {done}/{len(report.exercises)} exercises"
    if len(head) + 2 + len(report.exercises) <= screen.width():
        return [f"{screen.bold(head)}  {marks(report)}"]
    room, every = screen.width(), [mark(report, name) for name in report.exercises]
    return [screen.bold(head)] + ["".join(every[i : i + room]) for i in range(0, len(every), room)]


def blocks(report: Report, only: str | None = None) -> list[Block]:
    """Marks, notices, and the first failure or the points. `only`: one exercise was checked."""
    text = [] if only else [Block(layout.SUMMARY, summary(report))]
    for notice in report.notices:
        told = [screen.warm(line) for line in screen.wrap(notice, "  ", "! ")]
        text.append(Block(layout.NOTICE, told))
    if report.failure is None:
        done = [screen.good(f"{reference(report, only)}  {only} passes.")] if only else []
        return [*text, Block(layout.WHAT, done or _success(report))]
    return [*text, *([] if only else [layout.GAP_BLOCK]), *failure_blocks(report)]


def lines(report: Report) -> list[str]:
    """All of the report, whatever the room."""
    return layout.flat(blocks(report))


def reference(report: Report, name: str) -> str:
    """`05.8`: the exercise's number."""
    return f"{report.module.number:02d}.{report.exercises.index(name) + 1}"


def _success(report: Report) -> list[str]:
    rest = report.module.points - report.total
    graded = f" (a person gives {rest} more for the open question)" if rest > 0 else ""
    return screen.wrap(f"All checks pass: {report.points} of {report.total} points{graded}.")


# The first failure -------------------------------------------------------------------------------

_KEEP = {"expected": layout.RESULT, "got": layout.RESULT, "do": layout.RESULT,
         "where": layout.WHERE, "why": layout.WHY, "probably": layout.PROBABLY,
         "see also": layout.SEE_ALSO}


def failure(report: Report) -> list[str]:
    """The first failure: heading, what was checked, and the labelled rows below it."""
    return layout.flat(failure_blocks(report))


def failure_blocks(report: Report) -> list[Block]:
    """The parts of the first failure, by how much they matter."""
    found = report.failure
    assert found is not None
    text = [Block(layout.HEADING, [heading(report)]),
            Block(layout.WHAT, screen.wrap(what(report), "  ", "  "))]
    for label, row in _rows(report, found):
        text.append(Block(_KEEP.get(label, layout.OTHER), _labelled(label, row)))
    if report.output.strip():
        text.append(Block(layout.PRINTED, _printed(report.output, PRINTED)))
    return text


def heading(report: Report) -> str:
    """`Exercise 05.8  topological_sort`, and for a percent file the line of its check."""
    assert report.failure is not None
    step = report.failure.step
    where = f"  ({'checked at ' * (step.role == 'check')}line {step.line})" if step.line else ""
    if report.number:
        title = f"Exercise {report.module.number:02d}.{report.number}  {step.name}"
    elif step.name.startswith("tinytorch/"):
        title = f"Exported file  {step.name}"
    else:
        title = f"Cell {step.cell}  {step.label}" if step.cell else step.label
        where = ""
    fits = len(title) + len(where) <= screen.width()
    return screen.bad(title) + (screen.dim(where) if fits else "")


def what(report: Report) -> str:
    """The failure in one sentence, by its kind."""
    assert report.failure is not None
    found = report.failure
    if found.kind == "unsolved":
        missing = found.what.partition(": ")[2] or found.what
        needed = missing in report.exercises and missing != found.step.name
        return f"not written yet: {missing}{', which this needs' * needed}"
    if found.kind == "syntax":
        return f"Python cannot read this cell: {found.what}"
    if found.kind == "error":
        return f"it raised {found.what}"
    return found.what


def _rows(report: Report, found: Failure) -> list[tuple[str, str]]:
    rows = list(found.rows)
    if found.kind == "unsolved" and found.what.partition(": ")[2] == found.step.name:
        rows.append(("do", "replace the line `raise NotImplementedError(...)` by your code"))
    if found.what.startswith("EOFError: EOF when reading a line"):
        rows.append(("do", "leave out input(): checks run where nobody can type"))
    if found.diagnosis:
        rows.append(("probably", found.diagnosis))
    text = "\n".join([found.what, *(row for _, row in found.rows)])
    if symptom := hints.symptom_for(report.module, text):
        rows.append(("see also", f"{symptom.cause} → {symptom.look}"))
    return rows


def _labelled(label: str, text: str) -> list[str]:
    indent = " " * (LABEL + 2)
    first, *rest = screen.wrap(text, indent, "  " + label.ljust(LABEL))
    return ["  " + screen.dim(label.ljust(LABEL)) + first[LABEL + 2 :], *rest]


def _printed(output: str, limit: int) -> list[str]:
    """The head of what the learner's cells printed, one line of the terminal each."""
    clean = "".join(c if c.isprintable() or c == "\n" else " " for c in output)
    found = clean.strip("\n").split("\n")
    room = screen.width() - LABEL - 2
    limit += len(found) == limit + 1  # the last line takes no more room than saying so
    shown = [line if len(line) <= room else line[: room - 1] + "…" for line in found[:limit]]
    if len(found) > limit:
        shown.append(f"… {len(found) - limit:,} more lines")
    return _labelled("printed", "\n".join(shown))


def next_command(report: Report, only: str | None = None) -> str:
    """The command that helps now. `only`: nothing but this exercise was checked."""
    number = f"{report.module.number:02d}"
    if report.failure is None:
        return f"tito module {'test' if only else 'complete'} {number}"
    if report.number and report.failure.kind != "notebook":
        return f"tito hint {number}.{report.number}"
    return f"tito notebook open {number}"


# For programs ------------------------------------------------------------------------------------


def as_dict(report: Report, only: str | None = None) -> dict[str, Any]:
    """The report as plain values; `from_dict` gives it back."""
    found = report.failure
    data: dict[str, Any] = {
        "module": report.module.id, "ok": report.ok, "passed": report.passed,
        "exercises": report.exercises, "points": report.points, "total": report.total,
        "notices": report.notices, "output": report.output, "seconds": round(report.seconds, 3),
        "failure": None,
    }
    if found:
        step = {key: value for key, value in asdict(found.step).items() if key != "source"}
        explained = {"what": found.what, "rows": found.rows, "diagnosis": found.diagnosis}
        data["failure"] = {"kind": found.kind, "exercise": report.number, **step, **explained,
                           "sentence": what(report)}
    return {**data, "only": only, "next": next_command(report, only)}


def from_dict(data: dict[str, Any]) -> Report:
    """The report that `as_dict` made `data` of, without the sources of its cells."""
    found = data["failure"]
    failed = None
    if found:
        step = Step(found["role"], found["name"], "", found["cell"], line=found["line"])
        rows = [(label, text) for label, text in found["rows"]]
        failed = Failure(step, found["kind"], found["what"], rows, found["diagnosis"])
    return Report(
        course.find_module(data["module"]), data["passed"], data["exercises"], data["points"],
        data["total"], failed, data["notices"], data["output"], data["seconds"],
    )
