"""`tito watch` on a real (pseudo-)terminal: save and see, one key at a time."""

from __future__ import annotations

import errno
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tito.progress import Progress

PATIENCE = 10.0


class Terminal:
    """A child on a pseudo-terminal, and what its screen shows."""

    def __init__(self, *args: str, columns: int = 80, lines: int = 24, **env: str) -> None:
        self.master, self.slave = pty.openpty()
        self.resize(columns, lines)
        self.settings = termios.tcgetattr(self.slave)
        base = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES")}
        self.child = subprocess.Popen(
            [sys.executable, "-m", "tito", *args], stdin=self.slave, stdout=self.slave,
            stderr=self.slave, start_new_session=True, preexec_fn=self.adopt,
            env={**base, "TERM": "xterm", "PYTHONIOENCODING": "utf-8", **env},
        )
        self.bytes = b""

    def adopt(self) -> None:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    def resize(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def read(self, wait: float = 0.05) -> None:
        try:
            while select.select([self.master], [], [], wait)[0]:
                self.bytes += os.read(self.master, 65536)
        except OSError as error:
            if error.errno != errno.EIO:
                raise

    def page(self) -> str:
        """The text of the last page drawn, colours and cursor movements taken out."""
        self.read()
        last = self.bytes.decode("utf-8", "replace").split("\x1b[H")[-1]
        return re.sub(r"\x1b\[\??[\d;]*[a-zA-Z]", "", last).replace("\r", "")

    def until(self, seen: str | Callable[[str], bool]) -> str:
        """The page once it shows the text; a failure shows the page that came instead."""
        wanted = seen if callable(seen) else lambda page: seen in page
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            if wanted(page := self.page()):
                return page
        raise AssertionError(f"not seen: {seen!r} in\n{self.page()}")

    def press(self, key: str) -> None:
        os.write(self.master, key.encode())

    def end(self) -> int:
        self.read(0.2)
        return self.child.wait(PATIENCE)

    def close(self) -> None:
        self.child.kill()
        self.child.wait()
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def watch(learner: Any) -> Iterator[Callable[..., Terminal]]:
    opened: list[Terminal] = []

    def start(*args: str, **options: Any) -> Terminal:
        opened.append(Terminal("watch", *args, **options))
        opened[-1].until("q quit")
        return opened[-1]

    yield start
    for terminal in opened:
        terminal.close()


def settled(page: str) -> bool:
    return "checked " in page and "checking" not in page


def test_watch_sees_a_save_and_draws_the_new_state(learner: Any, watch: Any) -> None:
    terminal = watch()
    page = terminal.until("not written yet: Tensor")
    assert "tinytorch: student" in page and "0/3" in page
    began = time.monotonic()
    learner.solve(1, Tensor__total="return self.data[0]")
    page = terminal.until("You returned the first number only.")
    assert time.monotonic() - began < 5 and "✓✗·" in page
    learner.solve()
    page = terminal.until("All checks pass")
    assert "Next: n" in page


@pytest.mark.parametrize("columns", [60, 80, 100])
def test_watch_fills_the_last_column(learner: Any, watch: Any, columns: int) -> None:
    told = "x" * (columns - 17) + "yz END"  # as wide as the row for what was printed
    learner.solve(1, Tensor__total=f"print({told[:columns - 13]!r})\nreturn self.data[0]")
    terminal = watch(columns=columns)
    terminal.until(lambda page: settled(page) and "x" * (columns - 17) in page)
    row = next(row for row in screen_of(terminal, columns) if "xxxx" in row)
    assert row.endswith("yz E") and len(row) == columns


def screen_of(terminal: Terminal, columns: int) -> list[str]:
    """The last page as a terminal shows it that stays in the last column, as real ones do."""
    last = terminal.bytes.decode().split("\x1b[H")[-1].split("\x1b[J")[0]
    rows = []
    for line in last.replace("\r", "").split("\n"):
        row: list[str] = []
        for token in re.findall(r"\x1b\[\??[\d;]*[a-zA-Z]|.", line):
            if token == "\x1b[K":
                row = row[: min(len(row), columns - 1)]  # erases what the cursor stands on
            elif len(token) == 1:
                row.append(token)
        rows.append("".join(row))
    return rows


def test_watch_a_low_terminal_keeps_what_matters(learner: Any, watch: Any) -> None:
    wrong = "print(*range(20), sep=chr(10))\nreturn self.data[0]"
    learner.solve(1, Tensor__total=wrong)
    terminal = watch(columns=80, lines=12)
    page = terminal.until(settled)
    kept = ("Tensor([1, 2, 3]).total()", "expected   6", "got        1", "probably   You returned")
    assert all(row in page for row in kept)
    terminal.press("h")
    page = terminal.until("hint 1 of 3: Which function adds?")
    assert all(row in page for row in kept) and "printed" not in page
    terminal.resize(80, 30)
    os.kill(terminal.child.pid, signal.SIGWINCH)
    page = terminal.until("why        1 + 2 + 3")
    assert "printed    0" in page and page.index("hint 1 of 3") > page.index("printed")


def test_watch_says_that_what_it_shows_is_old(learner: Any, watch: Any) -> None:
    learner.solve()
    terminal = watch()
    terminal.until("All checks pass")
    learner.solve(1, Tensor__total="while True: pass")
    page = terminal.until("01_tensor  checking …")
    assert "All checks pass" not in page and "Next:" not in page
    for key in "nh":
        terminal.press(key)
        terminal.until("Still checking: press again when the result is there.")
    assert not Progress.load(learner.ws).is_completed("01_tensor")
    learner.solve(1, Tensor__total="return 0")
    page = terminal.until(lambda page: settled(page) and "got        0" in page)
    assert "Still checking" not in page and "Next: mend it and save   (h for a hint)" in page
    learner.solve(1, Tensor__total="while True: pass")
    page = terminal.until("01_tensor  checking …   (below: as it was before)")
    assert "Next:" not in page


def test_watch_a_save_returns_from_the_list_to_the_report(learner: Any, watch: Any) -> None:
    terminal = watch()
    terminal.until("Next: write it and save")
    terminal.press("l")
    terminal.until("l report")
    learner.solve(1, Tensor__total="return 0")
    page = terminal.until("got        0")
    assert "l list" in page


def test_watch_says_at_once_that_the_notebook_is_gone(learner: Any, watch: Any) -> None:
    terminal = watch()
    terminal.until("not written yet")
    learner.notebook().unlink()
    page = terminal.until("modules/01_tensor/tensor.ipynb is gone")
    assert "not written yet" not in page and "or tito module start 01" in page
    terminal.press("h")
    terminal.until("No hint: first mend what is said above.")


def test_watch_after_the_last_hint_names_the_solution(learner: Any, watch: Any) -> None:
    terminal = watch()
    terminal.until("(h for a hint)")
    terminal.press("h")
    terminal.until("(h for the next hint)")
    terminal.press("hh")
    terminal.until("(or, recorded: tito module solution 01.1 --insist)")


def test_watch_keys_hint_list_and_quit(learner: Any, watch: Any) -> None:
    terminal = watch()
    terminal.until("not written yet")
    terminal.press("h")
    terminal.until("hint 1 of 3: What came?")
    terminal.press("h")
    terminal.until("hint 2 of 3: Make a list.")
    terminal.press("l")
    page = terminal.until("01.3  · predict.bytes")
    assert "01.1  ✗ Tensor" in page
    terminal.press("l")
    terminal.until("hint 2 of 3")
    terminal.press("q")
    assert terminal.end() == 0
    assert termios.tcgetattr(terminal.slave) == terminal.settings
    assert Progress.load(learner.ws).modules["01_tensor"]["hints"] == {"Tensor": 2}


def test_watch_moves_on_only_when_told(learner: Any, watch: Any) -> None:
    terminal = watch("1")
    terminal.until("not written yet")
    terminal.press("n")
    terminal.until("Not yet: n goes on when every check passes.")
    learner.solve()
    terminal.until("All checks pass")
    time.sleep(0.5)
    assert not Progress.load(learner.ws).is_completed("01_tensor")
    terminal.press("n")
    page = terminal.until("not written yet: relu")
    assert "01_tensor is completed." in page and learner.notebook(2).is_file()
    learner.solve(2)
    terminal.until(lambda page: "02_activations  1/1" in page and settled(page))
    terminal.press("n")
    terminal.until("That was the last module of this release.")


def test_watch_a_save_stops_a_check_that_never_ends(learner: Any, watch: Any) -> None:
    learner.solve(1, Tensor__total="while True: pass")
    terminal = watch()
    terminal.until("checking")
    time.sleep(0.7)
    learner.solve()
    terminal.until("All checks pass")


def test_watch_quits_at_once_while_a_check_runs(learner: Any, watch: Any) -> None:
    learner.solve(1, Tensor__total="while True: pass")
    terminal = watch()
    time.sleep(0.7)
    began = time.monotonic()
    terminal.press("q")
    assert terminal.end() == 0 and time.monotonic() - began < 3


def test_watch_survives_a_damaged_and_a_missing_notebook(learner: Any, watch: Any) -> None:
    terminal = watch()
    terminal.until("not written yet")
    whole = learner.notebook().read_text()
    learner.edit(lambda text: text[:200])
    terminal.until("not JSON")
    learner.notebook().unlink()
    terminal.press("r")
    terminal.until("is gone")
    learner.notebook().write_text(whole)
    terminal.until("not written yet")


def test_watch_ctrl_c_is_130_and_restores_the_terminal(watch: Any) -> None:
    terminal = watch()
    terminal.until("not written yet")
    terminal.press("\x03")
    assert terminal.end() == 130
    assert termios.tcgetattr(terminal.slave) == terminal.settings
    assert "Traceback" not in terminal.bytes.decode()


@pytest.mark.parametrize(("columns", "lines"), [(80, 24), (40, 12), (24, 8)])
def test_watch_fits_the_terminal(learner: Any, watch: Any, columns: int, lines: int) -> None:
    learner.solve(1, Tensor__total="print('x' * 200)\nreturn self.data[0]")
    terminal = watch(columns=columns, lines=lines)
    page = terminal.until(settled)
    assert len(page.split("\n")) <= lines and "n next" in page
    assert "01_tensor" in page


def test_watch_follows_a_terminal_that_is_resized(learner: Any, watch: Any) -> None:
    learner.solve(1, Tensor__total="return self.data[0]")
    terminal = watch()
    terminal.until("probably")
    terminal.resize(40, 9)
    os.kill(terminal.child.pid, signal.SIGWINCH)
    terminal.until(lambda page: len(page.split("\n")) <= 9 and "…" in page)


def test_watch_after_suspension_draws_again(learner: Any, watch: Any) -> None:
    terminal = watch()
    terminal.until("not written yet")
    os.kill(terminal.child.pid, signal.SIGSTOP)
    termios.tcsetattr(terminal.slave, termios.TCSADRAIN, terminal.settings)
    terminal.bytes = b""
    os.kill(terminal.child.pid, signal.SIGCONT)
    terminal.until("not written yet")
    terminal.press("q")
    assert terminal.end() == 0


def test_watch_on_a_dumb_terminal_writes_below(watch: Any) -> None:
    terminal = watch(TERM="dumb", NO_COLOR="1")
    terminal.until("not written yet")
    terminal.press("q")
    assert terminal.end() == 0 and b"\x1b" not in terminal.bytes


def test_watch_without_a_terminal_is_a_usage_error(learner: Any) -> None:
    lines = learner.tito("watch", code=2).stderr.splitlines()
    assert "none" in lines[0] and lines[1] == "Next: tito module test 01"


def test_reset_asks_on_a_terminal(learner: Any) -> None:
    learner.solve()
    mine = learner.notebook().read_bytes()
    for answer, code in (("n", 4), ("y", 0)):
        assert learner.notebook().read_bytes() == mine
        terminal = Terminal("module", "reset")
        terminal.until("Reset modules/01_tensor/tensor.ipynb to how it was given? [y/N]")
        terminal.press(f"{answer}\n")
        assert terminal.end() == code
        terminal.close()
    assert learner.notebook().read_bytes() != mine


def test_no_input_never_asks_even_on_a_terminal(learner: Any) -> None:
    for args, env in ((["--no-input", "module", "reset"], {}), (["module", "reset"], {"CI": "1"})):
        terminal = Terminal(*args, **env)
        assert terminal.end() == 4
        terminal.close()
