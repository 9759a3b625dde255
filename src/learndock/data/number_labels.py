"""Labels that are numbers, also as people write them: decimal commas, thousands, percent and currency signs."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from learndock.data.label_column import Column, Complain, Scalar, not_finite, scalar, show
from learndock.data.spelling import written_number


def read_numbers(column: Column, values: Sequence[Scalar]) -> tuple[list[float], list[str]]:
    """The numbers that labels are, also where people wrote them with a decimal comma, thousands or a percent sign.

    One way of writing must hold for the column: "1,5" makes "1,000" a one, "1,000.5" makes it a thousand.
    """
    found: list[float] = []
    ways: dict[str, tuple[str, str]] = {}
    comma = _comma(values)
    for value, complain in zip(values, column.complain, strict=True):
        written = written_number(value) if isinstance(value, str) else None
        if written is None:
            found.append(read_number(value, column.name, complain))
            continue
        kind, digits = written
        if kind == "ambiguous comma":
            if comma is None:
                raise complain(
                    f"label {show(value)} may be a thousand or have a decimal comma",
                    "write numbers without separators",
                )
            kind = comma
            digits = str(value).strip().replace(",", "." if comma == "decimal comma" else "")
        ways.setdefault(kind, (str(value), digits))
        found.append(read_number(digits, column.name, complain))
    if len(ways) > 1 or (ways and _mixed(values, set(ways))):
        shown = " and ".join(f'"{text}"' for text, _ in ways.values())
        raise column.refuse(f"labels write numbers in several ways ({shown}, and others)", "write all of them one way")
    read = [f'numbers with a {kind} were read: "{text}" as {digits}' for kind, (text, digits) in ways.items()]
    return found, [*_dots(values), *read]


def _dots(values: Sequence[Scalar]) -> list[str]:
    """A remark where every number has a point before its last three digits, which may be thousands."""
    texts = [v.strip() for v in values if isinstance(v, str)]
    if len(texts) < len(values) or not all(re.fullmatch(r"[+-]?[1-9][0-9]{0,2}\.[0-9]{3}", t) for t in texts):
        return []
    bare = texts[0].replace(".", "")
    return [f'the point in "{texts[0]}" was read as a decimal point; if it separates thousands, write {bare}']


def _comma(values: Sequence[Scalar]) -> str | None:
    """What a comma in a number means in this column, by the labels that leave no doubt."""
    kinds = {found[0] for v in values if isinstance(v, str) and (found := written_number(v))}
    sure = kinds & {"decimal comma", "thousands separator"}
    return sure.pop() if len(sure) == 1 else None


def _mixed(values: Sequence[Scalar], ways: set[str]) -> bool:
    """Return whether a column mixes plain numbers with signed ones, or decimal points with decimal commas."""
    plain = [v for v in values if not (isinstance(v, str) and written_number(v))]
    if ways & {"percent sign", "currency sign"}:
        return bool(plain)
    return "decimal comma" in ways and any(
        (isinstance(v, float) and not v.is_integer()) or "." in str(v) for v in plain
    )


def read_number(value: object, column: str, complain: Complain) -> float:
    raw = scalar(value, column, complain)
    no_number = f"label {show(value)} is not a number; this task is a regression"
    # Python reads "1_000" as a thousand; a table that says so means something else.
    if isinstance(raw, bool) or "_" in str(raw):
        raise complain(no_number)
    try:
        number = float(raw)
    except OverflowError:
        number = math.inf
    except ValueError:
        raise complain(no_number) from None
    if not math.isfinite(number):
        raise complain(not_finite(value))
    return number
