"""`tito module reset`, `solution` and `path`: what a learner does with the files of a module."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from tito import screen
from tito.console import (
    Trouble,
    chosen,
    consent,
    here,
    json_option,
    module_argument,
    named_exercise,
    opened,
)

if TYPE_CHECKING:
    from tito.course import Module


@click.command()
@module_argument
@click.option("--exercise", "-x", metavar="NAME", help="Only this exercise, by number or name.")
@click.option("--undo", is_flag=True, help="Bring back what the last reset or repair replaced.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def reset(module: Module | None, exercise: str | None, undo: bool, yes: bool) -> None:
    """Bring a notebook, or one exercise, back to how it was given.

    What was there is kept in .tinytorch/snapshots, and --undo brings it back.
    """
    from tito import lesson, views

    if undo and exercise:
        raise Trouble("--undo brings back the whole notebook", "tito module reset --undo")
    ws, progress = here()
    gone = undo and module and ws.snapshots(ws.notebook_path(module))
    module = module if module and gone else opened(module, ws, progress)
    path, number = ws.relative(ws.notebook_path(module)), f"{module.number:02d}"
    if undo:
        screen.say(f"{path} is back: {views.version(lesson.undo(ws, module), ws)}")
        return screen.next_step(f"tito module test {number}")
    name = lesson.exercise_name(module, exercise) if exercise else None
    which = f"{number} --exercise {name}" if name else number
    consent(f"Reset {name or path} to how it was given?", f"tito module reset {which} --yes", yes)
    lesson.reset(ws, module, name)
    screen.say(f"{name or path} is as it was given.")
    screen.next_step(f"tito module test {number}   (or tito module reset {number} --undo)")


@click.command()
@click.argument("name", metavar="NAME")
@click.option("--insist", is_flag=True, help="Show it although yours does not pass; recorded.")
@json_option
def solution(name: str, insist: bool, as_json: bool) -> None:
    """The course's solution of an exercise that passes.

    \b
    Example:
      tito module solution 05.8 --insist
    """
    from tito import lesson

    ws, progress = here()
    module, exercise = named_exercise(ws, progress, name)
    text, passes = lesson.solution(ws, module, exercise, insist)
    if as_json:
        return screen.say_json({"module": module.id, "exercise": exercise, "passes": passes,
                                "solution": text})
    if not passes:
        screen.say(screen.warm("Yours does not pass yet; that you looked is recorded."), err=True)
    screen.say(screen.dim(f"# {exercise}: one way to write it"))
    screen.say(text)
    screen.next_step(f"tito module test {module.number:02d}", err=True)


@click.command()
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
