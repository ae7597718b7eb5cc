"""nbgrader releases and checks our notebooks as it would its own."""

import logging
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbgrader.nbgraderformat import MetadataValidator
from nbgrader.preprocessors import CheckCellMetadata, ClearSolutions, ComputeChecksums, LockCells
from nbgrader.utils import compute_checksum

from tito.solutions import strip
from tito.source import read, read_ipynb, write_ipynb

TESTS = Path(__file__).parent
MODULES = sorted((TESTS.parent / "course" / "modules").glob("[0-9][0-9]_*"))
COURSE = [folder / f"{folder.name[3:]}.py" for folder in MODULES]
SOURCES = [TESTS / "fixtures" / "tensor.py", *(path for path in COURSE if path.is_file())]


def module_id(path: Path) -> str:
    return path.parent.name if path in COURSE else "01_tensor"


logging.getLogger("traitlets").setLevel(logging.CRITICAL)


def node_of(nb: Any) -> Any:
    return nbformat.reads(write_ipynb(nb), as_version=4)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_nbgraders_release_is_ours_cell_by_cell(path: Path) -> None:
    full = read(path)
    ours = strip(full, module_id(path))
    released = node_of(full)
    for cell, learner in zip(released.cells, ours.cells, strict=True):
        hole = hole_of(cell.source, learner.source)
        clear = ClearSolutions(code_stub={"python": hole}, text_stub=hole)
        clear.preprocess_cell(cell, {"language": "python"}, 0)
    assert [c.source for c in released.cells] == [c.source for c in ours.cells]
    assert released == node_of(ours)


def hole_of(full: str, learner: str) -> str:
    """The stub to configure nbgrader with: what our cell has where the region was, dedented.

    nbgrader replaces a question without a region as a whole: its stub is the question.
    """
    if "### BEGIN SOLUTION" not in full:
        return learner
    lines = full.split("\n")
    before = next(n for n, line in enumerate(lines) if "BEGIN SOLUTION" in line)
    after = len(lines) - 1 - next(n for n, line in enumerate(lines) if "END SOLUTION" in line)
    hole = learner.split("\n")[before : len(learner.split("\n")) - after]
    indent = len(lines[before]) - len(lines[before].lstrip())
    return "\n".join(line[indent:] for line in hole)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_nbgrader_accepts_our_metadata_and_checksums(path: Path) -> None:
    node = node_of(strip(read(path), module_id(path)))
    MetadataValidator().validate_nb(node)
    for step in (CheckCellMetadata(), LockCells(), ComputeChecksums()):
        node, _ = step.preprocess(node, {})
    checks = [cell for cell in node.cells if "check" in cell.metadata]
    assert checks and all(c.metadata.nbgrader.checksum == compute_checksum(c) for c in checks)
    assert not any(c.metadata.editable or c.metadata.deletable for c in checks)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_a_notebook_released_by_nbgrader_keeps_its_checksums(path: Path) -> None:
    node, _ = ComputeChecksums().preprocess(node_of(strip(read(path), module_id(path))), {})
    text = nbformat.writes(node) + "\n"
    assert write_ipynb(read_ipynb(text)) == text
