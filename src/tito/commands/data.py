"""`tito data`: find, fetch and verify data sets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from tito import screen
from tito.console import FAILED, Group, Trouble, json_option

if TYPE_CHECKING:
    from tito.data import Status


def _convert(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
    """The name as the table has it. Trouble for one it does not have."""
    from tito import data

    try:
        if isinstance(value, tuple):
            return tuple(data.find(name).name for name in value)
        return data.find(value).name
    except data.DataError as error:
        raise Trouble(error.what, error.next) from None


def _suggest(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    from tito import data

    return [name for name in data.DATASETS if name.startswith(incomplete)]


dataset_argument = click.argument("name", callback=_convert, shell_complete=_suggest)


@click.group(cls=Group)
def group() -> None:
    """Find, fetch and verify data sets.

    TinyDigits and TinyTalks come with the course. The others are looked for in $TINYTORCH_DATA,
    then in your cache. Only `fetch` uses the network.
    """


@group.command("list")
@json_option
def list_(as_json: bool) -> None:
    """Every data set, and whether it is here."""
    from tito import data, origin

    rows = data.status()
    if as_json:
        return screen.say_json({"datasets": [_as_dict(row) for row in rows]})
    screen.say_lines(screen.table(
        (row.name, row.state, screen.size(row.size),
         origin.shorten(row.folder) if row.folder else "", row.title)
        for row in rows
    ))
    wanted = next((row.name for row in rows if row.state in ("absent", "incomplete")), None)
    screen.next_step(f"tito data fetch {wanted} --dry-run" if wanted else "tito data verify")


def _as_dict(row: Status) -> dict[str, Any]:
    return {
        "name": row.name, "title": row.title, "state": row.state, "bytes": row.size,
        "folder": str(row.folder) if row.folder else None, "missing": list(row.missing),
    }


@group.command()
@dataset_argument
@click.option("--dry-run", is_flag=True, help="Show the addresses and sizes; send nothing.")
@click.option("--mirror", multiple=True, metavar="URL", help="Fetch from here instead; repeatable.")
@json_option
def fetch(name: str, dry_run: bool, mirror: tuple[str, ...], as_json: bool) -> None:
    """Download a data set, checked against its published bytes.

    What is fetched and from where is shown first. Nothing of yours is sent. Files that are whole
    are kept, so an interrupted fetch goes on where it stopped.
    """
    from tito import data

    plan = data.fetch(name, dry_run=True, mirrors=mirror)
    for item in plan:
        screen.say(f"{item.urls[0]}  {screen.size(item.size)}\n  -> {item.path}", err=True)
    meter = screen.Meter()
    if plan and not dry_run:
        try:
            data.fetch(name, meter, mirrors=mirror)
        finally:
            meter.close()
    if as_json:
        return screen.say_json({"dataset": name, "dry_run": dry_run, "files": [
            {"urls": list(item.urls), "path": str(item.path), "bytes": item.size} for item in plan
        ]})
    done = "would be fetched" if dry_run else "fetched"
    screen.say(f"{name}: {len(plan)} files {done}" if plan else f"{name} is here and whole")
    screen.next_step(f"tito data fetch {name}" if dry_run and plan else f"tito data path {name}")


@group.command()
@click.argument("names", nargs=-1, metavar="[NAME]...", callback=_convert, shell_complete=_suggest)
@json_option
def verify(names: tuple[str, ...], as_json: bool) -> None:
    """Read data sets and compare every byte; all that are here, or those named."""
    from tito import data

    chosen = names or tuple(row.name for row in data.status() if row.folder)
    found = {name: data.verify(name) for name in chosen}
    broken = [name for name, problems in found.items() if problems]
    if as_json:
        screen.say_json({"ok": not broken, "datasets": found})
    for name, problems in {} if as_json else found.items():
        screen.say(f"{name}: {screen.bad('damaged') if problems else screen.good('whole')}")
        screen.say_lines(f"  {problem}" for problem in problems)
    if not as_json:
        screen.next_step(data.remedy(data.find(broken[0])) if broken else "tito data list")
    if broken:
        click.get_current_context().exit(FAILED)


@group.command()
@dataset_argument
@json_option
def path(name: str, as_json: bool) -> None:
    """The folder that holds a data set."""
    from tito import data

    folder = str(data.path(name))
    if as_json:
        return screen.say_json({"dataset": name, "folder": folder})
    screen.say(folder)
