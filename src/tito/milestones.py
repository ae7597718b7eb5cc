"""The milestones: what a learner's framework can do by now, run, judged and recorded.

A run has three steps. Probes ask every module one small thing, so that a failure names its module.
The course's run.py then trains on the learner's framework in a child process, without the answers
of the held-out rows. Last the milestone's gate.py, which never imports that framework, computes
everything again by NumPy from the weights that came back. Nothing here prints.
"""

from __future__ import annotations

import json
import platform
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from tito import __version__, course, origin, probes, sandbox
from tito.course import CourseError, Milestone
from tito.probes import Blame
from tito.progress import Progress, now
from tito.workspace import Workspace, WorkspaceError

if TYPE_CHECKING:
    from tito.judge import Finding, Made, Options, Part

SCHEMA = 1
TIMEOUT = 3600.0  # seconds, unless the gate says otherwise
ACCELERATION = 18  # the module whose kernels `accelerate` trains on
Show = Callable[[str], None]


@dataclass(frozen=True)
class Standing:
    """One milestone: passed, open, locked (`missing` are the modules to complete) or planned."""

    milestone: Milestone
    state: str
    missing: tuple[str, ...]
    record: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        m = self.milestone
        return {"id": m.id, "title": m.title, "summary": m.summary, "needs": list(m.needs),
                "state": self.state, "missing": list(self.missing), **self.record}  # fmt: skip


@dataclass
class Verdict:
    """What a run (or a validation) of a milestone gave."""

    milestone: Milestone
    options: Options
    probes: int = 0
    findings: dict[str, list[Finding]] = field(default_factory=dict)
    samples: dict[str, list[str]] = field(default_factory=dict)  # what a network wrote, verbatim
    seconds: dict[str, float] = field(default_factory=dict)
    blame: Blame | None = None
    notes: list[str] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return self.blame is None

    @property
    def figures(self) -> dict[str, dict[str, float]]:
        """Part -> name of the figure -> value."""
        return {
            part: {f.name: round(f.value, 6) for f in found if f.value is not None}
            for part, found in self.findings.items()
        }

    def as_dict(self) -> dict[str, Any]:
        blame = self.blame and vars(self.blame)
        return {
            "milestone": self.milestone.id, "ok": self.ok, "options": vars(self.options),
            "probes": self.probes, "figures": self.figures, "blame": blame, "notes": self.notes,
            "seconds": {part: round(value, 3) for part, value in self.seconds.items()},
            "findings": {part: [f.as_dict() for f in rows] for part, rows in self.findings.items()},
            "samples": self.samples,
            "files": [str(path) for path in self.files],
        }  # fmt: skip


# Where the learner stands ------------------------------------------------------------------------


def standings(progress: Progress) -> list[Standing]:
    """All milestones in order."""
    return [standing(milestone, progress) for milestone in course.milestones()]


def standing(milestone: Milestone, progress: Progress) -> Standing:
    """One milestone's state and what was recorded of it."""
    missing = tuple(m.id for m in needed(milestone) if not progress.is_completed(m.id))
    record = progress.milestones.get(milestone.id, {})
    if not milestone.exists:
        state = "planned"
    elif missing:
        state = "locked"
    else:
        state = "passed" if record.get("passed") else "open"
    return Standing(milestone, state, missing, record)


def needed(milestone: Milestone) -> list[course.Module]:
    """The modules a milestone is built on."""
    first, last = milestone.needs
    return [module for module in course.modules() if first <= module.number <= last]


def require(progress: Progress, milestone: Milestone) -> None:
    """Raises WorkspaceError unless every module the milestone needs is completed."""
    found = standing(milestone, progress)
    if found.state == "planned":
        raise WorkspaceError(
            f"{milestone.id} is not part of this release of the course\nNext: tito milestone list"
        )
    if found.missing:
        missing = found.missing[0]
        raise WorkspaceError(
            f"{milestone.id} is built on {missing}, which is not completed\n"
            f"Next: {progress.go_on(missing)}"
        )


def unlock(ws: Workspace) -> list[Path]:
    """Copy run.py of every milestone that is open into the workspace, unless it is there already.

    Idempotent, and never overwrites; returns the new files.
    """
    new = []
    for found in standings(Progress.load(ws)):
        path = folder(ws, found.milestone) / "run.py"
        if found.state in ("open", "passed") and not path.exists():
            ws.write(path, (found.milestone.folder / "run.py").read_bytes())
            new.append(path)
    return new


def folder(ws: Workspace, milestone: Milestone) -> Path:
    """Where a milestone's script, record, weights and pictures are in the workspace."""
    return ws.milestones_dir / milestone.id


# Running -----------------------------------------------------------------------------------------


def run(
    ws: Workspace,
    milestone: Milestone,
    options: Options,
    show: Show,
    *,
    probed: bool = True,
    fresh: bool = False,
) -> Verdict:
    """Probe, train, judge; a pass is recorded, with weights and pictures.

    `show` gets each line that the training prints. Without `probed` the gate judges alone. A long
    training that was interrupted goes on from its checkpoint, or begins again if `fresh`.
    Raises WorkspaceError or CourseError when it cannot begin.
    """
    progress = Progress.load(ws)
    require(progress, milestone)
    if options.accelerate:
        _require_kernels(progress, milestone)
    gate = load_gate(milestone)
    _refuse_data(milestone, gate, options)
    parts = _parts(ws, milestone, gate, options)
    verdict = Verdict(milestone, options, notes=getattr(gate, "notes", lambda _: [])(options))
    unlock(ws)
    if fresh:
        _forget(ws, milestone, options)
    if probed:
        _probe(ws, verdict)
    if verdict.ok:
        _train(ws, verdict, gate, parts, show)
    _record(ws, verdict)
    return verdict


def _train(
    ws: Workspace, verdict: Verdict, gate: ModuleType, parts: list[Part], show: Show
) -> None:
    with tempfile.TemporaryDirectory(prefix="tito-") as name:
        made = _stage(ws, verdict, gate, parts, Path(name), show)
    if made is None:
        return
    _forget(ws, verdict.milestone, verdict.options)
    _judge(verdict, gate, made)
    if verdict.ok:
        _keep(ws, verdict, made)
        _draw(ws, verdict, made)


def _parts(
    ws: Workspace, milestone: Milestone, gate: ModuleType, options: Options
) -> list[Part]:
    """The trainings of a milestone. A gate with EARLIER, ids of milestones, gets what those left.

    Raises WorkspaceError where one of them has no record here.
    """
    if not hasattr(gate, "EARLIER"):
        return list(gate.parts(options))
    left: dict[str, dict[str, Made]] = {}
    for one in map(course.find_milestone, gate.EARLIER):
        record, arrays = read_record(ws, one), _read_weights(ws, one)
        if record is None or arrays is None:
            raise WorkspaceError(
                f"{milestone.id} takes up the networks of {one.id}, which has no record here\n"
                f"Next: tito milestone run {one.year}"
            )
        left[one.id] = {name: _made(arrays[name], told) for name, told in record["parts"].items()}
    return list(gate.parts(options, left))


def _require_kernels(progress: Progress, milestone: Milestone) -> None:
    """Raises WorkspaceError unless the module of fast kernels is completed."""
    module = course.find_module(str(ACCELERATION))
    if not progress.is_completed(module.id):
        raise WorkspaceError(
            f"--accelerate trains on the kernels of {module.id}, which is not completed\n"
            f"Next: tito milestone run {milestone.year}"
        )


def load_gate(milestone: Milestone) -> ModuleType:
    """The milestone's judge."""
    from tito import stage

    return stage.load(milestone.folder / "gate.py")


def _refuse_data(milestone: Milestone, gate: ModuleType, options: Options) -> None:
    """Raises CourseError for a data set that the milestone does not know."""
    known = getattr(gate, "DATA", ("auto",))
    if options.data not in known:
        what = f"takes {', '.join(known)}" if len(known) > 1 else "brings its own data"
        raise CourseError(
            f"{milestone.id} does not know --data {options.data}: it {what}\n"
            f"Next: tito milestone run {milestone.year}"
        )


def _probe(ws: Workspace, verdict: Verdict) -> None:
    outcome = probes.ask(ws, verdict.milestone.needs[1])
    verdict.probes = sum(step.role == "check" for step in outcome.passed)
    if not outcome.ok:
        verdict.blame = probes.blame(ws, verdict.milestone, outcome)


# The child process -------------------------------------------------------------------------------


def _stage(
    ws: Workspace, verdict: Verdict, gate: ModuleType, parts: list[Part], place: Path, show: Show
) -> Any:
    """Train all parts in a child; returns name -> (Part, Made), or None after laying blame."""
    milestone = verdict.milestone
    _hand_over(ws, verdict, parts, place)
    blas = threads(getattr(gate, "THREADS", None))
    last = max(milestone.needs[1], ACCELERATION * verdict.options.accelerate)
    surroundings = probes.environment(ws.root, last) | blas
    timeout = getattr(gate, "TIMEOUT", TIMEOUT)
    ending = sandbox.stream(["-m", "tito.stage", str(place)], surroundings, ws.root, timeout, show)
    if (place / "failed.json").is_file():
        verdict.blame = raised(json.loads((place / "failed.json").read_text("utf-8")))
        return None
    if ending != "ended":
        verdict.blame = Blame("training", _ended(ending, timeout), [], "")
        return None
    if not all((place / f"{part.name}.made.json").is_file() for part in parts):
        verdict.blame = Blame("training", "Python ended without a word (os._exit?)", [], "")
        return None
    return {part.name: (part, _fetch(place, part)) for part in parts}


def _ended(ending: str, timeout: float) -> str:
    if ending == "timeout":
        return f"still running after {timeout:.0f} s: a loop that never ends, or far too much work"
    hint = "; out of memory is the usual reason" if ending == "code -9" else ""
    return f"Python stopped here ({ending}){hint}"


def threads(wanted: int | None) -> dict[str, str]:
    """BLAS threads for a child, as the gate wishes: small products are faster on one."""
    names = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
    return {name: str(wanted) for name in names} if wanted else {}


def _hand_over(ws: Workspace, verdict: Verdict, parts: list[Part], place: Path) -> None:
    """The job and the inputs of every part; the held-out answers stay here.

    Parts on the same arrays share one file: photographs are large.
    """
    import numpy as np

    files: dict[tuple[int, ...], str] = {}
    for part in parts:
        arrays = {"x": part.x, "y": part.y, "held_out": part.held_out}
        arrays |= {f"extra/{name}": array for name, array in (part.extra or {}).items()}
        name = files.setdefault(_key(part), f"{part.name}.inputs.npz")
        if name == f"{part.name}.inputs.npz":
            np.savez(place / name, **arrays)  # type: ignore[arg-type]
    job = {
        "run": str(verdict.milestone.folder / "run.py"),
        "memory": sandbox.MEMORY,
        "accelerate": verdict.options.accelerate,
        "parts": [
            {
                "name": part.name,
                "function": part.function,
                "inputs": files[_key(part)],
                "options": _part_options(ws, verdict, part),
            }
            for part in parts
        ],
    }
    (place / "job.json").write_text(json.dumps(job), encoding="utf-8")


def _key(part: Part) -> tuple[int, ...]:
    """What tells one set of inputs from another."""
    return id(part.x), id(part.y), id(part.held_out), id(part.extra)


def _part_options(ws: Workspace, verdict: Verdict, part: Part) -> dict[str, Any]:
    """The keyword arguments of a part's function."""
    options: dict[str, Any] = {"seed": verdict.options.seed}
    if verdict.options.epochs is not None:
        options["epochs"] = verdict.options.epochs
    if part.resumes:
        path = _checkpoint(ws, verdict.milestone, verdict.options, part.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        options["checkpoint"] = str(path)
    return options


# Checkpoints of long trainings -------------------------------------------------------------------


def _checkpoint(ws: Workspace, milestone: Milestone, options: Options, part: str) -> Path:
    """Where a part's unfinished training is kept: one file per part, seed and epochs."""
    epochs = "" if options.epochs is None else f"_{options.epochs}epochs"
    name = f"{part.replace(' ', '_')}_seed{options.seed}{epochs}.ckpt"
    return folder(ws, milestone) / "unfinished" / name


def unfinished(ws: Workspace, milestone: Milestone, options: Options) -> list[Path]:
    """Checkpoints of interrupted trainings that the same run would go on from."""
    pattern = _checkpoint(ws, milestone, options, "*").name
    return sorted((folder(ws, milestone) / "unfinished").glob(pattern))


def _forget(ws: Workspace, milestone: Milestone, options: Options) -> None:
    """Remove them: the training is complete, or shall begin again."""
    for path in unfinished(ws, milestone, options):
        path.unlink()


def raised(told: dict[str, Any]) -> Blame:
    """An error in the middle of the training."""
    owner = course.export_owner(told["dotted"])
    rows = [(label, text) for label, text in told["rows"] if text]
    return Blame(
        f"part {told['part']}", f"it stopped with {told['what']}", rows, owner.id if owner else ""
    )


def _fetch(place: Path, part: Part) -> Made:
    import numpy as np

    with np.load(place / f"{part.name}.made.npz", allow_pickle=False) as arrays:
        found = {name: arrays[name] for name in arrays.files}
    told = json.loads((place / f"{part.name}.made.json").read_text(encoding="utf-8"))
    return _made(found, told)


def _made(arrays: dict[str, Any], told: dict[str, Any]) -> Made:
    from tito.judge import Made

    before, after = (
        {
            name.partition("/")[2]: array
            for name, array in arrays.items()
            if name.startswith(f"{when}/")
        }
        for when in ("before", "after")
    )
    return Made(
        before,
        after,
        arrays["outputs"],
        told["history"],
        told["seconds"],
        told.get("peak_mb", 0.0),
    )


# Judging -----------------------------------------------------------------------------------------


def _judge(verdict: Verdict, gate: ModuleType, made: Any) -> None:
    """Every part's findings up to the first that is not ok, then the comparison of the parts.

    On one BLAS thread: the products are small, and where other work is running, threads that wait
    for each other make minutes of seconds.
    """
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    with threadpool_limits(1, "blas"):
        _findings(verdict, gate, made)


def _findings(verdict: Verdict, gate: ModuleType, made: Any) -> None:
    for name, (part, left) in made.items():
        verdict.seconds[name] = left.seconds
        if not _hold(verdict, name, gate.verdict(part, left)):
            return
        if hasattr(gate, "sample"):
            verdict.samples[name] = gate.sample(part, left)
    _hold(verdict, "together", gate.compare(made))


def _hold(verdict: Verdict, name: str, findings: Any) -> bool:
    kept = verdict.findings.setdefault(name, [])
    for finding in findings:
        kept.append(finding)
        if not finding.ok:
            verdict.blame = _found(verdict, name, finding)
            return False
    if not kept:
        del verdict.findings[name]
    return True


def _found(verdict: Verdict, part: str, finding: Finding) -> Blame:
    """What the gate found, and the module; a figure missed in fewer epochs accuses nobody."""
    milestone, epochs = verdict.milestone, verdict.options.epochs
    rows = [
        ("part", part),
        ("expected", finding.expected),
        ("got", finding.got),
        ("why", finding.why),
    ]
    rows = [(label, text) for label, text in rows if text]
    what, where = f"this does not hold: {finding.what}", f"finding {finding.name}"
    if epochs is not None and finding.value is not None:
        rows.append(
            ("note", f"it was trained for {epochs} epochs as you asked, not for the usual number")
        )
        return Blame(where, what, rows, "", f"tito milestone run {milestone.year}")
    return Blame(where, what, rows, finding.guilty)


def validate(ws: Workspace, milestone: Milestone) -> Verdict | None:
    """Judge the recorded weights again, and probe the framework as it is now; no training.

    Returns None where nothing whole is recorded: then it has to be run.
    """
    record, arrays = read_record(ws, milestone), _read_weights(ws, milestone)
    if record is None or arrays is None:
        return None
    from tito.judge import Options

    gate, told = load_gate(milestone), record["parts"]
    asked = {name: Options(**left.get("options", record["options"])) for name, left in told.items()}
    verdict = Verdict(
        milestone, Options(**record["options"]), files=[folder(ws, milestone) / "record.json"]
    )
    parts = {
        part.name: part
        for options in set(asked.values())
        for part in _parts(ws, milestone, gate, options)
        if asked.get(part.name) == options
    }
    if not set(told) <= set(parts):
        return None  # recorded on data that is no longer here
    _probe(ws, verdict)
    if verdict.ok:
        made = {name: (parts[name], _made(arrays[name], left)) for name, left in told.items()}
        _judge(verdict, gate, made)
    return verdict


# Recording ---------------------------------------------------------------------------------------


def _keep(ws: Workspace, verdict: Verdict, made: Any) -> None:
    """record.json and weights.safetensors of a run that passed.

    Parts of an earlier run that this one did not train, on another data set, stay beside it.
    """
    import numpy as np
    import safetensors.numpy

    place = folder(ws, verdict.milestone)
    before, weights = read_record(ws, verdict.milestone), _read_weights(ws, verdict.milestone)
    stays = [name for name in (before or {}).get("parts", {}) if name not in made and weights]
    arrays: dict[str, Any] = {
        f"{name}/{key}": array for name in stays for key, array in (weights or {})[name].items()
    }
    for name, (_, left) in made.items():
        groups = {"before": left.before, "after": left.after, "outputs": {"": left.outputs}}
        for when, group in groups.items():
            arrays |= {
                f"{name}/{when}/{key}".rstrip("/"): np.ascontiguousarray(a)
                for key, a in group.items()
            }
    record: dict[str, Any] = {
        "schema": SCHEMA, "milestone": verdict.milestone.id, "date": now(),
        "origin": f"student ({origin.shorten(ws.root)})", "versions": _versions(),
        "options": vars(verdict.options), "figures": verdict.figures, "samples": verdict.samples,
        "parts": {name: {"options": vars(verdict.options), "history": left.history,
                         "seconds": round(left.seconds, 3), "peak_mb": round(left.peak_mb, 1)}
                  for name, (_, left) in made.items()},
    }  # fmt: skip
    for name in stays:
        assert before is not None
        record["parts"][name] = {"options": before["options"], **before["parts"][name]}
        for kind in ("figures", "samples"):
            record[kind] |= {key: v for key, v in before[kind].items() if key == name}
    ws.write(place / "weights.safetensors", safetensors.numpy.save(arrays))
    ws.write(place / "record.json", json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    verdict.files += [place / "record.json", place / "weights.safetensors"]


def _versions() -> dict[str, str]:
    import numpy as np

    return {"tito": __version__, "course": course.version(), "python": platform.python_version(),
            "numpy": np.__version__}  # fmt: skip


def read_record(ws: Workspace, milestone: Milestone) -> dict[str, Any] | None:
    """The record of the last run that passed, or None."""
    try:
        record = json.loads((folder(ws, milestone) / "record.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    whole = isinstance(record, dict) and record.get("schema") == SCHEMA
    return record if whole and {"options", "parts"} <= set(record) else None


def _read_weights(ws: Workspace, milestone: Milestone) -> dict[str, dict[str, Any]] | None:
    """Part -> array name -> array, or None if the file is missing or damaged."""
    import safetensors
    import safetensors.numpy

    try:
        arrays = safetensors.numpy.load(
            (folder(ws, milestone) / "weights.safetensors").read_bytes()
        )
    except (OSError, safetensors.SafetensorError):
        return None
    parts: dict[str, dict[str, Any]] = {}
    for name, array in arrays.items():
        part, _, rest = name.partition("/")
        parts.setdefault(part, {})[rest] = array
    return parts


def _draw(ws: Workspace, verdict: Verdict, made: Any) -> None:
    """The milestone's pictures, where matplotlib is installed."""
    from tito import pictures, stage

    if not pictures.available():
        verdict.notes.append(
            "for pictures beside the record: pip install 'tinytorch[plots]', and run again"
        )
        return
    draw = stage.load(verdict.milestone.folder / "pictures.py").draw
    verdict.files += draw(made, folder(ws, verdict.milestone))


def _record(ws: Workspace, verdict: Verdict) -> None:
    """The outcome into progress.json; a pass stays a pass."""
    progress = Progress.load(ws)
    record = progress.milestones.setdefault(verdict.milestone.id, {"passed": None, "attempts": 0})
    record["attempts"] = record.get("attempts", 0) + 1
    if verdict.ok:
        record["passed"] = record.get("passed") or now()
        record["date"], record["figures"] = now(), verdict.figures
    progress.save(ws)
