"""Small HTML tables for notebooks: what ``_repr_html_`` of the public types is made of.

No style sheet and no script: a notebook's own style applies, and every text is escaped, because names and labels come
from other people.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape


def html_table(head: Sequence[object], rows: Iterable[Sequence[object]], *, caption: str = "") -> str:
    """Return an HTML table; ``head`` names the columns, numbers among the cells are aligned to the right."""
    top = "".join(f"<th>{escape(str(name))}</th>" for name in head)
    body = "".join(f"<tr>{''.join(_cell(value) for value in row)}</tr>" for row in rows)
    said = f"<caption>{escape(caption)}</caption>" if caption else ""
    return f"<table>{said}<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def number(value: float | None, form: str = ".2f") -> str:
    """``value`` in ``form``, and a dash for None."""
    return "-" if value is None else format(value, form)


def _cell(value: object) -> str:
    text = str(value)
    right = isinstance(value, int | float) or text.lstrip("+-").replace(".", "", 1).isdigit()
    style = ' style="text-align: right"' if right else ""
    return f"<td{style}>{escape(text)}</td>"
