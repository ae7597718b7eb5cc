"""jupytext reads our percent files as we do, and we read what it writes."""

from pathlib import Path
from typing import Any

import jupytext
import nbformat
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tito.source import (
    Cell,
    Notebook,
    inside_strings,
    magic_lines,
    read,
    read_percent,
    write_ipynb,
    write_percent,
)

TESTS = Path(__file__).parent
MODULES = sorted((TESTS.parent / "course" / "modules").glob("[0-9][0-9]_*"))
COURSE = [folder / f"{folder.name[3:]}.py" for folder in MODULES]
SOURCES = [TESTS / "fixtures" / "tensor.py", *(path for path in COURSE if path.is_file())]
ALL = [*SOURCES, TESTS / "fixtures" / "learner.ipynb"]
ITS_OWN = {"cell_marker", "lines_to_next_cell", "lines_to_end_of_cell_marker", "id"}
Seen = tuple[str, str, dict[str, Any]]


def as_jupytext_reads(text: str) -> list[Seen]:
    cells = jupytext.reads(text, fmt="py:percent").cells
    return [
        (c.cell_type, c.source, {k: c.metadata[k] for k in c.metadata.keys() - ITS_OWN})
        for c in cells
    ]


def nbformat_node(nb: Notebook) -> Any:
    """The notebook as nbformat has it, without what we derive for nbgrader."""
    node = nbformat.reads(write_ipynb(nb), as_version=4)
    for cell in node.cells:
        for key in ("nbgrader", "editable", "deletable"):
            cell.metadata.pop(key, None)
    return node


def as_we_have(nb: Notebook) -> list[Seen]:
    return [(c.kind, c.source, c.metadata) for c in nb.cells]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_jupytext_reads_the_source_as_we_do(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert as_jupytext_reads(text) == as_we_have(read_percent(text))


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.stem)
def test_jupytext_reads_what_we_write(path: Path) -> None:
    nb = read(path)
    text = write_percent(nb)
    assert as_jupytext_reads(text) == as_we_have(nb)
    metadata = jupytext.reads(text, fmt="py:percent").metadata
    assert metadata.get("kernelspec") == nb.metadata.get("kernelspec")


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.stem)
def test_we_read_what_jupytext_writes(path: Path) -> None:
    nb = read(path)
    node = nbformat_node(nb)
    back = read_percent(jupytext.writes(node, fmt="py:percent"))
    assert as_we_have(back) == as_we_have(nb)
    assert back.metadata.get("kernelspec") == nb.metadata.get("kernelspec")


SHORT = [
    "x = 1",
    "",
    "def f():",
    "    return 1",
    "# comment",
    "#| export",
    "é",
    "z = 3  ",
    "a = b % c",
]
MAGIC = ["%timeit f()", "!ls", "y = !ls", "%%time", "# %timeit f()", "  # indented", "  !ls"]
QUOTES = ["s = '# %%'", 's = "it\'s"', "'''", '"""', "'''one line'''"]
LINES = st.sampled_from([*SHORT, *MAGIC, *QUOTES])
KEYS = st.dictionaries(
    st.sampled_from(["exercise", "points", "a.b", "title", "x-y"]),
    # not None: jupytext writes it as a bare key, and a lone bare key is a title
    st.sampled_from(["a", "two words", 'say "hi"', "é = {", 3, 1.5, True, ["a", 1], {"b": [1]}]),
    max_size=3,
).filter(lambda keys: isinstance(keys.get("title", ""), str))
CELLS = st.builds(
    lambda kind, lines, metadata: Cell(kind, "\n".join(lines), metadata),
    st.sampled_from(["code", "markdown", "raw"]),
    st.lists(LINES, max_size=5),
    KEYS,
)


def ends_what_it_opens(cell: Cell) -> bool:
    """jupytext lets a quote left open swallow the cells below; we do not. In prose with quotes,
    which it writes as comments, it comments what looks like a magic twice."""
    if cell.kind == "code":
        return not inside_strings([*cell.source.split("\n"), ""])[-1]
    return '"""' not in cell.source or not list(magic_lines(cell.source.split("\n")))


@settings(max_examples=60, deadline=None)
@given(st.lists(CELLS.filter(ends_what_it_opens), min_size=1, max_size=4))
def test_any_notebook_is_the_same_to_jupytext(cells: list[Cell]) -> None:
    nb = Notebook(cells)
    assert as_jupytext_reads(write_percent(nb)) == as_we_have(nb)
    node = nbformat_node(nb)
    assert as_we_have(read_percent(jupytext.writes(node, fmt="py:percent"))) == as_we_have(nb)
