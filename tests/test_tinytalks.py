"""TinyTalks: it can be made again byte for byte, its splits are what the datasheet promises."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from tito import data
from tito.course import course_dir

FOLDER = course_dir() / "data" / "tinytalks"
TALKS = data.load_tinytalks()
EVERYTHING = [pair for split in TALKS for pair in split]
NUMBERS = "zero one two three four five six seven eight nine ten eleven twelve".split()


def plain(text: str) -> str:
    """Without case and punctuation."""
    return " ".join(re.findall(r"[a-z0-9]+", text.lower()))


def answer_to(fact: str) -> str:
    return next(pair.answer for pair in EVERYTHING if pair.fact == fact)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return shutil.copytree(FOLDER, tmp_path / "tinytalks")


def run_build(folder: Path, *options: str, code: int = 0) -> str:
    done = subprocess.run([sys.executable, str(folder / "build.py"), *options], text=True,
                          capture_output=True, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"})
    assert done.returncode == code, done.stderr
    return done.stdout


# The recipe


def test_tinytalks_recipe_gives_the_shipped_bytes(copy: Path) -> None:
    for file in data.DATASETS["tinytalks"].files:
        (copy / file.name).unlink()
    run_build(copy)
    datasheet = (FOLDER / "README.md").read_text(encoding="utf-8")
    for file in data.DATASETS["tinytalks"].files:
        digest = hashlib.sha256((copy / file.name).read_bytes()).hexdigest()
        assert digest == file.sha256 and digest in datasheet


def test_tinytalks_check_measures_what_the_datasheet_says(copy: Path) -> None:
    printed = run_build(copy, "--check")
    datasheet = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert printed.split("as shipped\n")[1] in datasheet
    with (copy / "test.jsonl").open("a") as file:
        file.write("{}\n")
    assert "NOT what is shipped" in run_build(copy, "--check", code=1)


@pytest.mark.parametrize(("row", "wording"), [
    ("France | Paris | Europe\nFrance | Lyon | Europe", "502 facts with 500 names"),
    ("France | Par{is | Europe", "strange character"),
    (f"France | {'Par' * 40}is | Europe", "too long"),
])
def test_tinytalks_recipe_refuses_a_careless_table(copy: Path, row: str, wording: str) -> None:
    tables = (copy / "facts.toml").read_text(encoding="utf-8")
    (copy / "facts.toml").write_text(tables.replace("France | Paris | Europe", row))
    done = subprocess.run([sys.executable, str(copy / "build.py")], capture_output=True, text=True)
    assert done.returncode == 1 and wording in done.stderr


# The splits


def test_tinytalks_sizes_and_alphabet() -> None:
    assert [len(split) for split in TALKS] == [2400, 300, 300]
    assert sum(file.size for file in data.DATASETS["tinytalks"].files) < 1_000_000
    for pair in EVERYTHING:
        assert len(pair.question) <= 80 and len(pair.answer) <= 120
        assert (pair.question + pair.answer).isascii() and pair.answer[-1] in ".?!"
    assert len(set("".join(pair.question + pair.answer for pair in EVERYTHING))) == 64


def test_tinytalks_facts_have_one_answer_and_six_phrasings() -> None:
    answers, phrasings = defaultdict(set), Counter(pair.fact for pair in EVERYTHING)
    for pair in EVERYTHING:
        answers[pair.fact].add((pair.answer, pair.topic))
    assert len(answers) == 500 and set(phrasings.values()) == {6}
    assert all(len(given) == 1 for given in answers.values())
    assert set(Counter(pair.fact for pair in TALKS.train).values()) == {4, 5}
    assert {pair.fact for pair in TALKS.validation + TALKS.test} == set(answers)


def test_tinytalks_no_question_occurs_twice() -> None:
    assert len({plain(pair.question) for pair in EVERYTHING}) == 3000


def test_tinytalks_topics_are_many_and_none_dominates() -> None:
    topics = Counter(pair.topic for pair in EVERYTHING)
    assert len(topics) == 20 and max(topics.values()) < 0.15 * 3000
    for split in (TALKS.validation, TALKS.test):
        assert {pair.topic for pair in split} == set(topics)


def test_tinytalks_held_out_words_are_known_from_training() -> None:
    known = {word for pair in TALKS.train for word in plain(pair.question).split()}
    held = TALKS.validation + TALKS.test
    asked = [word for pair in held for word in plain(pair.question).split()]
    assert sum(word in known for word in asked) / len(asked) > 0.99


def test_tinytalks_words_in_another_order_have_another_answer() -> None:
    answers = defaultdict(set)
    for pair in EVERYTHING:
        answers[" ".join(sorted(plain(pair.question).split()))].add(pair.answer)
    assert sum(len(given) > 1 for given in answers.values()) > 100


# The answers


def test_tinytalks_arithmetic_is_right() -> None:
    """Worked example: the fact sum-two-three is answered "Two plus three is five."."""
    signs = {"plus": int.__add__, "minus": int.__sub__, "times": int.__mul__}
    sums = {pair.answer for pair in EVERYTHING if pair.topic == "arithmetic"}
    assert "Two plus three is five." in sums and len(sums) == 50
    for answer in sums:
        a, sign, b, is_, c = answer.lower().rstrip(".").split()
        assert signs[sign](NUMBERS.index(a), NUMBERS.index(b)) == NUMBERS.index(c) and is_ == "is"


def test_tinytalks_calendar_agrees_with_the_standard_library() -> None:
    import calendar

    rounds = [list(calendar.day_name), list(calendar.month_name)[1:]]
    sequences = {pair.answer for pair in EVERYTHING if pair.topic == "sequences"}
    expected = {f"{names[(i + 1) % len(names)]} comes after {name}." for names in rounds
                for i, name in enumerate(names)}
    expected |= {f"{names[i - 1]} comes before {name}." for names in rounds
                 for i, name in enumerate(names)}
    assert sequences == expected


def test_tinytalks_spelling_is_right() -> None:
    for pair in EVERYTHING:
        if pair.fact.startswith("spell-"):
            word = pair.fact.removeprefix("spell-")
            assert pair.answer == f"The word {word} is spelled {', '.join(word.upper())}."


def test_tinytalks_counts_are_those_of_numpy() -> None:
    import numpy as np

    for kind in ("float32", "float64"):
        size = NUMBERS[np.dtype(kind).itemsize]
        answer = answer_to(f"count-bytes-{kind}-number")
        assert answer == f"A {kind} number has {size} bytes."


# Reading


def test_load_tinytalks_names_what_is_damaged(copy: Path) -> None:
    def problem(name: str, content: bytes) -> str:
        whole = (copy / name).read_bytes()
        (copy / name).write_bytes(content)
        with pytest.raises(data.DataError) as caught:
            data.load_tinytalks(copy)
        (copy / name).write_bytes(whole)
        assert name in caught.value.what and str(copy) in caught.value.what
        return caught.value.what

    assert data.load_tinytalks(copy) == TALKS
    whole = (copy / "train.jsonl").read_bytes()
    assert f"expected {len(whole):,}" in problem("train.jsonl", whole[:-1])
    assert "line 1, is not" in problem("train.jsonl", b"x" + whole[1:])
    assert "other bytes" in problem("train.jsonl", whole.replace(b"tensor", b"sensor"))
    short = (copy / "test.jsonl").read_bytes()
    line = json.dumps({"question": 1, "answer": "", "topic": "", "fact": ""}).encode() + b"\n"
    padded = line + b" " * (len(short) - len(line) - 1) + b"\n"
    assert "is no text" in problem("test.jsonl", padded)
    (copy / "validation.jsonl").unlink()
    with pytest.raises(data.DataError, match=r"validation\.jsonl is missing"):
        data.load_tinytalks(copy)
