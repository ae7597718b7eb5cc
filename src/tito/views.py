"""What the learner's state looks like: lines for the start page, the module list, one module."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tito import course, overview, screen

if TYPE_CHECKING:
    from pathlib import Path

    from tito.course import Module
    from tito.lesson import Report
    from tito.overview import Standing
    from tito.progress import Progress
    from tito.workspace import Workspace

_MARKS = {
    "completed": screen.good("✓"),
    "started": screen.warm("▸"),
    "open": "○",
    "locked": screen.dim("·"),
    "planned": screen.dim("·"),
}


def home(ws: Workspace, progress: Progress) -> list[str]:
    """Where the learner is: a mark per module by tier, a bar, the module at hand."""
    from tito import origin

    rows = overview.standings(progress)
    lines = [f"{screen.bold('TinyTorch')}  {origin.shorten(ws.root)}"]
    for tier, title in course.tiers().items():
        marks = "".join(_MARKS[row.state] for row in rows if row.module.tier == tier)
        lines.append(f"  {title:<14}{marks}")
    lines += _bar(rows)
    now = overview.current(progress)
    return lines + (screen.wrap(f"{now.id}: {now.summary}", "  ", "  ") if now else [])


def _bar(rows: list[Standing]) -> list[str]:
    """How far the learner is in what there is, and how much of the course that is."""
    written = [row for row in rows if row.module.exists]
    done = sum(row.state == "completed" for row in written)
    earned = sum(row.earned for row in written)
    total = sum(row.module.points for row in written)
    text = f"{done}/{len(written)} modules, {earned:,}/{total:,} points"
    cells = max(4, min(40, screen.width() - len(text) - 4))
    lines = [f"  {screen.bar(done, len(written), cells)}  {text}"]
    if len(written) < len(rows):
        said = f"{len(written)} of the course's {len(rows)} modules are written so far"
        lines += [screen.dim(line) for line in screen.wrap(said, "  ", "  ")]
    return lines


def modules(rows: list[Standing]) -> list[str]:
    """The twenty modules, one line each: the summary as far as it makes sense."""
    wide = screen.width() >= 60
    lines = screen.table(
        ((row.module.id, row.state, f"{row.earned}/{row.module.points}",
          *([f"{row.module.minutes / 60:.1f} h"] if wide else []), row.module.summary)
         for row in rows),
        screen.shorten,
    )
    styles = {"completed": screen.good, "started": screen.bold, "planned": screen.dim}
    return [styles.get(row.state, str)(line) for row, line in zip(rows, lines)]


def module(details: dict[str, Any]) -> list[str]:
    """One module (`overview.details`): its state, and its exercises."""
    attempts, number = details["attempts"], details["module"][:2]
    tried = f"  (`complete` was run {screen.count(attempts, 'time')})" if attempts else ""
    lines = screen.table(
        (f"  {number}.{row['number']}", row["state"], f"{row['points']} pt", _with_help(row))
        for row in details["exercises"]
    )
    return [f"{screen.bold(details['module'])}  {details['state']}{tried}", *lines]


def started(ws: Workspace, module: Module, new: bool, extra: list[Path]) -> list[str]:
    """A module that was started: its notebook, what is in it, how to open it."""
    count = screen.count(len(overview.names(module)), "exercise")
    said = "is your notebook" if new else "is there already, untouched"
    return [
        f"{screen.bold(module.id)}  {module.summary}",
        f"  {ws.relative(ws.notebook_path(module))} {said}",
        *(f"  {ws.relative(file)} is optional, for the curious" for file in extra),
        f"  {count}, {module.points} points, about {module.minutes / 60:.1f} hours",
        f"  open it in any editor, or with: tito notebook open {module.number:02d}",
    ]


def finished(module: Module, progress: Progress) -> list[str]:
    """That a module which was started is completed already, and what is current instead."""
    when, now = progress.module(module.id)["completed"], overview.current(progress)
    if when is None:
        return []
    instead = f"; now comes {now.id}" if now else ", as is all of this release"
    return screen.wrap(f"{module.id} is completed since {when[:10]}{instead}", "  ", "  ")


def repaired(ws: Workspace, module: Module, report: Report) -> list[str]:
    """That completing mended the notebook: an editor that has it open shows the old one."""
    if not (report.ok and report.notices):
        return []
    path = ws.relative(ws.notebook_path(module))
    said = f"{path} was mended (the old one: tito module reset {module.number:02d} --undo). " \
           "Reload it where it is open; in Jupyter: File, Reload Notebook from Disk."
    return [screen.warm(line) for line in screen.wrap(said, " " * 12, "  mended    ")]


def version(snapshot: Path, ws: Workspace) -> str:
    """A kept copy as people speak of it: `the version of 2026-01-31 12:00:05, before a reset`."""
    from datetime import UTC, datetime

    folder = snapshot.relative_to(ws.snapshots_dir).parts[0]
    stamp, _, reason = folder.split("-", 2)
    taken = datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).astimezone()
    why = {"restore": "an --undo", "repair": "a repair"}.get(reason, f"a {reason}")
    return f"the version of {taken:%Y-%m-%d %H:%M:%S}, kept before {why}"


def _with_help(row: dict[str, Any]) -> str:
    seen = row["hints_seen"]
    taken = [f"{seen} hint{'s' * (seen > 1)}"] if seen else []
    taken += ["solution shown"] if row["solution_shown"] else []
    return f"{row['name']}  ({', '.join(taken)})" if taken else str(row["name"])


def completed(ws: Workspace, module: Module, progress: Progress) -> list[str]:
    """What completing a module gave: the file, its names, the milestones it opened."""
    from tito import origin

    file = ws.export_path(module.export)
    names = ", ".join(origin.exported_names(file))
    lines = [f"  written   {ws.relative(file)}"]
    lines += screen.wrap(f"from tinytorch import {names}", " " * 14, "  import    ")
    for opened in overview.unlocked(module, progress):
        lines += screen.wrap(f"milestone {opened.year}: {opened.summary} "
                             f"(tito milestone run {opened.year})", " " * 12, "  unlocked  ")
    return lines
