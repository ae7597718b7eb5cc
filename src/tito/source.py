"""Notebooks as plain values: percent `.py` and `.ipynb` text in, the same cells out, losslessly."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

TYPE_CHECKING = False  # known to type checkers; importing `typing` costs milliseconds
if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator
    from pathlib import Path
    from typing import Any

ROLES = ("given", "exercise", "check", "demo", "question")

KERNEL: dict[str, Any] = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


class SourceError(ValueError):
    """A notebook that cannot be read, stripped or exported. Two lines: what and where, `Next:`."""

    def __init__(self, what: str, next_step: str) -> None:
        super().__init__(f"{what}\nNext: {next_step}")


@dataclass
class Cell:
    """One cell. `line` is where its text starts in the percent file it was read from, else 0."""

    kind: str
    source: str
    metadata: dict[str, Any] = field(default_factory=dict)
    id: str = ""
    outputs: list[Any] | None = None
    execution_count: int | None = None
    attachments: dict[str, Any] | None = None
    line: int = field(default=0, compare=False, repr=False)

    def __post_init__(self) -> None:
        self.source = _newlines(self.source).rstrip("\n")

    @property
    def role(self) -> str | None:
        """given, exercise, check, demo or question; None for prose and for a learner's own cell."""
        return next((role for role in ROLES if role in self.metadata), None)

    @property
    def name(self) -> str:
        """The role's value (`Tensor.__add__`), or an empty string."""
        return str(self.metadata[self.role]) if self.role else ""

    @property
    def directives(self) -> list[str]:
        """The `#| ...` lines of a code cell, as written."""
        if self.kind != "code":
            return []
        lines = self.source.split("\n")
        return [line.rstrip() for line in lines if line.startswith("#|")]


@dataclass
class Notebook:
    """Cells in order, and the notebook's own metadata (the Python kernel goes without saying)."""

    cells: list[Cell]
    metadata: dict[str, Any] = field(default_factory=dict)


def read(path: Path) -> Notebook:
    """The notebook in a `.py` or `.ipynb` file."""
    is_ipynb = _is_ipynb(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise SourceError(f"{path}: not UTF-8 text ({error.reason})", "save it as UTF-8") from None
    try:
        return read_ipynb(text) if is_ipynb else read_percent(text)
    except SourceError as error:
        what, _, next_step = str(error).partition("\nNext: ")
        raise SourceError(f"{path}: {what}", next_step) from None


def write(path: Path, nb: Notebook) -> str:
    """The text that belongs into `path`, by its suffix; nothing is written."""
    return write_ipynb(nb) if _is_ipynb(path) else write_percent(nb)


def _is_ipynb(path: Path) -> bool:
    if path.suffix not in (".py", ".ipynb"):
        raise SourceError(f"{path.name}: neither .py nor .ipynb", "name a notebook file")
    return path.suffix == ".ipynb"


def _newlines(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


# Strings that span lines ------------------------------------------------------------------------

_QUOTE = r"""\\.|\\$|\"{3}|'{3}|["'#]"""


def open_quote(line: str, quote: str | None) -> str | None:
    """The quote still open after `line`, given the one open before it. Works on broken code too."""
    token = ""
    for match in re.finditer(_QUOTE, line):
        token = match.group()
        if quote is None:
            if token == "#":
                return None
            quote = None if token[0] == "\\" else token
        elif token.startswith(quote):
            quote = None
    carries = quote is None or len(quote) == 3 or token == "\\"
    return quote if carries else None


def inside_strings(lines: Iterable[str]) -> list[bool]:
    """For each line, whether it begins inside a string opened on an earlier line."""
    quote: str | None = None
    inside = []
    for line in lines:
        inside.append(quote is not None)
        quote = open_quote(line, quote)
    return inside


# Magics: commented in percent files, as jupytext does, so that the file is Python ----------------

_MAGIC = (
    r"\s*(?:# |#)*%{1,3}[a-zA-Z]"
    r"|\s*(?:(?:# |#)+\s*)?[?!]\s*[A-Za-z.~$\\/{}]"
    r"|(?:# |#)*\s*[a-zA-Z_][a-zA-Z_$0-9]*\s*=\s*(?:%{1,3}|!)[a-zA-Z]"
)
_ANY_MAGIC = rf"(?m)^(?:{_MAGIC})"


def magic_lines(lines: list[str]) -> Iterator[tuple[int, bool]]:
    """(index, whether it continues the line above) of each magic line, commented or not."""
    quote: str | None = None
    continued = False
    for number, line in enumerate(lines):
        if quote is None and (continued or re.match(_MAGIC, line)):
            yield number, continued
            continued = line.rstrip().endswith("\\")
        else:
            continued = False
            quote = open_quote(line, quote)


def _comment_magics(source: str) -> str:
    if not re.search(_ANY_MAGIC, source):
        return source
    lines = source.split("\n")
    for number, continued in list(magic_lines(lines)):
        line = lines[number]
        indent = "" if continued else line[: len(line) - len(line.lstrip())]
        lines[number] = f"{indent}# {line[len(indent) :]}"
    return "\n".join(lines)


def _uncomment_magics(source: str) -> str:
    if not re.search(_ANY_MAGIC, source):
        return source
    lines = source.split("\n")
    for number, _ in list(magic_lines(lines)):
        lines[number] = re.sub(r"^(\s*)# ?", r"\1", lines[number], count=1)
    return "\n".join(lines)


# Percent files ----------------------------------------------------------------------------------

_HEADER = r"[ \t]*#[ \t]*%%(%*[ \t].*)?$"
_HEADER_LINE = rf"(?m)^{_HEADER}"
_HEADER_LIKE = r"(?m)^([ \t]*)((?:# )*#[ \t]*%%(?:%*[ \t].*)?)$"
_ESCAPED = r"(?m)^([ \t]*)# ((?:# )*#[ \t]*%%(?:%*[ \t].*)?)$"
_KEY = r"(?:^|\s)([a-zA-Z0-9_.@/-]+)="
_PLAIN_KEY = r"[a-zA-Z0-9_.@/-]+"
_PLAIN_TITLE = r"(?![%.])[^\s={}\[\]]+(?: (?!\.)[^\s={}\[\]]+)*"
_LANGUAGES = ("bash", "sh", "html", "javascript", "js", "latex", "perl", "ruby", "R", "svg")
_KINDS = {"[markdown]": "markdown", "[md]": "markdown", "[raw]": "raw"}


def read_percent(text: str) -> Notebook:
    """The notebook in percent format. Raises SourceError for a header with a malformed role."""
    lines = _newlines(text).removeprefix("\ufeff").split("\n")
    metadata, start = _read_front(lines)
    cells = []
    while start < len(lines):
        end = _cell_end(lines, start)
        if re.match(_HEADER, lines[start]) or any(lines[start:end]):
            cells.append(_read_cell(lines, start, end))
        start = end
    for cell, cell_id in zip(cells, settled_ids(cells), strict=True):
        cell.id = cell_id
    return Notebook(cells, _beyond_kernel(metadata))


def _cell_end(lines: list[str], start: int) -> int:
    """First line after the cell: the next header, but a quoted text cell may contain headers."""
    after = start + 1
    if re.match(_HEADER, lines[start]) and _read_header(lines, start)[0] != "code":
        body = _skip_blank(lines, after)
        close = _closing(lines, body)
        if close is not None and _at_end(lines, close + 1):
            after = close + 1
    while after < len(lines) and not re.match(_HEADER, lines[after]):
        after += 1
    return after


def _skip_blank(lines: list[str], number: int) -> int:
    while number < len(lines) and not lines[number].strip():
        number += 1
    return number


def _at_end(lines: list[str], number: int) -> bool:
    """Whether the cell holds nothing more: if it does, the quote found belongs to another cell."""
    number = _skip_blank(lines, number)
    return number == len(lines) or bool(re.match(_HEADER, lines[number]))


def _closing(lines: list[str], body: int) -> int | None:
    """Line that closes the triple-quoted text opening at `body`; None if there is no such text."""
    opening = re.match(r"[rR]?(\"{3}|'{3})", lines[body]) if body < len(lines) else None
    if not opening:
        return None
    quote = opening.group(1)
    if quote in lines[body][opening.end() :]:
        return body
    return next((n for n in range(body + 1, len(lines)) if quote in lines[n]), None)


def _read_cell(lines: list[str], start: int, end: int) -> Cell:
    kind, first = "code", start
    metadata: dict[str, Any] = {}
    if re.match(_HEADER, lines[start]):
        kind, metadata = _read_header(lines, start)
        first = start + 1
    while end > first and not lines[end - 1]:
        end -= 1
    body = lines[first:end]
    cell_id = str(metadata.pop("id", ""))
    if metadata.pop("escaped", False):
        body = re.sub(_ESCAPED, r"\1\2", "\n".join(body)).split("\n")
    if kind == "code":
        source = _read_code("\n".join(body), metadata)
    else:
        source, skipped = _read_text(body)
        first += skipped
    return Cell(kind, source, metadata, cell_id, line=first + 1)


def _read_code(source: str, metadata: dict[str, Any]) -> str:
    language = metadata.get("language")
    if language not in _LANGUAGES:
        return _uncomment_magics(source)
    arguments = [str(metadata.pop("magic_args"))] if "magic_args" in metadata else []
    first = " ".join([f"%%{metadata.pop('language')}", *arguments])
    rest = [_uncommented(line) for line in source.split("\n")] if source else []
    return "\n".join([first, *rest])


def _read_text(body: list[str]) -> tuple[str, int]:
    """Prose of a markdown or raw cell, and how many lines of `body` stand before it."""
    start = _skip_blank(body, 0)
    text = "\n".join(body).strip()
    quoted = re.fullmatch(r"[rR]?(\"{3}|'{3})(.*)\1", text, re.S)
    if quoted:
        inner = quoted.group(2)
        own_line = inner.startswith("\n")
        return inner.removeprefix("\n").removesuffix("\n"), start + own_line
    return "\n".join(_uncommented(line) for line in body), 0


def _uncommented(line: str) -> str:
    return line[2:] if line.startswith("# ") else line.removeprefix("#")


def _read_header(lines: list[str], number: int) -> tuple[str, dict[str, Any]]:
    text = lines[number].partition("%%")[2]
    title = text.lstrip("%")
    metadata: dict[str, Any] = {"cell_depth": len(text) - len(title)} if text != title else {}
    title, keys = _read_keys(title.strip(), number)
    kind = "code"
    for mark in _KINDS:
        if mark in title:
            kind, title = _KINDS[mark], title.replace(mark, "", 1)
            break
    if title.strip():
        metadata["title"] = title.strip()
    return kind, metadata | keys


def _read_keys(text: str, number: int) -> tuple[str, dict[str, Any]]:
    """Split a header into its title and its `key=json` pairs (or one JSON object)."""
    brace, first = text.find("{"), re.search(_KEY, text)
    if brace >= 0 and (first is None or brace < first.start()):
        found = _json_at(text, brace)
        if found and isinstance(found[0], dict) and not text[found[1] :].strip():
            return text[:brace], found[0]
    if first is None:
        return text, {}
    keys: dict[str, Any] = {}
    match: re.Match[str] | None = first
    end = first.start()
    while match:
        found = _json_at(text, match.end())
        if found is None:
            return _bad_key(text, match.group(1), number)
        keys[match.group(1)], end = found
        match = re.compile(_KEY).match(text, end)
    if text[end:].strip():
        return _bad_key(text, text[end:].strip().partition("=")[0], number)
    return text[: first.start()], keys


def _bad_key(text: str, key: str, number: int) -> tuple[str, dict[str, Any]]:
    """A title that merely looks like `key=value` is a title; a role that does is a mistake."""
    if any(re.search(rf"(?:^|\s){role}\s*=", text) for role in ROLES):
        where = f"line {number + 1}: cannot read {key!r} in the cell header `# %% {text}`"
        raise SourceError(where, 'write the value as JSON, for example exercise="Tensor.sum"')
    return text, {}


def _json_at(text: str, start: int) -> tuple[Any, int] | None:
    import json

    try:
        return json.JSONDecoder().raw_decode(text, start)
    except json.JSONDecodeError:
        return None


def write_percent(nb: Notebook) -> str:
    """The notebook in percent format; outputs, counts and attachments stay behind.

    `read_percent` gives back the same cells, ids and metadata, and writing those gives the same
    bytes.
    """
    derived = derived_ids(nb.cells)
    parts = [_write_front(nb.metadata)] if nb.metadata else []
    parts += [_write_cell(cell, default) for cell, default in zip(nb.cells, derived, strict=True)]
    return "\n\n".join(parts) + "\n" if parts else ""


def _write_cell(cell: Cell, derived: str) -> str:
    source = cell.source.rstrip("\n")
    keys, body = _write_code(source) if cell.kind == "code" else ({}, _write_text(source))
    quoted = cell.kind != "code" and not body.startswith("#")
    if not quoted and re.search(_HEADER_LINE, body):
        keys, body = keys | {"escaped": True}, re.sub(_HEADER_LIKE, r"\1# \2", body)
    header = _write_header(cell, cell.metadata | keys, derived)
    return f"{header}\n{body}" if body else header


def _write_code(source: str) -> tuple[dict[str, Any], str]:
    """A `%%bash` cell is a comment with language="bash" in its header, as jupytext has it."""
    first, _, rest = source.partition("\n")
    match = re.fullmatch(r"%%(\w+)(?: (\S.*))?", first)
    if not match or match.group(1) not in _LANGUAGES or rest.startswith("\n"):
        return {}, _comment_magics(source)
    keys = {"language": match.group(1), "magic_args": match.group(2)}
    return {key: value for key, value in keys.items() if value}, _commented(rest) if rest else ""


def _write_text(source: str) -> str:
    """Prose as a string literal, or as comments if it contains both kinds of triple quotes."""
    quote = next((quote for quote in ('"""', "'''") if quote not in source), None)
    return f"{quote}\n{source}\n{quote}" if quote else _commented(source)


def _commented(source: str) -> str:
    return "\n".join(f"# {line}" if line else "#" for line in source.split("\n"))


def _write_header(cell: Cell, metadata: dict[str, Any], derived: str) -> str:
    keys = {key: metadata[key] for key in (*ROLES, "points") if key in metadata}
    keys |= {key: value for key, value in sorted(metadata.items()) if key not in keys}
    if cell.id and cell.id != derived:
        keys["id"] = cell.id
    mark, words = "# %%", []
    depth = keys.get("cell_depth")
    if isinstance(depth, int) and not isinstance(depth, bool) and 0 < depth < 10:
        mark += "%" * keys.pop("cell_depth")
    title = keys.get("title")
    if isinstance(title, str) and title.isprintable() and re.fullmatch(_PLAIN_TITLE, title):
        words.append(keys.pop("title"))
    if cell.kind != "code":
        words.append(f"[{cell.kind}]")
    if all(re.fullmatch(_PLAIN_KEY, key) for key in keys):
        words += [f"{key}={_dumps(value)}" for key, value in keys.items()]
    else:
        words.append(_dumps(keys))
    return " ".join([mark, *words])


def _dumps(value: Any) -> str:
    import json

    text = json.dumps(value, ensure_ascii=False)
    return text if text.isprintable() else json.dumps(value)


# The notebook's own metadata: a YAML comment block, of which JSON values are a part --------------


def _write_front(metadata: dict[str, Any]) -> str:
    keys = [f"#   {_dumps(key)}: {_dumps(value)}" for key, value in sorted(metadata.items())]
    return "\n".join(["# ---", "# jupyter:", *keys, "# ---"])


def _read_front(lines: list[str]) -> tuple[dict[str, Any], int]:
    """Metadata of the `# ---` block at the top, and the first line after it."""
    start = _skip_blank(lines, 0)
    if lines[start : start + 1] != ["# ---"] or "# ---" not in lines[start + 1 :]:
        return {}, start
    end = lines.index("# ---", start + 1)
    if not all(line.startswith("#") for line in lines[start:end]):
        return {}, start
    values, _ = _read_yaml([_uncommented(line) for line in lines[start + 1 : end]], 0, 0)
    jupyter = values.get("jupyter")
    return jupyter if isinstance(jupyter, dict) else {}, _skip_blank(lines, end + 1)


_YAML_LINE = r"( *)(\"(?:\\.|[^\"\\])*\"|[^\s:#\"][^:]*): *(.*)"


def _read_yaml(lines: list[str], number: int, indent: int) -> tuple[dict[str, Any], int]:
    """Nested mappings of scalars, which is all that jupytext writes; other lines are skipped."""
    values: dict[str, Any] = {}
    while number < len(lines):
        match = re.match(_YAML_LINE, lines[number])
        number += 1
        if not match:
            continue
        depth = len(match.group(1))
        if depth < indent:
            return values, number - 1
        key, text = _scalar(match.group(2)), match.group(3).strip()
        if text:
            values[str(key)] = _scalar(text)
        else:
            values[str(key)], number = _read_yaml(lines, number, depth + 1)
    return values, number


def _scalar(text: str) -> Any:
    found = _json_at(text, 0)
    if found and found[1] == len(text):
        return found[0]
    if text[0] == text[-1] == "'" and len(text) > 1:
        return text[1:-1].replace("''", "'")
    return text


# Notebook files ---------------------------------------------------------------------------------


def read_ipynb(text: str) -> Notebook:
    """The notebook in a `.ipynb` file of format 4, whoever wrote it. Raises SourceError."""
    import json

    try:
        data = json.loads(text.removeprefix("\ufeff"))
    except json.JSONDecodeError as error:
        raise _damaged(f"line {error.lineno}: not JSON ({error.msg})") from None
    if not isinstance(data, dict) or not isinstance(data.get("cells"), list):
        raise _damaged("not a Jupyter notebook of format 4")
    metadata = data.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    cells = [_load_cell(cell) for cell in data["cells"] if isinstance(cell, dict)]
    for cell, cell_id in zip(cells, settled_ids(cells), strict=True):
        cell.id = cell_id
        _drop_derived(cell)
    return Notebook(cells, _beyond_kernel(metadata))


def _beyond_kernel(metadata: dict[str, Any]) -> dict[str, Any]:
    """Notebook metadata without the Python kernel, which goes without saying."""
    items = metadata.items()
    return {key: value for key, value in items if key not in KERNEL or value != KERNEL[key]}


def _damaged(what: str) -> SourceError:
    return SourceError(what, "open it in Jupyter and save it again, or restore a snapshot")


def _load_cell(data: dict[str, Any]) -> Cell:
    source = data.get("source") or ""
    text = "".join(map(str, source)) if isinstance(source, list) else str(source)
    kind = data.get("cell_type")
    loaded = data.get("metadata")
    metadata = dict(loaded) if isinstance(loaded, dict) else {}
    cell_id = data.get("id") or metadata.get("id") or ""  # Colab keeps the id in the metadata
    metadata.pop("id", None)
    cell = Cell(kind if kind in ("code", "raw") else "markdown", text, metadata, str(cell_id))
    if kind == "code":
        cell.outputs = data.get("outputs") or None
        cell.execution_count = data.get("execution_count")
    else:
        cell.attachments = data.get("attachments") or None
    return cell


def write_ipynb(nb: Notebook) -> str:
    """The notebook as nbformat 4.5: the same cells give the same bytes on every machine."""
    import json

    ids = settled_ids(nb.cells)
    data = {
        "cells": [_dump_cell(cell, cell_id) for cell, cell_id in zip(nb.cells, ids, strict=True)],
        "metadata": KERNEL | nb.metadata,
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return json.dumps(data, ensure_ascii=False, indent=1, sort_keys=True) + "\n"


def _dump_cell(cell: Cell, cell_id: str) -> dict[str, Any]:
    lines = cell.source.rstrip("\n").split("\n")
    data: dict[str, Any] = {
        "cell_type": cell.kind,
        "id": cell_id,
        "metadata": derived_metadata(cell, cell_id) | cell.metadata,
        "source": [f"{line}\n" for line in lines[:-1]] + ([lines[-1]] if lines[-1] else []),
    }
    if cell.kind == "code":
        data |= {"outputs": cell.outputs or [], "execution_count": cell.execution_count}
    elif cell.attachments:
        data["attachments"] = cell.attachments
    return data


def derived_metadata(cell: Cell, cell_id: str) -> dict[str, Any]:
    """What nbgrader needs to know of a cell, from its role: schema 3."""
    role = cell.role
    if role not in ("exercise", "check", "question"):
        return {}
    nbgrader: dict[str, Any] = {
        "schema_version": 3,
        "solution": role != "check",
        "grade": role != "exercise",
        "locked": role == "check",
        "task": False,
        "grade_id": cell_id,
    }
    if role != "exercise":
        nbgrader["points"] = cell.metadata.get("points", 0)
    locks = {"editable": False, "deletable": False} if role == "check" else {}
    return {"nbgrader": nbgrader, **locks}


def _drop_derived(cell: Cell) -> None:
    for key, value in derived_metadata(cell, cell.id).items():
        if cell.metadata.get(key) == value:
            del cell.metadata[key]


# Ids --------------------------------------------------------------------------------------------

_VALID_ID = r"[a-zA-Z0-9_-]{1,64}"


def derived_ids(cells: Iterable[Cell]) -> list[str]:
    """The ids these cells have unless they carry their own: from role and name, or the text."""
    ids: dict[str, None] = {}
    for cell in cells:
        ids[_free(_base_id(cell), ids)] = None
    return list(ids)


def _base_id(cell: Cell) -> str:
    if cell.role:
        slug = re.sub(r"[^a-zA-Z0-9_]+", "-", f"{cell.role}-{cell.name}").strip("-")
        return slug if len(slug) <= 56 else f"{slug[:47]}-{_digest(slug)}"
    return f"{'text' if cell.kind == 'markdown' else cell.kind}-{_digest(cell.source)}"


def _digest(text: str) -> str:
    """Eight hexadecimal digits; not hashlib, whose import takes longer than reading a notebook."""
    import zlib

    return f"{zlib.crc32(text.encode('utf-8', 'surrogatepass')):08x}"


def settled_ids(cells: list[Cell]) -> list[str]:
    """Each cell's own id where it is valid and new, else its derived one: never two alike."""
    used: set[str] = set()
    own = []
    for cell in cells:
        own.append(cell.id if re.fullmatch(_VALID_ID, cell.id) and cell.id not in used else "")
        used.add(cell.id)
    for number, derived in enumerate(derived_ids(cells)):
        own[number] = own[number] or _free(derived, used)
        used.add(own[number])
    return own


def _free(wanted: str, used: Container[str]) -> str:
    count, chosen = 1, wanted
    while chosen in used:
        count += 1
        chosen = f"{wanted}-{count}"
    return chosen


def with_source(cell: Cell, source: str) -> Cell:
    """The same cell with other text; what it had printed is no longer true and is dropped."""
    return replace(cell, source=source, outputs=None, execution_count=None)
