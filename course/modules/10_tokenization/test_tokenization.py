"""Hidden variants of module 10: other texts and seeds, a naive BPE as the oracle, and fuzzed strings."""

import json
import os
import random
import re
import subprocess
import sys

import pytest

from tinytorch.text import tokenizer
from tinytorch.text.tokenizer import (
    BPETokenizer,
    CharTokenizer,
    PairIndex,
    count_pairs,
    count_pieces,
    difference,
    learn_merges,
    learn_merges_slowly,
    merge_pair,
    most_frequent,
    split_pieces,
    split_special,
    vocabulary_of,
)

STORY = (
    "The owl and the other owls howled; the hounds howled at the owls, and the owner of the hounds "
    "shouted: 'Out, out!' 1,001 nights later, 10,010 owls were there. Über 30 Käuze, καλημέρα "
    "καλημέρες, שלום שלום, 水水水, aaaaaaaaaaa, 😀😀 👩‍👩‍👧!\n\n\tThe  end.  \n"
)
AWKWARD = [
    "",
    " ",
    "\x00",
    "\ud800",
    "\udfff\ud800",
    "\ud83d\ude00",  # two lone surrogates, not the emoji
    "\udc80\udcff",  # what surrogateescape makes of bytes
    "😀",
    "e\u0301 é",
    "\u202eabc\u202c שלום עליכם",
    "\r\n\n \t\x0b\x85\u2028\u00a0\u3000x",
    "_a_1_²½Ⅷ٣",
    "हिन्दी ไทย",
    "a" * 100 + " " * 100 + "!" * 100 + "7" * 100,
    "\ufffd\ufeff\uffff\U0010ffff",
    "<end><end",
]


def pieces_of(seed, count=60, letters=3, length=7):
    """Random pieces over a small alphabet: many repeats, runs and ties."""
    rng = random.Random(seed)
    made = {}
    for _ in range(count):
        ids = tuple(97 + rng.randrange(letters) for _ in range(rng.randint(1, length)))
        made[ids] = made.get(ids, 0) + rng.randint(1, 4)
    return made


def naive_bpe(pieces, merges):
    """Merges as (left bytes, right bytes), by recounting with strings of bytes only."""
    words = [([bytes([b]) for b in ids], times) for ids, times in pieces.items()]
    order = {bytes([b]): b for b in range(256)}
    learned = []
    for k in range(merges):
        totals = {}
        for word, times in words:
            for i in range(1, len(word)):
                totals[word[i - 1], word[i]] = totals.get((word[i - 1], word[i]), 0) + times
        ranked = sorted(totals, key=lambda p: (-totals[p], order[p[0]], order[p[1]]))
        if not ranked or totals[ranked[0]] < 2:
            break
        left, right = ranked[0]
        order.setdefault(left + right, 256 + k)
        for word, _ in words:
            i = 0
            while i < len(word) - 1:
                if (word[i], word[i + 1]) == (left, right):
                    word[i : i + 2] = [left + right]
                i += 1
        learned.append((left, right))
    return learned


def replayed(merges, piece):
    """Ids of a piece: every merge tried in the order in which it was learned."""
    ids = list(piece)
    for k, (left, right) in enumerate(merges):
        i = 0
        while i < len(ids) - 1:
            if ids[i] == left and ids[i + 1] == right:
                ids[i : i + 2] = [256 + k]
            i += 1
    return ids


def random_text(seed, length=60):
    rng = random.Random(seed)
    ranges = [
        (32, 127),
        (0, 32),
        (0x80, 0x250),
        (0x590, 0x600),
        (0xD800, 0xE000),
        (0x1F600, 0x1F650),
    ]
    ranges += [(0x4E00, 0x4E20), (0, 0x110000), (97, 100)]
    return "".join(chr(rng.randrange(*rng.choice(ranges))) for _ in range(rng.randrange(length)))


# Characters


def test_char_vocabulary_is_the_sorted_set():
    tok = CharTokenizer.train(STORY, ["<end>"])
    assert tok.characters == sorted({*STORY})
    assert tok.vocab_size == len(tok.characters) + 1
    assert tok.special_tokens == {"<end>": len(tok.characters)}


@pytest.mark.parametrize("text", [*AWKWARD, STORY])
def test_char_round_trip(text):
    tok = CharTokenizer.train(text)
    ids = tok.encode(text)
    assert len(ids) == len(text) and all(type(i) is int for i in ids)
    assert tok.decode(ids) == text


@pytest.mark.parametrize("position", [0, 3, 6])
def test_char_encode_names_the_unknown_character(position):
    text = "abcabc"[:position] + "ß" + "abcabc"[position:]
    with pytest.raises(ValueError, match=rf"'ß'.*{position}"):
        CharTokenizer("abc").encode(text)
    known = CharTokenizer("abc", ["<pad>", "<unk>"]).encode(text)
    assert known.count(4) == 1 and known[position] == 4


def test_char_ids_do_not_depend_on_the_process():
    code = (
        "from tinytorch.text.tokenizer import CharTokenizer;"
        "print(CharTokenizer.train('the quick brown fox jumps').encode('quick fox'))"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(outputs) == 1


@pytest.mark.parametrize("wrong", [5, -1, 10**9])
def test_char_decode_refuses_ids_without_token(wrong):
    with pytest.raises(ValueError, match=str(wrong)):
        CharTokenizer("abcd", ["<end>"]).decode([0, wrong])


@pytest.mark.parametrize("characters", [["a", "b", "a"], ["ab"], [""], "abca"])
def test_char_vocabulary_refuses_what_is_no_single_character(characters):
    with pytest.raises(ValueError, match="CharTokenizer"):
        CharTokenizer(characters)


@pytest.mark.parametrize("names", [["<a>", "<a>"], [""], ["<a>", ""]])
def test_special_names_must_be_different_and_not_empty(names):
    with pytest.raises(ValueError, match="special tokens"):
        BPETokenizer([], names)


# Pieces


@pytest.mark.parametrize("text", [*AWKWARD, STORY])
def test_pieces_joined_are_the_text(text):
    pieces = split_pieces(text)
    assert "".join(pieces) == text
    assert all(1 <= len(piece) <= 33 for piece in pieces)


def test_pieces_of_every_character_alone():
    for code in range(0x110000):
        assert split_pieces(chr(code)) == [chr(code)], hex(code)


def test_pieces_keep_the_space_before_a_word():
    assert split_pieces("one two  three\n\nfour 5six") == [
        "one",
        " two",
        " ",
        " three",
        "\n",
        "\n",
        "four",
        " 5",
        "six",
    ]


# Pairs and merges


@pytest.mark.parametrize("seed", range(6))
def test_count_pairs_by_positions(seed):
    pieces = pieces_of(seed)
    expected = {}
    for ids, times in pieces.items():
        for i in range(len(ids) - 1):
            expected[ids[i : i + 2]] = expected.get(ids[i : i + 2], 0) + times
    assert dict(count_pairs(pieces)) == expected


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("pair", [(97, 97), (97, 98), (98, 97), (99, 99)])
def test_merge_pair_as_text_replacement(seed, pair):
    # str.replace, too, goes from left to right and uses everything once.
    for ids in pieces_of(seed, letters=3, length=12):
        text = "".join(map(chr, ids)).replace(chr(pair[0]) + chr(pair[1]), "Z")
        before = list(ids)
        assert merge_pair(before, pair, 90) == [ord(c) for c in text]
        assert before == list(ids)


def test_most_frequent_takes_the_smallest_of_equals():
    rng = random.Random(4)
    for _ in range(30):
        counts = {(rng.randrange(300), rng.randrange(300)): rng.randrange(1, 4) for _ in range(12)}
        ranked = sorted(counts, key=lambda p: (-counts[p], p[0], p[1]))
        assert most_frequent(counts) == ranked[0]


@pytest.mark.parametrize("seed", range(12))
def test_merges_are_those_of_naive_bpe(seed):
    pieces = pieces_of(seed)
    expected = naive_bpe(pieces, 25)
    for learn in (learn_merges_slowly, learn_merges):
        merges = learn(pieces, 25)
        vocabulary = vocabulary_of(merges)
        assert [(vocabulary[a], vocabulary[b]) for a, b in merges] == expected


@pytest.mark.parametrize("learn", [learn_merges_slowly, learn_merges])
def test_training_stops_when_nothing_repeats(learn):
    assert learn({tuple(b"abcdef"): 1}, 5) == []
    assert learn({(97,): 50}, 5) == []
    assert learn({}, 5) == []
    assert learn({tuple(b"ab"): 2, tuple(b"cd"): 1}, 5) == [(97, 98)]


@pytest.mark.parametrize("seed", range(8))
def test_counts_are_true_after_every_merge(seed):
    pieces = pieces_of(seed, count=40, letters=2, length=14)
    index, now = PairIndex(pieces), [(list(ids), n) for ids, n in pieces.items()]
    for k in range(30):
        if not index.counts:
            break
        pair = most_frequent(index.counts)
        index.merge(pair, 256 + k)
        now = [(merge_pair(ids, pair, 256 + k), n) for ids, n in now]
        expected = {}
        for ids, n in now:
            for p in zip(ids, ids[1:]):
                expected[p] = expected.get(p, 0) + n
        assert dict(index.counts) == expected
        assert index.pieces == [ids for ids, _ in now]
        for number, ids in enumerate(index.pieces):
            assert all(number in index.where[p] for p in zip(ids, ids[1:]))


@pytest.mark.parametrize("seed", range(6))
def test_difference_holds_all_pairs_that_change(seed):
    for ids in pieces_of(seed, letters=2, length=14):
        for pair in [(97, 97), (97, 98), (98, 97), (99, 99)]:
            old, new = list(ids), merge_pair(ids, pair, 256)
            before, after = difference(old, new)
            changes = []
            for one, other in ((old, new), (before, after)):
                counts = count_pairs({tuple(one): 1})
                counts.subtract(count_pairs({tuple(other): 1}))
                changes.append({p: n for p, n in counts.items() if n})
            assert changes[0] == changes[1]
            assert len(before) <= len(old) and len(after) <= len(new)


def test_every_token_has_bytes_of_its_own():
    tok = BPETokenizer.train(STORY * 3, 500)
    assert len(set(tok.vocabulary.values())) == tok.vocab_size


# Encoding and decoding


@pytest.mark.parametrize("seed", range(8))
def test_encode_piece_replays_the_merges(seed):
    pieces = pieces_of(seed, count=50)
    merges = learn_merges(pieces, 30)
    tok = BPETokenizer(merges)
    for ids in [*pieces, *pieces_of(seed + 100, length=15)]:
        assert tok.encode_piece(bytes(ids)) == replayed(merges, ids)


def test_training_text_is_encoded_as_training_left_it():
    pieces = count_pieces(STORY * 2)
    merges = learn_merges(pieces, 60)
    index = PairIndex(pieces)
    for k, pair in enumerate(merges):
        index.merge(pair, 256 + k)
    tok = BPETokenizer(merges)
    assert [tok.encode_piece(bytes(ids)) for ids in pieces] == index.pieces


@pytest.fixture(scope="module")
def story():
    return BPETokenizer.train(STORY * 3, 340, ["<end>", "<end>er", "<|x|>"])


@pytest.mark.parametrize("text", [*AWKWARD, STORY])
def test_bpe_round_trip(story, text):
    ids = story.encode(text)
    assert all(type(i) is int for i in ids)
    assert story.decode(ids) == text
    assert story.decode_bytes(ids) == text.encode("utf-8", "surrogatepass")


def test_bpe_round_trip_of_random_texts(story):
    surrogates = BPETokenizer.train("\ud83d\ud83dx \ud83d\ud83dx é\ude00 é\ude00" * 4, 300)
    assert surrogates.vocab_size > 262  # merges do reach across the bytes of a surrogate
    for seed in range(400):
        text = random_text(seed)
        for tok in (story, surrogates, BPETokenizer()):
            assert tok.decode(tok.encode(text)) == text
            assert tok.decode(tok.encode(text, allow_special=True)) == text


def test_bytes_round_trip_whatever_they_are(story):
    rng = random.Random(9)
    for size in range(200):
        data = rng.randbytes(size)
        assert story.decode_bytes(story.encode_bytes(data)) == data
    text = STORY.encode()
    assert story.encode_bytes(text) == story.encode(STORY)


def test_broken_bytes_are_replaced_as_python_does(story):
    rng = random.Random(10)
    for _ in range(300):
        data = bytes(rng.choice(b"a\xc3\xa9\xf0\x9f\x98\x80\xff\x80") for _ in range(12))
        assert story.decode(list(data)) == data.decode("utf-8", "replace")
    with pytest.raises(UnicodeDecodeError):
        story.decode([0xC3], errors="strict")
    assert story.decode([97, 0xC3], errors="ignore") == "a"
    assert story.decode([0xED, 0xA0, 0x80, 0xFF, 0xED, 0xA0]) == "\ud800\ufffd\ufffd\ufffd"


@pytest.mark.parametrize("wrong", [340, -1, 2**40])
def test_bpe_decode_refuses_ids_without_token(story, wrong):
    assert story.vocab_size == 340
    with pytest.raises(ValueError, match=str(wrong)):
        story.decode_bytes([97, wrong])


def test_encoding_twice_gives_two_lists(story):
    first = story.encode("the owls")
    first.append(-1)
    first[0] = -2
    assert -2 not in story.encode("the owls") and -1 not in story.encode("the owls")


def test_remembered_pieces_have_an_end(story):
    tok = BPETokenizer(story.merges)
    for start in range(0, 120_000, 20_000):
        tok.encode(" ".join(map(str, range(start, start + 20_000))))
    assert len(tok._cache) <= 100_000
    assert tok.decode(tok.encode(STORY)) == STORY


# Training as a whole


@pytest.mark.parametrize("special", [(), ["<a>"], ["<a>", "<b>", "<c>"]])
def test_vocab_size_counts_everything(special):
    tok = BPETokenizer.train(STORY, 290, special)
    assert tok.vocab_size == 290 == len(tok.vocabulary)
    assert len(tok.merges) == 290 - 256 - len(special)
    assert list(tok.special_tokens.values()) == list(range(290 - len(special), 290))


def test_vocab_size_without_room_is_refused():
    with pytest.raises(ValueError, match="258"):
        BPETokenizer.train(STORY, 257, ["<a>", "<b>"])
    assert BPETokenizer.train(STORY, 258, ["<a>", "<b>"]).merges == {}


def test_special_tokens_in_training_text_are_not_learned_from():
    lines = ["tea ten tea", " eats tens", "tea"] * 5
    plain = learn_merges(sum(map(count_pieces, lines), count_pieces("")), 10)
    marked = BPETokenizer.train("<user>".join(lines), 267, ["<user>"])
    assert list(marked.merges) == plain
    assert not any(set(b"<us>") >= set(marked.vocabulary[i]) for i in marked.merges.values())


@pytest.mark.parametrize(
    "merges", [[(256, 97)], [(97, 98), (97, 98)], [(97, 98), (257, 97)], [(-1, 97)]]
)
def test_impossible_merges_are_refused(merges):
    with pytest.raises(ValueError, match="merge"):
        BPETokenizer(merges)


# Special tokens


@pytest.mark.parametrize(
    "text, parts",
    [
        ("", []),
        ("plain", ["plain"]),
        ("<end>", ["<end>"]),
        ("<end>er", ["<end>er"]),
        ("<end>e", ["<end>", "e"]),
        ("x<end><|x|>y<end>er", ["x", "<end>", "<|x|>", "y", "<end>er"]),
        ("<end", ["<end"]),
        ("<|x||x|>", ["<|x||x|>"]),
    ],
)
def test_split_special_longest_first(text, parts):
    for names in (["<end>", "<end>er", "<|x|>"], ["<|x|>", "<end>er", "<end>"]):
        assert split_special(text, names) == parts
    assert split_special(text, iter(["<end>", "<end>er", "<|x|>"])) == parts


def test_split_special_takes_names_literally():
    assert split_special("a.b*c(d[e\\", [".", "*", "(", "[", "\\"]) == list("a.b*c(d[e\\")
    assert split_special("aab", ["a+"]) == ["aab"]


def test_special_tokens_never_come_from_ordinary_text(story):
    special = set(story.special_tokens.values())
    for seed in range(200):
        rng = random.Random(seed)
        parts = [*story.special_tokens, "a", "<", ">", " ", "end", "😀"]
        text = "".join(rng.choice(parts) for _ in range(12))
        ids = story.encode(text)
        assert not special & set(ids)
        assert story.decode(ids) == text
        allowed = story.encode(text, allow_special=True)
        longest_first = re.findall(r"<end>er|<end>|<\|x\|>", text)
        assert [i for i in allowed if i in special] == [
            story.special_tokens[n] for n in longest_first
        ]
        assert story.decode(allowed) == text


def test_characters_have_special_tokens_too():
    tok = CharTokenizer.train("ab<>", ["<a>", "<a>b"])  # < 0, > 1, a 2, b 3
    assert tok.encode("<a>b<a>", allow_special=True) == [5, 4]
    assert tok.encode("<a>b<a>") == [0, 2, 1, 3, 0, 2, 1]


# Files


def test_bpe_file_brings_the_tokenizer_back(story, tmp_path):
    path = tmp_path / "story.json"
    story.save(path)
    back = BPETokenizer.load(str(path))
    assert list(back.merges.items()) == list(story.merges.items())
    assert back.special_tokens == story.special_tokens
    assert back.vocabulary == story.vocabulary and back.vocab_size == story.vocab_size
    for text in [*AWKWARD, STORY]:
        assert back.encode(text, True) == story.encode(text, True)
    assert json.loads(path.read_text()).keys() == {"kind", "merges", "special_tokens"}


def test_char_file_brings_the_tokenizer_back(tmp_path):
    tok = CharTokenizer.train("".join(AWKWARD) + STORY, ["<unk>", "<end>"])
    tok.save(tmp_path / "characters.json")
    back = CharTokenizer.load(tmp_path / "characters.json")
    assert back.characters == tok.characters  # lone surrogates side by side stay two characters
    assert back.special_tokens == tok.special_tokens
    assert back.encode(STORY + "ツ") == tok.encode(STORY + "ツ")


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "null",
        '{"kind": "bpe"}',
        '{"kind": "bpe", "merges": 3, "special_tokens": []}',
    ],
)
@pytest.mark.parametrize("kind", ["BPETokenizer", "CharTokenizer"])
def test_damaged_files_are_named(tmp_path, content, kind):
    path = tmp_path / "damaged.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"damaged\.json"):
        getattr(tokenizer, kind).load(path)


def test_files_of_the_other_kind_are_refused(story, tmp_path):
    CharTokenizer("abc").save(tmp_path / "characters.json")
    story.save(tmp_path / "bpe.json")
    with pytest.raises(ValueError, match=r"characters\.json.*'characters'"):
        BPETokenizer.load(tmp_path / "characters.json")
    with pytest.raises(ValueError, match=r"bpe\.json.*'bpe'"):
        CharTokenizer.load(tmp_path / "bpe.json")
