"""Rows from JSON lines, plain or gzipped, and from a JSON array of objects; called by ``open_table``.

JSON lines are read line by line; an array, which annotation tools export, is read into memory at once.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from learndock.data.annotations import Flattened, flatten
from learndock.data.options import ReadOptions
from learndock.data.tables import Row, Table
from learndock.data.text_lines import TextFile, text_file
from learndock.errors import DataError
from learndock.strict_json import unique_keys

#: Largest JSON array that is read, in characters.
MAX_ARRAY = 256 << 20


def json_lines(path: Path, options: ReadOptions, *, zipped: bool) -> Table:
    """A file with one JSON object on each line; the columns are the keys of the first."""
    file = text_file(path, zipped=zipped, encoding=options.encoding)
    first = next(_objects(file), None)
    if first is None:
        raise DataError("the file is empty", remedy="it needs one JSON object on each line", about=path)
    remarks = {"encoding": file.remark or ""}
    if flatten([dict(first.cells)]) is not None:  # an annotation tool nests text and label
        return _flat_table(path, [dict(row.cells) for row in _objects(file)], remarks)
    return Table(path, tuple(first.cells), lambda wanted: _objects(file), remarks=remarks)


def json_array(path: Path, options: ReadOptions) -> Table:
    """A file that is one JSON array of objects.

    Raises:
        DataError: another kind of JSON, damaged, or too large.
    """
    file = text_file(path, zipped=False, encoding=options.encoding)
    parts, size = [], 0
    for line in file.lines():
        parts.append(line)
        size += len(line)
        if size > MAX_ARRAY:
            raise DataError(
                f"more than {MAX_ARRAY >> 20} MiB of JSON", remedy="write one object on each line (.jsonl)", about=path
            )
    try:
        found = json.loads("".join(parts), object_pairs_hook=unique_keys)
    except (ValueError, RecursionError) as error:
        # JSON lines under another suffix are common, and as good
        if len(parts) > 1 and "Extra data" in str(error):
            return json_lines(path, options, zipped=False)
        raise DataError(
            f"not usable as JSON ({error})", remedy="write one object on each line (.jsonl)", about=path
        ) from None
    if isinstance(found, dict):
        nested = [name for name, value in found.items() if _is_rows(value)]
        more = f'; its rows are in "{nested[0]}": write that list into a file of its own' if nested else ""
        raise DataError(
            f"a JSON object, not an array of objects{more or '; write one object for each example'}", about=path
        )
    if not _is_rows(found):
        raise DataError("not an array of JSON objects", remedy="write one object for each example", about=path)
    return _flat_table(path, found, {"encoding": file.remark or ""})


def _is_rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)


def _flat_table(path: Path, objects: list[dict[str, Any]], remarks: dict[str, str]) -> Table:
    """The table of objects, flattened where an annotation tool exported them."""
    try:
        found = flatten(objects)
    except ValueError as error:
        raise DataError(f"{error}", about=path) from None
    if found is None:
        columns = tuple(dict.fromkeys(key for item in objects for key in item))
        found = Flattened(columns, [(i, item) for i, item in enumerate(objects, start=1)], {})

    def rows(wanted: Sequence[str]) -> Iterator[Row]:
        yield from (Row(number, None, cells) for number, cells in found.rows)

    return Table(path, found.columns, rows, remarks={**remarks, **found.remarks})


def _objects(file: TextFile) -> Iterator[Row]:
    number, path = 0, file.path
    for line, text in enumerate(file.lines(), start=1):
        if not text.strip():
            continue
        number += 1
        try:
            cells = json.loads(text, object_pairs_hook=unique_keys)
        except json.JSONDecodeError as error:
            raise DataError(
                f"{path} row {number} (line {line}): not JSON ({error.msg} at column {error.colno})",
                remedy="write one JSON object on each line",
            ) from None
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path} row {number} (line {line}): not usable as JSON ({error})") from None
        if not isinstance(cells, dict):
            raise DataError(
                f"{path} row {number} (line {line}): a JSON {_json_name(cells)}, not an object; "
                'write {"text": ..., "label": ...}'
                + (", or name the file .json" if isinstance(cells, list) and number == 1 else "")
            )
        yield Row(number, line, cells)


def _json_name(value: object) -> str:
    names = {list: "array", str: "string", bool: "boolean", int: "number", float: "number"}
    return names.get(type(value), "null")
