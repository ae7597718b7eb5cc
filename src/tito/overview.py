"""Where the learner stands: every module's state, the exercises of one, and the next command."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tito import course
from tito.course import Module
from tito.workspace import Workspace, WorkspaceError

if TYPE_CHECKING:
    from tito.progress import Progress
    from tito.source import Cell

# started: its notebook is there; open: it may be started; locked: an earlier one is missing;
# planned: this release does not contain it.
STATES = ("completed", "started", "open", "locked", "planned")


class Standing(NamedTuple):
    """One module and how far the learner is in it; `earned` is in points."""

    module: Module
    state: str
    earned: int

    def as_dict(self) -> dict[str, Any]:
        m = self.module
        return {
            "id": m.id, "title": m.title, "tier": m.tier, "summary": m.summary,
            "state": self.state, "earned": self.earned, "points": m.points, "minutes": m.minutes,
        }


class Exercise(NamedTuple):
    """One exercise of a module as the files tell it, nothing run.

    `state`: passed (recorded by `complete`), written, empty (the hole as shipped) or gone.
    """

    number: int
    name: str
    state: str
    points: int
    hints_seen: int
    solution_shown: bool

    def as_dict(self) -> dict[str, Any]:
        return self._asdict()


def standings(progress: Progress) -> list[Standing]:
    """All modules in order."""
    rows, reachable = [], True
    for module in course.modules():
        record = progress.modules.get(module.id)
        if record and record["completed"]:
            state = "completed"
        elif not module.exists:
            state = "planned"
        elif record and record["started"]:
            state = "started"
        else:
            state = "open" if reachable else "locked"
        reachable = reachable and state == "completed"
        rows.append(Standing(module, state, record["points"] if record else 0))
    return rows


def current(progress: Progress) -> Module | None:
    """The first module started and not completed, else the first that may be started."""
    rows = standings(progress)
    for state in ("started", "open"):
        for row in rows:
            if row.state == state:
                return row.module
    return None


def next_command(progress: Progress) -> str:
    """What to do now."""
    module = current(progress)
    if module is None:
        passed = all(
            progress.milestones.get(one.id, {}).get("passed")
            for one in course.milestones()
            if one.exists
        )
        return "tito olympics rules" if passed else "tito milestone list"
    record = progress.modules.get(module.id)
    started = record is not None and record["started"] is not None
    return f"tito {'watch' if started else 'module start'} {module.number:02d}"


def next_for(standing: Standing, progress: Progress) -> str:
    """What to do about one module."""
    verb = {"started": "test", "open": "start"}.get(standing.state)
    return f"tito module {verb} {standing.module.number:02d}" if verb else next_command(progress)


def unlocked(module: Module, progress: Progress) -> list[course.Milestone]:
    """Milestones that the completion of `module` opened: the last one they needed."""
    done = {m.number for m in course.modules() if progress.is_completed(m.id)}
    opened = [m for m in course.milestones() if m.exists and m.needs[1] == module.number]
    return [m for m in opened if set(range(m.needs[0], m.needs[1] + 1)) <= done]


def exercises(ws: Workspace, module: Module, progress: Progress) -> list[Exercise]:
    """The exercises of a module in order."""
    record = progress.modules.get(module.id)
    states = _written(ws.notebook_path(module), record["passed"] if record else {})
    return [
        Exercise(
            number, name, states.get(name, "gone" if states else "empty"),
            worth, record["hints"].get(name, 0) if record else 0,
            bool(record and name in record["solutions_shown"]),
        )
        for number, (name, worth) in enumerate(outline(module).items(), 1)
    ]


def details(ws: Workspace, module: Module, progress: Progress) -> dict[str, Any]:
    """One module for programs: its record, its exercises, its files."""
    [standing] = [row for row in standings(progress) if row.module == module]
    record = progress.module(module.id)
    kept = ("started", "completed", "points", "attempts")
    return {
        "module": module.id, "state": standing.state, **{key: record[key] for key in kept},  # type: ignore[literal-required]
        "exercises": [row.as_dict() for row in exercises(ws, module, progress)],
        "notebook": str(ws.notebook_path(module)), "exported": str(ws.export_path(module.export)),
        "next": next_for(standing, progress),
    }


def outline(module: Module) -> dict[str, int]:
    """Exercise -> points, in order, from the cells' headers alone: a tenth of reading it all."""
    headers = re.findall(_HEADER, module.path.read_text(encoding="utf-8"), re.M)
    worth = {name: int(points or 0) for role, name, points in headers if role == "check"}
    return {name: worth.get(name, 0) for role, name, _ in headers if role == "exercise"}


_HEADER = r'^# %% .*?\b(exercise|check)="([^"]+)"(?:.*\bpoints=(\d+))?'


def _written(notebook: Path, passed: dict[str, bool]) -> dict[str, str]:
    """Exercise -> passed, written or empty, from the learner's notebook; {} without one."""
    if not notebook.is_file():
        return {}
    from tito import solutions

    return {
        c.name: "empty" if solutions.is_hole(c) else "passed" if passed.get(c.name) else "written"
        for c in _exercise_cells(notebook)
    }


def _exercise_cells(notebook: Path) -> list[Cell]:
    """The exercises of a notebook; of a Jupyter file no other cell is looked at, which is quick."""
    from tito import source

    if notebook.suffix == ".ipynb":
        with suppress(ValueError, TypeError, LookupError, AttributeError):  # read below, and told
            cells = json.loads(notebook.read_bytes())["cells"]
            kept = [cell for cell in cells if "exercise" in cell["metadata"]]
            return source.read_ipynb(json.dumps({"cells": kept})).cells
    return [cell for cell in source.read(notebook).cells if cell.role == "exercise"]


# Naming an exercise ------------------------------------------------------------------------------


def find_exercise(ws: Workspace, progress: Progress, asked: str) -> tuple[Module, str | None]:
    """What `5.8`, `autograd.topological_sort`, `Tensor.sum`, `sum` or `5` names.

    A name alone is looked up in the current module, then in the others that are started, the
    newest first. The exercise is None where only a module was named.
    Raises: CourseError or WorkspaceError with a suggestion.
    """
    now = current(progress)
    started = [m for m in reversed(course.modules()) if m.exists and ws.notebook_path(m).is_file()]
    near = [now] if now and now.exists else []
    found = _by_name([*near, *started], asked) or _by_ending(near, asked)
    if found or (found := _by_ending(started, asked)):
        return found
    head, _, rest = asked.partition(".")
    if now and now.exists and not is_module(head):
        return now, _exercise(now, asked)
    module = course.find_module(head)
    if not module.exists:
        raise absent(module)
    known = {name.lower(): name for name in names(module)}
    exact = not rest or rest.isdigit() or rest.lower() in known
    return module, _exercise(module, rest if exact else asked)


def _by_name(modules: list[Module], asked: str) -> tuple[Module, str] | None:
    every = ((module, name) for module in modules for name in names(module))
    return next(((m, name) for m, name in every if name.lower() == asked.lower()), None)


def _by_ending(modules: list[Module], asked: str) -> tuple[Module, str] | None:
    """The only exercise called `….sum`, when `sum` was asked for."""
    every = [(module, name) for module in modules for name in names(module)]
    found = [pair for pair in every if pair[1].lower().endswith(f".{asked.lower()}")]
    return found[0] if len(found) == 1 else None


def absent(module: Module) -> course.CourseError:
    """The error for a module that is planned and not written yet."""
    return course.CourseError(
        f"{module.id} is not part of this release of the course\nNext: tito module list"
    )


def is_module(text: str) -> bool:
    """Whether the text names a module."""
    try:
        course.find_module(text)
    except course.CourseError:
        return False
    return True


def names(module: Module) -> list[str]:
    """Names of the module's exercises, predictions included, in order."""
    return list(outline(module))


def _exercise(module: Module, asked: str) -> str | None:
    from tito import lesson

    return lesson.exercise_name(module, asked) if asked else None


def require_notebook(ws: Workspace, module: Module) -> Path:
    """The learner's notebook, readable or not. Raises WorkspaceError if it was never started."""
    path = ws.notebook_path(module)
    if not path.is_file():
        raise WorkspaceError(
            f"{module.id} has not been started: {ws.relative(path)} does not exist\n"
            f"Next: tito module start {module.number:02d}"
        )
    return path
