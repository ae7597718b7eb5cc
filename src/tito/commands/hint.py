"""`tito hint`: one rung of an exercise's ladder at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from tito import screen
from tito.console import Trouble, here, json_option, opened

if TYPE_CHECKING:
    from tito.course import Module
    from tito.progress import Progress
    from tito.workspace import Workspace


@click.command("hint")
@click.argument("exercise", metavar="[NN.K]", required=False)
@click.option("--seen", is_flag=True, help="The hints you have had, without taking another.")
@json_option
def group(exercise: str | None, seen: bool, as_json: bool) -> None:
    """The next hint for an exercise.

    There are three: a question that points the way, the approach, all but the code. Without NN.K it
    is the first exercise that does not pass. What you took is recorded.

    \b
    Examples:
      tito hint
      tito hint 05.8
      tito hint Tensor.sum
    """
    from tito import hints, lesson, overview

    ws, progress = here()
    module, name = _wanted(ws, progress, exercise)
    ladder = hints.ladder(module)[name]
    taken = progress.module(module.id)["hints"].get(name, 0)
    if seen:
        rung, texts = taken, ladder[:taken]
    else:
        rung, text = lesson.hint(ws, module, name)
        texts = [text]
    reference = f"{module.number:02d}.{overview.names(module).index(name) + 1}"
    command, advice = _next(progress, module, name, reference, len(ladder) - rung)
    if as_json:
        return screen.say_json({"module": module.id, "exercise": name, "rung": rung,
                                "rungs": len(ladder), "hints": texts, "next": command})
    screen.say(screen.bold(f"{reference}  {name}") + f"  hint {rung} of {len(ladder)}")
    for text in texts:
        screen.say_lines(screen.wrap(text, "  ", "  "))
    screen.next_step(advice)


def _next(
    progress: Progress, module: Module, name: str, reference: str, left: int
) -> tuple[str, str]:
    """The command that gives more help, and what to do: try first."""
    again = f"try again, then tito module test -x {reference}"
    if left:
        command = f"tito hint {reference}"
        return command, f"{again}   (still stuck: {command})"
    command = f"tito module solution {reference}"
    if progress.module(module.id)["passed"].get(name):
        return command, f"{command}   (open: yours has passed)"
    command += " --insist"
    return command, f"{again}   (or {command}, which is recorded)"


def _wanted(ws: Workspace, progress: Progress, asked: str | None) -> tuple[Module, str]:
    """The exercise asked for; for a module alone, the first of it that does not pass."""
    from tito import explain, lesson, overview

    if asked:
        module, name = overview.find_exercise(ws, progress, asked)
    else:
        module, name = opened(None, ws, progress), None
    if name is not None:
        overview.require_notebook(ws, module)
        return module, name
    report = lesson.test(ws, module)
    if report.failure is None:
        raise Trouble(f"{module.id} passes: there is nothing to hint at",
                      explain.next_command(report))
    if not report.number:
        raise Trouble(f"{explain.heading(report)}: {explain.what(report)}",
                      f"tito module test {module.number:02d}")
    return module, report.failure.step.name
