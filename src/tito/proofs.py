"""Proof that the checks check: what `tito dev check` runs for every module of the course.

Each proof returns its counts and the problems it found; a module without problems is fit to ship.
The course is built module by module in a fresh workspace, with the reference solutions, so that
module N is only ever checked against modules before N.
"""

from __future__ import annotations

import ast
import math
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tito import course, export, hints, lesson, sandbox, solutions, source
from tito.course import Module
from tito.sandbox import Outcome, Step
from tito.source import Notebook
from tito.workspace import Workspace, init, refresh

LONG = 240.0


@dataclass
class Proof:
    """One proof of one module: its name, what was counted, and what is wrong."""

    name: str
    count: str
    problems: list[str] = field(default_factory=list)


@dataclass
class Verdict:
    """All proofs of one module, and the knockout figures the summary adds up."""

    module: Module
    proofs: list[Proof]
    caught: int = 0
    knockouts: int = 0

    @property
    def problems(self) -> list[str]:
        return [f"{proof.name}: {text}" for proof in self.proofs for text in proof.problems]


def build(ws: Workspace, module: Module) -> None:
    """Put the reference solution of a module into the workspace's package, as `complete` would."""
    ws.write(ws.export_path(module.export), export.export(source.read(module.path)))
    refresh(ws)


def prove(
    folder: Path, modules: list[Module], progress: Callable[[str], None]
) -> Iterator[Verdict]:
    """Check `modules` one after another on a workspace in `folder` that grows with them."""
    ws = init(folder)
    for module in course.modules():
        if not module.exists:
            continue
        if module in modules:
            progress(module.id)
            yield _prove(ws, module)
        build(ws, module)


def _prove(ws: Workspace, module: Module) -> Verdict:
    solved = source.read(module.path)
    proofs = [
        _form(module, solved),
        _stubs(ws, module, solved),
        _solved(ws, module, solved),
        _empty(ws, module),
        _imports(module, solved),
        _exported(ws, module, solved),
        _numbers(module, solved),
    ]
    wrong, caught, total = _knockouts(ws, module, solved)
    return Verdict(module, [*proofs, wrong], caught, total)


# Running ----------------------------------------------------------------------------------------


def _steps(nb: Notebook, roles: tuple[str, ...] = lesson.KEPT) -> list[Step]:
    return [
        Step(cell.role or "own", cell.name, cell.source, number)
        for number, cell in enumerate(nb.cells, 1)
        if cell.kind == "code" and cell.role in roles
    ]


def _one_check(steps: list[Step], answer: Step) -> list[Step]:
    """All exercises up to one, that one answered by `answer`, and its check alone."""
    chosen = []
    for step in steps:
        if step.role == "check" and step.name != answer.name:
            continue
        chosen.append(answer if (step.role, step.name) == ("exercise", answer.name) else step)
        if (step.role, step.name) == ("check", answer.name):
            break
    return chosen


def _run(ws: Workspace, module: Module, runs: list[list[Step]], **options: Any) -> list[Outcome]:
    return sandbox.run_many(
        runs, environment=lesson.environment(ws, module), timeout=LONG, cwd=ws.root, **options
    )


def _answered(module: Module, solved: Notebook) -> dict[str, Step]:
    """Every exercise as shipped: a hole."""
    stripped = solutions.strip(solved, module.id)
    return {step.name: step for step in _steps(stripped) if step.role == "exercise"}


# The proofs -------------------------------------------------------------------------------------


def _form(module: Module, solved: Notebook) -> Proof:
    """Anatomy: every part of the spine, a check and three hints per exercise, the points' sum."""
    names = [c.name for c in solved.cells if c.role == "exercise"]
    checks = {c.name: int(c.metadata.get("points", 0)) for c in solved.cells if c.role == "check"}
    asked = [int(c.metadata.get("points", 0)) for c in solved.cells if c.role == "question"]
    ladder = hints.ladder(module)
    problems = [f"{name} has no check" for name in names if name not in checks]
    problems += [f"check {name} has no exercise" for name in checks if name not in names]
    problems += [
        f"{name} has {len(ladder.get(name, []))} hints, not {hints.RUNGS}"
        for name in names
        if len(ladder.get(name, [])) != hints.RUNGS
    ]
    problems += [f"hints for unknown exercise {name}" for name in ladder if name not in names]
    problems += [f"{name} is worth nothing" for name, worth in checks.items() if worth < 1]
    total = sum(checks.values()) + sum(asked)
    if total != module.points:
        problems.append(f"points add up to {total}, course.toml says {module.points}")
    predictions = [name for name in names if name.startswith("predict.")]
    if len(predictions) < 3:
        problems.append(f"{len(predictions)} predictions, at least 3 wanted")
    if not asked:
        problems.append("no open question for a human grader")
    problems += _missing_parts(solved)
    if not hints.symptoms(module):
        problems.append("the table under `When it fails` has no rows")
    test_file = module.folder / f"test_{module.name}.py"
    if not test_file.is_file():
        problems.append(f"{test_file.name} with the hidden variants is missing")
    return Proof("anatomy", f"{len(names)} exercises, {total} points", problems)


SPINE = (
    "Why",
    "Foundations",
    "Build",
    "Use",
    "Measure",
    "Break",
    "Reflect",
    "In production",
    "When it fails",
)


def _missing_parts(solved: Notebook) -> list[str]:
    text = "\n".join(cell.source for cell in solved.cells if cell.kind == "markdown")
    headings = re.findall(r"^## (.+)$", text, re.M)
    places = [next((i for i, h in enumerate(headings) if h.startswith(part)), -1) for part in SPINE]
    problems = [f"no part `## {part}`" for part, place in zip(SPINE, places) if place < 0]
    if not problems and places != sorted(places):
        problems.append("the parts are not in the order of the spine")
    if "```" not in text.partition("## ")[0]:
        problems.append("no connection map before the first part")
    return problems


def _stubs(ws: Workspace, module: Module, solved: Notebook) -> Proof:
    """As shipped, each exercise's check fails with all others solved, and names the exercise."""
    steps, holes = _steps(solved), _answered(module, solved)
    outcomes = _run(ws, module, [_one_check(steps, hole) for hole in holes.values()])
    problems = []
    for name, outcome in zip(holes, outcomes):
        failure = outcome.failures[0] if outcome.failures else None
        if failure is None:
            problems.append(f"{name} passes as shipped")
        elif failure.step.name != name:
            problems.append(f"{name} as shipped fails at {failure.step.label}: {failure.what}")
        elif failure.kind not in ("unsolved", "check"):
            problems.append(f"{name} as shipped gives {failure.kind}: {failure.what}")
    return Proof("stubs fail", f"{len(holes) - len(problems)}/{len(holes)}", problems)


def _solved(ws: Workspace, module: Module, solved: Notebook) -> Proof:
    """Solved, every check and every demo passes, within the seconds that watching allows."""
    everything = _run(ws, module, [_steps(solved), _steps(solved, (*lesson.KEPT, "demo"))])
    checks = everything[0]
    problems = [
        f"{failure.step.label}: {failure.kind}: {failure.what} {failure.rows}"
        for outcome in everything
        for failure in outcome.failures
    ]
    seconds = sum(checks.seconds.values())
    if seconds > 5:
        problems.append(f"the checks take {seconds:.1f} s, at most 5 wanted")
    return Proof("solved passes", f"{len(checks.passed)} cells, {seconds:.2f} s", problems)


def _empty(ws: Workspace, module: Module) -> Proof:
    """The notebook as shipped earns no point at all, whatever is run after a failure."""
    shipped = hints.released(module)
    outcome = _run(ws, module, [_steps(shipped)], keep_going=True)[0]
    worth = lesson.points(module)
    earned = [step.name for step in outcome.passed if step.role == "check"]
    problems = [f"{name} earns {worth[name]} points on an empty notebook" for name in earned]
    problems += [
        f.what for f in outcome.failures if f.kind in ("timeout", "crash", "exit", "memory")
    ]
    return Proof("empty scores 0", f"{sum(worth[name] for name in earned)} points", problems)


def _imports(module: Module, solved: Notebook) -> Proof:
    """No cell imports a later module, by its file or through a package that re-exports."""
    allowed = {m.export for m in course.modules()[: module.number - 1]}
    roots = {name.split(".")[0] for name in (m.export for m in course.modules())}
    found, problems = 0, []
    for cell in solved.cells:
        if cell.kind != "code":
            continue
        for dotted, line in _imported(cell.source):
            found += 1
            part = dotted.removeprefix("tinytorch").lstrip(".")
            if part not in allowed and (part.split(".")[0] in roots or not part):
                problems.append(f"{cell.name} imports {dotted} (line {line} of the cell)")
    return Proof("no forward imports", f"{found} imports of tinytorch", problems)


def _imported(text: str) -> Iterator[tuple[str, int]]:
    files = {f"tinytorch.{module.export}" for module in course.modules()}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "tinytorch":
            for name in (f"{node.module}.{alias.name}" for alias in node.names):
                yield name if name in files else str(node.module), node.lineno
        if isinstance(node, ast.Import):
            yield from (
                (a.name, node.lineno) for a in node.names if a.name.split(".")[0] == "tinytorch"
            )


def _exported(ws: Workspace, module: Module, solved: Notebook) -> Proof:
    """What learners ship: short, clean by ruff, its docstring examples right, checks pass on it."""
    text = export.export(solved)
    lines = code_lines(text)
    problems = [f"{lines} lines of code, at most {module.lines} wanted"] * (lines > module.lines)
    file = ws.root / "proof.py"
    ws.write(file, text)
    for command in (["check"], ["format", "--diff"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--line-length", "100", str(file)],
            capture_output=True,
            text=True,
        )
        if done.returncode:
            problems.append(f"ruff {command[0]}: {(done.stdout or done.stderr).strip()[:600]}")
    script = "import doctest, proof, sys; r = doctest.testmod(proof); print(r.attempted)"
    script += "; sys.exit(r.failed)"
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        cwd=ws.root,
        env=_child_environment(ws, module),
    )
    if done.returncode:
        problems.append(f"doctest: {(done.stdout + done.stderr).strip()[-900:]}")
    file.unlink()
    if failure := lesson.check_export(ws, module, solved, text, LONG):
        problems.append(f"on the exported file: {failure.step.label}: {failure.what}")
    examples = done.stdout.strip() if done.returncode == 0 else "?"
    return Proof("exported", f"{lines} lines of code, {examples} examples", problems)


def code_lines(text: str) -> int:
    """Lines that hold code: no blank lines, comments or docstrings."""
    kept = {
        n for n, line in enumerate(text.splitlines(), 1) if line.strip() and line.strip()[0] != "#"
    }
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            kept -= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return len(kept)


def _child_environment(ws: Workspace, module: Module) -> dict[str, str]:
    import os

    return {**os.environ, **lesson.environment(ws, module)}


# Knockouts --------------------------------------------------------------------------------------


def _knockouts(ws: Workspace, module: Module, solved: Notebook) -> tuple[Proof, int, int]:
    """Each known mistake is caught by its exercise's check, and is told what it is."""
    steps, cells = _steps(solved), {c.name: c for c in solved.cells if c.role == "exercise"}
    known = [k for k in hints.knockouts(module) if k.exercise in cells]
    problems = [
        f"{k.exercise} is unknown" for k in hints.knockouts(module) if k.exercise not in cells
    ]
    for name in cells:
        count = sum(k.exercise == name for k in known)
        if count < 3:
            problems.append(f"{name} has {count} knockouts, at least 3 wanted")
    runs = []
    for wrong in known:
        answer = Step(
            "exercise", wrong.exercise, solutions.fill(cells[wrong.exercise], wrong.code).source, 0
        )
        runs.append(_one_check(steps, answer))
    outcomes = _run(ws, module, runs, knockouts=lesson.mistakes(module))
    caught = 0
    for wrong, outcome in zip(known, outcomes):
        caught += bool(outcome.failures)
        problems += _judge(wrong, outcome)
    return Proof("knockouts caught", f"{caught}/{len(known)}", problems), caught, len(known)


def _judge(wrong: hints.Knockout, outcome: Outcome) -> list[str]:
    label = f"{wrong.exercise} / {wrong.name}"
    if not outcome.failures:
        return [] if wrong.equivalent else [f"{label} survives its check"]
    failure = outcome.failures[0]
    if (failure.step.role, failure.step.name) != ("check", wrong.exercise):
        return [f"{label} fails outside its check, at {failure.step.label}: {failure.what}"]
    if failure.diagnosis != wrong.diagnosis:
        return [f"{label} is told {failure.diagnosis or 'nothing'!r} instead of its own diagnosis"]
    return []


# Numbers ----------------------------------------------------------------------------------------

_UNIT = r"(?:[kMGT]?i?B\b|bytes\b|[mµn]?s\b|seconds\b|[MGT]?FLOPs?\b|GFLOP/s|%|×|x\b)"
_QUANTITY = re.compile(rf"(?<![\w.,])((?:≈ ?|~ ?)?\d[\d,]*(?:\.\d+)?(?:e\d+)? ?{_UNIT})")


def _numbers(module: Module, solved: Notebook) -> Proof:
    """Every quantity with a unit in the prose is computed, sourced or recorded in numbers.toml."""
    file = module.folder / "numbers.toml"
    table = tomllib.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    prose = "\n".join(c.source for c in solved.cells if c.kind == "markdown")
    prose = re.sub(r"```.*?```|`[^`]*`", " ", prose, flags=re.S)
    quoted = {match.strip() for match in _QUANTITY.findall(prose)}
    problems = [
        f"{text!r} stands in the prose without proof" for text in sorted(quoted - set(table))
    ]
    problems += [f"{text!r} is proved but not quoted" for text in sorted(set(table) - quoted)]
    for text, proof in table.items():
        problems += _disproved(text, proof)
    return Proof("numbers proved", f"{len(quoted)} quantities", problems)


def _disproved(text: str, proof: dict[str, str]) -> list[str]:
    if "computed" not in proof:
        return [] if proof.get("source") or proof.get("recorded") else [f"{text!r} has no proof"]
    names = {name: getattr(math, name) for name in ("sqrt", "log", "exp", "pi")}
    value = float(eval(proof["computed"], {"__builtins__": {}}, names))
    digits = re.sub(r"[^\d.e]", "", re.match(r"[≈~ ]*([\d,.]+(?:e\d+)?)", text)[1])  # type: ignore[index]
    said = float(digits)
    decimals = len(digits.partition(".")[2])
    tolerance = max(0.5 * 10**-decimals, 0.03 * abs(said) if text[0] in "≈~" else 0.0)
    if abs(value - said) <= tolerance * 1.0001 or (said >= 100 and abs(value / said - 1) < 0.005):
        return []
    return [f"{text!r}: {proof['computed']} is {value:g}"]
