"""What the labels of a file mean: one column of raw values to classes or numbers, the same for every kind of file.

With a schema, a label is the name of a class, or its place. Names decide: exactly, then by ``spelling.label_key``. A
place counts only where no label name is itself a number, so that stars "1" to "5" are never taken for places 0 to 4;
a remark says which place became which name. Without a schema one is made from the labels: spellings of one label are
merged, and what looks like a mistake (words for no label, several labels in a cell, numbers with a decimal comma) is
remarked or refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence

from learndock.data.label_column import (
    Column,
    Complain,
    Label,
    Labelled,
    Scalar,
    not_finite,
    quoted,
    scalar,
    scalars,
    show,
)
from learndock.data.number_labels import read_number, read_numbers
from learndock.data.schema import Schema
from learndock.data.spelling import (
    count_by,
    joined,
    label_key,
    look_alike,
    merge_spellings,
    no_label_words,
    number_in,
    visible,
    written_number,
)

#: More different labels than this are taken for something else than classes.
MAX_INFERRED = 200

_WHOLE = re.compile(r"[+-]?[0-9]{1,18}(?:\.0+)?")


def read_labels(column: Column, schema: Schema | None) -> Labelled:
    """The targets of a column; ``schema`` None makes one.

    Raises:
        Exception: what ``column.complain`` and ``column.refuse`` make: a label is missing, unknown or several.
    """
    values, remarks = scalars(column)
    names = column.class_names
    if names and schema is None and len(set(names)) == len(names) >= 2:
        schema = schema_of(names)
    if schema is None:
        made, targets, more = _infer(column, values)
        return Labelled(made, targets, [*remarks, *more])
    if schema.type == "regression" and not names:
        numbers, more = read_numbers(column, values)
        return Labelled(schema, numbers, [*remarks, *more])
    if names:
        read, warning = class_label_reader(names, schema, column.name, places=column.places)
        remarks += [warning] if warning else []
    else:
        read = label_reader(schema, column.name, places=column.places)
    targets = [read(v, complain) for v, complain in zip(values, column.complain, strict=True)]
    if not names:
        remarks += _by_place(schema, values, targets)
    return Labelled(schema, targets, remarks)


#: What JSON's false and true mean as labels, whatever their order in a schema.
_TRUTHS = (("no", "yes"), ("false", "true"), ("n", "y"), ("f", "t"), ("off", "on"))


# --- under a schema --------------------------------------------------------------------------------------------


def label_reader(schema: Schema, column: str, *, places: bool = True) -> Label:
    """The function that turns a raw label of ``column`` into a class index or a value."""
    if schema.type == "regression":
        return lambda value, complain: read_number(value, column, complain)
    exact = {name: index for index, name in enumerate(schema.labels)}
    alike: dict[str, list[int]] = {}
    for index, name in enumerate(schema.labels):
        alike.setdefault(label_key(name), []).append(index)
    numeric = any(number_in(name) is not None for name in schema.labels)
    truths = _truths(schema.labels)

    def read(value: object, complain: Complain) -> float:
        value = scalar(value, column, complain)
        name = label_name(value)
        if name in exact:
            return exact[name]
        found = alike.get(label_key(name), [])
        if len(found) == 1:
            return found[0]
        if isinstance(value, bool) and truths is not None:
            return truths[value]
        index = None if numeric or (isinstance(value, bool) and schema.classes != 2) else _index(value)
        if index is not None and 0 <= index < schema.classes:
            if places:
                return index
            raise complain(
                f"label {show(value)} is not a name of a class ({quoted(schema.labels)})",
                (
                    f'say which name is which number with --map, as in --map "{schema.labels[0]}"=0, or give '
                    "your own labels with --schema"
                ),
            )
        advice = f"allowed are {_allowed(schema, numeric or not places)}"
        if not places and not numeric:  # the labels are a model's, and the user may have names of their own
            advice += (
                f'; if your names differ, say which is which with --map, as in --map "{schema.labels[0]}"={show(value)}'
            )
        raise complain(f"unknown label {show(value)}", advice)

    return read


def _truths(labels: Sequence[str]) -> tuple[int, int] | None:
    """The places of the labels that mean false and true, as in ("yes", "no"); None where they are other words."""
    keys = [label_key(name) for name in labels]
    for pair in _TRUTHS:
        if sorted(keys) == sorted(pair):
            return keys.index(pair[0]), keys.index(pair[1])
    return None


def label_name(value: object) -> str:
    """A raw label as the name of a class; whole floats lose their ``.0``."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def class_label_reader(
    names: Sequence[str], schema: Schema, column: str, *, places: bool = True
) -> tuple[Label, str | None]:
    """A reader for integers whose names the file knows, and a warning where names are not the schema's.

    Where the schema knows every name, names decide. Where it knows none and has as many, the order does, if
    ``places`` count.
    """
    inner = label_reader(schema, column, places=places)
    known = {label_key(name) for name in schema.labels}
    matching = sum(label_key(name) in known for name in names)
    by_order = places and schema.type == "classification" and matching == 0 and len(names) == schema.classes
    by_value = schema.type == "regression"

    def read(value: object, complain: Complain) -> float:
        if isinstance(value, int) and not isinstance(value, bool) and not by_value:
            if value == -1:
                raise complain(f'no label in column "{column}" (-1 means unlabelled)', "leave the row out")
            if not 0 <= value < len(names):
                raise complain(f"unknown label {value}", f"the file names {len(names)} classes")
            return value if by_order else inner(names[value], complain)
        return inner(value, complain)

    warning = None
    if by_order:
        warning = (
            f"the file's class names ({quoted(names)}) are not the schema's ({quoted(schema.labels)}); "
            "they were taken for each other in this order"
        )
    return read, warning


def _by_place(schema: Schema, values: Sequence[Scalar], targets: Sequence[float]) -> list[str]:
    """Say which name each number became, where names of classes are words and labels are numbers."""
    known = {label_key(name) for name in schema.labels}
    taken = {
        int(t): label_name(v) for v, t in zip(values, targets, strict=True) if label_key(label_name(v)) not in known
    }
    if not taken:
        return []
    pairs = ", ".join(f'{taken[place]} as "{schema.labels[place]}"' for place in sorted(taken)[:12])
    return [f"labels that are numbers were read as places in the schema: {pairs}"]


# --- without a schema ------------------------------------------------------------------------------------------


def schema_of(names: Sequence[str]) -> Schema:
    """A classification whose labels are all that is known about it."""
    return Schema("classification", tuple(names), tuple(names), "accuracy")


def infer_classes(names: Sequence[str]) -> tuple[list[str], dict[str, str], list[str]]:
    """The distinct labels of a column of names (sorted), which of them each spelling is, and remarks."""
    meant, groups = merge_spellings(names)
    found = sorted(set(meant.values()))
    numbers = [number_in(n) for n in found]
    if all(n is not None for n in numbers):
        found = [n for _, n in sorted(zip([n or 0.0 for n in numbers], found, strict=True))]
    remarks = []
    for group in groups[:6]:
        others = ", ".join(f'"{visible(s)}"' for s in group if s != group[0])
        remarks.append(f'{others} {"is" if len(group) == 2 else "are"} read as the label "{group[0]}"')
    if groups:
        more = f" (and {len(groups) - 6} more such labels)" if len(groups) > 6 else ""
        remarks = ["; ".join(remarks) + more + "; pass a schema that lists both if they differ"]
    return found, meant, remarks


def _infer(column: Column, values: Sequence[Scalar]) -> tuple[Schema, Sequence[float], list[str]]:
    """A schema, targets and remarks from the labels alone.

    Numbers that are not all whole make a regression without known ends; anything else makes classes, in the order of
    numbers or of the alphabet.
    """
    raw = [_finite(v, complain) for v, complain in zip(values, column.complain, strict=True)]
    names = [label_name(v) for v in raw]
    distinct = dict.fromkeys(names)
    numbers = [number_in(n) for n in distinct]
    if all(n is not None for n in numbers) and any(n != int(n) for n in numbers if n is not None):
        targets, remarks = read_numbers(column, raw)
        return _open_regression(), targets, [_REGRESSION, *remarks]
    written = [n for n in distinct if number_in(n) is None and written_number(n) is not None]
    if written and all(number_in(n) is not None or written_number(n) is not None for n in distinct):
        for name in written:
            if name.count(",") == 1 and all(part.strip() in distinct for part in name.split(",")):
                raise column.refuse(
                    f'"{name}" may be the number {name.replace(",", ".")} or two labels',
                    "write numbers with a point, or one label for each example",
                )
        targets, remarks = read_numbers(column, raw)
        if any(t != int(t) for t in targets):
            return _open_regression(), targets, [_REGRESSION, *remarks]
    found, meant, remarks = infer_classes(names)
    if written and len(written) * 2 > len(distinct):
        remarks.append(f'labels such as "{written[0]}" look like numbers, but are read as names of classes')
    _refuse_several(column, found)
    if len(found) > MAX_INFERRED:
        raise column.refuse(
            (f"{len(found)} different labels, at most {MAX_INFERRED} are taken for classes without a schema"),
            "pass a schema (--schema) that says what the labels are",
        )
    if len(found) < 2:
        raise column.refuse(
            f'all labels are "{found[0]}"', "a task needs at least two classes: add examples of another class"
        )
    remarks += _odd_labels(column, names, meant, found)
    place = {name: index for index, name in enumerate(found)}
    return schema_of(found), [place[meant[n]] for n in names], remarks


_REGRESSION = "no schema was given: the labels are numbers that are not whole, so this is read as regression"


def _open_regression() -> Schema:
    return Schema("regression", (), (), "pearson_spearman")


def _odd_labels(column: Column, names: Sequence[str], meant: Mapping[str, str], found: Sequence[str]) -> list[str]:
    remarks = []
    words = no_label_words(found)
    if words:
        rows: dict[str, list[int]] = {}
        for row, name in zip(column.rows, names, strict=True):
            rows.setdefault(meant[name], []).append(row)
        are, they = ("is a class", "it means") if len(words) == 1 else ("are classes", "they mean")
        remarks.append(f'{count_by(rows, words)} {are} here; if {they} "no label", leave those rows out')
    for group in look_alike(found)[:6]:
        shown = " and ".join(f'"{label}"' for label in group)
        remarks.append(f"{shown} look alike, but are different letters, and so different labels")
    numeric = [n for n in found if number_in(n) is not None]
    if len(numeric) == len(found):
        hint = '; "-1" means "no label" in many data sets' if "-1" in found else ""
        remarks.append(
            f"no schema was given: the labels are the numbers {quoted(found)}; names or descriptions would help{hint}"
        )
    elif numeric:
        words_too = [n for n in found if n not in numeric]
        remarks.append(f"some labels are numbers ({quoted(numeric, 4)}), others are words ({quoted(words_too, 4)})")
    return remarks


def _refuse_several(column: Column, names: Iterable[str]) -> None:
    found = joined(names)
    if found is not None:
        cell, parts = found
        raise column.refuse(
            f'several labels in one cell: "{visible(cell)}" is {quoted(parts)}',
            (
                "learndock reads one label for each example: keep the main one, or make one file with "
                "yes and no for each label (or list the cells as they are in a schema, if they are names)"
            ),
        )


# --- values and numbers ----------------------------------------------------------------------------------------


def _finite(value: Scalar, complain: Complain) -> Scalar:
    """Return a raw label if it could be one of some schema."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    too_large = re.fullmatch(r"[+-]?[0-9.]+(?:[eE][+-]?[0-9]+)?", text) and not _is_finite(text)
    if too_large or text.lower().lstrip("+-") in ("nan", "inf", "infinity"):
        raise complain(not_finite(value))
    return text


def _is_finite(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return True  # not a number at all, so no infinite one


def _index(value: object) -> int | None:
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    text = str(value).strip()
    return int(float(text)) if _WHOLE.fullmatch(text) else None


def _allowed(schema: Schema, numeric: bool) -> str:
    return quoted(schema.labels) + ("" if numeric else f", or 0 to {schema.classes - 1}")
