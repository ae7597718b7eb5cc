"""`tito` alone: where you are, how far, and the next command."""

from __future__ import annotations

from tito import screen


def show(as_json: bool) -> None:
    """In a workspace, the learner's state; anywhere else, how to begin."""
    from tito import overview, views, workspace
    from tito.console import here

    try:
        workspace.find()
    except workspace.WorkspaceError as error:
        return _outside(str(error), as_json)
    ws, progress = here()
    rows, now = overview.standings(progress), overview.current(progress)
    if as_json:
        return screen.say_json({
            "workspace": str(ws.root),
            "current": now.id if now else None,
            "completed": sum(row.state == "completed" for row in rows),
            "written": sum(row.module.exists for row in rows),
            "modules": [row.as_dict() for row in rows],
            "next": overview.next_command(progress),
        })
    screen.say_lines(views.home(ws, progress))
    screen.next_step(overview.next_command(progress))


def _outside(why: str, as_json: bool) -> None:
    what, _, command = why.partition("\nNext: ")
    if as_json:
        return screen.say_json({"workspace": None, "why": what, "next": command})
    screen.say(f"{screen.bold('TinyTorch')}  a machine learning framework, built by your own hands")
    screen.say(what)
    screen.next_step(command)
