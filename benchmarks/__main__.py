"""`python -m benchmarks`: the framework of the whole course against PyTorch, in one table."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks import machine, workspace
from benchmarks.measure import ROOT, Spread, Worker, interleave, ratio, spread, verdict
from benchmarks.work import WORK

UNITS = (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6), ("ns", 1e-9))


@dataclass(frozen=True)
class Row:
    """One line of the table; times in seconds (or `unit`), ratios above 1 when ours is faster."""

    name: str
    threads: int | None
    ours: Spread
    torch: Spread | None = None
    best: Spread | None = None
    ratio: Spread | None = None
    ratio_best: Spread | None = None
    goal: str = ""
    verdict: str = ""
    note: str = ""
    unit: str = "s"
    fast: Spread | None = None
    ratio_fast: Spread | None = None
    fast_best: Spread | None = None


@dataclass(frozen=True)
class Plan:
    """How long to measure, and where the package is."""

    root: Path
    rounds: int
    block: float

    @property
    def env(self) -> dict[str, str]:
        return {"TINYTORCH": str(self.root)}


def limited(found: Spread, limit: float) -> tuple[str, str]:
    """Goal and verdict of a time that must stay below `limit` seconds."""
    return f"< {shown(limit)}", "met" if found.median < limit else "NOT met"


# Rows that compare work in two processes --------------------------------------------------------

GOALS = {
    "MLP step, SGD": 1.0,
    "MLP step, Adam": 1.0,
    "conv 3x3": 0.5,
    "CNN step": 0.5,
    "GPT step": 0.6,
    "cached decode": 0.7,
}


# With module 18's kernels: how many times faster than PyTorch, and than the best PyTorch.
FAST_GOALS = {
    "MLP step, SGD": (1.4, None),
    "MLP step, Adam": (1.4, None),
    "conv 3x3": (1.1, None),
    "CNN step": (1.2, 0.75),
    "GPT step": (1.0, None),
    "cached decode": (2.5, None),
}


def work_row(name: str, threads: int, plan: Plan) -> Row:
    """The sides of one piece of work, in turns."""
    block = plan.block if name != "chain of 100,000" else 0.0
    sides = [*WORK[name], *["fast"] * (name in FAST_GOALS)]
    workers = {side: Worker(name, side, threads, plan.env) for side in sides}
    for worker in workers.values():
        worker.calibrate(block)
    found = interleave(workers, plan.rounds)
    for worker in workers.values():
        worker.close()
    times, goal = {side: spread(values) for side, values in found.items()}, GOALS.get(name)
    faster = ratio(found["torch"], found["ours"])
    best = ratio(found["best"], found["ours"]) if "best" in found else None
    aim = f"> {goal:g}x" if goal else ""
    words = verdict(faster, [times["ours"], times["torch"]], goal)
    row = Row(
        name, threads, times["ours"], times["torch"], times.get("best"), faster, best, aim, words
    )
    return accelerated(row, found) if "fast" in found else row


def accelerated(row: Row, found: dict[str, list[float]]) -> Row:
    """The row with what module 18's kernels took, their goals and their verdict."""
    fast, (goal, to_best) = spread(found["fast"]), FAST_GOALS[row.name]
    faster = ratio(found["torch"], found["fast"])
    best = ratio(found["best"], found["fast"]) if "best" in found else None
    words = verdict(faster, [fast, spread(found["torch"])], goal)
    words = f"clear {row.verdict}; accelerated {words}"
    if to_best and best:
        words += f", to best {'met' if best.median >= to_best else 'NOT met'}"
    aim = f"{row.goal.rstrip('x')} | {goal:g}" + (f" | {to_best:g}" if to_best else "")
    return replace(row, fast=fast, ratio_fast=faster, fast_best=best, goal=aim, verdict=words)


def memory_row(plan: Plan) -> Row:
    """How much memory two training steps of the CNN add to a process that has everything ready."""
    name, sides = "CNN step", ("ours", "fast", "torch")
    found: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(3):
        for side in sides:
            command = [sys.executable, "-m", "benchmarks.worker", name, side, "1", "--memory"]
            done = subprocess.run(command, cwd=ROOT, env={**os.environ, **plan.env}, text=True,
                                  capture_output=True, check=True)  # fmt: skip
            found[side].append(float(done.stdout))
    kept = {side: spread(values) for side, values in found.items()}
    clear, fast = (
        spread([o / t for o, t in zip(found[side], found["torch"], strict=True)])
        for side in ("ours", "fast")
    )
    words = f"clear {'met' if clear.median <= 1.5 else 'NOT met'}; "
    words += f"accelerated {'met' if fast.median <= 1.2 else 'NOT met'}"
    note = f"{clear} and {fast} times as much as PyTorch"
    return Row("CNN memory", 1, kept["ours"], kept["torch"], goal="< 1.5 | 1.2", unit="MB",
               verdict=words, note=note, fast=kept["fast"])  # fmt: skip


def kernels_row(plan: Plan) -> Row:
    """The same matrix product with the AVX-512 kernels asked for by name, for information."""
    name, asked = "matmul 512", {"OPENBLAS_CORETYPE": "SKYLAKEX"}
    workers = {
        "ours": Worker(name, "ours", 1, plan.env | asked),
        "as chosen": Worker(name, "ours", 1, plan.env),
    }
    for worker in workers.values():
        worker.calibrate(plan.block)
    found = interleave(workers, plan.rounds)
    for worker in workers.values():
        worker.close()
    faster = ratio(found["as chosen"], found["ours"])
    words = verdict(faster, [spread(values) for values in found.values()])
    note = "OPENBLAS_CORETYPE=SKYLAKEX against OpenBLAS's own choice"
    return Row("BLAS kernels", 1, spread(found["ours"]), ratio=faster, verdict=words, note=note)


def avx512() -> bool:
    """Whether the processor runs those kernels; without, asking for them would crash."""
    info = Path("/proc/cpuinfo")
    return info.exists() and "avx512f" in info.read_text()


# Rows of whole commands -------------------------------------------------------------------------


def wall(command: list[str], folder: Path, env: Mapping[str, str]) -> float:
    """Seconds from start to end of a command that must succeed."""
    start = time.perf_counter()
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, **env}, capture_output=True, text=True
    )
    seconds = time.perf_counter() - start
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    return seconds


def import_seconds(modules: list[str], plan: Plan, side: str) -> float:
    """Seconds that the imports add to a Python that has NumPy already."""
    names = modules if side == "ours" else ["torch"]
    script = (
        "import time, numpy; t = time.perf_counter(); "
        + "; ".join(f"import {name}" for name in names)
        + "; print(time.perf_counter() - t)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=plan.root,
        env={**os.environ, **plan.env},
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout)


def import_row(plan: Plan) -> Row:
    """Importing every module of the package against importing torch, both beyond NumPy."""
    modules = workspace.exports()
    sides = {
        side: lambda side=side: import_seconds(modules, plan, side) for side in ("ours", "torch")
    }
    interleave(sides, 1)
    found = interleave(sides, plan.rounds)
    ours, faster = spread(found["ours"]), ratio(found["torch"], found["ours"])
    goal, words = limited(ours, 0.150)
    note = "all 20 modules, beyond NumPy's own import"
    return Row("import", None, ours, spread(found["torch"]), None, faster, None, goal, words, note)


def command_row(name: str, command: list[str], limit: float, plan: Plan) -> Row:
    """The wall time of one command in the workspace, the interpreter's own start included."""
    wall(command, plan.root, {})
    empty = [sys.executable, "-c", "pass"]
    sides = {
        "ours": lambda: wall(command, plan.root, {}),
        "python": lambda: wall(empty, plan.root, {}),
    }
    found = interleave(sides, plan.rounds)
    ours = spread(found["ours"])
    goal, words = limited(ours, limit)
    note = f"of it Python's own start {shown(spread(found['python']).median)}"
    return Row(name, None, ours, goal=goal, verdict=words, note=note)


def check_rows(plan: Plan, only: str) -> Iterator[Row]:
    """`tito module test` of each module with the reference solutions."""
    for number in range(1, len(workspace.exports()) + 1):
        if only not in f"checks {number:02d}":
            continue
        command = [*TITO, "module", "test", f"{number:02d}"]
        found = [wall(command, plan.root, {}) for _ in range(3 if plan.rounds > 10 else 2)]
        goal, words = limited(spread(found), 5.0)
        yield Row(f"checks {number:02d}", None, spread(found), goal=goal, verdict=words)


TITO = [sys.executable, "-m", "tito"]


# The table --------------------------------------------------------------------------------------


def rows(plan: Plan, only: str, threads: list[int]) -> Iterator[Row]:
    """The rows whose name contains `only`, one by one as they are measured."""
    if only in "import":
        yield import_row(plan)
    for name, arguments in (
        ("tito --help", ["--help"]),
        ("tito module status", ["module", "status", "05"]),
    ):
        if only in name:
            yield command_row(name, [*TITO, *arguments], 0.100, plan)
    for name in WORK:
        for count in threads:
            serial = name in ("scalar multiply", "chain of 100,000")
            if only in name and not (serial and count > 1):
                yield work_row(name, count, plan)
    if only in "CNN memory":
        yield memory_row(plan)
    if only in "BLAS kernels" and avx512():
        yield kernels_row(plan)
    if only in "checks" or only.startswith("checks"):
        yield from check_rows(plan, only)


def shown(seconds: float) -> str:
    """Three digits with a unit: `12.3 ms`."""
    unit, size = next((pair for pair in UNITS if seconds >= pair[1]), UNITS[-1])
    return f"{seconds / size:.3g} {unit}"


HEAD = (
    "row",
    "threads",
    "clear",
    "accelerated",
    "PyTorch",
    "best PyTorch",
    "clear ratio",
    "accelerated",
    "... to best",
    "goal",
    "verdict",
)
WIDTHS = (18, 7, 16, 16, 9, 12, 18, 18, 18, 18, 0)


def line(cells: tuple[str, ...]) -> str:
    """The cells side by side."""
    return "  ".join(f"{cell:<{width}}" for cell, width in zip(cells, WIDTHS)).rstrip()


def cells(row: Row) -> tuple[str, ...]:
    """One row as text."""
    show = shown if row.unit == "s" else lambda value: f"{value:.0f} {row.unit}"

    def wide(found: Spread) -> str:
        return f"{show(found.median)} ±{(found.high - found.low) / 2 / found.median:.0%}"

    words = f"{row.verdict}  ({row.note})" if row.note else row.verdict
    return (
        row.name,
        str(row.threads or ""),
        wide(row.ours),
        wide(row.fast) if row.fast else "",
        show(row.torch.median) if row.torch else "",
        show(row.best.median) if row.best else "",
        str(row.ratio or ""),
        str(row.ratio_fast or ""),
        str(row.fast_best or row.ratio_best or ""),
        row.goal,
        words,
    )


def head(facts: dict[str, Any], plan: Plan) -> str:
    """What was measured, how and on what."""
    versions = ", ".join(f"{name} {number}" for name, number in facts["versions"].items())
    load = ", ".join(f"{x:.1f}" for x in facts["load"])
    return "\n".join(
        [
            f"{facts['cpu']}, {facts['cores']} cores, {facts['system']}, load {load}",
            f"Python {facts['python']}, {versions}, {facts['blas']}",
            "",
            f"{plan.rounds} rounds in turns, blocks of {shown(plan.block)}. Times are medians,",
            "± half the range between the quartiles. Ratios are PyTorch's time over ours, round by",
            "round, with [quartiles]: above 1 ours is faster. PyTorch is eager, as a user gets it;",
            "best PyTorch is its fused optimizer, images channels_last, or inference mode. Both",
            "sides have the same number of threads.",
            "",
        ]
    )


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    made.add_argument("--quick", action="store_true", help="fewer rounds, shorter blocks")
    made.add_argument("--only", default="", metavar="NAME", help="rows whose name contains NAME")
    made.add_argument("--threads", type=int, action="append", help="default: 1 and 2")
    made.add_argument("--json", type=Path, metavar="FILE", help="write the numbers, too")
    return made


def main() -> None:
    """Build the package, measure, print."""
    options = parser().parse_args()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # as on a learner's machine
    with tempfile.TemporaryDirectory(prefix="tinytorch-bench-") as folder:
        rounds, block = (7, 0.02) if options.quick else (21, 0.1)
        plan = Plan(workspace.build(Path(folder) / "my-torch"), rounds, block)
        facts = machine.describe()
        print(head(facts, plan), line(HEAD), sep="\n", flush=True)
        done = []
        for row in rows(plan, options.only, options.threads or [1, 2]):
            print(line(cells(row)), flush=True)
            done.append(row)
    if not done:
        sys.exit(f"no row is called {options.only!r}")
    if options.json:
        found = {"schema": 1, "machine": facts, "rows": [asdict(row) for row in done]}
        options.json.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
