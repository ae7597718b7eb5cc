"""2017 by itself: its judge against the framework, torch and hand counts; Shakespeare made up."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from tito import course, data, judge, stage
from tito.data import Talks
from tito.judge import Made, Options, Part

pytestmark = pytest.mark.usefixtures("one_thread")
HERE = course.find_milestone("2017").folder
ODD = ["What  is ReLU?", "na\u00efve caf\u00e9 \U0001f642", "a_b 42,  7\n\n x\t", "<end>", "", " "]


@pytest.fixture(scope="module")
def run() -> ModuleType:
    return stage.load(HERE / "run.py")


@pytest.fixture(scope="module")
def gate() -> ModuleType:
    return stage.load(HERE / "gate.py")


@pytest.fixture(scope="module")
def talked(run: ModuleType, gate: ModuleType) -> tuple[Part, Made]:
    """One epoch on 52 of the 500 facts."""
    talks, topics = data.load_tinytalks(), ("letters", "lists", "colours")
    few = Talks(*([pair for pair in split if pair.topic in topics] for split in talks))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "load_tinytalks", lambda: few)
        [part] = gate.parts(Options(data="tinytalks"))
    left = run.talks(part.x, part.y, epochs=1)
    outputs = run.predict(left["model"], part.held_out)
    return part, Made(left["before"], left["model"].state_dict(), outputs, left["history"])


@pytest.fixture
def plays(gate: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Part:
    """12,000 characters that repeat themselves."""
    words = "to be or not to be, that is the question:\nwhether it is nobler".split(" ")
    rng = np.random.default_rng(0)
    text = " ".join(words[i] for i in rng.integers(len(words), size=4000))[:12000]
    (tmp_path / "input.txt").write_bytes(text.encode())
    path = data.path
    monkeypatch.setattr(data, "path", lambda n: tmp_path if n == "shakespeare" else path(n))
    [part] = gate.parts(Options(data="shakespeare"))
    return part


def failing(gate: ModuleType, part: Part, made: Made) -> judge.Finding:
    return next(finding for finding in gate.verdict(part, made) if not finding.ok)


# The parts ---------------------------------------------------------------------------------------


def test_parts_are_what_was_asked_for(gate: ModuleType, plays: Part, monkeypatch: Any) -> None:
    def names(**options: Any) -> list[str]:
        return [part.name for part in gate.parts(Options(**options))]

    assert names(data="tinytalks") == names(data="auto") == names(data="tinytalks", long=True)
    assert names(data="shakespeare") == ["shakespeare"]
    monkeypatch.setattr(gate, "_here", lambda: True)
    assert names(long=True) == ["tinytalks", "shakespeare"]
    assert gate.notes(Options()) and not gate.notes(Options(data="tinytalks"))


def test_answers_are_not_among_what_is_handed_over(gate: ModuleType, plays: Part) -> None:
    [part] = gate.parts(Options(data="tinytalks"))
    assert len(part.x) == len(part.y) == 2700 and len(part.held_out) == len(part.answers) == 300
    assert not set(part.held_out) & set(part.x)
    assert len(plays.x) == 10800 and len(plays.answers) == 1200


# Tokens, counted by hand and by the framework ---------------------------------------------------


def test_tokens_are_those_of_the_framework(run: ModuleType, gate: ModuleType) -> None:
    talks = data.load_tinytalks()
    text = "\n".join(word for pair in talks.train for word in pair[:2])
    theirs = run.BPETokenizer.train(text, 512, ["<answer>", "<end>"])
    ours = gate.Tokens(np.array(list(theirs.merges)))
    for line in [*ODD, *(pair.question for pair in talks.test), *(p.answer for p in talks.test)]:
        ids = ours.encode(line)
        assert ids == theirs.encode(line) and ours.decode(ids) == line
    assert (ours.answer, ours.end) == (510, 511)


def test_merge_out_of_order_is_found(gate: ModuleType) -> None:
    texts = ["ab ab ab abc abc d"]
    right = np.array([(97, 98), (32, 256), (257, 99)])
    assert gate.learned_in_order(texts, right) is None
    wrong = np.array([(97, 98), (256, 99), (32, 256)])
    assert gate.learned_in_order(texts, wrong) == (
        1, "b' ' and b'ab', 4 times", "b'ab' and b'c', 2 times"
    )  # fmt: skip


def test_bigram_counts_by_hand(gate: ModuleType) -> None:
    known = gate.Texts(np.array([[0, 1, 0, 1]]), np.array([[1, 0, 1, 2]]))
    held_out = gate.Texts(np.array([[0, 1]]), np.array([[1, 0]]))
    # 0 -> 1 twice of 2, 1 -> 0 once of 2; a share s is added to each of 3 counts. The best of the
    # shares is the smallest: all that is asked was seen.
    share = 0.003
    expected = -np.log((2 + share) / (2 + 3 * share)) - np.log((1 + share) / (2 + 3 * share))
    assert gate.bigram(known, held_out, 3) == pytest.approx(expected / 2)


# The network -------------------------------------------------------------------------------------


def shaken(state: dict[str, Any]) -> dict[str, Any]:
    """Weights far from where a training begins, so that every part matters."""
    rng = np.random.default_rng(3)
    return {n: a if n == "merges" else a + rng.normal(0, 0.1, a.shape).astype(np.float32)
            for n, a in state.items()}  # fmt: skip


def test_judge_computes_what_the_framework_says(
    run: ModuleType, gate: ModuleType, talked: tuple[Part, Made]
) -> None:
    state = shaken(talked[1].after)
    state["gpt.head.weight"] = state["gpt.embedding.weight"]
    net = run.restore(state).eval()
    tokens = np.random.default_rng(0).integers(0, 512, (3, 20))
    logits = net(run.Tensor(tokens)).data
    np.testing.assert_allclose(gate.run(tokens, state)[0], logits, rtol=1e-3, atol=1e-3)


def test_maps_are_those_of_torch(gate: ModuleType) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 5, 8)).astype(np.float32)
    weights = {f"a.{n}.weight": rng.normal(size=(8, 8)).astype(np.float32)
               for n in ("query", "key")}  # fmt: skip
    q, k = (
        torch.tensor(x @ weights[f"a.{n}.weight"].T).view(2, 5, 4, 2).transpose(1, 2)
        for n in ("query", "key")
    )
    eye = torch.eye(5).expand(2, 4, 5, 5)
    theirs = torch.nn.functional.scaled_dot_product_attention(q, k, eye, is_causal=True)
    np.testing.assert_allclose(gate.maps(x, weights, "a"), theirs.numpy(), atol=1e-5)
    uniform = gate.maps(x, weights, "a", "choice")
    np.testing.assert_allclose(uniform[0, 0], np.tri(5) / np.arange(1, 6)[:, None], atol=1e-6)


def test_switches_switch_off_what_they_say(gate: ModuleType, talked: tuple[Part, Made]) -> None:
    state = shaken(talked[1].after)
    one, two = np.array([[5, 6, 7, 8]]), np.array([[5, 6, 9, 8]])

    def first(tokens: Any, without: str) -> Any:
        return gate.run(tokens, state, without)[0][0, 1]

    for switch in ("", "attention", "choice", "positions"):
        np.testing.assert_allclose(first(one, switch), first(two, switch), atol=1e-5)
    assert np.abs(first(one, "mask") - first(two, "mask")).max() > 1e-2
    swapped = np.array([[6, 5, 7, 8]])
    for switch, same in (("attention", True), ("", False)):
        gap = np.abs(gate.run(one, state, switch)[0] - gate.run(swapped, state, switch)[0])[0, -1]
        assert bool(gap.max() < 1e-5) is same


def test_gelu_of_the_judges_is_torchs() -> None:
    x = np.linspace(-8, 8, 1001).astype(np.float32)
    theirs = torch.nn.functional.gelu(torch.tensor(x)).numpy()
    np.testing.assert_allclose(judge.gelu(x), theirs, atol=2e-6)


# Judging -----------------------------------------------------------------------------------------


def test_one_epoch_holds_up_to_the_figures(gate: ModuleType, talked: tuple[Part, Made]) -> None:
    found = failing(gate, *talked)
    assert found.value is not None and not found.name.startswith("claim")
    assert len(gate.sample(*talked)) == 10


def spoiled(made: Made, **arrays: Any) -> Made:
    return replace(made, after={**made.after, **arrays})


def test_what_does_not_hold_is_found_and_its_module_named(
    gate: ModuleType, talked: tuple[Part, Made]
) -> None:
    part, made = talked
    key = "gpt.blocks.1.attention.key.weight"
    place, head, other = "gpt.positions.weight", "gpt.head.weight", made.outputs.copy()
    asked = (other[0] == gate.Tokens(made.after["merges"]).answer).argmax()
    other[0, asked + 1] = (other[0, asked + 1] + 1) % 256
    typed, short = made.outputs.copy(), made.outputs.copy()
    typed[0, :2], short[0, asked + 3 :] = typed[0, 1::-1], -1
    cases = [
        ("weights", "10_tokenization", spoiled(made, merges=np.zeros((3, 2)))),
        ("moved", "11_embeddings", spoiled(made, **{place: made.before[place]})),
        ("attention rows", "12_attention", spoiled(made, **{key: 0.9 * made.before[key]})),
        ("tied", "13_transformers", spoiled(made, **{head: 1.01 * made.after[head]})),
        ("merges", "10_tokenization", spoiled(made, merges=made.after["merges"][::-1])),
        ("tokens", "10_tokenization", replace(made, outputs=typed)),
        ("outputs", "13_transformers", replace(made, outputs=other)),
        ("outputs", "13_transformers", replace(made, outputs=short)),
        ("claim loss", "07_training", replace(made, history={**made.history, "val_loss": [1.0]})),
        ("claim tokens", "13_transformers",
         replace(made, history={**made.history, "val_tokens_right": [0.99]})),
    ]  # fmt: skip
    for name, guilty, bad in cases:
        found = failing(gate, part, bad)
        assert (found.name, found.guilty) == (name, guilty)


@pytest.mark.parametrize("switch", ["attention", "choice", "mask", "positions"])
def test_loss_of_a_network_without_a_part_names_that_part(
    gate: ModuleType, talked: tuple[Part, Made], switch: str
) -> None:
    part, made = talked
    factors = {"attention": 6, "positions": 6, "embedding": 10, "head": 10, "gpt.norm.weight": 0.4}
    large = {name: array * next((f for part, f in factors.items() if part in name), 1)
             for name, array in shaken(made.after).items()}  # fmt: skip
    large["gpt.head.weight"] = large["gpt.embedding.weight"]
    made = spoiled(made, **large)
    kept = gate.texts_of(part, made.after)[1]
    said = float(kept.losses(made.after, switch).mean())
    assert abs(said - float(kept.losses(made.after).mean())) > 0.1
    told = replace(made, history={**made.history, "val_loss": [said]})
    found = next(f for f in gate.verdict(part, told) if f.name == "claim loss")
    assert not found.ok and found.guilty == gate.SWITCHES[switch]
    assert gate.WITHOUT[switch] in found.why


def test_pictures_are_drawn(talked: tuple[Part, Made], tmp_path: Path) -> None:
    draw = stage.load(HERE / "pictures.py").draw
    paths = draw({"tinytalks": talked}, tmp_path)
    assert [path.name for path in paths] == [
        "curves.png", "tinytalks_parts.png", "tinytalks_attention.png"
    ]  # fmt: skip
    assert all(path.stat().st_size > 5000 for path in paths)


# Talking -----------------------------------------------------------------------------------------


def test_restored_network_says_the_same_piece_by_piece(
    run: ModuleType, talked: tuple[Part, Made]
) -> None:
    part, made = talked
    net = run.restore(made.after).eval()
    pieces = list(run.speak(net, str(part.held_out[0])))
    assert len(pieces) > 3 and "".join(pieces) == net.answer(part.held_out[0])
    hot = ["".join(run.speak(net, "hello", 1.5, seed)) for seed in (1, 1, 2)]
    assert hot[0] == hot[1] != hot[2]


def test_any_question_can_be_asked(run: ModuleType, talked: tuple[Part, Made]) -> None:
    net = run.restore(talked[1].after).eval()
    for question in [*ODD, "why " * 300]:
        said = "".join(run.speak(net, question))
        assert isinstance(said, str) and "<end>" not in said


# Shakespeare -------------------------------------------------------------------------------------


def test_plays_are_learned_judged_and_resumed(
    run: ModuleType, gate: ModuleType, plays: Part, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(run.PLAYS, "layers", 1)
    monkeypatch.setitem(gate.LAYERS, "shakespeare", 1)
    whole = run.shakespeare(plays.x, plays.y, epochs=2)
    outputs = run.predict(whole["model"], plays.held_out)
    after = whole["model"].state_dict()
    made = Made(whole["before"], after, outputs, whole["history"])
    found = list(gate.verdict(plays, made))
    assert [f.name for f in found if not f.ok and f.value is None] == []
    assert len(gate.sample(plays, made)) >= 1

    checkpoint, steps = tmp_path / "run.ckpt", run.Trainer.save
    monkeypatch.setattr(run.Trainer, "save", lambda self, path: (steps(self, path), 1 / 0))
    with pytest.raises(ZeroDivisionError):
        run.shakespeare(plays.x, plays.y, epochs=2, checkpoint=checkpoint)
    monkeypatch.setattr(run.Trainer, "save", steps)
    resumed = run.shakespeare(plays.x, plays.y, epochs=2, checkpoint=checkpoint)
    assert resumed["history"] == whole["history"]
    np.testing.assert_array_equal(
        resumed["model"].state_dict()["gpt.head.weight"], after["gpt.head.weight"]
    )
