"""The learner's loop: start a module, check it, complete it, go back. Nothing here prints.

`test` never changes anything. `complete` checks, restores what was damaged in the notebook, exports
and records; every file is written in one step, and anything that is overwritten is kept as a
snapshot first, so that a kill at any moment leaves a workspace that works.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from tito import course, export, hints, sandbox, solutions, source
from tito.course import Module
from tito.progress import ModuleRecord, Progress, now
from tito.sandbox import Failure, Outcome, Step
from tito.source import Cell, Notebook, SourceError
from tito.workspace import Workspace, WorkspaceError, refresh

KEPT = ("given", "exercise", "check")


@dataclass
class Plan:
    """What to run, in order, and what was found on the way."""

    steps: list[Step]
    notices: list[str] = field(default_factory=list)
    repaired: Notebook | None = None
    failure: Failure | None = None


@dataclass
class Report:
    """What checking a module gave. `failure` is the first one in file order, or None."""

    module: Module
    passed: list[str]
    exercises: list[str]
    points: int
    total: int
    failure: Failure | None
    notices: list[str] = field(default_factory=list)
    output: str = ""
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        return self.failure is None

    @property
    def number(self) -> int:
        """Number of the exercise that failed, from 1; 0 when none did."""
        name = self.failure.step.name if self.failure else ""
        return self.exercises.index(name) + 1 if name in self.exercises else 0


# Starting and going back ------------------------------------------------------------------------


def require(progress: Progress, module: Module) -> None:
    """Every earlier module is completed. Raises WorkspaceError naming the first that is not."""
    if not module.exists:
        raise WorkspaceError(
            f"{module.id} is not part of this release of the course\nNext: tito module list"
        )
    for earlier in course.modules()[: module.number - 1]:
        if not progress.is_completed(earlier.id):
            raise WorkspaceError(
                f"{module.id} builds on {earlier.id}, which is not completed\n"
                f"Next: {progress.go_on(earlier.id)}"
            )


def start(ws: Workspace, module: Module) -> Path:
    """Write the module's notebook, unless it is there, and record the start; returns its path."""
    progress = Progress.load(ws)
    require(progress, module)
    path = ws.notebook_path(module)
    if not path.exists():
        ws.write(path, source.write(path, hints.released(module)))
    record = progress.module(module.id)
    if record["started"] is None:
        record["started"] = now()
        progress.save(ws)
    return path


def start_extra(ws: Workspace, module: Module) -> list[Path]:
    """Write the module's optional notebooks, those not there yet; returns their paths."""
    found = sorted((module.folder / "extra").glob("*.py"))
    if not found:
        raise WorkspaceError(
            f"{module.id} has no extra notebooks\nNext: tito module start {module.name}"
        )
    paths = []
    for file in found:
        path = ws.modules_dir / module.id / "extra" / f"{file.stem}.{ws.format}"
        if not path.exists():
            ws.write(path, source.write(path, solutions.strip(source.read(file), module.id)))
        paths.append(path)
    return paths


def notebook(ws: Workspace, module: Module) -> tuple[Path, Notebook]:
    """The learner's notebook. Raises WorkspaceError if the module has not been started."""
    if not module.exists:
        require(Progress.load(ws), module)
    path = ws.notebook_path(module)
    if not path.is_file():
        raise WorkspaceError(
            f"{module.id} has not been started: {path} does not exist\n"
            f"Next: tito module start {module.number:02d}"
        )
    try:
        return path, source.read(path)
    except SourceError as error:
        what, undo = str(error).partition("\nNext: ")[0], " --undo" * bool(ws.snapshots(path))
        reset = f"tito module reset {module.number:02d}{undo}"
        raise SourceError(what, f"save it again from your editor, or {reset}") from None


def reset(ws: Workspace, module: Module, exercise: str | None = None) -> Path:
    """The notebook (or one exercise of it) as shipped; what was there is kept as a snapshot."""
    path = ws.notebook_path(module)
    fresh = hints.released(module)
    if exercise is not None:
        name = cell_name(module, exercise)
        fresh = _with_cell(notebook(ws, module)[1], fresh, name)
    ws.replace(path, source.write(path, fresh), "reset")
    return path


def undo(ws: Workspace, module: Module) -> Path:
    """The notebook's newest snapshot back in place; what it replaces becomes a snapshot itself."""
    path = ws.notebook_path(module)
    if not ws.snapshots(path):
        raise WorkspaceError(
            f"{path.name} has no snapshot yet\nNext: tito module test {module.name}"
        )
    return ws.restore(path)


def _with_cell(mine: Notebook, fresh: Notebook, name: str) -> Notebook:
    """`mine` with one cell as in `fresh`: in its place, or put back where it belongs."""
    cell = next(c for c in fresh.cells if c.role in ("exercise", "given") and c.name == name)

    def is_it(other: Cell) -> bool:
        return (other.role, other.name) == (cell.role, cell.name)

    kept = [c for c in mine.cells if not is_it(c)]
    position = next((i for i, c in enumerate(mine.cells) if is_it(c)), None)
    if position is not None:
        return Notebook([*kept[:position], cell, *kept[position:]], mine.metadata)
    return Notebook(_inserted(kept, fresh, cell), mine.metadata)


def exercises(module: Module) -> list[str]:
    """Names of the module's exercises, predictions included, in order."""
    return [cell.name for cell in hints.released(module).cells if cell.role == "exercise"]


def cell_name(module: Module, asked: str) -> str:
    """The given cell of that name, or the exercise called so (see `exercise_name`)."""
    given = [cell.name for cell in hints.released(module).cells if cell.role == "given"]
    return asked if asked in given else exercise_name(module, asked)


def exercise_name(module: Module, asked: str) -> str:
    """The exercise called `3`, `05.3` or `Tensor.sum`. Raises WorkspaceError with a suggestion."""
    import difflib

    known = exercises(module)
    number = asked.rpartition(".")[2]
    if number.isdigit() and 1 <= int(number) <= len(known):
        return known[int(number) - 1]
    lowered = {name.lower(): name for name in known}
    endings = [
        name for name in known if name.lower().rpartition(".")[2].strip("_") == asked.lower()
    ]
    if asked.lower() in lowered or len(endings) == 1:
        return lowered.get(asked.lower()) or endings[0]
    close = difflib.get_close_matches(asked, known, n=1)
    hint = f": did you mean {close[0]}?" if close else f" (it has 1 to {len(known)})"
    raise WorkspaceError(
        f"{module.id} has no exercise {asked!r}{hint}\nNext: tito module status {module.name}"
    )


# Checking ---------------------------------------------------------------------------------------


def plan(module: Module, mine: Notebook) -> Plan:
    """The learner's cells with the course's checks: missing ones put back, edited ones undone."""
    fresh = hints.released(module)
    originals = {(c.role, c.name): c for c in fresh.cells if c.role in KEPT}
    notices: list[str] = []
    cells: list[Cell] = []
    first_seen: dict[tuple[str | None, str], int] = {}
    for number, cell in enumerate(mine.cells, 1):
        key = (cell.role, cell.name)
        if key not in originals:
            cells.append(cell)
        elif key in first_seen:
            if cell.role == "exercise":
                return Plan([], failure=_twice(cell, first_seen[key], number))
            notices.append(f"{cell.role} {cell.name} stands twice: cell {number} was left out")
        else:
            first_seen[key] = number
            lost = _lost(cell, originals[key])
            if lost and export.is_exported(cell):
                return Plan([], failure=_maimed(module, cell, number, lost))
            cells.append(_settled(cell, originals[key], lost, notices))
    for key, cell in originals.items():
        if key not in first_seen:
            cells = _inserted(cells, fresh, cell)
            notices.append(f"the cell of {cell.role} {cell.name} is gone: the shipped one was used")
    repaired = Notebook(cells, mine.metadata)
    return Plan(_steps(repaired), notices, repaired if notices else None)


def _twice(cell: Cell, first: int, second: int) -> Failure:
    step = Step("exercise", cell.name, cell.source, second)
    return Failure(
        step,
        "notebook",
        f"the exercise stands twice, in cells {first} and {second}",
        [("do", "delete the one you do not want; both are your code, so tito will not")],
    )


def _lost(cell: Cell, original: Cell) -> list[str]:
    """What a given cell no longer defines after the learner's edits."""
    if cell.role != "given" or cell.source.strip() == original.source.strip():
        return []
    try:
        found = set(export.defined_names(cell))
    except source.SourceError:
        return []  # running the cell says what is wrong with it
    return [name for name in export.defined_names(original) if name not in found]


def _maimed(module: Module, cell: Cell, number: int, lost: list[str]) -> Failure:
    what = f"the given cell {cell.name} is not as shipped: it lacks {', '.join(lost)}"
    do = f"put it back as shipped: tito module reset {module.number:02d} --exercise {cell.name}"
    return Failure(Step("given", cell.name, cell.source, number), "notebook", what, [("do", do)])


def _settled(cell: Cell, original: Cell, lost: list[str], notices: list[str]) -> Cell:
    """A check cell, or one that lost what it defined, as shipped; others as the learner left it."""
    if lost:
        notices.append(f"given {cell.name} lacks {', '.join(lost)}: the shipped one was run")
        return original
    if cell.role != "check" or cell.source.strip() == original.source.strip():
        return cell
    notices.append(f"check {cell.name} was edited: the original was run")
    return source.with_source(cell, original.source)


def _inserted(cells: list[Cell], fresh: Notebook, cell: Cell) -> list[Cell]:
    """`cells` with a missing one put back behind the nearest that comes before it as shipped."""
    order = [(c.role, c.name) if c.role else ("", c.source) for c in fresh.cells]
    mine = [(c.role, c.name) if c.role else ("", c.source) for c in cells]
    for key in reversed(order[: order.index((cell.role or "", cell.name))]):
        if key in mine:
            place = mine.index(key) + 1
            return [*cells[:place], cell, *cells[place:]]
    return [cell, *cells]


def _steps(nb: Notebook) -> list[Step]:
    steps = []
    for number, cell in enumerate(nb.cells, 1):
        role = cell.role or ("own" if cell.kind == "code" else "text")
        if cell.kind == "code" and role in (*KEPT, "own") and cell.source.strip():
            steps.append(Step(role, cell.name, cell.source, number, line=cell.line))
    return steps


def mistakes(module: Module) -> dict[str, list[Step]]:
    """The known wrong answers of each exercise, as cells to run in the learner's place."""
    cells = {c.name: c for c in hints.released(module).cells if c.role == "exercise"}
    found: dict[str, list[Step]] = {}
    for wrong in hints.knockouts(module):
        if wrong.exercise not in cells:
            continue  # `tito dev check` reports it
        text = solutions.fill(cells[wrong.exercise], wrong.code).source
        step = Step("exercise", wrong.exercise, text, 0, wrong.diagnosis)
        found.setdefault(wrong.exercise, []).append(step)
    return found


def points(module: Module) -> dict[str, int]:
    """Exercise -> points of its check."""
    cells = hints.released(module).cells
    return {c.name: int(c.metadata.get("points", 0)) for c in cells if c.role == "check"}


def environment(ws: Workspace, module: Module) -> dict[str, str]:
    """What makes the child see the learner's package up to, not including, this module."""
    return {"TINYTORCH": str(ws.root), "TINYTORCH_UPTO": f"{module.number:02d}"}


def test(
    ws: Workspace, module: Module, timeout: float = sandbox.TIMEOUT, only: str | None = None
) -> Report:
    """Check the learner's notebook, or one exercise of it alone; nothing is changed."""
    made = plan(module, notebook(ws, module)[1])
    if only is not None:
        made.steps = [s for s in made.steps if s.role != "check" or s.name == only]
    return _check(ws, module, made, timeout)


def _check(ws: Workspace, module: Module, made: Plan, timeout: float) -> Report:
    if made.failure:
        return _report(module, Outcome(failures=[made.failure]), made.notices)
    outcome = sandbox.run(
        made.steps,
        knockouts=mistakes(module),
        timeout=timeout,
        environment=environment(ws, module),
        cwd=ws.notebook_path(module).parent,
    )
    return _report(module, outcome, made.notices)


def _report(module: Module, outcome: Outcome, notices: list[str]) -> Report:
    worth = points(module)
    passed = [step.name for step in outcome.passed if step.role == "check"]
    failure = outcome.failures[0] if outcome.failures else None
    return Report(
        module,
        passed,
        exercises(module),
        sum(worth[name] for name in passed),
        sum(worth.values()),
        failure,
        notices + (outcome.notes if failure else []),
        outcome.output,
        sum(outcome.seconds.values()),
    )


# Completing -------------------------------------------------------------------------------------


def complete(ws: Workspace, module: Module, timeout: float = sandbox.TIMEOUT) -> Report:
    """Check; if all passes, restore damaged cells, export to the learner's package, record."""
    progress = Progress.load(ws)
    require(progress, module)
    path, mine = notebook(ws, module)
    made = plan(module, mine)
    report = _check(ws, module, made, timeout)
    record = progress.module(module.id)
    record["attempts"] += 1
    for name in report.passed:
        record["passed"][name] = True
    if report.ok:
        checked = made.repaired or mine
        where = path.relative_to(ws.root).as_posix()
        text = f"# Exported from {where} by tito: change it there.\n{export.export(checked)}"
        report.failure = check_export(ws, module, checked, text, timeout)
        if report.ok:
            report.notices += _publish(ws, module, path, made, text, record)
            record["started"] = record["started"] or now()
            record["completed"] = record["completed"] or now()
            record["points"] = report.points
    progress.save(ws)
    return report


def check_export(
    ws: Workspace, module: Module, nb: Notebook, text: str, timeout: float
) -> Failure | None:
    """The checks once more, on the exported file instead of the notebook's cells."""
    steps = [Step("given", f"tinytorch/{module.export.replace('.', '/')}.py", text, 0)]
    steps += [s for s, c in _with_cells(nb) if s.role in KEPT and not export.is_exported(c)]
    outcome = sandbox.run(steps, environment=environment(ws, module), timeout=timeout)
    if outcome.ok:
        return None
    failure = outcome.failures[0]
    failure.rows.append(
        (
            "note",
            "this passes in the notebook but not in the exported file: "
            "is something defined in a cell without `#| export`?",
        )
    )
    return failure


def _with_cells(nb: Notebook) -> list[tuple[Step, Cell]]:
    return [(step, nb.cells[step.cell - 1]) for step in _steps(nb)]


def _publish(
    ws: Workspace, module: Module, path: Path, made: Plan, text: str, record: ModuleRecord
) -> list[str]:
    """Write the repaired notebook and the exported file; what the learner should know of it."""
    notices, file = [], ws.export_path(module.export)
    if made.repaired and ws.replace(path, source.write(path, made.repaired), "repair"):
        notices.append(f"{path.name} was repaired on disk: reload it if it is open")
    by_hand = file.is_file() and record["exported"] not in ("", _digest(file.read_bytes()))
    if ws.replace(file, text, "complete") and by_hand:
        notices.append(f"{file.name} had been changed by hand: that version is in the snapshots")
    record["exported"] = _digest(text.encode())
    refresh(ws)
    return notices


def _digest(content: bytes) -> str:
    import hashlib

    return hashlib.sha256(content).hexdigest()


# Help -------------------------------------------------------------------------------------------


def hint(ws: Workspace, module: Module, exercise: str) -> tuple[int, str]:
    """The next rung of the exercise's ladder (the last one again and again), and its number."""
    progress = Progress.load(ws)
    record = progress.module(module.id)
    rungs = hints.ladder(module)[exercise]
    rung = min(record["hints"].get(exercise, 0) + 1, len(rungs))
    record["hints"][exercise] = rung
    progress.save(ws)
    return rung, rungs[rung - 1]


def solution(ws: Workspace, module: Module, exercise: str, insist: bool) -> tuple[str, bool]:
    """The course's solution, and whether the learner's own passes. Raises WorkspaceError if it does
    not pass and the learner does not insist; insisting is recorded."""
    progress = Progress.load(ws)
    record: ModuleRecord = progress.module(module.id)
    passes = bool(record["passed"].get(exercise)) or exercise in test(ws, module).passed
    if not passes and not insist:
        raise WorkspaceError(
            f"{exercise} does not pass yet, so its solution stays closed\n"
            f"Next: tito hint {module.number:02d}.{exercises(module).index(exercise) + 1}"
            "   (or repeat with --insist; that is recorded)"
        )
    if not passes and exercise not in record["solutions_shown"]:
        record["solutions_shown"].append(exercise)
        progress.save(ws)
    cells = source.read(module.path).cells
    cell = next(c for c in cells if c.role == "exercise" and c.name == exercise)
    return solutions.solution(cell), passes
