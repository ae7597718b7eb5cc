"""Tokenizers against Hugging Face's `tokenizers`, and properties that hold for every Python string.

A byte is one character to the oracle: GPT-2's alphabet where its own pre-tokenizer is used, and
otherwise characters in the order of the bytes, so that its rule for ties is ours.
"""

import json
import random
import re
from collections import Counter

import pytest
import tokenizers
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tinytorch.text.tokenizer import (
    BPETokenizer,
    CharTokenizer,
    PairIndex,
    count_pairs,
    count_pieces,
    learn_merges,
    learn_merges_slowly,
    most_frequent,
    split_pieces,
    split_special,
    to_bytes,
    vocabulary_of,
)
from tokenizers import models, pre_tokenizers, trainers

from tito import course

many = settings(max_examples=400, deadline=None, derandomize=True, database=None)

# Every code point there is, lone surrogates included, and such as make trouble more often.
ANY = st.characters(exclude_categories=())
TROUBLE = st.sampled_from(
    "\ud800\udbff\udc00\udfff\u0000\u001b\u0085\u2028\u202e\u200d😀אبہ水e\u0301 \n\t_'<>|"
)
STRINGS = st.text(st.one_of(ANY, TROUBLE, st.sampled_from("abc ")), max_size=60)

FRUIT = (
    "Whether she sells seashells by the seashore or not, the shells she sells are 1,000 shells; "
    "bananas, bandanas and 'ananas' are not. Ελλάδα, ελληνικά; שלום שלום; 水水 火水 水火; naïve, "
    "café, 😀😀 😀 👩‍👩‍👧 aaaaaaa aaaa aa\tbbb\n\nbbbb  bb\n"
)
PROSE = "\n".join(
    line
    for module in course.modules()[:3]
    for line in module.path.read_text(encoding="utf-8").splitlines()
    if line and line[0] not in "#_ "
)


def gpt2_alphabet():
    """Byte -> character, as in GPT-2: printable ones stand for themselves, others from 256 on."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in printable]
    return {b: chr(b) for b in printable} | {b: chr(256 + k) for k, b in enumerate(others)}


GPT2 = gpt2_alphabet()
ORDERED = {b: chr(0x4E00 + b) for b in range(256)}


def spelled(data, alphabet):
    return "".join(alphabet[b] for b in data)


def oracle(tok, alphabet):
    """The oracle's tokenizer with our merges and our ids."""
    vocabulary = {spelled(tok.vocabulary[i], alphabet): i for i in range(256 + len(tok.merges))}
    merges = [tuple(spelled(tok.vocabulary[i], alphabet) for i in pair) for pair in tok.merges]
    return tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=merges))


def oracle_ids(theirs, text):
    """What the oracle makes of our pieces of `text`."""
    pieces = [spelled(to_bytes(piece), ORDERED) for piece in split_pieces(text)]
    return theirs.encode(pieces, is_pretokenized=True).ids if pieces else []


def oracle_merges(texts, merges, alphabet, pre_tokenizer):
    """The merges the oracle's trainer learns, as pairs of bytes."""
    theirs = tokenizers.Tokenizer(models.BPE())
    theirs.pre_tokenizer = pre_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=256 + merges,
        min_frequency=2,
        initial_alphabet=list(alphabet.values()),
        show_progress=False,
    )
    theirs.train_from_iterator(texts, trainer)
    back = {character: b for b, character in alphabet.items()}
    learned = json.loads(theirs.to_str())["model"]["merges"]
    return [tuple(bytes(back[c] for c in part) for part in pair) for pair in learned]


def our_merges(text, merges):
    learned = learn_merges(count_pieces(text), merges)
    vocabulary = vocabulary_of(learned)
    return [(vocabulary[a], vocabulary[b]) for a, b in learned]


def random_text(seed, letters="ab é", length=400):
    rng = random.Random(seed)
    return "".join(rng.choice(letters) for _ in range(length))


@pytest.fixture(scope="module")
def tok():
    return BPETokenizer.train(FRUIT * 3 + PROSE, 1000, ["<end>", "<end>er", "<|x|>"])


@pytest.fixture(scope="module")
def theirs(tok):
    return oracle(tok, ORDERED)


# Against the oracle


@pytest.mark.parametrize("text", [FRUIT, PROSE, PROSE[::-1], FRUIT.upper(), "she sells " * 9])
def test_encode_agrees_with_the_oracle(tok, theirs, text):
    assert tok.encode(text) == oracle_ids(theirs, text)


@pytest.mark.parametrize("seed", range(20))
def test_encode_agrees_with_the_oracle_on_random_merges(seed):
    mine = BPETokenizer.train(random_text(seed, "aab b"), 256 + 40)
    theirs = oracle(mine, ORDERED)
    for other in range(20):
        text = random_text(1000 * seed + other, "aab b", 80)
        assert mine.encode(text) == oracle_ids(theirs, text)


@many
@given(text=STRINGS)
def test_encode_agrees_with_the_oracle_on_any_string(tok, theirs, text):
    assert tok.encode_ordinary(text) == oracle_ids(theirs, text)


def test_encode_agrees_with_the_oracle_from_text_to_ids(tok):
    """With GPT-2's own pre-tokenizer: the pieces agree as well, where it has no rule of its own."""
    theirs = oracle(tok, GPT2)
    theirs.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    for text in (FRUIT, PROSE):
        words = "".join("2" if c.isnumeric() and not c.isdecimal() else c for c in text)
        words = words.translate({ord("'"): '"', ord("_"): "-"})
        spelled_pieces = [piece for piece, _ in theirs.pre_tokenizer.pre_tokenize_str(words)]
        assert spelled_pieces == [spelled(to_bytes(p), GPT2) for p in split_pieces(words)]
        assert tok.encode(words) == theirs.encode(words).ids
        assert tok.decode(theirs.encode(words).ids) == words


@pytest.mark.parametrize("text", [FRUIT, FRUIT * 4, PROSE, *(random_text(s) for s in range(20))])
def test_training_agrees_with_the_oracle_ties_included(text):
    pieces = " ".join(spelled(to_bytes(piece), ORDERED) for piece in split_pieces(text))
    splitting = pre_tokenizers.WhitespaceSplit()
    assert our_merges(text, 150) == oracle_merges([pieces], 150, ORDERED, splitting)


@pytest.mark.parametrize("text", [PROSE, PROSE.lower(), FRUIT * 2 + PROSE[::-1]])
def test_training_agrees_with_the_oracle_in_its_own_alphabet(text):
    """On words of ASCII letters alone, whose order is the same in both alphabets."""
    words = "\n".join(re.findall("[a-zA-Z]+", text))
    splitting = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    assert our_merges(words, 150) == oracle_merges([words], 150, GPT2, splitting)


# Properties


@many
@given(text=STRINGS)
@example(text="")
@example(text="\ud83d\ude00")
def test_round_trip_is_the_identity(tok, text):
    for some in (tok, BPETokenizer(), CharTokenizer.train(text, ["<unk>", "<end>"])):
        assert some.decode(some.encode(text)) == text
    assert tok.decode(tok.encode(text, allow_special=True)) == text
    assert tok.decode_bytes(tok.encode(text)) == text.encode("utf-8", "surrogatepass")


@many
@given(text=STRINGS, size=st.integers(256, 300))
def test_round_trip_of_the_text_it_was_trained_on(text, size):
    mine = BPETokenizer.train(text * 3, size)
    assert mine.decode(mine.encode(text * 3)) == text * 3
    assert mine.vocab_size <= size
    assert len(set(mine.vocabulary.values())) == mine.vocab_size


@many
@given(data=st.binary(max_size=60))
def test_bytes_round_trip(tok, data):
    assert tok.decode_bytes(tok.encode_bytes(data)) == data
    assert isinstance(tok.decode(list(data)), str)


@many
@given(ids=st.lists(st.integers(0, 999), max_size=30))
def test_any_ids_decode(tok, ids):
    assert tok.vocab_size == 1000
    assert tok.decode(ids) == tok.decode(list(tok.decode_bytes(ids)))


@many
@given(text=STRINGS)
def test_pieces_cover_the_text(text):
    assert "".join(split_pieces(text)) == text


@many
@given(
    parts=st.lists(st.one_of(st.sampled_from(["<end>", "<end>er", "<|x|>", "<", "er"]), STRINGS))
)
def test_special_tokens_come_only_when_allowed(tok, parts):
    text, special = "".join(parts), set(tok.special_tokens.values())
    assert not special & set(tok.encode(text))
    pieces = split_special(text, tok.special_tokens)
    assert "".join(pieces) == text and "" not in pieces
    allowed = Counter(i for i in tok.encode(text, allow_special=True) if i in special)
    names = Counter(piece for piece in pieces if piece in tok.special_tokens)
    assert allowed == {tok.special_tokens[name]: n for name, n in names.items()}


PIECES = st.dictionaries(
    st.lists(st.integers(97, 99), min_size=1, max_size=12).map(tuple),
    st.integers(1, 5),
    max_size=12,
)


@many
@given(pieces=PIECES)
def test_incremental_counts_are_recounted_counts(pieces):
    index, now = PairIndex(pieces), dict(pieces)
    for k, pair in enumerate(learn_merges_slowly(pieces, 30)):
        assert most_frequent(index.counts) == pair
        index.merge(pair, 256 + k)
        now = {tuple(ids): n for ids, n in zip(index.pieces, index.times)}
        assert dict(index.counts) == dict(count_pairs(now))
    assert learn_merges(pieces, 30) == learn_merges_slowly(pieces, 30)


@settings(many, max_examples=60)
@given(text=STRINGS, special=st.lists(st.sampled_from(["<a>", "<b>", "ab"]), unique=True))
def test_files_bring_tokenizers_back(text, special, tmp_path_factory):
    path = tmp_path_factory.mktemp("tokenizer") / "tok.json"
    for mine in (BPETokenizer.train(text * 2, 280, special), CharTokenizer.train(text, special)):
        mine.save(path)
        back = type(mine).load(path)
        assert vars(back).keys() == vars(mine).keys()
        assert back.special_tokens == mine.special_tokens and back.vocab_size == mine.vocab_size
        assert back.encode(text, True) == mine.encode(text, True)
        assert back.decode(back.encode(text)) == text
