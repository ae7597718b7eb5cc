"""Benchmark records: JSON files in a workspace's benchmarks/, checked before they are believed.

A record keeps what was measured (samples, raw predictions), so that its figures can be computed
again when it is read. It names a machine only roughly, and no person and no place.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import statistics
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tito import __version__, course
from tito.workspace import Workspace

SCHEMA = 1
KINDS = ("baseline", "accuracy", "speed", "size", "memory", "capstone")
Record = dict[str, Any]
HEAD: dict[str, type] = {
    "kind": str, "date": str, "tito": str, "course": str, "harness": str, "origin": str,
    "machine": dict, "threads": int,
}  # fmt: skip


class BenchError(Exception):
    """Something about a benchmark that can be mended. Two lines: what, then `Next:`."""


# Writing -----------------------------------------------------------------------------------------


def folder(ws: Workspace) -> Path:
    """Where a workspace keeps its records."""
    return ws.root / "benchmarks"


def head(kind: str, origin: str, told: dict[str, Any]) -> Record:
    """What every record begins with; `told` is what the child said of its surroundings."""
    return {
        "schema": SCHEMA, "kind": kind, "date": _now().strftime("%Y-%m-%dT%H:%M:%SZ"),
        "tito": __version__, "course": course.version(), "harness": harness_version(),
        "origin": origin, "threads": told["threads"],
        "machine": machine() | {"numpy": told["numpy"], "blas": told["blas"]},
    }  # fmt: skip


def write(ws: Workspace, record: Record) -> Path:
    """Seal a record and write it in one step; returns the file, named by kind and time."""
    stamp = _now().strftime("%Y%m%dT%H%M%SZ")
    path = folder(ws) / f"{record['kind']}_{stamp}.json"
    number = 1
    while path.exists():
        number += 1
        path = path.with_name(f"{record['kind']}_{stamp}-{number}.json")
    ws.write(path, json.dumps({**record, "digest": digest(record)}, indent=1) + "\n")
    return path


def records(ws: Workspace, kind: str) -> list[Path]:
    """The records of a kind, oldest first."""
    found = folder(ws).glob(f"{kind}_*.json")
    return sorted(found, key=lambda path: (path.stem.partition("-")[0], len(path.stem), path.stem))


def comparable(ws: Workspace, record: Record, path: Path) -> Path | None:
    """The newest other record that measures the same: kind, suite, data set, unit."""
    for other in reversed(records(ws, record["kind"])):
        if other != path:
            try:
                found = read(other)
            except BenchError:
                continue
            if all(found.get(key) == record.get(key) for key in ("suite", "dataset", "unit")):
                return other
    return None


def digest(record: Record) -> str:
    """Checksum of everything else in a record: it tells an edit or a damage, not a forgery."""
    bare = {key: value for key, value in record.items() if key != "digest"}
    text = json.dumps(bare, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def harness_version() -> str:
    """Which harness measured: the beginning of the checksum of module 19's source."""
    return hashlib.sha256(course.find_module("19").path.read_bytes()).hexdigest()[:16]


def machine() -> dict[str, Any]:
    """The machine, roughly: usable cores, whole GiB, the processor's family, system and Python."""
    import psutil  # type: ignore[import-untyped, unused-ignore]

    affinity = getattr(os, "sched_getaffinity", None)
    usable = len(affinity(0)) if affinity else os.cpu_count() or 1
    return {
        "cores": usable, "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "cpu": cpu_family(), "system": platform.system(),
        "python": ".".join(platform.python_version_tuple()[:2]),
    }  # fmt: skip


def cpu_family(info: Path = Path("/proc/cpuinfo")) -> str:
    """`x86_64 AuthenticAMD family 25`, or the architecture alone where no more is told."""
    told: dict[str, str] = {}
    try:
        for line in info.read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            told.setdefault(key.strip(), value.strip())
    except OSError:
        pass
    parts = [platform.machine(), told.get("vendor_id", "")]
    parts += [f"family {told['cpu family']}"] if "cpu family" in told else []
    return " ".join(part for part in parts if part)


def _now() -> datetime:
    return datetime.now(UTC)


# Reading -----------------------------------------------------------------------------------------


def read(path: Path) -> Record:
    """The record in a file, every figure of it computed again. Raises BenchError."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise _unusable(path, error.strerror or "it cannot be read") from None
    except ValueError:
        raise _unusable(path, "it is not JSON") from None
    if why := problem(record):
        raise _unusable(path, why)
    return record  # type: ignore[no-any-return]


def _unusable(path: Path, why: str) -> BenchError:
    return BenchError(
        f"{path.name}: not a benchmark record that can be used: {why}\n"
        "Next: name two files of benchmarks/, or measure again"
    )


def problem(record: Any) -> str:
    """What is wrong with a record; "" if nothing is."""
    if not isinstance(record, dict) or not isinstance(record.get("schema"), int):
        return "it is no record of tito benchmark"
    if record["schema"] != SCHEMA:
        return f"its schema is {record['schema']}, this tito reads {SCHEMA}"
    for key, kind in HEAD.items():
        if not isinstance(record.get(key), kind):
            return f"it has no {key}"
    if record["kind"] not in KINDS:
        return f"its kind is {record['kind']!r}"
    if record.get("digest") != digest(record):
        return "its checksum does not fit: it was changed after it was written"
    try:
        return _FIGURES[record["kind"]](record)
    except (KeyError, TypeError, ValueError, AttributeError, ZeroDivisionError) as error:
        return f"a figure is missing or broken ({type(error).__name__}: {error})"


def _timed(rows: dict[str, Any]) -> str:
    """Medians are those of their samples, and the kernel was there in every round."""
    for name, row in rows.items():
        samples, kernel = row["samples"], row["kernel"]
        if not samples or len(samples) != len(kernel) or not all(map(_positive, samples + kernel)):
            return f"{name} has no whole samples"
        if not math.isclose(row["median"], statistics.median(samples), rel_tol=1e-6):
            return f"{name}'s median is not that of its samples"
    return ""


def _positive(value: Any) -> bool:
    return isinstance(value, (int, float)) and 0 < value < math.inf


def _baseline(record: Record) -> str:
    rows = record["benchmarks"]
    if why := _timed(rows):
        return why
    for name, row in rows.items():
        if not math.isclose(row["ratio"], row["reference"] / row["median"], rel_tol=1e-6):
            return f"{name}'s ratio is not its reference over its median"
    again = score(row["ratio"] for row in rows.values())
    return "" if math.isclose(record["score"], again, rel_tol=1e-6) else "its score does not follow"


def score(ratios: Iterable[float]) -> float:
    """100 times the geometric mean: 100 is the reference machine, 200 is twice as fast."""
    values = list(ratios)
    return 100 * math.exp(math.fsum(map(math.log, values)) / len(values)) if values else 0.0


def _accuracy(record: Record) -> str:
    right = count_right(record["predictions"], record["answers"])
    stated = (record["right"], record["n"], record["accuracy"])
    fits = stated[:2] == (right, len(record["answers"])) and math.isclose(
        record["accuracy"], right / len(record["answers"])
    )
    return "" if fits else "its accuracy is not that of its predictions"


def count_right(predictions: list[Any], answers: list[Any]) -> int:
    """How many predictions are the answer. Raises ValueError if some are missing."""
    if len(predictions) != len(answers):
        raise ValueError(f"{len(predictions)} predictions for {len(answers)} answers")
    return sum(mine == known for mine, known in zip(predictions, answers))


def _size(record: Record) -> str:
    sizes = [record["bytes"], *(row["bytes"] for row in record["types"].values())]
    return "" if all(map(_positive, sizes)) else "it has no bytes"


def _memory(record: Record) -> str:
    fine = record["peak"] and all(map(_positive, record["peak"])) and _positive(record["held"])
    return "" if fine else "it has no bytes"


def _capstone(record: Record) -> str:
    sessions = [value for track in record["tracks"].values() for value in track["sessions"]]
    fine = all(isinstance(value, (int, float)) for value in sessions)
    points = sum(track["points"] or 0 for track in record["tracks"].values())
    fits = math.isclose(record["score"], points, abs_tol=1e-6)
    return "" if fine and fits else "its score is not the sum of its points"


_FIGURES = {
    "baseline": _baseline, "accuracy": _accuracy, "speed": lambda record: _timed(record["queries"]),
    "size": _size, "memory": _memory, "capstone": _capstone,
}  # fmt: skip
