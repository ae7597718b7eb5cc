"""Probes: one small question after another to a learner's modules, so that a mistake has a name.

They are the cells of course/milestones/probes.py, each named after the module it asks. Milestones
ask them before they train, checkpoints when a question of theirs is not answered.
"""

from __future__ import annotations

import shutil
import tempfile
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tito import course, sandbox, source
from tito.course import Milestone
from tito.sandbox import Failure, Outcome, Step
from tito.workspace import MARKER, Workspace


@dataclass
class Blame:
    """Why something did not pass: where, what, the rows that explain it, the guilty module's id."""

    where: str
    what: str
    rows: list[tuple[str, str]]
    guilty: str
    next: str = "tito system doctor"

    def __post_init__(self) -> None:
        if self.guilty:
            self.next = f"tito module test {self.guilty[:2]}"


def environment(root: Path, last: int) -> dict[str, str]:
    """What makes a child see the package of the workspace `root` up to and with module `last`."""
    return {"TINYTORCH": str(root), "TINYTORCH_UPTO": f"{last + 1:02d}"}


def steps(last: int) -> list[Step]:
    """The probes of modules 1 to `last`, in order, each named `05_autograd.accumulates`."""
    cells = source.read(course.course_dir() / "milestones" / "probes.py").cells
    return [
        Step(cell.role or "", cell.name, cell.source, number)
        for number, cell in enumerate(cells, 1)
        if cell.role == "given" or (cell.role == "check" and int(cell.name[:2]) <= last)
    ]


def ask(ws: Workspace, last: int) -> Outcome:
    """Ask modules 1 to `last` of the learner's package; the first wrong answer ends it."""
    return _ask(ws.root, last)


def _ask(root: Path, last: int) -> Outcome:
    return sandbox.run(steps(last), environment=environment(root, last), cwd=root)


def guilty(outcome: Outcome) -> str:
    """The id of the module whose probe failed, or nothing."""
    failed = outcome.failures[0].step if outcome.failures else None
    return failed.name.partition(".")[0] if failed and failed.role == "check" else ""


def blame(ws: Workspace, milestone: Milestone, outcome: Outcome) -> Blame:
    """What the failed probe found, and the known mistake that gives exactly the same."""
    failure = outcome.failures[0]
    probably = [("probably", text) for text in _diagnosis(ws, milestone, failure)]
    where, rows = f"probe {failure.step.name}", [*failure.rows, *probably]
    return Blame(where, said(failure), rows, guilty(outcome))


def said(failure: Failure) -> str:
    """A failure in one sentence."""
    return failure.what if failure.kind == "check" else f"it stopped with {failure.what}"


# Known mistakes ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Knockout:
    """A way to break the framework that a milestone must notice.

    `code` is appended to the exported file of `module`; `caught` is the probe, or the finding of
    the gate, that notices it; `guilty` is the module that must be named.
    """

    name: str
    module: str
    guilty: str
    caught: str
    diagnosis: str
    code: str


def knockouts(milestone: Milestone) -> list[Knockout]:
    """The milestone's knockouts.toml."""
    file = milestone.folder / "knockouts.toml"
    table = tomllib.loads(file.read_text(encoding="utf-8")) if file.is_file() else {"knockout": []}
    return [Knockout(**row) for row in table["knockout"]]


def break_framework(root: Path, knockout: Knockout) -> None:
    """Append the knockout's code to the package of the workspace `root`."""
    file = root.joinpath("tinytorch", *knockout.module.split(".")).with_suffix(".py")
    with file.open("a", encoding="utf-8") as out:
        out.write(f"\n\n{knockout.code}")


def _diagnosis(ws: Workspace, milestone: Milestone, failure: Failure) -> Iterator[str]:
    """The diagnosis of the mistake that fails the same probe with the same numbers, if one does."""
    known = [k for k in knockouts(milestone) if k.caught == failure.step.name]
    for knockout in known:
        with tempfile.TemporaryDirectory(prefix="tito-") as folder:
            root = Path(folder).resolve()
            shutil.copytree(ws.package_dir, root / "tinytorch",
                            ignore=shutil.ignore_patterns("__pycache__"))  # fmt: skip
            shutil.copy(ws.root / MARKER, root)
            break_framework(root, knockout)
            again = _ask(root, milestone.needs[1]).failures
        if again and _signature(again[0]) == _signature(failure):
            yield knockout.diagnosis
            return


def _signature(failure: Failure) -> tuple[str, str, list[tuple[str, str]]]:
    """What equal mistakes share: the numbers, or an error's text (its lines lie elsewhere)."""
    return failure.step.name, failure.what, failure.rows if failure.kind == "check" else []
