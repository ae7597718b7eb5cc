"""`tito checkpoint`: answer for a capability with running code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from tito import screen
from tito.console import FAILED, Group, here, json_option

if TYPE_CHECKING:
    from tito.checkpoints import Checkpoint
    from tito.progress import Progress


def _convert(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
    from tito import checkpoints

    return checkpoints.find(value)


def _suggest(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    from tito import checkpoints

    return [c.id for c in checkpoints.checkpoints() if c.id.startswith(incomplete)]


@click.group(cls=Group)
def group() -> None:
    """Answer for a capability with running code.

    Sixteen questions about what your framework can do, each asked by programs you have not seen.
    """


@group.command()
@json_option
def status(as_json: bool) -> None:
    """The sixteen checkpoints: passed, open to you, or which module opens them."""
    from tito import checkpoints, exhibits

    _, progress = here()
    found, command = checkpoints.standings(progress), _next(progress)
    if as_json:
        return screen.say_json({"checkpoints": [row.as_dict() for row in found], "next": command})
    screen.say_lines(exhibits.checkpoint_list(found))
    screen.next_step(command)


@group.command()
@click.argument("checkpoint", metavar="N", callback=_convert, shell_complete=_suggest)
@json_option
def test(checkpoint: Checkpoint, as_json: bool) -> None:
    """Ask one checkpoint's questions of your framework.

    Unlike other tests this one is recorded: that you tried, and the day it first passed. Nothing
    else changes.

    \b
    Examples:
      tito checkpoint test 0
      tito checkpoint test gradients
    """
    from tito import checkpoints, exhibits, explain
    from tito.progress import Progress

    ws, _ = here()
    result = checkpoints.test(ws, checkpoint)
    command = result.blame.next if result.blame else _next(Progress.load(ws))
    if as_json:
        screen.say_json({**result.as_dict(), "next": command})
    else:
        screen.say(explain.header(ws))
        screen.say_lines(exhibits.checkpoint_result(result))
        screen.next_step(command)
    if not result.ok:
        click.get_current_context().exit(FAILED)


def _next(progress: Progress) -> str:
    """The first open checkpoint, else what comes next in the modules."""
    from tito import checkpoints, overview

    opened = [row for row in checkpoints.standings(progress) if row.state == "open"]
    if opened:
        return f"tito checkpoint test {opened[0].checkpoint.number}"
    return overview.next_command(progress)
