"""`tito module`: start, check and complete modules."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from tito import screen
from tito.console import FAILED, Group, Trouble, chosen, consent, here, json_option, module_argument

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
    from tito import lesson, views

    ws, progress = here()
    module = chosen(module, progress)
    new = not ws.notebook_path(module).is_file()
    lesson.start(ws, module)
    optional = lesson.start_extra(ws, module) if extra else []
    screen.say_lines(views.started(ws, module, new, optional))
    number = f"{module.number:02d}"
    screen.next_step(f"tito watch {number}   (in a second terminal: it checks whenever you save)")


@group.command()
@module_argument
@json_option
def test(module: Module | None, as_json: bool) -> None:
    """Check a module. Nothing is changed.

    Shows the first exercise that does not pass: what was checked, expected, got, why it matters.
    """
    from tito import explain, lesson

    ws, progress = here()
    report = lesson.test(ws, chosen(module, progress))
    if as_json:
        screen.say_json(explain.as_dict(report))
    else:
        screen.say_lines(explain.page(ws, report))
        done = report.ok and progress.is_completed(report.module.id)
        screen.next_step(explain.next_command(report) + ("   (done before)" if done else ""))
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
    module = chosen(module, progress)
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
        screen.say_lines(views.completed(ws, module, progress) if report.ok else [])
        screen.next_step(following)
    sys.exit(0 if report.ok else FAILED)


@group.command()
@module_argument
@click.option("--exercise", metavar="NAME", help="Only this exercise (its number or its name).")
@click.option("--undo", is_flag=True, help="Bring back what the last reset or repair replaced.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def reset(module: Module | None, exercise: str | None, undo: bool, yes: bool) -> None:
    """Bring a notebook, or one exercise, back to how it was given.

    What was there is kept in .tinytorch/snapshots, and --undo brings it back.
    """
    from tito import lesson, overview

    ws, progress = here()
    module = chosen(module, progress)
    path, number = ws.relative(overview.require_notebook(ws, module)), f"{module.number:02d}"
    if undo and exercise:
        raise Trouble("--undo brings back the whole notebook", f"tito module reset {number} --undo")
    if undo:
        copy = lesson.undo(ws, module)
        screen.say(f"{path} is again as in {ws.relative(copy)}")
        return screen.next_step(f"tito module test {number}")
    name = lesson.exercise_name(module, exercise) if exercise else None
    which = f"{number} --exercise {exercise}" if exercise else number
    consent(f"Reset {name or path} to how it was given?", f"tito module reset {which} --yes", yes)
    lesson.reset(ws, module, name)
    screen.say(f"{name or path} is as it was given.")
    screen.next_step(f"tito module test {number}   (or tito module reset {number} --undo)")


@group.command()
@click.argument("name", metavar="NAME")
@click.option("--insist", is_flag=True, help="Show it although yours does not pass; recorded.")
@json_option
def solution(name: str, insist: bool, as_json: bool) -> None:
    """The course's solution of an exercise that passes.

    \b
    Example:
      tito module solution 05.8 --insist
    """
    from tito import lesson, overview

    ws, progress = here()
    module, exercise = overview.find_exercise(ws, progress, name)
    if exercise is None:
        raise Trouble(f"{module.id} is a module: name one of its exercises",
                      f"tito module status {module.number:02d}")
    text, passes = lesson.solution(ws, module, exercise, insist)
    if as_json:
        return screen.say_json({"module": module.id, "exercise": exercise, "passes": passes,
                                "solution": text})
    if not passes:
        screen.say(screen.warm("Yours does not pass yet; that you looked is recorded."), err=True)
    screen.say(screen.dim(f"# {exercise}: one way to write it"))
    screen.say(text)
    screen.next_step(f"tito module test {module.number:02d}", err=True)


@group.command()
@module_argument
@click.option("--exported", is_flag=True, help="The file in your framework instead.")
@json_option
def path(module: Module | None, exported: bool, as_json: bool) -> None:
    """Where your notebook of a module is."""
    ws, progress = here()
    module = chosen(module, progress)
    notebook, file = ws.notebook_path(module), ws.export_path(module.export)
    if as_json:
        found = {"module": module.id, "notebook": str(notebook), "exported": str(file)}
        return screen.say_json(found)
    screen.say(str(file if exported else notebook))
