"""TinyTalks: 3,000 questions and answers about 500 facts, six phrasings of each, from facts.toml.

    python course/data/tinytalks/build.py           # writes the three .jsonl files beside this file
    python course/data/tinytalks/build.py --check   # rebuilds, compares bytes, measures
    python course/data/tinytalks/build.py --show 20 # prints 20 pairs at random; a seed may follow

For authors only: needs numpy. Learners read the .jsonl files.

Every fact has one answer and keeps six of the phrasings that facts.toml has for it. One or two of
the six are held out, so a question to validate or test with is a new phrasing of a known fact, in a
form of words that other facts were asked in. What looks random is an order by SHA-256, the same on
every machine and in every Python.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
import sys
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

SEED = 2017
FACTS, PHRASINGS = 500, 6
HELD_OUT = (("validation", "test"), ("validation",), ("test",), ("validation",), ("test",))
SPLITS = ("train", "validation", "test")
CASUAL = 0.2  # share of the questions that are typed in a hurry
QUESTION_LIMIT, ANSWER_LIMIT = 80, 120  # characters

NUMBERS = "zero one two three four five six seven eight nine ten eleven twelve".split()
HERE = Path(__file__).parent


class Pair(NamedTuple):
    question: str
    answer: str
    topic: str
    fact: str


class Phrasing(NamedTuple):
    """One pair, the split it belongs to and the template its question was made from."""

    split: str
    template: str
    pair: Pair


class Fact(NamedTuple):
    """One answer and every way to ask for it: pairs of a template and the question it gives."""

    name: str
    topic: str
    answer: str
    asks: list[tuple[str, str]]


class Cell(str):
    """A cell of a table; `{x:bare}` is it without its a or an, `{x:digit}` a number in digits."""

    __slots__ = ()

    def __format__(self, spec: str) -> str:
        if spec == "bare":
            return re.sub("^an? ", "", self)
        if spec == "digit":
            return str(NUMBERS.index(self))
        return str(self)


Row = dict[str, Cell]


def main() -> None:
    pairs = build()
    files = {split: encode(pairs[split]) for split in SPLITS}
    if "--show" in sys.argv:
        return show(pairs, *map(int, sys.argv[2:]))
    if "--check" not in sys.argv:
        for split, data in files.items():
            path_of(split).write_bytes(data)
    same = all(path_of(split).read_bytes() == data for split, data in files.items())
    for split, data in files.items():
        print(f"{hashlib.sha256(data).hexdigest()}  {split}.jsonl  {len(data):,} bytes")
    print("as shipped" if same else "NOT what is shipped")
    if "--check" in sys.argv:
        measure(pairs)
        sys.exit(not same)


def build() -> dict[str, list[Pair]]:
    """The three splits, each in a fixed random order. Raises: ValueError for a careless table."""
    facts = read_facts(tomllib.loads((HERE / "facts.toml").read_text(encoding="utf-8")))
    names = {fact.name for fact in facts}
    if not len(facts) == len(names) == FACTS:
        raise ValueError(f"{len(facts)} facts with {len(names)} names, expected {FACTS} of each")
    chosen = [
        phrasing
        for number, fact in enumerate(facts)
        for phrasing in choose(fact, HELD_OUT[number % len(HELD_OUT)])
    ]
    check(chosen)
    return {split: shuffled(one.pair for one in chosen if one.split == split) for split in SPLITS}


def choose(fact: Fact, held: tuple[str, ...]) -> Iterator[Phrasing]:
    """Six phrasings of a fact: the first for the splits in `held`, the others to train on."""
    for place, (template, question) in enumerate(shuffled(fact.asks, fact.name)[:PHRASINGS]):
        pair = Pair(casual(question), fact.answer, fact.topic, fact.name)
        yield Phrasing(held[place] if place < len(held) else "train", template, pair)


def shuffled(items: Iterable[Any], salt: str = "") -> list[Any]:
    """The items in an order that depends on them, the seed and the salt, and on nothing else."""
    return sorted(items, key=lambda item: chance(f"{salt} {json.dumps(item)}"))


def chance(text: str) -> float:
    """A number in [0, 1) that looks random and is always the same for the same text."""
    digest = hashlib.sha256(f"{SEED} {text}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


# From tables to facts


def read_facts(source: dict[str, Any]) -> list[Fact]:
    """Every fact of facts.toml: those of the relations, then those that stand alone."""
    tables = {name: list(rows_of(text)) for name, text in source["tables"].items()}
    tables |= made_tables(source["words"])
    facts = [fact for relation in source["relations"] for fact in related(relation, tables)]
    return facts + [
        Fact(one["name"], one["topic"], one["answer"], [(ask, ask) for ask in one["asks"]])
        for one in source["facts"]
    ]


def rows_of(text: str) -> Iterator[Row]:
    """The rows of a table, a header line first; `-` is an empty cell, which a row leaves out."""
    header, *lines = (re.split(r" *\| *", line) for line in text.strip().splitlines())
    for line in lines:
        yield {name: Cell(cell) for name, cell in zip(header, line, strict=True) if cell != "-"}


def made_tables(words: dict[str, str]) -> dict[str, list[Row]]:
    """Tables that are quicker to compute than to type: neighbours, letters, arithmetic."""
    return {
        "days": neighbours(words["days"].split()),
        "months": neighbours(words["months"].split()),
        "spelled": [letters(word) for word in words["spelled"].split()],
        "sums": [numbers(a, b, a + b) for a in range(1, 6) for b in range(1, 6)],
        "differences": [numbers(a, b, a - b) for a in range(2, 7) for b in range(1, a)],
        "products": [numbers(a, b, a * b) for a in range(2, 6) for b in range(2, 6) if a * b < 13],
    }


def neighbours(items: list[str]) -> list[Row]:
    """Each item with the one before and the one after it; the last meets the first."""
    following = items[1:] + items[:1]
    preceding = items[-1:] + items[:-1]
    return [
        row(last=last, item=item, next=next)
        for last, item, next in zip(preceding, items, following, strict=True)
    ]


def letters(word: str) -> Row:
    capitals = word.upper()
    return row(word=word, letters=", ".join(capitals), start=capitals[0], end=capitals[-1])


def numbers(a: int, b: int, c: int) -> Row:
    return row(a=NUMBERS[a], b=NUMBERS[b], c=NUMBERS[c])


def row(**cells: str) -> Row:
    return {name: Cell(cell) for name, cell in cells.items()}


def related(relation: dict[str, Any], tables: dict[str, list[Row]]) -> Iterator[Fact]:
    """A relation's facts: one for every row of its table that has all the cells it needs."""
    rows = tables[relation["table"]]
    if relation.get("mirror"):
        rows = rows + [dict(zip(row, reversed(row.values()), strict=True)) for row in rows]
    needed = set(re.findall(r"{(\w+)", " ".join([relation["answer"], *relation["asks"]])))
    for row in rows:
        if needed <= set(row):
            key = relation["key"].format(**row) if "key" in relation else next(iter(row.values()))
            yield Fact(
                slug(f"{relation['name']} {key}"),
                relation["topic"],
                sentence(relation["answer"].format(**row)),
                [(ask, sentence(ask.format(**row))) for ask in relation["asks"]],
            )


def slug(text: str) -> str:
    """A name for a fact: lower case, one hyphen between words, without articles."""
    words = re.findall(r"[a-z0-9]+", text.lower())
    return "-".join(word for word in words if word not in ("a", "an", "the"))


def sentence(text: str) -> str:
    return text[0].upper() + text[1:]


def casual(question: str) -> str:
    """The question as it is or, now and then, as people type it in a hurry."""
    draw = chance(f"casual {question}") / CASUAL
    if draw >= 1:
        return question
    bare = question.lower().rstrip("?.!")
    if draw < 0.15 and question.startswith(("What ", "Name ", "Tell ", "Give ", "How ")):
        return f"{bare} pls"
    return f"hey, {bare}" if draw > 0.9 else bare


# What must hold


def check(phrasings: list[Phrasing]) -> None:
    """Raises ValueError for a question that is careless, occurs twice or comes from nowhere."""
    seen: dict[str, Pair] = {}
    for _, _, pair in phrasings:
        if not fits(pair):
            raise ValueError(f"too long, or with a strange character: {pair}")
        if seen.setdefault(plain(pair.question), pair) is not pair:
            raise ValueError(f"the same question twice: {pair} and {seen[plain(pair.question)]}")
    trained = {(one.template, one.pair.fact) for one in phrasings if one.split == "train"}
    for split, template, pair in phrasings:
        others = {fact for known, fact in trained if known == template and fact != pair.fact}
        if split != "train" and "{" in template and not others:
            raise ValueError(f"no other fact is asked for in this way in training: {pair}")


def fits(pair: Pair) -> bool:
    text = pair.question + pair.answer
    return (
        len(pair.question) <= QUESTION_LIMIT
        and len(pair.answer) <= ANSWER_LIMIT
        and text.isascii()
        and text.isprintable()
        and not set("{}|") & set(text)
    )


def plain(text: str) -> str:
    """Lower case, without punctuation."""
    return " ".join(re.findall(r"[a-z0-9]+", text.lower()))


def path_of(split: str) -> Path:
    return HERE / f"{split}.jsonl"


def encode(pairs: list[Pair]) -> bytes:
    return "".join(json.dumps(pair._asdict()) + "\n" for pair in pairs).encode()


# Looking at it


def show(pairs: dict[str, list[Pair]], count: int, seed: int = 0) -> None:
    """Print `count` pairs drawn from all three splits."""
    everything = [(split, pair) for split in SPLITS for pair in pairs[split]]
    for split, pair in random.Random(seed).sample(everything, count):
        print(f"[{pair.topic}, {split}] {pair.question}\n    {pair.answer}")


def measure(pairs: dict[str, list[Pair]]) -> None:
    """Print what the datasheet says: vocabulary, lengths, counts, and what baselines reach."""
    everything = [pair for split in SPLITS for pair in pairs[split]]
    text = "\n".join(pair.question + "\n" + pair.answer for pair in everything)
    signs = "".join(sorted(set(text)))
    print(f"{len(set(plain(text).split())):,} words, {len(signs)} characters: {signs!r}")
    for part in ("question", "answer"):
        lengths = [len(getattr(pair, part)) for pair in everything]
        print(f"{part}: {np.mean(lengths):.1f} characters on average, at most {max(lengths)}")
    for split in ("validation", "test"):
        print(
            f"{split}: most frequent answer {frequent(pairs['train'], pairs[split]):.1%}, "
            f"nearest question {nearest(pairs['train'], pairs[split]).mean():.1%}"
        )
    held = pairs["validation"] + pairs["test"]
    right = nearest(pairs["train"], held)
    print("topic                 facts  pairs  held out  nearest question right")
    for topic, count in Counter(pair.topic for pair in everything).most_common():
        facts = len({pair.fact for pair in everything if pair.topic == topic})
        hits = right[[pair.topic == topic for pair in held]]
        print(f"{topic:20}  {facts:5}  {count:5}  {len(hits):8}  {hits.mean():22.0%}")


def frequent(train: list[Pair], held: list[Pair]) -> float:
    """Exact match of always giving the most frequent training answer."""
    answer = Counter(pair.answer for pair in train).most_common(1)[0][0]
    return float(np.mean([pair.answer == answer for pair in held]))


def nearest(train: list[Pair], held: list[Pair]) -> np.ndarray:
    """Whether the answer of the nearest training question is right, for each held-out pair.

    Nearest by the cosine of tf-idf vectors over words: word order does not count.
    """
    vocabulary = sorted({word for pair in train for word in plain(pair.question).split()})
    index = {word: i for i, word in enumerate(vocabulary)}
    known, asked = counts(train, index), counts(held, index)
    weight = np.log((1 + len(train)) / (1 + (known > 0).sum(axis=0))) + 1
    closeness = unit(asked * weight) @ unit(known * weight).T
    best = np.round(closeness, 9).argmax(axis=1)
    return np.array([train[i].answer == pair.answer for i, pair in zip(best, held, strict=True)])


def counts(pairs: list[Pair], index: dict[str, int]) -> np.ndarray:
    """How often each word of the index occurs in each question, (pairs, words)."""
    table = np.zeros((len(pairs), len(index)))
    for place, pair in enumerate(pairs):
        for word in plain(pair.question).split():
            if word in index:
                table[place, index[word]] += 1
    return table


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


if __name__ == "__main__":
    main()
