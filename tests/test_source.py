"""tito.source: percent and .ipynb text, the same cells both ways."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tito.source import (
    KERNEL,
    Cell,
    Notebook,
    SourceError,
    inside_strings,
    read,
    read_ipynb,
    read_percent,
    write,
    write_ipynb,
    write_percent,
)

FIXTURES = Path(__file__).parent / "fixtures"
TRICKY = [
    "",
    " ",
    "    ",
    "# %%",
    "# %% [markdown]",
    "    # %% step",
    "#%%",
    "# # %% x",
    '# %% exercise="a"',
    '"""',
    "'''",
    '    """',
    "x = '''a",
    'r"""raw"""',
    "%timeit f()",
    "# %timeit f()",
    "!ls -la",
    "  !ls",
    "# !ls",
    "!echo \\",
    "files = !ls",
    "%%bash",
    "%%bash -s a",
    "%%time",
    "?print",
    "print?",
    "# copy this",
    "x = 1",
    "def f():",
    "    return '#'",
    "### BEGIN SOLUTION",
    "### END SOLUTION",
    "#| export",
    "# ---",
    "trailing  ",
    "\ttab",
    "back\\",
    '"open',
    "é ∑ 😀",
    "#",
    "# ",
    "#  !ls",
    "%% not",
    "# In[3]:",
    "\x0c",
    "a\u2028b",
]
text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r"), max_size=20)
sources = st.lists(st.one_of(st.sampled_from(TRICKY), text), max_size=6).map("\n".join)
json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), text),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(text, inner, max_size=3)),
    max_leaves=4,
)
RESERVED = {"id", "escaped", "language", "magic_args", "nbgrader", "editable", "deletable"}
keys = st.one_of(
    st.sampled_from(["tags", "title", "jupyter", "cell_depth", "a b", "x-y", "é"]), text
)
foreign = st.dictionaries(keys.filter(lambda key: key not in RESERVED), json_values, max_size=3)
roles = st.one_of(
    st.just({}),
    st.builds(
        lambda role, name, points: {role: name, "points": points},
        st.sampled_from(["given", "exercise", "check", "demo", "question"]),
        st.one_of(st.just("Tensor.__add__"), text),
        st.integers(0, 9),
    ),
)
cells = st.builds(
    lambda kind, source, first, second, own_id: Cell(kind, source, first | second, own_id),
    st.sampled_from(["code", "markdown", "raw"]),
    sources,
    foreign,
    roles,
    st.one_of(st.just(""), st.from_regex(r"[a-zA-Z0-9_-]{1,64}", fullmatch=True)),
)
notebooks = st.builds(
    Notebook, st.lists(cells, max_size=5), st.dictionaries(text, json_values, max_size=2)
)


@settings(max_examples=300, deadline=None)
@given(notebooks)
def test_percent_round_trip_loses_nothing(nb: Notebook) -> None:
    settled = read_ipynb(write_ipynb(nb))  # gives every cell its id
    once = write_percent(settled)
    assert read_percent(once) == settled
    assert write_percent(read_percent(once)) == once


@settings(max_examples=300, deadline=None)
@given(notebooks)
def test_ipynb_round_trip_loses_nothing(nb: Notebook) -> None:
    once = write_ipynb(nb)
    back = read_ipynb(once)
    assert [c.source for c in back.cells] == [c.source for c in nb.cells]
    assert [c.metadata for c in back.cells] == [c.metadata for c in nb.cells]
    assert write_ipynb(back) == once
    assert read_ipynb(write_ipynb(back)) == back


@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(st.sampled_from(TRICKY), text), max_size=12).map("\n".join))
@example('# %% [markdown]\n"""\nnever closed\n\n# %%\nx = 1\n')
def test_read_percent_of_anything_settles_after_one_rewrite(anything: str) -> None:
    try:
        nb = read_percent(anything)
    except SourceError:
        return
    assert read_percent(write_percent(nb)) == nb


def test_ids_are_unique_and_valid_whatever_the_cells() -> None:
    long = "Tensor." + "very_long_name_" * 9
    nb = read_percent(
        f'# %% exercise="{long}"\n# %% exercise="{long}x"\n'
        '# %% check="a.b"\n# %% check="a b"\n# %%\n# %%\n'
    )
    ids = [cell.id for cell in nb.cells]
    assert len(set(ids)) == 6 and all(len(i) <= 64 for i in ids)
    assert ids[2:4] == ["check-a-b", "check-a-b-2"]
    # crc32 of nothing is 0
    assert ids[4:] == ["code-00000000", "code-00000000-2"]


def test_read_percent_gives_roles_kinds_directives_and_lines() -> None:
    nb = read_percent(
        '# %% [markdown]\n"""\n# 01 · Tensor\n"""\n\n'
        '# %% exercise="Tensor.sum" points=4\n#| export\nx = 1\n'
    )
    prose, code = nb.cells
    assert (prose.kind, prose.source, prose.line, prose.role) == (
        "markdown",
        "# 01 · Tensor",
        3,
        None,
    )
    assert (code.role, code.name, code.metadata["points"]) == ("exercise", "Tensor.sum", 4)
    assert (code.directives, code.line) == (["#| export"], 7)
    assert (prose.id, code.id) == ("text-f3028048", "exercise-Tensor-sum")


def test_read_percent_accepts_code_before_the_first_header() -> None:
    nb = read_percent("import numpy\n\n# %%\nx = 1\n")
    assert [cell.source for cell in nb.cells] == ["import numpy", "x = 1"]


def test_read_percent_keeps_a_header_shown_inside_prose() -> None:
    text = '# %% [markdown]\n"""\nWrite a header:\n\n# %% exercise="x"\n"""\n\n# %%\nx = 1\n'
    assert [cell.kind for cell in read_percent(text).cells] == ["markdown", "code"]
    assert write_percent(read_percent(text)) == text


def test_read_percent_recovers_from_prose_that_is_never_closed() -> None:
    text = '# %% [markdown]\n"""\nprose\n\n# %%\ndef f():\n    """Doc."""\n    return 1\n'
    assert [cell.kind for cell in read_percent(text).cells] == ["markdown", "code"]


def test_read_percent_recovers_from_a_string_the_learner_left_open() -> None:
    text = '# %%\nx = """open\n\n# %% check="a" points=1\ncheck.equal("a", 1, 1)\n'
    assert [cell.name for cell in read_percent(text).cells] == ["", "a"]


def test_read_percent_reads_commented_prose_and_crlf() -> None:
    nb = read_percent("# %% [markdown]\r\n# Title\r\n#\r\n# text\r\n\r\n# %%\r\nx = 1\r\n")
    assert [cell.source for cell in nb.cells] == ["Title\n\ntext", "x = 1"]


def test_read_percent_names_the_line_of_a_malformed_role() -> None:
    with pytest.raises(SourceError) as caught:
        read_percent("# %%\n\n# %% exercise=Tensor.sum\n")
    what, next_step = str(caught.value).split("\n")
    assert what.startswith("line 3:") and next_step.startswith("Next: ")


def test_read_percent_takes_an_odd_title_as_a_title() -> None:
    assert read_percent("# %% step a = b of 3\n").cells[0].metadata == {"title": "step a = b of 3"}


def test_write_percent_comments_magics_but_not_inside_strings() -> None:
    source = 'text = """\n%not magic\n"""\n%timeit f()\nfiles = !ls'
    text = write_percent(Notebook([Cell("code", source)]))
    assert text == '# %%\ntext = """\n%not magic\n"""\n# %timeit f()\n# files = !ls\n'


def test_write_percent_puts_role_first_and_own_id_last() -> None:
    cell = Cell("code", "x", {"tags": ["a"], "points": 2, "check": "c"}, "mine")
    assert write_percent(Notebook([cell])) == '# %% check="c" points=2 tags=["a"] id="mine"\nx\n'


def test_write_ipynb_derives_what_nbgrader_needs() -> None:
    nb = Notebook(
        [Cell("code", "x", {"check": "a.b", "points": 3}), Cell("code", "y", {"exercise": "a.b"})]
    )
    check, exercise = json.loads(write_ipynb(nb))["cells"]
    assert check["metadata"] == {
        "check": "a.b", "points": 3, "editable": False, "deletable": False,
        "nbgrader": {"schema_version": 3, "solution": False, "grade": True, "locked": True,
                     "task": False, "points": 3, "grade_id": "check-a-b"},
    }  # fmt: skip
    assert exercise["metadata"]["nbgrader"] == {
        "schema_version": 3, "solution": True, "grade": False, "locked": False,
        "task": False, "grade_id": "exercise-a-b",
    }  # fmt: skip
    assert all(
        c.metadata.keys() <= {"check", "points", "exercise"}
        for c in read_ipynb(write_ipynb(nb)).cells
    )


def test_write_ipynb_states_the_python_kernel_and_keeps_the_learners_own() -> None:
    assert json.loads(write_ipynb(Notebook([])))["metadata"] == KERNEL
    mine = {"kernelspec": {"name": "torch", "display_name": "torch"}}
    assert (
        json.loads(write_ipynb(Notebook([], mine)))["metadata"]["kernelspec"] == mine["kernelspec"]
    )


def test_ipynb_rewriting_keeps_outputs_counts_and_attachments() -> None:
    output = {"output_type": "stream", "name": "stdout", "text": ["3\n"]}
    code = Cell("code", "print(3)", {}, "a", [output], 7)
    prose = Cell(
        "markdown", "![x](attachment:x)", {}, "b", attachments={"x": {"image/png": "AA=="}}
    )
    assert read_ipynb(write_ipynb(Notebook([code, prose]))).cells == [code, prose]


def test_read_ipynb_of_an_old_format_gives_ids() -> None:
    old = {
        "cells": [{"cell_type": "code", "source": ["x = 1\n", "y"], "metadata": {}, "outputs": []}],
        "metadata": {},
        "nbformat": 4,
        "nbformat_minor": 0,
    }
    cell = read_ipynb(json.dumps(old)).cells[0]
    assert (cell.source, cell.id) == ("x = 1\ny", "code-4a5b39b8")


def test_read_ipynb_takes_colabs_ids_and_repairs_doubled_ones() -> None:
    cells = [
        {"cell_type": "code", "source": "x", "metadata": {"id": i}} for i in ("aB-3", "aB-3", "é")
    ]
    nb = read_ipynb(json.dumps({"cells": cells, "nbformat": 4}))
    assert nb.cells[0].id == "aB-3" and len({cell.id for cell in nb.cells}) == 3
    assert all(cell.metadata == {} for cell in nb.cells)


def test_read_ipynb_survives_empty_fields() -> None:
    cell = {"cell_type": "code", "source": None, "id": None, "metadata": None, "outputs": None}
    nb = read_ipynb(json.dumps({"cells": [cell], "metadata": None}))
    assert nb == Notebook([Cell("code", "", {}, "code-00000000")])


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"worksheets": []}', '{"cells": 3}'])
def test_read_ipynb_refuses_what_is_no_notebook(text: str) -> None:
    with pytest.raises(SourceError, match="\nNext: "):
        read_ipynb(text)


def test_read_and_write_choose_by_suffix(tmp_path: Path) -> None:
    nb = read(FIXTURES / "tensor.py")
    for name in ("tensor.py", "tensor.ipynb"):
        path = tmp_path / name
        path.write_text(write(path, nb), encoding="utf-8")
        assert read(path) == nb
    with pytest.raises(SourceError, match="neither"):
        read(tmp_path / "tensor.txt")
    (tmp_path / "bad.py").write_bytes(b"\xff\xfe")
    with pytest.raises(SourceError, match=r"bad\.py"):
        read(tmp_path / "bad.py")


def test_fixture_is_written_as_it_was_read() -> None:
    text = (FIXTURES / "tensor.py").read_text(encoding="utf-8")
    assert write_percent(read_percent(text)) == text


@pytest.mark.parametrize(
    ("code", "inside"),
    [
        ('x = """a\nb"""\nc', [False, True, False]),
        ('x = \'"""\'\ny', [False, False]),
        ('x = "a""b"\ny', [False, False]),
        ("# it's\ny", [False, False]),
        ("x = 'a\\\nb'\ny", [False, True, False]),
        ("x = 'open\ny", [False, False]),
        ('x = """\\"""\ny"""\nz', [False, True, False]),
    ],
)
def test_inside_strings_knows_pythons_strings(code: str, inside: list[bool]) -> None:
    assert inside_strings(code.split("\n")) == inside


def test_engine_imports_neither_numpy_nor_nbformat() -> None:
    slow = "('numpy', 'nbformat', 'json')"
    code = f"import sys, tito.export; print(*[m for m in {slow} if m in sys.modules])"
    source = str(Path(__file__).parents[1] / "src")
    run = subprocess.run(
        [sys.executable, "-S", "-c", code],
        env=os.environ | {"PYTHONPATH": source},
        capture_output=True,
        text=True,
    )
    assert (run.stdout.strip(), run.stderr) == ("", "")
