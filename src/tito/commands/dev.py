"""`tito dev`: for authors of the course."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import click


@click.group()
def group() -> None:
    """For authors: prove that the checks check, build what is shipped."""


@group.command()
@click.argument("names", nargs=-1, metavar="[MODULE]...")
def check(names: tuple[str, ...]) -> None:
    """Run all proofs for the modules named, or for all that are written."""
    from tito import course, proofs

    chosen = [course.find_module(name) for name in names] or [m for m in course.modules() if m.exists]
    caught = total = problems = 0
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="tito-dev-") as folder:
        run = proofs.prove(Path(folder, "workspace"), chosen, lambda name: click.echo(name, err=True))
        for verdict in run:
            _show(verdict)
            caught, total = caught + verdict.caught, total + verdict.knockouts
            problems += len(verdict.problems)
    share = caught / total if total else 0.0
    click.echo(f"knockouts caught {caught}/{total} ({share:.1%}), {problems} problems, "
               f"{time.perf_counter() - began:.1f} s")
    if problems or share < 0.95:
        click.echo("Next: mend the first problem above, then tito dev check " + " ".join(names))
        sys.exit(1)


def _show(verdict: object) -> None:
    from tito.proofs import Verdict

    assert isinstance(verdict, Verdict)
    click.echo(verdict.module.id)
    for proof in verdict.proofs:
        click.echo(f"  {'ok ' if not proof.problems else 'NO '} {proof.name:<20} {proof.count}")
        for problem in proof.problems:
            click.echo(f"        {problem}")
