"""The manual of the command line, derived from the commands: one Markdown page per group."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import click

from tito.cli import COMMANDS, cli
from tito.console import EXIT_CODES

PROGRAM = "tito"


def write(folder: Path) -> list[Path]:
    """Write `index.md` and a page per command at the top into `folder`; returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = {"index": index()} | {name: page(name) for name in COMMANDS}
    for name, text in texts.items():
        (folder / f"{name}.md").write_text(text, encoding="utf-8", newline="\n")
    return [folder / f"{name}.md" for name in texts]


def index() -> str:
    """All commands, and the exit codes they share."""
    context = click.Context(cli, info_name=PROGRAM)
    parts = [f"# {PROGRAM}", prose(cli), usage(cli, context), "## Commands"]
    rows = [(f"[{PROGRAM} {name}]({name}.md)", line) for name, line in COMMANDS.items()]
    parts += [_table("command", "does", rows), *_options(cli, context), "## Exit codes"]
    codes = [(str(code), meaning) for code, meaning in EXIT_CODES.items()]
    return "\n\n".join(part for part in [*parts, _table("code", "meaning", codes)] if part) + "\n"


def page(name: str) -> str:
    """One group with all its commands, or one command."""
    parts: list[str] = []
    for path, command, context in commands(name):
        mark = "#" if len(path) == 1 else "##"
        parts += [f"{mark} {PROGRAM} {' '.join(path)}", prose(command), usage(command, context)]
        parts += _options(command, context)
    parts.append("Exit codes: " + _codes() + ". See [the index](index.md).")
    return "\n\n".join(part for part in parts if part) + "\n"


def commands(
    name: str | None = None,
) -> Iterator[tuple[tuple[str, ...], click.Command, click.Context]]:
    """(path, command, context) of every command, or of one group and its commands, in order."""
    root = click.Context(cli, info_name=PROGRAM)
    for top in [name] if name else list(COMMANDS):
        command = cli.get_command(root, top)
        assert command is not None
        context = click.Context(command, root, top)
        yield (top,), command, context
        if isinstance(command, click.Group):
            for below in command.list_commands(context):
                inner = command.commands[below]
                yield (top, below), inner, click.Context(inner, context, below)


def prose(command: click.Command) -> str:
    """The help text; its aligned blocks become code blocks."""
    parts = []
    for block in inspect.cleandoc(command.help or "").split("\n\n"):
        if block.startswith("\b"):
            title, _, lines = block.removeprefix("\b\n").partition("\n")
            parts += [title, "```\n" + re.sub(r"(?m)^  ", "", lines) + "\n```"]
        else:
            parts.append(" ".join(block.split()))
    return "\n\n".join(parts)


def usage(command: click.Command, context: click.Context) -> str:
    pieces = " ".join(command.collect_usage_pieces(context))
    return f"```\n{context.command_path} {pieces}\n```"


def _options(command: click.Command, context: click.Context) -> list[str]:
    rows = []
    for parameter in command.get_params(context):
        if isinstance(parameter, click.Option) and "--help" not in parameter.opts:
            record = parameter.get_help_record(context)
            rows.append((f"`{record[0]}`", record[1]) if record else (parameter.opts[0], ""))
    return [_table("option", "does", rows)] if rows else []


def _table(left: str, right: str, rows: list[tuple[str, str]]) -> str:
    lines = [f"| {left} | {right} |", "|---|---|"]
    return "\n".join(lines + [f"| {a} | {b.replace('|', chr(92) + '|')} |" for a, b in rows])


def _codes() -> str:
    return ", ".join(f"{code} {meaning.partition(':')[0]}" for code, meaning in EXIT_CODES.items())
