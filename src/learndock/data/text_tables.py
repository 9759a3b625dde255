"""Rows from csv, tsv and JSON lines, plain or gzipped; called by ``open_table``.

Files are read line by line in bytes and decoded one line at a time, so that a broken byte is reported with
its line and position, and memory stays at one line however big the file is.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, cast

from learndock.data.tables import Row, Table
from learndock.errors import DataError

#: Longest line in bytes. A text may have a million characters; other columns may be wide as well.
MAX_LINE = 64 << 20
#: Longest csv field in characters; also what an unclosed quote can swallow at most.
MAX_FIELD = 16 << 20

_BOM = b"\xef\xbb\xbf"


def separated(path: Path, delimiter: str, *, zipped: bool) -> Table:
    """A csv (``,``) or tsv (tab) file whose first line names the columns; quoting as in RFC 4180 for both."""
    header = next(_records(path, delimiter, zipped), None)
    if header is None:
        raise DataError("the file is empty", remedy="its first line must name the columns", about=path)
    columns = tuple(header[1])

    def rows(wanted: Sequence[str]) -> Iterator[Row]:
        twice = [c for c in wanted if columns.count(c) > 1]
        if twice:
            raise DataError(f'the column "{twice[0]}" stands twice in the header', remedy="rename one", about=path)
        places = [(c, columns.index(c)) for c in wanted if c in columns]
        records = _records(path, delimiter, zipped)
        next(records)
        for number, (line, cells) in enumerate(records, start=1):
            if len(cells) != len(columns):
                raise DataError(
                    f"{path} row {number} (line {line}): {len(cells)} fields where the header has {len(columns)}",
                    remedy="put fields that hold separators or line ends in quotes",
                )
            yield Row(number, line, {c: cells[i] for c, i in places})

    return Table(path, columns, rows)


def json_lines(path: Path, *, zipped: bool) -> Table:
    """A file with one JSON object on each line; the columns are the keys of the first."""
    first = next(_objects(path, zipped), None)
    if first is None:
        raise DataError("the file is empty", remedy="it needs one JSON object on each line", about=path)
    return Table(path, tuple(first.cells), lambda wanted: _objects(path, zipped))


def _records(path: Path, delimiter: str, zipped: bool) -> Iterator[tuple[int, list[str]]]:
    """Records of a separated file with the line each begins on; blank lines are passed over."""
    # The limit is the csv module's own global: it is only ever raised.
    csv.field_size_limit(max(csv.field_size_limit(), MAX_FIELD))
    reader = csv.reader(_lines(path, zipped), delimiter=delimiter, strict=True)
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise DataError(
                f"{path} line {line}: not readable as a record ({error})",
                remedy="close every quote, and write a quote inside a quoted field twice, or save the file as .jsonl",
            ) from None
        if cells:
            yield line, cells


def _objects(path: Path, zipped: bool) -> Iterator[Row]:
    number = 0
    for line, text in enumerate(_lines(path, zipped), start=1):
        if not text.strip():
            continue
        number += 1
        try:
            cells = json.loads(text)
        except json.JSONDecodeError as error:
            raise DataError(
                f"{path} row {number} (line {line}): not JSON ({error.msg} at column {error.colno})",
                remedy="write one JSON object on each line",
            ) from None
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path} row {number} (line {line}): not usable as JSON ({error})") from None
        if not isinstance(cells, dict):
            raise DataError(
                f"{path} row {number} (line {line}): a JSON {_json_name(cells)}, not an object",
                remedy='write {"text": ..., "label": ...}',
            )
        yield Row(number, line, cells)


def _json_name(value: object) -> str:
    names = {list: "array", str: "string", bool: "boolean", int: "number", float: "number"}
    return names.get(type(value), "null")


def _lines(path: Path, zipped: bool) -> Iterator[str]:
    """The lines of a UTF-8 file with their ends kept: LF, CRLF, or CR."""
    begin = 0
    with _open(path, zipped) as stream:
        for number, line in enumerate(_byte_lines(path, stream, zipped), start=1):
            if number == 1:
                _check_start(path, line)
            skip = len(_BOM) if number == 1 and line.startswith(_BOM) else 0
            try:
                text = line[skip:].decode("utf-8")
            except UnicodeDecodeError as error:
                position = begin + skip + error.start
                raise DataError(
                    f"{path} line {number}: byte 0x{line[skip + error.start]:02x} at position {position} of "
                    f"the {'unzipped ' if zipped else ''}file is not UTF-8",
                    remedy="save the file as UTF-8",
                ) from None
            begin += len(line)
            if "\r" in text and text.find("\r") < len(text.rstrip("\r\n")):
                yield from io.StringIO(text, newline="")
            else:
                yield text


def _byte_lines(path: Path, stream: IO[bytes], zipped: bool) -> Iterator[bytes]:
    number = 0
    while True:
        number += 1
        try:
            line = stream.readline(MAX_LINE + 1)
        except (gzip.BadGzipFile, zlib.error) as error:
            raise DataError(
                f"damaged gzip at line {number} ({error})",
                remedy="zip it again, or drop .gz from its name if it is not zipped",
                about=path,
            ) from None
        except EOFError:
            raise DataError(
                f"the gzip file is cut off after line {number - 1}", remedy="fetch or write it again", about=path
            ) from None
        except OSError as error:
            raise DataError(f"{path} line {number}: cannot be read ({error.strerror or error})") from None
        if not line:
            return
        if len(line) > MAX_LINE:
            raise DataError(
                f"{path} line {number}: longer than {MAX_LINE >> 20} MiB", remedy="is this a text file of examples?"
            )
        yield line


def _open(path: Path, zipped: bool) -> IO[bytes]:
    try:
        # GzipFile reads like any binary stream but is not declared as one.
        return cast("IO[bytes]", gzip.open(path, "rb")) if zipped else path.open("rb")
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror or error})", about=path) from None


def _check_start(path: Path, line: bytes) -> None:
    """Name two common mistakes that would otherwise read as a broken byte."""
    if line.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(f"{path} line 1: byte 0x{line[0]:02x} at position 0: UTF-16", remedy="save the file as UTF-8")
    if line.startswith(b"\x1f\x8b"):
        raise DataError("the file is gzipped", remedy=f"name it {path.name}.gz", about=path)
