"""`tito milestone chat`: answers, streams, pipes, and what goes wrong. The network is untrained."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.numpy
from click.testing import CliRunner, Result

from tests.workspaces import broken, built
from tito import chat, course, milestones, stage, workspace
from tito.cli import cli
from tito.workspace import Workspace

MILESTONE = course.find_milestone("2017")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """All modules built, and a record with the weights of a network that learned nothing yet."""
    ws = built(tmp_path_factory.mktemp("chat") / "my-torch", last=13)
    run, place = stage.load(MILESTONE.folder / "run.py"), milestones.folder(ws, MILESTONE)
    run.manual_seed(0)
    net = run.Talker(run.BPETokenizer.train("what is a tensor " * 3, 264, [run.ANSWER, run.END]))
    weights = {f"tinytalks/after/{n}": a.copy() for n, a in net.state_dict().items()}
    ws.write(place / "weights.safetensors", safetensors.numpy.save(weights))
    record = {"schema": milestones.SCHEMA, "options": {}, "parts": {"tinytalks": {}}}
    ws.write(place / "record.json", json.dumps(record))
    return ws


@pytest.fixture
def ws(shared: Workspace, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    for name in ("TINYTORCH", "TINYTORCH_UPTO", "TITO_COURSE", "TINYTORCH_DATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.chdir(shared.root)
    return shared


def talk(*args: str, typed: str = "", code: int = 0) -> Result:
    result = CliRunner().invoke(cli, ["milestone", "chat", *args], input=typed)
    assert result.exception is None or isinstance(result.exception, SystemExit), result
    assert result.exit_code == code, result.output
    return result


def test_question_of_many_words_is_answered_alone_on_stdout(ws: Workspace) -> None:
    result = talk("What", "is", "a", "tensor?")
    assert len(result.stdout.splitlines()) == 1 and len(result.stdout) > 5
    assert result.stderr.startswith("tinytorch: student (")
    assert result.stderr.splitlines()[-1].startswith("Next: tito ")
    assert talk("What is a tensor?").stdout == result.stdout


def test_questions_are_read_line_by_line_until_quit(ws: Workspace) -> None:
    lines = talk(typed="What is a tensor?\n\n  and a view?  \nquit\nnever\n").stdout.splitlines()
    assert lines == [talk(q).stdout.strip("\n") for q in ("What is a tensor?", "and a view?")]
    assert talk(typed="").stdout == ""


def test_json_holds_questions_and_answers(ws: Workspace) -> None:
    data = json.loads(talk("--json", typed="one\ntwo\n").stdout)
    assert data["schema"] == 1 and [t["question"] for t in data["talk"]] == ["one", "two"]
    assert all(t["answer"] for t in data["talk"]) and data["next"].startswith("tito ")


def test_temperature_draws_and_a_seed_draws_again(ws: Workspace) -> None:
    said = [talk("hello", "--temperature", "2", "--seed", seed).stdout for seed in "112"]
    assert said[0] == said[1] != said[2]
    assert all(character.isprintable() for character in said[0].strip("\n"))
    assert "0<=x<=5" in talk("hello", "--temperature", "9", code=2).output


def test_answer_comes_piece_by_piece(ws: Workspace) -> None:
    with chat.Talker(ws) as talker:
        pieces = list(talker.ask("What is a tensor?"))
        assert len(pieces) > 3 and "".join(pieces) == "".join(talker.ask("What is a tensor?"))
    assert talker.process.returncode is not None


def test_nobody_to_talk_to_yet(ws: Workspace, tmp_path: Path) -> None:
    record = milestones.folder(ws, MILESTONE) / "record.json"
    kept = record.read_bytes()
    for text in (b"", kept.replace(b"tinytalks", b"shakespeare")):
        record.write_bytes(text)
        lines = talk("hello", code=2).stderr.splitlines()
        assert "nobody to talk to yet" in lines[0] and lines[1] == "Next: tito milestone run 2017"
    record.write_bytes(kept)


def test_locked_milestone_names_the_module(
    tmp_path: Path, ws: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    early = workspace.init(tmp_path / "early")
    monkeypatch.chdir(early.root)
    lines = talk("hello", code=2).stderr.splitlines()
    assert "built on 01_tensor" in lines[0] and lines[1].startswith("Next: tito module start")


def test_error_in_the_framework_names_file_and_module(ws: Workspace) -> None:
    code = (
        "def generate(*args, **options):\n    print('mine')\n    raise IndexError('one too far')\n"
    )
    with broken(ws, "nn.transformer", code):
        result = talk("hello", code=1)
    assert "IndexError: one too far" in result.stdout and "nn/transformer.py" in result.stdout
    assert result.stdout.splitlines()[-1] == "Next: tito module test 13"
    with broken(ws, "text.tokenizer", "BPETokenizer.decode = None"):
        assert "TypeError" in talk("hello", code=1).stdout
    with broken(ws, "nn.transformer", "import os; os._exit(3)"):
        assert "Python stopped here" in talk("hello", code=1).stdout


def test_answer_that_never_ends_is_stopped(ws: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat, "PATIENCE", 2.0)
    with broken(ws, "nn.transformer", "def generate(*args, **options):\n    while True: pass\n"):
        assert "no whole answer in 2 s" in talk("hello", code=1).stdout


def test_what_the_framework_prints_is_no_answer(ws: Workspace) -> None:
    code = (
        "_quiet = GPT.forward\nGPT.forward = lambda self, t: (print('noise'), _quiet(self, t))[1]\n"
    )
    with broken(ws, "nn.transformer", code):
        noisy = subprocess.run(
            [sys.executable, "-m", "tito", "milestone", "chat", "hello"],
            cwd=ws.root, env={**os.environ}, capture_output=True, text=True, encoding="utf-8",
        )  # fmt: skip
    assert noisy.returncode == 0 and "noise" in noisy.stderr
    assert noisy.stdout == talk("hello").stdout
