"""tito.export: cells to a package file that reads as if written by hand."""

import ast
import builtins
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tito.export import code_lines, export, export_name, exported_names, facade, fold
from tito.notebook import method_of
from tito.solutions import strip
from tito.source import Cell, Notebook, SourceError, read

ROOT = Path(__file__).parents[1]
FIXTURE = Path(__file__).parent / "fixtures" / "tensor.py"
RUFF = Path(sys.executable).with_name("ruff")
LIB = Cell("code", "#| default_exp core.thing", {})
CLASS = 'class C:\n    """Doc."""\n\n    def first(self):\n        return 1'


def notebook(*sources: str) -> Notebook:
    return Notebook([LIB, *(Cell("code", f"#| export\n{source}") for source in sources)])


def body(*sources: str) -> str:
    """What follows `__all__`."""
    return re.split(r"__all__ = .*?\]\n+", export(notebook(*sources)), maxsplit=1, flags=re.S)[-1]


def ruff_complaints(workspace: Path) -> str:
    """What ruff says of the package in a workspace that follows the repository's rules."""
    extend = f'[tool.ruff]\nextend = "{ROOT / "pyproject.toml"}"\n'
    (workspace / "pyproject.toml").write_text(extend, encoding="utf-8")
    check = [RUFF, "check", "--no-cache", "--quiet", "--output-format=concise", "."]
    form = [RUFF, "format", "--no-cache", "--quiet", "--diff", "."]
    runs = [subprocess.run(c, capture_output=True, text=True, cwd=workspace) for c in (check, form)]
    return "".join(run.stdout + run.stderr for run in runs)


def execute(code: str) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "exported", "method_of": method_of}
    exec(compile(code, "exported", "exec", dont_inherit=True), names)
    return names


def test_export_of_the_fixture_reads_like_a_file_written_by_hand() -> None:
    expected = FIXTURE.with_name("tensor_exported.txt").read_text(encoding="utf-8")
    assert export(read(FIXTURE)) == expected


def test_export_of_the_fixture_works() -> None:
    names = execute(export(read(FIXTURE)))
    tensor = names["Tensor"]
    assert (1 + tensor([1.0])).data.tolist() == [2.0]
    assert tensor([[1, 2]]).T.data.tolist() == [[1], [2]]
    assert names["Parameter"].__mro__[1] is tensor


def test_export_is_clean_for_ruff(tmp_path: Path) -> None:
    full = read(FIXTURE)
    modules = {f"core.m{n}": [f"name{n}", f"Class{n}", f"CONST_{n}"] for n in range(12)}
    texts = {
        "full": export(full),
        "holes": export(strip(full, "01_tensor")),
        "facade": facade(modules),
        "imports": export(notebook(IMPORTS, USES)),
        "order": export(notebook("\n".join(f"from o import {n}\nUSED_{n} = {n}" for n in MIXED))),
        "sorted": export(notebook("\n".join(f"{name} = 1" for name in MIXED))),
        "classes": export(notebook(*FILLED)),
        "spacing": export(notebook(*SPACING)),
    }
    package = tmp_path / "tinytorch"
    package.mkdir()
    (package / "__init__.py").touch()
    for name, text in texts.items():
        (package / f"{name}.py").write_text(text, encoding="utf-8")
    assert ruff_complaints(tmp_path) == ""


SPACING = [
    "X = 1\nY = 2\n\nZ = 3",
    "# note\n\n\ndef f():\n    pass\n\n\n# loose end",
    "W = 4",
    "# on g\n@staticmethod\ndef g():\n    pass\n\n\nV = 5",
]
MIXED = """SiLU,Sigmoid,relu,ReLU,a10,a2,A1,AB,Ab,aB,ab,a_b,A_B,x,X,MAX_LEN,Max,max,Tensor2,Tensor10
tensor,L1,L1Loss,IO,i""".replace("\n", ",").split(",")
FILLED = [
    "import collections",
    "class A(\n    collections.OrderedDict,\n):  # why: x\n    ...",
    "@method_of(A)\ndef f(self):\n    return 1",
    "A.g = A.f",
    "A.h = A.f",
]
IMPORTS = """import os, sys
import numpy.linalg
import numpy as np
from tinytorch.core.tensor import zeros, Tensor, EPS, a10, a2
from collections import OrderedDict as OD
from collections import abc
import a_b.c
import a_b1
import ab
from tinytorch.core.activations import long_name_of_a_function, other_long_name, one_more_name
from numpy import array as arr, zeros as np_zeros, asarray
from tito.notebook import method_of
import tito.checks as check"""
USES = """USED = [os, sys, numpy, np, zeros, Tensor, EPS, a10, a2, OD, abc, a_b, a_b1, ab, arr]
MORE = [long_name_of_a_function, other_long_name, one_more_name, np_zeros, asarray]"""


def test_imports_are_merged_once_at_the_top() -> None:
    text = export(
        notebook(
            "import b\nfrom a import x",
            "import b\nfrom a import y, x\nfrom __future__ import division",
        )
    )
    assert text.count("import b") == 1 and "from a import x, y" in text
    assert text.index("__future__") < text.index("import b") < text.index("__all__")


def test_tito_is_not_exported() -> None:
    assert "tito" not in export(
        notebook("from tito.notebook import method_of\nimport tito.checks as check\nx = 1")
    )


def test_export_takes_marked_cells_only() -> None:
    nb = notebook("x = 1")
    nb.cells += [
        Cell("code", "print(x)"),
        Cell("code", "#| exporti\ny = 2"),
        Cell("markdown", "#| export\nz = 3"),
    ]
    assert "print" not in export(nb) and "y = 2" in export(nb) and "z = 3" not in export(nb)
    assert exported_names(nb) == ["x"]


def test_exported_names_are_public_and_in_order_of_definition() -> None:
    source = "b = a = 1\nC: int = 3\nd, (e, _f) = 1, (2, 3)\n_g = 1\nh: int\ndef f(): pass"
    assert exported_names(notebook(source, "class B: pass", "import x")) == [
        "b",
        "a",
        "C",
        "d",
        "f",
        "B",
    ]


def test_export_name_comes_from_default_exp() -> None:
    assert export_name(read(FIXTURE)) == "core.tensor"
    with pytest.raises(SourceError, match="default_exp"):
        export_name(Notebook([]))


def test_directives_marks_and_magics_never_appear() -> None:
    text = body(
        "#| exec_doc\n%matplotlib inline\nx = 1\n### BEGIN SOLUTION\ny = 2\n### END SOLUTION"
    )
    assert text == "x = 1\ny = 2\n"


def test_marks_leave_no_double_blank_line() -> None:
    text = body(
        "def f():\n    a = 1\n\n    ### BEGIN SOLUTION\n\n    b = 2\n    ### END SOLUTION\n"
        "\n    return b"
    )
    assert text == "def f():\n    a = 1\n\n    b = 2\n\n    return b\n"


def test_methods_land_inside_their_class() -> None:
    text = body(
        CLASS,
        "x = 1",
        '@method_of(C)\n@property\ndef second(self):\n    """Doc.\n\n    >>> 1\n    """\n'
        "    return 2",
    )
    assert text == (
        CLASS + '\n\n    @property\n    def second(self):\n        """Doc.\n\n        >>> 1\n'
        '        """\n        return 2\n\n\nx = 1\n'
    )


def test_strings_of_a_folded_method_keep_their_value() -> None:
    method = '@method_of(C)\ndef f(self):\n    """Doc\n    more."""\n    s = """a\n  b\n"""\n'
    method += '    t = "x\\\n  y"\n    return s + t'
    assert execute(export(notebook(CLASS, method)))["C"]().f() == "a\n  b\nx  y"


def test_assignments_of_members_land_inside_their_class() -> None:
    text = body(CLASS, "C.a = C.first\nC.b = property(C.first)\nC.limit = 3")
    assert text.endswith(
        "        return 1\n\n    a = first\n    b = property(first)\n    limit = 3\n"
    )


def test_assignments_that_a_class_cannot_compute_stay_where_they_are() -> None:
    text = body(
        CLASS,
        "def g(self):\n    return 2",
        "C.g = g",
        "C.me = C",
        "C.f = lambda self: C.first(self)",
    )
    assert [line for line in text.split("\n") if line.startswith("C.")] == [
        "C.g = g", "C.me = C", "C.f = lambda self: C.first(self)",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "start", ["class C: pass", "class C: ...", "class C:\n    pass", "class C:\n    ...  # soon"]
)
def test_a_filler_body_gives_way_to_methods(start: str) -> None:
    text = body(start, "@method_of(C)\ndef f(self):\n    return 1")
    assert "pass" not in text and "..." not in text and execute(text)["C"]().f() == 1


@pytest.mark.parametrize("indent", ["  ", "\t"])
def test_a_class_keeps_the_indentation_it_was_written_with(indent: str) -> None:
    text = body(f"class C:\n{indent}x = 1", "@method_of(C)\ndef f(self):\n    return self.x")
    assert f"\n\n{indent}def f(self):" in text and execute(text)["C"]().f() == 1


def test_a_method_written_again_takes_the_first_ones_place() -> None:
    again = "@method_of(C)\ndef first(self):\n    return 3"
    text = body(
        CLASS,
        "@method_of(C)\ndef g(self):\n    return 2",
        "@method_of(C)\ndef g(self):\n    return 4",
        again,
    )
    assert text.count("def ") == 2 and text.index("def first") < text.index("def g")
    thing = execute(text)["C"]()
    assert (thing.first(), thing.g()) == (3, 4)


def test_a_property_keeps_its_setter() -> None:
    getter = "class C:\n    @property\n    def x(self):\n        return self._x\n\n"
    setter = "    @x.setter\n    def x(self, v):\n        self._x = v"
    text = body(getter + setter, "@method_of(C)\ndef y(self):\n    return self.x")
    thing = execute(text)["C"]()
    thing.x = 5
    assert thing.y() == 5


def test_a_definition_written_again_takes_the_first_ones_place() -> None:
    text = body("def f():\n    return 1", "x = 1", "def f():\n    return 2")
    assert text == "def f():\n    return 2\n\n\nx = 1\n"


def test_a_definition_that_needs_a_later_name_stays_last() -> None:
    text = body("def f():\n    return 1", "x = 1", "def f(a=x):\n    return a")
    assert text == "x = 1\n\n\ndef f(a=x):\n    return a\n"


def test_a_class_written_again_loses_the_methods_it_lost_in_the_notebook() -> None:
    text = body(
        CLASS,
        "@method_of(C)\ndef old(self):\n    return 1",
        CLASS,
        "@method_of(C)\ndef new(self):\n    return 1",
    )
    assert "old" not in text and "new" in text and text.count("class C") == 1


def test_overloads_are_not_redefinitions() -> None:
    assert (
        body(
            "from typing import overload",
            "@overload\ndef f(x: int): ...\n\n\ndef f(x):\n    return x",
        ).count("def f")
        == 2
    )


def test_annotations_that_name_the_class_are_put_off() -> None:
    text = export(notebook(CLASS, "@method_of(C)\ndef copy(self) -> C:\n    return C()"))
    assert "from __future__ import annotations" in text
    assert isinstance(execute(text)["C"]().copy(), object)
    assert "__future__" not in export(
        notebook(CLASS, "@method_of(C)\ndef n(self) -> int:\n    return 1")
    )


def test_a_method_that_needs_a_later_name_at_once_is_explained() -> None:
    with pytest.raises(SourceError) as caught:
        export(notebook(CLASS, "LIMIT = 3", "@method_of(C)\ndef f(self, n=LIMIT):\n    return n"))
    assert "`LIMIT` is younger than class C" in str(caught.value)
    assert "\nNext: define LIMIT in an exported cell above class C" in str(caught.value)


def test_a_method_of_an_unknown_class_is_explained() -> None:
    with pytest.raises(SourceError, match="no exported cell above defines D\nNext: "):
        export(notebook("@method_of(D)\ndef f(self):\n    return 1"))


def test_a_syntax_error_names_cell_and_line() -> None:
    nb = notebook("x = 1")
    nb.cells.append(
        Cell("code", "#| export\ndef f(:\n    pass", {"exercise": "f"}, "exercise-f", line=30)
    )
    with pytest.raises(
        SourceError, match=r"line 31 \(cell f\): invalid syntax: `def f\(:`\nNext: "
    ):
        export(nb)
    nb.cells[-1].line = 0
    with pytest.raises(SourceError, match="cell f, line 2: "):
        export(nb)


def test_statements_that_share_a_line_are_parted() -> None:
    text = export(notebook("import math; x = math.pi; y = 2"))
    assert "import math\n" in text and "x = math.pi\ny = 2\n" in text


def test_comments_keep_their_place() -> None:
    text = body("x = 1  # one\n# about f\ndef f():\n    return x\n    # last words\n\n# loose")
    assert (
        text
        == "x = 1  # one\n\n\n# about f\ndef f():\n    return x\n    # last words\n\n\n# loose\n"
    )


def test_docstring_is_title_and_first_sentence() -> None:
    prose = (
        "# Module 05: Auto*grad* C:\\new\n\n| map |\n\n"
        "**Gradients** of `f(x)`, see [here](http://x.y). And more.\n"
    )
    text = export(Notebook([Cell("markdown", prose), LIB]))
    assert (
        ast.get_docstring(ast.parse(text))
        == "Auto*grad* C:\\new.\n\nGradients of `f(x)`, see here."
    )


def test_export_of_an_empty_notebook_is_a_module() -> None:
    assert export(Notebook([LIB])) == '"""tinytorch.core.thing."""\n\n__all__ = []\n'


def test_fold_keeps_line_numbers() -> None:
    tree = fold(
        ast.parse(
            f"{CLASS}\n\n\n@method_of(C)\ndef f(self):\n    return undefined\n\n\nC.g = C.f\n"
        )
    )
    names: dict[str, Any] = {}
    exec(compile(tree, "source.py", "exec"), names)
    with pytest.raises(NameError) as caught:
        names["C"]().g()
    assert caught.traceback[-1].lineno + 1 == 10


def test_fold_agrees_with_export_on_the_fixture() -> None:
    nb = read(FIXTURE)
    cells = ["\n".join(code_lines(c)) for c in nb.cells if "#| export" in c.directives]
    ours = {
        n.name: ast.dump(n)
        for n in ast.parse(export(nb)).body
        if isinstance(n, ast.ClassDef | ast.FunctionDef)
    }
    folded = ast.parse(ast.unparse(fold(ast.parse("\n".join(cells)))))
    theirs = {n.name: n for n in folded.body if isinstance(n, ast.ClassDef | ast.FunctionDef)}
    assert {name: undocumented(node) for name, node in theirs.items()} == {
        name: undocumented(node) for name, node in parsed(export(nb)).items()
    }
    assert list(theirs) == list(ours)


def parsed(text: str) -> dict[str, ast.stmt]:
    return {
        n.name: n for n in ast.parse(text).body if isinstance(n, ast.ClassDef | ast.FunctionDef)
    }


def undocumented(node: ast.stmt) -> str:
    """The definition without the indentation of its docstrings."""
    for part in ast.walk(node):
        if isinstance(part, ast.FunctionDef | ast.ClassDef) and (doc := ast.get_docstring(part)):
            part.body[0] = ast.Expr(ast.Constant(doc))
    return ast.dump(node)


def test_facade_takes_a_name_from_the_last_module_that_has_it() -> None:
    text = facade({"core.a": ["x", "Y"], "core.b": ["x"], "core.c": []})
    assert "from tinytorch.core.a import Y\nfrom tinytorch.core.b import x\n" in text
    assert ast.literal_eval(text.split("__all__ = ")[1]) == ["Y", "x"]


NAMES = st.sampled_from(["f", "g", "h"])
STATEMENTS = st.one_of(
    st.builds(lambda n, v: f"def {n}():\n    return {v}", NAMES, st.integers(0, 99)),
    st.builds(
        lambda n, v: f"@method_of(C)\ndef {n}(self):\n    return {v}", NAMES, st.integers(0, 99)
    ),
    st.builds(lambda n, v: f"C.{n} = {v}", st.sampled_from(["a", "b"]), st.integers(0, 9)),
    st.builds(lambda n, v: f"{n} = {v}", st.sampled_from(["x", "y"]), st.integers(0, 9)),
    st.sampled_from(["z = [n for n in range(3)]", "# note", "import math", CLASS]),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(STATEMENTS, max_size=8))
def test_exported_code_behaves_like_the_notebook(statements: list[str]) -> None:
    told = execute("\n\n".join([CLASS, *statements]))
    text = export(notebook(CLASS, *statements))
    assert observable(told) == observable(execute(text))


def observable(names: dict[str, Any]) -> dict[str, Any]:
    """Public values: functions by what they return, the class by what its members are or return."""
    seen: dict[str, Any] = {n: names.get(n) for n in "xyz"}
    thing = names["C"]()
    for name in ("first", "f", "g", "h", "a", "b"):
        member = getattr(thing, name, None)
        seen[f"C.{name}"] = member() if callable(member) else member
    return seen


def test_builtins_may_stand_in_member_assignments() -> None:
    assert "property" in dir(builtins)
    assert "    p = property(first)" in body(CLASS, "C.p = property(C.first)")
