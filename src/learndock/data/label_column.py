"""A column of raw labels, before anything is known about what they mean: each is a name or a number, or refused."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date, time
from decimal import Decimal
from typing import Any, Protocol

from learndock.data.schema import Schema
from learndock.data.spelling import fold, listed, visible
from learndock.data.tables import Unusable


class Complain(Protocol):
    """Makes the error for a label that cannot be used."""

    def __call__(self, why: str, remedy: str = "") -> Exception:
        """Return an error; ``why`` follows "FILE row 3: "."""
        ...


#: One raw label to its target.
Label = Callable[[object, Complain], float]
Scalar = str | float


@dataclass(frozen=True)
class Column:
    """The labels of a file: raw ``values``, their ``rows``, and for each a way to complain about it.

    ``class_names`` are the names behind the column's integers, where the file knows them; ``places`` says
    whether integers may mean classes of a schema by their order.
    """

    name: str
    values: Sequence[object]
    rows: Sequence[int]
    complain: Sequence[Complain]
    refuse: Complain
    class_names: Sequence[str] = ()
    places: bool = True


@dataclass(frozen=True)
class Labelled:
    """The targets of a column under ``schema``, and remarks for the person."""

    schema: Schema
    targets: Sequence[float]
    remarks: Sequence[str] = field(default=())


def is_missing(value: object) -> bool:
    """Whether a cell holds no label."""
    if isinstance(value, str):
        return not fold(value)
    return value is None or (isinstance(value, list) and not value)


def scalars(column: Column) -> tuple[list[Scalar], list[str]]:
    """Return each label as a name or a number; lists of one label are opened, others refused with their row."""
    found: list[Scalar] = []
    opened = 0
    names: set[str] = set()  # a column has few different labels; each is looked at once
    for value, complain in zip(column.values, column.complain, strict=True):
        if type(value) is str and value in names:
            found.append(value)
            continue
        if is_missing(value):
            missing = sum(map(is_missing, column.values))
            more = f" ({missing:,} of {len(column.rows):,} rows have none)" if missing > 1 else ""
            raise complain(f'no label in column "{column.name}"', f"add one or leave the row out{more}")
        single = _opened(value, column, complain)
        opened += single is not value
        found.append(scalar(single, column.name, complain))
        if single is value and isinstance(value, str):
            names.add(value)
    return found, [f"{opened:,} labels are lists of one label; each was read as the label in it"] if opened else []


def _opened(value: object, column: Column, complain: Complain) -> object:
    """The one item of a list of labels; ``value`` itself where it is not a list."""
    if isinstance(value, dict) and set(value) == {"choices"}:
        value = value["choices"]
    items: Any = listed(value) if isinstance(value, str) else value
    if not isinstance(items, list | tuple):
        return value
    if any(isinstance(item, list | tuple | dict) for item in items):
        raise complain("the label is a list of spans or objects", "learndock reads one label for each example")
    if not items:
        raise complain(f'no label in column "{column.name}" (an empty list)', "leave the row out")
    if any(item != items[0] for item in items):
        named = column.class_names
        shown = [named[i] if isinstance(i, int) and 0 <= i < len(named) else str(i) for i in items]
        raise complain(
            f"several labels ({quoted(shown)})",
            (
                "learndock reads one label for each example: keep the main one, or make one file with "
                "yes and no for each label"
            ),
        )
    return items[0]


def scalar(value: object, column: str, complain: Complain) -> Scalar:
    """Return the label if it is there and is a name or a finite number (bool and int count as numbers)."""
    if isinstance(value, str) and value:
        return value
    if is_missing(value):
        raise complain(f'no label in column "{column}"', "add one or leave the row out")
    if isinstance(value, Unusable):
        raise complain(f'column "{column}": {value.why}')
    if isinstance(value, date | time):
        raise complain(f'column "{column}" holds a date or a time', "format the column as text, or name another")
    if isinstance(value, Decimal):
        value = int(value) if value == value.to_integral_value() else float(value)
    if not isinstance(value, str | int | float):
        raise complain(f"the label is a {type(value).__name__}, not a name or a number")
    if isinstance(value, float) and not math.isfinite(value):
        raise complain(not_finite(value))
    return value


def not_finite(value: object) -> str:
    return f"label {show(value)} is not a finite number; correct it or leave the row out"


def quoted(names: Sequence[str], most: int = 12) -> str:
    """Names in quotation marks, the first ``most`` of them."""
    shown = ", ".join(f'"{visible(n)}"' for n in names[:most])
    return shown + (f", ... ({len(names)} in all)" if len(names) > most else "")


def show(value: object) -> str:
    text = f'"{visible(value)}"' if isinstance(value, str) else str(value)
    return text if len(text) <= 80 else text[:77] + "..."
