"""`tito` itself: where you are, errors in two lines, exit codes, start-up, what is documented."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from tito import cli as root
from tito import pages, workspace
from tito.progress import Progress

CLONE = Path(__file__).resolve().parents[1]


def process(*args: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("TINY", "TITO"))}
    return subprocess.run([sys.executable, "-m", "tito", *args], cwd=cwd, env={**kept, **env},
                          text=True, capture_output=True, timeout=60, encoding="utf-8")


# Where you are -----------------------------------------------------------------------------------


def test_alone_in_a_workspace_it_says_where_you_are(learner: Any) -> None:
    lines = learner.tito(code=0).stdout.splitlines()
    assert lines[0].startswith("TinyTorch") and lines[1].split() == ["Foundation", "▸·"]
    assert "0/2 modules, 0/17 points" in lines[3]
    assert lines[4] == "  2 of the course's 3 modules are written so far"
    assert lines[-1] == "Next: tito watch 01"
    data = json.loads(learner.tito("--json", code=0).stdout)
    assert (data["schema"], data["current"], data["completed"]) == (1, "01_tensor", 0)
    assert (data["written"], len(data["modules"])) == (2, 3)


def test_alone_anywhere_else_it_says_how_to_begin(nowhere: Any) -> None:
    lines = nowhere.tito(code=0).stdout.splitlines()
    assert "not in a workspace" in lines[1] and lines[2].startswith("Next: tito init my-torch")
    assert json.loads(nowhere.tito("--json", code=0).stdout)["workspace"] is None


def test_commands_outside_a_workspace_end_with_code_3(nowhere: Any) -> None:
    for command in (["module", "test"], ["hint"], ["watch"], ["notebook", "open"]):
        stderr = nowhere.tito(*command, code=3).stderr.splitlines()
        assert len(stderr) == 2 and stderr[1].startswith("Next: tito init my-torch")


def test_make_start_ends_with_what_is_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TITO_COURSE", "TINYTORCH", "MAKEFLAGS", "MAKELEVEL", "MFLAGS"):
        monkeypatch.delenv(name, raising=False)  # `make test` may be what runs this test
    place, ws = tmp_path / "venv", workspace.Workspace(tmp_path / "my-torch")
    place.mkdir()
    (place / "bin").symlink_to(Path(sys.executable).parent)
    (place / ".learner").touch()
    command = ["make", "-o", f"{place}/.learner", "start", f"VENV={place}", f"WORKSPACE={ws.root}"]

    def last() -> str:
        done = subprocess.run(command, cwd=CLONE, capture_output=True, text=True, check=True)
        return done.stdout.splitlines()[-2]

    source = f"Next: source {place}/bin/activate && cd {ws.root} && tito "
    assert last() == f"{source}watch 01"
    progress = Progress.load(ws)
    progress.module("01_tensor")["completed"] = "2026-01-31T12:00:00Z"
    progress.save(ws)
    assert last() == f"{source}module start 02"


# Mistakes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "suggested"),
    [("modle", "tito module"), ("module tset", "tito module test"), ("dta", "tito data")],
)
def test_misspelt_commands_get_a_suggestion(nowhere: Any, typed: str, suggested: str) -> None:
    lines = nowhere.tito(*typed.split(), code=2).stderr.splitlines()
    assert "did you mean" in lines[0] and lines[1] == f"Next: {suggested}"


@pytest.mark.parametrize("typed", ["xyzzy", "module list --jsn", "init", "init a --format pdf",
                                   "completion tcsh", "data path", "--nonsense"])
def test_usage_errors_are_two_lines_with_code_2(nowhere: Any, typed: str) -> None:
    result = nowhere.tito(*typed.split(), code=2)
    lines = result.stderr.splitlines()
    assert len(lines) == 2 and lines[1].startswith("Next: tito") and result.stdout == ""


def test_group_alone_shows_its_help(nowhere: Any) -> None:
    assert "Commands:" in nowhere.tito("module", code=0).stdout


def test_a_full_disk_is_two_lines_with_code_3(
    learner: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "progress.json")

    monkeypatch.setattr(workspace.Workspace, "write", full)
    lines = learner.tito("hint", "1.1", code=3).stderr.splitlines()
    assert lines == ["progress.json: No space left on device", "Next: tito system doctor"]


def test_ctrl_c_is_code_130(learner: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tito.lesson.test", interrupted)
    assert "Traceback" not in learner.tito("module", "test", code=130).output


def test_reader_that_goes_away_is_no_traceback(learner: Any) -> None:
    command = f"{sys.executable} -m tito module list | head -c 1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert "Traceback" not in done.stderr


# Terminals ---------------------------------------------------------------------------------------


def test_streams_without_utf8_get_ascii(learner: Any) -> None:
    done = process("module", "test", cwd=learner.ws.root, PYTHONIOENCODING="ascii",
                   TITO_COURSE=os.environ["TITO_COURSE"])
    assert done.returncode == 1 and "x.." in done.stdout and done.stdout.isascii()


def test_no_colours_where_there_is_no_terminal(learner: Any) -> None:
    assert "\x1b" not in learner.tito("module", "test", code=1).output


def test_narrow_terminals_are_respected(learner: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    learner.solve(1, Tensor__total="print('x' * 300)\nreturn self.data[0]")
    text = learner.tito("module", "test", code=1).stdout
    assert max(len(line) for line in text.splitlines()[1:]) <= 40
    assert max(len(line) for line in learner.tito("module", "list").stdout.splitlines()) <= 40


# Start-up ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("args", [["--help"], ["module", "status"], [], ["module", "list"]])
def test_quick_commands_import_nothing_heavy(learner: Any, args: list[str]) -> None:
    loaded = modules_after(args)
    assert "tito.cli" in loaded
    assert not loaded & {"numpy", "rich", "psutil", "nbformat", "platformdirs", "tito.sandbox"}


@pytest.mark.parametrize("args", [["module", "status"], ["module", "list"], []])
def test_quick_commands_read_only_what_they_show(learner: Any, args: list[str]) -> None:
    unneeded = {"hashlib", "shutil", "tito.hints", "tito.lesson", "tito.sandbox", "tito.export"}
    assert not modules_after(args) & unneeded


def test_help_imports_no_command() -> None:
    assert not [name for name in modules_after(["--help"]) if name.startswith("tito.commands")]


def modules_after(args: list[str]) -> set[str]:
    """What a process has imported once the command is done."""
    code = "\n".join([
        "import sys", "from tito.cli import cli", "try: cli(sys.argv[1:])",
        "except SystemExit: print(); print(*sys.modules)",
    ])
    done = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True)
    return set(done.stdout.splitlines()[-1].split())


# Documentation -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", root.COMMANDS)
def test_every_command_has_help(name: str) -> None:
    for path, command, _ in pages.commands(name):
        text = CliRunner().invoke(root.cli, [*path, "--help"]).output
        assert command.help and text.isascii(), path
        if len(path) == 1:
            assert command.help.split("\n")[0] == root.COMMANDS[name]
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.help or parameter.required, (path, parameter.name)


def test_every_command_that_the_help_lists_runs_in_a_process_of_its_own(tmp_path: Path) -> None:
    listed = process("--help", cwd=tmp_path).stdout.partition("Commands:")[2]
    names = re.findall(r"^  (\w+)  ", listed, re.M)
    assert names == list(root.COMMANDS)
    for name in names:
        done = process(name, "--help", cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, ""), name
        assert done.stdout.startswith(f"Usage: tito {name} ")


READING = ["", "module list", "module status", "module test", "module path", "system info",
           "system doctor", "data list", "data verify", "data path tinydigits", "hint 1.1 --seen"]


@pytest.mark.parametrize("command", READING)
def test_every_reading_command_speaks_json(
    learner: Any, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "data" in command or "system" in command:
        monkeypatch.delenv("TITO_COURSE")
    stdout = learner.tito(*command.split(), "--json").stdout
    assert json.loads(stdout)["schema"] == 1


_QUOTED = re.compile(r"(?<![\w./-])tito((?: +(?!#|&&|\|)[\w./:\-\[\]]+)+)")


def quoted() -> list[tuple[str, str]]:
    """(file, command line) of every `tito …` in prose, announcements of later releases left out."""
    files = [*CLONE.glob("*.md"), *CLONE.glob("docs/**/*.md"), *CLONE.glob("course/**/*.md"),
             *CLONE.glob("course/**/*.in"), *CLONE.glob("course/modules/*/*.py")]
    found = []
    for file in sorted(files):
        text = re.sub(r".*later release.*", "", file.read_text(encoding="utf-8"))
        code = re.findall(r"```.*?```|`[^`\n]+`", text, re.S)
        for block in code:
            for line in block.splitlines():
                bare = re.split(r"#|\s{3,}", line.strip("` "))[0]
                found += [(file.name, match.strip()) for match in _QUOTED.findall(bare)]
    return found


def test_every_command_quoted_in_prose_exists() -> None:
    wrong = [(file, line) for file, line in quoted() if not parses(line.split())]
    assert len(quoted()) > 10 and wrong == []


def test_every_command_that_messages_suggest_exists() -> None:
    for file in (CLONE / "src").rglob("*.py"):
        for words in re.findall(r"Next: tito ((?:[a-z]+ ?)+)", file.read_text(encoding="utf-8")):
            first, *rest = words.split()
            known = {path[1:] for path, _, _ in pages.commands(first)}
            assert len(known) == 1 or not rest or (rest[0],) in known, (file.name, words)


def parses(words: list[str]) -> bool:
    """Whether click knows the command and its options, and takes that many arguments."""
    context = click.Context(root.cli, info_name="tito")
    command: click.Command = root.cli
    words = [word for word in words if not re.fullmatch(r"\[.*\]", word)]
    while isinstance(command, click.Group) and words and words[0][0] != "-":
        found = command.get_command(context, words.pop(0))
        if found is None:
            return False
        command = found
    try:
        inner = click.Context(command, context)
        values, left, _ = command.make_parser(inner).parse_args(list(words))
    except click.UsageError:
        return False
    kinds = {parameter.name: parameter.type for parameter in command.params}
    return not left and all(
        value in kind.choices for name, value in values.items()
        if isinstance(kind := kinds.get(name), click.Choice) and isinstance(value, str)
    )
