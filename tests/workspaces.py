"""Workspaces of learners who have come some way."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tito import course, proofs, workspace
from tito.workspace import Workspace


def built(root: Path, last: int = 20) -> Workspace:
    """A new workspace with the reference solutions of modules 1 to `last` in its package."""
    ws = workspace.init(root)
    for module in course.modules()[:last]:
        proofs.build(ws, module)
    return ws


@contextmanager
def broken(ws: Workspace, dotted: str, code: str) -> Iterator[None]:
    """The workspace with `code` appended to one file of its package."""
    file = ws.export_path(dotted)
    before = file.read_bytes()
    file.write_bytes(before + f"\n\n{code}".encode())
    try:
        yield
    finally:
        file.write_bytes(before)
