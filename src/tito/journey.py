"""The whole course as a learner walks it: through the real commands, in a fresh workspace.

For every written module: start it, see the stub fail, write the reference solutions into the
notebook, see it pass, complete it, import what it exports. Then every milestone that is unlocked.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tito import course, export, solutions, source
from tito import milestones as milestones_engine
from tito.course import Module

EMBEDDED = {"1986_mlp": "tinydigits", "1998_cnn": "tinydigits", "2017_transformer": "tinytalks",
            "2024_production": "tinydigits"}  # fmt: skip
LONG = "2017_transformer"  # trained on module 18's kernels, once they are built


def peak_megabytes() -> float:
    """The most memory that one command of the journey had so far, in 10^6 bytes; 0 on Windows."""
    if sys.platform == "win32":
        return 0.0
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit / 1e6


class JourneyError(Exception):
    """A step did not do what a learner is promised. Two lines: what, then what was printed."""


@dataclass(frozen=True)
class Leg:
    """One finished step of the journey: what was done, and how many seconds it took."""

    name: str
    what: str
    seconds: float


def walk(
    folder: Path, last: int = 20, milestones: bool = True, everything: bool = False
) -> Iterator[Leg]:
    """Walk modules 1 to `last` in a new workspace in `folder`, then its milestones.

    They train on the data that the course carries, or on all that is here if `everything`.
    """
    began = time.perf_counter()
    tito(folder.parent, "init", str(folder))
    yield Leg("init", f"workspace {folder.name}", time.perf_counter() - began)
    for module in course.modules()[:last]:
        if module.exists:
            began = time.perf_counter()
            yield Leg(module.id, _solve(folder, module), time.perf_counter() - began)
    built = max((m.number for m in course.modules()[:last] if m.exists), default=0)
    for milestone in course.milestones() if milestones else []:
        if milestone.exists and milestone.needs[1] <= built:
            began = time.perf_counter()
            embedded = [] if everything else EMBEDDED.get(milestone.id, "").split()
            options = [word for name in embedded for word in ("--data", name)]
            if milestone.id == LONG and built >= milestones_engine.ACCELERATION:
                options.append("--accelerate")
            tito(folder, "milestone", "run", milestone.id, *options, limit=3600)
            yield Leg(milestone.id, "passed", time.perf_counter() - began)


def _solve(folder: Path, module: Module) -> str:
    number = f"{module.number:02d}"
    tito(folder, "module", "start", number)
    tito(folder, "module", "test", number, expect=1)
    path = Path(tito(folder, "module", "path", number).strip().splitlines()[0])
    path = path if path.is_absolute() else folder / path
    path.write_text(source.write(path, solved(module, source.read(path))), encoding="utf-8")
    tito(folder, "module", "test", number)
    tito(folder, "module", "complete", number)
    names = [name for name in export.exported_names(source.read(module.path)) if name[0] != "_"]
    _python(
        folder,
        f"from tinytorch.{module.export} import {', '.join(names)}\n"
        f"from tinytorch import {names[0]}\nimport tinytorch\n"
        "assert tinytorch.origin.kind == 'student', tinytorch.origin",
    )
    return f"{len(names)} names exported"


def solved(module: Module, mine: source.Notebook) -> source.Notebook:
    """The learner's notebook with every hole filled by the reference solution."""
    answers = {
        c.name: solutions.solution(c)
        for c in source.read(module.path).cells
        if c.role == "exercise"
    }
    cells = [solutions.fill(c, answers[c.name]) if c.role == "exercise" else c for c in mine.cells]
    return source.Notebook(cells, mine.metadata)


def tito(cwd: Path, *words: str, expect: int = 0, limit: float = 300) -> str:
    """Run a tito command as a learner would; its standard output. Raises JourneyError."""
    return _run(
        [sys.executable, "-m", "tito", *words], cwd, expect, limit, f"tito {' '.join(words)}"
    )


def _python(cwd: Path, script: str) -> str:
    return _run([sys.executable, "-c", script], cwd, 0, 120, script.splitlines()[0])


def _run(command: list[str], cwd: Path, expect: int, limit: float, label: str) -> str:
    environment = {k: v for k, v in os.environ.items() if k not in ("TINYTORCH", "TINYTORCH_UPTO")}
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**environment, "CI": "1"},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=limit,
    )
    if done.returncode != expect:
        raise JourneyError(
            f"{label}: exit code {done.returncode}, expected {expect}\n"
            f"{(done.stdout + done.stderr)[-3000:]}"
        )
    return done.stdout
