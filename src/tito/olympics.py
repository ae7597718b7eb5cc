"""The Olympics: what `init` writes for a track, and how a submission is verified here.

A submission is believed in nothing. Its files are hashed, its accuracy is counted from its raw
predictions against the course's own answers, its models are loaded in a child process that has no
answers, and asked again. The first thing that does not fit ends the check. Nothing here prints.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from tito import bench, course, schema
from tito import bench_records as records
from tito.bench import Show
from tito.bench_records import BenchError
from tito.course import CourseError
from tito.progress import Progress
from tito.workspace import Workspace, WorkspaceError

TRACKS = ("vision", "language", "speed", "compression")
SIDES = ("before", "after")
MODULES = 20
ROUNDING = 0.005  # share of answers that may differ: the last bit of a sum decides a near tie
SAVED = 4  # no kernel needs fewer than a quarter of the plain way's operations (Winograd's: 2.25)
Record = dict[str, Any]


# Tracks ------------------------------------------------------------------------------------------


def track(name: str) -> dict[str, Any]:
    """A track's table: course/events/olympics_NAME.toml."""
    return bench.suite(f"olympics_{name}")


def folder(ws: Workspace, name: str) -> Path:
    """Where a track's entry is in the workspace."""
    return ws.root / "olympics" / name


def rules(table: dict[str, Any]) -> str:
    """RULES.md: what a track asks for."""
    wanted, limits = table["target"], table["limits"]
    lines = [f"# {table['title']}", "", f"Judged: {table['judged']}.", "", "## Rules", ""]
    lines += [f"{number}. {rule}" for number, rule in enumerate(table["rules"], 1)]
    lines += ["", "## Target", "", *(f"- {text}" for text in goals(wanted))]
    least = (f"{share:.0%} of {name}" for name, share in table["minimum_accuracy"].items())
    lines += [f"- at least this much right: {', '.join(least)}", "", "## Limits", ""]
    lines += [f"- {name}: {size:,} bytes" for name, size in limits.items()]
    lines += ["", f"Data: {', '.join(table['data'])}. Missing a target is no error, and is said."]
    return "\n".join(lines) + "\n"


def goals(target: dict[str, float]) -> list[str]:
    """The target in words."""
    return [
        f"{target['speed']:g} times as fast as before",
        f"{target['size']:g} times as small a file as before",
        f"one answer in at most {1000 * target['latency']:g} ms",
        f"at most {target['accuracy']:.1%} of the answers lost",
    ]


# Beginning ---------------------------------------------------------------------------------------


def require(progress: Progress) -> None:
    """Raises WorkspaceError unless modules 01 to 20 are completed, CourseError if one is absent."""
    for module in course.modules()[:MODULES]:
        if not module.exists:
            raise CourseError(
                f"the Olympics need {module.id}, which is not part of this release of the course\n"
                "Next: tito module list"
            )
        if not progress.is_completed(module.id):
            raise WorkspaceError(
                f"the Olympics need all your modules, and {module.id} is not completed\n"
                f"Next: {progress.go_on(module.id)}"
            )


def init(ws: Workspace, name: str, force: bool = False) -> list[Path]:
    """Write a track's entry.py, target.toml and RULES.md; returns the files that are new.

    A file that is there stays; with `force` it is replaced, after a snapshot.
    """
    require(Progress.load(ws))
    table, place, new = track(name), folder(ws, name), []
    for file, text in _files(name, table).items():
        path = place / file
        if not path.exists() or (force and path.read_text(encoding="utf-8") != text):
            ws.replace(path, text, f"olympics {name}")
            new.append(path)
    return new


def _files(name: str, table: dict[str, Any]) -> dict[str, str]:
    kind = "text" if table["data"] == ["tinytalks"] else "images"
    entry = (course.course_dir() / "olympics" / f"entry_{kind}.py").read_text(encoding="utf-8")
    source = course.course_dir() / "events" / f"olympics_{name}.toml"
    head = f'course = "{course.version()}"\n'
    about = source.read_text(encoding="utf-8").replace("\ntitle = ", f"\n{head}title = ", 1)
    return {
        "entry.py": entry.replace("olympics/vision/", f"olympics/{name}/"), "target.toml": about,
        "RULES.md": rules(table),
    }  # fmt: skip


# Checking ----------------------------------------------------------------------------------------


class Refused(Exception):
    """A submission is not what it says: `what`, and what to do about it."""

    def __init__(self, what: str, next_step: str = "") -> None:
        super().__init__(what)
        self.what, self.next = what, next_step


@dataclass(frozen=True)
class Row:
    """One line of a verdict: a step that held, or a target that was met or not."""

    name: str
    ok: bool
    said: str


@dataclass
class Verdict:
    """What a check found: steps in order up to the first that does not hold, and the targets."""

    track: str
    steps: list[Row] = field(default_factory=list)
    targets: list[Row] = field(default_factory=list)
    next: str = ""

    @property
    def ok(self) -> bool:
        return all(row.ok for row in self.steps)

    def as_dict(self) -> dict[str, Any]:
        """For programs."""
        steps, targets = ([vars(row) for row in rows] for rows in (self.steps, self.targets))
        return {"track": self.track, "ok": self.ok, "steps": steps, "targets": targets}


@dataclass
class _Case:
    """A submission while it is checked."""

    ws: Workspace
    name: str
    table: dict[str, Any]
    show: Show
    record: Record = field(default_factory=dict)
    said: dict[str, list[Any]] = field(default_factory=dict)

    @property
    def place(self) -> Path:
        return folder(self.ws, self.name)

    def model(self, side: str) -> Path:
        return self.place / str(self.record["models"][side]["file"])


def entered(ws: Workspace) -> list[str]:
    """The tracks that have a submission. Raises WorkspaceError if there is none."""
    found = [name for name in TRACKS if (folder(ws, name) / "submission.json").is_file()]
    if not found:
        begun = [name for name in TRACKS if (folder(ws, name) / "entry.py").is_file()]
        command = f"python olympics/{begun[0]}/entry.py" if begun else "tito olympics rules"
        raise WorkspaceError(f"no submission is in {ws.root / 'olympics'}\nNext: {command}")
    return found


def check(ws: Workspace, name: str, show: Show) -> Verdict:
    """Verify a submission step by step; the first step that does not hold is the last."""
    case, verdict = _Case(ws, name, track(name), show), Verdict(name)
    for step, work in STEPS.items():
        try:
            verdict.steps.append(Row(step, True, work(case)))
        except Refused as refused:
            verdict.steps.append(Row(step, False, refused.what))
            verdict.next = refused.next or f"python olympics/{name}/entry.py"
            return verdict
    verdict.targets = list(judge(case.record, case.table))
    return verdict


def _schema(case: _Case) -> str:
    """The file is JSON, everything is in it and nothing else, and it names nobody."""
    path = case.place / "submission.json"
    try:
        case.record = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise Refused(f"{case.ws.relative(path)}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise Refused(f"submission.json is not JSON: {error}") from None
    file = course.course_dir() / "events" / "submission.schema.json"
    if why := next(schema.problems(case.record, json.loads(file.read_text("utf-8"))), ""):
        raise Refused(f"it does not fit the schema: {why}")
    if named := _names(case.record["machine"]):
        raise Refused(f"machine names {named!r}: a submission says what a machine is, not whose")
    return "submission.json is whole, and fits the schema"


def _names(machine: dict[str, Any]) -> str:
    """A word of the machine's description that is the name of this machine, or of its user."""
    known = {platform.node(), platform.node().partition(".")[0], Path.home().name} - {"", "root"}
    words = re.split(r"[\s,;:/()]+", " ".join(str(value) for value in machine.values()))
    return next((word for word in words if word in known - _COMMON), "")


_COMMON = {"localhost", "Linux", "linux", "Darwin", "Windows", platform.machine()}


def _track(case: _Case) -> str:
    """It is this track's, on this track's data."""
    record, known = case.record, case.table["data"]
    if record["track"] != case.name:
        raise Refused(f"it is a submission to {record['track']}, and lies in olympics/{case.name}")
    if record["dataset"] not in known:
        raise Refused(
            f"it is judged on {record['dataset']}, which is another track's data: "
            f"{case.name} knows {', '.join(known)}"
        )
    if record["course"] != course.version():
        raise Refused(
            f"it was made for version {record['course']} of the course, this is {course.version()}",
            f"tito olympics init --track {case.name} --force",
        )
    return f"{case.name} on {record['dataset']}, by the framework of origin {record['origin']}"


def _hashes(case: _Case) -> str:
    """Every file is the one that was submitted."""
    record, limits = case.record, case.table["limits"]
    for part in (*(record["models"][side] for side in SIDES), record["predictions"]):
        raw = _read(case.place / part["file"])
        limit = limits["predictions" if part is record["predictions"] else "model"]
        if len(raw) > limit:
            raise Refused(f"{part['file']} has {len(raw):,} bytes, {limit:,} are allowed")
        if hashlib.sha256(raw).hexdigest() != part["sha256"]:
            raise Refused(f"{part['file']} is not the file that was submitted: its hash differs")
    names = record["source"]["files"]
    entry = f"olympics/{case.name}/entry.py"
    if entry not in names:
        raise Refused(f"its source does not name {entry}")
    if source_hash(case.ws.root, names) != record["source"]["sha256"]:
        raise Refused(
            f"the source is not the one that made it: the hash of its {len(names)} files differs"
        )
    harness = hashlib.sha256(_read(case.ws.export_path("benchmarking"))).hexdigest()[:16]
    if record["harness"] != harness:
        raise Refused(
            f"it was measured by harness {record['harness']}, module 19 here is {harness}"
        )
    return f"three files and {len(names)} of source are those that were submitted"


def source_hash(root: Path, names: list[str]) -> str:
    """SHA-256 over the sorted names and contents. Raises Refused for one that is not there."""
    found = hashlib.sha256()
    for name in sorted(set(names)):
        raw = _read(_inside(root, name))
        found.update(name.encode() + b"\0" + str(len(raw)).encode() + b"\0" + raw)
    return found.hexdigest()


def _inside(root: Path, name: str) -> Path:
    path = Path(os.path.realpath(root / name))
    if not path.is_relative_to(os.path.realpath(root)):
        raise Refused(f"{name} lies outside the workspace")
    return path


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise Refused(f"{path.name}: {error.strerror}") from None


def _accuracy(case: _Case) -> str:
    """The accuracy is that of the raw predictions, against the course's answers."""
    record, known = case.record, answers(case.record["dataset"])
    try:
        case.said = json.loads(_read(case.place / record["predictions"]["file"]))
        right = {side: records.count_right(list(case.said[side]), known) for side in SIDES}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise Refused(f"the predictions cannot be counted: {error}") from None
    for side in SIDES:
        share, claim = right[side] / len(known), record["accuracy"][side]
        if not math.isclose(share, claim, abs_tol=1e-6):
            raise Refused(
                f"it claims {claim:.2%} {side}, and its predictions get {right[side]:,} of "
                f"{len(known):,} right: {share:.2%}"
            )
    return f"{record['accuracy']['after']:.2%} of {len(known):,}, counted from raw predictions"


def answers(dataset: str) -> list[Any]:
    """The course's answers of a test set."""
    if dataset == "tinytalks":
        from tito import data

        return [pair.answer for pair in data.load_tinytalks().test]
    return bench._images(dataset)[0]


def _models(case: _Case) -> str:
    """The models load, running no code of theirs, and give those predictions again."""
    for side in SIDES:
        path = case.model(side)
        if kind := disguise(_read(path)[:8]):
            raise Refused(
                f"{path.name} is {kind}: opening one runs what is in it, so it stays closed. "
                "Write it with tinytorch.save"
            )
        asked = partial(bench.accuracy, case.ws, path, case.record["dataset"], case.show)
        again = _measured(asked)["predictions"]
        differ = sum(a != b for a, b in zip(again, case.said[side], strict=True))
        if differ > ROUNDING * len(again):
            raise Refused(
                f"{path.name} does not give these predictions: asked again, it answers "
                f"{differ:,} of {len(again):,} otherwise"
            )
    return "both models load without running code of theirs, and predict the same again"


def disguise(head: bytes) -> str:
    """What a file is by its first bytes, if it is something that runs when opened; else ""."""
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return "a pickle"
    return "a zip archive, as torch.save writes it around a pickle" if head[:2] == b"PK" else ""


def _measured(run: Callable[[], Any]) -> Any:
    """What a child process found; a model or framework that stops there is refused."""
    try:
        return run()
    except BenchError as error:
        what, _, advice = str(error).partition("\nNext: ")
        raise Refused(what, advice if advice.startswith("tito ") else "") from None
    except bench.BenchFailure as error:
        raise Refused(error.blame.what, error.blame.next) from None


def _sizes(case: _Case) -> str:
    """Sizes are the files' lengths, and the stages begin and end with these figures."""
    record, sizes = case.record, []
    for side in SIDES:
        size, claim = case.model(side).stat().st_size, record["models"][side]["bytes"]
        if size != claim:
            raise Refused(f"it claims {claim:,} bytes {side}, and the file has {size:,}")
        sizes.append(size)
    for side, stage in zip(SIDES, (record["stages"][:1], record["stages"][-1:])):
        fits = stage and stage[0]["bytes"] == record["models"][side]["bytes"]
        if not fits or not math.isclose(
            stage[0]["accuracy"], record["accuracy"][side], abs_tol=1e-6
        ):
            raise Refused(f"its stages do not {'begin' if side == 'before' else 'end'} "
                          f"with the figures of {side}")  # fmt: skip
    return f"{sizes[0]:,} bytes before, {sizes[1]:,} after, by the files themselves"


def _plausible(case: _Case) -> str:
    """Times fit each other, and are no shorter than the arithmetic allows here."""
    for side in SIDES:
        told = case.record["speed"][side]
        if why := _crooked(told):
            raise Refused(f"speed {side} does not fit itself: {why}")
        counted = partial(bench.work, case.ws, case.model(side), case.table, case.show)
        work = _measured(counted)
        least = work["flops"] / SAVED / limit(work)
        if told["seconds"] < least:
            raise Refused(
                f"{told['seconds']:.2g} s {side} is too fast to be real: {work['flops']:,} "
                f"floating-point operations take {least:.2g} s at the very least"
            )
    return "times fit each other, and what the arithmetic takes at least"


def _crooked(told: dict[str, Any]) -> str:
    ends, middle = told["interval"], told["seconds"]
    if len(ends) != 2 or not ends[0] <= middle <= ends[1] or middle <= 0:
        return "its median is not inside its interval"
    try:
        found = sorted((float(q.lstrip("p")), v) for q, v in told.get("percentiles", {}).items())
    except ValueError:
        return "a percentile is named by no number"
    if [value for _, value in found] != sorted(value for _, value in found):
        return "a higher percentile is below a lower one"
    one = told["throughput"] * middle
    return "" if 0.5 <= one <= 2 else "its throughput is not what its median gives"


def limit(work: dict[str, float]) -> float:
    """FLOP/s that no thread exceeds: the table's, or `lead` times this machine's matmul if less."""
    table = bench.suite()
    return float(min(table["fastest"], table["lead"] * work["matmul"]))


STEPS: dict[str, Callable[[_Case], str]] = {
    "schema": _schema, "track": _track, "files": _hashes, "accuracy": _accuracy,
    "models": _models, "sizes": _sizes, "times": _plausible,
}  # fmt: skip


def judge(record: Record, table: dict[str, Any]) -> Iterator[Row]:
    """The track's targets, met or not, by what was verified."""
    wanted, model = table["target"], record["models"]
    before, after = (record["speed"][side]["seconds"] for side in SIDES)
    smaller = model["before"]["bytes"] / model["after"]["bytes"]
    lost = record["accuracy"]["before"] - record["accuracy"]["after"]
    right, floor = record["accuracy"]["after"], table["minimum_accuracy"][record["dataset"]]
    faster = before / after
    rows = [
        ("speed", faster >= wanted["speed"], f"{faster:.3g} times as fast", goals(wanted)[0]),
        ("size", smaller >= wanted["size"], f"{smaller:.3g} times as small", goals(wanted)[1]),
        ("latency", after <= wanted["latency"], f"{1000 * after:.3g} ms", goals(wanted)[2]),
        ("accuracy", lost <= wanted["accuracy"] + 1e-9, f"{lost:.2%} of the answers lost",
         goals(wanted)[3]),
        ("at least", right >= floor, f"{right:.2%} right", f"at least {floor:.0%} right"),
    ]  # fmt: skip
    return (Row(name, ok, f"{got} ({asked})") for name, ok, got, asked in rows)


def listed() -> list[dict[str, Any]]:
    """Every track's table, in order."""
    return [track(name) for name in TRACKS]
