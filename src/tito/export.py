"""From exported cells to a package file that reads as if written by hand."""

from __future__ import annotations

import ast
import builtins
import re
import sys
from itertools import pairwise

from tito.solutions import BEGIN, END, shift
from tito.source import Cell, Notebook, SourceError, inside_strings, magic_lines

TYPE_CHECKING = False  # known to type checkers; importing `typing` costs milliseconds
if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Mapping

WIDTH = 100
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_COMPREHENSIONS = (ast.GeneratorExp, ast.ListComp, ast.SetComp, ast.DictComp)
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, *_COMPREHENSIONS)
_BUILTINS = frozenset(dir(builtins))
_EXPORT = r"#\|\s*export[si]?\b"


class Piece:
    """A top-level statement (or loose comments): its text, and the methods that belong into it."""

    def __init__(
        self, lines: list[str], node: ast.stmt | None, cell: Cell, public: bool, gap: int
    ) -> None:
        self.lines, self.node, self.cell, self.public, self.gap = lines, node, cell, public, gap
        self.methods: list[Piece] = []

    @property
    def defined(self) -> str:
        return self.node.name if isinstance(self.node, _DEFINITIONS) else ""


def export_name(nb: Notebook) -> str:
    """The dotted name below `tinytorch` that `#| default_exp` states. SourceError without one."""
    for cell in nb.cells:
        for directive in cell.directives:
            words = directive[2:].split()
            if len(words) == 2 and words[0] == "default_exp":
                return words[1]
    raise SourceError("no cell says where to export to", "add a line `#| default_exp core.tensor`")


def export(nb: Notebook) -> str:
    """The text of the package file: docstring, imports, `__all__`, then the cells in order.

    Methods written with `@method_of(Class)` stand inside their class; a definition made twice
    appears once, as it was written last. Raises SourceError, with cell and line, for code that
    is not Python or that cannot stand in a class.
    """
    imports, pieces = _pieces(nb)
    pieces = _last_wins(_fold_pieces(pieces))
    if _needs_future(pieces):
        imports.append(ast.ImportFrom("__future__", [ast.alias("annotations")], 0))
    blocks = [_docstring(nb), _import_block(imports), _all_block(_names(pieces))]
    head = "\n\n".join(block for block in blocks if block)
    return _join(head, pieces)


def exported_names(nb: Notebook) -> list[str]:
    """Public names that the exported cells define at top level, in order of definition."""
    return _names(_last_wins(_fold_pieces(_pieces(nb)[1])))


# Cells to pieces --------------------------------------------------------------------------------


def _pieces(nb: Notebook) -> tuple[list[ast.Import | ast.ImportFrom], list[Piece]]:
    imports: list[ast.Import | ast.ImportFrom] = []
    pieces: list[Piece] = []
    for cell in filter(is_exported, nb.cells):
        private = any(re.match(r"#\|\s*exporti\b", mark) for mark in cell.directives)
        found = _cell_pieces(cell, public=not private)
        imports += [p.node for p in found if isinstance(p.node, ast.Import | ast.ImportFrom)]
        pieces += [p for p in found if not isinstance(p.node, ast.Import | ast.ImportFrom)]
    return imports, pieces


def is_exported(cell: Cell) -> bool:
    """Whether the cell carries `#| export`."""
    return any(re.match(_EXPORT, mark) for mark in cell.directives)


def defined_names(cell: Cell) -> list[str]:
    """Functions, classes and `Class.name = …` of a cell; SourceError if it cannot be read."""
    names = []
    for node in _parse(cell, code_lines(cell)).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.append(node.name)
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Attribute):
            names.append(node.targets[0].attr)
    return names


def code_lines(cell: Cell) -> list[str]:
    """The cell's lines with directives, solution marks and magics blanked; numbers stay true."""
    lines = cell.source.split("\n")
    blank = {number for number, _ in magic_lines(lines) if not _is_comment(lines[number])}
    blank |= _mark_numbers(cell)
    return ["" if number in blank else line for number, line in enumerate(lines)]


def _is_comment(line: str) -> bool:
    return line.lstrip().startswith("#")


def _is_mark(line: str) -> bool:
    return line.startswith("#|") or bool(re.match(BEGIN, line) or re.match(END, line))


def _cell_pieces(cell: Cell, public: bool) -> list[Piece]:
    lines = code_lines(cell)
    marks = _mark_numbers(cell)
    nodes = _parse(cell, lines).body
    ends = [0, *(_node_end(lines, node) for node in nodes)]
    pieces: list[Piece] = []
    for node, done, end in zip(nodes, ends, ends[1:], strict=False):
        kept = _tidy(lines, marks, done, end)
        pieces.append(Piece(_trim(kept), node, cell, public, _blanks(kept)))
    for before, after in pairwise(pieces):
        if _shares_line(before.node, after.node):  # import math; x = 1
            before.lines, after.lines = [_unparsed(before)], [_unparsed(after)]
    kept = _tidy(lines, marks, ends[-1], len(lines))
    rest = Piece(_trim(kept), None, cell, public, _blanks(kept))
    return [*pieces, rest] if rest.lines else pieces


def _shares_line(before: ast.stmt | None, after: ast.stmt | None) -> bool:
    return bool(before and after and after.lineno <= (before.end_lineno or 0))


def _unparsed(piece: Piece) -> str:
    return ast.unparse(piece.node) if piece.node else ""


def _node_end(lines: list[str], node: ast.stmt) -> int:
    """Number of lines up to the end of the statement and of comments indented below it."""
    end = after = node.end_lineno or node.lineno
    while after < len(lines) and (not lines[after].strip() or lines[after].startswith((" ", "\t"))):
        after += 1
        end = after if lines[after - 1].strip() else end
    return end


def _mark_numbers(cell: Cell) -> set[int]:
    return {number for number, line in enumerate(cell.source.split("\n")) if _is_mark(line)}


def _tidy(lines: list[str], marks: set[int], first: int, end: int) -> list[str]:
    """The lines without those of removed marks, and no double blank line where one stood."""
    kept: list[str] = []
    for number in range(first, end):
        if number not in marks:
            kept.append(lines[number])
        elif kept and not kept[-1].strip() and number + 1 < end and not lines[number + 1].strip():
            kept.pop()
    return kept


def _trim(lines: list[str]) -> list[str]:
    while lines and not lines[0].strip():
        lines = lines[1:]
    while lines and not lines[-1].strip():
        lines = lines[:-1]
    return lines


def _blanks(lines: list[str]) -> int:
    count = 0
    while count < len(lines) and not lines[count].strip():
        count += 1
    return min(count, 1)


def _parse(cell: Cell, lines: list[str]) -> ast.Module:
    try:
        return ast.parse("\n".join(lines) + "\n")
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None) or 1
        text = lines[line - 1].strip() if line <= len(lines) else ""
        what = f"{_where(cell, line)}: {getattr(error, 'msg', error)}: `{text}`"
        raise SourceError(what, "mend that line, run the cell, then export again") from None


def _where(cell: Cell, line: int) -> str:
    label = f"cell {cell.name}" if cell.name else f"cell {cell.id}"
    return f"line {cell.line + line - 1} ({label})" if cell.line else f"{label}, line {line}"


# Methods into classes ---------------------------------------------------------------------------


def fold(tree: ast.Module) -> ast.Module:
    """The tree with `@method_of(C)` functions and `C.x = C.y` inside class C; lines stay true.

    A method defined again takes the first one's place. If annotations of moved methods need names
    that the class body cannot see yet, `from __future__ import annotations` is added.
    """
    classes: dict[str, ast.ClassDef] = {}
    body: list[ast.stmt] = []
    moved: list[ast.stmt] = []
    for node in tree.body:
        owner = _owner(node, classes)
        if owner:
            method = _as_member(node, owner)
            _place(classes[owner].body, method)
            moved.append(method)
            continue
        body.append(node)
        if isinstance(node, ast.ClassDef):
            classes[node.name] = node
    if any(_annotated(node) for node in moved) and not _has_future(body):
        body.insert(1 if _is_docstring(body[0]) else 0, _future())
    folded = ast.Module(body, tree.type_ignores)
    return ast.fix_missing_locations(folded)


def _future() -> ast.ImportFrom:
    return ast.ImportFrom("__future__", [ast.alias("annotations")], 0, lineno=1, col_offset=0)


def _has_future(body: list[ast.stmt]) -> bool:
    return any(
        isinstance(node, ast.ImportFrom)
        and node.module == "__future__"
        and any(alias.name == "annotations" for alias in node.names)
        for node in body
    )


def _place(body: list[ast.stmt], method: ast.stmt) -> None:
    position = _same_name(body, method)
    if position is not None:
        body[position] = method
    elif len(body) == 1 and _is_filler(body[0]):
        body[0] = method
    else:
        body.append(method)


def _same_name(body: list[ast.stmt], method: ast.stmt) -> int | None:
    name = getattr(method, "name", None)
    if name is None or _extends(method):
        return None
    found = [n for n, node in enumerate(body) if getattr(node, "name", None) == name]
    return found[0] if len(found) == 1 else None


def _extends(node: ast.stmt | None) -> bool:
    """Whether a definition adds to an earlier one of its name: @x.setter, @overload."""
    name = getattr(node, "name", "")
    for decorator in getattr(node, "decorator_list", []):
        names = {part.id for part in ast.walk(decorator) if isinstance(part, ast.Name)}
        attributes = {part.attr for part in ast.walk(decorator) if isinstance(part, ast.Attribute)}
        if name in names or "overload" in names | attributes or "register" in attributes:
            return True
    return False


def _is_filler(node: ast.stmt) -> bool:
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return node.value.value is Ellipsis
    return isinstance(node, ast.Pass)


def _is_docstring(node: ast.stmt) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _owner(node: ast.stmt | None, classes: Container[str]) -> str:
    """The known class that `node` belongs into, or an empty string."""
    name = _method_of(node) if isinstance(node, _DEFINITIONS) else _assigned_class(node)
    return name if name in classes else ""


def _assigned_class(node: ast.stmt | None) -> str:
    """C for `C.x = value`, if a class body could compute the value: from C's members alone."""
    if not isinstance(node, ast.Assign) or len(node.targets) != 1:
        return ""
    target = node.targets[0]
    if not (isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name)):
        return ""
    owner = target.value.id
    members = {id(part.value) for part in ast.walk(node.value) if isinstance(part, ast.Attribute)}
    scopes = any(isinstance(part, _SCOPES) for part in ast.walk(node.value))
    names = [part for part in ast.walk(node.value) if isinstance(part, ast.Name)]
    known = all(id(part) in members if part.id == owner else part.id in _BUILTINS for part in names)
    return owner if known and not scopes else ""


def _method_of(node: ast.stmt | None) -> str:
    for decorator in getattr(node, "decorator_list", []):
        if _is_method_of(decorator):
            return str(decorator.args[0].id)
    return ""


def _is_method_of(decorator: ast.expr) -> bool:
    return (
        isinstance(decorator, ast.Call)
        and isinstance(decorator.func, ast.Name)
        and decorator.func.id == "method_of"
        and len(decorator.args) == 1
        and isinstance(decorator.args[0], ast.Name)
    )


class _Members(ast.NodeTransformer):
    """`C.x` -> `x`."""

    def __init__(self, owner: str) -> None:
        self.owner = owner

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        self.generic_visit(node)
        if isinstance(node.value, ast.Name) and node.value.id == self.owner:
            return ast.copy_location(ast.Name(node.attr, node.ctx), node)
        return node


def _as_member(node: ast.stmt, owner: str) -> ast.stmt:
    if isinstance(node, _DEFINITIONS):
        node.decorator_list = [d for d in node.decorator_list if not _is_method_of(d)]
        return node
    changed: ast.stmt = _Members(owner).visit(node)
    return changed


def _annotations(node: ast.stmt) -> Iterator[ast.expr]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        arguments = node.args
        every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
        every += [extra for extra in (arguments.vararg, arguments.kwarg) if extra]
        yield from (argument.annotation for argument in every if argument.annotation)
        if node.returns:
            yield node.returns


def _annotated(node: ast.stmt) -> bool:
    return any(
        isinstance(part, ast.Name) and part.id not in _BUILTINS
        for note in _annotations(node)
        for part in ast.walk(note)
    )


def _fold_pieces(pieces: list[Piece]) -> list[Piece]:
    """The same as `fold`, on text: a class piece collects its methods in `methods`."""
    classes: dict[str, Piece] = {}
    later: dict[str, set[str]] = {}  # names bound since the class began
    kept: list[Piece] = []
    for piece in pieces:
        owner = _owner(piece.node, classes)
        if owner:
            _refuse_later(piece, owner, later[owner])
            classes[owner].methods.append(piece)
            continue
        _refuse_foreign(piece)
        kept.append(piece)
        for names in later.values():
            names.update(_bound(piece.node))
        if isinstance(piece.node, ast.ClassDef):
            classes[piece.defined] = piece
            later[piece.defined] = {piece.defined}
    return kept


def _refuse_foreign(piece: Piece) -> None:
    owner = _method_of(piece.node)
    if owner and piece.node:
        what = f"{_where(piece.cell, piece.node.lineno)}: no exported cell above defines {owner}"
        raise SourceError(what, f"put `#| export` on the cell that defines class {owner}")


def _refuse_later(piece: Piece, owner: str, later: set[str]) -> None:
    """A method's defaults and decorators are computed with the class: no later names there."""
    if not isinstance(piece.node, _DEFINITIONS):
        return
    used = sorted(_used_at_once(piece.node) & later)
    if used:
        what = f"{_where(piece.cell, piece.node.lineno)}: `{used[0]}` is younger than class {owner}"
        raise SourceError(what, f"define {used[0]} in an exported cell above class {owner}")


def _used_at_once(node: ast.AST | None) -> set[str]:
    """Names needed when the statement runs, not only when what it defines is called."""
    roots: list[ast.AST] = [node] if node else []
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        defaults = [*node.args.defaults, *(value for value in node.args.kw_defaults if value)]
        roots = [*defaults, *(mark for mark in node.decorator_list if not _is_method_of(mark))]
    elif isinstance(node, ast.ClassDef):
        inner = set().union(*(_used_at_once(part) for part in node.body))
        roots = [*node.bases, *node.keywords, *node.decorator_list]
        return inner.union(*(_used_at_once(root) for root in roots))
    names: set[str] = set()
    for root in roots:
        scopes = [part for part in ast.walk(root) if isinstance(part, _SCOPES)]
        later = {id(part) for scope in scopes for part in ast.walk(scope)}
        parts = [part for part in ast.walk(root) if id(part) not in later]
        names |= {part.id for part in parts if isinstance(part, ast.Name)}
    return names


def _bound(node: ast.stmt | None) -> set[str]:
    if isinstance(node, _DEFINITIONS):
        return {node.name}
    if isinstance(node, ast.Assign | ast.AnnAssign):
        return set(_assigned_names(node))
    return set()


def _assigned_names(node: ast.Assign | ast.AnnAssign) -> list[str]:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    parts = [part for target in targets for part in getattr(target, "elts", [target])]
    return [part.id for part in parts if isinstance(part, ast.Name)]


def _needs_future(pieces: list[Piece]) -> bool:
    return any(m.node and _annotated(m.node) for piece in pieces for m in piece.methods)


def _last_wins(pieces: list[Piece]) -> list[Piece]:
    """One definition per name: the last one written, where the first stood.

    It stays where it is if computing it needs a name bound in between.
    """
    kept: list[Piece] = []
    for piece in pieces:
        same = [
            n for n, other in enumerate(kept) if piece.defined and other.defined == piece.defined
        ]
        chained = [piece.node, *(kept[n].node for n in same)]
        if not same or any(_extends(node) for node in chained):
            kept.append(piece)
            continue
        between = set().union(*(_bound(other.node) for other in kept[same[0] + 1 :]))
        if _needs(piece) & between:
            del kept[same[0]]
            kept.append(piece)
        else:
            kept[same[0]] = piece
    return kept


def _needs(piece: Piece) -> set[str]:
    return _used_at_once(piece.node).union(*(_used_at_once(m.node) for m in piece.methods))


# Pieces to text ---------------------------------------------------------------------------------


def _names(pieces: list[Piece]) -> list[str]:
    names: list[str] = []
    for piece in pieces:
        if not piece.public:
            continue
        if isinstance(piece.node, ast.Assign) or (
            isinstance(piece.node, ast.AnnAssign) and piece.node.value
        ):
            names += _assigned_names(piece.node)
        elif piece.defined:
            names.append(piece.defined)
    return list(dict.fromkeys(name for name in names if not name.startswith("_")))


def _join(head: str, pieces: list[Piece]) -> str:
    text = head
    previous: Piece | None = None
    for piece in pieces:
        body = _class_text(piece) if piece.methods else "\n".join(piece.lines)
        text += "\n" * (1 + _gap(previous, piece)) + body
        previous = piece
    return text.rstrip("\n") + "\n"


def _gap(previous: Piece | None, piece: Piece) -> int:
    """Blank lines before `piece`: two around definitions, else as written, one between cells."""
    if piece.defined or (previous and previous.defined):
        return 2
    if previous is None or previous.cell is not piece.cell:
        return 1
    return piece.gap


class Member:
    """A statement of a class body and the blank lines before it (-1: as its kind wants)."""

    def __init__(self, node: ast.stmt, lines: list[str], gap: int = -1) -> None:
        self.node, self.lines, self.gap = node, lines, gap


def _class_text(piece: Piece) -> str:
    """The class with its methods: a method written again takes the first one's place."""
    node = ast.parse("\n".join(piece.lines)).body[0]
    assert isinstance(node, ast.ClassDef)
    head, members = _class_parts(piece.lines, node)
    first = piece.lines[node.body[0].lineno - 1]
    own_line = node.body[0].lineno > node.lineno
    indent = first[: len(first) - len(first.lstrip())] if own_line else "    "
    for method in piece.methods:
        member = _member(method, node.name, indent)
        position = _same_name([own.node for own in members], member.node)
        if position is None:
            members.append(member)
        else:
            members[position] = Member(member.node, member.lines, members[position].gap)
    if _is_filler(members[0].node):
        members = members[1:]
    text = "\n".join(head)
    previous: ast.stmt | None = None
    for own in members:
        text += "\n" * (1 + _member_gap(previous, own)) + "\n".join(own.lines)
        previous = own.node
    return text


def _class_parts(lines: list[str], node: ast.ClassDef) -> tuple[list[str], list[Member]]:
    """Lines up to the class's colon, and the statements of its body with their comments."""
    first = node.body[0]
    if first.lineno == node.lineno:  # class Tensor: ...
        split = len(lines[node.lineno - 1].encode()[: first.col_offset].decode())
        head = [*lines[: node.lineno - 1], lines[node.lineno - 1][:split].rstrip()]
        return head, [Member(first, [f"    {lines[node.lineno - 1][split:]}"], 0)]
    done = _header_end(lines, node)
    head, members = lines[:done], []
    for item in node.body:
        end = _node_end(lines, item) if item is node.body[-1] else item.end_lineno or item.lineno
        members.append(Member(item, _trim(lines[done:end]), _blanks(lines[done:end])))
        done = max(done, end)
    return head, members


def _header_end(lines: list[str], node: ast.ClassDef) -> int:
    """Number of lines up to the one that ends the class header with its colon."""
    ends = [part.end_lineno or 0 for part in (*node.bases, *(key.value for key in node.keywords))]
    number = max([node.lineno, *ends])
    while not lines[number - 1].partition("#")[0].rstrip().endswith(":"):
        number += 1
    return number


def _member_gap(previous: ast.stmt | None, member: Member) -> int:
    if member.gap >= 0 or previous is None:
        return max(member.gap, 0) if previous is not None else 0
    around = isinstance(previous, _DEFINITIONS) or isinstance(member.node, _DEFINITIONS)
    return int(around or _is_docstring(previous))


def _member(method: Piece, owner: str, indent: str) -> Member:
    """The method as it stands in the class: decorator gone, indented, other strings unchanged."""
    lines = list(method.lines)
    node = ast.parse("\n".join(lines)).body[0]
    if isinstance(node, ast.Assign):
        text = shift("\n".join(_member_assignment(lines, node, owner)), "", indent)
        return Member(_as_member(node, owner), text.split("\n"))
    docs = _docstring_lines(node)
    inside = inside_strings(lines)
    dropped = _decorator_lines(node)
    moved = [line if not line.strip() or (inside[n] and n not in docs) else indent + line
             for n, line in enumerate(lines)]  # fmt: skip
    kept = [line for number, line in enumerate(moved) if number not in dropped]
    return Member(_as_member(node, owner), kept)


def _decorator_lines(node: ast.stmt) -> set[int]:
    marks: list[ast.expr] = list(filter(_is_method_of, getattr(node, "decorator_list", [])))
    return {n for mark in marks for n in range(mark.lineno - 1, mark.end_lineno or mark.lineno)}


def _docstring_lines(node: ast.stmt) -> set[int]:
    """Indices of the lines that docstrings within `node` continue on."""
    numbers: set[int] = set()
    for part in ast.walk(node):
        if isinstance(part, _DEFINITIONS) and _is_docstring(part.body[0]):
            first = part.body[0]
            numbers.update(range(first.lineno, first.end_lineno or first.lineno))
    return numbers


def _member_assignment(lines: list[str], node: ast.Assign, owner: str) -> list[str]:
    """`C.x = C.y` -> `x = y`, by position, from the right so that columns stay true."""
    roots = [part.value for part in ast.walk(node) if isinstance(part, ast.Attribute)]
    names = [root for root in roots if isinstance(root, ast.Name) and root.id == owner]
    lines = list(lines)
    for name in sorted(names, key=lambda part: (part.lineno, part.col_offset), reverse=True):
        encoded = lines[name.lineno - 1].encode()
        start, end = name.col_offset, name.end_col_offset or 0
        lines[name.lineno - 1] = (encoded[:start] + encoded[end:].lstrip(b" ")[1:]).decode()
    return lines


# The top of the file ----------------------------------------------------------------------------


def _docstring(nb: Notebook) -> str:
    title, sentence = _heading(nb)
    if not title:
        title = f"tinytorch.{export_name(nb)}"
    one = f'"""{title}."""' if title[-1] not in ".?!" else f'"""{title}"""'
    if not sentence:
        return one
    import textwrap

    body = textwrap.fill(sentence, WIDTH, break_long_words=False, break_on_hyphens=False)
    return f'{one[:-3]}\n\n{body}\n"""'


def _heading(nb: Notebook) -> tuple[str, str]:
    """Title of the first H1 without its number, and the first sentence of the prose below it."""
    for cell in nb.cells:
        match = re.search(r"^# +(.+)$", cell.source, re.M) if cell.kind == "markdown" else None
        if match:
            title = re.sub(r"^(?:module )?\d+\s*[·:.–—-]*\s*", "", match.group(1), flags=re.I)
            return _plain(title), _first_sentence(cell.source[match.end() :])
    return "", ""


def _first_sentence(text: str) -> str:
    paragraphs = (part.strip() for part in re.split(r"\n\s*\n", text))
    other = r"$|[#>|~$<]|```|[*+-] |!\[|\d+\. "  # headings, tables, code, formulas, lists, images
    prose = (part for part in paragraphs if not re.match(other, part))
    words = _plain(next(prose, ""))
    match = re.match(r".+?[.!?](?=\s+[A-Z\"'(]|$)", words)
    return match.group() if match else words


def _plain(text: str) -> str:
    """Markdown as plain words that can stand in a docstring."""
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", " ".join(text.split()))
    text = re.sub(r"(\*\*|__)(?=\S)(.+?)(?<=\S)\1", r"\2", text)
    text = re.sub(r"(?<![\w*])\*(?=\S)([^*]+?)(?<=\S)\*(?![\w*])", r"\1", text)
    return text.replace("\\", "\\\\").replace('"""', "'''").rstrip('"')


def _import_block(nodes: Iterable[ast.Import | ast.ImportFrom]) -> str:
    """The imports merged and sorted: __future__, standard library, packages, tinytorch."""
    plain: dict[int, set[tuple[str, str]]] = {}
    names: dict[int, dict[str, set[tuple[str, str]]]] = {}
    for node in nodes:
        module = "." * node.level + (node.module or "") if isinstance(node, ast.ImportFrom) else ""
        for alias in node.names:
            entry = (alias.name, alias.asname or "")
            if isinstance(node, ast.Import):
                plain.setdefault(_section(alias.name), set()).add(entry)
            elif module.split(".")[0] != "tito":
                names.setdefault(_section(module), {}).setdefault(module, set()).add(entry)
    plain = {key: {e for e in entries if e[0].split(".")[0] != "tito"}
             for key, entries in plain.items()}  # fmt: skip
    sections = [
        "\n".join([*_plain_imports(plain.get(key, set())), *_from_imports(names.get(key, {}))])
        for key in sorted({*plain, *names})
    ]
    return "\n\n".join(section for section in sections if section)


def _section(module: str) -> int:
    root = module.split(".")[0]
    if root == "__future__":
        return 0
    if root in sys.stdlib_module_names:
        return 1
    return {"tinytorch": 3, "": 4}.get(root, 2)


def _plain_imports(entries: set[tuple[str, str]]) -> list[str]:
    ordered = sorted(entries, key=lambda entry: (_module_key(entry[0]), entry[1]))
    return [f"import {_alias(entry)}" for entry in ordered]


def _alias(entry: tuple[str, str]) -> str:
    return f"{entry[0]} as {entry[1]}" if entry[1] and entry[1] != entry[0] else entry[0]


def _from_imports(modules: dict[str, set[tuple[str, str]]]) -> list[str]:
    """One line per module, and one per renamed name, in isort's order."""
    lines: list[tuple[Key, Key, str]] = []
    for module, entries in modules.items():
        start = f"from {module} import "
        together = sorted((name for name, renamed in entries if not renamed), key=_member_key)
        if together:
            wrapped = _wrap(start, together, "(", ")")
            lines.append((_module_key(module), _member_key(together[0]), wrapped))
        lines += [
            (_module_key(module), _member_key(entry[0]), start + _alias(entry))
            for entry in entries
            if entry[1]
        ]
    return [line for _, _, line in sorted(lines)]


def _wrap(start: str, items: list[str], opening: str, closing: str) -> str:
    """One line if it fits, else one item a line. An import needs its parentheses only then."""
    short = ", ".join(items)
    line = f"{start}{short}" if opening == "(" else f"{start}{opening}{short}{closing}"
    if len(line) <= WIDTH:
        return line
    return "\n".join([f"{start}{opening}", *(f"    {item}," for item in items), closing])


Key = tuple[object, ...]


def _module_key(name: str) -> Key:
    return _natural(name.lower()), name


def _member_key(name: str) -> Key:
    """isort's order of imported names: CONSTANTS, Classes, functions, each regardless of case."""
    return _rank(name), _natural(name.lower()), name


def _all_key(name: str) -> Key:
    """ruff's order of `__all__`: the same three groups, capitals first in each."""
    return _rank(name), _natural(name)


def _rank(name: str) -> int:
    if name.isupper() and len(name) > 1:
        return 0
    return 1 if name[:1].isupper() else 2


def _natural(name: str) -> Key:
    """Sort key that takes numbers by their value."""
    parts = re.findall(r"\d+|\D", name)
    return tuple((48, int(part)) if part.isdigit() else (ord(part), 0) for part in parts)


def _all_block(names: Iterable[str]) -> str:
    ordered = sorted(names, key=_all_key)
    return _wrap("__all__ = ", [f'"{name}"' for name in ordered], "[", "]")


def facade(modules: Mapping[str, list[str]]) -> str:
    """Text of a package that re-exports: dotted name below tinytorch -> names, in order.

    A name that two modules export comes from the later one.
    """
    source = {name: module for module, names in modules.items() for name in names}
    kept: dict[str, set[tuple[str, str]]] = {}
    for name, module in source.items():
        kept.setdefault(f"tinytorch.{module}", set()).add((name, ""))
    docstring = '"""The names of several modules in one place."""'
    blocks = [docstring, "\n".join(_from_imports(kept)), _all_block(source)]
    return "\n\n".join(block for block in blocks if block) + "\n"
