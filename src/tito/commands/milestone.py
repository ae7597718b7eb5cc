"""`tito milestone`: run what your framework can do by now, judged outside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from tito import screen
from tito.console import FAILED, Group, Trouble, here, json_option

if TYPE_CHECKING:
    from tito.course import Milestone
    from tito.milestones import Standing, Verdict
    from tito.progress import Progress
    from tito.workspace import Workspace


def _convert(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
    from tito import course

    return None if value is None else course.find_milestone(value)


def _suggest(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    from tito import course

    return [m.id for m in course.milestones() if m.id.startswith(incomplete)]


milestone_argument = click.argument(
    "milestone", metavar="MILESTONE", callback=_convert, shell_complete=_suggest
)


@click.group(cls=Group)
def group() -> None:
    """Run what your framework can do by now.

    Six systems from 1958 to 2024, each trained by your framework alone and then judged by NumPy
    from the weights it learned. A milestone is named by its year (1958), its name (perceptron) or
    both.
    """


@group.command("list")
@json_option
def list_(as_json: bool) -> None:
    """The six milestones, and which are open to you."""
    from tito import exhibits, milestones

    _, progress = here()
    found = milestones.standings(progress)
    command = _next(progress)
    if as_json:
        return screen.say_json({"milestones": [row.as_dict() for row in found], "next": command})
    screen.say_lines(exhibits.milestone_list(found))
    screen.next_step(command)


@group.command()
@milestone_argument
@json_option
def info(milestone: Milestone, as_json: bool) -> None:
    """What a milestone is about, what it needs, and what you reached."""
    from tito import exhibits, milestones

    ws, progress = here()
    found = milestones.standing(milestone, progress)
    command = _next_for(found, progress)
    if as_json:
        place = str(milestones.folder(ws, milestone))
        return screen.say_json({**found.as_dict(), "folder": place,
                                "story": exhibits.story(milestone), "next": command})  # fmt: skip
    screen.say_lines(exhibits.milestone_info(ws, found))
    screen.next_step(command)


@group.command()
@milestone_argument
@click.option("--data", default="auto", metavar="NAME",
              help="For 1986: tinydigits, mnist; for 1998: tinydigits, cifar10; for 2017: "
                   "tinytalks, shakespeare; or auto (all that is here).")  # fmt: skip
@click.option("--epochs", type=click.IntRange(1), help="Epochs of each training; else the usual.")
@click.option("--seed", type=click.IntRange(0), default=0, help="Another start and other points.")
@click.option("--long", is_flag=True, help="Also the trainings that take an hour or more.")
@click.option("--accelerate", is_flag=True, help="On the kernels of your module 18.")
@click.option("--fresh", is_flag=True, help="Begin an interrupted training again.")
@json_option
def run(
    milestone: Milestone,
    data: str,
    epochs: int | None,
    seed: int,
    long: bool,
    accelerate: bool,
    fresh: bool,
    as_json: bool,
) -> None:
    """Train on your framework, be judged, and record it.

    First every module you built is asked a few small questions, so that a mistake is found by name.
    Then the training runs; its progress goes to stderr. Last NumPy computes everything again from
    the weights, on points whose answers your framework never had. A pass leaves a record, the
    weights and pictures in milestones/. A long training is saved after every epoch: interrupted,
    the same command goes on where it was.

    \b
    Examples:
      tito milestone run 1958
      tito milestone run mlp --data mnist
    """
    from tito import explain, milestones
    from tito.judge import Options

    ws, _ = here()
    if not as_json:
        screen.say(explain.header(ws))
    options = Options(seed, epochs, data, long, accelerate)
    try:
        verdict = milestones.run(ws, milestone, options, _show, fresh=fresh)
    except KeyboardInterrupt:
        if milestones.unfinished(ws, milestone, options):
            screen.say("\nInterrupted. The epochs that were finished are kept.", err=True)
            screen.say("Next: the same command goes on from there", err=True)
        raise
    _tell(ws, [verdict], as_json)


@group.command()
@click.argument("milestone", required=False, metavar="[MILESTONE]", callback=_convert,
                shell_complete=_suggest)  # fmt: skip
@click.option(
    "--all", "every", is_flag=True, help="Every milestone open to you; run those not yet."
)
@json_option
def validate(milestone: Milestone | None, every: bool, as_json: bool) -> None:
    """Judge what is recorded again, without training.

    Your framework as it is now answers the small questions, and the gate judges the weights you
    have. What was never run, or lost its files, is run. Without a name: all that you passed.
    """
    from tito import explain, milestones
    from tito.judge import Options

    ws, progress = here()
    wanted = _wanted(progress, milestone, every)
    if not as_json:
        screen.say(explain.header(ws))
    verdicts = []
    for one in wanted:
        milestones.require(progress, one)
        again = milestones.validate(ws, one)
        verdicts.append(again or milestones.run(ws, one, Options(), _show))
    _tell(ws, verdicts, as_json)


@group.command()
@click.argument("question", nargs=-1, metavar="[QUESTION]...")
@click.option("--temperature", type=click.FloatRange(0, 5), default=0.0, show_default=True,
              help="0 takes the likeliest token, 1 draws as the model believes.")  # fmt: skip
@click.option("--seed", type=click.IntRange(0), default=0, help="Other draws, with a temperature.")
@json_option
def chat(question: tuple[str, ...], temperature: float, seed: int, as_json: bool) -> None:
    """Talk to the transformer that your framework trained.

    It knows the 500 facts of TinyTalks and answers everything else as well, wrongly. Without a
    QUESTION it reads one per line, until Ctrl-D or `quit`.

    \b
    Examples:
      tito milestone chat
      tito milestone chat Which sound comes from a frog?
      tito milestone chat --temperature 0.8 Hello there
    """
    from tito import chat as chatting
    from tito import exhibits, explain

    ws, progress = here()
    told: list[dict[str, str]] = []
    with chatting.Talker(ws) as talker:
        if not as_json:
            screen.say(explain.header(ws), err=True)
        try:
            for asked in [" ".join(question)] if question else chatting.typed():
                pieces = talker.ask(asked, temperature, seed + len(told))
                told.append({"question": asked, "answer": chatting.spoken(pieces, as_json)})
        except chatting.ChatError as error:
            screen.say_lines(exhibits.blame(error.blame))
            screen.next_step(error.blame.next)
            click.get_current_context().exit(FAILED)
    command = _next(progress)
    if as_json:
        return screen.say_json({"temperature": temperature, "talk": told, "next": command})
    screen.next_step(command, err=True)


def _wanted(progress: Progress, milestone: Milestone | None, every: bool) -> list[Milestone]:
    from tito import milestones

    states = ("open", "passed") if every else ("passed",)
    found = [row.milestone for row in milestones.standings(progress) if row.state in states]
    if milestone is not None:
        return [milestone]
    if not found:
        raise Trouble("no milestone is recorded yet", _next(progress))
    return found


def _show(line: str) -> None:
    screen.say(line, err=True)


def _tell(ws: Workspace, verdicts: list[Verdict], as_json: bool) -> None:
    """Print verdicts and the next command; exit code 1 unless all passed."""
    from tito import exhibits
    from tito.progress import Progress

    failed = [verdict for verdict in verdicts if verdict.blame]
    command = failed[0].blame.next if failed and failed[0].blame else _next(Progress.load(ws))
    if as_json:
        data = [verdict.as_dict() for verdict in verdicts]
        screen.say_json({**data[0], "next": command} if len(data) == 1 else
                        {"ok": not failed, "milestones": data, "next": command})  # fmt: skip
    else:
        for verdict in verdicts:
            screen.say_lines(exhibits.verdict(ws, verdict))
        screen.next_step(command)
    if failed:
        click.get_current_context().exit(FAILED)


def _next(progress: Progress) -> str:
    """The first open milestone, else what comes next in the modules."""
    from tito import milestones, overview

    opened = [row for row in milestones.standings(progress) if row.state == "open"]
    if opened:
        return f"tito milestone run {opened[0].milestone.year}"
    command = overview.next_command(progress)
    return "tito milestone validate --all" if command == "tito milestone list" else command


def _next_for(found: Standing, progress: Progress) -> str:
    if found.state in ("open", "passed"):
        return f"tito milestone run {found.milestone.year}"
    if found.state == "locked":
        return progress.go_on(found.missing[0])
    return _next(progress)
