"""What the commands share: groups that suggest, arguments that name modules, the workspace here."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from tito import screen

if TYPE_CHECKING:
    from tito.course import Module
    from tito.progress import Progress
    from tito.workspace import Workspace

FAILED, USAGE, ENVIRONMENT, CONSENT, INTERRUPTED = 1, 2, 3, 4, 130
EXIT_CODES = {
    0: "it worked",
    FAILED: "the work failed: a check did not pass",
    USAGE: "the command or what it names is not known, or not possible now",
    ENVIRONMENT: "something around it is missing or broken; see `tito system doctor`",
    CONSENT: "it needs a yes, and nobody could be asked",
    INTERRUPTED: "Ctrl-C",
}


class Trouble(Exception):
    """Two lines (what, then `Next:`) and an exit code."""

    def __init__(self, what: str, next_step: str, exit_code: int = USAGE) -> None:
        super().__init__(f"{what}\nNext: {next_step}")
        self.exit_code = exit_code


class Group(click.Group):
    """A group that shows its help when called alone, and suggests when a command is misspelt."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args and not self.invoke_without_command and not ctx.resilient_parsing:
            click.echo(ctx.get_help(), color=ctx.color)
            ctx.exit()
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if self.get_command(ctx, name) is None and name[:1] != "-" and not ctx.resilient_parsing:
            raise self._unknown(ctx, name)
        return super().resolve_command(ctx, args)

    def _unknown(self, ctx: click.Context, name: str) -> Trouble:
        import difflib

        close = difflib.get_close_matches(name, self.list_commands(ctx), n=1, cutoff=0.5)
        path = ctx.command_path
        if close:
            return Trouble(
                f"{path} has no command {name!r}: did you mean {close[0]}?", f"{path} {close[0]}"
            )
        return Trouble(f"{path} has no command {name!r}", f"{path} --help")


def written_module(name: str) -> Module:
    """The module called `name`. Raises CourseError for one that this release does not contain."""
    from tito import course, overview

    module = course.find_module(name)
    if not module.exists:
        raise overview.absent(module)
    return module


def _convert(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(written_module(name) for name in value)
    return None if value is None else written_module(value)


def _suggest(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    from tito import course

    found = [module for module in course.modules() if module.exists]
    names = [m.id for m in found] + [m.name for m in found]
    return [name for name in names if name.startswith(incomplete)]


# A module by number, name or id; left out, it is the one the learner is in.
module_argument = click.argument(
    "module", required=False, metavar="[MODULE]", callback=_convert, shell_complete=_suggest
)
modules_argument = click.argument(
    "modules", nargs=-1, metavar="[MODULE]...", callback=_convert, shell_complete=_suggest
)
json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON (schema 1) instead of text."
)


def here() -> tuple[Workspace, Progress]:
    """The workspace around the current directory, and its records. Trouble (3) without one."""
    from tito import workspace
    from tito.progress import Progress

    try:
        ws = workspace.find()
        progress = Progress.load(ws)
    except workspace.WorkspaceError as error:
        what, _, command = str(error).partition("\nNext: ")
        raise Trouble(what, command, ENVIRONMENT) from None
    for note in progress.notes:
        screen.say(screen.warm(note), err=True)
    return ws, progress


def chosen(module: Module | None, progress: Progress) -> Module:
    """The module named, else the one the learner is in. Trouble when all are completed."""
    from tito import overview

    found = module or overview.current(progress)
    if found is None:
        raise Trouble("every module of this release is completed: name one", "tito module list")
    return found


def opened(module: Module | None, ws: Workspace, progress: Progress) -> Module:
    """The module named, else the one the learner is in, which has a notebook by then.

    Trouble that says what comes next, when it has none: the learner stands between two modules.
    """
    from tito import course, overview

    found = chosen(module, progress)
    if module is None and not progress.module(found.id)["started"]:
        before = [m for m in course.modules() if progress.is_completed(m.id)]
        done = f"{before[-1].id} is completed, and " if before else ""
        raise Trouble(f"{done}{found.id}, which comes next, is not started yet",
                      f"tito module start {found.number:02d}")
    overview.require_notebook(ws, found)
    return found


def named_exercise(
    ws: Workspace, progress: Progress, asked: str, within: Module | None = None
) -> tuple[Module, str]:
    """The exercise called `asked`, in the module `within` if one was named. Trouble if there is
    none, or if it is another module's."""
    from tito import lesson, overview

    if within and (asked.isdigit() or not overview.is_module(asked.partition(".")[0])):
        return within, lesson.exercise_name(within, asked)
    module, name = overview.find_exercise(ws, progress, asked)
    if name is None:
        raise Trouble(f"{module.id} is a module: name one of its exercises",
                      f"tito module status {module.number:02d}")
    if within not in (None, module):
        raise Trouble(f"{name} is an exercise of {module.id}",
                      f"tito module test {module.number:02d} --exercise {asked}")
    return module, name


def consent(question: str, command: str, given: bool) -> None:
    """Ask, unless `given`. Trouble (4) for no, or when nobody can be asked; `command` says yes."""
    if given:
        return
    if not screen.interactive():
        raise Trouble(f"{question} Nobody can be asked here", command, CONSENT)
    if not click.confirm(screen.plain(question, sys.stdout)):
        raise Trouble("nothing was changed", command, CONSENT)
