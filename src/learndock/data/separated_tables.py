"""Rows from csv and tsv files, plain or gzipped; called by ``open_table``.

Quoting is that of RFC 4180. What a file does not say about itself, its separator and whether quotation marks quote, is
detected from its first rows and reported, or refused where the evidence contradicts itself.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from learndock.data.options import ReadOptions
from learndock.data.spelling import number_in
from learndock.data.tables import Row, Table, skipped
from learndock.data.text_lines import TextFile, text_file
from learndock.errors import DataError

#: Longest csv field in characters; also what an unclosed quote can swallow at most.
MAX_FIELD = 16 << 20
#: Lines and characters that the separator is detected from.
SAMPLE_LINES, SAMPLE_CHARACTERS = 200, 1 << 18

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
#: What spreadsheets write above the header, so that the file says its own separator.
_DECLARED = re.compile(r'"?sep=(.)"?\s*')


@dataclass(frozen=True)
class _Values:
    """What a column holds in lines without quotes: values that repeat, or numbers."""

    repeated: frozenset[str]
    numbers: bool

    def like(self, cell: str) -> bool:
        """Whether a cell could be one of this column."""
        return cell in self.repeated or (self.numbers and number_in(cell) is not None)


@dataclass(frozen=True)
class _Layout:
    """How the lines of a file become records."""

    file: TextFile
    separator: str
    quotes: bool
    skip: int = 0
    usual: Sequence[_Values] = field(default=(), repr=False)

    def records(self) -> Iterator[tuple[int, list[str]]]:
        """Records with the line each begins on; blank lines are passed over."""
        # The limit is the csv module's own global: it is only ever raised.
        csv.field_size_limit(max(csv.field_size_limit(), MAX_FIELD))
        lines = _Remembering(islice(self.file.lines(), self.skip, None))
        reader = csv.reader(
            lines, delimiter=self.separator, strict=True, quoting=csv.QUOTE_MINIMAL if self.quotes else csv.QUOTE_NONE
        )
        width = 0
        while True:
            line = reader.line_num + 1 + self.skip
            lines.seen.clear()
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                raise DataError(
                    f"{self.file.path} line {line}: not readable as a record ({error})",
                    remedy=(
                        "close every quote and write a quote inside a quoted field twice, or pass --no-quotes if "
                        "quotation marks are part of the texts"
                    ),
                ) from None
            if not cells:
                continue
            width = width or len(cells)
            if len(lines.seen) > 1 and width > 1 and self._merged(lines.seen, width):
                raise DataError(
                    (
                        f"{self.file.path} line {line}: a quotation mark opens here and closes in line "
                        f"{line + len(lines.seen) - 1}, which makes one record of {len(lines.seen)} lines that "
                        "each look like a row"
                    ),
                    remedy="pass --no-quotes if they are rows, or --quotes if they are one",
                )
            yield line, cells

    def _merged(self, lines: Sequence[str], width: int) -> bool:
        """Whether the lines of one record look like a record each.

        A text of several lines may have separators too, so in each line a cell must be like others of its column, and
        not of the column whose field was opened.
        """
        split = [[c.strip() for c in line.rstrip("\r\n").split(self.separator)] for line in lines]
        if any(len(cells) != width for cells in split):
            return False
        opened = next((i for i, cell in enumerate(split[0]) if cell.startswith('"')), -1)
        others = [(i, values) for i, values in enumerate(self.usual) if i != opened]
        return all(any(values.like(cells[i].strip('"')) for i, values in others) for cells in split)


class _Remembering:
    """An iterator over lines that remembers those of the present record."""

    def __init__(self, lines: Iterator[str]) -> None:
        self.lines = lines
        self.seen: list[str] = []

    def __iter__(self) -> _Remembering:
        return self

    def __next__(self) -> str:
        line = next(self.lines)
        self.seen.append(line)
        return line


def separated(path: Path, usual: str, options: ReadOptions, *, zipped: bool) -> Table:
    """A file whose first line names the columns; ``usual`` is the separator that its suffix promises."""
    file = text_file(path, zipped=zipped, encoding=options.encoding)
    layout, remark = _layout(file, usual, options)
    header = next(layout.records(), None)
    if header is None:
        raise DataError("the file is empty", remedy="its first line must name the columns", about=path)
    columns = tuple(header[1])
    remarks = {"encoding": file.remark or "", "separator": remark}

    def rows(wanted: Sequence[str]) -> Iterator[Row]:
        twice = [c for c in wanted if columns.count(c) > 1]
        if twice:
            raise DataError(f'duplicate column "{twice[0]}" in the header', remedy="rename one", about=path)
        places = [(c, columns.index(c)) for c in wanted if c in columns]
        records = layout.records()
        next(records)
        empty: list[int] = []
        counted_before = 0
        for number, (line, cells) in enumerate(records, start=1):
            if len(cells) > 1 and not cells[0].strip() and not any(c.strip() for c in cells):
                empty.append(
                    number
                )  # spreadsheets write rows that hold nothing; at the end of a file they are not rows
                continue
            if len(cells) != len(columns):
                raise DataError(
                    (f"{path} row {number} (line {line}): {len(cells)} fields where the header has {len(columns)}"),
                    remedy="put fields that hold separators or line ends in quotes",
                )
            if len(empty) > counted_before:
                counted_before = len(empty)
                remarks["empty"] = skipped(empty, "row without any value", "rows without any value")
            yield Row(number, line, {c: cells[i] for c, i in places})

    return Table(path, columns, rows, remarks=remarks)


def _layout(file: TextFile, usual: str, options: ReadOptions) -> tuple[_Layout, str]:
    """The layout of a file, and a remark where it is not the usual one."""
    sample: list[str] = []
    size = 0
    try:
        for line in islice(file.lines(), SAMPLE_LINES):
            sample.append(line)
            size += len(line)
            if size > SAMPLE_CHARACTERS:
                break
    except DataError:
        pass  # reported, with its row, when the rows are read
    declared = _DECLARED.fullmatch(sample[0]) if sample else None
    skip = 1 if declared and (options.separator is None or declared[1] == options.separator) else 0
    lines = sample[skip:]
    remark = ""
    quotes = options.quotes is not False
    if options.separator is not None:
        separator = options.separator
    elif declared:
        separator = declared[1]
        remark = f'separator "{separator}", as the first line says' if separator != usual else ""
    else:
        separator = _detect(lines, usual, quotes)
        if separator != usual:
            remark = f"fields are separated by {SEPARATORS[separator]} here, not by {SEPARATORS[usual]}"
    usual_values = _column_values(lines, separator) if options.quotes is None else ()
    return _Layout(file, separator, quotes, skip, usual_values), remark


def _detect(lines: Sequence[str], usual: str, quotes: bool) -> str:
    """The separator under which a sample of lines is a table; the usual one where none is better."""
    widths = {s: _widths(lines, s, quotes) for s in (usual, *(s for s in SEPARATORS if s != usual))}
    for separator, found in widths.items():
        if found and found[0] > 1 and set(found) == {found[0]}:
            return separator
    if widths[usual] and widths[usual][0] > 1:
        return usual
    # A row may be broken, and will be named: most of them agree
    agreeing = {s: sum(w == f[0] for w in f[1:]) for s, f in widths.items() if f and f[0] > 1 and len(f) > 1}
    best = max(agreeing, key=lambda s: agreeing[s], default=usual)
    return best if agreeing.get(best, 0) * 2 > len(widths[best]) - 1 else usual


def _widths(lines: Sequence[str], separator: str, quotes: bool) -> list[int]:
    """Count of fields of each record of a sample; its last record may be cut off."""
    reader = csv.reader(lines, delimiter=separator, quoting=csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE)
    try:
        found = [len(cells) for cells in reader if cells]
    except csv.Error:
        return []
    return found[:-1] if len(lines) >= SAMPLE_LINES and len(found) > 2 else found


def _column_values(lines: Sequence[str], separator: str) -> list[_Values]:
    split = [[c.strip() for c in line.rstrip("\r\n").split(separator)] for line in lines[1:] if '"' not in line]
    width = len(lines[0].split(separator)) if lines else 0
    counts: list[Counter[str]] = [Counter() for _ in range(width)]
    for cells in split:
        if len(cells) == width:
            for counter, cell in zip(counts, cells, strict=True):
                counter[cell] += 1
    found = []
    for counter in counts:
        numbers = sum(n for value, n in counter.items() if number_in(value) is not None)
        found.append(
            _Values(
                frozenset(v for v, n in counter.items() if n > 1 and v), numbers > 2 and numbers * 2 > counter.total()
            )
        )
    return found
