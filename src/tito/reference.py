"""The reference: course sources loaded in place as `tinytorch`, and what the door needs to know
of the course (which module builds what, and which modules are hidden while one is checked).

Lines outside the export cells are blanked before compiling, so that tracebacks, debuggers and
coverage name the real line of the course source.
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterable
from functools import cached_property, lru_cache
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import CodeType, ModuleType
from typing import TYPE_CHECKING, Any

from tito import course
from tito.origin import exported_names, shorten

if TYPE_CHECKING:
    from tinytorch import Origin

PREFIX = "tinytorch."


@lru_cache(maxsize=4)
def table(folder: Path) -> dict[str, Any]:
    """The course.toml of `folder`: a clone's need not be the one tito was installed with."""
    return tomllib.loads((folder / "course.toml").read_text(encoding="utf-8"))


def sources(folder: Path) -> dict[str, Path]:
    """Export name -> course source, in the course's order, written or not."""
    ids = {row["export"]: row["id"] for row in table(folder)["module"]}
    return {dotted: folder / "modules" / id / f"{id[3:]}.py" for dotted, id in ids.items()}


class Course:
    """The finder of the reference: `tinytorch.<export>` and the facades, from the course's files.

    `folder` is the course, `upto` hides the modules from that number on.
    """

    def __init__(self, origin: Origin, upto: str | None = None) -> None:
        self.origin, self.hidden = origin, hidden(upto, origin.root)
        files = sources(origin.root)
        self.sources = {d: p for d, p in files.items() if p.is_file() and d not in self.hidden}
        self._exported: dict[str, list[str]] = {}
        self._owner: dict[str, str] = {}

    @cached_property
    def facades(self) -> dict[str, list[str]]:
        """Package -> its built modules in order. A package no facade names re-exports nothing."""
        listed = table(self.origin.root)["facades"]
        parents = [d.rpartition(".")[0] for d in self.sources if "." in d]
        packages = {parent: listed.get(parent, []) for parent in [*listed, *parents]}
        built = {p: [d for d in parts if d in self.sources] for p, parts in packages.items()}
        return {p: parts for p, parts in built.items() if parts or p in parents}

    def has(self, dotted: str) -> bool:
        return dotted in self.sources or dotted in self.facades

    def exported(self, dotted: str) -> list[str]:
        """Public names the module exports, without running it."""
        if dotted not in self._exported:
            from tito import export, source

            self._exported[dotted] = export.exported_names(source.read(self.sources[dotted]))
        return self._exported[dotted]

    def owner(self, name: str) -> str | None:
        """The module that exports `name`, the later of two; a miss looks again."""
        if name in self._owner:
            return self._owner[name]
        defines = re.compile(rf"^(?:def|class) +{name}\b|^(?:\w+, *)*{name} *[:=,]", re.M)
        for dotted in reversed(self.sources):
            text = self.sources[dotted].read_text(encoding="utf-8")
            if defines.search(text) and name in self.exported(dotted):
                self._owner[name] = dotted
                return dotted
        return None

    def owners(self) -> dict[str, str]:
        """Exported name -> dotted module (the later of two)."""
        return {name: dotted for dotted in self.sources for name in self.exported(dotted)}

    def explain(self, dotted: str) -> ImportError | None:
        return explain(dotted, self.origin, self.hidden)

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> Any:
        if not fullname.startswith(PREFIX):
            return None
        dotted = fullname.removeprefix(PREFIX)
        if dotted in self.sources:
            return _spec(dotted, _Source(self.sources[dotted]))
        if dotted in self.facades:
            return _facade(dotted, {part: self.exported(part) for part in self.facades[dotted]})
        if error := self.explain(dotted):
            raise error
        return None


class _Loader:
    """What Python asks of a loader: runs `code` in the module, shows `text` in tracebacks."""

    filename: str
    text: str
    package = False

    def code(self) -> CodeType:
        raise NotImplementedError

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        exec(self.code(), module.__dict__)

    def get_code(self, fullname: str) -> CodeType:
        return self.code()

    def get_source(self, fullname: str) -> str:
        return self.text

    def get_filename(self, fullname: str) -> str:
        return self.filename

    def is_package(self, fullname: str) -> bool:
        return self.package


class _Source(_Loader):
    """A course source, compiled where it stands."""

    def __init__(self, path: Path) -> None:
        self.path, self.filename = path, str(path)

    @cached_property
    def text(self) -> str:  # type: ignore[override]
        return self.path.read_text(encoding="utf-8")

    def code(self) -> CodeType:
        return compile_source(self.path, self.text)


class _Facade(_Loader):
    """A package that re-exports; its text exists only in memory."""

    package = True

    def __init__(self, name: str, text: str) -> None:
        self.filename, self.text = f"<{name}: re-exports of the course>", text

    def code(self) -> CodeType:
        return compile(self.text, self.filename, "exec", dont_inherit=True)


def _spec(dotted: str, loader: _Loader) -> ModuleSpec:
    name, package = PREFIX + dotted, loader.package
    spec = ModuleSpec(name, loader, origin=loader.filename, is_package=package)  # type: ignore[arg-type]
    spec.has_location = not package
    return spec


def _facade(dotted: str, names: dict[str, list[str]]) -> ModuleSpec:
    from tito import export

    text = export.facade(names) if names else ""
    return _spec(dotted, _Facade(PREFIX + dotted, text))


def compile_source(path: Path, text: str | None = None) -> CodeType:
    """The code of a course source's export cells, with the line numbers of the file."""
    from tito import export

    text = path.read_text(encoding="utf-8") if text is None else text
    tree = ast.parse(blank(text), filename=str(path))
    return compile(export.fold(tree), str(path), "exec", dont_inherit=True)


def blank(text: str) -> str:
    """The source with every line outside its export cells made empty: same lines, same numbers."""
    from tito import export, source

    lines = text.split("\n")
    kept = [""] * len(lines)
    for cell in filter(export.is_exported, source.read_percent(text).cells):
        cell_lines = slice(cell.line - 1, cell.line + cell.source.count("\n"))
        kept[cell_lines] = lines[cell_lines]
    return "\n".join(kept)


def hidden(upto: str | None, folder: Path | None = None) -> frozenset[str]:
    """Exports of module `upto` and later ones: out of sight while module `upto` is checked."""
    rows = table(folder or course.course_dir())["module"]
    return frozenset(row["export"] for row in rows if upto and int(row["id"][:2]) >= int(upto))


def partial_facade(dotted: str, origin: Origin, out_of_sight: Iterable[str]) -> ModuleSpec | None:
    """The learner's re-exporting package without its hidden modules; None for one of their own.

    Raises: ModuleNotFoundError when nothing is left of it.
    """
    if dotted not in course.facades():
        return None
    package, names = origin.root / "tinytorch", {}
    for part in course.facades()[dotted]:
        file = package.joinpath(*part.split(".")).with_suffix(".py")
        if part not in out_of_sight and file.is_file():
            names[part] = exported_names(file)
    if not names and (error := explain(dotted, origin, out_of_sight)):
        raise error
    spec = _facade(dotted, names)
    spec.submodule_search_locations = [str(package.joinpath(*dotted.split(".")))]
    return spec


def explain(dotted: str, origin: Origin, out_of_sight: Iterable[str]) -> ImportError | None:
    """The error to raise for a module or a name of the course that is not there; None if unknown.

    `dotted` is what was asked for below `tinytorch`: `core.autograd`, `nn`, `Conv2d`, `nn.Conv2d`.
    """
    first = course.facades().get(dotted, [])[:1]
    if owner := course.export_owner(dotted) or (course.export_owner(first[0]) if first else None):
        return ModuleNotFoundError(_missing(PREFIX + dotted, owner, origin, out_of_sight))
    package, _, name = dotted.rpartition(".")
    owner = None if package and package not in course.facades() else course.name_owner(name)
    if owner is None:
        return None
    if package and owner.export not in course.facades()[package]:
        return ImportError(f"{PREFIX}{dotted}: {name} belongs to {PREFIX}{owner.export}\n"
                           f"Next: from tinytorch import {name}")  # fmt: skip
    return ImportError(_missing(PREFIX + dotted, owner, origin, out_of_sight))


def _missing(what: str, owner: course.Module, origin: Origin, out_of_sight: Iterable[str]) -> str:
    """Two lines: which module builds `what` and why it is not there, and the next command."""
    where, number = shorten(origin.root), f"{owner.number:02d}"
    if owner.export in out_of_sight:
        return (f"{what}: built by module {owner.id}, hidden while an earlier module is checked\n"
                f"Next: use only what the modules before it export")  # fmt: skip
    if origin.kind == "reference":
        return (f"{what}: built by module {owner.id}, which {where} does not contain\n"
                "Next: tito module list")  # fmt: skip
    built = origin.root.joinpath("tinytorch", *owner.export.split(".")).with_suffix(".py")
    if built.is_file():
        return (f"{what}: module {owner.id} is completed, but {shorten(built)} "
                f"does not export it\nNext: tito module complete {number}")  # fmt: skip
    package = origin.root / "tinytorch"
    first = next(
        (m for m in course.modules()
         if not package.joinpath(*m.export.split(".")).with_suffix(".py").is_file()), owner
    )  # fmt: skip
    verb = "complete" if (origin.root / "modules" / first.id).is_dir() else "start"
    return (f"{what}: built by module {owner.id}, not completed in {where}\n"
            f"Next: tito module {verb} {first.number:02d}")  # fmt: skip
