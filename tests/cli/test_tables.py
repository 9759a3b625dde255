"""Tables at 80 columns: names stay in one piece, texts wrap, and what does not fit becomes blocks."""

from __future__ import annotations

import pytest

from learndock.cli.tables import draw

COLUMNS = ("learnware", "labels", "size")
ROWS = (
    ("chat-lab/tweet-sentiment", "negative, positive, and a third one that is neither of the two", "1.0 MB"),
    ("a/b", "x", "12.5 kB"),
)


def test_a_table_as_wide_as_its_cells() -> None:
    assert draw(("name", "n"), [("a", "1"), ("bcd", "200")], right=("n",)) == [
        "name    n",
        "─────────",
        "a       1",
        "bcd   200",
    ]


@pytest.mark.parametrize("width", range(50, 120))
def test_names_are_never_broken(width: int) -> None:
    lines = draw(COLUMNS, ROWS, right=("size",), wrap=("labels",), width=width)
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    assert "chat-lab/tweet-sentiment" in text
    assert all(word in text for word in ROWS[0][1].split())


def test_what_cannot_fit_becomes_blocks() -> None:
    lines = draw(COLUMNS, ROWS, right=("size",), wrap=("labels",), width=40)
    assert lines[:3] == [
        "learnware  chat-lab/tweet-sentiment",
        f"labels     {ROWS[0][1]}",
        "size       1.0 MB",
    ]
    assert lines[3] == ""


def test_wide_characters_take_two_cells() -> None:
    assert draw(("a", "b"), [("好", "x"), ("e\u0301", "y")])[2:] == ["好  x", "e\u0301   y"]
