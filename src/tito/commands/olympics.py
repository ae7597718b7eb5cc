"""`tito olympics`: the capstone's tracks. Begin an entry, read the rules, verify a submission."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from tito import screen
from tito.console import FAILED, Group, here, json_option

if TYPE_CHECKING:
    from tito.olympics import Row, Verdict

TRACKS = ("vision", "language", "speed", "compression")
LABEL = 10


@click.group(cls=Group)
def group() -> None:
    """Optimise your own system, and prove it.

    Four tracks. You take a network that your framework trained, make it faster or smaller with
    modules 14 to 18, measure it with module 19, and hand in what anybody can verify.
    """


@group.command()
@click.option("--track", type=click.Choice(TRACKS), required=True, help="Which one to enter.")
@click.option("--force", is_flag=True, help="Write the files anew; yours are kept as snapshots.")
@json_option
def init(track: str, force: bool, as_json: bool) -> None:
    """Write an entry that runs, the target and the rules into olympics/.

    What is there stays as it is, unless --force. All modules have to be completed.

    \b
    Examples:
      tito olympics init --track vision
      tito olympics init --track speed --force
    """
    from tito import olympics

    ws, _ = here()
    new = olympics.init(ws, track, force)
    place = ws.relative(olympics.folder(ws, track))
    command = f"python {place}/entry.py"
    if as_json:
        files = [str(path) for path in new]
        return screen.say_json({"track": track, "files": files, "next": command})
    for path in new:
        screen.say(f"  {screen.good('✓')} {ws.relative(path)}")
    if not new:
        screen.say(f"{place} is there already: nothing was changed")
    screen.next_step(command)


@group.command()
@click.option("--track", type=click.Choice(TRACKS), help="Only this one.")
@json_option
def rules(track: str | None, as_json: bool) -> None:
    """What the tracks ask for: data, targets, limits."""
    from tito import olympics

    tables = [table for table in olympics.listed() if track in (None, table["id"])]
    command = f"tito olympics init --track {track or 'vision'}"
    if as_json:
        return screen.say_json({"tracks": tables, "next": command})
    for number, table in enumerate(tables):
        if number:
            screen.say()
        for line in olympics.rules(table).splitlines():
            if line.startswith("#"):
                screen.say(screen.bold(line.lstrip("# ")))
            elif line:
                screen.say_lines(screen.wrap(line, "  ", "" if line[0].isalpha() else "  "))
    screen.next_step(command)


@group.command()
@click.argument("track", required=False, type=click.Choice(TRACKS), metavar="[TRACK]")
@json_option
def check(track: str | None, as_json: bool) -> None:
    """Verify a submission on this machine, as a judge would.

    Schema, hashes, accuracy counted from the raw predictions, models loaded and asked again, sizes,
    times; the first thing that is wrong is explained. A target that is missed is no error. Without
    a TRACK: all that have a submission.
    """
    from tito import olympics

    ws, _ = here()
    verdicts = []
    for name in [track] if track else olympics.entered(ws):
        verdicts.append(olympics.check(ws, name, lambda line: screen.say(line, err=True)))
        if not as_json:
            screen.say_lines(_verdict(verdicts[-1]))
        if not verdicts[-1].ok:
            break
    ok, command = verdicts[-1].ok, verdicts[-1].next or "tito benchmark capstone"
    if as_json:
        told = [verdict.as_dict() for verdict in verdicts]
        screen.say_json({"ok": ok, "submissions": told, "next": command})
    else:
        if ok:
            screen.say("Nothing was sent anywhere: submitting comes with the leaderboard.")
        screen.next_step(command)
    if not ok:
        click.get_current_context().exit(FAILED)


def _verdict(verdict: Verdict) -> list[str]:
    """A submission's steps, then its targets."""
    lines = [screen.bold(f"olympics/{verdict.track}")]
    for row in verdict.steps:
        lines += _row(row, screen.good("✓") if row.ok else screen.bad("✗"))
    if verdict.targets:
        met = sum(row.ok for row in verdict.targets)
        lines.append(f"targets: {met} of {len(verdict.targets)} met")
    for row in verdict.targets:
        lines += _row(row, screen.good("✓") if row.ok else screen.warm("·"))
    return lines


def _row(row: Row, mark: str) -> list[str]:
    first, *rest = screen.wrap(row.said, " " * (LABEL + 4), " " * (LABEL + 4))
    return [f"  {mark} {screen.dim(row.name.ljust(LABEL))}{first[LABEL + 4 :]}", *rest]
