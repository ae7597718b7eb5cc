"""Milestones and checkpoints in words: where they stand, and what a run of one gave."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from tito import course, milestones, probes, screen

if TYPE_CHECKING:
    from tito.checkpoints import Result
    from tito.checkpoints import Standing as CheckpointStanding
    from tito.judge import Finding
    from tito.milestones import Standing, Verdict
    from tito.probes import Blame
    from tito.workspace import Workspace

LABEL = 10
STYLES = {"passed": screen.good, "open": screen.bold, "locked": screen.dim, "planned": screen.dim}


def day(iso: str | None) -> str:
    """The date of a recorded time."""
    return iso[:10] if iso else ""


def rows(label: str, text: str) -> list[str]:
    """`  label     text`, wrapped under the text."""
    indent = " " * (LABEL + 2)
    first, *rest = screen.wrap(text, indent, "  " + label.ljust(LABEL))
    return ["  " + screen.dim(label.ljust(LABEL)) + first[LABEL + 2 :], *rest]


# Milestones --------------------------------------------------------------------------------------


def milestone_list(found: list[Standing]) -> list[str]:
    """The six milestones, one line each."""
    lines = screen.table(
        (row.milestone.id, row.state, f"{row.milestone.needs[0]:02d}-{row.milestone.needs[1]:02d}",
         row.milestone.summary)
        for row in found
    )  # fmt: skip
    return [STYLES[row.state](line) for row, line in zip(found, lines)]


def milestone_info(ws: Workspace, found: Standing) -> list[str]:
    """One milestone: what it is, what it needs, what was reached, where its files are."""
    milestone, first, last = found.milestone, *found.milestone.needs
    text = [f"{screen.bold(milestone.id)}  {milestone.title}", f"  {found.state}"]
    text += rows("needs", f"modules {first:02d} to {last:02d}")
    if found.missing:
        text += rows("missing", ", ".join(found.missing))
    text += ["", *_paragraphs(story(milestone))]
    if found.record.get("passed"):
        text += rows(
            "passed", f"{day(found.record['passed'])}, last run {day(found.record['date'])}"
        )
        text += rows("reached", figures(found.record["figures"]))
    place = milestones.folder(ws, milestone)
    names = sorted(path.name for path in place.iterdir()) if place.is_dir() else []
    return text + (rows("files", f"{ws.relative(place)}: {', '.join(names)}") if names else [])


def _paragraphs(text: str) -> list[str]:
    """Paragraphs wrapped anew, two columns in; indented ones are kept as they are."""
    lines = []
    for block in filter(None, text.split("\n\n")):
        kept = block if block.startswith(" ") else " ".join(block.split())
        lines += [*screen.wrap(kept, "  ", "  "), ""]
    return lines


def story(milestone: course.Milestone) -> str:
    """What run.py says about itself; empty for a milestone that is not written."""
    path = milestone.folder / "run.py"
    if not path.is_file():
        return ""
    return ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""


def figures(reached: dict[str, dict[str, float]]) -> str:
    """`line: accuracy 0.999, margin 0.0371; digits: …`."""
    parts = (
        f"{part}: " + ", ".join(f"{name} {value:.3g}" for name, value in found.items())
        for part, found in reached.items() if found
    )  # fmt: skip
    return "; ".join(parts)


def verdict(ws: Workspace, result: Verdict) -> list[str]:
    """What was asked and found, then the files of a pass or the blame of a failure."""
    last = result.milestone.needs[1]
    every = sum(step.role == "check" for step in probes.steps(last))
    asked = f"{result.probes} of {every} small questions to modules 01 to {last:02d}"
    text = ["", screen.bold(result.milestone.id)]
    text += rows("probes", f"{_mark(result.probes == every)} {asked}")
    for part, found in result.findings.items():
        took = f"  {screen.dim(f'{result.seconds[part]:.1f} s')}" if part in result.seconds else ""
        text += [f"  {part}{took}", *_findings(found)]
        text += [line for said in result.samples.get(part, []) for line in _verbatim(said)]
    if result.blame:
        return [*text, "", *blame(result.blame)]
    for path in result.files:
        text += rows("record" if path.suffix == ".json" else "file", str(ws.relative(path)))
    for note in result.notes:
        text += [screen.dim(line) for line in screen.wrap(note, "  ", "  ")]
    return [*text, screen.good("Passed: computed again by NumPy from your framework's weights.")]


def _findings(found: list[Finding]) -> list[str]:
    """A line for each finding with a figure, and one line for all the others that hold."""
    text, quiet = [], [f.name for f in found if f.ok and f.value is None]
    for one in found:
        if one.value is not None:
            line = f"{one.what}: {one.got} ({one.expected})"
            text += screen.wrap(line, " " * 6, f"    {_mark(one.ok)} ")
    if quiet:
        text += screen.wrap(f"{len(quiet)} more hold: {', '.join(quiet)}", " " * 6, "    ✓ ")
    return text


def _verbatim(said: str) -> list[str]:
    """What a network wrote, under the findings."""
    return [screen.dim(line) for line in screen.wrap(said, " " * 8, " " * 6)] or [""]


def _mark(ok: Any) -> str:
    return "✓" if ok else "✗"


def blame(why: Blame) -> list[str]:
    """Where it failed, what, expected, got, why, and the module to look at."""
    text = [screen.bad(f"Not passed ({why.where})"), *screen.wrap(why.what, "  ", "  ")]
    for label, row in why.rows:
        text += rows(label, row)
    if why.guilty:
        module = course.find_module(why.guilty)
        file = f"tinytorch/{module.export.replace('.', '/')}.py"
        text += rows("look at", f"{screen.bold(module.id)}, your {file}")
    return text


# Checkpoints -------------------------------------------------------------------------------------


def checkpoint_list(found: Iterable[CheckpointStanding]) -> list[str]:
    """The sixteen checkpoints, one line each."""
    found = list(found)
    lines = screen.table(
        (f"{row.checkpoint.number:2}", row.state, row.checkpoint.title, row.note) for row in found
    )
    return [STYLES[row.state](line) for row, line in zip(found, lines)]


def checkpoint_result(result: Result) -> list[str]:
    """One checkpoint: a mark per question, and the first one that is not answered."""
    head = f"{result.checkpoint.number:02d} {result.checkpoint.title}: {result.checkpoint.question}"
    marks = [(name, name in result.passed, result.failure) for name in result.questions]
    text = screen.wrap(head, "  ", "")
    for name, ok, failure in marks:
        reached = ok or (failure is not None and failure.step.name == name)
        sign = _mark(ok) if reached else "·"
        text.append(f"  {screen.good(sign) if ok else screen.bad(sign)} {name.replace('_', ' ')}")
    if result.blame:
        text += ["", *blame(result.blame)]
    return text
