"""`tito init DIR`: make a workspace, or mend one."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from tito import screen


@click.command("init")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--format", "form", type=click.Choice(["ipynb", "py"]), default="ipynb",
              show_default=True, help="Keep notebooks as Jupyter files or plain Python.")
@click.option("--name", help="Name of your package; by default that of the folder.")
def group(folder: Path, form: str, name: str | None) -> None:
    """Make a workspace, or mend one.

    DIR is made if it is not there. In a workspace that exists, files that are missing come back
    and nothing else is touched.

    \b
    Examples:
      tito init my-torch
      tito init my-torch --format py
    """
    from tito import origin, overview, workspace
    from tito.progress import Progress

    marker = folder.expanduser() / workspace.MARKER
    known = marker.is_file()
    ws = workspace.init(folder, format=form, name=name)
    root = origin.shorten(ws.root)
    if known:
        screen.say(f"{root} is whole: what was missing is back, everything else is as it was.")
    else:
        screen.say(f"Made {root}, your workspace:")
        for line in screen.table((
            ("  modules/", f"your notebooks ({ws.format})"),
            ("  tinytorch/", "your framework, grown by every module you complete"),
            ("  milestones/", "what it can do, as they unlock"),
        )):
            screen.say(line)
    inside = Path.cwd().resolve().is_relative_to(ws.root)
    command = overview.next_command(Progress.load(ws))
    screen.next_step(command if inside else f"cd {shlex.quote(str(folder))} && {command}")
