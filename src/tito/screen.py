"""How tito prints: one way to say things that obeys the terminal's width, colours and alphabet.

stdout carries results, stderr progress. Text may be styled freely before it is said: colours are
taken out, and characters replaced, where the stream cannot show them.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any, TextIO

import click

SCHEMA = 1
WIDEST, NARROWEST = 100, 24
_PLAIN = {
    "✓": "+", "✗": "x", "·": ".", "▸": ">", "○": "o", "█": "#", "░": "-", "…": "...", "→": "->",
    "×": "x", "²": "^2", "≈": "~", "≤": "<=", "≥": ">=", "–": "-", "—": "-", "‘": "'", "’": "'",
    "“": '"', "”": '"', "─": "-", "│": "|", "µ": "u",
    "▁": "_", "▂": ".", "▃": ":", "▄": "-", "▅": "=", "▆": "+", "▇": "*",
}


# What the terminal can do ------------------------------------------------------------------------


def dumb() -> bool:
    """Whether the terminal cannot move its cursor or show colours."""
    return os.environ.get("TERM") == "dumb"


def is_terminal(stream: TextIO) -> bool:
    return not stream.closed and stream.isatty()


def colours(stream: TextIO) -> bool:
    """Whether to colour: only on a terminal, and not against NO_COLOR or TERM=dumb."""
    return is_terminal(stream) and not os.environ.get("NO_COLOR") and not dumb()


def terminal() -> tuple[int, int]:
    """Columns and lines of the terminal; COLUMNS and LINES go first, 80 x 24 where there is none.

    As shutil.get_terminal_size does, whose import costs two milliseconds.
    """
    named = [os.environ.get(name, "") for name in ("COLUMNS", "LINES")]
    columns, lines = (int(text) if text.isdigit() else 0 for text in named)
    if not (columns and lines):
        try:
            found = os.get_terminal_size(sys.__stdout__.fileno() if sys.__stdout__ else 1)
        except (OSError, ValueError):  # no terminal, or closed
            found = os.terminal_size((80, 24))
        columns, lines = columns or found.columns, lines or found.lines
    return columns or 80, lines or 24


def width() -> int:
    """Columns to fill."""
    return max(NARROWEST, min(terminal()[0], WIDEST))


def interactive() -> bool:
    """Whether somebody can be asked: a terminal on both sides, no CI and no --no-input."""
    context = click.get_current_context(silent=True)
    refused = context is not None and bool(context.find_root().params.get("no_input"))
    asked_not_to = refused or os.environ.get("CI", "") not in ("", "0", "false")
    return not asked_not_to and is_terminal(sys.stdin) and is_terminal(sys.stdout)


def plain(text: str, stream: TextIO) -> str:
    """The text in characters the stream can show: `✓` becomes `+` where there is no `✓`."""
    encoding = getattr(stream, "encoding", None) or "ascii"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return "".join(_character(character, encoding) for character in text)
    return text


def _character(character: str, encoding: str) -> str:
    try:
        character.encode(encoding)
    except UnicodeEncodeError:
        return _PLAIN.get(character, "?")
    return character


# Saying ------------------------------------------------------------------------------------------


def say(text: str = "", err: bool = False, newline: bool = True) -> None:
    """Print a result (or, with `err`, progress)."""
    stream = sys.stderr if err else sys.stdout
    click.echo(plain(text, stream), file=stream, nl=newline, color=colours(stream))


def say_lines(lines: Iterable[str]) -> None:
    """Print one line after another."""
    for line in lines:
        say(line)


def say_json(data: dict[str, Any]) -> None:
    """Print a result for programs: an object that begins with the schema's version."""
    import json

    click.echo(json.dumps({"schema": SCHEMA, **data}, indent=2, default=str))


def next_step(command: str, err: bool = False) -> None:
    """The last line of every command: the one that comes next."""
    say(next_line(command), err)


def next_line(command: str) -> str:
    return f"{bold('Next:')} {command}"


def complain(message: str) -> None:
    """An error in two lines on stderr: what happened and where, then what helps."""
    what, _, command = message.partition("\nNext: ")
    say(click.style(what, fg="red"), err=True)
    next_step(command or "tito --help", err=True)


# Shaping -----------------------------------------------------------------------------------------


def bold(text: str) -> str:
    return click.style(text, bold=True)


def dim(text: str) -> str:
    return click.style(text, dim=True)


def good(text: str) -> str:
    return click.style(text, fg="green")


def bad(text: str) -> str:
    return click.style(text, fg="red", bold=True)


def warm(text: str) -> str:
    return click.style(text, fg="yellow")


def wrap(text: str, indent: str = "", first: str | None = None) -> list[str]:
    """Lines of at most the terminal's width; the text's own line ends and indentation are kept."""
    import textwrap

    lead, lines = indent if first is None else first, []
    for line in text.expandtabs(4).split("\n"):
        inner = line[: len(line) - len(line.lstrip(" "))]
        lines += textwrap.wrap(line.lstrip(" "), width(), initial_indent=lead + inner,
                               subsequent_indent=indent + inner, break_on_hyphens=False) or [""]
        lead = indent
    return lines


def bar(done: float, total: float, cells: int) -> str:
    """A bar of `cells` characters."""
    full = round(cells * done / total) if total else 0
    return good("█" * full) + dim("░" * (cells - full))


def clip(text: str, room: int) -> str:
    """The text in `room` characters, cut where they end."""
    return text if len(text) <= room else f"{text[: max(room - 1, 0)]}…"


def table(rows: Iterable[tuple[str, ...]], cut: Callable[[str, int], str] = clip) -> list[str]:
    """Columns padded to their widest entry; the last one is `cut` where the terminal ends."""
    kept = [tuple(row) for row in rows]
    sizes = [max(len(click.unstyle(cell)) for cell in column) for column in zip(*kept, strict=True)]
    return [_row(row, sizes, cut) for row in kept]


def _row(row: tuple[str, ...], sizes: list[int], cut: Callable[[str, int], str]) -> str:
    text = "".join(c + " " * (n + 2 - len(click.unstyle(c))) for c, n in zip(row[:-1], sizes))
    room = width() - len(click.unstyle(text))
    last = row[-1]
    if len(click.unstyle(last)) > room:
        last = cut(click.unstyle(last), room) if room > 8 else ""
    return (text + last).rstrip()


def shorten(text: str, room: int) -> str:
    """The text in `room` characters: up to a comma or a colon, or else to the end of a word."""
    if len(text) <= room:
        return text
    head = text[: room + 1]
    phrase = max(head.rfind(", "), head.rfind(": "))
    if phrase >= room // 3:
        return text[:phrase]
    word = text[:room].rfind(" ")
    return f"{text[:word].rstrip(' ,:')}…" if word > 0 else clip(text, room)


def count(number: int, name: str) -> str:
    """`1 module`, `2,000 modules`."""
    return f"{number:,} {name}{'s' * (number != 1)}"


def size(count: float) -> str:
    """Bytes as people read them: 11.6 MB."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError


class Meter:
    """A progress line on stderr with a rate and an estimate; only on a terminal."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock, self.name, self.began, self.shown = clock, "", 0.0, 0.0

    def __call__(self, name: str, done: int, total: int) -> None:
        if not is_terminal(sys.stderr) or dumb():
            return
        now = self.clock()
        if name != self.name:
            self.close()
            self.name, self.began, self.shown = name, now, 0.0
        if now - self.shown > 0.1 or done == total:
            self.shown = now
            say(f"\r{self._line(done, total, now)}\x1b[K", err=True, newline=False)

    def _line(self, done: int, total: int, now: float) -> str:
        rate = done / max(now - self.began, 1e-9)
        left = f"{(total - done) / rate:.0f} s left" if rate and total else ""
        cells = max(width() - len(self.name) - 42, 5)
        return f"{self.name} {bar(done, total, cells)} {size(done)}  {size(rate)}/s  {left}"

    def close(self) -> None:
        """End the line of the last file."""
        if self.name:
            say(err=True)
        self.name = ""
