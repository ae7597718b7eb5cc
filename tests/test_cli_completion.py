"""`tito completion`: a script the shell can run, and what it then offers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import Any

import pytest


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script(nowhere: Any, shell: str) -> None:
    assert "_TITO_COMPLETE" in nowhere.tito("completion", shell, code=0).stdout


def test_bash_accepts_the_script(nowhere: Any) -> None:
    script = nowhere.tito("completion", "bash", code=0).stdout
    done = subprocess.run([shutil.which("bash") or "bash", "-n"], input=script, text=True,
                          capture_output=True)
    assert done.returncode == 0 and not done.stderr


@pytest.mark.parametrize(
    ("typed", "offered"),
    [("tito mod", "module"), ("tito module st", "start"), ("tito module test 01", "01_tensor"),
     ("tito data path mn", "mnist"), ("tito module test --js", "--json")],
)
def test_completion_offers_commands_options_and_names(
    learner: Any, typed: str, offered: str
) -> None:
    words = typed.split()
    env = {**os.environ, "_TITO_COMPLETE": "bash_complete", "COMP_WORDS": typed,
           "COMP_CWORD": str(len(words) - 1)}
    code = "from tito.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], env=env, text=True, capture_output=True)
    assert offered in [line.partition(",")[2] for line in done.stdout.splitlines()], done


