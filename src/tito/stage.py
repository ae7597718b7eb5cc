"""The child process of a milestone: the course's run.py on the learner's framework.

Started by `tito.milestones` as `python -m tito.stage FOLDER`. It reads job.json and each part's
inputs there, and leaves what was made, or failed.json. What it prints is the learner's to see. The
answers of the held-out rows are not in its inputs.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import sys
import time
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from tito import runner


def main() -> None:
    folder = Path(sys.argv[1])
    job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    runner.limit_memory(job["memory"])
    part = job["parts"][0]["name"]
    try:
        if job["accelerate"]:
            importlib.import_module("tinytorch.core.acceleration").enable_acceleration()
        run = load(Path(job["run"]))
        for part_job in job["parts"]:
            part = part_job["name"]
            play(run, part_job, folder)
    except BaseException as error:  # sys.exit() in the framework is a result as well
        (folder / "failed.json").write_text(json.dumps(failed(error, part)), encoding="utf-8")
        sys.exit(1)


def load(path: Path) -> ModuleType:
    """The script as a module, so that its `main` does not run."""
    spec = importlib.util.spec_from_file_location("milestone_run", path)
    assert spec is not None and spec.loader is not None
    module = sys.modules["milestone_run"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def play(run: ModuleType, part: dict[str, Any], folder: Path) -> None:
    """One training, and its outputs for the held-out rows; what it leaves goes into files."""
    import numpy as np

    name = part["name"]
    with np.load(folder / part["inputs"], allow_pickle=False) as given:
        x, y, held_out = given["x"], given["y"], given["held_out"]
        extra = {key[6:]: given[key] for key in given.files if key.startswith("extra/")}
    options = part["options"] | ({"extra": extra} if extra else {})
    started = time.perf_counter()
    made = getattr(run, part["function"])(x, y, **options)
    seconds = time.perf_counter() - started
    arrays = {"outputs": np.asarray(run.predict(made["model"], held_out))}
    for when, state in (("before", made["before"]), ("after", made["model"].state_dict())):
        arrays |= {f"{when}/{key}": np.asarray(value) for key, value in state.items()}
    np.savez(folder / f"{name}.made.npz", **arrays)  # type: ignore[arg-type]
    told = {"history": made["history"], "seconds": seconds, "peak_mb": peak_megabytes()}
    (folder / f"{name}.made.json").write_text(json.dumps(told, default=float), encoding="utf-8")


def peak_megabytes() -> float:
    """The most memory this process has had so far, in 10^6 bytes; 0 where nobody can say."""
    if sys.platform == "win32":
        import psutil

        return float(psutil.Process().memory_info().peak_wset) / 1e6
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def failed(error: BaseException, part: str) -> dict[str, Any]:
    """What went wrong, in the learner's frames only, and the module whose file it happened in."""
    return {"part": part, "dotted": _dotted(error), **runner.describe(error)}


def _dotted(error: BaseException) -> str:
    """`core.autograd`: the module of the learner's package that the deepest frame stands in."""
    package = Path(os.environ.get("TINYTORCH", "")) / "tinytorch"
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        if path.is_relative_to(package):
            return ".".join(path.relative_to(package).with_suffix("").parts)
    return ""


if __name__ == "__main__":
    main()
