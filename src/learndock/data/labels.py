"""What a raw label means under a schema; called by ``read`` for each row.

A label is the name of a class, or its index. Names go first: exactly, then without regard to case and outer
blanks. An index counts only where no label name is itself a number, so that stars "1" to "5" are never
taken for places 0 to 4.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence

from learndock.data.schema import Schema

#: A label that cannot be used: what is wrong with it, in words that follow "FILE row 3: ".
Complain = Callable[[str], Exception]
#: One raw label to its target.
Label = Callable[[object, Complain], float]

#: More different labels than this are taken for something else than classes.
MAX_INFERRED = 200

_WHOLE = re.compile(r"[+-]?[0-9]{1,18}(?:\.0+)?")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")


def is_missing(value: object) -> bool:
    """Whether a cell holds no label."""
    return value is None or (isinstance(value, str) and not value.strip())


def label_reader(schema: Schema, column: str) -> Label:
    """The function that turns a raw label of ``column`` into a class index or a value."""
    if schema.type == "regression":
        return lambda value, complain: _value(value, column, complain)
    exact = {name: index for index, name in enumerate(schema.labels)}
    folded: dict[str, list[int]] = {}
    for index, name in enumerate(schema.labels):
        folded.setdefault(name.strip().casefold(), []).append(index)
    numeric = any(_NUMBER.fullmatch(name.strip()) for name in schema.labels)

    def read(value: object, complain: Complain) -> float:
        _scalar(value, column, complain)
        name = label_name(value)
        if name in exact:
            return exact[name]
        alike = folded.get(name.strip().casefold(), [])
        if len(alike) == 1:
            return alike[0]
        index = None if numeric or (isinstance(value, bool) and schema.classes != 2) else _index(value)
        if index is not None and 0 <= index < schema.classes:
            return index
        raise complain(f"unknown label {_show(value)}; allowed are {_allowed(schema, numeric)}")

    return read


def label_name(value: object) -> str:
    """A raw label as the name of a class; whole floats lose their ``.0``."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def class_label_reader(names: Sequence[str], schema: Schema, column: str) -> tuple[Label, str | None]:
    """A reader for integers whose names the file knows, and a warning where names are not the schema's.

    Where the schema knows every name, names decide. Where it knows none and has as many, the order does.
    """
    inner = label_reader(schema, column)
    known = {name.strip().casefold() for name in schema.labels}
    matching = sum(name.strip().casefold() in known for name in names)
    by_order = schema.type == "classification" and matching == 0 and len(names) == schema.classes
    by_value = schema.type == "regression"

    def read(value: object, complain: Complain) -> float:
        if isinstance(value, int) and not isinstance(value, bool) and not by_value:
            if value == -1:
                raise complain(f'no label in column "{column}" (-1 means unlabelled); leave the row out')
            if not 0 <= value < len(names):
                raise complain(f"unknown label {value}; the file names {len(names)} classes")
            return value if by_order else inner(names[value], complain)
        return inner(value, complain)

    warning = None
    if by_order:
        warning = (
            f"the file's class names ({_list(names)}) are not the schema's ({_list(schema.labels)}); "
            "they were taken for each other in this order"
        )
    return read, warning


def infer_schema(values: Iterable[object], refuse: Complain) -> tuple[Schema, str | None]:
    """A schema from the raw labels of a file (none missing), and a remark for the person.

    Numbers that are not all whole make a regression without known ends; anything else makes classes, in the
    order of numbers or of the alphabet.
    """
    names = sorted({label_name(v) for v in values})
    numbers = [_number(n) for n in names]
    if all(n is not None for n in numbers) and any(n != int(n) for n in numbers if n is not None):
        return Schema("regression", (), (), "pearson_spearman"), (
            "no schema was given: the labels are numbers that are not whole, so this is read as regression"
        )
    if len(names) > MAX_INFERRED:
        raise refuse(
            f"{len(names)} different labels, at most {MAX_INFERRED} are taken for classes without a schema; "
            "pass a schema (--schema) that says what the labels are"
        )
    if len(names) < 2:
        raise refuse(f'all labels are "{names[0]}"; one class only is no task: add examples of another class')
    whole = [n for n in numbers if n is not None]
    if len(whole) < len(names):
        return schema_of(names), None
    names = [n for _, n in sorted(zip(whole, names, strict=True))]
    remark = f"no schema was given: the labels are the numbers {_list(names)}; names or descriptions would help"
    return schema_of(names), remark


def schema_of(names: Sequence[str]) -> Schema:
    """A classification whose labels are all that is known about it."""
    return Schema("classification", tuple(names), tuple(names), "accuracy")


def _value(value: object, column: str, complain: Complain) -> float:
    raw = _scalar(value, column, complain)
    no_number = f"label {_show(value)} is not a number; this task is a regression"
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
        raise complain(_not_finite(value))
    return number


def check_raw(value: object, column: str, complain: Complain) -> str | float:
    """Return a raw label if it could be one of some schema."""
    raw = _scalar(value, column, complain)
    if not isinstance(raw, str):
        return raw
    text = raw.strip()
    too_large = _NUMBER.fullmatch(text) and not math.isfinite(float(text))
    if too_large or text.lower().lstrip("+-") in ("nan", "inf", "infinity"):
        raise complain(_not_finite(raw))
    return text


def _scalar(value: object, column: str, complain: Complain) -> str | float:
    """Return the label if it is there and is a name or a finite number (bool and int count as numbers)."""
    if is_missing(value):
        raise complain(f'no label in column "{column}"; add one or leave the row out')
    if not isinstance(value, str | int | float):
        raise complain(f"the label is a {type(value).__name__}, not a name or a number")
    if isinstance(value, float) and not math.isfinite(value):
        raise complain(_not_finite(value))
    return value


def _not_finite(value: object) -> str:
    return f"label {_show(value)} is not a finite number; correct it or leave the row out"


def _index(value: object) -> int | None:
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    text = str(value).strip()
    return int(float(text)) if _WHOLE.fullmatch(text) else None


def _number(name: str) -> float | None:
    text = name.strip()
    return float(text) if _NUMBER.fullmatch(text) and math.isfinite(float(text)) else None


def _allowed(schema: Schema, numeric: bool) -> str:
    return _list(schema.labels) + ("" if numeric else f", or 0 to {schema.classes - 1}")


def _list(names: Sequence[str], most: int = 12) -> str:
    shown = ", ".join(f'"{n}"' for n in names[:most])
    return shown + (f", ... ({len(names)} in all)" if len(names) > most else "")


def _show(value: object) -> str:
    text = f'"{value}"' if isinstance(value, str) else str(value)
    return text if len(text) <= 80 else text[:77] + "..."
