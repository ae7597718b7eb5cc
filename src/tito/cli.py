"""`tito`: the command line. Commands live in `tito.commands` and are imported only when called."""

from __future__ import annotations

import errno
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import click

from tito import __version__, screen
from tito.console import ENVIRONMENT, FAILED, INTERRUPTED, USAGE, Group, Trouble

# Name -> its line in `tito --help`, so that the help imports none of them.
COMMANDS = {
    "init": "Make a workspace, or mend one.",
    "module": "Start, check and complete modules.",
    "watch": "Check again every time you save.",
    "hint": "The next hint for an exercise.",
    "notebook": "Open notebooks, or convert them.",
    "milestone": "Run what your framework can do by now.",
    "benchmark": "Measure your framework, and the models it made.",
    "olympics": "Optimise your own system, and prove it.",
    "checkpoint": "Answer for a capability with running code.",
    "data": "Find, fetch and verify data sets.",
    "system": "Look at the machine and the installation.",
    "completion": "Print a script that completes commands in your shell.",
    "dev": "For authors: prove the checks, build what ships.",
}

# Errors that a learner can mend: where they are defined, and the exit code. Found by name, so that
# a command imports only what it uses.
_ERRORS = {
    ("tito.course", "CourseError"): USAGE,
    ("tito.workspace", "WorkspaceError"): USAGE,
    ("tito.source", "SourceError"): ENVIRONMENT,
    ("tito.data", "DataError"): ENVIRONMENT,
    ("tito.bench_records", "BenchError"): USAGE,
}


class Tito(Group):
    """The root: lazy commands, errors in two lines, exit codes."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        return importlib.import_module(f"tito.commands.{name}").group  # type: ignore[no-any-return]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        if not standalone_mode:
            return super().main(args, prog_name, complete_var, False, **extra)
        run = super().main
        sys.exit(_guarded(lambda: run(args, "tito", complete_var, False, **extra)))


def _guarded(run: Callable[[], Any]) -> int:
    """The exit code of a run; what went wrong is told in two lines on stderr."""
    try:
        result = run()
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except click.Abort:
        screen.complain("stopped\nNext: tito")
        return INTERRUPTED
    except Trouble as error:
        screen.complain(str(error))
        return error.exit_code
    except click.UsageError as error:
        screen.complain(_usage(error))
        return USAGE
    except click.ClickException as error:
        screen.complain(error.format_message())
        return error.exit_code
    except _known_errors() as error:
        screen.complain(str(error))
        return _exit_code(error)
    except OSError as error:
        return _system_error(error)


def _usage(error: click.UsageError) -> str:
    """`tito module test: no such option --jsn. Did you mean --json?` and the help to read."""
    path = error.ctx.command_path if error.ctx else "tito"
    message = " ".join(error.format_message().split()).rstrip(".")
    return f"{path}: {message[:1].lower()}{message[1:]}\nNext: {path} --help"


def _loaded() -> dict[type[BaseException], int]:
    found = {}
    for (module, name), code in _ERRORS.items():
        if module in sys.modules:
            found[getattr(sys.modules[module], name)] = code
    return found


def _known_errors() -> tuple[type[BaseException], ...]:
    return tuple(_loaded())


def _exit_code(error: BaseException) -> int:
    return next(code for kind, code in _loaded().items() if isinstance(error, kind))


def _system_error(error: OSError) -> int:
    """The disk is full, a file may not be written, or the reader of our output went away."""
    if error.errno == errno.EPIPE:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    where = f"{error.filename}: " if error.filename else ""
    screen.complain(f"{where}{error.strerror or error}\nNext: tito system doctor")
    return ENVIRONMENT


def _show_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        screen.say(f"tito {__version__}")
        ctx.exit()


@click.group(cls=Tito, invoke_without_command=True)
@click.option("--version", is_flag=True, is_eager=True, expose_value=False,
              callback=_show_version, help="Show the version and stop.")
@click.option("--no-input", is_flag=True, help="Never ask: a question that needs a yes fails.")
@click.option("--json", "as_json", is_flag=True, help="Print where you are as JSON (schema 1).")
@click.pass_context
def cli(ctx: click.Context, no_input: bool, as_json: bool) -> None:
    """Build a machine learning framework with your own hands.

    Alone, tito says where you are and what comes next.

    \b
    Examples:
      tito init my-torch        make a workspace
      tito                      where am I?
      tito module start 01      begin the first module
      tito watch                check every time you save
    """
    if ctx.invoked_subcommand is None:
        from tito.commands import home

        home.show(as_json)


def main() -> None:
    """The entry point of the `tito` script."""
    cli()
