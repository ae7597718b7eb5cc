"""A learner's notebooks from one format to the other: code and prose stay, outputs do not in `.py`.

The old file is kept as a snapshot, and goes only when the new one is in place: stopped half-way,
both are there with the same cells, and converting again ends it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from tito import source, workspace
from tito.workspace import Workspace

if TYPE_CHECKING:
    from tito.course import Module


def notebooks(ws: Workspace, module: Module) -> list[Path]:
    """The notebooks of a module that is started: its own, then the optional ones."""
    own = ws.notebook_path(module)
    extra = sorted((own.parent / "extra").glob("*"))
    found = [own, *(path for path in extra if path.suffix.lstrip(".") in workspace.FORMATS)]
    return [path for path in found if path.is_file()]


def convert(ws: Workspace, paths: list[Path], to: str) -> list[Path]:
    """Rewrite notebooks in the format `to` ("ipynb" or "py"); returns the new files.

    Raises: SourceError for a notebook that cannot be read; nothing is changed then.
    """
    wanted = [(path, path.with_suffix(f".{to}")) for path in paths if path.suffix != f".{to}"]
    texts = [source.write(new, source.read(old)) for old, new in wanted]
    for (old, new), text in zip(wanted, texts):
        ws.snapshot("convert", old)
        ws.replace(new, text, "convert")
    for old, _ in wanted:
        old.unlink()
    return [new for _, new in wanted]


def set_format(ws: Workspace, to: str) -> Workspace:
    """Make `to` the format of the notebooks that are written from now on."""
    marker = ws.root / workspace.MARKER
    text, line = marker.read_text(encoding="utf-8"), f'format = "{to}"'
    changed, count = re.subn(r"(?m)^[ \t]*format[ \t]*=.*$", line, text, count=1)
    ws.replace(marker, changed if count else f"{text.rstrip()}\n{line}\n", "convert")
    return Workspace(ws.root, to)


def scratch(ws: Workspace, path: Path) -> Path:
    """A copy of a notebook to explore in another tool, in `.tinytorch/explore/`; ours is kept."""
    copy = ws.state_dir / "explore" / f"{path.parent.name}.ipynb"
    ws.write(copy, source.write(copy, source.read(path)))
    return copy
