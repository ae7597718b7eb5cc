"""Run a learner's cells in a child process: bounded time, memory and output."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

TIMEOUT = 30.0
MEMORY = 4 << 30
OUTPUT = 64 << 10


@dataclass(frozen=True)
class Step:
    """One cell to run. `role`: given, exercise, check, demo or own (the learner's own cell).

    `cell` is its number in the notebook, from 1; `line` its first line in a percent file, or 0.
    """

    role: str
    name: str
    source: str
    cell: int
    diagnosis: str = ""
    line: int = 0

    @property
    def label(self) -> str:
        return (
            self.name if self.role in ("exercise", "given") else f"{self.role} {self.name}".strip()
        )

    @property
    def place(self) -> str:
        """Where a line number counts from: the cell, or for a percent file the whole file."""
        return f"the file ({self.label})" if self.line else f"the cell of {self.label}"

    def as_dict(self) -> dict[str, Any]:
        return {
            "role": self.role,
            "name": self.name,
            "source": self.source,
            "cell": self.cell,
            "place": self.place,
            "offset": max(self.line - 1, 0),
            "diagnosis": self.diagnosis,
        }


@dataclass
class Failure:
    """Why a step did not pass. `kind`: check, unsolved, syntax, error, exit, memory, timeout,
    crash, notebook."""

    step: Step
    kind: str
    what: str
    rows: list[tuple[str, str]] = field(default_factory=list)
    diagnosis: str = ""


@dataclass
class Outcome:
    """What one run of the steps gave: which steps passed, in order, and what failed."""

    passed: list[Step] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    output: str = ""
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        return not self.failures


def run(steps: list[Step], **options: Any) -> Outcome:
    """Run `steps` in order in a child process; the first failure ends the run (see `run_many`)."""
    return run_many([steps], **options)[0]


def run_many(
    runs: list[list[Step]],
    *,
    knockouts: dict[str, list[Step]] | None = None,
    environment: dict[str, str] | None = None,
    cwd: Path | None = None,
    keep_going: bool = False,
    timeout: float = TIMEOUT,
    memory: int = MEMORY,
) -> list[Outcome]:
    """Run several lists of steps, each in a namespace of its own, in one child process.

    `environment` is laid over the parent's; `timeout` (seconds) and `memory` (bytes of address
    space) bound the whole child. With `keep_going` a failure does not end its run.
    """
    job = {
        "runs": [[step.as_dict() for step in steps] for steps in runs],
        "knockouts": {
            name: [s.as_dict() for s in rows] for name, rows in (knockouts or {}).items()
        },
        "keep_going": keep_going,
        "memory": memory,
    }
    with tempfile.TemporaryDirectory(prefix="tito-") as folder:
        job_file, events_file = Path(folder, "job.json"), Path(folder, "events.jsonl")
        job_file.write_text(json.dumps(job), encoding="utf-8")
        events_file.touch()
        command = [sys.executable, "-m", "tito.runner", str(job_file), str(events_file)]
        ending, output = _spawn(command, environment or {}, cwd, timeout)
        events = _events(events_file)
    return _outcomes(runs, events, ending, output, timeout)


def _popen(
    command: list[str], environment: dict[str, str], cwd: Path | None, talks: bool = False
) -> subprocess.Popen[bytes]:
    """A child in a process group of its own, without input, whose output is UTF-8 in one pipe.

    If it `talks`, there is a pipe to it, one from it, and its stderr is the parent's.
    """
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE if talks else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=None if talks else subprocess.STDOUT,
        cwd=cwd,
        env={**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8", **environment},
        start_new_session=sys.platform != "win32",
    )


def _spawn(
    command: list[str], environment: dict[str, str], cwd: Path | None, timeout: float
) -> tuple[str, str]:
    """How the child ended ("ended", "timeout", "code -9"), and the head of what it printed."""
    process = _popen(command, environment, cwd)
    assert process.stdout is not None
    drain = _Drain(process.stdout)
    try:
        code = process.wait(timeout)
        ending = "ended" if code == 0 else f"code {code}"
    except subprocess.TimeoutExpired:
        ending = "timeout"
    except KeyboardInterrupt:
        _kill(process)
        raise
    _kill(process)
    drain.thread.join(5)
    return ending, drain.text()


def stream(
    arguments: list[str],
    environment: dict[str, str],
    cwd: Path,
    timeout: float,
    show: Callable[[str], None],
) -> str:
    """Run Python with `arguments`, give `show` each line it prints, and return how it ended."""
    process = _popen([sys.executable, *arguments], environment, cwd)
    assert process.stdout is not None
    late = threading.Event()

    def stop() -> None:
        late.set()
        _kill(process)

    clock = threading.Timer(timeout, stop)
    clock.start()
    try:
        for line in process.stdout:
            show(line.decode("utf-8", "replace").rstrip("\r\n"))
        code = process.wait()
    finally:
        clock.cancel()
        _kill(process)
    return "timeout" if late.is_set() else "ended" if code == 0 else f"code {code}"


def converse(
    arguments: list[str], environment: dict[str, str], cwd: Path
) -> subprocess.Popen[bytes]:
    """Python with `arguments`, to write to and to read from; `end` ends it."""
    return _popen([sys.executable, *arguments], environment, cwd, talks=True)


def end(process: subprocess.Popen[bytes]) -> None:
    """End a child that `converse` started."""
    _kill(process)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """The child and everything it started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if sys.platform == "win32":
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()


class _Drain:
    """Reads everything a child prints so that it never blocks, keeps the head, counts the rest."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream, self.head, self.total = stream, bytearray(), 0
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self) -> None:
        while chunk := os.read(self.stream.fileno(), 1 << 16):
            self.total += len(chunk)
            self.head += chunk[: max(0, OUTPUT - len(self.head))]

    def text(self) -> str:
        shown = self.head.decode("utf-8", "replace")
        left = self.total - len(self.head)
        return f"{shown}\n… and {left / 1e6:,.1f} MB more, not shown" if left else shown


def _events(path: Path) -> list[dict[str, Any]]:
    events = []
    for line in path.read_text(encoding="utf-8").splitlines():
        with contextlib.suppress(json.JSONDecodeError):  # a kill can cut the last line
            events.append(json.loads(line))
    return events


def _outcomes(
    runs: list[list[Step]], events: list[dict[str, Any]], ending: str, output: str, timeout: float
) -> list[Outcome]:
    outcomes = [Outcome() for _ in runs]
    current, running = 0, None
    for event in events:
        if event["event"] == "run":
            current, running = event["run"], None
            continue
        if event["event"] == "done":
            running = None
            break
        step = runs[current][event["step"]]
        running = step if event["event"] == "begin" else None
        _record(outcomes[current], step, event)
    else:
        if not (ending == "ended" and outcomes[current].failures):
            step = running or (runs[current][0] if runs[current] else Step("given", "start", "", 0))
            outcomes[current].failures.append(_abrupt(step, ending, timeout))
            outcomes[current].output = output
    return outcomes


def _record(outcome: Outcome, step: Step, event: dict[str, Any]) -> None:
    if event["event"] == "pass":
        outcome.passed.append(step)
        outcome.seconds[step.label] = event["seconds"]
    elif event["event"] == "own":
        outcome.notes.append(f"your own cell {step.cell} stopped with {event['what']}")
    elif event["event"] == "fail":
        rows = [(label, text) for label, text in event["rows"] if text]
        outcome.output = event.get("printed", "")
        outcome.failures.append(
            Failure(step, event["kind"], event["what"], rows, event.get("diagnosis", ""))
        )


def _abrupt(step: Step, ending: str, timeout: float) -> Failure:
    """The child ended without saying so: too long, killed, or the code ended Python itself."""
    if ending == "timeout":
        what = f"still running after {timeout:.0f} s: a loop that never ends, or far too much work"
        return Failure(step, "timeout", what)
    if ending == "ended":
        return Failure(step, "exit", "your code ended Python itself (os._exit or quit)")
    hint = "; out of memory is the usual reason" if ending == "code -9" else ""
    return Failure(step, "crash", f"Python stopped here ({ending}){hint}")
