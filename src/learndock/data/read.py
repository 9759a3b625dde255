"""The entrance of the journey: a file of examples becomes ``Examples``.

    tables (raw rows) -> read (texts, pairs or images, labels under a schema) -> Examples

Whatever cannot be used is refused with file, row and remedy; whatever is odd but usable is kept and said in
``Examples.warnings``. Nothing is dropped or repaired in silence.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Unpack

import numpy as np

from learndock.data.examples import Examples, Input
from learndock.data.images import Image, check_image, image_in_cell
from learndock.data.labels import (
    Label,
    check_raw,
    class_label_reader,
    infer_schema,
    label_reader,
    schema_of,
)
from learndock.data.open_table import open_table
from learndock.data.options import ReadKeywords, ReadOptions
from learndock.data.read_prompts import prompt_columns, read_prompts
from learndock.data.schema import Schema
from learndock.data.tables import Row, Table
from learndock.errors import DataError, UsageError

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")

#: A text longer than this is refused.
MAX_CHARACTERS = 1_000_000
#: A text longer than this is kept with a warning: helpers and models read the beginning only.
LONG_CHARACTERS = 20_000
#: More rows than this share that repeat an earlier row, label and all, are remarked upon.
MANY_COPIES = 0.1


#: What a column of images is called where nobody says; ``img`` is what some public data sets write.
IMAGE_COLUMNS = ("image", "img")


@dataclass(frozen=True)
class _Columns:
    """``image`` is None where the inputs are texts."""

    text: str
    pair: str
    label: str | None
    image: str | None = None

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.text, self.pair) if self.image is None else (self.image,)


@dataclass
class _Reading:
    """What has been read so far; lives within one call."""

    inputs: list[Input] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    labels: list[float] = field(default_factory=list)
    pairs: list[str | None] = field(default_factory=list)
    raw: list[str | float] = field(default_factory=list)


def read_examples(
    path: str | Path,
    options: ReadOptions | None = None,
    *,
    schema: Schema | None = None,
    labels: bool | None = True,
    limit: int | None = None,
    **more: Unpack[ReadKeywords],
) -> Examples:
    """Read a file of examples: csv, tsv or jsonl (each also ``.gz``), parquet, a saved dataset, or images.

    Inputs are texts (``str``), or pairs of texts (``(str, str)``) where the column ``text_pair`` exists and is not
    always empty; or ``Image``, where ``image`` names a column, where there is a column ``image`` or ``img`` but no
    column ``text``, and in a folder of images by class. A cell holds an image's bytes, or its path relative to the
    file. Every image is decoded here, so a broken one is reported with its row. Inputs are ``Prompt`` and targets
    completions where there is a column ``prompt`` or ``messages`` but no column ``text``, or where the schema's type
    is generation.

    Args:
        path: the file or folder.
        options: how to read it; by default the file itself decides.
        schema: the task. By default it is inferred from the labels, and comes back in ``Examples.schema``.
        labels: True: labels are required. False: they are not read. None: they are read where the column exists.
        limit: read at most this many rows.
        **more: single fields of ``ReadOptions``, such as ``text="comment", label="category"``.

    Returns:
        The examples; targets are ``(n,)``: int64 indices into ``schema.labels``, float64 for regression, texts for
        generation, None without labels.

    Raises:
        DataError: the file, or a row of it, cannot be used; the message names file, row and remedy.
        UsageError: options that contradict each other.
        MissingExtra: parquet or a saved dataset without pyarrow; images without Pillow.

    Example:
        >>> learndock.read_examples("few.csv")
        <Examples: 16 texts, negative 8, positive 8, from few.csv>
        >>> learndock.read_examples("few.csv", labels=False, limit=2).inputs[0]
        'a fine film'
    """
    if limit is not None and limit < 1:
        raise UsageError(f"limit is {limit}", remedy="it must be at least 1")
    options = replace(options or ReadOptions(), **more)
    text, text_pair, label, image = options.text, options.text_pair, options.label, options.image
    table = open_table(path)
    if image is None and (prompts := prompt_columns(table, schema, text, label)) is not None:
        return read_prompts(table, prompts, schema=schema, labels=labels, source=str(path), limit=limit)
    if labels is None:
        labels = schema is None or label in table.columns
    columns = _find_columns(table, text, text_pair, label if labels else None, image)
    known, read_label, remark = _labelling(table, schema, columns.label)
    found = _read_rows(table, columns, read_label, limit)
    warnings = [remark] if remark else []
    if labels and known is None:
        known, remark = infer_schema(found.raw, lambda why: DataError(f"{why}", about=table.path))
        warnings += [remark] if remark else []
        found.labels = _label_again(known, label, found.raw)
    warnings += _remarks(found, known)
    kind = np.float64 if known is not None and known.type == "regression" else np.int64
    return Examples(
        inputs=found.inputs,
        targets=np.asarray(found.labels, dtype=kind) if labels else None,
        schema=known,
        source=str(path),
        rows=found.rows,
        warnings=tuple(f"{path}: {w}" for w in warnings),
    )


def _find_columns(table: Table, text: str, text_pair: str, label: str | None, image: str | None) -> _Columns:
    if image is None and text not in table.columns:
        image = next((name for name in IMAGE_COLUMNS if name in table.columns), None)
    wanted = [("--text", text) if image is None else ("--image", image)]
    wanted += [("--label", label)] if label is not None else []
    if text_pair != "text_pair":  # somebody asked for it by name, so it must be there
        wanted.append(("--text-pair", text_pair))
    for option, name in wanted:
        if name not in table.columns:
            names = ", ".join(f'"{c}"' for c in table.columns[:20]) or "none"
            raise DataError(
                f'no column "{name}"; found {names}', remedy=f"name the column with {option}", about=table.path
            )
    # Keys of JSON rows are their own: a pair may be missing from the first row and stand in a later one.
    return _Columns(text, text_pair, label, image)


def _labelling(
    table: Table, schema: Schema | None, column: str | None
) -> tuple[Schema | None, Label | None, str | None]:
    """The schema if it is known before reading, how to read a label, and a remark."""
    if column is None:
        return schema, None, None
    names = table.class_names.get(column)
    if names and schema is None and len(set(names)) == len(names) >= 2:
        schema = schema_of(names)
    if schema is None:
        return None, None, None
    if names:
        return (schema, *class_label_reader(names, schema, column))
    return schema, label_reader(schema, column), None


def _read_rows(table: Table, columns: _Columns, read_label: Label | None, limit: int | None) -> _Reading:
    found = _Reading()
    wanted = [c for c in (*columns.inputs, columns.label) if c is not None]
    for row in islice(table.rows(wanted), limit):
        where = _Where(table.path, row)
        if columns.image is not None:
            found.inputs.append(_image(table, row, columns.image))
        else:
            if row.cells.get(columns.text) is None:
                raise where(f'no text in column "{columns.text}"; add one or leave the row out')
            found.inputs.append(_text(row, columns.text, where))
            found.pairs.append(_text(row, columns.pair, where))
        if columns.label is not None:
            value = row.cells.get(columns.label)
            if read_label is None:
                found.raw.append(check_raw(value, columns.label, where))
            else:
                found.labels.append(read_label(value, where))
        found.rows.append(row.number)
    if not found.inputs:
        raise DataError("no examples in it", remedy="add rows", about=table.path)
    if columns.image is not None:
        return found
    if all(_blank(given) for given in found.inputs):
        raise DataError(
            f'the column "{columns.text}" is empty in all {len(found.rows)} rows',
            remedy="fill it, or name the column that holds the texts with --text",
            about=table.path,
        )
    if any(not _blank(second) for second in found.pairs):
        _join_pairs(table.path, found, columns.pair)
    return found


def _image(table: Table, row: Row, column: str) -> Image:
    """The image of a row, read to its end; a path names it better than the row does."""
    value = row.cells.get(column)
    path = value.get("path") if isinstance(value, dict) else value
    named = f" ({path})" if isinstance(path, str) and path else ""
    found = image_in_cell(value, table.folder, f"{table.path} {row.place}{named}")
    check_image(found)
    return found


def _join_pairs(path: Path, found: _Reading, column: str) -> None:
    """Make pairs of the inputs; every row needs its second text, be it an empty one."""
    joined = []
    for number, first, second in zip(found.rows, found.inputs, found.pairs, strict=True):
        if second is None:
            raise DataError(
                f'{path} row {number}: no text in column "{column}", which other rows have',
                remedy="fill it in every row, or in none",
            )
        joined.append((first, second))
    found.inputs = list(joined)


@dataclass(frozen=True)
class _Where:
    """Makes a DataError that names file and row."""

    path: Path
    row: Row

    def __call__(self, why: str) -> DataError:
        return DataError(f"{self.path} {self.row.place}: {why}")


def _text(row: Row, column: str, where: Callable[[str], DataError]) -> str | None:
    """The text of a cell, or None where there is none."""
    value = row.cells.get(column)
    if value is None:
        return None
    if not isinstance(value, str):
        raise where(f'column "{column}" holds a {type(value).__name__}, not a text; write it as text')
    if len(value) > MAX_CHARACTERS:
        raise where(
            f'the text in column "{column}" has {len(value):,} characters, at most {MAX_CHARACTERS:,} are '
            "read; shorten it"
        )
    if not value.isascii() and _LONE_SURROGATE.search(value):
        raise where(f'the text in column "{column}" holds half a character (a lone surrogate); mend it')
    return value


def _blank(value: str | None) -> bool:
    return value is None or not value or value.isspace()


def _label_again(schema: Schema, column: str, raw: Sequence[str | float]) -> list[float]:
    """Targets under a schema that was made from these very labels."""
    read = label_reader(schema, column)
    return [read(value, DataError) for value in raw]


def _remarks(found: _Reading, schema: Schema | None) -> Iterator[str]:
    texts = [] if not found.pairs else [given if isinstance(given, tuple) else (given,) for given in found.inputs]
    long = [row for row, parts in zip(found.rows, texts, strict=False) if max(map(len, parts)) > LONG_CHARACTERS]
    if long:
        yield (
            f"{_count(long, 'text')} of more than {LONG_CHARACTERS:,} characters; "
            "only the beginning is read by the helper"
        )
    empty = [row for row, parts in zip(found.rows, texts, strict=False) if any(map(_blank, parts))]
    if empty:
        yield f"{_count(empty, 'empty text')}; kept, though nothing can be learnt from them"
    yield from _conflicts(found)
    yield from _copies(found)
    if schema is not None and schema.type == "regression" and schema.labels:
        yield from _off_scale(found, schema)


def _conflicts(found: _Reading) -> Iterator[str]:
    """Say how many inputs stand in several rows with different labels."""
    seen: dict[Input, int] = {}
    clashing: dict[Input, tuple[int, int]] = {}
    for index, (given, target) in enumerate(zip(found.inputs, found.labels, strict=False)):
        first = seen.setdefault(given, index)
        if found.labels[first] != target and given not in clashing:
            clashing[given] = (found.rows[first], found.rows[index])
    if clashing:
        one, other = next(iter(clashing.values()))
        thing = "text" if found.pairs else "image"
        texts = f"{len(clashing):,} {thing}{'' if len(clashing) == 1 else 's'}"
        yield f"{texts} with conflicting labels (the first in rows {one} and {other}); all rows were kept"


def _copies(found: _Reading) -> Iterator[str]:
    """Say how many rows repeat an earlier one, where that is a good part of them: chance is reckoned by the row."""
    first: dict[tuple[Input, float], int] = {}
    again = []
    for given, target, row in zip(found.inputs, found.labels, found.rows, strict=False):
        if first.setdefault((given, target), row) != row:
            again.append(row)
    if len(again) > 2 and len(again) > MANY_COPIES * len(found.rows):
        counted = _count(again, "row that repeats an earlier one", "rows that repeat earlier ones")
        yield f"{counted}; chance is reckoned by the row, so evidence will look better than it is"


def _off_scale(found: _Reading, schema: Schema) -> Iterator[str]:
    try:
        low, high = sorted(float(v) for v in schema.labels)
    except ValueError:
        return  # ends in words are no bounds
    outside = [row for row, v in zip(found.rows, found.labels, strict=False) if not low <= v <= high]
    if outside:
        yield f"{_count(outside, 'label')} outside the schema's scale {low:g} to {high:g}; kept as they are"


def _count(rows: Sequence[int], thing: str, things: str | None = None) -> str:
    return f"{len(rows):,} {thing if len(rows) == 1 else things or thing + 's'} (the first in row {rows[0]})"
