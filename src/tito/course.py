"""The course as data: which modules and milestones there are, in what order, and where."""

from __future__ import annotations

import os
import re
import tomllib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any


class CourseError(LookupError):
    """A name that the course does not know. Two lines: what, then `Next:`."""


@dataclass(frozen=True)
class Module:
    """One of the twenty modules; `path` is its percent source, present once it is written."""

    id: str
    title: str
    export: str
    tier: str
    points: int
    minutes: int
    summary: str
    lines: int = 400  # of exported code, at most

    @property
    def number(self) -> int:
        return int(self.id[:2])

    @property
    def name(self) -> str:
        return self.id[3:]

    @property
    def folder(self) -> Path:
        return course_dir() / "modules" / self.id

    @property
    def path(self) -> Path:
        return self.folder / f"{self.name}.py"

    @property
    def exists(self) -> bool:
        """Whether this release of the course contains the module."""
        return self.path.is_file()


@dataclass(frozen=True)
class Milestone:
    """One of the six milestones; `needs` are the first and last module numbers it is built on."""

    id: str
    title: str
    summary: str
    needs: tuple[int, int]

    @property
    def year(self) -> str:
        return self.id[:4]

    @property
    def folder(self) -> Path:
        return course_dir() / "milestones" / self.id

    @property
    def exists(self) -> bool:
        return (self.folder / "run.py").is_file()


def course_dir() -> Path:
    """Folder of the course: $TITO_COURSE, else the wheel's copy, else the clone's `course/`."""
    if named := os.environ.get("TITO_COURSE"):
        return Path(named)
    return _own_course()


@lru_cache(maxsize=1)
def _own_course() -> Path:
    package = Path(__file__).resolve().parent
    carried = package / "_course"
    return carried if carried.is_dir() else package.parents[1] / "course"


def _table() -> dict[str, Any]:
    return _read_table(course_dir() / "course.toml")


@lru_cache(maxsize=4)
def _read_table(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return tomllib.load(file)


def version() -> str:
    """Version of the course's content."""
    return str(_table()["version"])


def tiers() -> dict[str, str]:
    """Tier id -> title, in order."""
    return {name: tier["title"] for name, tier in _table()["tiers"].items()}


def _tier_of(number: int) -> str:
    for name, tier in _table()["tiers"].items():
        first, last = tier["modules"]
        if first <= number <= last:
            return str(name)
    raise CourseError(f"module {number} belongs to no tier\nNext: mend [tiers] in course.toml")


@lru_cache(maxsize=4)
def _modules(folder: Path) -> tuple[Module, ...]:
    rows = _read_table(folder / "course.toml")["module"]
    return tuple(Module(tier=_tier_of(int(row["id"][:2])), **row) for row in rows)


def modules() -> list[Module]:
    """All modules of the curriculum in order, written or not."""
    return list(_modules(course_dir()))


def milestones() -> list[Milestone]:
    """All milestones in order, written or not."""
    rows = _table()["milestone"]
    return [
        Milestone(
            needs=(row["needs"][0], row["needs"][1]),
            **{k: v for k, v in row.items() if k != "needs"},
        )
        for row in rows
    ]


def facades() -> dict[str, list[str]]:
    """Package that re-exports -> dotted export names, in order: `nn` -> core.activations, …"""
    return {name: list(parts) for name, parts in _table()["facades"].items()}


def find_module(name: str | int) -> Module:
    """The module called `5`, `05`, `autograd` or `05_autograd`. Raises CourseError otherwise."""
    text = str(name).strip().lower()
    for module in modules():
        if text in (module.id, module.name, f"{module.number:02d}", str(module.number)):
            return module
    raise _unknown("module", text, [m.id for m in modules()] + [m.name for m in modules()])


def find_milestone(name: str | int) -> Milestone:
    """The milestone called `1958`, `perceptron`, `1` or `1958_perceptron`."""
    text = str(name).strip().lower()
    for position, milestone in enumerate(milestones(), 1):
        if text in (milestone.id, milestone.year, milestone.id[5:], str(position)):
            return milestone
    raise _unknown("milestone", text, [m.id for m in milestones()])


def _unknown(kind: str, text: str, known: list[str]) -> CourseError:
    import difflib

    close = difflib.get_close_matches(text, known, n=1)
    hint = f": did you mean {close[0]}?" if close else ""
    return CourseError(f"there is no {kind} {text!r}{hint}\nNext: tito {kind} list")


def export_owner(dotted: str) -> Module | None:
    """The module that builds `core.tensor`, or None."""
    return next((module for module in modules() if module.export == dotted), None)


_METHOD = re.compile(r"^@method_of\(.*\)\n(?:@.*\n)*def ", re.M)
_DEFINITION = re.compile(r"^(?:class|def) ([A-Za-z]\w*)|^([A-Za-z]\w*) *(?::[^=]+)?= ", re.M)


def name_owner(name: str) -> Module | None:
    """The module whose exported cells define the public name `name`, or None."""
    return next((module for module in modules() if name in _names(module.path)), None)


@lru_cache(maxsize=64)
def _names(path: Path) -> frozenset[str]:
    if not path.is_file():
        return frozenset()
    cells = path.read_text(encoding="utf-8").split("\n# %%")
    exported = "\n".join(cell for cell in cells if "\n#| export" in cell)
    return frozenset(a or b for a, b in _DEFINITION.findall(_METHOD.sub("", exported)))
