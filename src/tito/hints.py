"""Help in words: hint ladders, diagnoses of known mistakes, the symptom table of a module."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from tito import solutions, source
from tito.course import Module

RUNGS = 3


@dataclass(frozen=True)
class Knockout:
    """A wrong solution that learners write: what replaces the solution, and what it means."""

    exercise: str
    name: str
    code: str
    diagnosis: str
    equivalent: str = ""


@dataclass(frozen=True)
class Symptom:
    """A row of a module's "When it fails" table."""

    symptom: str
    cause: str
    look: str


@lru_cache(maxsize=32)
def _toml(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def ladder(module: Module) -> dict[str, list[str]]:
    """Exercise -> its hints, from a question that points the way to all but the code."""
    return {name: list(rungs) for name, rungs in _toml(module.folder / "hints.toml").items()}


def knockouts(module: Module) -> list[Knockout]:
    """The known mistakes of a module, in file order."""
    table = _toml(module.folder / "knockouts.toml")
    return [Knockout(exercise=name, **row) for name, rows in table.items() for row in rows]


def released(module: Module) -> source.Notebook:
    """The notebook as the learner first gets it: prose, holes and checks."""
    return _released(module.path, module.id)


@lru_cache(maxsize=32)
def _released(path: Path, module_id: str) -> source.Notebook:
    return solutions.strip(source.read(path), module_id)


def symptoms(module: Module) -> list[Symptom]:
    """The rows of the table under "When it fails"."""
    text = "\n".join(cell.source for cell in released(module).cells if cell.kind == "markdown")
    table = text.partition("## When it fails")[2]
    rows = [
        line.strip().strip("|").split("|") for line in table.splitlines() if line.startswith("|")
    ]
    return [Symptom(*(part.strip() for part in row)) for row in rows[2:] if len(row) == 3]


def symptom_for(module: Module, failure: str) -> Symptom | None:
    """The row whose `quoted` symptom occurs in the text of a failure."""
    for row in symptoms(module):
        if any(quoted in failure for quoted in re.findall(r"`([^`]+)`", row.symptom)):
            return row
    return None
