"""From exported cells to a package file that reads as if written by hand."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from tito.solutions import BEGIN, END, shift
from tito.source import Cell, Notebook, SourceError, inside_strings, magic_lines

WIDTH = 100
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.GeneratorExp, ast.ListComp,
           ast.SetComp, ast.DictComp)  # fmt: skip
_EXPORT = re.compile(r"export[si]?\b")


@dataclass
class Piece:
    """A top-level statement (or loose comments): its text, and what it turned out to be."""

    lines: list[str]
    node: ast.stmt | None
    cell: Cell
    public: bool
    first: int = 0
    gap: int = 0
    methods: list[Piece] = field(default_factory=list)

    @property
    def defined(self) -> str:
        return self.node.name if isinstance(self.node, _DEFINITIONS) else ""


def export_name(nb: Notebook) -> str:
    """The dotted name below `tinytorch` that `#| default_exp` states. SourceError without one."""
    for cell in nb.cells:
        for directive in cell.directives:
            words = directive.split()
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
    for cell in nb.cells:
        marks = [mark for mark in cell.directives if _EXPORT.match(mark)]
        if marks:
            found = _cell_pieces(cell, public=not marks[0].startswith("exporti"))
            imports += [p.node for p in found if isinstance(p.node, ast.Import | ast.ImportFrom)]
            pieces += [p for p in found if not isinstance(p.node, ast.Import | ast.ImportFrom)]
    return imports, pieces


def is_exported(cell: Cell) -> bool:
    """Whether the cell carries `#| export`."""
    return any(_EXPORT.match(mark) for mark in cell.directives)


def code_lines(cell: Cell) -> list[str]:
    """The cell's lines with directives, solution marks and magics blanked; numbers stay true."""
    lines = cell.source.split("\n")
    blank = {number for number, _ in magic_lines(lines) if not _comment(lines[number])}
    marks = (number for number, line in enumerate(lines) if _is_mark(line))
    blank.update(marks)
    return ["" if number in blank else line for number, line in enumerate(lines)]


def _comment(line: str) -> bool:
    return line.lstrip().startswith("#")


def _is_mark(line: str) -> bool:
    return line.startswith("#|") or bool(BEGIN.match(line) or END.match(line))


def _cell_pieces(cell: Cell, public: bool) -> list[Piece]:
    lines = code_lines(cell)
    body = _parse(cell, lines).body
    pieces: list[Piece] = []
    done = 0
    for node in body:
        start, end = _first_line(node) - 1, node.end_lineno or node.lineno
        if start < done:  # `a = 1; b = 2`: one piece carries the line
            pieces.append(Piece([], node, cell, public, start))
            done = max(done, end)
            continue
        pieces.append(_piece(cell, lines, (done, start, end), node, public))
        done = end
    rest = _trim(lines[done:])
    if rest:
        pieces.append(Piece(rest, None, cell, public, done, gap=_blanks(lines[done:])))
    return pieces


def _piece(
    cell: Cell, lines: list[str], span: tuple[int, int, int], node: ast.stmt, public: bool
) -> Piece:
    done, start, end = span
    lead = lines[done:start]
    removed = set(cell.source.split("\n")) and _removed(cell)
    first = start
    while first > done and lines[first - 1].startswith("#"):
        first -= 1
    loose = _trim(lead[: first - done])
    text = loose + ([""] if loose else []) + _tidy(lines, removed, first, end)
    return Piece(text, node, cell, public, start, gap=_blanks(lead))


def _removed(cell: Cell) -> set[int]:
    return {number for number, line in enumerate(cell.source.split("\n")) if _is_mark(line)}


def _tidy(lines: list[str], removed: set[int], first: int, end: int) -> list[str]:
    """The lines without those of removed marks, and no double blank line where one stood."""
    kept: list[str] = []
    for number in range(first, end):
        if number not in removed:
            kept.append(lines[number])
        elif kept and not kept[-1] and number + 1 < end and not lines[number + 1].strip():
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


def _first_line(node: ast.stmt) -> int:
    decorators = getattr(node, "decorator_list", [])
    return min([node.lineno, *(decorator.lineno for decorator in decorators)])


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
    return any(isinstance(node, ast.ImportFrom) and node.module == "__future__"
               and any(alias.name == "annotations" for alias in node.names) for node in body)


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


def _extends(node: ast.stmt) -> bool:
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
    return (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str))


def _owner(node: ast.stmt, classes: Mapping[str, object]) -> str:
    """The known class that `node` belongs into, or an empty string."""
    if isinstance(node, _DEFINITIONS):
        name = _method_of(node)
        return name if name in classes else ""
    if isinstance(node, ast.Assign) and len(node.targets) == 1:
        target = node.targets[0]
        if isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name):
            name = target.value.id
            return name if name in classes and _only_members(node.value, name) else ""
    return ""


def _method_of(node: ast.stmt) -> str:
    for decorator in getattr(node, "decorator_list", []):
        if _is_method_of(decorator):
            return str(decorator.args[0].id)
    return ""


def _is_method_of(decorator: ast.expr) -> bool:
    return (isinstance(decorator, ast.Call) and isinstance(decorator.func, ast.Name)
            and decorator.func.id == "method_of" and len(decorator.args) == 1
            and isinstance(decorator.args[0], ast.Name))


def _only_members(value: ast.expr, owner: str) -> bool:
    """Whether `value` mentions the class only as `C.x`, where a class body can say `x`."""
    if isinstance(value, ast.Attribute) and isinstance(value.value, ast.Name):
        return True
    inner = [node for node in ast.walk(value) if isinstance(node, _SCOPES)]
    hidden = {id(name) for scope in inner for name in ast.walk(scope)}
    members = {id(node.value) for node in ast.walk(value) if isinstance(node, ast.Attribute)}
    names = (node for node in ast.walk(value) if isinstance(node, ast.Name) and node.id == owner)
    return all(id(name) in members and id(name) not in hidden for name in names)


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
    return any(isinstance(part, ast.Name) and part.id not in _BUILTINS
               for note in _annotations(node) for part in ast.walk(note))


_BUILTINS = frozenset(dir(__builtins__) if not isinstance(__builtins__, dict) else __builtins__)


def _fold_pieces(pieces: list[Piece]) -> list[Piece]:
    """The same as `fold`, on text: a class piece collects its methods in `methods`."""
    classes: dict[str, Piece] = {}
    since: dict[str, set[str]] = {}
    kept: list[Piece] = []
    for piece in pieces:
        owner = _owner(piece.node, classes) if piece.node else ""
        if owner and piece.lines:
            _refuse_late_names(piece, owner, since[owner])
            classes[owner].methods.append(piece)
            continue
        _refuse_foreign(piece)
        kept.append(piece)
        for names in since.values():
            names.update(_bound(piece.node))
        if isinstance(piece.node, ast.ClassDef):
            classes[piece.defined] = piece
            since[piece.defined] = {piece.defined}
    return kept


def _refuse_foreign(piece: Piece) -> None:
    owner = _method_of(piece.node) if piece.node else ""
    if owner and piece.node:
        what = f"{_where(piece.cell, piece.node.lineno)}: no exported cell above defines {owner}"
        raise SourceError(what, f"put `#| export` on the cell that defines class {owner}")


def _refuse_late_names(piece: Piece, owner: str, late: set[str]) -> None:
    """A method's defaults and decorators are computed with the class: no later names there."""
    node = piece.node
    assert node is not None
    used = sorted(_used_at_once(node, owner) & late)
    if used:
        what = f"{_where(piece.cell, node.lineno)}: `{used[0]}` comes after class {owner} begins"
        raise SourceError(what, f"define {used[0]} in an exported cell above class {owner}")


def _used_at_once(node: ast.stmt, owner: str) -> set[str]:
    """Names evaluated when the statement runs inside the class, not when the method is called."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        defaults = [*node.args.defaults, *(d for d in node.args.kw_defaults if d)]
        roots: list[ast.AST] = [*defaults, *(d for d in node.decorator_list if not _is_method_of(d))]
    elif isinstance(node, ast.Assign):
        roots = [node.value]
    else:
        roots = []
    names: set[str] = set()
    for root in roots:
        inner = [part for part in ast.walk(root) if isinstance(part, _SCOPES)]
        hidden = {id(part) for scope in inner for part in ast.walk(scope)}
        names |= {part.id for part in ast.walk(root)
                  if isinstance(part, ast.Name) and id(part) not in hidden}
    return names - {owner} if isinstance(node, ast.Assign) else names


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
    """One definition per name: the last, where the first stood, unless it needs what lies between."""
    for last in range(len(pieces) - 1, -1, -1):
        name = pieces[last].defined
        same = [n for n in range(last) if name and pieces[n].defined == name]
        node = pieces[last].node
        if not same or node is None or _extends(node):
            continue
        if any(pieces[n].node and _extends(pieces[n].node) for n in same):  # type: ignore[arg-type]
            continue
        winner, first = pieces[last], same[0]
        between = {bound for piece in pieces[first:last] for bound in _bound(piece.node)}
        place = last if _needed_at_once(winner) & between - {name} else first
        rest = [p if n != place else winner for n, p in enumerate(pieces)
                if n == place or n not in (*same, last)]
        return _last_wins(rest)
    return pieces


def _needed_at_once(piece: Piece) -> set[str]:
    node = piece.node
    if isinstance(node, ast.ClassDef):
        roots: list[ast.AST] = [*node.bases, *node.keywords, *node.decorator_list]
        names = {part.id for root in roots for part in ast.walk(root) if isinstance(part, ast.Name)}
        return names.union(*(_used_at_once(item, "") for item in node.body), set())
    return _used_at_once(node, "") if node else set()


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
    text, previous = head, None
    for piece in pieces:
        if not piece.lines:
            continue
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


def _class_text(piece: Piece) -> str:
    """The class with its methods: a method written again takes the first one's place."""
    node = piece.node
    assert isinstance(node, ast.ClassDef)
    indent = _body_indent(piece, node)
    members = _own_members(piece, node)
    for method in piece.methods:
        assert method.node is not None
        text = _member_text(method, node.name, indent)
        position = _same_name([m[0] for m in members], method.node)
        if position is not None:
            members[position] = (method.node, text, members[position][2])
        else:
            members.append((method.node, text, -1))
    if len(members) > 1 and _is_filler(members[0][0]):
        members = members[1:]
    return _class_head(piece, node) + _class_body(members)


Member = tuple[ast.stmt, list[str], int]  # the node, its lines, blank lines before it (-1: by kind)


def _body_indent(piece: Piece, node: ast.ClassDef) -> str:
    return " " * (node.body[0].col_offset if node.body[0].lineno > node.lineno else 4)


def _offset(piece: Piece, node: ast.ClassDef) -> int:
    """Index in `piece.lines` of a line number of the cell: lines[number - offset]."""
    removed = len([n for n in _removed(piece.cell) if n < (node.end_lineno or 0)])
    return removed


def _own_members(piece: Piece, node: ast.ClassDef) -> list[Member]:
    lines = piece.lines
    tree = ast.parse("\n".join(lines)).body[-1]
    assert isinstance(tree, ast.ClassDef)
    members: list[Member] = []
    done = _head_end(tree)
    for item in tree.body:
        end = item.end_lineno or item.lineno
        if item.lineno <= done:  # on the line of the class, or of the statement before
            continue
        chunk = lines[done:end]
        blanks = _blanks(chunk)
        members.append((item, _trim(chunk), blanks))
        done = end
    return members


def _head_end(tree: ast.ClassDef) -> int:
    """Number of lines that the class header takes, decorators and comments above included."""
    first = tree.body[0]
    return tree.lineno if first.lineno == tree.lineno else _header_line(tree, first)


def _header_line(tree: ast.ClassDef, first: ast.stmt) -> int:
    ends = [tree.lineno, *(part.end_lineno or 0 for part in (*tree.bases, *tree.keywords))]
    return min(max(ends), _first_line(first) - 1)


def _class_head(piece: Piece, node: ast.ClassDef) -> str:
    tree = ast.parse("\n".join(piece.lines)).body[-1]
    assert isinstance(tree, ast.ClassDef)
    first = tree.body[0]
    if first.lineno == tree.lineno:  # class Tensor: ...
        head = piece.lines[: tree.lineno]
        return "\n".join([*head[:-1], head[-1][: first.col_offset].rstrip()])
    return "\n".join(piece.lines[: _head_end(tree)])


def _class_body(members: list[Member]) -> str:
    text = ""
    previous: ast.stmt | None = None
    for node, lines, blanks in members:
        text += "\n" * (1 + _member_gap(previous, node, blanks)) + "\n".join(lines)
        previous = node
    return text


def _member_gap(previous: ast.stmt | None, node: ast.stmt, blanks: int) -> int:
    if blanks >= 0:
        return blanks
    if previous is None:
        return 0
    return int(isinstance(previous, _DEFINITIONS) or isinstance(node, _DEFINITIONS)
               or _is_docstring(previous))  # fmt: skip


def _member_text(method: Piece, owner: str, indent: str) -> list[str]:
    """The method as it stands in the class: decorator gone, indented, other strings unchanged."""
    lines = list(method.lines)
    tree = ast.parse("\n".join(lines))
    node = tree.body[-1]
    if isinstance(node, ast.Assign):
        lines = _assignment_text(lines, node, owner)
        return shift("\n".join(lines), "", indent).split("\n")
    for decorator in getattr(node, "decorator_list", []):
        if _is_method_of(decorator):
            for number in range(decorator.lineno, (decorator.end_lineno or 0) + 1):
                lines[number - 1] = "\0"
    docs = _docstring_lines(node)
    inside = inside_strings(lines)
    moved = [line if not line.strip() or (inside[n] and n not in docs) else indent + line
             for n, line in enumerate(lines)]  # fmt: skip
    return [line for line in moved if not line.endswith("\0")]


def _docstring_lines(node: ast.stmt) -> set[int]:
    """Indices of the lines that docstrings within `node` continue on."""
    numbers: set[int] = set()
    for part in ast.walk(node):
        if isinstance(part, _DEFINITIONS) and _is_docstring(part.body[0]):
            first = part.body[0]
            numbers.update(range(first.lineno, first.end_lineno or first.lineno))
    return numbers


def _assignment_text(lines: list[str], node: ast.Assign, owner: str) -> list[str]:
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

    body = textwrap.fill(sentence, WIDTH - 2, break_long_words=False, break_on_hyphens=False)
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
    prose = (part for part in paragraphs if part and not re.match(r"[#>|`~*-]|!\[|\d+\.", part))
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
    return [f"import {_alias(entry)}" for entry in sorted(entries, key=_natural)]


def _alias(entry: tuple[str, str]) -> str:
    return f"{entry[0]} as {entry[1]}" if entry[1] and entry[1] != entry[0] else entry[0]


def _from_imports(modules: dict[str, set[tuple[str, str]]]) -> list[str]:
    lines: list[str] = []
    for module in sorted(modules, key=_natural_name):
        entries = sorted(modules[module], key=lambda entry: (_rank(entry[0]), _natural(entry)))
        together = [entry[0] for entry in entries if not entry[1]]
        if together:
            lines.append(_wrap(f"from {module} import ", together, "()"))
        lines += [f"from {module} import {_alias(entry)}" for entry in entries if entry[1]]
    return lines


def _wrap(start: str, items: list[str], brackets: str) -> str:
    """One line if it fits, else one item a line. An import needs its parentheses only then."""
    opening, closing = brackets
    short = ", ".join(items)
    line = f"{start}{short}" if brackets == "()" else f"{start}{opening}{short}{closing}"
    if len(line) <= WIDTH:
        return line
    return "\n".join([f"{start}{opening}", *(f"    {item}," for item in items), closing])


def _rank(name: str) -> int:
    """CONSTANTS, then Classes, then functions, as isort orders them."""
    if name.isupper() and len(name) > 1:
        return 0
    return 1 if name[:1].isupper() else 2


def _natural(entry: tuple[str, str]) -> tuple[list[tuple[int, str]], str]:
    return _natural_name(entry[0]), entry[1]


def _natural_name(name: str) -> list[tuple[int, str]]:
    """Sort key: case aside, and numbers by value."""
    parts = re.findall(r"\d+|\D+", name.lower())
    return [(int(part), "") if part.isdigit() else (10**9, part) for part in parts]


def _all_block(names: Iterable[str]) -> str:
    ordered = sorted(names, key=lambda name: (_rank(name), _natural_name(name)))
    return _wrap("__all__ = ", [f'"{name}"' for name in ordered], "[]")


def facade(modules: Mapping[str, list[str]]) -> str:
    """Text of a package that re-exports: dotted name below tinytorch -> names, in order.

    A name that two modules export comes from the later one.
    """
    source = {name: module for module, names in modules.items() for name in names}
    kept: dict[str, set[tuple[str, str]]] = {}
    for name, module in source.items():
        kept.setdefault(f"tinytorch.{module}", set()).add((name, ""))
    docstring = '"""Names of several modules in one place; each is defined where it is imported from."""'
    blocks = [docstring, "\n".join(_from_imports(kept)), _all_block(source)]
    return "\n\n".join(block for block in blocks if block) + "\n"
