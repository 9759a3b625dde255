"""Decide which column of a classifier's output is which label of its task: by name, by the owner's word, or not at all.

A model puts out one number per class, in an order of its own. Most files say what their columns are called; the task
says what its labels are called. This module compares the two. Names are compared without case, spaces and
punctuation, and a match must be complete: one name that fits says nothing about the others. Where names do not decide,
the owner must (``pack --map "LABEL_0=World"`` or ``--in-order``). Positions are never taken in silence.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from learndock.data.schema import Schema
from learndock.errors import ModelError, UsageError
from learndock.package.json_file import read_json

#: A file beside any model that names its columns in order: ``["World", "Sports"]``. It goes before all other names.
NAMES_FILE = "labels.json"

_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?", re.ASCII)
_PLACEHOLDER = re.compile(r"LABEL_([0-9]{1,6})", re.ASCII)
_SHOWN = 8


@dataclass(frozen=True)
class Columns:
    """The columns of a classifier and what they mean.

    ``names`` are what the model calls its columns, in their order. ``order`` holds, for each label of the schema, the
    its column. ``by`` says what decided: the names, the owner's mapping, or the owner's word that the
    schema is in the model's order.
    """

    names: tuple[str, ...]
    order: tuple[int, ...]
    by: Literal["names", "map", "order"]

    def pairs(self, schema: Schema) -> tuple[tuple[int, str, str], ...]:
        """``(column, the model's name for it, the label of the schema)``, by column."""
        found = zip(self.order, schema.labels, strict=True)
        return tuple(sorted((column, self.names[column], label) for column, label in found))


def name_key(name: str) -> str:
    """Return what two spellings of one label share: letters and digits, in one case; of a number its value.

    Signs that make another label of the same letters stay: "C++" is not "C#", nor ">50K" "<=50K", nor "A+" "A-".
    """
    text = unicodedata.normalize("NFKC", name).strip()
    if _NUMBER.fullmatch(text):
        return f"#{float(text)!r}"
    kept = "".join(c for c in text.casefold() if c.isalnum() or c == "#" or unicodedata.category(c) == "Sm")
    kept += "-" if re.fullmatch(r"\w{1,2}-", text) else ""
    return kept or text.casefold()


def name_keys(names: Sequence[str]) -> list[str]:
    """Return one key per name: ``name_key``, or the names in one case where that makes two of them equal."""
    keys = [name_key(name) for name in names]
    return keys if len(set(keys)) == len(keys) else [name.strip().casefold() for name in names]


def find_name(name: str, names: Sequence[str]) -> int | None:
    """The position of ``name`` in ``names``, as ``by_name`` compares; None where none or several are equal to it."""
    if name in names:
        return list(names).index(name)
    keys = name_keys(names)
    key = name_key(name) if name_key(name) in keys else name.strip().casefold()
    return keys.index(key) if keys.count(key) == 1 else None


def by_name(names: Sequence[str], labels: Sequence[str]) -> list[int] | None:
    """For each of ``labels`` the position of its name in ``names``; None unless all of both match, one to one."""
    if len(names) != len(labels):
        return None
    for key in (name_key, lambda name: name.strip().casefold(), str):
        columns = {key(name): index for index, name in enumerate(names)}
        wanted = [key(label) for label in labels]
        # Two names of one key ("C" and "C++") need a stricter key
        if len(columns) == len(names) and len(set(wanted)) == len(wanted):
            return [columns[w] for w in wanted] if set(columns) == set(wanted) else None
    return None


def placeholders(count: int) -> list[str]:
    """Return the placeholder names that transformers writes for columns without names."""
    return [f"LABEL_{i}" for i in range(count)]


def are_placeholders(names: Sequence[str]) -> bool:
    """Tell whether names say no more than the numbers of their columns."""
    matches = [_PLACEHOLDER.fullmatch(name.strip()) for name in names]
    return all(m is not None and int(m[1]) == i for i, m in enumerate(matches))


def settle_columns(
    names: Sequence[str],
    schema: Schema,
    *,
    mapping: Mapping[str, str] | None = None,
    in_order: bool = False,
    where: str,
) -> Columns:
    """Match a model's columns to the labels of ``schema``.

    ``mapping`` gives the schema's label for a column, by the column's name or its number; columns that it leaves out
    are matched by name. ``in_order`` is the owner's word that the schema's labels are in the order of the columns; it
    counts where names decide nothing.

    Raises:
        UsageError: ``mapping`` names a column or a label that does not exist, or one of them twice.
        ModelError: names do not match completely, and the owner said nothing; the message has both lists.
    """
    if mapping:
        order = _mapped(list(names), schema, mapping)
        return Columns(tuple(names), tuple(order), "map")
    found = by_name(names, schema.labels)
    if found is None and are_placeholders(names):
        # The names are numbers of classes; so are the labels, where they are 0 to n - 1
        found = by_name([str(i) for i in range(len(names))], schema.labels)
    if found is not None:
        return Columns(tuple(names), tuple(found), "names")
    if in_order and len(names) == schema.classes:
        return Columns(tuple(names), tuple(range(schema.classes)), "order")
    raise ModelError(_unmatched(names, schema, where))


def _mapped(names: list[str], schema: Schema, mapping: Mapping[str, str]) -> list[int]:
    own, labels = name_keys(names), name_keys(schema.labels)
    columns: dict[int, int] = {}
    for theirs, yours in mapping.items():
        column = find_name(theirs, names)
        if column is None and re.fullmatch(r"[0-9]{1,6}", theirs.strip()) and int(theirs) < len(names):
            column = int(theirs)
        label = find_name(yours, schema.labels)
        if column is None or label is None:
            raise UsageError(
                f"--map {theirs}={yours}: {theirs if column is None else yours} is not "
                f"{'a column of the model' if column is None else 'a label of the task'}",
                remedy=f"{_both(names, schema)}",
            )
        if column in columns or label in columns.values():
            raise UsageError(
                f"--map {theirs}={yours}: this column or this label is mapped twice", remedy="map each once"
            )
        columns[column] = label
    for column, key in enumerate(own):
        if column not in columns and key in labels and labels.index(key) not in columns.values():
            columns[column] = labels.index(key)
    if len(columns) != len(names) or len(names) != schema.classes:
        rest = [names[i] for i in range(len(names)) if i not in columns]
        raise UsageError(
            f"--map says nothing about {_listed(rest)}", remedy=f"map every column. {_both(names, schema)}"
        )
    return [column for column, _ in sorted(columns.items(), key=lambda item: item[1])]


def _unmatched(names: Sequence[str], schema: Schema, where: str) -> str:
    own, labels = name_keys(names), name_keys(schema.labels)
    fitting = [name for name, key in zip(names, own, strict=True) if key in labels]
    free = [name for name, key in zip(names, own, strict=True) if key not in labels] or list(names)
    open_labels = [label for label, key in zip(schema.labels, labels, strict=True) if key not in own] or schema.labels
    if are_placeholders(names):
        why = "the model's files do not name its columns"
    elif fitting:
        why = f"only {_listed(fitting)} of the model's column names {'is' if len(fitting) == 1 else 'are'} a label"
    else:
        why = "no column name of the model is a label of the task"
    example = f'--map "{free[0]}={open_labels[0]}"'
    return (
        f"{where}: {why}. {_both(names, schema)}; say which column is which label, as in {example} (once per column), "
        "or --in-order if the labels of --schema are in the model's order"
    )


def _both(names: Sequence[str], schema: Schema) -> str:
    return f"The model's columns: {_listed(names)}. The task's labels: {_listed(schema.labels)}"


def _listed(names: Sequence[str]) -> str:
    rest = f", ... ({len(names)} in all)" if len(names) > _SHOWN else ""
    return ", ".join(n[:60] for n in names[:_SHOWN]) + rest


# --- where names come from -------------------------------------------------------------------------------------------


def names_beside(folder: Path) -> list[str] | None:
    """The names in ``labels.json``, where the folder has one.

    Raises:
        ModelError: it is not a list of different names.
    """
    if not (folder / NAMES_FILE).is_file():
        return None
    found = read_json(folder / NAMES_FILE)
    sound = isinstance(found, list) and found and all(isinstance(n, str) and n.strip() for n in found)
    if not sound or len(set(found)) != len(found):
        raise ModelError('must be a list of different names, one per column, as in ["no", "yes"]', about=NAMES_FILE)
    return list(found)


def both_names(names: list[str], schema: Schema) -> list[str]:
    """The names of two classes where a model has one output, which is that of the second class."""
    if len(names) == 1 and schema.classes == 2:
        return [placeholders(1)[0], placeholders(2)[1] if are_placeholders(names) else names[0]]
    return names


def names_in(config: Mapping[str, Any], *, where: str) -> list[str]:
    """The label names of a transformers ``config.json``, in the order of the model's columns.

    ``id2label`` goes first. Where it is missing or holds placeholders, ``label2id`` names the columns.

    Raises:
        ModelError: either is not a table of names and numbers, or they contradict each other.
    """
    forward, backward = _numbered(config, where), _named(config, where)
    if forward is None:
        count = config.get("num_labels", 2 if backward is None else len(backward))
        if type(count) is not int or not 1 <= count <= 100_000:
            raise ModelError(f"num_labels is {count!r}", about=where)
        forward = placeholders(count)
    if backward is None or are_placeholders(backward) or len(backward) != len(forward):
        return forward
    if are_placeholders(forward):
        return backward
    if [name_key(n) for n in forward] != [name_key(n) for n in backward]:
        raise ModelError(
            f"id2label ({_listed(forward)}) and label2id ({_listed(backward)}) contradict each other",
            remedy="correct the one that is wrong",
            about=where,
        )
    return forward


def _numbered(config: Mapping[str, Any], where: str) -> list[str] | None:
    table = config.get("id2label")
    if table is None:
        return None
    if isinstance(table, list):
        table = {str(i): name for i, name in enumerate(table)}
    plain = isinstance(table, dict) and all(
        re.fullmatch(r"[0-9]{1,6}", k, re.ASCII) and isinstance(v, str | int | float) for k, v in table.items()
    )
    if not plain or sorted(int(k) for k in table) != list(range(len(table))) or not table:
        raise ModelError(f"id2label must name the classes 0, 1, 2, ...; found {str(table)[:200]}", about=where)
    return [str(name) for _, name in sorted((int(k), v) for k, v in table.items())]


def _named(config: Mapping[str, Any], where: str) -> list[str] | None:
    """``label2id`` the other way round; None where it is missing or does not name every number."""
    table = config.get("label2id")
    if not isinstance(table, dict) or not table:
        return None
    numbers: dict[int, str] = {}
    for name, number in table.items():
        if isinstance(number, str) and re.fullmatch(r"[0-9]{1,6}", number, re.ASCII):
            number = int(number)
        if type(number) is not int:
            raise ModelError(f"label2id must give the number of each name; found {str(table)[:200]}", about=where)
        numbers[number] = str(name)
    return [numbers[i] for i in range(len(numbers))] if sorted(numbers) == list(range(len(table))) else None


# --- what a manifest keeps -------------------------------------------------------------------------------------------


def columns_in(settings: Mapping[str, Any], names: Sequence[str], schema: Schema, *, where: str) -> list[int]:
    """For each label of ``schema`` its column: as the manifest's settings say, or by name where they say nothing.

    Raises:
        ModelError: the settings are not an order of the model's columns, or names do not match completely.
    """
    order = settings.get("columns")
    if order is None:
        return list(settle_columns(names, schema, where=where).order)
    if not isinstance(order, list) or sorted(map(str, order)) != sorted(map(str, range(len(names)))):
        raise ModelError(
            f"the manifest's columns {str(order)[:80]} are not the model's {len(names)}", remedy="pack it again"
        )
    if len(order) != schema.classes or not all(type(i) is int for i in order):
        raise ModelError(
            f"the manifest orders {len(order)} columns for {schema.classes} labels", remedy="pack it again"
        )
    return list(order)
