"""Our .ipynb is what nbformat calls valid, down to the bytes it would write itself."""

from pathlib import Path

import nbformat
import pytest

from tito.solutions import strip
from tito.source import read, read_ipynb, write_ipynb

TESTS = Path(__file__).parent
MODULES = sorted((TESTS.parent / "course" / "modules").glob("[0-9][0-9]_*"))
COURSE = [folder / f"{folder.name[3:]}.py" for folder in MODULES]
SOURCES = [TESTS / "fixtures" / "tensor.py", *(path for path in COURSE if path.is_file())]
ALL = [*SOURCES, TESTS / "fixtures" / "learner.ipynb"]


def module_id(path: Path) -> str:
    return path.parent.name if path in COURSE else "01_tensor"


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.stem)
def test_nbformat_validates_our_ipynb(path: Path) -> None:
    nbformat.validate(nbformat.reads(write_ipynb(read(path)), as_version=4))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_nbformat_validates_the_learners_ipynb(path: Path) -> None:
    learner = strip(read(path), module_id(path))
    nbformat.validate(nbformat.reads(write_ipynb(learner), as_version=4))


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.stem)
def test_nbformat_writes_the_same_bytes(path: Path) -> None:
    text = write_ipynb(read(path))
    assert nbformat.writes(nbformat.reads(text, as_version=4)) + "\n" == text


@pytest.mark.parametrize("minor", [0, 1, 2, 3, 4, 5])
def test_notebooks_of_every_minor_version_are_read(minor: int) -> None:
    nb = read(ALL[0])
    node = nbformat.reads(write_ipynb(nb), as_version=4)
    node.nbformat_minor = minor
    for cell in node.cells if minor < 5 else []:
        del cell["id"]
    nbformat.validate(node)
    back = read_ipynb(nbformat.writes(node))
    assert [(c.kind, c.source) for c in back.cells] == [(c.kind, c.source) for c in nb.cells]
    assert [c.name for c in back.cells] == [c.name for c in nb.cells]
