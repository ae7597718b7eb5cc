"""`tito watch`: check again every time you save."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from tito import screen
from tito.console import Trouble, here, module_argument, opened

if TYPE_CHECKING:
    from tito.course import Module


@click.command("watch")
@module_argument
def group(module: Module | None) -> None:
    """Check again every time you save.

    Keep it open in a terminal beside your notebook. Keys: n completes a module that passes and
    starts the next, h gives a hint, l lists the exercises, r checks now, q quits.

    \b
    Examples:
      tito watch
      tito watch 05
    """
    from tito import overview
    from tito.watch import Watch

    ws, progress = here()
    module = opened(module, ws, progress)
    if not (screen.is_terminal(sys.stdin) and screen.is_terminal(sys.stdout)):
        raise Trouble("tito watch draws on a terminal, and this is none",
                      f"tito module test {module.number:02d}")
    Watch(ws, module).run()
    _, progress = here()
    screen.next_step(overview.next_command(progress))
