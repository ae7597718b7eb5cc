"""The sixteen checkpoints: capabilities, each answered by running code the learner did not see.

A checkpoint is a percent file of check cells, run on the learner's package in the sandbox. Testing
one records the outcome in progress.json, and changes nothing else. Nothing here prints.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from tito import course, probes, sandbox, source
from tito.course import CourseError
from tito.probes import Blame
from tito.progress import Progress, now
from tito.sandbox import Failure, Outcome, Step
from tito.workspace import Workspace, WorkspaceError

TIMEOUT = 120.0


@dataclass(frozen=True)
class Checkpoint:
    """One capability; `needs` is the last module it is built on, 0 for none."""

    id: str
    title: str
    question: str
    needs: int

    @property
    def number(self) -> int:
        return int(self.id[:2])

    @property
    def path(self) -> Path:
        return course.course_dir() / "checkpoints" / f"{self.id}.py"

    @property
    def exists(self) -> bool:
        return self.path.is_file()


@dataclass(frozen=True)
class Standing:
    """One checkpoint: passed, open, locked or planned; `note` says when, or what is missing."""

    checkpoint: Checkpoint
    state: str
    note: str

    def as_dict(self) -> dict[str, Any]:
        c = self.checkpoint
        return {"number": c.number, "id": c.id, "title": c.title, "question": c.question,
                "needs": c.needs, "state": self.state, "note": self.note}  # fmt: skip


@dataclass
class Result:
    """What testing a checkpoint gave: its questions in order, those passed, the first failure."""

    checkpoint: Checkpoint
    questions: list[str]
    passed: list[str]
    failure: Failure | None
    blame: Blame | None

    @property
    def ok(self) -> bool:
        return self.failure is None

    def as_dict(self) -> dict[str, Any]:
        return {"checkpoint": self.checkpoint.number, "id": self.checkpoint.id, "ok": self.ok,
                "questions": self.questions, "passed": self.passed,
                "blame": self.blame and vars(self.blame)}  # fmt: skip


@lru_cache(maxsize=4)
def _rows(path: Path) -> tuple[Checkpoint, ...]:
    with path.open("rb") as file:
        return tuple(Checkpoint(**row) for row in tomllib.load(file)["checkpoint"])


def checkpoints() -> list[Checkpoint]:
    """All checkpoints in order, written or not."""
    return list(_rows(course.course_dir() / "course.toml"))


def find(name: str | int) -> Checkpoint:
    """The checkpoint called `5`, `05`, `gradients` or `05_gradients`; CourseError otherwise."""
    text = str(name).strip().lower()
    for checkpoint in checkpoints():
        if text in (checkpoint.id, checkpoint.id[3:], checkpoint.id[:2], str(checkpoint.number)):
            return checkpoint
    raise CourseError(
        f"there is no checkpoint {text!r}: they are 0 to 15\nNext: tito checkpoint status"
    )


def standings(progress: Progress) -> list[Standing]:
    """All checkpoints in order."""
    return [standing(checkpoint, progress) for checkpoint in checkpoints()]


def standing(checkpoint: Checkpoint, progress: Progress) -> Standing:
    """One checkpoint's state."""
    record = progress.checkpoints.get(str(checkpoint.number), {})
    missing = [m for m in course.modules()[: checkpoint.needs] if not progress.is_completed(m.id)]
    if not checkpoint.exists:
        last = course.modules()[checkpoint.needs - 1]
        return Standing(checkpoint, "planned", f"comes with {last.id}")
    if missing:
        return Standing(checkpoint, "locked", f"needs {missing[-1].id}")
    if record.get("passed"):
        return Standing(checkpoint, "passed", str(record["passed"])[:10])
    return Standing(checkpoint, "open", checkpoint.question)


def require(progress: Progress, checkpoint: Checkpoint) -> None:
    """Raises WorkspaceError unless the checkpoint is written and its modules are completed."""
    found = standing(checkpoint, progress)
    name = f"checkpoint {checkpoint.number}"
    if found.state == "planned":
        raise WorkspaceError(f"{name} is not part of this release\nNext: tito checkpoint status")
    if found.state == "locked":
        missing = next(m for m in course.modules() if not progress.is_completed(m.id))
        raise WorkspaceError(
            f"{name} is built on modules up to {checkpoint.needs:02d}, and {missing.id} is not "
            f"completed\nNext: {progress.go_on(missing.id)}"
        )


def test(ws: Workspace, checkpoint: Checkpoint) -> Result:
    """Ask the checkpoint's questions, and record the outcome in progress.json."""
    progress = Progress.load(ws)
    require(progress, checkpoint)
    result = ask(ws, checkpoint)
    record = progress.checkpoints.setdefault(
        str(checkpoint.number), {"passed": None, "attempts": 0}
    )
    record["attempts"] = record.get("attempts", 0) + 1
    if result.ok:
        record["passed"] = record.get("passed") or now()
    progress.save(ws)
    return result


def ask(ws: Workspace, checkpoint: Checkpoint) -> Result:
    """Ask the checkpoint's questions; nothing is recorded."""
    cells = source.read(checkpoint.path).cells
    steps = [Step(c.role, c.name, c.source, n) for n, c in enumerate(cells, 1)
             if c.role in ("given", "check")]  # fmt: skip
    surroundings = probes.environment(ws.root, checkpoint.needs)
    outcome = sandbox.run(steps, environment=surroundings, cwd=ws.root, timeout=TIMEOUT)
    questions = [step.name for step in steps if step.role == "check"]
    passed = [step.name for step in outcome.passed if step.role == "check"]
    failure = outcome.failures[0] if outcome.failures else None
    return Result(checkpoint, questions, passed, failure, _blame(ws, checkpoint, outcome))


def _blame(ws: Workspace, checkpoint: Checkpoint, outcome: Outcome) -> Blame | None:
    """The first failure, and the module whose probe fails; without one, the checkpoint's last."""
    if outcome.ok:
        return None
    failure, guilty = outcome.failures[0], ""
    if checkpoint.needs:
        asked = probes.guilty(probes.ask(ws, checkpoint.needs))
        guilty = asked or course.modules()[checkpoint.needs - 1].id
    return Blame(failure.step.name.replace("_", " "), probes.said(failure), failure.rows, guilty)
