"""What fits on a page: blocks of lines, the least important of which go where room is short."""

from __future__ import annotations

from typing import NamedTuple

import click

from tito import screen

# How much a block matters. Those below ESSENTIAL are shortened or left out before anything else.
PRINTED, WHY, SEE_ALSO, GAP, HEADER, NOTICE, OTHER = range(1, 8)
ESSENTIAL = 10
WHERE, RESULT, PROBABLY, HEADING, WHAT, HINT, SUMMARY, NEWS = range(10, 18)


class Block(NamedTuple):
    """Lines that belong together, and how much they matter."""

    keep: int
    lines: list[str]

    def cut(self, tall: int) -> Block:
        """At most so many lines; the last one says that there were more."""
        if len(self.lines) <= tall:
            return self
        return Block(self.keep, [*self.lines[: tall - 1], _ended(self.lines[tall - 1])])


GAP_BLOCK = Block(GAP, [""])


def flat(blocks: list[Block]) -> list[str]:
    """All lines of the blocks."""
    return [line for block in blocks for line in block.lines]


def fit(blocks: list[Block], room: int) -> list[str]:
    """The lines of the blocks, at most `room` of them.

    What is not essential goes first, then long blocks are cut, then the least important go.
    """
    kept = _without_spare([block for block in blocks if block.lines], room)
    while len(flat(kept)) > max(room, len(kept)):
        longest = max(kept, key=lambda block: (len(block.lines), -block.keep))
        kept[kept.index(longest)] = longest.cut(len(longest.lines) - 1)
    while len(kept) > max(room, 1):
        kept.remove(min(kept, key=lambda block: block.keep))
    return flat(kept)


def _without_spare(blocks: list[Block], room: int) -> list[Block]:
    kept = list(blocks)
    while kept and (over := len(flat(kept)) - room) > 0:
        least = min(kept, key=lambda block: block.keep)
        if least.keep >= ESSENTIAL:
            break
        place, left = kept.index(least), len(least.lines) - over
        kept[place : place + 1] = [least.cut(left)] if left > 0 else []
    return kept


def old(blocks: list[Block]) -> list[Block]:
    """The blocks as something that was true a moment ago: without colours, dim."""
    return [Block(b.keep, [screen.dim(click.unstyle(line)) for line in b.lines]) for b in blocks]


def _ended(line: str) -> str:
    bare, width = click.unstyle(line), screen.width()
    return f"{line} …" if len(bare) + 2 <= width else f"{bare[: width - 1]}…"
