"""`tito notebook`: open notebooks, or convert them."""

from __future__ import annotations

import os
import shlex
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tito import screen
from tito.console import ENVIRONMENT, Group, Trouble, here, json_option, module_argument, opened

if TYPE_CHECKING:
    from tito.course import Module
    from tito.workspace import Workspace

PACKAGES = {"jupyter": "jupyterlab", "marimo": "marimo"}
COLAB = """\
1. open https://colab.research.google.com and choose File, Upload notebook: {path}
2. put this in a cell at the top and run it:
     !pip install git+ADDRESS_OF_THE_REPOSITORY && tito init my-torch
     %cd my-torch
3. upload the folder {package} to my-torch/tinytorch: your framework so far
4. when you are done: File, Download .ipynb, back to {path}"""


@click.group(cls=Group)
def group() -> None:
    """Open notebooks, or convert them.

    A notebook is a Jupyter file (.ipynb) or plain Python with `# %%` cells (.py), as you like:
    checks and progress are the same.
    """


@group.command("open")
@module_argument
@click.option("--with", "tool", type=click.Choice(["jupyter", "marimo", "colab", "editor"]),
              help="Default: jupyter for .ipynb, your $EDITOR for .py.")
@click.option("--print", "only_print", is_flag=True, help="Print the command; start nothing.")
def open_(module: Module | None, tool: str | None, only_print: bool) -> None:
    """Open a module's notebook.

    marimo opens a copy in .tinytorch/explore, to play with: it is not checked. Without a terminal
    the command is printed instead of started.

    \b
    Examples:
      tito notebook open 01
      tito notebook open 01 --with editor
    """
    ws, progress = here()
    module = opened(module, ws, progress)
    path = ws.notebook_path(module)
    tool = tool or ("editor" if path.suffix == ".py" else "jupyter")
    following = f"tito watch {module.number:02d}"
    if tool == "colab":
        screen.say(COLAB.format(path=ws.relative(path), package=ws.relative(ws.package_dir)))
        return screen.next_step(following)
    commands = _commands(ws, path, tool)
    if only_print or not screen.interactive():
        return screen.say_lines(shlex.join(command) for command in commands)
    screen.next_step(f"{following}   (in a second terminal)", err=True)
    for command in commands:
        _start(command)


def _commands(ws: Workspace, path: Path, tool: str) -> list[list[str]]:
    """What to run, one after the other. Trouble when it is not installed."""
    if tool == "editor":
        named = os.environ.get("VISUAL") or os.environ.get("EDITOR")
        if not named:
            raise Trouble("no editor is set in $VISUAL or $EDITOR",
                          f"open {path} in the editor you like", ENVIRONMENT)
        return [[*shlex.split(named), str(path)]]
    package = PACKAGES[tool]
    if find_spec(package) is None:
        install = f"{shlex.quote(sys.executable)} -m pip install {package}"
        raise Trouble(f"{package} is not installed in this environment",
                      f"{install}   (or open {path} in any editor)", ENVIRONMENT)
    if tool == "jupyter":
        return [[sys.executable, "-m", "jupyter", "lab", str(path)]]
    return _marimo(ws, path)


def _marimo(ws: Workspace, path: Path) -> list[list[str]]:
    """marimo keeps notebooks in a form of its own: a copy is made once, and opened from then on."""
    from tito import convert

    play = ws.state_dir / "explore" / f"{path.parent.name}.py"
    marimo = [sys.executable, "-m", "marimo"]
    edit = [*marimo, "edit", str(play)]
    if play.is_file():
        return [edit]
    return [[*marimo, "convert", str(convert.scratch(ws, path)), "-o", str(play)], edit]


def _start(command: list[str]) -> None:
    import subprocess

    try:
        code = subprocess.run(command).returncode
    except FileNotFoundError:
        raise Trouble(f"there is no program {command[0]}", "set EDITOR", ENVIRONMENT) from None
    if code:
        raise Trouble(f"{shlex.join(command)} ended with code {code}", "tito system doctor",
                      ENVIRONMENT)


@group.command()
@module_argument
@click.option("--all", "every", is_flag=True, help="Every notebook, and those still to come.")
@click.option("--to", "form", type=click.Choice(["ipynb", "py"]), required=True)
@json_option
def convert(module: Module | None, every: bool, form: str, as_json: bool) -> None:
    """Rewrite notebooks in the other format.

    Code, prose and progress stay; what cells printed is not kept in .py. The old file is kept in
    .tinytorch/snapshots.

    \b
    Examples:
      tito notebook convert 03 --to py
      tito notebook convert --all --to ipynb
    """
    from tito import convert as conversion
    from tito import course, overview

    ws, progress = here()
    if every and module:
        raise Trouble("--all is every module: name none",
                      f"tito notebook convert --all --to {form}")
    if every:
        found = [path for m in course.modules() for path in conversion.notebooks(ws, m)]
    else:
        found = conversion.notebooks(ws, opened(module, ws, progress))
    changed = conversion.convert(ws, found, form)
    if every:
        ws = conversion.set_format(ws, form)
    if as_json:
        return screen.say_json({"format": ws.format, "converted": [str(path) for path in changed]})
    for path in changed:
        screen.say(f"{ws.relative(path)}")
    if not changed:
        screen.say(f"nothing to convert: it is all .{form}")
    screen.next_step(overview.next_command(progress))
