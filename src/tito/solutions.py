"""Solution regions and the holes that take their place in a learner's notebook."""

from __future__ import annotations

import ast
import re

from tito.source import ROLES, Cell, Notebook, SourceError, inside_strings, with_source

TYPE_CHECKING = False  # known to type checkers; importing `typing` costs milliseconds
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

BEGIN = r"[ \t]*### BEGIN SOLUTION\b"
END = r"[ \t]*### END SOLUTION\b"
_MARK = r"(?:BEGIN|END) SOLUTION"
_RAISE = r"([ \t]*)raise NotImplementedError\(([\"']).*\2\)[ \t]*(?:#.*)?"
_ELLIPSIS = r"[A-Za-z_]\w*[ \t]*=[ \t]*\.\.\.[ \t]*(?:#.*)?"
ANSWER = "*Your answer:*"  # the last line of a question; the learner writes below it


def strip(nb: Notebook, module_id: str) -> Notebook:
    """The learner's notebook: every solution region replaced by a hole that names its exercise.

    Raises SourceError for a region that is open, nested, doubled or outside an exercise, for an
    exercise without one, and for a role and name used twice.
    """
    _refuse_duplicates(nb.cells)
    return Notebook([_strip_cell(cell, module_id) for cell in nb.cells], dict(nb.metadata))


def _refuse_duplicates(cells: Iterable[Cell]) -> None:
    seen: dict[tuple[str, str], int] = {}
    for cell in cells:
        roles = [role for role in ROLES if role in cell.metadata]
        if len(roles) > 1:
            raise _error(cell, 0, f"one cell is both {roles[0]} and {roles[1]}", "keep one of them")
        key = (cell.role or "", cell.name)
        if cell.role and key in seen:
            what = f'{cell.role}="{cell.name}" is used twice (first at line {seen[key]})'
            raise _error(cell, 0, what, "give the second cell another name")
        seen[key] = cell.line


def _strip_cell(cell: Cell, module_id: str) -> Cell:
    region = find_region(cell)
    if cell.role == "exercise" and region is None:
        what = f"exercise {cell.name} has no solution region"
        raise _error(cell, 0, what, "put ### BEGIN SOLUTION and ### END SOLUTION around the answer")
    if region is None:
        return cell
    if cell.role not in ("exercise", "question"):
        what = "a solution region outside an exercise cell"
        raise _error(cell, region[0], what, 'add exercise="…" to the cell header')
    lines = cell.source.split("\n")
    begin, end = region
    lines[begin : end + 1] = _hole(cell, lines[begin], module_id)
    return with_source(cell, "\n".join(lines))


def _hole(cell: Cell, begin_line: str, module_id: str) -> list[str]:
    if cell.kind != "code":
        return [ANSWER]
    indent = begin_line[: len(begin_line) - len(begin_line.lstrip())]
    names = [] if indent else _assigned(cell)
    if names:
        return [f"{name} = ..." for name in names]
    return [f'{indent}raise NotImplementedError("{module_id}: {cell.name}")']


def _assigned(cell: Cell) -> list[str]:
    """Names that the top-level region assigns, in order; none if it also defines functions."""
    try:
        body = ast.parse(solution(cell)).body
    except SyntaxError as error:
        what = f"the solution of {cell.name} is not Python: {error.msg}"
        raise _error(cell, 0, what, "mend the solution") from None
    if any(isinstance(node, ast.FunctionDef | ast.ClassDef) for node in body):
        return []
    targets = [target for node in body for target in _targets(node)]
    return list(dict.fromkeys(target.id for target in targets))


def _targets(node: ast.stmt) -> Iterator[ast.Name]:
    if isinstance(node, ast.Assign):
        roots = node.targets
    elif isinstance(node, ast.AnnAssign):
        roots = [node.target]
    else:
        return
    for root in roots:
        parts = root.elts if isinstance(root, ast.Tuple | ast.List) else [root]
        yield from (part for part in parts if isinstance(part, ast.Name))


def find_region(cell: Cell) -> tuple[int, int] | None:
    """Numbers (from 0, in the cell) of the BEGIN and END lines. SourceError if they do not pair."""
    if not re.search(_MARK, cell.source):
        return None
    begin: int | None = None
    region: tuple[int, int] | None = None
    for number, line in enumerate(cell.source.split("\n")):
        if re.match(BEGIN, line):
            if begin is not None or region is not None:
                kind = "nested" if begin is not None else "second"
                raise _error(cell, number, f"{kind} ### BEGIN SOLUTION", "one region per cell")
            begin = number
        elif re.match(END, line):
            if begin is None:
                raise _error(cell, number, "### END SOLUTION without BEGIN", "add the BEGIN line")
            region, begin = (begin, number), None
    if begin is not None:
        raise _error(cell, begin, "### BEGIN SOLUTION is never closed", "add ### END SOLUTION")
    return region


def solution(cell: Cell) -> str:
    """The text of the solution region, dedented. Raises SourceError if there is none."""
    region = find_region(cell)
    if region is None:
        raise _error(cell, 0, f"{cell.name or 'this cell'} has no solution region", "name another")
    lines = cell.source.split("\n")
    indent = _indent(lines[region[0]])
    return shift("\n".join(lines[region[0] + 1 : region[1]]), indent, "")


def fill(cell: Cell, body: str) -> Cell:
    """The cell with `body` (dedented) where its solution region or its hole is.

    The marks of a region stay, so that it can be filled again. Raises SourceError if there is
    neither a region nor a hole.
    """
    lines = cell.source.split("\n")
    region = find_region(cell)
    if region:
        begin, end = region[0] + 1, region[1]
        indent = _indent(lines[region[0]])
    else:
        begin, end = _find_hole(cell, lines)
        indent = _indent(lines[begin])
    body = body.strip("\n")
    lines[begin:end] = shift(body, "", indent).split("\n") if body else []
    return with_source(cell, "\n".join(lines))


def _find_hole(cell: Cell, lines: list[str]) -> tuple[int, int]:
    """First line of the hole and the first one after it."""
    if cell.kind != "code":
        matches = [len(lines) - 1] if lines[-1].strip() == ANSWER else []
    else:
        matches = [n for n, line in enumerate(lines) if _is_raise(cell, line)]
    if matches:
        return matches[0], matches[0] + 1
    begin = next((n for n, line in enumerate(lines) if re.fullmatch(_ELLIPSIS, line)), None)
    if begin is None or cell.kind != "code":
        what = f"{cell.name or 'this cell'} has neither a solution region nor a hole"
        raise _error(cell, 0, what, "start from the cell as it was given")
    end = begin
    while end < len(lines) and re.fullmatch(_ELLIPSIS, lines[end]):
        end += 1
    return begin, end


def _is_raise(cell: Cell, line: str) -> bool:
    return bool(re.fullmatch(_RAISE, line)) and f": {cell.name}" in line


def is_hole(cell: Cell) -> bool:
    """Whether an exercise (or a question) is still unsolved as shipped."""
    if cell.role not in ("exercise", "question") or re.search(BEGIN, cell.source):
        return False
    try:
        _find_hole(cell, cell.source.split("\n"))
    except SourceError:
        return False
    return True


def shift(code: str, old: str, new: str) -> str:
    """Replace the indentation `old` by `new`; text inside strings keeps its value."""
    lines = code.split("\n")
    inside = inside_strings(lines)
    moved = (
        line if kept or not line.strip() else new + line.removeprefix(old)
        for line, kept in zip(lines, inside, strict=True)
    )
    return "\n".join(moved)


def _indent(line: str) -> str:
    return line[: len(line) - len(line.lstrip())]


def _error(cell: Cell, number: int, what: str, next_step: str) -> SourceError:
    where = f"line {cell.line + number}" if cell.line else f"cell {cell.id}, line {number + 1}"
    return SourceError(f"{where}: {what}", next_step)
