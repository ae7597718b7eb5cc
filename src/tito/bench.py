"""Benchmarks: what the learner's framework and its models can do on this machine.

Everything is measured in a child process (`tito.bench_child`) by the course's own harness, module
19, on one BLAS thread. No figure comes from anywhere else. Nothing here prints, nothing is sent.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import tempfile
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tito import bench_records as records
from tito import course, milestones, overview, probes, sandbox
from tito.bench_records import BenchError, Record
from tito.probes import Blame
from tito.progress import Progress
from tito.workspace import Workspace

DATASETS = ("cifar10", "digits", "mnist", "tinytalks")
TIMEOUT = 1800.0
MODELS = 13  # the modules that a model file's layers are built in
HARNESS, FILES = "19", "15"  # the modules that measure, and that load model files
Show = Callable[[str], None]


class BenchFailure(Exception):
    """The framework failed in the middle; `blame` says how, and which module to look at."""

    def __init__(self, blame: Blame) -> None:
        super().__init__(blame.what)
        self.blame = blame


@dataclass
class Result:
    """A record and the file it went to; `failed` benchmarks and the `set_up`'s problems."""

    record: Record
    path: Path
    failed: dict[str, Blame] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        failed = {name: vars(blame) for name, blame in self.failed.items()}
        return {**self.record, "failed": failed, "problems": self.problems, "file": str(self.path)}


def suite(name: str = "baseline") -> dict[str, Any]:
    """The table of an event: course/events/NAME.toml."""
    path = course.course_dir() / "events" / f"{name}.toml"
    return tomllib.loads(path.read_text(encoding="utf-8"))


# The child ---------------------------------------------------------------------------------------


def _measure(job: dict[str, Any], root: Path, show: Show, fill: Callable[[Path], None]) -> Any:
    """What the child found; `fill` puts its inputs into its folder. Raises as it failed."""
    for number in (HARNESS,) if job["kind"] == "baseline" else (HARNESS, FILES):
        module = course.find_module(number)
        if not module.exists:
            raise overview.absent(module)
    surroundings = probes.environment(root, job["built"]) | milestones.threads(1)
    if job["origin"] == "reference":
        surroundings |= {"TINYTORCH": "reference", "TINYTORCH_UPTO": ""}
    with tempfile.TemporaryDirectory(prefix="tito-") as name:
        place = Path(name)
        (place / "job.json").write_text(json.dumps({**job, "memory": sandbox.MEMORY}), "utf-8")
        fill(place)
        arguments = ["-m", "tito.bench_child", str(place)]
        ending = sandbox.stream(arguments, surroundings, root, TIMEOUT, show)
        told = {file.stem: json.loads(file.read_text("utf-8")) for file in place.glob("*.json")}
    if "refused" in told:
        raise BenchError(told["refused"]["what"])
    if "failed" in told:
        raise BenchFailure(_blame(told["failed"], job["kind"]))
    if "result" not in told:
        what = f"Python stopped here ({ending})"
        raise BenchFailure(Blame(f"benchmark {job['kind']}", what, [], ""))
    return told["result"]


def _blame(told: dict[str, Any], name: str) -> Blame:
    """Why a benchmark failed, and the module whose file it happened in."""
    owner = course.export_owner(told.get("dotted", ""))
    rows = [(label, text) for label, text in told["rows"] if text]
    stopped = f"it stopped with {told['what']}" if "dotted" in told else told["what"]
    return Blame(f"benchmark {name}", stopped, rows, owner.id if owner else "")


def built(progress: Progress) -> int:
    """The last module that is completed with all before it; 0 for none."""
    return _last(lambda module: progress.is_completed(module.id))


def _last(there: Callable[[course.Module], bool]) -> int:
    """The number of the last module before the first that is not there."""
    return sum(1 for _ in itertools.takewhile(there, course.modules()))


def whose(progress: Progress) -> tuple[str, int]:
    """Whose framework runs a model, and its last module.

    The learner's once modules 01 to 13 are built, else the course's.
    """
    last = built(progress)
    if last >= MODELS:
        return "student", last
    return "reference", _last(lambda module: module.exists)


# Baseline ----------------------------------------------------------------------------------------


def baseline(ws: Workspace, show: Show) -> Result:
    """Time the suite on what is built here, score it and record it."""
    progress, table = Progress.load(ws), suite()
    last = built(progress)
    found = _measure(_baseline_job(table, last, "student"), ws.root, show, lambda _: None)
    rows, seconds = found["benchmarks"], table.get("reference", {}).get("seconds", {})
    for name, row in rows.items():
        row["reference"] = seconds[name]
        row["ratio"] = seconds[name] / row["median"]
    passed = sum(row.state == "passed" for row in milestones.standings(progress))
    record = records.head("baseline", "student", found) | {
        "suite": [table["id"], table["version"]],
        "clock": found["clock"], "reference": table["reference"]["name"],
        "resolution": table["resolution"],
        "milestones": [passed, len(course.milestones())],
        "modules": last, "benchmarks": rows,
        "missing": {b["name"]: owner(b) for b in table["benchmark"] if b["needs"] > last},
        "score": records.score(row["ratio"] for row in rows.values()),
        "of": [len(rows), len(table["benchmark"])], "verdict": verdict(rows),
    }  # fmt: skip
    failed = {name: _blame(told, name) for name, told in found["failed"].items()}
    return Result(record, records.write(ws, record), failed, set_up(ws))


def _baseline_job(table: dict[str, Any], last: int, origin: str) -> dict[str, Any]:
    return {
        "kind": "baseline", "origin": origin, "built": last,
        "workloads": str(course.course_dir() / "events" / "baseline.py"),
        "benchmarks": [row for row in table["benchmark"] if row["needs"] <= last],
        **{key: table[key] for key in ("rounds", "seconds", "fastest", "lead")},
    }  # fmt: skip


def owner(benchmark: dict[str, Any]) -> str:
    """The module that a benchmark waits for."""
    return course.find_module(benchmark["needs"]).id


def set_up(ws: Workspace) -> list[str]:
    """What is broken about the workspace; what an interrupted tito left behind is swept."""
    from tito import doctor

    broken = (f for f in doctor.examine_workspace(ws) if f.state == doctor.BROKEN)
    return [doctor.censor(finding.text) for finding in broken]


def verdict(rows: dict[str, Any]) -> dict[str, Any]:
    """Whether all of it may be quoted; else the first reason why not, and the remedy."""
    for name, row in rows.items():
        if not row["valid"]:
            return {"valid": False, "reason": f"{name}: {row['reason']}", "remedy": row["remedy"]}
    worst = max((row["spread"] for row in rows.values()), default=0.0)
    reason = f"{_rounds(rows)}, the widest spread {worst:.1%}."
    return {"valid": True, "reason": reason, "remedy": ""}


def _rounds(rows: dict[str, Any]) -> str:
    """`15 rounds of 7 benchmarks`, of what is measured side by side."""
    rounds = max((len(row["samples"]) for row in rows.values()), default=0)
    return f"{rounds} rounds of {len(rows)} functions side by side"


def reference_seconds(sessions: int, show: Show) -> dict[str, list[float]]:
    """The suite on the course's own framework, modules 01 to 13: each session's medians, by name.

    Makes the table of a reference machine: `tito dev machine`.
    """
    table, found = suite(), []
    job = _baseline_job(table, MODELS, "reference")
    for number in range(sessions):
        told = _measure(job, course.course_dir(), show, lambda _: None)
        if told["failed"]:
            name, why = next(iter(told["failed"].items()))
            raise BenchFailure(_blame(why, name))
        found.append({name: row["median"] for name, row in told["benchmarks"].items()})
        show(f"session {number + 1} of {sessions}")
    return {name: [session[name] for session in found] for name in found[0]}


def reference_table(sessions: int, show: Show) -> list[str]:
    """The measured seconds as lines of TOML, with their spread over the sessions."""
    import statistics

    found, about = reference_seconds(sessions, show), records.machine()
    told = f"{about['cores']} cores, {about['memory_gib']} GiB, {about['cpu']}, {about['system']}"
    lines = ["[reference]", 'name = "reference machine 1"', f'description = "{told}"', ""]
    lines += [f"[reference.seconds]  # medians of {sessions} sessions; (max - min) / median"]
    for name, values in found.items():
        middle = statistics.median(values)
        spread = (max(values) - min(values)) / middle
        lines.append(f"{name} = {middle:.3e}  # {spread:.0%}")
    return lines


# Tracks ------------------------------------------------------------------------------------------


def _model_job(ws: Workspace, kind: str, model: Path, **options: Any) -> dict[str, Any]:
    """A job on a model file. Raises BenchError if there is none."""
    if not model.is_file():
        raise BenchError(f"{model}: no such file\nNext: save one with tinytorch.save(model, path)")
    origin, last = whose(Progress.load(ws))
    return {"kind": kind, "origin": origin, "built": last, "fastest": suite()["fastest"],
            "model": os.path.abspath(model), **options}  # fmt: skip


def _model_head(job: dict[str, Any], found: dict[str, Any]) -> Record:
    import hashlib

    path = Path(job["model"])
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    own = job["origin"] == "student" and job["built"] >= int(FILES)
    loader = "your load" if own else "the course's load"
    return records.head(job["kind"], job["origin"], found) | {
        "model": path.name, "sha256": digest, "how": found["how"], "loaded_by": loader,
    }  # fmt: skip


def keep(ws: Workspace, record: Record) -> Result:
    """Write a record into the workspace."""
    return Result(record, records.write(ws, record))


def accuracy(ws: Workspace, model: Path, dataset: str, show: Show) -> Record:
    """The share of a test set that the model gets right, counted here from its raw predictions."""
    job = _model_job(ws, "accuracy", model, dataset=dataset)
    answers: list[Any]
    if dataset == "tinytalks":
        answers, fill = _talks(ws, job), lambda _: None
    else:
        answers, fill = _images(dataset)
    found = _measure(job, ws.root, show, fill)
    right = records.count_right(found["predictions"], answers)
    return _model_head(job, found) | {
        "dataset": dataset, "n": len(answers), "right": right, "accuracy": right / len(answers),
        "interval": wilson(right, len(answers)),
        "predictions": found["predictions"], "answers": answers,
    }  # fmt: skip


def _talks(ws: Workspace, job: dict[str, Any]) -> list[Any]:
    """The test questions go into the job; their answers come back, to be kept here."""
    from tito import data

    talks = data.load_tinytalks()
    known = [tuple(pair)[:2] for pair in [*talks.train, *talks.validation]]
    weights = milestones.folder(ws, course.find_milestone("2017")) / "weights.safetensors"
    job |= {"questions": [pair[0] for pair in talks.test], "known": known, "weights": str(weights)}
    return [pair[1] for pair in talks.test]


def _images(dataset: str) -> tuple[list[Any], Callable[[Path], None]]:
    """The labels of a test set, and what puts its images into the child's folder."""
    import numpy as np

    from tito import data

    readers = {
        "digits": data.load_tinydigits, "mnist": data.load_mnist, "cifar10": data.load_cifar10,
    }  # fmt: skip
    found = readers[dataset]()

    def fill(place: Path) -> None:
        np.save(place / "inputs.npy", found.test_images)

    return found.test_labels.tolist(), fill


def wilson(right: int, n: int, z: float = 1.96) -> list[float]:
    """The interval of 95 % of a share of n. Source: Wilson 1927."""
    share, spread = right / n, z * z / n
    middle = (share + spread / 2) / (1 + spread)
    half = z * math.sqrt(share * (1 - share) / n + spread / (4 * n)) / (1 + spread)
    return [max(0.0, middle - half), min(1.0, middle + half)]


def speed(
    ws: Workspace, model: Path, show: Show, length: int | None = None, tokens: int = 16,
    limit: float = 10.0,
) -> Record:  # fmt: skip
    """Tokens or inputs per second, one query after the other; stops after about `limit` seconds."""
    job = _model_job(ws, "speed", model, input_length=length, tokens=tokens, limit=limit)
    found = _measure(job, ws.root, show, lambda _: None)
    for name, row in found["queries"].items():
        row["rate"] = found["units"][name] / row["median"]
    return _model_head(job, found) | {
        "unit": found["unit"], "queries": found["queries"], "scenario": found["scenario"],
        "verdict": verdict(found["queries"]),
    }  # fmt: skip


def memory(ws: Workspace, model: Path, show: Show, length: int | None = None) -> Record:
    """Bytes of one inference, at most and kept, and of the model."""
    job = _model_job(ws, "memory", model, input_length=length, rounds=5)
    found = _measure(job, ws.root, show, lambda _: None)
    return _model_head(job, found) | {key: found[key] for key in ("peak", "live", "held")}


def size(ws: Workspace, model: Path, show: Show) -> Record:
    """Bytes on disk, numbers of each type, parameters."""
    job = _model_job(ws, "size", model)
    found = _measure(job, ws.root, show, lambda _: None)
    return _model_head(job, found) | {key: found[key] for key in ("bytes", "types", "parameters")}


def reads(ws: Workspace, model: Path, show: Show) -> str:
    """The data set that a model reads by the shape of its input; "" for none of them."""
    job = _model_job(ws, "reads", model, input_length=None)
    return str(_measure(job, ws.root, show, lambda _: None)["dataset"])


def work(ws: Workspace, model: Path, table: dict[str, Any], show: Show) -> dict[str, Any]:
    """FLOPs of one answer, counted layer by layer, and FLOP/s of this machine's matmul.

    `table`: of a track; of a text model it says how many tokens are read and written.
    """
    tokens = table.get("prompt", 1) + table.get("tokens", 1) - 1
    job = _model_job(ws, "work", model, input_length=tokens)
    found: dict[str, Any] = _measure(job, ws.root, show, lambda _: None)
    return found
