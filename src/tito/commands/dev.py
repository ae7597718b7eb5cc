"""`tito dev`: for authors of the course."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tito import screen
from tito.console import Group, modules_argument

if TYPE_CHECKING:
    from tito.course import Module
    from tito.proofs import Verdict


@click.group(cls=Group)
def group() -> None:
    """For authors: prove the checks, build what ships."""


@group.command()
@modules_argument
def check(modules: tuple[Module, ...]) -> None:
    """Run all proofs for the modules named, or for all that are written.

    \b
    Examples:
      tito dev check
      tito dev check 01 02
    """
    from tito import course, proofs

    chosen = list(modules) or [m for m in course.modules() if m.exists]
    caught = total = problems = 0
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="tito-dev-") as folder:
        place = Path(folder, "workspace")
        for verdict in proofs.prove(place, chosen, lambda name: screen.say(name, err=True)):
            _show(verdict)
            caught, total = caught + verdict.caught, total + verdict.knockouts
            problems += len(verdict.problems)
    share = caught / total if total else 0.0
    screen.say(f"knockouts caught {caught}/{total} ({share:.1%}), "
               f"{screen.count(problems, 'problem')}, {time.perf_counter() - began:.1f} s")
    if problems or share < 0.95:
        names = " ".join(f"{module.number:02d}" for module in modules)
        screen.next_step(f"mend the first problem above, then tito dev check {names}".rstrip())
        sys.exit(1)
    screen.next_step("tito dev build --to build")


def _show(verdict: Verdict) -> None:
    screen.say(screen.bold(verdict.module.id))
    for proof in verdict.proofs:
        state = screen.bad("NO ") if proof.problems else screen.good("ok ")
        screen.say(f"  {state} {proof.name:<20} {proof.count}")
        for problem in proof.problems:
            screen.say_lines(screen.wrap(problem, " " * 10, " " * 8))


@group.command()
@click.option("--to", "folder", type=click.Path(path_type=Path, file_okay=False), required=True,
              help="The folder to write into; made if it is not there.")
@click.option("--notebooks", is_flag=True, help="The learners' notebooks, in notebooks/.")
@click.option("--package", is_flag=True, help="The reference package, in package/.")
@click.option("--docs", is_flag=True, help="The manual of the command line, in cli/.")
def build(folder: Path, notebooks: bool, package: bool, docs: bool) -> None:
    """Write what the course ships to others; with no option, all of it.

    The same course gives the same bytes.

    \b
    Examples:
      tito dev build --to build
      tito dev build --docs --to docs
    """
    from tito import pages, ship

    parts: dict[str, tuple[bool, Callable[[Path], list[Path]]]] = {
        "notebooks": (notebooks, ship.notebooks),
        "package": (package, ship.package),
        "cli": (docs, pages.write),
    }
    everything = not (notebooks or package or docs)
    for name, (wanted, write) in parts.items():
        if wanted or everything:
            screen.say(f"{folder / name}: {screen.count(len(write(folder / name)), 'file')}")
    screen.next_step("tito dev check")


@group.command()
@click.option("--to", "folder", type=click.Path(path_type=Path), help="Keep the workspace here.")
@click.option("--last", default=20, show_default=True, help="Last module to solve.")
@click.option("--everything", is_flag=True,
              help="Train the milestones on the fetched data sets as well.")
@click.option("--milestones/--no-milestones", default=True, help="Run the milestones as well.")
def journey(folder: Path | None, last: int, everything: bool, milestones: bool) -> None:
    """Solve the whole course in a fresh workspace, through the real commands."""
    from tito import journey as steps

    with tempfile.TemporaryDirectory(prefix="tito-journey-") as temporary:
        began = time.perf_counter()
        try:
            place = folder or Path(temporary, "my-torch")
            for leg in steps.walk(place, last, milestones, everything):
                click.echo(f"{leg.name:<20} {leg.what:<28} {leg.seconds:6.1f} s")
        except steps.JourneyError as error:
            click.echo(str(error), err=True)
            sys.exit(1)
        seconds, peak = time.perf_counter() - began, steps.peak_megabytes()
        click.echo(f"the journey took {seconds:.0f} s; no command had more than {peak:.0f} MB")


@group.command()
@click.option("--sessions", type=click.IntRange(3), default=15, show_default=True,
              help="Child processes; each figure is the median of theirs.")  # fmt: skip
def machine(sessions: int) -> None:
    """Measure this machine as a reference for `tito benchmark baseline`.

    Prints the table of seconds for course/events/baseline.toml, measured with the course's own
    modules 01 to 13. A new machine gets a new number: scores against the old one keep their
    meaning.
    """
    from tito import bench

    screen.say_lines(bench.reference_table(sessions, lambda line: screen.say(line, err=True)))
    screen.next_step("paste it into course/events/baseline.toml, under the next number")
