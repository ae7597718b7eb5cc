"""nbdev exports the same definitions from our notebook as we do."""

import ast
from pathlib import Path

import pytest

from tito.export import export, export_name, exported_names, fold
from tito.source import read, write_ipynb

TESTS = Path(__file__).parent
MODULES = sorted((TESTS.parent / "course" / "modules").glob("[0-9][0-9]_*"))
COURSE = [folder / f"{folder.name[3:]}.py" for folder in MODULES]
SOURCES = [TESTS / "fixtures" / "tensor.py", *(path for path in COURSE if path.is_file())]
Definitions = dict[str, str]


def nbdevs_export(path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    from nbdev.export import nb_export  # slow to import

    monkeypatch.chdir(folder)
    nb = read(path)
    notebook = folder / f"{path.stem}.ipynb"
    notebook.write_text(write_ipynb(nb), encoding="utf-8")
    nb_export(notebook, lib_path=folder / "tinytorch")
    module = folder.joinpath("tinytorch", *export_name(nb).split(".")).with_suffix(".py")
    return module.read_text(encoding="utf-8")


def definitions(tree: ast.Module) -> Definitions:
    """Every class, function and value, by name, without the indentation of docstrings."""
    found = {}
    for node in ast.parse(ast.unparse(tree)).body:
        for part in ast.walk(node):
            if isinstance(part, ast.FunctionDef | ast.ClassDef) and (
                doc := ast.get_docstring(part)
            ):
                part.body[0] = ast.Expr(ast.Constant(doc))
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found[node.name] = ast.dump(node)
        elif isinstance(node, ast.Assign) and not ast.unparse(node).startswith("__all__"):
            found[ast.unparse(node.targets[0])] = ast.dump(node.value)
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_nbdev_exports_the_same_definitions(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = ast.parse(nbdevs_export(path, tmp_path, monkeypatch))
    assert definitions(fold(theirs)) == definitions(ast.parse(export(read(path))))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_nbdev_gives_the_same_public_names(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = nbdevs_export(path, tmp_path, monkeypatch)
    listed = next(n for n in ast.parse(text).body if ast.unparse(n).startswith("__all__"))
    assert isinstance(listed, ast.Assign)
    methods = {
        n.name for n in ast.parse(text).body if isinstance(n, ast.FunctionDef) and n.decorator_list
    }
    assert (
        set(ast.literal_eval(listed.value)) - methods == set(exported_names(read(path))) - methods
    )
