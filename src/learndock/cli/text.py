"""Text from strangers (cards, labels, names of files) on its way to a terminal."""

from __future__ import annotations


def plain(text: str) -> str:
    """``text`` with its control characters spelt out: a learnware must not move the cursor or forge lines."""
    return "".join(c if c.isprintable() else _spelt(c) for c in text)


def one_line(text: str) -> str:
    """``text`` as one plain line, however long."""
    return plain(" ".join(text.split()))


def _spelt(character: str) -> str:
    # Lone surrogates stand for undecodable bytes of a file's name; zero-width marks change how others read
    return character.encode("unicode_escape").decode("ascii")
