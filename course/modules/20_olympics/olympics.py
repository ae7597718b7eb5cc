# %% [markdown]
"""
# 20 · Olympics

Take a model that you trained, make it ten times faster and four times smaller, and prove it.
"""

# %% given="imports"
#| default_exp olympics
#| export
import copy
import hashlib
import importlib
import itertools
import json
import math
import os
import platform
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from tinytorch.benchmarking import Measurement, compare, pareto_front

# %% given="Figures"
#| export
class Figures(NamedTuple):
    """What is measured of one model: share of right answers, seconds per answer, bytes of its file."""

    accuracy: float
    seconds: float
    bytes: int


class Stage(NamedTuple):
    """One step of an optimisation: its name, the figures after it, and how it was done."""

    name: str
    figures: Figures
    note: str = ""


@dataclass
class Entry:
    """The log of an optimisation: the stages in order, the first is where it began."""

    track: str
    stages: list[Stage]

    @property
    def first(self) -> Figures:
        """The figures of the beginning."""
        if not self.stages:
            raise ValueError(
                f"Entry {self.track!r}: no stages. The first is the model you began with."
            )
        return self.stages[0].figures

    @property
    def last(self) -> Figures:
        """The figures of the end."""
        return self.stages[-1].figures if self.stages else self.first

# %% exercise="Target.judge"
#| export
class Row(NamedTuple):
    """One demand of a target: whether it is met, the number that was wanted and the one that came."""

    name: str
    met: bool
    wanted: float
    got: float

    def __str__(self) -> str:
        said = "met" if self.met else "missed"
        return f"{self.name:9} {said:7} wanted {self.wanted:8.4g}   got {self.got:8.4g}"


@dataclass(frozen=True)
class Target:
    """Times faster and smaller, seconds of an answer at most, accuracy that may be lost (0.02: 2 points)."""

    speed: float = 10.0
    size: float = 4.0
    latency: float = 0.1
    accuracy: float = 0.02

    def judge(self, before: Figures, after: Figures) -> list[Row]:
        """Four rows: speed, size, latency, accuracy. What is exactly reached is met.

        got: times faster, times smaller, seconds after, accuracy lost (below 0 if it was won).

        >>> [row.met for row in Target().judge(Figures(0.9, 1.0, 100), Figures(0.9, 0.05, 50))]
        [True, False, True, True]
        """
        ### BEGIN SOLUTION
        speed, size = before.seconds / after.seconds, before.bytes / after.bytes
        lost = before.accuracy - after.accuracy
        return [
            Row("speed", speed >= self.speed - 1e-9, self.speed, speed),
            Row("size", size >= self.size - 1e-9, self.size, size),
            Row("latency", after.seconds <= self.latency + 1e-9, self.latency, after.seconds),
            Row("accuracy", lost <= self.accuracy + 1e-9, self.accuracy, lost),
        ]
        ### END SOLUTION

# %% exercise="accuracy_from"
#| export
def accuracy_from(predictions: ArrayLike, answers: ArrayLike, claim: float | None = None) -> float:
    """The share of right predictions, counted: predictions (N,) and answers (N,), numbers or texts.

    claim: what somebody says it is, refused if it is another number (by more than 1e-6).
    Raises ValueError for other shapes, no predictions, or a wrong claim.

    >>> accuracy_from([3, 1, 4, 1], [3, 1, 4, 5])
    0.75
    """
    said, known = np.asarray(predictions), np.asarray(answers)
    ### BEGIN SOLUTION
    if said.shape != known.shape or said.ndim != 1 or not len(said):
        raise ValueError(
            f"accuracy_from: predictions {said.shape} for answers {known.shape}: one class for each "
            "question is needed, in order. Outputs of a network first go through argmax(axis=1)."
        )
    right = float(np.mean(said == known))
    if claim is not None and not abs(right - claim) <= 1e-6:
        raise ValueError(
            f"accuracy_from: {claim:.4f} is claimed, the predictions give {right:.4f}. "
            "Count it again from these predictions."
        )
    return right
    ### END SOLUTION

# %% exercise="decide"
#| export
class Decision(NamedTuple):
    """Whether a step is kept, and why or why not."""

    keep: bool
    reason: str


def decide(
    before: Figures,
    after: Figures,
    old: Measurement | Sequence[float],
    new: Measurement | Sequence[float],
    may_lose: float = 0.02,
) -> Decision:
    """Keep a step that is faster or smaller, and neither slower nor larger; else drop it.

    before, after: the figures without and with the step. old, new: its times, measured side by side.
    may_lose: the accuracy that may still be lost; a step that loses more is dropped for that.
    Raises ValueError as `compare` does.

    >>> decide(Figures(0.9, 2.0, 80), Figures(0.9, 1.0, 80), [2.0] * 6, [1.0] * 6).keep
    True
    """
    lost, comparison = before.accuracy - after.accuracy, compare(new, old)
    size = f"{after.bytes / before.bytes:.2f} times the bytes"
    ### BEGIN SOLUTION
    if lost > may_lose + 1e-9:
        return Decision(False, f"loses {100 * lost:.1f} points, {100 * may_lose:.1f} may be lost")
    better = comparison.verdict == "faster" or after.bytes < before.bytes
    worse = comparison.verdict == "slower" or after.bytes > before.bytes
    return Decision(better and not worse, f"{comparison}; {size}")
    ### END SOLUTION

# %% exercise="try_orders"
#| export
def try_orders(
    start: Any, steps: Mapping[str, Callable[[Any], Any]], measure: Callable[[Any], Any]
) -> dict[tuple[str, ...], Any]:
    """What `measure` says after all steps, in every order: {(name, name, ...): result}.

    Each order begins with a copy of `start` of its own: a step may change what it gets.
    Cost: n! orders of n steps.

    >>> try_orders(3, {"double": lambda x: 2 * x, "add": lambda x: x + 1}, str)
    {('double', 'add'): '7', ('add', 'double'): '8'}
    """
    found: dict[tuple[str, ...], Any] = {}
    ### BEGIN SOLUTION
    for names in itertools.permutations(steps):
        value = copy.deepcopy(start)
        for name in names:
            value = steps[name](value)
        found[names] = measure(value)
    ### END SOLUTION
    return found

# %% exercise="machine_record"
#| export
def machine_record(cores: int | None, memory: int, cpu: str) -> dict[str, Any]:
    """A machine, so rounded that it is one of thousands: {"cores", "memory_gib", "cpu"}.

    cores: at least 1; None: unknown, 1. memory: bytes; gives the nearest power of two in GiB, at least 1.
    cpu: letters, digits and " .()-_" stay, all else becomes a space, no two of them side by side;
    at most 60 characters, "unknown" if nothing is left.

    >>> machine_record(8, 16_500_000_000, "Xeon(R) @ 2.80GHz")
    {'cores': 8, 'memory_gib': 16, 'cpu': 'Xeon(R) 2.80GHz'}
    """
    ### BEGIN SOLUTION
    gib = max(1, 2 ** round(math.log2(max(memory, 1) / 2**30)))
    words = re.sub(r"[^\w .()-]", " ", cpu).split()
    return {
        "cores": max(1, cores or 1),
        "memory_gib": gib,
        "cpu": " ".join(words)[:60] or "unknown",
    }
    ### END SOLUTION

# %% given="machine"
#| export
def machine() -> dict[str, Any]:
    """This machine, rounded, and what runs on it; no name, no user, no path."""
    known = getattr(os, "sysconf_names", {})
    memory = (
        os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if "SC_PHYS_PAGES" in known else 0
    )
    system = platform.system()
    return machine_record(os.cpu_count(), memory, platform.machine()) | {
        "system": system if system in ("Linux", "Darwin", "Windows") else "other",
        "python": ".".join(platform.python_version_tuple()[:2]),
        "numpy": np.__version__,
    }

# %% exercise="source_hash"
#| export
def source_hash(root: str | Path, names: Iterable[str]) -> str:
    """SHA-256, in hexadecimal, of the files `names` below `root`: of names and contents.

    The same for every order of the names, and for names that are given twice.
    For each file: name in UTF-8, a zero byte, the number of its bytes as text, a zero byte, its bytes.
    Raises FileNotFoundError.
    """
    found = hashlib.sha256()
    ### BEGIN SOLUTION
    for name in sorted(set(names)):
        raw = (Path(root) / name).read_bytes()
        found.update(name.encode() + b"\0" + str(len(raw)).encode() + b"\0" + raw)
    ### END SOLUTION
    return found.hexdigest()

# %% given="SCHEMA"
#| export
def _whole(properties: dict[str, Any], optional: Sequence[str] = ()) -> dict[str, Any]:
    """An object with these names and no others; all but the optional ones are required."""
    required = [name for name in properties if name not in optional]
    return {
        "type": "object", "additionalProperties": False, "required": required, "properties": properties,
    }  # fmt: skip


def _text(pattern: str) -> dict[str, Any]:
    return {"type": "string", "pattern": pattern}


def _both(part: dict[str, Any]) -> dict[str, Any]:
    return _whole({"before": part, "after": part})


_AMOUNT: dict[str, Any] = {"type": "number", "minimum": 0}
_SHARE: dict[str, Any] = {"type": "number", "minimum": 0, "maximum": 1}
_BYTES: dict[str, Any] = {"type": "integer", "minimum": 1}
_SHA, _FILE = _text("^[0-9a-f]{64}$"), _text(r"^\w[\w.-]*$")
_MACHINE: dict[str, Any] = {
    "cores": {"type": "integer", "minimum": 1, "maximum": 4096},
    "memory_gib": {"type": "integer", "minimum": 1, "maximum": 65536},
    "cpu": _text(r"^[\w .()-]{1,60}$"),
    "system": {"enum": ["Linux", "Darwin", "Windows", "other"]},
    "python": _text(r"^3\.[0-9]+$"),
    "numpy": _text(r"^[0-9]+\.[0-9]+[\w.]*$"),
}
_SPEED: dict[str, Any] = {
    "seconds": _AMOUNT,
    "interval": {"type": "array", "items": _AMOUNT},
    "n": {"type": "integer", "minimum": 6},
    "throughput": _AMOUNT,
    "percentiles": {"type": "object", "additionalProperties": _AMOUNT},
}
_STAGE: dict[str, Any] = {
    "name": {"type": "string"}, "note": {"type": "string"}, "accuracy": _SHARE, "seconds": _AMOUNT,
    "bytes": _BYTES,
}  # fmt: skip
SCHEMA: dict[str, Any] = {"title": "A submission to the TinyTorch Olympics, version 1"} | _whole({
    "schema": {"enum": [1]},
    "track": {"enum": ["vision", "language", "speed", "compression"]},
    "course": _text(r"^[0-9]+(\.[0-9]+)+$"),
    "harness": _text("^[0-9a-f]{16}$"),
    "origin": {"enum": ["student", "reference"]},
    "date": _text("^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$"),
    "machine": _whole(_MACHINE, ("system", "python", "numpy")),
    "dataset": {"enum": ["digits", "mnist", "cifar10", "tinytalks"]},
    "models": _both(_whole({"file": _FILE, "bytes": _BYTES, "sha256": _SHA})),
    "predictions": _whole({"file": _FILE, "sha256": _SHA}),
    "accuracy": _both(_SHARE),
    "speed": _both(_whole(_SPEED, ("percentiles",))),
    "target": _whole({"speed": _AMOUNT, "size": _AMOUNT, "latency": _AMOUNT, "accuracy": _SHARE}),
    "source": _whole({"files": {"type": "array", "items": _text(r"^[\w][\w./-]*$")}, "sha256": _SHA}),
    "stages": {"type": "array", "items": _whole(_STAGE, ("note",))},
})  # fmt: skip

# %% given="TYPES"
#| export
TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,), "array": (list,), "string": (str,), "integer": (int,), "number": (int, float),
    "boolean": (bool,),
}  # fmt: skip


def is_type(value: Any, kind: str) -> bool:
    """Whether a value is of that type of JSON; true and false are no numbers, though Python says so."""
    return isinstance(value, TYPES[kind]) and (kind == "boolean") == isinstance(value, bool)

# %% exercise="value_problems"
#| export
def value_problems(value: Any, schema: Mapping[str, Any], where: str = "record") -> list[str]:
    """What is wrong with one value by type, enum, minimum, maximum and pattern: one text each.

    A value of a wrong type has that one problem. minimum, maximum: numbers alone, limits are allowed,
    inf and nan are not. pattern: texts alone, found anywhere in the text (^ and $ are in the pattern).
    Source: JSON Schema, draft 2020-12, Validation, section 6.

    >>> value_problems(0, {"type": "integer", "minimum": 1}, "cores")
    ['cores: 0 is below 1']
    """
    if "type" in schema and not is_type(value, schema["type"]):
        return [f"{where}: {value!r:.40} is not of type {schema['type']}"]
    problems = []
    ### BEGIN SOLUTION
    if "enum" in schema and not any(type(value) is type(x) and value == x for x in schema["enum"]):
        problems.append(f"{where}: {value!r:.40} is not one of {schema['enum']}")
    if is_type(value, "number"):
        if not math.isfinite(value):
            problems.append(f"{where}: {value} is not a finite number")
        if value < schema.get("minimum", -math.inf):
            problems.append(f"{where}: {value} is below {schema['minimum']}")
        if value > schema.get("maximum", math.inf):
            problems.append(f"{where}: {value} is above {schema['maximum']}")
    if isinstance(value, str) and not re.search(schema.get("pattern", ""), value):
        problems.append(f"{where}: {value!r:.40} does not match {schema['pattern']}")
    ### END SOLUTION
    return problems

# %% exercise="validate"
#| export
def validate(record: Any, schema: Mapping[str, Any] = SCHEMA, where: str = "record") -> list[str]:
    """All that is wrong with a record, one text each; [] if it fits the schema.

    `value_problems` of the value, then what is inside it. Objects: required names, each property by its
    own schema, additionalProperties False (no other names) or a schema (for the others). Arrays: items.
    Source: JSON Schema, draft 2020-12.

    >>> validate({"n": 0}, {"required": ["m"], "properties": {"n": {"minimum": 1}}})
    ['record: m is missing', 'record.n: 0 is below 1']
    """
    problems = value_problems(record, schema, where)
    ### BEGIN SOLUTION
    if isinstance(record, dict):
        known, others = schema.get("properties", {}), schema.get("additionalProperties", True)
        missing = [name for name in schema.get("required", ()) if name not in record]
        problems += [f"{where}: {name} is missing" for name in missing]
        for name, value in record.items():
            part = known.get(name, others)
            if part is False:
                problems.append(f"{where}: {name} has no place in it")
            elif part is not True:
                problems += validate(value, part, f"{where}.{name}")
    if isinstance(record, list) and "items" in schema:
        for i, value in enumerate(record):
            problems += validate(value, schema["items"], f"{where}[{i}]")
    ### END SOLUTION
    return problems

# %% given="file_record"
#| export
def file_record(path: Path) -> dict[str, Any]:
    """A file as a record names it: its name, its bytes, and their SHA-256."""
    raw = path.read_bytes()
    return {"file": path.name, "bytes": len(raw), "sha256": hashlib.sha256(raw).hexdigest()}


def speed_record(measurement: Measurement) -> dict[str, Any]:
    """A measurement as a record has it: the median with its interval, n rounds, answers per second."""
    summary = measurement.summary
    return {
        "seconds": summary.median, "interval": list(summary.interval), "n": summary.n,
        "throughput": 1 / summary.median,
    }  # fmt: skip

# %% exercise="submission"
#| export
def submission(
    entry: Entry,
    track: Mapping[str, Any],
    dataset: str,
    here: str | Path,
    measured: Sequence[Measurement],
) -> dict[str, Any]:
    """The record of an entry: all that somebody needs to count it again.

    track: what target.toml says, with "course" and "target". here: the folder olympics/TRACK of a
    workspace, with before.pt, after.pt, predictions.json and entry.py. measured: of before and after.
    Raises FileNotFoundError if one of them is not there.
    """
    here = Path(here).resolve()
    root, package = here.parents[1], here.parents[1] / "tinytorch"
    names = [path.relative_to(root).as_posix() for path in sorted(package.rglob("*.py"))]
    names.append((here / "entry.py").relative_to(root).as_posix())
    predictions = file_record(here / "predictions.json")
    record = {
        "schema": 1,
        "track": entry.track,
        "course": track["course"],
        "harness": file_record(package / "benchmarking.py")["sha256"][:16],
        "origin": importlib.import_module("tinytorch").origin.kind,
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": machine(),
        "dataset": dataset,
        "predictions": {"file": predictions["file"], "sha256": predictions["sha256"]},
        "target": dict(track["target"]),
        "source": {"files": names, "sha256": source_hash(root, names)},
    }
    ### BEGIN SOLUTION
    record["models"] = {side: file_record(here / f"{side}.pt") for side in ("before", "after")}
    record["accuracy"] = {"before": entry.first.accuracy, "after": entry.last.accuracy}
    record["speed"] = {side: speed_record(m) for side, m in zip(("before", "after"), measured)}
    record["stages"] = [
        {"name": name, "note": note, **figures._asdict()} for name, figures, note in entry.stages
    ]
    ### END SOLUTION
    return record

# %% exercise="write_submission"
#| export
def write_submission(record: Mapping[str, Any], path: str | Path) -> None:
    """Write a record as JSON; one that does not fit the schema is refused, and nothing is written.

    Raises ValueError with all that is wrong, one per line.
    """
    ### BEGIN SOLUTION
    if problems := validate(record):
        raise ValueError("write_submission: the record is not valid.\n" + "\n".join(problems))
    Path(path).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    ### END SOLUTION

# %% exercise="log_place"
#| export
def log_place(value: float, low: float, high: float, width: int) -> int:
    """The place of a value on a logarithmic axis: low is at 0, high at `width`, rounded.

    All three are above 0; equal factors are equal distances. If low is high, everything is at `width`.

    >>> [log_place(value, 1, 1000, 30) for value in (1, 10, 100, 1000)]
    [0, 10, 20, 30]
    """
    ### BEGIN SOLUTION
    if low == high:
        return width
    return round(width * math.log(value / low) / math.log(high / low))
    ### END SOLUTION

# %% given="waterfall"
#| export
def _axis(values: Sequence[float]) -> tuple[float, float]:
    """Whole powers of ten around the values: no bar is empty, and no axis has length 0."""
    low = math.floor(math.log10(min(values)) - 0.05)
    return 10.0**low, 10.0 ** max(low + 1, math.ceil(math.log10(max(values))))


def waterfall(entry: Entry) -> str:
    """Time and size after each stage as bars of text, logarithmic: ten times less, equally shorter."""
    first, lines = entry.first, []
    wide = max(len(stage.name) for stage in entry.stages)
    for title, which in (("seconds", 1), ("bytes", 2)):
        low, high = _axis([float(stage.figures[which]) for stage in entry.stages])
        lines.append(f"{title}, from {low:g} to {high:g}, logarithmic")
        for name, figures, _ in entry.stages:
            value, times = figures[which], first[which] / figures[which]
            bar = "#" * log_place(value, low, high, 40)
            lines.append(
                f"  {name:{wide}} |{bar:40}| {value:<10.4g} {times:6.1f}x less   {figures.accuracy:.1%}"
            )
    return "\n".join(lines)

# %% given="waterfall_svg"
#| export
def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def waterfall_svg(entry: Entry, path: str | Path) -> None:
    """The same picture as an SVG file: two rows of bars with their numbers, and the accuracy."""
    first, row, parts = entry.first, 26, []
    block = row * len(entry.stages) + 64
    for number, (title, which, unit, scale) in enumerate(
        (("Time", 1, "ms", 1e3), ("Size", 2, "kB", 1e-3))
    ):
        low, high = _axis([float(stage.figures[which]) for stage in entry.stages])
        top = number * block + 30
        parts.append(
            f'<text x="16" y="{top}" font-weight="bold">{title} ({unit}, logarithmic)</text>'
        )
        ticks = round(math.log10(high / low)) + 1
        for value in (low * 10.0**i for i in range(ticks)):
            x = 160 + log_place(value, low, high, 320)
            parts.append(f'<path d="M{x} {top + 10}V{top + block - 46}" stroke="#ddd"/>')
            parts.append(
                f'<text x="{x}" y="{top + block - 32}" text-anchor="middle" fill="#555">{value * scale:g}</text>'
            )
        for i, (name, figures, _) in enumerate(entry.stages):
            y, long = top + 14 + row * i, log_place(figures[which], low, high, 320)
            said = f"{figures[which] * scale:.3g} {unit}, {first[which] / figures[which]:.1f}x"
            said += f", {figures.accuracy:.1%}"
            parts.append(
                f'<text x="152" y="{y + 13}" text-anchor="end">{_escaped(name)[:24]}</text>'
            )
            parts.append(
                f'<rect x="160" y="{y}" width="{long}" height="18" fill="{"#1f6fb4" if i else "#888"}"/>'
            )
            parts.append(f'<text x="{168 + long}" y="{y + 13}">{said}</text>')
    text = "\n".join(parts)
    Path(path).write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 660 {2 * block + 10}" '
        'font-family="sans-serif" font-size="12">\n'
        f"<title>{_escaped(entry.track)}: time and size after each stage</title>\n"
        f'<rect width="660" height="{2 * block + 10}" fill="white"/>\n{text}\n</svg>\n',
        encoding="utf-8",
    )

# %% exercise="front"
#| export
def front(entry: Entry) -> list[Stage]:
    """The stages that no other stage beats in accuracy, seconds and bytes together, in order.

    >>> stages = [Stage("a", Figures(0.9, 2.0, 80)), Stage("b", Figures(0.8, 3.0, 80))]
    >>> [stage.name for stage in front(Entry("speed", stages))]
    ['a']
    """
    ### BEGIN SOLUTION
    chosen = pareto_front([stage.figures for stage in entry.stages], (False, True, True))
    return [entry.stages[i] for i in chosen]
    ### END SOLUTION

# %% given="report"
#| export
def report(entry: Entry, target: Target, dropped: Mapping[str, Decision] | None = None) -> str:
    """All of it on one page: what was wanted and came, the waterfall, the front, what was dropped."""
    rows = target.judge(entry.first, entry.last)
    missed = [row.name for row in rows if not row.met]
    lines = [
        f"{entry.track}: " + (f"missed {', '.join(missed)}" if missed else "every target met"),
        "",
    ]
    lines += [f"  {row}" for row in rows] + ["", waterfall(entry), ""]
    lines += [f"on the front: {', '.join(stage.name for stage in front(entry))}"]
    lines += [f"  {stage.name}: {stage.note}" for stage in entry.stages if stage.note]
    lines += [f"dropped {name}: {decision.reason}" for name, decision in (dropped or {}).items()]
    return "\n".join(lines)
