"""The door: `import tinytorch` opens the framework that belongs to where you stand.

`tinytorch.origin` says whose code that is. A workspace carries a copy of this file, so that it
needs nothing but the standard library, and works where tito is not installed.
"""

from __future__ import annotations

import ast
import os
import re
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

_MARKER = "tinytorch.toml"
_ALL = re.compile(r"^__all__[^=\n]*= *(\[.*?\]|\(.*?\))", re.MULTILINE | re.DOTALL)


class Origin:
    """Whose code is running: `kind` ("student" or "reference"), `root` (the workspace, or the
    course folder of the reference) and `why` (the rule that decided). Immutable."""

    __slots__ = ("kind", "root", "why")
    kind: str
    root: Path
    why: str

    def __init__(self, kind: str, root: Path, why: str) -> None:
        for name, value in (("kind", kind), ("root", root), ("why", why)):
            object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"tinytorch.origin.{name} states a fact: it cannot be set")

    def __reduce__(self) -> tuple[type[Origin], tuple[str, Path, str]]:
        return Origin, (self.kind, self.root, self.why)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Origin):
            return NotImplemented
        return (self.kind, self.root) == (other.kind, other.root)

    def __hash__(self) -> int:
        return hash((self.kind, self.root))

    def __str__(self) -> str:
        return f"{self.kind} ({shorten(self.root)})"

    def __repr__(self) -> str:
        return f"<{self}: {self.why}>"


def shorten(path: Path) -> str:
    """The path as people write it: below the home folder it begins with `~`."""
    home = os.path.expanduser("~")
    text = str(path)
    return "~" + text[len(home) :] if (text + os.sep).startswith(home + os.sep) else text


def decide() -> Origin:
    """Whose framework belongs here.

    In this order: `TINYTORCH`; the nearest tinytorch.toml above the running script, else above the
    current directory; the built package this file stands in (a learner's framework installed as a
    wheel has no workspace around it).

    Raises: ImportError that names where it looked and what to do.
    """
    if named := os.environ.get("TINYTORCH"):
        return _named(named)
    places = _places()
    for folder, label in places:
        for above in (folder, *folder.parents):
            if os.path.isfile(above / _MARKER):
                return _read(above, f"{_MARKER} above the {label}")
    package = Path(__file__).resolve().parent
    if os.path.isdir(package / "core"):
        return Origin("student", package.parent, "the built package found on sys.path")
    looked = " and ".join(f"above the {label}" for _, label in places)
    raise ImportError(
        "tinytorch: whose code should run here? There is no workspace and no reference.\n"
        f"Looked for {_MARKER} {looked}; TINYTORCH is not set.\n"
        "Next: tito init my-torch                       begin a workspace, or\n"
        "      cd my-torch                              go to the one you have, or\n"
        "      TINYTORCH=reference python script.py     run the course's own code "
        "(or TINYTORCH=path/to/my-torch)"
    )


def _named(value: str) -> Origin:
    if value == "reference":
        return Origin("reference", _course_folder(None), "TINYTORCH=reference")
    folder = Path(os.path.abspath(os.path.expanduser(value)))
    if not os.path.isfile(folder / _MARKER):
        raise ImportError(
            f"TINYTORCH={value}: there is no {_MARKER} in {folder}\n"
            f"Next: tito init {value}, or set TINYTORCH to a workspace or to `reference`"
        )
    return _read(folder, f"TINYTORCH={value}")


def _read(folder: Path, why: str) -> Origin:
    """What the tinytorch.toml of `folder` says."""
    import tomllib

    marker = folder / _MARKER
    try:
        kind = tomllib.loads(marker.read_text(encoding="utf-8")).get("origin")
    except ValueError as error:
        raise ImportError(
            f'{marker}: not readable: {error}\nNext: make it one line: origin = "student"'
        ) from None
    if kind == "student":
        return Origin("student", folder.resolve(), why)
    if kind == "reference":
        return Origin("reference", _course_folder(folder), why)
    raise ImportError(
        f"{marker}: origin is {kind!r}, and only student and reference are known\n"
        'Next: make it one line: origin = "student"'
    )


def _course_folder(clone: Path | None) -> Path:
    """The course the reference is loaded from: $TITO_COURSE, the clone's, or the one tito has."""
    if clone and not os.environ.get("TITO_COURSE") and os.path.isfile(clone / "course/course.toml"):
        return (clone / "course").resolve()
    if find_spec("tito") is None:
        raise ImportError("the reference is loaded by tito, which is not installed\n"
                          "Next: pip install -e path/to/the/clone")  # fmt: skip
    return import_module("tito.course").course_dir().resolve()  # type: ignore[no-any-return]


def _places() -> list[tuple[Path, str]]:
    """Folders to search above, with what they are: of the running script, then the current one."""
    main = getattr(sys.modules.get("__main__"), "__file__", None)
    places = []
    for script in (main, *getattr(sys, "argv", [])[:1]):
        if script and os.path.isfile(script) and not _is_tool(script):
            path = Path(os.path.abspath(script))
            places = [(path.parent, f"script {path}")]
            break
    try:
        return [*places, (Path.cwd(), f"current directory {Path.cwd()}")]
    except FileNotFoundError:
        return [*places, (Path(os.sep), "current directory (which no longer exists)")]


def _is_tool(script: str) -> bool:
    """Whether the script belongs to Python, an environment or tito: pytest, a kernel, a console.

    Only the folders that hold programs count, so that an environment may be made in the workspace
    itself and a workspace may lie anywhere.
    """
    real = Path(os.path.realpath(script))
    prefixes = {sys.prefix, sys.base_prefix, sys.exec_prefix}
    homes = [Path(os.path.realpath(os.path.join(prefix, folder)))
             for prefix in prefixes
             for folder in ("bin", "Scripts", "lib", "lib64", "Lib", "libexec")]  # fmt: skip
    homes += [Path(os.path.realpath(os.path.dirname(os.__file__)))]
    tito = getattr(sys.modules.get("tito"), "__file__", None)
    homes += [Path(os.path.realpath(tito)).parent] if tito else []
    installed = {"site-packages", "dist-packages"} & set(real.parts)
    return bool(installed) or any(home in real.parents for home in homes)


def exported_names(path: Path) -> list[str]:
    """Names in the `__all__` of a module's text, read without running it; [] if it has none."""
    try:
        found = _ALL.search(path.read_text(encoding="utf-8"))
        return [str(name) for name in ast.literal_eval(found[1])] if found else []
    except (OSError, ValueError, SyntaxError):
        return []


class _Workspace:
    """The learner's package: which modules are built, and which of them exports a name.

    As a finder it only looks on: files are imported by Python as ever. It speaks when a module is
    not built yet, or hidden because an earlier one is being checked.
    """

    def __init__(self, origin: Origin, hidden: frozenset[str]) -> None:
        self.origin, self.package, self.hidden = origin, origin.root / "tinytorch", hidden
        self._stamp: object = None
        self._owners: dict[str, str] = {}

    def has(self, dotted: str) -> bool:
        path = str(self.package.joinpath(*dotted.split(".")))
        there = os.path.isfile(path + ".py") or os.path.isdir(path)
        return there and dotted not in self.hidden

    def owner(self, name: str) -> str | None:
        """The dotted module that exports `name`; a miss looks again: more may be built since."""
        return self._owners.get(name) or self.owners().get(name)

    def owners(self) -> dict[str, str]:
        """Exported name -> dotted module (the later of two); read again after a change."""
        files = [file for file in self.package.rglob("*.py") if file.name != "__init__.py"]
        stamp = sorted((str(file), file.stat().st_mtime_ns) for file in files)
        if stamp != self._stamp:
            self._stamp, self._owners = stamp, {}
            for dotted, file in self._ordered(files):
                for name in exported_names(file):
                    self._owners[name] = dotted
        return self._owners

    def _ordered(self, files: list[Path]) -> list[tuple[str, Path]]:
        """Built modules in the course's order, as the type stub beside the door lists them."""
        stub = self.package / "__init__.pyi"
        listing = stub.read_text(encoding="utf-8") if stub.is_file() else ""
        known = {".".join(f.relative_to(self.package).with_suffix("").parts): f for f in files}

        def place(dotted: str) -> tuple[int, str]:
            return listing.find(f"from tinytorch.{dotted} import"), dotted

        return [(d, known[d]) for d in sorted(known, key=place) if d not in self.hidden]

    def explain(self, dotted: str) -> ImportError | None:
        """The error for something that is not built, if tito is there to know the course."""
        if find_spec("tito") is None:
            return None
        reference = import_module("tito.reference")
        return reference.explain(dotted, self.origin, self.hidden)  # type: ignore[no-any-return]

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> Any:
        if not fullname.startswith("tinytorch."):
            return None
        dotted = fullname.removeprefix("tinytorch.")
        if self.hidden and (self.package.joinpath(*dotted.split(".")) / "__init__.py").is_file():
            return import_module("tito.reference").partial_facade(dotted, self.origin, self.hidden)
        if not self.has(dotted) and (error := self.explain(dotted)):
            raise error
        return None


def _open(found: Origin) -> Any:
    """Make `tinytorch` the package of `found`; returns what knows its modules and names."""
    global __path__, __file__
    upto = os.environ.get("TINYTORCH_UPTO")
    if found.kind == "reference":
        __path__ = []
        framework = import_module("tito.reference").Course(found, upto)
    else:
        __path__ = [str(found.root / "tinytorch")]
        __file__ = str(found.root / "tinytorch" / "__init__.py")
        hidden = import_module("tito.reference").hidden(upto) if upto else frozenset()
        framework = _Workspace(found, hidden)
    __spec__.submodule_search_locations = __path__
    sys.meta_path[:] = [f for f in sys.meta_path if not getattr(f, "opens_tinytorch", False)]
    framework.opens_tinytorch = True
    sys.meta_path.insert(0, framework)
    return framework


def __getattr__(name: str) -> Any:
    if name == "__all__":
        return sorted(_framework.owners())
    if not name.startswith("__"):
        if owner := _framework.owner(name):
            return getattr(import_module(f"tinytorch.{owner}"), name)
        if _framework.has(name):
            return import_module(f"tinytorch.{name}")
    error = None if name.startswith("_") else _framework.explain(name)
    if error:
        raise AttributeError(str(error))
    unknown = f"module 'tinytorch' has no attribute {name!r}"
    raise AttributeError(unknown, name=name, obj=sys.modules[__name__])


def __dir__() -> list[str]:
    return sorted({"origin", *_framework.owners()})


if __name__ == "tinytorch":
    origin = decide()
    _framework = _open(origin)
    if _framework.has("core.autograd"):
        import_module("tinytorch.core.autograd").enable_autograd()
