"""What the machine and the installation are like: facts to paste, and what is broken.

NumPy is only ever imported in a child process, so that a broken one is a finding, not a crash.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tito import __version__, course, data, origin, screen, workspace
from tito.workspace import Workspace, WorkspaceError

OK, NOTE, BROKEN = "ok", "note", "broken"
ROOM = 1 << 30
VARIABLES = ("TINYTORCH", "TITO_COURSE", "TINYTORCH_DATA", "TINYTORCH_UPTO", "OPENBLAS_CORETYPE",
             "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Finding:
    """One fact: `state` is ok, note (good to know) or broken; `next` is what helps."""

    name: str
    text: str
    state: str = OK
    next: str = ""

    def as_dict(self) -> dict[str, str]:
        return asdict(self)


def examine(blas: bool = False) -> list[Finding]:
    """All findings, secrets censored. `blas` also measures whether other kernels are faster."""
    found = [*_software(), *_machine(), *_numpy(), *_place(), *_datasets(), *_variables()]
    found += [kernels()] if blas else []
    return [Finding(f.name, censor(f.text), f.state, censor(f.next)) for f in found]


def censor(text: str) -> str:
    """The text without the home folder's name and without passwords in addresses."""
    home = str(Path.home())
    text = re.sub(re.escape(home) + r"(?![\w.-])", "~", text) if len(home) > 1 else text
    return re.sub(r"(\w+://)[^/@\s]+@", r"\1…@", text)


# Software and machine ----------------------------------------------------------------------------


def _software() -> Iterator[Finding]:
    yield Finding("tinytorch", f"{__version__}, course {course.version()}")
    text = f"{platform.python_version()} ({platform.python_implementation()}), {sys.executable}"
    old = sys.version_info < (3, 11)
    advice = "install Python 3.11 or later" if old else ""
    yield Finding("python", text, BROKEN if old else OK, advice)


def _machine() -> Iterator[Finding]:
    import psutil  # type: ignore[import-untyped, unused-ignore]

    yield Finding("platform", f"{platform.system()} {platform.release()}, {platform.machine()}")
    affinity = getattr(os, "sched_getaffinity", None)
    usable = len(affinity(0)) if affinity else os.cpu_count() or 1
    yield Finding("cores", f"{usable} usable of {os.cpu_count()}")
    memory = psutil.virtual_memory()
    text = f"{memory.available / 1e9:.1f} GB free of {memory.total / 1e9:.1f} GB"
    if memory.available < ROOM:
        yield Finding("memory", text, NOTE, "close something large: a module needs up to 1 GB")
    else:
        yield Finding("memory", text)
    free = shutil.disk_usage(_standing()).free
    full = free < ROOM / 20
    yield Finding("disk", f"{free / 1e9:.1f} GB free", BROKEN if full else OK,
                  "make room on this disk" if full else "")


def _standing() -> Path:
    try:
        return Path.cwd()
    except FileNotFoundError:
        return Path.home()


_ASK_NUMPY = """
import json, numpy, threadpoolctl
(numpy.ones((8, 8)) @ numpy.ones((8, 8)))
found = [i for i in threadpoolctl.threadpool_info() if i["user_api"] == "blas"]
print(json.dumps({"version": numpy.__version__, "blas": found}))
"""


def _child(code: str, timeout: float = 60, **environment: str) -> Any:
    """What a Python child prints as JSON; a string says why there is none. "" unsets a variable."""
    kept = {name: value for name, value in {**os.environ, **environment}.items() if value}
    try:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                              timeout=timeout, env=kept)
        return json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        return "no answer in time"
    except ValueError:
        return (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1]


def _numpy() -> Iterator[Finding]:
    answer = _child(_ASK_NUMPY)
    if isinstance(answer, str):
        yield Finding("numpy", answer, BROKEN, "pip install --force-reinstall numpy")
        return
    yield Finding("numpy", answer["version"])
    for blas in answer["blas"]:
        parts = (blas["internal_api"], blas.get("version"), blas.get("architecture"))
        text = " ".join(str(part) for part in parts if part)
        yield Finding("blas", f"{text}, {blas['num_threads']} threads")
    if not answer["blas"]:
        yield Finding("blas", "none that threadpoolctl knows (Accelerate on macOS is one)")


# Where we stand ----------------------------------------------------------------------------------


def _place() -> Iterator[Finding]:
    yield _origin()
    try:
        ws = workspace.find()
    except WorkspaceError as error:
        what, _, command = str(error).partition("\nNext: ")
        yield Finding("workspace", what, NOTE, command)
        return
    yield from examine_workspace(ws)


def _origin() -> Finding:
    try:
        found = origin.decide()
    except ImportError as error:
        named = os.environ.get("TINYTORCH")
        first, *rest = str(error).splitlines()
        command = next((r.removeprefix("Next: ") for r in rest if r.startswith("Next: ")), "")
        advice = re.split(r"  +|, or", command)[0]
        return Finding("import", first, BROKEN if named else NOTE, advice)
    return Finding("import", f"tinytorch is {found} ({found.why})")


def examine_workspace(ws: Workspace) -> Iterator[Finding]:
    """Health of one workspace; leftovers of an interrupted tito are removed."""
    from tito.progress import Progress

    swept = ws.sweep()
    problems = workspace.check_health(ws)
    if not problems:
        yield Finding("workspace", f"{ws.root}, healthy")
    for problem in problems:
        yield Finding("workspace", problem.text, BROKEN, problem.next)
    if swept:
        files = screen.count(len(swept), "temporary file")
        yield Finding("leftovers", f"{files} of an interrupted tito removed")
    yield from _exported(ws)
    progress = Progress.load(ws)
    done = sum(record["completed"] is not None for record in progress.modules.values())
    yield Finding("progress", f"{screen.count(done, 'module')} completed")
    for note in progress.notes:
        yield Finding("progress", note, NOTE, "tito")


def _exported(ws: Workspace) -> Iterator[Finding]:
    """Files of the learner's framework that Python cannot read."""
    for module in course.modules():
        path = ws.export_path(module.export)
        if path.is_file() and (why := unreadable(path)):
            yield Finding("export", f"{ws.relative(path)}{why}", BROKEN,
                          f"tito module complete {module.number:02d}")


def unreadable(path: Path) -> str:
    """`, line 3: Python cannot read it (invalid syntax)`; "" for a file that compiles."""
    try:
        compile(path.read_bytes(), str(path), "exec", dont_inherit=True)
    except SyntaxError as error:
        return f", line {error.lineno or 1}: Python cannot read it ({error.msg})"
    except ValueError as error:  # null bytes, before Python 3.12
        return f": Python cannot read it ({error})"
    return ""


def _datasets() -> Iterator[Finding]:
    rows = data.status()
    yield Finding("data", ", ".join(f"{row.name} {row.state}" for row in rows))
    for row in rows:
        if row.state == "incomplete":
            yield Finding("data", f"{row.name} lacks {', '.join(row.missing)}", NOTE,
                          f"tito data fetch {row.name}")
        elif row.state == "absent" and data.DATASETS[row.name].shipped:
            yield Finding("data", f"{row.name}, which the course carries, is missing", BROKEN,
                          "install TinyTorch again, as the README says")


def _variables() -> Iterator[Finding]:
    for name in VARIABLES:
        if value := os.environ.get(name):
            yield Finding("variable", f"{name}={value}")


# Kernels -----------------------------------------------------------------------------------------

_TIME_MATMUL = """
import json, time, numpy
a = numpy.random.default_rng(0).random((768, 768), dtype=numpy.float32)
def once():
    start = time.perf_counter(); a @ a; return time.perf_counter() - start
once()
print(json.dumps(2 * 768**3 / sorted(once() for _ in range(15))[7] / 1e9))
"""
SKYLAKE = "SKYLAKEX"


def kernels(rounds: int = 3) -> Finding:
    """Whether OpenBLAS multiplies faster with its AVX-512 kernels: children, taken in turns."""
    if not _has_avx512():
        return Finding("kernels", "this processor has no AVX-512, or does not say so")
    speeds: dict[str, list[float]] = {"": [], SKYLAKE: []}
    for _ in range(rounds):
        for kind, found in speeds.items():
            answer = _child(_TIME_MATMUL, OPENBLAS_CORETYPE=kind)
            if not isinstance(answer, float):
                return Finding("kernels", f"not measured: {answer}", NOTE)
            found.append(answer)
    usual, wide = (sorted(found)[rounds // 2] for found in speeds.values())
    text = f"float32 matmul {usual:.0f} GFLOP/s, with OPENBLAS_CORETYPE={SKYLAKE} {wide:.0f}"
    faster = min(speeds[SKYLAKE]) > max(speeds[""]) * 1.03
    advice = f"export OPENBLAS_CORETYPE={SKYLAKE}   (before Python starts)"
    return Finding("kernels", text, NOTE if faster else OK, advice if faster else "")


def _has_avx512() -> bool:
    try:
        return "avx512f" in Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
