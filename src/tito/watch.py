"""Check a module every time its notebook is saved, with one-key commands, until `q`.

The check runs in a process of its own, so that keys and saves are noticed while it lasts: a save
during a check stops it and begins the next.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO

from tito import explain, hints, layout, lesson, overview, screen, views
from tito.course import Module
from tito.layout import Block
from tito.lesson import Report
from tito.progress import Progress
from tito.source import SourceError
from tito.workspace import Workspace, WorkspaceError

TICK = 0.1
KEYS = {"n": "next", "h": "hint", "l": "list", "r": "run", "q": "quit"}
FOOT = 4  # lines below the page: an empty one, what goes on, what to do, the keys
STILL = "Still checking: press again when the result is there."


# The terminal ------------------------------------------------------------------------------------


class Keyboard:
    """Keys one at a time, without Enter and without echo; the terminal is as before afterwards."""

    def __init__(self) -> None:
        self.waiting: list[str] = []
        self.woken = False

    def __enter__(self) -> Keyboard:
        if sys.platform != "win32":
            import termios

            self.saved = termios.tcgetattr(sys.stdin.fileno())
            self.old_handler = signal.signal(signal.SIGCONT, self._wake)
            self._hush()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if sys.platform != "win32":
            import termios

            termios.tcsetattr(sys.stdin.fileno(), termios.TCSADRAIN, self.saved)
            signal.signal(signal.SIGCONT, self.old_handler)

    def _hush(self) -> None:
        if sys.platform != "win32":
            import tty

            tty.setcbreak(sys.stdin.fileno())

    def _wake(self, *_: object) -> None:
        """After Ctrl-Z and `fg` the shell has changed the terminal."""
        self._hush()
        self.woken = True

    def key(self, wait: float) -> str:
        """The next key, or "" when none comes in time. Raises EOFError without a terminal."""
        if not self.waiting:
            self.waiting = self._read(wait)
        return self.waiting.pop(0) if self.waiting else ""

    def _read(self, wait: float) -> list[str]:
        if sys.platform == "win32":
            import msvcrt

            time.sleep(wait)
            return [msvcrt.getwch()] if msvcrt.kbhit() else []
        import select

        if not select.select([sys.stdin], [], [], wait)[0]:
            return []
        pressed = os.read(sys.stdin.fileno(), 64)
        if not pressed:
            raise EOFError
        return [] if pressed.startswith(b"\x1b") else list(pressed.decode("utf-8", "ignore"))


class Canvas:
    """The terminal as one page that is drawn over; below each other where it cannot be."""

    def __init__(self) -> None:
        self.blank = False

    def draw(self, body: list[str], foot: list[str]) -> None:
        if screen.dumb():
            return screen.say_lines([*body, *foot, ""])
        columns, lines = screen.terminal()
        body = [_cut(line, columns) for line in body[: max(lines - len(foot) - 1, 1)]]
        # Each line is erased before it is written: after its last column that would erase a letter.
        page = "\n".join(f"\x1b[K{line}" for line in (*body, "", *foot))
        lead = "\x1b[H" if self.blank else "\x1b[2J\x1b[H"
        self.blank = True
        _write(f"\x1b[?7l{lead}{page}\x1b[J\x1b[?7h")  # a line too long is cut, not wrapped

    def close(self) -> None:
        if not screen.dumb():
            _write("\n")


def _cut(line: str, columns: int) -> str:
    """A line that is too long ends in `…`, without its colours."""
    import click

    bare = click.unstyle(line)
    return line if len(bare) <= columns else screen.clip(bare, columns)


def _write(text: str) -> None:
    """Cursor movements survive NO_COLOR, which is about colours alone."""
    import click

    bare = text if screen.colours(sys.stdout) else _without_colours(text)
    click.echo(screen.plain(bare, sys.stdout), nl=False, color=True)
    sys.stdout.flush()


def _without_colours(text: str) -> str:
    import re

    return re.sub(r"\x1b\[[\d;]*m", "", text)


# The check ---------------------------------------------------------------------------------------


class Check:
    """`tito module test MODULE --json`, running."""

    def __init__(self, ws: Workspace, module: Module) -> None:
        self.began = time.monotonic()
        self.out = tempfile.TemporaryFile()  # noqa: SIM115 (closed by `stop`)
        self.err = tempfile.TemporaryFile()  # noqa: SIM115
        command = [sys.executable, "-P", "-m", "tito", "module", "test", module.id, "--json"]
        own = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)  # Windows only
        self.process = subprocess.Popen(
            command, cwd=ws.root, env={**os.environ, "TINYTORCH": str(ws.root)},
            stdin=subprocess.DEVNULL, stdout=self.out, stderr=self.err,
            start_new_session=sys.platform != "win32", creationflags=own,
        )

    @property
    def done(self) -> bool:
        return self.process.poll() is not None

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began

    def result(self) -> Report | str:
        """The report, or what the command complained about."""
        code, told, complaint = self.process.returncode, _text(self.out), _text(self.err)
        if code in (0, 1) and told:
            return explain.from_dict(json.loads(told))
        return complaint.strip() or f"the check ended with code {code}\nNext: tito system doctor"

    def stop(self) -> None:
        """End it and whatever it started."""
        if not self.done:
            self.process.send_signal(getattr(signal, "CTRL_BREAK_EVENT", signal.SIGINT))
            try:
                self.process.wait(2)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.out.close()
        self.err.close()


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode("utf-8", "replace")


Stamp = tuple[int, int] | None


def stamp(path: Path) -> Stamp:
    """What changes when the file is saved; None while it is not there."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


# The loop ----------------------------------------------------------------------------------------


@dataclass
class Watch:
    """One sitting at a module's notebook: what is shown and what runs.

    `seen` is how the file was at the last look, `wanted` how it was when the last check began.
    """

    ws: Workspace
    module: Module
    check: Check | None = None
    result: Report | str | None = None
    seen: Stamp = None
    wanted: Stamp = None
    checked: str = ""
    message: list[str] = field(default_factory=list)
    hint: tuple[str, str] = ("", "")
    left: int = 0  # hints not taken yet, of the exercise that `hint` is for
    listing: bool = False
    completing: bool = False
    drawn: object = None

    def run(self) -> None:
        """Until `q`, Ctrl-C or the end of the terminal."""
        canvas = Canvas()
        try:
            with Keyboard() as keyboard:
                self.start()
                while self.step(keyboard, canvas):
                    pass
        except EOFError:
            pass
        finally:
            self.stop()
            canvas.close()

    def step(self, keyboard: Keyboard, canvas: Canvas) -> bool:
        """Look at the file, the check and the keyboard once; False at the end."""
        self.look()
        if self.completing:
            self.complete()
        key = keyboard.key(TICK)
        if key == "q":
            return False
        actions = {"n": self.next, "h": self.take_hint, "l": self.toggle, "r": self.start}
        if key in actions:
            self.message = []
            actions[key]()
        page = (self.body(), self.foot(), screen.terminal(), keyboard.woken)
        if page != self.drawn:
            canvas.blank = canvas.blank and not keyboard.woken
            canvas.draw(page[0], page[1])
            keyboard.woken, self.drawn = False, (*page[:3], False)
        return True

    def look(self) -> None:
        """Begin a check once a save has settled; take in the result of one that ended."""
        before, self.seen = self.seen, stamp(self.path)
        if self.seen != self.wanted and self.seen == before:
            self.message, self.listing = [], False
            self.start()
        if self.check and self.check.done:
            self.result = self.check.result()
            self.checked = f"{time.strftime('%H:%M:%S')} in {self.check.seconds:.1f} s"
            self.message = [] if self.message == [STILL] else self.message
            self.stop()

    def gone(self) -> str:
        """What to say when there is no notebook any more."""
        back = f"tito module start {self.module.number:02d}"
        if self.ws.snapshots(self.path):
            back = f"tito module reset {self.module.number:02d} --undo"
        path = self.ws.relative(self.path)
        return f"{path} is gone\nNext: save it again from your editor, or {back}"

    @property
    def path(self) -> Path:
        return self.ws.notebook_path(self.module)

    def start(self) -> None:
        """Check now, instead of what is being checked."""
        self.stop()
        self.seen = self.wanted = stamp(self.path)
        if self.seen is None:
            self.result = self.gone()
        else:
            self.check = Check(self.ws, self.module)

    def stop(self) -> None:
        if self.check:
            self.check.stop()
        self.check = None

    # Keys ---------------------------------------------------------------------------------------

    def toggle(self) -> None:
        """The list of exercises instead of the report, until the next save, and back."""
        if isinstance(self.result, Report):
            self.listing = not self.listing

    def take_hint(self) -> None:
        """The next rung for the exercise that fails."""
        found = self.result
        if self.check:
            self.message = [STILL]
            return
        if not isinstance(found, Report) or found.failure is None or not found.number:
            passes = isinstance(found, Report) and found.ok
            why = "every exercise passes" if passes else "first mend what is said above"
            self.message = [f"No hint: {why}."]
            return
        name = found.failure.step.name
        rung, text = lesson.hint(self.ws, self.module, name)
        total = len(hints.ladder(self.module)[name])
        self.listing, self.left = False, total - rung
        self.hint = (name, f"hint {rung} of {total}: {text}")

    def next(self) -> None:
        """Complete a module that passes, and start the one after it; never by itself."""
        if self.check:
            self.message = [STILL]
            return
        if not isinstance(self.result, Report) or not self.result.ok:
            self.message = ["Not yet: n goes on when every check passes."]
            return
        self.completing, self.message = True, ["Completing: the checks once more, on the file …"]

    def complete(self) -> None:
        """What `next` announced on the screen."""
        self.completing, self.message = False, []
        try:
            report = lesson.complete(self.ws, self.module)
            if report.ok:
                self.move(report)
            else:
                self.result = report
        except (WorkspaceError, SourceError) as error:
            self.result = str(error)

    def move(self, report: Report) -> None:
        progress = Progress.load(self.ws)
        mended = views.repaired(self.ws, self.module, report)
        done = views.completed(self.ws, self.module, progress)
        self.message = [screen.good(f"{self.module.id} is completed."), *mended, *done]
        following = overview.current(progress)
        if following is None:
            self.message.append("That was the last module of this release.")
            self.seen = self.wanted = stamp(self.path)
            return
        lesson.start(self.ws, following)
        self.module, self.result, self.hint, self.listing = following, None, ("", ""), False
        self.start()

    # Showing ------------------------------------------------------------------------------------

    def body(self) -> list[str]:
        """The page above the last lines, as much of it as there is room for."""
        blocks = [Block(layout.HEADER, [explain.header(self.ws)]), *self.verdict()]
        if self.message:
            blocks += [layout.GAP_BLOCK, Block(layout.NEWS, self.message)]
        return layout.fit(blocks, screen.terminal()[1] - FOOT)

    def verdict(self) -> list[Block]:
        """What the last check found; while the next one runs, only how it was before."""
        found, title = self.result, screen.bold(self.module.id)
        if not isinstance(found, Report):
            text = found.partition("\nNext: ")[0] if found and not self.check else ""
            return [Block(layout.SUMMARY, [self.running(title)]),
                    Block(layout.WHAT, screen.wrap(text) if text else [])]
        if self.listing:
            listed = [Block(layout.SUMMARY, self.list_lines(found))]
            return layout.old(listed) if self.check else listed
        blocks = explain.blocks(found)
        if found.failure and self.hint[0] == found.failure.step.name:
            blocks.append(Block(layout.HINT, screen.wrap(self.hint[1], " " * 4, "  ")))
        if not self.check:
            return blocks
        before = layout.old(blocks[1:]) if found.failure else []
        said = screen.dim("   (below: as it was before)") if before else ""
        return [Block(layout.SUMMARY, [self.running(title) + said]), *before]

    def running(self, title: str) -> str:
        return f"{title}  {screen.warm('checking …')}" if self.check else title

    def list_lines(self, report: Report) -> list[str]:
        """The exercises with their marks, in as many columns as it takes."""
        names = [f"{report.module.number:02d}.{n:<3}{explain.mark(report, name)} {name}"
                 for n, name in enumerate(report.exercises, 1)]
        room = max(screen.terminal()[1] - FOOT - 4, 4)
        columns = [names[i : i + room] for i in range(0, len(names), room)]
        rows = [tuple(column[i] if i < len(column) else "" for column in columns)
                for i in range(len(columns[0]))]
        return [*explain.summary(report), *screen.table(rows)]

    def foot(self) -> list[str]:
        """What is going on, what to do, and the keys."""
        file = self.ws.relative(self.path)
        state = "checking …" if self.check else f"checked {self.checked}"
        state = "waiting for" if self.seen is None else state
        what = screen.dim(screen.clip(f"{state}  {file}", screen.width()))
        return [what, self.advice(), self.keys()]

    def advice(self) -> str:
        """`Next:` and what to do; nothing yet while a check runs."""
        if self.check or self.completing:
            return screen.dim(screen.clip("wait for the result, or save again", screen.width()))
        return screen.next_line(screen.clip(self.todo(), screen.width() - 6))

    def todo(self) -> str:
        found = self.result
        if not isinstance(found, Report):
            return str(found).partition("\nNext: ")[2] or "mend what is said above, and save"
        if found.failure is None:
            return "n   (completes this module and starts the next)"
        blank = any(text.startswith("not answered yet") for _, text in found.failure.rows)
        unwritten = blank or found.failure.kind == "unsolved"
        again = "write it and save" if unwritten else "mend it and save"
        if not found.number:
            return again
        if self.hint[0] != found.failure.step.name:
            return f"{again}   (h for a hint)"
        if self.left:
            return f"{again}   (h for the next hint)"
        number = explain.reference(found, self.hint[0])
        return f"{again}   (or, recorded: tito module solution {number} --insist)"

    def keys(self) -> str:
        """The keys that fit, those first that are needed most."""
        words = KEYS | ({"l": "report"} if self.listing else {})
        kept, room = [], screen.width()
        for key in "qnhlr":
            if len(words[key]) + 2 <= room:
                kept.append(key)
                room -= len(words[key]) + 4
        return "  ".join(f"{screen.bold(key)} {words[key]}" for key in KEYS if key in kept)
