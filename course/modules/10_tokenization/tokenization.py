# %% [markdown]
"""
# 10 · Tokenization

Text becomes integers, and integers become text again: by characters, then by byte pairs.
"""

# %% given="imports"
#| default_exp text.tokenizer
#| export
import codecs
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

# %% given="Tokenizer"
#| export
UNKNOWN = "<unk>"


class Tokenizer:
    """What every tokenizer has: special tokens, numbered after the ordinary ones.

    ordinary: how many ordinary tokens there are; special_tokens: names, in the order of their ids.
    Raises ValueError for an empty name or one that is given twice.
    """

    def __init__(self, ordinary: int, special_tokens: Iterable[str] = ()) -> None:
        names = [special_tokens] if isinstance(special_tokens, str) else list(special_tokens)
        if "" in names or len(set(names)) < len(names):
            raise ValueError(f"special tokens {names}: every name once, and none of them empty.")
        self.special_tokens = {name: ordinary + i for i, name in enumerate(names)}
        self.vocab_size = ordinary + len(names)

    def encode_ordinary(self, text: str) -> list[int]:
        """The ids of `text`, taking nothing in it for a special token."""
        raise NotImplementedError(f"{type(self).__name__} has no encode_ordinary")

# %% given="CharTokenizer"
#| export
class CharTokenizer(Tokenizer):
    """One token per character: the k-th of `characters` has the id k.

    Raises ValueError if an entry is not a single character, or is there twice.

    >>> CharTokenizer("abc").vocab_size
    3
    """

    def __init__(self, characters: Iterable[str], special_tokens: Iterable[str] = ()) -> None:
        self.characters = list(characters)
        odd = [c for c, n in Counter(self.characters).items() if n > 1 or len(c) != 1]
        if odd:
            raise ValueError(f"CharTokenizer: {odd} are not single characters, each given once.")
        super().__init__(len(self.characters), special_tokens)
        self.ids = {character: i for i, character in enumerate(self.characters)}
        self.texts = dict(enumerate([*self.characters, *self.special_tokens]))

    @classmethod
    def train(cls, text: str, special_tokens: Iterable[str] = ()) -> "CharTokenizer":
        """The tokenizer whose vocabulary is the characters of `text`, in sorted order."""
        return cls(sorted(set(text)), special_tokens)

    def encode_ordinary(self, text: str) -> list[int]:
        """One id per character. A character without one gets the id of `<unk>`, if there is one.

        Raises ValueError naming the character and its position, if there is none.

        >>> CharTokenizer("abc").encode_ordinary("cab")
        [2, 0, 1]
        """
        unknown = self.special_tokens.get(UNKNOWN)
        ids = []
        for position, character in enumerate(text):
            i = self.ids.get(character, unknown)
            if i is None:
                raise ValueError(
                    f"CharTokenizer: no id for {character!r} at position {position}. Train on text "
                    f"that contains it, or give {UNKNOWN!r} as a special token."
                )
            ids.append(i)
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`; a special token gives its name. ValueError for an id without token.

        >>> CharTokenizer("abc").decode([2, 0, 1])
        'cab'
        """
        try:
            return "".join([self.texts[i] for i in ids])
        except KeyError as error:
            raise ValueError(
                f"CharTokenizer: no token {error.args[0]!r}; ids go from 0 to {self.vocab_size - 1}."
            ) from None

    def save(self, path: str | Path) -> None:
        """Write the tokenizer to `path` as JSON."""
        # A list: in one string, two lone surrogates side by side would be read back as one character.
        state = {
            "kind": "characters",
            "characters": self.characters,
            "special_tokens": list(self.special_tokens),
        }
        Path(path).write_text(json.dumps(state), encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> "CharTokenizer":
        """The tokenizer that `save` wrote. ValueError naming the file if it holds something else."""
        state = read_state(path, "characters", ("characters", "special_tokens"))
        return cls(state["characters"], state["special_tokens"])


def read_state(path: str | Path, kind: str, keys: Sequence[str]) -> dict:
    """What a `save` wrote: a JSON object of this kind with these keys.

    Raises ValueError naming the file and what is wrong with it.
    """
    try:
        state = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no tokenizer: not JSON ({error}).") from None
    found = state.get("kind") if isinstance(state, dict) else type(state).__name__
    if found != kind:
        raise ValueError(f"{path} holds {found!r}, not a tokenizer of kind {kind!r}.")
    missing = [key for key in keys if key not in state]
    if missing:
        raise ValueError(f"{path} is no whole tokenizer: {', '.join(missing)} missing.")
    return state

# %% given="bpe_training"
#| export
Pair = tuple[int, int]


def count_pairs(pieces: Mapping[tuple[int, ...], int]) -> Counter[Pair]:
    """How often each pair of neighbours occurs.

    pieces: token ids of a piece of text -> how often that piece occurs.

    >>> count_pairs({(1, 2, 1, 2): 1, (1, 2): 10})
    Counter({(1, 2): 12, (2, 1): 1})
    """
    counts: Counter[Pair] = Counter()
    for ids, times in pieces.items():
        for pair in pairwise(ids):
            counts[pair] += times
    return counts


def merge_pair(ids: Sequence[int], pair: Pair, new_id: int) -> list[int]:
    """A new list where `new_id` stands for every `pair` of neighbours, found from left to right.

    >>> merge_pair([1, 2, 3, 1, 2], (1, 2), 9)
    [9, 3, 9]
    """
    merged, i = [], 0
    while i < len(ids):
        if i + 1 < len(ids) and (ids[i], ids[i + 1]) == pair:
            merged.append(new_id)
            i += 2
        else:
            merged.append(ids[i])
            i += 1
    return merged


def most_frequent(counts: Mapping[Pair, int]) -> Pair:
    """The pair with the highest count; among equals the smallest, left id before right id.

    >>> most_frequent({(5, 1): 3, (2, 9): 3, (0, 0): 1})
    (2, 9)
    """
    highest = max(counts.values())
    return min(pair for pair, count in counts.items() if count == highest)


def learn_merges_slowly(pieces: Mapping[tuple[int, ...], int], merges: int) -> list[Pair]:
    """The first `merges` merges, fewer if no pair occurs twice any more; all counted anew each time.

    The k-th merge makes token 256 + k.
    Cost: every piece walked through twice per merge.
    """
    learned: list[Pair] = []
    while len(learned) < merges:
        counts = count_pairs(pieces)
        if max(counts.values(), default=0) < 2:
            break
        pair = most_frequent(counts)
        new_id = 256 + len(learned)
        pieces = {tuple(merge_pair(ids, pair, new_id)): n for ids, n in pieces.items()}
        learned.append(pair)
    return learned


class PairIndex:
    """Pieces of text with the counts of their pairs, kept true while pairs are merged.

    pieces: as for count_pairs. `counts[pair]`: how often it occurs; `where[pair]`: numbers of the
    pieces that may contain it.
    """

    def __init__(self, pieces: Mapping[tuple[int, ...], int]) -> None:
        self.pieces = [list(ids) for ids in pieces]
        self.times = list(pieces.values())
        self.counts = count_pairs(pieces)
        self.where: dict[Pair, set[int]] = defaultdict(set)
        for number, ids in enumerate(self.pieces):
            for pair in pairwise(ids):
                self.where[pair].add(number)

    def merge(self, pair: Pair, new_id: int) -> None:
        """Merge `pair` in the pieces that contain it, and correct the counts of those pieces only.

        Pairs whose count falls to 0 leave `counts`.
        """
        for number in self.where.pop(pair):
            old = self.pieces[number]
            new = merge_pair(old, pair, new_id)
            for gone in pairwise(old):
                self.counts[gone] -= self.times[number]
                if not self.counts[gone]:
                    del self.counts[gone]
            for come in pairwise(new):
                self.counts[come] += self.times[number]
                self.where[come].add(number)
            self.pieces[number] = new


def learn_merges(pieces: Mapping[tuple[int, ...], int], merges: int) -> list[Pair]:
    """What learn_merges_slowly gives, with counts that are corrected instead of counted anew."""
    index, learned = PairIndex(pieces), []
    while len(learned) < merges:
        if max(index.counts.values(), default=0) < 2:
            break
        pair = most_frequent(index.counts)
        index.merge(pair, 256 + len(learned))
        learned.append(pair)
    return learned

# %% given="pieces"
#| export
PIECE = re.compile(
    r"[ ]?[^\W\d_]{1,32}"  # letters, with the space before them
    r"|[ ]?\d{1,32}"  # digits
    r"|[ ]?(?:[^\w\s]|_){1,32}"  # neither letters nor digits nor space
    r"|\s{1,32}(?!\S)"  # space, all but the last before something else
    r"|\s"  # the last, where it is a line break or a tab
)


def split_pieces(text: str) -> list[str]:
    """The words of `text`, each with the space before it. Joined they are `text`, whatever it holds.

    >>> split_pieces("It costs 40 dollars,  sir!")
    ['It', ' costs', ' 40', ' dollars', ',', ' ', ' sir', '!']
    """
    return PIECE.findall(text)


def vocabulary_of(merges: Iterable[Pair]) -> dict[int, bytes]:
    """The bytes of every token: 0 to 255 one byte each, 256 + k what the k-th merge joins.

    >>> vocabulary_of([(104, 105), (256, 33)])[257]
    b'hi!'
    """
    vocabulary = {i: bytes([i]) for i in range(256)}
    for left, right in merges:
        vocabulary[len(vocabulary)] = vocabulary[left] + vocabulary[right]
    return vocabulary


def _surrogates_or_replace(error: UnicodeError) -> tuple[str | bytes, int]:
    """Bytes that are no UTF-8: a lone surrogate is let through, anything else becomes U+FFFD."""
    try:
        return codecs.lookup_error("surrogatepass")(error)
    except UnicodeDecodeError:
        return "\ufffd", error.end


REPLACE = "tinytorch.surrogates_or_replace"
codecs.register_error(REPLACE, _surrogates_or_replace)

# %% given="BPETokenizer"
#| export
class BPETokenizer(Tokenizer):
    """Byte-level byte pair encoding: 256 bytes, one token per merge, then the special tokens.

    merges: pairs of ids; the k-th makes token 256 + k. Raises ValueError for a merge of tokens that
    do not exist yet, or one that is there twice.
    Source: Sennrich et al. 2016; on bytes: Radford et al. 2019 (GPT-2), section 2.2.
    """

    def __init__(self, merges: Iterable[Pair] = (), special_tokens: Iterable[str] = ()) -> None:
        self.merges: dict[Pair, int] = {}
        for left, right in merges:
            new_id = 256 + len(self.merges)
            if not (0 <= left < new_id and 0 <= right < new_id) or (left, right) in self.merges:
                raise ValueError(
                    f"BPETokenizer: merge {new_id - 256} joins {left} and {right}. Both must be below "
                    f"{new_id}, the id it makes, and no pair may come twice."
                )
            self.merges[left, right] = new_id
        super().__init__(256 + len(self.merges), special_tokens)
        self.vocabulary = vocabulary_of(self.merges)
        for name, i in self.special_tokens.items():
            self.vocabulary[i] = name.encode("utf-8", "surrogatepass")
        self._cache: dict[str, list[int]] = {}

    @classmethod
    def train(
        cls, text: str, vocab_size: int, special_tokens: Iterable[str] = ()
    ) -> "BPETokenizer":
        """Learn merges from `text` until there are `vocab_size` tokens: bytes, merges and special ones.

        Fewer, if no pair occurs twice any more. Special tokens in `text` separate it, and are not
        learned from. Raises ValueError if vocab_size is below 256 plus the special tokens.
        """
        names = list(Tokenizer(0, special_tokens).special_tokens)
        merges = vocab_size - 256 - len(names)
        if merges < 0:
            raise ValueError(
                f"BPETokenizer: vocab_size {vocab_size} has no room for 256 bytes and {len(names)} "
                f"special tokens. Ask for {256 + len(names)} or more."
            )
        counts = Counter(
            piece
            for part in split_special(text, names)
            if part not in names
            for piece in split_pieces(part)
        )
        pieces = {tuple(p.encode("utf-8", "surrogatepass")): n for p, n in counts.items()}
        return cls(learn_merges(pieces, merges), names)

    def encode_piece(self, piece: bytes) -> list[int]:
        """The ids of one piece: of all pairs that have a merge, the one learned first is merged first.

        Cost: one walk over the piece per merge that applies.
        """
        ids = list(piece)
        while len(ids) > 1:
            pair = min(pairwise(ids), key=lambda p: self.merges.get(p, self.vocab_size))
            if pair not in self.merges:
                break
            ids = merge_pair(ids, pair, self.merges[pair])
        return ids

    def encode_bytes(self, data: bytes) -> list[int]:
        """The ids of any bytes, UTF-8 or not; decode_bytes gives exactly these bytes back."""
        ids: list[int] = []
        for piece in split_pieces(data.decode("utf-8", "surrogateescape")):
            known = self._cache.get(piece)
            if known is None:
                if len(self._cache) >= 100_000:
                    self._cache.clear()
                known = self.encode_piece(piece.encode("utf-8", "surrogateescape"))
                self._cache[piece] = known
            ids += known
        return ids

    def encode_ordinary(self, text: str) -> list[int]:
        """The ids of `text`, taking nothing in it for a special token."""
        return self.encode_bytes(text.encode("utf-8", "surrogatepass"))

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The bytes of `ids`, joined; a special token gives its name. ValueError for an unknown id."""
        try:
            return b"".join([self.vocabulary[i] for i in ids])
        except KeyError as error:
            raise ValueError(
                f"BPETokenizer: no token {error.args[0]!r}; ids go from 0 to {self.vocab_size - 1}."
            ) from None

    def decode(self, ids: Iterable[int], errors: str = REPLACE) -> str:
        """The text of `ids`: all bytes joined first, then read as UTF-8.

        errors: what to do with bytes that are no UTF-8: put U+FFFD for them, or "strict" and the
        other names of bytes.decode.
        """
        return self.decode_bytes(ids).decode("utf-8", errors)

    def save(self, path: str | Path) -> None:
        """Write the tokenizer to `path` as JSON."""
        state = {
            "kind": "bpe",
            "merges": list(self.merges),
            "special_tokens": list(self.special_tokens),
        }
        Path(path).write_text(json.dumps(state), encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> "BPETokenizer":
        """The tokenizer that `save` wrote. ValueError naming the file if it holds something else."""
        state = read_state(path, "bpe", ("merges", "special_tokens"))
        return cls(map(tuple, state["merges"]), state["special_tokens"])

# %% given="special_tokens"
#| export
def split_special(text: str, names: Iterable[str]) -> list[str]:
    """`text` cut into special tokens and what stands between them, empty parts left out.

    Where several names begin at one place, the longest is meant.

    >>> split_special("a<s><sep>b", ["<s", "<sep>", "<s>"])
    ['a', '<s>', '<sep>', 'b']
    """
    longest_first = sorted(names, key=len, reverse=True)
    if not longest_first:
        return [text] if text else []
    parts = re.split("(" + "|".join(re.escape(name) for name in longest_first) + ")", text)
    return [part for part in parts if part]


def _encode(self: Tokenizer, text: str, allow_special: bool = False) -> list[int]:
    """The ids of `text`. With `allow_special`, names of special tokens in it become their ids.

    Without it they are text like any other: what a user types never turns into a special token.
    """
    if not allow_special:
        return self.encode_ordinary(text)
    ids: list[int] = []
    for part in split_special(text, self.special_tokens):
        if part in self.special_tokens:
            ids.append(self.special_tokens[part])
        else:
            ids += self.encode_ordinary(part)
    return ids


Tokenizer.encode = _encode
