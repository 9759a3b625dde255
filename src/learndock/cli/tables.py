"""Tables of text for a terminal: names stay in one piece, long texts wrap."""

from __future__ import annotations

import textwrap
import unicodedata
from collections.abc import Sequence

GAP = "  "
#: The narrowest that a column of long texts becomes before a table is drawn as blocks.
NARROW = 12


def draw(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    right: Sequence[str] = (),
    wrap: Sequence[str] = (),
    width: int | None = None,
) -> list[str]:
    """The lines of a table: a header, a rule, and the rows.

    ``right`` names the columns aligned to the right, ``wrap`` those whose texts may be broken into lines where the
    table is wider than ``width`` (None: no limit). Where that does not suffice every row becomes a block of lines
    ``column  cell``, so that no name is ever broken.
    """
    widths = [max([_cells(c), *(_cells(row[i]) for row in rows)]) for i, c in enumerate(columns)]
    limits = _fit(columns, widths, wrap, width)
    if limits is None:
        return _blocks(columns, rows)
    lines = [_line([[c] for c in columns], columns, limits, right)[0].rstrip()]
    lines.append("─" * min(sum(limits) + len(GAP) * (len(limits) - 1), width or 10**6))
    for row in rows:
        parts = [_broken(cell, limit) for cell, limit in zip(row, limits, strict=True)]
        lines += [line.rstrip() for line in _line(parts, columns, limits, right)]
    return lines


def _fit(columns: Sequence[str], widths: list[int], wrap: Sequence[str], width: int | None) -> list[int] | None:
    """The widths at which all columns fit, or None."""
    limits = list(widths)
    over = sum(limits) + len(GAP) * (len(limits) - 1) - (width or 10**6)
    while over > 0:
        able = [i for i, c in enumerate(columns) if c in wrap and limits[i] > NARROW]
        if not able:
            return None
        widest = max(able, key=lambda i: limits[i])
        others = [limits[i] for i in able if i != widest]
        take = max(1, min(over, limits[widest] - max([NARROW, *others])))
        limits[widest] -= take
        over -= take
    return limits


def _line(
    parts: Sequence[Sequence[str]], columns: Sequence[str], limits: Sequence[int], right: Sequence[str]
) -> list[str]:
    """A row of cells, each a list of lines, as lines of the table."""
    lines = []
    for number in range(max(map(len, parts))):
        cells = []
        for part, column, limit in zip(parts, columns, limits, strict=True):
            text = part[number] if number < len(part) else ""
            space = " " * (limit - _cells(text))
            cells.append(space + text if column in right else text + space)
        lines.append(GAP.join(cells))
    return lines


def _broken(text: str, limit: int) -> list[str]:
    return [text] if _cells(text) <= limit else textwrap.wrap(text, limit, break_on_hyphens=False) or [""]


def _blocks(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    named = max(map(_cells, columns))
    lines: list[str] = []
    for row in rows:
        shown = [(c, cell) for c, cell in zip(columns, row, strict=True) if cell]
        lines += [*([""] if lines else []), *(f"{c}{' ' * (named - _cells(c))}{GAP}{cell}" for c, cell in shown)]
    return lines


def _cells(text: str) -> int:
    """How many cells of a terminal a text takes: East Asian characters take two, combining ones none."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)
