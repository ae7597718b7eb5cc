"""The Olympics: an entry made in a solved workspace holds, and ten forgeries of it do not."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from tests.workspaces import built
from tito import bench, course, olympics, schema
from tito.olympics import Verdict
from tito.progress import Progress
from tito.workspace import Workspace

SCHEMA = json.loads((course.course_dir() / "events" / "submission.schema.json").read_text("utf-8"))


def quiet(_: str) -> None:
    """Progress that nobody wants to see."""


def solved(root: Path) -> Workspace:
    """A workspace with every module completed."""
    ws = built(root)
    progress = Progress.load(ws)
    for module in course.modules():
        progress.module(module.id)["completed"] = "2026-01-01T00:00:00Z"
    progress.save(ws)
    return ws


@pytest.fixture(scope="module")
def alone() -> Iterator[None]:
    """Nothing of the caller's environment, and one thread."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("TINYTORCH", "TINYTORCH_UPTO", "TITO_COURSE", "TINYTORCH_DATA"):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, alone: None) -> Workspace:
    """A solved workspace in which the vision entry ran as it is written."""
    ws = solved(tmp_path_factory.mktemp("olympics") / "my-torch")
    olympics.init(ws, "vision")
    play(ws, "vision")
    return ws


def play(ws: Workspace, name: str) -> str:
    """Run an entry, as a learner does."""
    done = subprocess.run([sys.executable, f"olympics/{name}/entry.py"], cwd=ws.root, text=True,
                          capture_output=True, timeout=300)  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


class Forger:
    """Somebody with a submission, who changes it and puts everything around the change right."""

    def __init__(self, ws: Workspace) -> None:
        self.ws, self.place = ws, olympics.folder(ws, "vision")
        self.record = json.loads((self.place / "submission.json").read_text("utf-8"))
        self.raw = json.loads((self.place / "predictions.json").read_text("utf-8"))

    def seal(self) -> None:
        """Sizes, hashes, accuracy and stages as the files now have them."""
        record, known = self.record, olympics.answers("digits")
        (self.place / "predictions.json").write_text(json.dumps(self.raw))
        for side, stage in zip(olympics.SIDES, (record["stages"][0], record["stages"][-1])):
            raw = (self.place / f"{side}.pt").read_bytes()
            record["models"][side] |= {"bytes": len(raw), "sha256": sha(raw)}
            share = float(np.mean(np.array(self.raw[side]) == np.array(known)))
            record["accuracy"][side] = share
            stage |= {"bytes": len(raw), "accuracy": share}
        record["predictions"]["sha256"] = sha((self.place / "predictions.json").read_bytes())

    def hand_in(self) -> Verdict:
        """What the check says."""
        (self.place / "submission.json").write_text(json.dumps(self.record))
        return olympics.check(self.ws, "vision", quiet)


def sha(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


@pytest.fixture
def forger(made: Workspace, tmp_path: Path) -> Forger:
    root = tmp_path / "my-torch"
    shutil.copytree(made.root, root, ignore=shutil.ignore_patterns("__pycache__", "modules"))
    return Forger(Workspace(root.resolve()))


def refused(verdict: Verdict, step: str, *said: str) -> None:
    """It ends at this step, in these words, and says what to do."""
    last = verdict.steps[-1]
    assert not verdict.ok and last.name == step, verdict
    assert all(word in last.said for word in said), last.said
    assert [row.ok for row in verdict.steps] == [True] * (len(verdict.steps) - 1) + [False]
    assert verdict.next and not verdict.targets


# What is honest -----------------------------------------------------------------------------------


def test_an_entry_as_written_passes(forger: Forger) -> None:
    verdict = forger.hand_in()
    assert verdict.ok, verdict
    assert [row.name for row in verdict.steps] == list(olympics.STEPS)
    met = {row.name: row.ok for row in verdict.targets}
    assert met["at least"] and met["latency"] and set(met) == {
        "speed", "size", "latency", "accuracy", "at least"}  # fmt: skip
    for name in ("before.pt", "after.pt", "predictions.json", "waterfall.svg"):
        assert (forger.place / name).is_file()


def test_a_forger_who_changes_nothing_passes(forger: Forger) -> None:
    forger.seal()
    assert forger.hand_in().ok


def test_a_target_that_is_missed_is_no_error(forger: Forger) -> None:
    forger.record["speed"]["after"] = forger.record["speed"]["before"]
    verdict = forger.hand_in()
    assert verdict.ok and not {row.name: row.ok for row in verdict.targets}["speed"]


# Ten forgeries ------------------------------------------------------------------------------------


def test_accuracy_raised(forger: Forger) -> None:
    forger.record["accuracy"]["after"] = forger.record["stages"][-1]["accuracy"] = 0.995
    refused(forger.hand_in(), "accuracy", "claims 99.50% after", "of 1,000 right")


def test_predictions_altered(forger: Forger) -> None:
    known = olympics.answers("digits")
    forger.raw["after"] = known[:]  # all right now, and everything around it fits
    forger.seal()
    refused(forger.hand_in(), "models", "after.pt does not give these predictions", "of 1,000")


def test_file_swapped(forger: Forger) -> None:
    shutil.copy(forger.place / "before.pt", forger.place / "after.pt")
    refused(forger.hand_in(), "files", "after.pt is not the file that was submitted")


def test_hash_of_the_source_wrong(forger: Forger) -> None:
    with (forger.place / "entry.py").open("a") as file:
        file.write("\n# changed afterwards\n")
    refused(forger.hand_in(), "files", "the source is not the one that made it")


def test_impossible_time(forger: Forger) -> None:
    told = {"seconds": 1e-9, "interval": [1e-9, 1e-9], "n": 20, "throughput": 1e9}
    forger.record["speed"]["after"] = told
    refused(forger.hand_in(), "times", "too fast to be real", "floating-point operations")


def test_schema_field_missing(forger: Forger) -> None:
    del forger.record["harness"]
    refused(forger.hand_in(), "schema", "harness is missing")


def test_data_of_another_track(forger: Forger) -> None:
    forger.record["dataset"] = "tinytalks"
    refused(forger.hand_in(), "track", "judged on tinytalks", "another track's data")


def test_model_truncated(forger: Forger) -> None:
    path = forger.place / "after.pt"
    path.write_bytes(path.read_bytes()[:-1000])
    forger.seal()
    refused(forger.hand_in(), "models", "after.pt: not a model file, or damaged")


class Bomb:
    """Opened as a pickle it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_pickle_in_disguise(forger: Forger) -> None:
    (forger.place / "after.pt").write_bytes(pickle.dumps(Bomb(forger.place / "gone-off")))
    forger.seal()
    refused(forger.hand_in(), "models", "after.pt is a pickle", "stays closed")
    assert not (forger.place / "gone-off").exists()


def test_machine_with_a_host_name(forger: Forger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(olympics.platform, "node", lambda: "annas-laptop.home.example")
    forger.record["machine"]["cpu"] = "x86_64 annas-laptop"
    refused(forger.hand_in(), "schema", "machine names 'annas-laptop'")
    forger.record["machine"] = {**forger.record["machine"], "cpu": "x86_64", "host": "box"}
    refused(forger.hand_in(), "schema", "machine.host has no place in it")


# And some more ------------------------------------------------------------------------------------


@pytest.mark.parametrize("change, step, said", [
    (lambda r: r["models"]["after"].update(file="../../before.pt"), "schema", "models.after.file"),
    (lambda r: r["source"].update(files=["tinytorch/benchmarking.py"]), "files", "does not name"),
    (lambda r: r["source"]["files"].append("a/../../../x"), "files", "outside the workspace"),
    (lambda r: r.update(track="speed"), "track", "lies in olympics/vision"),
    (lambda r: r.update(harness="0" * 16), "files", "measured by harness 0000"),
    (lambda r: r.update(course="0.0.1"), "track", "made for version 0.0.1"),
    (lambda r: r["models"]["after"].update(bytes=9), "sizes", "claims 9 bytes after"),
    (lambda r: r["stages"].pop(), "sizes", "stages do not end"),
    (lambda r: r["speed"]["after"].update(interval=[1.0, 2.0]), "times", "inside its interval"),
    (lambda r: r["speed"]["after"].update(throughput=1e9), "times", "throughput"),
    (lambda r: r["speed"]["after"].update(percentiles={"p50": 2, "p90": 1}), "times", "percentile"),
    (lambda r: r["speed"]["after"].update(percentiles={"best": 2}), "times", "by no number"),
    (lambda r: r["machine"].update(cores=float("nan")), "schema", "machine.cores is nan"),
])  # fmt: skip
def test_smaller_lies(
    forger: Forger, change: Callable[[Any], Any], step: str, said: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setitem(olympics.STEPS, "models", lambda case: "asked elsewhere")
    change(forger.record)
    refused(forger.hand_in(), step, said)


def test_a_file_beyond_the_limit(forger: Forger, monkeypatch: pytest.MonkeyPatch) -> None:
    table = olympics.track("vision")
    table["limits"]["model"] = 100
    monkeypatch.setattr(olympics, "track", lambda _: table)
    refused(forger.hand_in(), "files", "bytes, 100 are allowed")


def test_torn_json_is_said(forger: Forger) -> None:
    for text in ('{"schema": 1,', "[" * 100_000):
        (forger.place / "submission.json").write_text(text)
        refused(olympics.check(forger.ws, "vision", quiet), "schema", "is not JSON")


# Entries ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["speed", "compression"])
def test_entries_of_the_other_image_tracks_run_and_pass(made: Workspace, name: str) -> None:
    olympics.init(made, name)
    assert f"Next: tito olympics check {name}" in play(made, name)
    verdict = olympics.check(made, name, quiet)
    met = {row.name: row.ok for row in verdict.targets}
    assert verdict.ok and met["at least"] and met["size"], verdict


def test_init_keeps_what_is_there_and_force_takes_a_snapshot(made: Workspace) -> None:
    olympics.init(made, "language")
    entry = olympics.folder(made, "language") / "entry.py"
    assert "olympics/language/entry.py" in entry.read_text()
    entry.write_text("# mine\n")
    assert olympics.init(made, "language") == [] and entry.read_text() == "# mine\n"
    assert olympics.init(made, "language", force=True) == [entry]
    assert made.snapshots(entry)[-1].read_text() == "# mine\n"


def test_work_is_counted_from_the_layers(made: Workspace) -> None:
    """2 per weight of 64-256-128-10, for floats and for integers."""
    for side in olympics.SIDES:
        model = olympics.folder(made, "vision") / f"{side}.pt"
        found = bench.work(made, model, olympics.track("vision"), quiet)
        assert found["flops"] == 2 * (64 * 256 + 256 * 128 + 128 * 10) and found["matmul"] > 0


def test_tracks_are_whole() -> None:
    for table in olympics.listed():
        assert {"id", "version", "title", "judged", "data", "minimum_accuracy", "rules", "target",
                "limits"} <= set(table)  # fmt: skip
        assert set(table["target"]) == {"speed", "size", "latency", "accuracy"}
        assert list(table["minimum_accuracy"]) == table["data"]
        text = olympics.rules(table)
        assert all(rule in text for rule in table["rules"])


# The schema's reader ------------------------------------------------------------------------------


def test_our_reader_of_the_schema_agrees_with_jsonschema(made: Workspace) -> None:
    path = olympics.folder(made, "vision") / "submission.json"
    good, oracle = json.loads(path.read_text("utf-8")), jsonschema.Draft202012Validator(SCHEMA)
    oracle.check_schema(SCHEMA)
    assert oracle.is_valid(good) and not list(schema.problems(good, SCHEMA))
    for change in (
        lambda r: r.pop("date"), lambda r: r.update(date="today"), lambda r: r.update(who="me"),
        lambda r: r.update(schema=True), lambda r: r.update(stages={}),
        lambda r: r["machine"].update(cores=0), lambda r: r["machine"].update(cores=2.5),
        lambda r: r["accuracy"].update(after=1.5), lambda r: r["accuracy"].update(after="1"),
        lambda r: r["stages"][0].update(bytes="9"), lambda r: r["speed"]["after"].update(n=5),
        lambda r: r["speed"]["after"].update(interval=[-1, 1]), lambda r: r.update(track="art"),
        lambda r: r["speed"]["after"].update(percentiles={"p90": "x"}),
    ):  # fmt: skip
        bad = copy.deepcopy(good)
        change(bad)
        assert not oracle.is_valid(bad) and list(schema.problems(bad, SCHEMA)), bad
