"""Two benchmark records side by side: what may be said of the difference, and what may not."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from tito import bench_child
from tito.bench_records import BenchError, Record

RESOLUTION = 0.05  # of speeds: what differs by less between two runs is not told apart


@dataclass(frozen=True)
class Row:
    """One figure of A against the same of B: ratio A / B, its interval if it has one, a verdict."""

    name: str
    a: float
    b: float
    unit: str
    ratio: float
    interval: tuple[float, float] | None
    verdict: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Comparison:
    """All rows, and what to know before they are believed."""

    kind: str
    rows: list[Row]
    notes: list[str]

    def as_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, "rows": [row.as_dict() for row in self.rows],
                "notes": self.notes}  # fmt: skip


def compare(a: Record, b: Record) -> Comparison:
    """A against B. Raises BenchError for two records that measure different things."""
    kinds = (a["kind"], b["kind"])
    if kinds[0] != kinds[1]:
        raise BenchError(
            f"one record is of {kinds[0]}, the other of {kinds[1]}: they measure different things\n"
            f"Next: tito benchmark {kinds[0]}, and compare the two of a kind"
        )
    rows = _ROWS[kinds[0]](a, b)
    if not rows:
        raise BenchError(
            "the two records have no benchmark in common\nNext: tito benchmark baseline"
        )
    return Comparison(kinds[0], rows, _notes(a, b))


def _notes(a: Record, b: Record) -> list[str]:
    found = []
    if a["machine"] != b["machine"]:
        differ = [key for key in a["machine"] if a["machine"][key] != b["machine"].get(key)]
        found.append(f"not the same machine ({', '.join(differ)}): the rows compare both, not code")
    for key in ("origin", "threads", "harness", "reference", "suite"):
        if a.get(key) != b.get(key):
            found.append(f"{key} differs: {a.get(key)} and {b.get(key)}")
    for name, record in (("A", a), ("B", b)):
        if not record.get("verdict", {"valid": True})["valid"]:
            found.append(f"{name} is INVALID: {record['verdict']['reason']}")
    return found


# Times -------------------------------------------------------------------------------------------


def _baseline(a: Record, b: Record) -> list[Row]:
    if a["suite"] != b["suite"]:
        raise BenchError(
            f"the suites differ: {a['suite']} and {b['suite']}\nNext: tito benchmark baseline"
        )
    least = max(a["resolution"], b["resolution"])
    return _times(a, b, "benchmarks", least)


def _speed(a: Record, b: Record) -> list[Row]:
    return _times(a, b, "queries", RESOLUTION)


def _times(a: Record, b: Record, key: str, least: float) -> list[Row]:
    same = a["machine"] == b["machine"]
    names = [name for name in a[key] if name in b[key]]
    return [_paired(name, a[key][name], b[key][name], same, least) for name in names]


def _paired(name: str, a: dict[str, Any], b: dict[str, Any], same: bool, least: float) -> Row:
    """Round i against round i. On one machine each is divided by the kernel's time beside it, so
    that what the machine itself did between the two runs does not count."""
    harness, rounds = bench_child.harness(), min(len(a["samples"]), len(b["samples"]))
    first, second = (_relative(row, same)[:rounds] for row in (a, b))
    found = harness.compare(first, second)
    least = max(least, a["spread"], b["spread"])  # two runs differ by more than the rounds of one
    told = found.verdict if abs(found.ratio - 1) > least else "no difference"
    if not (a["valid"] and b["valid"]):
        told = "too noisy to say"
    interval = (float(found.interval[0]), float(found.interval[1]))
    return Row(name, a["median"], b["median"], "s", float(found.ratio), interval, told)


def _relative(row: dict[str, Any], same: bool) -> list[float]:
    samples: list[float] = row["samples"]
    return [s / k for s, k in zip(samples, row["kernel"])] if same else samples


# Others ------------------------------------------------------------------------------------------


def _accuracy(a: Record, b: Record) -> list[Row]:
    """Question by question: only those that one got right and the other wrong tell them apart."""
    if a["dataset"] != b["dataset"] or a["answers"] != b["answers"]:
        raise BenchError(
            f"they answer different questions: {a['dataset']} and {b['dataset']}\n"
            f"Next: tito benchmark accuracy with --dataset {a['dataset']} for both"
        )
    right = [[p == t for p, t in zip(r["predictions"], r["answers"])] for r in (a, b)]
    only_a = sum(x and not y for x, y in zip(*right))
    only_b = sum(y and not x for x, y in zip(*right))
    told = "no difference"
    if sign_test(only_a, only_b) < 0.05:
        told = "better" if only_a > only_b else "worse"
    ratio = a["accuracy"] / b["accuracy"] if b["accuracy"] else math.inf
    return [Row("accuracy", a["accuracy"], b["accuracy"], "", ratio, None, told)]


def sign_test(only_a: int, only_b: int) -> float:
    """How likely so uneven a split is if both are equally good. Source: McNemar 1947, exact form.

    >>> sign_test(5, 5), sign_test(0, 6)
    (1.0, 0.03125)
    """
    n, few = only_a + only_b, min(only_a, only_b)
    return min(1.0, float(2 * sum(math.comb(n, k) for k in range(few + 1)) / 2**n))


def _size(a: Record, b: Record) -> list[Row]:
    return [_exact("file", a["bytes"], b["bytes"]),
            _exact("parameters", a["parameters"], b["parameters"], "")]  # fmt: skip


def _memory(a: Record, b: Record) -> list[Row]:
    return [_spread(name, *(record[name] for record in (a, b))) for name in ("peak", "live")] + [
        _exact("model", a["held"], b["held"])
    ]


def _exact(name: str, a: float, b: float, unit: str = "bytes") -> Row:
    told = "no difference" if a == b else "less" if a < b else "more"
    return Row(name, a, b, unit, a / b if b else math.inf, None, told)


def _spread(name: str, a: list[int], b: list[int]) -> Row:
    """Apart only if all of one are below all of the other."""
    told = "less" if max(a) < min(b) else "more" if min(a) > max(b) else "no difference"
    first, second = sorted(a)[len(a) // 2], sorted(b)[len(b) // 2]
    return Row(name, first, second, "bytes", first / second if second else math.inf, None, told)


def _capstone(a: Record, b: Record) -> list[Row]:
    """Session against session: apart only if all three of one are beyond all three of the other."""
    rows = []
    for name, track in a["tracks"].items():
        other = b["tracks"].get(name, {"sessions": []})
        first, second = track["sessions"], other["sessions"]
        if first and second:
            row = _spread(name, first, second)
            better = {"less": "worse", "more": "better"}.get(row.verdict, row.verdict)
            rows.append(Row(name, row.a, row.b, "points", row.ratio, None, better))
    return rows


_ROWS = {
    "baseline": _baseline, "speed": _speed, "accuracy": _accuracy, "size": _size,
    "memory": _memory, "capstone": _capstone,
}  # fmt: skip
