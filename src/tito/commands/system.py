"""`tito system`: look at the machine and the installation."""

from __future__ import annotations

import click

from tito import screen
from tito.console import ENVIRONMENT, Group, json_option


@click.group(cls=Group)
def group() -> None:
    """Look at the machine and the installation."""


@group.command()
@click.option("--blas", is_flag=True, help="Also measure which matrix kernels are faster (10 s).")
@json_option
def doctor(blas: bool, as_json: bool) -> None:
    """Examine everything, and say what to mend.

    The output can be pasted into a question: your home folder and passwords are left out. Files
    that an interrupted tito left behind are removed. Ends with code 3 when something is broken.
    """
    from tito import doctor as examination

    findings = examination.examine(blas)
    broken = [finding for finding in findings if finding.state == examination.BROKEN]
    if as_json:
        screen.say_json({"ok": not broken, "findings": [f.as_dict() for f in findings]})
    else:
        styles = {examination.OK: screen.dim, examination.NOTE: screen.warm}
        for finding in findings:
            label = styles.get(finding.state, screen.bad)(f"{finding.state:<7}")
            lead = f"{finding.name:<11}"
            first, *rest = screen.wrap(finding.text, " " * 18, " " * 7 + lead)
            screen.say_lines([label + first[7:], *rest])
            if finding.next:
                screen.say(f"{'':<18}{screen.bold('->')} {finding.next}")
        useful = [finding.next for finding in (*broken, *findings) if finding.next]
        screen.next_step(useful[0] if broken else "tito")
    if broken:
        click.get_current_context().exit(ENVIRONMENT)


@group.command()
@json_option
def info(as_json: bool) -> None:
    """Versions, whose `tinytorch` would run here, and where things are."""
    from tito import __version__, course, data, doctor, origin

    try:
        found = origin.decide()
        whose, why = str(found), found.why
    except ImportError as error:
        whose, why = "nobody's", str(error).splitlines()[0]
    facts = {
        "tito": __version__,
        "course": f"{course.version()} in {course.course_dir()}",
        "tinytorch": whose,
        "because": why,
        "data": str(data.fetch_root()),
    }
    facts = {name: doctor.censor(text) for name, text in facts.items()}
    if as_json:
        return screen.say_json(facts)
    screen.say_lines(screen.table((screen.bold(name), text) for name, text in facts.items()))
    screen.next_step("tito system doctor")
