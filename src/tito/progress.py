"""What the learner has done: `.tinytorch/progress.json`, which survives damage and interruption."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, TypedDict

from tito.workspace import WorkspaceError

if TYPE_CHECKING:
    from tito.workspace import Workspace

SCHEMA = 1


class ModuleRecord(TypedDict):
    """One module: times are ISO 8601 in UTC; `hints` maps an exercise to the last rung shown;
    `exported` is the sha256 of the file that was last written to the learner's package."""

    started: str | None
    completed: str | None
    points: int
    attempts: int
    hints: dict[str, int]
    solutions_shown: list[str]
    passed: dict[str, bool]
    exported: str


_KINDS: dict[str, type | UnionType] = {
    "started": str | None,
    "completed": str | None,
    "points": int,
    "attempts": int,
    "hints": dict,
    "solutions_shown": list,
    "passed": dict,
    "exported": str,
}


def now() -> str:
    """The time as it is recorded: 2026-01-31T12:00:00Z."""
    return _iso(datetime.now(UTC))


def _iso(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass
class Progress:
    """Records by module id, milestone id and checkpoint number (as text).

    `notes` are sentences the caller should show: that the file was damaged and what became of it.
    `extra` keeps what this release does not know.
    """

    modules: dict[str, ModuleRecord] = field(default_factory=dict)
    milestones: dict[str, dict[str, Any]] = field(default_factory=dict)
    checkpoints: dict[str, dict[str, Any]] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def module(self, id: str) -> ModuleRecord:
        """The record of a module; a new one begins empty."""
        return self.modules.setdefault(id, _record({}))

    def is_completed(self, id: str) -> bool:
        return id in self.modules and self.modules[id]["completed"] is not None

    def go_on(self, id: str) -> str:
        """The command that goes on with a module: watch it once it is started."""
        started = id in self.modules and self.modules[id]["started"] is not None
        return f"tito {'watch' if started else 'module start'} {id[:2]}"

    @classmethod
    def load(cls, ws: Workspace) -> Progress:
        """Read the file. A damaged one is kept aside, and the records rebuilt from the workspace.

        Raises: WorkspaceError for a file that a later release wrote.
        """
        path = file(ws)
        try:
            return cls._parse(json.loads(path.read_text(encoding="utf-8")), path)
        except FileNotFoundError:
            return rebuild(ws)
        except (ValueError, TypeError, KeyError) as error:
            return _recover(ws, path, error)

    @classmethod
    def _parse(cls, data: Any, path: Path) -> Progress:
        if not isinstance(data, dict):
            raise TypeError("it does not hold an object")
        if isinstance(schema := data.pop("schema", None), int) and schema > SCHEMA:
            raise WorkspaceError(
                f"{path}: schema {schema}, written by a later tito\n"
                "Next: git pull in the clone of the course, then make start"
            )
        parts = {part: data.pop(part, {}) for part in ("modules", "milestones", "checkpoints")}
        for part, table in parts.items():
            if not isinstance(table, dict) or not all(isinstance(r, dict) for r in table.values()):
                raise TypeError(f"{part} does not hold records")
        parts["modules"] = {id: _record(record) for id, record in parts["modules"].items()}
        return cls(**parts, extra=data)

    def save(self, ws: Workspace) -> None:
        """Write the file in one step; the same records give the same bytes."""
        parts = {"schema": SCHEMA, "modules": self.modules, "milestones": self.milestones}
        data = {**self.extra, **parts, "checkpoints": self.checkpoints}
        ws.write(file(ws), json.dumps(data, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


def file(ws: Workspace) -> Path:
    """Where the records are."""
    return ws.state_dir / "progress.json"


def _record(data: dict[str, Any]) -> ModuleRecord:
    """A whole record from what was stored; TypeError when a field has the wrong type."""
    for key, kind in _KINDS.items():
        if key in data and not isinstance(data[key], kind):
            raise TypeError(f"{key} is {data[key]!r}")
    empty: ModuleRecord = {
        "started": None,
        "completed": None,
        "points": 0,
        "attempts": 0,
        "hints": {},
        "solutions_shown": [],
        "passed": {},
        "exported": "",
    }
    return {**empty, **data}  # type: ignore[typeddict-item]


def rebuild(ws: Workspace) -> Progress:
    """What the files prove: a notebook means started; an exported module, completed with points."""
    from tito import course

    progress = Progress()
    for module in course.modules():
        notebook, exported = ws.notebook_path(module), ws.export_path(module.export)
        if notebook.is_file():
            progress.module(module.id)["started"] = _modified(notebook)
        if exported.is_file():
            record = progress.module(module.id)
            record["completed"], record["points"] = _modified(exported), module.points
    return progress


def _modified(path: Path) -> str:
    return _iso(datetime.fromtimestamp(path.stat().st_mtime, UTC))


def _recover(ws: Workspace, path: Path, error: Exception) -> Progress:
    number = 1 + sum(1 for _ in path.parent.glob(f"{path.name}.damaged-*"))
    aside = path.with_name(f"{path.name}.damaged-{number}")
    progress = rebuild(ws)
    path.rename(aside)
    progress.save(ws)
    done = sum(1 for record in progress.modules.values() if record["completed"])
    progress.notes.append(
        f"{ws.relative(path)} was damaged ({error}); it is kept as {aside.name}, and {done} "
        "completed modules were found again from the files. Attempts, hints and milestones "
        "start anew."
    )
    return progress
