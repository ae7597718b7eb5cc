"""Workspaces of learners who have come some way, and their command line."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from click.testing import CliRunner, Result

from tito import course, proofs, workspace
from tito.cli import cli
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


def tito(*args: str, code: int = 0) -> Result:
    """`tito` with these words in the current folder, which must end with `code`."""
    result = CliRunner().invoke(cli, list(args))
    assert result.exception is None or isinstance(result.exception, SystemExit), result
    assert result.exit_code == code, result.output
    return result
