"""What the learner's state looks like: lines for the start page, the module list, one module."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tito import course, overview, screen

if TYPE_CHECKING:
    from pathlib import Path

    from tito.course import Module
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
    done = sum(row.state == "completed" for row in rows)
    earned, total = sum(row.earned for row in rows), sum(row.module.points for row in rows)
    cells = max(10, min(40, screen.width() - 40))
    lines.append(f"  {screen.bar(done, len(rows), cells)}  {done}/{len(rows)} modules, "
                 f"{earned:,}/{total:,} points")
    now = overview.current(progress)
    return lines + (screen.wrap(f"{now.id}: {now.summary}", "  ", "  ") if now else [])


def modules(rows: list[Standing]) -> list[str]:
    """The twenty modules, one line each."""
    lines = screen.table(
        (row.module.id, row.state, f"{row.earned}/{row.module.points}",
         f"{row.module.minutes / 60:.1f} h", row.module.summary)
        for row in rows
    )
    styles = {"completed": screen.good, "started": screen.bold, "planned": screen.dim}
    return [styles.get(row.state, str)(line) for row, line in zip(rows, lines)]


def module(details: dict[str, Any]) -> list[str]:
    """One module (`overview.details`): its state, and its exercises."""
    attempts, number = details["attempts"], details["module"][:2]
    tried = f", completion tried {attempts} time{'s' * (attempts != 1)}" if attempts else ""
    lines = screen.table(
        (f"  {number}.{row['number']}", row["state"], f"{row['points']} pt", _with_help(row))
        for row in details["exercises"]
    )
    return [f"{screen.bold(details['module'])}  {details['state']}{tried}", *lines]


def started(ws: Workspace, module: Module, new: bool, extra: list[Path]) -> list[str]:
    """A module that was started: its notebook, what is in it, how to open it."""
    count = len(overview.names(module))
    said = "is your notebook" if new else "is there already, untouched"
    return [
        f"{screen.bold(module.id)}  {module.summary}",
        f"  {ws.relative(ws.notebook_path(module))} {said}",
        *(f"  {ws.relative(file)} is optional, for the curious" for file in extra),
        f"  {count} exercises, {module.points} points, about {module.minutes / 60:.1f} hours",
        f"  open it in any editor, or with: tito notebook open {module.number:02d}",
    ]


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
