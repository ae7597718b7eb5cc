"""What stays on a page when room is short."""

from __future__ import annotations

from typing import Any

from tito import layout, screen
from tito.layout import Block

PAGE = [
    Block(layout.SUMMARY, ["marks"]), layout.GAP_BLOCK, Block(layout.WHAT, ["what"]),
    Block(layout.RESULT, ["got 1", "got 2", "got 3"]), Block(layout.WHY, ["why"]),
    Block(layout.SEE_ALSO, ["see"]), Block(layout.PRINTED, ["p1", "p2", "p3"]),
    Block(layout.HINT, ["hint"]),
]


def test_everything_stays_where_there_is_room() -> None:
    assert layout.fit(PAGE, 12) == layout.flat(PAGE)


def test_printed_goes_first_then_why_then_see_also() -> None:
    left = [set(layout.flat(PAGE)) - {row.removesuffix(" …") for row in layout.fit(PAGE, room)}
            for room in (11, 9, 8, 7, 6)]
    printed = {"p1", "p2", "p3"}
    assert left == [{"p3"}, printed, {"why"} | printed, {"why", "see"} | printed,
                    {"why", "see", ""} | printed]


def test_then_the_longest_is_cut_and_says_so() -> None:
    assert layout.fit(PAGE, 5) == ["marks", "what", "got 1", "got 2 …", "hint"]
    assert layout.fit(PAGE, 4) == ["marks", "what", "got 1 …", "hint"]


def test_the_newest_hint_outlives_the_rest() -> None:
    assert layout.fit(PAGE, 3) == ["marks", "what", "hint"]
    assert layout.fit(PAGE, 2) == ["marks", "hint"]


def test_a_cut_line_stays_within_the_terminal(monkeypatch: Any) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    block = Block(layout.WHAT, [screen.bold("x" * 30), "more"]).cut(1)
    assert block.lines == ["x" * 29 + "…"]
    assert Block(layout.WHAT, [screen.bold("y"), "more"]).cut(1).lines == [screen.bold("y") + " …"]


def test_old_blocks_have_no_colours() -> None:
    assert layout.old([Block(1, [screen.bad("no")])]) == [Block(1, [screen.dim("no")])]


def test_shorten_ends_at_a_phrase_or_a_word() -> None:
    text = "parameters, modules, and starting values that survive depth"
    assert screen.shorten(text, 70) == text
    assert screen.shorten(text, 39) == "parameters, modules"
    assert screen.shorten("claims that survive noise", 14) == "claims that…"
    assert screen.shorten("immeasurable", 5) == "imme…"


def test_terminal_obeys_the_environment(monkeypatch: Any) -> None:
    monkeypatch.setenv("COLUMNS", "33")
    monkeypatch.setenv("LINES", "7")
    assert screen.terminal() == (33, 7)
    monkeypatch.setenv("LINES", "many")
    assert screen.terminal()[0] == 33 and screen.terminal()[1] > 0
