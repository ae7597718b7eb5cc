"""A conversation with the transformer of 2017, as the learner's framework trained it.

The framework runs in a child process, started as `python -m tito.chat RUN WEIGHTS`. Questions go to
it and answers come back as lines of JSON. Nothing heavy is imported on this side.
"""

from __future__ import annotations

import contextlib
import json
import sys
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from tito import course, milestones, probes, sandbox, screen
from tito.probes import Blame
from tito.progress import Progress
from tito.workspace import Workspace, WorkspaceError

YEAR, PART = "2017", "tinytalks"
PATIENCE = 60.0  # seconds for one answer; a good one takes less than a second


class ChatError(Exception):
    """The framework failed in the middle; `blame` says how, and which module to look at."""

    def __init__(self, blame: Blame) -> None:
        super().__init__(blame.what)
        self.blame = blame


class Talker:
    """The trained transformer in its child process. Use as a context; `ask` as often as you like.

    Raises WorkspaceError where the milestone is locked or was never passed on TinyTalks.
    """

    def __init__(self, ws: Workspace) -> None:
        milestone = course.find_milestone(YEAR)
        milestones.require(Progress.load(ws), milestone)
        record = milestones.read_record(ws, milestone)
        weights = milestones.folder(ws, milestone) / "weights.safetensors"
        if record is None or PART not in record["parts"] or not weights.is_file():
            raise WorkspaceError(
                "there is nobody to talk to yet: no transformer trained on TinyTalks is recorded\n"
                f"Next: tito milestone run {YEAR}"
            )
        arguments = ["-m", "tito.chat", str(milestone.folder / "run.py"), str(weights)]
        threads = milestones.threads(1)
        surroundings = probes.environment(ws.root, milestone.needs[1]) | threads
        self.process = sandbox.converse(arguments, surroundings, ws.root)

    def __enter__(self) -> Talker:
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: TracebackType | None) -> None:
        sandbox.end(self.process)

    def ask(self, question: str, temperature: float = 0.0, seed: int = 0) -> Iterator[str]:
        """The answer, piece by piece. Raises ChatError when the framework fails or does not end."""
        asked = {"question": question, "temperature": temperature, "seed": seed}
        late = threading.Event()

        def stop() -> None:
            late.set()
            sandbox.end(self.process)

        clock = threading.Timer(PATIENCE, stop)
        clock.start()
        try:
            for told in self._said(asked):
                if "failed" in told:
                    raise ChatError(milestones.raised(told["failed"]))
                if "end" in told:
                    return
                yield told["piece"]
        finally:
            clock.cancel()
        what = f"no whole answer in {PATIENCE:.0f} s" if late.is_set() else "Python stopped here"
        raise ChatError(Blame("chat", what, [], "", f"tito milestone validate {YEAR}"))

    def _said(self, asked: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """What the child says to it, line by line, until it ends."""
        assert self.process.stdin is not None and self.process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # it ended, and what it said is still there
            self.process.stdin.write(json.dumps(asked).encode() + b"\n")
            self.process.stdin.flush()
        for line in self.process.stdout:
            yield json.loads(line)


def typed() -> Iterator[str]:
    """Questions that are typed, or piped in, line by line, until the end or `quit`."""
    asking = screen.interactive()
    if asking:
        screen.say(screen.dim("Ask in a short sentence; Ctrl-D or quit ends."), err=True)
    while True:
        if asking:
            screen.say(screen.bold("> "), err=True, newline=False)
        line = sys.stdin.readline()
        if not line and asking:
            screen.say(err=True)
        if not line or line.strip() in ("quit", "exit"):
            return
        if line.strip():
            yield line.strip()


def spoken(pieces: Iterable[str], quiet: bool = False) -> str:
    """Print an answer as it comes, without what no terminal should get; returns the whole of it."""
    said = ""
    for piece in pieces:
        clean = "".join(c if c.isprintable() else " " for c in piece)
        said += clean
        if not quiet:
            screen.say(clean, newline=False)
    if not quiet:
        screen.say()
    return said


# The child process -------------------------------------------------------------------------------


def main() -> None:
    """Answers every line on stdin. What the framework prints goes to stderr, out of the way."""
    answers, sys.stdout = sys.stdout, sys.stderr

    def tell(**told: Any) -> None:
        print(json.dumps(told), file=answers, flush=True)

    try:
        run, net = load(Path(sys.argv[1]), Path(sys.argv[2]))
        for line in sys.stdin:
            asked = json.loads(line)
            for piece in run.speak(net, asked["question"], asked["temperature"], asked["seed"]):
                tell(piece=piece)
            tell(end=True)
    except BaseException as error:  # sys.exit() in the framework is a result as well
        from tito import stage

        tell(failed=stage.failed(error, PART))


def load(script: Path, weights: Path) -> tuple[Any, Any]:
    """run.py, and the network that it restores from the recorded weights."""
    import safetensors.numpy

    from tito import stage

    run, start = stage.load(script), f"{PART}/after/"
    arrays = safetensors.numpy.load(weights.read_bytes())
    found = {n.removeprefix(start): a for n, a in arrays.items() if n.startswith(start)}
    return run, run.restore(found).eval()


if __name__ == "__main__":
    main()
