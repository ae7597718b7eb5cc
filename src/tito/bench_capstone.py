"""The capstone's score: trained models on four tracks, three sessions, the median of each figure.

Speed is counted in times of the calibration kernel beside it, so that a fast machine wins nothing.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tito import bench
from tito import bench_records as records
from tito.bench import Show
from tito.bench_records import BenchError, Record
from tito.workspace import Workspace

PLACES = ("olympics/*/after.pt", "olympics/*/model.pt", "milestones/*/model.pt")


def run(ws: Workspace, given: Sequence[Path], show: Show) -> Record:
    """Measure the models given, or those of the workspace. Raises BenchError if there are none."""
    table, entered = bench.suite("capstone"), _entered(ws, given, show)
    sessions = []
    for number in range(1, table["sessions"] + 1):
        show(f"session {number} of {table['sessions']}")
        found = {side: _session(ws, *entry, table, show) for side, entry in entered.items()}
        sessions.append(found)
    tracks = {row["name"]: _track(row, sessions, table) for row in table["track"]}
    told = sessions[0][next(iter(entered))]["head"]
    for session in sessions:
        for figures in session.values():
            del figures["head"]
    return {
        **told, "kind": "capstone", "suite": [table["id"], table["version"]],
        "models": {side: entry[0].name for side, entry in entered.items()},
        "datasets": {side: entry[1] for side, entry in entered.items()},
        "measured": sessions, "tracks": tracks, "review": {"points": None, "of": table["review"]},
        "score": sum(track["points"] or 0.0 for track in tracks.values()),
        "of": sum(track["of"] for track in tracks.values()),
    }  # fmt: skip


def _entered(ws: Workspace, given: Sequence[Path], show: Show) -> dict[str, tuple[Path, str]]:
    """Side (vision or language) -> the model's file and its data set; the first found of each."""
    found: dict[str, tuple[Path, str]] = {}
    for path in given or candidates(ws):
        dataset = bench.reads(ws, path, show)
        side = "language" if dataset == "tinytalks" else "vision"
        if dataset:
            found.setdefault(side, (path, dataset))
    if not found:
        raise BenchError(
            "no trained model is here: not in olympics/*/after.pt, not in milestones/*/model.pt\n"
            "Next: tinytorch.save one, then tito benchmark capstone --model FILE"
        )
    return found


def candidates(ws: Workspace) -> list[Path]:
    """The workspace's models: the Olympics' before the milestones', the newest first."""
    groups = (ws.root.glob(place) for place in PLACES)
    return [path for group in groups for path in sorted(group, key=lambda p: -p.stat().st_mtime)]


def _session(
    ws: Workspace, model: Path, dataset: str, table: dict[str, Any], show: Show
) -> dict[str, Any]:
    """One model's figures; each of the three is measured in a child of its own."""
    right = bench.accuracy(ws, model, dataset, show)
    length = table["prompt"] if dataset == "tinytalks" else None
    fast = bench.speed(ws, model, show, length, table["tokens"], table["seconds"])
    small = bench.size(ws, model, show)
    query = next(iter(fast["queries"].values()))
    beside = zip(query["samples"], query["kernel"])
    head = {k: small[k] for k in records.HEAD if k != "kind"} | {"schema": records.SCHEMA}
    return {
        "head": head, "dataset": dataset, "accuracy": right["accuracy"], "n": right["n"],
        "seconds": query["median"], "kernels": statistics.median(s / k for s, k in beside),
        "bytes": small["bytes"], "valid": fast["verdict"]["valid"],
        "reason": fast["verdict"]["reason"],
    }  # fmt: skip


def _track(row: dict[str, Any], sessions: list[dict[str, Any]], table: dict[str, Any]) -> Record:
    """A track's points in each session, and their median; None where no model was entered."""
    points = [_points(row, session, table) for session in sessions]
    there = [value for value in points if value is not None]
    missing = [side for side in _sides(row) if side not in sessions[0]]
    return {
        "what": row["what"], "of": row["points"], "sessions": there,
        "points": statistics.median(there) if there else None, "missing": missing,
        "figures": {side: _figure(row["name"], sessions, side, table) for side in _sides(row)
                    if side not in missing},
    }  # fmt: skip


def _sides(row: dict[str, Any]) -> list[str]:
    return row["models"] if row["name"] in ("speed", "compression") else [row["name"]]


def _points(row: dict[str, Any], session: dict[str, Any], table: dict[str, Any]) -> float | None:
    sides = _sides(row)
    shares = [_share(row["name"], session[side], table) for side in sides if side in session]
    return row["points"] * sum(shares) / len(sides) if shares else None


def _share(track: str, found: dict[str, Any], table: dict[str, Any]) -> float:
    """Between 0 and 1: the accuracy, or how far the model is on the way to `best` times better."""
    if track in ("vision", "language"):
        return float(found["accuracy"])
    times = gain(track, found, table)
    return min(1.0, max(0.0, math.log(times) / math.log(table["best"])))


def gain(track: str, found: dict[str, Any], table: dict[str, Any]) -> float:
    """How many times faster, or smaller, than the plain model of its data set."""
    key = "kernels" if track == "speed" else "bytes"
    return float(table["anchor"][found["dataset"]][key] / found[key])


def _figure(
    track: str, sessions: list[dict[str, Any]], side: str, table: dict[str, Any]
) -> dict[str, Any]:
    """The median of what a track looks at, with the least and the most of the sessions."""
    if track in ("vision", "language"):
        values, unit = [session[side]["accuracy"] for session in sessions], "accuracy"
    else:
        values, unit = [gain(track, session[side], table) for session in sessions], "times"
    found = {"unit": unit, "median": statistics.median(values), "low": min(values)}
    return found | {"high": max(values), "dataset": sessions[0][side]["dataset"]}
