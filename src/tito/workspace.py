"""The learner's workspace: where things are in it, and how it is written without losing anything.

A file is replaced in one step (a temporary file, then a rename), so that stopping tito at any
moment leaves the old or the new file; what is replaced is kept in `.tinytorch/snapshots/` first.
"""

from __future__ import annotations

import os
import re
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tito import origin

if TYPE_CHECKING:
    from tito.course import Module

MARKER = "tinytorch.toml"
FORMATS = ("ipynb", "py")
_TEMPORARY = re.compile(r"\.tito-(\d+)-\w+\.tmp")
_SNAPSHOT = re.compile(r"\d{8}T\d{6}Z-(\d+)-")


class WorkspaceError(Exception):
    """Something about the workspace that the learner can mend. Two lines: what, then `Next:`."""


@dataclass(frozen=True)
class Problem:
    """One finding of `check_health`: what is wrong, and the command that helps."""

    text: str
    next: str


@dataclass(frozen=True)
class Workspace:
    """A workspace: its folder, and the format its notebooks are kept in ("ipynb" or "py")."""

    root: Path
    format: str = "ipynb"

    @property
    def modules_dir(self) -> Path:
        return self.root / "modules"

    @property
    def package_dir(self) -> Path:
        return self.root / "tinytorch"

    @property
    def milestones_dir(self) -> Path:
        return self.root / "milestones"

    @property
    def state_dir(self) -> Path:
        return self.root / ".tinytorch"

    @property
    def snapshots_dir(self) -> Path:
        return self.state_dir / "snapshots"

    def notebook_path(self, module: Module) -> Path:
        """The learner's notebook: in the workspace's format, unless only the other is there."""
        formats = sorted(FORMATS, key=lambda suffix: suffix != self.format)
        paths = [self.modules_dir / module.id / f"{module.name}.{suffix}" for suffix in formats]
        return next((path for path in paths if path.is_file()), paths[0])

    def export_path(self, dotted: str) -> Path:
        """The file of the learner's package: `core.tensor` -> tinytorch/core/tensor.py."""
        return self.package_dir.joinpath(*dotted.split(".")).with_suffix(".py")

    def relative(self, path: Path) -> Path:
        """The path as seen from the workspace; WorkspaceError if it lies outside."""
        whole = Path(os.path.abspath(path))
        for candidate in (whole, whole.parent.resolve() / whole.name):
            if candidate.is_relative_to(self.root):
                return candidate.relative_to(self.root)
        raise WorkspaceError(
            f"{path}: outside the workspace {self.root}\nNext: move it into the workspace"
        )

    # Writing ------------------------------------------------------------------------------------

    def write(self, path: Path, text: str | bytes) -> None:
        """Replace the file in one step, with its permissions kept; folders are made as needed."""
        path = Path(os.path.realpath(path))
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = _temporary(path.parent)
        try:
            with temporary.open("xb") as file:
                file.write(text.encode() if isinstance(text, str) else text)
                file.flush()
                os.fsync(file.fileno())
            if path.exists():
                temporary.chmod(path.stat().st_mode & 0o7777)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise

    def replace(self, path: Path, text: str | bytes, reason: str) -> bool:
        """Write what differs, after a snapshot of what was there. Returns whether it differed."""
        new = text.encode() if isinstance(text, str) else text
        if path.is_file() and path.read_bytes() == new:
            return False
        self.snapshot(reason, path)
        self.write(path, new)
        return True

    def sweep(self) -> list[Path]:
        """Remove what an interrupted tito left behind, and say what it was."""
        found = [path for path in _temporaries(self.root) if not _in_use(path)]
        for path in found:
            _remove(path)
        return found

    # Snapshots ----------------------------------------------------------------------------------

    def snapshot(self, reason: str, *paths: Path) -> Path | None:
        """Copy the files (of folders: all in them) to `.tinytorch/snapshots/<time>-<n>-<reason>/`.

        A file whose newest copy is the same is skipped; returns None when nothing was left.
        """
        files = [file for path in paths for file in _files(path)]
        changed = [file for file in files if not self._is_kept(file)]
        if not changed:
            return None
        self.snapshots_dir.mkdir(parents=True, exist_ok=True)
        building = _temporary(self.snapshots_dir)
        try:
            for file in changed:
                copy = building / self.relative(file)
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.write_bytes(file.read_bytes())
            return building.rename(self._next_snapshot(reason))
        except BaseException:
            _remove(building)
            raise

    def snapshots(self, path: Path) -> list[Path]:
        """The copies kept of the file, oldest first."""
        copies = [folder / self.relative(path) for folder in self._snapshot_folders()]
        return [copy for copy in copies if copy.is_file()]

    def restore(self, path: Path, snapshot: Path | None = None) -> Path:
        """Bring the file back from a copy (default: the newest that differs); returns the copy.

        What is there now is kept first, so restoring twice is where one began.
        """
        now = path.read_bytes() if path.is_file() else None
        copies = [copy for copy in self.snapshots(path) if copy.read_bytes() != now]
        copy = snapshot or (copies[-1] if copies else None)
        if copy is None or not copy.is_file():
            raise WorkspaceError(
                f"{self.relative(path)}: there is no snapshot to bring back\n"
                f"Next: look in {self.relative(self.snapshots_dir)}"
            )
        before = copy.read_bytes()
        self.replace(path, before, "restore")
        return copy

    def _is_kept(self, file: Path) -> bool:
        copies = self.snapshots(file)
        return bool(copies) and copies[-1].read_bytes() == file.read_bytes()

    def _snapshot_folders(self) -> list[Path]:
        """Oldest first, by their running number: clocks can be set back."""
        if not self.snapshots_dir.is_dir():
            return []
        numbered = [(_SNAPSHOT.match(f.name), f) for f in self.snapshots_dir.iterdir()]
        return [f for _, f in sorted((int(m[1]), f) for m, f in numbered if m)]

    def _next_snapshot(self, reason: str) -> Path:
        last = [_SNAPSHOT.match(folder.name) for folder in self._snapshot_folders()[-1:]]
        number = 1 + (int(last[0][1]) if last and last[0] else 0)
        slug = re.sub(r"\W+", "-", reason).strip("-") or "snapshot"
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        return self.snapshots_dir / f"{stamp}-{number:04d}-{slug}"


# Finding and making -----------------------------------------------------------------------------


def find(start: Path | None = None) -> Workspace:
    """The workspace TINYTORCH names, else the nearest above `start` (default: where you are).

    Raises: WorkspaceError if there is none, or if the nearest tinytorch.toml is the reference's.
    """
    named = os.environ.get("TINYTORCH")
    if start is None and named and named != "reference":
        folder = Path(os.path.abspath(os.path.expanduser(named)))
        return _opened(folder, f"TINYTORCH={named}")
    here = (start or _current()).resolve()
    for folder in (here, *here.parents):
        if (folder / MARKER).is_file():
            return _opened(folder, str(here))
    raise WorkspaceError(
        f"{here}: not in a workspace (no {MARKER} here or above)\n"
        "Next: tito init my-torch, or cd to the workspace you have"
    )


def _current() -> Path:
    try:
        return Path.cwd()
    except FileNotFoundError:
        raise WorkspaceError("the current directory no longer exists\nNext: cd ~") from None


def _opened(folder: Path, asked: str) -> Workspace:
    marker = folder / MARKER
    if not marker.is_file():
        raise WorkspaceError(f"{asked}: there is no {MARKER} in {folder}\nNext: tito init {folder}")
    says = _read_marker(marker)
    if says.get("origin") != "student":
        raise WorkspaceError(
            f"{asked}: {folder} is the course's own clone ({marker} says {says.get('origin')!r})\n"
            "Next: tito init ../my-torch, or cd to the workspace you have"
        )
    if says.get("format", "ipynb") not in FORMATS:
        raise WorkspaceError(
            f"{marker}: format is {says['format']!r}\nNext: make it one of {', '.join(FORMATS)}"
        )
    return Workspace(folder.resolve(), str(says.get("format", "ipynb")))


def _read_marker(marker: Path) -> dict[str, object]:
    try:
        return tomllib.loads(marker.read_text(encoding="utf-8"))
    except ValueError as error:
        raise WorkspaceError(
            f'{marker}: not readable: {error}\nNext: make it one line: origin = "student"'
        ) from None


def init(path: Path, *, format: str = "ipynb", name: str | None = None) -> Workspace:
    """Make a workspace, or mend one: missing files come back, existing ones are left alone.

    Only the copy of the door, which is not the learner's, is brought up to date (after a snapshot).
    Raises: WorkspaceError for a folder that holds something else.
    """
    root = Path(os.path.abspath(os.path.expanduser(path))).resolve()
    if format not in FORMATS:
        raise WorkspaceError(f"format {format!r} is unknown\nNext: use {' or '.join(FORMATS)}")
    if (root / MARKER).is_file():
        ws = _opened(root, str(path))
    else:
        _refuse_unsuitable(root)
        ws = Workspace(root, format)
    for relative, text in _templates(ws, name or root.name):
        if not (root / relative).exists():
            ws.write(root / relative, text)
    ws.replace(ws.package_dir / "__init__.py", origin.door_path().read_bytes(), "door")
    return ws


def _refuse_unsuitable(root: Path) -> None:
    if root.exists() and not root.is_dir():
        raise WorkspaceError(f"{root}: is a file\nNext: tito init with the name of a new folder")
    visible = [p.name for p in root.iterdir() if p.name[0] != "."] if root.is_dir() else []
    if visible:
        raise WorkspaceError(
            f"{root}: not empty ({sorted(visible)[0]}, …) and not a workspace\n"
            "Next: tito init with the name of a new folder"
        )
    for above in root.parents:
        if (above / MARKER).is_file() and _read_marker(above / MARKER).get("origin") == "student":
            raise WorkspaceError(
                f"{root}: lies in the workspace {above}\n"
                f"Next: cd {above} and carry on there, or choose a folder outside it"
            )


def _templates(ws: Workspace, name: str) -> Iterator[tuple[Path, bytes]]:
    """What a workspace begins with, tinytorch.toml first: a half-made one can then be mended.

    In files that end in `.in`, `{name}` and `{format}` are filled in.
    """
    from tito.course import course_dir

    source = course_dir() / "workspace"
    slug = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-._") or "my-torch"
    files = [file for file in source.rglob("*") if file.is_file() and file.suffix != ".pyc"]
    for file in sorted(files, key=lambda file: (file.name != f"{MARKER}.in", file)):
        relative, content = file.relative_to(source), file.read_bytes()
        if file.suffix == ".in":
            relative = relative.with_name(relative.name.removesuffix(".in"))
            for key, value in (("name", slug), ("format", ws.format)):
                content = content.replace(b"{%s}" % key.encode(), value.encode())
        yield relative, content


# The package ------------------------------------------------------------------------------------


def refresh(ws: Workspace) -> list[Path]:
    """Bring what tito derives from the built modules up to date; returns the files that changed.

    That is the packages that re-export (`tinytorch/nn/__init__.py`), the type stub beside the
    door, and the door.
    """
    texts = {ws.package_dir / "__init__.py": origin.door_path().read_text(encoding="utf-8")}
    texts |= {ws.package_dir / "__init__.pyi": _stub(ws)} | _facades(ws)
    return [path for path, text in texts.items() if ws.replace(path, text, "refresh")]


def built(ws: Workspace) -> dict[str, list[str]]:
    """Dotted name -> public names of the learner's built modules, in the course's order."""
    from tito import course

    files = {module.export: ws.export_path(module.export) for module in course.modules()}
    return {d: origin.exported_names(file) for d, file in files.items() if file.is_file()}


def _facades(ws: Workspace) -> dict[Path, str]:
    from tito import course, export

    there, texts = built(ws), {}
    for package in {dotted.rpartition(".")[0] for dotted in there} - {""}:
        texts[ws.package_dir.joinpath(*package.split("."), "__init__.py")] = ""
    for package, parts in course.facades().items():
        names = {part: there[part] for part in parts if part in there}
        path = ws.package_dir.joinpath(*package.split("."), "__init__.py")
        if names or path.is_file():
            texts[path] = export.facade(names) if names else ""
    return texts


def _stub(ws: Workspace) -> str:
    """`__init__.pyi`: every name of the framework, so that editors and type checkers know them."""
    from tito import course

    there = built(ws)
    packages = [p for p, parts in course.facades().items() if any(part in there for part in parts)]
    lines = [_STUB_HEAD, *(f"from . import {name} as {name}" for name in packages)]
    owners = {name: dotted for dotted, names in there.items() for name in names}
    for dotted in there:
        names = [name for name, owner in owners.items() if owner == dotted]
        lines += [f"from tinytorch.{dotted} import {name} as {name}" for name in names]
    return "\n".join([*lines, _STUB])


_STUB_HEAD = """\
# Written by `tito module complete`: what your framework exports, for editors and type checkers.
# ruff: noqa: I001 (in the order of the course)
from pathlib import Path
"""
_STUB = """
class Origin:
    kind: str
    root: Path
    why: str

origin: Origin
"""


# Health -----------------------------------------------------------------------------------------


def check_health(ws: Workspace) -> list[Problem]:
    """What is wrong with the workspace. What an interrupted tito leaves behind is not."""
    mend = f"tito init {origin.shorten(ws.root)}"
    missing = [path for path, _ in _templates(ws, ws.root.name) if not (ws.root / path).exists()]
    problems = [Problem(f"{path} is missing", mend) for path in missing]
    copy = ws.package_dir / "__init__.py"
    if not copy.is_file():
        problems.append(Problem("tinytorch/__init__.py, the door, is missing", mend))
    elif copy.read_bytes() != origin.door_path().read_bytes():
        problems.append(Problem("tinytorch/__init__.py, the door, is another release's", mend))
    for folder in (ws.root, ws.package_dir, ws.modules_dir, ws.state_dir):
        if folder.is_dir() and not os.access(folder, os.W_OK):
            problems.append(Problem(f"{folder} cannot be written", f"chmod u+w {folder}"))
    return problems + _shadows(ws)


def _shadows(ws: Workspace) -> list[Problem]:
    """Files that Python would import instead of the framework or of NumPy."""
    names = ("tinytorch.py", "numpy.py")
    folders = [ws.root, *(folder for folder in ws.modules_dir.glob("*") if folder.is_dir())]
    found = [folder / name for folder in folders for name in names if (folder / name).is_file()]
    return [
        Problem(f"{ws.relative(path)} hides the real {path.stem} from Python", f"rename {path}")
        for path in found
    ]


# Temporary files --------------------------------------------------------------------------------


def _temporary(folder: Path) -> Path:
    """A name nobody uses; it carries the process, so that `sweep` leaves a running tito alone."""
    return folder / f".tito-{os.getpid()}-{os.urandom(4).hex()}.tmp"


def _temporaries(root: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            if name.startswith(".tito-") and name.endswith(".tmp"):
                yield Path(folder, name)
        environments = [f for f in folders if Path(folder, f, "pyvenv.cfg").is_file()]
        skipped = {*environments, ".git", "node_modules"}
        folders[:] = [f for f in folders if f not in skipped and not f.startswith(".tito-")]


def _in_use(path: Path) -> bool:
    import psutil  # type: ignore[import-untyped, unused-ignore]

    found = _TEMPORARY.fullmatch(path.name)
    process = int(found[1]) if found else os.getpid()
    return process != os.getpid() and psutil.pid_exists(process)


def _remove(path: Path) -> None:
    import shutil

    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(file for file in path.rglob("*") if file.is_file())
    return [path] if path.is_file() else []
