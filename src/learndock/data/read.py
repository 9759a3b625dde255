"""The entrance of the journey: a file of examples becomes ``Examples``.

    open_table (raw rows) -> columns (which holds what) -> read (texts, pairs or images) -> labels -> Examples

What cannot be used is refused with file, row and remedy; what is odd but usable is kept, and ``Examples.warnings`` says
so. Nothing is dropped or repaired in silence.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date, time
from itertools import islice
from pathlib import Path
from typing import Unpack

import numpy as np

from learndock.data.columns import Columns, find_columns, kind_of, like
from learndock.data.examples import Examples, Input
from learndock.data.images import Image, check_image, image_in_cell
from learndock.data.label_column import Column, Complain, Labelled
from learndock.data.labels import read_labels
from learndock.data.open_table import open_table
from learndock.data.options import ReadKeywords, ReadOptions
from learndock.data.read_prompts import read_prompts
from learndock.data.remarks import remarks_on
from learndock.data.schema import Schema
from learndock.data.spelling import number_in, written_number
from learndock.data.tables import Row, Table, Unusable, skipped
from learndock.errors import DataError, UsageError

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")

#: A text longer than this is refused.
MAX_CHARACTERS = 1_000_000
#: With this many different texts, all of them numbers, a column is one of numbers.
NUMBERS = 8
_NUMBERS_ADVICE = (
    "learndock reads texts, images and prompts, and no tables of numbers: name a column of texts with --text, or train "
    "a model for tables"
)


@dataclass
class _Reading:
    """What has been read so far; lives within one call."""

    inputs: list[Input] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    labels: list[object] = field(default_factory=list)
    pairs: list[str | None] = field(default_factory=list)
    places: list[Complain] = field(default_factory=list)
    rejected: list[int] = field(default_factory=list)


def read_examples(
    path: str | Path,
    options: ReadOptions | None = None,
    *,
    schema: Schema | None = None,
    labels: bool | None = True,
    limit: int | None = None,
    places: bool = True,
    **more: Unpack[ReadKeywords],
) -> Examples:
    """Read a file of examples: csv, tsv, jsonl (each also ``.gz``), json, xlsx, parquet, a saved dataset, or images.

    Inputs are texts (``str``), or pairs of texts (``(str, str)``) where the column ``text_pair`` exists and is not
    always empty; or ``Image``, where ``image`` names a column, where there is a column ``image``, ``img`` or
    ``file_name`` but no column ``text``, and in a folder of images by class. A cell holds an image's bytes, a data URI,
    or its path relative to the file. Every image is decoded here, so a broken one is reported with its row. Inputs are
    ``Prompt`` and targets completions where there is a column ``prompt`` or ``messages`` but no column ``text``, or
    where the schema's type is generation.

    Args:
        path: the file or folder.
        options: how to read it; by default the file itself decides, and what was detected is a warning.
        schema: the task. By default it is inferred from the labels, and comes back in ``Examples.schema``.
        labels: True: labels are required. False: they are not read. None: they are read where the column exists.
        limit: read at most this many rows.
        places: whether a label that is a number may stand for a class of the schema by its place.
        **more: single fields of ``ReadOptions``, such as ``text="comment", label="category"``.

    Returns:
        The examples; targets are ``(n,)``: int64 indices into ``schema.labels``, float64 for regression, texts for
        generation, None without labels.

    Raises:
        DataError: the file, or a row of it, cannot be used; the message names file, row and remedy.
        UsageError: options that contradict each other.
        MissingExtra: parquet or a saved dataset without pyarrow; images without Pillow; xlsx without openpyxl.

    Example:
        >>> learndock.read_examples("few.csv")
        <Examples: 16 texts, negative 8, positive 8, from few.csv>
        >>> learndock.read_examples("few.csv", labels=False, limit=2).inputs[0]
        'a fine film'
    """
    if limit is not None and limit < 1:
        raise UsageError(f"limit is {limit}", remedy="it must be at least 1")
    options = replace(options or ReadOptions(), **more)
    table = open_table(path, options)
    if kind_of(table, schema, options) == "generation":
        return read_prompts(table, options, schema=schema, labels=labels, source=str(path), limit=limit, places=places)
    if labels is None:
        # A column that is named must be there; the usual one may be missing
        named = options.label != ReadOptions.label
        labels = schema is None or named or like(table, options.label, []) is not None
    columns = find_columns(table, options, labels=labels)
    found = _read_rows(table, columns, limit)
    labelled = None if columns.label is None else _read_labels(table, columns.label, found, schema, places)
    known = schema if labelled is None else labelled.schema
    targets = None
    if labelled is not None:
        targets = np.asarray(labelled.targets, np.float64 if labelled.schema.type == "regression" else np.int64)
    warnings = [*(w for w in table.remarks.values() if w), *columns.remarks, *_on_rejected(columns, found)]
    warnings += [] if labelled is None else labelled.remarks
    warnings += remarks_on(found.inputs, None if targets is None else targets.tolist(), found.rows, known)
    return Examples(
        inputs=found.inputs,
        targets=targets,
        schema=known,
        source=str(path),
        rows=found.rows,
        warnings=tuple(f"{path}: {w}" for w in warnings),
    )


def _read_labels(table: Table, column: str, found: _Reading, schema: Schema | None, places: bool) -> Labelled:
    rejected = f" ({len(found.rejected)} rows with rejected labels were left out)" if found.rejected else ""
    raw = Column(
        name=column,
        values=found.labels,
        rows=found.rows,
        complain=found.places,
        refuse=lambda why, remedy="": DataError(f"{why}{rejected}", remedy=remedy, about=table.path),
        class_names=table.class_names.get(column, ()),
        places=places,
    )
    return read_labels(raw, schema)


def _read_rows(table: Table, columns: Columns, limit: int | None) -> _Reading:
    found = _Reading()
    wanted = [c for c in (*columns.inputs, columns.label, columns.verdict) if c is not None]
    verdicts: list[object] = []
    for row in islice(table.rows(wanted), limit):
        where = _Where(table.path, row)
        if columns.image is not None:
            found.inputs.append(_image(table, row, columns.image))
        else:
            if row.cells.get(columns.text) is None:
                raise where(f'no text in column "{columns.text}"', "add one or leave the row out")
            found.inputs.append(_text(row, columns.text, where))
            found.pairs.append(_text(row, columns.pair, where))
        if columns.label is not None:
            found.labels.append(row.cells.get(columns.label))
            found.places.append(where)
        verdicts.append(None if columns.verdict is None else row.cells.get(columns.verdict))
        found.rows.append(row.number)
    _leave_rejected(found, verdicts)
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
    _refuse_numbers(table, columns.text, found.inputs)
    if any(not _blank(second) for second in found.pairs):
        _join_pairs(table.path, found, columns.pair)
    return found


def _leave_rejected(found: _Reading, verdicts: Sequence[object]) -> None:
    """Leave out the rows whose label an annotator rejected or passed over, as Prodigy writes it.

    Rows without a verdict, as where several files were joined, keep their labels.
    """
    said = {str(verdict) for verdict in verdicts if verdict not in (None, "")}
    if not said or not said <= {"accept", "reject", "ignore"}:
        return
    kept = [i for i, verdict in enumerate(verdicts) if verdict in (None, "", "accept")]
    found.rejected = [row for row, verdict in zip(found.rows, verdicts, strict=True) if verdict in ("reject", "ignore")]
    for name in ("inputs", "rows", "labels", "pairs", "places"):
        values = getattr(found, name)
        setattr(found, name, [values[i] for i in kept] if values else values)


def _on_rejected(columns: Columns, found: _Reading) -> list[str]:
    if not found.rejected:
        return []
    rows = skipped(found.rejected, "row", "rows")
    return [f'{rows}: the column "{columns.verdict}" says that its label was rejected or ignored']


def _refuse_numbers(table: Table, column: str, texts: Sequence[str]) -> None:
    """Refuse a column of numbers that was named as one of texts."""
    filled = {text for text in texts if not _blank(text)}
    if len(filled) >= NUMBERS and all(
        number_in(text) is not None or written_number(text) is not None for text in filled
    ):
        raise DataError(f'the column "{column}" holds numbers, not texts', remedy=_NUMBERS_ADVICE, about=table.path)


def _image(table: Table, row: Row, column: str) -> Image:
    """The image of a row, read to its end; a path names it better than the row does."""
    value = row.cells.get(column)
    path = value.get("path") if isinstance(value, dict) else value
    named = f" ({path})" if isinstance(path, str) and path and len(path) < 200 else ""
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

    def __call__(self, why: str, remedy: str = "") -> DataError:
        return DataError(f"{self.path} {self.row.place}: {why}", remedy=remedy)


def _text(row: Row, column: str, where: Complain) -> str | None:
    """The text of a cell, or None where there is none."""
    value = row.cells.get(column)
    if value is None:
        return None
    if isinstance(value, Unusable):
        raise where(f'column "{column}": {value.why}')
    if isinstance(value, date | time):
        raise where(f'column "{column}" holds a date or a time', "format the column as text, or name another")
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise where(f'column "{column}" holds the number {value}, not a text', _NUMBERS_ADVICE)
    if not isinstance(value, str):
        raise where(f'column "{column}" holds a {type(value).__name__}, not a text', "write it as text")
    if len(value) > MAX_CHARACTERS:
        raise where(
            (f'the text in column "{column}" has {len(value):,} characters, at most {MAX_CHARACTERS:,} are read'),
            "shorten it",
        )
    if not value.isascii() and _LONE_SURROGATE.search(value):
        raise where(f'the text in column "{column}" contains an unpaired surrogate', "fix its encoding")
    return value


def _blank(value: str | None) -> bool:
    return value is None or not value or value.isspace()
