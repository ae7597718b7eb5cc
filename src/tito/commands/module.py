"""`tito module`: start, check and complete modules."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from tito import screen
from tito.commands.module_files import path, reset, solution
from tito.console import (
    FAILED,
    Group,
    chosen,
    here,
    json_option,
    module_argument,
    named_exercise,
    opened,
)

if TYPE_CHECKING:
    from tito.course import Module


@click.group(cls=Group)
def group() -> None:
    """Start, check and complete modules.

    A module is named by its number (5 or 05), its name (autograd) or both (05_autograd). Left out,
    it is the one you are in.
    """


@group.command("list")
@json_option
def list_(as_json: bool) -> None:
    """All modules, and how far you are in each."""
    from tito import overview, views

    _, progress = here()
    rows, command = overview.standings(progress), overview.next_command(progress)
    if as_json:
        return screen.say_json({"modules": [row.as_dict() for row in rows], "next": command})
    screen.say_lines(views.modules(rows))
    screen.next_step(command)


@group.command()
@module_argument
@json_option
def status(module: Module | None, as_json: bool) -> None:
    """The exercises of a module, without running them.

    `passed` is what the last `tito module complete` recorded; `tito module test` checks now.
    """
    from tito import overview, views

    ws, progress = here()
    module = chosen(module, progress)
    data = overview.details(ws, module, progress)
    if as_json:
        return screen.say_json(data)
    screen.say_lines(views.module(data))
    screen.next_step(data["next"])


@group.command()
@module_argument
@click.option("--extra", is_flag=True, help="Also write the module's optional notebooks.")
def start(module: Module | None, extra: bool) -> None:
    """Write a module's notebook into your workspace.

    A notebook that is there already stays as it is.

    \b
    Example:
      tito module start 01
    """
    from tito import lesson, overview, views

    ws, progress = here()
    module = chosen(module, progress)
    new = not ws.notebook_path(module).is_file()
    lesson.start(ws, module)
    optional = lesson.start_extra(ws, module) if extra else []
    screen.say_lines(views.started(ws, module, new, optional))
    if progress.is_completed(module.id):
        screen.say_lines(views.finished(module, progress))
        return screen.next_step(overview.next_command(progress))
    number = f"{module.number:02d}"
    screen.next_step(f"tito watch {number}   (in a second terminal: it checks whenever you save)")


@group.command()
@module_argument
@click.option("--exercise", "-x", metavar="NN.K", help="Only this exercise, by number or name.")
@json_option
def test(module: Module | None, exercise: str | None, as_json: bool) -> None:
    """Check a module. Nothing is changed.

    Shows the first exercise that does not pass: what was checked, expected, got, why it matters.
    With --exercise the checks of all others are left out: for when you are stuck and go on.

    \b
    Examples:
      tito module test 01
      tito module test -x 01.3
    """
    from tito import explain, lesson

    ws, progress = here()
    only = None
    if exercise:
        within = module or (chosen(None, progress) if exercise.isdigit() else None)
        module, only = named_exercise(ws, progress, exercise, within)
    report = lesson.test(ws, opened(module, ws, progress), only=only)
    if as_json:
        screen.say_json(explain.as_dict(report, only))
    else:
        screen.say_lines(explain.page(ws, report, only))
        done = not only and report.ok and progress.is_completed(report.module.id)
        screen.next_step(explain.next_command(report, only) + ("   (done before)" if done else ""))
    sys.exit(0 if report.ok else FAILED)


@group.command()
@module_argument
@json_option
def complete(module: Module | None, as_json: bool) -> None:
    """Check a module, write it into your framework and record it.

    Only a module that passes is written. Doing it again brings your framework up to date with
    your notebook.
    """
    from tito import explain, lesson, milestones, overview, views

    ws, progress = here()
    module = opened(module, ws, progress)
    report = lesson.complete(ws, module)
    if report.ok:
        milestones.unlock(ws)
    _, progress = here()
    following = overview.next_command(progress) if report.ok else explain.next_command(report)
    if as_json:
        file = str(ws.export_path(module.export)) if report.ok else None
        screen.say_json({**explain.as_dict(report), "file": file, "next": following})
    else:
        screen.say_lines(explain.page(ws, report))
        screen.say_lines(views.repaired(ws, module, report))
        screen.say_lines(views.completed(ws, module, progress) if report.ok else [])
        screen.next_step(following)
    sys.exit(0 if report.ok else FAILED)


for command in (reset, solution, path):
    group.add_command(command)
